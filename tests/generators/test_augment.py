from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.generators import Item, Partners, generate_folder, parse_recipe, produce
from evalsuite.generators.image.augment import (
    AugMix,
    CutMix,
    CutPaste,
    MixUp,
    RandAugment,
    TrivialAugment,
    otsu,
)
from evalsuite.generators.image.diffusion import MOST_PARAMETERS, FlowSampler
from evalsuite.generators.image.unet import UNet


def flat(level: int, mode: str = "L", size: tuple[int, int] = (40, 30)) -> Image.Image:
    return Image.new(mode, size, level if mode == "L" else (level,) * 3)


def made(operation, first: Image.Image, second: Image.Image, variant: int = 0):  # type: ignore[no-untyped-def]
    items = [Item("a", first, "x"), Item("b", second, "y")]
    out, record = produce(operation, items[0], seed=1, variant=variant, partners=Partners(items))
    return np.asarray(out, np.float64), record


def test_mixup_is_the_weighted_mean_and_keeps_the_larger_half() -> None:
    for variant in range(20):
        out, record = made(MixUp(1.0), flat(200), flat(40, size=(13, 50)), variant)
        share = record.params["share"]
        assert 0.5 <= share <= 1
        assert np.abs(out - (share * 200 + (1 - share) * 40)).max() <= 0.5
        assert out.shape == (30, 40)
        assert record.parents == ("a", "b")
        assert record.params["partner"]["label"] == "y"


def test_cutmix_takes_the_asked_area() -> None:
    for variant in range(20):
        out, record = made(CutMix(1.0), flat(200, size=(200, 100)), flat(40), variant)
        assert set(np.unique(out)) <= {40, 200}
        assert (out == 40).mean() == pytest.approx(1 - record.params["share"], abs=0.02)


def disc(at: tuple[int, int], radius: int, size: int = 64) -> Image.Image:
    yy, xx = np.mgrid[0:size, 0:size]
    inside = (yy - at[0]) ** 2 + (xx - at[1]) ** 2 < radius**2
    return Image.fromarray(np.where(inside, 220, 30).astype(np.uint8))


def test_otsu_parts_two_levels_and_the_mask_is_the_thing() -> None:
    assert 30 <= otsu(np.asarray(disc((32, 32), 12), np.float64)) < 220
    paste = CutPaste("otsu", size=1.0, scale=1.0, edge=0.0)
    out, _ = made(paste, flat(100, size=(64, 64)), disc((32, 32), 12))
    assert (out == 220).sum() == (np.asarray(disc((32, 32), 12)) == 220).sum()
    assert set(np.unique(out)) == {100, 220}, "the window's background came along"
    # Dark on bright as well.
    dark = Image.fromarray(255 - np.asarray(disc((32, 32), 12)))
    out, _ = made(paste, flat(100, size=(64, 64)), dark)
    assert (out == 35).sum() == (np.asarray(dark) == 35).sum()
    with pytest.raises(ValueError, match="of one grey"):
        made(paste, flat(100), flat(7))


def test_a_soft_edge_blends_and_a_box_is_whole() -> None:
    out, _ = made(CutPaste("ellipse", size=1.0, scale=1.0, edge=0.1), flat(0, size=(64, 64)),
                  flat(255, size=(64, 64)))  # fmt: skip
    assert len(np.unique(out)) > 10
    assert out[0, 0] == 0
    out, record = made(CutPaste("box", size=0.5, scale=1.0, edge=0.0), flat(0, size=(64, 64)),
                       flat(255, size=(64, 64)))  # fmt: skip
    assert (out == 255).sum() == 32 * 32
    rows, columns = np.nonzero(out)
    assert rows.min() == round(record.params["to_y"] * 32)
    assert columns.min() == round(record.params["to_x"] * 32)


@pytest.mark.parametrize("policy", [RandAugment(), TrivialAugment(), AugMix()])
def test_policies_do_the_same_in_any_order_and_any_thread(
    policy: RandAugment, photos: dict[str, Image.Image]
) -> None:
    photo = photos["astronaut"].convert("RGB").resize((64, 64))
    items = [Item(str(i), photo) for i in range(16)]

    def digest(item: Item) -> str:
        return produce(policy, item, seed=1)[1].sha256

    alone = [digest(item) for item in items]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(digest, items)) == alone
    assert len(set(alone)) > 8
    grey = produce(policy, Item("g", photo.convert("L")), seed=1)[0]
    assert grey.mode == "L"
    with pytest.raises(ValueError, match="got P"):
        produce(policy, Item("p", photo.convert("P")), seed=1)


