from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from evalsuite.metrics.text import diversity
from evalsuite.metrics.text.diversity import (
    NAMES,
    distinct_n,
    diversity_gap,
    self_bleu,
    text_diversity,
)

VOCABULARY = [f"{a}{b}" for a in "bcdfghjklm" for b in ("at", "en", "ix", "or", "um", "ay")]


def draw(rng: np.random.Generator, n: int, words: int = 60, length: int = 9) -> list[str]:
    """Texts of words with Zipf's frequencies, ``words`` of them in use."""
    p = 1 / np.arange(1, words + 1)
    return [" ".join(rng.choice(VOCABULARY[:words], length, p=p / p.sum())) for _ in range(n)]


def test_distinct_n_is_the_closed_form() -> None:
    texts = [["a", "b", "a", "b"], ["a", "b"]]
    assert distinct_n(texts, 1) == 2 / 6
    assert distinct_n(texts, 2) == 2 / 4
    assert distinct_n(texts, 3) == 1
    with pytest.raises(ValueError, match="no text has 5 words"):
        distinct_n(texts, 5)


def test_self_bleu_is_the_mean_of_torchmetrics() -> None:
    from torchmetrics.functional.text import bleu_score

    rng = np.random.default_rng(1)
    # Every text shares a 4-gram with another: without one, torchmetrics gives 0 smoothing or not.
    texts = []
    for _ in range(12):
        head, tails = draw(rng, 1, length=6)[0], draw(rng, 2, length=int(rng.integers(1, 7)))
        texts += [f"{head} {tail}" for tail in tails]
    each = [
        float(bleu_score([text], [[o for j, o in enumerate(texts) if j != i]], smooth=True))
        for i, text in enumerate(texts)
    ]
    assert self_bleu([t.split() for t in texts]) == pytest.approx(np.mean(each), abs=1e-6)


def test_self_bleu_has_its_ends() -> None:
    assert self_bleu([["a", "b", "c", "d", "e"]] * 4) == 1
    assert self_bleu([["a", "b"], ["c", "d"], ["e"]]) == 0
    with pytest.raises(ValueError, match="at least 2 texts"):
        self_bleu([["a"]])


def test_equal_sets_are_equally_varied() -> None:
    """Of 5 ratios in 25 runs of equal sets, few intervals may miss 1."""
    rng = np.random.default_rng(2)
    missed = dict.fromkeys(NAMES, 0)
    for seed in range(25):
        gap = diversity_gap(draw(rng, 60), draw(rng, 120), seed=seed)
        assert gap.real.tokens == gap.synthetic.tokens == 60 * 9 // 2
        for name, ratio in gap.ratios.items():
            missed[name] += 1 not in ratio.interval
    # The 99.9 % limit of 25 trials at 0.05 is 6.
    assert max(missed.values()) <= 6, missed


def test_a_poorer_vocabulary_is_seen() -> None:
    rng = np.random.default_rng(3)
    gap = diversity_gap(draw(rng, 80), draw(rng, 400, words=20))
    for name in NAMES[:-1]:
        assert gap.ratios[name].interval.high < 1
    assert gap.ratios["self_bleu"].interval.low > 1
    assert gap.real.vocabulary.value > 2 * gap.synthetic.vocabulary.value


def test_one_repeated_text_is_no_diversity() -> None:
    result = text_diversity(["the same five words here"] * 50)
    assert result.vocabulary.value == 5
    assert result.self_bleu.value == pytest.approx(1)
    assert result.vocabulary.interval.low == result.vocabulary.interval.high == 5


def test_japanese() -> None:
    texts = [f"{place}で{thing}を見ました。" for place in "山川海町駅" for thing in "犬猫鳥虫花"]
    result = text_diversity(texts)
    assert 5 < result.vocabulary.value <= 16
    assert "unidic-lite" in result.tokeniser


def test_groups_widen_the_interval() -> None:
    rng = np.random.default_rng(4)
    texts = [text for t in draw(rng, 30) for text in [t] * 4]
    groups = np.repeat(np.arange(30), 4)
    widths = []
    for labels in (None, groups):
        interval = text_diversity(texts, groups=labels).vocabulary.interval
        widths.append(interval.high - interval.low)
    assert widths[1] > widths[0]


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="has 9 texts"):
        text_diversity(["a b c d"] * 9)
    with pytest.raises(ValueError, match="has 1 texts"):
        text_diversity(["a b c d"] + [""] * 20)
    with pytest.raises(ValueError, match=r"tokens must lie in 4\.\.20"):
        text_diversity(["a b c d"] * 10, tokens=21)
    with pytest.raises(TypeError, match=r"texts\[0\] must be a string"):
        text_diversity([1] * 10)  # type: ignore[list-item]


def test_a_draw_has_the_words_asked_for_and_is_counted_by_the_definition() -> None:
    rng = np.random.default_rng(3)
    # Each text begins with a name, so that a draw can be read back; some have no word at all.
    tags = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}q" for i in range(80)]
    texts = [" ".join([tag, *draw(rng, 1, 20, 1 + i % 7)]) for i, tag in enumerate(tags)]
    texts[::9] = ["..."] * len(texts[::9])
    groups = [f"g{i % 17}" for i in range(80)]
    bag = diversity._Bag(texts, groups, "texts")
    names = {n: word for word, n in bag_words(texts, groups).items()}
    for size in (5, 50, bag.half):
        picked, lengths = bag._draw(size, np.random.default_rng(size))
        begin = np.cumsum(bag._lengths) - bag._lengths
        tokens = [
            [names[k] for k in bag._ids[b : b + n]]
            for b, n in zip(begin[picked], lengths, strict=True)
        ]
        assert sum(map(len, tokens)) == size
        sources = [texts[tags.index(t[0])].split() for t in tokens]
        assert all(s[: len(t)] == t for s, t in zip(sources, tokens, strict=True))
        assert all(len(s) == len(t) for s, t in zip(sources[:-1], tokens[:-1], strict=True))
        members = [groups[tags.index(t[0])] for t in tokens]
        assert len({a for a, b in pairwise(members) if a != b}) == len(set(members)) - 1
        for n, (different, every) in enumerate(bag._distinct(picked, lengths), 1):
            assert different / every == distinct_n(tokens, n)
        if len(tokens) > 1:
            assert bag._bleu(picked, lengths) == pytest.approx(self_bleu(tokens), abs=1e-14)


def bag_words(texts: list[str], groups: list[str]) -> dict[str, int]:
    """Number words in the order in which a bag meets them: by group, then by text."""
    codes = {g: k for k, g in enumerate(sorted(set(groups)))}
    numbers: dict[str, int] = {}
    for i in sorted(range(len(texts)), key=lambda i: codes[groups[i]]):
        for word in texts[i].split() if texts[i] != "..." else ():
            numbers.setdefault(word, len(numbers))
    return numbers
