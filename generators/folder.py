"""Write what an operation makes of a data set as a folder that any reader of images understands.

The folder is an ImageFolder: PNG files beside ``metadata.jsonl``, one row each. A run that was
killed goes on where it stopped when it is started again, and gives the same folder, to the byte.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, TypeAlias

from PIL import Image

from ..errors import DataError, UsageError
from .protocol import (
    Item,
    LeakError,
    Modality,
    Operation,
    RecipeError,
    Record,
    content_hash,
    held_out_sources,
    produce,
    spec,
    to_json,
)

METADATA = "metadata.jsonl"
_STATE = ".evalsuite"
_Row: TypeAlias = dict[str, Any]
ItemLike: TypeAlias = Item | tuple[str, Image.Image | None, str | int | None, str | None]


@dataclass(frozen=True, slots=True)
class Failure:
    """A child that could not be made, and why."""

    id: str
    variant: int
    reason: str


_Made: TypeAlias = tuple[_Row, bool] | Failure


@dataclass(frozen=True, slots=True)
class FolderReport:
    """What a run wrote.

    Parameters
    ----------
    path : Path
        The folder.
    n_items : int
        Items that came in.
    n_written : int
        Children that this run made.
    n_kept : int
        Children of an earlier run that were found and kept.
    n_unchanged : int
        Children (of both) whose content equals their parent's.
    failures : tuple of Failure
        Children that could not be made; they are tried again by the next run.
    """

    path: Path
    n_items: int
    n_written: int
    n_kept: int
    n_unchanged: int
    failures: tuple[Failure, ...]


def generate_folder(
    operation: Operation,
    items: Iterable[ItemLike],
    out_dir: str | Path,
    *,
    seed: int,
    variants: int = 1,
    split: str | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> FolderReport:
    """Make children of every item and write them as an ImageFolder.

    ``metadata.jsonl`` has a row per child: ``file_name``, the columns of
    :class:`~evalsuite.generators.protocol.Record` (``id``, ``parents``, ``generator``, ``params``,
    ``seed``, ``sha256`` of the pixels, ``synthetic`` …), ``group``, ``label`` and ``split``. Rows
    are in the order of the items. Images are lossless PNG.

    Parameters
    ----------
    operation : Operation
        Gives images; takes images or labels.
    items : iterable of Item, or of (id, image, label, split)
        Read once, one after the other.
    out_dir : path
        New, empty, or of an earlier run of the same operation, seed and variants: that run is
        continued, and what it made is kept where its parent is still the same.
    seed : int
        With it, the item's id and the variant, everything that is drawn is settled.
    variants : int
        Children per item.
    split : str, optional
        For items that have none. An item's own split is inherited and cannot be changed.
    workers : int
        Threads. The result does not depend on it.
    progress : callable, optional
        Called with the number of children done.

    Returns
    -------
    FolderReport

    Raises
    ------
    LeakError
        If ``split`` is another than an item's own, or the operation learned from a held-out split
        and the item is not of it.
    RecipeError
        If the operation does not give images.
    UsageError
        If an argument is out of range, the folder holds something else, or another process is
        writing it.
    DataError
        If there are no items, an id comes twice, nothing at all could be made, or an earlier run
        made children of items that are no longer there.
    """
    if operation.output != Modality.IMAGE:
        raise RecipeError(
            f"{operation.name} gives {operation.output}; a folder of images needs an operation "
            "that gives image"
        )
    if variants < 1 or workers < 1:
        raise UsageError(f"variants and workers must be 1 or more, got {variants} and {workers}")
    out = Path(out_dir)
    job = {"format": 1, "operation": spec(operation), "seed": seed, "variants": variants}
    with _folder(out, job) as journal:
        earlier = _earlier(out)
        rows: list[_Row] = []
        failures: list[Failure] = []
        n_items = n_written = n_unchanged = 0
        seen: set[str] = set()

        run = _Run(operation, seed, out, earlier)

        def tasks() -> Iterator[Callable[[], _Made]]:
            nonlocal n_items
            for given in items:
                item = given if isinstance(given, Item) else Item(*given)
                if item.id in seen:
                    raise DataError(f"the id {item.id!r} comes twice: ids must be unique")
                seen.add(item.id)
                n_items += 1
                settled = _inherited_split(item, split, operation)
                for variant in range(variants):
                    yield partial(run.make, item, settled, variant)

        for result in _in_order(tasks(), workers):
            if isinstance(result, Failure):
                failures.append(result)
            else:
                row, new = result
                if new:
                    journal.write(to_json(row) + "\n")
                    journal.flush()
                    n_written += 1
                n_unchanged += row["sha256"] == row["parent_sha256"]
                rows.append(row)
            if progress is not None:
                progress(len(rows) + len(failures))

        if not n_items:
            raise DataError("there are no items to generate from")
        made = {row["file_name"] for row in rows}
        tried = {_file_name(failure.id, failure.variant) for failure in failures}
        if lost := sorted(set(earlier) - made - tried):
            raise DataError(
                f"{out} holds {len(lost)} children of items that are no longer there (first: "
                f"{earlier[lost[0]]['id']}): use a new folder, or give all the items"
            )
        _write(out / _STATE / "failures.jsonl", _lines(_failure_rows(failures)))
        if not rows:
            raise DataError(
                f"nothing could be made of {n_items} items; the first reason: {failures[0].reason}"
            )
        _write(out / METADATA, _lines(rows))
        journal.truncate(0)
    return FolderReport(
        path=out,
        n_items=n_items,
        n_written=n_written,
        n_kept=len(rows) - n_written,
        n_unchanged=n_unchanged,
        failures=tuple(failures),
    )


def _inherited_split(item: Item, wanted: str | None, operation: Operation) -> str | None:
    if wanted is not None and item.split is not None and wanted != item.split:
        raise LeakError(
            f"item {item.id!r} is of split {item.split!r}, and what comes of it stays there: it "
            f"cannot be written as {wanted!r}; leave split out, or the item"
        )
    split = item.split if item.split is not None else wanted
    for source in sorted(held_out_sources(operation)):
        if source != split:
            raise LeakError(
                f"{operation.name} learned from the held-out split {source!r}, so it cannot make "
                f"samples of split {split!r} (item {item.id!r}): fit it on train"
            )
    return split


@dataclass(frozen=True, slots=True)
class _Run:
    """What all children of a run share."""

    operation: Operation
    seed: int
    out: Path
    earlier: Mapping[str, _Row]

    def make(self, item: Item, split: str | None, variant: int) -> _Made:
        """Make and write one child, or find it made: its row, and whether it is new."""
        name = _file_name(item.id, variant)
        placed = {
            "file_name": name,
            "group": item.group or item.id,
            "label": item.label,
            "split": split,
        }
        try:
            if self.operation.input == Modality.IMAGE:
                item = replace(item, image=item.value(Modality.IMAGE))  # read once
            found = self.earlier.get(name)
            if (
                found is not None
                and found["parent_sha256"] == content_hash(item.value(self.operation.input))
                and found["parents"] == list(item.parents or (item.id,))
                and (self.out / name).is_file()
            ):
                return _in_columns({**found, **placed}), False
            image, record = produce(self.operation, item, seed=self.seed, variant=variant)
        except (ValueError, OSError) as error:
            # One bad sample does not stop a run; it is reported. OSError: Pillow decodes late.
            return Failure(item.id, variant, f"{type(error).__name__}: {error}")
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        _write(self.out / name, buffer.getvalue())
        return _in_columns({**placed, **record.to_row()}), True


def _in_columns(row: _Row) -> _Row:
    names = ("file_name", *Record.__dataclass_fields__, "group", "label", "split")
    return {name: row[name] for name in names}


def _in_order(tasks: Iterator[Callable[[], _Made]], workers: int) -> Iterator[_Made]:
    """Run the tasks, a few ahead, and give their results in the order of the tasks."""
    if workers == 1:
        for task in tasks:
            yield task()
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[_Made]] = deque()
        try:
            for task in tasks:
                waiting.append(pool.submit(task))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


# Readers in the manner of Hugging Face's ImageFolder take these words in a file's name for a split
# and leave out the files that have none.
_SPLIT_WORDS = re.compile(r"(?i)train(ing)?|valid(ation)?|val|dev|test(ing)?|eval(uation)?")


def _file_name(item_id: str, variant: int) -> str:
    """Name a file: readable, and safe whatever the id is; the hash makes it unique."""
    words = re.findall(r"[A-Za-z]+|[0-9]+", item_id)
    readable = "-".join(w for w in words if not _SPLIT_WORDS.fullmatch(w))[-48:].strip("-")
    digest = blake2b(to_json([item_id, variant]).encode(), digest_size=8).hexdigest()
    return f"{readable or 'item'}-{digest}.png"


@contextmanager
def _folder(out: Path, job: _Row) -> Iterator[IO[str]]:
    """Claim the folder for this job and this process; gives the journal, opened to append."""
    state = out / _STATE
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder")
    if not (state / "job.json").is_file():
        if out.is_dir() and any(p.name != _STATE for p in out.iterdir()):
            raise UsageError(
                f"{out} is not empty and was not made by a generator: name a new folder"
            )
        state.mkdir(parents=True, exist_ok=True)
        _write(state / "job.json", (json.dumps(job, sort_keys=True, indent=1) + "\n").encode())
    elif (found := json.loads((state / "job.json").read_bytes())) != json.loads(to_json(job)):
        changed = sorted(k for k in job if found.get(k) != job[k])
        raise UsageError(
            f"{out} was made with another {' and '.join(changed)}: name a new folder, or run it "
            f"as before: {to_json(found)}"
        )
    with (state / "journal.jsonl").open("a", encoding="utf-8") as journal:
        _lock(journal, out)
        for left in state.glob("*.part"):
            left.unlink()
        yield journal


def _lock(file: IO[str], out: Path) -> None:
    """Keep other processes out; the system lets go of it when this one ends, however it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UsageError(f"another process is writing {out}: wait for it, or end it") from error


def _earlier(out: Path) -> dict[str, _Row]:
    """Read the rows of earlier runs. The journal's last line may be cut off where it was killed."""
    rows: dict[str, _Row] = {}
    for path in (out / METADATA, out / _STATE / "journal.jsonl"):
        if not path.is_file():
            continue
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.decode().splitlines():
            row = json.loads(line)
            rows[row["file_name"]] = row
        if path.name == "journal.jsonl" and len(whole) < len(data):
            os.truncate(path, len(whole))
    return rows


def _write(path: Path, data: bytes) -> None:
    """Write a whole file or none: to a temporary one, to the disc, then under its name."""
    state = path.parent if path.parent.name == _STATE else path.parent / _STATE
    part = state / f"{path.name}.part"
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _lines(rows: Iterable[_Row]) -> bytes:
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()


def _failure_rows(failures: Iterable[Failure]) -> Iterator[_Row]:
    for failure in failures:
        yield {"id": failure.id, "variant": failure.variant, "reason": failure.reason}
