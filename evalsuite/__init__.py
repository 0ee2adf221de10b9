"""Says whether synthetic or vendor data is fit to train on.

The public names below are loaded on first use, so that ``evalsuite --help`` stays quick.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline.run import gate as gate

# ONNX Runtime since 1.29 writes an id into the home folder and sends events to its makers unless
# this is set before it is first imported: evalsuite promises neither to happen.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
__all__ = ["__version__", "gate"]

_LAZY = {"gate": "evalsuite.pipeline.run"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
