from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.generators import (
    Audio,
    Chain,
    ClassSampler,
    Compose,
    Corrupt,
    Dropped,
    Hop,
    Item,
    Modality,
    Parts,
    RecipeError,
    Refused,
    Within,
    generate_folder,
    parse_recipe,
    produce,
    replay,
)
from evalsuite.generators.audio.speech import Speak
from evalsuite.generators.crossmodal.hops import Caption, Model, ParseLabel

RULES = {"start": ["a {light} picture of a {label}", "{label}: {light}"]}


def picture(level: int) -> Image.Image:
    rng = np.random.default_rng(level)
    return Image.fromarray(np.clip(rng.normal(level, 5, (16, 16)), 0, 255).astype(np.uint8))


def items(n: int = 6) -> list[Item]:
    return [
        Item(
            f"i{k}", picture(200 if k % 2 else 40), ["cat", "dog"][k % 2], ["train", "test"][k // 4]
        )
        for k in range(n)
    ]


def see(image: Image.Image) -> dict[str, str]:
    bright = np.asarray(image).mean() > 128
    return {"label": "dog" if bright else "cat", "light": "bright" if bright else "dark"}


def chain(checks: Sequence = ()) -> Chain:  # type: ignore[type-arg]
    """Image → caption → speech → transcript → label → image; the recogniser is told the text."""
    heard: dict[int, str] = {}

    def speak(text: str) -> Audio:
        audio = Speak().apply(text, {"voice": "en-us", "words_per_minute": 160.0, "pitch": 50.0,
                                     "pitch_range": 50.0})  # fmt: skip
        heard[audio.samples.size] = text
        return audio

    def transcribe(audio: Audio) -> str:
        text = heard[audio.samples.size]
        return "nothing at all" if "dog:" in text else text

    painter = ClassSampler.fit([i for i in items() if i.split == "train"] * 2, size=8, components=1)
    return Chain(
        [
            Caption(see, RULES, ["label", "light"], {"captioner": "brightness"}),
            Model(speak, name="voice", input="text", output="audio"),
            Model(transcribe, name="ear", input="audio", output="text", model_sha256="ab" * 32),
            ParseLabel(["cat", "dog"]),
            painter,
        ],
        checks,
    )


def test_a_chain_goes_round_and_records_every_hop(tmp_path: Path) -> None:
    report = generate_folder(chain(), items(), tmp_path, seed=4)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert {f.kind for f in report.failures} <= {"dropped"}
    assert len(rows) + len(report.failures) == 6
    assert rows
    for row in rows:
        trace = json.loads(row["trace"])
        assert [hop["output"] for hop in trace] == [
            "image", "text", "audio", "text", "label", "image",
        ]  # fmt: skip
        assert trace[0]["sha256"] == row["parent_sha256"]
        assert trace[-1]["sha256"] == row["sha256"]
        assert trace[1]["text"] == trace[3]["text"] == row["text"]
        assert trace[4]["label"] == row["label"]
        assert trace[2]["operation"] == "model:voice/1"
        assert "ab" * 32 in row["model_sha256"]
        assert len(row["model_sha256"]) == 2
    for failure in report.failures:
        assert "names no label" in failure.reason


def test_a_check_drops_with_its_reason_and_sees_the_values(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    def quiet(hops: Sequence[Hop]) -> str | None:
        seen.append([str(hop.output) for hop in hops])
        last = hops[-1]
        if last.output == Modality.AUDIO and last.value.seconds > 0.1:
            return f"{last.value.seconds:.0f} seconds are too long"
        return None

    with pytest.raises(Dropped, match=r"after model:voice/1: . seconds are too long"):
        produce(chain([quiet]), items()[0], seed=1)
    assert seen == [["image", "text"], ["image", "text", "audio"]]
    report = generate_folder(
        Chain(
            [Corrupt("fog")],
            [lambda hops: "dark" if see(hops[0].value)["light"] == "dark" else None],
        ),
        [replace(i, split=None) for i in items()],
        tmp_path,
        seed=1,
    )
    assert [(f.id, f.kind, f.reason) for f in report.failures] == [
        (f"i{k}", "dropped", "after corrupt/1: dark") for k in (0, 2, 4)
    ]
    log = (tmp_path / ".evalsuite" / "failures.jsonl").read_text().splitlines()
    assert {json.loads(line)["kind"] for line in log} == {"dropped"}


def test_refusals_are_counted_apart(tmp_path: Path) -> None:
    def shy(image: Image.Image) -> Image.Image:
        if np.asarray(image).mean() < 128:
            raise Refused("the model would not")
        return image

    model = Model(shy, name="shy", input="image", output="image")
    report = generate_folder(model, [replace(i, split=None) for i in items()], tmp_path, seed=1)
    assert [f.kind for f in report.failures] == ["refused"] * 3


def test_a_chain_replays_with_its_models_and_hops_must_meet() -> None:
    whole = chain()
    item = next(i for i in items() if i.label == "cat")
    made, record = produce(whole, item, seed=1)
    assert replay(record, item.image, whole).tobytes() == made.tobytes()
    with pytest.raises(RecipeError, match=r"step 0 \(speak\) gives audio.*step 1 .* takes text"):
        parse_recipe("{version: 1, seed: 1, steps: [chain: {operations: [speak, {typos: {}}]}]}")
    nested = Compose([Chain([Corrupt("fog"), Corrupt("snow")]), Corrupt("fog")])
    assert len(produce(nested, item, seed=1)[1].trace) == 3


def test_within_a_record_the_other_parts_stay(tmp_path: Path) -> None:
    tone = Audio(np.sin(np.arange(4000) / 10).astype(np.float32) / 2, 8000)
    item = Item("r", picture(90), "cat", None, audio=tone, text="a dark cat")
    operation = Compose([Within(Corrupt("fog")), Within(Speak())])
    made, _ = produce(operation, item, seed=1)
    assert isinstance(made, Parts)
    assert made.text == "a dark cat"
    assert made.label == "cat"
    assert made.image.tobytes() != item.image.tobytes()  # type: ignore[union-attr]
    assert made.audio is not None
    assert made.audio.rate == 22050
    with pytest.raises(ValueError, match="has no audio"):
        produce(Within(parse_recipe("{version: 1, seed: 1, steps: [gain]}").operation()),
                Item("x", picture(1)), seed=1)  # fmt: skip
    report = generate_folder(operation, [item], tmp_path, seed=1)
    row = json.loads((tmp_path / "metadata.jsonl").read_text())
    assert (row["file_name"][-4:], row["audio_file_name"][-4:]) == (".png", ".wav")
    assert row["text"] == "a dark cat"
    assert generate_folder(operation, [item], tmp_path, seed=1).n_kept == 1
    (tmp_path / row["audio_file_name"]).unlink()
    assert generate_folder(operation, [item], tmp_path, seed=1).n_written == report.n_written == 1


def test_a_label_is_found_in_a_text() -> None:
    parse = ParseLabel(["cell", "solar cell", "猫"])

    def found(text: str) -> str:
        return parse.apply(text, {})

    assert found("A Solar Cell, dark") == "solar cell"
    assert found("a cell") == "cell"
    assert found("黒い猫がいる") == "猫"
    for text, message in (("cells", "names no label"), ("a cell and 猫", "names cell, 猫")):
        with pytest.raises(Dropped, match=message):
            found(text)
    with pytest.raises(ValueError, match="different words"):
        ParseLabel(["a", "A"])


def test_a_caption_needs_facts_for_its_slots() -> None:
    caption = Caption(see, {"start": ["{label} {size}"]}, ["label", "size"])
    with pytest.raises(ValueError, match="no value for the slots size"):
        produce(caption, items()[0], seed=1)
    with pytest.raises(RecipeError, match="needs its captioner"):
        Caption()
