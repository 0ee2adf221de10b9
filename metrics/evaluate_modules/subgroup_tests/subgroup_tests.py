"""Shares and content of the subgroups of synthetic (predictions) and real rows."""

from __future__ import annotations

from evalsuite.metrics.evaluate_modules import _base
from evalsuite.metrics.utility.subgroups import subgroup_tests


class SubgroupTests(_base.Features):
    """`subgroup_tests` for `evaluate`."""

    about = (
        "Total variation distance of the subgroups' shares, and the widest kernel gap "
        "within a subgroup, as a share of the real rows' variance. Best 0."
    )
    source = "Bińkowski et al. 2018, arXiv:1801.01401; Newcombe 1998"
    least = "1"
    options = "min_n: rows that a subgroup needs on each side to have a gap."
    labelled = True

    def measure(
        self,
        real: _base.Floats,
        synthetic: _base.Floats,
        *,
        labels: tuple[list[str], list[str]],
        min_n: int = 50,
    ) -> dict[str, float]:
        """Give the numbers."""
        report = subgroup_tests(real, synthetic, *labels, min_n=min_n)
        out = _base.number("share_distance", report.shares.value, report.shares.interval)
        if report.worst is not None:
            widest = next(iter(report.worst.kernels.values())).relative
            if widest is not None:
                out["worst_group_gap"] = widest
        return out
