"""The page of a correction, with its twins for programs: what was wrong, tried, refused and won."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..gate.findings import Status
from ..report.i18n import catalogue
from ..report.page import (
    Cell,
    Figure,
    Link,
    Page,
    Samples,
    Section,
    Shown,
    Table,
    Written,
    plain,
    render_page,
)
from ..report.render import write_files
from ..report.text import number, percent
from ..report.view import data_uri
from .result import Measured, recipe_of, result_json, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..report.i18n import Translator
    from .examples import Preview
    from .result import Comparison, CorrectionResult

_ABOVE = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}
_CUT = 6.0
"""Tolerances up to which the figure is drawn: what decides lies at 1."""
_UNKNOWN = Measured(value=None, floor=None, gap=None)


def write_correction(
    result: CorrectionResult,
    out: Path,
    *,
    changed: Sequence[tuple[Preview, Preview]] = (),
    left_out: Sequence[Preview] = (),
    lang: str = "en",
    redact: bool = False,
) -> list[Path]:
    """Write ``correction.html``, ``correction.json``, ``summary.md`` and, perhaps, ``recipe.yaml``.

    Parameters
    ----------
    result : CorrectionResult
    out : Path
        The folder; it is made if it is not there.
    changed : sequence of (Preview, Preview)
        Samples before and after.
    left_out : sequence of Preview
        Samples that a selection dropped.
    lang : {"en", "ja"}
        The language that the page opens in.
    redact : bool
        Leave samples out of the page.

    Returns
    -------
    list of Path

    Raises
    ------
    DataError
        If the folder cannot be written.
    UsageError
        If there is no such language.
    """
    shown = ((), ()) if redact else (changed, left_out)
    files = {
        "correction.json": result_json(result),
        "correction.html": render_correction(result, *shown, lang=lang, redact=redact),
        "summary.md": summary(result),
    }
    if (recipe := recipe_of(result)) is not None:
        files["recipe.yaml"] = recipe
    return write_files(out, files)


def render_correction(
    result: CorrectionResult,
    changed: Sequence[tuple[Preview, Preview]] = (),
    left_out: Sequence[Preview] = (),
    *,
    lang: str = "en",
    redact: bool = False,
) -> str:
    """Give the page; the parameters are those of :func:`write_correction`."""
    return render_page(
        lambda tr: _page(result, changed, left_out, redact, tr),
        name="correction",
        version=__version__,
        lang=lang,
    )


def _page(
    result: CorrectionResult,
    changed: Sequence[tuple[Preview, Preview]],
    left_out: Sequence[Preview],
    redact: bool,
    tr: Translator,
) -> Page:
    after = result.verdict_after
    # An improved set that the gate still refuses is no pass.
    status = Status.FAIL
    if result.improved:
        status = Status.PASS if after in (Status.PASS, Status.WARN) else Status.WARN
    lead = tr.t(
        "correct.lead" if after else "correct.lead.not_made",
        {"before": result.verdict_before, "after": after or ""},
    )
    found = [
        _reasons(result, tr),
        _gaps(result, tr),
        _drifted(result, tr),
        _tried(result, tr),
        _labels(result, tr),
        _ties(result, tr),
        _examples(changed, left_out, tr),
        _reports(result, tr),
        _again(result, tr),
    ]
    return Page(
        title=tr.t("correct.title"),
        question=tr.t("correct.question"),
        headline=tr.t(f"correct.headline.{'improved' if result.improved else 'not_improved'}"),
        lead=f"{lead} {tr.t('correct.hidden')}" if redact else lead,
        status=status,
        facts=[
            (tr.t("fact.synthetic"), _named(result.names[1], result.n_synthetic, tr)),
            (tr.t("correct.made"), tr.t("correct.n", {"n": result.n_corrected})),
            (tr.t("fact.real"), _named(result.names[0], result.n_real, tr)),
            (
                tr.t("correct.halves"),
                f"{number(result.n_calibration)} / {number(result.n_judge)}",
            ),
            (tr.t("fact.modalities"), tr.place(result.modality)),
            (tr.t("seed"), str(result.seed)),
        ],
        sections=[section for section in found if section is not None],
    )


def _named(name: str, n: int, tr: Translator) -> str:
    return f"{name} ({tr.t('correct.n', {'n': n})})"


def _reasons(result: CorrectionResult, tr: Translator) -> Section:
    status = Status.PASS if result.improved else Status.FAIL
    rows: list[list[Cell]] = [[status, tr.message(reason)] for reason in result.reasons]
    return Section(
        tr.t("correct.reasons"),
        tr.t("correct.reasons.lead"),
        [Table([tr.t("col.status"), tr.t("why")], rows)],
    )


def _name(c: Comparison, tr: Translator) -> str:
    look = f" · {tr.t('correct.second')}" if c.second else ""
    return f"{tr.metric(c.metric)} · {c.encoder}{look}"


def _label(c: Comparison, tr: Translator) -> str:
    """Name it in two lines: a phone has no room for the figure beside one."""
    look = tr.t("correct.second") if c.second else c.encoder
    return f"{plain(tr.metric(c.metric), 40)}<br>{plain(look, 30)}"


def _gaps(result: CorrectionResult, tr: Translator) -> Section | None:
    """Set every gap after beside the one before, with its interval and what chance gives."""
    if not result.comparisons:
        return None
    gaps: list[list[Cell]] = []
    values: list[list[Cell]] = []
    for c in result.comparisons:
        was, now = c.measured or (_UNKNOWN, _UNKNOWN)
        gaps.append(
            [
                _name(c, tr),
                Written(c.before, _interval(c.before, was.gap)),
                Written(c.after, _interval(c.after, now.gap)),
                Written(c.change, _interval(c.change, (c.low, c.high))),
                tr.t(f"correct.outcome.{c.outcome}"),
                c.tolerance,
                tr.get(f"term.{c.unit}", c.unit),
            ]
        )
        values.append([_name(c, tr), was.value, _floor(was.floor), now.value, _floor(now.floor)])
    names = (
        ("metric", "before", "after", "change", "outcome", "tolerance", "unit"),
        ("metric", "value_before", "floor_before", "value_after", "floor_after"),
    )
    heads = [[tr.t(f"correct.col.{name}") for name in part] for part in names]
    figure = _figure(result, tr)
    return Section(
        tr.t("correct.gaps"),
        tr.t("correct.gaps.lead", {"level": result.level}),
        [*([figure] if figure else []), Table(heads[0], gaps), Table(heads[1], values)],
        [tr.t("correct.gaps.note"), tr.t("correct.second.note")],
    )


def _interval(value: float, ends: tuple[float, float] | None) -> str:
    text = number(value)
    return text if ends is None else f"{text} [{number(ends[0])}, {number(ends[1])}]"


def _floor(floor: tuple[float, float, float] | None) -> str:
    return "–" if floor is None else f"{number(floor[1])} [{number(floor[0])}, {number(floor[2])}]"


def _figure(result: CorrectionResult, tr: Translator) -> Figure | None:
    drawn = [c for c in result.comparisons if c.tolerance and c.measured]
    if not drawn:
        return None
    traces: list[dict[str, Any]] = []
    beyond: list[dict[str, Any]] = []
    for side, (when, symbol, colour) in enumerate(
        (("before", "circle-open", "--soft"), ("after", "circle", "--synthetic"))
    ):
        xs, low, high, told = [], [], [], []
        for c in drawn:
            unit = c.tolerance or 1.0
            gap = c.after if side else c.before
            ends = (c.measured[side].gap if c.measured else None) or (gap, gap)
            xs.append(gap / unit)
            if gap / unit > _CUT:
                when_told = tr.t(f"correct.col.{when}")
                beyond.append(
                    {"x": _CUT, "y": _label(c, tr), "xanchor": "right",
                     "yshift": -12 if side else 12, "showarrow": False,
                     "text": plain(f"{when_told}: {number(gap / unit)} ▸")}
                )  # fmt: skip
            low.append((gap - ends[0]) / unit)
            high.append((ends[1] - gap) / unit)
            told.append(plain(f"{_name(c, tr)}: {_interval(gap, ends)}", 200))
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": tr.t(f"correct.col.{when}"),
                "x": xs, "y": [_label(c, tr) for c in drawn],
                "text": told, "hoverinfo": "text",
                "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                            "thickness": 1.3, "width": 4, "color": colour},
                "marker": {"size": 11, "symbol": symbol, "color": colour, "line": {"width": 2}},
            }
        )  # fmt: skip
    return Figure(
        traces,
        {
            "scattermode": "group",
            "annotations": beyond,
            "xaxis": {
                "title": {"text": tr.t("gaps.axis.tolerance")},
                **({"range": [-1, _CUT * 1.04]} if beyond else {}),
            },
            "yaxis": {"type": "category", "autorange": "reversed"},
            "legend": _ABOVE,
            "shapes": [
                {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
                 "line": {"color": "--fail", "dash": "dot", "width": 1.5}}
            ],
        },
        130 + 48 * max(3, len(drawn)),
    )  # fmt: skip


def _drifted(result: CorrectionResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = []
    for d in result.drifted:
        key = f"step.attribute.{d.attribute}"
        advice = tr.t(
            key if key in catalogue("en") else "step.attribute",
            {"attribute": d.attribute, "size": d.effect},
        )
        rows.append([tr.metric(d.attribute), d.effect, ", ".join(d.corrections) or "–", advice])
    names = ("attribute", "effect", "correction", "advice")
    return Section(
        tr.t("correct.drifted"),
        tr.t("correct.drifted.lead" if rows else "correct.drifted.none"),
        [Table([tr.t(f"correct.col.{n}") for n in names], rows)] if rows else [],
    )


def _tried(result: CorrectionResult, tr: Translator) -> Section | None:
    """List what was applied, refused and selected; what was refused says why."""
    rows: list[list[Cell]] = [
        [c["name"], tr.t("correct.applied"), _does(c["name"], tr), ""] for c in result.corrections
    ]
    rows += [
        [name, tr.t("correct.selected"), _does(name, tr), "; ".join(map(tr.message, what))]
        for name, what in result.selections
    ]
    rows += [
        [name, tr.t("correct.refused"), _does(name, tr), tr.message(why)]
        for name, why in result.skipped
    ]
    if not rows:
        return None
    names = ("name", "state", "does", "told")
    notes = []
    if result.n_failed:
        notes.append(tr.t("correct.failed", {"n": result.n_failed}))
    blocks = [Table([tr.t(f"correct.col.{n}") for n in names], rows)]
    if (s := result.selected) is not None:
        shapes: list[list[Cell]] = [
            [tr.t(f"correct.shape.{name}"), x.n, x.precision, x.coverage]
            for name, x in (("before", s.before), ("after", s.after), ("random", s.random))
        ]
        head = [tr.t("set"), tr.t("correct.samples"), tr.metric("precision"), tr.metric("coverage")]
        blocks.append(Table(head, shapes))
        notes.append(tr.t("correct.shape.note"))
    return Section(tr.t("correct.tried"), tr.t("correct.tried.lead"), blocks, notes)


def _does(name: str, tr: Translator) -> str:
    return tr.get(f"correct.does.{name}", "–")


def _labels(result: CorrectionResult, tr: Translator) -> Section | None:
    kept = result.labels_kept
    if kept is None:
        if result.labels_unjudged is None or not result.comparisons:
            return None
        why = tr.message(result.labels_unjudged)
        return Section(tr.t("correct.labels"), tr.t("correct.labels.unjudged", {"why": why}))

    def points(ends: tuple[float, float]) -> str:
        return f"[{number(100 * ends[0])}, {number(100 * ends[1])}]"

    rows: list[list[Cell]] = [
        [tr.t(f"correct.labels.{name}"), Written(value, percent(value))]
        for name, value in (
            ("before", kept.before), ("after", kept.after), ("real", kept.real),
            ("guess", kept.guess),
        )
    ]  # fmt: skip
    return Section(
        tr.t("correct.labels"),
        tr.t(f"correct.labels.{'lost' if kept.lost else 'kept'}"),
        [Table([tr.t("set"), tr.t("correct.labels.recall")], rows)],
        [
            tr.t("correct.labels.fell", {"ends": points(kept.fell)}),
            tr.t("correct.labels.short", {"ends": points(kept.short)}),
        ],
    )


def _ties(result: CorrectionResult, tr: Translator) -> Section | None:
    if not result.ties:
        return None
    rows: list[list[Cell]] = [
        [tr.metric(t.metric), t.encoder, t.before, t.after, tr.get(f"term.{t.unit}", t.unit)]
        for t in result.ties
    ]
    names = ("metric", "encoder", "before", "after", "unit")
    head = [tr.t(f"correct.col.{name}") for name in names]
    return Section(tr.t("correct.ties"), tr.t("correct.ties.lead"), [Table(head, rows)])


def _shown(preview: Preview, title: str = "") -> Shown:
    return Shown(data_uri(preview.picture), data_uri(preview.clip), preview.text or "", title=title)


def _examples(
    changed: Sequence[tuple[Preview, Preview]], left_out: Sequence[Preview], tr: Translator
) -> Section | None:
    before, after = tr.t("correct.col.before"), tr.t("correct.col.after")
    blocks = []
    notes = []
    if changed:
        items = [((_shown(a, before), _shown(b, after)), b.name) for a, b in changed]
        blocks.append(Samples(items))
    if left_out:
        blocks.append(Samples([((_shown(p, tr.t("correct.left_out")),), p.name) for p in left_out]))
        notes.append(tr.t("correct.left_out.note"))
    if not blocks:
        return None
    return Section(tr.t("correct.examples"), tr.t("correct.examples.lead"), blocks, notes)


def _reports(result: CorrectionResult, tr: Translator) -> Section:
    links = [Link(tr.t("correct.report.before"), "before/report.html")]
    if result.verdict_after is not None:
        links.append(Link(tr.t("correct.report.after"), "after/report.html"))
    return Section(tr.t("correct.reports"), tr.t("correct.reports.lead"), links)


def _again(result: CorrectionResult, tr: Translator) -> Section:
    """Say how to make it again, and how to do the same to another set."""
    rows: list[list[Cell]] = [[tr.t("correct.again.this"), result.command]]
    links = []
    if result.corrections:
        words = ["evalsuite", "generate", "recipe.yaml", "--input", "SYNTHETIC", "--out", "OUT"]
        rows.append([tr.t("correct.again.other"), shlex.join(words)])
        links.append(Link(tr.t("correct.again.recipe"), "recipe.yaml"))
    notes = [tr.t("correct.again.selection")] if result.selections else []
    return Section(
        tr.t("provenance.command"),
        tr.t("correct.again.lead"),
        [Table([tr.t("correct.col.what"), tr.t("correct.col.command")], rows), *links],
        notes,
    )
