"""Write every output of a run, and read a result back."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from pydantic import ValidationError

from ..errors import DataError, writing_to
from ..gate.findings import SCHEMA_VERSION, GateResult

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTPUTS = (
    "result.json",
    "report.html",
    "summary.md",
    "junit.xml",
    "findings.sarif",
    "findings.parquet",
)
"""The files that :func:`write_outputs` makes, in this order."""


def result_json(result: GateResult, *, times: bool = True) -> str:
    """Give ``result.json``: the same result gives the same bytes.

    Keys are sorted; floats are the shortest text that reads back as the same number; a number that
    is not finite is null. All that differs between two runs on the same input stands under
    ``times``.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    times : bool
        Whether to keep ``times``.

    Returns
    -------
    str
        JSON, with a newline at its end.

    Raises
    ------
    DataError
        If a number that the schema asks for is not finite: such a file could not be read back.
    """
    return _document(_parts(result, times=times))


def result_id(result: GateResult) -> str:
    """Give a short name of the result, the same in every output: a hash of all but the times."""
    return _identify(_parts(result, times=False))


def _parts(result: GateResult, *, times: bool) -> dict[str, str]:
    """Give the JSON of each key: a list has a line for each item, for ``diff`` and for speed."""

    def line(value: Any) -> str:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)

    plain = json.loads(result.model_dump_json(exclude=None if times else {"times"}))
    try:
        GateResult.model_validate(plain)
    except ValidationError as error:
        raise DataError(f"this result cannot be written: {_explain(error)}") from None
    return {
        key: "[\n  " + ",\n  ".join(map(line, value)) + "\n ]"
        if isinstance(value, list) and value
        else line(value)
        for key, value in sorted(plain.items())
    }


def _document(parts: dict[str, str]) -> str:
    return "{\n" + ",\n".join(f' "{key}": {text}' for key, text in parts.items()) + "\n}\n"


def _identify(parts: dict[str, str]) -> str:
    digest = hashlib.sha256()
    for key, text in parts.items():
        if key != "times":
            digest.update(f"{key}\n{text}\n".encode())
    return digest.hexdigest()[:12]


def read_result(path: str | Path) -> GateResult:
    """Read a ``result.json``.

    Parameters
    ----------
    path : path-like
        The file, or the folder that holds it.

    Returns
    -------
    GateResult
        Equal to the one that was written.

    Raises
    ------
    DataError
        If it is missing, not JSON, of another schema version, or not a result.
    """
    file = Path(path)
    if file.is_dir():
        file = file / "result.json"
    try:
        plain = json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the result {file}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is not JSON: {' '.join(str(error).split())[:200]}") from None
    if _has_surrogate(plain):
        raise DataError(f"{file} has text that is no Unicode (a lone surrogate): it was damaged")
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if not isinstance(version, str):
        raise DataError(f"{file} is not a result of `evalsuite gate`: it has no schema_version")
    if version.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
        raise DataError(
            f"{file} has schema version {version[:20]!r}, this evalsuite reads {SCHEMA_VERSION}: "
            "make it again with this version, or read it with the one that wrote it"
        )
    try:
        return GateResult.model_validate(plain)
    except ValidationError as error:
        raise DataError(f"{file} is not a valid result: {_explain(error)}") from None


def _has_surrogate(value: Any) -> bool:
    """Say whether a string anywhere in plain data could not be written as UTF-8."""
    if isinstance(value, str):
        return any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, dict):
        return any(_has_surrogate(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(map(_has_surrogate, value))


def _explain(error: ValidationError) -> str:
    items = error.errors(include_url=False)
    told = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in items[:3]]
    more = f" (and {len(items) - 3} more)" if len(items) > 3 else ""
    return "; ".join(told) + more


def write_outputs(
    result: GateResult,
    out: str | Path,
    *,
    thumbnails: Mapping[tuple[str, str], bytes] | None = None,
    clips: Mapping[tuple[str, str], bytes] | None = None,
    lang: str = "en",
    redact: bool = False,
) -> list[Path]:
    """Write every file of :data:`OUTPUTS`.

    Everything is rendered before the first file is written, and each file appears whole or not at
    all.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    out : path-like
        The folder; it is made if it is not there.
    thumbnails : mapping of (side, sample) to bytes, optional
        Small PNG, JPEG, WebP or GIF files for the map and the galleries.
    clips : mapping of (side, sample) to bytes, optional
        Short recordings for the galleries.
    lang : {"en", "ja"}
        The language of the summary, and the one that the page starts in.
    redact : bool
        Leave out thumbnails, names of samples and groups, paths and text from the data, of all
        outputs: see :func:`~evalsuite.report.redact_result`.

    Returns
    -------
    list of Path
        The files, in the order of :data:`OUTPUTS`.

    Raises
    ------
    DataError
        If the folder cannot be written, or the result holds a number that is not finite where the
        schema asks for one.
    UsageError
        If there is no such language.
    """
    from .html import render_html
    from .junit import render_junit
    from .markdown import render_markdown
    from .parquet import render_parquet
    from .redact import redact_result
    from .sarif import render_sarif

    if redact:
        result = redact_result(result)
    shown = {} if redact or thumbnails is None else thumbnails
    parts = _parts(result, times=True)
    ident = _identify(parts)
    files: dict[str, str | bytes] = {
        "result.json": _document(parts),
        "report.html": render_html(
            result,
            thumbnails=shown,
            clips=None if redact else clips,
            lang=lang,
            redact=redact,
            ident=ident,
        ),
        "summary.md": render_markdown(result, lang=lang, ident=ident),
        "junit.xml": render_junit(result, ident=ident),
        "findings.sarif": render_sarif(result),
        "findings.parquet": render_parquet(result, ident=ident),
    }
    return write_files(Path(out), files)


def write_files(
    folder: Path, files: Mapping[str, str | bytes], *, errors: str = "strict"
) -> list[Path]:
    """Write the outputs of a run, by name, in this order; each appears whole or not at all.

    On a full disk none of them does: all are written before the first gets its name.

    Raises
    ------
    DataError
        If the folder cannot be written.
    """
    ready = {
        folder / name: content.encode("utf-8", errors) if isinstance(content, str) else content
        for name, content in files.items()
    }
    try:
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write_all(ready)
    except OSError as error:
        raise DataError(f"cannot write the outputs to {folder}: {error.strerror}") from None
    return list(ready)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole, as it was, or not at all, whenever the machine stops.

    What killed runs left of it goes.
    """
    _write_all({path: data})


