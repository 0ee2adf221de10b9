"""The values that ``evalsuite audit`` gives and takes: checks, suspects, thresholds and claims."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import PolicyError
from ..strict_yaml import read_mapping, read_text
from .findings import DatasetSummary, EncoderSummary, Message, Reason, Status, Value
from .policy import Policy, load_policy, parse_policy

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = "1.0"
EXAMPLES = 500
"""A check names at most so many samples; its count is of all."""

AREAS = (
    "integrity", "labels", "balance", "privacy", "copies", "quality", "diversity", "provenance",
    "claims",
)  # fmt: skip
"""In the order in which the page shows them."""


class Place(Value):
    """Where a sample stands: a line of the manifest, else its file; relative to the data set."""

    uri: str
    line: int | None = None


class Example(Value):
    """A sample that a check found, and what is wrong with it."""

    sample: str
    place: Place
    message: Message
    partner: str | None = None
    """The sample that it repeats, where there is one."""
    partner_role: Literal["vendor", "real", "holdout"] | None = None


class Check(Value):
    """One thing that was looked at."""

    id: str
    area: str
    modality: str = "any"
    status: Status
    count: int | None = None
    """Samples found; None where the check counts no samples."""
    of: int | None = None
    """Samples looked at."""
    value: float | None = None
    """What the thresholds are compared with."""
    warn: float | None = None
    fail: float | None = None
    p_value: float | None = None
    message: Message
    examples: tuple[Example, ...] = ()
    """At most :data:`EXAMPLES`."""
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name that is unique within one result."""
        return self.id if self.modality == "any" else f"{self.id}/{self.modality}"


class NotDone(Value):
    """A check that was not possible: no verdict on it, and never a pass."""

    id: str
    area: str
    modality: str = "any"
    message: Message

    @property
    def key(self) -> str:
        """As :attr:`Check.key`."""
        return self.id if self.modality == "any" else f"{self.id}/{self.modality}"


class Suspect(Value):
    """A label that a model trained on the other samples does not believe."""

    sample: str
    place: Place
    modality: str
    label: str
    suggested: str
    p_label: float
    """Cross-validated probability of the given label."""
    p_suggested: float


class GateSummary(Value):
    """What the gate said of the set against the real one; its own report has the rest."""

    verdict: Status
    reasons: tuple[Reason, ...]
    explanations: tuple[Message, ...] = ()
    findings: int
    report: str = "gate/report.html"
    """Relative to the audit's folder."""


