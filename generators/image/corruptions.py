"""The 19 common corruptions of Hendrycks & Dietterich, at severities 1 to 5.

Written anew from the paper's descriptions, in numpy, scipy and Pillow, with these differences from
the published benchmark (so its published error rates do not carry over):

- Lengths (blur radii, displacements, flake sizes) are in pixels of a 224-pixel image, the size the
  benchmark was made for, and scale with the shorter side. Noise acts per pixel at every size, and
  JPEG's 8×8 blocks stay 8×8.
- Any size from 8×8 up, grey or RGB.
- Every corruption moves further from the original as the severity rises: ``saturate`` only adds
  saturation (the benchmark's first two levels remove it), and glass blur, fog, frost,
  snow, spatter and elastic transform have ladders of their own.
- Frost is drawn, not pasted from photographs; motion blur and snow need no ImageMagick.
- A severity between two levels is interpolated.

References
----------
Hendrycks, D. and Dietterich, T. (2019). Benchmarking neural network robustness to common
corruptions and perturbations. ICLR. arXiv:1903.12261.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import fft, ndimage

from ..protocol import draw_seed, rng_of
from ..registry import suggestion
from ..values import Modality, Params

F32: TypeAlias = npt.NDArray[np.float32]
_Level: TypeAlias = tuple[float, ...]

MIN_SIDE = 8
"""The smallest side that is accepted, in pixels: JPEG's block, and enough to blur."""
_REFERENCE_SIDE = 224
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True, slots=True)
class _How:
    """How to corrupt: the level's parameters, chance, and pixels per pixel of the reference."""

    level: _Level
    rng: np.random.Generator
    scale: float


_Function: TypeAlias = Callable[[F32, _How], F32]


@dataclass(frozen=True, slots=True)
class _Corruption:
    function: _Function
    levels: tuple[_Level, ...]

    def level(self, severity: float) -> _Level:
        low = min(int(severity), 4)
        part = severity - low
        first, second = self.levels[low - 1], self.levels[low]
        return tuple(a + part * (b - a) for a, b in zip(first, second, strict=True))


_REGISTRY: dict[str, _Corruption] = {}


def _corruption(*levels: _Level) -> Callable[[_Function], _Function]:
    def add(function: _Function) -> _Function:
        _REGISTRY[function.__name__.strip("_")] = _Corruption(function, levels)
        return function

    return add


# Each takes x in [0, 1] with shape (h, w, c); what it gives may leave [0, 1]: the caller clips it.


@_corruption((0.08,), (0.12,), (0.18,), (0.26,), (0.38,))
def _gaussian_noise(x: F32, how: _How) -> F32:
    """Sensor noise in low light; level: standard deviation."""
    noise = how.rng.standard_normal(x.shape, np.float32)
    noise *= np.float32(how.level[0])
    noise += x
    return noise


@_corruption((60,), (25,), (12,), (5,), (3,))
def _shot_noise(x: F32, how: _How) -> F32:
    """Photon counting; level: photons at full white."""
    return (how.rng.poisson(x * how.level[0]) / how.level[0]).astype(np.float32)


@_corruption((0.03,), (0.06,), (0.09,), (0.17,), (0.27,))
def _impulse_noise(x: F32, how: _How) -> F32:
    """Salt and pepper; level: share of values."""
    u = how.rng.random(x.shape, np.float32)
    out = np.where(u < how.level[0], np.float32(1), x)
    out[u < how.level[0] / 2] = 0
    return out


@_corruption((0.15,), (0.2,), (0.35,), (0.45,), (0.6,))
def _speckle_noise(x: F32, how: _How) -> F32:
    """Noise in proportion to the brightness; level: relative standard deviation."""
    noise = how.rng.standard_normal(x.shape, np.float32)
    return x + x * noise * np.float32(how.level[0])


@_corruption((1,), (2,), (3,), (4,), (6,))
def _gaussian_blur(x: F32, how: _How) -> F32:
    """Level: standard deviation in pixels."""
    return _smooth(x, how.level[0] * how.scale)


@_corruption((3,), (4,), (6,), (8,), (10,))
def _defocus_blur(x: F32, how: _How) -> F32:
    """Out of focus: the lens's disc; level: its radius in pixels."""
    radius = how.level[0] * how.scale
    r = math.ceil(radius)
    yy, xx = np.mgrid[-r : r + 1, -r : r + 1]
    # The rim is a pixel wide, so that the disc grows evenly with its radius.
    disc = np.clip(radius + 0.5 - np.hypot(yy, xx), 0, 1)
    return _convolve(x, disc)


