from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import signal

from evalsuite.generators import Audio, Item, Partners, produce
from evalsuite.generators.audio.effects import (
    AddNoise,
    BandLimit,
    BitCrush,
    Clip,
    Codec,
    Gain,
    MaskSpectrum,
    MixSounds,
    Pitch,
    Room,
    Speed,
    TimeStretch,
    coloured_noise,
    room_response,
)
from evalsuite.generators.audio.room import SPEED, ShoeboxRoom, eyring_reflection, shoebox_response
from evalsuite.generators.protocol import rng_of

SPEECH = Path(__file__).parents[1] / "data" / "speech"
RATE = 16000


def speech(name: str = "hello-world") -> Audio:
    """A human voice, made quiet enough that nothing passes full scale."""
    samples, rate = soundfile.read(SPEECH / f"{name}.wav", dtype="float32")
    return Audio((0.1 * samples / np.abs(samples).max()).astype(np.float32), rate)


def tone(hz: float = 440, seconds: float = 1.0, level: float = 0.25) -> Audio:
    t = np.arange(int(seconds * RATE)) / RATE
    return Audio((level * np.sin(2 * np.pi * hz * t)).astype(np.float32), RATE)


def made(operation, audio: Audio, variant: int = 0, partner: Audio | None = None) -> Audio:  # type: ignore[no-untyped-def]
    items = [Item("a", audio=audio), Item("b", audio=partner)]
    partners = None if partner is None else Partners(items)
    out, _ = produce(operation, items[0], seed=2, variant=variant, partners=partners)
    assert isinstance(out, Audio)
    return out


def db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64))))


def peak_hz(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio.samples * np.hanning(audio.samples.size)))
    return float(np.argmax(spectrum) * audio.rate / audio.samples.size)


@pytest.mark.parametrize("target", [0.0, 10.0, 30.0])
@pytest.mark.parametrize("colour", ["white", "pink", "brown"])
def test_noise_is_at_its_snr(target: float, colour: str) -> None:
    clean = speech()
    noisy = made(AddNoise(target, colour), clean)  # type: ignore[arg-type]
    noise = noisy.samples - clean.samples
    assert db(clean.samples) - db(noise) == pytest.approx(target, abs=0.05)


@pytest.mark.parametrize(("colour", "slope"), [("white", 0), ("pink", -1), ("brown", -2),
                                               ("blue", 1), ("violet", 2)])  # fmt: skip
def test_noise_has_its_colour(colour: str, slope: float) -> None:
    noise = coloured_noise(20 * RATE, RATE, colour, rng_of(1))  # type: ignore[arg-type]
    f, power = signal.welch(noise, RATE, nperseg=4096)
    kept = (f > 60) & (f < 7000)
    fitted = np.polyfit(np.log10(f[kept]), np.log10(power[kept]), 1)[0]
    assert fitted == pytest.approx(slope, abs=0.05)


def test_a_sum_beyond_full_scale_is_turned_down_and_keeps_its_snr() -> None:
    loud = tone(level=0.9)
    noisy = made(AddNoise(0.0), loud).samples.astype(np.float64)
    assert np.abs(noisy).max() == pytest.approx(1, abs=1e-3)
    scale = float(noisy @ loud.samples / (loud.samples @ loud.samples))
    assert scale < 0.9
    assert db(scale * loud.samples) - db(noisy - scale * loud.samples) == pytest.approx(0, abs=0.2)


def test_there_is_no_snr_of_silence() -> None:
    with pytest.raises(ValueError, match="the sound is silent"):
        made(AddNoise(10.0), Audio(np.zeros(100, np.float32), RATE))


def test_another_sound_is_mixed_in_at_its_snr_whatever_its_rate_and_length() -> None:
    clean, other = speech(), tone(300, 0.3)
    mixed = made(MixSounds(6.0), clean, partner=other)
    added = mixed.samples - clean.samples
    assert db(clean.samples) - db(added) == pytest.approx(6, abs=0.05)
    assert peak_hz(Audio(added, clean.rate)) == pytest.approx(300, abs=5)


