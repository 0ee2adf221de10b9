"""Permutations, splits, p-values and errors: exact where they say so, groups whole."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evalsuite.metrics.inference import (
    check_masks,
    delete_half_se,
    max_t,
    p_value,
    permutation_masks,
    pool_groups,
    split_masks,
    subsample_masks,
)


def whole(mask: np.ndarray, groups: np.ndarray) -> bool:
    return all(len(np.unique(mask[groups == g], axis=0)) == 1 for g in np.unique(groups))


def test_permutations_keep_sizes_and_partition_the_rows() -> None:
    first, second = permutation_masks(30, 12, 200, seed=1)
    assert first.shape == (42, 200)
    assert (first.sum(axis=0) == 30).all()
    assert (first ^ second).all()
    assert len(np.unique(first, axis=1).T) > 190
    # Every row is as likely as any other to be dealt to the real side.
    rate = permutation_masks(30, 12, 4000, seed=2)[0].mean(axis=1)
    assert abs(rate - 30 / 42).max() < 5 * np.sqrt(30 / 42 * 12 / 42 / 4000)


def test_permutations_move_clusters_whole_and_keep_their_number() -> None:
    groups = np.repeat(np.arange(20), 3)
    first, second = permutation_masks(36, 24, 100, groups=groups, seed=0)
    assert whole(first, groups)
    assert (first.sum(axis=0) == 36).all()
    assert (first ^ second).all()


def test_a_group_on_both_sides_has_its_parts_swapped() -> None:
    pairs = np.tile(np.arange(50), 2)
    first, _ = permutation_masks(50, 50, 400, groups=pairs, seed=0)
    assert (first[:50] != first[50:]).all()
    assert abs(first[:50].mean() - 0.5) < 0.02


def test_pooled_groups_are_the_same_group_where_the_label_is() -> None:
    codes = pool_groups(["a", "b", "a"], ["b", "c"], 3, 2)
    assert codes is not None
    assert codes[0] == codes[2] != codes[1] == codes[3] != codes[4]
    one_sided = pool_groups(None, [1, 1], 3, 2)
    assert one_sided is not None
    assert len(set(one_sided.tolist())) == 4
    assert pool_groups(None, None, 3, 2) is None
    with pytest.raises(ValueError, match="groups_real"):
        pool_groups(["a"], None, 3, 2)


def test_splits_share_the_real_half_and_are_disjoint() -> None:
    masks = split_masks(101, 60, 50, 40, seed=3)
    (a, b), (c, s) = masks["floor"], masks["matched"]
    assert (a == c).all()
    assert not (a & b).any()
    assert not a[101:].any()
    assert not b[101:].any()
    assert not s[:101].any()
    for mask in (a, b, s):
        assert (mask.sum(axis=0) == 50).all()


def test_grouped_splits_keep_groups_whole_at_about_the_size() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), rng.integers(1, 12, 60))
    n = len(groups)
    masks = split_masks(n, 200, 100, 30, groups_real=groups, seed=0)
    for mask in masks["floor"]:
        assert whole(mask[:n], groups)
        assert abs(mask.sum(axis=0) - 100).max() <= 6
    subsets = subsample_masks(n, n // 2, 20, groups=groups)
    assert whole(subsets, groups)
    assert abs(subsets.sum(axis=0) - n // 2).max() <= 6


def test_an_impossible_split_names_the_group() -> None:
    groups = ["cam7"] * 90 + [f"g{i}" for i in range(10)]
    with pytest.raises(ValueError, match=r"'cam7', has 90 of 100"):
        split_masks(100, 100, 50, 2, groups_real=groups)
    with pytest.raises(ValueError, match=r"1\.\.50"):
        split_masks(100, 100, 51, 2)
    with pytest.raises(ValueError, match=r"1\.\.20"):
        split_masks(100, 20, 50, 2)


def test_the_same_seed_gives_the_same_draw() -> None:
    for seed in (0, 1):
        a, b = (permutation_masks(20, 20, 30, seed=seed)[0] for _ in range(2))
        assert (a == b).all()
    assert (
        permutation_masks(20, 20, 30, seed=0)[0] != permutation_masks(20, 20, 30, seed=1)[0]
    ).any()


def test_p_value_counts_ties_and_is_never_0() -> None:
    null = np.array([0.0, 1.0, 2.0, 3.0])
    assert p_value(10.0, null) == 1 / 5
    assert p_value(2.0, null) == 3 / 5
    assert p_value(2.0 + 1e-12, null, tie=1e-9) == 3 / 5
    assert p_value(0.0, null, "lower") == 2 / 5
    assert p_value(10.0, null, "both") == 2 / 5
    assert p_value(1.0, np.ones(9)) == 1.0
    with pytest.raises(ValueError, match="NaN"):
        p_value(np.nan, null)
    with pytest.raises(ValueError, match="null must"):
        p_value(1.0, [])


@pytest.mark.parametrize("groups", [False, True])
def test_permutation_p_values_are_exact(groups: bool) -> None:
    """2,000 null runs of a mean difference; rows of a group share an effect in the second case."""
    rng = np.random.default_rng(5)
    runs, n, size = 2000, 40, 4 if groups else 1
    labels = np.repeat(np.arange(2 * n // size), size) if groups else None
    p = np.empty(runs)
    for r in range(runs):
        z = rng.standard_normal(2 * n)
        if groups:
            z = z + 2 * np.repeat(rng.standard_normal(2 * n // size), size)
        first, second = permutation_masks(n, n, 99, groups=labels, seed=r)
        null = (z @ first - z @ second) / n
        p[r] = p_value(z[:n].mean() - z[n:].mean(), null)
    for alpha in (0.05, 0.2):
        low, high = stats.binom.ppf([0.005, 0.995], runs, alpha) / runs
        assert low <= (p <= alpha).mean() <= high
    if groups:
        # Ignoring the groups is not exact: the test above can fail.
        ignored = np.empty(300)
        for r in range(300):
            z = rng.standard_normal(2 * n) + 2 * np.repeat(rng.standard_normal(20), size)
            first, second = permutation_masks(n, n, 99, seed=r)
            ignored[r] = p_value(z[:n].mean() - z[n:].mean(), (z @ first - z @ second) / n)
        assert (ignored <= 0.05).mean() > 0.12


def test_max_t_controls_the_family_and_costs_nothing_for_copies() -> None:
    rng = np.random.default_rng(0)
    null = rng.standard_normal((1, 999))
    observed = np.array([2.0])
    single = p_value(2.0, null[0])
    copies = max_t(np.repeat(observed, 5), np.repeat(null, 5, axis=0))
    assert copies == pytest.approx([single] * 5)
    # Scales differ by 1e6: standardised, they count alike.
    scaled = max_t(observed * [1, 1e6], np.vstack([null, null * 1e6]))
    assert scaled == pytest.approx([single] * 2)
    independent = max_t(np.full(5, 2.0), rng.standard_normal((5, 999)))
    assert independent.min() > 3 * single
    runs = 1500
    smallest = np.array(
        [max_t(t[:, 0], t[:, 1:]).min() for t in rng.standard_normal((runs, 4, 100))]
    )
    low, high = stats.binom.ppf([0.005, 0.995], runs, 0.05) / runs
    assert low <= (smallest <= 0.05).mean() <= high


def test_max_t_steps_down_and_knows_tails() -> None:
    rng = np.random.default_rng(1)
    null = rng.standard_normal((3, 499))
    p = max_t([6.0, 2.0, 0.0], null)
    assert p[0] == 1 / 500
    assert (np.diff(p) >= 0).all()
    # With the first rejected, the second competes with the third only.
    assert p[1] == pytest.approx(max_t([2.0, 0.0], null[1:])[0])
    assert max_t([-6.0], null[:1], "lower")[0] == 1 / 500
    assert max_t([-6.0], null[:1], "both")[0] == 1 / 500
    assert max_t([-6.0], null[:1], "upper")[0] == 1.0
    assert max_t([1.0, 1.0], np.ones((2, 9))).tolist() == [1.0, 1.0]
    with pytest.raises(ValueError, match="must be"):
        max_t([1.0, 2.0], null)


@pytest.mark.parametrize("size", [50, 30, 80])
def test_delete_half_se_is_the_standard_error_of_a_mean(size: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.standard_normal(100)
    values = x @ subsample_masks(100, size, 20_000, seed=1) / size
    assert delete_half_se(values, size, 100) == pytest.approx(stats.sem(x), rel=0.02)


def test_delete_half_se_refuses_what_has_no_spread() -> None:
    with pytest.raises(ValueError, match="size must"):
        delete_half_se([1.0, 2.0], 10, 10)
    with pytest.raises(ValueError, match="R >= 2"):
        delete_half_se([1.0], 5, 10)


def test_masks_are_checked() -> None:
    first = np.array([[True], [True], [False], [False]])
    check_masks(first, ~first, 4)
    with pytest.raises(ValueError, match="share no row"):
        check_masks(first, first, 4)
    with pytest.raises(ValueError, match="boolean"):
        check_masks(first.astype(float), ~first, 4)
    with pytest.raises(ValueError, match="at least 2 rows"):
        check_masks(first & [[True], [False], [False], [False]], ~first, 4)
