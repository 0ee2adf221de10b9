"""The classifier two-sample test: how well a classifier tells synthetic from real.

The classifier is ridge regression on the label, which has the direction of Fisher's discriminant
with a shrunken covariance. It is linear in the labels: one factorisation serves the observed
labelling and every permuted one, so that a permutation test with true refits costs a few matrix
products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from .._check import Array, features, groups_of, pair
from .._result import Interval, Scalar
from ..inference import p_value, permutation_masks
from ._wilson import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    Groups = Sequence[object] | np.ndarray | None

_LOOKED_AT = 20
"""Relabellings whose DeLong error is compared with the spread of them all."""

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class ClassifierResult(Scalar):
    """How well a held-out linear classifier tells the sets apart; ``float()`` gives the effect.

    Attributes
    ----------
    value, effect : float
        ``2 auc - 1``: 0 when the classifier learns nothing, 1 when it is never wrong. Under 0
        by chance, and where one set copies the other without common groups: a held-out sample's
        twin is then in training with the other label.
    auc : float
        Chance that a synthetic sample scores above a real one of its own fold, ties half.
    ci : Interval
        Confidence interval of the effect at these sample sizes.
    standard_error : float
        Standard error of the effect.
    p_value : float or None
        Exact under the null hypothesis; None when no permutations were asked for.
    p_method : str
        How it was made.
    balanced_accuracy : float
        Mean of the shares of real and of synthetic samples on their own side of the threshold.
    tv_lower_bound : float
        Lower confidence bound, one-sided at the interval's level, of the total variation distance
        between the two distributions, by ``TV >= 2 balanced accuracy - 1``; 0 to 1.
    null : float array, shape (permutations,)
        The AUC of each relabelling with refits; NaN is left out.
    scores_real, scores_synthetic : float array, shape (n,), (m,)
        Held-out score of every sample: about -1 at the mean of the real training samples, +1 at
        that of the synthetic ones, 0 at the threshold; the higher, the more synthetic-looking.
    folds : int
        Parts that took turns as held-out data.
    n_real, n_synthetic : int
        Samples on each side.
    """

    auc: float
    ci: Interval
    standard_error: float
    p_value: float | None
    p_method: str
    balanced_accuracy: float
    tv_lower_bound: float
    null: Floats
    scores_real: Floats
    scores_synthetic: Floats
    folds: int
    n_real: int
    n_synthetic: int

    @property
    def effect(self) -> float:
        """The value: ``2 auc - 1``."""
        return self.value


def classifier_two_sample_test(
    real: Array,
    synthetic: Array,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    folds: int = 5,
    penalty: float = 1.0,
    scale: Array | None = None,
    permutations: int = 499,
    level: float = 0.95,
    seed: int = 0,
) -> ClassifierResult:
    """Train a linear classifier to tell synthetic from real, and test it on held-out samples.

    Parameters
    ----------
    real : array, shape (n, d)
        Features of the real samples.
    synthetic : array, shape (m, d)
        Features of the synthetic samples, by the same encoder.
    groups_real, groups_synthetic : sequence, optional
        Group (source, speaker, scene) of each sample. A group is never in training and held-out
        data at once, and is permuted whole. The same label on both sides is one group.
    folds : int
        Parts that take turns as held-out data; at most one for each group is used.
    penalty : float
        Ridge penalty, in units of the mean squared norm of a training sample: large enough to keep
        directions that n samples cannot tell from noise out, and without effect when n >> d.
    scale : array, shape (d,), optional
        Divide the features by this. By default each fold divides by the standard deviation of its
        training part.
    permutations : int
        Relabellings for the p-value, each with the classifier trained anew; 0 for none.
    level : float
        Level of the interval and of the bound.
    seed : int
        Seed of the folds and of the permutations.

    Returns
    -------
    ClassifierResult
        Effect, interval, p-value, and a held-out score for every sample.

    Raises
    ------
    ValueError
        If the samples or groups are too few to train and test on both sides, or a value is not
        finite.

    Notes
    -----
    Best 0. A linear classifier on these features sees a shift of means, and no more: sets with
    equal means and different spreads or modes can have effect 0. The more samples, the more it
    learns: compare only at equal sizes.

    Folds are drawn without a look at the labels, scores are compared within a fold only, and
    `permutations` relabellings repeat all training and testing. The p-value ``(1+k)/(B+1)`` is
    then exact, although cross-fitted scores are not independent (a Mann-Whitney test on pooled
    scores would reject too often).

    The interval is Wilson's with DeLong's standard error by fold and by group. That error takes
    the classifiers as given, and is too small by about a third near effect 0: it is multiplied by
    the ratio that the permutations show between the spread of the AUC and its usual DeLong error.
    Without permutations it is not, and the interval is too short.

    References
    ----------
    Lopez-Paz & Oquab 2017, Revisiting classifier two-sample tests, ICLR. LeDell, Petersen & van der
    Laan 2015, Computationally efficient confidence intervals for cross-validated AUC, EJS 9.
    DeLong et al. 1988, Biometrics 44. Kim, Ramdas, Singh & Wasserman 2021, Classification accuracy
    as a proxy for two-sample testing, Ann. Statist. 49.
    """
    a, b = pair(real, synthetic)
    n, m = a.shape[0], b.shape[0]
    if permutations < 0:
        raise ValueError(f"permutations must be at least 0, got {permutations}")
    x = torch.cat([a, b])
    groups = _pooled_groups(groups_real, groups_synthetic, n, m)
    fold = _draw_folds(n + m, groups, folds, seed)
    labels = np.arange(n + m) >= n
    _check_training(labels, fold)

    observed = labels[:, None]
    y = observed
    if permutations:
        _, relabelled = permutation_masks(n, m, permutations, groups=groups, seed=seed + 1)
        y = np.concatenate([observed, relabelled], axis=1)
    weight = None if scale is None else _weight(scale, x)
    scores = _Ridge(x, fold, penalty, weight).scores(y)
    aucs = _auc(scores, y, fold)
    auc = float(aucs[0])
    if not np.isfinite(auc):
        raise ValueError(
            f"no fold holds samples of both sides ({n} real, {m} synthetic, "
            f"{int(fold.max()) + 1} folds): use fewer folds, or finer groups"
        )
    score = scores[:, 0].cpu().numpy()
    null = aucs[1:][np.isfinite(aucs[1:])]

    inflation = 1.0
    if null.size > 1:
        some = [0, *(1 + np.flatnonzero(np.isfinite(aucs[1:]))[:_LOOKED_AT])]
        errors = _standard_errors(scores[:, some], y[:, some], fold, groups, aucs[some])
        typical = float(np.sqrt(np.mean(errors[1:] ** 2)))
        if typical > 0:
            inflation = max(1.0, float(null.std(ddof=1)) / typical)
    else:
        errors = _standard_errors(scores[:, :1], observed, fold, groups, aucs[:1])
    error = inflation * float(errors[0])
    units = float(min(_count(groups, ~labels), _count(groups, labels)))
    units /= inflation**2
    interval = wilson(auc, error, units, level, "")
    low, high = 2 * interval.low - 1, 2 * interval.high - 1

    # A score on the threshold is right half of the time.
    right = np.where(labels, score > 0, score < 0) + 0.5 * (score == 0)
    share = {side: float(right[labels == side].mean()) for side in (False, True)}
    accuracy = (share[False] + share[True]) / 2
    deviation = np.where(labels, (right - share[True]) / m, (right - share[False]) / n) / 2
    # A one-sided bound at `level` is an end of the two-sided interval at 2 level - 1.
    doubt = inflation * _clustered(deviation, groups)
    bound = wilson(accuracy, doubt, units, max(2 * level - 1, 0.01), "")
    return ClassifierResult(
        value=2 * auc - 1,
        auc=auc,
        ci=Interval(
            low,
            high,
            level,
            "delong-wilson, widened by permutation" if permutations else "delong-wilson",
        ),
        standard_error=2 * error,
        p_value=p_value(auc, null, "upper", tie=1e-12) if permutations else None,
        p_method="label permutation with refits" if permutations else "none",
        balanced_accuracy=accuracy,
        tv_lower_bound=max(0.0, 2 * bound.low - 1),
        null=null,
        scores_real=score[:n],
        scores_synthetic=score[n:],
        folds=int(fold.max()) + 1,
        n_real=n,
        n_synthetic=m,
    )


def classifier_splits(
    Z: Array,
    first: Bools,
    second: Bools,
    *,
    folds: int = 5,
    penalty: float = 1.0,
    scale: Array | None = None,
    groups: Groups = None,
    seed: int = 0,
) -> Floats:
    """Give the classifier's effect on many pairs of subsets of one pooled matrix.

    Column r equals ``classifier_two_sample_test(Z[first[:, r]], Z[second[:, r]], …).effect`` with
    the same `folds`, `penalty`, `scale`, groups and `seed`. One scale for all columns makes one
    Gram matrix serve them all.

    Parameters
    ----------
    Z : array, shape (N, d)
        Pooled features.
    first, second : bool array, shape (N, R)
        Rows in the role of real and of synthetic; disjoint in each column.
    folds, penalty, seed
        As for :func:`classifier_two_sample_test`.
    scale : array, shape (d,), optional
        Divide the features by this; by default by the standard deviation of all rows of Z.
    groups : sequence, length N, optional
        Group of each pooled row.

    Returns
    -------
    float64 array, shape (R,)
        ``2 auc - 1`` in each column.

    Raises
    ------
    ValueError
        As :func:`classifier_two_sample_test`.
    """
    z = features(Z, "Z", min_n=4)
    n = z.shape[0]
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] != n:
        raise ValueError(
            f"first and second must both have shape ({n}, R), got {first.shape} and {second.shape}"
        )
    if bool((first & second).any()):
        raise ValueError("first and second have a row in common")
    codes = groups_of(groups, n, "groups")
    weight = _weight(pooled_scale(z) if scale is None else scale, z)
    z = z - z.mean(dim=0)
    gram: torch.Tensor | None = None
    out = np.empty(first.shape[1])
    for r in range(out.size):
        rows = np.concatenate([np.flatnonzero(first[:, r]), np.flatnonzero(second[:, r])])
        labels = np.arange(rows.size) >= int(first[:, r].sum())
        fold = _draw_folds(rows.size, None if codes is None else codes[rows], folds, seed)
        _check_training(labels, fold)
        index = torch.from_numpy(rows).to(z.device)
        part = None
        if rows.size - int(np.bincount(fold).max()) <= z.shape[1]:
            if gram is None:
                scaled = z * weight
                gram = scaled @ scaled.T
            part = gram[index[:, None], index]
        y = labels[:, None]
        scores = _Ridge(z[index], fold, penalty, weight, part).scores(y)
        out[r] = 2 * _auc(scores, y, fold)[0] - 1
        if not np.isfinite(out[r]):
            raise ValueError(f"column {r}: no fold holds rows of both sides; use fewer folds")
    return out


def pooled_scale(Z: Array) -> torch.Tensor:
    """Give the standard deviation of each column of Z, shape (d,); 0 for a constant one."""
    z = features(Z, "Z")
    spread = z.std(dim=0, correction=0)
    return torch.where(z.amax(dim=0) == z.amin(dim=0), 0.0, spread)


# Folds ------------------------------------------------------------------------------------------


def _pooled_groups(real: Groups, synthetic: Groups, n: int, m: int) -> npt.NDArray[np.intp] | None:
    """Group codes of the pooled rows; the same label on both sides is one group."""
    if real is None and synthetic is None:
        return None
    # Tagged, so that a lone row's own name cannot equal a label.
    names = []
    for given, size, name in ((real, n, "real"), (synthetic, m, "synthetic")):
        if given is None:
            names += [f"{name} row {i:012d}" for i in range(size)]
            continue
        groups_of(given, size, f"groups_{name}")
        names += [f"group {g}" for g in given]
    return groups_of(names, n + m, "groups")


def _draw_folds(
    n: int, groups: npt.NDArray[np.intp] | None, folds: int, seed: int
) -> npt.NDArray[np.intp]:
    """Draw folds without a look at the labels: else permuting them would not be exact."""
    if folds < 2:
        raise ValueError(f"folds must be at least 2, got {folds}")
    groups = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    size = np.bincount(groups)
    if size.size < 2:
        raise ValueError(
            "all samples are in one group: none can be held out. Give finer groups, or none"
        )
    filled = np.zeros(min(folds, size.size), dtype=int)
    of_group = np.empty(size.size, dtype=np.intp)
    for g in np.random.default_rng(seed).permutation(size.size):
        of_group[g] = int(np.argmin(filled))
        filled[of_group[g]] += size[g]
    return of_group[groups]


def _check_training(labels: Bools, fold: npt.NDArray[np.intp]) -> None:
    for f in range(int(fold.max()) + 1):
        kept = labels[fold != f]
        if kept.all() or not kept.any():
            raise ValueError(
                f"without fold {f} only {'synthetic' if kept.all() else 'real'} samples are left "
                f"to train on ({int((~labels).sum())} real and {int(labels.sum())} synthetic in "
                "all): add samples, or give finer groups"
            )


# The classifier ---------------------------------------------------------------------------------


def _weight(scale: Array, x: torch.Tensor) -> torch.Tensor:
    s = torch.as_tensor(scale, dtype=torch.float64, device=x.device)
    if s.shape != (x.shape[1],) or not bool((torch.isfinite(s) & (s >= 0)).all()):
        raise ValueError(
            f"scale must hold {x.shape[1]} finite numbers of at least 0, got shape {tuple(s.shape)}"
        )
    return torch.where(s > 0, 1 / s, 0.0)


class _Ridge:
    """Held-out ridge scores, for any number of labellings of the same rows and folds.

    With centred training features X and labels y the direction is ``(X'X + c I)^-1 X'y``, or, with
    fewer rows than columns, ``X'(XX' + c I)^-1 y``; c is the penalty times the mean squared norm.
    """

    def __init__(
        self,
        x: torch.Tensor,
        fold: npt.NDArray[np.intp],
        penalty: float,
        weight: torch.Tensor | None,
        gram: torch.Tensor | None = None,
    ) -> None:
        if not penalty > 0:
            raise ValueError(f"penalty must be above 0, got {penalty}")
        self.penalty = penalty
        self.weight = weight
        self.gram = gram
        self.fold = torch.from_numpy(fold).to(x.device)
        self.folds = int(fold.max()) + 1
        # Near the origin and of unit scale, no sum of squares below can cancel.
        spread = pooled_scale(x)
        self.unit = torch.where(spread > 0, spread, 1.0)
        self.x = (x - x.mean(dim=0)) / self.unit

    def scores(self, labels: Bools) -> torch.Tensor:
        """Give held-out scores (N, B) for labels (N, B), -1 and +1 at the training means."""
        y = torch.from_numpy(labels).to(self.x.device, torch.float64)
        out = torch.empty_like(y)
        parts: list[tuple[torch.Tensor, ...]] = []
        whole: tuple[torch.Tensor, ...] = ()
        for f in range(self.folds):
            test = torch.nonzero(self.fold == f).flatten()
            train = torch.nonzero(self.fold != f).flatten()
            share = y[train].mean(dim=0)
            if self.gram is not None:
                raw, q = self._by_gram(train, test, y[train] - share)
            elif train.shape[0] <= self.x.shape[1]:
                raw, q = self._by_rows(train, test, y[train] - share)
            else:
                if not parts:
                    parts = [self._sums(y, self.fold == g) for g in range(self.folds)]
                    whole = tuple(sum(t[1:], t[0]) for t in zip(*parts, strict=True))
                sums = [w - p for w, p in zip(whole, parts[f], strict=True)]
                raw, q = self._by_columns(sums, test, train.shape[0], share)
            # q is the direction times X'y; the class means are q/ones and -q/zeros from the centre.
            ones, zeros = share * train.shape[0], (1 - share) * train.shape[0]
            middle = q / 2 * (1 / ones - 1 / zeros)
            half = q / 2 * (1 / ones + 1 / zeros)
            # No direction (constant features, or one class alone): nothing can be said.
            usable = (q > 0) & (ones > 0) & (zeros > 0)
            out[test] = torch.where(usable, (raw - middle) / half, 0.0)
        return out

    def _scaling(self, variance: torch.Tensor) -> torch.Tensor:
        if self.weight is not None:
            return self.weight * self.unit
        # Features are of unit scale here: a variance like this is rounding.
        return torch.where(variance > 1e-12, variance.clamp_min(1e-12).rsqrt(), 0.0)

    def _sums(self, y: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
        part = self.x[rows]
        return part.T @ part, part.T @ y[rows], part.sum(dim=0)

    def _by_columns(
        self, sums: list[torch.Tensor], test: torch.Tensor, n: int, share: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        scatter, product, total = sums
        mean = total / n
        scatter.addr_(mean, mean, alpha=-n)
        weight = self._scaling(scatter.diagonal() / n)
        scatter.mul_(weight).mul_(weight[:, None])
        v = product.addr_(mean, share, alpha=-n).mul_(weight[:, None])
        w, q = self._solve(scatter, v, n)
        return ((self.x[test] - mean) * weight) @ w, q

    def _by_rows(
        self, train: torch.Tensor, test: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kept = self.x[train]
        mean = kept.mean(dim=0)
        kept = kept - mean
        weight = self._scaling(kept.square().mean(dim=0))
        kept = kept * weight
        held = (self.x[test] - mean) * weight
        return self._dual(kept @ kept.T, held @ kept.T, y)

    def _by_gram(
        self, train: torch.Tensor, test: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if self.gram is None:
            raise ValueError("no Gram matrix was given")
        kept = self.gram[train[:, None], train]
        held = self.gram[test[:, None], train]
        mean = kept.mean(dim=0)
        centre = mean.mean()
        held = held - held.mean(dim=1, keepdim=True) - mean + centre
        return self._dual(kept - mean - mean[:, None] + centre, held, y)

    def _dual(
        self, kept: torch.Tensor, held: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        n = kept.shape[0]
        ridge = self.penalty * kept.trace() / n
        if float(ridge) <= 0:
            return torch.zeros_like(held @ y), torch.zeros_like(y[0])
        product = kept @ y
        factor = torch.linalg.cholesky(kept + ridge * torch.eye(n, dtype=y.dtype, device=y.device))
        alpha = torch.cholesky_solve(y, factor)
        return held @ alpha, (product * alpha).sum(dim=0)

    def _solve(
        self, scatter: torch.Tensor, v: torch.Tensor, n: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ridge = self.penalty * scatter.trace() / n
        if float(ridge) <= 0:
            return torch.zeros_like(v), torch.zeros_like(v[0])
        scatter.diagonal().add_(ridge)
        w = torch.cholesky_solve(v, torch.linalg.cholesky(scatter))
        return w, (v * w).sum(dim=0)


# Ranks ------------------------------------------------------------------------------------------


def _placements(
    scores: torch.Tensor, y: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Order each row; per place, the number of zeros below plus half of those tied, and y."""
    # Copies of one sample must tie, whatever a matrix product's rounding made of them.
    grid = scores.abs().amax(dim=1, keepdim=True).clamp_min(1e-300) * 2.0**-36
    value, order = (scores / grid).round().sort(dim=1)
    ones = y.gather(1, order)
    n = value.shape[1]
    tied = value[:, 1:] == value[:, :-1]
    zeros = torch.zeros((value.shape[0], n + 1), dtype=y.dtype, device=y.device)
    torch.cumsum(1 - ones, dim=1, out=zeros[:, 1:])
    low, high = zeros[:, :-1], zeros[:, 1:]
    if bool(tied.any()):
        # Zeros before the first and up to the last of each run of equal scores; both only grow.
        edge = torch.nn.functional.pad(tied, (1, 0))
        low = torch.where(edge, 0.0, low).cummax(dim=1).values
        edge = torch.nn.functional.pad(tied, (0, 1))
        high = torch.where(edge, torch.inf, high).flip(1).cummin(dim=1).values.flip(1)
    return (low + high) / 2, ones, order


