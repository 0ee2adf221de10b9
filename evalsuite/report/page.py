"""A page of headings, tables and plotly figures: what comparisons, audits and histories share.

Like the gap report it is one file that may load nothing, and text from data is never markup.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from ..gate.findings import Status
from .html import asset, content_security_policy, plotly, styles
from .i18n import Translator
from .text import clean, number
from .view import encode

if TYPE_CHECKING:
    from jinja2 import Template

ROWS = 500
"""A table shows at most so many rows, and says how many there are."""

_NUMBER = re.compile(r"(< )?[−-]?\d[\d,]*(\.\d+)?\s?%?|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""What is set like a number, on the right and in one line, although it came as text."""

_LONG = 60
"""A table with a longer text becomes a list on a narrow screen."""

Cell: TypeAlias = str | float | int | Status | None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; a number is written as such, a status gets its sign."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    total: int | None = None
    """Rows in all, where ``rows`` is a part of them."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A plotly figure; labels that come from data go through :func:`plain`."""

    traces: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)
    height: int = 380


@dataclass(frozen=True, slots=True)
class Picture:
    """Small pictures with a line of text under each, as data URIs."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Blanks:
    """Lines that people fill in by hand on the printed page."""

    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file beside the page; its address is ours, never the data's."""

    text: str
    href: str


Block: TypeAlias = Table | Figure | Picture | Blanks | Link


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence or two, and what follows."""

    title: str
    lead: str = ""
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = ()


def plain(text: object, limit: int = 60) -> str:
    """Give text from data as a label of plotly.js, which would take some of it for markup."""
    tidy = clean(str(text), limit)
    return tidy.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_page(
    *,
    title: str,
    question: str,
    headline: str,
    lead: str,
    status: Status,
    facts: Sequence[tuple[str, str]],
    sections: Sequence[Section],
    version: str,
    lang: str = "en",
) -> str:
    """Give the page.

    Parameters
    ----------
    title, question, headline, lead : str
        The first screen.
    status : Status
        Its colour and sign.
    facts : sequence of (str, str)
        Name and value.
    sections : sequence of Section
    version : str
        Of the evalsuite that made what is shown.
    lang : {"en", "ja"}

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If there is no such language.
    """
    tr = Translator(lang)
    figures: list[dict[str, Any]] = []

    def draw(figure: Figure) -> int:
        figures.append(
            {"data": figure.traces, "layout": dict(figure.layout), "height": figure.height}
        )
        return len(figures) - 1

    shown = [
        {
            "title": clean(section.title, 200),
            "lead": clean(section.lead, 1000),
            "notes": [clean(note, 1000) for note in section.notes],
            "blocks": [_block(block, draw, tr) for block in section.blocks],
        }
        for section in sections
    ]
    own = asset("assets", "page.js")
    scripts = (plotly(), own) if figures else (own,)
    return _template().render(
        tr=tr,
        title=clean(title, 200),
        question=clean(question, 200),
        headline=clean(headline, 300),
        lead=clean(lead, 1000),
        status=status.value,
        facts=[(clean(name, 100), clean(value, 300)) for name, value in facts],
        sections=shown,
        styles=styles(),
        scripts=scripts,
        csp=content_security_policy(styles(), scripts),
        data=encode({"figures": figures}),
        version=clean(version, 40),
    )


def _block(block: Block, draw: Any, tr: Translator) -> dict[str, Any]:
    if isinstance(block, Figure):
        return {"kind": "figure", "index": draw(block), "height": block.height}
    if isinstance(block, Picture):
        return {
            "kind": "pictures",
            "items": [(uri, clean(text, 200)) for uri, text in block.items],
        }
    if isinstance(block, Blanks):
        return {"kind": "blanks", "names": [clean(name, 100) for name in block.names]}
    if isinstance(block, Link):
        return {"kind": "link", "text": clean(block.text, 100), "href": block.href}
    rows = [[_cell(cell, tr) for cell in row] for row in block.rows[:ROWS]]
    numeric = [all(cell["number"] for cell in column) for column in zip(*rows, strict=True)]
    total = block.total if block.total is not None else len(block.rows)
    return {
        "kind": "table",
        "long": any(len(cell["text"]) > _LONG for row in rows for cell in row),
        "columns": [
            (clean(c, 100), bool(numeric) and numeric[k]) for k, c in enumerate(block.columns)
        ],
        "rows": rows,
        "left_out": max(0, total - len(rows)),
        "total": total,
        "shown": len(rows),
    }


def _cell(cell: Cell, tr: Translator) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": "", "status": None, "number": False}
    if isinstance(cell, Status):
        shown |= {"status": cell.value, "text": tr.get(f"status.{cell.value}", cell.value)}
    elif isinstance(cell, bool):
        shown["text"] = tr.get("yes" if cell else "no", str(cell))
    elif cell is None or isinstance(cell, int | float):
        shown |= {"text": number(cell), "number": True}
    else:
        shown["text"] = clean(cell, 400)
        shown["number"] = shown["text"] == "–" or bool(_NUMBER.fullmatch(shown["text"]))
    return shown


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("templates", "page.html.j2"))
