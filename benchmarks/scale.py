"""Cost and memory against n, from a thousand to ten million rows; cost of a million by model.

Each cell runs with one thread and is kept in the CSV at once: a run that is cut off goes on where
it stopped. Cost is CPU time, so that other work on the machine counts little; the fastest of a few
runs, so that what happens once counts not at all. `PARTS=models` or `PARTS=cells` runs one part.
"""

from __future__ import annotations

import csv
import ctypes
import gc
import io
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import threadpoolctl
import torch

from . import _models
from ._machine import RESULTS, machine, write
from ._models import Models, duration

COLUMNS = 64
SKETCHED = 8
FREQUENCIES = 256
CENTRES = 500
BATCH = 4096
POOL = 2**15
RUNS = 5
LONG = 4.0
"""A cell that takes so many seconds is run once: what happens once is small beside it."""
NAME = "performance/scale"


@dataclass(frozen=True)
class Cell:
    """One figure: n rows in all, half of them a side."""

    case: str
    n: int
    cpu_s: float
    peak_mib: float


# What is measured ---------------------------------------------------------------------------------


class Source:
    """Simulated features: slices of a pool that is drawn once, so that drawing costs nothing."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.pool = rng.standard_normal((POOL, COLUMNS), dtype=np.float32)

    def batches(self, n: int, seed: int):
        rng = np.random.default_rng(seed)
        for start in range(0, n, BATCH):
            first = int(rng.integers(0, POOL - BATCH))
            yield start, self.pool[first : first + min(BATCH, n - start)]

    def rows(self, n: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((n, COLUMNS), dtype=np.float32)


def moments(source: Source, n: int) -> float:
    from evalsuite.metrics.streaming.frechet import FrechetDistance

    metric = FrechetDistance(COLUMNS)
    for real in (True, False):
        for _, batch in source.batches(n // 2, int(real)):
            metric.update(batch, real=real)
    return float(metric.compute())


def random_features(source: Source, n: int) -> float:
    from evalsuite.metrics.distribution.random_features import RandomFeatureKernel

    state = RandomFeatureKernel(COLUMNS, math.sqrt(2 * COLUMNS), frequencies=FREQUENCIES)
    for real in (True, False):
        for _, batch in source.batches(n // 2, int(real)):
            state.update(batch, real=real)
    return state.result().error


def sketches(source: Source, n: int) -> float:
    from evalsuite.metrics.drift.sketch import QuantileSketch, sketch_drift

    pair = [QuantileSketch(SKETCHED, shard=side) for side in range(2)]
    for side, sketch in enumerate(pair):
        for _, batch in source.batches(n // 2, side):
            sketch.update(batch[:, :SKETCHED])
    return sketch_drift(*pair).error


def centres(source: Source, n: int) -> float:
    from evalsuite.metrics.distribution.sampled import NeighbourSample, UniformSample

    sample = UniformSample(min(CENTRES, n // 2))
    for start, batch in source.batches(n // 2, 1):
        sample.update(batch, start)
    state = NeighbourSample(sample.rows)
    for real in (True, False):
        for _, batch in source.batches(n // 2, int(real)):
            state.update(batch, real=real)
    return state.result().coverage


def every_pair_kernel(source: Source, n: int) -> float:
    from evalsuite.metrics import kernel_distance

    return kernel_distance(source.rows(n // 2, 1), source.rows(n // 2, 2), "rbf").value


def every_pair_neighbours(source: Source, n: int) -> float:
    from evalsuite.metrics import precision_recall_density_coverage as prdc

    return prdc(source.rows(n // 2, 1), source.rows(n // 2, 2), level=None).coverage


STREAMS = (10**3, 10**4, 10**5, 10**6, 10**7)
PAIRS = (1_000, 3_000, 10_000, 30_000)
CASES: dict[str, tuple[Callable[[Source, int], float], str, tuple[int, ...], str]] = {
    "moments": (
        moments, "Fréchet distance from moments", STREAMS, "one product of d² a row",
    ),
    "random_features": (
        random_features, f"RBF distance, {FREQUENCIES} random frequencies", STREAMS,
        "one product of d F a row, and 2 F sines",
    ),
    "sketches": (
        sketches, f"quantile sketches of {SKETCHED} columns", STREAMS, "sorting the buffers",
    ),
    "centres": (
        centres, f"density, coverage at {CENTRES} centres", STREAMS[:-1],
        "one product of d s a row, and the k smallest of s columns",
    ),
    "every_pair_kernel": (
        every_pair_kernel, "RBF distance, every pair", PAIRS, "n² kernel values",
    ),
    "every_pair_neighbours": (
        every_pair_neighbours, "precision, recall, density, coverage, every pair", PAIRS,
        "n² distances; all rows in memory",
    ),
}  # fmt: skip


def memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def measured(source: Source, case: str, n: int) -> Cell:
    """Measure one cell."""
    work = CASES[case][0]
    for _ in range(2):  # libraries are loaded, and threads started
        work(source, 2000)
    # What an earlier cell has freed goes back first, or this one would seem to need nothing.
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts again from here
    spent: list[float] = []
    while not spent or (len(spent) < RUNS and spent[0] < LONG):
        start = time.process_time()
        work(source, n)
        spent.append(time.process_time() - start)
    return Cell(case, n, round(min(spent), 4), round((memory("VmHWM") - before) / 2**20, 1))


# All together -------------------------------------------------------------------------------------


def exponent(cells: list[Cell]) -> float:
    """Fit log cost on log n over the largest sizes, a factor of 100 in n at most."""
    top = max(c.n for c in cells)
    used = [c for c in cells if c.n >= top / 100]
    x, y = (np.log([getattr(c, name) for c in used]) for name in ("n", "cpu_s"))
    return float(np.polyfit(x, y, 1)[0])


def stored() -> list[Cell]:
    path = RESULTS / f"{NAME}.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Cell(r["case"], int(r["n"]), float(r["cpu_s"]), float(r["peak_mib"]))
            for r in csv.DictReader(file)
        ]


def table(cells: list[Cell]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["case", "n", "cpu_s", "peak_mib"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        asdict(c) for c in sorted(cells, key=lambda c: (list(CASES).index(c.case), c.n))
    )
    return out.getvalue()


def page(cells: list[Cell], models: Models) -> str:
    lines = [
        "# Cost and memory against n, and of a million samples by model",
        "",
        "Made by `python -m benchmarks scale`; all figures in [scale.csv](scale.csv), "
        "[scale_models.csv](scale_models.csv) and [scale_models_feed.csv](scale_models_feed.csv). "
        f"{machine()}.",
        "",
        "## Statistics, against n",
        "",
        f"One thread, CPU time, the fastest of {RUNS} runs (one where it takes {LONG:.0f} s or "
        "more); the machine had other work, which makes CPU time longer than on a calm one by what "
        "caches and memory are shared: exponents and orders of magnitude hold, single figures do "
        "not.",
        "",
        f"n is the number of rows in all, half a side; d = {COLUMNS}, float32. Streams are "
        f"simulated: slices of {POOL:,} normal rows at random places, in batches of {BATCH:,}, so "
        "that no more is ever in memory. Memory is the peak above what the process held before.",
        "",
        "![CPU seconds against n](scale.svg)",
        "",
        "| what | CPU time, by n | memory at the largest n | fitted exponent | what limits it |",
        "|---|---|---|---|---|",
    ]
    by_case = {case: [c for c in cells if c.case == case] for case in CASES}
    for case, (_, title, _, limit) in CASES.items():
        found = by_case[case]
        if not found:
            continue
        costs = ", ".join(f"{c.n:.0e}: {duration(c.cpu_s)}".replace("e+0", "e") for c in found)
        peak = f"{found[-1].peak_mib:.0f} MiB"
        lines.append(f"| {title} | {costs} | {peak} | {exponent(found):.2f} | {limit} |")
    lines += [
        "",
        "The exponent is fitted over the last factor of 100 in n; every pair is not at its n² yet "
        "at these sizes. Streams cost n and hold their memory; every pair costs n², which is why "
        "the gate leaves it at `exact_up_to` (20,000 samples a side by default; "
        "docs/calibration.md says what it takes instead, and with which error).",
        "",
        *_models.section(models),
    ]
    largest = {case: found[-1] for case, found in by_case.items() if found}
    streams = [
        c for case, c in largest.items() if case in ("moments", "random_features", "sketches")
    ]
    per_row = sum(c.cpu_s / c.n for c in streams)
    image = models.seconds("efficientnet_lite0")
    lines += [
        "## What limits each step of a gate",
        "",
        "| step | cost | memory | limit |",
        "|---|---|---|---|",
        "| read, decode, encode | n | a batch a worker | the forward pass; with a GPU, decoding |",
        "| features kept for the report | n | n d 4 bytes (1e6 images of `efficientnet_lite0`: "
        "4.8 GiB) | memory: the first to end, at some 3e6 images in 16 GiB |",
        "| Fréchet distance | n d² + d³ | d² | the product |",
        "| floor, interval, p-value | `max_samples`² | `max_samples` d | constant in n |",
        "| kernel distances above `exact_up_to` | n | constant | the product with frequencies |",
        "| k-NN metrics above `exact_up_to` | n `max_samples` | n | the product with the centres |",
        "| nearest real sample of each synthetic one | n² | n | **still every pair**: a copy must "
        "not be missed |",
        "| attributes' drift | n log n | n | sorting |",
        "",
        "## A plan on paper for 1e9",
        "",
        f"1. Encode by shards: 1e9 images at {1 / image:.0f} images/s on two cores are "
        f"{duration(1e9 * image)}, so about {1e9 * image / 86_400 / 7:.0f} such machines for a "
        "week; nothing else comes near. The features (float16, 2.3 TiB at d = 1,280) go to object "
        "storage, shard by shard, and are never in one memory.",
        f"2. One pass of each shard over the streams above: moments, random frequencies, sketches, "
        f"a uniform sample of rows; {duration(1e9 * per_row)} of one core at d = {COLUMNS}, and "
        f"{1280 / COLUMNS:.0f} to {(1280 / COLUMNS) ** 2:.0f} times that at d = 1,280. States are "
        "some megabytes, and merge in any order; "
        "the sketches need a shard number, the sample a row number.",
        "3. A second pass with the merged centres for density and coverage, at the cost of "
        f"{CENTRES} to 5,000 products a row.",
        "4. Floor, intervals and p-values from the uniform sample: constant.",
        "5. Copies: exact ones by hash (n log n, on disk). Near ones of 1e9 against 1e9 are out of "
        "reach by every pair; an approximate index with measured recall would be needed, which "
        "evalsuite does not have. The nearest real sample of a uniform sample of 5,000 synthetic "
        "ones is exact and bounds the share of near copies to ± 1.4 % at most.",
        "",
        "Not shown by running: 1e9 itself, and a network between machines"
        + ("." if models.gpu else "; nor a GPU, for this machine has none."),
    ]
    return "\n".join(lines) + "\n"


_COLOURS = ("#0b6e99", "#c2571a", "#5b8c2a", "#7a4fa3", "#a31c44", "#555555")


def plot(cells: list[Cell]) -> str:
    """CPU seconds against n, logarithmic both ways."""
    width, height, left, top = 520.0, 300.0, 70.0, 20.0
    times = [c.cpu_s for c in cells]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    first, last = 3, round(math.log10(max(c.n for c in cells)))

    def at(n: float, t: float) -> tuple[float, float]:
        x = left + width * (math.log10(n) - first) / (last - first)
        return x, top + height * (high - math.log10(t)) / (high - low)

    parts = [
        f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>'
    ]
    for e in range(low, high + 1):
        y = at(10.0**first, 10.0**e)[1]
        parts.append(
            f'<path d="M{left} {y:.1f}h{width}" stroke="#ddd"/><text x="{left - 6}" '
            f'y="{y + 4:.1f}" text-anchor="end">{10.0**e:g} s</text>'
        )
    for e in range(first, last + 1):
        x = at(10.0**e, 1.0)[0]
        parts.append(
            f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{10**e:,}</text>'
        )
    for i, (colour, (case, (_, title, _, _))) in enumerate(
        zip(_COLOURS, CASES.items(), strict=True)
    ):
        points = [at(c.n, c.cpu_s) for c in cells if c.case == case]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
        y = top + height + 44 + 18 * i
        parts.append(
            f'<path d="M{left} {y - 4}h24" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{left + 32}" y="{y}">{title}</text>'
        )
    size = f"{left + width + 40:.0f} {top + height + 50 + 18 * len(CASES):.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        'font-family="sans-serif" font-size="12" role="img">'
        "<title>CPU seconds against n</title>"
        '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


def main() -> None:
    parts = os.environ.get("PARTS", "cells,models").split(",")
    if "models" in parts:
        _models.measure()
    cells = stored()
    done = {(c.case, c.n) for c in cells}
    wanted = [(n, case) for case, (_, _, sizes, _) in CASES.items() for n in sizes]
    torch.set_num_threads(1)
    source = Source()
    with threadpoolctl.threadpool_limits(1):
        for n, case in sorted(wanted):
            if "cells" in parts and (case, n) not in done:
                cells.append(measured(source, case, n))
                write(f"{NAME}.csv", table(cells))
    write(f"{NAME}.svg", plot(stored()))
    write(f"{NAME}.md", page(stored(), Models.stored()))
