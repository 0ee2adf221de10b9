"""What every metric's result is made of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval, and how it was made.

    Attributes
    ----------
    low, high : float
        The ends, in the metric's own unit.
    level : float
        Nominal coverage, for example 0.95.
    method : str
        A name for the construction, for example ``"u-statistic-normal"``.
    """

    low: float
    high: float
    level: float
    method: str

    def __post_init__(self) -> None:
        if not 0.0 < self.level < 1.0:
            raise ValueError(f"level must lie strictly between 0 and 1, got {self.level}")
        # Written so that a NaN end fails as well.
        if not self.low <= self.high:
            raise ValueError(f"an interval needs low <= high, got [{self.low}, {self.high}]")

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class Scalar:
    """Base of the results that stand for one number: ``float(result)`` gives it."""

    value: float

    def __float__(self) -> float:
        return self.value
