"""Every planted fault is found and named; a clean set meets no failure; nothing private leaks."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from evalsuite.errors import DataError, PolicyError
from evalsuite.gate.audit import AuditResult, Check, load_audit_policy, load_claims
from evalsuite.gate.findings import Status
from evalsuite.pipeline.audit import Audit, audit
from evalsuite.pipeline.audit_copies import near_copies
from evalsuite.pipeline.audit_labels import suspicious_labels
from evalsuite.report.audit import OUTPUTS, write_audit
from evalsuite.report.sarif import render_sarif

if TYPE_CHECKING:
    from conftest import Home

PERSON = "taro.yamada@firma.example"
ROOT = Path(__file__).parents[2]
CLAIMS = """
samples: 64
classes: {mono: {share: 0.4, tolerance: 0.2}, poly: {share: 0.6, tolerance: 0.2}}
modalities: [image]
formats: [PNG]
min_resolution: [300, 300]
licence: CC-BY-4.0
"""


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def claims(home: Home) -> Path:
    (home / "claims.yaml").write_text(CLAIMS)
    return home / "claims.yaml"


def made(home: Home, name: str, claims: Path) -> Audit:
    return audit(
        home / name,
        real=home / "real",
        holdout=home / "holdout",
        claims=claims,
        policy=home / "policy.yaml",
        cache=home.cache,
        command=f"evalsuite audit /secret/place/{name}",
    )


@pytest.fixture(scope="session")
def clean(home: Home, claims: Path) -> Audit:
    return made(home, "clean", claims)


@pytest.fixture(scope="session")
def bad(home: Home, claims: Path) -> Audit:
    return made(home, "bad", claims)


def check(found: Audit, name: str) -> Check:
    return next(c for c in found.result.checks if c.key == name)


def named(found: Audit, name: str) -> set[str]:
    return {e.sample for e in check(found, name).examples}


# ---- what is found -----------------------------------------------------------------------------


def test_a_clean_set_meets_no_failure(clean: Audit) -> None:
    wrong = {
        c.key: c.message.text
        for c in clean.result.checks
        if c.status not in (Status.PASS, Status.WARN)
    }
    assert wrong == {}
    assert clean.result.exit_code == 0
    assert clean.result.not_done == ()
    done = {c.id for c in clean.result.checks}
    assert {"unreadable", "label_suspects", "near_copies_of_holdout", "gate", "subgroups",
            "mode_collapse", "provenance", "claim_licence"} <= done  # fmt: skip


def test_flipped_labels_are_found(home: Home, bad: Audit, clean: Audit) -> None:
    suspects = {s.sample for s in bad.result.suspects}
    recall = len(suspects & home.flipped) / len(home.flipped)
    assert recall >= 0.75, recall  # 0.875 on these eight of 66
    assert len(suspects - home.flipped) <= 4
    assert check(bad, "label_suspects/image").status is Status.FAIL
    assert len(clean.result.suspects) <= 2
    first = bad.result.suspects[0]
    row = rows(home / "bad")[(first.place.line or 0) - 1]
    assert (row["file_name"], row["label"]) == (first.sample, first.label)
    assert first.p_label < 0.5 < first.p_suggested
    # The captions know nothing of the classes: that is said, and nothing is doubted by them.
    assert ("label_suspects", "text") in {(s.id, s.modality) for s in bad.result.not_done}


def test_copies_are_found_and_named(home: Home, bad: Audit) -> None:
    listed = [str(row["file_name"]) for row in rows(home / "bad")]
    real = [str(row["file_name"]) for row in rows(home / "real")]
    exact = check(bad, "exact_copies_of_real/image")
    assert {e.sample: e.partner for e in exact.examples} == {
        listed[k]: real[k] for k in (20, 21, 22)
    }
    assert exact.status is Status.FAIL
    assert named(bad, "exact_copies_of_holdout/image") == {listed[23]}
    assert check(bad, "exact_copies_of_holdout/image").status is Status.FAIL
    near = check(bad, "near_copies_of_real/image")
    pairs = {e.sample: e.partner for e in near.examples[: near.count]}
    resaved = {f"resaved{k}.jpg": real[k] for k in range(24, 30)}
    found = {k: v for k, v in pairs.items() if resaved.get(k) == v}
    assert len(found) >= 5, pairs  # all six here, each with its original
    assert near.status is Status.FAIL
    inside = check(bad, "near_duplicates/image")
    assert {e.sample for e in inside.examples[: inside.count]} == {"located.jpg", listed[33]}
    for role, sample in (("vendor", "resaved24.jpg"), ("real", real[24])):
        assert Image.open(io.BytesIO(bad.thumbnails[role, sample])).size[0] <= 64


def test_broken_files_are_found_and_named(home: Home, bad: Audit) -> None:
    listed = [str(row["file_name"]) for row in rows(home / "bad")]
    unreadable = check(bad, "unreadable")
    assert [e.sample for e in unreadable.examples] == [listed[31]]
    assert (unreadable.examples[0].place.uri, unreadable.examples[0].place.line) == (
        "metadata.jsonl",
        32,
    )
    assert unreadable.examples[0].message.params["kind"] == "problem.truncated"
    wrong = check(bad, "mislabelled_type")
    assert {e.sample: e.message.params for e in wrong.examples} == {
        listed[32]: {"format": "JPEG", "ending": ".png"}
    }
    twins = check(bad, "duplicates")
    assert {(e.sample, e.partner) for e in twins.examples} == {("twin.png", listed[30])}
    assert named(bad, "conflicting_labels") == {"twin.png", listed[30]}
    assert check(bad, "checksums").count == 2
    assert all(e.place.uri == "croissant.json" for e in check(bad, "checksums").examples)


def test_private_data_are_found_and_never_repeated(home: Home, bad: Audit, tmp_path: Path) -> None:
    leaks = check(bad, "metadata_leaks")
    assert {(e.sample, e.message.params["kind"]) for e in leaks.examples} == {
        ("located.jpg", f"leak.{kind}") for kind in ("gps", "owner", "serial")
    }
    listed = [str(row["file_name"]) for row in rows(home / "bad")]
    assert named(bad, "personal_text") == {listed[40]}
    write_audit(bad.result, tmp_path, thumbnails=bad.thumbnails)
    for name in OUTPUTS:
        text = (tmp_path / name).read_text()
        for secret in (PERSON, "Taro Yamada", "SN-12345"):
            assert secret not in text, (name, secret)


def test_promises_are_held_against_what_came(bad: Audit, clean: Audit) -> None:
    states = {c.id: c.status for c in bad.result.checks if c.area == "claims"}
    assert states == {
        "claim_samples": Status.FAIL,  # 65 of 66 can be used, 64 were promised
        "claim_classes": Status.FAIL,  # one class was never promised
        "claim_modalities": Status.WARN,
        "claim_min_resolution": Status.PASS,
        "claim_formats": Status.FAIL,
        "claim_licence": Status.FAIL,
    }
    classes = check(bad, "claim_classes").details["classes"]
    assert classes["=1+1"] == {"min": 0, "max": 0, "delivered": 1, "ok": False}
    assert check(bad, "claim_formats").count == 8  # six resaved, one with GPS, one misnamed
    kept = {c.id: c.status for c in clean.result.checks if c.area == "claims"}
    assert set(kept.values()) == {Status.PASS}
    assert check(bad, "provenance").details["missing"] == ["license", "citeAs", "prov"]
    assert check(clean, "provenance").status is Status.PASS


def test_without_real_data_it_says_what_it_did_not_look_at(home: Home) -> None:
    found = audit(home / "clean", cache=home.cache)
    skipped = {s.id: s.message.id for s in found.result.not_done}
    assert skipped.pop("claims") == "audit_skip_needs_claims"
    assert {k for k, v in skipped.items() if v == "audit_skip_needs_holdout"} == {
        "exact_copies_of_holdout",
        "near_copies_of_holdout",
    }
    assert {k for k, v in skipped.items() if v == "audit_skip_needs_real"} == {
        "near_duplicates", "class_balance", "exact_copies_of_real", "near_copies_of_real", "gate",
        "drift", "subgroups", "mode_collapse",
    }  # fmt: skip
    assert not {c.id for c in found.result.checks} & skipped.keys()
    assert found.gate is None
    assert found.result.verdict in (Status.PASS, Status.WARN)


def test_too_few_samples_are_no_pass(home: Home, tmp_path: Path) -> None:
    for name in ("clean", "real"):
        (tmp_path / name).mkdir()
        for row in rows(home / name)[:4]:
            file = str(row["file_name"])
            (tmp_path / name / file).write_bytes((home / name / file).read_bytes())
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("a test set of another kind")
    found = audit(
        tmp_path / "clean", real=tmp_path / "real", holdout=tmp_path / "texts", cache=home.cache
    )
    assert (found.result.verdict, found.result.exit_code) == (Status.INCONCLUSIVE, 4)
    why = {s.id: s.message.id.removeprefix("audit_skip_") for s in found.result.not_done}
    assert why["drift"] == why["mode_collapse"] == why["near_copies_of_real"] == "too_few"
    assert why["exact_copies_of_holdout"] == "not_there"
    assert check(found, "exact_copies_of_real/image").status is Status.PASS


def test_texts(tmp_path: Path) -> None:
    subjects = ["cell", "module", "frame", "cable", "panel", "fuse", "relay", "sensor"]
    real = [
        f"The {s} of row {k} was cleaned on a {d} morning by the second crew."
        for k, s in enumerate(subjects * 3)
        for d in ("cold", "warm")
    ]
    copied = real[4].replace("cleaned", "Cleaned").replace(".", " !")
    mine = [
        "Rain came early and nobody went outside.",
        copied,
        real[7],
        "Call me at +81 90-1234-5678 tomorrow.",
        "Das Wetter war heute leider schlecht und wir blieben zu Hause.",
        *(
            f"Report {k}: nothing to add about the {s}, all is well."
            for k, s in enumerate(subjects)
        ),
    ]
    for name, texts in (("real", real), ("mine", mine)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text"])
            writer.writerows((f"{name}{k}", t) for k, t in enumerate(texts))
    (tmp_path / "claims.yaml").write_text("languages: [en]\nsample_rate: 16000\n")
    found = audit(
        tmp_path / "mine.csv",
        holdout=tmp_path / "real.csv",
        claims=tmp_path / "claims.yaml",
        cache=False,
    )
    assert named(found, "exact_copies_of_holdout/text") == {"mine2"}
    near = check(found, "near_copies_of_holdout/text")
    assert [(e.sample, e.partner) for e in near.examples] == [("mine1", "real4")]
    assert check(found, "personal_text").examples[0].place.line == 5
    assert named(found, "claim_languages") == {"mine4"}
    assert ("claim_sample_rate", "audit_skip_no_such_files") in {
        (s.id, s.message.id) for s in found.result.not_done
    }


def test_recordings(tmp_path: Path) -> None:
    import soundfile

    folder = tmp_path / "sounds"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        noise = (0.1 * rng.standard_normal(8000)).astype(np.float32)
        soundfile.write(folder / f"{k}.wav", noise, 16_000 if k else 8_000)
    with soundfile.SoundFile(folder / "tagged.wav", "w", 16_000, 1) as file:
        file.artist = "Taro Yamada"
        file.comment = f"ask {PERSON}"
        file.write(np.zeros(8000))
    soundfile.write(folder / "odd.flac", noise, 16_000, format="WAV")
    (tmp_path / "claims.yaml").write_text("sample_rate: [16000]\nformats: [WAV]\n")
    found = audit(folder, claims=tmp_path / "claims.yaml", cache=False)
    assert {
        (e.sample, e.message.params["kind"]) for e in check(found, "metadata_leaks").examples
    } == {
        ("tagged.wav", "leak.owner"),
        ("tagged.wav", "leak.comment"),
    }
    assert named(found, "mislabelled_type") == {"odd.flac"}
    assert named(found, "claim_sample_rate") == {"0.wav"}
    assert check(found, "claim_formats").status is Status.PASS


# ---- the two methods ---------------------------------------------------------------------------


def test_confident_learning_on_known_clouds() -> None:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0] * 8, [6.0] * 8, [-6.0] * 8])
    true = np.repeat(np.arange(3), 30)
    x = (centres[true] + rng.normal(size=(90, 8))).astype(np.float32)
    labels: list[str | None] = [f"c{k}" for k in true]
    flipped = {3: "c1", 40: "c2", 70: "c0"}
    for row, label in flipped.items():
        labels[row] = label
    labels[5] = None
    report = suspicious_labels(x, labels, [str(i) for i in range(90)])
    assert set(report.rows) == set(flipped)
    assert dict(zip(report.rows, report.suggested, strict=True)) == {3: "c0", 40: "c1", 70: "c2"}
    assert report.judged == 89
    assert report.tells
    assert list(report.p_label) == sorted(report.p_label)
    blind = suspicious_labels(
        rng.normal(size=x.shape).astype(np.float32), labels, list(map(str, x))
    )
    assert not blind.tells
    with pytest.raises(ValueError, match="two classes"):
        suspicious_labels(x[:30], labels[:30], [str(i) for i in range(30)])


class _Encoded:
    def __init__(self, x: np.ndarray, name: str) -> None:
        self.features = {"f": x.astype(np.float32)}
        self.hashes = [f"{name}{i}" for i in range(len(x))]
        self.thumbnails: list[bytes] = []


@pytest.mark.parametrize("gauged", [True, False])
def test_equal_sets_seldom_alarm(gauged: bool) -> None:
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(40):
        q, base, gauge = (_Encoded(rng.normal(size=(60, 16)), n) for n in "qbg")
        found = near_copies(
            q, base, "f", gauge=gauge if gauged else None, quantile=0.01  # type: ignore[arg-type]
        )  # fmt: skip
        assert found.p_value is not None
        alarms += found.p_value <= 0.05
    assert alarms <= 5
    copies = _Encoded(np.vstack([base.features["f"][:9] + 0.001, q.features["f"][:51]]), "q")
    found = near_copies(copies, base, "f", gauge=None, quantile=0.01)  # type: ignore[arg-type]
    assert found.certain == 9
    assert dict(zip(found.rows[:9], found.partners[:9], strict=True)) == {k: k for k in range(9)}
    assert found.p_value is not None
    assert found.p_value < 0.05


# ---- what is written ---------------------------------------------------------------------------


def test_sarif(home: Home, bad: Audit) -> None:
    log = json.loads(render_sarif(bad.result, base="data/bad"))
    assert log["version"] == "2.1.0"
    assert log["$schema"].endswith("sarif-schema-2.1.0.json")
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({r["id"] for r in rules}) == len(rules)
    lines = (home / "bad" / "metadata.jsonl").read_text().splitlines()
    at_manifest = 0
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("error", "warning", "note", "none")
        assert result["message"]["text"]
        (place,) = result["locations"]
        where = place["physicalLocation"]
        uri = where["artifactLocation"]["uri"]
        assert uri.startswith("data/bad")
        assert re.fullmatch(r"[A-Za-z0-9/._~%-]+", uri)
        if "region" in where:
            at_manifest += 1
            sample = result["message"]["text"].split(": ")[0]
            line = lines[where["region"]["startLine"] - 1]
            assert sample.split(".")[0] in line
    assert at_manifest > 20
    marks = [r["partialFingerprints"]["evalsuite/v1"] for r in run["results"]]
    assert len(set(marks)) == len(marks)
    worst = [r["level"] for r in run["results"]]
    assert worst == sorted(worst)  # "error" before "warning"
    assert bad.gate is not None
    gate = json.loads(render_sarif(bad.gate.result))["runs"][0]
    assert {r["ruleId"] for r in gate["results"]} >= {"gate.unreadable_share", "data.truncated"}


def test_outputs(bad: Audit, tmp_path: Path) -> None:
    written = write_audit(bad.result, tmp_path / "en", thumbnails=bad.thumbnails)
    assert [p.name for p in written] == list(OUTPUTS)
    read = AuditResult.model_validate_json(written[0].read_text())
    assert json.loads(read.model_dump_json()) == json.loads(bad.result.model_dump_json())
    page = written[1].read_text()
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert page.count("data:image/jpeg;base64,") >= 12
    assert len(page) < 1_000_000
    table = list(csv.DictReader(io.StringIO(written[4].read_text())))
    assert [r["sample"] for r in table] == [s.sample for s in bad.result.suspects]
    japanese = write_audit(bad.result, tmp_path / "ja", lang="ja")
    assert "このままでは受け入れられません" in japanese[1].read_text()
    assert "署名" in japanese[1].read_text()


def test_a_formula_in_a_label_stays_text(bad: Audit, tmp_path: Path) -> None:
    first = bad.result.suspects[0].model_copy(
        update={"label": "=cmd|'/c calc'!A0", "sample": " @x"}
    )
    result = bad.result.model_copy(update={"suspects": (first,)})
    text = write_audit(result, tmp_path)[4].read_text()
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["label"] == "'=cmd|'/c calc'!A0"
    assert row["sample"] == "' @x"


def test_redacted_outputs_name_nobody(bad: Audit, tmp_path: Path) -> None:
    write_audit(bad.result, tmp_path, thumbnails=bad.thumbnails, redact=True, base="secret/place")
    names = {e.sample for c in bad.result.checks for e in c.examples}
    names |= {e.partner for c in bad.result.checks for e in c.examples if e.partner}
    names -= {"croissant.json", "metadata.jsonl"}
    assert len(names) > 20
    for file in tmp_path.iterdir():
        text = file.read_text()
        for secret in (*names, "secret/place", "onerror", "passwd"):
            assert secret not in text, (file.name, secret)
    page = (tmp_path / "audit.html").read_text()
    assert "data:image" not in page
    assert "Not acceptable" in page


def test_the_page_runs_in_a_browser(bad: Audit, tmp_path: Path, chromium: Any) -> None:
    page_file = write_audit(bad.result, tmp_path, thumbnails=bad.thumbnails)[1]
    said: list[str] = []
    asked: list[str] = []
    for width in (1280, 390):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("console", lambda m: said.append(m.text))
        page.on("pageerror", lambda e: said.append(str(e)))
        page.on("dialog", lambda d: said.append(d.message))
        page.on("request", lambda r: asked.append(r.url))
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.locator(".blanks dd").count() == 4
        assert page.locator(".shot img").count() >= 12
        page.emulate_media(media="print")
        assert page.locator(".blanks").is_visible()
        page.close()
    assert said == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


# ---- what people write -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sample: 3", "did you mean 'samples'"),
        ("license: MIT", "did you mean 'licence'"),
        ("samples: {mim: 3}", "did you mean 'min'"),
        ("classes: {a: {cont: 3}}", "did you mean 'count'"),
        ("classes: {a: {count: 3, share: 0.1}}", "either count or share"),
        ("classes: {a: 1.5}", "less than or equal to 1"),
        ("samples: yes", "samples"),
        ("version: 1", "nothing is claimed"),
        ("[1]", "mapping"),
    ],
)
def test_wrong_claims_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(PolicyError, match=re.escape(said)):
        load_claims(tmp_path / "claims.yaml")


def test_the_examples_of_the_documentation_are_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "audit.md").read_text("utf-8")
    policy, claims = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "p.yaml").write_text(policy)
    (tmp_path / "c.yaml").write_text(claims)
    assert load_audit_policy(tmp_path / "p.yaml")[0].missing_fields == "fail"
    assert load_claims(tmp_path / "c.yaml").class_bounds("clean", 1000) == (500, 600)


def test_class_claims_are_bounds(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(
        "tolerance: 0.1\nclasses: {a: 50, b: 0.25, c: {count: 7, tolerance: 0.0}, d: {share: 0.5}}"
    )
    claims = load_claims(tmp_path / "c.yaml")
    assert claims.class_bounds("a", 100) == (45, 55)
    assert claims.class_bounds("b", 100) == (15, 35)
    assert claims.class_bounds("c", 100) == (7, 7)
    assert claims.class_bounds("d", 11) == (5, 6)


def test_the_audit_section_of_a_policy(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("audit: {duplicates: {warn: 0.2, fail: 0.3}}")
    limits, gate = load_audit_policy(tmp_path / "p.yaml")
    assert (limits.duplicates.warn, limits.duplicates.fail) == (0.2, 0.3)
    assert gate.name == load_audit_policy()[1].name
    assert [limits.duplicates.status(x) for x in (0.2, 0.25, 0.4)] == [
        Status.PASS,
        Status.WARN,
        Status.FAIL,
    ]
    (tmp_path / "p.yaml").write_text("audit: {duplicate: {warn: 0.2}, unreadable: {fial: 1.0}}")
    for meant in ("duplicates", "fail"):
        with pytest.raises(PolicyError, match=f"did you mean '{meant}'"):
            load_audit_policy(tmp_path / "p.yaml")
    (tmp_path / "p.yaml").write_text("audit: {duplicates: {warn: 0.4, fail: 0.3}}")
    with pytest.raises(PolicyError, match="lies above"):
        load_audit_policy(tmp_path / "p.yaml")


def test_command(home: Home, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "evalsuite.cli", "audit"]
    small = tmp_path / "vendor"
    small.mkdir()
    for row in rows(home / "clean")[:3]:
        (small / str(row["file_name"])).write_bytes(
            (home / "clean" / str(row["file_name"])).read_bytes()
        )
    (small / "croissant.json").write_text("[" * 100_000)
    (tmp_path / "claims.yaml").write_text("samples: {min: 4}\nclasses: {cell: 3}\n")
    done = subprocess.run(
        [*command, "vendor", "--claims", "claims.yaml", "--out", "out", "--lang", "ja"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAIL: vendor")
    assert "Promised 4–, but delivered 3" in done.stdout
    assert "Promised cell 3, but delivered cell 0" in done.stdout
    assert "croissant.json cannot be read" in done.stdout
    assert "not possible: " in done.stdout
    log = json.loads((tmp_path / "out" / "audit.sarif").read_text())
    uris = {
        r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for r in log["runs"][0]["results"]
    }
    assert uris == {"vendor", "vendor/croissant.json"}
    (tmp_path / "claims.yaml").write_text("sampels: 3")
    wrong = subprocess.run(
        [*command, "vendor", "--claims", "claims.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert wrong.returncode == 2
    assert "did you mean 'samples'" in wrong.stderr
    with pytest.raises(DataError, match="there is no"):
        audit(tmp_path / "nowhere")
