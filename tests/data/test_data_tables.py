"""Parquet, datasets on disk and in memory, and WebDataset tars: the same set in each."""

from __future__ import annotations

import io
import json
import random
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from evalsuite.data import (
    BadSample,
    Dataset,
    Limits,
    decode_image,
    open_dataset,
    sample_hash,
    set_fingerprint,
)
from evalsuite.errors import DataError

N = 300
NAMES = ["cat", "dog"]


def picture(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module", autouse=True)
def quiet():
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture(scope="module")
def table() -> datasets.Dataset:
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=NAMES),
            "caption": datasets.Value("string"),
            "speaker": datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_dict(
        {
            "image": [{"bytes": picture(i), "path": f"{i}.png"} for i in range(N)],
            "label": [i % 2 for i in range(N)],
            "caption": [f"<b>{i}</b>" for i in range(N)],
            "speaker": [i % 5 for i in range(N)],
        },
        features=features,
    )


@pytest.fixture(scope="module")
def home(table, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tables")
    table.to_parquet(root / "one.parquet", batch_size=70)
    table.save_to_disk(root / "disk")
    (root / "many").mkdir()
    for number in range(3):
        part = table.select(range(100 * number, 100 * number + 100))
        part.to_parquet(root / "many" / f"train-{number:05d}-of-00003.parquet", batch_size=33)
    (root / "tars").mkdir()
    for number in range(3):
        with tarfile.open(root / "tars" / f"{number}.tar", "w") as tar:
            for i in range(100 * number, 100 * number + 100):
                note = {"caption": f"<b>{i}</b>", "speaker": i % 5}
                add(tar, f"./{i:04d}.png", picture(i))
                add(tar, f"./{i:04d}.cls", NAMES[i % 2].encode())
                add(tar, f"./{i:04d}.json", json.dumps(note).encode())
    return root


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def kinds(dataset: Dataset) -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for problem in dataset.problems:
        result.setdefault(problem.kind, []).append(problem.sample)
    return result


def all_of(home: Path, table: datasets.Dataset) -> dict[str, Dataset]:
    return {
        "one parquet": open_dataset(home / "one.parquet"),
        "many parquet": open_dataset(home / "many"),
        "disk": open_dataset(home / "disk"),
        "memory": open_dataset(table),
        "tars": open_dataset(home / "tars"),
    }


def test_one_set_is_the_same_in_every_format(home, table):
    prints = set()
    for name, dataset in all_of(home, table).items():
        assert dataset.problems == [], name
        assert len(dataset) == dataset.n_found == N
        assert len({s.id for s in dataset}) == N
        assert dataset.labels() == {"cat": 150, "dog": 150}
        assert dataset.groups() == {str(g): 60 for g in range(5)}
        assert [s.text for s in dataset] == [f"<b>{i}</b>" for i in range(N)]
        contents = [dataset.read(s) for s in dataset]
        assert contents == [picture(i) for i in range(N)], name
        prints.add(
            set_fingerprint(
                (sample_hash(c), s.label, s.group) for c, s in zip(contents, dataset, strict=True)
            )
        )
    assert len(prints) == 1


@pytest.mark.parametrize("order", ["in order", "shuffled", "backwards"])
def test_any_order_from_many_threads_gives_the_same_bytes(order, home, table):
    for name, dataset in all_of(home, table).items():
        rows = list(range(N))
        if order == "shuffled":
            random.Random(3).shuffle(rows)
        elif order == "backwards":
            rows.reverse()
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda i, d=dataset: d.read(d.samples[i]), rows))
        assert found == [picture(i) for i in rows], name


def test_sources_are_for_people(home, table):
    found = {name: d.samples[12] for name, d in all_of(home, table).items()}
    assert found["one parquet"].source == "one.parquet#row 12"
    assert found["many parquet"].source == "train-00000-of-00003.parquet#row 12"
    assert found["many parquet"].split == "train"
    assert found["disk"].source == "disk#row 12"
    assert found["tars"].source == "0.tar#0012.png"
    assert found["tars"].id == "0.tar#0012"


# --- Parquet ---------------------------------------------------------------------------------


