"""Decode recordings that are not trusted, to one rate and one channel, in bounded memory.

libsndfile does the reading (by soundfile), libsoxr the resampling. The format is found by content,
never by the file's name. torchaudio is not used: since 2.9 it needs FFmpeg to read a file.
"""

from __future__ import annotations

import io
import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import numpy.typing as npt

from evalsuite.errors import DataError

from .dataset import BadSample, Limits
from .images import sniff as sniff_image
from .images import what_is

if TYPE_CHECKING:
    import soundfile

FORMATS = {
    "WAV": ".wav .wave",
    "RF64": ".rf64",
    "W64": ".w64",
    "FLAC": ".flac",
    "OGG": ".ogg .oga .opus .spx",
    "MP3": ".mp3 .mpga",
    "AIFF": ".aif .aiff .aifc",
    "AU": ".au .snd",
    "CAF": ".caf",
    "NIST": ".sph .nist",
}
"""Format, by content, to the endings of its files."""

EXTENSIONS = {end: form for form, ends in FORMATS.items() for end in ends.split()} | dict.fromkeys(
    (".m4a", ".aac", ".wma", ".amr", ".ac3", ".ape", ".mka", ".weba"), "other"
)
"""Ending, with its dot, to format; ``other`` is sound that libsndfile cannot read."""

