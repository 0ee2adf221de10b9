"""Figures of papers that need no weights: the paper's value, ours, and the difference.

``python -m benchmarks.record_papers`` writes results/record/papers.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evalsuite import metrics as m
from evalsuite.metrics.human.agreement import Level, krippendorff_alpha

from ._machine import machine, write

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One figure."""

    what: str
    source: str
    paper: float
    ours: float
    within: float
    """The difference that chance (or rounding in the paper) explains."""


def _normal(rng: np.random.Generator, n: int, d: int, mean: float = 0.0, sd: float = 1.0) -> Array:
    return mean + sd * rng.standard_normal((n, d))


def _twice(rng: np.random.Generator, n: int, d: int) -> tuple[Array, Array]:
    return _normal(rng, n, d), _normal(rng, n, d)


def frechet() -> list[Figure]:
    """The closed form of two Gaussians, and how the estimate falls with 1/n."""
    rng = np.random.default_rng(0)
    d, mean, sd = 16, 0.3, 1.2
    true = d * mean**2 + d * (1 - sd) ** 2
    x, y = _normal(rng, 200_000, d), _normal(rng, 200_000, d, mean, sd)
    found = [Figure(
        "FD of N(0, I) and N(0.3, 1.44 I), 16 columns, n = 200,000",
        "Dowson & Landau 1982, equation for Gaussians", true, m.frechet_distance(x, y).value, 0.02,
    )]  # fmt: skip
    sizes = (1_000, 2_000, 4_000)
    means = [
        np.mean(
            [m.frechet_distance(_normal(rng, n, d), _normal(rng, n, d)).value for _ in range(8)]
        )
        for n in sizes
    ]
    slope = float(np.polyfit(np.log(sizes), np.log(means), 1)[0])
    found.append(Figure(
        "exponent of FD's bias in n, equal Gaussians", "Chong & Forsyth 2020: linear in 1/n",
        -1.0, slope, 0.1,
    ))  # fmt: skip
    fixed = np.random.default_rng(0)
    a = fixed.standard_normal((3000, 64))
    b = 0.3 + 1.2 * fixed.standard_normal((3000, 64))
    found.append(Figure(
        "FD of a fixed draw, 3,000 × 64", "torch-fidelity, torchmetrics, clean-fid",
        9.2214697874686, m.frechet_distance(a, b).value, 1e-9,
    ))  # fmt: skip
    found.append(Figure(
        "KID of the same draw, whole set", "torch-fidelity, torchmetrics, clean-fid",
        0.31837597201491885, m.kernel_distance(a, b).value, 1e-12,
    ))  # fmt: skip
    near = m.precision_recall_density_coverage(a, b, k=5, level=None)
    peers = {"precision": 0.0826667, "recall": 0.9766667, "density": 0.026, "coverage": 0.111}
    for name, value in peers.items():
        ours = float(getattr(getattr(near, name), "value", getattr(near, name)))
        found.append(Figure(f"{name} of the same draw, k = 5", "prdc 0.2", value, ours, 5e-7))
    return found


def kernels() -> list[Figure]:
    """KID has no bias, at any n; its closed form; MMD of Gaussians."""
    rng = np.random.default_rng(1)
    values = [
        m.kernel_distance(_normal(rng, 20, 8), _normal(rng, 20, 8)).value for _ in range(2_000)
    ]
    error = float(np.std(values) / math.sqrt(len(values)))
    d, mean = 64, 0.3
    size = d * mean**2
    true = 3 * size / d + 3 * size**2 / d**2 + (size**3 + 6 * size**2 + 3 * size * (d + 2)) / d**3
    x, y = _normal(rng, 6_000, d), _normal(rng, 6_000, d, mean)
    s, d2 = 2.0, 16
    a, b = _normal(rng, 6_000, d2), _normal(rng, 6_000, d2, 0.5, math.sqrt(2))
    within = [(1 + 2 * v / s**2) ** (-d2 / 2) for v in (1.0, 2.0)]
    across = (1 + 3 / s**2) ** (-d2 / 2) * math.exp(-0.5 * d2 * 0.25 / (s**2 + 3))
    return [
        Figure("mean KID of equal sets, n = 20, 2,000 draws", "Bińkowski 2018: unbiased",
               0.0, float(np.mean(values)), 4 * error),
        Figure("KID of N(0, I) and N(0.3, I), 64 columns", "closed form of the cubic kernel",
               true, m.kernel_distance(x, y).value, 0.015),
        Figure("MMD² with an RBF kernel, bandwidth 2, of N(0, I) and N(0.5, 2 I), 16 columns",
               "closed form, Gretton 2012's estimator", within[0] + within[1] - 2 * across,
               m.kernel_distance(a, b, "rbf", bandwidth=s).value, 0.001),
    ]  # fmt: skip


