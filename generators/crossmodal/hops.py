"""Hops of a cross-modal chain: models of yours, captions of facts, and the way back to a label.

A chain is a :class:`~evalsuite.generators.Chain` of such hops, for example image → caption →
speech → transcript → label → image. A captioner, recogniser or painter of your own is given as a
function.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from ..protocol import Dropped, RecipeError, draw_seed
from ..text.template import Grammar
from ..values import Modality, Params


class Model:
    """A function — a captioner, speaker, transcriber, painter — as an operation.

    Parameters
    ----------
    function : callable
        Takes the value; where ``seeded``, the value and a seed. It raises
        :class:`~evalsuite.generators.Dropped` or :class:`~evalsuite.generators.Refused` with the
        reason where it will not make the sample.
    name : str
        What to call it: records have ``model:name``.
    input, output : str
        The modalities.
    facts : mapping, optional
        What identifies it, as JSON: weights, settings. A replay needs a model of the same facts.
    version : int
        Of the function's code.
    seeded : bool
        Whether it takes a seed.
    model_sha256 : str, optional
        Hash of its weights, for the column of that name.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        input: str,  # noqa: A002 - the protocol's word
        output: str,
        facts: Mapping[str, Any] | None = None,
        version: int = 1,
        seeded: bool = False,
        model_sha256: str | None = None,
    ) -> None:
        self._function = function
        self._facts = dict(facts or {})
        self._seeded = seeded
        self.name = f"model:{name}"
        self.version = version
        self.input = Modality(input)
        self.output = Modality(output)
        self.model_sha256 = model_sha256

    @property
    def params(self) -> Params:
        """What identifies it."""
        return {**self._facts, "model_sha256": self.model_sha256}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the seed, where it takes one."""
        return {"seed": draw_seed(rng)} if self._seeded else {}

    def apply(self, value: Any, params: Params) -> Any:
        """Call the function."""
        return self._function(value, params["seed"]) if self._seeded else self._function(value)


class Caption:
    """Say in a sentence what a captioner sees in an image.

    Parameters
    ----------
    captioner : callable
        From an image to facts by name: ``{"label": "solar cell", "light": "dark"}``. Text of the
        sentence comes from the rules, facts from here.
    rules : mapping of str to list of str
        A grammar as of :class:`~evalsuite.generators.text.template.Template`; the facts are slots.
    slots : sequence of str
        The names of the facts.
    facts : mapping, optional
        What identifies the captioner, as JSON.

    Raises
    ------
    ValueError
        If the grammar does not work.
    """

    name: ClassVar[str] = "caption_of_facts"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(
        self,
        captioner: Callable[[Any], Mapping[str, str]] | None = None,
        rules: Mapping[str, list[str]] | None = None,
        slots: Sequence[str] = ("label",),
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        if captioner is None or rules is None:
            raise RecipeError(
                "a caption needs its captioner, a function: make it in Python, and give it as "
                "operation="
            )
        self._captioner = captioner
        self._grammar = Grammar(rules, slots)
        self._facts = dict(facts or {})

    @property
    def params(self) -> Params:
        """The grammar, and what identifies the captioner."""
        grammar = self._grammar
        return {"rules": grammar.rules, "slots": list(grammar.slots), "facts": self._facts}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the sentence."""
        return {"text": self._grammar.draw(rng)}

    def apply(self, value: Any, params: Params) -> str:
        """Look at the image, and fill in what is seen.

        Raises
        ------
        ValueError
            If the captioner gives no such fact.
        """
        return self._grammar.fill(params["text"], self._captioner(value))


class ParseLabel:
    """Find the label that a text names; a text that names none, or several, is dropped.

    Parameters
    ----------
    labels : sequence of str
        At least one. The longest that fits counts: of *solar cell* and *cell*, the first. Upper and
        lower case are the same; in scripts with spaces, whole words only.

    Raises
    ------
    ValueError
        If there is no label, or two differ only by case.
    """

    name: ClassVar[str] = "parse_label"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.LABEL

    def __init__(self, labels: Sequence[str]) -> None:
        self._known = {label.casefold(): label for label in labels}
        if not labels or isinstance(labels, str) or len(self._known) < len(labels) or "" in labels:
            raise ValueError(f"labels must be different words, one or more; got {labels!r}")
        self.labels = tuple(labels)
        longest = sorted(self._known, key=lambda label: (-len(label), label))
        # ASCII word edges: no space stands around a word of Japanese.
        self._pattern = re.compile(
            "|".join(rf"(?<![a-z0-9]){re.escape(label)}(?![a-z0-9])" for label in longest)
        )

    @property
    def params(self) -> Params:
        """The labels."""
        return {"labels": list(self.labels)}

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: str, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Find the label.

        Raises
        ------
        Dropped
            If the text names none, or several.
        """
        named = {self._known[found] for found in self._pattern.findall(value.casefold())}
        if len(named) != 1:
            said = f"names {', '.join(sorted(named))}" if named else "names no label"
            raise Dropped(f"the text {said}: {value[:80]!r}")
        return named.pop()
