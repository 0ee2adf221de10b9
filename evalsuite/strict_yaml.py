"""YAML that people edit: policies and recipes. Safe, small, and strict about what was written."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from .errors import UsageError

MAX_BYTES = 200_000


class _RefusedError(Exception):
    """What is YAML, but not allowed here."""


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases (which can blow up) and without keys given twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            line = self.get_mark().line + 1
            raise _RefusedError(f"line {line}: YAML aliases (*name) are refused")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(getattr(key, "value", key))
            if name in seen:
                line = key.start_mark.line + 1
                raise _RefusedError(f"line {line}: the key {name!r} stands twice")
            seen.add(name)
        return super().construct_mapping(node, deep=deep)


def read_mapping(text: str, where: str, error: type[UsageError]) -> dict[Any, Any]:
    """Read YAML text that must be a mapping.

    Parameters
    ----------
    text : str
        The YAML.
    where : str
        What to call it in an error.
    error : type
        The error to raise.
    """
    try:
        data = yaml.load(text, Loader=_Loader)  # noqa: S506 - _Loader is a SafeLoader
    except _RefusedError as refused:
        raise error(f"{where}: {refused}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as wrong:
        raise error(f"{where} is not YAML: {' '.join(str(wrong).split())[:300]}") from None
    if not isinstance(data, dict):
        raise error(f"{where} must be a mapping of keys, got {type(data).__name__}")
    return data


def read_text(path: str | Path, what: str, error: type[UsageError]) -> str:
    """Read a file that people write; it is small UTF-8 text, or an error that says what it is."""
    file = Path(path)
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise error(f"{file} is larger than {MAX_BYTES:,} bytes: is it a {what}?")
        return raw.decode("utf-8-sig")
    except OSError as wrong:
        raise error(f"cannot read the {what} {file}: {wrong.strerror}") from None
    except UnicodeDecodeError as wrong:
        raise error(f"{file} is not UTF-8 text: {wrong.reason}") from None
