from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from evalsuite.errors import DataError, UsageError
from evalsuite.generators import Item, LeakError, build, corrupt, generate_folder, produce, replay
from evalsuite.generators.correction.base import (
    Correction,
    NotCorrectableError,
    correction_class,
    correction_names,
    corrections_for,
    fit_chain,
)
from evalsuite.generators.correction.image import (
    FourierAdaptation,
    MatchHistogram,
    MatchJpeg,
    MatchNoise,
    MatchSharpness,
    MatchSize,
    MongeKantorovich,
    Reinhard,
)
from evalsuite.generators.protocol import rng_of
from evalsuite.generators.registry import spec
from evalsuite.metrics.image.attributes import image_attributes

Change = Callable[[Image.Image, int], Image.Image]


def changed(items: list[Item], change: Change) -> list[Item]:
    """Apply a known fault to every item."""
    return [
        Item(id=f"syn-{item.id}", image=change(item.image, k), label=item.label)
        for k, item in enumerate(items)
    ]


def mean_of(items: list[Item], name: str) -> float:
    return float(np.mean([image_attributes(np.asarray(i.image))[name] for i in items]))


def darker(image: Image.Image, _: int) -> Image.Image:
    return image.point(lambda v: round(0.6 * v))


def blurred(image: Image.Image, _: int) -> Image.Image:
    return corrupt(image, "gaussian_blur", 1.5, seed=0)


def noisy(image: Image.Image, k: int) -> Image.Image:
    return corrupt(image, "gaussian_noise", 1, seed=k)


def corrected(items: list[Item], correction: Correction) -> list[Item]:
    return [produced(item, correction) for item in items]


def produced(item: Item, correction: Correction) -> Item:
    image, _ = produce(correction, item, seed=1)
    return Item(id=item.id, image=image, label=item.label)


def coded(image: Image.Image, _: int) -> Image.Image:
    return corrupt(image, "jpeg", 3, seed=0)


