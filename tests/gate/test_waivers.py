"""Waivers: a waived finding is a warning everywhere, and one that has ended is an error."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from evalsuite.errors import PolicyError
from evalsuite.gate.findings import DatasetSummary, Finding, GateResult, Interval, Status
from evalsuite.gate.judge import exit_code, judge
from evalsuite.gate.policy import Policy, Rule
from evalsuite.gate.waivers import Waiver, load_waivers
from evalsuite.report import redact_result, render_html, render_junit, render_markdown
from evalsuite.report.github import annotation_lines
from evalsuite.report.sarif import render_sarif

TODAY = date(2026, 11, 23)
POLICY = Policy(rules=(Rule(metric="kid", tolerance=0.05), Rule(metric="coverage", tolerance=0.1)))


def finding(metric: str, gap: float) -> Finding:
    return Finding(
        kind="distribution", modality="image", metric=metric, encoder="lite0", value=gap,
        n_real=100, n_synthetic=100, gap=gap, min_detectable_gap=0.02,
        gap_ci=Interval(low=gap - 0.01, high=gap + 0.01, method="test"),
    )  # fmt: skip


def data(role: str, used: int = 100) -> DatasetSummary:
    return DatasetSummary(
        role=role, name=role, format="f", fingerprint="00", n_found=100, n_used=used,
    )  # type: ignore[arg-type]  # fmt: skip


def waiver(pattern: str, expires: str = "2026-12-20") -> Waiver:
    return Waiver(
        finding=pattern, expires=date.fromisoformat(expires), owner="J. Sato",
        reason="the second camera is being replaced",
    )  # fmt: skip


def result(*waivers: Waiver, kid: float = 0.2, used: int = 100) -> GateResult:
    findings, verdict, reasons = judge(
        [finding("kid", kid), finding("coverage", 0.02)], POLICY, real=data("real"),
        synthetic=data("synthetic", used), waivers=waivers, today=TODAY,
    )  # fmt: skip
    return GateResult(
        evalsuite_version="0", verdict=verdict, exit_code=exit_code(verdict), reasons=reasons,
        findings=findings, real=data("real"), synthetic=data("synthetic", used), encoders=(),
        policy={}, policy_sha256="00", seed=0, alpha=0.05, command="evalsuite gate a b",
        versions={},
    )  # fmt: skip


def test_a_waived_failure_warns_and_never_passes() -> None:
    assert result().verdict is Status.FAIL
    waived = result(waiver("image/*/kid/all"))
    assert (waived.verdict, waived.exit_code) == (Status.WARN, 0)
    kid = next(f for f in waived.findings if f.metric == "kid")
    assert kid.status is Status.WARN
    assert kid.waiver is not None
    assert kid.waiver.status is Status.FAIL
    assert waived.reasons[0].waiver == kid.waiver
    assert waived.reasons[0].message.id == "gap_above_tolerance"  # what is wrong is still said
    assert result(waiver("image/*/coverage/all")).verdict is Status.FAIL
    undecided = result(waiver("image/*/kid/all"), kid=0.05)
    assert next(f for f in undecided.findings if f.waiver).waiver.status is Status.INCONCLUSIVE  # type: ignore[union-attr]


def test_a_waiver_that_has_ended_is_an_error_even_where_all_is_well() -> None:
    for kid in (0.2, 0.01):
        late = result(waiver("image/*/kid/all", "2026-11-22"), kid=kid)
        assert (late.verdict, late.exit_code) == (Status.ERROR, 3)
        (ended,) = [f for f in late.findings if f.kind == "waiver"]
        assert ended.slice == "image/*/kid/all"
        assert "2026-11-22" in late.reasons[0].message.text
    assert result(waiver("image/*/kid/all", "2026-11-23")).verdict is Status.WARN  # its last day


def test_what_could_not_be_read_cannot_be_waived() -> None:
    assert result(waiver("any/-/*/*"), kid=0.01, used=50).verdict is Status.FAIL


def test_a_day_is_needed() -> None:
    with pytest.raises(ValueError, match="which day it is"):
        judge([], POLICY, real=data("real"), synthetic=data("synthetic"), waivers=[waiver("a/b/c")])


def test_every_output_says_the_waiver(tmp_path: Path) -> None:
    found = result(waiver("image/*/kid/all"))
    said = "Waived until 2026-12-20 by J. Sato: the second camera is being replaced"
    assert said in render_markdown(found)
    assert said in annotation_lines(found)[0]
    assert annotation_lines(found)[0].startswith("::warning ")
    assert said in render_html(found)
    assert "2026-12-20 まで J. Sato が免除" in render_html(found, lang="ja")
    cases = ET.fromstring(render_junit(found)).iter("testcase")
    case = next(c for c in cases if "kid" in c.attrib["name"])
    assert case.find("failure") is None
    assert said in case.findtext("system-out", "")
    suppressed = [
        r for r in json.loads(render_sarif(found))["runs"][0]["results"] if "suppressions" in r
    ]
    assert [r["level"] for r in suppressed] == ["error"]  # what it is without the waiver
    (suppression,) = suppressed[0]["suppressions"]
    assert suppression["kind"] == "external"
    assert suppression["status"] == "accepted"
    assert said in suppression["justification"]
    hidden = redact_result(found)
    assert "J. Sato" not in hidden.model_dump_json()
    assert hidden.verdict is Status.WARN


def test_a_file_of_waivers_is_read_and_checked(tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(
        "waivers:\n  - {finding: 'image/*/kid/all', expires: 2026-12-20, owner: QA, "
        "reason: camera is being replaced}\n"
    )
    assert load_waivers(file)[0].expires == date(2026, 12, 20)
    file.write_text(file.read_text().replace("owner: QA, ", ""))
    with pytest.raises(PolicyError, match="owner: Field required"):
        load_waivers(file)
