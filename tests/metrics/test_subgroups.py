"""Subgroups: a wrong share and wrong content are told apart, and small groups are not judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalsuite.metrics.distribution.copying import newcombe_interval
from evalsuite.metrics.distribution.kernel import kernel_distance
from evalsuite.metrics.drift.categorical import total_variation
from evalsuite.metrics.utility.subgroups import SubgroupReport, subgroup_tests

pytestmark = pytest.mark.usefixtures("one_thread")


def side(counts: dict[str, int], seed: int, *, shift: dict[str, float] | None = None) -> tuple:
    """Features of Gaussian subgroups, each ``shift`` away from where it belongs, and labels."""
    rng = np.random.default_rng(100 + seed)
    labels = np.repeat(list(counts), list(counts.values()))
    where = {name: 5.0 * i for i, name in enumerate(sorted({*counts, "a", "b", "c"}))}
    x = rng.standard_normal((len(labels), 6)) + np.array([where[v] for v in labels])[:, None]
    x[:, 0] += [(shift or {}).get(v, 0.0) for v in labels]
    return x, labels


def run(real: tuple, synthetic: tuple, **options: object) -> SubgroupReport:
    return subgroup_tests(
        real[0],
        synthetic[0],
        real[1],
        synthetic[1],
        **{"permutations": 99, "splits": 20, **options},
    )


def by_label(report: SubgroupReport) -> dict:
    return {s.label: s for s in report.shares.groups}


# Shares


def test_label_shift_is_seen_in_the_shares_and_not_in_the_gaps() -> None:
    sides = (
        side({"a": 300, "b": 200, "c": 100}, 0),
        side({"a": 100, "b": 200, "c": 300}, 1),
    )
    got = run(*sides)
    # 2/6 too little a, 2/6 too much c.
    assert got.shares.value == pytest.approx(1 / 3)
    assert got.shares.value > 4 * got.shares.floor_q95
    assert got.shares.p_value == 0.01
    assert got.shares.interval == total_variation(sides[0][1], sides[1][1]).ci
    assert [s.label for s in got.shares.groups] == ["a", "b", "c"]
    share = by_label(got)
    assert share["a"].ratio == pytest.approx(1 / 3)
    assert share["b"].ratio == 1.0
    assert share["c"].ratio == pytest.approx(3.0)
    assert share["b"].p_adjusted == 1.0
    assert max(share["a"].p_adjusted, share["c"].p_adjusted) < 1e-10
    assert share["a"].difference.high < 0 < share["c"].difference.low
    assert share["a"].ratio_interval.high < 1 < share["c"].ratio_interval.low
    assert -1 / 3 in share["a"].difference
    for gap in got.gaps:
        assert gap.p_adjusted > 0.05
        assert gap.kernels["polynomial"].ratio < 1


def test_labels_on_one_side_only() -> None:
    got = run(side({"a": 100, "b": 60}, 0), side({"a": 100, "c": 60}, 1))
    share = by_label(got)
    assert (share["b"].ratio, share["b"].ratio_interval) == (0.0, None)
    assert (share["c"].ratio, share["c"].ratio_interval) == (None, None)
    assert set(got.left_out) == {"b", "c"}
    assert got.shares.value == pytest.approx(60 / 160)


@pytest.mark.peers
def test_shares_are_tested_as_scipy_would() -> None:
    real, synthetic = side({"a": 120, "b": 70, "c": 10}, 0), side({"a": 90, "b": 40, "c": 20}, 1)
    got = run(real, synthetic, permutations=4999)
    table = np.array([[120, 70, 10], [90, 40, 20]])
    exact = stats.chi2_contingency(table, correction=False)
    assert got.shares.p_value == pytest.approx(exact.pvalue, abs=0.02)
    share = by_label(got)
    raw = [stats.fisher_exact([[u, 200 - u], [v, 150 - v]]).pvalue for u, v in table.T]
    order = np.argsort(raw)
    holm = np.maximum.accumulate(np.array(raw)[order] * [3, 2, 1]).clip(max=1)
    for c, p in zip(order, holm, strict=True):
        assert share["abc"[c]].p_adjusted == pytest.approx(p)
    for c, name in enumerate("abc"):
        assert share[name].difference == newcombe_interval(
            table[1, c] / 150, 150, table[0, c] / 200, 200, 0.95
        )
        peer = stats.contingency.relative_risk(int(table[1, c]), 150, int(table[0, c]), 200)
        interval = peer.confidence_interval(0.95)
        assert share[name].ratio == pytest.approx(peer.relative_risk)
        assert share[name].ratio_interval.low == pytest.approx(interval.low, rel=1e-9)
        assert share[name].ratio_interval.high == pytest.approx(interval.high, rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=40), st.integers(3, 40), st.integers(0, 99))
def test_shares_add_up(labels: list[int], m: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    other = rng.integers(0, 6, m)
    real = rng.standard_normal((len(labels), 2)), labels
    got = run(real, (rng.standard_normal((m, 2)), other), permutations=9, splits=1)
    shares = got.shares.groups
    assert sum(s.real for s in shares) == pytest.approx(1)
    assert sum(s.synthetic for s in shares) == pytest.approx(1)
    assert sum(s.n_real for s in shares) == len(labels)
    assert got.shares.value == pytest.approx(sum(abs(s.real - s.synthetic) for s in shares) / 2)
    for s in shares:
        assert s.difference.low - 1e-12 <= s.synthetic - s.real <= s.difference.high + 1e-12
    assert set(got.left_out) | {g.label for g in got.gaps} == {s.label for s in shares}


# Gaps


def test_content_shift_is_seen_in_its_group_and_not_in_the_shares() -> None:
    counts = {"a": 150, "b": 150, "c": 150}
    got = run(side(counts, 0), side(counts, 1, shift={"b": 1.5}))
    assert got.shares.value == 0.0
    assert got.shares.p_value == 1.0
    assert got.worst.label == "b"
    gaps = {g.label: g for g in got.gaps}
    assert gaps["b"].p_adjusted <= 0.03
    raw = np.sort([g.p_value for g in got.gaps])
    holm = np.maximum.accumulate(raw * [3, 2, 1]).clip(max=1)
    assert sorted(g.p_adjusted for g in got.gaps) == pytest.approx(holm)
    assert min(gaps["a"].p_adjusted, gaps["c"].p_adjusted) > 0.05
    for kernel in ("polynomial", "energy"):
        assert gaps["b"].kernels[kernel].ratio > 2
        assert gaps["b"].kernels[kernel].relative > 3 * abs(gaps["a"].kernels[kernel].relative)
        assert gaps["b"].kernels[kernel].interval.low > 0
        assert gaps["a"].kernels[kernel].ratio < 1.2
    assert gaps["a"].size == 75


def test_gap_is_the_kernel_distance_of_the_group() -> None:
    real, synthetic = side({"a": 80, "b": 90}, 0), side({"a": 60, "b": 100}, 1, shift={"a": 1})
    got = run(real, synthetic, kernels=("energy", "polynomial"))
    for gap in got.gaps:
        for kernel, value in gap.kernels.items():
            alone = kernel_distance(
                real[0][real[1] == gap.label], synthetic[0][synthetic[1] == gap.label], kernel
            )
            assert value.value == pytest.approx(alone.value, rel=1e-9)
            assert value.interval == alone.ci
            assert value.relative == pytest.approx(alone.value / alone.spread, rel=1e-9)
    assert {g.label: g.size for g in got.gaps} == {"a": 40, "b": 45}
    relative = [g.kernels["energy"].relative for g in got.gaps]
    assert relative == sorted(relative, reverse=True)


def test_the_floor_is_the_groups_own() -> None:
    # b is ten times wider: its distances, and so its floor, are larger than a's.
    real, synthetic = side({"a": 120, "b": 120}, 0), side({"a": 120, "b": 120}, 1)
    for x, labels in (real, synthetic):
        centre = x[labels == "b"].mean()
        x[labels == "b"] = centre + 10 * (x[labels == "b"] - centre)
    gaps = {g.label: g.kernels["energy"] for g in run(real, synthetic).gaps}
    assert gaps["b"].floor_q95 > 5 * gaps["a"].floor_q95
    assert max(g.ratio for g in gaps.values()) < 1.5


def test_small_groups_are_named_and_not_judged() -> None:
    got = run(
        side({"a": 100, "b": 49, "c": 80}, 0),
        side({"a": 100, "b": 500, "c": 20}, 1, shift={"b": 9, "c": 9}),
    )
    assert [g.label for g in got.gaps] == ["a"]
    assert got.left_out == {
        "b": "49 real and 500 synthetic rows; at least 50 needed",
        "c": "80 real and 20 synthetic rows; at least 50 needed",
    }
    assert got.min_n == 50
    assert set(by_label(got)) == {"a", "b", "c"}
    nothing = run(side({"a": 20}, 0), side({"a": 20}, 1))
    assert nothing.gaps == ()
    assert nothing.worst is None
    assert [g.label for g in run(side({"a": 20}, 0), side({"a": 20}, 1), min_n=20).gaps] == ["a"]


# Null


def test_false_alarms_stay_in_the_binomial_band() -> None:
    runs, shares, any_share, any_gap, covered = 80, 0, 0, 0, 0
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        label = [rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]) for n in (140, 200)]
        x = [rng.standard_normal((len(v), 3)) for v in label]
        got = subgroup_tests(
            *x, *label, permutations=99, splits=2, min_n=15, kernels=("polynomial",), seed=seed
        )
        shares += got.shares.p_value <= 0.05
        any_share += min(s.p_adjusted for s in got.shares.groups) <= 0.05
        any_gap += min(g.p_adjusted for g in got.gaps) <= 0.05
        covered += all(0.0 in s.difference for s in got.shares.groups[:1])
    most = stats.binom.ppf(0.999, runs, 0.05)
    assert max(shares, any_share, any_gap) <= most


def test_groups_keep_the_level_that_rows_alone_break() -> None:
    # Ten sources a side, each of one label and one place: rows of a source are near copies.
    runs = 60
    alarms = {"shares": 0, "gaps": 0, "shares ignoring": 0, "gaps ignoring": 0}
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        data, labels, sources = [], [], []
        for s in range(2):
            kind = np.array(["a", "b"])[rng.permutation(np.arange(20) % 2)]
            centre = rng.standard_normal((20, 3))
            source = np.repeat(np.arange(20), 6)
            data.append(centre[source] + 0.1 * rng.standard_normal((120, 3)))
            flip = rng.random(20) < 0.5
            labels.append(np.where(flip, kind, "a")[source])
            sources.append([f"{s}-{v}" for v in source])
        options = {
            "permutations": 99,
            "splits": 2,
            "min_n": 18,
            "kernels": ("energy",),
            "seed": seed,
        }
        named = subgroup_tests(
            *data, *labels, groups_real=sources[0], groups_synthetic=sources[1], **options
        )
        plain = subgroup_tests(*data, *labels, **options)
        for name, got in (("", named), (" ignoring", plain)):
            alarms["shares" + name] += min(s.p_adjusted for s in got.shares.groups) <= 0.05
            alarms["gaps" + name] += min([g.p_adjusted for g in got.gaps], default=1.0) <= 0.05
    most = stats.binom.ppf(0.999, runs, 0.05)
    assert max(alarms["shares"], alarms["gaps"]) <= most, alarms
    assert min(alarms["shares ignoring"], alarms["gaps ignoring"]) > most, alarms


def test_groups_widen_the_shares_intervals() -> None:
    real, synthetic = side({"a": 60, "b": 60}, 0), side({"a": 60, "b": 60}, 1)
    groups = {"groups_real": np.arange(120) // 6, "groups_synthetic": 100 + np.arange(120) // 6}
    named, plain = by_label(run(real, synthetic, **groups)), by_label(run(real, synthetic))
    for label in "ab":
        wide, narrow = named[label].difference, plain[label].difference
        # Six rows of a source count as one.
        assert wide.high - wide.low == pytest.approx(
            np.sqrt(6) * (narrow.high - narrow.low), rel=0.12
        )


def test_too_few_sources_leave_a_group_out() -> None:
    real, synthetic = side({"a": 80, "b": 80}, 0), side({"a": 80, "b": 80}, 1)
    few = np.where(real[1] == "a", 0, np.arange(160))
    got = run(real, synthetic, groups_real=few)
    assert got.left_out == {"a": "rows of only 1 sources on a side; at least 4 needed"}
    lopsided = np.where(np.arange(160) < 70, 0, np.arange(160))
    got = run(real, synthetic, groups_real=lopsided)
    assert "largest" in got.left_out["a"]
    assert [g.label for g in got.gaps] == ["b"]


# Input


def test_forms_of_input_do_not_matter() -> None:
    real, synthetic = side({"a": 60, "b": 70}, 0), side({"a": 80, "b": 60}, 1)
    one = run(real, synthetic)
    assert run(real, synthetic) == one
    tensors = [(torch.from_numpy(x), v.tolist()) for x, v in (real, synthetic)]
    assert run(*tensors) == one
    pairs = [(x, [(v, 1) for v in labels]) for x, labels in (real, synthetic)]
    assert [s.label for s in run(*pairs).shares.groups] == [
        f"{s.label} × 1" for s in one.shares.groups
    ]


def test_constant_subgroups_have_no_relative_gap() -> None:
    labels = np.repeat(["a", "b"], 60)
    real = np.repeat([[0.0, 0], [5, 5]], 60, axis=0)
    synthetic = np.repeat([[0.0, 0], [7, 5]], 60, axis=0)
    got = run((real, labels), (synthetic, labels), kernels=("energy",))
    assert got.worst.label == "b"
    gaps = {g.label: g.kernels["energy"] for g in got.gaps}
    assert (gaps["a"].value, gaps["a"].relative, gaps["a"].ratio) == (0.0, None, None)
    assert (gaps["b"].relative, gaps["b"].ratio) == (None, None)
    assert gaps["b"].value == pytest.approx(4.0)
    assert {g.label: g.p_adjusted for g in got.gaps} == {"a": 1.0, "b": 0.02}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"min_n": 7}, "min_n"),
        ({"splits": 0}, "splits"),
        ({"permutations": 0}, "permutations"),
        ({"kernels": ("rbg",)}, "kernels"),
        ({"groups_real": [1, 2]}, "groups_real"),
        ({"groups_synthetic": [1, 2]}, "groups_synthetic"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        run(side({"a": 60}, 0), side({"a": 60}, 1), **options)


@pytest.mark.parametrize(
    ("real", "says"),
    [
        ((np.zeros((3, 2)), ["a"]), "labels_real must name a subgroup for each of 3 rows"),
        ((np.zeros((0, 6)), []), "at least 1 rows"),
        ((np.full((2, 6), np.inf), ["a", "a"]), "infinite"),
        ((np.zeros((2, 5)), ["a", "a"]), "same encoder"),
    ],
)
def test_bad_data_is_refused(real: tuple, says: str) -> None:
    synthetic = (np.zeros((60, 2)), ["a"] * 60) if len(real[0]) == 3 else side({"a": 60}, 1)
    with pytest.raises(ValueError, match=says):
        run(real, synthetic)
