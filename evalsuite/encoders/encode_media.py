"""The encode loop for sound and text: features, scores, attributes and transcripts in one pass.

Each worker takes a few samples at a time through all steps. What the cache knows is not computed
again; a model is loaded only when something is left for it.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import threadpoolctl

from ..data.dataset import BadSample, Dataset, Limits, Sample
from ..data.images import sample_hash, set_fingerprint
from ..errors import DataError, ModelError
from .base import code_version, cpu_count
from .encoding import Clock, Encoded, progress_bar, short_turns
from .media import Embedder, Scorer, Transcriber, Transcript

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from ..metrics.image.attributes import Attribute
    from .cache import FeatureCache, Records

Media: TypeAlias = Literal["audio", "text"]

# Samples that a worker takes at a time. Recordings fill memory; texts are batched with others of
# their length, and of few there are not enough of each.
_CHUNK = {"audio": (8, 8), "text": (64, 1024)}
_TURNS = 4
"""Turns that each worker has at least, so that the last one does not keep the others waiting."""
DESCRIBED_BY: dict[Media, tuple[str, ...]] = {
    "audio": (
        "evalsuite.data.audio",
        "evalsuite.metrics.audio.attributes",
        "evalsuite.metrics.audio._analysis",
    ),
    "text": (
        "evalsuite.data.dataset",
        "evalsuite.metrics.text.attributes",
        "evalsuite.metrics.text.words",
    ),
}
"""The code that readable properties come from: when any of it changes, they are measured anew."""
_STEPS = ("read", "lookup", "decode", "describe", "score", "transcribe", "forward")


def encode_media(
    dataset: Dataset,
    modality: Media,
    encoders: Sequence[Embedder[Any]],
    *,
    scorers: Sequence[Scorer[Any]] = (),
    transcriber: Transcriber | None = None,
    language: str | None = None,
    cache: FeatureCache | None = None,
    progress: bool | None = None,
    workers: int | None = None,
    limits: Limits | None = None,
    label: str = "",
    may_be_empty: bool = False,
) -> Encoded:
    """Turn the sound or the text of a data set into features, attributes and transcripts.

    Parameters
    ----------
    dataset : Dataset
        Its samples that have no such part are left out; the data set itself reports them.
    modality : {"audio", "text"}
    encoders, scorers, transcriber
        The models; a scorer's scores stand among the attributes.
    language : str, optional
        For the transcriber, where a sample does not name its own.
    cache : FeatureCache, optional
        Where earlier results are taken from and new ones are put.
    progress : bool, optional
        Whether to show a progress bar on stderr; if it is a terminal, by default.
    workers : int, optional
        Threads; one for each core by default.
    limits : Limits, optional
        What is too large to be decoded.
    label : str
        What the progress bar calls it; the data set's name by default.
    may_be_empty : bool
        Whether it is no error that no sample can be used: of a part of a larger set.

    Returns
    -------
    Encoded
        Without thumbnails: the report makes those that it shows.

    Raises
    ------
    DataError
        If no sample at all has a part of this modality that can be used.
    ModelError
        If a model cannot be loaded, or two have the same id.
    """
    start = time.perf_counter()
    ids = [m.info.id for m in (*encoders, *scorers)]
    if len(set(ids)) < len(ids):
        raise ModelError(f"each model may be given once, got {ids}")
    rows = [s for s in dataset.samples if modality in s.modalities]
    if not rows:
        raise DataError(f"no sample of {dataset.name!r} has {modality}")
    run = _Run(
        dataset, rows, modality, encoders, scorers, transcriber, language, cache,
        limits or Limits(),
    )  # fmt: skip
    # As in the encode loop of images: a sum split over threads would depend on their number.
    blas = threadpoolctl.ThreadpoolController().select(internal_api="openblas")
    unit = "texts" if modality == "text" else "recordings"
    bar = progress_bar(label or dataset.name, len(rows), progress, unit)
    with blas.limit(limits=1), short_turns(), bar as advance:
        run.go(workers or cpu_count(), advance)
    return run.result(start, may_be_empty)


def _attributes(modality: Media) -> tuple[Mapping[str, Attribute], Callable[[Any], dict[str, Any]]]:
    """Give the readable properties of a modality, and the function that measures them."""
    if modality == "text":
        from ..metrics.text import attributes as text

        return text.ATTRIBUTES, text.text_attributes
    from ..metrics.audio import attributes as audio

    return audio.ATTRIBUTES, lambda item: audio.audio_attributes(*_full_band(item))


def _full_band(item: Any) -> tuple[npt.NDArray[np.float32], int]:
    """Give a recording at the file's own rate: the band that it fills is one of the properties."""
    return item.native, item.source_rate


