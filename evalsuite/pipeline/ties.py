"""What holds modalities together: a caption and its image, a transcript and its recording."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from ..gate.findings import Finding, Gallery, GalleryItem, Interval, Message
from .explain import GALLERY_ITEMS, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..data import Dataset, Sample
    from ..encoders import Encoded, EncoderInfo, FeatureCache
    from ..encoders.media import Transcript
    from ..gate.policy import Policy
    from .plan import Part

TIE_METRICS = ("consistency_gap", "wer_gap")
"""Metrics that a policy may have rules for beside those of single modalities."""

ALIGNED = 60
"""Words of an alignment that are kept."""
FLOOR_DBFS = -50.0
FLOOR_CLIPS = 24
"""Level of the noise that must not change what is heard, and recordings that it is tried on."""

_BATCH = 32
_REPEATS = 10


class Tie(Protocol):
    """A pair of modalities, and the model that says whether two parts belong together."""

    info: EncoderInfo

    def measure(
        self,
        sides: Mapping[str, Dataset],
        parts: Mapping[str, Part],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], list[Gallery]]:
        """Compare the ties of the synthetic records with those of the real ones."""
        ...


@dataclass(frozen=True, slots=True)
class _Pair:
    """A record with both parts: its sample, and the row of each part."""

    sample: Sample
    first: int
    text: str


def _pairs(part: Encoded) -> list[_Pair]:
    """Give the records whose other part is a text that is not empty."""
    return [
        _Pair(sample, row, sample.text)
        for row, sample in enumerate(part.samples)
        if sample.text is not None and sample.text.strip()
    ]


def _groups(pairs: Sequence[_Pair], side: str) -> list[str] | None:
    if all(p.sample.group is None for p in pairs):
        return None
    return [
        p.sample.group if p.sample.group is not None else f"\0{side} alone {p.sample.id}"
        for p in pairs
    ]


def _unreadable(
    metric: str, modality: str, encoder: str, n: tuple[int, int], why: str, text: str
) -> Finding:
    """Give the finding of a tie that could not be measured, with the reason."""
    return Finding(
        kind="tie",
        modality=modality,
        metric=metric,
        encoder=encoder,
        value=None,
        n_real=n[0],
        n_synthetic=n[1],
        message=Message(id=why, text=text, params={"metric": metric, "why": text}),
    )


class ImageText:
    """The tie of image and text: does the text belong to the image."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.info: EncoderInfo = model.info

    def measure(
        self,
        sides: Mapping[str, Dataset],
        parts: Mapping[str, Part],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], list[Gallery]]:
        """Place every pair between real pairs and shuffled real pairs."""
        from ..metrics.crossmodal.alignment import consistency, consistency_gap, derangements

        pairs = {role: _pairs(parts["image"].side(role)) for role in sides}
        real, synthetic = pairs["real"], pairs["synthetic"]
        n = (len(real), len(synthetic))
        name = "consistency_gap"
        if min(n) < policy.min_samples:
            return [
                Finding(
                    kind="tie",
                    modality="image+text",
                    metric=name,
                    encoder=self.info.id,
                    value=None,
                    n_real=n[0],
                    n_synthetic=n[1],
                    n_required=policy.min_samples,
                )
            ], []
        features = {
            role: self._features(sides[role], parts["image"].side(role), pairs[role], cache)
            for role in sides
        }
        scores = {role: (a * b).sum(axis=1) for role, (a, b) in features.items()}
        groups = {role: _groups(pairs[role], role) for role in sides}
        images, texts = features["real"]
        try:
            partners = derangements(
                n[0],
                repeats=_REPEATS,
                groups=groups["real"],
                contents=[p.text for p in real],
                seed=policy.seed,
            )
            shuffled = np.einsum("nd,rnd->rn", images, texts[partners])
            gap = consistency_gap(
                scores["real"],
                scores["synthetic"],
                shuffled,
                groups_real=groups["real"],
                groups_synthetic=groups["synthetic"],
                partners=partners,
                permutations=max(policy.calibration.permutations, 999),
                level=policy.calibration.confidence,
                seed=policy.seed,
            )
        except ValueError as error:
            why = f"The real pairs give no scale: {error}."
            return [_unreadable(name, "image+text", self.info.id, n, "tie_no_scale", why)], []
        try:
            records = consistency(
                scores["synthetic"],
                scores["real"],
                shuffled,
                alpha=policy.alpha,
                groups=groups["synthetic"],
                matched_groups=groups["real"],
                partners=partners,
                level=policy.calibration.confidence,
            )
        except ValueError:  # too few real pairs for a list at this alpha; the gap needs none
            records = None
        details: dict[str, Any] = {
            "auc": gap.auc,
            "alpha": policy.alpha,
            "mean_real": float(scores["real"].mean()),
            "mean_synthetic": float(scores["synthetic"].mean()),
            "mean_shuffled": float(shuffled.mean()),
        }
        if records is not None:
            details |= {
                "called_mismatched": len(records.mismatched),
                "called_mismatched_share": len(records.mismatched) / n[1],
                "detected_share_of_shuffled": records.detected,
                "threshold": records.threshold,
            }
        if gap.relative is None or gap.relative_interval is None:
            text = (
                f"{self.info.id} does not tell the real pairs from shuffled ones (AUC "
                f"{gap.auc:.2f}), so that it says nothing of the synthetic ones: use a model that "
                "knows this kind of image."
            )
            finding = _unreadable(
                name, "image+text", self.info.id, n, "tie_cannot_tell", text
            ).model_copy(update={"details": details})
            return [finding], []
        half = (gap.relative_interval.high - gap.relative_interval.low) / 2
        finding = Finding(
            kind="tie",
            modality="image+text",
            metric=name,
            encoder=self.info.id,
            value=details["mean_synthetic"],
            unit="score",
            higher_is_better=True,
            n_real=n[0],
            n_synthetic=n[1],
            gap=gap.relative,
            gap_ci=_interval(gap.relative_interval),
            gap_unit="share of pairs mismatched",
            min_detectable_gap=1.4 * half,
            p_value=gap.p_value,
            p_method="permutation of real and synthetic pairs",
            details=details,
        )
        order = np.argsort(scores["synthetic"], kind="stable")[:GALLERY_ITEMS]
        shelf = Gallery(
            id="mismatched",
            encoder=self.info.id,
            modality="image+text",
            items=tuple(
                GalleryItem(
                    side="synthetic",
                    sample=synthetic[i].sample.id,
                    score=float(scores["synthetic"][i] if records is None else records.p_values[i]),
                    score_text="score" if records is None else f"p {records.p_values[i]:.3g}",
                    label=synthetic[i].sample.label,
                    text=shortened(synthetic[i].text),
                )
                for i in order
            ),
        )
        return [finding], [shelf]

    def _features(
        self, data: Dataset, part: Encoded, pairs: Sequence[_Pair], cache: FeatureCache | None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        from ..data.dataset import Limits
        from ..data.images import decode_image

        def picture(pair: _Pair) -> Any:
            return decode_image(data.read(pair.sample, "image"), Limits()).pixels

        own = self.model.image_encoder.info
        encoded = next((part.features[i.id] for i in part.infos if i.key == own.key), None)
        sides = (
            ("image", [bytes.fromhex(part.hashes[p.first]) for p in pairs], picture,
             self.model.image_features),
            ("text", [hashlib.sha256(p.text.encode()).digest() for p in pairs],
             lambda pair: pair.text, self.model.text_features),
        )  # fmt: skip
        found = []
        for name, digests, item, embed in sides:
            if name == "image" and encoded is not None:
                # The encode loop has done the work: only the way into the common space is left.
                rows_of = self.model.image_rows(encoded[[p.first for p in pairs]])
                found.append(rows_of.astype(np.float64))
                continue
            store = cache.records("features", f"{self.info.key}{name}") if cache else None
            rows: list[npt.NDArray[np.float32] | None] = []
            for digest in digests:
                record = store.get(digest) if store else None
                rows.append(None if record is None else np.frombuffer(record, dtype=np.float32))
            left = [i for i, row in enumerate(rows) if row is None]
            for start in range(0, len(left), _BATCH):
                some = left[start : start + _BATCH]
                features = np.asarray(embed([item(pairs[i]) for i in some]), dtype=np.float32)
                for i, row in zip(some, features, strict=True):
                    rows[i] = row
                    if store:
                        store.put(digests[i], row.tobytes())
            if store:
                store.flush()
            found.append(np.stack([row for row in rows if row is not None]).astype(np.float64))
        return found[0], found[1]


def _interval(interval: Any) -> Interval:
    return Interval(
        low=interval.low, high=interval.high, level=interval.level, method=interval.method
    )


class AudioText:
    """The tie of speech and text: is what a recogniser hears what is written."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.info: EncoderInfo = model.info

    def measure(
        self,
        sides: Mapping[str, Dataset],
        parts: Mapping[str, Part],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], list[Gallery]]:
        """Compare the word errors in synthetic recordings with those in real ones."""
        from ..metrics.text.wer import wer_gap

        pairs = {role: _pairs(parts["audio"].side(role)) for role in sides}
        real, synthetic = pairs["real"], pairs["synthetic"]
        n = (len(real), len(synthetic))
        where: dict[str, Any] = {
            "kind": "tie", "modality": "audio+text", "metric": "wer_gap",
            "encoder": self.info.id, "n_real": n[0], "n_synthetic": n[1],
        }  # fmt: skip
        if min(n) < policy.min_samples:
            return [Finding(**where, value=None, n_required=policy.min_samples)], []
        heard = {
            role: [(parts["audio"].side(role).transcripts or [])[p.first] for p in pairs[role]]
            for role in sides
        }
        counted = Counter(t.language for t in heard["real"])
        language = policy.ties.language or counted.most_common(1)[0][0]
        try:
            gap = wer_gap(
                [p.text for p in real],
                [t.text for t in heard["real"]],
                [p.text for p in synthetic],
                [t.text for t in heard["synthetic"]],
                language=language,
                groups_real=_groups(real, "real"),
                groups_synthetic=_groups(synthetic, "synthetic"),
                level=policy.calibration.confidence,
                seed=policy.seed,
            )
        except ValueError as error:
            why = f"The real recordings give no scale: {error}."
            return [_unreadable("wer_gap", "audio+text", self.info.id, n, "tie_no_scale", why)], []
        artefact = self._floor(
            sides["synthetic"], parts["audio"].right, synthetic, heard["synthetic"], language, cache
        )
        details: dict[str, Any] = {
            "real": gap.real.value,
            "synthetic": gap.synthetic.value,
            "metric": gap.synthetic.metric,
            "wer": gap.synthetic.wer,
            "cer": gap.synthetic.cer,
            "mer": gap.synthetic.mer,
            "wil": gap.synthetic.wil,
            "substitutions": gap.synthetic.substitutions,
            "deletions": gap.synthetic.deletions,
            "insertions": gap.synthetic.insertions,
            "units": gap.synthetic.units,
            "empty_references": gap.synthetic.empty_references,
            "normaliser": gap.synthetic.normaliser,
            "language": language,
            **artefact,
        }
        # Speech that is easier to recognise than the real one is no more errors.
        half = (gap.interval.high - gap.interval.low) / 2 if gap.interval else None
        finding = Finding(
            **where,
            value=gap.synthetic.value,
            unit="errors per character" if gap.synthetic.metric == "cer" else "errors per word",
            higher_is_better=False,
            best=0.0,
            gap=gap.value,
            gap_ci=_interval(gap.interval) if gap.interval else None,
            gap_unit="errors per character" if gap.synthetic.metric == "cer" else "errors per word",
            min_detectable_gap=None if half is None else 1.4 * half,
            p_value=gap.p_value,
            p_method="permutation of real and synthetic utterances",
            details=details,
        )
        rates = np.array([u.rate for u in gap.synthetic.utterances])
        order = np.argsort(-np.nan_to_num(rates, nan=-1.0), kind="stable")[:GALLERY_ITEMS]
        shelf = Gallery(
            id="misheard",
            encoder=self.info.id,
            modality="audio+text",
            items=tuple(
                GalleryItem(
                    side="synthetic",
                    sample=synthetic[i].sample.id,
                    score=float(rates[i]),
                    score_text=f"word error rate {rates[i]:.3g}",
                    label=synthetic[i].sample.label,
                    text=shortened(synthetic[i].text),
                    alignment=tuple(
                        (str(op), str(wanted), str(got))
                        for op, wanted, got in gap.synthetic.utterances[i].alignment[:ALIGNED]
                    ),
                )
                for i in order
                if np.isfinite(rates[i]) and rates[i] > 0
            ),
        )
        return [finding], [shelf] if shelf.items else []

    def _floor(
        self,
        data: Dataset,
        part: Encoded,
        pairs: Sequence[_Pair],
        heard: Sequence[Transcript],
        language: str,
        cache: FeatureCache | None,
    ) -> dict[str, Any]:
        """Ask whether a noise at −50 dBFS changes what is heard: then the errors are its own."""
        from ..data.audio import decode_audio
        from ..data.dataset import Limits
        from ..metrics.text.wer import floor_artefact

        some = [i for i in range(len(pairs)) if pairs[i].text.strip()][:FLOOR_CLIPS]
        if len(some) < 5:
            return {}
        store = cache.records("transcripts", f"{self.info.key}floor") if cache else None
        texts = []
        for i in some:
            code = pairs[i].sample.lang or language
            digest = hashlib.sha256(f"{part.hashes[pairs[i].first]} {code}".encode()).digest()
            record = store.get(digest) if store else None
            if record is None:
                with data.open(pairs[i].sample, "audio") as file:
                    decoded = decode_audio(file, Limits())
                rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
                noise = rng.standard_normal(decoded.samples.size) * 10 ** (FLOOR_DBFS / 20)
                noisy = replace(decoded, samples=(decoded.samples + noise).astype(np.float32))
                record = self.model.transcribe([noisy], language=code)[0].text.encode()
                if store:
                    store.put(digest, record)
            texts.append(record.decode())
        if store:
            store.flush()
        found = floor_artefact(
            [pairs[i].text for i in some],
            [heard[i].text for i in some],
            texts,
            language=language,
        )
        return {
            "floor_change": found.value,
            "floor_p": found.p_value,
            "floor_matters": found.changed,
            "floor_clips": len(some),
        }
