"""The RBF kernel distance of streams, by random Fourier features, with its error.

By Bochner's theorem the kernel is the mean of ``cos(w·(x - y))`` over frequencies w drawn from a
normal distribution, and so the squared MMD is the mean over w of the squared distance between the
two empirical characteristic functions at w. One complex sum a frequency and side is all that must
be kept: memory does not grow with n, states add up, and one pass costs O(n d F).

The frequencies are independent, so that the spread of the F values gives the error against the
exact kernel distance of the *same rows*: what the approximation adds, beside what sampling does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import stdtrit

from .._check import Array, features, pair
from .._result import Scalar
from .kernel import median_bandwidth

FREQUENCIES = 1024
_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class RandomFeatureResult(Scalar):
    """An RBF kernel distance by random Fourier features.

    Attributes
    ----------
    value : float
        The squared distance; over the draw of the frequencies its mean is the exact, unbiased
        one of the same rows. Best 0; it can be negative where the sets are alike.
    error : float
        Half-width of the interval for the exact distance at ``level``, by Student's t over the
        frequencies with Johnson's correction for skewness: asymptotic in their number.
    error_bound : float
        The same, guaranteed at any number of frequencies: empirical Bernstein, and so far wider.
    level : float
        Of both.
    bandwidth : float
    frequencies : int
    n_real, n_synthetic, dim : int
    """

    error: float
    error_bound: float
    level: float
    bandwidth: float
    frequencies: int
    n_real: int
    n_synthetic: int
    dim: int


class RandomFeatureKernel:
    """State of a random-feature RBF distance: update with batches, merge, give the result.

    States that are to be merged are made with equal arguments.

    Parameters
    ----------
    dim : int
        Columns of the features.
    bandwidth : float
        σ of the kernel ``exp(-|x-y|²/(2σ²))``; :func:`.kernel.median_bandwidth` of a first part of
        the data is a good choice. It must not depend on how the data is dealt out.
    frequencies : int
        How many; the error falls with its root.
    seed : int
        Of the frequencies.

    Raises
    ------
    ValueError
        If an argument is out of range.

    References
    ----------
    Rahimi & Recht 2007, Random features for large-scale kernel machines; Sutherland & Schneider
    2015, On the error of random Fourier features (paired sines and cosines have the smaller
    variance); Johnson 1978, Modified t tests and confidence intervals for asymmetrical
    populations; Maurer & Pontil 2009, Empirical Bernstein bounds, theorem 4.
    """

    def __init__(
        self, dim: int, bandwidth: float, *, frequencies: int = FREQUENCIES, seed: int = 0
    ) -> None:
        if dim < 1:
            raise ValueError(f"dim must be 1 or more, got {dim}")
        if not (math.isfinite(bandwidth) and bandwidth > 0):
            raise ValueError(f"bandwidth must be positive and finite, got {bandwidth}")
        if frequencies < 2:
            raise ValueError(f"frequencies must be 2 or more, got {frequencies}")
        self.recipe = (dim, float(bandwidth), frequencies, seed)
        drawn = np.random.default_rng(seed).standard_normal((dim, frequencies)) / bandwidth
        self._w = torch.from_numpy(drawn.astype(np.float32))
        self.sums = np.zeros((2, 2, frequencies))
        """Side, cosine or sine, frequency."""
        self.counts = [0, 0]

    def update(self, batch: Array, *, real: bool) -> None:
        """Add rows of one side, shape (n, d).

        Raises
        ------
        TypeError, ValueError
            If the batch is not valid, or has another number of columns.
        """
        x = features(batch, "features", dtype=None)
        if x.shape[1] != self.recipe[0]:
            raise ValueError(f"features must have {self.recipe[0]} columns, got {x.shape[1]}")
        side = self.sums[0 if real else 1]
        for start in range(0, len(x), _BLOCK):
            phase = x[start : start + _BLOCK].to("cpu", torch.float32) @ self._w
            side[0] += torch.cos(phase).sum(dim=0, dtype=torch.float64).numpy()
            side[1] += phase.sin_().sum(dim=0, dtype=torch.float64).numpy()
        self.counts[0 if real else 1] += len(x)

    def merge(self, other: RandomFeatureKernel) -> None:
        """Add what another state has seen.

        Raises
        ------
        ValueError
            If it was made with other arguments.
        """
        if other.recipe != self.recipe:
            raise ValueError(
                f"states of different recipes (dim, bandwidth, frequencies, seed) do not merge: "
                f"{self.recipe} and {other.recipe}"
            )
        self.sums = self.sums + other.sums  # not in place: what Ray brings is read-only
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]

    def values(self) -> npt.NDArray[np.float64]:
        """Give the unbiased squared distance at each frequency, shape (F,).

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows.
        """
        n, m = self.counts
        if min(n, m) < 2:
            raise ValueError(f"at least 2 rows are needed on each side, got {n} and {m}")
        a, b = self.sums[0] / n, self.sums[1] / m
        between = ((a - b) ** 2).sum(axis=0)
        # A row with itself is 1 at every frequency: what the unbiased estimate leaves out.
        own = ((a**2).sum(axis=0) - 1) / (n - 1) + ((b**2).sum(axis=0) - 1) / (m - 1)
        values: npt.NDArray[np.float64] = between + own
        return values

    def result(self, *, level: float = 0.95) -> RandomFeatureResult:
        """Give the distance with its error.

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows, or the level is not within (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
        values = self.values()
        n, m = self.counts
        dim, bandwidth, count, _ = self.recipe
        deviation = float(values.std(ddof=1))
        t = float(stdtrit(count - 1, (1 + level) / 2))
        # Where the sets are alike the values are skewed, and Student's interval is too short at
        # one end: Johnson's correction, taken at both.
        centred = values - values.mean()
        skewness = abs(float((centred**3).mean())) / max(deviation, 1e-300) ** 3
        skewed = skewness * (1 + 2 * t * t) / (6 * count)
        # |a - b|² lies within [0, 4], and what is left out within [-1/(n-1) - 1/(m-1), 0].
        width = 4 + 1 / (n - 1) + 1 / (m - 1)
        tail = math.log(4 / (1 - level))
        return RandomFeatureResult(
            value=float(values.mean()),
            error=deviation * (t / math.sqrt(count) + skewed),
            error_bound=deviation * math.sqrt(2 * tail / count)
            + 7 * width * tail / (3 * (count - 1)),
            level=level,
            bandwidth=bandwidth,
            frequencies=count,
            n_real=n,
            n_synthetic=m,
            dim=dim,
        )


def random_feature_distance(
    real: Array,
    synthetic: Array,
    *,
    bandwidth: float | None = None,
    frequencies: int = FREQUENCIES,
    level: float = 0.95,
    seed: int = 0,
) -> RandomFeatureResult:
    """Approximate the squared RBF kernel distance in one pass, with its error.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features; at least 2 rows each.
    bandwidth : float, optional
        As in :func:`.kernel.kernel_distance`.
    frequencies : int
        Random frequencies; the error falls with the root of their number.
    level : float
        Of the error.
    seed : int
        Of the frequencies and of the rows that the bandwidth is taken from.

    Returns
    -------
    RandomFeatureResult
        The squared distance, in the unit and range of the exact one; best 0. It cannot see what
        the exact one cannot, nor differences under its own error.

    Raises
    ------
    TypeError, ValueError
        If the features or options are not valid.

    References
    ----------
    As of :class:`RandomFeatureKernel`.
    """
    a, b = pair(real, synthetic, min_n=2, dtype=None)
    sigma = median_bandwidth(a, b, seed=seed) if bandwidth is None else bandwidth
    state = RandomFeatureKernel(a.shape[1], sigma, frequencies=frequencies, seed=seed)
    # Large means would cost the phases their digits; the distance does not know of a shift.
    centre = a.mean(dim=0, dtype=torch.float64)
    for x, side in ((a, True), (b, False)):
        for start in range(0, len(x), _BLOCK):
            part = x[start : start + _BLOCK].to(torch.float64) - centre
            state.update(part.to(torch.float32), real=side)
    return state.result(level=level)
