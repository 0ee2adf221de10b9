from __future__ import annotations

import shutil
from pathlib import Path

import elpv_dataset
import pytest


@pytest.fixture(scope="session")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 real photographs of solar cells, 300 × 300, grey."""
    folder = tmp_path_factory.mktemp("cells")
    images = Path(elpv_dataset.__file__).parent / "data" / "images"
    for path in sorted(images.iterdir())[:40]:
        shutil.copy(path, folder)
    return folder
