"""From a result to pages and files that people and machines read.

Everything here is made from a :class:`~evalsuite.gate.findings.GateResult` and from nothing else.
The public names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .html import render_html as render_html
    from .junit import render_junit as render_junit
    from .markdown import render_markdown as render_markdown
    from .redact import redact_result as redact_result
    from .render import read_result as read_result
    from .render import result_json as result_json
    from .render import write_outputs as write_outputs

__all__ = [
    "read_result",
    "redact_result",
    "render_html",
    "render_junit",
    "render_markdown",
    "result_json",
    "write_outputs",
]

_LAZY = {
    "read_result": ".render",
    "redact_result": ".redact",
    "render_html": ".html",
    "render_junit": ".junit",
    "render_markdown": ".markdown",
    "result_json": ".render",
    "write_outputs": ".render",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
