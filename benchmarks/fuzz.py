"""Every reader of what others wrote, fed with damage: only our own errors may come out.

``python -m benchmarks.fuzz --seconds 300`` shares the time among the readers; with ``--only`` some
are run anew, and the others stay as they are in results/robustness/fuzz.json. Atheris (libFuzzer)
mutates real files and follows the coverage of evalsuite's own code; documents are also mutated as
trees, so that most stay JSON. Writes results/robustness/fuzz.md.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import socketserver
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import wave
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ._machine import RESULTS, machine, write

Target = Callable[[bytes], None]
ROOT = Path(__file__).parents[1]
MAX_LEN = 20_000
SLOW = 5.0  # seconds for one input of at most MAX_LEN bytes: slower ones are listed
ODD = (
    None, True, 0, -1, 10**300, 1e308, "", " ", "\x00", "\ud800", "=1+1", "*x", "../..", "a" * 3000,
    [], {}, [[]], {"": {}}, "2025-01-01", "!!python/object:os.system", "NaN", 0.5, 3, "image",
    "HUGE",
)  # fmt: skip


# ---- readers: each takes bytes, and may raise only what it is said to raise ---------------------


def _scratch() -> Path:
    return Path(tempfile.mkdtemp(prefix="fuzz-"))


def _image() -> tuple[Target, list[bytes]]:
    from evalsuite.data import BadSample, decode_image

    def one(data: bytes) -> None:
        with contextlib.suppress(BadSample):
            decode_image(data)

    from PIL import Image

    seeds = []
    picture = Image.linear_gradient("L").resize((24, 17))
    for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"):
        for mode in ("L", "RGB"):
            file = io.BytesIO()
            picture.convert(mode).save(file, form)
            seeds.append(file.getvalue())
    return one, seeds


def _audio() -> tuple[Target, list[bytes]]:
    import numpy as np
    import soundfile

    from evalsuite.data import BadSample, Limits, decode_audio

    limits = Limits(max_seconds=2.0)

    def one(data: bytes) -> None:
        with contextlib.suppress(BadSample):
            decode_audio(data, limits)

    tone = 0.3 * np.sin(np.arange(2000) / 9)
    seeds = []
    for form in ("WAV", "FLAC", "OGG", "AIFF", "AU", "MP3", "RF64", "W64", "CAF"):
        file = io.BytesIO()
        soundfile.write(file, tone, 8000, format=form)
        seeds.append(file.getvalue()[:MAX_LEN])
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(2), out.setsampwidth(1), out.setframerate(44_100)
        out.writeframes(bytes(range(256)))
    return one, [*seeds, file.getvalue()]


def _opened(name: str, seeds: list[bytes]) -> tuple[Target, list[bytes]]:
    """Open a data set whose one file is the input, and read what is in it."""
    from evalsuite.data import BadSample, open_dataset
    from evalsuite.errors import DataError

    folder = _scratch()
    (folder / "a.png").write_bytes(_image()[1][0])
    path = folder / name
    whole = folder if name.startswith(("metadata", "a.")) else path

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            dataset = open_dataset(whole)
            for sample in dataset.samples[:20]:
                for part in sample.modalities:
                    with contextlib.suppress(BadSample):
                        dataset.read(sample, part)

    return one, seeds


def _rows() -> list[dict[str, Any]]:
    return [
        {"file_name": "a.png", "label": "x", "text": "a cell", "group": "g", "parents": ["b"]},
        {"image": "a.png", "id": 3, "caption": "=1+1", "split": "train", "lang": "ja"},
        {"text": "no file at all", "label": None},
    ]


def _jsonl() -> tuple[Target, list[bytes]]:
    return _opened("list.jsonl", [json.dumps(row).encode() for row in _rows()])


def _metadata() -> tuple[Target, list[bytes]]:
    lines = "\n".join(json.dumps(row) for row in _rows())
    return _opened("metadata.jsonl", [lines.encode()])


def _csv() -> tuple[Target, list[bytes]]:
    return _opened(
        "list.csv", [b'file_name,label,text\na.png,x,"a ""b"""\nb.png,,\n', b"text\nx\n"]
    )


