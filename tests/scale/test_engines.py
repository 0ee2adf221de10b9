"""Where the work is done, and in which portions, changes no number, whatever happens to it."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import psutil
import pytest
from PIL import Image

from evalsuite.data import open_dataset
from evalsuite.encoders import FeatureCache
from evalsuite.encoders.encoding import merged
from evalsuite.errors import DataError, EvalsuiteError, ModelError, UsageError
from evalsuite.gate.policy import load_policy
from evalsuite.metrics.distribution.frechet import frechet_distance
from evalsuite.metrics.distribution.random_features import RandomFeatureKernel
from evalsuite.metrics.drift.sketch import QuantileSketch
from evalsuite.metrics.streaming.frechet import FrechetDistance
from evalsuite.pipeline.engines import LocalEngine, open_engine
from evalsuite.pipeline.plan import make_plan
from evalsuite.pipeline.ray_engine import RayEngine, _Report, _Worker
from evalsuite.pipeline.run import run_gate

PATIENCE = 600.0
MODELS = {"image": ("efficientnet_lite0",), "audio": ("logmel_stats",), "text": ("minilm_l6",)}


def planned(folder: Path, modality: str | None = None) -> tuple[Any, Any]:
    data = open_dataset(folder)
    policy = load_policy(None)
    no_ties = policy.ties.model_copy(update={"image_text": None, "audio_text": None})
    policy = policy.model_copy(update={"encoders": MODELS, "ties": no_ties})
    plan = make_plan(
        policy, {"real": data, "synthetic": data}, device="cpu", allow_download=False, cache=None
    )
    return plan, data


def assert_same(one: Any, other: Any) -> None:
    """Bit for bit, but for the time that it took."""
    assert [s.id for s in one.samples] == [s.id for s in other.samples]
    assert one.samples == other.samples
    assert one.hashes == other.hashes
    assert one.problems == other.problems
    assert one.notes == other.notes
    assert one.fingerprint == other.fingerprint
    assert one.thumbnails == other.thumbnails
    assert one.infos == other.infos
    assert one.transcripts == other.transcripts
    for kind in ("features", "attributes"):
        mine, theirs = getattr(one, kind), getattr(other, kind)
        assert list(mine) == list(theirs)
        for key in mine:
            assert mine[key].dtype == theirs[key].dtype
            assert mine[key].tobytes() == theirs[key].tobytes(), (kind, key)


def encode(engine: Any, plan: Any, modality: str, data: Any, cache: Any = None) -> Any:
    return engine.encode(plan, modality, data, "real", cache=cache, progress=False)


@pytest.mark.parametrize("modality", ["image", "audio"])
def test_parts_encoded_apart_are_the_whole_bit_for_bit(records: Path, modality: str) -> None:
    """What a worker does: models of its own, a part that was sent to it, one thread."""
    plan, data = planned(records)
    whole = encode(LocalEngine(), plan, modality, data)
    assert len(whole.problems) == 1  # the damaged part, counted once
    assert len(whole) == 23
    parts = []
    for start in range(0, len(data), 5):
        part = data.part(data.located(data.samples[start : start + 5]))
        other, _ = planned(records)
        parts.append(
            other.encode(
                modality, pickle.loads(pickle.dumps(part)), "real", cache=None, progress=False,
                workers=1, may_be_empty=True,
            )
        )  # fmt: skip
    assert_same(whole, merged(parts, data.name))


def test_a_part_without_a_usable_sample_is_no_error_and_a_whole_is(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    plan, data = planned(tmp_path)
    parts = [
        plan.encode(
            "image", data.part(data.located(data.samples[start : start + 5])), "real",
            cache=None, progress=False, workers=1, may_be_empty=True,
        )
        for start in (0, 5)
    ]  # fmt: skip
    assert [len(part.problems) for part in parts] == [5, 4]
    with pytest.raises(DataError, match="none of the 9 samples") as apart:
        merged(parts, data.name)
    with pytest.raises(DataError) as alone:
        encode(LocalEngine(), plan, "image", data)
    assert str(apart.value) == str(alone.value)
    good, whole = planned(folders[0])
    some = encode(LocalEngine(), good, "image", whole)
    assert len(merged([parts[0], some], "both")) == len(some)


def test_threads_batches_and_blocks_change_nothing(folders: tuple[Path, Path]) -> None:
    plan, data = planned(folders[0])
    one = encode(LocalEngine(1), plan, "image", data)
    assert_same(one, encode(LocalEngine(3), plan, "image", data))
    # Another shape of batch may take other kernels: not the same bits, but the same to 1e-5.
    other, _ = planned(folders[0])
    other.encoders["image"][0].batch_size = 7
    seven = encode(LocalEngine(2), other, "image", data)
    x, y = (e.features["efficientnet_lite0"].astype(np.float64) for e in (one, seven))
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
    plan, data = planned(folders[1])
    z = encode(LocalEngine(), plan, "image", data).features["efficientnet_lite0"]
    a, b = (frechet_distance(f, z).value for f in (x, y))
    assert a == pytest.approx(b, rel=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"name": "dask"}, "there is no engine 'dask'"),
        ({"name": "local", "address": "auto"}, "for --engine ray"),
        ({"name": "ray", "address": "ray://head:10001"}, "no address of a Ray cluster"),
        ({"name": "local", "workers": 0}, "workers must be at least 1"),
    ],
)
def test_wrong_use_is_said(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        open_engine(**options)


@pytest.mark.cluster
@pytest.mark.parametrize("modality", ["image", "audio", "text"])
def test_features_are_the_same_bit_for_bit(cluster: Any, records: Path, modality: str) -> None:
    plan, data = planned(records)
    alone = encode(LocalEngine(), plan, modality, data)
    shared = encode(cluster, plan, modality, data)
    # Of each medium one part is damaged, and counted once; one record has no text.
    assert len(alone.problems) == (modality != "text")
    assert len(alone) == 23
    assert_same(alone, shared)


@pytest.mark.cluster
def test_findings_are_the_same(cluster: Any, folders: tuple[Path, Path]) -> None:
    real, synthetic = folders
    results = [
        run_gate(real, synthetic, cache=False, engine=name, workers=2, command="same").result
        for name in ("local", "ray")
    ]
    alone, shared = (r.model_copy(update={"times": {}}).model_dump(mode="json") for r in results)
    assert alone == shared
    assert alone["synthetic"]["problems"] == {"unreadable": 1}
    assert alone["findings"]


@pytest.mark.cluster
def test_the_cache_is_shared_between_engines(
    cluster: Any, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    plan, data = planned(folders[0])
    first = encode(cluster, plan, "image", data, FeatureCache(tmp_path))
    again = encode(LocalEngine(), plan, "image", data, FeatureCache(tmp_path))
    assert (first.forwards, again.forwards) == (40, 0)
    assert_same(first, again)


@pytest.mark.cluster
def test_workers_read_from_the_store_themselves(
    cluster: Any, bucket: Any, folders: tuple[Path, Path]
) -> None:
    plan, near = planned(folders[1])
    far = open_dataset("s3://bucket/synthetic")
    assert_same(encode(LocalEngine(), plan, "image", near), encode(cluster, plan, "image", far))


@pytest.mark.cluster
def test_states_of_workers_merge_to_the_numbers_of_one_process(cluster: Any) -> None:
    import ray

    def states(shard: int) -> tuple[int, Any, Any, Any]:
        """What a worker sends that keeps its rows: a part of two sets, as states."""
        rng = np.random.default_rng(shard)
        frechet, kernel = FrechetDistance(24), RandomFeatureKernel(24, bandwidth=7.0, seed=1)
        sketch = QuantileSketch(24, shard=shard)
        for real, shift in ((True, 100.0), (False, 100.3)):
            rows = rng.normal(shift, 1, (2000, 24))
            frechet.update(rows, real=real)
            kernel.update(rows - 100, real=real)
            sketch.update(rows)
        return os.getpid(), frechet, kernel, sketch

    remote = ray.remote(max_retries=0)(states)
    there = ray.get([remote.remote(shard) for shard in range(4)])
    assert os.getpid() not in {process for process, *_ in there}
    values = []
    for parts in (there, [states(shard) for shard in range(4)]):
        _, frechet, kernel, sketch = parts[0]
        for _, *other in parts[1:]:
            frechet.merge_state(other[0])
            kernel.merge(other[1])
            sketch.merge(other[2])
        values.append((frechet.result().value, kernel.result().value, *sketch.quantiles(0.5)[0]))
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    # And as if all rows had been at one place.
    drawn = [np.random.default_rng(shard) for shard in range(4)]
    real = np.concatenate([rng.normal(100.0, 1, (2000, 24)) for rng in drawn])
    synthetic = np.concatenate([rng.normal(100.3, 1, (2000, 24)) for rng in drawn])
    assert values[0][0] == pytest.approx(frechet_distance(real, synthetic).value, rel=1e-9)


JOIN = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
print("joined", ray.get(ray.remote(lambda: 1).remote()))
"""


