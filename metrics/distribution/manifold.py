"""Precision, recall, density and coverage: which samples lie on the other set's manifold.

A manifold is the union of balls, one around each sample, that reach to its k-th nearest neighbour
of the same set. Whether a point lies in a ball is a comparison of two distances, so everything here
is decided exactly: distances come from a matrix product, with a proven bound on its rounding, and
each comparison that the bound cannot decide is made again from the coordinates in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, features, groups_of, pair
from .._result import Interval
from ..inference import delete_half_se
from ._wilson import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    Groups = Sequence[object] | np.ndarray | None

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_STRIP = 2**23
"""Distances held at a time; the memory above the inputs is a small multiple of it."""
_EXACT = 2**18
"""Coordinates of pairs whose distance is taken exactly at a time."""
_TINY = 1e-30
"""Room for underflow, in units of the largest squared norm."""
_CI_SIDE = 2000
"""At most so many samples a side go into the error bars."""


@dataclass(frozen=True, slots=True, eq=False)
class ManifoldResult:
    """Precision, recall, density, coverage, and which samples they come from.

    Attributes
    ----------
    precision, recall : float
        Share of synthetic samples inside the real manifold, and of real samples inside the
        synthetic one; 0 to 1, 1 is best.
    density : float
        Mean number of real balls around a synthetic sample, over k; at least 0, 1 when both sets
        have the same distribution, above 1 when synthetic samples crowd where real ones are dense.
    coverage : float
        Share of real samples with a synthetic one in their ball; 0 to 1, and `expected_coverage`
        when both sets have the same distribution.
    k : int
        Neighbours that make a ball.
    n_real, n_synthetic : int
        Samples on each side.
    expected_coverage : float
        Expected coverage at these sizes when both sets have the same continuous distribution.
    duplicate_share_real, duplicate_share_synthetic : float
        Share of samples whose features equal those of an earlier sample of the same set.
    covered, recalled : bool array, shape (n_real,)
        Whether a synthetic sample lies in this real sample's ball, and whether this real sample
        lies in a synthetic sample's ball.
    on_manifold : bool array, shape (n_synthetic,)
        Whether this synthetic sample lies in a real sample's ball.
    intervals : dict of str to Interval
        Confidence intervals of the four, by name; empty when not asked for.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int
    n_real: int
    n_synthetic: int
    expected_coverage: float
    duplicate_share_real: float
    duplicate_share_synthetic: float
    covered: Bools
    recalled: Bools
    on_manifold: Bools
    intervals: dict[str, Interval]


def expected_coverage(n_real: int, n_synthetic: int, k: int = 5) -> float:
    """Give the expected coverage when both sets have the same continuous distribution.

    A real sample is left uncovered when its k nearest among the other ``n_real - 1`` real and all
    synthetic samples are real, and all orders are equally likely:
    ``1 - prod_{j<k} (n_real - 1 - j) / (n_real + n_synthetic - 1 - j)``. (Density has
    expectation 1 at every size, by the same argument.)

    Parameters
    ----------
    n_real, n_synthetic : int
        Samples on each side; any sizes.
    k : int
        Neighbours that make a ball.

    Returns
    -------
    float
        In (0, 1].

    Raises
    ------
    ValueError
        If k is under 1 or a side is too small for it.

    References
    ----------
    Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models, ICML.
    """
    _check_k(k, n_real, n_synthetic)
    j = np.arange(k)
    return float(1 - np.prod((n_real - 1 - j) / (n_real + n_synthetic - 1 - j)))


