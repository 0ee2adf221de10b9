"""Where a record of image, text and speech breaks: which part does not fit the other two."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._check import groups_of
from .._result import Interval
from ..distribution._wilson import wilson
from .alignment import cluster_covariance

if TYPE_CHECKING:
    from ..inference import Groups

TIES = ("image+text", "audio+text", "image+audio")
"""The three sides of the triangle, in the order of the columns."""
SEVERAL = "several"
_PART_OF = {
    frozenset(("image+text", "image+audio")): "image",
    frozenset(("image+text", "audio+text")): "text",
    frozenset(("audio+text", "image+audio")): "audio",
}


@dataclass(frozen=True, slots=True)
class Triangle:
    """Which records break, and where.

    Attributes
    ----------
    places : tuple of str, length n
        Of each record: ``""`` where every tie holds; ``image``, ``text`` or ``audio`` where both
        ties of that part are broken and the third holds; the name of the tie where it is the only
        one (either part of it may be wrong); ``several`` where all three are broken.
    weakest : ndarray of float64, shape (n,)
        The smallest p-value of the record's ties.
    counts : dict of str to int
        Broken records by place.
    share : float
        Broken records over all, 0 to 1; best 0, and up to ``false_alarms`` where all are intact.
    interval : Interval
        For ``share``: Wilson's, over groups where there are any.
    level : float
        A tie is broken where its p-value is at or under this.
    false_alarms : float
        Bound on the probability that a record whose ties are all like real ones is called broken.
    """

    places: tuple[str, ...]
    weakest: npt.NDArray[np.float64]
    counts: dict[str, int]
    share: float
    interval: Interval
    level: float
    false_alarms: float


def triangle_breaks(
    image_text: npt.ArrayLike,
    audio_text: npt.ArrayLike,
    image_audio: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    least: float = 0.0,
    groups: Groups = None,
    confidence: float = 0.95,
) -> Triangle:
    """Find the records of three parts that break, and the part that does not fit.

    Parameters
    ----------
    image_text, audio_text, image_audio : array-like, shape (n,)
        p-values of each record: "this tie is like a real one", as :func:`.alignment.consistency`
        gives them. NaN where a tie cannot be judged; it never counts as broken.
    alpha : float
        Rate of false alarms over the three ties of a record together: each is judged at a third.
    least : float
        The smallest p-value that the real pairs can give, 1 / (n + 1). Where it is over a third of
        ``alpha``, ties are judged at it, and :attr:`Triangle.false_alarms` says what that means.
    groups : sequence, length n, optional
        Source of each record, for the interval.
    confidence : float
        Nominal coverage of the interval.

    Returns
    -------
    Triangle

    Raises
    ------
    ValueError
        If shapes differ, there is no record, or a p-value lies outside [0, 1].

    Notes
    -----
    One broken tie alone does not say which of its parts is wrong: a caption may miss what the image
    shows, and the speech of it may yet agree with both. The test of the third side has its own
    power, so that ``image`` is sometimes seen as ``image+text``.

    Examples
    --------
    >>> triangle_breaks([0.001, 0.4], [0.6, 0.5], [0.002, 0.7]).places
    ('image', '')
    """
    columns = [np.asarray(p, dtype=np.float64) for p in (image_text, audio_text, image_audio)]
    if any(c.ndim != 1 or c.shape != columns[0].shape for c in columns) or not columns[0].size:
        raise ValueError(
            f"each tie needs one p-value for each record, got shapes {[c.shape for c in columns]}"
        )
    table = np.column_stack(columns)
    if np.any((table < 0) | (table > 1)):
        raise ValueError("p-values must lie within [0, 1]")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    judged = np.isfinite(table).any(axis=0)
    level = max(alpha / 3, least)
    table = np.where(np.isfinite(table), table, 1.0)
    places = tuple(map(_place, table <= level))
    broken = np.any(table <= level, axis=1).astype(np.float64)
    codes = groups_of(groups, len(places), "groups")
    codes = np.arange(len(places)) if codes is None else codes
    units, share = int(codes.max()) + 1, float(broken.mean())
    spread = cluster_covariance((broken - share).reshape(-1, 1), codes) if units > 1 else [[0.0]]
    error = sqrt(float(spread[0][0]))
    return Triangle(
        places=places,
        weakest=table.min(axis=1),
        counts={place: places.count(place) for place in dict.fromkeys(places) if place},
        share=share,
        interval=wilson(share, error, units, confidence, "wilson"),
        level=level,
        false_alarms=min(1.0, float(level * judged.sum())),
    )


def _place(broken: npt.NDArray[np.bool_]) -> str:
    names = [name for name, bad in zip(TIES, broken, strict=True) if bad]
    if len(names) == 2:
        return _PART_OF[frozenset(names)]
    return SEVERAL if len(names) == 3 else "".join(names)
