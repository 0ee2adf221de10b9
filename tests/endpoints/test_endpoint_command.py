"""`evalsuite generate` against a real server: captions of real images, paid for once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.pipeline.demo import cells, write_folder

if TYPE_CHECKING:
    from .endpoint_server import FakeServer


def test_captions_are_asked_for_once(server: FakeServer, tmp_path: Path) -> None:
    real = write_folder(cells()[:3], tmp_path / "real")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("version: 1\nseed: 1\nsteps: [caption: {model: tiny-llm}]\n")
    call = ["generate", str(recipe), "--input", str(real), "--endpoint", server.url]
    first = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "out")])
    assert first.exit_code == 0, first.output
    assert "made 3 of 3" in first.output
    assert "endpoint: " in first.output
    rows = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert all(json.loads(row)["text"] for row in rows)
    asked = len(server.requests)
    again = CliRunner().invoke(app, [*call, "--out", str(tmp_path / "out")])
    assert again.exit_code == 0, again.output
    assert len([r for r in server.requests[asked:] if "chat" in str(r)]) == 0


def test_a_public_server_is_refused(tmp_path: Path) -> None:
    real = write_folder(cells()[:2], tmp_path / "real")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("version: 1\nseed: 1\nsteps: [caption: {model: tiny-llm}]\n")
    done = CliRunner().invoke(
        app,
        ["generate", str(recipe), "--input", str(real), "--out", str(tmp_path / "out"),
         "--endpoint", "http://93.184.216.34/v1"],
    )  # fmt: skip
    assert done.exit_code != 0
    assert "allow" in str(done.exception) + done.output
