"""Data sets made to break, exhaust or take over: each ends in our own error, or is counted."""

from __future__ import annotations

import csv
import io
import json
import os
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from lxml import html
from markdown_it import MarkdownIt

from evalsuite.data import BadSample, Limits, decode_audio, decode_image, open_dataset
from evalsuite.errors import DataError, EvalsuiteError, PolicyError
from evalsuite.gate.policy import load_policy, parse_policy
from evalsuite.generators import RecipeError, parse_recipe
from evalsuite.report import read_result

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg/onload=alert(1)>",
    "</script><script>alert(2)</script>",
    "]]></failure><failure message='x'>",
    "=cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd",
    "+1-1|$(id)`id`",
    "[click](javascript:alert(1)) ![x](http://evil.example/p.png)",
    "\\input{/etc/passwd}\\write18{id}$x_1^2$%&#",
    "{{7*7}}${7*7}<%= 7*7 %>",
    "\x1b]0;owned\x07\x1b[2J\u202egnp.exe\u2028",
    "a\nb\tc\x00d",
    "../../../../etc/passwd",
    "@everyone #1 !2 www.evil.example",
    "null",
    "__proto__",
)


# With raw HTML let through, as the most careless host would.
MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


# ---- text from the data, in every output ---------------------------------------------------------


def file_name(text: str) -> str:
    return text.replace("/", "∕").replace("\x00", "")[:80] + ".png"


