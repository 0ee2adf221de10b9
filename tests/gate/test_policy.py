"""The policy: what is accepted, and what people are told about the rest."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.errors import PolicyError
from evalsuite.gate.policy import Policy, load_policy, parse_policy, policy_schema
from evalsuite.strict_yaml import MAX_BYTES

RULES = "rules: [{metric: kid, tolerance: 0.05}]\n"


def test_default_policy_needs_no_editing() -> None:
    policy = load_policy()
    assert policy.name == "default"
    assert {rule.metric for rule in policy.rules} >= {
        "frechet_distance",
        "kid",
        "precision",
        "coverage",
    }
    jsonschema.validate(policy.canonical(), policy_schema())


def test_schema_refuses_what_the_reader_refuses() -> None:
    schema = policy_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for text in (RULES + "alhpa: 0.1", "rules: []", RULES + "alpha: 2", "rules: [{metric: kid}]"):
        with pytest.raises(PolicyError):
            parse_policy(text)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(text), schema)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        (RULES + "alhpa: 0.1", "did you mean 'alpha'?"),
        ("rules: [{metric: kid, tolerance: 1, sliec: all}]", "did you mean 'slice'?"),
        (RULES + "calibration: {permutation: 10}", "did you mean 'permutations'?"),
        (RULES + "integrity: {max_unreadabel: 0.1}", "did you mean 'max_unreadable'?"),
        (RULES + "zzz: 1", "known keys: version"),
        (RULES + "version: 2", "version"),
        ("rules: [{metric: kid, tolerance: -1}]", "greater than 0"),
        (RULES + "calibration: {permutations: 99}\nalpha: 0.001", "can never give a p-value"),
        (RULES + "calibration: {permutations: 99999}\nalpha: 0.001", "199 permutations can never"),
        ("- 1", "must be a mapping"),
        ("rules: [", "is not YAML"),
        ("a: &a 1\nb: *a", "aliases"),
        ("version: 1\nversion: 1", "stands twice"),
    ],
)
def test_errors_name_the_key_and_the_remedy(text: str, hint: str) -> None:
    with pytest.raises(PolicyError, match="policy") as error:
        parse_policy(text)
    assert hint in str(error.value)


def test_hash_is_of_the_meaning_not_the_text() -> None:
    a = parse_policy(RULES)
    b = parse_policy("# a comment\nalpha: 0.05\n" + RULES)
    c = parse_policy(RULES + "alpha: 0.04\n")
    assert a.sha256() == b.sha256() != c.sha256()


def test_files_that_are_no_policies(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot read"):
        load_policy(tmp_path / "none.yaml")
    with pytest.raises(PolicyError, match="cannot read"):
        load_policy(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PolicyError, match="UTF-8"):
        load_policy(binary)
    large = tmp_path / "l.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(PolicyError, match="larger than"):
        load_policy(large)


def test_a_yaml_tag_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(PolicyError):
        parse_policy(f"!!python/object/apply:os.system ['touch {mark}']")
    assert not mark.exists()


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=200), st.binary(max_size=100).map(lambda b: b.decode("latin1"))))
def test_any_text_is_a_policy_or_a_policy_error(text: str) -> None:
    with contextlib.suppress(PolicyError):
        assert isinstance(parse_policy(text), Policy)


def test_canonical_form_is_plain_json() -> None:
    assert json.loads(json.dumps(load_policy().canonical())) == load_policy().canonical()


def test_published_schema_is_the_one_in_force() -> None:
    published = Path(__file__).parents[2] / "docs" / "policy.schema.json"
    assert json.loads(published.read_text("utf-8")) == policy_schema()
