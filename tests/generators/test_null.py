from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from evalsuite.errors import DataError
from evalsuite.generators import (
    Audio,
    Identity,
    Item,
    Noise,
    duplicates,
    produce,
    replay,
    resampled,
)


@pytest.fixture(scope="module")
def items() -> list[Item]:
    rng = np.random.default_rng(0)
    return [
        Item(
            f"i{k}",
            Image.fromarray(rng.integers(256, size=(16, 12, 3)).astype(np.uint8)),
            label=k % 2,
            split="test" if k < 5 else "train",
            group="pair" if k < 2 else None,
        )
        for k in range(20)
    ]


def test_identity_gives_the_same_content(items: list[Item]) -> None:
    made, record = produce(Identity(), items[0], seed=0)
    assert made is items[0].image
    assert record.sha256 == record.parent_sha256
    with pytest.raises(ValueError, match="did you mean 'image'"):
        Identity("imag")


def test_uniform_noise_has_nothing_of_the_image(items: list[Item]) -> None:
    black = Item("black", Image.new("RGB", (200, 100)))
    made, _ = produce(Noise(), black, seed=0)
    assert (made.size, made.mode) == ((200, 100), "RGB")
    counts = np.bincount(np.asarray(made).ravel(), minlength=256)
    # Chi-square with 255 degrees of freedom: 99.9 % lie under 331.
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 340


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_shuffled_pixels_keep_the_histogram_and_lose_the_place(mode: str) -> None:
    ramp = np.tile(np.arange(200, dtype=np.uint8), (50, 1))
    image = Image.fromarray(ramp if mode == "L" else np.stack([ramp, 255 - ramp, ramp], axis=2))
    made, _ = produce(Noise("shuffle"), Item("a", image), seed=0)
    assert sorted(made.get_flattened_data()) == sorted(image.get_flattened_data())
    a, b = (np.asarray(i, float).reshape(10_000, -1)[:, 0] for i in (image, made))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.05


def test_sound_becomes_noise_of_its_level() -> None:
    tone = Audio(0.3 * np.sin(np.arange(16_000) * 0.3).astype(np.float32), 16_000)
    item = Item("a", audio=tone)
    made, record = produce(Noise("uniform", "audio"), item, seed=0)
    rms = [np.sqrt(np.mean(x.samples.astype(float) ** 2)) for x in (tone, made)]
    assert rms[1] == pytest.approx(rms[0], rel=0.02)
    spectrum = np.abs(np.fft.rfft(made.samples)) ** 2
    assert spectrum.max() < 15 * spectrum.mean(), "white: no line is left"
    assert replay(record, tone).samples.tobytes() == made.samples.tobytes()
    shuffled, _ = produce(Noise("shuffle", "audio"), item, seed=0)
    np.testing.assert_allclose(np.sort(shuffled.samples), np.sort(tone.samples), atol=2e-5)
    loud = Audio(np.sign(tone.samples), 16_000)
    assert np.abs(Noise("uniform", "audio").apply(loud, {"seed": 1}).samples).max() <= 1


def test_text_becomes_letters_or_words_without_order() -> None:
    text = "The quick brown fox, 12 dogs! 太陽電池"
    made, record = produce(Noise("uniform", "text"), Item("a", text=text), seed=0)
    assert len(made) == len(text)
    assert [c for c in made if not c.isalnum()] == [c for c in text if not c.isalnum()]
    assert made != text
    assert replay(record, text) == made
    shuffled, _ = produce(Noise("shuffle", "text"), Item("a", text=text), seed=0)
    assert Counter(shuffled) == Counter(text)
    assert shuffled != text
    assert Noise("shuffle", "text").apply("…", {"seed": 1}) == "…"
    with pytest.raises(ValueError, match="no noise of modality 'label'"):
        Noise("uniform", "label")


def test_noise_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="did you mean 'shuffle'"):
        Noise("shufle")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="got CMYK"):
        produce(Noise(), Item("a", Image.new("CMYK", (9, 9))), seed=0)


def test_resampled_items_are_real_ones_that_keep_split_and_group(items: list[Item]) -> None:
    drawn = list(resampled(items, 20, seed=1))
    assert sorted(d.parents[0] for d in drawn) == sorted(i.id for i in items)
    assert [d.parents[0] for d in drawn] != [i.id for i in items]
    real = {i.id: i for i in items}
    for d in drawn:
        parent = real[d.parents[0]]
        assert (d.image, d.label, d.split) == (parent.image, parent.label, parent.split)
        assert d.group == (parent.group or parent.id)
    assert [d.id for d in drawn] == [d.id for d in resampled(items, 20, seed=1)]
    assert [d.id for d in drawn] != [d.id for d in resampled(items, 20, seed=2)]


def test_resampling_with_replacement_repeats_under_new_ids(items: list[Item]) -> None:
    drawn = list(resampled(items, 200, seed=0, replace=True))
    assert len({d.id for d in drawn}) == 200
    assert len({d.parents for d in drawn}) == 20


def test_duplicates_are_few_and_even(items: list[Item]) -> None:
    given = list(duplicates(items, 10, distinct=3, seed=0))
    assert sorted(Counter(d.parents for d in given).values()) == [3, 3, 4]
    assert len({d.id for d in given}) == 10


def test_no_data_raises(items: list[Item]) -> None:
    for n in (0, 21):
        with pytest.raises(DataError, match=f"cannot draw {n} of 20"):
            resampled(items, n, seed=0)
    with pytest.raises(DataError, match="cannot draw 1 of 0"):
        resampled([], 1, seed=0, replace=True)
    for distinct in (0, 11):
        with pytest.raises(DataError, match=f"from 1 to 10 .* got {distinct}"):
            duplicates(items, 10, distinct=distinct, seed=0)