@pytest.mark.parametrize("t60", [0.3, 0.6, 1.0])
def test_a_room_decays_in_its_t60_and_has_its_direct_sound(t60: float) -> None:
    response = room_response(RATE, t60, 6.0, rng_of(3))
    tail = response[1:]
    assert 10 * np.log10(1 / np.sum(tail**2)) == pytest.approx(6, abs=1e-6)
    # Schroeder's backward integration; the slope from -5 to -25 dB (T20).
    decay = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    first, last = np.argmax(decay < -5), np.argmax(decay < -25)
    seconds = np.arange(first, last) / RATE
    slope = np.polyfit(seconds, decay[first:last], 1)[0]
    assert -60 / slope == pytest.approx(t60, rel=0.06)
    # The operation convolves with it: the direct sound stays as it is.
    click = np.zeros(RATE, np.float32)
    click[100] = 0.25
    wet = made(Room(t60, 6.0), Audio(click, RATE)).samples
    assert wet[100] == pytest.approx(0.25, abs=1e-4)
    assert not wet[:100].any()
    assert 10 * np.log10(0.25**2 / np.sum(wet[101:].astype(float) ** 2)) == pytest.approx(
        6, abs=0.2
    )


@pytest.mark.parametrize("semitones", [-5.0, 4.0])
def test_pitch_moves_by_semitones_and_the_length_stays(semitones: float) -> None:
    out = made(Pitch(semitones), tone())
    assert out.samples.size == RATE
    assert peak_hz(out) == pytest.approx(440 * 2 ** (semitones / 12), rel=0.01)


@pytest.mark.parametrize("factor", [0.8, 1.25])
def test_stretching_changes_the_length_and_not_the_pitch_and_speed_both(factor: float) -> None:
    stretched = made(TimeStretch(factor), tone())
    assert stretched.seconds == pytest.approx(1 / factor, abs=0.01)
    assert peak_hz(stretched) == pytest.approx(440, abs=3)
    faster = made(Speed(factor), tone())
    assert faster.seconds == pytest.approx(1 / factor, abs=0.01)
    assert peak_hz(faster) == pytest.approx(440 * factor, abs=3)


def test_a_band_is_left_and_the_corners_are_6_db_down() -> None:
    noise = Audio(coloured_noise(20 * RATE, RATE, "white", rng_of(1)).astype(np.float32) / 8, RATE)
    out = made(BandLimit(300.0, 3400.0), noise)
    f, before = signal.welch(noise.samples, RATE, nperseg=2048)
    _, after = signal.welch(out.samples, RATE, nperseg=2048)
    gain = 10 * np.log10(after / before)
    assert np.abs(gain[(f > 450) & (f < 2800)]).max() < 0.5
    assert gain[(f < 150) & (f > 20)].max() < -30
    assert gain[(f > 5000) & (f < 7000)].max() < -40
    for corner in (300, 3400):
        assert np.interp(corner, f, gain) == pytest.approx(-6, abs=1)
    # A band wider than the sound has nothing to take away.
    assert np.array_equal(made(BandLimit(0.0, 9000.0), out).samples, out.samples)
    with pytest.raises(ValueError, match="no band is left"):
        made(BandLimit(8000.0, 9000.0), noise)


@pytest.mark.parametrize(("kind", "least"), [("mu_law", 35), ("a_law", 35), ("ima_adpcm", 20),
                                             ("gsm", 5), ("vorbis", 5), ("opus", 5)])  # fmt: skip
def test_codecs_keep_the_length_and_lose_what_they_lose(kind: str, least: float) -> None:
    x = tone(level=0.5)
    rng = np.random.default_rng(0)
    x = Audio((x.samples + 0.02 * rng.standard_normal(RATE)).astype(np.float32), RATE)
    out = made(Codec(kind, 0.5), x)  # type: ignore[arg-type]
    assert out.samples.size == RATE
    snr = db(x.samples) - db(out.samples - x.samples)
    assert least < snr < 60


def test_mp3_loses_the_high_end_with_its_compression() -> None:
    noise = Audio(
        coloured_noise(2 * 44100, 44100, "white", rng_of(1)).astype(np.float32) / 8, 44100
    )

    def high(compression: float) -> float:
        out = made(Codec("mp3", compression), noise)
        f, power = signal.welch(out.samples, 44100, nperseg=2048)
        return float(10 * np.log10(power[(f > 17000) & (f < 19000)].mean()))

    assert high(0.0) - high(0.99) > 20
    with pytest.raises(ValueError, match="mp3 has no 44000 samples per second"):
        made(Codec("mp3"), Audio(noise.samples, 44000))