@_corruption((0.7, 1.5), (0.9, 2.0), (1.0, 3.0), (1.2, 4.0), (1.5, 5.5))
def _glass_blur(x: F32, how: _How) -> F32:
    """Frosted glass: pixels change places nearby; level: blur, reach in pixels."""
    sigma, reach = how.level[0] * how.scale, how.level[1] * how.scale
    h, w, _ = x.shape
    shift = how.rng.uniform(-reach, reach, (2, h, w)).astype(np.float32)
    return _smooth(_displace(_smooth(x, sigma), shift), sigma)


@_corruption((6,), (10,), (14,), (18,), (22,))
def _motion_blur(x: F32, how: _How) -> F32:
    """Straight movement of the camera; level: its length in pixels. The direction is drawn."""
    return _convolve(x, _line(how.level[0] * how.scale, how.rng.uniform(0, math.pi)))


@_corruption((1.11,), (1.16,), (1.21,), (1.26,), (1.31,))
def _zoom_blur(x: F32, how: _How) -> F32:
    """Movement of the camera towards the scene; level: largest zoom."""
    h, w, _ = x.shape
    # Neighbouring copies differ by about a pixel at the border, as far as 16 copies reach.
    copies = int(np.clip((how.level[0] - 1) * max(h, w) / 2, 2, 16))
    image = _to_image(x)
    total = x.copy()
    for zoom in np.linspace(1, how.level[0], copies)[1:]:
        dy, dx = h / zoom, w / zoom
        box = ((w - dx) / 2, (h - dy) / 2, (w + dx) / 2, (h + dy) / 2)
        total += _to_array(image.resize((w, h), Image.Resampling.BILINEAR, box))
    return total / np.float32(copies)


@_corruption((1.0,), (1.5,), (2.0,), (2.6,), (3.4,))
def _fog(x: F32, how: _How) -> F32:
    """Fog of uneven thickness; level: how thick, in relation to the scene."""
    thickness = np.float32(how.level[0])
    top = np.float32(x.max())
    fog = _plasma(how.rng, x.shape[0], x.shape[1], decay=1.75)[..., None]
    return (x + thickness * fog) * (top / (top + thickness))


@_corruption((0.4, 0.35), (0.55, 0.45), (0.65, 0.55), (0.75, 0.65), (0.85, 0.75))
def _frost(x: F32, how: _How) -> F32:
    """Ice crystals on the lens; level: opacity, covered share."""
    opacity, covered = how.level
    h, w, c = x.shape
    # Needles: sparse seeds, each a star of lines at angles of 60°.
    seeds = how.rng.random((h, w), np.float32)
    length = 40 * how.scale
    tilt = how.rng.uniform(0, math.pi)
    reach = math.ceil(length / 2) + 1
    star = np.zeros((2 * reach + 1, 2 * reach + 1), np.float32)
    for i in range(3):
        line = _line(length, tilt + i * math.pi / 3)
        pad = reach - line.shape[0] // 2
        star[pad : pad + line.shape[0], pad : pad + line.shape[1]] += line
    density = 0.012 / max(how.scale, 0.25)
    needles = _convolve((seeds < density).astype(np.float32)[..., None], star)[..., 0]
    needles = np.maximum(needles, 0) / np.maximum(needles.max(), np.float32(1e-6))
    # Veins: ridges of a plasma.
    veins = 1 - np.abs(2 * _plasma(how.rng, h, w, decay=1.6) - 1)
    ice = np.clip(0.35 + 0.5 * veins**4 + 0.7 * np.sqrt(needles), 0, 1)
    # Ice grows from the border inwards.
    yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
    border = np.maximum(np.abs(yy), np.abs(xx)).astype(np.float32)
    growth = 0.6 * _plasma(how.rng, h, w, decay=1.8) + 0.4 * border
    edge = np.quantile(growth, 1 - covered)
    mask = np.clip((growth - edge) / 0.15 + 0.5, 0, 1)
    alpha = (np.float32(opacity) * ice * mask)[..., None]
    colour = np.array([0.86, 0.93, 1.0], np.float32)
    return _over(x, colour if c == 3 else _LUMA @ colour[:, None], alpha)


