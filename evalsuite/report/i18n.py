"""Fixed text in English and Japanese; a language is one flat JSON file in ``locale/``.

A template holds ``{name}`` or ``{name|how}``, where *how* is one of :data:`_HOW`. The page switches
its language by the same templates in JavaScript.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

from ..errors import UsageError
from .text import clean, number, p_value, percent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..gate.findings import Message, Waived

LANGUAGES = ("en", "ja")
Param = str | int | float | None
_FIELD = re.compile(r"\{(\w+)(?:\|(\w+))?\}")


@cache
def catalogue(lang: str) -> dict[str, str]:
    """Give all fixed text of one language.

    Raises
    ------
    UsageError
        If the language is not one of :data:`LANGUAGES`.
    """
    if lang not in LANGUAGES:
        raise UsageError(f"no report in language {lang!r}: use one of {', '.join(LANGUAGES)}")
    text = resources.files(__package__).joinpath("locale", f"{lang}.json").read_text("utf-8")
    table: dict[str, str] = json.loads(text)
    return table


class Translator:
    """Text in one language.

    Parameters
    ----------
    lang : {"en", "ja"}
        The language.
    """

    def __init__(self, lang: str = "en") -> None:
        self.lang = lang
        self._table = catalogue(lang)
        self._how: dict[str, Callable[[Param], str]] = {
            "pct": lambda x: percent(x) if isinstance(x, int | float) else str(x),
            "p": lambda x: p_value(x) if isinstance(x, int | float) else str(x),
            "metric": lambda x: self.metric(str(x)),
            "status": lambda x: self.get(f"status.{x}", clean(str(x))),
            "role": lambda x: self.get(f"role.{x}", clean(str(x))),
            "term": lambda x: self.get(f"term.{x}", clean(str(x), 120)),
            "size": lambda x: number(abs(x)) if isinstance(x, int | float) else str(x),
            "slice": lambda x: "" if x == "all" else f" ({self.place(str(x))})",
            "modality": lambda x: self.place(str(x)),
        }

    def get(self, key: str, default: str) -> str:
        """Give the text of a key, or ``default`` where there is none."""
        return self._table.get(key, default)

    def t(self, key: str, params: Mapping[str, Param] | None = None) -> str:
        """Give the text of a key that must exist, filled in."""
        filled = self._fill(self._table[key], params or {})
        if filled is None:
            raise KeyError(f"the text {key!r} needs other parameters than {sorted(params or {})}")
        return filled

    def metric(self, name: str) -> str:
        """Give what a metric or an attribute is called."""
        return self.get(f"metric.{name}", self.get(f"attribute.{name}", clean(name, 120)))

    def place(self, name: str) -> str:
        """Give what a modality, and whatever follows it after a comma, is called."""
        first, comma, rest = name.partition(", ")
        return self.get(f"modality.{first}", clean(first, 120)) + comma + clean(rest, 120)

    def message(self, message: Message) -> str:
        """Translate a message by its id; what has no template, or lacks a value, says its text."""
        for key in (f"message.{message.id}", f"message.{message.id}.short"):
            template = self._table.get(key)
            filled = None if template is None else self._fill(template, message.params)
            if filled is not None:
                return filled
        return clean(message.text, 600)

    def waived(self, waiver: Waived) -> str:
        """Say until when, by whom and why something is waived, and what it would be without."""
        return self.t(
            "waived",
            {
                "status": waiver.status.value,
                "expires": waiver.expires.isoformat(),
                "owner": waiver.owner,
                "reason": waiver.reason,
            },
        )

    def _fill(self, template: str, params: Mapping[str, Param]) -> str | None:
        missing = False

        def one(match: re.Match[str]) -> str:
            nonlocal missing
            value = params.get(match[1])
            if value is None:
                missing = True
                return ""
            if match[2]:
                return self._how[match[2]](value)
            return clean(value, 200) if isinstance(value, str) else number(value)

        filled = _FIELD.sub(one, template)
        return None if missing else filled.replace(" )", ")")
