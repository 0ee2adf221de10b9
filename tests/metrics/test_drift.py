"""Drift of single columns: hand formulas, scipy, exact p-values under ties, intervals."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import jensenshannon

from evalsuite.metrics.drift import categorical, univariate
from evalsuite.metrics.drift._common import Measure
from evalsuite.metrics.drift.categorical import (
    categorical_drift,
    chi_square_test,
    jensen_shannon_labels,
    psi_labels,
    total_variation,
)
from evalsuite.metrics.drift.univariate import (
    anderson_darling_test,
    cramer_von_mises_test,
    jensen_shannon,
    ks_test,
    numeric_drift,
    psi,
    wasserstein_drift,
)

NUMERIC = [
    ks_test,
    cramer_von_mises_test,
    anderson_darling_test,
    wasserstein_drift,
    jensen_shannon,
    psi,
]
BY_PERMUTATION = [cramer_von_mises_test, anderson_darling_test, wasserstein_drift]
LABELS = [total_variation, jensen_shannon_labels, psi_labels, chi_square_test]
values = hnp.arrays(
    np.float64, st.integers(2, 30), elements=st.integers(-20, 20).map(lambda v: v / 4)
)


def band(runs: int, rate: float, level: float = 0.999) -> tuple[float, float]:
    tail = (1 - level) / 2
    low, high = stats.binom.ppf([tail, 1 - tail], runs, rate)
    return low / runs, high / runs


def ks_statistic(x: np.ndarray, y: np.ndarray) -> float:
    grid = np.concatenate([x, y])
    return max(abs(np.mean(x <= t) - np.mean(y <= t)) for t in grid)


# --- statistics ----------------------------------------------------------------------------------


@pytest.mark.peers
@pytest.mark.parametrize(("m", "n"), [(7, 9), (50, 50), (100, 333), (1000, 800), (2000, 2000)])
def test_ks_equals_scipy_exact(m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    x, y = rng.normal(size=m), rng.normal(0.1, 1.2, size=n)
    ours, peer = ks_test(x, y), stats.ks_2samp(x, y, method="exact")
    assert ours.p_method == "exact"
    assert float(ours) == pytest.approx(peer.statistic, rel=1e-12)
    assert ours.p_value == pytest.approx(peer.pvalue, rel=1e-9)


@pytest.mark.peers
def test_ks_beyond_the_exact_sizes_is_the_asymptotic_law() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=3000), rng.normal(size=2500)
    ours = ks_test(x, y)
    assert ours.p_method == "asymptotic"
    assert ours.p_value == pytest.approx(stats.ks_2samp(x, y, method="asymp").pvalue, rel=1e-9)


def test_ks_tiny_p_value_keeps_its_digits() -> None:
    # Disjoint samples: two of the C(80, 40) relabellings are as extreme.
    p = ks_test(np.arange(40.0), 100 + np.arange(40.0)).p_value
    assert p == pytest.approx(2 / stats.binom.pmf(40, 80, 0.5) / 2.0**80, rel=1e-9)
    unequal = ks_test(np.arange(40.0), 100 + np.arange(30.0)).p_value
    assert unequal == pytest.approx(2 / stats.binom.pmf(30, 70, 0.5) / 2.0**70, rel=1e-9)


@pytest.mark.peers
def test_statistics_equal_scipy() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.gamma(2, size=70), rng.gamma(2.4, size=110)
    w = wasserstein_drift(x, y, permutations=19)
    assert w.statistic == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-12)
    assert float(w) == pytest.approx(w.statistic / x.std(ddof=1), rel=1e-12)
    cvm = cramer_von_mises_test(x, y, permutations=19)
    assert cvm.statistic == pytest.approx(stats.cramervonmises_2samp(x, y).statistic, rel=1e-10)


def test_anderson_darling_is_scholz_and_stephens_equation_6() -> None:
    rng = np.random.default_rng(2)
    x, y = np.round(rng.normal(size=13), 1), np.round(rng.normal(0.5, size=21), 1)
    z = np.sort(np.concatenate([x, y]))
    total = z.size
    expected = 0.0
    for sample in (x, y):
        for value in np.unique(z)[:-1]:
            at, below = np.sum(z == value), np.sum(z <= value)
            own = np.sum(sample <= value)
            expected += (
                at
                / total
                * (total * own - sample.size * below) ** 2
                / (below * (total - below))
                / sample.size
            )
    test = anderson_darling_test(x, y, permutations=19)
    assert test.statistic == pytest.approx(expected, rel=1e-12)
    assert float(test) == pytest.approx(np.sqrt(expected * total / (13 * 21)), rel=1e-12)


@pytest.mark.peers
def test_anderson_darling_agrees_with_scipy_permutation() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=25), rng.normal(0.6, size=30)
    peer = stats.anderson_ksamp(
        [x, y], variant="right", method=stats.PermutationMethod(n_resamples=4999, rng=1)
    )
    ours = anderson_darling_test(x, y, permutations=4999, seed=2)
    assert ours.p_value == pytest.approx(peer.pvalue, abs=0.01)


@pytest.mark.peers
def test_cells_equal_scipy() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 6, 300), rng.integers(0, 6, 200) // 2 * 2
    p, q = np.bincount(a, minlength=6) / 300, np.bincount(b, minlength=6) / 200
    js = jensen_shannon_labels(a, b, permutations=19)
    assert float(js) == pytest.approx(jensenshannon(p, q, base=2) ** 2, rel=1e-12)
    assert float(jensen_shannon(a, b, permutations=19)) == pytest.approx(float(js), rel=1e-12)
    tv = total_variation(a, b, permutations=19)
    assert float(tv) == pytest.approx(np.abs(p - q).sum() / 2, rel=1e-12)
    chi = chi_square_test(a, b)
    table = np.array([np.bincount(a, minlength=6), np.bincount(b, minlength=6)])
    peer = stats.chi2_contingency(table, correction=False)
    assert chi.statistic == pytest.approx(peer.statistic, rel=1e-12)
    assert chi.p_value == pytest.approx(peer.pvalue, rel=1e-9)
    assert float(chi) == pytest.approx(stats.contingency.association(table, "cramer"), rel=1e-12)


def test_psi_by_hand() -> None:
    # Shares with half a count in each cell: (30.5, 70.5)/101 against (60.5, 40.5)/101.
    a, b = ["x"] * 30 + ["y"] * 70, ["x"] * 60 + ["y"] * 40
    p, q = np.array([30.5, 70.5]) / 101, np.array([60.5, 40.5]) / 101
    expected = float(np.sum((p - q) * np.log(p / q)))
    assert float(psi_labels(a, b)) == pytest.approx(expected, rel=1e-12)
    test = psi(np.array([0] * 30 + [1] * 70), np.array([0] * 60 + [1] * 40))
    assert float(test) == pytest.approx(expected, rel=1e-12)
    assert test.null_mean == pytest.approx(0.02)
    assert test.critical == pytest.approx(stats.chi2.ppf(0.95, 1) * 0.02)
    assert test.cells == 2


def test_psi_of_equal_shares_is_zero_at_any_sizes() -> None:
    assert float(psi_labels(["a", "b", "b"] * 5, ["a", "b", "b"] * 900, permutations=1)) == 0.0


def test_psi_with_borders_of_ones_own() -> None:
    x, y = np.arange(10.0), np.arange(10.0) + 5
    test = psi(x, y, edges=[4.0, 9.0], permutations=19)
    p, q = (np.array([5, 5, 0]) + 0.5) / 11.5, (np.array([0, 5, 5]) + 0.5) / 11.5
    assert float(test) == pytest.approx(np.sum((p - q) * np.log(p / q)), rel=1e-12)
    with pytest.raises(ValueError, match="ascend"):
        psi(x, y, edges=[4.0, 4.0])
    with pytest.raises(ValueError, match="bins"):
        psi(x, y, bins=1)


def test_pooled_cells_see_what_reference_deciles_miss() -> None:
    # Real is one value: its deciles are all 5, and everything below falls into the first cell.
    below = numeric_drift(np.full(50, 5.0), np.linspace(0, 4, 60))
    assert below.psi > below.psi_critical
    assert below.js == pytest.approx(1.0)


# --- p-values ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ([0, 0, 1, 2], [1, 2, 2, 3, 3]),
        ([0, 1, 1, 1, 5], [1, 1, 2]),
        ([0, 0, 0], [0, 0, 0, 1]),
        ([1, 2, 3, 4], [2.5, 5, 6, 7, 8]),
        ([1, 1, 2, 2, 3, 3], [1, 2, 2, 2, 3, 4]),
    ],
)
def test_ks_p_value_under_ties_is_the_enumeration_of_all_relabellings(
    x: list[float], y: list[float]
) -> None:
    pooled, m = np.array(x + y), len(x)
    observed = ks_statistic(np.array(x), np.array(y))
    hits = []
    for chosen in combinations(range(pooled.size), m):
        mask = np.zeros(pooled.size, dtype=bool)
        mask[list(chosen)] = True
        hits.append(ks_statistic(pooled[mask], pooled[~mask]) >= observed - 1e-12)
    assert ks_test(x, y).p_value == pytest.approx(np.mean(hits), rel=1e-10)


def test_ks_under_ties_keeps_alpha_where_the_textbook_law_is_blind() -> None:
    rng = np.random.default_rng(7)
    runs, alpha = 1000, 0.05
    ours, textbook = 0, 0
    for _ in range(runs):
        x, y = rng.poisson(1.0, 80), rng.poisson(1.0, 100)
        ours += ks_test(x, y).p_value <= alpha
        textbook += stats.ks_2samp(x, y, method="asymp").pvalue <= alpha
    low, high = band(runs, alpha)
    assert low <= ours / runs <= high
    assert textbook / runs < low


@pytest.mark.parametrize("test", BY_PERMUTATION)
def test_permutation_p_values_keep_alpha_under_ties(test: Callable) -> None:
    rng = np.random.default_rng(8)
    runs, alpha = 500, 0.1
    hits = 0
    for r in range(runs):
        x, y = rng.poisson(2.0, 30), rng.poisson(2.0, 50)
        hits += test(x, y, permutations=99, seed=r).p_value <= alpha
    low, high = band(runs, alpha)
    assert low <= hits / runs <= high


@pytest.mark.parametrize("test", [*BY_PERMUTATION, ks_test])
def test_groups_move_whole(test: Callable) -> None:
    # Ten copies of each of 12 values a side: rows are no evidence, groups are.
    rng = np.random.default_rng(9)
    runs, alpha = 150, 0.1
    labels = np.repeat(np.arange(12), 10)
    rows = grouped = 0
    for r in range(runs):
        x, y = (np.repeat(rng.normal(size=12), 10) for _ in range(2))
        kw = {"permutations": 99, "seed": r}
        rows += test(x, y, **kw).p_value <= alpha
        grouped += (
            test(
                x,
                y,
                groups_real=[f"r{g}" for g in labels],
                groups_synthetic=[f"s{g}" for g in labels],
                **kw,
            ).p_value
            <= alpha
        )
    low, high = band(runs, alpha)
    assert low <= grouped / runs <= high
    assert rows / runs > 0.4


def test_groups_are_checked() -> None:
    with pytest.raises(ValueError, match="groups_synthetic is missing"):
        ks_test([1, 2], [3, 4], groups_real=[0, 1])
    with pytest.raises(ValueError, match="2 rows, got 3"):
        ks_test([1, 2], [3, 4], groups_real=[0, 1, 2], groups_synthetic=[0, 1])
    with pytest.raises(ValueError, match="at least 2 groups"):
        ks_test([1, 2], [3, 4], groups_real=[0, 0], groups_synthetic=[1, 2])


@pytest.mark.parametrize(("m", "n"), [(150, 150), (1000, 300)])
def test_psi_null_mean_and_critical_value(m: int, n: int) -> None:
    rng = np.random.default_rng(m)
    runs = 800
    found = [psi(rng.normal(size=m), rng.normal(size=n), permutations=1) for _ in range(runs)]
    assert np.mean([float(f) for f in found]) == pytest.approx(found[0].null_mean, rel=0.06)
    over = np.mean([float(f) > f.critical for f in found])
    low, high = band(runs, 0.05)
    assert low <= over <= high


def test_fixed_psi_limit_fires_on_nothing_at_small_n() -> None:
    rng = np.random.default_rng(10)
    found = [psi(rng.normal(size=100), rng.normal(size=100), permutations=1) for _ in range(100)]
    assert np.mean([float(f) > 0.1 for f in found]) > 0.8
    assert np.mean([float(f) > f.critical for f in found]) < 0.15


def test_chi_square_with_rare_labels_keeps_alpha() -> None:
    rng = np.random.default_rng(11)
    shares = np.array([0.5, 0.3, 0.1] + [0.1 / 40] * 40)
    runs, alpha = 800, 0.05
    tests = [
        chi_square_test(rng.choice(43, 200, p=shares), rng.choice(43, 120, p=shares))
        for _ in range(runs)
    ]
    assert "rare" in tests[0].p_method
    low, high = band(runs, alpha)
    assert low <= np.mean([t.p_value <= alpha for t in tests]) <= high


def test_chi_square_of_unique_labels_says_nothing() -> None:
    test = chi_square_test([f"r{i}" for i in range(30)], [f"s{i}" for i in range(30)])
    assert "permutation" in test.p_method
    assert test.p_value == 1.0


@pytest.mark.parametrize("test", [*NUMERIC, *LABELS])
def test_p_value_finds_a_gap_and_repeats(test: Callable) -> None:
    rng = np.random.default_rng(12)
    x, y = rng.integers(0, 8, 200), rng.integers(2, 9, 200)
    found = test(x, y, seed=3)
    assert found.p_value <= 0.001
    assert found == test(x, y, seed=3)
    assert found.ci.low > 0
    assert float(found) in found.ci


# --- intervals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.5])
def test_numeric_intervals_cover(shift: float) -> None:
    rng = np.random.default_rng(13)
    runs, n = 200, 200
    grid = np.linspace(-8, 8, 20001)
    gap = np.abs(stats.norm.cdf(grid) - stats.norm.cdf(grid - shift))
    truth = {"w1": np.trapezoid(gap, grid), "mean": shift}
    hits = {"w1": 0, "mean": 0, "w1 upper": 0}
    for r in range(runs):
        x, y = rng.normal(size=n), rng.normal(shift, size=n)
        found = numeric_drift(x, y, seed=r)
        hits["w1"] += truth["w1"] in found.wasserstein_ci
        hits["w1 upper"] += truth["w1"] <= found.wasserstein_ci.high
        hits["mean"] += shift in found.mean_shift_ci
    least = band(runs, 0.95)[0]
    assert hits["w1"] / runs >= least
    assert hits["w1 upper"] / runs >= band(runs, 0.975)[0] - 0.02
    assert hits["mean"] / runs >= least


@pytest.mark.parametrize("seed", range(20))
def test_the_mean_shift_interval_holds_zero_where_the_t_test_keeps_it(seed: int) -> None:
    x, y = np.random.default_rng(seed).standard_t(3, (2, 40)) + np.array([[0.0], [0.7]])
    statistic = abs(stats.ttest_ind(x, y, equal_var=False).statistic)
    ends = [
        0
        in numeric_drift(
            x, y, level=2 * float(stats.t.cdf(statistic * factor, 39)) - 1
        ).mean_shift_ci
        for factor in (0.999, 1.001)
    ]
    assert ends == [False, True]


def test_the_mean_shift_interval_of_a_handful_of_values_is_finite() -> None:
    found = numeric_drift([0.0, 0.0, 9.0], [5.0, 6.0, 7.0], level=0.99).mean_shift_ci
    assert np.isfinite([found.low, found.high]).all()
    assert found.method.endswith("Student")


@pytest.mark.parametrize("test", [total_variation, jensen_shannon_labels, psi_labels])
@pytest.mark.parametrize(
    "other", [(0.4, 0.3, 0.2, 0.1), (0.36, 0.3, 0.2, 0.14), (0.1, 0.2, 0.3, 0.4)]
)
def test_label_intervals_cover(test: Callable, other: tuple[float, ...]) -> None:
    rng = np.random.default_rng(14)
    p, q = np.array([0.4, 0.3, 0.2, 0.1]), np.array(other)
    truth = {
        total_variation: np.abs(p - q).sum() / 2,
        jensen_shannon_labels: float(jensenshannon(p, q, base=2)) ** 2,
        psi_labels: float(((p - q) * np.log(p / q)).sum()),
    }[test]
    runs = 250
    hits = 0
    for r in range(runs):
        a, b = rng.choice(4, 200, p=p), rng.choice(4, 300, p=q)
        ci = test(a, b, permutations=1, seed=r).ci
        hits += ci.low - 1e-15 <= truth <= ci.high
    assert hits / runs >= band(runs, 0.95)[0]


@pytest.mark.parametrize(
    "test", [ks_test, cramer_von_mises_test, anderson_darling_test, wasserstein_drift]
)
def test_upper_end_comes_from_the_slope(test: Callable) -> None:
    """The delta method's standard error against that of a plain bootstrap, far from zero."""
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=200), rng.normal(1.0, 1.3, size=200)
    found = test(x, y, permutations=1)
    draws = [
        float(test(rng.choice(x, 200), rng.choice(y, 200), permutations=1)) for _ in range(150)
    ]
    half = found.ci.high - float(found)
    assert half == pytest.approx(1.96 * np.std(draws), rel=0.25)


