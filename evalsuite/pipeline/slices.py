"""Where a gap lies: class by class, and how the classes are shared out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..gate.findings import Finding, Floor, Interval, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..gate.policy import Calibration, Policy
    from .plan import Part

CLASS = "class "
"""What the slice of a class begins with."""
MOST_CLASSES = 50
LABELLED = 0.8
"""Share of the samples of a side that must have a label."""
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
    known = [
        [s.label for s in side.samples if s.label is not None] for side in (part.left, part.right)
    ]
    enough = all(
        len(labels) >= LABELLED * len(side.samples)
        for labels, side in zip(known, (part.left, part.right), strict=True)
    )
    classes = set(known[0]) | set(known[1])
    if not enough or not 2 <= len(classes) <= MOST_CLASSES:
        return []

    def compute() -> bytes:
        found = _measured(part, encoder, policy, settings)
        return json.dumps([f.model_dump(mode="json") for f in found]).encode()

    stored = remember("classes", encoder, compute)
    return [Finding.model_validate(f) for f in json.loads(stored)]


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
    worst = [s for s in shares.groups if s.p_adjusted <= policy.alpha]
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
            message=_shares_message(worst[0].label, worst[0].real, worst[0].synthetic)
            if worst
            else None,
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


def _shares_message(label: str, real: float, synthetic: float) -> Message:
    way = "rarer" if synthetic < real else "more frequent"
    return Message(
        id="label_rarer" if synthetic < real else "label_more_frequent",
        text=f"Class {label!r} is {way} in the synthetic set: {synthetic:.1%} for {real:.1%}.",
        params={"slice": f"{CLASS}{label}", "real": real, "synthetic": synthetic},
    )


def class_messages(findings: Sequence[Finding]) -> list[Message]:
    """Give the sentences on classes: the one that changed its share, the one with the most gap."""
    said: list[Message] = []
    for f in findings:
        # Each modality of the same records has the same labels.
        if f.metric == "label_shares" and f.message is not None and f.message not in said:
            said.append(f.message)
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
