"""Drift of tables: kinds, missing values, hard columns, pandas and Arrow, error rate."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from evalsuite.metrics.distribution.copying import newcombe_interval
from evalsuite.metrics.drift.categorical import categorical_drift
from evalsuite.metrics.drift.multiplicity import adjust_pvalues
from evalsuite.metrics.drift.table import drift_tests, infer_kind, text_properties
from evalsuite.metrics.drift.univariate import numeric_drift

RNG = np.random.default_rng(0)


def frame(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    start = np.datetime64("2024-01-01T00:00:00")
    words = np.array(["red", "green", "blue", "house", "tree", "sky"])
    return pd.DataFrame(
        {
            "size": rng.normal(shift, 1, n),
            "count": rng.poisson(3, n),
            "flag": rng.random(n) < 0.3,
            "label": rng.choice(["a", "b", "c"], n),
            "level": pd.Categorical(rng.choice([1, 2, 3], n)),
            "when": start + rng.integers(0, 10**7, n).astype("timedelta64[s]"),
            "caption": [
                " ".join(rng.choice(words, 4 + rng.integers(0, 9))) + f" {i}" for i in range(n)
            ],
        }
    )


def test_kinds_and_values_are_those_of_the_single_columns() -> None:
    a, b = frame(120, 1), frame(90, 2)
    report = drift_tests(a, b)
    kinds = {c.column: c.kind for c in report.columns}
    assert kinds == {
        "size": "numeric",
        "count": "numeric",
        "flag": "categorical",
        "label": "categorical",
        "level": "categorical",
        "when": "datetime",
        "when.hour": "categorical",
        "when.weekday": "categorical",
        "caption.characters": "text",
        "caption.words": "text",
        "caption.mean_word_length": "text",
        "caption.non_ascii_share": "text",
        "caption.digit_share": "text",
    }
    assert report["size"].numeric == numeric_drift(a["size"].to_numpy(), b["size"].to_numpy())
    label = categorical_drift(a["label"].tolist(), b["label"].tolist())
    assert report["label"].categorical == label
    assert report["label"].effect == label.total_variation
    assert report["size"].effect == report["size"].numeric.wasserstein
    assert (report.n_real, report.n_synthetic) == (120, 90)
    assert {c.source for c in report.columns} == set(a.columns)
    # ASCII throughout: nothing to test, and it says so.
    plain = report["caption.non_ascii_share"]
    assert (plain.status, plain.p_value, plain.drifted) == ("constant", None, None)
    tested = [c for c in report.columns if c.status == "tested"]
    expected = adjust_pvalues([c.p_value for c in tested], "bh")
    np.testing.assert_array_equal([c.p_adjusted for c in tested], expected)
    with pytest.raises(KeyError, match="size, count"):
        report["nope"]


def test_pandas_arrow_and_mapping_agree() -> None:
    a, b = frame(80, 3), frame(70, 4, shift=2)
    a.loc[3, "label"] = None
    a.loc[5, "size"] = np.nan
    b.loc[6, "when"] = pd.NaT
    tables = [
        (a, b),
        (pa.Table.from_pandas(a), pa.Table.from_pandas(b)),
        ({k: list(v) for k, v in a.items()}, {k: list(v) for k, v in b.items()}),
    ]
    kinds = {"level": "categorical"}
    first, *others = [drift_tests(x, y, kinds=kinds) for x, y in tables]
    assert first.drifted == ("size",)
    for other in others:
        for c, d in zip(first.columns, other.columns, strict=True):
            assert (c.column, c.kind, c.status) == (d.column, d.kind, d.status)
            assert d.p_value == pytest.approx(c.p_value)
            assert d.effect == pytest.approx(c.effect)
            assert (d.missing_real, d.missing_synthetic) == (c.missing_real, c.missing_synthetic)
    arrays = drift_tests({"t": a["when"].to_numpy()}, {"t": b["when"].to_numpy()})
    assert arrays["t"].kind == "datetime"
    assert arrays["t"].effect == pytest.approx(first["when"].effect)


@pytest.mark.parametrize("column", ["size", "label", "flag", "when", "caption"])
def test_values_that_went_missing_are_drift(column: str) -> None:
    a, b = frame(200, 5), frame(200, 6)
    before = drift_tests(a, b)
    b[column] = b[column].astype(object)
    b.loc[RNG.random(200) < 0.3, column] = None
    report = drift_tests(a, b)
    hit = [c for c in report.columns if c.source == column and c.status == "tested"]
    assert hit[0].drifted
    assert hit[0].missing_real == 0.0
    assert hit[0].missing_synthetic == pytest.approx(b[column].isna().mean())
    assert hit[0].missing_p_value < 1e-6
    for c in before.columns:
        if c.source != column:
            assert report[c.column].p_value == c.p_value
    if hit[0].kind == "categorical":
        assert "(missing)" in hit[0].categorical.unseen


def test_missing_share_is_fishers_test() -> None:
    a, b = {"x": [1.0, 2.0, None, 4.0, None]}, {"x": [1.0, None, 3.0, 4.0, 5.0, 6.0]}
    found = drift_tests(a, b)["x"]
    expected = stats.fisher_exact([[2, 3], [1, 5]]).pvalue
    assert found.missing_p_value == pytest.approx(expected)
    assert found.missing_ci == newcombe_interval(1 / 6, 6, 2 / 5, 5, 0.95)
    # Rows of one group count as one.
    names = {"groups_real": list("aabbc"), "groups_synthetic": list("uvwwxy")}
    grouped = drift_tests(a, b, **names, permutations=9)["x"].missing_ci
    assert grouped == newcombe_interval(1 / 6, 36 / 8, 2 / 5, 25 / 9, 0.95)
    assert drift_tests({"x": [1.0, 2.0]}, {"x": [1.0, 3.0]})["x"].missing_ci is None
    ks = numeric_drift([1, 2, 4], [1, 3, 4, 5, 6]).ks_p
    assert found.p_value == pytest.approx(min(1, 2 * min(ks, expected)))


def test_columns_with_nothing_in_them() -> None:
    nothing = [None, float("nan"), None]
    real = {"both": nothing, "one": [1.0, 2.0, 3.0], "same": [7, 7, 7], "only": [5.0, None, None]}
    synthetic = {"both": nothing, "one": nothing, "same": [7, 7, 7], "only": [1.0, 2.0, 3.0]}
    report = drift_tests(real, synthetic)
    assert [c.status for c in report.columns] == ["no_data", "tested", "constant", "tested"]
    assert report["both"].p_value is None
    assert "synthetic has 0 values" in report["one"].note
    assert report["one"].p_value == pytest.approx(stats.fisher_exact([[0, 3], [3, 0]]).pvalue)
    assert report["same"].effect == 0.0
    assert "real has 1 values" in report["only"].note
    moved = drift_tests({"x": [1.0] * 30}, {"x": [2.0] * 30})["x"]
    assert (moved.status, moved.effect_unit, moved.drifted) == ("tested", "pooled sd", True)
    single = drift_tests({"x": [1.0]}, {"x": [2.0, 3.0]})["x"]
    assert (single.status, single.p_value) == ("skipped", None)


def test_what_cannot_be_compared_is_named_not_dropped() -> None:
    real = pd.DataFrame({"x": [1.0, 2.0, 3.0], "list": [[1], [2], [3]], "mixed": [1, "a", 2.0]})
    real["array"] = [np.zeros(2)] * 3
    real["blob"] = [b"1", b"2", b"3"]
    real["struct"] = [{"a": 1}] * 3
    report = drift_tests(real, real)
    assert report.skipped == ("list", "mixed", "array", "blob", "struct")
    assert "list" in report["list"].note
    assert "int, str" in report["mixed"].note or "float, int, str" in report["mixed"].note
    nested = pa.table({"v": pa.array([[1, 2], [3], None])})
    assert drift_tests(nested, nested).skipped == ("v",)
    asked = drift_tests(real, real, kinds={"x": "skip"})
    assert asked["x"].note == "skipped on request"
    with pytest.raises(TypeError, match="'list' has values of type list"):
        drift_tests(real, real, kinds={"list": "categorical"})


def test_kind_can_be_overruled() -> None:
    table = {"class": [0, 1, 2, 3] * 5, "id": [f"{i:03}" for i in range(20)], "s": ["1.5"] * 20}
    other = {"class": [3, 2, 1, 7] * 5, "id": [f"{i:03}" for i in range(20)], "s": ["1.5"] * 20}
    report = drift_tests(table, other, kinds={"class": "categorical", "id": "text", "s": "numeric"})
    assert report["class"].categorical.unseen == ("7",)
    assert report["id.digit_share"].status == "constant"
    assert report["s"].status == "constant"
    with pytest.raises(TypeError, match="'id' has a value that is no date"):
        drift_tests(table, other, kinds={"id": "datetime"})
    with pytest.raises(TypeError, match="'class' is to be compared as text"):
        drift_tests(table, other, kinds={"class": "text"})
    with pytest.raises(ValueError, match="got 'ordinal'"):
        drift_tests(table, other, kinds={"id": "ordinal"})
    with pytest.raises(ValueError, match="nope"):
        drift_tests(table, other, kinds={"nope": "text"})


def test_inference_rule() -> None:
    assert infer_kind([True, False])[0] == "categorical"
    assert infer_kind([1, 2.5, np.float32(3)])[0] == "numeric"
    assert infer_kind([1, True])[0] == "skip"
    assert infer_kind([datetime.date(2024, 1, 1)])[0] == "datetime"
    assert infer_kind([f"a{i}" for i in range(51)])[0] == "text"
    assert infer_kind([f"a{i}" for i in range(50)])[0] == "categorical"
    assert infer_kind([f"a{i}" for i in range(60)] * 2)[0] == "categorical"
    assert infer_kind([1, 2], hint="categorical")[0] == "categorical"
    assert infer_kind([1j])[0] == "skip"
    assert infer_kind([np.timedelta64(1, "s")])[0] == "skip"
    assert infer_kind([np.datetime64("2024-01-01T00")])[0] == "datetime"


def test_times_in_zones_and_parts() -> None:
    utc, tokyo = datetime.UTC, datetime.timezone(datetime.timedelta(hours=9))
    real = [datetime.datetime(2024, 1, 1, 15, tzinfo=utc)] * 4  # a Monday
    synthetic = [datetime.datetime(2024, 1, 2, 0, tzinfo=tokyo)] * 4  # the same moment
    report = drift_tests({"t": real}, {"t": synthetic})
    assert {c.status for c in report.columns} == {"constant"}
    zoned = pd.DataFrame({"t": pd.to_datetime(real)})
    assert {c.status for c in drift_tests(zoned, {"t": synthetic}).columns} == {"constant"}
    days = [datetime.date(1969, 12, 31), datetime.date(2024, 3, 3)]  # Wednesday, Sunday
    report = drift_tests({"t": days * 5}, {"t": [days[0]] * 10})
    assert report["t.weekday"].categorical.vanished == ("6",)
    assert report["t.hour"].status == "constant"


def test_text_properties_by_hand() -> None:
    found = text_properties(["ab cde", "", "日本 7"])
    np.testing.assert_array_equal(found["characters"], [6, 0, 4])
    np.testing.assert_array_equal(found["words"], [2, 0, 2])
    np.testing.assert_array_equal(found["mean_word_length"], [2.5, 0, 1.5])
    np.testing.assert_array_equal(found["non_ascii_share"], [0, 0, 0.5])
    np.testing.assert_array_equal(found["digit_share"], [0, 0, 0.25])


def test_longer_captions_are_found() -> None:
    a, b = frame(150, 7), frame(150, 8)
    b["caption"] = b["caption"] + " and more and more"
    report = drift_tests(a, b)
    assert report["caption.words"].drifted
    assert report["caption.characters"].drifted
    assert report.drifted[0].startswith("caption")


def test_family_error_rate_under_no_drift() -> None:
    runs, alpha, hits = 60, 0.1, 0
    for r in range(runs):
        rng = np.random.default_rng(1000 + r)
        tables = [
            {
                "a": rng.normal(size=60),
                "b": rng.poisson(1, 60),
                "c": rng.choice(["x", "y", "z"], 60).tolist(),
                "d": [None if v < 0.2 else float(v) for v in rng.random(60)],
            }
            for _ in range(2)
        ]
        hits += bool(drift_tests(*tables, alpha=alpha, adjust="holm").drifted)
    assert hits <= stats.binom.ppf(0.9995, runs, alpha)


def test_groups_follow_the_rows_that_have_a_value() -> None:
    rng = np.random.default_rng(9)
    label = np.repeat(np.arange(12), 6)
    hits = 0
    for r in range(25):
        columns = []
        for _ in range(2):
            x = np.repeat(rng.normal(size=12), 6)
            columns.append({"x": [None if rng.random() < 0.1 else v for v in x]})
        report = drift_tests(
            *columns,
            alpha=0.1,
            groups_real=label,
            groups_synthetic=label + 12,
            permutations=99,
            seed=r,
        )
        kept = [[i for i, v in enumerate(c["x"]) if v is not None] for c in columns]
        assert report["x"].numeric == numeric_drift(
            [columns[0]["x"][i] for i in kept[0]],
            [columns[1]["x"][i] for i in kept[1]],
            groups_real=label[kept[0]],
            groups_synthetic=label[kept[1]] + 12,
            permutations=99,
            seed=r,
        )
        assert "groups" in report["x"].numeric.ks_method
        hits += bool(report.drifted)
    assert hits <= stats.binom.ppf(0.9995, 25, 0.1)
    with pytest.raises(ValueError, match="72 rows, got 3"):
        drift_tests(*columns, groups_real=[1, 2, 3], groups_synthetic=label)


@pytest.mark.parametrize(
    ("real", "synthetic", "kw", "error", "message"),
    [
        ({"a": [1], "b": [2]}, {"a": [1], "c": [2]}, {}, ValueError, r"real has \['b'\].*\['c'\]"),
        ({"a": [1]}, {"a": []}, {}, ValueError, "synthetic has no rows"),
        ({}, {"a": [1]}, {}, ValueError, "real has no columns"),
        ({"a": [1], "b": [1, 2]}, {"a": [1]}, {}, ValueError, "different lengths"),
        ([1, 2], {"a": [1]}, {}, TypeError, "got list"),
        ({"a": [1.0, np.inf]}, {"a": [1.0, 2]}, {}, ValueError, "'a' has 1 infinite"),
        ({"a": [1]}, {"a": [1]}, {"columns": ["b"]}, ValueError, r"no columns \['b'\]"),
        ({"a": [1]}, {"a": [1]}, {"columns": "a"}, ValueError, "list of names"),
        ({"a": [1]}, {"a": [1]}, {"alpha": 5}, ValueError, "alpha"),
        ({"a": [1, 2]}, {"a": [1, 2]}, {"adjust": "none"}, ValueError, "none"),
    ],
)
def test_refuses(real: object, synthetic: object, kw: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        drift_tests(real, synthetic, **kw)


def test_repeated_names_and_chosen_columns() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ValueError, match=r"share a name: \['a'\]"):
        drift_tests(twice, twice)
    report = drift_tests({"a": [1, 2], "b": [1, 2]}, {"c": [3, 4], "a": [1, 2]}, columns=["a"])
    assert [c.column for c in report.columns] == ["a"]
