"""What mkdocs is told beyond mkdocs.yml: results and metrics are pages too, none is left out."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

import metric_pages  # mkdocs finds what lies beside this file
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
RESULTS = "results"
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def _results() -> list[str]:
    found = (ROOT / RESULTS).rglob("*")
    kinds = {".md", ".svg", ".csv", ".png"}
    return sorted(p.relative_to(ROOT).as_posix() for p in found if p.suffix in kinds)


def _named(nav: Any) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    items = nav.values() if isinstance(nav, dict) else nav
    return set().union(*(_named(item) for item in items))


def on_config(config: Any) -> Any:
    """Name the pages of metrics; put others under "More", and results under "Results"."""
    for item in config.nav:
        if "Each metric" in item:
            item["Each metric"] = metric_pages.navigation()
    pages = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    if more := sorted(pages - _named(config.nav)):
        config.nav.append({"More": list(more)})
    config.nav.append({"Results": [name for name in _results() if name.endswith(".md")]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Take the results, which lie beside docs/, and the pages of metrics into the site."""
    for name in _results():
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    for name, text in metric_pages.pages().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Point links at where things are in the site; what is not in it is named, not linked."""
    here = page.file.src_uri
    if here == "metrics.md":
        markdown = metric_pages.linked(markdown)
    # In the repository docs/ and results/ stand side by side; in the site results/ is inside.
    place = here if here.startswith(f"{RESULTS}/") else f"docs/{here}"

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if "://" in target or target.startswith(("mailto:", "#")):
            return match[0]
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        inside = wanted.removeprefix("docs/") if wanted.startswith("docs/") else wanted
        known = wanted.startswith("docs/") or files.get_file_from_path(wanted) is not None
        if not known and (ROOT / wanted).exists():
            return text
        return f"[{text}]({posixpath.relpath(inside, posixpath.dirname(here) or '.')}{anchor})"

    return _LINK.sub(link, markdown)
