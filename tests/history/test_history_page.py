"""The page of a series in a real browser."""

from __future__ import annotations

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
