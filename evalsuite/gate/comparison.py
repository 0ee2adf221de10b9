"""The values that ``evalsuite compare`` gives: several synthetic sets against one real set."""

from __future__ import annotations

from pydantic import Field

from .findings import DatasetSummary, Interval, Status, Value

SCHEMA_VERSION = "1.0"


class Score(Value):
    """One candidate in one metric of one encoder."""

    value: float | None
    gap: float | None
    gap_ci: Interval | None
    tolerance: float | None
    status: Status
    rank: int
    """1 + the number of candidates that are better beyond chance: equals share a rank."""
    rank_low: int
    rank_high: int
    """Ranks within which 95 % of the resampled orders lie."""


class Column(Value):
    """One metric of one encoder over all candidates."""

    metric: str
    encoder: str | None
    modality: str
    higher_is_better: bool
    gap_unit: str
    scores: dict[str, Score]
    """Candidate to score."""
    monotone: float | None = None
    """Kendall's tau-b between the dose and the gap, where doses were given."""
    monotone_ci: Interval | None = None
    """Where tau lies over the resampled samples: how sure the order of these candidates is."""
    monotone_p: float | None = None
    """Over the orders that this many candidates can have: with three it is never under 0.33."""

    @property
    def key(self) -> str:
        """A name that is unique within a comparison."""
        return "/".join([self.modality, self.encoder or "-", self.metric])


class Candidate(Value):
    """One synthetic set."""

    name: str
    verdict: Status
    data: DatasetSummary
    dose: float | None = None
    mean_rank: float
    """Mean of its places over the judged columns and the resampled orders."""
    rank: int
    rank_low: int
    rank_high: int
    fidelity: float | None
    """Precision of the first encoder: the share that lies where real samples lie."""
    coverage: float | None
    """Coverage of the first encoder: the share of real samples with a synthetic one near."""
    copied: float | None
    """Share whose nearest real sample is nearer than 99 % of the real ones are to one another;
    of data as good as real about 0.01."""
    on_front: bool
    """Whether no other candidate is at least as good in all three, and better in one."""


class Comparison(Value):
    """All that a comparison found."""

    schema_version: str = SCHEMA_VERSION
    evalsuite_version: str
    real: DatasetSummary
    candidates: tuple[Candidate, ...]
    """The best first."""
    columns: tuple[Column, ...]
    knob: str | None = None
    """The generator's setting that the doses are of, where it was named."""
    agreement: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    """Kendall's tau-b between columns over the candidates; with fewer than three, empty."""
    replicates: int
    level: float
    policy_sha256: str
    seed: int
    command: str
