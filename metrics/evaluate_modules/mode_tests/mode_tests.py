"""Modes that synthetic (predictions) rows miss, overdo or repeat."""

from __future__ import annotations

from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.evaluate_modules import _base


class ModeTests(_base.Features):
    """`mode_tests` for `evaluate`."""

    about = (
        "Share of bins with a wrong share of rows (best 0), effective number of real rows "
        "that are hit (higher is better), and share of colliding pairs (lower is better)."
    )
    source = "Richardson & Weiss 2018, arXiv:1805.12462; Arora & Zhang 2017, arXiv:1706.08224"
    least = "40 real and 20 synthetic ones"
    options = "permutations: relabellings for the p-values; 0 leaves them out."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, permutations: int = 0
    ) -> dict[str, float]:
        """Give the numbers."""
        found = mode_tests(real, synthetic, permutations=max(1, permutations))
        out = {"ndb": found.ndb.value}
        out |= _base.number("effective_hits", found.hits.value, found.hits.interval)
        out |= _base.number("collision_rate", found.birthday.value, found.birthday.interval)
        if permutations:
            out |= {f"{name}_p_value": p for name, p in found.p_adjusted.items()}
        return out
