from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalsuite.metrics.distribution import classifier
from evalsuite.metrics.distribution.classifier import (
    classifier_splits,
    classifier_two_sample_test,
    pooled_scale,
)
from evalsuite.metrics.streaming.classifier import ClassifierTwoSample


def sets(n=80, m=80, d=8, shift=0.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


def folds_of(n, folds, seed):
    return classifier._draw_folds(n, None, folds, seed)


def naive_scores(x, labels, fold, penalty, scale=None):
    """The definition, fold by fold, with numpy and in the primal form."""
    out = np.empty(len(x))
    for f in range(fold.max() + 1):
        train, test = fold != f, fold == f
        mean = x[train].mean(axis=0)
        spread = x[train].std(axis=0) if scale is None else scale
        weight = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
        a, b = (x[train] - mean) * weight, (x[test] - mean) * weight
        y = labels[train].astype(float)
        ridge = penalty * np.square(a).sum() / len(a)
        w = np.linalg.solve(a.T @ a + ridge * np.eye(x.shape[1]), a.T @ (y - y.mean()))
        low, high = (a[~labels[train]] @ w).mean(), (a[labels[train]] @ w).mean()
        out[test] = (2 * (b @ w) - low - high) / (high - low)
    return out


def pair_auc(scores, labels, fold):
    """Right pairs over all pairs within folds, ties half, pair by pair."""
    right = pairs = 0.0
    for f in range(fold.max() + 1):
        s, y = scores[fold == f], labels[fold == f]
        difference = s[y][:, None] - s[~y][None, :]
        right += (difference > 0).sum() + 0.5 * (difference == 0).sum()
        pairs += difference.size
    return right / pairs


@pytest.mark.parametrize(("n", "m", "d"), [(60, 60, 5), (30, 90, 12), (25, 30, 200)])
@pytest.mark.parametrize("scaled", [False, True])
def test_equals_the_definition(n, m, d, scaled):
    x, y = sets(n, m, d, 0.3)
    z = np.concatenate([x, y])
    scale = pooled_scale(z) if scaled else None
    result = classifier_two_sample_test(
        x, y, scale=scale, penalty=0.7, permutations=0, folds=4, seed=3
    )
    labels, fold = np.arange(n + m) >= n, folds_of(n + m, 4, 3)
    scores = naive_scores(z, labels, fold, 0.7, None if scale is None else scale.numpy())
    np.testing.assert_allclose(
        np.concatenate([result.scores_real, result.scores_synthetic]), scores, atol=1e-8
    )
    assert result.auc == pytest.approx(pair_auc(scores, labels, fold), abs=1e-12)
    assert float(result) == result.effect == 2 * result.auc - 1
    accuracy = ((scores[labels] > 0).mean() + (scores[~labels] < 0).mean()) / 2
    assert result.balanced_accuracy == pytest.approx(accuracy, abs=1e-12)


def test_permuted_statistics_are_true_refits():
    x, y = sets(20, 25, 6)
    z, fold = np.concatenate([x, y]), folds_of(45, 5, 0)
    labels = np.random.default_rng(0).permuted(
        np.tile(np.arange(45) >= 20, (10, 1)), axis=1
    ).T  # fmt: skip
    scores = classifier._Ridge(torch.from_numpy(z), fold, 1.0, None).scores(labels)
    aucs = classifier._auc(scores, labels, fold)
    for b in range(10):
        expected = naive_scores(z, labels[:, b], fold, 1.0)
        np.testing.assert_allclose(scores[:, b].numpy(), expected, atol=1e-8)
        assert aucs[b] == pytest.approx(pair_auc(expected, labels[:, b], fold), abs=1e-12)


def test_within_one_fold_it_is_mann_whitney_and_delong():
    rng = np.random.default_rng(0)
    score, labels = rng.integers(0, 12, 90).astype(float), rng.random(90) < 0.4
    fold = np.zeros(90, dtype=int)
    u = stats.mannwhitneyu(score[labels], score[~labels]).statistic
    auc = float(classifier._auc(torch.from_numpy(score[:, None]), labels[:, None], fold)[0])
    assert auc == pytest.approx(u / (labels.sum() * (~labels).sum()), abs=1e-15)
    # DeLong et al. 1988, from the placement values.
    wins = (score[labels][:, None] > score[~labels]) + 0.5 * (
        score[labels][:, None] == score[~labels]
    )
    variance = wins.mean(axis=1).var(ddof=1) / labels.sum()
    variance += wins.mean(axis=0).var(ddof=1) / (~labels).sum()
    error = classifier._standard_errors(
        torch.from_numpy(score[:, None]), labels[:, None], fold, None, np.array([auc])
    )
    assert error == pytest.approx(np.sqrt(variance), rel=1e-12)


def test_signs_and_extremes():
    x, y = sets(60, 60, 4, 30.0)
    apart = classifier_two_sample_test(x, y, permutations=99)
    assert apart.auc == apart.effect == apart.balanced_accuracy == 1
    assert apart.p_value == 0.01
    assert 0.7 < apart.ci.low < apart.ci.high == 1
    assert 0.7 < apart.tv_lower_bound <= 1
    # Higher is more synthetic-looking, -1 and +1 are the sides' means.
    assert apart.scores_real.mean() == pytest.approx(-1, abs=0.1)
    assert apart.scores_synthetic.mean() == pytest.approx(1, abs=0.1)
    assert apart.scores_synthetic.shape == (60,)
    turned = classifier_two_sample_test(y, x, permutations=0)
    assert turned.effect == 1
    # A linear classifier is blind to a difference in spread.
    blind = classifier_two_sample_test(x, 3 * sets(60, 60, 4, 0.0, 1)[1], permutations=0)
    assert abs(blind.effect) < 0.45


def test_one_odd_synthetic_sample_gets_the_top_score():
    x, y = sets(100, 100, 6, 0.5)
    y[17] += 6
    result = classifier_two_sample_test(x, y, permutations=0)
    assert int(np.argmax(result.scores_synthetic)) == 17


def _rejections(repeats, draw, **options):
    p = np.empty(repeats)
    for seed in range(repeats):
        x, y, groups = draw(seed)
        p[seed] = classifier_two_sample_test(x, y, **groups, seed=seed, **options).p_value
    return {alpha: int((p <= alpha).sum()) for alpha in (0.05, 0.25, 0.5)}


def _within_band(count, repeats, alpha, level=0.999):
    low, high = stats.binom.interval(level, repeats, alpha)
    return low <= count <= high


@pytest.mark.parametrize(("n", "m", "d"), [(25, 25, 4), (15, 45, 3), (20, 20, 60)])
def test_p_values_are_exact(n, m, d):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return rng.standard_t(2, (n, d)), rng.standard_t(2, (m, d)), {}

    found = _rejections(300, draw, permutations=19)
    assert all(_within_band(count, 300, alpha) for alpha, count in found.items()), found


def test_p_values_are_exact_for_groups_and_wrong_without_them():
    def draw(seed, named=True):
        rng = np.random.default_rng(seed)
        x, y = (
            rng.standard_normal((10, 3)).repeat(5, axis=0) + 0.2 * rng.standard_normal((50, 3))
            for _ in range(2)
        )
        names = np.arange(10).repeat(5)
        groups = {"groups_real": names, "groups_synthetic": names + 100}
        return x, y, groups if named else {}

    found = _rejections(250, draw, permutations=19)
    assert all(_within_band(count, 250, alpha) for alpha, count in found.items()), found
    alone = _rejections(60, lambda seed: draw(seed, named=False), permutations=19)
    assert alone[0.05] > 20


def test_pairs_from_one_source_are_swapped_not_dealt():
    """Synthetic samples made from the real ones: no gap but the label; p must stay valid."""

    def draw(seed):
        rng = np.random.default_rng(seed)
        source = rng.standard_normal((30, 4))
        x, y = (source + 0.3 * rng.standard_normal((30, 4)) for _ in range(2))
        names = np.arange(30)
        return x, y, {"groups_real": names, "groups_synthetic": names}

    found = _rejections(250, draw, permutations=19)
    assert all(_within_band(count, 250, alpha) for alpha, count in found.items()), found


def test_power():
    found = _rejections(30, lambda s: (*sets(40, 40, 8, 0.6, s), {}), permutations=19)
    assert found[0.05] >= 27


@pytest.mark.parametrize("shift", [0.0, 0.35])
def test_intervals_cover_the_expected_effect(shift):
    def run(seed, permutations):
        x, y = sets(40, 40, 6, shift, seed)
        return classifier_two_sample_test(x, y, permutations=permutations, seed=seed)

    truth = np.mean([run(1000 + seed, 0).effect for seed in range(400)])
    results = [run(seed, 49) for seed in range(120)]
    inside = sum(truth in r.ci for r in results)
    # 105 or fewer of 120 would have probability 0.001 at 95 %.
    assert inside > 105
    # The bound of the total variation distance: 0 under the null, so at most 5 % above it.
    if shift == 0:
        assert sum(r.tv_lower_bound > 0 for r in results) <= stats.binom.ppf(0.999, 120, 0.05)


def test_a_group_is_never_on_both_sides_of_a_fold():
    groups = np.random.default_rng(0).integers(0, 12, 100)
    fold = classifier._draw_folds(100, groups, 5, 0)
    assert all(np.unique(fold[groups == g]).size == 1 for g in range(12))
    assert np.bincount(fold).min() >= 10
    # A leak would show: each synthetic sample has a real twin with the same noise.
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((60, 300))
    names = np.arange(60)
    x, y = noise, noise + 1e-3 * rng.standard_normal((60, 300))
    fair = classifier_two_sample_test(
        x, y, groups_real=names, groups_synthetic=names, permutations=0
    )
    assert abs(fair.effect) < 0.4


def test_splits_equal_the_function():
    rng = np.random.default_rng(0)
    for d in (5, 200):
        z = rng.standard_normal((90, d)) + (np.arange(90) >= 45)[:, None] * 0.4
        role = rng.choice(3, size=(90, 5))
        first, second = role == 0, role == 1
        names = np.arange(90) // 3
        for groups in (None, names):
            found = classifier_splits(z, first, second, groups=groups, seed=2, folds=3)
            for r in range(5):
                a, b = first[:, r], second[:, r]
                given = {} if groups is None else {
                    "groups_real": names[a],
                    "groups_synthetic": names[b],
                }  # fmt: skip
                expected = classifier_two_sample_test(
                    z[a], z[b], scale=pooled_scale(z), permutations=0, seed=2, folds=3, **given
                )
                assert found[r] == pytest.approx(expected.effect, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 40]), st.sampled_from([1e-6, 1.0, 1e6]))
