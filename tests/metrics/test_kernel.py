"""Kernel distances: closed forms, peers on the same arrays, intervals, tests, splits, streams."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torchmetrics import MetricCollection

from evalsuite.metrics.distribution.kernel import (
    KERNELS,
    kernel_distance,
    kernel_distances,
    kernel_splits,
    kernel_spread,
    median_bandwidth,
)
from evalsuite.metrics.inference import permutation_masks, split_masks
from evalsuite.metrics.streaming.frechet import FrechetDistance
from evalsuite.metrics.streaming.kernel import KernelDistance

NOT_UPDATED = pytest.warns(UserWarning, match="before the ``update``")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def g() -> tuple[np.ndarray, np.ndarray]:
    """Set G of field/image.md §5."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((3000, 64)), 0.3 + 1.2 * rng.standard_normal((3000, 64))


def relu_like(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    return np.maximum(rng.standard_normal((n, d)) + 0.4, 0.0)


def plain_kernel(kernel: str, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """The definitions, pair by pair."""
    if kernel == "polynomial":
        return (x @ y.T / x.shape[1] + 1) ** 3
    if kernel == "cmmd":
        x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in (x, y))
        sigma = 10.0
    square = ((x[:, None] - y[None]) ** 2).sum(axis=2)
    if kernel == "energy":
        return -np.sqrt(square)
    if kernel == "rbf-multi":
        scales = (0.25, 0.5, 1, 2, 4)
        return sum(np.exp(-square / (2 * (s * sigma) ** 2)) for s in scales) / 5
    return np.exp(-square / (2 * sigma**2))


def plain_distance(kernel: str, x: np.ndarray, y: np.ndarray, sigma: float) -> float:
    kx, ky, kxy = (plain_kernel(kernel, a, b, sigma) for a, b in ((x, x), (y, y), (x, y)))
    if kernel == "cmmd":
        return 1000 * float(kx.mean() + ky.mean() - 2 * kxy.mean())
    n, m = len(x), len(y)
    within = (kx.sum() - np.trace(kx)) / (n * (n - 1)) + (ky.sum() - np.trace(ky)) / (m * (m - 1))
    return float(within - 2 * kxy.mean())


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("block_rows", [1024, 7])
def test_value_is_the_definition(kernel: str, block_rows: int) -> None:
    rng = np.random.default_rng(1)
    x, y = relu_like(rng, 60, 9), 0.2 + 1.3 * relu_like(rng, 41, 9)
    result = kernel_distance(x, y, kernel, bandwidth=3.0, block_rows=block_rows)
    assert result.value == pytest.approx(plain_distance(kernel, x, y, 3.0), rel=1e-9)
    kx = plain_kernel(kernel, x, x, 3.0)
    spread = np.trace(kx) / 60 - (kx.sum() - np.trace(kx)) / (60 * 59)
    assert result.spread == pytest.approx(spread * (1000 if kernel == "cmmd" else 1), rel=1e-9)
    alone = kernel_spread(x, [kernel], bandwidth=3.0)[kernel]
    assert alone == pytest.approx(result.spread, rel=1e-9)


def test_reference_value(g: tuple[np.ndarray, np.ndarray]) -> None:
    assert kernel_distance(*g).value == pytest.approx(0.31837597201491885, rel=1e-11)


def test_polynomial_population_value() -> None:
    """N(0, I) against N(mu, I): field/image.md §5, within 4 standard errors."""
    rng = np.random.default_rng(2)
    d, M = 64, 64 * 0.09
    x, y = rng.standard_normal((1500, d)), 0.3 + rng.standard_normal((1500, d))
    truth = 3 * M / d + 3 * M**2 / d**2 + (M**3 + 6 * M**2 + 3 * M * (d + 2)) / d**3
    result = kernel_distance(x, y)
    assert truth == pytest.approx(0.30014, abs=1e-5)
    assert result.variance is not None
    assert abs(result.value - truth) < 4 * np.sqrt(result.variance)


def test_rbf_population_value() -> None:
    """N(0, I16) against N(0.5, 2 I), sigma 2: 0.025839 (field/image.md §5)."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2500, 16))
    y = 0.5 + np.sqrt(2) * rng.standard_normal((2500, 16))
    result = kernel_distance(x, y, "rbf", bandwidth=2.0)
    assert result.variance is not None
    assert abs(result.value - 0.025839) < 4 * np.sqrt(result.variance)
    assert np.sqrt(result.variance) < 0.0015


def test_energy_is_twice_scipy_squared_in_one_dimension() -> None:
    """2 E|x-y| - E|x-x'| - E|y-y'| = 2 W², with scipy's V-statistic turned into a U-statistic."""
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((80, 1)), 0.7 + rng.standard_normal((50, 1))
    v = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    ex, ey = (np.abs(z - z.T).sum() / (len(z) * (len(z) - 1)) for z in (x, y))
    expected = v - ex / 80 - ey / 50
    assert kernel_distance(x, y, "energy").value == pytest.approx(expected, rel=1e-9)


def test_cmmd_is_almost_ten_times_the_squared_distance_of_means() -> None:
    rng = np.random.default_rng(5)
    x, y = (z / np.linalg.norm(z, axis=1, keepdims=True) for z in rng.normal(0.5, 1, (2, 400, 32)))
    y = np.roll(y, 1, axis=1) + 0.1
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    near = 10 * ((x.mean(0) - y.mean(0)) ** 2).sum()
    value = kernel_distance(x, y, "cmmd").value
    assert value == pytest.approx(near, rel=0.05)
    assert kernel_distance(7 * x, 0.1 * y, "cmmd").value == pytest.approx(value, rel=1e-9)
    with pytest.raises(ValueError, match="pooled row 3 is zero"):
        kernel_distance(np.where(np.arange(400)[:, None] == 3, 0.0, x), y, "cmmd")


@pytest.mark.parametrize("kernel", KERNELS)
def test_float32_keeps_its_digits(kernel: str) -> None:
    """Also where the mean is large: the published way loses all digits there."""
    rng = np.random.default_rng(6)
    x, y = (relu_like(rng, 500, 256).astype(np.float32) for _ in range(2))
    y = y + np.float32(0.02)
    for offset in (0.0, 30.0):
        a, b = x + np.float32(offset), y + np.float32(offset)
        if kernel in {"polynomial", "cmmd"} and offset:
            continue
        low = kernel_distance(a, b, kernel)
        high = kernel_distance(a.astype(np.float64), b.astype(np.float64), kernel)
        assert abs(low.value - high.value) < 2e-6 * high.spread
        assert low.variance == pytest.approx(high.variance, rel=1e-3)


def test_median_bandwidth_is_the_median_of_positive_distances() -> None:
    rng = np.random.default_rng(7)
    x, y = rng.standard_normal((40, 5)), rng.standard_normal((31, 5))
    z = np.concatenate([x, y])
    distances = np.linalg.norm(z[:, None] - z[None], axis=2)[np.triu_indices(71, 1)]
    # The lower of the two middle ones, where their number is even.
    expected = np.sort(distances)[(len(distances) - 1) // 2]
    assert median_bandwidth(x, y) == pytest.approx(expected, rel=1e-12)
    assert kernel_distance(x, y, "rbf").bandwidth == median_bandwidth(x, y)
    assert kernel_distance(x, y).bandwidth is None
    repeated = np.repeat(z, 30, axis=0)
    assert median_bandwidth(repeated, repeated[:100]) == pytest.approx(expected, rel=0.1)
    assert median_bandwidth(np.ones((9, 2)), np.ones((9, 2))) == 1.0


@pytest.mark.parametrize("kernel", KERNELS)
def test_duplicates_constants_and_two_rows(kernel: str) -> None:
    same = np.full((6, 4), 2.5)
    assert kernel_distance(same, same[:5], kernel).value == pytest.approx(0, abs=1e-12)
    points = kernel_distance(same, np.repeat([[1.0, 0, 0, 0]], 7, axis=0), kernel, bandwidth=1.0)
    assert points.value == pytest.approx(
        plain_distance(kernel, same, np.repeat([[1.0, 0, 0, 0]], 7, axis=0), 1.0), rel=1e-9
    )
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((2, 4)), rng.standard_normal((3, 4))
    few = kernel_distance(x, y, kernel, bandwidth=2.0)
    assert few.value == pytest.approx(plain_distance(kernel, x, y, 2.0), rel=1e-9)
    assert few.ci is None
    assert few.variance is None


def test_input_kinds_give_one_answer() -> None:
    rng = np.random.default_rng(9)
    x = rng.integers(-8, 8, (60, 6)).astype(np.float64) / 4
    y = rng.integers(-8, 8, (80, 6)).astype(np.float64) / 4 + 0.25
    expected = kernel_distance(x, y).value
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    assert not wide.flags["C_CONTIGUOUS"]
    assert kernel_distance(wide, y[::-1]).value == pytest.approx(expected, rel=1e-12)
    half = kernel_distance(torch.from_numpy(x).half(), torch.from_numpy(y).half()).value
    assert half == pytest.approx(expected, rel=1e-5)
    mixed = kernel_distance(x.astype(np.float32), y).value
    assert mixed == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_measured_raises() -> None:
    x = np.random.default_rng(10).standard_normal((10, 3))
    for bad, message in (
        (x[:1], "at least 2 rows, got 1"),
        (x[:0], "at least 2 rows, got 0"),
        (x[:, :2], "same number of columns"),
        (np.where(x > 1, np.nan, x), "NaN or infinite"),
        (np.where(x > 1, np.inf, x), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            kernel_distance(x, bad)
    options: tuple[tuple[dict[str, Any], str], ...] = (
        ({"kernel": "rfb"}, "polynomial, rbf"),
        ({"kernel": "rbf", "bandwidth": 0.0}, "bandwidth must be positive"),
        ({"estimator": "linar"}, "'linar'"),
        ({"estimator": "block", "kernel": "cmmd"}, "V-statistic"),
        ({"estimator": "block", "permutations": 9}, "estimator='full'"),
        ({"estimator": "block", "block_size": 6}, r"2\.\.5"),
        ({"estimator": "linear", "block_size": 6}, "must be 2"),
        ({"block_size": 6}, "block_rows"),
        ({"permutations": -1}, "permutations"),
        ({"block_rows": 0}, "block_rows"),
        ({"level": 1.0}, "level"),
        ({"groups_real": [1]}, "groups_real"),
        ({"groups_real": [1] * 10}, "at least 2 groups"),
    )
    for option, message in options:
        with pytest.raises(ValueError, match=message):
            kernel_distance(x, x, **option)
    with pytest.raises(ValueError, match="each once"):
        kernel_distances(x, x, ("rbf", "rbf"))


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 8), st.integers(0, 999))
def test_invariances(n: int, m: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), 0.5 + 2 * rng.standard_normal((m, d))
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    c = 10 * rng.standard_normal(d)
    kernels = ("polynomial", "rbf", "energy")

    def values(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        results = kernel_distances(x, y, kernels, bandwidth=2.0).results
        return np.array([results[k].value for k in kernels])

    base = values(x, y)
    np.testing.assert_allclose(values(y, x), base, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(values(x[::-1], rng.permutation(y)), base, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(values(x @ Q, y @ Q), base, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(values(x + c, y + c)[1:], base[1:], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("case", ["equal", "shifted", "unequal"])
def test_variance_is_that_of_the_statistic(case: str) -> None:
    """Against 400 repetitions; the estimate of a variance from 400 is good to 7 %."""
    n, m, mu = {"equal": (40, 40, 0.0), "shifted": (40, 40, 0.8), "unequal": (25, 70, 0.5)}[case]
    for kernel in ("polynomial", "rbf"):
        rng = np.random.default_rng(11)
        results = [
            kernel_distance(
                rng.standard_normal((n, 6)), mu + rng.standard_normal((m, 6)), kernel, bandwidth=3.0
            )
            for _ in range(400)
        ]
        actual = np.var([r.value for r in results])
        estimate = np.mean([r.variance for r in results if r.variance is not None])
        # At equality negative first-order estimates count as 0, which errs on the safe side.
        low, high = (1.0, 1.7) if case == "equal" else (0.8, 1.25)
        assert low < estimate / actual < high


@pytest.mark.parametrize("shift", [0.0, 0.15, 0.6])
def test_interval_covers(shift: float) -> None:
    d = 8
    M = d * shift**2
    truth = 3 * M / d + 3 * M**2 / d**2 + (M**3 + 6 * M**2 + 3 * M * (d + 2)) / d**3
    rng = np.random.default_rng(12)
    covered = 0
    for _ in range(300):
        x, y = rng.standard_normal((80, d)), shift + rng.standard_normal((60, d))
        ci = kernel_distance(x, y).ci
        assert ci is not None
        covered += truth in ci
    # 99.9 % of binomial(300, 0.95) is at or above 273; at 0 it covers more often than stated.
    assert covered >= 273


def test_grouped_interval_covers_where_the_plain_one_does_not() -> None:
    rng = np.random.default_rng(13)
    d, size, groups = 4, 6, 25
    labels = np.repeat(np.arange(groups), size)
    M, v = d * 0.8**2, 1.0
    truth = 2 * (v * 9 / (v * 9 + 2)) ** (d / 2) * (1 - np.exp(-M / (2 * (9 + 2))))
    hits = {"plain": 0, "grouped": 0}
    for _ in range(200):
        x, y = (
            mu
            + np.sqrt(0.7) * np.repeat(rng.standard_normal((groups, d)), size, axis=0)
            + np.sqrt(0.3) * rng.standard_normal((groups * size, d))
            for mu in (0.0, 0.8)
        )
        plain = kernel_distance(x, y, "rbf", bandwidth=3.0).ci
        grouped = kernel_distance(
            x, y, "rbf", bandwidth=3.0, groups_real=labels, groups_synthetic=labels
        ).ci
        assert plain is not None
        assert grouped is not None
        hits["plain"] += truth in plain
        hits["grouped"] += truth in grouped
    assert hits["plain"] < 160
    assert hits["grouped"] >= 180


@pytest.mark.parametrize("kernel", ["polynomial", "rbf", "cmmd", "energy"])
def test_permutation_statistics_are_those_of_the_relabelled_rows(kernel: str) -> None:
    rng = np.random.default_rng(14)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((15, 3))
    z = np.concatenate([x, y])
    first, second = permutation_masks(20, 15, 25, seed=4)
    null = kernel_splits(z, first, second, [kernel], bandwidth=2.0, block_rows=8)[kernel]
    for r in range(25):
        expected = plain_distance(kernel, z[first[:, r]], z[second[:, r]], 2.0)
        assert null[r] == pytest.approx(expected, rel=1e-8, abs=1e-12)
    observed = kernel_distance(x, y, kernel, bandwidth=2.0, permutations=25, seed=4)
    assert observed.p_value == (1 + (null >= observed.value - 1e-12).sum()) / 26


@pytest.mark.parametrize("data", ["normal", "tied"])
def test_permutation_p_values_are_exact_for_the_family(data: str) -> None:
    """300 null runs: each kernel, and the family over them, at 5 %."""
    rng = np.random.default_rng(15)
    runs = 300
    p = np.empty((runs, 3))
    for r in range(runs):
        z = rng.standard_normal((30, 3)) if data == "normal" else rng.integers(0, 2, (30, 3)) * 1.0
        family = kernel_distances(z[:18], z[18:], ("polynomial", "rbf"), permutations=39, seed=r)
        assert family.p_value is not None
        p[r] = *(family.results[k].p_value for k in ("polynomial", "rbf")), family.p_value
    low, high = stats.binom.ppf([0.0005, 0.9995], runs, 0.05) / runs
    rates = (p <= 0.05).mean(axis=0)
    assert (rates <= high).all()
    if data == "normal":
        assert (rates >= low).all()


def test_grouped_permutations_reach_the_p_value() -> None:
    rng = np.random.default_rng(17)
    labels = np.repeat(np.arange(10), 6)
    runs = 120
    alarms = {"plain": 0, "grouped": 0}
    for r in range(runs):
        x, y = (
            np.repeat(rng.standard_normal((10, 3)), 6, axis=0) + 0.1 * rng.standard_normal((60, 3))
            for _ in range(2)
        )
        options: dict[str, Any] = {"permutations": 39, "seed": r}
        plain = kernel_distance(x, y, "rbf", **options).p_value
        grouped = kernel_distance(
            x, y, "rbf", groups_real=labels, groups_synthetic=labels + 10, **options
        ).p_value
        assert plain is not None
        assert grouped is not None
        alarms["plain"] += plain <= 0.05
        alarms["grouped"] += grouped <= 0.05
    assert alarms["grouped"] <= stats.binom.ppf(0.999, runs, 0.05)
    assert alarms["plain"] > runs / 2


def test_a_real_difference_is_found() -> None:
    rng = np.random.default_rng(17)
    x, y = rng.standard_normal((100, 8)), 0.5 + rng.standard_normal((100, 8))
    family = kernel_distances(x, y, KERNELS, permutations=199)
    assert set(family.p_adjusted.values()) == {1 / 200}
    assert family.p_value == 1 / 200
    assert kernel_distances(x, y, KERNELS).p_value is None
    for estimator in ("block", "linear"):
        p = kernel_distance(x, y, "rbf", estimator=estimator).p_value
        assert p is not None
        assert p < 0.05


@pytest.mark.parametrize("estimator", ["block", "linear"])
def test_block_estimators_are_unbiased_with_an_honest_error(estimator: str) -> None:
    rng = np.random.default_rng(18)
    mu, d = 0.5, 4
    M = d * mu**2
    truth = 3 * M / d + 3 * M**2 / d**2 + (M**3 + 6 * M**2 + 3 * M * (d + 2)) / d**3
    values, variances, covered = [], [], 0
    for seed in range(200):
        x, y = rng.standard_normal((203, d)), mu + rng.standard_normal((161, d))
        r = kernel_distance(x, y, estimator=estimator, seed=seed)
        assert r.ci is not None
        values.append(r.value)
        variances.append(r.variance)
        covered += truth in r.ci
    assert abs(np.mean(values) - truth) < 4 * np.std(values) / np.sqrt(200)
    assert np.mean(variances) == pytest.approx(np.var(values), rel=0.4)
    assert covered >= 178


def test_one_block_of_all_rows_would_be_the_full_estimate() -> None:
    """Two blocks: their mean is that of two full estimates on the halves that the seed makes."""
    rng = np.random.default_rng(19)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((21, 3)) + 1
    r = kernel_distance(x, y, estimator="block", block_size=10, seed=5)
    order = np.random.default_rng(5)
    px, py = order.permutation(30), order.permutation(21)
    halves = [
        kernel_distance(x[a], y[b]).value
        for a, b in zip(np.array_split(px, 2), np.array_split(py, 2), strict=True)
    ]
    assert r.value == pytest.approx(np.mean(halves), rel=1e-10)


@pytest.mark.parametrize("kernel", ["polynomial", "rbf", "energy"])
def test_linear_estimate_is_the_mean_of_its_pairs(kernel: str) -> None:
    rng = np.random.default_rng(29)
    x, y = rng.standard_normal((30, 3)), rng.standard_normal((21, 3)) + 1
    r = kernel_distance(x, y, kernel, estimator="linear", bandwidth=2.0, seed=5)
    order = np.random.default_rng(5)
    a, b = x[order.permutation(30)], y[order.permutation(21)]

    def k(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.diagonal(plain_kernel(kernel, u, v, 2.0))

    x1, x2, y1, y2 = a[:10], a[10:20], b[:10], b[10:20]
    h = k(x1, x2) + k(y1, y2) - k(x1, y2) - k(x2, y1)
    assert r.value == pytest.approx(h.mean(), rel=1e-9)
    assert r.variance == pytest.approx(h.var(ddof=1) / 10, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_splits_equal_the_public_function(dtype: type) -> None:
    rng = np.random.default_rng(20)
    z = relu_like(rng, 90, 12).astype(dtype)
    masks = split_masks(50, 40, 20, 3, seed=2)
    for first, second in masks.values():
        got = kernel_splits(z, first, second, KERNELS, bandwidth=4.0, block_rows=16)
        assert list(got) == list(KERNELS)
        for kernel in KERNELS:
            for r in range(3):
                x, y = z[first[:, r]], z[second[:, r]]
                expected = kernel_distance(x, y, kernel, bandwidth=4.0)
                tolerance = (1e-12 if dtype == np.float64 else 1e-5) * expected.spread
                assert got[kernel][r] == pytest.approx(expected.value, abs=tolerance)
    with pytest.raises(ValueError, match="share no row"):
        kernel_splits(z, first, first)


@pytest.mark.peers
def test_peers_agree(g: tuple[np.ndarray, np.ndarray]) -> None:
    from cleanfid.fid import kernel_distance as clean_fid
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torchmetrics.image.kid import maximum_mean_discrepancy, poly_mmd

    x, y = g
    value = kernel_distance(x, y).value
    peer = kid_features_to_metric(
        torch.from_numpy(x),
        torch.from_numpy(y),
        kid_subsets=1,
        kid_subset_size=3000,
        verbose=False,
    )["kernel_inception_distance_mean"]
    assert peer == pytest.approx(value, rel=1e-9)
    k = [(a @ b.T / 64 + 1) ** 3 for a, b in ((x, x), (x, y), (y, y))]
    torch_value = float(maximum_mean_discrepancy(*(torch.from_numpy(z) for z in k)))
    assert torch_value == pytest.approx(value, rel=1e-9)
    assert float(poly_mmd(torch.from_numpy(x), torch.from_numpy(y))) == pytest.approx(
        value, rel=1e-9
    )
    assert clean_fid(x, y, num_subsets=1, max_subset_size=3000) == pytest.approx(value, rel=1e-9)


@pytest.mark.peers
def test_the_peer_spread_over_subsets_is_no_standard_error() -> None:
    """torch-fidelity's "std" is that of its subsets, not of the value on all rows."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    rng = np.random.default_rng(21)
    draws = [
        kernel_distance(rng.standard_normal((600, 8)), 0.2 + rng.standard_normal((600, 8)))
        for _ in range(60)
    ]
    actual = np.std([r.value for r in draws])
    ours = np.sqrt(np.mean([r.variance for r in draws if r.variance is not None]))
    peer = kid_features_to_metric(
        torch.from_numpy(rng.standard_normal((600, 8))),
        torch.from_numpy(0.2 + rng.standard_normal((600, 8))),
        kid_subsets=50,
        kid_subset_size=100,
        verbose=False,
    )["kernel_inception_distance_std"]
    assert ours == pytest.approx(actual, rel=0.3)
    assert peer > 1.8 * actual


def stream(metric: KernelDistance, x: np.ndarray, y: np.ndarray, parts: int) -> KernelDistance:
    for z, real in ((x, True), (y, False)):
        for batch in np.array_split(z, parts):
            metric.update(batch, real=real)
    return metric


@pytest.mark.parametrize("kernel", ["polynomial", "rbf"])
def test_stream_equals_the_function_and_merges(kernel: str) -> None:
    rng = np.random.default_rng(22)
    x, y = rng.standard_normal((150, 6)), 0.4 + rng.standard_normal((110, 6))
    expected = kernel_distance(x, y, kernel)
    whole = stream(KernelDistance(kernel), x, y, 7)
    assert float(whole.compute()) == pytest.approx(expected.value, rel=1e-12)
    assert whole.result().ci == expected.ci
    left = stream(KernelDistance(kernel), x[:40], y[:90], 3)
    right = stream(KernelDistance(kernel), x[40:], y[90:], 2)
    left.compute()
    left.merge_state(right)
    assert float(left.compute()) == pytest.approx(expected.value, rel=1e-9)


def test_stream_keeps_its_own_copy_of_a_batch() -> None:
    rng = np.random.default_rng(23)
    metric, seen = KernelDistance(), []
    buffer = torch.empty(10, 3, dtype=torch.float64)
    for _ in range(4):
        buffer.copy_(torch.from_numpy(rng.standard_normal((10, 3))))
        seen.append(buffer.numpy().copy())
        metric.update(buffer, real=True)
    y = rng.standard_normal((20, 3))
    metric.update(y, real=False)
    assert float(metric.compute()) == pytest.approx(
        kernel_distance(np.concatenate(seen), y).value, rel=1e-12
    )


def test_block_stream_is_the_mean_over_blocks_whatever_the_batches() -> None:
    rng = np.random.default_rng(24)
    x, y = rng.standard_normal((330, 4)), 0.5 + rng.standard_normal((305, 4))
    blocks = [kernel_distance(x[i : i + 100], y[i : i + 100]).value for i in (0, 100, 200)]
    for parts in (1, 4, 50):
        metric = stream(KernelDistance(estimator="block", block_size=100), x, y, parts)
        assert float(metric.compute()) == pytest.approx(np.mean(blocks), rel=1e-10)
        assert metric.standard_error() == pytest.approx(stats.sem(blocks), rel=1e-6)
    left = stream(KernelDistance(estimator="block", block_size=100), x[:250], y[:250], 2)
    right = stream(KernelDistance(estimator="block", block_size=100), x[250:], y[250:], 1)
    left.merge_state(right)
    # What waited on both sides makes the third block; torchmetrics puts the incoming rows first.
    third = (np.concatenate([z[250:], z[200:250]])[:100] for z in (x, y))
    blocks[2] = kernel_distance(*third).value
    assert float(left.compute()) == pytest.approx(np.mean(blocks), rel=1e-10)
    assert sum(len(t) for t in left.real) == 30


def test_stream_options_and_emptiness() -> None:
    rng = np.random.default_rng(25)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 3)) + 1
    metric = KernelDistance(reset_real_features=False)
    with pytest.raises(ValueError, match="0 real and 0 synthetic"), NOT_UPDATED:
        metric.compute()
    stream(metric, x, y, 2)
    metric.reset()
    metric.update(y, real=False)
    assert float(metric.compute()) == pytest.approx(kernel_distance(x, y).value, rel=1e-12)
    with pytest.raises(ValueError, match="3 columns, got 2"):
        metric.update(x[:, :2], real=False)
    with pytest.raises(ValueError, match="no block of 256 rows"):
        stream(KernelDistance(estimator="block"), x, y, 1).compute()
    wrong: tuple[dict[str, Any], ...] = (
        {"kernel": "rfb"},
        {"estimator": "linear"},
        {"estimator": "block", "kernel": "cmmd"},
        {"estimator": "block", "kernel": "rbf"},
        {"estimator": "block", "block_size": 1},
        {"estimator": "block", "reset_real_features": False},
    )
    for options in wrong:
        with pytest.raises(ValueError, match=r"kernel|estimator|bandwidth|block"):
            KernelDistance(**options)


def test_collection_computes_all_and_shares_states() -> None:
    rng = np.random.default_rng(26)
    x, y = rng.standard_normal((40, 3)), rng.standard_normal((50, 3)) + 1
    collection = MetricCollection(
        {"fd": FrechetDistance(3), "kid": KernelDistance(), "rbf": KernelDistance("rbf")}
    )
    for batch in np.array_split(x, 3):
        collection.update(batch, real=True)
    for batch in np.array_split(y, 3):
        collection.update(batch, real=False)
    values = collection.compute()
    assert float(values["kid"]) == pytest.approx(kernel_distance(x, y).value, rel=1e-12)
    assert float(values["rbf"]) == pytest.approx(kernel_distance(x, y, "rbf").value, rel=1e-12)
    assert set(values) == {"fd", "kid", "rbf"}


RANK = """
import sys
from pathlib import Path

import numpy as np
import torch
from evalsuite.metrics.streaming.kernel import KernelDistance

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
)
data = np.load(folder / "data.npz")
values = []
for m in (90, 70):
    for metric in (KernelDistance(), KernelDistance(estimator="block", block_size=10)):
        for rows, real in ((data["x"], True), (data["y"][:m], False)):
            mine = rows[:70] if rank == 0 else rows[70:]
            if len(mine):
                metric.update(mine, real=real)
        values.append(float(metric.compute()))
(folder / f"values{rank}").write_text(" ".join(map(repr, values)))
torch.distributed.destroy_process_group()
"""


def test_ranks_of_a_process_group_merge_to_the_whole(tmp_path: Path) -> None:
    """In a real gloo group; of 70 synthetic rows the second rank sees none."""
    rng = np.random.default_rng(27)
    x, y = rng.standard_normal((130, 6)), 0.5 + rng.standard_normal((90, 6))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    texts = [(tmp_path / f"values{rank}").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1]
    expected = []
    for m in (90, 70):
        blocks = [kernel_distance(x[i : i + 10], y[i : i + 10]).value for i in range(0, m, 10)]
        expected += [kernel_distance(x, y[:m]).value, np.mean(blocks)]
    assert [float(v) for v in texts[0].split()] == pytest.approx(expected, rel=1e-12)
