"""Hops by the embedded models: what they see and hear in real media."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.cli_generate import asks_an_endpoint
from evalsuite.errors import UsageError
from evalsuite.generators import (
    Audio,
    Dropped,
    Hop,
    Modality,
    RecipeError,
    build,
    generate_folder,
    parse_recipe,
    spec,
)
from evalsuite.hops import Describe, ImageSimilarity, TextSimilarity, Transcribe, WordErrors

SPEECH = Path(__file__).parents[1] / "data" / "speech"


def test_describe_names_what_imagenet_knows() -> None:
    import skimage.data as sk

    hop = Describe()
    cat = hop.apply(Image.fromarray(sk.chelsea()), {})
    cup = hop.apply(Image.fromarray(sk.coffee()), {})
    assert "cat" in cat or "tabby" in cat
    assert "espresso" in cup or "cup" in cup
    grey = hop.apply(Image.fromarray(sk.chelsea()).convert("L"), {})
    assert "black and white" in grey
    dark = hop.apply(Image.fromarray((sk.chelsea() // 4).astype(np.uint8)), {})
    assert dark.startswith("a dark")


def test_transcribe_writes_down_real_speech() -> None:
    rows = [json.loads(line) for line in (SPEECH / "metadata.jsonl").read_text().splitlines()]
    row = next(r for r in rows if r["file_name"] == "all-circuits-busy-now.wav")
    samples, rate = soundfile.read(SPEECH / row["file_name"], dtype="float32")
    hop = Transcribe(language="en")
    heard = hop.apply(Audio(samples, rate), {})
    assert heard.strip(" .").lower() == row["transcript"].strip(" .").lower()
    with pytest.raises(Dropped, match="nothing was heard"):
        hop.apply(Audio(np.zeros(16_000, np.float32), 16_000), {})


def test_a_chain_that_lost_the_words_is_dropped() -> None:
    check = WordErrors(0.3)
    hops = [
        SimpleNamespace(output=Modality.TEXT, value="all circuits are busy now"),
        SimpleNamespace(output=Modality.AUDIO, value=None),
        SimpleNamespace(output=Modality.TEXT, value="All circuits are busy now."),
    ]
    assert check(hops[:1]) is None
    assert check(hops[:2]) is None
    assert check(hops) is None
    hops[2].value = "tall cricket are fizzy"
    assert "word errors" in (check(hops) or "")
    with pytest.raises(UsageError, match="at least 0"):
        WordErrors(-1)


def test_chain_from_a_recipe(tmp_path: Path) -> None:
    """Image to caption to speech to transcript, offline, each hop recorded."""
    import skimage.data as sk

    recipe = parse_recipe(
        "version: 1\nseed: 1\nsteps: [chain: {operations: [describe: {}, "
        "speak: {voices: [en-us]}, transcribe: {language: en}]}]"
    )
    item = ("cup", Image.fromarray(sk.coffee()), "drink", None)
    report = generate_folder(recipe.operation(), [item], tmp_path / "out", seed=recipe.seed)
    assert report.n_written == 1
    (row,) = [
        json.loads(line) for line in (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    ]
    trace = json.loads(row["trace"])
    assert [hop["output"] for hop in trace] == ["image", "text", "audio", "text"]
    assert row["label"] == "drink"
    assert len(row["model_sha256"]) == 2
    assert row["text"]


def photographs(folder: Path) -> Path:
    """Real photographs in classes of the names that the embedded classifier has for them."""
    import skimage.data as sk

    for label, picture in (("espresso", sk.coffee()), ("egyptian cat", sk.chelsea())):
        image = Image.fromarray(picture)
        (folder / label).mkdir(parents=True)
        w, h = image.size
        for k, (x, y) in enumerate(((0, 0), (0.1, 0.1), (0.05, 0))):
            box = (int(x * w), int(y * h), int((0.9 + x) * w), int((0.9 + y) * h))
            image.crop(box).resize((w // 2, h // 2)).save(folder / label / f"{k}.png")
    return folder


ROUND = """
version: 1
seed: 3
steps:
  - chain:
      operations:
        - describe
        - speak: {voices: [en-us]}
        - transcribe: {language: en}
        - parse_label: {labels: [espresso, egyptian cat]}
        - class_sampler: {size: 32, components: 2}
      checks:
        - word_errors: {at_most: 0.5}
        - text_similarity: {}
        - image_similarity: {at_least: 0.0}
