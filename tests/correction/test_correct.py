from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from evalsuite.cli import app
from evalsuite.correct import Comparison, LabelsKept, correct, halved, halves
from evalsuite.correct.judge import labels_kept, ties, verdict
from evalsuite.data import Sample, open_dataset
from evalsuite.encoders import Encoded, FeatureCache, encode
from evalsuite.encoders.random_conv import load_random_conv
from evalsuite.errors import DataError, UsageError
from evalsuite.gate.findings import Finding, GateResult
from evalsuite.gate.policy import load_policy, parse_policy
from evalsuite.generators import Identity as Same
from evalsuite.generators import Item, Noise, Record, generate_folder, produce, replay
from evalsuite.generators.correction.features import Coral
from evalsuite.generators.selection.subset import label_agreement
from evalsuite.metrics.distribution.kernel import kernel_distance

POLICY = """
version: 1
name: quick
rules:
  - {metric: kid, tolerance: 0.05}
  - {metric: coverage, tolerance: 0.10}
calibration: {splits: 40, permutations: 99, costly_permutations: 99}
"""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("policy") / "quick.yaml"
    path.write_text(POLICY)
    return path


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> FeatureCache:
    return FeatureCache(tmp_path_factory.mktemp("cache"))


def small(item: Item) -> Item:
    image = item.image.resize((128, 128))
    return Item(id=item.id, image=image, label=item.label)


def written(items: list[Item], folder: Path) -> Path:
    generate_folder(Same(), items, folder, seed=0)
    return folder


def darker(item: Item) -> Item:
    image = item.image.point(lambda v: round(0.3 * v))
    return Item(id=item.id, image=image, label=item.label)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sets")


@pytest.fixture(scope="module")
def real(cell_items: list[Item], home: Path) -> Path:
    return written([small(i) for i in cell_items[:120]], home / "real")


@pytest.fixture(scope="module")
def dark(cell_items: list[Item], home: Path) -> Path:
    return written([darker(small(i)) for i in cell_items[120:]], home / "dark")


@pytest.fixture(scope="module")
def corrected(real: Path, dark: Path, policy: Path, cache: FeatureCache, home: Path):
    out = home / "corrected"
    return correct(real, dark, out=out, policy=policy, cache=cache, progress=False), out


def test_what_drifted_is_found_corrected_and_confirmed_by_the_second_look(corrected) -> None:
    result, _ = corrected
    assert result.improved, result.reasons
    assert result.exit_code == 0
    assert {"brightness", "contrast"} <= {d.attribute for d in result.drifted}
    assert result.corrections[0]["name"] == "match_histogram"
    assert result.drifted[0].corrections[0] == "match_histogram"
    nearer = {c.second for c in result.comparisons if c.metric == "kid" and c.outcome == "smaller"}
    assert nearer == {False, True}
    assert result.n_calibration == result.n_judge == 60
    assert result.n_corrected == 60


def test_the_halves_share_no_sample_and_all_outputs_are_there(corrected, real: Path) -> None:
    _, out = corrected
    halves_ids = [{s.id for s in open_dataset(out / "real" / n)} for n in ("calibration", "judge")]
    assert not halves_ids[0] & halves_ids[1]
    assert halves_ids[0] | halves_ids[1] == {s.id for s in open_dataset(real)}
    for name in ("before", "after"):
        assert (out / name / "report.html").is_file()
    stored = json.loads((out / "correction.json").read_text())
    assert stored["improved"] is True
    assert stored["reasons"][0]["id"] == "correct_nearer"
    assert all(c["measured"] for c in stored["comparisons"])
    text = (out / "summary.md").read_text()
    assert text.startswith("# Improved")
    assert "| brightness |" in text


def test_every_corrected_sample_replays_from_its_row(corrected, dark: Path) -> None:
    _, out = corrected
    from evalsuite.generators import items_of

    parents = {i.id: i for i in items_of(open_dataset(dark))}
    rows = [json.loads(r) for r in (out / "corrected" / "metadata.jsonl").read_text().splitlines()]
    assert len(rows) == 60
    for row in rows[:5]:
        record = Record.from_row(row)
        replay(record, parents[record.parents[0]].value("image"))


