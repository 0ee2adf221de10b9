"""Copies of one set in another: exact by content, near by features and by pixels."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..encoders import Encoded

FEWEST = 20
"""Fewer rows give no yardstick."""
CERTAIN = 0.5
"""Nearer than this share of the nearest two real samples is hardly chance."""
_SIDE = 32  # pixels: what is left of a picture at this size survives a codec and a resize

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NearCopies:
    """What :func:`near_copies` found.

    Attributes
    ----------
    rows, partners : tuple of int
        Row of each near copy, and of the sample that it is near to; the surest first.
    certain : int
        How many of the first are nearer than half of what the nearest two real samples are to one
        another, in features; or in pixels, where the features are no farther than half of the
        real ones.
    unsure : int
        Rows under the quantile of the yardstick, among them those that are certain.
    distances : tuple of float
        In features.
    threshold : float
        The yardstick's quantile.
    expected : float
        Share under the threshold by chance alone.
    p_value : float or None
        That as many as ``unsure`` lie under it by chance; None where ``own``.
    of : int
        Rows that were compared.
    """

    rows: tuple[int, ...]
    partners: tuple[int, ...]
    certain: int
    unsure: int
    distances: tuple[float, ...]
    threshold: float
    expected: float
    p_value: float | None
    of: int


def near_copies(
    queries: Encoded,
    base: Encoded,
    encoder: str,
    *,
    gauge: Encoded | None,
    quantile: float,
    own: bool = False,
    seed: int = 0,
) -> NearCopies:
    """Find samples nearer to another set than real samples are to one another.

    Parameters
    ----------
    queries, base : Encoded
        Rows of ``queries`` whose content is in ``base`` are left out: they are exact copies.
    encoder : str
        Whose features to compare.
    gauge : Encoded, optional
        Other real data: its distances to ``base`` are the yardstick. Without it, those of each
        ``base`` row to the nearest other one.
    quantile : float
        Of the yardstick.
    own : bool
        ``queries`` are compared with themselves, at the size of ``base``, which is the yardstick.
    seed : int
        Of the draw where sizes have to be made equal.

    Returns
    -------
    NearCopies

    Raises
    ------
    ValueError
        If a side has too few rows of different content.

    Notes
    -----
    If a set is as good as other real data, the number of its n rows under the r-th of m distances
    is beta-binomial (n, r, m + 1 − r), from which the p-value comes. Without other real data, two
    rows may be nearest to one another: m and r are then halved. Within a set such pairs would be
    counted on both sides, and there is no p-value; :func:`~evalsuite.metrics.distribution.modes.
    mode_tests` tests it by permutation.
    """
    import torch
    from scipy.stats import betabinom

    from ..metrics.distribution.copying import nearest_neighbours

    q, b = _different(queries), _different(base)
    rng = np.random.default_rng(seed)
    if own:
        size = min(len(q), len(b))
        q, b = (np.sort(rng.permutation(rows)[:size]) for rows in (q, b))
        target, target_rows, yard, yard_rows = queries, q, base, b
    else:
        known = {base.hashes[i] for i in b}
        q = np.array([i for i in q if queries.hashes[i] not in known], dtype=np.int64)
        target, target_rows, yard, yard_rows = base, b, base, b
        if gauge is not None:
            g = [i for i in _different(gauge) if gauge.hashes[i] not in known]
            yard, yard_rows = gauge, np.array(g, dtype=np.int64)
    if min(len(yard_rows), len(target_rows)) < FEWEST or len(q) < 1:
        raise ValueError(f"{min(len(yard_rows), len(target_rows))} samples are no yardstick")

    def rows(part: Encoded, index: npt.NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(part.features[encoder][index]))

    x, z = rows(queries, q), rows(target, target_rows)
    near, at = nearest_neighbours(x, x if own else z, 1, exclude_self=own)
    alone = own or gauge is None
    y = rows(yard, yard_rows)
    length, where = nearest_neighbours(y, y if alone else z, 1, exclude_self=alone)
    distance, partner = near[:, 0], target_rows[at[:, 0]]
    measure = length[:, 0]
    rank, independent = max(1, int(quantile * len(measure))), len(measure)
    threshold = float(np.sort(measure)[rank - 1])
    under = distance < threshold
    certain = distance < CERTAIN * measure.min()
    if queries.thumbnails and target.thumbnails and yard.thumbnails:
        neighbours = yard if alone else base
        beside = (yard_rows if alone else target_rows)[where[:, 0]]
        apart = _pixels(yard, yard_rows, neighbours, beside)
        alike = _pixels(queries, q, target, partner) < CERTAIN * apart.min()
        # Two plain pictures can have the same pixels by chance; the encoder sees more than these.
        certain |= alike & (distance <= np.median(measure))
    unsure = int(under.sum())
    p_value = None
    if not own:
        first, of = (math.ceil(rank / 2), independent // 2) if alone else (rank, independent)
        p_value = float(betabinom.sf(unsure - 1, len(q), first, of + 1 - first))
    found = np.flatnonzero(under | certain)
    found = found[np.lexsort((distance[found], ~certain[found]))]
    return NearCopies(
        rows=tuple(int(q[i]) for i in found),
        partners=tuple(int(partner[i]) for i in found),
        certain=int(certain.sum()),
        unsure=unsure,
        distances=tuple(float(distance[i]) for i in found),
        threshold=threshold,
        expected=rank / (len(measure) + 1),
        p_value=p_value,
        of=len(q),
    )


def _different(part: Encoded) -> npt.NDArray[np.int64]:
    """Give the first row of each content."""
    return np.array(sorted({h: i for i, h in reversed(list(enumerate(part.hashes)))}.values()))


def _pixels(
    left: Encoded, rows: npt.NDArray[np.int64], right: Encoded, others: npt.NDArray[np.int64]
) -> Floats:
    """Give 1 less the correlation of the pixels of each pair, at a small size."""
    a, b = _pictures(left, rows), _pictures(right, others)
    apart: Floats = 1 - np.einsum("ij,ij->i", a, b)
    return apart


def _pictures(part: Encoded, rows: Sequence[int] | npt.NDArray[np.int64]) -> Floats:
    from PIL import Image

    found = np.zeros((len(rows), _SIDE * _SIDE))
    for k, row in enumerate(rows):
        with Image.open(io.BytesIO(part.thumbnails[int(row)])) as image:
            small = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX)
        values = np.asarray(small, dtype=np.float64).ravel()
        values -= values.mean()
        found[k] = values / (np.linalg.norm(values) or 1.0)
    return found
