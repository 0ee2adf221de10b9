"""Mean opinion scores with an interval over raters *and* items, and how many votes they need."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri, stdtrit

from .._result import Interval, Scalar

Ratings = npt.NDArray[np.floating]
"""``(raters, items)``; NaN where a rater did not rate an item."""

_MOST = 1_000_000
"""Items that no study will ever have: a plan that asks for more cannot be kept."""


@dataclass(frozen=True, slots=True)
class Components:
    """Where the spread of votes comes from, as variances.

    Attributes
    ----------
    rater : float
        Between raters: some are stricter than others.
    item : float
        Between items: some are better than others.
    residual : float
        What is left: taste, and chance within a rater.
    """

    rater: float
    item: float
    residual: float


@dataclass(frozen=True, slots=True)
class MeanOpinion(Scalar):
    """Result of :func:`mean_opinion_score`; ``float()`` gives the mean.

    Attributes
    ----------
    value : float
        Mean of all votes, in the scale's own unit.
    standard_error : float
    interval : Interval
    components : Components or None
        None where no item has two votes: items and chance cannot be told apart.
    raters, items, votes : int
    """

    standard_error: float
    interval: Interval
    components: Components | None
    raters: int
    items: int
    votes: int


@dataclass(frozen=True, slots=True)
class OpinionDifference(Scalar):
    """Result of :func:`opinion_difference`; ``float()`` gives the difference.

    Attributes
    ----------
    value : float
        Mean of the first less mean of the second, over the raters of both.
    standard_error : float
    interval : Interval
    raters : int
    """

    standard_error: float
    interval: Interval
    raters: int


def check_ratings(ratings: Ratings, name: str = "ratings") -> npt.NDArray[np.float64]:
    """Check a table of votes; rows and columns with no vote at all are left out.

    Raises
    ------
    ValueError
        If it is not 2-d, holds infinity, or no vote.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"{name} must have shape (raters, items), got {table.shape}")
    if np.isinf(table).any():
        raise ValueError(f"{name} holds infinite votes; write a missing one as NaN")
    there = ~np.isnan(table)
    if not there.any():
        raise ValueError(f"{name} holds no vote")
    return table[np.ix_(there.any(axis=1), there.any(axis=0))]


def variance_components(ratings: Ratings) -> Components:
    """Estimate how much raters, items and the rest add to the variance of one vote.

    Method of moments for crossed random effects, which needs no complete table: the sums of
    squares within raters, within items and in all are set to what they are expected to be
    (Gao & Owen 2017). Negative estimates are set to 0. Complete tables give the classical
    estimates of the two-way analysis of variance.

    Parameters
    ----------
    ratings : ndarray, shape (raters, items)
        NaN where there is no vote.

    Returns
    -------
    Components

    Raises
    ------
    ValueError
        If there are fewer than two raters or items, or no item has two votes, or no rater.

    References
    ----------
    Gao & Owen 2017, Efficient moment calculations for variance components in large unbalanced
    crossed random effects models. Searle, Casella & McCulloch 1992, Variance Components.
    """
    y = check_ratings(ratings)
    there = ~np.isnan(y)
    by_rater, by_item = there.sum(axis=1), there.sum(axis=0)
    n, raters, items = int(there.sum()), *y.shape
    if raters < 2 or items < 2:
        raise ValueError(f"needs at least 2 raters and 2 items, got {raters} and {items}")
    if n in (items, raters):
        raise ValueError(
            "no item has two votes, or no rater gave two: what comes from items and what from "
            "chance cannot be told apart"
        )
    filled = np.where(there, y, 0.0)
    within_rater = _within(filled, there, by_rater, axis=1) / (n - raters)
    within_item = _within(filled, there, by_item, axis=0) / (n - items)
    total = float((np.where(there, y - filled.sum() / n, 0.0) ** 2).sum())
    k_rater = n - float((by_rater**2).sum()) / n
    k_item = n - float((by_item**2).sum()) / n
    divisor = n - 1 - k_rater - k_item
    if abs(divisor) < 1e-9:
        raise ValueError("the votes do not cross: no two raters rated the same two items")
    residual = (total - within_item * k_rater - within_rater * k_item) / divisor
    residual = max(residual, 0.0)
    return Components(
        rater=max(within_item - residual, 0.0),
        item=max(within_rater - residual, 0.0),
        residual=residual,
    )


