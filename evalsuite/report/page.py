"""A page of headings, tables and plotly figures: all but the gap report are made of it.

Like that one it is a single file that may load nothing, text from data is never markup, it holds
both languages, and what stands behind a table or a figure can be taken away as CSV or JSON.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from ..gate.findings import Status
from .html import asset, content_security_policy, plotly, styles
from .i18n import LANGUAGES, Translator
from .text import clean, number
from .view import encode

if TYPE_CHECKING:
    from jinja2 import Template

ROWS = 500
"""A table shows at most so many rows, and says how many there are."""

_NUMBER = re.compile(r"(< )?[−-]?\d[\d,]*(\.\d+)?\s?%?|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
"""What is set like a number, on the right and in one line, although it came as text."""

DOWNLOADED_ROWS = 5_000
"""A table that is taken away has at most so many rows."""

_LONG = 60
"""A table with a longer text becomes a list on a narrow screen; a Japanese character counts two."""


@dataclass(frozen=True, slots=True)
class Written:
    """A number that the page writes in another way; whoever takes the table away gets it."""

    value: float | None
    text: str


Cell: TypeAlias = str | float | int | Status | Written | None


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
class Shown:
    """What can be seen, heard and read of a sample; picture and clip are data URIs."""

    picture: str = ""
    clip: str = ""
    text: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples alone or two side by side, with a line of text under each."""

    items: Sequence[tuple[Sequence[Shown], str]]


@dataclass(frozen=True, slots=True)
class Blanks:
    """Lines that people fill in by hand on the printed page."""

    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Link:
    """A link to a file beside the page; its address is ours, never the data's."""

    text: str
    href: str


Block: TypeAlias = Table | Figure | Samples | Blanks | Link


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, a sentence or two, and what follows."""

    title: str
    lead: str = ""
    blocks: Sequence[Block] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What a page says, in one language.

    ``title``, ``question``, ``headline``, ``lead`` and ``facts`` (name and value) are its first
    screen, whose colour and sign are those of ``status``.
    """

    title: str
    question: str
    headline: str
    lead: str
    status: Status
    facts: Sequence[tuple[str, str]]
    sections: Sequence[Section]


def plain(text: object, limit: int = 60) -> str:
    """Give text from data as a label of plotly.js, which would take some of it for markup."""
    tidy = clean(str(text), limit)
    return tidy.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_page(
    tell: Callable[[Translator], Page], *, name: str, version: str, lang: str = "en"
) -> str:
    """Give the page.

    Parameters
    ----------
    tell : callable
        Says it in the language of a translator, with the same blocks in each.
    name : str
        What the files are called that are taken away from it.
    version : str
        Of the evalsuite that made what is shown.
    lang : {"en", "ja"}
        The language that it opens in.

    Returns
    -------
    str

    Raises
    ------
    UsageError
        If there is no such language.
    """
    translators = [Translator(lang), *(Translator(other) for other in LANGUAGES if other != lang)]
    told = {tr.lang: tell(tr) for tr in translators}
    figures: list[dict[str, Any]] = []
    media: dict[str, int] = {}
    shown = [_page(told[tr.lang], tr, figures, media) for tr in translators]
    own = (asset("assets", "files.js"), asset("assets", "page.js"))
    scripts = (plotly(), *own) if figures else own
    # Programs shall find the same columns whatever language somebody reads.
    english = next(page for page in shown if page["tr"].lang == "en")
    data = {
        "name": clean(name, 40),
        "titles": {page["tr"].lang: page["title"] for page in shown},
        "figures": figures,
        "downloads": _downloads(told["en"], english),
    }
    return _template().render(
        pages=shown,
        styles=styles(),
        scripts=scripts,
        csp=content_security_policy(styles(), scripts),
        data=encode(data),
        version=clean(version, 40),
    )


def _page(
    page: Page, tr: Translator, figures: list[dict[str, Any]], media: dict[str, int]
) -> dict[str, Any]:
    """Give a page for the template; its figures and media go to what both languages share."""

    def draw(figure: Figure) -> int:
        figures.append(
            {"data": figure.traces, "layout": dict(figure.layout), "height": figure.height}
        )
        return len(figures) - 1

    def hold(uri: str) -> tuple[int, str] | None:
        return (media.setdefault(uri, len(media)), uri) if uri else None

    return {
        "tr": tr,
        "title": clean(page.title, 200),
        "question": clean(page.question, 200),
        "headline": clean(page.headline, 300),
        "lead": clean(page.lead, 1000),
        "status": page.status.value,
        "facts": [(clean(name, 100), clean(value, 300)) for name, value in page.facts],
        "sections": [
            {
                "title": clean(section.title, 200),
                "lead": clean(section.lead, 1000),
                "notes": [clean(note, 1000) for note in section.notes],
                "blocks": [_block(block, draw, hold, tr) for block in section.blocks],
            }
            for section in page.sections
        ],
    }


def _downloads(page: Page, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Give what stands behind each table and figure, in the order in which they stand."""
    found: list[dict[str, Any]] = []
    names: Counter[str] = Counter()
    for section, drawn in zip(page.sections, shown["sections"], strict=True):
        slug = re.sub(r"[^a-z0-9]+", "-", section.title.lower()).strip("-")[:60]
        for block, view in zip(section.blocks, drawn["blocks"], strict=True):
            if not isinstance(block, Table | Figure):
                continue
            names[slug] += 1
            one: dict[str, Any] = {"name": slug + (f"-{names[slug]}" if names[slug] > 1 else "")}
            if isinstance(block, Figure):
                one["figure"] = view["index"]
            else:
                one["columns"] = [clean(c, 100) for c in block.columns]
                one["rows"] = [[_raw(c) for c in row] for row in block.rows[:DOWNLOADED_ROWS]]
            found.append(one)
    return found


def _raw(cell: Cell) -> str | float | int | None:
    value = cell.value if isinstance(cell, Status | Written) else cell
    if isinstance(value, str):
        return clean(value, 2000)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _block(block: Block, draw: Any, hold: Any, tr: Translator) -> dict[str, Any]:
    if isinstance(block, Figure):
        return {"kind": "figure", "index": draw(block), "height": block.height}
    if isinstance(block, Samples):
        return {
            "kind": "samples",
            "paired": any(len(several) > 1 for several, _ in block.items),
            "items": [
                ([_shown(one, hold) for one in several], clean(text, 200))
                for several, text in block.items
            ],
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
        "long": any(_width(cell["text"]) > _LONG for row in rows for cell in row),
        "columns": [
            (clean(c, 100), bool(numeric) and numeric[k]) for k, c in enumerate(block.columns)
        ],
        "rows": rows,
        "left_out": max(0, total - len(rows)),
        "total": total,
        "shown": len(rows),
    }


def _width(text: str) -> int:
    return len(text) + sum(unicodedata.east_asian_width(char) in "WF" for char in text)


def _shown(one: Shown, hold: Any) -> dict[str, Any]:
    return {
        "title": clean(one.title, 60),
        "picture": hold(one.picture),
        "clip": hold(one.clip),
        "text": clean(one.text, 400),
    }


def _cell(cell: Cell, tr: Translator) -> dict[str, Any]:
    shown: dict[str, Any] = {"text": "", "status": None, "number": False}
    if isinstance(cell, Written):
        shown |= {"text": clean(cell.text, 100), "number": True}
    elif isinstance(cell, Status):
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
