"""Mode tests: collapse and missing modes are found, named and sized; real data raises no alarm."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist, pdist

from evalsuite.metrics.distribution.modes import (
    _collisions,
    _evenness,
    _hit_histogram,
    mode_tests,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def clusters(shares: list[float], n: int, seed: int, d: int = 6) -> np.ndarray:
    """Well-separated clusters with the given shares."""
    rng = np.random.default_rng(seed)
    label = rng.choice(len(shares), n, p=shares)
    return 8.0 * np.eye(len(shares), d)[label] + 0.5 * rng.standard_normal((n, d))


# Pieces


def test_evenness_closed_forms() -> None:
    even, gini, never = _evenness(np.full(8, 3))
    assert (even, gini, never) == pytest.approx((1.0, 0.0, 0.0))
    even, gini, never = _evenness(np.array([0, 0, 12, 0]))
    assert (even, gini, never) == pytest.approx((1 / 4, 3 / 4, 3 / 4))
    even, gini, never = _evenness(np.array([5, 5, 0, 0]))
    assert (even, gini, never) == pytest.approx((1 / 2, 1 / 2, 1 / 2))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 20), min_size=2, max_size=30).filter(sum))
def test_gini_is_the_mean_difference(hits: list[int]) -> None:
    x = np.array(hits)
    expected = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert _evenness(x)[1] == pytest.approx(expected, abs=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(2, 40),
    st.integers(1, 4),
    st.sampled_from([0.0, 1.0, 2.0, 1.5]),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 10**6),
)
def test_collisions_are_those_of_brute_force(
    n: int, d: int, threshold: float, dtype: torch.dtype, seed: int
) -> None:
    # Integers, so that many distances are equal to the threshold and many rows to each other.
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (n, d)).astype(float)
    sets = rng.random((n, 3)) < 0.6
    pairs, each = _collisions(torch.from_numpy(x).to(dtype), threshold, sets)
    near = cdist(x, x) <= threshold
    np.fill_diagonal(near, False)
    for c in range(3):
        assert pairs[c] == near[np.ix_(sets[:, c], sets[:, c])].sum() / 2
    np.testing.assert_array_equal(each[sets[:, 1]], near[sets[:, 1]][:, sets[:, 1]].sum(axis=1))


def test_nearest_real_is_found_also_where_the_list_ends() -> None:
    # The reference is a twentieth of the real rows: lists of 32 often hold none of it.
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((600, 5)), rng.standard_normal((30, 5))
    order = rng.permutation(600)
    a, b = np.zeros((2, 600, 2), bool)
    a[order[:30]], b[order[30:60]] = True, True
    drawn = np.ones((30, 2), bool)
    second = rng.random((60, 19)) < 0.5
    got = _hit_histogram(
        torch.from_numpy(x),
        torch.from_numpy(y),
        a,
        b,
        drawn,
        second=second,
        source=np.arange(30),
        level=0.95,
    )
    ref = x[a[:, 0]]
    for name, rows in (("value", y), ("floor", x[b[:, 0]])):
        hits = np.bincount(cdist(rows, ref).argmin(1), minlength=30)
        assert getattr(got, name) == pytest.approx(_evenness(hits)[0]), name


# What each test is for


def test_a_missing_and_an_added_mode_are_named() -> None:
    real = clusters([0.25, 0.25, 0.25, 0.25], 1200, 0)
    synthetic = clusters([0.5, 0.25, 0.25, 0.0], 800, 1)
    got = mode_tests(real, synthetic, bins=4, permutations=199, splits=5)
    assert got.ndb.value == 0.5
    under, over = got.ndb.different
    assert under.synthetic == 0.0
    assert under.real == pytest.approx(0.25, abs=0.05)
    assert under.z < 0 < over.z
    assert over.synthetic == pytest.approx(0.5, abs=0.05)
    assert real[under.example].argmax() == 3
    assert real[over.example].argmax() == 0
    assert got.ndb.adjustment == "holm"
    assert got.p_adjusted["ndb"] <= 0.02


@pytest.mark.peers
def test_bins_are_tested_as_statsmodels_and_scipy_would() -> None:
    # One bin against the rest: the two-proportion z² is the chi² of the 2 × 2 table.
    real = clusters([0.5, 0.5], 800, 0)
    synthetic = clusters([0.65, 0.35], 300, 1)
    got = mode_tests(real, synthetic, bins=2, permutations=99, splits=2)
    assert len(got.ndb.different) == 2
    low, high = got.ndb.different
    assert low.z == pytest.approx(-high.z)
    n, m = 300, 300  # halves are as large as the smaller side
    table = np.rint([[low.real * n, high.real * n], [low.synthetic * m, high.synthetic * m]])
    peer = stats.chi2_contingency(table, correction=False)
    assert low.z**2 == pytest.approx(peer.statistic)
    assert low.p_adjusted == pytest.approx(min(1, 2 * peer.pvalue))


def test_hits_of_a_collapsed_set() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((600, 8))
    one = np.tile(rng.standard_normal((1, 8)), (300, 1))
    got = mode_tests(real, one, permutations=99, splits=4).hits
    # All on one row: effective number 1 of 300.
    assert got.value == pytest.approx(1 / 300)
    assert got.gini == got.never_hit == pytest.approx(299 / 300)
    assert got.p_value == 0.01
    assert got.floor > 0.3


def test_support_of_a_finite_set_is_estimated() -> None:
    # Both sets repeat a fixed number of exact items: the birthday estimate is that number.
    rng = np.random.default_rng(0)
    items = rng.standard_normal((400, 6))
    real = items[rng.integers(0, 400, 2000)]
    synthetic = items[rng.integers(0, 50, 1000)]
    got = mode_tests(real, synthetic, permutations=99, splits=2, bins=5).birthday
    assert got.threshold == 0.0
    assert got.support == pytest.approx(50, rel=0.05)
    assert got.support_floor == pytest.approx(400, rel=0.15)
    assert 1 / 50 in got.interval
    assert got.p_value == 0.01


def test_collision_rate_is_its_definition() -> None:
    rng = np.random.default_rng(3)
    real, synthetic = rng.standard_normal((400, 3)), rng.standard_normal((200, 3))
    got = mode_tests(real, synthetic, permutations=19, splits=2).birthday
    assert got.value == pytest.approx((pdist(synthetic) <= got.threshold).mean())
    assert got.value in got.interval
    assert got.interval.low > 0 or got.value < 3e-4


def test_no_collision_leaves_the_support_open() -> None:
    rng = np.random.default_rng(0)
    real, synthetic = rng.standard_normal((100, 30)), 100 * rng.standard_normal((60, 30))
    got = mode_tests(real, synthetic, permutations=19, splits=2).birthday
    assert got.value == 0.0
    assert got.support is None
    # Rule of three, two-sided: 3.69 expected pairs are seen as none in 2.5 % of the cases.
    assert got.interval.high == pytest.approx(-np.log(0.025) / (50 * 49 / 2), rel=1e-6)
    assert got.p_value == 1.0


def test_interval_of_the_collision_rate_covers() -> None:
    rng = np.random.default_rng(0)
    share = np.array([0.3, 0.2] + [0.5 / 48] * 48)
    truth = float(share @ share)
    items = rng.standard_normal((50, 4)) * 10
    real = items[rng.choice(50, 300, p=share)]
    covered = 0
    for run in range(100):
        rng = np.random.default_rng(run)
        synthetic = items[rng.choice(50, 80, p=share)]
        got = mode_tests(real, synthetic, permutations=1, splits=2, bins=2).birthday
        assert got.threshold == 0.0
        covered += truth in got.interval
    assert covered >= stats.binom.ppf(0.001, 100, 0.93)


def test_repeating_samples_is_found_where_distribution_tests_are_weak() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((1200, 10))
    few = np.repeat(rng.standard_normal((60, 10)), 10, axis=0)
    got = mode_tests(real, few + 0.01 * rng.standard_normal(few.shape), permutations=199, splits=4)
    assert got.p_adjusted["birthday"] <= 0.02
    assert got.p_adjusted["hits"] <= 0.02
    assert got.birthday.support == pytest.approx(60, rel=0.15)
    assert got.hits.value < 0.3 * got.hits.floor


# Null


@pytest.mark.parametrize("kind", ["gauss", "tied", "unequal", "groups"])
def test_false_alarms_stay_in_the_binomial_band(kind: str) -> None:
    runs, alpha = 80, 0.05
    rejected = dict.fromkeys(["ndb", "hits", "birthday"], 0)
    any_rejected = any_bin = 0
    for run in range(runs):
        rng = np.random.default_rng(run)
        groups = {}
        if kind == "gauss":
            real, synthetic = rng.standard_normal((120, 5)), rng.standard_normal((60, 5))
        elif kind == "tied":
            real, synthetic = (rng.integers(0, 3, (n, 3)).astype(float) for n in (160, 80))
        elif kind == "unequal":
            real, synthetic = rng.standard_t(3, (100, 4)), rng.standard_t(3, (500, 4))
        else:
            groups = {
                "groups_real": np.repeat(np.arange(40), 4),
                "groups_synthetic": np.repeat(np.arange(40, 60), 4),
            }
            real, synthetic = (
                np.repeat(rng.standard_normal((len(np.unique(g)), 4)), 4, axis=0)
                + 0.1 * rng.standard_normal((len(g), 4))
                for g in groups.values()
            )
        got = mode_tests(
            real,
            synthetic,
            permutations=99,
            splits=2,
            bins=4,
            seed=run,
            near_quantile=0.2,
            **groups,
        )
        for name in rejected:
            rejected[name] += getattr(got, name).p_value <= alpha
        any_rejected += min(got.p_adjusted.values()) <= alpha
        any_bin += got.ndb.value > 0
        assert got.ndb.adjustment == ("max-t" if groups else "holm")
    most = stats.binom.ppf(0.999, runs, alpha)
    assert {k: v for k, v in rejected.items() if v > most} == {}
    assert any_rejected <= most
    assert any_bin <= most


def test_floor_is_what_a_real_sample_gets() -> None:
    rng = np.random.default_rng(0)
    got = mode_tests(
        rng.standard_normal((1000, 8)), rng.standard_normal((500, 8)), permutations=19, splits=20
    )
    assert got.hits.value == pytest.approx(got.hits.floor, rel=0.05)
    assert got.hits.gini == pytest.approx(got.hits.gini_floor, rel=0.05)
    assert got.birthday.value == pytest.approx(got.birthday.floor, rel=0.6)
    assert got.size == 500


# Input


def test_same_seed_same_report_and_torch_as_numpy() -> None:
    rng = np.random.default_rng(0)
    real = rng.standard_normal((150, 5)).astype(np.float32)
    synthetic = rng.standard_normal((90, 5)).astype(np.float32)
    one = mode_tests(real, synthetic, permutations=29, splits=3)
    assert mode_tests(real, synthetic, permutations=29, splits=3) == one
    got = mode_tests(torch.from_numpy(real), torch.from_numpy(synthetic), permutations=29, splits=3)
    assert got == one
    far = mode_tests(
        real.astype(float) + 1e6, synthetic.astype(float) + 1e6, permutations=29, splits=3
    )
    assert far.hits.value == pytest.approx(one.hits.value)
    assert far.birthday.value == pytest.approx(one.birthday.value)


def test_all_duplicates_do_not_crash_or_alarm() -> None:
    got = mode_tests(np.ones((60, 3)), np.ones((40, 3)), permutations=19, splits=2, bins=2)
    assert got.birthday.value == got.birthday.floor == 1.0
    assert min(got.p_adjusted.values()) == 1.0


@pytest.mark.parametrize(
    ("n", "m", "options", "says"),
    [
        (39, 60, {}, "at least 40 real"),
        (60, 19, {}, "20 synthetic"),
        (60, 60, {"bins": 1}, "bins must lie in"),
        (60, 60, {"bins": 31}, "bins must lie in"),
        (60, 60, {"near_quantile": 0}, "near_quantile"),
        (60, 60, {"alpha": 1}, "alpha"),
        (60, 60, {"groups_real": range(3)}, "groups_real"),
        (60, 60, {"groups_synthetic": range(3)}, "groups_synthetic"),
        (60, 60, {"groups_real": [0] * 60}, "largest"),
    ],
)
def test_bad_input_is_refused(n: int, m: int, options: dict, says: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=says):
        mode_tests(rng.standard_normal((n, 3)), rng.standard_normal((m, 3)), **options)


def test_nan_is_refused() -> None:
    x = np.zeros((60, 2))
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        mode_tests(x, np.zeros((60, 2)))
