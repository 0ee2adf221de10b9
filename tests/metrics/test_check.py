"""Any array that holds numbers is taken as it is; any other is refused in words."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from evalsuite.metrics._check import features, groups_of, pair


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i4", "u1", ">f8"])
def test_every_numeric_dtype_keeps_its_values(dtype: str) -> None:
    x = np.arange(6).reshape(3, 2).astype(dtype)
    assert features(x, "x").tolist() == [[0, 1], [2, 3], [4, 5]]


def test_views_of_any_kind() -> None:
    x = np.arange(12.0).reshape(3, 4)
    frozen = x.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for view in (x[::-1], x[:1][::-1], x[:, ::-1], x[:, ::2], x.T, frozen):
            np.testing.assert_array_equal(features(view, "x").numpy(), view)


def test_bfloat16_tensor() -> None:
    assert features(torch.ones(2, 3, dtype=torch.bfloat16), "x", dtype=None).dtype == torch.float32


@pytest.mark.parametrize(
    ("x", "error", "says"),
    [
        ([[1.0]], TypeError, "numpy array or a torch tensor, got list"),
        (np.array([["a"]]), TypeError, "numeric"),
        (np.ones((2, 2), dtype=bool), TypeError, "numeric"),
        (np.ones(3), ValueError, r"shape \(n, d\), got \(3,\)"),
        (np.ones((3, 0)), ValueError, "no columns"),
        (np.ones((1, 2)), ValueError, "at least 2 rows, got 1"),
        (np.array([[1.0, np.nan], [0, 0]]), ValueError, r"in 1 rows \(first: \[0\]\)"),
    ],
)
def test_refusals_name_what_was_got(x: object, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        features(x, "x", min_n=2)  # type: ignore[arg-type]


def test_pairs_must_fit() -> None:
    with pytest.raises(ValueError, match="same encoder"):
        pair(np.ones((2, 3)), np.ones((2, 4)))
    a, b = pair(np.ones((2, 3), dtype="f4"), np.ones((2, 3)), dtype=None)
    assert a.dtype == b.dtype == torch.float64


def test_groups_are_one_for_each_row() -> None:
    assert groups_of(["b", "a", "b"], 3, "g").tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="each of 2 rows, got 3"):
        groups_of(["a", "b", "c"], 2, "g")
