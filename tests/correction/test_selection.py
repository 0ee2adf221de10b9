from __future__ import annotations

import numpy as np
import pytest

from evalsuite.errors import DataError
from evalsuite.generators.selection.ratio import (
    TooFewEffectiveError,
    density_ratio,
    effective_sample_size,
    keep_by_weight,
)
from evalsuite.generators.selection.subset import (
    Recall,
    herding,
    judged,
    label_agreement,
    on_manifold,
    transport_subset,
    within_real_scores,
)
from evalsuite.generators.selection.text import dsir, match_lengths

METHODS = ("classifier", "ulsif", "kliep")


def gaussians(n: int, shift: float, seed: int, d: int = 2) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal((n, d))
    x[:, 0] += shift
    return x


def true_ratio(x: np.ndarray, shift: float) -> np.ndarray:
    """N(0, I) over N((shift, 0), I)."""
    return np.exp(-shift * x[:, 0] + shift**2 / 2)


@pytest.mark.parametrize("method", METHODS)
def test_the_ratio_of_two_gaussians(method: str) -> None:
    real, synthetic = gaussians(600, 0.0, 0), gaussians(600, 0.8, 1)
    found = density_ratio(real, synthetic, method=method)
    wanted = true_ratio(synthetic, 0.8)
    assert np.corrcoef(np.log(found.weights + 1e-3), np.log(wanted))[0, 1] > 0.85
    assert found.weights.mean() == pytest.approx(1)
    # Weighted, the synthetic mean is the real one.
    moved = np.average(synthetic[:, 0], weights=found.weights)
    assert abs(moved - real[:, 0].mean()) < 0.25 * abs(synthetic[:, 0].mean())


@pytest.mark.parametrize("method", METHODS)
def test_equal_distributions_have_equal_weights(method: str) -> None:
    found = density_ratio(gaussians(400, 0.0, 0), gaussians(400, 0.0, 1), method=method)
    assert found.effective_sample_size > 0.8 * 400


@pytest.mark.parametrize("method", METHODS)
def test_sets_that_hardly_overlap_are_refused(method: str) -> None:
    with pytest.raises(TooFewEffectiveError, match="hardly overlap"):
        density_ratio(gaussians(200, 0.0, 0), gaussians(200, 9.0, 1), method=method)


def test_the_classifier_never_scores_what_it_was_trained_on() -> None:
    # In 60 dimensions 80 samples a side are told apart perfectly by whoever has seen them.
    real, synthetic = gaussians(80, 0.0, 0, d=60), gaussians(80, 0.0, 1, d=60)
    found = density_ratio(real, synthetic, components=60, fewest=1)
    assert 0.3 < np.median(found.weights) < 1.5


def test_groups_stay_together_in_cross_fitting() -> None:
    from evalsuite.generators.selection.ratio import _folds

    groups = np.repeat(np.arange(12), 5)
    fold = _folds(60, groups, 4, np.random.default_rng(0))
    assert all(len(set(fold[groups == g])) == 1 for g in range(12))
    assert set(fold) == {0, 1, 2, 3}
    # They matter to what comes out.
    real, synthetic = gaussians(60, 0.0, 0), gaussians(60, 0.5, 1)
    alone, whole = (
        density_ratio(real, synthetic, groups_real=g, groups_synthetic=g, fewest=1).weights
        for g in (None, groups)
    )
    assert not np.allclose(alone, whole)


def test_effective_sample_size_has_its_closed_form() -> None:
    assert effective_sample_size([1, 1, 1, 1]) == 4
    assert effective_sample_size([5, 0, 0]) == 1
    assert effective_sample_size([1, 2, 3]) == pytest.approx(36 / 14)
    with pytest.raises(ValueError, match="not all of them 0"):
        effective_sample_size([0, 0])


def test_heavier_samples_are_kept_more_often() -> None:
    real, synthetic = gaussians(300, 0.0, 0), gaussians(300, 1.0, 1)
    ratio = density_ratio(real, synthetic)
    rows = keep_by_weight(ratio, seed=3)
    assert len(set(rows)) == len(rows) <= 150
    assert abs(synthetic[rows, 0].mean()) < 0.6 * synthetic[:, 0].mean()
    with pytest.raises(ValueError, match="n must be from 1 to"):
        keep_by_weight(ratio, 301)


