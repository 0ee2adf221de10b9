"""What goes into a generator: the samples of a set, and the partners that they have in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from .values import PARTS, Audio, Modality, Params, Parts, content_hash


def is_held_out(split: str | None) -> bool:
    """Tell whether a split must never reach training: every named one but ``train``."""
    return split is not None and split.lower() not in {"train", "training"}


@dataclass(frozen=True, slots=True)
class Item:
    """One sample that goes in: an image, a sound, a text, or a record of several of them.

    A part that is a callable is read when it is needed: one that fails then costs this item and
    not the run.

    Parameters
    ----------
    id : str
        Unique within its data set.
    image : PIL.Image.Image, callable or None
        Mode ``L`` or ``RGB`` for the built-in operations.
    label : str, int or None
        Its class.
    split : str or None
        ``train``, ``validation``, ``test``, …: what comes of this item stays in it.
    group : str or None
        What the item belongs to (a patient, a module, a speaker). By default its own id, so that
        an item and all that comes of it are one group.
    parents : tuple of str
        The ids that its children name as their parents; by default its own.
    audio : Audio, callable or None
        Its sound.
    text : str, callable or None
        Its text: the sample itself, or the caption or transcript of image or sound.
    """

    id: str
    image: Image.Image | Callable[[], Image.Image] | None = None
    label: str | int | None = None
    split: str | None = None
    group: str | None = None
    parents: tuple[str, ...] = ()
    audio: Audio | Callable[[], Audio] | None = None
    text: str | Callable[[], str] | None = None

    def value(self, modality: Modality) -> Any:
        """Give the part that an operation with this input takes.

        Raises
        ------
        ValueError
            If the item has no such part, or it cannot be read.
        """
        if modality == Modality.RECORD:
            held = (m for m in PARTS if getattr(self, m) is not None)
            parts = {str(m): self.value(m) for m in held}
            if not parts.keys() - {"label"}:
                raise ValueError(f"item {self.id!r} has neither image nor audio nor text")
            return Parts(**parts)
        value: Any = getattr(self, modality)
        if value is None:
            raise ValueError(f"item {self.id!r} has no {modality}, which the generator takes")
        if not callable(value):
            return value
        try:
            return value()
        except Exception as error:  # a reader's own errors: whatever they are, it is not readable
            raise ValueError(f"item {self.id!r} cannot be read: {error}") from error

    def read(self, modality: Modality) -> Item:
        """Give the item with this part read, so that it is read once."""
        if modality != Modality.RECORD:
            return replace(self, **{str(modality): self.value(modality)})
        parts: Parts = self.value(modality)
        return replace(self, image=parts.image, audio=parts.audio, text=parts.text)


class Partners:
    """The other items of a split: where an operation that needs a second parent finds it.

    Parameters
    ----------
    items : iterable of Item
        All of one split: a partner of another would carry held-out data into training. Their order
        does not matter.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = sorted(items, key=lambda item: item.id)
        self._place = {item.id: k for k, item in enumerate(self._items)}
        self._own: int | None = None

    def of(self, item: Item) -> Partners:
        """Give the partners of one item: all but itself."""
        partners = copy(self)
        partners._own = self._place.get(item.id)
        return partners

    def draw(self, rng: np.random.Generator, modality: Modality) -> Params:
        """Draw a partner: its id, label and content hash, as drawn parameters.

        Raises
        ------
        ValueError
            If there is no other item, or it has no such part.
        """
        n = len(self._items) - (self._own is not None)
        if n < 1:
            raise ValueError("there is no other item of this split to take as the second parent")
        k = int(rng.integers(n))
        item = self._items[k + (self._own is not None and k >= self._own)]
        value = item.value(modality)
        return {"id": item.id, "label": item.label, "sha256": content_hash(value)}

    def value(self, partner: Params, modality: Modality) -> Any:
        """Give the part of the partner that was drawn.

        Raises
        ------
        ValueError
            If it is not there, or is not what it was.
        """
        place = self._place.get(partner["id"])
        if place is None:
            raise ValueError(f"the second parent {partner['id']!r} is not among the items given")
        value = self._items[place].value(modality)
        if content_hash(value) != partner["sha256"]:
            raise ValueError(f"the second parent {partner['id']!r} is not what it was")
        return value
