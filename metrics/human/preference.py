"""Preferences: strengths and win rates from comparisons of two, ties included."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

from .._result import Interval

_STEPS = 100
_CLOSE = 1e-10


@dataclass(frozen=True, slots=True)
class Strength:
    """One of those compared.

    Attributes
    ----------
    name : str
    strength : float
        Logarithm of the model's parameter; they sum to 0.
    strength_interval : Interval
    win_rate : float
        Expected share of wins against the others, each met as often, a tie as half a win.
    win_rate_interval : Interval
    comparisons : int
        In which it took part.
    """

    name: str
    strength: float
    strength_interval: Interval
    win_rate: float
    win_rate_interval: Interval
    comparisons: int


@dataclass(frozen=True, slots=True)
class Preferences:
    """Result of :func:`bradley_terry`.

    Attributes
    ----------
    strengths : tuple of Strength
        In the order of ``names``.
    tie : float
        The model's tie parameter: two of equal strength tie with probability tie/(2 + tie).
        0 where there was no tie.
    comparisons, ties : int
    """

    strengths: tuple[Strength, ...]
    tie: float
    comparisons: int
    ties: int


def bradley_terry(
    first: Sequence[int] | npt.NDArray[np.int_],
    second: Sequence[int] | npt.NDArray[np.int_],
    outcome: Sequence[int] | npt.NDArray[np.int_],
    names: Sequence[str],
    *,
    raters: Sequence[Hashable] | None = None,
    level: float = 0.95,
) -> Preferences:
    """Fit the Bradley–Terry model, with Davidson's extension for ties.

    ``P(i beats j) = π_i / (π_i + π_j + ν√(π_i π_j))``, a tie with ``ν√(π_i π_j)`` in the numerator.
    Maximum likelihood by Newton's method; the log-likelihood is concave in the logarithms. Without
    ties ν is 0, and the model is that of Bradley and Terry.

    Intervals are Wald's on the logarithmic scale, by the delta method for the win rate. With
    ``raters`` the covariance is the sandwich over raters, since the votes of one person go
    together; else that of independent votes.

    Parameters
    ----------
    first, second : sequence of int
        Index into ``names`` of the two that were compared.
    outcome : sequence of int
        1 if the first was preferred, −1 the second, 0 a tie.
    names : sequence of str
        At least two.
    raters : sequence, optional
        Who gave each vote.
    level : float
        Nominal coverage.

    Returns
    -------
    Preferences
        A win rate of 0.5 is no preference. It does not see circles (A over B over C over A), nor
        that the left one is chosen more often: present the sides at random.

    Raises
    ------
    ValueError
        If there is no maximum: those compared fall into two groups of which one never lost to the
        other; or with fewer than two raters; or where the input does not fit together.

    References
    ----------
    Bradley & Terry 1952; Ford 1957; Davidson 1970, On extending the Bradley–Terry model to
    accommodate ties. Liang & Zeger 1986, Longitudinal data analysis using generalized linear
    models.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie strictly between 0 and 1, got {level}")
    a, b, won = (np.asarray(x) for x in (first, second, outcome))
    k = len(names)
    _check(a, b, won, k)
    _check_connected(a, b, won, names)
    has_ties = bool((won == 0).any())

    theta: npt.NDArray[np.float64] = np.zeros(k + has_ties, dtype=np.float64)
    for _ in range(_STEPS):
        gradient, information, _ = _likelihood(theta, a, b, won, k)
        # The strengths' own sum is free: a ridge in that direction alone fixes it at 0.
        information[:k, :k] += 1.0 / k
        step = np.linalg.solve(information, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-300))
        theta = np.asarray(theta + step, dtype=np.float64)
        if float(np.abs(step).max()) < _CLOSE:
            break
    else:
        raise ValueError("the fit did not settle: one of those compared hardly ever won or lost")
    gradient, information, single = _likelihood(theta, a, b, won, k)
    information[:k, :k] += 1.0 / k
    bread = np.linalg.inv(information)
    name = "Wald, independent votes"
    if raters is not None:
        if len(raters) != len(a):
            raise ValueError(f"raters must name {len(a)} votes, got {len(raters)}")
        codes = {r: i for i, r in enumerate(dict.fromkeys(raters))}
        if len(codes) < 2:
            raise ValueError("one rater says nothing of how others would choose: give at least 2")
        sums = np.zeros((len(codes), len(theta)))
        np.add.at(sums, [codes[r] for r in raters], single)
        meat = sums.T @ sums * len(codes) / (len(codes) - 1)
        covariance = np.asarray(bread @ meat @ bread)
        name = "Wald, sandwich over raters"
    else:
        covariance = np.asarray(bread)
    z = float(ndtri(0.5 + level / 2))
    centre = np.eye(k) - 1.0 / k
    strengths = []
    for i in range(k):
        pull = np.zeros(len(theta))
        pull[:k] = centre[i]
        at = float(theta[i] - theta[:k].mean())
        half = z * math.sqrt(max(float(pull @ covariance @ pull), 0.0))
        rate, slope = _win_rate(theta, i, k)
        # On the logit scale, so that the interval stays between 0 and 1.
        error = math.sqrt(max(float(slope @ covariance @ slope), 0.0))
        logit, reach = np.log(rate / (1 - rate)), z * error / (rate * (1 - rate))
        low, high = (1 / (1 + np.exp(-(logit + s * reach))) for s in (-1, 1))
        strengths.append(
            Strength(
                name=names[i],
                strength=at,
                strength_interval=Interval(at - half, at + half, level, name),
                win_rate=rate,
                win_rate_interval=Interval(float(low), float(high), level, name),
                comparisons=int(((a == i) | (b == i)).sum()),
            )
        )
    return Preferences(
        strengths=tuple(strengths),
        tie=float(np.exp(theta[k])) if has_ties else 0.0,
        comparisons=len(a),
        ties=int((won == 0).sum()),
    )


