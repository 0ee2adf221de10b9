"""Records of image, caption and speech in one run: every tie, and where a record breaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders import FeatureCache
from evalsuite.gate.findings import Finding, Message, Status
from evalsuite.gate.judge import judge
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.generators import Item, generate_folder
from evalsuite.generators.audio.speech import Speak
from evalsuite.pipeline.run import Run, run_gate
from evalsuite.report import render_html, write_outputs

if TYPE_CHECKING:
    from evalsuite.gate.findings import GateResult

N = 24
WRONG = {"image": range(4), "text": range(4, 8), "audio": range(8, 12)}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of photographs that ImageNet has classes for, captions, and espeak-ng reading them."""
    import skimage.data as sk
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    photographs = {
        "A tabby cat with whiskers.": sk.chelsea(),
        "A cup of espresso coffee.": sk.coffee(),
        "A rocket on its launch pad.": sk.rocket(),
        "An old palace with a tiled roof.": china,
        "A close-up of a daisy flower.": flower,
    }
    captions = list(photographs)
    home = tmp_path_factory.mktemp("triples")
    spoken = home / "spoken"
    generate_folder(
        Speak(words_per_minute=150, pitch=50),
        [Item(id=str(i), text=caption) for i, caption in enumerate(captions)],
        spoken,
        seed=0,
    )
    voices = [json.loads(line) for line in (spoken / "metadata.jsonl").read_text().splitlines()]
    rng = np.random.default_rng(0)
    for name in ("real", "matched", "broken"):
        folder = home / name
        folder.mkdir()
        rows = []
        for i in range(N):
            own = i % 5
            say = dict.fromkeys(WRONG, own)
            if name == "broken":
                for part, those in WRONG.items():
                    say[part] = (own + 1 + i % 4) % 5 if i in those else own
            picture = Image.fromarray(photographs[captions[say["image"]]])
            w, h = (int(side * rng.uniform(0.7, 0.95)) for side in picture.size)
            x, y = int(rng.integers(picture.width - w)), int(rng.integers(picture.height - h))
            picture.crop((x, y, x + w, y + h)).resize((224, 224)).save(folder / f"{i:02d}.png")
            shutil.copyfile(spoken / voices[say["audio"]]["file_name"], folder / f"{i:02d}.wav")
            rows.append({
                "file_name": f"{i:02d}.png", "audio_file_name": f"{i:02d}.wav",
                "caption": captions[say["text"]],
            })  # fmt: skip
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / "metadata.jsonl").write_text(lines, "utf-8")
        if name == "broken":  # the same, as recordings that name the image they were made from
            chained = home / "chained"
            shutil.copytree(folder, chained)
            rows = [
                row
                for i, r in enumerate(rows)
                for row in (
                    {"file_name": r["file_name"], "id": f"image{i}"},
                    {"file_name": r["audio_file_name"], "id": f"speech{i}",
                     "caption": r["caption"], "parents": [f"image{i}"]},
                )
            ]  # fmt: skip
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (chained / "metadata.jsonl").write_text(lines, "utf-8")
    return home