@_corruption(
    (0.1, 0.01, 8.0), (0.15, 0.02, 9.0), (0.2, 0.03, 11.0), (0.27, 0.042, 13.0), (0.35, 0.06, 15.0)
)
def _snow(x: F32, how: _How) -> F32:
    """Falling snow in pale light; level: paleness, share of flakes, their streaks in pixels."""
    pale, share, streak = how.level
    h, w, _ = x.shape
    light = np.maximum(x, _grey(x) * 1.5 + 0.5)
    base: F32 = np.clip(x + np.float32(pale) * (light - x), 0, 1)
    angle = how.rng.uniform(math.pi / 4, 3 * math.pi / 4)
    clear: F32 = np.ones((h, w, 1), np.float32)
    # Far flakes are small and many, near ones large and few.
    for size, part in ((1.5, 0.7), (3.5, 0.3)):
        cells = max(size * how.scale, 1.0)
        rows, columns = math.ceil(h / cells) + 1, math.ceil(w / cells) + 1
        flakes = (how.rng.random((rows, columns), np.float32) < 2 * share * part).astype(np.float32)
        grown = _grow(flakes, w, h, Image.Resampling.BICUBIC)
        fallen = _convolve(grown[..., None], _line(streak * how.scale * size / 2.5, angle))
        clear *= 1 - np.clip(1.6 * fallen, 0, 1)
    return 1 - (1 - base) * clear


@_corruption(
    (0.06, 0.45, 0.0), (0.1, 0.5, 0.0), (0.15, 0.6, 0.0), (0.17, 0.65, 0.1), (0.2, 0.7, 0.2)
)
def _spatter(x: F32, how: _How) -> F32:
    """Water on the lens, and from level 4 mud beside it.

    Level: share under water, its opacity, share under mud (nearly opaque).
    """
    h, w, c = x.shape
    out = x
    free = np.ones((h, w, 1), np.float32)
    water, mud = (0.69, 0.93, 0.93), (0.25, 0.16, 0.08)
    for rgb, share, opacity in ((water, how.level[0], how.level[1]), (mud, how.level[2], 0.9)):
        if share == 0:
            continue
        blobs = _smooth(how.rng.standard_normal((h, w, 1), np.float32), 4 * how.scale)
        edge = np.quantile(blobs, 1 - share)
        drops = np.clip((blobs - edge) / (0.5 * max(float(blobs.std()), 1e-6)) + 0.3, 0, 1)
        colour = np.array(rgb, np.float32)
        out = _over(out, colour if c == 3 else _LUMA @ colour[:, None], opacity * drops * free)
        free -= drops
    return out


@_corruption((0.4,), (0.3,), (0.2,), (0.1,), (0.05,))
def _contrast(x: F32, how: _How) -> F32:
    """Level: the share of contrast that is left, about each channel's mean."""
    mean: F32 = x.mean(axis=(0, 1), keepdims=True, dtype=np.float64).astype(np.float32)
    return mean + np.float32(how.level[0]) * (x - mean)


@_corruption((0.1,), (0.2,), (0.3,), (0.4,), (0.5,))
def _brightness(x: F32, how: _How) -> F32:
    """Level: what is added to HSV's value; hue and saturation stay."""
    value: F32 = x.max(axis=2, keepdims=True)
    lifted: F32 = np.minimum(value + np.float32(how.level[0]), 1)
    ratio: F32 = np.divide(lifted, value, out=np.zeros_like(value), where=value > 0)
    return np.where(value > 0, x * ratio, lifted)


@_corruption((2,), (3,), (5,), (10,), (20,))
def _saturate(x: F32, how: _How) -> F32:
    """Level: factor of HSV's saturation; value and hue stay. Grey has none, and stays as it is."""
    value: F32 = x.max(axis=2, keepdims=True)
    chroma = value - x
    largest: F32 = chroma.max(axis=2, keepdims=True)
    # Saturation is largest / value; the factor must not take it past 1.
    limit = np.divide(value, largest, out=np.ones_like(value), where=largest > 0)
    return value - chroma * np.minimum(np.float32(how.level[0]), limit)


@_corruption((25,), (18,), (15,), (10,), (7,))
def _jpeg(x: F32, how: _How) -> F32:
    """Level: quality."""
    buffer = io.BytesIO()
    _to_image(x).save(buffer, "JPEG", quality=round(how.level[0]))
    with Image.open(buffer) as image:
        return _to_array(image)