@pytest.mark.cluster
def test_nobody_joins_without_the_token(cluster: Any) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    said, patience = {}, PATIENCE
    for name, token in (("right", os.environ["RAY_AUTH_TOKEN"]), ("wrong", "0" * 64)):
        process = subprocess.Popen(
            [sys.executable, "-c", JOIN, address],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "RAY_AUTH_TOKEN": token},
        )  # fmt: skip
        began = time.monotonic()
        try:
            said[name], _ = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()  # it asks on and on, and is never let in
            said[name], _ = process.communicate()
        patience = 3 * (time.monotonic() - began)
    assert said["right"].strip() == "joined 1"
    assert "joined" not in said["wrong"]


@pytest.mark.cluster
def test_memory_is_read_here_and_by_no_worker(cluster: Any, folders: tuple[Path, Path]) -> None:
    memory = fsspec.filesystem("memory")
    for path in folders[0].iterdir():
        memory.pipe(f"/scale/real/{path.name}", path.read_bytes())
    data = open_dataset("memory://scale/real")
    plan, near = planned(folders[0])
    assert data.samples == near.samples
    assert [data.read(s) for s in data] == [near.read(s) for s in near]
    with pytest.raises(UsageError, match="in this process only"):
        encode(cluster, plan, "image", data)


@pytest.fixture
def engine_of(cluster: Any) -> Iterator[Callable[[type], RayEngine]]:
    """Give engines on the same cluster with workers of another kind."""
    opened = []

    def make(kind: type, workers: int = 2) -> RayEngine:
        engine = RayEngine(workers=workers)
        engine.worker = kind
        opened.append(engine)
        return engine.__enter__()

    yield make
    for engine in opened:
        engine.close()


