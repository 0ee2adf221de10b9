"""Retrieval between two modalities: whether a part finds its partner among all others."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from .._check import Array, groups_of
from .._result import Interval, Scalar
from ..distribution._wilson import wilson
from .alignment import cluster_covariance, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..inference import Groups

_Floats: TypeAlias = npt.NDArray[np.float64]

_BLOCK = 1024


@dataclass(frozen=True, slots=True)
class Recall(Scalar):
    """Recall@k of one direction.

    Attributes
    ----------
    value : float
        Share of the queries with a right answer among the k best, 0 to 1; best 1.
    k : int
        How many of the best count.
    interval : Interval
        For ``value``, for more queries like these against the same candidates.
    chance : float
        The value of a random order.
    """

    k: int
    interval: Interval
    chance: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Recall in both directions.

    Attributes
    ----------
    image_to_text, text_to_image : tuple of Recall
        One for each k: images as queries, and texts as queries. (The first and the second modality,
        if they are others.)
    n : int
        Pairs: queries, and candidates for each.
    """

    image_to_text: tuple[Recall, ...]
    text_to_image: tuple[Recall, ...]
    n: int


@dataclass(frozen=True, slots=True)
class RecallGap(Scalar):
    """How much less often synthetic parts find their partners than real ones.

    Attributes
    ----------
    value : float
        Recall@k from image to text of the real pairs minus that of the synthetic ones; best 0, at
        most 1, negative where the synthetic pairs are found more often.
    interval : Interval
        For ``value``.
    real, synthetic : Retrieval
        Of as many pairs on either side.
    """

    interval: Interval
    real: Retrieval
    synthetic: Retrieval


def retrieval_recall(
    image_features: Array,
    text_features: Array,
    *,
    ks: Sequence[int] = (1, 5, 10),
    contents: Groups = None,
    groups: Groups = None,
    level: float = 0.95,
) -> Retrieval:
    """Recall@k by cosine similarity, image to text and text to image.

    Parameters
    ----------
    image_features, text_features : array, shape (n, d)
        Embeddings in one space; row i of one belongs to row i of the other.
    ks : sequence of int
        How many of the best count, each 1 to n.
    contents : sequence, length n, optional
        The captions themselves (or any key): pairs with an equal one are right answers to each
        other. Without it only the own partner is right, and a caption that occurs twice has a wrong
        twin that nothing can tell from the right one.
    groups : sequence, length n, optional
        Source of each pair, for the intervals.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    Retrieval

    Raises
    ------
    TypeError, ValueError
        If the arrays do not pair up, are not finite, a row is all zeros, there are fewer than 2
        pairs, or a k is out of range.

    Notes
    -----
    Equal similarities are counted in a random order, exactly: a query whose right answer ties with
    t wrong ones across the k-th place gets the probability that it comes before them. So an encoder
    that gives one vector for everything scores ``chance``, not 1.

    Recall falls with the number of candidates, whatever the quality: compare sets of equal n, or
    with ``chance``. It cannot see a partner that is wrong but the best of those there are. Time is
    O(n²·d), memory O(n).
    """
    x, y = unit_rows(image_features, text_features, "image_features", "text_features")
    n = len(x)
    if n < 2:
        raise ValueError(f"retrieval needs at least 2 pairs, got {n}")
    if not ks or not all(isinstance(k, (int, np.integer)) and 1 <= k <= n for k in ks):
        raise ValueError(f"each k must be an integer in 1..{n} (the candidates), got {list(ks)}")
    same = groups_of(contents, n, "contents")
    same = np.arange(n) if same is None else same
    units = groups_of(groups, n, "groups")
    units = np.arange(n) if units is None else units
    hits = np.bincount(same)[same]
    directions = []
    for queries, candidates in ((x, y), (y, x)):
        above, tied, tied_hits = np.empty((3, n), dtype=np.int64)
        for start in range(0, n, _BLOCK):
            rows = slice(start, min(start + _BLOCK, n))
            # Rounded, for equal candidates are to tie: their products differ in the last bits.
            block = np.round((queries[rows] @ candidates.T).cpu().numpy(), 12)
            right = same[rows, None] == same
            best = np.where(right, block, -np.inf).max(axis=1, keepdims=True)
            above[rows] = (block > best).sum(axis=1)
            level_with = block == best
            tied_hits[rows] = (level_with & right).sum(axis=1)
            tied[rows] = level_with.sum(axis=1)
        directions.append(
            tuple(
                _recall(
                    _found(k - above, tied, tied_hits),
                    k=int(k),
                    chance=float(_found(np.full(n, k), np.full(n, n), hits).mean()),
                    units=units,
                    level=level,
                )
                for k in ks
            )
        )
    return Retrieval(directions[0], directions[1], n)


