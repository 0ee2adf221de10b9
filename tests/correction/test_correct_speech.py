"""The choice of corrections on sound, and selection by quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from evalsuite.correct import correct
from evalsuite.correct.drift import drifted, still_drifted
from evalsuite.correct.looks import Looks
from evalsuite.correct.selecting import select
from evalsuite.data import open_dataset
from evalsuite.encoders import FeatureCache
from evalsuite.errors import UsageError
from evalsuite.gate.policy import Policy, parse_policy
from evalsuite.generators import Audio, Identity, Item, generate_folder, items_of
from evalsuite.metrics.audio.attributes import ATTRIBUTES, loudness

SPEECH = Path(__file__).parents[1] / "data" / "speech"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return parse_policy("""
    version: 1
    encoders: {audio: [logmel_stats]}
    min_samples: 12
    scorers: {}
    rules: [{metric: kid, tolerance: 0.05}]
    calibration: {splits: 20, permutations: 99, costly_permutations: 99}
    """)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


def pieces() -> list[Audio]:
    """Pieces of the prompts of 0.8 s, one every 0.4 s."""
    found = []
    for item in items_of(open_dataset(SPEECH)):
        audio = item.value(Identity("audio").input)
        n = round(0.8 * audio.rate)
        found += [
            Audio(audio.samples[at : at + n], audio.rate)
            for at in range(0, len(audio.samples) - n + 1, n // 2)
        ]
    return found


def written(folder: Path, sounds: list[Audio]) -> Path:
    items = [Item(id=f"{folder.name}{k}", audio=sound) for k, sound in enumerate(sounds)]
    generate_folder(Identity("audio"), items, folder, seed=0)
    return folder


def at_loudness(sound: Audio, wanted: float) -> Audio:
    gain = 10 ** ((wanted - loudness(sound.samples, sound.rate)) / 20)
    return Audio((gain * sound.samples).astype(np.float32), sound.rate)


def test_one_helper_says_what_drifted_and_what_still_does(
    policy: Policy, tmp_path: Path, cache: FeatureCache
) -> None:
    """A tenth of a decibel is no drift, although the real set varies by less."""
    sounds = pieces()
    real = written(tmp_path / "real", [at_loudness(s, -30.0) for s in sounds[::2]])
    made = written(tmp_path / "made", [at_loudness(s, -30.1) for s in sounds[1::2]])
    looks = Looks("audio", policy, cache, progress=False)
    left, right = (looks.at(open_dataset(f), f.name) for f in (real, made))
    spread = np.std(left.attributes["loudness"])
    assert spread < 0.1 * ATTRIBUTES["loudness"].step
    assert np.ptp(np.concatenate([left.attributes["loudness"], right.attributes["loudness"]])) > (
        5 * spread
    )
    first = {d.attribute for d in drifted(left, right, policy)}
    again = still_drifted(left, right, policy, list(items_of(open_dataset(made))))
    assert first == again
    assert "loudness" not in first
    # Six decibels are one, and both say so.
    low = written(tmp_path / "low", [at_loudness(s, -36.0) for s in sounds[1::2]])
    quiet = looks.at(open_dataset(low), "low")
    items = list(items_of(open_dataset(low)))
    assert "loudness" in {d.attribute for d in drifted(left, quiet, policy)}
    assert "loudness" in still_drifted(left, quiet, policy, items)


def test_quality_leaves_out_what_is_worse_than_nearly_all_real_speech(
    policy: Policy, tmp_path: Path, cache: FeatureCache
) -> None:
    sounds = pieces()[:24]
    rng = np.random.default_rng(0)
    hiss = 0.1 * rng.standard_normal(sounds[0].samples.size)
    made = [
        Audio((s.samples + hiss * (k % 2)).astype(np.float32), s.rate)
        for k, s in enumerate(sounds[1::2])
    ]
    data = tuple(
        open_dataset(written(tmp_path / name, part))
        for name, part in (("real", sounds[::2]), ("made", made))
    )
    looks = Looks("audio", policy, cache, progress=False)
    left, right = (looks.at(part, part.name) for part in data)
    rows, what = select("quality", left, right, data, range(len(right)), looks, 0.5, 0)
    names = [int(s.id.split("~")[0].removeprefix("made")) for s in right.samples]
    noisy = {row for row, k in enumerate(names) if k % 2}
    assert not noisy & set(rows)
    assert len(rows) >= 5
    assert what[0].text == "dnsmos_ovrl of the worst 5% of real samples or more"
    grades = [looks.grades(*of) for of in zip(data, (left, right), strict=True)]
    assert min(grades[1][row] for row in rows) >= np.nanquantile(grades[0], 0.05)
    # Of what an earlier selection left, only that is chosen from.
    assert select("quality", left, right, data, rows[:3], looks, 0.5, 0)[0] == rows[:3]


def test_there_is_no_quality_of_images(tmp_path: Path, cell_items: list[Item]) -> None:
    generate_folder(Identity(), cell_items[:30], tmp_path / "a", seed=0)
    with pytest.raises(UsageError, match="quality is a grade of speech"):
        correct(tmp_path / "a", tmp_path / "a", out=tmp_path / "out", using=("quality",))
