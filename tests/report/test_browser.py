"""The page in a real browser: it opens from a file, loads nothing, and does what it offers."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.report import render_html, write_outputs
from evalsuite.report.i18n import Translator, catalogue
from evalsuite.report.text import number, p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from evalsuite.gate.findings import GateResult

pytestmark = pytest.mark.browser

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


class Opened:
    """A page, with everything that it did which it should not have done."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda r: self.requests.append(r.url))
        page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.complaints.append(f"error: {e}"))
        page.on("dialog", self._dialog)
        page.add_init_script(
            "addEventListener('securitypolicyviolation', "
            "e => console.log('violates', e.violatedDirective, e.blockedURI))"
        )

    def _dialog(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def check(self, file: Path) -> None:
        loaded = [url for url in self.requests if not url.startswith(("data:", "blob:"))]
        assert loaded == [file.as_uri()]
        assert self.complaints == []


@pytest.fixture(scope="module")
def reports(
    tmp_path_factory: pytest.TempPathFactory,
    make_result: Callable[..., GateResult],
    make_thumbnails: Callable[..., Any],
) -> Callable[..., tuple[GateResult, Path]]:
    """Give a written report; the same one is written once."""
    made: dict[str, tuple[GateResult, Path]] = {}

    def report(kind: str = "fail", lang: str = "en", **options: Any) -> tuple[GateResult, Path]:
        name = json.dumps([kind, lang, options], sort_keys=True)
        if name not in made:
            result = make_result(kind, **options)
            out = tmp_path_factory.mktemp("report")
            thumbnails = make_thumbnails(result)
            made[name] = result, write_outputs(result, out, thumbnails=thumbnails, lang=lang)[1]
        return made[name]

    return report


@contextlib.contextmanager
def opened(
    chromium: Any, file: Path, size: dict[str, int] = DESKTOP, **options: Any
) -> Iterator[Opened]:
    """Open a report with the network cut, and check in the end that it kept to itself."""
    context = chromium.new_context(viewport=size, offline=True, **options)
    try:
        view = Opened(context.new_page())
        view.page.goto(file.as_uri())
        view.page.wait_for_selector("html[data-ready=yes]", timeout=30_000)
        yield view
        view.check(file)
    finally:
        context.close()


def until(page: Any, script: str) -> None:
    """Wait until an expression holds; the page's policy forbids playwright's own way, an eval."""
    for _ in range(200):
        if page.evaluate(script):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {script}")


def names(page: Any) -> list[str]:
    return page.locator("tr.row .c-metric").evaluate_all(
        "cells => cells.map(c => c.firstChild.textContent)"
    )


def test_it_answers_first_and_keeps_to_itself(chromium: Any, reports: Any) -> None:
    _, file = reports()
    with opened(chromium, file) as view:
        page = view.page
        assert page.locator("h1").inner_text() == "No, not as it is"
        assert page.locator("h1").bounding_box()["y"] < 300
        for plot in ("#plot-tolerance", "#plot-chance", "#plot-map"):
            assert page.locator(f"{plot} .main-svg").count() > 0
        until(page, "document.querySelectorAll('.attribute .main-svg').length >= 6")
        assert page.locator("text=Sharpness is much lower in the synthetic set").count() == 1
        assert page.locator("tr.row").count() == 16
        shown = page.locator("tr.row .toggle").all_inner_texts()
        assert [word.split()[0] for word in shown] == ["Fail"] * 7 + ["Pass"] + ["Info"] * 8


def test_the_figures_draw_the_numbers(chromium: Any, reports: Any) -> None:
    result, file = reports()
    read = "id => document.getElementById(id).data.map(({x, y, base}) => ({x, y, base}))"
    with opened(chromium, file) as view:
        page = view.page
        judged = sorted(
            (f for f in result.findings if f.tolerance and f.kind == "distribution"),
            key=lambda f: f.gap / f.tolerance,
        )
        bars, smallest = page.evaluate(read, "plot-tolerance")
        assert bars["x"] == pytest.approx([f.gap / f.tolerance for f in judged], rel=1e-3)
        assert smallest["x"] == pytest.approx([0.45] * len(judged), rel=1e-3)
        whiskers = page.evaluate("document.getElementById('plot-tolerance').data[0].error_x.array")
        assert whiskers == pytest.approx([0.18] * len(judged), rel=1e-2)
        band, spots = page.evaluate(read, "plot-chance")
        for f, base, length, spot in zip(judged, band["base"], band["x"], spots["x"], strict=True):
            worse, better = f.floor.q95, f.floor.q05
            if f.higher_is_better:
                worse, better = better, worse
            reach = worse - f.floor.median
            assert base == pytest.approx((better - f.floor.median) / reach, rel=1e-2)
            assert base + length == pytest.approx(1)
            assert spot == pytest.approx((f.matched - f.floor.median) / reach, rel=1e-2)
        page.wait_for_selector("#plot-attribute-0 .main-svg", state="attached")
        assert (
            page.locator("#attribute-cards .attribute").first.get_attribute("data-attribute")
            == "sharpness"
        )
        curves = page.evaluate(read, "plot-attribute-0")
        for curve, side in zip(curves, ("real", "synthetic"), strict=True):
            step = curve["x"][1] - curve["x"][0]
            bins = zip(curve["x"], curve["y"][:-1], strict=False)
            centre = sum((x + step / 2) * y for x, y in bins)
            values = result.attributes["sharpness"][side]
            assert centre * step == pytest.approx(sum(values) / len(values), rel=0.01)


def test_chance_power_training_and_chain_are_drawn(chromium: Any, reports: Any) -> None:
    result, file = reports(labelled=True)
    with opened(chromium, file) as view:
        page = view.page
        judged = [f for f in result.findings if f.tolerance and f.null is not None]
        cards = page.locator("[data-null]")
        assert cards.count() == len(judged) == 6
        for f in judged:
            card = page.locator(f"[data-null={f.metric}]")
            assert "499 shuffles" in card.inner_text()
            # The line stands where the observed value lies among the permuted ones.
            low, high = min(*f.null.values, f.null.observed), max(*f.null.values, f.null.observed)
            x = float(card.locator("line.this").get_attribute("x1") or "nan")
            assert x == pytest.approx(4 + 292 * (f.null.observed - low) / (high - low), abs=1)
        lines = page.evaluate(
            "document.getElementById('plot-power').data.map(({x, y}) => ({x, y}))"
        )
        by_gap = sorted(judged, key=lambda f: -f.gap / f.tolerance)
        for f, line, dot in zip(by_gap, lines[::2], lines[1::2], strict=True):
            assert dot["x"] == [400]
            assert dot["y"] == pytest.approx([f.min_detectable_gap / f.tolerance], rel=1e-3)
            at = dict(zip(line["x"], line["y"], strict=True))
            assert at[1600] == pytest.approx(dot["y"][0] / 2, rel=1e-6)  # four times n, half of it
        # 0.45 of the tolerance at 400: half of it takes 400 × (0.45 / 0.5)² = 324.
        needed = page.locator("#power-sheet tbody td:last-child").all_inner_texts()
        assert needed == ["324"] * 6
        curve = page.evaluate("document.getElementById('plot-learning-0').data[2].y")
        assert curve == [0.0, 0.02, 0.03, 0.035, 0.04]
        assert "74%" in page.locator("#learning").inner_text()
        hops = page.evaluate("document.getElementById('plot-chain').data[0].y")
        assert hops == [1, 0.9, 0.6]
        assert page.locator("[data-hop=audio]").inner_text().split() == (
            ["sound", "lost", "here", "0.3", "(0.25", "to", "0.35)"]
        )


def test_figures_keep_their_height_when_the_window_changes(chromium: Any, reports: Any) -> None:
    _, file = reports(labelled=True)
    heights = (
        "[...document.querySelectorAll('.plot')].map(e => "
        "Math.round(e.getBoundingClientRect().height) - "
        "Number(e.querySelector('.main-svg')?.getAttribute('height') ?? NaN))"
    )
    with opened(chromium, file) as view:
        until(view.page, f"{heights}.every(d => d === 0)")
        for size in (PHONE, DESKTOP):
            view.page.set_viewport_size(size)
            # Plotly follows after a moment; a box without a height of its own is then empty.
            view.page.wait_for_timeout(400)
            until(view.page, f"{heights}.every(d => d === 0)")


def test_findings_can_be_filtered_sorted_and_opened(chromium: Any, reports: Any) -> None:
    result, file = reports()
    with opened(chromium, file) as view:
        page = view.page
        said = page.locator("#f-count")
        assert said.inner_text() == "16 of 16 findings"

        page.fill("#f-search", "mmd efficientnet")
        until(page, "document.querySelectorAll('tr.row').length === 1")
        assert names(page) == ["MMD (RBF kernel)"]
        page.fill("#f-search", "no such thing")
        page.wait_for_selector("td.empty")
        page.click("button[type=reset]")
        until(page, "document.querySelectorAll('tr.row').length === 16")

        page.select_option("#f-status", label="Pass")
        assert said.inner_text() == "1 of 16 findings"
        page.select_option("#f-status", label="any")
        page.select_option("#f-kind", label="Attribute")
        assert len(names(page)) == 6
        page.click("button[type=reset]")
        page.click("a[data-count=fail]")
        until(page, "document.querySelectorAll('tr.row').length === 7")
        page.click("button[type=reset]")
        until(page, "document.querySelectorAll('tr.row').length === 16")

        page.click("[data-sort=metric]")
        assert names(page) == sorted(names(page), key=str.casefold)
        assert page.locator("th.c-metric").get_attribute("aria-sort") == "ascending"
        page.keyboard.press("Enter")  # the focus stays on the heading
        assert names(page) == sorted(names(page), key=str.casefold, reverse=True)
        page.click("[data-sort=value]")
        shown = page.locator("tr.row td.c-value").evaluate_all(
            "cells => cells.map(c => c.firstChild.textContent)"
        )
        values = sorted(f.value for f in result.findings)
        assert shown == [number(v) for v in values]

        page.click("[data-finding]")
        row = page.locator("tr.row.open")
        assert row.count() == 1
        assert row.locator(".toggle").get_attribute("aria-expanded") == "true"
        detail = page.locator("tr.detail")
        words = " ".join(detail.inner_text().split())
        worst = result.findings[0]
        text = Translator("en")
        assert text.message(result.reasons[0].message) in words
        for key in (".means", ".blind"):
            assert text.t(f"metric.{worst.metric}{key}") in words
        assert f"{number(worst.floor.median)}, 90 % within" in words
        assert p_value(worst.p_adjusted) in words
        assert detail.locator("svg.strip circle").count() == len(worst.floor.values)
        page.keyboard.press("Enter")
        assert page.locator("tr.detail").count() == 0


def test_a_point_of_the_map_shows_its_sample(chromium: Any, reports: Any) -> None:
    result, file = reports()
    with opened(chromium, file) as view:
        page = view.page
        page.locator("#plot-map").scroll_into_view_if_needed()
        card = page.locator("#map-card")
        spots = page.locator("#plot-map .scatterlayer .trace").nth(1).locator("path.point")
        assert spots.count() > 100
        seen = set()
        for i in (3, 40, 90):
            box = spots.nth(i).bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            page.wait_for_timeout(150)
            name = card.locator("h3").inner_text()
            source = card.locator("img").get_attribute("src")
            assert source.startswith("data:image/jpeg;base64,")
            assert card.locator("img").evaluate("i => i.complete && i.naturalWidth") == 64
            point = next(p for p in result.maps[0].points if p.sample == name)
            assert point.label in card.inner_text()
            assert point.group in card.inner_text()
            seen.add(name)
        assert len(seen) == 3

        drawn = "() => document.querySelectorAll('#plot-map .scatterlayer path.point').length"
        everything = page.evaluate(drawn)
        page.uncheck("#m-real")
        until(page, f"({drawn})() < {everything}")
        assert page.evaluate(drawn) == 401  # 400 and the ring around the one that is shown
        assert "synthetic" in card.locator(".side").inner_text()
        page.check("#m-outliers")
        odd = sum(p.side == "synthetic" and p.covered is False for p in result.maps[0].points)
        until(page, f"({drawn})() === {odd + 1}")
        assert "It lies off the real data" in card.inner_text()
        page.uncheck("#m-outliers")
        page.select_option("#m-label", label="mono")
        mono = sum(p.side == "synthetic" and p.label == "mono" for p in result.maps[0].points)
        until(page, f"({drawn})() === {mono + 1}")

        page.focus("#plot-map")
        first = card.locator("h3").inner_text()
        page.keyboard.press("ArrowRight")
        until(page, f"document.querySelector('#map-card h3').innerText !== {json.dumps(first)}")


def test_the_language_can_be_switched(chromium: Any, reports: Any) -> None:
    result, file = reports()
    with opened(chromium, file) as view:
        page = view.page
        page.click("[data-lang=ja]")
        table = catalogue("ja")
        assert page.locator("h1").inner_text() == table["headline.fail"]
        assert page.evaluate("document.documentElement.lang") == "ja"
        assert table["status.fail"] in page.title()
        reason = page.locator(".reasons li").first.inner_text()
        assert Translator("ja").message(result.reasons[0].message) in " ".join(reason.split())
        assert names(page)[0] == table["metric.frechet_distance"]
        # all fixed text: nothing in the page still says what only the English catalogue says
        page.click("tr.row .toggle >> nth=0")
        left = page.evaluate("document.querySelector('main').innerText")
        english = {
            v for k, v in catalogue("en").items()
            if len(v) > 24 and "{" not in v and v != table[k]
        }  # fmt: skip
        assert [v for v in english if v in left] == []
        page.click("[data-lang=en]")
        assert page.locator("h1").inner_text() == "No, not as it is"
        assert "{" not in page.evaluate("document.querySelector('main').innerText")


def test_every_section_switches_its_language(chromium: Any, reports: Any) -> None:
    """Once two functions of the script had one name, and the switch ended in an error."""
    _, file = reports("fail", labelled=True)
    keys = ("gaps", "nulls", "power", "attributes", "learning", "chain", "map", "galleries")
    with opened(chromium, file) as view:
        for lang in ("ja", "en", "ja"):
            view.page.click(f"[data-lang={lang}]")
            titles = view.page.locator("h2").all_inner_texts()
            assert {catalogue(lang)[f"{key}.title"] for key in keys} <= set(titles)
            # The figures too: their axes are the last that the switch draws anew.
            axis = "document.getElementById('plot-power').layout.xaxis.title.text"
            assert view.page.evaluate(axis) == catalogue(lang)["power.axis.n"]


def test_python_and_the_page_write_the_same_text(chromium: Any, reports: Any) -> None:
    """What Jinja wrote in Japanese is what the script writes when it switches to it."""
    _, file = reports("inconclusive", "ja")
    with opened(chromium, file) as view:
        page = view.page
        read = "[...document.querySelectorAll('[data-t], [data-m]')].map((e) => e.textContent)"
        first = page.evaluate(read)
        page.click("[data-lang=en]")
        assert page.evaluate(read) != first
        page.click("[data-lang=ja]")
        assert page.evaluate(read) == first


def test_numbers_are_the_same_in_both(chromium: Any, make_result: Any, tmp_path: Path) -> None:
    values = [
        0.1,
        1.125,
        2.5,
        999.4,
        999.96,
        1234.5,
        1e6,
        0.00099999,
        1.2e-4,
        -4.56e-9,
        1.2e17,
        5e14,
    ]
    result = make_result("pass", points=20)
    findings = tuple(
        result.findings[0].model_copy(
            update={"value": v, "p_adjusted": min(1, abs(v)), "slice": str(i)}
        )
        for i, v in enumerate(values)
    )
    file = write_outputs(result.model_copy(update={"findings": findings}), tmp_path)[1]
    with opened(chromium, file) as view:
        view.page.click("[data-sort=slice]")
        cells = "cells => cells.map(c => c.firstChild.textContent)"
        shown = view.page.locator("tr.row td.c-value").evaluate_all(cells)
        assert shown == [number(v) for v in values]
        chances = view.page.locator("tr.row td.c-p").evaluate_all(cells)
        assert chances == [p_value(min(1, abs(v))) for v in values]


def test_the_data_can_be_taken_away(chromium: Any, reports: Any) -> None:
    result, file = reports("fail", hostile=True, labelled=True)
    with opened(chromium, file, accept_downloads=True) as view:
        page = view.page

        def take(figure: str, kind: str) -> str:
            with page.expect_download() as info:
                page.click(f"[data-download={figure}][data-format={kind}]")
            assert info.value.suggested_filename.endswith(f"-{figure}.{kind}")
            return str(info.value.path().read_text("utf-8-sig"))

        rows = list(csv.DictReader(io.StringIO(take("findings", "csv"))))
        assert len(rows) == len(result.findings)
        assert rows[0]["metric"] == "frechet_distance"
        assert float(rows[0]["gap"]) == pytest.approx(result.findings[0].gap, rel=1e-4)
        assert not [v for row in rows for v in row.values() if v.startswith(("=", "+", "@"))]
        assert any(row["metric"].startswith("'=HYPERLINK") for row in rows)
        points = json.loads(take("map", "json"))["rows"]
        assert len(points) == len(result.maps[0].points)
        assert points[5]["x"] == pytest.approx(result.maps[0].points[5].x, rel=1e-4)
        pairs = json.loads(take("galleries", "json"))["rows"]
        assert {row["gallery"] for row in pairs} == {g.id for g in result.galleries}
        gaps = json.loads(take("gaps", "json"))["rows"]
        assert gaps[0]["floor_q95"] == pytest.approx(result.findings[0].floor.q95, rel=1e-4)
        nulls = list(csv.DictReader(io.StringIO(take("nulls", "csv"))))
        assert len(nulls) == sum(len(f.null.values) + 1 for f in result.findings
                                 if f.null and f.tolerance)  # fmt: skip
        assert json.loads(take("power", "json"))["rows"][0]["n"] == 400
        assert json.loads(take("learning", "json"))["rows"][-1]["added"] == 400
        assert [r["hop"] for r in json.loads(take("chain", "json"))["rows"]] == ["text", "audio"]
        values = list(csv.DictReader(io.StringIO(take("attributes", "csv"))))
        assert len(values) == sum(len(v) for a in result.attributes.values() for v in a.values())
        assert take("map", "svg").startswith("<svg")


def test_the_command_can_be_copied(chromium: Any, reports: Any) -> None:
    result, file = reports()
    grants = {"permissions": ["clipboard-read", "clipboard-write"]}
    with opened(chromium, file, **grants) as view:
        view.page.click("#copy")
        until(view.page, "document.querySelector('#copy').innerText === 'Copied'")
        assert view.page.evaluate("navigator.clipboard.readText()") == result.command


def test_the_map_shows_texts_and_plays_recordings(
    chromium: Any, make_result: Any, tmp_path: Path
) -> None:
    """On a phone too: the player once made the page wider than the screen."""
    import numpy as np
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros(8000), 16000, format="OGG", subtype="VORBIS")
    result = make_result("fail", points=40)
    (shown,) = result.maps
    points = tuple(p.model_copy(update={"text": f"<b>{p.sample}"}) for p in shown.points)
    items = tuple(i.model_copy(update={"percentile": 2.5}) for i in result.galleries[1].items)
    result = result.model_copy(
        update={
            "maps": (shown.model_copy(update={"points": points}),),
            "galleries": (result.galleries[1].model_copy(update={"items": items}),),
        }
    )
    clips = {(i.side, i.sample): buffer.getvalue() for i in items}
    file = write_outputs(result, tmp_path, clips=clips)[1]
    with opened(chromium, file, PHONE) as view:
        page = view.page
        card = page.locator("#map-card")
        page.focus("#plot-map")
        for _ in range(60):
            if card.locator("audio").count():
                break
            page.keyboard.press("ArrowRight")
        assert str(card.locator("audio").get_attribute("src")).startswith("data:audio/ogg")
        assert card.locator("q.said").inner_text() == "<b>" + card.locator("h3").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert "percentile 2.5" in page.locator(".shot figcaption").first.inner_text()
        page.select_option("#f-modality", label="images")
        found = sum(f.modality == "image" for f in result.findings)
        assert page.locator("#f-count").inner_text().startswith(f"{found} of")


