"""The page of each metric says what the catalogue, the docstrings and the study of record say."""

from __future__ import annotations

import csv
import importlib.util
import io
import re
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from lxml import html

from benchmarks import record
from evalsuite.metrics.catalogue import METRICS, MetricInfo

ROOT = Path(__file__).parents[2]
INFO = {info.name: info for info in METRICS}


@pytest.fixture(scope="module")
def made() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "metric_pages.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["pages"] = module  # where its dataclasses look it up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(made: ModuleType) -> dict[str, str]:
    return made.pages()


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def committed(name: str) -> list[dict[str, str]]:
    return rows((ROOT / "results" / "record" / name).read_text("utf-8"))


def plain(markdown: str) -> str:
    return html.fromstring(f"<div>{markdown}</div>").text_content()


def squeezed(code: str) -> str:
    return re.sub(r"\s", "", code).replace(",)", ")")


def inlined(code: str) -> str:
    """Put what a first line calls "found" back to where it is used."""
    if match := re.search(r"found = (.*?\n\))\nvalue = float\(found(.*)\)", code, re.DOTALL):
        return match[1] + match[2]
    return code


# ---- what is committed ---------------------------------------------------------------------------


def test_every_metric_has_a_page_that_says_what_the_catalogue_says(pages: dict[str, str]) -> None:
    assert set(pages) == {f"each-metric/{name}.md" for name in (*INFO, "index")}
    index = plain(pages["each-metric/index.md"])
    for info in METRICS:
        text = plain(pages[f"each-metric/{info.name}.md"])
        for said in (info.question, info.formula, info.interval, info.p_value, info.blind_to,
                     info.reference):  # fmt: skip
            assert said.replace("`", "") in text.replace("`", ""), (info.name, said)
        code = text.split("```python")[1].split("```")[0]
        assert squeezed(info.call) in squeezed(inlined(code)), info.name
        assert f"]({info.name}.md)" in index
        assert info.question in index


def test_every_page_is_in_the_navigation_once(made: ModuleType, pages: dict[str, str]) -> None:
    first, *groups = made.navigation()
    listed = [first] + [name for group in groups for names in group.values() for name in names]
    assert sorted(listed) == sorted(pages)


def test_metrics_without_figures_say_so_and_why(made: ModuleType, pages: dict[str, str]) -> None:
    measured = {row["metric"] for row in committed("curves.csv")}
    without = set(INFO) - measured
    assert without == set(made.UNMEASURED)
    for name in INFO:
        text = pages[f"each-metric/{name}.md"]
        assert ("The study of record has no figures of it. " in text) == (name in without)
        assert ("<svg" in text) == (name not in without)
    for name, why in made.UNMEASURED.items():
        assert why in pages[f"each-metric/{name}.md"]


def test_curves_and_verdicts_are_of_the_same_study(made: ModuleType) -> None:
    values, verdicts = committed("curves.csv"), committed("summary.csv")
    assert (ROOT / "results" / "record" / "curves.csv").stat().st_size < 1.5e6
    judged = {made._key(row): row for row in verdicts}
    largest: dict[tuple[str, ...], int] = {}
    for key in judged:
        largest[key[:-1]] = max(largest.get(key[:-1], 0), int(key[-1]))
    drawn = {made._key(row) for row in values}
    assert {(*head, str(n)) for head, n in largest.items()} <= drawn
    for row in values:
        assert float(row["least"]) <= float(row["mean"]) <= float(row["most"])
        assert float(row["null_5"]) <= float(row["null_50"]) <= float(row["null_95"])


def test_blind_spots_of_three_metrics_are_those_of_the_table(pages: dict[str, str]) -> None:
    """Counted from summary.csv by other means than the pages'."""
    table = committed("summary.csv")
    for name, source, encoder, n in (
        ("frechet_distance", "cells", "efficientnet_lite0", "100"),
        ("recall", "speech", "ge2e", "30"),
        ("near_duplicate_share", "cells", "efficientnet_lite0", "50"),
    ):
        mine = [
            r for r in table
            if (r["metric"], r["source"], r["encoder"], r["n"]) == (name, source, encoder, n)
            and r["family"] in ("image corruptions", "sound damages")
        ]  # fmt: skip
        last = {r["damage"]: float(r["found_at_5"] or r["found_at_4"]) for r in mine}
        found = sum(rate >= 0.8 for rate in last.values())
        line = next(
            line for line in plain(pages[f"each-metric/{name}.md"]).splitlines()
            if line.startswith(f"| {mine[0]['family']} | {source}, {encoder}, n = {n} |")
        )  # fmt: skip
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[2] == f"{found} of {len(mine)}"
        lost = {damage.replace("_", " ") for damage, rate in last.items() if rate < 0.8}
        named = {name.strip() for name in re.findall(r"([\w ]+?) \(", cells[3])}
        assert named == ({"all"} if len(lost) == len(mine) else lost)


