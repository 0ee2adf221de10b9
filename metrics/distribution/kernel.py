"""Kernel distances: the squared maximum mean discrepancy (KID, RBF, CMMD) and the energy distance.

All of them are sums of a kernel over pairs of rows. One pass over the upper triangle of the pooled
Gram matrix, block by block, serves every kernel, split and permutation that is asked for, so that
memory is O(block²) beside the rows themselves, and each inner product is computed once.

Rows are centred first. Distances do not change; for the polynomial kernel the part that centring
takes out is added back in closed form, less a constant that cancels in the distance. float32
features thus keep their digits whatever their mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import stdtr, stdtrit

from .._check import Array, features, groups_of, pair
from .._result import Interval, Scalar
from ..inference import (
    Groups,
    check_masks,
    max_t,
    p_value,
    permutation_masks,
    pool_groups,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kernel: TypeAlias = Literal["polynomial", "rbf", "rbf-multi", "energy", "cmmd"]

KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)

_BLOCK = 1024
"""Rows in a block: 4 MiB of float32, which stays in cache between element-wise steps."""
_MULTI = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Bandwidths of ``rbf-multi``, as multiples of the base one; each is twice the one before."""
_CMMD_SIGMA = 10.0
_CMMD_SCALE = 1000.0
_BANDWIDTH_ROWS = 2000


@dataclass(frozen=True, slots=True)
class KernelResult(Scalar):
    """A kernel distance, with its uncertainty.

    Attributes
    ----------
    value : float
        The squared distance; unbiased estimates can be negative when the sets are alike.
    kernel, estimator : str
        What was computed.
    bandwidth : float or None
        Bandwidth of the RBF kernels, None for the others.
    variance : float or None
        Estimated sampling variance of ``value``.
    ci : Interval or None
        Confidence interval of the population's distance.
    p_value : float or None
        Of the null hypothesis that both sets have one distribution; see ``p_method``.
    p_method : str or None
        How the p-value was made.
    spread : float
        The real data's own size in the kernel's feature space, E k(x,x) - E k(x,x'):
        ``value / spread`` is a gap relative to the real data's variance, free of n and unit.
    n_real, n_synthetic, dim : int
        Shapes of the input.
    """

    kernel: Kernel
    estimator: str
    bandwidth: float | None
    variance: float | None
    ci: Interval | None
    p_value: float | None
    p_method: str | None
    spread: float
    n_real: int
    n_synthetic: int
    dim: int


@dataclass(frozen=True, slots=True)
class KernelFamily:
    """Several kernels on the same data, tested together.

    Attributes
    ----------
    results : dict
        Kernel to :class:`KernelResult`; the p-values in them are not adjusted.
    p_adjusted : dict
        Kernel to its family-wise p-value (step-down max-T over the kernels).
    p_value : float or None
        Of the global null hypothesis: the smallest of the adjusted ones; None, and
        ``p_adjusted`` empty, without permutations.
    """

    results: dict[Kernel, KernelResult]
    p_adjusted: dict[Kernel, float]
    p_value: float | None


@dataclass(frozen=True, slots=True)
class _Part:
    """What kernels need to know of rows beside their inner products; shaped to broadcast."""

    square: torch.Tensor
    shift: torch.Tensor


