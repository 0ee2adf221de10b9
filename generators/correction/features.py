"""CORAL: align features, where no sample can be changed any more.

It is for training on features, never for judging: features that were aligned in an encoder agree
with the real ones in that encoder whatever the samples are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...metrics._check import Array, features, pair
from ..values import Params
from .base import compact

F64: TypeAlias = npt.NDArray[np.float64]


class Coral:
    """Whiten synthetic features and give them the real mean and covariance.

    Make one with :meth:`fit`; ``Coral(**coral.params)`` is the same one.

    Parameters
    ----------
    source_mean, target_mean : sequence of float, shape (d,)
    matrix : sequence of sequence of float, shape (d, d)
        What rows are multiplied with.
    shrinkage : float
        That it was fitted with.

    References
    ----------
    Sun, Feng & Saenko 2016, Return of frustratingly easy domain adaptation, AAAI,
    arXiv:1511.05547. Here the mean is moved too, and covariances are shrunk towards a multiple of
    the identity instead of adding it.
    """

    def __init__(
        self,
        source_mean: Sequence[float] | F64,
        target_mean: Sequence[float] | F64,
        matrix: Sequence[Sequence[float]] | F64,
        shrinkage: float,
    ) -> None:
        self.source_mean = np.asarray(source_mean, np.float64)
        self.target_mean = np.asarray(target_mean, np.float64)
        self.matrix = np.asarray(matrix, np.float64)
        d = len(self.source_mean)
        if self.matrix.shape != (d, d) or self.target_mean.shape != (d,):
            raise ValueError(f"means of {d} values need a {d} × {d} matrix")
        self.shrinkage = float(shrinkage)

    @property
    def params(self) -> Params:
        """All that was fitted, as JSON: d² numbers."""
        return {
            "source_mean": compact(self.source_mean),
            "target_mean": compact(self.target_mean),
            "matrix": compact(self.matrix),
            "shrinkage": self.shrinkage,
        }

    @classmethod
    def fit(cls, real: Array, synthetic: Array, *, shrinkage: float = 0.1) -> Coral:
        """Fit on a calibration part of the real features.

        Parameters
        ----------
        real, synthetic : array, shape (n, d), (m, d)
            Features by the same encoder; at least 2 rows a side.
        shrinkage : float
            How far covariances are drawn towards a multiple of the identity, within (0, 1]: with
            fewer samples than features they have no inverse at 0.

        Returns
        -------
        Coral

        Raises
        ------
        ValueError
            If ``shrinkage`` is out of range, or the features are constant.
        """
        if not 0 < shrinkage <= 1:
            raise ValueError(f"shrinkage must be above 0 and at most 1, got {shrinkage}")
        a, b = (x.cpu().numpy() for x in pair(real, synthetic, min_n=2))
        roots = []
        for x, power in ((b, -0.5), (a, 0.5)):
            covariance = np.cov(x.T).reshape(x.shape[1], x.shape[1])
            level = float(np.trace(covariance)) / len(covariance)
            if level <= 0:
                raise ValueError("the features are all the same: there is no covariance to align")
            shrunk = (1 - shrinkage) * covariance + shrinkage * level * np.eye(len(covariance))
            values, vectors = np.linalg.eigh(shrunk)
            roots.append((vectors * values**power) @ vectors.T)
        return cls(b.mean(axis=0), a.mean(axis=0), roots[0] @ roots[1], shrinkage)

    def apply(self, synthetic: Array) -> F64:
        """Align features.

        Parameters
        ----------
        synthetic : array, shape (m, d)

        Returns
        -------
        float array, shape (m, d)

        Raises
        ------
        ValueError
            If the dimension is another one.
        """
        x: Any = features(synthetic, "synthetic").cpu().numpy()
        if x.shape[1] != len(self.source_mean):
            raise ValueError(
                f"it was fitted on {len(self.source_mean)} features, these have {x.shape[1]}"
            )
        return np.asarray((x - self.source_mean) @ self.matrix + self.target_mean)