@pytest.fixture(scope="module")
def runs(records: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    policy = Policy.model_validate({
        **load_policy().model_dump(),
        "encoders": {
            "image": ("efficientnet_lite0",), "audio": ("logmel_stats",), "text": ("minilm_l6",)
        },
        "scorers": {"audio": ("vad",)},
        "ties": {"language": "en"},
        "min_samples": 16,
    })  # fmt: skip
    strict = policy.model_copy(update={
        "alpha": 0.01, "calibration": policy.calibration.model_copy(update={"power": 0.5}),
    })  # fmt: skip
    cache = FeatureCache(tmp_path_factory.mktemp("cache"))
    return {
        name: run_gate(records / "real", records / data, policy=rules, cache=cache, progress=False)
        for name, data, rules in (
            ("matched", "matched", policy), ("broken", "broken", policy),
            ("chained", "chained", policy), ("strict", "broken", strict),
        )
    }  # fmt: skip


def found(result: GateResult, metric: str) -> Finding:
    (one,) = [f for f in result.findings if f.metric == metric]
    return one


def test_one_run_measures_three_modalities_and_their_ties(runs: dict[str, Run]) -> None:
    result = runs["broken"].result
    assert result.real.modalities == {"image": N, "audio": N, "text": N}
    assert {f.modality for f in result.findings if f.kind == "distribution"} == {
        "image", "audio", "text"
    }  # fmt: skip
    ties = {f.modality: f for f in result.findings if f.kind == "tie"}
    assert set(ties) == {"image+text", "audio+text", "image+audio+text"}
    assert len({e.id for e in result.encoders}) == len(result.encoders)
    assert found(runs["matched"].result, "broken_records").details["cannot_tell"] == []


def test_a_tie_says_what_it_cannot_and_plans_with_the_policy_s_power(runs: dict[str, Run]) -> None:
    strict, usual = runs["strict"].result, runs["broken"].result
    # 24 real pairs reach no p-value of 0.01 for one record: no list, and the finding says so.
    assert "called_mismatched" not in found(strict, "consistency_gap").details
    assert "0.01" in found(strict, "consistency_gap").details["no_list"]
    assert "no_list" not in found(usual, "consistency_gap").details
    for metric in ("consistency_gap", "wer_gap"):
        for result, factor in ((strict, 1.0), (usual, 1 + 0.8416 / 1.96)):
            finding = found(result, metric)
            assert finding.gap_ci is not None
            half = (finding.gap_ci.high - finding.gap_ci.low) / 2
            assert finding.min_detectable_gap == pytest.approx(factor * half, rel=1e-3), metric


def test_broken_ties_fail_and_whole_ones_do_not(runs: dict[str, Run]) -> None:
    matched, broken = runs["matched"].result, runs["broken"].result
    for metric in ("consistency_gap", "wer_gap", "transcript_similarity", "retrieval_recall"):
        assert (found(broken, metric).gap or 0) > (found(matched, metric).gap or 0) + 0.1, metric
    assert found(matched, "wer_gap").gap == pytest.approx(0.0)
    # A third of 24 records is enough to see it, and not to bound it on one side of a tolerance.
    assert (found(broken, "wer_gap").p_value or 1) <= 0.05
    assert (found(matched, "wer_gap").p_value or 0) > 0.05
    assert {found(broken, m).status for m in ("wer_gap", "consistency_gap")} <= {
        Status.FAIL, Status.INCONCLUSIVE
    }  # fmt: skip


def test_each_record_breaks_at_the_part_that_does_not_fit(runs: dict[str, Run]) -> None:
    shelves = {g.id: g for g in runs["broken"].result.galleries if g.id.startswith("broken_")}
    for part, rows in WRONG.items():
        listed = {item.sample for item in shelves[f"broken_{part}"].items}
        wrong = {f"{i:02d}" for i in rows}
        assert len(listed & wrong) >= 3, (part, listed)
        assert len(listed - wrong) <= 1, (part, listed)
    said = shelves["broken_audio"].items[0]
    assert any(op != "equal" for op, _, _ in said.alignment)
    broken = found(runs["broken"].result, "broken_records")
    assert broken.value == pytest.approx(0.5, abs=0.13)
    assert broken.gap_ci is not None
    assert broken.gap_ci.low > 0
    whole = found(runs["matched"].result, "broken_records")
    assert whole.value is not None
    assert whole.value <= whole.details["false_alarms"] + 0.1


def test_the_loss_is_said_for_each_hop(runs: dict[str, Run]) -> None:
    lost = {
        (name, f.slice): f
        for name, run in runs.items()
        for f in run.result.findings
        if f.metric == "chain_loss"
    }
    assert abs(lost["matched", "text"].gap or 1) < 0.15
    # Eight of 24 captions or images are wrong; of those captions, speech that is right recovers
    # four, and four recordings are wrong in turn.
    assert lost["broken", "text"].gap == pytest.approx(1 / 3, abs=0.15)
    assert lost["broken", "text"].details["first_broken_here"] >= 6
    assert abs(lost["broken", "audio"].gap or 1) < 0.15
    assert lost["broken", "audio"].details["first_broken_here"] >= 3


def test_records_made_from_each_other_are_followed_by_their_parents(runs: dict[str, Run]) -> None:
    chained, whole = runs["chained"].result, runs["broken"].result
    assert found(chained, "broken_records").n_synthetic == N
    assert found(chained, "broken_records").value == found(whole, "broken_records").value
    shelves = [
        {g.id: [i.sample for i in g.items] for g in result.galleries if "broken" in g.id}
        for result in (chained, whole)
    ]
    names = [{k: sorted(int(n.removeprefix("speech")) for n in v) for k, v in s.items()}
             for s in shelves]  # fmt: skip
    assert names[0] == names[1]
    assert names[0]["broken_image"]


def test_the_report_shows_all_of_it(runs: dict[str, Run], tmp_path: Path) -> None:
    run = runs["broken"]
    write_outputs(run.result, tmp_path, thumbnails=run.thumbnails, clips=run.clips)
    page = (tmp_path / "report.html").read_text("utf-8")
    for text in ("Records whose speech does not fit", "Records that break", "data:audio/ogg"):
        assert text in page
    page = render_html(run.result, thumbnails=run.thumbnails, clips=run.clips, lang="ja")
    assert "音声が合わないレコード" in page
    shown = {(item.side, item.sample) for g in run.result.galleries for item in g.items}
    broken = {("synthetic", f"{i:02d}") for i in WRONG["audio"]}
    assert broken & shown & set(run.clips) & set(run.thumbnails)


def test_a_recogniser_that_hears_what_nobody_does_is_warned_of(runs: dict[str, Run]) -> None:
    result = runs["matched"].result
    warning = Finding(
        kind="tie", modality="audio+text", metric="recogniser_artefact", value=-0.4, n_real=20,
        n_synthetic=20, status=Status.WARN, message=Message(id="recogniser_artefact", text="Noise"),
    )  # fmt: skip
    policy = load_policy()
    whole = {"real": result.real, "synthetic": result.synthetic}
    quiet = [f for f in result.findings if f.kind != "integrity"]
    before = judge(quiet, policy, **whole)
    after = judge([*quiet, warning], policy, **whole)
    assert len(after[2]) == len(before[2]) + (before[1] is not Status.PASS)
    assert any(r.finding == warning.key and r.status is Status.WARN for r in after[2])
