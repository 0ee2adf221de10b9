"""What a data set is to the rest of evalsuite, and the one door through which it comes in."""

from __future__ import annotations

import copy
import io
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Protocol, TypeAlias

from evalsuite.errors import DataError, UsageError

if TYPE_CHECKING:
    import datasets

    from .remote import RemotePath

Kind: TypeAlias = Literal[
    "unreadable",
    "truncated",
    "oversized",
    "not_an_image",
    "not_audio",
    "not_text",
    "not_finite",
    "empty",
    "control_characters",
    "missing_partner",
    "outside_folder",
    "missing",
    "duplicate_id",
    "bad_metadata",
    "special_file",
]
"""Everything that can be wrong with a sample; docs/data.md says what each one means."""

Modality: TypeAlias = Literal["image", "audio", "text"]
MODALITIES: tuple[Modality, ...] = ("image", "audio", "text")
"""In the order in which they are named everywhere."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One record of a data set: where it is and what the data set says of it, not its content.

    ``id`` is unique within the data set. ``source`` is for people: a path relative to the data
    set, ``shard.tar#member`` or ``file.parquet#row 12``; of a record of several files it is the
    first. All strings are valid Unicode but otherwise as the data has them: they may hold HTML or
    control characters.

    ``media`` names the binary parts, of ``image`` and ``audio`` in this order; :attr:`text` is the
    text part. ``parents`` are the ids of the samples that this one was made from, ``lang`` is its
    language as the data set names it.
    """

    id: str
    source: str
    label: str | None = None
    group: str | None = None
    split: str | None = None
    text: str | None = None
    media: tuple[str, ...] = ("image",)
    parents: tuple[str, ...] = ()
    lang: str | None = None

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the record holds: its media, then ``text`` if it has one."""
        return self.media if self.text is None else (*self.media, "text")


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with a sample, a file or a row of metadata.

    ``lost`` says whether a sample is missing because of it: a repeated id is reported, but its
    sample is kept.
    """

    sample: str
    kind: Kind
    detail: str
    lost: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one sample may ask for before it is refused.

    ``max_bytes`` is for one encoded file that is read into memory, ``max_pixels`` for one decoded
    picture (checked against the header, before anything is decoded), ``max_line`` for one line of
    metadata in bytes, ``max_text`` for one text in bytes of UTF-8. ``max_seconds`` refuses nothing:
    of a longer recording, excerpts are read. Links out of the folder are never followed: there is
    no setting for it.
    """

    max_bytes: int = 256 * 2**20
    max_pixels: int = 100_000_000
    max_line: int = 2**20
    max_seconds: float = 600.0
    max_text: int = 2**20

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "max_line", "max_seconds", "max_text"):
            if not 1 <= getattr(self, name) < math.inf:  # written so that NaN is refused too
                raise DataError(f"{name} must be at least 1 and finite, got {getattr(self, name)}")


class BadSample(Exception):  # noqa: N818 - it is the sample that is bad, not the program
    """A sample that cannot be used: the run goes on, and reports it."""

    def __init__(self, kind: Kind, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind: Kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"

    def problem(self, sample: str) -> Problem:
        """Give it as a :class:`Problem` of the sample with this id."""
        return Problem(sample, self.kind, self.detail)


class Store(Protocol):
    """Where the bytes are. ``where`` is whatever the reader noted for the sample."""

    def read(self, where: Any) -> bytes:
        """Give the encoded bytes, from any thread; raise :class:`BadSample` if that fails."""
        ...

    def open(self, where: Any) -> BinaryIO:
        """Give a file to read them from, in memory only where there is no other way."""
        ...


@dataclass(slots=True)
class Contents:
    """What a reader found, before ids are made unique and samples put in order."""

    name: str
    format: str
    root: Path | RemotePath | None
    store: Store
    found: list[tuple[Sample, tuple[Any, ...]]] = field(default_factory=list)
    """Each sample, with where each of its ``media`` is."""
    problems: list[Problem] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    by_location: bool = False
    """Samples are in the order in which they can be read fast, and stay so."""


class Dataset:
    """Samples in a fixed order, what is wrong with the rest, and random access to the bytes.

    Made by :func:`open_dataset`. The order depends on the data only: by id, but for Parquet by
    file and row, so that each row group is decoded once.

    Attributes
    ----------
    name, format : str
        What to call it, and what it turned out to be: ``folder``, ``folder+metadata``,
        ``manifest``, ``parquet``, ``webdataset``, ``hf-disk`` or ``hf-memory``.
    root : Path, RemotePath or None
        The folder that holds it, links resolved, or the address; None for a data set in memory.
    samples : sequence of Sample
        All that was found and not refused. That each can be read is known only after reading it.
    modalities : tuple of str
        What its samples hold, of ``image``, ``audio`` and ``text`` in this order. That all hold
        all of it is not said: see :func:`partners`.
    problems : list of Problem
        Whatever was refused or odd when the data set was opened, in the order of the samples.
    ignored : dict of str to int
        Files that are no samples and no problem, by reason: ``hidden``, ``system``,
        ``companion`` (text beside the media), ``other``, ``directory_link``.
    """

    def __init__(self, contents: Contents, split: str | None = None) -> None:
        self.name = contents.name
        self.format = contents.format
        self.root = contents.root
        self.ignored = dict(sorted(contents.ignored.items()))
        self._store = contents.store
        found = contents.found
        if not contents.by_location:
            # Where ids repeat, the source decides, so that the result never depends on the disk.
            found.sort(key=lambda item: (item[0].id, item[0].source))
        problems = contents.problems
        found = _unique(found, problems)
        if split is not None:
            splits = sorted({s.split for s, _ in found if s.split is not None})
            found = [item for item in found if item[0].split == split]
            if not found:
                raise DataError(
                    f"{self.name!r} has no split {split!r}; "
                    + (f"it has {', '.join(map(repr, splits))}" if splits else "it names no splits")
                )
        present = Counter(sample.modalities for sample, _ in found)
        expected = partners(present)
        for sample, _ in found:
            for lacking in expected - set(sample.modalities):
                detail = f"it has no {lacking}, which most records of this data set have"
                problems.append(Problem(sample.id, "missing_partner", detail, lost=False))
        self.modalities: tuple[str, ...] = tuple(
            name for name in MODALITIES if any(name in held for held in present)
        )
        self.problems = sorted(problems, key=lambda p: (p.sample, p.kind, p.detail))
        if not found:
            raise DataError(_nothing(self.name, self.format, self.problems, self.ignored))
        self.samples: Sequence[Sample] = tuple(sample for sample, _ in found)
        self._where = {sample.id: where for sample, where in found}

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self.samples)

    def __repr__(self) -> str:
        return (
            f"<Dataset {self.name!r}: {self.format}, {len(self)} samples, "
            f"{len(self.problems)} problems>"
        )

    def read(self, sample: Sample, modality: str | None = None) -> bytes:
        """Give the encoded bytes of a sample, from any thread.

        Parameters
        ----------
        sample : Sample
        modality : str, optional
            Which of its parts: of a text, the UTF-8. By default the only binary one, or the text
            of a sample that has none.

        Raises
        ------
        BadSample
            If it cannot be read, is empty or is larger than the limit.
        KeyError
            If it is not a sample of this data set, or has no such part.
        DataError
            If it has several binary parts and none is named.
        """
        modality = _part(sample, modality)
        if modality == "text" and sample.text is not None:
            return sample.text.encode()
        return self._store.read(self._where[sample.id][sample.media.index(modality)])

    def open(self, sample: Sample, modality: str | None = None) -> BinaryIO:
        """Give a file that can be sought in, for a part that may be too long for memory.

        ``Limits.max_bytes`` does not hold for it where it is a file, or a member of a tar: nothing
        is read but what is asked for. Parameters and errors are those of :meth:`read`. Close it.
        """
        modality = _part(sample, modality)
        if modality == "text" and sample.text is not None:
            return io.BytesIO(sample.text.encode())
        return self._store.open(self._where[sample.id][sample.media.index(modality)])

    @property
    def n_found(self) -> int:
        """Samples and lost samples together: what the data set claims to hold."""
        return len(self.samples) + sum(p.lost for p in self.problems)

    def located(self, samples: Sequence[Sample]) -> list[tuple[Sample, tuple[Any, ...]]]:
        """Give samples with where their media are: what :meth:`part` takes."""
        return [(sample, self._where[sample.id]) for sample in samples]

    def part(self, found: Sequence[tuple[Sample, tuple[Any, ...]]]) -> Dataset:
        """Give some of the samples as a data set of the same files, to be sent to a worker.

        It reports no problems: those are the whole set's.
        """
        part = copy.copy(self)
        part.samples = tuple(sample for sample, _ in found)
        part._where = {sample.id: where for sample, where in found}
        part.problems, part.ignored = [], {}
        return part

    def labels(self) -> dict[str, int]:
        """Count the samples of each label, by name; samples without one are left out."""
        return _count(s.label for s in self.samples)

    def groups(self) -> dict[str, int]:
        """Count the samples of each group, by name; samples without one are left out."""
        return _count(s.group for s in self.samples)

    def splits(self) -> dict[str, int]:
        """Count the samples of each split, by name; samples without one are left out."""
        return _count(s.split for s in self.samples)


def open_dataset(
    source: str | os.PathLike[str] | datasets.Dataset,
    *,
    limits: Limits | None = None,
    columns: Mapping[str, str] | None = None,
    split: str | None = None,
    allow_hosts: Sequence[str] = (),
) -> Dataset:
    """Open a data set of images, recordings, texts or records of these, whatever its format.

    Images and recordings are not read; texts are.

    Parameters
    ----------
    source : path or datasets.Dataset
        A folder of images or recordings (class folders become labels), with or without
        ``metadata.jsonl`` or ``metadata.csv``; a folder of ``.txt`` files; a Parquet file or a
        folder of them; a WebDataset tar or a folder of them; a data set written by ``datasets``'
        ``save_to_disk``; a JSONL, CSV or TSV manifest with paths or texts; or a
        ``datasets.Dataset`` in memory. Or the address of one of the files and folders in an object
        store, ``s3://bucket/folder``: see docs/scale.md.
    limits : Limits, optional
        What is refused as too large.
    columns : mapping, optional
        Where the columns have names of their own: ``{"label": "defect", "group": "module"}``.
        Keys: image, audio, id, label, group, split, text, parents, lang.
    split : str, optional
        Keep the samples of this split only.
    allow_hosts : sequence of str
        Servers of object stores that may be asked although they are not on premise.

    Returns
    -------
    Dataset
        With at least one sample.

    Raises
    ------
    DataError
        If there is nothing there, nothing in it, no format that is known, or no such column; or if
        an object store does not answer.
    UsageError
        If the path is empty, an address holds a password, or its server is neither on premise nor
        allowed.
    """
    from . import readers, remote, rows

    limits = limits or Limits()
    rows.check_columns(columns)
    columns = dict(columns or {})
    loaded = sys.modules.get("datasets")
    if loaded is not None and isinstance(source, loaded.Dataset):
        from .tables import read_memory

        return Dataset(read_memory(source, limits, columns), split)
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"cannot open a {type(source).__module__}.{type(source).__name__}: give a path or a "
            "datasets.Dataset (choose one split of a DatasetDict; an IterableDataset has no random "
            "access, so write it to Parquet first; evalsuite.metrics measures arrays)"
        )
    if source == "":
        # As a path it would be the working directory: a variable that is not set must not pass.
        raise UsageError("the path of a data set is empty: is a variable not set?")
    if isinstance(source, str) and remote.is_address(source):
        top = remote.parse(source, allow_hosts)
        if top.storage.scheme != "file":
            return Dataset(readers.read_remote(top, limits, columns), split)
        source = top.key  # a file of this machine: links are not followed out of its folder
    path = Path(source)
    if not path.exists():
        raise DataError(
            f"there is no {str(path)!r}: give a folder, a Parquet, tar or manifest file"
        )
    return Dataset(readers.read(path, limits, columns), split)


def partners(records: Mapping[tuple[str, ...], int]) -> frozenset[str]:
    """Give the modalities that each record of a set is expected to hold.

    Parameters
    ----------
    records : mapping of tuple of str to int
        How many records hold which modalities.

    Returns
    -------
    frozenset of str
        A set is one of pairs (or triples) if more than half of its records hold two modalities or
        more; a record should then hold whatever more than half of them do. In any other set, such
        as a mixed folder of images and recordings, nothing is expected: the result is empty.
    """
    total = sum(records.values())
    if 2 * sum(count for held, count in records.items() if len(held) > 1) <= total:
        return frozenset()
    holders: Counter[str] = Counter()
    for held, count in records.items():
        holders.update(dict.fromkeys(held, count))
    return frozenset(name for name, count in holders.items() if 2 * count > total)


def _part(sample: Sample, modality: str | None) -> str:
    """Give the part that is meant."""
    if modality is None:
        if len(sample.media) > 1:
            raise DataError(
                f"{sample.id!r} has {' and '.join(sample.media)}: say which, as in "
                f"read(sample, {sample.media[0]!r})"
            )
        return sample.media[0] if sample.media else "text"
    if modality not in sample.modalities:
        raise KeyError(f"{sample.id!r} has no {modality}; it has {', '.join(sample.modalities)}")
    return modality


def _unique(
    found: list[tuple[Sample, tuple[Any, ...]]], problems: list[Problem]
) -> list[tuple[Sample, tuple[Any, ...]]]:
    """Give every repeated id but the first a suffix, and report it."""
    taken = {sample.id for sample, _ in found}
    if len(taken) == len(found):
        return found
    seen: Counter[str] = Counter()
    result = []
    for sample, where in found:
        seen[sample.id] += 1
        count = seen[sample.id]
        if count == 1:
            result.append((sample, where))
            continue
        while (name := f"{sample.id}~{count}") in taken:
            count += 1
        taken.add(name)
        problems.append(
            Problem(name, "duplicate_id", f"{sample.source}: id {sample.id!r} again", lost=False)
        )
        result.append((replace(sample, id=name), where))
    return result


def group_of(sample: Sample, role: str) -> str:
    """Give a sample's group; without one it is a group of its own, and none of the other role."""
    return sample.group if sample.group is not None else f"\0{role} alone {sample.id}"


def _count(names: Iterator[str | None] | Any) -> dict[str, int]:
    return dict(sorted(Counter(name for name in names if name is not None).items()))


def _nothing(name: str, form: str, problems: list[Problem], ignored: dict[str, int]) -> str:
    """Say why there is no sample at all."""
    text = f"{name!r} ({form}) has no sample that can be used"
    kinds = Counter(p.kind for p in problems)
    if kinds:
        first = problems[0]
        counts = ", ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        text += f": {counts}; the first is {first.sample!r}: {first.detail}"
    if ignored:
        text += "; ignored: " + ", ".join(f"{n} {why}" for why, n in ignored.items())
    return text if kinds or ignored else text + ": it is empty"
