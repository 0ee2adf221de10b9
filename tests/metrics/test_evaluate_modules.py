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
from evalsuite.metrics.distribution.copying import copy_tests
from evalsuite.metrics.distribution.diversity import vendi_ratio, vendi_score
from evalsuite.metrics.distribution.frechet import frechet_distance, frechet_distance_infinity
from evalsuite.metrics.distribution.kernel import KERNELS, kernel_distance
from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence
from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage
from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.drift.multiplicity import adjust_pvalues
from evalsuite.metrics.drift.univariate import numeric_drift
from evalsuite.metrics.evaluate_modules import (
    EVALUATE_MODULES,
    EVALUATE_MODULES_WITH_MORE,
    evaluate_module_path,
)
from evalsuite.metrics.utility.probes import utility_tests
from evalsuite.metrics.utility.subgroups import subgroup_tests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from evalsuite.metrics._result import Interval


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


def ends(name: str, value: float, interval: Interval | None) -> dict[str, float]:
    if interval is None:
        return {name: value}
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def of_manifold(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    manifold = precision_recall_density_coverage(real, synthetic, level=None)
    return {k: getattr(manifold, k) for k in ("precision", "recall", "density", "coverage")}


def of_classifier(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    told = classifier_two_sample_test(real, synthetic, permutations=0)
    return {**ends("classifier_effect", told.effect, told.ci), "classifier_auc": told.auc}


def of_modes(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    modes = mode_tests(real, synthetic, permutations=1)
    hits, birthday = modes.hits, modes.birthday
    return {
        "ndb": modes.ndb.value,
        **ends("effective_hits", hits.value, hits.interval),
        **ends("collision_rate", birthday.value, birthday.interval),
    }


def of_drift(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    columns = [numeric_drift(x, y) for x, y in zip(real.T, synthetic.T, strict=True)]
    adjusted = adjust_pvalues([c.p_value for c in columns], "bh")
    return {
        "drifted_columns": int((adjusted <= 0.05).sum()),
        "largest_wasserstein": max(c.wasserstein for c in columns),
        "largest_ks": max(c.ks for c in columns),
    }


def alone(function: Any) -> Any:
    def told(real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
        found = function(real, synthetic)
        return ends(function.__name__, found.value, found.ci)

    return told


EXPECTED: dict[str, Callable[[np.ndarray, np.ndarray], dict[str, float]]] = {
    "classifier_two_sample_test": of_classifier,
    "drift_tests": of_drift,
    "mode_tests": of_modes,
    "precision_recall_density_coverage": of_manifold,
    "vendi_score": lambda _, y: {"vendi_score": vendi_score(y).value},
    **{
        function.__name__: alone(function)
        for function in (
            frechet_distance, frechet_distance_infinity, kernel_distance, mauve,
            max_sliced_wasserstein, sinkhorn_divergence, sliced_wasserstein, vendi_ratio,
        )
    },
}  # fmt: skip


def expected(name: str, real: np.ndarray, synthetic: np.ndarray) -> dict[str, float]:
    return EXPECTED[name](real, synthetic)


def test_every_installed_module_is_listed_and_tested_here() -> None:
    root = Path(evaluate_module_path("mauve")).parent
    folders = {p.name for p in root.iterdir() if (p / f"{p.name}.py").exists()}
    assert folders == {*EVALUATE_MODULES, *EVALUATE_MODULES_WITH_MORE}
    assert set(EXPECTED) == set(EVALUATE_MODULES)


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
    for name, function in (
        ("sliced_wasserstein", sliced_wasserstein),
        ("max_sliced_wasserstein", max_sliced_wasserstein),
        ("sinkhorn_divergence", sinkhorn_divergence),
        ("mauve", mauve),
    ):
        got = load(name).compute(**both, ci=True)
        want_ci = function(real, synthetic, ci=True)
        assert want_ci.ci is not None
        assert got == ends(name, want_ci.value, want_ci.ci)
    got = load("classifier_two_sample_test").compute(**both, permutations=9)
    told = classifier_two_sample_test(real, synthetic, permutations=9)
    assert got["classifier_p_value"] == told.p_value
    got = load("mode_tests").compute(**both, permutations=9)
    adjusted = mode_tests(real, synthetic, permutations=9).p_adjusted
    assert {k: got[f"{k}_p_value"] for k in adjusted} == adjusted
    drifted = [
        load("drift_tests").compute(**both, alpha=a)["drifted_columns"] for a in (1e-6, 0.05)
    ]
    assert drifted == [0, 7]
    diverse = vendi_score(synthetic, ci=True)
    got = load("vendi_score").compute(predictions=synthetic, ci=True)
    assert got == ends("vendi_score", diverse.value, diverse.ci)
    got = load("vendi_score").compute(predictions=synthetic, q=2)
    assert got == {"vendi_score": vendi_score(synthetic, q=2).value}
    got = load("kernel_distance").compute(**both)
    want_rbf = kernel_distance(real, synthetic, "rbf", bandwidth=0.7).value
    rbf = evaluate.load(evaluate_module_path("kernel_distance"), "rbf")
    assert rbf.compute(**both, bandwidth=0.7)["kernel_distance"] == want_rbf
    assert got["kernel_distance"] != want_rbf


def test_modules_with_training_data_or_labels(
    evaluate: Any, data: tuple[np.ndarray, np.ndarray]
) -> None:
    real, synthetic = data
    rng = np.random.default_rng(8)
    train = rng.normal(size=(80, 7)) + 2
    of_train, of_real, of_synthetic = (
        (rows[:, 0] > 2).astype(int).tolist() for rows in (train, real, synthetic)
    )
    labels = {"prediction_labels": of_synthetic, "reference_labels": of_real}
    suite = evaluate.combine(
        [
            evaluate.load(evaluate_module_path("copy_tests"), train=train),
            evaluate.load(evaluate_module_path("feature_likelihood_divergence"), train=train),
            evaluate.load(
                evaluate_module_path("utility_tests"), train=train, train_labels=of_train
            ),
            evaluate.load(evaluate_module_path("subgroup_tests")),
            evaluate_module_path("frechet_distance"),
        ]
    )
    for part in (slice(0, 50), slice(50, None)):
        suite.add_batch(
            predictions=synthetic[part],
            references=real[part],
            **{name: column[part] for name, column in labels.items()},
        )
    got = suite.compute()

    copies = copy_tests(train, real, synthetic)
    near, auc = copies.near_duplicates, copies.membership
    likely = feature_likelihood_divergence(train, real, synthetic)
    names = [list(map(str, column)) for column in (of_train, of_synthetic, of_real)]
    use = utility_tests(
        (train, names[0]), (synthetic, names[1]), (real, names[2]), probes=("linear",)
    ).probes["linear"]
    groups = subgroup_tests(real, synthetic, names[2], names[1])
    want = {
        **ends("near_duplicate_share", near.value, near.interval),
        **ends("dcr_share", copies.dcr.value, copies.dcr.interval),
        "authenticity": copies.authenticity.value,
        **ends("c_t", copies.c_t.value, copies.c_t.interval),
        **ends("membership_auc", auc.value, auc.interval),
        "copying_p_value": min(copies.p_adjusted.values()),
        **ends("feature_likelihood_divergence", likely.value, likely.ci),
        **ends("tstr_ratio", use.value, use.interval),
        "tstr": use.tstr.value,
        "trts": use.trts.value,
        "trtr": use.trtr.value,
        **ends("share_distance", groups.shares.value, groups.shares.interval),
        **expected("frechet_distance", real, synthetic),
    }
    # Both classes are too small for a gap, and none is made up.
    assert {g.label for g in groups.gaps} <= {"0", "1"}
    if groups.worst is not None:
        want["worst_group_gap"] = groups.worst.kernels["polynomial"].relative
    assert got == want
    module = evaluate.load(evaluate_module_path("subgroup_tests"))
    with pytest.raises(ValueError, match="prediction_labels"):
        module.compute(predictions=synthetic, references=real)
    with pytest.raises(TypeError, match="train"):
        evaluate.load(evaluate_module_path("copy_tests"))


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
x = [[float(i % 7), float(i * i % 11)] for i in range(1, 60)]
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