@pytest.mark.parametrize("bits", [4.0, 8.0])
def test_few_bits_are_few_levels_and_6_db_each(bits: float) -> None:
    ramp = Audio(np.linspace(-1, 0.999, RATE).astype(np.float32), RATE)
    out = made(BitCrush(bits), ramp)
    assert len(np.unique(out.samples)) == 2**bits
    step = 2.0 ** (1 - bits)
    inside = ramp.samples < 1 - 2 * step
    error = (out.samples - ramp.samples)[inside]
    assert np.sqrt(np.mean(error**2)) == pytest.approx(step / np.sqrt(12), rel=0.02)


def test_the_asked_share_is_cut_off_and_the_rest_stays() -> None:
    x = speech()
    out = made(Clip(0.05), x)
    changed = np.abs(out.samples - x.samples) > 2 / 32768
    assert changed.mean() == pytest.approx(0.05, abs=0.005)
    assert np.abs(out.samples[~changed] - x.samples[~changed]).max() <= 2 / 32768


def test_gain_is_in_decibels_and_ends_at_full_scale() -> None:
    x = tone(level=0.25)
    assert db(made(Gain(-6.0), x).samples) - db(x.samples) == pytest.approx(-6, abs=0.01)
    assert db(made(Gain(6.0), x).samples) - db(x.samples) == pytest.approx(6, abs=0.01)
    assert np.abs(made(Gain(40.0), x).samples).max() == pytest.approx(1, abs=1e-4)


def test_settings_are_drawn_evenly_from_their_range_and_checked() -> None:
    drawn = [produce(Gain([-12.0, 6.0]), Item("a", audio=tone()), seed=1, variant=v)[1]
             .params["gain_db"] for v in range(200)]  # fmt: skip
    assert -12 <= min(drawn) < -10
    assert 4 < max(drawn) <= 6
    assert abs(np.mean(drawn) + 3) < 1.2
    for wrong in ([6.0, -12.0], [1.0], 1000.0, float("inf")):
        with pytest.raises(ValueError, match="gain_db must be"):
            Gain(wrong)
    with pytest.raises(ValueError, match="unknown codec 'wav'"):
        Codec("wav")  # type: ignore[arg-type]