_BLOCK = 2**18  # values read at a time, over all channels
_EXCERPT = 30.0  # seconds
_FULL_BAND = 48_000  # Hz
_RATES = (1_000, 768_000)  # Hz
_SILENCE = 1e-4  # of full scale: -80 dBFS
_LOUDEST = 8.0  # of full scale: +18 dBFS
_BITS = {"PCM_U8": 8, "PCM_S8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}


@dataclass(frozen=True, slots=True, eq=False)
class DecodedAudio:
    """A decoded recording.

    Attributes
    ----------
    samples : ndarray of float32, shape (n,)
        One channel, at ``rate``; full scale is -1 to 1. At least one sample, all finite.
    rate : int
        Hz, of ``samples``.
    source_rate : int
        Hz, of the file and of ``native``.
    channels : int
        Of the file; ``samples`` is their mean.
    seconds : float
        How long the file is, also if only excerpts of it were read.
    format, subtype : str
        By content, as libsndfile calls them: ``WAV`` and ``PCM_16``, ``OGG`` and ``VORBIS``.
    notes : tuple of str
        What is special, sorted: ``8-bit`` ``cancelled`` ``clipped`` ``downmixed`` ``excerpt``
        ``header-lies`` ``over-range`` ``resampled`` ``silent``. docs/data.md says what each means.
    native : ndarray of float32, shape (m,)
        One channel, at the file's own rate: what the band, the loudness and the noise are measured
        on. The same array as ``samples`` where the rates are equal.
    """

    samples: npt.NDArray[np.float32]
    rate: int
    source_rate: int
    channels: int
    seconds: float
    format: str
    subtype: str
    notes: tuple[str, ...]
    native: npt.NDArray[np.float32]


def sniff(head: bytes) -> str | None:
    """Name the audio format that content starts like; None if it is none that is read."""
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        return "WAV"
    if head[:4] == b"RF64" and head[8:12] == b"WAVE":
        return "RF64"
    if head.startswith(b"riff\x2e\x91\xcf\x11"):
        return "W64"
    if head.startswith(b"fLaC"):
        return "FLAC"
    if head.startswith(b"OggS"):
        return "OGG"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if head[:4] == b".snd" and head[4:6] == b"\0\0":
        return "AU"
    if head.startswith(b"caff\0\1"):
        return "CAF"
    if head.startswith(b"NIST_1A\n"):
        return "NIST"
    if head.startswith(b"ID3") and len(head) > 3 and head[3] < 0x10:
        return "MP3"
    # A frame of MPEG audio starts with 11 set bits; layer, bit rate and sampling rate must be ones
    # that exist. Layer I is left out: nobody uses it, and UTF-16 text starts like it (FF FE).
    if (
        len(head) >= 4
        and head[0] == 0xFF
        and head[1] & 0xE0 == 0xE0
        and head[1] & 0x18 != 0x08
        and head[1] & 0x06 in (0x02, 0x04)
        and head[2] & 0xF0 not in (0x00, 0xF0)
        and head[2] & 0x0C != 0x0C
    ):
        return "MP3"
    return None


def decode_audio(
    data: bytes | BinaryIO, limits: Limits | None = None, *, rate: int = 16_000
) -> DecodedAudio:
    """Decode one recording: its channels' mean, at its own rate and at the one that is asked for.

    Parameters
    ----------
    data : bytes or binary file
        The encoded file, or a file that can be sought in, such as ``Dataset.open`` gives: of a
        long recording only the excerpts are then read.
    limits : Limits, optional
        ``max_seconds``: of a longer recording, evenly spaced excerpts of 30 seconds are read, as
        many as make up that length, the first at its start and the last at its end. Above 48 kHz,
        this holds for as many samples as 48 kHz would have, so that memory is bounded whatever a
        header says: about 150 MB for the default of 600 seconds.
    rate : int
        Hz, of ``samples``. All speech models that work offline take 16 kHz.

    Returns
    -------
    DecodedAudio
        Silence is no error here, but a note.

    Raises
    ------
    BadSample
        ``not_audio``; ``empty``: no samples; ``not_finite``: NaN or infinity among them;
        ``truncated``: nothing of what the header declares is there; ``oversized``: more bytes than
        ``limits.max_bytes``, if given as bytes; ``unreadable``: damaged, or no known scale.
    DataError
        If soundfile or soxr is not installed.
    """
    limits = limits or Limits()
    if not _RATES[0] <= rate <= _RATES[1]:
        raise DataError(f"rate must be {_RATES[0]:,} to {_RATES[1]:,} Hz, got {rate}")
    soundfile, soxr = _libraries()
    source = _Source(data, limits)
    form = sniff(source.head)
    if form is None:
        image = sniff_image(source.head[:64])
        raise BadSample(
            "not_audio", f"it is an image ({image})" if image else what_is(source.head, "audio")
        )
    reader = _Reader(source, form, limits, soundfile)
    try:
        native = reader.read()
    except BadSample as bad:
        raise (source.failed or bad) from None
    finally:
        reader.sound.close()
    if source.failed is not None:
        raise source.failed
    notes = reader.notes
    if _overstated(source):
        notes.add("header-lies")
    samples = native
    if reader.rate != rate:
        notes.add("resampled")
        samples = soxr.resample(native, reader.rate, rate, quality="HQ")
        if not len(samples):
            raise BadSample(
                "empty", f"{len(native)} samples at {reader.rate:,} Hz are none at {rate:,} Hz"
            )
    return DecodedAudio(
        samples=samples,
        rate=rate,
        source_rate=reader.rate,
        channels=reader.channels,
        seconds=reader.frames / reader.rate,
        format=str(reader.sound.format),
        subtype=str(reader.sound.subtype),
        notes=tuple(sorted(notes)),
        native=native,
    )


def _libraries() -> tuple[Any, Any]:
    try:
        import soundfile
        import soxr
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise DataError(
            f"recordings are read by soundfile and soxr, and {error}: "
            "pip install 'evalsuite[models]'"
        ) from None
    return soundfile, soxr


class _Source:
    """What libsndfile reads from.

    It calls back from C, where an exception would be printed and dropped: it is kept instead.
    There is no ``name``, by which soundfile would guess a format.
    """

    def __init__(self, data: bytes | BinaryIO, limits: Limits) -> None:
        self.failed: BadSample | None = None
        if isinstance(data, bytes):
            if len(data) > limits.max_bytes:
                raise BadSample(
                    "oversized", f"{len(data):,} bytes; at most {limits.max_bytes:,} are read"
                )
            data = io.BytesIO(data)
        self._file = data
        self.size = self.seek(0, os.SEEK_END)
        self.head = self.at(0, 512)
        if self.failed is not None:
            raise self.failed
        if not self.size:
            raise BadSample("truncated", "it is empty: 0 bytes")

    def at(self, position: int, count: int) -> bytes:
        """Give bytes of the file, from anywhere."""
        self.seek(position)
        data = self.read(count)
        self.seek(0)
        return data

    def read(self, count: int = -1) -> bytes:
        try:
            return self._file.read(count) or b""
        except (OSError, ValueError) as error:
            self._fail(error)
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError) as error:
            # libsndfile also seeks to where a header points, which may be before the start.
            if whence != os.SEEK_SET or offset >= 0:
                self._fail(error)
            return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def _fail(self, error: Exception) -> None:
        words = getattr(error, "strerror", None) or str(error)
        self.failed = BadSample("unreadable", f"the file cannot be read: {words}")


