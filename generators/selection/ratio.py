"""How much more likely a synthetic sample is under the real distribution than under its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ...metrics._check import Array, groups_of, pair

F64: TypeAlias = npt.NDArray[np.float64]
RatioMethod: TypeAlias = Literal["classifier", "ulsif", "kliep"]

FEWEST = 30
"""The smallest effective sample size that is worth anything."""
_FURTHEST = 5.0
_LEAST_COVERED = 0.1
_NEIGHBOURS = 5
_REMEDY = "correct the synthetic set first, or generate more of what is missing"
_CENTRES = 100
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
_WIDTHS = (0.5, 0.7, 1.0, 1.4, 2.0)


class TooFewEffectiveError(DataError):
    """Weights under which so few samples count that the weighted set is no set any more."""


@dataclass(frozen=True, slots=True, eq=False)
class DensityRatio:
    """Weights that make the synthetic set look like the real one.

    Attributes
    ----------
    weights : float array, shape (m,)
        Estimates of p_real / p_synthetic, at least 0; their mean is 1.
    effective_sample_size : float
        ``(Σw)² / Σw²``: as many equally weighted samples would be as good; 1 to m.
    method : str
        How they were estimated.
    clipped : int
        Weights that were cut off at the limit.
    """

    weights: F64
    effective_sample_size: float
    method: RatioMethod
    clipped: int


def density_ratio(
    real: Array,
    synthetic: Array,
    *,
    method: RatioMethod = "classifier",
    groups_real: Sequence[object] | None = None,
    groups_synthetic: Sequence[object] | None = None,
    components: int = 16,
    folds: int = 5,
    limit: float = 20.0,
    fewest: float = FEWEST,
    seed: int = 0,
) -> DensityRatio:
    """Estimate importance weights of the synthetic samples.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features by the same encoder.
    method : {"classifier", "ulsif", "kliep"}
        ``classifier``: odds of a logistic regression, each sample scored by one that was not
        trained on it. ``ulsif``: least squares on Gaussian kernels, in closed form; ``kliep``:
        maximum likelihood on the same kernels. The kernels' width, and uLSIF's penalty, are chosen
        by cross-validation.
    groups_real, groups_synthetic : sequence, optional
        Groups that are never in training and scored at once (``classifier``).
    components : int
        The ratio is estimated on so many leading principal components of both sets together: in
        hundreds of dimensions any two finite sets can be told apart, and all weights would be 0.
    folds : int
        For cross-fitting and cross-validation.
    limit : float
        Weights above so many times the mean are cut off: one sample must not be the set.
    fewest : float
        The smallest effective sample size that is accepted.
    seed : int
        Of folds and kernel centres.

    Returns
    -------
    DensityRatio

    Raises
    ------
    TooFewEffectiveError
        If the effective sample size is under ``fewest``, or hardly any real sample has a synthetic
        one near: reweighting cannot mend sets that hardly overlap.
    ValueError
        If an argument is out of range, or a side has fewer rows than folds.

    Notes
    -----
    It sees what the components keep of the encoder's features. Weighting moves mass onto what is
    there: it cannot make a mode that the synthetic set does not have.

    References
    ----------
    Sugiyama, Suzuki & Kanamori 2012, Density ratio estimation in machine learning. Sugiyama et al.
    2008, Direct importance estimation for covariate shift adaptation (KLIEP). Kanamori, Hido &
    Sugiyama 2009, A least-squares approach to direct importance estimation, JMLR 10 (uLSIF). Kong
    1992 (effective sample size).
    """
    if method not in get_args(RatioMethod):
        raise ValueError(f"method must be one of {get_args(RatioMethod)}, got {method!r}")
    if folds < 2 or components < 1 or not limit > 1:
        raise ValueError(
            f"need folds of 2 or more, components of 1 or more and a limit above 1, got {folds}, "
            f"{components}, {limit}"
        )
    a, b = (x.cpu().numpy() for x in pair(real, synthetic, min_n=folds))
    left, right = _components(a, b, components)
    _check_overlap(left, right)
    rng = np.random.default_rng(seed)
    if method == "classifier":
        codes = (
            groups_of(groups_real, len(a), "groups_real"),
            groups_of(groups_synthetic, len(b), "groups_synthetic"),
        )
        raw = _classifier(left, right, codes, folds, rng)
    elif method == "ulsif":
        raw = _ulsif(left, right, folds, rng)
    else:
        raw = _kliep(left, right, folds, rng)
    # Under the true ratio the mean is 1; far from it, what is left are ratios of rounding errors.
    if not 1 / _FURTHEST <= raw.mean() <= _FURTHEST:
        raise TooFewEffectiveError(
            f"the weights have a mean of {raw.mean():.2g} where 1 is right: the sets hardly "
            f"overlap in these features; {_REMEDY}"
        )
    top = limit * raw.mean()
    weights = np.minimum(raw, top)
    weights /= weights.mean()
    effective = effective_sample_size(weights)
    if effective < fewest:
        raise TooFewEffectiveError(
            f"the weights leave an effective sample size of {effective:.1f} of {len(b)} (at least "
            f"{fewest:g} are needed): the sets hardly overlap; {_REMEDY}"
        )
    return DensityRatio(weights, effective, method, int((raw > top).sum()))


def _check_overlap(a: F64, b: F64) -> None:
    """Refuse sets of which a kernel or a classifier would only extrapolate the ratio."""
    from ...metrics.distribution.manifold import precision_recall_density_coverage

    k = min(_NEIGHBOURS, len(a) - 1, len(b) - 1)
    covered = precision_recall_density_coverage(a, b, k=k, level=None).coverage
    if covered < _LEAST_COVERED:
        raise TooFewEffectiveError(
            f"only {covered:.1%} of the real samples have a synthetic one near: the sets hardly "
            f"overlap; {_REMEDY}"
        )


def effective_sample_size(weights: npt.ArrayLike) -> float:
    """Give Kong's effective sample size, ``(Σw)² / Σw²``.

    Parameters
    ----------
    weights : array, shape (m,)
        At least 0, not all of them 0.

    Returns
    -------
    float
        1 (one sample has all the weight) to m (all have the same).

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are 0.
    """
    w = np.asarray(weights, np.float64)
    if w.ndim != 1 or not np.isfinite(w).all() or (w < 0).any() or not w.any():
        raise ValueError("weights must be finite, at least 0, and not all of them 0")
    return float(w.sum() ** 2 / (w**2).sum())


def keep_by_weight(ratio: DensityRatio, n: int | None = None, *, seed: int = 0) -> list[int]:
    """Draw samples without replacement, each with a chance that grows with its weight.

    Parameters
    ----------
    ratio : DensityRatio
    n : int, optional
        How many; by default the effective sample size, at most half of the set: of all samples
        there would be nothing to choose.
    seed : int

    Returns
    -------
    list of int
        Rows of the synthetic set, ascending.

    Raises
    ------
    ValueError
        If more are asked for than have a weight above 0.

    References
    ----------
    Efraimidis & Spirakis 2006, Weighted random sampling with a reservoir (by exponential keys).
    """
    m = len(ratio.weights)
    possible = int(np.count_nonzero(ratio.weights))
    if n is None:
        n = min(int(ratio.effective_sample_size), m // 2, possible)
    if not 1 <= n <= possible:
        raise ValueError(f"n must be from 1 to {possible} (weights above 0), got {n}")
    keys = np.random.default_rng(seed).exponential(size=m)
    with np.errstate(divide="ignore"):
        keys = keys / ratio.weights
    return sorted(np.argsort(keys, kind="stable")[:n].tolist())


def _components(a: F64, b: F64, k: int) -> tuple[F64, F64]:
    """Give the leading principal components of both sides, each with variance 1."""
    z = np.concatenate([a, b])
    z = z - z.mean(axis=0)
    k = min(k, *z.shape)
    u, s, _ = np.linalg.svd(z, full_matrices=False)
    kept = s[:k] > 1e-9 * max(s[0], 1e-300)
    scores = u[:, :k][:, kept] * np.sqrt(len(z))
    if not scores.size:
        raise DataError("all features of both sets are the same: there is no ratio to estimate")
    return scores[: len(a)], scores[len(a) :]


def _folds(
    n: int, groups: npt.NDArray[np.int_] | None, folds: int, rng: np.random.Generator
) -> npt.NDArray[np.int_]:
    units = n if groups is None else int(groups.max()) + 1
    fold = rng.permutation(np.arange(units) % folds)
    return fold if groups is None else fold[groups]


def _classifier(
    a: F64,
    b: F64,
    groups: tuple[npt.NDArray[np.int_] | None, npt.NDArray[np.int_] | None],
    folds: int,
    rng: np.random.Generator,
) -> F64:
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    fold_a, fold_b = (_folds(len(x), g, folds, rng) for x, g in zip((a, b), groups, strict=True))
    out = np.zeros(len(b))
    for k in range(folds):
        train_a, train_b = a[fold_a != k], b[fold_b != k]
        held = fold_b == k
        if not held.any():
            continue
        if not len(train_a) or not len(train_b):
            raise DataError("too few groups to leave one out: give more groups, or fewer folds")
        x = np.concatenate([train_a, train_b])
        y = np.arange(len(x)) < len(train_a)
        inner = StratifiedKFold(folds, shuffle=True, random_state=int(rng.integers(2**31)))
        # A classifier that is too sure of itself gives odds that are too extreme, held out or not:
        # the penalty is chosen by the likelihood of what it has not seen.
        strength = max(
            _STRENGTHS,
            key=lambda c: cross_val_score(
                _logistic(c), x, y, cv=inner, scoring="neg_log_loss"
            ).mean(),
        )
        model = _logistic(strength).fit(x, y)
        odds = np.exp(np.clip(model.decision_function(b[held]), -30, 30))
        out[held] = odds * len(train_b) / len(train_a)
    return out


def _logistic(strength: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000, solver="newton-cholesky")


def _kernels(x: F64, centres: F64, width: float) -> F64:
    squared = ((x[:, None] - centres[None]) ** 2).sum(axis=2)
    return np.asarray(np.exp(-squared / (2 * width**2)))


def _widths(a: F64, centres: F64) -> list[float]:
    distance = np.sqrt(((a[:, None] - centres[None]) ** 2).sum(axis=2))
    middle = float(np.median(distance[distance > 0])) if (distance > 0).any() else 1.0
    return [middle * factor for factor in _WIDTHS]


def _centres(a: F64, rng: np.random.Generator) -> F64:
    return a[np.sort(rng.permutation(len(a))[:_CENTRES])]


def _ulsif(a: F64, b: F64, folds: int, rng: np.random.Generator) -> F64:
    centres = _centres(a, rng)
    fold_a, fold_b = _folds(len(a), None, folds, rng), _folds(len(b), None, folds, rng)

    def solved(phi_a: F64, phi_b: F64, penalty: float) -> F64:
        h = phi_b.T @ phi_b / len(phi_b) + penalty * np.eye(len(centres))
        return np.maximum(np.linalg.solve(h, phi_a.mean(axis=0)), 0)

    best: tuple[float, float, float] | None = None
    for width in _widths(a, centres):
        phi_a, phi_b = _kernels(a, centres, width), _kernels(b, centres, width)
        for penalty in _PENALTIES:
            scores = []
            for k in range(folds):
                theta = solved(phi_a[fold_a != k], phi_b[fold_b != k], penalty)
                on_a, on_b = phi_a[fold_a == k] @ theta, phi_b[fold_b == k] @ theta
                scores.append((on_b**2).mean() / 2 - on_a.mean())
            if best is None or np.mean(scores) < best[0]:
                best = float(np.mean(scores)), width, penalty
    if best is None:
        raise DataError("no width of the kernels could be tried")
    _, width, penalty = best
    phi_a, phi_b = _kernels(a, centres, width), _kernels(b, centres, width)
    return np.asarray(phi_b @ solved(phi_a, phi_b, penalty))


def _kliep(a: F64, b: F64, folds: int, rng: np.random.Generator) -> F64:
    centres = _centres(a, rng)
    fold = _folds(len(a), None, folds, rng)

    def fitted(phi_a: F64, mean_b: F64) -> F64:
        # EM steps of a mixture with known components: monotone, no step size, and theta >= 0.
        theta = np.full(len(centres), 1 / (mean_b.sum() + 1e-300))
        for _ in range(300):
            w = phi_a @ theta
            step = theta * (phi_a / np.maximum(w, 1e-300)[:, None]).mean(axis=0)
            step = step / np.maximum(mean_b, 1e-300)
            change = np.abs(step - theta).max()
            theta = step
            if change <= 1e-8 * theta.max():
                break
        return theta

    best: tuple[float, float] | None = None
    for width in _widths(a, centres):
        phi_a, mean_b = _kernels(a, centres, width), _kernels(b, centres, width).mean(axis=0)
        scores = [
            np.log(np.maximum(phi_a[fold == k] @ fitted(phi_a[fold != k], mean_b), 1e-30)).mean()
            for k in range(folds)
        ]
        if best is None or np.mean(scores) > best[0]:
            best = float(np.mean(scores)), width
    if best is None:
        raise DataError("no width of the kernels could be tried")
    phi_b = _kernels(b, centres, best[1])
    theta = fitted(_kernels(a, centres, best[1]), phi_b.mean(axis=0))
    return np.asarray(phi_b @ theta)
