"""Numbers and text for people: one way to write a number, one way to tame a string.

``assets/report.js`` formats numbers by the same rules; a test holds the two together.
"""

from __future__ import annotations

import math
import re
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

DASH = "–"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# C0, C1, line separators, lone surrogates, and the controls that reorder text on screen.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069"
    "\ud800-\udfff\ufeff\ufff9-\uffff]"
)
_SPACE = re.compile(r"\s+")


def clean(text: str, limit: int = 300) -> str:
    """Give text from data on one line of at most ``limit`` harmless characters.

    Control characters and those that reorder text leave a replacement character; what is too long
    is cut in the middle, where a file name says least.
    """
    if len(text) > 4 * limit:  # before the work, so that a huge string costs nothing
        text = text[: 2 * limit] + text[-2 * limit :]
    tidy = _SPACE.sub(" ", _UNSAFE.sub("\ufffd", text)).strip()
    if len(tidy) <= limit:
        return tidy
    tail = (limit - 1) // 3
    return tidy[: limit - 1 - tail] + "…" + tidy[len(tidy) - tail :]


def _significant(x: Decimal, digits: int) -> Decimal:
    return x.quantize(Decimal(1).scaleb(x.adjusted() - digits + 1), rounding=ROUND_HALF_UP)


def _trimmed(x: Decimal) -> str:
    digits = f"{x:f}"
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def _shown(x: float | None) -> bool:
    """Whether there is a number; a result from elsewhere may hold integers no float can."""
    try:
        return x is not None and math.isfinite(x)
    except OverflowError:
        return False


def number(x: float | None, digits: int = 3) -> str:
    """Write a number with at most ``digits`` significant digits; whole numbers stay whole."""
    if x is None or not _shown(x):
        return DASH
    sign, size = ("−" if x < 0 else ""), abs(x)
    if size == int(size) and size < 1e15:
        return f"{sign}{int(size):,}"
    value = Decimal(size)
    rounded = _significant(value, digits)
    if rounded >= 1000:
        if rounded < Decimal(10) ** 15:
            return f"{sign}{int(value.quantize(Decimal(1), rounding=ROUND_HALF_UP)):,}"
    elif rounded >= Decimal("0.001"):
        return sign + _trimmed(rounded)
    short = _significant(value, 2)
    exponent = short.adjusted()
    return f"{sign}{_trimmed(short.scaleb(-exponent))}×10{str(exponent).translate(_SUPERSCRIPT)}"


def percent(x: float | None) -> str:
    """Write a share as a percentage."""
    if x is None or not _shown(x) or not math.isfinite(x * 1e12):
        return DASH
    return number(math.floor(x * 1e12 + 0.5) / 1e10) + "%"


def p_value(p: float | None) -> str:
    """Write a p-value; below 0.001 only that it is."""
    if p is None or not _shown(p):
        return DASH
    return "< 0.001" if p < 0.001 else number(p, 2)


def spreadsheet_cell(value: Any) -> Any:
    """Give a cell that a spreadsheet takes for text, whatever it starts with; nothing for None."""
    if isinstance(value, str) and value.lstrip(" ")[:1] in ("=", "+", "-", "@", "\t", "\r", "\n"):
        return "'" + value
    return "" if value is None else value