class _Reader:
    """Reads the channels' mean from an open file, and notes what is special."""

    def __init__(self, source: _Source, form: str, limits: Limits, library: Any) -> None:
        self._source = source
        self._library = library
        self.form = form
        self.sound = self._open()
        self.rate = int(self.sound.samplerate)
        self.channels = int(self.sound.channels)
        self.notes: set[str] = set()
        if not _RATES[0] <= self.rate <= _RATES[1]:
            low, high = _RATES
            raise BadSample(
                "unreadable", f"a rate of {self.rate:,} Hz; {low:,} to {high:,} Hz are read"
            )
        self.frames = int(self.sound.frames)
        self.budget = max(1, int(limits.max_seconds * min(self.rate, _FULL_BAND)))
        bits = _BITS.get(self.sound.subtype)
        self._clip = 1 - 2.0 ** (1 - bits) if bits else 1.0
        if bits == 8:
            self.notes.add("8-bit")
        self._peak = 0.0
        self._not_finite = 0

    def read(self) -> npt.NDArray[np.float32]:
        """Read the whole, or excerpts of it.

        Raises
        ------
        BadSample
            If there is nothing to read, or nothing that has a meaning.
        """
        if self.frames <= 0:
            if self.form == "OGG":  # its length stands on its last page
                raise BadSample("truncated", "the end of the Ogg data is not there")
            raise BadSample("empty", "it has 0 samples")
        native = self._excerpts() if self.frames > self.budget else self._from_start()
        if native is None:
            self.sound.close()
            self.sound = self._open()  # after a seek that failed, libsndfile fails for ever
            native = self._from_start()
        if self._not_finite:
            raise BadSample(
                "not_finite",
                f"{self._not_finite:,} of {len(native) * self.channels:,} values are NaN or "
                "infinite",
            )
        if self._peak > _LOUDEST:
            raise BadSample(
                "unreadable",
                f"samples up to {self._peak:g} have no known scale: -1 to 1 is full scale",
            )
        self._describe(native)
        return native

    def _open(self) -> soundfile.SoundFile:
        self._source.seek(0)
        try:
            return self._library.SoundFile(self._source)
        except MemoryError:
            raise
        except Exception as error:  # damaged input makes soundfile raise more than its own errors
            raise self._source.failed or _damaged(self.form, error) from None

    def _excerpts(self) -> npt.NDArray[np.float32] | None:
        """Read evenly spaced parts; None if they are not where the header says."""
        # Two at least: the second is at the end, so that a header that lies is found out.
        count = max(2, round(self.budget / (_EXCERPT * self.rate)))
        length = self.budget // count
        native = np.empty(count * length, dtype=np.float32)
        for k in range(count):
            start = round(k * (self.frames - length) / (count - 1))
            try:
                self.sound.seek(start)
            except Exception:  # the header declared more than there is
                return None
            if self._fill(native[k * length : (k + 1) * length]) < length:
                return None
        self.notes.add("excerpt")
        return native

    def _from_start(self) -> npt.NDArray[np.float32]:
        """Read what is there, up to the budget."""
        self._peak, self._not_finite = 0.0, 0
        self.notes -= {"clipped", "over-range"}
        wanted = min(self.frames, self.budget)
        native = np.empty(wanted, dtype=np.float32)
        found = self._fill(native)
        if not found:
            raise BadSample("truncated", f"none of {self.frames:,} samples can be decoded")
        if found < wanted or self.frames > self.budget:
            self.notes.add("header-lies")
            if found == self.budget:
                self.notes.add("excerpt")
            self.frames = found
            native = native[:found].copy()
        return native

    def _fill(self, target: npt.NDArray[np.float32]) -> int:
        """Read the mean of the channels into an array; give how many samples there were."""
        size = max(1, _BLOCK // self.channels)
        block = np.empty((size, self.channels), dtype=np.float32)
        tail = np.zeros((0, self.channels), dtype=bool)
        done = 0
        while done < len(target):
            part = block[: min(size, len(target) - done)]
            # Where data ends too early, soundfile raises after it has decoded what is there; what
            # it has not touched is then still NaN.
            part[:] = np.nan
            try:
                found = len(self.sound.read(out=part))
                ended = found < len(part)
            except MemoryError:
                raise  # the machine is short of memory: no sample is to blame
            except Exception:
                found = (
                    int(np.argmax(np.isnan(part[:, -1]))) if np.isnan(part[-1, -1]) else len(part)
                )
                ended = True
            part = part[:found]
            if found:
                tail = self._look(part, tail)
                part.mean(axis=1, out=target[done : done + found])
                done += found
            if ended:
                break
        return done

    def _look(self, part: npt.NDArray[np.float32], tail: Any) -> Any:
        """Note extremes; clipping is three samples in a row at full scale, in one channel."""
        high = float(np.abs(part).max())
        if not math.isfinite(high):
            self._not_finite += int(np.count_nonzero(~np.isfinite(part)))
            return tail[:0]
        self._peak = max(self._peak, high)
        if high < self._clip:
            return tail[:0]
        if high > 1:
            self.notes.add("over-range")
        over = np.concatenate([tail, np.abs(part) >= self._clip])
        if len(over) > 2 and (over[2:] & over[1:-1] & over[:-2]).any():
            self.notes.add("clipped")
        return over[-2:]

    def _describe(self, native: npt.NDArray[np.float32]) -> None:
        if self.channels > 1:
            self.notes.add("downmixed")
        if self._peak < _SILENCE:
            self.notes.add("silent")
        elif self.channels > 1 and max(native.max(), -native.min()) < _SILENCE:
            self.notes |= {"silent", "cancelled"}


def _overstated(source: _Source) -> bool:
    """Whether the chunk of samples is longer, by its header, than what is left of the file.

    libsndfile puts that right without a word.
    """
    start = source.head[:4]
    if start == b".snd":
        return sum(int.from_bytes(source.head[k : k + 4], "big") for k in (4, 8)) > source.size
    if start not in (b"RIFF", b"RIFX", b"RF64", b"FORM"):
        return False
    position = 12
    for _ in range(64):
        chunk = source.at(position, 8)
        if len(chunk) < 8:
            break
        size = int.from_bytes(chunk[4:], "big" if start in (b"RIFX", b"FORM") else "little")
        if chunk[:4] in (b"data", b"SSND"):
            if start == b"RF64" and size == 2**32 - 1:  # the length stands in the chunk before
                size = int.from_bytes(source.head[28:36], "little")
            return position + 8 + size > source.size
        position += 8 + size + size % 2
    return False


def _damaged(form: str, error: Exception) -> BadSample:
    words = str(getattr(error, "error_string", "") or error) or type(error).__name__
    return BadSample("unreadable", f"the {form} data cannot be decoded: {words}")
