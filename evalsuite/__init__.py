"""Says whether synthetic or vendor data is fit to train on.

The public names below are loaded on first use, so that ``evalsuite --help`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .pipeline.run import gate as gate

__version__ = "0.1.0"
__all__ = ["__version__", "gate"]

_LAZY = {"gate": "evalsuite.pipeline.run"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'evalsuite' has no attribute {name!r}")
