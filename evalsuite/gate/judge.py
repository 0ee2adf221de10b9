"""From findings and a policy to a verdict.

The rule for one finding looks at the interval of the gap, never at a p-value alone:

- the whole interval lies above the tolerance: **fail**;
- the whole interval lies at or below it: **pass**, or **warn** when the gap is detected (its
  adjusted p-value is at most alpha) and the interval comes near the tolerance;
- the interval straddles the tolerance: **inconclusive**, with the n that would decide. A set
  that is too small to judge is never a pass.

The worst rule is the verdict: error, then fail, inconclusive, warn, pass.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from .findings import WORST_FIRST, Finding, Message, Reason, Status
from .waivers import apply_waivers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

    from .findings import DatasetSummary
    from .policy import Policy, Rule
    from .waivers import Waiver

EXIT_CODES = {
    Status.PASS: 0,
    Status.WARN: 0,
    Status.FAIL: 1,
    Status.ERROR: 3,
    Status.INCONCLUSIVE: 4,
}


def exit_code(verdict: Status, *, strict: bool = False) -> int:
    """Exit code of a verdict; ``strict`` makes a warning count as a failure."""
    if strict and verdict is Status.WARN:
        return 1
    return EXIT_CODES[verdict]


def _number(x: float) -> str:
    return f"{x:.3g}"


def _n_required(finding: Finding, tolerance: float) -> int | None:
    """Count the samples a side with which the interval would lie on one side of the tolerance.

    Standard errors fall with the root of n, and ``min_detectable_gap`` is the distance from the
    tolerance that this n decides with the planned power. None where the gap is so near the
    tolerance that no practical n decides.
    """
    if finding.gap is None or finding.min_detectable_gap is None:
        return None
    distance = abs(tolerance - finding.gap)
    if distance < 0.05 * tolerance:
        return None
    n = min(finding.n_real, finding.n_synthetic)
    return max(math.ceil(n * (finding.min_detectable_gap / distance) ** 2), n + 1)


def _matches(rule: Rule, finding: Finding) -> bool:
    return (
        finding.kind in ("distribution", "tie")
        and rule.metric == finding.metric
        and rule.modality in ("*", finding.modality)
        and rule.encoder in ("*", finding.encoder)
        and rule.slice == finding.slice
    )


def _judge_one(
    finding: Finding, rule: Rule, policy: Policy, several: bool, encoders: bool
) -> tuple[Status, Message]:
    gap, ci = finding.gap, finding.gap_ci
    where = [finding.modality] if several else []
    where += [finding.encoder] if encoders and finding.encoder else []
    where += [finding.slice] if finding.slice != "all" else []
    params: dict[str, str | int | float | None] = {
        "metric": finding.metric,
        "slice": ", ".join(where) or "all",
        "tolerance": rule.tolerance,
        "gap": gap,
        "low": ci.low if ci else None,
        "high": ci.high if ci else None,
        "unit": finding.gap_unit,
        "p": finding.p_adjusted,
        "n": finding.n_required,
        "n_real": finding.n_real,
        "n_synthetic": finding.n_synthetic,
    }
    name = f"{finding.metric} ({', '.join(where)})" if where else finding.metric
    if (gap is None or ci is None) and finding.message is not None:
        # The measurement itself says why there is no number. It is no pass, and no lack of samples.
        return Status.WARN, finding.message
    if gap is None or ci is None:
        smallest = min(finding.n_real, finding.n_synthetic)
        return Status.INCONCLUSIVE, Message(
            id="too_few_samples",
            text=f"{name}: {smallest} samples are too few to measure it; "
            f"the policy asks for at least {policy.min_samples} on each side.",
            params={**params, "min": policy.min_samples},
        )
    interval = f"{_number(gap)} [{_number(ci.low)}, {_number(ci.high)}]"
    limit = f"tolerance {_number(rule.tolerance)}"
    if ci.low > rule.tolerance:
        status = Status.FAIL if rule.severity == "fail" else Status.WARN
        return status, Message(
            id="gap_above_tolerance",
            text=f"{name}: the gap {interval} lies above the {limit}.",
            params=params,
        )
    if ci.high > rule.tolerance:
        text = f"{name}: the gap {interval} may lie on either side of the {limit}"
        needed = _n_required(finding, rule.tolerance)
        params["n"] = needed
        if needed is None:
            text += ", and so near to it that more samples would hardly decide"
        else:
            text += f"; about {needed:,} samples a side would decide"
        status = Status.INCONCLUSIVE if rule.severity == "fail" else Status.WARN
        return status, Message(id="gap_undecided", text=text + ".", params=params)
    if finding.detected and ci.high > rule.warn_from * rule.tolerance:
        return Status.WARN, Message(
            id="gap_detected_within_tolerance",
            text=f"{name}: a gap is there ({interval}), but within the {limit}.",
            params=params,
        )
    if finding.detected:
        return Status.PASS, Message(
            id="gap_small",
            text=f"{name}: a gap is there, far within the {limit} ({interval}).",
            params=params,
        )
    return Status.PASS, Message(
        id="no_gap",
        text=f"{name}: no gap beyond chance, and none above the {limit} ({interval}).",
        params=params,
    )


def judge(
    findings: Sequence[Finding],
    policy: Policy,
    *,
    real: DatasetSummary,
    synthetic: DatasetSummary,
    unmeasured: Mapping[str, str] | None = None,
    waivers: Sequence[Waiver] = (),
    today: date | None = None,
) -> tuple[tuple[Finding, ...], Status, tuple[Reason, ...]]:
    """Apply a policy.

    Parameters
    ----------
    findings : sequence of Finding
        As measured: with gap, interval and adjusted p-value, without tolerance and status.
    policy : Policy
        What is asked.
    real, synthetic : DatasetSummary
        For the rules on the files themselves.
    unmeasured : mapping of str to str, optional
        Modalities that were left out, to the reason: ``only_real``, ``only_synthetic``,
        ``no_encoder`` or ``too_few``. Each is a warning: what was not looked at is not fine.
    waivers : sequence of Waiver
        What is let pass as a warning for a time; see :func:`~.waivers.apply_waivers`.
    today : date, optional
        The day that waivers are held against; needed where there are any.

    Returns
    -------
    findings : tuple of Finding
        The same, with tolerance, status and message where a rule judges them.
    verdict : Status
        The worst status of all rules.
    reasons : tuple of Reason
        What decided, the worst first; of a passed gate, one reason that says so.
    """
    judged: list[Finding] = []
    reasons: list[Reason] = []
    used: set[int] = set()
    several = len({f.modality for f in findings}) > 1
    # One number for each encoder: without its name they would contradict each other.
    named = Counter(
        (modality, metric, place)
        for modality, metric, place, _ in {
            (f.modality, f.metric, f.slice, f.encoder) for f in findings
        }
    )
    for finding in findings:
        rules = [(i, rule) for i, rule in enumerate(policy.rules) if _matches(rule, finding)]
        if not rules:
            judged.append(finding)
            if (
                finding.status is Status.WARN
                and finding.message is not None
                and all(reason.message != finding.message for reason in reasons)
            ):
                # The measurement warns of itself, whatever the policy asks; and once, where each
                # modality of the same records says the same.
                reasons.append(
                    Reason(status=Status.WARN, finding=finding.key, message=finding.message)
                )
            continue
        used.update(i for i, _ in rules)
        worst: tuple[Status, Message, Rule] | None = None
        for _, rule in rules:
            encoders = named[finding.modality, finding.metric, finding.slice] > 1
            status, message = _judge_one(finding, rule, policy, several, encoders)
            if worst is None or WORST_FIRST.index(status) < WORST_FIRST.index(worst[0]):
                worst = (status, message, rule)
        if worst is None:  # cannot be: `rules` is not empty
            raise AssertionError
        status, message, rule = worst
        new = finding.model_copy(
            update={
                "tolerance": rule.tolerance,
                "status": status,
                "message": message,
                "n_required": finding.n_required
                if message.id != "gap_undecided"
                else message.params["n"],
            }
        )
        judged.append(new)
        if status is not Status.PASS:
            reasons.append(Reason(status=status, finding=new.key, message=message))
    for i, rule in enumerate(policy.rules):
        if i not in used and rule.on_missing == "error":
            reasons.append(
                Reason(
                    status=Status.ERROR,
                    message=Message(
                        id="metric_missing",
                        text=f"The policy asks for {rule.metric} (slice {rule.slice}), which was "
                        "not measured: a rule that nothing answers is an error, never a pass.",
                        params={"metric": rule.metric, "slice": rule.slice},
                    ),
                )
            )
    for modality, why in (unmeasured or {}).items():
        text = {
            "only_real": f"Only the real set holds {modality}: it was not compared.",
            "only_synthetic": f"Only the synthetic set holds {modality}: it was not compared.",
            "no_encoder": f"Both sets hold {modality}, but the policy names no encoder for it: "
            "it was not compared.",
            "too_few": f"One of the sets holds {modality} in fewer than {policy.min_samples} "
            "samples: it was not compared.",
        }[why]
        reasons.append(
            Reason(
                status=Status.WARN,
                message=Message(
                    id=f"unmeasured_{why}",
                    text=text,
                    params={"modality": modality, "min": policy.min_samples},
                ),
            )
        )
    reasons.extend(_integrity(policy, real, synthetic, judged))
    if waivers:
        if today is None:
            raise ValueError("waivers hold for a time: say which day it is, with today=")
        judged, reasons = apply_waivers(judged, reasons, waivers, today=today)
    reasons.sort(key=lambda reason: WORST_FIRST.index(reason.status))
    verdict = reasons[0].status if reasons else Status.PASS
    if not reasons:
        reasons.append(
            Reason(
                status=Status.PASS,
                message=Message(
                    id="all_passed",
                    text=f"All {len(used)} rules hold: no gap of the size that the policy minds.",
                    params={"rules": len(used)},
                ),
            )
        )
    return tuple(judged), verdict, tuple(reasons)


def _integrity(
    policy: Policy, real: DatasetSummary, synthetic: DatasetSummary, findings: list[Finding]
) -> list[Reason]:
    """Judge the rules on the files; each of them is also a finding, so that it is shown."""
    reasons: list[Reason] = []

    def add(
        metric: str, data: DatasetSummary, share: float, count: int, limit: float, bad: Status
    ) -> None:
        status = bad if share > limit else Status.PASS
        what = {
            "unreadable_share": "could not be used",
            "duplicate_share": "repeat another one exactly",
            "exact_copy_share": "are byte for byte a real one",
        }[metric]
        message = Message(
            id=f"{metric}_{'high' if share > limit else 'ok'}",
            text=f"{count} of {data.n_found} {data.role} samples ({share:.2%}) {what}; "
            f"the policy allows {limit:.2%}.",
            params={
                "count": count,
                "found": data.n_found,
                "role": data.role,
                "share": share,
                "limit": limit,
            },
        )
        finding = Finding(
            kind="integrity",
            modality="any",
            metric=metric,
            slice=data.role,
            value=share,
            unit="share",
            higher_is_better=False,
            best=0.0,
            n_real=real.n_found,
            n_synthetic=synthetic.n_found,
            tolerance=limit,
            status=status,
            message=message,
            details={"count": count},
        )
        findings.append(finding)
        if status is not Status.PASS:
            reasons.append(Reason(status=status, finding=finding.key, message=message))

    for data in (real, synthetic):
        lost = data.n_found - data.n_used
        share = lost / data.n_found if data.n_found else 1.0
        add(
            "unreadable_share",
            data,
            share,
            lost,
            policy.integrity.max_unreadable,
            Status.FAIL,
        )
    used = max(synthetic.n_used, 1)
    add(
        "duplicate_share",
        synthetic,
        synthetic.n_duplicates / used,
        synthetic.n_duplicates,
        policy.integrity.max_duplicates,
        Status.WARN,
    )
    add(
        "exact_copy_share",
        synthetic,
        synthetic.n_exact_copies / used,
        synthetic.n_exact_copies,
        policy.integrity.max_exact_copies,
        Status.WARN,
    )
    return reasons
