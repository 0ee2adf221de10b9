"""Every mode, every way to be broken: what decode_image promises, on files made here."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from evalsuite.data import BadSample, Limits, decode_image, sample_hash, set_fingerprint
from evalsuite.data.images import sniff
from evalsuite.errors import DataError


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """Write a PNG by hand: Pillow writes neither 16-bit colour nor a size that is not there."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + b"".join(chunk(e[:4], e[4:]) for e in extra)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decode_image(data).pixels)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    from skimage import data

    return Image.fromarray(data.astronaut()).resize((64, 48))


@pytest.fixture(scope="module")
def photos() -> dict[str, bytes]:
    """Files of real photographs in every format that is read."""
    from skimage import data

    colour = Image.fromarray(data.astronaut()).resize((64, 48))
    return {
        "JPEG": encode(colour, "JPEG", quality=95),
        "JPEG progressive": encode(colour, "JPEG", quality=95, progressive=True),
        "PNG": encode(colour, "PNG"),
        "WEBP": encode(colour, "WEBP", quality=95),
        "WEBP lossless": encode(colour, "WEBP", lossless=True),
        "GIF": encode(colour, "GIF"),
        "BMP": encode(colour, "BMP"),
        "TIFF": encode(colour, "TIFF"),
        "TIFF lzw": encode(colour, "TIFF", compression="tiff_lzw"),
        "TIFF jpeg": encode(colour, "TIFF", compression="jpeg"),
        "PPM": encode(colour, "PPM"),
        "JPEG2000": encode(colour, "JPEG2000"),
        "AVIF": encode(colour, "AVIF", quality=95),
    }


KINDS = (
    "JPEG", "JPEG progressive", "PNG", "WEBP", "WEBP lossless", "GIF", "BMP", "TIFF", "TIFF lzw",
    "TIFF jpeg", "PPM", "JPEG2000", "AVIF",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_decodes_to_the_photograph(kind, photos, photo):
    result = decode_image(photos[kind])
    assert result.format == kind.split()[0]
    assert result.pixels.mode == "RGB"
    assert (result.width, result.height) == result.pixels.size == photo.size
    worst = np.abs(np.asarray(result.pixels).astype(int) - np.asarray(photo)).mean()
    assert worst < 6, "mean error in grey levels"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_file_that_is_cut_is_refused(kind, share, photos):
    data = photos[kind]
    with pytest.raises(BadSample) as caught:
        decode_image(data[: int(len(data) * share)])
    assert caught.value.kind in ("truncated", "unreadable")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "TIFF lzw", "PPM"])
def test_a_file_that_is_cut_in_half_is_called_truncated(kind, photos):
    data = photos[kind]
    with pytest.raises(BadSample) as caught:
        decode_image(data[: len(data) // 2])
    assert caught.value.kind == "truncated"


# --- modes -----------------------------------------------------------------------------------


RAMP = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)


def test_grey_stays_one_channel():
    result = decode_image(encode(Image.fromarray(RAMP), "PNG"))
    assert result.pixels.mode == "L"
    assert result.notes == ("grey",)
    np.testing.assert_array_equal(np.asarray(result.pixels), RAMP)


def test_one_bit_becomes_black_and_white():
    result = decode_image(encode(Image.fromarray(RAMP > 100), "PNG"))
    assert result.notes == ("bilevel", "grey")
    np.testing.assert_array_equal(np.asarray(result.pixels), np.where(RAMP > 100, 255, 0))


def test_alpha_is_laid_on_white():
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 0] = 200
    rgba[0, :, 3] = 0, 128, 255
    result = decode_image(encode(Image.fromarray(rgba), "PNG"))
    assert result.notes == ("alpha",)
    expected = [255, round(200 * 128 / 255 + 255 * 127 / 255), 200]
    assert np.asarray(result.pixels)[0, :, 0].tolist() == expected
    expected = [255, round(255 * 127 / 255), 0]
    assert np.asarray(result.pixels)[0, :, 1].tolist() == expected


def test_grey_with_alpha_stays_grey_on_white():
    la = np.array([[[10, 0], [10, 255]]], dtype=np.uint8)
    result = decode_image(encode(Image.fromarray(la, "LA"), "PNG"))
    assert (result.pixels.mode, result.notes) == ("L", ("alpha", "grey"))
    assert np.asarray(result.pixels).tolist() == [[255, 10]]


