"""Permutations, splits and the p-values and standard errors that are read from them.

All masks are over the rows of one pooled matrix ``[real; synthetic]``, boolean, one column for each
repetition, so that a metric can take all repetitions as one matrix product.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from ._check import groups_of
from ._result import Interval

if TYPE_CHECKING:
    from collections.abc import Sequence

Masks: TypeAlias = tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""``(first, second)``, each ``(N, R)``: disjoint in every column."""

Tail: TypeAlias = Literal["upper", "lower", "both"]
Groups: TypeAlias = "Sequence[object] | np.ndarray | None"

_SLACK = 0.25
"""A grouped subset may miss its size by this share before the draw is made anew."""
_TRIES = 20
"""Draws before a grouped split counts as impossible."""


def permutation_masks(
    n_real: int,
    n_synthetic: int,
    B: int,
    *,
    groups: Groups = None,
    seed: int = 0,
) -> Masks:
    """Draw random relabellings of the pooled rows, for a permutation test.

    Rows of one group move together. Groups that lie on one side only are dealt out again, as many
    to the real side as there were. A group with rows on both sides (a source and what was made
    from it) has its two parts swapped or not with probability 1/2. Both are the symmetries of the
    null hypothesis "the label real/synthetic says nothing", so a p-value from :func:`p_value` is
    exact. With groups of unequal size the sides' sizes vary from column to column.

    Parameters
    ----------
    n_real, n_synthetic : int
        Rows on each side; the pooled order is real first.
    B : int
        Number of relabellings.
    groups : sequence, length n_real + n_synthetic, optional
        Group label of every pooled row.
    seed : int
        Seed of the draw.

    Returns
    -------
    first, second : bool arrays, shape (n_real + n_synthetic, B)
        Rows in the role of real and of synthetic; ``second`` is ``~first``.

    Raises
    ------
    ValueError
        If a side is empty, B is under 1, or ``groups`` has the wrong length.

    References
    ----------
    Phipson & Smyth 2010, Permutation p-values should never be zero. Hemerik & Goeman 2018, Exact
    testing with random permutations.
    """
    if n_real < 1 or n_synthetic < 1:
        raise ValueError(f"each side needs at least 1 row, got {n_real} and {n_synthetic}")
    if B < 1:
        raise ValueError(f"B must be at least 1, got {B}")
    n = n_real + n_synthetic
    rng = np.random.default_rng(seed)
    codes = groups_of(groups, n, "groups")
    if codes is None:
        codes = np.arange(n)
    side = np.arange(n) >= n_real
    clusters = int(codes.max()) + 1
    on_real = np.bincount(codes[~side], minlength=clusters) > 0
    on_synthetic = np.bincount(codes[side], minlength=clusters) > 0
    both = on_real & on_synthetic
    single = np.flatnonzero(~both)
    keep = int(on_real[single].sum())

    # first_part[c, b, s]: whether the rows of cluster c on side s are `first` in column b.
    first_part = np.zeros((clusters, B, 2), dtype=bool)
    if single.size:
        deal = np.zeros((B, single.size), dtype=bool)
        deal[:, :keep] = True
        deal = rng.permuted(deal, axis=1).T
        first_part[single] = deal[:, :, None]
    if both.any():
        swap = rng.random((int(both.sum()), B)) < 0.5
        first_part[both, :, 0] = ~swap
        first_part[both, :, 1] = swap
    first = first_part[codes, :, side.astype(int)]
    return first, ~first


def pool_groups(
    groups_real: Groups, groups_synthetic: Groups, n_real: int, n_synthetic: int
) -> npt.NDArray[np.int_] | None:
    """Join the two sides' group labels into one code for each pooled row, for permutations.

    The same label on both sides is the same group. A side without labels has a group for each row.

    Parameters
    ----------
    groups_real, groups_synthetic : sequence or None
        Group of each row of a side.
    n_real, n_synthetic : int
        Rows on each side.

    Returns
    -------
    int array, shape (n_real + n_synthetic,), or None
        None if neither side has labels.

    Raises
    ------
    ValueError
        If a side has a wrong number of labels.
    """
    if groups_real is None and groups_synthetic is None:
        return None
    names: list[str] = []
    for labels, n, side in (
        (groups_real, n_real, "real"),
        (groups_synthetic, n_synthetic, "synthetic"),
    ):
        if labels is None:
            names += [f"\0{side}\0{i}" for i in range(n)]
        elif len(labels) != n:
            raise ValueError(
                f"groups_{side} must name a group for each of {n} rows, got {len(labels)}"
            )
        else:
            names += [str(g) for g in labels]
    return np.asarray(groups_of(names, n_real + n_synthetic, "groups"))


