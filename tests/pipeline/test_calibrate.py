"""Floor, gap, interval and p-value against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite.gate.findings import Finding
from evalsuite.gate.policy import Calibration
from evalsuite.pipeline.calibrate import SPECS, Measured, measure, principal_components

D = 16
SETTINGS = Calibration(splits=60, permutations=199)


def normal(seed: int, n: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (shift / np.sqrt(D) + scale * rng.standard_normal((n, D))).astype(np.float32)


def by_name(measured: Measured) -> dict[str, Finding]:
    return {f.metric: f for f in measured.findings}


@pytest.fixture(scope="module")
def shifted() -> dict[str, Finding]:
    return by_name(measure(normal(1, 400), normal(2, 400, shift=1.0), settings=SETTINGS))


@pytest.fixture(scope="module")
def alike() -> dict[str, Finding]:
    return by_name(measure(normal(1, 400), normal(2, 400), settings=SETTINGS))


def test_all_metrics_are_there(alike: dict[str, Finding]) -> None:
    assert set(alike) == set(SPECS)


def test_gap_of_a_shift_is_its_closed_form(shifted: dict[str, Finding]) -> None:
    # Fréchet: |shift|^2 = 1 over a total variance of 16.
    frechet = shifted["frechet_distance"]
    assert frechet.gap_ci.low < 1 / D < frechet.gap_ci.high
    # KID: field formula, M = |shift|^2 = 1, over E k(x,x) - E k(x,x').
    kid = 3 / D + 3 / D**2 + (1 + 6 + 3 * (D + 2)) / D**3
    x = np.sum(np.random.default_rng(0).standard_normal((100_000, D)) ** 2, axis=1)
    spread = ((x / D + 1) ** 3).mean() - (1 + 3 / D)
    found = shifted["kid"]
    assert found.gap_ci.low < kid / spread < found.gap_ci.high
    assert abs(found.value - kid) < 0.05


def test_a_gap_is_detected_and_its_absence_is_not(
    shifted: dict[str, Finding], alike: dict[str, Finding]
) -> None:
    for name in ("frechet_distance", "kid", "mmd_rbf", "c2st"):
        assert shifted[name].p_value == pytest.approx(1 / 200, abs=0.003)
        assert shifted[name].gap_ci.low > 0
        assert alike[name].gap_ci.low <= 0 <= alike[name].gap_ci.high
        assert alike[name].p_value > 0.01


def test_floor_is_that_of_real_against_real(alike: dict[str, Finding]) -> None:
    for f in alike.values():
        if f.metric == "c2st":
            continue
        assert f.floor is not None
        assert f.floor.size == 200
        assert f.floor.q05 <= f.floor.median <= f.floor.q95
        # The two halves of real and the matched draws come from the same law.
        assert abs(f.matched - f.floor.mean) < 4 * np.std(f.floor.values)
    assert alike["density"].floor.mean == pytest.approx(1, abs=0.1)
    assert abs(alike["kid"].floor.mean) < 0.01


def test_swapping_the_sides_swaps_precision_and_recall() -> None:
    wide, narrow = normal(3, 300), normal(4, 300, scale=0.5)
    there = by_name(measure(wide, narrow, settings=SETTINGS))
    back = by_name(measure(narrow, wide, settings=SETTINGS))
    assert there["precision"].value == pytest.approx(back["recall"].value)
    assert there["recall"].gap > 0.3  # the narrow set misses most of the wide one
    assert there["precision"].gap < 0.1
    assert there["coverage"].gap != pytest.approx(back["coverage"].gap, abs=0.05)


def test_unequal_sizes_and_a_limit_on_samples() -> None:
    found = by_name(measure(normal(5, 500), normal(6, 150, shift=1.0), settings=SETTINGS))
    assert found["kid"].n_real == 500
    assert found["kid"].floor.size == 75
    limited = Calibration(splits=60, permutations=199, max_samples=100)
    few = by_name(measure(normal(5, 500), normal(6, 500, shift=1.0), settings=limited))
    all_ = by_name(measure(normal(5, 500), normal(6, 500, shift=1.0), settings=SETTINGS))
    # The value uses everything; only its uncertainty is that of fewer.
    assert few["kid"].value == pytest.approx(all_["kid"].value)
    assert few["kid"].min_detectable_gap > all_["kid"].min_detectable_gap


def test_groups_widen_the_interval_and_hold_the_level() -> None:
    """Ten near copies of each source: without groups every test cries wolf."""
    alone, grouped = [], []
    for r in range(40):
        rng = np.random.default_rng(r)
        sides = [
            np.repeat(rng.standard_normal((30, 4)), 10, axis=0)
            + 0.1 * rng.standard_normal((300, 4))
            for _ in range(2)
        ]
        real, synthetic = (s.astype(np.float32) for s in sides)
        groups = [str(i // 10) for i in range(300)]
        names = [f"a{g}" for g in groups], [f"b{g}" for g in groups]
        settings = Calibration(splits=20, permutations=99)
        for pool, kwargs in (
            (alone, {}),
            (grouped, {"groups_real": names[0], "groups_synthetic": names[1]}),
        ):
            found = by_name(
                measure(real, synthetic, settings=settings, seed=r, metrics=["kid"], **kwargs)
            )
            pool.append(found["kid"])
    rejected = [sum(f.p_value <= 0.05 for f in pool) for pool in (alone, grouped)]
    assert rejected[0] > 20  # 40 of 40 in theory: the copies are taken for evidence
    assert rejected[1] <= stats.binom.ppf(0.999, 40, 0.05)
    assert np.mean([f.details["standard_error"] for f in grouped]) > 2 * np.mean(
        [f.details["standard_error"] for f in alone]
    )


def test_same_seed_same_bytes() -> None:
    real, synthetic = normal(7, 80), normal(8, 80)
    first = measure(real, synthetic, settings=SETTINGS, seed=3)
    again = measure(real, synthetic, settings=SETTINGS, seed=3)
    other = measure(real, synthetic, settings=SETTINGS, seed=4)
    assert first.to_bytes() == again.to_bytes()
    assert first.findings != other.findings


def test_stored_and_read_back_is_the_same() -> None:
    first = measure(normal(7, 80), normal(8, 80), settings=SETTINGS)
    back = Measured.from_bytes(first.to_bytes())
    assert back.findings == first.findings
    for name in ("covered", "scores_real", "nearest_real", "coordinates"):
        np.testing.assert_array_equal(getattr(back, name), getattr(first, name))


def test_what_is_known_of_single_samples() -> None:
    real, synthetic = normal(9, 200), normal(10, 200, shift=3.0)
    synthetic[5] = real[17]
    found = measure(real, synthetic, settings=SETTINGS)
    assert found.nearest_real[5] == 17
    assert found.nearest_distance[5] == pytest.approx(0, abs=1e-5)
    assert found.scores_synthetic.mean() > found.scores_real.mean() + 0.5
    assert found.covered.mean() < 0.9


def test_principal_components_are_those_of_the_covariance() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 40)) * np.linspace(5, 0.1, 40) + 100
    scores, variance, total = principal_components(z, 3, seed=0)
    exact = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    np.testing.assert_allclose(variance, exact[:3], rtol=1e-3)
    assert total == pytest.approx(exact.sum())
    assert scores.shape == (300, 3)
    np.testing.assert_allclose(scores.var(axis=0, ddof=1), variance, rtol=1e-6)