class _Space:
    """Pooled rows made ready for one pass: centred, in the dtype of the computation."""

    def __init__(
        self, parts: Sequence[torch.Tensor], kernels: Sequence[Kernel], bandwidth: float | None
    ) -> None:
        self.kernels = tuple(kernels)
        self.unit = "cmmd" in kernels
        dtype = parts[0].dtype
        if "energy" in kernels:
            # The square root of a distance that nearly cancels keeps half of the digits only.
            dtype = torch.float64
        n = sum(len(p) for p in parts)
        self.d = parts[0].shape[1]
        self.rows = torch.empty((n, self.d), dtype=dtype, device=parts[0].device)
        start = 0
        for part in parts:
            self.rows[start : start + len(part)] = part
            start += len(part)
        if self.unit:
            norm = torch.linalg.vector_norm(self.rows, dim=1, keepdim=True)
            if not bool((norm > 0).all()):
                row = int(torch.nonzero(norm.flatten() == 0)[0])
                raise ValueError(
                    f"cmmd needs rows that can be scaled to unit length: pooled row {row} is zero"
                )
            self.rows /= norm
        # In float64 by block: a float64 copy of all rows would be the largest thing in memory.
        centre = (
            torch.stack(
                [self.rows[rows].double().sum(dim=0) for rows in _cuts(0, n, 4 * _BLOCK)]
            ).sum(dim=0)
            / n
        )
        self.rows -= centre.to(dtype)
        # What was subtracted is the rounded centre.
        c = centre.to(dtype).to(torch.float64)
        self.offset = float(c @ c) / self.d + 1.0
        self.square = torch.empty(n, dtype=dtype, device=self.rows.device)
        self.shift = torch.empty_like(self.square)
        for rows in _cuts(0, n, 4 * _BLOCK):
            u = self.rows[rows].to(torch.float64)
            self.square[rows] = (u * u).sum(dim=1).to(dtype)
            self.shift[rows] = ((u @ c) / self.d).to(dtype)
        self.bandwidth = bandwidth

    @property
    def sigma(self) -> float:
        if self.bandwidth is None:
            raise ValueError("an RBF kernel needs a bandwidth")
        return self.bandwidth

    def left(self, index: slice | torch.Tensor) -> _Part:
        return _Part(self.square[index][:, None], self.shift[index][:, None])

    def right(self, index: slice | torch.Tensor) -> _Part:
        return _Part(self.square[index], self.shift[index])

    def apply(self, kernel: Kernel, dots: torch.Tensor, left: _Part, right: _Part) -> torch.Tensor:
        """Turn inner products of centred rows into kernel values, in place.

        A constant is left out of the polynomial kernel (``offset**3``) and of CMMD's (1): it
        cancels in the distance, and with it goes most of the rounding error.
        """
        match kernel:
            case "polynomial":
                # (o + s)³ - o³ = s (3o² + s (3o + s)), s = (u·v + c·u + c·v)/d, o = 1 + |c|²/d.
                s = dots.div_(self.d).add_(left.shift).add_(right.shift)
                o = self.offset
                return s.mul_((s + 3 * o).mul_(s).add_(3 * o * o))
            case "rbf":
                return self._exponent(dots, left, right, self.sigma).exp_()
            case "cmmd":
                return self._exponent(dots, left, right, _CMMD_SIGMA).expm1_()
            case "rbf-multi":
                # exp at the widest bandwidth; each narrower one is the fourth power of it.
                e = self._exponent(dots, left, right, self.sigma * _MULTI[-1]).exp_()
                total = e.clone()
                for _ in _MULTI[1:]:
                    total.add_(e.square_().square_())
                return total.div_(len(_MULTI))
            case "energy":
                square = dots.mul_(-2).add_(left.square).add_(right.square)
                return square.clamp_(min=0).sqrt_().neg_()

    @staticmethod
    def _exponent(dots: torch.Tensor, left: _Part, right: _Part, sigma: float) -> torch.Tensor:
        """-|x-y|²/(2σ²), in place."""
        scale = 1 / (sigma * sigma)
        dots.mul_(scale).sub_(left.square * (scale / 2)).sub_(right.square * (scale / 2))
        return dots.clamp_(max=0)

    def diagonal(self, kernel: Kernel, rows: slice) -> float:
        """Mean of k(x, x) over rows, with the constant that :meth:`apply` leaves out."""
        match kernel:
            case "polynomial":
                s = self.square[rows].double() / self.d + 2 * self.shift[rows].double()
                o = self.offset
                return float((s * (s * (s + 3 * o) + 3 * o * o)).mean())
            case "rbf" | "rbf-multi":
                return 1.0
            case "cmmd" | "energy":
                return 0.0


def _cuts(start: int, stop: int, size: int) -> list[slice]:
    return [slice(i, min(i + size, stop)) for i in range(start, stop, size)]


def _blocks(
    space: _Space, cuts: Sequence[slice]
) -> Iterator[tuple[Kernel, slice, slice, torch.Tensor]]:
    """Kernel values of the upper triangle, zero on the diagonal; each is valid until the next."""
    largest = max(c.stop - c.start for c in cuts)
    buffer = space.rows.new_empty(largest * largest)
    for a, rows in enumerate(cuts):
        for cols in cuts[a:]:
            h, w = rows.stop - rows.start, cols.stop - cols.start
            dots = buffer[: h * w].view(h, w)
            torch.mm(space.rows[rows], space.rows[cols].T, out=dots)
            left, right = space.left(rows), space.right(cols)
            for i, kernel in enumerate(space.kernels):
                last = i + 1 == len(space.kernels)
                k = space.apply(kernel, dots if last else dots.clone(), left, right)
                if rows is cols:
                    k.fill_diagonal_(0)
                yield kernel, rows, cols, k


