"""What a gap is worth: floor, interval and p-value for every metric on one pair of feature sets.

All metrics look at the same random subsets, as columns of boolean masks over the pooled rows:

- *floor*: two disjoint halves of the real data, again and again: what chance alone gives;
- *matched*: the same real halves against random halves of the synthetic data. Their mean is
  comparable with the floor, for size matters to most metrics, and their spread is the delete-half
  jackknife estimate of the standard error on all samples;
- *permutations* of the labels real and synthetic, groups whole: the null distribution.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..gate.findings import Finding, Floor, Interval, Null

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..gate.policy import Calibration
    from ..metrics.distribution.classifier import ClassifierResult
    from ..metrics.pair import PairMetric

Floats = npt.NDArray[np.float64]

SPLIT_SIZE_FRECHET = 300
"""A Fréchet distance costs size³, so its floor is taken on at most this many samples a side."""
SPLITS_FRECHET = 40
PERMUTED_COMPONENTS = 32
"""Permutations of the Fréchet distance look at this many leading pooled principal components."""
BLOCK_ROWS = 1000
"""Rows a side in a block of the polynomial kernel's distance, where there are too many for all."""
FEWEST_BLOCKS = 20
KEPT_FLOOR_VALUES = 100
KEPT_NULL_VALUES = 200
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Spec:
    """What the gate must know of a metric to calibrate it and to say it in words."""

    name: str
    unit: str
    higher_is_better: bool
    best: float
    gap_unit: str


