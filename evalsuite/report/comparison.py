"""The outputs of ``evalsuite compare``: page, CSV, Markdown, LaTeX and JSON."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ..gate.findings import Status
from .i18n import Translator
from .page import Cell, Figure, Page, Section, Table, plain, render_page
from .render import write_files
from .text import clean, number, spreadsheet_cell

if TYPE_CHECKING:
    from ..gate.comparison import Candidate, Column, Comparison

OUTPUTS = (
    "comparison.json",
    "comparison.html",
    "leaderboard.csv",
    "leaderboard.md",
    "leaderboard.tex",
)
_DRAWN = 40
_SIDES = ("top center", "bottom center", "middle left", "middle right")
# Above the figure it never meets the axis title, however narrow the screen.
_ABOVE = {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"}


def write_comparison(comparison: Comparison, out: str | Path, *, lang: str = "en") -> list[Path]:
    """Write every output of a comparison.

    Parameters
    ----------
    comparison : Comparison
    out : path-like
        The folder; it is made if it is not there.
    lang : {"en", "ja"}

    Returns
    -------
    list of Path
        In the order of :data:`OUTPUTS`.

    Raises
    ------
    DataError
        If the folder cannot be written.
    UsageError
        If there is no such language.
    """
    texts = {
        "comparison.json": comparison.model_dump_json(indent=1) + "\n",
        "comparison.html": render_comparison(comparison, lang=lang),
        "leaderboard.csv": leaderboard_csv(comparison),
        "leaderboard.md": leaderboard_markdown(comparison, lang=lang),
        "leaderboard.tex": leaderboard_latex(comparison),
    }
    return write_files(Path(out), texts)


def _ranks(candidate: Candidate) -> str:
    if candidate.rank_low == candidate.rank_high:
        return str(candidate.rank)
    return f"{candidate.rank} ({candidate.rank_low}–{candidate.rank_high})"


def _name(column: Column, tr: Translator, several: bool) -> str:
    name = tr.metric(column.metric)
    return f"{name} · {clean(column.encoder or '–', 60)}" if several else name


def leaderboard_csv(comparison: Comparison) -> str:
    """Give a row for each candidate and column; no cell can run as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(
        ["candidate", "verdict", "rank", "rank_low", "rank_high", "dose", "modality", "encoder",
         "metric", "value", "gap", "gap_low", "gap_high", "gap_unit", "status", "metric_rank",
         "metric_rank_low", "metric_rank_high"]
    )  # fmt: skip
    for c in comparison.candidates:
        for column in comparison.columns:
            s = column.scores[c.name]
            row = [
                c.name, c.verdict.value, c.rank, c.rank_low, c.rank_high, c.dose, column.modality,
                column.encoder, column.metric, s.value, s.gap, s.gap_ci and s.gap_ci.low,
                s.gap_ci and s.gap_ci.high, column.gap_unit, s.status.value, s.rank, s.rank_low,
                s.rank_high,
            ]  # fmt: skip
            writer.writerow([spreadsheet_cell(cell) for cell in row])
    return buffer.getvalue()


def leaderboard_markdown(comparison: Comparison, *, lang: str = "en") -> str:
    """Give the leaderboard as a Markdown table."""
    tr = Translator(lang)
    several = len({c.encoder for c in comparison.columns}) > 1
    head = [tr.t("compare.rank"), tr.t("compare.candidate"), tr.t("col.status")]
    head += [_name(c, tr, several) for c in comparison.columns]
    lines = ["| " + " | ".join(map(_md, head)) + " |", "|" + " --- |" * len(head)]
    for c in comparison.candidates:
        row = [_ranks(c), c.name, tr.t(f"status.{c.verdict.value}")]
        row += [_gap(column, c.name) for column in comparison.columns]
        lines.append("| " + " | ".join(map(_md, row)) + " |")
    note = tr.t("compare.ranks.lead", {"n": comparison.replicates})
    return f"# {tr.t('compare.title')}\n\n" + "\n".join(lines) + f"\n\n{note}\n"


def _md(text: str) -> str:
    tidy = clean(text, 200)
    for char in "\\`*_[]<>|":
        tidy = tidy.replace(char, "\\" + char)
    return tidy


def _gap(column: Column, name: str) -> str:
    s = column.scores[name]
    if s.gap is None:
        return "–"
    text = number(s.gap)
    return text if s.gap_ci is None else f"{text} [{number(s.gap_ci.low)}, {number(s.gap_ci.high)}]"


