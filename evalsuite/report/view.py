"""What the page shows of a result: chosen, ordered, shortened and bounded, before any HTML."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..gate.findings import WORST_FIRST, Status
from .i18n import catalogue
from .text import clean, number, p_value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ..gate.findings import (
        EmbeddingMap,
        Finding,
        Gallery,
        GalleryItem,
        GateResult,
        Message,
        Reason,
        Waived,
    )
    from .i18n import Param

SHOWN_FIRST = (*WORST_FIRST, Status.INFO)
_RANK = {status: i for i, status in enumerate(SHOWN_FIRST)}

# Bytes of JSON and numbers of things; together they keep the page under its 15 MB at any input.
FINDINGS_BYTES = 5_000_000
DETAILS_BYTES = 1_200_000
POINTS = 4_000
SLICES = 40
HEAT = (0.02, 0.05, 0.1, 0.2)
"""Gaps, as shares of the real variance, from which a cell is a step darker."""
TEXT = 240
"""Characters of a text that a gallery shows."""
MAP_TEXT_BYTES = 300_000
ALIGNED_WORDS = 60
THUMBNAIL_BYTES = 100_000
LEARNING = 6
HOPS = 12
GALLERIES = 30
GALLERIES_BYTES = 600_000
GALLERY_ITEMS = 48
ATTRIBUTES = 48
ATTRIBUTE_VALUES = 1_000

Note = tuple[str, dict[str, "Param"]]


def severity(finding: Finding) -> tuple[int, float, str]:
    """Sort key: the worst status first, and within it the largest gap for its tolerance."""
    share = 0.0
    if finding.gap is not None:
        share = finding.gap / finding.tolerance if finding.tolerance else abs(finding.gap)
    return _RANK[finding.status], -share, finding.key


@dataclass(frozen=True, slots=True)
class Shift:
    """How one attribute of the synthetic set stands to the real one."""

    name: str
    shift: float | None
    """Difference of the means in real standard deviations; None where the real one is constant."""
    spread: float | None
    """Synthetic standard deviation over the real one."""
    status: Status
    real: tuple[float, ...]
    synthetic: tuple[float, ...]
    unit: str = ""

    @property
    def identical(self) -> bool:
        """Whether every sample of both sets has the same value."""
        return len({*self.real, *self.synthetic}) == 1

    @property
    def words(self) -> str:
        """The text key of the sentence that says it."""
        if self.shift is None or self.spread is None:
            return "shift.identical" if self.identical else "shift.constant"
        size = abs(self.shift)
        if size < 0.1:
            if self.spread > 1.25:
                return "shift.wider"
            return "shift.narrower" if self.spread < 0.8 else "shift.same"
        way = "lower" if self.shift < 0 else "higher"
        return f"shift.{way}.{'slight' if size < 0.5 else 'clear' if size < 1.5 else 'strong'}"


def _moments(values: Sequence[float]) -> tuple[float, float]:
    largest = max(map(abs, values))
    unit = largest if largest > 1e100 else 1.0  # their squares would be beyond all floats
    scaled = [v / unit for v in values]
    mean = math.fsum(scaled) / len(scaled)
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in scaled) / len(scaled))
    return mean * unit, spread * unit


def shifts(result: GateResult) -> list[Shift]:
    """Say of each attribute how far it moved, the furthest first."""
    judged = {f.metric: f for f in reversed(result.findings) if f.kind == "attribute"}
    found: list[Shift] = []
    for name, sides in result.attributes.items():
        real, synthetic = sides.get("real", ()), sides.get("synthetic", ())
        if not real or not synthetic:
            continue
        (mean_r, sd_r), (mean_s, sd_s) = _moments(real), _moments(synthetic)
        constant = sd_r <= 1e-12 * max(1.0, abs(mean_r))
        shift = None if constant else (mean_s - mean_r) / sd_r
        finding = judged.get(name)
        if shift is not None and finding is not None and finding.gap is not None:
            shift = finding.gap  # it knows all samples, the overlay only some of them
        found.append(
            Shift(
                name=name,
                shift=shift,
                spread=None if constant else sd_s / sd_r,
                status=finding.status if finding is not None else Status.INFO,
                real=real,
                synthetic=synthetic,
                unit=finding.unit if finding is not None else "",
            )
        )
    # what left a constant goes first: no number says how far that is
    far = {s.name: -math.inf if s.shift is None else -abs(s.shift) for s in found}
    return sorted(found, key=lambda s: (s.identical, far[s.name], s.name))


def next_steps(result: GateResult) -> list[Note]:
    """Say what to do, most useful first: text keys with their parameters."""
    bad = [f for f in result.findings if f.status in (Status.FAIL, Status.ERROR)]
    steps: list[Note] = []
    if any(r.status is Status.ERROR and r.message.id != "waiver_expired" for r in result.reasons):
        steps.append(("step.error", {}))
    steps += [("step.integrity", {"role": f.slice}) for f in bad if f.kind == "integrity"]
    unsure = [f.n_required for f in result.findings if f.status is Status.INCONCLUSIVE]
    needed = [n for n in unsure if n is not None]
    if needed:
        steps.append(("step.more_samples", {"n": max(needed)}))
    elif unsure or result.verdict is Status.INCONCLUSIVE:
        steps.append(("step.more_samples_unknown", {}))
    if result.verdict in (Status.FAIL, Status.WARN, Status.INCONCLUSIVE):
        steps += [
            (_attribute_step(s), {"attribute": s.name, "size": abs(s.shift)})
            for s in shifts(result)[:3]
            if s.shift is not None and abs(s.shift) >= 0.5
        ]
    for f in bad:
        if f.kind == "waiver":
            steps.append(("step.waiver", {}))
        if f.kind not in ("distribution", "tie"):
            continue
        if f"step.{f.metric}" in catalogue("en"):
            steps.append((f"step.{f.metric}", {}))
        elif "coverage" in f.metric or "recall" in f.metric:
            steps.append(("step.coverage", {}))
        elif "precision" in f.metric or "density" in f.metric:
            steps.append(("step.fidelity", {}))
        else:
            steps.append(("step.look", {}))
    if result.verdict is Status.PASS:
        steps.append(("step.pass", {}))
    elif result.verdict is Status.WARN:
        steps.append(("step.warn", {}))
    else:
        steps.append(("step.again", {}))
    unique: list[Note] = []
    for step in steps:
        if step not in unique:
            unique.append(step)
    return unique[:6]


def _attribute_step(shift: Shift) -> str:
    key = f"step.attribute.{shift.name}"
    return key if key in catalogue("en") else "step.attribute"


def message_view(message: Message) -> dict[str, Any]:
    """Give a message for the page, shortened."""
    params = {
        clean(k, 60): clean(v, 200) if isinstance(v, str) else _round(v, 5)
        for k, v in list(message.params.items())[:20]
    }
    return {"id": clean(message.id, 80), "params": params, "text": clean(message.text, 600)}


def _round(x: float | None, digits: int) -> float | None:
    """Shorten a number for the page; an integer stays one."""
    if x is None or isinstance(x, int):
        return x
    return float(f"{x:.{digits}g}") if math.isfinite(x) else None


@dataclass(slots=True)
class _Codes:
    """Strings as small integers; ``cost`` is what they take in the page."""

    limit: int
    texts: list[str] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    cost: int = 0

    def __call__(self, text: str) -> int:
        if text not in self.index:
            tidy = clean(text, self.limit)
            self.index[text] = len(self.texts)
            self.texts.append(tidy)
            self.cost += size(tidy) + 1
        return self.index[text]


def encode(value: Any) -> str:
    """Give JSON that may stand inside a script element: no byte of it can end one."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def size(value: Any) -> int:
    """Bytes of a value in the page."""
    return len(encode(value).encode())


