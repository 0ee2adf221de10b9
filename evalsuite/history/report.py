"""The page of a series: verdicts, stages, trends with their bands, waivers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import DataError
from ..gate.findings import Status
from ..report.i18n import Translator
from ..report.page import Cell, Figure, Page, Section, Table, Written, plain, render_page
from ..report.render import write_atomically
from ..report.text import clean, number, p_value
from .stages import judge_stages, waived_verdict
from .trend import trends

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from ..gate.waivers import Waiver
    from .stages import Stages, StageState
    from .store import FindingRow, History, ReasonRow, RunRow
    from .trend import Trend

DRAWN = 24
"""At most so many trends are drawn; the table has all."""
ALPHA = 0.05


def write_history(
    history: History,
    out: str | Path,
    *,
    series: str | None = None,
    metric: str | None = None,
    stages: Stages | None = None,
    waivers: Sequence[Waiver] = (),
    today: date,
    lang: str = "en",
) -> Path:
    """Write the page of a series.

    Parameters
    ----------
    history : History
    out : path
        The HTML file.
    series : str, optional
        May be left out where there is only one.
    metric : str, optional
        Only this metric's trends.
    stages : Stages, optional
    waivers : sequence of Waiver
    today : date
        For the waivers.
    lang : {"en", "ja"}

    Returns
    -------
    Path

    Raises
    ------
    DataError
        If there is no run, or the file cannot be written.
    UsageError
        If it is not clear which series is meant.
    """
    name = history.choose(series)
    runs = history.runs(name)
    findings = history.findings(runs)
    page = render_history(
        runs,
        findings,
        reasons=history.reasons(runs[-1]),
        metric=metric,
        stages=stages,
        waivers=waivers,
        today=today,
        lang=lang,
    )
    file = Path(out)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, page.encode())
    except OSError as error:
        raise DataError(f"cannot write the page {file}: {error.strerror}") from None
    return file


def render_history(
    runs: Sequence[RunRow],
    findings: Sequence[FindingRow],
    *,
    reasons: Sequence[ReasonRow],
    metric: str | None = None,
    stages: Stages | None = None,
    waivers: Sequence[Waiver] = (),
    today: date,
    lang: str = "en",
) -> str:
    """Give the page of the runs of one series, the oldest first."""
    moved = trends(runs, [f for f in findings if metric in (None, f.metric)])

    def page(tr: Translator) -> Page:
        return _page(runs, findings, reasons, moved, stages, waivers, today, tr)

    return render_page(page, name="history", version=__version__, lang=lang)


def _page(
    runs: Sequence[RunRow],
    findings: Sequence[FindingRow],
    reasons: Sequence[ReasonRow],
    moved: Sequence[Trend],
    stages: Stages | None,
    waivers: Sequence[Waiver],
    today: date,
    tr: Translator,
) -> Page:
    latest = runs[-1]
    verdict, waived = waived_verdict(latest.verdict, reasons, waivers, today=today)
    batches = [[f for f in findings if f.run == run.id] for run in runs]
    states = judge_stages(stages, batches, waivers, today=today) if stages else ()
    reached = [s.stage.name for s in states if s.status in (Status.PASS, Status.WARN)]
    told = tr.t(f"lead.{verdict.value}")
    if waived:
        was = tr.t(f"status.{latest.verdict.value}")
        told += " " + tr.t("history.waived", {"n": waived, "was": was})
    sections = []
    if states:
        sections.append(_stages(states, tr))
    sections += [_changes(moved, tr), _trends(moved, tr)]
    if waivers:
        sections.append(_waivers(waivers, findings, latest, today, tr))
    sections.append(_runs(runs, tr))
    facts = [
        (tr.t("history.series"), latest.series),
        (tr.t("history.runs"), str(len(runs))),
        (tr.t("history.latest"), latest.began),
    ]
    if stages is not None:
        facts.append((tr.t("history.stage"), reached[-1] if reached else tr.t("none")))
    return Page(
        title=tr.t("history.title"),
        question=tr.t("history.question"),
        headline=_headline(moved, tr),
        lead=told,
        status=verdict,
        facts=facts,
        sections=sections,
    )


def _significant(trend: Trend) -> bool:
    d = trend.delta
    return d is not None and d.same_weights and d.p_adjusted <= ALPHA


def _headline(moved: Sequence[Trend], tr: Translator) -> str:
    wider = sum(_significant(t) and t.delta is not None and t.delta.change > 0 for t in moved)
    closer = sum(_significant(t) and t.delta is not None and t.delta.change < 0 for t in moved)
    if not any(t.delta for t in moved):
        return tr.t("history.headline.first")
    if not wider and not closer:
        return tr.t("history.headline.same")
    return tr.t("history.headline", {"wider": wider, "closer": closer})


def _name(trend: Trend, tr: Translator) -> str:
    f = trend.points[-1][1]
    name = tr.metric(f.metric)
    name += f" · {clean(f.encoder, 40)}" if f.encoder else ""
    return name + ("" if f.slice == "all" else f" · {clean(f.slice, 60)}")


def _changes(moved: Sequence[Trend], tr: Translator) -> Section:
    rows: list[list[Cell]] = []
    for trend in moved:
        run, f = trend.points[-1]
        d = trend.delta
        notes = []
        if d is not None and not d.same_real:
            notes.append(tr.t("history.other_real"))
        if d is not None and not d.same_weights:
            notes.append(tr.t("history.other_weights"))
        if _significant(trend) and d is not None:
            notes.insert(0, tr.t("history.wider" if d.change > 0 else "history.closer"))
        rows.append(
            [
                _name(trend, tr),
                f.status,
                f.gap,
                f.gap_low,
                f.gap_high,
                f.tolerance,
                d.change if d else None,
                Written(d.p_adjusted, p_value(d.p_adjusted)) if d else None,
                "; ".join(notes),
                run.began,
            ]
        )
    names = ("metric", "status", "gap", "low", "high", "tolerance", "change", "p", "note", "run")
    head = [tr.t(f"history.col.{name}") for name in names]
    return Section(
        tr.t("history.changes"), tr.t("history.changes.lead"), [Table(head, rows)],
    )  # fmt: skip


def _trends(moved: Sequence[Trend], tr: Translator) -> Section:
    long = sorted(moved, key=lambda t: (not _significant(t), -len(t.points), t.key))
    figures = [_figure(t, tr) for t in long[:DRAWN]]
    left = len(moved) - len(figures)
    notes = [tr.t("history.drawn", {"shown": len(figures), "total": len(moved)})] if left else []
    return Section(tr.t("history.trends"), tr.t("history.trends.lead"), figures, notes)


def _figure(trend: Trend, tr: Translator) -> Figure:
    # By order, not by date: two runs of one second would lie on each other.
    places = list(range(len(trend.points)))
    gaps = [f.gap for _, f in trend.points]
    low = [f.gap if f.gap_low is None else f.gap_low for _, f in trend.points]
    high = [f.gap if f.gap_high is None else f.gap_high for _, f in trend.points]
    told = [
        plain(f"{run.began} {run.synthetic}: {number(f.gap)} [{number(f.gap_low)}, "
              f"{number(f.gap_high)}]", 160)
        for run, f in trend.points
    ]  # fmt: skip
    band = {"x": places, "mode": "lines", "line": {"width": 0}, "hoverinfo": "skip"}
    traces: list[dict[str, Any]] = [
        {"type": "scatter", "name": "low", "y": low, "showlegend": False, **band},
        {"type": "scatter", "name": "high", "y": high, "fill": "tonexty",
         "fillcolor": "--band", "showlegend": False, **band},
        {"type": "scatter", "name": "gap", "x": places, "y": gaps, "mode": "lines+markers",
         "text": told,
         "hoverinfo": "text", "showlegend": False,
         "line": {"color": "--synthetic"}, "marker": {"size": 8, "color": "--synthetic"}},
    ]  # fmt: skip
    allowed = [f.tolerance for _, f in trend.points]
    if any(t is not None for t in allowed):
        traces.append(
            {"type": "scatter", "name": "tolerance", "x": places, "y": allowed, "mode": "lines",
             "showlegend": False, "hoverinfo": "skip",
             "line": {"color": "--fail", "dash": "dot", "shape": "hv"}}
        )  # fmt: skip
    return Figure(
        traces,
        {
            "title": {"text": plain(_name(trend, tr), 120), "font": {"size": 14}, "x": 0},
            "margin": {"l": 10, "r": 16, "t": 36, "b": 40},
            "xaxis": {"tickvals": places, "ticktext": [f"{k + 1}" for k in places],
                      "range": [-0.4, len(places) - 0.6]},
            "yaxis": {"title": {"text": plain(tr.get(
                f"term.{trend.points[-1][1].gap_unit}", trend.points[-1][1].gap_unit), 60)}},
        },
        height=260,
    )  # fmt: skip


def _stages(states: Sequence[StageState], tr: Translator) -> Section:
    rows: list[list[Cell]] = []
    for state in states:
        rows.append(
            [state.stage.name, state.status, tr.t("history.in_a_row"),
             f"{state.in_a_row} / {state.stage.batches}", None, None, ""]
        )  # fmt: skip
        for t in state.targets:
            note = ""
            if t.status is Status.ERROR:
                note = tr.t("history.missing")
            elif t.waiver is not None:
                note = tr.t(
                    "history.waiver",
                    {"reason": t.waiver.reason, "until": t.waiver.expires.isoformat()},
                )
            name = tr.metric(t.target.metric)
            rows.append(["", t.status, name, "", t.gap, t.target.max_gap, note])
    names = ("stage", "status", "metric", "batches", "gap", "limit", "note")
    head = [tr.t(f"history.col.{name}") for name in names]
    return Section(tr.t("history.stages"), tr.t("history.stages.lead"), [Table(head, rows)])


def _waivers(
    waivers: Sequence[Waiver],
    findings: Sequence[FindingRow],
    latest: RunRow,
    today: date,
    tr: Translator,
) -> Section:
    keys = [f.key for f in findings if f.run == latest.id]
    rows: list[list[Cell]] = []
    for w in sorted(waivers, key=lambda w: w.expires):
        if today > w.expires:
            state = "expired"
        else:
            state = "holds" if any(w.holds(key, today) for key in keys) else "unused"
        told = tr.t(f"history.waiver.{state}")
        rows.append([w.finding, told, w.expires.isoformat(), w.owner, w.reason])
    names = ("finding", "state", "until", "owner", "reason")
    head = [tr.t(f"history.col.{name}") for name in names]
    return Section(tr.t("history.waivers"), tr.t("history.waivers.lead"), [Table(head, rows)])


def _runs(runs: Sequence[RunRow], tr: Translator) -> Section:
    rows: list[list[Cell]] = [
        [run.began, run.verdict, run.synthetic, run.real, run.policy, run.policy_sha256[:12],
         run.result]
        for run in reversed(runs)
    ]  # fmt: skip
    names = ("run", "status", "synthetic", "real", "policy", "sha", "result")
    head = [tr.t(f"history.col.{name}") for name in names]
    return Section(tr.t("history.all_runs"), "", [Table(head, rows)])
