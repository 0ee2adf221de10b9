"""Metrics as modules of Hugging Face `evaluate`, loaded from where they are installed.

``evaluate.load(evaluate_module_path("frechet_distance"))`` copies the script to its own cache and
runs it: nothing is fetched. Predictions are synthetic features and references are real ones; the
two need not be equally many.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any, Final

import numpy as np
import numpy.typing as npt

EVALUATE_MODULES: Final = (
    "classifier_two_sample_test",
    "frechet_distance",
    "kernel_distance",
    "mauve",
    "precision_recall_density_coverage",
    "sliced_wasserstein",
    "vendi_score",
)


def evaluate_module_path(name: str) -> str:
    """Give the folder to hand to ``evaluate.load``.

    Parameters
    ----------
    name : str
        One of `EVALUATE_MODULES`.

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
    if name not in EVALUATE_MODULES:
        raise ValueError(f"no evaluate module {name!r}; there are: {', '.join(EVALUATE_MODULES)}")
    return str(files(__name__) / name)


class TwoSided:
    """Lets an ``evaluate.Metric`` take unequally many predictions and references.

    `evaluate` keeps both as columns of one table. The shorter one is filled up with nulls, which
    `matrix` leaves out again.
    """

    def add_batch(self, *, predictions: Any = None, references: Any = None, **kwargs: Any) -> None:
        """Add synthetic features, real features or both; float vectors of one length."""
        columns = {"predictions": _rows(predictions), "references": _rows(references)}
        longest = max(map(len, columns.values()))
        padded = {name: rows + [None] * (longest - len(rows)) for name, rows in columns.items()}
        super().add_batch(**padded, **kwargs)  # type: ignore[misc]


def _rows(x: Any) -> list[Any]:
    return [] if x is None else list(x)


def matrix(column: list[list[float] | None], name: str) -> npt.NDArray[np.float64]:
    """Give a column of vectors as an array, shape (n, d), without its nulls.

    Raises
    ------
    ValueError
        If nothing is left, or the vectors differ in length.
    """
    rows = [row for row in column if row is not None]
    lengths = {len(row) for row in rows}
    if not rows:
        raise ValueError(f"no {name}: add feature vectors first")
    if len(lengths) > 1:
        raise ValueError(f"{name} have vectors of different lengths: {sorted(lengths)[:5]}")
    return np.asarray(rows, dtype=np.float64)
