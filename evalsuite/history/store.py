"""The database of runs: one SQLite file, which any number of CI jobs may add to."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError
from ..gate.findings import Status
from ..report.render import result_id
from ..report.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..gate.findings import GateResult

VERSION = 1
APPLICATION = 0x6576616C  # "eval", so that `file` and we know our own
ENVIRONMENT = "EVALSUITE_HISTORY"
WAIT_SECONDS = 30.0

_TABLES = """
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    result TEXT NOT NULL,
    series TEXT NOT NULL,
    began TEXT NOT NULL,
    added TEXT NOT NULL,
    verdict TEXT NOT NULL,
    real TEXT NOT NULL,
    real_fingerprint TEXT NOT NULL,
    synthetic TEXT NOT NULL,
    synthetic_fingerprint TEXT NOT NULL,
    policy TEXT NOT NULL,
    policy_sha256 TEXT NOT NULL,
    evalsuite TEXT NOT NULL,
    UNIQUE (series, result)
) STRICT;
CREATE TABLE finding (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    modality TEXT NOT NULL,
    metric TEXT NOT NULL,
    encoder TEXT,
    weights TEXT,
    slice TEXT NOT NULL,
    value REAL,
    gap REAL,
    gap_low REAL,
    gap_high REAL,
    standard_error REAL,
    gap_unit TEXT NOT NULL,
    tolerance REAL,
    status TEXT NOT NULL,
    n_real INTEGER NOT NULL,
    n_synthetic INTEGER NOT NULL,
    PRIMARY KEY (run, key)
) STRICT;
CREATE TABLE reason (
    run INTEGER NOT NULL REFERENCES run (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    status TEXT NOT NULL,
    finding TEXT,
    text TEXT NOT NULL,
    PRIMARY KEY (run, position)
) STRICT;
CREATE INDEX finding_of_metric ON finding (metric, run);
"""
_NORMAL_95 = 1.959964


@dataclass(frozen=True, slots=True)
class RunRow:
    """A recorded run."""

    id: int
    result: str
    series: str
    began: str
    verdict: Status
    real: str
    real_fingerprint: str
    synthetic: str
    policy: str
    policy_sha256: str


@dataclass(frozen=True, slots=True)
class FindingRow:
    """What a run found of one metric × encoder × slice."""

    run: int
    key: str
    modality: str
    metric: str
    encoder: str | None
    weights: str | None
    slice: str
    value: float | None
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    standard_error: float | None
    gap_unit: str
    tolerance: float | None
    status: Status
    n_real: int
    n_synthetic: int


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """Why a run's verdict was what it was."""

    status: Status
    finding: str | None
    text: str


def database(path: str | Path | None) -> Path:
    """Give the database's path: the one that is named, else that of ``EVALSUITE_HISTORY``.

    Raises
    ------
    UsageError
        If neither is given.
    """
    named = path or os.environ.get(ENVIRONMENT)
    if not named:
        raise UsageError(f"say where the history is: --db FILE, or set {ENVIRONMENT}")
    return Path(named)


class History:
    """The runs in a database file.

    Parameters
    ----------
    path : path
        The file.
    create : bool
        Whether to make it where there is none.

    Raises
    ------
    DataError
        If it is missing, no database of ours, or of a newer version.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not self.path.exists() and not create:
            raise DataError(
                f"there is no history {self.path}: `evalsuite history add RESULT --db "
                f"{self.path}` makes it"
            )
        with self._open() as connection:
            # One view of the three: between them another job may make the tables.
            connection.execute("BEGIN")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            ours = connection.execute("PRAGMA application_id").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            connection.execute("COMMIT")
            if not tables and create:
                # Another job may have made the tables since: the lock is taken before looking.
                connection.execute("BEGIN IMMEDIATE")
                if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    for statement in _TABLES.split(";"):
                        if statement.strip():
                            connection.execute(statement)
                    connection.execute(f"PRAGMA user_version = {VERSION}")
                    connection.execute(f"PRAGMA application_id = {APPLICATION}")
                connection.execute("COMMIT")
            elif ours != APPLICATION:
                raise DataError(f"{self.path} is a database, but no history of evalsuite")
            elif version != VERSION:
                raise DataError(
                    f"{self.path} has version {version}, this evalsuite reads {VERSION}: use the "
                    "evalsuite that wrote it, or add the results to a new file"
                )
            else:
                self._check(connection)

    def _check(self, connection: sqlite3.Connection) -> None:
        """Refuse a file whose tables are not ours, or hold what they cannot."""
        found = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")
        ours = {" ".join(sql.split()) for sql in _TABLES.split(";") if sql.strip()}
        if {" ".join(str(sql).split()) for (sql,) in found} != ours:
            raise DataError(f"{self.path} is damaged: its tables are not a history's")
        said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]  # types of cells, too
        if said != "ok":
            raise DataError(f"{self.path} is damaged: {said}")

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(
                sqlite3.connect(self.path, timeout=WAIT_SECONDS, isolation_level=None)
            ) as connection:
                connection.execute("PRAGMA foreign_keys = ON")
                connection.execute("PRAGMA trusted_schema = OFF")
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # what is damaged is quoted, too
            raise DataError(f"cannot use the history {self.path}: {error}") from None

    def add(
        self, result: GateResult, *, series: str | None = None, now: datetime | None = None
    ) -> bool:
        """Record a run, whole or not at all.

        Parameters
        ----------
        result : GateResult
        series : str, optional
            Which runs belong together; by default the name of the real set.
        now : datetime, optional
            When it is recorded.

        Returns
        -------
        bool
            False if this very result is in the series already: nothing is done then.
        """
        name = clean(series or result.real.name, 200)
        if not name:
            raise UsageError("a series needs a name")
        stamp = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
        weights = {e.id: e.weights_sha256 for e in result.encoders}
        run = (
            result_id(result),
            name,
            _moment(result.times.get("began"), stamp),
            stamp,
            result.verdict.value,
            clean(result.real.name, 300),
            result.real.fingerprint,
            clean(result.synthetic.name, 300),
            result.synthetic.fingerprint,
            clean(str(result.policy.get("name", "")), 200),
            result.policy_sha256,
            result.evalsuite_version,
        )
        rows = {}
        for f in result.findings:
            error = f.details.get("standard_error")
            if not isinstance(error, int | float) and f.gap_ci is not None:
                error = (f.gap_ci.high - f.gap_ci.low) / (2 * _NORMAL_95)
            rows[f.key] = (
                f.key, f.modality, f.metric, f.encoder, weights.get(f.encoder or ""), f.slice,
                f.value, f.gap, f.gap_ci and f.gap_ci.low, f.gap_ci and f.gap_ci.high, error,
                f.gap_unit, f.tolerance, f.status.value, f.n_real, f.n_synthetic,
            )  # fmt: skip
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            cursor = connection.execute(
                "INSERT INTO run (result, series, began, added, verdict, real, real_fingerprint, "
                "synthetic, synthetic_fingerprint, policy, policy_sha256, evalsuite) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                run,
            )
            if cursor.rowcount == 0:
                connection.execute("ROLLBACK")
                return False
            ident = cursor.lastrowid
            connection.executemany(
                "INSERT INTO finding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [(ident, *row) for row in rows.values()],
            )
            connection.executemany(
                "INSERT INTO reason VALUES (?, ?, ?, ?, ?)",
                [
                    (ident, k, r.status.value, r.finding, clean(r.message.text, 1000))
                    for k, r in enumerate(result.reasons)
                ],
            )
            connection.execute("COMMIT")
        return True

    def series(self) -> dict[str, int]:
        """Give each series and its number of runs."""
        with self._open() as connection:
            rows = connection.execute("SELECT series, count(*) FROM run GROUP BY series ORDER BY 1")
            return dict(rows.fetchall())

    def choose(self, series: str | None) -> str:
        """Give the series that is meant: the one that is named, or the only one.

        Raises
        ------
        UsageError
            If there is no such one, or several and none is named.
        """
        known = self.series()
        if series is None and len(known) == 1:
            return next(iter(known))
        if series is not None and clean(series, 200) in known:
            return clean(series, 200)
        if not known:
            raise DataError(f"{self.path} holds no run: add one with `evalsuite history add`")
        told = ", ".join(repr(name) for name in list(known)[:10])
        raise UsageError(
            f"the history holds the series {told}: choose one with --series"
            + (f" ({series!r} is none)" if series is not None else "")
        )

    def runs(self, series: str) -> list[RunRow]:
        """Give the runs of a series, the oldest first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT id, result, series, began, verdict, real, real_fingerprint, synthetic, "
                "policy, policy_sha256 FROM run WHERE series = ? ORDER BY began, id",
                (series,),
            ).fetchall()
        return [RunRow(*_with_status(row, 4)) for row in rows]

    def findings(self, runs: Sequence[RunRow], metric: str | None = None) -> list[FindingRow]:
        """Give the findings of runs that have a gap, in the order of the runs."""
        wanted = {run.id: k for k, run in enumerate(runs)}
        if not runs:
            return []
        with self._open() as connection:
            rows = connection.execute(
                "SELECT finding.* FROM finding JOIN run ON run.id = finding.run "
                "WHERE run.series = ? AND (? IS NULL OR metric = ?)",
                (runs[0].series, metric, metric),
            ).fetchall()
        found = [FindingRow(*_with_status(row, 14)) for row in rows]
        return sorted((f for f in found if f.run in wanted), key=lambda f: (wanted[f.run], f.key))

    def reasons(self, run: RunRow) -> list[ReasonRow]:
        """Give the reasons of a run's verdict, the most important first."""
        with self._open() as connection:
            rows = connection.execute(
                "SELECT status, finding, text FROM reason WHERE run = ? ORDER BY position",
                (run.id,),
            ).fetchall()
        return [ReasonRow(*_with_status(row, 0)) for row in rows]


def _with_status(row: Sequence[Any], position: int) -> list[Any]:
    cells = list(row)
    try:
        cells[position] = Status(cells[position])
    except ValueError:
        raise DataError(f"the history is damaged: {cells[position]!r} is no verdict") from None
    return cells


def _moment(text: object, default: str) -> str:
    """Give a time of our own form; a result that names none was made when it is recorded."""
    try:
        parsed = datetime.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return default
    return parsed.strftime("%Y-%m-%dT%H:%M:%SZ")
