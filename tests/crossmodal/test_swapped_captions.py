"""Real photographs with swapped captions: what results/consistency publishes, in small."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import consistency as benchmark


@pytest.fixture(scope="module")
def pairs() -> benchmark.Pairs:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark, "VIEWS", 6)
        return benchmark.embed(benchmark.KNOWN)


def test_consistency_falls_with_the_share_swapped_and_the_swapped_rank_lowest(
    pairs: benchmark.Pairs,
) -> None:
    runs = [benchmark.draw(pairs, share, seed=0) for share in (0.0, 0.25, 0.5)]
    means = [run.scores.mean() for run in runs]
    assert means[0] > means[1] > means[2]
    for run in runs:
        assert run.found.auc > 0.9
        assert run.found.share is not None
        assert run.found.share == pytest.approx(run.wrong.mean(), abs=0.15)
        assert run.wrong.mean() in run.found.share_interval  # type: ignore[operator]
        if run.wrong.any():
            assert benchmark.auc(run.scores[run.wrong], run.scores[~run.wrong]) > 0.9
            assert run.wrong[list(run.found.mismatched)].mean() > 0.5


def test_a_swapped_caption_never_is_one_of_the_same_photograph(pairs: benchmark.Pairs) -> None:
    rng = np.random.default_rng(0)
    for count in (4, 10, 20):
        chosen = benchmark._spread(pairs.topic, count, rng)
        assert len(set(chosen)) == count
        assert np.bincount(pairs.topic[chosen]).max() <= count / 2
