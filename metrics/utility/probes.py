"""Utility: what a simple classifier learns from synthetic data, measured on real test data.

The classifiers are probes on frozen features, a linear one and nearest neighbours: they train in
seconds, and they rank data sets much as a network trained on them would, without its noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from .._check import Array, features, groups_of
from .._result import Interval, Scalar
from ..inference import Groups

Labels: TypeAlias = "Sequence[object] | np.ndarray"
Probe: TypeAlias = Literal["linear", "knn"]

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

_DRAWS = 200
"""Bootstrap resamples that are worked on at a time."""


@dataclass(frozen=True, slots=True)
class Score(Scalar):
    """How well a probe does on a set that it was not trained on.

    Attributes
    ----------
    value : float
        Balanced accuracy: mean recall over the classes of the test set, 0 to 1; best 1.
    interval : Interval
        For ``value``.
    accuracy : float
        Share of right answers, 0 to 1.
    accuracy_interval : Interval
        For ``accuracy``.
    n_train, n_test : int
        Sizes.
    """

    interval: Interval
    accuracy: float
    accuracy_interval: Interval
    n_train: int
    n_test: int


@dataclass(frozen=True, slots=True)
class ClassUtility:
    """One class: what training on synthetic data costs it.

    Attributes
    ----------
    label : str
        The class.
    tstr, trtr : float
        Recall on real test data after training on synthetic and on real data.
    difference : float
        ``tstr - trtr``; below 0 the synthetic data serves the class worse.
    interval : Interval
        For ``difference``, at a level such that the intervals of *all* classes hold together
        (Bonferroni): the worst class is chosen after looking.
    n_test : int
        Real test samples of the class.
    n_synthetic : int
        Synthetic samples of the class; at 0 its recall is 0 by necessity.
    """

    label: str
    tstr: float
    trtr: float
    difference: float
    interval: Interval
    n_test: int
    n_synthetic: int


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Score after adding some synthetic samples to all of the real training data.

    Attributes
    ----------
    n_added : int
        Synthetic samples added.
    score : float
        Balanced accuracy on the real test data, mean over the random subsets.
    gain : float
        ``score`` less that of the real data alone.
    interval : Interval
        For ``gain``.
    """

    n_added: int
    score: float
    gain: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class NextGain(Scalar):
    """Return on the next samples.

    Attributes
    ----------
    value : float
        Balanced accuracy to expect from ``step`` more synthetic samples, if the score goes on
        growing with the logarithm of their number as it did over the last doubling.
    interval : Interval
        For ``value``, over test items; the logarithmic law is taken as given.
    step : int
        How many more samples.
    """

    interval: Interval
    step: int


@dataclass(frozen=True, slots=True)
class ProbeUtility(Scalar):
    """One probe's view.

    Attributes
    ----------
    value : float
        TSTR / TRTR, the ratio of the balanced accuracies: 1 means that the synthetic data trains as
        well as the real data, over 1 better.
    interval : Interval
        For the ratio, paired over test items.
    tstr, trts, trtr : Score
        Train on synthetic, test on real; train on real, test on synthetic; train and test on real.
    classes : tuple of ClassUtility
        Each class of the test set, worst first.
    curve : tuple of CurvePoint
        Learning curve of adding synthetic samples to the real ones, from 0 on.
    next_gain : NextGain
        What the next samples are worth.
    """

    interval: Interval
    tstr: Score
    trts: Score
    trtr: Score
    classes: tuple[ClassUtility, ...]
    curve: tuple[CurvePoint, ...]
    next_gain: NextGain

    @property
    def worst(self) -> ClassUtility:
        """The class that loses most."""
        return self.classes[0]


@dataclass(frozen=True, slots=True)
class UtilityReport:
    """What :func:`utility_tests` found.

    Attributes
    ----------
    probes : dict of str to ProbeUtility
        By probe, ``"linear"`` and ``"knn"``.
    missing : tuple of str
        Classes of the real training data of which there is no synthetic sample.
    chance : float
        Balanced accuracy of guessing: 1 over the number of classes.
    """

    probes: dict[Probe, ProbeUtility]
    missing: tuple[str, ...]
    chance: float


