"""Recordings: decoding to one rate, and every kind of bad input by its name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evalsuite.data import (
    BadSample,
    DecodedAudio,
    Limits,
    decode_audio,
    decode_image,
    open_dataset,
    sample_hash,
)
from evalsuite.data.audio import EXTENSIONS, sniff
from evalsuite.errors import DataError

SPEECH = Path(__file__).parent / "speech"
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF", "NIST")


def tone(rate: int = 16_000, seconds: float = 1.0, hertz: float = 440.0, level: float = 0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)


def encode(samples, rate: int = 16_000, form: str = "WAV", subtype: str | None = None) -> bytes:
    data = io.BytesIO()
    soundfile.write(data, samples, rate, format=form, subtype=subtype)
    return data.getvalue()


def bad(data: bytes, limits: Limits | None = None) -> BadSample:
    with pytest.raises(BadSample) as error:
        decode_audio(data, limits)
    return error.value


def sparse_wav(path: Path, frames: int, rate: int, channels: int) -> None:
    """Write a long silent file that takes no room on the disk."""
    size = frames * channels * 2
    fmt = struct.pack("<IHHIIHH", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16)
    with path.open("wb") as out:
        out.write(b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt " + fmt)
        out.write(b"data" + struct.pack("<I", size))
        out.truncate(44 + size)


# --- formats ---------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_tone(form):
    data = encode(tone(), form=form)
    assert sniff(data[:64]) == {"WAVEX": "WAV"}.get(form, form)
    audio = decode_audio(data)
    assert (audio.rate, audio.source_rate, audio.channels, audio.format) == (16000, 16000, 1, form)
    assert audio.seconds == pytest.approx(1, abs=0.1)
    assert audio.samples.dtype == np.float32
    assert audio.native is audio.samples
    if form not in ("OGG", "MP3"):
        assert audio.notes == ()
        np.testing.assert_allclose(audio.samples, tone(), atol=2e-4)
    loudest = np.abs(np.fft.rfft(audio.samples)).argmax() * 16000 / len(audio.samples)
    assert loudest == pytest.approx(440, abs=2)


def test_ogg_opus_is_read():
    audio = decode_audio(encode(tone(48000), 48000, "OGG", "OPUS"))
    assert (audio.subtype, audio.source_rate, len(audio.native)) == ("OPUS", 48000, 48000)


def test_each_ending_names_a_format_that_is_sniffed():
    named = {form for form in EXTENSIONS.values() if form != "other"}
    assert named == {f for f in FORMATS if f != "WAVEX"}


@pytest.mark.parametrize(
    "head",
    [
        b"\xff\xfea\0b\0c\0",  # UTF-16
        b"\xff\xd8\xff\xe0\0\x10JFIF",
        b"\xff\xff\xff\xff\xff\xff",
        b"ID3 is a format of tags",
        b".snd is a word",
        b"RIFF\0\0\0\0WEBP",
        b"",
    ],
)
def test_what_only_looks_like_sound_is_not_taken_for_it(head):
    assert sniff(head) is None


def test_real_speech_is_resampled_once_and_keeps_its_own_rate():
    path = SPEECH / "tt-weasels.wav"
    audio = decode_audio(path.read_bytes())
    samples, rate = soundfile.read(path, dtype="float32")
    assert (rate, audio.source_rate, audio.subtype) == (8000, 8000, "PCM_16")
    assert audio.notes == ("resampled",)
    np.testing.assert_array_equal(audio.native, samples)
    assert len(audio.samples) == 2 * len(samples)
    # Nothing is above the file's own band, nothing is lost in it.
    spectrum = np.abs(np.fft.rfft(audio.samples)) ** 2
    assert spectrum[int(0.52 * len(spectrum)) :].sum() < 1e-5 * spectrum.sum()
    assert np.square(audio.samples).mean() == pytest.approx(np.square(samples).mean(), rel=0.02)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_a_tone_has_its_frequency_and_level_at_any_rate(rate):
    audio = decode_audio(encode(tone(rate, 1.0), rate))
    assert len(audio.samples) == pytest.approx(16000, abs=1)
    inner = audio.samples[1000:-1000]
    expected = tone()[1000 : 1000 + len(inner)]
    assert np.abs(inner - expected).max() < 2e-3
    assert ("resampled" in audio.notes) == (rate != 16000)


def test_a_rate_is_as_asked_for():
    audio = decode_audio(encode(tone()), rate=24_000)
    assert (audio.rate, len(audio.samples), len(audio.native)) == (24_000, 24_000, 16_000)
    with pytest.raises(DataError, match="rate must be"):
        decode_audio(encode(tone()), rate=0)


def test_channels_are_averaged():
    eight = np.stack([tone(level=0.1 * k) for k in range(8)], axis=1)
    audio = decode_audio(encode(eight, subtype="PCM_24"))
    assert (audio.channels, audio.notes) == (8, ("downmixed",))
    np.testing.assert_allclose(audio.samples, eight.mean(axis=1), atol=1e-6)


def test_a_file_and_its_bytes_give_the_same(tmp_path):
    dataset = open_dataset(SPEECH)
    sample = dataset.samples[0]
    with dataset.open(sample, "audio") as file:
        streamed = decode_audio(file)
        assert sample_hash(file) == sample_hash(dataset.read(sample))
    np.testing.assert_array_equal(streamed.samples, decode_audio(dataset.read(sample)).samples)


# --- notes -----------------------------------------------------------------------------------


def test_silence_is_a_note_and_no_error():
    assert decode_audio(encode(np.zeros(16000))).notes == ("silent",)
    assert decode_audio(encode(np.zeros(16000), subtype="PCM_U8")).notes == ("8-bit", "silent")
    assert "silent" not in decode_audio(encode(tone(level=0.001))).notes


def test_opposite_channels_cancel_and_that_is_said():
    audio = decode_audio(encode(np.stack([tone(), -tone()], axis=1)))
    assert audio.notes == ("cancelled", "downmixed", "silent")


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
def test_clipping_is_three_samples_at_full_scale(subtype):
    clipped = np.clip(tone(level=2), -1, 1)
    assert "clipped" in decode_audio(encode(clipped, subtype=subtype)).notes
    assert "clipped" not in decode_audio(encode(tone(level=0.98), subtype=subtype)).notes
    one_peak = np.zeros(1000)
    one_peak[500:502] = 1
    assert "clipped" not in decode_audio(encode(one_peak, subtype=subtype)).notes


def test_clipping_is_seen_where_two_blocks_meet():
    from evalsuite.data import audio

    samples = np.zeros(2 * audio._BLOCK)
    samples[audio._BLOCK - 1 : audio._BLOCK + 2] = 1
    assert "clipped" in decode_audio(encode(samples)).notes


def test_more_than_full_scale_is_kept_and_said():
    audio = decode_audio(encode(tone(level=1.5), subtype="FLOAT"))
    assert "over-range" in audio.notes
    assert audio.samples.max() == pytest.approx(1.5, abs=1e-3)


# --- bad input -------------------------------------------------------------------------------


def test_no_samples_is_empty():
    assert bad(encode(np.zeros(0))).kind == "empty"
    assert bad(encode(np.zeros(1), 192_000)).kind == "empty"
    assert bad(b"").kind == "truncated"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_counted(value):
    samples = tone()
    samples[[5, 15999]] = value
    error = bad(encode(samples, subtype="FLOAT"))
    assert (error.kind, error.detail[:11]) == ("not_finite", "2 of 16,000")


def test_integers_written_as_floats_have_no_scale():
    error = bad(encode(tone() * 32767, subtype="FLOAT"))
    assert error.kind == "unreadable"
    assert "scale" in error.detail


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"just words", "text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(60), "image"),
        (b"%PDF-1.7", "PDF"),
        (b"\0\0\0\x20ftypM4A " + bytes(60), "video or MPEG-4"),
        (bytes(range(128, 200)), "no audio format"),
    ],
)
def test_what_is_no_recording_is_named(data, words):
    error = bad(data)
    assert error.kind == "not_audio"
    assert words in error.detail


def test_a_recording_is_no_image():
    with pytest.raises(BadSample, match="not_an_image: it is audio"):
        decode_image(encode(tone()))


@pytest.mark.parametrize("form", ["WAV", "WAVEX", "RF64", "FLAC", "AIFF", "AU", "MP3"])
def test_a_header_that_lies_keeps_what_is_there(form):
    samples = 0.3 * np.random.default_rng(0).standard_normal(60_000).clip(-3, 3)
    whole = encode(samples, form=form)
    audio = decode_audio(whole[: len(whole) // 2])
    assert "header-lies" in audio.notes
    assert 10_000 < len(audio.samples) < 50_000
    assert audio.seconds == len(audio.samples) / 16000
    np.testing.assert_array_equal(audio.samples, decode_audio(whole).samples[: len(audio.samples)])


@pytest.mark.parametrize("size", [2**32 - 1, 2**31 - 1, 10**9])
def test_a_wav_that_was_piped_declares_too_much(size):
    data = encode(tone())
    at = data.index(b"data") + 4
    audio = decode_audio(data[:at] + struct.pack("<I", size) + data[at + 4 :])
    assert (len(audio.samples), audio.notes) == (16000, ("header-lies",))


@pytest.mark.parametrize("most", [600.0, 1.0])
@pytest.mark.parametrize("claimed", [0, 2**32])
def test_a_flac_of_no_or_of_a_wrong_length_is_read_to_its_end(claimed, most):
    data = bytearray(encode(tone(seconds=3), form="FLAC"))
    data[21] = data[21] & 0xF0 | (claimed >> 32)
    data[22:26] = (claimed & (2**32 - 1)).to_bytes(4, "big")
    audio = decode_audio(bytes(data), Limits(max_seconds=most))
    assert len(audio.samples) == 16000 * min(3, most)
    assert audio.seconds == min(3, most)
    assert audio.notes == (("excerpt", "header-lies") if most < 3 else ("header-lies",))


def test_a_header_with_nothing_behind_it_is_refused():
    data = encode(tone(), form="FLAC")
    assert bad(data[:90]).kind == "truncated"
    assert bad(encode(tone())[:44]).kind == "empty"
    assert bad(encode(tone())[:20]).kind == "unreadable"


def test_a_rate_that_no_recording_has_is_refused():
    error = bad(encode(tone(), 100))
    assert error.kind == "unreadable"
    assert "100 Hz" in error.detail


def test_bytes_are_limited_and_files_are_not():
    data = encode(tone())
    assert bad(data, Limits(max_bytes=1000)).kind == "oversized"
    assert len(decode_audio(io.BytesIO(data), Limits(max_bytes=1000)).samples) == 16000


def test_a_file_that_fails_while_it_is_read_is_unreadable(capfd):
    class Failing(io.BytesIO):
        def read(self, size=-1, /):
            if self.tell() > 20_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

        readinto = None

    with pytest.raises(BadSample, match=r"unreadable: .*Input/output error"):
        decode_audio(Failing(encode(tone())))
    assert "Traceback" not in capfd.readouterr().err


# --- long recordings -------------------------------------------------------------------------


def test_excerpts_are_evenly_spaced_and_reach_both_ends():
    seconds = 1000
    values = np.repeat(np.arange(seconds) / 2000, 1000)  # the value tells the second
    audio = decode_audio(encode(values, 1000), Limits(max_seconds=120), rate=1000)
    assert audio.notes == ("excerpt",)
    assert (audio.seconds, len(audio.samples)) == (1000, 120_000)
    found = np.rint(audio.native.reshape(4, 30_000)[:, [0, -1]] * 2000)
    assert found.tolist() == [[0, 29], [323, 353], [646, 676], [970, 999]]


def test_above_full_band_the_samples_are_limited_and_not_the_seconds():
    audio = decode_audio(encode(tone(192_000, 3), 192_000), Limits(max_seconds=1))
    assert (len(audio.native), audio.seconds) == (48_000, 3)
    assert "excerpt" in audio.notes


def test_three_hours_take_little_memory(tmp_path):
    sparse_wav(tmp_path / "long.wav", 3 * 3600 * 44_100, 44_100, 2)
    code = f"""