class _Quadratic:
    """Sums of a kernel within and between the two sets of each column.

    Every distinct set is multiplied once: splits name one real half twice, and where the second set
    is the rest, sums over the first, over all, and between the two give its own.
    """

    def __init__(self, masks: tuple[np.ndarray, np.ndarray], space: _Space) -> None:
        first, second = masks
        self.count = first.sum(axis=0).astype(float), second.sum(axis=0).astype(float)
        self.rest = (first != second).all(axis=0)
        every = np.ones((len(first), 1), dtype=bool)
        sets = np.concatenate([first, np.where(self.rest, every, second)], axis=1)
        packed = np.ascontiguousarray(np.packbits(sets, axis=0).T)
        whole = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
        _, kept, place = np.unique(whole, return_index=True, return_inverse=True)
        device = space.rows.device
        # A set a row: picking rows below copies whole runs of memory.
        self.masks = torch.from_numpy(sets[:, kept].T.copy()).to(device, space.rows.dtype)
        self.first, self.second = torch.from_numpy(place).to(device).chunk(2)
        self.within = {k: self._zeros(kept.size, device) for k in space.kernels}
        self.between = {k: self._zeros(self.first.numel(), device) for k in space.kernels}

    @staticmethod
    def _zeros(size: int, device: torch.device) -> torch.Tensor:
        return torch.zeros(size, dtype=torch.float64, device=device)

    def add(self, kernel: Kernel, rows: slice, cols: slice, k: torch.Tensor) -> None:
        left, right = self.masks[:, rows], self.masks[:, cols]
        # k is of the upper triangle: a block beside the diagonal stands for its mirror image too.
        mirrored = rows is not cols
        product = right @ k.T
        inner = (left * product).sum(dim=1, dtype=torch.float64)
        self.within[kernel] += inner * (2.0 if mirrored else 1.0)
        a, b = self.first, self.second
        self.between[kernel] += (left[a] * product[b]).sum(dim=1, dtype=torch.float64)
        if mirrored:
            self.between[kernel] += (left[b] * product[a]).sum(dim=1, dtype=torch.float64)

    def values(self, kernel: Kernel) -> npt.NDArray[np.float64]:
        within, xy = self.within[kernel], self.between[kernel].cpu().numpy()
        xx, yy = (within[i].cpu().numpy() for i in (self.first, self.second))
        # With the rest as the second set, these are sums over all, and between the first and all.
        yy, xy = np.where(self.rest, yy - 2 * xy + xx, yy), np.where(self.rest, xy - xx, xy)
        n, m = self.count
        return _distance(kernel, xx=xx, yy=yy, xy=xy, n=n, m=m)


class _RowSums:
    """Sums of a kernel over each row, by side, and of its squares: all that the variance needs."""

    def __init__(self, n: int, space: _Space) -> None:
        self.n = n
        total = len(space.rows)
        zeros = torch.zeros((total, 2), dtype=torch.float64, device=space.rows.device)
        self.rows = {k: zeros.clone() for k in space.kernels}
        self.squares = {k: zeros.new_zeros(3) for k in space.kernels}

    def add(self, kernel: Kernel, rows: slice, cols: slice, k: torch.Tensor) -> None:
        a, b = int(rows.start >= self.n), int(cols.start >= self.n)
        total, squares = self.rows[kernel], self.squares[kernel]
        total[rows, b] += k.sum(dim=1)
        # By row first: one float32 sum over the whole block would lose digits.
        norm = torch.linalg.vector_norm(k, dim=1).double()
        squares[a + b] += (norm @ norm) * (1.0 if rows is cols or a != b else 2.0)
        if rows is not cols:
            total[cols, a] += k.sum(dim=0)

    def moments(self, kernel: Kernel) -> _Moments:
        rows = self.rows[kernel].cpu().numpy()
        xx, xy, yy = (float(v) for v in self.squares[kernel])
        n = self.n
        return _Moments(rows[:n, 0], rows[:n, 1], rows[n:, 1], rows[n:, 0], xx, xy, yy)


