"""Japanese from text to speech to text: errors are counted by characters, with floor and gap."""

from __future__ import annotations

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio
from evalsuite.encoders.asr import load_transcriber
from evalsuite.generators.audio.speech import Speak
from evalsuite.metrics.text.wer import wer_gap

RATE = 16_000
SAID = [
    "ありがとうございます。",
    "おはようございます。",
    "またあしたあいましょう。",
    "これはなんですか。",
    "わたしはがくせいです。",
]


def test_japanese_is_counted_by_characters() -> None:
    soxr = pytest.importorskip("soxr")
    pytest.importorskip("espeakng_loader")
    voice = Speak(voices=("ja",), words_per_minute=130.0, pitch=50.0)
    rng = np.random.default_rng(0)
    clean, noisy = [], []
    for text in SAID:
        sound = voice.apply(text, voice.sample_params(np.random.default_rng(1)))
        x = soxr.resample(np.asarray(sound.samples, dtype=np.float32).ravel(), sound.rate, RATE)
        noise = rng.normal(0, np.sqrt(np.mean(x**2)), len(x))
        for side, y in ((clean, x), (noisy, (x + noise).astype(np.float32))):
            side.append(DecodedAudio(y, RATE, RATE, 1, len(y) / RATE, "WAV", "FLOAT", (), y))
    model = load_transcriber()
    heard = model.transcribe(clean, language="ja-JP")
    lost = model.transcribe(noisy, language="ja")
    assert {t.language for t in heard} == {"ja"}
    kana = [any("\u3040" <= c <= "\u30ff" for c in t.text) for t in heard]
    assert sum(kana) >= 4
    gap = wer_gap(
        SAID, [t.text for t in heard], SAID, [t.text for t in lost],
        language=heard[0].language, groups_real=range(5), groups_synthetic=range(5),
    )  # fmt: skip
    assert gap.real.metric == gap.synthetic.metric == "cer"
    assert gap.real.units == sum(len(s.rstrip("。")) for s in SAID)  # characters, not five words
    assert 0 < gap.real.value < 0.8  # the floor: kanji that it writes for kana count, too
    assert gap.value > 0.1
    assert gap.value == pytest.approx(gap.synthetic.value - gap.real.value)
