"""The whole gate on real photographs: verdicts, exit codes, bad input, resumption."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import evalsuite
from evalsuite.encoders import FeatureCache
from evalsuite.errors import DataError
from evalsuite.gate.findings import Gallery, Status
from evalsuite.generators import Corrupt, generate_folder
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.pipeline.explain import same_content
from evalsuite.pipeline.run import run_gate

N = 120
COMMAND = [sys.executable, "-m", "evalsuite.cli"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("sets")
    photographs = cells()
    order = np.random.default_rng(1).permutation(len(photographs))
    first, second = ([photographs[i] for i in order[a : a + N]] for a in (0, N))
    made = {
        "real": write_folder(first, home / "real"),
        "second": write_folder(second, home / "second"),
        "few": write_folder(second[:12], home / "few"),
        "blurred": home / "blurred",
    }
    generate_folder(
        Corrupt("gaussian_blur", 4),
        ((p.stem, Image.open(p), kind, None) for p, kind in second),
        made["blurred"],
        seed=0,
    )
    return made


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def run(cache: Path, *args: object, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, args)],
        env={**os.environ, "EVALSUITE_CACHE": str(cache)},
        capture_output=True, text=True, check=False, **kwargs,
    )  # fmt: skip


def content(out: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    result.pop("times")
    return result


def test_a_second_sample_passes_and_a_blurred_one_fails(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    done = run(cache, "gate", sets["real"], sets["second"], "--out", tmp_path / "same")
    same = content(tmp_path / "same")
    assert same["verdict"] in ("pass", "inconclusive"), done.stdout
    assert done.returncode == {"pass": 0, "inconclusive": 4}[same["verdict"]]
    assert not any(f["detected"] for f in same["findings"] if f["kind"] == "distribution")

    done = run(cache, "gate", sets["real"], sets["blurred"], "--out", tmp_path / "blurred")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "sharpness is lower" in done.stdout
    blurred = content(tmp_path / "blurred")
    said = [m["params"]["attribute"] for m in blurred["explanations"] if "attribute" in m["params"]]
    assert said[0] == "sharpness"
    for name in ("report.html", "summary.md", "junit.xml"):
        assert (tmp_path / "blurred" / name).stat().st_size > 500


def test_too_few_are_inconclusive_never_a_pass(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    done = run(cache, "gate", sets["real"], sets["few"], "--out", tmp_path)
    assert done.returncode == 4
    assert "too few" in done.stdout


def test_second_run_comes_from_the_cache_and_is_the_same(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    outs = []
    for i in range(2):
        run(cache, "gate", sets["real"], sets["second"], "--out", tmp_path / str(i))
        outs.append(content(tmp_path / str(i)))
    assert outs[0] == outs[1]
    fresh = evalsuite.gate(sets["real"], sets["second"], cache=False, out=tmp_path / "fresh")
    assert fresh.verdict.value == outs[0]["verdict"]
    assert content(tmp_path / "fresh")["findings"] == outs[0]["findings"]


def test_killed_at_any_moment_it_ends_with_the_same_result(
    sets: dict[str, Path], tmp_path: Path
) -> None:
    command = [*COMMAND, "gate", str(sets["real"]), str(sets["second"]), "--out"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    begin = time.monotonic()
    run(tmp_path / "cache-a", *command[3:], whole)
    took = time.monotonic() - begin
    rng = random.Random(0)
    env = {**os.environ, "EVALSUITE_CACHE": str(tmp_path / "cache-b")}
    for _ in range(4):
        process = subprocess.Popen(
            [*command, str(cut)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(rng.uniform(0.1, took))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (cut / "result.json").exists():  # what is there is whole
            json.loads((cut / "result.json").read_text())
    run(tmp_path / "cache-b", *command[3:], cut)
    left, right = content(whole), content(cut)
    left.pop("command"), right.pop("command")
    assert left == right
    assert not [p for p in cut.iterdir() if p.suffix == ".tmp" or p.name.startswith(".")]


def test_bad_samples_are_counted_named_and_judged(
    sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "vendor"
    write_folder([(p, "mono") for p in sorted(sets["second"].glob("*.png"))], folder)
    good = sorted(folder.glob("*.png"))
    good[0].write_bytes(good[0].read_bytes()[:500])
    good[1].write_bytes(b"no image at all")
    good[2].unlink()
    done = run(cache, "gate", sets["real"], folder, "--out", tmp_path / "out")
    result = content(tmp_path / "out")
    assert result["synthetic"]["n_found"] == N
    assert result["synthetic"]["n_used"] == N - 3
    assert sum(result["synthetic"]["problems"].values()) == 3
    named = {p["sample"] + p["detail"] for p in result["synthetic"]["problem_examples"]}
    assert all(any(g.stem in name for name in named) for g in good[:3])
    assert done.returncode == 1  # 3 of 120 is over max_unreadable
    assert "3 of 120 synthetic samples" in (tmp_path / "out" / "summary.md").read_text()


@pytest.mark.parametrize("make", ["missing", "empty", "no images", "all broken"])
def test_data_that_cannot_be_judged_is_exit_3(
    make: str, sets: dict[str, Path], cache: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    if make != "missing":
        folder.mkdir()
    if make == "no images":
        (folder / "notes.txt").write_text("x")
    if make == "all broken":
        (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for args in ((folder, sets["real"]), (sets["real"], folder)):
        done = run(cache, "gate", *args, "--out", tmp_path / "out")
        assert done.returncode == 3, done.stderr
        assert done.stderr.startswith("error: ")
        assert "bad" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_wrong_policy_is_exit_2(sets: dict[str, Path], cache: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("rules: [{metric: kid, tolerence: 0.1}]")
    done = run(cache, "gate", sets["real"], sets["second"], "--policy", policy)
    assert done.returncode == 2
    assert "did you mean 'tolerance'?" in done.stderr
    policy.write_text("rules: [{metric: kidd, tolerance: 0.1}]")
    done = run(cache, "gate", sets["real"], sets["second"], "--policy", policy)
    assert done.returncode == 2
    assert "did you mean 'kid'?" in done.stderr


def test_copies_are_seen(sets: dict[str, Path], cache: Path) -> None:
    store = FeatureCache(cache)
    result = run_gate(sets["real"], sets["real"], cache=store).result
    assert result.synthetic.n_exact_copies == N
    assert any(
        r.status is Status.WARN and "byte for byte" in r.message.text for r in result.reasons
    )
    (shelf,) = (g for g in result.galleries if g.id == "same_content")
    assert shelf.items
    assert {(i.side, i.partner_side) for i in shelf.items} == {("synthetic", "real")}
    assert all(i.sample == i.partner for i in shelf.items)


def test_what_is_repeated_is_shown_after_what_is_copied() -> None:
    def shelves(real: str, synthetic: str, modality: str = "image") -> list[Gallery]:
        held = [{f"{c}{i}": (c,) for i, c in enumerate(side)} for side in (real, synthetic)]
        left, right = (
            SimpleNamespace(samples=[SimpleNamespace(id=i, label=None, text=None) for i in side])
            for side in held
        )
        return same_content({modality: SimpleNamespace(left=left, right=right)}, *held)  # type: ignore[dict-item]

    (shelf,) = shelves("ab", "cdcbedc")
    assert [(i.sample, i.partner_side, i.partner, i.score) for i in shelf.items] == [
        ("b3", "real", "b1", 1.0), ("c0", "synthetic", "c2", 3.0), ("d1", "synthetic", "d5", 2.0),
    ]  # fmt: skip
    assert shelves("ab", "cd") == []
    assert shelves("ab", "aa", "text") == []  # near copies have galleries of their own


def test_gate_is_a_function_and_a_package(sets: dict[str, Path]) -> None:
    import evalsuite.gate.policy

    assert callable(evalsuite.gate)
    with pytest.raises(DataError, match="nowhere"):
        evalsuite.gate("nowhere", sets["real"])


def test_help_is_quick() -> None:
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    assert min(times) < 0.5
