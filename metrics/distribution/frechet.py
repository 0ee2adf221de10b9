"""Fréchet distance between Gaussian fits (FID for Inception features), by factors.

With ``S = F F'`` for each covariance, the trace term of the distance is a nuclear norm,
``Tr (S1 S2)^(1/2) = |F1' F2|_*``: no matrix square root is taken, nothing is added to the diagonal,
and rank-deficient covariances (fewer rows than columns) need no special care. Which factor and
which decomposition is chosen by shape; all are exact to rounding, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtri

from .._check import Array, features, groups_of, pair
from .._result import Interval, Scalar
from ..inference import check_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

Method: TypeAlias = Literal["rows", "rows-covariance", "cholesky", "qr", "eigh"]

_EPS = torch.finfo(torch.float64).eps
_POOLED_GRAM_ROWS = 6000
"""Up to here the Gram matrix of all pooled rows is kept (288 MB) and shared by all splits."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Count, mean and scatter of a set of rows: what the Fréchet distance needs to know of it.

    Two of them merge without loss (Chan, Golub & LeVeque 1983), so sets of any size stream in
    constant memory. Raw sums of squares are never kept: they cancel when the mean is large.

    Attributes
    ----------
    n : int
        Rows.
    mean : tensor, float64, shape (d,)
        Their mean.
    M2 : tensor, float64, shape (d, d)
        Sum of outer products of the rows less their mean: ``(n - 1)`` times the covariance.
    """

    n: int
    mean: torch.Tensor
    M2: torch.Tensor

    @classmethod
    def of(cls, x: Array) -> Moments:
        """Take the moments of rows, shape (n, d), n >= 1.

        Raises
        ------
        TypeError, ValueError
            If the features are not valid.
        """
        t = features(x, "x")
        mean, centred = _centre(t)
        return cls(len(t), mean, centred.T @ centred)

    @classmethod
    def empty(cls, d: int, device: torch.device | str | None = None) -> Moments:
        """Give the moments of no rows, the neutral element of :meth:`merge`."""
        zeros = torch.zeros((d, d), dtype=torch.float64, device=device)
        return cls(0, zeros[0].clone(), zeros)

    def merge(self, other: Moments) -> Moments:
        """Give the moments of both sets together.

        Raises
        ------
        ValueError
            If the dimensions differ.
        """
        if self.mean.shape != other.mean.shape:
            raise ValueError(
                f"moments of {len(self.mean)} and {len(other.mean)} columns do not merge"
            )
        if self.n == 0 or other.n == 0:
            return self if other.n == 0 else other
        n = self.n + other.n
        step = other.mean - self.mean
        M2 = self.M2 + other.M2
        M2.addr_(step, step, alpha=self.n * (other.n / n))
        return Moments(n, self.mean + step * (other.n / n), M2)

    @property
    def covariance(self) -> torch.Tensor:
        """Covariance with 1/(n-1), shape (d, d).

        Raises
        ------
        ValueError
            If n < 2.
        """
        if self.n < 2:
            raise ValueError(f"a covariance needs at least 2 rows, got {self.n}")
        return self.M2 / (self.n - 1)


@dataclass(frozen=True, slots=True)
class FrechetResult(Scalar):
    """A Fréchet distance and its parts.

    Attributes
    ----------
    value : float
        The squared distance, ``mean_term + trace_term``, not below 0.
    mean_term : float
        Squared distance between the means.
    trace_term : float
        ``Tr (S1 + S2 - 2 (S1 S2)^(1/2))``, the squared Bures distance of the covariances.
    n_real, n_synthetic, dim : int
        Shapes of the input.
    method : str
        How the trace term was computed.
    clamped : float
        What rounding took below 0 and was cut off; 0.0 in most cases.
    ci : Interval or None
        Confidence interval of the population's distance.
    """

    value: float
    mean_term: float
    trace_term: float
    n_real: int
    n_synthetic: int
    dim: int
    method: Method
    clamped: float
    ci: Interval | None = None


def frechet_distance(real: Array, synthetic: Array) -> FrechetResult:
    """Compute it."""
    a, b = pair(real, synthetic, min_n=2)
    return _from_rows(a, b)


def _from_rows(a: torch.Tensor, b: torch.Tensor) -> FrechetResult:
    d = a.shape[1]
    mean_a, A = _centre(a)
    mean_b, B = _centre(b)
    A /= math.sqrt(len(a) - 1)
    B /= math.sqrt(len(b) - 1)
    traces = float((A * A).sum() + (B * B).sum())
    difference = mean_a - mean_b
    mean_term = float(difference @ difference)
    method: Method
    if max(len(a), len(b)) <= d:
        method, root = "rows", _nuclear(A @ B.T)
    elif min(len(a), len(b)) <= d:
        small, large = (A, B) if len(a) <= len(b) else (B, A)
        L = _cholesky(large.T @ large)
        if L is None:
            L = torch.linalg.qr(large, mode="r").R.T
        method, root = "rows-covariance", _nuclear(small @ L)
    else:
        S1, S2 = A.T @ A, B.T @ B
        found = _certified(S1, S2, traces, mean_term)
        if found is not None:
            method, root = "cholesky", found
        else:
            R1, R2 = (torch.linalg.qr(F, mode="r").R for F in (A, B))
            method, root = "qr", _nuclear(R1 @ R2.T)
    return _result(mean_term, traces - 2 * root, len(a), len(b), d, method)


def _centre(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and centred rows, in two passes: a single one loses digits at a large mean."""
    mean = x.mean(dim=0)
    centred = x - mean
    correction = centred.mean(dim=0)
    centred -= correction
    return mean + correction, centred


