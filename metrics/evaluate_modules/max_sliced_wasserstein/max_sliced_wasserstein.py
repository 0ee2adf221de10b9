"""Wasserstein distance along the direction that tells synthetic from real rows most."""

from __future__ import annotations

from evalsuite.metrics.distribution.transport import max_sliced_wasserstein
from evalsuite.metrics.evaluate_modules import _base


class MaxSlicedWasserstein(_base.Features):
    """`max_sliced_wasserstein` for `evaluate`."""

    about = (
        "Wasserstein-2 distance along the direction that tells the sides apart most, "
        "searched on one half of the rows and measured on the other. Best 0, lower is "
        "better."
    )
    source = "Deshpande et al. 2019, arXiv:1904.05877"
    least = "4"
    options = "ci: whether to add a 95 % interval; needs 8 rows a side."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, ci: bool = False
    ) -> dict[str, float]:
        """Give the numbers."""
        result = max_sliced_wasserstein(real, synthetic, ci=ci)
        return _base.number("max_sliced_wasserstein", result.value, result.ci)
