"""What a set of texts is like as a whole: variety, repeats, words that give the label away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ..gate.findings import Finding, Gallery, GalleryItem, Interval, Message
from .calibrate import random_rows
from .explain import GALLERY_ITEMS, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..gate.policy import Policy
    from .plan import Part

VARIETY = {"vocabulary": True, "distinct_2": True, "self_bleu": False}
"""Measures of variety, and whether more of it is more varied."""
SAID = ("language_shares", "near_copy_share", "label_leakage")
"""Metrics with a sentence that belongs beside the verdict, whether or not a rule judges them."""
SHOWN_WORDS = 20
GUESSED_FROM = 300
"""Characters of a text that its language is guessed from."""
MAUVE_TEXTS = 100
"""With fewer texts a codebook has too few cells to say anything."""


def text_findings(
    part: Part, policy: Policy, remember: Callable[[str, str, Callable[[], bytes]], bytes]
) -> tuple[list[Finding], list[Gallery]]:
    """Give findings that need the texts themselves, not their features.

    Parameters
    ----------
    part : Part
        The text of both sets.
    policy : Policy
    remember : callable
        Keeps what an earlier run on the same input found.
    """

    def compute() -> bytes:
        findings, shelves = _measured(part, policy)
        return json.dumps(
            {
                "findings": [f.model_dump(mode="json") for f in findings],
                "galleries": [g.model_dump(mode="json") for g in shelves],
            }
        ).encode()

    stored = json.loads(remember("texts", "", compute))
    return (
        [Finding.model_validate(f) for f in stored["findings"]],
        [Gallery.model_validate(g) for g in stored["galleries"]],
    )


def text_messages(findings: Sequence[Finding]) -> list[Message]:
    """Give the sentences on the texts as a set: languages, near copies, words that tell a label."""
    return [
        f.message
        for f in findings
        if f.message is not None and f.message.id == f.metric and f.metric in SAID
    ]


def _measured(part: Part, policy: Policy) -> tuple[list[Finding], list[Gallery]]:
    real = [s.text or "" for s in part.left.samples]
    synthetic = [s.text or "" for s in part.right.samples]
    shared: dict[str, Any] = {
        "kind": "distribution", "modality": "text", "n_real": len(real),
        "n_synthetic": len(synthetic),
    }  # fmt: skip
    findings = [
        _languages(part, policy, real, synthetic, shared),
        *_variety(part, policy, real, synthetic, shared),
    ]
    copies, shelves = _copies(part, policy, real, synthetic, shared)
    findings += [*copies, *_leakage(part, policy, real, synthetic, shared)]
    return [*findings, *_mauve(part, policy, shared)], shelves


def _languages(
    part: Part, policy: Policy, real: list[str], synthetic: list[str], shared: dict[str, Any]
) -> Finding:
    """Say which share of the texts would have to change its language."""
    from ..metrics.drift.categorical import total_variation
    from ..metrics.text.words import guess_language

    guessed = [[guess_language(text[:GUESSED_FROM]) for text in side] for side in (real, synthetic)]
    found = total_variation(
        *guessed,
        groups_real=part.groups[0],
        groups_synthetic=part.groups[1],
        level=policy.calibration.confidence,
        seed=policy.seed,
    )
    shares = [{code: side.count(code) / len(side) for code in set(side)} for side in guessed]
    codes = sorted(set().union(*shares))
    most = max(codes, key=lambda c: abs(shares[0].get(c, 0.0) - shares[1].get(c, 0.0)))
    before, after = (share.get(most, 0.0) for share in shares)
    message = Message(
        id="language_shares",
        text=f"The languages differ: {after:.1%} of the synthetic texts are in {most!r}, for "
        f"{before:.1%} of the real ones.",
        params={"language": most, "real": before, "synthetic": after},
    )
    return Finding(
        **shared,
        metric="language_shares",
        value=found.value,
        unit="share",
        higher_is_better=False,
        best=0.0,
        gap=found.value,
        gap_ci=Interval.of(found.ci),
        gap_unit="share",
        p_value=found.p_value,
        p_method=found.p_method,
        message=message if found.p_value <= policy.alpha else None,
        details={
            f"{role}_{code}": share[code]
            for role, share in zip(("real", "synthetic"), shares, strict=True)
            for code in sorted(share)
        },
    )


def _mauve(part: Part, policy: Policy, shared: dict[str, Any]) -> list[Finding]:
    """Give the measure that papers on generated text report, on the first encoder."""
    from ..metrics.distribution.mauve import mauve

    info = part.left.infos[0]
    if part.smallest < MAUVE_TEXTS:
        return []
    features, groups = [], []
    for side, given in zip((part.left, part.right), part.groups, strict=True):
        codes = None if given is None else np.unique(given, return_inverse=True)[1]
        rows = random_rows(len(side), policy.calibration.max_samples, codes, policy.seed)
        features.append(side.features[info.id][rows])
        groups.append(None if given is None else [given[i] for i in rows])
    shared = {**shared, "n_real": len(features[0]), "n_synthetic": len(features[1])}
    found = mauve(
        *features,
        ci=True,
        level=policy.calibration.confidence,
        groups_real=groups[0],
        groups_synthetic=groups[1],
        seed=policy.seed,
    )
    ci = found.ci
    return [
        Finding(
            **shared,
            metric="mauve",
            encoder=info.id,
            value=found.value,
            higher_is_better=True,
            best=1.0,
            details={}
            if ci is None
            else {"low": ci.low, "high": ci.high, "level": ci.level, "method": ci.method},
        )
    ]


def _variety(
    part: Part, policy: Policy, real: list[str], synthetic: list[str], shared: dict[str, Any]
) -> list[Finding]:
    from ..metrics.text.diversity import diversity_gap

    try:
        found = diversity_gap(
            real,
            synthetic,
            groups_real=part.groups[0],
            groups_synthetic=part.groups[1],
            level=policy.calibration.confidence,
            seed=policy.seed,
        )
    except ValueError as error:
        message = _unmeasured("variety", error)
        return [Finding(**shared, metric="vocabulary", value=None, message=message)]
    findings = []
    for name, more in VARIETY.items():
        ratio = found.ratios.get(name)
        value, other = getattr(found.synthetic, name), getattr(found.real, name)
        lost = None if ratio is None else (1 - ratio.value if more else ratio.value - 1)
        ci = None
        if ratio is not None:
            ends = [1 - ratio.interval.high, 1 - ratio.interval.low]
            low, high = ends if more else [-e for e in reversed(ends)]
            ci = Interval(
                low=low, high=high, level=ratio.interval.level, method=ratio.interval.method
            )
        findings.append(
            Finding(
                **shared,
                metric=name,
                value=value.value,
                unit="words" if name == "vocabulary" else "share",
                higher_is_better=more,
                gap=lost,
                gap_ci=ci,
                gap_unit="share of variety lost",
                details={
                    "real": other.value,
                    "words_in_a_draw": found.real.tokens,
                    "tokeniser": found.real.tokeniser,
                },
            )
        )
    return findings


def _unmeasured(what: str, error: Exception) -> Message:
    return Message(
        id="text_unmeasured",
        text=f"The {what} could not be measured: {error}.",
        params={"what": what, "why": str(error)},
    )


def _copies(
    part: Part, policy: Policy, real: list[str], synthetic: list[str], shared: dict[str, Any]
) -> tuple[list[Finding], list[Gallery]]:
    from ..metrics.text.copies import near_copies

    report = near_copies(
        synthetic, real=real, level=policy.calibration.confidence, seed=policy.seed
    )
    findings, shelves = [], []
    for name, side, share in (
        ("near_copy_share", "real", report.of_real),
        ("near_duplicate_share", "synthetic", report.inside),
    ):
        if share is None:
            continue
        # Exact copies are a warning of the files' own.
        seen = side == "real" and share.value > share.exact
        findings.append(
            Finding(
                **shared,
                metric=name,
                value=share.value,
                unit="share",
                higher_is_better=False,
                best=0.0,
                gap=share.value,
                gap_ci=Interval.of(share.interval),
                gap_unit="share",
                message=Message(
                    id="near_copy_share",
                    text=f"{share.value:.1%} of the synthetic texts are nearly a real one, "
                    f"{share.exact:.1%} exactly.",
                    params={"share": share.value, "exact": share.exact},
                )
                if seen
                else None,
                details={"exact": share.exact, "threshold": report.threshold},
            )
        )
        others = part.left.samples if side == "real" else part.right.samples
        items = tuple(
            GalleryItem(
                side="synthetic",
                sample=part.right.samples[p.synthetic].id,
                score=p.similarity,
                score_text=f"similarity {p.similarity:.2f}",
                partner_side=side,  # type: ignore[arg-type]
                partner=others[p.other].id,
                label=part.right.samples[p.synthetic].label,
                text=shortened(part.right.samples[p.synthetic].text),
                partner_text=shortened(others[p.other].text),
            )
            for p in share.pairs[:GALLERY_ITEMS]
        )
        if items:
            shelves.append(
                Gallery(id=name, encoder="words in common", modality="text", items=items)
            )
    return findings, shelves


def _leakage(
    part: Part, policy: Policy, real: list[str], synthetic: list[str], shared: dict[str, Any]
) -> list[Finding]:
    from ..metrics.text.leakage import label_leakage

    labelled: list[list[tuple[str, str, str]]] = [
        [(t, s.label, g) for t, s, g in zip(texts, encoded.samples, groups, strict=True) if s.label]
        for texts, encoded, groups in (
            (real, part.left, part.groups[0] or [""] * len(real)),
            (synthetic, part.right, part.groups[1] or [""] * len(synthetic)),
        )
    ]
    labels = [{label for _, label, _ in side} for side in labelled]
    if len(labels[0] & labels[1]) < 2:
        return []  # nothing to tell apart
    try:
        found = label_leakage(
            [t for t, _, _ in labelled[0]],
            [label for _, label, _ in labelled[0]],
            [t for t, _, _ in labelled[1]],
            [label for _, label, _ in labelled[1]],
            groups_real=None if part.groups[0] is None else [g for _, _, g in labelled[0]],
            groups_synthetic=None if part.groups[1] is None else [g for _, _, g in labelled[1]],
            alpha=policy.alpha,
        )
    except ValueError as error:
        message = _unmeasured("leakage of labels", error)
        return [Finding(**shared, metric="label_leakage", value=None, message=message)]
    words = ", ".join(f"“{w.word}” ({w.label})" for w in found.leaked[:SHOWN_WORDS])
    return [
        Finding(
            **shared,
            metric="label_leakage",
            value=found.share,
            unit="share",
            higher_is_better=False,
            best=0.0,
            message=Message(
                id="label_leakage",
                text=f"Words that give the label away in the synthetic texts only: {words}.",
                params={"words": words},
            )
            if found.leaked
            else None,
            details={"words": len(found.leaked), "tested": found.tested},
        )
    ]