@dataclass(frozen=True, slots=True)
class _Moments:
    """Row sums within and across sides, and sums of squares (``f..``), for one kernel."""

    x: npt.NDArray[np.float64]
    xy: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    yx: npt.NDArray[np.float64]
    fxx: float
    fxy: float
    fyy: float

    def value(self, kernel: Kernel) -> float:
        xx, yy, xy, n, m = (
            np.asarray(v, dtype=np.float64)
            for v in (self.x.sum(), self.y.sum(), self.xy.sum(), len(self.x), len(self.y))
        )
        return float(_distance(kernel, xx=xx, yy=yy, xy=xy, n=n, m=m))

    def unbiased(self) -> float:
        """Give the U-statistic, also for a kernel whose published value is the V-statistic."""
        n, m = len(self.x), len(self.y)
        within = self.x.sum() / (n * (n - 1)) + self.y.sum() / (m * (m - 1))
        return float(within - 2 * self.xy.sum() / (n * m))

    def variance(self) -> tuple[float, float]:
        """Estimate the variance of the U-statistic: its first- and its second-order part.

        By Hoeffding's decomposition, with a(x) = E k(x,x'), b(x) = E k(x,y) and k~ the kernel
        centred in both arguments::

            4 Var(a-b)(x)/n + 4 Var(a-b)(y)/m + 2 E k~(x,x')²/(n(n-1)) + 2 E k~(y,y')²/(m(m-1))
              + 4 E k~(x,y)²/(nm)

        Products of expectations are estimated by sums over distinct indices, so that each term is
        unbiased. One that comes out negative, as it may when it is truly near 0, counts as 0.
        """
        n, m = len(self.x), len(self.y)
        # A shift of the kernel changes nothing but the rounding.
        c = (self.x.sum() + self.y.sum() + 2 * self.xy.sum()) / ((n + m) * (n + m - 1))
        x, xy = self.x - c * (n - 1), self.xy - c * m
        y, yx = self.y - c * (m - 1), self.yx - c * n
        fxx = self.fxx - 2 * c * self.x.sum() + c * c * n * (n - 1)
        fyy = self.fyy - 2 * c * self.y.sum() + c * c * m * (m - 1)
        fxy = self.fxy - 2 * c * self.xy.sum() + c * c * n * m
        t = xy.sum()
        # E b(x)², E b(y)² and (E k(x,y))², over distinct indices.
        bx = (xy @ xy - fxy) / (n * m * (m - 1))
        by = (yx @ yx - fxy) / (n * m * (n - 1))
        mean_xy = (t * t - xy @ xy - yx @ yx + fxy) / (n * (n - 1) * m * (m - 1))
        first = 0.0
        second = 4 / (n * m) * max(fxy / (n * m) - bx - by + mean_xy, 0.0)
        for r, q, f, b, k, other in ((x, xy, fxx, bx, n, m), (y, yx, fyy, by, m, n)):
            s = r.sum()
            a = (r @ r - f) / (k * (k - 1) * (k - 2))
            mean = (s * s - 4 * (r @ r) + 2 * f) / (k * (k - 1) * (k - 2) * (k - 3))
            ab = (r @ q) / (k * (k - 1) * other)
            mean_ab = (s * t - 2 * (r @ q)) / (k * (k - 1) * (k - 2) * other)
            first += 4 / k * max(a - mean + b - mean_xy - 2 * (ab - mean_ab), 0.0)
            second += 2 / (k * (k - 1)) * max(f / (k * (k - 1)) - 2 * a + mean, 0.0)
        return float(first), float(second)

    def variance_of_groups(self, groups: np.ndarray | None, other: np.ndarray | None) -> float:
        """Estimate the variance to first order with rows dependent within a group."""
        n, m = len(self.x), len(self.y)
        total = 0.0
        for g, k, codes in (
            (self.x / (n - 1) - self.xy / m, n, groups),
            (self.y / (m - 1) - self.yx / n, m, other),
        ):
            by_group = np.bincount(np.arange(k) if codes is None else codes, g - g.mean())
            G = len(by_group)
            if G < 2:
                raise ValueError("a confidence interval needs at least 2 groups on each side")
            total += 4 / (k * k) * float(by_group @ by_group) * G / (G - 1)
        return total


def _distance(
    kernel: Kernel,
    *,
    xx: npt.NDArray[np.float64],
    yy: npt.NDArray[np.float64],
    xy: npt.NDArray[np.float64],
    n: npt.NDArray[np.float64],
    m: npt.NDArray[np.float64],
) -> npt.NDArray[np.float64]:
    """Combine sums over distinct pairs (xx, yy) and over all pairs (xy) into the distance."""
    if kernel == "cmmd":
        # The published V-statistic; its diagonal is 1, which is 0 here.
        return _CMMD_SCALE * (xx / (n * n) + yy / (m * m) - 2 * xy / (n * m))
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def _check_kernels(kernels: Sequence[str]) -> tuple[Kernel, ...]:
    known = tuple(k for name in kernels for k in KERNELS if k == name)
    if len(known) != len(kernels) or len(set(known)) != len(known) or not known:
        raise ValueError(
            f"kernels must be some of {', '.join(KERNELS)}, each once; got {list(kernels)}"
        )
    return known


def _check_bandwidth(bandwidth: float | None) -> None:
    if bandwidth is not None and not (math.isfinite(bandwidth) and bandwidth > 0):
        raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")


def _spaces(
    parts: Sequence[torch.Tensor], kernels: Sequence[Kernel], bandwidth: float | None
) -> Iterator[_Space]:
    """One pass for CMMD, on unit vectors, and one for all other kernels."""
    _check_bandwidth(bandwidth)
    plain = [k for k in kernels if k != "cmmd"]
    if not {"rbf", "rbf-multi"} & set(plain):
        bandwidth = None
    elif bandwidth is None:
        bandwidth = _median(parts)
    if plain:
        yield _Space(parts, plain, bandwidth)
    if "cmmd" in kernels:
        yield _Space(parts, ["cmmd"], None)


