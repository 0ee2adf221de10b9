"""Which raters did not do what they were asked to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

Reason: TypeAlias = Literal["catch", "speed", "constant", "disagrees"]


_ONE_PERCENT = 2.326
"""The normal quantile: so rarely is an honest rater who has nothing in common refused."""


@dataclass(frozen=True, slots=True)
class RaterCheck:
    """What was found of one rater.

    Attributes
    ----------
    rater : int
        Row of the table.
    votes : int
    catch_passed, catch_shown : int
    seconds : float or None
        Median time for a vote; None where it was not taken.
    spread : float
        Standard deviation of the votes; NaN with fewer than two.
    correlation : float or None
        Pearson's, with the mean of the other raters; None where it cannot be had: too few items in
        common, or nothing varies.
    reasons : tuple of str
        Why this rater should be left out; empty for those who stay.
    """

    rater: int
    votes: int
    catch_passed: int
    catch_shown: int
    seconds: float | None
    spread: float
    correlation: float | None
    reasons: tuple[Reason, ...]


def screen_raters(
    ratings: npt.ArrayLike,
    *,
    catch_passed: Sequence[int] | None = None,
    catch_shown: Sequence[int] | None = None,
    seconds: npt.ArrayLike | None = None,
    max_catch_failed: float = 0.3,
    min_seconds: float = 0.5,
    min_correlation: float | None = 0.0,
    min_common: int = 10,
    refuse_constant: bool = True,
) -> tuple[RaterCheck, ...]:
    """Find raters whose votes say nothing. The rules are fixed before the votes are looked at.

    ``catch``: more than ``max_catch_failed`` of the trials with a known answer were answered
    wrongly. ``speed``: the median time for a vote is below ``min_seconds``. ``constant``: at least
    ``min_common`` votes, all the same. ``disagrees``: the correlation with the mean of the others
    lies below ``min_correlation`` by more than chance (Fisher's z, one-sided 1 %).

    Parameters
    ----------
    ratings : array, shape (raters, items)
        NaN where there is no vote; without catch trials.
    catch_passed, catch_shown : sequence of int, optional
        For each rater.
    seconds : array, shape (raters, items), optional
        Time for each vote.
    max_catch_failed : float
        Share, 0 to 1.
    min_seconds : float
    min_correlation : float or None
        The default only refuses raters who run against the others. A higher one, as the 0.75 of
        some recommendations for many-voted clips, also removes honest minorities, and makes those
        who are left agree more than people do. None leaves the rule out.
    min_common : int
        Items in common that a correlation needs.
    refuse_constant : bool
        Whether to use the rule ``constant``. Where one answer may well be right for all items, as
        "the label is right", it would refuse those who are right.

    Returns
    -------
    tuple of RaterCheck
        One for each row, in order. It cannot see a careful liar.

    Raises
    ------
    ValueError
        If shapes do not match, or a limit makes no sense.

    References
    ----------
    ITU-T P.808 (2021), gold and trapping questions; ITU-T P.910, Annex on screening by correlation.
    """
    table = np.asarray(ratings, dtype=np.float64)
    if table.ndim != 2 or np.isinf(table).any():
        raise ValueError(f"ratings must be a finite (raters, items) table, got {table.shape}")
    raters = len(table)
    if (catch_passed is None) != (catch_shown is None):
        raise ValueError("catch_passed and catch_shown belong together")
    passed = [0] * raters if catch_passed is None else list(catch_passed)
    shown = [0] * raters if catch_shown is None else list(catch_shown)
    if len(passed) != raters or len(shown) != raters:
        raise ValueError(f"catch trials must be counted for each of {raters} raters")
    if any(not 0 <= p <= s for p, s in zip(passed, shown, strict=True)):
        raise ValueError("catch_passed must lie between 0 and catch_shown")
    if min_correlation is not None and not -1 < min_correlation < 1:
        raise ValueError(f"min_correlation must lie between -1 and 1, got {min_correlation}")
    if not 0 <= max_catch_failed <= 1 or min_seconds < 0 or min_common < 3:
        raise ValueError(
            "a share lies in 0 to 1, seconds are not negative, min_common is at least 3"
        )
    times = None if seconds is None else np.asarray(seconds, dtype=np.float64)
    if times is not None and times.shape != table.shape:
        raise ValueError(f"seconds must have the shape of ratings, got {times.shape}")

    there = ~np.isnan(table)
    filled = np.where(there, table, 0.0)
    total, count = filled.sum(axis=0), there.sum(axis=0)
    checks = []
    for r in range(raters):
        mine = there[r]
        votes = table[r, mine]
        taken = times[r, mine] if times is not None else np.empty(0)
        taken = taken[~np.isnan(taken)]
        pace = float(np.median(taken)) if len(taken) else None
        spread = float(votes.std(ddof=1)) if len(votes) > 1 else float("nan")
        others = count - mine
        common = mine & (others > 0)
        correlation = None
        if common.sum() >= min_common:
            rest = (total - filled[r])[common] / others[common]
            if table[r, common].std() > 0 and rest.std() > 0:
                correlation = float(np.corrcoef(table[r, common], rest)[0, 1])
        reasons: list[Reason] = []
        if shown[r] and (shown[r] - passed[r]) / shown[r] > max_catch_failed:
            reasons.append("catch")
        if pace is not None and pace < min_seconds:
            reasons.append("speed")
        if refuse_constant and len(votes) >= min_common and spread == 0:
            reasons.append("constant")
        if (
            min_correlation is not None
            and correlation is not None
            and _below(correlation, min_correlation, int(common.sum()))
        ):
            reasons.append("disagrees")
        checks.append(
            RaterCheck(
                rater=r,
                votes=len(votes),
                catch_passed=passed[r],
                catch_shown=shown[r],
                seconds=pace,
                spread=spread,
                correlation=correlation,
                reasons=tuple(reasons),
            )
        )
    return tuple(checks)


def _below(correlation: float, limit: float, n: int) -> bool:
    """Whether a correlation is lower than a limit by more than chance."""
    near_one = 1 - 1e-12
    z = math.atanh(max(min(correlation, near_one), -near_one)) - math.atanh(limit)
    return z * math.sqrt(n - 3) < -_ONE_PERCENT if n > 3 else False
