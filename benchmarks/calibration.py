"""Do tests reject as often as they say, and do intervals hold the truth as often as they say?

Three studies by simulation: rejection rates under the null hypothesis, coverage of the confidence
intervals at a known truth, and power. The work is cut into cells; `results/calibration/` always
shows the finished ones with the repetitions that they really had, and a study that was cut off is
taken up again from there: remove the rows of a cell from `calibration.csv` to have it run anew.

An exact permutation test rejects at its level given the pooled rows, whatever these are. Null
repetitions may therefore share pooled rows: each pool is dealt into two sides many times, every
deal with permutations of its own, and given the pool the deals are independent repetitions. That
lets one Gram matrix, one list of neighbours and one factorisation serve many repetitions.
"""

from __future__ import annotations

import csv
import io
import math
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import integrate, special, stats
from scipy.spatial import distance

from evalsuite.metrics._result import Interval
from evalsuite.metrics.distribution import classifier
from evalsuite.metrics.distribution.copying import copy_tests
from evalsuite.metrics.distribution.diversity import vendi_ratio, vendi_score
from evalsuite.metrics.distribution.frechet import frechet_distance, frechet_splits
from evalsuite.metrics.distribution.kernel import kernel_distance, kernel_distances, kernel_splits
from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence
from evalsuite.metrics.distribution.manifold import (
    manifold_splits,
    precision_recall_density_coverage,
)
from evalsuite.metrics.distribution.mauve import (
    _codebook,
    _principal_scores,
    frontier_area,
    mauve,
)
from evalsuite.metrics.distribution.modes import mode_tests
from evalsuite.metrics.distribution.transport import (
    max_sliced_wasserstein,
    orthogonal_directions,
    sinkhorn_divergence,
    sliced_wasserstein,
)
from evalsuite.metrics.drift.categorical import chi_square_test, total_variation
from evalsuite.metrics.drift.multiplicity import adjust_pvalues
from evalsuite.metrics.drift.univariate import (
    _Pooled,
    jensen_shannon,
    ks_test,
    numeric_drift,
    psi,
)
from evalsuite.metrics.inference import Tail, max_t, p_value, permutation_masks
from evalsuite.metrics.utility.probes import utility_tests
from evalsuite.pipeline.calibrate import PERMUTED_COMPONENTS, principal_components

from ._machine import RESULTS, machine, write

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
LEVEL = 0.95
KERNELS = ("polynomial", "rbf", "energy")
FEW = 19
"""Permutations where a statistic is dear: the fewest with which a 5 % level is exact."""


@dataclass(frozen=True, slots=True)
class Row:
    """How often one thing happened in one cell.

    ``claim`` is what the test promises: "exact" (the rate is alpha), "at most" (valid, but its
    statistic takes few values or ties, so that the rate may be lower), "asymptotic" (a law for
    large n), "none" (used where it must not be, or said to be no test). Intervals are "interval".
    """

    study: str
    test: str
    claim: str
    data: str
    n_real: int
    n_synthetic: int
    dim: int
    gap: float
    permutations: int
    repetitions: int
    count: int

    @property
    def share(self) -> float:
        return self.count / self.repetitions

    def band(self, miss: float = 0.01) -> tuple[float, float]:
        """Binomial band around the nominal rate for this number of repetitions."""
        rate = LEVEL if self.study == "coverage" else ALPHA
        low, high = stats.binom.ppf([miss / 2, 1 - miss / 2], self.repetitions, rate)
        return float(low) / self.repetitions, float(high) / self.repetitions

    def inside(self, miss: float = 0.01) -> bool:
        low, high = self.band(miss)
        if self.study == "coverage":
            return self.share >= low
        return self.share <= high and (self.claim != "exact" or self.share >= low)


@dataclass(frozen=True, slots=True)
class Cell:
    name: str
    run: Callable[[int], list[Row]]

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())


# Data -------------------------------------------------------------------------------------------


