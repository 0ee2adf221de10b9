from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

from evalsuite.metrics.image import attributes as image
from evalsuite.metrics.text import words as module
from evalsuite.metrics.text.attributes import ATTRIBUTES, LIMIT, WINDOW, text_attributes
from evalsuite.metrics.text.words import (
    guess_language,
    script_shares,
    sentences,
    tokeniser,
    words,
)

LANGUAGES = {
    "en": ["Please enter the number you wish to call.", "Hello world.", "Goodbye"],
    "ja": ["今日は良い天気ですね。", "ｶﾀｶﾅのデータ", "東京タワーへ行きました！"],
    "zh": ["今天天气很好，我们去公园吧。"],
    "ko": ["오늘 날씨가 좋습니다."],
    "de": ["Das Wetter ist heute nicht gut."],
    "fr": ["Il fait beau et nous allons dans le parc."],
    "es": ["El tiempo es bueno y no hace frío en la casa."],
    "it": ["Il tempo è bello e non fa freddo nella casa."],
    "pt": ["O tempo não está mau e nós vamos ao parque com os filhos."],
    "nl": ["Het weer is vandaag niet goed en wij blijven thuis."],
    "latin": ["Dziś słońce świeci"],
    "other": ["Сегодня хорошая погода", "नमस्ते दुनिया"],
    "none": ["", "123 !?", " \n"],
}


@pytest.mark.parametrize("code", LANGUAGES)
def test_languages_are_told_apart(code: str) -> None:
    assert [guess_language(text) for text in LANGUAGES[code]] == [code] * len(LANGUAGES[code])


def test_words() -> None:
    assert words("It isn't the twenty-one, 3.5% of O’Brien's!") == [
        "It", "isn't", "the", "twenty-one", "3.5", "of", "O’Brien's",
    ]  # fmt: skip
    assert words("नमस्ते दुनिया") == ["नमस्ते", "दुनिया"]
    assert words("今天天气") == ["今", "天", "天", "气"]
    assert words("昨日London橋で3回転んだ。")[:2] == ["昨日", "London"]
    assert words("") == words("...\x00\n") == []
    # Decomposed letters are the same words.
    assert len(words("cafe\u0301 nai\u0308ve")) == 2


def test_japanese_words_are_those_of_the_dictionary() -> None:
    assert words("今日は東京タワーへ行きました。") == [
        "今日", "は", "東京", "タワー", "へ", "行き", "まし", "た",
    ]  # fmt: skip
    assert "unidic-lite" in tokeniser()


def test_without_the_dictionary_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fugashi", None)
    monkeypatch.setattr(module, "_local", threading.local())
    module.tokeniser.cache_clear()
    try:
        assert words("東京タワーへ行きました。") == ["東京", "タワー", "へ", "行", "きました"]
        assert "not installed" in tokeniser()
    finally:
        module.tokeniser.cache_clear()


def test_words_from_many_threads() -> None:
    found: list[list[str]] = []

    def work() -> None:
        found.extend(words("今日は東京タワーへ行きました。") for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(f == found[0] for f in found)
    assert len(found) == 800


def test_sentences() -> None:
    assert sentences("One. Two! Three? four") == 4
    assert sentences('He said "go." Then left.') == 2
    assert sentences("今日は。明日も！") == 2
    assert sentences("3.5 is a number") == 1
    assert sentences("...") == sentences("") == 0


def test_scripts_sum_to_one() -> None:
    shares = script_shares("ABCＤ日本ｶなе한")
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == {"latin": 0.4, "kana": 0.2, "han": 0.2, "hangul": 0.1, "other": 0.1}


def test_names_are_no_other_modalitys() -> None:
    assert not set(ATTRIBUTES) & set(image.ATTRIBUTES)
    assert list(text_attributes("a")) == list(ATTRIBUTES)
    assert all(a.unit is not None and a.description.endswith(".") for a in ATTRIBUTES.values())


def test_closed_forms() -> None:
    values = text_attributes("The cat sat on the mat. The cat sat on THE mat!")
    assert values["words"] == 12
    assert values["sentences"] == 2
    assert values["sentence_length"] == 6
    assert values["word_length"] == 34 / 12
    # the: 4 times; cat, sat, on, mat: twice each.
    assert values["word_variety"] == pytest.approx(1 - (4 * 3 + 4 * 2) / (12 * 11))
    # Of 10 sequences, the 4 of the second sentence are repeated.
    assert values["repetition"] == pytest.approx(0.4)
    assert values["reading_ease"] == pytest.approx(206.835 - 1.015 * 6 - 84.6)
    assert values["upper_case"] == 5 / 34
    assert values["punctuation"] == 2 / 36
    assert np.isnan(values["type_token_ratio"])


def test_type_token_ratio_is_the_mean_over_windows() -> None:
    rng = np.random.default_rng(1)
    tokens = [f"w{'abcdefghij'[i]}{'xyz'[j]}" for i, j in rng.integers((10, 3), size=(60, 2))]
    windows = [len(set(tokens[i : i + WINDOW])) / WINDOW for i in range(60 - WINDOW + 1)]
    value = text_attributes(" ".join(tokens))["type_token_ratio"]
    assert value == pytest.approx(np.mean(windows))


def test_word_variety_does_not_depend_on_the_length() -> None:
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(30, 0.5))
    vocabulary = np.array([f"w{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(30)])
    for n in (10, 200):
        drawn = [text_attributes(" ".join(rng.choice(vocabulary, n, p=p))) for _ in range(400)]
        assert np.mean([d["word_variety"] for d in drawn]) == pytest.approx(1 - p @ p, abs=0.01)


def test_what_does_not_apply_is_nan() -> None:
    japanese = text_attributes("今日は良い天気ですね。")
    assert np.isnan(japanese["reading_ease"])
    assert np.isnan(japanese["upper_case"])
    assert japanese["kana"] + japanese["han"] == 1
    empty = text_attributes("")
    assert empty["characters"] == empty["words"] == 0
    assert np.isnan(empty["word_length"])
    assert np.isnan(empty["punctuation"])


def test_hard_text_reads_harder() -> None:
    easy = text_attributes("The dog ran. The sun is hot. We sat in the shade and had a nap.")
    hard = text_attributes(
        "Notwithstanding considerable interdisciplinary collaboration, the epistemological "
        "implications of computational methodologies remain insufficiently characterised."
    )
    assert easy["reading_ease"] > 90
    assert hard["reading_ease"] < 0


def test_odd_characters() -> None:
    assert text_attributes("a\x00b\ud800")["odd_characters"] == 0.5
    assert text_attributes("a\tb\r\n")["odd_characters"] == 0
    assert text_attributes("caf\ufffd")["odd_characters"] == 0.25


def test_a_huge_text_costs_no_more() -> None:
    values = text_attributes("word " * 2_000_000)
    assert values["characters"] == 10_000_000
    assert values["words"] == LIMIT / 5
    with pytest.raises(TypeError, match="must be a string"):
        text_attributes(b"bytes")  # type: ignore[arg-type]
