"""Drift of one numeric column: tests that are right under ties, effects that carry an interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy import special, stats

from .._result import Interval
from ._common import (
    DriftTest,
    Floats,
    Ints,
    Measure,
    cell_interval,
    check_level,
    column,
    independent_rows,
    influence_sd,
    null_counts,
    permutation_p_value,
    pooled_groups,
)
from .categorical import StabilityTest, _Cells, stability_null

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..inference import Groups

_KNOTS = 512
"""Distinct values that the intervals look at; the estimates and tests look at all."""

_EXACT_STEPS = 20_000
"""Most distinct values for the exact Kolmogorov-Smirnov law (about 0.1 s)."""

_EXACT_UNEQUAL = 4_000
"""Pooled size up to which that law is also taken without ties, at unequal sizes."""


@dataclass(frozen=True, slots=True)
class NumericDrift:
    """What changed in one numeric column.

    Attributes
    ----------
    ks : float
        Largest difference of the two distribution functions, 0 to 1.
    ks_p, ks_method : float, str
        p-value of the Kolmogorov-Smirnov test, right under ties, and how it was made.
    ks_ci : Interval
        Confidence interval of ``ks``; above 512 different values, of the difference at 512 of them.
    wasserstein : float
        Mean distance that a value must move to turn one sample into the other, in units of
        ``scale``. 0 is best; unbounded.
    wasserstein_ci : Interval
        Its confidence interval.
    wasserstein_raw : float
        The same in the column's own unit.
    wasserstein_null : float or None
        What ``wasserstein`` is on average by chance alone, at these sizes (closed form); None
        where rows come in groups.
    mean_shift : float
        (mean of synthetic - mean of real) / ``scale``.
    mean_shift_ci : Interval
        Its confidence interval. For no shift it is the t-test of the means, and holds under heavy
        tails; away from 0 the error of the unit counts too, which takes a fourth moment: of t(3),
        which has none, 100 values a side hold 92 % at a shift of half a standard deviation and
        87 % at one.
    sd_ratio : float or None
        Standard deviation of synthetic over that of real; None where real is constant. Without an
        interval: one needs fourth moments, which heavy tails do not have and samples tell badly
        (Bonett 2006, Comput. Statist. Data Anal. 50, 775); the Wasserstein distance of the
        standardised values says the same with one.
    psi, psi_null_mean, psi_critical : float
        Population stability index over pooled deciles, and its law under no drift; the law is
        None where rows come in groups.
    psi_ci : Interval
        Confidence interval of the index of these cells.
    js : float
        Jensen-Shannon divergence in bits over the same cells, 0 to 1.
    js_ci : Interval
        Its confidence interval.
    scale : float
        The unit: the real standard deviation, or where real is constant that of the pooled
        sample, or 1 where everything is one value.
    scale_of : {"real", "pooled", "none"}
        Which of the three it is.
    n_real, n_synthetic : int
        Sample sizes.
    """

    ks: float
    ks_p: float
    ks_method: str
    ks_ci: Interval
    wasserstein: float
    wasserstein_ci: Interval
    wasserstein_raw: float
    wasserstein_null: float | None
    mean_shift: float
    mean_shift_ci: Interval
    sd_ratio: float | None
    psi: float
    psi_null_mean: float | None
    psi_critical: float | None
    psi_ci: Interval
    js: float
    js_ci: Interval
    scale: float
    scale_of: Literal["real", "pooled", "none"]
    n_real: int
    n_synthetic: int

    @property
    def p_value(self) -> float:
        """The column's one p-value: that of the Kolmogorov-Smirnov test."""
        return self.ks_p


