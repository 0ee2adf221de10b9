"""A disk that is really full: a small file system of its own, and ENOSPC from the kernel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.kills import QUICK, contents
from evalsuite.pipeline.demo import cells, write_folder

SCRIPT = """
set -u
mount -t tmpfs -o size=64m tmpfs disk || exit 77
mkdir disk/cache
head -c "$BALLAST" /dev/zero > disk/ballast || exit 78
"$@" 2> first.err > first.out; echo $? > first.code
find disk -type f ! -name ballast ! -path 'disk/cache/*' > first.tree
rm disk/ballast
"$@" 2> second.err > second.out; echo $? > second.code
cp -r disk/zz9 second
"""
"""Mounts a file system that nobody else sees; it goes when the script ends."""
SIZE = 64 * 2**20
COMMANDS = {
    "gate": ["gate", "real", "other", "--policy", "quick.yaml"],
    "generate": ["generate", "fog.yaml", "--input", "real"],
    "correct": [
        "correct", "real", "other", "--with", "match_histogram", "--policy", "quick.yaml",
    ],
}  # fmt: skip
ROOM = {"gate": 2**20, "generate": 2**19, "correct": 2**21}
"""Bytes that are left on it: each command gets to its writes, and not to their end."""


@dataclass(frozen=True)
class Ended:
    """How a command ended in a home, with a full disk and with an empty one."""

    home: Path

    def code(self, turn: str) -> int:
        return int((self.home / f"{turn}.code").read_text())

    def said(self, turn: str) -> str:
        return (self.home / f"{turn}.err").read_text()

    @property
    def left(self) -> list[str]:
        """What lay on the full disk when the command had ended."""
        return (self.home / "first.tree").read_text().splitlines()


@pytest.fixture(scope="module")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What runs a command where it may mount; skips, and says why, where nothing does."""
    place = tmp_path_factory.mktemp("may")
    said = "there is no `unshare`"
    for words in (["unshare", "-m"], ["unshare", "-rm"]) if shutil.which("unshare") else ():
        tried = subprocess.run(
            [*words, "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if tried.returncode == 0:
            return words
        said = tried.stderr.strip() or f"exit code {tried.returncode}"
    pytest.skip(f"NOBODY MAY MOUNT HERE, so that a full disk was not tested: {said}")


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sets")
    photographs = cells()
    write_folder(photographs[:48], home / "real")
    write_folder(photographs[48:78], home / "other")
    (home / "quick.yaml").write_text(QUICK)
    (home / "fog.yaml").write_text("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    return home


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_said_leaves_no_result_and_once_there_is_room_the_same_comes_out(
    name: str, mounting: list[str], sets: Path, tmp_path: Path
) -> None:
    for item in sets.iterdir():
        (tmp_path / item.name).symlink_to(item)
    (tmp_path / "disk").mkdir()
    evalsuite = [sys.executable, "-m", "evalsuite.cli", *COMMANDS[name], "--out"]
    env = {**os.environ, "EVALSUITE_CACHE": "disk/cache", "BALLAST": str(SIZE - ROOM[name])}
    ended = subprocess.run(
        [*mounting, "sh", "-c", SCRIPT, "sh", *evalsuite, "disk/zz9"],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    run = Ended(tmp_path)

    last = run.said("first").strip().splitlines()[-1]
    assert run.code("first") == 3, run.said("first")
    assert last.startswith("error: cannot write to disk/zz9"), last
    assert "No space left on device" in last
    assert "Traceback" not in run.said("first")
    if name == "generate":  # whole samples stay, and are kept by the next run; no list of them
        assert not [p for p in run.left if p.endswith("metadata.jsonl")]
        assert [p for p in run.left if p.endswith(".png")]
    else:
        assert run.left == []

    right = subprocess.run(
        [*evalsuite, "zz9"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "EVALSUITE_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert run.code("second") == right.returncode in (0, 1, 4), run.said("second")
    wanted = contents(tmp_path / "zz9", "zz9")
    assert wanted
    assert contents(tmp_path / "second", "disk/zz9") == wanted
    if name == "generate":
        assert "were there from an earlier run" in (tmp_path / "second.out").read_text()
