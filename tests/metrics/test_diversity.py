from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evalsuite.metrics.distribution.diversity import vendi_ratio, vendi_score
from evalsuite.metrics.streaming.diversity import VendiScore


def rows(n=60, d=8, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def by_definition(x, q=1.0):
    """From the n x n cosine similarities."""
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    p = np.linalg.eigvalsh(u @ u.T / len(u))
    p = p[p > 1e-12]
    if q == 1:
        return np.exp(-(p * np.log(p)).sum())
    return 1 / p.max() if np.isinf(q) else (p**q).sum() ** (1 / (1 - q))


@pytest.mark.parametrize("q", [0.0, 0.1, 1.0, 2.0, 50.0, np.inf])
def test_closed_forms(q):
    assert float(vendi_score(np.eye(7), q=q)) == pytest.approx(7, rel=1e-12)
    assert float(vendi_score(np.ones((9, 4)), q=q)) == pytest.approx(1, rel=1e-12)
    # Groups of a, b, c copies of orthogonal vectors: the Hill number of their shares.
    share = np.array([1, 2, 5]) / 8
    x = np.eye(3).repeat([1, 2, 5], axis=0) * np.arange(1, 9)[:, None]
    hill = {0.0: 3.0, 1.0: np.exp(-(share * np.log(share)).sum()), np.inf: 1 / share.max()}
    expected = hill.get(q, (share**q).sum() ** (1 / (1 - q)) if q not in hill else None)
    assert float(vendi_score(x, q=q)) == pytest.approx(expected, rel=1e-12)


def test_angle_between_two():
    """Two unit vectors at cosine c: eigenvalues (1 +- c)/2."""
    c = 0.6
    p = np.array([1 + c, 1 - c]) / 2
    x = np.array([[1.0, 0.0], [c, np.sqrt(1 - c * c)]])
    assert float(vendi_score(x)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(60, 8), (8, 60), (20, 20)])
@pytest.mark.parametrize("q", [0.5, 1.0, 2.0, np.inf])
def test_both_forms_equal_the_definition(n, d, q):
    x = rows(n, d)
    assert float(vendi_score(x, q=q)) == pytest.approx(by_definition(x, q), rel=1e-10)


def test_order_1_is_the_limit_and_orders_fall():
    x = rows()
    at = {q: float(vendi_score(x, q=q)) for q in (0.0, 0.5, 1 - 1e-6, 1.0, 1 + 1e-6, 2.0, np.inf)}
    assert list(at.values()) == sorted(at.values(), reverse=True)
    assert at[1 - 1e-6] == pytest.approx(at[1.0], rel=1e-5)
    assert at[0.0] == pytest.approx(8)


def test_rbf():
    x = np.array([[0.0], [1.0], [5.0]])
    k = np.exp(-((x - x.T) ** 2) / (2 * 2.0**2))
    p = np.linalg.eigvalsh(k / 3)
    found = vendi_score(x, kernel="rbf", bandwidth=2.0)
    assert float(found) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-12)
    far = vendi_score(1e6 * np.arange(5.0)[:, None], kernel="rbf", bandwidth=1.0)
    assert float(far) == pytest.approx(5)
    assert vendi_score(x, kernel="rbf").bandwidth == 4.0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.integers(1, 12), st.sampled_from([0.5, 1, 3]))
def test_invariances_and_bounds(seed, n, d, q):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d))
    score = float(vendi_score(x, q=q))
    assert 1 - 1e-9 <= score <= min(n, d) + 1e-9
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    length = 10.0 ** rng.uniform(-3, 3, (n, 1))
    assert float(vendi_score((length * x)[::-1] @ turn, q=q)) == pytest.approx(score, rel=1e-7)
    # Every sample twice is no more diverse.
    assert float(vendi_score(x.repeat(2, axis=0), q=q)) == pytest.approx(score, rel=1e-7)


def test_scales_and_dtypes():
    x = rows()
    expected = float(vendi_score(x))
    for scale in (1e-200, 1e200):
        assert float(vendi_score(scale * x)) == pytest.approx(expected, rel=1e-12)
    assert float(vendi_score(x.astype(np.float16))) == pytest.approx(expected, rel=1e-3)
    assert float(vendi_score(torch.from_numpy(x.T).T)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.ones((0, 3)), {}, "at least 1 rows"),
        (np.full((3, 3), np.nan), {}, "NaN or infinite"),
        (np.diag([1.0, 0.0]), {}, "zero rows"),
        (np.eye(3), {"q": -1}, "q must lie"),
        (np.eye(3), {"q": np.nan}, "q must lie"),
        (np.eye(3), {"kernel": "linear"}, "kernel must be"),
        (np.eye(3), {"bandwidth": 1.0}, "no bandwidth"),
        (np.eye(3), {"kernel": "rbf", "bandwidth": 0.0}, "bandwidth must be above 0"),
        (np.ones((5, 3)), {"kernel": "rbf"}, "median distance is 0"),
    ],
)
def test_errors_say_what_to_do(x, options, message):
    with pytest.raises(ValueError, match=message):
        vendi_score(x, **options)


