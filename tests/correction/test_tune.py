from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.encoders import FeatureCache
from evalsuite.errors import DataError, UsageError
from evalsuite.gate.policy import load_policy
from evalsuite.generators import Identity, Item, generate_folder
from evalsuite.tune import Knob, tune

RECIPE = """
version: 1
seed: 3
steps:
  - corrupt: {kind: brightness, severity: 3}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tune")


@pytest.fixture(scope="module")
def real(cell_items: list[Item], home: Path) -> Path:
    items = [Item(id=i.id, image=i.image.resize((96, 96)), label=i.label) for i in cell_items[:144]]
    generate_folder(Identity(), items, home / "real", seed=0)
    return home / "real"


@pytest.fixture(scope="module")
def recipe(home: Path) -> Path:
    path = home / "recipe.yaml"
    path.write_text(RECIPE)
    return path


def test_the_least_severity_wins_and_a_stopped_search_goes_on(
    recipe: Path, real: Path, home: Path
) -> None:
    asked = {
        "out": home / "search", "knobs": ["steps.0.corrupt.severity=1,3,5"], "n": 36,
        "cache": FeatureCache(home / "cache"), "progress": False, "coverage": 0.5,
    }  # fmt: skip
    first = tune(recipe, real, trials=3, **asked)
    again = tune(recipe, real, trials=8, **asked)
    assert again.trials[:3] == first.trials
    assert len(again.trials) == 8
    by_severity = {t.knobs["steps.0.corrupt.severity"]: t for t in again.trials}
    assert by_severity.keys() == {1, 3, 5}
    assert by_severity[1].gap < by_severity[3].gap < by_severity[5].gap
    assert by_severity[1].coverage > by_severity[5].coverage
    assert again.best == min(again.trials, key=lambda t: (t.gap, t.number))
    assert again.best.knobs == {"steps.0.corrupt.severity": 1}
    assert again.recipe is not None
    assert yaml.safe_load(again.recipe.read_text())["steps"][0]["corrupt"]["severity"] == 1
    assert json.loads((home / "search" / "tune.json").read_text())["best"]["number"] >= 0
    # What judged it had no part in the search.
    names = ("source", "reference", "judge")
    parts = [
        {json.loads(line)["id"] for line in
         (home / "search" / "real" / n / "metadata.jsonl").read_text().splitlines()}
        for n in names
    ]  # fmt: skip
    assert sum(len(p) for p in parts) == len(parts[0] | parts[1] | parts[2]) == 144
    with pytest.raises(UsageError, match="holds another search"):
        tune(recipe, real, trials=3, **{**asked, "n": 20})


def test_no_recipe_is_called_best_that_misses_the_coverage(
    recipe: Path, real: Path, home: Path
) -> None:
    found = tune(
        recipe, real, out=home / "strict", knobs=["steps.0.corrupt.severity=5"], trials=1, n=36,
        coverage=0.99, cache=FeatureCache(home / "cache"), progress=False,
    )  # fmt: skip
    assert found.best is None
    assert found.recipe is None
    assert found.trials[0].coverage < 0.99
    # The command says how far it came, and with what.
    told = CliRunner().invoke(
        app,
        ["tune", str(recipe), "--input", str(real), "--out", str(home / "strict"), "--knob",
         "steps.0.corrupt.severity=5", "--trials", "1", "--n", "36", "--coverage", "0.99",
         "--no-cache"],
    )  # fmt: skip
    assert told.exit_code == 1, told.output
    assert f"the most was {found.trials[0].coverage:.3g}, at steps.0.corrupt.severity=5" in (
        told.output
    )


def test_too_little_real_data_is_told_part_by_part(recipe: Path, real: Path, home: Path) -> None:
    many = load_policy().model_copy(update={"min_samples": 60})
    with pytest.raises(DataError, match="36 to generate from, 36 to search by and 72 to judge by"):
        tune(recipe, real, out=home / "few", knobs=["steps.0.corrupt.severity=1:2"], policy=many)


@pytest.mark.parametrize(
    ("text", "knob"),
    [
        ("a.b=1.0:5.0", Knob("a.b", range=(1.0, 5.0))),
        ("a.b=1:5", Knob("a.b", range=(1, 5))),
        ("a.b=fog, snow", Knob("a.b", choices=("fog", "snow"))),
        ("a.b=1,2", Knob("a.b", choices=(1, 2))),
    ],
)
def test_knobs_are_read(text: str, knob: Knob) -> None:
    assert Knob.parse(text) == knob


@pytest.mark.parametrize("text", ["a.b", "=1:2", "a.b=", "a.b=5:1", "a.b=x:y", "a.b=1:2:3"])
def test_wrong_knobs_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"a knob is|a range is"):
        Knob.parse(text)


def test_a_knob_that_is_not_in_the_recipe_is_named(recipe: Path, real: Path, home: Path) -> None:
    for knob, told in (
        ("steps.1.corrupt.severity=1:2", "'1' is not there"),
        ("steps.0.blur.severity=1:2", "'blur' is not there"),
    ):
        with pytest.raises(UsageError, match=told):
            tune(recipe, real, out=home / "x", knobs=[knob])
