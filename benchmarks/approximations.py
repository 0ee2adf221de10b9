"""How often the gate errs where values are approximated: above ``exact_up_to`` samples a side.

Features are drawn from known laws, so that the truth is known: under *no gap* both sides are one
law; under *a gap* the synthetic side is moved and widened. The gate's own ``measure`` is run with
the limits lowered, as it would run on more rows than are exact. Asked of every metric: how often
its test rejects, how often the interval of its gap leaves out the true gap, and how often the exact
value lies within the error that the finding states.
"""

from __future__ import annotations

import csv
import io
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from evalsuite import metrics as m
from evalsuite.gate.policy import Calibration
from evalsuite.pipeline.calibrate import NEIGHBOURS, SPECS, measure

from ._machine import RESULTS, machine, write

RUNS = 150
ROWS, COLUMNS = 3_000, 32
SETTINGS = Calibration(
    splits=40, permutations=99, costly_permutations=99, max_samples=300, exact_up_to=1_000
)
GAPS = {"no gap": (0.0, 1.0), "a gap": (0.15, 1.1)}
"""Case to how far the synthetic side is moved in every column, and how much it is widened."""
APPROXIMATED = ("kid", "mmd_rbf", "precision", "recall", "density", "coverage")
Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Row:
    """One metric in one run."""

    law: str
    case: str
    run: int
    metric: str
    p_value: float
    low: float
    high: float
    value: float
    exact: float
    error: float


def draw(law: str, n: int, shift: float, scale: float, rng: np.random.Generator) -> Array:
    """Correlated rows: normal, or with t(5) tails."""
    noise = rng.standard_normal((n, COLUMNS))
    if law == "heavy":
        noise /= np.sqrt(rng.chisquare(5, (n, 1)) / 5)
    mixing = np.random.default_rng(7).standard_normal((COLUMNS, COLUMNS)) / np.sqrt(COLUMNS)
    return np.asarray(noise @ mixing * scale + shift, dtype=np.float32)


def exact_values(real: Array, synthetic: Array) -> dict[str, float]:
    """Compute what is approximated over all pairs."""
    shares = m.precision_recall_density_coverage(real, synthetic, k=NEIGHBOURS, level=None)
    return {
        "kid": float(m.kernel_distance(real, synthetic, "polynomial")),
        "mmd_rbf": float(m.kernel_distance(real, synthetic, "rbf")),
        **{name: float(getattr(shares, name)) for name in APPROXIMATED[2:]},
    }


def one(law: str, case: str, run: int) -> list[Row]:
    """Run the gate's measurement once."""
    shift, scale = GAPS[case]
    # A hash of the names would change from process to process.
    rng = np.random.default_rng([run, len(law), len(case)])
    real, synthetic = draw(law, ROWS, 0.0, 1.0, rng), draw(law, ROWS, shift, scale, rng)
    found = measure(real, synthetic, settings=SETTINGS, seed=run).findings
    exact = exact_values(real, synthetic)
    rows = []
    for f in found:
        approximation: dict[str, Any] = dict(f.details.get("approximation", {}))
        if f.gap_ci is None or f.p_value is None:
            raise RuntimeError(f"{f.metric} has no interval or no p-value")
        rows.append(
            Row(
                law, case, run, f.metric, f.p_value, f.gap_ci.low, f.gap_ci.high, f.value,
                exact.get(f.metric, float("nan")), float(approximation.get("error", "nan")),
            )
        )  # fmt: skip
    return rows


def share(count: int, of: int) -> str:
    """Give a share and its exact 95 % interval."""
    ci = stats.binomtest(count, of).proportion_ci(0.95, "exact")
    return f"{count / of:.1%} ({ci.low:.1%} to {ci.high:.1%})"


def rejected(rows: list[Row]) -> str:
    """Give the share of tests that reject at 5 %."""
    return share(sum(r.p_value < 0.05 for r in rows), len(rows))


def above(rows: list[Row]) -> str:
    """Give the share of intervals that lie wholly above no gap."""
    return share(sum(r.low > 0 for r in rows), len(rows))


