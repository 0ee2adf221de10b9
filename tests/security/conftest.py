"""Sets of real photographs, and commands run under a guard that notes what they touch."""

from __future__ import annotations

import ast
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from evalsuite.pipeline.demo import cells, write_folder

GUARD = Path(__file__).parent / "guard"
QUICK = """
version: 1
name: quick
min_samples: 12
rules:
  - {metric: kid, tolerance: 0.5}
  - {metric: coverage, tolerance: 0.5}
integrity: {max_unreadable: 1.0, max_duplicates: 1.0, max_exact_copies: 1.0}
calibration: {splits: 20, permutations: 99, costly_permutations: 99}
"""
"""A policy that takes little time and lets bad samples pass, so that all of the run is seen."""


@dataclass(frozen=True)
class Guarded:
    """What a command said, and what it did."""

    code: int
    stdout: str
    stderr: str
    events: dict[str, list[object]]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``real``, ``synthetic`` and ``quick.yaml``."""
    folder = tmp_path_factory.mktemp("security")
    photographs = cells()
    write_folder(photographs[:30], folder / "real")
    write_folder(photographs[30:60], folder / "synthetic")
    (folder / "quick.yaml").write_text(QUICK)
    return folder


def manifest(folder: Path, rows: list[dict[str, object]]) -> None:
    """Write ``metadata.jsonl``."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all runs that are not about the cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Guarded]:
    """Run Python under the guard: ``guarded("-m", "evalsuite.cli", …, cwd=…, NAME=value)``."""

    def run(*words: object, cwd: Path, sockets: bool = False, **env: str) -> Guarded:
        log = tmp_path_factory.mktemp("guard") / "log"
        kill = not sockets and sys.platform == "linux" and platform.machine() in {
            "x86_64", "aarch64",
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=cwd,
            env={
                **os.environ,
                "PYTHONPATH": str(GUARD),
                "PYTHONDONTWRITEBYTECODE": "1",
                "GUARD_LOG": str(log),
                "GUARD_SOCKETS": "kill" if kill else "",
                **env,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        events: dict[str, list[object]] = {}
        for line in log.read_text("utf-8").splitlines():
            kind, what = line.split("\t", 1)
            events.setdefault(kind, []).append(ast.literal_eval(what))
        return Guarded(done.returncode, done.stdout, done.stderr, events)

    return run
