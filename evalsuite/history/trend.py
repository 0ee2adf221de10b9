"""How a metric's gap moved from batch to batch, and whether by more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scipy.special import ndtr

from ..metrics.drift.multiplicity import adjust_pvalues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .store import FindingRow, RunRow


@dataclass(frozen=True, slots=True)
class Delta:
    """The latest gap against the one before.

    Attributes
    ----------
    change : float
        Above 0 the gap grew.
    standard_error : float
        Root of the sum of both squared errors. The two runs share real data, so that the true one
        is rather smaller: the test is conservative.
    p, p_adjusted : float
        Two-sided, normal; adjusted over the series' metrics by Holm.
    same_real : bool
        Whether both runs had the same real data. If not, the change may be that of the real data.
    same_weights : bool
        Whether both used the same weights of the encoder. If not, the gaps cannot be compared.
    """

    change: float
    standard_error: float
    p: float
    p_adjusted: float
    same_real: bool
    same_weights: bool


@dataclass(frozen=True, slots=True)
class Trend:
    """One metric × encoder × slice over the runs that measured it."""

    key: str
    points: tuple[tuple[RunRow, FindingRow], ...]
    delta: Delta | None
    """None where there is only one run, or one of the last two has no standard error."""


def trends(runs: Sequence[RunRow], findings: Sequence[FindingRow]) -> tuple[Trend, ...]:
    """Give the trend of each metric with a gap.

    Parameters
    ----------
    runs : sequence of RunRow
        The oldest first.
    findings : sequence of FindingRow
        Of these runs.

    Returns
    -------
    tuple of Trend
        By key. ``delta`` compares the last two runs that measured it.
    """
    by_id = {run.id: run for run in runs}
    points: dict[str, list[tuple[RunRow, FindingRow]]] = {}
    for finding in findings:
        if finding.gap is not None:
            points.setdefault(finding.key, []).append((by_id[finding.run], finding))
    keys = sorted(points)
    raw = [_delta(points[key]) for key in keys]
    if not raw:
        return ()
    adjusted = adjust_pvalues([math.nan if d is None else d[2] for d in raw])
    found = []
    for key, d, p in zip(keys, raw, adjusted, strict=True):
        delta = None if d is None else Delta(d[0], d[1], d[2], float(p), d[3], d[4])
        found.append(Trend(key, tuple(points[key]), delta))
    return tuple(found)


def _delta(
    points: Sequence[tuple[RunRow, FindingRow]],
) -> tuple[float, float, float, bool, bool] | None:
    if len(points) < 2:
        return None
    (run_a, a), (run_b, b) = points[-2:]
    if a.gap is None or b.gap is None or a.standard_error is None or b.standard_error is None:
        return None
    error = math.hypot(a.standard_error, b.standard_error)
    change = b.gap - a.gap
    if error == 0:  # the same data twice, or nothing that varies: no chance to compare with
        return None
    p = 2 * float(ndtr(-abs(change) / error))
    same_real = run_a.real_fingerprint == run_b.real_fingerprint
    return change, error, p, same_real, a.weights == b.weights
