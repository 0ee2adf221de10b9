"""Find out what format a path holds; read folders of images and manifests."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable
from pathlib import Path

from evalsuite.errors import DataError

from .dataset import BadSample, Contents, Limits, Problem, Sample
from .files import (
    FileStore,
    Listing,
    bad_file,
    clean,
    describe,
    head,
    list_folder,
    regular,
    relative,
)
from .images import sniff
from .rows import Columns, RowFile

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_MANIFESTS = (".jsonl", ".ndjson", ".csv", ".tsv")
_SPLITS = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
)
_CONTAINERS = frozenset({"data", "image", "images", "img", "imgs", "files"})
# Files that people put beside pictures. They are no samples, unless their content is a picture.
_COMPANIONS = frozenset(
    {
        ".cfg", ".conf", ".csv", ".htm", ".html", ".ini", ".json", ".jsonl", ".log", ".md", ".md5",
        ".ndjson", ".rst", ".sha1", ".sha256", ".toml", ".tsv", ".txt", ".xml", ".yaml", ".yml",
    }
)  # fmt: skip
_COMPANION_NAMES = frozenset({"readme", "license", "licence", "notice", "copying", "changelog"})


def read(path: Path, limits: Limits, columns: dict[str, str]) -> Contents:
    """Find out what a path holds, and read its listing.

    Raises
    ------
    DataError
        If it is of no known format, or has none of the columns that the user named.
    """
    if path.is_dir():
        return _read_directory(path, limits, columns)
    if not path.is_file():
        raise DataError(
            f"{str(path)!r} is {describe(path.stat().st_mode)}: give a folder or a file"
        )
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        from .tables import read_parquet

        return read_parquet(path, Listing({path.name: os.path.realpath(path)}), limits, columns)
    if suffix == ".tar":
        from .shards import read_tars

        return read_tars(path, Listing({path.name: os.path.realpath(path)}), limits, columns)
    if suffix in _MANIFESTS:
        return _read_manifest(path, limits, columns)
    raise DataError(
        f"{path.name!r} is not a data set that can be opened: give a folder, a .parquet or .tar "
        f"file, or a manifest ({', '.join(_MANIFESTS)}); unpack archives and compressed tars first"
    )


def _read_directory(path: Path, limits: Limits, columns: dict[str, str]) -> Contents:
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        from .tables import read_disk

        return read_disk(path, limits, columns)
    listing = list_folder(path)
    endings = {posixpath.splitext(name)[1].lower() for name in listing.files}
    metadata = {name for name in listing.files if posixpath.basename(name).lower() in _METADATA}
    shards = endings & {".parquet", ".tar"}
    if shards and not metadata and not _has_pictures(listing):
        if len(shards) == 2:
            raise DataError(
                f"{path.name!r} holds Parquet and tar files: give the folder of one of them"
            )
        if ".tar" in shards:
            from .shards import read_tars

            return read_tars(path, listing, limits, columns)
        from .tables import read_parquet

        return read_parquet(path, listing, limits, columns)
    return _read_folder(path, listing, metadata, limits, columns)


def _has_pictures(listing: Listing) -> bool:
    """Whether a file that is neither a shard nor a companion is a picture."""
    for name, path in listing.files.items():
        ending = posixpath.splitext(name)[1].lower()
        if ending not in (".parquet", ".tar") and sniff(head(path)) is not None:
            return True
    return False


def is_companion(name: str, path: str) -> bool:
    """Whether a file is text beside the pictures, and not a picture with such a name."""
    stem, ending = posixpath.splitext(posixpath.basename(name).lower())
    by_name = ending in _COMPANIONS or (ending == "" and stem in _COMPANION_NAMES)
    return by_name and sniff(head(path)) is None


def _read_folder(
    path: Path, listing: Listing, metadata: set[str], limits: Limits, columns: dict[str, str]
) -> Contents:
    contents = Contents(
        name=path.resolve().name,
        format="folder+metadata" if metadata else "folder",
        root=path,
        store=FileStore(limits),
        problems=listing.problems,
        ignored=listing.ignored,
    )
    if columns and not metadata:
        raise DataError(
            f"columns= names {', '.join(map(repr, columns.values()))}, but {path.name!r} has no "
            "metadata.jsonl, metadata.csv or metadata.parquet"
        )
    candidates = {name: file for name, file in listing.files.items() if name not in metadata}
    rows = _metadata_rows(metadata, listing, candidates, limits, columns)
    pictures: dict[str, str] = {}
    for name, file in candidates.items():
        if name not in rows and is_companion(name, file):
            contents.ignored["companion"] += 1
        else:
            pictures[name] = file
    folders = _folders(pictures)
    # One vocabulary of labels: the folders' names are none where the metadata has labels.
    by_row = any(row.get("label") for row in rows.values())
    for name, file in pictures.items():
        row = rows.get(name)
        label, split = folders[name]
        if by_row:
            label = None
        source = clean(name)
        if row is None:
            contents.found.append((Sample(source, source, label=label, split=split), file))
            if rows:
                detail = "no row of the metadata names this file"
                contents.problems.append(Problem(source, "bad_metadata", detail, lost=False))
            continue
        sample = Sample(
            id=row.get("id") or source,
            source=source,
            label=row.get("label") or label,
            group=row.get("group"),
            split=row.get("split") or split,
            text=row.get("text"),
        )
        contents.found.append((sample, file))
    return contents


def split_of(name: str) -> str | None:
    """Give the split of a shard by its folder or name: ``test/…``, ``train-00000-of-00004…``."""
    for part in name.split("/"):
        word = re.match(r"[A-Za-z]+", part)
        if word and word[0].lower() in _SPLITS:
            return word[0]
    return None


def _folders(names: Iterable[str]) -> dict[str, tuple[str | None, str | None]]:
    """Give label and split of each file by the folders that it is in.

    A lone top folder with a name like ``images`` means nothing. If all the files are in folders
    named like splits, these are the splits. Of what remains, the first folder is the label.
    """
    parts = {name: name.split("/")[:-1] for name in names}
    while True:
        tops = {folders[0] if folders else None for folders in parts.values()}
        (top,) = tops if len(tops) == 1 else (None,)
        if top is None or top.lower() not in _CONTAINERS:
            break
        parts = {name: folders[1:] for name, folders in parts.items()}
    has_splits = bool(tops) and all(top is not None and top.lower() in _SPLITS for top in tops)
    result = {}
    for name, folders in parts.items():
        split, rest = (folders[0], folders[1:]) if has_splits else (None, folders)
        result[name] = (clean(rest[0]) if rest else None, clean(split) if split else None)
    return result


def _metadata_rows(
    metadata: set[str],
    listing: Listing,
    candidates: dict[str, str],
    limits: Limits,
    columns: dict[str, str],
) -> dict[str, dict[str, str | None]]:
    """Give the fields of each file that a row of the metadata names, by the file's name."""
    problems = listing.problems
    result: dict[str, dict[str, str | None]] = {}
    refused = {problem.sample for problem in problems}
    finder = Columns(columns)
    for file in sorted(metadata):
        folder = posixpath.dirname(file)
        without = 0
        for number, row in _rows_of(file, listing.files[file], limits, problems, lost=False):
            where = f"{clean(file)}#line {number}"
            fields = finder.fields(row)
            if "image" not in fields:
                without += 1
                continue
            wanted = fields["image"]
            try:
                name = relative(wanted, folder)
            except BadSample as bad:
                problems.append(bad.problem(where))
                continue
            if name in result:
                detail = f"{name!r} has a row already: the first counts"
                problems.append(Problem(where, "bad_metadata", detail, lost=False))
            elif name in candidates:
                result[name] = fields
            elif clean(name) not in refused:  # else it is reported already, with the reason
                problems.append(Problem(where, "missing", f"there is no file {wanted!r}"))
        if without:
            detail = f"{without} rows have no column for the file name (file_name)"
            problems.append(Problem(clean(file), "bad_metadata", detail, lost=False))
    if metadata:
        finder.require_given(", ".join(sorted(metadata)))
    return result


