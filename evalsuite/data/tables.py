"""Data sets that are tables: Parquet files, and ``datasets.Dataset`` on disk or in memory.

Parquet is read by pyarrow itself: ``load_dataset("parquet")`` first writes all of it to a cache as
Arrow, and its streaming mode has no random access. Features written by ``datasets`` (the names of
classes) are in the file's metadata, as JSON.
"""

from __future__ import annotations

import io
import os
import threading
from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from evalsuite.errors import DataError

from .dataset import BadSample, Contents, Limits, Problem, Sample
from .files import (
    Listing,
    clean,
    file_size,
    list_folder,
    member,
    open_table,
    read_file,
    regular,
    relative,
)
from .readers import Place, is_companion, medium_by_ending, medium_of, split_of
from .remote import RemotePath, StoreError
from .rows import ALIASES, MEDIA, Columns, Row, make_sample, parse_json

if TYPE_CHECKING:
    import datasets

_BATCH_BYTES = 8 * 2**20
_KEPT_ROWS = 64
_OPEN_GROUPS = 3
# What a damaged file makes pyarrow raise; text that is not UTF-8 is a ValueError.
_DAMAGED = (
    pa.ArrowException,
    OSError,
    ValueError,
    KeyError,
    IndexError,
    OverflowError,
    MemoryError,
)


def read_parquet(
    place: Place, listing: Listing, limits: Limits, columns: dict[str, str]
) -> Contents:
    """Read the listing of one Parquet file, or of a folder of them."""
    store = _ParquetStore(place.root, limits)
    contents = Contents(
        place.name,
        "parquet",
        place.root,
        store,
        problems=listing.problems,
        ignored=listing.ignored,
        by_location=True,
    )
    finder = Columns(columns)
    refused: DataError | None = None
    for name, file in sorted(listing.files.items()):
        if not name.lower().endswith(".parquet"):
            contents.ignored["companion" if is_companion(name, file) else "other"] += 1
            continue
        try:
            _read_parquet_file(name, file, store, finder, limits, contents)
        except _DAMAGED as error:
            detail = f"the Parquet file cannot be read: {_first_line(error)}"
            contents.problems.append(Problem(clean(name), "unreadable", detail))
        except BadSample as bad:
            contents.problems.append(bad.problem(clean(name)))
        except StoreError:
            raise
        except DataError as error:  # nothing to be measured: fatal only if no file has anything
            refused = refused or error
            contents.problems.append(Problem(clean(name), "bad_metadata", str(error)))
    if refused is not None and not contents.found:
        raise refused
    if contents.found:
        finder.require_given(contents.name)
    return contents


def _read_parquet_file(
    name: str,
    file: str,
    store: _ParquetStore,
    finder: Columns,
    limits: Limits,
    contents: Contents,
) -> None:
    with pq.ParquetFile(_source(file)) as parquet:
        schema = parquet.schema_arrow
        total = parquet.metadata.num_rows
        if not 0 <= total <= file_size(file):
            raise ValueError(f"it claims {total:,} rows, more than it has bytes")
        names, features = _features(schema)

        def first(column: str) -> Any:
            for batch in parquet.iter_batches(batch_size=1, columns=[column]):
                return batch.column(0)[0].as_py() if len(batch) else None
            return None

        media = _media_columns(schema, finder, name, features, first)
        stores = {medium: store.add(file, c, parquet.metadata) for medium, c in media.items()}
        wanted = _field_columns(schema, media, finder)
        rows = _parquet_batches(parquet, wanted, names) if wanted else ({} for _ in range(total))
        found = list(_samples(rows, clean(name), split_of(name), finder, stores, limits, contents))
    contents.found.extend(found)


def _parquet_batches(
    parquet: pq.ParquetFile, wanted: Sequence[str] | None, names: Mapping[str, list[str]]
) -> Iterator[Row]:
    for batch in parquet.iter_batches(batch_size=1024, columns=wanted):
        for row in batch.to_pylist():
            yield _named(row, names)


def parquet_rows(name: str, path: str, problems: list[Problem]) -> Iterator[tuple[int, Row]]:
    """Give number and cells of each row of a ``metadata.parquet``."""
    try:
        with pq.ParquetFile(_source(path)) as parquet:
            names, _ = _features(parquet.schema_arrow)
            yield from enumerate(_parquet_batches(parquet, None, names), start=1)
    except _DAMAGED as error:
        detail = f"the Parquet file cannot be read: {_first_line(error)}"
        problems.append(Problem(clean(name), "bad_metadata", detail, lost=False))


