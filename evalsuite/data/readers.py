"""Find out what format a path holds; read folders of files and manifests."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from evalsuite.errors import DataError

from . import audio, images, remote
from .dataset import BadSample, Contents, Limits, Problem
from .files import (
    FileStore,
    Listing,
    bad_file,
    clean,
    describe,
    head,
    heads,
    list_folder,
    list_objects,
    member,
    open_table,
    read_file,
    relative,
)
from .rows import MEDIA, Columns, RowFile, make_sample, named_files
from .texts import decode_text, is_boxes

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_MANIFESTS = (".jsonl", ".ndjson", ".csv", ".tsv")
_SPLITS = frozenset(
    {"train", "training", "test", "testing", "val", "valid", "validation", "dev", "eval"}
)
_BY_MODALITY = {
    **dict.fromkeys(("image", "images", "img", "imgs"), "image"),
    **dict.fromkeys(("audio", "audios", "wav", "wavs"), "audio"),
    **dict.fromkeys(
        ("text", "texts", "txt", "caption", "captions", "transcript", "transcripts"), "text"
    ),
}
"""Folders in which the parts of records may lie: ``images/7.jpg`` and ``audio/7.wav``."""
_CONTAINERS = frozenset({"data", "files", *_BY_MODALITY})
# Files that people put beside media. They are no samples, unless their content is a medium, or they
# are the texts.
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
    place = Place(path.resolve().name, Path(os.path.realpath(path.parent)))
    return _read_one(path.name, os.path.realpath(path), place, limits, columns)


def read_remote(top: remote.RemotePath, limits: Limits, columns: dict[str, str]) -> Contents:
    """Do what :func:`read` does for an address in an object store.

    Raises
    ------
    DataError
        As :func:`read`, or if there is nothing under the address or the store does not answer.
    """
    single = posixpath.splitext(top.name)[1].lower() in (".parquet", ".tar", *_MANIFESTS)
    if single and remote.exists(top):
        return _read_one(top.name, top, Place(top.name, top.parent), limits, columns)
    listing = list_objects(top)
    if not (listing.files or listing.problems or listing.ignored):
        raise DataError(
            f"there is nothing under {top}: give a folder, a Parquet, tar or manifest file"
        )
    if {"state.json", "dataset_dict.json"} & listing.files.keys():
        raise DataError(
            f"{top} is a data set that `save_to_disk` wrote: it can be mapped from a disk only; "
            "write it as Parquet (`to_parquet`)"
        )
    return _read_listing(Place(top.name, top), listing, limits, columns)


@dataclass(frozen=True, slots=True)
class Place:
    """What a data set is called, and where it lies: a folder, or an address."""

    name: str
    root: Path | remote.RemotePath


def _read_one(
    name: str, path: str, place: Place, limits: Limits, columns: dict[str, str]
) -> Contents:
    """Read the listing of a data set that is one file."""
    suffix = posixpath.splitext(name)[1].lower()
    if suffix == ".parquet":
        from .tables import read_parquet

        return read_parquet(place, Listing({name: path}), limits, columns)
    if suffix == ".tar":
        from .shards import read_tars

        return read_tars(place, Listing({name: path}), limits, columns)
    if suffix in _MANIFESTS:
        return _read_manifest(name, path, place, limits, columns)
    raise DataError(
        f"{name!r} is not a data set that can be opened: give a folder, a .parquet or .tar "
        f"file, or a manifest ({', '.join(_MANIFESTS)}); unpack archives and compressed tars first"
    )


def _read_directory(path: Path, limits: Limits, columns: dict[str, str]) -> Contents:
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        from .tables import read_disk

        return read_disk(path, limits, columns)
    place = Place(path.resolve().name, Path(os.path.realpath(path)))
    return _read_listing(place, list_folder(path), limits, columns)


def _read_listing(
    place: Place, listing: Listing, limits: Limits, columns: dict[str, str]
) -> Contents:
    endings = {posixpath.splitext(name)[1].lower() for name in listing.files}
    metadata = {name for name in listing.files if posixpath.basename(name).lower() in _METADATA}
    shards = endings & {".parquet", ".tar"}
    if shards and not metadata and not _has_media(listing):
        if len(shards) == 2:
            raise DataError(
                f"{place.name!r} holds Parquet and tar files: give the folder of one of them"
            )
        if ".tar" in shards:
            from .shards import read_tars

            return read_tars(place, listing, limits, columns)
        from .tables import read_parquet

        return read_parquet(place, listing, limits, columns)
    return _read_folder(place, listing, metadata, limits, columns)


def _has_media(listing: Listing) -> bool:
    """Whether a file that is neither a shard nor a companion is an image or a recording."""
    others = {
        name: path
        for name, path in listing.files.items()
        if posixpath.splitext(name)[1].lower() not in (".parquet", ".tar")
    }
    return any(medium_of(start) is not None for _, _, start in heads(others))


def medium_of(start: bytes) -> str | None:
    """Say what content is that starts like this: ``image``, ``audio`` or neither."""
    if images.sniff(start) is not None:
        return "image"
    return "audio" if audio.sniff(start) is not None else None


def medium_by_ending(name: str) -> str | None:
    """Say what a file should be by its ending."""
    ending = posixpath.splitext(name)[1].lower()
    if ending in images.EXTENSIONS:
        return "image"
    return "audio" if ending in audio.EXTENSIONS else None


def is_companion(name: str, path: str) -> bool:
    """Whether a file is text beside the media, and not a medium with such a name."""
    return _companion_name(name) and medium_of(head(path)) is None


def _companion_name(name: str) -> bool:
    stem, ending = posixpath.splitext(posixpath.basename(name).lower())
    return ending in _COMPANIONS or (ending == "" and stem in _COMPANION_NAMES)


@dataclass(slots=True)
class _Record:
    """What becomes a sample: the files of its parts, by modality, and what a row says of it."""

    parts: dict[str, str]
    fields: dict[str, str | None] = field(default_factory=dict)
    id: str = ""


class _Files:
    """The files of a data set, and what each of them is."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self.paths = dict(files)
        self.kinds: dict[str, str] = {}
        """``image`` or ``audio``, by content, or else by its ending; others are not in it."""
        for name, _, start in heads(files):
            kind = medium_of(start) or medium_by_ending(name)
            if kind is not None:
                self.kinds[name] = kind
        counts = Counter(self.kinds.values())
        self.main = "audio" if counts["audio"] > counts["image"] else "image"
        """What most are: what is neither is taken for it, so that decoding says what it is."""

    def is_text(self, name: str) -> bool:
        """Whether a file is the text of a sample."""
        stem, ending = posixpath.splitext(posixpath.basename(name).lower())
        return ending == ".txt" and stem not in _COMPANION_NAMES and name not in self.kinds

    def kind(self, name: str) -> str:
        """Say what a file is, or is to be reported as."""
        return self.kinds.get(name) or ("text" if self.is_text(name) else self.main)


