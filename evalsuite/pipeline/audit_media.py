"""What an audit asks of the files themselves: their type, their metadata, and where they stand."""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ..data import audio, images
from ..data.dataset import BadSample, Limits, Problem
from ..data.files import clean, list_folder, list_objects, open_table, relative
from ..data.remote import RemotePath
from ..data.rows import Columns, RowFile, named_files
from ..gate.audit import Place

if TYPE_CHECKING:
    from ..data import Dataset, Sample

_MANIFESTS = ("metadata.jsonl", "metadata.csv")
_LINE = re.compile(r"(.*)#line (\d+)", re.DOTALL)
_WORKERS = 2
_XMP = 2**20
# EXIF 2.32, and DNG for the last one.
_GPS_IFD, _EXIF_IFD = 0x8825, 0x8769
_GPS_TAGS = (2, 4, 20, 22)  # latitude and longitude, of the place and of what was looked at
_OWNER_TAGS = (0x013B, 0x9C9D, 0xA430)  # Artist, XPAuthor, CameraOwnerName
_SERIAL_TAGS = (0xA431, 0xA435, 0xC62F)  # body, lens, camera
_XMP_LEAKS = (
    ("gps", re.compile(rb"exif:GPS(?:Dest)?(?:Latitude|Longitude)\b")),
    ("serial", re.compile(rb"(?:aux|exifEX):(?:Body|Lens)?SerialNumber\b")),
    ("owner", re.compile(rb"aux:OwnerName\b|exifEX:CameraOwnerName\b|dc:creator\b")),
)


@dataclass(frozen=True, slots=True)
class Medium:
    """One file of a sample, as its header has it.

    Attributes
    ----------
    modality, format : str
        The format by content.
    ending : str
        The file's ending where it says another format; else empty.
    size : (int, int) or None
        Width and height of an image in pixels, as stored.
    rate : int or None
        Hz of a recording.
    leaks : tuple of str
        ``gps``, ``owner``, ``serial``, ``comment``: what its metadata gives away.
    """

    modality: str
    format: str
    ending: str = ""
    size: tuple[int, int] | None = None
    rate: int | None = None
    leaks: tuple[str, ...] = ()


class Places:
    """Where each sample of a data set stands, for people and code hosts.

    Parameters
    ----------
    data : Dataset
    source : path or address
        What it was opened from.
    """

    def __init__(self, data: Dataset, source: str | os.PathLike[str]) -> None:
        self._sources = {sample.id: sample.source for sample in data.samples}
        self._rows: dict[str, Place] = {}
        finder = Columns({})
        for name, path in _manifests(data, os.fspath(source)):
            folder = posixpath.dirname(name)
            problems: list[Problem] = []  # they were reported when the data set was opened
            try:
                with open_table(path) as file:
                    for line, row in RowFile(file, name, Limits(), problems, lost=False):
                        for wanted in named_files(finder.fields(row)).values():
                            self._add(wanted, folder, Place(uri=clean(name), line=line))
            except (OSError, BadSample):
                continue

    def _add(self, wanted: str, folder: str, place: Place) -> None:
        try:
            name = clean(relative(wanted, folder))
        except BadSample:
            return
        self._rows.setdefault(name, place)

    def of(self, sample: str) -> Place:
        """Give the place of a sample, or of whatever a problem calls by a name."""
        name = self._sources.get(sample, sample)
        if name in self._rows:
            return self._rows[name]
        if line := _LINE.fullmatch(name):
            return Place(uri=line[1], line=int(line[2]))
        return Place(uri=name.split("#", 1)[0] if "#row " in name or ".tar#" in name else name)


def _manifests(data: Dataset, source: str) -> Iterator[tuple[str, str]]:
    """Give the tables that name the samples: what they are called, and where they lie."""
    root = data.root
    if root is None:
        return
    if data.format == "manifest":
        name = posixpath.basename(source)
        yield name, root.child(name) if isinstance(root, RemotePath) else str(root / name)
    elif data.format == "folder+metadata":
        listing = list_objects(root) if isinstance(root, RemotePath) else list_folder(root)
        for name, path in sorted(listing.files.items()):
            if posixpath.basename(name).lower() in _MANIFESTS:
                yield name, path


