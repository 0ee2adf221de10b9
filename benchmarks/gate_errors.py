"""How often the default gate errs: false alarms on real against real, and what it takes to pass.

Real features (photographs of solar cells, simulated textile images, nominal class) are dealt into
two disjoint random sets again and again; nothing differs between them but chance.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from scipy import stats

from evalsuite.data import open_dataset
from evalsuite.encoders import FeatureCache, encode
from evalsuite.gate.findings import DatasetSummary, Status
from evalsuite.gate.judge import judge
from evalsuite.gate.policy import load_policy
from evalsuite.pipeline.calibrate import measure
from evalsuite.pipeline.demo import cells, textiles
from evalsuite.pipeline.run import adjusted

from ._machine import machine, write

ENCODER = "efficientnet_lite0"
RUNS = 60
SIZES = (100, 300, 600)


def features(paths: list[Path], folder: Path, name: str) -> np.ndarray:
    """Features of these photographs, through the same reader and encoder as the gate's."""
    home = folder / name
    home.mkdir(exist_ok=True)
    for i, path in enumerate(paths):  # copies: the reader refuses links out of a folder
        (home / f"{i:05d}{path.suffix}").write_bytes(path.read_bytes())
    done = encode(open_dataset(home), [ENCODER], cache=FeatureCache(), progress=False)
    return done.features[ENCODER]


def _summary(role: str, n: int) -> DatasetSummary:
    return DatasetSummary(
        role=role, name=role, format="folder", fingerprint="", n_found=n, n_used=n
    )


def run(real: np.ndarray, other: np.ndarray, seed: int) -> tuple[Status, list[str], list[str]]:
    """Judge one pair as the gate does; give the verdict, the detected and the failed metrics."""
    policy = load_policy()
    found = measure(real, other, settings=policy.calibration, seed=seed).findings
    found = [f.model_copy(update={"encoder": ENCODER}) for f in found]
    judged, verdict, _ = judge(
        adjusted(found, policy),
        policy,
        real=_summary("real", len(real)),
        synthetic=_summary("synthetic", len(other)),
    )
    detected = [f.metric for f in judged if f.detected]
    failed = [f.metric for f in judged if f.status is Status.FAIL and f.kind == "distribution"]
    return verdict, detected, failed


def main() -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as tmp:
        pools = {
            "solar cells": features([p for p, _ in cells()], Path(tmp), "cells"),
            "textile": features(textiles("nominal"), Path(tmp), "textile"),
        }
    for name, pool in pools.items():
        for n in SIZES:
            if 2 * n > len(pool):
                continue
            verdicts: Counter[Status] = Counter()
            detected: Counter[str] = Counter()
            any_detected = 0
            for r in range(RUNS):
                order = np.random.default_rng([n, r]).permutation(len(pool))
                verdict, seen, _ = run(pool[order[:n]], pool[order[n : 2 * n]], seed=r)
                verdicts[verdict] += 1
                detected.update(seen)
                any_detected += bool(seen)
            rows.append(
                {
                    "data": name,
                    "n": n,
                    "runs": RUNS,
                    **{str(s.value): verdicts[s] for s in Status if s is not Status.INFO},
                    "any_detected": any_detected,
                    "detected": dict(detected),
                }
            )
            print(rows[-1], flush=True)
    _write(rows)


def _write(rows: list[dict[str, object]]) -> None:
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, fieldnames=list(rows[0]))
    table.writeheader()
    table.writerows(rows)
    write("gate/false_alarms.csv", buffer.getvalue())
    runs = sum(int(str(r["runs"])) for r in rows)
    alarms = sum(int(str(r["warn"])) + int(str(r["fail"])) for r in rows)
    failed = sum(int(str(r["fail"])) for r in rows)
    seen = sum(int(str(r["any_detected"])) for r in rows)

    def upper(k: int) -> float:
        return float(stats.beta.ppf(0.95, k + 1, runs - k)) if k < runs else 1.0

    lines = [
        "# False alarms of the default gate",
        "",
        f"{runs} runs of real against real: two disjoint random sets of one pool, which differ by "
        "chance alone. The policy states alpha = 5 % for a *detected* gap over all rules together; "
        "a failure needs the whole interval of a gap above its tolerance, so it is rarer still.",
        "",
        "| what | runs | share | 95 % upper bound |",
        "|---|---|---|---|",
        *(
            f"| {what} | {k} | {k / runs:.2%} | {upper(k):.2%} |"
            for what, k in (
                ("warn or fail", alarms),
                ("fail", failed),
                ("any metric detected (Holm)", seen),
            )
        ),
        "",
        "| data | n a side | runs | pass | warn | inconclusive | fail | any detected |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['data']} | {r['n']} | {r['runs']} | {r['pass']} | {r['warn']} | "
            f"{r['inconclusive']} | {r['fail']} | {r['any_detected']} |"
            for r in rows
        ),
        "",
        "Inconclusive is not an alarm: it says that n is too small, and which n would do.",
        "",
        f"Made by `python -m benchmarks gate_errors` on {machine()}.",
        "",
    ]
    write("gate/false_alarms.md", "\n".join(lines))
