"""What one pass through each encoder costs, on this CPU and on a GPU where there is one.

Each model is measured in a process of its own, so that its peak of memory is its own. Weights do
not change speed: where the published ones are not at hand, random ones of the same shapes stand in,
and the table says so. Each row is kept in the CSV at once.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ._machine import RESULTS, write

NAME = "performance/scale_models"
SECONDS = 8.0
"""So long are rounds of a model repeated; the fastest counts: other work only makes one longer."""
ROUNDS = 2
CLIP = 10
"""Seconds of a recording."""
ITEMS = {"image": 8, "audio": 4, "text": 64}
"""Samples of a round at least."""
CORES = 2
GPU_BATCHES = (16, 64, 256)
GPU_PASSES = (3, 10)
"""To begin with, and timed."""
PEAKS = {"fp32": 67.0, "tf32": 494.7}
"""Dense TFLOP/s of an H100 SXM by its data sheet, which counts TF32 with sparsity: 989.4."""
FEED = 200
"""Samples that are read and decoded."""

MODELS: dict[str, tuple[str, str]] = {
    "efficientnet_lite0": ("image", "published"),
    "inception_v3_fid": ("image", "random"),
    "timm/resnet50": ("image", "random"),
    "timm/vit_base_patch16_224": ("image", "random"),
    "open_clip/ViT-B-32": ("image", "random"),
    "timm/vit_base_patch14_dinov2": ("image", "random"),
    "logmel_stats": ("audio", "none"),
    "ge2e": ("audio", "published"),
    "whisper_base_encoder": ("audio", "published"),
    "dnsmos": ("audio", "published"),
    "minilm_l6": ("text", "published"),
    "char_ngrams": ("text", "none"),
}
"""What `load_encoder` and its like take: of which modality, and with which weights it ran here."""
FEEDS = ("grey PNG, 300 × 300", "colour JPEG, 500 × 375", f"WAV, {CLIP} s at 16 kHz")


@dataclass(frozen=True)
class Cost:
    """One model on the CPU, as evalsuite runs it."""

    model: str
    backend: str
    batch: int
    ms: float
    cpu_ms: float
    parameters: float | None
    gflop: float | None
    peak_mib: float
    load: float


@dataclass(frozen=True)
class Feed:
    """Milliseconds of one core for one sample, by step; the forward pass is not among them."""

    kind: str
    read: float
    decode: float
    describe: float
    prepare: float
    load: float

    @property
    def ms(self) -> float:
        return self.read + self.decode + self.describe + self.prepare


@dataclass(frozen=True)
class OnGpu:
    """One model on a GPU, in one precision and batch size; the input lies on the GPU already."""

    model: str
    device: str
    precision: str
    batch: int
    ms: float
    peak_mib: float


Row = TypeVar("Row", Cost, Feed, OnGpu)


# Models and what they are given -------------------------------------------------------------------


def random_weights(spec: str, folder: Path) -> Path:
    """Write weights of the right shapes."""
    import torch

    torch.manual_seed(0)
    family, _, name = spec.partition("/")
    if family == "inception_v3_fid":
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        class Blank(FeatureExtractorInceptionV3):  # type: ignore[misc]
            def load_state_dict(self, *args: Any) -> None: ...

        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        path = folder / "random.pth"
        torch.save(Blank("blank", ["2048"], empty).state_dict(), path)
        return path
    from safetensors.torch import save_file

    if family == "timm":
        import timm

        model = timm.create_model(name, pretrained=False)
    else:
        import open_clip

        model = open_clip.create_model(name, load_weights=False)
    path = folder / "random.safetensors"
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, path)
    return path


def loaded(spec: str, weights: str, device: str) -> Any:
    from evalsuite.encoders import (
        load_audio_encoder,
        load_encoder,
        load_scorer,
        load_text_encoder,
    )

    modality = MODELS[spec][0]
    if modality == "text":
        return load_text_encoder(spec, device=device)
    if modality == "audio":
        return load_scorer(spec) if spec == "dnsmos" else load_audio_encoder(spec)
    return load_encoder(spec, device=device, path=weights or None)


def given(modality: str, encoder: Any, count: int) -> Any:
    """Give real samples, ready for the encoder's forward pass."""
    if modality == "image":
        from PIL import Image

        from evalsuite.pipeline.demo import cells

        kept = []
        for path, _ in itertools.islice(cells(), count):
            with Image.open(path) as image:
                kept.append(np.array(encoder.prepare(image.convert("L"))))
        return np.stack(kept)
    if modality == "audio":
        from .speech import RATE, decoded, recordings

        speech = np.concatenate(recordings(short=False)["prompts, 1 to 5 s"])
        speech = np.resize(speech, (count + CLIP) * RATE)
        return [decoded(speech[k * RATE : (k + CLIP) * RATE]) for k in range(count)]
    from .gate_profile import texts

    with tempfile.TemporaryDirectory() as home:
        file = texts(count, Path(home))[0]
        return [json.loads(line)["text"] for line in file.read_text("utf-8").splitlines()]


