"""What a script reads: no end of a command may be taken for another."""

from __future__ import annotations

import pytest

from evalsuite import cli


def test_a_crash_is_no_verdict(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Python's own exit code would be 1, which says that the data failed."""

    def crash() -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(cli, "app", crash)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 3
    said = capsys.readouterr().err
    assert "RuntimeError: a fault" in said
    assert said.rstrip().endswith(
        "error: this is a fault of evalsuite, please report it with the lines above"
    )
