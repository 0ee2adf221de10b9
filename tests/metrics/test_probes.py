"""Utility probes: what they say where the answer is known, and what they refuse to score."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalsuite.metrics.utility.probes import UtilityReport, _Test, utility_tests

Data = tuple[np.ndarray, np.ndarray]


pytestmark = pytest.mark.usefixtures("one_thread")


def make(
    n: int, seed: int, *, gap: float = 2.0, classes: int = 3, d: int = 8, flip: float = 0.0
) -> Data:
    """Gaussian classes ``gap`` apart; ``flip`` of the labels are wrong."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = gap * np.eye(classes, d)[y] + rng.standard_normal((n, d))
    wrong = rng.random(n) < flip
    return x, np.where(wrong, (y + 1) % classes, y)


def run(train: Data, synthetic: Data, test: Data, **options: object) -> UtilityReport:
    return utility_tests(train, synthetic, test, **{"bootstrap": 400, "repeats": 2, **options})


# The answer is known


def test_synthetic_as_good_as_real() -> None:
    got = run(make(600, 0), make(600, 1), make(1500, 2))
    assert got.chance == pytest.approx(1 / 3)
    assert got.missing == ()
    for probe in got.probes.values():
        assert probe.value == pytest.approx(1.0, abs=0.05)
        assert 1.0 in probe.interval
        assert probe.tstr.value == pytest.approx(probe.trts.value, abs=0.06)
        assert probe.trtr.value in probe.trtr.interval
        assert probe.trtr.accuracy in probe.trtr.accuracy_interval
        assert (probe.tstr.n_train, probe.tstr.n_test) == (600, 1500)


def test_bayes_rate_of_two_gaussians() -> None:
    # Centres sqrt(2)·gap apart: the best possible accuracy is Phi(gap / sqrt(2)).
    got = run(
        make(3000, 0, classes=2, gap=1.5),
        make(3000, 1, classes=2, gap=1.5),
        make(4000, 2, classes=2, gap=1.5),
        probes=("linear",),
    ).probes["linear"]
    best = stats.norm.cdf(1.5 / np.sqrt(2))
    assert got.trtr.value == pytest.approx(best, abs=0.015)
    assert got.tstr.value == pytest.approx(best, abs=0.015)


def test_wrong_labels_cost_utility_and_swapped_roles_gain_it() -> None:
    good, bad, test = make(500, 0, gap=3), make(500, 1, gap=3, flip=0.7), make(800, 2, gap=3)
    cost = run(good, bad, test).probes["linear"]
    assert cost.interval.high < 0.5
    assert cost.trts.value < 0.6
    gain = run(bad, good, test).probes["linear"]
    assert gain.interval.low > 2
    assert gain.curve[-1].gain > 0.3


def test_a_class_that_is_missing_is_the_worst() -> None:
    x, y = make(600, 1)
    keep = y != 1
    got = run(make(600, 0), (x[keep], y[keep]), make(900, 2))
    assert got.missing == ("1",)
    for probe in got.probes.values():
        assert probe.worst.label == "1"
        assert probe.worst.tstr == 0.0
        assert probe.worst.n_synthetic == 0
        assert probe.worst.difference == -probe.worst.trtr
        assert probe.worst.interval.high < 0
        assert probe.worst.interval.level == pytest.approx(1 - 0.05 / 3)
        differences = [c.difference for c in probe.classes]
        assert differences == sorted(differences)


def test_balanced_accuracy_counts_classes_and_accuracy_counts_items() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 2)) * 0.1
    y = np.repeat([0, 1], [900, 100])
    x[y == 1] += 5
    bad = x.copy()
    bad[y == 1] = 0.1 * rng.standard_normal((100, 2))  # class 1 cannot be told from class 0
    test_x = x + 0.01 * rng.standard_normal(x.shape)
    got = run((x, y), (bad, y), (test_x, y), probes=("knn",)).probes["knn"]
    assert got.trtr.value == got.trtr.accuracy == 1.0
    assert got.tstr.value == pytest.approx(0.5, abs=0.03)
    assert got.tstr.accuracy == pytest.approx(0.9, abs=0.05)


