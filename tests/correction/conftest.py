from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evalsuite.generators import Item
from evalsuite.pipeline.demo import cells


@pytest.fixture(scope="session")
def cell_items() -> list[Item]:
    """One hundred and eighty photographs of solar cells, in random order, with their kind."""
    photographs = cells()
    order = np.random.default_rng(3).permutation(len(photographs))[:180]
    return [
        Item(id=photographs[i][0].stem, image=Image.open(photographs[i][0]).convert("L"),
             label=photographs[i][1])
        for i in order
    ]  # fmt: skip


@pytest.fixture(scope="session")
def calibration(cell_items: list[Item]) -> list[Item]:
    return cell_items[:60]


@pytest.fixture(scope="session")
def judge(cell_items: list[Item]) -> list[Item]:
    """Real photographs that no correction was fitted on."""
    return cell_items[60:120]


@pytest.fixture(scope="session")
def source(cell_items: list[Item]) -> list[Item]:
    """Real photographs that the synthetic sets are made of."""
    return cell_items[120:]


@pytest.fixture(scope="session")
def colour_items() -> list[Item]:
    """Tiles of three colour photographs."""
    from skimage import data

    tiles = []
    for name in ("astronaut", "chelsea", "coffee"):
        photo = Image.fromarray(getattr(data, name)()).resize((384, 288))
        for x in range(0, 384, 96):
            for y in range(0, 288, 96):
                tile = photo.crop((x, y, x + 96, y + 96))
                tiles.append(Item(id=f"{name}-{x}-{y}", image=tile))
    return tiles
