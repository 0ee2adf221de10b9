from __future__ import annotations

import numpy as np
import pytest
from scipy.special import logsumexp

from evalsuite.metrics.distribution import likelihood
from evalsuite.metrics.distribution.likelihood import feature_likelihood_divergence


def draw(n, seed, d=8):
    return np.random.default_rng(seed).standard_normal((n, d))


def naive_log_density(x, centres, sigma):
    d = x.shape[1]
    squared = ((x[:, None] - centres[None]) ** 2).sum(axis=2)
    log_n = -0.5 * d * np.log(2 * np.pi * sigma**2) - squared / (2 * sigma**2)
    return logsumexp(log_n, axis=1) - np.log(len(centres))


def test_the_value_is_the_likelihood_of_the_fitted_mixture():
    train, test, synthetic = draw(200, 0), draw(150, 1), draw(100, 2)
    result = feature_likelihood_divergence(train, test, synthetic)
    mean, deviation = train.mean(axis=0), train.std(axis=0, ddof=1)
    a, b, s = ((t - mean) / deviation for t in (train, test, synthetic))
    for found, x in ((result.value, b), (result.train, a)):
        density = naive_log_density(x, s, result.sigma)
        assert found + result.baseline == pytest.approx(-100 / 8 * density.mean(), rel=1e-9)
    assert float(result) == result.value
    assert result.gap == result.train - result.value
    assert result.converged


def test_the_fit_is_a_maximum():
    """No small change of one width raises the training likelihood."""
    train, synthetic = draw(150, 0, 4), draw(40, 1, 4)
    result = feature_likelihood_divergence(train, draw(50, 2, 4), synthetic)
    mean, deviation = train.mean(axis=0), train.std(axis=0, ddof=1)
    a, s = (train - mean) / deviation, (synthetic - mean) / deviation
    best = naive_log_density(a, s, result.sigma).sum()
    used = np.argsort(-naive_share(a, s, result.sigma).sum(axis=0))[:15]
    for j in used:
        for factor in (0.95, 1.05):
            sigma = result.sigma.copy()
            sigma[j] *= factor
            assert naive_log_density(a, s, sigma).sum() < best + 1e-6


def naive_share(x, centres, sigma):
    log_n = np.stack(
        [naive_log_density(x, centres[j : j + 1], sigma[j : j + 1]) for j in range(len(centres))], 1
    )
    return np.exp(log_n - logsumexp(log_n, axis=1, keepdims=True))


def test_one_component_has_the_closed_form():
    """All centres equal: one Gaussian, whose variance is the mean squared distance over d."""
    train = draw(100, 0, 3)
    a = (train - train.mean(axis=0)) / train.std(axis=0, ddof=1)
    result = feature_likelihood_divergence(
        train, draw(50, 1, 3), np.tile(train.mean(axis=0), (5, 1))
    )
    expected = np.sqrt((a**2).sum(axis=1).mean() / 3)
    np.testing.assert_allclose(result.sigma, expected, rtol=1e-6)
    np.testing.assert_allclose(result.memorisation, 0, atol=1e-9)


def test_fresh_real_data_are_at_0_and_worse_sets_above():
    train, test = draw(600, 0), draw(300, 1)
    fresh = feature_likelihood_divergence(train, test, draw(300, 2))
    assert 0 in fresh.ci
    assert abs(fresh.gap) < 5
    shifted = feature_likelihood_divergence(train, test, draw(300, 2) + 1.5)
    # Known blindness: of a Gaussian the mean alone, with a wide component, is a good model.
    narrow = feature_likelihood_divergence(train, test, 0.2 * draw(300, 2))
    one_mode = feature_likelihood_divergence(train, test, np.tile(draw(1, 2), (300, 1)))
    assert shifted.ci.low > 0
    assert one_mode.ci.low > 0
    assert narrow.value < fresh.value


def test_copies_are_seen_in_the_gap_and_named():
    train, test = draw(400, 0, 48), draw(300, 1, 48)
    fresh = draw(200, 2, 48)
    copied = fresh.copy()
    copied[:40] = train[:40] + 1e-3 * draw(40, 3, 48)
    honest = feature_likelihood_divergence(train, test, fresh)
    found = feature_likelihood_divergence(train, test, copied)
    assert found.gap < honest.gap - 10
    assert found.value > honest.value
    named = np.argsort(-found.memorisation)[:40]
    assert (named < 40).sum() >= 36
    # Exact copies keep a finite density.
    exact = feature_likelihood_divergence(train, test, train[:200])
    assert np.isfinite(exact.value)
    assert exact.gap < found.gap


def test_units_of_the_features_do_not_matter():
    train, test, synthetic = draw(100, 0), draw(80, 1), draw(60, 2)
    plain = feature_likelihood_divergence(train, test, synthetic)
    scale = np.array([1e-6, 1e3, 1, 1, 1, 1, 5, 9])
    moved = feature_likelihood_divergence(
        *(
            np.hstack([t * scale + 1e6 * scale, np.ones((len(t), 2))])
            for t in (train, test, synthetic)
        )
    )
    assert moved.value == pytest.approx(plain.value, abs=1e-5)
    assert moved.gap == pytest.approx(plain.gap, abs=1e-5)


def test_interval_covers_for_new_test_sets():
    """Of one training and one synthetic set: the interval is for the draw of the test set."""
    train, synthetic = draw(100, 0, 4), draw(50, 1, 4) + 0.3
    truth = feature_likelihood_divergence(train, draw(20_000, 9, 4), synthetic).value
    inside = sum(
        truth in feature_likelihood_divergence(train, draw(80, 100 + s, 4), synthetic).ci
        for s in range(60)
    )
    assert inside > 51


def test_says_when_the_fit_did_not_settle(monkeypatch):
    monkeypatch.setattr(likelihood, "_ROUNDS", 2)
    assert not feature_likelihood_divergence(draw(50, 0), draw(50, 1), draw(50, 2)).converged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": np.ones((3, 2))}, "train needs at least 4"),
        ({"test": np.ones((1, 2))}, "test needs at least 2"),
        ({"synthetic": np.ones((0, 2))}, "synthetic needs at least 2"),
        ({"synthetic": np.ones((9, 3))}, "same number of columns"),
        ({"test": np.full((9, 2), np.nan)}, "NaN or infinite"),
        ({"train": np.ones((9, 2))}, "every feature is constant"),
        ({"level": 0.0}, "level must lie"),
    ],
)
def test_errors_say_what_to_do(change, message):
    given = {"train": draw(9, 0, 2), "test": draw(9, 1, 2), "synthetic": draw(9, 2, 2)} | change
    options = {"level": given.pop("level")} if "level" in given else {}
    with pytest.raises(ValueError, match=message):
        feature_likelihood_divergence(**given, **options)
