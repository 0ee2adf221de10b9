"""The gate with an open_clip model from a local checkpoint: CLIPScore and RefCLIPScore by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders.imagetext import load_image_text
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.metrics.crossmodal.alignment import clip_score
from evalsuite.pipeline.run import run_gate

torch = pytest.importorskip("torch")
open_clip = pytest.importorskip("open_clip")

N = 16
THINGS = ("cat", "dog", "cup", "red door", "train", "tree", "boat", "map")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Two small towers with random weights: they know nothing, and have scores."""
    from safetensors.torch import save_file

    home = tmp_path_factory.mktemp("clip")
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 16},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2,
                     "layers": 1},
    }  # fmt: skip
    (home / "gate-two-towers.json").write_text(json.dumps(config))
    open_clip.add_model_config(home)
    torch.manual_seed(3)
    model = open_clip.create_model("gate-two-towers")
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, home / "w.safetensors")
    return f"open_clip/gate-two-towers@{home / 'w.safetensors'}"


def write(folder: Path, captions: list[str]) -> None:
    rows = [{"file_name": f"{i:02d}.png", "caption": text} for i, text in enumerate(captions)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(lines, "utf-8")


def test_clip_scores_stand_beside_the_gap(tmp_path: Path, checkpoint: str) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = tmp_path / "real", tmp_path / "synthetic"
    real.mkdir()
    pictures = []
    for i in range(N):
        noise = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(noise).resize((48, 48)))
        pictures[-1].save(real / f"{i:02d}.png")
    shutil.copytree(real, synthetic)
    # Four of the synthetic images are none of the real set.
    for i in range(4):
        pictures[i].rotate(90).save(synthetic / f"{i:02d}.png")
    said = [f"a {THINGS[i % 8]} number {i}" for i in range(N)]
    other = [f"some {THINGS[(i + i // 8) % 8]}" for i in range(N)]
    write(real, said)
    write(synthetic, other)
    default = load_policy().model_dump()
    ties = {**default["ties"], "image_text": checkpoint, "audio_text": None}
    policy = Policy.model_validate({**default, "min_samples": 12, "ties": ties})
    result = run_gate(real, synthetic, policy=policy, cache=False, progress=False).result
    (found,) = [f for f in result.findings if f.metric == "consistency_gap"]
    assert found.encoder == "open_clip/gate-two-towers"
    model = load_image_text(checkpoint, device="cpu")
    texts, others = model.text_features(said), model.text_features(other)
    shown = model.image_features(
        [Image.open(synthetic / f"{i:02d}.png").convert("RGB") for i in range(N)]
    )
    before = clip_score(model.image_features(pictures), texts)
    assert found.details["clip_score_real"] == pytest.approx(before.mean(), abs=1e-3)
    after = clip_score(shown, others)
    assert found.details["clip_score_synthetic"] == pytest.approx(after.mean(), abs=1e-3)
    assert abs(before.mean() - after.mean()) > 0.01
    # Hessel et al. 2021: the harmonic mean of 2.5 cos(image, text) and cos(text, reference).
    assert found.details["pairs_with_references"] == N - 4
    image = 2.5 * np.maximum((shown * others).sum(axis=1), 0)
    text = np.maximum((others * texts).sum(axis=1), 0)
    harmonic = np.divide(2 * image * text, image + text, out=np.zeros(N), where=image + text > 0)
    assert found.details["ref_clip_score"] == pytest.approx(harmonic[4:].mean(), abs=1e-4)