def test_alpha_that_hides_nothing_is_dropped(photo):
    result = decode_image(encode(photo.convert("RGBA"), "PNG"))
    assert result.notes == ()
    np.testing.assert_array_equal(np.asarray(result.pixels), np.asarray(photo))


def test_palette_gives_its_colours_and_its_transparency_is_white():
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.putdata([0, 1, 2])
    result = decode_image(encode(image, "PNG"))
    assert result.notes == ("palette",)
    assert np.asarray(result.pixels)[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    result = decode_image(encode(image, "PNG", transparency=1))
    assert result.notes == ("alpha", "palette")
    assert np.asarray(result.pixels)[0].tolist() == [[255, 0, 0], [255, 255, 255], [0, 0, 255]]


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_a_colour_that_stands_for_transparent_becomes_white(form):
    image = Image.fromarray(RAMP)
    assert pixels(encode(image, form, transparency=int(RAMP[0, 1])))[0, 1].tolist() in (
        255,
        [255, 255, 255],
    )


def test_cmyk_jpeg_of_adobe_is_not_inverted():
    red = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    data = encode(red, "JPEG", quality=95)
    assert b"Adobe" in data[:200], "Pillow writes what Photoshop writes: inverted"
    result = decode_image(data)
    assert result.notes == ("cmyk",)
    r, g, b = np.asarray(result.pixels)[8, 8].astype(int)
    assert r > 240
    assert max(g, b) < 15


def test_cmyk_tiff():
    assert pixels(encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "TIFF"))[0, 0].tolist() == [
        255,
        0,
        0,
    ]


def test_sixteen_bit_grey_keeps_the_high_byte():
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    for form in ("PNG", "TIFF"):
        result = decode_image(encode(Image.fromarray(values), form))
        assert (result.pixels.mode, result.notes) == ("L", ("16-bit", "grey"))
        assert np.asarray(result.pixels).tolist() == [[0, 0, 1, 128, 255]]


