"""Fréchet distance over batches, in constant memory."""

from __future__ import annotations

from typing import Any

import torch

from .._check import Array, features
from ..distribution.frechet import (
    FrechetResult,
    Moments,
    frechet_distance_infinity,
    frechet_from_moments,
)
from ._features import OfPair, Stream


def _pack(moments: Moments) -> torch.Tensor:
    """Put moments into one tensor, (d + 2, d): states are reduced one by one, and these belong."""
    n = moments.mean.new_full((1, len(moments.mean)), moments.n)
    return torch.cat([n, moments.mean[None], moments.M2])


def _unpack(state: torch.Tensor) -> Moments:
    return Moments(int(state[0, 0]), state[1], state[2:])


def merge_moments(states: torch.Tensor) -> torch.Tensor:
    """Merge packed moments, shape (k, d + 2, d), into one: the ``dist_reduce_fx`` of the states."""
    total = _unpack(states[0])
    for state in states[1:]:
        total = total.merge(_unpack(state))
    return _pack(total)


class FrechetDistance(Stream):
    """Squared Fréchet distance between two streams of features; best 0, lower is better.

    Count, mean and scatter of each side are kept in float64 and merged by Chan's rule, across
    batches, processes (``merge_state``) and ranks alike, so that no partition of the data changes
    the value beyond rounding. Memory is O(d²), whatever the number of rows.

    Parameters
    ----------
    num_features : int
        Columns, d.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If ``num_features`` is not positive.

    See Also
    --------
    evalsuite.metrics.distribution.frechet.frechet_distance : Limits, notes and references.

    Examples
    --------
    >>> metric = FrechetDistance(num_features=8)
    >>> x = torch.randn(100, 8, generator=torch.Generator().manual_seed(0))
    >>> metric.update(x, real=True)
    >>> metric.update(x + 1, real=False)
    >>> round(float(metric.compute()), 6)
    8.0
    """

    higher_is_better = False
    plot_lower_bound = 0.0

    real: torch.Tensor
    synthetic: torch.Tensor

    def __init__(
        self, num_features: int, *, reset_real_features: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        self.num_features = num_features
        self.reset_real_features = reset_real_features
        empty = _pack(Moments.empty(num_features))
        self.add_state("real", empty, dist_reduce_fx=merge_moments)
        self.add_state("synthetic", empty.clone(), dist_reduce_fx=merge_moments)

    def update(self, features: Array, real: bool) -> None:
        """Add a batch, shape (n, d), of one side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = _columns(features, self.num_features)
        state = self.real if real else self.synthetic
        batch = Moments.of(x.to(state.device))
        # As Moments.merge, in place: a (d, d) copy for each batch would cost more than the batch.
        n = float(state[0, 0]) + batch.n
        step = batch.mean - state[1]
        state[2:] += batch.M2
        state[2:].addr_(step, step, alpha=batch.n * (float(state[0, 0]) / n))
        state[1] += step * (batch.n / n)
        state[0] = n

    def result(self) -> FrechetResult:
        """Give the distance with its parts, for this process alone.

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows.
        """
        real, synthetic = _unpack(self.real), _unpack(self.synthetic)
        if min(real.n, synthetic.n) < 2:
            raise ValueError(
                f"at least 2 rows are needed on each side, got {real.n} real and {synthetic.n} "
                "synthetic: call update(features, real=...) for both"
            )
        return frechet_from_moments(real, synthetic)

    def compute(self) -> torch.Tensor:
        """Give the distance over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows.
        """
        return self.real.new_tensor(self.result().value)

    def reset(self) -> None:
        """Forget both sides; with ``reset_real_features=False`` the synthetic side only."""
        kept = self.real
        super().reset()
        if not self.reset_real_features:
            self.real = kept


class FrechetDistanceInfinity(OfPair):
    """Fréchet distance of two streams at infinitely many rows; best 0, lower is better.

    All features are kept. Subsets are drawn by place in the stream, so that the value changes with
    the order of the data, within its standard error.

    Parameters
    ----------
    points, repeats, seed
        As for the function.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.distribution.frechet.frechet_distance_infinity : Limits and references.
    """

    higher_is_better = False
    function = staticmethod(frechet_distance_infinity)

    def __init__(self, *, points: int = 4, repeats: int = 20, seed: int = 0, **kwargs: Any) -> None:
        super().__init__({"points": points, "repeats": repeats, "seed": seed}, **kwargs)


def _columns(x: Array, d: int) -> torch.Tensor:
    t = features(x, "features")
    if t.shape[1] != d:
        raise ValueError(f"features must have {d} columns, got {t.shape[1]}")
    return t
