from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from evalsuite.errors import DataError, UsageError
from evalsuite.generators import (
    ClassSampler,
    Compose,
    Corrupt,
    Identity,
    Item,
    LeakError,
    Modality,
    OneOf,
    RecipeError,
    Record,
    Sometimes,
    content_hash,
    duplicates,
    generate_folder,
    replay,
)


def make_items(n: int, size: int = 24) -> list[Item]:
    rng = np.random.default_rng(0)
    return [
        Item(
            f"cells/{i:03d}.png",
            Image.fromarray(rng.integers(256, size=(size, size)).astype(np.uint8)),
            label=["good", "bad"][i % 2],
            split=["train", "validation", "test"][i % 3],
        )
        for i in range(n)
    ]


def recipe() -> Compose:
    return Compose(
        [
            Sometimes(Corrupt("motion_blur", [1, 5])),
            OneOf([Corrupt("fog", 2), Corrupt("shot_noise", 3)]),
        ]
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_every_row_says_where_its_image_comes_from_and_replays(tmp_path: Path) -> None:
    items = make_items(9)
    report = generate_folder(recipe(), items, tmp_path / "out", seed=7, variants=2)
    assert (report.n_items, report.n_written, report.n_kept, report.failures) == (9, 18, 0, ())
    rows = rows_of(report.path)
    assert len({r["file_name"] for r in rows}) == len({r["id"] for r in rows}) == 18
    assert [r["parents"][0] for r in rows] == [i.id for i in items for _ in range(2)]
    parents = {i.id: i for i in items}
    for row in rows:
        parent = parents[row["parents"][0]]
        assert (row["label"], row["split"], row["group"]) == (parent.label, parent.split, parent.id)
        assert row["synthetic"] is True
        assert row["generator"] == "compose/1"
        with Image.open(report.path / row["file_name"]) as image:
            assert image.format == "PNG"
            assert content_hash(image) == row["sha256"]
            again = replay(Record.from_row(row), parent.image)
            assert again.tobytes() == image.tobytes()
    assert len({r["sha256"] for r in rows}) == 18
    # Nothing but images and metadata is in sight.
    seen = {p.name for p in report.path.iterdir()}
    assert seen == {r["file_name"] for r in rows} | {"metadata.jsonl", ".evalsuite"}


def test_the_folder_does_not_depend_on_workers_or_on_how_items_are_given(tmp_path: Path) -> None:
    items = make_items(10)
    generate_folder(recipe(), items, tmp_path / "a", seed=1)
    generate_folder(recipe(), iter(items), tmp_path / "b", seed=1, workers=4)
    as_tuples = [(i.id, i.image, i.label, i.split) for i in items]
    generate_folder(recipe(), as_tuples, tmp_path / "c", seed=1)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b") == bytes_of(tmp_path / "c")
    generate_folder(recipe(), items, tmp_path / "d", seed=2)
    assert bytes_of(tmp_path / "a") != bytes_of(tmp_path / "d")


def test_the_order_of_the_items_changes_only_the_order_of_the_rows(tmp_path: Path) -> None:
    items = make_items(8)
    generate_folder(recipe(), items, tmp_path / "a", seed=1)
    generate_folder(recipe(), items[::-1], tmp_path / "b", seed=1)
    a, b = bytes_of(tmp_path / "a"), bytes_of(tmp_path / "b")
    assert sorted(a.pop("metadata.jsonl").splitlines()) == sorted(
        b.pop("metadata.jsonl").splitlines()
    )
    assert a == b


CHILD = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("t", {file!r})
t = importlib.util.module_from_spec(spec); spec.loader.exec_module(t)
items = t.make_items({n}, 160)
t.generate_folder(t.recipe(), items, {out!r}, seed=3, variants=2, workers={workers})
"""


@pytest.mark.parametrize(("after", "workers"), [(1, 1), (20, 3)])
def test_killed_and_started_again_it_gives_the_same_folder(
    tmp_path: Path, after: int, workers: int
) -> None:
    n = 24
    out = tmp_path / "out"
    code = CHILD.format(file=__file__, n=n, out=str(out), workers=workers)
    child = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.png"))) < after:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert not (out / "metadata.jsonl").exists(), "unfinished work must not look finished"
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("*.png")}
    assert after <= len(before) < 2 * n

    report = generate_folder(recipe(), make_items(n, 160), out, seed=3, variants=2)
    # At most what was being written when it died is made anew.
    assert len(before) - 2 * workers - 2 <= report.n_kept <= len(before)
    assert report.n_written + report.n_kept == 2 * n
    clean = tmp_path / "clean"
    generate_folder(recipe(), make_items(n, 160), clean, seed=3, variants=2)
    assert bytes_of(out) == bytes_of(clean)


def test_a_run_cut_at_any_byte_of_its_journal_resumes(tmp_path: Path) -> None:
    """Make the states that a kill can leave behind by hand: each ends in the same folder."""
    items = make_items(4)
    clean = bytes_of(generate_folder(recipe(), items, tmp_path / "clean", seed=1).path)
    rows = rows_of(tmp_path / "clean")
    journal = "".join(
        json.dumps(row, sort_keys=True, separators=(",", ":")) + "\n" for row in rows
    ).encode()
    cuts = [0, 1, len(journal) // 3, journal.index(b"\n"), journal.index(b"\n") + 1, len(journal)]
    for k, cut in enumerate(cuts):
        out = tmp_path / f"cut{k}"
        state = out / ".evalsuite"
        state.mkdir(parents=True)
        (state / "job.json").write_bytes(clean[".evalsuite/job.json"])
        (state / "journal.jsonl").write_bytes(journal[:cut])
        (state / "x.png.part").write_bytes(b"half a file")
        done = journal[:cut].count(b"\n")
        # One image more than the journal knows: killed between the two.
        for row in rows[: done + 1]:
            (out / row["file_name"]).write_bytes(clean[row["file_name"]])
        report = generate_folder(recipe(), items, out, seed=1)
        assert report.n_kept == done
        assert bytes_of(out) == clean


def test_cut_in_the_middle_of_a_line_twice_it_loses_nothing(tmp_path: Path) -> None:
    items = make_items(6)
    clean = bytes_of(generate_folder(recipe(), items, tmp_path / "clean", seed=1).path)
    out = tmp_path / "out"

    def stops_after(n: int) -> Iterator[Item]:
        yield from items[:n]
        raise InterruptedError

    for n in (3, 5):
        with pytest.raises(InterruptedError):
            generate_folder(recipe(), stops_after(n), out, seed=1)
        journal = out / ".evalsuite" / "journal.jsonl"
        os.truncate(journal, journal.stat().st_size - 7)
    report = generate_folder(recipe(), items, out, seed=1)
    assert (report.n_kept, report.n_written) == (4, 2)
    assert bytes_of(out) == clean


def test_a_finished_folder_is_kept_and_grows_with_its_items(tmp_path: Path) -> None:
    items = make_items(10)
    generate_folder(recipe(), items[:6], tmp_path / "a", seed=1)
    report = generate_folder(recipe(), items[:6], tmp_path / "a", seed=1)
    assert (report.n_kept, report.n_written) == (6, 0)
    report = generate_folder(recipe(), items, tmp_path / "a", seed=1)
    assert (report.n_kept, report.n_written) == (6, 4)
    generate_folder(recipe(), items, tmp_path / "b", seed=1)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_a_changed_parent_or_a_lost_file_is_made_anew(tmp_path: Path) -> None:
    items = make_items(5)
    report = generate_folder(recipe(), items, tmp_path / "a", seed=1)
    (report.path / rows_of(report.path)[0]["file_name"]).unlink()
    items[3] = Item(items[3].id, make_items(9)[8].image, items[3].label, items[3].split)
    items[4] = Item(items[4].id, items[4].image, "new label", items[4].split)
    report = generate_folder(recipe(), items, tmp_path / "a", seed=1)
    assert (report.n_kept, report.n_written) == (3, 2)
    generate_folder(recipe(), items, tmp_path / "b", seed=1)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_another_job_or_a_foreign_folder_is_left_alone(tmp_path: Path) -> None:
    items = make_items(3)
    out = tmp_path / "a"
    generate_folder(recipe(), items, out, seed=1)
    before = bytes_of(out)
    with pytest.raises(UsageError, match="another seed"):
        generate_folder(recipe(), items, out, seed=2)
    with pytest.raises(UsageError, match="another operation and variants"):
        generate_folder(Identity(), items, out, seed=1, variants=2)
    with pytest.raises(DataError, match=r"1 children .* no longer there \(first: cells/000.png~"):
        generate_folder(recipe(), items[1:], out, seed=1)
    assert bytes_of(out) == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not empty"):
        generate_folder(recipe(), items, tmp_path / "mine", seed=1)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="is a file"):
        generate_folder(recipe(), items, tmp_path / "mine" / "thesis.txt", seed=1)


def test_two_processes_do_not_write_one_folder(tmp_path: Path) -> None:
    items = make_items(2)

    def greedy() -> Iterator[Item]:
        yield items[0]
        with pytest.raises(UsageError, match="another process"):
            generate_folder(recipe(), items, tmp_path, seed=1)
        yield items[1]

    assert generate_folder(recipe(), greedy(), tmp_path, seed=1).n_written == 2


def test_a_child_stays_in_its_parents_split(tmp_path: Path) -> None:
    items = make_items(3)
    for wanted in ("train", "test"):
        with pytest.raises(LeakError, match="stays there"):
            generate_folder(recipe(), items, tmp_path / wanted, seed=1, split=wanted)
        assert not (tmp_path / wanted / "metadata.jsonl").exists()
    loose = [Item(i.id, i.image) for i in items]
    report = generate_folder(recipe(), loose, tmp_path / "loose", seed=1, split="train")
    assert {r["split"] for r in rows_of(report.path)} == {"train"}
    # Through null generators too.
    test_only = [i for i in items if i.split == "test"]
    copies = duplicates(test_only, 4, distinct=1, seed=0)
    report = generate_folder(Identity(), copies, tmp_path / "copies", seed=1)
    rows = rows_of(report.path)
    assert {(r["split"], r["group"], r["parents"][0]) for r in rows} == {
        ("test", test_only[0].id, test_only[0].id)
    }
    copies = duplicates(test_only, 4, distinct=1, seed=0)
    with pytest.raises(LeakError, match="stays there"):
        generate_folder(Identity(), copies, tmp_path / "leak", seed=1, split="train")


def test_what_learned_from_test_makes_nothing_for_train(tmp_path: Path) -> None:
    items = [Item(f"i{k}", i.image, "a", "test") for k, i in enumerate(make_items(6))]
    sampler = Compose([ClassSampler.fit(items, size=8, components=2), Corrupt("fog")])
    for split in ("train", None, "validation"):
        with pytest.raises(LeakError, match="learned from the held-out split 'test'"):
            generate_folder(sampler, [Item("x", None, "a", split)], tmp_path / str(split), seed=0)
    report = generate_folder(sampler, [Item("x", None, "a", "test")], tmp_path / "ok", seed=0)
    assert rows_of(report.path)[0]["split"] == "test"


HOSTILE = [
    "../../escape", "/etc/passwd", "a/../../b", "..", ".", "C:\\x", "CON", "nul.png", "-rf",
    "a\x00b", "line\nbreak", "写真", "写真2", "x" * 5000, "Case", "case", "<script>",
    "test/train-1", "validation", " ", "a.b.png", "%2e%2e",
]  # fmt: skip


def test_names_are_safe_whatever_the_ids_are(tmp_path: Path) -> None:
    image = make_items(1)[0].image
    items = [Item(name, image) for name in HOSTILE]
    report = generate_folder(Corrupt("fog"), items, tmp_path / "deep" / "out", seed=1)
    rows = rows_of(report.path)
    assert [r["parents"] for r in rows] == [[name] for name in HOSTILE]
    names = [r["file_name"] for r in rows]
    assert len({n.lower() for n in names}) == len(HOSTILE)
    for name in names:
        assert len(name) < 100
        assert all(c.isascii() and (c.isalnum() or c in "-.") for c in name)
        assert name[0].isalnum()
        assert (report.path / name).is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"deep"}
    assert {p.name for p in (tmp_path / "deep").iterdir()} == {"out"}


def test_the_datasets_library_reads_every_row(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = make_items(1)[0].image
    items = [Item(name, image, label=str(k), split="test") for k, name in enumerate(HOSTILE)]
    items[0] = Item(items[0].id, image, label=None, split=None)
    out = generate_folder(recipe(), items, tmp_path / "out", seed=1).path
    read = datasets.load_dataset(
        "imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache")
    )
    assert list(read) == ["train"], "a name was taken for a split"
    rows = {r["file_name"]: r for r in rows_of(out)}
    assert len(read["train"]) == len(rows)
    by_id = {r["id"]: r for r in rows.values()}
    for row in read["train"]:
        assert content_hash(row["image"]) == by_id[row["id"]]["sha256"]
        assert row["label"] == by_id[row["id"]]["label"]


class Fragile:
    """Fails on some images, the way that a decoder does."""

    name: ClassVar[str] = "fragile"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE
    params: ClassVar[dict[str, Any]] = {}
    broken: ClassVar[bool] = True

    def sample_params(self, rng: np.random.Generator) -> dict[str, Any]:
        return {}

    def apply(self, value: Image.Image, params: dict[str, Any]) -> Image.Image:
        if self.broken and value.getpixel((0, 0)) < 128:
            raise OSError("image file is truncated")
        return value


def test_a_bad_item_is_named_counted_and_tried_again(tmp_path: Path) -> None:
    items = make_items(12)
    bad = [i.id for i in items if i.image is not None and i.image.getpixel((0, 0)) < 128]
    assert 2 < len(bad) < 10
    operation = Fragile()
    report = generate_folder(operation, items, tmp_path / "a", seed=1)
    assert [f.id for f in report.failures] == bad
    assert {f.reason for f in report.failures} == {"OSError: image file is truncated"}
    assert len(rows_of(report.path)) == report.n_written == report.n_unchanged == 12 - len(bad)
    log = (report.path / ".evalsuite" / "failures.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in log] == bad
    try:
        Fragile.broken = False
        report = generate_folder(operation, items, tmp_path / "a", seed=1)
    finally:
        Fragile.broken = True
    assert (report.n_written, report.n_kept, report.failures) == (len(bad), 12 - len(bad), ())
    assert [r["parents"][0] for r in rows_of(report.path)] == [i.id for i in items]


def test_nothing_made_is_an_error_that_gives_the_reason(tmp_path: Path) -> None:
    small = [Item("a", Image.new("L", (4, 4))), Item("b", Image.new("P", (9, 9)))]
    with pytest.raises(DataError, match=r"nothing could be made of 2 items.*got 4×4"):
        generate_folder(Corrupt("fog"), small, tmp_path / "a", seed=0)
    with pytest.raises(DataError, match="no items"):
        generate_folder(Corrupt("fog"), [], tmp_path / "b", seed=0)
    with pytest.raises(DataError, match="'x' comes twice"):
        generate_folder(Identity(), [Item("x", small[0].image)] * 2, tmp_path / "c", seed=0)
    with pytest.raises(RecipeError, match="gives label"):
        generate_folder(Identity("label"), small, tmp_path / "d", seed=0)
    for wrong in ({"variants": 0}, {"workers": 0}):
        with pytest.raises(UsageError, match="1 or more"):
            generate_folder(Identity(), small, tmp_path / "e", seed=0, **wrong)


def test_images_are_read_when_needed_and_a_reader_that_fails_costs_one_item(
    tmp_path: Path,
) -> None:
    items = make_items(5)
    reads: list[str] = []

    def reader(item: Item) -> Image.Image:
        reads.append(item.id)
        if item is items[2]:
            raise RuntimeError("no such member in the archive")
        assert isinstance(item.image, Image.Image)
        return item.image

    lazy = [replace(i, image=partial(reader, i)) for i in items]
    report = generate_folder(recipe(), lazy, tmp_path / "a", seed=1, workers=2)
    assert sorted(reads) == [i.id for i in items]
    assert [(f.id, f.reason) for f in report.failures] == [
        (
            items[2].id,
            "ValueError: item 'cells/002.png' cannot be read: no such member in the archive",
        )
    ]
    generate_folder(recipe(), items[:2] + items[3:], tmp_path / "b", seed=1)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")


def test_the_data_layer_reads_it_back(tmp_path: Path) -> None:
    from evalsuite.data import open_dataset

    out = generate_folder(recipe(), make_items(6), tmp_path / "out", seed=1).path
    read = open_dataset(out)
    assert list(read.problems) == []
    rows = rows_of(out)
    assert [(s.id, s.label, s.split, s.group) for s in read] == [
        (r["id"], r["label"], r["split"], r["group"]) for r in rows
    ]


def test_a_defect_in_an_operation_is_not_taken_for_bad_data(tmp_path: Path) -> None:
    class Broken(Fragile):
        def apply(self, value: Image.Image, params: dict[str, Any]) -> Image.Image:
            raise KeyError("a bug")

    for workers in (1, 2):
        with pytest.raises(KeyError, match="a bug"):
            generate_folder(Broken(), make_items(5), tmp_path, seed=0, workers=workers)


def test_progress_counts_every_child(tmp_path: Path) -> None:
    counts: list[int] = []
    generate_folder(Identity(), make_items(3), tmp_path, seed=0, variants=2, progress=counts.append)
    assert counts == [1, 2, 3, 4, 5, 6]