def precision_recall_density_coverage(
    real: Array,
    synthetic: Array,
    *,
    k: int = 5,
    level: float | None = 0.95,
    resamples: int = 50,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    seed: int = 0,
) -> ManifoldResult:
    """Measure fidelity (precision, density) and diversity (recall, coverage) by k-NN manifolds.

    The ball of a sample reaches to its k-th nearest neighbour of the same set, itself excluded and
    the border included. Exact copies count as neighbours at distance 0, so a sample with k copies
    has a ball of radius 0 that holds its copies alone.

    The result equals a float64 computation from all coordinates, comparison by comparison; the
    memory above the inputs is one float32 copy of them and some blocks, never n × m.

    Parameters
    ----------
    real : array, shape (n, d)
        Features of the real samples; numpy or torch, any device.
    synthetic : array, shape (m, d)
        Features of the synthetic samples, by the same encoder.
    k : int
        Neighbours that make a ball; both sides need more samples than this.
    level : float or None
        Level of the confidence intervals; None leaves them out, and saves their time.
    resamples : int
        Half-samples a side for the intervals.
    groups_real, groups_synthetic : sequence, optional
        Group (source, speaker, scene) of each sample: halves then take whole groups.
    seed : int
        Seed of the half-samples; nothing else is random.

    Returns
    -------
    ManifoldResult
        The four numbers, their intervals, and one flag per sample.

    Raises
    ------
    ValueError
        If a side has k or fewer samples, a value is not finite, or shapes do not match.

    Notes
    -----
    All four depend on n, m and k: compare only at equal sizes, or with the floor. They see
    where samples lie, not how often: a set with wrong proportions of the right modes can have
    precision and recall 1. One outlier with a large ball raises precision and recall; density
    and coverage resist it. In high dimension a shrunken synthetic set lies inside every real ball.
    Coverage saturates with many more synthetic than real samples: at 100 real and 1,000 synthetic
    ones a permutation test of it has no power (it rejects 0.1 % of null samples at a level of 5 %).

    The intervals are for the expected value at these n, m and k: Wilson intervals (lognormal for
    density) with the delete-half jackknife's standard error, the two sides halved in turn; above
    2,000 samples a side, from a random 2,000, scaled by the square root of the sizes. Density's
    is a little short under heavy tails: 92 % for 100 samples a side of t(3), d = 64, at 95 %. There
    the jackknife's error is 8 % too small (0.233 for a standard deviation of 0.254), and neither
    another scale nor Student's quantile brings it to 95 %.

    References
    ----------
    Kynkäänniemi et al. 2019, Improved precision and recall metric for assessing generative models,
    NeurIPS. Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models, ICML.
    """
    x, y = pair(real, synthetic, dtype=None)
    n, m = x.shape[0], y.shape[0]
    _check_k(k, n, m)
    if level is not None and not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, or be None, got {level}")
    codes = (
        groups_of(groups_real, n, "groups_real"),
        groups_of(groups_synthetic, m, "groups_synthetic"),
    )

    frame = _Frame.around(x, y)
    a, b = _Points(x, frame), _Points(y, frame)
    ball_a, ball_b = _squared_radii(a, k), _squared_radii(b, k)
    held, covered, recalled, on = _balls(a, ball_a, b, ball_b)
    covered, recalled, on = covered[a.inverse], recalled[a.inverse], on[b.inverse]
    values = {
        "precision": float(on.double().mean()),
        "recall": float(recalled.double().mean()),
        "density": held / (k * m),
        "coverage": float(covered.double().mean()),
    }
    intervals = {}
    if level is not None:
        errors, units = _standard_errors(x, y, k, codes, resamples, seed)
        intervals = {
            name: _interval(name, value, errors[name], units, level, k)
            for name, value in values.items()
        }
    return ManifoldResult(
        **values,
        k=k,
        n_real=n,
        n_synthetic=m,
        expected_coverage=expected_coverage(n, m, k),
        duplicate_share_real=1 - a.count.shape[0] / n,
        duplicate_share_synthetic=1 - b.count.shape[0] / m,
        covered=covered.cpu().numpy(),
        recalled=recalled.cpu().numpy(),
        on_manifold=on.cpu().numpy(),
        intervals=intervals,
    )


