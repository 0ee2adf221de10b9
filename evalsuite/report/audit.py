"""The outputs of ``evalsuite audit``: a page that an auditor signs, and its twins for machines."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..gate.audit import AREAS, EXAMPLES, AuditResult, Check, Example, Place
from ..gate.findings import Message, Status
from .i18n import Translator
from .page import Blanks, Block, Cell, Link, Page, Samples, Section, Shown, Table, render_page
from .redact import HIDDEN
from .render import write_files
from .sarif import render_sarif
from .text import clean, number, spreadsheet_cell
from .view import data_uri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..gate.findings import DatasetSummary

OUTPUTS = ("audit.json", "audit.html", "audit.md", "audit.sarif", "suspects.csv")
_SHOWN = 4
"""Examples of a check on the page."""
_PAIRS = 12
_SUSPECTS = 40
_LISTED = 50
"""Samples named in the Markdown."""


def write_audit(
    result: AuditResult,
    out: str | Path,
    *,
    thumbnails: Mapping[tuple[str, str], bytes] | None = None,
    lang: str = "en",
    redact: bool = False,
    base: str = "",
) -> list[Path]:
    """Write every output of an audit.

    Parameters
    ----------
    result : AuditResult
    out : path-like
        The folder; it is made if it is not there.
    thumbnails : mapping of (role, sample) to bytes, optional
        Small JPEG files of samples that are named.
    lang : {"en", "ja"}
    redact : bool
        Leave names, pictures and text of the data out of all outputs.
    base : str
        Where the set lies in the repository of a code host, for ``audit.sarif``.

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
    if redact:
        result, thumbnails = redact_audit(result), None
    texts = {
        "audit.json": result.model_dump_json(indent=1) + "\n",
        "audit.html": render_audit(result, thumbnails=thumbnails, lang=lang, redact=redact),
        "audit.md": audit_markdown(result, lang=lang),
        "audit.sarif": render_sarif(result, base="" if redact else base),
        "suspects.csv": suspects_csv(result),
    }
    return write_files(Path(out), texts, errors="replace")


# ---- without anything private ------------------------------------------------------------------

_KEPT = frozenset({"kind", "format", "ending", "field", "fields"})
"""Parameters of messages that name what was found, and not whose it is."""


def redact_audit(result: AuditResult) -> AuditResult:
    """Leave names of samples and files, and all text of the data, out of a result.

    Kept are numbers, thresholds, class names, and the lines of a manifest.
    """
    names: dict[tuple[str, str], str] = {}
    labels = {
        *result.vendor.labels,
        *(result.real.labels if result.real else ()),
    }
    english = Translator("en")

    def sample(role: str, name: str) -> str:
        return names.setdefault((role, name), f"{role}-{len(names) + 1}")

    def place(where: Place) -> Place:
        return where if where.line is not None else Place(uri=HIDDEN)

    def message(said: Message, area: str) -> Message:
        params = {
            key: value
            if not isinstance(value, str)
            or key in _KEPT
            or area == "claims"
            or (key in ("label", "suggested", "other_label") and value in labels)
            else HIDDEN
            for key, value in said.params.items()
        }
        kept = said.model_copy(update={"params": params, "text": HIDDEN})
        return kept.model_copy(update={"text": english.message(kept)})

    def example(e: Example, area: str) -> Example:
        role = e.partner_role or "vendor"
        return e.model_copy(
            update={
                "sample": sample("vendor", e.sample),
                "partner": e.partner and sample(role, e.partner),
                "place": place(e.place),
                "message": message(e.message, area),
            }
        )

    def check(c: Check) -> Check:
        details = {k: v for k, v in c.details.items() if k not in ("reasons", "attributes")}
        return c.model_copy(
            update={
                "message": message(c.message, c.area),
                "examples": tuple(example(e, c.area) for e in c.examples),
                "details": details,
            }
        )

    def summary(data: DatasetSummary | None, role: str) -> DatasetSummary | None:
        if data is None:
            return None
        hidden = [
            p.model_copy(update={"sample": HIDDEN, "detail": HIDDEN}) for p in data.problem_examples
        ]
        return data.model_copy(update={"name": role, "problem_examples": tuple(hidden)})

    gate = result.gate
    if gate is not None:
        known = {"real", "synthetic"}
        hide = [
            r.model_copy(
                update={
                    "message": r.message
                    if all(
                        not isinstance(v, str) or v in known or k in ("metric", "unit", "slice")
                        for k, v in r.message.params.items()
                    )
                    else message(r.message, "gate")
                }
            )
            for r in gate.reasons
        ]
        gate = gate.model_copy(update={"reasons": tuple(hide)})
    return result.model_copy(
        update={
            "checks": tuple(check(c) for c in result.checks),
            "suspects": tuple(
                s.model_copy(update={"sample": sample("vendor", s.sample), "place": place(s.place)})
                for s in result.suspects
            ),
            "vendor": summary(result.vendor, "vendor"),
            "real": summary(result.real, "real"),
            "holdout": summary(result.holdout, "holdout"),
            "gate": gate,
            "croissant": dict.fromkeys(result.croissant, HIDDEN),
            "encoders": tuple(
                e.model_copy(update={"weights_source": HIDDEN}) for e in result.encoders
            ),
            "command": "evalsuite audit …",
        }
    )


