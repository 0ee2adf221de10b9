"""Drift of one column of labels: chi-square, total variation, Jensen-Shannon, stability index."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special, stats

from .._result import Interval
from ._common import (
    DriftTest,
    Floats,
    Ints,
    Measure,
    cell_interval,
    independent_rows,
    null_counts,
    permutation_p_value,
    pooled_groups,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..inference import Groups

_MIN_EXPECTED = 5.0
"""Smallest expected count to trust the chi-square law with (Cochran, Biometrics 10, 1954)."""

_SMOOTHING = 0.5
"""Counts added to each cell of the smaller side before the logarithms of the stability index."""


@dataclass(frozen=True, slots=True)
class StabilityTest(DriftTest):
    """A population stability index, with what it would be by chance alone.

    Attributes
    ----------
    null_mean : float or None
        Its mean when nothing has drifted: (cells - 1) (1/n_real + 1/n_synthetic). None where rows
        come in groups: the law is that of independent rows, and the p-value is what holds.
    critical : float or None
        Likewise its quantile at ``level`` when nothing has drifted. The fixed limits 0.1 and 0.25
        of the credit-scoring tradition ignore n: under about 400 samples a side they fire on no
        drift.
    cells : int
        Number of cells.
    """

    null_mean: float | None
    critical: float | None
    cells: int


@dataclass(frozen=True, slots=True)
class CategoricalDrift:
    """What changed in one column of labels.

    Attributes
    ----------
    total_variation : float
        Half the summed absolute difference of shares, 0 (same) to 1 (no label in common): the
        share of synthetic samples that would have to change their label.
    total_variation_ci : Interval
        Its confidence interval.
    jensen_shannon : float
        Divergence in bits, 0 to 1.
    jensen_shannon_ci : Interval
        Its confidence interval.
    psi, psi_null_mean, psi_critical : float
        Population stability index and its law under no drift; see :class:`StabilityTest`.
    psi_ci : Interval
        Confidence interval of the index.
    chi_square : float
        Pearson's statistic, after pooling of rare categories; it grows with n and estimates
        nothing, so it has no interval: the total variation has.
    p_value, p_method : float, str
        p-value of the chi-square test, and how it was made.
    categories : int
        Number of different labels in both sides together.
    unseen : tuple of str
        Labels that only the synthetic side has.
    vanished : tuple of str
        Labels that only the real side has.
    n_real, n_synthetic : int
        Sample sizes.
    """

    total_variation: float
    total_variation_ci: Interval
    jensen_shannon: float
    jensen_shannon_ci: Interval
    psi: float
    psi_null_mean: float | None
    psi_critical: float | None
    psi_ci: Interval
    chi_square: float
    p_value: float
    p_method: str
    categories: int
    unseen: tuple[str, ...]
    vanished: tuple[str, ...]
    n_real: int
    n_synthetic: int


def total_variation(
    real: Sequence[Any],
    synthetic: Sequence[Any],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Half the summed absolute difference of the shares of each label.

    Parameters
    ----------
    real, synthetic : sequence, length n
        Labels; strings, integers or booleans. A missing one (None, NaN) is refused: name it.
    groups_real, groups_synthetic : sequence, optional
        Group of each row; groups are relabelled and resampled whole.
    permutations : int
        Relabellings for the p-value.
    level : float
        Coverage of the interval.
    seed : int
        Seed of the relabellings and of the interval.

    Returns
    -------
    DriftTest
        Effect and statistic in [0, 1], 0 is best. Blind to *which* labels were exchanged.

    Raises
    ------
    ValueError
        If a side is empty or a label is missing.
    """
    data = _Cells.of(real, synthetic, groups_real, groups_synthetic)
    return data.test("total variation", data.tv(), permutations, level, seed)


