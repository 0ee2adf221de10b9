"""The gate on texts, pairs of image and text, and speech with transcripts: all of it real."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders import FeatureCache
from evalsuite.errors import DataError, UsageError
from evalsuite.gate.findings import GateResult, Status
from evalsuite.gate.policy import Policy, load_policy
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.pipeline.run import run_gate
from evalsuite.pipeline.texts import MAUVE_TEXTS
from evalsuite.report import redact_result, render_html

if TYPE_CHECKING:
    from evalsuite.gate.findings import Finding

SPEECH = Path(__file__).parents[1] / "data" / "speech"
SUBJECTS = ("The cat", "A nurse", "The engineer", "My brother", "The old car", "A student")
VERBS = ("waits for", "repairs", "looks at", "paints", "forgets", "carries")
THINGS = ("the green door", "a broken lamp", "two heavy boxes", "the evening train", "a map")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def sentences(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    when = ("today", "again", "in the rain", "at night")
    return [
        f"{rng.choice(SUBJECTS)} {rng.choice(VERBS)} {rng.choice(THINGS)} {rng.choice(when)} "
        f"in room {rng.integers(100_000)}."
        for _ in range(n)
    ]


def found(result: GateResult, metric: str) -> Finding:
    (one,) = [f for f in result.findings if f.metric == metric and f.slice == "all"]
    return one


def test_texts(tmp_path: Path, cache: FeatureCache) -> None:
    real = lines(tmp_path / "real.jsonl", [{"text": t} for t in sentences(100, 0)])
    same = lines(tmp_path / "same.jsonl", [{"text": t} for t in sentences(100, 1)])
    other = lines(
        tmp_path / "other.jsonl",
        [{"text": f"OK!!! {t.upper()} Buy now, only {i} left!!!"}
         for i, t in enumerate(sentences(100, 2))],
    )  # fmt: skip
    alike = run_gate(real, same, cache=cache, progress=False).result
    assert alike.verdict in (Status.PASS, Status.INCONCLUSIVE)
    assert alike.real.modalities == {"text": 100}
    assert not any(f.detected for f in alike.findings if f.kind == "distribution")
    differs = run_gate(real, other, cache=cache, progress=False).result
    assert differs.verdict is Status.FAIL
    assert found(differs, "kid").modality == "text"
    named = " ".join(m.text for m in differs.explanations)
    assert "upper_case is higher" in named
    again = run_gate(real, other, cache=cache, progress=False).result
    assert again.model_dump(exclude={"times"}) == differs.model_dump(exclude={"times"})


def test_another_encoder_gets_measurements_of_its_own(tmp_path: Path, cache: FeatureCache) -> None:
    sets = [
        lines(tmp_path / f"{k}.jsonl", [{"text": t} for t in sentences(MAUVE_TEXTS, k)])
        for k in range(2)
    ]
    values = {}
    for name in ("char_ngrams", "minilm_l6"):
        policy = speech_policy(encoders={"text": (name,)})
        kept, anew = (
            run_gate(*sets, policy=policy, cache=store, progress=False).result
            for store in (cache, False)
        )
        assert kept.model_dump(exclude={"times"}) == anew.model_dump(exclude={"times"})
        values[name] = found(kept, "mauve").value
    assert values["char_ngrams"] != values["minilm_l6"]


def test_label_words_and_copies(tmp_path: Path, cache: FeatureCache) -> None:
    rows = [{"text": t, "label": "ab"[i % 2]} for i, t in enumerate(sentences(80, 3))]
    real = lines(tmp_path / "real.jsonl", rows)
    told = [
        {"text": f"{'Sadly' if i % 2 else 'Luckily'}, {t}", "label": "ab"[i % 2]}
        for i, t in enumerate(sentences(70, 4))
    ]
    result = run_gate(
        real, lines(tmp_path / "syn.jsonl", told + rows[:10]), cache=cache, progress=False
    ).result
    leak = found(result, "label_leakage")
    assert leak.message is not None
    assert "sadly" in leak.message.text.lower()
    assert leak.value is not None
    assert leak.value > 0.7
    assert (found(result, "near_copy_share").value or 0) >= 10 / 80
    # Beside the verdict, not in a table only: no distance sees either.
    assert leak.message in result.explanations


def test_japanese_gets_an_encoder_that_knows_it(tmp_path: Path, cache: FeatureCache) -> None:
    rng = np.random.default_rng(0)

    def some(n: int) -> list[dict[str, object]]:
        return [
            {"text": f"{rng.choice(['猫', '先生', '古い車'])}が{rng.choice(['庭', '駅', '台所'])}で"
                     f"{rng.choice(['眠っている', '待っている', '笑っている'])}。"}
            for _ in range(n)
        ]  # fmt: skip

    real = lines(tmp_path / "a.jsonl", some(60))
    result = run_gate(
        real, lines(tmp_path / "b.jsonl", some(60)), cache=cache, progress=False
    ).result
    assert [e.id for e in result.encoders] == ["char_ngrams"]
    assert result.verdict is not Status.FAIL
    spoken = found(result, "language_shares")
    assert spoken.value == 0
    assert spoken.message is None
    mixed = [*some(40), *({"text": t} for t in sentences(20, 0))]
    other = run_gate(real, lines(tmp_path / "c.jsonl", mixed), cache=cache, progress=False).result
    spoken = found(other, "language_shares")
    assert spoken.gap == pytest.approx(1 / 3)
    assert spoken.details == {"real_ja": 1.0, "synthetic_en": 1 / 3, "synthetic_ja": 2 / 3}
    assert spoken.message is not None
    assert "66.7% of the synthetic texts are in 'ja'" in spoken.message.text or (
        "33.3% of the synthetic texts are in 'en'" in spoken.message.text
    )


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of photographs that ImageNet has classes for, with captions that fit, or do not."""
    import skimage.data as sk
    from sklearn.datasets import load_sample_images

    china, flower = load_sample_images().images
    photographs = {
        "a tabby cat with whiskers": sk.chelsea(),
        "a cup of espresso coffee": sk.coffee(),
        "a rocket on its launch pad": sk.rocket(),
        "an old palace with a tiled roof": china,
        "close-up of a daisy flower": flower,
    }
    home = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    for name, wrong in (("real", 0), ("matched", 0), ("swapped", 25)):
        folder = home / name
        folder.mkdir()
        rows = []
        captions = list(photographs)
        for i in range(50):
            caption = captions[i % 5]
            picture = Image.fromarray(photographs[caption])
            w, h = (int(side * rng.uniform(0.6, 0.95)) for side in picture.size)
            x, y = int(rng.integers(picture.width - w)), int(rng.integers(picture.height - h))
            picture.crop((x, y, x + w, y + h)).resize((224, 224)).save(folder / f"{i:03d}.png")
            if i < wrong:
                caption = captions[(i + 1 + i % 4) % 5]
            rows.append({"file_name": f"{i:03d}.png", "caption": caption})
        lines(folder / "metadata.jsonl", rows)
    return home