def manifold_splits(
    Z: Array,
    first: Bools,
    second: Bools,
    k: int = 5,
) -> dict[str, Floats]:
    """Measure the four on many pairs of subsets of one pooled matrix.

    Each row's nearest pooled rows are listed once, in order; a column then needs only to walk each
    list until it has met k members of the row's own side. Lists that turn out too short for some
    column are made longer. Column r equals
    ``precision_recall_density_coverage(Z[first[:, r]], Z[second[:, r]], k=k)``.

    Parameters
    ----------
    Z : array, shape (N, d)
        Pooled features.
    first, second : bool array, shape (N, R)
        Rows in the role of real and of synthetic; disjoint in each column. Rows that no column
        uses cost nothing.
    k : int
        Neighbours that make a ball.

    Returns
    -------
    dict
        ``precision``, ``recall``, ``density`` and ``coverage``, each float64 of shape (R,).

    Raises
    ------
    ValueError
        If a mask has the wrong shape or type, a row is on both sides, or a side has k or fewer
        rows.

    Notes
    -----
    Time O(N² d) once, in float64, and about O(N k) for a column whose sides mix well. It grows
    towards O(N²) for a column where one side's members lie nearer to the other side than to
    their own.
    """
    z = features(Z, "Z", dtype=None)
    first, second = _masks(first, second, z.shape[0])
    sizes = first.sum(axis=0), second.sum(axis=0)
    _check_k(k, int(sizes[0].min()), int(sizes[1].min()))
    used = np.flatnonzero((first | second).any(axis=1))
    if used.size < z.shape[0]:
        z, first, second = z[torch.from_numpy(used).to(z.device)], first[used], second[used]
    side = first.astype(np.uint8) + 2 * second.astype(np.uint8)
    n = side.shape[0]

    # Of l rows in random order, about l * share are of a given side: long enough for nearly all.
    share = float(min(sizes[0].min(), sizes[1].min())) / n
    length = min(n - 1, int((k + 6 * np.sqrt(k)) / share) + 8)
    lists = _NeighbourLists(z)
    held = np.zeros(side.shape[1], dtype=np.int64)
    reached = np.packbits(np.zeros(side.shape, dtype=bool), axis=1)
    covered = np.zeros(side.shape, dtype=bool)

    rows = np.arange(n)
    walk = _Walk(side[rows], k, n)
    order, new = lists.nearest(rows, length)
    step = 0
    while True:
        stop = min(step + 8, length)
        for place in range(step, stop):
            neighbour = order[:, place]
            hit = walk.meet(side[neighbour], new[:, place])
            _mark(reached, neighbour, hit)
        step = stop
        held += walk.take_held()
        covered[rows] |= walk.found
        going = walk.going()
        if step == n - 1 or not going.any():
            break
        rows, order, new = rows[going], order[going], new[going]
        walk.keep(going)
        if step == length:
            length = min(n - 1, 2 * length)
            order, new = lists.nearest(rows, length)
    reached = np.unpackbits(reached, axis=1, count=side.shape[1]).astype(bool)
    return {
        "precision": (reached & second).sum(axis=0) / sizes[1],
        "recall": (reached & first).sum(axis=0) / sizes[0],
        "density": held / (k * sizes[1]),
        "coverage": (covered & first).sum(axis=0) / sizes[0],
    }


# Checks -----------------------------------------------------------------------------------------