def utility_tests(
    real_train: tuple[Array, Labels],
    synthetic: tuple[Array, Labels],
    real_test: tuple[Array, Labels],
    *,
    groups_train: Groups = None,
    groups_test: Groups = None,
    probes: Sequence[Probe] = ("linear", "knn"),
    sizes: Sequence[int] | None = None,
    repeats: int = 3,
    step: int = 1000,
    neighbours: int = 5,
    C: float = 0.1,
    bootstrap: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> UtilityReport:
    """Train probes on synthetic and on real data and compare them on real test data.

    Parameters
    ----------
    real_train, synthetic, real_test : tuple of (array of shape (n, d), sequence of n labels)
        Features and classes. The test data must be real and in neither training set.
    groups_train, groups_test : sequence, optional
        Source of each row of ``real_train`` and ``real_test``. Test groups are resampled whole, and
        a group in both sets is an error.
    probes : sequence of {"linear", "knn"}
        Multinomial logistic regression, its classes weighted equally, and nearest neighbours. Both
        see features standardised by their own training set.
    sizes : sequence of int, optional
        How many synthetic samples to add for the learning curve; by default an eighth, a quarter, a
        half and all of them.
    repeats : int
        Random orders in which the synthetic samples are added.
    step : int
        Number of further samples whose worth is forecast.
    neighbours : int
        For ``"knn"``; fewer where there are fewer training rows.
    C : float
        Inverse strength of the linear probe's L2 penalty.
    bootstrap : int
        Resamples of the test items.
    level : float
        Nominal coverage of the intervals.
    seed : int
        Of subsets and resampling.

    Returns
    -------
    UtilityReport
        Scores, ratio, classes and learning curve for each probe.

    Raises
    ------
    TypeError, ValueError
        If test rows occur in a training set (the message says how many), if a label occurs that
        the real training data does not have, if there are fewer than 2 classes, or an input is
        empty, not finite or of another dimension.

    Notes
    -----
    Intervals are percentile bootstraps over test items (groups, where given), with the trained
    probes held: they say how sure the score on *such* test data is, not how another draw of
    training data would do. Where all resamples agree (every answer is right), they end at the
    one-sided Clopper-Pearson bound for the number of independent test items. The interval of a
    difference between two probes reaches at least as far as a normal one whose variance has that of
    Agresti and Min's pseudo-observations added: few items answered differently say little.

    TSTR and TRTR each use all of their training data; compare their ``n_train``. Probes cannot see
    what the encoder does not keep, and a probe may be content with synthetic data that would not
    train a network from scratch.

    References
    ----------
    Esteban, Hyland & Rätsch 2017, Real-valued (medical) time series generation with recurrent
    conditional GANs (TSTR, TRTS). Ravuri & Vinyals 2019, Classification accuracy score for
    conditional generative models, NeurIPS. Field & Welsh 2007, Bootstrapping clustered data,
    JRSS B. Agresti & Min 2005, Simple improved confidence intervals for comparing matched
    proportions, Statistics in Medicine.
    """
    if not probes or not set(probes) <= set(get_args(Probe)):
        raise ValueError(f"probes must be some of {get_args(Probe)}, got {tuple(probes)}")
    for name, number in (
        ("repeats", repeats),
        ("step", step),
        ("neighbours", neighbours),
        ("bootstrap", bootstrap),
    ):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    if not C > 0:
        raise ValueError(f"C must be positive, got {C}")
    rx, ry = _labelled(real_train, "real_train")
    sx, sy = _labelled(synthetic, "synthetic")
    tx, ty = _labelled(real_test, "real_test")
    for name, x in (("synthetic", sx), ("real_test", tx)):
        if x.shape[1] != rx.shape[1]:
            raise ValueError(
                f"real_train has {rx.shape[1]} columns and {name} {x.shape[1]}: were they made by "
                "the same encoder?"
            )
    classes = sorted(set(ry))
    if len(classes) < 2:
        raise ValueError(f"real_train has only the class {classes[0]!r}: nothing can be learnt")
    for name, y in (("synthetic", sy), ("real_test", ty)):
        unknown = sorted(set(y) - set(classes))
        if unknown:
            raise ValueError(
                f"{name} has labels that real_train does not have: {unknown[:5]}. Map them, or "
                "leave these samples out"
            )
    _no_leak(tx, rx, "real_train")
    _no_leak(tx, sx, "synthetic")
    units = groups_of(groups_test, len(tx), "groups_test")
    sources = groups_of(groups_train, len(rx), "groups_train")
    if sources is not None and units is not None:
        shared = {str(g) for g in groups_train or ()} & {str(g) for g in groups_test or ()}
        if shared:
            raise ValueError(
                f"{len(shared)} groups are in real_train and in real_test (for example "
                f"{min(shared)!r}): keep each source on one side"
            )
    sizes = _curve_sizes(sizes, len(sx))
    code = {label: i for i, label in enumerate(classes)}
    r, s, t = (np.array([code[v] for v in y]) for y in (ry, sy, ty))
    test = _Test(t, units, len(classes), bootstrap, level, seed)
    other = _Test(s, None, len(classes), bootstrap, level, seed)
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(sx)) for _ in range(repeats)]
    report: dict[Probe, ProbeUtility] = {}
    for probe in dict.fromkeys(probes):

        def right(
            x: _Floats, y: _Ints, queries: _Floats, answers: _Ints, probe: Probe = probe
        ) -> _Floats:
            found = _predict(probe, x, y, queries, neighbours=neighbours, C=C, seed=seed)
            return np.equal(found, answers).astype(np.float64)

        trtr, tstr, trts = right(rx, r, tx, t), right(sx, s, tx, t), right(rx, r, sx, s)
        grown = [
            np.mean(
                [
                    right(np.concatenate([rx, sx[o[:n]]]), np.concatenate([r, s[o[:n]]]), tx, t)
                    # All of them are the same set in any order.
                    for o in (orders if n < len(sx) else orders[:1])
                ],
                axis=0,
            )
            for n in sizes
        ]
        report[probe] = _utility(
            test,
            right=(tstr, trtr),
            curve=[trtr, *grown],
            sizes=[0, *sizes],
            step=step,
            scores=(
                test.score(tstr, len(sx)),
                other.score(trts, len(rx)),
                test.score(trtr, len(rx)),
            ),
            names=classes,
            synthetic=np.bincount(s, minlength=len(classes)),
        )
    return UtilityReport(
        probes=report,
        missing=tuple(c for c in classes if c not in set(sy)),
        chance=1 / len(classes),
    )


