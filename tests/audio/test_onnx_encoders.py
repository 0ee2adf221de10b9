"""Encoders from ONNX files of the user's: equal to the same network in torch, and in the gate."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from evalsuite.data import open_dataset
from evalsuite.data.audio import DecodedAudio, decode_audio
from evalsuite.data.dataset import Limits
from evalsuite.encoders import FeatureCache, encode, load_encoder
from evalsuite.encoders.speech import load_audio_encoder
from evalsuite.errors import ModelError
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.pipeline.run import run_gate

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

SPEECH = Path(__file__).parents[1] / "data" / "speech"
# Hershey et al. 2017 and the code that came with it: 0.96 s of 64 bands, 125 to 7500 Hz.
VGGISH = {
    "modality": "audio",
    "licence": "Apache-2.0",
    "rate": 16_000,
    "input": {
        "kind": "log_mel", "fft": 512, "window": 400, "hop": 160, "power": 1, "bands": 64,
        "low": 125, "high": 7500, "scale": "htk", "area": False, "slopes": "mel", "add": 0.01,
    },
    "window_seconds": 0.96,
}  # fmt: skip


@pytest.fixture(scope="module")
def prompts() -> list[DecodedAudio]:
    files = sorted(SPEECH.glob("*.wav"))[:3]
    return [decode_audio(path.read_bytes(), Limits()) for path in files]


def save(folder: Path, net: Any, shape: tuple[int, ...], said: dict[str, Any], **axes: Any) -> Path:
    """Export a network, and describe it."""
    folder.mkdir(exist_ok=True)
    path = folder / "mine.onnx"
    torch.onnx.export(
        net, (torch.zeros(shape),), str(path), dynamo=False, input_names=["given"],
        output_names=["embedding"], **axes,
    )  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(said))
    return path


def vggish(seed: int = 0) -> Any:
    """Its shape with few channels and random weights."""
    torch.manual_seed(seed)
    nn = torch.nn
    layers: list[Any] = []
    for before, after in ((1, 8), (8, 12), (12, 16), (16, 16)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 6 * 4, 32), nn.ReLU()).eval()


def vggish_patches(samples: np.ndarray) -> np.ndarray:
    """Its log-mel patches, number by number from its definition: shape (m, 96, 64)."""

    def mel(hz: float) -> float:
        return float(1127 * np.log(1 + hz / 700))

    edges = np.linspace(mel(125), mel(7500), 66)
    weights = np.zeros((257, 64))
    for band in range(64):
        low, middle, high = edges[band : band + 3]
        for k in range(257):
            at = mel(k * 16_000 / 512)
            weights[k, band] = max(
                0, min((at - low) / (middle - low), (high - at) / (high - middle))
            )
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    rows = [
        np.abs(np.fft.rfft(samples[s : s + 400] * hann, 512)) @ weights
        for s in range(0, len(samples) - 399, 160)
    ]
    level = np.log(np.array(rows) + 0.01)
    m = len(level) // 96
    return level[: 96 * m].reshape(m, 96, 64)


def test_a_network_on_log_mel_is_that_of_torch(tmp_path: Path, prompts: list[DecodedAudio]) -> None:
    net = vggish()
    encoder = load_audio_encoder(f"onnx/{save(tmp_path, net, (1, 1, 96, 64), VGGISH)}")
    assert encoder.info.dim == 32
    assert not encoder.loaded
    x = np.concatenate([p.samples for p in prompts])[: 400 + 160 * (5 * 96 - 1)]
    given = torch.from_numpy(vggish_patches(x)).float()[:, None]
    assert len(given) == 5
    with torch.no_grad():
        expected = net(given).mean(dim=0).numpy()
    item = DecodedAudio(x, 16_000, 16_000, 1, len(x) / 16_000, "WAV", "FLOAT", (), x)
    np.testing.assert_allclose(encoder.embed([item])[0], expected, rtol=1e-5, atol=1e-5)
    together = encoder.embed([*prompts, item])
    np.testing.assert_array_equal(together[3], encoder.embed([item])[0])
    assert np.ptp(together, axis=0).max() > 1e-3


@pytest.mark.parametrize(
    ("said", "theirs"),
    [
        ({"edges": "zeros"}, {"pad_mode": "constant"}),
        (
            {"edges": "reflect", "scale": "htk", "area": False, "power": 1, "log": "log10"},
            {"pad_mode": "reflect", "htk": True, "norm": None, "power": 1.0},
        ),
        (
            {"low": 50, "high": 14_000, "log": "db", "mean": -30, "sd": 20, "bands": 40},
            {"center": False, "fmin": 50, "fmax": 14_000, "n_mels": 40},
        ),
        ({"edges": "zeros", "window": 800}, {"win_length": 800, "pad_mode": "constant"}),
        ({"edges": "zeros", "window": 1023, "fft": 1023}, {"pad_mode": "constant"}),
    ],
)
def test_log_mel_is_librosa_s(
    tmp_path: Path, prompts: list[DecodedAudio], said: dict[str, Any], theirs: dict[str, Any]
) -> None:
    librosa = pytest.importorskip("librosa")
    given = {"kind": "log_mel", "fft": 1024, "window": 1024, "hop": 320, "bands": 64, **said}
    second = {"modality": "audio", "licence": "none", "rate": 32_000, "window_seconds": 1.0}
    shape = (1, 100, given["bands"])
    path = save(tmp_path, torch.nn.Identity(), shape, {**second, "input": given})
    encoder = load_audio_encoder(f"onnx/{path}")
    import soxr

    x = soxr.resample(prompts[0].native, prompts[0].source_rate, 32_000, "HQ")
    x = x[: 31_680 + (given["window"] % 2 if "edges" in said else 1024)]  # 100 frames
    # Over 4 kHz there is nothing, of which two Fourier transforms in float32 differ.
    x = (x + np.random.default_rng(0).normal(0, 0.003, len(x))).astype(np.float32)
    item = DecodedAudio(x, 32_000, 32_000, 1, 1.0, "WAV", "FLOAT", (), x)
    options = {"n_fft": given["fft"], "n_mels": 64, "power": 2.0, **theirs}
    mel = librosa.feature.melspectrogram(y=x, sr=32_000, hop_length=320, **options)
    assert mel.shape[1] == 100
    level = np.maximum(mel, 1e-10)
    level = {"ln": np.log, "log10": np.log10, "db": lambda m: 10 * np.log10(m)}[
        given.get("log", "ln")
    ](level)
    level = (level - given.get("mean", 0)) / given.get("sd", 1)
    np.testing.assert_allclose(encoder.embed([item])[0], level.mean(axis=1), atol=2e-4)


class Frontend(torch.nn.Module):
    """Samples to vectors of three numbers, one every 80 samples."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.conv = torch.nn.Conv1d(1, 3, 160, stride=80)

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        """Take (1, n), give (1, m, 3)."""
        return torch.relu(self.conv(given[:, None])).transpose(1, 2)


