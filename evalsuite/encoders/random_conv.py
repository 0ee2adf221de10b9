"""A second look that shares nothing with the learned encoders: random convolutions, in NumPy.

What a correction or a selection made of one encoder's features is judged by these as well: they
were not trained on anything, so nothing was fitted in them. They see tone, contrast, edges and
texture at three scales, and little of what an image shows.

References
----------
A. Saxe et al., "On random weights and unsupervised feature learning", ICML 2011.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from .base import EncoderInfo, Features, ImageEncoder, code_version, cpu_count
from .media import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data.audio import DecodedAudio

F32: TypeAlias = npt.NDArray[np.float32]

RANDOM_CONV = "random_conv"

_SEED = 20110628
_SIDE = 64
_GRID = 3
_FIRST, _SECOND = 32, 64
_DIM = 4 * (_FIRST + _SECOND) + 4 * _SECOND
_FINE_GAIN = 8.0  # the finest scale of a photograph is about so much fainter than the rest
_FLOOR = 1e-3  # of a response: what is under it is rounding
_MELS = 64
_HOP, _WINDOW = 160, 400
_LONGEST = 60 * 16000
_PATCHES = 40


def load_random_conv(modality: str) -> RandomConvImage | RandomConvAudio:
    """Give the random convolutions for images or for sound.

    Parameters
    ----------
    modality : str
        ``image`` or ``audio``.

    Raises
    ------
    ValueError
        If it is another one.
    """
    if modality == "image":
        return RandomConvImage()
    if modality == "audio":
        return RandomConvAudio()
    raise ValueError(f"random_conv is for image and audio, not for {modality!r}")


class _Filters:
    """Two layers of Gaussian filters with ReLU, He-scaled: 7 × 7 and 5 × 5, stride 2."""

    def __init__(self, channels: int) -> None:
        rng = np.random.default_rng(_SEED)
        self.first = self._draw(rng, 7, channels, _FIRST)
        # Half of the filters are blind to tone, or it would drown edges and texture.
        self.first[:, ::2] -= self.first[:, ::2].mean(axis=0)
        self.second = self._draw(rng, 5, _FIRST, _SECOND)
        self.fine_first = self._draw(rng, 7, 1, _FIRST)
        self.fine_second = self._draw(rng, 5, _FIRST, _SECOND)

    @staticmethod
    def _draw(rng: np.random.Generator, side: int, before: int, after: int) -> F32:
        fan_in = side * side * before
        drawn = rng.standard_normal((fan_in, after)) * np.sqrt(2 / fan_in)
        return np.asarray(drawn, np.float32)

    @property
    def sha256(self) -> str:
        drawn = (self.first, self.second, self.fine_first, self.fine_second)
        return hashlib.sha256(b"".join(f.tobytes() for f in drawn)).hexdigest()

    def features(self, patches: F32) -> F32:
        """Describe patches (p, h, w, c) of one sample: the first is all of it, shrunk."""
        one = _convolved(patches, self.first, 7)
        two = _convolved(one, self.second, 5)
        h, w = two.shape[1] // 2, two.shape[2] // 2
        whole = [two[0, y : y + h, x : x + w].mean(axis=(0, 1)) for y in (0, h) for x in (0, w)]
        # Fine detail alone: beside tone and shading, which vary most, it would not be seen.
        finest = _FINE_GAIN * _finest(patches[1:].mean(axis=3))[..., None]
        fine_one = _convolved(finest, self.fine_first, 7)
        fine_two = _convolved(fine_one, self.fine_second, 5)
        # Logarithms: a blur takes a share of the detail, however much of it there is.
        local = [
            np.log(f(layer, axis=(0, 1, 2), dtype=np.float64) + _FLOOR)
            for layer in (one[1:], two[1:], fine_one, fine_two)
            for f in (np.mean, np.std)
        ]
        return np.concatenate([*whole, *local]).astype(np.float32)


def _finest(x: F32) -> F32:
    """Give what a binomial 3 × 3 blur takes away from patches (p, h, w)."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)), mode="symmetric")
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    blurred = (rows[:, :, :-2] + 2 * rows[:, :, 1:-1] + rows[:, :, 2:]) / 4
    return np.asarray(x - blurred, np.float32)


def _convolved(x: F32, filters: F32, side: int) -> F32:
    windows = np.lib.stride_tricks.sliding_window_view(x, (side, side), axis=(1, 2))[:, ::2, ::2]
    # (p, h, w, c, side, side) to rows of one product.
    p, h, w = windows.shape[:3]
    rows = windows.reshape(p * h * w, -1)
    return np.asarray(np.maximum(rows @ filters, 0).reshape(p, h, w, -1))


_DECODED_BY = {"image": ("evalsuite.data.images",), "audio": ("evalsuite.data.audio",)}