def test_audio_is_one_channel_of_finite_float32() -> None:
    for wrong, message in (
        (np.zeros((10, 2), np.float32), "average the channels"),
        (np.zeros(0, np.float32), "n of 1 or more"),
        (np.zeros(10), "float32"),
        (np.full(10, np.nan, np.float32), "not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            Audio(wrong, RATE)
    ramp = np.arange(-32768, 32768, dtype=np.int64).astype("<i2")
    assert np.array_equal(Audio.from_pcm(ramp, RATE).to_pcm(), ramp)


SIZE = np.array([6.0, 5.0, 3.0])
SOURCE, MICROPHONE = np.array([1.5, 2.0, 1.2]), np.array([4.2, 3.1, 1.7])


def test_reflections_come_from_sources_mirrored_again_and_again() -> None:
    """Mirror the source at each wall, and the images at each wall: what has arrived by when."""
    rate = 48_000
    response, beta = shoebox_response(rate, SIZE, SOURCE, MICROPHONE, 0.3)
    reflections = {tuple(SOURCE): 0}
    newest = [SOURCE]
    for order in range(1, 7):
        mirrored = []
        for image in newest:
            for axis, wall in ((k, edge) for k in range(3) for edge in (0.0, SIZE[k])):
                other = image.copy()
                other[axis] = np.round(2 * wall - image[axis], 9)
                if tuple(other) not in reflections:
                    reflections[tuple(other)] = order
                    mirrored.append(other)
        newest = mirrored
    distance = np.linalg.norm(np.array(list(reflections)) - MICROPHONE, axis=1)
    direct = np.linalg.norm(SOURCE - MICROPHONE)
    level = direct / distance * beta ** np.array(list(reflections.values()))
    arrived = np.rint((distance - direct) / SPEED * rate)
    steps = np.arange(round(0.02 * rate))  # by then none has been reflected more than six times
    expected = np.array([level[arrived <= step].sum() for step in steps])
    got = np.cumsum(response)[: steps.size]
    apart = np.array([np.abs(arrived - step).min() > 12 for step in steps])  # not amid a pulse
    assert apart.sum() > 100
    np.testing.assert_allclose(got[apart], expected[apart], atol=0.06)
    assert expected[-1] > 4


def test_eyrings_formula_gives_its_own_t60_back() -> None:
    beta = eyring_reflection(SIZE, 0.3)
    assert 24 * np.log(10) / SPEED * 90 / (126 * -np.log(beta**2)) == pytest.approx(0.3)


@pytest.mark.parametrize("t60", [0.2, 0.5])
@pytest.mark.parametrize("size", [[5.0, 4.6, 4.2], [8.0, 3.0, 2.4]])
def test_a_room_decays_in_its_time(t60: float, size: list[float]) -> None:
    """Schroeder's backward integral of the response itself, above the lowest frequencies."""
    sides = np.array(size)
    places = sides * [0.3, 0.4, 0.35], sides * [0.7, 0.55, 0.6]
    response, beta = shoebox_response(8000, sides, *places, t60)
    high = signal.sosfilt(signal.butter(4, 500, "highpass", fs=8000, output="sos"), response)
    energy = np.cumsum(high[::-1] ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    span = (level < -5) & (level > -25)
    slope = np.polyfit(np.flatnonzero(span) / 8000, level[span], 1)[0]
    assert -60 / slope == pytest.approx(t60, rel=0.15)
    # Nearer to Sabine's and Eyring's than by half, and never above: a box is no diffuse field.
    eyring = eyring_reflection(sides, t60)
    assert 0.5 < np.log(eyring) / np.log(beta) < 1.05


def test_a_room_keeps_length_and_draws_places() -> None:
    audio = speech()
    out = made(ShoeboxRoom(t60=0.4), audio)
    assert out.samples.shape == audio.samples.shape
    _, record = produce(ShoeboxRoom(), Item("a", audio=audio), seed=1)
    assert np.shape(record.params["places"]) == (2, 3)
    assert np.ptp(record.params["places"]) <= 0.8
    dry = made(ShoeboxRoom(t60=0.05, length=20, width=20, height=10), audio)
    assert db(dry.samples - audio.samples) < db(audio.samples) - 15, "walls that take everything"
    assert db(out.samples - audio.samples) > db(audio.samples) - 15


def test_bands_and_stretches_are_silent_and_the_rest_stays() -> None:
    noise = Audio(0.1 * rng_of(1).standard_normal(RATE).astype(np.float32), RATE)
    same = made(MaskSpectrum(bands=1, band=0.0, stretches=0), noise)
    np.testing.assert_allclose(same.samples, noise.samples, atol=2e-3)
    timed = made(MaskSpectrum(bands=0, stretches=1, stretch=0.25), noise)
    silent = timed.samples == 0
    assert silent.sum() == pytest.approx(RATE / 4, abs=20)
    runs = np.diff(np.flatnonzero(np.diff(np.pad(silent, 1).astype(int))))
    assert runs.max() == pytest.approx(RATE / 4, abs=2), "in one piece"
    kept = np.rint(noise.samples * 32768) / 32768
    np.testing.assert_allclose(timed.samples[~silent], kept[~silent], atol=1e-4)
    banded = made(MaskSpectrum(bands=1, band=0.3, stretches=0), noise)
    f, before = signal.welch(noise.samples, RATE, nperseg=1024)
    _, after = signal.welch(banded.samples, RATE, nperseg=1024)
    lost = 10 * np.log10(after / before) < -20
    mel = 2595 * np.log10(1 + f / 700)
    assert np.ptp(mel[lost]) / mel[-1] == pytest.approx(0.3, abs=0.05)
    away = np.abs(mel - mel[lost].mean()) > 0.2 * mel[-1]
    np.testing.assert_allclose(after[away], before[away], rtol=0.05)
    with pytest.raises(ValueError, match="0 or more"):
        MaskSpectrum(bands=-1)