def findings_view(findings: Sequence[Finding], notes: list[Note]) -> dict[str, Any]:
    """Give the table: columns of codes and numbers, the worst first, as many as the bytes allow."""
    ordered = sorted(findings, key=severity)
    codes = {
        "kind": _Codes(60),
        "modality": _Codes(60),
        "metric": _Codes(120),
        "encoder": _Codes(120),
        "slice": _Codes(120),
        "unit": _Codes(40),
        "n": _Codes(60),
    }
    columns: dict[str, list[Any]] = {
        c: [] for c in ("status", *codes, "gap_unit", "value", "gap", "tolerance", "ratio", "p")
    }
    spent = 2_000
    for f in ordered:
        row = {
            "status": _RANK[f.status],
            "kind": codes["kind"](f.kind),
            "modality": codes["modality"](f.modality),
            "metric": codes["metric"](f.metric),
            "encoder": codes["encoder"](f.encoder or ""),
            "slice": codes["slice"](f.slice),
            "unit": codes["unit"](f.unit),
            "gap_unit": codes["unit"](f.gap_unit),
            "n": codes["n"](f"{f.n_real},{f.n_synthetic}"),
            "value": _round(f.value, 5),
            "gap": _round(f.gap, 5),
            "tolerance": _round(f.tolerance, 5),
            "ratio": _round(f.gap_ratio, 4),
            "p": _round(f.p_adjusted, 6),
        }
        spent += sum(len(str(v)) + 1 for v in row.values())  # as long as in JSON
        if spent + sum(code.cost for code in codes.values()) > FINDINGS_BYTES:
            break
        for column, value in row.items():
            columns[column].append(value)
    shown = len(columns["status"])
    if shown < len(ordered):
        notes.append(("note.findings", {"shown": shown, "total": len(ordered)}))
    details: list[dict[str, Any]] = []
    spent = 0
    for f in ordered[:shown]:
        detail = _detail(f)
        spent += size(detail) + 1
        if spent > DETAILS_BYTES:
            notes.append(("note.details", {"shown": len(details), "total": len(ordered)}))
            break
        details.append(detail)
    return {
        "total": len(ordered),
        "codes": {c: code.texts for c, code in codes.items()},
        "columns": columns,
        "details": details,
    }


