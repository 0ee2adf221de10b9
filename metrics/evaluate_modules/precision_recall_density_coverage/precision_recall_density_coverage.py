"""Precision, recall, density and coverage of synthetic (predictions) against real features."""

from __future__ import annotations

from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage
from evalsuite.metrics.evaluate_modules import _base


class PrecisionRecallDensityCoverage(_base.Features):
    """`precision_recall_density_coverage` for `evaluate`."""

    about = (
        "Fidelity (precision, density) and diversity (recall, coverage) by k-nearest-"
        "neighbour manifolds. Best 1; all depend on the numbers of rows and on k."
    )
    source = "Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, arXiv:2002.09797"
    least = "k + 1"
    options = "k: neighbours that make a ball. ci: whether to add 95 % intervals."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, k: int = 5, ci: bool = False
    ) -> dict[str, float]:
        """Give the numbers."""
        level = 0.95 if ci else None
        found = precision_recall_density_coverage(real, synthetic, k=k, level=level)
        out: dict[str, float] = {}
        for name in ("precision", "recall", "density", "coverage"):
            out |= _base.number(name, getattr(found, name), found.intervals.get(name))
        return out