def _read_folder(
    place: Place, listing: Listing, metadata: set[str], limits: Limits, columns: dict[str, str]
) -> Contents:
    contents = Contents(
        name=place.name,
        format="folder+metadata" if metadata else "folder",
        root=place.root,
        store=FileStore(limits),
        problems=listing.problems,
        ignored=listing.ignored,
    )
    if columns and not metadata:
        raise DataError(
            f"columns= names {', '.join(map(repr, columns.values()))}, but {place.name!r} has no "
            "metadata.jsonl, metadata.csv or metadata.parquet"
        )
    files = _Files({name: file for name, file in listing.files.items() if name not in metadata})
    rows = _metadata_records(metadata, listing, files, limits, columns)
    named = {name for row in rows for name in row.parts.values()}
    media = [n for n in files.paths if n not in named and not _is_beside(n, files)]
    texts = [n for n in files.paths if n not in named and files.is_text(n)]
    if not files.kinds and (texts or any(not row.parts.keys() & set(MEDIA) for row in rows)):
        contents.ignored["other"] += len(media)  # in a set of texts, these can be no samples
        media = []
    if (files.kinds and metadata) or any(not row.parts for row in rows):
        texts = []
    layout = _layout([*media, *named], texts, files)
    if metadata:
        records = [_Record({files.kind(name): name}) for name in (*media, *texts)]
    else:
        records = _by_stem(media, texts, layout, files, limits)
    used = named.union(*(record.parts.values() for record in records))
    if beside := sum(_is_beside(name, files) for name in files.paths.keys() - used):
        contents.ignored["companion"] += beside
    if rows:
        for record in records:
            name = clean(next(iter(record.parts.values())))
            detail = "no row of the metadata names this file"
            contents.problems.append(Problem(name, "bad_metadata", detail, lost=False))
    # One vocabulary of labels: the folders' names are none where the metadata has labels.
    by_row = any(row.fields.get("label") for row in rows)
    for record in (*rows, *records):
        label, split, _ = layout.get(next(iter(record.parts.values()), ""), (None, None, ""))
        _add(record, files.paths, limits, contents, None if by_row else label, split, layout)
    return contents


