"""What simple operations share: settings that are numbers or ranges, drawn and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np

from .items import Partners
from .protocol import draw_seed
from .values import Modality, Params

Span: TypeAlias = float | Sequence[float]
"""A number, or ``[low, high]`` from which each item's number is drawn evenly."""


@dataclass(frozen=True)
class Effect:
    """An operation whose settings are its dataclass fields.

    A field that :attr:`limits` names is a :data:`Span`, from which a number is drawn for each item
    under the field's name. Where :attr:`seeded`, a seed is drawn too, for :meth:`apply`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    input: ClassVar[Modality]
    output: ClassVar[Modality]
    limits: ClassVar[Mapping[str, tuple[float, float]]] = {}
    seeded: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the spans.

        Raises
        ------
        ValueError
            If one is out of its limits, or is neither a number nor ``[low, high]``.
        """
        for name, (least, most) in self.limits.items():
            given = getattr(self, name)
            numbers = list(given) if isinstance(given, Sequence) else [given, given]
            if (
                len(numbers) != 2
                or not all(map(math.isfinite, numbers))
                or numbers != sorted(numbers)
            ):
                raise ValueError(f"{name} must be a number or [low, high], got {given!r}")
            if numbers[0] < least or numbers[1] > most:
                raise ValueError(f"{name} must be within [{least:g}, {most:g}], got {given!r}")

    @property
    def params(self) -> Params:
        """The settings."""
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw a number from each span, and the seed."""
        drawn: Params = {"seed": draw_seed(rng)} if self.seeded else {}
        for name in self.limits:
            given = getattr(self, name)
            low, high = given if isinstance(given, Sequence) else (given, given)
            # Drawn whether or not there is a range: a setting does not disturb the next.
            drawn[name] = float(low + (high - low) * rng.random())
        return drawn

    def apply(self, value: Any, params: Params) -> Any:
        """Make the output: a pure function of the value and the drawn parameters."""
        raise NotImplementedError


@dataclass(frozen=True)
class TwoParents(Effect):
    """An effect that takes a second item of the same split: its ``partner``."""

    partners: ClassVar[Partners | None] = None

    def with_partners(self, partners: Partners) -> Self:
        """Give the same operation with a place where the partner is found."""
        bound = copy(self)
        object.__setattr__(bound, "partners", partners)
        return bound

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the partner and the rest."""
        return {**super().sample_params(rng), "partner": self._found().draw(rng, self.input)}

    def second(self, params: Params) -> Any:
        """Give the partner's part."""
        return self._found().value(params["partner"], self.input)

    def _found(self) -> Partners:
        if self.partners is None:
            raise ValueError(
                f"{self.name} takes a second item: give partners=, the items to draw it from"
            )
        return self.partners
