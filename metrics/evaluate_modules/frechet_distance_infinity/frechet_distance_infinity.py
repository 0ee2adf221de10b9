"""Fréchet distance of synthetic and real features at infinitely many rows."""

from __future__ import annotations

from evalsuite.metrics.distribution.frechet import frechet_distance_infinity
from evalsuite.metrics.evaluate_modules import _base


class FrechetDistanceInfinity(_base.Features):
    """`frechet_distance_infinity` for `evaluate`."""

    about = (
        "Squared Fréchet distance, extrapolated to infinitely many rows on both sides, "
        "which removes its bias to first order. Best 0, lower is better."
    )
    source = "Chong & Forsyth 2020, arXiv:1911.07023"
    least = "2 d + 4"

    def measure(self, real: _base.Floats, synthetic: _base.Floats) -> dict[str, float]:
        """Give the numbers."""
        result = frechet_distance_infinity(real, synthetic)
        return _base.number("frechet_distance_infinity", result.value, result.ci)
