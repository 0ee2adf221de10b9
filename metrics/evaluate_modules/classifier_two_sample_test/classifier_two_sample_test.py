"""How well a classifier tells synthetic (predictions) from real (references) features."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class ClassifierTwoSampleTest(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`classifier_two_sample_test` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="How well a held-out linear classifier tells synthetic from real: "
            "2 AUC - 1. Best 0; higher is worse.",
            citation="Lopez-Paz & Oquab 2017, arXiv:1610.06545",
            inputs_description="""
Feature vectors of one length, at least 5 on each side.

predictions: synthetic features.
references: real features; need not be as many.
permutations: relabellings for classifier_p_value; 0 leaves it out.
""",
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(
        self,
        predictions: list[list[float] | None],
        references: list[list[float] | None],
        *,
        permutations: int = 0,
    ) -> dict[str, float]:
        result = classifier_two_sample_test(
            matrix(references, "references"),
            matrix(predictions, "predictions"),
            permutations=permutations,
        )
        out = {
            "classifier_effect": result.effect,
            "classifier_auc": result.auc,
            "classifier_effect_low": result.ci.low,
            "classifier_effect_high": result.ci.high,
        }
        if result.p_value is not None:
            out["classifier_p_value"] = result.p_value
        return out