def test_swapped_captions_are_found(pairs: Path, cache: FeatureCache) -> None:
    results = {
        name: run_gate(pairs / "real", pairs / name, cache=cache, progress=False)
        for name in ("matched", "swapped")
    }
    assert results["swapped"].result.real.modalities == {"image": 50, "text": 50}
    good = found(results["matched"].result, "consistency_gap")
    bad = found(results["swapped"].result, "consistency_gap")
    assert good.encoder == "conse"
    assert good.status is not Status.FAIL
    assert bad.status is Status.FAIL
    assert bad.gap is not None
    assert bad.gap_ci is not None
    assert 0.3 < bad.gap < 0.7  # half of them are wrong
    (shelf,) = [g for g in results["swapped"].result.galleries if g.id == "mismatched"]
    wrong = {f"{i:03d}" for i in range(25)}
    listed = [Path(item.sample).stem in wrong for item in shelf.items[:20]]
    assert np.mean(listed) > 0.85
    assert all(item.text for item in shelf.items)


def test_report_says_it_in_both_languages_and_redacts_text(
    pairs: Path, cache: FeatureCache
) -> None:
    run = run_gate(pairs / "real", pairs / "swapped", cache=cache, progress=False)
    page = render_html(run.result, thumbnails=run.thumbnails, clips=run.clips, lang="ja")
    assert "最も合わない組" in page
    assert "a tabby cat" in page
    hidden = render_html(run.result, thumbnails=run.thumbnails, clips=run.clips, redact=True)
    assert "a tabby cat" not in hidden
    assert all(
        item.text is None and item.partner_text is None
        for g in redact_result(run.result).galleries
        for item in g.items
    )


