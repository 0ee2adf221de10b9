"""SARIF 2.1.0: findings as code hosts show them, at the line of the manifest or at the file.

References
----------
OASIS (2020). Static Analysis Results Interchange Format (SARIF) version 2.1.0.
https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..gate.audit import AuditResult
from ..gate.findings import Status
from .i18n import Translator, catalogue
from .text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..gate.findings import GateResult

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
RESULTS = 5000
"""GitHub keeps no more of one run; how many were left out stands in the run's properties."""
_MESSAGE = 1000
# An inconclusive finding is no `none`, which a host would not show: it is never a pass.
_LEVELS = {
    Status.ERROR: "error",
    Status.FAIL: "error",
    Status.INCONCLUSIVE: "warning",
    Status.WARN: "warning",
    Status.PASS: "none",
    Status.INFO: "note",
}
_RANK = (Status.ERROR, Status.FAIL, Status.INCONCLUSIVE, Status.WARN, Status.INFO, Status.PASS)


def render_sarif(result: GateResult | AuditResult, *, base: str = "") -> str:
    """Give the findings that are not passed as one run of SARIF.

    Parameters
    ----------
    result : GateResult or AuditResult
        Of an audit, each sample that a check names is a result of its own, at its place.
    base : str
        The data set's folder within the repository, put before every address; without it they
        are relative to the data set.

    Returns
    -------
    str
        JSON. Messages are in English.
    """
    rules: dict[str, dict[str, Any]] = {}
    found = sorted(
        _audited(result, rules, base) if isinstance(result, AuditResult)
        else _gated(result, rules, base),
        key=lambda item: _RANK.index(item[0]),
    )  # fmt: skip
    order = {name: k for k, name in enumerate(rules)}
    results = [{**item, "ruleIndex": order[item["ruleId"]]} for _, item in found[:RESULTS]]
    log = {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "evalsuite",
                        "version": result.evalsuite_version,
                        "rules": list(rules.values()),
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": True,
                        "exitCode": result.exit_code,
                        "commandLine": clean(result.command, 2000),
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": results,
                "properties": {
                    "verdict": result.verdict.value,
                    "resultsLeftOut": len(found) - len(results),
                },
            }
        ],
    }
    return json.dumps(log, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _rule(rules: dict[str, dict[str, Any]], name: str, title: str, text: str) -> None:
    rules.setdefault(
        name,
        {
            "id": name,
            "name": "".join(part.capitalize() for part in name.replace(".", "_").split("_")),
            "shortDescription": {"text": clean(title, 200) or name},
            "fullDescription": {"text": clean(text, _MESSAGE) or name},
        },
    )


def _result(
    rule: str, status: Status, text: str, uri: str, line: int | None, mark: str
) -> dict[str, Any]:
    place: dict[str, Any] = {
        "artifactLocation": {"uri": quote(uri, safe="/", errors="replace") or "."}
    }
    if line is not None:
        place["region"] = {"startLine": max(1, line)}
    return {
        "ruleId": rule,
        "level": _LEVELS[status],
        "message": {"text": clean(text, _MESSAGE) or rule},
        "locations": [{"physicalLocation": place}],
        # What a host tells an old result by: the rule and the sample, whatever line it moved to.
        "partialFingerprints": {
            "evalsuite/v1": hashlib.sha256(f"{rule}\n{mark}".encode("utf-8", "replace")).hexdigest()
        },
        "properties": {"status": status.value},
    }


def _within(base: str, uri: str) -> str:
    return f"{base.strip('/')}/{uri}" if base.strip("/") else uri


def _audited(
    result: AuditResult, rules: dict[str, dict[str, Any]], base: str
) -> Iterator[tuple[Status, dict[str, Any]]]:
    english = Translator("en")
    for check in result.checks:
        if check.status in (Status.PASS, Status.INFO):
            continue
        rule = f"audit.{check.id}"
        said = english.message(check.message)
        _rule(rules, rule, english.get(f"audit.check.{check.id}", check.id), said)
        if not check.examples:
            yield check.status, _result(
                rule, check.status, said, base.strip("/") or result.vendor.name,
                None, check.key,
            )  # fmt: skip
        for e in check.examples:
            text = f"{e.sample}: {english.message(e.message)}"
            yield (
                check.status,
                _result(
                    rule, check.status, text, _within(base, e.place.uri), e.place.line,
                    f"{check.key}\n{e.sample}\n{e.partner}\n{e.message.id}"
                    f"{e.message.params.get('kind') or e.message.params.get('field') or ''}",
                ),
            )  # fmt: skip


def _gated(
    result: GateResult, rules: dict[str, dict[str, Any]], base: str
) -> Iterator[tuple[Status, dict[str, Any]]]:
    english, table = Translator("en"), catalogue("en")
    whole = base.strip("/") or result.synthetic.name
    for finding in result.findings:
        if finding.status in (Status.PASS, Status.INFO):
            continue
        rule = f"gate.{finding.metric}"
        _rule(
            rules,
            rule,
            english.metric(finding.metric),
            table.get(f"metric.{finding.metric}.means", english.metric(finding.metric)),
        )
        said = english.message(finding.message) if finding.message else finding.status.value
        # A host shows a suppressed result as what it would be, and as dismissed.
        status = finding.status if finding.waiver is None else finding.waiver.status
        found = _result(rule, status, said, whole, None, finding.key)
        if finding.waiver is not None:
            found["suppressions"] = [
                {
                    "kind": "external",
                    "status": "accepted",
                    "justification": clean(english.waived(finding.waiver), _MESSAGE),
                }
            ]
        yield finding.status, found
    for reason in result.reasons:
        if reason.finding is None and reason.status not in (Status.PASS, Status.INFO):
            rule = f"gate.{reason.message.id}"
            said = english.message(reason.message)
            _rule(rules, rule, reason.message.id.replace("_", " "), said)
            mark = f"{reason.message.id} {said}"
            yield reason.status, _result(rule, reason.status, said, whole, None, mark)
    for problem in result.synthetic.problem_examples:
        rule = f"data.{problem.kind}"
        title = english.get(f"problem.{problem.kind}", problem.kind)
        _rule(rules, rule, title, title)
        name, _, line = problem.sample.partition("#line ")
        text = f"{problem.sample}: {problem.detail}"
        yield (
            Status.WARN,
            _result(
                rule, Status.WARN, text, _within(base, name), int(line) if line.isdigit() else None,
                problem.sample,
            ),
        )  # fmt: skip
