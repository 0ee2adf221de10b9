"""Fréchet distance between Gaussian fits (FID for Inception features), by factors.

With ``S = F F'`` for each covariance, the trace term of the distance is a nuclear norm,
``Tr (S1 S2)^(1/2) = |F1' F2|_*``: no matrix square root is taken, nothing is added to the diagonal,
and rank-deficient covariances (fewer rows than columns) need no special care. Which factor and
which decomposition is chosen by shape; all are exact to rounding, in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import eigh, lapack
from scipy.linalg.blas import dsymm, dsyr2k, dsyrk, dtrmm
from scipy.special import stdtrit

from .._check import Array, features, pair
from .._parallel import map_columns
from .._result import Interval, Scalar
from ..inference import Groups, check_masks, delete_half_se, subsample_masks

Method: TypeAlias = Literal["rows", "rows-covariance", "cholesky", "qr", "eigh"]

_EPS = torch.finfo(torch.float64).eps
_SMALLEST = 1e-140
_STRIP = 2**21
"""Values of a strip of rows that is centred at once (16 MB)."""
_BLOCK = 256
"""Columns of a block that fits the cache."""
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
        return cls(len(t), *_scatter(t))

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


def frechet_distance(
    real: Array,
    synthetic: Array,
    *,
    ci: bool = False,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> FrechetResult:
    """Compute the squared Fréchet distance between Gaussian fits of two sets of features.

    ``|m1 - m2|² + Tr (S1 + S2 - 2 (S1 S2)^(1/2))`` with covariances over n - 1; the FID when the
    features are Inception's. With F the centred rows over sqrt(n - 1), the last term is the
    nuclear norm of ``F1 F2'``. Method by shape:

    - ``rows``: no set has more rows than columns; singular values of the (n, m) matrix;
    - ``rows-covariance``: one has; singular values of the smaller set's rows times the triangular
      factor of the other's;
    - ``cholesky``: both have; symmetric eigenvalues of ``L' S2 L``, with ``S1 = L L'``, where a
      bound on the rounding error shows 9 right digits;
    - ``qr``: both have, but a covariance is (nearly) singular; singular values of the product of
      the triangular factors of the rows.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features, at least 2 rows each; computed in float64 on their device.
    ci : bool
        Whether to add the interval of :func:`frechet_distance_infinity`: for the population's
        distance, so the (biased) value itself may lie above it. Needs more than 2 d rows a side.
    groups_real, groups_synthetic : sequence, optional
        Groups that the interval keeps whole; the value does not change.
    level : float
        Nominal coverage of the interval.
    seed : int
        Seed of the interval's subsamples.

    Returns
    -------
    FrechetResult
        ``value`` in [0, inf), best 0, in squared units of the features.

    Raises
    ------
    TypeError, ValueError
        If the features are not valid, or too few for the interval.

    Notes
    -----
    It sees the first two moments only: nothing of the shape of the distribution, of modes that
    leave both unchanged, of single samples, nor of copies. It is biased upwards by about c/n with
    a c that depends on the data (:func:`frechet_null_bias`), so values at different n, or of
    different models at the same n, compare badly; below n = d the bias dominates.

    References
    ----------
    Dowson & Landau 1982, The Fréchet distance between multivariate normal distributions. Heusel et
    al. 2017, arXiv:1706.08500. Bhatia, Jain & Lim 2019, On the Bures-Wasserstein distance between
    positive definite matrices. Mathiasen & Hvilshøj 2020, arXiv:2009.14075 (few rows).

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(1000, 8))
    >>> round(frechet_distance(x, x + 2.0).value, 9)
    32.0
    """
    a, b = pair(real, synthetic, min_n=2)
    result = _from_rows(a, b)
    if not ci:
        return result
    limit = frechet_distance_infinity(
        a, b, groups_real=groups_real, groups_synthetic=groups_synthetic, level=level, seed=seed
    )
    return replace(result, ci=limit.ci)


@dataclass(frozen=True, slots=True)
class FrechetInfinityResult(Scalar):
    """A Fréchet distance extrapolated to infinitely many rows.

    Attributes
    ----------
    value : float
        The extrapolated distance, not below 0.
    slope : float
        Of the distance against 1/n + 1/m: the bias of this data is ``slope (1/n + 1/m)``.
    se : float
        Standard error of ``value``.
    ci : Interval
        Confidence interval of the population's distance.
    at_n : float
        The plain distance on all rows.
    fractions, means : tuple of float
        Shares of the rows that were drawn, and the mean distance at each.
    n_real, n_synthetic, dim : int
        Shapes of the input.
    """

    value: float
    slope: float
    se: float
    ci: Interval
    at_n: float
    fractions: tuple[float, ...]
    means: tuple[float, ...]
    n_real: int
    n_synthetic: int
    dim: int


def frechet_distance_infinity(
    real: Array,
    synthetic: Array,
    *,
    points: int = 4,
    repeats: int = 20,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> FrechetInfinityResult:
    """Estimate the Fréchet distance of the populations, free of its bias to first order.

    The distance is linear in 1/n + 1/m. It is computed on random shares between one half and all
    of *both* sets (shrinking the synthetic set alone, as is common, leaves the real set's bias in),
    and the line through the value on all rows is followed to 0.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features; more than 2 d + 2 rows each.
    points : int
        Number of shares, from 1/2 upwards, evenly spaced, all rows not counted.
    repeats : int
        Subsets drawn at each share; at least 2. Those at 1/2 also give the standard error, by the
        delete-half jackknife.
    groups_real, groups_synthetic : sequence, optional
        Groups that are drawn whole.
    level : float
        Nominal coverage of the interval.
    seed : int
        Seed of the subsets.

    Returns
    -------
    FrechetInfinityResult
        In squared units of the features, best 0.

    Raises
    ------
    TypeError, ValueError
        If the features are not valid or too few: with d rows or less in a subset the bias is not
        linear in 1/n.

    References
    ----------
    Chong & Forsyth 2020, arXiv:1911.07023. Shao & Wu 1989 for the standard error.
    """
    a, b = pair(real, synthetic, min_n=2)
    n, m, d = len(a), len(b), a.shape[1]
    if min(n, m) // 2 <= d + 1:
        raise ValueError(
            f"extrapolation and interval need more than {2 * d + 3} rows on each side for {d} "
            f"columns, got {n} and {m}: add samples, or compare kernel distances, which are "
            "unbiased at any n"
        )
    if points < 1 or repeats < 2:
        raise ValueError(f"points >= 1 and repeats >= 2 are needed, got {points} and {repeats}")
    full = _from_rows(a, b).value
    fractions = np.linspace(0.5, 1.0, points + 1)[:-1]
    inverse = np.empty((points, repeats))
    values = np.empty((points, repeats))
    for i, fraction in enumerate(fractions):
        x, y = (
            subsample_masks(k, round(fraction * k), repeats, groups=g, seed=seed + s)
            for k, g, s in ((n, groups_real, 2 * i), (m, groups_synthetic, 2 * i + 1))
        )
        inverse[i] = 1 / x.sum(axis=0) + 1 / y.sum(axis=0)
        for r in range(repeats):
            rows, columns = (torch.from_numpy(np.flatnonzero(k[:, r])) for k in (x, y))
            values[i, r] = _from_rows(a[rows.to(a.device)], b[columns.to(b.device)]).value
    here = 1 / n + 1 / m
    step = inverse - here
    slope = float((step * (values - full)).sum() / (step * step).sum())
    residual = values - full - slope * step
    noise = float((residual * residual).sum()) / (values.size - 1) / float((step * step).sum())
    se = math.hypot(delete_half_se(values[0], 1, 2), math.sqrt(noise) * here)
    value = full - slope * here
    half = se * float(stdtrit(repeats - 1, (1 + level) / 2))
    return FrechetInfinityResult(
        value=max(0.0, value),
        slope=slope,
        se=se,
        ci=Interval(max(0.0, value - half), max(0.0, value + half), level, "delete-half"),
        at_n=full,
        fractions=tuple(fractions.tolist()),
        means=tuple(values.mean(axis=1).tolist()),
        n_real=n,
        n_synthetic=m,
        dim=d,
    )


def frechet_from_moments(real: Moments, synthetic: Moments) -> FrechetResult:
    """Compute the Fréchet distance from moments alone, for sets that were streamed.

    Parameters
    ----------
    real, synthetic : Moments
        Of at least 2 rows each, on one device.

    Returns
    -------
    FrechetResult
        ``method`` is ``cholesky``, or ``eigh`` where a covariance is (nearly) singular: its
        eigenvalues below d·eps of the largest count as 0. Directions with a variance under about
        1e-12 of the largest keep few digits; :func:`frechet_distance` on the rows keeps all.

    Raises
    ------
    ValueError
        If a side has fewer than 2 rows, or the dimensions differ.
    """
    if real.mean.shape != synthetic.mean.shape:
        raise ValueError(
            f"moments of {len(real.mean)} and {len(synthetic.mean)} columns do not compare"
        )
    S1, S2 = real.covariance, synthetic.covariance
    traces = float(torch.trace(S1) + torch.trace(S2))
    difference = real.mean - synthetic.mean
    mean_term = float(difference @ difference)
    method: Method = "cholesky"
    root = _certified(S1, S2, traces, mean_term)
    if root is None:
        method, root = "eigh", _nuclear(_factor(S1).T @ _factor(S2))
    return _result(
        mean_term, traces - 2 * root, shape=(real.n, synthetic.n, len(real.mean)), method=method
    )


def _factor(S: torch.Tensor) -> torch.Tensor:
    w: torch.Tensor
    w, V = torch.linalg.eigh(S)
    factor: torch.Tensor = V * torch.where(w > len(S) * _EPS * w[-1], w, torch.zeros_like(w)).sqrt()
    return factor


def frechet_null_bias(moments: Moments, n: int, m: int) -> float:
    """Compute what the Fréchet distance is on average between two samples of one Gaussian.

    To second order in the deviations, with l the eigenvalues of the covariance::

        Tr S (1/n + 1/m) + (1/(n-1) + 1/(m-1)) sum_ij l_i l_j (1 + [i=j]) / (2 (l_i + l_j))

    Parameters
    ----------
    moments : Moments
        Of the distribution; itself estimated from many more than d rows.
    n, m : int
        Sizes of the two samples, each more than d (accurate for n much larger than d).

    Returns
    -------
    float
        In squared units of the features.

    Raises
    ------
    ValueError
        If n or m is not above d: the expansion does not hold there.

    Notes
    -----
    Derived for this package by expanding the squared Bures distance about equal covariances with
    Wishart deviations; checked by simulation in the tests (within 3 % at n = 8 d). Tails heavier
    than a Gaussian's raise the true bias.
    """
    d = len(moments.mean)
    if min(n, m) <= d:
        raise ValueError(f"n and m must be above the {d} columns, got {n} and {m}")
    w = torch.linalg.eigvalsh(moments.covariance).clamp(min=0)
    total = w[:, None] + w
    terms = torch.where(total > 0, w[:, None] * w / (2 * total), torch.zeros_like(total))
    second = float(terms.sum() + torch.diagonal(terms).sum())
    return float(w.sum()) * (1 / n + 1 / m) + (1 / (n - 1) + 1 / (m - 1)) * second


def _from_rows(a: torch.Tensor, b: torch.Tensor) -> FrechetResult:
    n, m, d = len(a), len(b), a.shape[1]
    method: Method
    if min(n, m) > d:
        (mean_a, S1), (mean_b, S2) = _scatter(a), _scatter(b)
        S1 /= n - 1
        S2 /= m - 1
        mean_term = float((mean_a - mean_b).square().sum())
        traces = _in_range(float(torch.trace(S1) + torch.trace(S2)))
        found = _certified(S1, S2, traces, mean_term)
        if found is not None:
            return _result(mean_term, traces - 2 * found, shape=(n, m, d), method="cholesky")
    (mean_a, A), (mean_b, B) = _centre(a), _centre(b)
    mean_term = float((mean_a - mean_b).square().sum())
    A /= math.sqrt(n - 1)
    B /= math.sqrt(m - 1)
    traces = _in_range(float((A * A).sum() + (B * B).sum()))
    if max(n, m) <= d:
        method, root = "rows", _nuclear(A @ B.T)
    elif min(n, m) <= d:
        small, large = (A, B) if n <= m else (B, A)
        R = torch.linalg.qr(large, mode="r").R
        method, root = "rows-covariance", _nuclear(small @ R.T)
    else:
        R1, R2 = (torch.linalg.qr(F, mode="r").R for F in (A, B))
        method, root = "qr", _nuclear(R1 @ R2.T)
    return _result(mean_term, traces - 2 * root, shape=(n, m, d), method=method)


def _centre(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and centred rows."""
    mean = x.mean(dim=0)
    return mean, x - mean


def _in_range(traces: float) -> float:
    """Refuse total variances whose square would leave float64."""
    if traces == 0 or _SMALLEST < traces < 1 / _SMALLEST:
        return traces
    raise ValueError(
        f"the features' total variance of {traces:.3g} is out of float64's reach once squared: "
        "divide both sets by one constant, which divides the distance by its square"
    )


def _scatter(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and sum of outer products of the centred rows."""
    if x.device.type != "cpu":
        mean, centred = _centre(x)
        return mean, centred.T @ centred
    # BLAS's symmetric product costs half the operations of a full one; strips of rows are centred
    # while they are in the cache, so that no copy of all rows is made.
    mean = x.mean(dim=0)
    n, d = x.shape
    strip = x.new_empty((min(n, max(1, _STRIP // d)), d))
    lower = np.zeros((d, d), order="F")
    for start in range(0, n, len(strip)):
        part = x[start : start + len(strip)]
        centred = torch.sub(part, mean, out=strip[: len(part)])
        lower = dsyrk(1.0, centred.numpy().T, beta=1.0, c=lower, overwrite_c=1, lower=1)
    # The other triangle, in blocks: across a whole matrix each value is in another cache line.
    for i in range(0, d, _BLOCK):
        here = slice(i, i + _BLOCK)
        lower[here, here] += np.tril(lower[here, here], -1).T
        lower[:i, here] = lower[here, :i].T
    return mean, torch.from_numpy(lower.T)


def _nuclear(M: torch.Tensor) -> float:
    return float(torch.linalg.svdvals(M).sum())


def _certified(S1: torch.Tensor, S2: torch.Tensor, traces: float, mean_term: float) -> float | None:
    """Tr (S1 S2)^(1/2) by Cholesky and symmetric eigenvalues, if it is accurate.

    Rounding moves each eigenvalue of L' S2 L by about eps |S1| |S2| (Weyl), and its square root by
    that over twice the root: harmless for well-conditioned covariances, 1e-8 for each null
    direction. The sum of these bounds decides; None sends the caller to a slower exact way.
    """
    w = _reduced_spectrum(S1, S2)
    if w is None:
        return None
    delta = _EPS * float(torch.linalg.matrix_norm(S1) * torch.linalg.matrix_norm(S2))
    roots = w.clamp(min=0).sqrt()
    error = float(
        torch.minimum(delta / (2 * roots), torch.full_like(roots, math.sqrt(delta))).sum()
    )
    value = mean_term + traces - 2 * float(roots.sum())
    if 2 * error > max(1e-9 * value, 1e-12 * traces):
        return None
    return float(roots.sum())


def _reduced_spectrum(S1: torch.Tensor, S2: torch.Tensor) -> torch.Tensor | None:
    """Eigenvalues of L' S2 L with S1 = L L'; None if S1 is not positive definite."""
    if S1.device.type != "cpu":
        L, info = torch.linalg.cholesky_ex(S1)
        return torch.linalg.eigvalsh(L.T @ S2 @ L) if int(info) == 0 else None
    # Both are symmetric, and in Fortran's order once transposed.
    factor, info = lapack.dpotrf(S1.numpy().T, lower=1)
    if info != 0:
        return None
    reduced = _congruent(S2.numpy().T, factor)
    w = eigh(reduced, driver="evd", eigvals_only=True, overwrite_a=True, check_finite=False)
    return torch.from_numpy(w)


def _congruent(S: npt.NDArray[np.float64], L: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Lower triangle of L' S L, of which the lower triangles alone are read.

    As LAPACK's dsygst, d³ operations instead of the 4 d³ of two products, but halved until the
    blocks fit the cache: its own strips of 64 columns are too narrow for two cores.
    """
    d = len(S)
    if d <= _BLOCK:
        small: npt.NDArray[np.float64] = lapack.dsygst(S, L, itype=2, lower=1)[0]
        return small
    h = d // 2
    out = np.empty((d, d), order="F")
    half = dsymm(0.5, S[h:, h:], L[h:, :h], lower=1)
    W = dtrmm(1.0, L[:h, :h], S[h:, :h], side=1, lower=1)
    W += half
    first = _congruent(S[:h, :h], L[:h, :h])
    out[:h, :h] = dsyr2k(1.0, L[h:, :h], W, trans=1, beta=1.0, c=first, overwrite_c=1, lower=1)
    W += half
    out[h:, :h] = dtrmm(1.0, L[h:, h:], W, trans_a=1, lower=1, overwrite_b=1)
    out[h:, h:] = _congruent(S[h:, h:], L[h:, h:])
    return out


def _result(
    mean_term: float, trace_term: float, *, shape: tuple[int, int, int], method: Method
) -> FrechetResult:
    # The trace term is itself a squared distance: below 0 it is rounding.
    clamped, trace_term = max(0.0, -trace_term), max(0.0, trace_term)
    n, m, d = shape
    return FrechetResult(
        value=mean_term + trace_term,
        mean_term=mean_term,
        trace_term=trace_term,
        n_real=n,
        n_synthetic=m,
        dim=d,
        method=method,
        clamped=clamped,
    )


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

    def one(r: int) -> float:
        i, j = (
            torch.from_numpy(np.flatnonzero(mask[:, r])).to(z.device) for mask in (first, second)
        )
        return _from_rows(z[i], z[j]).value if gram is None else _from_gram(gram, i, j)

    return map_columns(one, first.shape[1], z.device)


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