class _Run:
    """The state that the workers share."""

    def __init__(
        self,
        dataset: Dataset,
        rows: list[Sample],
        modality: Media,
        encoders: Sequence[Embedder[Any]],
        scorers: Sequence[Scorer[Any]],
        transcriber: Transcriber | None,
        language: str | None,
        cache: FeatureCache | None,
        limits: Limits,
    ) -> None:
        n = len(rows)
        self.dataset, self.rows, self.modality = dataset, rows, modality
        self.encoders, self.scorers, self.transcriber = encoders, scorers, transcriber
        self.language = language
        self.limits = limits
        self.cache = cache
        self.known, self.describe = _attributes(modality)
        self.features = [np.zeros((n, e.info.dim), dtype=np.float32) for e in encoders]
        self.scores = [np.full((n, len(s.scores)), np.nan) for s in scorers]
        self.attributes = np.full((n, len(self.known)), np.nan)
        self.transcripts: list[Transcript | None] = [None] * n
        self.notes: list[tuple[str, ...]] = [()] * n
        self.digests: list[bytes | None] = [None] * n
        self.bad: dict[int, BadSample] = {}
        self.forwards = 0
        self.seconds: Counter[str] = Counter()
        self.warned = len(cache.warnings) if cache else 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.stores: dict[str, Records] = {}
        if cache:
            self._open(cache)

    def _open(self, cache: FeatureCache) -> None:
        for model in (*self.encoders, *self.scorers):
            self.stores[model.info.id] = cache.records("features", model.info.key)
        if self.transcriber is not None:
            self.stores["transcripts"] = cache.records("transcripts", self.transcriber.info.key)
        made_by = [code_version(*DESCRIBED_BY[self.modality])]
        for library in ("numpy", "scipy", "soundfile", "soxr", "fugashi", "unidic-lite"):
            try:
                made_by.append(version(library))
            except PackageNotFoundError:
                made_by.append("")
        key = hashlib.sha256(" ".join([self.modality, *made_by]).encode()).hexdigest()
        self.stores["described"] = cache.records("described", key)

    def go(self, workers: int, advance: Any) -> None:
        """Encode all samples."""
        least, most = _CHUNK[self.modality]
        chunk = min(most, max(least, len(self.rows) // (workers * _TURNS)))
        starts = iter(range(0, len(self.rows), chunk))
        try:
            with ThreadPoolExecutor(workers, "encode") as pool:
                futures = [pool.submit(self._work, starts, chunk, advance) for _ in range(workers)]
                try:
                    for future in futures:
                        future.result()
                finally:
                    self._stop.set()
        finally:
            for records in self.stores.values():
                records.flush()

    def _work(self, starts: Iterator[int], chunk: int, advance: Any) -> None:
        seconds: Counter[str] = Counter()
        try:
            while not self._stop.is_set():
                with self._lock:
                    start = next(starts, None)
                if start is None:
                    break
                rows = range(start, min(start + chunk, len(self.rows)))
                self._some(rows, seconds)
                for _ in rows:
                    advance()
        except BaseException:
            self._stop.set()
            raise
        finally:
            with self._lock:
                self.seconds.update(seconds)

    def _digest(self, row: int) -> bytes:
        sample = self.rows[row]
        if self.modality == "text":
            return hashlib.sha256((sample.text or "").encode()).digest()
        # Opened, not read: a recording of hours needs no more memory than one of seconds.
        with self.dataset.open(sample, "audio") as file:
            return bytes.fromhex(sample_hash(file))

    def _decode(self, row: int) -> Any:
        sample = self.rows[row]
        if self.modality == "text":
            if not (sample.text or "").strip():
                raise BadSample("empty", "the text is empty")
            return sample.text
        from ..data.audio import decode_audio

        with self.dataset.open(sample, "audio") as file:
            return decode_audio(file, self.limits)

    def _some(self, rows: range, seconds: Counter[str]) -> None:
        """Take a few samples through all steps."""
        clock = Clock(seconds)
        decoded: dict[int, Any] = {}

        def item(row: int) -> Any:
            if row not in decoded:
                clock.lap("lookup")
                decoded[row] = self._decode(row)
                clock.lap("decode")
            return decoded[row]

        for row in rows:
            try:
                self.digests[row] = self._digest(row)
                clock.lap("read")
                self._describe(row, item, clock)
            except BadSample as bad:
                self.bad[row] = bad
        good = [row for row in rows if row not in self.bad]
        for encoder in self.encoders:
            if good and hasattr(encoder, "truncated"):
                cut = encoder.truncated([item(row) for row in good])
                for row in (r for r, was in zip(good, cut, strict=True) if was):
                    self.notes[row] = (*self.notes[row], "truncated")
        for encoder, features in zip(self.encoders, self.features, strict=True):
            left = self._known(encoder.info.id, good, features, np.float32)
            if left:
                items = [item(row) for row in left]
                clock.lap("lookup")
                features[left] = encoder.embed(items)
                clock.lap("forward")
                self._keep(encoder.info.id, left, features)
        for scorer, scores in zip(self.scorers, self.scores, strict=True):
            left = self._known(scorer.info.id, good, scores, np.float64)
            if left:
                items = [item(row) for row in left]
                clock.lap("lookup")
                scores[left] = scorer.score(items)
                clock.lap("score")
                self._keep(scorer.info.id, left, scores)
        if self.transcriber is not None:
            for row in good:
                self._transcribe(self.transcriber, row, item)
            clock.lap("transcribe")

    def _describe(self, row: int, item: Callable[[int], Any], clock: Clock) -> None:
        """Measure the readable properties, or take them from the cache."""
        store = self.stores.get("described")
        digest = self.digests[row] or b""
        record = store.get(digest) if store else None
        if record is not None:
            head, _, values = record.partition(b"\n")
            self.notes[row] = tuple(json.loads(head))
            self.attributes[row] = np.frombuffer(values, dtype=np.float64)
            return
        decoded = item(row)
        notes = tuple(getattr(decoded, "notes", ()))
        measured = self.describe(decoded)
        self.attributes[row] = [measured[name] for name in self.known]
        self.notes[row] = notes
        if store:
            store.put(digest, json.dumps(notes).encode() + b"\n" + self.attributes[row].tobytes())
        clock.lap("describe")

    def _known(
        self, name: str, rows: list[int], values: npt.NDArray[Any], dtype: type
    ) -> list[int]:
        """Fill in what the cache knows; give the rows that are left."""
        store = self.stores.get(name)
        if store is None:
            return rows
        left = []
        for row in rows:
            record = store.get(self.digests[row] or b"")
            if record is None:
                left.append(row)
            else:
                values[row] = np.frombuffer(record, dtype=dtype)
        return left

    def _keep(self, name: str, rows: list[int], values: npt.NDArray[Any]) -> None:
        store = self.stores.get(name)
        if store is not None:
            for row in rows:
                store.put(self.digests[row] or b"", values[row].tobytes())
        with self._lock:
            self.forwards += len(rows)

    def _transcribe(self, transcriber: Transcriber, row: int, item: Callable[[int], Any]) -> None:
        language = self.rows[row].lang or self.language
        store = self.stores.get("transcripts")
        digest = hashlib.sha256((self.digests[row] or b"") + (language or "").encode()).digest()
        record = store.get(digest) if store else None
        if record is not None:
            self.transcripts[row] = Transcript(**json.loads(record))
            return
        heard = transcriber.transcribe([item(row)], language=language)[0]
        self.transcripts[row] = heard
        if store:
            store.put(digest, json.dumps(asdict(heard)).encode())
        with self._lock:
            self.forwards += 1

    def result(self, start: float, may_be_empty: bool) -> Encoded:
        """Put the rows of the usable samples together."""
        good = [row for row in range(len(self.rows)) if row not in self.bad]
        problems = [self.bad[row].problem(self.rows[row].id) for row in sorted(self.bad)]
        if not (good or may_be_empty):
            raise DataError(
                f"none of the {len(self.rows)} {self.modality} parts of {self.dataset.name!r} can "
                f"be used; the first: {problems[0].sample!r} is {problems[0].kind} "
                f"({problems[0].detail})"
            )
        if self.cache is not None:
            self.cache.prune()
        samples = [self.rows[row] for row in good]
        hashes = [(self.digests[row] or b"").hex() for row in good]
        attributes = {name: self.attributes[good, k] for k, name in enumerate(self.known)}
        described = dict(self.known)
        for scorer, scores in zip(self.scorers, self.scores, strict=True):
            for k, (name, what) in enumerate(scorer.scores.items()):
                attributes[name], described[name] = scores[good, k], what
        return Encoded(
            samples=samples,
            hashes=hashes,
            features={
                e.info.id: f[good] for e, f in zip(self.encoders, self.features, strict=True)
            },
            attributes=attributes,
            thumbnails=[],
            notes=Counter(note for row in good for note in self.notes[row]),
            problems=problems,
            fingerprint=set_fingerprint(
                (h, s.label, s.group) for h, s in zip(hashes, samples, strict=True)
            )
            if good
            else "",
            infos=[e.info for e in self.encoders],
            warnings=self.cache.warnings[self.warned :] if self.cache else [],
            forwards=self.forwards,
            timings={
                **{step: float(self.seconds[step]) for step in _STEPS},
                "total": time.perf_counter() - start,
            },
            modality=self.modality,
            described=described,
            transcripts=None
            if self.transcriber is None
            else [t for row in good if (t := self.transcripts[row]) is not None],
        )
