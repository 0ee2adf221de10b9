"""Whether the parts of a record say the same: image and caption, speech and text.

A score alone says little: a cosine of 0.25 is a good one for CLIP and a bad one for a sentence
encoder. So every score is placed between two ends that are measured with real data: *matched* real
pairs, and the same real pairs *shuffled*. Higher scores must be better; give a word error rate as
its negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from .._check import Array, groups_of, pair
from .._result import Interval
from ..drift.multiplicity import adjust_pvalues
from ..inference import Groups, p_value, permutation_masks, pool_groups

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

TORCHMETRICS_WEIGHT = 100.0
PAPER_WEIGHT = 2.5
"""The two scales that CLIPScore is published on."""


@dataclass(frozen=True, slots=True)
class Consistency:
    """How records compare with real pairs and with shuffled real pairs.

    Attributes
    ----------
    p_values : ndarray of float64, shape (n,)
        Of each record: "it is a pair like the real ones". Low means mismatched. A record that is
        one gets p ≤ alpha with probability at most alpha, for every alpha.
    p_adjusted : ndarray of float64, shape (n,)
        Benjamini-Hochberg: where at or under q, at most a share q of those listed are matched, on
        average.
    mismatched : tuple of int
        Records with p ≤ ``alpha``, the lowest score first. Not adjusted: about a share ``alpha``
        of the matched records is among them, however many there are.
    threshold : float
        A record is called mismatched where its score is under this.
    alpha : float
        The false-alarm rate that was asked for.
    false_alarms : Interval
        Where the rate of this very calibration sample lies: with few real pairs the threshold is
        itself uncertain. Exact without groups, wider than needed with them.
    detected : float
        Share of the shuffled pairs that would be called mismatched: the power at ``alpha``.
    auc : float
        Probability that a matched pair scores above a shuffled one, ties counted half: what this
        score can see. 0.5 is nothing, 1 is best.
    auc_interval : Interval
        For ``auc``.
    can_tell : bool
        False where matched pairs do not score above shuffled ones by more than chance. Then
        ``positions``, ``share`` and ``share_interval`` are None: this score cannot tell.
    positions : ndarray of float64, shape (n,), or None
        Place of each record on the scale: 0 the mean of the shuffled pairs, 1 that of the matched
        ones; not cut to [0, 1].
    share : float or None
        Share of the records that are mismatched, 0 to 1: as many as would have to be shuffled real
        pairs, the rest matched real pairs, to give this mean score.
    share_interval : Interval or None
        For ``share``. The whole of [0, 1] where ``on_scale`` is False.
    on_scale : bool
        False where the mean score lies beyond an end of the scale by more than chance: no mixture
        of matched and shuffled real pairs gives it, so that it says nothing about the share.
    n, n_matched, n_shuffled : int
        Numbers of scores.
    """

    p_values: _Floats
    p_adjusted: _Floats
    mismatched: tuple[int, ...]
    threshold: float
    alpha: float
    false_alarms: Interval
    detected: float
    auc: float
    auc_interval: Interval
    can_tell: bool
    positions: _Floats | None
    share: float | None
    share_interval: Interval | None
    on_scale: bool
    n: int
    n_matched: int
    n_shuffled: int


@dataclass(frozen=True, slots=True)
class ConsistencyGap:
    """How much less consistent synthetic pairs are than real ones.

    Attributes
    ----------
    drop : float
        Mean real score minus mean synthetic score, in the score's unit; best 0, negative where the
        synthetic pairs agree more.
    drop_interval : Interval
        For ``drop``: Welch's, over groups where there are any.
    relative : float or None
        ``drop`` on the scale from matched (0) to shuffled (1). None where the score cannot tell
        matched from shuffled real pairs: no gap can then be seen, which is no evidence that there
        is none.
    relative_interval : Interval or None
        For ``relative``: Fieller's. None also where it has no bounds.
    p_value : float
        Permutation of real and synthetic scores, one-sided: synthetic pairs score lower.
    auc : float
        As in :class:`Consistency`.
    n_real, n_synthetic : int
        Numbers of scores.
    """

    drop: float
    drop_interval: Interval
    relative: float | None
    relative_interval: Interval | None
    p_value: float
    auc: float
    n_real: int
    n_synthetic: int


# --- scores from features -------------------------------------------------------------------------


def clip_score(
    image_features: Array,
    text_features: Array,
    *,
    weight: float = TORCHMETRICS_WEIGHT,
    clamp: bool = True,
) -> _Floats:
    """CLIPScore of each pair: the cosine of the two embeddings, scaled.

    Parameters
    ----------
    image_features, text_features : array, shape (n, d)
        Embeddings of a contrastive model; row i of one belongs to row i of the other. They need not
        be normalised.
    weight : float
        100 as torchmetrics and most reports, 2.5 as the paper.
    clamp : bool
        Whether a negative cosine counts as 0, as in the paper. torchmetrics clamps the mean over
        the pairs instead: with False, these are the values that it takes the mean of.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 to ``weight`` (from ``-weight`` without clamping); higher is better. Absolute values
        depend on the model: compare only scores of one model, and read them on a scale of
        matched and shuffled pairs (:func:`consistency`).

    Raises
    ------
    TypeError, ValueError
        If the arrays do not pair up, are not finite, or a row is all zeros.

    Notes
    -----
    It sees what the model sees: CLIP models are weak on counts, relations, negation, small
    objects and fine text, and score long captions on their first 77 tokens only.

    References
    ----------
    Hessel et al. 2021, CLIPScore: A reference-free evaluation metric for image captioning, EMNLP.
    """
    x, y = unit_rows(image_features, text_features, "image_features", "text_features")
    cosine = _numpy((x * y).sum(dim=1))
    return weight * (np.maximum(cosine, 0.0) if clamp else cosine)


def ref_clip_score(
    image_features: Array,
    text_features: Array,
    reference_features: Array,
    owner: Sequence[int] | npt.NDArray[np.integer],
    *,
    weight: float = PAPER_WEIGHT,
) -> _Floats:
    """RefCLIPScore of each pair: harmonic mean of CLIPScore and the best match of a reference.

    Parameters
    ----------
    image_features, text_features : array, shape (n, d)
        As in :func:`clip_score`.
    reference_features : array, shape (r, d)
        Text embeddings of the reference captions.
    owner : sequence of int, length r
        To which pair, 0 to n - 1, each reference belongs. Every pair needs at least one.
    weight : float
        Of the CLIPScore in the mean. The paper's 2.5 brings it to about the range of the
        reference's cosine; with 100 the mean would be twice that cosine, whatever the image.

    Returns
    -------
    ndarray of float64, shape (n,)
        0 to 2 · ``weight`` / (1 + ``weight``); higher is better.

    Raises
    ------
    TypeError, ValueError
        As :func:`clip_score`; also if a pair has no reference.

    References
    ----------
    Hessel et al. 2021, section 3.
    """
    image = clip_score(image_features, text_features, weight=weight)
    n = len(image)
    rows = np.asarray(owner)
    if rows.ndim != 1 or rows.dtype.kind not in "iu" or len(rows) != len(reference_features):
        raise ValueError(
            f"owner must name a pair for each of {len(reference_features)} references, as integers"
        )
    if rows.size and (rows.min() < 0 or rows.max() >= n):
        raise ValueError(f"owner must lie in 0..{n - 1}, got {rows.min()} to {rows.max()}")
    alone = np.setdiff1d(np.arange(n), rows)
    if alone.size:
        raise ValueError(f"pairs without a reference: {alone[:5].tolist()} ({alone.size} of {n})")
    text = np.asarray(text_features) if isinstance(text_features, np.ndarray) else text_features
    x, y = unit_rows(text[rows], reference_features, "text_features", "reference_features")
    best = np.zeros(n)
    np.maximum.at(best, rows, _numpy((x * y).sum(dim=1)))
    total = image + best
    return np.divide(2 * image * best, total, out=np.zeros(n), where=total > 0)


def unit_rows(a: Array, b: Array, name_a: str, name_b: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Check two feature arrays row by row, and normalise the rows."""
    x, y = pair(a, b)
    if len(x) != len(y):
        raise ValueError(f"{name_a} has {len(x)} rows and {name_b} {len(y)}: they must pair up")
    unit = []
    for rows, name in ((x, name_a), (y, name_b)):
        length = rows.norm(dim=1, keepdim=True)
        if bool((length == 0).any()):
            first = int((length[:, 0] == 0).nonzero()[0])
            raise ValueError(f"row {first} of {name} is all zeros: it has no direction")
        unit.append(rows / length)
    return unit[0], unit[1]


