"""Rectangular rooms by the image-source method: direct sound, early reflections, tail.

References
----------
Allen, J. and Berkley, D. (1979). Image method for efficiently simulating small-room acoustics.
Journal of the Acoustical Society of America 65(4), 943-950.
Eyring, C. (1930). Reverberation time in "dead" rooms. Journal of the Acoustical Society of America
1(2), 217-241.
Schroeder, M. (1965). New method of measuring reverberation time. Journal of the Acoustical Society
of America 37(3), 409-412.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

from ..effect import Span
from ..values import Params
from .effects import AudioEffect

F64: TypeAlias = npt.NDArray[np.float64]

SPEED = 343.0
"""Of sound at 20 °C, in m/s."""
_FINER = 4  # an image arrives between samples: placed on a grid this much finer, then reduced


@dataclass(frozen=True)
class ShoeboxRoom(AudioEffect):
    """Put the sound into a rectangular room, with a source and a microphone somewhere in it.

    The walls reflect all frequencies alike, as much as ``t60`` needs (an empty box rings longer
    than Eyring's formula says, up to a half). The sound begins with the direct sound, at its level:
    what the way to the microphone costs in time and level is taken out.

    What it is not: there is no furniture, no scattering, no air absorption, no direction of mouth
    or microphone, and the lowest frequencies are louder than in a room, because walls reflect them
    without loss of phase.

    Parameters
    ----------
    length, width, height : float or [low, high]
        Of the room, in metres.
    t60 : float or [low, high]
        Seconds in which the sound falls by 60 dB, by its decay from -5 to -25 dB.
    """

    name: ClassVar[str] = "shoebox_room"
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "length": (2, 20),
        "width": (2, 20),
        "height": (2, 10),
        "t60": (0.05, 1),
    }

    length: Span = (3.0, 8.0)
    width: Span = (2.5, 6.0)
    height: Span = (2.4, 3.5)
    t60: Span = (0.2, 0.7)

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the room, and where source and microphone are, as parts of its sides."""
        places = rng.uniform(0.1, 0.9, (2, 3))
        return {**super().sample_params(rng), "places": places.tolist()}

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        size = np.array([params[side] for side in ("length", "width", "height")])
        source, microphone = size * np.array(params["places"])
        response, _ = shoebox_response(rate, size, source, microphone, params["t60"])
        out: F64 = signal.fftconvolve(x, response)[: x.size]
        return out


def eyring_reflection(size: F64, t60: float) -> float:
    """Give the reflection coefficient of pressure at which a diffuse room has this T60."""
    # T60 = 24 ln(10) / c * V / (-S ln(1 - absorption)), and reflection = sqrt(1 - absorption).
    return math.exp(-3 * math.log(10) / SPEED * mean_free_path(size) / t60)


def mean_free_path(size: F64) -> float:
    """Give the mean way between two reflections in a diffuse room, 4V/S, in metres."""
    volume = float(np.prod(size))
    surface = 2 * float(size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    return 4 * volume / surface


def shoebox_response(
    rate: int, size: F64, source: F64, microphone: F64, t60: float
) -> tuple[F64, float]:
    """Give a room's response by images of the source, from the direct sound (1) to -60 dB.

    Parameters
    ----------
    rate : int
        Samples per second.
    size, source, microphone : ndarray, shape (3,)
        In metres; both within the room.
    t60 : float
        Seconds, of the decay from -5 to -25 dB.

    Returns
    -------
    ndarray, shape (n,), and float
        The response, whose first sample is the direct sound; the reflection coefficient.
    """
    images = _Images(size, source, microphone, t60)
    reflection = eyring_reflection(size, t60)
    if t60 * SPEED >= 6 * mean_free_path(size):  # fewer reflections are no decay to be measured
        for _ in range(3):  # T60 is as good as inverse to the reflection's logarithm
            reflection **= images.decay(reflection) / t60
    fine = rate * _FINER
    heard = images.heard(reflection, fine, 1)
    # Centred on the direct sound, so that its sample is the first.
    taps = signal.firwin(20 * _FINER + 1, 1 / _FINER, window=("kaiser", 8.0)) * _FINER
    reduced = signal.fftconvolve(heard, taps)[10 * _FINER :: _FINER]
    return reduced[: math.ceil(t60 * rate)], reflection


class _Images:
    """The mirrored sources that are heard within T60 of the direct sound."""

    def __init__(self, size: F64, source: F64, microphone: F64, t60: float) -> None:
        self.t60 = t60
        self.direct = max(float(np.linalg.norm(source - microphone)), 0.1)
        self.reach = self.direct + SPEED * t60
        axes = []
        for side, s, r in zip(size, source, microphone, strict=True):
            most = math.ceil(self.reach / (2 * side)) + 1
            n = np.arange(-most, most + 1)
            # Of a source at s between walls at 0 and L: 2nL + s after 2|n| reflections, and
            # 2nL - s after |2n - 1|.
            offsets = np.concatenate([2 * n * side + s, 2 * n * side - s]) - r
            axes.append((offsets, np.concatenate([2 * np.abs(n), np.abs(2 * n - 1)])))
        self.x, (y, y_bounces), (z, z_bounces) = axes
        flat = (y[:, None] ** 2 + z[None, :] ** 2).ravel()
        order = np.argsort(flat, kind="stable")
        self.flat = flat[order]
        self.bounces = (y_bounces[:, None] + z_bounces[None, :]).ravel()[order]

    def heard(self, reflection: float, rate: int, power: int) -> F64:
        """Add up the images, their levels to a power, in steps of 1/rate from the direct sound."""
        total = np.zeros(math.ceil(self.t60 * rate) + 1)
        most = int(self.bounces.max() + self.x[1].max())
        lost = reflection ** (power * np.arange(most + 1))
        for offset, bounced in zip(*self.x, strict=True):
            within = int(np.searchsorted(self.flat, self.reach**2 - offset**2))  # else too far
            distance = np.maximum(np.sqrt(offset**2 + self.flat[:within]), self.direct)
            place = np.rint((distance - self.direct) * (rate / SPEED)).astype(np.int64)
            level = (self.direct / distance) ** power * lost[bounced + self.bounces[:within]]
            total += np.bincount(place, level, total.size)[: total.size]
        return total

    def decay(self, reflection: float) -> float:
        """Give the T60 of the images' energies, between -5 and -25 dB (Schroeder 1965)."""
        rate = 2000
        energy = np.cumsum(self.heard(reflection, rate, 2)[::-1])[::-1]
        level = 10 * np.log10(energy[energy > 0] / energy[0])
        first, last = (int(np.argmax(level <= edge)) for edge in (-5, -25))
        return float(60 / 20 * max(last - first, 1) / rate)
