"""Copies of training rows among synthetic (predictions) ones; references are a holdout."""

from __future__ import annotations

from evalsuite.metrics.distribution.copying import copy_tests
from evalsuite.metrics.evaluate_modules import _base


class CopyTests(_base.TrainedOn):
    """`copy_tests` for `evaluate`; load it with ``train=``."""

    about = (
        "Share of near duplicates and of rows nearer to training than to holdout data, "
        "authenticity, C_T and the AUC of a membership attack, each against real rows that "
        "were never trained on."
    )
    source = "Meehan et al. 2020, arXiv:2004.05675; Alaa et al. 2022, arXiv:2102.08921"
    least = "20"
    options = "permutations: relabellings for the p-values."

    def measure(
        self, real: _base.Floats, synthetic: _base.Floats, *, permutations: int = 999
    ) -> dict[str, float]:
        """Give the numbers."""
        found = copy_tests(self.train, real, synthetic, permutations=permutations)
        near, auc = found.near_duplicates, found.membership
        return {
            **_base.number("near_duplicate_share", near.value, near.interval),
            **_base.number("dcr_share", found.dcr.value, found.dcr.interval),
            "authenticity": found.authenticity.value,
            **_base.number("c_t", found.c_t.value, found.c_t.interval),
            **_base.number("membership_auc", auc.value, auc.interval),
            "copying_p_value": min(found.p_adjusted.values()),
        }
