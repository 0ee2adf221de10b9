"""How fast and how small the metrics are, against what people use and against the machine's limit.

Each figure is the shortest of three runs, each in a process of its own that warms up on a small
problem first. What is compared with each other takes turns, so that other work on the machine meets
both; all is measured in one run of this file, so that ratios hold. Memory is the peak of the
resident set above what the process held with its inputs in place. The limit is a bare matrix
product of the same number of operations in the same dtype.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ._machine import RESULTS, machine, write

MIB = 2**20
REPEATS = 3
BATCH = 10_000
"""Rows in a batch of the stream."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the problems are; the defaults are those that are published."""

    frechet_n: int = 6_000
    frechet_few: int = 500
    frechet_d: int = 2_048
    pairs_n: int = 20_000
    pairs_d: int = 1_280
    peer_n: int = 5_000
    pooled: int = 4_000
    permutations: int = 500
    reindexed: int = 5
    stream: tuple[int, ...] = (100_000, 1_000_000, 10_000_000)
    stream_d: int = 64
    curve_n: tuple[int, ...] = (1_000, 2_000, 5_000, 10_000, 20_000)
    curve_n_d: int = 512
    curve_d: tuple[int, ...] = (64, 128, 256, 512, 1_024, 2_048)
    curve_d_n: int = 5_000


# What is measured --------------------------------------------------------------------------------
# Each takes shapes and gives the work to time, with its inputs in place.

Work = Callable[[], object]