def test_a_network_on_samples_gets_its_rate_and_its_windows(
    tmp_path: Path, prompts: list[DecodedAudio]
) -> None:
    said = {
        "modality": "audio", "licence": "CC0", "rate": 22_050, "input": {"kind": "waveform"},
        "window_seconds": 0.5, "hop_seconds": 0.25, "pooling": "mean_sd",
    }  # fmt: skip
    net = Frontend()
    axes = {"dynamic_axes": {"given": {1: "n"}, "embedding": {1: "m"}}}
    encoder = load_audio_encoder(f"onnx/{save(tmp_path, net, (1, 22_050), said, **axes)}")
    assert encoder.info.dim == 6
    assert encoder.info.weights_source == "local file, licence: CC0"
    import soxr

    x = soxr.resample(prompts[0].native, prompts[0].source_rate, 22_050, "HQ")
    size, step = 11_025, 5_512
    left = len(x) - size
    count = 1 + left // step + (2 * (left % step) >= step)
    x = np.pad(x, (0, step))
    with torch.no_grad():
        made = [net(torch.from_numpy(x[None, k * step : k * step + size]))[0] for k in range(count)]
    rows = torch.cat(made).double()
    expected = torch.cat((rows.mean(dim=0), rows.std(dim=0, correction=0))).numpy()
    np.testing.assert_allclose(encoder.embed(prompts[:1])[0], expected, rtol=1e-5, atol=1e-6)


