"""A metric: a pure function of two feature matrices, and what the gate must know of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evalsuite.metrics import MetricInfo, PairMetric


def mean_shift(real: npt.NDArray[np.float64], synthetic: npt.NDArray[np.float64]) -> float:
    """Compute the distance of the two means in real standard deviations, averaged over columns.

    Parameters
    ----------
    real, synthetic : ndarray, shape (n, d), (m, d)
        Features.

    Returns
    -------
    float
        At least 0; 0 is best. It cannot see anything but the means.

    References
    ----------
    Cohen 1988, Statistical Power Analysis, section 2.2.
    """
    spread = np.maximum(real.std(axis=0), 1e-12)
    return float(np.abs((synthetic.mean(axis=0) - real.mean(axis=0)) / spread).mean())


MEAN_SHIFT = PairMetric(
    MetricInfo(
        name="mean_shift",
        function="mean_shift",
        direction="lower",
        low=0.0,
        high=None,
        best=0.0,
        unit="real standard deviations",
        streaming=False,
        min_n=2,
        blind_to="everything but the means",
        reference="Cohen 1988",
    ),
    mean_shift,
)
