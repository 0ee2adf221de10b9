"""The page and the JSON of a scored study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..gate.findings import Status
from ..report.i18n import Translator
from ..report.page import Cell, Figure, Page, Section, Table, plain, render_page
from ..report.render import write_files
from ..report.text import clean, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .score import Estimate, StudyResult

OUTPUTS = ("study.json", "study_report.html")
FEW_RATERS = 4
"""With fewer the spread between people is hardly known."""


def write_study_report(result: StudyResult, out: str | Path, *, lang: str = "en") -> list[Path]:
    """Write ``study.json`` and ``study_report.html``.

    Parameters
    ----------
    result : StudyResult
    out : path
        Folder; it is made if it is not there.
    lang : {"en", "ja"}

    Returns
    -------
    list of Path

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    texts = (result.model_dump_json(indent=1) + "\n", render_study_report(result, lang=lang))
    return write_files(Path(out), dict(zip(OUTPUTS, texts, strict=True)))


def render_study_report(result: StudyResult, *, lang: str = "en") -> str:
    """Give the page."""
    return render_page(
        lambda tr: _page(result, tr), name="study", version=result.evalsuite_version, lang=lang
    )


def _page(result: StudyResult, tr: Translator) -> Page:
    sections = [_main(result, tr)]
    if result.strengths or result.strengths_why:
        sections.append(_strengths(result, tr))
    if result.by_label:
        sections.append(_labels(result, tr))
    if result.suspects:
        sections.append(_suspects(result, tr))
    if result.metrics:
        sections.append(_metrics(result, tr))
    sections += [_agreement(result, tr), _raters(result, tr)]
    few = result.kept < FEW_RATERS
    return Page(
        title=tr.t("study.title"),
        question=tr.t(f"study.question.{result.kind}"),
        headline=_headline(result, tr),
        lead=tr.t("study.lead.few" if few else "study.lead", {"n": result.kept}),
        status=Status.INCONCLUSIVE if few else Status.INFO,
        facts=[
            (tr.t("study.raters"), f"{result.kept} / {len(result.raters)}"),
            (tr.t("study.sets"), ", ".join(info.name for info in result.sets)),
            (tr.t("study.agreement"), _text(result.agreement)),
            (tr.t("study.id"), result.study),
        ],
        sections=sections,
    )


def _headline(result: StudyResult, tr: Translator) -> str:
    if result.kind == "ab":
        told = [
            tr.t(
                "study.headline.ab",
                {"first": c.first, "second": c.second, "share": _text(c.estimate)},
            )
            for c in result.contrasts[:3]
        ]
    else:
        told = [f"{clean(s.set, 60)}: {_text(s.estimate)}" for s in result.scores[:4]]
    return " · ".join(told)


def _text(estimate: Estimate) -> str:
    if estimate.value is None or estimate.interval is None:
        return number(estimate.value)
    ends = f"{number(estimate.interval.low)}, {number(estimate.interval.high)}"
    return f"{number(estimate.value)} [{ends}]"


def _row(estimate: Estimate) -> list[Cell]:
    low, high = (
        (None, None)
        if estimate.interval is None
        else (estimate.interval.low, estimate.interval.high)
    )
    return [estimate.value, low, high, estimate.raters, estimate.items, estimate.votes]


def _head(tr: Translator) -> list[str]:
    names = ("value", "low", "high", "raters", "items", "votes")
    return [tr.t(f"study.col.{name}") for name in names]


def _reasons(estimates: Sequence[Estimate], tr: Translator) -> list[str]:
    told = dict.fromkeys(e.why for e in estimates if e.why)
    return [tr.t("study.no_interval", {"why": why}) for why in told]


def _main(result: StudyResult, tr: Translator) -> Section:
    if result.kind == "ab":
        estimates = [c.estimate for c in result.contrasts]
        labels = [f"{c.first} > {c.second}" for c in result.contrasts]
        rows: list[list[Cell]] = [
            [c.first, c.second, *_row(c.estimate), c.ties] for c in result.contrasts
        ]
        head = [
            tr.t("study.col.first"), tr.t("study.col.second"), *_head(tr), tr.t("study.col.ties"),
        ]  # fmt: skip
        blocks: list[Table | Figure] = [Table(head, rows)]
    else:
        estimates = [s.estimate for s in result.scores]
        labels = [s.set for s in result.scores]
        rows = [[s.set, *_row(s.estimate)] for s in result.scores]
        blocks = [Table([tr.t("study.col.set"), *_head(tr)], rows)]
        if result.contrasts:
            rows = [
                [c.first, c.second, *_row(c.estimate)[:3], c.estimate.raters]
                for c in result.contrasts
            ]
            head = [tr.t("study.col.set"), tr.t("study.col.against")]
            head += [tr.t(f"study.col.{n}") for n in ("difference", "low", "high", "raters")]
            blocks.append(Table(head, rows))
            estimates += [c.estimate for c in result.contrasts]
    blocks.insert(0, _whiskers(labels, estimates, result.kind))
    notes = _reasons(estimates, tr)
    if result.abstained:
        notes.append(tr.t("study.abstained", {"n": result.abstained}))
    if result.items_needed is not None and result.precision is not None:
        notes.append(
            tr.t("study.needed", {"n": result.items_needed, "precision": result.precision})
        )
    if result.first_shown is not None:
        notes.append(tr.t("study.first_shown", {"share": _text(result.first_shown)}))
    return Section(
        tr.t(f"study.scores.{result.kind}"),
        tr.t(f"study.scores.{result.kind}.lead"),
        blocks,
        notes,
    )


