"""An encoder: decoded images in, features out, and a record of exactly how."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from evalsuite.encoders import EncoderInfo, ImageEncoder

SIDE = 16


class GreyPixels(ImageEncoder):
    """The image itself, at 16 × 16 and in grey: a baseline that any model should beat.

    Parameters
    ----------
    device : str
        As the user gave it; this encoder has no use for it.
    """

    def __init__(self, *, device: str = "auto") -> None:
        del device
        info = EncoderInfo(
            id="grey_pixels",
            modality="image",
            dim=SIDE * SIDE,
            weights_sha256="",
            weights_source="no weights",
            backend="numpy",
            preprocessing={"resize": SIDE, "mode": "L"},
            code_version="1",
        )
        super().__init__(info, batch_size=64, parallel=1)

    def prepare(self, pixels: Image.Image) -> npt.NDArray[Any]:
        """Make one image small and grey: (1, 16, 16), from 0 to 1."""
        small = pixels.convert("L").resize((SIDE, SIDE))
        return np.asarray(small, dtype=np.float32)[None] / 255

    def _load(self) -> None:
        """There are no weights."""

    def _forward(self, batch: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        features: npt.NDArray[np.float32] = batch.reshape(len(batch), -1)
        return features