def _median(parts: Sequence[torch.Tensor], seed: int = 0) -> float:
    """Median positive distance between (at most 2,000 random) pooled rows."""
    sizes = [len(p) for p in parts]
    pick = np.arange(sum(sizes))
    if len(pick) > _BANDWIDTH_ROWS:
        # Random and blind to the sides: a permutation test given the bandwidth stays exact.
        pick = np.sort(np.random.default_rng(seed).choice(pick, _BANDWIDTH_ROWS, replace=False))
    rows = []
    start = 0
    for part, size in zip(parts, sizes, strict=True):
        own = pick[(pick >= start) & (pick < start + size)] - start
        rows.append(part[torch.from_numpy(own).to(part.device)].double())
        start += size
    x = torch.cat(rows)
    x = x - x.mean(dim=0)
    square = (x * x).sum(dim=1)
    scale = square[:, None] + square
    distance2 = torch.addmm(scale, x, x.T, alpha=-2)
    upper = torch.triu_indices(len(x), len(x), offset=1, device=x.device)
    d2, scale = distance2[upper[0], upper[1]], scale[upper[0], upper[1]]
    # What is left of the difference of two equal rows is rounding.
    d2 = d2[d2 > 1e-12 * scale]
    return math.sqrt(float(d2.median())) if len(d2) else 1.0


def kernel_distance(
    real: Array,
    synthetic: Array,
    kernel: str = "polynomial",
    *,
    estimator: str = "full",
    bandwidth: float | None = None,
    block_size: int | None = None,
    permutations: int = 0,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
    block_rows: int = _BLOCK,
) -> KernelResult:
    """Compute the squared maximum mean discrepancy between two sets, or the energy distance.

    Kernels:

    - ``"polynomial"``: ``(x·y/d + 1)³``, the KID of Bińkowski et al. when the features are
      Inception's. Sensitive to means and to the features' scale.
    - ``"rbf"``: ``exp(-|x-y|²/(2σ²))``, by default with the median distance as σ.
    - ``"rbf-multi"``: mean of five RBF kernels at 1/4, 1/2, 1, 2 and 4 times σ.
    - ``"energy"``: ``-|x-y|``, so that the value is 2E|x-y| - E|x-x'| - E|y-y'|. No bandwidth.
      Computed in float64 whatever the input, since a square root of a difference is taken.
    - ``"cmmd"``: as published: rows scaled to unit length, RBF with σ = 10, the biased
      V-statistic, times 1,000.

    Estimators: ``"full"`` takes every pair once, exact and without chance, in O((n+m)² d) time and
    O(block_rows²) memory. ``"block"`` averages over disjoint blocks of both sets, O(n b d), and
    ``"linear"`` over disjoint pairs, O(n d); both put the rows into a seeded random order first and
    have more variance, the linear one much more.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features, at least 2 rows each (4 for a variance). float32 stays float32; the error
        against float64 is below 1e-5 of ``spread``.
    kernel : str
        See above.
    estimator : {"full", "block", "linear"}
        See above.
    bandwidth : float, optional
        σ of the RBF kernels; by default :func:`median_bandwidth`.
    block_size : int, optional
        Rows of the smaller set in a block, for ``"block"``; by default its square root.
    permutations : int
        Relabellings for the p-value, 0 for none; ``"full"`` only, the others have a normal one.
    groups_real, groups_synthetic : sequence, optional
        Rows of one group (one photograph's crops, one speaker) are not independent: they are
        permuted together, and the interval counts groups. The value does not change.
    level : float
        Nominal coverage of the interval.
    seed : int
        Seed of permutations and of the order of rows.
    block_rows : int
        Rows in a block of the Gram matrix.

    Returns
    -------
    KernelResult
        ``value`` is best at 0, has no upper bound (RBF: 2), lower is better. The interval is for
        the population's distance, from the closed-form variance of the U-statistic, widened for
        its skewness, and cut at 0: it covers more often than stated near distance 0. For
        ``cmmd``, whose value is biased upwards by the V-statistic's diagonal, it is centred on the
        unbiased estimate.

    Raises
    ------
    TypeError, ValueError
        If the features or options are not valid.

    Notes
    -----
    It cannot see which samples differ, nor copies of the training data: a set of copies has the
    best possible value. The polynomial kernel sees differences of the first three moments only.

    References
    ----------
    Gretton et al. 2012, A kernel two-sample test. Bińkowski et al. 2018, arXiv:1801.01401.
    Zaremba et al. 2013, B-tests. Sutherland et al. 2017, arXiv:1611.04488 (variance). Székely &
    Rizzo 2013, Energy statistics. Jayasumana et al. 2024, arXiv:2401.09603 (CMMD).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x, y = rng.normal(size=(500, 8)), rng.normal(0.5, 1, size=(400, 8))
    >>> result = kernel_distance(x, y, "rbf", permutations=199)
    >>> result.p_value
    0.005
    """
    (name,) = _check_kernels([kernel])
    if estimator == "full":
        if block_size is not None:
            raise ValueError("block_size is for estimator='block'; 'full' takes block_rows")
        family = kernel_distances(
            real,
            synthetic,
            (name,),
            bandwidth=bandwidth,
            permutations=permutations,
            groups_real=groups_real,
            groups_synthetic=groups_synthetic,
            level=level,
            seed=seed,
            block_rows=block_rows,
        )
        return family.results[name]
    if estimator not in {"block", "linear"}:
        raise ValueError(f"estimator must be 'full', 'block' or 'linear', got {estimator!r}")
    if permutations or groups_real is not None or groups_synthetic is not None:
        raise ValueError(
            f"the {estimator!r} estimator has a t-test's p-value and takes independent rows: "
            "use estimator='full' for permutations or groups"
        )
    if name == "cmmd":
        raise ValueError("cmmd is defined as the full V-statistic: use estimator='full'")
    if estimator == "linear" and block_size not in {None, 2}:
        raise ValueError(
            f"the linear estimator takes pairs: block_size must be 2, got {block_size}"
        )
    a, b = pair(real, synthetic, min_n=4, dtype=None)
    (space,) = _spaces([a, b], [name], bandwidth)
    n, m = len(a), len(b)
    if estimator == "linear":
        values = _linear_values(space, n, m, seed)
    else:
        values = _block_values(space, n, m, block_size, seed)
    k = len(values)
    mean, se = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(k)
    half = se * float(stdtrit(k - 1, (1 + level) / 2))
    return KernelResult(
        value=mean,
        kernel=name,
        estimator=estimator,
        bandwidth=space.bandwidth,
        variance=se * se,
        ci=Interval(max(mean - half, 0.0), max(mean + half, 0.0), level, f"{estimator}-student"),
        # No spread at all: every block has the same value, 0 for constant data.
        p_value=float(stdtr(k - 1, -mean / se)) if se > 0 else float(mean <= 0),
        p_method=f"{estimator}-student",
        spread=_linear_spread(space, n, seed),
        n_real=n,
        n_synthetic=m,
        dim=space.d,
    )


