"""Mode tests over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.modes import ModeReport, mode_tests
from ._features import FeaturePair


class ModeTests(FeaturePair):
    """Modes that a stream of synthetic features misses, overdoes or repeats.

    All features are kept. Splits are drawn by place in the stream, so that values change with the
    order of the data, within their noise.

    Parameters
    ----------
    bins, near_quantile, splits, seed
        As for the function.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    See Also
    --------
    evalsuite.metrics.distribution.modes.mode_tests : Limits, notes and references.
    """

    def __init__(
        self,
        *,
        bins: int | None = None,
        near_quantile: float = 0.05,
        splits: int = 20,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        self.bins = bins
        self.near_quantile = near_quantile
        self.splits = splits
        self.seed = seed

    def result(self, *, permutations: int = 999) -> ModeReport:
        """Give every test with floor and p-value, for this process alone.

        Raises
        ------
        ValueError
            If there are fewer than 40 real or 20 synthetic rows, or an option is not valid.
        """
        return mode_tests(
            *self.both(),
            bins=self.bins,
            near_quantile=self.near_quantile,
            splits=self.splits,
            permutations=permutations,
            seed=self.seed,
        )

    def compute(self) -> dict[str, torch.Tensor]:
        """Give share of different bins, effective hits and collision rate, on all ranks.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        found = self.result(permutations=1)
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in (
                ("ndb", found.ndb.value),
                ("effective_hits", found.hits.value),
                ("collision_rate", found.birthday.value),
            )
        }
