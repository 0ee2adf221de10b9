"""Every metric on a GPU equals itself on the CPU; runs where there is one."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torchmetrics import Metric

import evalsuite.metrics.streaming
from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.distribution.copying import copy_tests
from evalsuite.metrics.distribution.diversity import vendi_ratio, vendi_score
from evalsuite.metrics.distribution.frechet import (
    frechet_distance,
    frechet_distance_infinity,
    frechet_splits,
)
from evalsuite.metrics.distribution.kernel import KERNELS, kernel_distance, kernel_splits
from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence
from evalsuite.metrics.distribution.manifold import (
    manifold_splits,
    precision_recall_density_coverage,
)
from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.inference import permutation_masks
from evalsuite.metrics.streaming.classifier import ClassifierTwoSample
from evalsuite.metrics.streaming.diversity import VendiRatio, VendiScore
from evalsuite.metrics.streaming.drift import ColumnDrift, DriftTests
from evalsuite.metrics.streaming.frechet import FrechetDistance, FrechetDistanceInfinity
from evalsuite.metrics.streaming.kernel import KernelDistance
from evalsuite.metrics.streaming.manifold import PrecisionRecallDensityCoverage
from evalsuite.metrics.streaming.mauve import Mauve
from evalsuite.metrics.streaming.modes import ModeTests
from evalsuite.metrics.streaming.subgroups import SubgroupTests
from evalsuite.metrics.streaming.training import (
    CopyTests,
    FeatureLikelihoodDivergence,
    UtilityTests,
)
from evalsuite.metrics.streaming.transport import (
    MaxSlicedWasserstein,
    SinkhornDivergence,
    SlicedWasserstein,
)
from evalsuite.metrics.utility.probes import utility_tests
from evalsuite.metrics.utility.subgroups import subgroup_tests

if TYPE_CHECKING:
    from collections.abc import Callable

D = 6
N = 64
RNG = np.random.default_rng(5)
X = RNG.normal(size=(N, D)) + 1
Y = RNG.normal(0.3, 1.2, size=(N, D)) + 1
TRAIN = RNG.normal(size=(N, D)) + 1
LABELS = np.arange(N) % 2
MASKS = permutation_masks(N, N, 3)

Rows = torch.Tensor

FUNCTIONS: dict[str, Callable[[Rows, Rows, Rows], Any]] = {
    "frechet": lambda x, y, _: frechet_distance(x, y, ci=True),
    "frechet_infinity": lambda x, y, _: frechet_distance_infinity(x, y, repeats=3),
    "frechet_few": lambda x, y, _: frechet_distance(x[:4], y[:5]),
    "frechet_some": lambda x, y, _: frechet_distance(x[:4], y),
    "frechet_singular": lambda x, y, _: frechet_distance(x * 0 + x[:, :1], y),
    "frechet_splits": lambda x, y, _: frechet_splits(torch.cat([x, y]), *MASKS),
    **{f"kernel {k}": lambda x, y, _, k=k: kernel_distance(x, y, k) for k in KERNELS},
    "kernel_permuted": lambda x, y, _: kernel_distance(x, y, permutations=19),
    "kernel_splits": lambda x, y, _: kernel_splits(torch.cat([x, y]), *MASKS, ("energy",)),
    "manifold": lambda x, y, _: precision_recall_density_coverage(x, y, k=3),
    "manifold_splits": lambda x, y, _: manifold_splits(torch.cat([x, y]), *MASKS, 3),
    "classifier": lambda x, y, _: classifier_two_sample_test(x, y, permutations=9),
    "sliced": lambda x, y, _: sliced_wasserstein(x, y, directions=16, ci=True),
    "max_sliced": lambda x, y, _: max_sliced_wasserstein(x, y, directions=8, steps=5, ci=True),
    "sinkhorn": lambda x, y, _: sinkhorn_divergence(x, y, blur=1.5, ci=True),
    "mauve": lambda x, y, _: mauve(x, y, seeds=1, ci=True),
    "vendi": lambda x, _, __: vendi_score(x, ci=True),
    "vendi_rbf": lambda x, _, __: vendi_score(x, kernel="rbf", bandwidth=2.0),
    "vendi_ratio": lambda x, y, _: vendi_ratio(x, y),
    "likelihood": lambda x, y, train: feature_likelihood_divergence(train, x, y),
    "copies": lambda x, y, train: copy_tests(train, x, y, permutations=19),
    "modes": lambda x, y, _: mode_tests(x, y, permutations=9, splits=4),
    "utility": lambda x, y, train: utility_tests((train, LABELS), (y, LABELS), (x, LABELS)),
    "subgroups": lambda x, y, _: subgroup_tests(
        x, y, LABELS, LABELS, min_n=20, splits=4, permutations=9
    ),
}

STREAMS: dict[str, Callable[[], Metric]] = {
    "frechet": lambda: FrechetDistance(D),
    "infinity": lambda: FrechetDistanceInfinity(repeats=3),
    "kernel": KernelDistance,
    "blocks": lambda: KernelDistance(estimator="block", block_size=16),
    "manifold": lambda: PrecisionRecallDensityCoverage(k=3),
    "classifier": ClassifierTwoSample,
    "sliced": SlicedWasserstein,
    "max_sliced": lambda: MaxSlicedWasserstein(directions=8, steps=5),
    "sinkhorn": lambda: SinkhornDivergence(1.5),
    "mauve": lambda: Mauve(seeds=1),
    "vendi": lambda: VendiScore(D),
    "vendi_ratio": VendiRatio,
    "columns": lambda: ColumnDrift([[0.0, 1.0, 2.0]] * D),
    "tables": DriftTests,
    "copies": lambda: CopyTests(TRAIN),
    "likelihood": lambda: FeatureLikelihoodDivergence(TRAIN),
    "modes": lambda: ModeTests(splits=4),
    "subgroups": lambda: SubgroupTests(min_n=20),
    "utility": lambda: UtilityTests(TRAIN, torch.from_numpy(LABELS)),
}

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
needs_mps = pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs Apple's MPS")


def numbers(result: Any) -> list[float]:
    """All numbers of a result, however deep, in their order."""
    if result is None or isinstance(result, str):
        return []
    if isinstance(result, dict):
        return [v for value in result.values() for v in numbers(value)]
    if isinstance(result, list | tuple):
        return [v for value in result for v in numbers(value)]
    if isinstance(result, torch.Tensor):
        return result.detach().double().cpu().flatten().tolist()
    if isinstance(result, np.ndarray):
        return result.astype(np.float64).ravel().tolist()
    if hasattr(result, "__dataclass_fields__"):
        return [v for name in result.__dataclass_fields__ for v in numbers(getattr(result, name))]
    return [float(result)]


def on(device: str) -> tuple[Rows, Rows, Rows]:
    x, y, train = (torch.from_numpy(rows).to(device) for rows in (X, Y, TRAIN))
    return x, y, train


def streamed(make: Callable[[], Metric], device: str) -> Any:
    metric = make().to(device)
    x, y, _ = on(device)
    labels = torch.from_numpy(LABELS).to(device)
    for rows, real in ((x, True), (y, False)):
        for part in (slice(0, 40), slice(40, None)):
            given: dict[str, Any] = {"real": real}
            if isinstance(metric, SubgroupTests | UtilityTests):
                given["labels"] = labels[part]
            metric.update(rows[part], **given)
    return metric.compute()


def test_every_streaming_class_is_here() -> None:
    package = evalsuite.metrics.streaming
    found = set()
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            found |= {
                c
                for c in vars(module).values()
                if isinstance(c, type) and issubclass(c, Metric) and c.__module__ == module.__name__
            }
    assert found == {type(make()) for make in STREAMS.values()}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_case_gives_numbers_on_the_cpu(name: str) -> None:
    """So that what a GPU is compared with is known to run."""
    found = numbers(FUNCTIONS[name](*on("cpu")))
    assert found
    assert np.isfinite(found).any()


@needs_cuda
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_on_cuda_equal_the_cpu(name: str) -> None:
    want, got = (numbers(FUNCTIONS[name](*on(device))) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@needs_cuda
@pytest.mark.parametrize("name", STREAMS)
def test_streams_on_cuda_equal_the_cpu(name: str) -> None:
    want, got = (streamed(STREAMS[name], device) for device in ("cpu", "cuda"))
    parts = got.values() if isinstance(got, dict) else [got]
    assert {part.device.type for part in parts} == {"cuda"}
    np.testing.assert_allclose(numbers(got), numbers(want), rtol=1e-6, atol=1e-8)


@needs_mps
@pytest.mark.parametrize("name", STREAMS)
def test_streams_take_features_from_mps(name: str) -> None:
    """Which has no float64: what comes from there is computed on the CPU."""
    metric = STREAMS[name]().to("mps")
    assert metric.device.type == "cpu"
    rows = torch.from_numpy(X).float().to("mps")
    if not isinstance(metric, SubgroupTests | UtilityTests):
        metric.update(rows, real=False)