def _numpy(values: torch.Tensor) -> _Floats:
    result: _Floats = values.cpu().numpy()
    return result


# --- the scale ------------------------------------------------------------------------------------


def derangements(
    n: int,
    *,
    repeats: int = 10,
    groups: Groups = None,
    contents: Groups = None,
    labels: Groups = None,
    seed: int = 0,
) -> _Ints:
    """Draw partners that are wrong for sure: the shuffled end of the scale.

    Parameters
    ----------
    n : int
        Records.
    repeats : int
        Shuffles; each uses every record once on either side.
    groups : sequence, length n, optional
        Source of each record (a photograph, a speaker's sentence): two of one source are no
        mismatch, and never become partners.
    contents : sequence, length n, optional
        The captions or texts themselves: records with an equal one are never partners.
    labels : sequence, length n, optional
        If given, partners are drawn within a label: a harder shuffle, which asks whether the score
        tells a pair from its own kind.
    seed : int
        Of the draw.

    Returns
    -------
    ndarray of int64, shape (repeats, n)
        Row r gives record i the partner ``[r, i]``: a permutation without fixed points.

    Raises
    ------
    ValueError
        If there is no such permutation: one source or content makes up more than half.

    Notes
    -----
    The records are put in a random order, each group in one block, and moved along by at least the
    largest block: nobody stays in their own, with no rejected draws.
    """
    if n < 2 or repeats < 1:
        raise ValueError(f"shuffling needs at least 2 records and 1 repeat, got {n} and {repeats}")
    block = _blocks(n, groups, contents)
    kind = groups_of(labels, n, "labels")
    if kind is None:
        kind = np.zeros(n, dtype=np.int64)
    rng = np.random.default_rng(seed)
    partner = np.empty((repeats, n), dtype=np.int64)
    for code in range(int(kind.max()) + 1):
        rows = np.flatnonzero(kind == code)
        sizes = np.bincount(block[rows])
        largest = int(sizes.max())
        if 2 * largest > rows.size:
            of = "" if labels is None else f" of label {str(labels[rows[0]])!r}"
            raise ValueError(
                f"{largest} of the {rows.size} records{of} are of one source or have equal texts, "
                "so that they cannot all get a wrong partner: take fewer of them, or shuffle over "
                "all labels"
            )
        for r in range(repeats):
            place = rng.permutation(sizes.size)[block[rows]]
            order = rows[np.lexsort((rng.random(rows.size), place))]
            shift = int(rng.integers(largest, rows.size - largest + 1))
            partner[r, order] = np.roll(order, shift)
    return partner


