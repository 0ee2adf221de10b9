"""The learning curve: labels that fit add, labels that are wrong take away, no row leaks."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evalsuite.errors import ModelError, PolicyError, UsageError
from evalsuite.gate.policy import Calibration, Policy, Rule, load_policy
from evalsuite.pipeline import explain
from evalsuite.pipeline.calibrate import measure
from evalsuite.pipeline.explain import check_layout, embedding_map
from evalsuite.pipeline.run import _check_metrics
from evalsuite.pipeline.utility import TRAINED, _split, utility_findings

DIM = 60


def encoded(x: Any, labels: list[str | None]) -> Any:
    samples = [
        SimpleNamespace(id=f"s{i}", label=label, group=None, text=None)
        for i, label in enumerate(labels)
    ]
    return SimpleNamespace(
        samples=samples, features={"e": x.astype(np.float32)}, infos=[SimpleNamespace(id="e")]
    )


def classes(n: int, rng: Any, wrong: bool = False) -> tuple[Any, list[str | None]]:
    """Two classes, one standard deviation apart along each of four axes."""
    y = rng.integers(0, 2, n)
    x = rng.standard_normal((n, DIM))
    x[:, :4] += 0.5 * (2 * y[:, None] - 1)
    return x, [f"class {1 - v if wrong else v}" for v in y]


def part(real: Any, synthetic: Any, groups: Any = (None, None)) -> Any:
    return SimpleNamespace(
        modality="image", left=encoded(*real), right=encoded(*synthetic), groups=groups
    )


def remember(_: str, __: str, compute: Any) -> bytes:
    return compute()  # type: ignore[no-any-return]


def test_good_labels_add_and_wrong_ones_take_away() -> None:
    rng = np.random.default_rng(0)
    real = classes(240, rng)
    (good,) = utility_findings(part(real, classes(500, rng)), load_policy(), remember)
    (bad,) = utility_findings(part(real, classes(500, rng, wrong=True)), load_policy(), remember)
    assert good.n_synthetic == bad.n_synthetic == TRAINED
    assert good.details["curve"][0] == {
        "added": 0, "score": good.details["real_to_real"], "gain": 0.0, "low": 0.0, "high": 0.0,
    }  # fmt: skip
    assert good.details["curve"][-1]["gain"] > 0
    assert bad.details["curve"][-1]["gain"] < -0.2
    assert good.gap is not None
    assert bad.gap is not None
    assert bad.gap > 0.5 > good.gap
    assert bad.gap == pytest.approx(1 - (bad.value or 0))
    json.dumps(good.details, allow_nan=False)


def test_copies_of_tested_samples_and_foreign_classes_are_left_out() -> None:
    rng = np.random.default_rng(1)
    x, labels = classes(120, rng)
    more, others = classes(120, rng)
    sx = np.concatenate([x, more, more[:10] + 3])
    sy = [*labels, *others, *["never seen"] * 10]
    (found,) = utility_findings(part((x, labels), (sx, sy)), load_policy(), remember)
    assert found.details["left_out_copies"] == found.details["tested_on"]
    assert found.details["left_out_other_classes"] == 10


def test_no_curve_without_labels_or_classes() -> None:
    rng = np.random.default_rng(2)
    x, labels = classes(120, rng)
    half: list[str | None] = [None if i % 2 else label for i, label in enumerate(labels)]
    policy = load_policy()
    assert utility_findings(part((x, labels), (x + 1, half)), policy, remember) == []
    one: list[str | None] = ["same"] * 120
    assert utility_findings(part((x, one), (x + 1, one)), policy, remember) == []
    few = classes(30, rng)
    assert utility_findings(part((x, labels), few), policy, remember) == []


def test_groups_are_split_whole() -> None:
    labels = [f"c{i % 2}" for i in range(200)]
    groups = [f"g{i // 10}" for i in range(200)]
    train, test = _split(list(range(200)), labels, groups, np.random.default_rng(0))
    assert sorted(train + test) == list(range(200))
    assert not {groups[i] for i in train} & {groups[i] for i in test}
    assert 60 <= len(test) <= 100


def test_the_null_is_what_the_p_value_counts() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.standard_normal((60, 8)).astype(np.float32) for _ in range(2))
    settings = Calibration(splits=20, permutations=99, costly_permutations=99)
    found = measure(a, b + 0.2, settings=settings, seed=0)
    for f in found.findings:
        assert f.null is not None
        assert f.null.permutations == len(f.null.values) == 99
        sign = -1 if f.higher_is_better else 1
        as_far = sum(sign * v >= sign * f.null.observed - 1e-12 for v in f.null.values)
        assert f.p_value == pytest.approx((1 + as_far) / 100, abs=1e-9)


def test_umap_is_the_same_for_a_seed_and_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UsageError, match="there are pca, umap"):
        check_layout("tsne")
    monkeypatch.setattr(explain, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"evalsuite\[umap\]"):
        check_layout("umap")
    monkeypatch.undo()
    pytest.importorskip("umap")
    check_layout("umap")
    rng = np.random.default_rng(4)
    left, right = (encoded(rng.standard_normal((40, DIM)), [None] * 40) for _ in range(2))
    settings = Calibration(splits=20, permutations=99, costly_permutations=99)
    measured = measure(left.features["e"], right.features["e"], settings=settings, seed=0)
    one, two, other = (
        embedding_map("e", left, right, measured, seed, "umap") for seed in (5, 5, 6)
    )
    assert one == two
    assert one.explained is None
    assert one.method == "UMAP"
    assert [p.sample for p in one.points] == [p.sample for p in other.points]
    assert [p.x for p in one.points] != [p.x for p in other.points]


@pytest.mark.parametrize("metric", ["naturalness", "near_copy_share", "vocabulary", "utility"])
def test_a_rule_for_a_metric_with_an_interval_works(metric: str) -> None:
    _check_metrics(Policy(rules=(Rule(metric=metric, tolerance=0.1),)))


@pytest.mark.parametrize("metric", ["label_shares", "mauve", "label_leakage"])
def test_a_rule_that_nothing_could_answer_is_refused_with_a_reason(metric: str) -> None:
    with pytest.raises(PolicyError, match="has no interval; a rule can be for frechet_distance"):
        _check_metrics(Policy(rules=(Rule(metric=metric, tolerance=0.1),)))