def leaderboard_latex(comparison: Comparison) -> str:
    """Give the leaderboard as a LaTeX table for ``booktabs``."""
    several = len({c.encoder for c in comparison.columns}) > 1
    tr = Translator("en")
    head = ["Rank", "Candidate", *(_name(c, tr, several) for c in comparison.columns)]
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{rl{'r' * len(comparison.columns)}}}",
        "\\toprule",
        " & ".join(map(_tex, head)) + " \\\\",
        "\\midrule",
    ]
    for c in comparison.candidates:
        cells = [_tex(_ranks(c)), _tex(c.name)]
        cells += [_tex(_gap(column, c.name)) for column in comparison.columns]
        lines.append(" & ".join(cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    return "\n".join(lines)


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": "$<$", ">": "$>$", "–": "--", "−": "$-$", "×": r"$\times$",
}  # fmt: skip
_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def _tex(text: str) -> str:
    escaped = "".join(_TEX.get(char, char) for char in clean(text, 200))
    return re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda m: "$^{" + m[0].translate(_DIGITS) + "}$", escaped)


def render_comparison(comparison: Comparison, *, lang: str = "en") -> str:
    """Give the page."""
    return render_page(
        lambda tr: _page(comparison, tr),
        name="comparison",
        version=comparison.evalsuite_version,
        lang=lang,
    )


def _page(comparison: Comparison, tr: Translator) -> Page:
    best = [c for c in comparison.candidates if c.rank == comparison.candidates[0].rank]
    names = ", ".join(clean(c.name, 60) for c in best[:5])
    usable = [c for c in best if c.verdict in (Status.PASS, Status.WARN)]
    status = usable[0].verdict if usable else best[0].verdict
    headline = tr.t(
        "compare.headline" if len(best) == 1 else "compare.headline.tie", {"names": names}
    )
    sections = [
        _leaderboard(comparison, tr),
        _gaps(comparison, tr),
        _trade(comparison, tr),
    ]
    if any(c.dose is not None for c in comparison.candidates):
        sections.append(_doses(comparison, tr))
    if comparison.agreement:
        sections.append(_agreement(comparison, tr))
    if comparison.command:
        sections.append(Section(tr.t("provenance.command"), comparison.command))
    return Page(
        title=tr.t("compare.title"),
        question=tr.t("compare.question"),
        headline=headline,
        lead=tr.t(f"lead.{status.value}"),
        status=status,
        facts=[
            (tr.t("fact.real"), comparison.real.name),
            (tr.t("compare.candidates"), str(len(comparison.candidates))),
            (tr.t("seed"), str(comparison.seed)),
            (tr.t("fact.policy"), comparison.policy_sha256[:12]),
        ],
        sections=sections,
    )


def _leaderboard(comparison: Comparison, tr: Translator) -> Section:
    rows: list[list[Cell]] = [
        [
            _ranks(c),
            c.name,
            c.verdict,
            c.data.n_used,
            c.fidelity,
            c.coverage,
            c.copied,
            tr.t("yes") if c.on_front else tr.t("no"),
        ]
        for c in comparison.candidates
    ]
    head = [
        tr.t("compare.rank"), tr.t("compare.candidate"), tr.t("col.status"), tr.t("used"),
        tr.metric("precision"), tr.metric("coverage"), tr.t("compare.copied"),
        tr.t("compare.front"),
    ]  # fmt: skip
    return Section(
        tr.t("compare.leaderboard"),
        tr.t("compare.ranks.lead", {"n": comparison.replicates}),
        [Table(head, rows)],
        [tr.t("compare.copied.lead"), tr.t("compare.front.lead")],
    )


def _gaps(comparison: Comparison, tr: Translator) -> Section:
    """Draw the gap of each metric, candidates side by side."""
    several = len({c.encoder for c in comparison.columns}) > 1
    tables = []
    traces = []
    for k, c in enumerate(comparison.candidates[:_DRAWN]):
        xs, ys, low, high, text = [], [], [], [], []
        for column in comparison.columns:
            s = column.scores[c.name]
            if s.gap is None or s.gap_ci is None:
                continue
            unit = s.tolerance or 1.0
            xs.append(s.gap / unit)
            low.append((s.gap - s.gap_ci.low) / unit)
            high.append((s.gap_ci.high - s.gap) / unit)
            ys.append(plain(_name(column, tr, several)))
            text.append(plain(f"{c.name}: {_gap(column, c.name)} {column.gap_unit}", 200))
        traces.append(
            {
                "type": "scatter", "mode": "markers", "name": plain(c.name), "x": xs, "y": ys,
                "text": text, "hoverinfo": "text",
                "error_x": {"type": "data", "symmetric": False, "array": high, "arrayminus": low,
                            "thickness": 1.2, "width": 3},
                "marker": {"size": 9, "symbol": k % 10},
            }
        )  # fmt: skip
    tables.append(
        Figure(
            traces,
            {
                "scattermode": "group",
                "xaxis": {"title": {"text": tr.t("gaps.axis.tolerance")}},
                "legend": _ABOVE,
                "shapes": [
                    {"type": "line", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "yref": "paper",
                     "line": {"color": "--fail", "dash": "dot", "width": 1.5}}
                ],
            },
            120 + 46 * max(4, len(comparison.columns)),
        )
    )  # fmt: skip
    head = [tr.t("col.metric"), *(c.name for c in comparison.candidates)]
    rows: list[list[Cell]] = [
        [
            _name(column, tr, several),
            *(
                f"{column.scores[c.name].rank} · {_gap(column, c.name)}"
                for c in comparison.candidates
            ),
        ]
        for column in comparison.columns
    ]
    return Section(
        tr.t("gaps.title"),
        tr.t("compare.gaps.lead"),
        [*tables, Table(head, rows)],
        [tr.t("compare.cells")],
    )