def rows_of(data: str, n: int, d: int, rng: np.random.Generator) -> Floats:
    """Draw rows: gaussian, heavy (independent t with 3 degrees of freedom), tied (whole numbers),
    copies (each row three times)."""
    if data in {"copies", "grouped", "grouped, withheld"}:
        return np.repeat(rng.standard_normal((-(-n // 3), d)), 3, axis=0)[:n]
    z = rng.standard_normal((n, d))
    if data == "heavy":
        z /= np.sqrt(rng.chisquare(3, (n, d)) / 3)
    elif data == "tied":
        z = np.round(z)
    return z


@dataclass(frozen=True, slots=True)
class Pool:
    """Pooled rows, and the labellings of many repetitions: of each, observed, then permuted."""

    z: Floats
    first: np.ndarray
    groups: np.ndarray | None
    deals: int


def pool(data: str, n: int, m: int, d: int, *, deals: int, permutations: int, seed: int) -> Pool:
    # Streams of their own: labels drawn from the data's would not be independent of it.
    own, *seeds = (int(s) for s in np.random.SeedSequence(seed).generate_state(deals + 2))
    z = rows_of(data, n + m, d, np.random.default_rng(own))
    groups = np.arange(n + m) // 3 if data.startswith("grouped") else None
    dealt, _ = permutation_masks(n, m, deals, groups=groups, seed=seeds[-1])
    told = None if data == "grouped, withheld" else groups
    columns = []
    for i in range(deals):
        order = np.argsort(~dealt[:, i], kind="stable")
        permuted, _ = permutation_masks(
            n, m, permutations, groups=None if told is None else told[order], seed=seeds[i]
        )
        block = np.empty((n + m, permutations + 1), dtype=bool)
        block[:, 0] = dealt[:, i]
        block[order, 1:] = permuted
        columns.append(block)
    return Pool(z, np.concatenate(columns, axis=1), told, deals)


# Tests, many repetitions at once ----------------------------------------------------------------


def _p(table: Floats, deals: int, tail: Tail, relative: float = 0.0) -> Floats:
    """p-values of statistics whose columns are, for each deal, the observed and the permuted."""
    return np.array(
        [
            p_value(t[0], t[1:], tail, tie=relative * float(t.std()))
            for t in table.reshape(deals, -1)
        ]
    )


def kernel_p(pooled: Pool) -> dict[str, Floats]:
    first = pooled.first
    drawn = kernel_splits(torch.from_numpy(pooled.z), first, ~first, KERNELS)
    out = {f"MMD {k}": _p(drawn[k], pooled.deals, "upper", 1e-9) for k in KERNELS}
    stacked = np.stack([drawn[k].reshape(pooled.deals, -1) for k in KERNELS])
    out["MMD max-T"] = np.array(
        [max_t(stacked[:, i, 0], stacked[:, i, 1:]).min() for i in range(pooled.deals)]
    )
    return out


def manifold_p(pooled: Pool) -> dict[str, Floats]:
    drawn = manifold_splits(pooled.z, pooled.first, ~pooled.first)
    return {k: _p(drawn[k], pooled.deals, "lower", 1e-9) for k in ("precision", "coverage")}


def frechet_p(pooled: Pool) -> Floats:
    """As the gate does it: on the leading principal components of the pooled rows."""
    deals, z = pooled.deals, pooled.z
    if z.shape[1] > PERMUTED_COMPONENTS:
        z = np.ascontiguousarray(principal_components(z, PERMUTED_COMPONENTS, 0)[0])
    per = pooled.first.shape[1] // pooled.deals
    some = min(per, FEW + 1)
    first = np.concatenate([pooled.first[:, i * per : i * per + some] for i in range(deals)], 1)
    return _p(frechet_splits(torch.from_numpy(z), first, ~first), deals, "upper", 1e-9)


def classifier_p(pooled: Pool) -> Floats:
    """One factorisation for all deals; the p-values are `classifier_two_sample_test`'s (tested)."""
    x = torch.from_numpy(pooled.z)
    fold = classifier._draw_folds(len(x), pooled.groups, 5, 0)
    labels = ~pooled.first
    scores = classifier._Ridge(x, fold, 1.0, None).scores(labels)
    auc = classifier._auc(scores, labels, fold).reshape(pooled.deals, -1)
    # With few groups a relabelling can leave no pair in any fold: the test passes over it.
    return np.array([p_value(a[0], a[1:][np.isfinite(a[1:])], "upper", tie=1e-12) for a in auc])


def block_p(pooled: Pool, seed: int) -> Floats:
    per = pooled.first.shape[1] // pooled.deals
    z = torch.from_numpy(pooled.z)
    width = math.sqrt(2 * float(pooled.z.var(axis=0).sum()))
    out = []
    for i in range(pooled.deals):
        mask = torch.from_numpy(pooled.first[:, i * per].copy())
        # The pool's rows lie in random order already; the test shuffles each side again.
        test = kernel_distance(
            z[mask], z[~mask], "rbf", estimator="block", bandwidth=width, seed=seed + i
        )
        out.append(test.p_value)
    return np.array(out, dtype=np.float64)


# Null hypothesis --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Repetitions of a cell: pools times deals."""

    pools: int
    deals: int
    permutations: int


def null_cell(data: str, n: int, m: int, d: int, plan: Plan, seed: int) -> list[Row]:
    if data.startswith("grouped"):
        n, m = n - n % 3, m - m % 3
    found: dict[str, list[Floats]] = defaultdict(list)
    for i in range(plan.pools):
        s = seed + 1000 * i
        pooled = pool(data, n, m, d, deals=plan.deals, permutations=plan.permutations, seed=s)
        for name, p in (kernel_p(pooled) | manifold_p(pooled)).items():
            found[name].append(p)
        found["Fréchet"].append(frechet_p(pooled))
        found["C2ST"].append(classifier_p(pooled))
        if not data.startswith("grouped"):
            found["MMD block z"].append(block_p(pooled, s))
    rows = []
    for name, parts in found.items():
        p = np.concatenate(parts)
        claim = "at most" if name in {"precision", "coverage"} else "exact"
        permutations = FEW if name == "Fréchet" else plan.permutations
        if name == "MMD block z":
            claim, permutations = "asymptotic", 0
        if data == "grouped, withheld":
            claim = "none"
        rows.append(_null(name, claim, data, (n, m, d), permutations, p))
    return rows


def _null(
    test: str, claim: str, data: str, shape: tuple[int, int, int], permutations: int, p: Floats
) -> Row:
    hits = int((p <= ALPHA + 1e-12).sum())
    return Row("null", test, claim, data, *shape, 0.0, permutations, p.size, hits)


def column_cell(data: str, n: int, m: int, repetitions: int, seed: int) -> list[Row]:
    """One column: every test and limit, and the intervals at no gap that come with them."""
    if data.startswith("grouped"):
        n, m = n - n % 3, m - m % 3
    p: dict[str, list[float]] = defaultdict(list)
    held: dict[str, int] = defaultdict(int)
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        z = rows_of(data, n + m, 1, rng)[:, 0]
        groups: tuple[list[str] | None, list[str] | None] = (None, None)
        if data.startswith("grouped"):
            names = [str(g) for g in np.arange(n + m) // 3]
            groups = (names[:n], names[n:])
        elif data == "copies":
            z = rng.permutation(z)
        x, y = z[:n], z[n:]
        told: dict[str, Any] = {"groups_real": groups[0], "groups_synthetic": groups[1]}
        if data == "grouped, withheld":
            told = {}
        drift = numeric_drift(x, y, permutations=99, seed=i, **told)
        p["KS"].append(drift.ks_p)
        both = _Pooled.of(x, y, told.get("groups_real"), told.get("groups_synthetic"))
        for name, weighted in (("CvM", False), ("AD", True)):
            p[name].append(both.permuted(both.l2(tail_weight=weighted), 99, i)[0])
        labels = [np.round(1.5 * v).astype(int).tolist() for v in (x, y)]
        p["chi²"].append(chi_square_test(*labels, permutations=99, seed=i, **told).p_value)
        if drift.psi_critical is not None:  # with groups there is no limit to exceed
            p["PSI limit"].append(0.0 if drift.psi > drift.psi_critical else 1.0)
        held["Wasserstein"] += drift.wasserstein_ci.low <= 0 <= drift.wasserstein_ci.high
        held["mean shift"] += drift.mean_shift_ci.low <= 0 <= drift.mean_shift_ci.high
    claims = {"CvM": "exact", "AD": "exact", "chi²": "asymptotic", "PSI limit": "asymptotic"}
    rows = []
    for name, values in p.items():
        claim = claims.get(name, "at most")
        if claim == "exact" and data in {"tied", "copies"}:
            claim = "at most"
        if name == "chi²" and data == "grouped":
            claim = "at most"
        if data == "grouped, withheld":
            claim = "none"
        permuted = 99 if name in {"CvM", "AD"} or data == "grouped" else 0
        rows.append(_null(name, claim, data, (n, m, 1), permuted, np.array(values)))
    if data != "grouped, withheld":
        rows += [_held(name, data, (n, m, 1), 0.0, repetitions, k) for name, k in held.items()]
    return rows


def _held(
    test: str, data: str, shape: tuple[int, int, int], gap: float, repetitions: int, count: int
) -> Row:
    return Row("coverage", test, "interval", data, *shape, gap, 0, repetitions, count)


# Near duplicates and NNDR count samples below a low quantile: with 100 rows a side the attainable
# levels next under 5 % are 3.0 % (rank 1) and 3.3 % (rank 5).
COPY_CHECKS = {
    "near_duplicates": "at most",
    "dcr": "exact",
    "nndr": "at most",
    "authenticity": "at most",
    "c_t": "asymptotic",
    "membership": "exact",
}


def copy_cell(data: str, n: int, d: int, share: float, repetitions: int, seed: int) -> list[Row]:
    """Copy checks without and with copies, and the intervals of their AUC and share."""
    p: dict[str, list[float]] = defaultdict(list)
    values: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        train, holdout, synthetic = rows_of(data, 3 * n, d, rng).reshape(3, n, d)
        k = round(share * n)
        synthetic[:k] = train[:k] + 0.1 * rng.standard_normal((k, d))
        found = copy_tests(train, holdout, synthetic, permutations=99, seed=i)
        for name in COPY_CHECKS:
            p[name].append(getattr(found, name).p_value)
        p["any (Holm)"].append(min(found.p_adjusted.values()))
        for name, result in (("membership AUC", found.membership), ("DCR share", found.dcr)):
            values[name].append((result.value, result.interval.low, result.interval.high))
    rows = []
    if share == 0:
        for name, found_p in p.items():
            claim = COPY_CHECKS.get(name, "at most")
            if claim == "exact" and data == "tied":
                claim = "at most"
            rows.append(_null(f"copy: {name}", claim, data, (n, n, d), 99, np.array(found_p)))
    for name, triples in values.items():
        truth = 0.5 if share == 0 else None
        rows.append(_covered(name, data, (n, n, d), share, np.array(triples), truth))
    return rows


def _covered(
    test: str,
    data: str,
    shape: tuple[int, int, int],
    gap: float,
    triples: Floats,
    truth: float | Floats | None,
) -> Row:
    """Count intervals (value, low, high) that hold the truth, one for all or one for each: by
    default the mean of the values, for those that speak of a metric's expectation at these sizes.
    """
    at = triples[:, 0].mean() if truth is None else truth
    held = int(((triples[:, 1] <= at) & (at <= triples[:, 2])).sum())
    return _held(test, data, shape, gap, len(triples), held)


# Coverage of intervals --------------------------------------------------------------------------


def variance_of(data: str) -> float:
    return 3.0 if data == "heavy" else 1.0


def kernel_truth(kernel: str, data: str, d: int, step: float, width: float) -> float:
    """Squared distance of independent columns and the same moved by ``step`` in each column."""
    if step == 0:
        return 0.0
    gap = d * step * step
    if kernel == "polynomial":
        # (s/d + 1)³ for s = x·y, x ~ N(a, I), y ~ N(b, I): moments of s from Isserlis' theorem.
        def mean(dot: float, a: float, b: float) -> float:
            second = dot**2 + a + b + d
            third = dot**3 + 3 * a * dot + 3 * dot * (b + d + 2)
            return third / d**3 + 3 * second / d**2 + 3 * dot / d + 1

        return mean(0, 0, 0) + mean(gap, gap, gap) - 2 * mean(0, 0, gap)
    if kernel == "rbf":
        # exp is the Fourier transform of a Gaussian, so one integral over characteristic functions.
        def column(shift: float) -> float:
            def integrand(t: float) -> float:
                root = math.sqrt(3) * abs(t)
                phi = math.exp(-root) * (1 + root) if data == "heavy" else math.exp(-t * t / 2)
                law = width / math.sqrt(2 * math.pi) * math.exp(-((width * t) ** 2) / 2)
                return phi * phi * math.cos(t * shift) * law

            value: float = 2 * integrate.quad(integrand, 0, 12 / width, limit=200)[0]
            return value

        return 2 * (column(0.0) ** d - column(step) ** d)
    if data == "gaussian":
        # Twice the gain in the mean length of N(0, 2I) by a shift.
        def length(square: float) -> float:
            factor = math.sqrt(math.pi) * math.exp(
                special.gammaln((d + 1) / 2) - special.gammaln(d / 2)
            )
            return 2 / math.sqrt(math.pi) * factor * float(special.hyp1f1(-0.5, d / 2, -square / 4))

        return 2 * (length(gap) - length(0.0))
    return _energy_by_simulation(data, d, step)


@cache
def _energy_by_simulation(data: str, d: int, step: float, pairs: int = 1_000_000) -> float:
    rng = np.random.default_rng(0)
    total = 0.0
    size = 20_000
    for _ in range(pairs // size):
        difference = rows_of(data, size, d, rng) - rows_of(data, size, d, rng)
        own = np.linalg.norm(difference, axis=1)
        # Both signs of the same pairs: their mean has far less noise.
        moved = sum(np.linalg.norm(difference + sign * step, axis=1) for sign in (-1, 1)) / 2
        total += float((moved - own).sum())
    return 2 * total / (pairs // size * size)


def feature_cell(
    part: str, data: str, n: int, d: int, gap: float, repetitions: int, seed: int
) -> list[Row]:
    """Intervals of the feature metrics; the synthetic rows are moved by ``gap`` real standard
    deviations of one column in all, an equal part in each column."""
    step = gap * math.sqrt(variance_of(data) / d)
    width = math.sqrt(2 * d * variance_of(data))
    # The cubes of t with 3 degrees of freedom have no mean: no truth for the polynomial kernel.
    kernels = [k for k in KERNELS if data != "heavy" or k != "polynomial"]
    triples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        x, y = rows_of(data, n, d, rng), rows_of(data, n, d, rng) + step
        if part == "kernel":
            family = kernel_distances(x, y, kernels, bandwidth=width)
            intervals = {f"MMD {k}": (r.value, r.ci) for k, r in family.results.items()}
        elif part == "frechet":
            whole = frechet_distance(x, y, ci=True, seed=i)
            intervals = {"Fréchet": (whole.value, whole.ci)}
        elif part == "manifold":
            four = precision_recall_density_coverage(x, y, seed=i)
            intervals = {k: (getattr(four, k), v) for k, v in four.intervals.items()}
        else:
            told = classifier.classifier_two_sample_test(x, y, permutations=99, seed=i)
            intervals = {"C2ST": (told.value, told.ci)}
        for name, (value, interval) in intervals.items():
            if interval is None:
                raise ValueError(f"{name} gave no interval for {n} rows of {d} columns")
            triples[name].append((value, interval.low, interval.high))
    rows = []
    for name, found in triples.items():
        truth = None
        if part == "kernel":
            truth = kernel_truth(name.removeprefix("MMD "), data, d, step, width)
        elif part == "frechet":
            truth = d * step * step
        rows.append(_covered(name, data, (n, n, d), gap, np.array(found), truth))
    return rows


def resampled_cell(data: str, d: int, gap: float, repetitions: int, seed: int) -> list[Row]:
    """Intervals of transport, MAUVE, diversity, likelihood, copying and modes, which come from
    half-samples or from rows given others: those are then the same in all repetitions."""
    n = 100
    sd = math.sqrt(variance_of(data))
    step = gap * sd / math.sqrt(d)
    along = step * orthogonal_directions(d, 64).numpy().sum(axis=0)
    found: dict[str, list[tuple[float, float, float, float]]] = defaultdict(list)

    def add(name: str, value: float, interval: Interval | None, truth: float = math.nan) -> None:
        if interval is None:
            raise ValueError(f"{name} gave no interval")
        found[name].append((value, interval.low, interval.high, truth))

    rng = np.random.default_rng([seed, repetitions])
    train, given = rows_of(data, 2 * n, d, rng).reshape(2, n, d)
    many = [rows_of(data, 10_000, d, rng) for _ in range(2)]
    many[1] += step
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        x, y = rows_of(data, n, d, rng), rows_of(data, n, d, rng) + step
        sliced = sliced_wasserstein(x, y, directions=64, ci=True, seed=0)
        add("sliced Wasserstein", float(sliced), sliced.ci, math.sqrt(float((along**2).mean())))
        most = max_sliced_wasserstein(x, y, directions=16, steps=10, ci=True)
        add("max-sliced", float(most), most.ci, abs(step * float(most.direction.sum())))
        diverse = vendi_score(x, ci=True)
        add("Vendi", float(diverse), diverse.ci)
        ratio = vendi_ratio(x, y)
        add("Vendi ratio", float(ratio), ratio.ci)
        likely = feature_likelihood_divergence(train, x, given + step)
        add("FLD", float(likely), likely.ci)
        copies = copy_tests(train, x, y, permutations=1)
        add("copy: C_T", float(copies.c_t), copies.c_t.interval)
        add("copy: NNDR quantile", copies.nndr.synthetic, copies.nndr.synthetic_interval)
        modes = mode_tests(x, y, permutations=1)
        add("effective hits", float(modes.hits), modes.hits.interval)
        if i % 4 == 0:
            # They take as long as all the others together.
            blur = 0.4 * sd * math.sqrt(2 * d)
            moved = sinkhorn_divergence(x, y, blur=blur, ci=True)
            add("Sinkhorn", float(moved), moved.ci, d * step * step / 2)
            x, y = (rows_of(data, 5 * n, d, rng) for _ in range(2))
            add("MAUVE", *_mauve_and_truth(x, y + step, many))
    rows = []
    for name, quads in found.items():
        table = np.array(quads)
        truth = None if np.isnan(table[:, 3]).any() else table[:, 3]
        size = 5 * n if name == "MAUVE" else n
        rows.append(_covered(name, data, (size, size, d), gap, table[:, :3], truth))
    return rows


def _mauve_and_truth(
    x: Floats, y: Floats, many: Sequence[Floats]
) -> tuple[float, Interval | None, float]:
    """MAUVE, and what its own codebook gives on many rows."""
    told = mauve(x, y, seeds=1, explained=1.0, ci=True)
    pooled = np.concatenate([x, y])
    cells = _codebook(_principal_scores(pooled, 1.0), told.clusters, 0)
    centres = np.stack([pooled[cells == c].mean(axis=0) for c in range(told.clusters)])
    p, q = (
        np.bincount(distance.cdist(rows, centres).argmin(axis=1), minlength=len(centres))
        for rows in many
    )
    return float(told), told.ci, frontier_area(p, q, mixtures=513)


def column_coverage_cell(data: str, n: int, gap: float, repetitions: int, seed: int) -> list[Row]:
    """Intervals of the column metrics; synthetic values move by ``gap`` real sd."""
    sd = math.sqrt(variance_of(data))
    law = stats.t(3) if data == "heavy" else stats.norm()
    step = gap * sd
    edges = np.append(np.arange(-6.5, 7.0) / 1.5, np.inf)
    shares = [np.diff(law.cdf(edges - shift), prepend=0.0) for shift in (0.0, step)]
    # Of the indices: over the deciles of the real law.
    deciles = law.ppf(np.arange(1, 10) / 10)
    p, q = (np.diff(law.cdf(deciles - s), prepend=0.0, append=1.0) for s in (0.0, step))
    middle = (p + q) / 2
    truths = {
        "PSI": float(((p - q) * np.log(p / q)).sum()),
        "JS": float((p * np.log2(p / middle) + q * np.log2(q / middle)).sum() / 2),
        "Wasserstein": gap,
        "mean shift": gap,
        "KS": float(2 * law.cdf(step / 2) - 1),
        "total variation": float(np.abs(shares[1] - shares[0]).sum() / 2),
    }
    triples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        x, y = rows_of(data, n, 1, rng)[:, 0], rows_of(data, n, 1, rng)[:, 0] + step
        drift = numeric_drift(x, y, seed=i)
        # Cells as in `edges`: the outermost take all that lies beyond.
        labels = [np.clip(np.round(1.5 * v), -7, 7).astype(int).tolist() for v in (x, y)]
        ks, tv = ks_test(x, y, seed=i), total_variation(*labels, permutations=1, seed=i)
        index, divergence = (
            test(x, y, edges=deciles, permutations=1, seed=i) for test in (psi, jensen_shannon)
        )
        for name, value, interval in (
            ("PSI", index.value, index.ci),
            ("JS", divergence.value, divergence.ci),
            ("Wasserstein", drift.wasserstein, drift.wasserstein_ci),
            ("mean shift", drift.mean_shift, drift.mean_shift_ci),
            ("KS", ks.value, ks.ci),
            ("total variation", tv.value, tv.ci),
        ):
            triples[name].append((value, interval.low, interval.high))
    return [
        _covered(name, data, (n, n, 1), gap, np.array(found), truths[name])
        for name, found in triples.items()
    ]


def utility_cell(data: str, d: int, gap: float, repetitions: int, seed: int) -> list[Row]:
    """Intervals of utility, which speak of one pair of training sets: new test data each time, and
    for the truth 20,000 test rows; two classes, and synthetic rows moved by ``gap``."""
    n = 100
    sd = math.sqrt(variance_of(data))

    def labelled(size: int, rng: np.random.Generator) -> tuple[Floats, list[str]]:
        side = rng.integers(0, 2, size)
        rows = rows_of(data, size, d, rng)
        rows[:, 0] += (1.4 * side - 0.7) * sd
        return rows, [str(k) for k in side]

    rng = np.random.default_rng([seed, repetitions])
    train, made = labelled(2 * n, rng), labelled(2 * n, rng)
    made[0][:, 0] += gap * sd

    def told(
        size: int, rng: np.random.Generator, bootstrap: int
    ) -> dict[str, tuple[float, Interval]]:
        found = utility_tests(
            train, made, labelled(size, rng), probes=("linear",), repeats=1, bootstrap=bootstrap
        ).probes["linear"]
        all_added = found.curve[-1]
        return {
            "TSTR": (found.tstr.value, found.tstr.interval),
            "TSTR / TRTR": (found.value, found.interval),
            "gain of all": (all_added.gain, all_added.interval),
            "gain of the next 1,000": (found.next_gain.value, found.next_gain.interval),
        }

    truths = {name: value for name, (value, _) in told(20_000, rng, 1).items()}
    found: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    for i in range(repetitions):
        for name, (value, interval) in told(n, np.random.default_rng([seed, i]), 1000).items():
            found[name].append((value, interval.low, interval.high))
    return [
        _covered(name, data, (n, n, d), gap, np.array(triples), truths[name])
        for name, triples in found.items()
    ]


# Power ------------------------------------------------------------------------------------------

STRENGTHS: dict[str, tuple[float, ...]] = {
    "mean shift": (0.0, 0.5, 1.0, 1.5, 2.0),
    "scale": (0.0, 0.05, 0.1, 0.15, 0.2),
    "dropped modes": (0.0, 0.1, 0.2, 0.3, 0.5),
    "copied samples": (0.0, 0.05, 0.1, 0.2, 0.4),
}
UNITS = {
    "mean shift": "length of the shift, in standard deviations of a column",
    "scale": "added to the standard deviation of every column, as a share",
    "dropped modes": "share of ten equal modes that is never generated",
    "copied samples": "share of synthetic rows that are training rows plus noise of 0.1",
}
MODES = np.random.default_rng(7).standard_normal((10, 64))


def sets_of(
    alternative: str, strength: float, n: int, d: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Floats]:
    """Training (real), synthetic and holdout rows."""
    real, synthetic, holdout = rng.standard_normal((3, n, d))
    if alternative == "mean shift":
        synthetic += strength / math.sqrt(d)
    elif alternative == "scale":
        synthetic *= 1 + strength
    elif alternative == "dropped modes":
        left = 10 - round(10 * strength)
        real += MODES[rng.integers(10, size=n), :d]
        synthetic += MODES[rng.integers(left, size=n), :d]
    else:
        k = round(strength * n)
        synthetic[:k] = real[:k] + 0.1 * rng.standard_normal((k, d))
    return real, synthetic, holdout


def subset_kid(x: Floats, y: Floats, subset: int) -> tuple[float, float]:
    """Mean and standard deviation over random subsets, as torch-fidelity gives them."""
    from torch_fidelity.metric_kid import kid_features_to_metric

    out = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=100, kid_subset_size=subset,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1, kid_degree=3, kid_gamma=None, kid_coef0=1, rng_seed=0,
        verbose=False,
    )  # fmt: skip
    return (
        out["kernel_inception_distance_mean"],
        max(out["kernel_inception_distance_std"], 1e-300),
    )


def power_cell(
    alternative: str, strength: float, repetitions: int, seed: int, n: int = 200, d: int = 64
) -> list[Row]:
    found: dict[str, list[bool]] = defaultdict(list)
    z_95 = float(stats.norm.ppf(1 - ALPHA))
    for i in range(repetitions):
        rng = np.random.default_rng([seed, i])
        x, y, holdout = sets_of(alternative, strength, n, d, rng)
        first = np.arange(2 * n)[:, None] < n
        first = np.concatenate([first, permutation_masks(n, n, 99, seed=i)[0]], axis=1)
        pooled = Pool(np.concatenate([x, y]), first, None, 1)
        p = {k: float(v[0]) for k, v in (kernel_p(pooled) | manifold_p(pooled)).items()}
        p["Fréchet"] = float(frechet_p(pooled)[0])
        p["C2ST"] = float(classifier_p(pooled)[0])
        p["MMD block z"] = float(block_p(pooled, i)[0])
        columns = [_Pooled.of(x[:, j], y[:, j], None, None).ks_p_value(0, 0)[0] for j in range(d)]
        p["KS on each column, Holm"] = float(adjust_pvalues(columns).min())
        if alternative == "mean shift":
            # The same test by a slower road: once is enough.
            peer = stats.ks_2samp(x, y, method="asymp").pvalue
            p["scipy: KS on each column, Holm"] = float(adjust_pvalues(peer).min())
        if i % 2 == 0:
            # It takes as long as all others together.
            mean, sd = subset_kid(x, y, n // 2)
            p["torch-fidelity: KID − 1.645 std > 0"] = float(mean <= z_95 * sd)
            p["torch-fidelity: KID − 1.645 std/√100 > 0"] = float(mean <= z_95 * sd / 10)
        if alternative == "copied samples":
            copies = copy_tests(x, holdout, y, permutations=99, seed=i)
            p |= {f"copy: {k}": getattr(copies, k).p_value for k in COPY_CHECKS}
            p["copy: any (Holm)"] = min(copies.p_adjusted.values())
        for name, value in p.items():
            found[name].append(value <= ALPHA + 1e-12)
    return [
        Row("power", name, "none", alternative, n, n, d, strength, 99, len(v), sum(v))
        for name, v in found.items()
    ]


# The plan ---------------------------------------------------------------------------------------


def cells() -> Iterator[Cell]:
    """All of the study, the most telling first."""
    kinds = ("gaussian", "heavy", "tied", "copies", "grouped")
    everything = (*kinds, "grouped, withheld")
    plans = {
        (100, 100): Plan(100, 10, 99),
        (100, 1000): Plan(40, 25, FEW),
        (1000, 1000): Plan(20, 50, FEW),
    }

    def null(
        sizes: Iterable[tuple[int, int]], dims: Sequence[int], names: Sequence[str]
    ) -> Iterator[Cell]:
        for n, m in sizes:
            for d in dims:
                for data in names:
                    run = partial(null_cell, data, n, m, d, plans[n, m])
                    yield Cell(f"null {n}:{m} d={d} {data}", run)

    def column(n: int, m: int) -> Iterator[Cell]:
        for data in everything:
            yield Cell(f"column {n}:{m} {data}", partial(column_cell, data, n, m, 1000))

    def coverage(n: int, parts: dict[str, int], names: Sequence[str]) -> Iterator[Cell]:
        for part, repetitions in parts.items():
            for data in names:
                for d in (8, 64):
                    # The extrapolation needs more than 2 d + 3 rows.
                    if part == "frechet" and n <= 2 * d + 3:
                        continue
                    for gap in (0.0, 1.0):
                        run = partial(feature_cell, part, data, n, d, gap, repetitions)
                        yield Cell(f"coverage {part} n={n} d={d} {data} gap={gap}", run)

    def resampled() -> Iterator[Cell]:
        for data in ("gaussian", "heavy"):
            for d in (8, 64):
                for gap in (0.0, 1.0):
                    run = partial(resampled_cell, data, d, gap, 200)
                    yield Cell(f"coverage resampled d={d} {data} gap={gap}", run)

    def utility() -> Iterator[Cell]:
        for d in (8, 64):
            for gap in (0.0, 1.0):
                run = partial(utility_cell, "gaussian", d, gap, 500)
                yield Cell(f"coverage utility d={d} gaussian gap={gap}", run)

    def columns_covered(n: int) -> Iterator[Cell]:
        for data in ("gaussian", "heavy"):
            for gap in (0.0, 0.5):
                run = partial(column_coverage_cell, data, n, gap, 500)
                yield Cell(f"coverage columns n={n} {data} gap={gap}", run)

    def copies(
        n: int, dims: Sequence[int], shares: Sequence[float], repetitions: int
    ) -> Iterator[Cell]:
        for d in dims:
            for data in ("gaussian", "heavy"):
                for share in shares:
                    run = partial(copy_cell, data, n, d, share, repetitions)
                    yield Cell(f"copies n={n} d={d} {data} share={share}", run)

    def power(place: int) -> Iterator[Cell]:
        for alternative, strengths in STRENGTHS.items():
            strength = strengths[place]
            run = partial(power_cell, alternative, strength, 200)
            yield Cell(f"power {alternative} {strength}", run)

    small, uneven, large = (100, 100), (100, 1000), (1000, 1000)
    yield from column(*small)
    yield from null([small], (8, 64, 512, 1280), kinds)
    yield from null([small], (64,), ("grouped, withheld",))
    both = ("gaussian", "heavy")
    yield from coverage(100, dict.fromkeys(("kernel", "manifold", "c2st", "frechet"), 500), both)
    yield from columns_covered(100)
    yield from power(2)
    yield from null([uneven, large], (8,), ("gaussian",))
    for place in (3, 1, 4, 0):
        yield from power(place)
    yield from null([uneven, large], (64,), ("gaussian",))
    yield from copies(100, (8, 64), (0.0,), 1000)
    yield from resampled()
    yield from columns_covered(1000)
    yield from utility()
    yield from coverage(1000, {"kernel": 500, "c2st": 500}, ("gaussian",))
    yield from null([uneven, large], (8, 64), ("grouped", "tied"))
    yield from null([uneven, large], (512, 1280), ("gaussian",))
    yield from coverage(1000, {"frechet": 500, "manifold": 200}, ("gaussian",))
    yield from copies(100, (8, 64), (0.2,), 500)
    yield from coverage(
        1000, {"kernel": 500, "c2st": 500, "frechet": 500, "manifold": 200}, ("heavy",)
    )
    yield from column(*uneven)
    yield from column(*large)
    yield from null([uneven, large], (8, 64), ("heavy", "copies"))
    yield from null([uneven, large], (512, 1280), ("grouped", "tied", "heavy", "copies"))


def run(
    plan: Iterable[Cell],
    done: dict[str, list[Row]],
    report: Callable[[dict[str, list[Row]]], None],
) -> None:
    """Run what is not done, and report after each cell."""
    for cell in plan:
        if cell.name in done:
            continue
        begun = time.process_time()
        done[cell.name] = cell.run(cell.seed)
        print(f"{cell.name}: {time.process_time() - begun:.1f} s of CPU", flush=True)
        report(done)
    report(done)


# Report -----------------------------------------------------------------------------------------


def table_of(done: dict[str, list[Row]]) -> str:
    """Cells as CSV, a line a row, with its share, band and whether it lies inside."""
    buffer = io.StringIO()
    names = [f.name for f in fields(Row)]
    out = csv.writer(buffer, lineterminator="\n")
    out.writerow(["cell", *names, "share", "band99_low", "band99_high", "inside"])
    for cell, rows in done.items():
        for r in rows:
            low, high = r.band()
            values = (getattr(r, name) for name in names)
            shown = (f"{v:.4f}" for v in (r.share, low, high))
            out.writerow([cell, *values, *shown, r.inside()])
    return buffer.getvalue()


def cells_in(text: str) -> dict[str, list[Row]]:
    """Read back what :func:`table_of` wrote."""
    kinds = {f.name: {"int": int, "float": float}.get(str(f.type), str) for f in fields(Row)}
    done: dict[str, list[Row]] = defaultdict(list)
    for line in csv.DictReader(io.StringIO(text)):
        done[line["cell"]].append(Row(**{k: kind(line[k]) for k, kind in kinds.items()}))
    return dict(done)


def family(rows: Sequence[Row]) -> tuple[int, int, int, list[Row], list[Row]]:
    """Judge all cells of tests that promise a level: how many, how many may lie outside their 99 %
    band (with probability 0.999, were they independent), how many do, these, and those outside the
    band that holds all of them at once with probability 0.99."""
    bound = [r for r in rows if r.study == "null" and r.claim in {"exact", "at most"}]
    outside = [r for r in bound if not r.inside()]
    allowed = int(stats.binom.ppf(0.999, len(bound), 0.01)) if bound else 0
    far = [r for r in bound if not r.inside(0.01 / len(bound))]
    return len(bound), allowed, len(outside), outside, far


def _rate(r: Row) -> str:
    # A test that promises no level is marked too: that is what the table is for.
    low, high = r.band()
    beyond = r.share > high or (r.claim != "at most" and r.share < low)
    mark = " ▲" if beyond and r.share > high else " ▼" if beyond else ""
    return f"{100 * r.share:.1f}{mark}"


def _held_rate(r: Row) -> str:
    low, high = r.band()
    mark = " ▼" if r.share < low else " ▲" if r.share > high else ""
    return f"{100 * r.share:.1f}{mark}"


def _named(r: Row) -> str:
    where = f"{r.n_real}:{r.n_synthetic}, d = {r.dim}"
    gap = f", gap {r.gap:g}" if r.gap else ""
    return f"- {r.test}, {r.data}, {where}{gap}: {100 * r.share:.1f} % of {r.repetitions}"


def _repetitions(rows: Iterable[Row]) -> str:
    counts = sorted({r.repetitions for r in rows})
    return "–".join(str(c) for c in ([counts[0], counts[-1]] if len(counts) > 1 else counts))


def _grid(
    rows: Sequence[Row],
    side: Callable[[Row], tuple[str, ...]],
    top: Callable[[Row], str],
    names: Sequence[str],
    show: Callable[[Row], str],
) -> list[str]:
    columns = list(dict.fromkeys(top(r) for r in rows))
    lines: dict[tuple[str, ...], dict[str, Row]] = defaultdict(dict)
    for r in rows:
        lines[side(r)][top(r)] = r
    return [
        "| " + " | ".join([*names, *columns, "repetitions"]) + " |",
        "|" + "---|" * (len(names) + len(columns) + 1),
        *(
            "| "
            + " | ".join(
                [
                    *key,
                    *(show(found[c]) if c in found else "" for c in columns),
                    _repetitions(found.values()),
                ]
            )
            + " |"
            for key, found in lines.items()
        ),
    ]


PREFACE = """# Calibration: levels, coverage and power by simulation

What each number means: in the null study nothing differs between the two sets, and the share of
repetitions that reject at 5 % is given in per cent. In the coverage study the truth is known, and
the share of 95 % intervals that hold it is given. ▲ and ▼ mark shares above and below the 99 %
binomial band around the nominal rate for the repetitions that were made (1,000: 3.3 to 6.9 % and
93.1 to 96.7 %).

Data: *gaussian*; *heavy* (independent t with 3 degrees of freedom); *tied* (normal, rounded to
whole numbers); *copies* (every row three times, dealt to the sides at random); *grouped* (every
row three times on one side, groups given; sizes rounded down to multiples of 3); *grouped,
withheld* (the same, and the groups are not told: then no test can hold, and this is what it costs).

Claims: *exact*: the rate is 5 %, so both ends of the band hold. *At most*: valid, but the
statistic takes few values or ties count against rejecting, so only the upper end holds.
*Asymptotic*: a law for large n; no promise here.
"""


def summary(rows: Sequence[Row], planned: int, cells_done: int) -> str:
    lines = [PREFACE]
    if cells_done < planned:
        lines += [
            f"**Not complete:** {cells_done} of {planned} planned cells are done. What is missing "
            "is missing here too: no figure is from a cell that was cut short.",
            "",
        ]
    bound, allowed, count, outside, far = family(rows)
    if bound:
        lines += [
            "## The promise as a whole",
            "",
            f"{bound} cells of exact or valid tests. One in a hundred may lie outside its 99 % "
            f"band by chance: up to {allowed} of {bound} with probability 0.999 (tests in one cell "
            "share their data, so they go astray together a little more often). "
            f"Outside: **{count}**. Outside the band that holds all of them at once with "
            f"probability 0.99: **{len(far)}**.",
            "",
        ]
        lines += [*map(_named, outside), ""] if outside else []
    astray = [r for r in rows if r.claim == "asymptotic" and r.share > r.band()[1]]
    if astray:
        lines += ["## Laws for large n that reject too often here", "", *map(_named, astray), ""]
    null = [r for r in rows if r.study == "null"]
    for title, part in (
        ("feature tests", [r for r in null if r.dim > 1 and not r.test.startswith("copy")]),
        ("copy checks (training = holdout = synthetic distribution)",
         [r for r in null if r.test.startswith("copy")]),
    ):  # fmt: skip
        if part:
            lines += [f"## Rejection rates under the null: {title}", ""]
            lines += _grid(
                part,
                lambda r: (f"{_size(r)}", r.data, r.test, r.claim, str(r.permutations)),
                lambda r: f"d = {r.dim}",
                ("real:synthetic", "data", "test", "claim", "permutations"),
                _rate,
            )
            lines += [""]
    part = [r for r in null if r.dim == 1]
    if part:
        lines += ["## Rejection rates under the null: tests of one column", ""]
        lines += _grid(
            part, lambda r: (r.data, r.test, r.claim), _size, ("data", "test", "claim"), _rate
        )
        lines += [""]
    part = [r for r in rows if r.study == "coverage"]
    if part:
        short = [r for r in part if not r.inside()]
        lines += [
            "## Coverage of the 95 % intervals",
            "",
            f"{len(part)} cells; in {len(part) - len(short)} the truth is held as often as "
            "promised or more often, in the others less often than the 99 % band allows:",
            "",
            *map(_named, short),
            "",
            "The gap is in standard deviations of one column (spread evenly over the columns), for "
            "copy checks the share of synthetic rows that are copies. Truth: closed form for "
            "kernels (fixed bandwidth; the energy distance of heavy-tailed data by 1,000,000 "
            "simulated pairs), Fréchet, transport, Wasserstein, mean shift, KS, total variation, "
            "PSI and JS (over the real law's deciles); 20,000 test rows for utility, given its "
            "training sets; 0.5 for AUC and DCR share without copies; for MAUVE its "
            "own codebook on 10,000 rows a side; for metrics whose interval speaks of their "
            "expectation at these sizes (precision, recall, density, coverage, C2ST, Vendi, "
            "effective hits, AUC and share with copies; C_T and NNDR given the training rows, FLD "
            "given the synthetic rows too) the mean over the repetitions. The polynomial kernel "
            "has no truth on heavy-tailed data, whose cubes have no mean; the Fréchet interval "
            "needs more than 2 d + 3 rows.",
            "",
            *_grid(
                part,
                lambda r: (r.test, r.data, f"{r.gap:g}"),
                lambda r: f"{_size(r)}, d = {r.dim}",
                ("interval", "data", "gap"),
                _held_rate,
            ),
            "",
        ]
    part = sorted((r for r in rows if r.study == "power"), key=lambda r: r.gap)
    if part:
        lines += [
            "## Power at 200:200, d = 64",
            "",
            "Share of repetitions that reject at 5 %, in per cent; column 0 is the false-alarm "
            "rate. Kernels, manifold and C2ST with 99 permutations, Fréchet with 19. Peers: "
            "scipy's KS test on each column with Holm's adjustment (its asymptotic law); "
            "torch-fidelity's KID, whose *std* over 100 subsets of 100 rows is here used as if it "
            "were an error bar, and as if std/√100 were one, to show what either does. prdc gives "
            "no test. alibi-detect is under the BSL and was not installed.",
            "",
        ]
        for alternative in (a for a in STRENGTHS if any(r.data == a for r in part)):
            lines += [f"### {alternative.capitalize()}", "", UNITS[alternative] + ".", ""]
            lines += _grid(
                [r for r in part if r.data == alternative],
                lambda r: (r.test,),
                lambda r: f"{r.gap:g}",
                ("test",),
                lambda r: f"{100 * r.share:.0f}",
            )
            lines += [""]
        lines += ["![Power curves](power.svg)", ""]
    lines += [f"Made by `python -m benchmarks calibration` on {machine()}.", ""]
    return "\n".join(lines)


def _size(r: Row) -> str:
    # Grouped cells have 99 and 999 rows; they stand in one column with the others.
    return ":".join(str(-(-n // 100) * 100) for n in (r.n_real, r.n_synthetic))


SHOWN = ("MMD energy", "MMD max-T", "Fréchet", "C2ST", "coverage", "copy: membership")
COLOURS = ("#1b6ca8", "#444444", "#c1440e", "#2a8c55", "#8a4fa3", "#b8860b")


def power_svg(rows: Sequence[Row]) -> str:
    """Power curves, one panel for each alternative."""
    width, height, left, top = 230, 170, 34, 26
    parts = []
    for k, alternative in enumerate(dict.fromkeys(r.data for r in rows)):
        x0, y0 = left + k * (width + 30), top
        own = [r for r in rows if r.data == alternative]
        longest = max(r.gap for r in own) or 1.0
        parts.append(f'<text x="{x0}" y="{y0 - 10}" font-weight="bold">{alternative}</text>')
        parts.append(
            f'<path d="M{x0} {y0}V{y0 + height}H{x0 + width}" fill="none" stroke="#999"/>'
            f'<path d="M{x0} {y0 + 0.95 * height:.0f}H{x0 + width}" stroke="#ccc" '
            'stroke-dasharray="3 3"/>'
            f'<text x="{x0 - 4}" y="{y0 + 4}" text-anchor="end">1</text>'
            f'<text x="{x0 - 4}" y="{y0 + height}" text-anchor="end">0</text>'
            f'<text x="{x0 + width}" y="{y0 + height + 14}" text-anchor="end">{longest:g}</text>'
        )
        for test, colour in zip(SHOWN, COLOURS, strict=True):
            curve = sorted((r.gap, r.share) for r in own if r.test == test)
            if curve:
                points = " ".join(
                    f"{x0 + width * gap / longest:.1f},{y0 + height * (1 - share):.1f}"
                    for gap, share in curve
                )
                parts.append(
                    f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
                )
    for k, (test, colour) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        x = left + 130 * k
        parts.append(
            f'<rect x="{x}" y="{top + height + 26}" width="12" height="4" fill="{colour}"/>'
        )
        parts.append(f'<text x="{x + 17}" y="{top + height + 32}">{test}</text>')
    panels = len(dict.fromkeys(r.data for r in rows))
    size = f"{left + max(panels * (width + 30), 800)} {top + height + 44}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        'font-family="sans-serif" font-size="11">'
        '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


def publish(done: dict[str, list[Row]]) -> None:
    """Write results/calibration/ from the finished cells, in the order of the plan."""
    plan = [cell.name for cell in cells()]
    kept = {name: done[name] for name in plan if name in done}
    rows = [r for cell in kept.values() for r in cell]
    write("calibration/calibration.csv", table_of(kept))
    write("calibration/README.md", summary(rows, len(plan), len(kept)))
    power = [r for r in rows if r.study == "power"]
    if power:
        write("calibration/power.svg", power_svg(power))


def main() -> None:
    torch.set_num_threads(1)
    published = RESULTS / "calibration" / "calibration.csv"
    done = cells_in(published.read_text(encoding="utf-8")) if published.exists() else {}
    run(cells(), done, publish)
