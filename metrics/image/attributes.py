"""Readable properties of one image: what a person would call bright, sharp, noisy or colourful.

NumPy only, and quick to import: the encode loop calls :func:`image_attributes` on every image while
the pixels are at hand. All of it is integer or single-precision arithmetic on at most 512 × 512
pixels, so the cost has a bound whatever the size of the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

CROP = 512
"""Side in pixels of what is looked at: a central crop at native resolution for local properties, a
regular subsample of the whole frame for pointwise ones."""

_BLOCK = 8  # the JPEG block

_Bytes: TypeAlias = npt.NDArray[np.uint8]
_Shorts: TypeAlias = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Attribute:
    """What an attribute is, for reports and for whoever wants to change it.

    Attributes
    ----------
    name : str
        Its key in the dictionary of :func:`image_attributes`.
    unit : str
        Unit of the value; empty where it is a ratio or a share.
    description : str
        One sentence for people, with the range.
    acts : str
        The correction that moves it; "none" where the content itself would have to change.
    step : float
        A difference that is hardly worth a word. A spread under it counts as this much, so that
        what is nearly constant in the real set does not make a trifle look huge.
    """

    name: str
    unit: str
    description: str
    acts: str
    step: float = 0.0


ATTRIBUTES: dict[str, Attribute] = {
    a.name: a
    for a in (
        Attribute(
            "brightness",
            "grey levels",
            "Mean luma (ITU-R BT.601), 0 black to 255 white.",
            "gain or gamma; histogram matching",
        ),
        Attribute(
            "contrast",
            "grey levels",
            "RMS contrast: standard deviation of the luma, 0 to 127.5.",
            "contrast stretch; histogram matching",
        ),
        Attribute(
            "sharpness",
            "log",
            "log(1 + variance of the Laplacian) at native resolution; 0 for a flat image.",
            "unsharp mask or blur; resizing",
        ),
        Attribute(
            "noise",
            "grey levels",
            "Standard deviation of the noise (Immerkær 1996); fine texture counts as noise.",
            "denoising or added sensor noise",
        ),
        Attribute(
            "colourfulness",
            "",
            "Hasler and Süsstrunk (2003): 0 grey, about 109 extremely colourful.",
            "saturation; colour transfer",
        ),
        Attribute(
            "saturation",
            "",
            "Mean HSV saturation, 0 grey to 1 pure colours.",
            "saturation; colour transfer",
        ),
        Attribute(
            "hue_spread",
            "",
            "Circular variance of the hue, weighted by chroma: 0 one hue (or grey), 1 all hues.",
            "white balance; colour transfer",
        ),
        Attribute(
            "entropy",
            "bits",
            "Shannon entropy of the luma histogram in 256 bins, 0 to 8.",
            "histogram matching; bit depth",
        ),
        Attribute(
            "high_frequency",
            "",
            "Share of the luma's variance at the finest scale (Haar, 2 × 2 pixels): 0 smooth, "
            "0.75 white noise, 1 checkerboard.",
            "blur or unsharp mask; resizing",
        ),
        Attribute(
            "blockiness",
            "grey levels",
            "How much larger the steps over the 8-pixel JPEG grid are than those beside it; about "
            "0 without compression.",
            "JPEG quality; deblocking",
        ),
        Attribute(
            "clipping",
            "",
            "Share of channel values at 0 or 255, 0 to 1.",
            "exposure; gamma",
        ),
        Attribute("width", "px", "Width of the image.", "resizing; cropping"),
        Attribute("height", "px", "Height of the image.", "resizing; cropping"),
        Attribute("aspect_ratio", "", "Width over height.", "cropping"),
    )
}
"""The attributes in report order, by name."""


def image_attributes(pixels: _Bytes) -> dict[str, float]:
    """Measure the readable properties of one image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W, 3) or (H, W)
        sRGB or grey. A grey image has the values of the same image in three equal channels.

    Returns
    -------
    dict of str to float
        A finite value for each key of :data:`ATTRIBUTES`, in its order.

    Raises
    ------
    TypeError
        If ``pixels`` is no array of uint8.
    ValueError
        If the shape is another one, or the image has no pixels.

    Notes
    -----
    Brightness, contrast, entropy, clipping and colour are taken from the whole frame: every s-th
    pixel of every s-th row, s the smallest step that leaves at most 512 × 512. Sharpness, noise,
    high-frequency share and blockiness depend on neighbours and on the resolution: they are taken
    from the central 512 × 512 pixels at native resolution, aligned to the JPEG grid. Up to 512
    pixels a side, both are the whole image. An image too small for a local property (under 3 × 3
    for sharpness and noise, 2 × 2 for the high-frequency share, 10 pixels for blockiness) shows
    nothing of it: 0.

    The attributes describe single images. They cannot see what an image shows, nor how attributes
    go together. Noise is an upper bound where there is fine texture, and too low where pixels are
    clipped.

    References
    ----------
    J. Immerkær, "Fast noise variance estimation", CVIU 64(2), 1996.
    D. Hasler and S. Süsstrunk, "Measuring colourfulness in natural images", Proc. SPIE 5007, 2003.
    Z. Wang, A. C. Bovik and B. L. Evans, "Blind measurement of blocking artifacts in images",
    ICIP 2000 (the idea of :data:`ATTRIBUTES`' blockiness: on against off the grid).
    """
    _check(pixels)
    height, width = pixels.shape[:2]
    step = -(-max(height, width) // CROP)
    frame = _planes(pixels[::step, ::step])
    luma = _luma(frame)
    if step == 1:
        crop = luma
    else:
        top, left = _start(height), _start(width)
        crop = _luma(_planes(pixels[top : top + CROP, left : left + CROP]))
    values = {
        **_tone(luma),
        **_detail(crop),
        **_colour(frame),
        "blockiness": _blockiness(crop),
        "clipping": float(np.mean([np.count_nonzero((p == 0) | (p == 255)) for p in frame]))
        / luma.size,
        "width": float(width),
        "height": float(height),
        "aspect_ratio": width / height,
    }
    return {name: values[name] for name in ATTRIBUTES}


def _check(pixels: object) -> None:
    if not isinstance(pixels, np.ndarray):
        raise TypeError(f"pixels must be a numpy array, got {type(pixels).__name__}")
    if pixels.dtype != np.uint8:
        raise TypeError(f"pixels must be uint8 (0 to 255), got {pixels.dtype}: convert them first")
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise ValueError(
            f"pixels must have shape (H, W, 3) or (H, W), got {pixels.shape}: flatten alpha and "
            "convert other modes to RGB or grey first"
        )
    if pixels.size == 0:
        raise ValueError(f"the image has no pixels: shape {pixels.shape}")


def _start(length: int) -> int:
    """Where the central crop starts: on the 8-pixel grid, or blockiness would miss it."""
    return max(0, (length - CROP) // 2) // _BLOCK * _BLOCK


def _planes(pixels: _Bytes) -> tuple[_Bytes, ...]:
    """Give contiguous channels, one for grey: strided access would cost more than the copy."""
    if pixels.ndim == 2:
        return (np.ascontiguousarray(pixels),)
    return tuple(np.ascontiguousarray(pixels[..., c]) for c in range(3))


def _luma(planes: tuple[_Bytes, ...]) -> _Bytes:
    """ITU-R BT.601 luma in 16-bit fixed point, rounded: equal channels give back their value."""
    if len(planes) == 1:
        return planes[0]
    r, g, b = (p.astype(np.uint32) for p in planes)
    r *= 19595
    g *= 38470
    b *= 7471
    r += g
    r += b
    r += 0x8000
    r >>= 16
    return r.astype(np.uint8)


def _tone(luma: _Bytes) -> dict[str, float]:
    """Brightness, contrast and entropy, exactly, from the histogram."""
    share = np.bincount(luma.ravel(), minlength=256) / luma.size
    levels = np.arange(256.0)
    mean = float(share @ levels)
    seen = share[share > 0]
    return {
        "brightness": mean,
        "contrast": float(np.sqrt(share @ (levels - mean) ** 2)),
        "entropy": max(0.0, float(-(seen @ np.log2(seen)))),
    }


def _detail(luma: _Bytes) -> dict[str, float]:
    """Sharpness, noise and high-frequency share of the crop."""
    out = {"sharpness": 0.0, "noise": 0.0, "high_frequency": _finest_share(luma)}
    if min(luma.shape) < 3:
        return out
    # 16 bits suffice: the Laplacian lies in ±1020, Immerkær's mask in ±2040.
    x = luma.astype(np.int16)
    across = _second_difference(x.T).T
    down = _second_difference(x)
    laplacian = (across[1:-1] + down[:, 1:-1]).astype(np.float32).ravel()
    laplacian -= laplacian.mean(dtype=np.float64).astype(np.float32)
    out["sharpness"] = float(np.log1p(float(laplacian @ laplacian) / laplacian.size))
    mask = _second_difference(across)
    total = int(np.abs(mask).sum(dtype=np.int64))
    out["noise"] = float(np.sqrt(np.pi / 2)) * total / (6 * mask.size)
    return out


def _second_difference(x: _Shorts) -> _Shorts:
    """[1, −2, 1] down the columns."""
    out = x[2:] + x[:-2]
    out -= 2 * x[1:-1]
    return out


def _finest_share(luma: _Bytes) -> float:
    """Variance within 2 × 2 blocks over all variance: Parseval's split of a Haar transform."""
    x = luma[: luma.shape[0] // 2 * 2, : luma.shape[1] // 2 * 2].astype(np.float32)
    if x.size == 0:
        return 0.0
    x -= x.mean(dtype=np.float64).astype(np.float32)
    total = float(x.ravel() @ x.ravel())
    if total == 0.0:
        return 0.0
    rows = x[::2] + x[1::2]
    sums = (rows[:, ::2] + rows[:, 1::2]).ravel()
    return min(1.0, max(0.0, 1.0 - float(sums @ sums) / 4 / total))


def _colour(planes: tuple[_Bytes, ...]) -> dict[str, float]:
    """Colourfulness, saturation and hue spread, all from R − G and G − B."""
    if len(planes) == 1:
        return {"colourfulness": 0.0, "saturation": 0.0, "hue_spread": 0.0}
    r, g, b = planes
    high = np.maximum(np.maximum(r, g), b)
    chroma = high - np.minimum(np.minimum(r, g), b)
    saturation = chroma.astype(np.float32)
    saturation /= np.maximum(high, 1)
    rg = np.subtract(r, g, dtype=np.int16).astype(np.float32).ravel()
    gb = np.subtract(g, b, dtype=np.int16).astype(np.float32).ravel()
    # The hexagon's plane: α = R − (G + B)/2, β = √3/2 (G − B); its squared radius is this.
    radius = rg * (rg + gb)
    radius += gb * gb
    length = float(np.sqrt(radius, out=radius).sum(dtype=np.float64))
    n = rg.size
    mean_rg, mean_gb = float(rg.mean(dtype=np.float64)), float(gb.mean(dtype=np.float64))
    mean_yb = mean_rg / 2 + mean_gb
    resultant = n * float(np.hypot(mean_rg + mean_gb / 2, np.sqrt(0.75) * mean_gb))
    rg -= np.float32(mean_rg)
    gb -= np.float32(mean_gb)
    var_rg = float(rg @ rg) / n
    var_yb = max(0.0, var_rg / 4 + float(gb @ gb) / n + float(rg @ gb) / n)
    return {
        "colourfulness": float(np.sqrt(var_rg + var_yb) + 0.3 * np.hypot(mean_rg, mean_yb)),
        "saturation": float(saturation.mean(dtype=np.float64)),
        "hue_spread": max(0.0, 1.0 - resultant / length) if length > 0 else 0.0,
    }


def _blockiness(luma: _Bytes) -> float:
    """Mean step over the grid lines, less the mean of the two steps beside each, both ways."""
    x = luma.astype(np.int16)
    excess = []
    for steps in (np.abs(x[:, 1:] - x[:, :-1]).mean(axis=0), np.abs(x[1:] - x[:-1]).mean(axis=1)):
        grid = np.arange(_BLOCK - 1, len(steps) - 1, _BLOCK)
        if len(grid):
            excess.append(float((steps[grid] - (steps[grid - 1] + steps[grid + 1]) / 2).mean()))
    return float(np.mean(excess)) if excess else 0.0
