"""Label leakage: words that give a text's label away in synthetic data, but not in real data.

A generator that is asked for "a negative review" likes to write the word. A classifier that is
trained on it learns the word, and fails on real text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

from .._check import groups_of
from ..drift.multiplicity import adjust_pvalues
from ..inference import Groups
from .words import tokeniser, words

_Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LeakedWord:
    """A word that says more about the label in synthetic text than in real text.

    Attributes
    ----------
    word : str
        Case folded.
    label : str
    gap : float
        Difference of the two log-odds ratios, synthetic less real, in nats.
    synthetic, real : float
        Log-odds ratio of the word between texts with the label and those without, on each side.
    share_synthetic, share_real : float
        Share of the texts with the label that hold the word.
    precision : float
        Share of the synthetic texts with the word that have the label: 1 gives it away wholly.
    p_adjusted : float
        That the word tells as much of the label on both sides, over all words and labels (Holm).
    """

    word: str
    label: str
    gap: float
    synthetic: float
    real: float
    share_synthetic: float
    share_real: float
    precision: float
    p_adjusted: float


@dataclass(frozen=True, slots=True)
class LabelLeakage:
    """What :func:`label_leakage` found.

    Attributes
    ----------
    leaked : tuple of LeakedWord
        The most telling first.
    share : float
        Share of the synthetic texts with at least one leaked word of their own label.
    tested : int
        Pairs of a word and a label that were frequent enough to be tested.
    alpha : float
    tokeniser : str
        How texts were split.
    """

    leaked: tuple[LeakedWord, ...]
    share: float
    tested: int
    alpha: float
    tokeniser: str


def label_leakage(
    real: Sequence[str],
    real_labels: Sequence[object],
    synthetic: Sequence[str],
    synthetic_labels: Sequence[object],
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    min_texts: int = 5,
    min_gap: float = 1.0,
    alpha: float = 0.05,
) -> LabelLeakage:
    """Find words that give the label away in synthetic texts more than in real ones.

    Parameters
    ----------
    real, synthetic : sequence of str
    real_labels, synthetic_labels : sequence
        Label of each text; only labels that are on both sides are compared.
    groups_real, groups_synthetic : sequence, optional
        Document or prompt of each text. A word counts once for each group and label, so that one
        prompt written a hundred times is no evidence.
    min_texts : int
        Fewest synthetic texts (or groups) that hold a word for it to be tested.
    min_gap : float
        Smallest difference of log-odds ratios that is reported; 1 is a factor of 2.7 in the odds.
    alpha : float
        Family-wise error rate, over all words and labels.

    Returns
    -------
    LabelLeakage

    Raises
    ------
    ValueError
        If lengths differ, fewer than two labels are on both sides, or a setting is out of range.
    TypeError
        If a text is no string.

    Notes
    -----
    For each word and label there are two 2 × 2 tables, texts with and without the word against
    texts with and without the label, one for each side. ``gap`` is the difference of their
    log-odds ratios, with 1/2 added to each cell (Haldane). Whether there is one is tested on the
    shares: how much more texts with the label hold the word than other texts do, on the synthetic
    side against the real side, with one success and one failure added to each share (Agresti and
    Caffo). The odds cannot say it of a word that real texts never hold, which is the plainest leak.
    The test is one-sided: words that say more in real text are not reported.

    It sees single words; a phrase, a style or a length that gives the label away it does not.

    References
    ----------
    Haldane 1956, Ann. Hum. Genet. 20. Agresti & Caffo 2000, Am. Stat. 54. Gardner et al. 2021,
    Competency problems: on finding and removing artifacts in language data, EMNLP.
    """
    if min_texts < 1 or min_gap < 0 or not 0 < alpha < 1:
        raise ValueError(
            "min_texts must be at least 1, min_gap at least 0 and alpha in (0, 1), got "
            f"{min_texts}, {min_gap} and {alpha}"
        )
    sides = [
        _Side(real, real_labels, groups_real, "real"),
        _Side(synthetic, synthetic_labels, groups_synthetic, "synthetic"),
    ]
    labels = sorted(sides[0].units.keys() & sides[1].units.keys())
    if len(labels) < 2:
        raise ValueError(
            f"only {len(labels)} label(s) are on both sides: a label leaks only beside another"
        )
    for side in sides:
        side.keep(labels)
    ours = sides[1]
    totals: Counter[str] = Counter()
    for label in labels:
        totals.update(ours.counts[label])
    tested = [
        (word, label)
        for word, total in sorted(totals.items())
        if total >= min_texts
        for label in labels
        if ours.counts[label][word] > 0
    ]
    if not tested:
        return LabelLeakage((), 0.0, 0, alpha, tokeniser())
    real_cells, cells = (side.tables(tested) for side in sides)
    real_odds, odds = _log_odds(real_cells), _log_odds(cells)
    gap = odds - real_odds
    (real_lead, real_variance), (lead, variance) = _lead(real_cells), _lead(cells)
    z = (lead - real_lead) / np.sqrt(variance + real_variance)
    adjusted = adjust_pvalues(stats.norm.sf(z), "holm")
    found = [
        LeakedWord(
            word=word,
            label=label,
            gap=float(gap[i]),
            synthetic=float(odds[i]),
            real=float(real_odds[i]),
            share_synthetic=ours.counts[label][word] / ours.units[label],
            share_real=sides[0].counts[label][word] / sides[0].units[label],
            precision=ours.counts[label][word] / totals[word],
            p_adjusted=float(adjusted[i]),
        )
        for i, (word, label) in enumerate(tested)
        # A word may tell less than nothing on both sides, and still the gap be positive.
        if adjusted[i] <= alpha and gap[i] >= min_gap and odds[i] > 0
    ]
    found.sort(key=lambda leak: (leak.p_adjusted, -leak.gap, leak.word))
    return LabelLeakage(
        leaked=tuple(found),
        share=ours.share_with({(leak.word, leak.label) for leak in found}),
        tested=len(tested),
        alpha=alpha,
        tokeniser=tokeniser(),
    )


class _Side:
    """In how many texts (or groups) of each label each word is."""

    def __init__(
        self, texts: Sequence[str], labels: Sequence[object], groups: Groups, name: str
    ) -> None:
        if len(texts) != len(labels):
            raise ValueError(f"{name} has {len(texts)} texts and {len(labels)} labels")
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name}[{i}] must be a string, got {type(text).__name__}")
        codes = groups_of(groups, len(texts), f"groups_{name}")
        if codes is None:
            codes = np.arange(len(texts))
        self._texts = [
            (str(label), frozenset(word.casefold() for word in words(text)))
            for text, label in zip(texts, labels, strict=True)
        ]
        units: dict[tuple[int, str], set[str]] = {}
        for code, (label, found) in zip(codes, self._texts, strict=True):
            units.setdefault((int(code), label), set()).update(found)
        self.units = Counter(label for _, label in units)
        self.counts: dict[str, Counter[str]] = {label: Counter() for label in self.units}
        for (_, label), held in units.items():
            self.counts[label].update(held)

    def keep(self, labels: Sequence[str]) -> None:
        """Forget the texts with other labels."""
        self.units = Counter({label: self.units[label] for label in labels})
        self.counts = {label: self.counts[label] for label in labels}
        self._texts = [item for item in self._texts if item[0] in self.units]

    def tables(self, tested: Sequence[tuple[str, str]]) -> _Floats:
        """Texts with and without the word, of the label and of others: (k, 2, 2)."""
        total = sum(self.units.values())
        everywhere: Counter[str] = Counter()
        for counts in self.counts.values():
            everywhere.update(counts)
        cells = np.empty((len(tested), 2, 2))
        for table, (word, label) in zip(cells, tested, strict=True):
            inside, n = self.counts[label][word], self.units[label]
            outside, m = everywhere[word] - inside, total - n
            table[:] = (inside, n - inside), (outside, m - outside)
        return cells

    def share_with(self, leaks: set[tuple[str, str]]) -> float:
        """Share of the texts that hold a word which leaks their own label."""
        hits = sum(any((word, label) in leaks for word in held) for label, held in self._texts)
        return hits / len(self._texts)


def _log_odds(cells: _Floats) -> _Floats:
    logs = np.log(cells + 0.5)
    ratio: _Floats = logs[:, 0, 0] - logs[:, 0, 1] - logs[:, 1, 0] + logs[:, 1, 1]
    return ratio


def _lead(cells: _Floats) -> tuple[_Floats, _Floats]:
    """By how much more of the label's texts hold the word than of others, and its variance."""
    with_word, texts = cells[:, :, 0] + 1, cells.sum(axis=2) + 2
    share = with_word / texts
    return share[:, 0] - share[:, 1], (share * (1 - share) / texts).sum(axis=1)