def killed_once(marker: Path) -> type:
    """A worker that is killed when it has done the work, and before it gives it away."""

    class Killed(_Worker):
        def encode(self, reference: list[Any], found: list[Any]) -> Any:
            done = super().encode(reference, found)
            if any(sample.id.startswith("17") for sample, _ in found) and not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return done

    return Killed


@pytest.mark.cluster
def test_a_killed_worker_loses_and_repeats_nothing(
    engine_of: Any, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    plan, data = planned(folders[1])
    marker = tmp_path / "killed"
    survived = encode(engine_of(killed_once(marker)), plan, "image", data, FeatureCache(tmp_path))
    assert marker.exists()
    assert_same(encode(LocalEngine(), plan, "image", data), survived)


@pytest.mark.cluster
def test_a_sample_that_kills_each_worker_is_named(
    engine_of: Any, folders: tuple[Path, Path]
) -> None:
    class Poisoned(_Worker):
        def encode(self, reference: list[Any], found: list[Any]) -> Any:
            if any(sample.id == "23.png" for sample, _ in found):
                os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory is out
            return super().encode(reference, found)

    plan, data = planned(folders[0])
    with pytest.raises(EvalsuiteError, match=r"2 workers died of the sample '23.png'"):
        encode(engine_of(Poisoned), plan, "image", data)


@pytest.mark.cluster
def test_a_worker_whose_memory_runs_out_blames_no_sample(engine_of: Any, tmp_path: Path) -> None:
    """The kernel refuses a worker what a picture needs; with memory enough, all are used."""

    class Poor(_Worker):
        def encode(self, reference: list[Any], found: list[Any]) -> Any:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            before = resource.getrlimit(resource.RLIMIT_AS)
            few = pages * resource.getpagesize() + 48 * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (few, before[1]))
            try:
                return super().encode(reference, found)
            finally:  # what went wrong has to be told
                resource.setrlimit(resource.RLIMIT_AS, before)

    Image.new("RGB", (9000, 9000)).save(tmp_path / "large.png")  # 324 MB, within all limits
    plan, data = planned(tmp_path)
    with pytest.raises(EvalsuiteError, match=r"in a worker memory ran out .*--workers") as caught:
        encode(engine_of(Poor, workers=1), plan, "image", data)
    assert caught.value.exit_code == 3
    whole = encode(engine_of(_Worker, workers=1), plan, "image", data)
    assert len(whole) == 1
    assert whole.problems == []


