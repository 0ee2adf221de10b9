"""The encode loop on real photographs: complete, resumable, the same bits however it was run."""

from __future__ import annotations

import io
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.data import Limits, open_dataset, sample_hash, set_fingerprint
from evalsuite.encoders import Encoded, FeatureCache, ImageEncoder, encode, load_encoder
from evalsuite.encoders import cache as cache_module
from evalsuite.encoders.base import EncoderInfo
from evalsuite.errors import DataError, ModelError
from evalsuite.metrics.image.attributes import ATTRIBUTES, image_attributes

ID = "efficientnet_lite0"


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return load_encoder(backend="onnxruntime", device="cpu")


@pytest.fixture(scope="module")
def whole(cells: Path, encoder: ImageEncoder) -> Encoded:
    return encode(open_dataset(cells), [encoder])


def identical(a: Encoded, b: Encoded) -> bool:
    """Whether all but times, warnings and counts of work is the same, bit for bit."""
    return (
        a.samples == b.samples
        and a.hashes == b.hashes
        and a.features.keys() == b.features.keys()
        and all(np.array_equal(a.features[k], b.features[k]) for k in a.features)
        and a.attributes.keys() == b.attributes.keys()
        and all(np.array_equal(a.attributes[k], b.attributes[k]) for k in a.attributes)
        and a.thumbnails == b.thumbnails
        and a.notes == b.notes
        and a.problems == b.problems
        and a.fingerprint == b.fingerprint
        and [i.key for i in a.infos] == [i.key for i in b.infos]
    )


def test_what_comes_out(cells: Path, encoder: ImageEncoder, whole: Encoded) -> None:
    data = open_dataset(cells)
    assert len(whole) == 40
    assert whole.samples == list(data.samples)
    assert whole.hashes == [sample_hash(data.read(s)) for s in data.samples]
    assert whole.fingerprint == set_fingerprint((h, None, None) for h in whole.hashes)
    assert whole.features[ID].shape == (40, 1280)
    assert whole.features[ID].dtype == np.float32
    assert list(whole.attributes) == list(ATTRIBUTES)
    assert whole.notes == {"grey": 40}
    assert whole.problems == []
    assert whole.forwards == 40
    assert whole.infos == [encoder.info]
    assert whole.timings["total"] > 0
    assert whole.timings["forward"] > 0
    assert whole.timings["prepare"] > 0
    for row in (0, 17, 39):
        image = Image.open(io.BytesIO(data.read(data.samples[row])))
        (features,) = encoder.forward(encoder.prepare(image)[None])
        assert np.array_equal(whole.features[ID][row], features)
        assert whole.attributes["contrast"][row] == image_attributes(np.asarray(image))["contrast"]
        small = Image.open(io.BytesIO(whole.thumbnails[row]))
        assert (small.size, small.mode) == ((64, 64), "L")
        away = np.abs(np.asarray(small.resize((300, 300)), float) - np.asarray(image)).mean()
        assert away < 15  # of 255, where another cell differs by about 30
        assert len(whole.thumbnails[row]) < 1500


def test_the_bits_do_not_depend_on_workers_or_company(
    cells: Path, tmp_path: Path, encoder: ImageEncoder, whole: Encoded
) -> None:
    for workers in (1, 5):
        assert identical(encode(open_dataset(cells), [encoder], workers=workers), whole)
    for path in sorted(cells.iterdir())[::3]:
        shutil.copy(path, tmp_path)
    part = encode(open_dataset(tmp_path), [encoder])
    rows = [whole.hashes.index(h) for h in part.hashes]
    assert len(rows) == 14
    assert np.array_equal(part.features[ID], whole.features[ID][rows])


