"""What looks at a generator's training data: copying, likelihood and use.

The training data is given beforehand. The stream's real side is real data that the generator never
saw: the holdout, or the test set.
"""

from __future__ import annotations

from typing import Any

import torch

from .._check import Array
from ..distribution.copying import CopyReport, copy_tests
from ..distribution.likelihood import LikelihoodResult, feature_likelihood_divergence
from ..utility.probes import Probe, UtilityReport, utility_tests
from ._features import Labelled, TrainedOn, whole_labels


class CopyTests(TrainedOn):
    """Copying of training data, against the held-out rows of the stream's real side.

    All features are kept. Ties are broken and sets subsampled by place in the stream.

    Parameters
    ----------
    train, reset_real_features, **kwargs
        As for :class:`TrainedOn`.
    seed : int
        As for the function.

    See Also
    --------
    evalsuite.metrics.distribution.copying.copy_tests : Limits, notes and references.
    """

    def __init__(self, train: Array, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(train, **kwargs)
        self.seed = seed

    def result(self, *, permutations: int = 999) -> CopyReport:
        """Give every check with interval and p-value, for this process alone.

        Raises
        ------
        ValueError
            If a side has fewer than 20 rows, or most held-out rows are training rows.
        """
        real, synthetic = self.both()
        return copy_tests(
            self.train_features, real, synthetic, permutations=permutations, seed=self.seed
        )

    def compute(self) -> dict[str, torch.Tensor]:
        """Give the checks' values over all that was seen, on all ranks.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        found = self.result(permutations=1)
        return self.numbers(
            {
                "near_duplicate_share": found.near_duplicates.value,
                "dcr_share": found.dcr.value,
                "authenticity": found.authenticity.value,
                "c_t": found.c_t.value,
                "membership_auc": found.membership.value,
            }
        )


class FeatureLikelihoodDivergence(TrainedOn):
    """Feature likelihood divergence of a stream; the real side is test data; lower is better.

    All features are kept; the value does not depend on their order.

    Parameters
    ----------
    train, reset_real_features, **kwargs
        As for :class:`TrainedOn`.
    seed : int
        Seed of the halving of ``train`` for the baseline.

    See Also
    --------
    evalsuite.metrics.distribution.likelihood.feature_likelihood_divergence : Limits, references.
    """

    higher_is_better = False

    def __init__(self, train: Array, *, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(train, **kwargs)
        self.seed = seed

    def result(self) -> LikelihoodResult:
        """Give the divergence with its interval and gap, for this process alone.

        Raises
        ------
        ValueError
            If a side has fewer than 2 rows.
        """
        real, synthetic = self.both()
        return feature_likelihood_divergence(self.train_features, real, synthetic, seed=self.seed)

    def compute(self) -> torch.Tensor:
        """Give the divergence over all that was seen, on all ranks: float64, no dimensions.

        Raises
        ------
        ValueError
            As :meth:`result`.
        """
        return torch.tensor(float(self.result()), dtype=torch.float64, device=self.device)


class UtilityTests(Labelled, TrainedOn):
    """How well synthetic data trains a probe, tested on the stream's real side.

    All features and labels are kept.

    Parameters
    ----------
    train : array, shape (n, d)
        Features of the real training data.
    train_labels : int tensor, shape (n,)
        Their classes, under 2**24.
    probe : {"linear", "knn"}
        Which probe.
    seed : int
        As for the function.
    reset_real_features, **kwargs
        As for :class:`TrainedOn`.

    See Also
    --------
    evalsuite.metrics.utility.probes.utility_tests : Limits, notes and references.
    """

    higher_is_better = True

    def __init__(
        self,
        train: Array,
        train_labels: torch.Tensor,
        *,
        probe: Probe = "linear",
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(train, **kwargs)
        self.train_labels = whole_labels(train_labels, len(train)).tolist()
        self.probe: Probe = probe
        self.seed = seed

    def result(self) -> UtilityReport:
        """Give scores, ratio, classes and learning curve, for this process alone.

        Raises
        ------
        ValueError
            As :func:`utility_tests`.
        """
        real, synthetic = self.with_labels()
        return utility_tests(
            (self.train_features, self.train_labels),
            synthetic,
            real,
            probes=(self.probe,),
            seed=self.seed,
        )

    def compute(self) -> dict[str, torch.Tensor]:
        """Give the ratio and the three scores over all that was seen, on all ranks.

        Raises
        ------
        ValueError
            As :func:`utility_tests`.
        """
        found = self.result().probes[self.probe]
        return self.numbers(
            {
                "tstr_ratio": found.value,
                "tstr": found.tstr.value,
                "trts": found.trts.value,
                "trtr": found.trtr.value,
            }
        )
