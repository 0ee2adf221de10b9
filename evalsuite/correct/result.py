"""What a correction did and whether it helped, for programs and for people."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from ..gate.findings import Message

if TYPE_CHECKING:
    from ..generators.selection.subset import Selected

Change = Literal["smaller", "same", "larger"]


def said(ident: str, **params: str | float) -> Message:
    """Give a message whose English is what the catalogue of texts has for it."""
    from ..report.i18n import Translator

    return Message(
        id=ident, text=Translator("en").t(f"message.{ident}", params), params=dict(params)
    )


@dataclass(frozen=True, slots=True)
class Drifted:
    """An attribute that differs between the calibration half and the synthetic set."""

    attribute: str
    effect: float
    """In real standard deviations, beyond chance."""
    acts: str
    """What would move it, in words."""
    corrections: tuple[str, ...]
    """The corrections that were chosen for it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one set, with what makes its gap mean something."""

    value: float | None
    """At the floor's size."""
    floor: tuple[float, float, float] | None
    """Real against real: 5th percentile, median, 95th percentile, in the unit of the value."""
    gap: tuple[float, float] | None
    """Interval of the gap by itself; those of the changes are wider, for they hold together."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric before and after, on real data that nothing was fitted on."""

    encoder: str
    second: bool
    """Whether this is the second look."""
    metric: str
    unit: str
    before: float
    after: float
    change: float
    """``after - before``; under 0 the gap has become smaller."""
    low: float
    high: float
    """Interval for the change: all intervals of a run hold together."""
    outcome: Change
    tolerance: float | None = None
    """Of the policy's rule for the metric in the whole set, where there is one."""
    measured: tuple[Measured, Measured] | None = None
    """Before and after."""


@dataclass(frozen=True, slots=True)
class TieChange:
    """How well the parts of records belong together, before and after, by the gate's own model.

    It is told and not judged: the model that ``consistency`` selects by is the gate's, and a score
    that chose cannot confirm itself.
    """

    metric: str
    encoder: str
    unit: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class LabelsKept:
    """How much of each class a probe trained on the calibration half finds: its mean recall.

    Every class that all sets have counts alike, so that calling everything by the most frequent
    one is worth 1 / classes.
    """

    before: float
    after: float
    real: float
    """Of real samples that it was not trained on: more cannot be expected."""
    guess: float
    """Of one who gives all samples the same label."""
    fell: tuple[float, float]
    """Interval for ``before - after``."""
    short: tuple[float, float]
    """Interval for ``real - after``."""
    lost: bool
    """Whether it fell *and* is short of the real samples, both beyond their intervals."""


@dataclass(frozen=True, slots=True)
class CorrectionResult:
    """What was done, and whether it helped."""

    improved: bool
    reasons: tuple[Message, ...]
    names: tuple[str, str]
    """What the real and the synthetic set are called."""
    modality: str
    n_real: int
    n_calibration: int
    n_judge: int
    n_synthetic: int
    n_corrected: int
    n_failed: int
    drifted: tuple[Drifted, ...]
    corrections: tuple[dict[str, Any], ...]
    """As :func:`~evalsuite.generators.spec` describes operations: with these it can be replayed."""
    skipped: tuple[tuple[str, Message], ...]
    """Corrections that were tried and refused, and why."""
    selections: tuple[tuple[str, tuple[Message, ...]], ...]
    """Name, and what it did."""
    selected: Selected | None
    labels_kept: LabelsKept | None
    labels_unjudged: Message | None
    """Why labels could not be judged; None where they were."""
    comparisons: tuple[Comparison, ...]
    ties: tuple[TieChange, ...]
    """Of records with several parts that the gate measured together."""
    verdict_before: str
    verdict_after: str | None
    level: float
    seed: int
    command: str
    """What makes it again."""

    @property
    def exit_code(self) -> int:
        """0 if it helped, 1 if not."""
        return 0 if self.improved else 1


def result_json(result: CorrectionResult) -> str:
    """Give ``correction.json``."""

    def plain(value: Message) -> dict[str, Any]:
        return value.model_dump()

    return json.dumps(asdict(result), indent=1, allow_nan=False, default=plain) + "\n"