def mixture() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Real data, and a synthetic set of which the last 40 of 120 are somewhere else."""
    rng = np.random.default_rng(7)
    return (
        rng.standard_normal((150, 4)),
        np.concatenate([rng.standard_normal((80, 4)), rng.standard_normal((40, 4)) + 6]),
        rng.standard_normal((150, 4)),
    )


def test_subsets_leave_out_what_is_somewhere_else() -> None:
    real, synthetic, judge = mixture()
    for rows in (herding(real, synthetic, 60), transport_subset(real, synthetic, 60),
                 on_manifold(real, synthetic)):  # fmt: skip
        assert np.mean(np.asarray(rows) >= 80) < 0.05
        found = judged(judge, synthetic, rows)
        assert found.after.precision > found.before.precision + 0.2
        assert found.after.n == found.random.n == len(rows)
        # A third of a random subset is somewhere else, and covers nothing.
        assert found.after.coverage > found.random.coverage


def test_a_greedy_filter_raises_precision_and_loses_coverage_and_both_are_told() -> None:
    rng = np.random.default_rng(1)
    real, judge = rng.standard_normal((200, 2)), rng.standard_normal((200, 2))
    synthetic = 1.5 * rng.standard_normal((200, 2))
    central = np.argsort((synthetic**2).sum(axis=1))[:40].tolist()
    found = judged(judge, synthetic, central)
    assert found.after.precision > found.before.precision
    assert found.after.coverage < found.random.coverage
    assert real.shape == judge.shape


def test_herding_keeps_every_mode_and_each_step_adds_to_the_one_before() -> None:
    rng = np.random.default_rng(2)
    centres = np.array([[0, 0], [8, 0], [0, 8]])
    real = np.repeat(centres, 40, axis=0) + rng.standard_normal((120, 2))
    crowd = np.concatenate([np.repeat(centres[:1], 100, axis=0), np.repeat(centres[1:], 10, 0)])
    synthetic = crowd + rng.standard_normal((120, 2))
    rows = herding(real, synthetic, 30)
    shares = [np.mean(np.linalg.norm(synthetic[rows] - c, axis=1) < 4) for c in centres]
    assert min(shares) > 0.25, shares
    assert herding(real, synthetic, 10) == rows[:10]


def test_transport_agrees_with_the_assignment_of_two_equal_sets() -> None:
    rng = np.random.default_rng(3)
    real = rng.standard_normal((30, 3))
    far = real + 50
    synthetic = np.concatenate([far, real + 0.01 * rng.standard_normal((30, 3))])
    assert transport_subset(real, synthetic, 30) == list(range(30, 60))
    assert transport_subset(real, synthetic, 60) == list(range(60))
    with pytest.raises(ValueError, match="n must be from 1 to the 60"):
        transport_subset(real, synthetic, 61)


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_wrong_labels_are_found(probe: str) -> None:
    rng = np.random.default_rng(4)
    labels = np.array(["a", "b"] * 100)
    place = np.where(labels == "a", -3.0, 3.0)[:, None]
    real, synthetic = (rng.standard_normal((200, 3)) + place for _ in range(2))
    wrong = labels.copy()
    wrong[:20] = np.where(wrong[:20] == "a", "b", "a")
    found = label_agreement(real, labels, synthetic, wrong, probe=probe)
    assert not any(found.keep[:20])
    assert np.mean(found.keep[20:]) > 0.98
    assert found.real_agreement > 0.98
    # Where the classes cannot be told apart, it says so of real data too.
    blind = label_agreement(rng.standard_normal((200, 3)), labels, synthetic, labels, probe=probe)
    assert blind.real_agreement < 0.65


@pytest.mark.parametrize("probe", ["knn", "linear"])
def test_a_majority_answer_agrees_and_is_worth_no_more_than_a_guess(probe: str) -> None:
    rng = np.random.default_rng(5)
    labels = np.array(["often"] * 160 + ["rare"] * 40)
    place = np.where(labels == "rare", 3.0, -3.0)[:, None]
    real = rng.standard_normal((200, 3)) + place
    # Whatever was rare looks like the frequent class now.
    found = label_agreement(real, labels, rng.standard_normal((200, 3)) - 3, labels, probe=probe)
    assert found.agreement == pytest.approx(0.8, abs=0.01)
    assert found.recall.mean == pytest.approx(0.5, abs=0.01)
    assert found.real_recall.mean > 0.98
    # Where nothing is to be seen, a probe has no class that it prefers.
    blind = label_agreement(rng.standard_normal((200, 3)), labels, real, labels, probe=probe)
    assert blind.real_recall.mean == pytest.approx(0.5, abs=0.15)
    assert blind.real_agreement < 0.75


def test_recall_is_the_peers_and_its_error_covers() -> None:
    from sklearn.metrics import balanced_accuracy_score

    rng = np.random.default_rng(6)
    labels = np.repeat(["a", "b", "c"], (60, 25, 15))
    truth = dict(zip("abc", (0.9, 0.6, 0.4), strict=True))
    wanted = np.mean(list(truth.values()))
    others = np.where(labels == "a", "b", "a")
    held = 0
    for _ in range(400):
        right = rng.random(100) < np.array([truth[v] for v in labels])
        recall = Recall.of(labels, right)
        assert recall.mean == pytest.approx(
            balanced_accuracy_score(labels, np.where(right, labels, others))
        )
        value, error = recall.among(["a", "b", "c"])
        assert value == pytest.approx(recall.mean)
        held += abs(value - wanted) < 1.96 * error
    assert held / 400 > 0.92
    # One class of two that are all right is not certain to the last.
    assert Recall.of(labels, labels == "a").among(["a"])[1] > 0.01
    with pytest.raises(ValueError, match="not in"):
        Recall.of(labels, labels == "a").among(["z"])


def test_label_agreement_says_what_it_lacks() -> None:
    x = np.random.default_rng(0).standard_normal((12, 2))
    with pytest.raises(ValueError, match=r"no samples of \['c'\]"):
        label_agreement(x, ["a", "b"] * 6, x, ["c"] * 12)
    with pytest.raises(ValueError, match="at least 5 real samples each"):
        label_agreement(x, ["a"] * 10 + ["b"] * 2, x, ["a"] * 12)


def test_scores_as_good_as_those_of_most_real_samples_are_kept() -> None:
    real = np.arange(100.0)
    assert within_real_scores(real, [3.0, 5.0, 50.0, np.nan], share=0.05) == [1, 2, 3]
    assert within_real_scores(real, [-1.0, 0.0], share=0.0) == [1]
    with pytest.raises(ValueError, match="no real sample has a score"):
        within_real_scores([np.nan], [1.0])


def test_too_small_a_selection_cannot_be_judged() -> None:
    real, synthetic, _ = mixture()
    with pytest.raises(DataError, match="select less strictly"):
        judged(real, synthetic, [1, 2, 3])
    with pytest.raises(ValueError, match="rows must be distinct"):
        judged(real, synthetic, [1, 1, 2, 3, 4, 5, 6])


WEATHER = ["rain in the morning and wind", "sun and clouds over the hills", "snow and cold wind"]
TRADE = ["shares fell in early trade", "the bank raised its rates", "profits rose again"]


def test_dsir_prefers_texts_like_the_real_ones() -> None:
    real = [f"{t} today" for t in WEATHER for _ in range(10)]
    synthetic = [*(f"{t} again" for t in WEATHER for _ in range(10)), *(TRADE * 20)]
    found = dsir(real, synthetic, 25, seed=1)
    assert np.mean(np.asarray(found.rows) < 30) > 0.9
    assert found.kl_after < found.kl_before
    assert found.log_weights[:30].min() > found.log_weights[30:].max()
    assert dsir(real, synthetic, 25, seed=1).rows == found.rows
    with pytest.raises(ValueError, match="n must be from 1"):
        dsir(real, synthetic, 0)
    with pytest.raises(ValueError, match="real texts have no words"):
        dsir(["  "], synthetic, 1)


def test_dsir_on_equal_bags_is_a_random_draw() -> None:
    texts = (WEATHER + TRADE) * 20
    found = dsir(texts, texts, 60)
    assert found.effective_sample_size == pytest.approx(len(texts), rel=1e-6)
    assert found.kl_before == pytest.approx(0, abs=1e-12)


def test_lengths_are_matched() -> None:
    rng = np.random.default_rng(0)
    real = ["x" * int(n) for n in rng.normal(40, 5, 200).clip(1)]
    synthetic = ["y" * int(n) for n in rng.uniform(1, 150, 400)]
    rows = match_lengths(real, synthetic, 60)
    got = np.array([len(synthetic[i]) for i in rows])
    assert len(set(rows)) == 60
    assert abs(got.mean() - 40) < 4
    assert got.std() < 12
