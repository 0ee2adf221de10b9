"""Files that are not trusted: list a folder, and read a file, without ever leaving the folder.

``datasets``' imagefolder is not used for this. Version 5.2 takes only files whose extension it
knows and leaves the rest out with a debug message, follows links wherever they point, and writes an
Arrow copy of the listing to a cache; what evalsuite owes its users is to name every file.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from . import remote
from .dataset import BadSample, Kind, Limits, Problem

_SYSTEM = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HEAD = 64
# O_NONBLOCK: opening a FIFO that nobody writes to would wait for ever. O_NOFOLLOW: the path was
# resolved when the folder was listed; a link that is there now was put there since.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


def clean(text: str) -> str:
    """Give a name as valid Unicode: bytes that are not UTF-8 are shown as escapes.

    Everything else, control characters included, stays: it is data.
    """
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


@dataclass(slots=True)
class Listing:
    """What is in a folder: path relative to it (with ``/``) to the real, absolute path.

    The path of an object in a store is its :class:`.remote.RemotePath`.
    """

    files: dict[str, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def list_folder(root: str | os.PathLike[str]) -> Listing:
    """List every file under a folder, however deep, without following a link out of it."""
    top = os.path.realpath(root)
    listing = Listing()
    pending = [(top, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    _list_entry(entry, prefix, top, listing, pending)
        except OSError as error:
            detail = f"the folder cannot be listed: {error.strerror}"
            listing.problems.append(Problem(clean(prefix) or ".", "unreadable", detail))
    return listing


def list_objects(top: remote.RemotePath) -> Listing:
    """List every object under an address, by the same rules as a folder.

    Raises
    ------
    DataError
        As :func:`.remote.listed`.
    """
    listing = Listing()
    for path in remote.listed(top):
        name = path[len(top) + 1 :]
        parts = name.split("/")
        if name.endswith("/"):
            continue  # how stores mark an empty folder
        if any(part in ("", ".", "..") for part in parts):
            detail = "its name has empty parts or dots between slashes: not read"
            listing.problems.append(Problem(clean(name), "outside_folder", detail))
        elif any(part.startswith(".") for part in parts):
            listing.ignored["hidden"] += 1
        elif any(part.lower() in _SYSTEM for part in parts):
            listing.ignored["system"] += 1
        else:
            listing.files[name] = path
    return listing


def _list_entry(
    entry: os.DirEntry[str],
    prefix: str,
    top: str,
    listing: Listing,
    pending: list[tuple[str, str]],
) -> None:
    name = prefix + entry.name
    if entry.name.startswith("."):
        listing.ignored["hidden"] += 1
    elif entry.name.lower() in _SYSTEM:
        listing.ignored["system"] += 1
    elif entry.is_symlink():
        _list_link(name, entry.path, top, listing)
    elif entry.is_dir(follow_symlinks=False):
        pending.append((entry.path, name + "/"))
    elif entry.is_file(follow_symlinks=False):
        listing.files[name] = entry.path
    else:
        mode = entry.stat(follow_symlinks=False).st_mode
        listing.problems.append(Problem(clean(name), "special_file", describe(mode)))


def _list_link(name: str, path: str, top: str, listing: Listing) -> None:
    try:
        target = inside(path, top)
        mode = os.lstat(target).st_mode
    except BadSample as bad:
        listing.problems.append(bad.problem(clean(name)))
    except OSError as error:
        listing.problems.append(bad_file(error).problem(clean(name)))
    else:
        if stat.S_ISDIR(mode):
            # What it leads to is listed where it is; listing it twice could also never end.
            listing.ignored["directory_link"] += 1
        elif stat.S_ISREG(mode):
            listing.files[name] = target
        else:
            kind: Kind = "unreadable" if stat.S_ISLNK(mode) else "special_file"
            listing.problems.append(Problem(clean(name), kind, describe(mode)))


def inside(path: str, top: str) -> str:
    """Resolve all links of a path, which must end inside ``top`` (itself already resolved).

    Raises
    ------
    BadSample
        If it does not.
    """
    try:
        target = os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise BadSample("unreadable", f"the path cannot be resolved: {error}") from None
    if not (target == top or target.startswith(top.rstrip(os.sep) + os.sep)):
        raise BadSample("outside_folder", "it leads out of the data set's folder: not followed")
    return target


def relative(wanted: str | None, folder: str) -> str:
    """Give the path that a row names, relative to the data set, once it stays within it.

    Raises
    ------
    BadSample
        If it names nothing, leaves the folder or is a URL.
    """
    if wanted is None:
        raise BadSample("bad_metadata", "the row names no file")
    if _URL.match(wanted):
        raise BadSample("outside_folder", f"{wanted!r} is a URL: nothing is fetched")
    # Windows' separator and drives count too: data travels, and `..\..\x` must not get through.
    plain = wanted.replace("\\", "/")
    name = posixpath.normpath(posixpath.join(folder, plain))
    if name.startswith(("/", "../")) or name == ".." or re.match(r"[A-Za-z]:", plain):
        raise BadSample("outside_folder", f"{wanted!r} leads out of the data set's folder")
    return name


def regular(path: str, top: str) -> str:
    """Resolve a path within ``top`` to a regular file.

    Raises
    ------
    BadSample
        If it is outside, missing or not a regular file.
    """
    target = inside(path, top)
    try:
        mode = os.lstat(target).st_mode
    except OSError as error:
        raise bad_file(error) from None
    except ValueError as error:
        raise BadSample("missing", f"no such path can exist: {error}") from None
    if stat.S_ISLNK(mode):
        raise BadSample("unreadable", describe(mode))
    if not stat.S_ISREG(mode):
        raise BadSample("special_file", describe(mode))
    return target


def member(root: Path | remote.RemotePath, name: str) -> str:
    """Give where a file of a data set lies, by its name beneath the set's (resolved) folder.

    Raises
    ------
    BadSample
        If it leads out of the folder, is missing or is no regular file.
    """
    inner = relative(name, "")
    if isinstance(root, remote.RemotePath):
        found = root.child(inner)
        found.length()  # it raises where there is no such object
        return found
    return regular(os.path.join(root, inner), str(root))  # noqa: PTH118 - 2 µs, not 10


def describe(mode: int) -> str:
    """Say what kind of thing this is that is no regular file."""
    for test, words in (
        (stat.S_ISFIFO, "a FIFO, not a file"),
        (stat.S_ISSOCK, "a socket, not a file"),
        (stat.S_ISCHR, "a character device, not a file"),
        (stat.S_ISBLK, "a block device, not a file"),
        (stat.S_ISDIR, "a folder, not a file"),
        (stat.S_ISLNK, "a link that leads nowhere"),
    ):
        if test(mode):
            return words
    return "not a regular file"


def bad_file(error: OSError) -> BadSample:
    """Turn the system's refusal into the sample's problem."""
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return BadSample("missing", "there is no such file")
    return BadSample("unreadable", f"the file cannot be read: {error.strerror or error}")


def head(path: str) -> bytes:
    """Give a regular file's first 64 bytes; none if it cannot be read: reading it will tell why."""
    if isinstance(path, remote.RemotePath):
        return next(remote.heads([path], _HEAD))
    try:
        handle = os.open(path, _FLAGS)
    except OSError:
        return b""
    try:
        return os.read(handle, _HEAD)
    except OSError:
        return b""
    finally:
        os.close(handle)