def kernel_distances(
    real: Array,
    synthetic: Array,
    kernels: Sequence[str] = ("polynomial", "rbf"),
    *,
    bandwidth: float | None = None,
    permutations: int = 0,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
    block_rows: int = _BLOCK,
) -> KernelFamily:
    """Compute several kernel distances at once, tested with one set of permutations.

    The inner products are computed once for all kernels (once more for ``cmmd``), and the
    permutations are one matrix product for each kernel and block.

    Parameters
    ----------
    real, synthetic, bandwidth, permutations, groups_real, groups_synthetic, level, seed, block_rows
        As in :func:`kernel_distance`.
    kernels : sequence of str
        Kernels, without repetition.

    Returns
    -------
    KernelFamily
        Full-estimator results, and with permutations the family-wise p-values.

    Raises
    ------
    TypeError, ValueError
        If the features or options are not valid.

    References
    ----------
    As in :func:`kernel_distance`; Westfall & Young 1993 for the adjustment.
    """
    a, b = pair(real, synthetic, min_n=2, dtype=None)
    n, m = len(a), len(b)
    if permutations < 0:
        raise ValueError(f"permutations must be at least 0, got {permutations}")
    if block_rows < 1:
        raise ValueError(f"block_rows must be at least 1, got {block_rows}")
    codes = (
        groups_of(groups_real, n, "groups_real"),
        groups_of(groups_synthetic, m, "groups_synthetic"),
    )
    masks = None
    if permutations:
        pooled = pool_groups(groups_real, groups_synthetic, n, m)
        first, _ = permutation_masks(n, m, permutations, groups=pooled, seed=seed)
        observed = np.arange(n + m)[:, None] < n
        # The observed labels go through the same arithmetic, so that ties stay ties.
        first = np.concatenate([observed, first], axis=1)
        masks = first, ~first
    results: dict[Kernel, KernelResult] = {}
    table: dict[Kernel, npt.NDArray[np.float64]] = {}
    names = _check_kernels(kernels)
    for space in _spaces([a, b], names, bandwidth):
        sums = _RowSums(n, space)
        quadratic = _Quadratic(masks, space) if masks else None
        cuts = _cuts(0, n, block_rows) + _cuts(n, n + m, block_rows)
        for kernel, rows, cols, k in _blocks(space, cuts):
            sums.add(kernel, rows, cols, k)
            if quadratic:
                quadratic.add(kernel, rows, cols, k)
        for kernel in space.kernels:
            moments = sums.moments(kernel)
            p = None
            if quadratic:
                t = table[kernel] = quadratic.values(kernel)
                relative = 1e-9 if space.rows.dtype == torch.float64 else 1e-4
                p = p_value(t[0], t[1:], tie=relative * float(t.std()))
            results[kernel] = _full_result(kernel, space, moments, codes=codes, level=level, p=p)
    results = {kernel: results[kernel] for kernel in names}
    adjusted: dict[Kernel, float] = {}
    if masks:
        stacked = np.stack([table[kernel] for kernel in names])
        adjusted = dict(zip(names, max_t(stacked[:, 0], stacked[:, 1:]).tolist(), strict=True))
    return KernelFamily(results, adjusted, min(adjusted.values()) if adjusted else None)


