"""``findings.parquet``: as many rows as findings, readable by pandas, with nulls where due."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pandas as pd
import pyarrow.parquet as pq

from evalsuite.gate.findings import GateResult
from evalsuite.report.parquet import render_parquet
from evalsuite.report.render import result_id


def test_it_holds_every_finding(make_result: Callable[..., GateResult]) -> None:
    result = make_result("fail", hostile=True)
    data = render_parquet(result)
    table = pd.read_parquet(io.BytesIO(data))
    assert len(table) == len(result.findings)
    for row, f in zip(table.itertuples(), result.findings, strict=True):
        assert (row.metric, row.slice, row.status) == (f.metric, f.slice, f.status.value)
        assert pd.isna(row.gap) if f.gap is None else row.gap == f.gap
        assert pd.isna(row.gap_low) if f.gap_ci is None else row.gap_low == f.gap_ci.low
        assert pd.isna(row.permutations) if f.null is None else row.permutations == 499
        assert json.loads(row.details) == f.details
    meta = pq.read_schema(io.BytesIO(data)).metadata
    assert meta[b"result_id"].decode() == result_id(result)
    assert render_parquet(result) == data  # the same bytes for the same result
    assert pq.read_schema(io.BytesIO(render_parquet(make_result("pass")))).equals(
        pq.read_schema(io.BytesIO(data))
    )
