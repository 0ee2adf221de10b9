from __future__ import annotations

import jiwer
import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.text.wer import (
    floor_artefact,
    normaliser,
    wer_gap,
    word_errors,
)

SAID = [
    "Please enter the number you wish to call.",
    "Weasels have eaten our phone system.",
    "Press one to send this message, or two to add another recipient.",
    "Dr. Smith's favourite colour isn't grey.",
    "You owe twenty-one dollars.",
]
HEARD = [
    "please enter a number you wish to call",
    "Weasels have even our phone system",
    "Press 1 to send this message or 2 to add another recipient",
    "Doctor Smith's favorite color is not gray!",
    "you owe uh twenty one",
]
JAPANESE = ["今日は、良い天気ですね。", "ﾃﾞｰﾀを確認してください"]
MISHEARD = ["今日は良い天気ですか", "データを確認して下さい"]


def words(rng: np.random.Generator, n: int, vocabulary: int = 6) -> str:
    return " ".join(f"w{i}" for i in rng.integers(vocabulary, size=n))


def noisy(rng: np.random.Generator, text: str, rate: float) -> str:
    """Substitute each word with probability ``rate``: its word errors are known exactly."""
    return " ".join("wrong" if rng.random() < rate else w for w in text.split())


def test_rates_are_those_of_the_peers() -> None:
    from torchmetrics.functional import text as peer

    rng = np.random.default_rng(0)
    said = [words(rng, n) for n in rng.integers(1, 12, 60)]
    heard = [words(rng, n) for n in rng.integers(0, 12, 60)]
    ours = word_errors(said, heard, normaliser="none")
    theirs = jiwer.process_words(said, heard)
    assert (ours.wer, ours.mer, ours.wil) == (theirs.wer, theirs.mer, theirs.wil)
    assert ours.cer == jiwer.cer(said, heard)
    assert float(peer.word_error_rate(heard, said)) == pytest.approx(ours.wer, abs=1e-6)
    assert float(peer.char_error_rate(heard, said)) == pytest.approx(ours.cer, abs=1e-6)
    # torchmetrics takes the longer of two texts for the length of their alignment: its MER and WIL
    # are too high where one text has both a deletion and an insertion, and equal where none has.
    assert float(peer.match_error_rate(heard, said)) > ours.mer
    heard = [noisy(rng, text, 0.3) for text in said]
    ours = word_errors(said, heard, normaliser="none")
    assert float(peer.match_error_rate(heard, said)) == pytest.approx(ours.mer, abs=1e-6)
    assert float(peer.word_information_lost(heard, said)) == pytest.approx(ours.wil, abs=1e-6)
    assert ours.hits + ours.substitutions + ours.deletions == ours.units
    assert float(ours) == ours.wer
    assert ours.metric == "wer"


def test_closed_form() -> None:
    result = word_errors(["a b c d", "e f"], ["a x d", "e f g h"], normaliser="none")
    assert (result.substitutions, result.deletions, result.insertions, result.hits) == (1, 1, 2, 4)
    assert result.wer == 4 / 6
    assert result.mer == 4 / 8
    assert result.wil == pytest.approx(1 - 4 / 6 * 4 / 7)
    assert [u.rate for u in result.utterances] == [2 / 4, 2 / 2]
    assert result.utterances[1].alignment == (
        ("equal", "e", "e"),
        ("equal", "f", "f"),
        ("insert", "", "g"),
        ("insert", "", "h"),
    )


def test_rates_do_not_count_how_english_is_written() -> None:
    result = word_errors(SAID, HEARD)
    assert [u.units for u in result.utterances] == [8, 6, 12, 8, 3]
    # "the" as "a", "eaten" as "even", and "$21" as "21".
    assert result.substitutions == 3
    assert (result.deletions, result.insertions) == (0, 0)
    assert "whisper_english (whisper-normalizer " in result.normaliser
    bare = word_errors(SAID, HEARD, normaliser="none")
    assert bare.wer > 3 * result.wer


