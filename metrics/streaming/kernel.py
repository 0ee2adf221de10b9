"""Kernel distances over batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torchmetrics.utilities import dim_zero_cat

from .._check import Array
from ..distribution.kernel import KERNELS, KernelResult, kernel_distance
from ._features import FeaturePair

if TYPE_CHECKING:
    from torchmetrics import Metric


class KernelDistance(FeaturePair):
    """Squared kernel distance (KID and others) between two streams of features; best 0.

    ``estimator="full"`` keeps all features and takes every pair, so that no partition of the data
    into batches, processes or ranks changes the value. ``estimator="block"`` takes the distance of
    each block as it fills and keeps three numbers and less than a block of rows: constant memory,
    more variance, and rows must arrive in random order. How they are dealt to ranks then changes
    which rows share a block, not what is estimated.

    Parameters
    ----------
    kernel : str
        As in :func:`evalsuite.metrics.distribution.kernel.kernel_distance`.
    estimator : {"full", "block"}
        See above.
    bandwidth : float, optional
        σ of the RBF kernels; needed with ``"block"``, where the data's median is not known.
    block_size : int
        Rows of each side in a block, for ``"block"``.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side; ``"full"`` only.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If the options do not fit together.

    See Also
    --------
    evalsuite.metrics.distribution.kernel.kernel_distance : Limits, notes and references.
    """

    higher_is_better = False

    blocks: torch.Tensor

    def __init__(
        self,
        kernel: str = "polynomial",
        *,
        estimator: str = "full",
        bandwidth: float | None = None,
        block_size: int = 256,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        if kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}; got {kernel!r}")
        if estimator not in {"full", "block"}:
            raise ValueError(f"estimator must be 'full' or 'block', got {estimator!r}")
        if estimator == "block":
            if kernel == "cmmd":
                raise ValueError("cmmd is defined as the full V-statistic: use estimator='full'")
            if kernel.startswith("rbf") and bandwidth is None:
                raise ValueError(
                    "a stream's median distance is not known beforehand: give a bandwidth, for "
                    "example median_bandwidth of a first part of the data"
                )
            if block_size < 2:
                raise ValueError(f"block_size must be at least 2, got {block_size}")
            if not reset_real_features:
                raise ValueError("estimator='block' keeps no real features to reuse after reset")
        self.kernel = kernel
        self.estimator = estimator
        self.bandwidth = bandwidth
        self.block_size = block_size
        # Count, sum and sum of squares of the blocks' values.
        self.add_state("blocks", torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        if estimator == "block":
            # A MetricCollection lets metrics share states that are equal after the first batch,
            # before any block is full. Streams share blocks only if they make them alike.
            recipe = [KERNELS.index(kernel), bandwidth or 0.0, block_size]
            self.add_state(
                "recipe", torch.tensor(recipe, dtype=torch.float64), dist_reduce_fx="max"
            )

    def update(self, features: Array, real: bool) -> None:
        """Add a batch, shape (n, d), of one side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        super().update(features, real)
        if self.estimator == "block":
            self._fill()

    def _fill(self) -> None:
        """Turn what has come together into blocks."""
        while min(_count(self.real), _count(self.synthetic)) >= self.block_size:
            x, y = (self._take(name) for name in ("real", "synthetic"))
            value = kernel_distance(x, y, self.kernel, bandwidth=self.bandwidth).value
            self.blocks += self.blocks.new_tensor([1.0, value, value * value])

    def _take(self, name: str) -> torch.Tensor:
        """Take a block's rows from the front of a side."""
        rows: torch.Tensor = dim_zero_cat(getattr(self, name))
        rest = rows[self.block_size :]
        setattr(self, name, [rest] if len(rest) else [])
        return rows[: self.block_size]

    def result(self) -> KernelResult:
        """Give the full-estimator result with its interval, for this process alone.

        Raises
        ------
        ValueError
            If the estimator is ``"block"``, or a side has fewer than 2 rows.
        """
        if self.estimator != "full":
            raise ValueError("a block stream has value and standard_error only: use compute()")
        if min(_count(self.real), _count(self.synthetic)) < 2:
            raise ValueError(
                f"at least 2 rows are needed on each side, got {_count(self.real)} real and "
                f"{_count(self.synthetic)} synthetic: call update(features, real=...) for both"
            )
        return kernel_distance(
            dim_zero_cat(self.real),
            dim_zero_cat(self.synthetic),
            self.kernel,
            bandwidth=self.bandwidth,
        )

    def standard_error(self) -> float:
        """Give the standard error of a block stream's value, for this process alone.

        Raises
        ------
        ValueError
            If there are fewer than 2 full blocks.
        """
        count, total, squares = self.blocks.tolist()
        if count < 2:
            raise ValueError(f"a standard error needs at least 2 full blocks, got {count:.0f}")
        variance = max(0.0, squares - total * total / count) / (count - 1)
        return float((variance / count) ** 0.5)

    def compute(self) -> torch.Tensor:
        """Give the distance over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            If a side has too few rows: 2, or one block.
        """
        if self.estimator == "full":
            return self.blocks.new_tensor(self.result().value)
        count, total, _ = self.blocks.tolist()
        if count < 1:
            raise ValueError(
                f"no block of {self.block_size} rows a side is full: {_count(self.real)} real and "
                f"{_count(self.synthetic)} synthetic rows wait; give more rows or a smaller block"
            )
        return self.blocks.new_tensor(total / count)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another instance has seen, as :meth:`torchmetrics.Metric.merge_state`."""
        super().merge_state(incoming_state)
        if self.estimator == "block":
            self._fill()


def _count(rows: list[torch.Tensor] | torch.Tensor) -> int:
    """Rows in a list state, which is one tensor after a sync."""
    return len(rows) if isinstance(rows, torch.Tensor) else sum(len(part) for part in rows)