def manifolds() -> list[Figure]:
    """Expected density and coverage of equal sets; Vendi's limits."""
    rng = np.random.default_rng(2)
    n, k = 1_000, 5
    found = [
        m.precision_recall_density_coverage(_normal(rng, n, 8), _normal(rng, n, 8), k=k, level=None)
        for _ in range(10)
    ]
    expected = 1 - math.prod((n - 1 - j) / (2 * n - 1 - j) for j in range(k))
    value = [[float(getattr(getattr(f, name), "value", getattr(f, name))) for f in found]
             for name in ("coverage", "density")]  # fmt: skip
    return [
        Figure("coverage of equal sets, n = 1,000, k = 5", "Naeem 2020, expected value",
               expected, float(np.mean(value[0])), 0.006),
        Figure("density of equal sets", "Naeem 2020: 1 in expectation", 1.0,
               float(np.mean(value[1])), 0.03),
        Figure("Vendi score of 7 orthogonal samples", "Friedman & Dieng 2023", 7.0,
               m.vendi_score(np.eye(7)).value, 1e-9),
        Figure("Vendi score of 7 equal samples", "Friedman & Dieng 2023", 1.0,
               m.vendi_score(np.tile([[1.0, 0.0]], (7, 1))).value, 1e-9),
    ]  # fmt: skip


def agreement() -> list[Figure]:
    """Krippendorff's own example: four observers, twelve units, some left out."""
    blank = math.nan
    ratings = np.array(
        [
            [1, 2, 3, 3, 2, 1, 4, 1, 2, blank, blank, blank],
            [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, blank, 3],
            [blank, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, blank],
            [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, blank],
        ]
    )
    paper: dict[Level, float] = {"nominal": 0.743, "ordinal": 0.815, "interval": 0.849}
    return [
        Figure(f"Krippendorff's alpha, {level}", "Krippendorff 2011, example C", value,
               float(krippendorff_alpha(ratings, level).value), 6e-4)
        for level, value in paper.items()
    ]  # fmt: skip


def main() -> None:
    figures = [*frechet(), *kernels(), *manifolds(), *agreement()]
    missed = [f.what for f in figures if not abs(f.ours - f.paper) <= f.within]
    rows = [
        f"| {f.what} | {f.source} | {f.paper:.8g} | {f.ours:.8g} | {abs(f.ours - f.paper):.1e} | "
        f"{f.within:.1e} |"
        for f in figures
    ]
    text = [
        "# Figures of papers, reproduced", "",
        f"{len(figures) - len(missed)} of {len(figures)} within the difference that chance, or "
        "the paper's own rounding, explains. None needs weights.", "",
        "| figure | from | theirs | ours | difference | allowed |", "|---|---|--:|--:|--:|--:|",
        *rows, "",
        *([f"Outside: {', '.join(missed)}.", ""] if missed else []),
        f"Machine: {machine()}.", "", "Made by `python -m benchmarks.record_papers`.", "",
    ]  # fmt: skip
    write("record/papers.md", "\n".join(text))


if __name__ == "__main__":
    main()
