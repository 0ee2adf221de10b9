"""The Vendi score: how many different samples a set is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch

from .._check import Array, features, groups_of, pair
from .._result import Interval, Scalar
from ..inference import delete_half_se

if TYPE_CHECKING:
    from collections.abc import Sequence

    Groups = Sequence[object] | np.ndarray | None

Similarity: TypeAlias = Literal["cosine", "rbf"]

_CI_SIDE = 1000
"""At most so many samples a side go into the error bar."""


@dataclass(frozen=True, slots=True)
class VendiResult(Scalar):
    """The effective number of different samples; ``float()`` gives it.

    Attributes
    ----------
    value : float
        1 (all alike) to ``n`` (all unlike); the higher, the more diverse.
    q : float
        Order of the entropy.
    kernel : str
        ``"cosine"`` or ``"rbf"``.
    bandwidth : float or None
        Of the RBF kernel, in the features' unit.
    n : int
        Samples.
    ci : Interval or None
        Confidence interval of the score that sets of n samples have on average, where asked for.
    """

    q: float
    kernel: Similarity
    bandwidth: float | None
    n: int
    ci: Interval | None = None


@dataclass(frozen=True, slots=True)
class VendiRatioResult(Scalar):
    """Diversity of the synthetic set as a share of the real one's, at equal size.

    Attributes
    ----------
    value : float
        ``synthetic / real``; 1 is as diverse as real, under 1 is less.
    real, synthetic : float
        Vendi scores of sets of `size` samples, means over `repeats` draws.
    ci : Interval or None
        Confidence interval of the ratio.
    size : int
        Samples in each set.
    repeats : int
        Draws from the larger set.
    q : float
        Order of the entropy.
    kernel : str
        ``"cosine"`` or ``"rbf"``.
    bandwidth : float or None
        Of the RBF kernel, the same on both sides.
    """

    real: float
    synthetic: float
    ci: Interval | None
    size: int
    repeats: int
    q: float
    kernel: Similarity
    bandwidth: float | None


def vendi_score(
    x: Array,
    *,
    q: float = 1.0,
    kernel: Similarity = "cosine",
    bandwidth: float | None = None,
    ci: bool = False,
    level: float = 0.95,
    resamples: int = 50,
    groups: Groups = None,
    seed: int = 0,
) -> VendiResult:
    """Count the effectively different samples of one set.

    With K the similarities, K_ii = 1, and l the eigenvalues of K/n, it is the exponential of their
    Rényi entropy of order q: ``(sum l^q)^(1/(1-q))``, ``exp(-sum l log l)`` at q = 1, and
    ``1 / max l`` at infinity. For the cosine kernel the eigenvalues come from the n × n matrix or
    from the d × d one, whichever is smaller: they are the same but for zeros.

    Parameters
    ----------
    x : array, shape (n, d)
        Features.
    q : float
        Order, 0 to infinity. Small orders count rare samples fully (0: the rank); large ones count
        what dominates.
    kernel : {"cosine", "rbf"}
        Similarity: of direction, or ``exp(-|x - y|^2 / (2 bandwidth^2))``.
    bandwidth : float, optional
        Of the RBF kernel; by default the median distance within x. To compare two sets give both
        the same.
    ci : bool
        Whether to add an interval: normal for the logarithm, with the delete-half jackknife's
        standard error (from a random 1,000 samples above that, scaled by the root of the size).
    level : float
        Nominal coverage of the interval.
    resamples : int
        Half-samples for the interval.
    groups : sequence, optional
        Group of each sample: the halves then take whole groups; the score does not change.
    seed : int
        Seed of the halves.

    Returns
    -------
    VendiResult
        The score.

    Raises
    ------
    ValueError
        If q is negative or NaN, the bandwidth is not above 0, a row is zero under the cosine
        kernel, or a value is not finite.

    Notes
    -----
    It sees variety only: noise is diverse. It grows with n: compare at equal n, as
    :func:`vendi_ratio` does. Memory O(n²) for the RBF kernel, O(min(n, d)²) for the cosine one.

    References
    ----------
    Friedman & Dieng 2023, The Vendi score, TMLR. Pasarkar & Dieng 2024, Cousins of the Vendi score,
    AISTATS.
    """
    t = features(x, "x")
    _check_order(q)
    width = _bandwidth(t, kernel, bandwidth)
    value = effective_number(_spectrum(t, width), q)
    interval = None
    if ci:
        codes = groups_of(groups, t.shape[0], "groups")
        rng = np.random.default_rng(seed)
        variance = _log_variance(t, codes, width, q, resamples, rng, "only")
        interval = _lognormal(value, variance, level)
    return VendiResult(
        value=value, q=float(q), kernel=kernel, bandwidth=width, n=t.shape[0], ci=interval
    )


def vendi_ratio(
    real: Array,
    synthetic: Array,
    *,
    q: float = 1.0,
    kernel: Similarity = "cosine",
    bandwidth: float | None = None,
    size: int | None = None,
    repeats: int = 10,
    level: float | None = 0.95,
    resamples: int = 50,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    seed: int = 0,
) -> VendiRatioResult:
    """Compare the diversity of two sets at equal size.

    Parameters
    ----------
    real : array, shape (n, d)
        Features of the real samples.
    synthetic : array, shape (m, d)
        Features of the synthetic samples.
    q, kernel
        As for :func:`vendi_score`.
    bandwidth : float, optional
        Of the RBF kernel on both sides; by default the median distance within real.
    size : int, optional
        Samples in each set; by default the smaller of n and m.
    repeats : int
        Random sets of this size from a side that has more; their mean is taken.
    level : float or None
        Level of the confidence interval; None leaves it out.
    resamples : int
        Half-samples for the interval.
    groups_real, groups_synthetic : sequence, optional
        Group of each sample: the halves then take whole groups.
    seed : int
        Seed of the draws.

    Returns
    -------
    VendiRatioResult
        The ratio, both scores and the interval.

    Raises
    ------
    ValueError
        If the size is not within both sets, a side is too small to halve, or as in
        :func:`vendi_score`.

    Notes
    -----
    Best 1. The interval is normal for the ratio's logarithm, with the delete-half jackknife's
    standard error (from a random 1,000 a side above that, scaled by the root of the size).
    """
    x, y = pair(real, synthetic)
    _check_order(q)
    n, m = x.shape[0], y.shape[0]
    size = min(n, m) if size is None else size
    if not 1 <= size <= min(n, m):
        raise ValueError(f"size must lie in 1..{min(n, m)}, got {size}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    codes = (
        groups_of(groups_real, n, "groups_real"),
        groups_of(groups_synthetic, m, "groups_synthetic"),
    )
    width = _bandwidth(x, kernel, bandwidth)
    rng = np.random.default_rng(seed)

    def mean(t: torch.Tensor) -> float:
        count = 1 if t.shape[0] == size else repeats
        draws = [np.sort(rng.permutation(t.shape[0])[:size]) for _ in range(count)]
        return float(np.mean([_score_of(t, rows, width, q) for rows in draws]))

    real_score, synthetic_score = mean(x), mean(y)
    ratio = synthetic_score / real_score
    ci = None
    if level is not None:
        variance = sum(
            _log_variance(t, c, width, q, resamples, rng, name)
            for t, c, name in ((x, codes[0], "real"), (y, codes[1], "synthetic"))
        )
        ci = _lognormal(ratio, variance, level)
    return VendiRatioResult(
        value=ratio,
        real=real_score,
        synthetic=synthetic_score,
        ci=ci,
        size=size,
        repeats=repeats,
        q=float(q),
        kernel=kernel,
        bandwidth=width,
    )


def _score_of(t: torch.Tensor, rows: np.ndarray, width: float | None, q: float) -> float:
    return effective_number(_spectrum(t[torch.from_numpy(rows).to(t.device)], width), q)


def _log_variance(
    t: torch.Tensor,
    codes: np.ndarray | None,
    width: float | None,
    q: float,
    resamples: int,
    rng: np.random.Generator,
    name: str,
) -> float:
    """Variance of the score's logarithm, by the delete-half jackknife."""
    unit = np.arange(t.shape[0]) if codes is None else codes
    total = int(unit.max()) + 1
    if total < 4:
        raise ValueError(
            f"the {name} side has {total} independent samples or groups, too few to halve for an "
            "interval: add samples, or leave it out (ci=False; level=None)"
        )
    kept = min(total, max(4, int(_CI_SIDE / (t.shape[0] / total))))
    universe = rng.permutation(total)[:kept]
    logs = [
        math.log(
            _score_of(
                t, np.flatnonzero(np.isin(unit, rng.permutation(universe)[: kept // 2])), width, q
            )
        )
        for _ in range(resamples)
    ]
    return delete_half_se(logs, kept // 2, kept) ** 2 * kept / total


def _lognormal(value: float, variance: float, level: float) -> Interval:
    factor = math.exp(NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(variance))
    return Interval(value / factor, value * factor, level, "delete-half-lognormal")


def unit_rows(x: torch.Tensor, name: str) -> torch.Tensor:
    """Give the rows at length 1, for the cosine kernel.

    Raises
    ------
    ValueError
        If a row is zero: it has no direction.
    """
    # Scaled first: squares of very small or large features would leave float64.
    largest = x.abs().amax(dim=1, keepdim=True)
    zero = largest[:, 0] == 0
    if bool(zero.any()):
        rows = torch.nonzero(zero).flatten()[:5].tolist()
        raise ValueError(
            f"{name} has {int(zero.sum())} zero rows (first: {rows}), which have no direction: "
            "drop them, or use kernel='rbf'"
        )
    x = x / largest
    unit: torch.Tensor = x / x.norm(dim=1, keepdim=True)
    return unit


def effective_number(eigenvalues: torch.Tensor, q: float) -> float:
    """Give the exponential of the Rényi entropy of order q of a spectrum that sums to 1.

    Parameters
    ----------
    eigenvalues : tensor, shape (k,)
        At least 0 but for rounding.
    q : float
        Order, 0 to infinity.

    Returns
    -------
    float
        1 to k.
    """
    # Rounding leaves about k eps of the largest where a zero should be, and a small q would see it.
    floor = eigenvalues.shape[0] * torch.finfo(torch.float64).eps * eigenvalues.max()
    p = eigenvalues[eigenvalues > floor]
    p = p / p.sum()
    if q == 1:
        return float(torch.exp(-(p * p.log()).sum()))
    if np.isinf(q):
        return float(1 / p.max())
    # In logarithms: p^q leaves float64 for a large q.
    return float(torch.exp(torch.logsumexp(q * p.log(), dim=0) / (1 - q)))


def _check_order(q: float) -> None:
    if not q >= 0:
        raise ValueError(f"q must lie in 0..inf, got {q}")


def _bandwidth(x: torch.Tensor, kernel: Similarity, bandwidth: float | None) -> float | None:
    if kernel == "cosine":
        if bandwidth is not None:
            raise ValueError(f"the cosine kernel has no bandwidth, got {bandwidth}")
        return None
    if kernel != "rbf":
        raise ValueError(f"kernel must be 'cosine' or 'rbf', got {kernel!r}")
    if bandwidth is None:
        distance = torch.nn.functional.pdist(x)
        bandwidth = float(distance.median()) if distance.numel() else 0.0
        if bandwidth == 0:
            raise ValueError(
                "the median distance is 0 (most samples are copies), so it cannot be the RBF "
                "kernel's bandwidth: give one"
            )
    if not 0 < bandwidth < np.inf:
        raise ValueError(f"bandwidth must be above 0 and finite, got {bandwidth}")
    return float(bandwidth)


def _spectrum(x: torch.Tensor, bandwidth: float | None) -> torch.Tensor:
    """Give the eigenvalues of K/n but for zeros; the cosine kernel's without a bandwidth."""
    n, d = x.shape
    if bandwidth is None:
        u = unit_rows(x, "x")
        gram = u.T @ u if n > d else u @ u.T
    else:
        distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        gram = torch.exp(-0.5 * (distance / bandwidth) ** 2)
    eigenvalues: torch.Tensor = torch.linalg.eigvalsh(gram / n)
    return eigenvalues
