"""A metric of two feature sets, with what the gate must know of it: what a plugin offers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from ._check import pair

if TYPE_CHECKING:
    from ._check import Array
    from .catalogue import MetricInfo

Function: TypeAlias = Callable[[npt.NDArray[np.float64], npt.NDArray[np.float64]], float]


@dataclass(frozen=True, slots=True)
class PairMetric:
    """A function of two feature matrices that can be floored, permuted and judged by the gate.

    Parameters
    ----------
    info : MetricInfo
        Name, direction (``"lower"`` or ``"higher"``), range, best value, unit, smallest n, blind
        spots and reference. ``info.function`` is the function's name.
    function : callable
        Takes real and synthetic features, float64 of shape (n, d) and (m, d), rows in any order,
        and gives a number that ``float`` takes. A pure function: equal arguments, equal result.

    Raises
    ------
    ValueError
        If the direction is another, the best value is missing or outside the range, or the
        function has no docstring.
    """

    info: MetricInfo
    function: Function

    def __post_init__(self) -> None:
        info = self.info
        if info.direction not in {"lower", "higher"}:
            raise ValueError(
                f"{info.name}: a gap needs a direction, 'lower' or 'higher', got "
                f"{info.direction!r}: give the distance from the best value as the metric"
            )
        if info.best is None or not math.isfinite(info.best):
            raise ValueError(f"{info.name}: a gap needs a finite best value, got {info.best}")
        low = -math.inf if info.low is None else info.low
        high = math.inf if info.high is None else info.high
        if not low <= info.best <= high:
            raise ValueError(
                f"{info.name}: the best value {info.best} lies outside [{low:g}, {high:g}]"
            )
        if not (self.function.__doc__ or "").strip():
            raise ValueError(f"{info.name}: the function has no docstring")

    def __call__(self, real: Array, synthetic: Array) -> float:
        """Compute the metric.

        Parameters
        ----------
        real, synthetic : array, shape (n, d), (m, d)
            Features; at least ``info.min_n`` rows a side.

        Returns
        -------
        float
            Within [``info.low``, ``info.high``].

        Raises
        ------
        TypeError, ValueError
            If the features are not valid, or the function gives a number that is not finite or
            outside its range.
        """
        info = self.info
        a, b = (x.numpy() for x in pair(real, synthetic, min_n=info.min_n))
        value = float(self.function(a, b))
        low = -math.inf if info.low is None else info.low
        high = math.inf if info.high is None else info.high
        # A bound may be missed by rounding, and by no more.
        slack = 1e-9 * max(1.0, abs(value))
        if not (math.isfinite(value) and low - slack <= value <= high + slack):
            raise ValueError(
                f"{info.name} gave {value} for {len(a)} and {len(b)} rows, outside "
                f"[{low:g}, {high:g}]"
            )
        return min(max(value, low), high)
