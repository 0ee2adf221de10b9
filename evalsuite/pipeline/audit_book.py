"""What the checks of an audit share: the sets that they look at, and what they write down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..gate.audit import EXAMPLES, AuditPolicy, Check, Example, Limit, NotDone
from ..gate.findings import Message

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..data import Dataset
    from ..encoders import Encoded
    from ..gate.policy import Policy
    from .audit_media import Places
    from .run import Run


def say(key: str, **params: str | float | None) -> Message:
    """Give a message of an audit; its words stand in the report's catalogues."""
    from ..report.i18n import Translator

    text = Translator("en").t(f"message.audit_{key}", params)
    return Message(id=f"audit_{key}", text=text, params=params)


@dataclass(slots=True)
class Book:
    """What the checks look at, and what they write down."""

    data: Dataset
    places: Places
    limits: AuditPolicy
    policy: Policy
    gate: Run | None
    vendor: dict[str, Encoded] = field(default_factory=dict)
    real: dict[str, Encoded] = field(default_factory=dict)
    holdout: dict[str, Encoded] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    not_done: list[NotDone] = field(default_factory=list)

    def example(self, sample: str, message: Message, **more: Any) -> Example:
        """Name a sample, at its place."""
        return Example(sample=sample, place=self.places.of(sample), message=message, **more)

    def skip(self, check: str, area: str, why: str, modality: str = "any", **params: Any) -> None:
        """Write down a check that is not possible, and why."""
        message = say(f"skip_{why}", **params)
        self.not_done.append(NotDone(id=check, area=area, modality=modality, message=message))

    def share(
        self,
        check: str,
        area: str,
        limit: Limit,
        examples: Sequence[Example],
        of: int,
        *,
        count: int | None = None,
        modality: str = "any",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Write down a check that counts samples."""
        count = len({e.sample for e in examples}) if count is None else count
        share = count / of if of else 0.0
        self.checks.append(
            Check(
                id=check,
                area=area,
                modality=modality,
                status=limit.status(share),
                count=count,
                of=of,
                value=share,
                warn=limit.warn,
                fail=limit.fail,
                message=say(check, count=count, of=of, share=share),
                examples=tuple(examples[:EXAMPLES]),
                details=dict(details or {}),
            )
        )