def _write_all(files: Mapping[Path, bytes]) -> None:
    """Write files of one folder; the first is renamed when the last is on the disk."""
    staged: list[tuple[BinaryIO, Path, Path]] = []
    try:
        for path, data in files.items():
            _sweep(path)
            stream, temporary = _temporary(path)
            staged.append((stream, temporary, path))
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            # mkstemp makes it readable by its owner alone; a report is for others too
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
        for stream, temporary, path in staged:
            if sys.platform == "win32":  # where no open file can be renamed
                stream.close()
            temporary.replace(path)  # while it is locked
    except BaseException:
        for _, temporary, _ in staged:
            temporary.unlink(missing_ok=True)
        raise
    finally:
        for stream, _, _ in staged:
            with contextlib.suppress(OSError):  # of a full disk: what it holds is not written
                stream.close()
    if os.name == "posix":  # the renames themselves must survive a power cut
        for parent in {path.parent for path in files}:
            folder = os.open(parent, os.O_RDONLY)
            with contextlib.suppress(OSError):  # some network file systems cannot sync a folder
                os.fsync(folder)
            os.close(folder)


def _temporary(path: Path) -> tuple[BinaryIO, Path]:
    """Open a file beside ``path``, locked: the kernel takes the lock off a run that is killed."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        stream = os.fdopen(handle, "wb")
        if sys.platform != "win32":
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if not os.fstat(handle).st_nlink:  # another run swept it before it was locked
                stream.close()
                continue
        return stream, Path(name)


def _sweep(path: Path) -> None:
    """Remove what killed runs left of a file; what a living run is writing is locked, and stays."""
    if sys.platform == "win32":
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError), left.open("r+b") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()
