"""Whether an automatic metric goes with what people say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from .._result import Interval, Scalar

Kind: TypeAlias = Literal["spearman", "kendall"]

FEWEST = 5
"""With fewer items any order is likely by chance alone."""


@dataclass(frozen=True, slots=True)
class RankCorrelation(Scalar):
    """Result of :func:`rank_correlation`; ``float()`` gives the correlation.

    Attributes
    ----------
    value : float
    interval : Interval
    n : int
    """

    interval: Interval
    n: int


def rank_correlation(
    metric: npt.ArrayLike,
    opinion: npt.ArrayLike,
    kind: Kind = "spearman",
    *,
    level: float = 0.95,
    replicates: int = 2000,
    seed: int = 0,
) -> RankCorrelation:
    """Rank correlation of a metric with people's mean vote, over items or sets.

    Parameters
    ----------
    metric, opinion : array, shape (n,)
        One value each for the same item or set; finite.
    kind : {"spearman", "kendall"}
        Spearman's rho, or Kendall's tau-b.
    level : float
        Nominal coverage.
    replicates : int
        Resamples of the pairs.
    seed : int

    Returns
    -------
    RankCorrelation
        −1 to 1; the sign is that of the metric as it is, so that a distance that people agree with
        is negative. The interval takes the n items for a sample of others like them, by percentiles
        of the bootstrap; it holds for these raters. Noise in the votes brings the
        correlation towards 0. It does not see a relation that is no order, as a U.

    Raises
    ------
    ValueError
        If there are fewer than five pairs, a value is not finite, or one side does not vary.

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap. Kendall 1938.
    """
    if kind not in ("spearman", "kendall"):
        raise ValueError(f"kind must be spearman or kendall, got {kind!r}")
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    if replicates < 100:
        raise ValueError(f"replicates must be at least 100, got {replicates}")
    x, y = (np.asarray(v, dtype=np.float64) for v in (metric, opinion))
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"metric and opinion must be of one length, got {x.shape} and {y.shape}")
    if len(x) < FEWEST:
        raise ValueError(f"a correlation needs at least {FEWEST} pairs, got {len(x)}")
    if not np.isfinite(x).all() or not np.isfinite(y).all():
        raise ValueError("metric and opinion must be finite; leave out pairs that lack one")
    for values, what in ((x, "metric"), (y, "opinion")):
        if np.ptp(values) == 0:
            raise ValueError(f"{what} is {values[0]:g} everywhere: nothing can go with it")
    value = _correlate(x, y, kind)
    rng = np.random.default_rng(seed)
    drawn = np.empty(replicates)
    for b in range(replicates):
        rows = rng.integers(0, len(x), len(x))
        drawn[b] = _correlate(x[rows], y[rows], kind)
    drawn = drawn[~np.isnan(drawn)]  # a resample in which one side does not vary
    if len(drawn) < replicates / 2:
        raise ValueError("too little varies for an interval: nearly all values are ties")
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return RankCorrelation(
        value=value,
        interval=Interval(
            float(low), float(high), level, f"percentile bootstrap over pairs, {len(drawn)} draws"
        ),
        n=len(x),
    )


def _correlate(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], kind: Kind) -> float:
    if kind == "kendall":
        return float(stats.kendalltau(x, y).statistic)
    a, b = stats.rankdata(x), stats.rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")
