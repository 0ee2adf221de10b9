"""Chains whose images lie in the real set: the hop that loses the meaning is named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders import FeatureCache
from evalsuite.gate.findings import Finding, GateResult
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.generators import Item, generate_folder
from evalsuite.generators.audio.speech import Speak
from evalsuite.pipeline.run import Run, run_gate
from evalsuite.report import write_outputs
from evalsuite.report.text import number

N = 25
AGAIN = {
    "A tabby cat with whiskers.": "Whiskers of a tabby cat.",
    "A cup of espresso coffee.": "Espresso coffee in a cup.",
    "A rocket on its launch pad.": "A launch pad with a rocket.",
    "An old palace with a tiled roof.": "A tiled roof on an old palace.",
    "A close-up of a daisy flower.": "A daisy flower from nearby.",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, GateResult]:
    """Captions of real photographs, and captions made from those: right, or wrong at one hop."""
    import skimage.data as sk
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    photographs = dict(
        zip(AGAIN, (sk.chelsea(), sk.coffee(), sk.rocket(), china, flower), strict=True)
    )
    captions = list(photographs)
    home = tmp_path_factory.mktemp("chain")
    rng = np.random.default_rng(0)
    (home / "real").mkdir()
    rows = []
    for i in range(N):
        picture = Image.fromarray(photographs[captions[i % 5]])
        w, h = (int(side * rng.uniform(0.75, 0.95)) for side in picture.size)
        x, y = int(rng.integers(picture.width - w)), int(rng.integers(picture.height - h))
        picture.crop((x, y, x + w, y + h)).resize((224, 224)).save(home / "real" / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "id": f"photo{i}", "caption": captions[i % 5]})
    write(home / "real" / "metadata.jsonl", rows)
    results = {}
    for name, wrong_at in (("whole", None), ("first", 1), ("second", 2)):
        rows = []
        for i in range(N):
            off = 1 if i % 2 else 0
            first = captions[(i + (off if wrong_at == 1 else 0)) % 5]
            last = AGAIN[captions[(i + (off if wrong_at in (1, 2) else 0)) % 5]]
            rows.append({"id": f"c{i}", "text": first, "parents": [f"photo{i}"]})
            rows.append({"id": f"d{i}", "text": last, "parents": [f"c{i}"]})
        write(home / f"{name}.jsonl", rows)
        results[name] = run_gate(
            home / "real", home / f"{name}.jsonl", policy=policy(),
            cache=FeatureCache(home / "cache"), progress=False,
        ).result  # fmt: skip
    return results


@pytest.fixture(scope="module")
def spoken(found: dict[str, GateResult]) -> Run:
    """Photographs told aloud, every other one by another's caption, whatever the record claims."""
    home = Path(found["whole"].command.split()[2]).parent
    voices = home / "voices"
    generate_folder(
        Speak(words_per_minute=150, pitch=50),
        [Item(id=str(k), text=caption) for k, caption in enumerate(AGAIN)],
        voices,
        seed=0,
    )
    listed = (voices / "metadata.jsonl").read_text().splitlines()
    files = [json.loads(line)["file_name"] for line in listed]
    (home / "told").mkdir()
    rows: list[dict[str, object]] = []
    for i in range(N):
        shutil.copyfile(voices / files[(i + i % 2) % 5], home / "told" / f"{i}.wav")
        rows.append({"id": f"s{i}", "file_name": f"{i}.wav", "caption": list(AGAIN)[i % 5],
                     "parents": [f"photo{i}"]})  # fmt: skip
    write(home / "told" / "metadata.jsonl", rows)
    return run_gate(
        home / "real", home / "told", policy=policy(), cache=FeatureCache(home / "cache"),
        progress=False,
    )  # fmt: skip


def write(file: Path, rows: list[dict[str, object]]) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def policy() -> Policy:
    usual = load_policy()
    return usual.model_copy(
        update={
            "min_samples": 16,
            "encoders": {**usual.encoders, "text": ("char_ngrams",)},
            "calibration": usual.calibration.model_copy(update={"splits": 20, "permutations": 199}),
        }
    )


