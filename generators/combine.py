"""Operations made of operations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from ..errors import UsageError
from .protocol import Dropped, Hop, Operation, RecipeError, applied, draw_seed, rng_of
from .registry import build, spec, suggestion
from .values import Modality, Params, Parts

Check: TypeAlias = Callable[[Sequence[Hop]], str | None]
"""Looks at what the hops of a chain gave so far; a text says why the sample is dropped."""


@runtime_checkable
class ConsistencyCheck(Protocol):
    """A check that measures: what it finds is recorded with the hop, whether it drops or not.

    One that is known by its name (:func:`register_check`) can stand in a recipe.
    """

    name: ClassVar[str]

    @property
    def params(self) -> Params:
        """The arguments that it was built with."""
        ...

    def measure(self, hops: Sequence[Hop]) -> float | None:
        """Measure the last hop against those before it; None where there is nothing to compare."""
        ...

    def __call__(self, hops: Sequence[Hop]) -> str | None:
        """Give the reason to drop the sample, or None."""
        ...

    def judge(self, value: float) -> str | None:
        """Give the reason to drop a sample with this value, or None."""
        ...


_CHECKS: dict[str, Any] = {}


def register_check(check: Any) -> Any:
    """Make a class of checks known to recipes; usable as a decorator.

    Raises
    ------
    RecipeError
        If its name is taken by another class.
    """
    if _CHECKS.setdefault(check.name, check) is not check:
        raise RecipeError(f"the check {check.name!r} is there already: choose another name")
    return check


def _check(given: Check | Mapping[str, Any]) -> Check:
    """Give a check, or make the one that is described: its name over its arguments."""
    if not isinstance(given, Mapping):
        return given
    if len(given) != 1:
        raise RecipeError(
            f"a check is one name over its arguments, as in word_errors: {{at_most: 0.3}}; got "
            f"{dict(given)!r}"
        )
    name, arguments = next(iter(given.items()))
    if name not in _CHECKS:
        raise RecipeError(f"unknown check {name!r}{suggestion(str(name), sorted(_CHECKS))}")
    try:
        made: Check = _CHECKS[name](**(arguments or {}))
    except (TypeError, ValueError, UsageError) as error:
        raise RecipeError(f"check {name!r} does not take {arguments!r}: {error}") from error
    return made


def _operation(given: Operation | Mapping[str, Any]) -> Operation:
    if isinstance(given, Mapping):
        return build(given)
    if not isinstance(given, Operation):
        raise RecipeError(
            f"{given!r} is not an operation: it needs name, version, input, output, params, "
            "sample_params() and apply()"
        )
    return given


class Compose:
    """Operations one after the other.

    Parameters
    ----------
    operations : sequence of Operation, or of their descriptions
        At least one; each takes what the one before gives.

    Raises
    ------
    RecipeError
        If there is none, or the modalities do not meet.
    """

    name: ClassVar[str] = "compose"
    version: ClassVar[int] = 1

    def __init__(self, operations: Sequence[Operation | Mapping[str, Any]]) -> None:
        self.operations = tuple(_operation(o) for o in operations)
        if not self.operations:
            raise RecipeError("Compose needs at least one operation, got none")
        for i, (a, b) in enumerate(zip(self.operations, self.operations[1:], strict=False)):
            if a.output != b.input:
                raise RecipeError(
                    f"step {i} ({a.name}) gives {a.output}, but step {i + 1} ({b.name}) takes "
                    f"{b.input}: put an operation between them that turns one into the other"
                )

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operations."""
        return self.operations

    def with_parts(self, parts: Sequence[Operation]) -> Compose:
        """Give the same of other operations."""
        return type(self)(parts)

    @property
    def input(self) -> Modality:
        """What the first operation takes."""
        return self.operations[0].input

    @property
    def output(self) -> Modality:
        """What the last operation gives."""
        return self.operations[-1].output

    @property
    def params(self) -> Params:
        """The operations, described."""
        return {"operations": [spec(o) for o in self.operations]}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw for every step; each has a seed of its own, so steps do not disturb each other."""
        seeds = rng.integers(2**53, size=len(self.operations))
        steps = zip(self.operations, seeds, strict=True)
        return {"steps": [o.sample_params(rng_of(int(seed))) for o, seed in steps]}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply every step."""
        return self.apply_traced(value, params)[0]

    def apply_traced(self, value: Any, params: Params) -> tuple[Any, list[Hop]]:
        """Apply every step; gives the hops of the chains among them."""
        hops: list[Hop] = []
        for operation, step in zip(self.operations, params["steps"], strict=True):
            value, inner = applied(operation, value, step)
            hops += inner
        return value, hops


