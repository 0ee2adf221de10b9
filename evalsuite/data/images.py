"""Decode pictures that are not trusted, into one of two modes; fingerprint content.

Only Pillow is used, and of it only the readers named in ``_FORMATS``: the full set would also start
Ghostscript for an EPS file. The format is found by content, never by the file's name.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import ExifTags, Image, ImageFile

from evalsuite.errors import DataError

from .dataset import BadSample, Kind, Limits

if TYPE_CHECKING:
    from PIL.ImageCms import ImageCmsTransform

_FORMATS = {
    "JPEG": ("JpegImagePlugin", "JpegImageFile", ".jpg .jpeg .jpe .jfif .mpo"),
    "PNG": ("PngImagePlugin", "PngImageFile", ".png .apng"),
    "WEBP": ("WebPImagePlugin", "WebPImageFile", ".webp"),
    "GIF": ("GifImagePlugin", "GifImageFile", ".gif"),
    "BMP": ("BmpImagePlugin", "BmpImageFile", ".bmp .dib"),
    "TIFF": ("TiffImagePlugin", "TiffImageFile", ".tif .tiff"),
    "PPM": ("PpmImagePlugin", "PpmImageFile", ".ppm .pgm .pbm .pnm .pfm"),
    "JPEG2000": ("Jpeg2KImagePlugin", "Jpeg2KImageFile", ".jp2 .j2k .jpx .jpc .jpf .j2c"),
    "AVIF": ("AvifImagePlugin", "AvifImageFile", ".avif .avifs"),
}
"""Format: Pillow's module and class for it, and the endings of its files."""

EXTENSIONS = {end: form for form, (_, _, ends) in _FORMATS.items() for end in ends.split()}
"""Ending, with its dot, to format."""

