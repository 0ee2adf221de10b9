"""Corrections of texts by rule: how sentences begin, and how they end. No word is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..values import Modality, Params
from .base import Correction, NotCorrectableError, Value, compact

_ENDINGS = (".", "!", "?", "…", "。", "！", "？")


class _Style(Correction):
    """A text is of one of a few styles; so many change theirs that the shares become the real."""

    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(
        self,
        source: Mapping[str, float],
        target: Mapping[str, float],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(held_out)
        for shares in (source, target):
            if any(v < 0 for v in shares.values()) or abs(sum(shares.values()) - 1) > 1e-4:
                raise ValueError(f"shares must be at least 0 and sum to 1, got {dict(shares)}")
        self.source, self.target = dict(source), dict(target)

    def _arguments(self) -> Params:
        return {"source": self.source, "target": self.target}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        target = cls._shares(real)
        # A style that cannot be made (as in iPhone) is nobody's aim.
        makeable = {k: v for k, v in target.items() if k in cls._makers()}
        if not makeable:
            raise NotCorrectableError(
                "the real texts have no style that a rule can make", "no_style"
            )
        total = sum(makeable.values())
        return {
            "source": {k: compact(v) for k, v in cls._shares(synthetic).items()},
            "target": {k: compact(v / total) for k, v in makeable.items()},
        }

    @classmethod
    def _shares(cls, side: Sequence[Value]) -> dict[str, float]:
        counts: dict[str, float] = {}
        for v in side:
            style = cls._style(v.value)
            counts[style] = counts.get(style, 0.0) + v.weight
        total = sum(counts.values())
        return {k: counts[k] / total for k in sorted(counts)}

    @classmethod
    def _makers(cls) -> Mapping[str, Callable[[str], str]]:
        raise NotImplementedError

    @classmethod
    def _style(cls, text: str) -> str:
        raise NotImplementedError

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw whether the text may keep its style, and which it has if not."""
        lacking = {k: max(0.0, v - self.source.get(k, 0.0)) for k, v in self.target.items()}
        total = sum(lacking.values())
        keep, pick = (float(u) for u in rng.random(2))
        new = None
        for style, share in lacking.items():
            pick -= share / total if total > 0 else 1.0
            if pick <= 0:
                new = style
                break
        return {"keep": keep, "new": new}

    def apply(self, value: str, params: Params) -> str:
        """Restyle one text."""
        style = self._style(value)
        share = self.source.get(style, 0.0)
        # Of a style that is too frequent, the surplus changes.
        kept = min(1.0, self.target.get(style, 0.0) / share) if share > 0 else 1.0
        if params["new"] is None or params["keep"] < kept:
            return value
        return self._makers()[params["new"]](value)


class MatchCase(_Style):
    """Give the set the real set's casing: lower, UPPER, or a capital first letter.

    Names lose their capitals in lower case and do not get them back: a rule does not know them.

    Parameters
    ----------
    source, target : dict of str to float
        Share of texts of each style in the synthetic and in the real set: ``lower``, ``upper``,
        ``sentence``, and, in ``source`` only, ``other``.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_case"
    acts_on: ClassVar[frozenset[str]] = frozenset({"upper_case"})

    @classmethod
    def _makers(cls) -> Mapping[str, Callable[[str], str]]:
        return {"lower": str.lower, "upper": str.upper, "sentence": _sentence}

    @classmethod
    def _style(cls, text: str) -> str:
        letters = [c for c in text if c.isalpha()]
        if not letters or text.lower() == text:
            return "lower"
        if text.upper() == text and len(letters) > 1:
            return "upper"
        return "sentence" if letters[0].isupper() else "other"


class MatchEnding(_Style):
    """Give the set the real set's final punctuation.

    Parameters
    ----------
    source, target : dict of str to float
        Share of texts with each ending in the synthetic and in the real set: a mark, or the empty
        string for none.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_ending"
    acts_on: ClassVar[frozenset[str]] = frozenset({"punctuation"})

    @classmethod
    def _makers(cls) -> Mapping[str, Callable[[str], str]]:
        return {mark: lambda text, mark=mark: _bare(text) + mark for mark in ("", *_ENDINGS)}  # type: ignore[misc]

    @classmethod
    def _style(cls, text: str) -> str:
        end = text.rstrip()[-1:]
        return end if end in _ENDINGS else ""


def _bare(text: str) -> str:
    return text.rstrip().rstrip("".join(_ENDINGS))


def _sentence(text: str) -> str:
    # A text in capitals is said softly first; one with names in it keeps them.
    if text.upper() == text:
        text = text.lower()
    for k, c in enumerate(text):
        if c.isalpha():
            return text[:k] + c.upper() + text[k + 1 :]
    return text
