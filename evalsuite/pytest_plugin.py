"""A pytest fixture that gates data: a test that fails says why, in the report's words.

``pip install evalsuite`` is enough: pytest finds it as the entry point ``evalsuite``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from .errors import UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable
    from pathlib import Path

    from .gate.findings import GateResult

_SHOWN = 10


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("evalsuite")
    group.addoption(
        "--gap-policy", default=None, help="policy file for gap_gate; without it the default one"
    )
    group.addoption(
        "--gap-report", default=None, help="folder for the reports of gap_gate; one for each gate"
    )


@pytest.fixture
def gap_gate(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., GateResult]:
    """Give a function that gates a synthetic set against a real one, and fails the test.

    ``gap_gate(real, synthetic, policy=None, allow=("pass", "warn"), **options)`` runs
    :func:`evalsuite.gate`, writes its report, and fails the test if the verdict is none of
    ``allow``. It returns the result, so that the test can ask more of it.
    """
    count = 0

    def run(
        real: str | os.PathLike[str],
        synthetic: str | os.PathLike[str],
        *,
        policy: Any = None,
        allow: tuple[str, ...] = ("pass", "warn"),
        **options: Any,
    ) -> GateResult:
        nonlocal count
        from .gate.findings import Status
        from .pipeline.run import gate
        from .report.i18n import Translator

        unknown = set(allow) - {s.value for s in Status if s is not Status.INFO}
        if unknown or not allow:
            named = ", ".join(sorted(unknown)) or "it is empty"
            raise UsageError(f"allow must name verdicts, as pass and warn: {named}")
        count += 1
        out = _folder(request, tmp_path, count)
        chosen = policy if policy is not None else request.config.getoption("--gap-policy")
        result = gate(real, synthetic, policy=chosen, out=out, **options)
        if result.verdict.value not in allow:
            tr = Translator("en")
            told = [f"{r.status.value}: {tr.message(r.message)}" for r in result.reasons[:_SHOWN]]
            more = len(result.reasons) - _SHOWN
            told += [f"and {more} more"] if more > 0 else []
            pytest.fail(
                f"the gate ended in {result.verdict.value}\n"
                + "\n".join(f"  {line}" for line in told)
                + f"\nreport: {out / 'report.html'}",
                pytrace=False,
            )
        return result

    return run


def _folder(request: pytest.FixtureRequest, tmp_path: Path, count: int) -> Path:
    from pathlib import Path as Folder

    home = request.config.getoption("--gap-report")
    if home is None:
        return tmp_path / f"gap-{count}"
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", request.node.nodeid).strip("._") or "test"
    return Folder(home) / f"{name[-150:]}-{count}"