def split_masks(
    n_real: int,
    n_synthetic: int,
    size: int,
    R: int,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    seed: int = 0,
) -> dict[str, Masks]:
    """Draw random splits for a metric's floor, and matched draws for its value.

    In column r, ``floor`` holds two disjoint sets of real rows of about ``size`` each, and
    ``matched`` the same first set against as many synthetic rows: the two differ in the second
    set alone, so that they may be compared pair by pair.

    Parameters
    ----------
    n_real, n_synthetic : int
        Rows on each side; the pooled order is real first.
    size : int
        Rows wanted in each set; at most ``n_real // 2`` and ``n_synthetic``.
    R : int
        Number of splits.
    groups_real, groups_synthetic : sequence, optional
        Group of each row. A group stays whole: it is never on both sides of a split. Sizes are
        then as near to ``size`` as the groups of that draw allow.
    seed : int
        Seed of the draw.

    Returns
    -------
    dict
        ``floor`` and ``matched``, each ``(first, second)``: bool, shape (n_real + n_synthetic, R).

    Raises
    ------
    ValueError
        If there are too few rows, or if the groups are so large that a set of the size wanted
        (within a quarter) cannot be drawn; the message names the largest group.
    """
    if R < 1:
        raise ValueError(f"R must be at least 1, got {R}")
    if size < 1 or size > n_real // 2 or size > n_synthetic:
        raise ValueError(
            f"size must lie in 1..{min(n_real // 2, n_synthetic)} for {n_real} real and "
            f"{n_synthetic} synthetic rows, got {size}"
        )
    rng = np.random.default_rng(seed)
    real_codes = _codes(groups_real, n_real, "real")
    synthetic_codes = _codes(groups_synthetic, n_synthetic, "synthetic")
    n = n_real + n_synthetic
    masks = {name: np.zeros((n, R), dtype=bool) for name in ("half", "other", "synthetic")}
    for r in range(R):
        half, other = _draw(real_codes, size, 2, rng, name="real", labels=groups_real)
        (drawn,) = _draw(synthetic_codes, size, 1, rng, name="synthetic", labels=groups_synthetic)
        masks["half"][half, r] = True
        masks["other"][other, r] = True
        masks["synthetic"][n_real + drawn, r] = True
    return {
        "floor": (masks["half"], masks["other"]),
        "matched": (masks["half"].copy(), masks["synthetic"]),
    }


def subsample_masks(
    n: int, size: int, R: int, *, groups: Groups = None, seed: int = 0
) -> npt.NDArray[np.bool_]:
    """Draw random subsets of one sample's rows, without replacement, groups kept whole.

    Parameters
    ----------
    n : int
        Rows.
    size : int
        Rows wanted in each subset.
    R : int
        Number of subsets.
    groups : sequence, length n, optional
        Group of each row; sizes are then as near to ``size`` as the groups allow.
    seed : int
        Seed of the draw.

    Returns
    -------
    bool array, shape (n, R)
        Members of each subset.

    Raises
    ------
    ValueError
        If not ``1 <= size <= n``, or if the groups allow no such subset.
    """
    if not 1 <= size <= n or R < 1:
        raise ValueError(f"size must lie in 1..{n} and R be at least 1, got {size} and {R}")
    rng = np.random.default_rng(seed)
    codes = _codes(groups, n, "sample")
    masks = np.zeros((n, R), dtype=bool)
    for r in range(R):
        (rows,) = _draw(codes, size, 1, rng, name="sample", labels=groups)
        masks[rows, r] = True
    return masks


def effective_rows(groups: Groups, n: int) -> float:
    """Give Kish's number of independent rows, if the rows of one group were all alike.

    Parameters
    ----------
    groups : sequence, length n, optional
        Group of each row.
    n : int
        Rows.

    Returns
    -------
    float
        ``n`` without groups, else ``n² / sum of squared group sizes``.

    References
    ----------
    Kish 1965, Survey sampling.
    """
    codes = groups_of(groups, n, "groups")
    if codes is None:
        return float(n)
    return float(n**2 / (np.bincount(codes).astype(np.float64) ** 2).sum())


def _codes(groups: Groups, n: int, name: str) -> np.ndarray:
    codes = groups_of(groups, n, f"groups of the {name} rows")
    return np.arange(n) if codes is None else codes


