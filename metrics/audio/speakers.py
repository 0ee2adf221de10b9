"""Whether synthetic voices are those of the real set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from .._check import Array, groups_of, pair
from .._result import Interval

_Floats: TypeAlias = npt.NDArray[np.float64]
_BLOCK = 1024  # rows of the matrix of cosines that are in memory at once
FEWEST_SPEAKERS = 5
"""Speakers of a side from which speakers, not clips, are what varies."""


@dataclass(frozen=True, slots=True)
class SpeakerSimilarity:
    """How like the real voices the synthetic ones are.

    Attributes
    ----------
    value : float
        Mean over synthetic clips, a cosine, -1 to 1.
    real : float
        The same of real clips, each left out of what it is compared with: the floor.
    gap : float
        ``real - value``; 0 for voices that are as like the real ones as those are to themselves.
    interval : Interval
        Of the gap.
    named : bool
        Whether clips were compared with those of the speaker of the same name.
    scores : ndarray of float, shape (m,)
        Of each synthetic clip.
    """

    value: float
    real: float
    gap: float
    interval: Interval
    named: bool
    scores: _Floats


def speaker_similarity(
    real: Array,
    synthetic: Array,
    *,
    speakers_real: Sequence[object] | None = None,
    speakers_synthetic: Sequence[object] | None = None,
    level: float = 0.95,
) -> SpeakerSimilarity:
    """Compare synthetic voices with real ones by embeddings of a speaker encoder.

    Where every synthetic speaker is also a real one, by name, a clip's similarity is its mean
    cosine with the real clips of that speaker: what a cloned voice is asked for. Otherwise it is
    the highest cosine with any real clip: whether it is a voice of the real set at all.

    Parameters
    ----------
    real, synthetic : array, shapes (n, d) and (m, d)
        Embeddings, as those of ``ge2e``.
    speakers_real, speakers_synthetic : sequence, optional
        The speaker of each clip; give both or neither.
    level : float
        Coverage of the interval.

    Returns
    -------
    SpeakerSimilarity

    Raises
    ------
    ValueError
        If shapes do not fit, a row is zero, or a side has fewer than 2 clips that can be compared.

    Notes
    -----
    The interval is that of two independent means, by Welch, over speakers where both sides have 5
    or more, and otherwise over clips: it then holds for these speakers only. It cannot see what is
    said, nor how naturally, and the encoder's own errors count: another microphone or much noise
    lowers the similarity of the same voice.

    References
    ----------
    Y. Jia et al., "Transfer learning from speaker verification to multispeaker text-to-speech
    synthesis", NeurIPS 2018.
    """
    a, b = pair(real, synthetic)
    x, y = _unit(a.cpu().numpy(), "real"), _unit(b.cpu().numpy(), "synthetic")
    if (speakers_real is None) != (speakers_synthetic is None):
        raise ValueError("give the speakers of both sides, or of neither")
    who = _names(speakers_real, len(x), "speakers_real")
    whose = _names(speakers_synthetic, len(y), "speakers_synthetic")
    own, scores = np.full(len(x), np.nan), np.empty(0)
    if who is not None and whose is not None and np.isin(whose, who).all():
        own, scores = _to_speaker(x, y, who, whose)
    named = bool(np.isfinite(own).any())
    if not named:  # other speakers, or one clip of each: there is no floor by name
        own, scores = _to_nearest(x, x, itself=True), _to_nearest(y, x, itself=False)
    there = np.isfinite(own)
    sides = [(own[there], None if who is None else who[there]), (scores, whose)]
    few = any(g is None or len(set(g.tolist())) < FEWEST_SPEAKERS for _, g in sides)
    parts = [_mean(values, None if few else g) for values, g in sides]
    gap = parts[0][0] - parts[1][0]
    variance = sum(se**2 for _, se, _ in parts)
    freedom = variance**2 / max(sum(se**4 / (k - 1) for _, se, k in parts), 1e-300)
    half = float(student.ppf(0.5 + level / 2, max(freedom, 1.0))) * float(np.sqrt(variance))
    return SpeakerSimilarity(
        value=parts[1][0],
        real=parts[0][0],
        gap=gap,
        interval=Interval(
            gap - half, gap + half, level, f"Welch over {'clips' if few else 'speakers'}"
        ),
        named=named,
        scores=scores,
    )


def _names(speakers: Sequence[object] | None, n: int, name: str) -> npt.NDArray[np.str_] | None:
    groups_of(speakers, n, name)  # refuses another number of them
    return None if speakers is None else np.array([str(s) for s in speakers])


def _unit(rows: npt.NDArray[np.floating], name: str) -> _Floats:
    x = rows.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"{name} has a row of zeros, which has no direction")
    return np.asarray(x / length)


def _to_speaker(
    x: _Floats, y: _Floats, who: npt.NDArray[np.str_], whose: npt.NDArray[np.str_]
) -> tuple[_Floats, _Floats]:
    """Mean cosine of each clip with the real clips of its speaker; NaN where there is no other."""
    own, scores = np.full(len(x), np.nan), np.full(len(y), np.nan)
    for name in np.unique(who):
        mine = x[who == name]
        total = mine.sum(axis=0)
        if len(mine) > 1:  # a clip's cosine with itself is 1
            own[who == name] = (mine @ total - 1) / (len(mine) - 1)
        scores[whose == name] = y[whose == name] @ total / len(mine)
    return own, scores


def _to_nearest(rows: _Floats, others: _Floats, *, itself: bool) -> _Floats:
    """Highest cosine of each row with any other."""
    best = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        cosine = rows[start : start + _BLOCK] @ others.T
        if itself:
            k = np.arange(len(cosine))
            cosine[k, start + k] = -np.inf
        best[start : start + _BLOCK] = cosine.max(axis=1)
    return best


def _mean(values: _Floats, groups: npt.NDArray[np.str_] | None) -> tuple[float, float, int]:
    """Give the mean, its standard error over independent units, and how many there are."""
    codes = np.arange(len(values))
    if groups is not None:
        codes = np.unique(groups, return_inverse=True)[1]
    k = int(codes.max(initial=-1)) + 1
    if k < 2:
        raise ValueError(f"at least 2 clips a side must be comparable, got {k}")
    mean = float(values.mean())
    residual = np.bincount(codes, values - mean)
    return mean, float(np.sqrt((residual**2).sum() * k / (k - 1)) / len(values)), k
