"""What the modules share: columns of feature vectors in, a dictionary of numbers out.

`evaluate` takes the first class that it finds in a module's script, so scripts import this module
and not its classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import datasets
import evaluate
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from evalsuite.metrics._check import Array
    from evalsuite.metrics._result import Interval

Floats = npt.NDArray[np.float64]

_LABEL = datasets.Value("string")


class Features(evaluate.Metric):  # type: ignore[misc]
    """Synthetic features (predictions) against real ones (references).

    `evaluate` keeps both as columns of one table. The two need not be equally many: the shorter one
    is filled up with nulls, which are left out again. A module names what it is about and has
    ``measure(real, synthetic, **options)``, which gives the numbers.
    """

    about: ClassVar[str]
    source: ClassVar[str]
    least: ClassVar[str]
    options: ClassVar[str] = ""
    labelled: ClassVar[bool] = False

    def _info(self) -> evaluate.MetricInfo:
        vectors = datasets.Sequence(datasets.Value("float64"))
        columns: dict[str, Any] = {"predictions": vectors, "references": vectors}
        labels = ""
        if self.labelled:
            columns |= dict.fromkeys(("prediction_labels", "reference_labels"), _LABEL)
            labels = "prediction_labels, reference_labels: their classes.\n"
        return evaluate.MetricInfo(
            description=self.about,
            citation=self.source,
            inputs_description=f"""
Feature vectors of one length, at least {self.least} on each side.

predictions: synthetic features.
references: real features; need not be as many.
{labels}{self.options}
""",
            features=datasets.Features(columns),
        )

    def add_batch(self, *, predictions: Any = None, references: Any = None, **labels: Any) -> None:
        """Add synthetic features, real features or both, with their labels where there are any."""
        columns = {"predictions": predictions, "references": references, **labels}
        rows = {name: [] if x is None else list(x) for name, x in columns.items()}
        for name in labels:
            rows[name] = [str(label) for label in rows[name]]
        longest = max(map(len, rows.values()))
        super().add_batch(**{name: x + [None] * (longest - len(x)) for name, x in rows.items()})

    def _compute(
        self,
        predictions: list[list[float] | None],
        references: list[list[float] | None],
        prediction_labels: list[str | None] | None = None,
        reference_labels: list[str | None] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        if self.labelled:
            options["labels"] = tuple(
                [label for label in column or [] if label is not None]
                for column in (reference_labels, prediction_labels)
            )
        sides = matrix(references, "references"), matrix(predictions, "predictions")
        numbers: dict[str, float] = self.measure(*sides, **options)
        return numbers


class TrainedOn(Features):
    """The same beside training features, which are given to ``evaluate.load`` as ``train``."""

    def __init__(self, *args: Any, train: Array, train_labels: Any = None, **kwargs: Any) -> None:
        self.train = train
        self.train_labels = train_labels
        super().__init__(*args, **kwargs)


def number(name: str, value: float, interval: Interval | None = None) -> dict[str, float]:
    """Give a value, and with an interval its ends."""
    out = {name: value}
    if interval is not None:
        out |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
    return out


def matrix(column: list[list[float] | None], name: str) -> Floats:
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
