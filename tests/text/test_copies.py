from __future__ import annotations

import itertools
import unicodedata

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.text.copies import SHINGLE, near_copies

WORDS = """red bus stands in the rain two dogs play with a ball near old house by river woman reads
newspaper under green tree child eats ice cream on beach man fixes bicycle at station""".split()  # noqa: SIM905
JAPANESE = [
    "駅前の喫茶店でコーヒーを飲みながら本を読みました。",
    "駅前の喫茶店でコーヒーを飲みながら本を読みました！",
    "駅前の喫茶店でｺｰﾋｰを飲みながら、本を読んでいました。",
    "明日は朝から雨が降るでしょう。傘を忘れないでください。",
]


def sentence(rng: np.random.Generator, n: int = 14) -> str:
    return " ".join(rng.choice(WORDS, n))


def edited(rng: np.random.Generator, text: str, changes: int = 1) -> str:
    parts = text.split()
    for i in rng.choice(len(parts), changes, replace=False):
        parts[i] = "zebra"
    return " ".join(parts)


def jaccard(a: str, b: str) -> float:
    """Written anew, for the comparison."""
    sets = []
    for text in (a, b):
        kept = [c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum()]
        form = "".join(kept)
        sets.append({form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1))})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


@pytest.mark.parametrize("threshold", [0.5, 0.8, 1.0])
def test_hashing_finds_what_comparing_all_pairs_finds(threshold: float) -> None:
    rng = np.random.default_rng(0)
    real = [sentence(rng) for _ in range(60)]
    synthetic = [edited(rng, real[i % 60], 1 + i % 5) for i in range(60)] + real[:5]
    report = near_copies(synthetic, real=real, threshold=threshold)
    best = [max((jaccard(s, r), -j) for j, r in enumerate(real)) for s in synthetic]
    expected = {(i, -j, round(v, 12)) for i, (v, j) in enumerate(best) if v >= threshold}
    assert report.of_real is not None
    found = {(p.synthetic, p.other, round(p.similarity, 12)) for p in report.of_real.pairs}
    assert found == expected
    assert 0 < len(expected) < 65
    assert float(report.of_real) == len(expected) / 65
    assert report.of_real.exact == 5 / 65
    assert report.missed <= 1e-3


def test_copies_inside() -> None:
    rng = np.random.default_rng(1)
    base = [sentence(rng) for _ in range(10)]
    texts = [*base, base[0].upper(), f"{base[0]}!", edited(rng, base[1]), "", "?!"]
    report = near_copies(texts)
    # The three that are written alike, and the edited one with its original.
    assert float(report.inside) == 5 / 15
    assert report.inside.exact == 3 / 15
    assert report.empty == 2
    pairs = {p.synthetic: p.other for p in report.inside.pairs}
    assert pairs == {0: 10, 10: 0, 11: 0, 1: 12, 12: 1}
    assert float(report.inside) in report.inside.interval
    pairs_of_all = itertools.combinations(base, 2)
    assert max(jaccard(a, b) for a, b in pairs_of_all) < 0.7
    assert near_copies(["", "?"]).inside.value == 0


def test_japanese() -> None:
    report = near_copies(JAPANESE, threshold=0.6)
    assert {p.synthetic for p in report.inside.pairs} == {0, 1, 2}
    assert report.inside.exact == 2 / 4


def test_many_equal_texts_are_no_square() -> None:
    report = near_copies(["the same text again"] * 20_000, real=["The same text, again!"] * 20_000)
    assert report.inside.value == 1
    assert report.of_real is not None
    assert report.of_real.exact == 1


def test_memorised_texts_are_told_from_common_ones() -> None:
    rng = np.random.default_rng(2)
    common = [sentence(rng) for _ in range(20)]
    real = common + [sentence(rng) for _ in range(180)]
    holdout = common + [sentence(rng) for _ in range(80)]
    honest = common + [sentence(rng) for _ in range(80)]
    fair = near_copies(honest, real=real, holdout=holdout).memorised
    assert fair is not None
    assert fair.size == 100
    # Of 200 real texts 100 are drawn: a common text is there with probability 1/2.
    assert fair.value == pytest.approx(20 / 100 * (0.5 - 1))
    copied = near_copies(honest[:80] + real[50:70], real=real, holdout=holdout).memorised
    assert copied is not None
    assert copied.value == pytest.approx((20 + 20) / 100 * 0.5 - 20 / 100)
    leaked = near_copies(real[50:90] + honest[20:80], real=real[50:], holdout=holdout).memorised
    assert leaked is not None
    assert leaked.p_value == 1 / 1000
    assert leaked.value > 0.2


def test_the_test_of_memorisation_holds_its_level() -> None:
    """Texts of one source, real and holdout by lot: at 5 %, 5 % of 60 runs reject."""
    rng = np.random.default_rng(3)
    rejected = 0
    for seed in range(60):
        pool = [sentence(rng, 6) for _ in range(30)]
        synthetic = [edited(rng, pool[i]) if rng.random() < 0.2 else pool[i] for i in range(15)]
        rng.shuffle(pool)
        memorised = near_copies(synthetic, real=pool[:20], holdout=pool[20:], seed=seed).memorised
        assert memorised is not None
        rejected += memorised.p_value <= 0.05
    assert rejected <= stats.binom.ppf(0.9995, 60, 0.05)


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="synthetic has no text"):
        near_copies([])
    with pytest.raises(ValueError, match="real has no text"):
        near_copies(["a"], real=[])
    with pytest.raises(ValueError, match="give real too"):
        near_copies(["a"], holdout=["a"])
    with pytest.raises(ValueError, match=r"threshold must lie in 0\.3"):
        near_copies(["a"], threshold=0.1)
    with pytest.raises(TypeError, match="got one string"):
        near_copies("abc")
    with pytest.raises(TypeError, match=r"real\[0\] must be a string"):
        near_copies(["a"], real=[1])  # type: ignore[list-item]
