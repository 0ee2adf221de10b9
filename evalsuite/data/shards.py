"""WebDataset shards: tars in which members of one name and different endings are one sample.

The tars are indexed once by their headers, then read at any place. ``datasets``' WebDataset reader
goes through the tars in order only, and gives up at a sample whose members differ from the first
ones'. Nothing is ever unpacked.
"""

from __future__ import annotations

import io
import os
import posixpath
import tarfile
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .dataset import BadSample, Contents, Limits, Problem
from .files import Listing, Window, clean, open_file, open_table, read_file, relative
from .readers import Place, is_companion, medium_by_ending, split_of
from .rows import MEDIA, Columns, Row, make_sample, parse_json
from .texts import decode_text

_TEXTS = frozenset({"txt", "text", "caption", "transcript"})
_FIELDS = frozenset({"cls", "id", "label"})
_HEADER = 2**20


class _Headers(io.BufferedReader):
    """A tar whose headers may not ask for more memory than headers need."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0 or size > _HEADER:
            raise tarfile.ReadError(f"a header asks for {size} bytes")
        return super().read(size)


@dataclass(slots=True)
class _Group:
    """The members of one sample: what comes after the first dot, to offset and size."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict)


class _TarStore:
    """``where`` is the tar's path, offset and size."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def read(self, where: tuple[str, int, int]) -> bytes:
        """Read one member."""
        path, offset, size = where
        return read_file(path, self._limits, offset, size)

    def open(self, where: tuple[str, int, int]) -> BinaryIO:
        """Open one member."""
        path, offset, size = where
        if not size:
            raise BadSample("truncated", "it is empty: 0 bytes")
        return io.BufferedReader(Window(open_file(path), offset, size))


def read_tars(place: Place, listing: Listing, limits: Limits, columns: dict[str, str]) -> Contents:
    """Read the listing of one tar, or of a folder of them."""
    contents = Contents(
        place.name,
        "webdataset",
        place.root,
        _TarStore(limits),
        problems=listing.problems,
        ignored=listing.ignored,
    )
    finder = Columns({key: name for key, name in columns.items() if key not in MEDIA})
    given = {key: name.lower() for key, name in columns.items() if key in MEDIA}
    texts: list[tuple[str, str, str, _Group]] = []
    for name, file in sorted(listing.files.items()):
        if not name.lower().endswith(".tar"):
            contents.ignored["companion" if is_companion(name, file) else "other"] += 1
            continue
        groups: dict[str, _Group] = {}
        try:
            with _Headers(open_table(file).detach(), 65536) as data:
                _index(data, clean(name), groups, contents)
        except OSError as error:
            detail = f"the tar cannot be read: {error.strerror}"
            contents.problems.append(Problem(clean(name), "unreadable", detail))
        except BadSample as bad:
            contents.problems.append(bad.problem(clean(name)))
        for key, group in groups.items():
            media = _media(f"{clean(name)}#{key}", group, given, contents.problems)
            if media:
                _add(name, file, key, group, media, finder, limits, contents)
            else:
                texts.append((name, file, key, group))
    # What has no medium is a sample only where nothing has one: a set of texts.
    of_texts = not contents.found and any(_TEXTS & g.members.keys() for *_, g in texts)
    for name, file, key, group in texts:
        if of_texts:
            _add(name, file, key, group, {}, finder, limits, contents)
            continue
        has = ", ".join("." + ending for ending in sorted(group.members))
        detail = f"no image and no recording among its members: {has}"
        contents.problems.append(Problem(f"{clean(name)}#{key}", "missing", detail))
    if contents.found:
        finder.require_given(contents.name)
    return contents


def _index(data: BinaryIO, shard: str, groups: dict[str, _Group], contents: Contents) -> None:
    """Note where each member is."""
    problems = contents.problems
    end = data.seek(0, os.SEEK_END)
    data.seek(0)
    if end == 0:
        problems.append(Problem(shard, "truncated", "it is empty: 0 bytes"))
        return
    at = 0
    try:
        with tarfile.open(fileobj=data, mode="r:") as tar:
            while (member := tar.next()) is not None:
                tar.members = []  # type: ignore[attr-defined]  # it would keep every header
                at = tar.offset
                _note(member, shard, end, groups, contents)
            at = tar.offset
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        detail = f"the tar is damaged after byte {at:,}, the rest is not read: {error}"
        problems.append(Problem(shard, "unreadable", clean(detail)))
        return
    # tarfile takes a damaged header for the end of the tar. A true end is all zeros.
    data.seek(min(at, end))
    while block := data.read(65536):
        if block.strip(b"\0"):
            detail = f"the tar is damaged, or another one follows, after byte {at:,}: not read"
            problems.append(Problem(shard, "unreadable", detail))
            return


def _note(
    member: tarfile.TarInfo,
    shard: str,
    end: int,
    groups: dict[str, _Group],
    contents: Contents,
) -> None:
    source = f"{shard}#{clean(member.name)}"
    if member.isdir():
        return
    try:
        name = relative(clean(member.name), "")
        _check_member(member, end)
    except BadSample as bad:
        contents.problems.append(bad.problem(source))
        return
    folder, base = posixpath.split(name)
    key, dot, ending = base.partition(".")
    if base.startswith("."):
        contents.ignored["hidden"] += 1
    elif not dot or not ending:
        contents.ignored["other"] += 1
    else:
        members = groups.setdefault(posixpath.join(folder, key), _Group()).members
        if ending.lower() in members:
            detail = "a member of this name was there before: the first counts"
            contents.problems.append(Problem(source, "duplicate_id", detail))
        else:
            members[ending.lower()] = (member.offset_data, member.size)


def _check_member(member: tarfile.TarInfo, end: int) -> None:
    """Check that a member is plain bytes that are there; raise BadSample if not."""
    if not member.isreg() or member.issparse():
        raise BadSample("special_file", "a link, device or sparse file in a tar: not followed")
    if member.offset_data + member.size > end:
        raise BadSample("truncated", "the tar ends before it does")


def _media(
    name: str, group: _Group, given: dict[str, str], problems: list[Problem]
) -> dict[str, str]:
    """Give the endings of the image and the recording of one sample."""
    result = {}
    for medium in MEDIA:
        endings = [e for e in group.members if medium_by_ending("x." + e) == medium]
        if medium in given:
            endings = [given[medium]] if given[medium] in group.members else []
        if not endings:
            continue
        result[medium] = min(endings)
        if len(endings) > 1:
            what = "images" if medium == "image" else "recordings"
            detail = (
                f"several {what} ({', '.join(sorted(endings))}): .{result[medium]} is taken; "
                f"choose with columns={{'{medium}': …}}"
            )
            problems.append(Problem(name, "bad_metadata", detail, lost=False))
    return result


def _add(
    shard: str,
    file: str,
    key: str,
    group: _Group,
    media: dict[str, str],
    finder: Columns,
    limits: Limits,
    contents: Contents,
) -> None:
    """Make a sample of the members of one name."""
    name = f"{clean(shard)}#{key}"
    row = _row(file, name, group, limits, contents.problems)
    sample = make_sample(
        finder.fields(row),
        media,
        limits,
        contents.problems,
        id=name,
        source=f"{name}.{next(iter(media.values()))}" if media else name,
        split=split_of(shard),
    )
    if sample is not None:
        where = tuple((file, *group.members[media[medium]]) for medium in sample.media)
        contents.found.append((sample, where))


def _row(file: str, name: str, group: _Group, limits: Limits, problems: list[Problem]) -> Row:
    """Read what the members beside the picture say; JSON is believed before the rest."""
    texts: Row = {}
    row: Row = {}
    for ending, (offset, size) in group.members.items():
        if ending not in _TEXTS | _FIELDS and ending != "json":
            continue
        most = limits.max_text if ending in _TEXTS else limits.max_line
        try:
            data: Any = read_file(file, Limits(max_bytes=most), offset, size) if size else b""
            if ending == "json":
                row = parse_json(data)
            elif ending in _TEXTS:
                texts[ending] = decode_text(data, limits)
            else:
                texts[ending] = data.decode("utf-8", "backslashreplace").strip()
        except (BadSample, ValueError) as error:
            bad = error if isinstance(error, BadSample) and ending in _TEXTS else None
            problems.append(
                Problem(
                    f"{name}.{ending}",
                    bad.kind if bad else "bad_metadata",
                    clean(bad.detail if bad else str(error)),
                    lost=False,
                )
            )
    return texts | {column: value for column, value in row.items() if value is not None}