def _rows_of(
    name: str, path: str, limits: Limits, problems: list[Problem], *, lost: bool
) -> Iterable[tuple[int, dict[str, object]]]:
    if name.lower().endswith(".parquet"):
        from .tables import parquet_rows

        yield from parquet_rows(name, path, problems)
        return
    try:
        with Path(path).open("rb") as data:
            yield from RowFile(data, name, limits, problems, lost=lost)
    except OSError as error:
        problems.append(bad_file(error).problem(clean(name)))


def _read_manifest(path: Path, limits: Limits, columns: dict[str, str]) -> Contents:
    """Read a list of files; their paths are relative to the list, and must stay beneath it."""
    root = path.resolve().parent
    top = str(root)
    contents = Contents(path.name, "manifest", root, FileStore(limits))
    problems = contents.problems
    finder = Columns(columns)
    rows = 0
    names: dict[str, None] = {}
    for number, row in _rows_of(path.name, str(path), limits, problems, lost=True):
        rows += 1
        where = f"{path.name}#line {number}"
        fields = finder.fields(row)
        names.update(dict.fromkeys(row))
        try:
            wanted = fields.get("image")
            if wanted is not None and wanted.startswith(top + os.sep):
                wanted = wanted[len(top) + 1 :]
            name = relative(wanted, "")
            file = regular(os.path.join(top, name), top)  # noqa: PTH118 - 2 µs, not 10
        except BadSample as bad:
            problems.append(bad.problem(where))
            continue
        contents.found.append(
            (
                Sample(
                    id=fields.get("id") or clean(name),
                    source=clean(name),
                    label=fields.get("label"),
                    group=fields.get("group"),
                    split=fields.get("split"),
                    text=fields.get("text"),
                ),
                file,
            )
        )
    if rows:
        finder.require_given(path.name)
        if not any("image" in finder.of((name,)) for name in names):
            raise DataError(
                f"{path.name!r} has no column that names the files; it has "
                f"{', '.join(map(repr, list(names)[:30]))}: say which with columns={{'image': …}}"
            )
    return contents
