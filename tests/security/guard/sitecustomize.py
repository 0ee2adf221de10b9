"""Put on the path of a process under test: notes what it does, and kills it if it uses a network.

It is imported before anything else, in every child process too. Python's own doings are seen by an
audit hook; sockets are watched by the kernel, so that a native library cannot open one either.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys

_LOG = os.open(os.environ["GUARD_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATHS = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.link": (1,),
    "os.symlink": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.utime": (0,),
}
_NETWORK = ("connect", "bind", "sendto", "getaddrinfo", "gethostbyname", "gethostbyaddr")


def _note(kind: str, what: object) -> None:
    os.write(_LOG, f"{kind}\t{what!r}\n".encode("utf-8", "backslashreplace"))


def _absolute(path: str | bytes | os.PathLike[str]) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - links are not followed


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == "open":
        path, _, flags = args
        writes = isinstance(flags, int) and flags & _WRITING
        if writes and isinstance(path, str | bytes | os.PathLike):
            _note("write", _absolute(path))
    elif event in _PATHS:
        for k in _PATHS[event]:
            if isinstance(args[k], str | bytes | os.PathLike):
                _note("write", _absolute(args[k]))
    elif event == "pickle.find_class":
        caller = sys._getframe(1)
        _note("pickle", (args, caller.f_code.co_filename))
    elif event in {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn"}:
        _note("command", args[:2])
    elif event.startswith("socket.") and event.split(".")[1] in _NETWORK:
        _note("network", args[-1])


def _no_sockets() -> None:
    """Let the kernel kill the process at socket(AF_INET or AF_INET6): seccomp, see prctl(2)."""
    number, arch = {"x86_64": (41, 0xC000003E), "aarch64": (198, 0xC00000B7)}[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    program = [
        (load, 0, 0, 4), (equal, 0, 5, arch),
        (load, 0, 0, 0), (equal, 0, 3, number),
        (load, 0, 0, 16), (equal, 2, 0, 2), (equal, 1, 0, 10),
        (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x80000000),
    ]  # fmt: skip

    class Step(ctypes.Structure):
        _fields_ = (
            ("code", ctypes.c_ushort),
            ("yes", ctypes.c_ubyte),
            ("no", ctypes.c_ubyte),
            ("k", ctypes.c_uint32),
        )

    class Program(ctypes.Structure):
        _fields_ = (("n", ctypes.c_ushort), ("steps", ctypes.POINTER(Step)))

    steps = (Step * len(program))(*(Step(*line) for line in program))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(
        22, 2, ctypes.byref(Program(len(program), steps)), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "seccomp is refused")


sys.addaudithook(_hook)
if os.environ.get("GUARD_SOCKETS") == "kill":
    _no_sockets()
