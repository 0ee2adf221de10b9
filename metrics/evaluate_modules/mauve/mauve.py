"""MAUVE of synthetic (predictions) and real (references) features, of text as a rule."""

from __future__ import annotations

from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.evaluate_modules import _base


class Mauve(_base.Features):
    """`mauve` for `evaluate`."""

    about = (
        "Area under the frontier of the divergences of two quantised sets. In (0, 1], best "
        "1; needs thousands of rows, and compares only at equal n."
    )
    source = "Pillutla et al. 2021, arXiv:2102.01454"
    least = "2"
    options = "ci: whether to add a 95 % interval; needs 4 rows a side."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, ci: bool = False
    ) -> dict[str, float]:
        """Give the numbers."""
        result = mauve(real, synthetic, ci=ci)
        return _base.number("mauve", result.value, result.ci)