def ks_test(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Two-sample Kolmogorov-Smirnov test, exact under ties.

    The textbook law assumes distinct values and is conservative under ties (rounded scores, 8-bit
    brightness, counts). Here the p-value is the exact conditional one given the pooled sample:
    a walk over the distinct values that may leave the band only inside a tie (Schröer and
    Trenkler). Beyond 20,000 distinct values (without ties, at unequal sizes: beyond 4,000 rows)
    the asymptotic law is used, and ``p_method`` says so.

    Parameters
    ----------
    real, synthetic : array-like, shape (n,)
        Values; numpy, torch or a list. At least 1 a side.
    groups_real, groups_synthetic : sequence, optional
        Group of each row. Groups are permuted and resampled whole; the p-value is then made by
        permutation, of the supremum over at most 512 of the distinct values.
    permutations : int
        Relabellings for the p-value under groups.
    level : float
        Coverage of the interval.
    seed : int
        Seed of the relabellings and of the interval.

    Returns
    -------
    DriftTest
        Effect and statistic: sup |F - G| in [0, 1], 0 is best. Weak in the tails.

    Raises
    ------
    TypeError, ValueError
        If a column is not numeric, not one-dimensional, empty, or not finite.

    References
    ----------
    Hodges, Ark. Mat. 3 (1958) 469. Schröer and Trenkler, Comput. Stat. Data Anal. 20 (1995) 185.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic)
    p_value, p_method = data.ks_p_value(permutations, seed)
    value = data.value(_sup())
    return DriftTest(
        value=value,
        name="Kolmogorov-Smirnov",
        statistic=value,
        p_value=p_value,
        p_method=p_method,
        ci=data.coarse().interval(_sup(), level, seed),
        n_real=data.real.size,
        n_synthetic=data.synthetic.size,
    )


def cramer_von_mises_test(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Two-sample Cramér-von Mises test by permutation, so that ties do no harm.

    Parameters, errors: as :func:`ks_test`.

    Returns
    -------
    DriftTest
        Statistic: mn/N² times the sum of (F - G)² over the pooled sample (scipy's, where no values
        tie). Effect: the root mean square of F - G over the pooled sample, in [0, 1], 0 is best.

    References
    ----------
    Anderson, Ann. Math. Statist. 33 (1962) 1148.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic)
    return data.quadratic(
        "Cramér-von Mises", tail_weight=False, permutations=permutations, level=level, seed=seed
    )


def anderson_darling_test(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Two-sample Anderson-Darling test by permutation: sharper in the tails.

    The tables that others use stop at 0.001 and 0.25; a permutation p-value does not.

    Parameters, errors: as :func:`ks_test`.

    Returns
    -------
    DriftTest
        Statistic: A² of Scholz and Stephens, equation 6 (right-continuous distribution functions),
        not standardised. Effect: sqrt(A² N / (mn)), the root mean square of (F - G) / sqrt(H(1-H))
        over the pooled sample; 0 is best, about 1.24 for disjoint samples of equal size.

    References
    ----------
    Scholz and Stephens, JASA 82 (1987) 918.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic)
    return data.quadratic(
        "Anderson-Darling", tail_weight=True, permutations=permutations, level=level, seed=seed
    )


def wasserstein_drift(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """1-Wasserstein (earth mover's) distance in units of the real standard deviation.

    Parameters, errors: as :func:`ks_test`.

    Returns
    -------
    DriftTest
        Statistic: the distance in the column's own unit (scipy's ``wasserstein_distance``).
        Effect: the same over the real standard deviation (over the pooled one where real is
        constant). 0 is best; unbounded, and moved by single outliers.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic)
    raw = data.value(data.w1())
    p_value, p_method = data.permuted(data.w1(), permutations, seed)
    scale, _ = data.scale()
    return DriftTest(
        value=raw / scale,
        name="Wasserstein",
        statistic=raw,
        p_value=p_value,
        p_method=p_method,
        ci=data.w1_interval(level, seed),
        n_real=data.real.size,
        n_synthetic=data.synthetic.size,
    )


def jensen_shannon(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    bins: int = 10,
    edges: ArrayLike | None = None,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Jensen-Shannon divergence (base 2) of two binned columns.

    Parameters, errors: as :func:`psi`.

    Returns
    -------
    DriftTest
        The divergence in bits, in [0, 1], 0 is best. It knows no distance: values that moved to the
        next cell count as much as those that moved far, and within a cell nothing is seen.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic).binned(bins, edges)
    return data.squared("Jensen-Shannon", data.js_root(), permutations, level, seed)


def psi(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    bins: int = 10,
    edges: ArrayLike | None = None,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> StabilityTest:
    """Measure the population stability index, with its law under no drift.

    Parameters
    ----------
    real, synthetic : array-like, shape (n,)
        Values.
    bins : int
        Number of cells, cut at quantiles of the *pooled* sample: the cells do not change when
        labels are exchanged, which the p-value needs, and cover values that only one side has.
        A value that fills a cell by itself gets one; with at most ``bins`` distinct values, all
        do.
    edges : array-like, optional
        Inner cell borders instead, ascending; a value on a border belongs to the cell below. For
        the credit-scoring convention pass the deciles of a reference sample.
    groups_real, groups_synthetic, permutations, level, seed
        As :func:`ks_test`.

    Returns
    -------
    StabilityTest
        The index, its mean and its quantile under no drift. 0 is best; unbounded.

    Raises
    ------
    TypeError, ValueError
        As :func:`ks_test`; also if ``bins`` is under 2 or ``edges`` do not ascend.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic).binned(bins, edges)
    return data.stability(permutations, level, seed)


