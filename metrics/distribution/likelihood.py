"""Feature likelihood divergence: quality, diversity and novelty by one density estimate."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi, sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, features
from .._result import Interval, Scalar

_NARROWEST = 1e-8
"""Least variance of a component, as a share of the first one tried. A copy of a training sample
would otherwise have a density without bound."""
_ROUNDS = 500
_TOLERANCE = 1e-9
"""The fit ends when the mean log-likelihood per dimension gains less than this."""


@dataclass(frozen=True, slots=True, eq=False)
class LikelihoodResult(Scalar):
    """The divergence, its generalisation gap, and which samples look memorised.

    Attributes
    ----------
    value : float
        On the test samples; 0 for a generator as good as real data, the higher the worse.
    ci : Interval
        For the draw of the test samples; training and synthetic samples are taken as given.
    train : float
        The same on the training samples.
    gap : float
        ``train - value``. About 0, or a little under, for a generator that generalises; far under
        0 for one that memorised.
    sigma : float array, shape (m,)
        Fitted width of each synthetic sample's component, in standard deviations of a feature.
    memorisation : float array, shape (m,)
        ``log(median sigma / sigma)``: 0 is usual, large means that a training sample is so near
        that the component shrank onto it.
    baseline : float
        What was taken off: the same figure with half of the training samples as generator.
    converged : bool
        Whether both fits ended before their last round.
    """

    ci: Interval
    train: float
    gap: float
    sigma: npt.NDArray[np.float64]
    memorisation: npt.NDArray[np.float64]
    baseline: float
    converged: bool


def feature_likelihood_divergence(
    train: Array, test: Array, synthetic: Array, *, level: float = 0.95, seed: int = 0
) -> LikelihoodResult:
    """Measure how likely held-out real samples are under a density made of synthetic ones.

    The density is a mixture of isotropic Gaussians, one around each synthetic sample, whose
    variances are fitted (by EM, means and equal weights fixed) to the *training* samples. Then
    ``FLD = -(100/d) mean log p(test) - C``. A generator that copies training samples gets very
    narrow components there, which hold no test sample: it is punished where other metrics reward
    it. Features are standardised by the training samples' mean and deviation.

    Parameters
    ----------
    train : array, shape (n, d)
        Features of the real samples that the generator was trained on.
    test : array, shape (t, d)
        Features of real samples that it never saw.
    synthetic : array, shape (m, d)
        Features of its samples.
    level : float
        Level of the confidence interval.
    seed : int
        Seed of the halving of `train` for the baseline.

    Returns
    -------
    LikelihoodResult
        The divergence and what it is made of.

    Raises
    ------
    ValueError
        If a set has fewer than 2 samples (`train`: 4), columns differ, all features are constant
        on the training samples, or a value is not finite.

    Notes
    -----
    Unit: nats per 100 dimensions; unbounded above, best 0. The constant C is the same figure for
    a random half of `train` as generator, fitted to the other half: equal numbers (m = n/2) make 0
    mean "as good as fresh real data"; with more synthetic samples a good generator falls under 0.
    A shrunken synthetic set can look good where real data are nearly one Gaussian, and in few
    dimensions a copy need not shrink its component: the measure is for wide embeddings.
    Constant training features are left out. Components keep at least 1e-8 of the first variance
    tried, so the size of `gap` for exact copies depends on this floor. Memory O((n + t) m).

    References
    ----------
    Jiralerspong et al. 2023, Feature likelihood divergence: evaluating the generalization of
    generative models using samples, NeurIPS, arXiv:2302.04440.
    """
    a = features(train, "train", min_n=4)
    b = features(test, "test", min_n=2)
    s = features(synthetic, "synthetic", min_n=2)
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    if len({t.shape[1] for t in (a, b, s)}) > 1:
        raise ValueError(
            f"train, test and synthetic must have the same number of columns, got {a.shape[1]}, "
            f"{b.shape[1]} and {s.shape[1]}"
        )
    varies = a.amax(dim=0) > a.amin(dim=0)
    if not bool(varies.any()):
        raise ValueError("every feature is constant on the training samples: nothing to measure")
    mean, deviation = a.mean(dim=0), a.std(dim=0)
    a, b, s = (((t - mean) / deviation)[:, varies] for t in (a, b, s))
    d, n = a.shape[1], a.shape[0]

    variance, likelihood, done = _fit(s, a)
    on_test = _log_density(_squared(b, s), variance, d)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(n)).to(a.device)
    half, rest = a[order[: n // 2]], a[order[n // 2 :]]
    base_variance, _, base_done = _fit(half, rest)
    base = _log_density(_squared(b, half), base_variance, d)

    unit = 100 / d
    baseline = -unit * float(base.mean())
    value = -unit * float(on_test.mean()) - baseline
    error = unit * float((on_test - base).std()) / sqrt(b.shape[0])
    margin = NormalDist().inv_cdf(0.5 + level / 2) * error
    on_train = -unit * likelihood - baseline
    sigma = variance.sqrt().cpu().numpy()
    return LikelihoodResult(
        value=value,
        ci=Interval(value - margin, value + margin, level, "paired-normal"),
        train=on_train,
        gap=on_train - value,
        sigma=sigma,
        memorisation=np.log(np.median(sigma) / sigma),
        baseline=baseline,
        converged=done and base_done,
    )


def _squared(x: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, centres, compute_mode="donot_use_mm_for_euclid_dist").square_()


def _terms(squared: torch.Tensor, variance: torch.Tensor, d: int) -> torch.Tensor:
    """Log of each component's share of the density, (points, centres)."""
    constant = -0.5 * d * torch.log(2 * pi * variance) - log(variance.shape[0])
    return constant - squared / (2 * variance)


def _log_density(squared: torch.Tensor, variance: torch.Tensor, d: int) -> torch.Tensor:
    return torch.logsumexp(_terms(squared, variance, d), dim=1)


def _fit(centres: torch.Tensor, points: torch.Tensor) -> tuple[torch.Tensor, float, bool]:
    """Variances of the components, the points' mean log-likelihood, and whether it settled."""
    d = points.shape[1]
    squared = _squared(points, centres)
    start = squared.amin(dim=1).mean() / d
    if float(start) == 0:
        # Every point has a copy among the centres.
        start = squared.mean() / d
    floor = _NARROWEST * start
    variance = start.expand(centres.shape[0]).clone()
    before = -float("inf")
    for _ in range(_ROUNDS):
        terms = _terms(squared, variance, d)
        density = torch.logsumexp(terms, dim=1)
        now = float(density.mean())
        if now - before <= _TOLERANCE * d:
            return variance, now, True
        before = now
        share = terms.sub_(density[:, None]).exp_()
        mass = share.sum(dim=0)
        updated = (share * squared).sum(dim=0) / (d * mass.clamp_min(1e-300))
        # A centre that no point is near to has nothing to learn from.
        variance = torch.where(mass > 1e-12, updated, variance).clamp_min(floor)
    return variance, float(_log_density(squared, variance, d).mean()), False
