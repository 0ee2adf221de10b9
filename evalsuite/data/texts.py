"""Texts that are not trusted: what is taken as the text of a sample, and what is said of it.

A text is never changed, but for what surrounds the text of a file: models and metrics are to see
what a training run would see.
"""

from __future__ import annotations

import re

from .dataset import BadSample, Limits, Problem

_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_NUMBER = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?"
_BOXES = re.compile(rf"\d+(?: +{_NUMBER}){{4,}} *(?:[\r\n]+\d+(?: +{_NUMBER}){{4,}} *)*")
_MARKS = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))


def decode_text(data: bytes, limits: Limits) -> str:
    """Give the text that a file holds, without what is blank around it.

    Raises
    ------
    BadSample
        ``oversized``, or ``not_text``: not UTF-8. It is not guessed at: a wrong guess would be
        measured as if the data were so.
    """
    if len(data) > limits.max_text:
        raise _too_long(len(data), limits)
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
        raise BadSample(
            "not_text",
            (f"it is {marked}" if marked else f"byte {error.start:,} is not UTF-8 ({error.reason})")
            + ": convert it to UTF-8",
        ) from None


def is_boxes(text: str) -> bool:
    """Whether a text is boxes of objects: lines of a class's number and four or more numbers."""
    return _BOXES.fullmatch(text) is not None


def usable_text(
    text: str | None, name: str, limits: Limits, problems: list[Problem], *, lost: bool
) -> str | None:
    """Check the text of a sample; report what is wrong with it.

    Parameters
    ----------
    text : str or None
    name : str
        What the problems are reported of.
    limits : Limits
    problems : list of Problem
    lost : bool
        Whether the sample is lost with its text, because it is nothing else.

    Returns
    -------
    str or None
        The text as it is, control characters included; None if there is none to be used.
    """
    if text is None or not text.strip():
        if lost or text is not None:
            problems.append(Problem(name, "empty", "its text is empty", lost))
        return None
    # A character takes four bytes at most: the length is counted only where it matters.
    if 4 * len(text) > limits.max_text and (size := len(text.encode())) > limits.max_text:
        problems.append(Problem(name, "oversized", _too_long(size, limits).detail, lost))
        return None
    if found := _CONTROL.findall(text):
        which = ", ".join(f"U+{ord(c):04X}" for c in sorted(set(found))[:5])
        detail = f"its text has {len(found):,} control characters ({which}): kept"
        problems.append(Problem(name, "control_characters", detail, lost=False))
    return text


def _too_long(size: int, limits: Limits) -> BadSample:
    return BadSample(
        "oversized", f"its text has {size:,} bytes of UTF-8; at most {limits.max_text:,} are read"
    )