def numeric_drift(
    real: ArrayLike,
    synthetic: ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> NumericDrift:
    """Every measure of one numeric column at once, in about 0.03 s for 10,000 values a side.

    Parameters, errors: as :func:`ks_test`; at least 2 values a side. Without groups the p-value
    needs no permutations.
    """
    data = _Pooled.of(real, synthetic, groups_real, groups_synthetic, min_n=2)
    check_level(level)
    ks_p, ks_method = data.ks_p_value(permutations, seed)
    p, q = data.shares()
    raw = data.value(data.w1())
    scale, scale_of = data.scale()
    m, n = data.real.size, data.synthetic.size
    pooled_cdf = np.cumsum(m * p + n * q)[:-1] / (m + n)
    sd_of_gap = np.sqrt(np.clip(pooled_cdf * (1 - pooled_cdf), 0, None) * (1 / m + 1 / n))
    null = float(np.sqrt(2 / np.pi) * sd_of_gap @ np.diff(data.support))
    cells = data.binned(10, None)
    null_mean, critical = stability_null(len(cells.categories), m, n, level, data.groups)
    return NumericDrift(
        ks=data.value(_sup()),
        ks_p=ks_p,
        ks_method=ks_method,
        ks_ci=data.coarse().interval(_sup(), level, seed),
        wasserstein=raw / scale,
        wasserstein_ci=data.w1_interval(level, seed),
        wasserstein_raw=raw,
        wasserstein_null=null / scale if independent_rows(data.groups) else None,
        mean_shift=data.mean_shift(),
        mean_shift_ci=data.mean_shift_interval(level),
        sd_ratio=_sd(data.support[data.synthetic]) / scale if scale_of == "real" else None,
        psi=cells.value(cells.psi_root()) ** 2,
        psi_null_mean=null_mean,
        psi_critical=critical,
        psi_ci=cells.squared_interval(cells.psi_root(), level, seed),
        js=cells.value(cells.js_root()) ** 2,
        js_ci=cells.squared_interval(cells.js_root(), level, seed),
        scale=scale,
        scale_of=scale_of,
        n_real=m,
        n_synthetic=n,
    )


def _sup() -> Measure:
    def norm(d: Floats) -> Floats:
        return np.asarray(np.abs(np.cumsum(d, axis=-1)).max(axis=-1))

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        gap = np.cumsum(p - q)
        at = int(np.argmax(np.abs(gap)))
        below = np.where(np.arange(gap.size) <= at, np.sign(gap[at]), 0.0)
        return below, -below

    return Measure(lambda p, q: norm(p - q), norm, slopes, upper=1.0)


def _w1(support: Floats) -> Measure:
    gaps = np.append(np.diff(support), 0.0)

    def norm(d: Floats) -> Floats:
        return np.asarray(np.abs(np.cumsum(d, axis=-1)) @ gaps)

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        above = _from_here_on(np.sign(np.cumsum(p - q)) * gaps)
        return above, -above

    return Measure(lambda p, q: norm(p - q), norm, slopes)


def _l2(m: int, n: int, pooled: Floats, *, tail_weight: bool) -> Measure:
    """Give the root mean square of F - G over the pooled sample, over sqrt(H(1-H)) on request."""
    total = m + n

    def spread(weight: Floats) -> Floats:
        if not tail_weight:
            return np.ones_like(weight)
        below = np.cumsum(weight, axis=-1)
        out = below * (1 - below)
        # At the largest value both functions are 1: there is nothing to weigh.
        out[out < 1e-12] = np.inf
        return np.asarray(out)

    def distance(p: Floats, q: Floats) -> Floats:
        weight = (m * p + n * q) / total
        gap = np.cumsum(p - q, axis=-1)
        return np.asarray(np.sqrt((weight * gap**2 / spread(weight)).sum(axis=-1)))

    def norm(d: Floats) -> Floats:
        gap = np.cumsum(d, axis=-1)
        return np.asarray(np.sqrt((pooled * gap**2 / spread(pooled)).sum(axis=-1)))

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        gap, v = np.cumsum(p - q), spread(pooled)
        by_gap = _from_here_on(2 * pooled * gap / v)
        by_weight = gap**2 / v
        if tail_weight:
            below = np.cumsum(pooled)
            by_weight = by_weight - _from_here_on(pooled * gap**2 * (1 - 2 * below) / v**2)
        twice_root = 2 * distance(p, q)
        return (
            (by_gap + by_weight * m / total) / twice_root,
            (by_weight * n / total - by_gap) / twice_root,
        )

    return Measure(distance, norm, slopes)


def _from_here_on(x: Floats) -> Floats:
    return np.asarray(np.cumsum(x[::-1])[::-1])


def _sd(x: Floats) -> float:
    # Rounding must not give a constant column a spread: 0.1 repeated has a mean that is not 0.1.
    return 0.0 if x.size < 2 or x.min() == x.max() else float(x.std(ddof=1))


@dataclass(frozen=True, slots=True)
class _Pooled:
    """Two columns as positions in the sorted distinct values of both."""

    real: Ints
    synthetic: Ints
    support: Floats
    groups: Ints | None

    @classmethod
    def of(
        cls,
        real: ArrayLike,
        synthetic: ArrayLike,
        groups_real: Groups,
        groups_synthetic: Groups,
        *,
        min_n: int = 1,
    ) -> _Pooled:
        x, y = column(real, "real", min_n=min_n), column(synthetic, "synthetic", min_n=min_n)
        support, position = np.unique(np.concatenate([x, y]), return_inverse=True)
        groups = pooled_groups(groups_real, groups_synthetic, x.size, y.size)
        return cls(position[: x.size], position[x.size :], support, groups)

    def shares(self) -> tuple[Floats, Floats]:
        k = self.support.size
        return (
            np.bincount(self.real, minlength=k) / self.real.size,
            np.bincount(self.synthetic, minlength=k) / self.synthetic.size,
        )

    def scale(self) -> tuple[float, Literal["real", "pooled", "none"]]:
        """Give the unit of the effects, and whose spread it is."""
        own = _sd(self.support[self.real])
        if own > 0:
            return own, "real"
        both = _sd(self.support[np.concatenate([self.real, self.synthetic])])
        return (both, "pooled") if both > 0 else (1.0, "none")

    def w1(self) -> Measure:
        return _w1(self.support)

    def l2(self, *, tail_weight: bool) -> Measure:
        p, q = self.shares()
        m, n = self.real.size, self.synthetic.size
        return _l2(m, n, (m * p + n * q) / (m + n), tail_weight=tail_weight)

    def value(self, measure: Measure) -> float:
        return float(measure.distance(*self.shares()))

    def permuted(self, measure: Measure, permutations: int, seed: int) -> tuple[float, str]:
        null = null_counts(
            np.concatenate([self.real, self.synthetic]),
            self.support.size,
            self.real.size,
            permutations,
            groups=self.groups,
            seed=seed,
        )
        of_what = "rows" if self.groups is None else "groups"
        p = permutation_p_value(measure, self.value(measure), null)
        return p, f"permutation of {of_what} ({permutations})"

    def ks_p_value(self, permutations: int, seed: int) -> tuple[float, str]:
        if self.groups is not None:
            return self.coarse().permuted(_sup(), permutations, seed)
        m, n, k = self.real.size, self.synthetic.size, self.support.size
        in_real = np.bincount(self.real, minlength=k)
        runs = in_real + np.bincount(self.synthetic, minlength=k)
        # In integers: |i/m - j/n| = |i N - t m| / (m n), after t values of which i are real.
        reach = int(np.abs(np.cumsum(in_real) * (m + n) - np.cumsum(runs) * m).max())
        tied = k < m + n
        if reach == 0:
            return 1.0, "exact"
        if not tied and m == n:
            return _ks_equal_sizes(m, reach // m), "exact"
        if k <= (_EXACT_STEPS if tied else _EXACT_UNEQUAL):
            return _ks_exact(m, n, runs, reach), "exact given the ties" if tied else "exact"
        # The law for distinct values is an upper bound where some tie.
        p = float(stats.kstwo.sf(reach / (m * n), max(1, round(m * n / (m + n)))))
        return min(1.0, p), "asymptotic, conservative under ties" if tied else "asymptotic"

    def coarse(self) -> _Pooled:
        """Keep at most 512 distinct values: the outermost ones, and quantiles between them."""
        k = self.support.size
        if k <= _KNOTS:
            return self
        tail = _KNOTS // 8
        inner = np.linspace(tail, k - tail - 1, _KNOTS - 2 * tail).astype(int)
        knots = np.concatenate([np.arange(tail), inner, np.arange(k - tail, k)])
        cell = np.searchsorted(knots, np.arange(k))
        return _Pooled(cell[self.real], cell[self.synthetic], self.support[knots], self.groups)

    def w1_interval(self, level: float, seed: int) -> Interval:
        """Interval of the scaled distance; the noise of the real sd is part of it."""
        scale, scale_of = self.scale()
        few = self.coarse()
        raw, value = few.w1(), few.value(few.w1())
        centre = float(self.support[self.real].mean())
        spread = (few.support - centre) ** 2 / (2 * scale**3) if scale_of == "real" else 0.0

        def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
            by_real, by_synthetic = raw.slopes(p, q)
            return by_real / scale - value * spread, by_synthetic / scale

        scaled = Measure(
            lambda p, q: raw.distance(p, q) / scale, lambda d: raw.norm(d) / scale, slopes
        )
        return few.interval(scaled, level, seed)

    def interval(self, measure: Measure, level: float, seed: int) -> Interval:
        return cell_interval(
            measure,
            self.real,
            self.synthetic,
            self.support.size,
            groups=self.groups,
            level=level,
            seed=seed,
        )

    def quadratic(
        self, name: str, *, tail_weight: bool, permutations: int, level: float, seed: int
    ) -> DriftTest:
        m, n = self.real.size, self.synthetic.size
        measure, few = self.l2(tail_weight=tail_weight), self.coarse()
        value = self.value(measure)
        p_value, p_method = self.permuted(measure, permutations, seed)
        return DriftTest(
            value=value,
            name=name,
            statistic=value**2 * m * n / (m + n),
            p_value=p_value,
            p_method=p_method,
            ci=few.interval(few.l2(tail_weight=tail_weight), level, seed),
            n_real=m,
            n_synthetic=n,
        )

    def mean_shift(self) -> float:
        # Measured from a value of the data: exact for constants, and at any offset.
        from_first = self.support - self.support[0]
        shift = from_first[self.synthetic].mean() - from_first[self.real].mean()
        return float(shift) / self.scale()[0]

    def mean_shift_interval(self, level: float) -> Interval:
        """Invert a test of each shift, with the influence function at that shift.

        At the estimated shift an outlier that makes the shift also takes from its error, by the
        scale: under t(3) and no shift 2,000 simulated intervals of 100 values held 93.9 % so, and
        95.3 % by the inversion, which for no shift is the test of two means.
        """
        check_level(level)
        scale, scale_of = self.scale()
        x, y = self.support[self.real], self.support[self.synthetic]
        shift = self.mean_shift()
        z, w = (x - x.mean()) / scale, (y - y.mean()) / scale
        bend = z**2 / 2 if scale_of == "real" else np.zeros_like(z)

        def variance(at: float) -> float:
            return influence_sd(-z - at * bend, w, self.groups) ** 2

        rows = min(x.size, y.size) if self.groups is None else np.unique(self.groups).size
        q2 = float(stats.t.ppf((1 + level) / 2, rows - 1)) ** 2
        # The variance is quadratic in the shift, so (shift - at)² <= q² variance(at) is too.
        fixed, up, down = (variance(at) for at in (0.0, 1.0, -1.0))
        curve, tilt = (up + down) / 2 - fixed, (up - down) / 2
        lead, middle, last = 1 - q2 * curve, shift + q2 * tilt / 2, shift**2 - q2 * fixed
        root = middle**2 - lead * last
        method = "influence function, inverted test"
        if lead > 0 and root >= 0:
            half = float(np.sqrt(root))
            return Interval((middle - half) / lead, (middle + half) / lead, level, method)
        # A handful of values, one far out: no shift can be refused.
        half = float(np.sqrt(q2 * variance(shift)))
        return Interval(shift - half, shift + half, level, "influence function, Student")

    def binned(self, bins: int, edges: ArrayLike | None) -> _Cells:
        """Histogram cells, for the measures that need them."""
        k = self.support.size
        if edges is None:
            if bins < 2:
                raise ValueError(f"bins must be at least 2, got {bins}")
            if k <= bins:
                cell = np.arange(k)
            else:
                both = np.concatenate([self.real, self.synthetic])
                cuts = np.quantile(both, np.arange(1, bins) / bins, method="inverted_cdf")
                # A value with a cell's worth of samples (the zeros of a count) is its own cell.
                heavy = np.flatnonzero(np.bincount(both, minlength=k) * bins >= both.size)
                borders = np.unique(np.concatenate([cuts, heavy, heavy - 1]))
                cell = np.searchsorted(borders, np.arange(k), side="left")
        else:
            borders = column(edges, "edges")
            if (np.diff(borders) <= 0).any():
                raise ValueError(f"edges must ascend, got {borders.tolist()[:12]}")
            cell = np.searchsorted(borders, self.support, side="left")
        # A cell that is empty on both sides says nothing, and would count as a degree of freedom.
        occupied, cell = np.unique(cell, return_inverse=True)
        return _Cells(cell[self.real], cell[self.synthetic], tuple(occupied.tolist()), self.groups)


def _ks_equal_sizes(n: int, h: int) -> float:
    """P(D >= h/n) for two samples of n distinct values: reflections (Gnedenko and Koroljuk)."""
    k = np.arange(1, n // h + 1)
    log_ratio = (
        2 * special.gammaln(n + 1) - special.gammaln(n - k * h + 1) - special.gammaln(n + k * h + 1)
    )
    signs = np.where(k % 2 == 1, 1.0, -1.0)
    return float(np.clip(2 * np.sum(signs * np.exp(log_ratio)), 0.0, 1.0))


def _ks_exact(m: int, n: int, runs: Ints, reach: int) -> float:
    """P(max |i N - t m| >= reach at the ends of the runs), given the runs of equal values.

    Relabelling is a walk: each of the N sorted values is real with probability m/N, conditioned on
    m real ones in all. It is followed inside the band; what leaves is kept with its weight, so
    that a tiny p-value does not drown in 1 - p.
    """
    total = m + n
    rate = m / total
    ends = np.cumsum(runs)
    low = np.maximum((ends * m - reach) // total + 1, np.maximum(0, ends - n))
    high = np.minimum(-((-(ends * m + reach)) // total) - 1, np.minimum(ends, m))
    kernels: dict[int, Floats] = {}
    inside, base = np.ones(1), 0
    left: list[tuple[int, int, Floats]] = []
    for end, run, lo, hi in zip(
        ends.tolist(), runs.tolist(), low.tolist(), high.tolist(), strict=True
    ):
        kernel = kernels.get(run)
        if kernel is None:
            kernel = kernels[run] = stats.binom.pmf(np.arange(run + 1), run, rate)
        inside = np.convolve(inside, kernel)
        below, kept = max(lo - base, 0), hi - base + 1
        if below:
            left.append((end, base, inside[:below]))
        if kept < inside.size:
            left.append((end, hi + 1, inside[kept:]))
        inside = inside[below:kept]
        base = max(lo, base)
        if not inside.size:
            break
    if not left:
        return 1.0
    counts = [part.size for _, _, part in left]
    weight = np.concatenate([part for _, _, part in left])
    remaining = total - np.repeat([end for end, _, _ in left], counts)
    start = np.repeat([first for _, first, _ in left], counts)
    offset = np.arange(weight.size) - np.repeat(np.cumsum(counts) - counts, counts)
    needed = m - start - offset
    finish = stats.binom.pmf(needed, remaining, rate)
    p = float(np.sum(weight * finish) / stats.binom.pmf(m, total, rate))
    return min(1.0, p)
