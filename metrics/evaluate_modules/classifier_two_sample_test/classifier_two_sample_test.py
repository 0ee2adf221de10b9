"""How well a classifier tells synthetic (predictions) from real (references) features."""

from __future__ import annotations

from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.evaluate_modules import _base


class ClassifierTwoSampleTest(_base.Features):
    """`classifier_two_sample_test` for `evaluate`."""

    about = (
        "How well a held-out linear classifier tells synthetic from real: 2 AUC - 1. Best "
        "0; higher is worse."
    )
    source = "Lopez-Paz & Oquab 2017, arXiv:1610.06545"
    least = "5"
    options = "permutations: relabellings for classifier_p_value; 0 leaves it out."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, permutations: int = 0
    ) -> dict[str, float]:
        """Give the numbers."""
        found = classifier_two_sample_test(real, synthetic, permutations=permutations)
        out = _base.number("classifier_effect", found.effect, found.ci)
        out["classifier_auc"] = found.auc
        if found.p_value is not None:
            out["classifier_p_value"] = found.p_value
        return out
