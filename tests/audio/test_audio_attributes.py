"""Audio attributes: signals whose values are known, the loudness meter's peer, real prompts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
from scipy import signal

from evalsuite.metrics.audio.attributes import (
    ATTRIBUTES,
    LONGEST,
    audio_attributes,
    k_weighting,
    loudness,
)
from evalsuite.metrics.image.attributes import ATTRIBUTES as OF_IMAGES

RATES = [8000, 16000, 44100, 48000]
PROMPTS = sorted((Path(__file__).parents[1] / "data" / "speech").glob("*.wav"))


def tone(hertz: float, rate: int = 16000, seconds: float = 2.0, peak: float = 0.5) -> np.ndarray:
    return peak * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def noise(sigma: float, rate: int = 16000, seconds: float = 4.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, sigma, int(rate * seconds))


@pytest.fixture(scope="module", params=PROMPTS, ids=lambda p: p.stem)
def prompt(request: pytest.FixtureRequest) -> tuple[np.ndarray, int]:
    samples, rate = soundfile.read(request.param)
    return samples, rate


def test_loads_without_torch_and_scipy() -> None:
    code = (
        "import sys; import evalsuite.metrics.audio.attributes; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_are_the_audio_modality_s_own() -> None:
    assert not set(ATTRIBUTES) & set(OF_IMAGES)
    assert all(name == a.name and a.description and a.acts for name, a in ATTRIBUTES.items())


# --- levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
def test_a_tone(rate: int) -> None:
    got = audio_attributes(tone(200.0, rate), rate)
    assert list(got) == list(ATTRIBUTES)
    assert got["duration"] == 2.0
    assert got["sample_rate"] == rate
    assert got["level"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-3)
    assert got["peak"] == pytest.approx(20 * np.log10(0.5), abs=0.05)
    assert got["dc_offset"] == pytest.approx(0.0, abs=1e-9)
    assert got["clipped_share"] < 0.04  # 48 kHz: its smooth top is flat for a few samples
    assert got["silence_share"] == got["zero_share"] == 0.0
    assert got["spectral_centroid"] == pytest.approx(200.0, rel=0.05)
    assert got["spectral_flatness"] < 1e-3
    assert got["voiced_share"] == 1.0
    assert got["pitch"] == pytest.approx(200.0, rel=1e-3)
    assert got["pitch_spread"] == pytest.approx(0.0, abs=0.01)


def test_digital_silence_has_no_level() -> None:
    got = audio_attributes(np.zeros(16000), 16000)
    assert {k for k, v in got.items() if not np.isnan(v)} == {
        "duration", "sample_rate", "silence_share", "zero_share", "clipped_share", "dc_offset",
    }  # fmt: skip
    assert got["silence_share"] == got["zero_share"] == 1.0
    assert got["clipped_share"] == 0.0


def test_an_offset_is_found_and_hides_no_pitch() -> None:
    got = audio_attributes(tone(150.0) + 0.25, 16000)
    assert got["dc_offset"] == pytest.approx(0.25, abs=1e-3)
    assert got["pitch"] == pytest.approx(150.0, rel=1e-3)


@pytest.mark.parametrize("limit", [0.9, 0.5, 0.2])
def test_share_of_a_clipped_sine(limit: float) -> None:
    clipped = np.clip(tone(97.3, 16000, 4.0, 1.0), -limit, limit)
    expected = 1 - 2 / np.pi * np.arcsin(limit)
    assert audio_attributes(clipped, 16000)["clipped_share"] == pytest.approx(expected, abs=0.01)


def test_clipping_before_a_gain_and_on_one_side() -> None:
    clipped = np.clip(tone(97.3, 16000, 4.0, 1.0), -1.0, 0.5) * 0.1
    expected = (1 - 2 / np.pi * np.arcsin(0.5)) / 2
    assert audio_attributes(clipped, 16000)["clipped_share"] == pytest.approx(expected, abs=0.01)
    assert audio_attributes(noise(0.1), 16000)["clipped_share"] == 0.0


def test_zeros_count_from_a_millisecond_on() -> None:
    x = noise(0.1, seconds=1.0)
    x[1000:5000] = 0.0
    x[9000:9010] = 0.0  # 0.6 ms
    assert audio_attributes(x, 16000)["zero_share"] == 4000 / 16000


def test_share_of_silence() -> None:
    x = np.concatenate((noise(0.1, seconds=3.0), noise(0.0001, seconds=1.0)))
    got = audio_attributes(x, 16000)
    assert got["silence_share"] == pytest.approx(0.25, abs=0.01)
    assert got["noise_floor"] == pytest.approx(-80.0, abs=1.0)
    assert got["snr"] == pytest.approx(60 + 10 * np.log10(0.75), abs=1.0)


# --- loudness -------------------------------------------------------------------------------------


def test_k_weighting_gives_the_standard_s_coefficients_at_48_khz() -> None:
    # ITU-R BS.1770-4, annex 1, tables 1 and 2.
    shelf = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241,
             0.73248077421585]  # fmt: skip
    high_pass = [1, -2, 1, 1, -1.99004745483398, 0.99007225036621]
    np.testing.assert_allclose(k_weighting(48000), [shelf, high_pass], atol=2e-9)


def test_full_scale_sine_reads_minus_3_01() -> None:
    # The standard's own check: 997 Hz at 0 dBFS in one channel.
    assert loudness(tone(997, 48000, 3.0, 1.0), 48000) == pytest.approx(-3.01, abs=0.01)


@pytest.mark.parametrize("rate", RATES)
def test_loudness_equals_pyloudnorm_s(rate: int, prompt: tuple[np.ndarray, int]) -> None:
    x = signal.resample_poly(prompt[0], rate, prompt[1])
    x = x[: len(x) // (rate // 10) * (rate // 10)]
    # Speech, a pause under the relative gate, a pause under the absolute one.
    x = np.concatenate((x, noise(0.003, rate, 1.0), np.zeros(rate), x * 0.3))
    peer = pyloudnorm.Meter(rate, filter_class="DeMan")
    assert loudness(x, rate) == pytest.approx(peer.integrated_loudness(x), abs=0.02)
    # Its default filters are an approximation of the standard's.
    peer = pyloudnorm.Meter(rate)
    assert loudness(x, rate) == pytest.approx(peer.integrated_loudness(x), abs=0.3)


def test_loudness_follows_gain_and_needs_a_block() -> None:
    x = tone(440, 16000, 2.0, 0.5)
    assert loudness(x * 0.1, 16000) == pytest.approx(loudness(x, 16000) - 20, abs=1e-6)
    assert np.isnan(loudness(x[:6399], 16000))
    assert not np.isnan(loudness(x[:6400], 16000))
    assert np.isnan(loudness(x * 1e-4, 16000))  # under the absolute gate


# --- spectrum -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_white_noise(rate: int) -> None:
    got = audio_attributes(noise(0.1, rate, 8.0), rate)
    assert got["spectral_centroid"] == pytest.approx((50 + rate / 2) / 2, rel=0.02)
    assert got["spectral_tilt"] == pytest.approx(0.0, abs=0.1)
    assert got["spectral_flatness"] == pytest.approx(1.0, abs=0.02)
    assert got["bandwidth"] == rate / 2
    assert got["voiced_share"] == 0.0
    assert np.isnan(got["pitch"])
    assert got["snr"] < 0


def test_pink_noise_falls_3_db_an_octave() -> None:
    spectrum = np.fft.rfft(noise(1.0, 16000, 16.0))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
    spectrum[0] = 0
    got = audio_attributes(np.fft.irfft(spectrum), 16000)
    assert got["spectral_tilt"] == pytest.approx(-10 * np.log10(2), abs=0.15)


@pytest.mark.parametrize("edge", [3400, 5500, 8000, 15000])
def test_bandwidth_is_where_a_low_pass_cuts(edge: int) -> None:
    x = signal.sosfiltfilt(
        signal.cheby2(20, 50, edge, fs=48000, output="sos"), noise(0.1, 48000, 4.0)
    )
    assert audio_attributes(x, 48000)["bandwidth"] == pytest.approx(edge, rel=0.03)


def test_a_telephone_prompt_stays_one_at_a_higher_rate(prompt: tuple[np.ndarray, int]) -> None:
    x, rate = prompt
    assert rate == 8000
    low = audio_attributes(x, rate)
    high = audio_attributes(signal.resample_poly(x, 6, 1), 48000)
    assert high["bandwidth"] < 4600
    for name, tolerance in (
        ("loudness", 0.3), ("level", 0.1), ("pitch", 3.0), ("pitch_spread", 2.0),
        ("voiced_share", 0.06), ("spectral_centroid", 20.0), ("spectral_tilt", 0.5),
        ("silence_share", 0.03), ("syllable_rate", 0.5),
    ):  # fmt: skip
        assert high[name] == pytest.approx(low[name], abs=tolerance), name


# --- pitch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("hertz", [65.0, 110.0, 220.5, 330.0, 490.0])
def test_pitch_of_harmonic_series(rate: int, hertz: float) -> None:
    rng = np.random.default_rng(1)
    x = sum(
        tone(k * hertz, rate, 1.0, 0.3 / k) * rng.choice([-1, 1]) for k in range(1, 8)
    )  # fmt: skip
    got = audio_attributes(x, rate)
    assert got["pitch"] == pytest.approx(hertz, rel=0.01)
    assert got["voiced_share"] == 1.0
    missing = x - tone(hertz, rate, 1.0, 0.3) * np.sign(x @ tone(hertz, rate, 1.0, 0.3))
    assert audio_attributes(missing, rate)["pitch"] == pytest.approx(hertz, rel=0.01)


def test_pitch_spread_of_a_glide() -> None:
    # An octave up, evenly in semitones: four fifths of it lie between the percentiles.
    t = np.arange(48000) / 16000
    x = 0.3 * np.sin(2 * np.pi * 110 * 3 / np.log(2) * (2 ** (t / 3) - 1))
    x += 0.15 * np.sin(4 * np.pi * 110 * 3 / np.log(2) * (2 ** (t / 3) - 1))
    got = audio_attributes(x, 16000)
    assert got["pitch_spread"] == pytest.approx(0.8 * 12, rel=0.03)
    assert got["pitch"] == pytest.approx(110 * np.sqrt(2), rel=0.02)


def test_a_woman_s_voice(prompt: tuple[np.ndarray, int]) -> None:
    got = audio_attributes(*prompt)
    assert 150 < got["pitch"] < 260
    assert 0.4 < got["voiced_share"] < 0.95
    assert 2.5 < got["syllable_rate"] < 7


# --- noise, rooms, rhythm -------------------------------------------------------------------------


@pytest.mark.parametrize("target", [30, 20, 10, 0])
def test_snr_of_speech_with_known_noise(target: int, prompt: tuple[np.ndarray, int]) -> None:
    x, rate = prompt
    sigma = np.sqrt(np.mean(x**2) / 10 ** (target / 10))
    got = audio_attributes(x + noise(1.0, rate, 10.0)[: len(x)] * sigma, rate)
    assert got["snr"] == pytest.approx(target, abs=2.0)


@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.2])
def test_decay_time_of_bursts_in_a_room(seconds: float) -> None:
    rng = np.random.default_rng(0)
    t = np.arange(int(1.5 * seconds * 16000)) / 16000
    room = rng.normal(size=len(t)) * 10 ** (-3 * t / seconds)
    dry = np.zeros(16000 * 8)
    for start in np.arange(1000, len(dry) - 4000, 16000):
        dry[start : start + 1600] = rng.normal(size=1600)
    wet = signal.fftconvolve(dry, room)[: len(dry)]
    wet = wet / np.abs(wet).max() + rng.normal(0, 1e-4, len(wet))
    assert audio_attributes(wet, 16000)["decay_time"] == pytest.approx(seconds, rel=0.15)


def test_decay_time_of_rooms_around_a_voice() -> None:
    x = np.concatenate([soundfile.read(path)[0] for path in PROMPTS])
    assert audio_attributes(x, 8000)["decay_time"] < 0.25  # the prompts are dry
    for seconds in (0.3, 0.5, 0.7, 1.0, 1.4):
        t = np.arange(int(seconds * 8000)) / 8000
        room = np.random.default_rng(0).normal(size=len(t)) * 10 ** (-3 * t / seconds)
        wet = signal.fftconvolve(x, room) / 50
        assert audio_attributes(wet, 8000)["decay_time"] == pytest.approx(seconds, rel=0.2)


@pytest.mark.parametrize("rate", [2.0, 4.0, 6.0])
def test_syllable_rate_of_modulated_noise(rate: float) -> None:
    t = np.arange(16000 * 5) / 16000
    x = noise(0.1, seconds=5.0) * (1 - 0.8 * np.cos(2 * np.pi * rate * t))
    assert audio_attributes(x, 16000)["syllable_rate"] == pytest.approx(rate, abs=0.3)


# --- cost and refusals ----------------------------------------------------------------------------


def test_frame_by_frame_properties_are_of_the_middle() -> None:
    x = np.concatenate((noise(0.05, 8000, 10.0), np.tile(tone(200, 8000, 10.0), 6),
                        noise(0.05, 8000, 10.0)))  # fmt: skip
    assert LONGEST == 60
    got = audio_attributes(x, 8000)
    assert got["voiced_share"] == 1.0
    assert got["duration"] == 80.0


@pytest.mark.parametrize("n", [1, 2, 5, 37, 159, 160, 1000])
def test_a_few_samples_are_a_recording_too(n: int) -> None:
    got = audio_attributes(noise(0.1)[:n].astype(np.float32), 16000)
    assert got["duration"] == n / 16000
    assert not any(np.isinf(v) for v in got.values())


def test_refusals() -> None:
    with pytest.raises(TypeError, match="int16"):
        audio_attributes(np.zeros(100, np.int16), 16000)
    with pytest.raises(TypeError, match="list"):
        audio_attributes([0.0], 16000)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mix it down"):
        audio_attributes(np.zeros((100, 2)), 16000)
    with pytest.raises(ValueError, match="no samples"):
        audio_attributes(np.zeros(0), 16000)
    with pytest.raises(ValueError, match="1 samples that are not finite"):
        audio_attributes(np.array([0.0, np.nan]), 16000)
    with pytest.raises(ValueError, match="rate"):
        audio_attributes(np.zeros(100), 0)
