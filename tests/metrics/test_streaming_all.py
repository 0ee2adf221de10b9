"""What every streaming metric must do: in Lightning, in a collection, in shards and on ranks."""

from __future__ import annotations

import copy
import importlib
import io
import json
import pickle
import pkgutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics import Metric, MetricCollection

import evalsuite.metrics.streaming
from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.distribution.copying import copy_tests
from evalsuite.metrics.distribution.diversity import vendi_ratio, vendi_score
from evalsuite.metrics.distribution.frechet import frechet_distance, frechet_distance_infinity
from evalsuite.metrics.distribution.kernel import kernel_distance
from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence
from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage
from evalsuite.metrics.distribution.mauve import mauve
from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.drift.categorical import total_variation
from evalsuite.metrics.drift.multiplicity import adjust_pvalues
from evalsuite.metrics.drift.univariate import jensen_shannon, numeric_drift, psi
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
    from pathlib import Path

D = 4
BLOCK = 6
TRAIN = np.random.default_rng(9).normal(1.0, 1, (40, D))
EDGES = np.quantile(TRAIN, [0.2, 0.4, 0.6, 0.8], axis=0).T


def blocks(x: np.ndarray, y: np.ndarray) -> float:
    starts = range(0, min(len(x), len(y)) - BLOCK + 1, BLOCK)
    return float(
        np.mean([kernel_distance(x[i : i + BLOCK], y[i : i + BLOCK]).value for i in starts])
    )


