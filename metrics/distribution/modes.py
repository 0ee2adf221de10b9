"""Mode collapse: whether synthetic data leaves parts of the real data out, or repeats itself.

All tests share one design. A random half of the real data is the *reference*: it sets up the bins,
the targets and the threshold. The other half, the *comparison*, is what real data of the same size
looks like against it. Synthetic and comparison rows are then exchanged for exact p-values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, pair
from .._result import Interval, Scalar
from ..drift.multiplicity import adjust_pvalues
from ..inference import (
    Groups,
    delete_half_se,
    max_t,
    p_value,
    permutation_masks,
    pool_groups,
    split_masks,
)
from .copying import distinct_rows, nearest_neighbours, newcombe_interval

if TYPE_CHECKING:
    from collections.abc import Iterator

_Floats: TypeAlias = npt.NDArray[np.float64]
_Bools: TypeAlias = npt.NDArray[np.bool_]
_Ints: TypeAlias = npt.NDArray[np.int64]

_MIN_N = 40
"""Fewer real rows give no two halves to compare."""
_LIST = 32
"""Real neighbours kept for each row, among which a split's nearest is looked up."""
_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the real data, with the share that each side has in it.

    Attributes
    ----------
    example : int
        The real row nearest to the bin's centre.
    real, synthetic : float
        Shares.
    difference : Interval or None
        For ``synthetic - real`` (Newcombe's hybrid score), with the bins held; None with groups.
    z : float
        Two-proportion statistic; negative where the synthetic data has too little.
    p_adjusted : float
        Over all bins.
    """

    example: int
    real: float
    synthetic: float
    difference: Interval | None
    z: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class DifferentBins(Scalar):
    """NDB: bins of the real data in which the two sides differ in share.

    Attributes
    ----------
    value : float
        NDB / K: share of bins that differ at ``alpha`` after adjusting, 0 to 1; best 0. A count of
        decisions, with no value in the populations to have an interval for: the bins have theirs.
    bins : int
        K: as many as asked for, or as there are distinct reference rows.
    different : tuple of Bin
        These bins, the most under-represented first.
    adjustment : str
        ``"holm"`` on two-proportion z-tests, or with groups ``"max-t"`` on permutations.
    p_value : float
        That all shares are equal: permutation test of the chi² statistic.
    """

    bins: int
    different: tuple[Bin, ...]
    adjustment: str
    p_value: float


@dataclass(frozen=True, slots=True)
class HitHistogram(Scalar):
    """How evenly the samples spread over the real rows that they are nearest to.

    Equal real rows count as one.

    Attributes
    ----------
    value : float
        Effective number of real rows that are hit (exp of the entropy) over their number, 0 to 1;
        as high as ``floor`` is best. Mean over the splits.
    interval : Interval
        For ``value`` on average at these sizes: lognormal, with the delete-half jackknife's error
        over the real rows (the splits) and the entropy's over the synthetic ones, by source where
        there are groups.
    floor : float
        The same for real samples.
    gini, gini_floor : float
        Gini coefficient of the hits: 0 all rows equally often, towards 1 all on one.
    never_hit, never_hit_floor : float
        Share of real rows that no sample is nearest to.
    p_value : float
        Permutation, one-sided: fewer effective rows than a real sample hits.
    """

    interval: Interval
    floor: float
    gini: float
    gini_floor: float
    never_hit: float
    never_hit_floor: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Birthday(Scalar):
    """Birthday test: how often two samples of one set are near duplicates of each other.

    Attributes
    ----------
    value : float
        Probability that two synthetic samples collide.
    interval : Interval
        For ``value``, with the threshold held.
    floor : float
        The same for real samples.
    threshold : float
        Distance at or under which two samples collide: a low quantile of the distances from a
        reference row to its nearest other one.
    support, support_floor : float or None
        1 / probability: of how many equally frequent things such a set would be made. None where
        no collision was seen, so that the support is too large to tell.
    p_value : float
        Permutation, one-sided: more collisions than among real samples.
    """

    interval: Interval
    floor: float
    threshold: float
    support: float | None
    support_floor: float | None
    p_value: float


@dataclass(frozen=True, slots=True)
class ModeReport:
    """What :func:`mode_tests` found.

    Attributes
    ----------
    ndb, hits, birthday
        The tests.
    p_adjusted : dict of str to float
        Holm-adjusted p-value of each, by attribute name.
    size : int
        Rows (about, with groups) in reference, comparison and each synthetic draw.
    n_real, n_synthetic : int
        Sizes of the input.
    """

    ndb: DifferentBins
    hits: HitHistogram
    birthday: Birthday
    p_adjusted: dict[str, float]
    size: int
    n_real: int
    n_synthetic: int


def mode_tests(
    real: Array,
    synthetic: Array,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    bins: int | None = None,
    near_quantile: float = 0.05,
    splits: int = 20,
    permutations: int = 999,
    alpha: float = 0.05,
    level: float = 0.95,
    seed: int = 0,
) -> ModeReport:
    """Look for modes of the real data that the synthetic data misses, overdoes or repeats.

    Parameters
    ----------
    real : array, shape (n_real, d)
        Features of the real data, at least 40 rows.
    synthetic : array, shape (n_synthetic, d)
        Features of the synthetic data, at least 20 rows.
    groups_real, groups_synthetic : sequence, optional
        Source of each row; groups are split and permuted whole. If only one is given, each row of
        the other side is a group of its own.
    bins : int, optional
        k-means bins for NDB; by default one for each 20 rows, 2 to 100.
    near_quantile : float
        Quantile of the reference's nearest-neighbour distances that makes a collision.
    splits : int
        Random splits that the hit histogram is averaged over, at least 2.
    permutations : int
        Relabellings for the p-values.
    alpha : float
        Level at which a bin counts as different.
    level : float
        Nominal coverage of the interval.
    seed : int
        Of splits, k-means and permutations.

    Returns
    -------
    ModeReport
        Each test with its floor from real data at the same size, and its p-value.

    Raises
    ------
    TypeError, ValueError
        If an input is not numeric, not finite, too small, or an option is out of range.

    Notes
    -----
    k-means is fitted on the reference half, and the real shares are counted on the comparison half:
    counted where it was fitted, a bin's share would be too large. NDB uses all synthetic rows, the
    hit histogram and the birthday test as many as there are comparison rows, since both depend on
    n. The tests cannot see what the encoder does not see, modes smaller than about one row in
    ``size``, or whether a mode that is there looks right.

    References
    ----------
    Richardson & Weiss 2018, On GANs and GMMs, NeurIPS (NDB). Arora, Risteski & Zhang 2018, Do GANs
    learn the distribution? Some theory and empirics, ICLR (birthday test). Hill 1973, Diversity and
    evenness (effective number).
    """
    x, y = pair(real, synthetic, dtype=None)
    n, m = len(x), len(y)
    if n < _MIN_N or m < _MIN_N // 2:
        raise ValueError(
            f"mode_tests needs at least {_MIN_N} real and {_MIN_N // 2} synthetic rows, got {n} "
            f"and {m}"
        )
    if not 0 < near_quantile < 1:
        raise ValueError(f"near_quantile must lie strictly between 0 and 1, got {near_quantile}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    if splits < 2:
        raise ValueError(f"splits must be at least 2, got {splits}")
    groups = pool_groups(groups_real, groups_synthetic, n, m)
    size = min(n // 2, m)
    masks = split_masks(
        n,
        m,
        size,
        splits,
        groups_real=groups_real,
        groups_synthetic=groups_synthetic,
        seed=seed,
    )
    reference, comparison = (side[:n] for side in masks["floor"])
    drawn = masks["matched"][1][n:]
    a, b, s = (np.flatnonzero(side[:, 0]) for side in (reference, comparison, drawn))

    def relabel(rows_real: _Ints, rows_synthetic: _Ints) -> _Bools:
        """Give which of the pooled rows play the synthetic part."""
        own = None if groups is None else groups[np.concatenate([rows_real, n + rows_synthetic])]
        return permutation_masks(
            len(rows_real), len(rows_synthetic), permutations, groups=own, seed=seed
        )[1]

    everyone = np.arange(m)
    ndb = _different_bins(
        x,
        y,
        halves=(a, b),
        second=relabel(b, everyone),
        bins=bins,
        grouped=groups is not None,
        alpha=alpha,
        level=level,
        seed=seed,
    )
    exchange = relabel(b, s)
    hits = _hit_histogram(
        x,
        y,
        reference,
        comparison,
        drawn,
        second=exchange,
        source=np.arange(m) if groups is None else groups[n:],
        level=level,
    )
    birthday = _birthday(
        _rows(x, a),
        _rows(x, b),
        _rows(y, s),
        second=exchange,
        near_quantile=near_quantile,
        level=level,
    )
    p = {"ndb": ndb.p_value, "hits": hits.p_value, "birthday": birthday.p_value}
    adjusted = adjust_pvalues(list(p.values()), "holm")
    return ModeReport(
        ndb=ndb,
        hits=hits,
        birthday=birthday,
        p_adjusted=dict(zip(p, adjusted.tolist(), strict=True)),
        size=size,
        n_real=n,
        n_synthetic=m,
    )


def _rows(x: torch.Tensor, index: _Ints) -> torch.Tensor:
    return x[torch.from_numpy(index).to(x.device)]


def _different_bins(
    x: torch.Tensor,
    y: torch.Tensor,
    *,
    halves: tuple[_Ints, _Ints],
    second: _Bools,
    bins: int | None,
    grouped: bool,
    alpha: float,
    level: float,
    seed: int,
) -> DifferentBins:
    from scipy.special import ndtr
    from sklearn.cluster import KMeans

    fit, count = halves
    k = min(100, max(2, len(fit) // 20)) if bins is None else bins
    if not 2 <= k <= len(fit):
        raise ValueError(f"bins must lie in 2..{len(fit)} (the reference rows), got {k}")
    k = min(k, len(distinct_rows(_rows(x, fit))[0]))
    rows = _rows(x, fit).double().cpu().numpy()
    model = KMeans(k, n_init=1, random_state=seed).fit(rows)
    cell = np.concatenate(
        [
            model.predict(_rows(x, count).double().cpu().numpy()),
            model.predict(y.double().cpu().numpy()),
        ]
    )
    total = np.bincount(cell, minlength=k).astype(np.float64)[:, None]
    # One column for the data, then one for each relabelling.
    side = np.column_stack([np.arange(len(cell)) >= len(count), second])
    m = side.sum(axis=0, dtype=np.float64)
    n = len(cell) - m
    ours = np.stack([side[cell == c].sum(axis=0) for c in range(k)]).astype(np.float64)
    theirs = total - ours
    pooled = total / len(cell)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    z = np.divide(ours / m - theirs / n, error, out=np.zeros_like(ours), where=error > 0)
    # chi² of the k × 2 table, up to a factor that is the same for each bin.
    chi = ((ours / m - theirs / n) ** 2 / np.where(pooled > 0, pooled, 1)).sum(axis=0)
    chi /= 1 / n + 1 / m
    if grouped:
        adjusted = max_t(z[:, 0], z[:, 1:], "both")
    else:
        adjusted = adjust_pvalues(2 * ndtr(-np.abs(z[:, 0])), "holm")
    near = model.transform(rows).argmin(axis=0)
    found = [
        Bin(
            example=int(fit[near[c]]),
            real=float(theirs[c, 0] / n[0]),
            synthetic=float(ours[c, 0] / m[0]),
            difference=None
            if grouped
            else newcombe_interval(ours[c, 0] / m[0], m[0], theirs[c, 0] / n[0], n[0], level),
            z=float(z[c, 0]),
            p_adjusted=float(adjusted[c]),
        )
        for c in np.argsort(z[:, 0], kind="stable")
        if adjusted[c] <= alpha
    ]
    return DifferentBins(
        value=len(found) / k,
        bins=k,
        different=tuple(found),
        adjustment="max-t" if grouped else "holm",
        p_value=p_value(float(chi[0]), chi[1:], "upper", tie=1e-9 * float(chi[0])),
    )


def _hit_histogram(
    x: torch.Tensor,
    y: torch.Tensor,
    reference: _Bools,
    comparison: _Bools,
    drawn: _Bools,
    *,
    second: _Bools,
    source: npt.NDArray[np.int_],
    level: float,
) -> HitHistogram:
    # Equal real rows are one target: which of them is "nearest" would be arbitrary.
    targets, own = distinct_rows(x)
    value_of = own.cpu().numpy()
    length = min(_LIST, len(targets))
    lists = {
        "real": nearest_neighbours(targets, targets, length)[1][value_of],
        "synthetic": nearest_neighbours(y, targets, length)[1],
    }
    table: dict[str, list[tuple[float, float, float]]] = {"real": [], "synthetic": []}
    null: _Floats = np.zeros(0)
    observed = 0.0
    for r in range(reference.shape[1]):
        a = np.zeros(len(targets), dtype=np.bool_)
        a[value_of[reference[:, r]]] = True
        nearest = {
            name: _nearest_in(a, lists[name], rows, targets, z)
            for name, rows, z in (
                ("real", np.flatnonzero(comparison[:, r]), x),
                ("synthetic", np.flatnonzero(drawn[:, r]), y),
            )
        }
        size = int(a.sum())
        place = np.cumsum(a) - 1
        for name, at in nearest.items():
            table[name].append(_evenness(np.bincount(place[at], minlength=size)))
        if r == 0:
            pooled = place[np.concatenate([nearest["real"], nearest["synthetic"]])]
            observed = table["synthetic"][0][0]
            hit = place[nearest["synthetic"]]
            surprise = -np.log(np.bincount(hit, minlength=size)[hit] / hit.size)
            part = (surprise - surprise.mean()) / hit.size
            by_source = np.bincount(source[np.flatnonzero(drawn[:, 0])], part)
            null = np.array(
                [_evenness(np.bincount(pooled[col], minlength=size))[0] for col in second.T]
            )
    floor, value = (np.mean(table[name], axis=0) for name in ("real", "synthetic"))
    logs = np.log([row[0] for row in table["synthetic"]])
    error = math.hypot(delete_half_se(logs, 1, 2), float(np.linalg.norm(by_source)))
    factor = math.exp(NormalDist().inv_cdf((1 + level) / 2) * error)
    return HitHistogram(
        value=float(value[0]),
        interval=Interval(
            float(value[0]) / factor,
            max(float(value[0]), min(1.0, float(value[0]) * factor)),
            level,
            "delete-half and entropy, lognormal",
        ),
        floor=float(floor[0]),
        gini=float(value[1]),
        gini_floor=float(floor[1]),
        never_hit=float(value[2]),
        never_hit_floor=float(floor[2]),
        p_value=p_value(observed, null, "lower", tie=1e-12),
    )


def _nearest_in(
    allowed: _Bools, lists: _Ints, rows: _Ints, base: torch.Tensor, queries: torch.Tensor
) -> _Ints:
    """Give the nearest allowed row of ``base``: from the list, or by a search where it ends."""
    hit = allowed[lists[rows]]
    at: _Ints = lists[rows, hit.argmax(axis=1)]
    missing = np.flatnonzero(~hit.any(axis=1))
    if missing.size:
        inside = np.flatnonzero(allowed)
        found = nearest_neighbours(_rows(queries, rows[missing]), _rows(base, inside), 1)[1]
        at[missing] = inside[found[:, 0]]
    return at


def _evenness(hits: npt.NDArray[np.intp]) -> tuple[float, float, float]:
    """Effective share, Gini coefficient and share never hit."""
    k = hits.size
    share = np.sort(hits / hits.sum())
    seen = share[share > 0]
    effective = math.exp(-float(seen @ np.log(seen))) / k
    gini = float((2 * np.arange(1, k + 1) - k - 1) @ share) / k
    return effective, gini, 1 - seen.size / k


def _birthday(
    reference: torch.Tensor,
    comparison: torch.Tensor,
    synthetic: torch.Tensor,
    *,
    second: _Bools,
    near_quantile: float,
    level: float,
) -> Birthday:
    from scipy.stats import chi2, norm

    own = nearest_neighbours(reference, reference, 1, exclude_self=True)[0][:, 0]
    threshold = float(np.quantile(own, near_quantile, method="lower"))
    n, m = len(comparison), len(synthetic)
    side = np.column_stack([np.arange(n + m) >= n, second])
    # One pass serves the real part, the synthetic part and its relabellings.
    sets = np.column_stack([~side[:, 0], side])
    pairs, each = _collisions(torch.cat([comparison, synthetic]), threshold, sets)
    size = sets.sum(axis=0, dtype=np.float64)
    rate = pairs / (size * (size - 1) / 2)
    value, floor = float(rate[1]), float(rate[0])
    # Hájek's projection, and the part that two independent rows would have.
    partners = each[n:] / (m - 1)
    possible = m * (m - 1) / 2
    se = math.sqrt(4 * float(partners.var(ddof=1)) / m + value / possible)
    half = float(norm.ppf((1 + level) / 2)) * se
    exact = float(chi2.ppf((1 + level) / 2, 2 * (pairs[1] + 1))) / 2 / possible
    return Birthday(
        value=value,
        interval=Interval(
            max(0.0, value - half), min(1.0, max(value + half, exact)), level, "u-statistic-normal"
        ),
        floor=floor,
        threshold=threshold,
        support=1 / value if value > 0 else None,
        support_floor=1 / floor if floor > 0 else None,
        p_value=p_value(value, rate[2:], "upper", tie=1e-12),
    )


def _collisions(x: torch.Tensor, threshold: float, sets: _Bools) -> tuple[_Floats, _Floats]:
    """Count pairs at most ``threshold`` apart in each column's set, and each row's in the second.

    Equal rows are taken together, so that a collapsed set costs no more than a diverse one.
    """
    rows, inverse = distinct_rows(x)
    weight = torch.zeros((len(rows), sets.shape[1]), dtype=torch.float64, device=x.device)
    weight.index_add_(0, inverse, torch.from_numpy(sets).to(x.device, torch.float64))
    near = torch.zeros_like(weight)
    for start, block in _adjacency(rows, threshold):
        near[start : start + len(block)] = (block.to(torch.float32) @ weight.float()).double()
    # `near` counts a row's own copies, itself included.
    pairs = (weight * (near - 1)).sum(dim=0) / 2
    return pairs.cpu().numpy(), (near[:, 1] - 1)[inverse].cpu().numpy()


def _adjacency(rows: torch.Tensor, threshold: float) -> Iterator[tuple[int, torch.Tensor]]:
    """Give blocks of "distance at most threshold"; in doubt, measured again in float64."""
    centred = rows.double() - rows.mean(dim=0, dtype=torch.float64)
    # Under a reduced matrix-product precision (TF32, bf16) the error bound would not hold.
    if rows.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest":
        centred = centred.float()
    square = centred.square().sum(dim=1)
    eps = (rows.shape[1] + 8) * torch.finfo(centred.dtype).eps
    for start in range(0, len(rows), _BLOCK):
        part = centred[start : start + _BLOCK]
        gap = torch.addmm(square, part, centred.T, alpha=-2)
        gap += square[start : start + _BLOCK, None] - threshold**2
        block = gap <= 0
        length = square.sqrt()
        doubt = gap.abs() <= eps * (length[start : start + _BLOCK, None] + length).square()
        i, j = torch.nonzero(doubt, as_tuple=True)
        for c in range(0, len(i), _BLOCK * 16):
            u, v = i[c : c + _BLOCK * 16], j[c : c + _BLOCK * 16]
            exact = torch.linalg.vector_norm(rows[start + u].double() - rows[v].double(), dim=1)
            block[u, v] = exact <= threshold
        yield start, block