def _check_k(k: int, n_real: int, n_synthetic: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if min(n_real, n_synthetic) <= k:
        raise ValueError(
            f"the k-th neighbour needs more than k={k} samples on each side, got {n_real} real and "
            f"{n_synthetic} synthetic: add samples or lower k"
        )


def _masks(first: Bools, second: Bools, n: int) -> tuple[Bools, Bools]:
    for name, mask in (("first", first), ("second", second)):
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            raise ValueError(f"{name} must be a boolean numpy array")
        if mask.ndim != 2 or mask.shape[0] != n or mask.shape[1] == 0:
            raise ValueError(f"{name} must have shape ({n}, R) with R >= 1, got {mask.shape}")
    if first.shape != second.shape:
        raise ValueError(f"first and second differ in shape: {first.shape} and {second.shape}")
    both = (first & second).any(axis=0)
    if both.any():
        raise ValueError(f"column {int(np.argmax(both))} has a row on both sides")
    return first, second


# Distances with known error ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """A shift and a power-of-two scale that bring the points near the origin, norms at most ~1.

    Distances do not change under the shift, but the Gram trick's rounding falls with the norms.
    """

    centre: torch.Tensor
    scale: float

    @classmethod
    def around(cls, *sets: torch.Tensor) -> _Frame:
        total = sum(x.shape[0] for x in sets)
        centre = torch.stack([x.sum(dim=0, dtype=torch.float64) for x in sets]).sum(dim=0) / total
        largest = max(
            float((x[rows].double() - centre).abs_().max())
            for x in sets
            for rows in _blocks(x.shape[0], _STRIP // x.shape[1])
        )
        # The longest norm is at most largest * sqrt(d).
        power = 0.0 if largest == 0 else np.ceil(np.log2(largest) + np.log2(centre.shape[0]) / 2)
        scale = float(2.0**-power)
        return cls(centre, scale)


class _Points:
    """The distinct points of one set, framed, in a working precision.

    Copies are put together: they would make every comparison a tie.
    """

    def __init__(self, x: torch.Tensor, frame: _Frame, dtype: torch.dtype | None = None) -> None:
        self.given = x
        self.frame = frame
        self.rows, self.inverse, self.count = _distinct(x)
        self.n = self.rows.shape[0]
        # Reduced-precision products (TF32, bf16) would break the error bound.
        exact_float32 = torch.get_float32_matmul_precision() == "highest"
        self.dtype = dtype or (torch.float32 if exact_float32 else torch.float64)
        self.work = torch.empty((self.n, x.shape[1]), dtype=self.dtype, device=x.device)
        for block in _blocks(self.n, _STRIP // x.shape[1]):
            self.work[block] = self.framed(block).to(self.dtype)
        self.norm = self._norms(self.work)

    def framed(self, block: slice) -> torch.Tensor:
        x = self.given[block] if self.n == self.given.shape[0] else self.given[self.rows[block]]
        return (x.double() - self.frame.centre).mul_(self.frame.scale)

    @staticmethod
    def _norms(work: torch.Tensor) -> torch.Tensor:
        blocks = _blocks(work.shape[0], _STRIP // work.shape[1])
        return torch.cat([work[b].double().square().sum(dim=1) for b in blocks])

    def lower(self, block: slice, other: _Points, *, fine: bool) -> _Strip:
        """Bound the squared distances from a block of these points to all of ``other``."""
        if not fine or self.dtype == torch.float64:
            error = _error(self.dtype, self.work.shape[1])
            bias = (other.norm * (1 - error)).to(self.dtype)
            low = torch.addmm(bias, self.work[block], other.work.T, alpha=-2)
            return _Strip(low, self.norm[block], other.norm, error)
        mine = self.framed(block)
        error = _error(torch.float64, mine.shape[1])
        low = torch.empty((mine.shape[0], other.n), dtype=torch.float64, device=mine.device)
        norms = torch.empty(other.n, dtype=torch.float64, device=mine.device)
        for columns in _blocks(other.n, 2048):
            theirs = other.framed(columns)
            norms[columns] = theirs.square().sum(dim=1)
            low[:, columns] = torch.addmm(norms[columns] * (1 - error), mine, theirs.T, alpha=-2)
        return _Strip(low, mine.square().sum(dim=1), norms, error)

    def exact(self, i: torch.Tensor, other: _Points, j: torch.Tensor) -> torch.Tensor:
        """Give framed squared distances from the coordinates, in float64, for pairs of points."""
        out = torch.empty(i.shape[0], dtype=torch.float64, device=i.device)
        size = max(2, _EXACT // self.given.shape[1])
        a, b = self.rows[i], other.rows[j]
        for block in _blocks(i.shape[0], size):
            p, q = a[block], b[block]
            # A sum's order must not depend on how many pairs are taken at once, or equal
            # distances would differ: CUDA picks it by shape, a CPU for a single long row only.
            short = (size if p.is_cuda else 2) - p.shape[0]
            if short > 0:
                p, q = torch.cat([p, p[:1].expand(short)]), torch.cat([q, q[:1].expand(short)])
            d = self.given[p].double().sub_(other.given[q]).mul_(self.frame.scale)
            out[block] = d.square_().sum(dim=1)[: out[block].shape[0]]
        return out


@dataclass(slots=True)
class _Strip:
    """Lower bounds of squared distances, without the row's own term: ``low + row``.

    For points with squared norms s and t, in d dimensions, the product's rounding is at most
    ``d u (s + t)`` whatever the order of summation (Higham 2002, Accuracy and Stability of
    Numerical Algorithms, 3.1); ``error`` adds the norms', the shift's and the comparison's own.
    """

    low: torch.Tensor
    mine: torch.Tensor
    theirs: torch.Tensor
    error: float

    @property
    def row(self) -> torch.Tensor:
        return self.mine * (1 - self.error) - _TINY

    def within(self, squared: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Pairs whose lower bound is at most this, row by row."""
        limit = (squared - self.row).to(self.low.dtype)
        i, j = (self.low <= limit[:, None]).nonzero(as_tuple=True)
        return i, j

    def bounds(self, i: torch.Tensor, j: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        low = self.low[i, j].double() + self.row[i]
        return low, self.upper(low, i, j)

    def upper(self, low: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return low + 2 * self.error * (self.mine[i] + self.theirs[j]) + 2 * _TINY


def _error(dtype: torch.dtype, d: int) -> float:
    return (2 * d + 64) * torch.finfo(dtype).eps / 2


def _blocks(n: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, min(n, start + size)) for start in range(0, n, size)]


def _distinct(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """First row of each distinct one, which distinct one each row is, and their counts."""
    n, d = x.shape
    everyone = torch.arange(n, device=x.device)
    _, inverse, count = torch.unique(_row_keys(x), return_inverse=True, return_counts=True)
    if count.shape[0] < n:
        rows = _first(inverse, count.shape[0])
        copies = torch.nonzero(rows[inverse] != everyone).flatten()
        equal = all(
            bool((x[copies[b]] == x[rows[inverse[copies[b]]]]).all())
            for b in _blocks(copies.shape[0], _STRIP // (2 * d))
        )
        if not equal:
            # Two different rows with one key.
            _, inverse, count = torch.unique(x, dim=0, return_inverse=True, return_counts=True)
            rows = _first(inverse, count.shape[0])
    if count.shape[0] == n:
        return everyone, everyone, torch.ones_like(everyone)
    return rows, inverse, count


def _row_keys(x: torch.Tensor) -> torch.Tensor:
    """Give a 64-bit key for each row: equal for equal rows, and rarely for others."""
    n, d = x.shape
    bits = torch.int32 if x.dtype == torch.float32 else torch.int64
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(2**62), 2**62, (d,), generator=generator).mul_(2).add_(1).to(x.device)
    keys = []
    for block in _blocks(n, _STRIP // (2 * d)):
        # Adding 0 makes -0.0 and 0.0 the same.
        word = (x[block] + 0.0).view(bits).to(torch.int64)
        # Whole numbers differ in a float's high bits alone; a product carries upwards only.
        word ^= word >> 32
        word *= odd
        word ^= word >> 29
        keys.append((word * odd).sum(dim=1))
    return torch.cat(keys)


def _first(inverse: torch.Tensor, size: int) -> torch.Tensor:
    n = inverse.shape[0]
    place = torch.arange(n, device=inverse.device)
    start = torch.full((size,), n, device=inverse.device)
    return start.scatter_reduce_(0, inverse, place, "amin")


# One pair of sets -------------------------------------------------------------------------------


def _squared_radii(p: _Points, k: int) -> torch.Tensor:
    """Give each distinct point's framed squared distance to its k-th nearest other sample."""
    radii = torch.zeros(p.n, dtype=torch.float64, device=p.work.device)
    need = k + 1 - p.count
    taken = min(k, p.n - 1)
    if taken == 0:
        return radii
    for block in _blocks(p.n, _STRIP // p.n):
        for fine in (False, True):
            strip = p.lower(block, p, fine=fine)
            strip.low.diagonal(block.start).fill_(torch.inf)
            size = strip.low.shape[0]
            low, j = strip.low.topk(taken, dim=1, largest=False)
            i = torch.arange(size, device=j.device)
            low = low.double() + strip.row[:, None]
            high = strip.upper(low, i[:, None], j)
            # The first so many that hold enough samples, each at its lower and its upper bound.
            enough = p.count[j].cumsum(dim=1) >= need[block, None]
            place = enough.int().argmax(dim=1)
            at_least = low[i, place]
            at_most = high.cummax(dim=1).values[i, place]
            i, j = strip.within(at_most)
            _, high = strip.bounds(i, j)
            below = high < at_least[i]
            i_open, j_open = i[~below], j[~below]
            if fine or i_open.shape[0] <= (k + 8) * size:
                break
        weight = torch.where(below, p.count[j], 0)
        missing = need[block] - torch.zeros(size, dtype=need.dtype, device=need.device).index_add_(
            0, i, weight
        )
        d = p.exact(i_open + block.start, p, j_open)
        radii[block] = _ragged_kth(d, i_open, p.count[j_open], missing)
    return torch.where(need > 0, radii, 0.0)


def _ragged_kth(
    value: torch.Tensor, row: torch.Tensor, count: torch.Tensor, need: torch.Tensor
) -> torch.Tensor:
    """Per row, the smallest value up to which the counts reach ``need``; rows in order."""
    order = value.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]
    value, row, count = value[order], row[order], count[order]
    total = count.cumsum(dim=0)
    per_row = torch.zeros_like(need).index_add_(0, row, count)
    before = per_row.cumsum(dim=0) - per_row
    reached = total - before[row] >= need[row]
    out = torch.full(need.shape, torch.inf, dtype=value.dtype, device=value.device)
    return out.scatter_reduce_(0, row[reached], value[reached], "amin")


def _balls(
    a: _Points, ball_a: torch.Tensor, b: _Points, ball_b: torch.Tensor
) -> tuple[int, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pairs (real ball, synthetic sample in it), and who is covered, recalled, on the manifold."""
    device = a.work.device
    held = 0
    covered, recalled = (torch.zeros(a.n, dtype=torch.bool, device=device) for _ in range(2))
    on = torch.zeros(b.n, dtype=torch.bool, device=device)
    for block in _blocks(a.n, _STRIP // b.n):
        for fine in (False, True):
            strip = a.lower(block, b, fine=fine)
            size = strip.low.shape[0]
            radius = ball_a[block]
            i, j = strip.within(radius)
            _, high = strip.bounds(i, j)
            sure = high <= radius[i]
            # The same for the balls around the columns, with their radii taken off.
            strip.low.sub_(ball_b.to(strip.low.dtype))
            i2, j2 = strip.within(torch.zeros_like(radius))
            _, high2 = strip.bounds(i2, j2)
            sure2 = high2 <= 0
            mine = recalled[block]
            mine[i2[sure2]] = True
            ask = ~sure2 & ~mine[i2]
            unsure = int((~sure).sum()) + int(ask.sum())
            if fine or unsure <= 16 * size + 1024:
                break
        inside = sure.clone()
        inside[~sure] = a.exact(i[~sure] + block.start, b, j[~sure]) <= radius[i[~sure]]
        i, j = i[inside], j[inside]
        held += int((a.count[block][i] * b.count[j]).sum())
        covered[block][i] = True
        on[j] = True
        i2, j2 = i2[ask], j2[ask]
        mine[i2[a.exact(i2 + block.start, b, j2) <= ball_b[j2]]] = True
    return held, covered, recalled, on


# Many columns -----------------------------------------------------------------------------------


class _NeighbourLists:
    """Each pooled row's nearest others, by exact distance, then by row.

    So the order does not change when a list is made longer.
    """

    def __init__(self, z: torch.Tensor) -> None:
        self.frame = _Frame.around(z)
        self.all = _Points(z, self.frame, torch.float64)
        self.n = z.shape[0]
        self.kind = self.all.inverse
        copies = self.all.n < self.n
        self.columns = self.all.work[self.kind] if copies else self.all.work
        self.norm = self.all.norm[self.kind]
        self.error = _error(torch.float64, z.shape[1])

    def nearest(
        self, rows: npt.NDArray[np.intp], length: int
    ) -> tuple[npt.NDArray[np.int32], Bools]:
        """Give the first ``length`` of these rows' lists, and where a new distance begins."""
        order = np.empty((rows.size, length), dtype=np.int32)
        new = np.empty((rows.size, length), dtype=bool)
        # 2**20: the candidates' sort keys take some ten times the block's own memory.
        for block in _blocks(rows.size, max(2**20, self.n) // self.n):
            order[block], new[block] = self._block(rows[block], length)
        return order, new

    def _block(
        self, rows: npt.NDArray[np.intp], length: int
    ) -> tuple[npt.NDArray[np.int32], Bools]:
        index = torch.from_numpy(rows).to(self.columns.device)
        d = torch.addmm(self.norm, self.columns[index], self.columns.T, alpha=-2)
        d.add_(self.norm[index, None])
        d[torch.arange(rows.size, device=d.device), index] = torch.inf
        near, j = d.topk(min(length + 1, self.n - 1), dim=1, largest=False)
        # One half-width for the whole row, so that only neighbours in the order can be unsure.
        width = self.error * (self.norm[index] + self.norm.max()) + _TINY
        unsure = (near.diff(dim=1) <= 2 * width[:, None]).any(dim=1)
        order = j[:, :length].cpu().numpy().astype(np.int32)
        new = np.ones(order.shape, dtype=bool)
        if bool(unsure.any()):
            again = torch.nonzero(unsure).flatten()
            limit = near[again, length - 1] + 2 * width[again]
            where = again.cpu().numpy()
            order[where], new[where] = self._settle(
                index[again], d[again], limit, width[again], length
            )
        return order, new

    def _settle(
        self,
        index: torch.Tensor,
        d: torch.Tensor,
        limit: torch.Tensor,
        width: torch.Tensor,
        length: int,
    ) -> tuple[npt.NDArray[np.int32], Bools]:
        """Order the rows in which rounding could hide an order or an equality."""
        i, j = ((d <= limit[:, None]) & (d < torch.inf)).nonzero(as_tuple=True)
        d = d[i, j]
        by_distance = d.argsort()
        by_row = by_distance[i[by_distance].argsort(stable=True)]
        i, j, d = i[by_row], j[by_row], d[by_row]

        # A run: entries that follow each other too closely.
        start = torch.ones_like(i, dtype=torch.bool)
        start[1:] = (i[1:] != i[:-1]) | (d[1:] - d[:-1] > 2 * width[i[1:]])
        run = start.cumsum(dim=0)
        unsure = torch.zeros_like(start)
        unsure[1:] |= ~start[1:]
        unsure[:-1] |= ~start[1:]
        where = torch.nonzero(unsure).flatten()
        d[where] = self._exact(index[i[where]], j[where])
        keys = [t[where].cpu().numpy() for t in (j, d, run)]
        again = where[torch.from_numpy(np.lexsort(keys)).to(where.device)]
        i[where], j[where], d[where] = i[again], j[again], d[again]
        start[1:] |= (d[1:] != d[:-1]) & unsure[1:]
        per_row = torch.bincount(i, minlength=index.shape[0])
        place = torch.arange(i.shape[0], device=i.device) - (per_row.cumsum(dim=0) - per_row)[i]
        kept = place < length
        shape = index.shape[0], length
        return (
            j[kept].reshape(shape).cpu().numpy().astype(np.int32),
            start[kept].reshape(shape).cpu().numpy(),
        )

    def _exact(self, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        """Exact distances; each distinct pair is taken once, and a copy is at 0."""
        kinds = self.all.n
        pairs, inverse = torch.unique(self.kind[i] * kinds + self.kind[j], return_inverse=True)
        a, b = pairs // kinds, pairs % kinds
        d = torch.zeros(pairs.shape[0], dtype=torch.float64, device=i.device)
        apart = a != b
        d[apart] = self.all.exact(a[apart], self.all, b[apart])
        return d[inverse]


class _Walk:
    """All columns' walks along the rows' lists, one place at a time.

    A row goes on in a column until a distance begins after k of its own side have been met.
    """

    def __init__(self, side: npt.NDArray[np.uint8], k: int, n: int) -> None:
        self.side = side
        self.k = k
        self.open = side > 0
        self.met = np.zeros(side.shape, dtype=np.uint16 if n < 2**16 else np.uint32)
        self.found = np.zeros(side.shape, dtype=bool)
        self.held = np.zeros(side.shape, dtype=np.uint8)

    def meet(self, other: npt.NDArray[np.uint8], new: Bools) -> Bools:
        """Take the next neighbours, given by their sides; says which lie in the rows' balls."""
        self.open &= ~(new[:, None] & (self.met >= self.k))
        self.met += self.open & (other == self.side)
        # Sides are 1 and 2, 0 outside: only two opposite ones add up to 3.
        hit: Bools = self.open & (other + self.side == 3)
        self.found |= hit
        self.held += hit
        return hit

    def take_held(self) -> npt.NDArray[np.int64]:
        """Synthetic members met in the balls of real rows since the last call, per column."""
        total: npt.NDArray[np.int64] = np.where(self.side == 1, self.held, 0).sum(
            axis=0, dtype=np.int64
        )
        self.held[:] = 0
        return total

    def going(self) -> Bools:
        return np.asarray(self.open.any(axis=1))

    def keep(self, rows: Bools) -> None:
        for name in ("side", "open", "met", "found", "held"):
            setattr(self, name, getattr(self, name)[rows])


def _mark(reached: npt.NDArray[np.uint8], neighbour: npt.NDArray[np.int32], hit: Bools) -> None:
    """Set ``reached[neighbour[p]] |= hit[p]``, eight columns to a byte.

    Several p may have the same neighbour, so an indexed assignment would lose some.
    """
    order = np.argsort(neighbour)
    who, start = np.unique(neighbour[order], return_index=True)
    packed = np.packbits(hit, axis=1)[order]
    reached[who] |= np.bitwise_or.reduceat(packed, start, axis=0)


# Error bars -------------------------------------------------------------------------------------


def _standard_errors(
    x: torch.Tensor,
    y: torch.Tensor,
    k: int,
    codes: tuple[npt.NDArray[np.intp] | None, npt.NDArray[np.intp] | None],
    resamples: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, int]]:
    """Give the standard errors of the four, and the independent units behind each.

    Halving one side at a time keeps the variances of the two samplings apart, so that each may be
    scaled by its own size.
    """
    rng = np.random.default_rng(seed)
    sides = [_universe(t.shape[0], c, rng) for t, c in zip((x, y), codes, strict=True)]
    z = torch.cat(
        [t[torch.from_numpy(rows).to(t.device)] for t, (rows, _) in zip((x, y), sides, strict=True)]
    )
    n, m = (rows.size for rows, _ in sides)
    first = np.zeros((n + m, 2 * resamples), dtype=bool)
    second = np.zeros_like(first)
    first[:n], second[n:] = True, True
    halves = [
        _halves(unit, resamples, k, rng, name)
        for (_, unit), name in zip(sides, ("real", "synthetic"), strict=True)
    ]
    first[:n, :resamples] = halves[0]
    second[n:, resamples:] = halves[1]
    values = manifold_splits(z, first, second, k)
    whole = [_units(t.shape[0], c) for t, c in zip((x, y), codes, strict=True)]
    errors = {}
    for name, v in values.items():
        variance = 0.0
        for s, part in enumerate((v[:resamples], v[resamples:])):
            units = int(sides[s][1].max()) + 1
            variance += delete_half_se(part, units // 2, units) ** 2 * units / whole[s]
        errors[name] = float(np.sqrt(variance))
    units_of = {"precision": 1, "density": 1, "recall": 0, "coverage": 0}
    return errors, {name: whole[s] for name, s in units_of.items()}


def _units(n: int, codes: npt.NDArray[np.intp] | None) -> int:
    return n if codes is None else int(codes.max()) + 1


def _universe(
    n: int, codes: npt.NDArray[np.intp] | None, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Rows that the error bars are made from, at most _CI_SIDE or so, and the unit of each."""
    if codes is None:
        rows = np.arange(n) if n <= _CI_SIDE else np.sort(rng.permutation(n)[:_CI_SIDE])
        return rows, np.arange(rows.size)
    order = rng.permutation(int(codes.max()) + 1)
    size = np.bincount(codes)[order].cumsum()
    kept = order[: max(2, int(np.searchsorted(size, _CI_SIDE, side="right")))]
    rows = np.flatnonzero(np.isin(codes, kept))
    return rows, np.unique(codes[rows], return_inverse=True)[1]


def _halves(
    unit: npt.NDArray[np.intp], count: int, k: int, rng: np.random.Generator, name: str
) -> Bools:
    """Random halves of the units, (rows, count)."""
    units = int(unit.max()) + 1
    order = rng.permuted(np.tile(np.arange(units), (count, 1)), axis=1)
    picked = np.zeros((units, count), dtype=bool)
    np.put_along_axis(picked, order[:, : units // 2].T, True, axis=0)
    half: Bools = picked[unit]
    if units < 4 or int(half.sum(axis=0).min()) <= k:
        raise ValueError(
            f"the {name} side is too small for an error bar: {unit.size} samples in {units} "
            f"independent units leave a half with {k} or fewer samples, or under 2 units. Add "
            "samples, or give level=None to do without intervals"
        )
    return half


def _interval(
    name: str, value: float, error: float, units: dict[str, int], level: float, k: int
) -> Interval:
    share = wilson(value if name != "density" else 0.0, error, float(units[name]), level, "")
    if name != "density":
        return replace(share, method="delete-half-wilson")
    if value == 0:
        # As many samples as could have been inside unseen, in one ball each.
        return Interval(0.0, share.high / k, level, "delete-half-lognormal")
    # Its spread grows with its value: only the logarithm's is about the same at all of them.
    factor = math.exp(NormalDist().inv_cdf(0.5 + level / 2) * error / value)
    return Interval(value / factor, value * factor, level, "delete-half-lognormal")
