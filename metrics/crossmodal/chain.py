"""Chain decay: what each hop from an image to a transcript loses, and where a chain breaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from .._check import groups_of
from .._result import Interval
from .alignment import Consistency, cluster_covariance, consistency

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..inference import Groups

_Floats: TypeAlias = npt.NDArray[np.float64]
_Ints: TypeAlias = npt.NDArray[np.int64]

MISSING = -1
"""In place of a row or a hop that is not there."""


@dataclass(frozen=True, slots=True)
class Chains:
    """Records put in line by their parents.

    Attributes
    ----------
    rows : ndarray of int64, shape (chains, hops + 1)
        Row of the record at each place of a chain, the source first; :data:`MISSING` after its
        last record.
    unlinked : tuple of str
        Ids of records after the source that lead back to no source: a parent is missing.
    """

    rows: _Ints
    unlinked: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HopScores:
    """What was measured at one hop: how well the record there agrees with the chain's source.

    Attributes
    ----------
    name : str
        Of the hop: ``caption``, ``speech``, ``transcript``…
    scores : array-like, shape (chains,)
        Consistency of each chain's record with the chain's *source*; NaN where the chain does not
        reach so far.
    matched, shuffled : array-like
        The ends of this score's scale from real data, as for :func:`.alignment.consistency`. Hops
        may have different scores, each with its own scale.
    """

    name: str
    scores: npt.ArrayLike
    matched: npt.ArrayLike
    shuffled: npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop of all chains.

    Attributes
    ----------
    name : str
        As given.
    n : int
        Chains that reach it.
    missing : int
        Chains that do not.
    position : float
        Mean place on the scale from shuffled (0) to matched (1) real pairs.
    position_interval : Interval
        For ``position``, with the ends of the scale held.
    loss : float
        Mean fall of the position since the hop before (since 1, for the first), over the chains
        that reach both.
    loss_interval : Interval
        For ``loss``: paired, so that it is narrower than the difference of the positions'.
    broken : int
        Chains that break here.
    detected : float
        Share of shuffled real pairs that would be called broken at this hop: its power.
    """

    name: str
    n: int
    missing: int
    position: float
    position_interval: Interval
    loss: float
    loss_interval: Interval
    broken: int
    detected: float


@dataclass(frozen=True, slots=True)
class ChainDecay:
    """The loss along the chains.

    Attributes
    ----------
    hops : tuple of Hop
        In order. A hop whose score cannot tell matched from shuffled pairs is not among them.
    blind : tuple of str
        Names of those hops.
    breaks_at : ndarray of int64, shape (chains,)
        Index (in the hops given) of the first hop with p ≤ alpha; :data:`MISSING` where there is
        none.
    alpha : float
        False-alarm rate of each hop. An intact chain is called broken somewhere with probability at
        most ``alpha`` times the number of hops.
    """

    hops: tuple[Hop, ...]
    blind: tuple[str, ...]
    breaks_at: _Ints
    alpha: float


def link_chains(
    ids: Sequence[str],
    parents: Sequence[Sequence[str]],
    hops: Sequence[str],
    order: Sequence[str],
) -> Chains:
    """Put records in line, from each source to each last descendant.

    Parameters
    ----------
    ids : sequence of str, length n
        Unique names.
    parents : sequence of sequences of str, length n
        The ids that each record was made from. Those at other hops than the one before are passed
        over (speech made from a caption *and* a voice).
    hops : sequence of str, length n
        At which hop each record is.
    order : sequence of str
        The hops in order, the source's first.

    Returns
    -------
    Chains
        One for each record that nothing further was made from, so that a source with two captions
        begins two chains.

    Raises
    ------
    ValueError
        If an id occurs twice, lengths differ, a hop is unknown, or a record has two parents at the
        hop before.
    """
    n = len(ids)
    if len(parents) != n or len(hops) != n:
        raise ValueError(f"{n} ids need as many parents and hops, got {len(parents)}, {len(hops)}")
    if len(order) < 2 or len(set(order)) != len(order):
        raise ValueError(f"order must name at least 2 hops, each once, got {list(order)}")
    row_of = {name: row for row, name in enumerate(ids)}
    if len(row_of) != n:
        twice = next(name for row, name in enumerate(ids) if row_of[name] != row)
        raise ValueError(f"the id {twice!r} occurs twice")
    place = {name: k for k, name in enumerate(order)}
    unknown = sorted(set(hops) - set(place))
    if unknown:
        raise ValueError(f"unknown hops {unknown[:5]}: order has {list(order)}")

    above = np.full(n, MISSING, dtype=np.int64)
    for row in range(n):
        wanted = place[hops[row]] - 1
        found = [
            row_of[name]
            for name in dict.fromkeys(parents[row])
            if name in row_of and place[hops[row_of[name]]] == wanted
        ]
        if len(found) > 1:
            raise ValueError(
                f"{ids[row]!r} has {len(found)} parents at the hop {order[wanted]!r} "
                f"({ids[found[0]]!r}, {ids[found[1]]!r}…): a chain needs one"
            )
        if found:
            above[row] = found[0]
    lines: list[list[int]] = []
    unlinked = []
    childless = np.ones(n, dtype=np.bool_)
    childless[above[above != MISSING]] = False
    for row in np.flatnonzero(childless).tolist():
        line = [row]
        while (parent := int(above[line[-1]])) != MISSING:
            line.append(parent)
        if place[hops[line[-1]]] == 0:
            lines.append(line[::-1])
        else:
            unlinked += [ids[member] for member in line]
    rows = np.full((len(lines), len(order)), MISSING, dtype=np.int64)
    for line, target in zip(lines, rows, strict=True):
        target[: len(line)] = line
    return Chains(rows, tuple(dict.fromkeys(unlinked)))


