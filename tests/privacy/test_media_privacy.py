"""Metadata, faces and voices, on real pictures and real speech."""

from __future__ import annotations

import io
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.signal import lfilter, welch

from evalsuite.data import Limits
from evalsuite.data.audio import decode_audio
from evalsuite.errors import ModelError
from evalsuite.generators import Audio, Item, build, parse_recipe, produce, replay, spec
from evalsuite.generators.privacy import media
from evalsuite.generators.privacy.media import (
    ChangeVoice,
    MaskFaces,
    StripMetadata,
    find_faces,
    mcadams,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "privacy.md"
SPEECH = sorted((ROOT / "tests/data/speech").glob("*.wav"))
_found = find_spec("skimage")
assert _found is not None
assert _found.origin is not None
PICTURES = Path(_found.origin).parent / "data"


@pytest.mark.parametrize(
    "operation", [StripMetadata(), StripMetadata("audio"), MaskFaces(), ChangeVoice()]
)
def test_each_is_built_again(operation: StripMetadata | MaskFaces | ChangeVoice) -> None:
    assert spec(build(spec(operation))) == spec(operation)
    assert parse_recipe(f"{{version: 1, seed: 7, steps: [{operation.name}]}}")


# Metadata


def with_metadata(mode: str = "RGB") -> Image.Image:
    exif = Image.Exif()
    exif[0x010F] = "A Camera Maker"
    exif[0x0112] = 6  # to be turned by a quarter
    file = io.BytesIO()
    image = Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert(mode)
    image.save(file, "PNG", exif=exif, icc_profile=b"who made it")
    loaded = Image.open(io.BytesIO(file.getvalue()))
    loaded.load()
    return loaded


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_only_upright_pixels_are_left(mode: str) -> None:
    given = with_metadata(mode)
    made = StripMetadata().apply(given, {})
    assert made.info == {}
    assert not made.getexif()
    assert made.size == (6, 8)  # the camera lay on its side
    upright = given.convert(made.mode).transpose(Image.Transpose.ROTATE_270)
    assert made.tobytes() == upright.tobytes()
    file = io.BytesIO()
    made.save(file, "PNG")
    chunks = set(re.findall(rb"[A-Za-z]{4}", file.getvalue()))
    assert not chunks & {b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"tIME"}


def test_text_has_no_metadata() -> None:
    with pytest.raises(ValueError, match="image or audio"):
        StripMetadata("text")


# Faces


def faces() -> tuple[list[Image.Image], list[Image.Image]]:
    """A hundred faces of LFW and a hundred pieces without one, 50 pixels wide, on grey."""
    found = []
    for row in np.load(PICTURES / "lfw_subset.npy"):
        scene = Image.new("L", (100, 100), 128)
        scene.paste(Image.fromarray((row * 255).astype(np.uint8)).resize((50, 50)), (25, 25))
        found.append(scene)
    return found[:100], found[100:]


def covered(boxes: list[tuple[int, int, int, int]]) -> bool:
    """Whether one box has half of the face, which is at 25, 25 and 50 wide."""
    for left, top, width, height in boxes:
        wide = min(left + width, 75) - max(left, 25)
        high = min(top + height, 75) - max(top, 25)
        if min(wide, high) > 0 and wide * high >= 0.5 * 50 * 50:
            return True
    return False


def test_the_page_says_how_many_faces_are_found() -> None:
    with_face, without = faces()
    hits = sum(covered(find_faces(scene)) for scene in with_face)
    wrong = sum(bool(find_faces(scene)) for scene in without)
    assert f"{hits} of 100 faces, and something in {wrong} of 100" in PAGE.read_text("utf-8")
    assert hits >= 90


@pytest.mark.parametrize("kind", ["fill", "pixelate"])
def test_a_face_is_covered_and_the_rest_stays(kind: str) -> None:
    photo = Image.open(PICTURES / "astronaut.png").convert("RGB")
    made, record = produce(MaskFaces(kind), Item("a", photo), seed=1)  # type: ignore[arg-type]
    before, after = np.asarray(photo, float), np.asarray(made, float)
    face = np.s_[80:160, 185:265]  # where a person sees it
    assert len(np.unique(before[face].reshape(-1, 3), axis=0)) > 1000
    assert len(np.unique(after[face].reshape(-1, 3), axis=0)) <= 2 * (1 if kind == "fill" else 36)
    changed = (before != after).any(axis=2)
    assert changed[face].mean() > 0.95
    assert changed.mean() < 0.12
    again = find_faces(made)  # it may take the edge of a box for one, but not where the face was
    assert not any(x < 225 < x + w and y < 120 < y + h for x, y, w, h in again)
    assert replay(record, photo).tobytes() == made.tobytes()
    assert "opencv" in record.software


def test_without_cascades_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    media._cascades.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ModelError, match=r"evalsuite\[privacy\]"):
        MaskFaces().apply(Image.new("L", (64, 64)), {})
    media._cascades.cache_clear()


# Voices


