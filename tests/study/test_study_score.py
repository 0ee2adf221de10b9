"""The draw, and the scores of simulated raters whose truth is known."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from evalsuite.errors import DataError, UsageError
from evalsuite.gate.findings import (
    DatasetSummary,
    EmbeddingMap,
    Finding,
    GateResult,
    MapPoint,
    Message,
    Reason,
    Status,
)
from evalsuite.gate.policy import parse_policy
from evalsuite.report.i18n import catalogue
from evalsuite.report.render import result_json
from evalsuite.study.design import ASSUMED, Item, Key, SetInfo, Trial, new_study, read_key
from evalsuite.study.media import Shown, lossy, spoil
from evalsuite.study.report import render_study_report
from evalsuite.study.score import score_study
from evalsuite.study.suggest import suggest_tolerances, suggested_policy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def answer(
    folder: Path,
    rater: str,
    choose: Callable[[str, Trial], int],
    *,
    seconds: float = 3.0,
    **changes: Any,
) -> Path:
    """Write a file as the page does; ``choose`` gives the vote in the key's order of items."""
    key = read_key(folder)
    votes = []
    for k, (name, trial) in enumerate(sorted(key.trials.items())):
        choice = choose(name, trial)
        if key.kind == "ab" and choice and list(trial.items) != sorted(trial.items):
            choice = 3 - choice
        votes.append({"trial": name, "choice": choice, "seconds": seconds, "position": k,
                      "turned": k % 2 == 0})  # fmt: skip
    document = {
        "format": "evalsuite-ratings", "schema_version": "1.0", "study": key.study, "rater": rater,
        "started": "2026-11-20T10:00:00Z", "saved": "2026-11-20T11:00:00Z", "complete": True,
        "votes": votes, **changes,
    }  # fmt: skip
    file = folder / f"r-{len(list(folder.glob('r-*')))}.json"
    file.write_text(json.dumps(document))
    return file


def make_key(folder: Path, kind: str, sets: dict[str, int], **more: Any) -> Key:
    """Write a key alone: scoring reads no page."""
    items, trials = {}, {}
    for name, n in sets.items():
        for i in range(n):
            token = f"{len(items):016x}"
            items[token] = Item(set=name, sample=f"{name}/{i}", label="ab"[i % 2])
            trials[f"t{token}"] = Trial(items=(token,))
    for k in range(4):
        bad = f"bad{k}"
        items[bad] = Item(set=next(iter(sets)), sample="x", spoiled=True)
        trials[f"c{k}"] = Trial(items=(bad,), passes=(1, 2) if kind == "mos" else (1,))
    infos = tuple(SetInfo(name=s, source=f"data/{s}", samples=n) for s, n in sets.items())
    key = Key(study="feed", kind=kind, lang="en", seed=0, modalities=("image",), sets=infos,  # type: ignore[arg-type]
              n=max(sets.values()), raters=8, items=items, trials=trials, **more)  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").write_text(key.model_dump_json())
    return key


def marks(folder: Path, means: dict[str, float], *, raters: int = 8, seed: int = 0) -> list[Path]:
    key = read_key(folder)
    rng = np.random.default_rng(seed)
    item = {t: means[i.set] + 0.3 * rng.normal() for t, i in key.items.items()}

    def one(strict: float) -> Callable[[str, Trial], int]:
        def choose(_: str, trial: Trial) -> int:
            if trial.passes is not None:
                return 1
            return int(np.clip(round(item[trial.items[0]] + strict + 0.4 * rng.normal()), 1, 5))

        return choose

    return [answer(folder, f"rater {r}", one(0.3 * rng.normal())) for r in range(raters)]


