"""The encode loop: from a data set to features, attributes and thumbnails, in one pass.

Each worker takes a sample through all steps (read, hash, look up, decode, measure, prepare) and
runs a forward pass whenever a batch is full. Decoding thus overlaps the forward passes, no core
waits for another, and memory is bounded: one decoded image for each worker, and a batch or two of
prepared ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os.path
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import threadpoolctl

from ..data.dataset import BadSample, Dataset, Limits, Problem, Sample
from ..data.images import EXTENSIONS, decode_image, set_fingerprint
from ..errors import DataError, ModelError
from ..metrics.image.attributes import ATTRIBUTES, Attribute, image_attributes
from .base import EncoderInfo, Features, ImageEncoder, code_version, cpu_count
from .image import thumbnail
from .registry import load_encoder

if TYPE_CHECKING:
    from .cache import FeatureCache, Records
    from .media import Transcript

_AHEAD = 256  # prepared images that may wait while a model loads: 38 MB at 224 × 224
_Item: TypeAlias = tuple[int, bytes, npt.NDArray[Any]]  # row, digest, prepared image
_TURN_SECONDS = 2e-4
_STEPS = ("read", "lookup", "decode", "describe", "prepare", "forward")


@dataclass(frozen=True)
class Encoded:
    """A data set as numbers. Row i of everything belongs to ``samples[i]``.

    Attributes
    ----------
    samples : list of Sample
        Those that could be used, in the data set's order.
    hashes : list of str
        SHA-256 of each sample's bytes.
    features : dict of str to ndarray of float32, shape (n, dim)
        By the encoder's id.
    attributes : dict of str to ndarray of float64, shape (n,)
        By name; empty if they were not asked for.
    thumbnails : list of bytes
        JPEG, at most 64 pixels a side; empty if they were not asked for.
    notes : Counter
        How many samples had which treatment: grey, palette, exif-rotated…
    problems : list of Problem
        Samples that could not be read or decoded. What was wrong before that is in
        ``Dataset.problems``.
    fingerprint : str
        Over content, labels and groups of the usable samples.
    infos : list of EncoderInfo
        In the order in which the encoders were given.
    warnings : list of str
        What went wrong with the cache; the results are not affected.
    forwards : int
        Images that went through a model in this run, over all encoders: 0 if all was cached.
    timings : dict of str to float
        ``total``: seconds of the whole. The others are summed over the workers: ``read`` (and
        hash), ``lookup``, ``decode``, ``describe`` (attributes, thumbnail), ``prepare``,
        ``forward``.
    """

    samples: list[Sample]
    hashes: list[str]
    features: dict[str, Features]
    attributes: dict[str, npt.NDArray[np.float64]]
    thumbnails: list[bytes]
    notes: Counter[str]
    problems: list[Problem]
    fingerprint: str
    infos: list[EncoderInfo]
    warnings: list[str]
    forwards: int
    timings: dict[str, float]
    modality: str = "image"
    described: Mapping[str, Attribute] = field(default_factory=lambda: ATTRIBUTES)
    """What each of the attributes is."""
    transcripts: list[Transcript] | None = None
    """What was heard in each recording, where it was asked for."""

    def __len__(self) -> int:
        return len(self.samples)


def encode(
    dataset: Dataset,
    encoders: Sequence[str | ImageEncoder],
    *,
    cache: FeatureCache | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    attributes: bool = True,
    thumbnails: bool = True,
    limits: Limits | None = None,
    device: str = "auto",
    allow_download: bool = False,
    label: str = "",
    may_be_empty: bool = False,
) -> Encoded:
    """Turn a data set into features, attributes and thumbnails.

    Parameters
    ----------
    dataset : Dataset
        What to encode.
    encoders : sequence of str or ImageEncoder
        As :func:`load_encoder` takes them, or loaded.
    cache : FeatureCache, optional
        Where earlier results are taken from and new ones are put. A run that was killed goes on
        from there, and ends with the same bytes as one that was not.
    progress : bool, optional
        Whether to show a progress bar on stderr; if it is a terminal, by default.
    workers : int, optional
        Threads; one for each core by default.
    attributes, thumbnails : bool
        Whether to compute these.
    limits : Limits, optional
        What is too large to be decoded.
    device : str
    allow_download : bool
        For encoders given by name: see :func:`load_encoder`.
    label : str
        What the progress bar calls it; the data set's name by default.
    may_be_empty : bool
        Whether it is no error that no sample can be used: of a part of a larger set.

    Returns
    -------
    Encoded

    Raises
    ------
    DataError
        If no sample at all can be used.
    ModelError
        As :func:`load_encoder`, and if two encoders have the same id.
    """
    start = time.perf_counter()
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    loaded = [
        load_encoder(e, device=device, allow_download=allow_download, cache=cache)
        if isinstance(e, str)
        else e
        for e in encoders
    ]
    ids = [e.info.id for e in loaded]
    if len(set(ids)) < len(ids):
        raise ModelError(f"each encoder may be given once, got {ids}")
    run = _Run(dataset, loaded, cache, attributes, thumbnails, limits or Limits())
    total = len(run.samples)
    # The attributes' small dot products must not wake up BLAS threads: the cores are busy, and a
    # sum split over threads would depend on their number in its last bits.
    blas = threadpoolctl.ThreadpoolController().select(internal_api="openblas")
    with (
        blas.limit(limits=1),
        short_turns(),
        progress_bar(label or dataset.name, total, progress) as advance,
    ):
        run.go(workers or cpu_count(), advance)
    return run.result(start, may_be_empty)


def merged(parts: Sequence[Encoded], name: str) -> Encoded:
    """Put the parts of one data set together, in the order in which they are given.

    A sample's numbers do not depend on its company, so that the whole is the same bit for bit as
    if it had been encoded at once. Samples of one content in two parts were computed twice.

    Parameters
    ----------
    parts : sequence of Encoded
        At least one, all by the same encoders.
    name : str
        What the data set is called.

    Raises
    ------
    DataError
        If no sample of any part can be used.
    """
    problems = [problem for part in parts for problem in part.problems]
    samples = [sample for part in parts for sample in part.samples]
    hashes = [digest for part in parts for digest in part.hashes]
    if not samples:
        raise _none_usable(name, len(problems), problems)
    first = parts[0]
    heard = [part.transcripts for part in parts if part.transcripts is not None]
    return replace(
        first,
        samples=samples,
        hashes=hashes,
        features={
            key: np.concatenate([part.features[key] for part in parts]) for key in first.features
        },
        attributes={
            key: np.concatenate([part.attributes[key] for part in parts])
            for key in first.attributes
        },
        thumbnails=[small for part in parts for small in part.thumbnails],
        notes=sum((part.notes for part in parts), Counter()),
        problems=problems,
        fingerprint=set_fingerprint(
            (digest, sample.label, sample.group)
            for digest, sample in zip(hashes, samples, strict=True)
        ),
        warnings=list(dict.fromkeys(text for part in parts for text in part.warnings)),
        forwards=sum(part.forwards for part in parts),
        timings={key: sum(part.timings[key] for part in parts) for key in first.timings},
        transcripts=[item for part in heard for item in part] if heard else None,
    )


@contextlib.contextmanager
def short_turns() -> Iterator[None]:
    """Let threads change places in Python often.

    After every operation of a forward pass its thread waits until another that is busy in Python
    gives way: 5 ms by default, as long as the operation took.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(_TURN_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _none_usable(name: str, count: int, problems: Sequence[Problem]) -> DataError:
    return DataError(
        f"none of the {count} samples of {name!r} can be used; the first: "
        f"{problems[0].sample!r} is {problems[0].kind} ({problems[0].detail})"
    )


@dataclass
class _Lane:
    """One encoder in a run: what waits for it, and what it has given."""

    encoder: ImageEncoder
    records: Records | None
    features: Features
    waiting: list[_Item] = field(default_factory=list)
    loader: threading.Thread | None = None
    buffers: threading.local = field(default_factory=threading.local)


class _Run:
    """The state that the workers share."""

    def __init__(
        self,
        dataset: Dataset,
        encoders: list[ImageEncoder],
        cache: FeatureCache | None,
        attributes: bool,
        thumbnails: bool,
        limits: Limits,
    ) -> None:
        # Where a data set holds records, some may have no image; the data set itself reports them.
        self.samples = [s for s in dataset.samples if "image" in s.media]
        if not self.samples:
            raise DataError(f"no sample of {dataset.name!r} has an image")
        n = len(self.samples)
        self.dataset = dataset
        self.limits = limits
        self.cache = cache
        self.thumbnails = thumbnails
        self.lanes = [
            _Lane(
                encoder,
                cache.records("features", encoder.info.key) if cache else None,
                np.zeros((n, encoder.info.dim), dtype=np.float32),
            )
            for encoder in encoders
        ]
        self.images = self._records("images", "evalsuite.encoders.image")
        self.measured = self._records(
            "attributes", "evalsuite.metrics.image.attributes", libraries=("numpy",)
        )
        self.attributes = np.zeros((n, len(ATTRIBUTES)), dtype=np.float64) if attributes else None
        self.known: list[_Image | None] = [None] * n
        self.digests: list[bytes | None] = [None] * n
        self.bad: dict[int, BadSample] = {}
        self.twin: dict[int, int] = {}
        """A sample with the same content as an earlier one, to that one: computed once."""
        self.first: dict[bytes, int] = {}
        self.forwards = 0
        self.seconds: Counter[str] = Counter()
        self.warned = len(cache.warnings) if cache else 0
        self._lock = threading.Lock()
        self._rows = iter(range(n))
        self._stop = threading.Event()

    def _records(self, kind: str, module: str, libraries: tuple[str, ...] = ()) -> Records | None:
        if self.cache is None:
            return None
        made_by = [code_version("evalsuite.data.images", module)]
        made_by += [version(library) for library in ("pillow", *libraries)]
        return self.cache.records(kind, hashlib.sha256(" ".join(made_by).encode()).hexdigest())

    def go(self, workers: int, advance: Any) -> None:
        """Encode all samples."""
        try:
            with ThreadPoolExecutor(workers, "encode") as pool:
                futures = [pool.submit(self._work, advance) for _ in range(workers)]
                try:
                    for future in futures:
                        future.result()
                    for _ in pool.map(self._finish, self._left()):
                        pass
                finally:
                    self._stop.set()
        finally:
            for records in (self.images, self.measured, *(lane.records for lane in self.lanes)):
                if records is not None:
                    records.flush()

    def _left(self) -> Iterator[tuple[_Lane, list[_Item]]]:
        """Give the batches that still wait: the last one, and those that waited for the model."""
        for lane in self.lanes:
            size = lane.encoder.batch_size
            for start in range(0, len(lane.waiting), size):
                yield lane, lane.waiting[start : start + size]

    def _finish(self, left: tuple[_Lane, list[_Item]]) -> None:
        if not self._stop.is_set():
            seconds: Counter[str] = Counter()
            self._forward(*left, seconds)
            with self._lock:
                self.seconds.update(seconds)

    def _work(self, advance: Any) -> None:
        seconds: Counter[str] = Counter()
        try:
            while not self._stop.is_set():
                with self._lock:
                    row = next(self._rows, None)
                if row is None:
                    break
                try:
                    self._sample(row, seconds)
                except BadSample as bad:
                    self.bad[row] = bad
                advance()
        except BaseException:
            self._stop.set()
            raise
        finally:
            with self._lock:
                self.seconds.update(seconds)

    def _sample(self, row: int, seconds: Counter[str]) -> None:
        """Take one sample from its bytes to wherever it waits for a forward pass."""
        clock = Clock(seconds)
        data = self.dataset.read(self.samples[row], "image")
        digest = hashlib.sha256(data).digest()
        clock.lap("read")
        with self._lock:
            first = self.first.setdefault(digest, row)
        self.digests[row] = digest
        if first != row:
            self.twin[row] = first
            return
        known = _unpack(self.images.get(digest)) if self.images else None
        if known and known.width * known.height > self.limits.max_pixels:
            known = None  # it was cached under a higher limit: let the decoder refuse it
        values = self.measured.get(digest) if self.measured else None
        lanes = []
        for lane in self.lanes:
            record = lane.records.get(digest) if lane.records else None
            if record is None:
                lanes.append(lane)
            else:
                lane.features[row] = np.frombuffer(record, dtype=np.float32)
        clock.lap("lookup")
        if known is None or lanes or (values is None and self.attributes is not None):
            decoded = decode_image(data, self.limits)
            clock.lap("decode")
            if known is None:
                known = _Image(decoded.width, decoded.height, decoded.format, decoded.notes,
                               thumbnail(decoded.pixels))  # fmt: skip
                if self.images:
                    self.images.put(digest, known.pack())
            if values is None and self.attributes is not None:
                measured = image_attributes(np.asarray(decoded.pixels))
                values = np.array([measured[name] for name in ATTRIBUTES]).tobytes()
                if self.measured:
                    self.measured.put(digest, values)
            clock.lap("describe")
            for lane in lanes:
                prepared = lane.encoder.prepare(decoded.pixels)
                clock.lap("prepare")
                self._queue(lane, (row, digest, prepared), seconds)
        if values is not None and self.attributes is not None:
            self.attributes[row] = np.frombuffer(values, dtype=np.float64)
        self.known[row] = known

    def _queue(self, lane: _Lane, item: _Item, seconds: Counter[str]) -> None:
        """Let a prepared image wait for its batch; run the batches that are full."""
        encoder = lane.encoder
        with self._lock:
            lane.waiting.append(item)
            if lane.loader is None and not encoder.loaded:
                # Images are decoded while the model loads. If that fails, the forward pass that
                # comes next fails in the same way, in a thread whose error is seen.
                lane.loader = threading.Thread(target=_quietly, args=(encoder.load,), daemon=True)
                lane.loader.start()
        while True:
            with self._lock:
                full = encoder.batch_size if encoder.loaded else max(_AHEAD, encoder.batch_size)
                if len(lane.waiting) < full:
                    return
                batch = lane.waiting[: encoder.batch_size]
                lane.waiting = lane.waiting[encoder.batch_size :]
            self._forward(lane, batch, seconds)

    def _forward(
        self,
        lane: _Lane,
        batch: list[_Item],
        seconds: Counter[str],
    ) -> None:
        clock = Clock(seconds)
        # One buffer for each thread: fresh memory for every batch would cost more than the copy.
        stacked = getattr(lane.buffers, "stacked", None)
        if stacked is None:
            prepared = batch[0][2]
            size = (lane.encoder.batch_size, *prepared.shape)
            stacked = lane.buffers.stacked = np.empty(size, prepared.dtype)
        for k, (_, _, prepared) in enumerate(batch):
            stacked[k] = prepared
        features = lane.encoder.forward(stacked[: len(batch)])
        clock.lap("forward")
        for (row, digest, _), values in zip(batch, features, strict=True):
            lane.features[row] = values
            if lane.records:
                lane.records.put(digest, values.tobytes())
        with self._lock:
            self.forwards += len(batch)

    def result(self, start: float, may_be_empty: bool) -> Encoded:
        """Put the rows of the usable samples together."""
        samples = self.samples
        for row, first in self.twin.items():
            if first in self.bad:
                self.bad[row] = self.bad[first]
                continue
            for lane in self.lanes:
                lane.features[row] = lane.features[first]
            if self.attributes is not None:
                self.attributes[row] = self.attributes[first]
            self.known[row] = self.known[first]
        problems = [self.bad[row].problem(samples[row].id) for row in sorted(self.bad)]
        usable = [
            (row, digest.hex(), known)
            for row, (digest, known) in enumerate(zip(self.digests, self.known, strict=True))
            if digest is not None and known is not None and row not in self.bad
        ]
        if not (usable or may_be_empty):
            raise _none_usable(self.dataset.name, len(samples), problems)
        rows = [row for row, _, _ in usable]
        if self.cache is not None:
            self.cache.prune()
        return Encoded(
            samples=[samples[row] for row in rows],
            hashes=[digest for _, digest, _ in usable],
            features={lane.encoder.info.id: lane.features[rows] for lane in self.lanes},
            attributes={}
            if self.attributes is None
            else {name: self.attributes[rows, k] for k, name in enumerate(ATTRIBUTES)},
            thumbnails=[known.thumbnail for _, _, known in usable] if self.thumbnails else [],
            notes=Counter(
                note for row, _, known in usable for note in known.notes_for(samples[row].source)
            ),
            problems=problems,
            # A part of a larger set may have no usable sample; the whole gets its own fingerprint.
            fingerprint=set_fingerprint(
                (digest, samples[row].label, samples[row].group) for row, digest, _ in usable
            )
            if usable
            else "",
            infos=[lane.encoder.info for lane in self.lanes],
            warnings=self.cache.warnings[self.warned :] if self.cache else [],
            forwards=self.forwards,
            timings={
                **{step: float(self.seconds[step]) for step in _STEPS},
                "total": time.perf_counter() - start,
            },
        )


@dataclass(frozen=True, slots=True)
class _Image:
    """What is known of an image beside numbers."""

    width: int
    height: int
    format: str
    notes: tuple[str, ...]
    thumbnail: bytes

    def pack(self) -> bytes:
        head = json.dumps([self.width, self.height, self.format, self.notes])
        return head.encode() + b"\n" + self.thumbnail

    def notes_for(self, source: str) -> tuple[str, ...]:
        """Add the note that depends on the file's name, not on its content."""
        form = EXTENSIONS.get(os.path.splitext(source)[1].lower())  # noqa: PTH122 - not a path
        return (*self.notes, "extension") if form not in (None, self.format) else self.notes


def _unpack(record: bytes | None) -> _Image | None:
    if record is None:
        return None
    head, _, small = record.partition(b"\n")
    width, height, form, notes = json.loads(head)
    return _Image(width, height, form, tuple(notes), small)


class Clock:
    """Adds the time since the last lap to a step's seconds."""

    def __init__(self, seconds: Counter[str]) -> None:
        self._seconds = seconds
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Give the time since the last lap to this step."""
        now = time.perf_counter()
        self._seconds[step] += now - self._last  # type: ignore[assignment]
        self._last = now


def _quietly(load: Any) -> None:
    with contextlib.suppress(Exception):
        load()


@contextlib.contextmanager
def progress_bar(label: str, total: int, show: bool | None, unit: str = "images") -> Iterator[Any]:
    """Give a function to call once for each sample."""
    if show is None:
        show = sys.stderr.isatty()
    if not show:
        yield lambda: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(ProgressColumn):
        def render(self, task: Task) -> str:
            speed = task.finished_speed or task.speed
            return "" if speed is None else f"{speed:.0f} {unit}/s"

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task(f"encoding {escape(label)}", total=total)
        yield lambda: bar.advance(task)
