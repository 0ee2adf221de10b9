"""Distances of optimal transport over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.transport import (
    MaxSlicedResult,
    Power,
    SinkhornResult,
    SlicedResult,
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
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


class MaxSlicedWasserstein(FeaturePair):
    """Wasserstein distance along the direction that tells two streams apart most; best 0.

    All features are kept. Halves are drawn by place in the stream, so that the value changes with
    the order of the data, within its noise.

    Parameters
    ----------
    p : {1, 2}
        Order.
    directions, steps : int
        Random directions to start from, and most ascent steps.
    seed : int
        Seed of the halves and directions.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    See Also
    --------
    evalsuite.metrics.distribution.transport.max_sliced_wasserstein : Limits, notes, references.
    """

    higher_is_better = False

    def __init__(
        self,
        *,
        p: Power = 2,
        directions: int = 128,
        steps: int = 50,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        self.p: Power = p
        self.directions = directions
        self.steps = steps
        self.seed = seed

    def result(self) -> MaxSlicedResult:
        """Give the distance with its direction, for this process alone.

        Raises
        ------
        ValueError
            If a side has fewer than 4 rows, or an option is not valid.
        """
        return max_sliced_wasserstein(
            *self.both(), p=self.p, directions=self.directions, steps=self.steps, seed=self.seed
        )

    def compute(self) -> torch.Tensor:
        """Give the distance over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)


class SinkhornDivergence(FeaturePair):
    """Debiased entropic transport between two streams of features; best 0, lower is better.

    All features are kept; of more than ``max_samples`` rows a side a random part, drawn by place
    in the stream, is used.

    Parameters
    ----------
    blur : float, optional
        Length scale of the smoothing; give one to compare values.
    max_samples, max_iter, tolerance, seed
        As for the function.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    See Also
    --------
    evalsuite.metrics.distribution.transport.sinkhorn_divergence : Limits, notes and references.
    """

    higher_is_better = False

    def __init__(
        self,
        blur: float | None = None,
        *,
        max_samples: int = 2000,
        max_iter: int = 5000,
        tolerance: float = 1e-3,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        self.blur = blur
        self.max_samples = max_samples
        self.max_iter = max_iter
        self.tolerance = tolerance
        self.seed = seed

    def result(self) -> SinkhornResult:
        """Give the divergence with its distance and blur, for this process alone.

        Raises
        ------
        ValueError
            If a side has seen no batch, or an option is not valid.
        RuntimeError
            If the iteration does not converge.
        """
        return sinkhorn_divergence(
            *self.both(),
            blur=self.blur,
            max_samples=self.max_samples,
            max_iter=self.max_iter,
            tolerance=self.tolerance,
            seed=self.seed,
        )

    def compute(self) -> torch.Tensor:
        """Give the divergence over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError, RuntimeError
            As :meth:`result`.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)
