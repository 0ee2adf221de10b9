"""Readable properties of one recording: what a person would call loud, noisy, dull or hollow.

NumPy and SciPy, and quick to import. Level, clipping and loudness look at the whole recording, at a
few operations a sample; what needs spectra or pitch looks at the central :data:`LONGEST` seconds,
and at a bounded number of frames there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..image.attributes import Attribute
from ._analysis import (
    HOP,
    Pitch,
    check,
    decibel,
    frame_power,
    long_term_spectrum,
    pitch_track,
    sounding,
)

LONGEST = 60.0
"""Seconds, in the middle, that frame by frame properties are taken from."""

# What a listener would hardly notice: see Attribute.step.
_STEPS = {
    "duration": 0.1,
    "sample_rate": 1000.0,
    "loudness": 1.0,
    "level": 1.0,
    "peak": 1.0,
    "snr": 1.0,
    "noise_floor": 1.0,
    "decay_time": 0.05,
    "bandwidth": 500.0,
    "clipped_share": 0.001,
    "silence_share": 0.02,
    "zero_share": 0.02,
    "dc_offset": 0.005,
    "pitch": 5.0,
    "pitch_spread": 0.5,
    "voiced_share": 0.02,
    "syllable_rate": 0.1,
    "spectral_centroid": 50.0,
    "spectral_tilt": 0.5,
    "spectral_flatness": 0.01,
}
ATTRIBUTES: dict[str, Attribute] = {
    a.name: replace(a, step=_STEPS[a.name])
    for a in (
        Attribute("duration", "s", "Length of the recording.", "trimming; padding; speaking rate"),
        Attribute("sample_rate", "Hz", "The file's own rate, 4000 to 384000.", "resampling"),
        Attribute(
            "loudness",
            "LUFS",
            "Integrated loudness after ITU-R BS.1770-4, about −70 to 3; applies from 0.4 s on.",
            "gain; loudness normalisation",
        ),
        Attribute("level", "dBFS", "RMS level, 0 for a square wave at full scale.", "gain"),
        Attribute("peak", "dBFS", "Largest sample, 0 at full scale.", "gain; limiting"),
        Attribute(
            "snr",
            "dB",
            "Level of the recording over that of its pauses, about −10 (noise alone) to 90.",
            "added noise at a target SNR; denoising",
        ),
        Attribute(
            "noise_floor",
            "dBFS",
            "Level of the quietest twentieth of the frames that are not digital silence.",
            "added noise; denoising; gain",
        ),
        Attribute(
            "decay_time",
            "s",
            "Time in which sounds die away by 60 dB, from the fastest decays heard: about 0.1 in a "
            "dry room to 3 in a church.",
            "room impulse response; dereverberation",
        ),
        Attribute(
            "bandwidth",
            "Hz",
            "Highest frequency within 60 dB of the strongest, 0 to half the sample rate.",
            "low-pass filter; resampling; codec",
        ),
        Attribute(
            "clipped_share",
            "",
            "Share of samples in runs of three or more at the recording's own extreme, 0 to 1.",
            "gain before the converter; limiting; declipping",
        ),
        Attribute(
            "silence_share",
            "",
            "Share of frames more than 35 dB under the loud ones, 0 to 1.",
            "trimming; padding with silence",
        ),
        Attribute(
            "zero_share",
            "",
            "Share of samples in digital silence: exactly 0 for a millisecond or more, 0 to 1.",
            "added noise at the real set's noise floor; trimming",
        ),
        Attribute("dc_offset", "", "Mean of the samples, full scale being ±1.", "high-pass filter"),
        Attribute(
            "pitch",
            "Hz",
            "Median fundamental frequency of the voiced frames, 60 to 500.",
            "other speakers; pitch shift",
        ),
        Attribute(
            "pitch_spread",
            "semitones",
            "From the 10th to the 90th percentile of the fundamental frequency; 0 is a monotone.",
            "more expressive speech; pitch-contour scaling",
        ),
        Attribute(
            "voiced_share",
            "",
            "Share of the frames that are no pause in which a pitch is heard, 0 to 1.",
            "added noise; whispered or voiced speech; other texts",
        ),
        Attribute(
            "syllable_rate",
            "1/s",
            "Peaks of the envelope a second, pauses left out; about 3 to 7 in speech.",
            "time stretch; speaking rate of the voice",
        ),
        Attribute(
            "spectral_centroid",
            "Hz",
            "Centre of gravity of the long-term spectrum.",
            "equalisation; microphone response",
        ),
        Attribute(
            "spectral_tilt",
            "dB/octave",
            "Slope of the long-term spectrum from 100 to 3200 Hz; 0 white, −3 pink noise.",
            "equalisation; microphone response",
        ),
        Attribute(
            "spectral_flatness",
            "",
            "Geometric over arithmetic mean of the long-term spectrum, 100 to 3200 Hz: 0 a tone, "
            "1 white noise.",
            "added noise; denoising; equalisation",
        ),
    )
}
"""The attributes in report order, by name."""

# The two stages of BS.1770's K-weighting, as analogue prototypes. The standard tabulates their
# coefficients at 48 kHz only; these parameters give them back there (a test compares), and any
# other rate beside.
_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.9744509555319, 0.7071752369554193, 3.99984385397
_SHELF_POWER = 0.499666774155
_HIGH_PASS_HZ, _HIGH_PASS_Q = 38.13547087613982, 0.5003270373253953
_BLOCK = 0.4  # seconds, three quarters overlapping
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
_LUFS_OFFSET = -0.691  # makes a 997 Hz sine at 0 dBFS read −3.01

_TILT_BAND = (100.0, 3200.0)  # what a telephone has, so that rates compare
_BAND_FLOOR = 60.0
_CLIP_RUN = 3
_ZERO_RUN = 0.001
_PITCH_FRAMES = 600
_DECAYS = (0.1, 0.2, 0.4)  # seconds of one straight decay
_DECAY_DROP = 8.0  # decibels that it must fall


def audio_attributes(samples: npt.NDArray[np.floating], rate: float) -> dict[str, float]:
    """Measure the readable properties of one recording.

    Parameters
    ----------
    samples : ndarray of float, shape (n,)
        One channel, full scale ±1, at the file's own rate: after resampling, digital silence,
        clipping and bandwidth are no longer what they were.
    rate : float
        Samples a second, 4000 to 384000.

    Returns
    -------
    dict of str to float
        A value for each key of :data:`ATTRIBUTES`, in its order. NaN where it does not apply: the
        level of digital silence, the pitch of noise, the loudness of less than 0.4 s.

    Raises
    ------
    TypeError
        If ``samples`` is no array of floats.
    ValueError
        If it is not one channel, is empty, or has values that are not finite, or the rate is out
        of range.

    Notes
    -----
    What they cannot see: what is said, and by whom. ``snr`` and ``noise_floor`` are read from the
    pauses: noise that follows the speech (quantisation, codecs) is missed, and where there is no
    pause, quiet speech counts as noise, so the SNR reads low. On prompts with added white noise it
    was within 2 dB from 0 to 30 dB. ``decay_time`` needs sounds that stop: in rooms of 0.3 to
    1.4 s around 24 s of speech it was within a fifth, but a single dry sentence has few
    fast decays and reads 0.2 to 0.6 s, and noise hides decays. ``pitch`` is YIN's: an
    octave error shows in the spread first, so both are percentiles. ``syllable_rate`` counts bumps
    of the envelope, not syllables: music and rhythmic noise have a rate too.

    References
    ----------
    ITU-R BS.1770-4, "Algorithms to measure audio programme loudness", 2015.
    A. de Cheveigné and H. Kawahara, "YIN", JASA 111(4), 2002 (pitch).
    R. Ratnam et al., "Blind estimation of reverberation time", JASA 114(5), 2003 (the idea: free
    decays in running speech cannot be faster than the room).
    N. H. de Jong and T. Wempe, "Praat script to detect syllable nuclei", Behavior Research Methods
    41(2), 2009 (the idea: peaks of the intensity that stand 2 dB out).
    """
    x = check(samples, rate)
    longest = int(LONGEST * rate)
    start = max(0, (len(x) - longest) // 2)
    middle = x[start : start + longest]
    power = frame_power(middle, rate)
    heard = sounding(power)
    values = {
        "duration": len(x) / rate,
        "sample_rate": float(rate),
        "loudness": loudness(x, rate),
        **_amplitude(x, rate),
        **_pauses(power, heard),
        "decay_time": _decay_time(power, heard),
        "syllable_rate": syllable_rate(power, heard),
        **_spectrum(middle, rate),
        **_pitch(pitch_track(middle, rate, frames=_PITCH_FRAMES)),
    }
    return {name: values[name] for name in ATTRIBUTES}


def loudness(samples: npt.NDArray[np.floating], rate: float) -> float:
    """Measure the integrated loudness of one channel after ITU-R BS.1770-4.

    Parameters
    ----------
    samples : ndarray of float, shape (n,)
        Full scale ±1. One channel, weighted as the centre: a file in two equal channels would read
        3 LU more.
    rate : float
        Samples a second.

    Returns
    -------
    float
        LUFS, −70 to about 3; NaN if the recording is shorter than one block of 0.4 s, or no block
        is louder than −70 LUFS.

    Raises
    ------
    TypeError, ValueError
        As :func:`audio_attributes`.
    """
    from scipy import signal

    x = check(samples, rate)
    step = round(_BLOCK / 4 * rate)
    steps = len(x) // step
    if steps < 4:
        return float("nan")
    weighted = signal.sosfilt(k_weighting(rate), x[: steps * step])
    energy = (weighted.reshape(steps, step) ** 2).sum(axis=1)
    blocks = (energy[:-3] + energy[1:-2] + energy[2:-1] + energy[3:]) / (4 * step)
    level = decibel(blocks) + _LUFS_OFFSET
    loud = level >= _ABSOLUTE_GATE
    if not loud.any():
        return float("nan")
    gate = decibel(blocks[loud].mean()) + _LUFS_OFFSET + _RELATIVE_GATE
    return float(decibel(blocks[loud & (level > gate)].mean())) + _LUFS_OFFSET


def k_weighting(rate: float) -> npt.NDArray[np.float64]:
    """Give BS.1770's K-weighting at any rate, as two second-order sections, shape (2, 6).

    By the bilinear transform with the analogue frequencies held, as the standard's own
    coefficients at 48 kHz were made.
    """
    k = np.tan(np.pi * _SHELF_HZ / rate)
    gain = 10 ** (_SHELF_DB / 20)
    middle = gain**_SHELF_POWER
    norm = 1 + k / _SHELF_Q + k * k
    shelf = [
        (gain + middle * k / _SHELF_Q + k * k) / norm,
        2 * (k * k - gain) / norm,
        (gain - middle * k / _SHELF_Q + k * k) / norm,
        1.0,
        2 * (k * k - 1) / norm,
        (1 - k / _SHELF_Q + k * k) / norm,
    ]
    k = np.tan(np.pi * _HIGH_PASS_HZ / rate)
    norm = 1 + k / _HIGH_PASS_Q + k * k
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / norm, (1 - k / _HIGH_PASS_Q + k * k) / norm]
    return np.array([shelf, high_pass])


def _amplitude(x: npt.NDArray[np.float64], rate: float) -> dict[str, float]:
    """Level, peak, clipping, digital silence and offset: of every sample."""
    high, low = float(x.max()), float(x.min())
    peak = max(high, -low)
    if peak == 0.0:
        nan = float("nan")
        return {
            "level": nan,
            "peak": nan,
            "clipped_share": 0.0,
            "zero_share": 1.0,
            "dc_offset": 0.0,
        }
    # Dither and resampling leave a clipped top not quite flat.
    near = peak * 1e-3
    clipped = 0
    for end, at in ((high, x >= high - near), (-low, x <= low + near)):
        if end > peak / 2 and high - low > 2 * near:
            clipped += _in_runs(at, _CLIP_RUN)
    return {
        "level": float(decibel(x @ x / len(x))),
        "peak": float(decibel(peak * peak)),
        "clipped_share": clipped / len(x),
        "zero_share": _in_runs(x == 0.0, max(2, round(_ZERO_RUN * rate))) / len(x),
        "dc_offset": float(x.mean()),
    }


def _in_runs(at: npt.NDArray[np.bool_], shortest: int) -> int:
    """Count the true values in runs of at least ``shortest``."""
    edges = np.flatnonzero(np.diff(at.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= shortest].sum())


def _pauses(power: npt.NDArray[np.float64], heard: npt.NDArray[np.bool_]) -> dict[str, float]:
    """SNR, noise floor and share of silence."""
    nan = float("nan")
    live = power[power > 1e-14]  # −140 dBFS: rounding of the sums, not sound
    if not len(live):
        return {"snr": nan, "noise_floor": nan, "silence_share": 1.0}
    noise = float(np.percentile(live, 5))
    signal = float(live.mean()) - noise
    return {
        "snr": float(decibel(signal / noise)) if signal > 0 else nan,
        "noise_floor": float(decibel(noise)),
        "silence_share": 1.0 - float(heard.mean()),
    }


def _decay_time(power: npt.NDArray[np.float64], heard: npt.NDArray[np.bool_]) -> float:
    """Fit lines to all stretches of the envelope that fall steadily; give the steep ones' time."""
    if not heard.any():
        return float("nan")
    level = decibel(np.maximum(power, power.max() * 1e-12))
    # A decay ends above the noise by enough that the noise does not bend it.
    lowest = max(float(decibel(np.percentile(power[power > 0], 5))) + 6, float(level.max()) - 60)
    falling = [np.empty(0)]
    for seconds in _DECAYS:
        size = round(seconds / HOP)
        if len(level) < size:
            break
        windows = np.lib.stride_tricks.sliding_window_view(level, size)
        windows = windows[windows.min(axis=1) > lowest]
        t = (np.arange(size) - (size - 1) / 2) * HOP
        centred = windows - windows.mean(axis=1, keepdims=True)
        slope = centred @ t / (t @ t)
        rest = ((centred - slope[:, None] * t) ** 2).sum(axis=1)
        straight = rest < 0.05 * (centred**2).sum(axis=1)
        falling.append(slope[straight & (slope * seconds < -_DECAY_DROP)])
    slopes = np.concatenate(falling)
    return float(-60 / np.percentile(slopes, 10)) if len(slopes) >= 3 else float("nan")


