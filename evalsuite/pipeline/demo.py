"""`evalsuite demo`: the main job on real photographs, from the wheel `elpv-dataset`."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

SAMPLES = 700
SEED = 0


def _cells() -> list[tuple[Path, str]]:
    """Photographs of solar cells with the kind of their module, in the order of the data set."""
    spec = importlib.util.find_spec("elpv_dataset")
    if spec is None or not spec.submodule_search_locations:
        raise DataError("the demo's photographs are not installed: pip install 'evalsuite[demo]'")
    root = Path(next(iter(spec.submodule_search_locations))) / "data"
    rows = (line.split() for line in (root / "labels.csv").read_text("utf-8").splitlines())
    return [(root / row[0], row[2]) for row in rows if len(row) == 3]


def _write(cells: Sequence[tuple[Path, str]], folder: Path) -> Path:
    """Copy the photographs into an image folder with their labels; done at once or not at all."""
    if folder.exists():
        return folder
    building = folder.with_name(folder.name + ".part")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    with (building / "metadata.jsonl").open("w", encoding="utf-8") as stream:
        for path, kind in cells:
            shutil.copyfile(path, building / path.name)
            stream.write(json.dumps({"file_name": path.name, "label": kind}) + "\n")
    building.rename(folder)
    return folder