def _draw(
    codes: np.ndarray,
    size: int,
    sets: int,
    rng: np.random.Generator,
    *,
    name: str,
    labels: Groups,
) -> list[np.ndarray]:
    """Row indices of ``sets`` disjoint random sets of about ``size`` rows, groups kept whole."""
    if labels is None:
        order = rng.permutation(len(codes))
        return [order[i * size : (i + 1) * size] for i in range(sets)]
    counts = np.bincount(codes)
    best = np.inf
    for _ in range(_TRIES):
        owner = np.full(counts.size, -1)
        filled = np.zeros(sets, dtype=int)
        # Each group, in random order, goes to the first set that it brings nearer to its size.
        for c in rng.permutation(counts.size):
            for s in range(sets):
                if abs(filled[s] + counts[c] - size) < abs(filled[s] - size):
                    owner[c] = s
                    filled[s] += counts[c]
                    break
        worst = float(np.abs(filled - size).max())
        if worst <= _SLACK * size:
            return [np.flatnonzero(owner[codes] == s) for s in range(sets)]
        best = min(best, worst)
    largest = int(np.argmax(counts))
    label = np.asarray(labels)[np.flatnonzero(codes == largest)[0]]
    raise ValueError(
        f"the {name} groups cannot be split into {sets} set(s) of {size} rows: the best of {_TRIES}"
        f" draws is off by {best:.0f}. There are {counts.size} groups, and the largest, "
        f"{str(label)!r}, has {int(counts[largest])} of {codes.size} rows: use a finer grouping or "
        "another size"
    )


def check_masks(first: np.ndarray, second: np.ndarray, n: int) -> None:
    """Check a pair of membership matrices over ``n`` pooled rows.

    Raises
    ------
    ValueError
        If they are not boolean, of shape (n, R), disjoint, with 2 rows in each set.
    """
    for name, mask in (("first", first), ("second", second)):
        if mask.dtype != np.bool_ or mask.ndim != 2 or len(mask) != n or mask.shape[1] == 0:
            raise ValueError(
                f"{name} must be boolean of shape ({n}, R), got {mask.dtype} of {mask.shape}"
            )
        if mask.sum(axis=0).min() < 2:
            raise ValueError(f"every column of {name} needs at least 2 rows")
    if first.shape != second.shape or (first & second).any():
        raise ValueError("first and second must have one shape and share no row in a column")


def p_value(
    observed: float,
    null: npt.ArrayLike,
    tail: Tail = "upper",
    *,
    tie: float = 0.0,
) -> float:
    """Give the permutation p-value ``(1 + k) / (B + 1)``.

    Parameters
    ----------
    observed : float
        The statistic on the data.
    null : array, shape (B,)
        The statistic under B random relabellings.
    tail : {"upper", "lower", "both"}
        Which values count as at least as extreme. ``"both"`` doubles the smaller of the two.
    tie : float
        Differences up to this count as equal, so that rounding cannot break a tie in favour of a
        small p-value.

    Returns
    -------
    float
        In (0, 1]; never 0. At most alpha with probability at most alpha under the null, for
        every alpha.

    Raises
    ------
    ValueError
        If a value is not finite or ``null`` is empty.

    References
    ----------
    Phipson & Smyth 2010.
    """
    values = np.asarray(null, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"null must have shape (B,) with B >= 1, got {values.shape}")
    if not np.isfinite(observed) or not np.isfinite(values).all():
        raise ValueError("the statistic is NaN or infinite under the data or a relabelling")
    upper = (1 + int((values >= observed - tie).sum())) / (values.size + 1)
    lower = (1 + int((values <= observed + tie).sum())) / (values.size + 1)
    match tail:
        case "upper":
            return upper
        case "lower":
            return lower
        case "both":
            return min(1.0, 2 * min(upper, lower))
    raise ValueError(f"tail must be 'upper', 'lower' or 'both', got {tail!r}")