def hops(result: GateResult) -> dict[str, Finding]:
    return {f.slice: f for f in result.findings if f.metric == "chain_loss"}


def test_the_hop_that_loses_the_meaning_is_named(found: dict[str, GateResult]) -> None:
    whole, first, second = (hops(found[name]) for name in ("whole", "first", "second"))
    assert list(whole) == list(first) == list(second) == ["text", "text 2"]
    assert whole["text"].n_synthetic == N
    assert abs(whole["text"].gap or 1) < 0.15  # the captions are the real ones
    # Twelve of 25 captions are another photograph's: about half of the agreement is lost there,
    # and nothing more by putting the wrong caption in other words.
    assert (first["text"].gap or 0) > 0.3
    assert (first["text 2"].gap or 0) < (whole["text 2"].gap or 0) + 0.15
    assert abs(second["text"].gap or 1) < 0.15
    assert (second["text 2"].gap or 0) > (whole["text 2"].gap or 0) + 0.3
    assert first["text"].gap_ci is not None
    assert first["text"].gap_ci.low > 0
    assert first["text"].details["missing"] == 0


def test_a_recording_is_listened_to_whatever_it_claims_to_say(spoken: Run) -> None:
    (hop,) = hops(spoken.result).values()
    assert (hop.slice, hop.modality) == ("audio", "image+audio+text")
    assert (hop.gap or 0) > 0.25  # twelve of 25 say another photograph's caption
    assert hop.gap_ci is not None
    assert hop.gap_ci.low > 0
    assert hop.details["records"] == N
    assert "whisper_base" in {e.id for e in spoken.result.encoders}


@pytest.mark.browser
def test_the_report_draws_the_hop_at_which_speech_loses_it(
    spoken: Run, tmp_path: Path, chromium: Any
) -> None:
    file = write_outputs(
        spoken.result, tmp_path, thumbnails=spoken.thumbnails, clips=spoken.clips
    )[1]  # fmt: skip
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text))
    page.goto(file.as_uri())
    page.wait_for_selector("#plot-chain .main-svg")
    (hop,) = hops(spoken.result).values()
    drawn = page.evaluate("document.getElementById('plot-chain').data[0].y")
    assert drawn == pytest.approx([1, hop.value], rel=1e-3)
    told = " ".join(page.locator("[data-hop=audio]").inner_text().split())
    assert told.startswith(f"sound lost here {number(hop.gap)}")
    page.click("[data-lang=ja]")
    assert page.locator("[data-hop=audio] b").inner_text() == "音声"
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.close()
    assert complaints == []


def test_without_a_recogniser_nothing_is_heard() -> None:
    from evalsuite.data import open_dataset
    from evalsuite.pipeline.chains import Chain

    speech = open_dataset(Path(__file__).parents[1] / "data" / "speech")
    assert Chain(SimpleNamespace(info=None))._heard(speech, {}, None) == {}


def test_a_set_made_of_images_is_no_chain(tmp_path: Path) -> None:
    from evalsuite.data import open_dataset
    from evalsuite.pipeline.chains import hands_down

    for name, parents in (("real", {}), ("synthetic", {"parents": ["a"]})):
        (tmp_path / name).mkdir()
        Image.new("RGB", (40, 40), "red").save(tmp_path / name / "a.png")
        row = {"file_name": "a.png", "id": "a" if name == "real" else "b", "caption": "Red."}
        write(tmp_path / name / "metadata.jsonl", [{**row, **parents}])
    sides = {name: open_dataset(tmp_path / name) for name in ("real", "synthetic")}
    assert not hands_down(sides)
    write(tmp_path / "texts.jsonl", [{"id": "t", "text": "Red.", "parents": ["a"]}])
    assert hands_down({**sides, "synthetic": open_dataset(tmp_path / "texts.jsonl")})