def _is_beside(name: str, files: _Files) -> bool:
    return _companion_name(name) and name not in files.kinds


def _by_stem(
    media: list[str],
    texts: list[str],
    layout: Mapping[str, tuple[str | None, str | None, str]],
    files: _Files,
    limits: Limits,
) -> list[_Record]:
    """Make one record of an image, a recording and a text that have one name.

    Where there are two images of a name, or two recordings, nobody knows what belongs together.
    """
    stems: dict[str, dict[str, list[str]]] = {}
    for name in (*media, *texts):
        parts = stems.setdefault(layout[name][2], {})
        parts.setdefault(files.kind(name), []).append(name)
    records = []
    for parts in stems.values():
        if not parts.keys() & set(MEDIA):
            if not media:
                records += [_Record({"text": name}) for name in parts["text"]]
        elif all(len(names) == 1 for names in parts.values()):
            records.append(_Record({kind: names[0] for kind, names in parts.items()}))
        else:
            records += [_Record({k: n}) for k in MEDIA for n in parts.get(k, ())]
    _drop_boxes(records, files, limits)
    return records


def _drop_boxes(records: list[_Record], files: _Files, limits: Limits) -> None:
    """Take the texts for companions that are boxes of objects, as YOLO has them beside a picture.

    Where there are such, an empty text is a picture without an object.
    """
    boxes, empty = [], []
    for record in records:
        if record.parts.keys() == {"image", "text"}:
            try:
                text = _text(files.paths[record.parts["text"]], limits)
            except BadSample:
                continue  # it is reported when the sample is made
            if is_boxes(text):
                boxes.append(record)
            elif not text:
                empty.append(record)
    for record in [*boxes, *empty] if boxes else []:
        del record.parts["text"]


def _text(path: str, limits: Limits) -> str:
    """Read a file that is a text; raise BadSample if it is none."""
    try:
        return decode_text(read_file(path, replace(limits, max_bytes=limits.max_text)), limits)
    except BadSample as bad:
        if bad.kind == "truncated":
            return ""
        raise


def _add(
    record: _Record,
    paths: Mapping[str, str],
    limits: Limits,
    contents: Contents,
    label: str | None,
    split: str | None,
    layout: Mapping[str, tuple[str | None, str | None, str]],
) -> None:
    """Make a sample of a record."""
    media = {medium: record.parts[medium] for medium in MEDIA if medium in record.parts}
    names = list(media.values()) or list(record.parts.values())
    name = record.id or clean(names[0])
    if len(names) > 1:
        stems = {layout[n][2] for n in names if n in layout}
        name = clean(stems.pop() if len(stems) == 1 else "+".join(names))
    fields = record.fields
    if "text" in record.parts and fields.get("text") is None:
        try:
            fields = fields | {"text": _text(paths[record.parts["text"]], limits)}
        except BadSample as bad:
            problem = bad.problem(fields.get("id") or name)
            contents.problems.append(replace(problem, lost=not media))
            if not media:
                return
    source = clean(names[0]) if names else name
    sample = make_sample(
        fields, media, limits, contents.problems, id=name, source=source, label=label, split=split
    )
    if sample is not None:
        contents.found.append((sample, tuple(paths[media[medium]] for medium in sample.media)))


