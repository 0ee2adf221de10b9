"""Data sets of recordings, texts and records of several parts, in every format."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections import defaultdict
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from evalsuite.data import Dataset, Limits, decode_audio, decode_image, open_dataset
from evalsuite.data.dataset import Sample, partners
from evalsuite.errors import DataError

SPEECH = Path(__file__).parent / "speech"


def picture(k: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (8, 8), (k, 2 * k, 0)).save(data, "PNG")
    return data.getvalue()


def sound(k: int, form: str = "WAV") -> bytes:
    data = io.BytesIO()
    soundfile.write(data, np.full(1600, (k + 1) / 100), 16_000, format=form)
    return data.getvalue()


def put(root: Path, **files: bytes | str) -> None:
    """Write files; ``__`` in a name is a folder, the last ``_`` the dot of the ending."""
    for name, content in files.items():
        stem, _, ending = name.replace("__", "/").rpartition("_")
        path = root / f"{stem}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def rows_to(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def kinds(dataset: Dataset) -> dict[str, list[str]]:
    found = defaultdict(list)
    for problem in dataset.problems:
        found[problem.kind].append(problem.sample)
    return {kind: sorted(names) for kind, names in sorted(found.items())}


# --- samples and data sets -------------------------------------------------------------------


def test_a_sample_says_what_it_holds():
    assert Sample("a", "a").modalities == ("image",)
    assert Sample("a", "a", text="x").modalities == ("image", "text")
    assert Sample("a", "a", text="x", media=()).modalities == ("text",)
    assert Sample("a", "a", media=("image", "audio")).modalities == ("image", "audio")


def test_read_needs_to_know_which_part(tmp_path):
    put(tmp_path, a_png=picture(1), a_wav=sound(1), a_txt="words\n")
    dataset = open_dataset(tmp_path)
    (sample,) = dataset
    assert dataset.modalities == sample.modalities == ("image", "audio", "text")
    assert dataset.read(sample, "image") == picture(1)
    assert dataset.read(sample, "audio") == sound(1)
    assert dataset.read(sample, "text") == b"words"
    with dataset.open(sample, "audio") as file:
        assert file.read() == sound(1)
    with dataset.open(sample, "text") as file:
        assert file.read() == b"words"
    with pytest.raises(DataError, match="has image and audio: say which"):
        dataset.read(sample)
    with pytest.raises(KeyError, match="has no video"):
        dataset.read(sample, "video")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ({("image",): 9}, set()),
        ({("image",): 6, ("audio",): 4}, set()),
        ({("image", "text"): 9, ("image",): 1}, {"image", "text"}),
        ({("image", "text"): 1, ("image",): 1}, set()),
        ({("image", "text"): 3, ("audio", "text"): 2}, {"image", "text"}),
        ({("image", "audio", "text"): 2, ("image", "text"): 2, ("image",): 1}, {"image", "text"}),
        ({}, set()),
    ],
)
def test_when_a_set_is_one_of_pairs(records, expected):
    assert partners(records) == expected


# --- folders ---------------------------------------------------------------------------------


def test_the_speech_of_the_tests_is_a_set_of_pairs():
    dataset = open_dataset(SPEECH)
    assert (dataset.format, dataset.modalities) == ("folder+metadata", ("audio", "text"))
    assert (len(dataset), dataset.problems) == (11, [])
    texts = {sample.id: sample.text for sample in dataset}
    assert texts["tt-weasels.wav"] == "Weasels have eaten our phone system"
    assert {sample.lang for sample in dataset} == {"en"}
    assert all(decode_audio(dataset.read(s)).seconds > 0.5 for s in dataset)


def test_a_folder_of_recordings_is_as_one_of_images(tmp_path):
    put(tmp_path, train__yes__1_wav=sound(1), train__no__2_flac=sound(2, "FLAC"))
    put(tmp_path, test__yes__3_ogg=sound(3, "OGG"), README_md="about")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.modalities) == ("folder", ("audio",))
    assert [(s.id, s.label, s.split, s.media) for s in dataset] == [
        ("test/yes/3.ogg", "yes", "test", ("audio",)),
        ("train/no/2.flac", "no", "train", ("audio",)),
        ("train/yes/1.wav", "yes", "train", ("audio",)),
    ]
    assert dataset.ignored == {"companion": 1}


def test_content_says_what_a_file_is_and_its_ending_only_where_it_does_not(tmp_path):
    put(tmp_path, a_wav=picture(1), b_png=sound(1), c_bin=sound(2), d_txt=sound(3))
    put(tmp_path, e_wav="broken", f_png="broken", g_bin="broken", h_m4a=b"\0\0\0\x20ftypM4A ")
    media = {s.id: s.media for s in open_dataset(tmp_path)}
    assert [name for name, held in media.items() if held == ("image",)] == ["a.wav", "f.png"]
    assert len(media) == 8, "what cannot be told is taken for what most are: recordings"


def test_a_folder_of_texts(tmp_path):
    put(tmp_path, pos__1_txt="Good.\n", neg__1_txt="\ufeffBad\nnews. ", neg__2_TXT="12 34")
    put(tmp_path, README_txt="about", notes_md="x", data_bin="x")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.modalities) == ("folder", ("text",))
    assert [(s.id, s.label, s.text, s.media) for s in dataset] == [
        ("neg/1.txt", "neg", "Bad\nnews.", ()),
        ("neg/2.TXT", "neg", "12 34", ()),
        ("pos/1.txt", "pos", "Good.", ()),
    ]
    assert dataset.read(dataset.samples[0]) == b"Bad\nnews."
    assert dataset.ignored == {"companion": 2, "other": 1}


def test_files_of_one_stem_are_one_record(tmp_path):
    put(tmp_path, a__1_png=picture(1), a__1_wav=sound(1), a__1_txt="one", a__1_json="{}")
    put(tmp_path, b__1_jpg=picture(2), b__1_flac=sound(2, "FLAC"), b__1_txt="two")
    put(tmp_path, b__2_png=picture(3), b__2_wav=sound(3))
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.source, s.label, s.text, s.media) for s in dataset] == [
        ("a/1", "a/1.png", "a", "one", ("image", "audio")),
        ("b/1", "b/1.jpg", "b", "two", ("image", "audio")),
        ("b/2", "b/2.png", "b", None, ("image", "audio")),
    ]
    assert dataset.ignored == {"companion": 1}
    assert kinds(dataset) == {"missing_partner": ["b/2"]}
    (problem,) = dataset.problems
    assert not problem.lost
    assert "no text" in problem.detail


def test_a_caption_beside_a_picture_keeps_the_pictures_id(tmp_path):
    put(tmp_path, a_png=picture(1), a_txt="a cat", b_png=picture(2), b_txt="7", c_txt="nobody's")
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.text) for s in dataset] == [("a.png", "a cat"), ("b.png", "7")]
    assert dataset.ignored == {"companion": 1}


def test_boxes_of_objects_are_no_caption(tmp_path):
    put(tmp_path, a_png=picture(1), a_txt="0 0.5 0.5 .1 1e-3\r\n12 0 0 1 1 0.5 -1\n")
    put(tmp_path, b_png=picture(2), b_txt="", c_png=picture(3), c_txt="1 2 3 four")
    put(tmp_path, d_wav=sound(1), d_txt="1 2 3 4 5")
    dataset = open_dataset(tmp_path)
    texts = {s.id: s.text for s in dataset}
    assert texts == {"a.png": None, "b.png": None, "c.png": "1 2 3 four", "d.wav": "1 2 3 4 5"}
    assert dataset.ignored == {"companion": 2}
    assert "empty" not in kinds(dataset)


def test_two_images_of_one_stem_belong_to_nothing(tmp_path):
    put(tmp_path, a_png=picture(1), a_bmp=picture(2), a_wav=sound(1), a_txt="which?")
    dataset = open_dataset(tmp_path)
    assert [s.modalities for s in dataset] == [("image",), ("image",), ("audio",)]


def test_parts_in_folders_of_their_own(tmp_path):
    put(tmp_path, train__images__cat__1_png=picture(1), train__audio__cat__1_wav=sound(1))
    put(tmp_path, train__captions__cat__1_txt="one", test__images__dog__1_png=picture(2))
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.label, s.split, s.modalities) for s in dataset] == [
        ("test/images/dog/1.png", "dog", "test", ("image",)),
        ("train/cat/1", "cat", "train", ("image", "audio", "text")),
    ]


def test_classes_that_are_called_like_modalities_are_classes(tmp_path):
    put(tmp_path, image__1_png=picture(1), text__1_png=picture(2))
    assert open_dataset(tmp_path).labels() == {"image": 1, "text": 1}


def test_unrelated_images_and_recordings_are_no_pairs(tmp_path):
    put(tmp_path, a_png=picture(1), b_wav=sound(1), c_wav=sound(2))
    dataset = open_dataset(tmp_path)
    assert dataset.modalities == ("image", "audio")
    assert dataset.problems == []


# --- metadata --------------------------------------------------------------------------------


def test_metadata_may_name_several_files(tmp_path):
    put(tmp_path, i1_png=picture(1), a1_wav=sound(1), a2_wav=sound(2), i3_png=picture(3))
    rows = [
        {"image_file_name": "i1.png", "audio_file_name": "a1.wav", "caption": "one", "lang": "en"},
        {"image_file_name": "i1.png", "audio_file_name": "a2.wav", "caption": "two", "id": "R2"},
        {"image_file_name": "i3.png", "audio_file_name": "absent.wav", "caption": "three"},
        {"image_file_name": "absent.png", "audio_file_name": "absent.wav", "caption": "four"},
        {"image_file_name": "i1.png", "audio_file_name": "a2.wav", "caption": "again"},
        {"image_file_name": None, "audio_file_name": "", "caption": "five"},
    ]
    rows_to(tmp_path / "metadata.jsonl", rows)
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.source, s.text, s.media) for s in dataset] == [
        ("R2", "i1.png", "two", ("image", "audio")),
        ("i1.png+a1.wav", "i1.png", "one", ("image", "audio")),
        ("i3.png", "i3.png", "three", ("image",)),
    ]
    line = "metadata.jsonl#line "
    assert kinds(dataset) == {
        "bad_metadata": [line + "5", line + "6"],
        "missing": [line + "3", line + "4"],
        "missing_partner": ["i3.png"],
    }
    lost = {p.sample for p in dataset.problems if p.lost}
    assert lost == {line + "4", line + "6"}, "a record that has a part left is not lost"
    assert decode_audio(dataset.read(dataset.samples[0], "audio")).samples[0] > 0.02


def test_a_general_column_may_name_either(tmp_path):
    put(tmp_path, a_png=picture(1), b_wav=sound(1), c_wav=sound(2))
    rows = [
        {"file_name": "a.png", "audio": "c.wav", "image": "not a path", "text": "x"},
        {"file_name": "b.wav", "image": "absent.png", "language": "ja", "parents": ["p1", "p2"]},
    ]
    rows_to(tmp_path / "metadata.jsonl", rows)
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.media) for s in dataset] == [
        ("a.png+c.wav", ("image", "audio")),
        ("b.wav", ("audio",)),
    ]
    assert (dataset.samples[1].lang, dataset.samples[1].parents) == ("ja", ("p1", "p2"))


@pytest.mark.parametrize(
    ("cell", "parents"),
    [
        ("p1", ("p1",)),
        ("", ()),
        ('["p1", 2, null]', ("p1", "2")),
        ("[p1", ("[p1",)),
        ("a,b c", ("a,b c",)),
    ],
)
def test_parents_are_one_id_or_a_list(tmp_path, cell, parents):
    put(tmp_path, a_wav=sound(1))
    with (tmp_path / "metadata.csv").open("w") as out:
        csv.writer(out).writerows([["file_name", "parent_ids"], ["a.wav", cell]])
    assert open_dataset(tmp_path).samples[0].parents == parents


def test_texts_may_be_files_or_rows_of_metadata(tmp_path):
    put(tmp_path / "files", a_txt="one", b_txt="two")
    rows_to(tmp_path / "files/metadata.jsonl", [{"file_name": "a.txt", "label": "x"}])
    dataset = open_dataset(tmp_path / "files")
    assert [(s.id, s.label, s.text, s.media) for s in dataset] == [
        ("a.txt", "x", "one", ()),
        ("b.txt", None, "two", ()),
    ]
    assert kinds(dataset) == {"bad_metadata": ["b.txt"]}
    (tmp_path / "rows").mkdir()
    rows_to(tmp_path / "rows/metadata.jsonl", [{"prompt": "one", "id": "1"}, {"prompt": "two"}])
    dataset = open_dataset(tmp_path / "rows")
    assert [(s.id, s.text) for s in dataset] == [("1", "one"), ("metadata.jsonl#line 2", "two")]
    assert dataset.problems == []


def test_rows_of_texts_beside_media_are_not_theirs(tmp_path):
    put(tmp_path, a_wav=sound(1))
    rows_to(tmp_path / "metadata.jsonl", [{"text": "whose?"}])
    dataset = open_dataset(tmp_path)
    assert [s.text for s in dataset] == [None]
    assert kinds(dataset) == {"bad_metadata": ["metadata.jsonl"]}


# --- manifests -------------------------------------------------------------------------------


def test_a_manifest_of_recordings_as_nemo_writes_it(tmp_path):
    put(tmp_path, wav__1_wav=sound(1), wav__2_wav=sound(2))
    rows = [
        {"audio_filepath": "wav/1.wav", "text": "one", "speaker": "S", "duration": 0.1},
        {"audio_filepath": str(tmp_path / "wav/2.wav"), "text": ""},
        {"audio_filepath": "wav/3.wav", "text": "three"},
        {"text": "four"},
    ]
    rows_to(tmp_path / "train.jsonl", rows)
    dataset = open_dataset(tmp_path / "train.jsonl")
    assert [(s.id, s.text, s.group, s.media) for s in dataset] == [
        ("wav/1.wav", "one", "S", ("audio",)),
        ("wav/2.wav", None, None, ("audio",)),
    ]
    assert kinds(dataset) == {
        "bad_metadata": ["train.jsonl#line 4"],
        "missing": ["train.jsonl#line 3"],
    }


def test_a_manifest_of_texts(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("sentence\tlocale\tclass\nこんにちは\tja\tx\n\tja\tx\nHi \u0007<b>\ten\ty\n")
    dataset = open_dataset(path)
    assert (dataset.format, dataset.modalities) == ("manifest", ("text",))
    assert [(s.id, s.text, s.lang, s.label, s.media) for s in dataset] == [
        ("t.tsv#line 2", "こんにちは", "ja", "x", ()),
        ("t.tsv#line 4", "Hi \u0007<b>", "en", "y", ()),
    ]
    assert kinds(dataset) == {"control_characters": ["t.tsv#line 4"], "empty": ["t.tsv#line 3"]}
    assert dataset.n_found == 3


def test_columns_may_have_names_of_their_own(tmp_path):
    put(tmp_path, a_png=picture(1), a_wav=sound(1))
    rows = [{"photo": "a.png", "rec": "a.wav", "said": "x", "from": "p", "tongue": "en"}]
    rows_to(tmp_path / "m.jsonl", rows)
    columns = {"image": "photo", "audio": "rec", "text": "said", "parents": "from"}
    dataset = open_dataset(tmp_path / "m.jsonl", columns=columns | {"lang": "tongue"})
    (sample,) = dataset
    assert sample.modalities == ("image", "audio", "text")
    assert (sample.parents, sample.lang) == (("p",), "en")
    with pytest.raises(DataError, match="did you mean 'audio'"):
        open_dataset(tmp_path / "m.jsonl", columns={"audo": "rec"})
    with pytest.raises(DataError, match="the keys are image, audio, id"):
        open_dataset(tmp_path / "m.jsonl", columns={"file": "rec"})


# --- tables and shards -----------------------------------------------------------------------


def struct(*values: bytes | None) -> pa.Array:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": v, "path": None} for v in values], kind)


def records() -> pa.Table:
    return pa.table(
        {
            "picture": struct(picture(1), picture(2), picture(3)),
            "clip": struct(sound(1), None, sound(3)),
            "transcription": ["one", "two", "  "],
            "parents": [["a", "b"], [], None],
            "language": ["en", "ja", None],
            "id": ["r1", "r2", "r3"],
        }
    )


def check_records(dataset: Dataset) -> None:
    assert dataset.modalities == ("image", "audio", "text")
    assert [(s.id, s.text, s.parents, s.lang, s.media) for s in dataset] == [
        ("r1", "one", ("a", "b"), "en", ("image", "audio")),
        ("r2", "two", (), "ja", ("image", "audio")),
        ("r3", None, (), None, ("image", "audio")),
    ]
    assert kinds(dataset) == {"empty": ["r3"], "missing_partner": ["r3"]}
    third = dataset.samples[2]
    assert dataset.read(third, "audio") == sound(3)
    assert decode_image(dataset.read(third, "image")).width == 8
    with dataset.open(third, "audio") as file:
        assert decode_audio(file).samples[0] == pytest.approx(0.04, abs=1e-4)
    with pytest.raises(Exception, match=r"missing: the row holds no bytes"):
        dataset.read(dataset.samples[1], "audio")
    assert dataset.read(dataset.samples[1], "image") == picture(2), "the other part is not lost"


def test_parquet_finds_out_what_a_column_holds(tmp_path):
    pq.write_table(records(), tmp_path / "x.parquet")
    check_records(open_dataset(tmp_path))


def test_parquet_and_memory_know_the_audio_of_datasets(tmp_path):
    table = datasets.Dataset.from_dict(
        {
            "a": [{"bytes": sound(1), "path": "1.wav"}, {"bytes": sound(2), "path": "2.wav"}],
            "sentence": ["one", "two"],
        }
    ).cast_column("a", datasets.Audio(decode=False))
    table.to_parquet(str(tmp_path / "x.parquet"))
    table.save_to_disk(str(tmp_path / "disk"))
    decoding = table.cast_column("a", datasets.Audio())  # would need torchcodec to decode
    for source in (tmp_path / "x.parquet", tmp_path / "disk", table, decoding):
        dataset = open_dataset(source)
        assert dataset.modalities == ("audio", "text")
        assert [dataset.read(s) for s in dataset] == [sound(1), sound(2)]
        assert [s.text for s in dataset] == ["one", "two"]


def test_what_datasets_has_noted_counts_where_the_first_row_is_empty(tmp_path):
    table = datasets.Dataset.from_dict({"a": [None, {"bytes": sound(2), "path": None}]})
    table = table.cast_column("a", datasets.Audio(decode=False))
    table.to_parquet(str(tmp_path / "x.parquet"))
    for source in (tmp_path / "x.parquet", table):
        assert open_dataset(source).modalities == ("audio",)


def test_tables_of_texts_and_of_paths(tmp_path):
    pq.write_table(pa.table({"text": ["a", "", "b"], "n": [1, 2, 3]}), tmp_path / "t.parquet")
    dataset = open_dataset(tmp_path / "t.parquet")
    assert (dataset.modalities, [s.text for s in dataset]) == (("text",), ["a", "b"])
    assert [p.kind for p in dataset.problems if p.lost] == ["empty"]
    memory = open_dataset(datasets.Dataset.from_dict({"prompt": ["x", "y"]}))
    assert [(s.text, s.media) for s in memory] == [("x", ()), ("y", ())]
    put(tmp_path / "paths", a_wav=sound(1))
    table = pa.table({"path": ["a.wav"], "sentence": ["hello"]})
    pq.write_table(table, tmp_path / "paths/t.parquet")
    dataset = open_dataset(tmp_path / "paths/t.parquet")
    assert [(s.media, s.text, dataset.read(s)) for s in dataset] == [
        (("audio",), "hello", sound(1))
    ]


def test_several_recordings_in_a_row_need_a_choice(tmp_path):
    table = pa.table({"near": struct(sound(1)), "far": struct(sound(2))})
    pq.write_table(table, tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"hold the recordings \('near', 'far'\).*'audio': …"):
        open_dataset(tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path / "x.parquet", columns={"audio": "far"})
    assert dataset.read(dataset.samples[0]) in (sound(2),)
    assert dataset.samples[0].media == ("audio",)


def write_tar(path: Path, **members: bytes | str) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name.replace("_", "."))
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_shards_of_records(tmp_path):
    write_tar(
        tmp_path / "x.tar",
        **{"1_png": picture(1), "1_wav": sound(1), "1_txt": "one\n"},
        **{"2_flac": sound(2, "FLAC"), "2_json": json.dumps({"caption": "two", "parents": ["1"]})},
        **{"3_png": picture(3), "3_mp3": "broken", "3_txt": "three"},
        **{"4_txt": "alone"},
    )
    dataset = open_dataset(tmp_path / "x.tar")
    assert [(s.id, s.source, s.text, s.media) for s in dataset] == [
        ("x.tar#1", "x.tar#1.png", "one", ("image", "audio")),
        ("x.tar#2", "x.tar#2.flac", "two", ("audio",)),
        ("x.tar#3", "x.tar#3.png", "three", ("image", "audio")),
    ]
    assert dataset.samples[1].parents == ("1",)
    assert kinds(dataset) == {"missing": ["x.tar#4"], "missing_partner": ["x.tar#2"]}
    with dataset.open(dataset.samples[0], "audio") as file:
        file.seek(-2, io.SEEK_END)
        assert file.read() == sound(1)[-2:]
        assert decode_audio(file).samples.shape == (1600,)


def test_shards_of_texts(tmp_path):
    write_tar(tmp_path / "x.tar", **{"1_txt": "one", "2_txt": "", "3_txt": b"\xff\xfea\0"})
    dataset = open_dataset(tmp_path / "x.tar")
    assert [(s.id, s.text, s.media) for s in dataset] == [("x.tar#1", "one", ())]
    assert {p.sample for p in dataset.problems if p.lost} == {"x.tar#2", "x.tar#3"}
    assert "not_text" in kinds(dataset)


# --- bad texts -------------------------------------------------------------------------------


def test_each_bad_text_is_named(tmp_path):
    put(tmp_path, empty_txt=b"", blank_txt=" \n", latin_txt="é".encode("latin-1"))
    put(tmp_path, wide_txt="words".encode("utf-16"), long_txt="x" * 11_000_000)
    put(tmp_path, nul_txt="a\0b\x1b[31m", mixed_txt="Привет, 世界 and שלום\n\t!")
    dataset = open_dataset(tmp_path)
    assert [(s.id, s.text) for s in dataset] == [
        ("mixed.txt", "Привет, 世界 and שלום\n\t!"),
        ("nul.txt", "a\0b\x1b[31m"),
    ]
    assert kinds(dataset) == {
        "control_characters": ["nul.txt"],
        "empty": ["blank.txt", "empty.txt"],
        "not_text": ["latin.txt", "wide.txt"],
        "oversized": ["long.txt"],
    }
    details = {p.sample: p.detail for p in dataset.problems}
    assert "UTF-16: convert it" in details["wide.txt"]
    assert "U+0000, U+001B" in details["nul.txt"]
    assert dataset.n_found == 7


def test_a_bad_caption_does_not_lose_its_picture(tmp_path):
    put(tmp_path, a_png=picture(1), a_txt=b"\xff", b_png=picture(2), b_txt="x" * 100)
    put(tmp_path, c_png=picture(3), c_txt="fine", d_png=picture(4), d_txt="")
    dataset = open_dataset(tmp_path, limits=Limits(max_text=50))
    assert [(s.id, s.text) for s in dataset] == [
        ("a.png", None), ("b.png", None), ("c.png", "fine"), ("d.png", None),
    ]  # fmt: skip
    assert kinds(dataset) == {"empty": ["d.png"], "not_text": ["a.png"], "oversized": ["b.png"]}
    assert not any(p.lost for p in dataset.problems)


def test_a_caption_of_ten_megabytes_is_counted_and_named(tmp_path):
    long = "x" * 10_000_000
    put(tmp_path, a_png=picture(1))
    rows_to(tmp_path / "metadata.jsonl", [{"file_name": "a.png", "caption": long}])
    dataset = open_dataset(tmp_path)
    assert [s.text for s in dataset] == [None]
    assert "at most 1,048,576 are read" in dataset.problems[-1].detail
    table = pa.table({"image": struct(picture(1)), "caption": [long]})
    pq.write_table(table, tmp_path / "x.parquet")
    dataset = open_dataset(tmp_path / "x.parquet")
    assert [s.text for s in dataset] == [None]
    assert kinds(dataset) == {"oversized": ["x.parquet#0000000"]}


def test_a_limit_is_in_bytes_of_utf_8(tmp_path):
    rows_to(tmp_path / "t.jsonl", [{"text": "あ" * 16}, {"text": "あ" * 17}, {"text": "a" * 50}])
    dataset = open_dataset(tmp_path / "t.jsonl", limits=Limits(max_text=50))
    assert [len(s.text) for s in dataset] == [16, 50]
    with pytest.raises(DataError, match="max_text must be at least 1"):
        Limits(max_text=0)
    with pytest.raises(DataError, match="max_seconds must be at least 1 and finite"):
        Limits(max_seconds=float("inf"))


# --- any bytes -------------------------------------------------------------------------------

CELL = st.one_of(
    st.none(), st.text(max_size=8), st.integers(), st.floats(), st.lists(st.text(max_size=3)),
    st.sampled_from(["a.wav", "a.png", "../a.wav", "/etc/passwd", "http://x/a.wav", "a\0", "[[["]),
)  # fmt: skip
ROW = st.dictionaries(
    st.sampled_from(
        ["file_name", "image", "audio", "text", "id", "parents", "lang", "label", "\ud800", "x"]
    ),
    CELL,
)
LINES = st.one_of(
    st.binary(max_size=200),
    st.lists(ROW.map(json.dumps)).map(lambda lines: "\n".join(lines).encode()),
    st.lists(st.lists(CELL.map(str), max_size=4).map(",".join)).map(
        lambda lines: "\n".join(["file_name,audio,text,parents", *lines]).encode("utf-8", "replace")
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(LINES, st.sampled_from(["metadata.jsonl", "metadata.csv", "m.jsonl", "m.csv", "m.tsv"]))
def test_any_list_of_files_is_a_data_set_or_a_data_error(tmp_path_factory, lines, name):
    root = tmp_path_factory.getbasetemp() / "any"
    if not root.exists():
        root.mkdir()
        put(root, a_wav=sound(1), a_png=picture(1))
    path = root / name
    path.write_bytes(lines)
    try:
        dataset = open_dataset(root if name.startswith("metadata") else path)
    except DataError:
        return
    finally:
        path.unlink()
    for sample in dataset:
        assert sample.modalities
        for modality in sample.media:
            assert dataset.read(sample, modality)
    json.dumps([(s.id, s.text, s.parents, s.lang) for s in dataset]).encode("utf-8")
