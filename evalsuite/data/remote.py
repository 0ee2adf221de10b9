"""Objects in a store, read by fsspec: which servers are asked, with which keys, and how much.

Nothing is reached but the one server that an address stands for, and that only where it is on
premise or the user has allowed it by name. Keys come from the environment and are never kept: what
is sent to a worker is the address, and the worker looks at its own environment.
"""

from __future__ import annotations

import io
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

from evalsuite.errors import DataError, EvalsuiteError, ModelError, UsageError

from .dataset import BadSample

MAX_OBJECTS = 10_000_000
"""At most so many objects are listed under one address."""
SCHEMES = ("s3", "gs", "memory", "file")
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_BLOCK = 2**20
_HEADS_AT_ONCE = 256
_CONNECT_SECONDS, _READ_SECONDS, _ATTEMPTS = 10, 60, 4
T = TypeVar("T")


class StoreError(DataError):
    """A store that does not answer: no sample is to blame, and the run ends."""


@dataclass(frozen=True, slots=True)
class Storage:
    """One object store, and the public hosts that the user allows."""

    scheme: str
    allow_hosts: tuple[str, ...] = ()

    @property
    def files(self) -> Any:
        """The fsspec file system, made once in each process."""
        return _file_system(self.scheme, self.allow_hosts, os.getpid())


class RemotePath(str):
    """The address of an object, which knows how to read it.

    Attributes
    ----------
    storage : Storage
    size : int or None
        Bytes, where a listing has told.
    """

    __slots__ = ("size", "storage")
    size: int | None
    storage: Storage

    def __new__(cls, address: str, storage: Storage, size: int | None = None) -> RemotePath:
        """Make one; nothing is asked."""
        made = super().__new__(cls, address)
        made.storage, made.size = storage, size
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return RemotePath, (str(self), self.storage, self.size)

    @property
    def key(self) -> str:
        """Bucket and name, as fsspec takes them."""
        return self.partition("://")[2]

    @property
    def name(self) -> str:
        """What to call it: the last part."""
        return self.key.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """What it is in."""
        return RemotePath(self.rpartition("/")[0], self.storage)

    def child(self, name: str) -> RemotePath:
        """Give what lies in it under a name."""
        return RemotePath(f"{self}/{name}", self.storage)

    def length(self) -> int:
        """Give the bytes that it holds.

        Raises
        ------
        BadSample
            If there is no such object, or it must not be read.
        DataError
            If the store does not answer.
        """
        if self.size is None:
            self.size = int(_asked(self, lambda: self.storage.files.info(self.key)["size"]))
        return self.size

    def read(self, offset: int, length: int) -> bytes:
        """Read a part: of an object that ends earlier, what there is."""
        if length <= 0:
            return b""
        data: bytes = _asked(
            self, lambda: self.storage.files.cat_file(self.key, start=offset, end=offset + length)
        )
        return data

    def open(self) -> io.BufferedReader:
        """Open it; it is read a mebibyte at a time."""
        return io.BufferedReader(_Object(self), _BLOCK)


