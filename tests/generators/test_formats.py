from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from evalsuite.data import open_dataset
from evalsuite.errors import UsageError
from evalsuite.generators import (
    Audio,
    Item,
    content_hash,
    formats,
    generate_dataset,
    parse_recipe,
)
from evalsuite.generators.formats import Format

IMAGES = parse_recipe("{version: 1, name: fog, seed: 7, steps: [corrupt: {kind: fog}]}")
SOUNDS = parse_recipe("{version: 1, seed: 7, steps: [identity: {modality: audio}]}")
TEXTS = parse_recipe("{version: 1, seed: 7, steps: [identity: {modality: text}]}")
RECORDS = parse_recipe(
    "{version: 1, seed: 7, steps: [within: {operation: {corrupt: {kind: fog}}}]}"
)
FORMS: tuple[Format, ...] = ("folder", "parquet", "webdataset")


def items(n: int = 6) -> list[Item]:
    rng = np.random.default_rng(0)
    return [
        Item(
            f"r{i}",
            Image.fromarray(rng.integers(256, size=(16, 16, 3)).astype(np.uint8)),
            label=["good", "bad"][i % 2],
            split=["train", "test"][i % 2],
            audio=Audio(rng.uniform(-0.5, 0.5, 800).astype(np.float32), 8000),
            text=f"number {i}",
        )
        for i in range(n)
    ]


def rows_of(out: Path, form: Format) -> list[dict[str, Any]]:
    """Read the rows with nothing of evalsuite's."""
    if form == "folder":
        return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    if form == "parquet":
        return [
            row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
        ]
    found = []
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            names = [name for name in tar.getnames() if name.endswith(".json")]
            found += [json.load(tar.extractfile(name)) for name in names]  # type: ignore[arg-type]
    return found


def shown(out: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(out)): p.read_bytes()
        for p in out.rglob("*")
        if p.is_file() and ".evalsuite" not in p.parts
    }


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", [IMAGES, SOUNDS, TEXTS, RECORDS], ids="IATR")
def test_every_format_holds_the_same_rows_and_says_that_they_are_synthetic(
    form: Format, recipe: Any, tmp_path: Path
) -> None:
    report = generate_dataset(recipe, items(), tmp_path / "out", form=form, n=9, source="cells")
    assert report.n_written == 9
    rows = rows_of(report.path, form)
    generate_dataset(recipe, items(), tmp_path / "folder", n=9)
    wanted = rows_of(tmp_path / "folder", "folder")
    names = ("file_name", "audio_file_name", "image", "audio")
    assert [{k: v for k, v in r.items() if k not in names} for r in rows] == [
        {k: v for k, v in r.items() if k not in names} for r in wanted
    ]
    assert all(row["synthetic"] for row in rows)
    # mlcroissant validates the metadata, and reads the records by it.
    described = mlcroissant.Dataset(str(report.path / "croissant.json"))
    assert not described.metadata.ctx.issues.errors
    facts = json.loads((report.path / "croissant.json").read_text())
    assert facts["description"].startswith("SYNTHETIC DATA. 9 samples made from cells")
    assert facts["prov:wasDerivedFrom"]["name"] == "cells"
    assert recipe.operation().name in facts["prov:wasGeneratedBy"]["description"]
    # Of sounds in files, mlcroissant 1.1 reads MP3 only; rows and shards are joined by name only.
    if form == "parquet" or (form == "folder" and recipe is not SOUNDS):
        read = list(described.records("samples"))
        ids = {record["samples/id"].decode() for record in read}
        assert ids == {row["id"] for row in wanted}
        if recipe is IMAGES:
            by_id = {row["id"]: row for row in wanted}
            for record in read:
                made = record["samples/image"]
                assert content_hash(made) == by_id[record["samples/id"].decode()]["sha256"]


def test_parquet_is_read_by_datasets_with_images_and_sounds(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    out = generate_dataset(RECORDS, items(), tmp_path / "out", form="parquet").path
    files = sorted(map(str, out.glob("*.parquet")))
    read = datasets.load_dataset("parquet", data_files=files, cache_dir=str(tmp_path / "c"))[
        "train"
    ]
    assert isinstance(read.features["image"], datasets.Image)
    assert isinstance(read.features["audio"], datasets.Audio)
    image = read.select_columns(["image", "text"])[0]
    assert image["image"].size == (16, 16)
    assert image["text"] == "number 0"


def test_webdataset_is_read_by_webdataset(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    out = generate_dataset(RECORDS, items(), tmp_path / "out", form="webdataset").path
    read = list(webdataset.WebDataset(str(out / "data-00000.tar"), shardshuffle=False))
    assert len(read) == 6
    for sample in read:
        facts = json.loads(sample["json"])
        assert Image.open(io.BytesIO(sample["png"])).size == (16, 16)
        assert sample["wav"][:4] == b"RIFF"
        assert sample["txt"].decode() == facts["text"]
        assert facts["parents"] == [facts["id"].split("~")[0]]


@pytest.mark.parametrize("form", FORMS)
def test_a_run_goes_on_and_shards_follow(
    form: Format, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "SHARD_BYTES", 2000)
    whole = generate_dataset(IMAGES, items(10), tmp_path / "a", form=form).path
    generate_dataset(IMAGES, items(4), tmp_path / "b", form=form)
    report = generate_dataset(IMAGES, items(10), tmp_path / "b", form=form)
    assert (report.n_kept, report.n_written) == (4, 6)
    assert shown(report.path) == shown(whole)
    assert form == "folder" or len(shown(whole)) > 3
    other: Format = "parquet" if form == "folder" else "folder"
    with pytest.raises(UsageError):
        generate_dataset(IMAGES, items(10), tmp_path / "a", form=other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("recipe", [IMAGES, SOUNDS, TEXTS, RECORDS], ids="IATR")
def test_the_data_layer_reads_every_format(form: Format, recipe: Any, tmp_path: Path) -> None:
    out = generate_dataset(recipe, items(), tmp_path / "out", form=form).path
    read = open_dataset(out)
    assert [p for p in read.problems if p.lost] == []
    found = {s.id: (s.label, s.split, s.group, s.text, s.parents) for s in read}
    assert found == {
        r["id"]: (r["label"], r["split"], r["group"], r["text"], tuple(r["parents"]))
        for r in rows_of(out, form)
    }
