"""Diversity of synthetic (predictions) over that of real (references) features."""

from __future__ import annotations

from evalsuite.metrics.distribution.diversity import vendi_ratio
from evalsuite.metrics.evaluate_modules import _base


class VendiRatio(_base.Features):
    """`vendi_ratio` for `evaluate`."""

    about = (
        "Vendi score of the synthetic rows over that of the real ones, at equal size. Best "
        "1; below 1 the synthetic set is less diverse."
    )
    source = "Friedman & Dieng 2023, The Vendi score, TMLR"
    least = "4"
    options = "q: order of the entropy, 0 to infinity."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, q: float = 1.0
    ) -> dict[str, float]:
        """Give the numbers."""
        result = vendi_ratio(real, synthetic, q=q)
        return _base.number("vendi_ratio", result.value, result.ci)