@pytest.fixture
def little_room() -> Iterator[Path]:
    """A control group whose processes may take 64 MB more; skips, and says why, where none is."""
    name = f"evalsuite-{os.getpid()}"
    said = "no memory controller is mounted"
    for parent, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = parent / name
        try:
            group.mkdir()
        except OSError as error:
            said = str(error)
            continue
        try:
            (group / limit).write_text(str(64 * 2**20))
        except OSError as error:
            said = str(error)
            group.rmdir()
            continue
        yield group
        deadline = time.monotonic() + PATIENCE
        while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
            time.sleep(0.1)
        group.rmdir()
        return
    pytest.skip(f"NO CONTROL GROUP CAN BE MADE HERE, so that the OOM killer was not met: {said}")


def killed_for_memory(group: Path) -> int:
    """How often the kernel killed a process of a group for its memory."""
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            words = (group / name).read_text().split()
            return int(words[words.index("oom_kill") + 1])
    return 0


@pytest.mark.cluster
def test_a_worker_that_the_oom_killer_takes_loses_and_repeats_nothing(
    engine_of: Any, folders: tuple[Path, Path], little_room: Path, tmp_path: Path
) -> None:
    marker, group = tmp_path / "taken", str(little_room)

    class Greedy(_Worker):
        def encode(self, reference: list[Any], found: list[Any]) -> Any:
            done = super().encode(reference, found)
            if any(sample.id.startswith("17") for sample, _ in found) and not marker.exists():
                marker.touch()
                Path(group, "cgroup.procs").write_text(str(os.getpid()))
                bytearray(b"x") * 2**29
            return done

    plan, data = planned(folders[1])
    survived = encode(engine_of(Greedy), plan, "image", data, FeatureCache(tmp_path))
    assert killed_for_memory(little_room) == 1
    assert_same(encode(LocalEngine(), plan, "image", data), survived)


@pytest.mark.cluster
def test_models_that_kill_each_worker_are_named(engine_of: Any, folders: Any) -> None:
    class Small(_Worker):
        def prepare(self, reference: list[Any], found: list[Any], load: bool) -> Any:
            os.kill(os.getpid(), signal.SIGKILL)

    plan, data = planned(folders[0])
    with pytest.raises(EvalsuiteError, match="workers die while they start or load the models"):
        encode(engine_of(Small, workers=1), plan, "image", data)


