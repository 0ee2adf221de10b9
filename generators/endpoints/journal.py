"""What servers answered, on disk: a resumed run asks for nothing twice."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias

from ...errors import DataError

Kind: TypeAlias = Literal["ok", "refused", "truncated"]

_APPLICATION = 0x65767375  # "evsu": SQLite's mark of whose file it is
_FORMAT = 1
_SCHEMA = """
CREATE TABLE answers (
    key TEXT PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, path TEXT NOT NULL,
    prompt_sha256 TEXT, created TEXT NOT NULL, sha256 TEXT NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE dead_letters (
    key TEXT NOT NULL, model TEXT NOT NULL, path TEXT NOT NULL, created TEXT NOT NULL,
    reason TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer that was paid for."""

    kind: Kind
    body: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A request that came to nothing, and why."""

    key: str
    model: str
    path: str
    created: str
    reason: str


class Journal:
    """Answers by the hash of their request, in one SQLite file.

    An answer is on the disk before it is used (a transaction each, synchronised), so a killed run
    loses no more than the requests that were under way. It holds no keys and no requests, only
    their hashes; but answers are derived from your data: the file is made readable for its owner
    only. Threads may share a journal, and processes a file.

    Parameters
    ----------
    path : path
        The file; it is made where there is none.

    Raises
    ------
    DataError
        If the file is something else, or cannot be opened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
            # Autocommit, so that BEGIN and COMMIT are where they are written.
            self._db = sqlite3.connect(
                self.path, timeout=60, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise DataError(f"cannot open the journal {self.path}: {error}") from error
        try:
            with self._transaction():
                self._prepare()
        except DataError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        self._db.execute("PRAGMA trusted_schema = OFF")
        (application,) = self._db.execute("PRAGMA application_id").fetchone()
        (form,) = self._db.execute("PRAGMA user_version").fetchone()
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables and not application:
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")
            self._db.execute(f"PRAGMA user_version = {_FORMAT}")
        elif (application, form) != (_APPLICATION, _FORMAT):
            raise DataError(
                f"{self.path} is not an endpoint journal of format {_FORMAT}: name another file"
            )
        else:
            found = self._db.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
            if {" ".join(str(sql).split()) for (sql,) in found} != {
                " ".join(statement.split()) for statement in _SCHEMA.split(";") if statement.strip()
            }:
                raise DataError(f"{self.path} is damaged: its tables are not a journal's")

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                try:
                    yield
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except (sqlite3.Error, UnicodeDecodeError) as error:  # what is damaged is quoted, too
                raise DataError(f"the journal {self.path} cannot be used: {error}") from error

    def get(self, key: str) -> Kept | None:
        """Give the answer to a request, or None.

        Raises
        ------
        DataError
            If what is stored is not what was stored.
        """
        with self._transaction():
            found = self._db.execute(
                "SELECT kind, sha256, body FROM answers WHERE key = ?", (key,)
            ).fetchone()
        if found is None:
            return None
        kind, digest, body = found
        if not isinstance(body, bytes) or sha256(body).hexdigest() != digest:
            raise DataError(f"the journal {self.path} is damaged at {key}: restore or delete it")
        return Kept(kind, body)

    def put(
        self, key: str, kind: Kind, body: bytes, *, model: str, path: str, prompt: str | None
    ) -> None:
        """Store an answer; when it returns, the answer is on the disk."""
        row = (key, kind, model, path, prompt, _now(), sha256(body).hexdigest(), body)
        with self._transaction():
            self._db.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._db.execute("DELETE FROM dead_letters WHERE key = ?", (key,))

    def bury(self, key: str, reason: str, *, model: str, path: str) -> None:
        """Note a request that came to nothing; it will be tried again by the next run."""
        with self._transaction():
            self._db.execute("DELETE FROM dead_letters WHERE key = ?", (key,))
            self._db.execute(
                "INSERT INTO dead_letters VALUES (?, ?, ?, ?, ?)",
                (key, model, path, _now(), reason),
            )

    def dead_letters(self) -> list[DeadLetter]:
        """List what came to nothing and has not succeeded since."""
        with self._transaction():
            rows = self._db.execute("SELECT * FROM dead_letters ORDER BY rowid").fetchall()
        return [DeadLetter(*row) for row in rows]

    def __len__(self) -> int:
        with self._transaction():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
