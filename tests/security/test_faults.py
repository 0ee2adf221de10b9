"""Whatever goes wrong around a run, its numbers stay right and its files whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from evalsuite.report import read_result

COMMAND = [sys.executable, "-m", "evalsuite.cli"]


def start(home: Path, out: Path, cache: Path, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "gate", "real", "synthetic", "--policy", "quick.yaml", "--out", str(out)],
        cwd=home, env={**os.environ, "EVALSUITE_CACHE": str(cache), **env},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A job in the background inherits from its shell that SIGINT is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, said = process.communicate(timeout=240)
    return process.returncode, said


def found(out: Path) -> dict[str, Any]:
    """The result without its times."""
    plain: dict[str, Any] = json.loads(read_result(out).model_dump_json(exclude={"times"}))
    return plain


@pytest.fixture(scope="module")
def whole(home: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A run that nothing happened to, and the cache that it filled."""
    folder = tmp_path_factory.mktemp("whole")
    code, said = finish(start(home, folder / "out", folder / "cache"))
    assert code in (0, 1, 4), said
    return found(folder / "out"), folder / "cache"


def test_two_runs_at_once_over_one_cache(home: Path, whole: Any, tmp_path: Path) -> None:
    runs = [start(home, tmp_path / f"{k}", tmp_path / "cache") for k in range(2)]
    ends = [finish(run) for run in runs]
    assert all(code in (0, 1, 4) for code, _ in ends), ends
    assert found(tmp_path / "0") == found(tmp_path / "1") == whole[0]
    assert not list((tmp_path / "cache").rglob(".tmp-*"))


def test_a_cache_with_bits_flipped_and_ends_cut_gives_the_same_numbers(
    home: Path, whole: Any, tmp_path: Path
) -> None:
    shutil.copytree(whole[1], tmp_path / "cache")
    rng = random.Random(0)
    files = [p for p in sorted((tmp_path / "cache").rglob("*")) if p.is_file()]
    assert len(files) > 5
    for k, path in enumerate(files):
        data = bytearray(path.read_bytes())
        if k % 3 == 0:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif k % 3 == 1:
            del data[rng.randrange(len(data)) :]
        else:
            data += b"more"
        path.write_bytes(data)
    code, said = finish(start(home, tmp_path / "out", tmp_path / "cache"))
    assert code in (0, 1, 4), said
    assert "damaged" in said or "computed anew" in said, said  # and it is not silent about it
    assert found(tmp_path / "out") == whole[0]


def test_a_cache_that_cannot_be_written_costs_a_warning(
    home: Path, whole: Any, tmp_path: Path
) -> None:
    place = tmp_path / "cache"
    place.write_text("mine")
    code, said = finish(start(home, tmp_path / "out", place))
    assert code in (0, 1, 4), said
    assert "cache" in said
    assert "Traceback" not in said
    assert found(tmp_path / "out") == whole[0]
    assert place.read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX'")
def test_a_full_disk_at_the_end_is_an_error_and_leaves_what_was_there(
    home: Path, whole: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("what was there")
    limit = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    code = limit + "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    code += "from evalsuite.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "gate", "real", "synthetic", "--policy", "quick.yaml",
         "--out", str(out)],
        cwd=home, env={**os.environ, "EVALSUITE_CACHE": str(whole[1])},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "cannot write" in done.stderr
    assert (out / "result.json").read_text() == "what was there"
    assert [p.name for p in out.iterdir()] == ["result.json"]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_stopped_at_any_moment_and_started_again(
    name: str, home: Path, whole: Any, tmp_path: Path
) -> None:
    out, cache = tmp_path / "out", tmp_path / "cache"
    process = start(home, out, cache)
    time.sleep(random.Random(name).uniform(0.5, 3.0))
    process.send_signal(getattr(signal, name))
    code, said = finish(process)
    assert code in (130, -getattr(signal, name)), (code, said)
    assert "Traceback" not in said
    if (out / "result.json").exists():
        read_result(out)
    code, said = finish(start(home, out, cache))
    assert code in (0, 1, 4), said
    assert found(out) == whole[0]
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_a_clock_that_goes_backwards_changes_no_number(home: Path, whole: Any) -> None:
    code = (
        "import itertools, time; ticks = itertools.count(2_000_000_000, -1000)\n"
        "time.time = lambda: float(next(ticks))\n"
        "import sys, evalsuite, json\n"
        "from evalsuite.encoders import FeatureCache\n"
        "from evalsuite.pipeline.run import run_gate\n"
        "cache = FeatureCache(sys.argv[1])\n"
        "run = run_gate('real', 'synthetic', policy='quick.yaml', cache=cache)\n"
        "print(run.result.model_dump_json(exclude={'times'}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(whole[1])],
        cwd=home, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == whole[0]
