"""The list of metrics agrees with what is there."""

from __future__ import annotations

import ast
import subprocess
import sys

import numpy as np
import pytest

import evalsuite.metrics
from evalsuite.metrics.audio.naturalness import PROSODY
from evalsuite.metrics.catalogue import METRICS, MetricInfo
from evalsuite.pipeline.calibrate import SPECS


def test_every_public_name_loads() -> None:
    for name in evalsuite.metrics.__all__:
        assert getattr(evalsuite.metrics, name).__doc__


def test_every_listed_metric_has_its_function() -> None:
    table = evalsuite.metrics.list_metrics()
    assert table["name"].is_unique
    assert set(table["function"]) <= set(evalsuite.metrics.__all__)
    assert set(table["direction"]) == {"lower", "higher", "near best"}
    for text in ("blind_to", "reference", "interval", "question", "formula", "call", "p_value"):
        assert (table[text].str.len() > 3).all()
    without = set(table["name"][table["interval"].str.startswith("none")])
    assert without == {"ndb", "clip_score", "ref_clip_score", "label_leakage"}


def arguments(n: int) -> dict[str, object]:
    """What the calls of the catalogue name, n rows a side."""
    rng = np.random.default_rng(5)
    said = ["the red bus", "a green tree", "two dogs", "one old house", "many small birds"]
    texts = [f"{said[i % 5]} and number {i} stand here" for i in range(n)]
    labels = ["ab"[i % 2] for i in range(n)]
    heard = [text.replace("red", "bread") for text in texts]
    tables = (
        "real", "synthetic", "train", "holdout", "images", "captions", "synthetic_images",
        "synthetic_captions", "references",
    )  # fmt: skip
    columns = ("real_column", "synthetic_column", "real_scores", "synthetic_scores")
    parts = ("real", "synthetic", "train", "holdout")
    return {
        # The labels can be learned, and some rows are near each other.
        **{name: rng.normal(5, 0.5, (n, 1)) + 9 * (np.arange(n)[:, None] % 2) for name in tables},
        **{name: rng.normal(size=n) + 5 for name in columns},
        **{f"{part}_labels": labels for part in parts},
        **{f"{part}_prosody": rng.normal(size=(n, len(PROSODY))) for part in parts},
        **{f"{tie}_p": rng.random(n) for tie in ("image_text", "audio_text", "image_audio")},
        **dict.fromkeys(("texts", "said", "real_said", "synthetic_said", "real_texts"), texts),
        **dict.fromkeys(("heard", "real_heard", "synthetic_heard", "synthetic_texts"), heard),
        "shuffled_scores": rng.normal(size=n) - 5,
        "owner": np.arange(n),
    }


def called(info: MetricInfo, n: int) -> float:
    named = {node.id for node in ast.walk(ast.parse(info.call)) if isinstance(node, ast.Name)}
    given = arguments(n)
    if info.function == "subgroup_tests":  # n is that of a group
        given |= {"real_labels": ["a"] * n, "synthetic_labels": ["a"] * n}
    assert info.function in named
    values = {k: given[k] if k in given else getattr(evalsuite.metrics, k) for k in named}
    return float(eval(info.call, values))


# Whether few rows do depends on how folds fall, on what a probe learns, on whether any two meet.
BY_THE_DATA = {"c2st", "tstr_ratio", "birthday_support"}


@pytest.mark.parametrize("info", METRICS, ids=lambda m: m.name)
def test_the_call_gives_the_number_from_the_least_n_on(info: MetricInfo) -> None:
    value = called(info, 100 if info.name in BY_THE_DATA else info.min_n)
    assert np.isfinite(value)
    assert info.low is None or value >= info.low
    assert info.high is None or value <= info.high
    # With one row less a side it says so.
    if info.name not in BY_THE_DATA:
        with pytest.raises((ValueError, AttributeError)):
            called(info, info.min_n - 1)


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