# ---- suspects.csv, audit.md --------------------------------------------------------------------


def suspects_csv(result: AuditResult) -> str:
    """Give a row for each label in doubt; no cell can run as a formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(
        ["sample", "uri", "line", "modality", "label", "suggested", "p_label", "p_suggested"]
    )
    for s in result.suspects:
        row = [s.sample, s.place.uri, s.place.line, s.modality, s.label, s.suggested,
               s.p_label, s.p_suggested]  # fmt: skip
        writer.writerow([spreadsheet_cell(value) for value in row])
    return buffer.getvalue()


def audit_markdown(result: AuditResult, *, lang: str = "en") -> str:
    """Give the verdict, the checks and the first samples as Markdown."""
    tr = Translator(lang)
    lines = [
        f"# {tr.t('audit.title')}: {tr.t(f'audit.headline.{result.verdict.value}')}",
        "",
        f"{_md(result.vendor.name)} · {_lead(result, tr)}",
        "",
        f"| {tr.t('audit.check')} | {tr.t('col.status')} | {tr.t('audit.says')} |",
        "| --- | --- | --- |",
    ]
    for check in _ordered(result):
        row = (_name(check, tr), tr.t(f"status.{check.status.value}"), tr.message(check.message))
        lines.append("| " + " | ".join(map(_md, row)) + " |")
    if result.not_done:
        lines += ["", f"## {tr.t('audit.not_done')}", "", tr.t("audit.not_done.lead"), ""]
        lines += [
            f"- {_md(_name(skipped, tr))}: {_md(tr.message(skipped.message))}"
            for skipped in result.not_done
        ]
    named = [(c, e) for c in _ordered(result) for e in c.examples[:_SHOWN]][:_LISTED]
    if named:
        lines += ["", f"## {tr.t('audit.samples.title')}", ""]
        lines += [
            f"- {_md(e.sample)} ({_md(_where(e.place))}): {_md(tr.message(e.message))}"
            for _, e in named
        ]
    return "\n".join(lines) + "\n"


def _md(text: str) -> str:
    tidy = clean(text, 400)
    for char in "\\`*_[]<>|#@~$":
        tidy = tidy.replace(char, "\\" + char)
    return tidy


# ---- audit.html --------------------------------------------------------------------------------


def _ordered(result: AuditResult) -> list[Check]:
    return sorted(result.checks, key=lambda c: AREAS.index(c.area))


def _name(check: Any, tr: Translator) -> str:
    name = tr.get(f"audit.check.{check.id}", check.id)
    return name if check.modality == "any" else f"{name} · {tr.place(check.modality)}"


def _where(place: Place) -> str:
    return place.uri if place.line is None else f"{place.uri}:{place.line}"


def _lead(result: AuditResult, tr: Translator) -> str:
    bad = sum(c.status not in (Status.PASS, Status.INFO) for c in result.checks)
    return tr.t(
        "audit.lead", {"bad": bad, "of": len(result.checks), "skipped": len(result.not_done)}
    )


def render_audit(
    result: AuditResult,
    *,
    thumbnails: Mapping[tuple[str, str], bytes] | None = None,
    lang: str = "en",
    redact: bool = False,
) -> str:
    """Give the page."""
    return render_page(
        lambda tr: _page(result, tr, thumbnails or {}, redact),
        name="audit",
        version=result.evalsuite_version,
        lang=lang,
    )


def _page(
    result: AuditResult, tr: Translator, pictures: Mapping[tuple[str, str], bytes], redact: bool
) -> Page:

    def named(data: DatasetSummary | None) -> str:
        return tr.t("audit.not_given") if data is None else data.name

    found = [
        _checks(result, tr),
        _not_done(result, tr),
        _samples(result, tr),
        _copies(result, tr, pictures),
        _suspects(result, tr, pictures),
        _classes(result, tr),
        _gate(result, tr),
        _provenance(result, tr),
        _sign(tr),
        _policy(result, tr),
    ]
    facts = [
        (tr.t("audit.vendor"), result.vendor.name),
        (
            tr.t("audit.samples"),
            tr.t("fact.used", {"used": result.vendor.n_used, "found": result.vendor.n_found}),
        ),
        (tr.t("audit.real"), named(result.real)),
        (tr.t("audit.holdout"), named(result.holdout)),
        (tr.t("audit.sign.date"), str(result.times.get("began", "–"))[:10]),
    ]
    lead = _lead(result, tr)
    return Page(
        title=tr.t("audit.title"),
        question=tr.t("audit.question"),
        headline=tr.t(f"audit.headline.{result.verdict.value}"),
        lead=f"{lead} {tr.t('audit.hidden')}" if redact else lead,
        status=result.verdict,
        facts=facts,
        sections=[section for section in found if section is not None],
    )


def _checks(result: AuditResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = [
        [
            c.status,
            tr.t(f"audit.area.{c.area}"),
            _name(c, tr),
            tr.message(c.message),
            "" if c.warn is None else f"{number(c.warn)} / {number(c.fail)}",
        ]
        for c in _ordered(result)
    ]
    head = [tr.t("col.status"), tr.t("audit.area"), tr.t("audit.check"), tr.t("audit.says"),
            tr.t("audit.limits")]  # fmt: skip
    return Section(tr.t("audit.checks"), tr.t("audit.checks.lead"), [Table(head, rows)])


def _not_done(result: AuditResult, tr: Translator) -> Section | None:
    if not result.not_done:
        return None
    rows: list[list[Cell]] = [
        [tr.t(f"audit.area.{s.area}"), _name(s, tr), tr.message(s.message)] for s in result.not_done
    ]
    head = [tr.t("audit.area"), tr.t("audit.check"), tr.t("audit.why")]
    return Section(tr.t("audit.not_done"), tr.t("audit.not_done.lead"), [Table(head, rows)])


def _samples(result: AuditResult, tr: Translator) -> Section | None:
    rows: list[list[Cell]] = [
        [_name(c, tr), e.sample, _where(e.place), tr.message(e.message)]
        for c in _ordered(result)
        if c.id != "label_suspects"
        for e in c.examples[:_SHOWN]
    ]
    if not rows:
        return None
    head = [tr.t("audit.check"), tr.t("audit.sample"), tr.t("audit.place"), tr.t("audit.remark")]
    return Section(
        tr.t("audit.samples.title"),
        tr.t("audit.samples.lead", {"n": EXAMPLES}),
        [Table(head, rows)],
    )


def _copies(
    result: AuditResult, tr: Translator, pictures: Mapping[tuple[str, str], bytes]
) -> Section | None:
    items: list[tuple[tuple[Shown], str]] = []
    for check in result.checks:
        if check.area != "copies" and check.id != "near_duplicates":
            continue
        for e in check.examples[:_PAIRS]:
            pair = (("vendor", e.sample), (e.partner_role or "", e.partner or ""))
            if all(key in pictures for key in pair) and len(items) < 2 * _PAIRS:
                items += [
                    ((Shown(data_uri(pictures[role, name])),), f"{tr.t(f'audit.{role}')}: {name}")
                    for role, name in pair
                ]
    if not items:
        return None
    return Section(tr.t("audit.copies"), tr.t("audit.copies.lead"), [Samples(items)])


def _suspects(
    result: AuditResult, tr: Translator, pictures: Mapping[tuple[str, str], bytes]
) -> Section | None:
    if not result.suspects:
        return None
    head = [tr.t("audit.sample"), tr.t("audit.place"), tr.t("audit.label"),
            tr.t("audit.suggested"), tr.t("audit.p_label"), tr.t("audit.p_suggested")]  # fmt: skip
    rows: list[list[Cell]] = [
        [s.sample, _where(s.place), s.label, s.suggested, s.p_label, s.p_suggested]
        for s in result.suspects[:_SUSPECTS]
    ]
    blocks: list[Block] = [
        Samples(
            [
                (
                    (Shown(data_uri(pictures["vendor", s.sample])),),
                    f"{s.label} → {s.suggested}: {s.sample}",
                )
                for s in result.suspects[:_PAIRS]
                if ("vendor", s.sample) in pictures
            ]
        ),
        Table(head, rows, total=len(result.suspects)),
    ]
    return Section(
        tr.t("audit.suspects"),
        tr.t("audit.suspects.lead"),
        [b for b in blocks if not isinstance(b, Samples) or b.items],
    )


def _classes(result: AuditResult, tr: Translator) -> Section | None:
    mine = result.vendor.labels
    theirs = {} if result.real is None else result.real.labels
    claimed: dict[str, Any] = next(
        (c.details.get("classes", {}) for c in result.checks if c.id == "claim_classes"), {}
    )
    if not mine and not claimed:
        return None

    def promised(name: str) -> str:
        row = claimed.get(name)
        if row is None:
            return "–"
        return str(row["min"]) if row["min"] == row["max"] else f"{row['min']}–{row['max']}"

    total = sum(theirs.values())
    rows: list[list[Cell]] = [
        [
            name,
            mine.get(name, 0),
            mine.get(name, 0) / (sum(mine.values()) or 1),
            theirs.get(name, 0) / total if total else None,
            promised(name),
        ]
        for name in sorted({*mine, *theirs, *claimed})
    ]
    share = tr.t("term.share")
    head = [tr.t("audit.label"), tr.t("audit.delivered"), share, f"{share}, {tr.t('audit.real')}",
            tr.t("audit.promised")]  # fmt: skip
    return Section(tr.t("audit.classes"), tr.t("audit.classes.lead"), [Table(head, rows)])


def _gate(result: AuditResult, tr: Translator) -> Section | None:
    if result.gate is None:
        return None
    rows: list[list[Cell]] = [
        [reason.status, tr.message(reason.message)] for reason in result.gate.reasons
    ]
    notes = [tr.message(message) for message in result.gate.explanations]
    return Section(
        tr.t("audit.gate"),
        tr.t("audit.gate.lead"),
        [
            Table([tr.t("col.status"), tr.t("audit.says")], rows),
            Link(tr.t("audit.gate.link"), result.gate.report),
        ],
        notes,
    )


def _provenance(result: AuditResult, tr: Translator) -> Section | None:
    if not result.croissant:
        return None
    rows: list[list[Cell]] = [[name, text] for name, text in result.croissant.items()]
    return Section(
        tr.t("audit.provenance"),
        tr.t("audit.provenance.lead"),
        [Table([tr.t("audit.field"), tr.t("audit.states")], rows)],
    )


def _sign(tr: Translator) -> Section:
    names = ("decision", "name", "date", "line")
    return Section(
        tr.t("audit.sign"),
        tr.t("audit.sign.lead"),
        [Blanks([tr.t(f"audit.sign.{name}") for name in names])],
    )


def _policy(result: AuditResult, tr: Translator) -> Section:
    rows: list[list[Cell]] = []
    for name, value in result.policy.items():
        if isinstance(value, dict):
            rows.append([name, f"{number(value['warn'])} / {number(value['fail'])}"])
        else:
            listed = isinstance(value, list | tuple)
            rows.append([name, ", ".join(map(str, value)) if listed else str(value)])
    encoders: list[list[Cell]] = [
        [tr.t("provenance.encoder"), f"{e.id} {e.weights_sha256[:12]}"] for e in result.encoders
    ]
    record: list[list[Cell]] = [
        [tr.t("result_id"), result.vendor.fingerprint],
        [tr.t("policy"), result.gate_policy_sha256],
        [tr.t("audit.claims"), result.claims_sha256 or tr.t("audit.not_given")],
        [tr.t("seed"), str(result.seed)],
        *encoders,
        [tr.t("provenance.command"), result.command or "–"],
    ]
    return Section(
        tr.t("audit.policy"),
        tr.t("audit.policy.lead"),
        [
            Table([tr.t("audit.setting"), tr.t("audit.limits")], rows),
            Table([tr.t("audit.record"), ""], record),
        ],
    )