def _tar() -> tuple[Target, list[bytes]]:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (("k.png", _image()[1][0]), ("k.json", b'{"label": 1}'), ("k.txt", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            member.pax_headers = {"comment": "é"}
            tar.addfile(member, io.BytesIO(data))
    return _opened("shard-0.tar", [file.getvalue()])


def _parquet() -> tuple[Target, list[bytes]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": [1, 2], "group": ["x", None]}), file)
    return _opened("rows.parquet", [file.getvalue()])


def _saved() -> tuple[Target, list[bytes]]:
    """A data set as `datasets` saves it: its Arrow file, or both of its JSON files."""
    import datasets

    from evalsuite.data import BadSample, open_dataset
    from evalsuite.errors import DataError

    datasets.disable_progress_bars()
    folder = _scratch() / "set"
    datasets.Dataset.from_dict({"text": ["a", "b"], "label": ["x", "y"]}).save_to_disk(folder)
    table = next(folder.glob("*.arrow"))
    documents = [folder / "state.json", folder / "dataset_info.json"]
    kept = {path: path.read_bytes() for path in (table, *documents)}

    def one(data: bytes) -> None:
        for path, content in kept.items():
            path.unlink()  # not written over: it may still be mapped into memory
            path.write_bytes(content)
        for path in documents if data[:1] in b"{[" else [table]:
            path.unlink()
            path.write_bytes(data)
        with contextlib.suppress(DataError):
            dataset = open_dataset(folder)
            for sample in dataset.samples[:20]:
                with contextlib.suppress(BadSample):
                    dataset.read(sample, "text")

    return one, list(kept.values())


def _policy() -> tuple[Target, list[bytes]]:
    from evalsuite.errors import PolicyError
    from evalsuite.gate.policy import load_policy, parse_policy

    def one(data: bytes) -> None:
        with contextlib.suppress(PolicyError):
            parse_policy(data.decode("utf-8", "replace")).sha256()

    plain = (ROOT / "evalsuite" / "gate" / "default.yaml").read_bytes()
    return one, [plain, json.dumps(load_policy().canonical()).encode()]


def _claims() -> tuple[Target, list[bytes]]:
    from evalsuite.errors import PolicyError
    from evalsuite.gate.audit import load_claims

    path = _scratch() / "claims.yaml"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(PolicyError):
            load_claims(path)

    promised = {
        "version": 1, "tolerance": 0.1, "samples": {"min": 9, "max": 99}, "min_resolution": [8, 8],
        "classes": {"a": 0.5, "b": {"count": 3, "tolerance": 0.2}}, "sample_rate": [16000],
        "modalities": ["image", "text"], "formats": ["PNG"], "languages": ["en"], "licence": "MIT",
    }  # fmt: skip
    return one, [json.dumps(promised).encode()]


def _documents(reader: Callable[[Path], object], *seeds: Any) -> tuple[Target, list[bytes]]:
    """Read a YAML file that people write: refused by a PolicyError, or read."""
    from evalsuite.errors import PolicyError

    path = _scratch() / "document.yaml"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(PolicyError):
            reader(path)

    return one, [json.dumps(seed).encode() for seed in seeds]


def _stages() -> tuple[Target, list[bytes]]:
    from evalsuite.history.stages import load_stages

    first = {"name": "a", "targets": [{"metric": "kid", "max_gap": 0.2}]}
    last = {"name": "b", "batches": 2, "targets": [{"metric": "kid", "max_gap": 0.1}]}
    return _documents(load_stages, {"version": 1, "stages": [first, last]})


def _waivers() -> tuple[Target, list[bytes]]:
    from evalsuite.gate.waivers import load_waivers

    waiver = {
        "finding": "image/*/kid/all", "reason": "a camera is missing", "owner": "me",
        "expires": "2026-12-18",
    }  # fmt: skip
    return _documents(load_waivers, {"version": 1, "waivers": [waiver, waiver]})


def _audit_policy() -> tuple[Target, list[bytes]]:
    from evalsuite.gate.audit import load_audit_policy

    rules = [{"metric": "kid", "tolerance": 0.1}]
    audit = load_audit_policy()[0].model_dump(mode="json")
    return _documents(load_audit_policy, {"audit": audit}, {"audit": audit, "rules": rules})


def _croissant() -> tuple[Target, list[bytes]]:
    """A vendor's description of a set: read, or a check that says what is wrong with it."""
    from evalsuite.data import open_dataset
    from evalsuite.gate.audit import AuditPolicy
    from evalsuite.gate.policy import load_policy
    from evalsuite.pipeline.audit_book import Book
    from evalsuite.pipeline.audit_claims import Croissant, check_provenance
    from evalsuite.pipeline.audit_media import Places

    folder = _scratch()
    (folder / "a.png").write_bytes(_image()[1][0])
    data = open_dataset(folder)
    places, policy = Places(data, folder), load_policy(None)

    def one(content: bytes) -> None:
        (folder / "croissant.json").write_bytes(content)
        book = Book(data=data, places=places, limits=AuditPolicy(), policy=policy, gate=None)
        found = Croissant.read(data)
        found.shown()
        check_provenance(book, found)

    described = {
        "@context": {"sc": "https://schema.org/"}, "@type": "sc:Dataset", "name": "cells",
        "sc:license": {"@id": "https://spdx.org/licenses/CC0-1.0"},
        "creator": [{"@type": "Person", "name": "A"}], "prov:wasDerivedFrom": {"@value": "b"},
        "distribution": [{"contentUrl": "a.png", "sha256": "0" * 64}, {"contentUrl": "../b"}],
    }  # fmt: skip
    return one, [json.dumps(described).encode()]


def _ratings() -> tuple[Target, list[bytes]]:
    """A rater's file: left out and named, or scored; too few votes are a DataError."""
    from evalsuite.errors import DataError
    from evalsuite.study.design import new_study
    from evalsuite.study.score import score_study

    folder = _scratch()
    pictures = _image()[1][:8]
    for name in ("first", "second"):
        (folder / name).mkdir()
        for k, picture in enumerate(pictures):
            (folder / name / f"{k}.png").write_bytes(picture)
    key = new_study([folder / "first", folder / "second"], folder / "study", kind="mos", n=4)
    votes = [
        {"trial": t, "choice": 1 + k % 5, "seconds": 2.5, "position": k, "turned": False}
        for k, t in enumerate(key.trials)
    ]
    whole = {
        "format": "evalsuite-ratings", "schema_version": "1.0", "study": key.study, "rater": "a",
        "started": "2026-01-01T00:00:00Z", "saved": "2026-01-01T00:09:00Z", "complete": True,
        "votes": votes,
    }  # fmt: skip
    path = folder / "ratings.json"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(DataError):
            score_study(folder / "study", [path])

    return one, [json.dumps(whole).encode()]


def _recipe() -> tuple[Target, list[bytes]]:
    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators import RecipeError, parse_recipe

    def one(data: bytes) -> None:
        with contextlib.suppress(RecipeError, EvalsuiteError):
            parse_recipe(data.decode("utf-8", "replace"))

    fog: dict[str, Any] = {"corrupt": {"kind": "fog", "severity": [1, 3]}}
    steps: list[Any] = [
        fog,
        {"sometimes": {"probability": 0.3, "operation": fog}},
        {"one_of": {"weights": [2, 1], "operations": [fog, {"mix_up": {}}]}},
        {"template": {"templates": ["a {label}"]}},
        {"add_noise": {"snr_db": [5, 20]}},
        "cut_mix",
    ]
    whole = [{"version": 1, "seed": 7, "variants": 2, "steps": [step]} for step in steps]
    return one, [json.dumps(recipe).encode() for recipe in whole]


def _result() -> tuple[Target, list[bytes]]:
    """A result that somebody else wrote: refused, or rendered in every form."""
    from evalsuite.errors import DataError
    from evalsuite.report import (
        read_result,
        redact_result,
        render_html,
        render_junit,
        render_markdown,
    )

    path = _scratch() / "result.json"

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            result = read_result(path)
        except DataError:
            return
        for form in (render_html, render_markdown, render_junit, redact_result):
            with contextlib.suppress(DataError):
                form(result)

    return one, [_small_result().encode()]


def _small_result() -> str:
    from evalsuite.gate import findings as f
    from evalsuite.report import result_json

    message = f.Message(id="gap_above_tolerance", text="kid", params={"gap": 0.2, "metric": "kid"})
    finding = f.Finding(
        kind="distribution", modality="image", metric="kid", encoder="efficientnet_lite0",
        value=0.7, n_real=40, n_synthetic=40, gap=0.2, tolerance=0.1, status=f.Status.FAIL,
        gap_ci=f.Interval(low=0.1, high=0.3, method="delete-half"), message=message,
        floor=f.Floor(size=20, splits=20, mean=0.1, median=0.1, q05=0.0, q95=0.2),
    )  # fmt: skip
    sides = {
        role: f.DatasetSummary(
            role=role, name=role, format="folder", fingerprint="0", n_found=41, n_used=40,
            problems={"truncated": 1}, labels={"a": 40},
        )
        for role in ("real", "synthetic")
    }  # fmt: skip
    result = f.GateResult(
        evalsuite_version="0", verdict=f.Status.FAIL, exit_code=1, findings=(finding,),
        reasons=(f.Reason(status=f.Status.FAIL, finding=finding.key, message=message),),
        encoders=(), policy={"name": "p"}, policy_sha256="0", seed=0, alpha=0.05, command="c",
        versions={}, attributes={"brightness": {"real": (0.1, 0.2), "synthetic": (0.1,)}}, **sides,
    )  # fmt: skip
    return result_json(result)


class _Answering(socketserver.ThreadingTCPServer):
    """A server on loopback: a list of models to every GET, the input to every POST."""

    daemon_threads = True
    allow_reuse_address = True
    raw = b""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = self.rfile.readline()
            if not line:
                return
            head += line
        if head.startswith(b"GET"):
            body = b'{"data": [{"id": "m"}]}'
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
        self.rfile.read(int(length[1]) if length else 0)
        assert isinstance(self.server, _Answering)
        with contextlib.suppress(OSError):
            self.wfile.write(self.server.raw)


def _reply(body: bytes, status: int = 200) -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


def _own(error: type[Exception], work: Callable[[], object]) -> None:
    with contextlib.suppress(error):
        work()


def _tensor_graph(rank: int) -> bytes:
    """Give a network that means over all axes but the second."""
    import onnx
    from onnx import TensorProto, helper

    axes = [k for k in range(rank) if k != 1]
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None] * rank)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    opset = [helper.make_opsetid("", 13)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


_SIDECARS: tuple[dict[str, Any], ...] = (
    {"modality": "audio", "licence": "MIT", "rate": 16000, "input": {"kind": "waveform"},
     "window_seconds": 0.5, "hop_seconds": 0.25, "pooling": "mean_sd", "output": "y"},
    {"modality": "audio", "licence": "MIT", "rate": 8000, "input": {
        "kind": "log_mel", "fft": 256, "window": 200, "hop": 80, "edges": "reflect", "power": 1,
        "bands": 20, "low": 20.0, "high": 3900.0, "scale": "htk", "area": False, "slopes": "mel",
        "log": "db", "least": 1e-5, "add": 0.1, "mean": -4.0, "sd": 2.0,
        "order": "bands_frames"}},
    {"modality": "image", "licence": "MIT", "size": [32, 24], "resize": 40, "filter": "bilinear",
     "mean": [0.5, 0.5, 0.5], "sd": [0.2, 0.2, 0.2], "output": "y"},
    {"rate": 16000, "scores": [{"name": "mos", "unit": "MOS", "description": "d"}]},
)  # fmt: skip


def _network(graph_is_input: bool) -> tuple[Target, list[bytes]]:
    """A network from a file and what lies beside it: refused by a ModelError, or run."""
    import numpy as np

    from evalsuite.data.audio import DecodedAudio
    from evalsuite.encoders import load_scorer
    from evalsuite.encoders.onnxfile import load_onnx_pictures, load_onnx_sound
    from evalsuite.errors import ModelError

    folder = _scratch()
    tone = (0.3 * np.sin(np.arange(8000) / 9)).astype(np.float32)
    sound = DecodedAudio(tone, 16000, 16000, 1, 0.5, "WAV", "FLOAT", (), tone)
    graphs = {3: _tensor_graph(3), 4: _tensor_graph(4), 2: _tensor_graph(2)}

    def heard(path: Path) -> None:
        load_onnx_sound(path, None).embed([sound])

    def seen(path: Path) -> None:
        encoder = load_onnx_pictures(path, None)
        encoder.forward(np.zeros((1, 3, *encoder._prepare.crop), dtype=np.uint8))  # type: ignore[attr-defined]

    def graded(path: Path) -> None:
        scorer: Any = load_scorer(f"onnx/{path}")
        scorer.load()
        scorer._grade(tone)

    uses = ((heard, 3, _SIDECARS[0]), (seen, 4, _SIDECARS[2]), (graded, 2, _SIDECARS[3]))
    path = folder / "net.onnx"

    def one(data: bytes) -> None:
        for use, rank, sidecar in uses:
            path.write_bytes(data if graph_is_input else graphs[rank])
            beside = json.dumps(sidecar).encode() if graph_is_input else data
            path.with_suffix(".json").write_bytes(beside)
            _own(ModelError, lambda use=use: use(path))  # type: ignore[misc]

    if graph_is_input:
        return one, list(graphs.values())
    return one, [json.dumps(said).encode() for said in _SIDECARS]


def _study_files(which: str) -> tuple[Target, list[bytes]]:
    """The key of a study and a table of scores: refused by an error of ours, or scored."""
    from evalsuite.errors import EvalsuiteError
    from evalsuite.study.design import new_study
    from evalsuite.study.score import _read_scores, score_study

    folder = _scratch()
    for name in ("first", "second"):
        (folder / name).mkdir()
        for k, picture in enumerate(_image()[1][:8]):
            (folder / name / f"{k}.png").write_bytes(picture)
    key = new_study([folder / "first", folder / "second"], folder / "study", kind="mos", n=4)
    raters = []
    for rater in "abc":
        votes = [
            {"trial": t, "choice": 1 + (k + ord(rater)) % 5, "seconds": 2.5, "position": k,
             "turned": False}
            for k, t in enumerate(key.trials)
        ]  # fmt: skip
        whole = {
            "format": "evalsuite-ratings", "schema_version": "1.0", "study": key.study,
            "rater": rater, "started": "2026-01-01T00:00:00Z", "saved": "2026-01-01T00:09:00Z",
            "complete": True, "votes": votes,
        }  # fmt: skip
        raters.append(folder / f"{rater}.json")
        raters[-1].write_text(json.dumps(whole))
    place = folder / "study" / "key.json"
    seed = place.read_bytes()
    table = folder / "scores.csv"
    rows = [
        f"{i.set},{i.sample},{k / 7},{k}" for k, i in enumerate(key.items.values()) if not i.spoiled
    ]

    def one(data: bytes) -> None:
        (place if which == "key" else table).write_bytes(data)
        with contextlib.suppress(EvalsuiteError):
            if which == "key":
                score_study(folder / "study", raters, keep_all=True)
            else:  # the reader alone: what is done with the numbers takes a second
                _read_scores(key, table, defaultdict(dict))

    if which == "key":
        return one, [seed]
    return one, ["\n".join(["set,sample,kid,psnr", *rows]).encode(), b"sample,a\n0.png,1\n"]


def _fitted() -> tuple[Target, list[bytes]]:
    """A learned operation's file: refused, or it makes a picture."""
    import numpy as np
    from PIL import Image

    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators import ClassSampler, Item

    folder = _scratch()
    rng = np.random.default_rng(0)
    items = [
        Item(str(k), Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)), "ab"[k % 2])
        for k in range(8)
    ]
    path = folder / "model.npz"
    ClassSampler.fit(items, size=8).save(path)

    def one(data: bytes) -> None:
        path.write_bytes(data)
        with contextlib.suppress(EvalsuiteError):
            model = ClassSampler.load(path)
            model.apply("a", model.sample_params(np.random.default_rng(0)))

    return one, [path.read_bytes()]


