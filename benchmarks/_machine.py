"""What a figure was measured on, and where it is written."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"


def machine() -> str:
    """One line: processor, cores, versions. No host name, no path."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    versions = []
    for name in ("torch", "numpy", "scipy", "onnxruntime"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{model}, {cores} cores, Python {platform.python_version()}, {', '.join(versions)}"


def write(name: str, text: str) -> None:
    """Write one file below results/ and say so."""
    path = RESULTS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: a study that is cut off goes on from what it has written.
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
    print(f"wrote {path.relative_to(RESULTS.parent)}", flush=True)
