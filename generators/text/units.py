"""Texts in units: words where they are spaced, characters where they are not."""

from __future__ import annotations

import re

# Scripts that put no space between words: Thai to Khmer, kana, Han (with its extensions).
_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_UNIT = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])[\w'’])+|\s+|.", re.DOTALL)
_WORD = re.compile(r"[\w'’]*\w[\w'’]*")
_CHARACTER = re.compile(rf"[{_UNSPACED}]")


def units(text: str) -> list[str]:
    """Cut a text into words, characters of unspaced scripts, spaces and marks.

    Their concatenation is the text.
    """
    return _UNIT.findall(text)


def is_word(unit: str) -> bool:
    """Tell whether a unit is a word, or a character of an unspaced script."""
    return _WORD.fullmatch(unit) is not None


def is_unspaced(unit: str) -> bool:
    """Tell whether a unit is a character of a script without spaces between words."""
    return _CHARACTER.fullmatch(unit) is not None


def words_of(text: str) -> list[str]:
    """Give the words of a text, in lower case."""
    return [unit.lower() for unit in units(text) if is_word(unit)]


def tokens(text: str) -> list[str]:
    """Cut a text into units that carry the space before them; concatenation gives it back."""
    found: list[str] = []
    space = ""
    for unit in units(text):
        if unit.isspace():
            space += unit
        else:
            found.append(space + unit)
            space = ""
    if space:
        found.append(space)
    return found


def joined(found: list[str]) -> str:
    """Put tokens together; two words that would run into one get a space."""
    text = ""
    for token in found:
        ends, begins = text[-1:], token[:1]
        if is_word(ends) and is_word(begins) and not (is_unspaced(ends) or is_unspaced(begins)):
            text += " "
        text += token
    return text.strip()


def in_case_of(word: str, model: str) -> str:
    """Write a word in the case of another."""
    if len(model) > 1 and model.isupper():
        return word.upper()
    return word.capitalize() if model[:1].isupper() else word
