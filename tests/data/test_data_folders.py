"""Folders, metadata and manifests, friendly and hostile, with real files made here."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalsuite.data import (
    BadSample,
    Limits,
    Problem,
    decode_image,
    open_dataset,
    sample_hash,
    set_fingerprint,
)
from evalsuite.errors import DataError, UsageError


def picture(number: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    return root


def kinds(dataset) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for problem in dataset.problems:
        result.setdefault(problem.kind, []).append(problem.sample)
    return result


def detail(dataset, sample: str) -> str:
    (found,) = [p.detail for p in dataset.problems if p.sample == sample]
    return found


# --- folders ---------------------------------------------------------------------------------


def test_a_flat_folder_has_no_labels(tmp_path):
    dataset = open_dataset(fill(tmp_path, "b.png", "a.png"))
    assert dataset.format == "folder"
    assert dataset.name == tmp_path.name
    assert [s.id for s in dataset] == ["a.png", "b.png"]
    assert [s.source for s in dataset] == ["a.png", "b.png"]
    assert {(s.label, s.group, s.split, s.text) for s in dataset} == {(None,) * 4}
    assert dataset.read(dataset.samples[1]) == picture(0)
    assert dataset.problems == []
    assert dataset.n_found == len(dataset) == 2


def test_class_folders_are_labels_however_deep(tmp_path):
    dataset = open_dataset(fill(tmp_path, "cat/1.png", "cat/tabby/old/2.png", "dog/3.png"))
    assert dataset.labels() == {"cat": 2, "dog": 1}
    assert [s.id for s in dataset] == ["cat/1.png", "cat/tabby/old/2.png", "dog/3.png"]


def test_one_class_folder_is_a_label_but_a_container_is_not(tmp_path):
    assert open_dataset(fill(tmp_path / "x", "cat/1.png")).labels() == {"cat": 1}
    assert open_dataset(fill(tmp_path / "y", "images/1.png")).labels() == {}
    assert open_dataset(fill(tmp_path / "z", "images/cat/1.png", "images/dog/1.png")).labels() == {
        "cat": 1,
        "dog": 1,
    }


def test_files_beside_class_folders_have_no_label(tmp_path):
    dataset = open_dataset(fill(tmp_path, "cat/1.png", "2.png"))
    assert [(s.id, s.label) for s in dataset] == [("2.png", None), ("cat/1.png", "cat")]


def test_folders_named_like_splits_are_splits(tmp_path):
    fill(tmp_path, "train/cat/1.png", "train/dog/2.png", "test/cat/3.png")
    dataset = open_dataset(tmp_path)
    assert dataset.splits() == {"test": 1, "train": 2}
    assert dataset.labels() == {"cat": 2, "dog": 1}
    assert [s.id for s in open_dataset(tmp_path, split="test")] == ["test/cat/3.png"]
    with pytest.raises(DataError, match=r"no split 'val'; it has 'test', 'train'"):
        open_dataset(tmp_path, split="val")
    fill(tmp_path, "other/4.png")
    assert open_dataset(tmp_path).splits() == {}, "one folder that is none: they are classes"


def test_the_order_does_not_depend_on_the_disk(tmp_path):
    names = [f"{i * 7919 % 1000:04d}.png" for i in range(300)]
    assert [s.id for s in open_dataset(fill(tmp_path, *names))] == sorted(names)


def test_hidden_system_and_companion_files_are_ignored_but_counted(tmp_path):
    fill(tmp_path, "a.png", ".hidden.png", "._a.png", "__MACOSX/a.png", ".git/x.png")
    for name in ("Thumbs.db", "desktop.ini", "README", "notes.txt", "labels.csv", "a.json"):
        (tmp_path / name).write_text("words")
    dataset = open_dataset(tmp_path)
    assert [s.id for s in dataset] == ["a.png"]
    assert dataset.ignored == {"companion": 4, "hidden": 3, "system": 3}
    assert dataset.problems == []


def test_a_picture_with_the_ending_of_a_text_is_a_sample(tmp_path):
    dataset = open_dataset(fill(tmp_path, "photo.txt"))
    (sample,) = dataset
    assert decode_image(dataset.read(sample), name=sample.source).notes == ("extension",)


def test_what_is_no_image_is_a_sample_until_it_is_decoded(tmp_path):
    fill(tmp_path, "a.png")
    for name in ("m.pkl", "m.npy", "m.pt", "drawing.svg", "paper.pdf", "no_ending"):
        (tmp_path / name).write_bytes(b"\x80\x04.")
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 7
    bad = []
    for sample in dataset:
        try:
            decode_image(dataset.read(sample))
        except BadSample as error:
            bad.append(error.problem(sample.id))
    assert [p.sample for p in bad] == sorted(
        ["m.pkl", "m.npy", "m.pt", "drawing.svg", "paper.pdf", "no_ending"]
    )
    assert {p.kind for p in bad} == {"not_an_image"}


def test_nothing_there_is_an_error_that_says_what_to_do(tmp_path):
    with pytest.raises(DataError, match="there is no"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="empty"):
        open_dataset(tmp_path)
    (tmp_path / "notes.md").write_text("words")
    with pytest.raises(DataError, match="ignored: 1 companion"):
        open_dataset(tmp_path)
    for name in ("a.zip", "a.png", "a.tar.gz"):
        (tmp_path / name).write_bytes(b"x")
        with pytest.raises(DataError, match="give a folder"):
            open_dataset(tmp_path / name)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="a FIFO"):
        open_dataset(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"cannot open a builtins\.int"):
        open_dataset(3)
    with pytest.raises(DataError, match=r"evalsuite\.metrics measures arrays"):
        open_dataset([Image.new("RGB", (4, 4))])
    with pytest.raises(DataError, match="there is no"):
        open_dataset("a\0b")


# --- a folder that is not trusted ------------------------------------------------------------


@pytest.fixture
def secret(tmp_path) -> Path:
    folder = tmp_path / "secret"
    return fill(folder, "secret.png") / "secret.png"


def test_links_out_of_the_folder_are_reported_and_not_followed(tmp_path, secret):
    root = fill(tmp_path / "data", "a.png")
    (root / "file.png").symlink_to(secret)
    (root / "relative.png").symlink_to("../secret/secret.png")
    (root / "folder").symlink_to(secret.parent)
    (root / "hop.png").symlink_to("file.png")
    (root / "prefix.png").symlink_to(str(root) + "-other/x.png")
    dataset = open_dataset(root)
    assert [s.id for s in dataset] == ["a.png"]
    assert kinds(dataset) == {
        "outside_folder": ["file.png", "folder", "hop.png", "prefix.png", "relative.png"]
    }
    assert dataset.n_found == 6


def test_links_within_the_folder(tmp_path):
    root = fill(tmp_path, "cat/a.png")
    (root / "b.png").symlink_to("cat/a.png")
    (root / "dog").symlink_to("cat")
    (root / "cat" / "up").symlink_to("..")
    (root / "gone.png").symlink_to("cat/absent.png")
    (root / "loop.png").symlink_to("loop.png")
    dataset = open_dataset(root)
    assert [s.id for s in dataset] == ["b.png", "cat/a.png"]
    assert dataset.read(dataset.samples[0]) == picture(0)
    assert dataset.ignored == {"directory_link": 2}
    assert kinds(dataset) == {"missing": ["gone.png"], "unreadable": ["loop.png"]}


def test_the_folder_itself_may_be_a_link(tmp_path):
    fill(tmp_path / "data", "a.png")
    (tmp_path / "link").symlink_to("data")
    assert len(open_dataset(tmp_path / "link")) == 1


def test_a_file_that_became_a_link_or_a_pipe_since_is_refused(tmp_path, secret):
    root = fill(tmp_path / "data", "a.png", "b.png", "c.png", "d.png")
    dataset = open_dataset(root)
    for name in "abcd":
        (root / f"{name}.png").unlink()
    (root / "a.png").symlink_to(secret)
    os.mkfifo(root / "b.png")
    (root / "c.png").mkdir()
    found = []
    for sample in dataset:
        with pytest.raises(BadSample) as caught:
            dataset.read(sample)
        found.append(caught.value.kind)
    assert found == ["unreadable", "special_file", "unreadable", "missing"]


def test_special_files_do_not_hang(tmp_path):
    root = fill(tmp_path, "a.png")
    os.mkfifo(root / "fifo.png")
    os.mkfifo(root / "fifo.txt")
    with socket.socket(socket.AF_UNIX) as sock:
        here = Path.cwd()
        os.chdir(root)  # the path of a socket may have 108 characters only
        sock.bind("socket.png")
        os.chdir(here)
        (root / "device.png").symlink_to("/dev/zero")
        dataset = open_dataset(root)
    assert kinds(dataset) == {
        "special_file": ["fifo.png", "fifo.txt", "socket.png"],
        "outside_folder": ["device.png"],
    }
    assert "FIFO" in detail(dataset, "fifo.png")


@contextmanager
def as_nobody():
    """Root reads everything; become someone who does not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_reported():
    with tempfile.TemporaryDirectory() as name:
        root = fill(Path(name), "a.png", "closed.png", "shut/b.png")
        root.chmod(0o755)
        (root / "closed.png").chmod(0)
        (root / "shut").chmod(0)
        try:
            with as_nobody():
                dataset = open_dataset(root)
                assert [s.id for s in dataset] == ["a.png", "closed.png"]
                assert kinds(dataset) == {"unreadable": ["shut/"]}
                with pytest.raises(BadSample, match="Permission denied") as caught:
                    dataset.read(dataset.samples[1])
                assert caught.value.kind == "unreadable"
        finally:
            (root / "shut").chmod(0o755)