def max_t(
    observed: npt.ArrayLike,
    null: npt.ArrayLike,
    tail: Tail | Sequence[Tail] = "upper",
) -> npt.NDArray[np.float64]:
    """Adjust the p-values of K statistics that share one set of permutations.

    Step-down max-T: each statistic is standardised by the mean and standard deviation over the
    observed value and all its relabelled ones (a symmetric function of them, so that exactness is
    kept), and compared with the largest of the statistics that are not yet rejected, in the same
    relabelling. It uses the dependence between the statistics, so K copies of one cost nothing.

    Parameters
    ----------
    observed : array, shape (K,)
        The statistics on the data.
    null : array, shape (K, B)
        The same under B relabellings; column b of every row comes from the same relabelling.
    tail : {"upper", "lower", "both"}, or one for each statistic
        Which direction is extreme.

    Returns
    -------
    array, shape (K,)
        Family-wise adjusted p-values. Their minimum is the p-value of the global null.

    Raises
    ------
    ValueError
        If shapes do not match or a value is not finite.

    References
    ----------
    Westfall & Young 1993, Resampling-based multiple testing, algorithm 4.1.
    """
    t = np.asarray(observed, dtype=np.float64)
    values = np.asarray(null, dtype=np.float64)
    if t.ndim != 1 or values.ndim != 2 or values.shape[0] != t.size or 0 in values.shape:
        raise ValueError(f"observed must be (K,) and null (K, B), got {t.shape} and {values.shape}")
    if not np.isfinite(t).all() or not np.isfinite(values).all():
        raise ValueError("a statistic is NaN or infinite under the data or a relabelling")
    tails = [tail] * t.size if isinstance(tail, str) else list(tail)
    if len(tails) != t.size or not set(tails) <= {"upper", "lower", "both"}:
        raise ValueError(f"tail must be one of upper, lower, both (for each of {t.size}): {tail}")
    table = np.column_stack([t, values])
    spread = table.std(axis=1, keepdims=True)
    # A statistic that never changes is never extreme: all its z are 0.
    z = (table - table.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1.0)
    for k, kind in enumerate(tails):
        if kind == "lower":
            z[k] = -z[k]
        elif kind == "both":
            z[k] = np.abs(z[k])
    order = np.argsort(-z[:, 0], kind="stable")
    # Row j: the largest over the statistics from rank j on.
    largest = np.maximum.accumulate(z[order][::-1], axis=0)[::-1]
    # 1e-9 of a standard deviation: equal up to rounding is a tie.
    raw = (largest >= z[order, :1] - 1e-9).mean(axis=1)
    adjusted = np.empty(t.size)
    adjusted[order] = np.maximum.accumulate(raw)
    return adjusted


def delete_half_se(values: npt.ArrayLike, size: int, n: int) -> float:
    """Give the standard error of a statistic on n units from its values on random subsets.

    The delete-d jackknife: for a mean, the variance over subsets of ``size`` units drawn without
    replacement is ``s2 (1/size - 1/n)``, that of the full mean ``s2/n``, so the factor between them
    is ``size / (n - size)``: 1 for halves. It carries over to every statistic that is smooth to
    first order, and unlike the delete-1 jackknife also holds for some that are not (quantiles).
    Where the first-order term vanishes (a U-statistic or a Fréchet distance at zero gap) the
    spread of half-samples is about sqrt(3) times too large: the error bar is then conservative.

    Parameters
    ----------
    values : array, shape (R,)
        The statistic on R random subsets; 50 give the error bar itself to about 10 %.
    size : int
        Units (groups, where there are any) in a subset.
    n : int
        Units in all. With two samples use the smaller n: the factor only falls with n.

    Returns
    -------
    float
        The standard error, in the statistic's unit.

    Raises
    ------
    ValueError
        If there are fewer than 2 values, one is not finite, or not ``0 < size < n``.

    References
    ----------
    Shao & Wu 1989, A general theory for jackknife variance estimation, Ann. Statist. 17(3).
    """
    v = np.asarray(values, dtype=np.float64)
    if v.ndim != 1 or v.size < 2:
        raise ValueError(f"values must have shape (R,) with R >= 2, got {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError("values holds NaN or infinity")
    if not 0 < size < n:
        raise ValueError(f"size must lie in 1..{n - 1}, got {size}: a whole sample has no spread")
    return float(v.std(ddof=1) * np.sqrt(size / (n - size)))


def half_sample_interval(
    value: float,
    halves: npt.ArrayLike,
    level: float,
    *,
    bounds: tuple[float, float] = (0.0, np.inf),
) -> Interval:
    """Give the interval of a population's value from that of a sample and of halves of it.

    For statistics with a bias in 1/n, as squared distances have: twice the value less the mean of
    the halves is free of it to first order. The error is that of :func:`delete_half_se` and of the
    mean of the halves, with Student's quantile for their number. The (biased) value itself may lie
    outside.

    Parameters
    ----------
    value : float
        The statistic on all rows.
    halves : array, shape (R,), R >= 2
        The statistic with a random half of the rows (of each side).
    level : float
        Nominal coverage.
    bounds : tuple of float
        Range of the statistic; the interval is cut to it.

    Returns
    -------
    Interval
        Method ``"delete-half, bias removed"``.

    Raises
    ------
    ValueError
        As :func:`delete_half_se`; if ``level`` does not lie in (0, 1).

    References
    ----------
    Shao & Wu 1989, Ann. Statist. 17(3), for the error; Quenouille 1956, Biometrika 43, for bias.
    """
    v = np.asarray(halves, dtype=np.float64)
    error = delete_half_se(v, 1, 2) * np.sqrt(1 + 1 / v.size)
    half = float(stdtrit(v.size - 1, (1 + level) / 2)) * error
    centre = 2 * value - float(v.mean())
    low, high = (min(max(end, bounds[0]), bounds[1]) for end in (centre - half, centre + half))
    return Interval(low, high, level, "delete-half, bias removed")
