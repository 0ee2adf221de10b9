"""What an encoder is to the rest of evalsuite: media in, features out, and a record of exactly how.

Importing this module costs nothing: no torch, no onnxruntime, no model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import ModelError, UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Features: TypeAlias = npt.NDArray[np.float32]
"""One row per sample: ``(n, dim)``."""


def check_device(device: str) -> None:
    """Ask, before anything that takes long, whether this machine has a device.

    Parameters
    ----------
    device : str
        ``auto``, ``cpu``, or a device of torch such as ``cuda``, ``cuda:1`` or ``mps``.

    Raises
    ------
    UsageError
        If there is no such device, or torch cannot use it here.
    """
    if device in ("auto", "cpu"):
        return
    import torch

    kind, _, index = device.partition(":")
    if kind not in ("cuda", "mps") or (index and not index.isdecimal()):
        raise UsageError(f"device must be auto, cpu, cuda, cuda:<number> or mps, got {device!r}")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    else:
        count = int(torch.backends.mps.is_available())
    if int(index or 0) >= count:
        raise UsageError(
            f"there is no device {device!r} here: torch {torch.__version__} finds {count} of "
            f"{kind}; auto takes a GPU where there is one, and else the CPU"
        )


@dataclass(frozen=True)
class EncoderInfo:
    """Which model made the features, to the byte.

    Attributes
    ----------
    id : str
        What the user asked for: ``efficientnet_lite0``, ``timm/resnet50``…
    modality : str
        ``image``.
    dim : int
        Columns of the feature matrix.
    weights_sha256 : str
        SHA-256 of the weights file.
    weights_source : str
        Where the weights were found, for people. No folder of this machine is named.
    backend : str
        Library, version, device, and the batch shape that every forward pass has.
    preprocessing : dict
        How pixels become the model's input, and which layer the features are.
    code_version : str
        Of evalsuite's own part: :func:`code_version`.
    """

    id: str
    modality: str
    dim: int
    weights_sha256: str
    weights_source: str
    backend: str
    preprocessing: dict[str, Any]
    code_version: str

    @property
    def key(self) -> str:
        """SHA-256 over all that features depend on: everything but where the weights were found."""
        record = asdict(self)
        del record["weights_source"]
        return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


class Model(ABC):
    """A model that knows what it is before it is loaded, and is loaded once.

    A run whose results are all cached never loads a model. All methods may be called from any
    thread.

    Attributes
    ----------
    info : EncoderInfo
        The record that goes into the report.
    """

    def __init__(self, info: EncoderInfo) -> None:
        self.info = info
        self._load_lock = threading.Lock()
        self._loaded = False

    @abstractmethod
    def _load(self) -> None:
        """Load the weights; called once."""

    @property
    def loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._loaded

    def load(self) -> None:
        """Load the weights now, not at the first use.

        Raises
        ------
        ModelError
            If the weights are not there any more, or do not fit the model.
        """
        with self._load_lock:
            if not self._loaded:
                self._load()
                self._loaded = True


class ImageEncoder(Model):
    """Turns decoded images into features.

    Nothing heavy happens until the first :meth:`forward`: :attr:`info` is known without loading
    the weights, so a run whose features are all cached never loads a model. All methods may be
    called from any thread.

    Every forward pass has one fixed batch shape, the last one padded. A sample's features do
    therefore not depend on which other samples there are: they are the same bit for bit in any
    order, in any company, however many of them came from the cache.

    Attributes
    ----------
    info : EncoderInfo
        The record that goes into the report.
    batch_size : int
        Images in one forward pass.
    parallel : int
        How many forward passes may usefully run at once, each from a thread of its own.
    """

    def __init__(self, info: EncoderInfo, batch_size: int, parallel: int) -> None:
        super().__init__(info)
        self.batch_size = batch_size
        self.parallel = parallel

    @abstractmethod
    def prepare(self, pixels: Image) -> npt.NDArray[Any]:
        """Resize and crop one decoded image (mode RGB or L) to the model's input, (C, H, W)."""

    @abstractmethod
    def _forward(self, batch: npt.NDArray[Any]) -> Features:
        """Run one batch of exactly :attr:`batch_size`."""

    def forward(self, batch: npt.NDArray[Any]) -> Features:
        """Compute the features of prepared images.

        Parameters
        ----------
        batch : ndarray, shape (B, C, H, W)
            Stacked results of :meth:`prepare`; any B.

        Returns
        -------
        ndarray of float32, shape (B, dim)

        Raises
        ------
        ModelError
            If the model cannot be loaded, or gives another shape or a value that is not finite.
        """
        self.load()
        rows = []
        for start in range(0, len(batch), self.batch_size):
            part = batch[start : start + self.batch_size]
            full = part
            if len(part) < self.batch_size:
                full = np.zeros((self.batch_size, *part.shape[1:]), dtype=part.dtype)
                full[: len(part)] = part
            features = self._forward(np.ascontiguousarray(full))
            if features.shape != (self.batch_size, self.info.dim):
                raise ModelError(
                    f"{self.info.id} gave features of shape {features.shape} for a batch of "
                    f"{self.batch_size}; {(self.batch_size, self.info.dim)} was expected"
                )
            features = features[: len(part)]
            if not np.isfinite(features).all():
                raise ModelError(
                    f"{self.info.id} gave features that are not finite: the weights "
                    f"({self.info.weights_source}) are damaged or not those of this model"
                )
            rows.append(features)
        if not rows:
            return np.empty((0, self.info.dim), dtype=np.float32)
        return np.concatenate(rows).astype(np.float32, copy=False)

    def forward_all(self, prepared: npt.NDArray[Any]) -> Features:
        """Compute the features of many prepared images, with all the threads that help.

        The bare forward pass: what benchmarks compare a whole run with.

        Parameters
        ----------
        prepared : ndarray, shape (n, C, H, W)

        Returns
        -------
        ndarray of float32, shape (n, dim)
            The same, bit for bit, as that of :meth:`forward`.
        """
        self.load()
        if len(prepared) == 0:
            return np.empty((0, self.info.dim), dtype=np.float32)
        parts = [
            prepared[start : start + self.batch_size]
            for start in range(0, len(prepared), self.batch_size)
        ]
        with ThreadPoolExecutor(self.parallel) as pool:
            return np.concatenate(list(pool.map(self.forward, parts)))


def code_version(*modules: str) -> str:
    """Give a digest of modules' source: what they computed is made anew when any of them changes.

    Parameters
    ----------
    modules : str
        Full names: ``evalsuite.data.images``. They are not imported.
    """
    digest = hashlib.sha256()
    for module in modules:
        spec = importlib.util.find_spec(module)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"no source of {module}")
        digest.update(Path(spec.origin).read_bytes())
    return digest.hexdigest()[:16]


def cpu_count() -> int:
    """Give the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def file_sha256(path: Path) -> str:
    """Give the SHA-256 of a file, as hex.

    Raises
    ------
    ModelError
        If it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"cannot read the weights {str(path)!r}: {error}") from error