class AuditResult(Value):
    """All that an audit found: the one object that every output is made from."""

    schema_version: str = SCHEMA_VERSION
    evalsuite_version: str
    verdict: Status
    exit_code: int
    checks: tuple[Check, ...]
    not_done: tuple[NotDone, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    """The least believed label first."""
    vendor: DatasetSummary
    real: DatasetSummary | None = None
    holdout: DatasetSummary | None = None
    gate: GateSummary | None = None
    croissant: dict[str, str] = Field(default_factory=dict)
    """Fields of ``croissant.json`` as text, where there is one."""
    claims: dict[str, Any] | None = None
    claims_sha256: str | None = None
    policy: dict[str, Any]
    """The thresholds, defaults included."""
    gate_policy_sha256: str
    encoders: tuple[EncoderSummary, ...] = ()
    seed: int
    command: str
    versions: dict[str, str]
    times: dict[str, Any] = Field(default_factory=dict)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Limit(_Strict):
    """Two thresholds on a share: above the one it warns, above the other it fails."""

    warn: Annotated[float, Field(ge=0, le=1, description="Warns above.")] = 0.0
    fail: Annotated[float, Field(ge=0, le=1, description="Fails above.")] = 0.01

    @model_validator(mode="after")
    def _in_order(self) -> Limit:
        if self.warn > self.fail:
            raise ValueError(f"warn ({self.warn}) lies above fail ({self.fail})")
        return self

    def status(self, share: float) -> Status:
        """Judge a share."""
        if share > self.fail:
            return Status.FAIL
        return Status.WARN if share > self.warn else Status.PASS


class AuditPolicy(_Strict):
    """The thresholds of an audit: the section ``audit`` of a policy file."""

    alpha: Annotated[
        float, Field(gt=0, lt=0.5, description="Level of each test that an audit makes.")
    ] = 0.01
    unreadable: Annotated[Limit, Field(description="Samples that could not be used.")] = Limit()
    mislabelled_type: Annotated[
        Limit, Field(description="Files whose content is not what their ending says.")
    ] = Limit(warn=0.0, fail=0.05)
    duplicates: Annotated[
        Limit, Field(description="Samples that repeat an earlier one of the set exactly.")
    ] = Limit(warn=0.0, fail=0.05)
    copies_of_real: Annotated[
        Limit, Field(description="Samples that are a real one, or hardly to be told from it.")
    ] = Limit()
    copies_of_holdout: Annotated[
        Limit, Field(description="The same for the holdout: a test set that leaked is none.")
    ] = Limit(warn=0.0, fail=0.0)
    near_quantile: Annotated[
        float,
        Field(gt=0, le=0.1, description="A near copy is nearer than this share of real samples."),
    ] = 0.01
    max_near_excess: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Near copies beyond chance warn; above this share more than chance, fail.",
        ),
    ] = 0.05
    label_suspects: Annotated[
        Limit, Field(description="Labels that a cross-validated probe does not believe.")
    ] = Limit(warn=0.02, fail=0.1)
    conflicting_labels: Annotated[
        Limit, Field(description="Samples whose exact content has another label elsewhere.")
    ] = Limit()
    class_shift: Annotated[
        Limit,
        Field(description="Half the summed differences of class shares from the real set."),
    ] = Limit(warn=0.1, fail=0.3)
    metadata_leaks: Annotated[
        Limit, Field(description="Files with a position, an owner or a serial number in them.")
    ] = Limit()
    personal_text: Annotated[
        Limit, Field(description="Texts with personal data that rules can know.")
    ] = Limit()
    personal_kinds: Annotated[
        tuple[Literal["email", "phone", "iban", "card", "my_number", "ip", "url", "date"], ...],
        Field(strict=False, description="What counts as personal data."),
    ] = ("email", "phone", "iban", "card", "my_number")
    lost_variety: Annotated[
        Limit,
        Field(description="1 − ratio of Vendi scores: the lower end of its interval is judged."),
    ] = Limit(warn=0.1, fail=0.3)
    subgroup_gap: Annotated[
        Limit,
        Field(
            description="Gap within the worst class, as a share of the real variance; the lower "
            "end of its interval is judged."
        ),
    ] = Limit(warn=0.05, fail=0.15)
    other_languages: Annotated[
        Limit, Field(description="Texts in a language that was not promised, by guess.")
    ] = Limit(warn=0.0, fail=0.05)
    required_fields: Annotated[
        tuple[str, ...],
        Field(strict=False, description="Fields of croissant.json that are due; prov: any."),
    ] = ("license", "creator", "citeAs", "prov")
    missing_fields: Annotated[
        Literal["warn", "fail"], Field(description="What a field that is missing is worth.")
    ] = "warn"


class Amount(_Strict):
    """A promised number: exactly, or within bounds."""

    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int | None, Field(ge=0)] = None

    def holds(self, count: int) -> bool:
        """Whether a count keeps the promise."""
        return self.min <= count and (self.max is None or count <= self.max)


class ClassClaim(_Strict):
    """What was promised of one class: a count or a share, with its tolerance."""

    count: Annotated[int | None, Field(ge=0)] = None
    share: Annotated[float | None, Field(ge=0, le=1)] = None
    tolerance: Annotated[
        float | None,
        Field(ge=0, le=1, description="Of a count its share, of a share the difference."),
    ] = None

    @model_validator(mode="after")
    def _one_of_them(self) -> ClassClaim:
        if (self.count is None) == (self.share is None):
            raise ValueError("give either count or share")
        return self