def halved(image: Image.Image, _: int) -> Image.Image:
    return image.resize((image.width // 2, image.height // 2))


CASES = [
    (MatchHistogram, darker, ("brightness", "contrast")),
    (Reinhard, darker, ("brightness", "contrast")),
    (MongeKantorovich, darker, ("brightness", "contrast")),
    (FourierAdaptation, darker, ("brightness",)),
    (MatchSharpness, blurred, ("sharpness", "high_frequency")),
    (MatchNoise, noisy, ("noise",)),
    (MatchSize, halved, ("width", "height")),
]


@pytest.mark.parametrize(("cls", "fault", "moved"), CASES)
def test_a_correction_brings_its_attributes_to_real_data_it_has_not_seen(
    cls: type[Correction], fault, moved, calibration, judge, source
) -> None:
    synthetic = changed(source, fault)
    fixed = corrected(synthetic, cls.fit(calibration, synthetic))
    assert set(moved) <= cls.acts_on
    for name in moved:
        wanted, before, after = (mean_of(s, name) for s in (judge, synthetic, fixed))
        assert abs(after - wanted) < 0.4 * abs(before - wanted), (name, wanted, before, after)


def test_a_set_that_needs_no_correction_stays_near_what_it_was(calibration, source) -> None:
    chain = fit_chain(
        ["match_histogram", "match_noise", "match_sharpness"], calibration, source
    ).corrections
    fixed = source
    for correction in chain:
        fixed = corrected(fixed, correction)
    changes = [
        np.abs(np.asarray(a.image, float) - np.asarray(b.image, float)).mean()
        for a, b in zip(fixed, source, strict=True)
    ]
    # Sampling error of 60 cells moves the mean level by a few grey levels, and no more.
    assert np.mean(changes) < 6


@pytest.mark.parametrize("name", correction_names("image"))
def test_the_description_alone_gives_the_same_bytes(name, calibration, source) -> None:
    real = changed(calibration, coded) if name == "match_jpeg" else calibration
    correction = correction_class(name).fit(real, source)
    described = json.loads(json.dumps(spec(correction)))
    assert spec(build(described)) == described
    image, record = produce(correction, source[0], seed=5)
    assert np.array_equal(np.asarray(replay(record, source[0].image)), np.asarray(image))
    assert image.mode == "L"


@pytest.mark.parametrize("name", ["match_histogram", "match_sharpness", "fourier_adaptation"])
def test_the_fit_does_not_depend_on_the_order_of_the_items(name, calibration, source) -> None:
    cls = correction_class(name)
    one = cls.fit(calibration, source, seed=2)
    other = cls.fit(calibration[::-1], source[::-1], seed=2)
    assert one.params == other.params


def test_colour_transfers_give_the_moments_of_the_real_colours(colour_items) -> None:
    def reddish(image: Image.Image, _: int) -> Image.Image:
        x = np.asarray(image, float) @ [[0.7, 0.2, 0], [0.1, 0.5, 0.1], [0, 0, 0.4]] + [60, 10, 0]
        return Image.fromarray(np.clip(x, 0, 255).astype(np.uint8))

    synthetic = changed(colour_items, reddish)

    def colours(items: list[Item]) -> np.ndarray:
        return np.concatenate([np.asarray(i.image, float).reshape(-1, 3) for i in items])

    wanted, before = colours(colour_items), colours(synthetic)
    for cls in (Reinhard, MongeKantorovich, MatchHistogram):
        after = colours(corrected(synthetic, cls.fit(colour_items, synthetic)))
        means = [np.abs(x.mean(0) - wanted.mean(0)).max() for x in (before, after)]
        # Reinhard matches means in log space, which are no means of colours.
        assert means[1] < 0.4 * means[0], (cls.name, means)
    mk = colours(corrected(synthetic, MongeKantorovich.fit(colour_items, synthetic)))
    gaps = [np.linalg.norm(np.cov(x.T) - np.cov(wanted.T)) for x in (before, mk)]
    # Clipping at 255 keeps it from being exact.
    assert gaps[1] < 0.15 * gaps[0], gaps


def test_the_transport_map_has_its_closed_form() -> None:
    from evalsuite.generators.correction.image import _transport

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((3, 8)) for _ in range(2))
    s, r = 100 * a @ a.T, 100 * b @ b.T
    t = _transport(s, r)
    assert np.allclose(t @ s @ t.T, r, rtol=1e-3, atol=1)
    assert np.allclose(t, t.T)
    assert np.linalg.eigvalsh(t).min() > 0
    # Between covariances that commute it is the ratio of the standard deviations.
    assert np.allclose(_transport(np.diag([4.0, 9, 1]), np.diag([16.0, 1, 1])),
                       np.diag([2, 1 / 3, 1]), atol=1e-4)  # fmt: skip


def test_histogram_matching_follows_a_known_gamma(calibration) -> None:
    gamma = changed(calibration, lambda im, _: im.point(lambda v: round(255 * (v / 255) ** 1.8)))
    curve = MatchHistogram.fit(calibration, gamma)
    grey = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    made = np.asarray(curve.apply(grey, {}), float)[0]
    wanted = 255 * (np.arange(256) / 255) ** (1 / 1.8)
    seen = np.asarray([np.percentile(np.asarray(i.image), [5, 95]) for i in gamma]).mean(0)
    inside = slice(int(seen[0]), int(seen[1]))
    assert np.abs(made - wanted)[inside].max() < 4


def test_fourier_adaptation_swaps_low_amplitudes_and_keeps_the_rest(calibration, source) -> None:
    op = FourierAdaptation.fit(calibration, source)
    x = np.asarray(source[0].image, float)[..., None]
    params = op.sample_params(rng_of(0))
    made = op._corrected(x, params)[..., 0]
    before, after = np.fft.fft2(x[..., 0]), np.fft.fft2(made)
    real = next(
        np.fft.fft2(np.asarray(i.image, float))
        for i in calibration
        if np.isclose(np.abs(np.fft.fft2(np.asarray(i.image, float))[0, 0]) / x.size,
                      op.bank[params["row"], 0, 0, 0], rtol=1e-4)
    )  # fmt: skip
    low = np.ix_([0, 1, 2, -2, -1], [0, 1, 2])
    assert np.allclose(np.abs(after[low]), np.abs(real[low]), rtol=1e-3, atol=1)
    assert np.allclose(np.angle(after[low]), np.angle(before[low]), atol=1e-6)
    assert np.allclose(after[10:50, 10:50], before[10:50, 10:50])


def test_classes_are_mixed_alike_before_tones_are_compared(source) -> None:
    bright = [Item(id=f"b{k}", image=i.image.point(lambda v: min(255, v + 60)), label="bright")
              for k, i in enumerate(source[:30])]  # fmt: skip
    dark = [Item(id=f"d{k}", image=i.image.point(lambda v: v // 3), label="dark")
            for k, i in enumerate(source[30:])]  # fmt: skip
    # The same classes, mixed otherwise: there is nothing to correct in a sample.
    real, synthetic = [*bright, *dark[:6]], [*bright[:6], *dark]
    fixed = corrected(synthetic, MatchHistogram.fit(real, synthetic))
    for label in ("bright", "dark"):
        before, after = (
            mean_of([i for i in s if i.label == label], "brightness") for s in (synthetic, fixed)
        )
        assert abs(after - before) < 12, (label, before, after)
    blind = MatchHistogram.fit(
        [Item(id=i.id, image=i.image) for i in real],
        [Item(id=i.id, image=i.image) for i in synthetic],
    )
    pushed = mean_of(corrected([i for i in synthetic if i.label == "dark"], blind), "brightness")
    assert pushed > mean_of(dark, "brightness") + 40


def test_compression_is_added_and_never_taken_away(calibration, source) -> None:
    real = changed(calibration, coded)
    op = MatchJpeg.fit(real, source)
    fixed = corrected(source, op)
    wanted, before = mean_of(real, "blockiness"), mean_of(source, "blockiness")
    assert abs(mean_of(fixed, "blockiness") - wanted) < 0.5 * abs(before - wanted)
    with pytest.raises(NotCorrectableError, match="compression cannot be undone"):
        MatchJpeg.fit(calibration, changed(source, coded))
    chain = fit_chain(["match_jpeg", "reinhard"], calibration, changed(source, coded), strict=False)
    assert [name for name, _ in chain.skipped] == ["match_jpeg"]
    assert [c.name for c in chain.corrections] == ["reinhard"]


def test_grey_sets_stay_grey_and_colour_sets_become_grey(colour_items, calibration) -> None:
    op = MatchHistogram.fit(calibration, colour_items)
    assert produce(op, colour_items[0], seed=0)[0].mode == "L"
    back = MatchHistogram.fit(colour_items, calibration)
    assert produce(back, calibration[0], seed=0)[0].mode == "RGB"


def test_what_was_fitted_on_a_held_out_split_cannot_make_training_data(
    calibration, source, tmp_path
) -> None:
    real = [Item(id=i.id, image=i.image, split="test") for i in calibration]
    op = Reinhard.fit(real, source)
    with pytest.raises(LeakError, match="held-out split 'test'"):
        generate_folder(op, source[:2], tmp_path / "out", seed=0, split="train")


def test_unreadable_samples_cost_themselves_and_an_unreadable_set_is_an_error(source) -> None:
    def broken() -> Image.Image:
        raise OSError("cut off")

    bad = Item(id="bad", image=broken)
    assert Reinhard.fit([bad, *source], source).params == Reinhard.fit(source, source).params
    with pytest.raises(DataError, match=r"no image of the 1 real samples can be read.*cut off"):
        Reinhard.fit([bad], source)


def test_attributes_choose_corrections_in_order() -> None:
    assert corrections_for(["sharpness", "brightness"], "image") == (
        "match_histogram",
        "match_sharpness",
        "match_histogram",
    )
    assert corrections_for(["brightness", "contrast"], "image") == ("match_histogram",)
    assert corrections_for(["blockiness", "width"], "image") == ("match_size", "match_jpeg")
    assert corrections_for([], "image") == ()
    with pytest.raises(UsageError, match="did you mean 'match_noise'"):
        correction_class("match_noize")


@pytest.mark.parametrize(
    ("cls", "arguments"),
    [
        (MatchNoise, {"mode": "L", "add": 1.0, "remove": 1.0}),
        (MatchNoise, {"mode": "CMYK"}),
        (MatchSharpness, {"mode": "L", "gain": [20.0] * 20}),
        (MatchHistogram, {"mode": "RGB", "source": [[0, 1]], "target": [[0, 1]]}),
        (MatchSize, {"mode": "L", "sizes": []}),
        (MatchJpeg, {"mode": "L", "quality": 100}),
        (MongeKantorovich, {"mode": "L", "matrix": [[1, 0]], "source_mean": [0],
                            "target_mean": [0]}),
        (MongeKantorovich, {"mode": "L", "matrix": [[1]], "source_mean": [0],
                            "target_mean": [0, 0]}),
    ],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(cls, arguments) -> None:
    with pytest.raises(ValueError, match=r"must|needs?|mode"):
        cls(**arguments)
