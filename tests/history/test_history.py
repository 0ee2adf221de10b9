"""The database, changes against closed forms, stages, waivers, and the page."""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from evalsuite.errors import DataError, PolicyError, UsageError
from evalsuite.gate.findings import Status
from evalsuite.gate.waivers import load_waivers
from evalsuite.history.report import render_history, write_history
from evalsuite.history.stages import judge_stages, load_stages, waived_verdict
from evalsuite.history.store import History
from evalsuite.history.trend import trends
from evalsuite.report.render import write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TODAY = date(2026, 11, 20)
STAGES = """
version: 1
stages:
  - name: proof of concept
    targets: [{metric: kid, max_gap: 0.3}]
  - name: pilot
    batches: 2
    targets: [{metric: kid, max_gap: 0.15}, {metric: coverage, max_gap: 0.2}]
  - name: production
    targets: [{metric: kid, max_gap: 0.05}, {metric: coverage, max_gap: 0.1}]
"""


@pytest.fixture
def history(tmp_path: Path, make: Callable[..., Any]) -> History:
    store = History(tmp_path / "h.sqlite", create=True)
    for batch, (kid, coverage) in enumerate([(0.4, 0.3), (0.11, 0.11), (0.10, 0.12)], 1):
        assert store.add(make(batch, {"kid": kid, "coverage": coverage}))
    return store


def batches(store: History) -> list[list[Any]]:
    runs = store.runs("line 4")
    found = store.findings(runs)
    return [[f for f in found if f.run == run.id] for run in runs]


def test_a_run_is_recorded_once_and_read_back(history: History, make: Callable[..., Any]) -> None:
    assert not history.add(make(2, {"kid": 0.11, "coverage": 0.11}))
    assert history.add(make(2, {"kid": 0.11, "coverage": 0.11}), series="other")
    assert history.series() == {"line 4": 3, "other": 1}
    runs = History(history.path).runs("line 4")
    assert [r.began[:10] for r in runs] == ["2026-11-01", "2026-11-02", "2026-11-03"]
    assert [r.verdict for r in runs] == [Status.FAIL, Status.INCONCLUSIVE, Status.FAIL]
    kid = history.findings(runs, "kid")
    assert [f.gap for f in kid] == [0.4, 0.11, 0.10]
    assert kid[0].standard_error == 0.01
    assert kid[0].weights == "ab" * 32
    with pytest.raises(UsageError, match="choose one with --series"):
        history.choose(None)


def test_runs_added_late_stand_in_their_place(tmp_path: Path, make: Callable[..., Any]) -> None:
    store = History(tmp_path / "h.sqlite", create=True)
    for batch in (3, 1, 2):
        store.add(make(batch, {"kid": batch / 10}))
    assert [f.gap for f in store.findings(store.runs("line 4"))] == [0.1, 0.2, 0.3]


def test_jobs_may_add_at_the_same_time(tmp_path: Path, make: Callable[..., Any]) -> None:
    path = tmp_path / "h.sqlite"

    def job(batch: int) -> bool:
        return History(path, create=True).add(make(batch, {"kid": 0.1}))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(job, range(1, 25)))
    assert len(History(path).runs("line 4")) == 24


def test_a_file_that_is_no_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no history"):
        History(tmp_path / "none.sqlite")
    (tmp_path / "text").write_text("no database at all, but long enough to be one " * 20)
    with pytest.raises(DataError, match="not a database"):
        History(tmp_path / "text", create=True)
    with sqlite3.connect(tmp_path / "other") as other:
        other.execute("CREATE TABLE t (x)")
    with pytest.raises(DataError, match="no history of evalsuite"):
        History(tmp_path / "other", create=True)
    History(tmp_path / "newer", create=True)
    with sqlite3.connect(tmp_path / "newer") as newer:
        newer.execute("PRAGMA user_version = 2")
    with pytest.raises(DataError, match="has version 2"):
        History(tmp_path / "newer")