def page(rows: list[Row]) -> str:
    runs = len({(r.law, r.case, r.run) for r in rows})
    groups: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for r in rows:
        groups[r.law, r.case, r.metric].append(r)
    lines = [
        "# Error rates of the gate above `exact_up_to`",
        "",
        f"{runs} runs of the gate's `measure` on {ROWS:,} + {ROWS:,} rows of {COLUMNS} correlated "
        f"columns, normal or with t(5) tails, with `exact_up_to: {SETTINGS.exact_up_to}` and "
        f"`max_samples: {SETTINGS.max_samples}`: values are approximated, and floors, intervals "
        "and permutations come from a tenth of the rows, as they do in a large run. Shares with "
        "their exact 95 % intervals.",
        "",
        "## No gap: both sides are one law",
        "",
        "5 % are nominal for a test. An interval that leaves out 0 upwards would be an alarm: "
        "2.5 % are nominal, of which the gate's intervals should give no more.",
        "",
        "| law | metric | test rejects at 5 % | interval wholly above 0 |",
        "|---|---|---|---|",
    ]
    for (law, case, metric), found in groups.items():
        if case == "no gap":
            lines.append(f"| {law} | {metric} | {rejected(found)} | {above(found)} |")
    lines += [
        "",
        "## The stated error of the approximation",
        "",
        "How often the value over all pairs lies within the error that the finding states (95 %), "
        "and how large it is. The mean of blocks (kid) states its error as an estimate of the "
        "population's value, not of the one over all pairs, and takes it from some twenty blocks: "
        "where there is no gap it is somewhat too small for normal rows. Precision "
        "and recall take a sample's balls, which are larger: they are other metrics than those "
        "over all rows (docs/calibration.md), and are not compared.",
        "",
        "| law | case | metric | exact value within it | median error | median exact value |",
        "|---|---|---|---|---|---|",
    ]
    for (law, case, metric), found in groups.items():
        if metric in APPROXIMATED and metric not in ("precision", "recall"):
            held = sum(abs(r.value - r.exact) <= r.error for r in found)
            lines.append(
                f"| {law} | {case} | {metric} | {share(held, len(found))} | "
                f"{np.median([r.error for r in found]):.3g} | "
                f"{np.median([r.exact for r in found]):.3g} |"
            )
    lines += [
        "",
        "## A gap",
        "",
        "Every column moved by 0.15 and all widened by a tenth: how often each test finds it, from "
        f"{SETTINGS.max_samples} rows a side.",
        "",
        "| law | metric | test rejects at 5 % | interval wholly above 0 |",
        "|---|---|---|---|",
    ]
    for (law, case, metric), found in groups.items():
        if case == "a gap":
            lines.append(f"| {law} | {metric} | {rejected(found)} | {above(found)} |")
    lines += ["", f"Made by `python -m benchmarks approximations` on {machine()}; every run is in "
              "[approximations.csv](approximations.csv).", ""]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Run what the table does not have yet, and write results/calibration/approximations.md."""
    import torch

    torch.set_num_threads(1)
    runs = int(os.environ.get("RUNS", RUNS))
    kept = RESULTS / "calibration" / "approximations.csv"
    rows = []
    if kept.exists():
        with kept.open(encoding="utf-8", newline="") as file:
            for r in csv.DictReader(file):
                numbers = {k: float(r[k]) for k in list(r)[4:]}
                rows.append(Row(r["law"], r["case"], int(r["run"]), r["metric"], **numbers))
    done = {(r.law, r.case, r.run) for r in rows}
    for run in range(runs):
        for law in ("normal", "heavy"):
            for case in GAPS:
                if (law, case, run) not in done:
                    rows += one(law, case, run)
        if run % 10 == 9 or run == runs - 1:
            out = io.StringIO()
            writer = csv.DictWriter(out, list(Row.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            for r in rows:
                writer.writerow(
                    {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(r).items()}
                )
            write("calibration/approximations.csv", out.getvalue())
            write("calibration/approximations.md", page(rows))


if set(APPROXIMATED) - set(SPECS):
    raise RuntimeError("a metric of this study is not one of the gate's")
