"""A model's folder: checked before anything in it is read, known by the hash of what is read.

Weights are safetensors. Pickles are never read, code in the folder is never run, and nothing is
asked of a server: a folder that would need one of them is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import file_digest, sha256
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeAlias

from ...errors import EvalsuiteError, ModelError
from ..values import to_json

Kind: TypeAlias = Literal["pipeline", "model"]
"""A diffusers pipeline (``model_index.json``), or a transformers model (``config.json``)."""

_INDEX: dict[Kind, str] = {"pipeline": "model_index.json", "model": "config.json"}
_READ = {".json", ".safetensors", ".txt", ".model", ".jinja"}
_LARGEST_INDEX = 1 << 20  # bytes
# Where the parts of a pipeline may come from. diffusers would import any installed package that
# the index names, and any module that lies beside it.
_LIBRARIES = {None, "diffusers", "transformers", "stable_diffusion"}


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder that was checked.

    Parameters
    ----------
    path : Path
        The folder.
    sha256 : str
        Of the names and contents of the files that a model is made of.
    """

    path: Path
    sha256: str


def model_folder(path: str, kind: Kind, expected: str | None = None) -> ModelFolder:
    """Check a model's folder and hash it.

    Parameters
    ----------
    path : str
        A folder, as ``save_pretrained`` writes it. The name of a model on a hub is none.
    kind : {"pipeline", "model"}
        What it must hold.
    expected : str, optional
        The hash that it must have.

    Raises
    ------
    ModelError
        If it is not there, holds code or no safetensors, names parts from elsewhere, or has another
        hash.
    """
    folder = Path(path)
    index = folder / _INDEX[kind]
    if not index.is_file():
        raise ModelError(
            f"{path} is not a folder with {index.name}: a local model is read from a folder that "
            "save_pretrained wrote, and nothing is downloaded"
        )
    files = sorted(
        file
        for file in folder.rglob("*")
        if file.is_file() and not any(p.startswith(".") for p in file.relative_to(folder).parts)
    )
    if code := [file for file in files if file.suffix == ".py"]:
        raise ModelError(
            f"{path} holds code ({code[0].name}), which is never run: use a model whose class is "
            "in diffusers or transformers, and remove the file"
        )
    if not any(file.suffix == ".safetensors" for file in files):
        raise ModelError(
            f"{path} holds no .safetensors: pickled weights are never read; write them again with "
            "save_pretrained(safe_serialization=True) where you trust them"
        )
    _check_index(index, kind)
    read = tuple(
        (str(file), file.relative_to(folder).as_posix(), stat.st_size, stat.st_mtime_ns)
        for file in files
        if file.suffix in _READ
        for stat in (file.stat(),)
    )
    found = _hash(read)
    if expected is not None and found != expected:
        raise ModelError(
            f"{path} has the SHA-256 {found[:12]}…, and {expected[:12]}… is asked for: its files "
            "are not those that made the record; give the folder as it was, or leave "
            "model_sha256 out"
        )
    return ModelFolder(folder, found)


@lru_cache(maxsize=32)
def _hash(files: tuple[tuple[str, str, int, int], ...]) -> str:
    """Hash files; size and time are in the key, so that a changed file is read again."""
    digest = sha256()
    for file, name, _, _ in files:
        with Path(file).open("rb") as stream:
            digest.update(to_json([name, file_digest(stream, "sha256").hexdigest()]).encode())
    return digest.hexdigest()


def _check_index(index: Path, kind: Kind) -> None:
    """Check that the parts are classes of diffusers and transformers."""
    if index.stat().st_size > _LARGEST_INDEX:
        raise ModelError(f"{index} has more than {_LARGEST_INDEX} bytes: it is no list of parts")
    try:
        described = json.loads(index.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {index}: {error}") from error
    if not isinstance(described, dict):
        raise ModelError(f"cannot read {index}: it is not a mapping")
    if kind == "model":
        if "auto_map" in described:
            raise ModelError(f"{index} names code of its own (auto_map), which is never run")
        return
    if not isinstance(described.get("_class_name"), str):
        raise ModelError(f"{index} names no pipeline of diffusers: {described.get('_class_name')}")
    for name, part in described.items():
        if isinstance(part, list) and not (
            part and isinstance(part[0], str | None) and part[0] in _LIBRARIES
        ):
            raise ModelError(
                f"{index}: the part {name!r} is {part!r}, which is not of diffusers or "
                "transformers; code from elsewhere is never run"
            )


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory, and the lock under which it works: pipelines keep state as they run."""

    model: Any
    processor: Any
    lock: Lock


@contextmanager
def loading(folder: ModelFolder) -> Iterator[None]:
    """Turn what goes wrong while a model is loaded into our error, and progress bars off.

    Raises
    ------
    ModelError
        If the libraries are missing, or the folder does not hold such a model.
    """
    try:
        with _no_progress_bars():
            yield
    except ImportError as error:
        raise ModelError(
            f"a local model needs diffusers and transformers ({error}): pip install "
            "'evalsuite[local]'"
        ) from error
    except EvalsuiteError:
        raise
    except Exception as error:  # the libraries' own, of many kinds: none is worth a traceback
        raise ModelError(f"cannot load the model in {folder.path}: {error}") from error


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    from transformers.utils import logging

    switches: list[Any] = [logging]
    try:
        from diffusers.utils import logging as of_diffusers
    except ImportError:
        pass  # a transformers model needs no diffusers
    else:
        switches.append(of_diffusers)
    shown = [switch.is_progress_bar_enabled() for switch in switches]
    for switch in switches:
        switch.disable_progress_bar()
    try:
        yield
    finally:
        for switch, was in zip(switches, shown, strict=True):
            if was:
                switch.enable_progress_bar()


def dtype_of(precision: str) -> Any:
    """Give torch's type of a precision."""
    import torch

    return getattr(torch, precision)


def once(make: Callable[..., Loaded]) -> Callable[..., Loaded]:
    """Keep the last two models that were loaded; threads that ask together load one."""
    kept = lru_cache(maxsize=2)(make)
    lock = Lock()

    def given(*args: Any) -> Loaded:
        with lock:
            return kept(*args)

    return given