@pytest.mark.cluster
@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [("keys", ModelError, "install the same"), ("reach", DataError, "sees other files")],
)
def test_a_worker_that_differs_is_refused(
    engine_of: Any, folders: Any, wrong: str, error: type, words: str
) -> None:
    class Other(_Worker):
        def prepare(self, reference: list[Any], found: list[Any], load: bool) -> Any:
            said = super().prepare(reference, found, load)
            if wrong == "keys":
                return _Report(said.host, said.software, ("another",), said.reach)
            return _Report(said.host, said.software, said.keys, "missing")

    plan, data = planned(folders[0])
    with pytest.raises(error, match=words):
        encode(engine_of(Other, workers=1), plan, "image", data)


@pytest.mark.cluster
def test_a_fault_in_a_worker_is_an_error_of_ours(engine_of: Any, folders: Any) -> None:
    class Faulty(_Worker):
        def encode(self, reference: list[Any], found: list[Any]) -> Any:
            raise ZeroDivisionError("what nobody thought of")

    plan, data = planned(folders[0])
    with pytest.raises(EvalsuiteError, match="what nobody thought of"):
        encode(engine_of(Faulty, workers=1), plan, "image", data)


@pytest.mark.cluster
def test_nothing_usable_is_said_as_by_the_local_engine(cluster: Any, tmp_path: Path) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    plan, data = planned(tmp_path)
    said = []
    for engine in (LocalEngine(), cluster):
        with pytest.raises(DataError) as caught:
            encode(engine, plan, "image", data)
        said.append(str(caught.value))
    assert said[0] == said[1]


def ended(processes: list[psutil.Process]) -> list[psutil.Process]:
    return psutil.wait_procs(processes, timeout=PATIENCE)[1]


@pytest.mark.cluster
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_ends_it_and_until_then_it_listens_on_loopback_alone(
    ahead: Callable[[int], None], or_skip: Callable[[str], None], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    for side in ("real", "synthetic"):
        (tmp_path / side).mkdir()
        for i in range(1500):
            pixels = rng.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / side / f"{i}.png")
    # Ray's sockets lie in the temporary folder, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as temporary:
        for attempt in (1, 2):
            run = subprocess.Popen(
                [sys.executable, "-m", "evalsuite.cli", "gate", "real", "synthetic",
                 "--engine", "ray", "--workers", "2"],
                cwd=tmp_path, text=True, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True,
                # A job in the background inherits from its shell that SIGINT is ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
                env={**{k: v for k, v in os.environ.items() if not k.startswith("RAY_")},
                     "TMPDIR": temporary, "EVALSUITE_CACHE": str(tmp_path / "cache")},
            )  # fmt: skip
            ahead(run.pid)
            end = time.monotonic() + PATIENCE
            # A worker has written features: the run is in the middle.
            while not any((tmp_path / "cache").rglob("features/*/*")) and run.poll() is None:
                assert time.monotonic() < end
                time.sleep(0.2)
            if run.poll() is None:
                break
            _, said = run.communicate()
            assert "does not start on this machine" in said, said
            assert attempt == 1, said
            or_skip(said)
        family = psutil.Process(run.pid).children(recursive=True)
        ports = [
            c.laddr
            for process in family
            for c in process.net_connections("inet")
            if c.status == psutil.CONN_LISTEN
        ]
        assert ports
        assert {p.ip.removeprefix("::ffff:") for p in ports} == {"127.0.0.1"}
        assert run.poll() is None
        family = psutil.Process(run.pid).children(recursive=True)
        os.killpg(run.pid, signal.SIGINT)  # what a terminal sends
        _, said = run.communicate(timeout=PATIENCE)
        assert run.returncode == 130, said
        assert "interrupted: run the same command again" in said
        assert not ended(family)
        assert not list(Path(temporary).glob("evs-*"))
    assert not (tmp_path / "evalsuite-out").exists()
