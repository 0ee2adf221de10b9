"""The errors that a user can meet, each with the exit code that it ends a command with."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class EvalsuiteError(Exception):
    """Base of every error raised on purpose: it names what is wrong and what to do."""

    exit_code = 3


class UsageError(EvalsuiteError):
    """A wrong command line, policy or recipe."""

    exit_code = 2


class PolicyError(UsageError):
    """A policy that does not validate."""


class DataError(EvalsuiteError):
    """A data set that cannot be judged: missing, empty, or with too little to read."""


class ModelError(EvalsuiteError):
    """A model that is not at hand, or whose weights are not the recorded ones."""


class PluginError(EvalsuiteError):
    """A plugin that is offered twice, cannot be imported, or is not what it should be."""


class NoRoomError(DataError):
    """A disk that is full, a quota that is used up, or a file system that is read-only."""


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
# What libraries say in exceptions of their own when an allocation fails.
_NO_MEMORY = (
    "can't allocate memory", "failed to allocate memory", "bad_alloc", "bad allocation",
    "out of memory", "cannot allocate memory", "can't start new thread",
)  # fmt: skip


def is_no_room(error: BaseException) -> bool:
    """Say whether a write failed because there is no room for it."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def is_no_memory(error: BaseException) -> bool:
    """Say whether an error of any library means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


@contextmanager
def writing_to(folder: str | PathLike[str]) -> Iterator[None]:
    """Turn a failed write for lack of room into an error that names the folder.

    Raises
    ------
    NoRoomError
        If there is no room; other errors pass.
    """
    try:
        yield
    except OSError as error:
        if not is_no_room(error):
            raise
        raise NoRoomError(f"cannot write to {folder}: {error.strerror}") from error


def ran_out(error: BaseException) -> str | None:
    """Say in a line that memory or disk space ran out, and what to do; None if it is neither.

    Parameters
    ----------
    error : BaseException
        What ended a run.
    """
    if isinstance(error, OSError) and is_no_room(error):
        where = error.filename2 or error.filename
        return f"cannot write{f' to {where}' if where else ''}: {error.strerror}"
    what = str(error).strip().partition("\n")[0][:200] or type(error).__name__
    if "disk is full" in what:  # SQLite's words, through whichever library
        return f"cannot write: {what}"
    if is_no_memory(error):
        return (
            f"memory ran out ({what}), and nothing was written: lower --workers, or max_samples "
            "and exact_up_to in the policy's calibration, give fewer or smaller samples, or take "
            "a machine with more memory"
        )
    return None