def _full_result(
    kernel: Kernel,
    space: _Space,
    moments: _Moments,
    *,
    codes: tuple[np.ndarray | None, np.ndarray | None],
    level: float,
    p: float | None,
) -> KernelResult:
    n, m = len(moments.x), len(moments.y)
    scale = _CMMD_SCALE if kernel == "cmmd" else 1.0
    variance, ci = None, None
    # Fewer rows have no unbiased variance: it takes four different ones.
    if min(n, m) >= 4:
        if codes[0] is None and codes[1] is None:
            first, second = moments.variance()
            units, method = min(n, m), "u-statistic"
        else:
            first, second = moments.variance_of_groups(*codes), 0.0
            units = min(
                k if g is None else int(g.max()) + 1 for k, g in zip((n, m), codes, strict=True)
            )
            method = "u-statistic-groups"
        variance = scale**2 * (first + second)
        low, high = _skewed(
            moments.unbiased(), first, second, float(stdtrit(units - 1, (1 + level) / 2))
        )
        ci = Interval(max(scale * low, 0.0), max(scale * high, 0.0), level, method)
    return KernelResult(
        value=moments.value(kernel),
        kernel=kernel,
        estimator="full",
        bandwidth=space.bandwidth if kernel.startswith("rbf") else None,
        variance=variance,
        ci=ci,
        p_value=p,
        p_method=None if p is None else "permutation",
        spread=_spread(kernel, space, moments.x),
        n_real=n,
        n_synthetic=m,
        dim=space.d,
    )


def _skewed(value: float, first: float, second: float, q: float) -> tuple[float, float]:
    """Give an interval for a value whose variance grows with it.

    The first-order variance is proportional to the distance (the witness function scales with it),
    so a low estimate comes with a low variance and the plain interval ends too soon above. Solving
    ``(value - t)² = q² (second + first t / value)`` for t, as Wilson's interval does, mends that
    but is too short below. At each end the wider of the two is taken.
    """
    half = q * math.sqrt(first + second)
    floor = math.sqrt(second) if second > 0 else half
    slope = q * q * first / max(value, floor) if first > 0 else 0.0
    middle = value + slope / 2
    reach = math.sqrt(max(middle * middle - value * value + q * q * second, 0.0))
    return min(value - half, middle - reach), max(value + half, middle + reach)


