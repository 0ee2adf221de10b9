"""Labels that the data themselves contradict, by confident learning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST_CLASS = 10
FOLDS = 5
LEAST_AGREEMENT = 0.3
"""With less, an encoder does not see the classes, or most labels are wrong."""
_STRENGTH = 10.0
"""Of the probe, for features scaled to unit length in the mean: see `_probabilities`."""


@dataclass(frozen=True, slots=True)
class LabelReport:
    """What :func:`suspicious_labels` found.

    Attributes
    ----------
    rows : tuple of int
        The suspects, the least believed label first.
    suggested : tuple of str
        The class that each seems to be of.
    p_label, p_suggested : tuple of float
        Cross-validated probabilities of both.
    judged : int
        Samples of classes that were large enough.
    left_out : dict of str to int
        Classes that were not, with their size.
    accuracy : float
        Share of judged samples whose label has the largest probability.
    agreement : float
        The same beyond the largest class's share: 1 for all, 0 for a probe that learned nothing.
    """

    rows: tuple[int, ...]
    suggested: tuple[str, ...]
    p_label: tuple[float, ...]
    p_suggested: tuple[float, ...]
    judged: int
    left_out: dict[str, int]
    accuracy: float
    agreement: float

    @property
    def tells(self) -> bool:
        """Whether the probe knows the classes well enough to doubt a label."""
        return self.agreement >= LEAST_AGREEMENT


def suspicious_labels(
    features: npt.NDArray[np.float32],
    labels: Sequence[str | None],
    groups: Sequence[str],
    *,
    seed: int = 0,
) -> LabelReport:
    """Find samples that a model trained on the other samples puts into another class.

    A linear probe gives each sample probabilities that it was not trained on (5-fold cross-
    validation, groups whole). The threshold of a class is the mean probability of the class over
    the samples that are labelled so. A sample is a suspect if, of the classes whose threshold it
    reaches, the likeliest is not its own.

    Parameters
    ----------
    features : array, shape (n, d)
    labels : sequence of length n
        None for a sample without a label.
    groups : sequence of length n
        Source of each sample; equal content is of one group.
    seed : int
        Of the folds.

    Returns
    -------
    LabelReport

    Raises
    ------
    ValueError
        If fewer than two classes have :data:`SMALLEST_CLASS` samples of as many groups as folds.

    Notes
    -----
    It cannot see errors that the encoder does not see, nor a mistake made in most samples of a
    class. Samples between two classes are suspects too: look at them before relabelling.

    References
    ----------
    Northcutt, Jiang & Chuang 2021, Confident learning: estimating uncertainty in dataset labels,
    J. Artif. Intell. Res. 70 (the confident joint, eq. 2).
    """
    members: dict[str, list[int]] = {}
    for row, label in enumerate(labels):
        if label is not None:
            members.setdefault(label, []).append(row)
    large = {
        name: rows
        for name, rows in members.items()
        if len(rows) >= SMALLEST_CLASS and len({groups[row] for row in rows}) >= FOLDS
    }
    if len(large) < 2:
        raise ValueError(f"fewer than two classes have {SMALLEST_CLASS} samples")
    classes = sorted(large)
    index = np.array(sorted(row for rows in large.values() for row in rows))
    codes = {name: k for k, name in enumerate(classes)}
    y = np.array([codes[str(labels[row])] for row in index])
    p = _probabilities(features[index], y, [groups[row] for row in index], len(classes), seed)
    thresholds = np.array([p[y == k, k].mean() for k in range(len(classes))])
    reached = np.where(p >= thresholds, p, -1.0)
    best = reached.argmax(axis=1)
    suspect = np.flatnonzero((reached.max(axis=1) >= 0) & (best != y))
    suspect = suspect[np.argsort(p[suspect, y[suspect]], kind="stable")]
    accuracy = float((p.argmax(axis=1) == y).mean())
    largest = float(np.bincount(y).max()) / len(y)
    return LabelReport(
        rows=tuple(int(index[i]) for i in suspect),
        suggested=tuple(classes[best[i]] for i in suspect),
        p_label=tuple(float(p[i, y[i]]) for i in suspect),
        p_suggested=tuple(float(p[i, best[i]]) for i in suspect),
        judged=len(index),
        left_out={name: len(rows) for name, rows in members.items() if name not in large},
        accuracy=accuracy,
        agreement=(accuracy - largest) / (1 - largest),
    )


def _probabilities(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    groups: Sequence[str],
    classes: int,
    seed: int,
) -> npt.NDArray[np.float64]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.preprocessing import StandardScaler

    found = np.zeros((len(y), classes))
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    for train, test in folds.split(x, y, groups):
        scale = StandardScaler().fit(x[train])
        width = np.sqrt(x.shape[1])  # so that the penalty does not depend on the dimension
        model = LogisticRegression(C=_STRENGTH, max_iter=1000, tol=1e-3, random_state=seed)
        model.fit(scale.transform(x[train]) / width, y[train])
        found[np.ix_(test, model.classes_)] = model.predict_proba(scale.transform(x[test]) / width)
    return found