def _pair(n: int, d: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    kind = np.dtype(dtype).type
    x, y = (rng.standard_normal((n, d), dtype=kind) for _ in range(2))
    y *= kind(1.1)
    y += kind(0.1)
    return x, y


def frechet(n: int, d: int) -> Work:
    from evalsuite.metrics.distribution.frechet import frechet_distance

    x, y = _pair(n, d, "float64")
    return lambda: frechet_distance(x, y).value


def frechet_torchmetrics(n: int, d: int) -> Work:
    from torchmetrics.image.fid import FrechetInceptionDistance

    given = torch.nn.Identity()
    given.__dict__["num_features"] = d
    x, y = (torch.from_numpy(rows) for rows in _pair(n, d, "float64"))

    def work() -> float:
        metric = FrechetInceptionDistance(feature=given, normalize=True)
        metric.update(x, real=True)
        metric.update(y, real=False)
        return float(metric.compute())

    return work


def frechet_sqrtm(n: int, d: int) -> Work:
    """As pytorch-fid and clean-fid do it: covariances, and SciPy's root of their product."""
    from scipy.linalg import sqrtm

    x, y = _pair(n, d, "float64")

    def work() -> float:
        s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
        step = x.mean(axis=0) - y.mean(axis=0)
        root = np.real(np.trace(sqrtm(s @ t)))
        return float(step @ step + np.trace(s) + np.trace(t) - 2 * root)

    return work


def frechet_limit(n: int, d: int) -> Work:
    """What no exact way through covariances goes without: each one's symmetric product, and the
    eigenvalues of one symmetric matrix, bare, by NumPy."""
    x, y = _pair(n, d, "float64")

    def work() -> None:
        s, _ = x.T @ x, y.T @ y
        np.linalg.eigvalsh(s)

    return work


def frechet_reference(n: int, d: int) -> Work:
    """From the singular values of the centred rows' product, by NumPy: exact, not fast."""
    x, y = _pair(n, d, "float64")

    def work() -> float:
        a, b = ((rows - rows.mean(axis=0)) / math.sqrt(n - 1) for rows in (x, y))
        step = x.mean(axis=0) - y.mean(axis=0)
        root = np.linalg.svd(a @ b.T, compute_uv=False).sum()
        return float(step @ step + (a * a).sum() + (b * b).sum() - 2 * root)

    return work


def kid(n: int, d: int) -> Work:
    from evalsuite.metrics.distribution.kernel import kernel_distance

    x, y = _pair(n, d, "float32")
    return lambda: kernel_distance(x, y).value


def manifold(n: int, d: int) -> Work:
    from evalsuite.metrics.distribution.manifold import precision_recall_density_coverage

    x, y = _pair(n, d, "float32")
    return lambda: precision_recall_density_coverage(x, y, level=None).density


def manifold_prdc(n: int, d: int) -> Work:
    from prdc import compute_prdc

    x, y = _pair(n, d, "float32")
    return lambda: float(compute_prdc(x, y, nearest_k=5)["density"])


def _product(n: int, d: int, pairs: int) -> Work:
    """So many inner products of float32 rows, as strips of one large product."""
    x, y = (torch.from_numpy(rows) for rows in _pair(n, d, "float32"))
    strip = min(n, 4096)
    out = torch.empty((strip, n))

    def work() -> None:
        left = pairs
        while left > 0:
            rows = min(strip, max(1, round(left / n)))
            torch.mm(x[:rows], y.T, out=out[:rows])
            left -= rows * n

    return work


def kid_product(n: int, d: int) -> Work:
    """All pairs of the 2 n pooled rows, each once."""
    return _product(n, d, n * (2 * n + 1))


def manifold_product(n: int, d: int) -> Work:
    """Real with real, synthetic with synthetic, real with synthetic."""
    return _product(n, d, 3 * n * n)


def permuted(n: int, d: int, permutations: int) -> Work:
    """The whole test: the Gram matrix, the distance and its interval, all relabellings."""
    from evalsuite.metrics.distribution.kernel import kernel_distance

    x, y = _pair(n // 2, d, "float32")
    return lambda: kernel_distance(x, y, permutations=permutations).p_value


def reindexed(n: int, d: int, permutations: int) -> Work:
    """Relabellings by indexing a Gram matrix that is already there."""
    half = n // 2
    z = np.concatenate(_pair(half, d, "float32"))
    gram = (z @ z.T / np.float32(d) + np.float32(1)) ** 3
    np.fill_diagonal(gram, 0)
    rng = np.random.default_rng(0)

    def work() -> None:
        for _ in range(permutations):
            order = rng.permutation(n)
            i, j = order[:half], order[half:]
            within = gram[np.ix_(i, i)].sum() + gram[np.ix_(j, j)].sum()
            within / (half * (half - 1)) - 2 * gram[np.ix_(i, j)].mean()

    return work


def stream(n: int, d: int) -> Work:
    """Rows of one side that come in batches and are gone; the other side has one batch."""
    from evalsuite.metrics.streaming.frechet import FrechetDistance

    rng = np.random.default_rng(0)
    batch = np.empty((min(n, BATCH), d), dtype=np.float32)

    def work() -> float:
        metric = FrechetDistance(d)
        for _ in range(max(1, n // BATCH)):
            rng.standard_normal(dtype=np.float32, out=batch)
            metric.update(batch, real=True)
        metric.update(batch, real=False)
        return float(metric.compute())

    return work


CASES: dict[str, Callable[..., Work]] = {
    case.__name__: case
    for case in (
        frechet, frechet_torchmetrics, frechet_sqrtm, frechet_limit, frechet_reference, kid,
        kid_product, manifold, manifold_prdc, manifold_product, permuted, reindexed, stream,
    )
}  # fmt: skip
CURVES = {"frechet": "Fréchet distance", "kid": "KID, every pair", "manifold": "PRDC"}


# One process -------------------------------------------------------------------------------------


def _memory(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {key}")


def child(request: dict[str, object]) -> dict[str, object]:
    """Measure once, here."""
    case = CASES[str(request.pop("case"))]
    case(**{**request, "n": 64})()
    work = case(**request)
    before = _memory("VmRSS")
    # Linux: the peak starts again from here.
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    value = work()
    seconds = time.perf_counter() - start
    peak = _memory("VmHWM") - before
    return {"seconds": seconds, "peak": peak, "value": value, "threads": torch.get_num_threads()}


# All together ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured figure: the shortest time, the largest peak."""

    case: str
    n: int
    d: int
    seconds: float
    peak_mib: float
    runs: int
    value: float | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Task:
    """A case, its shape and options, and how often it is run."""

    case: str
    n: int
    d: int
    options: dict[str, int] = field(default_factory=dict)
    runs: int = REPEATS


def measure(tasks: Sequence[Task]) -> list[Figure]:
    """Measure in fresh processes, the tasks taking turns."""
    said: list[list[dict[str, Any]]] = [[] for _ in tasks]
    for turn in range(max(task.runs for task in tasks)):
        for task, found in zip(tasks, said, strict=True):
            if turn < task.runs:
                request = {"case": task.case, "n": task.n, "d": task.d, **task.options}
                found.extend(_fresh([request]))
    return [_figure(t.case, t.n, t.d, found) for t, found in zip(tasks, said, strict=True)]


def measure_curve(case: str, shapes: Sequence[tuple[int, int]]) -> list[Figure]:
    """Measure several shapes once, in one fresh process."""
    said = _fresh([{"case": case, "n": n, "d": d} for n, d in shapes])
    return [_figure(case, n, d, [one]) for (n, d), one in zip(shapes, said, strict=True)]


def _fresh(requests: list[dict[str, object]]) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.metrics", json.dumps(requests)],
        cwd=RESULTS.parent, capture_output=True, text=True, check=False,
        # Threads that wait must not spin: where other work holds a core, spinning is what is timed.
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{requests} failed: {done.stderr[-2000:]}")
    said: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return said


def _figure(case: str, n: int, d: int, said: Sequence[dict[str, Any]]) -> Figure:
    figure = Figure(
        case, n, d,
        seconds=min(s["seconds"] for s in said),
        peak_mib=max(s["peak"] for s in said) / MIB,
        runs=len(said),
        value=said[0]["value"],
    )  # fmt: skip
    print(f"{case:24} n={n:<9,} d={d:<6,} {figure.seconds:9.3f} s {figure.peak_mib:9.0f} MiB")
    return figure


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of the page."""

    what: str
    ours: str
    other: str
    result: str
    goal: str
    met: bool


def _seconds(t: float) -> str:
    return f"{t:.0f} s" if t >= 100 else f"{t:.3g} s" if t >= 1 else f"{1000 * t:.3g} ms"


def _faster(what: str, ours: Figure, other: Figure, name: str, goal: float) -> Goal:
    ratio = other.seconds / ours.seconds
    return Goal(
        what, _seconds(ours.seconds), f"{name}: {_seconds(other.seconds)}", f"{ratio:.3g}× faster",
        f"≥ {goal:g}×", ratio >= goal,
    )  # fmt: skip


def _near(what: str, ours: Figure, limit: Figure, goal: float) -> Goal:
    ratio = ours.seconds / limit.seconds
    return Goal(
        what, _seconds(ours.seconds), f"bare product: {_seconds(limit.seconds)}",
        f"{ratio:.2f}× its time", f"≤ {goal:g}×", ratio <= goal,
    )  # fmt: skip


def _small(what: str, ours: Figure) -> Goal:
    peak = f"{ours.peak_mib:.0f} MiB"
    met = ours.peak_mib < 1024
    return Goal(f"{what}: memory above the inputs", peak, "", peak, "< 1 GiB", met)


def run(sizes: Sizes) -> tuple[list[Goal], list[Figure], list[Figure]]:
    """Measure all; give the goals, all figures, and those of the curves."""
    goals: list[Goal] = []
    figures: list[Figure] = []

    def take(*tasks: Task) -> list[Figure]:
        found = measure(tasks)
        figures.extend(found)
        return found

    d = sizes.frechet_d
    for n, least in ((sizes.frechet_n, (5.0, 20.0)), (sizes.frechet_few, (20.0, 20.0))):
        what = f"Fréchet distance, n = m = {n:,}, d = {d:,}, float64"
        last = "frechet_reference" if n <= d else "frechet_limit"
        ours, torchmetrics, sqrtm, bare = take(
            Task("frechet", n, d),
            Task("frechet_torchmetrics", n, d),
            Task("frechet_sqrtm", n, d),
            Task(last, n, d, runs=1 if n <= d else REPEATS),
        )
        goals += [
            _faster(what, ours, torchmetrics, "torchmetrics", least[0]),
            _faster(what, ours, sqrtm, "scipy.linalg.sqrtm", least[1]),
        ]
        if n > d:
            # The goals above are out of reach where this is not far below what they ask for.
            ratio = ours.seconds / bare.seconds
            goals.append(
                Goal(
                    f"{what}: against its own limit", _seconds(ours.seconds),
                    f"two bare symmetric products and one eigvalsh: {_seconds(bare.seconds)}",
                    f"{ratio:.2f}× its time", "≤ 1.5×", ratio <= 1.5,
                )
            )  # fmt: skip
        else:
            truth = float(bare.value or 0)
            wrong = [abs(float(f.value or 0) - truth) / truth for f in (ours, torchmetrics, sqrtm)]
            goals.append(
                Goal(
                    f"{what}: relative error against NumPy's singular values", f"{wrong[0]:.1e}",
                    f"torchmetrics: {wrong[1]:.1e}, sqrtm: {wrong[2]:.1e}", f"{wrong[0]:.1e}",
                    "≤ 1e-12", wrong[0] <= 1e-12,
                )
            )  # fmt: skip
    n, d = sizes.pairs_n, sizes.pairs_d
    for case, name, goal in (
        ("kid", "KID, full U-statistic with interval", 1.5),
        ("manifold", "Precision, recall, density, coverage (k = 5)", 2.5),
    ):
        what = f"{name}, n = m = {n:,}, d = {d:,}, float32"
        ours, bare = take(Task(case, n, d), Task(f"{case}_product", n, d))
        goals += [_near(what, ours, bare, goal), _small(what, ours)]
    ours, peer = take(*(Task(case, sizes.peer_n, d) for case in ("manifold", "manifold_prdc")))
    goals.append(
        Goal(
            f"The same at n = m = {sizes.peer_n:,}, against prdc",
            f"{_seconds(ours.seconds)}, {ours.peak_mib:.0f} MiB",
            f"prdc: {_seconds(peer.seconds)}, {peer.peak_mib:.0f} MiB",
            f"{peer.seconds / ours.seconds:.2g}× faster, "
            f"{peer.peak_mib / ours.peak_mib:.2g}× smaller",
            "faster, smaller",
            peer.seconds > ours.seconds and peer.peak_mib > ours.peak_mib,
        )
    )  # fmt: skip
    N, B = sizes.pooled, sizes.permutations
    ours, other = take(
        Task("permuted", N, d, {"permutations": B}),
        Task("reindexed", N, d, {"permutations": sizes.reindexed}),
    )
    scaled = replace(other, seconds=other.seconds * B / sizes.reindexed)
    goals.append(
        _faster(
            f"KID with {B} permutations, N = {N:,}, d = {d:,}, float32", ours, scaled,
            f"re-indexing a Gram matrix ({sizes.reindexed} timed, scaled to {B})", 50,
        )
    )  # fmt: skip
    sides = take(*(Task("stream", n, sizes.stream_d, runs=1) for n in sizes.stream))
    peaks = [f.peak_mib for f in sides]
    goals.append(
        Goal(
            f"Moments of {sizes.stream[-1]:,} streamed rows, d = {sizes.stream_d}, one run",
            f"{_seconds(sides[-1].seconds)}, {peaks[-1]:.1f} MiB",
            ", ".join(f"{n:,} rows: {p:.1f} MiB" for n, p in zip(sizes.stream, peaks, strict=True)),
            f"{peaks[-1] - peaks[0]:+.1f} MiB for {sizes.stream[-1] // sizes.stream[0]}× the rows",
            "constant (± 16 MiB)",
            abs(peaks[-1] - peaks[0]) < 16,
        )
    )  # fmt: skip
    shapes = [
        *((n, sizes.curve_n_d) for n in sizes.curve_n),
        *((sizes.curve_d_n, d) for d in sizes.curve_d if d != sizes.curve_n_d),
    ]
    curves = [figure for case in CURVES for figure in measure_curve(case, shapes)]
    return goals, figures, curves


# The page ----------------------------------------------------------------------------------------


def page(sizes: Sizes, goals: Sequence[Goal], curves: Sequence[Figure], load: float) -> str:
    missed = [g.what for g in goals if not g.met]
    lines = [
        "# Speed and memory of the metrics",
        "",
        "Made by `python -m benchmarks metrics`; all figures in [metrics.csv](metrics.csv).",
        f"Measured on {machine()}, {torch.get_num_threads()} threads, "
        f"OMP_WAIT_POLICY=PASSIVE for all; other work on the machine at the start: {load:.1f} "
        "busy processes on average.",
        "",
        *(line.rstrip() for line in str(__doc__).splitlines()[2:]),
        "",
        "| what | here | compared with | result | goal | met |",
        "|---|---|---|---|---|---|",
        *(
            f"| {g.what} | {g.ours} | {g.other} | {g.result} | {g.goal} | "
            f"{'yes' if g.met else '**no**'} |"
            for g in goals
        ),
        "",
        f"{len(goals) - len(missed)} of {len(goals)} goals are met.",
        "",
        "## Cost against n and d",
        "",
        "![Seconds against n and d](metrics.svg)",
        "",
        "One run each, one process for each metric, n = m; float64 for the Fréchet distance, "
        f"float32 for the others. Left at d = {sizes.curve_n_d}, right at n = {sizes.curve_d_n:,}.",
        "",
        "| n = m | d | " + " | ".join(CURVES.values()) + " |",
        "|---|---|" + "---|" * len(CURVES),
    ]
    by_shape = {(f.case, f.n, f.d): f for f in curves}
    for n, d in dict.fromkeys((f.n, f.d) for f in curves):
        cells = [by_shape[case, n, d] for case in CURVES]
        text = " | ".join(f"{_seconds(f.seconds)}, {f.peak_mib:.0f} MiB" for f in cells)
        lines.append(f"| {n:,} | {d:,} | {text} |")
    return "\n".join([*lines, ""])


def table(figures: Sequence[Figure]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(asdict(figures[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {**asdict(f), "seconds": f"{f.seconds:.4g}", "peak_mib": f"{f.peak_mib:.1f}"}
        for f in figures
    )
    return out.getvalue()


_COLOURS = ("#0b6e99", "#c2571a", "#5b8c2a")


def plot(sizes: Sizes, curves: Sequence[Figure]) -> str:
    """Two panels, logarithmic both ways: seconds against n, and against d."""
    width, height, left, top = 330.0, 250.0, 60.0, 30.0
    times = [f.seconds for f in curves]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    parts = []
    for panel, (axis, fixed, values) in enumerate(
        (
            ("n", ("d", sizes.curve_n_d), sizes.curve_n),
            ("d", ("n", sizes.curve_d_n), tuple(sorted({*sizes.curve_d, sizes.curve_n_d}))),
        )
    ):
        x0 = left + panel * (width + 75)
        first, last = math.log10(values[0]), math.log10(values[-1])

        def at(v: float, t: float, x0: float = x0, a: float = first, b: float = last) -> str:
            x = x0 + width * (math.log10(v) - a) / (b - a)
            return f"{x:.1f},{top + height * (high - math.log10(t)) / (high - low):.1f}"

        parts.append(
            f'<rect x="{x0}" y="{top}" width="{width}" height="{height}" fill="none" '
            'stroke="#888"/>'
            f'<text x="{x0 + width / 2}" y="{top + height + 38}" text-anchor="middle">'
            f"{axis} ({fixed[0]} = {fixed[1]:,})</text>"
        )
        for e in range(low, high + 1):
            y = at(values[0], 10.0**e).split(",")[1]
            parts.append(
                f'<path d="M{x0} {y}h{width}" stroke="#ddd"/>'
                f'<text x="{x0 - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{10.0**e:g} s</text>'
            )
        for v in values:
            x = at(v, 1.0).split(",")[0]
            parts.append(f'<text x="{x}" y="{top + height + 18}" text-anchor="middle">{v:,}</text>')
        for colour, case in zip(_COLOURS, CURVES, strict=True):
            line = sorted(
                (getattr(f, axis), f.seconds)
                for f in curves
                if f.case == case and getattr(f, fixed[0]) == fixed[1]
            )
            points = [at(v, t) for v, t in line]
            parts.append(
                f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
                'stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>'
                for x, y in (p.split(",") for p in points)
            ]
    for i, (colour, name) in enumerate(zip(_COLOURS, CURVES.values(), strict=True)):
        key = left + 190 * i
        parts.append(
            f'<path d="M{key} 14h24" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{key + 30}" y="18">{name}</text>'
        )
    size = f"{2 * width + 155:.0f} {top + height + 50:.0f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" '
        'font-family="sans-serif" font-size="12" role="img">'
        "<title>Seconds against n and d</title>"
        '<rect width="100%" height="100%" fill="white"/>' + "".join(parts) + "</svg>\n"
    )


def main() -> None:
    sizes = Sizes()
    load, _, _ = os.getloadavg()
    goals, figures, curves = run(sizes)
    write("performance/metrics.csv", table([*figures, *curves]))
    write("performance/metrics.svg", plot(sizes, curves))
    write("performance/metrics.md", page(sizes, goals, curves, load))


if __name__ == "__main__":
    print(json.dumps([child(request) for request in json.loads(sys.argv[1])]))