def _trade(comparison: Comparison, tr: Translator) -> Section:
    shown = [c for c in comparison.candidates if c.fidelity is not None and c.coverage is not None]
    figure = Figure(
        [
            {
                "type": "scatter", "mode": "markers+text",
                # Candidates that are much alike lie close: their names go different ways.
                "textposition": [_SIDES[k % len(_SIDES)] for k in range(len(group))],
                "x": [c.fidelity for c in group], "y": [c.coverage for c in group],
                "text": [plain(c.name, 30) for c in group],
                "name": tr.t("compare.front" if on else "compare.behind"),
                "customdata": [c.copied for c in group],
                "hovertemplate": "%{text}: %{x:.3f}, %{y:.3f}<extra></extra>",
                "marker": {"size": 12, "symbol": "circle" if on else "circle-open",
                           "color": "--synthetic" if on else "--soft"},
            }
            for on in (True, False)
            if (group := [c for c in shown if c.on_front is on])
        ],
        {
            "xaxis": {"title": {"text": tr.metric("precision")}, "range": [-0.05, 1.08]},
            "yaxis": {"title": {"text": tr.metric("coverage")}, "range": [-0.05, 1.12]},
            "legend": _ABOVE,
        },
        420,
    )  # fmt: skip
    return Section(tr.t("compare.trade"), tr.t("compare.trade.lead"), [figure] if shown else [])


def _doses(comparison: Comparison, tr: Translator) -> Section:
    several = len({c.encoder for c in comparison.columns}) > 1
    order = sorted(
        (c for c in comparison.candidates if c.dose is not None), key=lambda c: c.dose or 0.0
    )
    axis = plain(comparison.knob or tr.t("compare.dose.axis"))
    traces = []
    for column in comparison.columns[:_DRAWN]:
        scores = [column.scores[c.name] for c in order]
        shown = [
            (c.dose, s.gap / (s.tolerance or 1.0), s.gap_ci, s.tolerance or 1.0)
            for c, s in zip(order, scores, strict=True)
            if s.gap is not None
        ]
        traces.append(
            {
                "type": "scatter", "mode": "lines+markers",
                "name": plain(_name(column, tr, several)),
                "x": [dose for dose, *_ in shown], "y": [gap for _, gap, *_ in shown],
                "error_y": {
                    "type": "data", "symmetric": False, "thickness": 1, "width": 3,
                    "array": [ci.high / unit - gap if ci else 0 for _, gap, ci, unit in shown],
                    "arrayminus": [gap - ci.low / unit if ci else 0 for _, gap, ci, unit in shown],
                },
            }
        )  # fmt: skip
    rows: list[list[Cell]] = [
        [
            _name(column, tr, several),
            column.monotone,
            f"{number(column.monotone_ci.low)} – {number(column.monotone_ci.high)}"
            if column.monotone_ci
            else "–",
            column.monotone_p,
        ]
        for column in comparison.columns
    ]
    return Section(
        tr.t("compare.dose"),
        tr.t("compare.dose.lead"),
        [
            Figure(
                traces,
                {
                    "xaxis": {"title": {"text": axis}},
                    "yaxis": {"title": {"text": tr.t("gaps.axis.tolerance")}},
                    "legend": _ABOVE,
                    "shapes": [
                        {"type": "line", "y0": 1, "y1": 1, "x0": 0, "x1": 1, "xref": "paper",
                         "line": {"color": "--fail", "dash": "dot", "width": 1.5}}
                    ],
                },
            ),
            Table(
                [tr.t("col.metric"), "Kendall τ", tr.t("compare.dose.interval"), tr.t("detail.p")],
                rows,
            ),
        ],
        [tr.t("compare.dose.blind", {"n": len(order)})],
    )  # fmt: skip


def _agreement(comparison: Comparison, tr: Translator) -> Section:
    several = len({c.encoder for c in comparison.columns}) > 1
    names = {c.key: _name(c, tr, several) for c in comparison.columns}
    rows: list[list[Cell]] = [
        [names[one], *(None if tau is None else number(tau, 2) for tau in row.values())]
        for one, row in comparison.agreement.items()
    ]
    table = Table([tr.t("col.metric"), *(names[key] for key in comparison.agreement)], rows)
    return Section(tr.t("compare.agreement"), tr.t("compare.agreement.lead"), [table])
