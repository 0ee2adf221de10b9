"""The judge: which interval against which tolerance gives which verdict."""

from __future__ import annotations

from typing import Any

import pytest

from evalsuite.gate.findings import DatasetSummary, Finding, Interval, Message, Status
from evalsuite.gate.judge import exit_code, judge
from evalsuite.gate.policy import Policy, parse_policy

POLICY = parse_policy("rules: [{metric: kid, tolerance: 0.1}]")


def data(role: Any = "real", **kwargs: Any) -> DatasetSummary:
    values: dict[str, Any] = {
        "role": role, "name": role, "format": "folder", "fingerprint": "f",
        "n_found": 100, "n_used": 100,
    }  # fmt: skip
    return DatasetSummary(**{**values, **kwargs})


def finding(low: float, high: float, *, p: float = 0.5, **kwargs: Any) -> Finding:
    values: dict[str, Any] = {
        "kind": "distribution", "modality": "image", "metric": "kid", "encoder": "e",
        "value": 1.0, "n_real": 100, "n_synthetic": 100, "gap": (low + high) / 2,
        "gap_ci": Interval(low=low, high=high, method="m"), "p_adjusted": p, "detected": p <= 0.05,
        "min_detectable_gap": 0.7 * (high - low),
    }  # fmt: skip
    return Finding(**{**values, **kwargs})


def verdict(f: list[Finding], policy: Policy = POLICY, **sets: DatasetSummary) -> Status:
    sides = {"real": data(), "synthetic": data("synthetic"), **sets}
    return judge(f, policy, **sides)[1]


@pytest.mark.parametrize(
    ("low", "high", "p", "status"),
    [
        (0.11, 0.20, 0.001, Status.FAIL),
        (0.11, 0.20, 0.9, Status.FAIL),  # the size of the gap decides, never p
        (0.05, 0.15, 0.001, Status.INCONCLUSIVE),
        (-0.5, 0.5, 0.9, Status.INCONCLUSIVE),  # too small to see: never a pass
        (0.06, 0.09, 0.001, Status.WARN),
        (0.001, 0.004, 0.001, Status.PASS),  # detected, but of no size
        (-0.02, 0.02, 0.5, Status.PASS),
        (0.06, 0.1, 0.5, Status.PASS),
    ],
)
def test_interval_against_tolerance(low: float, high: float, p: float, status: Status) -> None:
    assert verdict([finding(low, high, p=p)]) is status


def test_inconclusive_says_which_n_would_do() -> None:
    (judged, *_), _, (reason,) = judge(
        [finding(-0.15, 0.15)], POLICY, real=data(), synthetic=data("synthetic")
    )
    # half-width 0.15 and a distance of 0.1: (0.21 / 0.1)^2 times 100
    assert judged.n_required == 441
    assert "441" in reason.message.text


def test_no_n_decides_what_lies_on_the_tolerance() -> None:
    (judged, *_), status, (reason,) = judge(
        [finding(0.05, 0.151)], POLICY, real=data(), synthetic=data("synthetic")
    )
    assert status is Status.INCONCLUSIVE
    assert judged.n_required is None
    assert "hardly decide" in reason.message.text


def test_a_rule_that_nothing_answers_is_an_error() -> None:
    assert verdict([finding(-0.02, 0.02, metric="other")]) is Status.ERROR
    lenient = parse_policy("rules: [{metric: kid, tolerance: 0.1, on_missing: ignore}]")
    assert verdict([finding(-0.02, 0.02, metric="other")], lenient) is Status.PASS


def test_no_gap_measured_is_inconclusive() -> None:
    f = finding(0, 0, gap=None, gap_ci=None, value=None, n_required=30)
    (judged, *_), status, _ = judge([f], POLICY, real=data(), synthetic=data("synthetic"))
    assert status is Status.INCONCLUSIVE
    assert judged.n_required == 30


def test_the_worst_rule_is_the_verdict() -> None:
    policy = parse_policy(
        "rules: [{metric: a, tolerance: 0.1}, {metric: b, tolerance: 0.1}, "
        "{metric: c, tolerance: 0.1}]"
    )
    good, bad, open_ = (-0.02, 0.02), (0.2, 0.3), (0.0, 0.2)
    names = "abc"

    def run(*ends: tuple[float, float]) -> Status:
        return verdict([finding(*e, metric=m) for e, m in zip(ends, names, strict=True)], policy)

    assert run(good, good, good) is Status.PASS
    assert run(good, open_, good) is Status.INCONCLUSIVE
    assert run(good, open_, bad) is Status.FAIL
    assert verdict([finding(*bad, metric="a")], policy) is Status.ERROR


def test_severity_warn_never_fails() -> None:
    policy = parse_policy("rules: [{metric: kid, tolerance: 0.1, severity: warn}]")
    assert verdict([finding(0.2, 0.3)], policy) is Status.WARN
    assert verdict([finding(0.0, 0.3)], policy) is Status.WARN


def test_encoder_and_slice_select() -> None:
    policy = parse_policy("rules: [{metric: kid, tolerance: 0.1, encoder: e, slice: label=cat}]")
    assert verdict([finding(0.2, 0.3, slice="label=cat")], policy) is Status.FAIL
    assert verdict([finding(0.2, 0.3, slice="label=cat", encoder="x")], policy) is Status.ERROR
    assert verdict([finding(0.2, 0.3)], policy) is Status.ERROR


def test_two_encoders_are_told_apart_in_the_reasons() -> None:
    found = [finding(0.2, 0.3, encoder=name) for name in ("one", "two")]
    _, _, reasons = judge(found, POLICY, real=data(), synthetic=data("synthetic"))
    assert [r.message.text.partition(":")[0] for r in reasons] == ["kid (one)", "kid (two)"]
    assert [r.message.params["slice"] for r in reasons] == ["one", "two"]
    _, _, (alone,) = judge(found[:1], POLICY, real=data(), synthetic=data("synthetic"))
    assert alone.message.text.startswith("kid: ")


def test_one_warning_for_what_every_modality_says() -> None:
    message = Message(id="labels_missing", text="No synthetic sample is of class 'c'.")
    found = [
        finding(0, 0, metric="label_shares", modality=m, status=Status.WARN, message=message)
        for m in ("image", "text")
    ]
    rules = parse_policy("rules: [{metric: kid, tolerance: 0.1, on_missing: ignore}]")
    _, status, reasons = judge(found, rules, real=data(), synthetic=data("synthetic"))
    assert (status, len(reasons)) == (Status.WARN, 1)


def test_files_are_judged_too() -> None:
    good = [finding(-0.02, 0.02)]
    assert verdict(good, synthetic=data("synthetic", n_found=100, n_used=98)) is Status.FAIL
    assert verdict(good, real=data(n_found=100, n_used=98)) is Status.FAIL
    assert verdict(good, real=data(n_found=100, n_used=99)) is Status.PASS
    assert verdict(good, synthetic=data("synthetic", n_duplicates=6)) is Status.WARN
    assert verdict(good, synthetic=data("synthetic", n_exact_copies=1)) is Status.WARN


def test_exit_codes_are_the_contract() -> None:
    codes = [
        exit_code(s)
        for s in (Status.PASS, Status.WARN, Status.FAIL, Status.ERROR, Status.INCONCLUSIVE)
    ]
    assert codes == [0, 0, 1, 3, 4]
    assert exit_code(Status.WARN, strict=True) == 1
    assert exit_code(Status.PASS, strict=True) == 0
