"""Hops by the embedded models: what they see and hear in real media."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from PIL import Image

from evalsuite.cli_generate import asks_an_endpoint
from evalsuite.errors import UsageError
from evalsuite.generators import Audio, Dropped, Modality, generate_folder, parse_recipe
from evalsuite.hops import Describe, Transcribe, word_error_check

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
    check = word_error_check(0.3)
    hops = [
        SimpleNamespace(output=Modality.TEXT, value="all circuits are busy now"),
        SimpleNamespace(output=Modality.AUDIO, value=None),
        SimpleNamespace(output=Modality.TEXT, value="All circuits are busy now."),
    ]
    assert check(hops[:1]) is None
    assert check(hops[:2]) is None
    assert check(hops) is None
    hops[2].value = "tall cricket are fizzy"
    assert "word error rate" in (check(hops) or "")
    with pytest.raises(UsageError, match="at least 0"):
        word_error_check(-1)


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


def test_only_recipes_that_ask_a_server_open_a_session() -> None:
    assert not asks_an_endpoint([{"corrupt": {"kind": "fog", "severity": 1}}])
    assert asks_an_endpoint([{"chain": {"operations": ["caption"]}}])
    assert asks_an_endpoint(["paraphrase"])
