"""Many small linear-algebra problems, side by side, each on one core.

At the sizes of a split (hundreds of rows) a library's own threads mostly wait for each other, and
on a busy machine they wait for long: 500 rows took 40 ms on one thread and over 500 ms on two of a
loaded two-core machine. Whole problems in parallel keep every core busy without any waiting.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def _one_thread_each() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)


def map_columns(compute: Callable[[int], float], columns: int, device: torch.device) -> np.ndarray:
    """Give ``[compute(0), …, compute(columns - 1)]`` as float64, the same for any number of cores.

    On a GPU the columns run one after the other: the device itself works in parallel.
    """
    if device.type != "cpu" or columns < 2:
        return np.asarray([compute(r) for r in range(columns)], dtype=np.float64)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with _one_thread_each(), ThreadPoolExecutor(min(cores or 1, columns)) as pool:
        return np.fromiter(pool.map(compute, range(columns)), dtype=np.float64, count=columns)
