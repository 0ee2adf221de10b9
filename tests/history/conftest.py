"""Results as the gate makes them, one for each batch of a series."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.gate.findings import (
    DatasetSummary,
    EncoderSummary,
    Finding,
    GateResult,
    Interval,
    Message,
    Reason,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def finding(metric: str, gap: float, error: float, tolerance: float, **more: Any) -> Finding:
    half = 1.96 * error
    status = (
        Status.FAIL
        if gap - half > tolerance
        else Status.INCONCLUSIVE
        if gap + half > tolerance
        else Status.PASS
    )
    return Finding(
        kind="distribution", modality="image", metric=metric, encoder="efficientnet_lite0",
        value=gap, n_real=400, n_synthetic=400, gap=gap, gap_unit="share of real variance",
        gap_ci=Interval(low=gap - half, high=gap + half, method="delete-half jackknife"),
        p_adjusted=0.01, tolerance=tolerance, status=status,
        message=Message(id="said", text=f"{metric}: the gap {gap:g}"),
        details={"standard_error": error}, **more,
    )  # fmt: skip


def build(
    batch: int,
    gaps: dict[str, float],
    *,
    error: float = 0.01,
    tolerance: float = 0.1,
    name: str = "vendor",
    real: str = "9f",
    weights: str = "ab",
    texts: tuple[str, ...] = (),
) -> GateResult:
    findings = tuple(finding(m, g, error, tolerance) for m, g in gaps.items())
    order = (Status.FAIL, Status.INCONCLUSIVE, Status.PASS)
    reasons = [
        Reason(status=f.status, finding=f.key, message=f.message)
        for f in sorted(findings, key=lambda f: order.index(f.status))
        if f.status is not Status.PASS and f.message is not None
    ]
    reasons += [
        Reason(status=Status.WARN, message=Message(id="from_nowhere", text=t)) for t in texts
    ]
    verdict = reasons[0].status if reasons else Status.PASS
    if not reasons:
        reasons = [Reason(status=verdict, message=Message(id="all_passed", text="All hold."))]

    def data(role: Any, label: str, fingerprint: str) -> DatasetSummary:
        return DatasetSummary(
            role=role, name=label, format="folder", fingerprint=fingerprint, n_found=400, n_used=400
        )

    return GateResult(
        evalsuite_version="0.1.0", verdict=verdict,
        exit_code={"pass": 0, "fail": 1}.get(verdict, 4),
        reasons=tuple(reasons), findings=findings, real=data("real", "line 4", real * 32),
        synthetic=data("synthetic", f"{name} {batch}", f"{batch:064x}"),
        encoders=(
            EncoderSummary(id="efficientnet_lite0", modality="image", dim=1280,
                           weights_sha256=weights * 32, weights_source="wheel", backend="onnx",
                           preprocessing={}),
        ),
        policy={"version": 1, "name": "default"}, policy_sha256="cd" * 32, seed=0, alpha=0.05,
        command="evalsuite gate real synthetic", versions={},
        times={"began": f"2026-11-{batch:02d}T08:00:00Z"},
    )  # fmt: skip


@pytest.fixture(scope="session")
def make() -> Callable[..., GateResult]:
    return build
