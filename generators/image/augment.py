"""Image augmentation as in training: torchvision's policies, mixtures of two, cut and paste.

torchvision draws from torch's global state; here each item gets its own seed, and the state is put
back afterwards, so that nothing depends on the order of the items.

References
----------
Cubuk, E. et al. (2020). RandAugment. CVPR workshops. arXiv:1909.13719.
Müller, S. and Hutter, F. (2021). TrivialAugment. ICCV. arXiv:2103.10158.
Hendrycks, D. et al. (2020). AugMix. ICLR. arXiv:1912.02781.
Zhang, H. et al. (2018). mixup: beyond empirical risk minimization. ICLR. arXiv:1710.09412.
Yun, S. et al. (2019). CutMix. ICCV. arXiv:1905.04899.
Dwibedi, D., Misra, I. and Hebert, M. (2017). Cut, paste and learn. ICCV. arXiv:1708.01642.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from ...errors import EvalsuiteError
from ..effect import Effect, Span, TwoParents
from ..registry import suggestion
from ..values import Modality, Params

_TORCH = threading.Lock()


@dataclass(frozen=True)
class _ImageEffect(Effect):
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE


@dataclass(frozen=True)
class _Policy(_ImageEffect):
    """One of torchvision's policies; grey images are treated in colour and come back grey."""

    seeded: ClassVar[bool] = True
    libraries: ClassVar[tuple[str, ...]] = ("torch", "torchvision")

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Apply what the policy draws by the item's seed."""
        _check_mode(value)
        try:
            import torch
            from torchvision.transforms import v2
        except ImportError as error:
            raise EvalsuiteError(
                f"{self.name} needs torchvision: pip install 'evalsuite[generators]'"
            ) from error
        # The state is the process's: two threads must not draw from it at once.
        with _TORCH, torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(params["seed"])
            made: Image.Image = self._policy(v2)(value.convert("RGB"))
        return made.convert(value.mode)

    def _policy(self, v2: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class RandAugment(_Policy):
    """RandAugment: several operations of one strength, drawn from torchvision's 14.

    Parameters
    ----------
    operations_each : int
        How many, one after the other.
    magnitude : int
        Strength, from 0 to 30.
    """

    name: ClassVar[str] = "rand_augment"

    operations_each: int = 2
    magnitude: int = 9

    def __post_init__(self) -> None:
        """Check the settings."""
        if self.operations_each < 1 or not 0 <= self.magnitude <= 30:
            raise ValueError(
                "operations_each must be 1 or more and magnitude within [0, 30], got "
                f"{self.operations_each} and {self.magnitude}"
            )

    def _policy(self, v2: Any) -> Any:
        return v2.RandAugment(self.operations_each, self.magnitude)


@dataclass(frozen=True)
class TrivialAugment(_Policy):
    """TrivialAugmentWide: one operation of a strength, both drawn anew for each item."""

    name: ClassVar[str] = "trivial_augment"

    def _policy(self, v2: Any) -> Any:
        return v2.TrivialAugmentWide()


@dataclass(frozen=True)
class AugMix(_Policy):
    """AugMix: several chains of operations, mixed with the image itself.

    Parameters
    ----------
    severity : int
        From 1 to 10.
    """

    name: ClassVar[str] = "aug_mix"

    severity: int = 3

    def __post_init__(self) -> None:
        """Check the settings."""
        if not 1 <= self.severity <= 10:
            raise ValueError(f"severity must be within [1, 10], got {self.severity}")

    def _policy(self, v2: Any) -> Any:
        return v2.AugMix(severity=self.severity)


@dataclass(frozen=True)
class _Mixture(TwoParents, _ImageEffect):
    """Two images in one; ``share`` is the first one's part, at least a half, as its label stays."""

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the partner, and how much of it."""
        drawn = super().sample_params(rng)
        alpha = drawn.pop("alpha")
        share = float(rng.beta(alpha, alpha))
        return {**drawn, "share": max(share, 1 - share)}

    def _both(
        self, value: Image.Image, params: Params
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        _check_mode(value)
        other: Image.Image = self.second(params)
        fitted = other.convert(value.mode).resize(value.size, Image.Resampling.BILINEAR)
        return np.asarray(value, np.float64), np.asarray(fitted, np.float64)


@dataclass(frozen=True)
class MixUp(_Mixture):
    """Mix two images of a split, pixel by pixel.

    The label stays the first parent's, whose share is at least a half; share and the other's label
    are in ``params`` for those who train on soft labels.

    Parameters
    ----------
    alpha : float or [low, high]
        Of the Beta distribution of the share: small values mix little.
    """

    name: ClassVar[str] = "mix_up"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.01, 100)}

    alpha: Span = 0.2

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Mix the two."""
        first, second = self._both(value, params)
        return _image(params["share"] * first + (1 - params["share"]) * second)


@dataclass(frozen=True)
class CutMix(_Mixture):
    """Put a rectangle of another image of the split into the image, at the same place.

    Label and share as in :class:`MixUp`: the rectangle has at most half of the area.

    Parameters
    ----------
    alpha : float or [low, high]
        Of the Beta distribution of the share: 1 makes all areas alike likely.
    """

    name: ClassVar[str] = "cut_mix"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"alpha": (0.01, 100)}

    alpha: Span = 1.0

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the partner, and how much of it from where."""
        drawn = super().sample_params(rng)
        return {**drawn, "x": float(rng.random()), "y": float(rng.random())}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Put the rectangle in."""
        first, second = self._both(value, params)
        side = math.sqrt(1 - params["share"])
        height, width = first.shape[:2]
        h, w = round(height * side), round(width * side)
        top, left = round(params["y"] * (height - h)), round(params["x"] * (width - w))
        first[top : top + h, left : left + w] = second[top : top + h, left : left + w]
        return _image(first)


