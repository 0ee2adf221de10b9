"""Write what an operation makes of a data set as a folder that any reader understands.

The folder is an ImageFolder or AudioFolder: PNG or WAV files beside ``metadata.jsonl``, one row
each; text is in its row. A run that was killed goes on where it stopped when it is started again,
and gives the same folder, to the byte.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import wave
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, TypeGuard

from PIL import Image

from ..errors import DataError, UsageError, is_no_room, writing_to
from .fitted import Unfitted
from .items import Item, Partners
from .protocol import (
    Dropped,
    LeakError,
    Operation,
    RecipeError,
    Refused,
    ReplayError,
    derive_seed,
    held_out_sources,
    leaves,
    needs_partners,
    transformed,
    with_partners,
)
from .record import Record, draw, parents_of, produce
from .registry import spec
from .values import Audio, Modality, Parts, content_hash, to_json

METADATA = "metadata.jsonl"
_STATE = ".evalsuite"
_Row: TypeAlias = dict[str, Any]
ItemLike: TypeAlias = Item | tuple[str, Image.Image | None, str | int | None, str | None]


@dataclass(frozen=True, slots=True)
class Failure:
    """A child that is not there, and why.

    ``failed``: it could not be made; ``dropped``: it did not meet a check; ``refused``: a model
    would not make it.
    """

    id: str
    variant: int
    reason: str
    kind: Literal["failed", "dropped", "refused"] = "failed"


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
        Children that were not made, dropped or refused; they are tried again by the next run.
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
    n: int | None = None,
    split: str | None = None,
    workers: int = 1,
    progress: Callable[[int], None] | None = None,
) -> FolderReport:
    """Make children of every item and write them as an ImageFolder or AudioFolder.

    ``metadata.jsonl`` has a row per child: ``file_name`` (and ``audio_file_name`` where a record
    has image and sound), the columns of :class:`~evalsuite.generators.record.Record` (``id``,
    ``parents``, ``generator``, ``params``, ``seed``, ``sha256`` of the content, ``synthetic`` …),
    ``text``, ``group``, ``label`` and ``split``. Rows are in the order of the items. Images are
    lossless PNG, sounds WAV of 16 bits. ``text`` is what was made, or the caption or transcript
    that the parent had where image or sound was changed and not replaced.

    Parameters
    ----------
    operation : Operation
        Gives image, audio, text or record. A learned one that has not learned yet
        (:class:`~evalsuite.generators.fitted.Unfitted`) is fitted on the items that are not held
        out; an operation with a second parent takes it from the items of the same split.
    items : iterable of Item, or of (id, image, label, split)
        Read once, one after the other; held in a list where the operation learns, takes second
        parents, or ``n`` is given.
    out_dir : path
        New, empty, or of an earlier run of the same operation, seed and variants: that run is
        continued, and what it made is kept where its parent is still the same.
    seed : int
        With it, the item's id and the variant, everything that is drawn is settled.
    variants : int
        Children per item.
    n : int, optional
        Children in all, in place of ``variants``: every item has as many as the others, or one
        more or less, which ones being settled by the seed.
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
    if operation.output == Modality.LABEL:
        raise RecipeError(
            f"{operation.name} gives {operation.output}; a data set needs an operation that gives "
            "image, audio, text or record"
        )
    if variants < 1 or workers < 1 or (n is not None and n < 1):
        raise UsageError(
            f"variants, n and workers must be 1 or more, got {variants}, {n} and {workers}"
        )
    if n is not None and variants != 1:
        raise UsageError(f"give variants ({variants}) or n ({n}), not both")
    out = Path(out_dir)
    job = {"format": 2, "operation": spec(operation), "seed": seed, "variants": variants, "n": n}
    given = (item if isinstance(item, Item) else Item(*item) for item in items)
    split_of = partial(_inherited_split, wanted=split)
    with _folder(out, job) as journal:
        placed: Iterable[Item] = (replace(item, split=split_of(item)) for item in given)
        pools: dict[str | None, Partners] = {}
        counts: dict[str, int] | None = None
        if n is not None or needs_partners(operation) or _learns(operation):
            placed = list(placed)
            if n is not None:
                counts = _shares(placed, n, seed)
            if needs_partners(operation):
                splits = {item.split for item in placed}
                pools = {s: Partners(i for i in placed if i.split == s) for s in splits}
            operation = _fitted(operation, placed, out / _STATE)
        earlier = _earlier(out)
        rows: list[_Row] = []
        failures: list[Failure] = []
        n_items = n_written = n_unchanged = 0
        seen: set[str] = set()

        run = _Run(operation, seed, out, earlier, pools)

        def tasks() -> Iterator[Callable[[], _Made]]:
            nonlocal n_items
            for item in placed:
                if item.id in seen:
                    raise DataError(f"the id {item.id!r} comes twice: ids must be unique")
                seen.add(item.id)
                n_items += 1
                _check_sources(item, operation)
                for variant in range(variants if counts is None else counts[item.id]):
                    yield partial(run.make, item, variant)

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
        made = {_key_of(row) for row in rows}
        tried = {_key(failure.id, failure.variant) for failure in failures}
        if lost := sorted(set(earlier) - made - tried):
            raise DataError(
                f"{out} holds {len(lost)} children of items that are no longer there (first: "
                f"{earlier[lost[0]]['id']}): use a new folder, or give all the items"
            )
        write_whole(out / _STATE / "failures.jsonl", _lines(_failure_rows(failures)))
        if not rows:
            raise DataError(
                f"nothing could be made of {n_items} items; the first reason: {failures[0].reason}"
            )
        write_whole(out / METADATA, _lines(rows))
        journal.truncate(0)
    return FolderReport(
        path=out,
        n_items=n_items,
        n_written=n_written,
        n_kept=len(rows) - n_written,
        n_unchanged=n_unchanged,
        failures=tuple(failures),
    )