def read_disk(path: Path, limits: Limits, columns: dict[str, str]) -> Contents:
    """Read what ``save_to_disk`` of a ``Dataset`` or a ``DatasetDict`` has written.

    ``load_from_disk`` opens whatever files ``state.json`` names, so that these names are checked
    first.
    """
    root = Path(os.path.realpath(path))
    parts: list[tuple[str | None, Path]] = [(None, root)]
    if (root / "dataset_dict.json").is_file():
        splits = _json_file(root / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(isinstance(s, str) for s in splits):
            raise DataError(f"{path.name!r}: dataset_dict.json names no splits")
        parts = [(split, root / split) for split in splits]
    contents = Contents(root.name, "hf-disk", root, _RowStore(root, limits), by_location=True)
    finder = Columns(columns)
    for split, folder in parts:
        _check_disk(folder, root)
        _add_table(_load(folder), split, finder, limits, contents)
    finder.require_given(root.name)
    listing = list_folder(root)
    contents.problems.extend(listing.problems)
    contents.ignored.update(listing.ignored)
    return contents


def _check_disk(folder: Path, root: Path) -> None:
    """Check that every file that ``load_from_disk`` will open is in the data set's folder."""
    inner = os.path.relpath(folder, root)
    try:
        for name in ("state.json", "dataset_info.json"):
            regular(str(folder / name), str(root))
        files = _json_file(folder / "state.json").get("_data_files")
        for file in files if isinstance(files, list) else [None]:
            named = file.get("filename") if isinstance(file, dict) else None
            inner_name = relative(named if isinstance(named, str) else None, inner)
            regular(str(root / inner_name), str(root))
    except BadSample as bad:
        raise DataError(f"{root.name!r} is no data set that can be opened: {bad}") from None


def _load(folder: Path) -> datasets.Dataset:
    import datasets

    try:
        table = datasets.load_from_disk(str(folder), keep_in_memory=False)
        # Arrow files are mapped into memory as they are: offsets that lie would crash the process.
        table.data.validate(full=True)
    except Exception as error:  # a damaged file or schema makes it raise nearly anything
        raise DataError(
            f"{folder.name!r} cannot be opened as a data set on disk: {_first_line(error)}"
        ) from None
    return table


def read_memory(table: datasets.Dataset, limits: Limits, columns: dict[str, str]) -> Contents:
    """Read the listing of a ``datasets.Dataset``; files that it names are read where they are."""
    name = str(table.info.dataset_name or table.builder_name or "dataset")
    contents = Contents(name, "hf-memory", None, _RowStore(None, limits), by_location=True)
    finder = Columns(columns)
    split = str(table.split) if table.split is not None else None
    _add_table(table, split, finder, limits, contents)
    finder.require_given(name)
    return contents


def _add_table(
    table: datasets.Dataset,
    split: str | None,
    finder: Columns,
    limits: Limits,
    contents: Contents,
) -> None:
    store = contents.store
    if not isinstance(store, _RowStore):
        raise TypeError(f"a table needs a row store, not {type(store).__name__}")
    schema = table.features.arrow_schema
    label = split or contents.name
    # As it is stored: decoding is not left to ``datasets``, which needs torchcodec for sound.
    plain = table.with_format("arrow")

    def first(column: str) -> Any:
        return plain[0].column(column)[0].as_py() if len(plain) else None

    features = {
        column: type(feature).__name__.lower() for column, feature in table.features.items()
    }
    media = _media_columns(schema, finder, contents.name, features, first)
    wanted = _field_columns(schema, media, finder)
    names = {
        column: list(feature.names)
        for column, feature in table.features.items()
        if hasattr(feature, "names") and isinstance(feature.names, list)
    }
    stores = {medium: store.add(plain.select_columns([c]), c) for medium, c in media.items()}
    rows: Iterator[Row] = ({} for _ in range(len(table)))
    if wanted:
        rows = (
            _named(row, names)
            for batch in plain.select_columns(wanted).iter(1024)
            for row in batch.to_pylist()
        )
    contents.found.extend(_samples(rows, clean(label), split, finder, stores, limits, contents))


def _samples(
    rows: Iterator[Row],
    name: str,
    split: str | None,
    finder: Columns,
    stores: Mapping[str, int],
    limits: Limits,
    contents: Contents,
) -> Iterator[tuple[Sample, tuple[Any, ...]]]:
    """Give each row's sample, and where its media are: the store's number and the row."""
    for index, row in enumerate(rows):
        unknown = row.pop(_UNKNOWN, None)
        fields = finder.fields(row)
        source = f"{name}#row {index}"
        if unknown is not None:
            detail = f"{unknown} is the number of no class"
            contents.problems.append(Problem(source, "bad_metadata", detail, lost=False))
        sample = make_sample(
            fields,
            stores,
            limits,
            contents.problems,
            id=f"{name}#{index:07d}",
            source=source,
            split=split,
        )
        if sample is not None:
            yield sample, tuple((stores[medium], index) for medium in sample.media)


_UNKNOWN = "\0unknown class"


def _named(row: Row, names: Mapping[str, list[str]]) -> Row:
    """Put the names of classes for their numbers; −1 is how ``datasets`` says no class."""
    for column, classes in names.items():
        number = row.get(column)
        if not isinstance(number, int):
            continue
        if 0 <= number < len(classes):
            row[column] = classes[number]
        elif number == -1:
            row[column] = None
        else:
            row[_UNKNOWN] = number
    return row


def _features(schema: pa.Schema) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Give what ``datasets`` has noted in a Parquet file: names of classes, kinds of columns."""
    noted = (schema.metadata or {}).get(b"huggingface")
    if noted is None:
        return {}, {}
    try:
        features = {
            column: feature
            for column, feature in parse_json(noted)["info"]["features"].items()
            if isinstance(feature, dict)
        }
        names = {
            column: [str(name) for name in feature["names"]]
            for column, feature in features.items()
            if feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}, {}  # a note that cannot be read leaves the numbers as they are
    return names, {column: str(f.get("_type", "")).lower() for column, f in features.items()}


def _field_columns(schema: pa.Schema, media: Mapping[str, str], finder: Columns) -> list[str]:
    """Give the columns that say something of a sample."""
    scalars = [
        column
        for column in schema.names
        if column not in media.values() and _is_scalar(schema.field(column).type)
    ]
    lists = [
        column
        for column in schema.names
        if pa.types.is_list(kind := schema.field(column).type) and _is_scalar(kind.value_type)
    ]
    used = finder.of((*scalars, *media.values(), *lists))
    return [
        column
        for column in (*scalars, *lists)
        if column in used.values() and (column not in lists or column == used.get("parents"))
    ]


def _media_columns(
    schema: pa.Schema,
    finder: Columns,
    where: str,
    features: Mapping[str, str],
    first: Callable[[str], Any],
) -> dict[str, str]:
    """Find the columns that hold the images and the recordings, or else their paths.

    A column of bytes is what the user, ``datasets``' note or its name says, or else what its first
    row holds. None is needed where there is a column of texts.
    """
    names: list[str] = list(schema.names)
    given = {medium: finder.given[medium] for medium in MEDIA if medium in finder.given}
    have = ", ".join(f"{name!r} ({schema.field(name).type})" for name in names[:30])
    for medium, column in given.items():
        if column not in names:
            raise DataError(f"{where!r} has no column {column!r} for {medium!r}; it has {have}")
        kind = schema.field(column).type
        if not (_is_binary(kind) or _is_struct(kind) or _is_string(kind)):
            raise DataError(
                f"{where!r}: column {column!r} holds {kind}, not encoded {_PLURAL[medium]} or paths"
            )
    held = [n for n in names if n not in given.values() and _holds_bytes(schema.field(n).type)]
    by_medium: dict[str, list[str]] = {medium: [] for medium in MEDIA}
    unknown: list[str] = []
    for column in held:
        noted = features.get(column)
        named = [m for m in MEDIA if m == noted] or [
            m for m in MEDIA if column.lower() in ALIASES[m]
        ]
        holds = named[0] if named else _first_medium(column, first)
        (by_medium[holds] if holds else unknown).append(column)
    if unknown and not given and not any(by_medium.values()):
        by_medium["image"] = unknown  # decoding will say what they are
    result = dict(given)
    for medium, columns in by_medium.items():
        if medium not in result and columns:
            result[medium] = _only(columns, schema, medium, where)
    lower = {name.lower(): name for name in reversed(names)}
    paths = {
        key: lower[alias]
        for key in ("file", *MEDIA)
        for alias in reversed(ALIASES[key])
        if alias in lower and _is_string(schema.field(lower[alias]).type)
    }
    for medium in MEDIA:
        if medium in paths and medium not in result:
            result[medium] = paths[medium]
    if not result and "file" in paths:
        result[_first_medium(paths["file"], first) or "image"] = paths["file"]
    texts = finder.of(tuple(n for n in names if _is_scalar(schema.field(n).type)))
    if not result and "text" not in texts:
        raise DataError(
            f"{where!r} has no column of texts or recordings, and no column of encoded images; it "
            f"has {have}: say which with columns={{'image': …}}, 'audio' or 'text'"
        )
    return {medium: result[medium] for medium in MEDIA if medium in result}


_PLURAL = {"image": "images", "audio": "recordings"}


def _only(columns: list[str], schema: pa.Schema, medium: str, where: str) -> str:
    """Give the one column of a medium: the structs that ``datasets`` writes come first."""
    structs = [column for column in columns if _is_struct(schema.field(column).type)]
    columns = structs or columns
    if len(columns) == 1:
        return columns[0]
    for alias in ALIASES[medium] + ALIASES["file"]:
        for column in columns:
            if column.lower() == alias:
                return column
    raise DataError(
        f"{where!r} has several columns that could hold the {_PLURAL[medium]} "
        f"({', '.join(map(repr, columns))}): say which with columns={{'{medium}': …}}"
    )


def _first_medium(column: str, first: Callable[[str], Any]) -> str | None:
    """Say what a column holds by its first row; None if that does not tell."""
    try:
        value = first(column)
    except _DAMAGED:
        return None  # reading the rows will say so
    path = value
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    medium = medium_of(value[:64]) if isinstance(value, bytes) else None
    return medium or (medium_by_ending(path) if isinstance(path, str) else None)


def _holds_bytes(kind: pa.DataType) -> bool:
    return _is_struct(kind) or _is_binary(kind)


def _is_struct(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    return _is_binary(kind.field("bytes").type)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_scalar(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_scalar(kind.value_type)
    return not (_is_binary(kind) or pa.types.is_nested(kind))


def _source(path: str) -> str | BinaryIO:
    """Give what pyarrow opens: a path, or an object in a store as a file."""
    return open_table(path) if isinstance(path, RemotePath) else path


def _encoded(value: Any, root: Path | RemotePath | None, limits: Limits) -> bytes:
    """Give the bytes of one cell of a column of media."""
    path = value if isinstance(value, str) else None
    if isinstance(value, dict):
        path, value = value.get("path"), value.get("bytes")
    if isinstance(value, bytes):
        if not value:
            raise BadSample("truncated", "it is empty: 0 bytes")
        if len(value) > limits.max_bytes:
            raise BadSample(
                "oversized", f"{len(value):,} bytes; at most {limits.max_bytes:,} are read"
            )
        return value
    if not isinstance(path, str) or not path:
        raise BadSample("missing", "the row holds no bytes and no path")
    if root is None:  # the user's own object: its files are where the user's program put them
        if "://" in path:
            raise BadSample("outside_folder", f"{path!r} is a URL: nothing is fetched")
        return read_file(os.path.realpath(path), limits)
    return read_file(member(root, path), limits)


class _RowStore:
    """Rows of ``datasets.Dataset`` objects: mapped into memory, so that any row is at hand."""

    def __init__(self, root: Path | None, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._tables: list[tuple[Any, str]] = []

    def add(self, table: Any, image: str) -> int:
        self._tables.append((table, image))
        return len(self._tables) - 1

    def read(self, where: tuple[int, int]) -> bytes:
        """Read one row."""
        number, row = where
        table, image = self._tables[number]
        try:
            value = table[row].column(image)[0].as_py()
        except _DAMAGED as error:
            raise BadSample("unreadable", f"the row cannot be read: {_first_line(error)}") from None
        return _encoded(value, self._root, self._limits)

    def open(self, where: tuple[int, int]) -> BinaryIO:
        """Read one row."""
        return io.BytesIO(self.read(where))


class _ParquetStore:
    """Rows of Parquet files, decoded a few at a time.

    Parquet can only be decoded from the start of a row group. A cursor per row group goes on from
    where it is, and keeps the last rows, so that threads that ask for neighbouring rows share the
    work; memory is bounded by rows, not by the size of a row group.
    """

    def __init__(self, root: Path | RemotePath, limits: Limits) -> None:
        self._root = root
        self._limits = limits
        self._files: list[tuple[str, str, list[int], list[int]]] = []
        self._cursors: OrderedDict[tuple[int, int], _Cursor] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _ParquetStore._of, (self._root, self._limits, self._files)

    @classmethod
    def _of(cls, root: Path | RemotePath, limits: Limits, files: Any) -> _ParquetStore:
        """Make it anew in another process: places in files stay where they are."""
        store = cls(root, limits)
        store._files = files
        return store

    def add(self, file: str, image: str, metadata: Any) -> int:
        """Note a file; give its number."""
        starts, batches = [], []
        start = 0
        for group in range(metadata.num_row_groups):
            part = metadata.row_group(group)
            # Of the whole row: asking a damaged file for one column's size crashes pyarrow.
            size = part.total_byte_size
            starts.append(start)
            rows = max(1, part.num_rows)
            batches.append(max(1, min(128, _BATCH_BYTES * rows // max(1, size))))
            start += part.num_rows
        self._files.append((file, image, starts, batches))
        return len(self._files) - 1

    def read(self, where: tuple[int, int]) -> bytes:
        """Read one row."""
        number, row = where
        file, image, starts, batches = self._files[number]
        group = bisect_right(starts, row) - 1
        with self._lock:
            cursor = self._cursors.pop((number, group), None)
            if cursor is None:
                cursor = _Cursor(file, image, group, batches[group])
            self._cursors[number, group] = cursor
            while len(self._cursors) > _OPEN_GROUPS:
                self._cursors.popitem(last=False)
        return _encoded(cursor.value(row - starts[group]), self._root, self._limits)

    def open(self, where: tuple[int, int]) -> BinaryIO:
        """Read one row."""
        return io.BytesIO(self.read(where))


class _Cursor:
    """A place in one row group of one file."""

    def __init__(self, file: str, image: str, group: int, batch_size: int) -> None:
        self._file, self._image, self._group, self._size = file, image, group, batch_size
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, Any]] = deque(maxlen=max(4, _KEPT_ROWS // batch_size))
        self._batches: Iterator[Any] = iter(())
        self._next = -1
        self._broken: tuple[int, BadSample] | None = None

    def value(self, row: int) -> Any:
        """Give the cell of a row of this group."""
        with self._lock:
            if self._broken is not None and row >= self._broken[0]:
                raise self._broken[1]
            kept = self._find(row)
            if kept is None and not 0 <= self._next <= row:
                self._restart()
            while kept is None:
                self._step()
                kept = self._find(row)
            return kept

    def _find(self, row: int) -> Any:
        for start, column in self._kept:
            if start <= row < start + len(column):
                try:
                    value = column[row - start].as_py()
                except _DAMAGED as error:
                    detail = f"the row cannot be read: {_first_line(error)}"
                    raise BadSample("unreadable", detail) from None
                return {} if value is None else value
        return None

    def _restart(self) -> None:
        self._kept.clear()
        self._next = 0
        try:
            parquet = pq.ParquetFile(_source(self._file), pre_buffer=False, buffer_size=2**20)
            self._batches = parquet.iter_batches(
                batch_size=self._size,
                row_groups=[self._group],
                columns=[self._image],
                use_threads=False,
            )
        except _DAMAGED as error:
            self._fail(error)

    def _step(self) -> None:
        try:
            batch = next(self._batches)
        except (*_DAMAGED, StopIteration) as error:
            self._fail(error)
        column = batch.column(0)
        self._kept.append((self._next, column))
        self._next += len(column)

    def _fail(self, error: Exception) -> None:
        detail = f"the row group is damaged: {_first_line(error) or 'it ends too early'}"
        bad = BadSample("unreadable", detail)
        self._broken = (self._next, bad)
        raise bad


def _json_file(path: Path) -> Row:
    try:
        return parse_json(read_file(str(path), Limits()))
    except (BadSample, ValueError) as error:
        raise DataError(f"{path.name!r} of the data set cannot be read: {error}") from None


def _first_line(error: Exception) -> str:
    return clean(str(error)).partition("\n")[0][:300]