def test_empty_and_large_files(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "empty.png").touch()
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(2**40)
    dataset = open_dataset(tmp_path, limits=Limits(max_bytes=1000))
    found = {}
    for sample in dataset.samples[1:]:
        with pytest.raises(BadSample) as caught:
            dataset.read(sample)
        found[sample.id] = caught.value.kind
    assert found == {"empty.png": "truncated", "sparse.png": "oversized"}
    with pytest.raises(DataError, match="max_bytes must be at least 1"):
        Limits(max_bytes=0)


def test_names_are_data(tmp_path):
    names = [
        "<script>alert(1)<%2Fscript>.png",
        "a\nb.png",
        "\x1b[31mred.png",
        "日本語.png",
        "a b'\".png",
    ]
    fill(tmp_path, *names)
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(picture())
    dataset = open_dataset(tmp_path)
    assert {s.id for s in dataset} == {*names, "caf\\udce9.png"}
    for sample in dataset:
        json.dumps(sample.id).encode()
        sample.id.encode("utf-8")
        assert dataset.read(sample)


def test_two_names_that_become_one_are_told_apart(tmp_path):
    (tmp_path / os.fsdecode(b"\xe9.png")).write_bytes(picture(1))
    (tmp_path / "\\udce9.png").write_bytes(picture(2))
    dataset = open_dataset(tmp_path)
    assert [s.id for s in dataset] == ["\\udce9.png", "\\udce9.png~2"]
    assert kinds(dataset) == {"duplicate_id": ["\\udce9.png~2"]}
    assert dataset.n_found == 2


