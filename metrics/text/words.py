"""Words, sentences and a guess at the language, with no model: for English, Japanese and the like.

Scripts with spaces are split by a pattern. Japanese is split by fugashi (MeCab) with the UniDic
dictionary, when they are installed; :func:`tokeniser` says which rule was used.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_SCRIPTS = {
    "LATIN": "latin",
    "HIRAGANA": "kana",
    "KATAKANA": "kana",
    "KATAKANA-HIRAGANA": "kana",
    "CJK": "han",
    "IDEOGRAPHIC": "han",
    "HANGUL": "hangul",
}
_EAST_ASIAN = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_EAST_ASIAN += "\uff66-\uff9f\U00020000-\U0003134f"  # half-width katakana; rarer ideographs
_KANA = re.compile("[\u3040-\u30ff\uff66-\uff9f]")
# Runs of one kind of character: where a Japanese word most often ends, without a dictionary.
_RUNS = re.compile(
    "[\u30a0-\u30ff\u31f0-\u31ff\uff66-\uff9f]+|[\u3040-\u309f]+|[^\u3040-\u30ff\uff66-\uff9f]+"
)
_SENTENCE = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)|[。！？｡]+[」』”）]*|\n\s*\n")
_FUNCTION_WORDS = {
    "en": "the of and to in is a that it for was on are with as be at by this have from or an not "
    "you your please but they his her she he we i will can has been their there were which",
    "de": "der die das und ist nicht ein eine zu den mit von auf für im dem des sich wir ich sie "
    "auch als es wird werden war haben bei aus nach einen einer",
    "fr": "le la les et est un une des du que qui dans pour pas sur avec ce il elle nous vous je "
    "au aux par sont plus ne se cette ont été",
    "es": "el la los las y es un una de que en por con para no se su del al lo como más pero sus "
    "fue son este esta ha",
    "it": "il lo la gli le e è un una di che in per con non si del della dei sono al come più ma "
    "questo questa nel alla anche ha",
    "pt": "o a os as e é um uma de que em por com para não se do da dos das no na ao como mais mas "
    "foi são este esta",
    "nl": "de het een en is van in op te dat niet met voor zijn er aan ook als wordt bij naar door "
    "maar om uit dit deze wij ik",
}
_CODES: dict[str, list[str]] = {}
for _code, _words in _FUNCTION_WORDS.items():
    for _word in set(_words.split()):
        _CODES.setdefault(_word, []).append(_code)

_local = threading.local()  # a MeCab tagger belongs to one thread


def words(text: str) -> list[str]:
    """Split a text into words, without punctuation; case is kept.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str

    Notes
    -----
    Letters with their marks, apostrophes and hyphens inside a word (``isn't``, ``twenty-one``) and
    numbers with their points are words. Where a text has kana, its Japanese is split by fugashi
    with unidic-lite, or, without them, into runs of kanji, hiragana and katakana. Where it has
    none, each ideograph is a word: Chinese, or Japanese in kanji only. Thai, Lao, Khmer and Burmese
    are not split: what stands between two spaces is one word.
    """
    found: list[str] = []
    japanese = _KANA.search(text) is not None
    for match in _pattern().finditer(text):
        if match.lastgroup == "east":
            found += _japanese(match.group()) if japanese else list(match.group())
        else:
            found.append(match.group())
    return found


@cache
def tokeniser() -> str:
    """Name the rules that :func:`words` follows here, for the record."""
    if _tagger() is None:
        return "pattern 1; Japanese: runs of one script (fugashi and unidic-lite are not installed)"
    return (
        f"pattern 1; Japanese: fugashi {version('fugashi')}, unidic-lite {version('unidic-lite')}"
    )


def sentences(text: str) -> int:
    """Count sentences: what ends in ``. ! ? 。`` or an empty line; at least 1 if there is a word.

    Abbreviations (``Dr. Smith``) count as ends.
    """
    return sum(1 for part in _SENTENCE.split(text) if any(map(str.isalnum, part)))


def script_shares(text: str) -> dict[str, float]:
    """Give the share of the letters that are Latin, kana, han, hangul or of another script.

    Returns
    -------
    dict of str to float
        ``latin kana han hangul other``; they sum to 1, or are NaN if the text has no letter.
    """
    counts = dict.fromkeys(("latin", "kana", "han", "hangul", "other"), 0)
    for character, n in Counter(text).items():
        if (script := _script(character)) is not None:
            counts[script] += n
    total = sum(counts.values())
    return {name: n / total if total else float("nan") for name, n in counts.items()}


def guess_language(text: str) -> str:
    """Guess the language of a text from its scripts and function words.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        ``ja zh ko en de fr es it pt nl``; ``latin`` for another language in Latin script,
        ``other`` for another script, and ``none`` for a text without letters.

    Notes
    -----
    Kana make a text Japanese, ideographs without kana Chinese: Japanese in kanji only is taken for
    Chinese. Latin script goes to the language whose function words are the most; where there are
    none, to English if all letters are ASCII. A guess for a text of one or two words is often
    wrong: use it over a set, or state the language in the data.
    """
    return language_of(text, script_shares(text), None)


def language_of(text: str, share: dict[str, float], tokens: Sequence[str] | None) -> str:
    """Give :func:`guess_language` of a text whose scripts, and perhaps words, are known already."""
    if not share["latin"] >= 0:
        return "none"
    asian = share["kana"] + share["han"] + share["hangul"]
    if share["other"] > 0.5:
        return "other"
    if asian > 0.3:
        if share["hangul"] > asian / 2:
            return "ko"
        return "ja" if share["kana"] > 0.05 * asian else "zh"
    hits = dict.fromkeys(_FUNCTION_WORDS, 0)
    for word in words(text) if tokens is None else tokens:
        for code in _CODES.get(word.lower(), ()):
            hits[code] += 1
    best = max(hits.values())
    if best == 0:
        return "en" if all(c.isascii() for c in text if c.isalpha()) else "latin"
    return next(code for code, n in hits.items() if n == best)


@lru_cache(maxsize=65_536)
def _script(character: str) -> str | None:
    if not character.isalpha():
        return None
    name = unicodedata.name(character, "")
    name = name.removeprefix("HALFWIDTH ").removeprefix("FULLWIDTH ")
    return _SCRIPTS.get(name.partition(" ")[0], "other")


@cache
def _pattern() -> re.Pattern[str]:
    """Build the pattern of a word; re's letters lack combining marks, which Hindi needs."""
    marks: list[list[int]] = []
    for code in range(0x300, 0xFFFF):
        if unicodedata.category(chr(code))[0] == "M" and not 0x3040 <= code <= 0x30FF:
            if marks and marks[-1][1] == code - 1:
                marks[-1][1] = code
            else:
                marks.append([code, code])
    ranges = "".join(f"{chr(a)}-{chr(b)}" for a, b in marks)
    letter = f"(?:[^\\W\\d_{_EAST_ASIAN}]|[{ranges}])"
    return re.compile(
        f"(?P<east>[{_EAST_ASIAN}]+)"
        f"|(?P<word>{letter}+(?:['’‐-]{letter}+)*)"
        r"|(?P<number>\d+(?:[.,]\d+)*)"
    )


def _japanese(run: str) -> list[str]:
    tagger = _tagger()
    if tagger is None:
        return _RUNS.findall(run)
    return [word.surface for word in tagger(run)]


def _tagger() -> Any:
    """Give this thread's MeCab tagger, or None where it is not installed."""
    if not hasattr(_local, "tagger"):
        try:
            version("unidic-lite")
            from fugashi import Tagger
        except (ImportError, PackageNotFoundError):
            _local.tagger = None
        else:
            _local.tagger = Tagger()
    return _local.tagger
