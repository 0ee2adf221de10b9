from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from PIL import Image

from evalsuite.generators import (
    ClassSampler,
    Compose,
    Corrupt,
    Identity,
    Item,
    Noise,
    OneOf,
    RecipeError,
    Sometimes,
    generate_folder,
    load_recipe,
    parse_recipe,
    recipe_schema,
    spec,
)

FULL = """
version: 1
name: bad weather
seed: 7
variants: 2
steps:
  - sometimes:
      probability: 0.25
      operation: {corrupt: {kind: motion_blur, severity: [1, 2.5]}}
  - one_of:
      weights: [3, 1]
      operations:
        - corrupt: {kind: fog}
        - noise: {kind: shuffle}
  - identity
"""


def steps(text: str) -> str:
    return f"version: 1\nseed: 1\nsteps: [{text}]"


def test_a_recipe_is_the_operations_that_python_would_build() -> None:
    recipe = parse_recipe(FULL)
    assert (recipe.seed, recipe.variants, recipe.name) == (7, 2, "bad weather")
    assert spec(recipe.operation()) == spec(
        Compose(
            [
                Sometimes(Corrupt("motion_blur", [1, 2.5]), 0.25),
                OneOf([Corrupt("fog"), Noise("shuffle")], [3, 1]),
                Identity(),
            ]
        )
    )
    assert spec(parse_recipe(steps("noise")).operation()) == spec(Noise())


def test_it_writes_what_python_would_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [
        Item(str(i), Image.fromarray(rng.integers(256, size=(20, 20)).astype(np.uint8)))
        for i in range(4)
    ]
    recipe = parse_recipe(FULL)
    report = recipe.run(items, tmp_path / "a", workers=2)
    assert report.n_written == 8
    generate_folder(recipe.operation(), items, tmp_path / "b", seed=7, variants=2)
    for path in (tmp_path / "a").iterdir():
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version: 1\nsed: 1\nsteps: [noise]", r"sed: unknown key: did you mean 'seed'\?"),
        ("version: 1\nsteps: [noise]", "seed: this key is needed"),
        ("version: 2\nseed: 1\nsteps: [noise]", "version: .*got '2'"),
        ("version: 1\nseed: 1\nsteps: []", "steps: "),
        ("version: 1\nseed: '1'\nsteps: [noise]", "seed: .*integer"),
        ("version: 1\nseed: 1\nvariants: 0\nsteps: [noise]", "variants: .*got '0'"),
        (steps("corupt: {}"), "steps.0.corupt: unknown operation: did you mean 'corrupt'"),
        (steps("corrupt: {kind: fogg}"), "steps.0.corrupt: unknown corruption 'fogg'.*'fog'"),
        (steps("corrupt: {kind: fog, severty: 1}"), "corrupt.severty: unknown.*'severity'"),
        (steps("corrupt: {kind: fog, severity: 6}"), "from 1 to 5, got 6"),
        (steps("corrupt: {kind: fog, severity: high}"), r"corrupt.severity.*got 'high'"),
        (steps("corrupt: {severity: 1}"), "corrupt.kind: this key is needed"),
        (steps("corrupt: fog"), "steps.0.corrupt: "),
        (steps("noise: {kind: white}"), "noise.kind: .*'uniform' or 'shuffle'"),
        (steps("{noise: {}, identity: {}}"), "one operation's name"),
        (steps("3"), "steps"),
        (
            steps("one_of: {operations: [noise, sometimes: {operation: {corrupt: {knd: fog}}}]}"),
            r"steps.0.one_of.operations.1.sometimes.operation.corrupt.knd: unknown key.*'kind'",
        ),
        (steps("sometimes: {operation: noise, probability: 2}"), r"within \[0, 1\], got 2"),
        (steps("sometimes: {operation: [noise]}"), "sometimes.operation: a step is one"),
        (steps("identity: {modality: text}, noise"), "gives text, but step 1"),
        (steps("class_sampler: {model: nowhere.npz}"), "cannot read the model nowhere.npz"),
        ("version: 1\nseed: 1\nseed: 2\nsteps: [noise]", "line 3: the key 'seed' stands twice"),
        ("a: &a [1]\nb: *a", "line 2: YAML aliases"),
        ("[1", "is not YAML"),
        ("- noise", "must be a mapping"),
        ("!!python/object/apply:os.system [true]", "is not YAML"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=f"(?s)the recipe.*{message}"):
        parse_recipe(text)


def test_a_learned_model_is_named_by_its_path(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [
        Item(str(i), Image.fromarray(rng.integers(256, size=(8, 8)).astype(np.uint8)), "a")
        for i in range(5)
    ]
    sampler = ClassSampler.fit(items, size=8, components=2)
    sampler.save(tmp_path / "m.npz")
    recipe = parse_recipe(steps(f"class_sampler: {{model: '{tmp_path / 'm.npz'}'}}"))
    assert spec(recipe.operation()) == spec(sampler)


def test_files_are_read_with_care(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("\ufeff" + FULL, encoding="utf-8")
    assert load_recipe(path) == parse_recipe(FULL)
    with pytest.raises(RecipeError, match=r"cannot read the recipe .*nowhere"):
        load_recipe(tmp_path / "nowhere.yaml")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(path)
    path.write_text("#" * 1_000_001)
    with pytest.raises(RecipeError, match="larger than 200,000 bytes"):
        load_recipe(path)


def test_the_schema_accepts_what_is_valid_and_refuses_what_is_not() -> None:
    drawn = {"version": 1, "seed": 1, "items": {"kind": "resampled", "n": 3}, "steps": ["identity"]}
    jsonschema.validate(drawn, recipe_schema())
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**drawn, "items": {"kind": "all"}}, recipe_schema())
    schema = recipe_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    check = jsonschema.Draft202012Validator(schema)
    assert check.is_valid(yaml.safe_load(FULL))
    for wrong in (
        "version: 1\nsteps: [noise]",
        "version: 1\nseed: 1\nsteps: []",
        steps("corupt: {}"),
        steps("corrupt: {kind: fog, severty: 1}"),
        steps("one_of: {operations: [corrupt: {knd: fog}]}"),
        steps("{noise: {}, identity: {}}"),
    ):
        assert not check.is_valid(yaml.safe_load(wrong)), wrong


def test_null_generators_of_items_stand_in_a_recipe(tmp_path: Path) -> None:
    items = [Item(f"i{k}", Image.new("L", (8, 8), 20 * k), split="train") for k in range(10)]
    form = "{{version: 1, seed: 3, items: {}, steps: [identity]}}"

    def parents(drawn: str, folder: str) -> list[str]:
        recipe = parse_recipe(form.format(drawn))
        assert recipe.run(items, tmp_path / folder).n_written == recipe.items.n  # type: ignore[union-attr]
        rows = (tmp_path / folder / "metadata.jsonl").read_text().splitlines()
        return [json.loads(row)["parents"][0] for row in rows]

    few = parents("{kind: duplicates, n: 12, distinct: 3}", "duplicates")
    assert sorted(Counter(few).values()) == [4, 4, 4]
    sample = parents("{kind: resampled, n: 6}", "resampled")
    assert len(set(sample)) == 6
    assert len(parents("{kind: resampled, n: 30, replace: true}", "again")) == 30
    for wrong, message in (
        ("{kind: duplicates, n: 3}", "distinct is for duplicates"),
        ("{kind: resampled, n: 3, distinct: 2}", "distinct is for duplicates"),
        ("{kind: resampled, n: 0}", "greater than or equal to 1"),
        ("{kind: resample, n: 3}", "resampled"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_recipe(form.format(wrong))