@pytest.mark.peers
def test_scores_are_sklearns() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, recall_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    train, synthetic, test = make(200, 0), make(150, 1, flip=0.2), make(300, 2)
    got = run(train, synthetic, test, neighbours=7, sizes=[150])
    models = {
        "linear": LogisticRegression(C=0.1, class_weight="balanced", tol=1e-3, max_iter=1000),
        "knn": KNeighborsClassifier(7),
    }
    for name, model in models.items():
        pipe = make_pipeline(StandardScaler(), model)
        probe = got.probes[name]  # type: ignore[index]
        ceiling = balanced_accuracy_score(test[1], pipe.fit(*train).predict(test[0]))
        assert probe.trtr.value == pytest.approx(ceiling)
        assert probe.trts.value == pytest.approx(
            balanced_accuracy_score(synthetic[1], pipe.predict(synthetic[0]))
        )
        answers = pipe.fit(*synthetic).predict(test[0])
        assert probe.tstr.accuracy == pytest.approx((answers == test[1]).mean())
        assert probe.value == pytest.approx(balanced_accuracy_score(test[1], answers) / ceiling)
        recalls = recall_score(test[1], answers, average=None)
        assert {int(c.label): pytest.approx(c.tstr) for c in probe.classes} == dict(
            enumerate(recalls)
        )
        both = pipe.fit(*(np.concatenate(v) for v in zip(train, synthetic, strict=True)))
        assert probe.curve[1].score == pytest.approx(
            balanced_accuracy_score(test[1], both.predict(test[0]))
        )


# Learning curve


def test_curve_starts_at_real_alone_and_grows_where_data_is_short() -> None:
    got = run(
        make(12, 0, gap=1.5),
        make(1600, 1, gap=1.5),
        make(2000, 2, gap=1.5),
        probes=("linear",),
        repeats=4,
    ).probes["linear"]
    assert [p.n_added for p in got.curve] == [0, 200, 400, 800, 1600]
    assert got.curve[0].score == got.trtr.value
    assert got.curve[0].gain == 0.0
    assert got.curve[1].interval.low > 0.05
    assert got.curve[-1].gain >= got.curve[1].gain - 0.01
    # The steep part is over: the next thousand brings a fraction of what the first 200 did.
    assert abs(got.next_gain.value) < 0.2 * got.curve[1].gain
    assert got.next_gain.value in got.next_gain.interval
    assert got.next_gain.step == 1000


def test_next_gain_is_the_logarithmic_law() -> None:
    train, synthetic, test = make(20, 0, gap=1), make(400, 1, gap=1), make(600, 2, gap=1)
    got = run(train, synthetic, test, probes=("knn",), sizes=[100, 200, 400], step=300).probes[
        "knn"
    ]
    slope = (got.curve[3].score - got.curve[2].score) / np.log(2)
    assert got.next_gain.value == pytest.approx(slope * np.log(700 / 400))
    one = run(train, synthetic, test, probes=("knn",), sizes=[400], step=100).probes["knn"]
    assert one.next_gain.value == pytest.approx(one.curve[1].gain / 4)


def test_useless_samples_gain_nothing_and_harmful_ones_cost() -> None:
    train, test = make(150, 0, gap=3), make(1500, 2, gap=3)
    harm = run(train, make(600, 1, gap=3, flip=0.9), test, probes=("linear",)).probes["linear"]
    assert harm.curve[-1].interval.high < 0
    scores = [p.score for p in harm.curve]
    assert scores[0] > scores[2] > scores[4]


# Intervals