def syllable_rate(power: npt.NDArray[np.float64], heard: npt.NDArray[np.bool_]) -> float:
    """Count peaks of the smoothed envelope that stand 2 dB out, over the time that is no pause."""
    from scipy import signal

    if heard.sum() * HOP < 0.1:
        return float("nan")
    window = np.hanning(9)[1:-1]
    smooth = np.convolve(np.pad(power, 3, mode="edge"), window / window.sum(), "valid")
    level = decibel(np.maximum(smooth, smooth.max() * 1e-8))
    loud = float(np.percentile(level[heard], 99)) - 25
    padded = np.concatenate(([level.min() - 10], level, [level.min() - 10]))
    peaks, _ = signal.find_peaks(padded, height=loud, prominence=2.0)
    return len(peaks) / (float(heard.sum()) * HOP)


def _spectrum(x: npt.NDArray[np.float64], rate: float) -> dict[str, float]:
    """Bandwidth, centroid, tilt and flatness of the long-term spectrum."""
    names = ("bandwidth", "spectral_centroid", "spectral_tilt", "spectral_flatness")
    spectrum = long_term_spectrum(x, rate)
    if spectrum is None or not spectrum.power[1:].any():
        return dict.fromkeys(names, float("nan"))
    f, p = spectrum.frequency, spectrum.power
    smooth = np.convolve(np.pad(p, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    audible = f >= min(50.0, rate / 8)
    top = np.flatnonzero(audible & (smooth >= smooth[audible].max() * 10 ** (-_BAND_FLOOR / 10)))
    # Bands of half an octave weigh alike, or the top octave would be half of all points.
    edges = _TILT_BAND[0] * 2 ** (np.arange(2 * np.log2(_TILT_BAND[1] / _TILT_BAND[0]) + 1) / 2)
    edges = edges[edges <= rate / 2]
    of = np.digitize(f, edges) - 1
    inside = (of >= 0) & (of < len(edges) - 1)
    least = p.max() * 1e-12
    bands = np.bincount(of[inside], p[inside]) / np.bincount(of[inside])
    level = decibel(np.maximum(bands, least))
    octave = (np.arange(len(level)) - (len(level) - 1) / 2) / 2
    flat = np.maximum(p[inside], least)
    return {
        "bandwidth": float(f[top[-1]]),
        "spectral_centroid": float(f[audible] @ p[audible] / p[audible].sum()),
        "spectral_tilt": float(octave @ level / (octave @ octave)),
        "spectral_flatness": float(np.exp(np.log(flat).mean()) / flat.mean()),
    }


def _pitch(track: Pitch) -> dict[str, float]:
    """Median, spread and share of the pitch."""
    nan = float("nan")
    if not track.sounding.any():
        return {"pitch": nan, "pitch_spread": nan, "voiced_share": nan}
    voiced = track.frequency[~np.isnan(track.frequency)]
    share = len(voiced) / int(track.sounding.sum())
    if len(voiced) < 3:
        return {"pitch": nan, "pitch_spread": nan, "voiced_share": share}
    low, high = np.percentile(voiced, [10, 90])
    return {
        "pitch": float(np.median(voiced)),
        "pitch_spread": float(12 * np.log2(high / low)),
        "voiced_share": share,
    }
