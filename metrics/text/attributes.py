"""Readable properties of one text: how long, varied, repetitive, readable and clean it is.

Nothing here understands what a text says. All of it works for English and Japanese; what applies to
one language only is NaN for the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from ..image.attributes import Attribute
from .words import language_of, script_shares, sentences, words

LIMIT = 20_000
"""Characters that are looked at; only the length is that of the whole text."""
WINDOW = 25
"""Words in the window of the type-token ratio."""

_NGRAM = 3
_NAN = float("nan")
_VOWELS = re.compile("[aeiouy]+")

ATTRIBUTES: dict[str, Attribute] = {
    a.name: a
    for a in (
        Attribute("characters", "", "Length in characters.", "shorter or longer texts"),
        Attribute("words", "", "Length in words.", "shorter or longer texts"),
        Attribute("sentences", "", "Number of sentences.", "shorter or longer texts"),
        Attribute(
            "sentence_length",
            "words",
            "Mean words in a sentence.",
            "splitting or joining sentences",
        ),
        Attribute(
            "word_length",
            "characters",
            "Mean characters in a word.",
            "vocabulary of the prompt or template",
        ),
        Attribute(
            "word_variety",
            "",
            "Chance that two words of the text differ (1 − Simpson's index), 0 one word repeated "
            "to 1 no word twice; does not depend on the length.",
            "sampling temperature; vocabulary of the prompt or template",
        ),
        Attribute(
            "type_token_ratio",
            "",
            f"Mean share of different words in {WINDOW} words in a row (moving average), 1/{WINDOW}"
            " to 1; only for texts that long.",
            "sampling temperature; repetition penalty",
        ),
        Attribute(
            "repetition",
            "",
            f"Share of {_NGRAM}-word sequences that occurred before in the text, 0 to below 1.",
            "repetition penalty; deduplicating sentences",
        ),
        Attribute(
            "reading_ease",
            "",
            "Flesch reading ease, about 0 very hard to 121 very easy; English only.",
            "reading level asked for in the prompt",
        ),
        Attribute(
            "upper_case",
            "",
            "Share of capitals among letters that have case, 0 to 1.",
            "casing of the text",
        ),
        Attribute(
            "punctuation",
            "",
            "Share of punctuation marks among characters that are no white space, 0 to 1.",
            "punctuation of the text",
        ),
        Attribute(
            "digits",
            "",
            "Share of digits among characters that are no white space, 0 to 1.",
            "writing numbers as words or as digits",
        ),
        Attribute("latin", "", "Share of Latin letters among all letters, 0 to 1.", "none"),
        Attribute("kana", "", "Share of kana among all letters, 0 to 1.", "none"),
        Attribute("han", "", "Share of ideographs among all letters, 0 to 1.", "none"),
        Attribute("hangul", "", "Share of hangul among all letters, 0 to 1.", "none"),
        Attribute(
            "odd_characters",
            "",
            "Share of characters that no text should hold: controls, halves of characters, "
            "replacement marks, private and unassigned ones, 0 to 1.",
            "cleaning; reading with the right encoding",
        ),
    )
}
"""The attributes in report order, by name."""


def text_attributes(text: str) -> dict[str, float]:
    """Measure the readable properties of one text.

    Parameters
    ----------
    text : str

    Returns
    -------
    dict of str to float
        A value for each key of :data:`ATTRIBUTES`, in its order; NaN where it does not apply: the
        length of words where there are none, capitals in Japanese, reading ease but for English.

    Raises
    ------
    TypeError
        If ``text`` is no string.

    Notes
    -----
    Only the first :data:`LIMIT` characters are looked at, except for the length in characters.
    Words are compared without regard to case; :mod:`~evalsuite.metrics.text.words` says what a word
    and a sentence are. Syllables, for the reading ease, are counted by groups of vowels, without a
    silent final e.

    The attributes see form, not content: a fluent text on the wrong subject has the same values.

    References
    ----------
    R. Flesch, "A new readability yardstick", J. Applied Psychology 32(3), 1948.
    E. H. Simpson, "Measurement of diversity", Nature 163, 1949 (the unbiased form).
    M. A. Covington and J. D. McFall, "Cutting the Gordian knot: the moving-average type-token
    ratio", J. Quantitative Linguistics 17(2), 2010.

    Examples
    --------
    >>> values = text_attributes("The cat sat on the mat.")
    >>> values["words"], round(values["reading_ease"], 3)
    (6.0, 116.145)
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a string, got {type(text).__name__}")
    seen = text[:LIMIT]
    tokens = words(seen)
    folded = [word.casefold() for word in tokens]
    n = len(tokens)
    parts = sentences(seen)
    scripts = script_shares(seen)
    values = {
        "characters": float(len(text)),
        "words": float(n),
        "sentences": float(parts),
        "sentence_length": n / parts if parts else _NAN,
        "word_length": sum(map(len, tokens)) / n if n else _NAN,
        "word_variety": _variety(folded),
        "type_token_ratio": _moving_ratio(folded),
        "repetition": _repetition(folded),
        "reading_ease": _reading_ease(seen, folded, parts, scripts),
        **_shares(seen),
        **{name: scripts[name] for name in ("latin", "kana", "han", "hangul")},
    }
    return {name: values[name] for name in ATTRIBUTES}


