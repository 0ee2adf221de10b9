"""Texts from a grammar of templates and slots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ..registry import suggestion
from ..values import Modality, Params

_SLOT = re.compile(r"\{([^{}]*)\}")


class Grammar:
    """Rules of texts with slots; some slots are filled in later.

    Parameters
    ----------
    rules : mapping of str to list of str
        Under each name, what may stand in its slot ``{name}``. A text is made from ``start``.
    slots : sequence of str
        The slots that are filled in later.

    Raises
    ------
    ValueError
        If there is no ``start``, a slot has no rule, a rule is empty, or a rule leads to itself.
    """

    def __init__(self, rules: Mapping[str, list[str]], slots: Sequence[str]) -> None:
        self.rules = {name: list(texts) for name, texts in rules.items()}
        self.slots = tuple(slots)
        if "start" not in self.rules:
            raise ValueError(f"there is no rule 'start'; got {', '.join(self.rules) or 'none'}")
        for name, texts in self.rules.items():
            if name in self.slots:
                raise ValueError(f"{{{name}}} is filled in later: name the rule otherwise")
            if not texts:
                raise ValueError(f"the rule {name!r} has no texts")
            for text in texts:
                _check_braces(text, name)
                for slot in _SLOT.findall(text):
                    if slot not in self.slots and slot not in self.rules:
                        known = [*self.rules, *self.slots]
                        raise ValueError(
                            f"no rule for the slot {{{slot}}} of {name!r}{suggestion(slot, known)}"
                        )
        self._check_ends("start", ())

    def _check_ends(self, name: str, above: tuple[str, ...]) -> None:
        if name in above:
            raise ValueError(f"the rule {name!r} leads to itself: {' → '.join([*above, name])}")
        for text in self.rules.get(name, ()):
            for slot in _SLOT.findall(text):
                self._check_ends(slot, (*above, name))

    def draw(self, rng: np.random.Generator, name: str = "start") -> str:
        """Draw a text; the slots that are filled in later are still in it."""
        texts = self.rules[name]
        text = texts[int(rng.integers(len(texts)))]
        return _SLOT.sub(lambda s: s[0] if s[1] in self.slots else self.draw(rng, s[1]), text)

    def fill(self, text: str, values: Mapping[str, str]) -> str:
        """Fill in the slots that are left.

        Raises
        ------
        ValueError
            If there is no value for one.
        """
        missing = set(_SLOT.findall(text)) - set(values)
        if missing:
            raise ValueError(f"there is no value for the slots {', '.join(sorted(missing))}")
        return _SLOT.sub(lambda s: str(values[s[1]]), text)


class Template:
    """Write a text about a label from a grammar: templates with slots, filled at random.

    Parameters
    ----------
    rules : mapping of str to list of str
        Under each name, what may stand in its slot ``{name}``; one is drawn, each with the same
        chance. ``{label}`` is the item's label. A text is made from the rule ``start``.

    Raises
    ------
    ValueError
        If the grammar does not work (see :class:`Grammar`).
    """

    name: ClassVar[str] = "template"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(self, rules: Mapping[str, list[str]]) -> None:
        self._grammar = Grammar(rules, ("label",))

    @property
    def params(self) -> Params:
        """The rules."""
        return {"rules": self._grammar.rules}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Fill every slot but the label's."""
        return {"text": self._grammar.draw(rng)}

    def apply(self, value: str | int, params: Params) -> str:
        """Fill in the label."""
        return self._grammar.fill(params["text"], {"label": str(value)})


def _check_braces(text: str, name: str) -> None:
    if set("{}") & set(_SLOT.sub("", text)):
        raise ValueError(f"a brace of the rule {name!r} is not part of a slot: {text!r}")
