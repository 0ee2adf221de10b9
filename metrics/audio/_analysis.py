"""What attributes and naturalness share: frames, their levels, the long-term spectrum, the pitch.

NumPy and quick to import; SciPy is imported where it filters.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

FRAME = 0.02
"""Length of a frame in seconds: below a syllable, above a pitch period."""
HOP = 0.01
"""Step of the envelope in seconds."""
SILENT = 35.0
"""Decibels under the loud frames from which a frame is a pause."""
PITCH_RANGE = (60.0, 500.0)
"""Fundamental frequencies that are looked for, in Hz: from a low male voice to a child's."""

_PITCH_RATE = 16000  # more would only cost: five harmonics of the highest pitch fit
_PITCH_WINDOW = 0.064
_YIN_THRESHOLD = 0.2

_Floats: TypeAlias = npt.NDArray[np.float64]


def check(samples: object, rate: float) -> _Floats:
    """Check one recording and give it in double precision.

    Raises
    ------
    TypeError
        If ``samples`` is no array of floats.
    ValueError
        If it is not one channel, is empty, has a value that is not finite, or the rate is absurd.
    """
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"samples must be a numpy array, got {type(samples).__name__}")
    if samples.dtype.kind != "f":
        raise TypeError(
            f"samples must be floats, full scale ±1, got {samples.dtype}: divide integers by 2 to "
            "the power of their bits less one"
        )
    if samples.ndim != 1:
        raise ValueError(f"samples must be one channel, got shape {samples.shape}: mix it down")
    if samples.size == 0:
        raise ValueError("the recording has no samples")
    if not 4000 <= rate <= 384000:
        raise ValueError(f"rate must be 4000 to 384000 Hz, got {rate}")
    x = samples.astype(np.float64)
    if not np.isfinite(x).all():
        raise ValueError(
            f"the recording has {int(np.count_nonzero(~np.isfinite(x)))} samples that are not "
            "finite: repair or drop it"
        )
    return x


def decibel(power: npt.ArrayLike) -> _Floats:
    """Ten times the decimal logarithm, -inf for 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(power), dtype=np.float64)


def frame_power(x: _Floats, rate: float) -> _Floats:
    """Mean square of every frame of :data:`FRAME` seconds, :data:`HOP` apart; at least one."""
    hop = max(1, round(rate * HOP))
    size = round(FRAME / HOP) * hop
    if len(x) < size:
        return np.array([float(x @ x) / len(x)])
    steps = (x[: len(x) // hop * hop].reshape(-1, hop) ** 2).sum(axis=1)
    return np.asarray((steps[1:] + steps[:-1]) / size)


def sounding(power: _Floats) -> npt.NDArray[np.bool_]:
    """Which frames are no pause: at most :data:`SILENT` dB under the 95th percentile."""
    loud = float(np.percentile(power, 95))
    if loud == 0.0:
        loud = float(power.max())
    return (power > 0) & (power >= loud * 10 ** (-SILENT / 10))


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Long-term power spectrum.

    Attributes
    ----------
    frequency : ndarray, shape (m,)
        In Hz, evenly spaced from 0.
    power : ndarray, shape (m,)
        Power density, in arbitrary units.
    """

    frequency: _Floats
    power: _Floats