def forward(modality: str, encoder: Any) -> Callable[[Any], object]:
    if modality == "image":
        return encoder.forward_all  # type: ignore[no-any-return]
    return encoder.score if hasattr(encoder, "score") else encoder.embed  # type: ignore[no-any-return]


# The CPU ------------------------------------------------------------------------------------------


def on_cpu(spec: str, weights: str) -> Cost:
    """Measure one model in this process; nothing else has run in it."""
    load = os.getloadavg()[0]
    modality = MODELS[spec][0]
    encoder = loaded(spec, weights, "cpu")
    batch = getattr(encoder, "batch_size", getattr(encoder, "_batch_size", 1))
    count = max(ITEMS[modality], batch * getattr(encoder, "parallel", 1))
    samples, work = given(modality, encoder, count), forward(modality, encoder)
    work(samples[: max(2, batch)])  # the model is loaded, threads are started
    found: list[tuple[float, float]] = []
    end = time.perf_counter() + SECONDS
    while len(found) < ROUNDS or time.perf_counter() < end:
        start, used = time.perf_counter(), time.process_time()
        work(samples)
        found.append((time.perf_counter() - start, time.process_time() - used))
    # Not ru_maxrss: that of the process that started this one counts there.
    peak = next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    parameters, gflop = counted(spec, encoder, samples)
    return Cost(
        model=spec,
        backend=encoder.info.backend.partition(",")[0],
        batch=batch,
        ms=round(1e3 * min(s for s, _ in found) / count, 4),
        cpu_ms=round(1e3 * min(c for _, c in found) / count, 4),
        parameters=parameters,
        gflop=gflop,
        peak_mib=round(peak, 0),
        load=round(load, 1),
    )


def counted(spec: str, encoder: Any, samples: Any) -> tuple[float | None, float | None]:
    """Give millions of parameters, and GFLOP (two for a multiplication and sum) of a sample."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    if spec == "dnsmos":
        import onnx

        from evalsuite.encoders.speech import WEIGHTS

        graphs = [
            onnx.load_from_string(WEIGHTS[n].read()).graph for n in ("dnsmos_p835", "dnsmos_p808")
        ]
        sizes = [np.prod(t.dims) for graph in graphs for t in graph.initializer]
        return round(float(sum(sizes)) / 1e6, 2), None
    if spec in ("whisper_base_encoder", "logmel_stats", "char_ngrams"):
        return None, None  # not in torch, or no network
    if spec == "efficientnet_lite0":  # its twin in torch, with the same layers
        from evalsuite.encoders import load_encoder

        encoder = load_encoder(spec, backend="torch", device="cpu")
        encoder.load()
    few = len(samples) if MODELS[spec][0] == "text" else 1
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # its one fused step is not counted
    try:
        with (
            FlopCounterMode(display=False) as counter,
            sdpa_kernel(SDPBackend.MATH),
            torch.backends.mkldnn.flags(enabled=spec != "ge2e"),  # likewise recurrent layers
            torch.inference_mode(),
        ):
            if MODELS[spec][0] == "image":
                encoder._apply(torch.from_numpy(samples[:1]).float())
            else:
                encoder.embed(samples[:few])
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return _parameters(spec, encoder), round(counter.get_total_flops() / few / 1e9, 3)


def _parameters(spec: str, encoder: Any) -> float:
    """Count what the forward pass uses, in millions: no classifier, no text tower."""
    import torch

    if spec == "minilm_l6":
        tensors = list(encoder._weights.values())
    elif spec == "ge2e":
        tensors = [*encoder._lstm.parameters(), *encoder._linear.parameters()]
    else:
        modules = [
            cell.cell_contents
            for cell in encoder._apply.__closure__ or ()
            if isinstance(cell.cell_contents, torch.nn.Module)
        ]
        module: Any = getattr(modules[0], "visual", modules[0])
        skipped = ("head.", "fc.", "classifier.")
        tensors = [p for n, p in module.named_parameters() if not n.startswith(skipped)]
        if spec == "inception_v3_fid" and not tensors:  # its parameters are buffers
            tensors = list(module.buffers())
    return round(sum(t.numel() for t in tensors if t.is_floating_point()) / 1e6, 2)


# Reading and decoding -----------------------------------------------------------------------------


def feeding(kind: str) -> Feed:
    """What one core does for a sample beside the forward pass, by the gate's own encode loop."""
    from evalsuite.data import open_dataset
    from evalsuite.encoders import encode, load_audio_encoder, load_encoder
    from evalsuite.encoders.encode_media import encode_media

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        _fill(kind, folder)
        data = open_dataset(folder)
        seen: list[dict[str, float]] = []
        for _ in range(2 * ROUNDS):
            if kind.startswith("WAV"):
                encoders = [load_audio_encoder("logmel_stats")]
                made = encode_media(data, "audio", encoders, progress=False, workers=1)
            else:
                image = [load_encoder("efficientnet_lite0")]
                made = encode(data, image, progress=False, workers=1)
            seen.append(made.timings)
    best = {step: 1e3 * min(t.get(step, 0.0) for t in seen) / len(data) for step in seen[0]}
    return Feed(
        kind,
        *(
            round(best.get(step, 0.0), 4) for step in ("read", "decode", "describe", "prepare")
        ),
        round(load, 1),
    )  # fmt: skip


