"""Every notebook runs from its first cell to its last, in an empty folder, and shows no path."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
KEEP = "EVALSUITE_KEEP_OUTPUTS"
PLACE = re.compile(r"/(?:home|root|tmp|work|usr|Users|opt|var)/[\w./-]+")


def test_there_are_notebooks_and_the_readme_names_each() -> None:
    said = (FOLDER / "README.md").read_text("utf-8")
    assert len(NOTEBOOKS) >= 4
    assert set(re.findall(r"\((\S+\.ipynb)\)", said)) == {p.name for p in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore:IProgress not found")  # needs JupyterLab's widgets
    monkeypatch.setenv("EVALSUITE_CACHE", str(tmp_path / "cache"))
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", ())]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error"]
    if os.environ.get(KEEP):
        for cell in notebook.cells:
            cell.get("metadata", {}).pop("execution", None)  # when it ran
        nbformat.write(notebook, path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_outputs_are_kept_and_name_no_place(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["execution_count"] == k for k, cell in enumerate(code, 1))
    assert sum(bool(cell["outputs"]) for cell in code) >= 3
    for cell in code:
        for output in cell["outputs"]:
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr", output["text"]
            assert not PLACE.search(json.dumps(output))
    assert path.stat().st_size < 500_000