def _within(
    filled: npt.NDArray[np.float64],
    there: npt.NDArray[np.bool_],
    counts: npt.NDArray[np.int_],
    axis: int,
) -> float:
    means = np.expand_dims(filled.sum(axis=axis) / counts, axis)
    return float((np.where(there, filled - means, 0.0) ** 2).sum())


def mean_opinion_score(ratings: Ratings, *, level: float = 0.95) -> MeanOpinion:
    """Mean of votes, with an interval that holds for other raters and other items.

    The usual interval, the standard deviation over the root of the number of votes, takes each
    vote for a new one. It is far too narrow: the same few people voted on the same few items. Here
    raters and items are crossed random effects. The variance of the mean is
    ``rater·Σ(n_r/N)² + item·Σ(n_i/N)² + residual/N``, with the components of
    :func:`variance_components` and Student's t with Satterthwaite's degrees of freedom.

    Where each item has one vote, items and chance are one component, and raters are compared by a
    one-way analysis of variance: the interval is as valid, but there are no components to plan by.

    Parameters
    ----------
    ratings : ndarray, shape (raters, items)
        Votes on any numeric scale, as 1 to 5, or 0 and 1 for a share; NaN where there is none.
    level : float
        Nominal coverage.

    Returns
    -------
    MeanOpinion
        In the scale's unit. It does not see what the scale does not ask, nor whether raters were
        attentive (:func:`screen_raters`). Where all votes are equal the interval has no width:
        then only more votes say more.

    Raises
    ------
    ValueError
        If there are fewer than two raters, fewer than two items, or no votes.

    References
    ----------
    ITU-T P.800.1; Satterthwaite 1946; Gao & Owen 2017. Wester, Valentini-Botinhao & Henter 2015,
    Are we using enough listeners? No!
    """
    _check_level(level)
    y = check_ratings(ratings)
    there = ~np.isnan(y)
    n, raters, items = int(there.sum()), *y.shape
    if raters < 2 or items < 2:
        raise ValueError(
            f"an interval needs at least 2 raters and 2 items, got {raters} and {items}: one of "
            "them says nothing of how others would differ"
        )
    mean = float(np.nansum(y) / n)
    share_rater = float(((there.sum(axis=1) / n) ** 2).sum())
    share_item = float(((there.sum(axis=0) / n) ** 2).sum())
    components: Components | None = None
    if n > items and n > raters:
        components = variance_components(y)
        rater, item, rest = components.rater, components.item, components.residual
        left = max(n - raters - items + 1, 1)
        name = "crossed random effects, Satterthwaite t"
    elif n > raters:
        rater, rest = _one_way(y, there)
        item, left = 0.0, n - raters
        name = "raters as random effects, Satterthwaite t"
    else:
        raise ValueError("each rater gave one vote only: raters and items cannot be told apart")
    # Mean squares of a table as full as this one: their sum, less one residual, is n times the
    # variance; each has its own degrees of freedom.
    of_rater = n * share_rater * rater + rest
    of_item = n * share_item * item + rest if item or components else 0.0
    variance = (of_rater + of_item - (rest if of_item else 0.0)) / n
    pieces = of_rater**2 / max(1 / share_rater - 1, 1)
    pieces += of_item**2 / max(1 / share_item - 1, 1)
    pieces += (rest if of_item else 0.0) ** 2 / left
    df = (n * variance) ** 2 / pieces if pieces > 0 else 1.0
    error = math.sqrt(max(variance, 0.0))
    half = float(stdtrit(max(df, 1.0), 0.5 + level / 2)) * error
    return MeanOpinion(
        value=mean,
        standard_error=error,
        interval=Interval(mean - half, mean + half, level, name),
        components=components,
        raters=raters,
        items=items,
        votes=n,
    )


