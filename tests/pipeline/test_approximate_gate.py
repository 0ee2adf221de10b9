"""Above `exact_up_to` the gate approximates, and says so in the finding."""

from __future__ import annotations

import numpy as np

from evalsuite.gate.policy import Calibration
from evalsuite.pipeline.calibrate import measure

METRICS = ("kid", "mmd_rbf", "precision", "recall", "density", "coverage")
LARGE = Calibration(
    splits=20, permutations=99, costly_permutations=99, max_samples=100, exact_up_to=250
)
EXACT = LARGE.model_copy(update={"exact_up_to": 20_000})


def sets(seed: int, shift: float = 0.0, n: int = 400):
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((n, 6)).astype(np.float32) for _ in range(2))
    return a, b + np.float32(shift)


def test_the_finding_names_the_approximation_and_the_exact_value_is_within_its_error() -> None:
    a, b = sets(0, 0.3)
    near = {f.metric: f for f in measure(a, b, settings=LARGE, metrics=METRICS).findings}
    exact = {f.metric: f for f in measure(a, b, settings=EXACT, metrics=METRICS).findings}
    for name in METRICS:
        how = near[name].details["approximation"]
        assert how["method"]
        assert how["level"] == 0.95
        assert "approximation" not in exact[name].details
        if how["of"] in ("the exact metric", "the exact distance"):
            # One draw of three metrics, each within its error at a level of 0.95.
            assert abs(near[name].value - exact[name].value) <= 2 * how["error"], name
        assert 0 < how["error"] < 0.5
    # What decides is the same: floor, matched draws and permutations look at `max_samples` anyway.
    assert near["coverage"].gap == exact["coverage"].gap
    assert near["mmd_rbf"].p_value == exact["mmd_rbf"].p_value
    # The error is in the interval of those gaps that come from the value itself.
    assert near["mmd_rbf"].details["standard_error"] > exact["mmd_rbf"].details["standard_error"]