def _fill(kind: str, folder: Path) -> None:
    from PIL import Image

    if kind.startswith("grey"):
        from evalsuite.pipeline.demo import cells, write_folder

        write_folder(cells()[:FEED], folder / "cells")
        return
    if kind.startswith("colour"):
        from skimage import data

        picture = Image.fromarray(data.coffee())  # 600 × 400
        for k in range(FEED):
            x, y = k % 100, k % 25
            part = picture.crop((x, y, x + 500, y + 375))
            part.save(folder / f"{k}.jpg", quality=90)
        return
    import soundfile

    from .speech import RATE

    for k, item in enumerate(given("audio", None, FEED)):
        soundfile.write(folder / f"{k}.wav", item.samples, RATE, subtype="PCM_16")


# A GPU --------------------------------------------------------------------------------------------


def on_gpu(spec: str, weights: str, device: str = "cuda") -> list[OnGpu]:
    """Measure the forward pass alone, its input on the device; empty where torch does not run it.

    As evalsuite runs it (float32, TF32 off), and as it would run with bfloat16 autocast, which it
    does not offer: the features would be others.
    """
    import torch

    if MODELS[spec][0] != "image":
        return []
    backend = {"backend": "torch"} if spec == "efficientnet_lite0" else {}
    from evalsuite.encoders import load_encoder

    encoder: Any = load_encoder(spec, device=device, path=weights or None, **backend)  # type: ignore[arg-type]
    encoder.load()
    cuda = device.startswith("cuda")
    name = torch.cuda.get_device_name(device) if cuda else device
    prepared = given("image", encoder, 4)
    rows = []
    for precision, size in itertools.product(("fp32", "bf16"), GPU_BATCHES):
        x = torch.from_numpy(np.resize(prepared, (size, *prepared.shape[1:]))).to(device)
        x = x.float().div(255).contiguous(memory_format=torch.channels_last)
        cast = torch.autocast(device.partition(":")[0], torch.bfloat16)
        found: list[float] = []
        if cuda:
            torch.cuda.reset_peak_memory_stats(device)
        with torch.inference_mode(), cast if precision == "bf16" else nullcontext():
            for k in range(sum(GPU_PASSES)):
                if cuda:
                    torch.cuda.synchronize()
                start = time.perf_counter()
                encoder._apply(x)
                if cuda:
                    torch.cuda.synchronize()
                if k >= GPU_PASSES[0]:  # kernels are chosen and memory is taken in the first passes
                    found.append(time.perf_counter() - start)
        peak = torch.cuda.max_memory_allocated(device) / 2**20 if cuda else 0.0
        ms = round(1e3 * float(np.median(found)) / size, 5)
        rows.append(OnGpu(spec, name, precision, size, ms, round(peak, 0)))
    return rows


