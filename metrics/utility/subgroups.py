"""Subgroups: whether each is there in its real share, and whether it looks as it should.

A wrong share (label shift) and wrong content within a group (conditional shift) call for different
repairs, so they are measured apart: shares from labels alone, gaps from features of one group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, groups_of, pair
from .._result import Interval, Scalar
from ..distribution.copying import newcombe_interval
from ..distribution.kernel import kernel_distances, kernel_splits
from ..drift.categorical import _Cells
from ..drift.multiplicity import adjust_pvalues
from ..inference import (
    Groups,
    effective_rows,
    max_t,
    p_value,
    permutation_masks,
    pool_groups,
    split_masks,
)

Labels: TypeAlias = "Sequence[object] | np.ndarray"

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

_SOURCES = 4
"""Sources that a subgroup needs on each side: halves of two are the smallest with a spread."""


@dataclass(frozen=True, slots=True)
class Share:
    """One subgroup's share of each side.

    Attributes
    ----------
    label : str
        The subgroup.
    real, synthetic : float
        Shares, 0 to 1.
    n_real, n_synthetic : int
        Counts.
    difference : Interval
        For ``synthetic - real`` (Newcombe's hybrid score).
    ratio : float or None
        ``synthetic / real``; None where the real data has none.
    ratio_interval : Interval or None
        For ``ratio`` (Katz's logarithm); None where either count is 0.
    p_adjusted : float
        That the shares are equal, over all subgroups: Fisher's exact test and Holm, or with groups
        max-T over the permutations.
    """

    label: str
    real: float
    synthetic: float
    n_real: int
    n_synthetic: int
    difference: Interval
    ratio: float | None
    ratio_interval: Interval | None
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class Shares(Scalar):
    """How the two sides are made up of subgroups.

    Attributes
    ----------
    value : float
        Total variation distance of the shares, 0 to 1: the part of the synthetic data that would
        have to change its label. Best 0; above 0 by chance alone, see ``floor``.
    interval : Interval
        For ``value``; holds at 0 too.
    floor, floor_q95 : float
        Mean and 95th percentile of the distance when labels are dealt out at random.
    p_value : float
        That all shares are equal: permutation test of the chi² statistic, exact for any counts.
    groups : tuple of Share
        Each subgroup, the most under-represented first.
    """

    interval: Interval
    floor: float
    floor_q95: float
    p_value: float
    groups: tuple[Share, ...]


@dataclass(frozen=True, slots=True)
class KernelGap(Scalar):
    """A kernel distance within one subgroup.

    Attributes
    ----------
    value : float
        Unbiased squared distance on all of the subgroup's rows; about 0 where the sides are alike.
    interval : Interval
        For ``value``.
    relative : float or None
        ``value`` over the real subgroup's own variance under the kernel: free of n and unit, so
        that subgroups can be compared. None where the real rows are all equal.
    matched : float
        Mean over random draws of the floor's size.
    floor, floor_q95 : float
        Mean and 95th percentile between disjoint halves of the *same subgroup's* real rows.
    ratio : float or None
        ``matched / floor_q95``; over 1 is more than chance gives. None where the floor is not over
        0.
    """

    interval: Interval
    relative: float | None
    matched: float
    floor: float
    floor_q95: float
    ratio: float | None


@dataclass(frozen=True, slots=True)
class SubgroupGap:
    """How far one subgroup's synthetic rows are from its real ones.

    Attributes
    ----------
    label : str
        The subgroup.
    n_real, n_synthetic : int
        Rows.
    size : int
        Rows on each side of a floor split.
    kernels : dict of str to KernelGap
        By kernel.
    p_value : float
        Permutation test within the subgroup, max-T over the kernels.
    p_adjusted : float
        Holm over the subgroups.
    """

    label: str
    n_real: int
    n_synthetic: int
    size: int
    kernels: dict[str, KernelGap]
    p_value: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class SubgroupReport:
    """What :func:`subgroup_tests` found.

    Attributes
    ----------
    shares : Shares
        The make-up.
    gaps : tuple of SubgroupGap
        Subgroups that are large enough, the widest relative gap (of the first kernel) first.
    left_out : dict of str to str
        Subgroups without a gap, and why: nothing is known about their content.
    min_n : int
        Rows that a subgroup needed on each side.
    """

    shares: Shares
    gaps: tuple[SubgroupGap, ...]
    left_out: dict[str, str]
    min_n: int

    @property
    def worst(self) -> SubgroupGap | None:
        """The subgroup with the widest gap; None where none was large enough."""
        return self.gaps[0] if self.gaps else None


def subgroup_tests(
    real: Array,
    synthetic: Array,
    labels_real: Labels,
    labels_synthetic: Labels,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    kernels: Sequence[str] = ("polynomial", "energy"),
    min_n: int = 50,
    splits: int = 50,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> SubgroupReport:
    """Compare the shares of subgroups and the distance within each.

    Parameters
    ----------
    real, synthetic : array, shape (n, d) and (m, d)
        Features.
    labels_real, labels_synthetic : sequence of length n and m
        Subgroup of each row: a class, an attribute, or for intersections a tuple of them.
    groups_real, groups_synthetic : sequence, optional
        Source of each row (speaker, scene, document). Splits and permutations move sources whole,
        and the intervals of shares count rows of one source as one.
    kernels : sequence of str
        As in :func:`evalsuite.metrics.distribution.kernel.kernel_distance`.
    min_n : int
        Rows that a subgroup needs on each side to have its gap measured, at least 8.
    splits : int
        Random real-vs-real splits of each subgroup's floor.
    permutations : int
        Relabellings for the p-values.
    level : float
        Nominal coverage of the intervals.
    seed : int
        Of splits and permutations.

    Returns
    -------
    SubgroupReport
        Shares, gaps with a floor for each subgroup, and those that were too small.

    Raises
    ------
    TypeError, ValueError
        If an input is empty, not numeric, not finite or of another length or dimension.

    Notes
    -----
    A small subgroup has a wide floor: compare ``ratio`` and ``relative``, never ``value``, between
    subgroups. Labels predicted by a model carry its errors into both parts: report its confusion
    on labelled real data beside them. Nothing is seen within a subgroup that no label names.

    References
    ----------
    Newcombe 1998, Interval estimation for the difference between independent proportions. Katz et
    al. 1978, Obtaining confidence intervals for the risk ratio in cohort studies. Bińkowski et al.
    2018, Demystifying MMD GANs (polynomial kernel). Székely & Rizzo 2013, Energy statistics.
    """
    if min_n < 8:
        raise ValueError(f"min_n must be at least 8 (halves of 4 are the smallest), got {min_n}")
    if splits < 1 or permutations < 1:
        raise ValueError(
            f"splits and permutations must be at least 1, got {splits} and {permutations}"
        )
    x, y = pair(real, synthetic, dtype=None)
    n, m = len(x), len(y)
    left, right = (
        _names(labels_real, n, "labels_real"),
        _names(labels_synthetic, m, "labels_synthetic"),
    )
    sources = (
        groups_of(groups_real, n, "groups_real"),
        groups_of(groups_synthetic, m, "groups_synthetic"),
    )
    labels, code = np.unique(np.concatenate([left, right]), return_inverse=True)
    pooled = pool_groups(groups_real, groups_synthetic, n, m)
    shares = _shares(
        labels.tolist(),
        code,
        n,
        pooled=pooled,
        sources=sources,
        permutations=permutations,
        level=level,
        seed=seed,
    )
    gaps: list[SubgroupGap] = []
    left_out: dict[str, str] = {}
    for c, label in enumerate(labels.tolist()):
        i, j = np.flatnonzero(code[:n] == c), np.flatnonzero(code[n:] == c)
        if min(len(i), len(j)) < min_n:
            left_out[label] = f"{len(i)} real and {len(j)} synthetic rows; at least {min_n} needed"
            continue
        # One code for both sides, so that a source on both of them stays one.
        own_real = None if pooled is None or groups_real is None else pooled[i]
        own_synthetic = None if pooled is None or groups_synthetic is None else pooled[n + j]
        few = min(
            len(rows if own is None else np.unique(own))
            for rows, own in ((i, own_real), (j, own_synthetic))
        )
        if few < _SOURCES:
            left_out[label] = f"rows of only {few} sources on a side; at least {_SOURCES} needed"
            continue
        try:
            gaps.append(
                _gap(
                    label,
                    x[torch.from_numpy(i).to(x.device)],
                    y[torch.from_numpy(j).to(y.device)],
                    own=(own_real, own_synthetic),
                    kernels=kernels,
                    splits=splits,
                    permutations=permutations,
                    level=level,
                    seed=seed,
                )
            )
        except _UnsplittableError as error:
            left_out[label] = str(error)
    if gaps:
        adjusted = adjust_pvalues([g.p_value for g in gaps], "holm").tolist()
        gaps = [replace(g, p_adjusted=p) for g, p in zip(gaps, adjusted, strict=True)]
    return SubgroupReport(
        shares=shares,
        gaps=tuple(sorted(gaps, key=lambda g: (-_width(g.kernels[kernels[0]]), g.label))),
        left_out=left_out,
        min_n=min_n,
    )


class _UnsplittableError(Exception):
    """A subgroup whose sources are too large to be split."""


def _names(labels: Labels, n: int, name: str) -> npt.NDArray[np.str_]:
    values = [" × ".join(map(str, v)) if isinstance(v, tuple) else str(v) for v in labels]
    if len(values) != n:
        raise ValueError(f"{name} must name a subgroup for each of {n} rows, got {len(values)}")
    return np.array(values)


def _width(gap: KernelGap) -> float:
    """Give what subgroups are ordered by; a gap to rows that are all equal is beyond measure."""
    if gap.relative is None:
        return np.inf if gap.value > 0 else 0.0
    return gap.relative


def _shares(
    labels: list[str],
    code: _Ints,
    n: int,
    *,
    pooled: _Ints | None,
    sources: tuple[np.ndarray | None, np.ndarray | None],
    permutations: int,
    level: float,
    seed: int,
) -> Shares:
    from scipy.stats import fisher_exact, norm

    k, m = len(labels), len(code) - n
    _, second = permutation_masks(n, m, permutations, groups=pooled, seed=seed)
    # One column for the data, then one for each relabelling.
    side = np.column_stack([np.arange(n + m) >= n, second])
    total = np.bincount(code, minlength=k).astype(np.float64)[:, None]
    ours = np.stack([side[code == c].sum(axis=0) for c in range(k)]).astype(np.float64)
    theirs = total - ours
    m_each = side.sum(axis=0)
    gap = ours / m_each - theirs / (n + m - m_each)
    scale = 1 / m_each + 1 / (n + m - m_each)
    share = total / (n + m)
    chi = (gap**2 / share).sum(axis=0) / scale
    distance = np.abs(gap).sum(axis=0) / 2
    a, b = theirs[:, 0].astype(int), ours[:, 0].astype(int)
    if pooled is None:
        p = adjust_pvalues(
            [
                float(fisher_exact([[u, n - u], [v, m - v]]).pvalue)
                for u, v in zip(a, b, strict=True)
            ],
            "holm",
        )
    else:
        error = np.sqrt(share * (1 - share) * scale)
        z = np.divide(gap, error, out=np.zeros_like(gap), where=error > 0)
        p = max_t(z[:, 0], z[:, 1:], "both")
    quantile = float(norm.ppf((1 + level) / 2))
    n_eff, m_eff = effective_rows(sources[0], n), effective_rows(sources[1], m)
    found = []
    for c in range(k):
        q, r = float(a[c] / n), float(b[c] / m)
        ratio = r / q if q > 0 else None
        spread = None
        if ratio:
            half = quantile * float(np.sqrt((1 - r) / (r * m_eff) + (1 - q) / (q * n_eff)))
            spread = Interval(
                ratio * float(np.exp(-half)), ratio * float(np.exp(half)), level, "katz-log"
            )
        found.append(
            Share(
                label=labels[c],
                real=q,
                synthetic=r,
                n_real=int(a[c]),
                n_synthetic=int(b[c]),
                difference=newcombe_interval(r, m_eff, q, n_eff, level),
                ratio=ratio,
                ratio_interval=spread,
                p_adjusted=float(p[c]),
            )
        )
    cells = _Cells(code[:n], code[n:], tuple(labels), pooled)
    return Shares(
        value=float(distance[0]),
        interval=cells.interval(cells.tv(), level, seed),
        floor=float(distance[1:].mean()),
        floor_q95=float(np.quantile(distance[1:], 0.95)),
        p_value=p_value(float(chi[0]), chi[1:], "upper", tie=1e-9 * max(1.0, float(chi[0]))),
        groups=tuple(sorted(found, key=lambda s: (s.synthetic - s.real, s.label))),
    )


def _gap(
    label: str,
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    own: tuple[Groups, Groups],
    kernels: Sequence[str],
    splits: int,
    permutations: int,
    level: float,
    seed: int,
) -> SubgroupGap:
    n, m = len(x), len(y)
    size = min(n // 2, m)
    try:
        masks = split_masks(
            n, m, size, splits, groups_real=own[0], groups_synthetic=own[1], seed=seed
        )
    except ValueError as error:
        raise _UnsplittableError(str(error)) from error
    both = [np.column_stack(pair) for pair in zip(masks["floor"], masks["matched"], strict=True)]
    family = kernel_distances(
        x,
        y,
        kernels,
        permutations=permutations,
        groups_real=own[0],
        groups_synthetic=own[1],
        level=level,
        seed=seed,
    )
    values = kernel_splits(torch.cat([x, y]), both[0], both[1], kernels)
    table: dict[str, KernelGap] = {}
    for kernel, result in family.results.items():
        floor, matched = values[kernel][:splits], float(values[kernel][splits:].mean())
        q95 = float(np.quantile(floor, 0.95))
        table[kernel] = KernelGap(
            value=result.value,
            # With 8 rows a side there always is one.
            interval=cast("Interval", result.ci),
            relative=result.value / result.spread if result.spread > 0 else None,
            matched=matched,
            floor=float(floor.mean()),
            floor_q95=q95,
            ratio=matched / q95 if q95 > 0 else None,
        )
    p = family.p_value if family.p_value is not None else 1.0
    return SubgroupGap(label, n, m, size, table, p, p)
