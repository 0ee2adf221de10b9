"""Vendi score of one set of features (predictions)."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.diversity import vendi_score
from evalsuite.metrics.evaluate_modules import _base


class VendiScore(evaluate.Metric):  # type: ignore[misc]
    """`vendi_score` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Effective number of different samples, by the cosine kernel: 1 (all "
            "alike) to n (all unlike). Higher is more diverse; compare at equal n only.",
            citation="Friedman & Dieng 2023, The Vendi score, TMLR",
            inputs_description="""
predictions: feature vectors of one length.
q: order of the entropy, 0 to infinity.
ci: whether to add a 95 % interval; needs 4 rows.
""",
            features=datasets.Features({"predictions": vectors}),
        )

    def _compute(
        self, predictions: list[list[float] | None], *, q: float = 1.0, ci: bool = False
    ) -> dict[str, float]:
        result = vendi_score(_base.matrix(predictions, "predictions"), q=q, ci=ci)
        return _base.number("vendi_score", result.value, result.ci)