def _detail(f: Finding) -> dict[str, Any]:
    floor, ci = f.floor, f.gap_ci
    detail: dict[str, Any] = {
        "matched": _round(f.matched, 5),
        "mdg": _round(f.min_detectable_gap, 5),
        "n_required": f.n_required,
        "p_raw": _round(f.p_value, 4),
        "p_method": f.p_method and clean(f.p_method, 120),
        "detected": f.detected,
        "higher": f.higher_is_better,
        "best": _round(f.best, 5),
    }
    if floor is not None:
        detail["floor"] = {
            "size": floor.size,
            "splits": floor.splits,
            **{k: _round(getattr(floor, k), 5) for k in ("mean", "median", "q05", "q95")},
            "values": [_round(v, 4) for v in floor.values[:100]],
        }
    if ci is not None:
        detail["ci"] = [_round(ci.low, 5), _round(ci.high, 5), ci.level, clean(ci.method, 120)]
    if f.null is not None:
        detail["null"] = {
            "observed": _round(f.null.observed, 5),
            "n": f.null.permutations,
            "values": [_round(v, 4) for v in f.null.values],
        }
    if f.waiver is not None:
        detail["waiver"] = waiver_view(f.waiver)
    if f.message is not None:
        detail["message"] = message_view(f.message)
    if f.details:
        extra = json.dumps(f.details, ensure_ascii=False, default=str, sort_keys=True)
        detail["extra"] = clean(extra, 1_000)
    return {k: v for k, v in detail.items() if v is not None}


