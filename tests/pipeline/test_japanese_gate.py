"""The gate on Japanese speech, by the command: characters count, and the report is Japanese."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.gate.findings import GateResult
from evalsuite.generators.audio.speech import Speak

SAID = ("ありがとうございます。", "またあしたあいましょう。", "わたしはがくせいです。")
COPIES = 4  # a recogniser that has heard a recording once is not asked again
POLICY = """
version: 1
name: japanese
encoders: {audio: [logmel_stats], text: [minilm_l6]}
scorers: {}
min_samples: 12
rules:
  - {metric: wer_gap, tolerance: 0.05}
calibration: {permutations: 99}
"""


def speech(folder: Path, noise: float) -> Path:
    """Each sentence a few times: what is tested is the way, not the statistics."""
    folder.mkdir()
    voice = Speak(voices=("ja",), words_per_minute=130.0, pitch=50.0)
    rng = np.random.default_rng(0)
    rows = []
    for k, text in enumerate(SAID):
        sound = voice.apply(text, voice.sample_params(rng))
        x = np.asarray(sound.samples, dtype=np.float32).ravel()
        x = x + noise * np.sqrt(np.mean(x**2)) * rng.standard_normal(len(x))
        for copy in range(COPIES):
            name = f"{k}-{copy}.wav"
            soundfile.write(folder / name, np.clip(x, -1, 1), sound.rate)
            rows.append({"file_name": name, "transcript": text})
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, "utf-8")
    return folder


def test_japanese_speech(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("espeakng_loader")
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    real, noisy = speech(tmp_path / "real", 0.0), speech(tmp_path / "noisy", 1.0)
    (tmp_path / "policy.yaml").write_text(POLICY, "utf-8")
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app,
        ["gate", str(real), str(noisy), "--policy", str(tmp_path / "policy.yaml"),
         "--out", str(out), "--lang", "ja", "--workers", "1"],
    )  # fmt: skip
    assert done.exit_code == 1, done.output
    result = GateResult.model_validate_json((out / "result.json").read_text("utf-8"))
    (found,) = [f for f in result.findings if f.metric == "wer_gap"]
    assert found.unit == "errors per character"
    assert found.details["metric"] == "cer"
    assert found.details["language"] == "ja"
    assert found.details["units"] == COPIES * sum(len(text.rstrip("。")) for text in SAID)
    floor = found.details["real"]  # its own errors: kanji that it writes for kana
    assert 0 < floor < 0.8
    assert found.value is not None
    assert found.gap == pytest.approx(found.value - floor)
    assert found.gap > 0.1
    assert found.details["floor_clips"] == len(SAID) * COPIES
    assert not found.details["floor_matters"]
    assert {e.id for e in result.encoders} >= {"logmel_stats", "char_ngrams"}
    (shelf,) = [g for g in result.galleries if g.id == "misheard"]
    wrong = [op for item in shelf.items for op, wanted, _ in item.alignment if len(wanted) <= 1]
    assert "substitute" in wrong or "delete" in wrong  # by characters, not whole sentences
    page = (out / "report.html").read_text("utf-8")
    assert '<html lang="ja"' in page
    assert "文字" in page
    assert SAID[0] in page
