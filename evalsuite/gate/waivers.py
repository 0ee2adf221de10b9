"""Waivers: findings that are let pass for a time, for a reason, on somebody's word."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import PolicyError
from ..strict_yaml import read_mapping, read_text
from .findings import Finding, Message, Reason, Status, Waived

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WAIVABLE = (Status.FAIL, Status.INCONCLUSIVE)
"""What was measured and is not good enough; what could not be measured cannot be waived."""
_UNREAD = "any/-/unreadable_share/"
"""Nor can what could not be read: nobody knows what is in it."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Waiver(_Strict):
    """A finding that is let pass for a time."""

    finding: Annotated[
        str,
        Field(
            min_length=3,
            max_length=500,
            description="modality/encoder/metric/slice; * stands for anything.",
        ),
    ]
    reason: Annotated[str, Field(min_length=10, max_length=500)]
    expires: Annotated[date, Field(description="The last day on which it holds.")]
    owner: Annotated[str, Field(min_length=1, max_length=100)]

    @model_validator(mode="after")
    def _not_everything(self) -> Waiver:
        if not self.finding.replace("*", "").strip("/"):
            raise ValueError("a waiver for everything is no waiver: name a metric")
        return self

    def holds(self, key: str, today: date) -> bool:
        """Whether it lets a finding pass on a day."""
        return today <= self.expires and fnmatchcase(key, self.finding)


class _Waivers(_Strict):
    version: Annotated[int, Field(ge=1, le=1)] = 1
    waivers: tuple[Waiver, ...]


def load_waivers(path: str | Path) -> tuple[Waiver, ...]:
    """Read a file of waivers.

    Raises
    ------
    PolicyError
        If it is not valid: each waiver needs a finding, a reason, an owner and a last day.
    """
    text = read_text(path, "file of waivers", PolicyError)
    try:
        return _Waivers.model_validate(read_mapping(text, str(path), PolicyError)).waivers
    except ValidationError as error:
        raise PolicyError(f"{path} is no valid file of waivers:\n{told(error)}") from None


def told(error: ValidationError) -> str:
    """Say what is wrong with a file, a line for each of the first five faults."""
    items = error.errors(include_url=False)[:5]
    return "\n".join(f"  {'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in items)


def waiver_for(key: str, status: Status, waivers: Sequence[Waiver], today: date) -> Waiver | None:
    """Give the waiver that lets a finding pass, if there is one and the finding needs it."""
    if status not in WAIVABLE or key.startswith(_UNREAD):
        return None
    return next((w for w in waivers if w.holds(key, today)), None)


def apply_waivers(
    findings: Sequence[Finding],
    reasons: Sequence[Reason],
    waivers: Sequence[Waiver],
    *,
    today: date,
) -> tuple[list[Finding], list[Reason]]:
    """Turn what is waived into warnings, and each waiver that has ended into an error.

    Parameters
    ----------
    findings, reasons : sequence
        As judged by the policy alone.
    waivers : sequence of Waiver
    today : date

    Returns
    -------
    findings, reasons : list
        A waived one is a warning that says what it was without; it is never a pass. A waiver that
        has ended is a finding of its own, whatever became of the one that it named: somebody is
        to renew it or take it out.
    """
    held: dict[str, Waived] = {}
    new = []
    for finding in findings:
        waiver = waiver_for(finding.key, finding.status, waivers, today)
        if waiver is None:
            new.append(finding)
            continue
        held[finding.key] = Waived(
            status=finding.status, **waiver.model_dump(include={"reason", "owner", "expires"})
        )
        new.append(finding.model_copy(update={"status": Status.WARN, "waiver": held[finding.key]}))
    said = [
        r.model_copy(update={"status": Status.WARN, "waiver": held[r.finding]})
        if r.finding in held
        else r
        for r in reasons
    ]
    for waiver in dict.fromkeys(waivers):
        if today <= waiver.expires:
            continue
        message = Message(
            id="waiver_expired",
            text=f"The waiver for {waiver.finding} ended on {waiver.expires} ({waiver.owner}): "
            "take it out of the file, or renew it with a reason.",
            params={
                "finding": waiver.finding,
                "expires": waiver.expires.isoformat(),
                "owner": waiver.owner,
            },
        )
        finding = Finding(
            kind="waiver",
            modality="any",
            metric="waiver_expired",
            slice=waiver.finding,
            value=None,
            n_real=0,
            n_synthetic=0,
            status=Status.ERROR,
            message=message,
        )
        new.append(finding)
        said.append(Reason(status=Status.ERROR, finding=finding.key, message=message))
    return new, said