def chain_decay(
    hops: Sequence[HopScores],
    *,
    alpha: float = 0.05,
    groups: Groups = None,
    matched_groups: Mapping[str, Sequence[object]] | None = None,
    level: float = 0.95,
) -> ChainDecay:
    """Measure what each hop loses, and find where each chain breaks.

    Parameters
    ----------
    hops : sequence of HopScores
        In the order of the chain, the source itself left out.
    alpha : float
        False-alarm rate at each hop.
    groups : sequence, length (chains), optional
        The source of each chain: chains of one source are not independent.
    matched_groups : mapping of str to sequence, optional
        For hops by name: source of each real pair.
    level : float
        Nominal coverage of the intervals.

    Returns
    -------
    ChainDecay

    Raises
    ------
    ValueError
        As :func:`.alignment.consistency`; also if hops differ in the number of chains, or fewer
        than 2 chains reach one.

    Notes
    -----
    Agreement with the source, not with the hop before: a wrong caption that is spoken and
    transcribed without a fault breaks at the caption, and loses nothing after it. Positions of hops
    that have different scores are on different scales, each with 1 for a real pair: a loss between
    them is in that common unit, and only as comparable as the real pairs are.
    """
    if not hops:
        raise ValueError("a chain needs at least one hop")
    table = [np.asarray(hop.scores, dtype=np.float64) for hop in hops]
    chains = table[0].size
    for hop, scores in zip(hops, table, strict=True):
        if scores.shape != (chains,):
            raise ValueError(
                f"hop {hop.name!r} has scores of shape {scores.shape}, {hops[0].name!r} of "
                f"{table[0].shape}: one for each chain, NaN where it does not reach the hop"
            )
        if np.isinf(scores).any():
            raise ValueError(f"hop {hop.name!r} has infinite scores")
        if np.isfinite(scores).sum() < 2:
            raise ValueError(f"fewer than 2 chains reach the hop {hop.name!r}")
    codes = groups_of(groups, chains, "groups")
    codes = np.arange(chains) if codes is None else codes
    breaks = np.full(chains, MISSING, dtype=np.int64)
    before = np.ones(chains)
    seen: list[Hop] = []
    blind: list[str] = []
    for k, (hop, scores) in enumerate(zip(hops, table, strict=True)):
        rows = np.flatnonzero(np.isfinite(scores))
        found: Consistency = consistency(
            scores[rows], hop.matched, hop.shuffled, alpha=alpha, groups=codes[rows],
            matched_groups=(matched_groups or {}).get(hop.name), level=level,
        )  # fmt: skip
        if found.positions is None:
            blind.append(hop.name)
            continue
        low = rows[found.p_values <= alpha]
        new = low[breaks[low] == MISSING]
        breaks[new] = k
        now = np.full(chains, np.nan)
        now[rows] = found.positions
        position, around = _mean(now, codes, level)
        loss, within = _mean(before - now, codes, level)
        before = now
        seen.append(
            Hop(
                name=hop.name,
                n=rows.size,
                missing=chains - rows.size,
                position=position,
                position_interval=around,
                loss=loss,
                loss_interval=within,
                broken=new.size,
                detected=found.detected,
            )
        )
    return ChainDecay(tuple(seen), tuple(blind), breaks, alpha)


def _mean(values: _Floats, codes: npt.NDArray[np.integer], level: float) -> tuple[float, Interval]:
    """Give the mean of what is there, with Student's interval over groups."""
    from scipy.stats import t

    there = np.isfinite(values)
    x = values[there]
    own = np.unique(codes[there], return_inverse=True)[1]
    units = int(own.max()) + 1 if x.size else 0
    if units < 2:
        raise ValueError(
            f"chains of at least 2 sources must reach neighbouring hops, got {units}: their spread "
            "cannot be seen"
        )
    mean = float(x.mean())
    error = float(np.sqrt(cluster_covariance((x - mean)[:, None], own)[0, 0]))
    half = float(t.ppf((1 + level) / 2, units - 1)) * error
    return mean, Interval(mean - half, mean + half, level, "student")
