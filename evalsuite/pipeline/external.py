"""Metrics and encoders of other distributions that a policy names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from .. import plugins
from ..encoders.external import BUILT_IN
from ..gate.findings import PluginSummary

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..gate.policy import Policy
    from ..metrics.pair import PairMetric


@dataclass(frozen=True, slots=True)
class Plugged:
    """What a run takes from plugins.

    Attributes
    ----------
    metrics : tuple of PairMetric
    records : tuple of PluginSummary
        For the result: metrics and encoders.
    key : str
        What a stored measurement depends on beside evalsuite's own code.
    """

    metrics: tuple[PairMetric, ...]
    records: tuple[PluginSummary, ...]
    key: str


def plugins_of(policy: Policy, built_in: Collection[str]) -> Plugged:
    """Load the metric plugins that a policy's rules name; find its encoder plugins.

    Encoders are only found here: the plan loads them.

    Parameters
    ----------
    policy : Policy
    built_in : collection of str
        Names of evalsuite's own metrics: they are not looked for among plugins.

    Raises
    ------
    PluginError
        If two distributions offer a name, or a metric cannot be imported or is none.
    """
    from ..metrics.pair import PairMetric

    metrics: list[PairMetric] = []
    found: list[plugins.Plugin] = []
    for name in dict.fromkeys(rule.metric for rule in policy.rules):
        plugin = None if name in built_in else plugins.find("metric", name)
        if plugin is None:
            continue
        metric = plugins.load(plugin)
        if not isinstance(metric, PairMetric) or metric.info.name != name:
            raise plugins.broken(
                plugin,
                f"it leads to {metric!r:.80}, not to an evalsuite.metrics.PairMetric of that name",
            )
        metrics.append(metric)
        found.append(plugin)
    key = " ".join(f"{p.name} {p.target} {p.distribution} {p.version}" for p in found)
    for name in dict.fromkeys(spec for specs in policy.encoders.values() for spec in specs):
        plugin = None if name in BUILT_IN else plugins.find("encoder", name)
        if plugin is not None:
            found.append(plugin)
    return Plugged(
        metrics=tuple(metrics),
        records=tuple(PluginSummary(**asdict(plugin)) for plugin in found),
        key=key,
    )
