from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import MetricCollection

from evalsuite.metrics.distribution import manifold
from evalsuite.metrics.distribution._wilson import wilson
from evalsuite.metrics.distribution.manifold import (
    expected_coverage,
    manifold_splits,
    precision_recall_density_coverage,
)
from evalsuite.metrics.streaming.classifier import ClassifierTwoSample
from evalsuite.metrics.streaming.diversity import VendiScore
from evalsuite.metrics.streaming.manifold import PrecisionRecallDensityCoverage

NAMES = ("precision", "recall", "density", "coverage")


def gaussians(n=3000, m=3000, d=64, seed=0):
    """The reference sets of the field notes: N(0, 1) and N(0.3, 1.2^2)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), 0.3 + 1.2 * rng.standard_normal((m, d))


def brute_force(real, synthetic, k):
    """All distances from the coordinates, in float64."""
    x, y = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)

    def squared(a, b):
        return np.array([((row - b) ** 2).sum(axis=1) for row in a])

    radius_x = np.sort(squared(x, x), axis=1)[:, k]  # place 0 is the sample itself
    radius_y = np.sort(squared(y, y), axis=1)[:, k]
    between = squared(x, y)
    in_real, in_synthetic = between <= radius_x[:, None], between <= radius_y
    return {
        "precision": in_real.any(axis=0).mean(),
        "recall": in_synthetic.any(axis=1).mean(),
        "density": in_real.sum() / (k * len(y)),
        "coverage": in_real.any(axis=1).mean(),
        "on_manifold": in_real.any(axis=0),
        "covered": in_real.any(axis=1),
        "recalled": in_synthetic.any(axis=1),
    }


def cases():
    rng = np.random.default_rng(1)
    x, y = gaussians(300, 400, 32)
    centres = rng.standard_normal((5, 32))
    crowd = np.repeat(centres, 60, axis=0)
    return {
        "plain": (x, y, 5),
        "duplicates": (np.repeat(x[:50], 8, axis=0), np.repeat(y[:60], 3, axis=0), 5),
        "duplicates of each other": (np.repeat(x[:50], 8, axis=0), np.repeat(x[:50], 4, axis=0), 5),
        "all identical": (np.ones((50, 3)), np.ones((40, 3)), 5),
        "identical and apart": (np.ones((50, 3)), 2 * np.ones((40, 3)), 5),
        "grid, many ties": (
            rng.integers(0, 3, (400, 6)).astype(float),
            rng.integers(0, 4, (300, 6)).astype(float),
            5,
        ),
        "negative zero": (np.array([[0.0], [-0.0], [1.0]]), np.array([[-0.0], [0.0], [2.0]]), 1),
        "constant features": (
            np.hstack([x, np.full((300, 4), 7.0)]),
            np.hstack([y, np.full((400, 4), 7.0)]),
            5,
        ),
        "offset 1e6": (x + 1e6, y + 1e6, 3),
        "offset 1e6, float32": ((x + 1e6).astype(np.float32), (y + 1e6).astype(np.float32), 3),
        "float16": (x.astype(np.float16), y.astype(np.float16), 4),
        "heavy tails": (rng.standard_cauchy((300, 20)), rng.standard_cauchy((200, 20)), 4),
        "clusters below float32": (crowd + 1e-9 * x, crowd + 1e-9 * y[:300], 4),
        "shrunken": (x, 0.2 * y, 7),
        "one more than k": (x[:6], y[:6], 5),
        "one dimension": (x[:, :1], y[:, :1], 5),
    }


@pytest.mark.parametrize("name", cases())
def test_equals_brute_force_comparison_by_comparison(name):
    x, y, k = cases()[name]
    result = precision_recall_density_coverage(x, y, k=k, level=None)
    for key, value in brute_force(x, y, k).items():
        np.testing.assert_array_equal(getattr(result, key), value, err_msg=key)


@pytest.mark.parametrize("name", cases())
def test_splits_equal_the_function_on_the_subset(name):
    x, y, k = cases()[name]
    z = np.concatenate([x, y]).astype(x.dtype)
    rng = np.random.default_rng(2)
    role = rng.choice(3, p=[0.3, 0.3, 0.4], size=(len(z), 6))
    role[:, 0] = np.arange(len(z)) >= len(x)
    for side in (0, 1):
        few = (role == side).sum(axis=0) <= k
        role[:, few] = (np.arange(len(z)) % 2)[:, None]
    first, second = role == 0, role == 1
    if min(first.sum(axis=0).min(), second.sum(axis=0).min()) <= k:
        pytest.skip("too few rows to split")
    found = manifold_splits(z, first, second, k)
    for r in range(role.shape[1]):
        expected = brute_force(z[first[:, r]], z[second[:, r]], k)
        assert {key: found[key][r] for key in NAMES} == {key: expected[key] for key in NAMES}


def test_reference_values():
    x, y = gaussians()
    result = precision_recall_density_coverage(x, y, k=5, level=None)
    found = [getattr(result, key) for key in NAMES]
    np.testing.assert_allclose(found, [248 / 3000, 2930 / 3000, 0.026, 0.111], rtol=1e-12)
    assert (result.k, result.n_real, result.n_synthetic) == (5, 3000, 3000)


def test_real_and_synthetic_have_their_roles():
    x, y = gaussians(200, 300)
    there = precision_recall_density_coverage(x, y, level=None)
    back = precision_recall_density_coverage(y, x, level=None)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert there.density != back.density
    assert there.covered.shape == there.recalled.shape == (200,)
    assert there.on_manifold.shape == (300,)
    # Synthetic samples that stay in one of two real modes keep precision and lose recall.
    two = np.concatenate([x[:100], x[:100] + 50])
    collapsed = precision_recall_density_coverage(two, y[:100] * 0 + x[100:], level=None)
    assert collapsed.recall <= 0.5 < collapsed.precision


def test_the_set_itself():
    x, _ = gaussians(200, 1)
    result = precision_recall_density_coverage(x, x, k=5, level=None)
    # A sample's own ball holds its k neighbours and itself.
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    assert result.density == pytest.approx(6 / 5, rel=1e-12)


def test_duplicates_are_counted():
    x, y = gaussians(100, 100)
    result = precision_recall_density_coverage(np.repeat(x, 4, axis=0), y, level=None)
    assert result.duplicate_share_real == 0.75
    assert result.duplicate_share_synthetic == 0
    assert result.n_real == 400


@pytest.mark.parametrize(("n", "m", "k"), [(40, 40, 3), (30, 90, 5), (80, 20, 2)])
def test_expectations_under_the_null(n, m, k):
    rng = np.random.default_rng(3)
    z = rng.standard_normal((n + m, 6))
    repeats = 600
    order = rng.permuted(np.tile(np.arange(n + m), (repeats, 1)), axis=1).T
    density, coverage = [], []
    for _ in range(4):
        z = rng.standard_normal((n + m, 6))
        found = manifold_splits(z, order < n, order >= n, k)
        density.append(found["density"])
        coverage.append(found["coverage"])
    for values, expected in ((density, 1.0), (coverage, expected_coverage(n, m, k))):
        v = np.concatenate(values)
        assert v.mean() == pytest.approx(expected, abs=5 * v.std() / np.sqrt(v.size))
    assert expected_coverage(1000, 1000, 5) == pytest.approx(0.96898, abs=5e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([2, 4, 50]),
    st.sampled_from([-1024.0, 0.0, 3.0]),
    st.sampled_from([0.125, 1.0, 64.0]),
)
def test_order_shift_scale_and_reflection_change_nothing(seed, k, d, levels, shift, scale):
    # Whole numbers: every distance is exact, so ties stay ties.
    rng = np.random.default_rng(seed)
    x = rng.integers(0, levels, (rng.integers(k + 1, 40), d)).astype(float)
    y = rng.integers(0, levels, (rng.integers(k + 1, 40), d)).astype(float)
    plain = precision_recall_density_coverage(x, y, k=k, level=None)
    expected = brute_force(x, y, k)
    axes = rng.permutation(d)
    sign = rng.choice([-1.0, 1.0], d)
    p, q = rng.permutation(len(x)), rng.permutation(len(y))
    moved = precision_recall_density_coverage(
        scale * (sign * x[p][:, axes] + shift), scale * (sign * y[q][:, axes] + shift), k=k,
        level=None,
    )  # fmt: skip
    for key in NAMES:
        assert getattr(plain, key) == getattr(moved, key) == expected[key]
    np.testing.assert_array_equal(plain.covered[p], moved.covered)
    np.testing.assert_array_equal(plain.on_manifold[q], moved.on_manifold)


def test_rotation_changes_nothing():
    x, y = gaussians(300, 300, 16)
    turn = np.linalg.qr(np.random.default_rng(4).standard_normal((16, 16)))[0]
    plain = precision_recall_density_coverage(x, y, level=None)
    turned = precision_recall_density_coverage(x @ turn, y @ turn, level=None)
    assert [getattr(plain, key) for key in NAMES] == [getattr(turned, key) for key in NAMES]


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_extreme_scales(scale):
    x, y = gaussians(100, 120, 8)
    plain = precision_recall_density_coverage(x, y, level=None)
    scaled = precision_recall_density_coverage(scale * x, scale * y, level=None)
    assert [getattr(plain, key) for key in NAMES] == [getattr(scaled, key) for key in NAMES]


def test_the_same_in_small_blocks_and_in_reduced_precision(monkeypatch):
    x, y, k = cases()["grid, many ties"]
    expected = brute_force(x, y, k)
    monkeypatch.setattr(manifold, "_STRIP", 10_000)
    monkeypatch.setattr(manifold, "_EXACT", 600)
    precision = torch.get_float32_matmul_precision()
    try:
        for setting in ("highest", "medium"):
            torch.set_float32_matmul_precision(setting)
            result = precision_recall_density_coverage(x, y, k=k, level=None)
            assert [getattr(result, key) for key in NAMES] == [expected[key] for key in NAMES]
    finally:
        torch.set_float32_matmul_precision(precision)


def test_rows_with_one_key_are_told_apart(monkeypatch):
    monkeypatch.setattr(manifold, "_row_keys", lambda x: torch.zeros(len(x), dtype=torch.int64))
    for name in ("plain", "duplicates", "grid, many ties"):
        x, y, k = cases()[name]
        expected = brute_force(x, y, k)
        result = precision_recall_density_coverage(x, y, k=k, level=None)
        assert [getattr(result, key) for key in NAMES] == [expected[key] for key in NAMES]


def test_input_of_any_layout():
    x, y = gaussians(100, 90, 16)
    expected = precision_recall_density_coverage(x, y, level=None).precision
    for a, b in (
        (np.asfortranarray(x), y[::-1]),
        (torch.from_numpy(x).T.contiguous().T, torch.from_numpy(y).requires_grad_()),
    ):
        assert precision_recall_density_coverage(a, b, level=None).precision == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real": np.ones((0, 3))}, "at least 1 rows"),
        ({"real": np.ones((5, 3))}, "add samples or lower k"),
        ({"synthetic": np.ones((1, 3))}, "more than k=5 samples"),
        ({"real": np.full((9, 3), np.nan)}, "NaN or infinite"),
        ({"synthetic": np.full((9, 3), np.inf)}, "NaN or infinite"),
        ({"synthetic": np.ones((9, 4))}, "same encoder"),
        ({"k": 0}, "k must be at least 1"),
        ({"level": 1.0}, "level must lie between"),
        ({"groups_real": ["a"] * 8}, "groups_real must name"),
        ({"groups_real": ["a", "b", "c"] * 3}, "level=None"),
    ],
)
def test_errors_say_what_to_do(change, message):
    rng = np.random.default_rng(0)
    given = {"real": rng.random((9, 3)), "synthetic": rng.random((9, 3)), "level": None} | change
    if "groups_real" in change:
        given["level"] = 0.95
    with pytest.raises(ValueError, match=message):
        precision_recall_density_coverage(given.pop("real"), given.pop("synthetic"), **given)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (np.ones((20, 1), bool), np.ones((20, 1), bool), "on both sides"),
        (np.ones((20, 1)), np.zeros((20, 1)), "boolean"),
        (np.ones((19, 1), bool), np.zeros((19, 1), bool), "shape"),
        (np.arange(20)[:, None] < 16, np.arange(20)[:, None] >= 16, "lower k"),
    ],
)
def test_masks_are_checked(first, second, message):
    with pytest.raises(ValueError, match=message):
        manifold_splits(np.random.default_rng(0).random((20, 3)), first, second)


def test_rows_outside_the_masks_do_not_matter():
    x, y = gaussians(60, 60, 8)
    z = np.concatenate([x, y, np.zeros((40, 8))])
    first = (np.arange(160) < 60)[:, None]
    second = ((np.arange(160) >= 60) & (np.arange(160) < 120))[:, None]
    found = manifold_splits(z, first, second)
    assert found["precision"][0] == brute_force(x, y, 5)["precision"]


def test_intervals_cover_the_expectation():
    """At the sizes' own expectation, from other draws; 95 % nominal."""
    n, d, k, shift = 80, 4, 3, 0.4

    def draw(seed):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n, d)), rng.standard_normal((n, d)) + shift

    others = [
        precision_recall_density_coverage(*draw(10_000 + s), k=k, level=None) for s in range(200)
    ]
    inside = dict.fromkeys(NAMES, 0)
    repeats = 60
    for seed in range(repeats):
        result = precision_recall_density_coverage(*draw(seed), k=k, resamples=30)
        for key in NAMES:
            truth = np.mean([getattr(other, key) for other in others])
            inside[key] += truth in result.intervals[key]
    # 51 or fewer of 60 would have probability 0.0004 at a coverage of 95 %.
    assert all(count > 51 for count in inside.values()), inside


