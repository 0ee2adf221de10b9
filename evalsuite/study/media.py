"""What a rater sees and hears of a sample: re-encoded, so that no file gives away its set."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..data.dataset import Limits
from ..data.images import decode_image

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from ..data import Dataset, Sample

MAX_SIDE = 1024
"""Larger pictures are made smaller, in every set alike."""
MAX_SECONDS = 20.0
"""Of a longer recording, its beginning."""
MAX_TEXT = 4000
"""Characters of a text."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of one sample, encoded without loss.

    ``image`` is PNG, ``audio`` FLAC (one channel, at the recording's own rate).
    """

    image: bytes | None = None
    audio: bytes | None = None
    text: str | None = None


def show(data: Dataset, sample: Sample, modalities: Sequence[str]) -> Shown:
    """Read the parts of a sample that are to be shown.

    Everything that a file may tell beside its content is gone: name, format, metadata, and how it
    was compressed.

    Raises
    ------
    BadSample
        If one of the parts cannot be read.
    """
    image = audio = text = None
    if "image" in modalities:
        picture = decode_image(data.read(sample, "image"), Limits()).pixels
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        image = _png(picture)
    if "audio" in modalities:
        from ..data.audio import decode_audio

        with data.open(sample, "audio") as file:
            decoded = decode_audio(file, Limits())
        part = decoded.native[: int(MAX_SECONDS * decoded.source_rate)]
        audio = _sound(part, decoded.source_rate, "FLAC")
    if "text" in modalities:
        text = sample.text or data.read(sample, "text").decode()
        text = text if len(text) <= MAX_TEXT else text[:MAX_TEXT] + "…"
    return Shown(image, audio, text)


def spoil(shown: Shown, seed: int) -> Shown:
    """Give a version so bad that nobody who looks or listens can take it for a good one.

    Pictures keep 12 pixels a side under noise, recordings get noise 15 dB louder than they are,
    the letters of a text are shuffled.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    image = audio = text = None
    if shown.image is not None:
        from PIL import Image

        picture = Image.open(io.BytesIO(shown.image))
        size = picture.size
        coarse = picture.resize((12, 12)).resize(size, Image.Resampling.NEAREST)
        pixels = np.asarray(coarse, dtype=np.float64)
        noisy = pixels + rng.normal(0, 60, pixels.shape)
        image = _png(Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)))
    if shown.audio is not None:
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(shown.audio), dtype="float32")
        power = float(np.sqrt(np.mean(samples**2))) or 1e-3
        noise = rng.normal(0, power * 10 ** (15 / 20), samples.shape)
        mixed = samples + noise
        audio = _sound(0.5 * mixed / max(float(np.abs(mixed).max()), 1e-6), rate, "FLAC")
    if shown.text is not None:
        letters = list(shown.text)
        random.Random(seed).shuffle(letters)
        text = "".join(letters)
    return Shown(image, audio, text)


def lossy(shown: Shown) -> Shown:
    """Give the same parts in a smaller encoding: JPEG of quality 90, MP3."""
    image, audio = shown.image, shown.audio
    if image is not None:
        from PIL import Image

        buffer = io.BytesIO()
        Image.open(io.BytesIO(image)).save(buffer, "JPEG", quality=90, subsampling=0)
        image = buffer.getvalue()
    if audio is not None:
        import soundfile

        samples, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
        audio = _sound(samples, rate, "MP3")
    return Shown(image, audio, shown.text)


def size_of(shown: Shown) -> int:
    """Count the bytes that it takes in the page."""
    binary = sum(len(part) for part in (shown.image, shown.audio) if part is not None)
    return binary * 4 // 3 + len((shown.text or "").encode()) + 200


def embed(shown: Shown) -> dict[str, str]:
    """Give the parts as the page holds them: data URIs, and text."""
    parts: dict[str, str] = {}
    if shown.image is not None:
        kind = "png" if shown.image.startswith(b"\x89PNG") else "jpeg"
        parts["image"] = f"data:image/{kind};base64,{base64.b64encode(shown.image).decode()}"
    if shown.audio is not None:
        kind = "flac" if shown.audio.startswith(b"fLaC") else "mpeg"
        parts["audio"] = f"data:audio/{kind};base64,{base64.b64encode(shown.audio).decode()}"
    if shown.text is not None:
        parts["text"] = shown.text
    return parts


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _sound(samples: object, rate: int, form: str) -> bytes:
    import numpy as np
    import soundfile

    clipped = np.clip(np.asarray(samples, dtype=np.float32), -1.0, 1.0)
    buffer = io.BytesIO()
    subtype = "PCM_16" if form == "FLAC" else "MPEG_LAYER_III"
    soundfile.write(buffer, clipped, rate, format=form, subtype=subtype)
    return buffer.getvalue()
