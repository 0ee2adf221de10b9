"""How long a whole gate takes beside its encoders' bare forward passes, and beside what peers run.

In one run, on the same files: (1) the forward passes alone, before and after the gate: everything
that reaches a network in a part of the set is recorded, then run again from memory, one pass a core
at a time; (2) ``evalsuite gate`` as a process, with an empty cache, start-up, reading, decoding,
statistics and report included; (3) the same command again, from the cache; (4) on fewer images,
torch-fidelity and torchmetrics with the same model on the same files, each as a process; (5) the
same with FID's Inception, by torch-fidelity's own command.

Processors' time is given beside the clock: other work on the machine lengthens the one less.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image, ImageOps

from evalsuite.data import open_dataset
from evalsuite.encoders.base import cpu_count
from evalsuite.gate.policy import load_policy
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.pipeline.engines import open_engine
from evalsuite.pipeline.plan import make_plan

from ._machine import RESULTS, machine, write

SIZES = {"image": 5_000, "audio": 1_000, "text": 25_000, "inception": 500}
"""Samples a side; ``inception`` are images too, by a network of the size that people use."""
SAMPLE = {"image": 1_000, "audio": 120, "text": 4_000, "inception": 100}
"""Samples of the real side whose forward passes are run bare, twice; scaled to both sides."""
PEERS = 1_000
"""Images a side where peers run the model in PyTorch."""
UNITS = {
    "image": "images",
    "audio": "utterances",
    "text": "texts",
    "inception": "images by FID's Inception",
}
GOAL = 1.15
LIBRARIES = (
    "scipy", "sklearn", "pandas", "numpy", "torch", "transformers", "plotly", "matplotlib", "PIL",
    "jinja2", "networkx", "sympy", "skimage", "torchvision", "torchmetrics",
)  # fmt: skip
"""Installed libraries whose documentation gives the texts, as far as needed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one process, its children included."""

    what: str
    modality: str
    n: int
    seconds: float
    processor_s: float
    peak_mib: float


# Sets ---------------------------------------------------------------------------------------------


def images(n: int, home: Path) -> list[Path]:
    """Photographs of solar cells: as they are, mirrored, upside down, and both."""
    turned: tuple[Callable[[Image.Image], Image.Image], ...] = (
        lambda x: x, ImageOps.mirror, ImageOps.flip, lambda x: ImageOps.mirror(ImageOps.flip(x)),
    )  # fmt: skip
    every = list(product(cells(), turned))
    order = np.random.default_rng(0).permutation(len(every))[: 2 * n]
    folders = []
    for name, rows in (("real", order[:n]), ("synthetic", order[n:])):
        folder = home / name
        folder.mkdir()
        lines = []
        for i in rows:
            (path, kind), turn = every[i]
            file = f"{i}.png"
            with Image.open(path) as image:
                turn(image.convert("L")).save(folder / file, compress_level=6)
            lines.append(json.dumps({"file_name": file, "label": kind}))
        (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
        folders.append(folder)
    return folders


def utterances(n: int, home: Path) -> list[Path]:
    """Prompts of one speaker, at their own speed and at others."""
    import soundfile
    import soxr

    from .speech_study import SOUNDS

    every = list(product(sorted(SOUNDS.rglob("*.wav")), (1.0, 0.94, 1.06, 0.88, 1.12)))
    order = iter(np.random.default_rng(0).permutation(len(every)))
    folders = []
    for name in ("real", "synthetic"):
        folder = home / name
        folder.mkdir()
        made = 0
        while made < n:
            path, speed = every[next(order)]
            x, rate = soundfile.read(path, dtype="float32")
            if not (x**2).mean() > 1e-6:  # silence is no utterance
                continue
            y = soxr.resample(x, rate * speed, rate) if speed != 1.0 else x
            soundfile.write(folder / f"{made}.wav", y, rate, subtype="PCM_16")
            made += 1
        folders.append(folder)
    return folders


def texts(n: int, home: Path) -> list[Path]:
    """Sentences of the documentation of installed libraries, each once."""
    from importlib.util import find_spec

    found: dict[str, None] = {}
    for library in LIBRARIES:
        spec = find_spec(library)
        if spec is None or spec.origin is None or len(found) >= 4 * n:
            continue
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            for quoted in re.findall(r'"""(.*?)"""', path.read_text("utf-8", "replace"), re.DOTALL):
                for line in re.split(r"(?<=\.)\s+", " ".join(quoted.split())):
                    if re.fullmatch(r"[A-Z][A-Za-z0-9 ,;:'()`_-]{20,220}\.", line):
                        found[line] = None
    every = list(found)
    if len(every) < 2 * n:
        raise RuntimeError(f"{len(every)} sentences are installed, {2 * n} are needed")
    order = np.random.default_rng(0).permutation(len(every))[: 2 * n]
    files = []
    for name, rows in (("real", order[:n]), ("synthetic", order[n:])):
        file = home / f"{name}.jsonl"
        file.write_text("".join(json.dumps({"text": every[i]}) + "\n" for i in rows), "utf-8")
        files.append(file)
    return files


MADE = {"image": images, "audio": utterances, "text": texts, "inception": images}


# Bare forward passes ------------------------------------------------------------------------------


def recorded(
    modality: str, path: Path, n: int, policy: str | None = None
) -> list[Callable[[], object]]:
    """Encode the first n samples as the gate does, and keep every call that reaches a network."""
    import onnxruntime

    from evalsuite.encoders import image, speech, text

    calls: list[Callable[[], object]] = []
    run = onnxruntime.InferenceSession.run
    pass_of_text = text._MiniLM._forward
    pass_of_torch = image.TorchEncoder._forward

    def onnx_run(self: Any, names: Any, feed: dict[str, Any], *rest: Any) -> Any:
        kept = {k: np.array(v) for k, v in feed.items()}  # the encode loop reuses its buffers
        calls.append(lambda: run(self, names, kept, *rest))
        return run(self, names, feed, *rest)

    def text_pass(self: Any, rows: list[list[int]], length: int) -> Any:
        calls.append(lambda: pass_of_text(self, rows, length))
        return pass_of_text(self, rows, length)

    def torch_pass(self: Any, batch: Any) -> Any:
        kept = np.array(batch)
        calls.append(lambda: pass_of_torch(self, kept))
        return pass_of_torch(self, batch)

    class Whisper:
        """Passes on, and keeps, what is asked of CTranslate2's model."""

        def __init__(self, model: Any) -> None:
            self._model = model

        def encode(self, mel: Any, *, to_cpu: bool) -> Any:
            calls.append(lambda: self._model.encode(mel, to_cpu=to_cpu))
            return self._model.encode(mel, to_cpu=to_cpu)

    load = speech._WhisperEncoder._load

    def whisper_load(self: Any) -> None:
        load(self)
        self._model = Whisper(self._model)

    dataset = open_dataset(path)
    part = dataset.part(dataset.located(dataset.samples[:n]))
    with ExitStack() as stack:
        for owner, name, new in (
            (onnxruntime.InferenceSession, "run", onnx_run),
            (text._MiniLM, "_forward", text_pass),
            (image.TorchEncoder, "_forward", torch_pass),
            (speech._WhisperEncoder, "_load", whisper_load),
        ):
            stack.enter_context(mock.patch.object(owner, name, new))
        both = {"real": part, "synthetic": part}
        plan = make_plan(load_policy(policy), both, device="cpu", allow_download=False, cache=None)
        crew = stack.enter_context(open_engine("local"))
        crew.encode(plan, modality, part, "real", cache=None, progress=False)
    return calls


