"""Selection by consistency: what is not of its caption, transcript or label is left out."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.correct.consistent import inconsistent
from evalsuite.correct.looks import Looks
from evalsuite.correct.selecting import select
from evalsuite.data import Sample, open_dataset
from evalsuite.encoders import Encoded, FeatureCache
from evalsuite.errors import DataError, UsageError
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.generators import Audio, Identity, Item, generate_folder, items_of

SPEECH = Path(__file__).parents[1] / "data" / "speech"
CAPTIONS = {
    "chelsea": "a tabby cat looks to the side",
    "coffee": "a cup of espresso on a wooden table",
    "rocket": "a rocket stands on its launch pad at night",
    "camera": "a man looks through a camera on a tripod",
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


def policy(modality: str, encoder: str, **ties: str | None) -> Policy:
    rules = load_policy().model_copy(update={"encoders": {modality: (encoder,)}, "min_samples": 12})
    return rules.model_copy(update={"ties": rules.ties.model_copy(update=ties)})


def crops(n: int, seed: int) -> list[Item]:
    """Views of four photographs, with their captions."""
    from skimage import data

    rng = np.random.default_rng(seed)
    found = []
    for name, caption in CAPTIONS.items():
        photo = Image.fromarray(getattr(data, name)()).convert("RGB").resize((300, 260))
        for k in range(n):
            x, y = (int(v) for v in rng.integers(0, 40, 2))
            found.append(Item(f"{name}{k}", photo.crop((x, y, x + 256, y + 216)), text=caption))
    return found


def test_wrong_captions_are_left_out(tmp_path: Path, cache: FeatureCache) -> None:
    made = crops(4, seed=1)
    wrong = {1, 6, 11}
    texts = list(CAPTIONS.values())
    made = [
        Item(i.id, i.image, text=texts[(k // 4 + 1) % 4] if k in wrong else i.text)
        for k, i in enumerate(made)
    ]
    made[15] = Item(made[15].id, made[15].image)  # no caption: there is nothing to hold it against
    for name, items in (("real", crops(8, seed=0)), ("made", made)):
        generate_folder(Identity(), items, tmp_path / name, seed=0)
    data = (open_dataset(tmp_path / "real"), open_dataset(tmp_path / "made"))
    looks = Looks("image", policy("image", "efficientnet_lite0"), cache, progress=False)
    left, right = (looks.at(part, part.name) for part in data)
    names = [s.id.split("~")[0] for s in right.samples]
    rows, what = select("consistency", left, right, data, range(16), looks, 0.5, 0)
    assert {names[row] for row in set(range(16)) - set(rows)} == {made[k].id for k in wrong}
    assert [m.id for m in what] == [
        "select_by_caption", "select_threshold", "select_unjudged", "select_kept"
    ]  # fmt: skip
    assert what[0].text.startswith("agreement with the caption (conse")
    assert what[2].text == "1 with nothing to hold them against stay"
    assert what[3].text == "13 of 16 kept"
    # Of what an earlier selection left, only that is judged.
    assert set(select("consistency", left, right, data, rows[:5], looks, 0.5, 0)[0]) == set(
        rows[:5]
    )
    without = Looks("image", policy("image", "efficientnet_lite0", image_text=None), cache)
    with pytest.raises(UsageError, match=r"ties\.image_text"):
        inconsistent(data, left, right, rows, without)


def test_wrong_transcripts_are_left_out(tmp_path: Path, cache: FeatureCache) -> None:
    spoken = list(items_of(open_dataset(SPEECH)))
    texts = [i.value(Identity("text").input) for i in spoken]
    sounds = [i.value(Identity("audio").input) for i in spoken]

    def louder(k: int, gain: float) -> Audio:
        return Audio((gain * sounds[k].samples).astype(np.float32), sounds[k].rate)

    n = len(spoken)
    real = [Item(f"r{k}", audio=louder(k % n, 1 - 0.02 * (k // n)), text=texts[k % n])
            for k in range(20)]  # fmt: skip
    made = [Item(f"m{k}", audio=louder(k, 0.7), text=texts[(k + (k == 2)) % n]) for k in range(4)]
    made.append(Item("m4", audio=louder(0, 0.6), text="…"))
    for name, items in (("real", real), ("made", made)):
        generate_folder(Identity("record"), items, tmp_path / name, seed=0)
    data = (open_dataset(tmp_path / "real"), open_dataset(tmp_path / "made"))
    looks = Looks("audio", policy("audio", "logmel_stats", language="en"), cache, progress=False)
    left, right = (looks.at(part, part.name) for part in data)
    out, what = inconsistent(data, left, right, range(5), looks)
    assert [right.samples[row].id.split("~")[0] for row in out] == ["m2"]
    assert "word errors against the transcript" in what[0].text
    assert what[-1].text == "1 with nothing to hold them against stay"


def as_encoded(rows: np.ndarray, labels: list[str | None]) -> Encoded:
    """Features as an encoder would have given them."""
    samples = [Sample(str(k), str(k), label=label) for k, label in enumerate(labels)]
    features = {"efficientnet_lite0": rows.astype(np.float32)}
    return Encoded(samples, [], features, {}, [], Counter(), [], "", [], [], 0, {})


def test_wrong_labels_are_left_out_and_few_right_ones(
    tmp_path: Path, cache: FeatureCache, cell_items: list[Item]
) -> None:
    looks = Looks("image", policy("image", "efficientnet_lite0"), cache, progress=False)
    generate_folder(Identity(), cell_items[:12], tmp_path / "any", seed=0)
    any_data = open_dataset(tmp_path / "any")
    rng = np.random.default_rng(0)
    labels: list[str | None] = ["often"] * 300 + ["rare"] * 60
    place = np.array([[3.0 * (label == "rare")] for label in labels])
    real = as_encoded(rng.standard_normal((360, 6)) + place, labels)
    wrong = [*range(20), *range(300, 310)]
    swapped = list(labels)
    for k in wrong:
        swapped[k] = "rare" if labels[k] == "often" else "often"
    made = as_encoded(rng.standard_normal((360, 6)) + place, swapped)
    out, what = inconsistent((any_data, any_data), real, made, range(360), looks)
    assert len(out & set(wrong)) >= 28
    assert len(out - set(wrong)) / 330 < 0.1  # one real sample of twenty is left out too
    assert "probability of the label" in what[0].text
    # Classes that look alike: the score says nothing, and that is said.
    blind = as_encoded(rng.standard_normal((360, 6)), labels)
    with pytest.raises(DataError, match="no more than a guess"):
        inconsistent((any_data, any_data), blind, made, range(360), looks)
    nameless = as_encoded(rng.standard_normal((360, 6)), [None, *labels[1:]])
    with pytest.raises(DataError, match="neither a text nor a label"):
        inconsistent((any_data, any_data), real, nameless, range(360), looks)