class Claims(_Strict):
    """What was promised: ``claims.yaml``. Only what is named is checked."""

    version: Literal[1] = 1
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="For classes without their own: of a count its share, of a share the "
            "difference.",
        ),
    ] = 0.0
    samples: Annotated[
        Amount | None, Field(description="Usable samples: a number, or min and max.")
    ] = None
    classes: Annotated[
        dict[str, ClassClaim] | None,
        Field(description="Class to a count (whole number), a share, or {count|share, tolerance}."),
    ] = None
    modalities: Annotated[
        tuple[Literal["image", "audio", "text"], ...] | None, Field(strict=False)
    ] = None
    sample_rate: Annotated[
        tuple[Annotated[int, Field(gt=0)], ...] | None,
        Field(strict=False, description="Hz of the recordings' files; one, or a list of allowed."),
    ] = None
    min_resolution: Annotated[
        tuple[int, int] | None, Field(strict=False, description="Width and height in pixels.")
    ] = None
    max_resolution: Annotated[tuple[int, int] | None, Field(strict=False)] = None
    languages: Annotated[
        tuple[str, ...] | None, Field(strict=False, description="ISO 639-1 codes of the texts.")
    ] = None
    formats: Annotated[
        tuple[str, ...] | None,
        Field(strict=False, description="By content: PNG, JPEG, WEBP, WAV, FLAC, OGG, MP3 …"),
    ] = None
    licence: Annotated[
        str | None, Field(description="SPDX id or address that croissant.json must name.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, data: Any) -> Any:
        """Read a number where a mapping may stand."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if _whole(data.get("samples")):
            data["samples"] = {"min": data["samples"], "max": data["samples"]}
        if _whole(data.get("sample_rate")):
            data["sample_rate"] = [data["sample_rate"]]
        if isinstance(classes := data.get("classes"), dict):
            data["classes"] = {
                str(name): {"count": claim}
                if _whole(claim)
                else {"share": claim}
                if isinstance(claim, float)
                else claim
                for name, claim in classes.items()
            }
        return data

    @model_validator(mode="after")
    def _something(self) -> Claims:
        if not self.model_fields_set - {"version", "tolerance"}:
            raise ValueError("nothing is claimed: name samples, classes, formats …")
        return self

    def canonical(self) -> dict[str, Any]:
        """All that is claimed, as plain data."""
        return self.model_dump(mode="json", exclude_none=True)

    def sha256(self) -> str:
        """Hash over :meth:`canonical`."""
        text = json.dumps(self.canonical(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def class_bounds(self, name: str, total: int) -> tuple[int, int]:
        """Give the least and the largest count of a class that keep the promise."""
        claim = (self.classes or {})[name]
        slack = self.tolerance if claim.tolerance is None else claim.tolerance
        if claim.count is not None:
            low, high = claim.count * (1 - slack), claim.count * (1 + slack)
        else:
            share = claim.share or 0.0
            low, high = (share - slack) * total, (share + slack) * total
            if slack == 0:  # a share of so many samples can be kept to the next sample only
                low, high = math.floor(low), math.ceil(high)
        return max(0, math.ceil(low - 1e-9)), math.floor(high + 1e-9)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_INNER: dict[str, type[BaseModel]] = {"samples": Amount, "classes": ClassClaim}


def _explain(error: ValidationError, where: str, model: type[BaseModel]) -> str:
    lines: dict[str, None] = {}
    for item in error.errors(include_url=False):
        location = [str(part) for part in item["loc"]]
        path = ".".join(location) or "the file"
        if item["type"] == "extra_forbidden":
            inner: type[BaseModel] = model
            if len(location) > 1:
                inner = _INNER.get(location[0], Limit)
            known = list(inner.model_fields)
            close = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
            lines[f"  {path}: unknown key; {hint}"] = None
        else:
            lines[f"  {path}: {item['msg']} (got {str(item['input'])[:80]!r})"] = None
    return f"{where} is not valid:\n" + "\n".join(lines)


def load_claims(path: str | Path) -> Claims:
    """Read ``claims.yaml``.

    Raises
    ------
    PolicyError
        Naming each wrong key or value, with the key that was probably meant.
    """
    data = read_mapping(read_text(path, "claims file", PolicyError), str(path), PolicyError)
    try:
        return Claims.model_validate(data)
    except ValidationError as error:
        raise PolicyError(_explain(error, str(path), Claims)) from None


def load_audit_policy(path: str | Path | None = None) -> tuple[AuditPolicy, Policy]:
    """Read a policy file with a section ``audit`` beside what the gate asks.

    Parameters
    ----------
    path : path-like, optional
        Without it, the defaults. A file with nothing but ``audit`` leaves the gate its default.

    Returns
    -------
    audit : AuditPolicy
    gate : Policy

    Raises
    ------
    PolicyError
        As :func:`~evalsuite.gate.policy.load_policy`.
    """
    if path is None:
        return AuditPolicy(), load_policy()
    data = read_mapping(read_text(path, "policy", PolicyError), str(path), PolicyError)
    section = data.pop("audit", {})
    if not isinstance(section, dict):
        raise PolicyError(f"{path}: audit must be a mapping of keys, got {section!r:.80}")
    try:
        own = AuditPolicy.model_validate(section)
    except ValidationError as error:
        raise PolicyError(_explain(error, f"{path}: audit", AuditPolicy)) from None
    if not set(data) - {"version", "name"}:
        return own, load_policy()
    return own, parse_policy(json.dumps(data, default=str), str(path))
