"""The Vendi score over batches, in constant memory."""

from __future__ import annotations

from typing import Any

import torch

from .._check import Array, features
from ..distribution.diversity import effective_number, unit_rows, vendi_ratio
from ._features import OfPair, Stream


class VendiScore(Stream):
    """Effective number of different samples in a stream, by the cosine kernel; higher is better.

    The count and the second moment of the unit-length features are kept, (d, d) in float64: both
    are sums, so no partition of the data changes the value beyond rounding.

    Parameters
    ----------
    num_features : int
        Columns, d.
    q : float
        Order of the entropy, 0 to infinity.
    side : {"synthetic", "real"}
        Which side is measured where updates name one, as in a ``MetricCollection`` with two-sided
        metrics; batches of the other side are left out.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If an option is not valid.

    See Also
    --------
    evalsuite.metrics.distribution.diversity.vendi_score : Limits, notes and references.
    """

    higher_is_better = True

    count: torch.Tensor
    moment: torch.Tensor

    def __init__(
        self, num_features: int, q: float = 1.0, *, side: str = "synthetic", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_features < 1:
            raise ValueError(f"num_features must be at least 1, got {num_features}")
        if not q >= 0:
            raise ValueError(f"q must lie in 0..inf, got {q}")
        if side not in {"synthetic", "real"}:
            raise ValueError(f"side must be 'synthetic' or 'real', got {side!r}")
        self.num_features = num_features
        self.q = q
        self.side = side
        self.add_state("count", torch.zeros(1, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state(
            "moment",
            torch.zeros(num_features, num_features, dtype=torch.float64),
            dist_reduce_fx="sum",
        )

    def update(self, features: Array, real: bool | None = None) -> None:
        """Add a batch, shape (n, d); with ``real`` given, only if it is of the measured side.

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, has another number of columns, or a zero row.
        """
        x = _columns(features, self.num_features)
        if real is not None and real != (self.side == "real"):
            return
        u = unit_rows(x.to(self.moment.device), "features")
        self.count += u.shape[0]
        self.moment.addmm_(u.T, u)

    def compute(self) -> torch.Tensor:
        """Give the score over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            If nothing was seen.
        """
        n = float(self.count)
        if n == 0:
            raise ValueError(f"no {self.side} features yet: call update(features)")
        spectrum = torch.linalg.eigvalsh(self.moment / n)
        return self.moment.new_tensor(effective_number(spectrum, self.q))


class VendiRatio(OfPair):
    """Diversity of the synthetic stream over that of the real one, at equal size; best 1.

    All features are kept. Equal sizes are drawn by place in the stream, so that the value changes
    with the order of the data, within its noise.

    Parameters
    ----------
    q : float
        Order of the entropy, 0 to infinity.
    size : int, optional
        Rows in a draw; by default the smaller side's.
    repeats : int
        Draws from the larger side.
    seed : int
        Seed of the draws.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.distribution.diversity.vendi_ratio : Limits, notes and references.
    """

    function = staticmethod(vendi_ratio)

    def __init__(
        self,
        q: float = 1.0,
        *,
        size: int | None = None,
        repeats: int = 10,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__({"q": q, "size": size, "repeats": repeats, "seed": seed}, **kwargs)


def _columns(x: Array, d: int) -> torch.Tensor:
    t = features(x, "features")
    if t.shape[1] != d:
        raise ValueError(f"features must have {d} columns, got {t.shape[1]}")
    return t
