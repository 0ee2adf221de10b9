"""Subgroups over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..utility.subgroups import SubgroupReport, subgroup_tests
from ._features import Labelled


class SubgroupTests(Labelled):
    """Shares and content of the subgroups of two streams; best 0, lower is better.

    All features and labels are kept. Floors are drawn by place in the stream; what
    :meth:`compute` gives does not depend on the order.

    Parameters
    ----------
    min_n : int
        Rows that a subgroup needs on each side to have its gap measured, at least 8.
    seed : int
        Seed of floors and permutations.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    Raises
    ------
    ValueError
        If ``min_n`` is under 8.

    See Also
    --------
    evalsuite.metrics.utility.subgroups.subgroup_tests : Limits, notes and references.
    """

    higher_is_better = False

    def __init__(self, *, min_n: int = 50, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if min_n < 8:
            raise ValueError(f"min_n must be at least 8, got {min_n}")
        self.min_n = min_n
        self.seed = seed

    def result(self, *, splits: int = 50, permutations: int = 999) -> SubgroupReport:
        """Give shares and gaps with floors and p-values, for this process alone.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        (real, of_real), (synthetic, of_synthetic) = self.with_labels()
        return subgroup_tests(
            real,
            synthetic,
            of_real,
            of_synthetic,
            min_n=self.min_n,
            splits=splits,
            permutations=permutations,
            seed=self.seed,
        )

    def compute(self) -> dict[str, torch.Tensor]:
        """Give the distance of the shares and the widest gap (relative), on all ranks.

        Where no subgroup has ``min_n`` rows on each side, or the worst one's real rows are all
        equal, there is no ``worst_group_gap``.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        found = self.result(splits=1, permutations=1)
        values = {"share_distance": found.shares.value}
        if found.worst is not None:
            widest = next(iter(found.worst.kernels.values())).relative
            if widest is not None:
                values["worst_group_gap"] = widest
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in values.items()
        }