class Chain(Compose):
    """Operations one after the other, with a record of what each gave.

    It is for hops that change the modality, image → caption → speech → transcript: where a sample
    loses its meaning on the way, the record says at which hop.

    Parameters
    ----------
    operations : sequence of Operation, or of their descriptions
        The hops; each takes what the one before gives.
    checks : sequence of callable, or of descriptions, optional
        Each is called after every hop with the hops so far (the first is the input itself), and
        gives None or the reason to drop the sample, which is then counted as dropped. What a
        :class:`ConsistencyCheck` measures is recorded with the hop; one that is registered stands
        in the description too. Other functions have no part in it.

    Raises
    ------
    RecipeError
        If there is no operation, the modalities do not meet, or a check is unknown.
    """

    name: ClassVar[str] = "chain"
    version: ClassVar[int] = 1

    def __init__(
        self,
        operations: Sequence[Operation | Mapping[str, Any]],
        checks: Sequence[Check | Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(operations)
        self._checks = tuple(map(_check, checks))

    @classmethod
    def from_recipe(
        cls, operations: list[Any], checks: list[dict[str, Any]] | None = None
    ) -> Chain:
        """Make it of a recipe's steps, and of checks that are known by name."""
        return cls(operations, checks or ())

    @property
    def params(self) -> Params:
        """The operations and the registered checks, described."""
        known = [
            {c.name: c.params}
            for c in self._checks
            if isinstance(c, ConsistencyCheck) and _CHECKS.get(c.name) is type(c)
        ]
        return {**super().params, **({"checks": known} if known else {})}

    def with_parts(self, parts: Sequence[Operation]) -> Chain:
        """Give the same of other operations."""
        return type(self)(parts, self._checks)

    def apply_traced(self, value: Any, params: Params) -> tuple[Any, list[Hop]]:
        """Apply every hop; gives the value and what came after each.

        Raises
        ------
        Dropped
            If a check gives a reason.
        """
        hops = [Hop("input", self.input, value)]
        for operation, step in zip(self.operations, params["steps"], strict=True):
            made, inner = applied(operation, hops[-1].value, step)
            here = f"{operation.name}/{operation.version}"
            hops += [*inner[1:-1], Hop(here, operation.output, made)]
            for check in self._checks:
                if reason := _looked(check, hops):
                    raise Dropped(f"after {here}: {reason}")
        return hops[-1].value, hops


def _looked(check: Check, hops: list[Hop]) -> str | None:
    """Ask a check; what it measures goes with the hop."""
    if not isinstance(check, ConsistencyCheck):
        return check(hops)
    value = check.measure(hops)
    if value is None:
        return None
    last = hops[-1]
    hops[-1] = replace(last, consistency={**last.consistency, check.name: round(value, 4)})
    return check.judge(value)


class OneOf:
    """One of several operations, drawn for each item.

    Parameters
    ----------
    operations : sequence of Operation, or of their descriptions
        At least one; all with the same input and the same output.
    weights : sequence of float, optional
        How often each is drawn, in relation to the others; equally by default.

    Raises
    ------
    RecipeError
        If there is none, their modalities differ, or the weights do not fit.
    """

    name: ClassVar[str] = "one_of"
    version: ClassVar[int] = 1

    def __init__(
        self,
        operations: Sequence[Operation | Mapping[str, Any]],
        weights: Sequence[float] | None = None,
    ) -> None:
        self.operations = tuple(_operation(o) for o in operations)
        if not self.operations:
            raise RecipeError("OneOf needs at least one operation, got none")
        if len({(o.input, o.output) for o in self.operations}) > 1:
            listed = ", ".join(f"{o.name}: {o.input} to {o.output}" for o in self.operations)
            raise RecipeError(f"OneOf needs operations of the same input and output, got {listed}")
        self.weights = None if weights is None else tuple(float(w) for w in weights)
        if self.weights is not None and (
            len(self.weights) != len(self.operations)
            or not all(0 <= w < np.inf for w in self.weights)
            or sum(self.weights) == 0
        ):
            raise RecipeError(
                f"OneOf needs {len(self.operations)} finite weights that are not negative and not "
                f"all zero, got {list(self.weights)}"
            )
        self.input = self.operations[0].input
        self.output = self.operations[0].output

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operations."""
        return self.operations

    def with_parts(self, parts: Sequence[Operation]) -> OneOf:
        """Give the same of other operations."""
        return OneOf(parts, self.weights)

    @property
    def params(self) -> Params:
        """The operations, described, and their weights."""
        weights = None if self.weights is None else list(self.weights)
        return {"operations": [spec(o) for o in self.operations], "weights": weights}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw which one, and what it needs."""
        seed = draw_seed(rng)
        weights = np.array(self.weights or [1.0] * len(self.operations))
        choice = int(rng.choice(len(self.operations), p=weights / weights.sum()))
        return {"choice": choice, "params": self.operations[choice].sample_params(rng_of(seed))}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply the one that was drawn."""
        return self.apply_traced(value, params)[0]

    def apply_traced(self, value: Any, params: Params) -> tuple[Any, list[Hop]]:
        """Apply the one that was drawn; gives its hops."""
        return applied(self.operations[params["choice"]], value, params["params"])


class Sometimes:
    """An operation that is applied to a part of the items; the others stay as they are.

    Parameters
    ----------
    operation : Operation, or its description
        Its output has the modality of its input.
    probability : float
        Of being applied, from 0 to 1.

    Raises
    ------
    RecipeError
        If the modalities differ, or the probability is not within [0, 1].
    """

    name: ClassVar[str] = "sometimes"
    version: ClassVar[int] = 1

    def __init__(self, operation: Operation | Mapping[str, Any], probability: float = 0.5) -> None:
        self.operation = _operation(operation)
        if self.operation.input != self.operation.output:
            raise RecipeError(
                f"Sometimes may leave an item as it is, so {self.operation.name} must give what it "
                f"takes; it takes {self.operation.input} and gives {self.operation.output}"
            )
        if not 0 <= probability <= 1:
            raise RecipeError(f"probability must be within [0, 1], got {probability}")
        self.probability = float(probability)
        self.input = self.output = self.operation.input

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operation."""
        return (self.operation,)

    def with_parts(self, parts: Sequence[Operation]) -> Sometimes:
        """Give the same of another operation."""
        return Sometimes(parts[0], self.probability)

    @property
    def params(self) -> Params:
        """The operation, described, and its probability."""
        return {"operation": spec(self.operation), "probability": self.probability}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw whether, and what it needs: the same things whatever the probability is."""
        seed = draw_seed(rng)
        applied = bool(rng.random() < self.probability)
        params = self.operation.sample_params(rng_of(seed)) if applied else None
        return {"applied": applied, "params": params}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply it, or give the value as it is."""
        return self.operation.apply(value, params["params"]) if params["applied"] else value


class Within:
    """An operation on one part of a record; the other parts stay as they are.

    What the operation gives replaces the record's part of that modality, or is added to it: an
    operation from image to text gives an image its caption.

    Parameters
    ----------
    operation : Operation, or its description
        From any modality to any.
    """

    name: ClassVar[str] = "within"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.RECORD
    output: ClassVar[Modality] = Modality.RECORD

    def __init__(self, operation: Operation | Mapping[str, Any]) -> None:
        self.operation = _operation(operation)

    @property
    def parts(self) -> tuple[Operation, ...]:
        """The operation."""
        return (self.operation,)

    def with_parts(self, parts: Sequence[Operation]) -> Within:
        """Give the same of another operation."""
        return Within(parts[0])

    @property
    def params(self) -> Params:
        """The operation, described."""
        return {"operation": spec(self.operation)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw what the operation needs."""
        return self.operation.sample_params(rng)

    def apply(self, value: Parts, params: Params) -> Parts:
        """Apply it to its part."""
        return self.apply_traced(value, params)[0]

    def apply_traced(self, value: Parts, params: Params) -> tuple[Parts, list[Hop]]:
        """Apply it to its part; gives its hops."""
        made, hops = applied(self.operation, value.value(self.operation.input), params)
        return value.having(self.operation.output, made), hops
