"""A cache on disk that survives kills, concurrent runs and bad disks, and never lies.

Two kinds of entries. *Segments* hold many small records of one kind (features, thumbnails, …),
keyed by the content of a sample. *Memos* hold one small result each. Both are files that never
change once they have their name: they are written under a temporary name, synced, then renamed, and
they carry the SHA-256 of their content. What does not match is reported, deleted and made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors
import safetensors.numpy

log = logging.getLogger("evalsuite.cache")

FORMAT = "v1"
FLUSH_ROWS = 256
FLUSH_SECONDS = 5.0
MAX_BYTES = 20 * 2**30
_OPEN_SEGMENTS = 64  # checked segments kept in memory; about 1.4 MB each with 1280 features
_STALE_SECONDS = 3600.0  # a temporary file this old belongs to a run that was killed
_TEMPORARY = ".tmp-"
_DIGEST = 32


def default_cache_dir() -> Path:
    """Give the folder that ``EVALSUITE_CACHE`` names, else the platform's place for caches."""
    if path := os.environ.get("EVALSUITE_CACHE"):
        return Path(path)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "evalsuite"


class FeatureCache:
    """What was computed before, by content and by exactly how it was computed.

    Any number of runs may share a folder, at the same time too. A folder that cannot be written
    (read-only, full) costs the caching, not the run: the first failure is logged as a warning and
    kept in :attr:`warnings`.

    Parameters
    ----------
    directory : path, optional
        Where; :func:`default_cache_dir` if not given. It is made when first written to.
    max_bytes : int
        What :meth:`prune` cuts the cache down to; it is called at the end of every run.

    Attributes
    ----------
    warnings : list of str
        What went wrong, for the report: damaged entries, a folder that cannot be written.
    corrupt : int
        Damaged files met: none of their content was used.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None = None, *, max_bytes: int = MAX_BYTES
    ) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must be at least 0, got {max_bytes}")
        self.directory = Path(directory) if directory is not None else default_cache_dir()
        self.max_bytes = max_bytes
        self.warnings: list[str] = []
        self.corrupt = 0
        self._root = self.directory / FORMAT
        self._writable = True
        self._lock = threading.Lock()

    def records(self, kind: str, key: str) -> Records:
        """Open the records of one kind (``features``, ``images``…) made in the way ``key`` names.

        Parameters
        ----------
        kind : str
            A plain word; it names a folder.
        key : str
            A hex digest over all that the records depend on, beside the sample's content.
        """
        return Records(self, self._root / _plain(kind) / _plain(key))

    def memo(self, name: str, key: str, compute: Callable[[], bytes]) -> bytes:
        """Give the bytes stored under ``name`` and ``key``, or compute and store them.

        Parameters
        ----------
        name : str
            A plain word; it names a folder.
        key : str
            Anything that determines the result wholly; it is hashed.
        compute : callable
            Gives the bytes. Two runs at once may both call it; the results must be the same.
        """
        path = self._root / "memo" / _plain(name) / hashlib.sha256(key.encode()).hexdigest()
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._warn(f"cannot read the cache entry {path}: {error}; it is computed anew")
        else:
            digest, payload = data[:_DIGEST], data[_DIGEST:]
            if hashlib.sha256(payload).digest() == digest:
                _touch(path)
                return payload
            self._damaged(path)
        payload = compute()
        self._write(path, hashlib.sha256(payload).digest() + payload)
        return payload

    def prune(self, max_bytes: int | None = None) -> int:
        """Delete what was used longest ago until at most ``max_bytes`` are left.

        Also deletes the temporary files of runs that were killed.

        Parameters
        ----------
        max_bytes : int, optional
            The cache's own bound if not given; 0 empties it.

        Returns
        -------
        int
            Bytes deleted.
        """
        bound = self.max_bytes if max_bytes is None else max_bytes
        entries: list[tuple[float, int, Path]] = []
        freed = 0
        now = time.time()
        for path in self._files():
            with contextlib.suppress(OSError):
                stat = path.stat()
                if path.name.startswith(_TEMPORARY):
                    if now - stat.st_mtime > _STALE_SECONDS:
                        path.unlink()
                        freed += stat.st_size
                else:
                    entries.append((stat.st_mtime, stat.st_size, path))
        total = sum(size for _, size, _ in entries)
        for _, size, path in sorted(entries):
            if total <= bound:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
                freed += size
        return freed

    def size(self) -> int:
        """Give the bytes that the cache holds."""
        total = 0
        for path in self._files():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def _files(self) -> Iterator[Path]:
        for folder, _, names in os.walk(self._root):
            for name in names:
                yield Path(folder, name)

    def _write(self, path: Path, data: bytes) -> bool:
        """Write a file so that it is there wholly or not at all; say whether it is."""
        if not self._writable:
            return False
        temporary = None
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
            with open(handle, "wb") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError as error:
            if temporary is not None:
                with contextlib.suppress(OSError):
                    Path(temporary).unlink()
            with self._lock:
                first, self._writable = self._writable, False
            if first:
                self._warn(
                    f"cannot write the cache in {self.directory}: {error}; the run goes on without "
                    "caching (set EVALSUITE_CACHE to a folder that can be written)"
                )
            return False
        return True

    def _damaged(self, path: Path) -> None:
        """Report a file whose content is not what its checksum says, and take it away."""
        with self._lock:
            self.corrupt += 1
        self._warn(f"the cache file {path} is damaged; it is deleted and its content made anew")
        with contextlib.suppress(OSError):
            path.unlink()

    def _warn(self, text: str) -> None:
        log.warning(text)
        with self._lock:
            self.warnings.append(text)


class Records:
    """Small records of one kind, by content hash. Made by :meth:`FeatureCache.records`.

    A segment is a safetensors file whose name is the SHA-256 of its content. Which samples it holds
    is read when the records are opened, from the file's head. The records themselves are read, and
    the whole file checked, when the first one is asked for. New records are kept until
    :data:`FLUSH_ROWS` of them or :data:`FLUSH_SECONDS` are full.
    """

    def __init__(self, cache: FeatureCache, folder: Path) -> None:
        self._cache = cache
        self._folder = folder
        self._lock = threading.RLock()
        self._index: dict[bytes, tuple[str, int]] = {}
        self._open: OrderedDict[str, tuple[npt.NDArray[np.int64], memoryview]] = OrderedDict()
        self._fresh: dict[bytes, bytes] = {}
        self._flushed_at = time.monotonic()
        self._scan()

    def get(self, digest: bytes) -> bytes | None:
        """Give the record of a sample, checked, or None if there is none that is sound.

        Parameters
        ----------
        digest : bytes
            SHA-256 of the sample's content.
        """
        with self._lock:
            if (record := self._fresh.get(digest)) is not None:
                return record
            if (place := self._index.get(digest)) is not None:
                name, row = place
                if (segment := self._segment(name)) is not None:
                    offsets, data = segment
                    return bytes(data[offsets[row] : offsets[row + 1]])
            return None

    def put(self, digest: bytes, record: bytes) -> None:
        """Keep a record; it is on disk after the next flush."""
        with self._lock:
            self._fresh[digest] = record
            if (
                len(self._fresh) >= FLUSH_ROWS
                or time.monotonic() - self._flushed_at > FLUSH_SECONDS
            ):
                self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet."""
        with self._lock:
            self._flushed_at = time.monotonic()
            if not self._fresh:
                return
            sizes = [len(record) for record in self._fresh.values()]
            content = safetensors.numpy.save(
                {
                    "digests": np.frombuffer(b"".join(self._fresh), np.uint8).reshape(-1, _DIGEST),
                    "offsets": np.cumsum([0, *sizes], dtype=np.int64),
                    "data": np.frombuffer(b"".join(self._fresh.values()), np.uint8),
                }
            )
            name = hashlib.sha256(content).hexdigest()
            if self._cache._write(self._folder / name, content):
                for row, digest in enumerate(self._fresh):
                    self._index[digest] = (name, row)
            self._fresh = {}

    def _scan(self) -> None:
        """Learn which segments hold which samples."""
        try:
            names = sorted(p.name for p in self._folder.iterdir() if len(p.name) == 2 * _DIGEST)
        except FileNotFoundError:
            return
        except OSError as error:
            self._cache._warn(f"cannot read the cache in {self._folder}: {error}")
            return
        for name in names:
            path = self._folder / name
            try:
                with safetensors.safe_open(path, framework="np") as file:
                    digests = np.ascontiguousarray(file.get_tensor("digests")).tobytes()
            except FileNotFoundError:
                continue  # another run has pruned it
            except OSError as error:
                self._cache._warn(f"cannot read the cache file {path}: {error}; it is made anew")
                continue
            except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
                self._cache._damaged(path)
                continue
            for row in range(len(digests) // _DIGEST):
                self._index[digests[row * _DIGEST : (row + 1) * _DIGEST]] = (name, row)

    def _segment(self, name: str) -> tuple[npt.NDArray[np.int64], memoryview] | None:
        """Give the content of a segment, checked; forget the segment if it is not sound."""
        if (known := self._open.get(name)) is not None:
            self._open.move_to_end(name)
            return known
        path = self._folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            content = None  # another run has pruned it
        except OSError as error:
            self._cache._warn(f"cannot read the cache file {path}: {error}; it is made anew")
            content = None
        segment: tuple[npt.NDArray[np.int64], memoryview] | None = None
        if content is not None:
            right = hashlib.sha256(content).hexdigest() == name
            segment = _parts(content) if right else None
            if segment is None:
                self._cache._damaged(path)
        if segment is None:
            self._index = {d: place for d, place in self._index.items() if place[0] != name}
            return None
        _touch(path)
        self._open[name] = segment
        if len(self._open) > _OPEN_SEGMENTS:
            self._open.popitem(last=False)
        return segment


def _parts(content: bytes) -> tuple[npt.NDArray[np.int64], memoryview] | None:
    """Give where records lie, and the records; None if that is no segment."""
    try:
        tensors = safetensors.numpy.load(content)
        digests, offsets, data = (tensors[name] for name in ("digests", "offsets", "data"))
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError):
        return None
    kinds = [part.dtype.name for part in (digests, offsets, data)]
    if kinds != ["uint8", "int64", "uint8"] or offsets.shape != (digests.size // _DIGEST + 1,):
        return None
    if offsets[0] != 0 or offsets[-1] != data.size or (np.diff(offsets) < 0).any():
        return None
    return offsets, memoryview(data.tobytes())


def _touch(path: Path) -> None:
    """Note the use, so that pruning takes what was used longest ago."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _plain(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
        raise ValueError(f"a cache name may hold letters, digits, '-' and '_' only, got {name!r}")
    return name