def test_interval_of_the_accuracy_covers() -> None:
    covered, runs = 0, 200
    for i in range(runs):
        rng = np.random.default_rng(i)
        right = (rng.random(120) < 0.8).astype(float)
        covered += (
            0.8 in _Test(rng.integers(0, 2, 120), None, 2, 300, 0.95, i).score(right, 1).interval
        )
    assert stats.binom.ppf(0.001, runs, 0.93) <= covered <= stats.binom.ppf(0.9995, runs, 0.97)


def test_groups_widen_the_interval_and_make_it_cover() -> None:
    # Whole groups are right or wrong: 40 independent items, not 400.
    covered, runs, wider = {"rows": 0, "groups": 0}, 150, 0
    for i in range(runs):
        rng = np.random.default_rng(i)
        unit = np.repeat(np.arange(40), 10)
        right = (rng.random(40) < 0.7)[unit].astype(float)
        y = np.zeros(400, int)
        rows = _Test(y, None, 1, 200, 0.95, i).score(right, 1).interval
        groups = _Test(y, unit, 1, 200, 0.95, i).score(right, 1).interval
        covered["rows"] += 0.7 in rows
        covered["groups"] += 0.7 in groups
        wider += groups.high - groups.low > rows.high - rows.low
    assert wider == runs
    assert covered["groups"] >= stats.binom.ppf(0.001, runs, 0.92)
    assert covered["rows"] < 0.7 * runs


def test_probes_that_answer_nearly_alike_may_not_do_so_on_other_items() -> None:
    # Resamples of one item that differs show a gain of one sign; so small a test cannot tell.
    test = _Test(np.repeat([0, 1], 50), None, 2, 400, 0.95, 0)
    gain = test.balanced(np.ones(100)) - test.balanced(np.arange(100) != 3)
    assert gain[0] == pytest.approx(0.01)
    assert test.interval(gain).low >= 0
    told = test.interval(gain, difference=1.0)
    assert told.low < -0.01
    assert told.high > 0.03
    # What is said ahead is a multiple of the difference, and so is its error.
    ahead = test.interval(2.5 * gain, difference=2.5)
    assert ahead.high - ahead.low == pytest.approx(2.5 * (told.high - told.low))


