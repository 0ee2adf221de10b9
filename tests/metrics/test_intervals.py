"""Intervals from half-samples, order statistics and placements: what they are, and what they hold.

How often all of them hold the truth, at more sizes, is measured in results/calibration.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.distribution.copying import copy_tests, quantile_interval
from evalsuite.metrics.distribution.diversity import vendi_score
from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.inference import half_sample_interval, subsample_masks


def at_least(held: int, runs: int) -> None:
    """Not so few that 95 % would be refused once in a thousand times."""
    assert held >= stats.binom.ppf(0.001, runs, 0.95), held


def test_half_samples_take_the_bias_off_and_hold_the_truth() -> None:
    """The squared mean of n values is 1/n too large on average."""
    held, centres, runs = 0, [], 300
    for run in range(runs):
        x = np.random.default_rng(run).normal(0.5, 1, 60)
        masks = subsample_masks(60, 30, 30, seed=run)
        found = half_sample_interval(
            x.mean() ** 2, [x[m].mean() ** 2 for m in masks.T], 0.95, bounds=(-np.inf, np.inf)
        )
        held += 0.25 in found
        centres.append((found.low + found.high) / 2)
    at_least(held, runs)
    # 1/60 of bias is four of these errors.
    assert np.mean(centres) == pytest.approx(0.25, abs=2.5 * np.std(centres) / np.sqrt(runs))


def test_half_sample_interval_is_cut_to_its_bounds() -> None:
    found = half_sample_interval(0.1, [0.5, 0.6], 0.9)
    assert (found.low, found.level) == (0.0, 0.9)
    assert half_sample_interval(1.0, [0.2, 0.3], 0.9, bounds=(0.0, 1.0)).high == 1.0
    with pytest.raises(ValueError, match="R >= 2"):
        half_sample_interval(0.1, [0.5], 0.9)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("grouped", [False, True])
def test_sorted_projections_give_the_distances_of_halves(p: int, grouped: bool) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 3)), rng.normal(0.4, 1.2, size=(28, 3))
    groups = (np.arange(40) // 4, np.arange(28) // 4) if grouped else (None, None)
    told = sliced_wasserstein(
        x, y, p=p, directions=9, ci=True, groups_real=groups[0], groups_synthetic=groups[1], seed=5
    )
    masks = [
        subsample_masks(len(z), len(z) // 2, 30, groups=g, seed=5 + i)
        for i, (z, g) in enumerate(zip((x, y), groups, strict=True))
    ]
    halves = [
        sliced_wasserstein(x[i], y[j], p=p, directions=9, seed=5).value ** 2
        for i, j in zip(masks[0].T, masks[1].T, strict=True)
    ]
    want = half_sample_interval(told.value**2, halves, 0.95)
    assert told.ci is not None
    assert (told.ci.low, told.ci.high) == pytest.approx((want.low**0.5, want.high**0.5))
    assert sliced_wasserstein(x, y, p=p, directions=9, seed=5).ci is None


def test_distances_hold_a_shift() -> None:
    held = {"sliced": 0, "most": 0, "sinkhorn": 0}
    runs = 40
    for run in range(runs):
        rng = np.random.default_rng(run)
        x, y = rng.normal(size=(60, 4)), rng.normal(size=(60, 4)) + 0.5
        sliced = sliced_wasserstein(x, y, directions=16, ci=True).ci
        most = max_sliced_wasserstein(x, y, directions=8, steps=5, ci=True)
        moved = sinkhorn_divergence(x, y, blur=1.0, ci=True).ci
        assert sliced is not None and most.ci is not None and moved is not None  # noqa: PT018
        held["sliced"] += 0.5 in sliced
        held["most"] += abs(0.5 * float(most.direction.sum())) in most.ci
        held["sinkhorn"] += 0.5 in moved
    for count in held.values():
        at_least(count, runs)


@pytest.mark.parametrize("function", [sliced_wasserstein, sinkhorn_divergence, mauve])
def test_intervals_refuse_what_cannot_be_halved(function) -> None:  # type: ignore[no-untyped-def]
    x = np.random.default_rng(0).normal(size=(3, 2))
    with pytest.raises(ValueError, match="an interval needs at least 4 rows"):
        function(x, x + 1, ci=True)


def test_mauve_of_separate_clusters_holds_its_truth() -> None:
    """Three far clusters are their own codebook, whatever the sample."""
    centres = np.array([[0.0, 0], [50, 0], [0, 50]])
    shares = (np.array([0.5, 0.3, 0.2]), np.array([0.3, 0.3, 0.4]))
    from evalsuite.metrics.distribution.mauve import frontier_area

    truth, held, runs = frontier_area(*shares), 0, 60
    for run in range(runs):
        rng = np.random.default_rng(run)
        x, y = (centres[rng.choice(3, 150, p=s)] + rng.normal(size=(150, 2)) for s in shares)
        found = mauve(x, y, clusters=3, seeds=1, ci=True).ci
        assert found is not None
        held += truth in found
    at_least(held, runs)


def test_vendi_interval_is_lognormal_and_wider_for_groups() -> None:
    x = np.repeat(np.random.default_rng(0).normal(size=(20, 6)), 4, axis=0)
    lone = vendi_score(x, ci=True)
    grouped = vendi_score(x, ci=True, groups=np.arange(80) // 4)
    assert lone.ci is not None
    assert grouped.ci is not None
    assert lone.value == grouped.value == vendi_score(x).value
    assert lone.ci.low * lone.ci.high == pytest.approx(lone.value**2)
    assert grouped.ci.high / grouped.ci.low > 1.1 * lone.ci.high / lone.ci.low
    with pytest.raises(ValueError, match="too few to halve"):
        vendi_score(x[:3], ci=True)


@pytest.mark.parametrize(("n", "q"), [(20, 0.05), (40, 0.05), (200, 0.05), (30, 0.5)])
def test_quantile_intervals_hold_as_often_as_the_binomial_says(n: int, q: float) -> None:
    found = quantile_interval(np.arange(1, n + 1) / (n + 1), q, 0.95)
    low, high = round(found.low * (n + 1)), round(found.high * (n + 1))
    # The quantile lies between the order statistics when low to high - 1 values are below it.
    hold = stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q)
    assert hold >= 0.95
    assert quantile_interval(np.full(20, 0.3), 0.5, 0.95).low == 0.3


def test_copying_intervals_hold_their_expectation_given_the_training_data() -> None:
    train = np.random.default_rng(99).normal(size=(100, 4))
    reports = []
    for run in range(60):
        holdout, synthetic = np.random.default_rng(run).normal(size=(2, 100, 4))
        synthetic[:30] = train[:30] + 0.1
        reports.append(copy_tests(train, holdout, synthetic, permutations=1, cells=1))
    mean = np.mean([r.c_t.value for r in reports])
    assert mean < -2
    at_least(sum(mean in r.c_t.interval for r in reports), 60)
    assert all(r.nndr.synthetic in r.nndr.synthetic_interval for r in reports)
    assert all(r.nndr.holdout in r.nndr.holdout_interval for r in reports)


def test_mode_intervals() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0], [50, 0], [0, 50], [50, 50]])
    real = centres[rng.choice(4, 400)] + rng.normal(size=(400, 2))
    synthetic = centres[rng.choice(3, 300)] + rng.normal(size=(300, 2))
    found = mode_tests(real, synthetic, bins=4, permutations=99, splits=6)
    assert found.hits.value in found.hits.interval
    lost = found.ndb.different[0]
    assert lost.difference is not None
    assert lost.synthetic - lost.real in lost.difference
    assert lost.difference.high < 0
    groups = np.arange(400) // 2
    grouped = mode_tests(real, synthetic, groups_real=groups, bins=4, permutations=99, splits=6)
    assert grouped.ndb.different[0].difference is None
    with pytest.raises(ValueError, match="splits must be at least 2"):
        mode_tests(real, synthetic, splits=1)
