"""Fréchet distance between synthetic (predictions) and real (references) features."""

from __future__ import annotations

from evalsuite.metrics.distribution.frechet import frechet_distance
from evalsuite.metrics.evaluate_modules import _base


class FrechetDistance(_base.Features):
    """`frechet_distance` for `evaluate`."""

    about = (
        "Squared Fréchet distance between Gaussian fits (FID for Inception features). Best "
        "0, lower is better; biased upwards at few rows."
    )
    source = "Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500"
    least = "2"
    options = (
        "ci: whether to add a 95 % interval of the population's distance; more than 2 d "
        "rows a side."
    )

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, ci: bool = False
    ) -> dict[str, float]:
        """Give the numbers."""
        result = frechet_distance(real, synthetic, ci=ci)
        return _base.number("frechet_distance", result.value, result.ci)
