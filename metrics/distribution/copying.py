"""Copy checks: whether synthetic data is nearer to its training data than unseen real data is.

Every check is made against a *holdout*, real data that the generator never saw: a good generator
comes close to its training data as well, and only the holdout says how close is close.

A clean result means that these checks found no copying in these features. It does not mean that
the data protects anyone: attacks that look at the model, at attributes or at rare records find
leaks that distances do not show (Yao et al. 2025, arXiv:2505.01524).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, features, groups_of
from .._result import Interval, Scalar
from ..drift.multiplicity import adjust_pvalues
from ..inference import Groups, p_value, permutation_masks
from ._wilson import wilson

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

_MIN_N = 20
"""Fewer rows on a side give no distribution of distances to compare with."""
_SPARE = 16
"""Candidates beyond k that are kept for the exact recheck."""
_TIES = 8
"""Equally near references among which a hit is shared."""
_CELL = 20
"""Rows of holdout and of synthetic that a cell needs for a rank test of its own."""


@dataclass(frozen=True, slots=True)
class ExactDuplicates(Scalar):
    """Keys of the second set that also occur in the first.

    Attributes
    ----------
    value : float
        Share of the second set's items, 0 to 1; best 0.
    interval : Interval
        For the share among all that would come from where the second set comes from, first set
        given; 95 %.
    count : int
        Number of them.
    n : int
        Size of the second set.
    pairs : tuple of (int, int)
        ``(index in first, index in second)`` of each, the first match only, in the second's order.
    repeated : int
        Items of the second set whose key already occurred earlier in that set.
    """

    interval: Interval
    count: int
    n: int
    pairs: tuple[tuple[int, int], ...]
    repeated: int


@dataclass(frozen=True, slots=True)
class NearDuplicates(Scalar):
    """Synthetic samples nearer to training data than almost all of the holdout is.

    Attributes
    ----------
    value : float
        Share of synthetic samples at or under ``threshold``, 0 to 1.
    floor : float
        What the share is on average when the synthetic data is a second holdout.
    threshold : float
        Distance: a low quantile of the distances from the holdout to the training data.
    interval : Interval
        For ``value``, with the threshold held.
    p_value : float
        Exact, one-sided: more near duplicates than a second holdout would have.
    """

    floor: float
    threshold: float
    interval: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class DcrShare(Scalar):
    """Distance to the closest record: how often the closest one is a training record.

    Attributes
    ----------
    value : float
        Share of synthetic samples nearer to the training data than to the holdout, ties shared;
        0.5 without copying, 1 when each sample is nearest to a training record.
    interval : Interval
        For ``value``. Wilson's, with the effective number of independent hits (Kish): many samples
        near one record count less than as many near different ones.
    p_value : float
        Permutation, one-sided (nearer to the training data). Training and holdout records are
        exchanged, so it holds whatever the generator does: underfitting and mode collapse do not
        look like copying.
    size : int
        Records on each side: the larger set is subsampled to the size of the smaller, because the
        larger would be nearer by its size alone.
    """

    interval: Interval
    p_value: float
    size: int


@dataclass(frozen=True, slots=True)
class NearestNeighbourRatio:
    """Low quantile of the distance to the nearest over that to the second nearest training record.

    Attributes
    ----------
    quantile : float
        Which one.
    synthetic, holdout : float
        The quantile on each side, 0 to 1. A synthetic one far below the holdout's means samples
        that sit on one training record.
    synthetic_interval, holdout_interval : Interval
        Of the two, from order statistics: exact for independent rows, whatever the law.
    p_value : float
        Exact, one-sided: more small ratios than a second holdout would have.
    """

    quantile: float
    synthetic: float
    holdout: float
    synthetic_interval: Interval
    holdout_interval: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class Authenticity(Scalar):
    """Samples farther from their training record than that record is from its own neighbours.

    Attributes
    ----------
    value : float
        Share of authentic synthetic samples, 0 to 1.
    floor : float
        The same share for the holdout, which is authentic by construction.
    difference : Interval
        For ``value - floor`` (Newcombe's hybrid score); below 0 points to copying.
    p_value : float
        Fisher's exact test, one-sided: fewer authentic samples than in the holdout.
    """

    floor: float
    difference: Interval
    p_value: float


@dataclass(frozen=True, slots=True)
class DataCopying(Scalar):
    """C_T: rank test of the distances to training data, cell by cell.

    Attributes
    ----------
    value : float
        Mean z of the cells, weighted by the holdout's share: far under 0 (say -3) copying, far
        over 0 underfitting.
    interval : Interval
        For ``value`` on average at these sizes, with training data and cells held (DeLong in each
        cell): another training set moves it more. As a z it grows with the sizes.
    p_value : float
        One-sided, for copying (normal).
    cells : int
        k-means cells (of the training data) with at least 20 samples of both kinds; the others
        are taken together as one.
    covered : float
        Share of the holdout in these cells.
    """

    interval: Interval
    p_value: float
    cells: int
    covered: float


@dataclass(frozen=True, slots=True)
class MembershipInference(Scalar):
    """An attack: "the nearer a record is to the synthetic data, the likelier it was trained on".

    Attributes
    ----------
    value : float
        AUC for telling training from holdout records; 0.5 without leakage.
    interval : Interval
        For the AUC (DeLong, clustered by group where there are groups).
    p_value : float
        Permutation of training and holdout records (whole groups), one-sided: AUC over 0.5.
    tpr : float
        Training records found when at most ``fpr`` of the holdout is accused.
    tpr_interval : Interval
        For ``tpr``, with the threshold held.
    fpr : float
        The false-positive rate that was possible with this many holdout records, at most the one
        asked for. Without leakage ``tpr`` is about the same.
    """

    interval: Interval
    p_value: float
    tpr: float
    tpr_interval: Interval
    fpr: float


@dataclass(frozen=True, slots=True)
class CopiedSample:
    """One of the synthetic samples nearest to training data.

    Attributes
    ----------
    synthetic, train : int
        Row of the sample and of its nearest training record.
    distance : float
        Between them, Euclidean, in the features' unit.
    percentile : float
        Holdout records that are at most this far from training data, in per cent.
    """

    synthetic: int
    train: int
    distance: float
    percentile: float


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What :func:`copy_tests` found.

    Attributes
    ----------
    near_duplicates, dcr, nndr, authenticity, c_t, membership
        The checks.
    p_adjusted : dict of str to float
        Holm-adjusted p-value of each, by attribute name: the chance that any of them is at or
        under alpha without copying is at most alpha.
    most_copied : tuple of CopiedSample
        The synthetic samples nearest to training data, nearest first.
    holdout_in_train : int
        Holdout rows that are equal to a training row. They blunt every check: remove them.
    n_train, n_holdout, n_synthetic : int
        Sizes.
    n_yardstick : int
        Holdout rows that near duplicates, NNDR, authenticity and C_T are measured against: all,
        or one of each group.
    """

    near_duplicates: NearDuplicates
    dcr: DcrShare
    nndr: NearestNeighbourRatio
    authenticity: Authenticity
    c_t: DataCopying
    membership: MembershipInference
    p_adjusted: dict[str, float]
    most_copied: tuple[CopiedSample, ...]
    holdout_in_train: int
    n_train: int
    n_holdout: int
    n_yardstick: int
    n_synthetic: int


def exact_duplicates(keys_a: Sequence[Hashable], keys_b: Sequence[Hashable]) -> ExactDuplicates:
    """Find items of the second set that are in the first, by a key such as a content hash.

    Parameters
    ----------
    keys_a, keys_b : sequence of hashable
        One key for each item: training (or evaluation) data first, synthetic data second.

    Returns
    -------
    ExactDuplicates
        Share, count and pairs.

    Raises
    ------
    ValueError
        If either is empty: no data is not "no duplicates".
    """
    if not len(keys_a) or not len(keys_b):
        raise ValueError(
            f"both sets need at least 1 key, got {len(keys_a)} and {len(keys_b)}: "
            "an empty set says nothing about duplicates"
        )
    first: dict[Hashable, int] = {}
    for i, key in enumerate(keys_a):
        first.setdefault(key, i)
    pairs = tuple((first[key], j) for j, key in enumerate(keys_b) if key in first)
    n = len(keys_b)
    return ExactDuplicates(
        value=len(pairs) / n,
        interval=proportion_interval(len(pairs), n, 0.95),
        count=len(pairs),
        n=n,
        pairs=pairs,
        repeated=n - len(set(keys_b)),
    )


def copy_tests(
    train: Array,
    holdout: Array | None,
    synthetic: Array,
    *,
    groups_train: Groups = None,
    groups_holdout: Groups = None,
    near_quantile: float = 0.01,
    ratio_quantile: float = 0.05,
    fpr: float = 0.01,
    cells: int | None = None,
    permutations: int = 999,
    level: float = 0.95,
    top: int = 20,
    seed: int = 0,
) -> CopyReport:
    """Look for synthetic samples that copy training data, with a holdout as the yardstick.

    Parameters
    ----------
    train : array, shape (n_train, d)
        Features of the data that the generator was trained on.
    holdout : array, shape (n_holdout, d)
        Features of real data of the same kind that it never saw. Needed: without it, closeness
        cannot be told from quality, and None raises.
    synthetic : array, shape (n_synthetic, d)
        Features of the generated data.
    groups_train, groups_holdout : sequence, optional
        Source of each record (speaker, scene, document); give both or neither. The permutations
        of DCR share and membership inference then move whole groups, and the other checks compare
        with one random holdout row of each group.
    near_quantile, ratio_quantile : float
        Quantile of the holdout's distances that makes a near duplicate, and of the ratios that
        NNDR compares.
    fpr : float
        False-positive rate for the membership attack's TPR.
    cells : int, optional
        k-means cells for C_T; by default one for each 50 rows of the smaller of holdout and
        synthetic data, at most 50.
    permutations : int
        Relabellings for the permutation p-values.
    level : float
        Nominal coverage of the intervals.
    top : int
        How many of the most copied samples to name.
    seed : int
        Of subsampling, permutations, k-means and the breaking of ties.

    Returns
    -------
    CopyReport
        Each check with its holdout floor, interval and p-value.

    Raises
    ------
    TypeError, ValueError
        If the holdout is missing, mostly equal to training data, or an input is not numeric, not
        finite, of another dimension, or has under 20 rows.

    Notes
    -----
    Distances are Euclidean in the given features: normalise them first for cosine. DCR share and
    membership inference exchange training and holdout records and see copying alone. The other
    checks compare synthetic with holdout samples and also answer to a synthetic distribution that
    crowds the dense regions of the real one; read them together. They take the synthetic samples as
    independent. No check sees copies that the encoder maps far away (crops, mirrored or restyled
    images), nor leaks of attributes.

    References
    ----------
    Meehan, Chaudhuri & Dasgupta 2020, A non-parametric test to detect data-copying, AISTATS
    (C_T). Alaa et al. 2022, How faithful is your synthetic data?, ICML (authenticity). Carlini et
    al. 2022, Membership inference attacks from first principles (TPR at low FPR). Obuchowski 1997,
    Nonparametric analysis of clustered ROC curve data. Newcombe 1998, Interval estimation for the
    difference between independent proportions.
    """
    if holdout is None:
        raise ValueError(
            "copy_tests needs a holdout: real data that the generator never saw. A good generator "
            "comes close to its training data too, and only the holdout says how close is normal"
        )
    for name, value in (
        ("near_quantile", near_quantile),
        ("ratio_quantile", ratio_quantile),
        ("fpr", fpr),
    ):
        if not 0 < value < 0.5:
            raise ValueError(f"{name} must lie strictly between 0 and 0.5, got {value}")
    if cells is not None and cells < 1:
        raise ValueError(f"cells must be at least 1, got {cells}")
    if top < 0:
        raise ValueError(f"top must not be negative, got {top}")
    t = features(train, "train", min_n=_MIN_N, dtype=None)
    h = features(holdout, "holdout", min_n=_MIN_N, dtype=None)
    s = features(synthetic, "synthetic", min_n=_MIN_N, dtype=None)
    groups = _pooled_groups(groups_train, groups_holdout, len(t), len(h))
    rng = np.random.default_rng(seed)

    near_s, at_s = nearest_neighbours(s, t, 2)
    near_h, at_h = nearest_neighbours(h, t, 2)
    copied = int((near_h[:, 0] == 0).sum())
    if 2 * copied > len(h):
        raise ValueError(
            f"{copied} of {len(h)} holdout rows are equal to training rows: this is no holdout. "
            "Give real data that the generator never saw"
        )
    # Rows of one source are no independent draws: the yardstick has one of each.
    yard = _one_per_group(None if groups is None else groups[len(t) :], len(h), rng)
    gauge = near_h[yard, 0]
    rank = max(1, int(near_quantile * len(yard)))
    share, threshold, p_near = _low_tail(near_s[:, 0], gauge, rank, rng)
    near = NearDuplicates(
        value=share / len(s),
        floor=rank / (len(yard) + 1),
        threshold=threshold,
        interval=proportion_interval(share, len(s), level),
        p_value=p_near,
    )
    dcr = _dcr_share(
        t, h, s, groups=groups, permutations=permutations, level=level, rng=rng, seed=seed
    )
    ratio_s, ratio_h = _ratio(near_s), _ratio(near_h[yard])
    *_, p_ratio = _low_tail(ratio_s, ratio_h, max(1, int(ratio_quantile * len(yard))), rng)
    nndr = NearestNeighbourRatio(
        quantile=ratio_quantile,
        synthetic=float(np.quantile(ratio_s, ratio_quantile)),
        holdout=float(np.quantile(ratio_h, ratio_quantile)),
        synthetic_interval=quantile_interval(ratio_s, ratio_quantile, level),
        holdout_interval=quantile_interval(ratio_h, ratio_quantile, level),
        p_value=p_ratio,
    )
    own = nearest_neighbours(t, t, 1, exclude_self=True)[0][:, 0]
    authenticity = _authenticity(near_s[:, 0] > own[at_s[:, 0]], gauge > own[at_h[yard, 0]], level)
    c_t = _data_copying(
        t,
        h[torch.from_numpy(yard).to(h.device)],
        s,
        near_h=gauge,
        near_s=near_s[:, 0],
        cells=cells,
        level=level,
        seed=seed,
    )
    membership = _membership(
        nearest_neighbours(t, s, 1)[0][:, 0],
        nearest_neighbours(h, s, 1)[0][:, 0],
        groups=groups,
        fpr=fpr,
        permutations=permutations,
        level=level,
        seed=seed,
    )
    p = {
        "near_duplicates": near.p_value,
        "dcr": dcr.p_value,
        "nndr": nndr.p_value,
        "authenticity": authenticity.p_value,
        "c_t": c_t.p_value,
        "membership": membership.p_value,
    }
    adjusted = adjust_pvalues(list(p.values()), "holm")
    ordered = np.sort(near_h[:, 0])
    return CopyReport(
        near_duplicates=near,
        dcr=dcr,
        nndr=nndr,
        authenticity=authenticity,
        c_t=c_t,
        membership=membership,
        p_adjusted=dict(zip(p, adjusted.tolist(), strict=True)),
        most_copied=tuple(
            CopiedSample(
                synthetic=int(i),
                train=int(at_s[i, 0]),
                distance=float(near_s[i, 0]),
                percentile=100.0
                * int(np.searchsorted(ordered, near_s[i, 0], side="right"))
                / len(ordered),
            )
            for i in np.argsort(near_s[:, 0], kind="stable")[:top]
        ),
        holdout_in_train=copied,
        n_train=len(t),
        n_holdout=len(h),
        n_yardstick=len(yard),
        n_synthetic=len(s),
    )


def nearest_neighbours(
    queries: torch.Tensor,
    base: torch.Tensor,
    k: int,
    *,
    exclude_self: bool = False,
    block_rows: int = 2048,
    block_columns: int = 8192,
) -> tuple[_Floats, _Ints]:
    """Find the k nearest rows, exactly, in blocks.

    Candidates come from a matrix product on centred features, in single precision where the input
    is; those within its rounding error of the k-th are measured again in float64 by direct
    differences. A row with more near ties than the candidate list holds is done again in float64.

    Parameters
    ----------
    queries, base : tensor, shape (n, d) and (m, d)
        Features on one device.
    k : int
        Neighbours for each row.
    exclude_self : bool
        ``base`` is ``queries``, and row i is no neighbour of itself (an equal row is one).
    block_rows, block_columns : int
        Memory is a few blocks of this size: nothing of n × m is kept.

    Returns
    -------
    distances : float64 array, shape (n, k)
        Euclidean, ascending; exact in the features' own precision (0 for equal rows).
    indices : int64 array, shape (n, k)
        Rows of ``base``; of equally near ones the first, or any where they are more than 16.

    Raises
    ------
    ValueError
        If ``base`` has too few rows, or dimensions or devices differ.
    """
    if queries.shape[1] != base.shape[1]:
        raise ValueError(
            f"the sets must have the same number of columns, got {queries.shape[1]} and "
            f"{base.shape[1]}: were they made by the same encoder?"
        )
    if queries.device != base.device:
        raise ValueError(f"the sets are on {queries.device} and {base.device}: move one of them")
    available = len(base) - int(exclude_self)
    if not 1 <= k <= available:
        raise ValueError(f"k must lie in 1..{available} for {len(base)} rows, got {k}")
    centre = base.mean(dim=0, dtype=torch.float64)
    single = torch.float32 in (queries.dtype, base.dtype)
    # Under a reduced matrix-product precision (TF32, bf16) the error bound would not hold.
    fast = single and torch.get_float32_matmul_precision() == "highest"
    length = min(k + _SPARE, available)
    size = {"k": k, "length": length, "block_columns": block_columns}
    wide = base.double() - centre
    scale = float(wide.abs().max()) or 1.0
    distances = np.empty((len(queries), k))
    indices = np.empty((len(queries), k), dtype=np.int64)
    narrow = (wide / scale).float() if fast else wide
    for start in range(0, len(queries), block_rows):
        rows = queries[start : start + block_rows].double() - centre
        own = torch.arange(start, start + len(rows), device=rows.device) if exclude_self else None
        if fast:
            found, complete = _candidates((rows / scale).float(), narrow, own, **size)
            again = torch.nonzero(~complete).flatten()
            if len(again):
                found[again], _ = _candidates(
                    rows[again], wide, None if own is None else own[again], **size
                )
        else:
            found, _ = _candidates(rows, narrow, own, **size)
        near, at = _recheck(queries[start : start + block_rows], base, found, k)
        distances[start : start + len(rows)] = near.cpu().numpy()
        indices[start : start + len(rows)] = at.cpu().numpy()
    return distances, indices


def distinct_rows(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the distinct rows, and for each row which of them it is."""
    # Adding 0 makes -0 and 0 the same bytes.
    host = np.ascontiguousarray((x + 0).cpu().numpy())
    keys = host.view(np.dtype((np.void, host.dtype.itemsize * host.shape[1]))).ravel()
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return x[torch.from_numpy(first).to(x.device)], torch.from_numpy(inverse).to(x.device)


def _candidates(
    rows: torch.Tensor,
    base: torch.Tensor,
    own: torch.Tensor | None,
    *,
    k: int,
    length: int,
    block_columns: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the ``length`` apparently nearest rows, and whether the true k are sure to be there."""
    norms = rows.square().sum(dim=1)
    best = torch.full((len(rows), 0), torch.inf, dtype=rows.dtype, device=rows.device)
    at = torch.zeros((len(rows), 0), dtype=torch.int64, device=rows.device)
    for start in range(0, len(base), block_columns):
        part = base[start : start + block_columns]
        square = torch.addmm(part.square().sum(dim=1), rows, part.T, alpha=-2)
        if own is not None:
            mine = torch.nonzero((own >= start) & (own < start + len(part))).flatten()
            square[mine, own[mine] - start] = torch.inf
        value, index = torch.topk(square, min(length, len(part)), dim=1, largest=False)
        best = torch.cat([best, value], dim=1)
        at = torch.cat([at, index + start], dim=1)
        if best.shape[1] > length:
            best, keep = torch.topk(best, length, dim=1, largest=False)
            at = at.gather(1, keep)
    best, order = torch.sort(best, dim=1)
    at = at.gather(1, order)
    if length == len(base) - int(own is not None):
        return at, torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    # |computed - true| of a squared distance is at most about d·eps·(|q| + |b|)², and no candidate
    # for the k-th place has a norm over |q| + d_k.
    eps = (rows.shape[1] + 8) * torch.finfo(rows.dtype).eps
    kth = (best[:, k - 1] + norms).clamp_min(0).sqrt()
    slack = eps * (2 * norms.sqrt() + kth).square() + rows.shape[1] * torch.finfo(rows.dtype).tiny
    return at, best[:, -1] - best[:, k - 1] > 2 * slack


def _recheck(
    rows: torch.Tensor, base: torch.Tensor, found: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure the candidates in float64 by direct differences; nearest first, then by index."""
    near = torch.empty((len(rows), k), dtype=torch.float64, device=rows.device)
    at = torch.empty((len(rows), k), dtype=torch.int64, device=rows.device)
    step = max(1, 2**22 // (found.shape[1] * base.shape[1]))
    for start in range(0, len(rows), step):
        index = torch.sort(found[start : start + step], dim=1).values
        gap = base[index].double() - rows[start : start + step].double()[:, None]
        value, order = torch.sort(torch.linalg.vector_norm(gap, dim=2), dim=1, stable=True)
        near[start : start + step] = value[:, :k]
        at[start : start + step] = index.gather(1, order[:, :k])
    return near, at


def proportion_interval(count: int, n: int, level: float) -> Interval:
    """Clopper and Pearson's interval for a proportion."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, count, n - count + 1)) if count > 0 else 0.0
    high = float(beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return Interval(low, high, level, "clopper-pearson")


def wilson_interval(share: float, n: float, level: float) -> Interval:
    """Wilson's score interval; ``n`` may be an effective number."""
    return wilson(share, 0.0, n, level, "wilson-effective-n")


def quantile_interval(values: _Floats, q: float, level: float) -> Interval:
    """Interval of a quantile of values in [0, 1], between two order statistics."""
    from scipy.stats import binom

    tail = (1 - level) / 2
    ordered = np.concatenate([[0.0], np.sort(values), [1.0]])
    low, high = binom.ppf([tail, 1 - tail], values.size, q).astype(int)
    return Interval(float(ordered[low]), float(ordered[high + 1]), level, "order statistics")


def newcombe_interval(p: float, n: float, q: float, m: float, level: float) -> Interval:
    """Newcombe's hybrid score interval for ``p - q``; n and m may be effective numbers."""
    one, two = wilson_interval(p, n, level), wilson_interval(q, m, level)
    return Interval(
        p - q - float(np.hypot(p - one.low, two.high - q)),
        p - q + float(np.hypot(one.high - p, q - two.low)),
        level,
        "newcombe",
    )


def _pooled_groups(
    train: Groups, holdout: Groups, n_train: int, n_holdout: int
) -> npt.NDArray[np.int64] | None:
    if train is None and holdout is None:
        return None
    if train is None or holdout is None:
        raise ValueError("give both groups_train and groups_holdout, or neither")
    groups_of(train, n_train, "groups_train")
    groups_of(holdout, n_holdout, "groups_holdout")
    return groups_of([*train, *holdout], n_train + n_holdout, "groups")


def _one_per_group(
    groups: npt.NDArray[np.int64] | None, n: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    if groups is None:
        return np.arange(n)
    order = rng.permutation(n)
    return np.sort(order[np.unique(groups[order], return_index=True)[1]])


def _low_tail(
    values: _Floats, reference: _Floats, r: int, rng: np.random.Generator
) -> tuple[int, float, float]:
    """Count ``values`` up to the r-th smallest of ``reference``, with an exact p for "too many".

    If both are draws from one distribution, how many values precede the r-th reference follows the
    negative hypergeometric law. Ties are put in random order, which keeps it so.
    """
    from scipy.stats import hypergeom

    threshold = float(np.partition(reference, r - 1)[r - 1])
    pooled = np.concatenate([values, reference])
    order = np.lexsort((rng.random(pooled.size), pooled))
    position = int(np.flatnonzero(order >= values.size)[r - 1])
    before = position - (r - 1)
    p = float(hypergeom.cdf(r - 1, pooled.size, reference.size, before + r - 1))
    return int((values <= threshold).sum()), threshold, min(1.0, p)


def _ratio(near: _Floats) -> _Floats:
    """Nearest over second nearest; 1 where both are 0, because then no one record stands out."""
    return np.divide(near[:, 0], near[:, 1], out=np.ones(len(near)), where=near[:, 1] > 0)


def _dcr_share(
    t: torch.Tensor,
    h: torch.Tensor,
    s: torch.Tensor,
    *,
    groups: npt.NDArray[np.int64] | None,
    permutations: int,
    level: float,
    rng: np.random.Generator,
    seed: int,
) -> DcrShare:
    size = min(len(t), len(h))
    rows_t = np.sort(rng.choice(len(t), size, replace=False))
    rows_h = np.sort(rng.choice(len(h), size, replace=False))
    # In random order, so that which of too many ties are kept says nothing about their side.
    order = rng.permutation(2 * size)
    wide = torch.promote_types(t.dtype, h.dtype)
    pool = torch.cat(
        [
            t[torch.from_numpy(rows_t).to(t.device)].to(wide),
            h[torch.from_numpy(rows_h).to(h.device)].to(wide),
        ]
    )[torch.from_numpy(order).to(t.device)]
    near, at = nearest_neighbours(s, pool, min(_TIES, 2 * size))
    tied = near == near[:, :1]
    weight = np.zeros(2 * size)
    np.add.at(weight, order[at[tied]], np.repeat(1 / tied.sum(axis=1), tied.sum(axis=1)))
    value = float(weight[:size].sum() / len(s))
    pooled = None if groups is None else groups[np.concatenate([rows_t, len(t) + rows_h])]
    first, _ = permutation_masks(size, size, permutations, groups=pooled, seed=seed)
    # Groups of unequal size make unequal sides; what their sizes alone give is taken off.
    null = (weight @ first) / len(s) - first.mean(axis=0)
    hits = weight if pooled is None else np.bincount(pooled, weight)
    effective = len(s) ** 2 / float((hits**2).sum())
    return DcrShare(
        value=value,
        interval=wilson_interval(value, effective, level),
        p_value=p_value(value - 0.5, null, "upper", tie=1e-9),
        size=size,
    )


def _authenticity(
    synthetic: npt.NDArray[np.bool_], holdout: npt.NDArray[np.bool_], level: float
) -> Authenticity:
    from scipy.stats import fisher_exact

    a, n, b, m = int(synthetic.sum()), synthetic.size, int(holdout.sum()), holdout.size
    p, q = a / n, b / m
    return Authenticity(
        value=p,
        floor=q,
        difference=newcombe_interval(p, n, q, m, level),
        p_value=float(fisher_exact([[a, n - a], [b, m - b]], alternative="less").pvalue),
    )


def _data_copying(
    t: torch.Tensor,
    h: torch.Tensor,
    s: torch.Tensor,
    *,
    near_h: _Floats,
    near_s: _Floats,
    cells: int | None,
    level: float,
    seed: int,
) -> DataCopying:
    from scipy.stats import norm, rankdata
    from sklearn.cluster import KMeans

    k = min(50, max(1, min(len(h), len(s)) // 50)) if cells is None else cells
    if k > len(t):
        raise ValueError(f"cells must be at most the {len(t)} training rows, got {k}")
    k = min(k, len(distinct_rows(t)[0]))
    model = KMeans(k, n_init=1, random_state=seed).fit(t.double().cpu().numpy())
    cell_h = model.predict(h.double().cpu().numpy())
    cell_s = model.predict(s.double().cpu().numpy())
    count_h, count_s = np.bincount(cell_h, minlength=k), np.bincount(cell_s, minlength=k)
    enough = min(_CELL, len(h), len(s))
    # Cells with too few of either kind become one, numbered k.
    name = np.where((count_h >= enough) & (count_s >= enough), np.arange(k), k)
    cell_h, cell_s = name[cell_h], name[cell_s]
    z, weight, error = [], [], []
    for c in np.unique(name):
        x, y = near_s[cell_s == c], near_h[cell_h == c]
        m, n = x.size, y.size
        if min(m, n) < enough:
            continue
        ranks = rankdata(np.concatenate([x, y]))
        _, ties = np.unique(ranks, return_counts=True)
        total = m + n
        variance = m * n / 12 * (total + 1 - float((ties**3 - ties).sum()) / (total * (total - 1)))
        centred = float(ranks[:m].sum()) - m * (total + 1) / 2
        # All distances equal: the ranks say nothing either way.
        z.append(centred / np.sqrt(variance) if variance > 0 else 0.0)
        weight.append(n / len(h))
        # Complete separation has no spread to estimate from; the null's is more than it can have.
        squares = float((_placements(x, y, ranks) ** 2).sum())
        spread = m * n * np.sqrt(squares / variance) if variance > 0 else 0.0
        error.append(float(spread) if spread > 0 else 1.0)
    w = np.array(weight) / sum(weight)
    value = float(w @ np.array(z))
    half = float(norm.ppf((1 + level) / 2)) * float(np.linalg.norm(w * np.array(error)))
    return DataCopying(
        value=value,
        interval=Interval(value - half, value + half, level, "delong"),
        p_value=float(norm.cdf(value / np.sqrt(float(w @ w)))),
        cells=len(z),
        covered=float(sum(weight)),
    )


def _placements(x: _Floats, y: _Floats, ranks: _Floats) -> _Floats:
    """Give each value's part in the error of P(x > y); ``ranks`` are those of both, x first.

    DeLong's placements: the share of the other side that a value beats, less the mean.
    """
    from scipy.stats import rankdata

    m, n = x.size, y.size
    wins, losses = (ranks[:m] - rankdata(x)) / n, 1 - (ranks[m:] - rankdata(y)) / m
    return np.concatenate([(wins - wins.mean()) / m, (losses - wins.mean()) / n])


def _membership(
    near_t: _Floats,
    near_h: _Floats,
    *,
    groups: npt.NDArray[np.int64] | None,
    fpr: float,
    permutations: int,
    level: float,
    seed: int,
) -> MembershipInference:
    from scipy.stats import norm, rankdata

    m, n = near_t.size, near_h.size
    # High rank: near to the synthetic data, "trained on".
    ranks = rankdata(-np.concatenate([near_t, near_h]))
    auc = float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))
    first, _ = permutation_masks(m, n, permutations, groups=groups, seed=seed)
    size = first.sum(axis=0, dtype=np.int64)
    null = (ranks @ first - size * (size + 1) / 2) / (size * (m + n - size))
    influence: _Floats = _placements(-near_t, -near_h, ranks)
    if groups is not None:
        influence = np.bincount(groups, influence).astype(np.float64)
    se = float(np.sqrt((influence**2).sum()))
    if se > 0:
        half = float(norm.ppf((1 + level) / 2)) * se
        interval = Interval(max(0.0, auc - half), min(1.0, auc + half), level, "delong")
    else:
        # Complete separation: no spread to estimate from, so count the smaller side.
        interval = proportion_interval(round(auc * min(m, n)), min(m, n), level)
    allowed = int(fpr * n)
    threshold = np.partition(near_h, allowed)[allowed]
    found = int((near_t < threshold).sum())
    return MembershipInference(
        value=auc,
        interval=interval,
        p_value=p_value(auc, null, "upper", tie=1e-9),
        tpr=found / m,
        tpr_interval=proportion_interval(found, m, level),
        fpr=int((near_h < threshold).sum()) / n,
    )
