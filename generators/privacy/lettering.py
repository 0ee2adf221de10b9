"""Text in images: found by the form of its letters, and covered. No download, no reading.

Printed letters are components of even brightness and even stroke, of one height, side by side.
That is all that this looks for; what it finds is covered, and what it misses stays readable.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import ModelError
from ..registry import register
from .media import Box, Mask, MaskKind

F64: TypeAlias = npt.NDArray[np.float64]

_LOW, _HIGH = 8, 44  # heights of letters that are looked for at each scale, in pixels
_CONTRAST, _SHADE = 25.0, 25.0  # grey levels: to what is around a letter, and within a line
_LARGEST = 1_600  # longer side at which it looks: larger images are looked at reduced
_SCALES = (2.0, 1.0, 0.5, 0.25)


@register
class MaskText(Mask):
    """Cover the text in an image; the metadata goes too.

    Looks for maximally stable regions, dark and bright, at four scales, keeps those of the form of
    a letter (size, stroke of even width, contrast), and follows neighbours of like height, stroke
    and brightness to lines of ``letters`` or more. It needs no model and reads nothing.

    What it misses: words shorter than ``letters``, text turned by more than about 15 degrees,
    upright lines, script that is joined up, letters below about 8 pixels, faint text, text that
    differs from its ground in colour alone, much of Chinese and Japanese. Textures (cloth, grass,
    bricks, windows) are taken for text. How many words it found, and what it covered that was
    none, is in
    docs/privacy.md.

    Parameters
    ----------
    kind, margin
        As for :class:`~.media.Mask`; the margin is a part of the letters' height.
    letters : int
        Fewest letters of a line. Fewer find more words, and more of what is none.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Matas, J., Chum, O., Urban, M. and Pajdla, T. (2004). Robust wide-baseline stereo from maximally
    stable extremal regions. Image and Vision Computing 22(10), 761-767.
    Epshtein, B., Ofek, E. and Wexler, Y. (2010). Detecting text in natural scenes with stroke width
    transform. CVPR.
    """

    name: ClassVar[str] = "mask_text"

    def __init__(self, kind: MaskKind = "fill", margin: float = 0.25, letters: int = 3) -> None:
        if letters < 2:
            raise ValueError(f"a line has 2 letters or more, got {letters}")
        super().__init__(kind, margin, {"letters": letters})
        self.letters = letters

    def found(self, image: Image.Image) -> Iterable[tuple[Box, int]]:
        """Give the lines."""
        return ((box, box[3] - box[1]) for box in find_text(image, self.letters))


def find_text(image: Image.Image, letters: int = 3) -> list[Box]:
    """Find lines of text: left, top, right, bottom of each, in pixels; lines may overlap.

    Raises
    ------
    ModelError
        If OpenCV is not installed.
    """
    cv2 = _opencv()
    grey = np.asarray(image.convert("L"))
    reduced = min(1.0, _LARGEST / max(grey.shape))
    found: set[Box] = set()
    for scale in (reduced * scale for scale in _SCALES):
        width, height = (round(side * scale) for side in image.size)
        if min(width, height) < 2 * _LOW or max(width, height) > 2 * _LARGEST:
            continue
        how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        seen = grey if scale == 1 else cv2.resize(grey, (width, height), interpolation=how)
        for line in _lines(cv2, seen, letters):
            left, top, right, bottom = line / scale
            found.add(
                (
                    max(0, int(left)),
                    max(0, int(top)),
                    min(image.width, int(np.ceil(right))),
                    min(image.height, int(np.ceil(bottom))),
                )
            )
    return sorted(found)


def _lines(cv2: Any, grey: npt.NDArray[np.uint8], letters: int) -> list[F64]:
    """Find lines at one scale: letters of one polarity are joined with each other only."""
    lines: list[F64] = []
    for polarity in (grey, 255 - grey):
        glyphs = _glyphs(cv2, polarity)
        if len(glyphs) >= letters:
            lines += _traced(glyphs, letters)
    return lines


def _glyphs(cv2: Any, grey: npt.NDArray[np.uint8]) -> F64:
    """Find dark regions of the form of a letter.

    Returns
    -------
    ndarray, shape (n, 6)
        Left, top, right, bottom, width of the stroke, brightness.
    """
    mser = cv2.MSER_create(delta=4, min_area=12, max_area=_HIGH * _HIGH, max_variation=0.35)
    mser.setPass2Only(False)
    regions, boxes = mser.detectRegions(grey)
    found: dict[Box, tuple[float, ...]] = {}
    for points, (x, y, w, h) in zip(regions, boxes, strict=True):
        if not _LOW <= h <= _HIGH or not 0.08 * h <= w <= 3 * h:
            continue
        fill = len(points) / (w * h)
        if fill < 0.12 or (fill > 0.8 and w > 0.45 * h):  # only an upright bar may be solid
            continue
        mask = np.zeros((h + 2, w + 2), np.uint8)
        inside = (points[:, 1] - y + 1, points[:, 0] - x + 1)
        mask[inside] = 1
        depth = cv2.distanceTransform(mask, cv2.DIST_L2, 3)
        ridge = depth[(depth >= cv2.dilate(depth, np.ones((3, 3)))) & (mask > 0)]
        stroke = 2 * float(ridge.mean())
        if ridge.std() > 0.6 * ridge.mean() or stroke > 0.4 * h:
            continue
        value = float(grey[points[:, 1], points[:, 0]].mean())
        around = grey[max(0, y - 2) : y + h + 2, max(0, x - 2) : x + w + 2]
        others = (float(around.sum()) - value * len(points)) / (around.size - len(points))
        if others - value < _CONTRAST:
            continue
        box = (int(x), int(y), int(x + w), int(y + h))
        found[box] = (*box, stroke, value)
    return np.array(list(found.values()), np.float64).reshape(-1, 6)


def _traced(glyphs: F64, letters: int) -> list[F64]:
    """Follow letters to the right, as long as they keep to the line; give the lines' boxes."""
    left, top, right, bottom, stroke, value = glyphs.T
    height, middle = bottom - top, (top + bottom) / 2
    order = np.argsort(left, kind="stable")
    free = np.ones(len(glyphs), bool)
    lines = []
    for first in order:
        if not free[first]:
            continue
        line = [int(first)]
        while True:
            last = line[-1]
            tall, centre = (float(np.median(of[line])) for of in (height, middle))
            width, shade = (float(np.median(of[line])) for of in (stroke, value))
            gap = left - right[last]
            fits = (
                (left > left[last] + 0.15 * tall)
                & (gap > -0.3 * tall)
                & (gap < 0.8 * tall)
                & (height < 1.8 * tall)
                & (height > 0.55 * tall)
                & (np.abs(middle - centre) < 0.3 * tall)
                & (stroke < 1.7 * width)
                & (stroke > width / 1.7)
                & (np.abs(value - shade) < _SHADE)
            )
            if not fits.any():
                break
            line.append(int(np.flatnonzero(fits)[np.argmin(gap[fits])]))
        if len(line) >= letters:
            free[line] = False
            ends = 0.5 * float(np.median(height[line]))  # first and last letters are lost first
            lines.append(
                np.array(
                    [
                        left[line].min() - ends,
                        top[line].min(),
                        right[line].max() + ends,
                        bottom[line].max(),
                    ]
                )
            )
    return lines


def _opencv() -> Any:
    try:
        return import_module("cv2")
    except ImportError as error:
        raise ModelError("mask_text needs OpenCV: pip install 'evalsuite[privacy]'") from error
