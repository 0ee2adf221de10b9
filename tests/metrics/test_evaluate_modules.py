"""The `evaluate` modules, loaded from where they are installed, with no network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.distribution.diversity import vendi_score
from evalsuite.metrics.distribution.frechet import frechet_distance
from evalsuite.metrics.distribution.kernel import KERNELS, kernel_distance
from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage
from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.distribution.transport import sliced_wasserstein
from evalsuite.metrics.evaluate_modules import EVALUATE_MODULES, evaluate_module_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType


@pytest.fixture(scope="module")
def evaluate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """`evaluate`, with all its folders in a temporary place and every connection refused."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"a connection was tried: {args}")

    home = tmp_path_factory.mktemp("hf")
    patch = pytest.MonkeyPatch()
    patch.setenv("HF_EVALUATE_OFFLINE", "1")
    patch.setenv("HF_HUB_OFFLINE", "1")
    import evaluate as package
    from evaluate import config

    patch.setattr(config, "HF_EVALUATE_OFFLINE", True)
    # Read once, on import: another test may have been first.
    for name in ("HF_MODULES_CACHE", "HF_METRICS_CACHE", "HF_EVALUATE_CACHE"):
        patch.setattr(config, name, home / name.lower())
    patch.setattr(socket, "create_connection", refuse)
    patch.setattr(socket.socket, "connect", refuse)
    yield package
    patch.undo()


@pytest.fixture(scope="module")
def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return rng.normal(size=(120, 7)) + 2, rng.normal(0.4, 1.3, size=(90, 7)) + 2


