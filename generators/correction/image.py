"""Corrections of images: tone and colour, low frequencies, detail, noise, size, compression.

All but :class:`FourierAdaptation` and :class:`MatchSize` apply one map to every image, fitted
between the two *sets*: images keep what tells them from one another, and a dark image among bright
ones stays dark.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from PIL import Image, ImageOps
from scipy import fft, linalg, ndimage

from ...metrics.image.attributes import image_attributes
from ..protocol import draw_seed, rng_of
from ..values import Modality, Params
from .base import F64, Correction, NotCorrectableError, Value, compact

QUANTILES = 65
_PIXELS = 4096
"""Pixels of each image that tone and colour are fitted on: a regular grid."""
_BANDS = 20
_MAX_GAIN = 12.0
_SEARCHED = 32
"""Images that a search by measuring looks at."""
_LUMA = np.array([0.299, 0.587, 0.114])


class _ImageCorrection(Correction):
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(self, mode: str, held_out: Sequence[str] = ()) -> None:
        super().__init__(held_out)
        if mode not in {"L", "RGB"}:
            raise ValueError(f"mode must be L or RGB, got {mode!r}")
        self.mode = mode

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Correct one image; it comes back in the real set's mode, ``L`` or ``RGB``."""
        return _image(self._corrected(_array(value, self.mode), params))

    def _corrected(self, x: F64, params: Params) -> F64:
        """Correct (h, w, c) values from 0 to 255."""
        raise NotImplementedError


