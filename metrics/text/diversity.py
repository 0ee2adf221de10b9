"""How varied a set of texts is: vocabulary, distinct n-grams and self-BLEU, always at equal size.

All three change with the amount of text, so two sets are compared at the same number of words.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .._check import groups_of
from .._result import Interval, Scalar
from ..inference import Groups, delete_half_se
from .words import tokeniser, words

Tokens: TypeAlias = Sequence[str]

NAMES = ("vocabulary", "distinct_1", "distinct_2", "distinct_3", "self_bleu")
"""What is measured, in report order."""

_ORDER = 4
_DISTINCT = 3
_DRAWS = 50
_BLEU_TEXTS = 200
_MIN_TEXTS = 10


@dataclass(frozen=True, slots=True)
class Measured(Scalar):
    """One number with its interval.

    Attributes
    ----------
    value : float
    interval : Interval
        Normal, with the standard error of the delete-half jackknife.
    """

    interval: Interval


@dataclass(frozen=True, slots=True)
class TextDiversity:
    """Diversity of one set of texts, in random draws of ``tokens`` words.

    Attributes
    ----------
    vocabulary : Measured
        Different words in a draw; more is more varied.
    distinct_1, distinct_2, distinct_3 : Measured
        Different n-grams over all n-grams, in (0, 1]; more is more varied.
    self_bleu : Measured
        Mean BLEU of a text with the others as references, 0 to 1; less is more varied.
    tokens : int
        Words in a draw.
    bleu_texts : int
        Texts of a draw that self-BLEU looks at.
    n : int
        Texts in the set.
    tokeniser : str
        How texts were split.
    """

    vocabulary: Measured
    distinct_1: Measured
    distinct_2: Measured
    distinct_3: Measured
    self_bleu: Measured
    tokens: int
    bleu_texts: int
    n: int
    tokeniser: str


@dataclass(frozen=True, slots=True)
class DiversityGap:
    """Two sets at the same number of words.

    Attributes
    ----------
    real, synthetic : TextDiversity
    ratios : dict of str to Measured
        Synthetic over real, for each of :data:`NAMES`; 1 is equal. One is left out if the real
        value is 0, as self-BLEU can be.
    """

    real: TextDiversity
    synthetic: TextDiversity
    ratios: dict[str, Measured]


def text_diversity(
    texts: Sequence[str],
    *,
    tokens: int | None = None,
    groups: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> TextDiversity:
    """Measure how varied a set of texts is.

    Parameters
    ----------
    texts : sequence of str, length n
        At least 10 with a word.
    tokens : int, optional
        Words in a draw; half of all by default, which is the most that leaves an error to measure.
    groups : sequence, length n, optional
        Document or prompt of each text: drawn whole.
    level : float
        Of the intervals.
    seed : int
        Of the 50 draws.

    Returns
    -------
    TextDiversity

    Raises
    ------
    ValueError
        If there are too few texts or groups, or ``tokens`` is more than half of all words.
    TypeError
        If a text is no string.

    Notes
    -----
    Each draw takes texts in random order until it has ``tokens`` words; the last one is cut.
    Self-BLEU is taken over the first 200 texts of a draw at most.

    None of this sees meaning: a list of random words is the most varied text of all.

    References
    ----------
    Li et al. 2016, A diversity-promoting objective function for neural conversation models (its
    distinct-n). Zhu et al. 2018, Texygen (self-BLEU). Shao & Wu 1989 (delete-d jackknife).
    """
    bag = _Bag(texts, groups, "texts")
    size = bag.half if tokens is None else tokens
    return bag.measure(size, bag.bleu_texts(size), level, seed)[0]


def diversity_gap(
    real: Sequence[str],
    synthetic: Sequence[str],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> DiversityGap:
    """Compare how varied two sets of texts are, at the same number of words.

    Parameters
    ----------
    real, synthetic : sequence of str
    groups_real, groups_synthetic, level, seed
        As in :func:`text_diversity`.

    Returns
    -------
    DiversityGap

    Raises
    ------
    ValueError, TypeError
        As :func:`text_diversity`, for either set.

    Notes
    -----
    The intervals of the ratios are normal for their logarithm, with the relative errors of both
    sides added in squares.
    """
    bags = _Bag(real, groups_real, "real"), _Bag(synthetic, groups_synthetic, "synthetic")
    size = min(bag.half for bag in bags)
    bleu_texts = min(bag.bleu_texts(size) for bag in bags)
    (a, se_a), (b, se_b) = (
        bag.measure(size, bleu_texts, level, seed + k) for k, bag in enumerate(bags)
    )
    ratios = {}
    z = NormalDist().inv_cdf((1 + level) / 2)
    for name in NAMES:
        x, y = float(getattr(a, name)), float(getattr(b, name))
        if x == 0:
            continue
        ratio = y / x
        relative = np.hypot(se_a[name] / x, se_b[name] / y) if y else np.inf
        reach = np.exp(z * relative) if y else 1.0
        interval = Interval(float(ratio / reach), float(ratio * reach), level, "delete-half-log")
        ratios[name] = Measured(ratio, interval)
    return DiversityGap(a, b, ratios)


def distinct_n(texts: Sequence[Tokens], n: int) -> float:
    """Give the share of different n-grams among all n-grams of texts.

    Parameters
    ----------
    texts : sequence of sequences of str
        Words of each text; n-grams do not cross from one to the next.
    n : int

    Returns
    -------
    float
        In (0, 1]. It falls as texts are added: compare at equal numbers of words.

    Raises
    ------
    ValueError
        If no text has n words.
    """
    grams = [gram for text in texts for gram in zip(*(text[i:] for i in range(n)), strict=False)]
    if not grams:
        raise ValueError(f"no text has {n} words: there is no n-gram to count")
    return len(set(grams)) / len(grams)


def self_bleu(texts: Sequence[Tokens]) -> float:
    """Give the mean BLEU-4 of each text with all others as references.

    Parameters
    ----------
    texts : sequence of sequences of str
        Words of each text; at least 2 texts.

    Returns
    -------
    float
        0 (no two texts share a word) to 1 (all alike). It rises as texts are added.

    Raises
    ------
    ValueError
        If there are fewer than 2 texts.

    Notes
    -----
    Precisions of 2- to 4-grams have 1 added above and below (Lin and Och 2004), or a caption of
    three words could have no BLEU; a text that shares no word with the others has 0. The reference
    length is that of the other text which is nearest in length, the shorter of two.

    The count of an n-gram is clipped by the largest count in another text: the largest over all
    texts, or the second largest for the text that has the largest. So the cost is linear.

    References
    ----------
    Papineni et al. 2002, BLEU. Lin & Och 2004, ORANGE.
    """
    return _self_bleu(*_numbered(texts)[:2])


def _numbered(
    texts: Sequence[Tokens],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], int]:
    """Give the words of texts as numbers, one text after the other, their lengths, and how many."""
    numbers: dict[str, int] = {}
    ids = [numbers.setdefault(word, len(numbers)) for text in texts for word in text]
    lengths = [len(text) for text in texts]
    return np.array(ids, dtype=np.int64), np.array(lengths, dtype=np.int64), len(numbers)


def _ngrams(ids: npt.NDArray[np.int64], kinds: int, order: int) -> Iterator[npt.NDArray[np.int64]]:
    """Give the n-gram at each word a number, n from 1 to ``order``, as if all were one text."""
    grams = ids
    yield grams
    for n in range(2, order + 1):
        pairs = grams[:-1] * kinds + ids[n - 1 :]
        grams = np.unique(pairs, return_inverse=True)[1]
        yield grams


def _left(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """For each word: how many there are from it to the end of its text."""
    ends = np.cumsum(lengths)
    left: npt.NDArray[np.int64] = np.repeat(ends, lengths) - np.arange(lengths.sum())
    return left


def _self_bleu(ids: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> float:
    """Self-BLEU of texts given as numbers of words, one after the other."""
    n_texts = len(lengths)
    if n_texts < 2:
        raise ValueError(f"self-BLEU needs at least 2 texts, got {n_texts}")
    log_precision = np.zeros(n_texts)
    none = np.zeros(n_texts, dtype=bool)
    text, left = np.repeat(np.arange(n_texts), lengths), _left(lengths)
    kinds = int(ids.max(initial=0)) + 1
    for n, grams in enumerate(_ngrams(ids, kinds, _ORDER), 1):
        whole = left[: len(grams)] >= n
        pairs, count = np.unique(
            grams[whole] * n_texts + text[: len(grams)][whole], return_counts=True
        )
        gram, who = np.divmod(pairs, n_texts)
        # By n-gram and count: the last of an n-gram's texts has the most, and is clipped by the
        # one before it; all others are clipped by the last.
        order = np.lexsort((count, gram))
        gram, who, count = gram[order], who[order], count[order]
        last = np.flatnonzero(np.diff(gram, append=-1))
        limit = np.repeat(count[last], np.diff(last, prepend=-1))
        alone = np.diff(last, prepend=-1) == 1
        limit[last] = np.where(alone, 0, count[last - 1])
        clipped = np.bincount(who, np.minimum(count, limit), n_texts)
        total = np.maximum(lengths - n + 1, 0)
        if n == 1:
            none = clipped == 0
            log_precision += np.log(np.where(none, 1.0, clipped) / np.where(none, 1, total))
        else:
            log_precision += np.log((clipped + 1) / (total + 1))
    nearest = _nearest_lengths(lengths)
    with np.errstate(divide="ignore"):
        brevity = np.minimum(1.0, np.exp(1 - nearest / np.maximum(lengths, 1)))
    return float(np.where(none, 0.0, brevity * np.exp(log_precision / _ORDER)).mean())


def _nearest_lengths(lengths: npt.NDArray[np.int_]) -> npt.NDArray[np.int_]:
    """For each text, the length nearest to its own among the others; the shorter of two."""
    order = np.argsort(lengths, kind="stable")
    ordered = lengths[order]
    below = np.concatenate([ordered[:1] - 2 * ordered[-1] - 1, ordered[:-1]])
    above = np.concatenate([ordered[1:], ordered[-1:] * 3 + 1])
    nearest = np.where(ordered - below <= above - ordered, below, above)
    out = np.empty_like(nearest)
    out[order] = nearest
    return out


class _Bag:
    """Texts as words, to draw from."""

    def __init__(self, texts: Sequence[str], groups: Groups, name: str) -> None:
        if isinstance(texts, str):
            raise TypeError(f"{name} must be a sequence of strings, got one string")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name}[{i}] must be a string, got {type(text).__name__}")
        split = [[word.casefold() for word in words(text)] for text in texts]
        codes = groups_of(groups, len(texts), f"groups of {name}")
        codes = np.arange(len(texts)) if codes is None else codes
        self.n = len(texts)
        order = sorted((i for i in range(self.n) if split[i]), key=lambda i: codes[i])
        # Texts of a group lie side by side: ``_first`` is where each group begins.
        self._first = np.flatnonzero(np.diff(codes[order], prepend=-1))
        if len(self._first) < _MIN_TEXTS:
            raise ValueError(
                f"{name} has {len(self._first)} texts (or groups) with a word: at least "
                f"{_MIN_TEXTS} are needed to say how varied they are"
            )
        self._ids, self._lengths, kinds = _numbered([split[i] for i in order])
        self._grams = list(_ngrams(self._ids, kinds, _DISTINCT))
        self._left = _left(self._lengths)
        self.total = len(self._ids)
        self._name = name

    @property
    def half(self) -> int:
        return self.total // 2

    def bleu_texts(self, size: int) -> int:
        """Count the texts that a draw of ``size`` words surely has enough of, to compare."""
        return max(2, min(_BLEU_TEXTS, int(len(self._lengths) * size / self.total / 2)))

    def _draw(
        self, size: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Draw groups until there are ``size`` words: which texts, and how much of each."""
        drawn = rng.permutation(len(self._first))
        counts = np.diff(self._first, append=len(self._lengths))[drawn]
        offsets = self._first[drawn] - np.cumsum(counts) + counts
        texts = np.repeat(offsets, counts) + np.arange(len(self._lengths))
        lengths = self._lengths[texts]
        words_so_far = np.cumsum(lengths)
        used = int(np.searchsorted(words_so_far, size)) + 1
        lengths = lengths[:used].copy()
        lengths[-1] -= words_so_far[used - 1] - size
        return texts[:used], lengths

    def _distinct(
        self, texts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> Iterator[tuple[int, int]]:
        """Count the different n-grams of a draw and all of them, for n from 1 on."""
        taken = np.zeros(len(self._lengths), dtype=np.int64)
        taken[texts] = lengths
        # Words from each on to the end of its text, as far as the draw goes.
        left = self._left - np.repeat(self._lengths - taken, self._lengths)
        for n, grams in enumerate(self._grams, 1):
            found = grams[left[: len(grams)] >= n]
            seen = np.zeros(len(grams), dtype=bool)
            seen[found] = True
            yield int(np.count_nonzero(seen)), len(found)

    def _bleu(self, texts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> float:
        begin = np.cumsum(self._lengths) - self._lengths
        rows = [self._ids[b : b + k] for b, k in zip(begin[texts], lengths, strict=True)]
        return _self_bleu(np.concatenate(rows), lengths)

    def measure(
        self, size: int, bleu_texts: int, level: float, seed: int
    ) -> tuple[TextDiversity, dict[str, float]]:
        """Give the result, and the standard errors."""
        if not _ORDER <= size <= self.half:
            raise ValueError(
                f"tokens must lie in {_ORDER}..{self.half} (half of the words of {self._name}), "
                f"got {size}"
            )
        rng = np.random.default_rng(seed)
        values: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(_DRAWS):
            texts, lengths = self._draw(size, rng)
            for n, (different, every) in enumerate(self._distinct(texts, lengths), 1):
                if n == 1:
                    values["vocabulary"].append(different)
                if not every:
                    raise ValueError(f"no text of {self._name} has {n} words: no n-gram to count")
                values[f"distinct_{n}"].append(different / every)
            values["self_bleu"].append(self._bleu(texts[:bleu_texts], lengths[:bleu_texts]))
        z = NormalDist().inv_cdf((1 + level) / 2)
        errors = {name: delete_half_se(v, size, self.total) for name, v in values.items()}
        measured = {}
        for name, v in values.items():
            mean, reach = float(np.mean(v)), z * errors[name]
            measured[name] = Measured(
                mean, Interval(mean - reach, mean + reach, level, "delete-half")
            )
        return TextDiversity(
            **measured, tokens=size, bleu_texts=bleu_texts, n=self.n, tokeniser=tokeniser()
        ), errors