def expected(name: str, real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    if name == "frechet_distance":
        return {name: frechet_distance(real, synthetic).value}
    if name == "vendi_score":
        return {name: vendi_score(synthetic).value}
    if name == "kernel_distance":
        result = kernel_distance(real, synthetic)
        assert result.ci is not None
        return {name: result.value, f"{name}_low": result.ci.low, f"{name}_high": result.ci.high}
    if name == "sliced_wasserstein":
        return {name: sliced_wasserstein(real, synthetic).value}
    if name == "mauve":
        return {name: mauve(real, synthetic).value}
    if name == "classifier_two_sample_test":
        told = classifier_two_sample_test(real, synthetic, permutations=0)
        return {
            "classifier_effect": told.effect,
            "classifier_auc": told.auc,
            "classifier_effect_low": told.ci.low,
            "classifier_effect_high": told.ci.high,
        }
    manifold = precision_recall_density_coverage(real, synthetic, level=None)
    return {k: getattr(manifold, k) for k in ("precision", "recall", "density", "coverage")}


@pytest.mark.parametrize("name", EVALUATE_MODULES)
def test_equals_the_function_to_the_last_digit(
    evaluate: Any, data: tuple[np.ndarray, np.ndarray], name: str
) -> None:
    real, synthetic = data
    module = evaluate.load(evaluate_module_path(name))
    assert module.compute(predictions=synthetic, references=real) == expected(name, *data)
    # The same from batches of any size on either side, as lists, arrays and tensors.
    for start in range(0, 120, 50):
        module.add_batch(
            predictions=torch.from_numpy(synthetic[start : start + 50]),
            references=real[start : start + 50].tolist(),
        )
    assert module.compute() == expected(name, *data)


def test_all_combine(evaluate: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    real, synthetic = data
    suite = evaluate.combine([evaluate_module_path(name) for name in EVALUATE_MODULES])
    together: dict[str, float] = {}
    for name in EVALUATE_MODULES:
        together |= expected(name, *data)
    assert suite.compute(predictions=synthetic, references=real) == together
    for i in range(0, 120, 40):
        suite.add_batch(predictions=synthetic[i : i + 40], references=real[i : i + 40])
    assert suite.compute() == together


def test_samples_one_by_one(evaluate: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    real, synthetic = data[0][:40], data[1][:40]
    module = evaluate.load(evaluate_module_path("frechet_distance"))
    for x, y in zip(real, synthetic, strict=True):
        module.add(prediction=y, reference=x)
    assert module.compute() == expected("frechet_distance", real, synthetic)


def test_single_precision_is_widened_and_not_rounded(evaluate: Any) -> None:
    rng = np.random.default_rng(0)
    real, synthetic = (rng.normal(1e3, 1, size=(60, 5)).astype(np.float32) for _ in range(2))
    module = evaluate.load(evaluate_module_path("kernel_distance"))
    got = module.compute(predictions=synthetic, references=real)["kernel_distance"]
    assert got == kernel_distance(real.astype(np.float64), synthetic.astype(np.float64)).value


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_kernel_is_the_configuration(
    evaluate: Any, data: tuple[np.ndarray, np.ndarray], kernel: str
) -> None:
    module = evaluate.load(evaluate_module_path("kernel_distance"), kernel)
    got = module.compute(predictions=data[1], references=data[0])
    assert got["kernel_distance"] == kernel_distance(*data, kernel).value


def test_options_and_intervals(evaluate: Any, data: tuple[np.ndarray, np.ndarray]) -> None:
    real, synthetic = data

    def load(name: str) -> Any:
        return evaluate.load(evaluate_module_path(name))

    both = {"predictions": synthetic, "references": real}
    got = load("precision_recall_density_coverage").compute(**both, k=3, ci=True)
    want = precision_recall_density_coverage(real, synthetic, k=3)
    assert got["density"] == want.density
    assert got["recall_low"] == want.intervals["recall"].low
    assert got["coverage_high"] == want.intervals["coverage"].high
    got = load("frechet_distance").compute(**both, ci=True)
    interval = frechet_distance(real, synthetic, ci=True).ci
    assert interval is not None
    assert (got["frechet_distance_low"], got["frechet_distance_high"]) == (
        interval.low,
        interval.high,
    )
    for name, function in (("sliced_wasserstein", sliced_wasserstein), ("mauve", mauve)):
        got = load(name).compute(**both, ci=True)
        ends = function(real, synthetic, ci=True).ci
        assert ends is not None
        assert (got[f"{name}_low"], got[f"{name}_high"]) == (ends.low, ends.high)
    got = load("classifier_two_sample_test").compute(**both, permutations=9)
    told = classifier_two_sample_test(real, synthetic, permutations=9)
    assert got["classifier_p_value"] == told.p_value
    got = load("vendi_score").compute(predictions=synthetic, q=2)
    assert got == {"vendi_score": vendi_score(synthetic, q=2).value}
    got = load("kernel_distance").compute(**both)
    want_rbf = kernel_distance(real, synthetic, "rbf", bandwidth=0.7).value
    rbf = evaluate.load(evaluate_module_path("kernel_distance"), "rbf")
    assert rbf.compute(**both, bandwidth=0.7)["kernel_distance"] == want_rbf
    assert got["kernel_distance"] != want_rbf


def test_what_is_wrong_is_said(evaluate: Any) -> None:
    with pytest.raises(ValueError, match=r"no evaluate module 'fid'; there are: classifier_two"):
        evaluate_module_path("fid")
    path = evaluate_module_path("kernel_distance")
    with pytest.raises(ValueError, match=r"one of polynomial.*got 'gaussian'"):
        evaluate.load(path, "gaussian")
    module = evaluate.load(path)
    with pytest.raises(ValueError, match=r"predictions have .* lengths: \[1, 2\]"):
        module.compute(predictions=[[1.0], [1.0, 2.0]], references=[[1.0], [2.0]])
    module = evaluate.load(path)
    with pytest.raises(ValueError, match="no references"):
        module.compute(predictions=[[1.0], [2.0]])
    module = evaluate.load(path)
    with pytest.raises(ValueError, match="synthetic has NaN or infinite values"):
        module.compute(predictions=[[np.nan], [2.0]], references=[[1.0], [2.0]])


def test_a_fresh_process_needs_no_network_and_writes_to_its_cache_alone(tmp_path: Path) -> None:
    """As a user runs it: the environment alone says offline, and the home folder stays empty."""
    code = """
import socket

def refuse(*args, **kwargs):
    raise SystemExit("a connection was tried")

socket.create_connection = socket.socket.connect = refuse
import evaluate
from evalsuite.metrics.evaluate_modules import EVALUATE_MODULES, evaluate_module_path

suite = evaluate.combine([evaluate_module_path(name) for name in EVALUATE_MODULES])
x = [[float(i % 7), float(i * i % 11)] for i in range(1, 30)]
print(suite.compute(predictions=[[a, b + 1] for a, b in x], references=x)["frechet_distance"])
"""
    home = tmp_path / "home"
    home.mkdir()
    keep = ("PATH", "LANG", "OMP_NUM_THREADS", "SYSTEMROOT", "VIRTUAL_ENV")
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={k: os.environ[k] for k in keep if k in os.environ}
        | {"HOME": str(home), "HF_HOME": str(tmp_path / "hf"), "HF_EVALUATE_OFFLINE": "1"}
        | {"HF_HUB_OFFLINE": "1"},
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(1.0, rel=1e-9)
    assert list(home.iterdir()) == []
    cached = {path.name for path in (tmp_path / "hf" / "modules").rglob("*.py")}
    assert cached >= {f"{name}.py" for name in EVALUATE_MODULES}
