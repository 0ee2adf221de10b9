"""`evalsuite plugins`: what other distributions bring."""

from __future__ import annotations

from collections import Counter

import typer

plugins_app = typer.Typer(
    no_args_is_help=True, help="Metrics, encoders and generators of other distributions."
)


@plugins_app.callback()
def _group() -> None:
    """Keep `list` a command of its own."""


@plugins_app.command("list")
def plugins_list() -> None:
    """List the plugins of this environment: kind, name, distribution, entry point.

    None of their code runs: a plugin is imported when a policy or a recipe names it.
    """
    from .plugins import installed
    from .report.text import clean

    found = installed()
    if not found:
        typer.echo("no distribution of this environment offers a plugin")
        return
    offers = Counter((p.kind, p.name) for p in found)
    taken = {"metric": _metric_names(), "encoder": _encoder_names(), "generator": _operations()}
    for plugin in found:
        note = ""
        if plugin.name in taken[plugin.kind]:
            note = "  never used: the name is evalsuite's own"
        elif offers[plugin.kind, plugin.name] > 1:
            note = "  cannot be used: several distributions offer the name"
        owner = clean(f"{plugin.distribution} {plugin.version}", 120)
        name, target = clean(plugin.name, 80), clean(plugin.target, 160)
        typer.echo(f"{plugin.kind:9}  {name:24}  {owner:32}  {target}{note}")


def _metric_names() -> frozenset[str]:
    from .pipeline.run import JUDGED

    return frozenset(JUDGED)


def _encoder_names() -> frozenset[str]:
    from .encoders.external import BUILT_IN

    return BUILT_IN


def _operations() -> frozenset[str]:
    from . import hops  # noqa: F401 - makes its operations known
    from .generators import operation_names

    return frozenset(operation_names())
