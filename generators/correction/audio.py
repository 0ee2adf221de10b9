"""Corrections of sound: band, room, spectrum, noise in the pauses, loudness.

Each moves one readable property of the whole set; a recording keeps its place among the others. No
correction takes noise or reverberation away, and none brings back a band that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import ClassVar

import numpy as np
import numpy.typing as npt
from scipy import signal

from ...metrics.audio._analysis import frame_power, long_term_spectrum, sounding
from ...metrics.audio.attributes import audio_attributes, loudness
from ..audio.effects import room_response
from ..protocol import draw_seed, rng_of
from ..values import Audio, Modality, Params
from .base import F64, Correction, NotCorrectableError, Value, compact

CENTRES = 1000 * 2.0 ** (np.arange(-14, 14) / 3)
"""Centres of the third octaves, about 40 Hz to 20 kHz."""
_MAX_GAIN = 12.0
_FILTER_SECONDS = 0.064
_SEARCHED = 8
_PEAK = 0.999
_T60 = (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2, 1.6)
_DIRECT_DB = 6.0


class _AudioCorrection(Correction):
    input: ClassVar[Modality] = Modality.AUDIO
    output: ClassVar[Modality] = Modality.AUDIO

    def apply(self, value: Audio, params: Params) -> Audio:
        """Correct one recording; what would go beyond full scale is made quieter as a whole."""
        x, rate = self._corrected(value.samples.astype(np.float64), value.rate, params)
        peak = float(np.abs(x).max())
        return Audio((x * min(1.0, _PEAK / max(peak, 1e-12))).astype(np.float32), rate)

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:
        raise NotImplementedError


class MatchEqualisation(_AudioCorrection):
    """Give the set the real set's long-term spectrum, by one linear-phase filter.

    What a microphone, a telephone or a synthesiser's timbre does to the spectrum of all recordings
    alike. It cannot see what changes within a recording, and in pauses amplifies noise.

    Parameters
    ----------
    gain : list of float
        Gain in decibels in each third octave of :data:`CENTRES`, within ±12.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_equalisation"
    acts_on: ClassVar[frozenset[str]] = frozenset(
        {"spectral_centroid", "spectral_tilt", "spectral_flatness"}
    )

    def __init__(self, gain: Sequence[float], held_out: Sequence[str] = ()) -> None:
        super().__init__(held_out)
        self.gain = np.asarray(gain, float)
        if self.gain.shape != CENTRES.shape or np.abs(self.gain).max() > _MAX_GAIN + 1e-6:
            raise ValueError(f"gain needs {len(CENTRES)} values within ±{_MAX_GAIN} dB")

    def _arguments(self) -> Params:
        return {"gain": compact(self.gain)}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        left, right = (_mean_levels(side) for side in (real, synthetic))
        known = np.isfinite(left) & np.isfinite(right)
        if not known.any():
            raise NotCorrectableError(
                "the sets have no band in common to compare their spectra in", "no_common_band"
            )
        at = np.flatnonzero(known)
        gain = np.interp(np.arange(len(CENTRES)), at, (left - right)[known])
        # A timbre has no steps of a third octave: single bands are speech that happened to occur.
        gain = np.convolve(np.pad(gain, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
        # Level is loudness, which is another correction's.
        gain -= float(np.interp(1000.0, CENTRES, gain))
        return {"gain": compact(np.clip(gain, -_MAX_GAIN, _MAX_GAIN))}

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:  # noqa: ARG002
        return _filtered(x, rate, self.gain), rate


class MatchLoudness(_AudioCorrection):
    """Give the set the real set's loudness (ITU-R BS.1770): its mean and its spread.

    What is shorter than 0.4 s, or as good as silent, has no loudness: its RMS level stands for it.

    Parameters
    ----------
    source_mean, source_sd, target_mean, target_sd : float
        In LUFS, of the synthetic and of the real set.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_loudness"
    acts_on: ClassVar[frozenset[str]] = frozenset({"loudness", "level", "peak"})

    def __init__(
        self,
        source_mean: float,
        source_sd: float,
        target_mean: float,
        target_sd: float,
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(held_out)
        self._moments = _Moments(source_mean, source_sd, target_mean, target_sd)

    def _arguments(self) -> Params:
        return self._moments.params()

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        return _Moments.fit(
            [_loudness(v.value.samples, v.value.rate) for v in real],
            [v.weight for v in real],
            [_loudness(v.value.samples, v.value.rate) for v in synthetic],
            "loudness",
        ).params()

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:  # noqa: ARG002
        now = _loudness(x, rate)
        if not np.isfinite(now):
            return x, rate
        return x * 10 ** ((self._moments.moved(now) - now) / 20), rate


class MatchSnr(_AudioCorrection):
    """Add noise with the spectrum of the real set's pauses until the pauses are as loud.

    It only adds: of a recording that is noisier than it should be, nothing is taken away.

    Parameters
    ----------
    source_mean, source_sd, target_mean, target_sd : float
        Signal-to-noise ratio in decibels, of the synthetic and of the real set.
    colour : list of float
        Level of the real pauses in each third octave of :data:`CENTRES`, in decibels.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_snr"
    acts_on: ClassVar[frozenset[str]] = frozenset({"snr", "noise_floor", "zero_share"})

    def __init__(
        self,
        source_mean: float,
        source_sd: float,
        target_mean: float,
        target_sd: float,
        colour: Sequence[float],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(held_out)
        self._moments = _Moments(source_mean, source_sd, target_mean, target_sd)
        self.colour = np.asarray(colour, float)
        if self.colour.shape != CENTRES.shape:
            raise ValueError(f"colour needs {len(CENTRES)} values, got {self.colour.shape}")

    def _arguments(self) -> Params:
        return {**self._moments.params(), "colour": compact(self.colour)}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        moments = _Moments.fit(
            [_snr(_x(v.value), v.value.rate) for v in real],
            [v.weight for v in real],
            [_snr(_x(v.value), v.value.rate) for v in synthetic],
            "signal-to-noise ratio",
        )
        if moments.target_mean >= moments.source_mean:
            raise NotCorrectableError(
                f"the synthetic set is the noisier one (SNR {moments.source_mean:.1f} dB against "
                f"{moments.target_mean:.1f} dB): noise cannot be taken away, make it without",
                "noisier",
                synthetic=moments.source_mean,
                real=moments.target_mean,
            )
        rows = [_band_levels(_pauses(v.value), v.value.rate) for v in real]
        colour = _average(rows, [v.weight for v in real])
        known = np.isfinite(colour)
        if not known.any():
            raise NotCorrectableError(
                "the real recordings have no pauses to take the noise from", "no_pauses"
            )
        colour = np.interp(np.arange(len(CENTRES)), np.flatnonzero(known), colour[known])
        return {**moments.params(), "colour": compact(colour)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the noise's seed."""
        return {"seed": draw_seed(rng)}

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:
        power = frame_power(x, rate)
        noise = max(float(np.percentile(power, 5)), 0.0)
        speech = float(power.mean()) - noise
        if speech <= 0:
            return x, rate
        # Digital silence has no SNR of its own; it gets the real set's mean.
        own = _snr(x, rate)
        wanted = self._moments.moved(own) if np.isfinite(own) else self._moments.target_mean
        lacking = speech / 10 ** (wanted / 10) - noise
        if lacking <= 0:
            return x, rate
        white = rng_of(params["seed"]).standard_normal(len(x))
        # Equal power in each third octave is pink: white noise has 1 dB more from band to band.
        shape = self.colour - 10 * np.log10(CENTRES)
        coloured = _filtered(white, rate, shape - shape.max())
        coloured *= np.sqrt(lacking / max(float(np.mean(coloured**2)), 1e-30))
        return x + coloured, rate


class MatchBandwidth(_AudioCorrection):
    """Give the set the real set's sampling rate, and no band above the real one's.

    Parameters
    ----------
    rate : int
        The most frequent of the real set, in Hz.
    cutoff : float or None
        Frequency in Hz above which nothing is left; None where the band is not the wider one.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_bandwidth"
    acts_on: ClassVar[frozenset[str]] = frozenset({"bandwidth", "sample_rate"})

    def __init__(
        self, rate: int, cutoff: float | None = None, held_out: Sequence[str] = ()
    ) -> None:
        super().__init__(held_out)
        if rate < 1 or (cutoff is not None and not cutoff > 0):
            raise ValueError(f"rate and cutoff must be above 0, got {rate} and {cutoff}")
        self.rate, self.cutoff = rate, cutoff

    def _arguments(self) -> Params:
        return {"rate": self.rate, "cutoff": self.cutoff}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        rates: dict[int, float] = {}
        for v in real:
            rates[v.value.rate] = rates.get(v.value.rate, 0.0) + v.weight
        rate = max(sorted(rates), key=lambda r: rates[r])
        wide = [_finite_mean([_bandwidth(v.value) for v in side]) for side in (real, synthetic)]
        cutoff = wide[0] if wide[1] > 1.05 * wide[0] and wide[0] < 0.45 * rate else None
        if cutoff is None and {v.value.rate for v in synthetic} == {rate}:
            raise NotCorrectableError(
                f"the synthetic set has the real set's rate and no wider band ({wide[1]:.0f} Hz "
                f"against {wide[0]:.0f} Hz): a band that is not there cannot be brought back",
                "no_wider_band",
                synthetic=float(wide[1]),
                real=float(wide[0]),
            )
        return {"rate": rate, "cutoff": None if cutoff is None else compact(cutoff)}

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:  # noqa: ARG002
        if self.cutoff is not None and self.cutoff < 0.49 * rate:
            taps = 2 * int(_FILTER_SECONDS * rate / 2) + 1
            kernel = signal.firwin(taps, self.cutoff, fs=rate, window=("kaiser", 8.0))
            x = _convolved(x, kernel)
        if rate != self.rate:
            ratio = Fraction(self.rate, rate)
            x = signal.resample_poly(x, ratio.numerator, ratio.denominator)
        return np.asarray(x, np.float64), self.rate


class MatchRoom(_AudioCorrection):
    """Put the set into a room that sounds as long as the real ones.

    A decaying-noise impulse response; its length is found by measuring the corrected recordings.

    Parameters
    ----------
    t60 : float
        Seconds in which the room's sound dies away by 60 dB.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_room"
    acts_on: ClassVar[frozenset[str]] = frozenset({"decay_time"})

    def __init__(self, t60: float, held_out: Sequence[str] = ()) -> None:
        super().__init__(held_out)
        if not 0 < t60 <= 10:
            raise ValueError(f"t60 must be above 0 and at most 10 s, got {t60}")
        self.t60 = float(t60)

    def _arguments(self) -> Params:
        return {"t60": self.t60}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        wanted = _finite_mean([_decay(v.value) for v in real])
        some = [v.value for v in synthetic[:_SEARCHED]]
        now = _finite_mean([_decay(v) for v in some])
        if not np.isfinite([wanted, now]).all():
            raise NotCorrectableError(
                "too few sounds stop for the decay time to be heard", "no_decay"
            )
        if now >= wanted:
            raise NotCorrectableError(
                f"the synthetic set sounds the longer one (decay time {now:.2f} s against "
                f"{wanted:.2f} s): reverberation cannot be taken away",
                "longer_room",
                synthetic=now,
                real=wanted,
            )
        found = {}
        for t60 in _T60:
            room = cls(t60)
            made = [room.apply(v, {"seed": k}) for k, v in enumerate(some)]
            found[t60] = abs(_finite_mean([_decay(v) for v in made]) - wanted)
        best = min(_T60, key=lambda t: found[t] if np.isfinite(found[t]) else np.inf)
        if not found[best] < wanted - now:
            raise NotCorrectableError(
                f"no room brings the decay time ({now:.2f} s) nearer to the real set's "
                f"({wanted:.2f} s)",
                "no_room",
                synthetic=now,
                real=wanted,
            )
        return {"t60": best}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the room's seed."""
        return {"seed": draw_seed(rng)}

    def _corrected(self, x: F64, rate: int, params: Params) -> tuple[F64, int]:
        response = room_response(rate, self.t60, _DIRECT_DB, rng_of(params["seed"]))
        level = np.sqrt(np.mean(x**2))
        wet = signal.fftconvolve(x, response)[: len(x)]
        return wet * level / max(float(np.sqrt(np.mean(wet**2))), 1e-12), rate


class _Moments:
    """Mean and spread of a property in both sets, and the line that takes one to the other."""

    def __init__(
        self, source_mean: float, source_sd: float, target_mean: float, target_sd: float
    ) -> None:
        if source_sd < 0 or target_sd < 0:
            raise ValueError(f"spreads cannot be negative, got {source_sd} and {target_sd}")
        self.source_mean, self.source_sd = source_mean, source_sd
        self.target_mean, self.target_sd = target_mean, target_sd

    def params(self) -> Params:
        names = ("source_mean", "source_sd", "target_mean", "target_sd")
        return {name: compact(getattr(self, name)) for name in names}

    @classmethod
    def fit(
        cls, real: Sequence[float], weights: Sequence[float], synthetic: Sequence[float], what: str
    ) -> _Moments:
        moments: list[float] = []
        for values, w in ((synthetic, np.ones(len(synthetic))), (real, np.asarray(weights))):
            x = np.asarray(values, float)
            known = np.isfinite(x)
            if not known.any():
                raise NotCorrectableError(
                    f"no recording of one set has a {what}: too short?", "too_short", what=what
                )
            mean = float(np.average(x[known], weights=w[known]))
            variance = float(np.average((x[known] - mean) ** 2, weights=w[known]))
            moments += [mean, variance**0.5]
        return cls(*moments)

    def moved(self, value: float) -> float:
        # Recordings that are all alike have no spread to stretch.
        factor = self.target_sd / self.source_sd if self.source_sd > 0.1 else 0.0
        return self.target_mean + (value - self.source_mean) * min(factor, 3.0)


def _x(audio: Audio) -> F64:
    return audio.samples.astype(np.float64)


def _loudness(x: npt.NDArray[np.floating], rate: int) -> float:
    found = loudness(x, rate)
    if np.isfinite(found):
        return found
    power = float(np.mean(x.astype(np.float64) ** 2))
    return 10 * float(np.log10(power)) if power > 1e-14 else float("nan")


def _snr(x: F64, rate: int) -> float:
    """Give the level over that of the pauses, as the attribute of that name does; NaN if none."""
    power = frame_power(x, rate)
    live = power[power > 1e-14]
    if not len(live):
        return float("nan")
    noise = float(np.percentile(live, 5))
    speech = float(live.mean()) - noise
    return 10 * float(np.log10(speech / noise)) if speech > 0 else float("nan")


def _bandwidth(audio: Audio) -> float:
    return audio_attributes(audio.samples, audio.rate)["bandwidth"]


def _decay(audio: Audio) -> float:
    return audio_attributes(audio.samples, audio.rate)["decay_time"]


def _finite_mean(values: Sequence[float]) -> float:
    known = [v for v in values if np.isfinite(v)]
    return float(np.mean(known)) if known else float("nan")


def _pauses(audio: Audio) -> F64:
    """Give the quiet frames of a recording, one after the other."""
    x = _x(audio)
    power = frame_power(x, audio.rate)
    hop = max(1, round(audio.rate * 0.01))
    quiet = power <= np.percentile(power, 10)
    if not sounding(power).all():
        quiet &= ~sounding(power)
    frames = [x[i * hop : (i + 1) * hop] for i in np.flatnonzero(quiet)]
    return np.concatenate(frames) if frames else x[:0]


def _band_levels(x: F64, rate: int) -> F64:
    """Give the level in each third octave in decibels; NaN where there is no band or no power."""
    out = np.full(len(CENTRES), np.nan)
    spectrum = long_term_spectrum(x, rate) if len(x) else None
    if spectrum is None or not spectrum.power.any():
        return out
    for k, centre in enumerate(CENTRES):
        low, high = centre * 2 ** (-1 / 6), centre * 2 ** (1 / 6)
        inside = (spectrum.frequency >= low) & (spectrum.frequency < high)
        if high <= rate / 2 and inside.any() and (power := float(spectrum.power[inside].sum())) > 0:
            out[k] = 10 * np.log10(power)
    return out


def _mean_levels(side: Sequence[Value]) -> F64:
    """Give the mean spectrum of a set, each recording at the same level."""
    rows = []
    for v in side:
        levels = _band_levels(_x(v.value), v.value.rate)
        speech = levels[(CENTRES > 200) & (CENTRES < 3500) & np.isfinite(levels)]
        rows.append(levels - (speech.mean() if speech.size else np.nan))
    return _average(rows, [v.weight for v in side])


def _average(rows: Sequence[F64], weights: Sequence[float]) -> F64:
    x, w = np.asarray(rows), np.asarray(weights)[:, None]
    known = np.isfinite(x)
    total = (known * w).sum(axis=0)
    summed = (np.where(known, x, 0.0) * w).sum(axis=0)
    return np.asarray(
        np.divide(summed, total, out=np.full(x.shape[1], np.nan), where=total > 0), np.float64
    )


def _filtered(x: F64, rate: int, gain: F64) -> F64:
    """Filter with a gain in decibels at the third octaves; linear phase, no delay."""
    taps = 2 * int(_FILTER_SECONDS * rate / 2) + 1
    grid = np.linspace(0, rate / 2, 1025)
    decibels = np.interp(np.log(np.maximum(grid, 1.0)), np.log(CENTRES), gain)
    kernel = signal.firwin2(taps, grid, 10 ** (decibels / 20), fs=rate)
    return _convolved(x, kernel)


def _convolved(x: F64, kernel: F64) -> F64:
    half = len(kernel) // 2
    return np.asarray(signal.fftconvolve(x, kernel)[half : half + len(x)])
