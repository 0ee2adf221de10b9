"""What tests of several parts share: one browser for the whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def find_chromium() -> str:
    """Find an installed Chromium or Chrome, or fail with what to do."""
    named = os.environ.get("EVALSUITE_CHROMIUM")
    if named:
        if not Path(named).is_file():
            pytest.fail(f"EVALSUITE_CHROMIUM is {named!r}, which is no file", pytrace=False)
        return named
    for name in ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"):
        path = shutil.which(name)
        if path:
            return path
    pytest.fail(
        "no Chromium or Chrome found: install Debian's package (apt-get install chromium), or set "
        "EVALSUITE_CHROMIUM to a browser's path",
        pytrace=False,
    )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """Give a running headless browser: playwright allows only one in a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking",
                  "--disable-component-update", "--disable-sync", "--no-first-run",
                  "--autoplay-policy=no-user-gesture-required"],
        )  # fmt: skip
        yield browser
        browser.close()


# Every element's text against what lies behind it, as WCAG 2.1 defines contrast.
CONTRAST = """() => {
  const rgb = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { v: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
  const light = (v) => { const [r, g, b] = v.map((x) => { x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const b = rgb(getComputedStyle(e).backgroundColor); if (b.a > 0.99) return b.v; } return [255, 255, 255]; };
  const bad = [];
  for (const e of document.querySelectorAll("body *")) {
    if (e.closest("svg, script, style, noscript, .plot, .hidden, .skip, option, button:disabled")) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    const s = getComputedStyle(e);
    const [a, b] = [light(rgb(s.color).v), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.66 && Number(s.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) bad.push([e.tagName, e.className, e.textContent.slice(0, 40), ratio.toFixed(2)]);
  }
  return bad;
}"""  # noqa: E501


@pytest.fixture(scope="session")
def unreadable() -> Callable[[Any], list[Any]]:
    """Name the texts of an open page that lack contrast."""
    return lambda page: page.evaluate(CONTRAST)


DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a file with the network cut; in the end it must have kept to itself."""
    opened: list[tuple[Any, str, list[str], list[str]]] = []

    def go(file: Path, size: dict[str, int] = DESKTOP, **options: Any) -> Any:
        context = chromium.new_context(viewport=size, offline=True, **options)
        asked: list[str] = []
        said: list[str] = []
        opened.append((context, file.as_uri(), asked, said))
        page = context.new_page()
        page.on("request", lambda r: asked.append(r.url))
        page.on("console", lambda m: said.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: said.append(f"error: {e}"))
        page.on("dialog", lambda d: (said.append(f"dialog: {d.message}"), d.dismiss()))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', "
            "e => console.log('violates', e.violatedDirective, e.blockedURI))"
        )
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
        return page

    try:
        yield go
        for _, address, asked, said in opened:
            assert [u for u in asked if not u.startswith(("data:", "blob:"))] == [address]
            assert said == []
    finally:
        for context, *_ in opened:
            context.close()
