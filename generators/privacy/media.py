"""Personal data in images and sounds: metadata stripped, faces masked, voices changed.

What comes out has less personal data in it. It is not anonymous: a face that the detector missed is
still there, and a changed voice can be recognised by someone who has the method.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from ...errors import ModelError
from ..registry import register, suggestion
from ..values import Audio, Modality, Params

F64: TypeAlias = npt.NDArray[np.float64]
MaskKind: TypeAlias = Literal["fill", "pixelate"]

_VOICE_RATE = 8_000  # Hz
_BLOCKS = 6  # of a pixelated face, along its side: coarser than what face recognition works on


@register
class StripMetadata:
    """Give an image's pixels and nothing else: no EXIF, GPS, XMP, profile, comment or thumbnail.

    An orientation in the metadata is applied first, a palette becomes RGB, transparency stays. A
    sound has no metadata once it is read; for audio this is the identity, and says so in a recipe.

    Parameters
    ----------
    modality : str
        ``image`` or ``audio``.

    Raises
    ------
    ValueError
        If it is another modality.
    """

    name: ClassVar[str] = "strip_metadata"
    version: ClassVar[int] = 1

    def __init__(self, modality: str = Modality.IMAGE) -> None:
        if modality not in {Modality.IMAGE, Modality.AUDIO}:
            raise ValueError(f"metadata is stripped from image or audio, not from {modality!r}")
        self.input = self.output = Modality(modality)

    @property
    def params(self) -> Params:
        """The modality."""
        return {"modality": str(self.input)}

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: Any, params: Params) -> Any:  # noqa: ARG002 - the protocol's
        """Make a new image of the pixels."""
        if isinstance(value, Audio):
            return Audio(value.samples, value.rate)
        return bare(value)


def bare(image: Image.Image) -> Image.Image:
    """Give the upright pixels of an image, without anything else."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "P":
        upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
    return Image.frombytes(upright.mode, upright.size, upright.tobytes())


Box: TypeAlias = tuple[int, int, int, int]
"""Left, top, right, bottom, in pixels."""


