"""How far synthetic speech moves from the real set's way of speaking.

A mean opinion score asks people; no number computed here replaces them. What can be measured
without a trained judge is whether melody, timing, loudness and spectral movement are distributed
over the clips as in recordings of people, and how much of the difference is more than chance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from .._check import Array, pair
from .._result import Interval, Scalar
from ..image.attributes import Attribute
from ..inference import Groups, p_value, permutation_masks, pool_groups
from ._analysis import HOP, check, decibel, frame_power, pitch_track, sounding
from .attributes import LONGEST, syllable_rate

_Floats: TypeAlias = npt.NDArray[np.float64]

_BANDS = 18
_BAND_RANGE = (100.0, 3400.0)  # what a telephone has, so that rates compare
_MODULATION = (1.0, 2.0, 4.0, 8.0, 16.0)
_PAUSE = 0.08  # seconds; shorter ones are the closures of plosives
_LEAST_VOICED = 5  # frames
_MAX_ROWS = 2000

PROSODY: dict[str, Attribute] = {
    a.name: a
    for a in (
        Attribute("melody_spread", "semitones", "Standard deviation of the pitch.", "expressivity"),
        Attribute("melody_speed", "semitones/s", "Median speed of the pitch.", "expressivity"),
        Attribute(
            "melody_fall", "semitones/s", "Slope of the pitch over the clip.", "sentence intonation"
        ),
        Attribute(
            "jitter", "semitones", "Median bend of the pitch from frame to frame.", "vocoder; voice"
        ),
        Attribute("shimmer", "dB", "Median bend of the level in voiced frames.", "vocoder; voice"),
        Attribute(
            "hoarseness", "", "Median aperiodicity of voiced frames, 0 to 0.2.", "vocoder; voice"
        ),
        Attribute("stress", "dB", "Standard deviation of the level outside pauses.", "compression"),
        Attribute("voicing", "", "Share of voiced frames outside pauses.", "phone durations; text"),
        Attribute("voiced_run", "log s", "Mean logarithm of voiced stretches.", "phone durations"),
        Attribute("voiced_run_spread", "log s", "Their standard deviation.", "phone durations"),
        Attribute("pausing", "", "Share of pauses within the clip.", "pauses; punctuation"),
        Attribute("pause_rate", "1/s", "Pauses within the clip a second.", "pauses; punctuation"),
        Attribute("syllables", "1/s", "Peaks of the envelope a second.", "speaking rate"),
        *(
            Attribute(
                f"rhythm_{low:g}_{high:g}", "log", "Logarithm of the envelope's share of movement "
                f"from {low:g} to {high:g} Hz.", "durations; reverberation; noise",
            )
            for low, high in pairwise(_MODULATION)
        ),
        Attribute("flux", "dB", "Mean change of the spectrum in 10 ms.", "vocoder; smoothing"),
        Attribute("flux_spread", "dB", "Its standard deviation over time.", "joins; smoothing"),
        Attribute("contrast_in_time", "dB", "Mean spread of a band's level.", "noise; smoothing"),
    )
}  # fmt: skip
"""What :func:`prosody_features` gives, in order."""


def prosody_features(samples: npt.NDArray[np.floating], rate: float) -> _Floats:
    """Describe how something is said in one recording.

    Parameters
    ----------
    samples : ndarray of float, shape (n,)
        One channel, full scale ±1.
    rate : float
        Samples a second, 4000 to 384000. Bands up to 3400 Hz are looked at, whatever the rate.

    Returns
    -------
    ndarray of float64, shape (len(PROSODY),)
        All NaN if the clip has too little speech to describe: under half a second that is no pause,
        or under five voiced frames.

    Raises
    ------
    TypeError, ValueError
        As :func:`~evalsuite.metrics.audio.attributes.audio_attributes`.

    Notes
    -----
    Pitch is taken in semitones, level in decibels, so that voice and gain drop out of most of
    them; none is a judgement by itself.
    """
    x = check(samples, rate)
    longest = int(LONGEST * rate)
    start = max(0, (len(x) - longest) // 2)
    x = x[start : start + longest]
    power = frame_power(x, rate)
    heard = sounding(power)
    track = pitch_track(x, rate)
    voiced = ~np.isnan(track.frequency)
    if heard.sum() * HOP < 0.5 or voiced.sum() < _LEAST_VOICED:
        return np.full(len(PROSODY), np.nan)
    values = np.array(
        [
            *_melody(track.frequency, voiced, track.hop),
            float(np.median(_bend(track.level, voiced))),
            float(np.median(track.aperiodicity[voiced])),
            float(decibel(power[heard]).std()),
            float(voiced.sum() / track.sounding.sum()),
            *_runs(voiced, track.hop),
            *_pausing(heard),
            syllable_rate(power, heard),
            *_rhythm(power),
            *_movement(x, rate),
        ]
    )
    return values if np.isfinite(values).all() else np.full(len(PROSODY), np.nan)


@dataclass(frozen=True, slots=True)
class ProsodyShift:
    """One feature of :data:`PROSODY` on both sides.

    Attributes
    ----------
    name : str
    real, synthetic : float
        Means over clips.
    shift : float
        Their difference in standard deviations of the pooled clips.
    """

    name: str
    real: float
    synthetic: float
    shift: float


@dataclass(frozen=True, slots=True)
class NaturalnessGap(Scalar):
    """Distance of synthetic speech from real speech.

    Attributes
    ----------
    value : float
        Mean over the views of the energy coefficient: 0 alike, 1 apart. It may be a little under 0,
        since it is unbiased at 0.
    ci : Interval
        By the jackknife over clips, or groups.
    floor : float
        95th percentile of the same number when the labels are dealt out at random.
    ratio : float
        ``value / floor``: above 1 is more than chance.
    p_value : float
        Of the permutation test that the two sets speak alike.
    views : mapping of str to float
        The coefficient of each view: ``prosody`` and the embeddings given.
    shifts : tuple of ProsodyShift
        What differs in prosody, the largest first.
    n_real, n_synthetic : int
        Clips that were compared.
    left_out : int
        Clips with too little speech to describe.
    """

    value: float
    ci: Interval
    floor: float
    ratio: float
    p_value: float
    views: Mapping[str, float]
    shifts: tuple[ProsodyShift, ...]
    n_real: int
    n_synthetic: int
    left_out: int


def naturalness_gap(
    real: _Floats,
    synthetic: _Floats,
    *,
    embeddings: Mapping[str, tuple[Array, Array]] | None = None,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    B: int = 499,
    level: float = 0.95,
    seed: int = 0,
) -> NaturalnessGap:
    """Measure how far synthetic speech is from real speech, clip by clip.

    Each view (prosody, and any embeddings) is scaled to unit variance over the pooled clips. Its
    energy coefficient compares the mean distance between a real and a synthetic clip with the mean
    distances within the sides: ``(2A − B − C) / 2A``, which is 0 in expectation if the sides are
    distributed alike, and otherwise positive (Székely and Rizzo 2013).

    Parameters
    ----------
    real, synthetic : ndarray of float, shapes (n, len(PROSODY)) and (m, len(PROSODY))
        Rows of :func:`prosody_features`. Rows of NaN are left out and counted.
    embeddings : mapping of str to (ndarray, ndarray), optional
        Features of the same clips by an encoder of speech, as ``whisper_base_encoder``. Not of the
        speaker, unless the synthetic voice is meant to be the real one: another person is no less
        natural.
    groups_real, groups_synthetic : sequence, optional
        What clips belong together: a speaker, a text.
    B : int
        Random relabellings for the floor and the p-value, at least 19.
    level : float
        Coverage of the interval.
    seed : int
        Of the relabellings, and of the draw of 2000 clips from a larger side.

    Returns
    -------
    NaturalnessGap

    Raises
    ------
    ValueError
        If shapes or labels do not fit, or fewer than 5 clips a side can be described.

    Notes
    -----
    What it cannot see: words (a fluent sentence of nonsense is natural here), emotion that fits or
    does not, and artefacts that a listener hears but melody, rhythm and spectrum do not show. It
    measures distance from *this* real set: another microphone, noise, language, kind of text or
    way of speaking is distance too, so compare generators on the same texts, against recordings of
    the same kind. A set of copies of the real clips has the best value: look at copying as well.
    Its order of systems is checked in results/speech/naturalness.md; it is no mean opinion score.

    References
    ----------
    G. J. Székely and M. L. Rizzo, "Energy statistics", J. Statistical Planning and Inference
    143(8), 2013.
    """
    if B < 19:
        raise ValueError(f"B must be at least 19 for a 95th percentile, got {B}")
    width = len(PROSODY)
    for rows, name in ((real, "real"), (synthetic, "synthetic")):
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"{name} must have shape (n, {width}), got {rows.shape}")
    keep = _kept(real, synthetic, seed)
    views: dict[str, tuple[Array, Array]] = {"prosody": (real, synthetic), **(embeddings or {})}
    pooled = {}
    for name, (x, y) in views.items():
        if len(x) != len(real) or len(y) != len(synthetic):
            raise ValueError(
                f"{name!r} must have the same clips as the prosody, {len(real)} and "
                f"{len(synthetic)}, got {len(x)} and {len(y)}"
            )
        a, b = pair(x[keep[0]], y[keep[1]])
        pooled[name] = np.concatenate((a.cpu().numpy(), b.cpu().numpy()))
    n, m = (len(k) for k in keep)
    groups = pool_groups(
        None if groups_real is None else [groups_real[i] for i in keep[0]],
        None if groups_synthetic is None else [groups_synthetic[i] for i in keep[1]],
        n,
        m,
    )
    scaled = {name: _scaled(rows) for name, rows in pooled.items()}
    distances = {name: _distances(rows) for name, rows in scaled.items()}
    side = np.arange(n + m) < n
    coefficients = {
        name: float(_coefficients(d, side[:, None], ~side[:, None])[0])
        for name, d in distances.items()
    }
    value = float(np.mean(list(coefficients.values())))
    # First, for it refuses groups that could leave a side with a single clip, here or relabelled.
    se = _jackknife(distances, side, groups)
    masks = permutation_masks(n, m, B, groups=groups, seed=seed)
    null = np.mean([_coefficients(d, *masks) for d in distances.values()], axis=0)
    floor = float(np.percentile(null, 95))
    z = float(ndtri(0.5 + level / 2))
    gap = scaled["prosody"][:n].mean(axis=0) - scaled["prosody"][n:].mean(axis=0)
    means = pooled["prosody"][:n].mean(axis=0), pooled["prosody"][n:].mean(axis=0)
    shifts = [
        ProsodyShift(name, float(means[0][k]), float(means[1][k]), float(-gap[k]))
        for k, name in enumerate(PROSODY)
    ]
    return NaturalnessGap(
        value=value,
        ci=Interval(value - z * se, value + z * se, level, "jackknife-normal"),
        floor=floor,
        ratio=value / floor,
        p_value=p_value(value, null, tie=1e-12),
        views=coefficients,
        shifts=tuple(sorted(shifts, key=lambda s: -abs(s.shift))),
        n_real=n,
        n_synthetic=m,
        left_out=int(np.isnan(real).any(axis=1).sum() + np.isnan(synthetic).any(axis=1).sum()),
    )


# --- one clip -------------------------------------------------------------------------------------


def _bend(values: _Floats, voiced: npt.NDArray[np.bool_]) -> _Floats:
    """Absolute second differences where three frames in a row are voiced; 0 if there are none."""
    three = voiced[2:] & voiced[1:-1] & voiced[:-2]
    # Chosen before they are subtracted: silence is −inf dB, and two of it have no difference.
    after, now, before = (part[three] for part in (values[2:], values[1:-1], values[:-2]))
    bend = np.abs(after - 2 * now + before)
    return bend if len(bend) else np.zeros(1)


def _melody(
    frequency: _Floats, voiced: npt.NDArray[np.bool_], hop: float
) -> tuple[float, float, float, float]:
    """Spread, speed, fall and jitter of the pitch, kept within an octave of its median."""
    pitch = 12 * np.log2(frequency)
    middle = float(np.median(pitch[voiced]))
    pitch = np.clip(pitch, middle - 12, middle + 12)
    two = voiced[1:] & voiced[:-1]
    speed = np.abs(np.diff(pitch))[two]
    t = np.flatnonzero(voiced) * hop
    centred = t - t.mean()
    return (
        float(pitch[voiced].std()),
        float(np.median(speed)) / hop if len(speed) else 0.0,
        float(centred @ pitch[voiced] / (centred @ centred)),
        float(np.median(_bend(pitch, voiced))),
    )


def _lengths(at: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    edges = np.flatnonzero(np.diff(at.astype(np.int8), prepend=0, append=0))
    return np.asarray(edges[1::2] - edges[::2])


def _runs(voiced: npt.NDArray[np.bool_], hop: float) -> tuple[float, float]:
    """Mean and spread of the logarithm of voiced stretches."""
    length = np.log(_lengths(voiced) * hop)
    return float(length.mean()), float(length.std())


def _pausing(heard: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Share and rate of pauses between the first and the last sound."""
    at = np.flatnonzero(heard)
    inner = ~heard[at[0] : at[-1] + 1]
    lengths = _lengths(inner)
    lengths = lengths[lengths * HOP >= _PAUSE]
    return float(lengths.sum() / len(inner)), float(len(lengths) / (len(inner) * HOP))


