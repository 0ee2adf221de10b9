"""Records made from an image that lies elsewhere: what each hop away from it loses."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..encoders import encode
from ..encoders.encode_media import encode_media
from ..gate.findings import Finding
from .ties import REPEATS, ImageText, Pair, groups_of, hop_finding, pairs_of, unmeasured_tie

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..data import Dataset, Sample
    from ..encoders import Encoded, EncoderInfo, FeatureCache
    from ..encoders.media import Transcriber
    from ..gate.findings import Gallery
    from ..gate.policy import Policy
    from .plan import Part

LONGEST = 8
"""Hops of a chain that are followed."""


def hands_down(sides: Mapping[str, Dataset]) -> bool:
    """Say whether texts or recordings of the synthetic set name a real image as their parent."""
    real = sides["real"]
    if not {"image", "text"} <= set(real.modalities):
        return False
    images = {s.id for s in real.samples if "image" in s.media}
    return any(
        parent in images
        for s in sides["synthetic"].samples
        if "image" not in s.media
        for parent in s.parents
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """The image that a chain began with, by its row, and the records after it."""

    source: int
    records: tuple[Sample, ...]


def _lines(synthetic: Dataset, rows: Mapping[str, int]) -> list[_Line]:
    """Follow each last record back to its image; what leads to none is no chain."""
    known = {s.id: s for s in synthetic.samples if "image" not in s.media}
    inner = {parent for s in known.values() for parent in s.parents}
    found = []
    for last in known.values():
        if last.id in inner:
            continue
        line, seen, at = [last], {last.id}, last
        while len(line) <= LONGEST:
            up = next((known[p] for p in at.parents if p in known and p not in seen), None)
            if up is None:
                break
            line.append(up)
            seen.add(up.id)
            at = up
        source = next((rows[p] for p in at.parents if p in rows), None)
        if source is not None and len(line) <= LONGEST:
            found.append(_Line(source, tuple(reversed(line))))
    return found


def _kind(sample: Sample) -> str:
    return "audio" if "audio" in sample.media else "text"


class Chain:
    """Texts and recordings of one set held against the images of the other that they came from."""

    def __init__(
        self,
        image_text: ImageText,
        transcriber: Transcriber | None = None,
        language: str | None = None,
    ) -> None:
        self.image_text = image_text
        self.transcriber = transcriber
        self.language = language
        self.info: EncoderInfo = image_text.info

    def measure(
        self,
        sides: Mapping[str, Dataset],
        parts: Mapping[str, Part],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], list[Gallery]]:
        """Say what each hop loses of the agreement with the image."""
        from ..metrics.crossmodal.alignment import derangements
        from ..metrics.crossmodal.chain import HopScores, chain_decay

        images = self._images(sides["real"], parts, cache)
        pairs = pairs_of(images)
        lines = _lines(sides["synthetic"], {s.id: row for row, s in enumerate(images.samples)})
        hops = _hops(lines)
        where: dict[str, Any] = {
            "kind": "tie",
            "modality": "image+audio+text" if "audio" in hops else "image+text",
            "metric": "chain_loss", "encoder": self.info.id, "n_real": len(pairs),
            "n_synthetic": len(lines),
        }  # fmt: skip
        if min(len(pairs), len(lines)) < policy.min_samples:
            return [Finding(**where, value=None, n_required=policy.min_samples)], []
        rows = self.image_text.image_rows(sides["real"], images, pairs, cache)
        texts = self.image_text.text_rows([p.text for p in pairs], cache)
        groups = groups_of(pairs, "real")
        sources = [Pair(images.samples[line.source], line.source, "") for line in lines]
        seen = self.image_text.image_rows(sides["real"], images, sources, cache)
        units = [line.source for line in lines]
        least = 1 / (len(set(groups) if groups else pairs) + 1)
        try:
            partners = derangements(
                len(pairs), repeats=REPEATS, groups=groups, contents=[p.text for p in pairs],
                seed=policy.seed,
            )  # fmt: skip
            matched = (rows * texts).sum(axis=1)
            shuffled = np.einsum("nd,rnd->rn", rows, texts[partners]).ravel()
            names = _names(hops)
            heard = self._heard(sides["synthetic"], parts, cache) if "audio" in hops else {}
            decay = chain_decay(
                [
                    HopScores(name, self._scores(k, kind, lines, seen, heard, cache), matched,
                              shuffled)
                    for k, (kind, name) in enumerate(zip(hops, names, strict=True))
                ],
                alpha=max(policy.alpha, least),
                groups=units,
                matched_groups=None if groups is None else dict.fromkeys(names, groups),
                level=policy.calibration.confidence,
            )  # fmt: skip
        except ValueError as error:
            text = f"The real records give no scale, or too few chains reach a hop: {error}."
            n = (len(pairs), len(lines))
            return [
                unmeasured_tie(
                    "chain_loss", where["modality"], self.info.id, n, "tie_no_scale", text
                )
            ], []
        return [
            hop_finding(where, hop, {"records": hop.n, "missing": hop.missing})
            for hop in decay.hops
        ], []

    def _images(
        self, real: Dataset, parts: Mapping[str, Part], cache: FeatureCache | None
    ) -> Encoded:
        if "image" in parts:
            return parts["image"].left
        # Only the real set holds images, so that the run itself has not encoded them.
        encoder = self.image_text.model.image_encoder
        return encode(real, [encoder], cache=cache, progress=False, label="real image")

    def _scores(
        self,
        k: int,
        kind: str,
        lines: list[_Line],
        seen: Any,
        heard: Mapping[str, str],
        cache: FeatureCache | None,
    ) -> Any:
        """Give how well the record at a hop agrees with the image; NaN where there is none.

        What a recording is said to say proves nothing: it counts by what was heard in it.
        """
        at_hop = [line.records[k] if k < len(line.records) else None for line in lines]
        texts = [
            None
            if s is None or _kind(s) != kind
            else heard.get(s.id)
            if kind == "audio"
            else s.text
            for s in at_hop
        ]
        there = [i for i, text in enumerate(texts) if text is not None and text.strip()]
        scores = np.full(len(lines), np.nan)
        if there:
            rows = self.image_text.text_rows([texts[i] or "" for i in there], cache)
            scores[there] = (seen[there] * rows).sum(axis=1)
        return scores

    def _heard(
        self, synthetic: Dataset, parts: Mapping[str, Part], cache: FeatureCache | None
    ) -> dict[str, str]:
        """Give what is heard in each recording of the synthetic set; nothing without a recogniser.

        Where only the synthetic set holds recordings the run itself has not listened to them.
        """
        if self.transcriber is None:
            return {}
        if "audio" in parts and parts["audio"].right.transcripts is not None:
            part = parts["audio"].right
        else:
            part = encode_media(
                synthetic,
                "audio",
                (),
                transcriber=self.transcriber,
                language=self.language,
                cache=cache,
                progress=False,
                may_be_empty=True,
            )
        told = part.transcripts or []
        return {s.id: t.text for s, t in zip(part.samples, told, strict=True)}


def _hops(lines: list[_Line]) -> list[str]:
    """Give what most chains are at each hop: text or audio."""
    longest = max((len(line.records) for line in lines), default=0)
    found = []
    for k in range(longest):
        counts = Counter(_kind(line.records[k]) for line in lines if k < len(line.records))
        found.append(counts.most_common(1)[0][0])
    return found


def _names(hops: list[str]) -> list[str]:
    """Name the hops so that no two have the same name: text, audio, text 2."""
    return [
        kind if kind not in hops[:k] else f"{kind} {hops[: k + 1].count(kind)}"
        for k, kind in enumerate(hops)
    ]
