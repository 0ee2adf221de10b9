"""The page of a correction: everything is said, in two languages, and nothing in it runs."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import soundfile
from PIL import Image

from evalsuite.correct import Comparison, CorrectionResult, Drifted, LabelsKept, Measured, TieChange
from evalsuite.correct.examples import Preview, changed, left_out
from evalsuite.correct.report import render_correction, write_correction
from evalsuite.correct.result import said
from evalsuite.data import open_dataset
from evalsuite.gate.findings import Message
from evalsuite.generators import Audio, Identity, generate_folder, items_of
from evalsuite.generators.correction.audio import MatchLoudness
from evalsuite.generators.correction.base import correction_names
from evalsuite.generators.recipe import parse_recipe
from evalsuite.generators.selection.subset import Selected, Shape
from evalsuite.pipeline.preview import clip
from evalsuite.report.i18n import Translator, catalogue

if TYPE_CHECKING:
    from collections.abc import Callable

SPEECH = Path(__file__).parents[1] / "data" / "speech"
PHONE = {"width": 390, "height": 844}
HOSTILE = "<img src=x onerror=\"document.title='pwned'\"></script><script>document.title=1</script>"


def body(page: str) -> str:
    """Give what comes before the scripts: plotly.js is long and holds all kinds of words."""
    return page[: page.index('<script type="application/json"')]


def jpeg(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 48), grey).save(buffer, "JPEG")
    return buffer.getvalue()


def compared(metric: str, second: bool, before: float, after: float) -> Comparison:
    def side(gap: float) -> Measured:
        return Measured(10 * gap, (0.5, 1.0, 1.5), (gap - 0.02, gap + 0.03))

    change = after - before
    return Comparison(
        "random_conv" if second else "efficientnet_lite0", second, metric,
        "share of real variance", before, after, change, change - 0.05, change + 0.05,
        "smaller" if change < -0.05 else "same", 0.05 if metric == "kid" else None,
        (side(before), side(after)),
    )  # fmt: skip


def found(name: str = "solar cells") -> CorrectionResult:
    """A correction in which everything happened that can."""
    comparisons = tuple(
        compared(metric, second, before, after)
        for second in (False, True)
        for metric, before, after in (("kid", 0.42, 0.06), ("precision", 0.31, 0.3))
    )
    refusals = [
        Message(id="refused_stronger_jpeg", text="x", params={"synthetic": 3.1, "real": 1.2}),
        Message(id="refused_raises_gap", text="x", params={"without": "0.1", "with_it": "0.2"}),
    ]
    return CorrectionResult(
        improved=True,
        reasons=(
            said("correct_nearer", metric="kid", encoder="efficientnet_lite0",
                 before=0.42, after=0.06),
            said("correct_nearer_second", metric="kid", encoder="random_conv",
                 before=0.42, after=0.06),
        ),
        names=(name, name),
        modality="image",
        n_real=120,
        n_calibration=60,
        n_judge=60,
        n_synthetic=60,
        n_corrected=57,
        n_failed=3,
        drifted=(
            Drifted("brightness", 3.2, "gain", ("match_histogram",)),
            Drifted("entropy", 0.8, "bit depth", ()),
        ),
        corrections=(
            {"name": "match_sharpness", "version": 1,
             "params": {"mode": "L", "gain": [0.0] * 20, "held_out": []}},
        ),
        skipped=(("match_jpeg", refusals[0]), ("match_noise", refusals[1])),
        selections=(("herding", (said("select_kept", kept=30, n=60),)),),
        selected=Selected((1, 2), *(Shape(n, 0.5, 0.6) for n in (60, 30, 30))),
        labels_kept=LabelsKept(0.8, 0.7, 0.9, 0.5, (-0.1, 0.2), (0.02, 0.3), False),
        labels_unjudged=None,
        comparisons=comparisons,
        ties=(TieChange("consistency_gap", "conse", "share of pairs mismatched", 0.4, 0.1),),
        verdict_before="fail",
        verdict_after="warn",
        level=0.95,
        seed=7,
        command="evalsuite correct real dark --out fixed",
    )  # fmt: skip


def pairs(name: str = "cell") -> list[tuple[Preview, Preview]]:
    return [
        (Preview(f"{name} {k}", jpeg(40 + k)), Preview(f"{name} {k}~0", jpeg(140 + k)))
        for k in range(4)
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    page = render_correction(found(), pairs(), [Preview("cell 9", jpeg(9))])
    (tmp_path / "correction.html").write_text(page, "utf-8")
    return tmp_path / "correction.html"


def test_recordings_and_texts_are_shown_before_and_after(tmp_path: Path) -> None:
    spoken = items_of(open_dataset(SPEECH))[:3]
    quiet = [
        replace(i, audio=Audio(0.1 * i.value("audio").samples, i.value("audio").rate), text=None)
        for i in spoken
    ]
    generate_folder(Identity("audio"), quiet, tmp_path / "quiet", seed=0)
    made = open_dataset(tmp_path / "quiet")
    loud = MatchLoudness(-40.0, 1.0, -20.0, 1.0)
    generate_folder(loud, items_of(made), tmp_path / "loud", seed=0)
    after = open_dataset(tmp_path / "loud")
    pairs = changed(made, after, "audio")
    assert len(pairs) == 3
    for before, louder in pairs:
        assert louder.name.startswith(before.name)
        assert before.picture is not None
        assert before.picture.startswith(b"\x89PNG")
        levels = [
            float(np.abs(soundfile.read(io.BytesIO(p.clip or b""))[0]).max())
            for p in (before, louder)
        ]
        assert levels[1] > 2 * levels[0]
    (only,) = left_out(after, [after.samples[1]], "audio")
    assert only.name == after.samples[1].id
    (tmp_path / "t.jsonl").write_text('{"id": "a", "text": "a cup"}\n{"id": "b", "text": "tea"}\n')
    texts = open_dataset(tmp_path / "t.jsonl")
    assert [(a.text, b.text) for a, b in changed(texts, texts, "text")] == [
        ("a cup", "a cup"), ("tea", "tea")
    ]  # fmt: skip


def test_every_sentence_of_a_correction_is_in_both_languages() -> None:
    """Whatever is said of it has a text: names of corrections, refusals, reasons."""
    from evalsuite.correct import SELECTIONS

    table = catalogue("en")
    names = (*correction_names(), *SELECTIONS)
    assert {n for n in names if f"correct.does.{n}" not in table} == set()


def test_every_refusal_is_translated() -> None:
    import ast

    from evalsuite.generators.correction import base

    said_by: dict[str, set[str]] = {}
    for source in Path(base.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "NotCorrectableError":
                assert len(node.args) == 2, ast.unparse(node)
                reason = ast.literal_eval(node.args[1])
                said_by[reason] = {str(k.arg) for k in node.keywords}
    assert len(said_by) > 10
    for reason, values in said_by.items():
        text = catalogue("en")[f"message.refused_{reason}"]
        assert set(re.findall(r"\{(\w+)", text)) <= values, reason


@pytest.mark.browser
def test_a_manager_sees_what_was_wrong_tried_refused_and_won(
    file: Path, visit: Callable[..., Any]
) -> None:
    page = visit(file, accept_downloads=True)
    assert page.locator("h1").inner_text() == "Improved"
    assert page.locator(".v-pass").count() == 1
    text = " ".join(page.locator("main").inner_text().split())
    for words in (
        "Gate: Fail before, Warning after",
        "Kernel distance (KID): gap 0.42 → 0.06 (efficientnet_lite0)",
        "0.42 [0.4, 0.45]",  # before, with its interval
        "0.06 [0.04, 0.09]",
        "1 [0.5, 1.5]",  # the floor
        "Correct the brightness with gain, gamma or histogram matching",
        "compression cannot be undone",
        "It raises the gap to the samples to fit on (0.1, with it 0.2)",
        "30 of 60 kept",
        "Labels are kept.",
        "80%",
        "3 samples could not be corrected",
        "evalsuite correct real dark --out fixed",
        "evalsuite generate recipe.yaml",
    ):
        assert words in text, words
    assert page.locator("a[href='before/report.html'], a[href='after/report.html']").count() == 2
    shots = page.locator(".shots.pairs .shot")
    assert shots.count() == 4
    left, right = (shots.first.locator("img").nth(i).bounding_box() for i in (0, 1))
    assert left["y"] == right["y"]
    assert left["x"] + left["width"] <= right["x"]
    # The rules of the policy are for KID: two looks, before and after, for the tolerance.
    drawn = page.evaluate("document.querySelector('[data-figure]').data.map(t => t.x)")
    assert drawn == [pytest.approx([8.4, 8.4]), pytest.approx([1.2, 1.2])]
    with page.expect_download() as info:
        page.locator("button[data-format=csv]").nth(2).click()
    assert info.value.suggested_filename == "evalsuite-correction-gaps-before-and-after-2.csv"
    rows = list(csv.DictReader(io.StringIO(info.value.path().read_text("utf-8-sig"))))
    assert [float(row["After"]) for row in rows] == [0.06, 0.3, 0.06, 0.3]


@pytest.mark.browser
def test_the_japanese_page_has_no_english_left(file: Path, visit: Callable[..., Any]) -> None:
    page = visit(file)
    page.click("[data-lang=ja]")
    text = page.locator("main").inner_text()
    assert page.locator("h1").inner_text() == "改善しました"
    names = (
        *(name for name, _ in (*found().skipped, *found().selections)), "match_sharpness",
        "match_histogram", "efficientnet_lite0", "random_conv", "conse", "solar cells", "evalsuite",
        "evalsuite correct real dark --out fixed", "generate recipe.yaml --input SYNTHETIC",
        "--out OUT", "corrected/metadata.jsonl", "CSV", "JSON", "JPEG", "KID", "Precision",
        "Coverage",
    )  # fmt: skip
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, " ")
    text = re.sub(r"cell \d(~0)?|\bsd\b", " ", text)
    assert re.findall(r"[A-Za-z]{2,}", text) == []


@pytest.mark.browser
@pytest.mark.parametrize("lang", ["en", "ja"])
def test_it_can_be_read_on_a_phone_by_day_and_by_night(
    file: Path, visit: Callable[..., Any], unreadable: Callable[[Any], list[Any]], lang: str
) -> None:
    page = visit(file, PHONE, has_touch=True, is_mobile=True, color_scheme="light")
    page.click(f"[data-lang={lang}]")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert unreadable(page) == []
    page.emulate_media(color_scheme="dark")
    assert unreadable(page) == []


@pytest.mark.browser
def test_hostile_text_does_nothing(tmp_path: Path, visit: Callable[..., Any]) -> None:
    result = replace(
        found(HOSTILE), command=HOSTILE, labels_kept=None, verdict_before="fail",
        reasons=(Message(id="nobody_knows", text=HOSTILE),),
        labels_unjudged=Message(id="nor_this", text=HOSTILE),
        drifted=(Drifted(HOSTILE, 1.0, HOSTILE, (HOSTILE,)),),
        selections=((HOSTILE, (Message(id="no", text=HOSTILE),)),),
        comparisons=(replace(found().comparisons[0], encoder=HOSTILE, unit=HOSTILE),),
    )  # fmt: skip
    sound = clip(np.zeros(800, np.float32), 8000)
    shown = [
        (Preview(HOSTILE, jpeg(1), sound, HOSTILE), Preview(HOSTILE, b"<svg onload=alert(1)>"))
    ]
    files = write_correction(result, tmp_path, changed=shown, left_out=[shown[0][0]])
    page = visit(files[1])
    for lang in ("ja", "en"):
        page.click(f"[data-lang={lang}]")
        assert "pwned" not in page.title()
        assert page.locator("main script, main iframe, main img:not([src^=data])").count() == 0
        assert page.locator("audio").count() == 2
        kinds = page.locator("main img, main audio").evaluate_all(
            "n => n.map(e => e.src.slice(0, 15))"
        )
        assert set(kinds) == {"data:image/jpeg", "data:audio/ogg;"}
        handlers = "n => n.filter(e => [...e.attributes].some(a => /^on/.test(a.name))).length"
        assert page.locator("*").evaluate_all(handlers) == 0
        assert HOSTILE[:20] in page.locator("main").inner_text()


def test_texts_are_shown_and_what_is_redacted_is_not(tmp_path: Path) -> None:
    texts = [(Preview("t1", text="a dark cell"), Preview("t1~0", text="A dark cell."))]
    page = body(render_correction(found(), texts))
    assert '<q class="said">a dark cell</q>' in page
    assert '<q class="said">A dark cell.</q>' in page
    write_correction(found("real"), tmp_path, changed=texts, left_out=pairs()[0], redact=True)
    hidden = body((tmp_path / "correction.html").read_text("utf-8"))
    assert "dark cell" not in hidden
    assert "data:image/" not in hidden
    assert "Names and samples are left out" in hidden


def test_the_recipe_and_the_json_can_be_read_back(tmp_path: Path) -> None:
    files = write_correction(found(), tmp_path, lang="ja")
    assert [f.name for f in files] == [
        "correction.json", "correction.html", "summary.md", "recipe.yaml"
    ]  # fmt: skip
    assert '<html lang="ja">' in body(files[1].read_text("utf-8"))
    recipe = parse_recipe(files[3].read_text("utf-8"))
    assert recipe.seed == 7
    assert recipe.operation().name == "match_sharpness"
    stored = json.loads(files[0].read_text("utf-8"))
    first = Message.model_validate(stored["reasons"][0])
    assert Translator("ja").message(first).startswith("カーネル距離(KID): ギャップ 0.42 → 0.06")
    assert stored["comparisons"][0]["measured"][1]["floor"] == [0.5, 1.0, 1.5]
    nothing = replace(found(), corrections=(), comparisons=(), verdict_after=None, improved=False)
    assert "recipe.yaml" not in [f.name for f in write_correction(nothing, tmp_path / "n")]
    assert "Not improved" in body((tmp_path / "n" / "correction.html").read_text("utf-8"))


@pytest.mark.parametrize(
    ("improved", "after", "status"),
    [(True, "pass", "pass"), (True, "fail", "warn"), (False, "pass", "fail")],
)
def test_an_improved_set_that_the_gate_refuses_is_no_pass(
    improved: bool, after: str, status: str
) -> None:
    page = body(render_correction(replace(found(), improved=improved, verdict_after=after)))
    assert f'class="verdict v-{status}"' in page
