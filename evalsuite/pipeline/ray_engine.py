"""Encoding by worker processes of a Ray cluster, with the same numbers as in this process.

Plain actors, not Ray Data: a data set here is an index with random access and a fixed order, one
bad sample of which must be named and counted once, and a worker that dies must name the sample that
it died of. Ray Data would read the files itself, by rules of its own, and knows a lost block but
not a lost sample.

The samples are dealt out in blocks, in order, to whichever worker is free. A worker runs the very
code of the local engine on its block and gives back an :class:`Encoded`; the blocks are put
together in the order of the data set. A block counts when its result is here: if its worker dies
before, the block is dealt out again, and nothing is lost or counted twice.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..data.dataset import BadSample
from ..encoders.base import cpu_count
from ..encoders.cache import FeatureCache
from ..encoders.encoding import merged, progress_bar
from ..errors import DataError, EvalsuiteError, ModelError, UsageError, ran_out
from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from ..data import Dataset
    from ..data.dataset import Sample
    from ..encoders import Encoded
    from ..encoders.cache import Records
    from .plan import Models

log = logging.getLogger("evalsuite")

BLOCK = 256
"""At most so many samples are dealt out at once: as many as a cache file holds."""
BLOCKS_A_WORKER = 4
"""A small set is cut so that each worker gets so many blocks: then none waits long for another."""
START_SECONDS = 900.0
"""So long may it take until a first worker runs."""
DEATHS = 2
"""A block of which so many workers died is taken apart; a lone sample then ends the run."""
_STARTS = 8
"""Ray 2.60 gives up if two of its processes need more than 15 s to start (2.4 s of CPU each), and
has no setting for it: at a load of about ten runnable processes for two cores it cannot start."""
_PATIENCE = {
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "300000",
    "RAY_worker_register_timeout_seconds": "300",
    # Of one machine no node dies alone; a busy one is not dead.
    "RAY_health_check_failure_threshold": "100",
}
"""The limits that have settings, for busy machines: read when Ray is imported, and by its parts."""
_OBJECT_STORE_BYTES = 512 * 2**20
_UNITS = {"image": "images", "audio": "recordings", "text": "texts"}


@dataclass(frozen=True, slots=True)
class _Job:
    """What a worker must know beside the samples of a block."""

    models: Models
    language: str | None
    role: str
    data: Dataset
    """Without its samples: those come block by block."""
    cache: str | None
    """The folder; it may be another one on another machine."""


@dataclass(frozen=True, slots=True)
class _Report:
    """What a worker says before it gets samples."""

    host: str
    software: str
    keys: tuple[str, ...]
    reach: str


@dataclass(slots=True)
class _Block:
    """Some samples, the first of which stands in this row."""

    start: int
    found: list[tuple[Sample, tuple[Any, ...]]]
    deaths: int = 0


class _WorkerCache(FeatureCache):
    """A cache that stays open between blocks, and leaves pruning to whoever deals them."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._opened: dict[tuple[str, str], Records] = {}

    def records(self, kind: str, key: str) -> Records:
        """Open the records of one kind, once."""
        if (kind, key) not in self._opened:
            self._opened[kind, key] = super().records(kind, key)
        return self._opened[kind, key]

    def prune(self, max_bytes: int | None = None) -> int:
        """Delete nothing."""
        del max_bytes
        return 0


