"""Every quick command that writes, stopped in the middle of it: whole files, and the same end."""

from __future__ import annotations

import html
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.kills import Command, contents, cut_off, prepare
from evalsuite.report.render import write_atomically

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals and limits are POSIX'")
QUICK = ("generate", "study new", "study score", "history add")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Command]:
    """Each has run once to its end."""
    home = tmp_path_factory.mktemp("home")
    listed = {
        name: Command(home, name, words, code)
        for name, (words, code) in prepare(home).items()
        if name in QUICK
    }
    for command in listed.values():
        command.begin()
        assert command.writes >= 2
    return listed


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("generate", signal.SIGTERM),
        ("generate", signal.SIGKILL),
        ("study new", signal.SIGINT),
        ("study score", signal.SIGKILL),
        ("history add", signal.SIGTERM),
        ("history add", signal.SIGINT),
    ],
)
def test_stopped_in_the_middle_of_its_writes_and_started_again(
    name: str, how: signal.Signals, commands: dict[str, Command]
) -> None:
    command, out = commands[name], f"{name.replace(' ', '-')}-{how.name}"
    process = command.start(out, 1 + command.writes // 2, how_killed=how)
    said = process.communicate()[1].decode()
    assert process.returncode in (130, 143, -how), said
    assert "Traceback" not in said
    assert cut_off(command.home / out) == 0
    code, said = command.whole(out)
    assert code == command.ends, said
    assert contents(command.home / out, out) == command.right
    left = [p.name for p in (command.home / out).rglob("*") if p.name.endswith(".tmp")]
    assert not left


@pytest.mark.parametrize("name", ["study new", "study score", "history add"])
def test_a_full_disk_is_an_error_in_one_line(
    name: str, commands: dict[str, Command], tmp_path: Path
) -> None:
    """A file may have no more than 2,000 bytes, which stands for a disk with no room left."""
    command = commands[name]
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000)); "
        "from evalsuite.cli import main; main()"
    )
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, *(word.replace("OUT", str(out)) for word in command.words)],
        cwd=command.home, env={**os.environ, "EVALSUITE_CACHE": str(tmp_path / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("error: ")
    assert cut_off(out) == 0


def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    page = tmp_path / "a[1].html"
    (tmp_path / ".a[1].html.dead.tmp").write_bytes(b"half")
    code = (
        "import sys; from pathlib import Path; from evalsuite.report import render; "
        "stream, name = render._temporary(Path(sys.argv[1])); print(name, flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(page)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as living:  # fmt: skip
        assert living.stdout is not None
        other = Path(living.stdout.readline().strip())
        write_atomically(page, b"one")
        assert {p.name for p in tmp_path.iterdir()} == {page.name, other.name}
        living.kill()
    write_atomically(page, b"two")
    assert [p.name for p in tmp_path.iterdir()] == [page.name]
    assert page.read_bytes() == b"two"


def test_the_same_input_and_seed_give_the_same_bytes(
    commands: dict[str, Command], tmp_path: Path
) -> None:
    """Numbers and page, without the time of the run; in another place, with an empty cache."""
    home = commands["generate"].home
    found: list[tuple[dict[str, Any], str]] = []
    for k in range(2):
        place = tmp_path / f"{k}"
        place.mkdir()
        for name in ("real", "other"):
            shutil.copytree(home / name, place / name)
        shutil.copyfile(home / "quick.yaml", place / "quick.yaml")
        done = subprocess.run(
            [sys.executable, "-m", "evalsuite.cli", "gate", "real", "other", "--policy",
             "quick.yaml", "--out", "out"],
            cwd=place, env={**os.environ, "EVALSUITE_CACHE": str(place / "cache")},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1, 4), done.stderr
        result = json.loads((place / "out" / "result.json").read_text())
        page = html.unescape((place / "out" / "report.html").read_text("utf-8"))
        # The times stand in the page as they do in the result, and nowhere else.
        times = json.dumps(result.pop("times"), ensure_ascii=False, indent=1, sort_keys=True)
        assert page.count(times) == 1
        page = page.replace(times, "TIMES")
        found.append((result, page))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]