def test_galleries_show_pairs_side_by_side(chromium: Any, reports: Any) -> None:
    result, file = reports("fail", hostile=True)
    with opened(chromium, file) as view:
        pair = view.page.locator("[data-gallery=nearest_real_neighbour] .shot").first
        left, right = (pair.locator("img").nth(i).bounding_box() for i in (0, 1))
        assert left["y"] == right["y"]
        assert left["x"] + left["width"] <= right["x"]
        card = pair.bounding_box()
        assert right["x"] + right["width"] <= card["x"] + card["width"]
        assert result.galleries[1].items[0].partner in pair.locator(".who").nth(1).get_attribute(
            "title"
        )
        gallery = view.page.locator("[data-gallery=most_synthetic_looking]")
        assert gallery.locator(".shot").count() == 12
        gallery.locator("button").click()
        assert gallery.locator(".shot").count() == 24
        broken = "images => images.filter(i => !(i.complete && i.naturalWidth)).length"
        assert view.page.locator("main img").evaluate_all(broken) == 0


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_a_phone_never_scrolls_sideways(chromium: Any, reports: Any, lang: str) -> None:
    _, file = reports("fail", lang, hostile=True)
    with opened(chromium, file, PHONE, has_touch=True, is_mobile=True) as view:
        page = view.page
        page.click("tr.row .toggle >> nth=8")
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        outside = page.evaluate(
            """() => [...document.querySelectorAll('main *')].filter((e) => {
              const r = e.getBoundingClientRect();
              // These scroll by themselves.
              const cut = '.sections, thead, svg, .plot, .who bdi, .sheet';
              return r.width && r.right > 391 && !e.closest(cut);
            }).map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert outside == []
        small = page.evaluate(
            """() => [...document.querySelectorAll('button, select, input')].filter((e) => {
              const r = e.getBoundingClientRect();
              return r.width && r.height && (r.height < 24) && e.type !== 'checkbox';
            }).map((e) => e.outerHTML.slice(0, 100))"""
        )
        assert small == []


@pytest.mark.parametrize("kind", ["pass", "warn", "fail", "inconclusive", "error"])
def test_text_can_be_read_by_day_and_by_night(
    chromium: Any, reports: Any, kind: str, unreadable: Any
) -> None:
    _, file = reports(kind, points=60)
    with opened(chromium, file, color_scheme="light") as view:
        view.page.click("tr.row .toggle >> nth=0")
        assert unreadable(view.page) == []
        day = view.page.evaluate("getComputedStyle(document.body).backgroundColor")
        view.page.emulate_media(color_scheme="dark")
        assert view.page.evaluate("getComputedStyle(document.body).backgroundColor") != day
        assert unreadable(view.page) == []


def test_hostile_text_does_nothing(chromium: Any, reports: Any) -> None:
    _, file = reports("fail", hostile=True)
    with opened(chromium, file) as view:
        page = view.page
        for i in range(6, 17):
            page.locator("tr.row .toggle").nth(i).click()
        assert page.locator("tr.detail").count() == 11
        page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        page.locator("#map").scroll_into_view_if_needed()
        page.focus("#plot-map")
        for _ in range(20):
            page.keyboard.press("ArrowRight")
        for button in page.locator(".gallery > button").all():
            button.click()
        spots = page.locator(
            "#plot-tolerance .barlayer path, #plot-chance .scatterlayer path.point"
        )
        for spot in spots.all()[::4]:
            spot.hover(force=True)
        until(page, "document.querySelectorAll('.attribute .main-svg').length >= 7")
        page.click("[data-lang=ja]")
        page.wait_for_timeout(300)
        assert "pwned" not in page.title()
        assert page.locator("main img:not([src^='data:image/jpeg'])").count() == 0
        assert (
            page.locator("main script, main iframe, main a[href^=javascript], main object").count()
            == 0
        )
        assert page.locator(".plot a, .plot b, .plot image[href^=http]").count() == 0
        handlers = (
            "nodes => nodes.filter(n => [...n.attributes].some(a => /^on/.test(a.name))).length"
        )
        assert page.locator("*").evaluate_all(handlers) == 0


def test_a_hundred_thousand_findings_do_no_harm(
    chromium: Any, make_result: Any, tmp_path: Path
) -> None:
    result = make_result("fail", points=40, extra_findings=100_000)
    file = tmp_path / "report.html"
    file.write_text(render_html(result, ident="many"), "utf-8")
    assert file.stat().st_size < 15_000_000
    total = len(result.findings)
    with opened(chromium, file) as view:
        page = view.page
        assert f"{total:,}" in page.locator("#f-count").inner_text()
        assert page.locator("tr.row").count() == 30
        data = "JSON.parse(document.getElementById('data').textContent)"
        held = page.evaluate(f"{data}.findings.columns.status.length")
        if held < total:
            assert (
                f"{held:,} of {total:,} findings are in this page"
                in page.locator(".notes").inner_text()
            )
        assert held > 50_000
        assert page.evaluate("document.querySelectorAll('*').length") < 8_000
        page.fill("#f-search", "class 00042 coverage")
        until(page, "document.querySelectorAll('tr.row').length === 1")
        page.fill("#f-search", "")
        until(page, "document.querySelectorAll('tr.row').length === 30")
        page.click("[data-sort=share]")
        page.click("#f-next")
        page.select_option("#f-status", label="Fail")
        until(page, "document.querySelectorAll('tr.row').length > 0")


def test_every_section_is_there_when_printed(chromium: Any, reports: Any) -> None:
    _, file = reports()
    with opened(chromium, file) as view:
        page = view.page
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.locator(".attribute .main-svg").count() >= 6
        assert not page.locator(".filters").first.is_visible()
        assert page.locator("#provenance").is_visible()


def test_the_verdict_stands_without_a_script(chromium: Any, reports: Any) -> None:
    _, file = reports()
    context = chromium.new_context(viewport=PHONE, offline=True, java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(file.as_uri())
        assert page.locator("h1").is_visible()
        assert page.locator(".reasons li").first.is_visible()
        assert page.locator("#command").is_visible()
        assert not page.locator("#findings").is_visible()
    finally:
        context.close()