def _orders(n: int, m: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.permutation(n), n + rng.permutation(m)


def _block_values(
    space: _Space, n: int, m: int, size: int | None, seed: int
) -> npt.NDArray[np.float64]:
    """Give the U-statistic of each disjoint block; all rows are used, sizes differ by 1 at most."""
    smaller = min(n, m)
    size = max(2, math.isqrt(smaller)) if size is None else size
    if not 2 <= size <= smaller // 2:
        raise ValueError(f"block_size must lie in 2..{smaller // 2} for {smaller} rows, got {size}")
    count = smaller // size
    (kernel,) = space.kernels
    values = np.empty(count)
    x, y = (np.array_split(order, count) for order in _orders(n, m, seed))
    for i in range(count):
        index = torch.from_numpy(np.concatenate([x[i], y[i]])).to(space.rows.device)
        rows = space.rows[index]
        k = space.apply(kernel, rows @ rows.T, space.left(index), space.right(index))
        k = k.double().fill_diagonal_(0)
        h, w = len(x[i]), len(y[i])
        values[i] = float(
            k[:h, :h].sum() / (h * (h - 1))
            + k[h:, h:].sum() / (w * (w - 1))
            - 2 * k[:h, h:].sum() / (h * w)
        )
    return values


def _pairs(space: _Space, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Kernel of rows i with rows j, one by one, float64."""
    (kernel,) = space.kernels
    dots = torch.empty(len(i), dtype=space.rows.dtype, device=space.rows.device)
    for part in _cuts(0, len(i), 4 * _BLOCK):
        dots[part] = (space.rows[i[part]] * space.rows[j[part]]).sum(dim=1)
    return space.apply(kernel, dots, space.right(i), space.right(j)).double()


def _linear_values(space: _Space, n: int, m: int, seed: int) -> npt.NDArray[np.float64]:
    """k(x,x') + k(y,y') - k(x,y') - k(x',y) over disjoint pairs (Gretton et al. 2012, lemma 14)."""
    count = min(n, m) // 2
    x, y = (torch.from_numpy(order).to(space.rows.device) for order in _orders(n, m, seed))
    x1, x2, y1, y2 = x[:count], x[count : 2 * count], y[:count], y[count : 2 * count]
    h = _pairs(space, x1, x2) + _pairs(space, y1, y2)
    h -= _pairs(space, x1, y2) + _pairs(space, x2, y1)
    return h.cpu().numpy()


def _linear_spread(space: _Space, n: int, seed: int) -> float:
    (kernel,) = space.kernels
    x = torch.from_numpy(_orders(n, 1, seed)[0]).to(space.rows.device)
    half = n // 2
    within = float(_pairs(space, x[:half], x[half : 2 * half]).mean())
    return space.diagonal(kernel, slice(0, n)) - within


def median_bandwidth(real: Array, synthetic: Array, *, seed: int = 0) -> float:
    """Give the bandwidth that the RBF kernels take by default.

    The median of the positive Euclidean distances between pooled rows; of more than 2,000 rows, a
    random 2,000, drawn blind to the sides. Distances of 0 (duplicates) are left out, and if all
    are 0 the bandwidth is 1: the distance is then 0 at any bandwidth.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features.
    seed : int
        Seed of the draw.

    Returns
    -------
    float
        In the features' unit.

    Raises
    ------
    TypeError, ValueError
        If the features are not valid.

    References
    ----------
    Gretton et al. 2012, A kernel two-sample test, section 8.
    """
    return _median(pair(real, synthetic, dtype=None), seed)


def kernel_splits(
    Z: Array,
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
    kernels: Sequence[str] = ("polynomial", "rbf"),
    *,
    bandwidth: float | None = None,
    block_rows: int = _BLOCK,
) -> dict[str, npt.NDArray[np.float64]]:
    """Compute kernel distances between many pairs of row subsets, in one pass over the rows.

    Parameters
    ----------
    Z : array, shape (N, d)
        Pooled features.
    first, second : bool array, shape (N, R)
        Members of the two sets of each column; disjoint, at least 2 rows each.
    kernels : sequence of str
        As in :func:`kernel_distance`.
    bandwidth : float, optional
        Of the RBF kernels; by default the median of all of Z, see :func:`median_bandwidth`.
    block_rows : int
        Rows in a block: memory is O(block_rows² + N R) beside a copy of Z.

    Returns
    -------
    dict
        Kernel to float64 array of shape (R,): the full U-statistic (for ``cmmd`` the V-statistic)
        of each column.

    Raises
    ------
    TypeError, ValueError
        If the features or masks are not valid.
    """
    z = features(Z, "Z", min_n=4, dtype=None)
    check_masks(first, second, len(z))
    names = _check_kernels(kernels)
    out: dict[str, npt.NDArray[np.float64]] = {}
    for space in _spaces([z], names, bandwidth):
        quadratic = _Quadratic((first, second), space)
        for kernel, rows, cols, k in _blocks(space, _cuts(0, len(z), block_rows)):
            quadratic.add(kernel, rows, cols, k)
        out |= {kernel: quadratic.values(kernel) for kernel in space.kernels}
    return {kernel: out[kernel] for kernel in names}


def kernel_spread(
    real: Array,
    kernels: Sequence[str] = ("polynomial", "rbf"),
    *,
    bandwidth: float | None = None,
    block_rows: int = _BLOCK,
) -> dict[str, float]:
    """Compute the real data's variance in each kernel's feature space, E k(x,x) - E k(x,x').

    Parameters
    ----------
    real : array, shape (n, d)
        Features.
    kernels : sequence of str
        As in :func:`kernel_distance`.
    bandwidth : float, optional
        Of the RBF kernels; give the one that the distance used.
    block_rows : int
        Rows in a block.

    Returns
    -------
    dict
        Kernel to its spread, in the unit of the squared distance (for ``cmmd`` times 1,000).

    Raises
    ------
    TypeError, ValueError
        If the features are not valid.
    """
    x = features(real, "real", min_n=2, dtype=None)
    names = _check_kernels(kernels)
    out: dict[str, float] = {}
    for space in _spaces([x], names, bandwidth):
        sums = _RowSums(len(x), space)
        for kernel, rows, cols, k in _blocks(space, _cuts(0, len(x), block_rows)):
            sums.add(kernel, rows, cols, k)
        for kernel in space.kernels:
            out[kernel] = _spread(kernel, space, sums.moments(kernel).x)
    return {kernel: out[kernel] for kernel in names}


def _spread(kernel: Kernel, space: _Space, row_sums: npt.NDArray[np.float64]) -> float:
    n = len(row_sums)
    within = float(row_sums.sum()) / (n * (n - 1))
    scale = _CMMD_SCALE if kernel == "cmmd" else 1.0
    return scale * (space.diagonal(kernel, slice(0, n)) - within)