def test_short_and_long_recordings(tmp_path: Path, prompts: list[DecodedAudio]) -> None:
    encoder = load_audio_encoder(f"onnx/{save(tmp_path, vggish(), (1, 1, 96, 64), VGGISH)}")
    x = np.tile(np.concatenate([p.samples for p in prompts]), 3)

    def row(n: int) -> np.ndarray:
        part = x[:n]
        item = DecodedAudio(part, 16_000, 16_000, 1, n / 16_000, "WAV", "FLOAT", (), part)
        return encoder.embed([item])[0]

    window = 400 + 95 * 160
    assert np.isfinite(row(1)).all()
    np.testing.assert_array_equal(row(window), row(window + 160 * 47))  # under half a window more
    assert not np.array_equal(row(window), row(window + 160 * 48))
    assert np.isfinite(row(16_000 * 9)).all()


def policy(encoder: str) -> Policy:
    default = load_policy().model_dump()
    quick = {"encoders": {"audio": (encoder,)}, "scorers": {}, "min_samples": 12}
    return Policy.model_validate({**default, **quick})


def clips(folder: Path, noise: float) -> Path:
    """Pieces of the prompts, with noise of this RMS."""
    folder.mkdir()
    rng = np.random.default_rng(round(1000 * noise))
    for path in sorted(SPEECH.glob("*.wav")):
        x, rate = soundfile.read(path)
        for k in range(0, len(x) - rate + 1, rate):
            part = x[k : k + rate] + noise * rng.standard_normal(rate)
            soundfile.write(folder / f"{path.stem}-{k}.wav", np.clip(part, -1, 1), rate)
    return folder


def test_the_whole_gate_measures_with_it(tmp_path: Path) -> None:
    """The distances see noise; another file of the same name is another encoder."""
    real, noisy = clips(tmp_path / "real", 0.0), clips(tmp_path / "noisy", 0.02)
    cache = FeatureCache(tmp_path / "cache")
    path = save(tmp_path / "net", vggish(), (1, 1, 96, 64), VGGISH)

    def gap() -> tuple[float, Any]:
        result = run_gate(
            real, noisy, policy=policy(f"onnx/{path}"), cache=cache, progress=False
        ).result
        (info,) = result.encoders
        (kid,) = [
            f for f in result.findings if (f.metric, f.modality, f.slice) == ("kid", "audio", "all")
        ]
        assert kid.encoder == info.id == "onnx/mine.onnx"
        assert kid.gap is not None
        assert kid.detected
        return kid.gap, info

    first, info = gap()
    assert first > 0.05
    assert info.preprocessing["input"]["bands"] == 64
    assert gap() == (first, info)
    save(tmp_path / "net", vggish(seed=1), (1, 1, 96, 64), VGGISH)
    other, changed = gap()
    assert changed.weights_sha256 != info.weights_sha256
    assert other != first


def test_another_description_is_another_encoder(tmp_path: Path) -> None:
    path = save(tmp_path, vggish(), (1, 1, 96, 64), VGGISH)
    spec, cache = f"onnx/{path}", FeatureCache(tmp_path / "cache")
    plain = load_audio_encoder(spec, cache=cache)
    assert plain.info.key == load_audio_encoder(spec).info.key
    path.with_suffix(".json").write_text(json.dumps({**VGGISH, "pooling": "mean_sd"}))
    both = load_audio_encoder(spec, cache=cache)
    assert (plain.info.dim, both.info.dim) == (32, 64)
    assert both.info.key != plain.info.key
    path.with_suffix(".json").write_text(json.dumps({**VGGISH, "licence": "MIT"}))
    assert load_audio_encoder(spec, cache=cache).info.key == plain.info.key


