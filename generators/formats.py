"""A generated set as a folder, as Parquet or as WebDataset shards, with its Croissant metadata.

Every format starts from the folder of :mod:`~.folder`, which is what resumes after a kill. Parquet
and WebDataset are written from that folder when it is whole; it stays in ``.evalsuite/work``, so
that a later run goes on from it.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ..errors import UsageError, writing_to
from .croissant import croissant
from .folder import FILE_COLUMNS, METADATA, FolderReport, write_whole
from .items import Item
from .recipe import Recipe
from .values import Params

Format: TypeAlias = Literal["folder", "parquet", "webdataset"]
SHARD_BYTES = 256 * 2**20
"""Media per Parquet file or tar."""

_STATE = ".evalsuite"


def generate_dataset(
    recipe: Recipe,
    items: Iterable[Item],
    out_dir: str | Path,
    *,
    form: Format = "folder",
    n: int | None = None,
    source: str = "the real data set",
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> FolderReport:
    """Run a recipe and write a data set in one of three formats, with ``croissant.json``.

    Parameters
    ----------
    recipe : Recipe
        What to do.
    items : iterable of Item
        The real data (:func:`~.source.items_of`).
    out_dir : path
        New, empty, or of an earlier run of the same recipe and format, which is continued.
    form : {"folder", "parquet", "webdataset"}
        ``folder``: an ImageFolder or AudioFolder, or text in ``metadata.jsonl``. ``parquet``:
        ``data-00000.parquet``, … with structs of bytes and path, as Hugging Face's ``datasets``
        reads them. ``webdataset``: ``data-00000.tar``, … with ``key.png``, ``key.wav``,
        ``key.txt`` and ``key.json``.
    n : int, optional
        Samples in all, in place of the recipe's variants.
    source : str
        What to call the real data in the metadata.
    workers : int
        Threads. The result does not depend on it.
    progress : callable, optional
        Called with the number of samples done.

    Returns
    -------
    FolderReport
        With ``out_dir`` as its path.

    Raises
    ------
    EvalsuiteError
        As :func:`~.folder.generate_folder`.
    """
    out = Path(out_dir)
    work = out if form == "folder" else out / _STATE / "work"
    _check_free(out, work)
    report = recipe.run(items, work, n=n, workers=workers, progress=progress)
    rows = [json.loads(line) for line in (work / METADATA).read_text("utf-8").splitlines()]
    shards: list[str] = []
    with writing_to(out):
        if form != "folder":
            ending = "parquet" if form == "parquet" else "tar"
            write = _parquet if form == "parquet" else _tar
            for k, part in enumerate(_parts(rows, work)):
                shards.append(f"data-{k:05d}.{ending}")
                write_whole(out / shards[-1], write(part, work))
            for old in out.glob(f"data-*.{ending}"):
                if old.name not in shards:
                    old.unlink()
        files = {name: _digest(out / name) for name in shards or [METADATA]}
        described = croissant(recipe, rows, form=form, files=files, source=source)
        whole = (json.dumps(described, indent=1, sort_keys=True) + "\n").encode()
        write_whole(out / "croissant.json", whole)
    return replace(report, path=out)


def _check_free(out: Path, work: Path) -> None:
    if work == out or work.is_dir():
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not empty and holds no run of this format: name a new folder")


def _digest(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _media(row: Params) -> list[tuple[str, str]]:
    """Give the files of a row: modality and name."""
    names = [row[column] for column in FILE_COLUMNS if row.get(column)]
    return [("image" if name.endswith(".png") else "audio", name) for name in names]


def _parts(rows: list[Params], work: Path) -> Iterator[list[Params]]:
    part: list[Params] = []
    size = 0
    for row in rows:
        part.append(row)
        size += sum((work / name).stat().st_size for _, name in _media(row))
        if size >= SHARD_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _parquet(rows: list[Params], work: Path) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    media = {modality for row in rows for modality, _ in _media(row)}
    columns: dict[str, list[Any]] = {}
    features: Params = {}
    blob = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = []
    for modality in sorted(media, reverse=True):
        columns[modality] = [_blob(row, modality, work) for row in rows]
        schema.append(pa.field(modality, blob))
        features[modality] = {"_type": modality.capitalize()}
    for name in rows[0]:
        if name not in FILE_COLUMNS:
            columns[name] = [row[name] for row in rows]
            kind = _arrow_type(name, columns[name], pa)
            schema.append(pa.field(name, kind))
            features[name] = _feature(kind, pa)
    # So that Hugging Face's `datasets` shows images and sounds, and not structs of bytes.
    facts = {"huggingface": json.dumps({"info": {"features": features}}, sort_keys=True)}
    table = pa.table(columns, pa.schema(schema, metadata=facts))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", row_group_size=256)
    return buffer.getvalue()


def _blob(row: Params, modality: str, work: Path) -> Params | None:
    for kind, name in _media(row):
        if kind == modality:
            return {"bytes": (work / name).read_bytes(), "path": name}
    return None


def _arrow_type(name: str, values: list[Any], pa: Any) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} and kinds:
        return pa.bool_()
    if kinds <= {int} and kinds:
        return pa.int64()
    if kinds <= {list} and kinds:
        return pa.list_(pa.string())
    if kinds <= {str}:
        return pa.string()
    listed = ", ".join(sorted(kind.__name__ for kind in kinds))
    raise UsageError(
        f"the column {name!r} holds {listed}: Parquet has one type per column; write all labels as "
        "text, or all as numbers"
    )


def _feature(kind: Any, pa: Any) -> Params:
    if pa.types.is_list(kind):
        return {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"}
    return {"dtype": str(kind), "_type": "Value"}


def _tar(rows: list[Params], work: Path) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for k, row in enumerate(rows):
            media = _media(row)
            key = Path(media[0][1]).stem if media else f"{k:08d}"
            members = [(Path(name).suffix[1:], (work / name).read_bytes()) for _, name in media]
            if row["text"] is not None:
                members.append(("txt", row["text"].encode()))
            facts = {name: value for name, value in row.items() if name not in FILE_COLUMNS}
            members.append(("json", json.dumps(facts).encode()))
            for ending, data in members:
                member = tarfile.TarInfo(f"{key}.{ending}")  # no owner, no time: equal bytes
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
