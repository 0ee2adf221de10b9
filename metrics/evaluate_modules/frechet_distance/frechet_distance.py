"""Fréchet distance between synthetic (predictions) and real (references) features."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.frechet import frechet_distance
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class FrechetDistance(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`frechet_distance` for `evaluate`."""

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Squared Fréchet distance between Gaussian fits (FID for Inception "
            "features). Best 0, lower is better; biased upwards at few rows.",
            citation="Dowson & Landau 1982; Heusel et al. 2017, arXiv:1706.08500",
            inputs_description="""
Feature vectors of one length, at least 2 on each side.

predictions: synthetic features.
references: real features; need not be as many.
ci: whether to add frechet_distance_low and _high, a 95 % interval of the population's distance;
    needs more than 2 d rows a side.
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
        result = frechet_distance(
            matrix(references, "references"), matrix(predictions, "predictions"), ci=ci
        )
        out = {"frechet_distance": result.value}
        if result.ci is not None:
            out |= {"frechet_distance_low": result.ci.low, "frechet_distance_high": result.ci.high}
        return out