class Extent(io.RawIOBase):
    """Bytes of a known number, as a file: what a subclass reads of them."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    @abstractmethod
    def part(self, start: int, length: int) -> bytes:
        """Read bytes of it; fewer where it turns out to be shorter."""
        ...

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move, also behind the end."""
        start = (0, self._at, self._size)[whence]
        if start + offset < 0:
            raise ValueError(f"a seek to {start + offset}, before the start")
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any, /) -> int:
        """Read up to the end."""
        data = self.part(self._at, max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


class _Object(Extent):
    """An object as a file."""

    def __init__(self, path: RemotePath) -> None:
        super().__init__(path.length())
        self._path = path

    def part(self, start: int, length: int) -> bytes:
        """Ask the store."""
        return self._path.read(start, length)


def is_address(source: object) -> TypeGuard[str]:
    """Whether a source is an address such as ``s3://bucket/folder``, not a path."""
    return isinstance(source, str) and _ADDRESS.match(source) is not None


def parse(address: str, allow_hosts: Sequence[str] = ()) -> RemotePath:
    """Check an address; nothing is asked yet.

    Raises
    ------
    UsageError
        If it is no address of a store, or holds a password or a signature: those would end up in
        reports. The message does not repeat them.
    """
    found = _ADDRESS.match(address)
    scheme, rest = (found[1].lower(), found[2]) if found else ("", "")
    if scheme not in SCHEMES:
        raise UsageError(
            f"addresses that begin with {scheme}:// are not read: give a path, or one of "
            + ", ".join(f"{name}://" for name in SCHEMES)
        )
    if "?" in rest or "#" in rest:
        raise UsageError(
            f"the {scheme}:// address holds a query or a signature ('?', '#'): leave it out, and "
            "give the keys in the environment"
        )
    if "@" in rest.partition("/")[0]:
        raise UsageError(
            f"the {scheme}:// address holds a user or password ('@'): leave it out, and give the "
            "keys in the environment"
        )
    rest = rest.rstrip("/")
    parts = rest.split("/")
    if scheme == "file":
        return RemotePath(f"file://{rest}", Storage(scheme))
    if not parts[0] or any(part in ("", ".", "..") for part in parts):
        raise UsageError(f"{address!r} is not an address such as {scheme}://bucket/folder")
    return RemotePath(f"{scheme}://{rest}", Storage(scheme, tuple(sorted(set(allow_hosts)))))


def exists(path: RemotePath) -> bool:
    """Whether there is an object of exactly this name."""
    try:
        path.length()
    except BadSample as bad:
        if bad.kind == "missing":
            return False
        raise DataError(f"{path}: {bad.detail}") from None
    return True


def listed(top: RemotePath) -> Iterator[RemotePath]:
    """Give every object under an address, with its size.

    Raises
    ------
    DataError
        If there is no such bucket, it must not be listed, the store does not answer, or there are
        more than :data:`MAX_OBJECTS`.
    """
    try:
        for count, (key, size) in enumerate(_entries(top)):
            if count >= MAX_OBJECTS:
                raise DataError(
                    f"{top} holds more than {MAX_OBJECTS:,} objects: give a folder of it, or pack "
                    "the samples into Parquet files or tars"
                )
            yield RemotePath(f"{top.storage.scheme}://{key}", top.storage, size)
    except BadSample as bad:
        raise DataError(f"{top}: {bad.detail}") from None


def _entries(top: RemotePath) -> Iterator[tuple[str, int]]:
    """Give key and size, page by page where the store has pages."""
    files = top.storage.files
    if top.storage.scheme != "s3":
        for key, info in _asked(top, lambda: files.find(top.key, detail=True)).items():
            yield key.lstrip("/"), int(info["size"])
        return
    bucket, _, prefix = top.key.partition("/")
    where = {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
    more: dict[str, str] = {}
    while True:
        page = _asked(
            top,
            lambda more=more: files.call_s3("list_objects_v2", **where, **more),  # type: ignore[misc]
        )
        for entry in page.get("Contents", ()):
            yield f"{bucket}/{entry['Key']}", int(entry["Size"])
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def heads(paths: Sequence[RemotePath], size: int) -> Iterator[bytes]:
    """Give the first bytes of many objects, many at a time; none of one that cannot be read."""
    for start in range(0, len(paths), _HEADS_AT_ONCE):
        some = paths[start : start + _HEADS_AT_ONCE]
        # An empty object has no first bytes: stores answer that question with an error.
        full = [path for path in some if path.size != 0]
        got = {}
        if full:
            answers = _asked(
                some[0],
                lambda full=full: full[0].storage.files.cat_ranges(  # type: ignore[misc]
                    [p.key for p in full], [0] * len(full), [size] * len(full), on_error="return"
                ),
            )
            got = dict(zip(full, answers, strict=True))
        for path in some:
            answer = got.get(path, b"")
            if isinstance(answer, BaseException):
                answer = _head_again(path, size)
            yield bytes(answer)


def _head_again(path: RemotePath, size: int) -> bytes:
    """Ask once more by itself, so that a store that fails ends the run, and a lost object not."""
    try:
        return path.read(0, size)
    except BadSample:
        return b""


def _asked(path: RemotePath, ask: Callable[[], T]) -> T:
    """Ask the store; turn what it says into our own errors."""
    try:
        return ask()
    except (EvalsuiteError, BadSample):
        raise
    except FileNotFoundError:
        raise BadSample("missing", "the store has no such object") from None
    except PermissionError:
        raise BadSample(
            "unreadable",
            "the store refuses it: check the keys in the environment and their permissions",
        ) from None
    except Exception as error:  # each store's library has its own
        # It is not the sample that is bad: were the run to go on, all that is left would count so.
        raise StoreError(
            f"{path}: the store does not answer as it should ({type(error).__name__}: "
            f"{_public(str(error))}); run again when it does, finished work is in the cache"
        ) from None


def _public(text: str) -> str:
    """Give the first line of a message without what a signed address holds."""
    return re.sub(r"\?[^\s\"']*", "?…", text.partition("\n")[0])[:300]


@lru_cache(maxsize=8)
def _file_system(scheme: str, allow_hosts: tuple[str, ...], _process: int) -> Any:
    """Make a file system once its server has been checked; of a forked process, its own."""
    import fsspec

    if scheme == "s3":
        return _s3(allow_hosts)
    if scheme == "gs":
        endpoint = os.environ.get("STORAGE_EMULATOR_HOST") or "https://storage.googleapis.com"
        _check_server(endpoint, allow_hosts)
        try:
            return fsspec.filesystem(
                "gcs",
                token=os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or "anon",
                endpoint_url=endpoint,
                use_listings_cache=False,
            )
        except ImportError:
            raise ModelError("addresses that begin with gs:// need: pip install gcsfs") from None
    return fsspec.filesystem(scheme)


def _s3(allow_hosts: tuple[str, ...]) -> Any:
    env = os.environ.get
    region = env("AWS_REGION") or env("AWS_DEFAULT_REGION") or "us-east-1"
    endpoint = (
        env("AWS_ENDPOINT_URL_S3")
        or env("AWS_ENDPOINT_URL")
        or f"https://s3.{region}.amazonaws.com"
    )
    _check_server(endpoint, allow_hosts)
    try:
        import s3fs
        from aiobotocore.session import AioSession
    except ImportError:
        raise ModelError(
            "addresses that begin with s3:// need s3fs: pip install 'evalsuite[s3]'"
        ) from None
    session = AioSession()
    # Keys come from the environment alone: no file of the user's, and no question to the cloud's
    # own address for secrets, which is what the library does where it finds no keys.
    for name in ("config_file", "credentials_file"):
        session.set_config_variable(name, os.devnull)
    key, secret = env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY")
    return s3fs.S3FileSystem(
        anon=not (key and secret),
        key=key,
        secret=secret,
        token=env("AWS_SESSION_TOKEN"),
        endpoint_url=endpoint,
        session=session,
        client_kwargs={"region_name": region},
        config_kwargs={
            # The bucket in the path: then there is one host, the one that was checked.
            "s3": {"addressing_style": "path"},
            "proxies": {},
            "retries": {"max_attempts": _ATTEMPTS},
            "connect_timeout": _CONNECT_SECONDS,
            "read_timeout": _READ_SECONDS,
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )


def _check_server(endpoint: str, allow_hosts: tuple[str, ...]) -> None:
    """Check that a server is on premise or allowed by name, as those of generators are."""
    from ..hosts import Cut, HostError, Server

    server = Server.parse(endpoint, allow_hosts)
    try:
        server.addresses()
    except HostError:
        raise UsageError(
            f"the object store {server.origin} is not on premise, or public and not encrypted: "
            f"allow it by name (--allow-host {server.host}, with https), or point AWS_ENDPOINT_URL "
            "at a store of your own"
        ) from None
    except Cut as error:
        raise StoreError(f"the object store {server.origin}: {error}") from None
