"""Results as runs of MLflow and of Weights & Biases, read back with their own readers."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.errors import DataError, ModelError, UsageError
from evalsuite.history import trackers
from evalsuite.history.trackers import log_to_mlflow, log_to_wandb
from evalsuite.report import read_result, write_outputs

if TYPE_CHECKING:
    from collections.abc import Callable

GUARD = Path(__file__).parents[1] / "security" / "guard"
KEY = "image/efficientnet_lite0/kid/all"


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, make: Callable[..., Any]) -> Path:
    out = tmp_path_factory.mktemp("gate")
    write_outputs(make(1, {"kid": 0.1, "coverage": 0.0625}), out)
    return out / "result.json"


def history(*words: object, home: Path, sockets: str = "") -> tuple[Any, list[str]]:
    """Run a command with an empty home under the guard; give what it did with the network."""
    (home / "user").mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "history", *map(str, words)],
        cwd=home,
        env={"PATH": "/usr/bin:/bin", "HOME": str(home / "user"), "PYTHONPATH": str(GUARD),
             "PYTHONDONTWRITEBYTECODE": "1", "GUARD_LOG": str(home / "log"),
             "GUARD_SOCKETS": sockets},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    lines = (home / "log").read_text("utf-8").splitlines()
    assert not [p for p in (home / "user").rglob("*") if p.is_file()]
    return done, [line.split("\t", 1)[1] for line in lines if line.startswith("network")]


def records(file: Path) -> list[Any]:
    """Read W&B's records: LevelDB's log format (blocks of 32 KiB) after a head of seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    found, at, pending = [], 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        pending += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(pending))
            pending = b""
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux'")
def test_a_wandb_run_is_written_with_no_network(result: Path, tmp_path: Path) -> None:
    """The kernel kills the command, or W&B's service, at the first socket of the network."""
    done, network = history(
        "wandb", result, "--out", tmp_path / "wb", "--project", "cells", home=tmp_path,
        sockets="kill",
    )  # fmt: skip
    assert all(line.startswith("'/") for line in network), network  # paths of Unix sockets
    (file,) = (tmp_path / "wb").rglob("*.wandb")
    assert str(file.parent) in done.stdout
    kinds: dict[str, list[Any]] = {}
    for record in records(file):
        kinds.setdefault(record.WhichOneof("record_type"), []).append(record)
    (run,) = [r.run for r in kinds["run"]]
    assert (run.project, list(run.tags)) == ("cells", ["inconclusive"])
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    whole = read_result(result)
    assert (config["seed"], config["real"]) == (0, whole.real.fingerprint)
    (step,) = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json)
         for item in record.history.item}
        for record in kinds["history"]
    ]  # fmt: skip
    for finding in whole.findings:
        assert step[f"{finding.key}/gap"] == finding.gap
        assert step[f"{finding.key}/value"] == finding.value
    assert json.loads((file.parent / "files" / "result.json").read_text())["findings"]
    assert "exit" in kinds  # it was finished, not cut off


def test_a_folder_that_cannot_be_made_and_a_run_that_is_active_are_refused(
    result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        log_to_wandb(read_result(result), tmp_path / "file" / "x")
    active = type("wandb", (), {"run": object()})
    monkeypatch.setitem(sys.modules, "wandb", active)
    with pytest.raises(UsageError, match="a run of W&B is active"):
        log_to_wandb(read_result(result), tmp_path)


def test_mlflow_gets_the_gaps_and_reports_to_nobody(result: Path, tmp_path: Path) -> None:
    done, network = history("mlflow", result, "--store", tmp_path / "runs", home=tmp_path)
    assert set(network) <= {"('::1', 0)"}  # urllib3 asks whether this machine has IPv6
    ident = done.stdout.split()[-1]
    (home,) = (tmp_path / "runs").glob(f"*/{ident}")
    line = (home / "metrics" / KEY / "gap").read_text().split()
    assert float(line[1]) == 0.1
    assert (home / "tags" / "verdict").read_text() == "inconclusive"
    assert (home / "artifacts" / "result.json").read_bytes() == result.read_bytes()


@pytest.mark.parametrize(("log", "extra"), [(log_to_mlflow, "mlflow"), (log_to_wandb, "wandb")])
def test_a_library_that_is_not_there_is_named(
    log: Callable[..., Any], extra: str, result: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=rf"pip install evalsuite\[{extra}\]"):
        log(read_result(result), tmp_path)
