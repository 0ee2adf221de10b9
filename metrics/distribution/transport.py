"""Optimal transport between two sets of features: sliced, max-sliced and entropic."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from scipy.special import stdtrit

from .._check import Array, pair
from .._result import Interval, Scalar
from ..inference import (
    delete_half_se,
    half_sample_interval,
    p_value,
    permutation_masks,
    subsample_masks,
)

if TYPE_CHECKING:
    from ..inference import Groups

Power = Literal[1, 2]

_BLOCK_VALUES = 8_000_000
"""Projected values that are held at once."""
_HALVES = 30
"""Half-samples behind an interval."""
_FLOORS = 5
"""Of these, how many also show the bias of a Sinkhorn divergence."""


@dataclass(frozen=True, slots=True)
class SlicedResult(Scalar):
    """A sliced Wasserstein distance: ``float(result)`` gives it.

    Attributes
    ----------
    value : float
        In the features' unit; 0 is best.
    p : int
        Order of the distance.
    directions : int
        Number of directions.
    direction_error : float or None
        Standard error of ``value`` from the choice of directions alone, over the orthogonal bases
        drawn; None with fewer than 2 bases. Choose ``directions`` so that it does not matter.
    p_value : float or None
        Permutation p-value, where permutations were asked for.
    ci : Interval or None
        Confidence interval of the populations' distance along these directions, where asked for.
        The value itself, biased upward, may lie above it.
    """

    p: int
    directions: int
    direction_error: float | None
    p_value: float | None
    ci: Interval | None = None


@dataclass(frozen=True, slots=True)
class MaxSlicedResult(Scalar):
    """The direction that separates the two sides most: ``float(result)`` gives its distance.

    Attributes
    ----------
    value : float
        Distance along the direction on the *held-out* half; 0 is best.
    searched : float
        The same on the half where it was sought: biased upward, since it is a maximum.
    direction : ndarray, shape (d,)
        Unit vector. Samples at the ends of it show what differs.
    p_value : float or None
        Permutation p-value on the held-out half, where permutations were asked for.
    ci : Interval or None
        Confidence interval of the populations' distance along ``direction``, where asked for: by
        half-samples of the held-out half.
    """

    searched: float
    direction: np.ndarray
    p_value: float | None
    ci: Interval | None = None


@dataclass(frozen=True, slots=True)
class SinkhornResult(Scalar):
    """A debiased Sinkhorn divergence: ``float(result)`` gives it.

    Attributes
    ----------
    value : float
        In the squared unit of the features; 0 is best.
    distance : float
        sqrt(2 value): in the features' unit, comparable with a Wasserstein-2 distance.
    blur : float
        The length under which nothing is resolved, in the features' unit.
    used_real, used_synthetic : int
        Rows that were used: fewer than given where ``max_samples`` cut them, at random.
    n_real, n_synthetic : int
        Rows that were given.
    ci : Interval or None
        Confidence interval of the populations' divergence at this blur, where asked for. The value
        itself, biased upward, may lie above it.
    """

    distance: float
    blur: float
    used_real: int
    used_synthetic: int
    n_real: int
    n_synthetic: int
    ci: Interval | None = None


def sliced_wasserstein(
    real: Array,
    synthetic: Array,
    *,
    p: Power = 2,
    directions: int = 512,
    permutations: int = 0,
    ci: bool = False,
    level: float = 0.95,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    seed: int = 0,
) -> SlicedResult:
    """Average the one-dimensional Wasserstein distance over orthogonal random directions.

    Parameters
    ----------
    real, synthetic : array, shape (n, d)
        Features; numpy or torch, same d. Sizes may differ: each one-dimensional distance is exact.
    p : {1, 2}
        Order: the mean over directions is of W_p^p, then the root is taken.
    directions : int
        Number of directions, drawn as Haar-random orthogonal bases, which has less variance than
        independent directions. A multiple of d makes the distance of a mere shift exact:
        ``|shift| / sqrt(d)`` at p = 2.
    permutations : int
        Relabellings for a p-value; 0 for none.
    ci : bool
        Whether to add an interval, from half-samples of both sides that reuse the sorted
        projections. Needs 4 rows (or groups) a side.
    level : float
        Nominal coverage of the interval.
    groups_real, groups_synthetic : sequence, optional
        Group of each row, to be relabelled and drawn whole.
    seed : int
        Seed of the directions, the relabellings and the half-samples.

    Returns
    -------
    SlicedResult
        Best 0, unbounded. By itself it is biased upward by about n^(-1/2), and shrinks with d as
        1/sqrt(d): compare only at equal n, d and features. It sees the joint distribution through
        one-dimensional shadows: rare and strongly non-linear differences come out small.

    Raises
    ------
    ValueError
        If the inputs do not fit each other, are not finite, or a setting is out of range.

    References
    ----------
    Bonneel et al., J. Math. Imaging Vis. 51 (2015) 22. Rowland et al., AISTATS 2019 (orthogonal
    directions).
    """
    x, y = pair(real, synthetic)
    _check_power(p)
    if permutations < 0:
        raise ValueError(f"permutations must be 0 or more, got {permutations}")
    m, n, d = x.shape[0], y.shape[0], x.shape[1]
    axes = orthogonal_directions(d, directions, seed=seed).to(x)
    masks = (
        _relabellings(m, n, permutations, groups_real, groups_synthetic, seed)
        if permutations
        else np.zeros((m + n, 0), dtype=bool)
    )
    halves = _halves(m, n, groups_real, groups_synthetic, seed) if ci else None
    pooled = torch.cat([x, y])
    costs, null, half = [], np.zeros(permutations), np.zeros(_HALVES if ci else 0)
    for part in torch.split(axes.T, max(1, _BLOCK_VALUES // (m + n))):
        shadow, order = torch.sort(part @ pooled.T, dim=1)
        costs.append(_line_cost(*_split(shadow, order < m), p))
        for b in range(permutations):
            first = torch.from_numpy(masks[:, b]).to(order.device)[order]
            null[b] += float(_line_cost(*_split(shadow, first), p).sum())
        if halves is not None:
            half += _half_costs(shadow, order, halves, p).sum(axis=1) / directions
    cost = torch.cat(costs)
    mean = float(cost.mean())
    bases = [float(c.mean()) for c in torch.split(cost, d) if c.numel() == d]
    error = None
    if len(bases) > 1:
        error = float(np.std(bases, ddof=1)) / len(bases) ** 0.5
        # From the mean power to its root.
        error = error * mean ** (1 / p - 1) / p if mean > 0 else 0.0
    return SlicedResult(
        value=mean ** (1 / p),
        p=p,
        directions=directions,
        direction_error=error,
        p_value=p_value(mean, null / directions, tie=1e-10 * mean) if permutations else None,
        ci=_interval(mean, half, p, level) if ci else None,
    )


def max_sliced_wasserstein(
    real: Array,
    synthetic: Array,
    *,
    p: Power = 2,
    directions: int = 128,
    steps: int = 50,
    permutations: int = 0,
    ci: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> MaxSlicedResult:
    """Seek the direction along which the two sides differ most, and measure it on held-out rows.

    The search uses a random half of each side: random directions, the difference of the means, then
    ascent from the best of them. The value and p-value come from the other half, so that they mean
    something.

    Parameters
    ----------
    real, synthetic : array, shape (n, d)
        Features; at least 4 rows a side.
    p : {1, 2}
        Order of the distance that is reported; the search is for order 2.
    directions : int
        Random directions to start from.
    steps : int
        Most ascent steps.
    permutations : int
        Relabellings for a p-value on the held-out half; 0 for none.
    ci : bool
        Whether to add an interval for the direction that was found. Needs 8 rows a side.
    level : float
        Nominal coverage of the interval.
    seed : int
        Seed of the halves, directions and relabellings.

    Returns
    -------
    MaxSlicedResult
        Best 0, unbounded. A local maximum: another seed may find another direction.

    Raises
    ------
    ValueError
        As :func:`sliced_wasserstein`.

    References
    ----------
    Deshpande et al., CVPR 2019, arXiv:1904.05877.
    """
    x, y = pair(real, synthetic, min_n=4)
    _check_power(p)
    if steps < 0 or permutations < 0:
        raise ValueError(f"steps and permutations must be 0 or more, got {steps}, {permutations}")
    rng = np.random.default_rng(seed)
    halves = []
    for side in (x, y):
        order = torch.from_numpy(rng.permutation(side.shape[0])).to(side.device)
        halves.append((side[order[: len(order) // 2]], side[order[len(order) // 2 :]]))
    (x_seek, x_held), (y_seek, y_held) = halves
    starts = orthogonal_directions(x.shape[1], directions, seed=seed).to(x)
    gap = y_seek.mean(dim=0) - x_seek.mean(dim=0)
    if float(gap.norm()) > 0:
        starts = torch.cat([starts, (gap / gap.norm())[:, None]], dim=1)
    axis = _ascend(x_seek, y_seek, starts, steps)
    along_real, along_synthetic = (x_held @ axis)[:, None], (y_held @ axis)[:, None]
    held = _along(along_real, along_synthetic, p)
    m, n = along_real.shape[0], along_synthetic.shape[0]
    shadow, order = torch.sort(torch.cat([along_real, along_synthetic]).T, dim=1)
    chance, interval = None, None
    if permutations:
        masks = _relabellings(m, n, permutations, None, None, seed)
        null = [
            float(
                _line_cost(
                    *_split(shadow, torch.from_numpy(masks[:, b]).to(order.device)[order]), p
                )
            )
            for b in range(permutations)
        ]
        chance = p_value(held**p, null, tie=1e-10 * held**p)
    if ci:
        half = _half_costs(shadow, order, _halves(m, n, None, None, seed), p)[:, 0]
        interval = _interval(held**p, half, p, level)
    return MaxSlicedResult(
        value=held,
        searched=_along((x_seek @ axis)[:, None], (y_seek @ axis)[:, None], p),
        direction=axis.cpu().numpy(),
        p_value=chance,
        ci=interval,
    )


def sinkhorn_divergence(
    real: Array,
    synthetic: Array,
    *,
    blur: float | None = None,
    max_samples: int = 2000,
    max_iter: int = 5000,
    tolerance: float = 1e-3,
    ci: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> SinkhornResult:
    """Entropic optimal transport with cost |x - y|²/2, without its bias, by POT.

    OT(real, synthetic) - OT(real, real)/2 - OT(synthetic, synthetic)/2, each with entropy weight
    blur². It goes from half the squared Wasserstein-2 distance (no blur) to half the squared
    distance of the means (much blur), and is exactly half the squared length of a mere shift.

    Parameters
    ----------
    real, synthetic : array, shape (n, d)
        Features.
    blur : float, optional
        Length scale of the smoothing; by default a fifth of the root mean square distance between
        pooled rows. A smaller one resolves more, and needs more iterations and samples.
    max_samples : int
        Rows a side that are used, drawn at random: the cost is quadratic. The result states how
        many.
    max_iter : int
        Most iterations of each of the three problems.
    tolerance : float
        Largest error of the marginals, in total variation; that of the value is of the order of
        its square times blur².
    ci : bool
        Whether to add an interval: the delete-half jackknife's, with the divergence between halves
        of the same side taken off its lower end, from 30 half-samples of the rows that are used.
        About ten times the work. Needs 4 such rows a side.
    level : float
        Nominal coverage of the interval.
    seed : int
        Seed of the subsample and the half-samples.

    Returns
    -------
    SinkhornResult
        Best 0, unbounded; a difference finer than ``blur`` is not seen. Compare only at equal blur
        and sizes.

    Raises
    ------
    ValueError
        If the inputs do not fit each other, are not finite, or a setting is out of range.
    RuntimeError
        If the iteration does not converge: nothing is reported that is not the optimum.

    References
    ----------
    Feydy et al., AISTATS 2019, arXiv:1810.08278. Genevay et al., AISTATS 2018, arXiv:1706.00292.
    """
    x, y = pair(real, synthetic)
    if max_samples < 1 or max_iter < 1 or not tolerance > 0:
        raise ValueError(
            "max_samples, max_iter and tolerance must be positive, got "
            f"{max_samples}, {max_iter}, {tolerance}"
        )
    if blur is not None and not blur > 0:
        raise ValueError(f"blur must be positive, got {blur}")
    rng = np.random.default_rng(seed)
    used = []
    for side in (x, y):
        rows = side
        if side.shape[0] > max_samples:
            picked = np.sort(rng.permutation(side.shape[0])[:max_samples])
            rows = side[torch.from_numpy(picked).to(side.device)]
        used.append(rows)
    pooled = torch.cat(used)
    centre = pooled.mean(dim=0)
    if blur is None:
        # The mean squared distance of two independent rows is twice the total variance.
        spread = float(((pooled - centre) ** 2).sum(dim=1).mean()) * 2
        blur = 0.2 * spread**0.5 if spread > 0 else 1.0
    a, b = (side - centre for side in used)
    weight = blur**2

    def divergence(a: torch.Tensor, b: torch.Tensor) -> float:
        own = [_self_cost(side, weight, max_iter=max_iter, tolerance=tolerance) for side in (a, b)]
        cross = _entropic_cost(a, b, weight, max_iter=max_iter, tolerance=tolerance)
        # Never negative but for the tolerance of the iteration.
        return max(cross - sum(own) / 2, 0.0)

    value = divergence(a, b)
    interval = None
    if ci:
        masks = (torch.from_numpy(m) for m in _halves(len(a), len(b), None, None, seed))
        first, second = (m.to(a.device).T for m in masks)
        halves = [divergence(a[i], b[j]) for i, j in zip(first, second, strict=True)]
        # Of the populations with themselves it is 0: two halves of one side show the bias alone.
        # It falls with n, more slowly than 1/n in many dimensions, so at half the size it is an
        # upper bound.
        bias = [
            (divergence(a[i], a[~i]) + divergence(b[j], b[~j])) / 2
            for i, j in zip(first[:_FLOORS], second[:_FLOORS], strict=True)
        ]
        reach = float(stdtrit(_HALVES - 1, (1 + level) / 2)) * delete_half_se(halves, 1, 2)
        interval = Interval(
            max(0.0, value - float(np.mean(bias)) - reach), value + reach, level,
            "delete-half, floor below",
        )  # fmt: skip
    return SinkhornResult(
        value=value,
        distance=(2 * value) ** 0.5,
        blur=blur,
        used_real=a.shape[0],
        used_synthetic=b.shape[0],
        n_real=x.shape[0],
        n_synthetic=y.shape[0],
        ci=interval,
    )


def orthogonal_directions(d: int, directions: int, *, seed: int = 0) -> torch.Tensor:
    """Draw unit vectors as Haar-random orthogonal bases.

    Returns
    -------
    tensor, shape (d, directions), float64
        Consecutive blocks of d columns are orthonormal; a last shorter block as well.

    Raises
    ------
    ValueError
        If ``d`` or ``directions`` is not positive.
    """
    if d < 1 or directions < 1:
        raise ValueError(f"d and directions must be at least 1, got {d} and {directions}")
    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, directions, d):
        wide = min(d, directions - start)
        q, r = np.linalg.qr(rng.standard_normal((d, wide)))
        # QR picks signs; undo that choice, or the bases are not uniform.
        blocks.append(q * np.where(np.diag(r) < 0, -1.0, 1.0))
    return torch.from_numpy(np.concatenate(blocks, axis=1))


def _check_power(p: int) -> None:
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}")


def _relabellings(
    m: int, n: int, permutations: int, groups_real: Groups, groups_synthetic: Groups, seed: int
) -> np.ndarray:
    if (groups_real is None) != (groups_synthetic is None):
        raise ValueError("give the groups of both sides, or of neither")
    groups = None
    if groups_real is not None and groups_synthetic is not None:
        for name, g, size in (("real", groups_real, m), ("synthetic", groups_synthetic, n)):
            if len(g) != size:
                raise ValueError(f"groups_{name} must have {size} entries, got {len(g)}")
        groups = [*groups_real, *groups_synthetic]
    first, _ = permutation_masks(m, n, permutations, groups=groups, seed=seed)
    return first


def _halves(
    m: int, n: int, groups_real: Groups, groups_synthetic: Groups, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw halves of the two sides' rows: bool, (m, _HALVES) and (n, _HALVES)."""
    if min(m, n) < 4:
        raise ValueError(f"an interval needs at least 4 rows on each side, got {m} and {n}")
    return (
        subsample_masks(m, m // 2, _HALVES, groups=groups_real, seed=seed),
        subsample_masks(n, n // 2, _HALVES, groups=groups_synthetic, seed=seed + 1),
    )


def _half_costs(
    shadow: torch.Tensor, order: torch.Tensor, halves: tuple[np.ndarray, np.ndarray], p: int
) -> np.ndarray:
    """W_p^p along each line between halves of both sides, (_HALVES, lines)."""
    first, second = halves
    lines = shadow.shape[0]
    none = [np.zeros_like(mask) for mask in halves]
    sides = (np.concatenate([first, none[1]]), np.concatenate([none[0], second]))
    costs = np.empty((_HALVES, lines))
    for r in range(_HALVES):
        x, y = (
            shadow[torch.from_numpy(mask[:, r]).to(order.device)[order]].reshape(lines, -1)
            for mask in sides
        )
        costs[r] = _line_cost(x, y, p).cpu().numpy()
    return costs


def _interval(cost: float, halves: np.ndarray, p: int, level: float) -> Interval:
    """Interval of the distance itself: its square is what has a bias in 1/n near zero."""
    found = half_sample_interval(cost ** (2 / p), halves ** (2 / p), level)
    return Interval(math.sqrt(found.low), math.sqrt(found.high), level, found.method)


def _split(shadow: torch.Tensor, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the two sides out of sorted rows (L, N): each stays sorted."""
    lines = shadow.shape[0]
    return shadow[first].reshape(lines, -1), shadow[~first].reshape(lines, -1)


@lru_cache(maxsize=8)
def _couplings(m: int, n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pair the steps of two quantile functions: indices into each side, and each pair's mass."""
    # Borders in units of 1/(m n): whole numbers, so that no step is lost to rounding.
    borders = np.unique(np.concatenate([np.arange(m + 1) * n, np.arange(n + 1) * m]))
    mass = np.diff(borders) / (m * n)
    at = borders[:-1]
    return torch.from_numpy(at // n), torch.from_numpy(at // m), torch.from_numpy(mass)


def _line_cost(x: torch.Tensor, y: torch.Tensor, p: int) -> torch.Tensor:
    """W_p^p of sorted rows (L, m) and (L, n), exact at any sizes."""
    m, n = x.shape[1], y.shape[1]
    if m == n:
        return ((x - y).abs() ** p).mean(dim=1)
    i, j, mass = (t.to(x.device) for t in _couplings(m, n))
    return (x[:, i] - y[:, j]).abs() ** p @ mass.to(x.dtype)


def _along(x: torch.Tensor, y: torch.Tensor, p: int) -> float:
    cost = _line_cost(x.T.sort(dim=1).values, y.T.sort(dim=1).values, p)
    return float(float(cost) ** (1 / p))


def _ascend(x: torch.Tensor, y: torch.Tensor, starts: torch.Tensor, steps: int) -> torch.Tensor:
    """Climb W_2² from the best start, keeping only steps that gain."""
    costs = _line_cost((x @ starts).T.sort(dim=1).values, (y @ starts).T.sort(dim=1).values, 2)
    best = int(costs.argmax())
    axis, cost = starts[:, best], float(costs[best])
    i, j, mass = (t.to(x.device) for t in _couplings(x.shape[0], y.shape[0]))
    for _ in range(steps):
        moved = x[(x @ axis).argsort()][i] - y[(y @ axis).argsort()][j]
        uphill = moved.T @ (mass.to(x.dtype) * (moved @ axis))
        for shrink in (1.0, 0.3, 0.1, 0.03):
            trial = axis + shrink * (uphill / uphill.norm().clamp_min(1e-300) - axis)
            trial = trial / trial.norm()
            gained = _along((x @ trial)[:, None], (y @ trial)[:, None], 2) ** 2
            if gained > cost * (1 + 1e-9):
                axis, cost = trial, gained
                break
        else:
            break
    return axis


def _half_squared_distances(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    # Not by way of a matrix product, which loses the digits of close pairs.
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist") ** 2 / 2


def _no_convergence(max_iter: int, weight: float) -> RuntimeError:
    return RuntimeError(
        f"Sinkhorn did not converge in {max_iter} iterations at blur {weight**0.5:g}: raise blur "
        "or max_iter, or loosen tolerance"
    )


def _entropic_cost(
    x: torch.Tensor, y: torch.Tensor, weight: float, *, max_iter: int, tolerance: float
) -> float:
    """Dual value of entropic transport between two uniform samples, by POT."""
    from ot.bregman import sinkhorn_log

    cost = _half_squared_distances(x, y)
    m, n = cost.shape
    a, b = cost.new_full((m,), 1 / m), cost.new_full((n,), 1 / n)
    # POT looks at the Euclidean error of a marginal; this bounds its total variation.
    stop = 2 * tolerance / n**0.5
    _, log = sinkhorn_log(
        a, b, cost, weight, numItermax=max_iter, stopThr=stop, log=True, warn=False
    )
    if not log["err"] or not float(log["err"][-1]) <= stop:
        raise _no_convergence(max_iter, weight)
    # Potentials against the product measure: the entropy of a plan a x b is zero.
    f, g = log["log_u"] - a.log(), log["log_v"] - b.log()
    return weight * float(a @ f + b @ g)


def _self_cost(x: torch.Tensor, weight: float, *, max_iter: int, tolerance: float) -> float:
    """Evaluate the same between a sample and itself: one potential, averaged steps, far fewer."""
    scaled = _half_squared_distances(x, x) / weight
    n = len(x)
    f = scaled.new_zeros(n)
    for _ in range(max_iter):
        step = np.log(n) - torch.logsumexp(f - scaled, dim=1)
        # A step of t changes each row's mass by the factor exp(t).
        error = float((step - f).abs().max())
        f = (f + step) / 2
        if error <= tolerance:
            return 2 * weight * float(f.mean())
    raise _no_convergence(max_iter, weight)
