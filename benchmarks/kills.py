"""kill -9 at random moments, over every command that writes; each must then end as if never killed.

Half of the kills come at a random time of the run. The other half come at a random one of its
writes (a file opened for writing, a rename, a folder made, a database opened), at once or some
milliseconds later: an audit hook counts them, so that the rare moments that matter are met too.
``python -m benchmarks.kills --kills 220`` writes results/robustness/kills.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ._machine import machine, write

HOOK = """
import os, sys, time
_home, _at = os.environ["KILL_HOME"], int(os.environ["KILL_AT"])
_late, _signal = float(os.environ["KILL_LATE"]), int(os.environ.get("KILL_SIGNAL", "9"))
_log = os.open(os.environ["KILL_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_seen, _writing = 0, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_events = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "sqlite3.connect"}

def _hook(event, args):
    global _seen
    if event not in _events and not (
        event == "open" and isinstance(args[2], int) and args[2] & _writing
    ):
        return
    try:
        path = os.path.abspath(os.fsdecode(args[0]))
    except TypeError:
        return
    if not path.startswith(_home):
        return
    _seen += 1
    os.write(_log, b".")
    if _seen != _at:
        return
    if not _late:
        os.kill(os.getpid(), _signal)
    elif os.fork() == 0:
        time.sleep(_late)
        os.kill(os.getppid(), _signal)
        os._exit(0)

sys.addaudithook(_hook)
"""
"""A sitecustomize.py: counts the writes below a folder, and kills at one of them."""

QUICK = (
    "{version: 1, min_samples: 12, rules: [{metric: kid, tolerance: 0.5}], "
    "calibration: {splits: 20, permutations: 99, costly_permutations: 99}}"
)
DEMO = "import evalsuite.pipeline.demo as d; d.SAMPLES = 40; from evalsuite.cli import main; main()"
"""The demo with 40 photographs of each kind in place of 700."""
TIMES = {"times", "command", "began", "added", "created", "made", "seconds", "datePublished"}
ROUND = {"study new": 6, "study score": 6, "history add": 6, "generate": 6}
"""Kills in a row before a run is left to end; 3 of the other commands, which take longer."""


@dataclass
class Tally:
    """What was seen of one command."""

    kills: int = 0
    at_writes: int = 0
    ended_before: int = 0
    restarts: int = 0
    refused: int = 0
    wrong: int = 0
    cut: int = 0
    left: int = 0
    said: list[str] = field(default_factory=list)


def hear_interrupts() -> None:
    """Undo what a job in the background inherits from its shell: SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """One command in a home of its own: reference run, kills, restarts."""

    def __init__(self, home: Path, name: str, words: list[str], code: str | None = None) -> None:
        self.home, self.name, self.words, self.code = home, name, words, code
        self.log = home / f"{name}.log".replace(" ", "-")
        self.tally = Tally()
        self.rng = random.Random(name)
        self.ends, self.took, self.writes = 0, 0.0, 0
        self.new_folders = name == "correct"  # it refuses one that a killed run began
        self.right: dict[str, object] = {}

    def start(
        self, out: str, at: int = 0, late: float = 0.0, how_killed: int = signal.SIGKILL
    ) -> subprocess.Popen[bytes]:
        self.log.unlink(missing_ok=True)
        (self.home / out).mkdir(exist_ok=True)
        how = ["-c", self.code] if self.code else ["-m", "evalsuite.cli"]
        return subprocess.Popen(
            [sys.executable, *how, *(word.replace("OUT", out) for word in self.words)],
            cwd=self.home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            preexec_fn=hear_interrupts,  # noqa: PLW1509 - it does nothing but reset a signal
            env={
                **os.environ,
                "PYTHONPATH": f"{self.home / 'hook'}:{os.environ.get('PYTHONPATH', '')}",
                "PYTHONDONTWRITEBYTECODE": "1",
                "EVALSUITE_CACHE": str(self.home / f"cache-{out}"),
                "EVALSUITE_HISTORY": str(self.home / out / "history.sqlite"),
                "KILL_HOME": str(self.home), "KILL_LOG": str(self.log),
                "KILL_AT": str(at), "KILL_LATE": str(late), "KILL_SIGNAL": str(int(how_killed)),
            },
        )  # fmt: skip

    def whole(self, out: str) -> tuple[int, str]:
        """Run to the end."""
        process = self.start(out)
        said = process.communicate()[1].decode("utf-8", "replace")
        return process.returncode, said

    def begin(self) -> None:
        """Run once to the end: what the others are compared with."""
        slug = self.name.replace(" ", "-")
        began = time.monotonic()
        self.ends, said = self.whole(f"{slug}-whole")
        self.took = time.monotonic() - began
        if self.ends not in (0, 1, 4):
            raise RuntimeError(f"{self.name} does not run: {said}")
        self.writes = self.log.stat().st_size
        self.right = contents(self.home / f"{slug}-whole", f"{slug}-whole")

    def campaign(self, count: int) -> None:
        """Kill so often, then let it end."""
        tally, out = self.tally, f"{self.name.replace(' ', '-')}-cut"
        for k in range(count):
            if self.new_folders:
                shutil.rmtree(self.home / out, ignore_errors=True)
            if k % 2:
                late = self.rng.choice((0.0, self.rng.uniform(0, 0.03)))
                process = self.start(out, self.rng.randint(1, self.writes), late)
                process.communicate()
                killed, aimed = process.returncode == -signal.SIGKILL, 1
            else:
                killed, aimed = self._at_a_time(out, self.rng.uniform(0.1, self.took)), 0
            tally.kills += killed
            tally.at_writes += killed * aimed
            tally.ended_before += not killed
            tally.cut += cut_off(self.home / out)
        self._restart(out)

    def _at_a_time(self, out: str, after: float) -> bool:
        process = self.start(out)
        try:
            process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        return False

    def _restart(self, out: str) -> None:
        """What is there now must lead to the right end."""
        tally = self.tally
        tally.restarts += 1
        ended, said = self.whole(out)
        if ended == 2 and "name a new folder" in said:  # refused, with what to do: it is done
            tally.refused += 1
            shutil.rmtree(self.home / out)
            ended, said = self.whole(out)
        found = contents(self.home / out, out)
        if ended != self.ends or found != self.right:
            tally.wrong += 1
            differs = sorted(
                k for k in found.keys() | self.right.keys() if found.get(k) != self.right.get(k)
            )
            tally.said.append(f"{self.name}: exit code {ended}, {differs[:5]}: {said[-600:]}")
            print(tally.said[-1], flush=True)
        tally.left += sum(p.name.endswith((".tmp", ".part")) or p.name.startswith(".tmp")
                          for p in (self.home / out).rglob("*"))  # fmt: skip
        shutil.rmtree(self.home / out, ignore_errors=True)
        if self.rng.random() < 0.5:
            shutil.rmtree(self.home / f"cache-{out}", ignore_errors=True)


def contents(folder: Path, name: str) -> dict[str, object]:
    """What a command wrote, without when and where."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or ".evalsuite" in path.parts:
            continue
        key = str(path.relative_to(folder))
        if path.suffix == ".json":
            document = _timeless(json.loads(path.read_bytes()))
            found[key] = json.dumps(document, sort_keys=True).replace(name, "OUT")
        elif path.name == "study.db":
            found[key] = _trials(path)
        elif path.suffix in {".sqlite", ".db"}:
            found[key] = _rows(path)
        elif path.suffix in {".png", ".jsonl", ".csv", ".yaml"}:
            text = path.read_bytes().replace(name.encode(), b"OUT")
            found[key] = hashlib.sha256(text).hexdigest()
        elif not path.name.endswith(("-wal", "-shm", "-journal")):
            found[key] = None  # it names when it was made
    return found


def _timeless(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: _timeless(v) for k, v in node.items() if k not in TIMES}
    return [_timeless(v) for v in node] if isinstance(node, list) else node


def _rows(path: Path) -> list[str]:
    """Every row of a database, without times; whether it is sound comes first."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.row_factory = sqlite3.Row
        found = [str(database.execute("PRAGMA integrity_check").fetchone()[0])]
        listed = database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        tables = [row[0] for row in listed]
        for table in sorted(tables):
            for row in database.execute(f'SELECT * FROM "{table}"'):
                kept = {k: row[k] for k in row.keys() if not _is_time(k)}  # noqa: SIM118
                found.append(f"{table} {kept}")
    return found


def _trials(path: Path) -> list[object]:
    """What a search has tried to the end: one that was killed stays on record as failed."""
    tables = {
        "trial_params": "param_name, param_value",
        "trial_values": "objective, value",
        "trial_user_attributes": "key, value_json",
    }
    with contextlib.closing(sqlite3.connect(path)) as database:
        found: list[object] = [str(database.execute("PRAGMA integrity_check").fetchone()[0])]
        ended = database.execute("SELECT trial_id FROM trials WHERE state='COMPLETE' ORDER BY 1")
        for (trial,) in ended.fetchall():
            for table, columns in tables.items():
                rows = f"SELECT {columns} FROM {table} WHERE trial_id=? ORDER BY 1"
                found += database.execute(rows, (trial,)).fetchall()
    return found


def _is_time(column: str) -> bool:
    return column in TIMES or column.endswith(("_start", "_complete", "timestamp"))


def cut_off(folder: Path) -> int:
    """Count files under their final names that are not whole, right after the kill."""
    bad = 0
    for path in folder.rglob("*"):
        if not path.is_file() or path.name.startswith(".") or path.suffix in {".tmp", ".part"}:
            continue
        data = path.read_bytes()
        if path.suffix == ".json":
            try:
                json.loads(data)
            except ValueError:
                bad += 1
        elif path.suffix == ".html":
            bad += not data.rstrip().endswith(b"</html>")
        elif path.suffix == ".png":
            bad += not data.endswith(b"IEND\xaeB`\x82")
    return bad


def prepare(home: Path) -> dict[str, tuple[list[str], str | None]]:
    """Make small inputs, and give every command that writes."""
    from evalsuite.pipeline.demo import cells, write_folder

    photographs = cells()
    write_folder(photographs[:48], home / "real")
    write_folder(photographs[48:78], home / "other")
    write_folder(photographs[78:108], home / "third")
    (home / "hook").mkdir()
    (home / "hook" / "sitecustomize.py").write_text(HOOK)
    (home / "fog.yaml").write_text("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    (home / "blur.yaml").write_text(
        "{version: 1, seed: 7, steps: [corrupt: {kind: gaussian_blur, severity: 2}]}"
    )
    (home / "quick.yaml").write_text(QUICK)
    for line in (
        "gate real other --policy quick.yaml --out done",
        "study new real other --n 12 --out study",
    ):
        subprocess.run(
            [sys.executable, "-m", "evalsuite.cli", *line.split()],
            cwd=home, check=False, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    key = json.loads((home / "study" / "key.json").read_text())
    for name in "abcde":
        _rate(home / f"ratings-{name}.json", key, name)
    ratings = [f"ratings-{name}.json" for name in "abcde"]
    policy = ["--policy", "quick.yaml"]
    return {
        "gate": (["gate", "real", "other", *policy, "--out", "OUT"], None),
        "compare": (["compare", "real", "other", "third", *policy, "--out", "OUT"], None),
        "audit": (["audit", "other", "--real", "real", "--out", "OUT"], None),
        "generate": (["generate", "fog.yaml", "--input", "real", "--out", "OUT"], None),
        "correct": (
            ["correct", "real", "other", "--with", "match_histogram", *policy, "--out", "OUT"],
            None,
        ),
        "tune": (
            ["tune", "blur.yaml", "--input", "real", "--knob", "steps.0.corrupt.severity=1:5",
             "--trials", "3", "--n", "16", *policy, "--out", "OUT"], None,
        ),
        "study new": (["study", "new", "real", "other", "--n", "12", "--out", "OUT"], None),
        "study score": (["study", "score", "study", *ratings, "--keep-all", "--out", "OUT"], None),
        "history add": (["history", "add", "done", "--db", "OUT/history.sqlite"], None),
        "demo": (["demo", "--out", "OUT"], DEMO),
    }  # fmt: skip


def _rate(path: Path, key: dict[str, Any], rater: str) -> None:
    rng = random.Random(rater)
    votes = [
        {"trial": trial, "choice": rng.randint(1, 5), "seconds": 2.5, "position": k,
         "turned": False}
        for k, trial in enumerate(key["trials"])
    ]  # fmt: skip
    document = {
        "format": "evalsuite-ratings", "schema_version": "1.0", "study": key["study"],
        "rater": rater, "started": "2026-01-01T00:00:00Z", "saved": "2026-01-01T00:09:00Z",
        "complete": True, "votes": votes,
    }  # fmt: skip
    path.write_text(json.dumps(document))


def report(seen: dict[str, Tally], asked: int) -> str:
    """Give results/robustness/kills.md."""
    rows = [
        f"| {name} | {t.kills} | {t.at_writes} | {t.ended_before} | {t.cut} | {t.restarts} | "
        f"{t.refused} | {t.wrong} | {t.left} |"
        for name, t in seen.items()
    ]
    total = [
        sum(getattr(t, part) for t in seen.values())
        for part in (
            "kills",
            "at_writes",
            "ended_before",
            "cut",
            "restarts",
            "refused",
            "wrong",
            "left",
        )
    ]
    said = [f"- {line.splitlines()[0]}" for t in seen.values() for line in t.said]
    return "\n".join(
        [
            "# kill -9",
            "",
            f"{total[0]} kills over all commands that write, on small sets of real photographs. "
            "Half come at a random time of a run, half at a random one of its writes (a file "
            "opened for writing, a rename, a folder made, a database opened) or some "
            "milliseconds after it. After a kill the command is started again over the same "
            "folder and cache: to be killed again, and after three kills (six of a quick command) "
            "to end. What it then wrote is compared with that of a run that was never killed: "
            "numbers, tables, databases and pictures (without times), pages by their presence; so "
            "is its exit code. After each kill every JSON, HTML and PNG file under its final name "
            "must be whole.",
            "A restart is refused where a command wants a new folder and says so: it is then given "
            "one.",
            "",
            "| command | kills | of them at a write | ended before | cut files | restarts | "
            "refused | wrong after a restart | temporary files left |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
            *rows,
            f"| **all** | {' | '.join(map(str, total))} |",
            "",
            *([*said, ""] if said else []),
            f"Machine: {machine()}.",
            "",
            f"Made by `python -m benchmarks.kills --kills {asked}`.",
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=220, help="over all commands")
    parser.add_argument("--only", action="append", help="a command; repeat it")
    given = parser.parse_args(arguments or [])
    home = Path(tempfile.mkdtemp(prefix="kills-"))
    commands = [
        Command(home, name, words, code)
        for name, (words, code) in prepare(home).items()
        if not given.only or name in given.only
    ]
    for command in commands:
        command.begin()
    seen = {command.name: command.tally for command in commands}
    while sum(tally.kills for tally in seen.values()) < given.kills:
        for command in commands:
            command.campaign(ROUND.get(command.name, 3))
            print(command.name, command.tally, flush=True)
        if not given.only:
            write("robustness/kills.md", report(seen, given.kills))
    shutil.rmtree(home)


if __name__ == "__main__":
    main(sys.argv[1:])
