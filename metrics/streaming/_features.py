"""What the metrics share that need all features of both sides at the end."""

from __future__ import annotations

from typing import Any

import torch
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from .._check import Array, features


class FeaturePair(Metric):
    """Collects the features of both sides; order and partition of the batches are kept by rank.

    Parameters
    ----------
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.
    """

    is_differentiable = False
    full_state_update = False

    real: list[torch.Tensor]
    synthetic: list[torch.Tensor]

    def __init__(self, *, reset_real_features: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reset_real_features = reset_real_features
        self.add_state("real", [], dist_reduce_fx="cat")
        self.add_state("synthetic", [], dist_reduce_fx="cat")

    def update(self, features: Array, real: bool) -> None:
        """Add a batch, shape (n, d), of one side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = _rows(features)
        for side in (self.real, self.synthetic):
            if len(side) and side[0].shape[1] != x.shape[1]:
                raise ValueError(f"features must have {side[0].shape[1]} columns, got {x.shape[1]}")
        # A copy: the caller may fill the same buffer with the next batch.
        (self.real if real else self.synthetic).append(x.to(self.device, copy=True))

    def both(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give all features of both sides.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        for name in ("real", "synthetic"):
            if not len(getattr(self, name)):
                raise ValueError(
                    f"no {name} features yet: call update(features, real={name == 'real'})"
                )
        return dim_zero_cat(self.real), dim_zero_cat(self.synthetic)

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add what another instance has seen, as :meth:`torchmetrics.Metric.merge_state`."""
        super().merge_state(incoming_state)
        # torchmetrics keeps a value that was computed before the merge.
        self._computed = None
        self._update_count += getattr(incoming_state, "_update_count", 1)

    def reset(self) -> None:
        """Forget both sides; with ``reset_real_features=False`` the synthetic side only."""
        # A copy: torchmetrics empties the list itself.
        kept = list(self.real)
        super().reset()
        if not self.reset_real_features:
            self.real = kept


def _rows(x: Array) -> torch.Tensor:
    return features(x, "features", dtype=None)
