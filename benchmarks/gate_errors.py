"""How often the default gate errs: false alarms on real against real, and what it takes to pass.

Real sets are dealt into two disjoint random sets again and again, and `run_gate` judges them with
the default policy as a user's run does: nothing differs between them but chance. Photographs of
solar cells with their classes, simulated textile images, recordings of a speaker with their
transcripts (Debian's asterisk-core-sounds-en-wav), and English sentences (the documentation of
installed libraries). A run is kept in a journal: a study that is cut off goes on from there.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from evalsuite.encoders import FeatureCache
from evalsuite.gate.findings import Finding, GateResult, Status
from evalsuite.pipeline.demo import cells, textiles
from evalsuite.pipeline.run import run_gate

from ._machine import RESULTS, machine, write
from .speech_study import SOUNDS, prompts

CLIPS = 240
SENTENCES = 1200
LIBRARIES = ("scipy.stats", "scipy.signal", "sklearn.ensemble", "sklearn.linear_model", "pandas",
             "scipy.optimize", "sklearn.decomposition", "scipy.spatial.distance")  # fmt: skip
STUDIES = {
    "textile": ((100, 60), (300, 40)),
    "sentences": ((100, 60), (300, 40)),
    "solar cells": ((100, 60), (300, 40)),
    "speech": ((100, 40),),
}
"""Pool to (samples a side, runs)."""
JOURNAL = RESULTS / "gate" / "false_alarms.csv"
COLUMNS = ("data", "n", "run", "verdict", "detected")

Row = dict[str, Any]


def sentences() -> list[str]:
    """English sentences of the documentation of installed libraries, each once."""
    found: dict[str, None] = {}
    for name in LIBRARIES:
        module = importlib.import_module(name)
        for _, member in sorted(inspect.getmembers(module)):
            for line in re.split(r"(?<=\.)\s+", inspect.getdoc(member) or ""):
                text = " ".join(line.split())
                if re.fullmatch(r"[A-Z][A-Za-z0-9 ,;'()-]{30,200}\.", text):
                    found[text] = None
    listed = list(found)
    return [listed[i] for i in np.random.default_rng(0).permutation(len(listed))[:SENTENCES]]


def pools() -> dict[str, list[tuple[Path | None, dict[str, str]]]]:
    """Pool to its samples: a file, if any, and the fields of its record."""
    return {
        "solar cells": [(path, {"label": kind}) for path, kind in cells()],
        "textile": [(path, {}) for path in textiles("nominal")],
        "speech": [
            (SOUNDS / f"{name}.wav", {"transcript": text}) for name, text in prompts()[:CLIPS]
        ],
        "sentences": [(None, {"text": text}) for text in sentences()],
    }


def write_set(samples: Sequence[tuple[Path | None, dict[str, str]]], folder: Path) -> Path:
    """Make a folder with metadata, or a manifest of texts."""
    folder.mkdir()
    rows = []
    for i, (path, fields) in enumerate(samples):
        if path is None:
            rows.append({"id": str(i), **fields})
            continue
        name = f"{i:05d}{path.suffix}"
        try:
            os.link(path, folder / name)  # the reader refuses links out of a folder: hard ones
        except OSError:  # another file system
            (folder / name).write_bytes(path.read_bytes())
        rows.append({"file_name": name, **fields})
    target = folder / "metadata.jsonl"
    target.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def family_of(finding: Finding) -> str:
    """Give the family that a p-value is adjusted in, each at the policy's alpha."""
    if finding.kind == "attribute":
        return f"attributes of {finding.modality}"
    return "rules" if finding.slice == "all" and finding.metric != "label_shares" else "classes"


def alarms(result: GateResult) -> list[str]:
    """Give what was detected, as family:metric."""
    return [f"{family_of(f)}:{f.metric}".replace(" ", "_") for f in result.findings if f.detected]


def main() -> None:
    done = read()
    ready = pools()
    with tempfile.TemporaryDirectory() as tmp:
        cache = FeatureCache(Path(tmp) / "cache")
        for name, sizes in STUDIES.items():
            for n, runs in sizes:
                there = {row["run"] for row in done if (row["data"], row["n"]) == (name, n)}
                for r in range(runs):
                    if r not in there:
                        done.append(once(name, ready[name], n, r, Path(tmp), cache))
                        if r % 10 == 9:
                            save(done)
                            print(name, n, r + 1, Counter(
                                row["verdict"] for row in done
                                if (row["data"], row["n"]) == (name, n)
                            ), flush=True)  # fmt: skip
    save(done)
    write("gate/false_alarms.md", page(done))


