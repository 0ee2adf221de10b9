"""The values that the gate gives and the report takes: findings, verdict, result.

Everything here is plain data (pydantic, frozen): it is written to ``result.json`` as it is, and
every other output (HTML, Markdown, JUnit) is made from it and from nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = "1.0"


class Status(StrEnum):
    """How one finding, or the whole gate, ended. ``INFO`` is for a finding that no rule judges."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    WARN = "warn"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"
    INFO = "info"


WORST_FIRST = (Status.ERROR, Status.FAIL, Status.INCONCLUSIVE, Status.WARN, Status.PASS)
"""The order in which verdicts outweigh one another; ``INFO`` is none."""


def worst(statuses: Iterable[Status]) -> Status:
    """Give the worst of some verdicts; of nothing that is judged, a pass."""
    found = set(statuses)
    return next((status for status in WORST_FIRST if status in found), Status.PASS)


class Value(BaseModel):
    """Base: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Interval(Value):
    """A confidence interval."""

    low: float
    high: float
    level: float = 0.95
    method: str

    @classmethod
    def of(cls, found: Any) -> Interval:
        """Take over the interval of a metric's result, which has the same four fields."""
        return cls(low=found.low, high=found.high, level=found.level, method=found.method)


class Floor(Value):
    """The metric between two disjoint random sets of *real* data: what chance alone gives.

    ``size`` samples a side, ``values`` one for each of the splits (at most 200 are kept).
    """

    size: int
    splits: int
    mean: float
    median: float
    q05: float
    q95: float
    values: tuple[float, ...] = ()


class Null(Value):
    """What permuting the labels real and synthetic gave: the statistic where there is no gap.

    ``values`` are at most 200 of all values in order, evenly spaced; ``observed`` is the same
    statistic on the labels as they are. ``permutations`` is what was used, which a policy of many
    rules raises.
    """

    observed: float
    permutations: int
    values: tuple[float, ...]


class Message(Value):
    """A sentence for people: ``id`` and ``params`` for translation, ``text`` in English."""

    id: str
    text: str
    params: dict[str, str | int | float | None] = Field(default_factory=dict)

    def __str__(self) -> str:
        return self.text


class Waived(Value):
    """The waiver that lets a finding pass as a warning, and what it was without."""

    status: Status
    reason: str
    owner: str
    expires: date


class Finding(Value):
    """One metric × encoder × slice.

    ``value`` is the metric on all samples. ``matched`` is its mean over random halves of the
    floor's size, so that it may be compared with the floor. ``gap`` is what is left of it beyond
    chance, in ``gap_unit``, which does not depend on n: the policy's tolerance is in this unit.
    """

    kind: Literal["distribution", "attribute", "integrity", "tie", "waiver"]
    """``tie``: what holds modalities together, as a caption and its image. ``waiver``: a waiver
    that has ended and is still in the file."""
    modality: str
    """image · audio · text; of a tie both, as in ``image+text``."""
    metric: str
    encoder: str | None = None
    slice: str = "all"
    value: float | None
    unit: str = ""
    higher_is_better: bool | None = None
    best: float | None = None
    n_real: int
    n_synthetic: int
    floor: Floor | None = None
    matched: float | None = None
    gap_ratio: float | None = None
    gap: float | None = None
    gap_ci: Interval | None = None
    gap_unit: str = ""
    min_detectable_gap: float | None = None
    n_required: int | None = None
    p_value: float | None = None
    p_method: str | None = None
    null: Null | None = None
    p_adjusted: float | None = None
    detected: bool | None = None
    """Whether ``p_adjusted`` is at or under the policy's alpha: the gap is more than chance."""
    tolerance: float | None = None
    status: Status = Status.INFO
    waiver: Waived | None = None
    message: Message | None = None
    details: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        """A name that is unique within one result."""
        return "/".join([self.modality, self.encoder or "-", self.metric, self.slice])


class Problem(Value):
    """A sample that could not be used, and why."""

    sample: str
    kind: str
    """unreadable · truncated · oversized · not_an_image · outside_folder · missing …"""
    detail: str


