"""The gate on speech in which everything is wrong that can be: it ends, and says each thing."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile

from evalsuite.gate.findings import GateResult, Status
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.pipeline.run import run_gate
from evalsuite.report import write_outputs

if TYPE_CHECKING:
    from collections.abc import Iterator

SPEECH = Path(__file__).parents[1] / "data" / "speech"
RATE = 16_000
PROBLEMS = {
    "no-samples": "empty",
    "not-finite": "not_finite",
    "cut": "truncated",
    "no-sound": "not_audio",
    "empty-caption": "empty",
    "huge-caption": "oversized",
    "control-caption": "control_characters",
    "no-partner": "missing_partner",
    "only-text": "missing",
}
NOTES = {"silence": "silent", "eight-bit": "8-bit", "lying": "header-lies", "wide": "resampled"}


def prompts() -> Iterator[tuple[Path, str]]:
    for line in (SPEECH / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        yield SPEECH / row["file_name"], row["transcript"]


def good(folder: Path, gain: float) -> Path:
    folder.mkdir()
    for path, text in prompts():
        samples, rate = soundfile.read(path)
        soundfile.write(folder / path.name, gain * samples, rate, subtype="PCM_16")
        (folder / f"{path.stem}.txt").write_text(text, "utf-8")
    return folder


def bad(folder: Path) -> Path:
    good(folder, 0.9)
    rng = np.random.default_rng(0)

    def sound(name: str, samples: np.ndarray, rate: int = RATE, subtype: str = "PCM_16") -> bytes:
        path = folder / f"{name}.wav"
        soundfile.write(path, samples, rate, subtype=subtype)
        (folder / f"{name}.txt").write_text("All circuits are busy now.", "utf-8")
        return path.read_bytes()

    hum = 0.1 * rng.standard_normal(RATE)
    sound("silence", np.zeros(RATE))
    sound("no-samples", np.zeros(0))
    sound("eight-bit", hum, subtype="PCM_U8")
    sound("wide", 0.1 * rng.standard_normal(192_000), 192_000)
    sound("not-finite", np.where(np.arange(RATE) == 7, np.nan, hum), subtype="FLOAT")
    whole = sound("lying", hum)
    size = struct.pack("<I", 2**30)  # of a second of sound the header says that it is a gigabyte
    at = whole.index(b"data") + 4
    (folder / "lying.wav").write_bytes(whole[:at] + size + whole[at + 4 :])
    sound("cut", hum)
    (folder / "cut.wav").write_bytes(b"")
    sound("no-sound", hum)
    (folder / "no-sound.wav").write_text("<html>Not found</html>" * 20)
    for name, caption in (
        ("empty-caption", "  \n"),
        ("huge-caption", "very " * 2_000_000),
        ("control-caption", "All circuits\x00 are \x1b[31mbusy</script><b>now."),
        ("mixed-scripts", "All 回線 はいま занято, מאוד جدا ﷺ 😀 e\u0301\u202e."),
    ):
        sound(name, hum)
        (folder / f"{name}.txt").write_text(caption, "utf-8")
    sound("no-partner", hum)
    (folder / "no-partner.txt").unlink()
    sound("only-text", hum)
    (folder / "only-text.wav").unlink()
    (folder / "only-text.wav").symlink_to(folder / "gone.wav")
    return folder


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[GateResult, Path]:
    home = tmp_path_factory.mktemp("media")
    policy = Policy.model_validate({
        **load_policy().model_dump(),
        "encoders": {"audio": ("logmel_stats",), "text": ("char_ngrams",)},
        "scorers": {"audio": ("vad",)},
        "ties": {"audio_text": None},
        "min_samples": 12,
    })  # fmt: skip
    real = good(home / "real", 1.0)  # and one more, without speech
    soundfile.write(real / "hum.wav", 0.1 * np.random.default_rng(1).standard_normal(RATE), RATE)
    (real / "hum.txt").write_text("Weasels.", "utf-8")
    run = run_gate(real, bad(home / "bad"), policy=policy, cache=None, progress=False)
    write_outputs(run.result, home / "out", thumbnails=run.thumbnails, clips=run.clips)
    return run.result, home / "out"


def test_the_run_ends_and_fails(result: tuple[GateResult, Path]) -> None:
    assert result[0].verdict is Status.FAIL
    assert result[0].findings


@pytest.mark.parametrize(("name", "kind"), PROBLEMS.items())
def test_each_problem_is_counted_and_named(
    result: tuple[GateResult, Path], name: str, kind: str
) -> None:
    synthetic = result[0].synthetic
    assert synthetic.problems[kind] >= 1
    said = [p for p in synthetic.problem_examples if Path(p.sample).stem == name]
    assert kind in {p.kind for p in said}, said
    assert all(p.detail for p in said)


@pytest.mark.parametrize(("name", "note"), NOTES.items())
def test_what_is_odd_but_readable_is_used_and_counted(
    result: tuple[GateResult, Path], name: str, note: str
) -> None:
    assert result[0].synthetic.notes[note] >= 1, name
    assert not any(Path(p.sample).stem == name for p in result[0].synthetic.problem_examples)


def test_nothing_goes_uncounted(result: tuple[GateResult, Path]) -> None:
    synthetic = result[0].synthetic
    n = len(list(prompts()))
    assert sum(synthetic.problems.values()) == len(synthetic.problem_examples)
    lost = {"no-samples", "not-finite", "cut", "no-sound", "only-text"}
    texts_lost = {"empty-caption", "huge-caption", "no-partner"}
    others = set(PROBLEMS) | set(NOTES) | {"mixed-scripts"}
    assert synthetic.n_found == n + len(others)
    assert synthetic.modalities["audio"] == n + len(others - lost)
    assert synthetic.modalities["text"] >= n + len(others - lost - texts_lost)


def test_too_few_recordings_with_speech_are_said(result: tuple[GateResult, Path]) -> None:
    (found,) = [f for f in result[0].findings if f.metric == "naturalness"]
    assert found.value is None
    assert found.status is Status.INFO
    assert found.message is not None
    assert found.message.id == "naturalness_unmeasured"
    assert found.n_required == 12
    assert found.n_real == len(list(prompts())) == 11
    assert "11 real" in (result[1] / "report.html").read_text("utf-8")


def test_the_report_names_them_and_stays_safe(result: tuple[GateResult, Path]) -> None:
    _, out = result
    page = (out / "report.html").read_text("utf-8")
    for name in PROBLEMS:
        assert name in page, name
    assert "</script><b>now." not in page
    assert "very very very" * 100 not in page
    assert len(page) < 15e6
    assert json.loads((out / "result.json").read_text("utf-8"))["synthetic"]["problems"]
    shutil.rmtree(out)
