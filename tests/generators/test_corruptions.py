from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from evalsuite.generators import CORRUPTIONS, Corrupt, corrupt

PAPER = {
    "gaussian_noise", "shot_noise", "impulse_noise", "speckle_noise",
    "gaussian_blur", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
    "fog", "frost", "snow", "spatter",
    "contrast", "brightness", "saturate", "jpeg", "pixelate", "elastic",
}  # fmt: skip
DETERMINISTIC = {
    "gaussian_blur", "defocus_blur", "zoom_blur", "contrast", "brightness", "saturate", "jpeg",
    "pixelate",
}  # fmt: skip


def distance(a: Image.Image, b: Image.Image) -> float:
    return float(np.sqrt(np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))


def test_there_are_the_19_of_the_paper() -> None:
    assert set(CORRUPTIONS) == PAPER
    assert len(CORRUPTIONS) == 19


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_every_step_of_severity_goes_further_from_the_original(
    kind: str, photos: dict[str, Image.Image]
) -> None:
    for name, photo in photos.items():
        if kind == "saturate" and photo.mode == "L":
            continue
        for seed in (0, 1):
            ladder = [distance(photo, corrupt(photo, kind, s, seed=seed)) for s in (1, 2, 3, 4, 5)]
            assert ladder[0] > 0.5, (name, ladder)
            assert all(np.diff(ladder) > 0), (name, seed, ladder)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(CORRUPTIONS),
    severity=st.floats(1, 5),
    width=st.integers(8, 70),
    height=st.integers(8, 70),
    mode=st.sampled_from(["L", "RGB"]),
    fill=st.sampled_from(["noise", "black", "white"]),
    seed=st.integers(0, 2**53 - 1),
)
def test_any_size_and_mode_keeps_both_and_repeats(
    kind: str, severity: float, width: int, height: int, mode: str, fill: str, seed: int
) -> None:
    shape = (height, width) if mode == "L" else (height, width, 3)
    values = {"noise": None, "black": 0, "white": 255}[fill]
    pixels = (
        np.random.default_rng(seed).integers(256, size=shape)
        if values is None
        else np.full(shape, values)
    ).astype(np.uint8)
    image = Image.fromarray(pixels)
    before = image.tobytes()
    with np.errstate(all="raise", under="ignore"):
        once = corrupt(image, kind, severity, seed=seed)
    assert (once.mode, once.size) == (mode, (width, height))
    assert once.tobytes() == corrupt(image, kind, severity, seed=seed).tobytes()
    assert image.tobytes() == before, "the input was written on"


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_the_seed_matters_exactly_where_chance_has_a_part(
    kind: str, photos: dict[str, Image.Image]
) -> None:
    photo = photos["astronaut"].resize((64, 64))
    a, b = (corrupt(photo, kind, 3, seed=seed).tobytes() for seed in (1, 2))
    assert (a == b) == (kind in DETERMINISTIC)


@pytest.mark.parametrize(
    ("kind", "severity", "spread"),
    [
        ("gaussian_noise", 2, 0.12),
        ("shot_noise", 1, np.sqrt(0.5 / 60)),
        ("speckle_noise", 1, 0.15 * 0.5),
    ],
)
def test_noise_has_the_stated_spread(kind: str, severity: int, spread: float) -> None:
    grey = Image.new("L", (400, 400), 128)
    noisy = np.asarray(corrupt(grey, kind, severity, seed=3), float) / 255
    assert noisy.std() == pytest.approx(spread, rel=0.02)
    assert noisy.mean() == pytest.approx(128 / 255, abs=0.002)


def test_impulses_hit_the_stated_share_half_of_them_white() -> None:
    grey = Image.new("L", (500, 500), 128)
    hit = np.asarray(corrupt(grey, "impulse_noise", 5, seed=0))
    assert (hit != 128).mean() == pytest.approx(0.27, abs=0.005)
    assert (hit == 255).mean() == pytest.approx(0.135, abs=0.004)
    assert set(np.unique(hit)) == {0, 128, 255}


def test_blur_spreads_a_point_as_far_as_stated_and_in_proportion_to_the_size() -> None:
    def spread(kind: str, side: int) -> float:
        point = np.zeros((side + 1, side + 1), np.uint8)
        # A block, so that the blurred values do not vanish in 8 bits.
        half = side // 28
        point[side // 2 - half : side // 2 + half + 1, side // 2 - half : side // 2 + half + 1] = (
            255
        )
        image = Image.fromarray(point)
        out = np.asarray(corrupt(image, kind, 3, seed=0), float)
        yy, xx = np.mgrid[: side + 1, : side + 1] - side / 2

        def variance(p: np.ndarray) -> float:
            return float((p * (yy**2 + xx**2)).sum() / p.sum() / 2)

        return float(np.sqrt(variance(out) - variance(point.astype(float))))

    # A Gaussian's standard deviation; a disc's is half its radius.
    assert spread("gaussian_blur", 224) == pytest.approx(3, rel=0.05)
    assert spread("defocus_blur", 224) == pytest.approx(6 / 2, rel=0.08)
    assert spread("gaussian_blur", 448) == pytest.approx(6, rel=0.05)


def test_motion_goes_one_way_and_keeps_the_brightness() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(
        np.rint(255 * (ndimage.gaussian_filter(rng.random((200, 200)), 1) - 0.2)).astype(np.uint8)
    )
    moved = np.asarray(corrupt(image, "motion_blur", 5, seed=1), float)
    assert moved.mean() == pytest.approx(np.asarray(image, float).mean(), abs=0.5)
    # Correlation reaches far along the movement and hardly across it.
    spectrum = np.abs(np.fft.fft2(moved - moved.mean())) ** 2
    correlation = np.fft.fftshift(np.fft.ifft2(spectrum).real)
    yy, xx = np.mgrid[-100:100, -100:100]
    near = np.where(np.hypot(yy, xx) < 20, np.maximum(correlation, 0), 0)
    tensor = np.cov(np.stack([yy.ravel(), xx.ravel()]), aweights=near.ravel())
    small, large = np.linalg.eigvalsh(tensor)
    assert large > 3 * small


