"""Wilson's interval for a share whose standard error is not the binomial one."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

from .._result import Interval


def wilson(value: float, error: float, units: float, level: float, method: str) -> Interval:
    """Give Wilson's interval with as many draws as would have this standard error.

    Unlike value ± z·error it stays in [0, 1], and has a width where ``value`` is 0 or 1. There the
    value alone says that a draw has no variance: the number of draws is read from the error and
    the value of two more successes and failures (Agresti & Coull). Without this the coverage of
    `precision_recall_density_coverage`, at its upper end of 1, held its expectation in 89 % of
    simulated samples at d = 64; with it in 97 %.

    Parameters
    ----------
    value : float
        The share, in [0, 1].
    error : float
        Its standard error.
    units : float
        Independent units behind it: the number of draws where the error is 0, and the most that a
        value of 0 or 1 can stand for.
    level : float
        Nominal coverage.
    method : str
        Name to give to the interval.

    Returns
    -------
    Interval
        Holds ``value``.

    References
    ----------
    Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22.
    Agresti & Coull 1998, Approximate is better than exact, Am. Stat. 52.
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    n = units
    if error > 0 and 0 < value < 1:
        n = value * (1 - value) / error**2
    elif error > 0:
        inner = (value * units + 2) / (units + 4)
        n = min(units, inner * (1 - inner) / error**2)
    middle = (value + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(value * (1 - value) / n + (z / (2 * n)) ** 2)
    low, high = max(0.0, middle - half), min(1.0, middle + half)
    return Interval(min(low, value), max(high, value), level, method)
