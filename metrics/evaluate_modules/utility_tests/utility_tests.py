"""How well labelled synthetic (predictions) rows train a probe for real (references) ones."""

from __future__ import annotations

from typing import Literal

from evalsuite.metrics.evaluate_modules import _base
from evalsuite.metrics.utility.probes import utility_tests


class UtilityTests(_base.TrainedOn):
    """`utility_tests` for `evaluate`; load it with ``train=`` and ``train_labels=``."""

    about = (
        "Balanced accuracy on real test rows after training on synthetic over that after "
        "training on real rows (best 1), and the scores it is made of."
    )
    source = "Esteban et al. 2017, arXiv:1706.02633; Ravuri & Vinyals 2019, arXiv:1905.10887"
    least = "1"
    options = "probe: linear or knn."
    labelled = True

    def measure(
        self,
        real: _base.Floats,
        synthetic: _base.Floats,
        *,
        labels: tuple[list[str], list[str]],
        probe: Literal["linear", "knn"] = "linear",
    ) -> dict[str, float]:
        """Give the numbers."""
        train = (self.train, [str(label) for label in self.train_labels])
        report = utility_tests(train, (synthetic, labels[1]), (real, labels[0]), probes=(probe,))
        found = report.probes[probe]
        return {
            **_base.number("tstr_ratio", found.value, found.interval),
            "tstr": found.tstr.value,
            "trts": found.trts.value,
            "trtr": found.trtr.value,
        }
