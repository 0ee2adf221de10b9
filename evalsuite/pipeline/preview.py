"""What the report shows of samples: small pictures, and recordings short enough to be sent."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..data.dataset import BadSample

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..data import Dataset, Sample
    from ..gate.findings import GateResult
    from .plan import Part

FIRST = ("misheard", "mismatched")
"""Galleries whose recordings are sent first: without hearing them nobody can judge the pair, while
of the others the spectrogram says something."""
OPEN = 12
"""Samples of a gallery that the page shows before anybody asks for more (``FIRST`` in report.js): a
recording that nobody sees is sent only where there is room."""
CLIPS = 120
"""At most so many recordings are in a report."""
CLIP_SECONDS = 8.0
"""The beginning of a recording that is played."""
_HEIGHT, _WIDTH = 48, 96


def previews(
    result: GateResult, sides: Mapping[str, Dataset], parts: Mapping[str, Part]
) -> tuple[dict[tuple[str, str], bytes], dict[tuple[str, str], bytes]]:
    """Give thumbnails and clips of the samples that the result's map and galleries show.

    Returns
    -------
    thumbnails : dict of (side, sample) to bytes
        JPEG or PNG: the image, else the spectrogram of the recording.
    clips : dict of (side, sample) to bytes
        Ogg Vorbis, at most :data:`CLIPS`, each at most :data:`CLIP_SECONDS` long.
    """
    listed: dict[tuple[str, str], None] = {}
    # What a page shows of each gallery at first comes first, and pairs that do not fit before all.
    shelves = sorted(result.galleries, key=lambda g: g.id not in FIRST)
    for gallery, start, end in (
        *((g, 0, OPEN) for g in shelves),
        *((g, OPEN, None) for g in shelves),
    ):
        for item in gallery.items[start:end]:
            listed[item.side, item.sample] = None
            if item.partner is not None and item.partner_side is not None:
                listed[item.partner_side, item.partner] = None
    shown = set(listed) | {(p.side, p.sample) for m in result.maps for p in m.points}
    pictures: dict[tuple[str, str], bytes] = {}
    if "image" in parts:
        for role in sides:
            part = parts["image"].side(role)
            for sample, thumbnail in zip(part.samples, part.thumbnails, strict=True):
                if (role, sample.id) in shown:
                    pictures[role, sample.id] = thumbnail
    clips: dict[tuple[str, str], bytes] = {}
    if "audio" in parts:
        known = {(role, s.id): s for role in sides for s in parts["audio"].side(role).samples}
        for role, name in listed:
            if len(clips) >= CLIPS:
                break
            found = known.get((role, name))
            decoded = None if found is None else _decoded(sides[role], found)
            if decoded is not None:
                clips[role, name] = clip(decoded.samples, decoded.rate)
                pictures.setdefault((role, name), spectrogram(decoded.samples, decoded.rate))
    return pictures, clips


def _decoded(data: Dataset, sample: Sample) -> Any:
    from ..data.audio import decode_audio
    from ..data.dataset import Limits

    try:
        with data.open(sample, "audio") as file:
            return decode_audio(file, Limits())
    except BadSample:  # it was readable a moment ago: the report goes without it
        return None


def clip(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Give the beginning of a recording as Ogg Vorbis."""
    import soundfile

    buffer = io.BytesIO()
    part = np.clip(samples[: int(CLIP_SECONDS * rate)], -1.0, 1.0)
    soundfile.write(buffer, part, rate, format="OGG", subtype="VORBIS")
    return buffer.getvalue()


def spectrogram(samples: npt.NDArray[np.float32], rate: int) -> bytes:
    """Give a small grey spectrogram as PNG: time to the right, 0 Hz to 8 kHz upwards, 80 dB."""
    from PIL import Image
    from scipy.signal import stft

    part = samples[: int(CLIP_SECONDS * rate)]
    part = np.pad(part, (0, max(0, 1024 - part.size)))
    power = np.abs(stft(part, rate, nperseg=512, noverlap=256)[2]) ** 2
    level = 10 * np.log10(power + 1e-12)
    scaled = np.clip((level - level.max() + 80) / 80, 0, 1)
    picture = Image.fromarray((255 * (1 - scaled[::-1])).astype(np.uint8))
    buffer = io.BytesIO()
    picture.resize((_WIDTH, _HEIGHT), Image.Resampling.BOX).save(buffer, "PNG")
    return buffer.getvalue()
