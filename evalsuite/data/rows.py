"""Rows of metadata: which column means what, and reading JSONL and CSV that may be broken.

Neither pandas nor pyarrow (which ``datasets`` reads metadata with) is used for the text formats:
one bad line makes both give up the whole file, and both guess types, so that the label ``007``
comes out as 7 and the label ``NA`` as missing.
"""

from __future__ import annotations

import csv
import difflib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, BinaryIO

from evalsuite.errors import DataError

from .dataset import Limits, Problem, Sample
from .files import clean
from .texts import usable_text

ALIASES: dict[str, tuple[str, ...]] = {
    "file": ("file_name", "filename", "file", "path", "file_path", "filepath"),
    "image": ("image", "img", "image_path", "img_path", "image_file", "image_file_name"),
    "audio": (
        "audio", "audio_path", "audio_filepath", "audio_file", "audio_file_name", "wav",
        "wav_path", "wav_file",
    ),
    "id": ("id", "sample_id", "uid", "__key__"),
    "label": ("label", "class", "class_name", "category", "cls", "target"),
    "group": (
        "group", "group_id", "speaker", "speaker_id", "client_id", "patient_id", "subject_id",
    ),
    "split": ("split", "subset", "partition"),
    "text": (
        "text", "txt", "caption", "prompt", "description", "transcript", "transcription",
        "sentence",
    ),
    "parents": ("parents", "parent_ids", "parent_id", "parent"),
    "lang": ("lang", "language", "locale"),
}  # fmt: skip
"""What a column may be called, first come first served; upper and lower case are the same.

``file`` is an image or a recording: its content says which. Users cannot name that column so: they
say ``image`` or ``audio``.
"""

MEDIA = ("image", "audio")
_KEYS = tuple(key for key in ALIASES if key != "file")

Row = dict[str, Any]


def check_columns(columns: Mapping[str, str] | None) -> None:
    """Check the keys of ``columns=``.

    Raises
    ------
    DataError
        If one is not known; the message suggests the right one.
    """
    for key in columns or {}:
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1)
            raise DataError(
                f"columns= has the key {key!r}"
                + (f" (did you mean {near[0]!r}?)" if near else "")
                + f"; the keys are {', '.join(_KEYS)}"
            )


class Columns:
    """Finds sample fields in rows, by the user's names or else by the usual ones."""

    def __init__(self, columns: Mapping[str, str]) -> None:
        check_columns(columns)
        self.given = dict(columns)
        self._seen: set[str] = set()
        self._all: dict[str, None] = {}
        self._cache: dict[tuple[str, ...], dict[str, str]] = {}

    def of(self, names: tuple[str, ...]) -> dict[str, str]:
        """Map each field that these columns hold to its column."""
        known = self._cache.get(names)
        if known is None:
            lower = {name.lower(): name for name in reversed(names)}
            known = {}
            for key, aliases in ALIASES.items():
                if key == "file" and self.given.keys() & set(MEDIA):
                    continue  # the user has said which columns name the files
                if key in self.given:
                    if self.given[key] in names:
                        known[key] = self.given[key]
                        self._seen.add(key)
                else:
                    found = next((lower[a] for a in aliases if a in lower), None)
                    if found is not None:
                        known[key] = found
            self._all.update(dict.fromkeys(names))
            if len(self._cache) < 1000:  # rows of hostile JSON may each have keys of their own
                self._cache[names] = known
        return known

    def fields(self, row: Row) -> dict[str, str | None]:
        """Give the sample fields of a row as text; a field that it lacks is left out."""
        known = self.of(tuple(row))
        return {key: as_text(row[column]) for key, column in known.items()}

    def require_given(self, where: str) -> None:
        """Check that every column that the user named was there.

        Raises
        ------
        DataError
            If one was in no row.
        """
        for key in self.given.keys() - self._seen:
            have = list(self._all)[:30]
            raise DataError(
                f"{where} has no column {self.given[key]!r} for {key!r}; "
                + (f"it has {', '.join(map(repr, have))}" if have else "it has no columns at all")
            )


def named_files(fields: Mapping[str, str | None]) -> dict[str, str]:
    """Give the files that a row names, by ``image``, ``audio`` or, if it may be either, ``file``.

    The general column comes first: what a second one says of the same medium is left out.
    """
    return {key: wanted for key in ("file", *MEDIA) if (wanted := fields.get(key)) is not None}