def test_the_cache_gives_the_same_and_no_model_is_loaded(
    cells: Path, tmp_path: Path, whole: Encoded
) -> None:
    cache = FeatureCache(tmp_path / "cache")
    part = tmp_path / "part"
    part.mkdir()
    for path in sorted(cells.iterdir())[:25]:
        shutil.copy(path, part)
    encode(open_dataset(part), [ID], cache=cache, device="cpu")
    mixed = encode(open_dataset(cells), [ID], cache=cache, device="cpu")
    assert mixed.forwards == 15
    assert identical(mixed, whole)

    code = """
import sys
from evalsuite.data import open_dataset
from evalsuite.encoders import FeatureCache, encode
done = encode(open_dataset(sys.argv[1]), ["efficientnet_lite0"], cache=FeatureCache(sys.argv[2]))
heavy = {"torch", "timm", "onnxruntime", "onnx", "torchvision"} & sys.modules.keys()
print(done.forwards, done.timings["decode"], sorted(heavy))
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(cells), str(cache.directory)],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert found.stdout.strip() == "0 0.0 []"


CHILD = """
import sys
from evalsuite.data import open_dataset
from evalsuite.encoders import FeatureCache, cache, encode
cache.FLUSH_ROWS = 8
encode(open_dataset(sys.argv[1]), ["efficientnet_lite0"], cache=FeatureCache(sys.argv[2]),
       device="cpu")
