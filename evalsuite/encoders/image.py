"""Image encoders: pixels to the model's input, and the two engines that run a model.

The same bytes of an image give the same features, so every choice is explicit and recorded: which
filter resizes (Pillow's, antialiased), which part is cropped, where normalisation happens.
"""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import ModelError
from .base import EncoderInfo, Features, ImageEncoder, cpu_count

if TYPE_CHECKING:
    import torch

    Apply: TypeAlias = Callable[[torch.Tensor], torch.Tensor]

log = logging.getLogger("evalsuite.encoders")

FILTERS = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
}
THUMBNAIL_SIDE = 64
_ELONGATED = 16
_MAX_PARALLEL = 32  # forward passes at once; each needs about 50 MB with the embedded model


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a model's input: resize, centre crop, then normalise in the model.

    A grey image is resized in its one channel, then repeated: the same values as the other way
    round for a third of the work. Resizing rounds to 8 bits, as torchvision does for PIL images,
    so that features equal those of the model's own published transform.

    Attributes
    ----------
    resize : int or (int, int)
        The length that the shorter side gets; or height and width, whatever the aspect ratio.
    crop : (int, int)
        Height and width of what is cut from the centre: the model's input.
    filter : str
        A key of :data:`FILTERS`. Pillow's filters are antialiased when they shrink.
    mean, std : tuple of float
        Of the three channels, on values from 0 to 1.
    output : str
        Which layer the features are.
    """

    resize: int | tuple[int, int]
    crop: tuple[int, int]
    filter: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    output: str

    def describe(self) -> dict[str, Any]:
        """Give the record for :class:`EncoderInfo`."""
        return {
            **asdict(self),
            "antialias": True,
            "library": f"pillow {version('pillow')}",
            "colour": "RGB; grey repeated in three channels",
            "elongated": f"beyond {_ELONGATED}:1, cut to {_ELONGATED}:1 at the centre first",
        }

    def __call__(self, pixels: Image.Image) -> npt.NDArray[np.uint8]:
        """Give the model's input: uint8, (3, height, width)."""
        if pixels.mode not in ("L", "RGB"):
            raise ValueError(f"pixels must have the mode RGB or L, got {pixels.mode}")
        if isinstance(self.resize, int):
            pixels = _not_elongated(pixels)
            width, height = pixels.size
            short = min(width, height)
            size = (self.resize * width // short, self.resize * height // short)
        else:
            size = (self.resize[1], self.resize[0])
        if pixels.size != size:
            pixels = pixels.resize(size, FILTERS[self.filter])
        height, width = self.crop
        left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
        if (left, top) != (0, 0):
            pixels = pixels.crop((left, top, left + width, top + height))
        array = np.asarray(pixels)
        if array.ndim == 2:
            return np.broadcast_to(array, (3, *array.shape))
        return np.ascontiguousarray(array.transpose(2, 0, 1))


def thumbnail(pixels: Image.Image) -> bytes:
    """Give a small JPEG of the whole image, at most 64 pixels a side, 1 to 2 kB."""
    pixels = _not_elongated(pixels)
    scale = THUMBNAIL_SIDE / max(pixels.size)
    if scale < 1:
        size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
        pixels = pixels.resize(size, Image.Resampling.BOX)
    file = io.BytesIO()
    pixels.save(file, "JPEG", quality=60)
    return file.getvalue()


def _not_elongated(pixels: Image.Image) -> Image.Image:
    """Cut extreme strips: a picture of 1 × 10⁸ pixels would be resized to gigabytes."""
    width, height = pixels.size
    limit = _ELONGATED * min(width, height)
    if max(width, height) <= limit:
        return pixels
    left, top = max(0, width - limit) // 2, max(0, height - limit) // 2
    return pixels.crop((left, top, left + min(width, limit), top + min(height, limit)))


class TorchEncoder(ImageEncoder):
    """A torch module on a CPU or GPU, in float32, one forward pass at a time.

    TF32 is off and cuDNN deterministic during the pass: the last bits must not depend on what else
    runs, nor the result on the GPU's generation more than it has to.
    """

    def __init__(
        self,
        info: EncoderInfo,
        preprocessing: Callable[[Image.Image], npt.NDArray[Any]],
        build: Callable[[], Apply],
        *,
        device: str,
        batch_size: int,
        mean: tuple[float, ...] = (0.5, 0.5, 0.5),
        std: tuple[float, ...] = (0.5, 0.5, 0.5),
    ) -> None:
        super().__init__(info, batch_size, parallel=1)
        self._prepare = preprocessing
        self._build = build
        self._device = device
        self._scale = (mean, std)
        self._busy = threading.Lock()

    def prepare(self, pixels: Image.Image) -> npt.NDArray[Any]:
        """Resize and crop one decoded image (mode RGB or L) to the model's input, (C, H, W)."""
        return self._prepare(pixels)

    def _load(self) -> None:
        import torch

        self._apply = self._build()
        self._mean, self._std = (
            torch.tensor(values, device=self._device).view(1, -1, 1, 1) for values in self._scale
        )

    def _forward(self, batch: npt.NDArray[Any]) -> Features:
        import torch

        with (
            self._busy,
            torch.inference_mode(),
            torch.backends.cudnn.flags(
                enabled=True, benchmark=False, deterministic=True, allow_tf32=False
            ),
        ):
            x = torch.from_numpy(batch).to(self._device)
            if x.dtype == torch.uint8:
                x = (x.to(torch.float32) / 255 - self._mean) / self._std
            y = self._apply(x.contiguous(memory_format=torch.channels_last))
            return y.to(torch.float32).cpu().numpy()


class OnnxEncoder(ImageEncoder):
    """An ONNX graph in ONNX Runtime on the CPU: one thread a forward pass, as many as cores.

    Passes side by side scale better than threads within one (no waiting for each other at every
    layer), and the result cannot depend on the number of cores.

    Parameters
    ----------
    graph : callable
        Gives the serialized graph: input ``pixels`` (batch, 3, H, W) uint8, output ``features``.
    """

    def __init__(
        self,
        info: EncoderInfo,
        preprocessing: Preprocessing,
        graph: Callable[[], bytes],
        *,
        batch_size: int,
    ) -> None:
        super().__init__(info, batch_size, parallel=min(cpu_count(), _MAX_PARALLEL))
        self._prepare = preprocessing
        self._graph = graph

    def prepare(self, pixels: Image.Image) -> npt.NDArray[Any]:
        """Resize and crop one decoded image (mode RGB or L) to the model's input, (C, H, W)."""
        return self._prepare(pixels)

    def _load(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_free_dimension_override_by_name("batch", self.batch_size)
        try:
            self._session = onnxruntime.InferenceSession(
                self._graph(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise ModelError(
                f"onnxruntime {version('onnxruntime')} cannot load {self.info.id}: {error}; "
                "use backend='torch'"
            ) from error

    def _forward(self, batch: npt.NDArray[Any]) -> Features:
        (features,) = self._session.run(["features"], {"pixels": batch})
        return np.asarray(features, dtype=np.float32)
