"""Metrics as modules of Hugging Face `evaluate`, loaded from where they are installed.

``evaluate.load(evaluate_module_path("frechet_distance"))`` copies the script to its own cache and
runs it: nothing is fetched. Predictions are synthetic features and references are real ones; the
two need not be equally many.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

EVALUATE_MODULES: Final = (
    "classifier_two_sample_test",
    "drift_tests",
    "frechet_distance",
    "frechet_distance_infinity",
    "kernel_distance",
    "mauve",
    "max_sliced_wasserstein",
    "mode_tests",
    "precision_recall_density_coverage",
    "sinkhorn_divergence",
    "sliced_wasserstein",
    "vendi_ratio",
    "vendi_score",
)
"""Modules that need features alone, so that ``evaluate.combine`` takes all of them at once."""

EVALUATE_MODULES_WITH_MORE: Final = (
    "copy_tests",
    "feature_likelihood_divergence",
    "subgroup_tests",
    "utility_tests",
)
"""Modules that need more: training features, ``evaluate.load(path, train=features)``, or labels."""


def evaluate_module_path(name: str) -> str:
    """Give the folder to hand to ``evaluate.load``.

    Parameters
    ----------
    name : str
        One of `EVALUATE_MODULES` or `EVALUATE_MODULES_WITH_MORE`.

    Returns
    -------
    str
        Absolute path.

    Raises
    ------
    ValueError
        If there is no such module.

    Examples
    --------
    >>> evaluate_module_path("vendi_score").endswith("vendi_score")
    True
    """
    known = EVALUATE_MODULES + EVALUATE_MODULES_WITH_MORE
    if name not in known:
        raise ValueError(f"no evaluate module {name!r}; there are: {', '.join(known)}")
    return str(files(__name__) / name)
