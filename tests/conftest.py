"""What tests of several parts share: one browser for the whole run."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
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
