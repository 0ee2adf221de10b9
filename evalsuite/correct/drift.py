"""What the corrections are chosen by: attributes that drift, and the gap that must not rise."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..data import open_dataset
from ..pipeline.explain import drifted_attributes, notable_drift
from ..pipeline.plan import sample_groups
from .result import Drifted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..encoders import Encoded
    from ..gate.policy import Policy
    from ..generators import Item
    from .looks import Looks

GAP_ITEMS = 150
"""Samples on which ``auto`` tries whether a correction lowers the gap."""


def drifted(calibration: Encoded, synthetic: Encoded, policy: Policy) -> tuple[Drifted, ...]:
    """Name what drifted, on the half that corrections are fitted on: the other one only judges."""
    groups = sample_groups(calibration, synthetic)
    found = drifted_attributes(calibration, synthetic.attributes, groups, policy)
    return tuple(
        Drifted(f.metric, float(f.details["effect"]), str(f.details["acts"]), ())
        for f in notable_drift(found.findings)
    )


def still_drifted(
    calibration: Encoded, synthetic: Encoded, policy: Policy, items: Sequence[Item]
) -> set[str]:
    """Name the attributes that differ between the calibration half and items in memory.

    The items are what became of the samples of ``synthetic``, and have their ids.
    """
    rows = [_attributes(item, calibration.modality) for item in items]
    # Models' scores are not measured anew.
    measured = {
        name: np.array([row.get(name, np.nan) for row in rows], np.float64)
        for name in calibration.attributes
        if any(name in row for row in rows)
    }
    left, right = sample_groups(calibration, synthetic)
    if right is not None:
        known = dict(zip((s.id for s in synthetic.samples), right, strict=True))
        right = [known.get(item.id, item.id) for item in items]
    found = drifted_attributes(calibration, measured, (left, right), policy)
    return {f.metric for f in notable_drift(found.findings)}


def gap(calibration: Encoded, looks: Looks, items: Sequence[Item]) -> float:
    """Measure how far items in memory are from the calibration half, in the policy's encoders."""
    from ..generators import Identity, generate_folder
    from ..metrics.distribution.kernel import kernel_distance

    with tempfile.TemporaryDirectory() as folder:
        # Through files, as the gate will see them.
        generate_folder(Identity(looks.modality), items[:GAP_ITEMS], Path(folder) / "x", seed=0)
        found = looks.at(open_dataset(Path(folder) / "x"), "corrected so far", second=False)
    distances = [
        kernel_distance(calibration.features[e], found.features[e], "polynomial") for e in looks.own
    ]
    return float(np.mean([d.value / d.spread for d in distances]))


def _attributes(item: Item, modality: str) -> dict[str, float]:
    from ..generators.values import Modality

    value = item.value(Modality(modality))
    if modality == "image":
        from ..metrics.image.attributes import image_attributes

        return image_attributes(np.asarray(value, np.uint8))
    if modality == "audio":
        from ..metrics.audio.attributes import audio_attributes

        return audio_attributes(value.samples, value.rate)
    from ..metrics.text.attributes import text_attributes

    return text_attributes(value)
