"""The raters' page in a real browser: rated by mouse and keys, saved, and scored."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.errors import DataError
from evalsuite.study.design import new_study, read_key
from evalsuite.study.score import score_study

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser


@contextlib.contextmanager
def opened(chromium: Any, file: Path, context: Any = None) -> Iterator[Any]:
    """Open the page with the network cut, and check in the end that it kept to itself."""
    own = context or chromium.new_context(offline=True, accept_downloads=True)
    page = own.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda r: requests.append(r.url))
    page.on("console", lambda m: complaints.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda e: complaints.append(f"error: {e}"))
    page.add_init_script(
        "addEventListener('securitypolicyviolation', "
        "e => console.log('violates', e.violatedDirective, e.blockedURI))"
    )
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)
    yield page
    assert [u for u in requests if not u.startswith(("data:", "blob:"))] == [file.as_uri()]
    assert complaints == []
    page.close()
    if context is None:
        own.close()


def start(page: Any, name: str) -> None:
    page.fill("#rater", name)
    page.keyboard.press("Enter")
    page.wait_for_selector("#trial:not([hidden])")


def shown(page: Any) -> str:
    """The picture on the screen; which trial it is only the key knows."""
    return str(page.locator("#items img").first.get_attribute("src"))


def save(page: Any, button: str, folder: Path) -> Path:
    with page.expect_download() as download:
        page.click(button)
    file = folder / download.value.suggested_filename
    download.value.save_as(file)
    return file


def test_marks_by_keys_and_clicks_are_scored(
    chromium: Any, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(pictures, tmp_path / "s", kind="mos", n=5, seed=3)
    page_data = json.loads(
        (tmp_path / "s" / "study.html").read_text().split('id="data">')[1].split("</script>")[0]
    )
    token = {item["image"]: name for name, item in page_data["items"].items()}
    given: dict[str, dict[str, int]] = {}
    files = []
    orders = []
    for rater in ("Ann", "Béla <b>", "Chie"):
        given[rater], order = {}, []
        with opened(chromium, tmp_path / "s" / "study.html") as page:
            start(page, rater)
            for k in range(len(key.trials)):
                item = token[shown(page)]
                order.append(item)
                what = key.items[item]
                mark = 1 if what.spoiled else 5 if what.set == "camera" else 2
                given[rater][item] = mark
                assert page.locator("#next").is_disabled()
                if k % 2:
                    page.keyboard.press(str(mark))
                    page.keyboard.press("Enter")
                else:
                    page.click(f'input[value="{mark}"]')
                    page.click("#next")
            page.wait_for_selector("#done:not([hidden])")
            files.append(save(page, "#save", tmp_path))
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]
    saved = json.loads(files[1].read_text())
    assert saved["rater"] == "Béla <b>"
    assert saved["complete"] is True
    by_trial = {v["trial"]: v["choice"] for v in saved["votes"]}
    for name, trial in key.trials.items():
        assert by_trial[name] == given["Béla <b>"][trial.items[0]]
    # A test answers faster than anybody could: the screening is to say so.
    with pytest.raises(DataError, match="screening leaves no rater"):
        score_study(tmp_path / "s", files)
    found = score_study(tmp_path / "s", files, keep_all=True)
    assert all(r.reasons == ("speed",) for r in found.raters)
    assert {s.set: s.estimate.value for s in found.scores} == {"camera": 5.0, "diffusion": 2.0}
    assert found.contrasts[0].estimate.value == -3.0
    assert found.agreement.value == 1.0
    assert [(r.catch_passed, r.catch_shown) for r in found.raters] == [(3, 3)] * 3


def test_progress_is_kept_and_a_vote_can_be_changed(
    chromium: Any, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(pictures, tmp_path / "s", kind="label", n=4, seed=1, lang="ja")
    file = tmp_path / "s" / "study.html"
    context = chromium.new_context(offline=True, accept_downloads=True)
    with opened(chromium, file, context) as page:
        assert page.locator("html").get_attribute("lang") == "ja"
        start(page, "r1")
        assert "ラベル" in page.locator(".item .label").inner_text()
        for _ in range(2):
            page.keyboard.press("1")
            page.keyboard.press("Enter")
        third = shown(page)
    with opened(chromium, file, context) as page:
        start(page, "r1")
        assert "2" in page.locator("#notice").inner_text()
        assert shown(page) == third
        page.keyboard.press("Backspace")
        assert page.locator('input[value="1"]').is_checked()
        page.keyboard.press("0")
        page.keyboard.press("Enter")
        part = json.loads(save(page, "#part", tmp_path).read_text())
    context.close()
    assert [v["choice"] for v in part["votes"]] == [1, 0]
    assert part["complete"] is False
    assert {v["trial"] for v in part["votes"]} < set(key.trials)


def test_it_goes_on_where_the_browser_keeps_nothing(
    chromium: Any, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    new_study(pictures, tmp_path / "s", kind="real-or-synthetic", n=2, seed=1)
    context = chromium.new_context(offline=True, accept_downloads=True)
    context.add_init_script(
        "Storage.prototype.setItem = () => { throw new DOMException('no', 'QuotaExceededError') }"
    )
    with opened(chromium, tmp_path / "s" / "study.html", context) as page:
        start(page, "r1")
        page.keyboard.press("1")
        page.keyboard.press("Enter")
        assert "keeps no progress" in page.locator("#notice").inner_text()
        part = json.loads(save(page, "#part", tmp_path).read_text())
    context.close()
    assert len(part["votes"]) == 1


def test_pairs_of_recordings_must_be_heard_and_sides_do_not_matter(
    chromium: Any, recordings: tuple[Path, Path], tmp_path: Path
) -> None:
    key = new_study(recordings, tmp_path / "s", kind="ab", n=4, seed=2)
    assert key.paired_by == "id"
    assert key.modalities == ("audio", "text")
    text = (tmp_path / "s" / "study.html").read_text()
    page_data = json.loads(text.split('id="data">')[1].split("</script>")[0])
    token = {item["audio"]: name for name, item in page_data["items"].items()}
    files, turned = [], []
    for rater in ("r1", "r2", "r3"):
        with opened(chromium, tmp_path / "s" / "study.html") as page:
            start(page, rater)
            for _ in range(len(key.trials)):
                sounds = page.locator("#items audio")
                tokens = [token[str(sounds.nth(i).get_attribute("src"))] for i in range(2)]
                items = [key.items[t] for t in tokens]
                if any(i.spoiled for i in items):
                    left = items[1].spoiled
                else:
                    left = items[0].set == "human"
                page.keyboard.press("1" if left else "2")
                assert page.locator("#next").is_disabled()
                for _ in range(2):
                    page.keyboard.press("p")
                    page.wait_for_timeout(60)
                page.wait_for_selector("#next:not([disabled])")
                assert "<b>" in page.locator(".item .text").first.inner_text() or any(
                    i.spoiled for i in items
                )
                page.keyboard.press("Enter")
            files.append(save(page, "#save", tmp_path))
        turned += [v["turned"] for v in json.loads(files[-1].read_text())["votes"]]
    assert 0 < sum(turned) < len(turned)
    found = score_study(tmp_path / "s", files, keep_all=True)
    (contrast,) = found.contrasts
    assert (contrast.first, contrast.estimate.value) == ("human", 1.0)
    assert found.strengths == ()
    assert "never won" in (found.strengths_why or "")
    assert all(r.catch_passed == r.catch_shown == 3 for r in found.raters)


def test_a_phone_shows_all_and_the_page_tells_nothing(
    chromium: Any, pictures: tuple[Path, Path], tmp_path: Path
) -> None:
    new_study(pictures, tmp_path / "s", kind="ab", n=3, seed=1, names=["secretA", "secretB"])
    file = tmp_path / "s" / "study.html"
    text = file.read_text()
    for word in ("secretA", "secretB", "camera", "diffusion", "s0_", "s3_", "spoiled", "passes"):
        assert word not in text
    assert "secretA" in (tmp_path / "s" / "key.json").read_text()
    assert read_key(tmp_path / "s").kind == "ab"
    context = chromium.new_context(offline=True, viewport={"width": 390, "height": 844})
    with opened(chromium, file, context) as page:
        start(page, "r1")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 390
        assert page.locator("#items img").count() == 2
        first: Callable[[], str] = lambda: str(page.evaluate("document.activeElement.tagName"))  # noqa: E731
        seen = set()
        for _ in range(12):
            page.keyboard.press("Tab")
            seen.add(first())
        assert {"INPUT", "BUTTON"} <= seen
    context.close()
