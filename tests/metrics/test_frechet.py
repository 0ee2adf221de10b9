"""Fréchet distance: closed forms, peers on the same arrays, hard shapes, merging, intervals."""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.metrics.distribution.frechet import (
    FrechetResult,
    Moments,
    frechet_distance,
    frechet_distance_infinity,
    frechet_from_moments,
    frechet_null_bias,
    frechet_splits,
    total_variance,
)
from evalsuite.metrics.inference import split_masks
from evalsuite.metrics.streaming.frechet import FrechetDistance

NOT_UPDATED = pytest.warns(UserWarning, match="before the ``update``")


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def g() -> tuple[np.ndarray, np.ndarray]:
    """Set G of field/image.md §5."""
    rng = np.random.default_rng(0)
    return rng.standard_normal((3000, 64)), 0.3 + 1.2 * rng.standard_normal((3000, 64))


def decaying(rng: np.random.Generator, n: int, d: int) -> np.ndarray:
    """Rows like an encoder's: not negative, correlated, with a spectrum over four decades."""
    mix = rng.standard_normal((d, d)) * np.logspace(0, -2, d)
    return np.maximum(rng.standard_normal((n, d)) @ mix + 0.3, 0.0)


def with_moments(rng: np.random.Generator, n: int, mean: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Rows with exactly this sample mean and covariance."""
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    x = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T
    return mean + x @ np.linalg.cholesky(S).T


def test_reference_value(g: tuple[np.ndarray, np.ndarray]) -> None:
    result = frechet_distance(*g)
    assert result.value == pytest.approx(9.2214697874686, rel=1e-12)
    assert float(result) == result.value == result.mean_term + result.trace_term
    assert (result.method, result.n_real, result.n_synthetic, result.dim) == (
        "cholesky", 3000, 3000, 64,
    )  # fmt: skip


def test_diagonal_closed_form() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.1, 4, 12), rng.uniform(0.1, 4, 12)
    x = with_moments(rng, 100, np.zeros(12), np.diag(a))
    y = with_moments(rng, 70, np.full(12, 0.5), np.diag(b))
    expected = 12 * 0.25 + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-12)


def test_commuting_and_two_by_two_closed_form() -> None:
    """For 2x2 matrices Tr M^(1/2) = sqrt(Tr M + 2 sqrt(det M))."""
    rng = np.random.default_rng(2)
    S1, S2 = np.array([[2.0, 0.9], [0.9, 1.0]]), np.array([[1.0, -0.5], [-0.5, 3.0]])
    x = with_moments(rng, 50, np.zeros(2), S1)
    y = with_moments(rng, 60, np.array([1.0, -2.0]), S2)
    M = S1 @ S2
    root = np.sqrt(np.trace(M) + 2 * np.sqrt(np.linalg.det(M)))
    expected = 5 + np.trace(S1) + np.trace(S2) - 2 * root
    assert frechet_distance(x, y).value == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "m", "d", "method"),
    [
        (40, 30, 64, "rows"),
        (30, 40, 64, "rows"),
        (40, 200, 64, "rows-covariance"),
        (200, 40, 64, "rows-covariance"),
        (300, 200, 64, "cholesky"),
    ],
)
def test_every_method_agrees_with_singular_values_of_the_rows(
    n: int, m: int, d: int, method: str
) -> None:
    """|A B'|_* of the centred rows is exact whatever the rank: the definition by factors."""
    rng = np.random.default_rng(3)
    x, y = decaying(rng, n, d), 1.1 * decaying(rng, m, d) + 0.05
    A = (x - x.mean(0)) / np.sqrt(n - 1)
    B = (y - y.mean(0)) / np.sqrt(m - 1)
    trace_term = (A**2).sum() + (B**2).sum() - 2 * np.linalg.svd(A @ B.T, compute_uv=False).sum()
    result = frechet_distance(x, y)
    assert result.method == method
    assert result.trace_term == pytest.approx(trace_term, rel=1e-9)
    assert result.mean_term == pytest.approx(((x.mean(0) - y.mean(0)) ** 2).sum(), rel=1e-10)
    assert frechet_from_moments(Moments.of(x), Moments.of(y)).value == pytest.approx(
        result.value, rel=1e-7
    )


@pytest.mark.parametrize("small", [0.1, 1e-5, 1e-7])
@pytest.mark.parametrize("n", [100, 500])
def test_ill_conditioned_covariances_keep_nine_digits(small: float, n: int) -> None:
    """Half of the directions nearly empty: Cholesky and eigenvalues alone would be 6e-8 off."""
    rng = np.random.default_rng(31)
    d = 128
    turns = [np.linalg.qr(rng.standard_normal((d, d)))[0] for _ in range(2)]
    mix = turns[0] * np.repeat([1.0, small], d // 2) @ turns[1]
    x, y = rng.standard_normal((n, d)) @ mix, 1.02 * rng.standard_normal((500, d)) @ mix
    A, B = ((z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y))
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + (A**2).sum() + (B**2).sum()
    exact -= 2 * np.linalg.svd(A @ B.T, compute_uv=False).sum()
    result = frechet_distance(x, y)
    assert result.value == pytest.approx(exact, rel=1e-9)
    well = "cholesky" if small == 0.1 else "qr"
    assert result.method == ("rows-covariance" if n < d else well)
    streamed = frechet_from_moments(Moments.of(x), Moments.of(y)).value
    assert streamed == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("case", ["constant column", "copied column", "three distinct rows"])
def test_singular_covariances_with_many_rows(case: str) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((200, 16)), 0.2 + 1.3 * rng.standard_normal((150, 16))
    if case == "constant column":
        x[:, 3] = 7.0
        y[:, 3] = 8.0
    elif case == "copied column":
        x[:, 5], y[:, 5] = x[:, 4], y[:, 4]
    else:
        x = x[rng.integers(0, 3, 200)]
    A, B = ((z - z.mean(0)) / np.sqrt(len(z) - 1) for z in (x, y))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + (A**2).sum() + (B**2).sum()
    expected -= 2 * np.linalg.svd(A @ B.T, compute_uv=False).sum()
    result = frechet_distance(x, y)
    assert result.method == "qr"
    assert result.value == pytest.approx(expected, rel=1e-12)
    streamed = frechet_from_moments(Moments.of(x), Moments.of(y))
    assert streamed.method == "eigh"
    assert streamed.value == pytest.approx(expected, rel=1e-9)


def test_constant_sets_are_points() -> None:
    x, y = np.ones((5, 3)), np.full((4, 3), 3.0)
    for result in (
        frechet_distance(x, y),
        frechet_from_moments(Moments.of(x), Moments.of(y)),
    ):
        assert result.value == pytest.approx(12.0, rel=1e-15)
    assert frechet_distance(x, x).value == 0.0
    assert total_variance(x) == 0.0


@pytest.mark.parametrize("shape", [(500, 20), (20, 50)])
@pytest.mark.parametrize("offset", [0.0, 1e3, 1e6])
def test_a_large_mean_costs_no_digits(shape: tuple[int, int], offset: float) -> None:
    rng = np.random.default_rng(5)
    # Multiples of 2^-20 are exact at either offset, so only the computation can lose digits.
    x, y = (np.round(rng.standard_normal(shape) * 2**20) / 2**20 for _ in range(2))
    y = 1.5 * y
    expected = frechet_distance(x, y).value
    assert frechet_distance(x + offset, y + offset).value == pytest.approx(expected, rel=1e-9)
    streamed = frechet_from_moments(Moments.of(x + offset), Moments.of(y + offset))
    assert streamed.value == pytest.approx(expected, rel=1e-7)
    assert total_variance(x + offset) == pytest.approx(x.var(axis=0, ddof=1).sum(), rel=1e-12)


def test_input_kinds_give_one_answer() -> None:
    rng = np.random.default_rng(6)
    x = rng.integers(-8, 8, (60, 6)).astype(np.float64) / 4
    y = rng.integers(-8, 8, (80, 6)).astype(np.float64) / 4 + 0.25
    expected = frechet_distance(x, y).value
    wide = np.repeat(x, 2, axis=1)[:, ::2]
    assert not wide.flags["C_CONTIGUOUS"]
    for a, b in (
        (x.astype(np.float16), y.astype(np.float32)),
        (torch.from_numpy(x).half(), torch.from_numpy(y).bfloat16()),
        (wide, y[::-1][::-1]),
        ((4 * x).astype(np.int64) / 4, y),
    ):
        assert frechet_distance(a, b).value == pytest.approx(expected, rel=1e-12)


def test_what_cannot_be_measured_raises() -> None:
    x = np.random.default_rng(7).standard_normal((10, 3))
    for bad, message in (
        (x[:1], "at least 2 rows, got 1"),
        (x[:0], "at least 2 rows, got 0"),
        (x[:, :2], "same number of columns, got 3 and 2"),
        (x[:, :0], "no columns"),
        (x[0], "shape"),
        (np.where(x > 1, np.nan, x), "NaN or infinite"),
        (np.where(x > 1, np.inf, x), "NaN or infinite"),
    ):
        with pytest.raises(ValueError, match=message):
            frechet_distance(x, bad)
    with pytest.raises(TypeError, match="numpy array or a torch tensor"):
        frechet_distance(x, x.tolist())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 2 rows, got 1"):
        frechet_from_moments(Moments.of(x), Moments.of(x[:1]))
    with pytest.raises(ValueError, match="3 and 2 columns"):
        frechet_from_moments(Moments.of(x), Moments.of(x[:, :2]))


shapes = st.tuples(st.integers(2, 30), st.integers(2, 30), st.integers(1, 20), st.integers(0, 999))


@settings(deadline=None, max_examples=40)
@given(shapes)
def test_invariances(shape: tuple[int, int, int, int]) -> None:
    n, m, d, seed = shape
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, d)), 0.5 + 2 * rng.standard_normal((m, d))
    value = frechet_distance(x, y).value
    Q, _ = np.linalg.qr(rng.standard_normal((d, d)))
    c = rng.standard_normal(d)
    same = pytest.approx(value, rel=1e-8, abs=1e-9)
    assert frechet_distance(y, x).value == same
    assert frechet_distance(rng.permutation(x), rng.permutation(y)).value == same
    assert frechet_distance(x @ Q, y @ Q).value == same
    assert frechet_distance(x + c, y + c).value == same
    assert frechet_distance(3 * x, 3 * y).value / 9 == same
    assert frechet_distance(x, x).value <= 1e-9 * (1 + total_variance(x))
    assert frechet_distance(x, x + c).value == pytest.approx(c @ c, rel=1e-8)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 999))
