"""MAUVE over batches."""

from __future__ import annotations

from typing import Any

from ..distribution.mauve import mauve
from ._features import OfPair


class Mauve(OfPair):
    """MAUVE of two streams of features; in (0, 1], best 1.

    All features are kept. k-means depends on the order of its rows, so the value changes with the
    order of the data, by about the spread over seeds.

    Parameters
    ----------
    clusters, scale, explained, seeds, seed
        As for the function.
    reset_real_features, **kwargs
        As for :class:`FeaturePair`.

    See Also
    --------
    evalsuite.metrics.distribution.mauve.mauve : Limits, notes and references.
    """

    higher_is_better = True

    function = staticmethod(mauve)

    def __init__(
        self,
        clusters: int | None = None,
        *,
        scale: float = 5.0,
        explained: float = 0.9,
        seeds: int = 5,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        options = {
            "clusters": clusters,
            "scale": scale,
            "explained": explained,
            "seeds": seeds,
            "seed": seed,
        }
        super().__init__(options, **kwargs)
