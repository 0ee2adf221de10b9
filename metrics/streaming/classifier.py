"""The classifier two-sample test over batches."""

from __future__ import annotations

from typing import Any

import torch

from ..distribution.classifier import ClassifierResult, classifier_two_sample_test
from ._features import FeaturePair


class ClassifierTwoSample(FeaturePair):
    """How well a held-out linear classifier tells two streams of features apart; best 0.

    All features are kept. Folds are drawn by place in the stream, so that the value changes with
    the order of the data, within its standard error. For grouped data use the function.

    Parameters
    ----------
    folds : int
        Parts that take turns as held-out data.
    penalty : float
        Ridge penalty, in units of the mean squared norm of a training sample.
    seed : int
        Seed of the folds and of the permutations.
    reset_real_features : bool
        Whether :meth:`reset` also forgets the real side.
    **kwargs
        To :class:`torchmetrics.Metric`.

    Raises
    ------
    ValueError
        If there are fewer than 2 folds, or the penalty is not above 0.

    See Also
    --------
    evalsuite.metrics.distribution.classifier.classifier_two_sample_test : Limits, references.
    """

    higher_is_better = False

    def __init__(
        self,
        folds: int = 5,
        penalty: float = 1.0,
        *,
        seed: int = 0,
        reset_real_features: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(reset_real_features=reset_real_features, **kwargs)
        if folds < 2:
            raise ValueError(f"folds must be at least 2, got {folds}")
        if not penalty > 0:
            raise ValueError(f"penalty must be above 0, got {penalty}")
        self.folds = folds
        self.penalty = penalty
        self.seed = seed

    def result(self, *, permutations: int = 499) -> ClassifierResult:
        """Give the effect with interval, p-value and held-out scores, for this process alone.

        Raises
        ------
        ValueError
            If there are too few rows to train and test on both sides.
        """
        return classifier_two_sample_test(
            *self.both(),
            folds=self.folds,
            penalty=self.penalty,
            permutations=permutations,
            seed=self.seed,
        )

    def compute(self) -> torch.Tensor:
        """Give the effect, ``2 auc - 1``, over all that was seen, on all ranks.

        Raises
        ------
        ValueError
            If there are too few rows to train and test on both sides.
        """
        effect = self.result(permutations=0).effect
        return torch.tensor(effect, dtype=torch.float64, device=self.device)
