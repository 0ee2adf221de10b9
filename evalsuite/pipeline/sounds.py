"""What a set of recordings is like as a whole: does it sound as natural as the real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..data.dataset import BadSample, Limits
from ..encoders.speech import SPEAKER
from ..gate.findings import Finding, Interval, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..data import Dataset
    from ..encoders import Encoded
    from ..gate.policy import Policy
    from .plan import Part

CLIPS = 400
"""At most so many recordings a side, evenly spaced: each is decoded once more."""
FEWEST = 12
"""Recordings with speech that each side needs. The metric takes 5, but the interval rests on a
jackknife, whose standard error from n clips is itself off by 1 / √(2(n − 1)): by a fifth here."""


def sound_findings(
    part: Part,
    sides: Mapping[str, Dataset],
    policy: Policy,
    remember: Callable[[str, str, Callable[[], bytes]], bytes],
) -> list[Finding]:
    """Give findings that need the recordings themselves, not their features.

    Parameters
    ----------
    part : Part
        The sound of both sets.
    sides : mapping of str to Dataset
    policy : Policy
    remember : callable
        Keeps what an earlier run on the same input found.
    """

    def compute() -> bytes:
        found = [*_naturalness(part, sides, policy), *_voices(part, policy)]
        return json.dumps([f.model_dump(mode="json") for f in found]).encode()

    return [Finding.model_validate(f) for f in json.loads(remember("sounds", "", compute))]


def _naturalness(part: Part, sides: Mapping[str, Dataset], policy: Policy) -> list[Finding]:
    from ..metrics.audio.naturalness import naturalness_gap

    (real, rows_real), (synthetic, rows_synthetic) = (
        _prosody(sides[role], part.side(role)) for role in ("real", "synthetic")
    )
    described = [int(np.isfinite(x).all(axis=1).sum()) for x in (real, synthetic)]
    if min(described) < FEWEST:  # music or noise, or a small set
        return [
            Finding(
                kind="distribution",
                modality="audio",
                metric="naturalness",
                value=None,
                n_real=described[0],
                n_synthetic=described[1],
                n_required=FEWEST,
                message=Message(
                    id="naturalness_unmeasured",
                    text=f"Naturalness was not measured: {described[0]} real and {described[1]} "
                    "synthetic recordings hold enough speech to describe, and "
                    f"{FEWEST} of each are needed.",
                    params={"real": described[0], "synthetic": described[1], "min": FEWEST},
                ),
            )
        ]
    encoder = next((i.id for i in part.left.infos if i.id.startswith("whisper")), None)
    groups = [
        None if names is None else [names[i] for i in rows]
        for names, rows in zip(part.groups, (rows_real, rows_synthetic), strict=True)
    ]
    gap = naturalness_gap(
        real,
        synthetic,
        embeddings=None
        if encoder is None
        else {
            encoder: (
                part.left.features[encoder][rows_real],
                part.right.features[encoder][rows_synthetic],
            )
        },
        groups_real=groups[0],
        groups_synthetic=groups[1],
        level=policy.calibration.confidence,
        seed=policy.seed,
    )
    return [
        Finding(
            kind="distribution",
            modality="audio",
            metric="naturalness",
            encoder=encoder,
            value=gap.value,
            higher_is_better=False,
            best=0.0,
            n_real=gap.n_real,
            n_synthetic=gap.n_synthetic,
            gap=gap.value,
            gap_ci=Interval.of(gap.ci),
            gap_unit="energy coefficient",
            gap_ratio=gap.ratio,
            p_value=gap.p_value,
            p_method="relabelling of clips",
            details={
                "floor_q95": gap.floor,
                **{f"view_{name}": float(value) for name, value in gap.views.items()},
                **{f"shift_{s.name}": float(s.shift) for s in gap.shifts},
            },
        )
    ]


def _voices(part: Part, policy: Policy) -> list[Finding]:
    """Ask whether the voices are those of the real set, and as many, where a model knows voices."""
    if SPEAKER not in part.left.features:
        return []
    from ..metrics.audio.speakers import FEWEST_SPEAKERS, speaker_similarity
    from ..metrics.distribution.diversity import vendi_ratio

    real, synthetic = part.left.features[SPEAKER], part.right.features[SPEAKER]
    shared: dict[str, Any] = {
        "kind": "distribution", "modality": "audio", "encoder": SPEAKER, "n_real": len(real),
        "n_synthetic": len(synthetic), "higher_is_better": True,
    }  # fmt: skip
    if min(len(real), len(synthetic)) < FEWEST:
        return [
            Finding(**shared, metric=metric, value=None, n_required=FEWEST)
            for metric in ("speaker_similarity", "speaker_diversity")
        ]
    level = policy.calibration.confidence
    # With few speakers clips are what varies, and intervals hold for these speakers only.
    few = any(names is None or len(set(names)) < FEWEST_SPEAKERS for names in part.groups)
    groups = (None, None) if few else part.groups
    alike = speaker_similarity(
        real,
        synthetic,
        speakers_real=part.groups[0],
        speakers_synthetic=part.groups[1],
        level=level,
    )
    varied = vendi_ratio(
        real,
        synthetic,
        level=level,
        groups_real=groups[0],
        groups_synthetic=groups[1],
        seed=policy.seed,
    )
    return [
        Finding(
            **shared,
            metric="speaker_similarity",
            value=alike.value,
            unit="cosine",
            best=1.0,
            gap=alike.gap,
            gap_ci=Interval.of(alike.interval),
            gap_unit="cosine",
            details={"real": alike.real, "same_names": alike.named},
        ),
        Finding(
            **shared,
            metric="speaker_diversity",
            value=varied.synthetic,
            unit="voices",
            gap=1 - varied.value,
            gap_ci=None
            if varied.ci is None
            else Interval(
                low=1 - varied.ci.high,
                high=1 - varied.ci.low,
                level=varied.ci.level,
                method=varied.ci.method,
            ),
            gap_unit="share of variety lost",
            details={"real": varied.real},
        ),
    ]


def _prosody(data: Dataset, part: Encoded) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Give the rows of features of melody and rhythm, and which samples they are of."""
    from ..data.audio import decode_audio
    from ..metrics.audio.naturalness import PROSODY, prosody_features

    n = len(part.samples)
    rows = sorted({round(i) for i in np.linspace(0, n - 1, min(n, CLIPS))})
    found: list[Any] = []
    for row in rows:
        try:
            with data.open(part.samples[row], "audio") as file:
                decoded = decode_audio(file, Limits())
        except BadSample:  # readable a moment ago: counted as one without speech
            found.append(np.full(len(PROSODY), np.nan))
            continue
        found.append(prosody_features(decoded.samples, decoded.rate))
    return np.stack(found), rows