@pytest.mark.browser
def test_the_page_of_a_real_run_opens_and_shows_it(corrected, visit) -> None:
    result, out = corrected
    page = visit(out / "correction.html")
    assert page.locator("h1").inner_text() == "Improved"
    text = page.locator("main").inner_text()
    assert all(reason.text in text for reason in result.reasons)
    assert "match_histogram" in text
    grey = """images => images.map(i => {
      const c = document.createElement("canvas").getContext("2d");
      c.drawImage(i, 0, 0, 8, 8);
      return c.getImageData(4, 4, 1, 1).data[0];
    })"""
    shots = page.locator(".shots.pairs .shot")
    assert shots.count() == 8
    levels = np.array(shots.locator("img").evaluate_all(grey)).reshape(8, 2)
    assert (levels[:, 0] < levels[:, 1]).mean() > 0.8  # the corrected ones are brighter
    for name in ("before", "after"):
        href = page.locator(f"a[href^={name}]").get_attribute("href")
        assert (out / str(href)).is_file()


def test_the_recipe_does_the_same_to_the_set_again(corrected, dark: Path, home: Path) -> None:
    _, out = corrected
    answer = CliRunner().invoke(
        app,
        ["generate", str(out / "recipe.yaml"), "--input", str(dark),
         "--out", str(home / "replayed")],
    )  # fmt: skip
    assert answer.exit_code == 0, answer.output
    for file in sorted((out / "corrected").glob("*.png")):
        assert (home / "replayed" / file.name).read_bytes() == file.read_bytes()


def test_a_missing_kind_is_not_mended_and_the_tool_says_so(
    cell_items: list[Item], real: Path, policy: Path, cache: FeatureCache, home: Path
) -> None:
    one_kind = [small(i) for i in cell_items[120:] if i.label == "poly"]
    synthetic = written(one_kind, home / "one-kind")
    out = home / "one-kind-out"
    answer = CliRunner().invoke(
        app,
        ["correct", str(real), str(synthetic), "--out", str(out), "--policy", str(policy),
         "--with", "match_histogram"],
    )  # fmt: skip
    assert answer.exit_code == 1, answer.output
    assert answer.output.startswith("NOT IMPROVED")
    assert "  applied: match_histogram\n" in answer.output
    for kind, file in (("report", "after/report.html"), ("corrected set", "corrected")):
        assert f"{kind}: {out / file}" in answer.output
        assert (out / file).exists()
    assert (out / "summary.md").read_text().startswith("# Not improved")


def test_nothing_readable_to_correct_is_said_and_nothing_is_made(
    cell_items: list[Item], policy: Path, cache: FeatureCache, home: Path
) -> None:
    real = written([small(i) for i in cell_items[:80]], home / "real2")
    again = written([small(i) for i in cell_items[80:]], home / "again")
    out = home / "again-out"
    result = correct(real, again, out=out, policy=policy, cache=cache, progress=False)
    if result.drifted:
        pytest.skip("chance alone made an attribute drift in this sample")
    assert not result.improved
    assert result.reasons[0].id == "correct_no_drift"
    assert "no readable attribute drifted" in result.reasons[0].text
    assert not (out / "corrected").exists()
    assert result.verdict_after is None


def test_a_selection_keeps_provenance_and_tells_precision_and_coverage(
    cell_items: list[Item], real: Path, policy: Path, cache: FeatureCache, home: Path
) -> None:
    good = [small(i) for i in cell_items[120:]]
    bad = [
        Item(id=f"bad-{i.id}", image=produce(Noise("shuffle"), i, seed=0)[0], label=i.label)
        for i in good[:25]
    ]
    synthetic = written([*good, *bad], home / "spoilt")
    out = home / "spoilt-out"
    result = correct(
        real, synthetic, out=out, using=("transport",), keep=0.7, policy=policy, cache=cache,
        progress=False,
    )  # fmt: skip
    assert result.selected is not None
    assert result.selected.after.precision >= result.selected.before.precision
    assert result.selected.after.coverage >= result.selected.random.coverage
    assert result.n_corrected == round(0.7 * 85)
    rows = [json.loads(r) for r in (out / "corrected" / "metadata.jsonl").read_text().splitlines()]
    assert sum("bad-" in row["id"] for row in rows) <= 2
    assert all(row["selected_by"] == ["transport"] for row in rows)
    assert all((out / "corrected" / row["file_name"]).is_file() for row in rows)
    assert "coverage" in (out / "summary.md").read_text()