def test_contrast_keeps_the_mean_and_leaves_the_stated_share(
    photos: dict[str, Image.Image],
) -> None:
    x = np.asarray(photos["camera"], float)
    y = np.asarray(corrupt(photos["camera"], "contrast", 2, seed=0), float)
    assert y.mean() == pytest.approx(x.mean(), abs=0.3)
    assert y.std() == pytest.approx(0.3 * x.std(), rel=0.01)


@pytest.mark.parametrize("kind", ["brightness", "saturate"])
@pytest.mark.parametrize("severity", [1, 5])
def test_colour_changes_agree_with_the_standard_library(
    kind: str, severity: int, photos: dict[str, Image.Image]
) -> None:
    import colorsys

    photo = photos["coffee"].resize((30, 30))
    photo.putpixel((0, 0), (0, 0, 0))
    photo.putpixel((1, 0), (200, 200, 200))
    wanted = []
    for r, g, b in np.asarray(photo, float).reshape(-1, 3) / 255:
        h, s, v = colorsys.rgb_to_hsv(r, g, b)
        if kind == "brightness":
            v = min(1, v + 0.1 * severity)
        else:
            s = min(1, s * {1: 2, 5: 20}[severity])
        wanted.append(colorsys.hsv_to_rgb(h, s, v))
    got = np.asarray(corrupt(photo, kind, severity, seed=0), float).reshape(-1, 3)
    np.testing.assert_allclose(got, 255 * np.array(wanted), atol=0.51)


def test_grey_has_no_saturation_to_change(photos: dict[str, Image.Image]) -> None:
    grey = photos["camera"]
    assert corrupt(grey, "saturate", 5, seed=0).tobytes() == grey.tobytes()
    as_rgb = grey.convert("RGB")
    assert corrupt(as_rgb, "saturate", 5, seed=0).tobytes() == as_rgb.tobytes()


def test_pixelate_leaves_the_stated_number_of_pixels() -> None:
    pixels = np.random.default_rng(0).integers(256, size=(100, 100)).astype(np.uint8)
    out = np.asarray(corrupt(Image.fromarray(pixels), "pixelate", 5, seed=0))
    assert len(np.unique(out, axis=0)) == 25
    np.testing.assert_allclose(out[0, 0], pixels[:4, :4].mean(), atol=0.51)


def test_displacement_agrees_with_scipy() -> None:
    from evalsuite.generators.image.corruptions import _displace

    rng = np.random.default_rng(0)
    x = rng.random((20, 31, 2), np.float32)
    shift = rng.normal(0, 4, (2, 20, 31)).astype(np.float32)
    where = np.mgrid[:20, :31] + shift
    wanted = np.stack(
        [ndimage.map_coordinates(x[..., c], where, order=1, mode="nearest") for c in range(2)],
        axis=2,
    )
    np.testing.assert_allclose(_displace(x, shift), wanted, atol=1e-5)


def test_elastic_moves_pixels_and_makes_no_new_values() -> None:
    ramp = Image.fromarray(np.tile(np.arange(224, dtype=np.uint8), (224, 1)))
    out = np.asarray(corrupt(ramp, "elastic", 3, seed=0), float)
    moved = (out - np.asarray(ramp, float))[20:-20, 20:-20]
    # 4 px RMS over both axes, so 4/sqrt(2) along this one, within what one field varies.
    assert 1.4 < np.sqrt((moved**2).mean()) < 4.5
    assert np.abs(np.diff(moved, axis=1)).max() < 3, "the field tears"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fogg", 3), "did you mean 'fog'"),
        (("fog", 0), "from 1 to 5, got 0"),
        (("fog", 5.01), "from 1 to 5, got 5.01"),
        (("fog", float("nan")), "from 1 to 5, got nan"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(Image.new("L", (9, 9)), *arguments, seed=0)
    with pytest.raises(ValueError, match=message):
        Corrupt(*arguments)


def test_a_severity_that_is_no_number_is_named() -> None:
    with pytest.raises(TypeError, match="'high'"):
        Corrupt("fog", ["high"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="at least one"):
        Corrupt("fog", [])


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK", "I;16", "1", "F"])
def test_other_modes_are_refused_with_the_remedy(mode: str) -> None:
    with pytest.raises(ValueError, match=f"got {mode}: convert it first"):
        corrupt(Image.new(mode, (16, 16)), "fog", 1, seed=0)


def test_too_small_is_refused() -> None:
    with pytest.raises(ValueError, match="got 7×20"):
        corrupt(Image.new("L", (7, 20)), "fog", 1, seed=0)


@pytest.mark.parametrize("kind", ["gaussian_noise", "defocus_blur", "fog", "contrast", "elastic"])
def test_a_severity_between_two_levels_lies_between_them(
    kind: str, photos: dict[str, Image.Image]
) -> None:
    photo = photos["camera"]
    low, between, high = (distance(photo, corrupt(photo, kind, s, seed=0)) for s in (3, 3.4, 4))
    assert low < between < high


def test_an_operation_draws_among_its_severities() -> None:
    from evalsuite.generators.protocol import rng_of

    operation = Corrupt("fog", [1, 3, 5])
    drawn = [operation.sample_params(rng_of(i))["severity"] for i in range(300)]
    assert {s: 70 < drawn.count(s) < 130 for s in (1, 3, 5)} == {1: True, 3: True, 5: True}
