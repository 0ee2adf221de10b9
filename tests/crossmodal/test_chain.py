"""Chains of records: linked by their parents, with the loss and the break at the right hop."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.crossmodal.chain import HopScores, chain_decay, link_chains

ORDER = ("image", "caption", "speech", "transcript")


def test_chains_follow_parents_from_source_to_last_record() -> None:
    records = [
        ("img1", (), "image"),
        ("img2", ("elsewhere",), "image"),
        ("voice", (), "image"),
        ("t1", ("s1",), "transcript"),  # children may come before parents
        ("c1", ("img1",), "caption"),
        ("c2", ("img1",), "caption"),
        ("c3", ("img2", "img2"), "caption"),
        ("s1", ("c1", "voice"), "speech"),  # made with a second thing, of another hop
        ("s9", ("lost",), "speech"),
        ("t9", ("s9",), "transcript"),
    ]
    ids, parents, hops = zip(*records, strict=True)
    chains = link_chains(ids, parents, hops, ORDER)
    lines = {tuple(ids[r] for r in row if r >= 0) for row in chains.rows}
    assert lines == {("img1", "c1", "s1", "t1"), ("img1", "c2"), ("img2", "c3"), ("voice",)}
    assert set(chains.unlinked) == {"s9", "t9"}
    assert chains.rows.shape == (4, 4)


def test_lineage_that_makes_no_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="'a' occurs twice"):
        link_chains(["a", "a"], [(), ()], ["image", "image"], ORDER)
    with pytest.raises(ValueError, match="'c' has 2 parents at the hop 'image'"):
        link_chains(["a", "b", "c"], [(), (), ("a", "b")], ["image", "image", "caption"], ORDER)
    with pytest.raises(ValueError, match=r"unknown hops \['video'\]"):
        link_chains(["a"], [()], ["video"], ORDER)


def test_a_record_that_is_its_own_parent_is_unlinked_and_ends() -> None:
    chains = link_chains(["a", "b"], [(), ("b",)], ["image", "caption"], ORDER)
    assert chains.unlinked == ("b",)


def hop(name: str, scores: np.ndarray, seed: int) -> HopScores:
    rng = np.random.default_rng(seed)
    return HopScores(name, scores, 1 + 0.05 * rng.normal(size=99), 0.05 * rng.normal(size=99))


def test_loss_and_break_are_at_the_hop_where_they_happen() -> None:
    rng = np.random.default_rng(0)
    base = 1 + 0.02 * rng.normal(size=40)
    caption = base.copy()
    caption[:4] = 0.0
    speech = caption.copy()
    speech[10:20] -= 0.5
    transcript = speech.copy()
    transcript[30:] = np.nan
    hops = [
        hop("caption", caption, 1), hop("speech", speech, 1), hop("transcript", transcript, 1)
    ]  # fmt: skip
    got = chain_decay(hops, alpha=0.02)
    assert got.breaks_at.tolist() == [0] * 4 + [-1] * 6 + [1] * 10 + [-1] * 20
    assert [h.broken for h in got.hops] == [4, 10, 0]
    assert [h.missing for h in got.hops] == [0, 0, 10]
    first, second, third = got.hops
    scale = np.mean(hops[0].matched) - np.mean(hops[0].shuffled)
    assert second.loss == pytest.approx(0.5 * 10 / 40 / scale)
    assert third.loss == pytest.approx(0.0, abs=1e-12)
    assert third.loss_interval.high == pytest.approx(0.0, abs=1e-12)
    position = (caption - np.mean(hops[0].shuffled)) / scale
    assert first.position == pytest.approx(position.mean())
    assert first.loss == pytest.approx(1 - first.position)
    student = stats.ttest_1samp(position, 0).confidence_interval()
    assert (first.position_interval.low, first.position_interval.high) == pytest.approx(student)


def test_chains_of_one_source_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    scores = np.repeat(rng.normal(0.8, 0.1, 10), 6)
    groups = np.repeat(np.arange(10), 6)
    wide = chain_decay([hop("caption", scores, 2)], groups=groups).hops[0].loss_interval
    narrow = chain_decay([hop("caption", scores, 2)]).hops[0].loss_interval
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_a_hop_that_cannot_be_seen_is_named_and_left_out() -> None:
    scores = np.random.default_rng(3).normal(size=30)
    ends = np.linspace(-2, 2, 40)
    got = chain_decay([HopScores("mood", scores, ends, ends), hop("caption", scores, 4)])
    assert got.blind == ("mood",)
    assert [h.name for h in got.hops] == ["caption"]


def test_wrong_chains_are_refused() -> None:
    good = hop("caption", np.ones(5), 0)
    with pytest.raises(ValueError, match="'speech' has scores of shape"):
        chain_decay([good, hop("speech", np.ones(4), 0)])
    with pytest.raises(ValueError, match="fewer than 2 chains reach the hop 'speech'"):
        chain_decay([good, hop("speech", np.full(5, np.nan), 0)])
    with pytest.raises(ValueError, match="infinite"):
        chain_decay([hop("caption", np.array([1, np.inf, 1]), 0)])
    with pytest.raises(ValueError, match="at least one hop"):
        chain_decay([])
