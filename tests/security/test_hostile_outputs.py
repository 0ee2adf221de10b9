"""Hostile text in the outputs that a gate does not write: audits, Parquet, results of others."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from lxml import html
from markdown_it import MarkdownIt

from evalsuite.pipeline.audit import audit
from evalsuite.report import render_html, render_junit, render_markdown
from evalsuite.report.audit import write_audit
from evalsuite.report.text import number, p_value, percent

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1-1",
    "-2+3",
    "[click](javascript:alert(1)) ![x](http://evil.example/p.png)",
    "]]></failure>",
    "\x1b]0;owned\x07\u202egnp.exe",
    "taro@example.jp <b>",
)


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of texts whose names, labels, groups and words are all hostile."""
    folder = tmp_path_factory.mktemp("audited")
    rows = [
        {"id": f"{text} {k}", "text": f"{text} {k % 3}", "label": text, "group": f"{text} {k % 2}"}
        for k, text in enumerate(HOSTILE * 4)
    ]
    (folder / "=1+1 <b>.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = audit(folder / "=1+1 <b>.jsonl", cache=False, progress=False)
    assert len(found.result.checks) > 3
    write_audit(found.result, folder / "out", thumbnails=found.thumbnails)
    return folder / "out"


def test_an_audits_page_and_markdown_hold_no_markup_from_data(audited: Path) -> None:
    shown = MarkdownIt("commonmark", {"html": True}).enable("table")
    pages = [p.read_text("utf-8") for p in audited.glob("*.html")]
    notes = [shown.render(p.read_text("utf-8")) for p in audited.glob("*.md")]
    assert pages
    assert notes
    for text in (*pages, *notes):
        tree = html.fromstring(text)
        assert not tree.xpath("//*[@onerror or @onload]")
        assert not tree.xpath("//img[not(starts-with(@src, 'data:'))]")
        assert not [a for a in tree.xpath("//a/@href") if re.match(r"(?i)\s*javascript:", a)]
        assert not [s for s in tree.xpath("//script/text()") if "alert(1)" in s and "<" in s]
    assert not [t for t in notes if "<script" in t]


def test_no_cell_of_an_audits_table_is_a_formula(audited: Path) -> None:
    files = list(audited.glob("*.csv"))
    assert files
    for file in files:
        for row in csv.reader(io.StringIO(file.read_text("utf-8"))):
            assert not [cell for cell in row if cell[:1] in {"=", "@", "+", "\t", "\r"}]


def test_an_audits_sarif_is_plain_data(audited: Path) -> None:
    for file in audited.glob("*.sarif"):
        for found in json.loads(file.read_text("utf-8"))["runs"][0]["results"]:
            said = json.dumps(found["message"], ensure_ascii=False)
            assert "\x1b" not in said
            assert "\u202e" not in said


def test_a_table_of_findings_holds_only_plain_columns(
    home: Path, cache: Path, guarded: Any, tmp_path: Path
) -> None:
    """Numbers, texts and booleans: nothing that a reader would have to unpickle."""
    done = guarded(
        "-m", "evalsuite.cli", "gate", home / "real", home / "synthetic",
        "--policy", home / "quick.yaml", "--out", "out", cwd=tmp_path, EVALSUITE_CACHE=str(cache),
    )  # fmt: skip
    assert done.code in (0, 1, 4), done.stderr
    table = pq.read_table(tmp_path / "out" / "findings.parquet")
    assert table.num_rows > 0
    plain = re.compile(r"(large_)?(string|list<.*>)|double|float|u?int\d+|bool|null|dictionary.*")
    assert not [str(f.type) for f in table.schema if not plain.match(str(f.type))]
    assert b"pickle" not in str(table.schema.metadata).encode()


@pytest.mark.parametrize("huge", [10**400, -(10**400), 10**5000], ids=["large", "small", "more"])
def test_an_integer_that_no_float_holds_is_shown_as_none(huge: int) -> None:
    """The fuzzer found it in the parameters of a message of somebody else's result."""
    assert number(huge) == percent(huge) == p_value(huge) == "–"


def test_a_result_with_such_an_integer_is_rendered(home: Path, cache: Path, tmp_path: Path) -> None:
    from evalsuite.pipeline.run import run_gate

    result = run_gate(
        home / "real", home / "synthetic", policy=home / "quick.yaml", cache=False, progress=False
    ).result
    reasons = tuple(
        reason.model_copy(
            update={
                "message": reason.message.model_copy(
                    update={"params": dict.fromkeys(reason.message.params, 10**400)}
                )
            }
        )
        for reason in result.reasons
    )
    changed = result.model_copy(update={"reasons": reasons})
    for render in (render_html, render_markdown, render_junit):
        assert render(changed)