def _rhythm(power: _Floats) -> list[float]:
    """Where the envelope's movement lies, in octaves from 1 to 16 Hz."""
    envelope = np.sqrt(power)
    size = max(512, len(envelope))
    moved = np.abs(np.fft.rfft((envelope - envelope.mean()) * np.hanning(len(envelope)), size)) ** 2
    f = np.fft.rfftfreq(size, HOP)
    parts = [float(moved[(f >= low) & (f < high)].sum()) for low, high in pairwise(_MODULATION)]
    total = sum(parts)
    return [float(np.log(max(p / total, 1e-4))) if total > 0 else float("nan") for p in parts]


def _movement(x: _Floats, rate: float) -> tuple[float, float, float]:
    """Mean and spread of the spectrum's change, and how far bands rise and fall."""
    size, hop = round(rate * 0.025), max(1, round(rate * HOP))
    if len(x) < size + 2 * hop:
        return (float("nan"),) * 3
    low, high = (1127 * float(np.log1p(f / 700)) for f in _BAND_RANGE)
    mel = np.linspace(low, high, _BANDS + 1)
    edges = np.round(700 * np.expm1(mel / 1127) * size / rate).astype(np.intp)
    edges = np.maximum.accumulate(np.minimum(edges, size // 2))
    starts = edges[:-1][np.diff(edges) > 0]
    window = np.hanning(size + 2)[1:-1]
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[::hop]
    bands = np.concatenate(
        [
            np.add.reduceat(
                np.abs(np.fft.rfft(frames[k : k + 256] * window)) ** 2, [*starts, edges[-1]], axis=1
            )[:, :-1]
            for k in range(0, len(frames), 256)
        ]
    )
    total = bands.sum(axis=1)
    heard = sounding(total)
    level = decibel(np.maximum(bands, total.max() * 1e-6))
    change = np.abs(np.diff(level, axis=0)).mean(axis=1)[heard[1:] & heard[:-1]]
    if len(change) < 2:
        return (float("nan"),) * 3
    return float(change.mean()), float(change.std()), float(level[heard].std(axis=0).mean())


# --- two sets -------------------------------------------------------------------------------------


def _kept(
    real: _Floats, synthetic: _Floats, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Choose the rows that are described, at most :data:`_MAX_ROWS` a side."""
    rng = np.random.default_rng(seed)
    kept = []
    for x, side in ((real, "real"), (synthetic, "synthetic")):
        rows = np.flatnonzero(~np.isnan(x).any(axis=1))
        if len(rows) < 5:
            raise ValueError(
                f"{side} has {len(rows)} clips with enough speech to describe, 5 are needed"
            )
        if len(rows) > _MAX_ROWS:
            rows = np.sort(rng.choice(rows, _MAX_ROWS, replace=False))
        kept.append(rows)
    return kept[0], kept[1]


def _scaled(rows: _Floats) -> _Floats:
    """Columns of unit variance; what never changes says nothing and becomes 0."""
    spread = rows.std(axis=0)
    centred = rows - rows.mean(axis=0)
    flat = spread <= 1e-12 * np.abs(rows).max(axis=0)
    return np.asarray(np.where(flat, 0.0, centred / np.where(flat, 1.0, spread)))


def _distances(rows: _Floats) -> _Floats:
    squared = (rows**2).sum(axis=1)
    d = np.maximum(squared[:, None] + squared - 2 * rows @ rows.T, 0.0)
    np.fill_diagonal(d, 0.0)
    return np.asarray(np.sqrt(d))


def _coefficients(
    d: _Floats, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> _Floats:
    """Energy coefficients for masks (N, R); distances of a clip to itself do not count."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    to_a, to_b = d @ a, d @ b
    n, m = a.sum(axis=0), b.sum(axis=0)
    between = (a * to_b).sum(axis=0) / (n * m)
    within = (a * to_a).sum(axis=0) / (n * (n - 1)) + (b * to_b).sum(axis=0) / (m * (m - 1))
    return np.asarray((2 * between - within) / (2 * between))


def _jackknife(
    distances: Mapping[str, _Floats],
    side: npt.NDArray[np.bool_],
    groups: npt.NDArray[np.int_] | None,
) -> float:
    """Give the standard error of the mean coefficient, leaving out a clip or a group at a time."""
    n = len(side)
    codes = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(codes.max()) + 1
    kept = codes[:, None] != np.arange(count)
    first, second = kept & side[:, None], kept & ~side[:, None]
    if min(first.sum(axis=0).min(), second.sum(axis=0).min()) < 2:
        raise ValueError("one group holds almost a whole side: there is nothing left without it")
    left = np.mean([_coefficients(d, first, second) for d in distances.values()], axis=0)
    variance = 0.0
    # Clips of the two sides vary apart: each side has a jackknife of its own, and a group that
    # reaches over both belongs to neither more than to the other.
    of = np.array([side[codes == c].mean() for c in range(count)])
    for part in (left[of == 1], left[of == 0], left[(of > 0) & (of < 1)]):
        if len(part) > 1:
            variance += (len(part) - 1) / len(part) * float(((part - part.mean()) ** 2).sum())
    return float(np.sqrt(variance))