def scan(data: Dataset) -> dict[str, list[Medium]]:
    """Read the header of every file.

    Returns
    -------
    dict of str to list of Medium
        By sample; a file that cannot be read is left out, for reading it is reported elsewhere.
    """
    found: dict[str, list[Medium]] = {}
    with ThreadPoolExecutor(_WORKERS, "audit") as pool:
        media = pool.map(partial(_media, data), data.samples)
        for sample, held in zip(data.samples, media, strict=True):
            found[sample.id] = held
    return found


def _media(data: Dataset, sample: Sample) -> list[Medium]:
    held = []
    for k, modality in enumerate(sample.media):
        # Of a record of several files, the data set names the first.
        name = sample.source.rpartition("#")[2] if k == 0 else ""
        try:
            if modality == "image":
                medium = _image(data.read(sample, "image"), name)
            else:
                with data.open(sample, "audio") as file:
                    medium = _recording(file, name)
        except BadSample:
            continue
        if medium is not None:
            held.append(medium)
    return held


def _ending(name: str, form: str) -> str:
    """Give the file's ending where it is not one of the format's."""
    ending = posixpath.splitext(name)[1].lower()
    if not re.fullmatch(r"\.[a-z0-9]{1,5}", ending):
        return ""
    said = images.EXTENSIONS.get(ending) or audio.EXTENSIONS.get(ending)
    return "" if said == form or (said is not None and {said, form} <= _ALIKE) else ending


_ALIKE = frozenset({"WAV", "RF64"})
"""One family of files, with one ending."""


def _image(data: bytes, name: str) -> Medium | None:
    from PIL import Image

    form = images.sniff(data[:64])
    if form is None:
        return None
    medium = Medium("image", form, _ending(name, form))
    try:
        with Image.open(io.BytesIO(data), formats=[form]) as image:
            size = image.size
            leaks = tuple(_image_leaks(image))
    except Exception:  # damaged input makes Pillow raise nearly anything; decoding says what it is
        return medium
    return Medium("image", form, medium.ending, size=size, leaks=leaks)


def _image_leaks(image: Any) -> Iterator[str]:
    """Name what the metadata gives away, each once."""
    if image.width * image.height > Limits().max_pixels:
        return  # a PNG's EXIF may stand behind its pixels; such an image is refused anyway
    found: set[str] = set()
    exif = image.getexif()
    inner = exif.get_ifd(_EXIF_IFD)
    if any(tag in exif.get_ifd(_GPS_IFD) for tag in _GPS_TAGS):
        found.add("gps")
    for kind, tags in (("owner", _OWNER_TAGS), ("serial", _SERIAL_TAGS)):
        if any(_filled(exif.get(tag)) or _filled(inner.get(tag)) for tag in tags):
            found.add(kind)
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    packet = xmp.encode("utf-8", "replace") if isinstance(xmp, str) else bytes(xmp)
    found.update(kind for kind, pattern in _XMP_LEAKS if pattern.search(packet[:_XMP]))
    for key, value in image.info.items():
        if isinstance(key, str) and key.lower() == "author" and _filled(value):
            found.add("owner")
        elif key == "comment" or isinstance(value, str):
            text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
            if has_address(text):
                found.add("comment")
    yield from sorted(found)


def _filled(value: Any) -> bool:
    """Whether a tag says anything: cameras write blanks and zeros."""
    if isinstance(value, bytes):
        value = value.decode("utf-16-le" if b"\0" in value[1:2] else "utf-8", "replace")
    return value is not None and str(value).strip(" \0") not in ("", "0")


def _recording(file: Any, name: str) -> Medium | None:
    import soundfile

    head = file.read(512)
    form = audio.sniff(head)
    if form is None:
        return None
    medium = Medium("audio", form, _ending(name, form))
    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            rate, tags = sound.samplerate, sound.copy_metadata()
    except Exception:  # as for images
        return medium
    leaks = {"owner"} if _filled(tags.get("artist")) else set()
    if any(has_address(str(value)) for value in tags.values()):
        leaks.add("comment")
    return Medium("audio", form, medium.ending, rate=int(rate), leaks=tuple(sorted(leaks)))


def has_address(text: str) -> bool:
    """Whether an e-mail address or a telephone number stands in a text."""
    from ..generators.privacy.text import find_pii

    return bool(find_pii(text[: Limits().max_text], ("email", "phone")))