"""


def test_image_caption_speech_transcript_text_image_from_the_command_line(tmp_path: Path) -> None:
    """All five hops, offline, on photographs, with each hop's consistency in the record."""
    real = photographs(tmp_path / "real")
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(ROUND)
    words = ["generate", str(recipe), "--input", str(real), "--out", str(out)]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (out / "metadata.jsonl").read_text().splitlines()]
    failures = (out / ".evalsuite" / "failures.jsonl").read_text().splitlines()
    lost = [json.loads(line) for line in failures]
    assert len(rows) + len(lost) == 6
    assert len(rows) >= 2
    assert all(found["kind"] == "dropped" for found in lost)
    for row in rows:
        trace = json.loads(row["trace"])
        assert [hop["output"] for hop in trace] == [
            "image", "text", "audio", "text", "label", "image",
        ]  # fmt: skip
        assert trace[3]["consistency"]["word_errors"] <= 0.5
        assert 0.3 < trace[3]["consistency"]["text_similarity"] <= 1.0001
        assert 0 <= trace[5]["consistency"]["image_similarity"] < 1
        assert trace[4]["label"] == row["label"], "the class came through four hops"
        assert len(row["model_sha256"]) == 3
        assert Image.open(out / row["file_name"]).size == (32, 32)
    # A stricter check is another recipe, and its folder another.
    recipe.write_text(ROUND.replace("at_least: 0.0", "at_least: 0.9999"))
    done = CliRunner().invoke(app, [*words[:-1], str(tmp_path / "strict"), "--n", "1"])
    assert done.exit_code != 0
    assert "image similarity" in str(done.exception)
    changed = CliRunner().invoke(app, words)
    assert changed.exit_code != 0, "the first folder was made by another chain"


def test_what_is_measured_is_what_it_says() -> None:
    import skimage.data as sk

    def hop(value: object) -> Hop:
        kind = Modality.TEXT if isinstance(value, str) else Modality.IMAGE
        return Hop("x", kind, value)

    text, image = TextSimilarity(0.8), ImageSimilarity()
    said = "a dark photograph of a cat"
    assert text.measure([hop(said), hop(said)]) == pytest.approx(1, abs=1e-5)
    near = text.measure([hop(said), hop("a dim picture of a kitten")])
    far = text.measure([hop(said), hop("the train leaves at noon")])
    assert near is not None
    assert far is not None
    assert far < 0.4 < near
    assert "text similarity" in (text.judge(far) or "")
    assert text.measure([hop(said)]) is None
    cat = Image.fromarray(sk.chelsea())
    cup = Image.fromarray(sk.coffee())
    same = image.measure([hop(cat), hop(said), hop(cat.crop((20, 20, 430, 290)))])
    other = image.measure([hop(cat), hop(cup)])
    assert same is not None
    assert other is not None
    assert other < same - 0.2
    assert image.judge(other) is None, "without a bound nothing is dropped"
    for wrong in (TextSimilarity, ImageSimilarity):
        with pytest.raises(UsageError, match=r"within \[-1, 1\]"):
            wrong(1.5)


def test_checks_of_a_recipe_are_described_and_checked() -> None:
    form = "{{version: 1, seed: 1, steps: [chain: {{operations: [describe], checks: [{}]}}]}}"
    operation = parse_recipe(form.format("word_errors: {at_most: 0.2}")).operation()
    assert operation.params["checks"] == [{"word_errors": {"at_most": 0.2, "language": "en"}}]
    assert spec(build(spec(operation))) == spec(operation)
    for wrong, message in (
        ("word_error: {}", "did you mean 'word_errors'"),
        ("word_errors: {most: 1}", "does not take"),
        ("word_errors: {at_most: -1}", "at least 0"),
        ("{a: {}, b: {}}", "one name"),
    ):
        with pytest.raises(RecipeError, match=message):
            parse_recipe(form.format(wrong))


def test_only_recipes_that_ask_a_server_open_a_session() -> None:
    assert not asks_an_endpoint([{"corrupt": {"kind": "fog", "severity": 1}}])
    assert asks_an_endpoint([{"chain": {"operations": ["caption"]}}])
    assert asks_an_endpoint(["paraphrase"])