def split_of(name: str) -> str | None:
    """Give the split of a shard by its folder or name: ``test/…``, ``train-00000-of-00004…``."""
    for part in name.split("/"):
        word = re.match(r"[A-Za-z]+", part)
        if word and word[0].lower() in _SPLITS:
            return word[0]
    return None


def _layout(
    media: list[str], texts: list[str], files: _Files
) -> dict[str, tuple[str | None, str | None, str]]:
    """Give label and split of each file by the folders that it is in, and the name of its record.

    A lone top folder with a name like ``images`` means nothing, nor do several, if each holds the
    modality that it is named after. If all the files are in folders named like splits, these are
    the splits. Of what remains, the first folder is the label.
    """
    parts = {name: name.split("/")[:-1] for name in (*media, *texts)}
    leading = media or texts
    tops = _peel(parts, leading, files)
    splits: dict[str, str] = {}
    if tops and all(top.lower() in _SPLITS for top in tops):
        for name, folders in parts.items():
            if folders and folders[0].lower() in _SPLITS:
                splits[name] = folders[0]
                parts[name] = folders[1:]
        _peel(parts, leading, files)
    result = {}
    for name, folders in parts.items():
        split = splits.get(name)
        stem = posixpath.splitext(posixpath.basename(name))[0]
        record = "/".join([*([split] if split else []), *folders, stem])
        result[name] = (
            clean(folders[0]) if folders else None,
            clean(split) if split else None,
            record,
        )
    return result


def _peel(parts: dict[str, list[str]], leading: list[str], files: _Files) -> set[str]:
    """Take off the top folders that mean nothing; give those that are then on top.

    If a file is in no folder, none is given: then no folder is one of all.
    """
    while True:
        holds: dict[str, set[str]] = {}
        for name in leading:
            if not parts[name]:
                return set()
            holds.setdefault(parts[name][0], set()).add(files.kind(name))
        lone = len(holds) == 1 and next(iter(holds)).lower() in _CONTAINERS
        by_modality = len(holds) > 1 and all(
            kinds == {_BY_MODALITY.get(top.lower())} for top, kinds in holds.items()
        )
        if not (lone or by_modality):
            return set(holds)
        for name, folders in parts.items():
            if folders and folders[0].lower() in _CONTAINERS:
                parts[name] = folders[1:]


def _metadata_records(
    metadata: set[str],
    listing: Listing,
    files: _Files,
    limits: Limits,
    columns: dict[str, str],
) -> list[_Record]:
    """Give a record for each row of the metadata that names files which are there."""
    problems = listing.problems
    result: list[_Record] = []
    texts: list[_Record] = []
    taken: set[tuple[str, ...]] = set()
    refused = {problem.sample for problem in problems}
    finder = Columns(columns)
    for file in sorted(metadata):
        folder = posixpath.dirname(file)
        without = 0

        def find(wanted: str, folder: str = folder) -> tuple[str, str]:
            name = relative(wanted, folder)
            if name not in files.paths:
                raise BadSample("missing", f"there is no file {wanted!r}")
            return name, files.kind(name)

        for number, row in _rows_of(file, listing.files[file], limits, problems, lost=False):
            where = f"{clean(file)}#line {number}"
            fields = finder.fields(row)
            if not fields.keys() & {"file", *MEDIA}:
                without += 1
                if "text" in fields:
                    texts.append(_Record({}, fields, where))
                continue
            parts, bad = _parts(fields, find)
            for key, wanted, reason in bad:
                if reason.kind == "missing" and _refused(wanted, folder) in refused:
                    continue  # it is reported already, with the reason
                problems.append(_of_part(key, reason, where, lost=not parts))
            together = tuple(sorted(parts.values()))
            if together in taken:
                detail = f"{' and '.join(map(repr, together))} has a row already: the first counts"
                problems.append(Problem(where, "bad_metadata", detail, lost=False))
            elif parts:
                taken.add(together)
                result.append(_Record(parts, fields))
        if without and (result or files.kinds or not texts):
            detail = f"{without} rows have no column for the file name (file_name)"
            problems.append(Problem(clean(file), "bad_metadata", detail, lost=False))
    if metadata:
        finder.require_given(", ".join(sorted(metadata)))
    # Rows of texts beside media are not theirs; where there are no media, they are the data set.
    return result or ([] if files.kinds else texts)


