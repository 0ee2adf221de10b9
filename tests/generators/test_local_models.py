"""Pipelines and captioners from a folder, on tiny real models that are built here."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.errors import ModelError
from evalsuite.generators import (
    Item,
    RecipeError,
    Record,
    Refused,
    build,
    content_hash,
    parse_recipe,
    produce,
    replay,
    spec,
)
from evalsuite.generators.local import operations
from evalsuite.generators.local.operations import ImageToImage, ImageToText, Inpaint, TextToImage

WORDS = [
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "a",
    "photograph",
    "of",
    "the",
    "cat",
    "cup",
    "dark",
    "bright",
    "solar",
    "cell",
    "with",
    "and",
]


@pytest.fixture(scope="session")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a Stable Diffusion pipeline of some hundred kilobytes: random weights, 16 pixels."""
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    letters = [chr(c) for c in range(33, 127)]
    names = [*letters, *(f"{c}</w>" for c in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: k for k, name in enumerate(names)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = StableDiffusionPipeline(
            vae=AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                norm_num_groups=4,
                sample_size=16,
            ),
            text_encoder=CLIPTextModel(
                CLIPTextConfig(
                    vocab_size=len(names),
                    hidden_size=16,
                    intermediate_size=16,
                    num_attention_heads=2,
                    num_hidden_layers=2,
                    max_position_embeddings=24,
                    bos_token_id=len(names) - 2,
                    eos_token_id=len(names) - 1,
                )
            ),
            tokenizer=CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=24),
            unet=UNet2DConditionModel(
                sample_size=8,
                layers_per_block=1,
                block_out_channels=(8, 16),
                norm_num_groups=4,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                cross_attention_dim=16,
                attention_head_dim=4,
            ),
            scheduler=DDIMScheduler(num_train_timesteps=100, clip_sample=False, steps_offset=1),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    folder = tmp_path_factory.mktemp("models") / "pipeline"
    made.save_pretrained(folder)
    return folder


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=words, **special)


ENDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture(scope="session")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ViT and GPT-2, two layers each, with cross-attention."""
    from transformers import (
        GPT2Config,
        VisionEncoderDecoderConfig,
        VisionEncoderDecoderModel,
        ViTConfig,
        ViTImageProcessor,
    )

    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
    eye = ViTConfig(hidden_size=16, image_size=16, patch_size=8, **small)
    mouth = GPT2Config(
        vocab_size=len(WORDS), n_positions=32, n_embd=16, n_layer=2, n_head=2, **ENDS
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(eye, mouth)
        model = VisionEncoderDecoderModel(config=config)
    for settings in (model.config, model.generation_config):
        settings.update({**ENDS, "decoder_start_token_id": 1})
    folder = tmp_path_factory.mktemp("models") / "captioner"
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def git(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GIT, two layers: takes the beginning of a caption."""
    from transformers import CLIPImageProcessor, GitConfig, GitForCausalLM, GitProcessor

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {**small, "image_size": 16, "patch_size": 8, "projection_dim": 8}
        model = GitForCausalLM(
            GitConfig(vision_config=vision, vocab_size=len(WORDS), max_position_embeddings=64,
                      **small, **ENDS)
        )  # fmt: skip
    folder = tmp_path_factory.mktemp("models") / "git"
    model.save_pretrained(folder)
    sixteen = {"height": 16, "width": 16}
    images = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=sixteen)
    GitProcessor(images, tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def photo(mode: str = "RGB") -> Image.Image:
    import skimage.data as sk

    return Image.fromarray(sk.coffee()).resize((48, 32)).convert(mode)


def made_twice(operation: Any, item: Item) -> tuple[Any, Record]:
    """Make a child, and again from its row, with an operation that is built anew."""
    before = torch.random.get_rng_state()
    made, record = produce(operation, item, seed=5)
    assert torch.equal(before, torch.random.get_rng_state())
    read = Record.from_row(json.loads(json.dumps(record.to_row())))
    again = replay(read, item.value(operation.input))
    assert content_hash(again) == content_hash(made) == record.sha256
    assert record.model_sha256 == (operation.model_sha256,)
    assert spec(build(spec(operation))) == spec(operation)
    assert produce(operation, item, seed=6)[1].params != record.params
    return made, record


def test_text_becomes_an_image_of_its_seed_and_its_words(pipeline: Path) -> None:
    draw = TextToImage(str(pipeline), steps=2, guidance=[2.0, 4.0], style="grey")
    cat, record = made_twice(draw, Item("t", text="a cat"))
    assert (cat.mode, cat.size) == ("RGB", (16, 16))
    assert 2 <= record.params["guidance"] <= 4
    assert "diffusers" in record.software
    cup = draw.apply("a cup", record.params)
    assert content_hash(cup) != content_hash(cat)
    unstyled = TextToImage(str(pipeline), steps=2).apply("a cat", record.params)
    assert content_hash(unstyled) != content_hash(cat)
    wanted = TextToImage(str(pipeline), steps=2, style="grey", negative_prompt="dark")
    assert content_hash(wanted.apply("a cat", record.params)) != content_hash(cat)
    large = TextToImage(str(pipeline), steps=1, size=32).apply("a cat", record.params)
    assert large.size == (32, 32)


def test_it_is_what_diffusers_gives_for_the_same_noise(pipeline: Path) -> None:
    from diffusers import StableDiffusionPipeline

    made, record = produce(TextToImage(str(pipeline), steps=3), Item("t", text="a cat"), seed=1)
    peer = StableDiffusionPipeline.from_pretrained(pipeline)
    peer.set_progress_bar_config(disable=True)
    noise = torch.Generator("cpu").manual_seed(record.params["seed"])
    expected = peer("a cat", num_inference_steps=3, guidance_scale=7.5, generator=noise).images[0]
    assert np.abs(np.asarray(made, int) - np.asarray(expected, int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_an_image_is_drawn_anew_in_its_size_and_mode(pipeline: Path, mode: str) -> None:
    edit = ImageToImage(str(pipeline), steps=4, prompt=["a cat", "a cup"], strength=0.5)
    item = Item("i", photo(mode))
    made, record = made_twice(edit, item)
    assert (made.mode, made.size) == (mode, (48, 32))
    assert record.params["prompt"] in {"a cat", "a cup"}
    assert len(record.prompt_sha256) == 1
    full = edit.apply(item.image, {**record.params, "strength": 1.0})  # type: ignore[arg-type]
    assert content_hash(full) != content_hash(made)


def test_only_the_rectangle_is_drawn_anew(pipeline: Path) -> None:
    inpaint = Inpaint(str(pipeline), steps=2, prompt="a cat", share=[0.1, 0.3])
    item = Item("i", photo())
    made, record = made_twice(inpaint, item)
    left, top, right, bottom = record.params["box"]
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    assert (right - left) * (bottom - top) == pytest.approx(record.params["share"])
    changed = (np.asarray(made) != np.asarray(item.image)).any(axis=2)
    rows, columns = np.nonzero(changed)
    assert columns.min() >= int(left * 48)
    assert columns.max() < np.ceil(right * 48)
    assert rows.min() >= int(top * 32)
    assert rows.max() < np.ceil(bottom * 32)
    box = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert box.mean() > 0.9


def test_an_image_becomes_words(captioner: Path, git: Path) -> None:
    say = ImageToText(str(captioner), max_tokens=8, temperature=1.0)
    said, _ = made_twice(say, Item("i", photo()))
    assert set(said.split()) <= set(WORDS)
    drawn = {produce(say, Item("i", photo()), seed=1, variant=k)[0] for k in range(4)}
    assert len(drawn) > 1
    begun = ImageToText(str(git), max_tokens=4, prompt="the dark cup", temperature=[0.5, 1.0])
    text, _ = made_twice(begun, Item("i", photo("L")))
    assert text.startswith("the dark cup ")
    greedy = ImageToText(str(git), max_tokens=4, prompt="the dark cup", beams=2)
    first, second = (greedy.apply(photo(), {"temperature": 0.0, "seed": k}) for k in (1, 2))
    assert first == second
    with pytest.raises(ModelError, match="takes no prompt"):
        ImageToText(str(captioner), prompt="the").apply(photo(), {"temperature": 0.0, "seed": 1})


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def test_a_changed_model_is_another(pipeline: Path, tmp_path: Path) -> None:
    folder = copied(pipeline, tmp_path / "copy")
    draw = TextToImage(str(folder), steps=1)
    assert draw.model_sha256 == TextToImage(str(pipeline)).model_sha256
    _, record = produce(draw, Item("t", text="a cat"), seed=1)
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    weights.write_bytes(data)
    assert TextToImage(str(folder)).model_sha256 != draw.model_sha256
    with pytest.raises(ModelError, match="not those that made the record"):
        replay(record, "a cat")
    (pipeline / "README.md").write_text("notes do not count")
    assert TextToImage(str(pipeline)).model_sha256 == draw.model_sha256


def test_code_pickles_and_names_of_hubs_are_refused(
    pipeline: Path, captioner: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="nothing is downloaded"):
        TextToImage("some-organisation/some-model")
    with pytest.raises(ModelError, match="nothing is downloaded"):
        ImageToText(str(pipeline))
    ran = tmp_path / "ran"
    attack = f"from pathlib import Path\nPath({str(ran)!r}).touch()\nclass Evil: pass\n"

    folder = copied(pipeline, tmp_path / "code")
    (folder / "unet" / "evil.py").write_text(attack)
    with pytest.raises(ModelError, match="holds code"):
        TextToImage(str(folder))

    folder = copied(pipeline, tmp_path / "elsewhere")
    index = json.loads((folder / "model_index.json").read_text())
    for bad in (["os", "path"], ["evil", "Evil"], []):
        (folder / "model_index.json").write_text(json.dumps({**index, "unet": bad}))
        with pytest.raises(ModelError, match="the part 'unet'"):
            TextToImage(str(folder))
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": ["e", "Evil"]}))
    with pytest.raises(ModelError, match="names no pipeline"):
        TextToImage(str(folder))
    (folder / "model_index.json").write_text("[" * 10_000)
    with pytest.raises(ModelError, match="cannot read"):
        TextToImage(str(folder))

    folder = copied(captioner, tmp_path / "mapped")
    config = json.loads((folder / "config.json").read_text())
    mapped = {**config, "auto_map": {"AutoModel": "someone/else--evil.Evil"}}
    (folder / "config.json").write_text(json.dumps(mapped))
    with pytest.raises(ModelError, match="auto_map"):
        ImageToText(str(folder))

    folder = copied(pipeline, tmp_path / "pickles")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ModelError, match="cannot load"):
        TextToImage(str(folder), steps=1).apply("a cat", {"seed": 1, "guidance": 1.0})
    for file in folder.rglob("*.safetensors"):
        file.unlink()
    with pytest.raises(ModelError, match="pickled weights are never read"):
        TextToImage(str(folder))
    assert not ran.exists()


def test_a_stopped_or_broken_image_is_not_a_sample(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from safetensors.torch import load_file, save_file

    folder = copied(pipeline, tmp_path / "nan")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    broken = {k: torch.full_like(v, torch.nan) for k, v in load_file(weights).items()}
    save_file(broken, weights, {"format": "pt"})
    with pytest.raises(ValueError, match="not finite"):
        TextToImage(str(folder), steps=1).apply("a cat", {"seed": 1, "guidance": 1.0})

    class Stops:  # a safety checker of random weights stops nothing, or everything
        vae_scale_factor = 2
        unet = SimpleNamespace(config=SimpleNamespace(sample_size=8))

        def __call__(self, **given: Any) -> Any:
            return SimpleNamespace(images=[np.zeros((2, 2, 3))], nsfw_content_detected=[True])

        def _takes(self, prompt: str, width: int, height: int) -> None: ...

        __call__.__signature__ = __import__("inspect").signature(_takes)  # type: ignore[attr-defined]

    loaded = operations.Loaded(Stops(), None, __import__("threading").Lock())
    monkeypatch.setattr(operations, "_load_pipeline", lambda *given: loaded)
    with pytest.raises(Refused, match="safety checker"):
        TextToImage(str(pipeline), steps=1).apply("a cat", {"seed": 1, "guidance": 1.0})
    with pytest.raises(ModelError, match="does not take negative_prompt"):
        TextToImage(str(pipeline), negative_prompt="x").apply("c", {"seed": 1, "guidance": 1.0})


def test_settings_that_cannot_be_are_refused_when_the_recipe_loads(
    pipeline: Path, captioner: Path
) -> None:
    for settings, message in (
        ("device: gpu", "should be 'cpu' or 'cuda'"),
        ("precision: int8", "should be 'float32'"),
        ("steps: 0", "steps of 1 or more"),
        ("guidance: -1", "guidance must be within"),
        ("model_sha256: abcd", "is asked for"),
    ):
        with pytest.raises((RecipeError, ModelError), match=message):
            parse_recipe(
                "{version: 1, seed: 1, steps: "
                f"[text_to_image: {{model: {pipeline}, {settings}}}]}}"
            )
    with pytest.raises(ValueError, match="are none"):
        ImageToImage(str(pipeline), steps=3, strength=0.2)
    with pytest.raises(ValueError, match="unknown device"):
        ImageToText(str(pipeline), device="gpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beams"):
        ImageToText(str(captioner), beams=0)


def test_all_four_from_the_command_line(pipeline: Path, captioner: Path, tmp_path: Path) -> None:
    import skimage.data as sk

    real = tmp_path / "real" / "cup"
    real.mkdir(parents=True)
    for k, picture in enumerate((sk.coffee(), sk.chelsea())):
        Image.fromarray(picture).resize((48, 32)).save(real / f"{k}.png")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"""
version: 1
seed: 7
steps:
  - image_to_image: {{model: {pipeline}, steps: 4, prompt: a dark cup, strength: 0.5}}
  - inpaint: {{model: {pipeline}, steps: 2, prompt: a cat}}
  - chain:
      operations:
        - image_to_text: {{model: {captioner}, max_tokens: 6, temperature: 1.0}}
        - text_to_image: {{model: {pipeline}, steps: 2}}
"""
    )
    out = tmp_path / "out"
    words = ["generate", str(recipe), "--input", str(tmp_path / "real"), "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--workers", "2"])
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 2
    for row in rows:
        assert len(row["model_sha256"]) == 2
        assert [hop["output"] for hop in json.loads(row["trace"])] == ["image", "text", "image"]
        parent = Image.open(real / Path(row["parents"][0]).name)
        again = replay(Record.from_row(row), parent)
        assert again.tobytes() == Image.open(out / row["file_name"]).tobytes()
    again = CliRunner().invoke(app, words)
    assert "2 were there from an earlier run" in again.output
