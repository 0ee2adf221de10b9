"""Precision, recall, density and coverage over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.manifold import ManifoldResult, precision_recall_density_coverage
from ._features import FeaturePair


class PrecisionRecallDensityCoverage(FeaturePair):
    """Fidelity and diversity of two streams of features by k-NN manifolds.

    All features are kept: the k-th neighbour needs them. The value does not depend on the order
    or the partition of the data.

    Parameters
    ----------
    k : int
        Neighbours that make a ball.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If k is under 1.

    See Also
    --------
    evalsuite.metrics.distribution.manifold.precision_recall_density_coverage : Limits, references.
    """

    higher_is_better = True

    def __init__(self, k: int = 5, *, reset_real_features: bool = True, **kwargs: Any) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self.k = k

    def result(self, *, level: float | None = 0.95) -> ManifoldResult:
        """Give the four with intervals and a flag for each sample, for this process alone.

        Raises
        ------
        ValueError
            If a side has k or fewer rows.
        """
        return precision_recall_density_coverage(*self.both(), k=self.k, level=level)

    def compute(self) -> dict[str, torch.Tensor]:
        """Give precision, recall, density and coverage over all that was seen, on all ranks.

        Raises
        ------
        ValueError
            If a side has k or fewer rows.
        """
        result = self.result(level=None)
        return {
            name: torch.tensor(getattr(result, name), dtype=torch.float64, device=self.device)
            for name in ("precision", "recall", "density", "coverage")
        }