def _refused(wanted: str, folder: str) -> str | None:
    try:
        return clean(relative(wanted, folder))
    except BadSample:
        return None


def _of_part(key: str, bad: BadSample, where: str, *, lost: bool) -> Problem:
    """Report a file that a row names: if the rest of the record is kept, say which it was."""
    return Problem(where, bad.kind, bad.detail if lost else f"{key}: {bad.detail}", lost)


def _parts(
    fields: Mapping[str, str | None], find: Callable[[str], tuple[str, str]]
) -> tuple[dict[str, str], list[tuple[str, str, BadSample]]]:
    """Give the files that a row names, by modality, and those that cannot be used, with why.

    Of the latter only the first is lost if there is nothing else: it is one record.
    """
    parts: dict[str, str] = {}
    bad = []
    for key, wanted in named_files(fields).items():
        if key in parts:
            continue
        try:
            name, kind = find(wanted)
        except BadSample as reason:
            bad.append((key, wanted, reason))
        else:
            parts[kind if key == "file" else key] = name
    if not parts and not bad:
        bad.append(("file", "", BadSample("bad_metadata", "the row names no file")))
    return parts, bad if parts else bad[:1]


def _rows_of(
    name: str, path: str, limits: Limits, problems: list[Problem], *, lost: bool
) -> Iterable[tuple[int, dict[str, object]]]:
    if name.lower().endswith(".parquet"):
        from .tables import parquet_rows

        yield from parquet_rows(name, path, problems)
        return
    try:
        with open_table(path) as data:
            yield from RowFile(data, name, limits, problems, lost=lost)
    except OSError as error:
        problems.append(bad_file(error).problem(clean(name)))
    except BadSample as bad:
        problems.append(bad.problem(clean(name)))


def _read_manifest(
    manifest: str, file: str, place: Place, limits: Limits, columns: dict[str, str]
) -> Contents:
    """Read a list of files or of texts; paths are relative to it, and must stay beneath it."""
    top = str(place.root)
    contents = Contents(place.name, "manifest", place.root, FileStore(limits))
    problems = contents.problems
    finder = Columns(columns)
    names: dict[str, None] = {}
    paths: dict[str, str] = {}
    texts: list[_Record] = []

    def find(wanted: str) -> tuple[str, str]:
        inner = wanted[len(top) + 1 :] if wanted.startswith((top + os.sep, top + "/")) else wanted
        name = relative(inner, "")
        if name not in paths:
            paths[name] = member(place.root, name)
        kind = medium_of(head(paths[name])) or medium_by_ending(name)
        return name, kind or ("text" if name.lower().endswith(".txt") else "image")

    for number, row in _rows_of(manifest, file, limits, problems, lost=True):
        where = f"{manifest}#line {number}"
        fields = finder.fields(row)
        names.update(dict.fromkeys(row))
        if not named_files(fields):
            texts.append(_Record({}, fields, where))
            continue
        parts, bad = _parts(fields, find)
        for key, _, reason in bad:
            problems.append(_of_part(key, reason, where, lost=not parts))
        if parts:
            _add(_Record(parts, fields), paths, limits, contents, None, None, {})
    if not names:
        return contents
    finder.require_given(manifest)
    held = finder.of(tuple(names))
    files = [key for key in ("file", *MEDIA) if key in held]
    if not files and "text" not in held:
        raise DataError(
            f"{manifest!r} has no column of texts, and no column that names the files; it has "
            f"{', '.join(map(repr, list(names)[:30]))}: say which with columns={{'image': …}}, "
            "'audio' or 'text'"
        )
    for record in texts:
        if files:
            problems.append(Problem(record.id, "bad_metadata", "the row names no file"))
        else:
            _add(record, {}, limits, contents, None, None, {})
    return contents
