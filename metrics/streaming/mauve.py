"""MAUVE over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.mauve import MauveResult, mauve
from ._features import FeaturePair


class Mauve(FeaturePair):
    """MAUVE of two streams of features; in (0, 1], best 1.

    All features are kept. k-means depends on the order of its rows, so the value changes with the
    order of the data, by about the spread over seeds.

    Parameters
    ----------
    clusters, scale, explained, seeds, seed
        As for the function.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    See Also
    --------
    evalsuite.metrics.distribution.mauve.mauve : Limits, notes and references.
    """

    higher_is_better = True

    def __init__(
        self,
        clusters: int | None = None,
        *,
        scale: float = 5.0,
        explained: float = 0.9,
        seeds: int = 5,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        self.clusters = clusters
        self.scale = scale
        self.explained = explained
        self.seeds = seeds
        self.seed = seed

    def result(self, *, ci: bool = False) -> MauveResult:
        """Give the value with its spread, and its interval if asked for, for this process alone.

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows, or an option is not valid.
        """
        return mauve(
            *self.both(),
            clusters=self.clusters,
            scale=self.scale,
            explained=self.explained,
            seeds=self.seeds,
            ci=ci,
            seed=self.seed,
        )

    def compute(self) -> torch.Tensor:
        """Give the value over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)