def test_moments_of_any_partition_are_those_of_the_whole(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = 100 + rng.standard_normal((sum(sizes) + 2, 5))
    parts = np.split(x, np.cumsum(sizes))
    total = Moments.empty(5)
    for part in parts:
        total = total.merge(Moments.of(part) if len(part) else Moments.empty(5))
    assert total.n == len(x)
    np.testing.assert_allclose(total.mean, x.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(total.covariance, np.cov(x.T), atol=1e-11)


def test_splits_equal_the_public_function() -> None:
    rng = np.random.default_rng(8)
    for n, d in ((60, 80), (200, 30), (60, 40)):
        z = decaying(rng, n + n, d) + 50
        z[n:] *= 1.2
        for first, second in split_masks(n, n, n // 2, 3, seed=1).values():
            got = frechet_splits(z, first, second)
            for r in range(3):
                expected = frechet_distance(z[first[:, r]], z[second[:, r]])
                scale = total_variance(z[first[:, r]])
                assert got[r] == pytest.approx(expected.value, abs=1e-8 * scale)
    uneven = np.zeros((120, 1), dtype=bool)
    uneven[:17] = True
    got = frechet_splits(z[:120], uneven, ~uneven)[0]
    assert got == pytest.approx(frechet_distance(z[:17], z[17:120]).value, rel=1e-9)


def test_splits_of_duplicates_stay_exact() -> None:
    rng = np.random.default_rng(9)
    z = np.repeat(rng.standard_normal((10, 64)), 8, axis=0)
    first = np.zeros((80, 2), dtype=bool)
    first[rng.permutation(80)[:40], 0] = True
    first[:40, 1] = True
    got = frechet_splits(z, first, ~first)
    for r in range(2):
        expected = frechet_distance(z[first[:, r]], z[~first[:, r]]).value
        assert got[r] == pytest.approx(expected, abs=1e-7)


def test_null_bias_is_what_two_samples_of_one_gaussian_give() -> None:
    rng = np.random.default_rng(10)
    scale = np.sqrt(np.linspace(0.2, 3, 24))
    S = Moments(10**6, torch.zeros(24), torch.diag(torch.from_numpy(scale**2)) * (10**6 - 1))
    n, m = 200, 300
    values = [
        frechet_distance(
            rng.standard_normal((n, 24)) * scale, rng.standard_normal((m, 24)) * scale
        ).value
        for _ in range(200)
    ]
    assert np.mean(values) == pytest.approx(frechet_null_bias(S, n, m), rel=0.03)
    # field/image.md §3: d = 64, identity.
    identity = Moments(3, torch.zeros(64), 2 * torch.eye(64, dtype=torch.float64))
    assert frechet_null_bias(identity, 2000, 2000) == pytest.approx(1.105, abs=0.001)
    with pytest.raises(ValueError, match="above the 64 columns"):
        frechet_null_bias(identity, 64, 2000)


def test_infinity_removes_the_bias_of_both_sides_and_its_interval_covers() -> None:
    true, d, n, m = 12 * 0.09, 12, 200, 120
    values, plain, covered = [], [], 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.standard_normal((n, d)), 0.3 + rng.standard_normal((m, d))
        r = frechet_distance_infinity(x, y, points=2, seed=seed)
        values.append(r.value)
        plain.append(r.at_n)
        covered += true in r.ci
    se = np.std(values) / np.sqrt(40)
    assert abs(np.mean(values) - true) < 3 * se
    assert np.mean(plain) - true > 5 * se
    # Fewer happen once in 300 at a coverage of 0.95.
    assert covered >= 34


def test_interval_on_request(g: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = (z[:400, :16] for z in g)
    plain, with_ci = frechet_distance(x, y), frechet_distance(x, y, ci=True, level=0.9)
    assert plain.ci is None
    assert with_ci.value == plain.value
    assert with_ci.ci is not None
    assert with_ci.ci.level == 0.9
    assert 16 * (0.09 + 0.04) in with_ci.ci
    with pytest.raises(ValueError, match="more than 131 rows"):
        frechet_distance(g[0][:100], g[1][:100], ci=True)


def test_dependent_rows_widen_the_interval_when_grouped() -> None:
    rng = np.random.default_rng(11)
    x, y = (np.repeat(rng.standard_normal((60, 4)), 5, axis=0) for _ in range(2))
    labels = np.repeat(np.arange(60), 5)
    naive = frechet_distance_infinity(x, y)
    grouped = frechet_distance_infinity(x, y, groups_real=labels, groups_synthetic=labels)
    assert grouped.se > 1.3 * naive.se


@pytest.mark.peers
def test_peers_agree_where_rows_are_many(g: tuple[np.ndarray, np.ndarray]) -> None:
    for name, value in peer_values(*g).items():
        assert value == pytest.approx(frechet_distance(*g).value, rel=1e-9), name


@pytest.mark.peers
def test_peers_are_wrong_where_rows_are_few() -> None:
    """Each null direction costs the peers about 1e-8 under the root; the factors stay exact."""
    rng = np.random.default_rng(12)
    x, y = rng.standard_normal((200, 512)), 1.1 * rng.standard_normal((200, 512)) + 0.1
    A, B = ((z - z.mean(0)) / np.sqrt(199) for z in (x, y))
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum() + (A**2).sum() + (B**2).sum()
    exact -= 2 * np.linalg.svd(A @ B.T, compute_uv=False).sum()
    ours = abs(frechet_distance(x, y).value - exact)
    assert ours < 1e-10
    for name, value in peer_values(x, y).items():
        assert 1e-7 < abs(value - exact) < 1e-2, name


@pytest.mark.peers
def test_torchmetrics_moments_cancel_at_a_large_mean_and_ours_do_not() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Same(torch.nn.Module):
        num_features = 8

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    rng = np.random.default_rng(13)
    x, y = rng.standard_normal((500, 8)), 1.5 * rng.standard_normal((500, 8))
    expected = frechet_distance(x, y).value
    errors = {}
    for offset in (0.0, 1e6):
        peer = FrechetInceptionDistance(
            feature=Same(), input_img_size=(1, 1, 8), normalize=True
        ).set_dtype(torch.float64)
        ours = FrechetDistance(8)
        for z, real in ((x, True), (y, False)):
            for batch in np.split(z + offset, 5):
                peer.update(torch.from_numpy(batch), real=real)
                ours.update(batch, real=real)
        errors[offset] = abs(float(peer.compute()) - expected) / expected
        assert float(ours.compute()) == pytest.approx(expected, rel=1e-8)
    assert errors[0.0] < 1e-6
    assert errors[1e6] > 1e-4


def peer_values(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    from cleanfid.fid import fid_from_feats
    from pytorch_fid.fid_score import calculate_frechet_distance
    from torch_fidelity.metric_fid import (
        fid_features_to_statistics,
        fid_statistics_to_metric,
    )
    from torchmetrics.image.fid import _compute_fid

    stats: Any = [fid_features_to_statistics(torch.from_numpy(z)) for z in (x, y)]
    moments = [t for z in (x, y) for t in (z.mean(0), np.cov(z.T))]
    tensors = [torch.from_numpy(t) for t in moments]
    with contextlib.redirect_stdout(io.StringIO()):
        return {
            "torch-fidelity": float(
                fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
            ),
            "torchmetrics": float(_compute_fid(*tensors)),
            "pytorch-fid": float(calculate_frechet_distance(*moments)),
            "clean-fid": float(fid_from_feats(x, y)),
        }


def stream(x: np.ndarray, y: np.ndarray, parts: int) -> FrechetDistance:
    metric = FrechetDistance(x.shape[1])
    for z, real in ((x, True), (y, False)):
        for batch in np.array_split(z, parts):
            metric.update(batch, real=real)
    return metric


def test_stream_equals_the_function_and_merges(g: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = g
    expected = frechet_distance(x, y).value
    whole = stream(x, y, 7)
    assert float(whole.compute()) == pytest.approx(expected, rel=1e-11)
    assert whole.compute().dtype == torch.float64
    left, right = stream(x[:1000], y[:2900], 3), stream(x[1000:], y[2900:], 2)
    left.compute()
    left.merge_state(right)
    assert float(left.compute()) == pytest.approx(expected, rel=1e-11)
    again = pickle.loads(pickle.dumps(left))
    assert float(again.compute()) == float(left.compute())
    assert isinstance(whole.result(), FrechetResult)
    assert whole.higher_is_better is False


def test_stream_resets_and_refuses() -> None:
    rng = np.random.default_rng(14)
    x, y = rng.standard_normal((20, 3)), rng.standard_normal((20, 3)) + 1
    metric = FrechetDistance(3, reset_real_features=False)
    with (
        pytest.raises(ValueError, match="0 real and 0 synthetic"),
        NOT_UPDATED,
    ):
        metric.compute()
    metric.update(x, real=True)
    metric.update(y, real=False)
    metric.reset()
    with (
        pytest.raises(ValueError, match="20 real and 0 synthetic"),
        NOT_UPDATED,
    ):
        metric.compute()
    metric.update(y, real=False)
    assert float(metric.compute()) == pytest.approx(frechet_distance(x, y).value, rel=1e-10)
    metric.reset_real_features = True
    metric.reset()
    with (
        pytest.raises(ValueError, match="0 real"),
        NOT_UPDATED,
    ):
        metric.compute()
    with pytest.raises(ValueError, match="3 columns, got 2"):
        metric.update(x[:, :2], real=True)
    with pytest.raises(ValueError, match="NaN"):
        metric.update(x * np.nan, real=True)
    with pytest.raises(ValueError, match="num_features"):
        FrechetDistance(0)


RANK = """
import sys
from pathlib import Path

import numpy as np
import torch
from evalsuite.metrics.streaming.frechet import FrechetDistance

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
)
data = np.load(folder / "data.npz")
metric = FrechetDistance(data["x"].shape[1])
for name, real in (("x", True), ("y", False)):
    rows = data[name][:70] if rank == 0 else data[name][70:]
    if len(rows):
        metric.update(rows, real=real)
(folder / f"value{rank}").write_text(repr(float(metric.compute())))
torch.distributed.destroy_process_group()
"""


def test_ranks_of_a_process_group_merge_to_the_whole(tmp_path: Path) -> None:
    """Unequal shares, and a rank that sees nothing of one side, in a real gloo group."""
    rng = np.random.default_rng(15)
    x, y = 1e4 + rng.standard_normal((300, 6)), 1e4 + 2 * rng.standard_normal((70, 6))
    np.savez(tmp_path / "data.npz", x=x, y=y)
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(rank), str(tmp_path)]) for rank in (0, 1)
    ]
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    values = [float((tmp_path / f"value{rank}").read_text()) for rank in (0, 1)]
    assert values[0] == values[1] == pytest.approx(frechet_distance(x, y).value, rel=1e-9)


@pytest.mark.parametrize("n", [100, 6])
@pytest.mark.parametrize("size", [1e-75, 1e150, 1e200])
def test_what_float64_cannot_square_is_refused(n: int, size: float) -> None:
    x, y = np.random.default_rng(0).normal(size=(2, n, 8)) * size
    with pytest.raises(ValueError, match="divide both sets by one constant"):
        frechet_distance(x, y)
    assert frechet_distance(x / size * 1e60, y / size * 1e60).value > 0