def make_sample(
    fields: Mapping[str, str | None],
    media: Iterable[str],
    limits: Limits,
    problems: list[Problem],
    *,
    id: str,  # noqa: A002 - as in Sample
    source: str,
    label: str | None = None,
    split: str | None = None,
) -> Sample | None:
    """Make a sample of what a row says; None, with a problem, if it is a text that is no text.

    ``id``, ``label`` and ``split`` are taken where the row does not say.
    """
    found = tuple(name for name in MEDIA if name in media)
    name = fields.get("id") or id
    text = usable_text(fields.get("text"), name, limits, problems, lost=not found)
    if not found and text is None:
        return None
    return Sample(
        id=name,
        source=source,
        label=fields.get("label") or label,
        group=fields.get("group"),
        split=fields.get("split") or split,
        text=text,
        media=found,
        parents=_parents(fields.get("parents")),
        lang=fields.get("lang"),
    )


def _parents(text: str | None) -> tuple[str, ...]:
    """Read ids: a JSON list of them, or one."""
    if text is None:
        return ()
    if text.startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return (text,)
        return tuple(t for t in map(as_text, listed) if t is not None)
    return (text,)


def as_text(value: Any) -> str | None:
    """Give one cell as text: nothing, NaN and the empty string are None; lists become JSON."""
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return clean(json.dumps(value, ensure_ascii=False, default=str))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return clean(str(value))


class RowFile:
    """Reads the rows of a ``.jsonl``, ``.csv`` or ``.tsv`` file, however broken it is.

    Parameters
    ----------
    data : binary file
        Read once, line by line: the memory it takes does not grow with the file.
    name : str
        Its name; the ending says what it is.
    limits : Limits
        How long a line may be.
    problems : list of Problem
        Where the rows that cannot be read are reported.
    lost : bool
        Whether a sample is lost with such a row.
    """

    def __init__(
        self, data: BinaryIO, name: str, limits: Limits, problems: list[Problem], *, lost: bool
    ) -> None:
        self._data = data
        self._name = clean(name)
        self._limits = limits
        self._problems = problems
        self._lost = lost
        self._number = 0

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        """Give the line number and the cells of each row."""
        ending = self._name.rpartition(".")[2].lower()
        if ending in ("csv", "tsv"):
            return self._csv("\t" if ending == "tsv" else None)
        return self._json()

    def _lines(self) -> Iterator[bytes]:
        most = self._limits.max_line
        while line := self._data.readline(most + 1):
            self._number += 1
            if len(line) > most:
                size = len(line)
                while not line.endswith(b"\n") and (line := self._data.readline(most)):
                    size += len(line)
                self._report(f"{size:,} bytes; at most {most:,} are read", lost=self._lost)
            elif self._number == 1:
                yield line.removeprefix(b"\xef\xbb\xbf")
            else:
                yield line

    def _json(self) -> Iterator[tuple[int, Row]]:
        for line in self._lines():
            if not line.strip():
                continue
            try:
                row = parse_json(line)
            except ValueError as error:
                self._report(f"not valid JSON: {error}", lost=self._lost)
            else:
                yield self._number, row

    def _text_lines(self) -> Iterator[str]:
        for line in self._lines():
            try:
                yield line.decode("utf-8")
            except UnicodeDecodeError as error:
                self._report(f"not UTF-8 ({error.reason}): shown as escapes", lost=False)
                yield line.decode("utf-8", "backslashreplace")

    def _csv(self, delimiter: str | None) -> Iterator[tuple[int, Row]]:
        lines = self._text_lines()
        first = next(lines, "")
        # Spreadsheets of half the world write semicolons, or tabs, into what they call .csv.
        reader = csv.reader(chain([first], lines), delimiter=delimiter or _delimiter(first))
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                self._report(f"not valid CSV: {error}", lost=self._lost)
                continue
            if not cells:
                continue
            if header is None:
                header = [cell.strip() for cell in cells]
                if len(set(header)) < len(header):
                    self._report("a column name is there twice: the first counts", lost=False)
                continue
            if len(cells) > len(header):
                detail = (
                    f"{len(cells)} cells under {len(header)} column names: the rest is left out"
                )
                self._report(detail, lost=False)
            row: Row = {}
            for column, cell in zip(header, cells, strict=False):
                row.setdefault(column, cell)
            yield self._number, row

    def _report(self, detail: str, *, lost: bool) -> None:
        source = f"{self._name}#line {self._number}"
        self._problems.append(Problem(source, "bad_metadata", clean(detail), lost))


def _delimiter(header: str) -> str:
    """Give what stands between the names of a header that is not said to be a tab."""
    if "," in header:
        return ","
    return next((mark for mark in (";", "\t") if mark in header), ",")


def parse_json(data: bytes) -> Row:
    """Read one JSON object, as beside a picture in a tar.

    Raises
    ------
    ValueError
        If it is not valid, not an object or nested too deep.
    """
    try:
        row = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is due, not {type(row).__name__}")  # noqa: TRY004
    return row
