"""What every generator is: an operation with declared modalities, a seed per item, and a record.

An operation first *draws* its parameters (:meth:`Operation.sample_params`, the only place where it
may use chance) and then *applies* them (:meth:`Operation.apply`, a pure function). The drawn
parameters are plain JSON, so the record of an item is enough to make the same item again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import cache
from hashlib import blake2b, sha256
from importlib import import_module
from importlib.metadata import version as installed_version
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image

from ..errors import DataError, EvalsuiteError, UsageError

Params: TypeAlias = dict[str, Any]
"""Parameters: whatever JSON can hold."""


class RecipeError(UsageError):
    """Operations that do not fit together, or that nobody knows."""


class ReplayError(EvalsuiteError):
    """A record that does not give its item again."""


class LeakError(DataError):
    """A child of a held-out sample was about to land in another split."""


class Modality(StrEnum):
    """What an operation takes or gives."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"
    LABEL = "label"


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
class Item:
    """One sample that goes in.

    Parameters
    ----------
    id : str
        Unique within its data set.
    image : PIL.Image.Image, callable or None
        Mode ``L`` or ``RGB`` for the built-in operations. A callable reads the image when it is
        needed: one that fails then costs this item and not the run. None where only the label is
        used.
    label : str, int or None
        Its class.
    split : str or None
        ``train``, ``validation``, ``test``, …: what comes of this item stays in it.
    group : str or None
        What the item belongs to (a patient, a module, a speaker). By default its own id, so that
        an item and all that comes of it are one group.
    parents : tuple of str
        The ids that its children name as their parents; by default its own.
    """

    id: str
    image: Image.Image | Callable[[], Image.Image] | None = None
    label: str | int | None = None
    split: str | None = None
    group: str | None = None
    parents: tuple[str, ...] = ()

    def value(self, modality: Modality) -> Any:
        """Give the part that an operation with this input takes.

        Raises
        ------
        ValueError
            If the item has no such part, or it cannot be read.
        """
        value: Any = {Modality.IMAGE: self.image, Modality.LABEL: self.label}.get(modality)
        if value is None:
            raise ValueError(f"item {self.id!r} has no {modality}, which the generator takes")
        if not callable(value):
            return value
        try:
            return value()
        except Exception as error:  # a reader's own errors: whatever they are, it is not readable
            raise ValueError(f"item {self.id!r} cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class Record:
    """Where a generated item came from: enough to make it again, to the byte.

    Parameters
    ----------
    id : str
        The child's id.
    parents : tuple of str
        The ids it was made from.
    variant : int
        Which child of this parent it is, from 0.
    generator : str
        Name and version, ``corrupt/1``.
    operation : dict
        The operation with its arguments (see :func:`spec`).
    params : dict
        What was drawn for this item.
    seed : int
        The seed that they were drawn with.
    parent_sha256, sha256 : str
        Content of the parent and of the child (see :func:`content_hash`).
    software : str
        Versions of evalsuite and of the libraries that computed it.
    synthetic : bool
        Always true: the row says what it is wherever it travels.
    """

    id: str
    parents: tuple[str, ...]
    variant: int
    generator: str
    operation: Params
    params: Params
    seed: int
    parent_sha256: str
    sha256: str
    software: str
    synthetic: bool = True

    def to_row(self) -> dict[str, Any]:
        """Give the record as one flat row; nested parts are JSON strings, as tables need."""
        row = asdict(self)
        row["parents"] = list(self.parents)
        row["operation"] = to_json(self.operation)
        row["params"] = to_json(self.params)
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Record:
        """Read a row of ``metadata.jsonl``; columns that are not the record's are ignored.

        Raises
        ------
        ReplayError
            If a column is missing or does not parse.
        """
        try:
            fields = {name: row[name] for name in cls.__dataclass_fields__}
            fields["parents"] = tuple(fields["parents"])
            fields["operation"] = json.loads(fields["operation"])
            fields["params"] = json.loads(fields["params"])
        except (KeyError, TypeError, ValueError) as error:
            raise ReplayError(f"not a generation record: {error!r} in {dict(row)!r}") from error
        return cls(**fields)


def to_json(value: Any) -> str:
    """Write canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


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


def content_hash(value: Image.Image | str | int) -> str:
    """Sha256 of what a value shows: an image's mode, size and pixels, or a text.

    File format, compression and metadata do not matter.

    Raises
    ------
    TypeError
        If it is neither an image nor text.
    """
    if isinstance(value, Image.Image):
        digest = sha256(f"{value.mode} {value.width}x{value.height}\n".encode())
        digest.update(value.tobytes())
        if value.mode == "P":
            digest.update(bytes(value.getpalette("RGBA") or ()))
        return digest.hexdigest()
    if isinstance(value, str | int):
        return sha256(f"text\n{value}".encode()).hexdigest()
    raise TypeError(f"cannot hash a {type(value).__name__}: want an image or text")


@cache
def software() -> str:
    """Name the versions that decide the bytes of an output."""
    packages = ("evalsuite", "numpy", "scipy", "pillow")
    return "; ".join(f"{name} {installed_version(name)}" for name in packages)


def spec(operation: Operation) -> Params:
    """Give an operation as JSON: ``{"name", "version", "params"}``; :func:`build` reads it back."""
    return {"name": operation.name, "version": operation.version, "params": operation.params}


_OPERATIONS: dict[str, str] = {
    "class_sampler": "evalsuite.generators.image.learned:ClassSampler",
    "compose": "evalsuite.generators.protocol:Compose",
    "corrupt": "evalsuite.generators.image.corruptions:Corrupt",
    "identity": "evalsuite.generators.null:Identity",
    "noise": "evalsuite.generators.null:Noise",
    "one_of": "evalsuite.generators.protocol:OneOf",
    "sometimes": "evalsuite.generators.protocol:Sometimes",
}


def register(operation: type) -> type:
    """Make a class of your own known to recipes and to :func:`replay`; usable as a decorator.

    Raises
    ------
    RecipeError
        If its name is taken by another class.
    """
    where = f"{operation.__module__}:{operation.__qualname__}"
    name: str = operation.name  # type: ignore[attr-defined]  # read from the class
    if _OPERATIONS.setdefault(name, where) != where:
        raise RecipeError(f"the name {name!r} belongs to {_OPERATIONS[name]}: choose another")
    return operation


def operation_names() -> tuple[str, ...]:
    """List the operations that :func:`build` knows."""
    return tuple(sorted(_OPERATIONS))


def operation_class(name: str) -> Any:
    """Load the class of a registered operation.

    Raises
    ------
    RecipeError
        If nobody knows the name; the nearest known one is suggested.
    """
    if name not in _OPERATIONS:
        raise RecipeError(f"unknown operation {name!r}{suggestion(name, operation_names())}")
    module, _, qualname = _OPERATIONS[name].partition(":")
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def suggestion(word: str, known: Sequence[str]) -> str:
    """Give the end of an error message: the nearest known word, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f": did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def build(description: Mapping[str, Any]) -> Operation:
    """Make the operation that :func:`spec` described.

    Raises
    ------
    RecipeError
        If the name is unknown, the version is not the installed one, or the arguments do not fit.
    """
    try:
        name, wanted = description["name"], description["version"]
        params = dict(description["params"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"an operation is described by name, version and params; got {description!r}"
        ) from error
    cls = operation_class(name)
    if cls.version != wanted:
        raise RecipeError(
            f"operation {name!r} has version {cls.version} here, but version {wanted} is asked "
            "for: its output would differ; install the evalsuite that made it"
        )
    try:
        operation: Operation = cls(**params)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"operation {name!r} does not take {params!r}: {error}") from error
    return operation


def produce(
    operation: Operation, item: Item, *, seed: int, variant: int = 0, index: int = 0
) -> tuple[Any, Record]:
    """Make one child of one item.

    Parameters
    ----------
    operation : Operation
        What to do.
    item : Item
        What to do it to.
    seed : int
        The recipe's seed.
    variant : int
        Which child, from 0: each has chance of its own.
    index : int
        The operation's place in the recipe.

    Returns
    -------
    value, record
        The output, and where it came from.

    Raises
    ------
    ValueError
        If the item lacks what the operation takes, or the operation cannot treat it.
    """
    value = item.value(operation.input)
    item_seed = derive_seed(seed, item.id, variant, index)
    # Through JSON and back, so that what is applied is what the record will say.
    params = json.loads(to_json(operation.sample_params(rng_of(item_seed))))
    described = spec(operation)
    made = operation.apply(value, params)
    tag = blake2b(to_json([described, seed, index]).encode(), digest_size=4).hexdigest()
    record = Record(
        id=f"{item.id}~{tag}.{variant}",
        parents=item.parents or (item.id,),
        variant=variant,
        generator=f"{operation.name}/{operation.version}",
        operation=described,
        params=params,
        seed=item_seed,
        parent_sha256=content_hash(value),
        sha256=content_hash(made),
        software=software(),
    )
    return made, record


def replay(record: Record, parent: Any, operation: Operation | None = None) -> Any:
    """Make an item again from its record and its parent.

    Parameters
    ----------
    record : Record
        From :func:`produce`, or :meth:`Record.from_row` on a row of ``metadata.jsonl``.
    parent : PIL.Image.Image, str or int
        What the operation took.
    operation : Operation, optional
        Needed where the record alone cannot rebuild it: a learned model, an unregistered class.

    Returns
    -------
    PIL.Image.Image or str
        Equal to the first output, to the byte.

    Raises
    ------
    ReplayError
        If the parent is not the recorded one, the operation is another, or the output differs
        (libraries of another version: the message names both).
    """
    if (got := content_hash(parent)) != record.parent_sha256:
        raise ReplayError(
            f"{record.id}: the parent's content is {got[:12]}…, the record says "
            f"{record.parent_sha256[:12]}…: give {', '.join(record.parents)} as it was"
        )
    if operation is None:
        try:
            operation = build(record.operation)
        except RecipeError as error:
            raise ReplayError(f"{record.id}: {error}") from error
    elif to_json(spec(operation)) != to_json(record.operation):
        raise ReplayError(
            f"{record.id} was made by {to_json(record.operation)}, not by "
            f"{to_json(spec(operation))}"
        )
    made = operation.apply(parent, record.params)
    if content_hash(made) != record.sha256:
        raise ReplayError(
            f"{record.id}: replay gave other content than recorded. Made with {record.software}; "
            f"here: {software()}"
        )
    return made


def held_out_sources(operation: Operation) -> frozenset[str]:
    """Name the held-out splits that an operation (or a part of it) learned from."""
    return frozenset(getattr(operation, "held_out_sources", ()))


def is_held_out(split: str | None) -> bool:
    """Tell whether a split must never reach training: every named one but ``train``."""
    return split is not None and split.lower() not in {"train", "training"}


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

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that a part learned from."""
        return frozenset().union(*map(held_out_sources, self.operations))

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw for every step; each has a seed of its own, so steps do not disturb each other."""
        seeds = rng.integers(2**53, size=len(self.operations))
        steps = zip(self.operations, seeds, strict=True)
        return {"steps": [o.sample_params(rng_of(int(seed))) for o, seed in steps]}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply every step."""
        for operation, step in zip(self.operations, params["steps"], strict=True):
            value = operation.apply(value, step)
        return value


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
    def params(self) -> Params:
        """The operations, described, and their weights."""
        weights = None if self.weights is None else list(self.weights)
        return {"operations": [spec(o) for o in self.operations], "weights": weights}

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that a part learned from."""
        return frozenset().union(*map(held_out_sources, self.operations))

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw which one, and what it needs."""
        seed = draw_seed(rng)
        weights = np.array(self.weights or [1.0] * len(self.operations))
        choice = int(rng.choice(len(self.operations), p=weights / weights.sum()))
        return {"choice": choice, "params": self.operations[choice].sample_params(rng_of(seed))}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply the one that was drawn."""
        return self.operations[params["choice"]].apply(value, params["params"])


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
    def params(self) -> Params:
        """The operation, described, and its probability."""
        return {"operation": spec(self.operation), "probability": self.probability}

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that it learned from."""
        return held_out_sources(self.operation)

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw whether, and what it needs: the same things whatever the probability is."""
        seed = draw_seed(rng)
        applied = bool(rng.random() < self.probability)
        params = self.operation.sample_params(rng_of(seed)) if applied else None
        return {"applied": applied, "params": params}

    def apply(self, value: Any, params: Params) -> Any:
        """Apply it, or give the value as it is."""
        return self.operation.apply(value, params["params"]) if params["applied"] else value
