"""``findings.parquet``: one row for each finding, for the tools that read tables."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from .render import result_id

if TYPE_CHECKING:
    from ..gate.findings import Finding, GateResult

# Names of pyarrow's makers of types, which is imported when a file is written.
_TEXT, _REAL, _WHOLE, _FLAG = "string", "float64", "int64", "bool_"
_COLUMNS = {
    "kind": _TEXT, "modality": _TEXT, "metric": _TEXT, "encoder": _TEXT, "slice": _TEXT,
    "status": _TEXT, "value": _REAL, "unit": _TEXT, "higher_is_better": _FLAG, "best": _REAL,
    "n_real": _WHOLE, "n_synthetic": _WHOLE, "matched": _REAL, "floor_size": _WHOLE,
    "floor_median": _REAL, "floor_q05": _REAL, "floor_q95": _REAL, "gap_ratio": _REAL,
    "gap": _REAL, "gap_low": _REAL, "gap_high": _REAL, "gap_level": _REAL, "gap_method": _TEXT,
    "gap_unit": _TEXT, "tolerance": _REAL, "min_detectable_gap": _REAL, "n_required": _WHOLE,
    "p_value": _REAL, "p_method": _TEXT, "permutations": _WHOLE, "p_adjusted": _REAL,
    "detected": _FLAG, "waived_from": _TEXT, "waived_until": _TEXT, "message_id": _TEXT,
    "message": _TEXT, "details": _TEXT,
}  # fmt: skip


def render_parquet(result: GateResult, *, ident: str | None = None) -> bytes:
    """Give the findings as a Parquet file.

    Parameters
    ----------
    result : GateResult
        What the gate found.
    ident : str, optional
        The result's id, where it is known already.

    Returns
    -------
    bytes
        One row for each finding, in the result's order, flat; what a finding does not have is
        null. ``details`` is JSON. The schema's metadata name the result, so that tables of many
        runs can be told apart.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rows = [_row(finding) for finding in result.findings]
    schema = pa.schema(
        [(name, getattr(pa, kind)()) for name, kind in _COLUMNS.items()],
        metadata={
            "result_id": ident or result_id(result),
            "schema_version": result.schema_version,
            "evalsuite": result.evalsuite_version,
            "verdict": result.verdict.value,
        },
    )
    columns = {name: [row[name] for row in rows] for name in _COLUMNS}
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns, schema=schema), buffer, compression="zstd")
    return buffer.getvalue()


def _row(f: Finding) -> dict[str, Any]:
    ci, floor = f.gap_ci, f.floor
    own = {
        name: getattr(f, name)
        for name in _COLUMNS
        if name in type(f).model_fields and name not in ("status", "message", "details")
    }
    return own | {
        "status": f.status.value,
        "floor_size": floor and floor.size,
        "floor_median": floor and floor.median,
        "floor_q05": floor and floor.q05,
        "floor_q95": floor and floor.q95,
        "gap_low": ci and ci.low,
        "gap_high": ci and ci.high,
        "gap_level": ci and ci.level,
        "gap_method": ci and ci.method,
        "permutations": f.null and f.null.permutations,
        "waived_from": f.waiver and f.waiver.status.value,
        "waived_until": f.waiver and f.waiver.expires.isoformat(),
        "message_id": f.message and f.message.id,
        "message": f.message and f.message.text,
        "details": json.dumps(f.details, ensure_ascii=False, sort_keys=True, default=str),
    }