@pytest.fixture(scope="module")
def judged(home: Path, cache: Path, tmp_path_factory: Any) -> tuple[Path, str]:
    """``compare`` over two sets whose names, labels, groups and captions are all hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    pictures = sorted((home / "synthetic").glob("*.png"))
    names = []
    for k in range(2):
        vendor = folder / f"vendor{k} {file_name(HOSTILE[k * 5])[:-4]}"
        vendor.mkdir()
        rows = []
        for i, picture in enumerate(pictures):
            text = HOSTILE[i % len(HOSTILE)]
            name = f"{i:02d} {file_name(text)}"
            shutil.copyfile(picture, vendor / name)
            rows.append(
                {"file_name": name, "id": f"{text} {i}", "label": text, "group": f"{text} {i % 9}"}
            )
            if k:
                rows[-1] |= {"text": f"{text} number {i}"}
        (vendor / f"0 {file_name(HOSTILE[1])}").write_bytes(b"no picture: " + HOSTILE[0].encode())
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (vendor / "metadata.jsonl").write_text(lines, encoding="utf-8")
        names.append(vendor.name)
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "compare", str(home / "real"), *names,
         "--policy", str(home / "quick.yaml"), "--out", "out",
         "--name", f"{HOSTILE[5]} {HOSTILE[1]}", "--name", f"{HOSTILE[9]} {HOSTILE[8]}"],
        cwd=folder, env={**os.environ, "EVALSUITE_CACHE": str(cache)},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1, 4), done.stderr.decode()
    assert not (folder / "owned").exists()
    return folder / "out", (done.stdout + done.stderr).decode("utf-8", "strict")


def test_pages_hold_no_element_that_came_from_data(judged: tuple[Path, str]) -> None:
    out, _ = judged
    pages = sorted(out.rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        text = page.read_text("utf-8")
        tree = html.fromstring(text)
        assert "Content-Security-Policy" in text
        for element in tree.iter():
            if not isinstance(element.tag, str):
                continue
            for name, value in element.attrib.items():
                assert not name.lower().startswith("on"), (page.name, name)
                assert not re.match(r"\s*javascript:", value, re.IGNORECASE)
            if element.tag in {"img", "script", "link", "iframe", "audio", "video", "object"}:
                for where in ("src", "href", "data"):
                    assert element.get(where, "data:").startswith("data:"), element.get(where)
        for script in tree.iter("script"):
            assert "alert(" not in (script.text or "") or script.get("type") == "application/json"
        # Data for the script stands in JSON, from which no element can be closed.
        for script in tree.xpath("//script[@type='application/json']"):
            assert "<" not in (script.text or "")
            json.loads(script.text)


def test_markdown_holds_no_markup_from_data(judged: tuple[Path, str]) -> None:
    out, _ = judged
    files = sorted(out.rglob("*.md"))
    assert files
    for file in files:
        tree = html.fromstring(MARKDOWN.render(file.read_text("utf-8")))
        assert not tree.xpath("//script | //img | //svg | //iframe")
        assert not [a for a in tree.xpath("//a/@href") if "evil" in a or "javascript" in a]


def test_junit_and_sarif_parse_and_hold_nothing_else(judged: tuple[Path, str]) -> None:
    out, _ = judged
    tests = sorted(out.rglob("*.xml"))
    assert tests
    known = {
        "testsuites", "testsuite", "properties", "property", "testcase", "failure", "error",
        "system-out",
    }  # fmt: skip
    for file in tests:
        assert {element.tag for element in ET.parse(file).getroot().iter()} <= known
    for file in out.rglob("*.sarif"):
        for found in json.loads(file.read_text("utf-8"))["runs"][0]["results"]:
            shown = MARKDOWN.render(found["message"].get("markdown", ""))
            assert "<script" not in shown
            assert "javascript:" not in shown


def test_no_cell_is_a_formula(judged: tuple[Path, str]) -> None:
    out, _ = judged
    files = sorted(out.rglob("*.csv"))
    assert files
    for file in files:
        for row in csv.reader(io.StringIO(file.read_text("utf-8"))):
            for cell in row:
                number = re.fullmatch(r"-?[\d.]+(e-?\d+)?", cell)
                assert number or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), cell


def test_latex_runs_nothing(judged: tuple[Path, str]) -> None:
    out, _ = judged
    files = sorted(out.rglob("*.tex"))
    assert files
    for file in files:
        text = file.read_text("utf-8")
        # The name came through escaped: as words, and not as commands.
        assert r"\textbackslash{}input\{/etc/passwd\}" in text
        assert not re.search(r"\\(input|write|include|immediate|openout|catcode)", text)


def test_nothing_reaches_the_terminal_as_a_control(judged: tuple[Path, str]) -> None:
    _, said = judged
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028]", said)


def test_what_was_hostile_is_still_counted(judged: tuple[Path, str]) -> None:
    out, _ = judged
    for k in (1, 2):
        result = read_result(out / str(k))
        assert result.synthetic.n_used == 30
        assert sum(result.synthetic.problems.values()) >= 1
        assert result.synthetic.groups


# ---- files ---------------------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def text_bomb() -> bytes:
    """A small picture whose compressed comment is a gigabyte of nothing."""
    zeros = zlib.compressobj(9)
    body = b"".join(zeros.compress(bytes(2**20)) for _ in range(64)) + zeros.flush()
    whole = png(2, 2, zlib.compress(bytes(6)))
    return whole[:33] + chunk(b"zTXt", b"Comment\0\0" + body) + whole[33:]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../evil.sh", "touch owned")
        archive.writestr("bomb", bytes(2**24))
    return file.getvalue()


class Owned:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return os.system, ("touch owned",)


def wav(size: int, *, channels: int = 1, rate: int = 16_000, bits: int = 16) -> bytes:
    width = channels * bits // 8
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * width % 2**32, width % 2**16, bits)
    return (
        b"RIFF" + struct.pack("<I", size) + b"WAVEfmt " + struct.pack("<I", len(form)) + form
        + b"data" + struct.pack("<I", size) + bytes(64)
    )  # fmt: skip


GIF = b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b";"
BMP = b"BM" + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 2**31 - 1, 1, 1, 24, 0, *[0] * 5)
IMAGES = {
    "header": png(2**31 - 1, 2**31 - 1),
    "pixels": png(20_000, 20_000, zlib.compress(bytes(20_000 * 20_001), 9)),
    "gif": GIF,
    "bmp": BMP,
    "zip": zipped(),
    "pickle": pickle.dumps(Owned(), 2),
    "script in a gif": b"GIF89a/*" + bytes(6) + b"*/=1;alert(1)//",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'><image href='http://x'/>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(owned) (w) file closefile\n",
    "php": b"<?php system('touch owned'); ?>",
    "nothing": b"",
}
AUDIO = {
    "four gigabytes": wav(2**32 - 1),
    "channels": wav(64, channels=65_535),
    "rate": wav(64, rate=2**32 - 1),
    "no bits": wav(64, bits=0),
    "flac": b"fLaC\x80\0\0\x22" + b"\x10\0\x10\0" + bytes(6) + b"\xff" * 8 + bytes(16),
    "ogg": b"OggS\0\x02" + b"\xff" * 60,
    "mp3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(64),
    "aiff": b"FORM\xff\xff\xff\xffAIFFCOMM\0\0\0\x12\xff\xff\xff\xff\xff\xff\0\x10" + bytes(10),
    "zip": zipped(),
}


@pytest.fixture
def little_memory() -> Any:
    """At most 2 GB more than now, so that a bomb that went off ends in MemoryError."""
    usage = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (usage + 2 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image_is_refused_fast(name: str, little_memory: Any, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(BadSample):
        decode_image(IMAGES[name])
    assert time.monotonic() - began < 2
    assert not Path("owned").exists()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_a_comment_that_is_a_bomb_costs_nothing(little_memory: Any) -> None:
    try:
        picture = decode_image(text_bomb())
    except BadSample:
        return
    assert picture.width == 2


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("name", AUDIO)
def test_a_hostile_recording_is_refused_or_short(name: str, little_memory: Any) -> None:
    began = time.monotonic()
    try:
        sound = decode_audio(AUDIO[name], Limits())
    except BadSample:
        pass
    else:
        assert len(sound.samples) < 100_000  # what is there, not what the header claims
    assert time.monotonic() - began < 5


def test_a_polyglot_is_only_a_picture(home: Path) -> None:
    """A picture with an archive and a page behind its end is that picture, or it is refused."""
    picture = next((home / "real").glob("*.png")).read_bytes()
    plain = decode_image(picture)
    for tail in (zipped(), b"<script>alert(1)</script>", pickle.dumps(Owned(), 2)):
        try:
            both = decode_image(picture + tail)
        except BadSample:
            continue
        assert both.pixels.tobytes() == plain.pixels.tobytes()


def test_a_folder_of_all_of_it_is_judged_and_each_file_counted(
    home: Path, cache: Path, tmp_path: Path
) -> None:
    vendor, secret = tmp_path / "vendor", tmp_path / "secret"
    shutil.copytree(home / "synthetic", vendor)
    (vendor / "metadata.jsonl").unlink()
    secret.mkdir()
    shutil.copyfile(next((home / "real").glob("*.png")), secret / "private.png")
    for name, data in IMAGES.items():
        (vendor / f"z {name}.png").write_bytes(data)
    (vendor / "z link.png").symlink_to(secret / "private.png")
    (vendor / "z up.png").symlink_to("../secret/private.png")
    (vendor / "z loop").symlink_to("z loop")
    (vendor / "z all").symlink_to(secret)
    (vendor / "z disk").symlink_to("/")
    os.mkfifo(vendor / "z pipe.png")
    deep = vendor
    for _ in range(60):
        deep /= "d" * 10
    deep.mkdir(parents=True)
    shutil.copyfile(next((home / "real").glob("*.png")), deep / "deep.png")
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "gate", str(home / "real"), str(vendor),
         "--policy", str(home / "quick.yaml"), "--out", str(tmp_path / "out")],
        cwd=tmp_path, env={**os.environ, "EVALSUITE_CACHE": str(cache)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode in (0, 1, 4), done.stderr
    result = read_result(tmp_path / "out")
    assert result.synthetic.n_used == 31
    lost = dict(result.synthetic.problems)
    assert lost.pop("outside_folder") == 4
    assert lost.pop("special_file") == 1
    assert sum(lost.values()) >= len(IMAGES)
    assert result.synthetic.n_found >= 31 + len(IMAGES)
    assert not list(tmp_path.rglob("owned"))
    assert "private" not in (tmp_path / "out" / "result.json").read_text().replace("secret/", "")


def test_a_tar_cannot_reach_out(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "shard-0.tar"
    picture = next((home / "real").glob("*.png")).read_bytes()
    with tarfile.open(path, "w") as tar:
        for name in ("ok.png", "../../evil.png", "/tmp/evil.png", "a/../../b.png"):
            member = tarfile.TarInfo(name)
            member.size = len(picture)
            tar.addfile(member, io.BytesIO(picture))
        for name, kind, target in (
            ("link.png", tarfile.SYMTYPE, "/etc/passwd"),
            ("hard.png", tarfile.LNKTYPE, "../../etc/passwd"),
            ("dev.png", tarfile.CHRTYPE, ""),
            ("pipe.png", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
        bomb = tarfile.TarInfo("zzz-bomb.png")
        bomb.size = 2**60
        tar.fileobj.write(bomb.tobuf(tarfile.GNU_FORMAT))  # type: ignore[union-attr]
    before = sorted(tmp_path.parent.rglob("*"))
    data = open_dataset(path)
    for sample in data:
        try:
            assert data.read(sample) == picture
        except BadSample:
            continue
    assert not any("passwd" in s.id for s in data)
    assert sorted(tmp_path.parent.rglob("*")) == before


@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd"])
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_manifest_cannot_name_the_machines_files(
    target: str, form: str, home: Path, tmp_path: Path
) -> None:
    picture = next((home / "real").glob("*.png"))
    shutil.copyfile(picture, tmp_path / "ok.png")
    path = tmp_path / f"list.{form}"
    if form == "csv":
        path.write_text(f"file_name\nok.png\n{target}\n")
    else:
        path.write_text(f'{{"file_name": "ok.png"}}\n{{"file_name": "{target}"}}\n')
    data = open_dataset(path)
    assert [s.id for s in data] == ["ok.png"]
    assert sum(p.lost for p in data.problems) == 1


# ---- documents -----------------------------------------------------------------------------------

LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
DOCUMENTS = {
    "billion laughs": LAUGHS,
    "merge": "a: &a {x: 1}\nb:\n  <<: *a\n",
    "python": "rules: !!python/object/apply:os.system ['touch owned']\n",
    "python name": "rules: !!python/name:os.system\n",
    "deep": "rules: " + "[" * 20_000,
    "deeper mapping": "{a: " * 5_000,
    "twice": "version: 1\nversion: 1\n",
    "long": "name: " + "x" * 2_000_000 + "\nrules: []\n",
    "number": f"seed: {'9' * 5000}\nrules: []\nversion: 1\nsteps: []\n",
    "octal": "alpha: 0o17\nrules: [{metric: kid, tolerance: .inf}]\n",
    "not a number": "alpha: .nan\nrules: [{metric: kid, tolerance: .nan}]\n",
    "date": "rules: [2001-13-45]\n",
    "control": "rules: [\x00\x07]\n",
    "list": "- 1\n",
    "empty": "",
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_hostile_policy_or_recipe_is_refused_at_once(name: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(DOCUMENTS[name], encoding="utf-8")
    began = time.monotonic()
    with pytest.raises(PolicyError):
        load_policy(path)
    with pytest.raises(RecipeError):
        parse_recipe(DOCUMENTS[name])
    assert time.monotonic() - began < 5
    assert not Path("owned").exists()


def test_the_command_says_so_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(LAUGHS)
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "policy", "check", "p.yaml"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: p.yaml: line 2: YAML aliases (*name) are refused\n"


def test_a_policy_cannot_make_the_gate_work_for_ever() -> None:
    huge = "rules: [{metric: kid, tolerance: 0.1}]\ncalibration: {permutations: 1000000000}\n"
    with pytest.raises(PolicyError, match="permutations"):
        parse_policy(huge)


@pytest.mark.parametrize("form", ["row", "header", "line"])
def test_a_million_keys_are_refused_in_little_time_and_memory(
    form: str, home: Path, tmp_path: Path
) -> None:
    shutil.copyfile(next((home / "real").glob("*.png")), tmp_path / "ok.png")
    if form == "row":
        keys = ", ".join(f'"k{i}": {i}' for i in range(1_000_000))
        path = tmp_path / "list.jsonl"
        path.write_text(f'{{"file_name": "ok.png"}}\n{{"file_name": "ok.png", {keys}}}\n')
    elif form == "line":  # as many as fit under the limit of a line: read, and nothing more
        keys = ", ".join(f'"k{i}": {i}' for i in range(50_000))
        path = tmp_path / "list.jsonl"
        path.write_text(f'{{"file_name": "ok.png", {keys}}}\n')
    else:
        path = tmp_path / "list.csv"
        path.write_text("file_name," + ",".join(f"k{i}" for i in range(1_000_000)) + "\nok.png\n")
    began = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if form == "header":
        with pytest.raises(DataError):
            open_dataset(path)
    else:
        data = open_dataset(path)
        assert len(data) == 1
        assert sum(p.kind == "bad_metadata" for p in data.problems) == (form == "row")
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


@pytest.mark.parametrize(
    "text",
    [
        "{}", "[]", "null", '{"schema_version": "1.0"}', '{"schema_version": {"a": 1}}',
        "[" * 100_000, '{"a":' * 100_000, "\x00", "NaN", "1e999",
        '{"schema_version": "1' + "0" * 9999,
    ],
)  # fmt: skip
def test_a_hostile_result_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(EvalsuiteError):
        read_result(tmp_path)
