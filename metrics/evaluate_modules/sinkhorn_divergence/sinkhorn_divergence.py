"""Sinkhorn divergence between synthetic (predictions) and real (references) features."""

from __future__ import annotations

from evalsuite.metrics.distribution.transport import sinkhorn_divergence
from evalsuite.metrics.evaluate_modules import _base


class SinkhornDivergence(_base.Features):
    """`sinkhorn_divergence` for `evaluate`."""

    about = (
        "Debiased entropic transport, in squared units of the features. Best 0, lower is "
        "better; compare values at one blur only."
    )
    source = "Feydy et al. 2019, arXiv:1810.08278"
    least = "1"
    options = (
        "blur: length scale of the smoothing. ci: whether to add a 95 % interval; needs 4 "
        "rows a side."
    )

    def measure(
        self,
        real: _base.Floats,
        synthetic: _base.Floats,
        *,
        blur: float | None = None,
        ci: bool = False,
    ) -> dict[str, float]:
        """Give the numbers."""
        result = sinkhorn_divergence(real, synthetic, blur=blur, ci=ci)
        return _base.number("sinkhorn_divergence", result.value, result.ci)
