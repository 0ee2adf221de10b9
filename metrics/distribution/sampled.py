"""k-NN metrics of sets too large for all pairs, from a uniform sample of centres.

Density and coverage are means over real samples: over each one's ball, and who lies in it. A
uniform sample of s real rows, each with its exact ball among *all* real rows and all synthetic
rows tried against it, gives unbiased estimates of the exact values, with the exact intervals of
sampling, for O(s (n + m) d) and s·k numbers of memory. Distances to the nearest real row of a
uniform sample of synthetic rows are exact in the same way.

Precision and recall are not means over balls, but over who lies in any of them: with fewer balls
they are other quantities, as they are at another n. They are given for a manifold of s balls, and
said to be so.

A greedy k-centre coreset (Gonzalez 1985) is not used: it takes the outermost rows first, whose
balls are the largest and the emptiest, so that its coverage is biased by more than a uniform
sample's error (tests/metrics/test_approximate.py compares the two).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import stdtrit

from .._check import Array, features, pair
from .._result import Interval
from .copying import proportion_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

SIZE = 5000
_CELLS = 2**23
"""Distances held at a time."""


class UniformSample:
    """A uniform sample of a stream's rows that does not depend on how the stream is dealt out.

    Each row has a pseudo-random priority that its number in the whole stream and the seed settle;
    the sample is the rows of lowest priority. States of disjoint parts merge to the state of the
    whole, bit for bit.

    Parameters
    ----------
    size : int
        Rows to keep.
    seed : int

    Raises
    ------
    ValueError
        If the size is under 1, or the seed is negative.

    References
    ----------
    Cohen & Kaplan 2007, Summarizing data using bottom-k sketches; Steele, Lea & Flood 2014, Fast
    splittable pseudorandom number generators (the mixing function).
    """

    def __init__(self, size: int = SIZE, *, seed: int = 0) -> None:
        if size < 1 or seed < 0:
            raise ValueError(f"size must be 1 or more and seed 0 or more, got {size} and {seed}")
        self.size, self.seed = size, seed
        self.n = 0
        self.priority = np.empty(0, dtype=np.uint64)
        self.number = np.empty(0, dtype=np.int64)
        self._rows: torch.Tensor | None = None

    @property
    def rows(self) -> torch.Tensor:
        """The rows kept, in order of their number, shape (s, d).

        Raises
        ------
        ValueError
            If no row has been seen.
        """
        if self._rows is None:
            raise ValueError("the sample is empty: call update first")
        order = np.argsort(self.number)
        return self._rows[torch.from_numpy(order)]

    def update(self, batch: Array, first: int) -> None:
        """Add rows, shape (n, d).

        Parameters
        ----------
        batch : array
        first : int
            Number of the first row in the whole stream; no number may come twice.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, has other columns, or ``first`` is negative.
        """
        x = features(batch, "features", dtype=None).to("cpu")
        if first < 0:
            raise ValueError(f"first must be 0 or more, got {first}")
        number = np.arange(first, first + len(x))
        self._add(_priority(number, self.seed), number, x)
        self.n += len(x)

    def merge(self, other: UniformSample) -> None:
        """Add what another state has seen, of other rows.

        Raises
        ------
        ValueError
            If it was made with another size or seed.
        """
        if (self.size, self.seed) != (other.size, other.seed):
            raise ValueError("samples of different size or seed do not merge")
        if other._rows is not None:
            self._add(other.priority, other.number, other._rows)
        self.n += other.n

    def _add(
        self, priority: npt.NDArray[np.uint64], number: npt.NDArray[np.int64], x: torch.Tensor
    ) -> None:
        if self._rows is not None and self._rows.shape[1] != x.shape[1]:
            raise ValueError(f"features must have {self._rows.shape[1]} columns, got {x.shape[1]}")
        if self.priority.size >= self.size:
            # Most rows of a long stream fall out here, and are never copied.
            kept = np.flatnonzero(priority < self.priority.max())
            priority, number, x = priority[kept], number[kept], x[torch.from_numpy(kept)]
        joined = np.concatenate([self.priority, priority])
        lowest = np.argsort(joined, kind="stable")[: self.size]
        rows = x if self._rows is None else torch.cat([self._rows, x.to(self._rows.dtype)])
        self.priority, self._rows = joined[lowest], rows[torch.from_numpy(lowest)].clone()
        self.number = np.concatenate([self.number, number])[lowest]


def _priority(number: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """Mix row numbers to 64 bits (SplitMix64's finalizer), a bijection: no two are equal."""
    salt = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    z = number.astype(np.uint64) ^ salt
    z *= np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    return z ^ (z >> np.uint64(31))


@dataclass(frozen=True, slots=True, eq=False)
class SampledNeighbours:
    """Density and coverage from a sample of real centres.

    Attributes
    ----------
    coverage : float
        Unbiased estimate of the exact coverage, [0, 1].
    coverage_interval : Interval
        For the exact coverage: Clopper and Pearson's, which sampling without replacement only
        makes wider than needed.
    density : float
        Unbiased estimate of the exact density, at least 0.
    density_interval : Interval
        For the exact density: Student's, with the finite population's correction.
    nearest : ndarray, shape (s,)
        Distance from each centre to the nearest synthetic row: exact.
    k, size, n_real, n_synthetic : int
    """

    coverage: float
    coverage_interval: Interval
    density: float
    density_interval: Interval
    nearest: Floats
    k: int
    size: int
    n_real: int
    n_synthetic: int


class NeighbourSample:
    """Neighbours of fixed centres among two streams: first all real rows, then all synthetic.

    States of equal centres merge: those that have seen real rows only, and then, from copies of
    what these were merged to, those that have seen synthetic rows.

    Parameters
    ----------
    centres : array, shape (s, d)
        A uniform sample of the real rows, as :class:`UniformSample` draws it: each must come in
        the real stream too, where it is its own nearest row and does not count.
    k : int
        Neighbours that make a ball.

    Raises
    ------
    TypeError, ValueError
        If the centres are not valid, or k is under 1.
    """

    def __init__(self, centres: Array, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        given = features(centres, "centres")
        self.k = k
        self.centres = given
        self.closest = torch.full((len(given), k + 1), math.inf, dtype=torch.float64)
        """Squared distances to the k + 1 nearest real rows, itself included."""
        self.inside = torch.zeros(len(given), dtype=torch.int64)
        self.nearest = torch.full((len(given),), math.inf, dtype=torch.float64)
        self.counts = [0, 0]

    def update(self, batch: Array, *, real: bool) -> None:
        """Add rows of one side, shape (n, d).

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid or has other columns; if real rows come after synthetic ones,
            or synthetic ones before k + 1 real ones.
        """
        x = features(batch, "features").to("cpu")
        if x.shape[1] != self.centres.shape[1]:
            raise ValueError(
                f"features must have {self.centres.shape[1]} columns, got {x.shape[1]}"
            )
        if real and self.counts[1]:
            raise ValueError("all real rows come before the first synthetic one: balls are fixed")
        if not real and self.counts[0] <= self.k:
            raise ValueError(
                f"{self.counts[0]} real rows have been seen: balls need at least {self.k + 1}"
            )
        radius = self.closest[:, -1]
        for _, squared in _distances(x, self.centres):
            if real:
                both = torch.cat([self.closest, squared.T], dim=1)
                self.closest = both.topk(self.k + 1, dim=1, largest=False).values
            else:
                self.inside += (squared <= radius).sum(dim=0)
                self.nearest = torch.minimum(self.nearest, squared.min(dim=0).values)
        self.counts[0 if real else 1] += len(x)

    def merge(self, other: NeighbourSample) -> None:
        """Add what another state of the same centres has seen.

        Raises
        ------
        ValueError
            If the centres or k differ, or the states have seen synthetic rows with other balls.
        """
        if self.k != other.k or not torch.equal(self.centres, other.centres):
            raise ValueError("states of different centres or k do not merge")
        if self.counts[1] or other.counts[1]:
            if not torch.equal(self.closest, other.closest):
                raise ValueError(
                    "the states have other balls: merge all real rows first, and go on from copies"
                )
        else:
            both = torch.cat([self.closest, other.closest], dim=1)
            self.closest = both.topk(self.k + 1, dim=1, largest=False).values
            self.counts[0] += other.counts[0]
        self.inside = self.inside + other.inside
        self.nearest = torch.minimum(self.nearest, other.nearest)
        self.counts[1] += other.counts[1]

    def result(self, *, level: float = 0.95) -> SampledNeighbours:
        """Give density and coverage with their intervals.

        Raises
        ------
        ValueError
            If no synthetic row has been seen, or the level is not within (0, 1).
        """
        if not self.counts[1]:
            raise ValueError("no synthetic rows yet: call update(features, real=False)")
        size, n = len(self.centres), self.counts[0]
        radius = self.closest[:, -1]
        hits = int((self.nearest <= radius).sum())
        # Density is the sum over all balls of the rows in each, over k m.
        share = self.inside.numpy() * (n / (self.k * self.counts[1]))
        correction = max(0.0, 1 - size / n)
        error = float(share.std(ddof=1)) * math.sqrt(correction / size) if size > 1 else math.inf
        half = error * float(stdtrit(max(size - 1, 1), (1 + level) / 2))
        density = float(share.mean())
        return SampledNeighbours(
            coverage=hits / size,
            coverage_interval=proportion_interval(hits, size, level),
            density=density,
            density_interval=Interval(max(0.0, density - half), density + half, level, "student"),
            nearest=self.nearest.sqrt().numpy(),
            k=self.k,
            size=size,
            n_real=n,
            n_synthetic=self.counts[1],
        )


@dataclass(frozen=True, slots=True, eq=False)
class SampledManifold:
    """The four k-NN metrics of large sets.

    Attributes
    ----------
    precision, recall : float
        Exact for the manifold of ``size`` uniformly drawn balls; not those of all balls.
    intervals : dict of str to Interval
        Of precision and recall for their expectation over the samples tried, given the balls
        (Clopper-Pearson); of density and coverage for their exact values on all rows.
    density, coverage : float
        Unbiased estimates of the exact values.
    covered : bool array, shape (n,)
        Whether a real row's ball, among the drawn real rows, holds a drawn synthetic row.
    on_manifold : bool array, shape (m,)
        Whether a synthetic row lies in a drawn real ball.
    k, size : int
    """

    precision: float
    recall: float
    density: float
    coverage: float
    intervals: dict[str, Interval]
    covered: Bools
    on_manifold: Bools
    k: int
    size: int


def sampled_manifold(
    real: Array,
    synthetic: Array,
    *,
    k: int = 5,
    size: int = SIZE,
    level: float = 0.95,
    seed: int = 0,
) -> SampledManifold:
    """Measure fidelity and diversity of large sets, in time linear in their size.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features; more than k rows each.
    k : int
        Neighbours that make a ball.
    size : int
        Centres drawn on each side; all of a smaller side.
    level : float
        Of the intervals.
    seed : int
        Of the draw.

    Returns
    -------
    SampledManifold
        [0, 1] and best 1 for precision, recall and coverage; density from 0, best 1. It cannot see
        what the exact ones cannot: copies.

    Raises
    ------
    TypeError, ValueError
        If the features are not valid, or too few.

    References
    ----------
    Kynkäänniemi et al. 2019; Naeem et al. 2020; Clopper & Pearson 1934; Hoeffding 1963, section 6
    (sampling without replacement).
    """
    a, b = pair(real, synthetic, min_n=k + 1)
    if size <= k:
        raise ValueError(f"size must be more than k = {k}, got {size}")
    n, m = len(a), len(b)
    drawn = []
    for x, salt in ((a, 2 * seed), (b, 2 * seed + 1)):
        sample = UniformSample(size, seed=salt)
        sample.update(x, 0)
        drawn.append(torch.from_numpy(np.sort(sample.number)))
    state = NeighbourSample(a[drawn[0]], k)
    state.update(a, real=True)
    state.update(b, real=False)
    found = state.result(level=level)

    centres, others = a[drawn[0]], b[drawn[1]]
    # A row of the sample has itself among the nearest; any other row has not.
    own = torch.zeros(n, dtype=torch.int64)
    own[drawn[0]] = 1
    radius = _kth(a, centres, k, own)
    covered = (_kth(a, others, 1, None) <= radius).numpy()
    on_manifold = _in_any(b, centres, radius[drawn[0]])
    ball = _kth(others, others, k, torch.ones(len(others), dtype=torch.int64))
    recalled = _in_any(a, others, ball)
    return SampledManifold(
        precision=float(on_manifold.mean()),
        recall=float(recalled.mean()),
        density=found.density,
        coverage=found.coverage,
        intervals={
            "precision": proportion_interval(int(on_manifold.sum()), m, level),
            "recall": proportion_interval(int(recalled.sum()), n, level),
            "density": found.density_interval,
            "coverage": found.coverage_interval,
        },
        covered=covered,
        on_manifold=on_manifold,
        k=k,
        size=min(size, n, m),
    )


def _distances(x: torch.Tensor, centres: torch.Tensor) -> Iterator[tuple[slice, torch.Tensor]]:
    """Squared distances of rows to centres, some rows at a time."""
    middle = centres.mean(dim=0)
    c = centres - middle
    norms = (c**2).sum(dim=1)
    # Rounding must not part a row from its copy.
    slack = 1e-12 * float(norms.max())
    step = max(1, _CELLS // len(c))
    for start in range(0, len(x), step):
        y = x[start : start + step] - middle
        squared = torch.addmm((y**2).sum(dim=1)[:, None] + norms, y, c.T, alpha=-2)
        squared[squared <= slack] = 0
        yield slice(start, start + len(y)), squared


def _kth(x: torch.Tensor, centres: torch.Tensor, k: int, own: torch.Tensor | None) -> torch.Tensor:
    """Squared distance of each row to its k-th nearest centre; ``own`` are left out of it."""
    out = torch.empty(len(x), dtype=torch.float64)
    for rows, squared in _distances(x, centres):
        nearest = squared.topk(k + (own is not None), dim=1, largest=False).values
        if own is None:
            out[rows] = nearest[:, -1]
        else:
            out[rows] = nearest.gather(1, (own[rows] + k - 1)[:, None])[:, 0]
    return out


def _in_any(x: torch.Tensor, centres: torch.Tensor, radius: torch.Tensor) -> Bools:
    """Say of each row whether it lies in any of the balls."""
    out = torch.empty(len(x), dtype=torch.bool)
    for rows, squared in _distances(x, centres):
        out[rows] = (squared <= radius).any(dim=1)
    return out.numpy()
