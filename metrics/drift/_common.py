"""What the tests of single columns share: input checks, the label null, and intervals of distances.

Every measure here is a norm of the difference between two distribution functions or two histograms,
so all of them can share one permutation null and one way to a confidence interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy import sparse, stats

from .._check import groups_of
from .._result import Interval, Scalar
from ..inference import p_value, permutation_masks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from ..inference import Groups

Floats: TypeAlias = "NDArray[np.float64]"
Ints: TypeAlias = "NDArray[np.int64]"
Distance: TypeAlias = Callable[["Floats", "Floats"], "Floats"]
"""Cell probabilities of the real and the synthetic side, each (..., cells), to distances (...)."""
Slopes: TypeAlias = Callable[["Floats", "Floats"], "tuple[Floats, Floats]"]


@dataclass(frozen=True, slots=True)
class Measure:
    """A distance between histograms, and what its interval needs.

    Attributes
    ----------
    distance : callable
        Of two histograms, over the last axis.
    norm : callable
        Size, in the distance's unit, of a small difference of histograms near "no drift".
    slopes : callable
        Derivatives of the distance by each real and each synthetic cell, away from zero.
    upper : float
        The largest value there is.
    """

    distance: Distance
    norm: Callable[[Floats], Floats]
    slopes: Slopes
    upper: float = np.inf


_MASK_CELLS = 4_000_000
"""Rows times permutations that are held at once."""


@dataclass(frozen=True, slots=True)
class DriftTest(Scalar):
    """One two-sample test of one column: ``float(test)`` is the effect size.

    Attributes
    ----------
    value : float
        The effect size: 0 when the two samples have the same empirical distribution. Unlike the
        statistic and the p-value it estimates something that does not depend on n; unlike them it
        has an upward bias of the order 1/sqrt(n), since a distance is never negative.
    name : str
        Name of the test.
    statistic : float
        The test statistic, as the literature and the peers define it.
    p_value : float
        Probability, under exchangeable labels, of a statistic at least as large.
    p_method : str
        How the p-value was made.
    ci : Interval
        Confidence interval of the effect size; reliable at zero too, where a bootstrap is not.
    n_real, n_synthetic : int
        Sample sizes.
    """

    name: str
    statistic: float
    p_value: float
    p_method: str
    ci: Interval
    n_real: int
    n_synthetic: int


def column(x: ArrayLike, name: str, *, min_n: int = 1) -> Floats:
    """Check one numeric column and give it as float64, shape (n,).

    Raises
    ------
    TypeError
        If it is not numeric.
    ValueError
        If it is not one-dimensional, has fewer than ``min_n`` values, or one that is not finite.
    """
    detach = getattr(x, "detach", None)  # a torch tensor, on any device
    values = np.asarray(x if detach is None else detach().cpu().numpy())
    if values.dtype.kind not in "fiu" and values.size:
        raise TypeError(
            f"{name} must be numeric, got dtype {values.dtype}; compare labels or flags with "
            "categorical_drift"
        )
    if values.ndim != 1:
        raise ValueError(f"{name} must be one column of shape (n,), got shape {values.shape}")
    if values.size < min_n:
        raise ValueError(f"{name} needs at least {min_n} value(s), got {values.size}")
    out = values.astype(np.float64)
    bad = ~np.isfinite(out)
    if bad.any():
        raise ValueError(
            f"{name} has {int(bad.sum())} NaN or infinite values (first at "
            f"{np.flatnonzero(bad)[:5].tolist()}); drop them and report how many, or compare the "
            "table with drift_tests, which counts missing values"
        )
    return out


def check_level(level: float) -> None:
    """Refuse a confidence level outside (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")


def pooled_groups(
    groups_real: Groups, groups_synthetic: Groups, n_real: int, n_synthetic: int
) -> Ints | None:
    """Group codes of the pooled rows; one label on both sides is one group.

    Raises
    ------
    ValueError
        If one side has groups and the other has none, or a length is wrong.
    """
    if groups_real is None and groups_synthetic is None:
        return None
    if groups_real is None or groups_synthetic is None:
        side = "groups_real" if groups_real is None else "groups_synthetic"
        raise ValueError(f"{side} is missing: give the groups of both sides, or of neither")
    for groups, n, name in (
        (groups_real, n_real, "groups_real"),
        (groups_synthetic, n_synthetic, "groups_synthetic"),
    ):
        if len(groups) != n:
            raise ValueError(f"{name} must name a group for each of {n} rows, got {len(groups)}")
    both = [str(g) for g in groups_real] + [str(g) for g in groups_synthetic]
    codes = groups_of(both, n_real + n_synthetic, "groups")
    return None if codes is None else codes.astype(np.int64)


def independent_rows(groups: Ints | None) -> bool:
    """Whether no two rows share a group, so that closed-form laws of single rows hold."""
    return groups is None or int(np.bincount(groups).max()) == 1


def _side_counts(cells: Ints, n_cells: int, codes: Ints, n_groups: int) -> Floats:
    flat = np.bincount(codes * n_cells + cells, minlength=n_groups * n_cells)
    return flat.reshape(n_groups, n_cells).astype(np.float64)


def cell_noise(
    real: Ints,
    synthetic: Ints,
    n_cells: int,
    *,
    groups: Ints | None,
    draws: int,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Draw the sampling noise of the two sides' cell probabilities, each (draws, n_cells).

    Gaussian with the multinomial covariance; with groups, each group's total deviation times one
    normal multiplier, which is shared by the two sides where a group has rows on both.
    """
    if groups is None:
        noise = []
        for cells in (real, synthetic):
            p = np.bincount(cells, minlength=n_cells) / cells.size
            z = rng.standard_normal((draws, n_cells)) * np.sqrt(p / cells.size)
            noise.append(z - p * z.sum(axis=1, keepdims=True))
        return noise[0], noise[1]
    n_groups = int(groups.max()) + 1
    multiplier = rng.standard_normal((draws, n_groups))
    noise = []
    for cells, codes in ((real, groups[: real.size]), (synthetic, groups[real.size :])):
        counts = _side_counts(cells, n_cells, codes, n_groups)
        size = counts.sum(axis=1, keepdims=True)
        present = int((size > 0).sum())
        if present < 2:
            raise ValueError("an interval under groups needs at least 2 groups on each side")
        deviation = (counts - size * counts.sum(axis=0) / cells.size) / cells.size
        noise.append(multiplier @ deviation * np.sqrt(present / (present - 1)))
    return noise[0], noise[1]


def influence_sd(real: Floats, synthetic: Floats, groups: Ints | None) -> float:
    """Give the standard error of a difference of means of influence values, one a row."""
    parts = [(v - v.mean()) / v.size for v in (real, synthetic)]
    if groups is None:
        return float(np.sqrt(sum(np.sum(v**2) * v.size / max(v.size - 1, 1) for v in parts)))
    totals = np.bincount(groups, weights=np.concatenate(parts))
    for side in (groups[: real.size], groups[real.size :]):
        if np.unique(side).size < 2:
            raise ValueError("an interval under groups needs at least 2 groups on each side")
    return float(np.sqrt(np.sum(totals**2) * totals.size / (totals.size - 1)))


def distance_interval(
    value: float, noise: Floats, slope_sd: float, level: float, *, upper: float = np.inf
) -> Interval:
    """Interval of a distance, valid at zero, near zero and far from it.

    A distance has a kink at zero, where the bootstrap and the delta method both fail, and zero is
    what good synthetic data has. Two inequalities hold everywhere. The triangle inequality: chance
    adds at most the norm of the noise, which gives the lower end. Convexity: chance takes away no
    more than the slope says, which gives the upper end. Near zero the interval is wider than it
    need be, never narrower; see Fang and Santos, Rev. Econ. Stud. 86 (2019) 377 for why no simple
    bootstrap is right there.
    """
    chance = float(np.quantile(noise, (1 + level) / 2))
    reach = float(stats.norm.ppf((1 + level) / 2)) * slope_sd if value > 0 else chance
    return Interval(
        low=float(np.clip(value - chance, 0.0, upper)),
        high=float(np.clip(value + reach, 0.0, upper)),
        level=level,
        method="noise norm below, slope above",
    )


def cell_interval(
    measure: Measure,
    real: Ints,
    synthetic: Ints,
    n_cells: int,
    *,
    groups: Ints | None,
    level: float,
    seed: int,
    draws: int = 499,
) -> Interval:
    """Confidence interval of a distance between two histograms over the same cells."""
    check_level(level)
    p = np.bincount(real, minlength=n_cells) / real.size
    q = np.bincount(synthetic, minlength=n_cells) / synthetic.size
    noise = cell_noise(
        real, synthetic, n_cells, groups=groups, draws=draws, rng=np.random.default_rng(seed)
    )
    value = float(measure.distance(p, q))
    slope_sd = 0.0
    if value > 0:
        slope_real, slope_synthetic = measure.slopes(p, q)
        slope_sd = influence_sd(slope_real[real], slope_synthetic[synthetic], groups)
    norms = measure.norm(noise[0] - noise[1])
    return distance_interval(value, norms, slope_sd, level, upper=measure.upper)


def null_counts(
    cells: Ints,
    n_cells: int,
    n_real: int,
    permutations: int,
    *,
    groups: Ints | None,
    seed: int,
) -> Iterator[tuple[Floats, Floats]]:
    """Cell counts of the two sides under relabelling, in blocks of shape (block, n_cells).

    Parameters
    ----------
    cells : ndarray, shape (n_real + n_synthetic,)
        The cell of each pooled row, real first.
    """
    if permutations < 1:
        raise ValueError(f"permutations must be at least 1, got {permutations}")
    total = np.bincount(cells, minlength=n_cells)
    block = max(1, min(permutations, _MASK_CELLS // cells.size))
    blocks = [min(block, permutations - start) for start in range(0, permutations, block)]
    seeds = np.random.SeedSequence(seed).generate_state(len(blocks))
    # Without groups the counts themselves have a known law: cheaper when the cells are few.
    if groups is None and n_cells <= cells.size // 8:
        rng = np.random.default_rng(seed)
        for size in blocks:
            first = rng.multivariate_hypergeometric(total, n_real, size=size, method="marginals")
            yield first.astype(np.float64), (total - first).astype(np.float64)
        return
    # One unit for each group and side: what moves together is counted once, then moved.
    side = (np.arange(cells.size) >= n_real).astype(np.int64)
    label = np.arange(cells.size) if groups is None else groups
    units, unit = np.unique(2 * label + side, return_inverse=True)
    order = np.lexsort((units, units % 2))  # real units first
    row = np.argsort(order)[unit]
    contents = sparse.csr_array(
        (np.ones(cells.size, dtype=np.float32), (cells, row)), shape=(n_cells, units.size)
    )
    units_real = int((units % 2 == 0).sum())
    unit_groups = None if groups is None else units[order] // 2
    for size, block_seed in zip(blocks, seeds.tolist(), strict=True):
        masks, _ = permutation_masks(
            units_real, units.size - units_real, size, groups=unit_groups, seed=block_seed
        )
        counts = (contents @ masks.astype(np.float32)).T.astype(np.float64)
        yield counts, total - counts


def permutation_p_value(
    measure: Measure, observed: float, null: Iterator[tuple[Floats, Floats]]
) -> float:
    """Give the p-value of a distance, from the cell counts under relabelling."""
    values = [
        measure.distance(
            first / first.sum(axis=1, keepdims=True), second / second.sum(axis=1, keepdims=True)
        )
        for first, second in null
    ]
    return p_value(observed, np.concatenate(values), tie=1e-10 * observed)
