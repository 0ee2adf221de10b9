"""A real distribution, built and installed from the docs template, is found, used and named."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from evalsuite import conformance, plugins
from evalsuite.encoders import list_models, load_encoder
from evalsuite.encoders.external import BUILT_IN
from evalsuite.errors import PluginError
from evalsuite.generators import parse_recipe
from evalsuite.generators.protocol import RecipeError
from evalsuite.generators.registry import operation_class
from evalsuite.metrics import MetricInfo, PairMetric

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "docs" / "how-to" / "plugin-template"
POLICY = """
version: 1
encoders: {image: [grey_pixels]}
rules:
  - {metric: mean_shift, tolerance: 0.5}
  - {metric: kid, tolerance: 0.5}
calibration: {splits: 20, permutations: 99, costly_permutations: 99}
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, built and installed by pip with no index."""
    home = tmp_path_factory.mktemp("plugin")
    shutil.copytree(TEMPLATE, home / "source")
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index",
        "--no-build-isolation", "--disable-pip-version-check",
        "--target", str(home / "site"), str(home / "source"),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return home / "site"


@pytest.fixture
def here(site: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(site))
    return site


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes distributions whose modules say that they were imported."""

    def make(name: str, points: str, code: str = "") -> None:
        folder = tmp_path / name
        info = folder / f"{name}-3.1.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 3.1\n")
        (info / "entry_points.txt").write_text(points)
        (folder / f"{name}_code.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()

    return make


def run(*words: str, site: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(site), "EVALSUITE_CACHE": str(cwd / "cache")}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_template_passes_its_own_conformance_test(site: Path, tmp_path: Path) -> None:
    shutil.copytree(TEMPLATE / "tests", tmp_path / "tests")
    done = run("pytest", "-q", "-p", "no:cacheprovider", "tests", site=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert "24 passed" in done.stdout, done.stdout


def test_the_commands_know_it_and_the_result_names_it(site: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "real").mkdir()
    for i in range(40):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "real" / f"{i:02d}.png")
    (tmp_path / "recipe.yaml").write_text("{version: 1, seed: 3, steps: [fade: {most: 0.9}]}")
    (tmp_path / "policy.yaml").write_text(POLICY)

    listed = run("evalsuite.cli", "plugins", "list", site=site, cwd=tmp_path)
    assert [line.split()[:4] for line in listed.stdout.splitlines()] == [
        ["encoder", "grey_pixels", "evalsuite-example", "1.0.0"],
        ["generator", "fade", "evalsuite-example", "1.0.0"],
        ["metric", "mean_shift", "evalsuite-example", "1.0.0"],
    ]
    made = run(
        "evalsuite.cli", "generate", "recipe.yaml", "--input", "real", "--out", "made",
        site=site, cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert any(
        "evalsuite-example 1.0.0" in path.read_text("utf-8", errors="replace")
        for path in (tmp_path / "made").rglob("*.json*")
    )
    gated = run(
        "evalsuite.cli", "gate", "real", "made", "--policy", "policy.yaml", "--out", "out",
        site=site, cwd=tmp_path,
    )  # fmt: skip
    assert gated.returncode in (0, 1, 4), gated.stderr
    result = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))
    assert [(p["kind"], p["name"], p["distribution"], p["version"]) for p in result["plugins"]] == [
        ("metric", "mean_shift", "evalsuite-example", "1.0.0"),
        ("encoder", "grey_pixels", "evalsuite-example", "1.0.0"),
    ]
    (found,) = [f for f in result["findings"] if f["metric"] == "mean_shift"]
    assert found["encoder"] == "grey_pixels"
    assert found["gap_ci"]["low"] <= found["gap"] <= found["gap_ci"]["high"]
    assert found["floor"]["splits"] == 20
    assert 0 < found["p_value"] <= 1
    assert found["tolerance"] == 0.5


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three sets of noise: alike, and one and two steps brighter."""
    home = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(5)
    for name, brighter, n in (("real", 0, 80), ("same", 0, 40), ("far", 60, 40), ("near", 20, 40)):
        (home / name).mkdir()
        for i in range(n):
            pixels = rng.integers(60, 160, (20, 20, 3)) + brighter
            Image.fromarray(pixels.astype(np.uint8)).save(home / name / f"{i:02d}.png")
    (home / "policy.yaml").write_text(POLICY)
    return home


def test_a_leaderboard_has_a_column_for_its_metric(site: Path, noisy: Path) -> None:
    done = run(
        "evalsuite.cli", "compare", "real", "far", "same", "near", "--policy", "policy.yaml",
        "--dose", "60", "--dose", "0", "--dose", "20", "--out", "board",
        site=site, cwd=noisy,
    )  # fmt: skip
    assert done.returncode in (0, 1, 4), done.stderr
    found = json.loads((noisy / "board" / "comparison.json").read_text("utf-8"))
    (column,) = [c for c in found["columns"] if c["metric"] == "mean_shift"]
    assert (column["encoder"], column["higher_is_better"]) == ("grey_pixels", False)
    scores = column["scores"]
    assert scores["same"]["gap"] < scores["near"]["gap"] < scores["far"]["gap"]
    assert scores["same"]["rank"] < scores["far"]["rank"]
    assert (scores["far"]["rank_low"], scores["far"]["rank_high"]) == (3, 3)
    assert column["monotone"] == 1.0
    assert found["agreement"]["image/grey_pixels/mean_shift"]["image/grey_pixels/kid"] is not None
    for name in ("leaderboard.csv", "leaderboard.md", "leaderboard.tex", "comparison.html"):
        written = (noisy / "board" / name).read_text("utf-8")
        assert "mean_shift" in written.replace("\\", ""), name


def test_a_correction_is_judged_by_its_metric(site: Path, noisy: Path) -> None:
    done = run(
        "evalsuite.cli", "correct", "real", "far", "--policy", "policy.yaml", "--out", "corrected",
        site=site, cwd=noisy,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    found = json.loads((noisy / "corrected" / "correction.json").read_text("utf-8"))
    judged = {
        (c["encoder"], c["second"]): c for c in found["comparisons"] if c["metric"] == "mean_shift"
    }
    assert {second for _, second in judged} == {False, True}
    own = judged["grey_pixels", False]
    assert own["before"] > 1
    assert (own["outcome"], own["unit"]) == ("smaller", "real standard deviations")


def test_nothing_is_imported_unless_it_is_named(offered) -> None:
    code = (
        "import builtins; builtins.loud = getattr(builtins, 'loud', 0) + 1; raise OSError('bang')"
    )
    offered("loud", "[evalsuite.encoders]\nloud = loud_code:Thing\n", code)
    assert [p.name for p in plugins.installed("encoder")] == ["loud"]
    load_encoder("efficientnet_lite0", backend="torch")
    import builtins

    assert not hasattr(builtins, "loud")
    with pytest.raises(PluginError, match=r"'loud' \(loud_code:Thing\).*loud 3\.1.*OSError: bang"):
        load_encoder("loud")
    assert builtins.loud == 1
    del builtins.loud


def test_no_plugin_takes_the_place_of_a_built_in(offered) -> None:
    offered(
        "thief",
        "[evalsuite.encoders]\nefficientnet_lite0 = thief_code:X\nminilm_l6 = thief_code:X\n"
        "[evalsuite.generators]\ncorrupt = thief_code:X\n"
        "[evalsuite.metrics]\nkid = thief_code:X\n",
        "raise SystemError('the thief was imported')",
    )
    from evalsuite.errors import ModelError
    from evalsuite.gate.policy import parse_policy
    from evalsuite.pipeline.external import plugins_of
    from evalsuite.pipeline.run import JUDGED

    assert load_encoder("efficientnet_lite0", backend="torch").info.dim == 1280
    with pytest.raises(ModelError, match="unknown encoder 'minilm_l6'"):
        load_encoder("minilm_l6")  # a text model's name is none for images either
    assert operation_class("corrupt").__module__ == "evalsuite.generators.image.corruptions"
    policy = parse_policy("{version: 1, rules: [{metric: kid, tolerance: 0.1}]}")
    assert plugins_of(policy, JUDGED).records == ()
    listed = subprocess.run(
        [sys.executable, "-m", "evalsuite.cli", "plugins", "list"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if "thief" in p)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert listed.count("never used: the name is evalsuite's own") == 4


def test_every_model_of_ours_has_a_name_that_is_kept() -> None:
    assert {row.id for row in list_models() if "/" not in row.id} <= BUILT_IN


def test_a_name_that_two_offer_is_refused(offered) -> None:
    for name in ("one", "two"):
        offered(name, f"[evalsuite.generators]\nblur_all = {name}_code:X\n")
    with pytest.raises(PluginError, match=r"'blur_all' is offered by one 3\.1 and two 3\.1"):
        parse_recipe("{version: 1, seed: 1, steps: [blur_all]}")


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("X = 3", "which cannot be called"),
        ("def X(device): return device", "it gives a str"),
        ("def X(): pass", "TypeError"),
        ("Y = 3", "AttributeError"),
        (
            "from evalsuite.encoders.random_conv import RandomConvImage\n"
            "def X(device): return RandomConvImage()",
            "id='random_conv'",
        ),
    ],
)
def test_a_broken_encoder_names_its_distribution(offered, code: str, why: str) -> None:
    offered("odd", "[evalsuite.encoders]\nodd = odd_code:X\n", code)
    sys.modules.pop("odd_code", None)
    with pytest.raises(PluginError, match=rf"(?s)'odd' \(odd_code:X\).*odd 3\.1.*{why}"):
        load_encoder("odd")


def test_a_broken_generator_and_metric_name_their_distribution(offered) -> None:
    offered(
        "bent",
        "[evalsuite.generators]\nbent = bent_code:X\n[evalsuite.metrics]\nbent = bent_code:X\n",
        "class X: name = 'straight'",
    )
    with pytest.raises(PluginError, match=r"bent 3\.1 is broken: .*operation class with that name"):
        operation_class("bent")
    from evalsuite.gate.policy import parse_policy
    from evalsuite.pipeline.external import plugins_of

    policy = parse_policy("{version: 1, rules: [{metric: bent, tolerance: 0.1}]}")
    with pytest.raises(PluginError, match=r"bent 3\.1 is broken: .*PairMetric"):
        plugins_of(policy, ())
    with pytest.raises(RecipeError, match="unknown operation"):
        operation_class("no_such_operation")


INFO: dict[str, Any] = {
    "name": "m", "function": "m", "direction": "lower", "low": 0.0, "high": None, "best": 0.0,
    "unit": "", "streaming": False, "min_n": 2, "blind_to": "much", "reference": "nobody",
}  # fmt: skip


def far(real, synthetic):
    """Distance of the means."""
    return abs(real.mean() - synthetic.mean())


def no_docstring(real, synthetic):
    return 0.0


@pytest.mark.parametrize(
    ("changes", "function", "why"),
    [
        ({"direction": "near best"}, far, "a gap needs a direction"),
        ({"best": None}, far, "a finite best value"),
        ({"low": 0.5}, far, "outside"),
        ({}, no_docstring, "no docstring"),
    ],
)
def test_a_metric_that_the_gate_cannot_judge_is_refused(changes, function, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        PairMetric(MetricInfo(**{**INFO, **changes}), function)


def test_a_metric_is_checked_on_the_way_in_and_out() -> None:
    metric = PairMetric(MetricInfo(**{**INFO, "high": 0.5}), far)
    x = np.random.default_rng(0).standard_normal((20, 3))
    assert metric(x, x) == 0.0
    with pytest.raises(ValueError, match=r"m gave .* outside \[0, 0.5\]"):
        metric(x, x + 2)
    with pytest.raises(ValueError, match="at least 2 rows"):
        metric(x, x[:1])


def _moody(real, synthetic):
    """Count the calls."""
    _moody.calls = getattr(_moody, "calls", 0) + 1
    return far(real, synthetic) + _moody.calls


def _by_row(real, synthetic):
    """Look at the first rows."""
    return abs(real[0, 0] - synthetic[0, 0])


def _backwards(real, synthetic):
    """Fall where it should rise."""
    return 1 / (1 + far(real, synthetic))


def _over(real, synthetic):
    """Leave the range."""
    return -1.0


@pytest.mark.parametrize(
    ("function", "check"),
    [
        (_moody, "test_equal_arguments_give_equal_results"),
        (_by_row, "test_the_order_of_the_rows_does_not_count"),
        (_backwards, "test_sets_that_are_alike_are_nearer_the_best_value"),
        (_over, "test_the_range_holds"),
    ],
)
def test_conformance_sees_a_bad_metric(function, check: str) -> None:
    class Bad(conformance.MetricConformance):
        def metric(self):
            return PairMetric(MetricInfo(**INFO), function)

    good = type("Good", (Bad,), {"metric": lambda self: PairMetric(MetricInfo(**INFO), far)})
    getattr(good(), check)()
    with pytest.raises(conformance.ConformanceError):
        getattr(Bad(), check)()


def test_conformance_sees_a_batch_that_matters(here: Path) -> None:
    from evalsuite_example.encoder import GreyPixels

    class Leaky(GreyPixels):
        def _forward(self, batch):
            return super()._forward(batch) - batch.mean()

    class Bad(conformance.EncoderConformance):
        name = "grey_pixels"

        def encoder(self):
            return Leaky()

    with pytest.raises(conformance.ConformanceError, match="which other samples"):
        Bad().test_company_does_not_count()


def test_conformance_sees_an_operation_with_chance_of_its_own(here: Path) -> None:
    from evalsuite_example.generator import Fade

    class Dice(Fade):
        def apply(self, value, params):
            return super().apply(value, {"share": np.random.rand()})  # noqa: NPY002

    class Bad(conformance.GeneratorConformance):
        name = "fade"

        def operation(self):
            return Dice()

    for check in ("test_apply_is_pure", "test_chance_is_drawn_in_one_place"):
        with pytest.raises(conformance.ConformanceError):
            getattr(Bad(), check)()


@pytest.mark.parametrize(
    ("base", "name", "modality"),
    [
        ("EncoderConformance", "char_ngrams", "text"),
        ("EncoderConformance", "logmel_stats", "audio"),
    ],
)
def test_our_own_encoders_conform(base: str, name: str, modality: str) -> None:
    kind = getattr(conformance, base)
    ours = type(
        "Ours", (kind,), {"name": name, "modality": modality, "_plugin": lambda self: None}
    )()
    for check in (c for c in dir(ours) if c.startswith("test_") and "entry_point" not in c):
        getattr(ours, check)()