def jensen_shannon_labels(
    real: Sequence[Any],
    synthetic: Sequence[Any],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Jensen-Shannon divergence (base 2) of two columns of labels.

    Parameters, errors: as :func:`total_variation`.

    Returns
    -------
    DriftTest
        The divergence in bits, in [0, 1]; its square root is a metric (scipy's
        ``jensenshannon(base=2)``).

    References
    ----------
    Lin, IEEE Trans. Inf. Theory 37 (1991) 145.
    """
    data = _Cells.of(real, synthetic, groups_real, groups_synthetic)
    return data.squared("Jensen-Shannon", data.js_root(), permutations, level, seed)


def psi_labels(
    real: Sequence[Any],
    synthetic: Sequence[Any],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> StabilityTest:
    """Measure the population stability index of two columns of labels.

    Parameters, errors: as :func:`total_variation`. Both sides' shares are mixed with equal
    shares, by the weight of half a count a cell on the smaller side (at equal sizes:
    (count + 1/2) / (n + cells/2)), so that an empty cell has a finite logarithm that depends on n
    and not on an arbitrary constant.

    Returns
    -------
    StabilityTest
        Sum of (p - q) ln(p / q), 0 is best, unbounded.

    References
    ----------
    Yurdakul and Naranjo, J. Risk Model Validation 14 (2020) 89, for the law under no drift.
    """
    data = _Cells.of(real, synthetic, groups_real, groups_synthetic)
    return data.stability(permutations, level, seed)


def chi_square_test(
    real: Sequence[Any],
    synthetic: Sequence[Any],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> DriftTest:
    """Pearson's chi-square test that two columns of labels have the same shares.

    Labels with an expected count under 5 on the smaller side are pooled into one; the rule looks at
    the pooled counts only, so that it does not bias the test. Where a cell stays that small, or
    rows come in groups, the p-value is made by permutation (of the unpooled labels).

    Parameters, errors: as :func:`total_variation`.

    Returns
    -------
    DriftTest
        Effect: Cramér's V = sqrt(chi²/N) in [0, 1], 0 is best; it depends on the ratio of the
        sample sizes, unlike the total variation.
    """
    data = _Cells.of(real, synthetic, groups_real, groups_synthetic)
    statistic, p, method, tested = data.chi_square(permutations, seed)
    ci = tested.interval(tested.cramer(), level, seed)
    n = tested.real.size + tested.synthetic.size
    return DriftTest(
        value=float(np.sqrt(statistic / n)),
        name="chi-square",
        statistic=statistic,
        p_value=p,
        p_method=method,
        ci=ci,
        n_real=tested.real.size,
        n_synthetic=tested.synthetic.size,
    )


def categorical_drift(
    real: Sequence[Any],
    synthetic: Sequence[Any],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> CategoricalDrift:
    """Every measure of one column of labels at once.

    Parameters, errors: as :func:`total_variation`.
    """
    data = _Cells.of(real, synthetic, groups_real, groups_synthetic)
    p, q = data.shares()
    chi_square, p_value, p_method, _ = data.chi_square(permutations, seed)
    null_mean, critical = stability_null(
        p.size, data.real.size, data.synthetic.size, level, data.groups
    )
    return CategoricalDrift(
        total_variation=data.value(data.tv()),
        total_variation_ci=data.interval(data.tv(), level, seed),
        jensen_shannon=data.value(data.js_root()) ** 2,
        jensen_shannon_ci=data.squared_interval(data.js_root(), level, seed),
        psi=data.value(data.psi_root()) ** 2,
        psi_null_mean=null_mean,
        psi_critical=critical,
        psi_ci=data.squared_interval(data.psi_root(), level, seed),
        chi_square=chi_square,
        p_value=p_value,
        p_method=p_method,
        categories=p.size,
        unseen=tuple(str(c) for c, n in zip(data.categories, p, strict=True) if n == 0),
        vanished=tuple(str(c) for c, n in zip(data.categories, q, strict=True) if n == 0),
        n_real=data.real.size,
        n_synthetic=data.synthetic.size,
    )


def _tv() -> Measure:
    def norm(d: Floats) -> Floats:
        return np.asarray(np.abs(d).sum(axis=-1) / 2)

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        sign = np.sign(p - q) / 2
        return sign, -sign

    return Measure(lambda p, q: norm(p - q), norm, slopes, upper=1.0)


def _js_root(pooled: Floats) -> Measure:
    """Give the square root of the Jensen-Shannon divergence in bits."""

    def distance(p: Floats, q: Floats) -> Floats:
        middle = (p + q) / 2
        nats = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=-1) / 2
        return np.asarray(np.sqrt(np.clip(nats / np.log(2), 0.0, 1.0)))

    def norm(d: Floats) -> Floats:
        return np.asarray(np.sqrt((d**2 / pooled).sum(axis=-1) / (8 * np.log(2))))

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        twice_root = 2 * distance(p, q)
        # An empty cell has an infinite slope that no sample meets: any number will do.
        with np.errstate(divide="ignore"):
            by = [np.where(s > 0, np.log2(2 * s / (p + q)), 0.0) / 2 for s in (p, q)]
        return by[0] / twice_root, by[1] / twice_root

    return Measure(distance, norm, slopes, upper=1.0)


def _psi_root(m: int, n: int, pooled: Floats) -> Measure:
    """Give the square root of the stability index."""
    k = pooled.size
    # One weight for both sides: with one of its own each, equal shares would have an index over 0.
    kept = min(m, n) / (min(m, n) + _SMOOTHING * k)

    def smoothed(p: Floats) -> Floats:
        return np.asarray(p * kept + (1 - kept) / k)

    def distance(p: Floats, q: Floats) -> Floats:
        a, b = smoothed(p), smoothed(q)
        return np.asarray(np.sqrt(((a - b) * np.log(a / b)).sum(axis=-1)))

    def norm(d: Floats) -> Floats:
        return np.asarray(kept * np.sqrt((d**2 / smoothed(pooled)).sum(axis=-1)))

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        a, b = smoothed(p), smoothed(q)
        factor = kept / (2 * distance(p, q))
        by_real = np.log(a / b) + (a - b) / a
        by_synthetic = np.log(b / a) + (b - a) / b
        return by_real * factor, by_synthetic * factor

    return Measure(distance, norm, slopes)


def _cramer(m: int, n: int, pooled: Floats) -> Measure:
    """Give Cramér's V at these sample sizes."""
    total = m + n

    def distance(p: Floats, q: Floats) -> Floats:
        share = (m * p + n * q) / total
        squared = np.divide((p - q) ** 2, share, out=np.zeros_like(share), where=share > 0)
        return np.asarray(np.sqrt(squared.sum(axis=-1) * m * n) / total)

    def norm(d: Floats) -> Floats:
        return np.asarray(np.sqrt((d**2 / pooled).sum(axis=-1) * m * n) / total)

    def slopes(p: Floats, q: Floats) -> tuple[Floats, Floats]:
        ratio = (p - q) / pooled
        factor = m * n / total**2 / (2 * distance(p, q))
        by_real = 2 * ratio - ratio**2 * m / total
        by_synthetic = -2 * ratio - ratio**2 * n / total
        return by_real * factor, by_synthetic * factor

    return Measure(distance, norm, slopes, upper=1.0)


def stability_null(
    cells: int, n_real: int, n_synthetic: int, level: float, groups: Ints | None = None
) -> tuple[float, float] | tuple[None, None]:
    """Mean and quantile of the stability index under no drift: chi-square times (1/m + 1/n).

    None for rows in groups, whose index is larger by chance than that of independent rows.
    """
    if not independent_rows(groups):
        return None, None
    scale = 1 / n_real + 1 / n_synthetic
    if cells == 1:
        return 0.0, 0.0
    return (cells - 1) * scale, float(stats.chi2.ppf(level, cells - 1)) * scale


@dataclass(frozen=True, slots=True)
class _Cells:
    """Two columns as cell numbers."""

    real: Ints
    synthetic: Ints
    categories: tuple[Any, ...]
    groups: Ints | None

    @classmethod
    def of(
        cls,
        real: Sequence[Any] | np.ndarray,
        synthetic: Sequence[Any] | np.ndarray,
        groups_real: Groups,
        groups_synthetic: Groups,
    ) -> _Cells:
        sides = []
        for labels, name in ((real, "real"), (synthetic, "synthetic")):
            if isinstance(labels, str):
                raise TypeError(f"{name} must be a sequence of labels, got one string")
            values = list(labels.tolist() if isinstance(labels, np.ndarray) else labels)
            if not values:
                raise ValueError(f"{name} has no labels")
            missing = [i for i, v in enumerate(values) if is_missing(v)]
            if missing:
                raise ValueError(
                    f"{name} has {len(missing)} missing labels (first at {missing[:5]}); give them "
                    "a name of their own, or drop them and report how many"
                )
            sides.append(values)
        numbers: dict[Any, int] = {}
        # A flag is not the number that Python takes it for: True and 1 are two categories.
        coded = [
            np.fromiter(
                (numbers.setdefault((isinstance(v, bool), v), len(numbers)) for v in values),
                dtype=np.int64,
                count=len(values),
            )
            for values in sides
        ]
        groups = pooled_groups(groups_real, groups_synthetic, coded[0].size, coded[1].size)
        return cls(coded[0], coded[1], tuple(label for _, label in numbers), groups)

    def shares(self) -> tuple[Floats, Floats]:
        k = len(self.categories)
        return (
            np.bincount(self.real, minlength=k) / self.real.size,
            np.bincount(self.synthetic, minlength=k) / self.synthetic.size,
        )

    def pooled(self) -> Floats:
        both = np.concatenate([self.real, self.synthetic])
        return np.asarray(np.bincount(both, minlength=len(self.categories)) / both.size)

    def tv(self) -> Measure:
        return _tv()

    def js_root(self) -> Measure:
        return _js_root(self.pooled())

    def psi_root(self) -> Measure:
        return _psi_root(self.real.size, self.synthetic.size, self.pooled())

    def cramer(self) -> Measure:
        return _cramer(self.real.size, self.synthetic.size, self.pooled())

    def value(self, measure: Measure) -> float:
        return float(measure.distance(*self.shares()))

    def interval(self, measure: Measure, level: float, seed: int) -> Interval:
        return cell_interval(
            measure,
            self.real,
            self.synthetic,
            len(self.categories),
            groups=self.groups,
            level=level,
            seed=seed,
        )

    def squared_interval(self, root: Measure, level: float, seed: int) -> Interval:
        """Interval of a squared norm."""
        return _squared(self.interval(root, level, seed))

    def permuted(self, measure: Measure, permutations: int, seed: int) -> tuple[float, str]:
        null = null_counts(
            np.concatenate([self.real, self.synthetic]),
            len(self.categories),
            self.real.size,
            permutations,
            groups=self.groups,
            seed=seed,
        )
        of_what = "rows" if self.groups is None else "groups"
        p = permutation_p_value(measure, self.value(measure), null)
        return p, f"permutation of {of_what} ({permutations})"

    def test(
        self, name: str, measure: Measure, permutations: int, level: float, seed: int
    ) -> DriftTest:
        value = self.value(measure)
        p_value, p_method = self.permuted(measure, permutations, seed)
        return DriftTest(
            value=value,
            name=name,
            statistic=value,
            p_value=p_value,
            p_method=p_method,
            ci=self.interval(measure, level, seed),
            n_real=self.real.size,
            n_synthetic=self.synthetic.size,
        )

    def squared(
        self, name: str, root: Measure, permutations: int, level: float, seed: int
    ) -> DriftTest:
        """Test with a squared norm."""
        test = self.test(name, root, permutations, level, seed)
        ci = _squared(test.ci)
        return replace(test, value=test.value**2, statistic=test.value**2, ci=ci)

    def stability(self, permutations: int, level: float, seed: int) -> StabilityTest:
        root = self.psi_root()
        base = self.squared("stability index", root, permutations, level, seed)
        cells = len(self.categories)
        null_mean, critical = stability_null(
            cells, base.n_real, base.n_synthetic, level, self.groups
        )
        return StabilityTest(
            value=base.value,
            name=base.name,
            statistic=base.statistic,
            p_value=base.p_value,
            p_method=base.p_method,
            ci=base.ci,
            n_real=base.n_real,
            n_synthetic=base.n_synthetic,
            null_mean=null_mean,
            critical=critical,
            cells=cells,
        )

    def chi_square(self, permutations: int, seed: int) -> tuple[float, float, str, _Cells]:
        """Statistic, p, method, and the cells that were tested."""
        m, n = self.real.size, self.synthetic.size
        pooled = np.bincount(np.concatenate([self.real, self.synthetic]))
        if pooled.size == 1:
            return 0.0, 1.0, "one category only", self
        enough = _MIN_EXPECTED * (m + n) / min(m, n)
        rare = pooled < enough
        merged = self
        if rare.sum() > 1:
            number = np.where(rare, 0, np.cumsum(~rare))
            kept = tuple(c for c, r in zip(self.categories, rare, strict=True) if not r)
            merged = _Cells(
                number[self.real], number[self.synthetic], ("(rare)", *kept), self.groups
            )
            pooled = np.bincount(number, weights=pooled)
        if self.groups is None and pooled.size > 1 and pooled.min() >= enough:
            statistic = merged.value(merged.cramer()) ** 2 * (m + n)
            p = float(stats.chi2.sf(statistic, pooled.size - 1))
            rule = f", {int(rare.sum())} rare categories as one" if merged is not self else ""
            return statistic, p, f"asymptotic{rule}", merged
        p, method = self.permuted(self.cramer(), permutations, seed)
        statistic = self.value(self.cramer()) ** 2 * (m + n)
        return statistic, p, method, self


def _squared(ci: Interval) -> Interval:
    """Interval of a square from that of its root, which has a slope at 0."""
    return replace(ci, low=ci.low**2, high=ci.high**2)


def is_missing(value: object) -> bool:
    """None, NaN, NaT or pandas.NA: a value that says that there is none."""
    if value is None:
        return True
    try:
        return bool(value != value)  # noqa: PLR0124 - NaN and NaT are the values that differ from themselves
    except TypeError:  # pandas.NA refuses to be a truth value
        return True
    except ValueError:  # an array is many values, not none
        return False
