from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from evalsuite.errors import EvalsuiteError
from evalsuite.generators import Audio, Item, RecipeError, build, parse_recipe, produce
from evalsuite.generators.audio import speech
from evalsuite.generators.audio.speech import Speak, SpeakFlite

TEXT = "The quick brown fox jumps over the lazy dog."


def said(operation: Speak | SpeakFlite, text: str = TEXT, variant: int = 0) -> Audio:
    made, _ = produce(operation, Item("a", text=text), seed=1, variant=variant)
    assert isinstance(made, Audio)
    return made


def fundamental(audio: Audio) -> float:
    """Median pitch in Hz, by autocorrelation of the loudest frames."""
    n = audio.rate // 20
    frames = audio.samples[: audio.samples.size // n * n].reshape(-1, n)
    loud = frames[np.argsort(-np.square(frames).sum(axis=1))[:15]]
    low, high = audio.rate // 400, audio.rate // 60
    found = []
    for frame in loud - loud.mean(axis=1, keepdims=True):
        correlation = np.correlate(frame, frame, "full")[n - 1 :]
        found.append(audio.rate / (low + int(np.argmax(correlation[low:high]))))
    return float(np.median(found))


def test_the_rate_decides_the_length_and_the_pitch_the_pitch() -> None:
    slow, fast = (said(Speak(words_per_minute=w)) for w in (100.0, 250.0))
    assert 1.8 < slow.seconds / fast.seconds < 3
    deep, high = (said(Speak(pitch=p, pitch_range=0.0)) for p in (10.0, 90.0))
    assert fundamental(high) > 1.5 * fundamental(deep)


def test_voices_and_languages_sound_apart_and_each_is_recorded() -> None:
    voices = ["en-us", "en", "en-us+f3", "ja", "fr"]
    lengths = {voice: said(Speak([voice]), "1, 2, 3").samples.size for voice in voices}
    assert len(set(lengths.values())) >= 4
    drawn = {
        produce(Speak(voices), Item(str(i), text="a"), seed=1)[1].params["voice"] for i in range(40)
    }
    assert drawn == set(voices)


def test_it_repeats_whatever_was_said_before() -> None:
    first = said(Speak()).samples
    for other in ("something else", "and more"):
        said(Speak(), other)
    assert np.array_equal(said(Speak()).samples, first)


def test_text_is_text_and_nothing_else() -> None:
    # Phoneme codes and SSML of a data set must not steer the synthesiser, nor a NUL cut it off.
    assert said(Speak(), "[[h@l'oU]]").seconds > said(Speak(), "hello").seconds
    assert said(Speak(), "one\0two").seconds > said(Speak(), "one").seconds
    assert said(Speak(), "-w /tmp/x; $(id)").seconds > 0.5
    for nothing in ("", "  \n"):
        with pytest.raises(ValueError, match="no text to speak"):
            said(Speak(), nothing)
    with pytest.raises(ValueError, match="can be spoken"):
        said(Speak(), "…")


def test_an_unknown_voice_is_refused_when_the_recipe_loads() -> None:
    for voice in ("xx-yy", "en-us+nobody"):
        with pytest.raises(RecipeError, match=r"no voice"):
            parse_recipe(
                json.dumps({"version": 1, "seed": 1, "steps": [{"speak": {"voices": [voice]}}]})
            )
    for wrong in ([], "en-us"):
        with pytest.raises(RecipeError, match="list of one name or more"):
            build({"name": "speak", "version": 1, "params": {"voices": wrong}})


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speech, "which", lambda name: None)
    speech._flite_voices.cache_clear()
    with pytest.raises(EvalsuiteError, match="apt install flite"):
        SpeakFlite()


def test_one_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(speech, "_SECONDS", 0.2)
    with pytest.raises(ValueError, match=r"more than 0.2 seconds"):
        speech._run(["sleep", "5"])
    with pytest.raises(ValueError, match="ended with 1"):
        speech._run(["false"])


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_speaks_as_its_program_does(tmp_path: Path) -> None:
    made = said(SpeakFlite(["rms"]))
    out = tmp_path / "x.wav"
    subprocess.run(["flite", "-voice", "rms", "-t", TEXT, "-o", str(out)], check=True)
    assert abs(made.samples.size * 2 + 44 - out.stat().st_size) < 0.02 * out.stat().st_size
    assert said(SpeakFlite(["rms"], 1.5)).seconds == pytest.approx(1.5 * made.seconds, rel=0.1)
    with pytest.raises(ValueError, match=r"no voice 'nobody'; it has .*slt"):
        SpeakFlite(["nobody"])
