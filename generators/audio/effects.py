"""What happens to sound between a mouth and a file: noise, rooms, lines, codecs, levels.

Written on numpy, scipy, librosa and libsndfile. audiomentations has most of this too, but draws
from the process's global random state, so that an item would depend on its company.

Where a sum passes full scale the whole sound is turned down to it: cutting off is an effect of its
own (:class:`Clip`). Lengths stay, but for :class:`TimeStretch` and :class:`Speed`.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import signal

from ...errors import EvalsuiteError
from ..effect import Effect, Span, TwoParents
from ..protocol import rng_of
from ..values import FULL_SCALE, Audio, Modality, Params

F64: TypeAlias = npt.NDArray[np.float64]

_LOUDEST = (FULL_SCALE - 1) / FULL_SCALE
Colour: TypeAlias = Literal["white", "pink", "brown", "blue", "violet"]
_SLOPES = {"white": 0.0, "pink": -1.0, "brown": -2.0, "blue": 1.0, "violet": 2.0}


@dataclass(frozen=True)
class AudioEffect(Effect):
    """An effect on sound: numbers in, numbers of any level out."""

    input: ClassVar[Modality] = Modality.AUDIO
    output: ClassVar[Modality] = Modality.AUDIO

    def apply(self, value: Audio, params: Params) -> Audio:
        """Change the sound."""
        made = self._change(value.samples.astype(np.float64), value.rate, params)
        return _sound(made, value.rate)

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        raise NotImplementedError


@dataclass(frozen=True)
class AddNoise(AudioEffect):
    """Add stationary noise at a signal-to-noise ratio.

    Parameters
    ----------
    snr_db : float or [low, high]
        10·log10 of the mean square of the sound (pauses included) over that of the noise.
    colour : {"white", "pink", "brown", "blue", "violet"}
        Power that goes with frequency to the power of 0, -1, -2, 1 or 2; below 20 Hz there is none.
    """

    name: ClassVar[str] = "add_noise"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"snr_db": (-40, 100)}
    seeded: ClassVar[bool] = True

    snr_db: Span = (5.0, 25.0)
    colour: Colour = "white"

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        noise = coloured_noise(x.size, rate, self.colour, rng_of(params["seed"]))
        return at_snr(x, noise, params["snr_db"])


@dataclass(frozen=True)
class MixSounds(TwoParents, AudioEffect):
    """Add another sound of the same split, as somebody or something in the background.

    Parameters
    ----------
    snr_db : float or [low, high]
        Of this sound over the other, which is repeated or cut to its length, and resampled to its
        rate.
    """

    name: ClassVar[str] = "mix_sounds"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"snr_db": (-40, 100)}

    snr_db: Span = (5.0, 25.0)

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        other: Audio = self.second(params)
        y = _resampled(other.samples.astype(np.float64), Fraction(rate, other.rate))
        return at_snr(x, np.resize(y, x.size), params["snr_db"])


@dataclass(frozen=True)
class Room(AudioEffect):
    """Put the sound into a room: direct sound, then a tail of decaying noise.

    Parameters
    ----------
    t60 : float or [low, high]
        Seconds in which the tail falls by 60 dB.
    direct_to_reverberant_db : float or [low, high]
        Energy of the direct sound over that of the tail: distance from the microphone.

    Notes
    -----
    The tail is Gaussian noise with an exponential envelope, the same at all frequencies: it has a
    room's decay, and no early reflections, modes or colour of its own. The end of the tail is cut
    off with the sound.

    References
    ----------
    Polack, J.-D. (1993). Playing billiards in the concert hall: the mathematical foundations of
    geometrical room acoustics. Applied Acoustics 38(2-4), 235-244.
    """

    name: ClassVar[str] = "room"
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "t60": (0.05, 10),
        "direct_to_reverberant_db": (-30, 60),
    }
    seeded: ClassVar[bool] = True

    t60: Span = (0.2, 0.8)
    direct_to_reverberant_db: Span = (0.0, 12.0)

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        response = room_response(
            rate, params["t60"], params["direct_to_reverberant_db"], rng_of(params["seed"])
        )
        out: F64 = signal.fftconvolve(x, response)[: x.size]
        return out


@dataclass(frozen=True)
class Pitch(AudioEffect):
    """Shift the pitch and keep the length, by a phase vocoder.

    Parameters
    ----------
    semitones : float or [low, high]
        Upwards if positive. Formants shift too: a voice becomes another one's.
    """

    name: ClassVar[str] = "pitch"
    libraries: ClassVar[tuple[str, ...]] = ("librosa", "soxr")
    limits: ClassVar[dict[str, tuple[float, float]]] = {"semitones": (-24, 24)}

    semitones: Span = (-3.0, 3.0)

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        effects = _librosa_effects()
        shifted = effects.pitch_shift(y=x, sr=rate, n_steps=params["semitones"])
        return np.asarray(shifted, np.float64)


@dataclass(frozen=True)
class TimeStretch(AudioEffect):
    """Play faster or slower and keep the pitch, by a phase vocoder.

    Parameters
    ----------
    factor : float or [low, high]
        Of the speed: 2 is half as long.
    """

    name: ClassVar[str] = "time_stretch"
    libraries: ClassVar[tuple[str, ...]] = ("librosa",)
    limits: ClassVar[dict[str, tuple[float, float]]] = {"factor": (0.25, 4)}

    factor: Span = (0.85, 1.15)

    def _change(self, x: F64, rate: int, params: Params) -> F64:  # noqa: ARG002 - as the others
        effects = _librosa_effects()
        return np.asarray(effects.time_stretch(y=x, rate=params["factor"]), np.float64)


@dataclass(frozen=True)
class Speed(AudioEffect):
    """Play faster or slower, pitch and length together, as a tape does.

    Parameters
    ----------
    factor : float or [low, high]
        Of the speed: 2 is half as long and an octave higher. Taken to the nearest ratio with a
        denominator of at most 200.
    """

    name: ClassVar[str] = "speed"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"factor": (0.25, 4)}

    factor: Span = (0.9, 1.1)

    def _change(self, x: F64, rate: int, params: Params) -> F64:  # noqa: ARG002 - as the others
        return _resampled(x, 1 / Fraction(params["factor"]).limit_denominator(200))


@dataclass(frozen=True)
class BandLimit(AudioEffect):
    """Leave a band of frequencies, as a telephone does.

    Parameters
    ----------
    low_hz, high_hz : float or [low, high]
        Where the band begins and ends: 6 dB down there, without delay. What lies beyond half of
        the sampling rate is not there anyway; 0 leaves the lower end open.
    """

    name: ClassVar[str] = "band_limit"
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "low_hz": (0, 96_000),
        "high_hz": (20, 192_000),
    }

    low_hz: Span = 300.0
    high_hz: Span = 3400.0

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        low, high = params["low_hz"], params["high_hz"]
        if low >= min(high, rate / 2):
            raise ValueError(
                f"no band is left of {low:g} to {high:g} Hz at {rate} samples per second"
            )
        # Forwards and backwards: twice the slope, half (-6 dB) of the amplitude at the corner.
        for corner, kind in ((low, "highpass"), (high, "lowpass")):
            if 0 < corner < rate / 2:
                sections = signal.butter(6, corner, kind, fs=rate, output="sos")
                x = signal.sosfiltfilt(sections, x, padlen=min(3 * rate // 100, x.size - 1))
        return x


CodecKind: TypeAlias = Literal["mu_law", "a_law", "ima_adpcm", "gsm", "mp3", "vorbis", "opus"]
_CODECS = {
    "mu_law": ("WAV", "ULAW"),
    "a_law": ("WAV", "ALAW"),
    "ima_adpcm": ("WAV", "IMA_ADPCM"),
    "gsm": ("WAV", "GSM610"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "vorbis": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
}
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


@dataclass(frozen=True)
class Codec(AudioEffect):
    """Encode and decode, by libsndfile.

    Parameters
    ----------
    kind : {"mu_law", "a_law", "ima_adpcm", "gsm", "mp3", "vorbis", "opus"}
        The codec.
    compression : float or [low, high]
        From 0 (best) to 0.99 (smallest), for mp3, vorbis and opus; the others have one setting.
    """

    name: ClassVar[str] = "codec"
    libraries: ClassVar[tuple[str, ...]] = ("soundfile",)
    limits: ClassVar[dict[str, tuple[float, float]]] = {"compression": (0, 0.99)}

    kind: CodecKind = "mp3"
    compression: Span = 0.8

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.kind not in _CODECS:
            raise ValueError(f"unknown codec {self.kind!r}; known: {', '.join(_CODECS)}")

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        soundfile = _soundfile()
        rates = {"mp3": _MP3_RATES, "opus": _OPUS_RATES}.get(self.kind)
        if rates is not None and rate not in rates:
            raise ValueError(
                f"{self.kind} has no {rate} samples per second; it has {', '.join(map(str, rates))}"
            )
        form, subtype = _CODECS[self.kind]
        more = {} if form == "WAV" else {"compression_level": params["compression"]}
        buffer = io.BytesIO()
        soundfile.write(buffer, _sound(x, rate).samples, rate, subtype, format=form, **more)
        buffer.seek(0)
        out, _ = soundfile.read(buffer, dtype="float64")
        # Block codecs round the length up.
        return np.asarray(np.pad(out, (0, max(0, x.size - out.size)))[: x.size])


@dataclass(frozen=True)
class BitCrush(AudioEffect):
    """Round to few bits.

    Parameters
    ----------
    bits : float or [low, high]
        A drawn number is rounded.
    """

    name: ClassVar[str] = "bit_crush"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"bits": (1, 16)}

    bits: Span = (5.0, 10.0)

    def _change(self, x: F64, rate: int, params: Params) -> F64:  # noqa: ARG002 - as the others
        steps = 2.0 ** (round(params["bits"]) - 1)
        return np.asarray(np.clip(np.rint(x * steps), -steps, steps - 1) / steps)


@dataclass(frozen=True)
class Clip(AudioEffect):
    """Cut off the loudest samples, as an overdriven input does; the level below stays.

    Parameters
    ----------
    share : float or [low, high]
        Of the samples that are cut off.
    """

    name: ClassVar[str] = "clip"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"share": (0, 0.9)}

    share: Span = (0.005, 0.05)

    def _change(self, x: F64, rate: int, params: Params) -> F64:  # noqa: ARG002 - as the others
        edge = np.quantile(np.abs(x), 1 - params["share"])
        return np.clip(x, -edge, edge)


@dataclass(frozen=True)
class Gain(AudioEffect):
    """Change the level.

    Parameters
    ----------
    gain_db : float or [low, high]
        At most what full scale allows: a gain that would pass it ends there.
    """

    name: ClassVar[str] = "gain"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"gain_db": (-80, 60)}

    gain_db: Span = (-12.0, 6.0)

    def _change(self, x: F64, rate: int, params: Params) -> F64:  # noqa: ARG002 - as the others
        return np.asarray(x * 10 ** (params["gain_db"] / 20))


@dataclass(frozen=True)
class MaskSpectrum(AudioEffect):
    """Silence bands of frequencies and stretches of time, as SpecAugment does to a spectrogram.

    Parameters
    ----------
    band : float or [low, high]
        Width of each band, as a part of the mel scale up to half of the sampling rate.
    stretch : float or [low, high]
        Length of each stretch, as a part of the sound.
    bands, stretches : int
        How many of each; their places are drawn, and they may overlap.

    References
    ----------
    Park, D. et al. (2019). SpecAugment: a simple data augmentation method for automatic speech
    recognition. Interspeech. arXiv:1904.08779.
    """

    name: ClassVar[str] = "mask_spectrum"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"band": (0, 0.9), "stretch": (0, 0.9)}
    seeded: ClassVar[bool] = True

    band: Span = (0.03, 0.15)
    stretch: Span = (0.02, 0.1)
    bands: int = 2
    stretches: int = 2

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.bands < 0 or self.stretches < 0:
            raise ValueError(
                f"bands and stretches must be 0 or more, got {self.bands} and {self.stretches}"
            )

    def _change(self, x: F64, rate: int, params: Params) -> F64:
        rng = rng_of(params["seed"])
        shift = max(1, round(0.008 * rate))
        window = signal.windows.hann(4 * shift, sym=False)
        frames = signal.ShortTimeFFT(window, shift, rate)
        spectrum = frames.stft(x)
        mel = 2595 * np.log10(1 + frames.f / 700)  # O'Shaughnessy's scale, as in HTK
        for low in rng.random(self.bands) * (1 - params["band"]):
            spectrum[(mel >= low * mel[-1]) & (mel <= (low + params["band"]) * mel[-1])] = 0
        made: F64 = np.real(frames.istft(spectrum, k1=x.size)) if self.bands else x.copy()
        for begin in rng.random(self.stretches) * (1 - params["stretch"]):
            made[round(begin * x.size) : round((begin + params["stretch"]) * x.size)] = 0
        return made


def at_snr(x: F64, noise: F64, snr_db: float) -> F64:
    """Add noise to a sound so that the mean squares are in this ratio.

    Raises
    ------
    ValueError
        If one of them is silent: there is no ratio.
    """
    power, noise_power = float(np.mean(x**2)), float(np.mean(noise**2))
    if power == 0 or noise_power == 0:
        which = "the sound" if power == 0 else "what is added"
        raise ValueError(f"{which} is silent: there is no signal-to-noise ratio")
    return x + noise * math.sqrt(power / noise_power / 10 ** (snr_db / 10))


def coloured_noise(n: int, rate: int, colour: Colour, rng: np.random.Generator) -> F64:
    """Draw noise whose power goes with a power of the frequency, from 20 Hz up; shape (n,)."""
    if colour not in _SLOPES:
        raise ValueError(f"unknown colour {colour!r}; known: {', '.join(_SLOPES)}")
    size = max(n, rate // 4)  # long enough to hold 20 Hz
    spectrum = np.fft.rfft(rng.standard_normal(size))
    f = np.fft.rfftfreq(size, 1 / rate)
    heard = f >= 20
    spectrum[~heard] = 0
    spectrum[heard] *= f[heard] ** (_SLOPES[colour] / 2)
    out: F64 = np.fft.irfft(spectrum, size)[:n]
    return out


def room_response(rate: int, t60: float, direct_db: float, rng: np.random.Generator) -> F64:
    """Draw the response of a room: 1 for the direct sound, then noise that decays by T60."""
    n = math.ceil(1.2 * t60 * rate)
    decay = np.exp(-math.log(1000) * np.arange(1, n + 1) / (t60 * rate))
    tail = rng.standard_normal(n) * decay
    tail *= math.sqrt(10 ** (-direct_db / 10) / np.sum(tail**2))
    return np.concatenate([[1.0], tail])


def _resampled(x: F64, ratio: Fraction) -> F64:
    if ratio == 1:
        return x
    out: F64 = signal.resample_poly(x, ratio.numerator, ratio.denominator)
    return out


def _sound(x: F64, rate: int) -> Audio:
    """Make sound of the samples; where they pass full scale, all of it is turned down to that."""
    peak = float(np.abs(x).max())
    if peak > 1:
        x = x * (_LOUDEST / peak)
    return Audio(x.astype(np.float32), rate)


def _soundfile() -> Any:
    try:
        import soundfile
    except ImportError as error:
        raise EvalsuiteError(
            "codecs need soundfile: pip install 'evalsuite[generators]'"
        ) from error
    return soundfile


def _librosa_effects() -> Any:
    try:
        from librosa import effects
    except ImportError as error:
        raise EvalsuiteError(
            "pitch and time_stretch need librosa: pip install 'evalsuite[generators]'"
        ) from error
    return effects
