"""Vendi score of one set of features (predictions)."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.diversity import vendi_score
from evalsuite.metrics.evaluate_modules import matrix


class VendiScore(evaluate.Metric):  # type: ignore[misc]
    """`vendi_score` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Effective number of different samples, by the cosine kernel: 1 (all "
            "alike) to n (all unlike). Higher is more diverse; compare at equal n only.",
            citation="Friedman & Dieng 2023, The Vendi score, TMLR",
            inputs_description="""
predictions: feature vectors of one length.
q: order of the entropy, 0 to infinity.
""",
            features=datasets.Features(
                {"predictions": datasets.Sequence(datasets.Value("float64"))}
            ),
        )

    def _compute(
        self, predictions: list[list[float] | None], *, q: float = 1.0
    ) -> dict[str, float]:
        return {"vendi_score": vendi_score(matrix(predictions, "predictions"), q=q).value}