class Mask(ABC):
    """Cover what is found in an image; the metadata goes too.

    Parameters
    ----------
    kind : {"fill", "pixelate"}
        A box of the mean colour, or 6×6 blocks. Blur is not offered: it can be undone.
    margin : float
        How far a box goes beyond what was found, as a part of its size, 0 to 2.
    settings : dict
        The other arguments.

    Raises
    ------
    ValueError
        If the kind is unknown, or the margin is out of range.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE
    libraries: ClassVar[tuple[str, ...]] = ("opencv-python-headless",)

    def __init__(self, kind: MaskKind, margin: float, settings: Params) -> None:
        if kind not in get_args(MaskKind):
            raise ValueError(f"unknown mask {kind!r}{suggestion(kind, get_args(MaskKind))}")
        if not 0 <= margin <= 2:
            raise ValueError(f"margin must be within [0, 2], got {margin}")
        self.kind, self.margin = kind, float(margin)
        self._settings = settings

    @property
    def params(self) -> Params:
        """The arguments."""
        return {"kind": self.kind, "margin": self.margin, **self._settings}

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    @abstractmethod
    def found(self, image: Image.Image) -> Iterable[tuple[Box, int]]:
        """Give what is to be covered, and the size that the margin is a part of, in pixels."""

    def apply(self, value: Image.Image, params: Params) -> Image.Image:  # noqa: ARG002
        """Cover what is found.

        Raises
        ------
        ModelError
            If OpenCV, or what it needs, is not installed.
        ValueError
            If the image is neither ``L`` nor ``RGB``.
        """
        image = bare(value)
        if image.mode not in {"L", "RGB"}:
            raise ValueError(f"{self.name} takes an image of mode L or RGB, got {image.mode}")
        for (left, top, right, bottom), size in self.found(image):
            margin = round(size * self.margin)
            whole = (
                max(0, left - margin),
                max(0, top - margin),
                min(image.width, right + margin),
                min(image.height, bottom + margin),
            )
            side = 1 if self.kind == "fill" else _BLOCKS
            there = image.crop(whole)
            coarse = there.resize((side, side), Image.Resampling.BOX)
            image.paste(coarse.resize(there.size, Image.Resampling.NEAREST), whole)
        return image


@register
class MaskFaces(Mask):
    """Cover the faces that OpenCV's Haar cascades find; the metadata goes too.

    Two cascades look: for faces from the front, and in profile (both ways). They miss faces that
    are turned, tilted, small, dark, covered or drawn, and take some other things for faces; how
    many of a labelled set they found is in docs/privacy.md.

    Parameters
    ----------
    kind, margin
        As for :class:`Mask`; the margin is a part of the face's side.
    smallest : int
        Side of the smallest face that is looked for, in pixels.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Viola, P. and Jones, M. (2001). Rapid object detection using a boosted cascade of simple
    features. CVPR.
    """

    name: ClassVar[str] = "mask_faces"

    def __init__(self, kind: MaskKind = "fill", margin: float = 0.2, smallest: int = 24) -> None:
        if smallest < 20:
            raise ValueError(f"smallest must be 20 or more, got {smallest}")
        super().__init__(kind, margin, {"smallest": smallest})
        self.smallest = smallest

    def found(self, image: Image.Image) -> Iterable[tuple[Box, int]]:
        """Give the faces."""
        for left, top, width, height in find_faces(image, self.smallest):
            yield (left, top, left + width, top + height), width


def find_faces(image: Image.Image, smallest: int = 24) -> list[tuple[int, int, int, int]]:
    """Find faces: left, top, width, height of each, in pixels; one face may come twice.

    Raises
    ------
    ModelError
        If OpenCV or its cascades are not installed.
    """
    frontal, profile = _cascades()
    grey = np.asarray(image.convert("L"))
    found: list[tuple[int, int, int, int]] = []
    for cascade, mirrored in ((frontal, False), (profile, False), (profile, True)):
        pixels = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
        boxes = cascade.detectMultiScale(
            pixels, scaleFactor=1.1, minNeighbors=3, minSize=(smallest, smallest)
        )
        for x, y, width, height in (tuple(map(int, box)) for box in boxes):
            found.append((image.width - x - width if mirrored else x, y, width, height))
    return sorted(set(found))


@cache
def _cascades() -> tuple[Any, Any]:
    try:
        cv2: Any = import_module("cv2")  # Any: its data folder is missing from its types
        folder = Path(cv2.data.haarcascades)
    except (ImportError, AttributeError) as error:
        raise ModelError("mask_faces needs OpenCV 4: pip install 'evalsuite[privacy]'") from error
    found = []
    for name in ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml"):
        cascade = cv2.CascadeClassifier() if (folder / name).is_file() else None
        if cascade is None or not cascade.load(str(folder / name)):
            raise ModelError(
                f"this OpenCV ({cv2.__version__}) has no {name}; OpenCV 5 left the cascades out: "
                "pip install 'opencv-python-headless<5'"
            )
        found.append(cascade)
    return found[0], found[1]


@register
class ChangeVoice:
    """Change a voice by McAdams' coefficient: the formants move, the words stay.

    In frames of 20 ms every 10 ms, the vocal tract's resonances are taken as the poles of a linear
    prediction of order 20 (in proportion below 16 kHz). The angle phi of each complex
    pole becomes phi to the power of alpha, with phi in radians at 16 kHz, and the residual is
    played through the new poles. Alpha 1 gives the voice back; below 1, resonances under 2.5 kHz
    rise and those above fall.

    Pitch, rhythm, accent and words stay, and an attacker who knows the method recognises voices
    well: it hides a voice from a casual listener and from a speaker model that was not trained on
    such speech.

    Parameters
    ----------
    alpha : float or list of two floats
        The coefficient, or the bounds within which it is drawn for each item; within [0.4, 1].

    Raises
    ------
    ValueError
        If it is out of range.

    References
    ----------
    Patino, J., Tomashenko, N., Todisco, M., Nautsch, A. and Evans, N. (2021). Speaker anonymisation
    using the McAdams coefficient. Interspeech, arXiv:2011.01130.
    """

    name: ClassVar[str] = "change_voice"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.AUDIO
    output: ClassVar[Modality] = Modality.AUDIO

    def __init__(self, alpha: float | list[float] = 0.8) -> None:
        bounds = [float(a) for a in (alpha if isinstance(alpha, list) else [alpha, alpha])]
        if len(bounds) != 2 or not 0.4 <= bounds[0] <= bounds[1] <= 1:
            raise ValueError(f"alpha is a number, or two in order, within [0.4, 1]; got {alpha!r}")
        self.alpha = bounds

    @property
    def params(self) -> Params:
        """The bounds of alpha."""
        return {"alpha": self.alpha}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw alpha."""
        return {"alpha": float(rng.uniform(self.alpha[0], self.alpha[1]))}

    def apply(self, value: Audio, params: Params) -> Audio:
        """Change the voice; length, rate and level stay.

        Raises
        ------
        ValueError
            If the rate is below 8 kHz: such sound has not the formants that are to be moved.
        """
        if value.rate < _VOICE_RATE:
            raise ValueError(f"change_voice takes sound of 8 kHz or more, got {value.rate} Hz")
        changed = mcadams(value.samples.astype(np.float64), value.rate, params["alpha"])
        return Audio(changed.astype(np.float32), value.rate)


