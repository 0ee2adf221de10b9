from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.text.leakage import label_leakage

COMMON = ["film", "was", "long", "and", "saw", "it", "with", "friends", "small", "house", "sea"]
CLUES = {"good": ["great", "lovely"], "bad": ["awful", "dull"]}


def reviews(rng: np.random.Generator, n: int, leak: float = 0.0) -> tuple[list[str], list[str]]:
    """Reviews whose clues say something of the label; a leak writes the label itself."""
    texts, labels = [], []
    for i in range(n):
        label = ("good", "bad")[i % 2]
        parts = list(rng.choice(COMMON, 8))
        other = "bad" if label == "good" else "good"
        parts.append(str(rng.choice(CLUES[label if rng.random() < 0.7 else other])))
        if rng.random() < leak:
            parts.append("Positive!" if label == "good" else "Negative!")
        texts.append(" ".join(rng.permutation(parts)))
        labels.append(label)
    return texts, labels


def test_the_word_that_names_the_label_is_listed() -> None:
    rng = np.random.default_rng(0)
    result = label_leakage(*reviews(rng, 400), *reviews(rng, 400, leak=0.3))
    assert {(leak.word, leak.label) for leak in result.leaked} == {
        ("positive", "good"),
        ("negative", "bad"),
    }
    for leak in result.leaked:
        assert leak.precision == 1
        assert leak.share_real == 0
        assert leak.share_synthetic == pytest.approx(0.3, abs=0.1)
        assert leak.p_adjusted < 0.01
    assert result.share == pytest.approx(0.3, abs=0.07)


def test_the_ratio_is_the_closed_form() -> None:
    real = ["x"] * 30 + ["y"] * 70 + ["x"] * 30 + ["y"] * 70
    synthetic = ["x"] * 80 + ["y"] * 20 + ["x"] * 10 + ["y"] * 90
    labels = ["a"] * 100 + ["b"] * 100
    result = label_leakage(real, labels, synthetic, labels)
    leak = next(k for k in result.leaked if k.word == "x")
    assert leak.label == "a"
    assert leak.real == 0
    odds = math.log(80.5 * 90.5 / (20.5 * 10.5))
    assert leak.synthetic == leak.gap == pytest.approx(odds)
    shares = [(k + 1) / 102 for k in (30, 30, 80, 10)]
    variance = sum(p * (1 - p) / 102 for p in shares)
    raw = stats.norm.sf((shares[2] - shares[3]) / math.sqrt(variance))
    assert result.tested == 4
    assert leak.p_adjusted == pytest.approx(4 * raw)
    assert leak.precision == 80 / 90
    assert result.share == (80 + 90) / 200


def test_what_real_text_says_too_is_no_leak() -> None:
    rng = np.random.default_rng(1)
    assert label_leakage(*reviews(rng, 600), *reviews(rng, 600)).leaked == ()


def test_the_family_holds_its_level() -> None:
    rng = np.random.default_rng(2)
    runs = sum(
        bool(label_leakage(*reviews(rng, 120), *reviews(rng, 120), min_gap=0).leaked)
        for _ in range(60)
    )
    assert runs <= stats.binom.ppf(0.9995, 60, 0.05)


def test_one_prompt_many_times_is_no_evidence() -> None:
    rng = np.random.default_rng(3)
    real = reviews(rng, 200)
    texts, labels = reviews(rng, 100)
    texts += ["a dreadful zebra"] * 60
    labels += ["bad"] * 60
    prompts = [*range(100), *["one"] * 60]
    alone = label_leakage(*real, texts, labels)
    assert "zebra" in {leak.word for leak in alone.leaked}
    once = label_leakage(*real, texts, labels, groups_synthetic=prompts)
    assert "zebra" not in {leak.word for leak in once.leaked}


def test_japanese() -> None:
    good, bad = "この映画はとても楽しかったです。", "この映画は少し退屈でした。"
    real = [good, bad] * 60
    synthetic = [f"{good}肯定的な感想です。", f"{bad}否定的な感想です。"] * 60
    labels = ["良", "悪"] * 60
    found = {
        (leak.word, leak.label) for leak in label_leakage(real, labels, synthetic, labels).leaked
    }
    assert {("肯定", "良"), ("否定", "悪")} <= found
    assert ("映画", "良") not in found


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="real has 1 texts and 2 labels"):
        label_leakage(["a"], [1, 2], ["a"], [1])
    with pytest.raises(ValueError, match=r"only 1 label\(s\) are on both sides"):
        label_leakage(["a", "b"], [1, 2], ["a", "b"], [1, 3])
    with pytest.raises(TypeError, match=r"synthetic\[1\] must be a string"):
        label_leakage(["a", "b"], [1, 2], ["a", None], [1, 2])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="alpha in"):
        label_leakage(["a", "b"], [1, 2], ["a", "b"], [1, 2], alpha=1)