@_corruption((0.6,), (0.5,), (0.4,), (0.3,), (0.25,))
def _pixelate(x: F32, how: _How) -> F32:
    """Level: pixels per side that are left, as a share."""
    h, w, _ = x.shape
    small = (max(1, round(w * how.level[0])), max(1, round(h * how.level[0])))
    coarse = _to_image(x).resize(small, Image.Resampling.BOX)
    return _to_array(coarse.resize((w, h), Image.Resampling.NEAREST))


@_corruption((1.5,), (2.75,), (4.0,), (5.5,), (7.5,))
def _elastic(x: F32, how: _How) -> F32:
    """Distort like a rubber sheet; level: RMS displacement in pixels, over about 30 pixels."""
    h, w, _ = x.shape
    cell = 30 * how.scale
    shape = (math.ceil(h / cell) + 1, math.ceil(w / cell) + 1)
    shift = np.empty((2, h, w), np.float32)
    for axis in range(2):
        grid = how.rng.standard_normal(shape, np.float32)
        shift[axis] = _grow(grid, w, h, Image.Resampling.BICUBIC)
    rms = max(float(np.sqrt(np.mean(shift.astype(np.float64) ** 2) * 2)), 1e-6)
    return _displace(x, shift * np.float32(how.level[0] * how.scale / rms))


CORRUPTIONS: tuple[str, ...] = tuple(_REGISTRY)
"""The names of the 19 corruptions."""


def corrupt(image: Image.Image, kind: str, severity: float, *, seed: int) -> Image.Image:
    """Corrupt one image.

    Parameters
    ----------
    image : PIL.Image.Image
        Mode ``L`` or ``RGB``, both sides at least 8 pixels.
    kind : str
        One of :data:`CORRUPTIONS`.
    severity : float
        From 1 (slight) to 5 (strong); between two levels their parameters are interpolated.
    seed : int
        For the kinds that need chance; the others ignore it. The same seed at another severity
        gives the same clouds, drops and directions, only stronger.

    Returns
    -------
    PIL.Image.Image
        Of the same size and mode. A grey image comes back from ``saturate`` as it was.

    Raises
    ------
    ValueError
        If the kind is unknown, the severity out of range, the mode another, or the image too small.

    Examples
    --------
    >>> from PIL import Image
    >>> corrupt(Image.new("L", (32, 32), 128), "fog", 3, seed=0).size
    (32, 32)
    """
    _check_kind(kind)
    _check_severity(severity)
    if image.mode not in {"L", "RGB"}:
        raise ValueError(
            f"a corruption takes an image of mode L or RGB, got {image.mode}: convert it first, "
            'e.g. image.convert("RGB")'
        )
    if min(image.size) < MIN_SIDE:
        raise ValueError(
            f"a corruption takes images of at least {MIN_SIDE}×{MIN_SIDE} pixels, got "
            f"{image.width}×{image.height}"
        )
    found = _REGISTRY[kind]
    how = _How(found.level(severity), rng_of(seed), min(image.size) / _REFERENCE_SIDE)
    return _to_image(found.function(_to_array(image), how))


