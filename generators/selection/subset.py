"""Subsets of a synthetic set: those that lie like the real data, and those that keep their label.

Selection raises precision and can lower coverage: :func:`judged` gives both, before and after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from ...errors import DataError
from ...metrics._check import Array, pair

F64: TypeAlias = npt.NDArray[np.float64]
Probe: TypeAlias = Literal["knn", "linear"]

_RANDOM_SUBSETS = 10


@dataclass(frozen=True, slots=True)
class Shape:
    """Fidelity and diversity of a set, at its size.

    Attributes
    ----------
    n : int
        Samples.
    precision : float
        Share of them on the real manifold, 0 to 1.
    coverage : float
        Share of the real samples with one of them near, 0 to 1; it falls with n.
    """

    n: int
    precision: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Selected:
    """What was kept, and what that did.

    Attributes
    ----------
    rows : tuple of int
        Rows of the synthetic set, ascending.
    before, after : Shape
        Of the whole set and of what was kept, against real data that had no part in the choice.
    random : Shape
        Mean over random subsets of the same size: what smaller size alone does to coverage.
    """

    rows: tuple[int, ...]
    before: Shape
    after: Shape
    random: Shape


def judged(
    judge: Array, synthetic: Array, rows: Sequence[int], *, neighbours: int = 5, seed: int = 0
) -> Selected:
    """Give precision and coverage before and after a selection.

    Parameters
    ----------
    judge : array, shape (n, d)
        Features of real samples that had no part in the selection.
    synthetic : array, shape (m, d)
        Features of the whole synthetic set.
    rows : sequence of int
        What was kept.
    neighbours : int
        That make a ball.
    seed : int
        Of the random subsets.

    Returns
    -------
    Selected

    Raises
    ------
    DataError
        If fewer samples were kept than make a ball.
    ValueError
        If a row is out of range or comes twice.
    """
    a, b = pair(judge, synthetic)
    kept = sorted(int(r) for r in rows)
    if len(set(kept)) < len(kept) or (kept and not 0 <= kept[0] <= kept[-1] < len(b)):
        raise ValueError(f"rows must be distinct and from 0 to {len(b) - 1}")
    if len(kept) <= neighbours:
        raise DataError(
            f"only {len(kept)} of {len(b)} samples were kept, and more than {neighbours} are "
            "needed to judge them: select less strictly"
        )
    rng = np.random.default_rng(seed)
    chance = [
        _shape(a, b[np.sort(rng.permutation(len(b))[: len(kept)])], neighbours)
        for _ in range(_RANDOM_SUBSETS)
    ]
    return Selected(
        rows=tuple(kept),
        before=_shape(a, b, neighbours),
        after=_shape(a, b[kept], neighbours),
        random=Shape(
            len(kept),
            float(np.mean([s.precision for s in chance])),
            float(np.mean([s.coverage for s in chance])),
        ),
    )


def _shape(real: Any, synthetic: Any, k: int) -> Shape:
    from ...metrics.distribution.manifold import precision_recall_density_coverage

    found = precision_recall_density_coverage(real, synthetic, k=k, level=None)
    return Shape(len(synthetic), found.precision, found.coverage)


def herding(real: Array, synthetic: Array, n: int) -> list[int]:
    """Choose the subset whose mean embedding is nearest to the real one, greedily.

    Each step takes the sample that is most like the real data and least like what was taken: it
    keeps what is near *and* diverse.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features by the same encoder.
    n : int
        How many to keep, 1 to m.

    Returns
    -------
    list of int
        Rows, in the order in which they were taken: the first k are the choice of k.

    Raises
    ------
    ValueError
        If n is out of range.

    Notes
    -----
    A Gaussian kernel with the median distance as its width, O(m (n + m)) time and memory.

    References
    ----------
    Chen, Welling & Smola 2010, Super-samples from kernel herding, UAI.
    """
    from ...metrics.distribution.kernel import median_bandwidth

    a, b = (x.cpu().numpy() for x in pair(real, synthetic))
    _check_n(n, len(b))
    width = median_bandwidth(a, b)
    like_real = _gaussian(b, a, width).mean(axis=1)
    within = _gaussian(b, b, width)
    taken: list[int] = []
    total = np.zeros(len(b))
    free = np.ones(len(b), dtype=bool)
    for t in range(n):
        gain = np.where(free, like_real - total / (t + 1), -np.inf)
        row = int(gain.argmax())
        taken.append(row)
        free[row] = False
        total += within[row]
    return taken


def _gaussian(x: F64, y: F64, width: float) -> F64:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1)[None] - 2 * x @ y.T
    return np.asarray(np.exp(-np.maximum(squared, 0) / (2 * width**2)))


def transport_subset(real: Array, synthetic: Array, n: int) -> list[int]:
    """Choose the samples that the real set is moved to at least cost.

    Exact optimal transport in which every real sample sends its mass and every synthetic one can
    take at most 1/n of it: a sample far from all real ones gets none, and where real samples
    crowd, more are taken.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features by the same encoder.
    n : int
        How many to keep, 1 to m.

    Returns
    -------
    list of int
        Rows, ascending.

    Raises
    ------
    ValueError
        If n is out of range.
    ModelError
        If POT is not installed.

    References
    ----------
    Chapel, Alaya & Gasso 2020, Partial optimal transport, NeurIPS (partial mass by a dummy point).
    Flamary et al. 2021, POT: Python optimal transport, JMLR 22.
    """
    from ...errors import ModelError

    try:
        import ot
    except ImportError as error:
        raise ModelError("optimal transport needs POT: pip install 'evalsuite[metrics]'") from error
    a, b = (x.cpu().numpy() for x in pair(real, synthetic))
    _check_n(n, len(b))
    cost = ot.dist(a, b)
    cost /= max(float(cost.max()), 1e-300)
    # A dummy real point takes, at no cost, what the synthetic samples have too much of.
    rows = np.append(np.full(len(a), 1 / len(a)), len(b) / n - 1)
    columns = np.full(len(b), 1 / n)
    plan = ot.emd(rows, columns * rows.sum() / columns.sum(), np.vstack([cost, np.zeros(len(b))]),
                  numItermax=1_000_000)  # fmt: skip
    mass = np.asarray(plan)[:-1].sum(axis=0)
    nearest = cost.min(axis=0)
    # Where mass is split, the nearer of two samples with the same mass.
    order = np.lexsort((nearest, -np.round(mass, 12)))
    return sorted(order[:n].tolist())


def _check_n(n: int, m: int) -> None:
    if not 1 <= n <= m:
        raise ValueError(f"n must be from 1 to the {m} samples that there are, got {n}")


@dataclass(frozen=True, slots=True)
class Recall:
    """How much of each class a probe finds: agreement in which every class counts alike.

    A probe that answers the most frequent class for everything has 1 / classes, however frequent
    that class is; plain agreement would give it the share of the class.

    Attributes
    ----------
    classes : tuple of str
        Those that occur.
    found : tuple of float
        Of each class, the share that the probe calls by its name, 0 to 1; 1 is best.
    sizes : tuple of int
        Samples of each.
    """

    classes: tuple[str, ...]
    found: tuple[float, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, labels: npt.NDArray[np.str_], right: npt.NDArray[np.bool_]) -> Recall:
        """Count, class by class, where the probe was right."""
        kinds, codes, sizes = np.unique(labels, return_inverse=True, return_counts=True)
        found = np.bincount(codes, weights=right) / sizes
        return cls(tuple(kinds.tolist()), tuple(found.tolist()), tuple(sizes.tolist()))

    def among(self, classes: Sequence[str]) -> tuple[float, float]:
        """Give the mean over some classes, and its standard error.

        Raises
        ------
        ValueError
            If one of them does not occur.
        """
        rows = [self.classes.index(name) for name in classes]
        p, n = (np.array(x, np.float64)[rows] for x in (self.found, self.sizes))
        # Shrunk towards one half (Agresti & Coull 1998): five of five right is not certainty.
        shrunk = (p * n + 2) / (n + 4)
        error = np.sqrt((shrunk * (1 - shrunk) / (n + 4)).sum()) / len(rows)
        return float(p.mean()), float(error)

    @property
    def mean(self) -> float:
        """Mean over all classes."""
        return float(np.mean(self.found))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Which samples a probe that learned from real data gives the label that they bear.

    Attributes
    ----------
    keep : tuple of bool
        By sample.
    agreement : float
        Share that is kept.
    recall : Recall
        The same class by class.
    real_agreement : float
        Share of real samples that a probe trained on the *others* agrees with: what the filter
        drops of good data. Nothing better may be expected of synthetic samples.
    real_recall : Recall
        The same class by class.
    """

    keep: tuple[bool, ...]
    agreement: float
    recall: Recall
    real_agreement: float
    real_recall: Recall


