"""The parts that the real data is dealt into, and folders of them."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import DataError, UsageError, writing_to
from ..generators.items import is_held_out
from ..generators.protocol import derive_seed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..data import Dataset, Sample
    from ..gate.policy import Policy


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Claim a new folder; an error takes away what was written to it.

    The same command can then run again: after a disk has room again, say.

    Raises
    ------
    UsageError
        If it holds something.
    NoRoomError
        If the disk is full.
    """
    there = target.exists()
    if there and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty: name a new folder")
    try:
        with writing_to(target):
            yield target
    except Exception:
        if target.is_dir():
            for path in target.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            if not there:
                target.rmdir()
        raise


def halves(real: Dataset, policy: Policy) -> dict[str, list[Sample]]:
    """Part the real data into ``calibration`` and ``judge``.

    Groups stay whole. Held-out splits are to judge; where there are any, all the rest is to learn
    from.

    Raises
    ------
    DataError
        If a part has fewer samples than the policy asks for.
    """
    judge = [s for s in real if is_held_out(s.split)]
    reserved = {s.group for s in judge if s.group is not None}
    free = [s for s in real if not is_held_out(s.split) and s.group not in reserved]
    if judge:
        calibration = free
        judge += [s for s in real if not is_held_out(s.split) and s.group in reserved]
    else:
        calibration, judge = halved(free, policy.seed, "halves")
    parts = {"calibration": calibration, "judge": judge}
    for name, part in parts.items():
        if len(part) < policy.min_samples:
            raise DataError(
                f"the {name} part of the real data has {len(part)} samples, and the policy asks "
                f"for {policy.min_samples}: give more real data"
                + ("" if name == "judge" else ", or samples of the split 'train'")
            )
    return parts


def halved(samples: Sequence[Sample], seed: int, salt: str) -> tuple[list[Sample], list[Sample]]:
    """Deal samples into two parts, whole groups at a time, by a hash of the group's name."""
    groups: dict[str, list[Sample]] = {}
    for sample in samples:
        groups.setdefault(sample.group or f"\0{sample.id}", []).append(sample)
    first: list[Sample] = []
    second: list[Sample] = []
    for name in sorted(groups, key=lambda g: (derive_seed(seed, salt, g), g)):
        (first if len(first) <= len(second) else second).extend(groups[name])
    return first, second


_MAGIC = (
    (b"\x89PNG", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"ID3", ".mp3"),
    (b"\xff\xfb", ".mp3"),
)


def _suffix(data: bytes, source: str) -> str:
    """Name a file's kind by its first bytes; by its old name where they say nothing."""
    if data[:4] == b"RIFF":
        return {b"WAVE": ".wav", b"WEBP": ".webp"}.get(data[8:12], Path(source).suffix)
    return next((s for magic, s in _MAGIC if data.startswith(magic)), Path(source).suffix)


def write_part(
    data: Dataset,
    samples: Sequence[Sample],
    folder: Path,
    rows_of: Callable[[Sample], dict[str, Any]] | None = None,
) -> None:
    """Write some samples of a data set as a folder of their own, their bytes as they are.

    Parameters
    ----------
    data : Dataset
    samples : sequence of Sample
        Of the data set. One that cannot be read is left out; the gate reports it in the whole set.
    folder : Path
        New.
    rows_of : callable, optional
        More columns of ``metadata.jsonl`` for a sample.
    """
    from ..data.dataset import BadSample

    folder.mkdir(parents=True)
    with (folder / "metadata.jsonl").open("w", encoding="utf-8") as stream:
        for k, sample in enumerate(samples):
            row: dict[str, Any] = {"id": sample.id}
            try:
                for medium in sample.media:
                    content = data.read(sample, medium)
                    name = f"{k:06d}{_suffix(content, sample.source)}"
                    column = "file_name" if "file_name" not in row else f"{medium}_file_name"
                    (folder / name).write_bytes(content)
                    row[column] = name
            except BadSample:
                continue
            for column in ("text", "label", "group", "split"):
                if (value := getattr(sample, column)) is not None:
                    row[column] = value
            row |= rows_of(sample) if rows_of is not None else {}
            stream.write(json.dumps(row) + "\n")