# All of it ----------------------------------------------------------------------------------------


def stored(kind: type[Row], name: str) -> list[Row]:
    path = RESULTS / f"{name}.csv"
    if not path.exists():
        return []
    numbers = {f.name: "float" in str(f.type) or f.type == "int" for f in fields(kind)}

    def value(key: str, text: str) -> Any:
        if not numbers[key]:
            return text
        return None if text == "" else int(text) if key == "batch" else float(text)

    with path.open(encoding="utf-8", newline="") as file:
        return [kind(**{k: value(k, v) for k, v in row.items()}) for row in csv.DictReader(file)]


def keep(rows: list[Row], name: str) -> None:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    write(f"{name}.csv", out.getvalue())


@contextmanager
def weights_of(spec: str) -> Iterator[str]:
    if MODELS[spec][1] != "random":
        yield ""
        return
    with tempfile.TemporaryDirectory() as folder:
        _asked("weights", spec, folder)
        yield str(next(Path(folder).iterdir()))


def _asked(*words: str) -> Any:
    """Run one measurement in a process of its own, with both cores' threads."""
    env = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks._models", *words],
        env={**env, "OMP_WAIT_POLICY": "PASSIVE"},
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measure() -> None:
    """Measure what is not in the CSV files yet."""
    import torch

    costs, feeds = stored(Cost, NAME), stored(Feed, f"{NAME}_feed")
    gpu = stored(OnGpu, f"{NAME}_gpu")
    for spec in MODELS:
        need_cpu = spec not in {c.model for c in costs}
        need_gpu = torch.cuda.is_available() and spec not in {g.model for g in gpu}
        if not (need_cpu or need_gpu):
            continue
        with weights_of(spec) as weights:
            if need_cpu:
                costs.append(Cost(**_asked("cpu", spec, weights)))
                costs.sort(key=lambda c: list(MODELS).index(c.model))
                keep(costs, NAME)
            if need_gpu and (made := _asked("gpu", spec, weights)):
                gpu += [OnGpu(**row) for row in made]
                keep(gpu, f"{NAME}_gpu")
    for kind in FEEDS:
        if kind not in {f.kind for f in feeds}:
            feeds.append(Feed(**_asked("feed", kind)))
            keep(feeds, f"{NAME}_feed")


# The page -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Models:
    """Everything that was measured."""

    costs: list[Cost]
    feeds: list[Feed]
    gpu: list[OnGpu]

    @classmethod
    def stored(cls) -> Models:
        return cls(
            stored(Cost, NAME), stored(Feed, f"{NAME}_feed"), stored(OnGpu, f"{NAME}_gpu")
        )  # fmt: skip

    def seconds(self, spec: str) -> float:
        """Of a sample on the CPU, by the clock, were both cores wholly its own."""
        return next(c.cpu_ms for c in self.costs if c.model == spec) / CORES / 1e3


def duration(seconds: float) -> str:
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"


