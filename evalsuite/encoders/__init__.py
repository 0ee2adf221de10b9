"""Encoders: find a model, turn media into features, remember what was computed.

The names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .asr import load_transcriber as load_transcriber
    from .base import EncoderInfo as EncoderInfo
    from .base import ImageEncoder as ImageEncoder
    from .cache import FeatureCache as FeatureCache
    from .cache import default_cache_dir as default_cache_dir
    from .encoding import Encoded as Encoded
    from .encoding import encode as encode
    from .registry import ModelRow as ModelRow
    from .registry import check_models as check_models
    from .registry import list_models as list_models
    from .registry import load_encoder as load_encoder
    from .speech import load_audio_encoder as load_audio_encoder
    from .speech import load_scorer as load_scorer
    from .text import load_text_encoder as load_text_encoder

_LAZY = {
    "EncoderInfo": "base",
    "ImageEncoder": "base",
    "FeatureCache": "cache",
    "default_cache_dir": "cache",
    "Encoded": "encoding",
    "encode": "encoding",
    "ModelRow": "registry",
    "check_models": "registry",
    "list_models": "registry",
    "load_audio_encoder": "speech",
    "load_encoder": "registry",
    "load_scorer": "speech",
    "load_text_encoder": "text",
    "load_transcriber": "asr",
}
__all__ = sorted(_LAZY)  # noqa: PLE0605 - the table above is the one list of names


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