"""


def test_a_killed_run_goes_on_and_ends_the_same(
    cells: Path, tmp_path: Path, whole: Encoded
) -> None:
    cache = FeatureCache(tmp_path)
    features = tmp_path / cache_module.FORMAT / "features"
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(cells), str(tmp_path)])
    deadline = time.monotonic() + 60
    while not list(features.glob("*/" + "[0-9a-f]" * 64)):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    resumed = encode(open_dataset(cells), [ID], cache=cache, device="cpu")
    assert 0 < resumed.forwards < 40
    assert identical(resumed, whole)
    assert resumed.warnings == []


def test_a_damaged_cache_is_reported_and_made_anew(
    cells: Path, tmp_path: Path, encoder: ImageEncoder, whole: Encoded
) -> None:
    encode(open_dataset(cells), [encoder], cache=FeatureCache(tmp_path))
    segments = sorted(p for p in tmp_path.rglob("*") if len(p.name) == 64 and p.is_file())
    assert [p.parent.parent.name for p in segments] == ["attributes", "features", "images"]
    shutil.rmtree(segments[2].parent)  # missing, and no reason to run the model again
    assert encode(open_dataset(cells), [encoder], cache=FeatureCache(tmp_path)).forwards == 0
    segments[2] = next(p for p in (tmp_path / "v1" / "images").rglob("*") if p.is_file())
    for segment in segments:
        content = bytearray(segment.read_bytes())
        content[-9] ^= 4
        segment.write_bytes(content)
    cache = FeatureCache(tmp_path)
    again = encode(open_dataset(cells), [encoder], cache=cache)
    assert identical(again, whole)
    assert (again.forwards, cache.corrupt, len(again.warnings)) == (40, 3, 3)
    after = encode(open_dataset(cells), [encoder], cache=cache)
    assert (after.forwards, after.warnings) == (0, [])
    assert identical(after, whole)


def test_bad_samples_are_named_and_the_rest_goes_on(
    cells: Path, tmp_path: Path, encoder: ImageEncoder
) -> None:
    good = sorted(cells.iterdir())[:5]
    for path in good:
        shutil.copy(path, tmp_path)
    content = good[0].read_bytes()
    (tmp_path / "a_cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "a_twin_of_the_cut.png").write_bytes(content[: len(content) // 2])
    (tmp_path / "b_text.png").write_text("no image")
    Image.new("RGB", (900, 900)).save(tmp_path / "c_large.png")
    shutil.copy(good[1], tmp_path / "d_twin.jpg")  # a PNG by content
    cache = FeatureCache(tmp_path.parent / "cache")
    before = encode(open_dataset(tmp_path), [encoder], cache=cache)
    assert {(p.sample.removesuffix(".png"), p.kind) for p in before.problems} == {
        ("a_cut", "truncated"), ("a_twin_of_the_cut", "truncated"), ("b_text", "not_an_image"),
    }  # fmt: skip
    assert len(before) == 7
    assert before.forwards == 6  # the twin was not computed twice
    assert before.notes == {"grey": 6, "extension": 1}
    names = [s.source for s in before.samples]
    twins = names.index("d_twin.jpg"), names.index(good[1].name)
    assert before.hashes[twins[0]] == before.hashes[twins[1]]
    assert np.array_equal(*(before.features[ID][row] for row in twins))
    assert before.attributes["sharpness"][twins[0]] == before.attributes["sharpness"][twins[1]]
    assert before.thumbnails[twins[0]] == before.thumbnails[twins[1]]

    # What was cached is refused too, if it is larger than is now allowed.
    limits = Limits(max_pixels=300 * 300)
    for store in (cache, None):
        after = encode(open_dataset(tmp_path), [encoder], cache=store, limits=limits)
        assert [p.sample for p in after.problems if p.kind == "oversized"] == [
            next(s.id for s in before.samples if s.source == "c_large.png")
        ]
        assert len(after) == 6


def test_nothing_usable_is_an_error(tmp_path: Path, encoder: ImageEncoder) -> None:
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"none of the 1 samples .* not_an_image"):
        encode(open_dataset(tmp_path), [encoder])


class Small(ImageEncoder):
    """A second encoder: mean colours. Fails on purpose after ``fails_after`` batches."""

    def __init__(self, name: str = "small", fails_after: int = 10**9) -> None:
        super().__init__(EncoderInfo(name, "image", 3, "", "here", "", {}, ""), 2, 2)
        self.fails_after = fails_after
        self.ran = 0

    def prepare(self, pixels: Image.Image) -> np.ndarray:
        return np.asarray(pixels.convert("RGB").resize((2, 2))).transpose(2, 0, 1)

    def _load(self) -> None: ...

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        self.ran += 1
        if self.ran > self.fails_after:
            raise ModelError("out of order")
        return batch.mean(axis=(2, 3), dtype=np.float32)


def test_several_encoders_and_none(cells: Path, encoder: ImageEncoder, whole: Encoded) -> None:
    both = encode(open_dataset(cells), [encoder, Small()], attributes=False, thumbnails=False)
    assert list(both.features) == [ID, "small"]
    assert both.features["small"].shape == (40, 3)
    assert np.array_equal(both.features[ID], whole.features[ID])
    assert (both.attributes, both.thumbnails, both.forwards) == ({}, [], 80)
    none = encode(open_dataset(cells), [])
    assert (none.features, none.forwards) == ({}, 0)
    assert np.array_equal(none.attributes["noise"], whole.attributes["noise"])
    with pytest.raises(ModelError, match="given once"):
        encode(open_dataset(cells), [Small(), Small()])
    with pytest.raises(ValueError, match="workers must be at least 1"):
        encode(open_dataset(cells), [Small()], workers=0)


def test_an_error_ends_the_run_and_keeps_what_was_done(cells: Path, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    with pytest.raises(ModelError, match="out of order"):
        encode(open_dataset(cells), [Small(fails_after=4)], cache=cache, workers=1)
    assert encode(open_dataset(cells), [Small()], cache=cache).forwards == 40 - 4 * 2


def test_progress_is_for_terminals(
    cells: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(open_dataset(cells), [Small()])
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("COLUMNS", "120")
    encode(open_dataset(cells), [Small()], progress=True, label="[real]")
    out, err = capsys.readouterr()
    assert out == ""
    assert "encoding [real]" in err
    assert "40/40" in err
    assert " images/s" in err


@pytest.mark.parametrize("modality", ["audio", "text"])
def test_all_code_behind_the_properties_is_in_their_key(modality: str) -> None:
    """Or a changed helper would leave old values in the cache."""
    from importlib import import_module

    from evalsuite.encoders.encode_media import DESCRIBED_BY

    module = import_module(f"evalsuite.metrics.{modality}.attributes")
    used = {
        value.__module__
        for value in vars(module).values()
        if str(getattr(value, "__module__", "")).startswith(f"evalsuite.metrics.{modality}")
    }
    assert len(used) > 1
    assert used <= set(DESCRIBED_BY[modality])  # type: ignore[index]


def test_features_of_sound_depend_on_how_it_is_decoded() -> None:
    from evalsuite.encoders import asr, audiofolder, onnxfile, speech
    from evalsuite.encoders.base import code_version

    network = ("evalsuite.encoders.mel", "evalsuite.encoders.onnxfile")
    of_files = (
        "evalsuite.data.images",
        "evalsuite.encoders.audiofolder",
        "evalsuite.encoders.image",
    )
    for module, others in (
        (asr, ()), (audiofolder, ()), (speech, network), (onnxfile, (*of_files, network[0])),
    ):  # fmt: skip
        used = ("evalsuite.data.audio", *others, module.__name__)
        assert code_version(*used) == module._CODE