def recall_gap(
    real_images: Array,
    real_texts: Array,
    synthetic_images: Array,
    synthetic_texts: Array,
    *,
    ks: Sequence[int] = (1, 5, 10),
    contents_real: Groups = None,
    contents_synthetic: Groups = None,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> RecallGap:
    """Compare the retrieval of synthetic pairs with that of as many real ones.

    Parameters
    ----------
    real_images, real_texts, synthetic_images, synthetic_texts : array, shape (n, d)
        As in :func:`retrieval_recall`. Of the larger side, a random part is taken: recall falls
        with the number of candidates.
    ks : sequence of int
        The first is the one that is compared; the others are measured beside it.
    contents_real, contents_synthetic, groups_real, groups_synthetic : sequence, optional
        As in :func:`retrieval_recall`.
    level : float
        Nominal coverage of the intervals.
    seed : int
        Of the random part.

    Returns
    -------
    RecallGap

    Raises
    ------
    TypeError, ValueError
        As :func:`retrieval_recall`, for either side.

    Notes
    -----
    The interval joins Wilson's intervals of the two sides (Newcombe's method 10). It is for other
    queries among these candidates. A set whose texts are more alike, or that repeats its captions
    more often, differs here without any pair being wrong: ``chance`` says what repeats give.

    References
    ----------
    Newcombe 1998, Interval estimation for the difference between independent proportions,
    Stat. Med. 17.
    """
    n = min(len(real_images), len(synthetic_images))
    rng = np.random.default_rng(seed)
    found = []
    for images, texts, contents, groups in (
        (real_images, real_texts, contents_real, groups_real),
        (synthetic_images, synthetic_texts, contents_synthetic, groups_synthetic),
    ):
        if len(images) != len(texts):
            raise ValueError(f"{len(images)} images and {len(texts)} texts do not pair up")
        rows = np.sort(rng.permutation(len(images))[:n])
        found.append(
            retrieval_recall(
                images[rows],
                texts[rows],
                ks=ks,
                contents=None if contents is None else [contents[i] for i in rows],
                groups=None if groups is None else [groups[i] for i in rows],
                level=level,
            )
        )
    real, synthetic = (retrieval.image_to_text[0] for retrieval in found)
    a, b = real.interval, synthetic.interval
    value = real.value - synthetic.value
    low = value - sqrt((real.value - a.low) ** 2 + (b.high - synthetic.value) ** 2)
    high = value + sqrt((a.high - real.value) ** 2 + (synthetic.value - b.low) ** 2)
    return RecallGap(value, Interval(low, high, level, "newcombe"), *found)


def _found(
    places: npt.NDArray[np.int64], candidates: npt.NDArray[np.int64], right: npt.NDArray[np.int64]
) -> _Floats:
    """Probability that one of ``right`` of the ``candidates`` is at the first ``places``.

    1 - C(candidates - right, places) / C(candidates, places), as a product.
    """
    wrong = candidates - right
    inside = np.clip(places, 0, wrong)
    log_missed = np.zeros(len(wrong))
    for j in range(int(inside.max())):
        # At each place that is filled, `right` of what is left are right.
        log_missed += np.log1p(np.where(j < inside, -right / np.maximum(candidates - j, 1), 0.0))
    return np.where(places <= 0, 0.0, np.where(places > wrong, 1.0, -np.expm1(log_missed)))


def _recall(
    found: _Floats, *, k: int, chance: float, units: npt.NDArray[np.integer], level: float
) -> Recall:
    value = float(found.mean())
    groups = int(units.max()) + 1
    error = (
        sqrt(float(cluster_covariance((found - value)[:, None], units)[0, 0])) if groups > 1 else 0
    )
    # The error knows of the groups; where all or none is found it is 0, and they must count.
    draws = len(found) if error > 0 else groups
    return Recall(value, k, wilson(value, error, draws, level, "wilson"), chance)