class Corrupt:
    """Corrupt images: one of the 19 corruptions, at one severity or several.

    Parameters
    ----------
    kind : str
        One of :data:`CORRUPTIONS`.
    severity : float or sequence of float
        From 1 (slight) to 5 (strong). Of several, one is drawn for each item.

    Raises
    ------
    ValueError
        If the kind is unknown or a severity is out of range.
    """

    name: ClassVar[str] = "corrupt"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(self, kind: str, severity: float | Sequence[float] = 3) -> None:
        _check_kind(kind)
        self.kind = kind
        given = severity if isinstance(severity, Sequence) else (severity,)
        if not given:
            raise ValueError("severity needs at least one value, got none")
        for one in given:
            _check_severity(one)
        self.severities = tuple(float(one) for one in given)

    @property
    def params(self) -> Params:
        """The kind and its severities."""
        return {"kind": self.kind, "severity": list(self.severities)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw a severity, and a seed for the noise, clouds or directions."""
        seed = draw_seed(rng)
        return {"severity": self.severities[int(rng.integers(len(self.severities)))], "seed": seed}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Corrupt the image (see :func:`corrupt`)."""
        return corrupt(value, self.kind, params["severity"], seed=params["seed"])


def _check_kind(kind: str) -> None:
    if kind not in _REGISTRY:
        raise ValueError(f"unknown corruption {kind!r}{suggestion(str(kind), CORRUPTIONS)}")


def _check_severity(severity: float) -> None:
    if isinstance(severity, bool) or not isinstance(severity, int | float):
        raise TypeError(f"severity must be a number from 1 to 5, got {severity!r}")
    if not 1 <= severity <= 5:
        raise ValueError(f"severity must be from 1 to 5, got {severity}")


def _to_array(image: Image.Image) -> F32:
    x = np.asarray(image, np.float32)
    return (x if x.ndim == 3 else x[..., None]) / np.float32(255)


def _to_image(x: F32) -> Image.Image:
    pixels = np.rint(np.clip(x, 0, 1) * np.float32(255)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _grey(x: F32) -> F32:
    return (x @ _LUMA)[..., None] if x.shape[2] == 3 else x


def _over(x: F32, colour: F32, alpha: F32) -> F32:
    return x + alpha * (colour - x)


def _smooth(x: F32, sigma: float) -> F32:
    smoothed: F32 = ndimage.gaussian_filter(x, (sigma, sigma, 0), mode="reflect")
    return smoothed


def _convolve(x: F32, kernel: npt.NDArray[np.floating]) -> F32:
    """Convolve every channel with an odd square kernel, made to sum to one; borders mirrored."""
    h, w, _ = x.shape
    r = kernel.shape[0] // 2
    padded = np.pad(x, ((r, r), (r, r), (0, 0)), mode="symmetric")
    shape = tuple(fft.next_fast_len(s, real=True) for s in padded.shape[:2])
    planes = np.moveaxis(padded, 2, 0)
    unit = (kernel / kernel.sum()).astype(np.float32)
    product = fft.rfft2(planes, shape) * fft.rfft2(unit, shape)
    out = fft.irfft2(product, shape)[:, 2 * r : 2 * r + h, 2 * r : 2 * r + w]
    return np.ascontiguousarray(np.moveaxis(out, 0, 2))


def _grow(grid: F32, w: int, h: int, how: Image.Resampling) -> F32:
    return np.asarray(Image.fromarray(grid).resize((w, h), how), np.float32)


def _line(length: float, angle: float) -> F32:
    """Draw a straight line about the centre of a square kernel, each point over four pixels."""
    r = math.ceil(length / 2) + 1
    t = np.linspace(-length / 2, length / 2, max(3, 4 * math.ceil(length)))
    y, x = r + t * math.sin(angle), r + t * math.cos(angle)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    kernel = np.zeros((2 * r + 1, 2 * r + 1), np.float32)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1 - np.abs(y - y0 - dy)) * (1 - np.abs(x - x0 - dx))
            np.add.at(kernel, (y0 + dy, x0 + dx), weight.astype(np.float32))
    return kernel


def _displace(x: F32, shift: F32) -> F32:
    """Take every pixel from where the shift (rows, columns) points; bilinear, borders clamped."""
    h, w, _ = x.shape
    y = np.clip(np.arange(h, dtype=np.float32)[:, None] + shift[0], 0, h - 1)
    z = np.clip(np.arange(w, dtype=np.float32)[None, :] + shift[1], 0, w - 1)
    y0 = np.minimum(y.astype(np.intp), h - 2)
    z0 = np.minimum(z.astype(np.intp), w - 2)
    fy, fz = (y - y0).astype(np.float32)[..., None], (z - z0).astype(np.float32)[..., None]
    flat = x.reshape(h * w, -1)
    at = y0 * w + z0
    top = flat[at] + fz * (flat[at + 1] - flat[at])
    bottom = flat[at + w] + fz * (flat[at + w + 1] - flat[at + w])
    return np.asarray(top + fy * (bottom - top), np.float32)


def _plasma(rng: np.random.Generator, h: int, w: int, decay: float) -> F32:
    """Draw clouds in [0, 1]: octaves of noise, each half as wide and ``decay`` times fainter."""
    total = np.zeros((h, w), np.float32)
    side = min(h, w)
    cells, amplitude = 2, 1.0
    while cells < side:
        shape = (math.ceil(h * cells / side) + 1, math.ceil(w * cells / side) + 1)
        grid = rng.standard_normal(shape, np.float32)
        # Coarse octaves show the kinks of bilinear interpolation; fine ones do not.
        how = Image.Resampling.BICUBIC if cells <= 16 else Image.Resampling.BILINEAR
        total += np.float32(amplitude) * _grow(grid, w, h, how)
        cells, amplitude = 2 * cells, amplitude / decay
    low, high = np.float32(total.min()), np.float32(total.max())
    return (total - low) / (high - low)