def _info(modality: str, sha256: str, preprocessing: dict[str, Any]) -> EncoderInfo:
    return EncoderInfo(
        id=RANDOM_CONV,
        modality=modality,
        dim=_DIM,
        weights_sha256=sha256,
        weights_source=f"drawn, NumPy PCG64, seed {_SEED}",
        backend=f"numpy {version('numpy')}, float32, one sample at a time",
        preprocessing=preprocessing,
        code_version=code_version(__name__, *_DECODED_BY.get(modality, ())),
    )


class RandomConvImage(ImageEncoder):
    """Random convolutions of the whole image at 64 × 64 and of nine patches at full resolution."""

    def __init__(self) -> None:
        self._filters = _Filters(3)
        preprocessing = {
            "whole": f"resized to {_SIDE}×{_SIDE}, bicubic",
            "patches": f"{_GRID}×{_GRID} of {_SIDE}×{_SIDE} pixels at native resolution",
            "values": "RGB / 255 - 0.5",
            "fine": "of the patches' mean over colours, what a 3×3 binomial blur takes away, × 8",
            "layer": "means over quadrants of the whole; log mean and log spread over the patches",
        }
        super().__init__(
            _info("image", self._filters.sha256, preprocessing), batch_size=1, parallel=cpu_count()
        )

    def prepare(self, pixels: Image.Image) -> npt.NDArray[Any]:
        """Give the shrunk image and its patches as (30, 64, 64) bytes."""
        image = pixels if pixels.mode == "RGB" else pixels.convert("RGB")
        whole = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
        x = np.asarray(image)
        lacking = [max(0, _SIDE - s) for s in x.shape[:2]]
        if any(lacking):
            x = np.pad(x, ((0, lacking[0]), (0, lacking[1]), (0, 0)), mode="symmetric")
        at = [np.linspace(0, s - _SIDE, _GRID).astype(int) for s in x.shape[:2]]
        patches = [whole, *(x[t : t + _SIDE, u : u + _SIDE] for t in at[0] for u in at[1])]
        return np.concatenate([np.moveaxis(patch, 2, 0) for patch in patches])

    def _load(self) -> None:
        """Have nothing to load: the filters were drawn."""

    def _forward(self, batch: npt.NDArray[Any]) -> Features:
        x = batch.reshape(-1, 3, _SIDE, _SIDE).astype(np.float32) / 255 - np.float32(0.5)
        return self._filters.features(np.ascontiguousarray(np.moveaxis(x, 1, 3)))[None]


class RandomConvAudio(Embedder["DecodedAudio"]):
    """Random convolutions of the log-mel spectrogram (64 bands, 16 kHz): all, and patches."""

    def __init__(self) -> None:
        self._filters = _Filters(1)
        self._mel = _mel_filters()
        super().__init__(
            _info(
                "audio",
                self._filters.sha256,
                {
                    "spectrogram": f"{_MELS} mel bands, 25 ms windows, 10 ms apart, dB over 100",
                    "whole": f"shrunk to {_SIDE} frames",
                    "patches": f"at most {_PATCHES} of {_SIDE} frames, of the middle minute",
                },
            )
        )

    def _load(self) -> None:
        """Have nothing to load: the filters were drawn."""

    def _embed(self, items: Sequence[DecodedAudio]) -> Features:
        return np.stack([self._one(np.asarray(item.samples, np.float64)) for item in items])

    def _one(self, x: npt.NDArray[np.float64]) -> F32:
        start = max(0, (len(x) - _LONGEST) // 2)
        x = x[start : start + _LONGEST]
        x = np.pad(x, (0, max(0, _WINDOW - len(x))))
        frames = np.lib.stride_tricks.sliding_window_view(x, _WINDOW)[::_HOP]
        power = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW), 512)) ** 2
        # −100 dB is silence; the range is brought to about ±0.5.
        level = 10 * np.log10(power @ self._mel.T + 1e-10) / 100 + 0.3
        if len(level) < _SIDE:
            level = np.pad(level, ((0, _SIDE - len(level)), (0, 0)), mode="wrap")
        edges = np.linspace(0, len(level), _SIDE + 1).astype(int)
        whole = np.add.reduceat(level, edges[:-1]) / np.diff(edges)[:, None]
        count = min(_PATCHES, -(-len(level) // _SIDE))
        at = np.linspace(0, len(level) - _SIDE, count).astype(int)
        patches = np.stack([whole, *(level[t : t + _SIDE] for t in at)])
        return self._filters.features(patches[..., None].astype(np.float32))


def _mel_filters() -> npt.NDArray[np.float64]:
    """Triangles, evenly spaced in mel (O'Shaughnessy) from 20 Hz to 7600 Hz; shape (64, 257)."""
    low, high = (2595 * np.log10(1 + f / 700) for f in (20.0, 7600.0))
    edges = 700 * (10 ** (np.linspace(low, high, _MELS + 2) / 2595) - 1)
    f = np.fft.rfftfreq(512, 1 / 16000)
    rising = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return np.asarray(np.maximum(np.minimum(rising, falling), 0.0))