def test_japanese_counts_characters() -> None:
    result = word_errors(JAPANESE, MISHEARD, language="ja-JP")
    assert result.metric == "cer"
    assert result.value == result.cer == result.wer
    # ね as か; くだ as 下. Width and punctuation do not count; voicing does.
    assert (result.substitutions, result.deletions, result.insertions) == (2, 1, 0)
    assert result.units == 10 + 12
    assert word_errors(["がぱ"], ["かは"], language="ja").value == 1
    assert word_errors(["你好，世界！"], ["你好世界"], language="zh").value == 0
    assert word_errors(["こんにちは"], ["こ んに ちは"], language="ja").value == 0


def test_marks_of_other_scripts_stay() -> None:
    assert word_errors(["नमस्ते दुनिया!"], ["नमसत दनय"], language="hi").value == 1
    assert word_errors(["L'été, déjà…"], ["l été déjà"], language="fr").value == 0


@pytest.mark.parametrize("name", ["whisper_english", "whisper_basic", "characters", "none"])
def test_normalising_twice_changes_nothing_more(name: str) -> None:
    normal = normaliser("en", name)  # type: ignore[arg-type]
    for text in [*SAID, *HEARD, *JAPANESE, "", " \t\n", "\x00", "[noise]"]:
        once = normal.apply(text)
        assert normal.apply(once) == once


def test_empty_references_are_counted() -> None:
    result = word_errors(["", "Uh, hmm.", "red bus"], ["a b", "", "red bus"])
    assert result.empty_references == 2
    assert result.insertions == 2
    assert result.wer == 2 / 2
    assert np.isnan(result.utterances[0].rate)
    with pytest.raises(ValueError, match="no reference has a word left"):
        word_errors(["", "?!"], ["a", "b"])


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="no utterance"):
        word_errors([], [])
    with pytest.raises(ValueError, match="2 references and 1 hypotheses"):
        word_errors(["a", "b"], ["a"])
    with pytest.raises(TypeError, match="got one string"):
        word_errors("a", "a")
    with pytest.raises(TypeError, match=r"hypotheses\[0\] must be a string"):
        word_errors(["a"], [None])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="normaliser must be"):
        word_errors(["a"], ["a"], normaliser="mine")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="groups must name a group for each of 1"):
        word_errors(["a"], ["a"], groups=[1, 2])


def test_no_error_seen_is_not_no_error() -> None:
    result = word_errors(["a b"] * 20, ["a b"] * 20, normaliser="none")
    assert result.value == 0
    assert result.interval is not None
    assert result.interval.low == 0
    # Clopper and Pearson's upper limit for 0 of 20.
    assert result.interval.high == pytest.approx(stats.beta.ppf(0.975, 1, 20))
    assert word_errors(["a"], ["b"], normaliser="none").interval is None
    assert word_errors(["a"] * 4, ["b"] * 4, normaliser="none").interval is None


def test_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    said = [words(rng, 8) for _ in range(100)]
    speakers = np.repeat(np.arange(10), 10)
    rates = rng.choice([0.02, 0.4], size=10)[speakers]
    heard = [noisy(rng, text, rate) for text, rate in zip(said, rates, strict=True)]
    alone = word_errors(said, heard, normaliser="none")
    grouped = word_errors(said, heard, normaliser="none", groups=speakers)
    assert alone.interval is not None
    assert grouped.interval is not None
    assert alone.value == grouped.value
    assert grouped.groups == 10
    width = [i.high - i.low for i in (alone.interval, grouped.interval)]
    assert width[1] > 1.5 * width[0]
    assert grouped == word_errors(said, heard, normaliser="none", groups=speakers)


