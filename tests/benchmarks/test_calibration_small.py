"""The calibration study: its shortcuts give the public functions' p-values, its truths are true, it
can be cut off, and the committed results keep what the tests promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import calibration as study
from evalsuite.metrics.distribution.classifier import classifier_two_sample_test
from evalsuite.metrics.distribution.kernel import kernel_distances
from evalsuite.metrics.drift.univariate import _Pooled, anderson_darling_test
from evalsuite.metrics.inference import permutation_masks

COMMITTED = Path(__file__).parents[2] / "results" / "calibration" / "calibration.csv"
PLAN = study.Plan(pools=2, deals=3, permutations=19)


def one_deal(x: np.ndarray, y: np.ndarray, seed: int) -> study.Pool:
    """The data as given, with the permutations that the public functions draw for this seed."""
    n, m = len(x), len(y)
    observed = np.arange(n + m)[:, None] < n
    permuted, _ = permutation_masks(n, m, 39, seed=seed)
    return study.Pool(np.concatenate([x, y]), np.concatenate([observed, permuted], 1), None, 1)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_kernel_shortcut_gives_the_public_p_values(shift: float) -> None:
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((40, 5)) + shift
    told = kernel_distances(x, y, study.KERNELS, permutations=39, seed=4)
    found = study.kernel_p(one_deal(x, y, 4))
    for kernel in study.KERNELS:
        assert found[f"MMD {kernel}"][0] == pytest.approx(told.results[kernel].p_value)
    assert found["MMD max-T"][0] == pytest.approx(told.p_value)


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_classifier_shortcut_gives_the_public_p_value(shift: float) -> None:
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((60, 5)), rng.standard_normal((40, 5)) + shift
    # The public function draws folds with its seed, and permutations with the next.
    told = classifier_two_sample_test(x, y, permutations=39, seed=0)
    assert study.classifier_p(one_deal(x, y, 1))[0] == pytest.approx(told.p_value)


def test_column_shortcut_gives_the_public_p_value() -> None:
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal(80), rng.standard_normal(50) + 0.3
    both = _Pooled.of(x, y, None, None)
    p, _ = both.permuted(both.l2(tail_weight=True), 39, 7)
    assert p == anderson_darling_test(x, y, permutations=39, seed=7).p_value


@pytest.mark.parametrize("data", ["gaussian", "tied", "copies", "grouped", "grouped, withheld"])
def test_deals_keep_sizes_and_groups(data: str) -> None:
    pool = study.pool(data, 30, 60, 2, deals=4, permutations=19, seed=1)
    assert pool.first.shape == (90, 80)
    assert (pool.first.sum(axis=0) == 30).all()
    assert len({column.tobytes() for column in pool.first.T}) == 80
    if data.startswith("grouped"):
        whole = pool.first.reshape(30, 3, 4, 20)
        # Observed labellings never cut a group; permuted ones do only where it is withheld.
        assert (whole[:, :, :, 0].any(axis=1) == whole[:, :, :, 0].all(axis=1)).all()
        kept = (whole.any(axis=1) == whole.all(axis=1)).all()
        assert kept == (data == "grouped")


@pytest.mark.parametrize("data", ["gaussian", "heavy", "tied", "copies", "grouped"])
def test_null_cells_are_well_formed(data: str) -> None:
    rows = study.null_cell(data, 24, 36, 70, PLAN, seed=2)
    names = {r.test for r in rows}
    assert {"MMD max-T", "coverage", "precision", "Fréchet", "C2ST"} <= names
    assert ("MMD block z" in names) == (data != "grouped")
    for r in rows:
        assert r.repetitions == 6
        assert 0 <= r.count <= r.repetitions
        assert r.permutations == (0 if r.test == "MMD block z" else 19)
    assert study.cells_in(study.table_of({"a": rows, "b": rows[:1]})) == {"a": rows, "b": rows[:1]}


@pytest.mark.peers
def test_a_gap_is_seen_and_its_absence_is_not() -> None:
    """The study would be blind if its statistics did not move."""
    same = study.power_cell("mean shift", 0.0, 4, seed=1, n=60, d=8)
    moved = study.power_cell("mean shift", 2.0, 4, seed=1, n=60, d=8)
    of = {(r.test, r.gap): r.share for r in same + moved}
    for test in ("MMD energy", "MMD max-T", "Fréchet", "C2ST", "KS on each column, Holm"):
        assert of[test, 2.0] == 1.0
        assert of[test, 0.0] < 1.0
    copied = study.power_cell("copied samples", 0.5, 2, seed=1, n=60, d=8)
    assert {r.share for r in copied if r.test == "copy: any (Holm)"} == {1.0}
    assert study.power_svg(same + moved).count("<polyline") == 5


@pytest.mark.parametrize("data", ["gaussian", "heavy"])
@pytest.mark.parametrize("kernel", study.KERNELS)
def test_kernel_truths_agree_with_simulation(kernel: str, data: str) -> None:
    if (kernel, data) == ("polynomial", "heavy"):
        pytest.skip("cubes of t with 3 degrees of freedom have no mean")
    d, step = 4, 1.2
    rng = np.random.default_rng(8)
    x, y = (torch.from_numpy(study.rows_of(data, 4000, d, rng)) for _ in range(2))
    found = kernel_distances(x, y + step, (kernel,), bandwidth=2.5).results[kernel]
    truth = study.kernel_truth(kernel, data, d, step, 2.5)
    assert found.variance is not None
    assert abs(found.value - truth) < 4 * found.variance**0.5
    assert study.kernel_truth(kernel, data, d, 0.0, 2.5) == 0.0


def test_polynomial_truth_is_exact() -> None:
    """Gauss-Hermite quadrature with 6 nodes is exact for polynomials up to degree 11."""
    d, step = 2, 0.7
    nodes, weights = np.polynomial.hermite_e.hermegauss(6)
    points = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, d)
    weight = np.outer(weights, weights).ravel() / weights.sum() ** 2
    sides = {"x": points, "y": points + step}

    def mean(a: str, b: str) -> float:
        return float(weight @ (sides[a] @ sides[b].T / d + 1) ** 3 @ weight)

    direct = mean("x", "x") + mean("y", "y") - 2 * mean("x", "y")
    assert study.kernel_truth("polynomial", "gaussian", d, step, 1.0) == pytest.approx(direct)


def test_interval_cells_are_well_formed() -> None:
    rows = [
        *study.feature_cell("kernel", "gaussian", 40, 4, 1.0, 4, 1),
        *study.feature_cell("manifold", "gaussian", 40, 4, 0.0, 4, 1),
        *study.feature_cell("c2st", "heavy", 40, 4, 1.0, 4, 1),
        *study.feature_cell("frechet", "gaussian", 40, 4, 1.0, 4, 1),
        *study.column_coverage_cell("heavy", 60, 0.5, 4, 1),
        *study.copy_cell("gaussian", 40, 4, 0.2, 4, 1),
        *study.column_cell("grouped", 30, 60, 4, 1),
        *study.utility_cell("gaussian", 4, 1.0, 4, 1),
    ]
    covered = [r for r in rows if r.study == "coverage"]
    assert len({r.test for r in covered}) == 21
    assert all(r.repetitions == 4 and 0 <= r.count <= 4 for r in rows)
    # Nominal 95 %: fewer than half of so many intervals cannot be chance.
    assert sum(r.count for r in covered) > 2 * len(covered)


def test_a_truth_outside_is_not_counted_as_held() -> None:
    triples = np.array([[1.0, 0.5, 1.5], [1.0, 0.9, 1.1]])
    assert study._covered("x", "gaussian", (2, 2, 1), 0.0, triples, 1.2).count == 1
    assert study._covered("x", "gaussian", (2, 2, 1), 0.0, triples, 0.6).count == 1
    assert study._covered("x", "gaussian", (2, 2, 1), 0.0, triples, 0.95).count == 2
    assert study._covered("x", "gaussian", (2, 2, 1), 0.0, triples, None).count == 2


def test_a_study_that_was_cut_off_goes_on_from_what_it_published() -> None:
    made: list[str] = []
    published = ""

    def publish(done: dict[str, list[study.Row]]) -> None:
        nonlocal published
        published = study.table_of(done)

    def cell(name: str) -> study.Cell:
        def work(seed: int) -> list[study.Row]:
            made.append(name)
            return [study._null(name, "exact", "gaussian", (9, 9, 2), 19, np.array([0.01, 0.5]))]

        return study.Cell(name, work)

    plan = [cell("a"), cell("b, of two words")]
    study.run(plan[:1], {}, publish)
    study.run(plan, study.cells_in(published), publish)
    assert made == ["a", "b, of two words"]
    assert list(study.cells_in(published)) == made
    study.run(plan, study.cells_in(published), publish)
    assert len(made) == 2


def test_names_of_cells_are_different_and_seeds_too() -> None:
    plan = list(study.cells())
    assert len({c.name for c in plan}) == len(plan)
    assert len({c.seed for c in plan}) == len(plan)


def test_bands() -> None:
    def row(claim: str, count: int, name: str = "null") -> study.Row:
        return study.Row(name, "t", claim, "gaussian", 9, 9, 2, 0.0, 99, 1000, count)

    assert row("exact", 50).band() == (0.033, 0.069)
    assert row("exact", 33).inside()
    assert not row("exact", 32).inside()
    assert row("at most", 0).inside()
    assert not row("at most", 70).inside()
    assert not row("interval", 930, "coverage").inside()
    assert row("interval", 1000, "coverage").inside()


def test_summary_says_when_it_is_not_complete() -> None:
    rows = study.null_cell("gaussian", 24, 36, 3, PLAN, seed=2)
    assert "**Not complete:** 1 of 9" in study.summary(rows, 9, 1)
    assert "Not complete" not in study.summary(rows, 9, 9)


def test_committed_levels_hold() -> None:
    """All cells of tests that promise a level, judged together.

    One in a hundred lies outside a 99 % band by chance, so the number outside is bounded by what
    chance gives once in a thousand studies; and none may lie outside the band that, with so many
    cells, holds every one with probability 0.99.
    """
    done = study.cells_in(COMMITTED.read_text(encoding="utf-8"))
    assert set(done) <= {c.name for c in study.cells()}
    rows = [r for cell in done.values() for r in cell]
    cells, allowed, count, outside, far = study.family(rows)
    assert cells >= 150
    assert count <= allowed, outside
    assert not far
    exact = [r for r in rows if r.study == "null" and r.claim == "exact"]
    # The power of this test itself: a rate of 10 % could not have stayed inside.
    assert np.median([r.repetitions for r in exact]) >= 1000
    assert np.mean([r.share for r in exact]) == pytest.approx(study.ALPHA, abs=0.003)
