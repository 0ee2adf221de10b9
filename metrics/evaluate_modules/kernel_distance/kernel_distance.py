"""Kernel distance between synthetic (predictions) and real (references) features."""

from __future__ import annotations

from typing import Any

from evalsuite.metrics.distribution.kernel import KERNELS, kernel_distance
from evalsuite.metrics.evaluate_modules import _base


class KernelDistance(_base.Features):
    """`kernel_distance` for `evaluate`; the kernel is the configuration's name."""

    about = (
        "Squared maximum mean discrepancy over all pairs: the KID for Inception features. "
        "Configurations: " + ", ".join(KERNELS) + "; polynomial by default. Best 0, lower is "
        "better; unbiased (but for cmmd), so it can be below 0."
    )
    source = "Gretton et al. 2012; Bińkowski et al. 2018, arXiv:1801.01401"
    least = "2"
    options = (
        "bandwidth: of the RBF kernels; by default the median distance. "
        "With 4 vectors a side the output has a 95 % interval too."
    )

    def _info(self) -> Any:
        if self.config_name not in {"default", *KERNELS}:
            raise ValueError(
                f"the configuration is a kernel: one of {', '.join(KERNELS)}; got "
                f"{self.config_name!r}"
            )
        return super()._info()

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, bandwidth: float | None = None
    ) -> dict[str, float]:
        """Give the numbers."""
        kernel = "polynomial" if self.config_name == "default" else self.config_name
        result = kernel_distance(real, synthetic, kernel, bandwidth=bandwidth)
        return _base.number("kernel_distance", result.value, result.ci)
