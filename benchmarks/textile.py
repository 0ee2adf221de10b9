"""The gate on simulated textile images: nominal against nominal, local defects, global defects."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np

from evalsuite.pipeline.demo import textiles
from evalsuite.pipeline.run import run_gate

from ._machine import machine, write


def main() -> None:
    with tempfile.TemporaryDirectory() as tmp:
        home = Path(tmp)

        def folder(name: str, paths: list[Path]) -> Path:
            (home / name).mkdir()
            for path in paths:
                shutil.copyfile(path, home / name / path.name)
            return home / name

        nominal = textiles("nominal")
        order = np.random.default_rng(0).permutation(len(nominal))
        half = len(nominal) // 2
        real = folder("nominal", [nominal[i] for i in order[:half]])
        sets = {
            "nominal": folder("second nominal", [nominal[i] for i in order[half:]]),
            "local defects": folder("local", textiles("local")),
            "global defects": folder("global", textiles("global")),
        }
        lines = [
            "# The gate on textile images",
            "",
            f"Real: {half} nominal images of `conformal-clip-data`; default policy, which was not "
            "made with them.",
            "",
            "| synthetic | verdict | metric | gap | interval | tolerance | adjusted p | detected |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, path in sets.items():
            result = run_gate(real, path).result
            lines.extend(
                f"| {name} | {result.verdict.value} | {f.metric} | {f.gap:.4f} | "
                f"{f.gap_ci.low:.4f} to {f.gap_ci.high:.4f} | {f.tolerance} | "
                f"{f.p_adjusted:.3f} | {'yes' if f.detected else 'no'} |"
                for f in result.findings
                if f.kind == "distribution" and f.tolerance is not None and f.gap_ci is not None
            )
            for message in result.explanations[:3]:
                print(name, message.text)
    lines += ["", f"Made by `python -m benchmarks textile` on {machine()}.", ""]
    write("gate/textile.md", "\n".join(lines))
