"""Every code block of the README and of docs/ runs, word for word."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image
from skimage import data as photographs

from evalsuite.gate.policy import parse_policy

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Set-up of the machine itself: the tests run inside what these commands make.
OUTSIDE = ("make ", "pip ", "git ")


def blocks(page: Path, *kinds: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(page.read_text("utf-8")) if kind in kinds]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A place as a reader has it: real/, synthetic/ and batches of crops, and a recipe."""
    home = tmp_path_factory.mktemp("reader")
    picture = Image.fromarray(photographs.coffee())
    for side, shift in (("real", 0), ("synthetic", 7)):
        (home / side).mkdir()
        for i in range(64):
            x, y = 39 * (i % 8) + shift, 33 * (i // 8) + shift
            picture.crop((x, y, x + 160, y + 160)).save(home / side / f"{i:02d}.png")
    for batch in ("batch-a", "batch-b", "batch-c"):
        shutil.copytree(home / "synthetic", home / batch)
    (home / "recipe.yaml").write_text(
        "version: 1\nseed: 1\nsteps: [corrupt: {kind: gaussian_noise, severity: 1}]\n"
    )
    return home


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run_in_order(page: Path, folder: Path) -> None:
    code = "\n".join(blocks(page, "python"))
    if not code:
        pytest.skip("no python on this page")
    here = folder / page.stem
    here.mkdir(exist_ok=True)
    for side in ("real", "synthetic"):
        # The pages count on 40 samples; the commands of the README have more.
        shutil.copytree(
            folder / side, here / side, dirs_exist_ok=True,
            ignore=lambda _, names: [name for name in names if name >= "40"],
        )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_console_blocks_run_in_order(page: Path, folder: Path, tmp_path: Path) -> None:
    lines = [
        line.split("  #")[0].strip()
        for block in blocks(page, "console", "bash", "sh")
        for line in block.splitlines()
    ]
    lines = [line for line in lines if line and not line.startswith(("#", *OUTSIDE))]
    if not lines:
        pytest.skip("no commands on this page")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    # Each page to a place of its own: a reader of one page has not run the commands of another.
    here = tmp_path / "reader"
    shutil.copytree(folder, here)
    for line in lines:
        done = subprocess.run(
            line, shell=True, cwd=here, env={**os.environ, "PATH": path},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        # 1 and 4 are answers, not errors of the command.
        answers = any(word in line.split() for word in ("gate", "compare", "correct", "audit"))
        assert done.returncode in ((0, 1, 4) if answers else (0,)), (line, done.stderr)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_yaml_blocks_are_what_they_claim(page: Path) -> None:
    for text in blocks(page, "yaml"):
        content = yaml.safe_load(text)
        if isinstance(content, dict) and "rules" in content:
            parse_policy(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text("utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