def section(models: Models) -> list[str]:
    """Give the page's part on models."""
    lines = [
        "## A million samples, by model",
        "",
        f"The forward pass as evalsuite runs it: its own encoder, batch and threads, on real "
        f"samples that are ready in memory (photographs of solar cells, {CLIP} s of speech, "
        "sentences of documentation; for models of sound and text their spectra and tokens are "
        "made, too). A process for each model; the fastest of at least "
        f"{ROUNDS} rounds in {SECONDS:.0f} s. CPU time is of both cores together; the hours are "
        "from it, as if both were wholly the encoder's (they were not: the clock also counts the "
        "other work on the machine). GFLOP by "
        "`torch.utils.flop_counter` of one sample, a multiplication and an addition counted as "
        "two; – where no torch runs the model. Parameters are those that the pass uses. Memory is "
        "the process's peak, with Python and its libraries. Weights do not change speed: where "
        "the published ones are not at hand, random ones of the same shapes ran. DINOv2 runs at "
        "its own 518 × 518 pixels: evalsuite offers no other size. `char_ngrams` has one thread: "
        "alone it takes twice as long.",
        "",
        "| encoder | weights | runs in | batch | clock, ms | CPU ms | a million, two cores | "
        "parameters, M | GFLOP | peak memory, MiB | load |",
        "|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    lines += [
        f"| `{c.model}` | {MODELS[c.model][1]} | {c.backend} | {c.batch} | {_short(c.ms)} | "
        f"{_short(c.cpu_ms)} | {duration(1e6 * models.seconds(c.model))} | "
        f"{_short(c.parameters)} | {_short(c.gflop)} | {c.peak_mib:,.0f} | {c.load:.0f} |"
        for c in models.costs
    ]
    missing = [f"`{name}`" for name in MODELS if name not in {c.model for c in models.costs}]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    lines += [
        "",
        "Beside the forward pass, by the gate's own loop in one thread; `describe` is attributes "
        "and thumbnail, `prepare` resizing to the model's input (of sound: within the encoder):",
        "",
        "| sample | read, ms | decode, ms | describe, ms | prepare, ms | together | a million, one "
        "core |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {f.kind} | {f.read:.2f} | {f.decode:.2f} | {f.describe:.2f} | {f.prepare:.2f} | "
            f"{f.ms:.2f} | {duration(1e3 * f.ms)} |"
            for f in models.feeds
        ),
        "",
        "### On a GPU",
        "",
    ]
    if models.gpu:
        lines += [
            f"Measured on {models.gpu[0].device}, the forward pass alone, its input on the GPU. "
            "evalsuite runs float32 with TF32 off; bfloat16 (autocast) gives other features, and "
            "it does not offer it.",
            "",
            "| encoder | precision | batch | ms a sample | a million | peak memory, MiB |",
            "|---|---|--:|--:|--:|--:|",
            *(
                f"| `{g.model}` | {g.precision} | {g.batch} | {g.ms:.3f} | "
                f"{duration(1e3 * g.ms)} | {g.peak_mib:,.0f} |"
                for g in models.gpu
            ),
        ]
    else:
        lines.append(
            "**Not measured**: this machine has no GPU. `python -m benchmarks scale` measures the "
            "models of images on one (float32 as evalsuite runs them, and bfloat16) and writes "
            "scale_models_gpu.csv."
        )
    lines += [
        "",
        "**A bound on paper, not a measurement**: GFLOP of a sample, divided by the dense peak of "
        f"an NVIDIA H100 SXM: {PEAKS['fp32']:g} TFLOP/s in float32, which is what evalsuite uses, "
        f"and {PEAKS['tf32']:g} in TF32, which it leaves off (NVIDIA H100 Tensor Core GPU "
        "datasheet; its 989.4 TFLOP/s of TF32 are with sparsity). Real throughput is a fraction of "
        "it, a small one for networks of thin layers such as `efficientnet_lite0`, whose time goes "
        "into memory; a convolution by Winograd's method multiplies less than is counted. The last "
        "column is what must not be forgotten: so many cores like these must read, decode and "
        "describe to feed one GPU at that bound.",
        "",
        "| encoder | float32: samples/s at most | a million, at least | TF32: a million, at least "
        "| cores that feed it |",
        "|---|--:|--:|--:|--:|",
    ]
    feed = {f.kind: f.ms for f in models.feeds}
    kind = FEEDS[1]
    for c in models.costs:
        if MODELS[c.model][0] != "image" or c.gflop is None:
            continue
        rate = PEAKS["fp32"] * 1e3 / c.gflop
        cores = f"{rate * feed[kind] / 1e3:,.0f}" if kind in feed else "–"
        lines.append(
            f"| `{c.model}` | {rate:,.0f} | {duration(1e6 / rate)} | "
            f"{duration(1e3 * c.gflop / PEAKS['tf32'])} | {cores} |"
        )
    if kind in feed:
        lines += [
            "",
            f"Decoding ({kind}) is {feed[kind]:.1f} ms a core: {1e3 / feed[kind]:,.0f} images/s a "
            f"core, {duration(1e3 * feed[kind])} for a million. With 16 cores beside one GPU it "
            f"ends at {16e3 / feed[kind]:,.0f} images/s, whatever the GPU; every encoder whose "
            "bound lies above that waits for the CPU. Ray's workers (docs/scale.md) bring more "
            "cores.",
        ]
    return [*lines, ""]


def _short(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    task, what, *rest = sys.argv[1:]
    if task == "weights":
        random_weights(what, Path(rest[0]))
        print(json.dumps("written"))
    elif task == "cpu":
        print(json.dumps(asdict(on_cpu(what, rest[0]))))
    elif task == "gpu":
        print(json.dumps([asdict(row) for row in on_gpu(what, rest[0], *rest[1:])]))
    else:
        print(json.dumps(asdict(feeding(what))))