def test_shift_and_scale_of_the_features_change_nothing(seed, d, scale):
    x, y = sets(24, 30, d, 0.4, seed)
    rng = np.random.default_rng(seed)
    factor, offset = scale * rng.uniform(0.5, 2, d), 100 * scale * rng.standard_normal(d)
    plain = classifier_two_sample_test(x, y, permutations=0)
    moved = classifier_two_sample_test(factor * x + offset, factor * y + offset, permutations=0)
    assert moved.auc == pytest.approx(plain.auc, abs=2e-3)
    np.testing.assert_allclose(moved.scores_real, plain.scores_real, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.ones((20, 3)), np.ones((20, 3))),
        (np.random.default_rng(0).standard_normal((1, 3)).repeat(20, 0),) * 2,
        (np.eye(3).repeat(8, 0), np.eye(3).repeat(8, 0)),
    ],
)
def test_nothing_to_learn_is_exactly_no_effect(x, y):
    result = classifier_two_sample_test(x, y, permutations=19)
    # Copies with the other label in training pull it under 0, never above.
    assert result.effect < 0.35
    assert result.p_value > 0.05
    if np.unique(x, axis=0).shape[0] == 1:
        assert result.effect == 0
        assert result.p_value == 1
        assert result.balanced_accuracy == 0.5


