"""A recogniser that mishears digital silence is warned of, and one that does not is not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import soundfile

from evalsuite.data.audio import DecodedAudio
from evalsuite.encoders import asr
from evalsuite.encoders.base import EncoderInfo
from evalsuite.encoders.media import Transcriber, Transcript
from evalsuite.gate.findings import GateResult, Status
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.pipeline.run import run_gate

RATE = 16_000
N = 14


def text_of(k: int) -> str:
    words = ("door", "river", "paper", "engine", "window", "garden", "letter", "music")
    return " ".join(words[(k + j * (1 + k // 8)) % 8] for j in range(6))


class NeverMetSilence(Transcriber):
    """As pocketsphinx on espeak-ng: it loses words where a tenth of the samples are zeros.

    In noise it loses them as well. Which sentence it is, it tells by the length.
    """

    def __init__(self) -> None:
        super().__init__(EncoderInfo("picky", "audio", 0, "", "made here", "none", {}, "1"))
        self.noises: list[float] = []

    def _load(self) -> None:
        """Nothing to load."""

    def transcribe(
        self, items: Sequence[DecodedAudio], *, language: str | None = None
    ) -> list[Transcript]:
        return [self._hear(item, language or "en") for item in items]

    def _hear(self, item: DecodedAudio, language: str) -> Transcript:
        words = text_of(len(item.samples) - RATE).split()
        speech = np.sqrt(np.mean(item.samples**2))
        quietest = np.sort(np.abs(item.samples))[: len(item.samples) // 10]
        zeros, noise = not quietest.any(), float(np.median(quietest)) * 12
        self.noises.append(20 * np.log10(max(noise, 1e-9) / speech))
        if zeros or noise > 0.3 * speech:
            words = words[::2]
        return Transcript(" ".join(words), language, -0.1, 0.0)


def speech(folder: Path, gain: float, *, dither: bool) -> Path:
    """Bursts of noise for words, between them zeros or the hiss of a room at -60 dB."""
    folder.mkdir()
    rng = np.random.default_rng(round(1e6 * gain))
    rows = []
    for k in range(N):
        x = 0.1 * rng.standard_normal(RATE + k) * (np.arange(RATE + k) // 1600 % 2)
        x += dither * 1e-3 * rng.standard_normal(len(x))
        soundfile.write(folder / f"{k}.wav", gain * x, RATE, subtype="FLOAT")
        rows.append({"file_name": f"{k}.wav", "transcript": text_of(k)})
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, "utf-8")
    return folder


Gate: TypeAlias = tuple[NeverMetSilence, Callable[[Path], GateResult]]


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Gate:
    model = NeverMetSilence()
    monkeypatch.setattr(asr, "load_transcriber", lambda *_, **__: model)
    real = speech(tmp_path / "real", 1.0, dither=True)
    default = load_policy().model_dump()
    quick = {"encoders": {"audio": ("logmel_stats",), "text": ("minilm_l6",)}, "scorers": {}}
    policy = Policy.model_validate({**default, **quick, "min_samples": 12})

    def run(synthetic: Path) -> GateResult:
        return run_gate(real, synthetic, policy=policy, cache=False, progress=False).result

    return model, run


def test_zeros_between_words(gate: Gate, tmp_path: Path) -> None:
    _, run = gate
    result = run(speech(tmp_path / "zeros", 0.9, dither=False))
    (found,) = [f for f in result.findings if f.metric == "recogniser_artefact"]
    assert found.status is Status.WARN
    assert found.value == pytest.approx(-0.5)
    assert found.message is not None
    assert "−50 dBFS" in found.message.text
    assert any(r.message.id == "recogniser_artefact" for r in result.reasons)
    (wer,) = [f for f in result.findings if f.metric == "wer_gap"]
    assert wer.details["floor_matters"] is True


@pytest.mark.parametrize("gain", [0.9, 0.005])
def test_a_room_between_words(gate: Gate, tmp_path: Path, gain: float) -> None:
    """A quiet recording is no other case: the noise stays 30 dB under it."""
    model, run = gate
    result = run(speech(tmp_path / "room", gain, dither=True))
    assert not [f for f in result.findings if f.metric == "recogniser_artefact"]
    assert max(model.noises) < -20