_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_NOT_IMAGES = (
    (rb"%PDF", "a PDF document"),
    (rb"%!PS|\xc5\xd0\xd3\xc6", "PostScript, which would have to be run"),
    (rb"\x93NUMPY", "a NumPy array"),
    (rb"\x80[\x02-\x05]", "a Python pickle, which is never loaded"),
    (rb"PK\x03\x04", "a ZIP archive (also .pt, .npz, .docx)"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a compressed archive"),
    (rb"PAR1", "a Parquet file"),
    (rb"\x7fELF|MZ", "a program"),
    (rb"RIFF....WAVE|OggS|fLaC|ID3", "audio"),
    (rb"....ftyphei[cxms]|....ftyp(?:hevc|hevx|heim|heis)", "HEIC, which Pillow cannot read"),
    (rb"....ftyp|\x1aE\xdf\xa3", "video or MPEG-4 audio"),
    (rb"8BPS", "a Photoshop document"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:!DOCTYPE\s+)?html", "HTML"),
    (rb"(?:\xef\xbb\xbf)?\s*<(?:\?xml|svg|!--|!DOCTYPE)", "SVG or other XML"),
)

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TOO_LARGE = (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError)
_EXIF_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A decoded picture.

    Attributes
    ----------
    pixels : PIL.Image.Image
        Mode ``L`` (grey, one channel) or ``RGB``, 8 bits a channel, upright, loaded. Grey pictures
        stay grey, so that later steps may do a third of the work; ``convert("RGB")`` repeats them.
    notes : tuple of str
        What was done to get there, sorted: ``16-bit`` ``32-bit`` ``alpha`` ``bilevel`` ``cmyk``
        ``exif-rotated`` ``exif-unreadable`` ``extension`` ``first-frame`` ``float`` ``grey``
        ``lab`` ``palette`` ``ycbcr``.
    width, height : int
        Pixels, upright.
    format : str
        By content: ``JPEG``, ``PNG``, …
    """

    pixels: Image.Image
    notes: tuple[str, ...]
    width: int
    height: int
    format: str


def sniff(head: bytes) -> str | None:
    """Name the image format that content starts like; None if it is none that is read."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if re.match(rb"P[1-6Ff]\s+[\d#]", head):
        return "PPM"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    if head[4:8] == b"ftyp" and (
        head[8:12] in (b"avif", b"avis")
        or (head[8:12] in (b"mif1", b"msf1") and b"avif" in head[16:64])
    ):
        return "AVIF"
    return None


def decode_image(
    data: bytes, limits: Limits | None = None, *, name: str | None = None
) -> DecodedImage:
    """Decode one picture.

    Parameters
    ----------
    data : bytes
        The encoded file.
    limits : Limits, optional
        Its size is checked before decoding, by the header and without allocating it.
    name : str, optional
        The file's name. It is not used to find the format, only to note that its ending is wrong.

    Returns
    -------
    DecodedImage
        In mode ``L`` or ``RGB``. docs/data.md has the table of what is done with each mode; the
        treatment depends on a file's type and never on its brightness, because stretching each
        picture to its own range would hide the very differences that are to be measured.

    Raises
    ------
    BadSample
        ``not_an_image``, ``truncated``, ``oversized`` or ``unreadable`` (damaged, or pixel values
        that have no known scale).
    MemoryError
        If the machine has too little memory for a picture within the limits.
    DataError
        If Pillow was told to pass truncated files as whole (``LOAD_TRUNCATED_IMAGES``).
    """
    limits = limits or Limits()
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise DataError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so that a truncated file would pass as a "
            "whole one: set it to False before decoding"
        )
    if not data:
        raise BadSample("truncated", "it is empty: 0 bytes")
    if len(data) > limits.max_bytes:
        raise BadSample("oversized", f"{len(data):,} bytes; at most {limits.max_bytes:,} are read")
    form = sniff(data[:64])
    if form is None:
        raise BadSample("not_an_image", what_is(data[:512]))
    try:
        return _decoded(form, data, limits, name)
    except MemoryError as error:
        if not _is_room(limits):
            raise  # the machine is short of memory: no sample is to blame
        # There is room now: a file that still asks for too much is at fault.
        try:
            return _decoded(form, data, limits, name)
        except MemoryError:
            raise _damaged(form, error, data) from None


def _is_room(limits: Limits) -> bool:
    """Say whether as much memory can be had as decoding the largest picture may take."""
    try:
        np.empty(8 * limits.max_pixels, dtype=np.uint8)
    except MemoryError:
        return False
    return True


def _decoded(form: str, data: bytes, limits: Limits, name: str | None) -> DecodedImage:
    try:
        image = _reader(form)(io.BytesIO(data))
        _check_size(image.size, limits)
        notes = {"first-frame"} if getattr(image, "is_animated", False) else set()
        depth = _depth(image)
        rotated = form == "TIFF" and image.getexif().get(ExifTags.Base.Orientation, 1) in _TRANSPOSE
        image.load()
        _check_size(image.size, limits)  # an animation's first frame may be larger than it says
        pixels = _to_eight_bits(image, depth, notes)
        orientation = 1 if form == "TIFF" else _orientation(image, notes)
        if rotated or orientation in _TRANSPOSE:  # of a TIFF, load() did it
            notes.add("exif-rotated")
        if orientation in _TRANSPOSE:
            pixels = pixels.transpose(_TRANSPOSE[orientation])
    except (BadSample, MemoryError):
        raise
    except Exception as error:  # damaged input makes Pillow raise nearly anything
        raise _damaged(form, error, data) from None
    if name is not None and _wrong_ending(name, form):
        notes.add("extension")
    if pixels.mode == "L":
        notes.add("grey")
    return DecodedImage(pixels, tuple(sorted(notes)), pixels.width, pixels.height, form)


@lru_cache
def _reader(form: str) -> Any:
    # Pillow's Image.open would warn or fail by a limit that is global to the process; the reader
    # itself parses the header, and the size is then checked here.
    module, name, _ = _FORMATS[form]
    return getattr(import_module(f"PIL.{module}"), name)


def _check_size(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise BadSample(
            "oversized",
            f"{width:,} × {height:,} pixels; at most {limits.max_pixels:,} in all are decoded",
        )


def _depth(image: Any) -> str:
    """Give Pillow's name for how the pixels are packed in the file, or the empty string."""
    if not image.tile:
        return ""
    args = image.tile[0][3]
    raw = args[0] if isinstance(args, tuple) and args else args
    return raw if isinstance(raw, str) else ""


def _to_eight_bits(image: Any, depth: str, notes: set[str]) -> Image.Image:
    """Give any mode as L or RGB."""
    mode = image.mode
    if mode.startswith("I;16"):
        notes.add("16-bit")
        # A 12-bit TIFF is unpacked as it is, so its white is 4095.
        shift = 4 if depth == "I;12" else 8
        return Image.fromarray((np.asarray(image) >> shift).astype(np.uint8))
    if "16" in depth or "12" in depth:
        notes.add("16-bit")  # Pillow has kept the high byte of each channel
    if mode in ("L", "RGB") and "transparency" not in image.info:
        return image  # type: ignore[no-any-return]
    if mode == "I":
        return _from_integers(image, notes)
    if mode == "F":
        return _from_floats(image, notes)
    if mode == "1":
        notes.add("bilevel")
        return image.convert("L")  # type: ignore[no-any-return]
    if mode in ("P", "PA"):
        notes.add("palette")
    if mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        return _on_white(image, notes)
    if mode == "LAB":
        notes.add("lab")
        return _lab_to_rgb().apply(image)
    if mode in ("CMYK", "YCbCr"):
        notes.add(mode.lower())
    elif mode not in ("P", "RGBX", "HSV"):
        raise BadSample("unreadable", f"pixel mode {mode!r} has no documented treatment")
    return image.convert("RGB")  # type: ignore[no-any-return]


def _on_white(image: Any, notes: set[str]) -> Image.Image:
    grey = image.mode in ("L", "LA", "La", "1")
    with_alpha = image.convert("LA" if grey else "RGBA")
    alpha = with_alpha.getchannel("A")
    opaque = with_alpha.convert("L" if grey else "RGB")
    if alpha.getextrema()[0] == 255:
        return opaque  # type: ignore[no-any-return]
    notes.add("alpha")
    result = Image.new(opaque.mode, opaque.size, "white")
    result.paste(opaque, mask=alpha)
    return result


def _from_integers(image: Any, notes: set[str]) -> Image.Image:
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise BadSample(
            "unreadable",
            f"integer pixels from {low} to {high} have no known scale: save as 8 or 16 bits",
        )
    notes.add("16-bit" if image.format == "PPM" else "32-bit")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _from_floats(image: Any, notes: set[str]) -> Image.Image:
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # written so that NaN is refused too
        raise BadSample(
            "unreadable",
            f"float pixels from {low:g} to {high:g} have no known scale: 0 to 1 is read",
        )
    notes.add("float")
    return Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8))


