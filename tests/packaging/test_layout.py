"""The real folders, the package list, and what a wheel made of them holds."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_package_list_equals_the_folders_on_disk() -> None:
    homes = {
        "evalsuite": "evalsuite",
        "metrics": "evalsuite.metrics",
        "generators": "evalsuite.generators",
    }
    found = {
        ".".join([homes[parts[0]], *parts[1:-1]])
        for home in homes
        for file in (ROOT / home).rglob("__init__.py")
        if (parts := file.relative_to(ROOT).parts)
        and not any((ROOT / Path(*parts[:i])).is_symlink() for i in range(1, len(parts)))
    }
    assert found == set(CONFIG["tool"]["setuptools"]["packages"])


def test_every_package_folder_is_a_package() -> None:
    for home in ("evalsuite", "metrics", "generators"):
        for file in (ROOT / home).rglob("*.py"):
            assert (file.parent / "__init__.py").exists(), f"{file.parent} would not be shipped"


def test_links_lead_to_the_real_folders() -> None:
    for name in ("metrics", "generators"):
        assert (ROOT / name).is_dir()
        assert not (ROOT / name).is_symlink()
        assert (ROOT / "evalsuite" / name).readlink() == Path("..", name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    # From a copy without links, as a checkout on a system without them, and without leftovers.
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in files:
        if (ROOT / name).is_symlink() or not (ROOT / name).exists():
            continue
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation",
         "-w", out, source],
        check=True,
    )  # fmt: skip
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_every_module_once_and_no_bare_roots(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"evalsuite", f"evalsuite-{CONFIG['project']['version']}.dist-info"}
    for home in ("metrics", "generators"):
        for file in (ROOT / home).rglob("*.py"):
            assert f"evalsuite/{file.relative_to(ROOT)}" in names
    for name in ("evalsuite/py.typed", "evalsuite/gate/default.yaml"):
        assert name in names
    assert not any(name.startswith("evalsuite/tests") for name in names)


def test_wheel_installs_in_an_empty_environment_beside_a_users_own_metrics(
    wheel: Path, tmp_path: Path
) -> None:
    env = tmp_path / "env"
    venv.create(env, with_pip=True, symlinks=True)
    python = env / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True)
    home = tmp_path / "user"
    home.mkdir()
    for name in ("metrics", "generators"):
        (home / f"{name}.py").write_text("raise SystemExit('the user\\'s own file was run')\n")
    code = (
        "import sys, evalsuite, evalsuite.metrics, evalsuite.generators, evalsuite.errors\n"
        "assert 'metrics' not in sys.modules and 'generators' not in sys.modules\n"
        "print(evalsuite.metrics.__name__, evalsuite.__file__)\n"
    )
    said = subprocess.run(
        [python, "-c", code], cwd=home, check=True, capture_output=True, text=True
    ).stdout
    assert said.startswith("evalsuite.metrics ")
    assert str(env) in said
    # With the dependencies (borrowed from this environment) every module of the wheel imports.
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip
    (Path(site) / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    code = (
        "import importlib, pkgutil, sys, evalsuite\n"
        "names = [m.name for m in pkgutil.walk_packages(evalsuite.__path__, 'evalsuite.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "assert 'metrics' not in sys.modules and 'generators' not in sys.modules\n"
        "print(len(names), evalsuite.metrics.__file__)\n"
    )
    said = subprocess.run(
        [python, "-c", code], cwd=home, check=True, capture_output=True, text=True
    ).stdout
    assert int(said.split()[0]) > 20
    assert str(env) in said
