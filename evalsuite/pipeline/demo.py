"""`evalsuite demo`: the main job on real photographs, from the wheel `elpv-dataset`."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SAMPLES = 700
SEED = 0
KIND = "gaussian_blur"
WEAK, STRONG = 1, 4


def _installed(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"the photographs of {package} are not installed: pip install 'evalsuite[demo]'"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def cells() -> list[tuple[Path, str]]:
    """List the photographs of solar cells with the kind of their module, in published order."""
    root = _installed("elpv_dataset") / "data"
    rows = (line.split() for line in (root / "labels.csv").read_text("utf-8").splitlines())
    return [(root / row[0], row[2]) for row in rows if len(row) == 3]


def textiles(kind: str) -> list[Path]:
    """List the simulated textile images of a kind: nominal, local or global defects."""
    root = _installed("conformal_clip_data") / "data" / "textile_images" / "simulated" / kind
    return sorted(path for path in root.iterdir() if path.suffix.lower() in {".jpg", ".png"})


def write_folder(cells: Sequence[tuple[Path, str]], folder: Path) -> Path:
    """Copy photographs into an image folder with their labels; done wholly or not at all."""
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


def run_demo(out: Path, say: Callable[[str], None]) -> int:
    """Gate a real sample of solar cells against three sets, and write a report on each.

    Parameters
    ----------
    out : path
        Gets ``data/`` (the four sets) and a folder with a report for each gate.
    say : callable
        Told what happens, a line at a time.

    Returns
    -------
    int
        0 when the second real sample passes and the strongly degraded set fails; 1 otherwise.
    """
    from PIL import Image

    from ..generators import Corrupt, generate_folder
    from ..report import write_outputs
    from .run import run_gate

    photographs = cells()
    order = np.random.default_rng(SEED).permutation(len(photographs))
    first = [photographs[i] for i in order[:SAMPLES]]
    second = [photographs[i] for i in order[SAMPLES : 2 * SAMPLES]]
    data = out / "data"
    real = write_folder(first, data / "real")
    sets = {"second-sample": write_folder(second, data / "second-sample")}
    for name, severity in (("weak", WEAK), ("strong", STRONG)):
        say(f"generating: {KIND} at severity {severity} on the second sample's cells")
        sets[name] = data / name
        generate_folder(
            Corrupt(KIND, severity),
            ((path.stem, Image.open(path), kind, None) for path, kind in second),
            sets[name],
            seed=SEED,
            workers=2,
        )
    verdicts = {}
    for name, folder in sets.items():
        say(f"\nevalsuite gate {real} {folder}")
        run = run_gate(real, folder)
        report = out / name
        write_outputs(run.result, report, thumbnails=run.thumbnails, clips=run.clips)
        verdicts[name] = run.result.verdict.value
        say(f"  {run.result.verdict.value.upper()}")
        for reason in run.result.reasons[:4]:
            say(f"  {reason.message.text}")
        for message in run.result.explanations[:2]:
            say(f"  seen: {message.text}")
        say(f"  report: {report / 'report.html'}")
    as_expected = verdicts["second-sample"] == "pass" and verdicts["strong"] == "fail"
    if not as_expected:
        say(f"\nunexpected: {verdicts}")
    return 0 if as_expected else 1