def manifold(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    result = precision_recall_density_coverage(x, y, k=2, level=None)
    return {k: getattr(result, k) for k in ("precision", "recall", "density", "coverage")}


def copies(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = copy_tests(TRAIN, x, y, permutations=1)
    return {
        "near_duplicate_share": found.near_duplicates.value,
        "dcr_share": found.dcr.value,
        "authenticity": found.authenticity.value,
        "c_t": found.c_t.value,
        "membership_auc": found.membership.value,
    }


def columns(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    worst: dict[str, float] = {}
    for j, edges in enumerate(EDGES):
        a, b = x[:, j], y[:, j]
        cells = [np.searchsorted(edges, v, side="left") for v in (a, b)]
        shares = [np.bincount(c, minlength=5) / len(c) for c in cells]
        for name, value in (
            ("psi", psi(a, b, edges=edges, permutations=1).value),
            ("jensen_shannon", jensen_shannon(a, b, edges=edges, permutations=1).value),
            ("total_variation", total_variation(*map(list, cells), permutations=1).value),
            ("ks", float(np.abs(np.cumsum(shares[0] - shares[1])).max())),
        ):
            worst[f"worst_{name}"] = max(value, worst.get(f"worst_{name}", 0.0))
    return worst


def drifts(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    found = [numeric_drift(a, b) for a, b in zip(x.T, y.T, strict=True)]
    adjusted = adjust_pvalues([f.p_value for f in found], "bh")
    return {
        "drifted_columns": float((adjusted <= 0.05).sum()),
        "largest_wasserstein": max(f.wasserstein for f in found),
        "largest_ks": max(f.ks for f in found),
    }


@dataclass(frozen=True)
class Case:
    """A streaming metric, and the function that it must equal on all rows together."""

    make: Callable[[], Metric]
    function: Callable[[np.ndarray, np.ndarray], float | dict[str, float]]
    # Whether it does not matter where in the stream a row comes.
    any_order: bool = True


CASES = {
    "frechet": Case(lambda: FrechetDistance(D), lambda x, y: frechet_distance(x, y).value),
    "kid": Case(KernelDistance, lambda x, y: kernel_distance(x, y).value),
    "rbf": Case(
        lambda: KernelDistance("rbf", bandwidth=2.0),
        lambda x, y: kernel_distance(x, y, "rbf", bandwidth=2.0).value,
    ),
    "blocks": Case(
        lambda: KernelDistance(estimator="block", block_size=BLOCK), blocks, any_order=False
    ),
    "manifold": Case(lambda: PrecisionRecallDensityCoverage(k=2), manifold),
    "classifier": Case(
        lambda: ClassifierTwoSample(folds=3),
        lambda x, y: classifier_two_sample_test(x, y, folds=3, permutations=0).effect,
        any_order=False,
    ),
    "infinity": Case(
        lambda: FrechetDistanceInfinity(points=1, repeats=2),
        lambda x, y: frechet_distance_infinity(x, y, points=1, repeats=2).value,
        any_order=False,
    ),
    "vendi_ratio": Case(
        lambda: VendiRatio(repeats=2),
        lambda x, y: vendi_ratio(x, y, repeats=2).value,
        any_order=False,
    ),
    "tables": Case(DriftTests, drifts),
    "sliced": Case(
        lambda: SlicedWasserstein(directions=8),
        lambda x, y: sliced_wasserstein(x, y, directions=8).value,
    ),
    "max_sliced": Case(
        lambda: MaxSlicedWasserstein(directions=8, steps=5),
        lambda x, y: max_sliced_wasserstein(x, y, directions=8, steps=5).value,
        any_order=False,
    ),
    "sinkhorn": Case(
        lambda: SinkhornDivergence(1.5), lambda x, y: sinkhorn_divergence(x, y, blur=1.5).value
    ),
    "mauve": Case(
        lambda: Mauve(3, seeds=1),
        lambda x, y: mauve(x, y, clusters=3, seeds=1).value,
        any_order=False,
    ),
    "likelihood": Case(
        lambda: FeatureLikelihoodDivergence(TRAIN),
        lambda x, y: feature_likelihood_divergence(TRAIN, x, y).value,
    ),
    "copies": Case(lambda: CopyTests(TRAIN), copies, any_order=False),
    "columns": Case(lambda: ColumnDrift(EDGES), columns),
    "vendi": Case(lambda: VendiScore(D), lambda _, y: vendi_score(y).value),
}

SEVERAL = {"manifold", "copies", "columns", "tables"}
"""Metrics of more than one value, which Lightning cannot log by themselves."""

every_case = pytest.mark.parametrize("name", CASES)


def pair(n: int = 48, m: int = 36, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(1.0, 1, (n, D)), rng.normal(1.5, 1.2, (m, D))


def fed(make: Callable[[], Metric], x: np.ndarray, y: np.ndarray) -> Metric:
    metric = make()
    for rows, real in ((x, True), (y, False)):
        if len(rows):
            metric.update(torch.from_numpy(rows), real=real)
    return metric


def same(got: Any, want: Any, rel: float = 1e-9) -> None:
    if isinstance(want, dict):
        assert {k: float(v) for k, v in got.items()} == pytest.approx(want, rel=rel, abs=1e-12)
    else:
        assert float(got) == pytest.approx(want, rel=rel, abs=1e-12)


def flat(name: str, want: float | dict[str, float]) -> dict[str, float]:
    return want if isinstance(want, dict) else {name: want}


def test_every_streaming_class_is_tested_here() -> None:
    found = set()
    package = evalsuite.metrics.streaming
    for info in pkgutil.iter_modules(package.__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{package.__name__}.{info.name}")
            found |= {
                c
                for c in vars(module).values()
                if isinstance(c, type) and issubclass(c, Metric) and c.__module__ == module.__name__
            }
    # Those need more rows, or labels: they have tests of their own at the end.
    assert found == {type(case.make()) for case in CASES.values()} | {
        ModeTests, SubgroupTests, UtilityTests,
    }  # fmt: skip


# Lightning --------------------------------------------------------------------------------------


class Study(lightning.LightningModule):
    """A tiny generator that is measured at the end of each epoch."""

    def __init__(self, metrics: MetricCollection, alone: dict[str, Metric]) -> None:
        super().__init__()
        self.generator = torch.nn.Linear(D, D)
        self.metrics = metrics
        self.alone = torch.nn.ModuleDict(alone)
        self.seen: list[dict[str, float]] = []
        self.rows: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = []

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        real, noise = batch
        return (self.generator(noise).mean(0) - real.mean(0)).square().sum()

    def on_validation_epoch_start(self) -> None:
        self.rows.append(([], []))

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        real, noise = batch
        synthetic = self.generator(noise)
        for features, is_real in ((real, True), (synthetic, False)):
            self.rows[-1][1 - is_real].append(features.clone())
            self.metrics.update(features, real=is_real)
            for metric in self.alone.values():
                metric.update(features, real=is_real)
        # Lightning computes these at the end of the epoch, and resets them.
        for name, metric in self.alone.items():
            self.log(f"alone_{name}", metric, on_epoch=True)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.metrics.compute())
        self.metrics.reset()

    def on_train_epoch_end(self) -> None:
        self.seen.append({k: float(v) for k, v in self.trainer.callback_metrics.items()})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.2)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_lightning_logs_each_epoch_for_itself(tmp_path: Path, precision: Any) -> None:
    torch.manual_seed(0)
    x, _ = pair(72, 1)
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(x).float(), torch.randn(72, D, generator=torch.Generator().manual_seed(1))
    )
    loader = torch.utils.data.DataLoader(data, batch_size=16)
    alone = {name: case.make() for name, case in CASES.items() if name not in SEVERAL}
    study = Study(MetricCollection({name: case.make() for name, case in CASES.items()}), alone)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", precision=precision, default_root_dir=tmp_path,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=2,
    )  # fmt: skip
    trainer.fit(study, loader, loader)
    assert len(study.seen) == 2
    # The first entry is Lightning's own sanity check, which must leave nothing behind.
    for seen, rows in zip(study.seen, study.rows[1:], strict=True):
        real, synthetic = (torch.cat(side).detach() for side in rows)
        assert (real.dtype == torch.bfloat16) == (precision == "bf16-true")
        for name, case in CASES.items():
            widened = (side.float() for side in (real, synthetic))
            for key, value in flat(name, case.function(*widened)).items():
                # Lightning gathers values in float32.
                assert seen[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
                if name in alone:
                    assert seen[f"alone_{key}"] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    assert study.seen[0]["frechet"] != study.seen[1]["frechet"]


# Collections ------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [True, False])
def test_a_collection_gives_what_each_gives_alone(groups: bool) -> None:
    """With compute groups metrics of equal state share it: none may take what is not its own."""
    others = {
        "vendi_real": lambda: VendiScore(D, side="real"),
        "vendi_2": lambda: VendiScore(D, q=2),
        "energy": lambda: KernelDistance("energy"),
        "blocks_rbf": lambda: KernelDistance(
            "rbf", estimator="block", bandwidth=2.0, block_size=BLOCK
        ),
        "blocks_9": lambda: KernelDistance(estimator="block", block_size=9),
        "cubes": lambda: PrecisionRecallDensityCoverage(k=4),
    }
    makers = {name: case.make for name, case in CASES.items()} | others
    together = MetricCollection(
        {name: make() for name, make in makers.items()}, compute_groups=groups
    )
    for seed in (0, 1):
        x, y = pair(seed=seed)
        alone = {name: make() for name, make in makers.items()}
        for rows, real in ((x, True), (y, False)):
            for batch in np.array_split(rows, 3):
                together.update(batch, real=real)
                for metric in alone.values():
                    metric.update(batch, real=real)
        values = together.compute()
        for name, metric in alone.items():
            value = metric.compute()
            if isinstance(value, dict):
                for key, v in value.items():
                    found = [got for k, got in values.items() if k in (key, f"{name}_{key}")]
                    assert float(v) in [float(got) for got in found]
            else:
                assert float(values[name]) == float(value), name
        together.reset()


# One metric -------------------------------------------------------------------------------------


@every_case
def test_equals_the_function_and_forgets_on_reset(name: str) -> None:
    case = CASES[name]
    metric = case.make()
    for seed in (0, 1):
        x, y = pair(seed=seed)
        for batch in np.array_split(x, 5):
            metric.update(batch, real=True)
        for batch in np.array_split(y, 3):
            metric.update(torch.from_numpy(batch), real=False)
        same(metric.compute(), case.function(x, y))
        metric.reset()
    with pytest.raises(ValueError, match=r"\breal\b|\bsynthetic\b"):
        metric.compute()


@every_case
def test_saved_and_loaded_goes_on(name: str) -> None:
    case = CASES[name]
    x, y = pair()
    metric = fed(case.make, x[:20], y[:20])
    assert metric.state_dict() == {}
    metric.persistent(True)
    buffer = io.BytesIO()
    torch.save(metric.state_dict(), buffer)
    buffer.seek(0)
    loaded = case.make()
    loaded.persistent(True)
    loaded.load_state_dict(torch.load(buffer, weights_only=True))
    loaded.update(x[20:], real=True)
    loaded.update(y[20:], real=False)
    same(loaded.compute(), case.function(x, y))


@every_case
@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_alone(name: str, clone: Callable[[Metric], Metric]) -> None:
    case = CASES[name]
    x, y = pair()
    metric = fed(case.make, x[:20], y[:20])
    copied = clone(metric)
    copied.update(x[20:], real=True)
    copied.update(y[20:], real=False)
    same(copied.compute(), case.function(x, y))
    same(metric.compute(), case.function(x[:20], y[:20]))


@every_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_input_and_modules(name: str, dtype: torch.dtype) -> None:
    """Features are widened, not computed in half; casting the module leaves the states as wide."""
    case = CASES[name]
    x, y = (torch.from_numpy(rows).to(dtype) for rows in pair())
    metric = case.make()
    torch.nn.ModuleDict({"metric": metric}).to(dtype)
    for rows, real in ((x, True), (y, False)):
        for batch in rows.split(10):
            metric.update(batch, real=real)
    value = metric.compute()
    same(value, case.function(x.float(), y.float()))
    for number in value.values() if isinstance(value, dict) else [value]:
        assert number.dtype == torch.float64


@every_case
def test_a_buffer_that_is_filled_again_changes_nothing(name: str) -> None:
    case = CASES[name]
    x, y = pair()
    metric = case.make()
    buffer = np.empty((12, D))
    for rows, real in ((x, True), (y, False)):
        for start in range(0, len(rows), 12):
            buffer[:] = rows[start : start + 12]
            metric.update(buffer, real=real)
    same(metric.compute(), case.function(x, y))


# Shards -----------------------------------------------------------------------------------------


@every_case
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_merging_any_partition_equals_the_whole(name: str, data: st.DataObject) -> None:
    case = CASES[name]
    x, y = pair(30, 24)
    count = data.draw(st.integers(2, 4))
    if case.any_order:
        owners = [
            np.array(data.draw(st.lists(st.integers(0, count - 1), min_size=n, max_size=n)))
            for n in (len(x), len(y))
        ]
    else:
        # Shards that follow one another, in whole blocks.
        owners = [
            np.sort(data.draw(st.lists(st.integers(0, count - 1), min_size=k, max_size=k))).repeat(
                6
            )
            for k in (len(x) // 6, len(y) // 6)
        ]
    shards = [fed(case.make, x[owners[0] == i], y[owners[1] == i]) for i in range(count)]
    order = list(range(count))
    if case.any_order:
        order = data.draw(st.permutations(order))
    # torchmetrics puts the incoming rows first.
    total = shards[order[-1]]
    for i in reversed(order[:-1]):
        total.merge_state(shards[i])
    if name == "blocks":
        # Which rows share a block depends on the shards; how many blocks there are does not.
        assert float(total.blocks[0]) == min(len(x), len(y)) // BLOCK
    else:
        same(total.compute(), case.function(x, y))


@every_case
def test_a_value_computed_before_a_merge_is_not_kept(name: str) -> None:
    case = CASES[name]
    x, y = pair()
    left, right = fed(case.make, x[12:], y[12:]), fed(case.make, x[:12], y[:12])
    left.compute()
    left.merge_state(right)
    same(left.compute(), case.function(x, y))


# Ranks ------------------------------------------------------------------------------------------

RANK = """
import json
import sys
from pathlib import Path

import numpy as np
import torch
from evalsuite.metrics.streaming.classifier import ClassifierTwoSample
from evalsuite.metrics.streaming.diversity import VendiRatio, VendiScore
from evalsuite.metrics.streaming.frechet import FrechetDistance, FrechetDistanceInfinity
from evalsuite.metrics.streaming.kernel import KernelDistance
from evalsuite.metrics.streaming.manifold import PrecisionRecallDensityCoverage
from evalsuite.metrics.streaming.drift import ColumnDrift, DriftTests
from evalsuite.metrics.streaming.mauve import Mauve
from evalsuite.metrics.streaming.training import CopyTests, FeatureLikelihoodDivergence
from evalsuite.metrics.streaming.transport import (
    MaxSlicedWasserstein, SinkhornDivergence, SlicedWasserstein
)
from torchmetrics import MetricCollection

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
)
data = np.load(folder / "data.npz")
d = data["x"].shape[1]
said = []
for cuts in data["cuts"].tolist():
    together = MetricCollection({
        "frechet": FrechetDistance(d),
        "kid": KernelDistance(),
        "rbf": KernelDistance("rbf", bandwidth=2.0),
        "manifold": PrecisionRecallDensityCoverage(k=2),
        "classifier": ClassifierTwoSample(folds=3),
        "infinity": FrechetDistanceInfinity(points=1, repeats=2),
        "vendi_ratio": VendiRatio(repeats=2),
        "tables": DriftTests(),
        "sliced": SlicedWasserstein(directions=8),
        "max_sliced": MaxSlicedWasserstein(directions=8, steps=5),
        "sinkhorn": SinkhornDivergence(1.5),
        "mauve": Mauve(3, seeds=1),
        "likelihood": FeatureLikelihoodDivergence(data["train"]),
        "copies": CopyTests(data["train"]),
        "columns": ColumnDrift(data["edges"]),
        "vendi": VendiScore(d),
    })
    for name, real, cut in zip(("x", "y"), (True, False), cuts):
        rows = data[name][:cut] if rank == 0 else data[name][cut:]
        if len(rows):
            together.update(rows, real=real)
    said.append({k: float(v) for k, v in together.compute().items()})
    # Synced states are given back: each rank goes on with its own rows.
    for rows, real in ((data["x"][:2], True), (data["y"][:3], False)):
        together.update(rows, real=real)
    said.append({k: float(v) for k, v in together.compute().items()})
(folder / f"value{rank}").write_text(json.dumps(said))
torch.distributed.destroy_process_group()
"""


def test_ranks_of_a_process_group_equal_the_whole(tmp_path: Path) -> None:
    """In a real gloo group, where a rank may have seen both sides, one, or nothing at all."""
    x, y = pair()
    cuts = [(30, 20), (30, 36), (0, 20), (48, 36)]
    np.savez(tmp_path / "data.npz", x=x, y=y, cuts=cuts, train=TRAIN, edges=EDGES)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [rank.wait(timeout=900) for rank in ranks] == [0, 0]
    said = [json.loads((tmp_path / f"value{rank}").read_text()) for rank in (0, 1)]
    assert said[0] == said[1]
    for (cut_x, cut_y), first, second in zip(cuts, said[0][::2], said[0][1::2], strict=True):
        more_x = np.concatenate([x[:cut_x], x[:2], x[cut_x:], x[:2]])
        more_y = np.concatenate([y[:cut_y], y[:3], y[cut_y:], y[:3]])
        for values, real, synthetic in ((first, x, y), (second, more_x, more_y)):
            for name, case in CASES.items():
                if name == "blocks":
                    continue
                for key, value in flat(name, case.function(real, synthetic)).items():
                    assert values[key] == pytest.approx(value, rel=1e-9, abs=1e-12), key


# Metrics with more rows or labels ---------------------------------------------------------------


def test_modes_subgroups_and_utility_in_shards_equal_the_whole() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(0, 1, (90, D)), rng.normal(0.2, 1.1, (60, D))
    of_x, of_y = (torch.from_numpy((rows[:, 0] > 0).astype(int)) for rows in (x, y))
    of_train = torch.from_numpy((TRAIN[:, 0] > 1).astype(int))

    def made() -> MetricCollection:
        return MetricCollection(
            {
                "modes": ModeTests(splits=4),
                "groups": SubgroupTests(min_n=20),
                "use": UtilityTests(TRAIN, of_train),
            }
        )

    shards = []
    for half in (slice(0, 30), slice(30, None)):
        together = made()
        for rows, labels, real in ((x, of_x, True), (y, of_y, False)):
            together.update(rows[half], real=real, labels=labels[half])
        shards.append(together)
    first, second = shards
    for name, metric in second.items():
        # torchmetrics puts the incoming rows first.
        metric.merge_state(first[name])
    got = {name: metric.compute() for name, metric in second.items()}
    modes = mode_tests(x, y, splits=4, permutations=1)
    same(got["modes"], {
        "ndb": modes.ndb.value,
        "effective_hits": modes.hits.value,
        "collision_rate": modes.birthday.value,
    })  # fmt: skip
    groups = subgroup_tests(x, y, of_x.tolist(), of_y.tolist(), min_n=20, permutations=1)
    assert groups.worst is not None
    same(got["groups"], {
        "share_distance": groups.shares.value,
        "worst_group_gap": groups.worst.kernels["polynomial"].relative,
    })  # fmt: skip
    use = utility_tests(
        (TRAIN, of_train.tolist()), (y, of_y.tolist()), (x, of_x.tolist()), probes=("linear",)
    ).probes["linear"]
    same(got["use"], {
        "tstr_ratio": use.value,
        "tstr": use.tstr.value,
        "trts": use.trts.value,
        "trtr": use.trtr.value,
    })  # fmt: skip


def test_subgroups_that_are_too_small_have_no_gap() -> None:
    metric = SubgroupTests()
    for real in (True, False):
        metric.update(TRAIN, real=real, labels=torch.arange(40) % 2)
    assert {k: float(v) for k, v in metric.compute().items()} == {"share_distance": 0.0}
    with pytest.raises(ValueError, match="min_n must be at least 8"):
        SubgroupTests(min_n=4)


def test_utility_wants_labels_that_fit() -> None:
    metric = UtilityTests(TRAIN, torch.arange(40) % 2)
    with pytest.raises(ValueError, match="labels are needed"):
        metric.update(TRAIN, real=True)
    with pytest.raises(ValueError, match="40 whole numbers"):
        metric.update(TRAIN, real=True, labels=torch.arange(39))
    with pytest.raises(ValueError, match=r"2\*\*24"):
        metric.update(TRAIN, real=True, labels=torch.full((40,), 2**24))


def test_column_drift_names_the_bad_edges() -> None:
    with pytest.raises(ValueError, match=r"edges\[1\] must ascend"):
        ColumnDrift([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(ValueError, match="2 columns"):
        ColumnDrift([[0.0], [1.0]]).update(np.zeros((3, 3)), real=True)
