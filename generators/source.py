"""Items from a data set, read when they are needed."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .items import Item
from .values import Audio

if TYPE_CHECKING:
    from PIL import Image

    from ..data import Dataset, Limits, Sample


def items_of(dataset: Dataset, *, limits: Limits | None = None) -> list[Item]:
    """Give the samples of a data set as items.

    Parameters
    ----------
    dataset : Dataset
        From :func:`evalsuite.data.open_dataset`. Images, sounds (averaged to one channel, at the
        file's own rate), texts, or records of several of them.
    limits : Limits, optional
        What is refused as too large when a sample is decoded.

    Returns
    -------
    list of Item
        In the data set's order. Nothing is decoded yet: a sample that cannot be read costs itself.
    """
    return [
        Item(
            id=sample.id,
            image=partial(_image, dataset, sample, limits) if "image" in sample.media else None,
            audio=partial(_audio, dataset, sample, limits) if "audio" in sample.media else None,
            text=sample.text,
            label=sample.label,
            split=sample.split,
            group=sample.group or (sample.parents[0] if sample.parents else None),
        )
        for sample in dataset
    ]


def _image(dataset: Dataset, sample: Sample, limits: Limits | None) -> Image.Image:
    from ..data import decode_image

    return decode_image(dataset.read(sample, "image"), limits).pixels


def _audio(dataset: Dataset, sample: Sample, limits: Limits | None) -> Audio:
    from ..data import Limits
    from ..data.audio import decode_audio

    with dataset.open(sample, "audio") as file:
        decoded = decode_audio(file, limits or Limits())
    if "excerpt" in decoded.notes:
        raise ValueError(
            f"it is {decoded.seconds:.0f} s long, and of so long a recording only excerpts are "
            "read: cut it, or raise Limits.max_seconds"
        )
    return Audio(decoded.native, decoded.source_rate)
