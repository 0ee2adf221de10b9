"""Every registered operation, in one table: built from its description, run, replayed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalsuite.generators import (
    Audio,
    ClassSampler,
    Item,
    Modality,
    Operation,
    Partners,
    Record,
    ReplayError,
    build,
    content_hash,
    operation_names,
    produce,
    replay,
    spec,
)
from evalsuite.generators.fitted import Fitted
from evalsuite.generators.image.diffusion import FlowSampler
from evalsuite.generators.protocol import needs_partners
from evalsuite.generators.registry import operation_class
from evalsuite.generators.text.learned import NgramWriter, Synonyms, TfIdfReplace

# Corrections, endpoints and privacy have tests of their own; so have tests' own operations.
OURS = tuple(f"evalsuite.generators.{part}" for part in
             ("combine", "null", "image", "audio", "text", "crossmodal"))  # fmt: skip
NAMES = [n for n in operation_names() if operation_class(n).__module__.startswith(OURS)]

RNG = np.random.default_rng(0)


def _item(i: int, *, grey: bool = False) -> Item:
    shape = (40, 48) if grey else (40, 48, 3)
    yy, xx = np.mgrid[0:40, 0:48]
    blob = 150 * ((yy - 20) ** 2 + (xx - 10 - 5 * i) ** 2 < 80)
    pixels = RNG.integers(0, 80, shape) + (blob if grey else blob[..., None])
    t = np.arange(8000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * (300 + 40 * i) * t) * (t < 0.4)
    noise = 0.01 * RNG.standard_normal(t.size)
    return Item(
        f"i{i}",
        Image.fromarray(pixels.astype(np.uint8)),
        label=["red", "blue"][i % 2],
        split="train",
        audio=Audio((tone + noise).astype(np.float32), 16000),
        text=f"the quick fox number {i} sees the red moon and the sun",
    )


ITEMS = [_item(i) for i in range(6)]
GREY = [_item(i, grey=True) for i in range(6)]


STILL = {"band_limit", "class_sampler", "codec", "flow_sampler", "identity", "parse_label",
         "speak_flite"}  # fmt: skip
"""By their defaults they draw nothing but a voice; or drawing is slow, and tested elsewhere."""


def built(name: str, **params: Any) -> Callable[[], Operation]:
    return lambda: build({"name": name, "version": 1, "params": params})


SPEC_NOISE = {"name": "noise", "version": 1, "params": {}}
SPEC_FOG = {"name": "corrupt", "version": 1, "params": {"kind": "fog"}}
SPEC_MIX = {"name": "mix_up", "version": 1, "params": {}}
FITTED: dict[str, Callable[[], Operation]] = {
    "class_sampler": lambda: ClassSampler.fit(ITEMS, size=8, components=1),
    "flow_sampler": lambda: FlowSampler.fit(
        ITEMS, size=16, width=8, steps=2, batch=2, draw_steps=2
    ),
    "ngram": lambda: NgramWriter.fit(ITEMS),
    "synonyms": lambda: Synonyms.fit(ITEMS),
    "tfidf_replace": lambda: TfIdfReplace.fit(ITEMS),
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "chain": {"operations": [SPEC_FOG, SPEC_NOISE]},
    "compose": {"operations": [SPEC_MIX, SPEC_FOG]},
    "corrupt": {"kind": "elastic"},
    "one_of": {"operations": [SPEC_FOG, SPEC_MIX]},
    "parse_label": {"labels": ["red", "blue"]},
    "sometimes": {"operation": SPEC_FOG},
    "speak": {"voices": ["en-us", "ja+f2"]},
    "speak_flite": {"voices": ["slt", "rms"]},
    "template": {"rules": {"start": ["a {size} {label}"], "size": ["big", "small"]}},
    "swap_slots": {"slots": {"colour": ["red", "blue"]}, "digits": True},
    "within": {"operation": SPEC_MIX},
}
TABLE = {
    name: FITTED.get(name) or built(name, **ARGUMENTS.get(name, {})) for name in NAMES
} | {
    f"typos {kind}": built("typos", kind=kind) for kind in ("ocr", "homoglyph", "case", "omission")
} | {
    f"codec {kind}": built("codec", kind=kind)
    for kind in ("mu_law", "a_law", "ima_adpcm", "gsm", "vorbis", "opus")
} | {
    f"add_noise {colour}": built("add_noise", colour=colour)
    for colour in ("pink", "brown", "blue", "violet")
} | {
    f"noise {modality}": built("noise", modality=modality) for modality in ("audio", "text")
} | {f"cut_paste {mask}": built("cut_paste", mask=mask) for mask in ("ellipse", "box")}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_it_is_made_again_from_its_record_to_the_byte(name: str) -> None:
    if name.startswith("speak_flite") and shutil.which("flite") is None:
        pytest.skip("flite is not installed")
    operation = TABLE[name]()
    assert isinstance(operation, Operation)
    learned = operation if isinstance(operation, Fitted) else None
    if learned is None:
        described = json.loads(json.dumps(spec(operation)))
        assert spec(build(described)) == described
    for items in (ITEMS, GREY) if operation.input == Modality.IMAGE else (ITEMS,):
        partners = Partners(items) if needs_partners(operation) else None
        for variant in range(3):
            item = items[variant]
            made, record = produce(operation, item, seed=5, variant=variant, partners=partners)
            again, twin = produce(operation, item, seed=5, variant=variant, partners=partners)
            assert twin == record
            assert content_hash(again) == content_hash(made) == record.sha256
            read = Record.from_row(json.loads(json.dumps(record.to_row())))
            assert read == record
            parent = item.value(operation.input)
            back = replay(read, parent, learned, partners=partners)
            assert content_hash(back) == record.sha256
            assert record.parent_sha256 == content_hash(parent), "the parent was changed in place"
            # What was drawn settles it: nothing else decides.
            if isinstance(made, Image.Image):
                assert made.mode == "L" if items is GREY and learned is None else made.mode
        if partners is not None and "partner" in json.dumps(record.params):
            assert len(record.parents) == 2
            with pytest.raises(ReplayError, match="as partners="):
                replay(record, parent)
            with pytest.raises(ReplayError, match="not among"):
                replay(record, parent, partners=Partners(items[variant : variant + 1]))


@pytest.mark.parametrize("name", sorted(set(NAMES) - STILL))
def test_two_items_and_two_seeds_draw_apart(name: str) -> None:
    operation = TABLE[name]()
    items = [Item(f"{k}", ITEMS[0].image, "red", audio=ITEMS[0].audio, text=ITEMS[0].text)
             for k in range(4)]  # fmt: skip
    partners = Partners(ITEMS)
    drawn = {
        json.dumps(produce(operation, item, seed=seed, partners=partners)[1].params)
        for item in items
        for seed in (1, 2)
    }
    assert len(drawn) > 1


def test_torchs_and_numpys_state_are_neither_read_nor_changed() -> None:
    import random

    import torch

    for name in ("rand_augment", "trivial_augment", "aug_mix", "pitch", "add_noise", "mix_up"):
        torch.manual_seed(1)
        np.random.seed(1)  # noqa: NPY002 - the state that must not matter
        random.seed(1)
        before = (torch.random.get_rng_state().clone(), np.random.get_state()[1].copy())  # noqa: NPY002
        partners = Partners(ITEMS)
        first = produce(TABLE[name](), ITEMS[0], seed=1, partners=partners)[1]
        assert torch.equal(before[0], torch.random.get_rng_state())
        assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
        torch.manual_seed(2)
        np.random.seed(2)  # noqa: NPY002
        assert produce(TABLE[name](), ITEMS[0], seed=1, partners=partners)[1] == first
