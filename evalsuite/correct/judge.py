"""The judgement: every gap before and after on the judge half, and whether labels were lost."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from ..errors import DataError
from ..pipeline.calibrate import SPECS, measure
from ..pipeline.external import plugins_of
from ..pipeline.plan import sample_groups
from ..pipeline.run import JUDGED
from .looks import in_real_units
from .result import Comparison, LabelsKept, Measured, TieChange, said

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..encoders import Encoded
    from ..gate.findings import Finding, GateResult, Message
    from ..gate.policy import Policy
    from ..generators.selection.subset import Agreement
    from .looks import Looks
    from .result import Change

DISTANCES = ("frechet_distance", "kid", "mmd_rbf")
"""The metrics of which one must fall for a correction to have helped."""


def compare(
    before: GateResult,
    after: GateResult,
    seen: Mapping[str, Encoded],
    looks: Looks,
    policy: Policy,
) -> tuple[Comparison, ...]:
    """Set every judged gap after the correction against the one before."""
    from scipy.special import ndtri

    extra = plugins_of(policy, JUDGED).metrics
    known = {*SPECS, *(m.info.name for m in extra)}
    metrics = [m for m in dict.fromkeys(r.metric for r in policy.rules) if m in known]
    metrics += [m for m in ("kid", "precision", "coverage") if m not in metrics]
    pairs: list[tuple[str, bool, Finding, Finding]] = []
    for encoder in looks.own:
        found = [
            {
                f.metric: f
                for f in result.findings
                if f.kind == "distribution" and f.encoder == encoder and f.slice == "all"
            }
            for result in (before, after)
        ]
        pairs += [
            (encoder, False, found[0][m], found[1][m])
            for m in metrics
            if m in found[0] and m in found[1]
        ]
    second = []
    judge, *others = in_real_units(
        *(
            seen[k].features[looks.second]
            for k in ("calibration", "judge", "synthetic", "corrected")
        )
    )
    for side, features in zip(("synthetic", "corrected"), others, strict=True):
        groups = sample_groups(seen["judge"], seen[side])
        measured = measure(
            judge,
            features,
            modality=looks.modality,
            groups_real=groups[0],
            groups_synthetic=groups[1],
            settings=policy.calibration,
            seed=policy.seed,
            metrics=metrics,
            extra=extra,
        )
        second.append({f.metric: f for f in measured.findings})
    pairs += [(looks.second, True, second[0][m], second[1][m]) for m in metrics]
    judged = [p for p in pairs if p[2].gap is not None and p[3].gap is not None]
    if not judged:
        raise DataError(
            "the gate measured no gap before and after: see the reports for what was missing"
        )
    # Bonferroni: one of many intervals must not miss by chance and be taken for a success.
    z = float(ndtri(1 - (1 - policy.calibration.confidence) / (2 * len(judged))))
    allowed = {r.metric: r.tolerance for r in reversed(policy.rules) if r.slice == "all"}
    return tuple(_comparison(*p, z, allowed.get(p[2].metric)) for p in judged)


def ties(before: GateResult, after: GateResult) -> tuple[TieChange, ...]:
    """Set how well parts of records belong together after the correction against before."""
    told = {
        (f.metric, f.encoder): f
        for f in before.findings
        if f.kind == "tie" and f.slice == "all" and f.gap is not None
    }
    return tuple(
        TieChange(f.metric, f.encoder or "", f.gap_unit, float(told[key].gap or 0.0), float(f.gap))
        for f in after.findings
        if (key := (f.metric, f.encoder)) in told and f.kind == "tie" and f.slice == "all"
        if f.gap is not None
    )


def _comparison(
    encoder: str,
    second: bool,
    before: Finding,
    after: Finding,
    z: float,
    tolerance: float | None,
) -> Comparison:
    one, other = float(before.gap or 0.0), float(after.gap or 0.0)
    # The two gaps share the real half, so their errors go together: this is the cautious side.
    half = z * math.hypot(*(float(f.details["standard_error"]) for f in (before, after)))
    change = other - one
    outcome: Change = "smaller" if change + half < 0 else "larger" if change - half > 0 else "same"
    return Comparison(
        encoder=encoder,
        second=second,
        metric=before.metric,
        unit=before.gap_unit,
        before=one,
        after=other,
        change=change,
        low=change - half,
        high=change + half,
        outcome=outcome,
        tolerance=tolerance,
        measured=(_measured(before), _measured(after)),
    )


def _measured(finding: Finding) -> Measured:
    floor, ci = finding.floor, finding.gap_ci
    return Measured(
        value=finding.matched,
        floor=(floor.q05, floor.median, floor.q95) if floor else None,
        gap=(ci.low, ci.high) if ci else None,
    )


def verdict(
    comparisons: Sequence[Comparison], labels: LabelsKept | None
) -> tuple[bool, tuple[Message, ...]]:
    """Say whether it helped, and why not."""
    reasons: list[Message] = []
    nearer = {
        second: [
            c
            for c in comparisons
            if c.second is second and c.metric in DISTANCES and c.outcome == "smaller"
        ]
        for second in (False, True)
    }
    if not nearer[False] and not nearer[True]:
        reasons.append(said("correct_no_distance"))
    elif not nearer[True]:
        reasons.append(said("correct_own_only"))
    elif not nearer[False]:
        reasons.append(said("correct_second_only"))
    reasons += [_gap("worse", c) for c in comparisons if c.outcome == "larger"]
    if labels is not None and labels.lost:
        reasons.append(
            said("correct_labels_lost", before=labels.before, after=labels.after, real=labels.real)
        )
    if reasons:
        return False, tuple(reasons)
    return True, tuple(_gap("nearer", c) for c in (*nearer[False], *nearer[True]))


def _gap(what: str, c: Comparison) -> Message:
    return said(
        f"correct_{what}{'_second' if c.second else ''}",
        metric=c.metric,
        encoder=c.encoder,
        before=c.before,
        after=c.after,
    )


def labels_kept(
    seen: Mapping[str, Encoded], encoder: str, policy: Policy
) -> tuple[LabelsKept | None, Message | None]:
    """Tell whether samples still show their label, or why that cannot be told.

    Classes count alike, whatever their sizes: a set of which a probe calls everything by the name
    of the most frequent class has not kept its labels.
    """
    from scipy.special import ndtri

    from ..generators.selection.subset import label_agreement

    sides = ("calibration", "synthetic", "corrected")
    labels = {k: [s.label for s in seen[k].samples] for k in sides}
    if any(label is None for part in labels.values() for label in part):
        return None, said("labels_none")
    classes = sorted(set.intersection(*({str(v) for v in part} for part in labels.values())))
    if len(classes) < 2:
        return None, said("labels_one_class", n=len(classes))

    def agreed(probe: Literal["knn", "linear"]) -> tuple[Agreement, Agreement]:
        first, second = (
            label_agreement(
                seen["calibration"].features[encoder],
                labels["calibration"],
                seen[side].features[encoder],
                labels[side],
                probe=probe,
                seed=policy.seed,
            )
            for side in ("synthetic", "corrected")
        )
        return first, second

    try:
        # The probe that knows the real classes better is the one to ask.
        first, second = max(
            (agreed("knn"), agreed("linear")), key=lambda pair: pair[0].real_recall.mean
        )
    except ValueError as error:  # too few of a class, or classes that the real data does not have
        return None, said("labels_uneven").model_copy(update={"text": str(error)})
    before, after, real = (
        recall.among(classes) for recall in (first.recall, second.recall, first.real_recall)
    )
    # The sides as if they were independent: the cautious way, for each child has its parent's
    # difficulty.
    z = float(ndtri(0.5 + policy.calibration.confidence / 2))
    guess = 1 / len(classes)
    if real[0] - z * real[1] <= guess:
        return None, said("labels_guess", real=real[0])

    def less(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
        half = z * math.hypot(one[1], other[1])
        return one[0] - other[0] - half, one[0] - other[0] + half

    fell, short = less(before, after), less(real, after)
    return LabelsKept(
        before=before[0],
        after=after[0],
        real=real[0],
        guess=guess,
        fell=fell,
        short=short,
        # Samples that are known as well as real ones have lost nothing, however well before.
        lost=fell[0] > 0 and short[0] > 0,
    ), None
