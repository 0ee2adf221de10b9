"""A generated sample and its record: made once, written down, and made again from that."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import version as installed_version
from typing import Any

from .items import Item, Partners
from .protocol import (
    Operation,
    RecipeError,
    ReplayError,
    applied,
    derive_seed,
    leaves,
    rng_of,
    with_partners,
)
from .registry import brought_by, build, spec
from .values import Params, as_kept, content_hash, to_json


@dataclass(frozen=True, slots=True)
class Record:
    """Where a generated item came from: enough to make it again, to the byte.

    Parameters
    ----------
    id : str
        The child's id.
    parents : tuple of str
        The ids it was made from: the item's, then those of second parents.
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
    model_sha256, prompt_sha256 : tuple of str
        Weights of the models that took part, and the prompts that they were given.
    trace : tuple of dict
        What a chain gave after each hop: ``operation``, ``output``, ``sha256``, the ``text`` or
        ``label`` where it is one, and the ``consistency`` where a check measured it.
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
    model_sha256: tuple[str, ...] = ()
    prompt_sha256: tuple[str, ...] = ()
    trace: tuple[Params, ...] = ()
    synthetic: bool = True

    def to_row(self) -> dict[str, Any]:
        """Give the record as one flat row; nested parts are JSON strings, as tables need."""
        row = asdict(self)
        for name in _LISTS:
            row[name] = list(row[name])
        for name in _NESTED:
            row[name] = to_json(row[name])
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
            for name in _LISTS:
                fields[name] = tuple(fields[name])
            for name in _NESTED:
                fields[name] = json.loads(fields[name])
            fields["trace"] = tuple(fields["trace"])
            for name, kind in _KINDS.items():
                if not isinstance(fields[name], kind):
                    raise TypeError(f"{name} is no {kind.__name__}")  # noqa: TRY301 - as above
            for name in (*_LISTS, "trace"):
                part = dict if name == "trace" else str
                if not all(isinstance(each, part) for each in fields[name]):
                    raise TypeError(f"{name} holds what is no {part.__name__}")  # noqa: TRY301
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise ReplayError(f"not a generation record: {error!r} in {dict(row)!r}") from error
        return cls(**fields)


_LISTS = ("parents", "model_sha256", "prompt_sha256")


_NESTED = ("operation", "params", "trace")
_KINDS: dict[str, type] = {
    **dict.fromkeys(("id", "generator", "parent_sha256", "sha256", "software"), str),
    **dict.fromkeys(("variant", "seed"), int),
    **dict.fromkeys(("operation", "params"), dict),
}


def draw(
    operation: Operation, item: Item, *, seed: int, variant: int = 0, index: int = 0
) -> tuple[int, Params]:
    """Give the seed of one child, and the parameters that it draws."""
    item_seed = derive_seed(seed, item.id, variant, index)
    # Through JSON and back, so that what is applied is what the record will say.
    return item_seed, json.loads(to_json(operation.sample_params(rng_of(item_seed))))


def produce(
    operation: Operation,
    item: Item,
    *,
    seed: int,
    variant: int = 0,
    index: int = 0,
    partners: Partners | None = None,
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
    partners : Partners, optional
        Needed where the operation takes a second parent.

    Returns
    -------
    value, record
        The output, and where it came from. Sound is in steps of 16 bits, as its file will be.

    Raises
    ------
    Dropped
        If a check of a chain was not met, or a model refused.
    ValueError
        If the item lacks what the operation takes, or the operation cannot treat it.
    """
    if partners is not None:
        operation = with_partners(operation, partners.of(item))
    value = item.value(operation.input)
    item_seed, params = draw(operation, item, seed=seed, variant=variant, index=index)
    made, hops = applied(operation, value, params)
    made = as_kept(made)
    described = spec(operation)
    tag = blake2b(to_json([described, seed, index]).encode(), digest_size=4).hexdigest()
    record = Record(
        id=f"{item.id}~{tag}.{variant}",
        parents=parents_of(item, params),
        variant=variant,
        generator=f"{operation.name}/{operation.version}",
        operation=described,
        params=params,
        seed=item_seed,
        parent_sha256=content_hash(value),
        sha256=content_hash(made),
        software=_software_of(operation),
        model_sha256=_facts(operation, "model_sha256"),
        prompt_sha256=_facts(operation, "prompt_sha256"),
        trace=tuple(hop.to_row() for hop in hops),
    )
    return made, record


def parents_of(item: Item, params: Params) -> tuple[str, ...]:
    """Name the parents of a child: the item's, then the second parents that were drawn."""
    return (*(item.parents or (item.id,)), *dict.fromkeys(_partners_in(params)))


def _partners_in(params: Any) -> Iterator[str]:
    """Find the second parents in drawn parameters: under the key ``partner``, however deep."""
    if isinstance(params, dict):
        for key, value in params.items():
            if key == "partner":
                yield value["id"]
            else:
                yield from _partners_in(value)
    elif isinstance(params, list):
        for value in params:
            yield from _partners_in(value)


def _facts(operation: Operation, name: str) -> tuple[str, ...]:
    found = (getattr(leaf, name, None) for leaf in leaves(operation))
    return tuple(dict.fromkeys(fact for fact in found if fact is not None))


@cache
def software(libraries: tuple[str, ...] = ()) -> str:
    """Name the versions that decide the bytes of an output."""
    packages = ("evalsuite", "numpy", "scipy", "pillow", *libraries)
    return "; ".join(f"{name} {installed_version(name)}" for name in packages)


def _software_of(operation: Operation) -> str:
    libraries = (
        (*getattr(leaf, "libraries", ()), *brought_by(leaf.name)) for leaf in leaves(operation)
    )
    return software(tuple(sorted({name for names in libraries for name in names})))


def replay(
    record: Record,
    parent: Any,
    operation: Operation | None = None,
    *,
    partners: Partners | None = None,
) -> Any:
    """Make an item again from its record and its parent.

    Parameters
    ----------
    record : Record
        From :func:`produce`, or :meth:`Record.from_row` on a row of ``metadata.jsonl``.
    parent : PIL.Image.Image, Audio, str, int or Parts
        What the operation took.
    operation : Operation, optional
        Needed where the record alone cannot rebuild it: a learned model, an unregistered class.
    partners : Partners, optional
        Needed where the operation took a second parent: the items among which it is.

    Returns
    -------
    PIL.Image.Image, Audio, str or Parts
        Equal to the first output, to the byte.

    Raises
    ------
    ReplayError
        If a parent is not the recorded one, the operation is another, or the output differs
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
    if partners is not None:
        operation = with_partners(operation, partners)
    elif next(_partners_in(record.params), None) is not None:
        raise ReplayError(
            f"{record.id} has the parents {', '.join(record.parents)}: give the others as partners="
        )
    try:
        made = as_kept(operation.apply(parent, record.params))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # An operation reads the parameters that it drew as they were.
        raise ReplayError(f"{record.id}: {type(error).__name__}: {error}") from error
    if content_hash(made) != record.sha256:
        raise ReplayError(
            f"{record.id}: replay gave other content than recorded. Made with {record.software}; "
            f"here: {_software_of(operation)}"
        )
    return made