def test_intervals_are_wider_for_groups_and_never_empty():
    rng = np.random.default_rng(5)
    groups = np.arange(20).repeat(20)
    x = rng.standard_normal((20, 4))[groups] + rng.standard_normal((400, 4))
    y = rng.standard_normal((400, 4)) + 1
    lone = precision_recall_density_coverage(x, y).intervals
    grouped = precision_recall_density_coverage(x, y, groups_real=groups).intervals
    wide, narrow = grouped["coverage"], lone["coverage"]
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)
    apart = precision_recall_density_coverage(x, y + 100).intervals["precision"]
    assert apart.low == 0 < apart.high < 0.02
    none = precision_recall_density_coverage(x, y + 100).intervals["density"]
    assert none.low == 0 < none.high < 0.01


def test_an_error_is_used_where_the_value_is_at_its_end():
    """Coverage is often 1 at d = 64: the interval that took 1 for a value without noise held its
    expectation in 89 % of samples (results/calibration)."""
    exact = wilson(1.0, 0.0, 100, 0.95, "")
    noisy = wilson(1.0, 0.03, 100, 0.95, "")
    assert exact.low == pytest.approx(100 / (100 + 1.959964**2))
    draws = 102 / 104 * 2 / 104 / 0.03**2
    assert noisy.low == pytest.approx(draws / (draws + 1.959964**2))
    assert wilson(0.0, 0.03, 100, 0.95, "").high == pytest.approx(1 - noisy.low)
    # An error that is too small by chance makes no more draws than there are units.
    assert wilson(1.0, 1e-9, 100, 0.95, "") == exact


