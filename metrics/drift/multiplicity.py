"""Corrections of p-values for looking at many things at once.

Where the tests share one set of permutations, :func:`..inference.max_t` is sharper.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

Adjustment: TypeAlias = Literal["holm", "bh", "by", "bonferroni", "hochberg"]
"""Which error rate is kept: Holm, Hochberg and Bonferroni the family-wise one (gating), BH and BY
the false discovery rate (exploring). Hochberg needs non-negatively dependent tests; BH as well;
Holm, Bonferroni and BY hold under any dependence."""


def adjust_pvalues(p: ArrayLike, method: Adjustment = "holm") -> NDArray[np.float64]:
    """Adjust p-values for their number: reject where the adjusted one is at or under alpha.

    Parameters
    ----------
    p : array-like, shape (k,)
        p-values in [0, 1]. NaN stands for a hypothesis that was *not tested*: it stays NaN and does
        not count, as if it were not in the list. A test that was tried and failed is not such a
        case: give it 1.0, or leave the report out, but do not let it shrink the family.
    method : {"holm", "bh", "by", "bonferroni", "hochberg"}
        See :data:`Adjustment`.

    Returns
    -------
    ndarray, shape (k,)
        Adjusted p-values in [0, 1], in the order given, never under the raw ones, and monotone: a
        smaller raw p-value never gets a larger adjusted one.

    Raises
    ------
    ValueError
        If there are no p-values, one lies outside [0, 1], or the method is unknown.

    References
    ----------
    Holm, Scand. J. Statist. 6 (1979) 65. Hochberg, Biometrika 75 (1988) 800. Benjamini and
    Hochberg, JRSS B 57 (1995) 289. Benjamini and Yekutieli, Ann. Statist. 29 (2001) 1165.
    """
    raw = np.asarray(p, dtype=np.float64)
    if raw.ndim != 1:
        raise ValueError(f"p must be one list of p-values, got shape {raw.shape}")
    if raw.size == 0:
        raise ValueError("no p-values to adjust: the list is empty")
    if method not in get_args(Adjustment):
        raise ValueError(f"method must be one of {', '.join(get_args(Adjustment))}, got {method!r}")
    tested = np.flatnonzero(~np.isnan(raw))
    values = raw[tested]
    outside = (values < 0) | (values > 1)
    if outside.any():
        raise ValueError(f"p-values must lie in [0, 1], got {values[outside][:5].tolist()}")

    adjusted = np.full(raw.shape, np.nan)
    if not tested.size:
        return adjusted
    order = np.argsort(values, kind="stable")
    ascending, k = values[order], values.size
    rank = np.arange(1, k + 1)
    if method == "bonferroni":
        scaled = ascending * k
    elif method == "holm":
        scaled = np.maximum.accumulate(ascending * (k - rank + 1))
    else:
        factor = {
            "hochberg": k - rank + 1.0,
            "bh": k / rank,
            "by": k / rank * np.sum(1.0 / rank),
        }[method]
        scaled = np.minimum.accumulate((ascending * factor)[::-1])[::-1]
    adjusted[tested[order]] = np.minimum(scaled, 1.0)
    return adjusted
