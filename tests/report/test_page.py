"""The page that comparisons, audits, histories, studies and corrections are made of."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.gate.findings import Status
from evalsuite.report.page import (
    Figure,
    Page,
    Samples,
    Section,
    Shown,
    Table,
    Written,
    plain,
    render_page,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evalsuite.report.i18n import Translator

pytestmark = pytest.mark.browser
PHONE = {"width": 390, "height": 844}
PHONE_TURNED = {"width": 844, "height": 390}
HOSTILE = '=HYPERLINK("http://evil.test")<img src=x onerror="document.title=1">'
DOT = "data:image/gif;base64,R0lGODlhAQABAAAAACw="
OTHER = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


def told(tr: Translator) -> Page:
    ja = tr.lang == "ja"
    return Page(
        title="見本" if ja else "Specimen",
        question="これは何ですか?" if ja else "What is this?",
        headline="表と図" if ja else "Tables and figures",
        lead="",
        status=Status.WARN,
        facts=[("名前" if ja else "Name", HOSTILE)],
        sections=[
            Section(
                "数値" if ja else "Some numbers!",
                blocks=[
                    Table(
                        ["名前" if ja else "name", HOSTILE, "p"],
                        [
                            [HOSTILE, 1 / 3, Written(2e-5, "< 0.001")],
                            ["  -2+3", math.nan, Written(None, "–")],
                            ["plain, with a comma", 10**400, Status.FAIL],
                        ],
                    ),
                    Table(["n"], [[k] for k in range(600)], total=700),
                    Figure(
                        [
                            {
                                "type": "scatter", "mode": "markers", "name": plain("a <b> & c"),
                                "x": [1, 2], "y": [0.5, 0.25],
                                "text": [plain("<i>first"), "second"],
                                "error_y": {"type": "data", "symmetric": False,
                                            "array": [0.1, 0.2], "arrayminus": [0.3, 0.05]},
                            },
                            {"type": "scatter", "name": "none", "x": [3], "y": [None]},
                        ],
                        {},
                        260,
                    ),
                ],
            ),
            Section(
                "サンプル" if ja else "Samples",
                blocks=[
                    Samples(
                        [((Shown(DOT, title="前" if ja else "before"),
                           Shown(OTHER, text=HOSTILE, title="後" if ja else "after")), HOSTILE)]
                    ),
                    Samples([((Shown(DOT),), "again")]),
                ],
            ),
        ],
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "page.html"
    path.write_text(render_page(told, name="specimen", version="1"), "utf-8")
    return path


def test_tables_can_be_taken_away_with_all_digits_and_no_formula(
    file: Path, visit: Callable[..., Any]
) -> None:
    page = visit(file, accept_downloads=True)

    def take(index: int, kind: str) -> tuple[str, str]:
        with page.expect_download() as info:
            page.click(f"[data-download='{index}'][data-format={kind}]")
        return info.value.suggested_filename, info.value.path().read_text("utf-8-sig")

    page.click("[data-lang=ja]")  # programs get the same columns in any language
    name, text = take(0, "csv")
    assert name == "evalsuite-specimen-some-numbers.csv"
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["name", "'" + HOSTILE, "p"]
    assert rows[1][0] == "'" + HOSTILE
    assert float(rows[1][1]) == 1 / 3
    assert float(rows[1][2]) == 2e-5
    assert rows[2][0].lstrip("' ") == "-2+3"
    assert rows[2][0].startswith("'")
    assert rows[2][1:] == ["", ""]
    assert rows[3][0] == "plain, with a comma"
    assert rows[3][2] == "fail"
    assert not [c for row in rows for c in row if c.lstrip(" ")[:1] in {"=", "+", "-", "@"}]
    # A table shows 500 rows, and gives more.
    assert page.locator("tbody").nth(1).locator("tr").count() == 500
    name, text = take(1, "json")
    assert name == "evalsuite-specimen-some-numbers-2.json"
    assert json.loads(text) == {"columns": ["n"], "rows": [[k] for k in range(600)]}


def test_figures_give_their_points_and_intervals(file: Path, visit: Callable[..., Any]) -> None:
    page = visit(file, accept_downloads=True)
    with page.expect_download() as info:
        page.click("[data-download='2'][data-format=csv]")
    rows = list(csv.DictReader(io.StringIO(info.value.path().read_text("utf-8-sig"))))
    assert list(rows[0]) == ["series", "x", "y", "y_low", "y_high", "text"]
    assert [rows[0][k] for k in ("series", "x", "y", "text")] == [
        "a <b> & c",
        "1",
        "0.5",
        "<i>first",
    ]
    assert [float(rows[1][k]) for k in ("y_low", "y_high")] == pytest.approx([0.2, 0.45])
    assert rows[2]["series"] == "none"
    assert rows[2]["y"] == ""


def test_the_language_can_be_switched_and_back(file: Path, visit: Callable[..., Any]) -> None:
    page = visit(file)
    sources = "images => images.map(i => [i.src, i.naturalWidth > 0])"
    first = page.locator("main img").evaluate_all(sources)
    assert [s for s, _ in first] == [DOT, OTHER, DOT]
    for lang, title, headline in (
        ("ja", "見本", "表と図"),
        ("en", "Specimen", "Tables and figures"),
    ):
        page.click(f"[data-lang={lang}]")
        assert page.title() == title
        assert page.evaluate("document.documentElement.lang") == lang
        assert page.locator("h1").inner_text() == headline
        assert page.locator("h1").count() == 1
        assert page.locator("[data-lang][aria-pressed=true]").get_attribute("data-lang") == lang
        assert page.locator("[data-figure] .main-svg").count() > 0
        for _ in range(200):  # pictures are decoded after they are in the page
            if page.locator("main img").evaluate_all(sources) == first:
                break
            page.wait_for_timeout(50)
        assert page.locator("main img").evaluate_all(sources) == first


def test_a_picture_is_in_the_page_once(file: Path) -> None:
    text = file.read_text("utf-8")
    # Twice among the samples of the page that it opens in, and not again for the other language.
    assert text.count(DOT) == 2
    assert text.count(OTHER) == 1


def test_figures_keep_their_height_when_a_phone_is_turned(
    file: Path, visit: Callable[..., Any]
) -> None:
    page = visit(file, PHONE, has_touch=True, is_mobile=True)
    height = (
        "(() => { const box = document.querySelector('[data-figure]');"
        " return [box.clientHeight, Number(box.querySelector('.main-svg').getAttribute('height'))]"
        "; })()"
    )
    before = page.evaluate(height)
    assert before[1] == 260
    for size in (PHONE_TURNED, PHONE):
        page.set_viewport_size(size)
        page.wait_for_timeout(400)  # plotly follows after a moment
        assert page.evaluate(height) == before


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_phone_never_scrolls_sideways(file: Path, visit: Callable[..., Any], lang: str) -> None:
    page = visit(file, PHONE, has_touch=True, is_mobile=True)
    page.click(f"[data-lang={lang}]")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator("main img[src^='http'], main script, main a[href^=javascript]").count() == 0
