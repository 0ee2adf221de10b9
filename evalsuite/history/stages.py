"""Stages of a project with the gaps that each allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import PolicyError
from ..gate.findings import Status, worst
from ..gate.waivers import told, waiver_for
from ..strict_yaml import read_mapping, read_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date
    from pathlib import Path

    from ..gate.waivers import Waiver
    from .store import FindingRow, ReasonRow


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Target(_Strict):
    """The largest gap of a metric that a stage allows."""

    metric: str
    max_gap: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    modality: str = "*"
    encoder: str = "*"
    slice: str = "all"

    def matches(self, finding: FindingRow) -> bool:
        """Whether it is about a finding."""
        return (
            self.metric == finding.metric
            and self.modality in ("*", finding.modality)
            and self.encoder in ("*", finding.encoder)
            and self.slice == finding.slice
        )

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What it is about."""
        return (self.metric, self.modality, self.encoder, self.slice)


class Stage(_Strict):
    """One stage."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    batches: Annotated[
        int, Field(ge=1, le=100, description="So many batches in a row must meet the targets.")
    ] = 1


class Stages(_Strict):
    """All stages, the loosest first."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_is_stricter(self) -> Stages:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("two stages have the same name")
        for earlier, later in zip(self.stages, self.stages[1:], strict=False):
            limits = {t.place: t.max_gap for t in later.targets}
            for target in earlier.targets:
                if target.place not in limits:
                    raise ValueError(
                        f"{later.name!r} has no target for {target.metric}, which "
                        f"{earlier.name!r} has: a later stage asks for no less"
                    )
                if limits[target.place] > target.max_gap:
                    raise ValueError(
                        f"{later.name!r} allows a larger gap of {target.metric} than "
                        f"{earlier.name!r}: a later stage is no looser"
                    )
        return self

    def find(self, name: str) -> int:
        """Give the position of a stage.

        Raises
        ------
        PolicyError
            If there is none of this name.
        """
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise PolicyError(f"there is no stage {name!r}; there are {', '.join(names)}")
        return names.index(name)


def load_stages(path: str | Path) -> Stages:
    """Read a file of stages.

    Raises
    ------
    PolicyError
        If it is not valid; unknown keys are refused.
    """
    text = read_text(path, "file of stages", PolicyError)
    try:
        return Stages.model_validate(read_mapping(text, str(path), PolicyError))
    except ValidationError as error:
        raise PolicyError(f"{path} is no valid file of stages:\n{told(error)}") from None


@dataclass(frozen=True, slots=True)
class TargetState:
    """A target on one batch: ``PASS`` met, ``FAIL`` not met, ``INCONCLUSIVE``, ``ERROR`` missing.

    ``WARN`` is not met, but waived.
    """

    target: Target
    status: Status
    gap: float | None = None
    high: float | None = None
    waiver: Waiver | None = None


@dataclass(frozen=True, slots=True)
class StageState:
    """A stage on the latest batches."""

    stage: Stage
    targets: tuple[TargetState, ...]
    """On the latest batch."""
    in_a_row: int
    """Batches, the latest included, that meet all targets."""
    status: Status
    """``PASS`` reached; else the worst of the targets, ``INCONCLUSIVE`` while batches lack."""


def judge_stages(
    stages: Stages,
    batches: Sequence[Sequence[FindingRow]],
    waivers: Sequence[Waiver] = (),
    *,
    today: date,
) -> tuple[StageState, ...]:
    """Say which stages a series has reached.

    A target is met where the whole interval of the gap lies at or below its limit, not met where
    it lies above, and else inconclusive. A metric that was not measured never meets a target. A
    waiver, as long as it holds, stands in for a target that is not met.

    Parameters
    ----------
    stages : Stages
    batches : sequence of sequence of FindingRow
        The findings of each run, the oldest first; at least one run.
    waivers : sequence of Waiver
    today : date

    Returns
    -------
    tuple of StageState
        In the order of the stages. A stage is reached only if all before it are.
    """
    states: list[StageState] = []
    before = Status.PASS
    for stage in stages.stages:
        latest = _targets(stage, batches[-1], waivers, today)
        status = worst([t.status for t in latest])
        in_a_row = 0
        for batch in reversed(batches):
            met = worst([t.status for t in _targets(stage, batch, waivers, today)])
            if met not in (Status.PASS, Status.WARN):
                break
            in_a_row += 1
        if status in (Status.PASS, Status.WARN) and in_a_row < stage.batches:
            status = Status.INCONCLUSIVE
        status = worst([status, before])
        before = status
        states.append(StageState(stage, latest, in_a_row, status))
    return tuple(states)


def _targets(
    stage: Stage, findings: Sequence[FindingRow], waivers: Sequence[Waiver], today: date
) -> tuple[TargetState, ...]:
    states = []
    for target in stage.targets:
        found = [f for f in findings if target.matches(f)]
        if not found:
            states.append(TargetState(target, Status.ERROR))
        for f in found:
            status = Status.INCONCLUSIVE
            if f.gap is not None and f.gap_low is not None and f.gap_high is not None:
                if f.gap_high <= target.max_gap:
                    status = Status.PASS
                elif f.gap_low > target.max_gap:
                    status = Status.FAIL
            waiver = next((w for w in waivers if w.holds(f.key, today)), None)
            if status is not Status.PASS and waiver is not None:
                states.append(TargetState(target, Status.WARN, f.gap, f.gap_high, waiver))
            else:
                states.append(TargetState(target, status, f.gap, f.gap_high))
    return tuple(states)


def waived_verdict(
    verdict: Status, reasons: Sequence[ReasonRow], waivers: Sequence[Waiver], *, today: date
) -> tuple[Status, int]:
    """Give a run's verdict with the waivers that hold, and how many reasons they let pass.

    A waived reason counts as a warning, never as a pass. Reasons without a finding, as a metric
    that is missing, cannot be waived.
    """
    left, waived = [], 0
    for reason in reasons:
        if reason.finding and waiver_for(reason.finding, reason.status, waivers, today):
            left.append(Status.WARN)
            waived += 1
        else:
            left.append(reason.status)
    return (worst(left), waived) if waived else (verdict, 0)
