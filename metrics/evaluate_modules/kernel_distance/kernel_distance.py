"""Kernel distance between synthetic (predictions) and real (references) features."""

from __future__ import annotations

import datasets
import evaluate

from evalsuite.metrics.distribution.kernel import KERNELS, kernel_distance
from evalsuite.metrics.evaluate_modules import TwoSided, matrix


class KernelDistance(TwoSided, evaluate.Metric):  # type: ignore[misc]
    """`kernel_distance` for `evaluate`; the kernel is the configuration's name."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in {"default", *KERNELS}:
            raise ValueError(
                f"the configuration is a kernel: one of {', '.join(KERNELS)}; got "
                f"{self.config_name!r}"
            )
        vectors = datasets.Sequence(datasets.Value("float64"))
        return evaluate.MetricInfo(
            description="Squared maximum mean discrepancy over all pairs: the KID for Inception "
            "features. Configurations: " + ", ".join(KERNELS) + "; polynomial by default. Best 0, "
            "lower is better; unbiased (but for cmmd), so it can be below 0.",
            citation="Gretton et al. 2012; Bińkowski et al. 2018, arXiv:1801.01401",
            inputs_description="""
Feature vectors of one length, at least 2 on each side.

predictions: synthetic features.
references: real features; need not be as many.
bandwidth: of the RBF kernels; by default the median distance.

The output has kernel_distance and, from 4 vectors a side, kernel_distance_low and _high: a 95 %
interval of the population's distance.
""",
            features=datasets.Features({"predictions": vectors, "references": vectors}),
        )

    def _compute(
        self,
        predictions: list[list[float] | None],
        references: list[list[float] | None],
        *,
        bandwidth: float | None = None,
    ) -> dict[str, float]:
        result = kernel_distance(
            matrix(references, "references"),
            matrix(predictions, "predictions"),
            "polynomial" if self.config_name == "default" else self.config_name,
            bandwidth=bandwidth,
        )
        out = {"kernel_distance": result.value}
        if result.ci is not None:
            out |= {"kernel_distance_low": result.ci.low, "kernel_distance_high": result.ci.high}
        return out
