"""Where the gap lies: a class that is blurred, and one that is missing, are named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from evalsuite.encoders import FeatureCache
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.pipeline.run import Run, run_gate
from evalsuite.report import redact_result, render_html


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
