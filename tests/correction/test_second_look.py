from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from evalsuite.correct import in_real_units
from evalsuite.data.audio import DecodedAudio
from evalsuite.encoders.random_conv import _mel_filters, load_random_conv
from evalsuite.generators import Item, corrupt
from evalsuite.metrics.distribution.kernel import kernel_distance


def features(items: list[Image.Image]) -> np.ndarray:
    encoder = load_random_conv("image")
    return encoder.forward(np.stack([encoder.prepare(image) for image in items]))


def test_a_row_does_not_depend_on_its_company(cell_items: list[Item]) -> None:
    images = [i.image for i in cell_items[:4]]
    together = features(images)
    assert together.shape == (4, load_random_conv("image").info.dim)
    for row, image in zip(together, images, strict=True):
        assert np.array_equal(features([image])[0], row)


def gap(calibration: np.ndarray, real: np.ndarray, other: np.ndarray) -> float:
    found = kernel_distance(*in_real_units(calibration, real, other), "polynomial")
    return found.value / found.spread


def test_it_sees_what_a_correction_may_do_wrong(cell_items: list[Item]) -> None:
    images = [i.image for i in cell_items[:105]]
    calibration, real, other = (features(images[k::3]) for k in range(3))
    chance = gap(calibration, real, other)
    assert abs(chance) < 0.1
    for kind in ("gaussian_noise", "gaussian_blur", "contrast", "brightness"):
        spoilt = features([corrupt(i, kind, 2, seed=k) for k, i in enumerate(images[2::3])])
        assert gap(calibration, real, spoilt) > chance + 0.1, kind


def test_any_size_and_mode_is_taken(cell_items: list[Item]) -> None:
    image = cell_items[0].image
    for odd in (image.resize((20, 300)), image.resize((64, 64)), image.convert("RGB")):
        assert np.isfinite(features([odd])).all()
    assert np.array_equal(features([image]), features([image.convert("RGB")]))


def recording(x: np.ndarray) -> DecodedAudio:
    samples = x.astype(np.float32)
    return DecodedAudio(
        samples=samples, rate=16000, native=samples, source_rate=16000, channels=1,
        seconds=len(x) / 16000, format="WAV", subtype="PCM_16", notes=(),
    )  # fmt: skip


def test_sound_is_told_apart_by_band_and_level_and_any_length_is_taken() -> None:
    encoder = load_random_conv("audio")
    t = np.arange(16000) / 16000
    rng = np.random.default_rng(0)
    sounds = [0.3 * np.sin(2 * np.pi * 300 * t), 0.3 * np.sin(2 * np.pi * 3000 * t),
              0.03 * np.sin(2 * np.pi * 300 * t), 0.1 * rng.standard_normal(16000)]  # fmt: skip
    rows = encoder.embed([recording(x) for x in sounds])
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    again = encoder.embed([recording(sounds[0])])
    assert np.array_equal(again[0], rows[0])
    assert distance[~np.eye(4, dtype=bool)].min() > 0.05 * np.linalg.norm(rows, axis=1).min()
    for n in (1, 500, 16000 * 70):
        assert np.isfinite(encoder.embed([recording(0.1 * rng.standard_normal(n))])).all()


def test_the_mel_filters_peak_where_they_should() -> None:
    bank = _mel_filters()
    assert bank.shape == (64, 257)
    peaks = np.fft.rfftfreq(512, 1 / 16000)[bank.argmax(axis=1)]
    assert (np.diff(peaks) >= 0).all()
    assert peaks[-1] == pytest.approx(7350, abs=150)


def test_there_is_none_for_text() -> None:
    with pytest.raises(ValueError, match="for image and audio"):
        load_random_conv("text")
