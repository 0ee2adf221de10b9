"""ConSE against its definition run in timm; open_clip end to end against torchmetrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from evalsuite.encoders import lite0
from evalsuite.encoders.cache import FeatureCache
from evalsuite.encoders.imagetext import ImageText, class_names, load_image_text
from evalsuite.encoders.text import load_text_encoder
from evalsuite.errors import ModelError
from evalsuite.metrics.crossmodal.alignment import clip_score

PICTURES = {
    "chelsea": "a tabby cat looks to the side",
    "coffee": "a cup of espresso on a wooden table",
    "rocket": "a rocket stands on its launch pad",
    "camera": "a man with a camera on a tripod",
    "stereo_motorcycle": "a motorcycle is parked in a garage",
}


def picture(name: str) -> Image.Image:
    pixels = getattr(skimage.data, name)()
    return Image.fromarray(pixels[0] if isinstance(pixels, tuple) else pixels)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    """Keeps the embeddings of the class names, which take seconds."""
    return FeatureCache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def conse(cache: FeatureCache) -> ImageText:
    return load_image_text("conse", device="cpu", cache=cache)


def test_conse_finds_the_caption_of_what_it_knows(conse: ImageText) -> None:
    images = conse.image_features([picture(name) for name in PICTURES])
    texts = conse.text_features(list(PICTURES.values()))
    scores = images @ texts.T
    assert scores.argmax(axis=1).tolist() == list(range(5))
    assert scores.argmax(axis=0).tolist() == list(range(5))
    assert np.linalg.norm(images, axis=1) == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(texts, axis=1) == pytest.approx(1, abs=1e-6)


def test_conse_is_its_definition_with_timms_own_classifier(conse: ImageText) -> None:
    import timm

    model = timm.create_model(lite0.ARCHITECTURE, pretrained=False).eval()
    model.load_state_dict(lite0.to_timm(lite0.read_weights(_weights()), model.state_dict()))
    pictures = [picture(name) for name in PICTURES]
    x = np.stack([conse.image_encoder.prepare(p) for p in pictures]).astype(np.float32)
    with torch.inference_mode():
        share = model(torch.from_numpy(x / 127.5 - 1)).softmax(dim=1).double().numpy()
    names = class_names()
    info = timm.data.ImageNetInfo()
    assert names == [info.index_to_description(k, detailed=False) for k in range(1000)]
    assert names[int(share[0].argmax())] == "tiger cat"
    assert names[int(share[1].argmax())] == "espresso"
    text = load_text_encoder("minilm_l6", device="cpu")
    rows = text.embed(names).astype(np.float64)
    rows -= rows.mean(axis=0)
    expected = []
    for p in share:
        best = np.argsort(p)[-10:]
        expected.append((p[best, None] * rows[best]).sum(axis=0) / p[best].sum())
    expected = [e / np.linalg.norm(e) for e in expected]
    ours = conse.image_features(pictures)
    assert (ours * expected).sum(axis=1) == pytest.approx(1, abs=1e-4)


def _weights() -> Path:
    from importlib.metadata import distribution

    return Path(str(distribution(lite0.PACKAGE).locate_file(lite0.FILE)))


def test_a_row_does_not_depend_on_its_company(conse: ImageText) -> None:
    pictures = [picture(name) for name in PICTURES]
    texts = [*PICTURES.values(), "", "x" * 10_000_000, "猫が横を見る", "a\x00b\ud800"]
    together = conse.image_features(pictures), conse.text_features(texts)
    for i, p in enumerate(pictures):
        assert (conse.image_features([p])[0] == together[0][i]).all()
    for i, t in enumerate(texts):
        assert (conse.text_features([t])[0] == together[1][i]).all()


def test_features_of_the_gate_make_the_same_rows(conse: ImageText) -> None:
    pictures = [picture(name) for name in PICTURES]
    prepared = np.stack([conse.image_encoder.prepare(p) for p in pictures])
    rows = conse.image_rows(conse.image_encoder.forward_all(prepared))
    assert (rows == conse.image_features(pictures)).all()
    assert conse.image_rows(np.empty((0, 1280), np.float32)).shape == (0, 384)
    assert conse.text_features([]).shape == (0, 384)


def test_what_it_is_stands_in_the_record_before_it_is_loaded(
    conse: ImageText, cache: FeatureCache
) -> None:
    model = load_image_text(cache=cache, device="cpu")
    assert not model.loaded
    assert not model.image_encoder.loaded
    assert (model.info.id, model.info.modality, model.info.dim) == ("conse", "image+text", 384)
    assert "not a CLIPScore" in model.info.preprocessing["score"]
    assert (model.text_features(["a cat"]) == conse.text_features(["a cat"])).all()
    assert model.info.key == conse.info.key


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("clip", "use 'conse'"),
        ("open_clip/ViT-B-3", "no architecture"),
        ("open_clip/ViT-B-32@openai", "not at hand"),
        ("open_clip/", "is not 'open_clip/<architecture>"),
    ],
)
def test_errors_say_what_to_do(
    spec: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ModelError, match=message):
        load_image_text(spec)


def test_clip_score_by_a_local_checkpoint_is_that_of_torchmetrics(tmp_path: Path) -> None:
    import open_clip
    from safetensors.torch import save_file
    from torchmetrics.functional.multimodal.clip_score import _clip_score_update

    config = {
        "embed_dim": 24,
        "vision_cfg": {"image_size": 64, "layers": 2, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    (tmp_path / "tiny-two-towers.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    torch.manual_seed(0)
    model, _, transform = open_clip.create_model_and_transforms("tiny-two-towers")
    model.eval()
    path = tmp_path / "towers.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)

    class Peer:
        config = None

        def to(self, _: object) -> Peer:
            return self

        def get_image_features(self, pixels: torch.Tensor) -> torch.Tensor:
            return model.encode_image(pixels)

        def get_text_features(self, ids: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
            return model.encode_text(ids)

    tokenizer = open_clip.get_tokenizer("tiny-two-towers")

    def process(text: Any = None, images: Any = None, **_: Any) -> dict[str, torch.Tensor]:
        if images is not None:
            opened = [Image.fromarray(i.permute(1, 2, 0).numpy()) for i in images]
            return {"pixel_values": torch.stack([transform(p) for p in opened])}
        return {"input_ids": tokenizer(text), "attention_mask": tokenizer(text) > 0}

    pictures = [picture(name).convert("RGB") for name in PICTURES]
    texts = [*list(PICTURES.values())[:4], "a caption that is much longer than the twelve tokens"]
    with torch.inference_mode():
        theirs, _ = _clip_score_update(
            [torch.from_numpy(np.asarray(p).copy()).permute(2, 0, 1) for p in pictures],
            texts, Peer(), process,
        )  # fmt: skip
    ours = load_image_text(f"open_clip/tiny-two-towers@{path}", device="cpu")
    assert ours.info.id == "open_clip/tiny-two-towers"
    images, captions = ours.image_features(pictures), ours.text_features(texts)
    assert clip_score(images, captions, clamp=False) == pytest.approx(theirs.numpy(), abs=1e-3)
    assert (ours.text_features(texts[1:2])[0] == captions[1]).all()
    assert len({round(float(v), 2) for v in theirs}) == 5
    assert str(tmp_path) not in json.dumps(ours.info.preprocessing) + ours.info.weights_source
