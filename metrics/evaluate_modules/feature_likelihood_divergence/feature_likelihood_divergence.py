"""Feature likelihood divergence of synthetic (predictions) rows; references are test rows."""

from __future__ import annotations

from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence
from evalsuite.metrics.evaluate_modules import _base


class FeatureLikelihoodDivergence(_base.TrainedOn):
    """`feature_likelihood_divergence` for `evaluate`; load it with ``train=``."""

    about = (
        "How unlikely real test rows (references) are under a density made of synthetic "
        "ones that was fitted to training rows. Lower is better; it grows with copying."
    )
    source = "Jiralerspong et al. 2023, arXiv:2302.04440"
    least = "2"

    def measure(self, real: _base.Floats, synthetic: _base.Floats) -> dict[str, float]:
        """Give the numbers."""
        result = feature_likelihood_divergence(self.train, real, synthetic)
        return _base.number("feature_likelihood_divergence", result.value, result.ci)
