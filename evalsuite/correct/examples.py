"""Samples to look at and to listen to: before and after a correction, and what was left out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..pipeline.preview import clip, spectrogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data import Dataset, Sample
    from ..generators import Item

SHOWN = 8
"""At most so many pairs, and so many samples that were left out."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a page shows of a sample."""

    name: str
    picture: bytes | None = None
    """A small JPEG or PNG: the image, or the spectrogram of the recording."""
    clip: bytes | None = None
    """The beginning of the recording, as Ogg Vorbis."""
    text: str | None = None


def changed(
    synthetic: Dataset, corrected: Dataset, modality: str
) -> tuple[tuple[Preview, Preview], ...]:
    """Give samples before and after, from all over the corrected set."""
    parents = _items(synthetic)
    children = _items(corrected)
    found = []
    for sample in _spread(corrected.samples):
        parent = parents.get(sample.parents[0] if sample.parents else sample.id)
        before, after = (
            None if item is None else _preview(item, modality)
            for item in (parent, children[sample.id])
        )
        if before is not None and after is not None:
            found.append((before, after))
    return tuple(found)


def left_out(data: Dataset, dropped: Sequence[Sample], modality: str) -> tuple[Preview, ...]:
    """Give some of the samples that a selection dropped."""
    items = _items(data) if dropped else {}
    previews = (_preview(items[sample.id], modality) for sample in _spread(dropped))
    return tuple(p for p in previews if p is not None)


def _items(data: Dataset) -> dict[str, Item]:
    from ..generators import items_of

    return {item.id: item for item in items_of(data)}


def _spread(samples: Sequence[Sample]) -> list[Sample]:
    return list(samples[:: max(1, math.ceil(len(samples) / SHOWN))])[:SHOWN]


def _preview(item: Item, modality: str) -> Preview | None:
    from ..encoders.image import thumbnail
    from ..generators.values import Modality

    try:
        value: Any = item.value(Modality(modality))
    except ValueError:  # the gate has counted and named it
        return None
    if modality == "image":
        return Preview(item.id, picture=thumbnail(value))
    if modality == "audio":
        samples, rate = value.samples, value.rate
        return Preview(item.id, picture=spectrogram(samples, rate), clip=clip(samples, rate))
    return Preview(item.id, text=str(value))
