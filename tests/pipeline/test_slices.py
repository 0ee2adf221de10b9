"""Where the gap lies: a class that is blurred, and one that is missing, are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from evalsuite.cli import _say
from evalsuite.encoders import FeatureCache
from evalsuite.gate.findings import GateResult, Status
from evalsuite.gate.policy import parse_policy
from evalsuite.metrics.utility.subgroups import subgroup_tests
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.pipeline.run import Run, run_gate
from evalsuite.pipeline.slices import _shares_said
from evalsuite.report import redact_result, render_html
from evalsuite.report.i18n import Translator


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Real cells of two kinds; of the synthetic ones, mono is blurred and half of poly missing."""
    home = tmp_path_factory.mktemp("slices")
    photographs = cells()
    order = np.random.default_rng(0).permutation(len(photographs))
    real = write_folder([photographs[i] for i in order[:160]], home / "real")
    folder = home / "synthetic"
    folder.mkdir()
    rows = []
    for i in order[160:320]:
        path, kind = photographs[i]
        if kind == "poly" and i % 2:
            continue
        picture = Image.open(path)
        if kind == "mono":
            picture = picture.filter(ImageFilter.GaussianBlur(2))
        picture.save(folder / path.name)
        rows.append(json.dumps({"file_name": path.name, "label": kind}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    return run_gate(real, folder, cache=FeatureCache(home / "cache"), progress=False)


def test_the_blurred_class_is_named(run: Run) -> None:
    found = {f.slice: f for f in run.result.findings if f.slice.startswith("class ")}
    assert set(found) == {"class mono", "class poly"}
    mono, poly = found["class mono"], found["class poly"]
    assert mono.detected
    assert mono.gap is not None
    assert poly.gap is not None
    assert mono.gap > 3 * max(poly.gap, 0.0)
    assert not poly.detected
    said = [m for m in run.result.explanations if m.id == "class_gap"]
    assert len(said) == 1
    assert "mono" in said[0].text


def test_the_missing_class_is_named(run: Run) -> None:
    (shares,) = [f for f in run.result.findings if f.metric == "label_shares"]
    assert shares.detected
    assert shares.message is not None
    assert shares.message.params["slice"] in {"class poly", "class mono"}


def test_classes_do_not_cost_the_rules_their_power(run: Run) -> None:
    """Holm adjusts over what a rule judges, not over every class."""
    judged = [f for f in run.result.findings if f.tolerance is not None and f.p_value is not None]
    kid = next(f for f in judged if f.metric == "kid")
    assert kid.p_adjusted is not None
    assert kid.p_value is not None
    assert kid.p_adjusted <= kid.p_value * len(judged) + 1e-12


def test_the_page_shows_the_classes(run: Run) -> None:
    page = render_html(run.result, thumbnails=run.thumbnails, lang="ja")
    assert 'id="slices"' in page
    assert "クラスごと" in page
    hidden = redact_result(run.result)
    assert {f.slice for f in hidden.findings} == {f.slice for f in run.result.findings}


def test_problems_that_lose_no_sample_are_said(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metadata that cannot be read leave every sample, and take all labels."""
    side = run.result.synthetic.model_copy(update={"problems": {"bad_metadata": 1}})
    _say(run.result.model_copy(update={"synthetic": side}), tmp_path)
    assert f"synthetic: all {side.n_found} samples used, with notes (1 bad_metadata)" in (
        capsys.readouterr().out
    )


def gated(
    folder: Path,
    real: list[str | None],
    synthetic: list[str | None],
    *,
    shape: tuple[int, ...] = (16, 16, 3),
) -> GateResult:
    """Gate noise against noise, the synthetic pictures of a shape of their own, under labels."""
    rng = np.random.default_rng(0)
    for name, labels, size in (("real", real, (16, 16, 3)), ("synthetic", synthetic, shape)):
        for i, label in enumerate(labels):
            path = folder / name / (label or "") / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, size, dtype=np.uint8)).save(path)
    return run_gate(
        folder / "real",
        folder / "synthetic",
        policy=parse_policy(
            "calibration: {splits: 20, permutations: 99, costly_permutations: 99}\n"
            "rules: [{metric: frechet_distance, tolerance: 9}]"
        ),
        cache=None,
        progress=False,
    ).result


def test_a_class_that_is_missing_warns_although_no_distance_moves(tmp_path: Path) -> None:
    classes = ["a", "b", "c"]
    result = gated(
        tmp_path, [classes[i % 3] for i in range(60)], [classes[i % 2] for i in range(60)]
    )
    assert result.verdict is Status.WARN
    (reason,) = result.reasons
    assert reason.message.id == "labels_missing"
    assert reason.message.params["classes"] == "'c'"
    assert reason.message.params["share"] == pytest.approx(1 / 3)
    assert all(m.id != "labels_missing" for m in result.explanations)  # said once
    for lang in ("en", "ja"):
        assert "'c'" in Translator(lang).message(reason.message)


def test_classes_that_are_spelt_differently_warn(tmp_path: Path) -> None:
    """``0`` and ``00``: every sample of the synthetic set has a class that nobody knows."""
    result = gated(tmp_path, [f"{i % 2}" for i in range(40)], [f"0{i % 2}" for i in range(40)])
    (reason,) = result.reasons
    assert (reason.status, reason.message.id) == (Status.WARN, "labels_disjoint")
    assert "'0', '1'" in reason.message.text
    assert "'00', '01'" in reason.message.text


@pytest.mark.parametrize(
    ("real", "synthetic", "said"),
    [
        ("abc", "abc", None),
        ("abc", "ab", "labels_missing"),
        ("ab", "abc", "labels_unknown"),
        ("abc", "abC", "labels_differ"),
        ("abc", "ABC", "labels_disjoint"),
        ("abc", "abb", "labels_missing"),
        ("abc", "aaaabc", "label_more_frequent"),
    ],
)
def test_what_is_said_of_labels(real: str, synthetic: str, said: str | None) -> None:
    rows = np.random.default_rng(0).standard_normal((60, 3))
    labels = [[side[i % len(side)] for i in range(60)] for side in (real, synthetic)]
    shares = subgroup_tests(rows, rows[::-1], *labels, splits=1, permutations=199).shares
    status, message = _shares_said(shares, 0.05)
    assert (message and message.id) == said
    assert status is (Status.WARN if said and said.startswith("labels") else Status.INFO)
    if message is not None:
        assert Translator("en").message(message).endswith(message.text[-12:])
        assert Translator("ja").message(message) != message.text


def test_labels_that_are_not_compared_are_said(tmp_path: Path) -> None:
    result = gated(tmp_path / "one", [f"{i % 2}" for i in range(40)], [None] * 40)
    assert [m.id for m in result.explanations if m.id.startswith("labels")] == [
        "labels_few_synthetic"
    ]
    many = [f"{i % 60}" for i in range(60)]
    result = gated(tmp_path / "many", many, many)
    assert [m.id for m in result.explanations if m.id.startswith("labels")] == ["labels_too_many"]


def test_another_size_and_no_colour_are_named_first(tmp_path: Path) -> None:
    """All real pictures are alike in size: in their standard deviations there is no shift."""
    result = gated(tmp_path, [None] * 40, [None] * 40, shape=(32, 32))
    noted, height, *others = result.explanations
    assert (noted.id, noted.params["note"]) == ("noted", "grey")
    assert (height.id, height.params["attribute"]) == ("attribute_constant", "height")
    assert height.text.startswith("height is 16 px in every real sample, and 32 px in")
    assert not [m for m in others if m.id.startswith("labels")]
    (hidden, *_) = redact_result(result).explanations
    assert hidden.params["note"] == "grey"  # a word of ours, of nobody's data