def _whiskers(labels: Sequence[str], estimates: Sequence[Estimate], kind: str) -> Figure:
    shown = [
        (plain(label), e)
        for label, e in zip(labels, estimates, strict=False)
        if e.value is not None
    ][:60]
    values = [e.value or 0.0 for _, e in shown]
    pairs = list(zip(values, [e.interval for _, e in shown], strict=True))
    low = [v - ci.low if ci else 0.0 for v, ci in pairs]
    high = [ci.high - v if ci else 0.0 for v, ci in pairs]
    ends = [0.8, 5.2] if kind == "mos" else [-0.03, 1.03]
    middle = [] if kind == "mos" else [0.5]
    return Figure(
        [
            {
                "type": "scatter", "mode": "markers", "x": values, "y": [n for n, _ in shown],
                "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                            "thickness": 1.6, "width": 5},
                "marker": {"size": 11, "color": "--synthetic"}, "hoverinfo": "x+y",
            }
        ],
        {
            "xaxis": {"range": ends}, "yaxis": {"type": "category", "autorange": "reversed"},
            "shapes": [
                {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1,
                 "line": {"color": "--soft", "dash": "dot"}} for x in middle
            ],
        },
        height=90 + 44 * max(len(shown), 1),
    )  # fmt: skip


def _strengths(result: StudyResult, tr: Translator) -> Section:
    order = sorted(result.strengths, key=lambda s: -s.win_rate)
    rows: list[list[Cell]] = [
        [s.set, s.win_rate, s.interval.low, s.interval.high, s.strength] for s in order
    ]
    head = [tr.t(f"study.col.{n}") for n in ("set", "win_rate", "low", "high", "strength")]
    notes = [tr.t("study.no_interval", {"why": result.strengths_why})] if not rows else []
    return Section(
        tr.t("study.strengths"),
        tr.t("study.strengths.lead"),
        [Table(head, rows)] if rows else [],
        notes,
    )


def _labels(result: StudyResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = [[s.set, s.label, *_row(s.estimate)] for s in result.by_label]
    head = [tr.t("study.col.set"), tr.t("study.col.label"), *_head(tr)]
    return Section(tr.t("study.by_label"), tr.t("study.by_label.lead"), [Table(head, rows)])


def _suspects(result: StudyResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = [[s.set, s.sample, s.label, s.wrong, s.votes] for s in result.suspects]
    head = [tr.t(f"study.col.{n}") for n in ("set", "sample", "label", "wrong", "votes")]
    return Section(
        tr.t("study.suspects"),
        tr.t("study.suspects.lead"),
        [Table(head, rows, total=result.suspects_total)],
    )


def _metrics(result: StudyResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = [
        [
            m.metric,
            tr.t(f"study.level.{m.level}"),
            tr.t(f"study.kind.{m.kind}"),
            *_row(m.estimate)[:3],
            m.estimate.items,
            m.estimate.why or "",
        ]
        for m in result.metrics
    ]
    names = ("metric", "over", "kind", "value", "low", "high", "n", "note")
    head = [tr.t(f"study.col.{name}") for name in names]
    return Section(tr.t("study.metrics"), tr.t("study.metrics.lead"), [Table(head, rows)])


def _agreement(result: StudyResult, tr: Translator) -> Section:
    scale = tr.t(f"study.scale.{result.agreement_level}")
    notes = _reasons([result.agreement], tr)
    return Section(
        tr.t("study.agreement"),
        tr.t("study.agreement.lead", {"alpha": _text(result.agreement), "scale": scale}),
        notes=notes,
    )


def _raters(result: StudyResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = [
        [
            r.rater,
            tr.t("no" if result.screened and r.reasons else "yes"),
            r.votes,
            f"{r.catch_passed} / {r.catch_shown}",
            r.seconds,
            r.correlation,
            "; ".join(tr.t(f"study.reason.{reason}") for reason in r.reasons),
        ]
        for r in result.raters
    ]
    names = ("rater", "counts", "votes", "catch", "seconds", "correlation", "reasons")
    blocks = [Table([tr.t(f"study.col.{name}") for name in names], rows)]
    if result.refused:
        refused: list[list[Cell]] = [[r.file, r.why] for r in result.refused]
        blocks.append(Table([tr.t("study.col.refused"), tr.t("study.col.why")], refused))
    return Section(tr.t("study.screening"), tr.t("study.screening.lead"), blocks)