class MatchHistogram(_ImageCorrection):
    """Give the set the real set's histogram, channel by channel, by monotone curves.

    What it cannot see: how channels go together (see :class:`MongeKantorovich`), and where in the
    image the values are. Grey levels that clipping merged stay merged.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    source, target : list of list of float, shape (channels, quantiles)
        Quantiles of the synthetic and of the real set's values, 0 to 255.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    References
    ----------
    Gonzalez & Woods, Digital Image Processing (histogram specification).
    """

    name: ClassVar[str] = "match_histogram"
    acts_on: ClassVar[frozenset[str]] = frozenset(
        {"brightness", "contrast", "entropy", "clipping", "colourfulness", "saturation",
         "hue_spread"}
    )  # fmt: skip

    def __init__(
        self,
        mode: str,
        source: Sequence[Sequence[float]],
        target: Sequence[Sequence[float]],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(mode, held_out)
        self.source, self.target = np.asarray(source, float), np.asarray(target, float)
        if self.source.shape != self.target.shape or len(self.source) != len(mode):
            raise ValueError(
                f"source and target need {len(mode)} rows of equal length, got shapes "
                f"{self.source.shape} and {self.target.shape}"
            )

    def _arguments(self) -> Params:
        return {"mode": self.mode, "source": compact(self.source), "target": compact(self.target)}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        mode = _mode(real)
        at = np.linspace(0, 1, QUANTILES)
        curves = []
        for side in (synthetic, real):
            pixels, weights = _pixels(side, mode)
            curves.append(
                [_weighted_quantiles(channel, weights, at) for channel in np.moveaxis(pixels, 1, 0)]
            )
        return {"mode": mode, "source": compact(curves[0]), "target": compact(curves[1])}

    def _corrected(self, x: F64, params: Params) -> F64:  # noqa: ARG002 - draws nothing
        out = np.empty_like(x)
        for c, (source, target) in enumerate(zip(self.source, self.target, strict=True)):
            out[..., c] = _curve(x[..., c], source, target)
        return out


class Reinhard(_ImageCorrection):
    """Give the set the real set's mean and spread, axis by axis, in the decorrelated space lαβ.

    Of grey images, in grey levels. It is affine: it cannot undo a gamma curve or clipping.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    source_mean, source_sd, target_mean, target_sd : list of float
        Of both sets, for each axis.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    References
    ----------
    Reinhard, Ashikhmin, Gooch & Shirley 2001, Color transfer between images, IEEE CG&A 21(5).
    Ruderman, Cronin & Chiao 1998, Statistics of cone responses to natural images (lαβ).
    """

    name: ClassVar[str] = "reinhard"
    acts_on: ClassVar[frozenset[str]] = frozenset(
        {"brightness", "contrast", "colourfulness", "saturation", "hue_spread"}
    )

    def __init__(
        self,
        mode: str,
        source_mean: Sequence[float],
        source_sd: Sequence[float],
        target_mean: Sequence[float],
        target_sd: Sequence[float],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(mode, held_out)
        given = (source_mean, source_sd, target_mean, target_sd)
        if any(len(v) != len(mode) for v in given):
            raise ValueError(f"means and spreads need {len(mode)} values each")
        if min(*source_sd, *target_sd) < 0:
            raise ValueError("spreads cannot be negative")
        self.source = np.asarray(source_mean, float), np.asarray(source_sd, float)
        self.target = np.asarray(target_mean, float), np.asarray(target_sd, float)

    def _arguments(self) -> Params:
        return {
            "mode": self.mode,
            "source_mean": compact(self.source[0]),
            "source_sd": compact(self.source[1]),
            "target_mean": compact(self.target[0]),
            "target_sd": compact(self.target[1]),
        }

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        mode = _mode(real)
        found: Params = {"mode": mode}
        for name, side in (("source", synthetic), ("target", real)):
            pixels, weights = _pixels(side, mode)
            z = _to_lab(pixels)
            mean = np.average(z, axis=0, weights=weights)
            spread = np.sqrt(np.average((z - mean) ** 2, axis=0, weights=weights))
            found |= {f"{name}_mean": compact(mean), f"{name}_sd": compact(spread)}
        return found

    def _corrected(self, x: F64, params: Params) -> F64:  # noqa: ARG002 - draws nothing
        (mean, spread), (new_mean, new_spread) = self.source, self.target
        # A set without any spread on an axis has none to stretch.
        factor = np.divide(new_spread, spread, out=np.ones_like(spread), where=spread > 1e-9)
        return _from_lab((_to_lab(x) - mean) * factor + new_mean)


class MongeKantorovich(_ImageCorrection):
    """Give the set the real set's mean colour and colour covariance, moving colours the least.

    The optimal transport map between two Gaussians: ``T = A (A S A)^-1/2 A`` for ``A = R^1/2``,
    S and R the covariances of the synthetic and of the real colours. Of grey images it is
    :class:`Reinhard`.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    matrix : list of list of float, shape (channels, channels)
        T, symmetric.
    source_mean, target_mean : list of float
        Mean colours, 0 to 255.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    References
    ----------
    Pitié & Kokaram 2007, The linear Monge-Kantorovitch linear colour mapping for example-based
    colour transfer, IETCVMP. Olkin & Pukelsheim 1982 (the map).
    """

    name: ClassVar[str] = "monge_kantorovich"
    acts_on: ClassVar[frozenset[str]] = Reinhard.acts_on

    def __init__(
        self,
        mode: str,
        matrix: Sequence[Sequence[float]],
        source_mean: Sequence[float],
        target_mean: Sequence[float],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(mode, held_out)
        self.matrix = np.asarray(matrix, float)
        self.source_mean = np.asarray(source_mean, float)
        self.target_mean = np.asarray(target_mean, float)
        c = len(mode)
        means = {self.source_mean.shape, self.target_mean.shape}
        if self.matrix.shape != (c, c) or means != {(c,)}:
            raise ValueError(f"mode {mode} needs a {c} × {c} matrix and means of {c} values")

    def _arguments(self) -> Params:
        return {
            "mode": self.mode,
            "matrix": compact(self.matrix),
            "source_mean": compact(self.source_mean),
            "target_mean": compact(self.target_mean),
        }

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        mode = _mode(real)
        moments = []
        for side in (synthetic, real):
            pixels, weights = _pixels(side, mode)
            mean = np.average(pixels, axis=0, weights=weights)
            centred = pixels - mean
            moments.append((mean, (centred * weights[:, None]).T @ centred / weights.sum()))
        (source, s), (target, r) = moments
        return {
            "mode": mode,
            "matrix": compact(_transport(s, r)),
            "source_mean": compact(source),
            "target_mean": compact(target),
        }

    def _corrected(self, x: F64, params: Params) -> F64:  # noqa: ARG002 - draws nothing
        return np.asarray(_dot(x - self.source_mean, self.matrix) + self.target_mean)


class FourierAdaptation(_ImageCorrection):
    """Replace an image's lowest spatial frequencies' amplitudes by those of a real image.

    The phases stay, and with them what is where. For each image one of a small bank of real
    amplitudes is drawn. Light, shading and large-scale colour are replaced; so is everything else
    that is large: with many cycles it rings.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    cycles : int
        Frequencies up to so many cycles per image, both ways, are replaced. The paper's β of 0.01
        is 3 cycles of a 300-pixel image.
    bank : list, shape (images, channels, 2·cycles + 1, cycles + 1)
        Amplitudes of real images over their number of pixels; the other half-plane is symmetric.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    References
    ----------
    Yang & Soatto 2020, FDA: Fourier domain adaptation for semantic segmentation, CVPR,
    arXiv:2004.05498.
    """

    name: ClassVar[str] = "fourier_adaptation"
    acts_on: ClassVar[frozenset[str]] = frozenset({"brightness", "contrast", "colourfulness"})
    bank_size: ClassVar[int] = 8
    default_cycles: ClassVar[int] = 2

    def __init__(
        self,
        mode: str,
        cycles: int,
        bank: Sequence[Sequence[Sequence[Sequence[float]]]],
        held_out: Sequence[str] = (),
    ) -> None:
        super().__init__(mode, held_out)
        self.cycles = cycles
        self.bank = np.asarray(bank, float)
        shape = (len(mode), 2 * cycles + 1, cycles + 1)
        if cycles < 0 or self.bank.ndim != 4 or self.bank.shape[1:] != shape or not len(bank):
            raise ValueError(
                f"bank needs the shape (images, {', '.join(map(str, shape))}), got "
                f"{self.bank.shape}"
            )

    def _arguments(self) -> Params:
        return {"mode": self.mode, "cycles": self.cycles, "bank": compact(self.bank)}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:  # noqa: ARG003
        mode, cycles = _mode(real), cls.default_cycles
        bank = []
        for v in [v for v in real if v.weight > 0][: cls.bank_size]:
            x = _array(v.value, mode)
            if min(x.shape[:2]) <= 2 * cycles:
                raise NotCorrectableError(
                    f"images need more than {2 * cycles} pixels a side, got "
                    f"{v.value.width}×{v.value.height}",
                    "image_small",
                    pixels=2 * cycles,
                    width=v.value.width,
                    height=v.value.height,
                )
            amplitude = np.abs(fft.rfft2(np.moveaxis(x, 2, 0))) / (x.shape[0] * x.shape[1])
            bank.append(amplitude[:, _rows(cycles), : cycles + 1])
        return {"mode": mode, "cycles": cycles, "bank": compact(bank)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw which real amplitudes."""
        return {"row": int(rng.integers(len(self.bank)))}

    def _corrected(self, x: F64, params: Params) -> F64:
        h, w, _ = x.shape
        if min(h, w) <= 2 * self.cycles:
            raise ValueError(f"an image of {w}×{h} has no {self.cycles} cycles a side")
        spectrum = fft.rfft2(np.moveaxis(x, 2, 0))
        rows, columns = _rows(self.cycles), slice(0, self.cycles + 1)
        old = spectrum[:, rows, columns]
        size = np.abs(old)
        phase = np.divide(old, size, out=np.ones_like(old), where=size > 0)
        spectrum[:, rows, columns] = phase * self.bank[params["row"]] * (h * w)
        return np.moveaxis(fft.irfft2(spectrum, (h, w)), 0, 2)


class MatchSharpness(_ImageCorrection):
    """Give the set the real set's power at every spatial frequency, by one zero-phase filter.

    It sharpens a blurred set and softens one that is too sharp, up to ±12 dB. It cannot bring back
    detail that is under the noise, nor tell detail from noise: both are amplified alike.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    gain : list of float
        Amplitude gain in decibels in 20 bands of spatial frequency, from 1/64 to 1/2 cycle per
        pixel, evenly spaced on a logarithmic scale.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_sharpness"
    acts_on: ClassVar[frozenset[str]] = frozenset({"sharpness", "high_frequency"})

    def __init__(self, mode: str, gain: Sequence[float], held_out: Sequence[str] = ()) -> None:
        super().__init__(mode, held_out)
        self.gain = np.asarray(gain, float)
        if self.gain.shape != (_BANDS,) or not (np.abs(self.gain) <= _MAX_GAIN + 1e-6).all():
            raise ValueError(f"gain needs {_BANDS} values within ±{_MAX_GAIN} dB, got {list(gain)}")

    def _arguments(self) -> Params:
        return {"mode": self.mode, "gain": compact(self.gain)}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        levels = []
        for side in (real, synthetic):
            rows = [_band_levels(v.value) for v in side]
            levels.append(np.average(rows, axis=0, weights=[v.weight for v in side]))
        gain = levels[0] - levels[1]
        gain = np.convolve(np.pad(gain, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
        return {"mode": _mode(real), "gain": compact(np.clip(gain, -_MAX_GAIN, _MAX_GAIN))}

    def _corrected(self, x: F64, params: Params) -> F64:  # noqa: ARG002 - draws nothing
        h, w, _ = x.shape
        pad = min(32, h, w)
        planes = np.moveaxis(np.pad(x, ((pad, pad), (pad, pad), (0, 0)), mode="symmetric"), 2, 0)
        shape = planes.shape[1:]
        f = np.hypot(fft.fftfreq(shape[0])[:, None], fft.rfftfreq(shape[1])[None])
        centres = np.log(_band_edges()[:-1] * _band_edges()[1:]) / 2
        decibels = np.interp(np.log(np.maximum(f, 1e-9)), centres, self.gain)
        # Coarser than the bands is tone, which is not this correction's.
        decibels[f < _band_edges()[0]] = 0.0
        spectrum = fft.rfft2(planes) * 10 ** (decibels / 20)
        out = fft.irfft2(spectrum, shape)[:, pad : pad + h, pad : pad + w]
        return np.moveaxis(out, 0, 2)


class MatchNoise(_ImageCorrection):
    """Give the set the real set's noise: add Gaussian noise, or take some away.

    Noise is taken away by a local Wiener filter (5 × 5 pixels): flat parts are smoothed, edges are
    left. The amount is found by measuring the corrected images. Fine texture counts as noise.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    add : float
        Standard deviation of the noise to add, in grey levels.
    remove : float
        Standard deviation that the Wiener filter takes for noise. One of the two is 0.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    References
    ----------
    Lee 1980, Digital image enhancement and noise filtering by use of local statistics, IEEE PAMI
    2(2). Immerkær 1996 (the measure).
    """

    name: ClassVar[str] = "match_noise"
    acts_on: ClassVar[frozenset[str]] = frozenset({"noise"})

    def __init__(
        self, mode: str, add: float = 0.0, remove: float = 0.0, held_out: Sequence[str] = ()
    ) -> None:
        super().__init__(mode, held_out)
        if add < 0 or remove < 0 or (add and remove):
            raise ValueError(f"add and remove must be 0 or more and one of them 0: {add}, {remove}")
        self.add, self.remove = float(add), float(remove)

    def _arguments(self) -> Params:
        return {"mode": self.mode, "add": self.add, "remove": self.remove}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        mode = _mode(real)
        wanted = np.average(
            [_attribute(v.value, "noise") for v in real], weights=[v.weight for v in real]
        )
        some = [v.value for v in synthetic[:_SEARCHED]]
        now = _mean_attribute(some, cls(mode), "noise")
        if now < wanted:
            add = _search(lambda a: _mean_attribute(some, cls(mode, add=a), "noise"), wanted, 96.0)
            return {"mode": mode, "add": compact(add)}
        remove = _search(
            lambda a: -_mean_attribute(some, cls(mode, remove=a), "noise"), -wanted, 4 * now + 1
        )
        return {"mode": mode, "remove": compact(remove)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the noise's seed."""
        return {"seed": draw_seed(rng)}

    def _corrected(self, x: F64, params: Params) -> F64:
        if self.add:
            return x + self.add * rng_of(params["seed"]).standard_normal(x.shape)
        if not self.remove:
            return x
        size = (min(5, x.shape[0]), min(5, x.shape[1]), 1)
        mean = ndimage.uniform_filter(x, size, mode="reflect")
        spread = np.maximum(ndimage.uniform_filter(x * x, size, mode="reflect") - mean**2, 0)
        kept = np.divide(
            np.maximum(spread - self.remove**2, 0), spread, out=np.zeros_like(x), where=spread > 0
        )
        return np.asarray(mean + kept * (x - mean))


class MatchSize(_ImageCorrection):
    """Give each image the size of a real one: cropped about the centre to its shape, then resized.

    An enlarged image is no sharper than it was.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    sizes : list of (int, int)
        Widths and heights of real images; one is drawn for each image.
    held_out : sequence of str
        See :class:`~.base.Correction`.
    """

    name: ClassVar[str] = "match_size"
    acts_on: ClassVar[frozenset[str]] = frozenset({"width", "height", "aspect_ratio"})

    def __init__(
        self, mode: str, sizes: Sequence[Sequence[int]], held_out: Sequence[str] = ()
    ) -> None:
        super().__init__(mode, held_out)
        self.sizes = tuple((int(w), int(h)) for w, h in sizes)
        if not self.sizes or min(min(size) for size in self.sizes) < 1:
            raise ValueError(f"sizes needs at least one pair of 1 or more, got {list(sizes)}")

    def _arguments(self) -> Params:
        return {"mode": self.mode, "sizes": [list(size) for size in self.sizes]}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:  # noqa: ARG003
        sizes = sorted(v.value.size for v in real if v.weight > 0)
        if len(set(sizes)) == 1:
            sizes = sizes[:1]
        # Evenly through the sorted sizes, so that a few stand for all.
        kept = [sizes[i] for i in np.linspace(0, len(sizes) - 1, min(64, len(sizes))).astype(int)]
        return {"mode": _mode(real), "sizes": [list(size) for size in kept]}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw a size."""
        return {"row": int(rng.integers(len(self.sizes)))}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Crop and resize."""
        image = value if value.mode == self.mode else value.convert(self.mode)
        return ImageOps.fit(image, self.sizes[params["row"]], Image.Resampling.LANCZOS)


class MatchJpeg(_ImageCorrection):
    """Give the set the real set's JPEG blocks, by compressing at the quality that makes them.

    Parameters
    ----------
    mode : str
        The real set's: images are converted to it.
    quality : int
        Of the JPEG, 1 to 95.
    held_out : sequence of str
        See :class:`~.base.Correction`.

    Raises
    ------
    NotCorrectableError
        By :meth:`fit`, if the synthetic set has the stronger blocks: compression cannot be undone.
    """

    name: ClassVar[str] = "match_jpeg"
    acts_on: ClassVar[frozenset[str]] = frozenset({"blockiness"})

    def __init__(self, mode: str, quality: int, held_out: Sequence[str] = ()) -> None:
        super().__init__(mode, held_out)
        if not 1 <= quality <= 95:
            raise ValueError(f"quality must be from 1 to 95, got {quality}")
        self.quality = quality

    def _arguments(self) -> Params:
        return {"mode": self.mode, "quality": self.quality}

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        mode = _mode(real)
        wanted = np.average(
            [_attribute(v.value, "blockiness") for v in real], weights=[v.weight for v in real]
        )
        some = [v.value for v in synthetic[:_SEARCHED]]
        now = float(np.mean([_attribute(v, "blockiness") for v in some]))
        if now >= wanted:
            raise NotCorrectableError(
                f"the synthetic set has the stronger JPEG blocks ({now:.3g} against {wanted:.3g} "
                "grey levels): compression cannot be undone, make the set anew at a higher quality",
                "stronger_jpeg",
                synthetic=now,
                real=wanted,
            )
        found = {
            q: abs(_mean_attribute(some, cls(mode, q), "blockiness") - wanted)
            for q in (95, 90, 85, 80, 75, 70, 60, 50, 40, 30, 20, 10)
        }
        quality = min(found, key=lambda q: found[q])
        if found[quality] >= wanted - now:
            raise NotCorrectableError(
                f"no JPEG quality brings the blocks nearer to the real set's ({now:.3g} against "
                f"{wanted:.3g} grey levels) than they are",
                "no_quality",
                synthetic=now,
                real=wanted,
            )
        return {"mode": mode, "quality": quality}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:  # noqa: ARG002
        """Compress and decompress."""
        image = value if value.mode == self.mode else value.convert(self.mode)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=self.quality)
        with Image.open(buffer) as coded:
            return coded.convert(self.mode)


def _mode(real: Sequence[Value]) -> str:
    return "RGB" if any(v.value.mode == "RGB" for v in real) else "L"


def _array(image: Image.Image, mode: str) -> F64:
    if image.mode not in {"L", "RGB"}:
        raise ValueError(f"a correction takes an image of mode L or RGB, got {image.mode}")
    x = np.asarray(image if image.mode == mode else image.convert(mode), np.float64)
    return x if x.ndim == 3 else x[..., None]


def _image(x: F64) -> Image.Image:
    pixels = np.rint(np.clip(x, 0, 255)).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _pixels(side: Sequence[Value], mode: str) -> tuple[F64, F64]:
    """Give some pixels of every image, shape (n, c), and their weights."""
    rows, weights = [], []
    for v in side:
        x = _array(v.value, mode)
        step = max(1, int(np.sqrt(x.shape[0] * x.shape[1] / _PIXELS)))
        part = x[::step, ::step].reshape(-1, x.shape[2])
        rows.append(part)
        # Every image counts alike, whatever its size.
        weights.append(np.full(len(part), v.weight / len(part)))
    return np.concatenate(rows), np.concatenate(weights)


def _weighted_quantiles(x: F64, weights: F64, at: F64) -> F64:
    order = np.argsort(x, kind="stable")
    total = np.cumsum(weights[order])
    middle = (total - weights[order] / 2) / total[-1]
    return np.interp(at, middle, x[order])


def _curve(x: F64, source: F64, target: F64) -> F64:
    """Map values by matched quantiles; where many source quantiles are equal, to their mean."""
    levels, inverse = np.unique(source, return_inverse=True)
    means = np.bincount(inverse, weights=target) / np.bincount(inverse)
    if len(levels) == 1:
        return np.asarray(x + (means[0] - levels[0]))
    return np.asarray(np.interp(x, levels, means))


# Linear RGB to LMS (Reinhard et al., eq. 4); l, α and β are a rotation of log LMS (eq. 6).
_LMS = np.array(
    [[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]]
)  # fmt: skip
_OPPONENT = np.diag([3**-0.5, 6**-0.5, 2**-0.5]) @ np.array([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_BLACK = 1.0
"""Added before the logarithm, in grey levels: black has none."""


def _to_lab(x: F64) -> F64:
    if x.shape[-1] == 1:
        return x
    return _dot(np.log10(_dot(x + _BLACK, _LMS.T)), _OPPONENT.T)


def _from_lab(z: F64) -> F64:
    if z.shape[-1] == 1:
        return z
    # _OPPONENT is orthogonal. The exponent is bounded: an extreme colour must not overflow.
    lms = 10 ** np.clip(_dot(z, _OPPONENT), -6, 6)
    return _dot(lms, np.linalg.inv(_LMS).T) - _BLACK


def _dot(x: F64, matrix: F64) -> F64:
    # Not BLAS: its sums depend on the number of threads, and a replay must give equal bytes.
    product: F64 = np.einsum("...i,ij->...j", x, matrix)
    return product


def _transport(s: F64, r: F64) -> F64:
    """Give the linear map that takes a Gaussian of covariance s to one of r, at least cost."""
    floor = 1e-6 * max(np.trace(s), np.trace(r), 1.0) * np.eye(len(s))
    root = _root(r + floor)
    middle = _root(root @ (s + floor) @ root)
    matrix: F64 = root @ np.linalg.solve(middle, root)
    return (matrix + matrix.T) / 2


def _root(a: F64) -> F64:
    values, vectors = linalg.eigh((a + a.T) / 2)
    return np.asarray((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)


def _rows(cycles: int) -> list[int]:
    return [*range(cycles + 1), *range(-cycles, 0)]


def _band_edges() -> F64:
    return np.geomspace(1 / 64, 1 / 2, _BANDS + 1)


def _band_levels(image: Image.Image) -> F64:
    """Give the mean power of the luma in every band of spatial frequency, in decibels."""
    x = np.asarray(image.convert("L"), np.float64)
    h, w = x.shape
    window = np.hanning(h + 2)[1:-1, None] * np.hanning(w + 2)[None, 1:-1]
    x = (x - np.average(x, weights=window)) * window
    power = np.abs(fft.rfft2(x)) ** 2 / (window**2).sum()
    f = np.hypot(fft.fftfreq(h)[:, None], fft.rfftfreq(w)[None])
    band = np.digitize(f, _band_edges()) - 1
    inside = (band >= 0) & (band < _BANDS)
    count = np.bincount(band[inside], minlength=_BANDS)
    total = np.bincount(band[inside], weights=power[inside], minlength=_BANDS)
    seen = count > 0
    if not seen.any():
        raise NotCorrectableError(
            f"an image of {w}×{h} is too small for a spectrum", "no_spectrum", width=w, height=h
        )
    # 0.1 of a grey level's rounding noise: a flat image has no power.
    levels = 10 * np.log10(np.maximum(total[seen] / count[seen], 1e-2))
    return np.asarray(np.interp(np.arange(_BANDS), np.flatnonzero(seen), levels))


def _attribute(image: Image.Image, name: str) -> float:
    return image_attributes(np.asarray(image, np.uint8))[name]


def _mean_attribute(images: Sequence[Image.Image], correction: Correction, name: str) -> float:
    made = (
        correction.apply(image, correction.sample_params(rng_of(k)))
        for k, image in enumerate(images)
    )
    return float(np.mean([_attribute(image, name) for image in made]))


def _search(rising: Callable[[float], float], wanted: float, high: float) -> float:
    """Bisect for the argument at which a rising function has the value; the end if it never has."""
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2
        if rising(middle) < wanted:
            low = middle
        else:
            high = middle
    return (low + high) / 2
