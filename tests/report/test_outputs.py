"""The files: what they hold, that equal results give equal bytes, and that none is half there."""

from __future__ import annotations

import ast
import json
import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from lxml import etree, html
from markdown_it import MarkdownIt

from evalsuite.errors import DataError, UsageError
from evalsuite.gate.findings import GateResult, Interval, Message, Reason, Status
from evalsuite.report import (
    read_result,
    redact_result,
    render_html,
    render_junit,
    render_markdown,
    result_json,
    write_outputs,
)
from evalsuite.report.i18n import Translator, catalogue
from evalsuite.report.render import OUTPUTS
from evalsuite.report.text import clean, number, p_value, percent

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., GateResult]

KINDS = ("pass", "warn", "fail", "inconclusive", "error")
ROOT = Path(__file__).parents[2]


# ---- result.json -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_reads_back_equal(kind: str, make_result: Make, tmp_path: Path) -> None:
    result = make_result(kind)
    assert result.verdict.value == kind
    files = write_outputs(result, tmp_path / "new" / "folder")
    assert [f.name for f in files] == list(OUTPUTS)
    assert read_result(files[0]) == result
    assert read_result(tmp_path / "new" / "folder") == result


def test_only_times_differ_between_runs(make_result: Make) -> None:
    first, second = make_result("fail"), make_result("fail")
    later = second.model_copy(update={"times": {"began": "later", "seconds": {"total": 99.0}}})
    assert result_json(first) == result_json(second)
    assert result_json(first) != result_json(later)
    assert result_json(first, times=False) == result_json(later, times=False)
    plain, other = json.loads(result_json(first)), json.loads(result_json(later))
    assert {key for key in plain if plain[key] != other[key]} == {"times"}
    assert list(plain) == sorted(plain)


def test_the_order_of_keys_in_details_does_not_matter(make_result: Make) -> None:
    result = make_result("pass")
    finding = result.findings[0]
    ab, ba = (
        finding.model_copy(update={"details": dict(pairs)})
        for pairs in ([("a", 1), ("b", 2)], [("b", 2), ("a", 1)])
    )
    one, two = (result.model_copy(update={"findings": (f,)}) for f in (ab, ba))
    assert result_json(one) == result_json(two)