def test_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(2))
    net = nn.Sequential(net, nn.Flatten()).eval()
    said = {"modality": "image", "licence": "MIT", "size": [48, 64], "resize": 70}
    path = save(tmp_path, net, (1, 3, 48, 64), said)
    encoder = load_encoder(f"onnx/{path}")
    assert encoder.info.dim == 32
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    pictures = []
    for i in range(5):
        noise = rng.integers(0, 256, (9 + i, 8, 3), dtype=np.uint8)
        pictures.append(Image.fromarray(noise).resize((120, 90 + i), Image.Resampling.BICUBIC))
        pictures[-1].save(tmp_path / "set" / f"{i}.png")
    rows = encode(open_dataset(tmp_path / "set"), [f"onnx/{path}"]).features["onnx/mine.onnx"]
    for picture, row in zip(pictures, rows, strict=True):
        scale = 70 / min(picture.size)
        small = picture.resize(
            tuple(int(side * scale) for side in picture.size), Image.Resampling.BICUBIC
        )
        left, top = round((small.width - 64) / 2), round((small.height - 48) / 2)
        x = np.asarray(small.crop((left, top, left + 64, top + 48)), dtype=np.float32) / 255
        x = (x - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        with torch.no_grad():
            expected = net(torch.from_numpy(x.transpose(2, 0, 1)).float()[None])[0].numpy()
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"modality": "image"}, "modality"),
        ({"code": "x"}, "code"),
        ({"licence": None}, "licence"),
        ({"rate": "16000"}, "rate"),
        ({"input": {"kind": "pixels"}}, "input"),
        ({"input": {"kind": "waveform", "fft": 512}}, "fft"),
        ({"input": {**VGGISH["input"], "window": 513}}, "window must be at most fft"),  # type: ignore[dict-item]
        ({"input": {**VGGISH["input"], "hop": 60}}, "hop must be at least 80"),  # type: ignore[dict-item]
        ({"input": {**VGGISH["input"], "high": 9000}}, "at most half of rate"),  # type: ignore[dict-item]
        ({"hop_seconds": 2.0}, "would not be heard"),
        ({"output": "logits"}, r"names the output 'logits': the graph has \['embedding'\]"),
        ({"window_seconds": 0.5}, r"does not take an input of shape \(1, 1, 50, 64\)"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    path = save(tmp_path, vggish(), (1, 1, 96, 64), {**VGGISH, **change})
    with pytest.raises(ModelError, match=said):
        load_audio_encoder(f"onnx/{path}")


def test_files_that_do_not_fit_are_refused(tmp_path: Path, prompts: list[DecodedAudio]) -> None:
    wave = {"modality": "audio", "licence": "x", "rate": 16_000, "input": {"kind": "waveform"}}
    path = save(tmp_path, torch.nn.Identity(), (1, 1, 96, 64), wave)
    load: Callable[[], Any] = lambda: load_audio_encoder(f"onnx/{path}")  # noqa: E731
    path.with_suffix(".json").unlink()
    with pytest.raises(ModelError, match=r"mine\.json' is missing: it says what 'mine\.onnx'"):
        load()
    path.with_suffix(".json").write_text(" " * 70_000)
    with pytest.raises(ModelError, match="larger than 64 KiB"):
        load()
    with pytest.raises(ModelError, match=r"none\.onnx' cannot be read"):
        load_audio_encoder(f"onnx/{tmp_path / 'none.onnx'}")
    path.with_suffix(".json").write_text(json.dumps(wave))
    path.write_bytes(b"no graph")
    with pytest.raises(ModelError, match="does not load in onnxruntime"):
        load()
    value, node = onnx.helper.make_tensor_value_info, onnx.helper.make_node
    number, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

    def graph(nodes: list[Any], outputs: dict[str, int], kind: int = number) -> None:
        made = onnx.helper.make_graph(
            nodes, "g", [value("given", kind, [1, "n"])],
            [value(name, form, None) for name, form in outputs.items()],
        )  # fmt: skip
        model = onnx.helper.make_model(
            made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9
        )
        path.write_bytes(model.SerializeToString())

    graph(
        [node("Abs", ["given"], ["a"]), node("Neg", ["given"], ["b"])], {"a": number, "b": number}
    )
    with pytest.raises(ModelError, match=r"gives \['a', 'b'\]: name one as output"):
        load()
    graph([node("Abs", ["given"], ["a"])], {"a": whole}, whole)
    with pytest.raises(ModelError, match="one input of float32"):
        load()
    graph([node("Shape", ["given"], ["a"])], {"a": whole})
    with pytest.raises(ModelError, match="gave int64 of shape"):
        load()
    graph([node("Log", ["given"], ["a"])], {"a": number})  # of what is negative there is none
    with pytest.raises(ModelError, match="not finite"):
        load().embed(prompts[:1])
