"""Image attributes: closed forms, real photographs, and images that are barely images."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from scipy import ndimage
from skimage import data

from evalsuite.metrics.image.attributes import ATTRIBUTES, CROP, image_attributes


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.ascontiguousarray(data.astronaut()[:384, :448])


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def test_loads_without_torch() -> None:
    code = (
        "import sys; import evalsuite.metrics.image.attributes; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'scipy', 'sklearn', 'pandas')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_constant_image(value: int) -> None:
    got = image_attributes(np.full((40, 60, 3), value, np.uint8))
    assert list(got) == list(ATTRIBUTES)
    expected = dict.fromkeys(ATTRIBUTES, 0.0) | {
        "brightness": value,
        "clipping": float(value in (0, 255)),
        "width": 60.0,
        "height": 40.0,
        "aspect_ratio": 1.5,
    }
    assert got == expected


def test_checkerboard() -> None:
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8)
    got = image_attributes(board)
    assert got["brightness"] == 100.0
    assert got["contrast"] == 100.0
    assert got["entropy"] == pytest.approx(1.0)
    assert got["high_frequency"] == pytest.approx(1.0)
    # The Laplacian is ±800 in equal parts; Immerkær's mask answers ±4·200·2 everywhere.
    assert got["sharpness"] == pytest.approx(np.log1p(800.0**2))
    assert got["noise"] == pytest.approx(np.sqrt(np.pi / 2) * 1600 / 6)
    assert got["clipping"] == 0.5
    assert got["blockiness"] == 0.0


def test_uniform_histogram_has_eight_bits() -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint8), (4, 1))
    got = image_attributes(ramp)
    assert got["entropy"] == pytest.approx(8.0)
    assert got["contrast"] == pytest.approx(np.sqrt((256**2 - 1) / 12))
    assert got["sharpness"] == 0.0
    assert got["noise"] == 0.0


def test_smooth_to_white_high_frequency_share() -> None:
    noise = noisy(np.full((400, 400), 128, np.uint8), 20)
    assert image_attributes(noise)["high_frequency"] == pytest.approx(0.75, abs=0.01)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    assert image_attributes(ramp)["high_frequency"] < 1e-4


def test_colour_closed_forms() -> None:
    red = np.zeros((20, 20, 3), np.uint8)
    red[..., 0] = 200
    got = image_attributes(red)
    assert got["saturation"] == 1.0
    assert got["hue_spread"] == pytest.approx(0.0, abs=1e-6)
    # rg = 200 and yb = 100 everywhere: no spread, only the mean term.
    assert got["colourfulness"] == pytest.approx(0.3 * np.hypot(200, 100))
    wheel = np.zeros((3, 30, 3), np.uint8)
    for c in range(3):
        wheel[c, :, c] = 200
    got = image_attributes(wheel)
    assert got["hue_spread"] == pytest.approx(1.0, abs=1e-6)
    half = np.full((10, 10, 3), 100, np.uint8)
    half[..., 2] = 50
    assert image_attributes(half)["saturation"] == pytest.approx(0.5)


def test_colourfulness_is_the_papers(photo: np.ndarray) -> None:
    r, g, b = photo.astype(float).transpose(2, 0, 1)
    rg, yb = r - g, (r + g) / 2 - b
    expected = np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean())
    assert image_attributes(photo)["colourfulness"] == pytest.approx(expected, rel=1e-5)


def test_hue_spread_is_the_circular_variance_of_the_hue_angle(photo: np.ndarray) -> None:
    r, g, b = photo.astype(float).transpose(2, 0, 1)
    vector = (r - (g + b) / 2) + 1j * np.sqrt(0.75) * (g - b)
    expected = 1 - abs(vector.sum()) / abs(vector).sum()
    assert image_attributes(photo)["hue_spread"] == pytest.approx(expected, rel=1e-4)


@pytest.mark.peers
def test_agrees_with_pillow_scipy_and_skimage(photo: np.ndarray) -> None:
    from skimage.color import rgb2hsv
    from skimage.measure import shannon_entropy

    got = image_attributes(photo)
    luma = np.asarray(Image.fromarray(photo).convert("L"))
    assert got["brightness"] == pytest.approx(luma.mean(dtype=float), rel=1e-12)
    assert got["contrast"] == pytest.approx(luma.std(dtype=float), rel=1e-12)
    assert got["entropy"] == pytest.approx(shannon_entropy(luma), rel=1e-12)
    assert got["saturation"] == pytest.approx(rgb2hsv(photo)[..., 1].mean(), rel=1e-5)
    laplacian = ndimage.laplace(luma.astype(float))[1:-1, 1:-1]
    assert got["sharpness"] == pytest.approx(np.log1p(laplacian.var()), rel=1e-5)
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    answer = ndimage.convolve(luma.astype(float), mask)[1:-1, 1:-1]
    assert got["noise"] == pytest.approx(np.sqrt(np.pi / 2) * np.abs(answer).mean() / 6, rel=1e-9)


@pytest.mark.parametrize("sigma", [2.0, 5.0, 15.0])
def test_noise_is_recovered_on_a_flat_image(sigma: float) -> None:
    got = image_attributes(noisy(np.full((300, 300), 128, np.uint8), sigma))["noise"]
    # Rounding to whole grey levels adds a variance of 1/12.
    assert got == pytest.approx(np.sqrt(sigma**2 + 1 / 12), rel=0.02)


@pytest.mark.parametrize("sigma", [8.0, 16.0])
def test_noise_is_recovered_on_a_photograph(sigma: float) -> None:
    # Contrast is compressed so that next to nothing clips, which would hide noise.
    quiet = (data.camera()[:300, :300] * 0.6 + 50).astype(np.uint8)
    assert image_attributes(noisy(quiet, sigma))["noise"] == pytest.approx(sigma, rel=0.08)


def test_blur_lowers_sharpness_and_detail(photo: np.ndarray) -> None:
    blurred = [
        image_attributes(ndimage.gaussian_filter(photo, (s, s, 0))) for s in (0, 0.6, 1, 2, 4)
    ]
    for name in ("sharpness", "high_frequency", "noise"):
        values = [b[name] for b in blurred]
        assert values == sorted(values, reverse=True), name
        assert values[0] > values[-1]


def test_stronger_jpeg_raises_blockiness(photo: np.ndarray) -> None:
    values = [image_attributes(photo)["blockiness"]] + [
        image_attributes(jpeg(photo, q))["blockiness"] for q in (95, 70, 40, 20, 10)
    ]
    assert abs(values[0]) < 0.3
    assert values[1:] == sorted(values[1:])
    assert values[-1] > 3


def test_blockiness_looks_at_the_grid_of_the_file(photo: np.ndarray) -> None:
    blocky = jpeg(photo, 20)
    on = image_attributes(blocky)["blockiness"]
    assert image_attributes(blocky[3:, 5:])["blockiness"] < on / 4
    # The central crop of a large image stays on the grid: 1111 is no multiple of 8.
    large = np.tile(blocky, (3, 3, 1))[:1111, :1203]
    top, left = (1111 - CROP) // 2 - 3, (1203 - CROP) // 2 - 1
    assert top % 8 == left % 8 == 0
    crop = large[top : top + CROP, left : left + CROP]
    for name in ("blockiness", "sharpness", "noise", "high_frequency"):
        assert image_attributes(large)[name] == image_attributes(crop)[name], name
    assert image_attributes(large)["blockiness"] > on


def test_correction_names_move_their_attribute(photo: np.ndarray) -> None:
    base = image_attributes(photo)
    brighter = image_attributes(np.clip(photo * 1.3, 0, 255).astype(np.uint8))
    assert brighter["brightness"] > base["brightness"]
    assert brighter["clipping"] > base["clipping"]
    flat = image_attributes((photo * 0.5 + 60).astype(np.uint8))
    assert flat["contrast"] < 0.6 * base["contrast"]
    grey = np.asarray(Image.fromarray(photo).convert("L"))
    washed = (0.5 * photo + 0.5 * grey[..., None]).astype(np.uint8)
    for name in ("saturation", "colourfulness"):
        assert image_attributes(washed)[name] < 0.7 * base[name]
    posterised = image_attributes(photo // 64 * 64)
    assert posterised["entropy"] < base["entropy"] - 3


def test_grey_equals_three_equal_channels(photo: np.ndarray) -> None:
    grey = photo[..., 1]
    assert image_attributes(grey) == image_attributes(np.repeat(grey[..., None], 3, axis=2))


def test_memory_layout_does_not_matter(photo: np.ndarray) -> None:
    turned = np.asfortranarray(photo)
    assert image_attributes(turned) == image_attributes(photo)
    view = np.repeat(np.repeat(photo, 2, 0), 2, 1)[::2, ::2]
    assert image_attributes(view) == image_attributes(photo)
    before = photo.copy()
    image_attributes(photo)
    np.testing.assert_array_equal(photo, before)


def test_large_images_keep_their_tone_and_their_detail(photo: np.ndarray) -> None:
    large = np.tile(photo, (4, 4, 1))
    seen = image_attributes(large[::4, ::4])
    for name in ("brightness", "entropy", "clipping", "hue_spread"):
        assert image_attributes(large)[name] == seen[name], name
    base, got = image_attributes(photo), image_attributes(large)
    for name in ("brightness", "contrast", "saturation", "colourfulness"):
        assert got[name] == pytest.approx(base[name], rel=0.02), name
    # Were the image shrunk first, the Laplacian would grow by far more than the seams add.
    assert got["sharpness"] == pytest.approx(base["sharpness"], rel=0.1)
    assert (got["width"], got["height"]) == (4 * 448, 4 * 384)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 1, 3), (2, 2), (1, 700), (700, 1, 3), (2, 9, 3), (3, 3), (7, 5000)]
)
def test_tiny_and_thin_images(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    got = image_attributes(image)
    assert all(np.isfinite(v) for v in got.values())
    assert got["aspect_ratio"] == shape[1] / shape[0]
    if min(shape[:2]) < 3:
        assert got["sharpness"] == got["noise"] == 0.0


@settings(deadline=None, max_examples=150)
@given(
    hnp.arrays(
        np.uint8,
        st.one_of(
            st.tuples(st.integers(1, 40), st.integers(1, 40)),
            st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3)),
        ),
    )
)
def test_always_finite_and_in_range(image: np.ndarray) -> None:
    got = image_attributes(image)
    assert list(got) == list(ATTRIBUTES)
    assert all(type(v) is float and np.isfinite(v) for v in got.values())
    assert 0 <= got["brightness"] <= 255
    assert 0 <= got["contrast"] <= 127.5
    assert 0 <= got["entropy"] <= 8
    for name in ("saturation", "hue_spread", "high_frequency", "clipping"):
        assert 0 <= got[name] <= 1, name
    for name in ("sharpness", "noise", "colourfulness"):
        assert got[name] >= 0, name


@settings(deadline=None, max_examples=50)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(3, 30), st.integers(3, 30))))
def test_mirroring_and_inverting_change_no_texture(image: np.ndarray) -> None:
    got, turned = image_attributes(image), image_attributes(255 - image[:, ::-1])
    for name in ("contrast", "sharpness", "noise", "entropy", "clipping"):
        assert turned[name] == pytest.approx(got[name], rel=1e-5, abs=1e-5), name
    assert turned["brightness"] == pytest.approx(255 - got["brightness"])


@pytest.mark.parametrize(
    ("pixels", "error", "says"),
    [
        ([[1, 2]], TypeError, "numpy array"),
        (np.zeros((4, 4), np.float32), TypeError, "uint8"),
        (np.zeros((4, 4, 4), np.uint8), ValueError, "alpha"),
        (np.zeros((4,), np.uint8), ValueError, "shape"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, "no pixels"),
    ],
)
def test_refuses_what_is_no_image(pixels: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        image_attributes(pixels)  # type: ignore[arg-type]
