"""Samples in, samples out, with provenance.

Names are loaded on first use, so that importing this package stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .combine import Chain as Chain
    from .combine import Compose as Compose
    from .combine import OneOf as OneOf
    from .combine import Sometimes as Sometimes
    from .combine import Within as Within
    from .folder import Failure as Failure
    from .folder import FolderReport as FolderReport
    from .folder import generate_folder as generate_folder
    from .formats import generate_dataset as generate_dataset
    from .image.corruptions import CORRUPTIONS as CORRUPTIONS
    from .image.corruptions import Corrupt as Corrupt
    from .image.corruptions import corrupt as corrupt
    from .image.learned import ClassSampler as ClassSampler
    from .null import Identity as Identity
    from .null import Noise as Noise
    from .null import duplicates as duplicates
    from .null import resampled as resampled
    from .protocol import Audio as Audio
    from .protocol import Dropped as Dropped
    from .protocol import Hop as Hop
    from .protocol import Item as Item
    from .protocol import LeakError as LeakError
    from .protocol import Modality as Modality
    from .protocol import Operation as Operation
    from .protocol import Partners as Partners
    from .protocol import Parts as Parts
    from .protocol import RecipeError as RecipeError
    from .protocol import Record as Record
    from .protocol import Refused as Refused
    from .protocol import ReplayError as ReplayError
    from .protocol import build as build
    from .protocol import content_hash as content_hash
    from .protocol import operation_names as operation_names
    from .protocol import produce as produce
    from .protocol import register as register
    from .protocol import replay as replay
    from .protocol import spec as spec
    from .recipe import Recipe as Recipe
    from .recipe import load_recipe as load_recipe
    from .recipe import parse_recipe as parse_recipe
    from .recipe import recipe_schema as recipe_schema
    from .source import items_of as items_of

_WHERE = {
    name: module
    for module, names in {
        ".combine": ("Chain", "Compose", "OneOf", "Sometimes", "Within"),
        ".folder": ("Failure", "FolderReport", "generate_folder"),
        ".formats": ("generate_dataset",),
        ".image.corruptions": ("CORRUPTIONS", "Corrupt", "corrupt"),
        ".image.learned": ("ClassSampler",),
        ".null": ("Identity", "Noise", "duplicates", "resampled"),
        ".protocol": (
            "Audio",
            "Dropped",
            "Hop",
            "Item",
            "LeakError",
            "Modality",
            "Operation",
            "Partners",
            "Parts",
            "RecipeError",
            "Record",
            "Refused",
            "ReplayError",
            "build",
            "content_hash",
            "operation_names",
            "produce",
            "register",
            "replay",
            "spec",
        ),
        ".source": ("items_of",),
        ".recipe": ("Recipe", "load_recipe", "parse_recipe", "recipe_schema"),
    }.items()
    for name in names
}


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(_WHERE[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_WHERE)