def test_offset_float16_and_constant_features():
    x, y = sets(60, 60, 6, 0.6)
    plain = classifier_two_sample_test(x, y, permutations=0)
    offset = classifier_two_sample_test(x + 1e6, y + 1e6, permutations=0)
    np.testing.assert_allclose(offset.scores_real, plain.scores_real, atol=1e-6)
    padded = classifier_two_sample_test(
        np.hstack([x, np.full((60, 2), 5.0)]), np.hstack([y, np.full((60, 2), 5.0)]), permutations=0
    )
    np.testing.assert_allclose(padded.scores_real, plain.scores_real, atol=1e-9)
    half = classifier_two_sample_test(x.astype(np.float16), y.astype(np.float16), permutations=0)
    assert half.auc == pytest.approx(plain.auc, abs=0.01)


def test_the_same_seed_gives_the_same_result():
    x, y = sets()
    one, two = (classifier_two_sample_test(x, y, permutations=49, seed=5) for _ in range(2))
    assert (one.effect, one.ci, one.p_value) == (two.effect, two.ci, two.p_value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"real": np.ones((0, 3))}, "at least 1 rows"),
        ({"real": np.ones((1, 3))}, "only synthetic samples are left"),
        ({"real": np.full((9, 3), np.nan)}, "NaN or infinite"),
        ({"synthetic": np.ones((9, 4))}, "same encoder"),
        ({"folds": 1}, "folds must be at least 2"),
        ({"penalty": 0.0}, "penalty must be above 0"),
        ({"permutations": -1}, "permutations"),
        ({"scale": np.ones(4)}, "scale must hold 3"),
        ({"groups_real": ["a"]}, "groups_real must name"),
        ({"groups_real": ["a"] * 9, "groups_synthetic": ["a"] * 9}, "all samples are in one group"),
        ({"groups_real": ["a"] * 9, "groups_synthetic": ["b"] * 9}, "finer groups"),
    ],
)
def test_errors_say_what_to_do(change, message):
    rng = np.random.default_rng(0)
    given = {"real": rng.random((9, 3)), "synthetic": rng.random((9, 3))} | change
    with pytest.raises(ValueError, match=message):
        classifier_two_sample_test(given.pop("real"), given.pop("synthetic"), **given)