def test_density_has_the_same_relative_error_both_ways():
    rng = np.random.default_rng(1)
    found = precision_recall_density_coverage(*rng.standard_t(3, (2, 60, 64)), level=0.9)
    ends = found.intervals["density"]
    assert ends.low * ends.high == pytest.approx(found.density**2)
    assert 1.1 < ends.high / found.density < 2


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_memory_does_not_hold_all_distances():
    """9,000 x 9,000 float32 distances are 309 MiB; three such matrices are needed."""
    code = """
import resource, numpy as np
from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage as prdc
rng = np.random.default_rng(0)
x, y = rng.random((9_000, 16)), rng.random((9_000, 16))
prdc(x[:100], y[:100], level=None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prdc(x, y, level=None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=300
    )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    assert int(out.stdout) / unit < 300


# Streaming --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_streaming_equals_the_function_for_any_partition():
    x, y = gaussians(90, 70, 6)
    expected = precision_recall_density_coverage(x, y, k=3, level=None)
    parts = [PrecisionRecallDensityCoverage(k=3) for _ in range(3)]
    for i, rows in enumerate(np.split(np.arange(90), [1, 30, 50])):
        parts[i % 3].update(x[rows], real=True)
    for i, rows in enumerate(np.split(np.arange(70), [40, 41])):
        parts[i].update(torch.from_numpy(y[rows]), real=False)
    parts[2].merge_state(parts[0])
    parts[2].merge_state(parts[1])
    found = parts[2].compute()
    assert {key: float(value) for key, value in found.items()} == {
        key: getattr(expected, key) for key in NAMES
    }
    assert "recall" in parts[2].result().intervals
    with pytest.raises(ValueError, match="must have 6 columns"):
        parts[2].update(x[:, :2], real=True)
    parts[2].reset()
    with pytest.raises(ValueError, match="no real features yet"):
        parts[2].compute()


def test_streaming_in_a_collection_and_with_kept_real_features():
    x, y = gaussians(60, 60, 6)
    together = MetricCollection(
        [
            PrecisionRecallDensityCoverage(k=3, reset_real_features=False),
            ClassifierTwoSample(reset_real_features=False),
            VendiScore(6),
        ]
    )
    for batch in np.split(x, 3):
        together.update(batch, real=True)
    together.update(y, real=False)
    first = {key: float(value) for key, value in together.compute().items()}
    assert first["precision"] == precision_recall_density_coverage(x, y, k=3, level=None).precision
    assert len(first) == 6
    together.reset()
    together.update(y, real=False)
    second = {key: float(value) for key, value in together.compute().items()}
    assert second == first


# Peers ------------------------------------------------------------------------------------------


def prdc_of(x, y, k):
    prdc = pytest.importorskip("prdc")
    return prdc.compute_prdc(real_features=x, fake_features=y, nearest_k=k)


def fidelity_of(x, y, k):
    metric = pytest.importorskip("torch_fidelity.metric_prc")
    found = metric.calculate_precision_recall_full(torch.as_tensor(y), torch.as_tensor(x), k)
    return float(found[0]), float(found[1])


@pytest.mark.peers
@pytest.mark.parametrize("k", [1, 3, 5])
def test_agrees_with_prdc(k):
    x, y = gaussians(500, 400)
    result = precision_recall_density_coverage(x, y, k=k, level=None)
    for key, value in prdc_of(x, y, k).items():
        assert getattr(result, key) == pytest.approx(value, rel=1e-12)


@pytest.mark.peers
def test_agrees_with_torch_fidelity():
    x, y = gaussians(500, 400)
    result = precision_recall_density_coverage(x, y, k=3, level=None)
    assert fidelity_of(x, y, 3) == pytest.approx((result.precision, result.recall), rel=1e-6)


@pytest.mark.peers
def test_prdc_breaks_under_duplicates_and_this_does_not():
    """prdc compares with <, so a sample with k copies does not even lie in its own ball."""
    x = np.repeat(np.random.default_rng(0).standard_normal((300, 16)), 8, axis=0)
    theirs = prdc_of(x, x, 5)
    ours = precision_recall_density_coverage(x, x, k=5, level=None)
    assert theirs["precision"] < 0.5
    assert (ours.precision, ours.recall, ours.coverage) == (1, 1, 1)
    assert fidelity_of(x, x, 5) == (1, 1)


@pytest.mark.peers
def test_torch_fidelity_cancels_at_an_offset_in_float32_and_this_does_not():
    """cdist's expanded form in float32 loses the digits that decide comparisons."""
    rng = np.random.default_rng(0)
    x = (100 + rng.standard_normal((2000, 64))).astype(np.float32)
    y = (100 + rng.standard_normal((2000, 64))).astype(np.float32)
    exact = brute_force(x, y, 3)
    ours = precision_recall_density_coverage(x, y, k=3, level=None)
    assert (ours.precision, ours.recall) == (exact["precision"], exact["recall"])
    assert fidelity_of(x, y, 3) != pytest.approx((exact["precision"], exact["recall"]), abs=1e-4)
