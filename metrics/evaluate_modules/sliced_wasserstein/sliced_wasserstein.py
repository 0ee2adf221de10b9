"""Sliced Wasserstein distance between synthetic (predictions) and real (references) rows."""

from __future__ import annotations

from evalsuite.metrics.distribution.transport import sliced_wasserstein
from evalsuite.metrics.evaluate_modules import _base


class SlicedWasserstein(_base.Features):
    """`sliced_wasserstein` for `evaluate`."""

    about = (
        "Root mean square Wasserstein-2 distance along orthogonal random directions, in the"
        " features' unit. Best 0, lower is better; biased upwards at few rows."
    )
    source = "Bonneel et al. 2015, J. Math. Imaging Vis. 51"
    least = "1"
    options = "ci: whether to add a 95 % interval; needs 4 rows a side."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, ci: bool = False
    ) -> dict[str, float]:
        """Give the numbers."""
        result = sliced_wasserstein(real, synthetic, ci=ci)
        return _base.number("sliced_wasserstein", result.value, result.ci)
