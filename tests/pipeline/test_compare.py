"""Comparisons of several sets: the order is right, equals share a rank, outputs are safe."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evalsuite.encoders import FeatureCache
from evalsuite.errors import UsageError
from evalsuite.gate.comparison import Comparison
from evalsuite.gate.findings import Status
from evalsuite.generators import Corrupt, generate_folder
from evalsuite.pipeline.compare import _ranking, best_verdict, compare, knob_doses
from evalsuite.pipeline.demo import cells, write_folder
from evalsuite.report.comparison import OUTPUTS, write_comparison
from evalsuite.report.redact import redact_comparison

N = 100


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("compare")
    photographs = cells()
    order = np.random.default_rng(3).permutation(len(photographs))
    parts = [[photographs[i] for i in order[k * N : (k + 1) * N]] for k in range(3)]
    write_folder(parts[0], home / "real")
    write_folder(parts[1], home / "=HYPERLINK(1) <b>&_%")
    write_folder(parts[0][:60] + parts[1][:40], home / "copies")
    for severity in (1, 3):
        generate_folder(
            Corrupt("gaussian_blur", severity),
            ((p.stem, Image.open(p), kind, None) for p, kind in parts[2]),
            home / f"blur{severity}",
            seed=0,
        )
    return home


@pytest.fixture(scope="module")
def found(home: Path) -> Comparison:
    names = ["=HYPERLINK(1) <b>&_%", "blur1", "blur3", "copies"]
    comparison, runs = compare(
        home / "real",
        [home / n for n in names],
        doses=[0, 1, 3, 0],
        cache=FeatureCache(home / "cache"),
        command="evalsuite compare",
    )
    assert set(runs) == set(names)
    return comparison


def test_order(found: Comparison) -> None:
    by = {c.name: c for c in found.candidates}
    assert [c.rank for c in found.candidates] == sorted(c.rank for c in found.candidates)
    assert found.candidates[-1].name == "blur3"
    assert by["blur3"].rank == 4
    assert by["blur3"].verdict is Status.FAIL
    assert by["=HYPERLINK(1) <b>&_%"].rank == 1  # another real sample
    assert best_verdict(found) is not Status.FAIL
    for c in found.candidates:
        assert 1 <= c.rank_low <= c.rank_high <= 4


def test_copies_are_seen_and_cost_a_place_on_the_front(found: Comparison) -> None:
    by = {c.name: c for c in found.candidates}
    assert by["copies"].copied is not None
    assert by["copies"].copied >= 0.6  # 60 of 100 are real ones
    other = by["=HYPERLINK(1) <b>&_%"]
    assert other.copied is not None
    assert other.copied < 0.15
    assert other.on_front


def test_dose_and_agreement(found: Comparison) -> None:
    kid = next(c for c in found.columns if c.metric == "kid")
    assert kid.monotone is not None
    assert kid.monotone > 0.5
    assert found.agreement[kid.key][kid.key] == pytest.approx(1.0)
    assert kid.scores["blur3"].rank == 4


def test_ranking_of_known_draws() -> None:
    rng = np.random.default_rng(0)
    table = np.stack([rng.normal(m, 1, 400) for m in (0.0, 0.3, 9.0)])
    ranks, low, high = _ranking(table, table.mean(axis=1))
    assert ranks.tolist() == [1, 1, 3]
    assert (low[2], high[2]) == (3, 3)
    assert low[0] == 1
    assert high[0] == 2


def test_equals_are_seldom_told_apart() -> None:
    """Three equal candidates: any of them worse than another in at most about 5 % of studies."""
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(300):
        true = rng.normal(0, 1, (3, 1))  # what this study happens to see of equal candidates
        ranks, _, _ = _ranking(true + rng.normal(0, 1, (3, 200)), true[:, 0])
        wrong += bool((ranks > 1).any())
    assert wrong / 300 < 0.09


def test_outputs(found: Comparison, tmp_path: Path) -> None:
    assert [p.name for p in write_comparison(found, tmp_path)] == list(OUTPUTS)
    read = Comparison.model_validate_json((tmp_path / "comparison.json").read_text())
    assert read == found
    rows = list(csv.DictReader(io.StringIO((tmp_path / "leaderboard.csv").read_text())))
    assert len(rows) == 4 * len(found.columns)
    assert all(not r["candidate"].startswith("=") for r in rows)
    html = (tmp_path / "comparison.html").read_text()
    assert "<b>&_%" not in html
    tex = (tmp_path / "leaderboard.tex").read_text()
    assert r"$<$b$>$\&\_\%" in tex
    assert "\\toprule" in tex
    markdown = write_comparison(found, tmp_path / "ja", lang="ja")[3].read_text()
    assert "順位" in markdown


def test_bad_calls(home: Path) -> None:
    with pytest.raises(UsageError, match="at least two"):
        compare(home / "real", [home / "copies"])
    with pytest.raises(UsageError, match="3 names"):
        compare(home / "real", [home / "copies", home / "blur1"], names=["a", "b", "c"])
    with pytest.raises(UsageError, match="name of its own"):
        compare(home / "real", [home / "copies", home / "blur1"], names=["a", "a"])
    with pytest.raises(UsageError, match="1 doses"):
        compare(home / "real", [home / "copies", home / "blur1"], doses=[1])


def test_command(home: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "compare", str(home / "real"),
         str(home / "blur1"), str(home / "blur3"), "--name", "weak", "--name", "strong",
         "--out", str(tmp_path / "out")],
        env={**os.environ, "EVALSUITE_CACHE": str(home / "cache")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stderr
    lines = done.stdout.splitlines()
    assert "weak" in lines[0]
    assert "strong" in lines[1]
    assert (tmp_path / "out" / "1" / "report.html").is_file()
    data = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert data["columns"][0]["scores"]["weak"]["gap"] is not None


def test_knobs_are_read_from_the_records(home: Path) -> None:
    sets = [home / n for n in ("blur1", "blur3", "copies")]
    names = ["blur1", "blur3", "copies"]
    assert knob_doses(sets, names, ["severity", "copies=0"]) == ("severity", [1.0, 3.0, 0.0])
    assert knob_doses(sets[:2], names[:2], ["severity", "blur3=2.5"])[1] == [1.0, 2.5]
    for knobs, told in (
        (["severity"], "nothing says the dose of 'copies': its records have no number 'severity'"),
        (["blur1=1"], "give it as --knob blur3=VALUE"),
        (["severity", "kind"], "one knob at a time"),
        (["who=1"], "no candidate is called 'who'"),
        (["blur1=much"], "'much' is no number"),
        (["blur1=nan"], "must be finite"),
    ):
        with pytest.raises(UsageError, match=told):
            knob_doses(sets, names, knobs)
    with pytest.raises(UsageError, match="not both"):
        compare(home / "real", sets, doses=[1, 2, 3], knobs=["severity"])


def test_a_steady_response_has_a_narrow_interval(found: Comparison) -> None:
    kid = next(c for c in found.columns if c.metric == "kid")
    assert kid.monotone is not None
    assert kid.monotone_ci is not None
    assert kid.monotone_ci.low <= kid.monotone <= kid.monotone_ci.high <= 1
    assert kid.monotone_ci.low > 0.5  # blur 0, 1, 3: no resampling puts them in another order


def test_a_redacted_comparison_names_nobody(found: Comparison) -> None:
    named = found.model_copy(update={"command": "evalsuite compare /home/ann/real /home/ann/b"})
    assert json.dumps(found.candidates[0].name) in named.model_dump_json()
    hidden = redact_comparison(named).model_dump_json()
    for candidate in found.candidates:
        assert json.dumps(candidate.name) not in hidden  # in quotes: “n_exact_copies” is a key
    assert "/home" not in hidden
    kept = redact_comparison(named, names=False)
    assert [c.name for c in kept.candidates] == [c.name for c in found.candidates]
    again = redact_comparison(named)
    assert [c.rank for c in again.candidates] == [c.rank for c in found.candidates]
    assert set(again.columns[0].scores) == {c.name for c in again.candidates}
