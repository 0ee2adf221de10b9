"""Sliced, max-sliced and entropic transport: closed forms, POT, scipy, and calibration."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    orthogonal_directions,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.streaming.transport import SlicedWasserstein

rows = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 12), st.just(3)),
    elements=st.integers(-20, 20).map(lambda v: v / 4),
)


def test_directions_are_orthonormal_bases_with_no_favourite() -> None:
    u = orthogonal_directions(5, 12, seed=1).numpy()
    assert u.shape == (5, 12)
    for block in (u[:, :5], u[:, 5:10], u[:, 10:]):
        np.testing.assert_allclose(block.T @ block, np.eye(block.shape[1]), atol=1e-12)
    np.testing.assert_array_equal(u, orthogonal_directions(5, 12, seed=1).numpy())
    many = orthogonal_directions(3, 9000, seed=2).numpy()
    np.testing.assert_allclose(many.mean(axis=1), 0, atol=0.03)
    # The first coordinate of a uniform direction in three dimensions is uniform on [-1, 1].
    assert stats.kstest(many[0, ::3], stats.uniform(-1, 2).cdf).pvalue > 0.01


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 25)])
def test_a_mere_shift_is_exact_with_whole_bases(n: int, m: int) -> None:
    rng = np.random.default_rng(0)
    x, shift = rng.normal(size=(40, 8)), rng.normal(size=8)
    found = sliced_wasserstein(x, x + shift, directions=24)
    assert float(found) == pytest.approx(np.linalg.norm(shift) / np.sqrt(8), rel=1e-10)
    assert found.direction_error == pytest.approx(0, abs=1e-9)


def test_one_dimension_is_the_wasserstein_distance() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=37), rng.gamma(2, size=61)
    one = sliced_wasserstein(x[:, None], y[:, None], p=1, directions=3)
    assert float(one) == pytest.approx(stats.wasserstein_distance(x, y), rel=1e-12)
    two = sliced_wasserstein(x[:, None], y[:, None], p=2, directions=1)
    assert float(two) == pytest.approx(np.sqrt(ot.wasserstein_1d(x, y, p=2)), rel=1e-12)
    assert two.direction_error is None


@pytest.mark.peers
@pytest.mark.parametrize("p", [1, 2])
def test_equals_pot_on_the_same_directions(p: int) -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(50, 6)), rng.normal(0.4, 1.5, size=(70, 6))
    u = orthogonal_directions(6, 20, seed=5).numpy()
    peer = ot.sliced_wasserstein_distance(x, y, projections=u, p=p)
    assert float(sliced_wasserstein(x, y, p=p, directions=20, seed=5)) == pytest.approx(
        peer, rel=1e-10
    )


def test_gaussians_in_closed_form() -> None:
    # Isotropic: along every direction W_2² = (u . shift)² + (s - t)².
    rng = np.random.default_rng(3)
    d, n, shift = 4, 40_000, np.array([1.0, 0, 0, 0])
    x, y = rng.normal(size=(n, d)), 2 * rng.normal(size=(n, d)) + shift
    expected = np.sqrt(1 / d + 1)
    assert float(sliced_wasserstein(x, y, directions=16)) == pytest.approx(expected, rel=0.01)


def test_direction_error_is_the_spread_over_seeds() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) * np.array([3.0, 1, 1, 1])
    runs = [sliced_wasserstein(x, y, directions=32, seed=s) for s in range(80)]
    spread = np.std([float(r) for r in runs])
    assert np.mean([r.direction_error for r in runs]) == pytest.approx(spread, rel=0.3)


@settings(max_examples=40, deadline=None)
@given(x=rows, y=rows)
def test_symmetric_blind_to_order_and_zero_on_itself(x: np.ndarray, y: np.ndarray) -> None:
    for p in (1, 2):
        there = float(sliced_wasserstein(x, y, p=p, directions=6))
        assert float(sliced_wasserstein(y, x, p=p, directions=6)) == pytest.approx(there, abs=1e-12)
        assert float(sliced_wasserstein(x[::-1].copy(), y, p=p, directions=6)) == pytest.approx(
            there, abs=1e-12
        )
        assert float(sliced_wasserstein(x + 3, y + 3, p=p, directions=6)) == pytest.approx(
            there, abs=1e-9
        )
        assert float(sliced_wasserstein(x, x, p=p, directions=6)) == pytest.approx(0, abs=1e-12)
        # Repeating every row is the same distribution, at unequal sizes.
        assert float(
            sliced_wasserstein(np.repeat(x, 3, axis=0), y, p=p, directions=6)
        ) == pytest.approx(there, abs=1e-9)


def test_p_value_keeps_alpha_and_has_power() -> None:
    rng = np.random.default_rng(6)
    runs, alpha, hits = 200, 0.1, 0
    for r in range(runs):
        x, y = rng.integers(0, 3, (15, 3)), rng.integers(0, 3, (25, 3))
        hits += sliced_wasserstein(x, y, directions=6, permutations=49, seed=r).p_value <= alpha
    low, high = stats.binom.ppf([0.0005, 0.9995], runs, alpha)
    assert low <= hits <= high
    x, y = rng.normal(size=(60, 5)), rng.normal(0.8, size=(50, 5))
    assert sliced_wasserstein(x, y, directions=20, permutations=199).p_value == 1 / 200


def test_blocks_of_directions_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    whole = sliced_wasserstein(x, y, directions=10, permutations=19)
    monkeypatch.setattr("evalsuite.metrics.distribution.transport._BLOCK_VALUES", 150)
    parts = sliced_wasserstein(x, y, directions=10, permutations=19)
    assert float(parts) == pytest.approx(float(whole), rel=1e-12)
    assert parts.p_value == whole.p_value


def test_p_value_under_groups() -> None:
    rng = np.random.default_rng(8)
    runs, alpha, rows_hit, groups_hit = 60, 0.1, 0, 0
    label = np.repeat(np.arange(10), 8)
    kw = {"directions": 4, "permutations": 19}
    for r in range(runs):
        x, y = (np.repeat(rng.normal(size=(10, 2)), 8, axis=0) for _ in range(2))
        rows_hit += sliced_wasserstein(x, y, seed=r, **kw).p_value <= alpha
        grouped = sliced_wasserstein(
            x, y, seed=r, groups_real=label, groups_synthetic=label + 10, **kw
        )
        groups_hit += grouped.p_value <= alpha
    assert groups_hit <= stats.binom.ppf(0.9995, runs, alpha)
    assert rows_hit > 24


def test_max_sliced_finds_the_direction_and_tests_it_held_out() -> None:
    rng = np.random.default_rng(9)
    d = 20
    x, y = rng.normal(size=(400, d)), rng.normal(size=(400, d))
    y[:, 7] = 3 * y[:, 7]  # no shift of the mean: only the spread of one feature
    found = max_sliced_wasserstein(x, y, permutations=99)
    assert np.linalg.norm(found.direction) == pytest.approx(1.0)
    assert abs(found.direction[7]) > 0.95
    assert float(found) == pytest.approx(2.0, abs=0.35)
    assert found.p_value == 0.01
    assert float(found) >= float(sliced_wasserstein(x, y, directions=64))


def test_max_sliced_is_honest_under_no_difference() -> None:
    rng = np.random.default_rng(10)
    runs, hits, inflated = 40, 0, 0
    for r in range(runs):
        x, y = rng.normal(size=(40, 10)), rng.normal(size=(40, 10))
        found = max_sliced_wasserstein(x, y, directions=20, steps=10, permutations=19, seed=r)
        hits += found.p_value <= 0.1
        inflated += found.searched > float(found)
    assert hits <= stats.binom.ppf(0.9995, runs, 0.1)
    assert inflated > 32


def test_max_sliced_order_one_and_the_mean_direction() -> None:
    x = np.random.default_rng(11).normal(size=(200, 30))
    shift = np.zeros(30)
    shift[3] = 5.0
    found = max_sliced_wasserstein(x, x + shift, p=1, directions=1, steps=0)
    assert float(found) == pytest.approx(5.0, abs=0.5)
    # Identical rows have no direction at all: any will do, at distance 0.
    same = max_sliced_wasserstein(np.ones((6, 2)), np.ones((8, 2)))
    assert float(same) == 0.0


# --- Sinkhorn ------------------------------------------------------------------------------------


@pytest.mark.parametrize("blur", [0.4, 2.0])
def test_sinkhorn_of_a_shift_is_half_its_square(blur: float) -> None:
    rng = np.random.default_rng(12)
    x, shift = rng.normal(size=(80, 3)), np.array([0.6, -0.3, 0.2])
    found = sinkhorn_divergence(x, x + shift, blur=blur, tolerance=1e-4)
    assert float(found) == pytest.approx(shift @ shift / 2, rel=1e-5)
    assert found.distance == pytest.approx(np.linalg.norm(shift), rel=1e-5)
    assert found.blur == blur


@pytest.mark.peers
def test_sinkhorn_between_its_two_limits() -> None:
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(40, 2)), rng.normal(0.7, 1.6, size=(50, 2))
    half_w2 = ot.emd2(ot.unif(40), ot.unif(50), ot.dist(x, y)) / 2
    sharp = sinkhorn_divergence(x, y, blur=0.15, max_iter=20_000)
    assert float(sharp) == pytest.approx(half_w2, rel=0.02)
    half_mmd = np.sum((x.mean(axis=0) - y.mean(axis=0)) ** 2) / 2
    blurred = sinkhorn_divergence(x, y, blur=100.0, tolerance=1e-9)
    assert float(blurred) == pytest.approx(half_mmd, rel=1e-3)


def test_sinkhorn_states_its_subsample_and_blur() -> None:
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(90, 3)), rng.normal(size=(50, 3))
    found = sinkhorn_divergence(x, y, max_samples=60)
    assert (found.used_real, found.used_synthetic) == (60, 50)
    assert (found.n_real, found.n_synthetic) == (90, 50)
    assert found == sinkhorn_divergence(x, y, max_samples=60)
    pooled = np.concatenate([x, y])
    full = sinkhorn_divergence(x, y)
    assert full.blur == pytest.approx(0.2 * np.sqrt(2 * pooled.var(axis=0).sum()))
    assert float(sinkhorn_divergence(x, x, tolerance=1e-6)) == pytest.approx(0, abs=1e-6)
    far = sinkhorn_divergence(x + 1e6, y + 1e6)
    assert float(far) == pytest.approx(float(full), rel=1e-6)
    constant = sinkhorn_divergence(np.ones((3, 2)), np.ones((4, 2)))
    assert (float(constant), constant.blur) == (0.0, 1.0)


def test_sinkhorn_says_when_it_did_not_converge() -> None:
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=(40, 2)), rng.normal(2, size=(50, 2))
    with pytest.raises(RuntimeError, match="raise blur or max_iter"):
        sinkhorn_divergence(x, y, blur=0.01, max_iter=20)


# --- hard input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric", [sliced_wasserstein, max_sliced_wasserstein, sinkhorn_divergence]
)
def test_refuses_and_accepts(metric) -> None:
    good = np.random.default_rng(16).normal(size=(6, 3))
    with pytest.raises(ValueError, match="same number of columns"):
        metric(good, good[:, :2])
    with pytest.raises(ValueError, match="NaN"):
        metric(good, np.where(good > 0, np.nan, good))
    with pytest.raises(ValueError, match="at least"):
        metric(good[:0], good)
    expected = float(metric(good, good * 2))
    tensors = metric(torch.tensor(good), torch.tensor(good * 2))
    assert float(tensors) == pytest.approx(expected, rel=1e-9)
    half = metric(good.astype(np.float16), (good * 2).astype(np.float16))
    assert float(half) == pytest.approx(expected, rel=0.02)
    strided = np.repeat(good, 2, axis=0)[::2]
    assert float(metric(strided, good * 2)) == expected


def test_refuses_settings() -> None:
    x = np.zeros((6, 2))
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        sliced_wasserstein(x, x, p=3)
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        max_sliced_wasserstein(x, x, p=0)
    with pytest.raises(ValueError, match="at least 1"):
        sliced_wasserstein(x, x, directions=0)
    with pytest.raises(ValueError, match="permutations"):
        sliced_wasserstein(x, x, permutations=-1)
    with pytest.raises(ValueError, match="steps"):
        max_sliced_wasserstein(x, x, steps=-1)
    with pytest.raises(ValueError, match="both sides"):
        sliced_wasserstein(x, x, permutations=9, groups_real=range(6))
    with pytest.raises(ValueError, match="6 entries, got 5"):
        sliced_wasserstein(x, x, permutations=9, groups_real=range(5), groups_synthetic=range(6))
    with pytest.raises(ValueError, match="blur"):
        sinkhorn_divergence(x, x, blur=0)
    with pytest.raises(ValueError, match="max_samples"):
        sinkhorn_divergence(x, x, max_samples=0)


# --- streaming -----------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 30), min_size=0, max_size=4), workers=st.integers(1, 3))
def test_stream_equals_the_function_for_any_partition(cuts: list[int], workers: int) -> None:
    rng = np.random.default_rng(17)
    x, y = rng.normal(size=(30, 4)), rng.normal(0.5, size=(30, 4))
    whole = float(sliced_wasserstein(x, y, p=1, directions=8, seed=3))
    metrics = [SlicedWasserstein(p=1, directions=8, seed=3) for _ in range(workers)]
    borders = sorted({0, 30, *cuts})
    for i, (low, high) in enumerate(pairwise(borders)):
        metrics[i % workers].update(torch.tensor(x[low:high]), real=True)
        metrics[(i + 1) % workers].update(torch.tensor(y[low:high]), real=False)
    first, *others = metrics
    for other in others:
        first.merge_state(other)
    assert float(first.compute()) == pytest.approx(whole, rel=1e-12)
    assert first.compute().dtype == torch.float64


def test_stream_refuses_and_resets() -> None:
    metric = SlicedWasserstein(directions=4, reset_real_features=False)
    metric.update(np.zeros((2, 3)), real=True)
    with pytest.raises(ValueError, match="no synthetic features yet"):
        metric.compute()
    metric.update(np.ones((2, 3)), real=False)
    before = float(metric.compute())
    whole = sliced_wasserstein(np.zeros((2, 3)), np.ones((2, 3)), directions=4)
    assert before == pytest.approx(float(whole))
    metric.reset()
    metric.update(np.zeros((2, 3)), real=False)
    assert float(metric.compute()) == 0.0
    with pytest.raises(ValueError, match="p must be 1 or 2"):
        SlicedWasserstein(p=3)
    with pytest.raises(ValueError, match="directions"):
        SlicedWasserstein(directions=0)
