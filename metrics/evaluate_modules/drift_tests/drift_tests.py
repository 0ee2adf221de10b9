"""Drift of each column of synthetic (predictions) against real (references) features."""

from __future__ import annotations

from evalsuite.metrics.drift.table import drift_tests
from evalsuite.metrics.evaluate_modules import _base


class DriftTests(_base.Features):
    """`drift_tests` for `evaluate`."""

    about = (
        "Columns whose distribution differs, after adjustment for their number, and the "
        "largest Wasserstein distance (in real standard deviations) and KS distance of a "
        "column. Best 0."
    )
    source = "Ramdas et al. 2017, arXiv:1509.02237; Benjamini & Hochberg 1995"
    least = "2"
    options = "alpha: level of the false discovery rate."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, alpha: float = 0.05
    ) -> dict[str, float]:
        """Give the numbers."""
        sides = [{str(j): side[:, j] for j in range(side.shape[1])} for side in (real, synthetic)]
        report = drift_tests(*sides, kinds=dict.fromkeys(sides[0], "numeric"), alpha=alpha)
        columns = [c.numeric for c in report.columns if c.numeric is not None]
        return {
            "drifted_columns": len(report.drifted),
            "largest_wasserstein": max(c.wasserstein for c in columns),
            "largest_ks": max(c.ks for c in columns),
        }
