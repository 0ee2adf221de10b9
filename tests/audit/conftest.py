"""Real photographs of solar cells, with the faults that vendors deliver."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders import FeatureCache
from evalsuite.pipeline.demo import cells, write_folder

N = 64
HOSTILE = "<img src=x onerror=alert(1)>"
PERSON = "taro.yamada@firma.example"

POLICY = """
rules:
  - {metric: kid, tolerance: 5.0}
calibration: {splits: 20, permutations: 99, costly_permutations: 99}
ties: {image_text: null, audio_text: null}
"""
"""A gate that so few samples can pass: the gate itself is tested elsewhere."""


@dataclass(frozen=True)
class Home:
    """The sets, and what is wrong with the bad one."""

    root: Path
    cache: FeatureCache
    flipped: frozenset[str]

    def __truediv__(self, name: str) -> Path:
        return self.root / name


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    root = tmp_path_factory.mktemp("audit")
    (root / "policy.yaml").write_text(POLICY)
    photographs = cells()
    order = np.random.default_rng(11).permutation(len(photographs))
    real, clean, holdout = (
        [photographs[i] for i in order[start : start + N]] for start in (0, N, 2 * N)
    )
    write_folder(real, root / "real")
    write_folder(holdout[:32], root / "holdout")
    write_folder(clean, root / "clean")
    (root / "clean" / "croissant.json").write_text(
        json.dumps(
            {
                "@type": "sc:Dataset",
                "name": "cells",
                "license": "https://spdx.org/licenses/CC-BY-4.0",
                "creator": {"@type": "Organization", "name": "Ein Labor"},
                "citeAs": "@misc{cells}",
                "prov:wasDerivedFrom": {"name": "elpv"},
            }
        )
    )
    bad = root / "bad"
    shutil.copytree(root / "clean", bad)
    (bad / "croissant.json").write_text(
        json.dumps(
            {
                "name": "cells",
                "creator": HOSTILE,
                "distribution": [
                    {"@type": "cr:FileObject", "contentUrl": "metadata.jsonl", "sha256": "0" * 64},
                    {
                        "@type": "cr:FileObject",
                        "contentUrl": "../../etc/passwd",
                        "sha256": "0" * 64,
                    },
                ],
            }
        )
    )
    listed = rows(bad)
    flipped = set()
    for row in listed[:8]:  # labels that are wrong
        row["label"] = "poly" if row["label"] == "mono" else "mono"
        flipped.add(str(row["file_name"]))
    for k in (20, 21, 22):  # copies of real data, and of the test set
        shutil.copyfile(real[k][0], bad / str(listed[k]["file_name"]))
        listed[k]["label"] = real[k][1]
    shutil.copyfile(holdout[3][0], bad / str(listed[23]["file_name"]))
    listed[23]["label"] = holdout[3][1]
    for k in range(24, 30):  # saved anew: other bytes, the same picture
        name = f"resaved{k}.jpg"
        Image.open(real[k][0]).convert("L").save(bad / name, quality=95)
        (bad / str(listed[k]["file_name"])).unlink()
        listed[k] |= {"file_name": name, "label": real[k][1]}
    shutil.copyfile(bad / str(listed[30]["file_name"]), bad / "twin.png")  # a duplicate
    listed.append({"file_name": "twin.png", "label": "=1+1"})  # with another label, a formula
    whole = (bad / str(listed[31]["file_name"])).read_bytes()
    (bad / str(listed[31]["file_name"])).write_bytes(whole[: len(whole) // 2])
    buffer = io.BytesIO()  # a JPEG that is called a PNG
    Image.open(bad / str(listed[32]["file_name"])).convert("L").save(buffer, "JPEG", quality=90)
    (bad / str(listed[32]["file_name"])).write_bytes(buffer.getvalue())
    camera = Image.Exif()
    camera[0x013B] = "Taro Yamada"
    camera.get_ifd(0x8769)[0xA431] = "SN-12345"
    camera.get_ifd(0x8825).update({1: "N", 2: (35.0, 41.0, 22.0), 3: "E", 4: (139.0, 41.0, 30.0)})
    Image.open(bad / str(listed[33]["file_name"])).convert("L").save(
        bad / "located.jpg", quality=97, exif=camera
    )
    listed.append({"file_name": "located.jpg", "label": listed[33]["label"]})
    (bad / str(listed[34]["file_name"])).rename(bad / f"{HOSTILE.replace('/', '')}.png")
    listed[34]["file_name"] = f"{HOSTILE}.png"
    for k, row in enumerate(listed):
        row["caption"] = f"cell {k} of the second line"
    listed[40]["caption"] = f"ask {PERSON} {HOSTILE}"
    (bad / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    return Home(root, FeatureCache(root / "cache"), frozenset(flipped))
