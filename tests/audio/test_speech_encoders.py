"""The encoders of recordings: equal to their originals, apart by what they are for."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders.speech import Ge2e, load_audio_encoder, whisper_mel
from evalsuite.errors import ModelError

PROMPTS = sorted((Path(__file__).parents[1] / "data" / "speech").glob("*.wav"))
RATE = 16_000
SPECS = ["ge2e", "whisper_base_encoder", "logmel_stats"]


def recording(samples: np.ndarray) -> DecodedAudio:
    samples = samples.astype(np.float32)
    return DecodedAudio(samples, RATE, RATE, 1, len(samples) / RATE, "WAV", "FLOAT", (), samples)


@pytest.fixture(scope="module")
def prompts() -> list[DecodedAudio]:
    return [decode_audio(path.read_bytes(), Limits()) for path in PROMPTS]


@pytest.fixture(scope="module")
def other_voice(prompts: list[DecodedAudio]) -> list[DecodedAudio]:
    """The same prompts by a man of sorts: resampled, a fifth lower and slower."""
    import soxr

    return [recording(soxr.resample(p.samples, 2, 3)) for p in prompts]


def test_ge2e_equals_resemblyzer_s(
    prompts: list[DecodedAudio], monkeypatch: pytest.MonkeyPatch
) -> None:
    # webrtcvad, which it imports, asks pkg_resources for its own version; setuptools dropped it.
    versions = types.ModuleType("pkg_resources")
    versions.get_distribution = importlib.metadata.distribution  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pkg_resources", versions)
    resemblyzer = pytest.importorskip("resemblyzer")
    theirs = resemblyzer.VoiceEncoder("cpu", verbose=False)
    ours = load_audio_encoder("ge2e")
    assert isinstance(ours, Ge2e)
    long = np.concatenate([p.samples for p in prompts[:4]])
    for x in (prompts[0].samples, long, long[: RATE // 2], long[: 4 * RATE + 77]):
        expected = theirs.embed_utterance(x)
        assert ours.embed_waveform(x) @ expected >= 0.99999
    # It cuts pauses by another detector, and leaves loud recordings loud: near, not equal.
    for item in prompts[:3]:
        expected = theirs.embed_utterance(resemblyzer.preprocess_wav(item.samples.copy()))
        assert ours.embed([item])[0] @ expected > 0.95


def test_ge2e_knows_the_voice(prompts: list[DecodedAudio], other_voice: list[DecodedAudio]) -> None:
    encoder = load_audio_encoder("ge2e")
    hers, his = encoder.embed(prompts), encoder.embed(other_voice)
    np.testing.assert_allclose(np.linalg.norm(hers, axis=1), 1, atol=1e-5)
    same = (hers @ hers.T)[np.triu_indices(len(hers), 1)]
    assert np.mean(same) > np.mean(hers @ his.T) + 0.2
    # A quiet or padded copy is the same voice.
    padded = np.concatenate((np.zeros(RATE), prompts[0].samples * 0.01, np.zeros(2 * RATE)))
    assert encoder.embed([recording(padded)])[0] @ hers[0] > 0.97


def test_whisper_mel_equals_faster_whisper_s(prompts: list[DecodedAudio]) -> None:
    extractor = pytest.importorskip("faster_whisper.feature_extractor").FeatureExtractor()
    x = np.pad(prompts[0].samples, (0, 10 * RATE - len(prompts[0].samples)))
    theirs = extractor(x, padding=0)
    np.testing.assert_allclose(whisper_mel(x), theirs[:, :1000], atol=2e-3)


def test_whisper_encoder_sees_what_is_said(prompts: list[DecodedAudio]) -> None:
    encoder = load_audio_encoder("whisper_base_encoder")
    rng = np.random.default_rng(0)
    near = [recording(p.samples * 0.5 + rng.normal(0, 1e-4, len(p.samples))) for p in prompts[:4]]
    a, b = encoder.embed(prompts[:4]), encoder.embed(near)
    a, b = a - a.mean(axis=0), b - a.mean(axis=0)
    distance = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert (distance.argmin(axis=1) == np.arange(4)).all()
    # Padding is left out: more silence within the window moves a row less than another text does.
    padded = recording(np.pad(prompts[0].samples, (0, 160)))
    assert np.linalg.norm(encoder.embed([padded])[0] - encoder.embed(prompts[:1])[0]) < 0.5 * (
        distance[0, 1:].min()
    )


def test_whisper_encoder_takes_windows_in_turn(prompts: list[DecodedAudio]) -> None:
    x = np.concatenate([p.samples for p in prompts])[: 20 * RATE]
    encoder = load_audio_encoder("whisper_base_encoder")
    whole, first, second = encoder.embed([recording(v) for v in (x, x[:160000], x[160000:])])
    np.testing.assert_allclose(whole[:512], (first[:512] + second[:512]) / 2, atol=1e-3)


def test_logmel_of_white_noise() -> None:
    # Unit-area filters on white noise of variance v: power v · Σw² · 1/(rate/n_fft) in every band.
    x = np.random.default_rng(0).normal(0, 0.1, 60 * RATE)
    row = load_audio_encoder("logmel_stats").embed([recording(x)])[0]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    expected = np.log(0.01 * (window**2).sum() / 40)
    assert row[30:60].mean() == pytest.approx(expected, abs=0.5)
    assert row[60] == pytest.approx(expected, abs=0.3)
    silence = load_audio_encoder("logmel_stats").embed([recording(np.zeros(RATE))])[0]
    np.testing.assert_allclose(silence[:64], np.log(1e-9), rtol=1e-5)
    np.testing.assert_allclose(silence[64:], 0, atol=1e-4)


@pytest.mark.parametrize("spec", SPECS)
def test_rows_stand_alone_and_anything_has_one(spec: str, prompts: list[DecodedAudio]) -> None:
    encoder = load_audio_encoder(spec)
    assert not encoder.loaded
    assert encoder.info.id == spec
    assert len(encoder.info.weights_sha256) == 64
    odd = [recording(np.zeros(RATE)), recording(np.zeros(1)), recording(np.full(500, 0.5))]
    items = [*prompts[:3], *odd]
    together = encoder.embed(items)
    assert together.dtype == np.float32
    assert together.shape == (6, encoder.info.dim)
    alone = np.concatenate([encoder.embed([i]) for i in items[::-1]])[::-1]
    np.testing.assert_array_equal(together, alone)


def test_refusals() -> None:
    with pytest.raises(ModelError, match="'logmel_stats'"):
        load_audio_encoder("clap")


def test_the_cheap_encoder_loads_no_torch() -> None:
    code = (
        "import sys; from evalsuite.encoders.speech import load_audio_encoder as f;"
        "f('logmel_stats').load(); sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], check=False, env=environment)
    assert done.returncode == 0