def write(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_columns_of_plain_bytes_and_rows_that_are_bad(tmp_path):
    path = write(
        tmp_path / "x.parquet",
        jpg=pa.array([picture(0), None, b"", b"no picture", picture(4) + b"x" * 2000]),
        target=pa.array(["a", None, "a", "b", "b"]),
    )
    dataset = open_dataset(path, limits=Limits(max_bytes=1000))
    assert dataset.labels() == {"a": 2, "b": 2}
    found = []
    for sample in dataset:
        try:
            decode_image(dataset.read(sample))
            found.append("fine")
        except BadSample as bad:
            found.append(bad.kind)
    assert found == ["fine", "missing", "truncated", "not_an_image", "oversized"]


def test_a_parquet_of_paths_stays_in_its_folder(tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.png").write_bytes(picture(1))
    (tmp_path / "secret.png").write_bytes(picture(2))
    names = ["a.png", "../secret.png", str(tmp_path / "secret.png"), "absent.png", "http://x.test/"]
    struct = [{"bytes": None, "path": name} for name in names]
    for column in (
        pa.array(names),
        pa.array(struct, pa.struct({"bytes": pa.binary(), "path": pa.string()})),
    ):
        dataset = open_dataset(write(root / "x.parquet", image=column))
        assert dataset.read(dataset.samples[0]) == picture(1)
        found = []
        for sample in dataset.samples[1:]:
            with pytest.raises(BadSample) as caught:
                dataset.read(sample)
            found.append(caught.value.kind)
        assert found == ["outside_folder", "outside_folder", "missing", "outside_folder"]


def test_which_column_holds_the_pictures(tmp_path):
    path = tmp_path / "x.parquet"
    one, two = pa.array([picture(1)]), pa.array([picture(2)])
    assert open_dataset(write(path, thing=one)).read(open_dataset(path).samples[0]) == picture(1)
    dataset = open_dataset(write(path, mask=one, image=two))
    assert dataset.read(dataset.samples[0]) == picture(2)
    write(path, left=one, right=two)
    with pytest.raises(DataError, match=r"several columns .*'left', 'right'.*columns="):
        open_dataset(path)
    dataset = open_dataset(path, columns={"image": "right"})
    assert dataset.read(dataset.samples[0]) == picture(2)
    write(path, x=pa.array([1]))
    with pytest.raises(DataError, match=r"no column of encoded images; it has 'x' \(int64\)"):
        open_dataset(path)
    with pytest.raises(DataError, match="holds int64"):
        open_dataset(path, columns={"image": "x"})
    with pytest.raises(DataError, match="no column 'y'"):
        open_dataset(path, columns={"image": "y"})


def test_ids_of_a_table_and_columns_of_the_user(tmp_path):
    path = write(
        tmp_path / "x.parquet",
        image=pa.array([picture(2), picture(1)]),
        id=pa.array(["z", "a"]),
        defect=pa.array([1.5, None]),
    )
    dataset = open_dataset(path, columns={"label": "defect"})
    assert [(s.id, s.label) for s in dataset] == [("z", "1.5"), ("a", None)], "in the order of rows"
    with pytest.raises(DataError, match=r"no column 'gone' for 'group'"):
        open_dataset(path, columns={"group": "gone"})


def test_numbers_of_classes(tmp_path):
    note = {"info": {"features": {"label": {"_type": "ClassLabel", "names": NAMES}}}}
    rows = pa.table({"image": [picture(0)] * 4, "label": [1, -1, 7, None]})
    path = tmp_path / "x.parquet"
    pq.write_table(rows.replace_schema_metadata({"huggingface": json.dumps(note)}), path)
    dataset = open_dataset(path)
    assert [s.label for s in dataset] == ["dog", None, "7", None]
    assert kinds(dataset) == {"bad_metadata": ["x.parquet#row 2"]}
    for broken in (
        "{",
        "[]",
        '{"info": 3}',
        '{"info": {"features": {"label": {"_type": "ClassLabel"}}}}',
    ):
        pq.write_table(rows.replace_schema_metadata({"huggingface": broken}), path)
        assert [s.label for s in open_dataset(path)] == ["1", "-1", "7", None]


def test_one_bad_file_of_many(tmp_path):
    write(tmp_path / "a.parquet", image=pa.array([picture(1)]))
    write(tmp_path / "b.parquet", x=pa.array([1]))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    (tmp_path / "d.parquet").touch()
    (tmp_path / "README.md").write_text("words")
    dataset = open_dataset(tmp_path)
    assert len(dataset) == 1
    assert kinds(dataset) == {
        "bad_metadata": ["b.parquet"],
        "unreadable": ["c.parquet", "d.parquet"],
    }
    assert dataset.ignored == {"companion": 1}
    with pytest.raises(DataError, match="1 unreadable"):
        open_dataset(tmp_path / "c.parquet")


def test_a_parquet_of_more_rows_than_bytes(tmp_path):
    """A run of a million nulls takes a few bytes; whoever claims so many holds no pictures."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": pa.array([None] * 1_000_000, pa.binary())}), path)
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="claims 1,000,000 rows"):
        open_dataset(path)


def test_a_damaged_row_group_costs_its_own_rows_only(tmp_path):
    path = tmp_path / "x.parquet"
    rows = pa.table({"image": [picture(i) for i in range(40)], "label": ["x"] * 40})
    pq.write_table(rows, path, row_group_size=10, compression="zstd", use_dictionary=False)
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(0)
    data = bytearray(path.read_bytes())
    start = chunk.data_page_offset
    data[start + 30 : start + chunk.total_compressed_size] = b"\xff" * (
        chunk.total_compressed_size - 30
    )
    path.write_bytes(data)
    dataset = open_dataset(path)
    assert len(dataset) == 40
    found = []
    for sample in dataset:
        try:
            found.append(dataset.read(sample))
        except BadSample as bad:
            assert bad.kind == "unreadable"  # noqa: PT017
            found.append(None)
    assert found == [picture(i) if not 20 <= i < 30 else None for i in range(40)]


def test_a_row_group_is_not_kept_whole(tmp_path):
    """One row group of 300 MB: pyarrow, asked plainly, takes twice that to read it."""
    path = tmp_path / "x.parquet"
    draw = random.Random(0)
    pictures = [draw.randbytes(2**17) for _ in range(2400)]
    write_one = {"row_group_size": 5000, "use_dictionary": False, "compression": "none"}
    pq.write_table(pa.table({"image": pictures}), path, **write_one)
    assert pq.ParquetFile(path).metadata.num_row_groups == 1
    dataset = open_dataset(path)
    before, most = pa.total_allocated_bytes(), 0
    for sample, expected in zip(dataset, pictures, strict=True):
        assert dataset.read(sample) == expected
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 200 * 2**20
    assert dataset.read(dataset.samples[5]) == pictures[5], "long let go of, so decoded again"


# --- datasets on disk and in memory ----------------------------------------------------------


def test_splits_on_disk(table, tmp_path):
    both = datasets.DatasetDict({"train": table.select(range(6)), "test": table.select([7, 8])})
    both.save_to_disk(tmp_path / "d")
    dataset = open_dataset(tmp_path / "d")
    assert dataset.format == "hf-disk"
    assert dataset.splits() == {"test": 2, "train": 6}
    test = open_dataset(tmp_path / "d", split="test")
    assert [test.read(s) for s in test] == [picture(7), picture(8)]
    with pytest.raises(DataError, match="cannot open a datasets"):
        open_dataset(both)


def test_a_dataset_on_disk_opens_no_file_outside(table, tmp_path):
    table.select(range(3)).save_to_disk(tmp_path / "secret")
    table.select(range(3)).save_to_disk(tmp_path / "d")
    state = tmp_path / "d" / "state.json"
    good = json.loads(state.read_text())
    (arrow,) = (tmp_path / "secret").glob("*.arrow")
    for name in (f"../secret/{arrow.name}", str(arrow), "absent.arrow", 3, None):
        state.write_text(json.dumps({**good, "_data_files": [{"filename": name}]}))
        with pytest.raises(DataError, match="no data set that can be opened"):
            open_dataset(tmp_path / "d")
    (tmp_path / "d" / "link.arrow").symlink_to(arrow)
    state.write_text(json.dumps({**good, "_data_files": [{"filename": "link.arrow"}]}))
    with pytest.raises(DataError, match="outside_folder"):
        open_dataset(tmp_path / "d")
    state.write_text("{")
    with pytest.raises(DataError, match=r"state\.json"):
        open_dataset(tmp_path / "d")
    (tmp_path / "d2").mkdir()
    for splits in (["../secret"], [".."], "train", None, ["absent"]):
        (tmp_path / "d2" / "dataset_dict.json").write_text(json.dumps({"splits": splits}))
        with pytest.raises(DataError):
            open_dataset(tmp_path / "d2")


def test_a_dataset_on_disk_that_is_cut(table, tmp_path):
    table.save_to_disk(tmp_path / "d")
    (arrow,) = (tmp_path / "d").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    with pytest.raises(DataError, match="cannot be opened as a data set on disk"):
        open_dataset(tmp_path / "d")


def test_paths_of_a_dataset_in_memory_are_the_users_own(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(picture(5))
    (tmp_path / "link.png").symlink_to(path)
    names = [
        str(path),
        str(tmp_path / "link.png"),
        "https://x.test/a.png",
        str(tmp_path / "absent"),
    ]
    table = datasets.Dataset.from_dict({"image": names}).cast_column("image", datasets.Image())
    dataset = open_dataset(table)
    assert [dataset.read(s) for s in dataset.samples[:2]] == [picture(5)] * 2
    for sample, kind in zip(dataset.samples[2:], ("outside_folder", "missing"), strict=True):
        with pytest.raises(BadSample) as caught:
            dataset.read(sample)
        assert caught.value.kind == kind


def test_the_dataset_that_was_given_keeps_its_own_format(table):
    shuffled = table.shuffle(seed=1).with_format("numpy")
    dataset = open_dataset(shuffled)
    order = [int(text[3:-4]) for text in shuffled["caption"]]
    assert [dataset.read(s) for s in dataset] == [picture(i) for i in order]
    assert shuffled.format["type"] == "numpy"


# --- tars ------------------------------------------------------------------------------------


def test_tars_written_by_webdataset_are_read(tmp_path):
    import webdataset

    with webdataset.TarWriter(str(tmp_path / "x.tar")) as sink:
        for i in range(20):
            sink.write({"__key__": f"k/{i:03d}", "png": picture(i), "cls": i % 2, "txt": f"t{i}"})
    dataset = open_dataset(tmp_path / "x.tar")
    assert [dataset.read(s) for s in dataset] == [picture(i) for i in range(20)]
    assert dataset.samples[3].id == "x.tar#k/003"
    assert (dataset.samples[3].label, dataset.samples[3].text) == ("1", "t3")


def tar_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            add(tar, name, data)
    return path


def test_members_that_are_odd(tmp_path):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "a.png", picture(1))
        add(tar, "a.json", b"{broken")
        add(tar, "a.PNG", picture(2))
        add(tar, "../b.png", picture(2))
        add(tar, "/etc/c.png", picture(2))
        add(tar, "d.npy", b"\x93NUMPY")
        add(tar, "e.left.png", picture(3))
        add(tar, "e.right.png", picture(4))
        add(tar, "._a.png", b"x")
        add(tar, "folder/no_ending", b"x")
        add(tar, "empty.png", b"")
        add(tar, "f.png", picture(5))
        add(tar, "f.txt", b"caf\xc3\xa9 \0 <b>")
        add(tar, "e.txt", b"caf\xe9")
        add(tar, "f.json", json.dumps({"label": None, "id": "F"}).encode())
        add(tar, "f.cls", b"7\n")
        for kind, name in ((tarfile.SYMTYPE, "g.png"), (tarfile.LNKTYPE, "h.png")):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "/etc/hostname"
            tar.addfile(link)
        pipe = tarfile.TarInfo("i.png")
        pipe.type = tarfile.FIFOTYPE
        tar.addfile(pipe)
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    dataset = open_dataset(path)
    assert [s.id for s in dataset] == ["F", "x.tar#a", "x.tar#e", "x.tar#empty"]
    assert kinds(dataset) == {
        "bad_metadata": ["x.tar#a.json", "x.tar#e"],
        "control_characters": ["F"],
        "not_text": ["x.tar#e.txt"],
        "duplicate_id": ["x.tar#a.PNG"],
        "missing": ["x.tar#d"],
        "outside_folder": ["x.tar#../b.png", "x.tar#/etc/c.png"],
        "special_file": ["x.tar#g.png", "x.tar#h.png", "x.tar#i.png"],
    }
    assert dataset.ignored == {"hidden": 1, "other": 1}
    first = dataset.samples[0]
    assert (first.label, first.text) == ("7", "café \0 <b>")
    assert dataset.read(dataset.samples[1]) == picture(1)
    assert dataset.read(dataset.samples[2]) == picture(3), "the first by name"
    with pytest.raises(BadSample, match="0 bytes"):
        dataset.read(dataset.samples[3])
    right = open_dataset(path, columns={"image": "right.png"})
    assert [right.read(s) for s in right] == [picture(4)]


def test_a_tar_that_is_cut_keeps_what_is_whole(tmp_path):
    path = tar_of(tmp_path / "x.tar", *((f"{i}.png", picture(i)) for i in range(10)))
    whole = path.read_bytes()
    for size in (512 * 2 * 6 + 512 + 40, 512 * 2 * 6 + 100):  # in a member's body, in a header
        path.write_bytes(whole[:size])
        dataset = open_dataset(path)
        assert [dataset.read(s) for s in dataset] == [picture(i) for i in range(6)]
        assert dataset.n_found > 6
        assert {p.kind for p in dataset.problems} <= {"truncated", "unreadable"}


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path):
    """tarfile alone would stop here, and say nothing."""
    path = tar_of(tmp_path / "x.tar", *((f"{i}.png", picture(i)) for i in range(10)))
    data = bytearray(path.read_bytes())
    data[512 * 2 * 6 : 512 * 2 * 6 + 50] = b"?" * 50
    path.write_bytes(data)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 6
    dataset = open_dataset(path)
    assert len(dataset) == 6
    assert kinds(dataset) == {"unreadable": ["x.tar"]}
    two = path.read_bytes()[: 512 * 2 * 6] + b"\0" * 1024
    path.write_bytes(two + tar_of(tmp_path / "y.tar", ("z.png", picture(1))).read_bytes())
    assert kinds(open_dataset(path)) == {"unreadable": ["x.tar"]}


def test_a_header_may_not_ask_for_much_memory(tmp_path):
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    path = tmp_path / "x.tar"
    with path.open("wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        file.truncate(2**34)
    with pytest.raises(DataError, match="a header asks for"):
        open_dataset(path)


def test_what_is_no_tar(tmp_path):
    for data in (b"", b"not a tar", b"\x1f\x8b" + b"x" * 2000):
        (tmp_path / "x.tar").write_bytes(data)
        with pytest.raises(DataError, match="no sample that can be used"):
            open_dataset(tmp_path / "x.tar")
    tar_of(tmp_path / "y.tar", ("a.png", picture(1)))
    assert len(open_dataset(tmp_path)) == 1, "one bad shard of two"
    write(tmp_path / "z.parquet", image=pa.array([picture(1)]))
    with pytest.raises(DataError, match="Parquet and tar"):
        open_dataset(tmp_path)


@settings(max_examples=150, deadline=None)
@given(
    edits=st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=6)), max_size=6)
)
def test_a_damaged_shard_is_a_set_or_a_data_error(edits, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    tar_of(
        folder / "x.tar",
        *(
            (f"{i}.{e}", d)
            for i in range(3)
            for e, d in (("png", picture(i)), ("json", b'{"label": 1}'))
        ),
    )
    write(
        folder / "x.parquet",
        image=pa.array([picture(i) for i in range(3)]),
        label=pa.array([1, 2, 3]),
    )
    for name in ("x.tar", "x.parquet"):
        data = bytearray((folder / name).read_bytes())
        for place, new in edits:
            at = place % len(data)
            data[at : at + len(new)] = new
        (folder / name).write_bytes(data)
        try:
            dataset = open_dataset(folder / name)
        except DataError as error:
            assert str(error)  # noqa: PT017
            continue
        for sample in dataset:
            try:
                dataset.read(sample)
            except BadSample as bad:
                assert bad.detail  # noqa: PT017
