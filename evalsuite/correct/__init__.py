"""The run behind ``evalsuite correct``: find what drifted, correct it, and say whether it helped.

Everything is fitted on one half of the real data and judged on the other, by the policy's encoders
and by a second look that nothing was fitted in: a correction or a selection can be made to please
one encoder without making the data any better.
"""

from __future__ import annotations

from .judge import DISTANCES
from .looks import Looks, in_real_units
from .parts import halved, halves, write_part
from .result import (
    Comparison,
    CorrectionResult,
    Drifted,
    LabelsKept,
    Measured,
    TieChange,
    summary,
)
from .run import correct
from .selecting import SELECTIONS

__all__ = [
    "DISTANCES",
    "SELECTIONS",
    "Comparison",
    "CorrectionResult",
    "Drifted",
    "LabelsKept",
    "Looks",
    "Measured",
    "TieChange",
    "correct",
    "halved",
    "halves",
    "in_real_units",
    "summary",
    "write_part",
]
