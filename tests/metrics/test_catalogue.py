"""The list of metrics agrees with what is there."""

from __future__ import annotations

import subprocess
import sys

import evalsuite.metrics
from evalsuite.pipeline.calibrate import SPECS


def test_every_public_name_loads() -> None:
    for name in evalsuite.metrics.__all__:
        assert getattr(evalsuite.metrics, name).__doc__


def test_every_listed_metric_has_its_function() -> None:
    table = evalsuite.metrics.list_metrics()
    assert table["name"].is_unique
    assert set(table["function"]) <= set(evalsuite.metrics.__all__)
    assert set(table["direction"]) == {"lower", "higher", "near best"}
    for text in ("blind_to", "reference", "interval"):
        assert (table[text].str.len() > 3).all()
    without = set(table["name"][table["interval"].str.startswith("none")])
    assert without == {"ndb", "clip_score", "ref_clip_score", "label_leakage"}


def test_the_gates_metrics_are_listed_with_the_same_direction() -> None:
    table = evalsuite.metrics.list_metrics().set_index("name")
    for name, spec in SPECS.items():
        better = table.loc[name, "direction"]
        assert better in {"higher" if spec.higher_is_better else "lower", "near best"}
        assert table.loc[name, "best"] == spec.best


def test_importing_the_package_loads_no_torch() -> None:
    code = (
        "import sys, evalsuite.metrics, evalsuite.cli; "
        "print([m for m in ('torch', 'scipy', 'pandas', 'sklearn') if m in sys.modules])"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "[]"