def label_agreement(
    real: Array,
    real_labels: Sequence[object],
    synthetic: Array,
    synthetic_labels: Sequence[object],
    *,
    probe: Probe = "knn",
    neighbours: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> Agreement:
    """Ask a classifier trained on real data whether synthetic samples still show their label.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features by the same encoder.
    real_labels, synthetic_labels : sequence
        Of every row.
    probe : {"knn", "linear"}
        Nearest neighbours or a logistic regression, both with equally weighted classes.
    neighbours : int
        For ``knn``.
    folds : int
        For the agreement on real data.
    seed : int
        Of the folds.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        If a synthetic label does not occur in the real data, there are fewer than 2 classes, or a
        class has fewer real samples than there are folds.

    Notes
    -----
    It drops hard samples with the wrong ones: watch coverage, and the classes' shares.

    References
    ----------
    Brodersen et al. 2010, The balanced accuracy and its posterior distribution, ICPR (why plain
    agreement misleads where classes are not of one size).
    """
    found = label_probabilities(
        real,
        real_labels,
        synthetic,
        synthetic_labels,
        probe=probe,
        neighbours=neighbours,
        folds=folds,
        seed=seed,
    )
    y, z = (np.array([str(v) for v in labels]) for labels in (real_labels, synthetic_labels))
    classes = np.array(found.classes)
    right = classes[found.real.argmax(axis=1)] == y
    keep = classes[found.synthetic.argmax(axis=1)] == z
    return Agreement(
        keep=tuple(keep.tolist()),
        agreement=float(keep.mean()),
        recall=Recall.of(z, keep),
        real_agreement=float(right.mean()),
        real_recall=Recall.of(y, right),
    )


@dataclass(frozen=True, slots=True)
class LabelProbabilities:
    """What a probe that learned from real data thinks of each sample.

    Attributes
    ----------
    classes : tuple of str
        Names of the columns.
    real : array, shape (n, classes)
        Each sample by a probe trained on the other folds; rows sum to 1.
    synthetic : array, shape (m, classes)
        By a probe trained on all real samples.
    """

    classes: tuple[str, ...]
    real: F64
    synthetic: F64


def label_probabilities(
    real: Array,
    real_labels: Sequence[object],
    synthetic: Array,
    synthetic_labels: Sequence[object],
    *,
    probe: Probe = "knn",
    neighbours: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> LabelProbabilities:
    """Give the probability of every class for each sample.

    Parameters and errors are those of :func:`label_agreement`.

    Returns
    -------
    LabelProbabilities
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if probe not in get_args(Probe):
        raise ValueError(f"probe must be one of {get_args(Probe)}, got {probe!r}")
    a, b = (x.cpu().numpy() for x in pair(real, synthetic))
    y, z = np.array([str(v) for v in real_labels]), np.array([str(v) for v in synthetic_labels])
    if len(y) != len(a) or len(z) != len(b):
        raise ValueError(f"need a label for each row: {len(y)} for {len(a)}, {len(z)} for {len(b)}")
    classes, counts = np.unique(y, return_counts=True)
    if unknown := sorted(set(z.tolist()) - set(classes.tolist())):
        raise ValueError(f"the real data has no samples of {unknown[:5]}: leave these out")
    if len(classes) < 2 or counts.min() < folds:
        raise ValueError(
            f"need 2 classes or more with at least {folds} real samples each, got "
            f"{dict(zip(classes.tolist(), counts.tolist(), strict=True))}"
        )
    model = make_pipeline(
        StandardScaler(),
        KNeighborsClassifier(min(neighbours, counts.min()))
        if probe == "knn"
        else LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000),
    )
    held_out = cross_val_predict(
        model,
        a,
        y,
        cv=StratifiedKFold(folds, shuffle=True, random_state=seed),
        method="predict_proba",
    )
    found = model.fit(a, y).predict_proba(b)
    if probe == "knn":
        # A neighbour of a rare class counts for as much more: else the frequent one is the answer.
        held_out, found = (p / counts for p in (held_out, found))
        held_out, found = (p / p.sum(axis=1, keepdims=True) for p in (held_out, found))
    return LabelProbabilities(tuple(classes.tolist()), held_out, found)


def within_real_scores(
    real: npt.ArrayLike, synthetic: npt.ArrayLike, *, share: float = 0.05
) -> list[int]:
    """Keep the samples whose score is not worse than that of the worst few real ones.

    Parameters
    ----------
    real, synthetic : array, shape (n,), (m,)
        A score of single samples, higher is better: quality (DNSMOS), consistency of image and
        text, density under a model. NaN where it does not apply: such a sample is kept.
    share : float
        Share of the real samples that would be dropped too, within [0, 1).

    Returns
    -------
    list of int
        Rows, ascending.

    Raises
    ------
    ValueError
        If ``share`` is out of range, or no real sample has a score.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be within [0, 1), got {share}")
    a, b = np.asarray(real, np.float64), np.asarray(synthetic, np.float64)
    scored = a[np.isfinite(a)]
    if not scored.size:
        raise ValueError("no real sample has a score: there is nothing to compare with")
    return np.flatnonzero(~(b < np.quantile(scored, share))).tolist()


def on_manifold(real: Array, synthetic: Array, *, neighbours: int = 5) -> list[int]:
    """Keep the samples that lie on the real manifold: those that precision counts.

    Parameters
    ----------
    real, synthetic : array, shape (n, d), (m, d)
        Features by the same encoder.
    neighbours : int
        That make a ball.

    Returns
    -------
    list of int
        Rows, ascending.

    Raises
    ------
    ValueError
        As :func:`~evalsuite.metrics.distribution.manifold.precision_recall_density_coverage`.
    """
    from ...metrics.distribution.manifold import precision_recall_density_coverage

    found = precision_recall_density_coverage(real, synthetic, k=neighbours, level=None)
    return np.flatnonzero(found.on_manifold).tolist()