def test_the_interval_covers_as_it_says() -> None:
    """200 sets of 30 utterances with skewed error rates; plain percentiles cover 0.88 here."""
    rng = np.random.default_rng(2)
    truth, covered = 0.1, 0
    for _ in range(200):
        said = ["a b c d e f g h"] * 30
        heard = [
            noisy(rng, text, rate) for text, rate in zip(said, rng.beta(0.9, 8.1, 30), strict=True)
        ]
        interval = word_errors(said, heard, normaliser="none").interval
        assert interval is not None
        covered += truth in interval
    # The 99.9 % band of 200 trials at 0.95.
    assert stats.binom.ppf(0.0005, 200, 0.95) <= covered


def test_gap_is_the_difference_and_real_speech_is_its_floor() -> None:
    rng = np.random.default_rng(3)
    said = [words(rng, 10) for _ in range(80)]
    real, synthetic = ([noisy(rng, t, rate) for t in said] for rate in (0.05, 0.25))
    gap = wer_gap(said, real, said, synthetic, normaliser="none")
    assert gap.value == pytest.approx(gap.synthetic.wer - gap.real.wer)
    assert gap.real == word_errors(said, real, normaliser="none")
    assert gap.interval is not None
    assert gap.interval.low > 0
    assert gap.value in gap.interval
    assert gap.p_value == 2 / 2000
    assert gap.paired == 0


def test_sentences_spoken_on_both_sides_sharpen_the_gap() -> None:
    rng = np.random.default_rng(4)
    said = [words(rng, 10) for _ in range(60)]
    hard = rng.choice([0.0, 0.6], size=60)
    real = [noisy(rng, t, r) for t, r in zip(said, hard, strict=True)]
    # The same errors, and one more in every third sentence.
    synthetic = [
        " ".join(["wrong", *t.split()[1:]]) if i % 3 == 0 else t for i, t in enumerate(real)
    ]
    ids = list(range(60))
    apart = wer_gap(said, real, said, synthetic, normaliser="none")
    paired = wer_gap(
        said, real, said, synthetic, normaliser="none", groups_real=ids, groups_synthetic=ids
    )
    assert paired.paired == 60
    assert paired.value == apart.value
    assert apart.interval is not None
    assert paired.interval is not None
    assert (
        paired.interval.high - paired.interval.low < (apart.interval.high - apart.interval.low) / 2
    )
    assert paired.p_value < 0.01 < apart.p_value


@pytest.mark.parametrize("shared", [False, True])
def test_gap_holds_its_level(shared: bool) -> None:
    """Real against real: the test is exact, so 5 % of 200 runs reject; 95 % hold 0."""
    rng = np.random.default_rng(5)
    rejected = missed = 0
    for _ in range(200):
        said = ["a b c d e f g h"] * 25
        rates = rng.beta(0.9, 5, 25)
        others = rates if shared else rng.beta(0.9, 5, 25)
        real, synthetic = (
            [noisy(rng, t, r) for t, r in zip(said, side, strict=True)] for side in (rates, others)
        )
        ids = range(25) if shared else None
        gap = wer_gap(
            said, real, said, synthetic, normaliser="none", groups_real=ids, groups_synthetic=ids
        )
        assert gap.interval is not None
        rejected += gap.p_value <= 0.05
        missed += 0 not in gap.interval
    assert rejected <= stats.binom.ppf(0.9995, 200, 0.05)
    assert missed <= stats.binom.ppf(0.9995, 200, 0.05)


def test_a_recogniser_that_trips_over_silence_is_told() -> None:
    rng = np.random.default_rng(6)
    said = [words(rng, 10) for _ in range(40)]
    plain = [noisy(rng, t, 0.6) for t in said]
    helped = [noisy(rng, t, 0.2) for t in said]
    result = floor_artefact(said, plain, helped, normaliser="none")
    assert result.changed
    assert result.value == result.with_floor.wer - result.plain.wer < -0.3
    same = floor_artefact(said, plain, plain, normaliser="none")
    assert not same.changed
    assert same.value == 0
    assert same.p_value == 1