def test_reading_from_many_threads_is_reading(tmp_path):
    dataset = open_dataset(fill(tmp_path, *(f"{i:03d}.png" for i in range(200))))
    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(dataset.read, dataset.samples)) == [picture(i) for i in range(200)]


def test_ten_thousand_files_open_in_under_a_second(tmp_path):
    fill(tmp_path, "class0/a.png")
    for folder in range(10):
        (tmp_path / f"class{folder}").mkdir(exist_ok=True)
        for i in range(1000):
            os.link(tmp_path / "class0" / "a.png", tmp_path / f"class{folder}" / f"{i}.png")
    times = []
    for _ in range(3):
        start = time.process_time()
        assert len(open_dataset(tmp_path)) == 10_001
        times.append(time.process_time() - start)
    assert min(times) < 1


def test_a_plain_folder_needs_no_heavy_import(tmp_path):
    fill(tmp_path, "a.png")
    code = (
        "import sys; from evalsuite.data import open_dataset, decode_image\n"
        f"d = open_dataset({str(tmp_path)!r}); decode_image(d.read(d.samples[0]))\n"
        "print([m for m in ('datasets', 'pyarrow', 'pandas', 'torch') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# --- metadata --------------------------------------------------------------------------------


def test_metadata_jsonl(tmp_path):
    fill(tmp_path, "a.png", "sub/b.png")
    rows = [
        {"file_name": "a.png", "id": "A", "label": "007", "group": 12, "split": "train"},
        {"file_name": "sub/b.png", "label": None, "caption": "a <b>bold</b>\0 one"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    dataset = open_dataset(tmp_path)
    assert dataset.format == "folder+metadata"
    assert kinds(dataset) == {"control_characters": ["sub/b.png"]}
    first, second = dataset
    assert (first.id, first.source, first.label, first.group) == ("A", "a.png", "007", "12")
    assert (first.split, first.text) == ("train", None)
    assert (second.id, second.label, second.text) == ("sub/b.png", None, "a <b>bold</b>\0 one")
    assert dataset.groups() == {"12": 1}
    assert dataset.read(second) == picture(1)


def test_metadata_csv_keeps_text_as_it_is(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_bytes(
        b'\xef\xbb\xbffile_name,Label,text\r\na.png,007,"two\r\nlines, ""quoted"""\r\nb.png,NA,\r\n'
    )
    a, b = open_dataset(tmp_path)
    assert (a.label, a.text) == ("007", 'two\r\nlines, "quoted"')
    assert (b.label, b.text) == ("NA", None)


def test_metadata_parquet(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    fill(tmp_path, "a.png")
    pq.write_table(pa.table({"file_name": ["a.png"], "label": [3]}), tmp_path / "metadata.parquet")
    (a,) = open_dataset(tmp_path)
    assert a.label == "3"


def test_metadata_in_split_folders_names_files_beside_itself(tmp_path):
    for split in ("train", "test"):
        fill(tmp_path, f"{split}/a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,label\na.png,{split}-label\n")
    assert [(s.id, s.split, s.label) for s in open_dataset(tmp_path)] == [
        ("test/a.png", "test", "test-label"),
        ("train/a.png", "train", "train-label"),
    ]


@pytest.mark.parametrize("mark", [";", "\t", ","])
def test_metadata_csv_of_spreadsheets_that_do_not_write_commas(tmp_path, mark):
    fill(tmp_path, "a.png", "b.png")
    rows = [["file_name", "label"], ["a.png", "3,5"], ["b.png", "4;5"]]
    with (tmp_path / "metadata.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, delimiter=mark).writerows(rows)
    dataset = open_dataset(tmp_path)
    assert dataset.labels() == {"3,5": 1, "4;5": 1}
    assert not dataset.problems


def test_an_empty_path_is_not_the_working_directory(tmp_path, monkeypatch):
    """As where a script's variable is not set: the gate would compare whatever lies about."""
    monkeypatch.chdir(fill(tmp_path, "a.png"))
    with pytest.raises(UsageError, match="empty"):
        open_dataset("")


def test_class_folders_count_only_if_the_metadata_has_no_labels(tmp_path):
    fill(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "metadata.csv").write_text("file_name,text\ncat/a.png,x\ndog/b.png,y\n")
    assert open_dataset(tmp_path).labels() == {"cat": 1, "dog": 1}
    (tmp_path / "metadata.csv").write_text("file_name,label\ncat/a.png,Felis\ndog/b.png,\n")
    assert open_dataset(tmp_path).labels() == {"Felis": 1}


def test_columns_names_the_columns(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,defect,label,source\na.png,crack,9,plant\n")
    (a,) = open_dataset(tmp_path)
    assert (a.label, a.group) == ("9", None), "`source` is no group unless one says so"
    (a,) = open_dataset(tmp_path, columns={"label": "defect", "group": "source"})
    assert (a.label, a.group) == ("crack", "plant")
    with pytest.raises(DataError, match=r"no column 'defects' for 'label'; it has .*'defect'"):
        open_dataset(tmp_path, columns={"label": "defects"})
    with pytest.raises(DataError, match=r"did you mean 'label'"):
        open_dataset(tmp_path, columns={"labels": "defect"})
    (tmp_path / "metadata.csv").unlink()
    with pytest.raises(DataError, match=r"has no metadata\.jsonl"):
        open_dataset(tmp_path, columns={"label": "defect"})


def test_rows_and_files_that_do_not_match(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    rows = [{"file_name": n} for n in ("a.png", "absent.png", "a.png", "notes.txt", None)]
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, [*rows, {"file": 3}])))
    dataset = open_dataset(tmp_path)
    assert [s.id for s in dataset] == ["a.png", "b.png", "notes.txt"], "a row asks for the text"
    assert dataset.problems == [
        Problem("b.png", "bad_metadata", "no row of the metadata names this file", lost=False),
        Problem("metadata.jsonl#line 2", "missing", "there is no file 'absent.png'"),
        Problem(
            "metadata.jsonl#line 3",
            "bad_metadata",
            "'a.png' has a row already: the first counts",
            lost=False,
        ),
        Problem("metadata.jsonl#line 5", "bad_metadata", "the row names no file"),
        Problem("metadata.jsonl#line 6", "missing", "there is no file '3'"),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "../secret/secret.png", "x/../../secret/secret.png", "..", "/etc/hostname", "C:\\x.png",
        "..\\secret\\secret.png", "\\\\host\\x.png", "file:///etc/hostname", "https://x.test/a.png",
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["metadata", "manifest"])
def test_paths_out_of_the_folder(name, form, tmp_path, secret):
    root = fill(tmp_path / "data", "a.png")
    file = root / ("metadata.jsonl" if form == "metadata" else "list.jsonl")
    file.write_text("\n".join(json.dumps({"file_name": n}) for n in ("a.png", name)))
    dataset = open_dataset(root if form == "metadata" else file)
    assert [s.id for s in dataset] == ["a.png"]
    assert kinds(dataset) == {"outside_folder": [f"{file.name}#line 2"]}


def test_a_refused_link_is_reported_once(tmp_path, secret):
    root = fill(tmp_path / "data", "a.png")
    (root / "link.png").symlink_to(secret)
    (root / "metadata.csv").write_text("file_name\na.png\nlink.png\n")
    assert kinds(open_dataset(root)) == {"outside_folder": ["link.png"]}


def test_lines_that_are_broken(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    lines = [
        b'{"file_name": "a.png", "label": "x"}',
        b"{not json",
        b"[1, 2]",
        b'"a.png"',
        b"",
        b"[" * 100_000,
        b'{"file_name": "' + b"x" * 300_000 + b'"}',
        b'{"file_name": "caf\xe9"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b'{"file_name": "b.png", "label": "\\ud800"}',
    ]
    (tmp_path / "metadata.jsonl").write_bytes(b"\n".join(lines))
    dataset = open_dataset(tmp_path, limits=Limits(max_line=200_000))
    assert [(s.id, s.label) for s in dataset] == [("a.png", "x"), ("b.png", "\\ud800")]
    assert {p.kind for p in dataset.problems} == {"bad_metadata"}
    numbers = [int(p.sample.rpartition(" ")[2]) for p in dataset.problems]
    assert sorted(numbers) == [2, 3, 4, 6, 7, 8, 9]
    assert dataset.n_found == 2, "no file is lost with such a line"
    assert "at most 200,000" in detail(dataset, "metadata.jsonl#line 7")


def test_csv_that_is_broken(tmp_path):
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "metadata.csv").write_bytes(
        b"file_name,label,label\na.png,x,y,z\n\nb.png,caf\xe9\n"
        + b'"'
        + b"q" * 200_000
        + b'"\nc.png,w\n'
    )
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.label) for s in dataset] == [
        ("a.png", "x"),
        ("b.png", "caf\\xe9"),
        ("c.png", "w"),
    ]
    assert Counter(p.kind for p in dataset.problems) == {"bad_metadata": 4}
    assert dataset.n_found == 3


def test_an_unclosed_quote_does_not_swallow_the_file_in_silence(tmp_path):
    fill(tmp_path, "a.png", "b.png")
    (tmp_path / "metadata.csv").write_text('file_name,text\na.png,"never closed\nb.png,x\n')
    dataset = open_dataset(tmp_path)
    assert "b.png" in kinds(dataset)["bad_metadata"]


def test_metadata_without_file_names(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "metadata.csv").write_text("title,label\nx,y\nz,w\n")
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.label) for s in dataset] == [("a.png", None)]
    assert "2 rows have no column" in detail(dataset, "metadata.csv")


# --- manifests -------------------------------------------------------------------------------


def test_manifests_in_each_format_are_the_same_set(tmp_path):
    fill(tmp_path, "x/1.png", "x/2.png")
    rows = [("x/1.png", "p", "g1"), ("x/2.png", "q", "g2")]
    (tmp_path / "l.jsonl").write_text(
        "\n".join(json.dumps(dict(zip(("path", "class", "speaker"), r, strict=True))) for r in rows)
    )
    for name, delimiter in (("l.csv", ","), ("l.tsv", "\t")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([("path", "class", "speaker"), *rows])
    found = set()
    for name in ("l.jsonl", "l.csv", "l.tsv"):
        dataset = open_dataset(tmp_path / name)
        assert (dataset.name, dataset.format) == (name, "manifest")
        found.add((*dataset.samples,))
        found_hashes = [sample_hash(dataset.read(s)) for s in dataset]
        assert found_hashes == [sample_hash(picture(0)), sample_hash(picture(1))]
    ((first, _),) = found
    assert (first.id, first.label, first.group) == ("x/1.png", "p", "g1")


def test_a_manifest_loses_a_sample_with_a_broken_line(tmp_path):
    fill(tmp_path, "a.png")
    (tmp_path / "l.jsonl").write_text('{"path": "a.png"}\n{broken\n{"path": "absent.png"}\n')
    dataset = open_dataset(tmp_path / "l.jsonl")
    assert kinds(dataset) == {"bad_metadata": ["l.jsonl#line 2"], "missing": ["l.jsonl#line 3"]}
    assert dataset.n_found == 3


def test_a_manifest_may_name_its_own_files_absolutely(tmp_path, secret):
    root = fill(tmp_path / "data", "a.png")
    (root / "folder").mkdir()
    (root / "link.png").symlink_to(secret)
    names = [root / "a.png", secret, root / "folder", root / "link.png"]
    (root / "l.csv").write_text("path\n" + "\n".join(map(str, names)))
    dataset = open_dataset(root / "l.csv")
    assert [s.id for s in dataset] == ["a.png"]
    assert kinds(dataset) == {
        "outside_folder": ["l.csv#line 3", "l.csv#line 5"],
        "special_file": ["l.csv#line 4"],
    }


def test_ids_that_repeat_are_made_unique_and_reported(tmp_path):
    fill(tmp_path, "a.png", "b.png", "c.png")
    (tmp_path / "l.csv").write_text("id,path\nx,b.png\nx,a.png\nx~2,c.png\n")
    dataset = open_dataset(tmp_path / "l.csv")
    assert [(s.id, s.source) for s in dataset] == [
        ("x", "a.png"), ("x~3", "b.png"), ("x~2", "c.png"),
    ]  # fmt: skip
    assert [dataset.read(s) for s in dataset] == [picture(0), picture(1), picture(2)]
    assert kinds(dataset) == {"duplicate_id": ["x~3"]}
    assert dataset.n_found == 3


def test_a_manifest_needs_a_column_of_paths(tmp_path):
    (tmp_path / "l.csv").write_text("title,label\nx,y\n")
    with pytest.raises(DataError, match="no column that names the files; it has 'title', 'label'"):
        open_dataset(tmp_path / "l.csv")
    fill(tmp_path, "x")
    (a,) = open_dataset(tmp_path / "l.csv", columns={"image": "title"})
    assert (a.id, a.label) == ("x", "y")
    (tmp_path / "l.csv").write_text("")
    with pytest.raises(DataError, match="empty"):
        open_dataset(tmp_path / "l.csv")


@settings(max_examples=150, deadline=None)
@given(
    body=st.one_of(
        st.binary(max_size=300),
        st.text(alphabet="{}[]\":,\n\r\t\\ua0'.e-1/", max_size=120).map(str.encode),
    ),
    form=st.sampled_from(["metadata.jsonl", "metadata.csv", "l.jsonl", "l.csv", "l.tsv"]),
    head=st.sampled_from([b"", b"file_name,label\n", b'{"file_name": "a.png"}\n', b"a.png,"]),
)
def test_random_metadata_never_breaks_the_run(body, form, head):
    with tempfile.TemporaryDirectory() as name:
        root = fill(Path(name), "a.png")
        (root / form).write_bytes(head + body)
        if form.startswith("metadata"):
            assert "a.png" in {s.source for s in open_dataset(root)}
        else:
            try:
                dataset = open_dataset(root / form)
            except DataError as error:
                assert str(error)  # noqa: PT017 - most of them are
            else:
                assert {s.source for s in dataset} == {"a.png"}


# --- real photographs ------------------------------------------------------------------------


def test_solar_cells_decode(tmp_path):
    import importlib.util

    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or spec.origin is None:
        pytest.skip("elpv-dataset is not installed")
    dataset = open_dataset(Path(spec.origin).parent / "data" / "images")
    assert len(dataset) == 2624
    assert dataset.problems == []
    for sample in dataset.samples[::100]:
        result = decode_image(dataset.read(sample), name=sample.source)
        assert (result.pixels.mode, result.pixels.size) == ("L", (300, 300))
        assert result.notes == ("grey",)


def test_skimage_photographs_decode():
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    dataset = open_dataset(folder)
    notes: Counter[str] = Counter()
    done = 0
    for sample in dataset:
        data = dataset.read(sample)
        try:
            result = decode_image(data)
        except BadSample as bad:
            if bad.kind != "not_an_image":  # source code and XML; else Pillow cannot read it either
                with pytest.raises(OSError, match=r"cannot identify|truncated|decoder"):
                    Image.open(folder / sample.source).load()
            continue
        done += 1
        notes.update(result.notes)
        with Image.open(folder / sample.source) as image:
            assert {image.width, image.height} == {result.width, result.height}
    assert done >= 10
    assert notes["grey"] >= 3


def test_one_set_has_one_fingerprint_wherever_it_lies(tmp_path):
    fill(tmp_path / "one", "cat/1.png", "dog/2.png")
    for name, other in (("cat/1.png", "cat/renamed.png"), ("dog/2.png", "dog/0.png")):
        path = tmp_path / "two" / other
        path.parent.mkdir(parents=True)
        path.write_bytes((tmp_path / "one" / name).read_bytes())

    def fingerprint(folder: Path) -> str:
        dataset = open_dataset(folder)
        return set_fingerprint((sample_hash(dataset.read(s)), s.label, s.group) for s in dataset)

    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")