class _Worker:
    """What runs in the other process; it loads each model once."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}
        self._plans: dict[Models, Plan] = {}
        self._caches: dict[str | None, FeatureCache | None] = {None: None}

    def prepare(self, reference: list[Any], found: list[Any], load: bool) -> _Report:
        """Find the models, and load them where asked; say what they are."""
        job, plan, _ = self._open(reference)
        modality = job.models.modality
        models = _models(plan, modality)
        if load:
            for model in models:
                model.load()
        part = job.data.part(found)
        return _Report(
            host=os.uname().nodename,
            software=_software(),
            keys=tuple(model.info.key for model in models),
            reach=_reach(part, modality),
        )

    def encode(self, reference: list[Any], found: list[Any]) -> Encoded:
        """Turn a block into numbers."""
        job, plan, cache = self._open(reference)
        return plan.encode(
            job.models.modality,
            job.data.part(found),
            job.role,
            cache=cache,
            progress=False,
            workers=1,
            may_be_empty=True,
        )

    def _open(self, reference: list[Any]) -> tuple[_Job, Plan, FeatureCache | None]:
        import ray

        name = reference[0].hex()
        if name not in self._jobs:
            self._jobs = {name: ray.get(reference[0])}
        job = self._jobs[name]
        if job.cache not in self._caches:
            self._caches[job.cache] = _WorkerCache(str(job.cache))
        cache = self._caches[job.cache]
        if job.models not in self._plans:
            encoders, scorers, transcriber = job.models.find(cache)
            modality = job.models.modality
            self._plans[job.models] = Plan(
                (modality,),
                encoders={modality: encoders},
                scorers={modality: scorers},
                transcriber=transcriber,
            )
        plan = self._plans[job.models]
        plan.language = job.language
        return job, plan, cache


class RayEngine(contextlib.AbstractContextManager["RayEngine"]):
    """Worker processes of a Ray cluster: :func:`.engines.open_engine` says how it is used."""

    worker: type[_Worker] = _Worker

    def __init__(self, address: str | None = None, workers: int | None = None) -> None:
        if address is not None and not re.fullmatch(r"auto|[A-Za-z0-9.\-\[\]:_]+:\d+", address):
            raise UsageError(
                f"{address!r} is no address of a Ray cluster: give host:port, or auto for the one "
                "that this machine is a part of (ray:// is not supported: run on the head node)"
            )
        if importlib.util.find_spec("ray") is None:
            raise ModelError("--engine ray needs Ray: pip install 'evalsuite[ray]'")
        self._address, self._workers = address, workers
        self._crew: list[Any] = []
        self._folder: Path | None = None
        self._attached = False

    def __enter__(self) -> RayEngine:
        """Start the cluster, or join the one that runs."""
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        try:
            if self._address is None:
                self._start()
            else:
                self._join(self._address)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers, and the cluster if it was started for them."""
        self.close()

    def close(self) -> None:
        """Stop the workers, and the cluster if it was started for them."""
        import ray

        for worker in self._crew:
            with contextlib.suppress(Exception):  # it may be dead, and the cluster gone
                ray.kill(worker)
        self._crew = []
        if self._attached:
            ray.shutdown()
            self._attached = False
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _start(self) -> None:
        """Start a cluster that only this process can use."""
        if "ray" not in sys.modules:
            # Ray reads these once in a process. The first one, in spite of its name, makes it
            # listen on the loopback address alone; the token keeps other users of this machine out.
            os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            if os.environ["RAY_AUTH_MODE"] == "token":
                os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            for name, value in _PATIENCE.items():
                os.environ.setdefault(name, value)
        import ray

        if ray.is_initialized():
            return  # the program's own cluster, which it stops itself
        self._attached = True
        for attempt in range(1, _STARTS + 1):
            self._folder = Path(tempfile.mkdtemp(prefix="evs-"))  # short: sockets lie in it
            try:
                context = ray.init(
                    num_cpus=max(self._workers or 1, cpu_count()),
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    log_to_driver=False,
                    configure_logging=False,
                    _temp_dir=str(self._folder),
                )
                break
            except Exception as error:  # Ray's own have no common base
                ray.shutdown()
                _end_all(self._folder)
                if attempt == _STARTS:
                    raise EvalsuiteError(
                        f"Ray {ray.__version__} does not start on this machine, tried {_STARTS} "
                        f"times: {_first_line(error)}"
                    ) from error
                log.warning("Ray does not start, trying again: %s", _first_line(error))
        where = context.address_info["node_ip_address"]
        if where not in {"127.0.0.1", "::1"}:
            raise EvalsuiteError(
                f"Ray would listen at {where}, for other machines to see: it was imported before "
                "evalsuite could say otherwise; import it later, or call ray.init yourself"
            )

    def _join(self, address: str) -> None:
        import ray

        if ray.is_initialized():
            return
        try:
            ray.init(address=address, log_to_driver=False, configure_logging=False)
        except Exception as error:  # a closed port, another version, a wrong token
            raise EvalsuiteError(
                f"no Ray cluster can be joined at {address!r}: {_first_line(error)}; see `ray "
                "status`, and RAY_AUTH_TOKEN where the cluster asks for a token"
            ) from error
        self._attached = True

    def encode(
        self,
        plan: Plan,
        modality: str,
        data: Dataset,
        role: str,
        *,
        cache: FeatureCache | None,
        progress: bool | None,
    ) -> Encoded:
        """Turn one modality of one set into numbers.

        Raises
        ------
        DataError
            As the local engine, or if a worker sees other files than this process.
        ModelError
            As the local engine, or if a worker has another model or another version of it.
        EvalsuiteError
            If workers die again and again: the sample that they die of is named.
        """
        import ray

        samples = [sample for sample in data.samples if modality in sample.modalities]
        if not samples:
            raise DataError(f"no sample of {data.name!r} has {modality}")
        if any(_only_here(where) for _, where in data.located(samples[:1])):
            raise UsageError("memory:// is in this process only: --engine local reads it")
        began = time.perf_counter()
        on_gpu = any("cuda" in info.backend for info in plan.encoder_infos)
        crew = self._workers or max(
            1, int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
        )
        size = max(1, min(BLOCK, -(-len(samples) // (crew * BLOCKS_A_WORKER))))
        blocks = [
            _Block(start, data.located(samples[start : start + size]))
            for start in range(0, len(samples), size)
        ]
        while len(self._crew) < min(crew, len(blocks)):
            self._crew.append(self._hire(on_gpu))
        job = _Job(
            plan.models[modality],
            plan.language,
            role,
            data.part([]),
            None if cache is None else str(cache.directory.absolute()),
        )
        probe = data.located(samples[:1])
        expected = _Report(
            host=os.uname().nodename,
            software=_software(),
            keys=tuple(model.info.key for model in _models(plan, modality)),
            reach=_reach(data.part(probe), modality),
        )
        deal = _Deal(self, [ray.put(job)], probe, expected, on_gpu)
        label = plan.label(modality, role)
        with progress_bar(label, len(samples), progress, _UNITS[modality]) as advance:
            parts = deal.run(blocks, advance)
        whole = merged(parts, data.name)
        if len(whole) + len(whole.problems) != len(samples):
            raise EvalsuiteError(
                f"{len(whole) + len(whole.problems)} of {len(samples)} samples came back from the "
                "workers: this is a fault of evalsuite's"
            )
        whole.timings["total"] = time.perf_counter() - began
        if cache is not None:
            cache.prune()
        return whole

    def _hire(self, on_gpu: bool) -> Any:
        """Ask for one more worker."""
        import ray

        remote = ray.remote(
            num_cpus=1,
            num_gpus=1 if on_gpu else 0,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )(self.worker)
        return remote.remote()

    def replace(self, worker: Any, on_gpu: bool) -> Any:
        """Put a new worker in the place of a dead one."""
        import ray

        with contextlib.suppress(Exception):  # it is dead, or cannot be reached
            ray.kill(worker)
        fresh = self._hire(on_gpu)
        self._crew = [fresh if other is worker else other for other in self._crew]
        return fresh

    @property
    def crew(self) -> Sequence[Any]:
        """The workers."""
        return tuple(self._crew)


class _Deal:
    """Deals blocks out to workers until each has come back once."""

    def __init__(
        self,
        engine: RayEngine,
        reference: list[Any],
        probe: list[Any],
        expected: _Report,
        on_gpu: bool,
    ) -> None:
        self._engine, self._reference, self._probe = engine, reference, probe
        self._expected, self._on_gpu = expected, on_gpu
        self._waiting: deque[_Block] = deque()
        self._busy: dict[Any, tuple[Any, _Block | None]] = {}
        self._idle: list[Any] = []
        self._failed_starts = 0

    def run(self, blocks: Sequence[_Block], advance: Any) -> list[Encoded]:
        """Give what became of the blocks, in the order of their samples."""
        import ray

        self._waiting.extend(blocks)
        for worker in self._engine.crew:
            self._prepare(worker, load=False)
        done: dict[int, Encoded] = {}
        deadline = time.monotonic() + START_SECONDS
        started = False
        while self._waiting or any(block for _, block in self._busy.values()):
            while self._waiting and self._idle:
                worker, block = self._idle.pop(), self._waiting.popleft()
                self._busy[worker.encode.remote(self._reference, block.found)] = (worker, block)
            ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=5.0)
            if not ready:
                if not started and time.monotonic() > deadline:
                    raise EvalsuiteError(
                        f"no worker started within {START_SECONDS:.0f} s: the cluster has "
                        f"{ray.available_resources()} free; see `ray status`"
                    )
                continue
            worker, dealt = self._busy.pop(ready[0])
            try:
                answer = ray.get(ready[0])
            except ray.exceptions.RayTaskError as error:
                raise _own_error(error) from error
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.OutOfMemoryError,
                ray.exceptions.NodeDiedError,
                ray.exceptions.ObjectLostError,
            ) as error:
                self._lost(worker, dealt, error)
                continue
            except ray.exceptions.RayError as error:
                raise EvalsuiteError(f"the Ray cluster failed: {_reason(error)}") from error
            self._idle.append(worker)
            if dealt is None:
                self._check(answer)
                started, self._failed_starts = True, 0
            else:
                done[dealt.start] = answer
                for _ in dealt.found:
                    advance()
        return [done[start] for start in sorted(done)]

    def _prepare(self, worker: Any, *, load: bool) -> None:
        reference = worker.prepare.remote(self._reference, self._probe, load)
        self._busy[reference] = (worker, None)

    def _check(self, report: _Report) -> None:
        """Refuse a worker that would give other numbers."""
        mine = self._expected
        if report.keys != mine.keys:
            raise ModelError(
                f"the worker on {report.host} has other models, or other versions of them, than "
                f"this process on {mine.host}: {report.software} there, {mine.software} here; "
                "install the same on all machines"
            )
        if report.reach != mine.reach:
            sample = self._probe[0][0]
            raise DataError(
                f"the worker on {report.host} sees other files than this process on {mine.host}: "
                f"{sample.source!r} is {report.reach} there and {mine.reach} here; use a file "
                "system that all machines share, or an object store whose keys all of them have"
            )

    def _lost(self, worker: Any, block: _Block | None, error: BaseException) -> None:
        """Deal a block out again whose worker died, and put a new worker in its place."""
        reason = _reason(error)
        if block is None:
            self._failed_starts += 1
            if self._failed_starts > DEATHS * max(2, len(self._engine.crew)):
                raise EvalsuiteError(
                    f"workers die while they start or load the models, the last one so: {reason}; "
                    "is there memory for a model in each worker? (--workers)"
                ) from error
        else:
            block.deaths += 1
            log.warning("a worker died, its %d samples are dealt out again", len(block.found))
            if block.deaths < DEATHS:
                self._waiting.appendleft(block)
            elif len(block.found) > 1:
                self._waiting.extendleft(
                    _Block(block.start + k, [item])
                    for k, item in reversed(list(enumerate(block.found)))
                )
            else:
                sample = block.found[0][0]
                raise EvalsuiteError(
                    f"{DEATHS} workers died of the sample {sample.id!r} ({sample.source}): "
                    f"{reason}; give them more memory, or take the sample out"
                ) from error
        # From now on models are loaded before samples come: what a worker dies of is then known.
        self._prepare(self._engine.replace(worker, self._on_gpu), load=True)


def _end_all(folder: Path) -> None:
    """End what is left of a start that failed: Ray leaves it running as long as this process."""
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if os.fsencode(folder) in line.read_bytes():
                os.kill(int(line.parent.name), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def _models(plan: Plan, modality: str) -> list[Any]:
    """Give all models that encode a modality."""
    models = [*plan.encoders[modality], *plan.scorers.get(modality, ())]
    return models + ([plan.transcriber] if modality == "audio" and plan.transcriber else [])


def _software() -> str:
    found = [f"evalsuite {__version__}", f"Python {sys.version.split()[0]}"]
    for name in ("torch", "onnxruntime"):
        with contextlib.suppress(Exception):
            found.append(f"{name} {version(name)}")
    return ", ".join(found)


def _reach(part: Dataset, modality: str) -> str:
    """Try to open the first sample; say what came of it."""
    try:
        part.open(part.samples[0], modality).close()
    except BadSample as bad:
        return bad.kind
    return "readable"


def _only_here(where: tuple[Any, ...]) -> bool:
    return any(str(place).startswith("memory://") for place in where)


def _own_error(error: Any) -> EvalsuiteError:
    """Give what a worker raised, if it is an error of ours; else say what it was."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, EvalsuiteError):
        return cause
    if isinstance(cause, Exception) and (said := ran_out(cause)) is not None:
        return EvalsuiteError(f"in a worker {said}")
    return EvalsuiteError(f"a worker failed: {_first_line(cause or error)}")


def _reason(error: BaseException) -> str:
    """Say in a line how a worker died."""
    text = " ".join(str(error).split())
    detail = re.search(r"(?:exit detail|death cause|cause):? *(.*)", text)
    return (detail[1] if detail else text)[:300]


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0][:300] or type(error).__name__
