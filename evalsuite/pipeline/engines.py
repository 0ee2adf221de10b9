"""Where the work of a run is done: in this process, or by workers of a Ray cluster."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from ..errors import UsageError

if TYPE_CHECKING:
    from ..data import Dataset
    from ..encoders import Encoded, FeatureCache
    from .plan import Plan

EngineName: TypeAlias = Literal["local", "ray"]
ENGINES: tuple[EngineName, ...] = ("local", "ray")


class Engine(Protocol):
    """What turns the samples of a plan into numbers; the numbers do not depend on which it is."""

    def encode(
        self,
        plan: Plan,
        modality: str,
        data: Dataset,
        role: str,
        *,
        cache: FeatureCache | None,
        progress: bool | None,
    ) -> Encoded:
        """Turn one modality of one set into numbers."""
        ...


class LocalEngine:
    """Threads of this process."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers

    def encode(
        self,
        plan: Plan,
        modality: str,
        data: Dataset,
        role: str,
        *,
        cache: FeatureCache | None,
        progress: bool | None,
    ) -> Encoded:
        """Turn one modality of one set into numbers."""
        return plan.encode(
            modality, data, role, cache=cache, progress=progress, workers=self._workers
        )


def open_engine(
    name: str, *, address: str | None = None, workers: int | None = None
) -> AbstractContextManager[Engine]:
    """Give the engine of a name, to be used in a ``with`` block.

    Parameters
    ----------
    name : {"local", "ray"}
    address : str, optional
        Of a Ray cluster that runs, ``"auto"`` or ``host:port``. Without it ``ray`` starts one on
        this machine, which only this process can use, and stops it at the end of the block.
    workers : int, optional
        Threads of ``local``, processes of ``ray``; one for each core (or GPU) by default.

    Raises
    ------
    UsageError
        If there is no such engine, or the address is not for it.
    ModelError
        If Ray is not installed.
    EvalsuiteError
        If Ray does not start, or no cluster answers at the address.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers must be at least 1, got {workers}")
    if name == "local":
        if address is not None:
            raise UsageError("an address is for --engine ray; the local engine has none")
        return nullcontext(LocalEngine(workers))
    if name == "ray":
        from .ray_engine import RayEngine

        return RayEngine(address, workers)
    raise UsageError(f"there is no engine {name!r}; use {' or '.join(ENGINES)}")
