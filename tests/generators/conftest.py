from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image


def _folder(package: str, below: str) -> Path:
    found = find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / below


@pytest.fixture(scope="session")
def photos() -> dict[str, Image.Image]:
    """Photographs, colour and grey, and one solar cell; 300×300."""
    found = {
        name: Image.open(_folder("skimage", "data") / f"{name}.png").resize((300, 300))
        for name in ("astronaut", "chelsea", "coffee", "camera")
    }
    cells = sorted(_folder("elpv_dataset", "data/images").glob("*.png"))
    return {**found, "solar cell": Image.open(cells[5])}


@pytest.fixture(scope="session")
def cells() -> list[Image.Image]:
    """Forty solar cells, 300×300, grey."""
    paths = sorted(_folder("elpv_dataset", "data/images").glob("*.png"))[:40]
    return [Image.open(path) for path in paths]