def recipe_of(result: CorrectionResult) -> str | None:
    """Give the corrections as a recipe for ``evalsuite generate``; None where there is none.

    It does to another set what was done to this one. What was selected, it cannot repeat: that
    depends on the samples that are there.
    """
    if not result.corrections:
        return None
    import yaml

    steps = [{c["name"]: c["params"]} for c in result.corrections]
    recipe = {"version": 1, "name": "correction", "seed": result.seed, "steps": steps}
    return str(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))


def _interval(ends: tuple[float, float]) -> str:
    return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


def summary(result: CorrectionResult) -> str:
    """Write a result as Markdown, for people."""
    from ..report.text import clean, number

    lines = [
        f"# {'Improved' if result.improved else 'Not improved'}",
        "",
        *(f"- {clean(reason.text, 400)}" for reason in result.reasons),
        "",
        f"{result.n_synthetic} synthetic samples ({result.modality}); {result.n_calibration} real "
        f"samples to fit on, {result.n_judge} others to judge on. Gate: {result.verdict_before} "
        f"→ {result.verdict_after or 'not run'}.",
        "",
    ]
    if result.drifted:
        lines += [
            "## What drifted",
            "",
            "| attribute | effect (real sd) | what acts on it | correction |",
            "|---|---|---|---|",
            *(
                f"| {d.attribute} | {number(d.effect)} | {d.acts} | "
                f"{', '.join(d.corrections) or '–'} |"
                for d in result.drifted
            ),
            "",
        ]
    if result.corrections:
        lines += ["Applied, in order: " + ", ".join(c["name"] for c in result.corrections) + ".",
                  ""]  # fmt: skip
    lines += [f"Not applied: {name}: {clean(why.text, 400)}.\n" for name, why in result.skipped]
    lines += [
        f"Selected by {name}: {clean('; '.join(m.text for m in what))}.\n"
        for name, what in result.selections
    ]
    if result.n_failed:
        lines += [f"{result.n_failed} samples could not be corrected and are left out.", ""]
    if (s := result.selected) is not None:
        lines += [
            "| set | n | precision | coverage |",
            "|---|---|---|---|",
            *(
                f"| {name} | {x.n} | {number(x.precision)} | {number(x.coverage)} |"
                for name, x in (
                    ("before selection", s.before),
                    ("after selection", s.after),
                    ("random, of the same size", s.random),
                )
            ),
            "",
        ]
    if (kept := result.labels_kept) is not None:
        lines += [
            f"A probe trained on real data finds {kept.before:.1%} of each class before and "
            f"{kept.after:.1%} after (mean over classes; {kept.real:.1%} of real samples that it "
            f"has not seen, {kept.guess:.1%} by a guess). It fell by {_interval(kept.fell)} "
            f"points, and is short of real samples by {_interval(kept.short)}: labels are "
            f"{'lost' if kept.lost else 'kept'}.",
            "",
        ]
    elif result.labels_unjudged is not None and result.comparisons:
        lines += [f"Labels were not judged: {clean(result.labels_unjudged.text, 400)}.", ""]
    for tie in result.ties:
        lines += [
            f"{tie.metric} ({tie.encoder}): {number(tie.before)} → {number(tie.after)} {tie.unit}. "
            "It is not judged: a score that may have chosen cannot confirm itself.",
            "",
        ]
    if result.comparisons:
        lines += [
            "## Gaps before and after",
            "",
            f"On the judge half, which nothing was fitted on. All intervals hold together at "
            f"{result.level:.0%}.",
            "",
            "| encoder | metric | before | after | change | interval | |",
            "|---|---|---|---|---|---|---|",
            *(
                f"| {c.encoder}{' (second look)' if c.second else ''} | {c.metric} | "
                f"{number(c.before)} | {number(c.after)} | {number(c.change)} | "
                f"[{number(c.low)}, {number(c.high)}] | {c.outcome} |"
                for c in result.comparisons
            ),
            "",
        ]
    return "\n".join(lines)
