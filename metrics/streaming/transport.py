"""Distances of optimal transport over batches."""

from __future__ import annotations

from typing import Any

from ..distribution.transport import (
    Power,
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from ._features import OfPair


class SlicedWasserstein(OfPair):
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
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

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

    function = staticmethod(sliced_wasserstein)

    def __init__(
        self, *, p: Power = 2, directions: int = 512, seed: int = 0, **kwargs: Any
    ) -> None:
        if p not in (1, 2):
            raise ValueError(f"p must be 1 or 2, got {p}")
        if directions < 1:
            raise ValueError(f"directions must be at least 1, got {directions}")
        super().__init__({"p": p, "directions": directions, "seed": seed}, **kwargs)


class MaxSlicedWasserstein(OfPair):
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
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.distribution.transport.max_sliced_wasserstein : Limits, notes, references.
    """

    higher_is_better = False

    function = staticmethod(max_sliced_wasserstein)

    def __init__(
        self,
        *,
        p: Power = 2,
        directions: int = 128,
        steps: int = 50,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {"p": p, "directions": directions, "steps": steps, "seed": seed}
        super().__init__(options, **kwargs)


class SinkhornDivergence(OfPair):
    """Debiased entropic transport between two streams of features; best 0, lower is better.

    All features are kept; of more than ``max_samples`` rows a side a random part, drawn by place
    in the stream, is used.

    Parameters
    ----------
    blur : float, optional
        Length scale of the smoothing; give one to compare values.
    max_samples, max_iter, tolerance, seed
        As for the function.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.distribution.transport.sinkhorn_divergence : Limits, notes and references.
    """

    higher_is_better = False

    function = staticmethod(sinkhorn_divergence)

    def __init__(
        self,
        blur: float | None = None,
        *,
        max_samples: int = 2000,
        max_iter: int = 5000,
        tolerance: float = 1e-3,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {
            "blur": blur,
            "max_samples": max_samples,
            "max_iter": max_iter,
            "tolerance": tolerance,
            "seed": seed,
        }
        super().__init__(options, **kwargs)
