"""Presidio's rules on a blank pipeline, and names by a spaCy model that is trained here."""

from __future__ import annotations

import re
import socket
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from evalsuite.errors import ModelError, UsageError
from evalsuite.generators import Item, build, parse_recipe, produce, replay, spec
from evalsuite.generators.privacy import entities
from evalsuite.generators.privacy.entities import ReplaceEntities
from evalsuite.generators.privacy.text import find_pii

if find_spec("presidio_analyzer") is None:
    pytest.skip("Presidio is in the extra `presidio`", allow_module_level=True)

KEY = b"k" * 16
PAGE = Path(__file__).parents[2] / "docs" / "privacy.md"

# Numbers with right check digits, by their issuers' published rules; invented otherwise.
LABELLED = [
    ("My social security number is 457-55-5462.", "US_SSN"),
    ("SSN 212-09-9999 on file", "US_SSN"),
    ("ssn: 536-90-4399", "US_SSN"),
    ("NHS number 943 476 5919", "UK_NHS"),
    ("her nhs no. is 401 023 2137", "UK_NHS"),
    ("send it to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa", "CRYPTO"),
    ("bitcoin wallet 1BoatSLRHtKNngkdXEeobR76b53LETtpyT", "CRYPTO"),
    ("the network card is 00:1B:44:11:3A:B7", "MAC_ADDRESS"),
    ("mac address 3c-22-fb-5a-10-9e", "MAC_ADDRESS"),
    ("card 4111 1111 1111 1111 was charged", "CREDIT_CARD"),
    ("pay to GB82 WEST 1234 5698 7654 32", "IBAN_CODE"),
    ("call 212-555-0175 tomorrow", "PHONE_NUMBER"),
    ("phone: +44 20 7946 0958", "PHONE_NUMBER"),
    ("from 203.0.113.77 at noon", "IP_ADDRESS"),
    ("passport number 912803456", "US_PASSPORT"),
    ("US passport 530127744", "US_PASSPORT"),
    ("driver license H12234567", "US_DRIVER_LICENSE"),
    ("his ITIN is 912-70-1234", "US_ITIN"),
]
CLEAN = [
    "The module has 60 cells of 156 mm.",
    "Version 2.13 was released in week 40.",
    "It costs 1,299.00 with 12 months of warranty.",
    "Room 4120, floor 4, from 9 to 17.",
    "The scan took 457 seconds at 5462 counts.",
    "Order 943-4765 has 919 pieces.",
]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("a socket was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_page_says_how_many_are_found() -> None:
    replace = ReplaceEntities()
    found = sum(
        any(kind == wanted for _, _, kind in replace.find(text)) for text, wanted in LABELLED
    )
    touched = sum(bool(replace.find(text)) for text, _ in LABELLED)
    wrong = sum(bool(replace.find(text)) for text in CLEAN)
    said = (
        f"{found} of {len(LABELLED)} as what they are, something in {touched}, and something in "
        f"{wrong} of {len(CLEAN)} texts without any"
    )
    assert said in " ".join(PAGE.read_text("utf-8").split()), said
    assert found >= 12


def test_the_same_value_has_the_same_name() -> None:
    replace = ReplaceEntities(["US_SSN", "MAC_ADDRESS"]).with_key(KEY)
    text = "SSN 457-55-5462, again ssn 457-55-5462, from 00:1B:44:11:3A:B7 and 00:1b:44:11:3a:b7"
    made, record = produce(replace, Item("t", text=text), seed=1)
    names = re.findall(r"([A-Z_]+)_([0-9a-f]{10})", made)
    assert [kind for kind, _ in names] == ["US_SSN"] * 2 + ["MAC_ADDRESS"] * 2
    assert names[0] == names[1]
    assert names[2] == names[3]
    assert "457" not in made
    assert KEY.decode() not in str(record)
    assert replay(record, text, replace) == made
    other = ReplaceEntities(["US_SSN", "MAC_ADDRESS"]).with_key(b"o" * 16)
    assert other.apply(text, {}) != made
    assert "presidio" in record.software


def test_it_takes_what_our_own_rules_do_not() -> None:
    text = "ssn 457-55-5462, wallet 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
    assert find_pii(text) == []
    assert len(ReplaceEntities().find(text)) == 2
    assert ReplaceEntities().find("write to a.person@example.com, https://example.com/x") == []


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spaCy pipeline that has learned six first names, on one processor in a second."""
    import spacy
    from spacy.training import Example

    nlp = spacy.blank("en")
    nlp.add_pipe("ner").add_label("PERSON")  # type: ignore[attr-defined]
    people = ["Alice", "Bob", "Carol", "David", "Erika", "Frank"]
    forms = ["{} came home.", "We saw {} today.", "The cell was checked by {}."]
    examples = []
    for person in people:
        for form in forms:
            text, start = form.format(person), form.index("{")
            entity = (start, start + len(person), "PERSON")
            examples.append(Example.from_dict(nlp.make_doc(text), {"entities": [entity]}))
    spacy.util.fix_random_seed(0)
    nlp.initialize(lambda: examples)
    for _ in range(15):
        nlp.update(examples)
    folder = tmp_path_factory.mktemp("spacy") / "names"
    nlp.to_disk(folder)
    return folder


def test_names_come_with_a_model(names: Path) -> None:
    text = "We saw Alice today. SSN 457-55-5462"
    replace = ReplaceEntities(model=str(names)).with_key(KEY)
    made = replace.apply(text, {})
    assert re.fullmatch(r"We saw PERSON_[0-9a-f]{10} today\. SSN US_SSN_[0-9a-f]{10}", made)
    assert "Alice" in ReplaceEntities().with_key(KEY).apply(text, {})
    assert spec(build(spec(replace))) == spec(replace)


def test_from_a_recipe_with_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = parse_recipe("{version: 1, seed: 1, steps: [replace_entities: {entities: [US_SSN]}]}")
    item = Item("t", text="ssn 457-55-5462")
    monkeypatch.delenv("EVALSUITE_PRIVACY_KEY", raising=False)
    with pytest.raises(UsageError, match="need a key"):
        produce(recipe.operation(), item, seed=1)
    monkeypatch.setenv("EVALSUITE_PRIVACY_KEY", "k" * 16)
    made, _ = produce(recipe.operation(), item, seed=1)
    assert made.startswith("ssn US_SSN_")


def test_what_cannot_be_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="did you mean 'US_SSN'"):
        ReplaceEntities(["US_SNN"])
    with pytest.raises(ValueError, match="no rule for 'PERSON'"):
        ReplaceEntities(["PERSON"])
    with pytest.raises(ValueError, match="no rule for 'URL'"):
        ReplaceEntities(["URL"])
    with pytest.raises(ValueError, match="least_score"):
        ReplaceEntities(least_score=2)
    with pytest.raises(ValueError, match="no language"):
        ReplaceEntities(language="qq")
    with pytest.raises(ModelError, match="nothing is downloaded"):
        ReplaceEntities(model="en_core_web_lg")
    (tmp_path / "config.cfg").write_text("[nlp]\nlang = 3\n")
    with pytest.raises(ModelError, match="cannot load"):
        ReplaceEntities(model=str(tmp_path))
    entities._analyzer.cache_clear()
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(ModelError, match=r"evalsuite\[presidio\]"):
        ReplaceEntities()
    entities._analyzer.cache_clear()