@pytest.mark.parametrize("name", ["sup", "w1", "l2", "ad", "tv", "js", "psi", "cramer"])
def test_slopes_and_norms_are_those_of_the_distance(name: str) -> None:
    """Central differences for the slopes; for the norm, the distance of two near histograms."""
    rng = np.random.default_rng(20)
    m, n, k = 90, 60, 7
    pooled = rng.dirichlet(np.full(k, 5.0))
    tilt = rng.normal(size=k) * pooled
    tilt -= pooled * tilt.sum()

    def made(h: float) -> tuple[Measure, np.ndarray, np.ndarray]:
        # The weighted mean of the two is the pooled histogram, as it is for counts.
        p, q = pooled + h * tilt * n / (m + n), pooled - h * tilt * m / (m + n)
        measure = {
            "sup": univariate._sup,
            "w1": lambda: univariate._w1(np.array([0.0, 1, 3, 3.5, 6, 7, 9])),
            "l2": lambda: univariate._l2(m, n, pooled, tail_weight=False),
            "ad": lambda: univariate._l2(m, n, pooled, tail_weight=True),
            "tv": categorical._tv,
            "js": lambda: categorical._js_root((p + q) / 2),
            "psi": lambda: categorical._psi_root(m, n, pooled),
            "cramer": lambda: categorical._cramer(m, n, pooled),
        }[name]()
        return measure, p, q

    measure, p, q = made(0.4)
    by_real, by_synthetic = measure.slopes(p, q)
    for cell in range(k - 1):
        # Mass moves between two cells, so that the sums stay 1.
        step = np.zeros(k)
        step[cell], step[cell + 1] = 1e-6, -1e-6
        rise = (measure.distance(p + step, q) - measure.distance(p - step, q)) / 2e-6
        assert by_real[cell] - by_real[cell + 1] == pytest.approx(rise, rel=1e-4, abs=1e-6)
        rise = (measure.distance(p, q + step) - measure.distance(p, q - step)) / 2e-6
        assert by_synthetic[cell] - by_synthetic[cell + 1] == pytest.approx(
            rise, rel=1e-4, abs=1e-6
        )
    measure, p, q = made(1e-4)
    assert measure.norm(p - q) == pytest.approx(measure.distance(p, q), rel=1e-3)
    stack = np.stack([p, q])
    np.testing.assert_allclose(
        measure.distance(stack, stack[::-1])[0], measure.distance(p, q), rtol=1e-12
    )