SPECS: dict[str, Spec] = {
    s.name: s
    for s in (
        Spec("frechet_distance", "squared feature units", False, 0.0, "share of real variance"),
        Spec("kid", "", False, 0.0, "share of real variance"),
        Spec("mmd_rbf", "", False, 0.0, "share of real variance"),
        Spec("precision", "share", True, 1.0, "share lost beyond chance"),
        Spec("recall", "share", True, 1.0, "share lost beyond chance"),
        Spec("density", "", True, 1.0, "lost beyond chance"),
        Spec("coverage", "share", True, 1.0, "share lost beyond chance"),
        Spec("c2st", "2·AUC − 1", False, 0.0, "2·AUC − 1"),
    )
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Findings on one pair of sets, and what is known of single samples."""

    findings: tuple[Finding, ...]
    covered: npt.NDArray[np.bool_]
    on_manifold: npt.NDArray[np.bool_]
    scores_real: Floats
    scores_synthetic: Floats
    nearest_real: npt.NDArray[np.int64]
    """Of every synthetic sample: the row of its nearest real one."""
    nearest_distance: Floats
    nearest_percentile: Floats
    """Per cent of real samples that lie as near to another real one: 0 is nearer than any."""
    coordinates: Floats
    """Pooled rows in the plane of the two leading principal components, shape (N, 2)."""
    explained: tuple[float, float]

    def to_bytes(self) -> bytes:
        """All of it as an ``.npz`` without pickle."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "findings"}
        text = json.dumps([f.model_dump(mode="json") for f in self.findings])
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, findings=np.asarray(text), **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Measured:
        """Read what :meth:`to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {f.name: stored[f.name] for f in fields(cls) if f.name != "findings"}
            findings = tuple(Finding.model_validate(f) for f in json.loads(str(stored["findings"])))
        explained = arrays.pop("explained")
        return cls(
            findings=findings, explained=(float(explained[0]), float(explained[1])), **arrays
        )


@dataclass(frozen=True, slots=True)
class _Draws:
    """The values of one metric on all kinds of subsets, and on everything."""

    value: float
    floor: Floats
    matched: Floats
    permuted: Floats
    observed: float
    """The statistic that the permuted ones are compared with: ``value`` where all samples enter."""
    size: int
    n: int
    scale: float
    """What a difference of values is divided by to give the gap."""
    p_method: str
    unbiased: bool = False
    """Whether the metric's mean is 0 at no gap at any size, so that the value is its own gap."""
    same_statistic: bool = True
    """Whether the permuted statistic is the metric itself, not a cheaper stand-in."""
    approximation: dict[str, Any] | None = None
    """How ``value`` was approximated, with its ``error``; None where it is exact."""
    approximation_error: float = 0.0
    """Standard error that this adds to ``value``."""


def _standard_error(d: _Draws) -> float:
    """Delete-half jackknife, corrected where the gap is so small that its first order vanishes.

    Var of a half sample is ``4 z/n + 3 c/n²`` (z first-order, c second-order part), that of the
    full sample ``4 z/n + c/n²``; permutations have no first-order part and so give ``c/n²``.
    """
    from ..metrics.inference import delete_half_se

    variance = delete_half_se(d.matched, d.size, d.n) ** 2
    if d.same_statistic:
        null = float(np.var(d.permuted, ddof=1))
        variance = max(variance - 2 * null, null)
    return math.sqrt(variance)


def _finding(
    spec: Spec,
    d: _Draws,
    *,
    modality: str,
    n_real: int,
    n_synthetic: int,
    df: float,
    settings: Calibration,
) -> Finding:
    from scipy.special import ndtri, stdtrit

    from ..metrics.inference import p_value

    sign = -1.0 if spec.higher_is_better else 1.0
    matched = float(d.matched.mean())
    if d.unbiased:
        gap = sign * (d.value - spec.best) / d.scale
    else:
        gap = sign * (matched - float(d.floor.mean())) / d.scale
    se = math.hypot(_standard_error(d), d.approximation_error) / d.scale
    t = float(stdtrit(df, 0.5 + settings.confidence / 2))
    tie = 1e-12 * abs(d.observed)
    p = p_value(sign * d.observed, sign * d.permuted, "upper", tie=tie)
    q05, q95 = (float(q) for q in np.quantile(d.floor, [0.05, 0.95]))
    loss, loss_q95 = (
        (spec.best - matched, spec.best - q05) if spec.higher_is_better else (matched, q95)
    )
    return Finding(
        kind="distribution",
        modality=modality,
        metric=spec.name,
        value=d.value,
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        best=spec.best,
        n_real=n_real,
        n_synthetic=n_synthetic,
        floor=Floor(
            size=d.size,
            splits=d.floor.size,
            mean=float(d.floor.mean()),
            median=float(np.median(d.floor)),
            q05=q05,
            q95=q95,
            values=tuple(float(v) for v in d.floor[:KEPT_FLOOR_VALUES]),
        ),
        matched=matched,
        gap_ratio=loss / loss_q95 if loss_q95 > 0 else None,
        gap=gap,
        gap_ci=Interval(
            low=gap - t * se, high=gap + t * se, level=settings.confidence, method="delete-half"
        ),
        gap_unit=spec.gap_unit,
        min_detectable_gap=(t + float(ndtri(settings.power))) * se,
        p_value=p,
        p_method=d.p_method,
        null=null_of(d.observed, d.permuted),
        details={
            "standard_error": se,
            "matched_size": d.size,
            **({"approximation": d.approximation} if d.approximation else {}),
        },
    )


def null_of(observed: float, permuted: Floats) -> Null:
    """Keep what permutations gave, in order and thinned evenly where they are many."""
    ordered = np.sort(permuted[np.isfinite(permuted)])
    kept = min(ordered.size, KEPT_NULL_VALUES)
    rows = np.linspace(0, ordered.size - 1, kept).round().astype(np.int64)
    return Null(
        observed=observed,
        permutations=ordered.size,
        values=tuple(float(v) for v in ordered[rows]),
    )


def principal_components(z: Floats, k: int, seed: int) -> tuple[Floats, Floats, float]:
    """Leading principal components of the rows of ``z`` by subspace iteration.

    Returns the scores (N, k), the variance along each, and the variance in all.
    """
    centred = z - z.mean(axis=0)
    k = min(k, *centred.shape)
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(centred.T @ rng.standard_normal((len(z), min(k + 16, *z.shape))))[0]
    for _ in range(4):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    scores, values, rotation = np.linalg.svd(centred @ basis, full_matrices=False)
    # The sign of a component is arbitrary: the largest loading is made positive.
    loadings = rotation @ basis.T
    pivot = np.abs(loadings).argmax(axis=1)
    sign = np.sign(loadings[np.arange(len(loadings)), pivot])
    total = float((centred**2).sum() / max(len(z) - 1, 1))
    variance = values**2 / max(len(z) - 1, 1)
    return (scores * values * sign)[:, :k], variance[:k], total


def random_rows(
    n: int, limit: int, groups: npt.NDArray[np.int64] | None, seed: int
) -> npt.NDArray[Any]:
    """Rows that enter the pairwise statistics: all, or whole random groups up to ``limit``."""
    if n <= limit:
        return np.arange(n)
    rng = np.random.default_rng(seed)
    if groups is None:
        return np.sort(rng.permutation(n)[:limit])
    order = rng.permutation(int(groups.max()) + 1)
    rank = np.empty(order.size, dtype=np.int64)
    rank[order] = np.arange(order.size)
    counts = np.bincount(groups)[order].cumsum()
    kept = max(int(np.searchsorted(counts, limit, side="right")), 1)
    return np.flatnonzero(rank[groups] < kept)


def _classifier_finding(
    result: ClassifierResult, modality: str, n_real: int, n_synthetic: int, settings: Calibration
) -> Finding:
    from scipy.special import ndtri

    spec = SPECS["c2st"]
    planned = float(ndtri(0.5 + settings.confidence / 2) + ndtri(settings.power))
    return Finding(
        kind="distribution",
        modality=modality,
        metric=spec.name,
        value=result.effect,
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        best=spec.best,
        n_real=n_real,
        n_synthetic=n_synthetic,
        gap=result.effect,
        gap_ci=Interval.of(result.ci),
        gap_unit=spec.gap_unit,
        min_detectable_gap=planned * result.standard_error,
        p_value=result.p_value,
        p_method=result.p_method,
        null=null_of(result.effect, 2 * result.null - 1),
        details={"auc": result.auc, "standard_error": result.standard_error},
    )


def _approximate_kernel(
    real: npt.NDArray[np.float32],
    synthetic: npt.NDArray[np.float32],
    kernel: str,
    settings: Calibration,
    seed: int,
) -> tuple[float, dict[str, Any], float]:
    """Give a kernel distance in time linear in n: value, how, and the standard error it adds."""
    from scipy.special import stdtrit

    from ..metrics.distribution.kernel import kernel_distance
    from ..metrics.distribution.random_features import random_feature_distance

    level = settings.confidence
    if kernel == "rbf":
        r = random_feature_distance(real, synthetic, level=level, seed=seed)
        how = {
            "method": "random Fourier features",
            "frequencies": r.frequencies,
            "error": r.error,
            "error_bound": r.error_bound,
        }
        z = float(stdtrit(r.frequencies - 1, (1 + level) / 2))
        return r.value, {**how, "level": level, "of": "the exact distance"}, r.error / z
    smaller = min(len(real), len(synthetic))
    # Fewer blocks would say little of their own spread.
    block = max(2, min(BLOCK_ROWS, smaller // FEWEST_BLOCKS))
    b = kernel_distance(
        real, synthetic, kernel, estimator="block", block_size=block, level=level, seed=seed
    )
    se = math.sqrt(b.variance or 0.0)
    blocks = smaller // block
    error = se * float(stdtrit(blocks - 1, (1 + level) / 2))
    how = {"method": "mean of disjoint blocks", "block_rows": block, "blocks": blocks}
    # The mean of blocks and the exact value estimate the same; sampling is in this error too.
    return b.value, {**how, "error": error, "level": level, "of": "the population"}, se


def _approximate_share(manifold: Any, name: str) -> dict[str, Any]:
    """Say how a k-NN metric of a large set was taken, and how far off it may be."""
    ci = manifold.intervals[name]
    exact = name in {"density", "coverage"}
    return {
        "method": "uniform sample of centres",
        "centres": manifold.size,
        "error": max(ci.high - getattr(manifold, name), getattr(manifold, name) - ci.low),
        "level": ci.level,
        "of": "the exact metric" if exact else "the metric with this many balls",
    }


def spec_of(metric: PairMetric) -> Spec:
    """Give what the gate must know of a plugin's metric; its gap is in the metric's own unit."""
    info = metric.info
    unit = info.unit or info.name
    return Spec(info.name, info.unit, info.direction == "higher", float(info.best or 0.0), unit)


def drawn_by(
    metric: PairMetric, z: Floats, masks: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
) -> Floats:
    """Compute a plugin's metric on every pair of subsets, one after the other."""
    return np.array([metric(z[a], z[b]) for a, b in zip(*(m.T for m in masks), strict=True)])


def _nearest(
    synthetic: npt.NDArray[np.float32],
    real: npt.NDArray[np.float32],
    own: npt.NDArray[np.int64] | None = None,
    block: int = 2048,
) -> tuple[npt.NDArray[np.int64], Floats]:
    """Nearest real row of every synthetic one, and the distance to it.

    Where the first rows are real themselves, ``own`` says which: a row is no neighbour of itself.
    """
    import torch

    centre = real.mean(axis=0, dtype=np.float64).astype(np.float32)
    r = torch.from_numpy(real - centre)
    norms = (r**2).sum(dim=1)
    rows, distances = [], []
    for start in range(0, len(synthetic), block):
        s = torch.from_numpy(synthetic[start : start + block] - centre)
        table = torch.addmm(norms, s, r.T, alpha=-2)
        if own is not None:
            table[torch.arange(len(s)), torch.from_numpy(own[start : start + block])] = math.inf
        index = table.argmin(dim=1)
        rows.append(index.numpy())
        distances.append((s.double() - r[index].double()).norm(dim=1).numpy())
    return np.concatenate(rows), np.concatenate(distances)


def measure(
    real: npt.NDArray[np.float32],
    synthetic: npt.NDArray[np.float32],
    *,
    modality: str = "image",
    groups_real: Sequence[str] | None = None,
    groups_synthetic: Sequence[str] | None = None,
    settings: Calibration,
    seed: int = 0,
    metrics: Sequence[str] | None = None,
    extra: Sequence[PairMetric] = (),
    tick: Callable[[str], None] = lambda _: None,
) -> Measured:
    """Measure one pair of feature sets with everything that makes the numbers mean something.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features of one encoder.
    modality : str
        What the features are of; the findings say it.
    groups_real, groups_synthetic : sequence of str, optional
        The source of each sample: groups are split, resampled and permuted whole.
    settings : Calibration
        How many splits and permutations, at which confidence.
    seed : int
        Seed of every draw.
    metrics : sequence of str, optional
        Names out of :data:`SPECS`; all of them by default.
    extra : sequence of PairMetric
        Metrics of plugins, measured beside them.
    tick : callable
        Told the name of each step as it begins.

    Returns
    -------
    Measured

    Raises
    ------
    ValueError
        If there are too few samples or groups to split; the message says which.
    """
    import torch

    from ..metrics.distribution.classifier import classifier_two_sample_test
    from ..metrics.distribution.frechet import frechet_distance, frechet_splits, total_variance
    from ..metrics.distribution.kernel import kernel_distance, kernel_splits, kernel_spread
    from ..metrics.distribution.manifold import manifold_splits, precision_recall_density_coverage
    from ..metrics.distribution.sampled import sampled_manifold
    from ..metrics.inference import permutation_masks, split_masks

    wanted = list(SPECS) if metrics is None else list(metrics)
    n_real, n_synthetic = len(real), len(synthetic)
    large = max(n_real, n_synthetic) > settings.exact_up_to
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(8)]

    codes = [
        None if g is None else np.unique(np.asarray(g, dtype=str), return_inverse=True)[1]
        for g in (groups_real, groups_synthetic)
    ]
    rows = [
        random_rows(len(x), settings.max_samples, c, s)
        for x, c, s in zip((real, synthetic), codes, seeds, strict=False)
    ]
    a, b = real[rows[0]], synthetic[rows[1]]
    n, m = len(a), len(b)
    sub_groups = [
        None if g is None else [g[i] for i in r]
        for g, r in zip((groups_real, groups_synthetic), rows, strict=True)
    ]
    pooled_groups: list[str] | None = None
    if any(g is not None for g in sub_groups):
        left, right = sub_groups
        # A group named on both sides is one source: its parts are kept together.
        pooled_groups = [
            *(left if left is not None else [f"\0real {i}" for i in range(n)]),
            *(right if right is not None else [f"\0synthetic {i}" for i in range(m)]),
        ]
    units = min(
        len(set(g)) if g is not None else size for g, size in zip(sub_groups, (n, m), strict=True)
    )
    df = max(units - 1, 1)
    z = torch.from_numpy(np.concatenate([a, b]).astype(np.float64))
    size = min(n // 2, m // 2)

    tick("splits")
    splits = split_masks(
        n,
        m,
        size,
        settings.splits,
        groups_real=sub_groups[0],
        groups_synthetic=sub_groups[1],
        seed=seeds[2],
    )
    permuted = permutation_masks(n, m, settings.permutations, groups=pooled_groups, seed=seeds[3])
    fewer = slice(settings.costly_permutations)
    few = permuted[0][:, fewer], permuted[1][:, fewer]
    labels = np.zeros((n + m, 1), dtype=bool)
    labels[:n] = True
    kinds = {
        "observed": (labels, ~labels),
        "floor": splits["floor"],
        "matched": splits["matched"],
        "permuted": permuted,
    }
    first = np.concatenate([k[0] for k in kinds.values()], axis=1)
    second = np.concatenate([k[1] for k in kinds.values()], axis=1)
    edges = np.cumsum([k[0].shape[1] for k in kinds.values()])[:-1]

    def parts(values: Floats) -> tuple[float, Floats, Floats, Floats]:
        here, floor, matched, null = np.split(np.asarray(values, dtype=np.float64), edges)
        return float(here[0]), floor, matched, null

    found: dict[str, _Draws] = {}
    names = {"kid": "polynomial", "mmd_rbf": "rbf"}
    kernels = tuple(k for name, k in names.items() if name in wanted)
    if kernels:
        tick("kernels")
        drawn = kernel_splits(z, first, second, kernels)
        spread = kernel_spread(z[:n], kernels)
        everything = n == n_real and m == n_synthetic
        for name, kernel in names.items():
            if kernel not in kernels:
                continue
            here, floor, matched, null = parts(drawn[kernel])
            value, how, error = here, None, 0.0
            if large:
                value, how, error = _approximate_kernel(real, synthetic, kernel, settings, seeds[7])
            elif not everything:
                value = float(kernel_distance(real, synthetic, kernel))
            found[name] = _Draws(
                value=value,
                approximation=how,
                approximation_error=error,
                floor=floor,
                matched=matched,
                permuted=null,
                observed=here,
                size=size,
                n=min(n, m),
                scale=spread[kernel],
                p_method="label permutation",
                unbiased=True,
            )

    tick("manifold")
    # Its own intervals are left out: the floor and the matched draws below give them.
    manifold = (
        sampled_manifold(
            real,
            synthetic,
            k=NEIGHBOURS,
            size=settings.max_samples,
            level=settings.confidence,
            seed=seeds[7],
        )
        if large
        else precision_recall_density_coverage(real, synthetic, k=NEIGHBOURS, level=None)
    )
    shapes = {"precision", "recall", "density", "coverage"} & set(wanted)
    if shapes:
        drawn = manifold_splits(z, first, second, k=NEIGHBOURS)
        for name in sorted(shapes):
            here, floor, matched, null = parts(drawn[name])
            found[name] = _Draws(
                value=float(getattr(manifold, name)),
                approximation=_approximate_share(manifold, name) if large else None,
                floor=floor,
                matched=matched,
                permuted=null,
                observed=here,
                size=size,
                n=min(n, m),
                scale=1.0,
                p_method="label permutation",
            )

    tick("components")
    scores, variance, total = principal_components(z.numpy(), PERMUTED_COMPONENTS, seeds[4])

    if "frechet_distance" in wanted:
        tick("frechet")
        small = split_masks(
            n,
            m,
            min(size, SPLIT_SIZE_FRECHET),
            min(settings.splits, SPLITS_FRECHET),
            groups_real=sub_groups[0],
            groups_synthetic=sub_groups[1],
            seed=seeds[5],
        )
        projected = torch.from_numpy(np.ascontiguousarray(scores))
        null = frechet_splits(
            projected,
            np.concatenate([labels, few[0]], axis=1),
            np.concatenate([~labels, few[1]], axis=1),
        )
        found["frechet_distance"] = _Draws(
            value=float(frechet_distance(real, synthetic)),
            floor=frechet_splits(z, *small["floor"]),
            matched=frechet_splits(z, *small["matched"]),
            permuted=null[1:],
            observed=float(null[0]),
            size=min(size, SPLIT_SIZE_FRECHET),
            n=min(n, m),
            scale=total_variance(torch.from_numpy(a)),
            p_method=f"label permutation on {scores.shape[1]} principal components",
            same_statistic=False,
        )

    for metric in extra:
        tick(metric.info.name)
        pooled = z.numpy()
        found[metric.info.name] = _Draws(
            value=metric(real, synthetic),
            floor=drawn_by(metric, pooled, splits["floor"]),
            matched=drawn_by(metric, pooled, splits["matched"]),
            permuted=drawn_by(metric, pooled, few),
            observed=metric(a, b),
            size=size,
            n=min(n, m),
            scale=1.0,
            p_method="label permutation",
        )

    specs = SPECS | {metric.info.name: spec_of(metric) for metric in extra}
    findings = [
        _finding(
            specs[name],
            found[name],
            modality=modality,
            n_real=n_real,
            n_synthetic=n_synthetic,
            df=df,
            settings=settings,
        )
        for name in specs
        if name in found
    ]

    tick("classifier")
    classifier = classifier_two_sample_test(
        a,
        b,
        groups_real=sub_groups[0],
        groups_synthetic=sub_groups[1],
        permutations=min(settings.permutations, settings.costly_permutations),
        level=settings.confidence,
        seed=seeds[6],
    )
    if "c2st" in wanted:
        findings.append(_classifier_finding(classifier, modality, n_real, n_synthetic, settings))

    tick("neighbours")
    nearest, distance = _nearest(synthetic, real)
    usual = np.sort(_nearest(a, real, own=rows[0])[1])
    coordinates = np.full((n_real + n_synthetic, 2), np.nan)
    picked = np.concatenate([rows[0], n_real + rows[1]])
    coordinates[picked] = scores[:, :2] if scores.shape[1] > 1 else np.pad(scores, ((0, 0), (0, 1)))
    full_scores = [np.full(n_real, np.nan), np.full(n_synthetic, np.nan)]
    full_scores[0][rows[0]] = classifier.scores_real
    full_scores[1][rows[1]] = classifier.scores_synthetic
    share = variance / total if total > 0 else variance * 0
    return Measured(
        findings=tuple(findings),
        covered=np.asarray(manifold.covered, dtype=bool),
        on_manifold=np.asarray(manifold.on_manifold, dtype=bool),
        scores_real=full_scores[0],
        scores_synthetic=full_scores[1],
        nearest_real=nearest,
        nearest_distance=distance,
        nearest_percentile=100 * np.searchsorted(usual, distance, side="right") / usual.size,
        coordinates=coordinates,
        explained=(float(share[0]), float(share[1]) if share.size > 1 else 0.0),
    )
