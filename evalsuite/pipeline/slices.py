"""Where a gap lies: class by class, and how the classes are shared out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..gate.findings import Finding, Floor, Interval, Message, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..gate.policy import Calibration, Policy
    from ..metrics.utility.subgroups import Shares
    from .plan import Part

CLASS = "class "
"""What the slice of a class begins with."""
MOST_CLASSES = 50
LABELLED = 0.8
"""Share of the samples of a side that must have a label."""
MOST_NAMED = 5
"""Classes that one sentence names."""
PERMUTATIONS = 199
SPLITS = 30


def class_findings(
    part: Part,
    encoder: str,
    policy: Policy,
    settings: Calibration,
    remember: Callable[[str, str, Callable[[], bytes]], bytes],
) -> list[Finding]:
    """Compare the shares of the classes, and the features within each.

    Parameters
    ----------
    part : Part
    encoder : str
        Whose features are compared.
    policy : Policy
    settings : Calibration
        For the level of the intervals.
    remember : callable
        Keeps what an earlier run on the same input found.

    Returns
    -------
    list of Finding
        None where there are no labels on both sides, one class only, or too many to name.
    """
    classes = _classes(part)
    if not all(_labelled(part)) or not 2 <= len(classes) <= MOST_CLASSES:
        return []

    def compute() -> bytes:
        found = _measured(part, encoder, policy, settings)
        return json.dumps([f.model_dump(mode="json") for f in found]).encode()

    stored = remember("classes", encoder, compute)
    return [Finding.model_validate(f) for f in json.loads(stored)]


def unmeasured_classes(part: Part) -> Message | None:
    """Say why labels that are there were not compared, or None where nothing is left out."""
    classes = _classes(part)
    if len(classes) < 2:
        return None
    for side, enough in zip(("real", "synthetic"), _labelled(part), strict=True):
        if not enough:
            return Message(
                id=f"labels_few_{side}",
                text=f"The labels were not compared: fewer than {LABELLED:.0%} of the {side} "
                "samples have one.",
                params={"least": LABELLED},
            )
    if len(classes) <= MOST_CLASSES:
        return None
    return Message(
        id="labels_too_many",
        text=f"The labels were not compared: there are {len(classes)} classes, more than "
        f"{MOST_CLASSES}.",
        params={"n": len(classes), "most": MOST_CLASSES},
    )


def _classes(part: Part) -> set[str]:
    return {
        s.label for side in (part.left, part.right) for s in side.samples if s.label is not None
    }


def _labelled(part: Part) -> tuple[bool, bool]:
    """Whether each side has enough labels to be compared by them."""
    real, synthetic = (
        sum(s.label is not None for s in side.samples) >= LABELLED * len(side.samples)
        for side in (part.left, part.right)
    )
    return real, synthetic


def _measured(part: Part, encoder: str, policy: Policy, settings: Calibration) -> list[Finding]:
    from ..metrics.utility.subgroups import subgroup_tests

    sides = []
    for side, names in zip((part.left, part.right), part.groups, strict=True):
        rows = [i for i, s in enumerate(side.samples) if s.label is not None]
        sides.append(
            (
                side.features[encoder][rows],
                [str(side.samples[i].label) for i in rows],
                None if names is None else [names[i] for i in rows],
            )
        )
    (real, labels_real, groups_real), (synthetic, labels_synthetic, groups_synthetic) = sides
    report = subgroup_tests(
        real,
        synthetic,
        labels_real,
        labels_synthetic,
        groups_real=groups_real,
        groups_synthetic=groups_synthetic,
        kernels=("polynomial",),
        min_n=max(policy.min_samples, 20),
        splits=SPLITS,
        permutations=PERMUTATIONS,
        level=settings.confidence,
        seed=policy.seed,
    )
    shares = report.shares
    status, message = _shares_said(shares, policy.alpha)
    findings = [
        Finding(
            kind="distribution",
            modality=part.modality,
            metric="label_shares",
            value=shares.value,
            unit="share",
            higher_is_better=False,
            best=0.0,
            n_real=len(labels_real),
            n_synthetic=len(labels_synthetic),
            gap=max(0.0, shares.value - shares.floor),
            gap_unit="share",
            p_value=shares.p_value,
            p_method="permutation of labels",
            p_adjusted=shares.p_value,
            detected=shares.p_value <= policy.alpha,
            # Distances hardly move when one class of ten is gone: this has to warn of itself.
            status=status,
            message=message,
            details={
                "floor": shares.floor,
                "floor_q95": shares.floor_q95,
                "classes": len(shares.groups),
                # Of their content nothing is known, and no slice says so.
                "classes_too_small": len(report.left_out),
            },
        )
    ]
    for gap in report.gaps:
        kernel = gap.kernels["polynomial"]
        scale = None if not kernel.relative else kernel.value / kernel.relative
        findings.append(
            Finding(
                kind="distribution",
                modality=part.modality,
                metric="kid",
                encoder=encoder,
                slice=f"{CLASS}{gap.label}",
                value=kernel.value,
                higher_is_better=False,
                best=0.0,
                n_real=gap.n_real,
                n_synthetic=gap.n_synthetic,
                floor=Floor(
                    size=gap.size,
                    splits=SPLITS,
                    mean=kernel.floor,
                    median=kernel.floor,
                    q05=min(kernel.floor, kernel.floor_q95),
                    q95=kernel.floor_q95,
                ),
                matched=kernel.matched,
                gap_ratio=kernel.ratio,
                gap=kernel.relative,
                gap_ci=None
                if not scale
                else Interval(
                    low=kernel.interval.low / scale,
                    high=kernel.interval.high / scale,
                    level=kernel.interval.level,
                    method=kernel.interval.method,
                ),
                gap_unit="share of real variance",
                p_value=gap.p_value,
                p_method="permutation within the class",
                p_adjusted=gap.p_adjusted,
                detected=gap.p_adjusted <= policy.alpha,
            )
        )
    return findings


def _shares_said(shares: Shares, alpha: float) -> tuple[Status, Message | None]:
    """Say what differs most; classes that only one side has are a warning."""
    real = [g for g in shares.groups if g.n_real]
    synthetic = [g for g in shares.groups if g.n_synthetic]
    if shares.p_value <= alpha and len(real) + len(synthetic) == len(shares.groups):
        names, others = _named([g.label for g in real]), _named([g.label for g in synthetic])
        return Status.WARN, Message(
            id="labels_disjoint",
            text=f"No class is in both sets: {names} in the real one, {others} in the synthetic "
            "one. Are the labels spelt alike?",
            params={"real": names, "synthetic": others},
        )
    beyond_chance = [g for g in shares.groups if g.p_adjusted <= alpha]
    missing = [g for g in beyond_chance if not g.n_synthetic]
    unknown = [g for g in beyond_chance if not g.n_real]
    lacking, lost = _named([g.label for g in missing]), sum(g.real for g in missing)
    new, share = _named([g.label for g in unknown]), sum(g.synthetic for g in unknown)
    if missing and unknown:
        return Status.WARN, Message(
            id="labels_differ",
            text=f"No synthetic sample is of class {lacking} ({lost:.1%} of the real ones), and no "
            f"real one of class {new} ({share:.1%} of the synthetic ones). Are the labels spelt "
            "alike?",
            params={"real": lacking, "lost": lost, "synthetic": new, "share": share},
        )
    if missing:
        return Status.WARN, Message(
            id="labels_missing",
            text=f"No synthetic sample is of class {lacking}; {lost:.1%} of the real samples are.",
            params={"classes": lacking, "n": len(missing), "share": lost},
        )
    if unknown:
        return Status.WARN, Message(
            id="labels_unknown",
            text=f"No real sample is of class {new}; {share:.1%} of the synthetic samples are.",
            params={"classes": new, "n": len(unknown), "share": share},
        )
    if not beyond_chance:
        return Status.INFO, None
    worst = max(beyond_chance, key=lambda g: abs(g.synthetic - g.real))
    way = "rarer" if worst.synthetic < worst.real else "more frequent"
    return Status.INFO, Message(
        id="label_rarer" if worst.synthetic < worst.real else "label_more_frequent",
        text=f"Class {worst.label!r} is {way} in the synthetic set: {worst.synthetic:.1%}, where "
        f"the real set has {worst.real:.1%}.",
        params={
            "slice": f"{CLASS}{worst.label}", "real": worst.real, "synthetic": worst.synthetic,
        },
    )  # fmt: skip


def _named(labels: list[str]) -> str:
    """Name some classes, and count the rest."""
    shown = ", ".join(repr(label) for label in sorted(labels)[:MOST_NAMED])
    rest = len(labels) - MOST_NAMED
    return f"{shown} (+{rest})" if rest > 0 else shown


def class_messages(findings: Sequence[Finding], parts: Iterable[Part]) -> list[Message]:
    """Give the sentences on classes: the one that changed its share, the one with the most gap.

    Parameters
    ----------
    findings : sequence of Finding
    parts : iterable of Part
        What was measured: of labels that were not compared, it is said why.
    """
    said: list[Message] = []
    for f in findings:
        # A warning is among the reasons. Each modality of the same records has the same labels.
        if (
            f.metric == "label_shares"
            and f.status is Status.INFO
            and f.message is not None
            and f.message not in said
        ):
            said.append(f.message)
    for part in parts:
        left_out = unmeasured_classes(part)
        if left_out is not None and left_out not in said:
            said.append(left_out)
    found = [f for f in findings if f.slice.startswith(CLASS) and f.detected and f.gap is not None]
    if found:
        worst = max(found, key=lambda f: f.gap or 0.0)
        said.append(
            Message(
                id="class_gap",
                text=f"The gap is largest in {worst.slice}: {worst.gap:.2g} of the real variance.",
                params={"slice": worst.slice, "gap": worst.gap},
            )
        )
    return said