from evalsuite.data import BadSample, decode_audio, open_dataset
dataset = open_dataset({str(tmp_path)!r})
with dataset.open(dataset.samples[0]) as file:
    audio = decode_audio(file)
print(audio.seconds, len(audio.samples), *audio.notes)
try:
    dataset.read(dataset.samples[0])
except BadSample as bad:
    print(bad.kind)
# Not ru_maxrss, which a process takes over from the one that started it.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if "VmHWM" in line) / 1024)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second, peak = out.stdout.splitlines()
    assert first == "10800.0 9600000 downmixed excerpt resampled silent"
    assert second == "oversized"
    assert float(peak) < 200  # MiB, of the whole process


def test_nothing_of_sound_is_imported_before_it_is_needed():
    code = (
        f"import sys; from evalsuite.data import open_dataset; open_dataset({str(SPEECH)!r})\n"
        "print([m for m in ('soundfile', 'soxr', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- any bytes -------------------------------------------------------------------------------

VALID = [encode(tone(seconds=0.2), form=form) for form in FORMATS if form != "MP3"]
STARTS = [b"", b"\xff\xfb\x90\x64", b"ID3\x03", *(valid[:48] for valid in VALID)]


def check(data: bytes) -> None:
    try:
        audio = decode_audio(data, Limits(max_seconds=5))
    except BadSample:
        return
    assert isinstance(audio, DecodedAudio)
    assert len(audio.samples) >= 1
    assert np.isfinite(audio.samples).all()
    assert np.isfinite(audio.native).all()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=400), st.sampled_from([b"", *(v[:48] for v in VALID), b"\xff\xfb\x90\x64"])
)
def test_any_bytes_are_a_recording_or_a_bad_sample(tail, start):
    check(start + tail)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sampled_from(VALID), st.data())
def test_a_damaged_recording_is_a_recording_or_a_bad_sample(valid, data):
    changed = bytearray(valid)
    for _ in range(data.draw(st.integers(1, 6))):
        # Most damage is done in the header.
        end = min(len(changed), data.draw(st.sampled_from([64, 512, len(changed)])))
        at = data.draw(st.integers(0, end - 1))
        changed[at : at + 4] = data.draw(st.binary(min_size=1, max_size=4))
    check(bytes(changed[: data.draw(st.integers(1, len(changed)))]))
