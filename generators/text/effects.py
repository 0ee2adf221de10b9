"""Small changes to a text that keep most of it: words moved, lost or added, characters mistaken.

Where a script puts no spaces between words (Japanese, Chinese, Thai, …) a character stands for a
word.

References
----------
Wei, J. and Zou, K. (2019). EDA: easy data augmentation techniques for boosting performance on text
classification tasks. EMNLP. arXiv:1901.11196.
Karimi, A., Rossi, L. and Prati, A. (2021). AEDA: an easier data augmentation technique for text
classification. Findings of EMNLP. arXiv:2108.13230.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from ..effect import Effect, Span
from ..protocol import rng_of
from ..registry import suggestion
from ..values import Modality, Params
from .units import in_case_of, is_unspaced, is_word, units


@dataclass(frozen=True)
class _TextEffect(Effect):
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT
    seeded: ClassVar[bool] = True
    limits: ClassVar[dict[str, tuple[float, float]]] = {"share": (0, 1)}

    def apply(self, value: str, params: Params) -> str:
        """Change the text."""
        return self._change(value, params["share"], rng_of(params["seed"]))

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class SwapWords(_TextEffect):
    """Let words change places (EDA's random swap); spaces and marks stay where they are.

    Parameters
    ----------
    share : float or [low, high]
        Swaps per word; at least one where there are two words and the share is above 0.
    """

    name: ClassVar[str] = "swap_words"

    share: Span = 0.1

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        found = units(text)
        at = [i for i, unit in enumerate(found) if is_word(unit)]
        if len(at) < 2:
            return text
        for _ in range(_count(share, len(at))):
            i, j = rng.choice(len(at), 2, replace=False)
            found[at[i]], found[at[j]] = found[at[j]], found[at[i]]
        return "".join(found)


@dataclass(frozen=True)
class DeleteWords(_TextEffect):
    """Lose words (EDA's random deletion), each with the space before it; one word always stays.

    Parameters
    ----------
    share : float or [low, high]
        Chance of each word to go.
    """

    name: ClassVar[str] = "delete_words"

    share: Span = 0.1

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        found = units(text)
        at = [i for i, unit in enumerate(found) if is_word(unit)]
        lost = [i for i, u in zip(at, rng.random(len(at)), strict=True) if u < share]
        if at and len(lost) == len(at):
            lost.remove(lost[int(rng.integers(len(lost)))])
        for i in lost:
            found[i] = ""
            if i and found[i - 1].isspace():
                found[i - 1] = ""
        return "".join(found).strip() if lost else text


@dataclass(frozen=True)
class InsertPunctuation(_TextEffect):
    """Put marks between the words (AEDA).

    Parameters
    ----------
    share : float or [low, high]
        Marks per word, at least one; the paper draws it from 0 to a third.
    """

    name: ClassVar[str] = "insert_punctuation"

    share: Span = (0.0, 1 / 3)

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        found = units(text)
        at = [i for i, unit in enumerate(found) if is_word(unit)]
        if not at:
            return text
        count = min(len(at), max(1, round(share * len(at))))
        for i in sorted(rng.choice(len(at), count, replace=False).tolist(), reverse=True):
            unspaced = is_unspaced(found[at[i]])
            mark = str(rng.choice(list("、。！？：；" if unspaced else ".;?:!,")))
            found.insert(at[i], mark if unspaced else f"{mark} ")
        return "".join(found)


NoiseKind: TypeAlias = Literal["keyboard", "ocr", "homoglyph", "case", "omission"]

_ROWS = ("1234567890", "qwertyuiop", "asdfghjkl", "zxcvbnm")
# Characters that a reader of print takes for one another; a pair is read in both directions.
_OCR = (
    "0O", "0o", "1l", "1I", "lI", "5S", "8B", "2Z", "6b", "9g", "ce", "uv", "nh", "ij", "tf", "rn",
    "口ロ", "力カ", "二ニ", "一ー", "工エ", "夕タ", "卜ト", "八ハ", "千干", "未末", "土士", "日曰",
    "ソン", "シツ", "ぬめ", "ねれ", "るろ", "さき", "はほ", "わね", "大犬", "人入", "己已",
)  # fmt: skip
# What looks the same and is another character: Cyrillic and Greek letters, full-width forms.
_LATIN = "aceopxyisjAEOPCTXMHKB"
_CYRILLIC = "асеорхуіѕјАЕОРСТХМНКВ"
_HOMOGLYPHS = dict(zip(_LATIN, _CYRILLIC, strict=True)) | {
    "v": "ν", "n": "ո", "u": "υ", "一": "⼀", "人": "⼈", "口": "⼝", "力": "⼒", "ー": "─",
    "へ": "ヘ", "り": "リ", "べ": "ベ", "ぺ": "ペ",
}  # fmt: skip
# A kana keyboard's slips: small and large, voiced and unvoiced.
_KANA = ("つっ", "やゃ", "ゆゅ", "よょ", "あぁ", "いぃ", "えぇ", "ツッ", "ヤャ", "ユュ", "ヨョ",
         "かが", "きぎ", "くぐ", "けげ", "こご", "さざ", "しじ", "すず", "せぜ", "そぞ", "ただ",
         "ちぢ", "てで", "とど", "はば", "ひび", "ふぶ", "へべ", "ほぼ", "カガ", "キギ", "クグ",
         "ケゲ", "コゴ", "サザ", "シジ", "スズ", "セゼ", "ソゾ", "タダ", "テデ", "トド", "ハバ",
         "ヒビ", "フブ", "ホボ")  # fmt: skip


def _table(kind: NoiseKind) -> dict[str, str]:
    """Say what each character may be mistaken for."""
    if kind == "homoglyph":
        return dict(_HOMOGLYPHS)
    table: dict[str, str] = {}
    for pair in _OCR if kind == "ocr" else _KANA:
        a, b = list(pair)
        table[a] = table.get(a, "") + b
        table[b] = table.get(b, "") + a
    if kind == "keyboard":
        for r, row in enumerate(_ROWS):
            for k, key in enumerate(row):
                near = row[max(0, k - 1) : k] + row[k + 1 : k + 2]
                for other in (r - 1, r + 1):
                    if 0 <= other < len(_ROWS):
                        # Each row begins half a key further right than the one above.
                        first = k if other > r else k + 1
                        near += _ROWS[other][max(0, first - 1) : first + 1]
                table[key] = near
                table[key.upper()] = near.upper()
    return table


@dataclass(frozen=True)
class Typos(_TextEffect):
    """Mistake characters, as fingers, a scanner or an attacker do.

    Parameters
    ----------
    kind : {"keyboard", "ocr", "homoglyph", "case", "omission"}
        ``keyboard``: the key beside it (QWERTY; kana: small, large, voiced). ``ocr``: what looks
        alike in print (0 and O, ソ and ン). ``homoglyph``: what looks the same and is another
        character (Cyrillic а). ``case``: the other case. ``omission``: nothing.
    share : float or [low, high]
        Of the characters that can be mistaken so; at least one where the share is above 0.
    """

    name: ClassVar[str] = "typos"

    kind: NoiseKind = "keyboard"
    share: Span = 0.05

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.kind not in get_args(NoiseKind):
            raise ValueError(
                f"unknown kind {self.kind!r}{suggestion(self.kind, get_args(NoiseKind))}"
            )

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        table = {} if self.kind in {"case", "omission"} else _table(self.kind)
        characters = list(text)
        able = [i for i, c in enumerate(characters) if self._others(c, table) is not None]
        if not able:
            return text
        for k in rng.choice(len(able), _count(share, len(able)), replace=False):
            others = self._others(characters[able[k]], table) or ""
            characters[able[k]] = others[int(rng.integers(len(others)))] if others else ""
        return "".join(characters)

    def _others(self, character: str, table: dict[str, str]) -> str | None:
        if self.kind == "omission":
            return "" if not character.isspace() else None
        if self.kind == "case":
            other = character.swapcase()
            return other if other != character and len(other) == 1 else None
        return table.get(character)


@dataclass(frozen=True)
class SwapSlots(_TextEffect):
    """Put another value of the same slot where the text has one: another colour, city, part.

    Values are found as whole words (in scripts with spaces) whatever their case, the longest first,
    and the new one takes the case of the old. What the text says changes: a label that depends on a
    slot does not survive.

    Parameters
    ----------
    slots : mapping of str to list of str
        Values by the name of their slot, two or more each: ``{colour: [red, blue]}``.
    share : float or [low, high]
        Of the values in the text that are replaced; at least one where there is one and the share
        is above 0.
    digits : bool
        Whether digits of numbers are drawn anew as well; a number keeps its length, and its first
        digit is not 0 unless it was.
    """

    name: ClassVar[str] = "swap_slots"

    slots: dict[str, list[str]]
    share: Span = 0.5
    digits: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        seen: dict[str, str] = {}
        for name, values in self.slots.items():
            if len(values) < 2 or "" in values:
                raise ValueError(f"slot {name!r} needs two values or more, got {values!r}")
            for value in values:
                if (other := seen.setdefault(value.casefold(), name)) != name:
                    raise ValueError(f"{value!r} is in the slots {other!r} and {name!r}")
            if len({value.casefold() for value in values}) < len(values):
                raise ValueError(f"slot {name!r} has a value twice: {values!r}")
        if not seen and not self.digits:
            raise ValueError("there is nothing to replace: give slots, or digits: true")

    def _change(self, text: str, share: float, rng: np.random.Generator) -> str:
        slot_of = {v.casefold(): values for values in self.slots.values() for v in values}
        longest = sorted(slot_of, key=lambda value: (-len(value), value))
        # ASCII word edges: no space stands around a word of Japanese.
        wanted = [rf"(?<![a-z0-9]){re.escape(value)}(?![a-z0-9])" for value in longest]
        pattern = re.compile("|".join([*wanted, *([r"[0-9]+"] if self.digits else [])]), re.I)
        found = list(pattern.finditer(text))
        if not found:
            return text
        changed = text
        for k in sorted(rng.choice(len(found), _count(share, len(found)), replace=False))[::-1]:
            old = found[k][0]
            changed = (
                changed[: found[k].start()]
                + self._other(old, slot_of, rng)
                + (changed[found[k].end() :])
            )
        return changed

    @staticmethod
    def _other(old: str, slot_of: dict[str, list[str]], rng: np.random.Generator) -> str:
        values = slot_of.get(old.casefold())
        if values is None:
            drawn = rng.integers(10, size=len(old)).tolist()
            if old[0] != "0":
                drawn[0] = 1 + drawn[0] % 9
            return "".join(map(str, drawn))
        others = [value for value in values if value.casefold() != old.casefold()]
        return in_case_of(others[int(rng.integers(len(others)))], old)


def _count(share: float, n: int) -> int:
    return 0 if share == 0 else min(n, max(1, math.floor(share * n + 0.5)))