def heads(files: Mapping[str, str]) -> Iterator[tuple[str, str, bytes]]:
    """Give name, path and first bytes of each file; objects in a store are asked many at a time."""
    objects = [path for path in files.values() if isinstance(path, remote.RemotePath)]
    if not objects:
        for name, path in files.items():
            yield name, path, head(path)
        return
    starts = dict(zip(objects, remote.heads(objects, _HEAD), strict=True))
    for name, path in files.items():
        yield name, path, starts[path] if isinstance(path, remote.RemotePath) else head(path)


def _opened(path: str) -> tuple[int, int]:
    """Open a regular file; give its handle and size, or raise BadSample."""
    try:
        handle = os.open(path, _FLAGS)
    except OSError as error:
        raise bad_file(error) from None
    except ValueError as error:
        raise BadSample("unreadable", f"no such path can exist: {error}") from None
    status = os.fstat(handle)
    if stat.S_ISREG(status.st_mode):
        return handle, status.st_size
    os.close(handle)
    kind: Kind = "unreadable" if stat.S_ISDIR(status.st_mode) else "special_file"
    raise BadSample(kind, describe(status.st_mode))


def open_file(path: str) -> BinaryIO:
    """Open a regular file.

    Raises
    ------
    BadSample
        If it is no regular file, empty or cannot be opened.
    """
    if isinstance(path, remote.RemotePath):
        if path.length() == 0:
            raise BadSample("truncated", "it is empty: 0 bytes")
        return path.open()
    handle, size = _opened(path)
    if size == 0:
        os.close(handle)
        raise BadSample("truncated", "it is empty: 0 bytes")
    return open(handle, "rb")  # noqa: PTH123 - whoever asked for it closes it


