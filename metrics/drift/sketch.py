"""Quantiles and Kolmogorov-Smirnov distances of streams, from sketches with a proven rank error.

A sketch is a tower of buffers. When the buffer at height h is full, it is sorted and every other
value, the even or the odd ones by the toss of a coin, goes up a level, where it stands for twice
as many. A toss changes the rank of any value by at most 2^h, with mean 0, and all tosses are
independent: by Hoeffding's inequality the error of a rank after the tosses that were really made is
under ``sqrt(2 ln(2/δ) Σ 4^h)`` but for a chance of δ. The sum is kept, so the bound is known
exactly, whatever was merged with what.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .._check import Array, features

CAPACITY = 1024
_DECAY = 2 / 3
_SMALLEST = 64

Floats = npt.NDArray[np.float64]


class QuantileSketch:
    """Quantile sketches of several columns in constant memory; they merge.

    Parameters
    ----------
    columns : int
        How many; each has its own coins.
    capacity : int
        Values in the highest buffer; the rank error is about ``3 / capacity``, and memory about
        ``3 capacity`` values a column, with a few thousand more for the lower buffers.
    seed : int
    shard : int
        Which part of the data: sketches to be merged are of different shards, for their coins
        must be independent.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Karnin, Lang & Liberty 2016, Optimal quantile approximation in streams; Agarwal et al. 2013,
    Mergeable summaries; Hoeffding 1963.
    """

    def __init__(
        self, columns: int, *, capacity: int = CAPACITY, seed: int = 0, shard: int = 0
    ) -> None:
        if columns < 1:
            raise ValueError(f"columns must be 1 or more, got {columns}")
        if capacity < _SMALLEST:
            raise ValueError(f"capacity must be {_SMALLEST} or more, got {capacity}")
        if shard < 0 or seed < 0:
            raise ValueError(f"seed and shard must be 0 or more, got {seed} and {shard}")
        self.columns, self.capacity, self.seed = columns, capacity, seed
        self.shards = frozenset({shard})
        self.n = 0
        self.tosses = 0
        """Σ 4^h over all tosses."""
        self._levels: list[list[Floats]] = [[]]
        self._sizes = [0]
        self._rng = np.random.default_rng([seed, shard])

    def update(self, batch: Array) -> None:
        """Add rows, shape (n, columns).

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = features(batch, "values").cpu().numpy()
        if x.shape[1] != self.columns:
            raise ValueError(f"values must have {self.columns} columns, got {x.shape[1]}")
        # A copy, for the caller may fill the same buffer again; large batches by parts.
        step = 8 * self.capacity
        for start in range(0, len(x), step):
            part = x[start : start + step].copy()
            self._levels[0].append(part)
            self._sizes[0] += len(part)
            self._compress()
        self.n += len(x)

    def merge(self, other: QuantileSketch) -> None:
        """Add what a sketch of another shard has seen.

        Raises
        ------
        ValueError
            If it was made with other arguments, or a shard is in both.
        """
        mine, its = ((s.columns, s.capacity, s.seed) for s in (self, other))
        if mine != its:
            raise ValueError(
                f"sketches of different (columns, capacity, seed) do not merge: {mine}, {its}"
            )
        if self.shards & other.shards:
            raise ValueError(
                f"shard {min(self.shards & other.shards)} is in both sketches: give each part of "
                "the data a shard number of its own, or its coins would be tossed alike"
            )
        for h, (parts, size) in enumerate(zip(other._levels, other._sizes, strict=True)):
            if h == len(self._levels):
                self._levels.append([])
                self._sizes.append(0)
            self._levels[h] += parts
            self._sizes[h] += size
        self.n += other.n
        self.tosses += other.tosses
        self.shards |= other.shards
        self._compress()

    def _compress(self) -> None:
        h = 0
        while h < len(self._levels):
            depth = len(self._levels) - 1 - h
            room = max(_SMALLEST, math.ceil(self.capacity * _DECAY**depth))
            if self._sizes[h] > room:
                rows = np.concatenate(self._levels[h])
                # One of an odd number stays behind.
                kept, rows = rows[: len(rows) % 2], np.sort(rows[len(rows) % 2 :], axis=0)
                coin = self._rng.integers(2, size=self.columns)
                up = np.where(coin == 0, rows[::2], rows[1::2])
                self._levels[h], self._sizes[h] = [kept], len(kept)
                if h + 1 == len(self._levels):
                    self._levels.append([])
                    self._sizes.append(0)
                self._levels[h + 1].append(up)
                self._sizes[h + 1] += len(up)
                self.tosses += 4**h
            h += 1

    def _sorted(self) -> tuple[Floats, Floats]:
        """Kept values in order, (r, columns), and the share of the data up to each."""
        if self.n == 0:
            raise ValueError("the sketch is empty: call update first")
        held = [(np.concatenate(p), 2.0**h) for h, p in enumerate(self._levels) if p]
        values = np.concatenate([rows for rows, _ in held])
        weight = np.concatenate([np.full(len(rows), w) for rows, w in held])
        order = np.argsort(values, axis=0, kind="stable")
        # The weights add up to n: of an even number exactly half goes up, and counts double.
        return np.take_along_axis(values, order, axis=0), weight[order].cumsum(axis=0) / self.n

    def cdf(self, points: Array) -> Floats:
        """Give the share of values up to each point.

        Parameters
        ----------
        points : array, shape (p, columns)

        Returns
        -------
        ndarray, shape (p, columns)
            Each within :meth:`error` of the exact share.

        Raises
        ------
        ValueError
            If the sketch is empty, or the points are not valid.
        """
        at = features(points, "points").cpu().numpy()
        if at.shape[1] != self.columns:
            raise ValueError(f"points must have {self.columns} columns, got {at.shape[1]}")
        values, shares = self._sorted()
        padded = np.concatenate([np.zeros((1, self.columns)), shares])
        found = [
            padded[np.searchsorted(values[:, j], at[:, j], side="right"), j]
            for j in range(self.columns)
        ]
        return np.stack(found, axis=1)

    def quantiles(self, q: npt.ArrayLike) -> Floats:
        """Give quantiles of each column.

        Parameters
        ----------
        q : array_like, shape (p,)
            Within [0, 1].

        Returns
        -------
        ndarray, shape (p, columns)
            Values of the data whose exact rank is within :meth:`error` of q.

        Raises
        ------
        ValueError
            If the sketch is empty, or a q lies outside [0, 1].
        """
        wanted = np.atleast_1d(np.asarray(q, dtype=np.float64))
        if not ((wanted >= 0) & (wanted <= 1)).all():
            raise ValueError(f"quantiles lie within [0, 1], got {wanted.tolist()[:8]}")
        values, shares = self._sorted()
        last = len(values) - 1
        rows = [
            np.minimum(np.searchsorted(shares[:, j], wanted), last) for j in range(self.columns)
        ]
        return np.stack([values[r, j] for j, r in enumerate(rows)], axis=1)

    def error(self, level: float = 0.99) -> float:
        """Give the largest error of any rank of a column, as a share of n.

        A net of values N ranks apart is held by Hoeffding's inequality and a union bound; between
        two of its points the exact and the sketched rank are both monotone, which adds N ranks.

        Parameters
        ----------
        level : float
            Chance that it holds at all values of one column at once.

        Raises
        ------
        ValueError
            If the sketch is empty, or the level is not within (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
        if self.n == 0:
            raise ValueError("the sketch is empty: call update first")
        if self.tosses == 0:
            return 0.0
        nets = 2.0 ** np.arange(1, 31)
        wide = np.sqrt(2 * np.log(2 * nets / (1 - level)) * self.tosses) / self.n
        return min(1.0, float((wide + 1 / nets).min()))


@dataclass(frozen=True, slots=True)
class SketchDrift:
    """Drift of columns between two sketched streams.

    Attributes
    ----------
    ks : ndarray, shape (d,)
        Kolmogorov-Smirnov distance between the two sketches, [0, 1]; best 0.
    error : float
        Largest difference from the exact distance of the same values, but for a chance of
        ``1 - level`` a column.
    level : float
    p_value : ndarray, shape (d,)
        Asymptotic, of the distance less its error: it rejects a true null hypothesis no more
        often than it says.
    median_real, median_synthetic : ndarray, shape (d,)
    n_real, n_synthetic : int
    """

    ks: Floats
    error: float
    level: float
    p_value: Floats
    median_real: Floats
    median_synthetic: Floats
    n_real: int
    n_synthetic: int


def sketch_drift(
    real: QuantileSketch, synthetic: QuantileSketch, *, level: float = 0.99
) -> SketchDrift:
    """Compare two sketched streams column by column.

    Parameters
    ----------
    real, synthetic : QuantileSketch
        Of the same columns, and of different shards.
    level : float
        Of the error.

    Returns
    -------
    SketchDrift
        It cannot see how far values moved, nor ties between columns.

    Raises
    ------
    ValueError
        If a sketch is empty, the columns differ, or a shard is in both.
    """
    from scipy.special import kolmogorov

    if real.columns != synthetic.columns:
        raise ValueError(
            f"the sketches have {real.columns} and {synthetic.columns} columns: were they made of "
            "the same table?"
        )
    if real.seed == synthetic.seed and real.shards & synthetic.shards:
        raise ValueError("both sketches have a shard in common: their coins would be tossed alike")
    at = np.concatenate([real._sorted()[0], synthetic._sorted()[0]])
    ks = np.abs(real.cdf(at) - synthetic.cdf(at)).max(axis=0)
    # Each side may miss with half of the chance.
    error = sum(sketch.error((1 + level) / 2) for sketch in (real, synthetic))
    n, m = real.n, synthetic.n
    return SketchDrift(
        ks=ks,
        error=error,
        level=level,
        p_value=np.asarray(kolmogorov(math.sqrt(n * m / (n + m)) * np.maximum(ks - error, 0.0))),
        median_real=real.quantiles(0.5)[0],
        median_synthetic=synthetic.quantiles(0.5)[0],
        n_real=n,
        n_synthetic=m,
    )