def test_grouped_interval_is_wider_where_groups_repeat() -> None:
    rng = np.random.default_rng(16)
    x, y = np.repeat(rng.normal(size=40), 25), np.repeat(rng.normal(size=40), 25)
    labels = np.repeat(np.arange(40), 25)
    kw = {"groups_real": [f"r{g}" for g in labels], "groups_synthetic": [f"s{g}" for g in labels]}
    plain, grouped = numeric_drift(x, y), numeric_drift(x, y, **kw)
    a, b = plain.mean_shift_ci, grouped.mean_shift_ci
    assert (b.high - b.low) / (a.high - a.low) == pytest.approx(5, rel=0.1)  # sqrt(25)
    a, b = plain.wasserstein_ci, grouped.wasserstein_ci
    assert b.high - plain.wasserstein > 3 * (a.high - plain.wasserstein)
    assert b.low == 0.0 < a.low
    each_its_own = {"groups_real": np.arange(1000), "groups_synthetic": 1000 + np.arange(1000)}
    same = numeric_drift(x, y, **each_its_own)
    assert same.mean_shift_ci.high == pytest.approx(plain.mean_shift_ci.high, rel=1e-3)
    assert same.wasserstein_ci.high == pytest.approx(plain.wasserstein_ci.high, rel=1e-2)


