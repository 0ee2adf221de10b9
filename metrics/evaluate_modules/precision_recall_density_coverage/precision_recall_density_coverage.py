"""Precision, recall, density and coverage of synthetic (predictions) against real features."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class PrecisionRecallDensityCoverage(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`precision_recall_density_coverage` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Fidelity (precision, density) and diversity (recall, coverage) by "
            "k-nearest-neighbour manifolds. Best 1; all depend on the numbers of rows and on k.",
            citation="Kynkäänniemi et al. 2019, arXiv:1904.06991; Naeem et al. 2020, "
            "arXiv:2002.09797",
            inputs_description="""
Feature vectors of one length, more than k on each side.

predictions: synthetic features.
references: real features; need not be as many.
k: neighbours that make a ball.
ci: whether to add _low and _high to each of the four: 95 % intervals.
""",
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(
        self,
        predictions: list[list[float] | None],
        references: list[list[float] | None],
        *,
        k: int = 5,
        ci: bool = False,
    ) -> dict[str, float]:
        result = precision_recall_density_coverage(
            matrix(references, "references"),
            matrix(predictions, "predictions"),
            k=k,
            level=0.95 if ci else None,
        )
        out = {
            "precision": result.precision,
            "recall": result.recall,
            "density": result.density,
            "coverage": result.coverage,
        }
        for name, interval in result.intervals.items():
            out |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        return out
