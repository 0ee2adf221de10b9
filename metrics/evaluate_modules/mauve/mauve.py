"""MAUVE of synthetic (predictions) and real (references) features, of text as a rule."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class Mauve(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`mauve` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Area under the frontier of the divergences of two quantised sets. "
            "In (0, 1], best 1; needs thousands of rows, and compares only at equal n.",
            citation="Pillutla et al. 2021, arXiv:2102.01454",
            inputs_description="""
Feature vectors of one length, at least 2 on each side.

predictions: synthetic features.
references: real features; need not be as many.
ci: whether to add mauve_low and mauve_high, a 95 % interval; needs 4 rows a side.
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
        result = mauve(matrix(references, "references"), matrix(predictions, "predictions"), ci=ci)
        out = {"mauve": result.value}
        if result.ci is not None:
            out |= {"mauve_low": result.ci.low, "mauve_high": result.ci.high}
        return out