def test_agrees_with_logistic_regression():
    """Another linear classifier, on the same folds, finds the same gap."""
    linear = pytest.importorskip("sklearn.linear_model")
    for shift in (0.1, 0.3):
        x, y = sets(300, 300, 20, shift)
        z, labels = np.concatenate([x, y]), np.arange(600) >= 300
        fold = folds_of(600, 5, 0)
        scores = np.empty(600)
        for f in range(5):
            train = fold != f
            mean, spread = z[train].mean(axis=0), z[train].std(axis=0)
            model = linear.LogisticRegression(C=1.0, max_iter=500)
            model.fit((z[train] - mean) / spread, labels[train])
            scores[~train] = model.decision_function((z[~train] - mean) / spread)
        ours = classifier_two_sample_test(x, y, permutations=0)
        assert ours.auc == pytest.approx(pair_auc(scores, labels, fold), abs=0.01)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_streaming_equals_the_function_for_any_partition():
    x, y = sets(50, 40, 6)
    expected = classifier_two_sample_test(x, y, permutations=0).effect
    parts = [ClassifierTwoSample() for _ in range(2)]
    for rows in (slice(0, 7), slice(7, 30)):
        parts[0].update(torch.from_numpy(x[rows]), real=True)
        parts[0].update(torch.from_numpy(y[rows]), real=False)
    parts[1].update(torch.from_numpy(x[30:]), real=True)
    parts[1].update(torch.from_numpy(y[30:]), real=False)
    parts[1].merge_state(parts[0])
    # An incoming state goes in front.
    assert float(parts[1].compute()) == pytest.approx(expected, abs=1e-12)
    assert parts[1].result(permutations=9).n_real == 50
    parts[1].reset()
    with pytest.raises(ValueError, match="no real features yet"):
        parts[1].compute()
