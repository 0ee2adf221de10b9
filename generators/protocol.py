"""What every generator is: an operation with declared modalities, a seed per item, and a record.

An operation first *draws* its parameters (:meth:`Operation.sample_params`, the only place where it
may use chance) and then *applies* them (:meth:`Operation.apply`, a pure function). The drawn
parameters are plain JSON, so the record of an item is enough to make the same item again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from ..errors import DataError, EvalsuiteError, UsageError
from .values import Modality, Params, content_hash, to_json

if TYPE_CHECKING:
    from .items import Partners


class RecipeError(UsageError):
    """Operations that do not fit together, or that nobody knows."""


class ReplayError(EvalsuiteError):
    """A record that does not give its item again."""


class LeakError(DataError):
    """A child of a held-out sample was about to land in another split."""


class Dropped(ValueError):  # noqa: N818 - not an error: a check was not met
    """A child that was made and not kept, for a reason: a check was not met."""


class Refused(Dropped):
    """A child that a model would not make: a refusal is counted apart from a failure."""


@runtime_checkable
class Operation(Protocol):
    """One step of generation: anything with these attributes can be composed, run and replayed.

    ``name`` and ``version`` identify the code: the version rises when the same parameters would
    give another output. ``input`` and ``output`` are the modalities. ``params`` are the arguments
    that the operation was built with, as JSON, so that ``type(op)(**op.params)`` is the same
    operation.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""
        ...

    @property
    def version(self) -> int:
        """Rises when the same parameters would give another output."""
        ...

    @property
    def input(self) -> Modality:
        """What :meth:`apply` takes."""
        ...

    @property
    def output(self) -> Modality:
        """What :meth:`apply` gives."""
        ...

    @property
    def params(self) -> Params:
        """The arguments that it was built with."""
        ...

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw what this item needs; the only place where chance has a part."""
        ...

    def apply(self, value: Any, params: Params) -> Any:
        """Make the output: a pure function of the value and the drawn parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Hop:
    """What a step of a chain gave.

    Parameters
    ----------
    operation : str
        Name and version.
    output : Modality
        What it is.
    value : object
        The image, sound, text or label.
    consistency : dict
        What the checks of the chain measured here, by their names.
    """

    operation: str
    output: Modality
    value: Any
    consistency: Params = field(default_factory=dict)

    def to_row(self) -> Params:
        """Give it for the record: text and labels as they are, the rest by its hash."""
        row: Params = {
            "operation": self.operation,
            "output": str(self.output),
            "sha256": content_hash(self.value),
        }
        if self.output in {Modality.TEXT, Modality.LABEL}:
            row[str(self.output)] = self.value
        if self.consistency:
            row["consistency"] = self.consistency
        return row


def applied(operation: Operation, value: Any, params: Params) -> tuple[Any, list[Hop]]:
    """Apply an operation, and give what came after each hop if it is a chain."""
    traced = getattr(operation, "apply_traced", None)
    return traced(value, params) if traced else (operation.apply(value, params), [])


def parts_of(operation: Operation) -> tuple[Operation, ...]:
    """Give the operations that a composition is made of; none for a simple one."""
    return tuple(getattr(operation, "parts", ()))


def leaves(operation: Operation) -> Iterator[Operation]:
    """Go through the simple operations of a composition, or give the operation itself."""
    parts = parts_of(operation)
    if not parts:
        yield operation
    for part in parts:
        yield from leaves(part)


def transformed(
    operation: Operation, change: Callable[[Operation], Operation], *, only: str
) -> Operation:
    """Replace the simple operations that have the attribute ``only``, wherever they are."""
    parts = parts_of(operation)
    if not parts:
        return change(operation) if hasattr(operation, only) else operation
    if not any(hasattr(leaf, only) for leaf in leaves(operation)):
        return operation
    changed = [transformed(part, change, only=only) for part in parts]
    found: Operation = operation.with_parts(changed)  # type: ignore[attr-defined]  # it has parts
    return found


def needs_partners(operation: Operation) -> bool:
    """Tell whether an operation, or a part of it, takes a second parent."""
    return any(hasattr(leaf, "with_partners") for leaf in leaves(operation))


def with_partners(operation: Operation, partners: Partners) -> Operation:
    """Give the operation with a place where its second parents are found."""

    def bound(leaf: Any) -> Operation:
        found: Operation = leaf.with_partners(partners)
        return found

    return transformed(operation, bound, only="with_partners")


def held_out_sources(operation: Operation) -> frozenset[str]:
    """Name the held-out splits that an operation (or a part of it) learned from."""
    found = (getattr(leaf, "held_out_sources", ()) for leaf in leaves(operation))
    return frozenset(split for splits in found for split in splits)


def derive_seed(*parts: str | int) -> int:
    """Hash (recipe seed, item id, variant, operation index, …) to a seed.

    A hash instead of a running stream: the result does not depend on the order of the items, on
    batches or on workers (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

    Returns
    -------
    int
        In [0, 2**53): it survives JSON readers that hold numbers as doubles.
    """
    digest = blake2b(to_json(list(parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def rng_of(seed: int) -> np.random.Generator:
    """Give the counter-based generator (Philox) of a seed."""
    return np.random.Generator(np.random.Philox(key=seed))


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed for something that :meth:`Operation.apply` will need chance for."""
    return int(rng.integers(2**53))