def _variety(tokens: Sequence[str]) -> float:
    n = len(tokens)
    if n < 2:
        return _NAN
    same = sum(k * (k - 1) for k in Counter(tokens).values())
    return 1 - same / (n * (n - 1))


def _moving_ratio(tokens: Sequence[str]) -> float:
    if len(tokens) < WINDOW:
        return _NAN
    inside = Counter(tokens[:WINDOW])
    total = len(inside)
    for leaving, entering in zip(tokens, tokens[WINDOW:], strict=False):
        inside[leaving] -= 1
        if not inside[leaving]:
            del inside[leaving]
        inside[entering] += 1
        total += len(inside)
    return total / ((len(tokens) - WINDOW + 1) * WINDOW)


def _repetition(tokens: Sequence[str]) -> float:
    sequences = list(zip(*(tokens[i:] for i in range(_NGRAM)), strict=False))
    return 1 - len(set(sequences)) / len(sequences) if sequences else _NAN


def _reading_ease(text: str, tokens: Sequence[str], parts: int, scripts: dict[str, float]) -> float:
    if not tokens or not parts or language_of(text, scripts, tokens) != "en":
        return _NAN
    syllables = sum(map(_syllables, tokens))
    return 206.835 - 1.015 * len(tokens) / parts - 84.6 * syllables / len(tokens)


def _syllables(word: str) -> int:
    count = len(_VOWELS.findall(word))
    if count > 1 and word.endswith("e") and not word.endswith(("le", "ee")):
        count -= 1
    return max(1, count)


def _shares(text: str) -> dict[str, float]:
    """Shares of kinds of characters; each different character is looked up once."""
    kinds: Counter[str] = Counter()
    odd = 0
    for character, n in Counter(text).items():
        category = unicodedata.category(character)
        kinds[category] += n
        is_space = character.isspace()
        kinds["visible"] += 0 if is_space else n
        # Cf holds soft hyphens and joiners, which texts need; U+FFFD marks what was not decoded.
        if (category in ("Cc", "Cs", "Co", "Cn") and not is_space) or character == "\ufffd":
            odd += n
    cased = kinds["Lu"] + kinds["Lt"] + kinds["Ll"]
    visible = kinds["visible"]
    marks = sum(n for category, n in kinds.items() if category[0] == "P")
    return {
        "upper_case": (kinds["Lu"] + kinds["Lt"]) / cased if cased else _NAN,
        "punctuation": marks / visible if visible else _NAN,
        "digits": kinds["Nd"] / visible if visible else _NAN,
        "odd_characters": odd / len(text) if text else _NAN,
    }