def _folders() -> tuple[Target, list[bytes]]:
    """The JSON files of models' folders, as save_pretrained writes them; nothing is loaded."""
    import numpy as np
    from safetensors.numpy import save

    from evalsuite.encoders import load_audio_encoder
    from evalsuite.encoders.perplexity import load_text_scorer
    from evalsuite.errors import ModelError
    from evalsuite.generators.local.folder import model_folder

    folder = _scratch()
    (folder / "model.safetensors").write_bytes(save({"a": np.zeros(2, dtype=np.float32)}))

    def one(data: bytes) -> None:
        for name in ("model_index.json", "config.json", "preprocessor_config.json"):
            (folder / name).write_bytes(data)
        _own(ModelError, lambda: model_folder(str(folder), "pipeline"))
        _own(ModelError, lambda: model_folder(str(folder), "model"))
        _own(ModelError, lambda: load_audio_encoder(f"transformers/{folder}"))
        _own(ModelError, lambda: load_text_scorer(f"perplexity/{folder}"))

    pipeline = {
        "_class_name": "DDIMPipeline", "_diffusers_version": "0.30",
        "scheduler": ["diffusers", "DDIMScheduler"], "unet": ["diffusers", "UNet2DModel"],
        "safety_checker": [None, None],
    }  # fmt: skip
    model = {
        "model_type": "wav2vec2", "hidden_size": 16, "sampling_rate": 16000, "projection_dim": 8,
        "max_position_embeddings": 64,
    }  # fmt: skip
    return one, [json.dumps(said).encode() for said in (pipeline, model)]