def _inherited_split(item: Item, wanted: str | None) -> str | None:
    if wanted is not None and item.split is not None and wanted != item.split:
        raise LeakError(
            f"item {item.id!r} is of split {item.split!r}, and what comes of it stays there: it "
            f"cannot be written as {wanted!r}; leave split out, or the item"
        )
    return item.split if item.split is not None else wanted


def _check_sources(item: Item, operation: Operation) -> None:
    for source in sorted(held_out_sources(operation)):
        if source != item.split:
            raise LeakError(
                f"{operation.name} learned from the held-out split {source!r}, so it cannot make "
                f"samples of split {item.split!r} (item {item.id!r}): fit it on train"
            )


def _shares(items: list[Item], n: int, seed: int) -> dict[str, int]:
    """Say how many children each item has, so that they are n in all."""
    if not items:
        return {}
    each, more = divmod(n, len(items))
    order = sorted(items, key=lambda item: (derive_seed(seed, "n", item.id), item.id))
    return {item.id: each + (k < more) for k, item in enumerate(order)}


def _learns(operation: Operation) -> bool:
    return any(isinstance(leaf, Unfitted) for leaf in leaves(operation))


def _fitted(operation: Operation, items: list[Item], state: Path) -> Operation:
    """Let the operations that learn do so; what they learned stays with the folder."""

    def fit(leaf: Operation) -> Operation:
        if not isinstance(leaf, Unfitted):
            return leaf
        digest = blake2b(to_json(spec(leaf)).encode(), digest_size=8).hexdigest()
        path = state / f"{leaf.name}-{digest}.npz"
        if not path.is_file():
            part = state / f"{leaf.name}.part.npz"
            leaf.fit(items).save(part)
            part.replace(path)
        model: Operation = leaf.load(path)
        return model

    return transformed(operation, fit, only="fit")


@dataclass(frozen=True, slots=True)
class _Run:
    """What all children of a run share."""

    operation: Operation
    seed: int
    out: Path
    earlier: Mapping[str, _Row]
    pools: Mapping[str | None, Partners]

    def make(self, item: Item, variant: int) -> _Made:
        """Make and write one child, or find it made: its row, and whether it is new."""
        key = _key(item.id, variant)
        placed = {"group": item.group or item.id, "label": item.label, "split": item.split}
        if self.operation.output == Modality.RECORD:
            del placed["label"]  # it is a part of the record
        try:
            item = item.read(self.operation.input)
            if self._stands(found := self.earlier.get(key), item, variant):
                return _in_columns({**found, **placed}), False
            made, record = produce(
                self.operation,
                item,
                seed=self.seed,
                variant=variant,
                partners=self.pools.get(item.split),
            )
            files, text = self._files(item, key, made, record)
        except Refused as refusal:
            return Failure(item.id, variant, str(refusal), "refused")
        except Dropped as reason:
            return Failure(item.id, variant, str(reason), "dropped")
        except (ValueError, OSError) as error:
            if is_no_room(error):  # the temporary folder is full, and the sample is not to blame
                raise
            # One bad sample does not stop a run; it is reported. OSError: Pillow decodes late.
            return Failure(item.id, variant, f"{type(error).__name__}: {error}")
        names = {}
        for column, (name, data) in files.items():
            write_whole(self.out / name, data)
            names[column] = name
        if isinstance(made, Parts):
            placed["label"] = made.label
        return _in_columns({**placed, **record.to_row(), **names, "text": text}), True

    def _stands(self, found: _Row | None, item: Item, variant: int) -> TypeGuard[_Row]:
        """Tell whether a child of an earlier run is what this run would make."""
        if found is None:
            return False
        operation = self.operation
        if item.split in self.pools:
            operation = with_partners(operation, self.pools[item.split].of(item))
        _, params = draw(operation, item, seed=self.seed, variant=variant)
        return (
            found["parent_sha256"] == content_hash(item.value(operation.input))
            and found["operation"] == to_json(spec(operation))
            and found["params"] == to_json(params)
            and found["parents"] == list(parents_of(item, params))
            and all((self.out / found[c]).is_file() for c in FILE_COLUMNS if found.get(c))
        )

    def _files(
        self, item: Item, key: str, made: Any, record: Record
    ) -> tuple[dict[str, tuple[str, bytes]], str | None]:
        """Give the files of a child, by column, and its text."""
        if isinstance(made, str):
            return {}, made
        if isinstance(made, Parts):
            text, image, audio = made.text, made.image, made.audio
        else:
            text = self._text(item, record)
            image = None if isinstance(made, Audio) else made
            audio = made if isinstance(made, Audio) else None
        files = {}
        if image is not None:
            files["file_name"] = (f"{key}.png", _png(image))
        if audio is not None:
            column = "file_name" if image is None else "audio_file_name"
            files[column] = (f"{key}.wav", _wav(audio))
        return files, text

    def _text(self, item: Item, record: Record) -> str | None:
        """Give the caption or transcript of an image or a sound that was made."""
        said = [hop["text"] for hop in record.trace if "text" in hop]
        if said:
            return str(said[-1])
        mixed = len(record.parents) > len(item.parents or (item.id,))
        if mixed or self.operation.input == Modality.LABEL:
            return None  # a drawn image is not the parent's, and a mixed one not of one parent
        try:
            text: str = item.value(Modality.TEXT)
        except ValueError:
            return None
        return text


