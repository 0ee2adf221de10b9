"""Memory that really runs out: the kernel refuses it, in the middle of a run."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.kills import QUICK
from evalsuite.data import BadSample, decode_image
from evalsuite.errors import EvalsuiteError, is_no_memory, ran_out
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.report import read_result

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="needs /proc and limits on memory"
)
SIDE = 9000
POOR = """
import resource, sys
from pathlib import Path
from evalsuite.encoders import encoding

decode, large = encoding.decode_image, int(sys.argv.pop(1))

def poor(data, *rest, **named):
    if len(data) != large:
        return decode(data, *rest, **named)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 48 * 2**20, before[1]))
    try:
        return decode(data, *rest, **named)
    finally:  # as if others had given theirs back: a run that went on would have a wrong number
        resource.setrlimit(resource.RLIMIT_AS, before)

if large:
    encoding.decode_image = poor
from evalsuite.cli import main
main()
"""
"""The command line in a process that has less memory left for one picture than it needs."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets; the last picture of the second takes 324 MB, within all limits."""
    home = tmp_path_factory.mktemp("home")
    photographs = cells()
    write_folder(photographs[:30], home / "real")
    write_folder(photographs[30:60], home / "synthetic")
    (home / "synthetic" / "metadata.jsonl").unlink()
    Image.new("RGB", (SIDE, SIDE), (90, 60, 30)).save(home / "synthetic" / "zz.png")
    (home / "quick.yaml").write_text(QUICK)
    return home


def gate(home: Path, large: int, out: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", POOR, str(large), "gate", "real", "synthetic",
         "--policy", "quick.yaml", "--workers", "1", "--out", str(out)],
        cwd=home, capture_output=True, text=True, check=False,
        env={**os.environ, "EVALSUITE_CACHE": str(out.parent / "cache")},
    )  # fmt: skip
    return done.returncode, done.stderr


def test_a_run_without_memory_ends_with_what_to_lower_and_blames_no_sample(
    home: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    size = (home / "synthetic" / "zz.png").stat().st_size
    code, said = gate(home, size, out)
    assert code == 3, said
    last = said.strip().splitlines()[-1]
    assert last.startswith("error: memory ran out"), said
    assert "--workers" in last
    assert "max_samples" in last
    assert "Traceback" not in said
    assert not out.exists()

    code, said = gate(home, 0, out)  # with memory enough, over the same cache
    assert code in (0, 1, 4), said
    result = read_result(out)
    assert result.synthetic.n_used == result.synthetic.n_found == 31
    assert result.synthetic.problems == {}


def few(bytes_left: int) -> str:
    return (
        "import resource; from pathlib import Path; "
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize(); "
        f"resource.setrlimit(resource.RLIMIT_AS, (used + {bytes_left},) * 2); "
    )


def test_a_recording_that_does_not_fit_is_not_called_bad(tmp_path: Path) -> None:
    code = (
        "import sys, numpy, soundfile; from evalsuite.data import decode_audio, BadSample; "
        "soundfile.write('a.wav', numpy.zeros(9_000_000), 16_000, subtype='PCM_U8'); "
        "data = open('a.wav', 'rb').read(); decode_audio(data[:3000]); "
        + few(16 * 2**20)
        + "\ntry: decode_audio(data)\nexcept MemoryError: print('no memory')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout == "no memory\n", done.stderr


def _torch() -> object:
    import torch

    return torch.empty(2**48)


def _onnxruntime() -> object:
    import onnxruntime
    from onnx import TensorProto, helper

    shape = helper.make_tensor("n", TensorProto.INT64, [1], [2**46])
    graph = helper.make_graph(
        [helper.make_node("ConstantOfShape", ["n"], ["y"])], "g", [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], [shape],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {})


@pytest.mark.parametrize("allocate", [lambda: np.empty(2**48), _torch, _onnxruntime])
def test_each_librarys_own_error_is_known(allocate: Callable[[], object]) -> None:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each has its own
        allocate()
    assert is_no_memory(caught.value), caught.value
    said = ran_out(caught.value)
    assert said is not None
    assert said.startswith("memory ran out")
    assert "\n" not in said


def test_other_errors_are_not_about_memory_or_disk() -> None:
    for error in (ValueError("x"), OSError(2, "No such file", "a"), EvalsuiteError("memory")):
        assert ran_out(error) is None
    assert ran_out(OSError(28, "No space left on device", "a/b")) == (
        "cannot write to a/b: No space left on device"
    )
    full = sqlite3.OperationalError("database or disk is full")
    assert ran_out(full) == "cannot write: database or disk is full"


def test_a_file_that_asks_for_too_much_is_bad_where_there_is_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A decoder that gives up by itself, while the machine has room, condemns the file."""
    from evalsuite.data import images

    data = cells()[0][0].read_bytes()

    def gives_up(*_: object) -> None:
        raise MemoryError("asked for 8 TB")

    monkeypatch.setattr(images, "_decoded", gives_up)
    with pytest.raises(BadSample) as caught:
        decode_image(data)
    assert caught.value.kind == "oversized"
    monkeypatch.setattr(images, "_is_room", lambda _: False)
    with pytest.raises(MemoryError):
        decode_image(data)
