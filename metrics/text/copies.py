"""Near-verbatim copies: texts of a generator that repeat each other, or the text it was trained on.

Candidates are found by MinHash (datasketch) and locality-sensitive hashing; each is then compared
exactly, so that no pair below the threshold is reported.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse, special

from .._result import Interval, Scalar
from ..distribution.copying import wilson_interval
from ..inference import Groups, p_value, permutation_masks, pool_groups

_Shingles: TypeAlias = frozenset[str]

SHINGLE = 5
"""Characters in a shingle."""
_HASHES = 128
_KEPT_HASHES = 2**20
_BLOCK = 256
_MISSED = 1e-3  # pairs at the threshold that hashing may overlook
_PERMUTATIONS = 999


@dataclass(frozen=True, slots=True)
class CopyPair:
    """A text and what it repeats.

    Attributes
    ----------
    synthetic : int
        Index of the synthetic text.
    other : int
        Index of the text that it repeats: the first of those that are written alike.
    similarity : float
        Jaccard similarity of their shingles, threshold to 1.
    """

    synthetic: int
    other: int
    similarity: float


@dataclass(frozen=True, slots=True)
class CopyShare(Scalar):
    """Share of the synthetic texts that repeat a text of one set.

    Attributes
    ----------
    value : float
        0 to 1.
    interval : Interval
        Wilson's; it takes the synthetic texts for independent draws.
    exact : float
        Share that is the same but for case, width, punctuation and spaces.
    pairs : tuple of CopyPair
        For each text that repeats one, its most similar original; the most similar first.
    """

    interval: Interval
    exact: float
    pairs: tuple[CopyPair, ...]


@dataclass(frozen=True, slots=True)
class Memorisation(Scalar):
    """Whether the texts that a generator saw are repeated more often than those it never saw.

    Attributes
    ----------
    value : float
        Share of synthetic texts that repeat a real one, less the share that repeat a holdout one,
        both expected for sets of ``size``; 0 if nothing is memorised.
    size : int
        That of the smaller of the two sets.
    p_value : float
        That real and holdout texts are alike to the generator: exact permutation test, one-sided.
    """

    size: int
    p_value: float


@dataclass(frozen=True, slots=True)
class CopyReport:
    """What :func:`near_copies` found.

    Attributes
    ----------
    inside : CopyShare
        Synthetic texts that repeat another synthetic text.
    of_real, of_holdout : CopyShare or None
        Synthetic texts that repeat a real, or a holdout text; None if that set was not given.
    memorised : Memorisation or None
        None without a holdout.
    threshold : float
        Jaccard similarity from which a text counts as a copy.
    missed : float
        Probability that hashing overlooks a pair just at the threshold.
    empty : int
        Synthetic texts without a letter or number: they are no copies of each other.
    """

    inside: CopyShare
    of_real: CopyShare | None
    of_holdout: CopyShare | None
    memorised: Memorisation | None
    threshold: float
    missed: float
    empty: int


def near_copies(
    synthetic: Sequence[str],
    *,
    real: Sequence[str] | None = None,
    holdout: Sequence[str] | None = None,
    threshold: float = 0.7,
    groups_real: Groups = None,
    groups_holdout: Groups = None,
    level: float = 0.95,
    seed: int = 0,
) -> CopyReport:
    """Find synthetic texts that nearly repeat each other, or real texts.

    Parameters
    ----------
    synthetic : sequence of str, length n
    real : sequence of str, optional
        What the generator may have seen.
    holdout : sequence of str, optional
        Real texts that it never saw: what they are repeated is chance.
    threshold : float
        Jaccard similarity, 0.3 to 1, from which a text is a copy.
    groups_real, groups_holdout : sequence, optional
        Document or source of each real text, for the test of memorisation.
    level : float
        Of the intervals.
    seed : int
        Of the hashes and the permutations.

    Returns
    -------
    CopyReport

    Raises
    ------
    ValueError
        If ``synthetic`` is empty, a holdout comes without real texts, or the threshold is out of
        range.
    TypeError
        If a text is no string.
    ImportError
        If datasketch is not installed.

    Notes
    -----
    Two texts are compared by the sets of their 5-character shingles, after folding case and width
    and removing all but letters and numbers, which works for any script. In a text of L letters,
    one word of w letters that is exchanged costs (2w + 8) / (L + w) of the similarity: a sentence
    of a dozen words with one of them changed is just a copy.

    With real sets of unequal sizes the larger would be repeated more often by chance:
    ``memorised`` compares the chance that a text repeats one of a random subset of equal size,
    which is hypergeometric. Its test deals the labels real and holdout anew.

    It cannot see translations, paraphrases or a copied phrase in a long text.

    References
    ----------
    Broder 1997, On the resemblance and containment of documents. Lee et al. 2022, Deduplicating
    training data makes language models better, arXiv:2107.06499.

    Examples
    --------
    >>> report = near_copies(
    ...     ["A red bus stands in the rain.", "a red bus stands in the rain", "Two dogs play."]
    ... )
    >>> round(float(report.inside), 3), report.inside.pairs[0].other
    (0.667, 1)
    """
    if not 0.3 <= threshold <= 1:
        raise ValueError(f"threshold must lie in 0.3..1, got {threshold}")
    if holdout is not None and real is None:
        raise ValueError("a holdout says something only beside the real texts: give real too")
    ours = _Texts(synthetic, "synthetic", seed)
    if not ours.n:
        raise ValueError("synthetic has no text")
    bands, rows, missed = _bands(threshold)
    shares: dict[str, CopyShare] = {}
    sides = []
    for name, texts in (("inside", None), ("real", real), ("holdout", holdout)):
        theirs = ours
        if name != "inside":
            if texts is None:
                continue
            theirs = _Texts(texts, name, seed)
            if not theirs.n:
                raise ValueError(f"{name} has no text")
        matches = _matches(ours, theirs, threshold, bands, rows)
        shares[name] = _share(ours, theirs, matches, level)
        if name != "inside":
            sides.append((theirs, matches))
    memorised = None
    if len(sides) == 2:
        groups = pool_groups(groups_real, groups_holdout, sides[0][0].n, sides[1][0].n)
        memorised = _memorisation(ours, sides, groups, seed)
    return CopyReport(
        inside=shares["inside"],
        of_real=shares.get("real"),
        of_holdout=shares.get("holdout"),
        memorised=memorised,
        threshold=threshold,
        missed=missed,
        empty=ours.empty,
    )


class _Texts:
    """The different normal forms of some texts, with who is written like that."""

    def __init__(self, texts: Sequence[str], name: str, seed: int) -> None:
        if isinstance(texts, str):
            raise TypeError(f"{name} must be a sequence of strings, got one string")
        members: dict[str, list[int]] = defaultdict(list)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name}[{i}] must be a string, got {type(text).__name__}")
            members[_normal(text)].append(i)
        self.n = len(texts)
        self.empty = len(members.pop("", []))
        self.forms = list(members)
        self.members = list(members.values())
        self.shingles = [_shingles(form) for form in self.forms]
        self.hashes = _hashes(self.shingles, seed)


def _matches(
    ours: _Texts, theirs: _Texts, threshold: float, bands: int, rows: int
) -> sparse.csr_array:
    """Give the similarity of the normal forms, (ours, theirs), where it reaches the threshold.

    Of forms, not of texts: a thousand equal texts are not a million pairs.
    """
    found: list[tuple[int, int, float]] = []
    for i, j in _candidates(ours.hashes, theirs.hashes, bands, rows):
        a, b = ours.shingles[i], theirs.shingles[j]
        both = len(a & b)
        similarity = both / (len(a) + len(b) - both)
        if similarity >= threshold:
            found.append((i, j, similarity))
    at, to, values = zip(*found, strict=True) if found else ((), (), ())
    shape = (len(ours.forms), len(theirs.forms))
    return sparse.csr_array((np.array(values, dtype=np.float64), (at, to)), shape=shape)


def _candidates(
    ours: npt.NDArray[np.uint64], theirs: npt.NDArray[np.uint64], bands: int, rows: int
) -> Iterator[tuple[int, int]]:
    """Give each pair that agrees in all rows of some band, once, and now and then another."""
    # One number for the rows of a band: unequal rows rarely share it, and what does is compared.
    mix = np.random.default_rng(0).integers(2**63, size=rows, dtype=np.uint64) * np.uint64(2) + 1
    keys = [
        [(h[:, k : k + rows] * mix).sum(axis=1, dtype=np.uint64) for h in (ours, theirs)]
        for k in range(0, bands * rows, rows)
    ]
    orders = [np.argsort(key, kind="stable") for _, key in keys]
    ordered = [key[order] for (_, key), order in zip(keys, orders, strict=True)]
    for start in range(0, len(ours), _BLOCK):
        pairs = np.zeros(0, dtype=np.int64)
        for (key, _), order, known in zip(keys, orders, ordered, strict=True):
            first, last = (
                np.searchsorted(known, key[start : start + _BLOCK], side)
                for side in ("left", "right")
            )
            count = last - first
            at = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
            mine = np.repeat(np.arange(start, start + len(count)), count)
            pairs = np.union1d(pairs, mine * len(theirs) + order[at])
        yield from zip(*(side.tolist() for side in np.divmod(pairs, len(theirs))), strict=True)


def _bands(threshold: float) -> tuple[int, int, float]:
    """Choose the most selective bands that overlook at most one pair in a thousand."""
    for rows in (32, 16, 8, 4, 2, 1):
        bands = _HASHES // rows
        missed = (1 - threshold**rows) ** bands
        if missed <= _MISSED:
            return bands, rows, missed
    raise AssertionError("one row to a band overlooks nothing from 0.3 on")


def _hashes(shingles: Sequence[_Shingles], seed: int) -> npt.NDArray[np.uint64]:
    """MinHash of each set of shingles, shape (n, hashes)."""
    try:
        from datasketch import MinHash
        from datasketch.hashfunc import sha1_hash32
    except ImportError as error:
        raise ImportError(
            "near copies of texts need datasketch: pip install 'evalsuite[metrics]'"
        ) from error
    # Texts of one language share most of their shingles: each is hashed once.
    sketches = MinHash.generator(
        ([s.encode() for s in one] for one in shingles),
        num_perm=_HASHES,
        seed=seed % 2**32,
        hashfunc=lru_cache(maxsize=_KEPT_HASHES)(sha1_hash32),
    )
    out = np.empty((len(shingles), _HASHES), dtype=np.uint64)
    for row, sketch in zip(out, sketches, strict=True):
        row[:] = sketch.hashvalues
    return out


def _normal(text: str) -> str:
    """Fold case and width, and keep letters and numbers (and marks, which belong to letters)."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in folded if unicodedata.category(c)[0] in "LMN")