def _weights() -> tuple[Target, list[bytes]]:
    """Weights in PyTorch's and in safetensors' form: refused by a ModelError, or tensors."""
    import torch
    from safetensors.torch import save

    from evalsuite.encoders import registry
    from evalsuite.errors import ModelError

    folder = _scratch()
    tensors = {"a.weight": torch.zeros(2, 3), "a.bias": torch.ones(3, dtype=torch.float16)}
    pickled = io.BytesIO()
    torch.save(tensors, pickled)

    def one(data: bytes) -> None:
        path = folder / ("w.pth" if data[:2] == b"PK" or data[:1] == b"\x80" else "w.safetensors")
        path.write_bytes(data)
        _own(ModelError, lambda: registry._state_dict(path))

    return one, [pickled.getvalue(), save(tensors)]


def _small_pages(path: Path) -> bytes:
    """Give a database with pages of 512 bytes, so that it is short."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA page_size = 512")
        database.execute("VACUUM")
    return path.read_bytes()


def _history() -> tuple[Target, list[bytes]]:
    """A history that somebody else wrote: refused, or its page is made."""
    from datetime import date

    from evalsuite.errors import EvalsuiteError
    from evalsuite.gate.findings import GateResult
    from evalsuite.history.report import write_history
    from evalsuite.history.store import History

    folder = _scratch()
    path = folder / "h.sqlite"
    history = History(path, create=True)
    result = GateResult.model_validate_json(_small_result())
    for seed in (1, 2, 3):
        history.add(result.model_copy(update={"seed": seed}), series="s")
    seeds = [_small_pages(path)]

    def one(data: bytes) -> None:
        for left in folder.glob("h.sqlite-*"):
            left.unlink()
        path.write_bytes(data)
        with contextlib.suppress(EvalsuiteError):
            found = History(path)
            write_history(found, folder / "page.html", today=date(2026, 1, 1))

    return one, seeds


def _journal() -> tuple[Target, list[bytes]]:
    """The answers that were kept of a server."""
    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators.endpoints.journal import Journal

    folder = _scratch()
    path = folder / "a.sqlite"
    with contextlib.closing(Journal(path)) as journal:
        for k in range(3):
            journal.put(f"{k}", "ok", b'{"a": 1}', model="m", path="/p", prompt=None)
        journal.bury("9", "no", model="m", path="/p")
    seeds = [_small_pages(path)]

    def one(data: bytes) -> None:
        for left in folder.glob("a.sqlite-*"):
            left.unlink()
        path.write_bytes(data)
        with contextlib.suppress(EvalsuiteError), contextlib.closing(Journal(path)) as journal:
            journal.get("0"), journal.get("7"), journal.dead_letters(), len(journal)

    return one, seeds


def _made_folder(name: str) -> tuple[Target, list[bytes]]:
    """What a run of `generate` left behind: refused, or gone on with."""
    import numpy as np
    from PIL import Image

    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators import Item, generate_folder, parse_recipe

    folder = _scratch()
    out = folder / "out"
    recipe = parse_recipe("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    picture = Image.fromarray(np.full((8, 8), 99, dtype=np.uint8))
    items = [Item(str(k), picture, None) for k in range(2)]
    state = out / ".evalsuite"

    def run() -> None:
        generate_folder(recipe.operation(), items, out, seed=recipe.seed)

    run()
    whole = (out / "metadata.jsonl").read_bytes()
    (state / "journal.jsonl").write_bytes(whole)
    kept = folder / "kept"
    shutil.copytree(out, kept)

    def one(data: bytes) -> None:
        shutil.copyfile(kept / ".evalsuite" / "job.json", state / "job.json")
        (out / "metadata.jsonl").unlink(missing_ok=True)
        (state / name).write_bytes(data)
        with contextlib.suppress(EvalsuiteError):
            run()

    seed = (kept / ".evalsuite" / name).read_bytes()
    return one, [seed, seed.splitlines()[0]] if name != "job.json" else [seed]


def _records() -> tuple[Target, list[bytes]]:
    """A generated row: replayed, or refused."""
    import numpy as np
    from PIL import Image

    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators import Item, Record, parse_recipe, produce, replay
    from evalsuite.pipeline.compare import _stated

    picture = Image.fromarray(np.full((8, 8), 99, dtype=np.uint8))
    recipe = parse_recipe("{version: 1, seed: 7, steps: [corrupt: {kind: fog}]}")
    _, record = produce(recipe.operation(), Item("a", picture, None), seed=3)

    def one(data: bytes) -> None:
        _stated(data.decode("utf-8", "replace"), "severity")
        try:
            row = json.loads(data)
        except (ValueError, RecursionError):
            return
        if isinstance(row, dict):
            with contextlib.suppress(EvalsuiteError):
                replay(Record.from_row(row), picture)

    return one, [json.dumps(record.to_row()).encode()]


def _cache() -> tuple[Target, list[bytes]]:
    """A segment of the cache, under its right name or another: used, or reported and left out."""
    from evalsuite.encoders import FeatureCache

    folder = _scratch()
    cache = FeatureCache(folder)
    records = cache.records("features", "ab")
    for k in range(3):
        records.put(bytes([k]) * 32, b"row" * (k + 1))
    records.flush()
    place = next((folder / "v1" / "features" / "ab").iterdir())
    seed = place.read_bytes()

    def one(data: bytes) -> None:
        for path in place.parent.iterdir():
            path.unlink()
        right = len(data) % 4 > 0  # so that the content is looked into, too
        name = hashlib.sha256(data if right else b"").hexdigest()
        (place.parent / name).write_bytes(data)
        for path in (folder / "v1" / "memo" / "n").glob("*"):
            path.write_bytes(data)
        opened = FeatureCache(folder)
        found = opened.records("features", "ab")
        for k in range(3):
            found.get(bytes([k]) * 32)
        opened.memo("n", "key", lambda: b"made")

    return one, [seed]


def _addresses() -> tuple[Target, list[bytes]]:
    """Addresses of servers, stores and clusters, and knobs: refused by a UsageError, or parsed.

    No name is looked up: of hosts, only numbers are resolved.
    """
    import socket

    from evalsuite.data.remote import is_address, parse
    from evalsuite.errors import EvalsuiteError, UsageError
    from evalsuite.hosts import Cut, Server
    from evalsuite.pipeline.ray_engine import RayEngine
    from evalsuite.tune import Knob

    asked = socket.getaddrinfo

    def numbers(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        return asked(host, port, *rest, **{**named, "flags": socket.AI_NUMERICHOST})

    socket.getaddrinfo = numbers

    def resolved(text: str) -> None:
        with contextlib.suppress(Cut):
            Server.parse(text, [text[:20], "example.org"]).addresses()

    def one(data: bytes) -> None:
        text = data.decode("utf-8", "surrogateescape")
        _own(EvalsuiteError, lambda: resolved(text))
        _own(UsageError, lambda: Knob.parse(text))
        _own(UsageError, lambda: RayEngine(text))
        if is_address(text):
            _own(EvalsuiteError, lambda: parse(text, [text[:20]]))

    return one, [
        b"http://127.0.0.1:8000/v1", b"https://[::1]:99/a", b"s3://bucket/folder/x",
        b"file:///tmp/a", b"head:6379", b"auto", b"steps.0.corrupt.severity=1.0:5.0", b"a.b=fog,2",
    ]  # fmt: skip


def _endpoint(wrap: bool) -> tuple[Target, list[bytes]]:
    from pydantic import BaseModel

    from evalsuite.errors import EvalsuiteError
    from evalsuite.generators.endpoints.client import Rejected, Request, Session
    from evalsuite.generators.protocol import Dropped

    class Form(BaseModel):
        score: float
        words: list[str] = []

    server = _Answering()
    state: dict[str, Any] = {"n": 0}

    def session() -> Session:
        return Session(
            _scratch() / "journal.sqlite", url=server.url, attempts=1, timeout=2, backoff=1e-6,
            max_wait=1e-3,
        )  # fmt: skip

    def one(data: bytes) -> None:
        server.raw = _reply(data) if wrap else data
        state["n"] += 1
        if state["n"] % 500 == 1:  # a journal and a client of their own, so that none grows
            state["session"] = session()
        request = Request(
            "/chat/completions",
            {"model": "m", "messages": [{"role": "user", "content": "x"}]},
            draw={"n": state["n"]},
        )
        client = state["session"].client()
        try:
            client.structured(request, Form) if state["n"] % 2 else client.chat(request)
        except (EvalsuiteError, Rejected, Dropped):
            client._failed_in_row = 0  # a server that fails often ends a run; here it is the point

    content = json.dumps({"score": 0.5, "words": ["a"]})
    answer = {
        "choices": [{"finish_reason": "stop", "message": {"role": "a", "content": content}}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }
    body = json.dumps(answer).encode()
    if wrap:
        return one, [body]
    late = b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
    chunked = b"HTTP/1.1 200 X\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    return one, [_reply(body), _reply(b"no", 500), late, chunked]


TARGETS: dict[str, Callable[[], tuple[Target, list[bytes]]]] = {
    "image": _image,
    "audio": _audio,
    "manifest.jsonl": _jsonl,
    "metadata.jsonl": _metadata,
    "manifest.csv": _csv,
    "webdataset.tar": _tar,
    "table.parquet": _parquet,
    "saved data set": _saved,
    "text": lambda: _opened("a.txt", ["A café, seen twice.\n".encode(), b"\xff\xfea\x00"]),
    "policy": _policy,
    "claims": _claims,
    "croissant.json": _croissant,
    "audit policy": _audit_policy,
    "stages": _stages,
    "waivers": _waivers,
    "ratings": _ratings,
    "recipe": _recipe,
    "result.json": _result,
    "endpoint answer": lambda: _endpoint(wrap=True),
    "endpoint http": lambda: _endpoint(wrap=False),
    "onnx sidecar": lambda: _network(graph_is_input=False),
    "onnx graph": lambda: _network(graph_is_input=True),
    "key of a study": lambda: _study_files("key"),
    "scores.csv": lambda: _study_files("scores"),
    "learned operation": _fitted,
    "model folder": _folders,
    "weights": _weights,
    "history": _history,
    "endpoint journal": _journal,
    "job of generate": lambda: _made_folder("job.json"),
    "journal of generate": lambda: _made_folder("journal.jsonl"),
    "record of a sample": _records,
    "cache": _cache,
    "addresses and knobs": _addresses,
}
DOCUMENTS = {
    "policy", "claims", "audit policy", "stages", "waivers", "ratings", "recipe", "result.json",
    "endpoint answer", "manifest.jsonl", "onnx sidecar", "key of a study", "model folder",
    "job of generate", "record of a sample",
}  # fmt: skip
HUGE = b"9" * 5000  # more digits than Python takes for a number, which is a plain ValueError


# ---- one reader, in a process of its own ---------------------------------------------------------


def _places(node: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    keys = node.keys() if isinstance(node, dict) else range(len(node))
    for key in keys:
        found.append((node, key))
        if isinstance(node[key], dict | list):
            found += _places(node[key])
    return found


def mutate_document(data: bytes, rng: random.Random) -> bytes | None:
    """Change a JSON document in one to three places; None where it is none."""
    try:
        document = json.loads(data)
        places = _places(document) if isinstance(document, dict | list) else []
    except (ValueError, RecursionError):
        return None
    if not places:
        return None
    for _ in range(rng.randint(1, 3)):
        node, key = rng.choice(places)
        other, there = rng.choice(places)
        change = rng.randrange(4)
        try:
            if change == 0:
                node[key] = rng.choice(ODD)
            elif change == 1:
                node[key] = other[there]
            elif change == 2:
                del node[key]
            elif isinstance(node, dict):
                node[rng.choice(("x", "kind", str(key)[:-1], "operation"))] = rng.choice(ODD)
            else:
                node.insert(key, rng.choice(ODD))
        except (KeyError, IndexError):
            continue
    try:
        return json.dumps(document).encode().replace(b'"HUGE"', HUGE)
    except (ValueError, RecursionError):
        return None  # it was put into itself


def run_one(name: str, seconds: float, out: Path) -> None:
    """Fuzz one reader in this process until libFuzzer ends it; what was seen is kept in ``out``."""
    import logging
    import warnings

    import atheris

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["EVALSUITE_CACHE"] = str(_scratch())
    with atheris.instrument_imports(include=["evalsuite"], enable_loader_override=False):
        target, seeds = TARGETS[name]()
        for seed in seeds:
            target(seed)  # what is imported on first use, too
    seen: dict[str, Any] = {"inputs": 0, "slowest": 0.0, "slow": [], "defects": {}}
    corpus = out / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for k, seed in enumerate(seeds):
        (corpus / f"{k}").write_bytes(seed)
    last = time.monotonic()

    def test(data: bytes) -> None:
        nonlocal last
        began = time.monotonic()
        try:
            target(data)
        except Exception as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "fuzz" not in f[0]]
            where = next((f for f in reversed(frames) if "site-packages" not in f.filename), None)
            place = f"{Path(where.filename).name}:{where.lineno}" if where else "?"
            key = f"{type(error).__name__} at {place}"
            if key not in seen["defects"]:
                file = out / f"defect-{hashlib.sha256(data).hexdigest()[:12]}"
                file.write_bytes(data)
                file.with_suffix(".txt").write_text(traceback.format_exc()[-4000:])
            seen["defects"][key] = seen["defects"].get(key, 0) + 1
        now = time.monotonic()
        seen["inputs"] += 1
        seen["slowest"] = max(seen["slowest"], now - began)
        if now - began > SLOW:
            file = out / f"slow-{hashlib.sha256(data).hexdigest()[:12]}"
            file.write_bytes(data)
        if now - last > 1:
            last = now
            keep()

    def keep() -> None:
        (out / "seen.json.part").write_text(json.dumps(seen))
        (out / "seen.json.part").replace(out / "seen.json")

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        rng = random.Random(seed)
        changed = mutate_document(data, rng) if rng.random() < 0.7 else None
        return atheris.Mutate(data, max_size) if changed is None else changed[:max_size]

    flags = [
        sys.argv[0], f"-max_total_time={int(seconds)}", f"-max_len={MAX_LEN}", "-rss_limit_mb=6000",
        "-timeout=60", f"-artifact_prefix={out}/", "-print_final_stats=1", "-len_control=0",
    ]  # fmt: skip
    extra = {"custom_mutator": change} if name in DOCUMENTS else {}
    atheris.Setup([*flags, str(corpus)], test, **extra)
    keep()
    atheris.Fuzz()


def fuzz(seconds: float, names: list[str], out: Path, inputs: int = 0) -> dict[str, dict[str, Any]]:
    """Fuzz each reader in turn for its share of the time; again, until there were ``inputs``."""
    for name in names:
        shutil.rmtree(out / _plain(name), ignore_errors=True)
    seen: dict[str, dict[str, Any]] = {
        name: {"inputs": 0, "slowest": 0.0, "defects": {}, "seconds": 0.0} for name in names
    }
    while True:
        for name in names:
            _round(name, max(2.0, seconds / len(names)), out / _plain(name), seen[name])
        total = sum(item["inputs"] for item in seen.values())
        print(f"{total:,} inputs so far", flush=True)
        if total >= inputs:
            return seen


def _plain(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _round(name: str, seconds: float, folder: Path, item: dict[str, Any]) -> None:
    """Fuzz one reader in a process of its own, from the inputs that it found before."""
    memory = Path("/dev/shm")
    scratch = tempfile.mkdtemp(prefix="evalsuite-fuzz-", dir=memory if memory.is_dir() else None)
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "seen.json"
    kept.unlink(missing_ok=True)
    began = time.monotonic()
    with (folder / "log").open("wb") as log:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.fuzz", "--one", name, "--seconds", str(seconds),
             "--out", str(folder)],
            cwd=ROOT, env={**os.environ, "TMPDIR": scratch},
            check=False, stdout=log, stderr=log,
        )  # fmt: skip
    shutil.rmtree(scratch)
    said = (folder / "log").read_text(errors="replace")
    mine = json.loads(kept.read_text()) if kept.exists() else {"inputs": 0, "defects": {}}
    executed = re.search(r"number_of_executed_units:\s*(\d+)", said)
    if executed:
        mine["inputs"] = int(executed[1])
    if done.returncode != 0:  # a crash below Python, a hang, or too much memory
        mine["defects"][f"the process ended with {done.returncode}"] = 1
    item["inputs"] += mine["inputs"]
    item["seconds"] += time.monotonic() - began
    item["slowest"] = max(item["slowest"], mine.get("slowest", 0.0))
    for what, count in mine["defects"].items():
        item["defects"][what] = item["defects"].get(what, 0) + count
    print(f"{name:16} {item['inputs']:>9,} inputs  {item['defects'] or 'clean'}", flush=True)


MENDED = (
    "result.json: an integer that no float holds, and attributes whose squares are beyond all "
    "floats (OverflowError in the page)",
    "key of a study: an item of a set that is not in it (KeyError)",
    "history, endpoint journal: damage that SQLite quotes in its own error (UnicodeDecodeError)",
    "record of a sample: parents and parameters of another kind (TypeError)",
    "cache: a segment with the right hash and other tensors (KeyError)",
    "addresses and knobs: values that are no YAML (errors of yaml)",
    "job of generate: NaN (ValueError)",
    "by reading, before the fuzzer ran: sizes of 400 digits and infinite ones in the descriptions "
    "of models, an index of a pipeline with a list for a library, empty and cut `.npz`",
)  # fmt: skip
"""What fuzzing found and was mended, each with a test in tests/security."""


def report(seen: dict[str, dict[str, Any]]) -> str:
    """Give results/robustness/fuzz.md."""
    total = sum(item["inputs"] for item in seen.values())
    seconds = sum(item["seconds"] for item in seen.values())
    rows = [
        f"| {name} | {item['inputs']:,} | {sum(item['defects'].values()):,} | "
        f"{item['slowest']:.2f} |"
        for name, item in seen.items()
    ]
    defects = [
        f"- {name}: {what}, {count:,} inputs"
        for name, item in seen.items()
        for what, count in item["defects"].items()
    ]
    return "\n".join(
        [
            "# Fuzzing of the readers",
            "",
            f"{total:,} inputs in {seconds:,.0f} s (one process at a time, `nice -n 19`, a machine "
            "shared with other work), made by Atheris from real files by following the coverage "
            "of evalsuite's own code; JSON documents are changed as trees too.",
            "An input is answered rightly when it is read, or refused by one of evalsuite's own "
            "errors. Everything else counts as a defect.",
            "",
            "| reader | inputs | defects | slowest input, s |",
            "|---|--:|--:|--:|",
            *rows,
            f"| **all** | {total:,} | {sum(sum(i['defects'].values()) for i in seen.values()):,} "
            "| |",
            "",
            *(
                ["## Defects", "", *defects, ""]
                if defects
                else ["No defect was seen in these runs.", ""]
            ),
            "## Found before, and mended",
            "",
            *(f"- {line}" for line in MENDED),
            "",
            "Segments of the cache and learned operations are checked by their hash first; "
            "graphs of networks go to onnxruntime, in native code.",
            "",
            "An input's time is wall-clock time, on a machine with more work than cores.",
            "",
            f"Machine: {machine()}.",
            "",
            "Made by `python -m benchmarks.fuzz --seconds 600 --inputs 1000000`, and later "
            "`--only` with one reader after the other; all figures in [fuzz.json](fuzz.json).",
            "",
        ]
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of one round of all readers")
    parser.add_argument("--inputs", type=int, default=0, help="rounds go on until there were these")
    parser.add_argument("--only", action="append", choices=list(TARGETS))
    parser.add_argument("--one", choices=list(TARGETS), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, default=None, help="where inputs are kept")
    given = parser.parse_args(arguments or [])
    if given.one:
        run_one(given.one, given.seconds, given.out)
        return
    seen = fuzz(
        given.seconds,
        given.only or list(TARGETS),
        given.out or Path(tempfile.gettempdir(), "fuzz"),
        given.inputs,
    )
    kept = RESULTS / "robustness" / "fuzz.json"
    every = json.loads(kept.read_text("utf-8")) if kept.exists() else {}
    every = {name: {**every, **seen}[name] for name in TARGETS if name in every | seen}
    write("robustness/fuzz.json", json.dumps(every, indent=1) + "\n")
    write("robustness/fuzz.md", report(every))


if __name__ == "__main__":
    main(sys.argv[1:])