def test_a_correction_in_the_metrics_own_features_fools_that_metric(
    cell_items: list[Item], dark: Path, real: Path, cache: FeatureCache
) -> None:
    """CORAL closes the gap that it is measured by, and no other: so everything is judged twice."""
    sets = {
        name: encode(
            open_dataset(folder), ["efficientnet_lite0", load_random_conv("image")], cache=cache,
            progress=False,
        ).features
        for name, folder in (("real", real), ("dark", dark))
    }  # fmt: skip

    def gap(a: np.ndarray, b: np.ndarray) -> float:
        found = kernel_distance(a, b, "polynomial")
        return found.value / found.spread

    own = "efficientnet_lite0"
    # Every other one: the data set's order is that of the modules.
    calibration, judge = sets["real"][own][::2], sets["real"][own][1::2]
    before = gap(judge, sets["dark"][own])
    aligned = Coral.fit(calibration, sets["dark"][own]).apply(sets["dark"][own])
    after = gap(judge, aligned.astype(np.float32))
    assert before > 0.2
    # On real data that it was not fitted on, the gap is closed...
    assert after < 0.2 * before, (before, after)
    # ...and no sample was touched: another look sees exactly what it saw.
    second = gap(sets["real"]["random_conv"][1::2], sets["dark"]["random_conv"])
    assert second > 0.1


def comparison(metric: str, second: bool, outcome: str) -> Comparison:
    return Comparison("e", second, metric, "", 0.5, 0.4, -0.1, -0.2, 0.0, outcome)  # type: ignore[arg-type]


def test_the_verdict_wants_both_looks_and_nothing_worse() -> None:
    own, other = comparison("kid", False, "smaller"), comparison("kid", True, "smaller")
    assert verdict([own, other], None)[0]
    for case, told in (
        ([own, comparison("kid", True, "same")], "the second look does not confirm it"),
        ([comparison("kid", False, "same"), other], "in the second look only"),
        ([own, other, comparison("coverage", True, "larger")], "Coverage became worse"),
        ([comparison("coverage", False, "smaller"), other], "second look only"),
    ):
        improved, reasons = verdict(case, None)
        assert not improved
        assert told in " ".join(r.text for r in reasons)
    lost = LabelsKept(0.9, 0.5, 0.95, 0.5, fell=(0.2, 0.6), short=(0.25, 0.65), lost=True)
    improved, reasons = verdict([own, other], lost)
    assert not improved
    assert "lost their label" in reasons[0].text


def gated(gap: float | None) -> GateResult:
    """The findings of a gate: a distance, and the tie of images and texts."""
    shared = {"modality": "image", "encoder": "e", "value": 0.5, "n_real": 60, "n_synthetic": 60}
    tie = Finding(kind="tie", metric="consistency_gap", gap=gap, gap_unit="share", **shared)
    hop = Finding(kind="tie", metric="chain_loss", slice="text", gap=0.1, **shared)
    distance = Finding(kind="distribution", metric="kid", gap=0.2, **shared)
    return GateResult.model_construct(findings=(distance, tie, hop))


def test_what_becomes_of_a_tie_is_told_where_it_was_measured() -> None:
    (told,) = ties(gated(0.2), gated(0.05))
    assert (told.metric, told.before, told.after, told.unit) == (
        "consistency_gap", 0.2, 0.05, "share",
    )  # fmt: skip
    assert ties(gated(0.2), gated(None)) == ties(gated(None), gated(0.2)) == ()


def as_encoded(rows: np.ndarray, labels: list[str | None]) -> Encoded:
    """Features as an encoder would have given them."""
    samples = [Sample(str(k), str(k), label=label) for k, label in enumerate(labels)]
    return Encoded(
        samples, [], {"e": rows.astype(np.float32)}, {}, [], Counter(), [], "", [], [], 0, {}
    )


