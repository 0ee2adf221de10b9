"""Sliced Wasserstein distance between synthetic (predictions) and real (references) rows."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.transport import sliced_wasserstein
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class SlicedWasserstein(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`sliced_wasserstein` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Root mean square Wasserstein-2 distance along orthogonal random "
            "directions, in the features' unit. Best 0, lower is better; biased upwards at few "
            "rows.",
            citation="Bonneel et al. 2015, J. Math. Imaging Vis. 51",
            inputs_description="""
Feature vectors of one length, at least 1 on each side.

predictions: synthetic features.
references: real features; need not be as many.
ci: whether to add sliced_wasserstein_low and _high, a 95 % interval; needs 4 rows a side.
""",
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(
        self,
        predictions: list[list[float] | None],
        references: list[list[float] | None],
        *,
        ci: bool = False,
    ) -> dict[str, float]:
        result = sliced_wasserstein(
            matrix(references, "references"), matrix(predictions, "predictions"), ci=ci
        )
        out = {"sliced_wasserstein": result.value}
        if result.ci is not None:
            out |= {
                "sliced_wasserstein_low": result.ci.low,
                "sliced_wasserstein_high": result.ci.high,
            }
        return out
