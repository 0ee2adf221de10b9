"""Models of sound from a local folder: as transformers runs them, and only what is safe to read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders.speech import load_audio_encoder, load_scorer
from evalsuite.errors import ModelError

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPTS = sorted((Path(__file__).parents[1] / "data" / "speech").glob("*.wav"))[:3]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models with random weights: what is tested is how they are fed and read."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        conv_dim=(16,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    transformers.Wav2Vec2Model(config).save_pretrained(home / "wav2vec2")
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(home / "wav2vec2")
    audio = {
        "patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2],
        "num_hidden_layers": 2, "hidden_size": 32, "spec_size": 256, "num_mel_bins": 64,
    }  # fmt: skip
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 50}
    clap = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=24)
    transformers.ClapModel(clap).save_pretrained(home / "clap")
    transformers.ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(home / "clap")
    return home


@pytest.fixture(scope="module")
def prompts() -> list[DecodedAudio]:
    return [decode_audio(path.read_bytes(), Limits()) for path in PROMPTS]


def test_speech_states_are_those_of_transformers(home: Path, prompts: list[DecodedAudio]) -> None:
    ours = load_audio_encoder(f"transformers/{home / 'wav2vec2'}")
    assert ours.info.dim == 64
    model = transformers.Wav2Vec2Model.from_pretrained(home / "wav2vec2").eval()
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(home / "wav2vec2")
    inputs = extractor(prompts[0].samples, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs).last_hidden_state[0].numpy()
    expected = np.concatenate((states.mean(axis=0), states.std(axis=0)))
    assert np.allclose(ours.embed(prompts[:1])[0], expected, atol=1e-5)


@pytest.mark.parametrize("name", ["wav2vec2", "clap"])
def test_rows_do_not_depend_on_company_and_differ(
    home: Path, prompts: list[DecodedAudio], name: str
) -> None:
    ours = load_audio_encoder(f"transformers/{home / name}")
    together = ours.embed(prompts)
    assert together.shape == (3, ours.info.dim)
    assert np.array_equal(together[1], ours.embed([prompts[1]])[0])
    assert not np.allclose(together[0], together[1], atol=1e-4)


def test_clap_gets_its_rate_and_its_projection(home: Path, prompts: list[DecodedAudio]) -> None:
    import soxr

    ours = load_audio_encoder(f"transformers/{home / 'clap'}")
    assert ours.info.preprocessing["rate"] == 48_000
    model = transformers.ClapModel.from_pretrained(home / "clap").eval()
    extractor = transformers.ClapFeatureExtractor.from_pretrained(home / "clap")
    wide = soxr.resample(prompts[0].native, prompts[0].source_rate, 48_000, "HQ")
    inputs = extractor(wide, sampling_rate=48_000, return_tensors="pt")
    with torch.inference_mode():
        pooled = model.audio_model(**inputs).pooler_output
        expected = model.audio_projection(pooled)[0].numpy()
    row = ours.embed(prompts[:1])[0]
    assert row @ expected / np.linalg.norm(row) / np.linalg.norm(expected) > 0.99999


def test_long_and_short_recordings(home: Path, prompts: list[DecodedAudio]) -> None:
    ours = load_audio_encoder(f"transformers/{home / 'wav2vec2'}")
    x = np.tile(np.concatenate([p.samples for p in prompts]), 6)[: 16_000 * 21]

    def item(samples: np.ndarray) -> DecodedAudio:
        return DecodedAudio(samples, 16_000, 16_000, 1, 1.0, "WAV", "FLOAT", (), samples)

    rows = ours.embed([item(x), item(x[: 16_000 * 20 + 80]), item(x[: 16_000 * 20]), item(x[:9])])
    assert np.isfinite(rows).all()
    assert np.array_equal(rows[1], rows[2])  # five milliseconds more are no window
    assert not np.array_equal(rows[0], rows[2])


def test_what_cannot_be_read_safely_is_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_audio_encoder(f"transformers/{tmp_path}")
    pickled = tmp_path / "pickled"
    shutil.copytree(home / "wav2vec2", pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match="unpickled are not read"):
        load_audio_encoder(f"transformers/{pickled}")
    other = tmp_path / "other"
    shutil.copytree(home / "wav2vec2", other)
    (other / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ModelError, match="is a 'bert'"):
        load_audio_encoder(f"transformers/{other}")
    (other / "config.json").write_text("[]")
    with pytest.raises(ModelError, match="not valid"):
        load_audio_encoder(f"transformers/{other}")
    with pytest.raises(ModelError, match="'transformers/<folder>'"):
        load_audio_encoder("vggish")


def test_weights_that_lack_are_not_made_up(home: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    part = tmp_path / "part"
    shutil.copytree(home / "wav2vec2", part)
    tensors = load_file(part / "model.safetensors")
    del tensors["encoder.layers.0.attention.q_proj.weight"]
    save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="they would be random"):
        load_audio_encoder(f"transformers/{part}").load()


def graph(path: Path, nodes: list[tuple[str, list[str], list[str]]], shape: list[object]) -> Path:
    onnx = pytest.importorskip("onnx")
    made = [onnx.helper.make_node(kind, given, got, keepdims=0) for kind, given, got in nodes]
    outputs = [got[0] for _, _, got in nodes if got[0] in ("mos", "peak", "frames")]
    if outputs == ["frames"]:
        made = [onnx.helper.make_node("Abs", nodes[0][1], ["frames"])]
    value = onnx.helper.make_tensor_value_info
    whole = onnx.helper.make_graph(
        made, "g", [value("wave", onnx.TensorProto.FLOAT, shape)],
        [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
    )  # fmt: skip
    model = onnx.helper.make_model(
        whole, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    path.write_bytes(model.SerializeToString())
    return path


def test_a_network_of_ones_own_grades_speech_only(
    tmp_path: Path, prompts: list[DecodedAudio]
) -> None:
    path = graph(
        tmp_path / "mine.onnx",
        [("ReduceL1", ["wave"], ["mos"]), ("ReduceMax", ["wave"], ["peak"])],
        [1, "n"],
    )
    scorer = load_scorer(f"onnx/{path}")
    assert list(scorer.scores) == ["mine_mos", "mine_peak"]
    silent = np.zeros(16_000, dtype=np.float32)
    quiet = DecodedAudio(silent, 16_000, 16_000, 1, 1.0, "WAV", "FLOAT", (), silent)
    rows = scorer.score([prompts[0], quiet])
    assert rows[0] == pytest.approx(
        [np.abs(prompts[0].samples).sum(), prompts[0].samples.max()], rel=1e-4
    )
    assert np.isnan(rows[1]).all()
    assert load_scorer(f"onnx/{path}").info.key == scorer.info.key
    flat = graph(tmp_path / "flat.onnx", [("ReduceMax", ["wave"], ["peak"])], ["n"])
    assert load_scorer(f"onnx/{flat}").score(prompts[:1])[0, 0] == rows[0, 1]


def test_a_file_beside_the_network_names_its_scores_and_rate(
    tmp_path: Path, prompts: list[DecodedAudio]
) -> None:
    # As NISQA: five numbers in one output, at 48 kHz; here the first five samples.
    onnx = pytest.importorskip("onnx")
    value, tensor = onnx.helper.make_tensor_value_info, onnx.numpy_helper.from_array
    whole = onnx.helper.make_graph(
        [onnx.helper.make_node("Slice", ["wave", "from", "to", "axis"], ["scores"])], "g",
        [value("wave", onnx.TensorProto.FLOAT, [1, "n"])],
        [value("scores", onnx.TensorProto.FLOAT, [1, 5])],
        [tensor(np.array([k]), name) for k, name in ((9000, "from"), (9005, "to"), (1, "axis"))],
    )  # fmt: skip
    model = onnx.helper.make_model(
        whole, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
    )
    path = tmp_path / "nisqa.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="unless the"):
        load_scorer(f"onnx/{path}").score(prompts[:1])
    plain = load_scorer(f"onnx/{path}").info.key
    names = ["mos", "noise", "colour", "breaks", "loudness"]
    scores = [{"name": n, "unit": "MOS", "description": f"NISQA: {n}, 1 to 5."} for n in names]
    beside = tmp_path / "nisqa.json"
    beside.write_text(json.dumps({"rate": 48_000, "scores": scores}))
    scorer = load_scorer(f"onnx/{path}")
    assert scorer.info.key != plain
    assert list(scorer.scores) == [f"nisqa_{n}" for n in names]
    assert scorer.scores["nisqa_mos"].unit == "MOS"
    import soxr

    wide = soxr.resample(prompts[0].native, prompts[0].source_rate, 48_000, "HQ")
    np.testing.assert_allclose(scorer.score(prompts[:1])[0], wide[9000:9005], rtol=1e-6)
    beside.write_text(json.dumps({"scores": scores[:4]}))
    with pytest.raises(ModelError, match="4 finite numbers are needed"):
        load_scorer(f"onnx/{path}").score(prompts[:1])
    for wrong, said in (
        ({"scores": []}, "scores"),
        ({"scores": [{"name": "A b", "description": ""}]}, "scores.0.name"),
        ({"scores": scores, "rate": 10}, "rate"),
        ({"scores": scores, "code": "x"}, "code"),
        ({"scores": [scores[0], scores[0]]}, "two scores have one name"),
        ([], "it: "),
    ):
        beside.write_text(json.dumps(wrong))
        with pytest.raises(ModelError, match=said):
            load_scorer(f"onnx/{path}")


def test_networks_that_do_not_fit_are_refused(tmp_path: Path, prompts: list[DecodedAudio]) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        load_scorer(f"onnx/{tmp_path / 'none.onnx'}")
    (tmp_path / "no.onnx").write_bytes(b"no graph")
    with pytest.raises(ModelError, match="does not load"):
        load_scorer(f"onnx/{tmp_path / 'no.onnx'}")
    deep = graph(tmp_path / "deep.onnx", [("ReduceMax", ["wave"], ["mos"])], [1, "n", 80])
    with pytest.raises(ModelError, match="one waveform of float32"):
        load_scorer(f"onnx/{deep}")
    frames = graph(tmp_path / "frames.onnx", [("Abs", ["wave"], ["frames"])], [1, "n"])
    with pytest.raises(ModelError, match="must be one finite number"):
        load_scorer(f"onnx/{frames}").score(prompts[:1])
