"""What operations that learn from the real set share: where they learned, and their file."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import DataError
from .items import Item, is_held_out
from .protocol import LeakError, Operation, RecipeError, draw_seed, rng_of
from .values import Modality, Params, content_hash, to_json

Array: TypeAlias = npt.NDArray[Any]


class Fitted:
    """An operation that learned: facts of where from, arrays of what, and a file for both.

    Make one with ``fit`` or :meth:`load`.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    input: ClassVar[Modality]
    output: ClassVar[Modality]

    def __init__(
        self,
        facts: Params | None = None,
        arrays: Mapping[str, Array] | None = None,
        **described: object,
    ) -> None:
        if facts is None or arrays is None or described:
            raise RecipeError(
                f"a {self.name} cannot be built from its description: load the fitted model with "
                f"{type(self).__name__}.load(path), and give it as operation="
            )
        self._facts = facts
        self._arrays = dict(arrays)

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that it learned from."""
        return frozenset(self._facts["held_out"])

    @cached_property
    def model_sha256(self) -> str:
        """Hash of what it learned."""
        digest = sha256(to_json(self._facts).encode())
        for key, array in sorted(self._arrays.items()):
            digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
            digest.update(array.tobytes())
        return digest.hexdigest()

    @property
    def params(self) -> Params:
        """Where it comes from: settings, training set and what was learned, by hash."""
        return {**self._facts, "model_sha256": self.model_sha256}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the sample's seed."""
        return {"seed": draw_seed(rng)}

    def save(self, path: str | Path) -> None:
        """Write the model as ``.npz``, without pickle.

        Raises
        ------
        ValueError
            If the name does not end in ``.npz``.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ValueError(f"the file's name must end in .npz, got {path.name}")
        kept = {f"a.{key}": array for key, array in self._arrays.items()}
        named = {"name": self.name, "version": self.version, "sha256": self.model_sha256}
        facts = np.array(to_json({**named, **self._facts}))
        np.savez(path, facts=facts, **kept)  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises
        ------
        DataError
            If the file is not such a model, or is not as it was saved.
        """
        content = io.BytesIO(Path(path).read_bytes())
        try:
            with np.load(content, allow_pickle=False) as file:
                facts = json.loads(str(file["facts"]))
                arrays = {key[2:]: file[key] for key in file.files if key.startswith("a.")}
            made_by = (facts.pop("name"), facts.pop("version"))
            recorded = facts.pop("sha256", None)
        except Exception as error:  # zip, zlib, NumPy and JSON each have their own
            raise DataError(f"{path} is not a saved {cls.__name__}: {error}") from error
        if made_by != (cls.name, cls.version):
            raise DataError(
                f"{path} holds a {made_by[0]} of version {made_by[1]}, not a {cls.name} of version "
                f"{cls.version}"
            )
        model = cls(facts, arrays)
        if model.model_sha256 != recorded:
            raise DataError(f"{path} is damaged, or from before its hash was kept: fit it anew")
        return model


def training(
    items: Iterable[Item],
    modality: Modality,
    *,
    labelled: bool,
    prepare: Callable[[Item, Any], Any] | None = None,
) -> tuple[dict[str, list[Any]], Params]:
    """Read what there is to learn from, by label, and note where it came from.

    Parameters
    ----------
    items : iterable of Item
        All of one split, or of none.
    modality : Modality
        The part that is learned.
    labelled : bool
        Whether every item must have a label; else all are under the label ``""``.
    prepare : callable, optional
        Makes of each item and its value what is kept, so that large values need not be.

    Returns
    -------
    dict, dict
        The values by label; ``training_sha256``, ``counts`` and ``held_out``.

    Raises
    ------
    DataError
        If there are no items.
    LeakError
        If items of a held-out split are mixed with others.
    ValueError
        If an item lacks what is needed.
    """
    found: dict[str, list[Any]] = {}
    hashes: list[str] = []
    splits: set[str | None] = set()
    for item in items:
        label = str(item.value(Modality.LABEL)) if labelled else ""
        value = item.value(modality)
        found.setdefault(label, []).append(value if prepare is None else prepare(item, value))
        hashes.append(f"{label} {content_hash(value)}")
        splits.add(item.split)
    if not found:
        raise DataError("there are no items to learn from")
    if len(splits) > 1 and any(map(is_held_out, splits)):
        raise LeakError(
            f"fit on one split: got items of {sorted(map(str, splits))}, and what a model "
            "learns from a held-out split must not reach training"
        )
    return dict(sorted(found.items())), {
        "counts": {label: len(values) for label, values in sorted(found.items())},
        # Sorted: the same items in another order are the same training set.
        "training_sha256": sha256("\n".join(sorted(hashes)).encode()).hexdigest(),
        "held_out": sorted(s for s in splits if s is not None and is_held_out(s)),
    }


def model_or_unfitted(kind: Any, model: str | None, settings: Params) -> Operation:
    """Give what a recipe means by a learned operation: the file it names, or one to be fitted.

    Raises
    ------
    RecipeError
        If the file cannot be read.
    """
    if model is None:
        return Unfitted(kind, settings)
    try:
        loaded: Operation = kind.load(model)
    except OSError as error:
        raise RecipeError(f"cannot read the model {model}: {error.strerror}") from error
    return loaded


class Unfitted:
    """A learned operation that has not learned yet: it stands in a recipe until there is data.

    Parameters
    ----------
    kind : type
        The learned operation; it has ``fit(items, **arguments)``, ``save(path)`` and
        ``load(path)``.
    arguments : dict
        What ``fit`` is given beside the items, as JSON.
    """

    def __init__(self, kind: Any, arguments: Params) -> None:
        self._kind = kind
        self._arguments = arguments
        self.name: str = kind.name
        self.version: int = kind.version
        self.input: Modality = kind.input
        self.output: Modality = kind.output

    @property
    def params(self) -> Params:
        """What it will be fitted with."""
        return {"fit": self._arguments}

    def fit(self, items: Sequence[Item]) -> Any:
        """Learn from the items; those of held-out splits are left out.

        Raises
        ------
        DataError
            If there is nothing to learn from.
        """
        seen = [item for item in items if not is_held_out(item.split)]
        if not seen:
            raise DataError(
                f"{self.name} has nothing to learn from: all {len(items)} items are held out, and "
                "it learns from train only"
            )
        return self._kind.fit(seen, **self._arguments)

    def load(self, path: str | Path) -> Any:
        """Read what it learned in an earlier run."""
        return self._kind.load(path)

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Refuse: it has not learned anything.

        Raises
        ------
        RecipeError
            Always.
        """
        raise RecipeError(
            f"{self.name} has not learned from anything yet: fit it, or run the recipe on items"
        )

    def apply(self, value: Any, params: Params) -> Any:  # noqa: ARG002 - the protocol's
        """Refuse: it has not learned anything.

        Raises
        ------
        RecipeError
            Always.
        """
        return self.sample_params(rng_of(0))