class DatasetSummary(Value):
    """What was found in one data set; nothing that is left out goes uncounted."""

    role: Literal["real", "synthetic", "holdout"]
    name: str
    format: str
    fingerprint: str
    """Over the content of every sample; two sets with the same content have the same one."""
    n_found: int
    n_used: int
    problems: dict[str, int] = Field(default_factory=dict)
    """Kind to count: all of them."""
    problem_examples: tuple[Problem, ...] = ()
    """At most 100 are listed by name."""
    ignored: dict[str, int] = Field(default_factory=dict)
    """Files that are no samples, by kind: hidden, system, companion …"""
    n_duplicates: int = 0
    """Samples whose bytes repeat an earlier one of the same set."""
    n_exact_copies: int = 0
    """Of a synthetic set: samples whose bytes are those of a real one."""
    labels: dict[str, int] = Field(default_factory=dict)
    groups: int | None = None
    """Number of groups, where the data names any."""
    notes: dict[str, int] = Field(default_factory=dict)
    """How many samples had a treatment: grey, palette, alpha, cmyk, 16-bit, exif-rotated …"""
    modalities: dict[str, int] = Field(default_factory=dict)
    """Modality to the number of samples whose part of it could be used."""


class EncoderSummary(Value):
    """Which model made the features, to the byte."""

    id: str
    modality: str
    dim: int
    weights_sha256: str
    weights_source: str
    backend: str
    preprocessing: dict[str, Any]


class PluginSummary(Value):
    """Code of another distribution that took part in the run."""

    kind: Literal["metric", "encoder"]
    name: str
    target: str
    """``module:attribute`` of its entry point."""
    distribution: str
    version: str


class Reason(Value):
    """Why the verdict is what it is; the first is the most important one."""

    status: Status
    finding: str | None = None
    message: Message
    waiver: Waived | None = None


class MapPoint(Value):
    """A sample in the embedding map."""

    side: Literal["real", "synthetic"]
    sample: str
    x: float
    y: float
    label: str | None = None
    group: str | None = None
    covered: bool | None = None
    """Of a real sample: a synthetic one lies among its nearest neighbours. Of a synthetic sample:
    it lies on the real data's manifold."""
    score: float | None = None
    """Held-out score of the classifier: the higher, the more synthetic-looking."""
    text: str | None = None
    """The sample's text, caption or transcript; shortened."""


class EmbeddingMap(Value):
    """The pooled features in a plane: two principal components, or UMAP."""

    encoder: str
    method: str
    explained: tuple[float, float] | None
    """Shares of the variance along the two axes; UMAP's have none."""
    points: tuple[MapPoint, ...]
    shown_of: tuple[int, int]
    """Real and synthetic samples in all: the points are a random part where there are more."""


class GalleryItem(Value):
    """One sample, and the one that it is shown beside."""

    side: Literal["real", "synthetic"]
    sample: str
    score: float
    score_text: str
    partner_side: Literal["real", "synthetic"] | None = None
    partner: str | None = None
    percentile: float | None = None
    """Where the distance to the partner lies among those of real samples to their nearest other
    real one, in per cent: 0 is nearer than any two of them."""
    label: str | None = None
    text: str | None = None
    """The sample's own text, or what was heard; shortened."""
    partner_text: str | None = None
    alignment: tuple[tuple[str, str, str], ...] = ()
    """Words as (operation, wanted, heard): equal, substitute, delete, insert."""


class Gallery(Value):
    """Samples worth looking at, in order."""

    id: str
    """most_synthetic_looking · nearest_real_neighbour · least_covered_real · mismatched …"""
    encoder: str
    modality: str = "image"
    items: tuple[GalleryItem, ...]


class GateResult(Value):
    """All that a run found: the one object that every output is made from."""

    schema_version: str = SCHEMA_VERSION
    evalsuite_version: str
    verdict: Status
    exit_code: int
    reasons: tuple[Reason, ...]
    explanations: tuple[Message, ...] = ()
    """What people could see for themselves: the attributes that differ, the strongest first."""
    findings: tuple[Finding, ...]
    real: DatasetSummary
    synthetic: DatasetSummary
    encoders: tuple[EncoderSummary, ...]
    maps: tuple[EmbeddingMap, ...] = ()
    galleries: tuple[Gallery, ...] = ()
    attributes: dict[str, dict[str, tuple[float, ...]]] = Field(default_factory=dict)
    """Attribute to {"real": …, "synthetic": …}: at most 1,000 values a side, for the overlays."""
    policy: dict[str, Any]
    policy_sha256: str
    calibration: dict[str, Any] = Field(default_factory=dict)
    """What the calibration used, where it is not what the policy says: many rules raise the
    permutations."""
    seed: int
    alpha: float
    command: str
    """The command line that makes this result again."""
    versions: dict[str, str]
    plugins: tuple[PluginSummary, ...] = ()
    """What was not evalsuite's own, of what the policy names."""
    times: dict[str, Any] = Field(default_factory=dict)
    """When and how long: the only part that differs between two runs on the same input."""