def _blocks(n: int, groups: Groups, contents: Groups) -> _Ints:
    """Give one code to all records that are linked by a group or by a content."""
    codes = [
        c for c in (groups_of(groups, n, "groups"), groups_of(contents, n, "contents"))
        if c is not None
    ]  # fmt: skip
    if len(codes) < 2:
        return np.asarray(codes[0] if codes else np.arange(n), dtype=np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = codes
    size = int(first.max() + second.max()) + 2
    links = coo_array((np.ones(n), (first, second + first.max() + 1)), shape=(size, size))
    return np.asarray(connected_components(links, directed=False)[1][first], dtype=np.int64)


def consistency(
    scores: npt.ArrayLike,
    matched_scores: npt.ArrayLike,
    shuffled_scores: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    groups: Groups = None,
    matched_groups: Groups = None,
    partners: _Ints | None = None,
    level: float = 0.95,
) -> Consistency:
    """Compare the score of each record with real pairs and with shuffled real pairs.

    Parameters
    ----------
    scores : array-like, shape (n,)
        Score of each record in question; higher means that its parts agree better.
    matched_scores : array-like, shape (m,)
        The same score of real pairs. They must not have served to make or choose the score.
    shuffled_scores : array-like, shape (s,) or (R, m)
        The same score of real pairs with wrong partners. As ``(R, m)``, with ``partners``: those
        that :func:`derangements` gave, where ``[r, i]`` is real record i with partner
        ``partners[r, i]``. Then intervals know that each record was used many times. In the form
        ``(s,)`` scores count as independent.
    alpha : float
        False-alarm rate: the probability that a matched record is called mismatched.
    groups, matched_groups : sequence, optional
        Source of each record, and of each real pair. With ``matched_groups`` the false-alarm rate
        holds for a record of a new source, and intervals count sources.
    partners : int array, shape (R, m), optional
        See ``shuffled_scores``.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    Consistency

    Raises
    ------
    ValueError
        If a score is not finite, there are fewer than 2 scores of a kind, too few real pairs for
        ``alpha``, or real pairs score lower than shuffled ones by more than chance.

    Notes
    -----
    p-values are conformal: (1 + number of real pairs that score as low) / (m + 1); with groups,
    each group counts as one, with the share of its pairs that score as low. They are exact whatever
    the score's distribution, if a matched record is exchangeable with the real pairs. A set whose
    matched pairs score lower for another reason (terser captions, another style) is called
    mismatched: the score sees no difference, look at the records listed.

    The share is read from the mean score, (mean matched - mean) / (mean matched - mean shuffled),
    with Fieller's interval. results/consistency compares its error with two estimates from the
    tail. Counting under a threshold does worse where the ends are less than 3 standard deviations
    apart; Storey's estimate misses two thirds of the mismatches where they are 0.5 apart.

    References
    ----------
    Vovk, Gammerman & Shafer 2005, Algorithmic learning in a random world (conformal p-values).
    Vovk 2012, Conditional validity of inductive conformal predictors (``false_alarms``). Lee,
    Barber & Willett 2023, Distribution-free inference with hierarchical data (groups). Bates et al.
    2023, Testing for outliers with conformal p-values, Ann. Statist. 51 (BH on them). Fieller 1954,
    Some problems in interval estimation, JRSS B 16. DeLong et al. 1988, Biometrics 44 (AUC).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha}")
    x = score_vector(scores, "scores")
    scale = _Scale(matched_scores, shuffled_scores, partners, matched_groups, level)
    p = scale.p_values(x)
    threshold = scale.threshold(alpha)
    share = interval = positions = None
    on_scale = True
    if scale.can_tell:
        raw, ends = scale.drop(x, groups)
        share = min(1.0, max(0.0, raw))
        positions = (x - scale.low) / (scale.high - scale.low)
        interval = Interval(0.0, 1.0, level, "fieller")
        if ends is not None:
            on_scale = ends.high >= 0 and ends.low <= 1
            if on_scale:
                interval = Interval(max(0.0, ends.low), min(1.0, ends.high), level, ends.method)
    low = np.flatnonzero(p <= alpha)
    return Consistency(
        p_values=p,
        p_adjusted=adjust_pvalues(p, "bh"),
        mismatched=tuple(low[np.argsort(x[low], kind="stable")].tolist()),
        threshold=threshold,
        alpha=alpha,
        false_alarms=scale.false_alarms(alpha),
        detected=float((scale.shuffled < threshold).mean()),
        auc=scale.auc,
        auc_interval=scale.auc_interval,
        can_tell=scale.can_tell,
        positions=positions,
        share=share,
        share_interval=interval,
        on_scale=on_scale,
        n=x.size,
        n_matched=scale.matched.size,
        n_shuffled=scale.shuffled.size,
    )


def consistency_gap(
    real_scores: npt.ArrayLike,
    synthetic_scores: npt.ArrayLike,
    shuffled_scores: npt.ArrayLike,
    *,
    groups_real: Groups = None,
    groups_synthetic: Groups = None,
    partners: _Ints | None = None,
    permutations: int = 999,
    level: float = 0.95,
    seed: int = 0,
) -> ConsistencyGap:
    """Measure how much less consistent a set is than real pairs.

    Parameters
    ----------
    real_scores : array-like, shape (m,)
        Scores of real pairs; higher is better.
    synthetic_scores : array-like, shape (n,)
        Scores of synthetic pairs.
    shuffled_scores : array-like, shape (s,) or (R, m)
        Scores of real pairs with wrong partners, as for :func:`consistency`.
    groups_real, groups_synthetic : sequence, optional
        Source of each pair. The same label on both sides is the same source in the permutations.
    partners : int array, shape (R, m), optional
        As for :func:`consistency`.
    permutations : int
        Relabellings for the p-value.
    level : float
        Nominal coverage of the intervals.
    seed : int
        Of the permutations.

    Returns
    -------
    ConsistencyGap

    Raises
    ------
    ValueError
        As :func:`consistency`.

    Notes
    -----
    The intervals take the two sides as independent. Where synthetic pairs are made from the real
    ones, the drop is known better than they say.
    """
    y = score_vector(synthetic_scores, "synthetic_scores")
    scale = _Scale(real_scores, shuffled_scores, partners, groups_real, level)
    x = scale.matched
    drop = float(x.mean() - y.mean())
    error, quantile = scale.against(y, groups_synthetic)
    relative = interval = None
    if scale.can_tell:
        relative, interval = scale.drop(y, groups_synthetic)
    first, second = permutation_masks(
        x.size, y.size, permutations,
        groups=pool_groups(groups_real, groups_synthetic, x.size, y.size), seed=seed,
    )  # fmt: skip
    pooled = np.concatenate([x, y])
    null = pooled @ first / first.sum(axis=0) - pooled @ second / second.sum(axis=0)
    return ConsistencyGap(
        drop=drop,
        drop_interval=Interval(drop - quantile * error, drop + quantile * error, level, "welch"),
        relative=relative,
        relative_interval=interval,
        p_value=p_value(drop, null, "upper", tie=1e-12 * float(np.abs(pooled).max())),
        auc=scale.auc,
        n_real=x.size,
        n_synthetic=y.size,
    )


class _Scale:
    """The two ends, with what is known of their error."""

    def __init__(
        self,
        matched: npt.ArrayLike,
        shuffled: npt.ArrayLike,
        partners: _Ints | None,
        groups: Groups,
        level: float,
    ) -> None:
        self.matched = score_vector(matched, "matched_scores")
        m = self.matched.size
        table = np.asarray(shuffled, dtype=np.float64)
        self.shuffled = score_vector(table.ravel(), "shuffled_scores")
        self.level = level
        codes = groups_of(groups, m, "matched_groups")
        self._codes = np.arange(m) if codes is None else codes
        self._units = int(self._codes.max()) + 1
        if self._units < 2:
            raise ValueError("the real pairs are all of one group: their spread cannot be seen")
        if (table.ndim == 2) != (partners is not None) or table.ndim > 2:
            raise ValueError(
                "shuffled_scores of shape (R, m) and partners go together: give both, or scores of "
                "shape (s,) that are independent"
            )
        if partners is not None:
            partners = np.asarray(partners)
            if partners.shape != table.shape or table.shape[1] != m:
                raise ValueError(
                    f"shuffled_scores {table.shape} and partners {partners.shape} must both be "
                    f"(R, {m}), as there are {m} matched scores"
                )
        self._partners = partners
        self.high, self.low = float(self.matched.mean()), float(self.shuffled.mean())
        self.auc, above, below = _auc(self.matched, self.shuffled)
        self.auc_interval = self._auc_interval(above, below)
        # Covariance of the two means, (high, low).
        self._covariance = self._of_means(self.matched - self.high, self.shuffled - self.low)
        spread = self._covariance[0, 0] + self._covariance[1, 1] - 2 * self._covariance[0, 1]
        limit = self._quantile(self._units) * float(np.sqrt(max(spread, 0.0)))
        if self.high - self.low < -limit:
            raise ValueError(
                f"real pairs score {self.high:.4g} on average and shuffled ones {self.low:.4g}: a "
                "higher score must mean better agreement (negate an error rate), and the real "
                "pairs must be matched"
            )
        self.can_tell = self.high - self.low > limit
        order = np.argsort(self.matched, kind="stable")
        self._sorted = self.matched[order]
        weight = 1.0 / np.bincount(self._codes)[self._codes]
        # Rounded, for sums of thirds are to be whole again where a group is complete.
        self._low_groups = np.round(np.concatenate([[0.0], np.cumsum(weight[order])]), 9)

    def _quantile(self, units: float) -> float:
        from scipy.stats import t

        return float(t.ppf((1 + self.level) / 2, units - 1))

    def _of_means(self, above: _Floats, below: _Floats) -> _Floats:
        """Give the covariance of the means of matched and shuffled values (both centred)."""
        if self._partners is None:
            own = cluster_covariance(above[:, None], self._codes)[0, 0]
            other = cluster_covariance(below[:, None], np.arange(below.size))[0, 0]
            return np.diag([own, other])
        # Hájek's projection of the mean over wrong pairs: what each record adds as either partner.
        table = below.reshape(self._partners.shape)
        second = np.bincount(self._partners.ravel(), table.ravel()) / len(table)
        return cluster_covariance(
            np.column_stack([above, table.mean(axis=0) + second]), self._codes
        )

    def _auc_interval(self, above: _Floats, below: _Floats) -> Interval:
        error = float(np.sqrt(max(self._of_means(above, below).sum(), 0.0)))
        half = self._quantile(self._units) * error
        # At perfect separation no pair shows a spread: the bound is that of no error in m trials.
        unseen = (1 - self.level) / 2
        least = unseen ** (1 / self._units) if self.auc == 1 else self.auc - half
        most = 1 - unseen ** (1 / self._units) if self.auc == 0 else self.auc + half
        return Interval(max(0.0, least), min(1.0, most), self.level, "delong")

    def p_values(self, x: _Floats) -> _Floats:
        low = self._low_groups[np.searchsorted(self._sorted, x, side="right")]
        p: _Floats = (1 + low) / (self._units + 1)
        return p

    def threshold(self, alpha: float) -> float:
        if 1 / (self._units + 1) > alpha:
            raise ValueError(
                f"{self._units} real pairs (or groups) cannot show a false-alarm rate of {alpha}: "
                f"at least {int(np.ceil(1 / alpha - 1e-9)) - 1} are needed"
            )
        over = self.p_values(self._sorted) > alpha
        return float(self._sorted[int(np.argmax(over))])

    def false_alarms(self, alpha: float) -> Interval:
        from scipy.stats import beta

        k = int(np.floor(alpha * (self._units + 1) + 1e-9))
        tail = (1 - self.level) / 2
        low, high = beta.ppf([tail, 1 - tail], k, self._units + 1 - k)
        return Interval(float(low), float(high), self.level, "beta")

    def against(self, x: _Floats, groups: Groups) -> tuple[float, float]:
        """Give the standard error of (mean matched - mean of x), and Student's quantile."""
        own, units = self._variance(x, groups)
        other = float(self._covariance[0, 0])
        # Welch and Satterthwaite, groups for units.
        freedom = (own + other) ** 2 / (
            own**2 / (units - 1) + other**2 / (self._units - 1)
        ) if own + other > 0 else units - 1  # fmt: skip
        return float(np.sqrt(own + other)), self._quantile(freedom + 1)

    def _variance(self, x: _Floats, groups: Groups) -> tuple[float, int]:
        codes = groups_of(groups, x.size, "groups")
        codes = np.arange(x.size) if codes is None else codes
        units = int(codes.max()) + 1
        if units < 2:
            raise ValueError("the records are all of one group: their spread cannot be seen")
        return float(cluster_covariance((x - x.mean())[:, None], codes)[0, 0]), units

    def drop(self, x: _Floats, groups: Groups) -> tuple[float, Interval | None]:
        """Give (high - mean of x) / (high - low) with Fieller's interval, None if unbounded."""
        own, units = self._variance(x, groups)
        (vh, cov), (_, vl) = self._covariance
        a, d = self.high - float(x.mean()), self.high - self.low
        va, vd, cad = own + vh, vh + vl - 2 * cov, vh - cov
        # All values v of a / d for which a - v·d is 0 within its own standard error.
        q2 = self._quantile(min(units, self._units)) ** 2
        square = d * d - q2 * vd
        if square <= 0:
            return a / d, None
        middle = (a * d - q2 * cad) / square
        half = float(np.sqrt(max(0.0, middle**2 - (a * a - q2 * va) / square)))
        value = a / d
        low, high = min(value, middle - half), max(value, middle + half)
        return value, Interval(low, high, self.level, "fieller")


def score_vector(values: npt.ArrayLike, name: str, *, min_n: int = 2) -> _Floats:
    """Check a list of scores.

    Raises
    ------
    ValueError
        If it is not one list, too short, or a score is not finite.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size < min_n:
        raise ValueError(f"{name} must be a list of at least {min_n} scores, got shape {x.shape}")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise ValueError(
            f"{name} has {bad.size} scores that are NaN or infinite (first: {bad[:5].tolist()}); "
            "leave out records that lack a part, and count them"
        )
    return x


def cluster_covariance(values: _Floats, codes: npt.NDArray[np.integer]) -> _Floats:
    """Give the covariance (k, k) of the means of centred columns (n, k), groups whole."""
    units = int(codes.max()) + 1
    sums = np.stack([np.bincount(codes, column, minlength=units) for column in values.T])
    return np.asarray(sums @ sums.T * (units / (units - 1) / len(values) ** 2))


def _auc(above: _Floats, below: _Floats) -> tuple[float, _Floats, _Floats]:
    """Give the AUC, and each score's centred part of it."""
    low, high = np.sort(below), np.sort(above)
    first = (np.searchsorted(low, above, "left") + np.searchsorted(low, above, "right")) / 2
    second = (np.searchsorted(high, below, "left") + np.searchsorted(high, below, "right")) / 2
    auc = float(first.mean() / below.size)
    return auc, first / below.size - auc, 1 - second / above.size - auc
