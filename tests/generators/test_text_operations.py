from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evalsuite.errors import DataError
from evalsuite.generators import (
    Item,
    LeakError,
    RecipeError,
    Sometimes,
    generate_folder,
    parse_recipe,
    produce,
)
from evalsuite.generators.text.effects import (
    DeleteWords,
    InsertPunctuation,
    SwapSlots,
    SwapWords,
    Typos,
)
from evalsuite.generators.text.learned import NgramWriter, Synonyms, TfIdfReplace
from evalsuite.generators.text.template import Template
from evalsuite.generators.text.units import tokens, units, words_of

ENGLISH = "The quick brown fox jumps over the lazy dog, and it doesn't stop."
JAPANESE = "太陽電池のセルに、細いひびが入っています。"
TEXTS = [ENGLISH, JAPANESE, "", "word", "  spaced\tout \n", "A太B", "?!…", "👩‍🔬 ok"]


def made(operation, text: str, variant: int = 0) -> str:  # type: ignore[no-untyped-def]
    return str(produce(operation, Item("a", text=text, label="x"), seed=3, variant=variant)[0])


@pytest.mark.parametrize("text", TEXTS)
def test_cutting_loses_nothing(text: str) -> None:
    assert "".join(units(text)) == text
    assert "".join(tokens(text)) == text


def test_words_are_words_and_unspaced_scripts_are_characters() -> None:
    assert words_of(ENGLISH)[-3:] == ["it", "doesn't", "stop"]
    assert words_of(JAPANESE)[:4] == ["太", "陽", "電", "池"]
    assert tokens("a b, c") == ["a", " b", ",", " c"]


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE])
@pytest.mark.parametrize("variant", range(5))
def test_swaps_keep_the_words_and_change_their_order(text: str, variant: int) -> None:
    swapped = made(SwapWords(0.2), text, variant)
    assert Counter(swapped) == Counter(text)
    moved = sum(a != b for a, b in zip(units(swapped), units(text), strict=True))
    assert 0 < moved <= 2 * round(0.2 * len(words_of(text)) + 0.5)
    assert made(SwapWords(0.0), text, variant) == text


@pytest.mark.parametrize("text", [ENGLISH, JAPANESE])
def test_deletion_loses_the_asked_share_and_never_all(text: str) -> None:
    n = len(words_of(text))
    left = [len(words_of(made(DeleteWords(0.3), text, v))) for v in range(300)]
    assert abs(np.mean(left) / n - 0.7) < 0.03
    assert len(words_of(made(DeleteWords(1.0), text))) == 1
    assert made(DeleteWords(0.0), text) == text
    assert "  " not in made(DeleteWords(0.5), ENGLISH)


def test_punctuation_is_added_and_the_words_stay() -> None:
    for text, marks in ((ENGLISH, ".;?:!,"), (JAPANESE, "、。！？：；")):
        for variant in range(20):
            out = made(InsertPunctuation(), text, variant)
            assert words_of(out) == words_of(text)
            added = Counter(out) - Counter(text)
            added.pop(" ", None)
            assert set(added) <= set(marks)
            assert 1 <= added.total() <= np.ceil(len(words_of(text)) / 3)


@pytest.mark.parametrize("kind", ["keyboard", "ocr", "homoglyph", "case"])
def test_typos_change_the_asked_number_of_characters_and_keep_the_length(kind: str) -> None:
    for text in (ENGLISH, "ソフトの力で、人口がふえる一方だ。"):
        if kind == "case" and text != ENGLISH:
            continue
        out = made(Typos(kind, 0.2), text)  # type: ignore[arg-type]
        assert len(out) == len(text)
        assert 0 < sum(a != b for a, b in zip(out, text, strict=True)) <= 0.2 * len(text) + 1
        assert made(Typos(kind, 0.0), text) == text  # type: ignore[arg-type]
    if kind == "homoglyph":
        assert not made(Typos(kind, 1.0), "aceop").isascii()  # type: ignore[arg-type]
    if kind == "keyboard":
        assert {made(Typos(kind, 1.0), "g", v) for v in range(60)} == set("fhtyvb")  # type: ignore[arg-type]


def test_omission_leaves_characters_out() -> None:
    assert len(made(Typos("omission", 0.25), "abcdefgh")) == 6


def test_a_setting_that_does_not_fit_is_refused() -> None:
    for wrong in ({"share": 2.0}, {"share": [0.5, 0.1]}, {"share": float("nan")}):
        with pytest.raises(ValueError, match="share must be"):
            SwapWords(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="did you mean 'keyboard'"):
        Typos("keybord")  # type: ignore[arg-type]