def test_the_draw_is_stratified_blinded_and_repeats(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(pictures, tmp_path / "a", kind="mos", n=10, seed=5)
    counts: dict[tuple[str, str | None], int] = {}
    for trial in key.ordinary().values():
        item = key.items[trial.items[0]]
        counts[item.set, item.label] = counts.get((item.set, item.label), 0) + 1
    assert counts == {(s, label): 5 for s in ("camera", "diffusion") for label in ("cat", "cup")}
    assert len(key.trials) - len(key.ordinary()) == 3
    again = new_study(pictures, tmp_path / "b", kind="mos", n=10, seed=5)
    assert again == key
    pages = [(tmp_path / d / "study.html").read_bytes() for d in "ab"]
    assert pages[0] == pages[1]
    other = new_study(pictures, tmp_path / "c", kind="mos", n=10, seed=6)
    assert other.study != key.study
    drawn = [{i.sample for i in k.items.values()} for k in (key, other)]
    assert drawn[0] != drawn[1]
    with pytest.raises(UsageError, match="holds another study already"):
        new_study(pictures, tmp_path / "a", kind="mos", n=10, seed=6)


def test_all_of_a_set_can_be_drawn_but_what_is_broken_is_counted(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"'diffusion' has only 13 readable samples of label 'cup'"):
        new_study(pictures, tmp_path / "a", kind="mos", n=28)
    with pytest.raises(DataError, match="only 28"):
        new_study(pictures, tmp_path / "a", kind="mos", n=29)
    key = new_study(pictures, tmp_path / "b", kind="mos", n=26)
    assert key.left_out in ({}, {"truncated": 1}, {"unreadable": 1}, {"not_an_image": 1})


def test_precision_asks_for_as_many_items_as_it_takes(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(pictures, tmp_path / "a", kind="mos", precision=0.5, raters=12)
    parts = ASSUMED["mos"]
    half = 1.96 * (parts.rater / 12 + (parts.item + parts.residual / 12) / key.n) ** 0.5
    assert half <= 0.5 < half * ((key.n + 1) / max(key.n - 1, 1)) ** 0.5
    with pytest.raises(UsageError, match="ask at least"):
        new_study(pictures, tmp_path / "b", kind="mos", precision=0.1, raters=4)


def test_media_that_do_not_fit_are_made_smaller_or_refused(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    whole = new_study(pictures, tmp_path / "a", kind="ab", n=4)
    small = new_study(pictures, tmp_path / "b", kind="ab", n=4, max_bytes=whole.bytes // 2)
    assert (whole.encoding, small.encoding) == ("lossless", "lossy")
    assert "image/png" not in (tmp_path / "b" / "study.html").read_text()
    with pytest.raises(DataError, match="ask for a smaller --n"):
        new_study(pictures, tmp_path / "c", kind="ab", n=4, max_bytes=9000)


def test_a_spoiled_item_is_spoiled_and_a_small_one_is_not(recordings: tuple[Path, Path]) -> None:
    import io

    import soundfile
    from PIL import Image
    from skimage import data

    stream = io.BytesIO()
    Image.fromarray(data.chelsea()).save(stream, "PNG")
    flac = io.BytesIO()
    sound, rate = soundfile.read(recordings[0] / "u1.wav")
    soundfile.write(flac, sound, rate, format="FLAC")
    whole = Shown(stream.getvalue(), flac.getvalue(), "the quick brown fox jumps over it")
    bad, small = spoil(whole, 1), lossy(whole)

    def pixels(shown: Shown) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(shown.image or b"")), dtype=float)

    def wave(shown: Shown) -> np.ndarray:
        return soundfile.read(io.BytesIO(shown.audio or b""))[0]

    assert np.abs(pixels(bad) - pixels(whole)).mean() > 30
    assert np.abs(pixels(small) - pixels(whole)).mean() < 3
    assert abs(np.corrcoef(wave(bad), wave(whole))[0, 1]) < 0.4
    n = min(len(wave(small)), len(wave(whole)))
    assert np.corrcoef(wave(small)[:n], wave(whole)[:n])[0, 1] > 0.9
    assert sorted(bad.text or "") == sorted(whole.text or "")
    assert bad.text != whole.text


def test_catch_trials_that_tell_the_answer_ask_for_either(
    pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(pictures, tmp_path / "a", kind="label", n=3, catch=4)
    asked = [t.passes for t in key.trials.values() if t.passes is not None]
    assert sorted(asked) == [(0,), (0,), (1,), (1,)]
    page = (tmp_path / "a" / "study.html").read_text()
    assert page.count("please choose “Wrong” here") == 2


def test_marks_are_scored_with_what_is_true(tmp_path: Path) -> None:
    make_key(tmp_path, "mos", {"real": 40, "good": 40, "poor": 40}, precision=0.2)
    means = {"real": 4.0, "good": 3.9, "poor": 2.5}
    files = marks(tmp_path, means)
    found = score_study(tmp_path, files)
    values = {s.set: s.estimate for s in found.scores}
    for name, mean in means.items():
        interval = values[name].interval
        assert interval is not None
        assert interval.low - 0.1 < mean < interval.high + 0.1
    poor = next(c.estimate for c in found.contrasts if c.first == "poor")
    assert poor.interval is not None
    assert poor.interval.low < -1.5 < poor.interval.high
    # Against the same raters the difference is surer than the marks themselves.
    width = poor.interval.high - poor.interval.low
    own = values["poor"].interval
    assert own is not None
    assert width < own.high - own.low
    assert found.agreement.value is not None
    assert 0.3 < found.agreement.value < 0.95
    assert len(found.by_label) == 6
    assert found.items_needed is None or found.items_needed > 2
    assert found.kept == 8


def test_bad_raters_are_left_out_and_bad_files_named(tmp_path: Path) -> None:
    key = make_key(tmp_path, "mos", {"real": 20, "fake": 20})
    files = marks(tmp_path, {"real": 4.0, "fake": 2.5}, raters=5)
    files.append(answer(tmp_path, "sleeper", lambda _, t: 4))

    def either(_: str, trial: Trial) -> int:
        return 1 if trial.passes else 3 + ord(trial.items[0][-1]) % 2

    files.append(answer(tmp_path, "hasty", either, seconds=0.1))
    files.append(answer(tmp_path, "rater 0", lambda _, t: 1, started="2026-11-21T10:00:00Z"))
    files.append(answer(tmp_path, "other", lambda _, t: 1, study="beef"))
    files.append(answer(tmp_path, "wild", lambda _, t: 9))
    files.append(answer(tmp_path, "more", lambda _, t: 3, surprise=1))
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "nan.json").write_text(files[0].read_text().replace("3.0", "NaN"))
    files += [tmp_path / "broken.json", tmp_path / "nan.json", tmp_path / "missing.json"]
    found = score_study(tmp_path, files)
    reasons = {r.rater: r.reasons for r in found.raters}
    assert reasons["sleeper"] == ("catch", "constant")
    assert "speed" in reasons["hasty"]
    assert found.kept == 5
    told = [r.why for r in found.refused]
    for word in ("two people", "another study", "impossible vote", "surprise", "not JSON",
                 "finite", "cannot be read"):  # fmt: skip
        assert sum(word in why for why in told) == 1, (word, told)
    everyone = score_study(tmp_path, files, keep_all=True)
    assert everyone.kept == 7
    assert everyone.scores[1].estimate.value != found.scores[1].estimate.value
    assert len(key.trials) == 44


def test_a_later_save_replaces_an_earlier_part(tmp_path: Path) -> None:
    make_key(tmp_path, "mos", {"a": 6})
    files = marks(tmp_path, {"a": 3.0}, raters=3)
    part = json.loads(files[0].read_text())
    part["votes"] = part["votes"][4:7]
    (tmp_path / "part.json").write_text(json.dumps(part))
    for order in ([tmp_path / "part.json", *files], [*files, tmp_path / "part.json"]):
        found = score_study(tmp_path, order)
        assert [r.votes for r in found.raters] == [6, 6, 6]
        assert [r.file for r in found.refused] == [str(tmp_path / "part.json")]


def test_preferences_with_ties_find_the_order(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    sets = ("a", "b", "c")
    items, trials = {}, {}
    for i, one in enumerate(sets):
        for two in sets[i + 1 :]:
            for k in range(25):
                pair = []
                for s in (one, two):
                    token = f"{rng.integers(2**62):016x}"
                    items[token] = Item(set=s, sample=f"{s}{k}")
                    pair.append(token)
                trials[f"{one}{two}{k}"] = Trial(items=tuple(pair))
    key = Key(study="feed", kind="ab", lang="en", seed=0, modalities=("image",), n=25, raters=10,
              sets=tuple(SetInfo(name=s, source=s, samples=25) for s in sets),
              items=items, trials=trials)  # fmt: skip
    (tmp_path / "key.json").write_text(key.model_dump_json())
    strength = {"a": 1.0, "b": 0.0, "c": -0.5}

    def choose(_: str, trial: Trial) -> int:
        one, two = (strength[key.items[t].set] for t in trial.items)
        if rng.random() < 0.15:
            return 0
        return 1 if rng.random() < 1 / (1 + np.exp(two - one)) else 2

    files = [answer(tmp_path, f"r{r}", choose) for r in range(10)]
    found = score_study(tmp_path, files)
    rates = {s.set: s for s in found.strengths}
    assert [s.set for s in sorted(found.strengths, key=lambda s: -s.win_rate)] == ["a", "b", "c"]
    # Davidson with 15 % ties anywhere is near the model; by hand the win rate of a is
    # 0.85 · mean(σ(1), σ(1.5)) + 0.075.
    true = 0.85 * np.mean([1 / (1 + np.exp(-1)), 1 / (1 + np.exp(-1.5))]) + 0.075
    assert rates["a"].interval.low - 0.02 < true < rates["a"].interval.high + 0.02
    by_pair = {(c.first, c.second): c for c in found.contrasts}
    assert by_pair["a", "c"].estimate.value > 0.6  # type: ignore[operator]
    assert sum(c.ties for c in found.contrasts) > 60
    assert found.first_shown is not None
    assert found.first_shown.interval is not None
    assert found.first_shown.interval.low < 0.5 < found.first_shown.interval.high


def test_wrong_labels_are_listed_and_those_who_cannot_say_counted(tmp_path: Path) -> None:
    key = make_key(tmp_path, "label", {"vendor": 30})
    wrong = {f"t{k:016x}" for k in (3, 7, 20)}

    def choose(name: str, trial: Trial) -> int:
        if trial.passes:
            return 1
        return 0 if name in wrong else 2 if name.endswith("5") else 1

    files = [answer(tmp_path, f"r{k}", choose) for k in range(4)]
    found = score_study(tmp_path, files)
    assert found.scores[0].estimate.value == pytest.approx(3 / 28)
    assert {s.sample for s in found.suspects} == {"vendor/3", "vendor/7", "vendor/20"}
    assert found.abstained == 8
    assert found.kept == 4  # most say "right" all the time, and are right
    assert len(key.ordinary()) == 30


def gated(name: str, gap: float, scores: dict[str, float] | None = None) -> GateResult:
    data = DatasetSummary(role="synthetic", name=name, format="folder", fingerprint="00",
                          n_found=50, n_used=50)  # fmt: skip
    points = tuple(MapPoint(side="synthetic", sample=s, x=0, y=0, score=v)
                   for s, v in (scores or {}).items())  # fmt: skip
    embedding = EmbeddingMap(encoder="lite0", method="pca", explained=(0.5, 0.2), points=points,
                             shown_of=(0, len(points)))  # fmt: skip
    return GateResult(
        evalsuite_version="0.1.0", verdict=Status.PASS, exit_code=0,
        reasons=(Reason(status=Status.PASS, message=Message(id="all_passed", text="ok")),),
        findings=(
            Finding(kind="distribution", modality="image", metric="kid", encoder="lite0",
                    value=gap, gap=gap, n_real=50, n_synthetic=50),
            Finding(kind="distribution", modality="image", metric="coverage", encoder="lite0",
                    value=gap, gap=0.1 + 0.05 * (len(name) + ord(name[-1]) & 1), n_real=50,
                    n_synthetic=50),
        ),
        real=data.model_copy(update={"role": "real", "name": "real"}), synthetic=data, encoders=(),
        maps=(embedding,) if points else (), policy={}, policy_sha256="cd", seed=0, alpha=0.05,
        command="", versions={},
    )  # fmt: skip


def test_metrics_are_compared_with_people(tmp_path: Path) -> None:
    key = make_key(tmp_path, "mos", {"real": 30, "fake": 30})
    files = marks(tmp_path, {"real": 4.0, "fake": 3.0})
    rng = np.random.default_rng(0)
    opinion = score_study(tmp_path, files)
    assert opinion.metrics == ()
    item = {t: 3 + 0.3 * v for t, v in zip(key.items, rng.normal(size=64), strict=True)}
    sheet = ["sample,set,good,noise"]
    # The same draw of items as in `marks`.
    truth = np.random.default_rng(0).normal(size=64)
    for k, (_, i) in enumerate(key.items.items()):
        if not i.spoiled:
            mean = 4.0 if i.set == "real" else 3.0
            sheet.append(f"{i.sample},{i.set},{mean + 0.3 * truth[k]},{rng.normal()}")
    (tmp_path / "scores.csv").write_text("\n".join(sheet))
    scores = {i.sample: -item[t] for t, i in key.items.items() if i.set == "fake"}
    found = score_study(tmp_path, files, scores=tmp_path / "scores.csv",
                        results=[gated("data/fake", 0.2, scores)])  # fmt: skip
    by_name = {(m.metric, m.kind): m for m in found.metrics}
    good = by_name["good", "spearman"].estimate
    assert good.value is not None
    assert good.value > 0.8
    noise = by_name["noise", "kendall"].estimate.interval
    assert noise is not None
    assert noise.low < 0 < noise.high
    assert by_name["c2st score · lite0", "spearman"].estimate.items == 30
    few = by_name["image/lite0/kid/all", "kendall"].estimate
    assert few.value is None
    assert "at least 5" in (few.why or "")
    with pytest.raises(UsageError, match="no set of the study"):
        score_study(tmp_path, files, results=[gated("elsewhere", 0.1)])


def ladder(tmp_path: Path, n: int = 8) -> tuple[list[Path], list[GateResult]]:
    names = [f"s{k}" for k in range(n)]
    make_key(tmp_path, "mos", {"real": 25, **dict.fromkeys(names, 25)})
    means = {"real": 4.2, **{s: 4.2 - 0.3 * k for k, s in enumerate(names)}}
    files = marks(tmp_path, means, raters=10)
    return files, [gated(f"data/{s}", 0.02 + 0.03 * k) for k, s in enumerate(names)]


def test_a_tolerance_is_the_largest_gap_that_people_accept(tmp_path: Path) -> None:
    files, results = ladder(tmp_path)
    study = score_study(tmp_path, files)
    found = {s.metric: s for s in suggest_tolerances(study, results, margin=0.75)}
    kid = found["kid"]
    losses = {c.first: c.estimate for c in study.contrasts}
    accepted = [k for k in range(8) if -losses[f"s{k}"].interval.low <= 0.75]  # type: ignore[union-attr]
    assert len(accepted) == kid.accepted >= 2
    assert kid.tolerance == pytest.approx(0.02 + 0.03 * max(accepted))
    assert kid.unacceptable_from is not None
    assert kid.unacceptable_from > kid.tolerance
    assert found["coverage"].tolerance is None  # it takes two values, whatever people say
    assert found["coverage"].why
    text = suggested_policy(tuple(found.values()), study, margin=0.75)
    policy = parse_policy(text)
    assert [(r.metric, r.encoder) for r in policy.rules] == [("kid", "lite0")]
    assert f"{kid.accepted} sets accepted" in text


def test_a_tolerance_is_refused_where_too_little_was_rated(tmp_path: Path) -> None:
    files, results = ladder(tmp_path / "few", n=4)
    with pytest.raises(DataError, match="needs at least 6"):
        suggest_tolerances(score_study(tmp_path / "few", files), results)
    files, results = ladder(tmp_path / "all", n=8)
    study = score_study(tmp_path / "all", files)
    with pytest.raises(DataError, match="at least 2 of each"):
        suggest_tolerances(study, results, margin=3.9)
    turned = [gated(f"data/s{k}", 0.3 - 0.03 * k) for k in range(8)]
    (kid,) = [s for s in suggest_tolerances(study, turned, margin=0.75) if s.metric == "kid"]
    assert kid.tolerance is None
    assert "was accepted, one with" in (kid.why or "")
    with pytest.raises(DataError, match="bear out no tolerance"):
        suggested_policy((kid,), study)


def test_a_metric_that_orders_one_set_wrongly_gets_no_tolerance(tmp_path: Path) -> None:
    files, _ = ladder(tmp_path, n=8)
    study = score_study(tmp_path, files)
    gaps = {f"s{k}": 0.02 + 0.03 * k for k in range(8)}
    straight = [gated(f"data/{s}", gap) for s, gap in gaps.items()]
    (kid,) = [s for s in suggest_tolerances(study, straight, margin=0.75) if s.metric == "kid"]
    last = next(s for s, gap in gaps.items() if gap == kid.tolerance)
    first = next(s for s, gap in gaps.items() if gap == kid.unacceptable_from)
    gaps[last], gaps[first] = gaps[first], gaps[last]
    crossed = [gated(f"data/{s}", gap) for s, gap in gaps.items()]
    (kid,) = [s for s in suggest_tolerances(study, crossed, margin=0.75) if s.metric == "kid"]
    assert kid.tolerance is None
    assert "was accepted, one with" in (kid.why or "")


@pytest.mark.parametrize("lang", ["en", "ja"])
@pytest.mark.parametrize("kind", ["mos", "real-or-synthetic", "label"])
def test_the_page_of_scores_escapes_and_speaks(kind: str, lang: str, tmp_path: Path) -> None:
    make_key(tmp_path, kind, {"real": 12, HOSTILE: 12})
    rng = np.random.default_rng(1)
    highest = {"mos": (1, 5), "real-or-synthetic": (1, 2), "label": (0, 2)}[kind]
    files = [
        answer(tmp_path, f"{HOSTILE} {r}",
               lambda _, t: 1 if t.passes else int(rng.integers(highest[0], highest[1] + 1)))
        for r in range(3)
    ]  # fmt: skip
    page = render_study_report(score_study(tmp_path, files, keep_all=True), lang=lang)
    assert "<img src=x" not in page
    assert "<script>alert" not in page
    assert catalogue(lang)[f"study.scores.{kind}"] in page
    assert not re.search(r">study\.[a-z.]+<", page)


def test_the_commands_from_sets_to_policy(pictures: tuple[Path, Path], tmp_path: Path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "evalsuite.cli", *map(str, arguments)],
                              capture_output=True, text=True, check=False)  # fmt: skip

    made = run("study", "new", *pictures, "--out", tmp_path / "s", "--n", 6, "--lang", "ja")
    assert made.returncode == 0, made.stderr
    assert "15 questions (3 of them catch trials)" in made.stdout
    files = marks(tmp_path / "s", {"camera": 4.0, "diffusion": 3.0}, raters=4)
    scored = run("study", "score", tmp_path / "s", *files, "--out", tmp_path / "o")
    assert scored.returncode == 0, scored.stderr
    written = json.loads((tmp_path / "o" / "study.json").read_text())
    assert {s["set"] for s in written["scores"]} == {"camera", "diffusion"}
    assert (tmp_path / "o" / "study_report.html").stat().st_size > 10_000
    files, results = ladder(tmp_path / "l")
    arguments: list[object] = []
    for k, result in enumerate(results):
        file = tmp_path / f"{k}.json"
        file.write_text(result_json(result))
        arguments += ["--result", file]
    done = run("policy", "suggest", tmp_path / "l", *files, *arguments, "--margin", 0.75,
               "--out", tmp_path / "p.yaml")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load((tmp_path / "p.yaml").read_text())["rules"][0]["metric"] == "kid"
    assert run("study", "score", tmp_path / "nowhere", *files).returncode == 3
    assert run("study", "new", pictures[0], "--kind", "ab", "--out", tmp_path / "x").returncode == 2
