"""Sliced Wasserstein distance over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.transport import Power, SlicedResult, sliced_wasserstein
from ._features import FeaturePair


class SlicedWasserstein(FeaturePair):
    """Sliced Wasserstein distance between two streams of features; best 0, lower is better.

    A quantile function has no small summary that merges exactly, so all features are kept, and the
    value is that of the function on all rows: no partition into batches, processes or ranks changes
    it beyond rounding.

    Parameters
    ----------
    p : {1, 2}
        Order.
    directions : int
        Number of orthogonal random directions.
    seed : int
        Seed of the directions.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If ``p`` is neither 1 nor 2, or ``directions`` is not positive.

    See Also
    --------
    evalsuite.metrics.distribution.transport.sliced_wasserstein : Limits, notes and references.

    Examples
    --------
    >>> metric = SlicedWasserstein(directions=8)
    >>> x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> metric.update(x, real=True)
    >>> metric.update(x + 1, real=False)
    >>> round(float(metric.compute()), 6)
    1.0
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        p: Power = 2,
        directions: int = 512,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        if p not in (1, 2):
            raise ValueError(f"p must be 1 or 2, got {p}")
        if directions < 1:
            raise ValueError(f"directions must be at least 1, got {directions}")
        self.p: Power = p
        self.directions = directions
        self.seed = seed

    def result(self) -> SlicedResult:
        """Give the full result on everything seen so far.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        real, synthetic = self.both()
        return sliced_wasserstein(
            real, synthetic, p=self.p, directions=self.directions, seed=self.seed
        )

    def compute(self) -> torch.Tensor:
        """Give the distance as a float64 scalar.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)