def test_a_second_parent_is_of_the_same_split(tmp_path: Path) -> None:
    items = [
        Item(f"{split}{i}", flat(10 * i + 20 * (split == "test"), size=(16, 16)), "c", split)
        for split in ("train", "test", "validation")
        for i in range(5)
    ]
    steps = "[mix_up: {}, cut_paste: {mask: box}]"
    recipe = parse_recipe(f"{{version: 1, seed: 3, variants: 6, steps: {steps}}}")
    report = recipe.run(items, tmp_path / "a", workers=2)
    rows = [json.loads(line) for line in (report.path / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 90
    for row in rows:
        assert len(row["parents"]) >= 2
        assert all(parent.startswith(row["split"]) for parent in row["parents"])
        assert row["parents"][0] not in row["parents"][1:]
    # The order of the items does not matter, nor who was there first.
    again = generate_folder(recipe.operation(), items[::-1], tmp_path / "b", seed=3, variants=6)
    ids = {row["id"]: row["sha256"] for row in rows}
    for line in (again.path / "metadata.jsonl").read_text().splitlines():
        row = json.loads(line)
        assert ids[row["id"]] == row["sha256"]
    alone = generate_folder(recipe.operation(), items[:5] + items[5:6], tmp_path / "c", seed=3)
    assert [f.id for f in alone.failures] == ["test0"]
    assert "no other item of this split" in alone.failures[0].reason


def classes(n: int, size: int = 16) -> list[Item]:
    """A bright top or a bright bottom, with noise."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(n):
        pixels = rng.normal(60, 15, (size, size))
        half = slice(None, size // 2) if i % 2 else slice(size // 2, None)
        pixels[half] += 120
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        found.append(Item(f"{i}", image, "top" if i % 2 else "bottom", "train"))
    return found


def test_the_flow_model_learns_its_classes(tmp_path: Path) -> None:
    losses: list[float] = []
    model = FlowSampler.fit(
        classes(32), size=16, width=8, steps=80, batch=16, draw_steps=8, rate=4e-3,
        progress=lambda step, loss: losses.append(loss),
    )  # fmt: skip
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:10])
    for label, sign in (("top", 1), ("bottom", -1)):
        items = [Item(str(i), label=label) for i in range(6)]
        drawn = [np.asarray(produce(model, item, seed=1)[0], float) for item in items]
        gaps = [x[:8].mean() - x[8:].mean() for x in drawn]
        assert np.mean(gaps) * sign > 40
    assert len({x.tobytes() for x in drawn}) == 6
    model.save(tmp_path / "m.npz")
    again = FlowSampler.load(tmp_path / "m.npz")
    item = Item("x", label="top")
    assert produce(again, item, seed=1)[1] == produce(model, item, seed=1)[1]
    short = {"size": 16, "width": 8, "steps": 2, "batch": 2}
    twice = [FlowSampler.fit(classes(8), **short).params for _ in range(2)]
    assert twice[0] == twice[1]
    with pytest.raises(ValueError, match="not one it was fitted on"):
        produce(model, Item("x", label="left"), seed=1)
    with pytest.raises(ValueError, match="multiple of 8"):
        FlowSampler.fit(classes(8), size=20)
    with pytest.raises(ValueError, match=f"at most {MOST_PARAMETERS:,}"):
        FlowSampler.fit(classes(8), size=16, width=128)


def test_the_default_network_is_small() -> None:
    count = sum(p.numel() for p in UNet(3, 48, 10).parameters())
    assert 1_000_000 < count < MOST_PARAMETERS


@pytest.mark.slow
def test_the_flow_model_draws_solar_cells(cells: list[Image.Image]) -> None:
    items = [Item(str(i), cell, "cell", "train") for i, cell in enumerate(cells)]
    model = FlowSampler.fit(items, width=16, steps=150, batch=16, rate=3e-3, draw_steps=16)
    drawn = np.stack([np.asarray(produce(model, Item(str(i), label="cell"), seed=1)[0], float)
                      for i in range(12)])  # fmt: skip
    real = np.stack([np.asarray(c.convert("L").resize((32, 32)), float) for c in cells])
    assert np.corrcoef(drawn.mean(axis=0).ravel(), real.mean(axis=0).ravel())[0, 1] > 0.8
    assert abs(drawn.mean() - real.mean()) < 25
