"""Copy checks: exact neighbours, planted copies found at their rate, and silence without any."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import cdist
from sklearn.metrics import roc_auc_score

from evalsuite.metrics.distribution.copying import (
    _low_tail,
    copy_tests,
    exact_duplicates,
    nearest_neighbours,
    newcombe_interval,
    proportion_interval,
    wilson_interval,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def sets(
    n: int = 400, d: int = 16, seed: int = 0, n_holdout: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    train, synthetic = rng.standard_normal((2, n, d))
    return train, rng.standard_normal((n_holdout or n, d)), synthetic


def with_copies(rate: float, *, noise: float = 0.01, n: int = 1000, seed: int = 1) -> tuple:
    train, holdout, synthetic = sets(n, seed=seed)
    rng = np.random.default_rng(seed)
    k = round(rate * n)
    synthetic[:k] = train[rng.permutation(n)[:k]] + noise * rng.standard_normal((k, 16))
    return train, holdout, synthetic


# Nearest neighbours


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_neighbours_are_those_of_brute_force(dtype: type, offset: float) -> None:
    rng = np.random.default_rng(0)
    base = (rng.standard_normal((700, 40)) + offset).astype(dtype)
    queries = (rng.standard_normal((130, 40)) + offset).astype(dtype)
    near, at = nearest_neighbours(
        torch.from_numpy(queries), torch.from_numpy(base), 4, block_rows=50, block_columns=64
    )
    full = cdist(queries.astype(float), base.astype(float))
    np.testing.assert_array_equal(at, np.argsort(full, axis=1, kind="stable")[:, :4])
    np.testing.assert_allclose(near, np.sort(full, axis=1)[:, :4], rtol=1e-12)


def test_near_ties_are_decided_in_float64() -> None:
    # 300 neighbours whose distances differ by less than single precision resolves, and of which
    # the nearest is the last: a float32 matrix product alone picks among them at random.
    rng = np.random.default_rng(0)
    direction = rng.standard_normal((300, 64))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    radius = 10 + np.linspace(2e-6, 1e-6, 300)
    base = (direction * radius[:, None]).astype(np.float32)
    queries = np.zeros((3, 64), np.float32)
    _, at = nearest_neighbours(torch.from_numpy(queries), torch.from_numpy(base), 3)
    full = cdist(queries.astype(float), base.astype(float))
    np.testing.assert_array_equal(at, np.argsort(full, axis=1, kind="stable")[:, :3])
    centred = torch.from_numpy(base - base.mean(axis=0))
    q = torch.from_numpy(queries - base.mean(axis=0))
    naive = (centred.square().sum(1) - 2 * q @ centred.T).argsort(dim=1)[:, :3].numpy()
    assert (naive != at).any(), "the case is too easy to prove anything"


def test_self_is_excluded_and_equal_rows_are_not() -> None:
    x = torch.tensor([[0.0], [0.0], [3.0], [7.0]])
    near, at = nearest_neighbours(x, x, 1, exclude_self=True, block_rows=3)
    np.testing.assert_array_equal(near[:, 0], [0, 0, 3, 4])
    np.testing.assert_array_equal(at[:, 0], [1, 0, 0, 2])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(1, 5),
    st.integers(1, 6),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 10**6),
)
def test_neighbours_with_ties_match_brute_force(
    n: int, m: int, d: int, k: int, dtype: type, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    queries = rng.integers(-2, 3, (n, d)).astype(dtype)
    base = rng.integers(-2, 3, (m, d)).astype(dtype)
    k = min(k, m)
    near, _ = nearest_neighbours(
        torch.from_numpy(queries), torch.from_numpy(base), k, block_rows=7, block_columns=5
    )
    full = np.sort(cdist(queries.astype(float), base.astype(float)), axis=1)[:, :k]
    np.testing.assert_allclose(near, full, rtol=1e-12, atol=0)


def test_neighbours_refuse_what_does_not_fit() -> None:
    x = torch.zeros((3, 2))
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.2"):
        nearest_neighbours(x, x, 3, exclude_self=True)
    with pytest.raises(ValueError, match="same encoder"):
        nearest_neighbours(x, torch.zeros((3, 4)), 1)


# Exact duplicates


def test_exact_duplicates() -> None:
    got = exact_duplicates(["a", "b", "b", "c"], ["x", "b", "a", "b", "y"])
    assert got.count == 3
    assert float(got) == 0.6
    assert got.pairs == ((1, 1), (0, 2), (1, 3))
    assert got.repeated == 1
    assert exact_duplicates([1], [2]).value == 0.0
    # None of 100: the rule of three, and half of the error on the other side.
    none = exact_duplicates([1], [2] * 100).interval
    assert (none.low, none.high) == (0.0, pytest.approx(1 - 0.025 ** (1 / 100)))


@pytest.mark.parametrize("empty", [([], ["a"]), (["a"], [])])
def test_no_keys_is_not_no_duplicates(empty: tuple[list, list]) -> None:
    with pytest.raises(ValueError, match="at least 1 key"):
        exact_duplicates(*empty)


# The pieces against definitions and peers


def test_each_value_is_its_definition() -> None:
    train, holdout, synthetic = with_copies(0.1, noise=0.3, n=300)
    got = copy_tests(train, holdout, synthetic, near_quantile=0.05, permutations=99)
    st_, sh, ht, tt = (
        cdist(synthetic, train),
        cdist(synthetic, holdout),
        cdist(holdout, train),
        cdist(train, train),
    )
    np.fill_diagonal(tt, np.inf)
    threshold = np.sort(ht.min(1))[14]
    assert got.near_duplicates.threshold == pytest.approx(threshold)
    assert got.near_duplicates.value == pytest.approx((st_.min(1) <= threshold).mean())
    assert got.dcr.value == pytest.approx((st_.min(1) < sh.min(1)).mean())
    assert got.dcr.size == 300
    ordered = np.sort(st_, axis=1)
    assert got.nndr.synthetic == pytest.approx(np.quantile(ordered[:, 0] / ordered[:, 1], 0.05))
    authentic = st_.min(1) > tt.min(1)[st_.argmin(1)]
    assert got.authenticity.value == pytest.approx(authentic.mean())
    assert got.authenticity.floor == pytest.approx((ht.min(1) > tt.min(1)[ht.argmin(1)]).mean())
    for copy in got.most_copied:
        assert copy.train == st_[copy.synthetic].argmin()
        assert copy.distance == pytest.approx(st_[copy.synthetic].min())
        assert copy.percentile == pytest.approx(100 * (ht.min(1) <= copy.distance).mean())
    distances = [c.distance for c in got.most_copied]
    assert distances == sorted(distances)


@pytest.mark.peers
def test_one_cell_c_t_and_auc_are_scipys_and_sklearns() -> None:
    train, holdout, synthetic = with_copies(0.2, noise=0.3, n=300)
    got = copy_tests(train, holdout, synthetic, cells=1, permutations=99)
    near_s = cdist(synthetic, train).min(1)
    near_h = cdist(holdout, train).min(1)
    peer = stats.mannwhitneyu(
        near_s, near_h, alternative="less", use_continuity=False, method="asymptotic"
    )
    assert got.c_t.p_value == pytest.approx(peer.pvalue, rel=1e-9)
    assert got.c_t.covered == 1.0
    assert got.c_t.value < -3
    score = -np.concatenate([cdist(train, synthetic).min(1), cdist(holdout, synthetic).min(1)])
    truth = np.repeat([1, 0], 300)
    assert got.membership.value == pytest.approx(roc_auc_score(truth, score), rel=1e-12)
    threshold = np.sort(score[300:])[::-1][3]
    assert got.membership.tpr == pytest.approx((score[:300] > threshold).mean())
    assert got.membership.fpr == 0.01


def test_c_t_is_the_weighted_mean_of_its_cells() -> None:
    # Two far clusters: copies in one of them, underfitting in the other.
    rng = np.random.default_rng(0)
    shift = np.repeat([0.0, 100.0], 200)[:, None]
    train, holdout = (rng.standard_normal((400, 4)) + shift for _ in range(2))
    synthetic = np.concatenate(
        [
            train[:200] + 0.01 * rng.standard_normal((200, 4)),
            rng.standard_normal((200, 4)) * 3 + 100,
        ]
    )
    got = copy_tests(train, holdout, synthetic, cells=2, permutations=99)
    assert got.c_t.cells == 2
    near_s, near_h = cdist(synthetic, train).min(1), cdist(holdout, train).min(1)
    z = []
    for cell in (slice(0, 200), slice(200, 400)):
        u = stats.mannwhitneyu(near_s[cell], near_h[cell]).statistic
        z.append((u - 200 * 200 / 2) / np.sqrt(200 * 200 * 401 / 12))
    assert z[0] < -10 < 10 < z[1]
    assert got.c_t.value == pytest.approx(np.mean(z))


def test_cells_with_too_few_rows_are_taken_together() -> None:
    rng = np.random.default_rng(0)
    where = np.repeat(100.0 * np.arange(4), [60, 60, 15, 12])[:, None]
    train, holdout = (rng.standard_normal((147, 3)) + where for _ in range(2))
    many = np.repeat(100.0 * np.arange(4), 40)[:, None]
    synthetic = rng.standard_normal((160, 3)) + many
    got = copy_tests(train, holdout, synthetic, cells=4, permutations=9).c_t
    assert (got.cells, got.covered) == (3, pytest.approx(1.0))
    # Neither of the small ones: together they still have too few.
    keep = np.r_[0:120, 120:128, 135:143]
    got = copy_tests(train, holdout[keep], synthetic, cells=4, permutations=9).c_t
    assert (got.cells, got.covered) == (2, pytest.approx(120 / 136))


def test_hits_on_one_record_count_as_one() -> None:
    train, holdout, _ = sets(100)
    one = train[3] + 0.01 * np.random.default_rng(0).standard_normal((200, 16))
    got = copy_tests(train, holdout, one, permutations=99).dcr
    assert got.value == 1.0
    assert got.interval == wilson_interval(1.0, 1, 0.95)
    # One record on one side: as likely as a coin.
    assert got.p_value == pytest.approx(0.5, abs=0.2)


@pytest.mark.peers
def test_low_tail_p_is_the_permutation_p() -> None:
    rng = np.random.default_rng(0)
    values, reference = rng.normal(-0.5, 1, 40), rng.normal(0, 1, 30)
    count, threshold, p = _low_tail(values, reference, 3, rng)
    assert count == (values <= np.sort(reference)[2]).sum()
    assert threshold == np.sort(reference)[2]
    order = rng.permuted(np.tile(np.arange(70) < 40, (40_000, 1)), axis=1)
    before = [np.flatnonzero(~row)[2] - 2 for row in order]
    simulated = np.mean(np.array(before) >= count)
    assert p == pytest.approx(simulated, abs=4 * np.sqrt(p * (1 - p) / 40_000))


@pytest.mark.peers
@pytest.mark.parametrize("count", [0, 3, 17, 40])
def test_intervals_of_a_proportion_are_scipys(count: int) -> None:
    peer = stats.binomtest(count, 40)
    for got, method in (
        (proportion_interval(count, 40, 0.9), "exact"),
        (wilson_interval(count / 40, 40, 0.9), "wilson"),
    ):
        expected = peer.proportion_ci(0.9, method=method)
        assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_newcombes_published_example() -> None:
    # Newcombe 1998, table II, method 10: 56/70 against 48/80 and 10/10 against 0/10.
    got = newcombe_interval(56 / 70, 70, 48 / 80, 80, 0.95)
    assert (got.low, got.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    got = newcombe_interval(1.0, 10, 0.0, 10, 0.95)
    assert (got.low, got.high) == pytest.approx((0.6075, 1.0), abs=5e-5)


# Planted copies


@pytest.mark.parametrize("rate", [0.05, 0.2, 0.5])
def test_planted_copies_are_found_at_their_rate(rate: float) -> None:
    got = copy_tests(*with_copies(rate), permutations=199)
    # A copy is a near duplicate; 1 % of the others are by construction of the threshold.
    assert got.near_duplicates.value == pytest.approx(rate + 0.01 * (1 - rate), abs=0.012)
    assert rate in got.near_duplicates.interval or got.near_duplicates.interval.low > rate
    # Copies are nearest to train, half of the rest are: (1 + rate) / 2.
    assert got.dcr.value == pytest.approx((1 + rate) / 2, abs=0.05)
    assert (1 + rate) / 2 in got.dcr.interval
    assert got.membership.tpr == pytest.approx(rate, abs=0.03)
    assert got.p_adjusted["near_duplicates"] < 1e-6
    if rate >= 0.2:
        assert got.authenticity.difference.high < 0
        assert max(got.p_adjusted.values()) < 0.05
        assert got.c_t.value < -1


def test_the_most_copied_are_named() -> None:
    train, holdout, synthetic = sets(500)
    pairs = {7: 400, 123: 3, 499: 250}
    for s, t in pairs.items():
        synthetic[s] = train[t]
    got = copy_tests(train, holdout, synthetic, top=3, permutations=19)
    assert {c.synthetic: c.train for c in got.most_copied} == pairs
    assert all(c.distance == 0 and c.percentile == 0 for c in got.most_copied)
    assert copy_tests(train, holdout, synthetic, top=0, permutations=19).most_copied == ()


def test_full_copy_and_swapped_roles() -> None:
    train, holdout, _ = sets(200)
    got = copy_tests(train, holdout, train, permutations=99)
    assert got.dcr.value == got.membership.value == got.near_duplicates.value == 1.0
    assert got.authenticity.value == 0.0
    assert got.nndr.synthetic == 0.0
    assert got.membership.interval.low < 1.0
    assert max(got.p_adjusted.values()) <= 0.02  # two permutation tests at 1/100, by Holm
    swapped = copy_tests(holdout, train, train, permutations=99)
    assert swapped.dcr.value == swapped.membership.value == 0.0
    assert min(swapped.p_adjusted.values()) == 1.0


def test_copies_of_the_holdout_do_not_alarm() -> None:
    train, holdout, synthetic = with_copies(0.5)
    assert min(copy_tests(holdout, train, synthetic, permutations=99).p_adjusted.values()) > 0.05


def test_collapse_without_copying_moves_no_exchange_test() -> None:
    # A generator that only makes the dense middle is near to train *and* to the holdout.
    train, holdout, synthetic = sets(800)
    got = copy_tests(train, holdout, 0.3 * synthetic, permutations=199)
    assert 0.5 in got.dcr.interval
    assert got.dcr.p_value > 0.02
    assert got.membership.p_value > 0.02


def test_larger_train_does_not_look_copied() -> None:
    # With 10 times the records, the nearest one is in train by number alone.
    train, holdout, synthetic = sets(2000, n_holdout=200)
    nearer = cdist(synthetic, train).min(1) < cdist(synthetic, holdout).min(1)
    assert nearer.mean() > 0.8
    got = copy_tests(train, holdout, synthetic, permutations=199)
    assert got.dcr.size == 200
    assert 0.5 in got.dcr.interval
    assert got.dcr.p_value > 0.02


def test_ties_are_shared() -> None:
    # Every record is both in train and in the holdout's place: all distances tie.
    rng = np.random.default_rng(0)
    train = rng.integers(0, 9, (60, 3)).astype(float)
    holdout = np.vstack([train[:25], train[25:] + 0.5])
    synthetic = train[:25]
    got = copy_tests(train, holdout, synthetic, permutations=99)
    assert got.dcr.value == pytest.approx(0.5, abs=0.1)
    assert got.holdout_in_train == 25


# Null rates


@pytest.mark.parametrize("kind", ["gauss", "tied", "unequal", "groups"])
def test_false_alarms_stay_in_the_binomial_band(kind: str) -> None:
    runs, alpha = 80, 0.05
    rejected: dict[str, int] = dict.fromkeys(
        ["near_duplicates", "dcr", "nndr", "authenticity", "c_t", "membership"], 0
    )
    any_rejected, covered = 0, {"dcr": 0, "membership": 0, "authenticity": 0}
    for run in range(runs):
        rng = np.random.default_rng(run)
        groups = {}
        if kind == "gauss":
            train, holdout, synthetic = (rng.standard_normal((60, 8)) for _ in range(3))
        elif kind == "tied":
            train, holdout, synthetic = (rng.integers(0, 4, (60, 4)) for _ in range(3))
        elif kind == "unequal":
            train, holdout, synthetic = (rng.standard_t(2, (n, 4)) for n in (300, 60, 90))
        else:
            source = rng.permutation(40)
            centre = rng.standard_normal((40, 6))
            groups = {
                "groups_train": np.repeat(source[:20], 4),
                "groups_holdout": np.repeat(source[20:], 4),
            }
            train, holdout = (
                centre[g] + 0.1 * rng.standard_normal((80, 6)) for g in groups.values()
            )
            synthetic = rng.standard_normal((80, 6))
        got = copy_tests(
            train, holdout, synthetic, near_quantile=0.05, permutations=99, seed=run, **groups
        )
        for name in rejected:
            rejected[name] += getattr(got, name).p_value <= alpha
        any_rejected += min(got.p_adjusted.values()) <= alpha
        covered["dcr"] += 0.5 in got.dcr.interval
        covered["membership"] += 0.5 in got.membership.interval
        covered["authenticity"] += 0 in got.authenticity.difference
    most = stats.binom.ppf(0.999, runs, alpha)
    assert {k: v for k, v in rejected.items() if v > most} == {}
    assert any_rejected <= most
    assert min(covered.values()) >= stats.binom.ppf(0.001, runs, 0.94)


def test_ignoring_groups_alarms_and_naming_them_does_not() -> None:
    # Twelve sources, each in one half only; S was made without any knowledge of the split.
    alarms = {"named": 0, "ignored": 0}
    for run in range(60):
        rng = np.random.default_rng(run)
        centre = rng.standard_normal((12, 5))
        side = rng.permutation(12)
        a, b = np.repeat(side[:6], 20), np.repeat(side[6:], 20)
        train, holdout = (centre[g] + 0.05 * rng.standard_normal((120, 5)) for g in (a, b))
        synthetic = rng.standard_normal((100, 5))
        for name, groups in (
            ("named", {"groups_train": a, "groups_holdout": b}),
            ("ignored", {}),
        ):
            got = copy_tests(train, holdout, synthetic, permutations=99, seed=run, **groups)
            alarms[name] += got.membership.p_value <= 0.05
    assert alarms["named"] <= stats.binom.ppf(0.999, 60, 0.05)
    assert alarms["ignored"] > 12


def test_groups_of_unequal_size_do_not_hide_copies() -> None:
    # Relabelled, the large groups make sides of 60 to 240 rows: the larger one is nearer by size.
    rng = np.random.default_rng(0)
    source = np.repeat(np.arange(62), [60, 30, *[1] * 60])
    train, holdout, synthetic = rng.standard_normal((3, 150, 8))
    synthetic[:60] = train[rng.permutation(150)[:60]] + 0.01 * rng.standard_normal((60, 8))
    got = copy_tests(
        train,
        holdout,
        synthetic,
        groups_train=source,
        groups_holdout=100 + source,
        permutations=199,
    )
    assert got.dcr.p_value <= 0.02


# Input


def test_the_same_seed_gives_the_same_report_and_torch_the_same_as_numpy() -> None:
    train, holdout, synthetic = (x.astype(np.float32) for x in sets(200, n_holdout=150))
    one = copy_tests(train, holdout, synthetic, permutations=49)
    assert one == copy_tests(train, holdout, synthetic, permutations=49)
    tensors = (torch.from_numpy(x) for x in (train, holdout, synthetic))
    assert one == copy_tests(*tensors, permutations=49)
    mixed = copy_tests(train, holdout.astype(float), synthetic, permutations=49)
    assert mixed.near_duplicates == one.near_duplicates


@pytest.mark.parametrize("shift", [0.0, 1e6])
def test_rotation_and_shift_change_nothing(shift: float) -> None:
    train, holdout, synthetic = with_copies(0.1, noise=0.3, n=200)
    turn = np.linalg.qr(np.random.default_rng(3).standard_normal((16, 16)))[0]
    one = copy_tests(train, holdout, synthetic, permutations=49, cells=1)
    two = copy_tests(
        *(x @ turn + shift for x in (train, holdout, synthetic)), permutations=49, cells=1
    )
    for name in ("near_duplicates", "dcr", "authenticity", "c_t", "membership"):
        assert float(getattr(two, name)) == pytest.approx(float(getattr(one, name))), name


def test_a_missing_holdout_says_why() -> None:
    train, _, synthetic = sets(50)
    with pytest.raises(ValueError, match="real data that the generator never saw"):
        copy_tests(train, None, synthetic)


def test_train_as_holdout_is_refused() -> None:
    train, _, synthetic = sets(50)
    with pytest.raises(ValueError, match="this is no holdout"):
        copy_tests(train, train, synthetic)


def test_constant_features_do_not_crash_or_alarm() -> None:
    train, holdout, synthetic = np.zeros((3, 40, 2))
    holdout = holdout + 1
    synthetic = synthetic + 1
    got = copy_tests(train, holdout, synthetic, permutations=49)
    assert got.dcr.value == 0.0
    assert min(got.p_adjusted.values()) > 0.05


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda t, h, s: (t[:5], h, s), ValueError, "train needs at least 20 rows"),
        (lambda t, h, s: (t, h[:0], s), ValueError, "holdout needs at least 20 rows"),
        (lambda t, h, s: (t, h, s[:, :3]), ValueError, "same encoder"),
        (lambda t, h, s: (t, h, np.where(s > 2, np.nan, s)), ValueError, "NaN"),
        (lambda t, h, s: (t.tolist(), h, s), TypeError, "numpy array"),
    ],
)
def test_bad_arrays_are_refused(change: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        copy_tests(*change(*sets(50)))  # type: ignore[operator]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"near_quantile": 0.0}, "near_quantile"),
        ({"fpr": 0.7}, "fpr"),
        ({"cells": 0}, "cells"),
        ({"cells": 51}, "cells"),
        ({"top": -1}, "top"),
        ({"groups_train": range(50)}, "both groups_train and groups_holdout"),
        ({"groups_train": range(50), "groups_holdout": range(3)}, "groups_holdout"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        copy_tests(*sets(50), **options)
