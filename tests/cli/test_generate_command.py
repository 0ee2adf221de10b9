"""`evalsuite generate` as a user runs it: a process of its own, on files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COMMAND = [sys.executable, "-m", "evalsuite.cli", "generate"]
FOG = "version: 1\nseed: 7\nsteps:\n  - corrupt: {kind: fog, severity: [1, 3]}\n"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]


def shown(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    spec = find_spec("elpv_dataset")
    assert spec is not None and spec.origin is not None  # noqa: PT018
    cells = sorted((Path(spec.origin).parent / "data" / "images").glob("*.png"))[:12]
    real = tmp_path / "real"
    real.mkdir()
    with (real / "metadata.jsonl").open("w") as file:
        for i, cell in enumerate(cells):
            Image.open(cell).save(real / f"{i}.png")
            split = "test" if i % 3 == 2 else "train"
            row = {"file_name": f"{i}.png", "label": "cell", "split": split, "id": f"c{i}"}
            file.write(json.dumps(row) + "\n")
    (tmp_path / "fog.yaml").write_text(FOG)
    return tmp_path


def test_it_makes_what_is_asked_and_says_what_is_next(place: Path) -> None:
    done = run(place / "fog.yaml", "--input", place / "real", "--out", place / "out")
    assert done.returncode == 0, done.stderr
    assert "made 12 of 12 samples of 12 in" in done.stdout
    assert f"next: evalsuite gate {place / 'real'} {place / 'out'}" in done.stdout
    found = rows(place / "out")
    assert {(row["split"], row["group"]) for row in found} == {
        ("test" if i % 3 == 2 else "train", f"c{i}") for i in range(12)
    }
    facts = json.loads((place / "out" / "croissant.json").read_text())
    assert facts["prov:wasDerivedFrom"]["name"] == "real"
    more = run(place / "fog.yaml", "--input", place / "real", "--out", place / "n", "--n", 30)
    assert "made 30 of 30" in more.stdout
    counts = np.unique([row["parents"] for row in rows(place / "n")], return_counts=True)[1]
    assert set(counts.tolist()) == {2, 3}
    options = ("--split", "train", "--per-item", 2, "--seed", 9, "--format", "parquet")
    train = run(place / "fog.yaml", "--input", place / "real", "--out", place / "t", *options)
    assert "made 16 of 16 samples of 8" in train.stdout, train.stderr


def test_a_bad_file_is_named_and_strict_says_so_in_the_exit_code(place: Path) -> None:
    (place / "real" / "bad.png").write_text("no picture")
    arguments = (place / "fog.yaml", "--input", place / "real", "--out", place / "out")
    done = run(*arguments)
    assert done.returncode == 0
    assert "made 12 of 13" in done.stdout
    assert "bad.png" in done.stdout
    assert run(*arguments, "--strict").returncode == 3


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        (FOG.replace("fog,", "fogg,"), (), 2, "did you mean 'fog'"),
        (FOG, ("--n", 3, "--per-item", 2), 2, "not both"),
        (FOG, ("--split", "nowhere"), 3, "has no split 'nowhere'"),
        ("version: 1\nseed: 1\nsteps: [gain]\n", (), 3, "has no audio"),
        ("version: 1\nseed: 1\nsteps: [corrupt: {kind: fog}, typos]\n", (), 2, "gives image, but"),
    ],
)
def test_what_does_not_work_ends_with_its_exit_code(
    place: Path, text: str, arguments: tuple[object, ...], code: int, message: str
) -> None:
    (place / "r.yaml").write_text(text)
    done = run(place / "r.yaml", "--input", place / "real", "--out", place / "out", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("form", ["folder", "webdataset"])
def test_killed_at_any_moment_it_goes_on_with_no_double_and_no_loss(place: Path, form: str) -> None:
    speech = Path(__file__).parents[1] / "data" / "speech"
    (place / "say.yaml").write_text("version: 1\nseed: 1\nvariants: 3\nsteps: [room, add_noise]\n")
    arguments = [str(place / "say.yaml"), "--input", str(speech), "--format", form, "--out"]
    child = subprocess.Popen([*COMMAND, *arguments, str(place / "a")], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list((place / "a").rglob("*.wav"))) < 3:
        assert child.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not (place / "a" / "croissant.json").exists()
    again = run(*arguments, place / "a")
    assert again.returncode == 0, again.stderr
    assert "were there from an earlier run" in again.stdout
    assert run(*arguments, place / "b").returncode == 0
    assert shown(place / "a") == shown(place / "b")
