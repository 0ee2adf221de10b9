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
    from .items import Item as Item
    from .items import Partners as Partners
    from .null import Identity as Identity
    from .null import Noise as Noise
    from .null import duplicates as duplicates
    from .null import resampled as resampled
    from .protocol import Dropped as Dropped
    from .protocol import Hop as Hop
    from .protocol import LeakError as LeakError
    from .protocol import Operation as Operation
    from .protocol import RecipeError as RecipeError
    from .protocol import Refused as Refused
    from .protocol import ReplayError as ReplayError
    from .recipe import Recipe as Recipe
    from .recipe import load_recipe as load_recipe
    from .recipe import parse_recipe as parse_recipe
    from .recipe import recipe_schema as recipe_schema
    from .record import Record as Record
    from .record import produce as produce
    from .record import replay as replay
    from .registry import build as build
    from .registry import operation_names as operation_names
    from .registry import register as register
    from .registry import spec as spec
    from .source import items_of as items_of
    from .values import Audio as Audio
    from .values import Modality as Modality
    from .values import Parts as Parts
    from .values import content_hash as content_hash

_WHERE = {
    name: module
    for module, names in {
        ".combine": ("Chain", "Compose", "OneOf", "Sometimes", "Within"),
        ".folder": ("Failure", "FolderReport", "generate_folder"),
        ".formats": ("generate_dataset",),
        ".image.corruptions": ("CORRUPTIONS", "Corrupt", "corrupt"),
        ".image.learned": ("ClassSampler",),
        ".null": ("Identity", "Noise", "duplicates", "resampled"),
        ".items": ("Item", "Partners"),
        ".protocol": (
            "Dropped",
            "Hop",
            "LeakError",
            "Operation",
            "RecipeError",
            "Refused",
            "ReplayError",
        ),
        ".record": ("Record", "produce", "replay"),
        ".registry": ("build", "operation_names", "register", "spec"),
        ".values": ("Audio", "Modality", "Parts", "content_hash"),
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