def test_all_right_is_not_certain() -> None:
    got = _Test(np.zeros(30, int), None, 1, 100, 0.95, 0).score(np.ones(30), 5)
    assert got.value == got.interval.high == 1.0
    # 0.025^(1/n): the Clopper-Pearson bound for n of n.
    assert got.interval.low == pytest.approx(stats.beta.ppf(0.025, 30, 1))
    grouped = _Test(np.zeros(30, int), np.repeat(np.arange(3), 10), 1, 100, 0.95, 0)
    assert grouped.score(np.ones(30), 5).interval.low == pytest.approx(stats.beta.ppf(0.025, 3, 1))


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 10**6))
def test_scores_are_means_and_lie_in_their_intervals_range(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y, right = rng.integers(0, k, n), rng.integers(0, 2, n).astype(float)
    got = _Test(y, None, k, 50, 0.9, seed).score(right, 1)
    assert got.accuracy == pytest.approx(right.mean())
    assert got.value == pytest.approx(np.mean([right[y == c].mean() for c in np.unique(y)]))
    for interval in (got.interval, got.accuracy_interval):
        assert 0 <= interval.low <= interval.high <= 1


# Refused


def test_leaks_are_counted_and_refused() -> None:
    train, synthetic, test = make(100, 0), make(100, 1), make(100, 2)
    test[0][[3, 7, 20]] = train[0][[5, 6, 7]]
    with pytest.raises(
        ValueError, match=r"3 of 100 rows of real_test are in real_train.*\[3, 7, 20\]"
    ):
        run(train, synthetic, test)
    train, test = make(100, 0), make(100, 2)
    synthetic[0][4] = test[0][9]
    with pytest.raises(ValueError, match="1 of 100 rows of real_test are in synthetic"):
        run(train, synthetic, test)


@pytest.mark.parametrize("zeros", [(0.0, -0.0), (-0.0, 0.0)])
def test_minus_zero_is_zero_for_the_leak_guard(zeros: tuple[float, float]) -> None:
    train, synthetic, test = make(60, 0), make(60, 1), make(60, 2)
    train[0][0], test[0][0] = zeros
    with pytest.raises(ValueError, match="1 of 60"):
        run(train, synthetic, test)


def test_a_source_on_both_sides_is_refused() -> None:
    data = make(60, 0), make(60, 1), make(60, 2)
    left, right = [f"a{i // 6}" for i in range(60)], [f"b{i // 6}" for i in range(60)]
    run(*data, groups_train=left, groups_test=right, probes=("knn",))
    with pytest.raises(ValueError, match=r"1 groups are in real_train and in real_test.*'a3'"):
        run(*data, groups_train=left, groups_test=[*right[:-1], "a3"])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda r, s, t: (r, s, (t[0], t[1] + 9)), ValueError, "real_test has labels"),
        (lambda r, s, t: (r, (s[0], s[1] + 9), t), ValueError, "synthetic has labels"),
        (lambda r, s, t: ((r[0], r[1] * 0), s, t), ValueError, "only the class '0'"),
        (lambda r, s, t: (r, (s[0], s[1][:3]), t), ValueError, "60 rows and 3 labels"),
        (lambda r, s, t: (r, (s[0][:, :2], s[1]), t), ValueError, "same encoder"),
        (lambda r, s, t: (r, (s[0][:0], s[1][:0]), t), ValueError, "at least 1 rows"),
        (lambda r, s, t: (r, s, (t[0] * np.nan, t[1])), ValueError, "NaN"),
        (lambda r, s, t: (r[0], s, t), TypeError, "tuple"),
    ],
)
def test_bad_data_is_refused(change: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        run(*change(make(60, 0), make(60, 1), make(60, 2)))  # type: ignore[operator]


@pytest.mark.parametrize(
    "options",
    [
        {"probes": ()},
        {"probes": ("forest",)},
        {"sizes": [0]},
        {"sizes": [61]},
        {"sizes": []},
        {"repeats": 0},
        {"bootstrap": 0},
        {"C": 0},
        {"neighbours": 0},
        {"groups_test": [1]},
    ],
)
def test_bad_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        run(make(60, 0), make(60, 1), make(60, 2), **options)


def test_a_hopeless_probe_has_no_ratio() -> None:
    train, test = make(60, 0, gap=9, classes=2), make(60, 2, gap=9, classes=2)
    with pytest.raises(ValueError, match="no ratio"):
        run(train, make(60, 1, classes=2), (test[0], 1 - test[1]))


# Forms of input


def test_string_labels_tensors_and_order_do_not_matter() -> None:
    train, synthetic, test = make(80, 0), make(80, 1), make(120, 2)
    one = run(train, synthetic, test)
    named = [
        (torch.from_numpy(x), [f"c{v}" for v in y.tolist()]) for x, y in (train, synthetic, test)
    ]
    two = run(*named)
    for name, probe in two.probes.items():
        assert probe.value == one.probes[name].value
        assert probe.worst.label == "c" + one.probes[name].worst.label
    order = np.random.default_rng(0).permutation(80)
    turned = run((train[0][order], train[1][order]), synthetic, test)
    assert turned.probes["knn"].trtr.value == one.probes["knn"].trtr.value
    assert run(train, synthetic, test) == one


def test_synthetic_with_one_class_only() -> None:
    x, _ = make(50, 1)
    got = run(make(80, 0), (x, np.zeros(50, int)), make(120, 2))
    for probe in got.probes.values():
        assert probe.tstr.value == pytest.approx(1 / 3)
        assert {c.label: c.tstr for c in probe.classes} == {"0": 1.0, "1": 0.0, "2": 0.0}