def _one_way(y: npt.NDArray[np.float64], there: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Give the variances between and within raters where no item repeats."""
    counts, n, raters = there.sum(axis=1), int(there.sum()), y.shape[0]
    filled = np.where(there, y, 0.0)
    within = _within(filled, there, counts, axis=1) / (n - raters)
    means = filled.sum(axis=1) / counts
    between = float((counts * (means - filled.sum() / n) ** 2).sum()) / (raters - 1)
    size = (n - float((counts**2).sum()) / n) / (raters - 1)
    return max((between - within) / size, 0.0), within


def opinion_difference(
    first: Ratings, second: Ratings, *, level: float = 0.95
) -> OpinionDifference:
    """Difference of two mean opinion scores by the same raters, with an interval.

    Each rater is compared with himself, so that how strict he is cancels. The items of the two
    sides are other ones, and their variance is added. Where raters voted on different items the
    items are counted in part twice: the interval is then too wide, never too narrow.

    Parameters
    ----------
    first, second : ndarray, shape (raters, items)
        Row r of both is the same rater. NaN where there is no vote; a rater who voted on one side
        only is left out.
    level : float
        Nominal coverage.

    Returns
    -------
    OpinionDifference
        Above 0 where the first is rated higher.

    Raises
    ------
    ValueError
        If the rows do not match, or fewer than two raters voted on both sides.

    References
    ----------
    Satterthwaite 1946, An approximate distribution of estimates of variance components.
    """
    _check_level(level)
    sides = [np.asarray(side, dtype=np.float64) for side in (first, second)]
    if any(side.ndim != 2 for side in sides) or len(sides[0]) != len(sides[1]):
        raise ValueError(
            "both sides must have shape (raters, items) with the same raters, got "
            f"{sides[0].shape} and {sides[1].shape}"
        )
    both = ~np.isnan(sides[0]).all(axis=1) & ~np.isnan(sides[1]).all(axis=1)
    raters = int(both.sum())
    if raters < 2:
        raise ValueError(f"{raters} raters voted on both sides; at least 2 are needed")
    tables = [check_ratings(side[both], "a side") for side in sides]
    own = np.nanmean(tables[0], axis=1) - np.nanmean(tables[1], axis=1)
    pieces = [(float(own.var(ddof=1)) / raters, float(raters - 1))]
    for table in tables:
        there = ~np.isnan(table)
        n, items = int(there.sum()), table.shape[1]
        if items < 2:
            raise ValueError("each side needs at least 2 items")
        if n > items:
            share = float(((there.sum(axis=0) / n) ** 2).sum())
            pieces.append((variance_components(table).item * share, max(1 / share - 1, 1)))
    variance = sum(v for v, _ in pieces)
    spread = sum(v**2 / df for v, df in pieces)
    df = variance**2 / spread if spread > 0 else 1.0
    error, value = math.sqrt(variance), float(own.mean())
    half = float(stdtrit(max(df, 1.0), 0.5 + level / 2)) * error
    return OpinionDifference(
        value=value,
        standard_error=error,
        interval=Interval(
            value - half, value + half, level, "within raters, items random, Satterthwaite t"
        ),
        raters=raters,
    )


def items_for_precision(
    half_width: float,
    *,
    raters: int,
    components: Components,
    level: float = 0.95,
) -> int:
    """Count the items that give a mean opinion score of a stated precision.

    Parameters
    ----------
    half_width : float
        Half the width that the interval is to have, in the scale's unit.
    raters : int
        How many people will rate all items.
    components : Components
        From a pilot (:func:`variance_components`), or an assumption.
    level : float
        Nominal coverage.

    Returns
    -------
    int
        Items for each set; at least 2. It is planned with the normal quantile: with few raters
        Student's t is wider, so plan for more than a handful.

    Raises
    ------
    ValueError
        If so few raters can never reach the precision: more items do not make raters alike.

    References
    ----------
    ITU-T P.800.1. Wester, Valentini-Botinhao & Henter 2015.
    """
    _check_level(level)
    if not half_width > 0 or not math.isfinite(half_width):
        raise ValueError(f"half_width must be positive and finite, got {half_width}")
    if raters < 2:
        raise ValueError(f"at least 2 raters are needed, got {raters}")
    allowed = (half_width / float(ndtri(0.5 + level / 2))) ** 2
    left = allowed - components.rater / raters
    needed = components.item + components.residual / raters
    if left <= 0 or needed / left > _MOST:
        fewest = math.floor(components.rater / allowed) + 1
        raise ValueError(
            f"{raters} raters can never give ±{half_width:g}: they differ among themselves by a "
            f"standard deviation of {math.sqrt(components.rater):.2g}; ask at least "
            f"{max(fewest, raters + 1)} raters, or for less precision"
        )
    return max(math.ceil(needed / left), 2)


def _check_level(level: float) -> None:
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
