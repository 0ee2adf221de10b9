"""``summary.md``: the verdict on one page, for a pull request or a CI job's summary."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..gate.findings import Status
from .i18n import Translator
from .render import result_id
from .text import clean, number, p_value
from .view import next_steps, severity

if TYPE_CHECKING:
    from ..gate.findings import DatasetSummary, Finding, GateResult

MAX_BYTES = 60_000
"""GitHub refuses a comment above 64 KB."""

_ICON = {
    Status.PASS: "✅",
    Status.WARN: "⚠️",
    Status.FAIL: "❌",
    Status.INCONCLUSIVE: "❔",
    Status.ERROR: "⛔",
    Status.INFO: "ℹ️",
}
_ACTIVE = re.compile(r"[\\`*_\[\]<>|~$&]")
# What code hosts turn into links and notices by themselves: @name, #12, !12, ://, www.
_LINKING = re.compile(r"([@#!]|://|www\.)(?=\S)", re.IGNORECASE)


def _plain(text: str, limit: int = 500) -> str:
    """Give a sentence with everything that Markdown, HTML and code hosts act on made inert."""
    tamed = _ACTIVE.sub(
        lambda m: {"<": "&lt;", ">": "&gt;", "&": "&amp;"}.get(m[0], "\\" + m[0]),
        clean(text, limit),
    )
    return _LINKING.sub(lambda m: m[1] + "\u200b", tamed)


def _code(text: str, limit: int = 80) -> str:
    """Give text from data as code, where nothing is interpreted; ``|`` would still end a cell."""
    tamed = clean(text, limit).replace("`", "ˋ").replace("|", "¦")
    return f"`{tamed}`" if tamed else "–"


def render_markdown(result: GateResult, *, lang: str = "en", ident: str | None = None) -> str:
    """Give the result as Markdown of at most :data:`MAX_BYTES` bytes.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    lang : {"en", "ja"}
        The language of the fixed text.
    ident : str, optional
        The result's id, where it is known already.

    Returns
    -------
    str
        GitHub-flavoured Markdown. Text from data can neither be markup nor make links or mentions.
    """
    tr = Translator(lang)
    head = [
        f"# {_ICON[result.verdict]} {tr.t('title')}: {tr.t('status.' + result.verdict.value)}",
        "",
        f"**{tr.t('question')}** {tr.t('verdict.' + result.verdict.value)}",
        "",
        f"## {tr.t('why')}",
        "",
    ]
    for reason in result.reasons[:10]:
        status = tr.t("status." + reason.status.value)
        waived = f" {_plain(tr.waived(reason.waiver))}" if reason.waiver else ""
        head.append(
            f"- {_ICON[reason.status]} **{status}** {_plain(tr.message(reason.message))}{waived}"
        )
    if len(result.reasons) > 10:
        head.append(f"- {tr.t('more_reasons', {'n': len(result.reasons) - 10})}")
    if result.explanations:
        head += ["", f"## {tr.t('differs')}", ""]
        head += [f"- {_plain(tr.message(m))}" for m in result.explanations[:5]]
    head += ["", f"## {tr.t('next')}", ""]
    head += [f"1. {_plain(tr.t(key, params))}" for key, params in next_steps(result)]

    columns = ("set", "name", "found", "used", "problems")
    tail = [
        "",
        f"## {tr.t('data')}",
        "",
        "| " + " | ".join(tr.t(c) for c in columns) + " |",
        "|---|---|--:|--:|---|",
        *(_dataset_row(tr, d) for d in (result.real, result.synthetic)),
        "",
        tr.t("pointers"),
        "",
        f"{tr.t('result_id')} `{ident or result_id(result)}` · "
        f"evalsuite {_code(result.evalsuite_version)} · "
        f"{tr.t('policy')} {_code(result.policy_sha256[:12])} · {tr.t('seed')} {result.seed}",
        "",
    ]
    ordered = sorted(result.findings, key=severity)
    headings = ("status", "metric", "slice", "value", "gap", "tolerance", "times_chance", "p")
    table = [
        "",
        f"## {tr.t('findings')}",
        "",
        "| " + " | ".join(tr.t("col." + c) for c in headings) + " |",
        "|---|---|---|--:|--:|--:|--:|--:|",
    ]
    fixed = len("\n".join([*head, *table, *tail]).encode()) + 300
    shown = 0
    for finding in ordered[:100]:
        row = _row(tr, finding)
        fixed += len(row.encode()) + 1
        if fixed > MAX_BYTES:
            break
        table.append(row)
        shown += 1
    if shown < len(ordered):
        table += ["", tr.t("shown_of", {"shown": shown, "total": len(ordered)})]
    return "\n".join([*head, *table, *tail])


def _row(tr: Translator, f: Finding) -> str:
    name = _plain(tr.metric(f.metric), 80)
    if f.encoder:
        name += f" · {_code(f.encoder, 40)}"
    gap = number(f.gap)
    if f.gap is not None and f.gap_ci is not None:
        gap += f" \\[{number(f.gap_ci.low)}, {number(f.gap_ci.high)}\\]"
    cells = (
        f"{_ICON[f.status]} {tr.t('status.' + f.status.value)}",
        name,
        tr.t("slice_all") if f.slice == "all" else _code(f.slice),
        number(f.value),
        gap,
        number(f.tolerance),
        number(f.gap_ratio),
        p_value(f.p_adjusted).replace("<", "&lt;"),
    )
    return "| " + " | ".join(cells) + " |"


def _dataset_row(tr: Translator, data: DatasetSummary) -> str:
    kinds = sorted(data.problems.items(), key=lambda item: (-item[1], item[0]))[:20]
    problems = ", ".join(f"{_code(kind, 40)} {count:,}" for kind, count in kinds) or tr.t("none")
    cells = (
        tr.t("role." + data.role),
        _code(data.name, 120),
        f"{data.n_found:,}",
        f"{data.n_used:,}",
        problems,
    )
    return "| " + " | ".join(cells) + " |"
