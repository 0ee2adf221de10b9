"""DSIR: choose texts that look like the real ones, by the words and pairs of words in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

F64: TypeAlias = npt.NDArray[np.float64]

_TOKEN = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True, eq=False)
class Dsir:
    """What was chosen, and the weights behind it.

    Attributes
    ----------
    rows : tuple of int
        Texts that were drawn, ascending.
    log_weights : float array, shape (m,)
        Log of p_real / p_synthetic of each synthetic text under the two bags of n-grams.
    effective_sample_size : float
        Of the weights: under the number that was drawn, the draw is mostly the best few and then
        whatever is left.
    kl_before, kl_after : float
        Divergence in nats of the real bag of n-grams from that of the whole set, and of what was
        chosen; at least 0.
    """

    rows: tuple[int, ...]
    log_weights: F64
    effective_sample_size: float
    kl_before: float
    kl_after: float


def dsir(
    real: Sequence[str],
    synthetic: Sequence[str],
    n: int,
    *,
    buckets: int = 10_000,
    seed: int = 0,
) -> Dsir:
    """Resample texts by importance under hashed bags of words and pairs of words.

    Parameters
    ----------
    real, synthetic : sequence of str
        Texts, at least one a side.
    n : int
        How many to choose, 1 to the number of synthetic texts; without replacement.
    buckets : int
        Of the hashed features.
    seed : int
        Of the draw.

    Returns
    -------
    Dsir

    Raises
    ------
    ValueError
        If n is out of range, or a side has no words.

    Notes
    -----
    It sees words, not meaning or order beyond two words. Scripts without spaces are cut into
    single characters' runs by the word pattern: use it for texts with spaces.

    References
    ----------
    Xie, Santurkar, Ma & Liang 2023, Data selection for language models via importance resampling,
    NeurIPS, arXiv:2302.03169.
    """
    if not 1 <= n <= len(synthetic):
        raise ValueError(f"n must be from 1 to the {len(synthetic)} texts, got {n}")
    if buckets < 2:
        raise ValueError(f"buckets must be at least 2, got {buckets}")
    left, right = (_counts(texts, buckets) for texts in (real, synthetic))
    for name, counted in (("real", left), ("synthetic", right)):
        if not any(c.size for c, _ in counted):
            raise ValueError(f"the {name} texts have no words")
    p, q = _bag(left, buckets), _bag(right, buckets)
    ratio = np.log(p) - np.log(q)
    log_weights = np.array([float(ratio[at] @ times) for at, times in right])
    rng = np.random.default_rng(seed)
    # Gumbel keys: the n largest are a draw without replacement.
    rows = np.sort(np.argsort(-(log_weights + rng.gumbel(size=len(synthetic))))[:n])
    w = np.exp(log_weights - log_weights.max())
    chosen = _bag([right[i] for i in rows], buckets)
    return Dsir(
        rows=tuple(int(i) for i in rows),
        log_weights=log_weights,
        effective_sample_size=float(w.sum() ** 2 / (w**2).sum()),
        kl_before=float(p @ (np.log(p) - np.log(q))),
        kl_after=float(p @ (np.log(p) - np.log(chosen))),
    )


def _counts(texts: Sequence[str], buckets: int) -> list[tuple[npt.NDArray[np.int64], F64]]:
    found = []
    for text in texts:
        words = _TOKEN.findall(text.lower())
        grams = [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))]
        at = np.array([_bucket(g, buckets) for g in grams], dtype=np.int64)
        unique, times = np.unique(at, return_counts=True)
        found.append((unique, times.astype(np.float64)))
    return found


def _bucket(gram: str, buckets: int) -> int:
    # Python's own hash of a string differs from run to run.
    digest = blake2b(gram.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def _bag(counted: Sequence[tuple[npt.NDArray[np.int64], F64]], buckets: int) -> F64:
    """Give the distribution over buckets; half a count each keeps logarithms finite."""
    total = np.full(buckets, 0.5)
    for at, times in counted:
        total[at] += times
    return np.asarray(total / total.sum())


def match_lengths(real: Sequence[str], synthetic: Sequence[str], n: int) -> list[int]:
    """Choose texts whose lengths are spread as the real ones'.

    For each of n evenly spaced quantiles of the real lengths, the text of the nearest length that
    is still free is taken: the exact matching of two sorted lists, by optimal assignment.

    Parameters
    ----------
    real, synthetic : sequence of str
    n : int
        How many to choose, 1 to the number of synthetic texts.

    Returns
    -------
    list of int
        Rows, ascending.

    Raises
    ------
    ValueError
        If n is out of range, or there is no real text.

    Notes
    -----
    Lengths are in characters, and compared by their ratio.
    """
    from scipy.optimize import linear_sum_assignment

    if not 1 <= n <= len(synthetic):
        raise ValueError(f"n must be from 1 to the {len(synthetic)} texts, got {n}")
    if not real:
        raise ValueError("there is no real text to take lengths from")
    left, right = (np.log1p([len(t) for t in texts]) for texts in (real, synthetic))
    wanted = np.quantile(left, (np.arange(n) + 0.5) / n)
    _, rows = linear_sum_assignment((wanted[:, None] - right[None]) ** 2)
    return sorted(int(r) for r in rows)
