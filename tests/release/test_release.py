"""What is given to others: wheel, source distribution, site, citation, model cards, parts list."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml
from lxml import html

from evalsuite import __version__
from evalsuite.encoders import list_models
from evalsuite.metrics.catalogue import METRICS

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
DATA = {
    ".bin", ".ckpt", ".onnx", ".pt", ".pth", ".pkl", ".npz", ".npy", ".safetensors", ".parquet",
    ".wav", ".flac", ".mp3", ".jpg", ".jpeg", ".webp", ".tar", ".sqlite",
}  # fmt: skip
# A folder of the machine that built it; /dev, /proc and /tmp/… in texts are no secret.
PLACES = re.compile(rb"(?:/home/|/root/|/Users/|/work/|[A-Z]:\\\\Users)[\w.-]+")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and source distribution, from a copy of what git holds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    names = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in names:
        here = ROOT / name
        if here.is_symlink() or not here.is_file():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(here.read_bytes())
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, source],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def contents(path: Path) -> dict[str, bytes]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        files = [member for member in archive.getmembers() if member.isfile()]
        return {m.name: archive.extractfile(m).read() for m in files}  # type: ignore[union-attr]


def test_twine_accepts_both(built: dict[str, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "twine", "check", "--strict", *map(str, built.values())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_it_holds_code_and_no_data_weights_or_places(kind: str, built: dict[str, Path]) -> None:
    held = contents(built[kind])
    package = {name for name in held if not name.startswith("evalsuite-0") or kind == "sdist"}
    assert len(package) > 100
    assert not [n for n in package if Path(n).suffix.lower() in DATA and "/tests/" not in n]
    assert not [n for n in held if "__pycache__" in n or "/.git" in n or n.endswith((".pyc", "~"))]
    named = {name: m[0] for name, data in held.items() if (m := PLACES.search(data))}
    named = {n: m for n, m in named.items() if "/tests/" not in n and "/docs/" not in n}
    assert not named
    assert built[kind].stat().st_size < 20_000_000


def test_the_wheel_is_typed_and_complete(built: dict[str, Path]) -> None:
    held = contents(built["wheel"])
    names = set(held)
    assert "evalsuite/py.typed" in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    wanted = {"templates", "assets", "locale"}
    assert wanted <= {n.split("/")[2] for n in names if n.startswith("evalsuite/report/")}
    # Every file that the code opens beside itself is declared as package data.
    for home in ("evalsuite", "metrics", "generators"):
        for path in (ROOT / home).rglob("*"):
            parts = path.relative_to(ROOT).parts
            linked = any((ROOT / Path(*parts[:i])).is_symlink() for i in range(1, len(parts) + 1))
            if path.is_file() and not linked and "__pycache__" not in parts:
                inside = path.relative_to(ROOT).as_posix()
                shipped = inside if home == "evalsuite" else f"evalsuite/{inside}"
                assert shipped in names, f"{inside} is not in the wheel"
    metadata = Parser().parsestr(
        next(data for name, data in held.items() if name.endswith("/METADATA")).decode()
    )
    assert metadata["Version"] == __version__ == CONFIG["project"]["version"]
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert cited["cff-version"] == "1.2.0"
    assert cited["version"] == __version__
    assert cited["license"] == CONFIG["project"]["license"]
    assert {"title", "authors", "message", "type"} <= set(cited)


def test_every_model_has_its_card_with_licence_and_hash() -> None:
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    embedded = [row for row in list_models() if row.sha256 and row.licence != "no weights"]
    assert len(embedded) >= 7
    for model in embedded:
        (row,) = [line for line in rows if f"`{model.id}`" in line]
        assert f"`{model.sha256[:16]}…`" in row, model.id  # type: ignore[index]
        assert model.licence.split()[0].strip(",") in row, model.id


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def test_the_site_builds_strictly_with_every_page(site: Path) -> None:
    pages = {
        p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").rglob("*.md")
    }
    assert len(pages) > 20
    home = html.parse(str(site / "index.html"))
    linked = {Path(href) for href in home.xpath("//nav//a/@href")}
    for page in pages:
        assert (site / page).exists(), page
        assert page == Path("index.html") or page in linked, f"{page} is not in the navigation"
    assert (site / "results" / "robustness" / "fuzz.html").exists()
    for metric in METRICS:  # a page for each, made by docs/metric_pages.py
        assert (site / "each-metric" / f"{metric.name}.html").exists()
        assert Path("each-metric") / f"{metric.name}.html" in linked


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        tree = html.parse(str(page))
        loaded = tree.xpath("//script/@src | //link[@rel='stylesheet']/@href | //img/@src")
        assert not [where for where in loaded if "://" in where or where.startswith("//")], page


def test_the_reference_is_made_from_docstrings(site: Path) -> None:
    text = html.parse(str(site / "reference.html")).getroot().text_content()
    for name in (
        "evalsuite.pipeline.run.gate",
        "generate_folder",
        "frechet_distance",
        "PolicyError",
    ):
        assert name in text
    assert "Judge whether a synthetic set is near enough to the real one to be used." in text


def test_a_parts_list_names_every_dependency(tmp_path: Path) -> None:
    """The SBOM (CycloneDX) of an installation: ``python -m cyclonedx_py environment``."""
    out = tmp_path / "sbom.json"
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject",
         str(ROOT / "pyproject.toml"), "--output-format", "JSON", "-o", str(out)],
        check=True, capture_output=True,
    )  # fmt: skip
    parts = json.loads(out.read_text("utf-8"))
    assert parts["bomFormat"] == "CycloneDX"
    named = {part["name"].lower().replace("_", "-") for part in parts["components"]}
    for wanted in CONFIG["project"]["dependencies"]:
        assert re.split(r"[\[>=<;!~ ]", wanted)[0].lower() in named