def open_table(path: str) -> io.BufferedReader:
    """Open a file of many samples, be it empty.

    Raises
    ------
    OSError
        If it cannot be opened.
    BadSample
        The same, of an object in a store.
    """
    return path.open() if isinstance(path, remote.RemotePath) else Path(path).open("rb")


def file_size(path: str) -> int:
    """Give the bytes of a file; errors are those of :func:`open_table`."""
    return path.length() if isinstance(path, remote.RemotePath) else Path(path).stat().st_size


def read_file(path: str, limits: Limits, offset: int = 0, size: int | None = None) -> bytes:
    """Read a regular file, or ``size`` bytes of it from ``offset``.

    Raises
    ------
    BadSample
        If it is no regular file, empty, larger than ``limits.max_bytes``, shorter than
        ``offset + size`` or cannot be read.
    """
    if isinstance(path, remote.RemotePath):
        length = _checked(path.length() if size is None else size, limits)
        data = path.read(offset, length)
        if len(data) < length:
            raise BadSample("truncated", f"{len(data):,} of {length:,} bytes are there")
        return data
    handle, there = _opened(path)
    try:
        length = _checked(there if size is None else size, limits)
        if offset:
            os.lseek(handle, offset, os.SEEK_SET)
        data = os.read(handle, length)
        while 0 < len(data) < length:
            part = os.read(handle, length - len(data))
            if not part:
                break
            data += part
    except OSError as error:
        raise bad_file(error) from None
    finally:
        os.close(handle)
    if len(data) < length:
        raise BadSample("truncated", f"{len(data):,} of {length:,} bytes are there")
    return data


def _checked(length: int, limits: Limits) -> int:
    """Give the length of what is to be read; raise BadSample if there is nothing, or too much."""
    if length == 0:
        raise BadSample("truncated", "it is empty: 0 bytes")
    if length > limits.max_bytes:
        raise BadSample("oversized", f"{length:,} bytes; at most {limits.max_bytes:,} are read")
    return length


class Window(remote.Extent):
    """A part of a file, as a file of its own."""

    def __init__(self, file: BinaryIO, offset: int, size: int) -> None:
        super().__init__(size)
        self._file, self._offset = file, offset

    def part(self, start: int, length: int) -> bytes:
        """Read from the file."""
        self._file.seek(self._offset + start)
        return self._file.read(length)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


class FileStore:
    """Samples that are files of their own: ``where`` is the resolved path."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    def read(self, where: str) -> bytes:
        """Read the file."""
        return read_file(where, self.limits)

    def open(self, where: str) -> BinaryIO:
        """Open the file."""
        return open_file(where)