# ---- a study made by hand ------------------------------------------------------------------------


def journal(path: Path, metric: str = "kid") -> record.Journal:
    """Values that anybody can check: the mean at level x is 10 x, of two draws one apart."""
    book = record.Journal(path / "journal.csv")
    for k in range(40):
        book.add(("cells", "distances", "lite", "null", 0, 50, k), {metric: k / 39})
        book.add(("cells", "distances", "lite", "alarm", 0, 50, k), {metric: 0.5})
    for k, off in enumerate((-0.5, 0.5)):
        book.add(("cells", "distances", "lite", "none", 0, 50, k), {metric: off})
        for level in range(1, 6):
            unit = ("cells", "distances", "lite", "fog", level, 50, k)
            book.add(unit, {metric: 10.0 * level + off})
    return book


def test_a_journals_values_come_out_as_they_went_in(tmp_path: Path) -> None:
    book = journal(tmp_path)
    # A smaller size of the same is not drawn, and a level that nothing was measured at is left out.
    for k in range(40):
        book.add(("cells", "distances", "lite", "null", 0, 20, k), {"kid": 7.0})
        book.add(("cells", "distances", "lite", "alarm", 0, 20, k), {"kid": 7.0})
    book.add(("cells", "distances", "lite", "fog", 1, 20, 0), {"kid": 7.0})
    book.add(("cells", "distances", "lite", "jpeg", 1, 50, 0), {"kid": float("nan")})
    # A third undamaged set, where the time was over before the damaged ones.
    book.add(("cells", "distances", "lite", "none", 0, 50, 2), {"kid": 1000.0})
    found = rows(record.curves_csv(book))
    fog = [r for r in found if r["damage"] == "fog"]
    assert {r["n"] for r in found} == {"50"}
    assert [int(r["level"]) for r in fog] == [0, 1, 2, 3, 4, 5]
    assert [float(r["mean"]) for r in fog] == [0, 10, 20, 30, 40, 50]
    assert [float(r["least"]) for r in fog] == [-0.5, 9.5, 19.5, 29.5, 39.5, 49.5]
    assert [float(r["most"]) for r in fog] == [0.5, 10.5, 20.5, 30.5, 40.5, 50.5]
    assert {r["draws"] for r in fog} == {"2"}
    # 0 to 1 evenly: the quantiles are the shares.
    assert {(r["null_5"], r["null_50"], r["null_95"]) for r in fog} == {("0.05", "0.5", "0.95")}
    assert [r["level"] for r in found if r["damage"] == "jpeg"] == ["0"]


def drawn(made: ModuleType, book: record.Journal, info: MetricInfo = INFO["kid"]) -> str:
    judged = rows(record.summary_csv(record.rows_of(book)))
    return made.pages([info], rows(record.curves_csv(book)), judged)[
        f"each-metric/{made.slug(info)}.md"
    ]


