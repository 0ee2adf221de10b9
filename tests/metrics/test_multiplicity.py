"""Corrections for many tests: closed forms, scipy, monotony, and their error rate by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalsuite.metrics.drift.multiplicity import adjust_pvalues

METHODS = ["holm", "bh", "by", "bonferroni", "hochberg"]
P = [0.01, 0.04, 0.03, 0.005]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("bonferroni", [0.04, 0.16, 0.12, 0.02]),
        # Sorted .005 .01 .03 .04 times 4 3 2 1 = .02 .03 .06 .04, running maximum.
        ("holm", [0.03, 0.06, 0.06, 0.02]),
        # The same products, running minimum from the right.
        ("hochberg", [0.03, 0.04, 0.04, 0.02]),
        # times 4/1 4/2 4/3 4/4 = .02 .02 .04 .04
        ("bh", [0.02, 0.04, 0.04, 0.02]),
        # BH times 1 + 1/2 + 1/3 + 1/4
        ("by", [0.02 * 25 / 12, 0.04 * 25 / 12, 0.04 * 25 / 12, 0.02 * 25 / 12]),
    ],
)
def test_by_hand(method: str, expected: list[float]) -> None:
    np.testing.assert_allclose(adjust_pvalues(P, method), expected, rtol=1e-14)


@pytest.mark.peers
@pytest.mark.parametrize("method", ["bh", "by"])
def test_equals_scipy(method: str) -> None:
    p = np.random.default_rng(0).uniform(size=200) ** 2
    np.testing.assert_allclose(
        adjust_pvalues(p, method), stats.false_discovery_control(p, method=method), rtol=1e-13
    )


@pytest.mark.parametrize("method", METHODS)
@settings(deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_monotone_bounded_and_order_kept(method: str, p: list[float]) -> None:
    raw = np.array(p)
    adjusted = adjust_pvalues(raw, method)
    assert ((adjusted >= raw) & (adjusted <= 1)).all()
    order = np.argsort(raw, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    shuffled = np.random.default_rng(1).permutation(raw.size)
    np.testing.assert_array_equal(adjust_pvalues(raw[shuffled], method), adjusted[shuffled])


@settings(deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_from_strict_to_lenient(p: list[float]) -> None:
    by_method = {m: adjust_pvalues(p, m) for m in METHODS}
    slack = 1e-15
    assert (by_method["bonferroni"] >= by_method["holm"] - slack).all()
    assert (by_method["holm"] >= by_method["hochberg"] - slack).all()
    assert (by_method["hochberg"] >= by_method["bh"] - slack).all()
    assert (by_method["by"] >= by_method["bh"] - slack).all()


@pytest.mark.parametrize("method", METHODS)
def test_untested_hypotheses_stay_nan_and_do_not_count(method: str) -> None:
    holes = adjust_pvalues([np.nan, 0.01, np.nan, 0.04, 0.03, 0.005], method)
    assert np.isnan(holes[[0, 2]]).all()
    np.testing.assert_array_equal(holes[[1, 3, 4, 5]], adjust_pvalues(P, method))
    assert np.isnan(adjust_pvalues([np.nan, np.nan], method)).all()


@pytest.mark.parametrize(
    ("p", "method", "message"),
    [
        ([], "holm", "empty"),
        ([0.1, 1.2], "holm", r"\[1.2\]"),
        ([-0.1], "bh", r"\[-0.1\]"),
        ([0.1], "sidak", "sidak"),
        ([[0.1]], "bh", r"shape \(1, 1\)"),
        (0.1, "bh", r"shape \(\)"),
    ],
)
def test_refuses(p: object, method: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adjust_pvalues(p, method)


def test_error_rates_hold_under_the_global_null() -> None:
    rng = np.random.default_rng(5)
    runs, alpha = 2000, 0.05
    p = rng.uniform(size=(runs, 20))
    for method in METHODS:
        rate = np.mean([(adjust_pvalues(row, method) <= alpha).any() for row in p])
        assert rate <= stats.binom.ppf(0.999, runs, alpha) / runs, method
    raw = np.mean((p <= alpha).any(axis=1))
    assert raw > 0.5  # what the corrections are for
