"""``report.html``: one file that holds all it needs and may load nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .i18n import LANGUAGES, Translator, catalogue
from .render import result_id
from .text import clean, number
from .view import (
    SHOWN_FIRST,
    attributes_view,
    chain_view,
    embed_clips,
    embed_thumbnails,
    encode,
    findings_view,
    galleries_view,
    learning_view,
    maps_view,
    message_view,
    next_steps,
    reasons_view,
    slices_view,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Template

    from ..gate.findings import DatasetSummary, EncoderSummary, GateResult
    from .view import Note

MAX_BYTES = 15_000_000
"""No page is larger, whatever the result holds."""

THUMBNAILS_BYTES = 4_000_000
CLIPS_BYTES = 4_000_000


def render_html(
    result: GateResult,
    *,
    thumbnails: Mapping[tuple[str, str], bytes] | None = None,
    clips: Mapping[tuple[str, str], bytes] | None = None,
    lang: str = "en",
    redact: bool = False,
    ident: str | None = None,
) -> str:
    """Give the report as one HTML page.

    The page works from a file with no network. Its Content-Security-Policy allows only its own
    scripts and styles (by hash) and pictures that stand in it. Text from data is data in it, never
    markup. Points, pictures and findings are bounded, and the page says where it leaves some out.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    thumbnails : mapping of (side, sample) to bytes, optional
        Small PNG, JPEG, WebP or GIF files; side is "real" or "synthetic".
    clips : mapping of (side, sample) to bytes, optional
        Short recordings that the galleries play: Ogg, MP3, FLAC or WAVE.
    lang : {"en", "ja"}
        The language that the page starts in; it can be switched in the page.
    redact : bool
        Leave out thumbnails, sample names and text from the data.
    ident : str, optional
        The result's id, where it is known already; with ``redact``, that of the redacted one.

    Returns
    -------
    str
        The page, at most :data:`MAX_BYTES` bytes in UTF-8.

    Raises
    ------
    UsageError
        If there is no such language.
    """
    from .redact import redact_result

    tr = Translator(lang)
    if redact:
        result, thumbnails, clips = redact_result(result), None, None
    notes: list[Note] = []
    maps = maps_view(result.maps, notes)
    galleries = galleries_view(result.galleries, notes)
    data: dict[str, Any] = {
        "lang": lang,
        "id": ident or result_id(result),
        "statuses": [s.value for s in SHOWN_FIRST],
        "findings": findings_view(result.findings, notes),
        "attributes": attributes_view(result, notes),
        "learning": learning_view(result),
        "chain": chain_view(result),
        "maps": maps,
        "galleries": galleries,
        "text": {code: catalogue(code) for code in LANGUAGES},
    }
    style, scripts = styles(), _scripts()
    context = {
        "tr": tr,
        "result": result,
        "id": data["id"],
        "csp": content_security_policy(style, scripts),
        "styles": style,
        "scripts": scripts,
        "counts": {s.value: sum(f.status is s for f in result.findings) for s in SHOWN_FIRST},
        "reasons": reasons_view(result.reasons),
        "explanations": [(message_view(m), m) for m in result.explanations[:5]],
        "steps": next_steps(result),
        "datasets": [_dataset(d) for d in (result.real, result.synthetic)],
        "encoders": [_encoder(e) for e in result.encoders[:20]],
        "policy": _pretty(result.policy, 20_000),
        "calibration": _pretty(result.calibration, 4_000) if result.calibration else "",
        "times": _pretty(result.times, 4_000) if result.times else "",
        "versions": {clean(k, 60): clean(v, 60) for k, v in sorted(result.versions.items())[:60]},
        "command": clean(result.command, 8_000),
        "redacted": redact,
        "slices": slices_view(result, notes),
        "has": {
            "maps": bool(maps),
            "galleries": bool(galleries),
            "learning": bool(data["learning"]),
            "chain": bool(data["chain"]),
        },
        "has_attributes": bool(data["attributes"]),
        "clean": clean,
        "known": catalogue("en"),
        "number": number,
        "json": lambda value: json.dumps(value, ensure_ascii=False),
    }
    template = _template()
    # The pictures take what the rest leaves; only then is the list of what is left out complete.
    rough = len(template.render(**context, notes=notes, data="", thumbs="", clips="").encode())
    left = MAX_BYTES - rough - len(encode(data).encode()) - 200_000
    thumbs = embed_thumbnails(
        maps, galleries, thumbnails or {}, max(0, min(THUMBNAILS_BYTES, left)), notes
    )
    left -= len(encode(thumbs))
    sounds = embed_clips(maps, galleries, clips or {}, max(0, min(CLIPS_BYTES, left)), notes)
    data["notes"] = notes
    return template.render(
        **context, notes=notes, data=encode(data), thumbs=encode(thumbs), clips=encode(sounds)
    )


def _encoder(encoder: EncoderSummary) -> dict[str, str]:
    plain = encoder.model_dump(exclude={"preprocessing"})
    return {
        **{key: clean(str(value), 300) for key, value in plain.items()},
        "preprocessing": _pretty(encoder.preprocessing, 4_000),
    }


def _dataset(data: DatasetSummary) -> dict[str, Any]:
    def top(counts: dict[str, int], limit: int) -> list[tuple[str, int]]:
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [(clean(k, 80), n) for k, n in ordered[:limit]]

    return {
        "role": data.role,
        "name": clean(data.name, 300),
        "format": clean(data.format, 80),
        "fingerprint": clean(data.fingerprint, 100),
        "n_found": data.n_found,
        "n_used": data.n_used,
        "problems": top(data.problems, 40),
        "examples": [
            (clean(p.sample, 200), clean(p.kind, 60), clean(p.detail, 300))
            for p in data.problem_examples[:100]
        ],
        "labels": top(data.labels, 30),
        "more_labels": max(0, len(data.labels) - 30),
        "groups": data.groups,
        "modalities": list(data.modalities.items()),
        "notes": top(data.notes, 40),
        "ignored": top(data.ignored, 40),
    }


def _pretty(value: Any, limit: int) -> str:
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True, default=str)
    lines = [clean(line, 300) if line.strip() else "" for line in text[:limit].split("\n")]
    indents = [len(line) - len(line.lstrip()) for line in text[:limit].split("\n")]
    body = "\n".join(" " * n + line for n, line in zip(indents, lines, strict=True))
    return body if len(text) <= limit else body + "\n…"


def asset(folder: str, name: str) -> str:
    """Read a file of this package."""
    return resources.files(__package__).joinpath(folder, name).read_text("utf-8")


@cache
def plotly() -> str:
    """Read plotly.js out of the installed package, without importing it, which takes long."""
    spec = find_spec("plotly")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("the report needs plotly: run `pip install plotly`")
    folder = Path(next(iter(spec.submodule_search_locations)))
    text = (folder / "package_data" / "plotly.min.js").read_text("utf-8")
    return text.replace("\r\n", "\n").replace("</script", "<\\/script").replace("<!--", "<\\!--")


@cache
def _scripts() -> tuple[str, ...]:
    return plotly(), asset("assets", "files.js"), asset("assets", "report.js")


@cache
def styles() -> tuple[tuple[str, str], ...]:
    """Give (id, text) of each style element.

    Besides ours there are two that plotly.js would otherwise add itself, which the policy forbids:
    it leaves out the map's when an element of that id is there, and its own starts empty and is
    filled rule by rule, which is allowed.
    """
    found = re.search(r'getElementById\("([0-9a-f]{64})"\)', plotly())
    ours = ("report-style", asset("assets", "report.css"))
    return (ours, (found[1], "")) if found else (ours,)


def content_security_policy(styles: tuple[tuple[str, str], ...], scripts: tuple[str, ...]) -> str:
    """Give the policy of a page that may run these scripts, and load nothing."""

    def hashes(texts: set[str]) -> str:
        digests = sorted(base64.b64encode(hashlib.sha256(t.encode()).digest()) for t in texts)
        return " ".join(f"'sha256-{d.decode()}'" for d in digests)

    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {hashes(set(scripts))}",
            f"style-src {hashes({text for _, text in styles} | {''})}",
            "img-src data:",
            "media-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("templates", "report.html.j2"))
