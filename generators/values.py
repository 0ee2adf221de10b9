"""What operations take and give: images, sounds, texts and labels, their JSON and their hashes."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Params: TypeAlias = dict[str, Any]
"""Parameters: whatever JSON can hold."""


def to_json(value: Any) -> str:
    """Write canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


class Modality(StrEnum):
    """What an operation takes or gives."""

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"
    LABEL = "label"
    RECORD = "record"
    """All parts of an item together (:class:`Parts`)."""


FULL_SCALE = 32768
"""Steps of 16-bit sound per unit: what goes into a file is a multiple of 1/32768."""


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Sound in one channel.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        float32; 1.0 is full scale.
    rate : int
        Samples per second.

    Raises
    ------
    ValueError
        If there are no samples, more than one channel, or values that are not finite.
    """

    samples: npt.NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or not self.samples.size:
            raise ValueError(
                f"sound has the shape (n,) with n of 1 or more, got {self.samples.shape}: average "
                "the channels first"
            )
        if self.samples.dtype != np.float32:
            raise ValueError(f"sound is float32 with 1.0 at full scale, got {self.samples.dtype}")
        if self.rate < 1:
            raise ValueError(f"the sampling rate must be 1 Hz or more, got {self.rate}")
        if not np.isfinite(self.samples).all():
            raise ValueError("the sound has samples that are not finite")

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples.size / self.rate

    def to_pcm(self) -> npt.NDArray[np.int16]:
        """Give it as 16-bit integers; what is beyond full scale is cut off."""
        steps = np.rint(self.samples.astype(np.float64) * FULL_SCALE)
        return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1).astype("<i2")

    @classmethod
    def from_pcm(cls, pcm: npt.NDArray[np.int16], rate: int) -> Audio:
        """Make it of 16-bit integers."""
        return cls(pcm.astype(np.float32) / np.float32(FULL_SCALE), rate)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of an item of several modalities; None where it has no such part."""

    image: Image.Image | None = None
    audio: Audio | None = None
    text: str | None = None
    label: str | int | None = None

    def value(self, modality: Modality) -> Any:
        """Give one part.

        Raises
        ------
        ValueError
            If it has no such part.
        """
        value = self if modality == Modality.RECORD else getattr(self, modality)
        if value is None:
            raise ValueError(f"the record has no {modality}, which the operation takes")
        return value

    def having(self, modality: Modality, value: Any) -> Parts:
        """Give the same record with one part replaced or added."""
        return value if modality == Modality.RECORD else replace(self, **{str(modality): value})


PARTS = (Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.LABEL)


def content_hash(value: Any) -> str:
    """Sha256 of what a value is: an image's size and pixels, a sound's rate and samples, a text.

    File format, compression and metadata do not matter.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(value, Image.Image):
        digest = sha256(f"{value.mode} {value.width}x{value.height}\n".encode())
        digest.update(value.tobytes())
        if value.mode == "P":
            digest.update(bytes(value.getpalette("RGBA") or ()))
        return digest.hexdigest()
    if isinstance(value, Audio):
        digest = sha256(f"audio {value.rate} Hz {value.samples.size}\n".encode())
        digest.update(value.samples.astype("<f4").tobytes())
        return digest.hexdigest()
    if isinstance(value, str | int):
        return sha256(f"text\n{value}".encode()).hexdigest()
    if isinstance(value, Parts):
        held = ((m, getattr(value, m)) for m in PARTS)
        parts = {str(m): content_hash(part) for m, part in held if part is not None}
        return sha256(f"record\n{to_json(parts)}".encode()).hexdigest()
    raise TypeError(f"cannot hash a {type(value).__name__}: want an image, sound, text or record")


def as_kept(value: Any) -> Any:
    """Give what a file will hold: sound in steps of 16 bits."""
    if isinstance(value, Audio):
        return Audio.from_pcm(value.to_pcm(), value.rate)
    if isinstance(value, Parts) and value.audio is not None:
        return replace(value, audio=as_kept(value.audio))
    return value