def test_what_only_one_side_holds_is_said(pairs: Path, tmp_path: Path, cache: FeatureCache) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(pairs / "matched", bare)
    (bare / "metadata.jsonl").unlink()
    result = run_gate(pairs / "real", bare, cache=cache, progress=False).result
    assert any(r.message.id == "unmeasured_only_real" for r in result.reasons)
    assert result.verdict is not Status.PASS
    with pytest.raises(DataError, match="nothing in common"):
        run_gate(
            bare, lines(tmp_path / "t.jsonl", [{"text": t} for t in sentences(40, 0)]),
            cache=cache, progress=False,
        )  # fmt: skip


def test_captions_that_the_model_cannot_read_warn(tmp_path: Path, cache: FeatureCache) -> None:
    photographs = cells()[:80]
    for name, part in (("real", photographs[:40]), ("syn", photographs[40:])):
        write_folder(part, tmp_path / name)
        file = tmp_path / name / "metadata.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        words = sentences(len(rows), len(name))
        lines(file, [{**row, "caption": t} for row, t in zip(rows, words, strict=True)])
    result = run_gate(tmp_path / "real", tmp_path / "syn", cache=cache, progress=False).result
    tie = found(result, "consistency_gap")
    assert tie.gap is None
    assert tie.status is Status.WARN
    assert tie.message is not None
    assert tie.message.id == "tie_cannot_tell"
    assert tie.details["auc"] == pytest.approx(0.5, abs=0.2)


def speech_policy(**changes: object) -> Policy:
    default = load_policy().model_dump()
    quick = {"encoders": {"audio": ("logmel_stats",), "text": ("minilm_l6",)}, "min_samples": 12}
    return Policy.model_validate({**default, **quick, **changes})


def recordings(folder: Path, gain: float, noise: float = 0.0) -> Path:
    """The prompts, the four shortest at two levels, with white noise of this RMS."""
    import soundfile

    folder.mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for line in (SPEECH / "metadata.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        samples, rate = soundfile.read(SPEECH / row["file_name"])
        for k in range(1 + (len(samples) < 15_000)):
            name = f"{k}-{row['file_name']}"
            loud = gain * (1 - 0.2 * k) * samples + noise * rng.standard_normal(samples.shape)
            soundfile.write(folder / name, np.clip(loud, -1, 1), rate, subtype="PCM_16")
            rows.append({**row, "file_name": name})
    lines(folder / "metadata.jsonl", rows)
    return folder


def test_speech(tmp_path: Path, cache: FeatureCache) -> None:
    """Word errors, quality and attributes see the noise; the report plays the recordings."""
    real = recordings(tmp_path / "real", 1.0)
    noisy = recordings(tmp_path / "noisy", 0.9, noise=0.05)
    (noisy / "0-vm-goodbye.wav").write_bytes(b"RIFF\x24\x00\x00\x00WAVEfmt ")
    run = run_gate(real, noisy, policy=speech_policy(), cache=cache, progress=False)
    result = run.result
    assert result.verdict is Status.FAIL
    n = result.real.n_used
    assert n >= 14
    assert result.real.modalities == {"audio": n, "text": n}
    assert result.synthetic.modalities["audio"] == n - 1
    assert result.synthetic.n_used == n - 1
    assert sum(result.synthetic.problems.values()) == 1
    wer = found(result, "wer_gap")
    assert wer.gap is not None
    assert wer.gap > 0.05
    assert wer.details["normaliser"]
    assert wer.details["real"] < 0.3
    moved = {f.metric: f.gap or 0.0 for f in result.findings if f.kind == "attribute"}
    assert moved["snr"] < -1
    assert moved["dnsmos_bak"] < -1
    assert moved["noise_floor"] > 1
    assert max(map(abs, moved.values())) < 100  # no trifle looks huge
    assert found(result, "naturalness").gap is not None
    (shelf,) = [g for g in result.galleries if g.id == "misheard"]
    assert any(op != "equal" for item in shelf.items for op, _, _ in item.alignment)
    assert run.clips
    assert all(clip.startswith(b"OggS") for clip in run.clips.values())
    page = render_html(result, thumbnails=run.thumbnails, clips=run.clips)
    assert "data:audio/ogg;base64," in page


def test_policy_without_an_encoder(tmp_path: Path, cache: FeatureCache) -> None:
    policy = speech_policy(encoders={"image": ("efficientnet_lite0",)})
    with pytest.raises(UsageError, match="no encoder for"):
        run_gate(SPEECH, SPEECH, policy=policy, cache=cache, progress=False)
