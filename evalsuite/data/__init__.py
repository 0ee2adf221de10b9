"""Data sets: find, read, validate and fingerprint them, without trusting what is in them.

The names below are loaded on first use: a plain folder of images needs neither ``datasets`` nor
``pyarrow``, and ``evalsuite --help`` needs nothing of this.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio import DecodedAudio as DecodedAudio
    from .audio import decode_audio as decode_audio
    from .dataset import BadSample as BadSample
    from .dataset import Dataset as Dataset
    from .dataset import Limits as Limits
    from .dataset import Problem as Problem
    from .dataset import Sample as Sample
    from .dataset import open_dataset as open_dataset
    from .images import DecodedImage as DecodedImage
    from .images import decode_image as decode_image
    from .images import sample_hash as sample_hash
    from .images import set_fingerprint as set_fingerprint

_LAZY = {
    "DecodedAudio": "audio",
    "decode_audio": "audio",
    "BadSample": "dataset",
    "Dataset": "dataset",
    "Limits": "dataset",
    "Problem": "dataset",
    "Sample": "dataset",
    "open_dataset": "dataset",
    "DecodedImage": "images",
    "decode_image": "images",
    "sample_hash": "images",
    "set_fingerprint": "images",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605 - the table above is the one list of names


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