def long_term_spectrum(x: _Floats, rate: float, *, frames: int = 800) -> Spectrum | None:
    """Average the spectra of at most ``frames`` frames that are no pause; None if there are none.

    Windows are Blackman–Harris (side lobes under −92 dB): a voice's strong low harmonics must not
    look like energy at the top of the band.
    """
    size = 2 ** math.ceil(math.log2(rate * 0.03))
    if len(x) < size:
        x = np.pad(x, (0, size - len(x)))
    starts = np.arange(0, len(x) - size + 1, size // 2)
    sums = np.concatenate(([0.0], np.cumsum(x * x)))
    power = sums[starts + size] - sums[starts]
    starts = starts[sounding(np.maximum(power, 0.0))]
    if not len(starts):
        return None
    starts = starts[:: -(-len(starts) // frames)]
    t = 2 * np.pi * np.arange(size) / size
    window = 0.35875 - 0.48829 * np.cos(t) + 0.14128 * np.cos(2 * t) - 0.01168 * np.cos(3 * t)
    total = np.zeros(size // 2 + 1)
    for start in range(0, len(starts), 64):  # a long recording must not fill the memory
        part = x[starts[start : start + 64, None] + np.arange(size)]
        part = (part - part.mean(axis=1, keepdims=True)) * window
        spectra = np.fft.rfft(part)
        total += (spectra.real**2 + spectra.imag**2).sum(axis=0)
    return Spectrum(np.arange(size // 2 + 1) * rate / size, total / len(starts))


@dataclass(frozen=True, slots=True)
class Pitch:
    """The fundamental frequency over time.

    Attributes
    ----------
    frequency : ndarray, shape (m,)
        In Hz; NaN where a frame is a pause or not periodic.
    aperiodicity : ndarray, shape (m,)
        0 periodic to about 1 noise; NaN in pauses.
    level : ndarray, shape (m,)
        Level of the frame in dBFS; -inf for digital silence.
    sounding : ndarray of bool, shape (m,)
        Whether the frame is no pause.
    hop : float
        Seconds between two frames.
    """

    frequency: _Floats
    aperiodicity: _Floats
    level: _Floats
    sounding: npt.NDArray[np.bool_]
    hop: float


def pitch_track(x: _Floats, rate: float, *, hop: float = HOP, frames: int | None = None) -> Pitch:
    """Follow the fundamental frequency by YIN.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    rate : float
        In Hz.
    hop : float
        Seconds between two frames; more where ``frames`` asks for it.
    frames : int, optional
        The most frames to look at, evenly spaced.

    References
    ----------
    A. de Cheveigné and H. Kawahara, "YIN, a fundamental frequency estimator for speech and music",
    JASA 111(4), 2002: steps 1 to 5, over all frames at once.
    """
    if rate > _PITCH_RATE:
        x, rate = _decimate(x, rate), rate / math.floor(rate / _PITCH_RATE)
    size = round(rate * _PITCH_WINDOW)
    shortest, longest = math.floor(rate / PITCH_RANGE[1]), math.ceil(rate / PITCH_RANGE[0])
    if len(x) < size:
        x = np.pad(x, (0, size - len(x)))
    step = hop * rate
    if frames is not None:
        step = max(step, (len(x) - size + 1) / frames)
    starts = (np.arange(math.ceil((len(x) - size + 1) / step)) * step).astype(np.intp)
    sums = np.concatenate(([0.0], np.cumsum(x * x)))
    power = np.maximum(sums[starts + size] - sums[starts], 0.0) / size
    heard = sounding(power)
    frequency = np.full(len(starts), np.nan)
    aperiodicity = np.full(len(starts), np.nan)
    rows = np.flatnonzero(heard)
    for start in range(0, len(rows), 128):
        part = rows[start : start + 128]
        f, a = _yin(x[starts[part, None] + np.arange(size)], rate, shortest, longest)
        frequency[part], aperiodicity[part] = f, a
    return Pitch(frequency, aperiodicity, decibel(power), heard, step / rate)


def _decimate(x: _Floats, rate: float) -> _Floats:
    from scipy import signal

    factor = math.floor(rate / _PITCH_RATE)
    if factor == 1:
        return x
    return np.asarray(signal.resample_poly(x, 1, factor), dtype=np.float64)


def _yin(frames: _Floats, rate: float, shortest: int, longest: int) -> tuple[_Floats, _Floats]:
    """Give each frame's frequency (NaN if not periodic) and aperiodicity."""
    # A constant has no period, and would hide one: it is taken out first.
    frames = frames - frames.mean(axis=1, keepdims=True)
    n, size = frames.shape
    lags = longest + 2
    width = size - lags  # samples that every lag compares
    length = 2 ** math.ceil(math.log2(size + width))
    head = np.fft.rfft(frames[:, :width], length)
    cross = np.fft.irfft(np.conj(head) * np.fft.rfft(frames, length), length)[:, :lags]
    sums = np.concatenate((np.zeros((n, 1)), np.cumsum(frames**2, axis=1)), axis=1)
    energy = sums[:, width : width + lags] - sums[:, :lags]
    difference = np.maximum(energy[:, :1] + energy - 2 * cross, 0.0)
    # Cumulative mean normalised difference: 1 at lag 0, under the threshold at a period.
    running = np.cumsum(difference[:, 1:], axis=1)
    d = np.ones((n, lags))
    np.divide(difference[:, 1:] * np.arange(1, lags), running, out=d[:, 1:], where=running > 0)
    inner = d[:, shortest : longest + 1]
    dip = (inner <= d[:, shortest - 1 : longest]) & (inner < d[:, shortest + 1 : longest + 2])
    good = dip & (inner < _YIN_THRESHOLD)
    first = np.where(good.any(axis=1), good.argmax(axis=1), inner.argmin(axis=1)) + shortest
    row = np.arange(n)
    before, at, after = d[row, first - 1], d[row, first], d[row, first + 1]
    bend = before - 2 * at + after
    shift = np.where(bend > 0, (before - after) / (2 * np.where(bend > 0, bend, 1.0)), 0.0)
    frequency = rate / (first + np.clip(shift, -1, 1))
    return np.where(good.any(axis=1), frequency, np.nan), at