def _key_of(row: _Row) -> str:
    return _key(row["id"].rpartition("~")[0], row["variant"])


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _wav(audio: Audio) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(audio.rate)
        file.writeframes(audio.to_pcm().tobytes())
    return buffer.getvalue()


FILE_COLUMNS = ("file_name", "audio_file_name")
"""The columns of ``metadata.jsonl`` that name files."""


def _in_columns(row: _Row) -> _Row:
    names = (*FILE_COLUMNS, *Record.__dataclass_fields__, "text", "group", "label", "split")
    # A column that a kind of data does not have is left out.
    return {name: row.get(name) for name in names if name in row or name not in FILE_COLUMNS}


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


def _key(item_id: str, variant: int) -> str:
    """Name a child's files: readable, and safe whatever the id is; the hash makes it unique."""
    words = re.findall(r"[A-Za-z]+|[0-9]+", item_id)
    readable = "-".join(w for w in words if not _SPLIT_WORDS.fullmatch(w))[-48:].strip("-")
    digest = blake2b(to_json([item_id, variant]).encode(), digest_size=8).hexdigest()
    return f"{readable or 'item'}-{digest}"


@contextmanager
def _folder(out: Path, job: _Row) -> Iterator[IO[str]]:
    """Claim the folder for this job and this process; gives the journal, opened to append."""
    with writing_to(out), _claimed(out, job) as journal:
        yield journal


@contextmanager
def _claimed(out: Path, job: _Row) -> Iterator[IO[str]]:
    state = out / _STATE
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file: name a folder")
    if not (state / "job.json").is_file():
        if out.is_dir() and any(p.name != _STATE for p in out.iterdir()):
            raise UsageError(
                f"{out} is not empty and was not made by a generator: name a new folder"
            )
        state.mkdir(parents=True, exist_ok=True)
        write_whole(state / "job.json", (json.dumps(job, sort_keys=True, indent=1) + "\n").encode())
    elif (found := _job(state / "job.json")) != json.loads(to_json(job)):
        changed = sorted(k for k in job if found.get(k) != job[k])
        raise UsageError(
            f"{out} was made with another {' and '.join(changed)}: name a new folder, or run it "
            f"as before: {json.dumps(found, sort_keys=True)[:2000]}"
        )
    with (state / "journal.jsonl").open("a", encoding="utf-8") as journal:
        _lock(journal, out)
        for left in (*state.glob("*.part"), *state.glob("*.part.npz")):
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
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                Record.from_row(row)
                rows[_key_of(row)] = row
            except (ReplayError, ValueError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(
                    f"{path} is damaged ({type(error).__name__}: {str(error)[:100]}): name a new "
                    "folder"
                ) from None
        if path.name == "journal.jsonl" and len(whole) < len(data):
            os.truncate(path, len(whole))
    return rows


def _job(path: Path) -> _Row:
    try:
        found = json.loads(path.read_bytes())
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise DataError(f"{path} is damaged: name a new folder")


def write_whole(path: Path, data: bytes) -> None:
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
        yield {
            "id": failure.id,
            "variant": failure.variant,
            "kind": failure.kind,
            "reason": failure.reason,
        }
