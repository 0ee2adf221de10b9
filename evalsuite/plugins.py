"""Metrics, encoders and generators of other distributions, found by their entry points.

Looking for a plugin reads the metadata of installed distributions and runs none of their code. A
plugin is imported only when a policy, a recipe or a caller names it. Names that evalsuite itself
has are looked up first, so that no plugin can take the place of a built-in.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import Distribution, EntryPoint, entry_points
from typing import Any, Final, Literal, TypeAlias

from .errors import PluginError

Kind: TypeAlias = Literal["metric", "encoder", "generator"]

GROUPS: Final[dict[Kind, str]] = {
    "metric": "evalsuite.metrics",
    "encoder": "evalsuite.encoders",
    "generator": "evalsuite.generators",
}
"""Kind of plugin to the group of its entry points."""


@dataclass(frozen=True, slots=True)
class Plugin:
    """One entry point of an installed distribution; its code has not run.

    Attributes
    ----------
    kind : {"metric", "encoder", "generator"}
    name : str
        What policies and recipes call it.
    target : str
        ``module:attribute`` that the entry point leads to.
    distribution, version : str
        What brought it.
    """

    kind: Kind
    name: str
    target: str
    distribution: str
    version: str

    def __str__(self) -> str:
        return (
            f"entry point {self.name!r} ({self.target}) of group {GROUPS[self.kind]!r} in "
            f"distribution {self.distribution} {self.version}"
        )


def installed(kind: Kind | None = None) -> tuple[Plugin, ...]:
    """List the plugins of this environment, without importing any.

    Parameters
    ----------
    kind : {"metric", "encoder", "generator"}, optional
        All three by default.

    Returns
    -------
    tuple of Plugin
        By kind, name and distribution.
    """
    kinds = tuple(GROUPS) if kind is None else (kind,)
    found = {_plugin(k, point) for k in kinds for point in entry_points(group=GROUPS[k])}
    return tuple(sorted(found, key=lambda p: (p.kind, p.name, p.distribution, p.version)))


def _plugin(kind: Kind, point: EntryPoint) -> Plugin:
    owner: Distribution | None = point.dist
    return Plugin(
        kind=kind,
        name=point.name,
        target=point.value,
        distribution=owner.name if owner else "unknown",
        version=owner.version if owner else "unknown",
    )


def find(kind: Kind, name: str) -> Plugin | None:
    """Find the plugin of a name, without importing it; None where there is none.

    The caller has looked among the built-in names before: they come first.

    Raises
    ------
    PluginError
        If several distributions offer the name: which one is meant would depend on the order of
        installation.
    """
    found = [plugin for plugin in installed(kind) if plugin.name == name]
    if len(found) > 1:
        owners = " and ".join(f"{p.distribution} {p.version}" for p in found)
        raise PluginError(
            f"the {kind} {name!r} is offered by {owners}: uninstall all but one of them"
        )
    return found[0] if found else None


def load(plugin: Plugin) -> Any:
    """Import what a plugin's entry point leads to: this runs its code.

    Raises
    ------
    PluginError
        If it cannot be imported, whatever it raises; the distribution and the entry point are
        named.
    """
    point = EntryPoint(plugin.name, plugin.target, GROUPS[plugin.kind])
    try:
        return point.load()
    except Exception as error:  # code of others: it may raise anything
        raise broken(plugin, f"{type(error).__name__}: {error}") from error


def broken(plugin: Plugin, why: str) -> PluginError:
    """Make the error of a plugin that is not what it should be."""
    return PluginError(f"{plugin} is broken: {why}; mend or uninstall {plugin.distribution}")