def test_labels_are_judged_by_classes_and_a_majority_answer_has_lost_them(policy: Path) -> None:
    rng = np.random.default_rng(0)
    rules = load_policy(policy)
    labels: list[str | None] = ["often"] * 150 + ["rare"] * 30
    rare = np.array([[1.2 * (label == "rare")] for label in labels])  # told apart in 9 of 10
    draws = rng.standard_normal((3, 180, 4))
    as_often = np.full((180, 1), -3.0)  # all look like the frequent class
    between = rare + 0.6  # half of the frequent class looks like the rare one

    def judged(before: np.ndarray, after: np.ndarray, names: list[str | None] = labels):
        seen = {
            "calibration": as_encoded(draws[0] + rare, labels),
            "synthetic": as_encoded(draws[1] + before, names),
            "corrected": as_encoded(draws[2] + after, names),
        }
        return labels_kept(seen, "e", rules)

    def plain(k: int, shift: np.ndarray) -> float:
        real, made = draws[0] + rare, draws[k] + shift
        return label_agreement(real, labels, made, labels, probe="linear").agreement

    kept, why = judged(rare, rare)
    assert why is None
    assert kept is not None
    assert not kept.lost
    assert kept.real > 0.8
    assert kept.guess == 0.5
    # One class is gone, and plain agreement hardly falls: five of six bear the frequent name.
    gone, _ = judged(rare, as_often)
    assert gone is not None
    assert plain(1, rare) - plain(2, as_often) < 0.07
    assert gone.lost
    assert gone.after == pytest.approx(0.5, abs=0.02)
    assert gone.fell[0] > 0.2
    assert gone.short[0] > 0.2
    # The rare class is seen again, and plain agreement calls that a loss.
    back, _ = judged(as_often, between)
    assert back is not None
    assert plain(1, as_often) - plain(2, between) > 0.15
    assert not back.lost
    assert back.after > back.before + 0.1
    # Where it cannot be told, the reason is.
    for names, told in (([None, *labels[1:]], "not every sample"), (["often"] * 180, "than two")):
        unjudged = judged(rare, rare, names)[1]
        assert unjudged is not None
        assert told in unjudged.text
    blind = {
        side: as_encoded(x, labels)
        for side, x in zip(("calibration", "synthetic", "corrected"), draws, strict=True)
    }
    unjudged = labels_kept(blind, "e", rules)[1]
    assert unjudged is not None
    assert "no more than a guess" in unjudged.text


def test_groups_stay_whole_and_held_out_splits_judge(home: Path, cell_items: list[Item]) -> None:
    rules = parse_policy(POLICY)
    items = [
        Item(id=i.id, image=small(i).image, group=f"g{k // 4}") for k, i in enumerate(cell_items)
    ]
    data = open_dataset(written(items, home / "grouped"))
    first, second = halved(data.samples, 1, "x")
    assert abs(len(first) - len(second)) <= 4
    assert not {s.group for s in first} & {s.group for s in second}
    split = [
        Item(id=i.id, image=small(i).image, split="test" if k < 40 else "train")
        for k, i in enumerate(cell_items)
    ]
    parts = halves(open_dataset(written(split, home / "split")), rules)
    assert {s.split for s in parts["judge"]} == {"test"}
    assert {s.split for s in parts["calibration"]} == {"train"}
    few = open_dataset(written(items[:40], home / "few"))
    with pytest.raises(DataError, match="give more real data"):
        halves(few, rules)


def test_too_few_samples_are_said_and_not_judged(
    cell_items: list[Item], real: Path, dark: Path, policy: Path, cache: FeatureCache, home: Path
) -> None:
    few = written([small(i) for i in cell_items[120:140]], home / "a-few")
    asked = {"policy": policy, "cache": cache, "progress": False}
    with pytest.raises(DataError, match=r"the synthetic set has 20 samples .* asks for 30"):
        correct(real, few, out=home / "a-few-out", **asked)
    with pytest.raises(DataError, match=r"herding kept 6 samples, .* select less strictly"):
        correct(real, dark, out=home / "strict-out", using=("herding",), keep=0.1, **asked)


def test_wrong_arguments_are_named(real: Path, dark: Path, home: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'match_noise'"):
        correct(real, dark, out=home / "x", using=("match_noize",))
    with pytest.raises(UsageError, match="keep must be between 0 and 1"):
        correct(real, dark, out=home / "x", keep=1.5)
    with pytest.raises(UsageError, match="is not empty"):
        correct(real, dark, out=home / "dark")
    with pytest.raises(UsageError, match="correction of audio does not fit"):
        correct(real, dark, out=home / "x", using=("match_loudness",), modality="image")
