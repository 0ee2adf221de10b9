"""The page of a series in a real browser."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.history.report import write_history
from evalsuite.history.store import History

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"></script><b>"


@pytest.mark.parametrize("width", [1280, 390])
def test_trends_are_drawn_and_nothing_is_loaded(
    width: int, tmp_path: Path, make: Callable[..., Any], chromium: Any
) -> None:
    store = History(tmp_path / "h.sqlite", create=True)
    for batch in range(1, 6):
        gaps = {"kid": 0.3 - 0.05 * batch, HOSTILE: 0.1}
        store.add(make(batch, gaps, name=HOSTILE), series=HOSTILE)
    file = write_history(store, tmp_path / "h.html", today=date(2026, 11, 20))
    requests: list[str] = []
    complaints: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 800})
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: complaints.append(m.text))
    page.on("pageerror", lambda e: complaints.append(str(e)))
    page.goto(file.as_uri())
    page.wait_for_selector("[data-figure] .main-svg")
    assert page.locator("[data-figure]").count() == 2
    assert page.locator("h1").inner_text() == "0 wider, 1 closer"
    assert page.locator("tbody tr").count() == 2 + 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "History"
    page.close()
    assert [u for u in requests if not u.startswith("data:")] == [file.as_uri()]
    assert complaints == []


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("width", [1280, 390])
def test_times_and_notes_are_set_in_lines(
    width: int, lang: str, tmp_path: Path, make: Callable[..., Any], visit: Callable[..., Any]
) -> None:
    """Once a time broke at its hyphens and pushed the table away; notes had one sign to a line."""
    store = History(tmp_path / "h.sqlite", create=True)
    for batch in range(1, 5):
        gaps = {"kid": 0.3 - 0.06 * batch, "coverage": 0.1, "frechet_distance": 0.2}
        store.add(make(batch, gaps), series="cells")
    file = write_history(store, tmp_path / "h.html", today=date(2026, 11, 20), lang=lang)
    page = visit(file, {"width": width, "height": 800})
    lines = """cells => cells.filter(c => c.innerText.trim()).map(c => {
      const range = document.createRange();
      range.selectNodeContents(c);
      const boxes = [...range.getClientRects()].filter(r => r.width);
      return [c.innerText.trim(), new Set(boxes.map(r => Math.round(r.top))).size];
    })"""
    cells = page.locator("main td bdi").evaluate_all(lines)
    times = [n for text, n in cells if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+Z", text)]
    assert len(times) >= 4
    assert set(times) == {1}
    # No text is broken into lines of one or two characters.
    assert [c for c in cells if c[1] > max(1, len(c[0]) / 3)] == []
    if width > 1000:
        sheets = "sheets => sheets.map(s => s.scrollWidth - s.clientWidth)"
        assert max(page.locator(".sheet").evaluate_all(sheets)) == 0
