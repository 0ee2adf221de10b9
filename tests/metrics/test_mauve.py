"""MAUVE: the frontier of known histograms by hand, and what quantisation does to samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from evalsuite.metrics.distribution.mauve import (
    divergence_frontier,
    frontier_area,
    frontier_integral,
    mauve,
)

histograms = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=2, max_size=8
).filter(lambda h: sum(a for a, _ in h) > 0 and sum(b for _, b in h) > 0)


def test_equal_histograms_give_one() -> None:
    assert frontier_area([1, 2, 3], [10, 20, 30]) == pytest.approx(1.0, abs=1e-12)
    assert frontier_integral([1, 2, 3], [10, 20, 30]) == 0.0


@pytest.mark.parametrize("c", [1.0, 2.5, 5.0])
def test_disjoint_histograms_give_the_beta_function(c: float) -> None:
    # KL(Q | R) = -ln(1 - a) and KL(P | R) = -ln a: the area under ((1-a)^c, a^c).
    expected = c * special.beta(c + 1, c)
    assert frontier_area([1, 1, 0], [0, 0, 5], scale=c) == pytest.approx(expected, rel=1e-5)
    assert frontier_integral([1, 1, 0], [0, 0, 5]) == 1.0


def test_a_known_pair_by_quadrature() -> None:
    p, q, c = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6]), 5.0

    def kl(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum(a * np.log(a / b)))

    def slope(a: float) -> float:
        r = a * p + (1 - a) * q
        across = np.exp(-c * kl(q, r))
        # d across / d a, by the chain rule.
        return float(np.exp(-c * kl(p, r)) * across * c * np.sum(-q * (p - q) / r))

    level = np.exp(-c * kl(q, p))  # at R = P, and everything left of it
    expected = level + integrate.quad(slope, 0, 1)[0]
    assert frontier_area(p, q) == pytest.approx(expected, rel=1e-6)
    cost = integrate.quad(
        lambda a: 2 * (a * kl(p, a * p + (1 - a) * q) + (1 - a) * kl(q, a * p + (1 - a) * q)), 0, 1
    )[0]
    assert frontier_integral(p, q) == pytest.approx(cost, rel=1e-9)


def test_frontier_ends_at_the_two_divergences() -> None:
    p, q = np.array([0.7, 0.3]), np.array([0.4, 0.6])
    curve = divergence_frontier(p, q)
    assert curve[0] == pytest.approx([0, np.sum(p * np.log(p / q))], abs=1e-4)
    assert curve[-1] == pytest.approx([np.sum(q * np.log(q / p)), 0], abs=1e-4)
    assert (np.diff(curve[:, 0]) > 0).all()


@settings(deadline=None)
@given(h=histograms)
def test_symmetric_bounded_and_blind_to_names(h: list[tuple[int, int]]) -> None:
    p, q = np.array(h, dtype=float).T
    area = frontier_area(p, q)
    assert 0 < area <= 1
    assert frontier_area(q, p) == pytest.approx(area, rel=1e-5, abs=1e-9)
    assert frontier_area(p[::-1], q[::-1]) == pytest.approx(area, rel=1e-9)
    cost = frontier_integral(p, q)
    assert 0 <= cost <= 1
    assert frontier_integral(q, p) == pytest.approx(cost, abs=1e-14)
    # Merging cells can only hide a difference.
    merged = np.r_[p[0] + p[1], p[2:]], np.r_[q[0] + q[1], q[2:]]
    assert frontier_area(*merged) >= area - 1e-6
    assert frontier_integral(*merged) <= cost + 1e-12


def test_separate_clusters_are_their_histograms() -> None:
    rng = np.random.default_rng(0)
    centres = 100 * np.eye(4)
    a, b = np.repeat([0, 1, 2], [50, 30, 20]), np.repeat([0, 1, 3], [10, 30, 60])
    x, y = (centres[c] + rng.normal(size=(100, 4)) for c in (a, b))
    found = mauve(x, y, clusters=4, explained=1.0, seeds=8)
    expected = frontier_area([50, 30, 20, 0], [10, 30, 0, 60])
    # k-means may split one cluster and merge two for some seeds; most find the four.
    assert np.median(found.values) == pytest.approx(expected, rel=1e-9)
    assert found.small_sample
    assert (found.clusters, found.components) == (4, 4)


def test_falls_with_the_gap_and_reports_the_codebook_noise() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(600, 16))
    results = [mauve(x, rng.normal(size=(600, 16)) + shift, seeds=3) for shift in (0, 0.5, 3)]
    scores = [float(r) for r in results]
    assert scores[0] > scores[1] > scores[2]
    assert scores[2] < 0.01
    assert results[1].sd == pytest.approx(np.std(results[1].values, ddof=1))
    assert results[1].sd > 0
    assert float(results[1]) == pytest.approx(np.mean(results[1].values))
    costs = [r.frontier_integral for r in results]
    assert costs[0] < costs[1] < costs[2]


def test_same_seed_same_value_and_torch_equals_numpy() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(80, 5)), rng.normal(0.3, size=(60, 5))
    first = mauve(x, y, seeds=2, seed=4)
    assert first == mauve(torch.tensor(x), torch.tensor(y), seeds=2, seed=4)
    assert first.values[1] == mauve(x, y, seeds=1, seed=5).values[0]


def test_rotation_and_shift_change_nothing() -> None:
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(90, 4)), rng.normal(0.4, size=(90, 4))
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    before, after = mauve(x, y, explained=1.0), mauve(x @ turn + 7, y @ turn + 7, explained=1.0)
    assert float(after) == pytest.approx(float(before), abs=3 * before.sd + 0.02)


def test_constant_and_repeated_rows() -> None:
    same = mauve(np.ones((20, 3)), np.ones((30, 3)))
    assert (float(same), same.frontier_integral) == (1.0, 0.0)
    two = mauve(np.zeros((20, 3)), np.ones((30, 3)))
    assert two.frontier_integral == 1.0


def test_refuses() -> None:
    x = np.zeros((10, 2))
    with pytest.raises(ValueError, match="clusters"):
        mauve(x, x, clusters=21)
    with pytest.raises(ValueError, match="explained"):
        mauve(x, x, explained=0)
    with pytest.raises(ValueError, match="seeds"):
        mauve(x, x, seeds=0)
    with pytest.raises(ValueError, match="scale"):
        mauve(x, x, scale=-1)
    with pytest.raises(ValueError, match="at least 2 rows"):
        mauve(x[:1], x)
    with pytest.raises(ValueError, match="NaN"):
        mauve(np.full((4, 2), np.nan), x)
    with pytest.raises(ValueError, match="same cells"):
        frontier_area([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="same cells"):
        frontier_integral([1, 2], [1, 2, 3])
    for bad in ([-1, 2], [0, 0], [np.nan, 1], [[1]], []):
        with pytest.raises(ValueError, match="histogram"):
            frontier_area(bad, [1, 2])
