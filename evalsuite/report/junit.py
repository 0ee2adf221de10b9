"""``junit.xml``: the gate as a test run, for the CI systems that read JUnit.

One suite for each modality and kind, one test case for each judged finding, and the verdict as a
test case of its own, so that the run is red whenever the gate is not passed. A warning, for which
JUnit has no word, goes to ``system-out`` and to the suite's properties; *inconclusive* and *error*
are JUnit errors: the test could not say.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from ..gate.findings import Status
from .i18n import Translator
from .render import result_id
from .text import clean, number, p_value

if TYPE_CHECKING:
    from ..gate.findings import Finding, GateResult

_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TAG = {Status.FAIL: "failure", Status.ERROR: "error", Status.INCONCLUSIVE: "error"}


def render_junit(result: GateResult, *, ident: str | None = None) -> str:
    """Give the result as JUnit XML.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    ident : str, optional
        The result's id, where it is known already.

    Returns
    -------
    str
        An XML document in UTF-8, valid against the schema of Jenkins' xUnit plugin (junit-10.xsd).
        Findings that no rule judges are not in it.
    """
    text = Translator("en")
    root = ET.Element("testsuites", name="evalsuite")
    gate = _suite(root, "evalsuite.gate")
    _property(gate, "result_id", ident or result_id(result))
    _property(gate, "verdict", result.verdict.value)
    _property(gate, "policy_sha256", result.policy_sha256)
    reasons = "\n".join(text.message(r.message) for r in result.reasons[:50])
    _case(gate, "evalsuite.gate", "verdict", result.verdict, reasons or result.verdict.value, "")

    suites: dict[str, ET.Element] = {}
    for finding in result.findings:
        if finding.status is Status.INFO:
            continue
        name = f"evalsuite.{finding.modality}.{finding.kind}"
        if name not in suites:
            suites[name] = _suite(root, name)
        said = text.message(finding.message) if finding.message else finding.status.value
        if finding.waiver is not None:
            said = f"{clean(said, 400)} {text.waived(finding.waiver)}"
        _case(suites[name], name, finding.key, finding.status, said, _numbers(finding))
    _count(root)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _legal(text: str, limit: int) -> str:
    return _ILLEGAL.sub("\ufffd", text[:limit])


def _suite(root: ET.Element, name: str) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=_legal(name, 500))
    ET.SubElement(suite, "properties")
    return suite


def _property(suite: ET.Element, name: str, value: str) -> None:
    ET.SubElement(suite[0], "property", name=_legal(name, 1000), value=_legal(value, 2000))


def _case(
    suite: ET.Element, classname: str, name: str, status: Status, said: str, numbers: str
) -> None:
    case = ET.SubElement(
        suite, "testcase", name=_legal(name, 1000), classname=_legal(classname, 500), time="0"
    )
    first = clean(said.split("\n", 1)[0], 500)
    body = _legal(f"{said}\n{numbers}".strip(), 20_000)
    if status in _TAG:
        ET.SubElement(case, _TAG[status], type=status.value, message=first).text = body
        return
    if status is Status.WARN:
        _property(suite, f"warning:{name}", first)
        body = f"WARNING: {body}"
    ET.SubElement(case, "system-out").text = body


def _numbers(finding: Finding) -> str:
    ci, floor = finding.gap_ci, finding.floor
    parts = [f"value {number(finding.value)} {finding.unit}".strip()]
    if floor is not None:
        band = f"{number(floor.q05)} to {number(floor.q95)}"
        parts.append(f"chance {number(floor.median)} (5 to 95 %: {band})")
    if finding.gap is not None:
        whisker = f" [{number(ci.low)}, {number(ci.high)}]" if ci else ""
        parts.append(f"gap {number(finding.gap)}{whisker} {finding.gap_unit}".strip())
    if finding.tolerance is not None:
        parts.append(f"tolerance {number(finding.tolerance)}")
    if finding.p_adjusted is not None:
        parts.append(f"adjusted p {p_value(finding.p_adjusted)}")
    parts.append(f"n {finding.n_real:,} real, {finding.n_synthetic:,} synthetic")
    return "; ".join(parts)


def _count(root: ET.Element) -> None:
    """Set each count from what is there, so that no count can disagree with the cases."""
    totals = {"tests": 0, "failures": 0, "errors": 0}
    for suite in root.findall("testsuite"):
        counts = {
            "tests": len(suite.findall("testcase")),
            "failures": len(suite.findall("testcase/failure")),
            "errors": len(suite.findall("testcase/error")),
        }
        for key, count in counts.items():
            suite.set(key, str(count))
            totals[key] += count
        suite.set("skipped", "0")
        suite.set("time", "0")
    for key, count in totals.items():
        root.set(key, str(count))
    root.set("time", "0")