def mcadams(samples: F64, rate: int, alpha: float) -> F64:
    """Move the resonances of a voice (see :class:`ChangeVoice`).

    Parameters
    ----------
    samples : ndarray, shape (n,)
        One channel.
    rate : int
        Hz, 8000 or more.
    alpha : float
        The coefficient, at most 1: above, poles pile up at the end of the band.

    Returns
    -------
    ndarray, shape (n,)
        With the root mean square of the samples.
    """
    from scipy.linalg import solve_toeplitz
    from scipy.signal import lfilter, sosfilt

    shift = max(1, round(0.010 * rate))
    width = 2 * shift
    order = min(20, max(2, 2 * round(10 * rate / 16_000)))
    window = np.hanning(width + 1)[:-1]  # periodic: shifted by half they sum to one
    padded = np.concatenate([np.zeros(shift), samples, np.zeros(width + shift)])
    made = np.zeros_like(padded)
    for start in range(0, padded.size - width, shift):
        frame = padded[start : start + width] * window
        power = float(frame @ frame)
        if power < 1e-10 * width:  # silence, below -100 dBFS
            made[start : start + width] += frame
            continue
        r = np.array([frame[: width - k] @ frame[k:] for k in range(min(order, width - 1) + 1)])
        r[0] *= 1 + 1e-9  # white noise at -90 dB: a pure tone would make the system singular
        a = np.concatenate([[1.0], -solve_toeplitz(r[:-1], r[1:])])
        residual = lfilter(a, [1.0], frame)
        frame = sosfilt(_moved_poles(a, rate, alpha), residual)
        changed = float(frame @ frame)
        if changed > 0:  # a frame keeps its power, so that no resonance rings above the speech
            frame *= np.sqrt(power / changed)
        made[start : start + width] += frame
    made = made[shift : shift + samples.size]
    before, after = float(samples @ samples), float(made @ made)
    return made * np.sqrt(before / after) if after > 0 else made


def _moved_poles(a: F64, rate: int, alpha: float) -> F64:
    """Give the filter of the moved poles, in sections of second order: one of order 20 rounds."""
    from scipy.signal import zpk2sos

    poles = np.roots(a)
    poles = poles[np.abs(poles) > 0]
    upper = poles[poles.imag > 0]
    # Autocorrelation gives poles within the circle; rounding may put one on it.
    radius = np.minimum(np.abs(upper), 0.9999)
    scale = rate / 16_000
    moved = radius * np.exp(1j * (np.angle(upper) * scale) ** alpha / scale)
    real = np.clip(poles[poles.imag == 0].real, -0.9999, 0.9999)
    every = np.concatenate([moved, moved.conj(), real])
    sections: F64 = zpk2sos(np.zeros(every.size), every, 1.0)
    return sections