def _labelled(data: tuple[Array, Labels], name: str) -> tuple[_Floats, list[str]]:
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"{name} must be a tuple (features, labels), got {type(data).__name__}")
    x = features(data[0], name).cpu().numpy()
    labels = [str(v) for v in np.asarray(data[1]).tolist()]
    if len(labels) != len(x):
        raise ValueError(f"{name} has {len(x)} rows and {len(labels)} labels")
    return x, labels


def _no_leak(test: _Floats, train: _Floats, name: str) -> None:
    known = {row.tobytes() for row in train + 0.0}
    leaked = [i for i, row in enumerate(test + 0.0) if row.tobytes() in known]
    if leaked:
        raise ValueError(
            f"{len(leaked)} of {len(test)} rows of real_test are in {name} (first: {leaked[:5]}): "
            "the score would be memory, not learning. Remove them from one of the two"
        )


def _curve_sizes(sizes: Sequence[int] | None, n: int) -> list[int]:
    if sizes is None:
        sizes = sorted({max(1, n // 8), max(1, n // 4), max(1, n // 2), n})
    wrong = [v for v in sizes if not 1 <= v <= n]
    if wrong or not sizes:
        raise ValueError(f"sizes must lie in 1..{n} (the synthetic rows), got {list(sizes)}")
    return sorted(set(sizes))


def _predict(
    probe: Probe,
    x: _Floats,
    y: _Ints,
    queries: _Floats,
    *,
    neighbours: int,
    C: float,
    seed: int,
) -> _Ints:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(y)) == 1:
        return np.full(len(queries), y[0])
    scale = StandardScaler().fit(x)
    x, queries = scale.transform(x), scale.transform(queries)
    if probe == "linear":
        model = LogisticRegression(
            C=C, class_weight="balanced", tol=1e-3, max_iter=1000, random_state=seed
        )
    else:
        model = KNeighborsClassifier(min(neighbours, len(x)), algorithm="brute")
    return np.asarray(model.fit(x, y).predict(queries), dtype=np.int64)


class _Test:
    """A test set and its bootstrap: one set of resamples serves all scores, so they are paired."""

    def __init__(
        self, y: _Ints, units: _Ints | None, classes: int, bootstrap: int, level: float, seed: int
    ) -> None:
        self.y = y
        self.classes = classes
        self.level = level
        self.unit = np.arange(len(y)) if units is None else units
        self.units = int(self.unit.max()) + 1
        self.total = self._counts(np.ones(len(y)))
        rng = np.random.default_rng(seed)
        # Kept small: bootstrap × units of float64 would be the largest array by far.
        self.draws = [
            np.stack(
                [
                    np.bincount(rng.integers(0, self.units, self.units), minlength=self.units)
                    for _ in range(min(_DRAWS, bootstrap - i))
                ]
            ).astype(np.uint16)
            for i in range(0, bootstrap, _DRAWS)
        ]
        self.drawn = self._resampled(self.total)

    def _resampled(self, table: _Floats) -> _Floats:
        """Sum over the units: of the data itself, then of each resample."""
        return np.vstack([table.sum(axis=0), *(d.astype(np.float64) @ table for d in self.draws)])

    def _counts(self, values: _Floats) -> _Floats:
        table = np.zeros((self.units, self.classes))
        np.add.at(table, (self.unit, self.y), values)
        return table

    def recalls(self, right: _Floats) -> _Floats:
        """Recall of each class in the data and in each resample; NaN where the class is absent."""
        hits = self._resampled(self._counts(right))
        return np.divide(hits, self.drawn, out=np.full_like(hits, np.nan), where=self.drawn > 0)

    def balanced(self, right: _Floats) -> _Floats:
        return np.asarray(np.nanmean(self.recalls(right), axis=1))

    def interval(
        self,
        values: _Floats,
        *,
        low: float = -1.0,
        high: float = 1.0,
        units: int | None = None,
        level: float | None = None,
        difference: float = 0.0,
    ) -> Interval:
        """Percentile interval of ``values[1:]`` around ``values[0]``, kept within low and high.

        For a multiple of a difference between two probes on the same items give the factor: two
        that answer alike on all but a few items of a small test may not do so on others.
        """
        level = self.level if level is None else level
        tail = (1 - level) / 2
        n = units or self.units
        resampled = values[1:][np.isfinite(values[1:])]
        if resampled.size and np.ptp(resampled) > 0:
            a, b = np.quantile(resampled, [tail, 1 - tail])
            if difference:
                # What resamples show, and Agresti and Min's error where no answer differs.
                se = float(np.hypot(resampled.std(), difference / (n + 2)))
                least = se * NormalDist().inv_cdf(1 - tail)
                a = min(a, max(low, float(values[0]) - least))
                b = max(b, min(high, float(values[0]) + least))
            return Interval(float(a), float(b), level, "bootstrap-percentile")
        # No spread is no certainty: n right answers in a row allow for this much error.
        room = (1 - tail ** (1 / n)) * max(difference, 1.0)
        return Interval(
            max(low, float(values[0]) - room),
            min(high, float(values[0]) + room),
            level,
            "clopper-pearson-bound",
        )

    def score(self, right: _Floats, n_train: int) -> Score:
        balanced = self.balanced(right)
        hits = self._resampled(self._counts(right)).sum(axis=1)
        accuracy: _Floats = hits / self.drawn.sum(axis=1)
        return Score(
            value=float(balanced[0]),
            interval=self.interval(balanced, low=0.0),
            accuracy=float(accuracy[0]),
            accuracy_interval=self.interval(accuracy, low=0.0),
            n_train=n_train,
            n_test=len(self.y),
        )


def _utility(
    test: _Test,
    *,
    right: tuple[_Floats, _Floats],
    curve: list[_Floats],
    sizes: list[int],
    step: int,
    scores: tuple[Score, Score, Score],
    names: list[str],
    synthetic: _Ints,
) -> ProbeUtility:
    tstr, trtr = (test.balanced(v) for v in right)
    if not (trtr > 0).all():
        raise ValueError(
            "a probe trained on the real data gets (almost) nothing right on real_test, so there "
            "is no ratio to it: check the labels, or give more test data"
        )
    a, b = (test.recalls(v) for v in right)
    present = np.flatnonzero(test.total.sum(axis=0) > 0)
    together = 1 - (1 - test.level) / len(present)
    classes = [
        ClassUtility(
            label=names[c],
            tstr=float(a[0, c]),
            trtr=float(b[0, c]),
            difference=float(a[0, c] - b[0, c]),
            interval=test.interval(
                a[:, c] - b[:, c],
                units=int((test.total[:, c] > 0).sum()),
                level=together,
                difference=1.0,
            ),
            n_test=int(test.total[:, c].sum()),
            n_synthetic=int(synthetic[c]),
        )
        for c in present
    ]
    grown = [test.balanced(v) for v in curve]
    points = [
        CurvePoint(
            n_added=n,
            score=float(v[0]),
            gain=float(v[0] - grown[0][0]),
            interval=(
                Interval(0.0, 0.0, test.level, "by definition")
                if n == 0
                else test.interval(v - grown[0], difference=1.0)
            ),
        )
        for n, v in zip(sizes, grown, strict=True)
    ]
    # The point nearest to half of the last one; score ~ a + b log n between them.
    last = len(sizes) - 1
    half = int(np.argmin([abs(n - sizes[last] / 2) for n in sizes[:last]]))
    if sizes[half] > 0:
        factor = float(np.log1p(step / sizes[last]) / np.log(sizes[last] / sizes[half]))
        ahead = (grown[last] - grown[half]) * factor
    else:
        # One point only: its gain per sample, which overstates what comes after.
        factor = step / sizes[last]
        ahead = (grown[last] - grown[0]) * factor
    return ProbeUtility(
        value=float(tstr[0] / trtr[0]),
        interval=test.interval(tstr / trtr, low=0.0, high=np.inf),
        tstr=scores[0],
        trts=scores[1],
        trtr=scores[2],
        classes=tuple(sorted(classes, key=lambda c: (c.difference, c.label))),
        curve=tuple(points),
        next_gain=NextGain(
            value=float(ahead[0]), interval=test.interval(ahead, difference=factor), step=step
        ),
    )