def speech(path: Path) -> Audio:
    decoded = decode_audio(path.read_bytes(), Limits())
    return Audio(decoded.native, decoded.source_rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("alpha", [0.6, 0.8])
@pytest.mark.parametrize("frequency", [700.0, 1800.0])
def test_a_resonance_goes_where_the_formula_says(rate: int, alpha: float, frequency: float) -> None:
    # Noise through one pole pair: its peak is at phi, and afterwards at phi ** alpha.
    radius = 0.97 ** (16_000 / rate)
    phi = 2 * np.pi * frequency / rate
    noise = np.random.default_rng(0).standard_normal(2 * rate)
    x = lfilter([1.0], [1.0, -2 * radius * np.cos(phi), radius**2], noise)
    made = mcadams(x, rate, alpha)
    expected = (2 * np.pi * frequency / 16_000) ** alpha * 16_000 / (2 * np.pi)
    f, power = welch(made, rate, nperseg=rate // 20)
    assert f[np.argmax(power)] == pytest.approx(expected, rel=0.08)


@pytest.mark.parametrize("path", SPEECH[:3], ids=lambda p: p.stem)
def test_alpha_of_one_is_the_voice_itself(path: Path) -> None:
    given = speech(path)
    made = mcadams(given.samples.astype(np.float64), given.rate, 1.0)
    np.testing.assert_allclose(made, given.samples, atol=1e-9)


def test_length_level_and_silence_stay() -> None:
    given = speech(SPEECH[0])
    silent = np.concatenate([given.samples, np.zeros(4000, np.float32)])
    made = ChangeVoice().apply(Audio(silent, given.rate), {"alpha": 0.7})
    assert made.samples.shape == silent.shape
    assert not made.samples[-3000:].any()
    assert np.square(made.samples).sum() == pytest.approx(np.square(silent).sum(), rel=1e-4)
    assert np.abs(made.samples - silent).max() > 0.05
    nothing = ChangeVoice().apply(Audio(np.zeros(10, np.float32), 16_000), {"alpha": 0.7})
    assert not nothing.samples.any()


@pytest.mark.parametrize("n", [1, 2, 50, 321])
def test_short_and_simple_sounds_are_taken(n: int) -> None:
    for samples in (np.ones(n), np.sin(np.arange(n) * 0.3), np.eye(1, n)[0]):
        made = mcadams(samples, 16_000, 0.8)
        assert made.shape == (n,)
        assert np.isfinite(made).all()


def test_loud_and_soft_parts_stay_where_they_are() -> None:
    given = speech(SPEECH[0])
    made = ChangeVoice().apply(given, {"alpha": 0.6})
    n = given.rate // 20
    before, after = (
        np.square(sound.samples[: sound.samples.size // n * n].reshape(-1, n)).mean(axis=1)
        for sound in (given, made)
    )
    loud = before > before.max() * 1e-4
    decibels = 10 * np.log10(after[loud] / before[loud])
    assert np.abs(decibels).max() < 3


def test_sound_without_formants_is_refused() -> None:
    with pytest.raises(ValueError, match="8 kHz or more, got 4000 Hz"):
        ChangeVoice().apply(Audio(np.ones(9, np.float32), 4_000), {"alpha": 0.8})


def test_alpha_is_drawn_recorded_and_replayed() -> None:
    given = speech(SPEECH[3])
    operation = ChangeVoice([0.5, 0.9])
    assert operation.params == {"alpha": [0.5, 0.9]}
    drawn = [produce(operation, Item(f"{k}", audio=given), seed=1) for k in range(3)]
    alphas = {record.params["alpha"] for _, record in drawn}
    assert len(alphas) == 3
    assert all(0.5 <= alpha <= 0.9 for alpha in alphas)
    made, record = drawn[0]
    assert replay(record, given).samples.tobytes() == made.samples.tobytes()


@pytest.mark.parametrize("alpha", [0.1, 1.2, [0.9, 0.5], [0.5, 0.6, 0.7]])
def test_alpha_out_of_range_is_refused(alpha: float | list[float]) -> None:
    with pytest.raises(ValueError, match="alpha"):
        ChangeVoice(alpha)


def test_a_speaker_model_is_further_from_a_changed_voice() -> None:
    if find_spec("resemblyzer") is None:
        pytest.skip("the speaker model is in the wheel resemblyzer")
    from evalsuite.encoders.speech import load_audio_encoder
    from evalsuite.generators.endpoints.operations import audio_media

    encoder = load_audio_encoder("ge2e")
    voices = [speech(path) for path in SPEECH[:4]]
    changed = [ChangeVoice().apply(voice, {"alpha": 0.7}) for voice in voices]
    read = [decode_audio(audio_media(sound).data, Limits()) for sound in (*voices, *changed)]
    rows = encoder.embed(read)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    cosine = rows @ rows.T
    same = cosine[:4, :4][~np.eye(4, dtype=bool)]
    assert np.median(cosine[:4, 4:]) < np.median(same) - 0.1