def test_a_dark_sixteen_bit_picture_stays_dark():
    """No stretching: a picture that is half as bright must come out half as bright."""
    values = np.linspace(0, 40_000, 64, dtype=np.uint16).reshape(8, 8)
    full = pixels(encode(Image.fromarray(values), "PNG")).mean()
    half = pixels(encode(Image.fromarray(values // 2), "PNG")).mean()
    assert half == pytest.approx(full / 2, abs=0.6)


def test_sixteen_bit_colour_keeps_the_high_byte_too():
    rows = b"\0" + struct.pack(">6H", 0, 256, 65535, 32768, 511, 512)
    result = decode_image(png(2, 1, 16, 2, rows))
    assert result.notes == ("16-bit",)
    assert np.asarray(result.pixels).tolist() == [[[0, 1, 255], [128, 1, 2]]]


def test_the_transparent_colour_of_a_sixteen_bit_png_is_not_applied():
    """Pillow compares it with eight bits; docs/data.md says so."""
    rows = b"\0" + struct.pack(">6H", 0, 256, 65535, 32768, 511, 512)
    result = decode_image(png(2, 1, 16, 2, rows, b"tRNS" + struct.pack(">3H", 0, 256, 65535)))
    assert np.asarray(result.pixels).tolist() == [[[0, 1, 255], [128, 1, 2]]]


def test_a_twelve_bit_tiff_has_white_at_4095():
    entries = [
        (256, 4, 1, 2), (257, 4, 1, 1), (258, 3, 1, 12), (259, 3, 1, 1), (262, 3, 1, 1),
        (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 1), (279, 4, 1, 3),
    ]  # fmt: skip
    first, second = 4095, 0x800
    packed = bytes([first >> 4, (first & 15) << 4 | second >> 8, second & 255]) + b"\0"
    body = struct.pack("<H", len(entries)) + b"".join(
        struct.pack("<HHII", *entry) for entry in entries
    )
    result = decode_image(b"II*\0" + struct.pack("<I", 12) + packed + body + b"\0" * 4)
    assert result.notes == ("16-bit", "grey")
    assert np.asarray(result.pixels).tolist() == [[255, 128]]


def test_32_bit_integers_are_read_as_16_bits_or_refused():
    values = np.array([[0, 256, 65535]], dtype=np.int32)
    result = decode_image(encode(Image.fromarray(values), "TIFF"))
    assert result.notes == ("32-bit", "grey")
    assert np.asarray(result.pixels).tolist() == [[0, 1, 255]]
    for outside in (-1, 65536):
        with pytest.raises(BadSample, match="no known scale"):
            decode_image(encode(Image.fromarray(values * 0 + outside), "TIFF"))


def test_a_ppm_of_any_depth_has_white_at_its_maximum():
    result = decode_image(b"P5 2 1 1000\n" + struct.pack(">2H", 1000, 500))
    assert result.notes == ("16-bit", "grey")
    assert np.asarray(result.pixels).tolist() == [[255, 128]]


def test_floats_run_from_0_to_1_or_are_refused():
    values = np.array([[0.0, 0.5, 1.0]], dtype=np.float32)
    result = decode_image(encode(Image.fromarray(values), "TIFF"))
    assert result.notes == ("float", "grey")
    assert np.asarray(result.pixels).tolist() == [[0, 128, 255]]
    for outside in (np.nan, np.inf, -0.5, 255.0):
        with pytest.raises(BadSample, match="no known scale"):
            decode_image(encode(Image.fromarray(values * 0 + np.float32(outside)), "TIFF"))


def test_ycbcr_and_lab_are_converted(photo):
    result = decode_image(encode(photo.convert("YCbCr"), "TIFF"))
    assert result.notes == ("ycbcr",)
    assert np.abs(np.asarray(result.pixels).astype(int) - np.asarray(photo)).max() <= 4
    from PIL import ImageCms

    lab = ImageCms.profileToProfile(
        photo, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    result = decode_image(encode(lab, "TIFF"))
    assert result.notes == ("lab",)
    assert np.abs(np.asarray(result.pixels).astype(int) - np.asarray(photo)).mean() < 2


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a.swapaxes(0, 1), 2),
    8: lambda a: np.rot90(a, 1),
}
"""EXIF 2.32, tag 0x0112: what to do with the stored rows to see the picture upright."""


@pytest.mark.parametrize("form", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form, orientation):
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:8, :8] = 255, 0, 0
    stored[8:, 24:] = 0, 0, 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {}
    if form == "JPEG":
        options = {"quality": 100, "subsampling": 0}
    result = decode_image(encode(Image.fromarray(stored), form, exif=exif, **options))
    expected = UPRIGHT[orientation](stored)
    assert (result.height, result.width) == expected.shape[:2]
    assert ("exif-rotated" in result.notes) == (orientation != 1)
    worst = np.abs(np.asarray(result.pixels).astype(int) - expected).max()
    assert worst <= 3, "JPEG may round"


def test_exif_that_is_damaged_leaves_the_picture(photo):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(photo, "JPEG", exif=exif)
    at = data.index(b"Exif\0\0") + 6
    result = decode_image(data[:at] + b"\xff" * 8 + data[at + 8 :])
    assert result.pixels.size == photo.size
    assert set(result.notes) <= {"exif-unreadable"}


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_many_frames_the_first_is_taken(form):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if form == "WEBP" else {}
    result = decode_image(
        encode(frames[0], form, save_all=True, append_images=frames[1:], **options)
    )
    assert "first-frame" in result.notes
    assert np.asarray(result.pixels)[0, 0].tolist() == [255, 0, 0]


# --- refused ---------------------------------------------------------------------------------


def test_a_bomb_is_refused_by_its_header_before_it_is_decoded():
    import tracemalloc

    bomb = png(100_000, 100_000, 8, 2, b"\0" * 1000)
    tracemalloc.start()
    with pytest.raises(BadSample, match=r"100,000 × 100,000 pixels") as caught:
        decode_image(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert caught.value.kind == "oversized"
    assert peak < 5_000_000


@pytest.mark.filterwarnings("error")
def test_the_limit_is_ours_and_not_pillows(photo, monkeypatch):
    """Pillow warns and fails by a limit that is global to the process; ours is an argument."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for form in ("PNG", "JPEG", "BMP"):
        assert decode_image(encode(photo, form)).pixels.size == photo.size
    n = photo.width * photo.height
    decode_image(encode(photo, "PNG"), Limits(max_pixels=n))
    with pytest.raises(BadSample, match="pixels"):
        decode_image(encode(photo, "PNG"), Limits(max_pixels=n - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_has_its_size_checked(kind, photos):
    with pytest.raises(BadSample) as caught:
        decode_image(photos[kind], Limits(max_pixels=100))
    assert caught.value.kind == "oversized"


def test_too_many_bytes_and_none_at_all(photos):
    with pytest.raises(BadSample) as caught:
        decode_image(photos["PNG"], Limits(max_bytes=100))
    assert caught.value.kind == "oversized"
    with pytest.raises(BadSample, match="0 bytes") as caught:
        decode_image(b"")
    assert caught.value.kind == "truncated"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"%PDF-1.7\n", "PDF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?><svg/>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\x93NUMPY\x01\x00", "NumPy"),
        (b"PK\x03\x04rest", "ZIP"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio"),
        (b"\0\0\0\x18ftypmp42", "video"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"8BPS\0\x01", "Photoshop"),
        (b"just words\n", "text"),
        (b"BM is how this text begins, and it is no bitmap", "text"),
        (b"\0\1\2\3\4\5\6\7", "00 01 02 03"),
    ],
)
def test_what_is_not_an_image_is_named(data, words):
    with pytest.raises(BadSample, match=words) as caught:
        decode_image(data)
    assert caught.value.kind == "not_an_image"


def test_a_pickle_is_named_and_never_loaded(tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for protocol in (2, 4, 5):
        with pytest.raises(BadSample, match="never loaded"):
            decode_image(pickle.dumps(Trap(), protocol))
    assert not (tmp_path / "sprung").exists()


def test_the_ending_is_only_noted(photo):
    data = encode(photo, "PNG")
    assert decode_image(data, name="a.png").notes == ()
    assert decode_image(data, name="A.PNG").notes == ()
    assert decode_image(data, name="folder.jpg/no_ending").notes == ()
    for wrong in ("a.jpg", "a.txt", "shard.tar#x.gif"):
        assert decode_image(data, name=wrong).notes == ("extension",)


def test_pillow_must_not_be_told_to_pass_cut_files(photo, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(DataError, match="LOAD_TRUNCATED_IMAGES"):
        decode_image(encode(photo, "PNG"))


def test_only_the_readers_that_are_named_are_used():
    """A file that starts like none of them never reaches Pillow: no EPS, no Ghostscript."""
    for head in (
        b"%!PS",
        b"8BPS",
        b"SIMPLE  =",
        b"\xd7\xcd\xc6\x9a",
        b"GRIB",
        b"\x89HDF\r\n\x1a\n",
    ):
        assert sniff(head + b"\0" * 60) is None


# --- fuzz ------------------------------------------------------------------------------------

HEADS = (
    b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBP", b"GIF89a", b"II*\0", b"MM\0*",
    b"BM", b"P6 ", b"\xff\x4f\xff\x51", b"\0\0\0\x20ftypavif",
)  # fmt: skip
SMALL = Limits(max_pixels=1_000_000, max_bytes=1_000_000)


@settings(max_examples=300, deadline=None)
@given(head=st.sampled_from(HEADS), body=st.binary(max_size=200))
def test_random_bytes_are_an_image_or_a_bad_sample(head, body):
    try:
        result = decode_image(head + body, SMALL)
    except BadSample as bad:
        assert bad.detail  # noqa: PT017 - nearly all of them are
    else:
        assert result.pixels.mode in ("L", "RGB")


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from(KINDS),
    edits=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), max_size=8),
    start=st.booleans(),
)
def test_a_damaged_photograph_is_an_image_or_a_bad_sample(kind, edits, start, photos):
    data = bytearray(photos[kind])
    for place, new in edits:
        at = int(place * (min(len(data), 200) if start else len(data)))
        data[at : at + len(new)] = new
    try:
        result = decode_image(bytes(data), SMALL)
    except BadSample as bad:
        assert bad.detail  # noqa: PT017
    else:
        assert result.pixels.mode in ("L", "RGB")
        assert len(result.pixels.tobytes()) == result.width * result.height * len(
            result.pixels.mode
        )


# --- fingerprints ----------------------------------------------------------------------------


def test_a_sample_hash_is_sha256():
    assert sample_hash(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_set_fingerprint_depends_on_content_label_group_and_repetition_only():
    a, b = sample_hash(b"a"), sample_hash(b"b")
    base = set_fingerprint([(a, "x", None), (b, None, "g")])
    assert base == set_fingerprint([(b, None, "g"), (a, "x", None)])
    others = [
        [(a, "y", None), (b, None, "g")],
        [(a, "x", None), (b, None, "h")],
        [(a, "x", None), (b, "None", "g")],
        [(a, "x", None), (b, None, "g"), (b, None, "g")],
        [(a, "x", None)],
    ]
    assert len({base, *map(set_fingerprint, others)}) == 1 + len(others)
    with pytest.raises(DataError, match="no samples"):
        set_fingerprint([])