@lru_cache
def _lab_to_rgb() -> ImageCmsTransform:
    from PIL import ImageCms

    return ImageCms.buildTransform(
        ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
    )


def _orientation(image: Any, notes: set[str]) -> int:
    if not any(key in image.info for key in _EXIF_KEYS):
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as damaged as EXIF blocks are
        notes.add("exif-unreadable")
        return 1
    return value if isinstance(value, int) else 1


def what_is(head: bytes, wanted: str = "image") -> str:
    """Say what this is instead of an image, or whatever was wanted."""
    for pattern, words in _NOT_IMAGES:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return f"it is {words}"
    if all(32 <= byte < 127 or byte in b"\t\n\r" for byte in head):
        return "it is text"
    return f"it starts like no {wanted} format that is read: {head[:8].hex(' ')}"


def _damaged(form: str, error: Exception, data: bytes) -> BadSample:
    words = str(error) or type(error).__name__
    kind: Kind = "unreadable"
    if isinstance(error, _TOO_LARGE):
        kind = "oversized"
    elif (
        isinstance(error, EOFError)
        or re.search("truncat|not enough|end of|eof|premature", words, re.IGNORECASE)
        or _claimed_size(form, data) > len(data)
    ):
        kind = "truncated"
    return BadSample(kind, f"the {form} data cannot be decoded: {words}")


def _claimed_size(form: str, data: bytes) -> int:
    """Give the least length that a file must have by its header, where Pillow does not tell."""
    if form == "WEBP":
        return 8 + int.from_bytes(data[4:8], "little")
    if form == "TIFF" and data[2:4] in (b"*\0", b"\0*"):
        return int.from_bytes(data[4:8], "little" if data[:1] == b"I" else "big") + 2
    return 0


def _wrong_ending(name: str, form: str) -> bool:
    dot = name.rfind(".")
    if dot < 0 or "/" in name[dot:]:
        return False
    return EXTENSIONS.get(name[dot:].lower()) != form


def sample_hash(data: bytes | BinaryIO) -> str:
    """Give the SHA-256 of a sample's encoded bytes, in hex; of a file, from its start on."""
    if isinstance(data, bytes):
        return hashlib.sha256(data).hexdigest()
    data.seek(0)
    digest = hashlib.sha256()
    while block := data.read(2**20):
        digest.update(block)
    return digest.hexdigest()


def set_fingerprint(samples: Iterable[tuple[str, str | None, str | None]]) -> str:
    """Give one SHA-256, in hex, for a set of samples.

    Parameters
    ----------
    samples : iterable of (hash, label, group)
        ``sample_hash`` of each sample, and what the metrics know of it besides its content.

    Returns
    -------
    str
        It depends on what is in the set, repetitions included, and not on names, order, or the
        format that the set is stored in: the same pictures in a folder and in a tar give the same.

    Raises
    ------
    DataError
        If there is no sample.
    """
    entries = sorted(json.dumps(entry, ensure_ascii=True) for entry in samples)
    if not entries:
        raise DataError("a set with no samples has no fingerprint")
    digest = hashlib.sha256(b"evalsuite set 1\n")
    for entry in entries:
        digest.update(entry.encode() + b"\n")
    return digest.hexdigest()
