"""Texts from a grammar of templates and slots."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from ..protocol import Modality, Params, suggestion

_SLOT = re.compile(r"\{([^{}]*)\}")


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
        If there is no ``start``, a slot has no rule, a rule is empty, or a rule leads to itself.
    """

    name: ClassVar[str] = "template"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.LABEL
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(self, rules: Mapping[str, list[str]]) -> None:
        self.rules = {name: list(texts) for name, texts in rules.items()}
        if "start" not in self.rules:
            raise ValueError(f"there is no rule 'start'; got {', '.join(self.rules) or 'none'}")
        if "label" in self.rules:
            raise ValueError("{label} is the item's label: name the rule otherwise")
        for name, texts in self.rules.items():
            if not texts:
                raise ValueError(f"the rule {name!r} has no texts")
            for text in texts:
                _check_braces(text, name)
                for slot in _SLOT.findall(text):
                    if slot != "label" and slot not in self.rules:
                        known = [*self.rules, "label"]
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

    @property
    def params(self) -> Params:
        """The rules."""
        return {"rules": self.rules}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Fill every slot but the label's."""

        def fill(name: str) -> str:
            if name == "label":
                return "{label}"
            texts = self.rules[name]
            text = texts[int(rng.integers(len(texts)))]
            return _SLOT.sub(lambda slot: fill(slot[1]), text)

        return {"text": fill("start")}

    def apply(self, value: str | int, params: Params) -> str:
        """Fill in the label."""
        text: str = params["text"]
        return text.replace("{label}", str(value))


def _check_braces(text: str, name: str) -> None:
    if set("{}") & set(_SLOT.sub("", text)):
        raise ValueError(f"a brace of the rule {name!r} is not part of a slot: {text!r}")