def _shingles(form: str) -> _Shingles:
    return frozenset(form[i : i + SHINGLE] for i in range(max(1, len(form) - SHINGLE + 1)))


def _share(ours: _Texts, theirs: _Texts, matches: sparse.csr_array, level: float) -> CopyShare:
    same = ours is theirs
    pairs = []
    exact = 0
    for i, members in enumerate(ours.members):
        row = slice(matches.indptr[i], matches.indptr[i + 1])
        similar = [
            (-similarity, theirs.members[j], theirs.forms[j])
            for similarity, j in zip(matches.data[row], matches.indices[row], strict=True)
            if not same or j != i or len(members) > 1
        ]
        if not similar:
            continue
        negative, others, form = min(similar)
        exact += len(members) if form == ours.forms[i] else 0
        for k in members:
            # Of equal texts each repeats the first, and the first the second.
            other = next(o for o in others[:2] if not same or o != k)
            pairs.append(CopyPair(k, other, -float(negative)))
    pairs.sort(key=lambda pair: (-pair.similarity, pair.synthetic))
    value = len(pairs) / ours.n
    return CopyShare(
        value=value,
        interval=wilson_interval(value, ours.n, level),
        exact=exact / ours.n,
        pairs=tuple(pairs),
    )


def _memorisation(
    ours: _Texts,
    sides: Sequence[tuple[_Texts, sparse.csr_array]],
    groups: npt.NDArray[np.int_] | None,
    seed: int,
) -> Memorisation:
    m, h = (texts.n for texts, _ in sides)
    size = min(m, h)
    weight = np.array([len(members) for members in ours.members]) / ours.n
    hits, expected = [], []
    for texts, matches in sides:
        # Which texts a form of ours repeats: its similar forms, and all that are written so.
        written = sparse.csr_array(
            (
                np.ones(texts.n - texts.empty),
                (
                    np.repeat(np.arange(len(texts.forms)), [len(x) for x in texts.members]),
                    np.array([k for members in texts.members for k in members], dtype=np.intp),
                ),
            ),
            shape=(len(texts.forms), texts.n),
        )
        hits.append((matches > 0).astype(np.float64) @ written)
        expected.append(float(weight @ _hit_chance(hits[-1].sum(axis=1), texts.n, size)))
    pool = sparse.hstack(hits, format="csr")
    first, _ = permutation_masks(m, h, _PERMUTATIONS, groups=groups, seed=seed)
    first = np.column_stack([np.arange(m + h) < m, first])
    gap = weight @ ((pool @ first.astype(np.float64)) > 0)
    gap -= weight @ ((pool @ (~first).astype(np.float64)) > 0)
    return Memorisation(
        value=expected[0] - expected[1],
        size=size,
        p_value=p_value(float(gap[0]), gap[1:], "upper", tie=1e-12),
    )


def _hit_chance(k: npt.NDArray[np.float64], n: int, size: int) -> npt.NDArray[np.float64]:
    """Chance that a random subset of ``size`` of n texts holds one of k."""
    misses = np.zeros_like(k)
    some = k <= n - size
    misses[some] = np.exp(
        special.gammaln(n - k[some] + 1)
        - special.gammaln(n - k[some] - size + 1)
        - special.gammaln(n + 1)
        + special.gammaln(n - size + 1)
    )
    chance: npt.NDArray[np.float64] = 1 - misses
    return chance