def test_a_curve_is_drawn_where_its_values_are(made: ModuleType, tmp_path: Path) -> None:
    (svg,) = html.fromstring(drawn(made, journal(tmp_path))).xpath("//svg")
    left, top, width, height = made.LEFT, made.TOP, made.WIDTH, made.HEIGHT

    def y(value: float) -> float:  # the axis goes from the least value, -0.5, to the most, 50.5
        return top + height * (50.5 - value) / 51

    (mean,) = svg.xpath(".//polyline/@points")
    points = np.array([[float(v) for v in pair.split(",")] for pair in mean.split()])
    assert points[:, 0] == pytest.approx([left + width * x / 5 for x in range(6)], abs=0.06)
    assert points[:, 1] == pytest.approx([y(10 * x) for x in range(6)], abs=0.06)
    (band,) = svg.xpath(".//rect")
    assert float(band.get("y")) == pytest.approx(y(0.95), abs=0.06)
    assert float(band.get("height")) == pytest.approx(y(0.05) - y(0.95), abs=0.11)
    (around,) = svg.xpath(".//polygon/@points")
    edge = [float(pair.split(",")[1]) for pair in around.split()]
    assert edge[:6] == pytest.approx([y(10 * x + 0.5) for x in range(6)], abs=0.06)
    assert edge[6:] == pytest.approx([y(10 * x - 0.5) for x in range(5, -1, -1)], abs=0.06)
    # 10 and more are above all real sets; nothing is told of the undamaged one.
    assert [c.get("class") for c in svg.xpath(".//circle")] == ["missed"] + ["found"] * 5
    (told,) = svg.xpath("./title/text()")
    assert told == ("fog: from 0 to 50; real sets 0.05 to 0.95; found at level 1, 2, 3, 4, 5")
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == told
    assert "more than chance" not in drawn(made, journal(tmp_path / ".."))


def test_blind_spots_come_from_the_numbers(made: ModuleType, tmp_path: Path) -> None:
    book = journal(tmp_path)
    for k in range(2):
        for level in range(1, 6):
            # Better than any real set, the more so the worse it is.
            unit = ("cells", "distances", "lite", "copied samples", level, 50, k)
            book.add(unit, {"kid": -float(level)})
        book.add(("cells", "distances", "lite", "copied samples", 0, 50, k), {"kid": 0.0})
        # Seen in one of two draws; there are three real sets of 40 as high in the other.
        book.add(("cells", "distances", "lite", "jpeg", 1, 50, k), {"kid": 5.0 if k else 0.95})
        book.add(("cells", "distances", "lite", "jpeg", 2, 50, k), {"kid": 6.0 if k else 0.95})
    text = plain(drawn(made, book))
    assert "| image corruptions | cells, lite, n = 50 | 1 of 2 | jpeg (50 %) | – |" in text
    copied = "cells, lite, n = 50 (0 %) | cells, lite, n = 50 (−1.00) |"
    assert f"| copied samples | cells, lite, n = 50 | 0 of 1 | {copied}" in text
    assert "Worse sets look better to it" in text
    assert "copied samples (cells, lite, n = 50: −1.00)" in text
    assert "0 % (cells, lite, n = 50)" in text
    # The direction of the metric turns everything round.
    other = replace(INFO["kid"], direction="higher")
    assert "higher" in plain(drawn(made, journal(tmp_path / "2"), other))


def test_alarms_beyond_chance_are_said(made: ModuleType, tmp_path: Path) -> None:
    book = record.Journal(tmp_path / "journal.csv")
    for unit, values in journal(tmp_path / "1").values.items():
        high = unit[3] == "alarm" and unit[6] < 8
        book.add(unit, {"kid": 2.0} if high else values)
    assert "20 % (cells, lite, n = 50, **more than chance**)" in drawn(made, book)


def test_a_metric_without_data_says_so(made: ModuleType) -> None:
    text = made.pages([INFO["kid"]], [], [])["each-metric/kid.md"]
    assert "The study of record has no figures of it." in text
    assert "<svg" not in text
    assert "says of itself" in text
    assert "| Better | lower, best 0 |" in text


def test_names_and_words_are_escaped(made: ModuleType, tmp_path: Path) -> None:
    bad = "<img src=x onerror=alert(1)> | `a` [b](c) *d*"
    book = record.Journal(tmp_path / "journal.csv")
    for unit, values in journal(tmp_path / "1").values.items():
        source, plan, _, damage, *rest = unit
        book.add((source, plan, bad, bad if damage == "fog" else damage, *rest), values)
    info = replace(INFO["kid"], blind_to=bad, question=bad, reference=bad, unit=bad, formula=bad)
    text = drawn(made, book, info)
    tree = html.fromstring(text)
    assert not tree.xpath("//img")
    assert "<img" not in text
    assert "[b](c)" not in re.sub(r"<svg.*?</svg>|<figcaption>.*?</figcaption>", "", text)
    for line in text.splitlines():
        if line.startswith("| Formula"):
            assert line.count("|") == 3
    assert bad.replace("`", "") in tree.text_content().replace("`", "")