def once(name: str, pool: Sequence[Any], n: int, r: int, tmp: Path, cache: FeatureCache) -> Row:
    """Judge one pair of disjoint random sets of a pool."""
    order = np.random.default_rng([n, r]).permutation(len(pool))
    if 2 * n > len(pool):
        sys.exit(f"{name}: {len(pool)} samples are too few for two sets of {n}")
    with tempfile.TemporaryDirectory(dir=tmp) as home:
        sides = [
            write_set([pool[i] for i in rows], Path(home) / side)
            for side, rows in (("real", order[:n]), ("synthetic", order[n : 2 * n]))
        ]
        result = run_gate(*sides, cache=cache, seed=r, progress=False).result
    return {
        "data": name, "n": n, "run": r, "verdict": result.verdict.value,
        "detected": " ".join(alarms(result)),
    }  # fmt: skip


def read() -> list[Row]:
    """Take up the runs that are journalled."""
    if not JOURNAL.exists():
        return []
    with JOURNAL.open(encoding="utf-8", newline="") as stream:
        table = csv.DictReader(stream)
        if tuple(table.fieldnames or ()) != COLUMNS:
            return []
        return [{**row, "n": int(row["n"]), "run": int(row["run"])} for row in table]


def save(rows: Sequence[Row]) -> None:
    """Write the journal."""
    buffer = io.StringIO()
    table = csv.DictWriter(buffer, fieldnames=COLUMNS)
    table.writeheader()
    table.writerows(rows)
    write("gate/false_alarms.csv", buffer.getvalue())


def share(k: int, n: int) -> str:
    """Give a share with its exact two-sided 95 % interval."""
    low = float(stats.beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(stats.beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    return f"{k / n:.1%} ({low:.1%} to {high:.1%})"


def page(rows: Sequence[Row]) -> str:
    """Say what came out."""
    counts: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        counts.setdefault((row["data"], row["n"]), []).append(row)

    def among(some: Sequence[Row], what: Callable[[Row], bool]) -> int:
        return sum(map(what, some))

    verdicts = [s.value for s in (Status.PASS, Status.WARN, Status.INCONCLUSIVE, Status.FAIL)]
    what: dict[str, Callable[[Row], bool]] = {
        "verdict warn or fail": lambda row: row["verdict"] in ("warn", "fail"),
        "verdict fail": lambda row: row["verdict"] == "fail",
        "a gap detected that a rule judges": lambda row: "rules:" in row["detected"],
        "an attribute called different": lambda row: "attributes_of" in row["detected"],
        "a class called different": lambda row: "classes:" in row["detected"],
    }
    labelled = [row for row in rows if row["data"] == "solar cells"]
    judged = what["a gap detected that a rule judges"]
    seen = Counter(metric for row in rows for metric in str(row["detected"]).split())
    return "\n".join([
        "# False alarms of the default gate",
        "",
        f"{len(rows)} runs of the whole gate, real against real: two disjoint random sets of one "
        "pool, which differ by chance alone. The policy states alpha = 5 % for a *detected* gap "
        "over all rules together, and the same for the attributes of a modality and for classes, "
        "which explain and make no verdict; a failure needs the whole interval of a gap above its "
        "tolerance. Sets of one pool overlap from run to run, so that runs are not wholly "
        "independent, and the intervals here are somewhat too narrow.",
        "",
        "| what | runs | share (95 % interval) |",
        "|---|---|---|",
        *(f"| {name} | {among(some, test)} of {len(some)} | {share(among(some, test), len(some))} |"
          for name, test in what.items()
          for some in [labelled if name == "a class called different" else rows]),
        "",
        "| data | n a side | runs | " + " | ".join(verdicts) + " | a rule's gap detected |",
        "|---|---|---|" + "---|" * (len(verdicts) + 1),
        *(f"| {name} | {n} | {len(some)} | "
          + " | ".join(str(among(some, lambda row, v=v: row["verdict"] == v)) for v in verdicts)
          + f" | {share(among(some, judged), len(some))} |"
          for (name, n), some in sorted(counts.items())),
        "",
        "Detected by: " + (", ".join(f"{m} {k}" for m, k in seen.most_common()) or "none") + ".",
        "",
        "Solar cells carry classes: their row counts those runs alone, and has two tests at 5 % "
        "each, of the classes' shares and of their content. Not run yet: "
        + (", ".join(sorted({*STUDIES} - {name for name, _ in counts})) or "nothing")
        + ". Inconclusive is no alarm: it says that n is too small, and which n would do.",
        "",
        f"Made by `python -m benchmarks gate_errors` on {machine()}.",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    main()
