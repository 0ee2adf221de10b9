"""Drift of columns over batches, in constant memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, features
from ..drift._common import column
from ..drift.categorical import _js_root, _psi_root, _tv
from ..drift.table import DriftReport, drift_tests
from ..drift.univariate import _sup
from ._features import FeaturePair, Stream


class ColumnDrift(Stream):
    """Drift of each column between two streams, over cells that are given beforehand.

    How many values of each side fell into each cell is kept: whole numbers, so that no partition of
    the data changes anything, and memory does not grow. Within a cell nothing is seen; the
    Kolmogorov-Smirnov distance is that of the cells, at most the columns' own.

    Parameters
    ----------
    edges : array, shape (d, k) or sequence of d arrays
        Inner cell borders of each column, ascending; a value on a border belongs to the cell below.
        Quantiles of a reference sample are a good choice.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    TypeError, ValueError
        If there are no columns, or edges are not numeric, not finite or do not ascend.

    See Also
    --------
    evalsuite.metrics.drift.univariate.psi : The same of values, with limits, test and interval.
    """

    higher_is_better = False

    counts: torch.Tensor

    def __init__(self, edges: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.edges = [column(e, f"edges[{i}]") for i, e in enumerate(edges)]
        if not self.edges:
            raise ValueError("edges has no columns")
        for i, cuts in enumerate(self.edges):
            if (np.diff(cuts) <= 0).any():
                raise ValueError(f"edges[{i}] must ascend, got {cuts.tolist()[:12]}")
        cells = max(len(cuts) for cuts in self.edges) + 1
        none = torch.zeros((2, len(self.edges), cells), dtype=torch.int64)
        self.add_state("counts", none, dist_reduce_fx="sum")

    def update(self, features: Array, real: bool) -> None:
        """Add a batch, shape (n, d), of one side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = _values(features, len(self.edges))
        cells = self.counts.shape[2]
        for j, cuts in enumerate(self.edges):
            cell = torch.bucketize(x[:, j].contiguous(), torch.from_numpy(cuts).to(x.device))
            found = torch.bincount(cell, minlength=cells)
            self.counts[0 if real else 1, j] += found.to(self.counts.device)

    def result(self) -> dict[str, npt.NDArray[np.float64]]:
        """Give PSI, JS, total variation and KS of every column, (d,) each, for this process alone.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        counts = self.counts.cpu().numpy()
        m, n = counts[0, 0].sum(), counts[1, 0].sum()
        for name, size in (("real", m), ("synthetic", n)):
            if size == 0:
                raise ValueError(
                    f"no {name} features yet: call update(features, real={name == 'real'})"
                )
        table = []
        for real, synthetic in zip(*counts, strict=True):
            # A cell that is empty on both sides says nothing.
            seen = real + synthetic > 0
            p, q = real[seen] / m, synthetic[seen] / n
            pooled = (m * p + n * q) / (m + n)
            table.append(
                [
                    float(_psi_root(int(m), int(n), pooled).distance(p, q)) ** 2,
                    float(_js_root(pooled).distance(p, q)) ** 2,
                    float(_tv().distance(p, q)),
                    float(_sup().distance(p, q)),
                ]
            )
        names = ("psi", "jensen_shannon", "total_variation", "ks")
        return dict(zip(names, np.array(table).T, strict=True))

    def compute(self) -> dict[str, torch.Tensor]:
        """Give the four of the column where each is largest, over all that was seen, on all ranks.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        return {
            f"worst_{name}": torch.tensor(
                float(values.max()), dtype=torch.float64, device=self.device
            )
            for name, values in self.result().items()
        }


class DriftTests(FeaturePair):
    """Drift of each column between two streams, on their values; best 0, lower is better.

    All features are kept; the value does not depend on their order. In constant memory, over cells:
    :class:`ColumnDrift`.

    Parameters
    ----------
    alpha : float
        Level of the false discovery rate over the columns.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.drift.table.drift_tests : Limits, notes and references.
    """

    higher_is_better = False

    def __init__(self, alpha: float = 0.05, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = alpha

    def result(self) -> DriftReport:
        """Give every column's tests, effects and intervals, by its number, for this process alone.

        Raises
        ------
        ValueError
            If a side has seen no batch.
        """
        named = [
            {str(j): values for j, values in enumerate(side.T.cpu().double().numpy())}
            for side in self.both()
        ]
        return drift_tests(*named, kinds=dict.fromkeys(named[0], "numeric"), alpha=self.alpha)

    def compute(self) -> dict[str, torch.Tensor]:
        """Give how many columns drifted, and the largest distances of a column, on all ranks.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        report = self.result()
        columns = [c.numeric for c in report.columns if c.numeric is not None]
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in (
                ("drifted_columns", float(len(report.drifted))),
                ("largest_wasserstein", max(c.wasserstein for c in columns)),
                ("largest_ks", max(c.ks for c in columns)),
            )
        }


def _values(x: Array, d: int) -> torch.Tensor:
    t = features(x, "features")
    if t.shape[1] != d:
        raise ValueError(f"features must have {d} columns, got {t.shape[1]}")
    return t
