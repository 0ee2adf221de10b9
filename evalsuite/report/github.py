"""GitHub Actions: the job's summary, annotations, and outputs for later steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import DataError
from ..gate.findings import Status
from .i18n import Translator
from .markdown import render_markdown
from .redact import redact_result
from .render import result_id
from .text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..gate.findings import GateResult

SUMMARY_LIMIT = 1_048_576
"""Bytes that GitHub takes of one step's summary; it drops a longer one whole."""
ANNOTATIONS = 10
"""GitHub shows at most ten errors and ten warnings of a step."""

_COMMAND = {
    Status.ERROR: "error",
    Status.FAIL: "error",
    Status.INCONCLUSIVE: "error",
    Status.WARN: "warning",
}


def github_outputs(
    result: GateResult,
    *,
    lang: str = "en",
    redact: bool = False,
    environment: Mapping[str, str] | None = None,
) -> list[str]:
    """Append the summary and the step's outputs, and give the annotations to print.

    The summary goes to the file that ``GITHUB_STEP_SUMMARY`` names, if there is still room for it
    under GitHub's limit; where there is not, a line says so. ``verdict``, ``exit-code`` and
    ``result-id`` go to that of ``GITHUB_OUTPUT``. Outside of GitHub neither is set, and only
    annotations come of it.

    Parameters
    ----------
    result : GateResult
    lang : {"en", "ja"}
        Of the summary.
    redact : bool
        Leave names and text from the data out, as the report does.
    environment : mapping, optional
        In place of ``os.environ``.

    Returns
    -------
    list of str
        Lines for standard output: ``::error title=…::…`` for whatever keeps the verdict from being
        a pass, ``::warning …`` for warnings, at most ten of each. Text from data cannot end a line
        or start a command of its own.

    Raises
    ------
    DataError
        If one of the files cannot be written.
    """
    if redact:
        result = redact_result(result)
    env = os.environ if environment is None else environment
    summary = env.get("GITHUB_STEP_SUMMARY")
    if summary:
        text = render_markdown(result, lang=lang) + "\n"
        note = f"evalsuite: {result.verdict.value}; no room is left for its summary\n"
        _append(Path(summary), text, SUMMARY_LIMIT, note)
    outputs = env.get("GITHUB_OUTPUT")
    if outputs:
        lines = (
            f"verdict={result.verdict.value}",
            f"exit-code={result.exit_code}",
            f"result-id={result_id(result)}",
        )
        _append(Path(outputs), "\n".join(lines) + "\n")
    return annotation_lines(result)


def annotation_lines(result: GateResult) -> list[str]:
    """Give the annotations of a result, the most important first."""
    tr = Translator("en")
    lines: list[str] = []
    counts = {"error": 0, "warning": 0}
    for reason in result.reasons:
        command = _COMMAND.get(reason.status)
        if command is None or counts[command] == ANNOTATIONS:
            continue
        counts[command] += 1
        title = _property(f"evalsuite: {reason.status.value}")
        waived = f" {tr.waived(reason.waiver)}" if reason.waiver else ""
        lines.append(f"::{command} title={title}::{_data(tr.message(reason.message) + waived)}")
    return lines


def _data(text: str) -> str:
    """Escape a workflow command's message; ``clean`` has put it on one line already."""
    return clean(text, 1000).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _append(file: Path, text: str, limit: int | None = None, note: str = "") -> None:
    data = text.encode()
    try:
        if limit is not None:
            there = file.stat().st_size if file.exists() else 0
            if there + len(data) > limit:
                data = note.encode()
            if there + len(data) > limit:
                return
        with file.open("ab") as stream:
            stream.write(data)
    except OSError as error:
        raise DataError(f"cannot write {file}: {error.strerror}") from None
