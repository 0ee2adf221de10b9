"""Speech from text with no download: espeak-ng from a wheel, and flite where it is installed.

They are formant and diphone voices of the nineties: clear, and unlike people. What a study learns
on them holds for the pipeline, not for the sound of speech. espeak-ng's pauses are digital zeros,
which recognisers take badly: let ``add_noise`` at 50 dB or so follow it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any, ClassVar

import numpy as np

from ...errors import EvalsuiteError
from ..effect import Effect, Span
from ..values import Audio, Modality, Params

_SECONDS = 120
"""A text that takes longer than this to speak is given up."""


@dataclass(frozen=True)
class Speak(Effect):
    """Speak a text by espeak-ng.

    Parameters
    ----------
    voices : sequence of str
        One is drawn for each item: languages (``en`` is British, ``en-us``, ``en-gb-scotland``,
        ``ja``, ``fr``, …), with a variant after ``+`` (``en-us+f3``: ``m1`` to ``m8``, ``f1`` to
        ``f5``, ``croak``, ``whisper``, …).
    words_per_minute : float or [low, high]
        The rate.
    pitch, pitch_range : float or [low, high]
        From 0 to 99; 50 is the voice's own.

    Raises
    ------
    ValueError
        If espeak-ng has no such voice.
    EvalsuiteError
        If espeakng-loader is not installed.
    """

    name: ClassVar[str] = "speak"
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.AUDIO
    libraries: ClassVar[tuple[str, ...]] = ("espeakng-loader",)
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "words_per_minute": (80, 450),
        "pitch": (0, 99),
        "pitch_range": (0, 99),
    }

    voices: Sequence[str] = ("en-us",)
    words_per_minute: Span = (140.0, 190.0)
    pitch: Span = (40.0, 60.0)
    pitch_range: Span = 50.0

    def __post_init__(self) -> None:
        """Check the settings, the voices by asking espeak-ng."""
        super().__post_init__()
        _check_voices(self.voices)
        if unknown := _unknown_voices(tuple(self.voices)):
            raise ValueError(f"espeak-ng has no voice {', '.join(map(repr, unknown))}")

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw voice, rate and pitch."""
        drawn = super().sample_params(rng)
        return {**drawn, "voice": self.voices[int(rng.integers(len(self.voices)))]}

    def apply(self, value: str, params: Params) -> Audio:
        """Speak the text.

        Raises
        ------
        ValueError
            If nothing of the text can be spoken.
        """
        facts, samples = _ask(
            {
                "text": _speakable(value),
                "voices": [params["voice"]],
                "rate": round(params["words_per_minute"]),
                "pitch": round(params["pitch"]),
                "range": round(params["pitch_range"]),
            }
        )
        return _spoken(np.frombuffer(samples, "<i2"), facts["rate"], value)


@dataclass(frozen=True)
class SpeakFlite(Effect):
    """Speak an English text by flite, where the program is installed.

    Parameters
    ----------
    voices : sequence of str
        One is drawn for each item, of those built in: ``kal``, ``kal16``, ``awb``, ``rms``,
        ``slt``.
    stretch : float or [low, high]
        Of the length: 1 is the voice's own, 1.2 slower.

    Raises
    ------
    ValueError
        If flite has no such voice.
    EvalsuiteError
        If flite is not installed.
    """

    name: ClassVar[str] = "speak_flite"
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.AUDIO
    limits: ClassVar[dict[str, tuple[float, float]]] = {"stretch": (0.3, 3)}

    voices: Sequence[str] = ("slt",)
    stretch: Span = 1.0

    def __post_init__(self) -> None:
        """Check the settings, the voices by asking flite."""
        super().__post_init__()
        _check_voices(self.voices)
        known = _flite_voices()
        if unknown := sorted(set(self.voices) - set(known)):
            raise ValueError(
                f"flite has no voice {', '.join(map(repr, unknown))}; it has {', '.join(known)}"
            )

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw voice and length."""
        drawn = super().sample_params(rng)
        return {**drawn, "voice": self.voices[int(rng.integers(len(self.voices)))]}

    def apply(self, value: str, params: Params) -> Audio:
        """Speak the text.

        Raises
        ------
        ValueError
            If nothing of the text can be spoken.
        """
        with tempfile.TemporaryDirectory() as folder:
            said, out = Path(folder, "text"), Path(folder, "out.wav")
            said.write_text(_speakable(value), "utf-8")
            stretch = f"duration_stretch={params['stretch']:.6f}"
            _run([_flite(), "-voice", params["voice"], "--setf", stretch, str(said), str(out)])
            try:
                with wave.open(str(out)) as file:
                    samples = np.frombuffer(file.readframes(file.getnframes()), "<i2")
                    rate = file.getframerate()
            except (OSError, EOFError, wave.Error) as error:
                raise ValueError(f"flite made no speech of {value[:40]!r}: {error}") from error
        return _spoken(samples, rate, value)


def _check_voices(voices: Sequence[str]) -> None:
    if isinstance(voices, str) or not voices:
        raise ValueError(f"voices must be a list of one name or more, got {voices!r}")


def _speakable(text: str) -> str:
    # The library reads to the first NUL.
    if not (text := text.replace("\0", " ").strip()):
        raise ValueError("there is no text to speak")
    return text


def _spoken(samples: Any, rate: int, text: str) -> Audio:
    if not samples.size or not samples.any():
        raise ValueError(f"nothing of {text[:40]!r} can be spoken by this voice")
    return Audio.from_pcm(samples, rate)


@cache
def _espeak() -> dict[str, str]:
    try:
        import espeakng_loader  # type: ignore[import-untyped]
    except ImportError as error:
        raise EvalsuiteError(
            "speech by espeak-ng needs espeakng-loader: pip install 'evalsuite[generators]'"
        ) from error
    return {
        "library": str(espeakng_loader.get_library_path()),
        "data": str(espeakng_loader.get_data_path()),
    }


@cache
def _unknown_voices(voices: tuple[str, ...]) -> tuple[str, ...]:
    facts, _ = _ask({"voices": voices})
    return tuple(facts["unknown"])


def _ask(request: Params) -> tuple[Params, bytes]:
    worker = str(Path(__file__).with_name("espeak_worker.py"))
    asked = json.dumps({**_espeak(), **request}).encode()
    # -I -S: nothing of the user's is imported, and it starts fast.
    said = _run([sys.executable, "-I", "-S", worker], asked)
    line, _, samples = said.partition(b"\n")
    facts: Params = json.loads(line)
    if "error" in facts:
        raise EvalsuiteError(facts["error"])
    return facts, samples


def _flite() -> str:
    found = which("flite")
    if found is None:
        raise EvalsuiteError(
            "the program flite is not installed (Debian: apt install flite); "
            "the operation speak needs no program"
        )
    return found


@cache
def _flite_voices() -> tuple[str, ...]:
    said = _run([_flite(), "-lv"]).decode("ascii", "replace")
    return tuple(dict.fromkeys(said.rpartition(":")[2].split()))


def _run(command: list[str], given: bytes = b"") -> bytes:
    try:
        done = subprocess.run(  # noqa: S603 - our own worker, or flite; no shell
            command, input=given, capture_output=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"the speech took more than {_SECONDS} seconds: cut the text") from error
    if done.returncode != 0:
        words = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise ValueError(f"the speech program ended with {done.returncode}: {words}")
    return done.stdout
