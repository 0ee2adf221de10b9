"""Small sets of real pictures, real speech and text, and a real browser to rate them in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from skimage import data as photographs

if TYPE_CHECKING:
    pass


def _crops(home: Path, shift: int, count: int = 14) -> Path:
    pictures = {"cup": photographs.coffee(), "cat": photographs.chelsea()}
    for label, pixels in pictures.items():
        folder = home / label
        folder.mkdir(parents=True)
        picture = Image.fromarray(pixels)
        for i in range(count):
            x, y = 7 * i + shift, 5 * i + shift
            picture.crop((x, y, x + 96, y + 96)).save(folder / f"s{shift}_{i:02d}.png")
    return home


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets of crops, 28 each, with two labels; one file of the second is no picture."""
    home = tmp_path_factory.mktemp("pictures")
    real, synthetic = _crops(home / "camera", 0), _crops(home / "diffusion", 3)
    (synthetic / "cup" / "s3_00.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    return real, synthetic


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two sets of short recordings with texts; the same ids in both."""
    import soundfile

    home = tmp_path_factory.mktemp("recordings")
    rng = np.random.default_rng(0)
    time = np.arange(8000) / 16000
    for k, side in enumerate(("human", "tts")):
        (home / side).mkdir()
        for i in range(6):
            tone = 0.3 * np.sin(2 * np.pi * (200 + 40 * i) * time) * np.hanning(8000)
            noisy = tone + 0.01 * (k + 1) * rng.normal(size=8000)
            soundfile.write(home / side / f"u{i}.{('wav', 'flac')[k]}", noisy, 16000)
            (home / side / f"u{i}.txt").write_text(f"tone number {i} <b>&amp; more</b>")
    return home / "human", home / "tts"