def bare(modality: str, path: Path, n: int, policy: str | None = None) -> dict[str, float]:
    """Seconds of the recorded passes, run again with nothing between them."""
    calls = recorded(modality, path, n, policy)
    with ThreadPoolExecutor(cpu_count()) as pool:
        list(pool.map(lambda call: call(), calls[:8]))
        begin, used = time.perf_counter(), time.process_time()
        list(pool.map(lambda call: call(), calls))
        return {
            "seconds": time.perf_counter() - begin,
            "processor_s": time.process_time() - used,
            "calls": len(calls),
        }


# Peers --------------------------------------------------------------------------------------------


def peer_inception(real: Path, synthetic: Path, weights: Path) -> None:
    """Give torchmetrics' FID by its own Inception."""
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    metric = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(weights))
    for folder, is_real in ((real, True), (synthetic, False)):
        files = sorted(folder.glob("*.png"))
        for start in range(0, len(files), 32):
            batch = []
            for file in files[start : start + 32]:
                with Image.open(file) as image:
                    batch.append(np.array(image.convert("RGB")).transpose(2, 0, 1))
            metric.update(torch.from_numpy(np.stack(batch)), real=is_real)
    print(float(metric.compute()))


def peer(name: str, real: Path, synthetic: Path) -> None:
    """Run a peer's FID (and KID, precision, recall where it has them) with the same model."""
    import timm
    import torch
    from torch.utils.data import DataLoader, Dataset

    from evalsuite.encoders import lite0, load_encoder

    prepare = load_encoder("efficientnet_lite0", backend="torch").prepare
    model = timm.create_model(lite0.ARCHITECTURE, pretrained=False)
    model.load_state_dict(lite0.to_timm(lite0.read_weights(_wheel_file()), model.state_dict()))
    model.reset_classifier(0)
    model.eval().to(memory_format=torch.channels_last)

    class Folder(Dataset[Any]):
        def __init__(self, folder: Path) -> None:
            self.files = sorted(folder.glob("*.png"))

        def __len__(self) -> int:
            return len(self.files)

        def __getitem__(self, i: int) -> torch.Tensor:
            with Image.open(self.files[i]) as image:
                return torch.from_numpy(np.array(prepare(image.convert("L"))))

    def features(x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            scaled = (x.float() / 255 - 0.5) / 0.5
            out: torch.Tensor = model(scaled.contiguous(memory_format=torch.channels_last))
            return out

    if name == "torchmetrics":
        from torchmetrics.image.fid import FrechetInceptionDistance

        class Features(torch.nn.Module):
            num_features = lite0.DIM

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return features(x)

        metric = FrechetInceptionDistance(feature=Features(), normalize=False)
        for folder, is_real in ((real, True), (synthetic, False)):
            for batch in DataLoader(Folder(folder), batch_size=32):
                metric.update(batch, real=is_real)
        print(float(metric.compute()))
        return
    from torch_fidelity import calculate_metrics, register_feature_extractor
    from torch_fidelity.feature_extractor_base import FeatureExtractorBase

    class Extractor(FeatureExtractorBase):  # type: ignore[misc]
        def __init__(self, name: str, features_list: list[str], **_: Any) -> None:
            super().__init__(name, features_list)

        @staticmethod
        def get_provided_features_list() -> tuple[str, ...]:
            return ("pool",)

        @staticmethod
        def get_default_feature_layer_for_metric(metric: str) -> str:  # noqa: ARG004
            return "pool"

        @staticmethod
        def can_be_compiled() -> bool:
            return False

        @staticmethod
        def get_dummy_input_for_compile() -> torch.Tensor:
            return torch.zeros(1, 3, 224, 224, dtype=torch.uint8)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return (features(x),)

    register_feature_extractor("lite0", Extractor)
    made = calculate_metrics(
        input1=Folder(real), input2=Folder(synthetic), feature_extractor="lite0",
        feature_layer_fid="pool", feature_layer_kid="pool", feature_layer_prc="pool",
        fid=True, kid=True, prc=True, cuda=False, batch_size=32, cache=False, verbose=False,
        kid_subset_size=min(1000, PEERS),
    )  # fmt: skip
    print(json.dumps({k: float(v) for k, v in made.items()}))


def _wheel_file() -> Path:
    from importlib.metadata import distribution

    from evalsuite.encoders import lite0

    return Path(str(distribution(lite0.PACKAGE).locate_file(lite0.FILE)))


# The run ------------------------------------------------------------------------------------------


def process(what: str, modality: str, n: int, command: Sequence[str], **env: str) -> Cost:
    """Run a command; of the gate 0, 1 and 4 are verdicts, any other exit code is an error."""
    good = (0, 1, 4) if command[0] == "evalsuite.cli" else (0,)
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(
            [sys.executable, "-m", *command], env={**os.environ, **env}, stdout=said, stderr=said
        )
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.perf_counter() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode not in good:
            said.seek(0)
            raise RuntimeError(f"{what}: {said.read().decode(errors='replace')[-2000:]}")
    return Cost(what, modality, n, seconds, used.ru_utime + used.ru_stime, _mib(used))


def _mib(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / 1024


def bare_process(modality: str, path: Path, n: int, *policy: str) -> dict[str, float]:
    said = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.gate_profile", "bare"),
            *(modality, str(path), str(n), *policy),
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if said.returncode:
        raise RuntimeError(f"bare passes of {modality}: {said.stderr[-2000:]}")
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def one(part: str, n: int, sample: int, home: Path) -> tuple[list[Cost], dict[str, float]]:
    """Measure one part; also what the gate says of where its time went."""
    home.mkdir()
    modality = "image" if part == "inception" else part
    made = MADE[part](n, home)
    command = ["evalsuite.cli", "gate", *map(str, made), "--out", str(home / "out")]
    weights = inception(home) if part == "inception" else None
    policy: list[str] = []
    if weights is not None:
        file = home / "policy.yaml"
        settings = load_policy(None).model_dump(mode="json")
        settings["encoders"]["image"] = [f"inception_v3_fid@{weights}"]
        file.write_text(json.dumps(settings), "utf-8")  # JSON is YAML too
        policy = [str(file)]
        command += ["--policy", *policy]
    # The model's graph, written once on a machine, is kept; features and results are not.
    warm, cache = home / "warm", home / "cache"
    few = MADE[part](100, _new(home / "few"))
    process("warm", modality, 100, [*command[:2], *map(str, few), "--out", str(home / "warm_out"),
            *command[6:]], EVALSUITE_CACHE=str(warm))  # fmt: skip
    graph = Path("v1", "memo", "onnx")
    if (warm / graph).exists():
        shutil.copytree(warm / graph, cache / graph)
    before = bare_process(modality, made[0], sample, *policy)
    gate = process("gate", modality, 2 * n, command, EVALSUITE_CACHE=str(cache))
    where = json.loads((home / "out" / "result.json").read_text("utf-8"))["times"]["seconds"]
    again = process("gate from the cache", modality, 2 * n, command, EVALSUITE_CACHE=str(cache))
    after = bare_process(modality, made[0], sample, *policy)
    scale = 2 * n / sample
    costs = [
        Cost("bare forward passes", modality, 2 * n,
             scale * statistics.mean((before["seconds"], after["seconds"])),
             scale * statistics.mean((before["processor_s"], after["processor_s"])), 0.0),
        gate,
        again,
    ]  # fmt: skip
    if weights is not None:
        costs += fidelity(made, weights, home)
    for cost in costs:
        print(f"{part}: {cost.what} {cost.seconds:.1f} s, {cost.processor_s:.1f} s", flush=True)
    return costs, where


def inception(home: Path) -> Path:
    """Write FID's Inception with random weights: the published ones take as long."""
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Blank(FeatureExtractorInceptionV3):  # type: ignore[misc]
        def load_state_dict(self, *_: Any, **__: Any) -> None: ...

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    torch.manual_seed(0)
    path = home / "inception.pth"
    torch.save(Blank("blank", ["2048"], nothing).state_dict(), path)
    return path


def fidelity(folders: Sequence[Path], weights: Path, home: Path) -> list[Cost]:
    """Run torch-fidelity's own command, and torchmetrics with its own Inception; each twice."""
    n = sum(1 for folder in folders for _ in folder.glob("*.png"))
    paths = list(map(str, folders))
    theirs = [
        *("torch_fidelity.fidelity", "--cpu", "--fid", "--kid", "--silent"),
        *("--kid-subset-size", str(n // 4), "--samples-find-ext", "png", "--batch-size", "32"),
        *("--feature-extractor-weights-path", str(weights), "--cache-root", str(home / "theirs")),
        *("--input1", paths[0], "--input2", paths[1]),
        *("--input1-cache-name", "real", "--input2-cache-name", "synthetic"),
    ]
    torchmetrics = ["benchmarks.gate_profile", "peer", "inception", *paths, str(weights)]
    return [
        process("`fidelity --fid --kid`", "image", n, theirs),
        process("the same from its cache", "image", n, theirs),
        process("torchmetrics' FID", "image", n, torchmetrics),
    ]


def _new(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def beside_peers(n: int, home: Path) -> list[Cost]:
    """The same photographs through the gate and through peers, one after the other."""
    home.mkdir()
    order = np.random.default_rng(1).permutation(len(cells()))
    photographs = [cells()[i] for i in order]
    n = min(n, len(photographs) // 2)
    made = [
        write_folder(photographs[a : a + n], home / name)
        for a, name in ((0, "real"), (n, "synthetic"))
    ]
    paths = list(map(str, made))
    costs = [process("start of Python and the command", "image", 0, ["evalsuite.cli", "--version"])]
    gate = ["evalsuite.cli", "gate", *paths, "--out", str(home / "out")]
    costs.append(process("evalsuite gate", "image", 2 * n, gate, EVALSUITE_CACHE=str(home / "c")))
    costs += [
        process(name, "image", 2 * n, ["benchmarks.gate_profile", "peer", name, *paths])
        for name in ("torchmetrics", "torch-fidelity")
    ]
    for cost in costs:
        print(f"{cost.what}: {cost.seconds:.1f} s, {cost.processor_s:.1f} s", flush=True)
    return costs


def page(told: dict[str, Any]) -> str:
    """Write what was measured: a part's costs, where its time went, and the load as it began."""
    lines = [
        "# A whole gate beside its encoders",
        "",
        "The gate is timed as a process, with an empty cache and the default policy: start of "
        "Python, reading, decoding, forward passes, attributes, calibration, report. The bare "
        "forward passes are the calls of the same run that reach a network (of some samples, "
        "scaled), run again from memory, one a core at a time, before and after the gate: no "
        "reading, decoding, resizing, spectra, tokens. Processors' time counts all cores, and "
        "suffers less from other work on the machine. Load: busy processes as the part began.",
        "",
        "| set | bare forward passes, s | gate, s | ratio | ratio of processors' time | at most "
        f"{GOAL} | from the cache, s | peak memory, MiB | load |",
        "|---|--:|--:|--:|--:|---|--:|--:|--:|",
    ]
    measured = {k: [Cost(**c) for c in told[k]["costs"]] for k in told}
    for modality in (k for k in SIZES if k in told):
        alone, gate, again = measured[modality][:3]
        ratio = gate.processor_s / alone.processor_s
        clock = gate.seconds / alone.seconds
        lines.append(
            f"| {gate.n:,} {UNITS[modality]} | {alone.seconds:.1f} | {gate.seconds:.1f} | "
            f"{clock:.2f} | {ratio:.2f} | {'yes' if clock <= GOAL else '**no**'} | "
            f"{again.seconds:.1f} | {gate.peak_mib:,.0f} | {told[modality]['load']:.1f} |"
        )
    lines += [
        "",
        "Images by EfficientNet-Lite0 cannot meet the goal on the cores that also read, decode and "
        "resize: that takes 2.7 ms of a core for such a picture, and the pass 9.0 ms "
        "([scale.md](scale.md)), where the goal leaves 15 %.",
    ]
    missing = [UNITS[k] for k in SIZES if k not in told]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    lines += ["", "Where the gate spent its time, in seconds by the clock:", ""]
    for modality in (k for k in SIZES if k in told):
        gate, seconds = measured[modality][1], told[modality]["where"]
        spent = sorted(
            ((k, v) for k, v in seconds.items() if k != "total" and v >= 0.05),
            key=lambda kv: -kv[1],
        )
        said = ", ".join(f"{k} {v:.1f}" for k, v in spent)
        rest = gate.seconds - seconds["total"]
        lines.append(f"- {gate.n:,} {UNITS[modality]}: {said}; start, report and files {rest:.1f}.")
    head = [
        "| command | images | s | processors' time, s | peak memory, MiB |",
        "|---|--:|--:|--:|--:|",
    ]
    if "peers" in told:
        lines += [
            "",
            "## Beside peers",
            "",
            "The same files, each command a process of its own, one after the other. Peers run the "
            "same model in PyTorch (channels_last, batches of 32, the same preparation), which is "
            "how they run any model: torchmetrics gives one FID; torch-fidelity FID, KID and "
            "precision and recall; the gate all of these with floors, intervals and p-values, and "
            "the report.",
            "",
            *head,
            *map(_row, measured["peers"]),
        ]
    if "inception" in told:
        lines += [
            "",
            "With FID's own Inception (random weights: they do not change the time), by "
            "torch-fidelity's own command (its precision and recall would need VGG-16 besides) and "
            "torchmetrics' own class:",
            "",
            *head,
            *map(_row, measured["inception"]),
        ]
    lines += [
        "",
        f"Made by `python -m benchmarks gate_profile` on {machine()}; all figures in "
        "[profile.json](profile.json).",
        "",
    ]
    return "\n".join(lines)


def _row(c: Cost) -> str:
    peak = f"{c.peak_mib:,.0f}" if c.peak_mib else "–"
    return f"| {c.what} | {c.n:,} | {c.seconds:.1f} | {c.processor_s:.1f} | {peak} |"


def main() -> None:
    """Measure all, or what ``SETS=peers,image,audio,text,inception`` names; write the page."""
    kept = RESULTS / "performance" / "profile.json"
    told: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    for part in os.environ.get("SETS", ",".join(("peers", *SIZES))).split(","):
        load = os.getloadavg()[0]
        where: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as tmp:
            home = Path(tmp, part)
            if part == "peers":
                costs = beside_peers(PEERS, home)
            else:
                costs, where = one(part, SIZES[part], SAMPLE[part], home)
        told[part] = {"costs": list(map(asdict, costs)), "where": where, "load": load}
        write("performance/profile.json", json.dumps(told, indent=1) + "\n")
        write("performance/profile.md", page(told))


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "bare":
        print(json.dumps(bare(rest[0], Path(rest[1]), int(rest[2]), *rest[3:])))
    elif rest[0] == "inception":
        peer_inception(*map(Path, rest[1:]))
    else:
        peer(rest[0], Path(rest[1]), Path(rest[2]))