def _check(
    a: npt.NDArray[np.int_], b: npt.NDArray[np.int_], won: npt.NDArray[np.int_], k: int
) -> None:
    if k < 2:
        raise ValueError(f"at least two must be compared, got {k}")
    if not a.ndim == b.ndim == won.ndim == 1 or not len(a) == len(b) == len(won):
        raise ValueError("first, second and outcome must be of the same length")
    if not len(a):
        raise ValueError("there is no comparison")
    for x, what in ((a, "first"), (b, "second"), (won, "outcome")):
        if x.dtype.kind not in "iu":
            raise ValueError(f"{what} must hold integers, got {x.dtype}")
    if min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= k:
        raise ValueError(f"first and second must lie in 0 to {k - 1}")
    if (a == b).any():
        raise ValueError("something was compared with itself")
    if not np.isin(won, (-1, 0, 1)).all():
        raise ValueError("outcome must be 1 (first), -1 (second) or 0 (tie)")


def _check_connected(
    a: npt.NDArray[np.int_],
    b: npt.NDArray[np.int_],
    won: npt.NDArray[np.int_],
    names: Sequence[str],
) -> None:
    """Refuse what has no maximum (Ford 1957): each must have beaten each, if by way of others."""
    k = len(names)
    reaches = np.eye(k, dtype=bool)
    reaches[a[won >= 0], b[won >= 0]] = True
    reaches[b[won <= 0], a[won <= 0]] = True
    for middle in range(k):
        reaches |= reaches[:, [middle]] & reaches[[middle], :]
    if reaches.all():
        return
    loser, winner = np.argwhere(~reaches)[0]
    raise ValueError(
        f"{names[loser]!r} never won against {names[winner]!r}, nor against one that did: its "
        "strength has no finite estimate; collect more votes, or report the plain win rate"
    )


def _probabilities(
    theta: npt.NDArray[np.float64],
    a: npt.NDArray[np.int_],
    b: npt.NDArray[np.int_],
    k: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the probabilities that the first wins, the second wins, and of a tie."""
    half = (theta[a] - theta[b]) / 2
    tie = theta[k] if len(theta) > k else -np.inf
    top = np.maximum(np.abs(half), tie)
    one, two, none = np.exp(half - top), np.exp(-half - top), np.exp(tie - top)
    total = one + two + none
    return one / total, two / total, none / total


def _likelihood(
    theta: npt.NDArray[np.float64],
    a: npt.NDArray[np.int_],
    b: npt.NDArray[np.int_],
    won: npt.NDArray[np.int_],
    k: int,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Give the gradient, the information and the score of each vote.

    With d = θ_a − θ_b the sufficient statistics of a vote are outcome/2 (for d) and whether it is
    a tie (for log ν): an exponential family, so the information is their covariance.
    """
    one, two, none = _probabilities(theta, a, b, k)
    rows = np.arange(len(a))
    size = len(theta)
    expected = (one - two) / 2
    single = np.zeros((len(a), size))
    pull = won / 2 - expected
    single[rows, a] = pull
    single[rows, b] = -pull
    variance = (one + two) / 4 - expected**2
    information = np.zeros((size, size))
    np.add.at(information, (a, a), variance)
    np.add.at(information, (b, b), variance)
    np.add.at(information, (a, b), -variance)
    np.add.at(information, (b, a), -variance)
    if size > k:
        single[:, k] = (won == 0) - none
        cross = -expected * none
        np.add.at(information, (a, np.full_like(a, k)), cross)
        np.add.at(information, (b, np.full_like(b, k)), -cross)
        information[k, :k] = information[:k, k]
        information[k, k] = float((none * (1 - none)).sum())
    return single.sum(axis=0), information, single


def _win_rate(
    theta: npt.NDArray[np.float64], i: int, k: int
) -> tuple[float, npt.NDArray[np.float64]]:
    """Give the mean win rate of one against each other, and its slope."""
    others = np.asarray([j for j in range(k) if j != i])
    me = np.full(len(others), i)
    one, two, none = _probabilities(theta, me, others, k)
    rate = one + none / 2  # = (1 + one − two) / 2
    slope = np.zeros(len(theta))
    along = ((one + two) - (one - two) ** 2) / 4
    slope[others] = -along
    slope[i] = float(along.sum())
    if len(theta) > k:
        slope[k] = float((-(one - two) * none / 2).sum())
    return float(rate.mean()), slope / len(others)