def test_ratio_is_taken_at_equal_size():
    same = vendi_ratio(rows(400, 8, 1), rows(100, 8, 2), repeats=20)
    assert same.size == 100
    assert 1.0 in same.ci
    assert same.value == pytest.approx(1, abs=0.05)
    # By the scores at full size the larger set would look more diverse, in high dimensions.
    wide = vendi_ratio(rows(400, 300, 1), rows(100, 300, 2), level=None)
    assert wide.value == pytest.approx(1, abs=0.05)
    full = [float(vendi_score(rows(n, 300, s))) for n, s in ((400, 1), (100, 2))]
    assert full[1] / full[0] < 0.6
    assert wide.ci is None


@pytest.mark.parametrize("kernel", ["cosine", "rbf"])
def test_ratio_sees_a_lost_mode(kernel):
    rng = np.random.default_rng(0)
    centres = 5 * np.eye(6)
    x = centres[rng.integers(0, 6, 200)] + 0.3 * rng.standard_normal((200, 6))
    y = centres[rng.integers(0, 2, 200)] + 0.3 * rng.standard_normal((200, 6))
    found = vendi_ratio(x, y, kernel=kernel)
    assert found.ci.high < 0.7
    assert found.value == pytest.approx(found.synthetic / found.real)
    assert vendi_ratio(y, x, kernel=kernel).value > 1.4


def test_ratio_interval_covers_and_grows_with_groups():
    def draw(seed):
        rng = np.random.default_rng(seed)
        return rng.standard_normal((80, 5)), rng.standard_normal((80, 5)) * [3, 1, 1, 1, 1]

    truth = np.mean([vendi_ratio(*draw(1000 + s), level=None).value for s in range(300)])
    inside = sum(truth in vendi_ratio(*draw(s), resamples=30).ci for s in range(60))
    assert inside > 51
    x = rows(10, 5).repeat(8, axis=0) + 0.1 * rows(80, 5, 1)
    lone = vendi_ratio(x, draw(0)[1]).ci
    grouped = vendi_ratio(x, draw(0)[1], groups_real=np.arange(10).repeat(8)).ci
    assert grouped.high - grouped.low > 1.3 * (lone.high - lone.low)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size must lie"),
        ({"size": 7}, "size must lie"),
        ({"repeats": 0}, "repeats"),
        ({"groups_real": ["a", "b"] * 3}, "level=None"),
    ],
)
def test_ratio_errors(options, message):
    with pytest.raises(ValueError, match=message):
        vendi_ratio(rows(6, 3), rows(6, 3, 1), **options)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_streaming_equals_the_function_for_any_partition():
    x = rows(90, 7)
    expected = float(vendi_score(x, q=2.0))
    parts = [VendiScore(7, q=2.0) for _ in range(3)]
    for i, part in enumerate(np.split(x, [1, 20, 21, 60])):
        parts[i % 3].update(torch.from_numpy(part))
    parts[0].merge_state(parts[1])
    parts[0].merge_state(parts[2])
    assert float(parts[0].compute()) == pytest.approx(expected, rel=1e-12)
    parts[0].reset()
    with pytest.raises(ValueError, match="no synthetic features"):
        parts[0].compute()


def test_streaming_measures_one_side():
    x, y = rows(40, 5), rows(40, 5, 1) * [9, 1, 1, 1, 1]
    for side, expected in (("synthetic", y), ("real", x)):
        metric = VendiScore(5, side=side)
        metric.update(x, real=True)
        metric.update(y, real=False)
        assert float(metric.compute()) == pytest.approx(float(vendi_score(expected)), rel=1e-12)
    with pytest.raises(ValueError, match="must have 5 columns"):
        metric.update(rows(3, 4))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_agrees_with_vendi_score_at_order_1_and_is_right_where_it_ignores_q():
    vendi = pytest.importorskip("vendi_score.vendi")
    x = rows(200, 64)
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    assert float(vendi_score(x)) == pytest.approx(vendi.score_dual(u, normalize=False), rel=1e-9)
    assert float(vendi_score(x)) == pytest.approx(vendi.score_K(u @ u.T), rel=1e-9)
    # score_X takes q and does not pass it on; score_K uses it.
    assert vendi.score_X(x, q=2) == vendi.score_X(x)
    assert float(vendi_score(x, q=2)) == pytest.approx(vendi.score_K(u @ u.T, q=2), rel=1e-9)
    assert float(vendi_score(x, q=2)) == pytest.approx(by_definition(x, 2), rel=1e-9)