def _nuclear(M: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(M).sum())


def _cholesky(S: torch.Tensor) -> torch.Tensor | None:
    """Lower factor, or None where S is not positive definite to working accuracy."""
    L, info = torch.linalg.cholesky_ex(S)
    if int(info) != 0:
        return None
    pivots = torch.diagonal(L)
    # A pivot this small is rounding: the factor would be noise in that direction.
    if float(pivots.min()) ** 2 <= len(S) * _EPS * float(torch.diagonal(S).max()):
        return None
    return L


def _certified(S1: torch.Tensor, S2: torch.Tensor, traces: float, mean_term: float) -> float | None:
    """Tr (S1 S2)^(1/2) by Cholesky and symmetric eigenvalues, if it is accurate.

    Rounding moves each eigenvalue of L' S2 L by about eps |S1| |S2| (Weyl), and its square root by
    that over twice the root: harmless for well-conditioned covariances, 1e-8 for each null
    direction. The sum of these bounds decides; None sends the caller to a slower exact way.
    """
    L = _cholesky(S1)
    if L is None:
        return None
    w = torch.linalg.eigvalsh(L.T @ S2 @ L)
    delta = _EPS * float(torch.linalg.matrix_norm(S1) * torch.linalg.matrix_norm(S2))
    roots = w.clamp(min=0).sqrt()
    error = float(
        torch.minimum(delta / (2 * roots), torch.full_like(roots, math.sqrt(delta))).sum()
    )
    value = mean_term + traces - 2 * float(roots.sum())
    if 2 * error > max(1e-9 * value, 1e-12 * traces):
        return None
    return float(roots.sum())


def _result(
    mean_term: float, trace_term: float, n: int, m: int, d: int, method: Method
) -> FrechetResult:
    # The trace term is itself a squared distance: below 0 it is rounding.
    clamped = max(0.0, -trace_term)
    trace_term = max(0.0, trace_term)
    return FrechetResult(mean_term + trace_term, mean_term, trace_term, n, m, d, method, clamped)


def total_variance(x: Array) -> float:
    """Compute the trace of the covariance.

    It is the squared distance of a row from the mean on average, and so the unit in which a
    Fréchet distance is large or small: ``frechet_distance(a, b).value / total_variance(a)``.

    Parameters
    ----------
    x : array, shape (n, d), n >= 2
        Features.

    Returns
    -------
    float
        At least 0.

    Raises
    ------
    TypeError, ValueError
        If the features are not valid.
    """
    t = features(x, "x", min_n=2)
    _, centred = _centre(t)
    return float((centred * centred).sum()) / (len(t) - 1)


def frechet_splits(
    Z: Array, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Compute Fréchet distances between many pairs of row subsets.

    Sets of at most d rows are compared through their inner products, which all columns share, so
    that no column touches a covariance. Larger sets go through moments, which the columns share
    where they use the same set.

    Parameters
    ----------
    Z : array, shape (N, d)
        Pooled features.
    first, second : bool array, shape (N, R)
        Members of the two sets of each column; disjoint, at least 2 rows each.

    Returns
    -------
    float64 array, shape (R,)
        :func:`frechet_distance` of each column, to 1e-9 of the sets' total variance.

    Raises
    ------
    TypeError, ValueError
        If the features or masks are not valid.
    """
    z = features(Z, "Z", min_n=4)
    check_masks(first, second, len(z))
    N, d = z.shape
    _, z = _centre(z)
    rows = max(int(first.sum(axis=0).max()), int(second.sum(axis=0).max()))
    gram = z @ z.T if rows <= d and N <= _POOLED_GRAM_ROWS else None
    out = np.empty(first.shape[1])
    for r in range(first.shape[1]):
        i, j = (
            torch.from_numpy(np.flatnonzero(mask[:, r])).to(z.device) for mask in (first, second)
        )
        if gram is None:
            out[r] = _from_rows(z[i], z[j]).value
        else:
            out[r] = _from_gram(gram, i, j)
    return out


def _from_gram(gram: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> float:
    n, m = len(i), len(j)
    xx, yy, xy = gram[i][:, i], gram[j][:, j], gram[i][:, j]
    mean_term = max(0.0, float(xx.mean() + yy.mean() - 2 * xy.mean()))
    traces = float(
        (torch.diagonal(xx).sum() - n * xx.mean()) / (n - 1)
        + (torch.diagonal(yy).sum() - m * yy.mean()) / (m - 1)
    )
    M = xy - xy.mean(dim=0) - xy.mean(dim=1, keepdim=True) + xy.mean()
    M /= math.sqrt((n - 1) * (m - 1))
    if n > m:
        M = M.T
    # Centring leaves one null direction, known beforehand: the first, smallest, eigenvalue.
    w = torch.linalg.eigvalsh(M @ M.T)[1:]
    roots = w.clamp(min=0).sqrt()
    delta = _EPS * float(w[-1])
    error = float(
        torch.minimum(delta / (2 * roots), torch.full_like(roots, math.sqrt(delta))).sum()
    )
    root = float(roots.sum()) if error <= 1e-9 * traces else _nuclear(M)
    return mean_term + max(0.0, traces - 2 * root)