def _auc(scores: torch.Tensor, labels: Bools, fold: npt.NDArray[np.intp]) -> Floats:
    """Share of right pairs within folds, per column; NaN where no fold has a pair."""
    y = torch.from_numpy(labels.T.copy()).to(scores.device, torch.float64)
    scores = scores.T.contiguous()
    right = torch.zeros(scores.shape[0], dtype=torch.float64, device=scores.device)
    pairs = torch.zeros_like(right)
    for f in range(int(fold.max()) + 1):
        part = torch.from_numpy(np.flatnonzero(fold == f)).to(scores.device)
        below, ones, _ = _placements(scores[:, part], y[:, part])
        right += (below * ones).sum(dim=1)
        pairs += ones.sum(dim=1) * (1 - ones).sum(dim=1)
    return np.asarray((right / pairs).cpu().numpy())


def _standard_errors(
    scores: torch.Tensor,
    labels: Bools,
    fold: npt.NDArray[np.intp],
    groups: npt.NDArray[np.intp] | None,
    aucs: Floats,
) -> Floats:
    """Give DeLong's standard error of each column's AUC, by fold and by group.

    A sample adds its placement value's deviation, whichever fold it is in.
    """
    s = scores.T.cpu()
    y = torch.from_numpy(labels.T.astype(np.float64))
    auc = torch.from_numpy(aucs)[:, None]
    added = torch.zeros_like(y)
    pairs = torch.zeros_like(auc)
    for f in range(int(fold.max()) + 1):
        part = torch.from_numpy(np.flatnonzero(fold == f))
        ones = y[:, part].sum(dim=1, keepdim=True)
        zeros = part.shape[0] - ones
        pairs += ones * zeros
        # Against real samples for the synthetic ones; for the real ones signs and labels turn.
        for sign, label, against in ((1, y[:, part], zeros), (-1, 1 - y[:, part], ones)):
            below, mine, order = _placements(sign * s[:, part], label)
            deviation = torch.where(mine > 0, below - auc * against, 0.0)
            added[:, part] += torch.zeros_like(deviation).scatter_(1, order, deviation)
    # n/(n-1) as in DeLong's sample covariances.
    for side in (y, 1 - y):
        size = side.sum(dim=1, keepdim=True)
        added *= torch.where(side > 0, (size / (size - 1).clamp_min(1)).sqrt(), 1.0)
    return np.array([_clustered(row, groups) for row in (added / pairs).numpy()])


def _clustered(deviation: Floats, groups: npt.NDArray[np.intp] | None) -> float:
    """Give the standard error of a sum of deviations that are dependent within groups."""
    if groups is not None:
        deviation = np.bincount(groups, weights=deviation).astype(np.float64)
    return float(np.sqrt((deviation**2).sum()))


def _count(groups: npt.NDArray[np.intp] | None, rows: Bools) -> int:
    return int(rows.sum()) if groups is None else int(np.unique(groups[rows]).size)
