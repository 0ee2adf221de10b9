"""``evalsuite policy suggest``: tolerances that people's marks bear out, or none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from ..errors import DataError, UsageError
from ..gate.findings import Value
from ..gate.policy import parse_policy
from ..metrics.human.correlation import rank_correlation
from ..report.text import number
from .score import match_set

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..gate.findings import GateResult
    from .score import StudyResult

FEWEST_SETS = 6
FEWEST_A_SIDE = 2
MARGIN = 0.5


class Suggestion(Value):
    """What the marks say of one metric's tolerance."""

    metric: str
    modality: str
    encoder: str | None
    tolerance: float | None
    """The largest gap of a set that people found acceptable; None where nothing can be said."""
    unacceptable_from: float | None = None
    """The smallest gap of a set that people did not."""
    accepted: int = 0
    rejected: int = 0
    undecided: int = 0
    tau: float | None = None
    why: str | None = None


def suggest_tolerances(
    study: StudyResult, results: Sequence[GateResult], *, margin: float = MARGIN
) -> tuple[Suggestion, ...]:
    """Read tolerances off a study of opinion scores.

    A set is *acceptable* if its loss in opinion against the first set of the study, the real one,
    is at most ``margin`` with its whole interval, and *unacceptable* if the whole interval lies
    above. A metric gets a tolerance only if every acceptable set has a smaller gap than every
    unacceptable one, and gap and loss go together by more than chance: then the largest gap that
    people accepted is the tolerance. Between it and the smallest one that they did not, nothing
    was seen.

    Parameters
    ----------
    study : StudyResult
        Of kind ``mos``; its first set is the reference.
    results : sequence of GateResult
        One for each other set.
    margin : float
        Points of the scale.

    Returns
    -------
    tuple of Suggestion
        One for each metric and encoder, also for those that nothing can be said of.

    Raises
    ------
    UsageError
        If the study is of another kind, or a result of none of its sets.
    DataError
        If there are fewer than 6 sets with a result, or fewer than 2 on either side.
    """
    if study.kind != "mos":
        raise UsageError(f"tolerances are read off opinion scores; this study is of {study.kind}")
    if not margin > 0:
        raise UsageError(f"the margin must be positive, got {margin}")
    losses = {
        c.first: (-c.estimate.value, -c.estimate.interval.high, -c.estimate.interval.low)
        for c in study.contrasts
        if c.estimate.value is not None and c.estimate.interval is not None
    }
    by_set: dict[str, GateResult] = {}
    for result in results:
        name = match_set(study.sets, result)
        if name in by_set:
            raise UsageError(f"two results are about {name!r}: give one for each set")
        by_set[name] = result
    names = [name for name in losses if name in by_set]
    if len(names) < FEWEST_SETS:
        raise DataError(
            f"{len(names)} sets have both marks and a result; a threshold needs at least "
            f"{FEWEST_SETS}: rate more sets, as the same generator at several settings"
        )
    good = [n for n in names if losses[n][2] <= margin]
    bad = [n for n in names if losses[n][1] > margin]
    if min(len(good), len(bad)) < FEWEST_A_SIDE:
        raise DataError(
            f"of {len(names)} sets people accept {len(good)} and reject {len(bad)} (a loss of "
            f"{margin:g} points); a threshold needs at least {FEWEST_A_SIDE} of each: rate more "
            "raters or items, or sets that differ more"
        )
    keys: dict[tuple[str, str | None, str], dict[str, float]] = {}
    for name in names:
        for f in by_set[name].findings:
            if f.gap is not None and f.slice == "all" and f.kind in ("distribution", "tie"):
                keys.setdefault((f.modality, f.encoder, f.metric), {})[name] = f.gap
    counts = {
        "accepted": len(good),
        "rejected": len(bad),
        "undecided": len(names) - len(good) - len(bad),
    }
    found = []
    for (modality, encoder, metric), gaps in sorted(keys.items(), key=str):
        base: dict[str, object] = {
            "metric": metric,
            "modality": modality,
            "encoder": encoder,
            **counts,
        }
        missing = [n for n in names if n not in gaps]
        if missing:
            why = f"not measured for {', '.join(missing[:3])}"
            found.append(Suggestion.model_validate({**base, "tolerance": None, "why": why}))
            continue
        found.append(_one(base, [gaps[n] for n in names], names, losses, good, bad))
    return tuple(found)


def _one(
    base: dict[str, object],
    gaps: list[float],
    names: list[str],
    losses: dict[str, tuple[float, float, float]],
    good: list[str],
    bad: list[str],
) -> Suggestion:
    by_name = dict(zip(names, gaps, strict=True))
    try:
        tau = rank_correlation(gaps, [losses[n][0] for n in names], "kendall")
    except ValueError as error:
        return Suggestion.model_validate({**base, "tolerance": None, "why": str(error)})
    most, least = max(by_name[n] for n in good), min(by_name[n] for n in bad)
    told = {**base, "tau": tau.value, "unacceptable_from": least, "tolerance": None}
    if most >= least:
        told["why"] = (
            f"a set with gap {number(most)} was accepted, one with {number(least)} was not"
        )
    elif tau.interval.low <= 0:
        told["why"] = "does not go with people's marks by more than chance"
    elif most <= 0:
        told["why"] = "the accepted sets have no gap: any small tolerance would fit"
    else:
        told["tolerance"] = most
    return Suggestion.model_validate(told)


def suggested_policy(
    suggestions: Sequence[Suggestion], study: StudyResult, *, margin: float = MARGIN
) -> str:
    """Give a policy with the tolerances that were found, as YAML that says where they are from.

    Raises
    ------
    DataError
        If none was found.
    """
    usable = [s for s in suggestions if s.tolerance is not None]
    if not usable:
        told = "; ".join(f"{s.metric}: {s.why}" for s in suggestions[:5])
        raise DataError(f"the marks bear out no tolerance: {told or 'no metric has a gap'}")
    first = usable[0]
    lines = [
        f"# Read off study {study.study}: {study.kept} raters; {first.accepted} sets accepted,",
        f"# {first.rejected} rejected by a loss of {margin:g} points, {first.undecided} undecided.",
        "# A tolerance is the largest gap accepted: by these raters, of these sets.",
    ]
    rules = []
    for s in usable:
        lines.append(
            f"# {s.metric}: rejected from {number(s.unacceptable_from)}; tau {number(s.tau)}"
        )
        rule = {"metric": s.metric, "tolerance": s.tolerance, "modality": s.modality}
        rules.append(rule | ({"encoder": s.encoder} if s.encoder else {}))
    permutations = max(499, 40 * len(rules))
    body = {
        "version": 1,
        "name": f"study-{study.study[:8]}",
        "rules": rules,
        "calibration": {"permutations": permutations, "costly_permutations": permutations},
    }
    text = "\n".join(lines) + "\n" + yaml.safe_dump(body, sort_keys=False, allow_unicode=True)
    parse_policy(text, "the suggested policy")
    return text
