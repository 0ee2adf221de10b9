"""The table of docs/metrics.md says what the catalogue says."""

from __future__ import annotations

from pathlib import Path

from evalsuite.metrics.catalogue import METRICS

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_table_lists_every_metric_as_the_catalogue_does() -> None:
    section = PAGE.read_text("utf-8").split("\n## All numbers\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == [m.name for m in METRICS]
    for row, m in zip(rows, METRICS, strict=True):
        _, function, answers, direction, span, best, unit, interval, blind, _, least, source = row
        assert function == f"`{m.function}`"
        assert (answers, direction, unit, interval, blind, source) == (
            m.question, m.direction, m.unit, m.interval, m.blind_to, m.reference,
        )  # fmt: skip
        assert best == ("" if m.best is None else f"{m.best:g}")
        assert int(least) == m.min_n
        ends = span.replace("−", "-").replace("∞", "inf").split(" … ")
        assert float(ends[0]) == (float("-inf") if m.low is None else m.low)
        assert ends[1] == "n" or float(ends[1]) == (float("inf") if m.high is None else m.high)