Mask: TypeAlias = Literal["otsu", "ellipse", "box"]


@dataclass(frozen=True)
class CutPaste(TwoParents, _ImageEffect):
    """Cut something out of another image of the split and paste it into this one.

    The label stays the first parent's; the other's is in ``params``. What was pasted may be a
    thing that the label denies: check where labels say what is *not* there.

    Parameters
    ----------
    mask : {"otsu", "ellipse", "box"}
        What is cut out of the drawn window: the largest part of it on the brighter or darker side
        of Otsu's threshold (whichever touches the window's border less), an ellipse, or all of it.
    size : float or [low, high]
        Side of the window, as a share of the other image's sides.
    scale : float or [low, high]
        By which it is enlarged before it is pasted; never beyond the image.
    edge : float or [low, high]
        Softness of the edge, as a share of the window's shorter side.

    References
    ----------
    Otsu, N. (1979). A threshold selection method from gray-level histograms. IEEE Transactions on
    Systems, Man, and Cybernetics 9(1), 62-66.
    """

    name: ClassVar[str] = "cut_paste"
    limits: ClassVar[dict[str, tuple[float, float]]] = {
        "size": (0.05, 1),
        "scale": (0.1, 4),
        "edge": (0, 0.2),
    }

    mask: Mask = "otsu"
    size: Span = (0.2, 0.5)
    scale: Span = (0.7, 1.4)
    edge: Span = 0.03

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if self.mask not in get_args(Mask):
            raise ValueError(f"unknown mask {self.mask!r}{suggestion(self.mask, get_args(Mask))}")

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the partner, the window, and where it goes."""
        drawn = super().sample_params(rng)
        places = dict(zip(("from_x", "from_y", "to_x", "to_y"), rng.random(4), strict=True))
        return {**drawn, **{name: float(place) for name, place in places.items()}}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Cut and paste."""
        _check_mode(value)
        other: Image.Image = self.second(params).convert(value.mode)
        w, h = (max(2, round(side * params["size"])) for side in other.size)
        left = round(params["from_x"] * (other.width - w))
        top = round(params["from_y"] * (other.height - h))
        window = other.crop((left, top, left + w, top + h))
        scale = min(params["scale"], value.width / w, value.height / h)
        size = (max(1, round(w * scale)), max(1, round(h * scale)))
        alpha = self._cut(window, params["edge"])
        place = (
            round(params["to_x"] * (value.width - size[0])),
            round(params["to_y"] * (value.height - size[1])),
        )
        made = value.copy()
        bilinear = Image.Resampling.BILINEAR
        made.paste(window.resize(size, bilinear), place, alpha.resize(size, bilinear))
        return made

    def _cut(self, window: Image.Image, edge: float) -> Image.Image:
        h, w = window.height, window.width
        if self.mask == "box":
            inside = np.ones((h, w))
        elif self.mask == "ellipse":
            yy, xx = np.mgrid[-1 : 1 : h * 1j, -1 : 1 : w * 1j]
            inside = (yy**2 + xx**2 <= 1).astype(np.float64)
        else:
            inside = _foreground(np.asarray(window.convert("L"), np.float64))
        soft = ndimage.gaussian_filter(inside, edge * min(h, w), mode="constant")
        return _image(255 * np.minimum(inside, soft) if edge else 255 * inside)


def otsu(grey: npt.NDArray[np.float64]) -> float:
    """Give the grey, 0 to 255, that parts two classes with the largest variance between them."""
    counts = np.bincount(np.rint(grey).astype(np.intp).ravel(), minlength=256).astype(np.float64)
    below, total = np.cumsum(counts), counts.sum()
    mass = np.cumsum(counts * np.arange(256))
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mass[-1] * below / total - mass) ** 2 / (below * (total - below))
    return float(np.nanargmax(np.where(np.isfinite(between), between, -1)))


def _foreground(grey: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    bright = grey > otsu(grey)
    rim = np.ones(grey.shape, bool)
    rim[1:-1, 1:-1] = False
    side = bright if bright[rim].mean() <= 0.5 else ~bright
    parts, n = ndimage.label(side)
    if n == 0:
        raise ValueError("the window that was cut out is of one grey: there is nothing to cut")
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=n + 1)[1:]))
    return np.asarray(ndimage.binary_fill_holes(parts == largest), np.float64)


def _image(pixels: npt.NDArray[np.float64]) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(pixels, 0, 255)).astype(np.uint8))


def _check_mode(image: Image.Image) -> None:
    if image.mode not in {"L", "RGB"}:
        raise ValueError(f"an image of mode L or RGB is due, got {image.mode}: convert it first")