# --- identities ----------------------------------------------------------------------------------


@settings(deadline=None)
@given(x=values, shift=st.integers(-8, 8).map(lambda v: v / 4))
def test_a_shifted_copy_has_moved_by_the_shift(x: np.ndarray, shift: float) -> None:
    found = numeric_drift(x, x + shift)
    assert found.wasserstein_raw == pytest.approx(abs(shift), abs=1e-12)
    assert found.mean_shift * found.scale == pytest.approx(shift, abs=1e-12)
    if np.ptp(x) > 0:
        assert found.scale_of == "real"
        assert found.sd_ratio == pytest.approx(1.0)


@settings(max_examples=60, deadline=None)
@given(x=values, y=values, scale=st.integers(1, 40), shift=st.integers(-100, 100))
def test_effects_ignore_units_and_order(
    x: np.ndarray, y: np.ndarray, scale: float, shift: float
) -> None:
    before = numeric_drift(x, y)
    after = numeric_drift((x * scale + shift)[::-1], np.roll(y, 1) * scale + shift)
    for name in ("ks", "ks_p", "wasserstein", "mean_shift", "psi", "js", "wasserstein_null"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(x=values, y=values)
def test_swapping_the_sides(x: np.ndarray, y: np.ndarray) -> None:
    ab, ba = numeric_drift(x, y), numeric_drift(y, x)
    assert ab.ks == ba.ks
    assert ab.ks_p == pytest.approx(ba.ks_p, rel=1e-9)
    assert ab.wasserstein_raw == pytest.approx(ba.wasserstein_raw, abs=1e-12)
    assert ab.mean_shift * ab.scale == pytest.approx(-ba.mean_shift * ba.scale, abs=1e-12)
    assert ab.js == pytest.approx(ba.js, abs=1e-12)
    assert ab.ks_p == pytest.approx(ks_test(np.exp(x), np.exp(y)).p_value, rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(x=values, y=values)
def test_ks_statistic_and_bounds(x: np.ndarray, y: np.ndarray) -> None:
    found = numeric_drift(x, y)
    assert found.ks == pytest.approx(ks_statistic(x, y), abs=1e-12)
    assert 0 < found.ks_p <= 1
    assert 0 <= found.js <= 1 + 1e-12
    assert 0 <= found.wasserstein_ci.low <= found.wasserstein <= found.wasserstein_ci.high


def test_numeric_drift_equals_the_single_functions() -> None:
    rng = np.random.default_rng(17)
    x, y = rng.normal(size=600), rng.normal(0.2, 1.4, size=900)
    found = numeric_drift(x, y)
    ks, w = ks_test(x, y), wasserstein_drift(x, y, permutations=1)
    assert (found.ks, found.ks_p, found.ks_method) == (float(ks), ks.p_value, ks.p_method)
    assert found.p_value == found.ks_p
    assert (found.wasserstein, found.wasserstein_ci) == (float(w), w.ci)
    assert found.wasserstein_raw == w.statistic
    stability = psi(x, y, permutations=1)
    assert (found.psi, found.psi_null_mean, found.psi_critical) == pytest.approx(
        (float(stability), stability.null_mean, stability.critical)
    )
    divergence = jensen_shannon(x, y, permutations=1)
    assert found.js == pytest.approx(float(divergence))
    assert (found.psi_ci, found.js_ci) == (stability.ci, divergence.ci)
    # 1,500 values: both look at 512 of them, and the interval is of what they show.
    assert found.ks_ci == ks.ci
    assert found.ks_ci.low < found.ks < found.ks_ci.high
    assert found.mean_shift == pytest.approx((y.mean() - x.mean()) / x.std(ddof=1))
    assert found.sd_ratio == pytest.approx(y.std(ddof=1) / x.std(ddof=1))


def test_wasserstein_by_chance_alone() -> None:
    rng = np.random.default_rng(18)
    found = [numeric_drift(rng.normal(size=120), rng.normal(size=60)) for _ in range(200)]
    by_chance = np.mean([f.wasserstein for f in found])
    assert by_chance == pytest.approx(np.mean([f.wasserstein_null for f in found]), rel=0.06)


# --- hard input ----------------------------------------------------------------------------------


def test_one_constant_on_both_sides() -> None:
    found = numeric_drift(np.full(30, 0.1), np.full(20, 0.1))
    assert (found.ks, found.ks_p, found.wasserstein, found.psi, found.js) == (0, 1.0, 0, 0, 0)
    assert (found.scale, found.scale_of, found.sd_ratio) == (1.0, "none", None)
    assert found.mean_shift == 0.0


def test_constant_real_is_measured_in_the_pooled_unit() -> None:
    found = numeric_drift(np.full(30, 0.1), np.r_[np.full(15, 0.1), np.full(15, 0.3)])
    assert found.scale_of == "pooled"
    assert found.wasserstein_raw == pytest.approx(0.1)
    assert np.isfinite([found.wasserstein, found.mean_shift, found.psi]).all()
    assert found.sd_ratio is None


def test_large_means_keep_the_digits() -> None:
    rng = np.random.default_rng(19)
    x, y = rng.integers(0, 50, 200) / 8, rng.integers(5, 60, 200) / 8
    near, far = numeric_drift(x, y), numeric_drift(x + 2.0**30, y + 2.0**30)
    assert far.wasserstein == pytest.approx(near.wasserstein, rel=1e-12)
    assert far.sd_ratio == pytest.approx(near.sd_ratio, rel=1e-12)


def test_kinds_of_arrays_give_the_same() -> None:
    x, y = np.arange(12) % 7, np.arange(15) % 5
    expected = numeric_drift(x.astype(np.float64), y.astype(np.float64))
    wide = np.repeat(x, 2).astype(np.float32)
    for a, b in [
        (x, y),
        (x.tolist(), y.tolist()),
        (torch.tensor(x), torch.tensor(y, dtype=torch.float32, requires_grad=True)),
        (x.astype(np.float16), y.astype(np.uint8)),
        (wide[::2], y),
    ]:
        assert numeric_drift(a, b) == expected


@pytest.mark.parametrize("test", NUMERIC)
@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        ([], ValueError, "at least 1"),
        ([1.0, np.nan], ValueError, r"1 NaN or infinite values \(first at \[1\]\)"),
        ([np.inf], ValueError, "infinite"),
        ([[1.0]], ValueError, r"shape \(1, 1\)"),
        (["a"], TypeError, "categorical_drift"),
        ([True], TypeError, "categorical_drift"),
        ([1j], TypeError, "complex"),
    ],
)
def test_refuses(test: Callable, x: list, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        test(x, [1.0, 2.0])
    with pytest.raises(error, match=message):
        test([1.0, 2.0], x)


def test_refuses_settings() -> None:
    with pytest.raises(ValueError, match="at least 2 value"):
        numeric_drift([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="level"):
        numeric_drift([1.0, 2.0], [1.0, 2.0], level=1.0)
    with pytest.raises(ValueError, match="permutations"):
        wasserstein_drift([1.0, 2.0], [1.0, 2.0], permutations=0)


@pytest.mark.parametrize("test", NUMERIC)
def test_one_value_a_side(test: Callable) -> None:
    assert test([1.0], [2.0]).p_value == 1.0
    assert float(test([1.0], [1.0])) == 0.0


# --- labels --------------------------------------------------------------------------------------


def test_labels_that_came_and_went() -> None:
    found = categorical_drift(["cat"] * 30 + ["dog"] * 70, ["dog"] * 35 + ["emu"] * 15)
    assert (found.unseen, found.vanished, found.categories) == (("emu",), ("cat",), 3)
    assert found.total_variation == pytest.approx(0.3)
    assert (found.n_real, found.n_synthetic) == (100, 50)
    assert found.p_value < 1e-4
    disjoint = categorical_drift(["a"] * 20, ["b"] * 30)
    assert disjoint.total_variation == 1.0
    assert disjoint.jensen_shannon == pytest.approx(1.0)
    assert disjoint.chi_square == pytest.approx(50.0)
    labels = list("aab") * 9, list("abb") * 8
    both = categorical_drift(*labels)
    assert both.jensen_shannon_ci == jensen_shannon_labels(*labels, permutations=1).ci
    assert both.psi_ci == psi_labels(*labels, permutations=1).ci


def test_identical_labels() -> None:
    found = categorical_drift(["a"] * 5 + ["b"] * 5, ["a"] * 50 + ["b"] * 50)
    assert (found.total_variation, found.jensen_shannon, found.p_value) == (0, 0, 1.0)
    assert found.total_variation_ci.low == 0.0
    assert found.total_variation_ci.high > 0.2  # ten labels say little
    one = categorical_drift(["a"] * 3, ["a"] * 4)
    assert (one.p_value, one.p_method, one.psi_critical) == (1.0, "one category only", 0.0)


def test_a_flag_is_not_a_number_and_a_digit_is_not_one_either() -> None:
    assert categorical_drift([True, False], [1, 0]).total_variation == 1.0
    assert categorical_drift(["1", "0"], [1, 0]).total_variation == 1.0
    assert categorical_drift([True, False], np.array([True, False])).total_variation == 0.0


@pytest.mark.parametrize("test", LABELS)
def test_labels_refuse(test: Callable) -> None:
    with pytest.raises(ValueError, match="no labels"):
        test([], ["a"])
    for hole in (None, float("nan"), np.datetime64("NaT")):
        with pytest.raises(ValueError, match=r"synthetic has 1 missing labels \(first at \[1\]\)"):
            test(["a"], ["a", hole])
    with pytest.raises(TypeError, match="one string"):
        test("abc", ["a"])


@given(
    a=st.lists(st.sampled_from("abcd"), min_size=1), b=st.lists(st.sampled_from("abcd"), min_size=1)
)
@settings(max_examples=50, deadline=None)
def test_label_bounds(a: list[str], b: list[str]) -> None:
    found = categorical_drift(a, b, permutations=9)
    assert 0 <= found.total_variation <= 1
    assert found.total_variation in found.total_variation_ci
    # Pinsker and its kin: divergence in bits is at most the total variation.
    assert found.jensen_shannon <= found.total_variation + 1e-12
    assert 0 < found.p_value <= 1
    back = categorical_drift(b, a, permutations=9)
    assert back.jensen_shannon == pytest.approx(found.jensen_shannon, abs=1e-12)
    assert back.unseen == found.vanished or set(back.unseen) == set(found.vanished)


def test_closed_form_laws_are_withheld_where_rows_come_in_groups() -> None:
    rng = np.random.default_rng(0)
    x, y = (np.repeat(rng.standard_normal(40), 3) for _ in range(2))
    names = [[f"{side}{i // 3}" for i in range(120)] for side in "ab"]
    grouped = numeric_drift(x, y, groups_real=names[0], groups_synthetic=names[1])
    assert (grouped.psi_null_mean, grouped.psi_critical, grouped.wasserstein_null) == (None,) * 3
    index = psi(x, y, groups_real=names[0], groups_synthetic=names[1])
    assert (index.null_mean, index.critical) == (None, None)
    alone = [[f"{side}{i}" for i in range(120)] for side in "ab"]
    single = numeric_drift(x, y, groups_real=alone[0], groups_synthetic=alone[1])
    assert single.psi_critical == numeric_drift(x, y).psi_critical