def test_a_change_is_tested_by_both_errors_and_holm(history: History) -> None:
    runs = history.runs("line 4")
    found = {t.points[-1][1].metric: t.delta for t in trends(runs, history.findings(runs))}
    kid, coverage = found["kid"], found["coverage"]
    assert kid is not None and coverage is not None  # noqa: PT018
    raw = 2 * stats.norm.sf(0.01 / math.hypot(0.01, 0.01))
    assert kid.change == pytest.approx(-0.01)
    assert kid.p == pytest.approx(raw)
    assert kid.p_adjusted == pytest.approx(min(1, 2 * raw))
    assert coverage.change == pytest.approx(0.01)
    first = trends(runs[:2], [f for f in history.findings(runs) if f.run != runs[2].id])
    assert all(t.delta is not None and t.delta.p_adjusted < 1e-9 for t in first)
    alone = trends(runs[:1], [f for f in history.findings(runs) if f.run == runs[0].id])
    assert [t.delta for t in alone] == [None, None]


def test_no_change_is_rarely_called_one(tmp_path: Path, make: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    store = History(tmp_path / "h.sqlite", create=True)
    names = [f"m{k}" for k in range(200)]
    for batch in (1, 2):
        noise = rng.normal(0.2, 0.01, len(names))
        store.add(make(batch, dict(zip(names, noise.tolist(), strict=True))))
    runs = store.runs("line 4")
    deltas = [t.delta for t in trends(runs, store.findings(runs))]
    share = np.mean([d is not None and d.p < 0.05 for d in deltas])
    assert 0.01 < share < 0.10
    assert not any(d is not None and d.p_adjusted < 0.01 for d in deltas)


def test_other_real_data_and_other_weights_are_told(
    tmp_path: Path, make: Callable[..., Any]
) -> None:
    store = History(tmp_path / "h.sqlite", create=True)
    store.add(make(1, {"kid": 0.1}))
    store.add(make(2, {"kid": 0.4}, real="8e", weights="cd"))
    runs = store.runs("line 4")
    (trend,) = trends(runs, store.findings(runs))
    assert trend.delta is not None
    assert (trend.delta.same_real, trend.delta.same_weights) == (False, False)
    page = render_history(runs, store.findings(runs), reasons=store.reasons(runs[-1]), today=TODAY)
    # A time is one word, as a number is: broken at its hyphens it pushed the table's end away.
    assert f'<td class="num"><bdi>{runs[-1].began}</bdi></td>' in page
    assert "other weights: not comparable" in page
    assert "No change beyond chance" in page  # gaps of other weights are never called a change


def test_stages_are_reached_in_order_and_in_a_row(history: History, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STAGES)
    stages = load_stages(tmp_path / "s.yaml")
    found = judge_stages(stages, batches(history), today=TODAY)
    assert [s.status for s in found] == [Status.PASS, Status.PASS, Status.FAIL]
    assert [s.in_a_row for s in found] == [2, 2, 0]
    short = judge_stages(stages, batches(history)[:2], today=TODAY)
    assert [s.status for s in short[:2]] == [Status.PASS, Status.INCONCLUSIVE]
    missing = judge_stages(stages, [[f for f in batches(history)[2] if f.metric == "kid"]],
                           today=TODAY)  # fmt: skip
    assert missing[1].status is Status.ERROR


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (STAGES.replace("max_gap: 0.05", "max_gap: 0.2"), "a later stage is no looser"),
        (STAGES.replace(", {metric: coverage, max_gap: 0.1}", ""), "asks for no less"),
        (STAGES.replace("max_gap: 0.3", "max: 0.3"), "max_gap: Field required"),
        (STAGES.replace("pilot", "production"), "the same name"),
        (STAGES.replace("0.15", ".nan"), "finite"),
    ],
)
def test_stages_that_make_no_sense_are_refused(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(PolicyError, match=told):
        load_stages(tmp_path / "s.yaml")


def waive(tmp_path: Path, finding: str, expires: str) -> Any:
    (tmp_path / "w.yaml").write_text(
        f"waivers:\n  - {{finding: '{finding}', expires: {expires}, owner: QA, "
        "reason: camera is being replaced}\n"
    )
    return load_waivers(tmp_path / "w.yaml")


def test_a_waiver_holds_until_its_last_day_and_no_longer(history: History, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(STAGES)
    stages = load_stages(tmp_path / "s.yaml")
    run = history.runs("line 4")[-1]
    reasons = history.reasons(run)
    assert [r.status for r in reasons] == [Status.FAIL, Status.INCONCLUSIVE]
    both = waive(tmp_path, "image/*/*/all", "2026-11-20")
    assert waived_verdict(run.verdict, reasons, both, today=TODAY) == (Status.WARN, 2)
    assert waived_verdict(run.verdict, reasons, both, today=date(2026, 11, 21)) == (Status.FAIL, 0)
    one = waive(tmp_path, "image/*/coverage/all", "2026-12-31")
    assert waived_verdict(run.verdict, reasons, one, today=TODAY) == (Status.INCONCLUSIVE, 1)
    states = judge_stages(stages, batches(history), both, today=TODAY)
    assert states[2].status is Status.WARN
    late = judge_stages(stages, batches(history), both, today=date(2026, 11, 21))
    assert late[2].status is Status.FAIL
    page = render_history(
        history.runs("line 4"), [f for b in batches(history) for f in b], reasons=reasons,
        stages=stages, waivers=both, today=date(2026, 11, 21),
    )  # fmt: skip
    assert "expired: no effect" in page


@pytest.mark.parametrize(
    "line",
    [
        "{finding: '*/*/*', expires: 2026-12-31, owner: QA, reason: we like it so much}",
        "{finding: image/x/kid/all, expires: 2026-12-31, owner: QA, reason: short}",
        "{finding: image/x/kid/all, owner: QA, reason: camera is being replaced}",
        "{finding: image/x/kid/all, expires: never, owner: QA, reason: camera is being replaced}",
        "{finding: image/x/kid/all, expires: 2026-12-31, reason: camera is being replaced}",
    ],
)
def test_a_waiver_needs_all_that_it_needs(line: str, tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(f"waivers:\n  - {line}\n")
    with pytest.raises(PolicyError, match="no valid file of waivers"):
        load_waivers(tmp_path / "w.yaml")


@pytest.mark.parametrize("lang", ["en", "ja"])
def test_the_page_escapes_and_speaks_both_languages(
    lang: str, tmp_path: Path, make: Callable[..., Any]
) -> None:
    bad = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    store = History(tmp_path / "h.sqlite", create=True)
    for batch in (1, 2):
        store.add(make(batch, {bad: 0.1 * batch, "kid": 0.2}, name=bad), series=bad)
    file = write_history(store, tmp_path / "p" / "h.html", today=TODAY, lang=lang)
    page = file.read_text()
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert ("推移" if lang == "ja" else "Trends") in page
    assert page.count('data-figure="') == 2 * 2  # in each language


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "history", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_the_commands_on_files(tmp_path: Path, make: Callable[..., Any]) -> None:
    for batch, kid in ((1, 0.4), (2, 0.02)):
        write_outputs(make(batch, {"kid": kid}), tmp_path / str(batch))
    (tmp_path / "comparison.json").write_text("{}")
    db = tmp_path / "h.sqlite"
    (tmp_path / "s.yaml").write_text(
        "stages: [{name: pilot, targets: [{metric: kid, max_gap: 0.1}]},"
        " {name: later, batches: 2, targets: [{metric: kid, max_gap: 0.1}]}]"
    )
    done = run("add", tmp_path, "--db", db)  # the folder of a comparison: both of it
    assert (done.returncode, done.stdout.count("recorded")) == (0, 2), done.stderr
    shown = run("show", "--db", db)
    assert "2 runs" in shown.stdout
    assert "change −0.38, adjusted p < 0.001" in shown.stdout
    assert run("page", "--db", db, "--out", tmp_path / "h.html").returncode == 0
    assert "0 wider, 1 closer" in (tmp_path / "h.html").read_text()
    plan = ("check", "--db", db, "--stages", tmp_path / "s.yaml", "--stage")
    assert [run(*plan, s).returncode for s in ("pilot", "later", "none")] == [0, 4, 2]
    assert run("show").returncode == 2