RULES = {"start": ["a {colour} {label}", "{label}, {colour}"], "colour": ["red", "blue"]}


def test_a_grammar_gives_all_its_texts_and_no_other() -> None:
    seen = {made(Template(RULES), "", v) for v in range(60)}
    assert seen == {"a red x", "a blue x", "x, red", "x, blue"}
    # A label is text, not a template.
    odd = Item("a", label="{colour} {0}")
    assert "{colour} {0}" in produce(Template(RULES), odd, seed=1)[0]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"begin": ["a"]}, "no rule 'start'"),
        ({"start": ["{color}"], "colour": ["red"]}, r"slot {color} of 'start'.*'colour'"),
        ({"start": ["{a}"], "a": ["x {start}"]}, "start → a → start"),
        ({"start": []}, "no texts"),
        ({"start": ["a { b"]}, "not part of a slot"),
        ({"start": ["a"], "label": ["b"]}, "filled in later"),
    ],
)
def test_a_grammar_that_does_not_work_is_refused(rules: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Template(rules)


GOOD = [
    f"the {x} cell shows a {y} line" for x in ("red", "blue", "green") for y in ("thin", "thick")
]
BAD = [f"our {x} panel has {y} cracks" for x in ("old", "new") for y in ("two", "many", "no")]


def corpus(split: str | None = "train") -> list[Item]:
    texts = [(t, "good") for t in GOOD] + [(t, "bad") for t in BAD]
    return [Item(f"t{i}", text=t, label=c, split=split) for i, (t, c) in enumerate(texts)]


def test_synonyms_are_words_of_the_same_use() -> None:
    operation = Synonyms.fit(corpus(), share=0.3, neighbours=2)
    assert set(operation.alike("red")) == {"blue", "green"}
    assert operation.alike("thin")[0] == "thick"
    assert operation.alike("unknown") == []
    out = [made(operation, GOOD[0], v) for v in range(20)]
    assert all(len(words_of(t)) == 7 for t in out)
    assert any(t != GOOD[0] for t in out)
    more = Synonyms.fit(corpus(), share=0.3, action="insert")
    assert len(words_of(made(more, GOOD[0]))) == 9


def test_tfidf_keeps_what_says_most() -> None:
    texts = [f"the cell number {w} is in the module" for w in ("seven", "eight", "nine", "ten")]
    operation = TfIdfReplace.fit([Item(t, text=t) for t in texts], share=0.5)
    chances = dict(zip(words_of(texts[0]), operation.chances(texts[0]), strict=True))
    assert chances["seven"] == 0
    assert chances["the"] > 0.4
    replaced = [made(operation, texts[0], v) for v in range(200)]
    assert all("seven" in t for t in replaced)
    share = np.mean([sum(a != b for a, b in zip(words_of(t), words_of(texts[0]), strict=True)) / 8
                     for t in replaced])  # fmt: skip
    assert 0.3 < share <= 0.5  # a word may be replaced by itself


def test_the_ngram_models_probabilities_are_witten_and_bells() -> None:
    items = [Item("1", text="a b", label="x"), Item("2", text="a c", label="x")]
    model = NgramWriter.fit(items, order=2)
    # Counts: "a" 2, " b" 1, " c" 1, end 2; after "a": " b", " c".
    uni = {"a": 2 / 6, " b": 1 / 6, " c": 1 / 6, "": 2 / 6}
    after_a = {w: ((w in {" b", " c"}) + 2 * p) / (2 + 2) for w, p in uni.items()}
    for word, p in after_a.items():
        assert model.probability("x", ["a"], word) == pytest.approx(p, abs=1e-12)
    assert sum(after_a.values()) == pytest.approx(1)
    # What is drawn follows them.
    texts = Counter(made(model, "", v) for v in range(4000))
    first_a = sum(n for t, n in texts.items() if t.startswith("a")) / 4000
    assert first_a == pytest.approx(model.probability("x", [], "a"), abs=0.03)


def test_the_ngram_model_writes_its_class_in_both_kinds_of_script() -> None:
    model = NgramWriter.fit(corpus(), order=2)
    for v in range(20):
        good = produce(model, Item("g", label="good"), seed=1, variant=v)[0]
        assert set(words_of(good)) <= {w for t in GOOD for w in words_of(t)}
    with pytest.raises(ValueError, match="not one it was fitted on"):
        produce(model, Item("g", label="ugly"), seed=1)
    japanese = NgramWriter.fit([Item("j", text=JAPANESE, label="a")], order=6)
    assert produce(japanese, Item("j", label="a"), seed=1)[0][0] == JAPANESE[0]


@pytest.mark.parametrize("kind", [Synonyms, TfIdfReplace, NgramWriter])
def test_a_learned_model_is_saved_and_says_what_it_learned_from(kind, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    model = kind.fit(corpus())
    assert model.params == kind.fit(corpus()[::-1]).params
    model.save(tmp_path / "m.npz")
    again = kind.load(tmp_path / "m.npz")
    assert again.params == model.params
    for v in range(5):
        item = Item("a", text=GOOD[1], label="good")
        assert produce(again, item, seed=1, variant=v) == produce(model, item, seed=1, variant=v)
    assert kind.fit(corpus()[:9]).model_sha256 != model.model_sha256
    assert kind.fit(corpus("test")).held_out_sources == {"test"}
    with pytest.raises(LeakError, match="fit on one split"):
        kind.fit([*corpus(), Item("x", text="a b c", label="good", split="test")])
    with pytest.raises(DataError, match="no items"):
        kind.fit([])
    with pytest.raises(RecipeError, match="load the fitted model"):
        kind()
    other = Synonyms if kind is not Synonyms else NgramWriter
    with pytest.raises(DataError, match=r"not a"):
        other.load(tmp_path / "m.npz")
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(DataError, match="not a saved"):
        kind.load(tmp_path / "bad.npz")


def test_a_recipe_learns_from_train_only_and_once(tmp_path: Path) -> None:
    items = [*corpus(), Item("secret", text="xylophone quartz", label="good", split="test")]
    recipe = parse_recipe("{version: 1, seed: 1, variants: 9, steps: [ngram: {order: 2}]}")
    report = recipe.run(items, tmp_path / "a")
    text = (report.path / "metadata.jsonl").read_text()
    assert report.n_written == 13 * 9
    assert "xylophone" not in text
    learned = next((report.path / ".evalsuite").glob("ngram-*.npz"))
    stamp = learned.stat().st_mtime_ns
    again = recipe.run(items, tmp_path / "a")
    assert (again.n_kept, again.n_written) == (13 * 9, 0)
    assert learned.stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="all 1 items are held out"):
        recipe.run(items[-1:], tmp_path / "b")
    loose = [Item(i.id, text=i.text, label=i.label) for i in items]
    with pytest.raises(DataError, match="held out"):
        generate_folder(recipe.operation(), loose, tmp_path / "c", seed=1, split="test")
    nested = parse_recipe(
        "{version: 1, seed: 1, steps: [sometimes: {operation: {synonyms: {share: 0.5}}}]}"
    )
    assert isinstance(nested.operation(), Sometimes)
    assert nested.run(items, tmp_path / "d").n_written == 13


def test_slots_change_places_with_their_like() -> None:
    swap = SwapSlots({"colour": ["red", "dark red", "blue"], "部位": ["屋根", "壁"]}, share=1.0)
    text = "A Dark Red roof, RED; redder. 屋根が壊れた"
    for variant in range(8):
        out = made(swap, text, variant)
        assert out.endswith("; redder. 壁が壊れた")
        first, second = out.removeprefix("A ").split("; ")[0].split(" roof, ")
        assert first in {"Red", "Blue"}
        assert second in {"DARK RED", "BLUE"}
    assert made(swap, "nothing here") == "nothing here"
    assert made(SwapSlots({"c": ["red", "blue"]}, share=0.0), "red") == "red"
    half = made(SwapSlots({"c": ["red", "blue"]}, share=0.5), "red red red red")
    assert sorted(half.split()) == ["blue", "blue", "red", "red"]
    assert made(SwapSlots({"c": ["a.b", "x"]}, share=1.0), "a.b aXb") == "x aXb"


def test_digits_keep_their_number() -> None:
    swap = SwapSlots({}, share=1.0, digits=True)
    drawn = {made(swap, "cell 120 of 007", variant) for variant in range(20)}
    assert len(drawn) > 10
    for text in drawn:
        _, number, _, padded = text.split()
        assert len(number) == len(padded) == 3
        assert number[0] != "0"


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"c": ["red"]}, "two values"),
        ({"c": ["red", "Red"]}, "twice"),
        ({"c": ["red", "blue"], "d": ["Red", "x"]}, "in the slots 'c' and 'd'"),
        ({}, "nothing to replace"),
    ],
)
def test_slots_that_cannot_be_are_refused(slots: dict[str, list[str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SwapSlots(slots)
