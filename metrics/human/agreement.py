"""How far raters agree: Krippendorff's alpha."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .._result import Interval, Scalar

Level: TypeAlias = Literal["nominal", "ordinal", "interval", "ratio"]


@dataclass(frozen=True, slots=True)
class Agreement(Scalar):
    """Result of :func:`krippendorff_alpha`; ``float()`` gives alpha.

    Attributes
    ----------
    value : float
        1 is full agreement, 0 what chance gives, below 0 disagreement by system.
    interval : Interval
        Percentiles over resampled items.
    units : int
        Items with at least two votes: the only ones that say something.
    pairable : int
        Votes on them.
    """

    interval: Interval
    units: int
    pairable: int


def krippendorff_alpha(
    ratings: npt.ArrayLike,
    level: Level = "interval",
    *,
    confidence: float = 0.95,
    replicates: int = 1000,
    seed: int = 0,
) -> Agreement:
    """Agreement of any number of raters, with votes missing.

    ``1 − D_o/D_e`` of the coincidence matrix: each item of m votes adds its ordered pairs, each
    with weight 1/(m − 1).

    Parameters
    ----------
    ratings : array, shape (raters, items)
        Numbers; NaN where there is no vote. For ``nominal`` they are codes of categories.
    level : {"nominal", "ordinal", "interval", "ratio"}
        What a difference of two votes is worth: any is 1; the votes that lie between them; the
        square of the difference; its square over the sum's. A scale from bad to excellent is
        ordinal.
    confidence : float
        Nominal coverage of the interval.
    replicates : int
        Resamples of the items.
    seed : int

    Returns
    -------
    Agreement
        Best 1. It does not say who is right: raters may agree on a wrong answer. Where nearly all
        votes are the same, chance agreement is as high, and alpha is low however few differ.

    Raises
    ------
    ValueError
        If no item has two votes, or all votes are the same: then there is nothing to agree about.

    References
    ----------
    Krippendorff 2011, Computing Krippendorff's alpha-reliability. Zapf et al. 2016, Measuring
    inter-rater reliability for nominal data: which coefficients and confidence intervals are
    appropriate?
    """
    if level not in get_args(Level):
        raise ValueError(f"level must be one of {', '.join(get_args(Level))}, got {level!r}")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}")
    if replicates < 20:
        raise ValueError(f"replicates must be at least 20, got {replicates}")
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2:
        raise ValueError(f"ratings must have shape (raters, items), got {table.shape}")
    if np.isinf(table).any():
        raise ValueError("ratings hold infinite votes; write a missing one as NaN")
    table = table[:, (~np.isnan(table)).sum(axis=0) >= 2]
    if not table.size:
        raise ValueError("no item has two votes: agreement cannot be seen")
    values = np.unique(table[~np.isnan(table)])
    if len(values) < 2:
        raise ValueError(f"all votes are {values[0]:g}: there is nothing to agree about")
    if level == "ratio" and values[0] < 0:
        raise ValueError("a ratio scale has no votes below 0")
    # counts[u, c]: how often item u got value c
    counts = (table[:, :, None] == values).sum(axis=0).astype(np.float64)
    alpha = _alpha(counts, values, level)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(replicates):
        again = counts[rng.integers(0, len(counts), len(counts))]
        if (again.sum(axis=0) > 0).sum() >= 2:
            drawn.append(_alpha(again, values, level))
    if len(drawn) < replicates / 2:
        raise ValueError("nearly all votes are the same: too little varies for an interval")
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Agreement(
        value=alpha,
        interval=Interval(
            float(low), float(high), confidence, f"bootstrap over items, {len(drawn)} draws"
        ),
        units=len(counts),
        pairable=int(counts.sum()),
    )


def _alpha(counts: npt.NDArray[np.float64], values: npt.NDArray[np.float64], level: Level) -> float:
    sizes = counts.sum(axis=1)
    weighted = counts / (sizes - 1)[:, None]
    coincidences = counts.T @ weighted - np.diag(weighted.sum(axis=0))
    totals = coincidences.sum(axis=1)
    n = float(totals.sum())
    delta = _differences(values, totals, level)
    observed = float((coincidences * delta).sum()) / n
    expected = float((np.outer(totals, totals) * delta).sum()) / (n * (n - 1))
    return 1.0 - observed / expected


def _differences(
    values: npt.NDArray[np.float64], totals: npt.NDArray[np.float64], level: Level
) -> npt.NDArray[np.float64]:
    a, b = values[:, None], values[None, :]
    if level == "nominal":
        return np.asarray(a != b, dtype=np.float64)
    if level == "interval":
        return np.asarray((a - b) ** 2)
    if level == "ratio":
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(a == b, 0.0, ((a - b) / (a + b)) ** 2))
    # Votes from one value up to the other, both ends by half.
    middle = np.cumsum(totals) - totals / 2
    return np.asarray((middle[:, None] - middle[None, :]) ** 2)
