"""A generator: what is drawn at random is drawn in `sample_params`, and nowhere else."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from PIL import Image

from evalsuite.generators import Modality


class Fade:
    """Move an image towards grey.

    Parameters
    ----------
    most : float
        The largest share of grey, from 0 to 1.
    """

    name: ClassVar[str] = "fade"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(self, most: float = 0.5) -> None:
        self.most = most

    @property
    def params(self) -> dict[str, Any]:
        """The arguments that it was built with."""
        return {"most": self.most}

    def sample_params(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw how far this image fades."""
        return {"share": float(rng.uniform(0, self.most))}

    def apply(self, value: Image.Image, params: dict[str, Any]) -> Image.Image:
        """Blend the image with grey."""
        middle: Any = 128 if value.mode == "L" else (128,) * 3
        return Image.blend(value, Image.new(value.mode, value.size, middle), params["share"])
