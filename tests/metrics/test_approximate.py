"""Approximations of large sets: errors within what is stated; parts make a whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evalsuite.metrics import precision_recall_density_coverage
from evalsuite.metrics.distribution.kernel import kernel_distance, median_bandwidth
from evalsuite.metrics.distribution.random_features import (
    RandomFeatureKernel,
    random_feature_distance,
)
from evalsuite.metrics.distribution.sampled import (
    NeighbourSample,
    UniformSample,
    sampled_manifold,
)
from evalsuite.metrics.drift.sketch import QuantileSketch, sketch_drift


def sets(seed: int, n: int = 600, m: int = 500, d: int = 8, shift: float = 0.3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + 3, rng.standard_normal((m, d)) * 1.1 + 3 + shift / d**0.5


# --- random Fourier features ----------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_kernel_distance_lies_within_the_stated_error(shift: float) -> None:
    a, b = sets(0, n=300, m=250, shift=shift)
    sigma = median_bandwidth(a, b)
    exact = kernel_distance(a, b, "rbf", bandwidth=sigma).value
    found = [
        random_feature_distance(a, b, bandwidth=sigma, frequencies=256, seed=s) for s in range(200)
    ]
    values = np.array([f.value for f in found])
    within = np.mean([abs(f.value - exact) <= f.error for f in found])
    # 200 draws of a share of 0.95: three standard deviations are 0.046.
    assert within > 0.90
    assert all(abs(f.value - exact) <= f.error_bound for f in found)
    # Unbiased: the mean over seeds is the exact value.
    assert abs(values.mean() - exact) < 4 * values.std() / 200**0.5
    # The error is of use: it falls with the root of the frequencies, and is not vacuous.
    more = random_feature_distance(a, b, bandwidth=sigma, frequencies=4096, seed=1)
    assert more.error < 0.4 * np.median([f.error for f in found])
    assert np.median([f.error for f in found]) < 3.5 * values.std()


def test_one_frequency_is_the_distance_of_characteristic_functions() -> None:
    state = RandomFeatureKernel(2, 1.0, frequencies=2, seed=4)
    w = np.random.default_rng(4).standard_normal((2, 2))[:, 0].astype(np.float32)
    a, b = np.array([[0.1, 0.2], [0.4, -0.3]]), np.array([[1.0, 0.0], [0.5, 0.5], [0.2, 0.1]])
    state.update(a, real=True)
    state.update(b, real=False)
    k = lambda x, y: np.cos((x - y) @ w)  # noqa: E731
    wanted = k(a[0], a[1]) + np.mean([k(b[i], b[j]) for i, j in ((0, 1), (0, 2), (1, 2))])
    wanted -= 2 * np.mean([k(x, y) for x in a for y in b])
    assert state.values()[0] == pytest.approx(wanted, abs=1e-6)


def test_random_feature_states_merge_in_any_partition() -> None:
    a, b = sets(1)
    whole = RandomFeatureKernel(8, 3.0, frequencies=64, seed=2)
    whole.update(a, real=True)
    whole.update(b, real=False)
    rng = np.random.default_rng(3)
    for _ in range(5):
        total = RandomFeatureKernel(8, 3.0, frequencies=64, seed=2)
        for side, x in ((True, a), (False, b)):
            cuts = np.sort(rng.choice(np.arange(1, len(x)), 4, replace=False))
            for part in np.split(x, cuts):
                other = RandomFeatureKernel(8, 3.0, frequencies=64, seed=2)
                other.update(part, real=side)
                total.merge(other)
        assert total.counts == [len(a), len(b)]
        np.testing.assert_allclose(total.values(), whole.values(), atol=1e-7)
    with pytest.raises(ValueError, match="different recipes"):
        total.merge(RandomFeatureKernel(8, 3.0, frequencies=64, seed=9))


def test_random_features_refuse_what_they_cannot_measure() -> None:
    state = RandomFeatureKernel(3, 1.0)
    with pytest.raises(ValueError, match="at least 2 rows"):
        state.result()
    with pytest.raises(ValueError, match="3 columns, got 2"):
        state.update(np.ones((4, 2)), real=True)
    with pytest.raises(ValueError, match="NaN or infinite"):
        state.update(np.full((4, 3), np.nan), real=True)
    with pytest.raises(ValueError, match="bandwidth"):
        RandomFeatureKernel(3, 0.0)


# --- quantile sketches ----------------------------------------------------------------------------


def test_every_rank_lies_within_the_stated_error() -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(2.0, size=(40_000, 40))
    sketch = QuantileSketch(40, capacity=128, seed=1)
    for part in np.array_split(values, 23):
        sketch.update(part)
    ordered = np.sort(values, axis=0)
    exact = np.arange(1, 40_001)[:, None] / 40_000
    error = np.abs(sketch.cdf(ordered) - exact).max(axis=0)
    # 40 columns with coins of their own are 40 seeds.
    assert (error <= sketch.error(0.99)).all()
    assert error.max() > 0.1 * sketch.error(0.99)
    assert sketch.error(0.99) < 0.08
    held = sum(len(p) for level in sketch._levels for p in level)
    assert held < 8 * 128 + 1024


def test_quantiles_are_values_of_the_right_rank() -> None:
    values = np.random.default_rng(0).permutation(50_000.0 * np.linspace(0, 1, 50_001))[:, None]
    sketch = QuantileSketch(1)
    sketch.update(values)
    q = np.array([0.0, 0.01, 0.25, 0.5, 0.9, 1.0])
    assert np.abs(sketch.quantiles(q)[:, 0] / 50_000 - q).max() <= sketch.error(0.999)
    small = QuantileSketch(1)
    small.update(np.array([[3.0], [1.0], [2.0]]))
    assert small.error() == 0
    assert small.quantiles([0, 0.5, 1]).ravel().tolist() == [1, 2, 3]


def test_merged_sketches_hold_all_values_within_the_error() -> None:
    rng = np.random.default_rng(5)
    values = rng.standard_normal((30_000, 8))
    ordered = np.sort(values, axis=0)
    exact = np.arange(1, 30_001)[:, None] / 30_000
    for trial in range(4):
        cuts = np.sort(rng.choice(np.arange(1, 30_000), 6, replace=False))
        parts = []
        for shard, rows in enumerate(np.split(values, cuts)):
            sketch = QuantileSketch(8, capacity=128, seed=trial, shard=shard)
            sketch.update(rows)
            parts.append(sketch)
        while len(parts) > 1:  # a tree of merges
            left, right = parts.pop(0), parts.pop(0)
            left.merge(right)
            parts.append(left)
        (total,) = parts
        assert total.n == 30_000
        assert sum(2**h * len(p) for h, ps in enumerate(total._levels) for p in ps) == 30_000
        assert np.abs(total.cdf(ordered) - exact).max() <= total.error(0.999)
    with pytest.raises(ValueError, match="shard 3 is in both"):
        total.merge(QuantileSketch(8, capacity=128, seed=trial, shard=3))


def test_sketched_drift_is_near_the_exact_one_and_keeps_its_level() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((20_000, 30)), rng.standard_normal((15_000, 30))
    b[:, 0] += 0.3
    one, other = QuantileSketch(30, shard=0), QuantileSketch(30, shard=1)
    one.update(a)
    other.update(b)
    found = sketch_drift(one, other)
    exact = np.array([ks_2samp(a[:, j], b[:, j]).statistic for j in range(30)])
    assert (np.abs(found.ks - exact) <= found.error).all()
    assert found.p_value[0] < 1e-6
    assert (found.p_value[1:] < 0.05).mean() <= 0.1
    with pytest.raises(ValueError, match="a shard in common"):
        sketch_drift(one, one)


def test_sketches_refuse_what_they_cannot_hold() -> None:
    with pytest.raises(ValueError, match="empty"):
        QuantileSketch(2).quantiles([0.5])
    with pytest.raises(ValueError, match="NaN"):
        QuantileSketch(1).update(np.array([[np.nan]]))
    with pytest.raises(ValueError, match="2 columns, got 3"):
        QuantileSketch(2).update(np.ones((4, 3)))


# --- samples of centres ---------------------------------------------------------------------------


def test_a_uniform_sample_is_uniform_and_does_not_know_the_partition() -> None:
    x = np.arange(1000.0)[:, None]
    hits = np.zeros(1000)
    for seed in range(400):
        whole = UniformSample(100, seed=seed)
        whole.update(x, 0)
        hits[whole.rows.numpy().ravel().astype(int)] += 1
    # 400 draws of a share of 0.1: the counts have mean 40 and variance 36.
    assert 28 < hits.var() < 45
    assert hits.mean() == 40
    assert abs(hits[:500].mean() - 40) < 1
    parts = []
    for i, rows in enumerate(np.array_split(x, 7)):
        part = UniformSample(100, seed=399)
        part.update(rows, int(rows[0, 0]))
        parts.insert(i % 3, part)
    total = UniformSample(100, seed=399)
    for part in parts:
        total.merge(part)
    assert torch.equal(total.rows, whole.rows)
    assert total.n == 1000


def test_density_and_coverage_lie_within_their_intervals() -> None:
    a, b = sets(2, n=500, m=450, d=6, shift=1.5)
    exact = precision_recall_density_coverage(a, b, level=None)
    held = {"coverage": 0, "density": 0}
    values = []
    for seed in range(40):
        found = sampled_manifold(a, b, size=100, seed=seed)
        values.append((found.coverage, found.density))
        for name in held:
            held[name] += getattr(exact, name) in found.intervals[name]
    # Of 40 at a level of 0.95; fewer than 34 has a chance of 0.003.
    assert min(held.values()) >= 34
    # Unbiased, so the mean over seeds goes to the exact value.
    error = np.std(values, axis=0) / 40**0.5
    wanted = np.array([exact.coverage, exact.density])
    assert (np.abs(np.mean(values, axis=0) - wanted) < 4 * error).all()


def test_all_rows_as_centres_give_the_exact_metrics() -> None:
    a, b = sets(3, n=300, m=250, d=4)
    a[7], b[9], b[10] = a[5], a[5], b[4]  # copies within and across
    exact = precision_recall_density_coverage(a, b, level=None)
    found = sampled_manifold(a, b, size=1000)
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(found, name) == pytest.approx(getattr(exact, name), abs=1e-12)
    assert np.array_equal(found.covered, exact.covered)
    assert np.array_equal(found.on_manifold, exact.on_manifold)


def test_neighbour_states_merge_in_any_partition() -> None:
    a, b = sets(4)
    centres = a[::6]
    whole = NeighbourSample(centres)
    whole.update(a, real=True)
    whole.update(b, real=False)
    first = NeighbourSample(centres)
    for part in np.array_split(a, 5)[::-1]:
        state = NeighbourSample(centres)
        state.update(part, real=True)
        first.merge(state)
    parts = []
    for rows in np.array_split(b, 3):
        state = NeighbourSample(centres)
        state.merge(first)
        state.update(rows, real=False)
        parts.append(state)
    total, *others = parts
    for other in others:
        total.merge(other)
    one, two = total.result(), whole.result()
    assert (one.coverage, one.density) == (two.coverage, two.density)
    np.testing.assert_allclose(one.nearest, two.nearest, rtol=1e-9)
    assert (one.n_real, one.n_synthetic) == (600, 500)


def test_distances_to_the_nearest_row_are_exact() -> None:
    a, b = sets(5)
    state = NeighbourSample(a[:50], k=1)
    state.update(a, real=True)
    state.update(b, real=False)
    wanted = np.linalg.norm(a[:50, None] - b[None], axis=2).min(axis=1)
    np.testing.assert_allclose(state.result().nearest, wanted, rtol=1e-9)


def test_a_greedy_k_centre_coreset_is_far_off() -> None:
    """Why centres are drawn uniformly: it takes the outlying rows that a generator misses."""
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((1500, 8)), rng.standard_normal((1500, 8))
    a[:150] *= 8
    exact = precision_recall_density_coverage(a, b, level=None).coverage
    chosen, near = [0], np.linalg.norm(a - a[0], axis=1)
    while len(chosen) < 150:
        chosen.append(int(near.argmax()))
        near = np.minimum(near, np.linalg.norm(a - a[chosen[-1]], axis=1))
    missed = {}
    for name, centres in (("greedy", a[chosen]), ("uniform", a[rng.permutation(1500)[:150]])):
        state = NeighbourSample(centres)
        state.update(a, real=True)
        state.update(b, real=False)
        missed[name] = abs(state.result().coverage - exact)
    assert missed["uniform"] < 0.1
    assert missed["greedy"] > 0.4


def test_neighbour_states_refuse_another_order() -> None:
    a, b = sets(6, n=20, m=20)
    state = NeighbourSample(a[:5])
    with pytest.raises(ValueError, match="balls need at least 6"):
        state.update(b, real=False)
    state.update(a, real=True)
    with pytest.raises(ValueError, match="no synthetic rows"):
        state.result()
    state.update(b, real=False)
    with pytest.raises(ValueError, match="before the first synthetic"):
        state.update(a, real=True)
    other = NeighbourSample(a[:5])
    other.update(a[:10], real=True)
    with pytest.raises(ValueError, match="other balls"):
        state.merge(other)