def test_a_number_that_is_not_finite_is_null_or_an_error(make_result: Make) -> None:
    result = make_result("pass")
    finding = result.findings[0]
    odd = finding.model_copy(update={"gap": math.nan, "details": {"x": math.inf}})
    plain = json.loads(result_json(result.model_copy(update={"findings": (odd,)})))
    assert plain["findings"][0]["gap"] is None
    assert plain["findings"][0]["details"] == {"x": None}
    broken = finding.model_copy(
        update={"gap_ci": Interval(low=math.nan, high=1.0, method="delete-half")}
    )
    with pytest.raises(DataError, match=r"findings\.0\.gap_ci\.low"):
        result_json(result.model_copy(update={"findings": (broken,)}))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "schema_version"),
        ('{"schema_version": 1}', "schema_version"),
        ('{"schema_version": "2.0"}', "schema version '2.0'"),
        ('{"schema_version": "1.0"}', "evalsuite_version: Field required"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_result_is_refused(text: str | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_result(path)


def test_an_unknown_key_is_refused(make_result: Make, tmp_path: Path) -> None:
    plain = json.loads(result_json(make_result("pass")))
    plain["findings"][0]["valeu"] = 1
    (tmp_path / "result.json").write_text(json.dumps(plain))
    with pytest.raises(DataError, match=r"findings\.0\.valeu"):
        read_result(tmp_path)


# ---- writing ---------------------------------------------------------------------------------


def test_a_failed_write_leaves_what_was_there(make_result: Make, tmp_path: Path) -> None:
    write_outputs(make_result("pass"), tmp_path)
    before = (tmp_path / "result.json").read_bytes()
    (tmp_path / "summary.md").unlink()
    (tmp_path / "summary.md").mkdir()  # a folder in the way: the rename must fail
    with pytest.raises(DataError, match="cannot write the outputs"):
        write_outputs(make_result("fail"), tmp_path)
    assert not list(tmp_path.glob(".*"))
    assert json.loads((tmp_path / "result.json").read_bytes())["verdict"] == "fail"
    (tmp_path / "summary.md").rmdir()
    write_outputs(make_result("pass"), tmp_path)
    assert (tmp_path / "result.json").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(OUTPUTS)


def test_a_file_where_the_folder_should_be_is_an_error(make_result: Make, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="cannot write the outputs"):
        write_outputs(make_result("pass"), tmp_path / "out")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_outputs_are_readable_as_the_umask_says(make_result: Make, tmp_path: Path) -> None:
    previous = os.umask(0o027)
    try:
        files = write_outputs(make_result("pass"), tmp_path)
    finally:
        os.umask(previous)
    assert {f.stat().st_mode & 0o777 for f in files} == {0o640}


def test_an_unknown_language_writes_nothing(make_result: Make, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'de': use one of en, ja"):
        write_outputs(make_result("pass"), tmp_path / "out", lang="de")
    assert not (tmp_path / "out").exists()


# ---- redaction -------------------------------------------------------------------------------


def test_a_redacted_run_names_no_sample(
    make_result: Make, make_thumbnails: Callable[..., Any], tmp_path: Path
) -> None:
    result = make_result("fail")
    secret = Message(
        id="unheard_of", text="Ann Smith's scan_7.png is odd", params={"who": "Ann Smith"}
    )
    finding = result.findings[0].model_copy(
        update={
            "message": secret,
            "details": {"file": "scan_7.png", "n": 3, "by": ["Ann Smith"], "of": {"Ann Smith": 2},
                        "curve": [{"added": 5, "gain": 0.1}]},
        }
    )  # fmt: skip
    result = result.model_copy(
        update={
            "findings": (finding, *result.findings[1:]),
            "reasons": (Reason(status=Status.FAIL, message=secret), *result.reasons),
            "explanations": (secret, *result.explanations),
            "command": "evalsuite gate /home/ann/clients/acme acme_out --seed 3 --out acme_report",
        }
    )
    files = write_outputs(result, tmp_path, thumbnails=make_thumbnails(result), redact=True)
    private = ("cell_", "module_", "Ann Smith", "scan_7", "acme", "/home", "broken/", "module 1",
               "demo/data", "17 bytes", "data:image/jpeg;base64,/9j/4AAQ")  # fmt: skip
    for file in files:
        text = (
            pd.read_parquet(file).to_json()
            if file.suffix == ".parquet"
            else file.read_text("utf-8")
        )
        assert [word for word in private if word in text] == [], file.name
    back = read_result(tmp_path)
    assert back.command == "evalsuite gate … … --seed 3 --out …"
    assert back.verdict == result.verdict
    assert [f.gap for f in back.findings] == [f.gap for f in result.findings]
    assert back.findings[0].details == {"n": 3, "curve": [{"added": 5, "gain": 0.1}]}
    names = {p.sample for p in back.maps[0].points}
    assert len(names) == len(back.maps[0].points)
    assert back.galleries[1].items[0].partner in names
    assert redact_result(back) == back.model_copy(update={"command": redact_result(back).command})


# ---- JUnit -----------------------------------------------------------------------------------

# The facts of junit-10.xsd of Jenkins' xUnit plugin that bear on what we write, in our own words.
# GitLab and the GitHub actions that read JUnit take a subset of it.
JUNIT = etree.XMLSchema(
    etree.fromstring(
        b"""<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
<xs:simpleType name="count"><xs:restriction base="xs:nonNegativeInteger"/></xs:simpleType>
<xs:complexType name="told" mixed="true"><xs:attribute name="type"/><xs:attribute name="message"/>
</xs:complexType>
<xs:complexType name="property"><xs:attribute name="name" use="required"/>
 <xs:attribute name="value" use="required"/></xs:complexType>
<xs:complexType name="case"><xs:choice minOccurs="0" maxOccurs="unbounded">
  <xs:element name="skipped" type="told"/><xs:element name="error" type="told"/>
  <xs:element name="failure" type="told"/><xs:element name="system-out" type="xs:string"/>
  <xs:element name="system-err" type="xs:string"/></xs:choice>
 <xs:attribute name="name" use="required"/><xs:attribute name="classname"/>
 <xs:attribute name="time" type="xs:decimal"/></xs:complexType>
<xs:complexType name="suite"><xs:sequence>
  <xs:element name="properties" minOccurs="0"><xs:complexType><xs:sequence>
   <xs:element name="property" type="property" minOccurs="0" maxOccurs="unbounded"/>
  </xs:sequence></xs:complexType></xs:element>
  <xs:element name="testcase" type="case" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
 <xs:attribute name="name" use="required"/>
 <xs:attribute name="tests" type="count" use="required"/>
 <xs:attribute name="failures" type="count" use="required"/>
 <xs:attribute name="errors" type="count" use="required"/>
 <xs:attribute name="skipped" type="count"/><xs:attribute name="time" type="xs:decimal"/>
</xs:complexType>
<xs:element name="testsuites"><xs:complexType><xs:sequence>
  <xs:element name="testsuite" type="suite" minOccurs="0" maxOccurs="unbounded"/></xs:sequence>
 <xs:attribute name="name"/><xs:attribute name="tests" type="count"/>
 <xs:attribute name="failures" type="count"/><xs:attribute name="errors" type="count"/>
 <xs:attribute name="time" type="xs:decimal"/></xs:complexType></xs:element>
</xs:schema>"""
    )
)


@pytest.mark.parametrize("hostile_data", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_junit_is_valid_and_says_what_the_gate_says(
    kind: str, hostile_data: bool, make_result: Make
) -> None:
    import junitparser

    result = make_result(kind, hostile=hostile_data)
    text = render_junit(result)
    tree = etree.fromstring(text.encode())
    JUNIT.assertValid(tree)

    parsed = junitparser.JUnitXml.fromstring(text.encode())
    cases = [case for suite in parsed for case in suite]
    judged = [f for f in result.findings if f.status is not Status.INFO]
    assert len(cases) == parsed.tests == len(judged) + 1
    failed = sum(f.status is Status.FAIL for f in judged) + (result.verdict is Status.FAIL)
    unsaid = (Status.ERROR, Status.INCONCLUSIVE)
    errors = sum(f.status in unsaid for f in judged) + (result.verdict in unsaid)
    assert (parsed.failures, parsed.errors) == (failed, errors)
    red = parsed.failures + parsed.errors > 0
    assert red == (result.exit_code != 0)
    for suite in parsed:
        listed = list(suite)
        assert suite.tests == len(listed)
        assert suite.failures == sum(
            isinstance(r, junitparser.Failure) for c in listed for r in c.result
        )
    warned = [p for suite in parsed for p in suite.properties() if p.name.startswith("warning:")]
    assert len(warned) == sum(f.status is Status.WARN for f in judged) + (
        result.verdict is Status.WARN
    )
    if warned:
        assert "WARNING: " in text


def test_the_verdict_turns_junit_red_when_no_finding_does(make_result: Make) -> None:
    result = make_result("error")
    assert all(f.status in (Status.PASS, Status.INFO) for f in result.findings)
    tree = etree.fromstring(render_junit(result).encode())
    assert tree.get("errors") == "1"
    assert "was not measured" in tree.find(".//error").get("message")


# ---- summary.md ------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_puts_the_verdict_first(kind: str, lang: str, make_result: Make) -> None:
    text = render_markdown(make_result(kind), lang=lang)
    table = catalogue(lang)
    first = text.split("\n")[0]
    assert first.startswith("# ")
    assert table[f"status.{kind}"] in first
    assert text.index(table["why"]) < text.index(table["next"]) < text.index(table["findings"])
    assert "{" not in text.replace("{{", "")


def test_the_summary_is_bounded(make_result: Make) -> None:
    small = make_result("fail")
    text = render_markdown(make_result("fail", extra_findings=3000, hostile=True))
    assert len(text.encode()) <= 60_000
    assert "of 3,026 findings are shown" in text
    assert len(render_markdown(small)) < 6_000


def test_data_is_never_markup_in_the_summary(make_result: Make) -> None:
    text = render_markdown(make_result("fail", hostile=True))
    rendered = MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(text)
    page = html.fragment_fromstring(rendered, create_parent="div")
    assert {e.tag for e in page.iter()} <= {
        "div", "h1", "h2", "p", "strong", "ul", "ol", "li", "table", "thead", "tbody", "tr", "th",
        "td", "code",
    }  # fmt: skip
    rows = page.findall(".//table")[0].findall(".//tr")
    assert {len(row) for row in rows} == {8}  # no cell was broken by a | in the data
    for element in page.iter():
        if element.tag not in ("code",):
            for loose in (element.text, element.tail):
                assert not re.search(r"(?<!\w)[@#](everyone|1)|\w://\w", loose or "")


# ---- report.html, without a browser ----------------------------------------------------------


def test_the_page_allows_itself_and_nothing_else(make_result: Make) -> None:
    import base64
    import hashlib

    page = html.document_fromstring(render_html(make_result("fail")))
    policy = page.find(".//meta[@http-equiv='Content-Security-Policy']").get("content")
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["form-action"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in policy
    assert "http" not in policy.lower().replace("http-equiv", "")
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        for element in page.iter(tag):
            if element.get("type") != "application/json":
                digest = hashlib.sha256((element.text or "").encode()).digest()
                assert f"'sha256-{base64.b64encode(digest).decode()}'" in rules[rule]
    for element in page.iter():
        for name, value in element.attrib.items():
            assert not name.startswith("on")
            assert name != "style"
            if name in ("src", "href", "xlink:href", "action", "srcset"):
                assert value.startswith(("#", "data:image/")), (element.tag, name, value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_verdict_can_be_read_without_a_script(kind: str, make_result: Make) -> None:
    result = make_result(kind)
    page = html.document_fromstring(render_html(result))
    text = Translator("en")
    headline = page.get_element_by_id("headline")
    assert headline.text_content() == text.t(f"headline.{kind}")
    words = " ".join(page.text_content().split())
    for reason in result.reasons[:8]:
        assert text.message(reason.message) in words
    assert headline.sourceline < page.get_element_by_id("why").sourceline
    assert page.get_element_by_id("why").sourceline < page.get_element_by_id("findings").sourceline


def test_hostile_text_is_text(make_result: Make, hostile: tuple[str, ...]) -> None:
    text = render_html(make_result("fail", hostile=True))
    plain = html.document_fromstring(render_html(make_result("fail")))
    page = html.document_fromstring(text)
    for tag in ("script", "style", "img", "iframe", "b", "link", "base", "form"):
        more = sum(1 for _ in page.iter(tag)) - sum(1 for _ in plain.iter(tag))
        assert more == (10 if tag == "b" else 0), tag  # a status word for each reason more
    data = json.loads(page.get_element_by_id("data").text)
    assert clean(hostile[0], 120) in data["findings"]["codes"]["metric"]
    for char in "\u2028\u2029\u202e\x00\x07":
        assert char not in text


def test_a_huge_result_stays_under_the_bound(
    make_result: Make, make_thumbnails: Callable[..., Any]
) -> None:
    result = make_result("fail", points=6_000, extra_findings=2_000, hostile=True)
    thumbnails = make_thumbnails(make_result("fail", points=50), side=160)
    some = list(thumbnails.values())
    keys = [(p.side, p.sample) for p in result.maps[0].points]
    pictures = {key: some[i % len(some)] + b"\0" * 4_000 for i, key in enumerate(keys)}
    finding = result.findings[0]
    slices = tuple(
        finding.model_copy(update={"slice": f"{i} " + "長い名前" * 60}) for i in range(40_000)
    )
    long = "長い説明文" * 200
    (shown,) = result.maps
    told = tuple(p.model_copy(update={"text": long}) for p in shown.points)
    shelf = result.galleries[1]
    items = tuple(
        i.model_copy(update={"text": long, "partner_text": long}) for i in shelf.items * 3
    )
    result = result.model_copy(
        update={
            "findings": result.findings + slices,
            "maps": (shown.model_copy(update={"points": told}),),
            "galleries": (shelf.model_copy(update={"items": items}),) * 40,
            "attributes": {
                f"a{i}": {"real": tuple(j / 7 for j in range(5000)), "synthetic": (1.0, 2.0)}
                for i in range(60)
            },
            "policy": {f"k{i}": "v" * 1000 for i in range(1000)},
            "command": "evalsuite " + "x" * 1_000_000,
        }
    )
    text = render_html(result, thumbnails=pictures, ident="huge")
    assert len(text.encode()) < 15_000_000
    page = html.document_fromstring(text)
    said = {note[0]: note[1] for note in json.loads(page.get_element_by_id("data").text)["notes"]}
    assert set(said) >= {
        "note.findings", "note.details", "note.points", "note.thumbnails", "note.attributes",
        "note.map_texts", "note.gallery",
    }  # fmt: skip
    assert said["note.points"] == {"shown": 4000, "total": 12000}
    assert 0 < said["note.thumbnails"]["shown"] < said["note.thumbnails"]["total"]
    assert f"{number(said['note.findings']['shown'])} of" in page.text_content()


def test_only_pictures_are_embedded(make_result: Make) -> None:
    result = make_result("pass", points=30)
    first, second, third = result.maps[0].points[:3]
    thumbnails = {
        (first.side, first.sample): b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
        (second.side, second.sample): b"\x89PNG\r\n\x1a\n" + b"0" * 100_000,
        (third.side, third.sample): b"\x89PNG\r\n\x1a\n ok",
    }
    page = html.document_fromstring(render_html(result, thumbnails=thumbnails))
    assert json.loads(page.get_element_by_id("thumbs").text) == [
        "data:image/png;base64,iVBORw0KGgogb2s="
    ]
    notes = json.loads(page.get_element_by_id("data").text)["notes"]
    assert ["note.thumbnails", {"shown": 1, "total": 3}] in notes


# ---- words and numbers -----------------------------------------------------------------------


def test_both_languages_say_the_same_things() -> None:
    fields = re.compile(r"\{(\w+(?:\|\w+)?)\}")
    english, japanese = catalogue("en"), catalogue("ja")
    assert set(english) == set(japanese)
    for key in english:
        assert set(fields.findall(english[key])) == set(fields.findall(japanese[key])), key
        assert japanese[key]


def test_every_message_of_the_gate_is_translated() -> None:
    ids = set()
    for folder in ("gate", "pipeline"):
        for file in (ROOT / "evalsuite" / folder).glob("*.py"):
            for node in ast.walk(ast.parse(file.read_text("utf-8"))):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Message":
                    ids |= {
                        k.value.value
                        for k in node.keywords
                        if k.arg == "id" and isinstance(k.value, ast.Constant)
                    }
    assert len(ids) > 5
    assert {i for i in ids if f"message.{i}" not in catalogue("en")} == set()


def test_every_metric_and_attribute_has_a_name_and_two_sentences() -> None:
    from evalsuite.gate.policy import load_policy
    from evalsuite.metrics.image.attributes import ATTRIBUTES

    table = catalogue("en")
    for rule in load_policy().rules:
        assert {f"metric.{rule.metric}{part}" for part in ("", ".means", ".blind")} <= set(table)
    assert {f"attribute.{name}" for name in ATTRIBUTES} <= set(table)
    assert {f"step.attribute.{name}" for name in ATTRIBUTES} <= set(table)


def test_attributes_are_ordered_and_put_into_words(make_result: Make) -> None:
    from evalsuite.report.view import next_steps, shifts

    result = make_result("fail")
    values = {
        "width": ((5.0, 5.0), (5.0, 5.0)),
        "height": ((5.0, 5.0), (6.0, 7.0)),
        "saturation": ((0.0, 1.0, 2.0), (-10.0, 1.0, 12.0)),
        "hue_spread": ((0.0, 1.0, 2.0), (0.9, 1.0, 1.1)),
    }
    more = {k: {"real": r, "synthetic": s} for k, (r, s) in values.items()}
    result = result.model_copy(update={"attributes": {**result.attributes, **more}})
    found = shifts(result)
    assert [s.name for s in found[:4]] == ["height", "sharpness", "noise", "contrast"]
    assert found[-1].name == "width"
    said = {s.name: s.words for s in found}
    assert said == {
        "height": "shift.constant", "sharpness": "shift.lower.strong",
        "noise": "shift.lower.clear", "contrast": "shift.lower.clear",
        "brightness": "shift.higher.slight", "entropy": "shift.same", "clipping": "shift.same",
        "saturation": "shift.wider", "hue_spread": "shift.narrower", "width": "shift.identical",
    }  # fmt: skip
    steps = [key for key, _ in next_steps(result)]
    assert steps[0] == "step.integrity"
    assert steps[1:3] == ["step.attribute.sharpness", "step.attribute.noise"]


def test_what_to_do_follows_from_the_verdict(make_result: Make) -> None:
    from evalsuite.report.view import next_steps

    first = {kind: next_steps(make_result(kind))[0] for kind in KINDS}
    assert first == {
        "pass": ("step.pass", {}),
        "warn": ("step.attribute.sharpness", first["warn"][1]),
        "fail": ("step.integrity", {"role": "synthetic"}),
        "inconclusive": ("step.more_samples", {"n": 2400}),
        "error": ("step.error", {}),
    }


def test_a_message_is_translated_or_says_its_own_text() -> None:
    text = Translator("ja")
    params: dict[str, Any] = {
        "metric": "kid", "slice": "all", "gap": 0.1, "low": 0.05, "high": 0.15, "tolerance": 0.1,
        "n": None,
    }  # fmt: skip
    known = Message(id="gap_undecided", text="English", params=params)
    assert text.message(known).startswith("カーネル距離(KID): ギャップ 0.1")
    assert "None" not in text.message(known)
    more = Message(id="gap_undecided", text="English", params={**params, "n": 2400})
    assert "2,400" in text.message(more)
    lacking = Message(id="gap_undecided", text="English only", params={})
    assert text.message(lacking) == "English only"
    assert text.message(Message(id="nobody_knows", text="Own text.")) == "Own text."


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0, "0"), (1.0, "1"), (12, "12"), (-3.14159, "−3.14"), (0.1, "0.1"), (0.12345, "0.123"),
        (2.5, "2.5"), (1.125, "1.13"), (999.4, "999"), (999.96, "1,000"), (1234.5, "1,235"),
        (1e6, "1,000,000"), (0.001, "0.001"), (0.00099999, "0.001"), (0.00012, "1.2×10⁻⁴"),
        (-4.56e-9, "−4.6×10⁻⁹"), (1.2e17, "1.2×10¹⁷"), (None, "–"), (math.nan, "–"),
        (math.inf, "–"), (1e-320, "1×10⁻³²⁰"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(x: float | None, text: str) -> None:
    assert number(x) == text


def test_shares_and_p_values_are_written_for_people() -> None:
    assert [percent(x) for x in (0.022, 1, 0.07, 0.00012, None)] == [
        "2.2%",
        "100%",
        "7%",
        "0.012%",
        "–",
    ]
    assert [p_value(p) for p in (0.0002, 0.012, 0.8, 1, None)] == [
        "< 0.001",
        "0.012",
        "0.8",
        "1",
        "–",
    ]


def test_clean_is_short_and_harmless() -> None:
    assert clean("a\n\tb\u202ec\x00") == "a b\ufffdc\ufffd"
    assert clean("x" * 10**7, 20) == "x" * 13 + "…" + "x" * 6
    assert clean("folder/" * 30 + "name.png", 40).endswith("name.png")
    assert clean("\udcff") == "\ufffd"


def test_files_that_are_no_samples_are_shown(make_result: Make) -> None:
    result = make_result("pass")
    data = result.synthetic.model_copy(update={"ignored": {"companion": 7}})
    shown = [
        ["".join(node.itertext()).split() for node in found]
        for page in (
            render_html(result),
            render_html(result.model_copy(update={"synthetic": data})),
        )
        for found in [
            html.document_fromstring(page).xpath(
                "//dt[contains(., 'Files that are no samples')]/following-sibling::dd"
            )
        ]
    ]
    assert shown == [[], [["companion", "7"]]]