def maps_view(maps: Iterable[EmbeddingMap], notes: list[Note]) -> list[dict[str, Any]]:
    """Give the points of each map as columns; where there are too many, evenly spaced ones."""
    all_maps = list(maps)[:20]
    quota = POINTS // max(1, len(all_maps))
    views = []
    spent = 0
    texts: list[bool] = []

    def told(text: str | None) -> str | None:
        nonlocal spent
        if text is None:
            return None
        tidy = clean(text, TEXT)
        spent += size(tidy)
        texts.append(spent <= MAP_TEXT_BYTES)
        return tidy if texts[-1] else None

    for m in all_maps:
        points = m.points
        if len(points) > quota:
            notes.append(("note.points", {"shown": quota, "total": len(points)}))
            points = tuple(points[i * len(points) // quota] for i in range(quota))
        labels = _Codes(80)
        views.append(
            {
                "encoder": clean(m.encoder, 120),
                "method": clean(m.method, 120),
                "explained": m.explained and [_round(e, 4) for e in m.explained],
                "of": list(m.shown_of),
                "side": "".join(p.side[0] for p in points),
                "name": [clean(p.sample, 160) for p in points],
                "x": [_round(p.x, 5) for p in points],
                "y": [_round(p.y, 5) for p in points],
                "label": [None if p.label is None else labels(p.label) for p in points],
                "labels": labels.texts,
                "group": [p.group and clean(p.group, 60) for p in points],
                "covered": [None if p.covered is None else int(p.covered) for p in points],
                "score": [_round(p.score, 4) for p in points],
                "said": [told(p.text) for p in points],
                "keys": [(p.side, p.sample) for p in points],
            }
        )
    if not all(texts):
        notes.append(("note.map_texts", {"shown": sum(texts), "total": len(texts)}))
    return views


def galleries_view(galleries: Iterable[Gallery], notes: list[Note]) -> list[dict[str, Any]]:
    """Give the galleries, each with at most :data:`GALLERY_ITEMS` items, as the bytes allow."""
    views = []
    spent = 0
    for g in list(galleries)[:GALLERIES]:
        items: list[dict[str, Any]] = []
        for item in g.items[:GALLERY_ITEMS]:
            view = _gallery_item(item)
            spent += size(view)
            if spent > GALLERIES_BYTES:
                break
            # Only until pictures and recordings are found by them.
            view["key"] = (item.side, item.sample)
            view["partner_key"] = item.partner and (item.partner_side, item.partner)
            items.append(view)
        if len(items) < len(g.items):
            notes.append(("note.gallery", {"shown": len(items), "total": len(g.items)}))
        views.append({"id": clean(g.id, 80), "encoder": clean(g.encoder, 120), "items": items})
    return views


def _gallery_item(item: GalleryItem) -> dict[str, Any]:
    return {
        "side": item.side,
        "name": clean(item.sample, 160),
        "score": _round(item.score, 5),
        "text": clean(item.score_text, 160),
        "label": item.label and clean(item.label, 80),
        "percentile": _round(item.percentile, 3),
        "partner_side": item.partner_side,
        "partner": item.partner and clean(item.partner, 160),
        "said": item.text and clean(item.text, TEXT),
        "partner_said": item.partner_text and clean(item.partner_text, TEXT),
        "alignment": [
            [op, clean(wanted, 60), clean(heard, 60)]
            for op, wanted, heard in item.alignment[:ALIGNED_WORDS]
        ],
    }


def slices_view(result: GateResult, notes: list[Note]) -> dict[str, Any]:
    """Give the gap of each slice in each encoder, the worst slice first."""
    columns: dict[tuple[str, str, str], None] = {}
    rows: dict[str, dict[tuple[str, str, str], Finding]] = {}
    for f in result.findings:
        if f.slice == "all" or f.kind != "distribution" or f.gap is None:
            continue
        key = (f.modality, f.encoder or "", f.metric)
        columns[key] = None
        rows.setdefault(f.slice, {})[key] = f
    ordered = sorted(rows, key=lambda s: (-max(f.gap or 0.0 for f in rows[s].values()), s))
    if len(ordered) > SLICES:
        notes.append(("note.slices", {"shown": SLICES, "total": len(ordered)}))
    return {
        "columns": [
            {"encoder": clean(encoder, 60), "metric": clean(metric, 80)}
            for _, encoder, metric in columns
        ],
        "rows": [
            {"slice": clean(name, 120), "cells": [_heat(rows[name].get(c)) for c in columns]}
            for name in ordered[:SLICES]
        ],
    }


def _heat(finding: Finding | None) -> dict[str, Any] | None:
    """Give a cell: five steps up to a fifth of the real variance, and whether it is chance."""
    if finding is None or finding.gap is None:
        return None
    ci = finding.gap_ci
    return {
        "level": 0 if not finding.detected else 1 + sum(finding.gap > g for g in HEAT),
        "gap": number(finding.gap),
        "interval": f"{number(ci.low)} – {number(ci.high)}" if ci else "",
        "n": f"{finding.n_real} / {finding.n_synthetic}",
        "p": p_value(finding.p_adjusted),
    }


def learning_view(result: GateResult) -> list[dict[str, Any]]:
    """Give the learning curves: what synthetic samples add to the real ones in training."""
    views = []
    for f in result.findings:
        if f.metric != "utility" or not isinstance(f.details.get("curve"), list):
            continue
        plain = {k: _round(v, 4) for k, v in f.details.items() if isinstance(v, int | float)}
        views.append(
            {
                **plain,
                "modality": clean(f.modality, 60),
                "encoder": clean(f.encoder or "", 120),
                "curve": [
                    {k: _round(point.get(k), 5) for k in ("added", "score", "gain", "low", "high")}
                    for point in f.details["curve"][:20]
                    if isinstance(point, dict)
                ],
            }
        )
    return views[:LEARNING]


def chain_view(result: GateResult) -> list[dict[str, Any]]:
    """Give the hops of a chain in order: how well each fits the source, and what it loses."""
    return [
        {
            "hop": clean(f.slice, 60),
            "position": _round(f.value, 5),
            "loss": _round(f.gap, 5),
            "low": _round(f.gap_ci.low, 5),
            "high": _round(f.gap_ci.high, 5),
            "records": f.n_synthetic,
            "status": f.status.value,
        }
        for f in result.findings
        if f.metric == "chain_loss" and f.gap is not None and f.gap_ci is not None
    ][:HOPS]


def attributes_view(result: GateResult, notes: list[Note]) -> list[dict[str, Any]]:
    """Give the attributes with their values, the furthest moved first."""
    found = shifts(result)
    if len(found) > ATTRIBUTES:
        notes.append(("note.attributes", {"shown": ATTRIBUTES, "total": len(found)}))
    return [
        {
            "name": clean(s.name, 120),
            "words": s.words,
            "shift": _round(s.shift, 4),
            "spread": _round(s.spread, 4),
            "status": s.status.value,
            "unit": clean(s.unit, 40),
            "real": [_round(v, 4) for v in s.real[:ATTRIBUTE_VALUES]],
            "synthetic": [_round(v, 4) for v in s.synthetic[:ATTRIBUTE_VALUES]],
        }
        for s in found[:ATTRIBUTES]
    ]


def _media_type(data: bytes) -> str | None:
    """Recognise the pictures that a browser shows and that cannot hold a script."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _sound_type(data: bytes) -> str | None:
    """Recognise the recordings that a browser plays."""
    if data.startswith(b"OggS"):
        return "audio/ogg"
    if data.startswith(b"fLaC"):
        return "audio/flac"
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "audio/wav"
    if data.startswith(b"ID3") or data[:2] in (b"\xff\xfb", b"\xff\xf3", b"\xff\xf2"):
        return "audio/mpeg"
    return None


def data_uri(data: bytes | None) -> str:
    """Give a picture or a recording as a data URI; nothing for what a browser does not show."""
    kind = data and (_media_type(data) or _sound_type(data))
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if data and kind else ""


def _rank_within(sides: str) -> list[int]:
    seen: dict[str, int] = {}
    ranks = []
    for side in sides:
        ranks.append(seen.get(side, 0))
        seen[side] = ranks[-1] + 1
    return ranks


@dataclass(slots=True)
class _Media:
    """Pictures or recordings as data URIs: each is in the page once, as many as the budget holds.

    Called with a sample, it gives the place of its URI; None where it has none, or none more fits.
    """

    data: Mapping[tuple[str, str], bytes]
    type_of: Callable[[bytes], str | None]
    budget: int
    largest: float = math.inf
    uris: list[str] = field(default_factory=list)
    places: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def __call__(self, key: tuple[str, str] | None) -> int | None:
        if key is None or key not in self.data:
            return None
        if key not in self.places:
            content = self.data[key]
            cost = 4 * len(content) // 3 + 40
            fits = len(content) <= self.largest and cost <= self.budget
            self.places[key] = None
            if self.type_of(content) and fits:
                self.budget -= cost
                self.places[key] = len(self.uris)
                self.uris.append(data_uri(content))
        return self.places[key]

    def note(self, kind: str) -> list[Note]:
        """Say how many are left out."""
        shown, total = len(self.uris), len(self.places)
        return [(kind, {"shown": shown, "total": total})] if shown < total else []


def embed_thumbnails(
    maps: list[dict[str, Any]],
    galleries: list[dict[str, Any]],
    thumbnails: Mapping[tuple[str, str], bytes],
    budget: int,
    notes: list[Note],
) -> list[str]:
    """Give data URIs within ``budget`` bytes, and put their places into the maps and galleries.

    The galleries come first; then, of every map in turn, the points that stand out, then the rest.
    """
    embed = _Media(thumbnails, _media_type, budget, largest=THUMBNAIL_BYTES)
    for gallery in galleries:
        for item in gallery["items"]:
            item["thumb"] = embed(item["key"])
            item["partner_thumb"] = embed(item["partner_key"])
    for view in maps:
        rank = _rank_within(view["side"])
        order = sorted(range(len(rank)), key=lambda i: (view["covered"][i] != 0, rank[i]))
        thumbs = dict(zip(order, (embed(view["keys"][i]) for i in order), strict=True))
        view["thumb"] = [thumbs[i] for i in range(len(order))]
    notes += embed.note("note.thumbnails")
    return embed.uris


def embed_clips(
    maps: list[dict[str, Any]],
    galleries: list[dict[str, Any]],
    clips: Mapping[tuple[str, str], bytes],
    budget: int,
    notes: list[Note],
) -> list[str]:
    """Give data URIs within ``budget`` bytes, and put their places into the maps and galleries.

    The keys of the samples are taken out of both: nothing needs them afterwards.
    """
    embed = _Media(clips, _sound_type, budget)
    for gallery in galleries:
        for item in gallery["items"]:
            item["clip"] = embed(item.pop("key"))
            item["partner_clip"] = embed(item.pop("partner_key"))
    for view in maps:
        view["clip"] = [embed(key) for key in view.pop("keys")]
    notes += embed.note("note.clips")
    return embed.uris


def waiver_view(waiver: Waived) -> dict[str, str]:
    """Give a waiver for the page."""
    return {
        "status": waiver.status.value,
        "expires": waiver.expires.isoformat(),
        "owner": clean(waiver.owner, 100),
        "reason": clean(waiver.reason, 500),
    }


def reasons_view(reasons: Sequence[Reason], limit: int = 50) -> list[dict[str, Any]]:
    """Give the reasons for the page."""
    return [
        {
            "status": r.status.value,
            "message": r.message,
            "view": message_view(r.message),
            "waiver": r.waiver and waiver_view(r.waiver),
            "finding": r.finding and clean(r.finding, 300),
        }
        for r in reasons[:limit]
    ]
