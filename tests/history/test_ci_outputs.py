"""GitHub's files and commands, the pytest fixture on real pictures, and the action's script."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from PIL import Image
from skimage import data as photographs

from evalsuite.report.github import SUMMARY_LIMIT, annotation_lines, github_outputs
from evalsuite.report.render import result_id

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
EVIL = "50% done\n::error title=x::pwned\r::set-output name=y::z <script> @everyone"


def test_summary_outputs_and_annotations(tmp_path: Path, make: Callable[..., Any]) -> None:
    result = make(1, {"kid": 0.4, "coverage": 0.1}, texts=(EVIL,))
    env = {"GITHUB_STEP_SUMMARY": str(tmp_path / "sum"), "GITHUB_OUTPUT": str(tmp_path / "out")}
    (tmp_path / "sum").write_text("before\n")
    lines = github_outputs(result, environment=env)
    summary = (tmp_path / "sum").read_text()
    assert summary.startswith("before\n# ")
    assert "<script>" not in summary
    outputs = dict(line.split("=") for line in (tmp_path / "out").read_text().splitlines())
    assert outputs == {"verdict": "fail", "exit-code": "1", "result-id": result_id(result)}
    assert [line.split(" ")[0] for line in lines] == ["::error", "::error", "::warning"]
    assert lines[0] == "::error title=evalsuite%3A fail::kid: the gap 0.4"
    assert all("\n" not in line and "\r" not in line for line in lines)
    assert "50%25 done" in lines[2]


def test_redacted_outputs_name_no_data(tmp_path: Path, make: Callable[..., Any]) -> None:
    result = make(1, {"kid": 0.4}, name="secret customer")
    env = {"GITHUB_STEP_SUMMARY": str(tmp_path / "sum"), "GITHUB_OUTPUT": str(tmp_path / "out")}
    lines = github_outputs(result, redact=True, environment=env)
    told = (tmp_path / "sum").read_text() + (tmp_path / "out").read_text() + "".join(lines)
    assert "secret customer" not in told
    github_outputs(result, environment=env)
    assert "secret customer" in (tmp_path / "sum").read_text()


def test_a_summary_that_has_no_room_says_so_and_no_more(
    tmp_path: Path, make: Callable[..., Any]
) -> None:
    result = make(1, {"kid": 0.4})
    file = tmp_path / "sum"
    file.write_bytes(b"x" * (SUMMARY_LIMIT - 300))
    github_outputs(result, environment={"GITHUB_STEP_SUMMARY": str(file)})
    assert file.read_bytes().endswith(b"no room is left for its summary\n")
    file.write_bytes(b"x" * (SUMMARY_LIMIT - 3))
    github_outputs(result, environment={"GITHUB_STEP_SUMMARY": str(file)})
    assert file.stat().st_size == SUMMARY_LIMIT - 3


def test_at_most_ten_annotations_of_a_kind(make: Callable[..., Any]) -> None:
    result = make(1, {f"m{k}": 0.4 for k in range(30)}, texts=("w",) * 15)
    lines = annotation_lines(result)
    assert sum(line.startswith("::error") for line in lines) == 10
    assert sum(line.startswith("::warning") for line in lines) == 10


def test_the_fixture_fails_a_test_with_the_gates_reasons(tmp_path: Path) -> None:
    picture = Image.fromarray(photographs.coffee())
    for side in ("real", "synthetic"):
        (tmp_path / side).mkdir()
        for i in range(12):
            x, y = 20 * i, 11 * i
            picture.crop((x, y, x + 96, y + 96)).save(tmp_path / side / f"{i}.png")
    (tmp_path / "test_data.py").write_text(
        "import pytest\n"
        "def test_too_few(gap_gate):\n"
        "    gap_gate('real', 'synthetic', cache=False)\n"
        "def test_allowed(gap_gate):\n"
        "    result = gap_gate('real', 'synthetic', allow=('inconclusive',), cache=False)\n"
        "    assert result.exit_code == 4\n"
        "def test_wrong_word(gap_gate):\n"
        "    with pytest.raises(Exception, match='must name verdicts'):\n"
        "        gap_gate('real', 'synthetic', allow=('fine',))\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "evalsuite.pytest_plugin", "-p", "no:cacheprovider",
         "--gap-report", "reports", "-q", "test_data.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )  # fmt: skip
    assert "1 failed, 2 passed" in done.stdout, done.stdout[-3000:]
    assert "the gate ended in inconclusive" in done.stdout
    assert "too few samples to measure it" in done.stdout
    assert (tmp_path / "reports" / "test_data.py_test_too_few-1" / "report.html").exists()


def test_pytest_finds_the_plugin_by_its_entry_point() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert config["project"]["entry-points"]["pytest11"] == {"evalsuite": "evalsuite.pytest_plugin"}


def test_the_action_passes_hostile_inputs_as_text(tmp_path: Path) -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    steps = action["runs"]["steps"]
    assert all("${{" not in step.get("run", "") for step in steps)
    (gate,) = [step for step in steps if step.get("id") == "gate"]
    (tmp_path / "evalsuite").write_text('#!/bin/sh\nprintf "%s\\n" "$@" > "$SEEN"\n')
    (tmp_path / "evalsuite").chmod(0o755)
    evil = "$(touch pwned); `id` --strict"
    env = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SEEN": str(tmp_path / "seen"),
        "REAL": evil, "SYNTHETIC": "-x", "POLICY": "p q.yaml", "OUT": "o", "STRICT": "true",
    }  # fmt: skip
    subprocess.run(["bash", "-e", "-c", gate["run"]], env=env, cwd=tmp_path, check=True)
    seen = (tmp_path / "seen").read_text().splitlines()
    assert seen == ["gate", "--out", "o", "--policy", "p q.yaml", "--strict", "--",
                    evil, "-x"]  # fmt: skip
    assert not (tmp_path / "pwned").exists()
    for name, output in action["outputs"].items():
        assert output["value"] == "${{ steps.gate.outputs." + name + " }}"


@pytest.mark.parametrize(("good", "code"), [(True, 0), (False, 2)])
def test_the_hook_checks_each_policy(good: bool, code: int, tmp_path: Path) -> None:
    import shlex

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    files = [tmp_path / "a_policy.yaml", tmp_path / "b_policy.yaml"]
    for file in files:
        file.write_text("version: 1\nrules:\n  - {metric: kid, tolerance: 0.1}\n")
    if not good:
        files[1].write_text("version: 1\nrules: []\n")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [*shlex.split(hook["entry"]), *map(str, files)], env={**os.environ, "PATH": path},
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == code
