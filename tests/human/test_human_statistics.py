"""Rating statistics against published examples, closed forms, peers, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from evalsuite.metrics.human.agreement import krippendorff_alpha
from evalsuite.metrics.human.correlation import rank_correlation
from evalsuite.metrics.human.opinion import (
    Components,
    items_for_precision,
    mean_opinion_score,
    opinion_difference,
    variance_components,
)
from evalsuite.metrics.human.preference import bradley_terry
from evalsuite.metrics.human.screening import screen_raters

NAN = math.nan
# Krippendorff 2011, "Computing Krippendorff's alpha-reliability": four observers, twelve units.
PUBLISHED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
# Agresti 2002, Categorical Data Analysis, table 10.10: American League East 1987, row beat column.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ]
)


def simulate(
    rng: np.random.Generator, raters: int, items: int, sd: tuple[float, float, float]
) -> np.ndarray:
    a, b, e = sd
    table = 3.0 + a * rng.standard_normal((raters, 1)) + b * rng.standard_normal((1, items))
    return table + e * rng.standard_normal((raters, items))


@pytest.mark.parametrize(
    ("level", "alpha"),
    [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)],
)
def test_alpha_is_the_published_one(level: str, alpha: float) -> None:
    found = krippendorff_alpha(PUBLISHED, level, replicates=50)
    assert round(found.value, 3) == alpha
    assert (found.units, found.pairable) == (11, 40)
    assert found.interval.low < alpha < found.interval.high


def test_alpha_of_two_raters_by_hand() -> None:
    # Two categories, ten items, two of them disagreed on: D_o = 2/10; 12 and 8 votes, so that
    # D_e = 2·12·8/(20·19).
    a = [0, 0, 0, 0, 0, 1, 1, 1, 1, 0]
    b = [0, 0, 0, 0, 0, 1, 1, 1, 0, 1]
    expected = 1 - (2 / 10) / (2 * 12 * 8 / (20 * 19))
    assert krippendorff_alpha([a, b], "nominal", replicates=50).value == pytest.approx(expected)
    assert krippendorff_alpha([a, a], "nominal", replicates=50).value == 1.0


def test_alpha_refuses_what_says_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to agree"):
        krippendorff_alpha([[1, 1], [1, 1]])
    with pytest.raises(ValueError, match="no item has two votes"):
        krippendorff_alpha([[1, NAN], [NAN, 2]])


def test_components_are_those_of_the_analysis_of_variance() -> None:
    y = simulate(np.random.default_rng(1), 6, 15, (0.8, 0.7, 0.5))
    r, i = y.shape
    rows, columns, mean = y.mean(1), y.mean(0), y.mean()
    ms_rater = i * ((rows - mean) ** 2).sum() / (r - 1)
    ms_item = r * ((columns - mean) ** 2).sum() / (i - 1)
    ms_rest = ((y - rows[:, None] - columns + mean) ** 2).sum() / ((r - 1) * (i - 1))
    found = variance_components(y)
    assert found.residual == pytest.approx(ms_rest)
    assert found.rater == pytest.approx((ms_rater - ms_rest) / i)
    assert found.item == pytest.approx((ms_item - ms_rest) / r)
    score = mean_opinion_score(y)
    variance = (ms_rater + ms_item - ms_rest) / (r * i)
    assert score.standard_error == pytest.approx(math.sqrt(variance))
    df = (ms_rater + ms_item - ms_rest) ** 2 / (
        ms_rater**2 / (r - 1) + ms_item**2 / (i - 1) + ms_rest**2 / ((r - 1) * (i - 1))
    )
    half = stats.t.ppf(0.975, df) * math.sqrt(variance)
    assert score.interval.high - score.value == pytest.approx(half)


def test_components_do_not_need_a_full_table() -> None:
    rng = np.random.default_rng(2)
    found = []
    for _ in range(60):
        y = simulate(rng, 12, 60, (0.5, 0.7, 0.6))
        y[rng.random(y.shape) < 0.6] = NAN
        c = variance_components(y)
        found.append((c.rater, c.item, c.residual))
    assert np.mean(found, axis=0) == pytest.approx([0.25, 0.49, 0.36], rel=0.12)


@pytest.mark.parametrize(
    ("raters", "items", "missing"), [(5, 30, 0.0), (8, 12, 0.0), (10, 40, 0.5), (12, 60, 0.9)]
)
def test_interval_of_a_mean_opinion_covers_as_it_says(
    raters: int, items: int, missing: float
) -> None:
    rng = np.random.default_rng(raters)
    covered, naive = [], []
    for _ in range(800):
        y = simulate(rng, raters, items, (0.4, 0.6, 0.7))
        y[rng.random(y.shape) < missing] = NAN
        found = mean_opinion_score(y)
        covered.append(3.0 in found.interval)
        votes = y[~np.isnan(y)]
        naive.append(abs(votes.mean() - 3.0) < 1.96 * votes.std(ddof=1) / math.sqrt(len(votes)))
    assert 0.925 < np.mean(covered) < 0.985
    assert np.mean(naive) < 0.9  # what the usual interval would have promised as 95 %


def test_interval_covers_for_votes_on_a_five_point_scale() -> None:
    rng = np.random.default_rng(5)

    def rounded(n: int, m: int) -> np.ndarray:
        return np.clip(np.rint(simulate(rng, n, m, (0.4, 0.6, 0.7)) + 0.7), 1, 5)

    truth = float(np.mean([rounded(300, 300).mean() for _ in range(40)]))
    covered = [truth in mean_opinion_score(rounded(6, 20)).interval for _ in range(800)]
    assert 0.925 < np.mean(covered) < 0.98


def test_difference_leaves_out_how_strict_raters_are_and_covers() -> None:
    rng = np.random.default_rng(6)
    covered, widths = [], []
    for _ in range(800):
        strict = rng.standard_normal((8, 1))
        a, b = (simulate(rng, 8, 20, (0.0, 0.6, 0.7)) + strict for _ in range(2))
        found = opinion_difference(a + 0.3, b)
        covered.append(0.3 in found.interval)
        widths.append(found.standard_error / mean_opinion_score(a).standard_error)
    assert 0.925 < np.mean(covered) < 0.985
    assert np.median(widths) < 0.9


def test_planned_items_give_the_precision_that_was_asked_for() -> None:
    parts = Components(rater=0.04, item=0.36, residual=0.49)
    n = items_for_precision(0.25, raters=12, components=parts)
    rng = np.random.default_rng(7)
    halves = []
    for _ in range(200):
        ci = mean_opinion_score(simulate(rng, 12, n, (0.2, 0.6, 0.7))).interval
        halves.append((ci.high - ci.low) / 2)
    assert np.mean(halves) == pytest.approx(0.25, rel=0.12)
    z = stats.norm.ppf(0.975)
    assert z * math.sqrt(0.04 / 12 + (0.36 + 0.49 / 12) / n) <= 0.25
    assert z * math.sqrt(0.04 / 12 + (0.36 + 0.49 / 12) / (n - 1)) > 0.25


def test_more_items_cannot_replace_raters() -> None:
    with pytest.raises(ValueError, match=r"ask at least \d+ raters"):
        items_for_precision(0.1, raters=4, components=Components(0.16, 0.36, 0.49))


@pytest.mark.parametrize(
    "table", [np.full((3, 4), NAN), [[1.0, 2.0]], [[1.0], [2.0]], [[np.inf, 1], [1, 2]]]
)
def test_mean_opinion_refuses_what_says_nothing(table: object) -> None:
    with pytest.raises(ValueError, match=r"vote|needs at least 2"):
        mean_opinion_score(np.asarray(table, dtype=float))


def games() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = [(i, j) for i in range(7) for j in range(7) for _ in range(WINS[i, j])]
    first, second = np.array(pairs).T
    return first, second, np.ones(len(first), dtype=int)


def test_bradley_terry_is_the_published_fit_and_the_peers() -> None:
    first, second, won = games()
    # As they come, and with half of the games told from the loser's side.
    turned = np.arange(len(first)) % 2 == 1
    found = bradley_terry(
        np.where(turned, second, first),
        np.where(turned, first, second),
        np.where(turned, -won, won),
        TEAMS,
    )
    strengths = np.array([s.strength for s in found.strengths])
    published = (1.581, 1.436, 1.294, 1.248, 1.108, 0.684, 0.0)
    assert strengths - strengths[-1] == pytest.approx(published, abs=6e-4)
    design = np.zeros((2 * len(first), 7))
    rows = np.arange(len(first))
    design[rows, first], design[rows, second] = 1, -1
    design[len(first) :] = -design[: len(first)]
    y = np.r_[np.ones(len(first)), np.zeros(len(first))]
    peer = LogisticRegression(C=1e9, fit_intercept=False, tol=1e-10, max_iter=5000)
    fitted = peer.fit(design, y).coef_[0]
    assert strengths == pytest.approx(fitted - fitted.mean(), abs=1e-4)
    for i, s in enumerate(found.strengths):  # fitted wins are the wins, each pair met as often
        assert s.win_rate * 78 == pytest.approx(WINS[i].sum())
        assert s.win_rate_interval.low < s.win_rate < s.win_rate_interval.high


def test_davidson_for_two_is_the_shares() -> None:
    outcome = [1] * 30 + [-1] * 12 + [0] * 18
    found = bradley_terry([0] * 60, [1] * 60, outcome, ["a", "b"])
    a, b = found.strengths
    assert a.strength - b.strength == pytest.approx(math.log(30 / 12))
    assert found.tie == pytest.approx(18 / math.sqrt(30 * 12))
    assert a.win_rate == pytest.approx(39 / 60)
    # Delta method by hand: the variance of a mean of 1, ½ and 0.
    p = np.array([30, 12, 18]) / 60
    spread = (p * np.array([1, 0, 0.25])).sum() - a.win_rate**2
    reach = 1.959964 * math.sqrt(spread / 60) / (a.win_rate * (1 - a.win_rate))
    low = 1 / (1 + math.exp(-(math.log(39 / 21) - reach)))
    assert a.win_rate_interval.low == pytest.approx(low, abs=1e-6)


def test_win_rates_cover_where_each_rater_has_a_taste() -> None:
    rng = np.random.default_rng(8)
    names, strength = ("a", "b", "c"), np.array([0.5, 0.0, -0.5])
    first, second = np.array([(i, j) for i in range(3) for j in range(3) if i != j] * 4).T

    def votes(raters: int) -> tuple[np.ndarray, ...]:
        taste = strength + 0.5 * rng.standard_normal((raters, 3))
        d = (taste[:, first] - taste[:, second]).ravel()
        u = rng.random(d.size)
        p = 1 / (1 + np.exp(-d))
        outcome = np.where(u < 0.85 * p, 1, np.where(u < 0.85, -1, 0))
        return np.tile(first, raters), np.tile(second, raters), outcome

    truth = bradley_terry(*votes(4000), names).strengths[0].win_rate
    clustered, plain = [], []
    for _ in range(250):
        a, b, outcome = votes(25)
        raters = np.repeat(np.arange(25), len(first)).tolist()
        by_rater = bradley_terry(a, b, outcome, names, raters=raters).strengths[0]
        clustered.append(truth in by_rater.win_rate_interval)
        plain.append(truth in bradley_terry(a, b, outcome, names).strengths[0].win_rate_interval)
    assert 0.91 < np.mean(clustered) < 0.985
    assert np.mean(plain) < np.mean(clustered)


def test_bradley_terry_refuses_what_has_no_maximum() -> None:
    with pytest.raises(ValueError, match="'b' never won against 'a'"):
        bradley_terry([0, 0], [1, 1], [1, 1], ["a", "b"])
    # One tie between the groups is enough to hold them together.
    assert bradley_terry([0, 0], [1, 1], [1, 0], ["a", "b"]).ties == 1


def test_screening_names_each_reason() -> None:
    rng = np.random.default_rng(9)
    truth = rng.normal(3, 1, 40)
    table = truth + rng.normal(0, 0.5, (6, 40))
    table[1] = 3.0
    table[2] = 6 - truth
    table[5, ::2] = NAN
    seconds = np.full((6, 40), 4.0)
    seconds[3] = 0.2
    checks = screen_raters(
        table, catch_passed=[4, 4, 4, 4, 2, 3], catch_shown=[4] * 6, seconds=seconds
    )
    assert [c.reasons for c in checks] == [
        (), ("constant",), ("disagrees",), ("speed",), ("catch",), ()
    ]  # fmt: skip
    assert checks[5].votes == 20
    rest = np.nanmean(table[1:], axis=0)
    assert checks[0].correlation == pytest.approx(np.corrcoef(table[0], rest)[0, 1])


def test_correlation_is_scipys_and_its_interval_covers() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(2, 60))
    y += x
    assert rank_correlation(x, y, replicates=100).value == pytest.approx(stats.spearmanr(x, y)[0])
    tau = rank_correlation(np.round(x), np.round(y), "kendall", replicates=100).value
    assert tau == pytest.approx(stats.kendalltau(np.round(x), np.round(y))[0])
    rho, covered = 0.6, []
    truth = 6 / math.pi * math.asin(rho / 2)
    for k in range(200):
        a = rng.normal(size=50)
        b = rho * a + math.sqrt(1 - rho**2) * rng.normal(size=50)
        covered.append(truth in rank_correlation(a, b, replicates=200, seed=k).interval)
    assert 0.90 < np.mean(covered) < 0.99


def test_correlation_refuses_too_few_and_what_does_not_vary() -> None:
    with pytest.raises(ValueError, match="at least 5"):
        rank_correlation([1, 2, 3], [1, 2, 3])
    with pytest.raises(ValueError, match="everywhere"):
        rank_correlation([1] * 9, range(9))
