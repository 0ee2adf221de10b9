"""What holds modalities together: a caption and its image, a transcript and its recording."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..data.dataset import group_of
from ..gate.findings import Finding, Gallery, GalleryItem, Interval, Message, Status
from .explain import GALLERY_ITEMS, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..data import Dataset, Sample
    from ..encoders import Encoded, EncoderInfo, FeatureCache
    from ..encoders.media import TextEncoder, Transcript
    from ..gate.policy import Policy
    from ..metrics.crossmodal.chain import Hop
    from .plan import Part

_Floats: TypeAlias = npt.NDArray[np.float64]

TIE_METRICS = (
    "consistency_gap",
    "retrieval_recall",
    "wer_gap",
    "transcript_similarity",
    "broken_records",
    "chain_loss",
)
"""Metrics that a policy may have rules for beside those of single modalities."""

ALIGNED = 60
"""Words of an alignment that are kept."""
FLOOR_DBFS = -50.0
FLOOR_SNR = -30.0
FLOOR_CLIPS = 24
"""Level of the noise that must not change what is heard, the highest beside a recording's own level
(dB), and recordings that it is tried on."""

CLIP = "open_clip/"
"""Models whose cosine is what papers call CLIPScore; ConSE's is none."""

REPEATS = 10
"""Shuffled partners of each real pair."""

_BATCH = 32
_KS = (1, 5, 10)


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
class Pair:
    """A record with both parts: its sample, and the row of each part."""

    sample: Sample
    first: int
    text: str


def pairs_of(part: Encoded) -> list[Pair]:
    """Give the records whose other part is a text that is not empty."""
    return [
        Pair(sample, row, sample.text)
        for row, sample in enumerate(part.samples)
        if sample.text is not None and sample.text.strip()
    ]


def groups_of(pairs: Sequence[Pair], role: str) -> list[str] | None:
    """Give the group of each pair; None where no sample has one."""
    if all(p.sample.group is None for p in pairs):
        return None
    return [group_of(p.sample, role) for p in pairs]


def unmeasured_tie(
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

        pairs = {role: pairs_of(parts["image"].side(role)) for role in sides}
        real, synthetic = pairs["real"], pairs["synthetic"]
        n = (len(real), len(synthetic))
        name = "consistency_gap"
        where: dict[str, Any] = {
            "kind": "tie", "modality": "image+text", "metric": name,
            "encoder": self.info.id, "n_real": n[0], "n_synthetic": n[1],
        }  # fmt: skip
        if min(n) < policy.min_samples:
            return [Finding(**where, value=None, n_required=policy.min_samples)], []
        features = {
            role: self.features(sides[role], parts["image"].side(role), pairs[role], cache)
            for role in sides
        }
        recall = self._recall(features, pairs, policy)
        scores = {role: (a * b).sum(axis=1) for role, (a, b) in features.items()}
        groups = {role: groups_of(pairs[role], role) for role in sides}
        images, texts = features["real"]
        try:
            partners = derangements(
                n[0],
                repeats=REPEATS,
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
            found = unmeasured_tie(name, "image+text", self.info.id, n, "tie_no_scale", why)
            return [found, *recall], []
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
        except ValueError as error:  # too few real pairs for a list; the gap needs none
            records, no_list = None, {"no_list": str(error)}
        else:
            no_list = {}
        details: dict[str, Any] = {
            "auc": gap.auc,
            "alpha": policy.alpha,
            "mean_real": float(scores["real"].mean()),
            "mean_synthetic": float(scores["synthetic"].mean()),
            "mean_shuffled": float(shuffled.mean()),
            **(self._clip_scores(features, parts, pairs) if self.info.id.startswith(CLIP) else {}),
            **no_list,
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
            finding = unmeasured_tie(
                name, "image+text", self.info.id, n, "tie_cannot_tell", text
            ).model_copy(update={"details": details})
            return [finding, *recall], []
        finding = Finding(
            **where,
            value=details["mean_synthetic"],
            unit="score",
            higher_is_better=True,
            gap=gap.relative,
            gap_ci=Interval.of(gap.relative_interval),
            gap_unit="share of pairs mismatched",
            min_detectable_gap=_detectable(gap.relative_interval, policy),
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
        return [finding, *recall], [shelf]

    def _clip_scores(
        self,
        features: Mapping[str, tuple[_Floats, _Floats]],
        parts: Mapping[str, Part],
        pairs: Mapping[str, Sequence[Pair]],
    ) -> dict[str, Any]:
        """Give the means of what papers report; texts of the same real image are references."""
        from ..metrics.crossmodal.alignment import clip_score, ref_clip_score

        found: dict[str, Any] = {
            f"clip_score_{role}": float(clip_score(*rows).mean()) for role, rows in features.items()
        }
        texts_of: dict[str, list[int]] = {}
        for i, p in enumerate(pairs["real"]):
            texts_of.setdefault(parts["image"].left.hashes[p.first], []).append(i)
        shown = [parts["image"].right.hashes[p.first] for p in pairs["synthetic"]]
        known = [i for i, digest in enumerate(shown) if digest in texts_of]
        if known:
            references = [texts_of[shown[i]] for i in known]
            images, texts = (rows[known] for rows in features["synthetic"])
            scores = ref_clip_score(
                images,
                texts,
                features["real"][1][np.concatenate(references)],
                np.repeat(np.arange(len(known)), [len(rows) for rows in references]),
            )
            found |= {"ref_clip_score": float(scores.mean()), "pairs_with_references": len(known)}
        return found

    def _recall(
        self,
        features: Mapping[str, tuple[_Floats, _Floats]],
        pairs: Mapping[str, Sequence[Pair]],
        policy: Policy,
    ) -> list[Finding]:
        """Ask how often an image finds its text among all, and a text its image."""
        from ..metrics.crossmodal.retrieval import recall_gap

        n = (len(pairs["real"]), len(pairs["synthetic"]))
        gap = recall_gap(
            *features["real"],
            *features["synthetic"],
            ks=[k for k in _KS if k <= min(n)],
            contents_real=[p.text for p in pairs["real"]],
            contents_synthetic=[p.text for p in pairs["synthetic"]],
            groups_real=groups_of(pairs["real"], "real"),
            groups_synthetic=groups_of(pairs["synthetic"], "synthetic"),
            level=policy.calibration.confidence,
            seed=policy.seed,
        )
        details: dict[str, Any] = {"candidates": gap.synthetic.n}
        for role, found in (("real", gap.real), ("synthetic", gap.synthetic)):
            for way in ("image_to_text", "text_to_image"):
                for recall in getattr(found, way):
                    details[f"{role}_{way}_at_{recall.k}"] = recall.value
                    details[f"{role}_{way}_at_{recall.k}_chance"] = recall.chance
        return [
            Finding(
                kind="tie",
                modality="image+text",
                metric="retrieval_recall",
                encoder=self.info.id,
                value=gap.synthetic.image_to_text[0].value,
                unit="share",
                higher_is_better=True,
                best=1.0,
                n_real=n[0],
                n_synthetic=n[1],
                gap=gap.value,
                gap_ci=Interval.of(gap.interval),
                gap_unit="share of images",
                details=details,
            )
        ]

    def features(
        self, data: Dataset, part: Encoded, pairs: Sequence[Pair], cache: FeatureCache | None
    ) -> tuple[_Floats, _Floats]:
        """Give the rows of images and of texts, whose products are the scores."""
        return (
            self.image_rows(data, part, pairs, cache),
            self.text_rows([p.text for p in pairs], cache),
        )

    def image_rows(
        self, data: Dataset, part: Encoded, pairs: Sequence[Pair], cache: FeatureCache | None
    ) -> _Floats:
        """Give the row of each pair's image."""
        from ..data.dataset import Limits
        from ..data.images import decode_image

        own = self.model.image_encoder.info
        encoded = next((part.features[i.id] for i in part.infos if i.key == own.key), None)
        if encoded is not None:
            # The encode loop has done the work: only the way into the common space is left.
            rows: _Floats = self.model.image_rows(encoded[[p.first for p in pairs]])
            return rows.astype(np.float64)

        def embed(some: Sequence[int]) -> Any:
            return self.model.image_features(
                [decode_image(data.read(pairs[i].sample, "image"), Limits()).pixels for i in some]
            )

        digests = [bytes.fromhex(part.hashes[p.first]) for p in pairs]
        return _rows(digests, embed, f"{self.info.key}image", cache)

    def text_rows(self, texts: Sequence[str], cache: FeatureCache | None) -> _Floats:
        """Give the row of each text."""
        digests = [hashlib.sha256(text.encode()).digest() for text in texts]
        return _rows(
            digests,
            lambda some: self.model.text_features([texts[i] for i in some]),
            f"{self.info.key}text",
            cache,
        )


def _rows(
    digests: Sequence[bytes],
    embed: Callable[[Sequence[int]], Any],
    key: str,
    cache: FeatureCache | None,
) -> _Floats:
    """Take features from the cache, and compute those that are not there."""
    store = cache.records("features", key) if cache else None
    rows: list[npt.NDArray[np.float32] | None] = []
    for digest in digests:
        record = store.get(digest) if store else None
        rows.append(None if record is None else np.frombuffer(record, dtype=np.float32))
    left = [i for i, row in enumerate(rows) if row is None]
    for start in range(0, len(left), _BATCH):
        some = left[start : start + _BATCH]
        for i, row in zip(some, np.asarray(embed(some), dtype=np.float32), strict=True):
            rows[i] = row
            if store:
                store.put(digests[i], row.tobytes())
    if store:
        store.flush()
    return np.stack([row for row in rows if row is not None]).astype(np.float64)


class AudioText:
    """The tie of speech and text: is what a recogniser hears what is written."""

    def __init__(self, model: Any, encoder: TextEncoder) -> None:
        self.model = model
        self.encoder = encoder
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

        pairs = {role: pairs_of(parts["audio"].side(role)) for role in sides}
        real, synthetic = pairs["real"], pairs["synthetic"]
        n = (len(real), len(synthetic))
        where: dict[str, Any] = {
            "kind": "tie", "modality": "audio+text", "metric": "wer_gap",
            "encoder": self.info.id, "n_real": n[0], "n_synthetic": n[1],
        }  # fmt: skip
        if min(n) < policy.min_samples:
            return [Finding(**where, value=None, n_required=policy.min_samples)], []
        heard = {role: _heard(parts["audio"].side(role), pairs[role]) for role in sides}
        language = _spoken(heard["real"], policy)
        alike, no_similarity = self._similarity(parts["text"], pairs, heard, policy, cache)
        try:
            gap = wer_gap(
                [p.text for p in real],
                [t.text for t in heard["real"]],
                [p.text for p in synthetic],
                [t.text for t in heard["synthetic"]],
                language=language,
                groups_real=groups_of(real, "real"),
                groups_synthetic=groups_of(synthetic, "synthetic"),
                level=policy.calibration.confidence,
                seed=policy.seed,
            )
        except ValueError as error:
            why = f"The real recordings give no scale: {error}."
            lost = unmeasured_tie("wer_gap", "audio+text", self.info.id, n, "tie_no_scale", why)
            return [lost, *alike], []
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
            **no_similarity,
        }
        of = "character" if gap.synthetic.metric == "cer" else "word"
        unit = f"errors per {of}"
        finding = Finding(
            **where,
            value=gap.synthetic.value,
            unit=unit,
            higher_is_better=False,
            best=0.0,
            gap=gap.value,
            gap_ci=Interval.of(gap.interval) if gap.interval else None,
            gap_unit=unit,
            min_detectable_gap=_detectable(gap.interval, policy) if gap.interval else None,
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
                    score_text=f"{of} error rate {rates[i]:.3g}",
                    label=synthetic[i].sample.label,
                    text=shortened(synthetic[i].text),
                    alignment=_kept(gap.synthetic.utterances[i].alignment),
                )
                for i in order
                if np.isfinite(rates[i]) and rates[i] > 0
            ),
        )
        return [finding, *alike, *_artefact(where, artefact, of)], [shelf] if shelf.items else []

    def _similarity(
        self,
        texts: Part,
        pairs: Mapping[str, Sequence[Pair]],
        heard: Mapping[str, Sequence[Transcript]],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], dict[str, str]]:
        """Ask how near in meaning what is heard is to what is written: all errors weigh unlike.

        Where there is no answer, say why instead.
        """
        from ..metrics.crossmodal.alignment import consistency_gap, derangements

        own = self.encoder.info
        rows = {}
        for role, those in pairs.items():
            part = texts.side(role)
            at = {sample.id: i for i, sample in enumerate(part.samples)}
            spoken = [t.text for t in heard[role]]
            rows[role] = [
                _unit(part.features[own.id][[at[p.sample.id] for p in those]]),
                _unit(
                    _rows(
                        [hashlib.sha256(text.encode()).digest() for text in spoken],
                        lambda some, spoken=spoken: self.encoder.embed([spoken[i] for i in some]),  # type: ignore[misc]
                        f"{own.key}heard",
                        cache,
                    )
                ),
            ]
        real, synthetic = pairs["real"], pairs["synthetic"]
        scores = {role: (written * said).sum(axis=1) for role, (written, said) in rows.items()}
        written, said = rows["real"]
        try:
            partners = derangements(
                len(real),
                repeats=REPEATS,
                groups=groups_of(real, "real"),
                contents=[p.text for p in real],
                seed=policy.seed,
            )
            gap = consistency_gap(
                scores["real"],
                scores["synthetic"],
                np.einsum("nd,rnd->rn", written, said[partners]),
                groups_real=groups_of(real, "real"),
                groups_synthetic=groups_of(synthetic, "synthetic"),
                partners=partners,
                level=policy.calibration.confidence,
                seed=policy.seed,
            )
        except ValueError as error:  # one sentence throughout: no wrong partner to compare with
            return [], {"no_transcript_similarity": str(error)}
        if gap.relative is None or gap.relative_interval is None:
            why = f"{own.id} does not tell the real pairs from shuffled ones (AUC {gap.auc:.2f})"
            return [], {"no_transcript_similarity": why}
        return [
            Finding(
                kind="tie",
                modality="audio+text",
                metric="transcript_similarity",
                encoder=own.id,
                value=float(scores["synthetic"].mean()),
                unit="cosine",
                higher_is_better=True,
                best=1.0,
                n_real=len(real),
                n_synthetic=len(synthetic),
                gap=gap.relative,
                gap_ci=Interval.of(gap.relative_interval),
                gap_unit="share of pairs mismatched",
                p_value=gap.p_value,
                p_method="permutation of real and synthetic pairs",
                details={"mean_real": float(scores["real"].mean()), "auc": gap.auc},
            )
        ], {}

    def _floor(
        self,
        data: Dataset,
        part: Encoded,
        pairs: Sequence[Pair],
        heard: Sequence[Transcript],
        language: str,
        cache: FeatureCache | None,
    ) -> dict[str, Any]:
        """Ask whether a noise at −50 dBFS changes what is heard: then the errors are its own."""
        from ..data.audio import decode_audio
        from ..data.dataset import Limits
        from ..metrics.text.wer import floor_artefact

        some = range(min(len(pairs), FLOOR_CLIPS))
        made = hashlib.sha256(f"{self.info.key} {FLOOR_DBFS} {FLOOR_SNR}".encode()).hexdigest()
        store = cache.records("transcripts", f"{made}floor") if cache else None
        texts = []
        for i in some:
            code = pairs[i].sample.lang or language
            digest = hashlib.sha256(f"{part.hashes[pairs[i].first]} {code}".encode()).digest()
            record = store.get(digest) if store else None
            if record is None:
                with data.open(pairs[i].sample, "audio") as file:
                    decoded = decode_audio(file, Limits())
                rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
                rms = np.sqrt(np.mean(np.square(decoded.samples, dtype=np.float64)))
                # In a quiet recording noise of that level would be heard, and change the words.
                level = min(10 ** (FLOOR_DBFS / 20), rms * 10 ** (FLOOR_SNR / 20) or np.inf)
                noise = rng.standard_normal(decoded.samples.size) * level
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


def _detectable(interval: Any, policy: Policy) -> float:
    """Give the gap that sets of this size detect with the policy's power, from the interval."""
    from scipy.special import ndtri

    settings = policy.calibration
    half = (interval.high - interval.low) / 2
    return float(half * (1 + ndtri(settings.power) / ndtri(0.5 + settings.confidence / 2)))


def _artefact(where: Mapping[str, Any], found: Mapping[str, Any], of: str) -> list[Finding]:
    """Warn where noise that nobody hears changes the errors, which are counted per `of`."""
    if not found.get("floor_matters"):
        return []
    change, p = found["floor_change"], found["floor_p"]
    return [
        Finding(
            **{**where, "metric": "recogniser_artefact"},
            value=change,
            unit=f"errors per {of}",
            best=0.0,
            p_value=p,
            p_method="permutation, paired by recording",
            status=Status.WARN,
            message=Message(
                id="recogniser_artefact",
                text=f"Noise at −50 dBFS, which nobody hears, changes the error rate by "
                f"{change:+.3f} (p {p:.3g}): a part of the errors are the recogniser's own. Judge "
                "with another recogniser, or add such noise to both sets.",
                params={"change": round(change, 4), "p": p},
            ),
        )
    ]


def _heard(part: Encoded, pairs: Sequence[Pair]) -> list[Transcript]:
    return [(part.transcripts or [])[p.first] for p in pairs]


def _spoken(heard: Sequence[Transcript], policy: Policy) -> str:
    """Give the language of the speech: the policy's, else what most recordings are in."""
    return policy.ties.language or Counter(t.language for t in heard).most_common(1)[0][0]


def _unit(rows: npt.NDArray[np.floating]) -> _Floats:
    """Normalise rows; one of zeros, as of an empty text, stays and is like nothing."""
    x = rows.astype(np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: _Floats = np.divide(x, length, out=np.zeros_like(x), where=length > 0)
    return unit


class ImageTextAudio:
    """The triangle of image, text and speech: where does a record break."""

    def __init__(self, image_text: ImageText, audio_text: AudioText) -> None:
        self.image_text = image_text
        self.audio_text = audio_text
        self.info: EncoderInfo = image_text.info

    def measure(
        self,
        sides: Mapping[str, Dataset],
        parts: Mapping[str, Part],
        policy: Policy,
        cache: FeatureCache | None,
    ) -> tuple[list[Finding], list[Gallery]]:
        """Judge the three ties of each synthetic record, and say which part fits neither other."""
        from ..metrics.crossmodal.alignment import derangements
        from ..metrics.crossmodal.triangle import TIES, triangle_breaks
        from ..metrics.text.wer import word_errors

        triples = {role: _triples(parts, role) for role in sides}
        images = {role: [t.image for t in found] for role, found in triples.items()}
        sounds = {role: [t.sound for t in found] for role, found in triples.items()}
        groups = {role: _sources(found, role) for role, found in triples.items()}
        real, synthetic = sounds["real"], sounds["synthetic"]
        n = (len(real), len(synthetic))
        where: dict[str, Any] = {
            "kind": "tie", "modality": "image+audio+text", "metric": "broken_records",
            "encoder": f"{self.info.id}, {self.audio_text.info.id}", "n_real": n[0],
            "n_synthetic": n[1],
        }  # fmt: skip
        if min(n) < policy.min_samples:
            return [Finding(**where, value=None, n_required=policy.min_samples)], []
        heard = {role: _heard(parts["audio"].side(role), sounds[role]) for role in sides}
        language = _spoken(heard["real"], policy)
        try:
            partners = derangements(
                n[0],
                repeats=REPEATS,
                groups=groups["real"],
                contents=[p.text for p in real],
                seed=policy.seed,
            )
            errors = {
                role: word_errors(
                    [p.text for p in sounds[role]],
                    [t.text for t in heard[role]],
                    language=language,
                )
                for role in sides
            }
            mixed = word_errors(
                [p.text for p in real] * REPEATS,
                [heard["real"][i].text for i in partners.ravel()],
                language=language,
            )
        except ValueError as error:
            why = f"The real records give no scale: {error}."
            return [
                unmeasured_tie("broken_records", where["modality"], where["encoder"], n,
                            "tie_no_scale", why)
            ], []  # fmt: skip
        pictures, written, said = (
            {
                role: (
                    self.image_text.image_rows(
                        sides[role], parts["image"].side(role), images[role], cache
                    )
                    if what == "image"
                    else self.image_text.text_rows(
                        [p.text for p in sounds[role]]
                        if what == "text"
                        else [t.text for t in heard[role]],
                        cache,
                    )
                )
                for role in sides
            }
            for what in ("image", "text", "heard")
        )
        agreement = {
            role: {
                "image+text": (pictures[role] * written[role]).sum(axis=1),
                "audio+text": -np.array([u.rate for u in errors[role].utterances]),
                "image+audio": (pictures[role] * said[role]).sum(axis=1),
            }
            for role in sides
        }
        shuffled = {
            "image+text": np.einsum("nd,rnd->rn", pictures["real"], written["real"][partners]),
            "audio+text": -np.array([u.rate for u in mixed.utterances]).reshape(partners.shape),
            "image+audio": np.einsum("nd,rnd->rn", pictures["real"], said["real"][partners]),
        }
        judged = {
            tie: _p_values(
                agreement["synthetic"][tie], agreement["real"][tie], shuffled[tie], partners,
                groups["real"],
            )
            for tie in TIES
        }  # fmt: skip
        least = max((p[1] for p in judged.values()), default=0.0)
        found = triangle_breaks(
            *(judged[tie][0] for tie in TIES),
            alpha=policy.alpha,
            least=least,
            groups=groups["synthetic"],
            confidence=policy.calibration.confidence,
        )
        beyond = found.interval
        finding = Finding(
            **where,
            value=found.share,
            unit="share",
            higher_is_better=False,
            best=0.0,
            gap=found.share - found.false_alarms,
            gap_ci=Interval(
                low=beyond.low - found.false_alarms,
                high=beyond.high - found.false_alarms,
                level=beyond.level,
                method=beyond.method,
            ),
            gap_unit="share of records beyond false alarms",
            details={
                "false_alarms": found.false_alarms,
                "p_of_a_tie": found.level,
                "cannot_tell": [tie for tie in TIES if np.isnan(judged[tie][0]).all()],
                **{f"broken_{place}": count for place, count in sorted(found.counts.items())},
            },
        )
        order = np.argsort(found.weakest, kind="stable")
        shelves = [
            Gallery(
                id=f"broken_{place.replace('+', '_')}",
                encoder=where["encoder"],
                modality="image+audio+text",
                items=tuple(
                    GalleryItem(
                        side="synthetic",
                        sample=synthetic[i].sample.id,
                        score=float(found.weakest[i]),
                        score_text=f"p {found.weakest[i]:.3g}",
                        label=synthetic[i].sample.label,
                        text=shortened(synthetic[i].text),
                        alignment=_kept(errors["synthetic"].utterances[i].alignment),
                    )
                    for i in [i for i in order if found.places[i] == place][:GALLERY_ITEMS]
                ),
            )
            for place in sorted(found.counts)
        ]
        try:
            losses = _losses(where, agreement, shuffled, groups, policy)
        except ValueError as error:  # of one source only, or real records that do not agree
            finding = finding.model_copy(
                update={"details": {**finding.details, "no_chain_loss": str(error)}}
            )
            losses = []
        return [finding, *losses], shelves


@dataclass(frozen=True, slots=True)
class _Triple:
    """The image and the sound of a record, or of a line of records made from each other."""

    image: Pair
    sound: Pair


def _triples(parts: Mapping[str, Part], role: str) -> list[_Triple]:
    """Give each recording its text and its image: its own, else those of what it was made from."""
    rows = {s.id: row for row, s in enumerate(parts["image"].side(role).samples)}
    known = {s.id: s for part in parts.values() for s in part.side(role).samples}
    found = []
    for row, sample in enumerate(parts["audio"].side(role).samples):
        line = {sample.id: sample}
        waiting = [sample]
        while waiting:  # breadth first: the nearest that has the part
            for name in waiting.pop(0).parents:
                if name in known and name not in line:
                    line[name] = known[name]
                    waiting.append(known[name])
        text = next((s.text for s in line.values() if s.text and s.text.strip()), None)
        image = next((s for s in line.values() if s.id in rows), None)
        if text is not None and image is not None:
            found.append(_Triple(Pair(image, rows[image.id], text), Pair(sample, row, text)))
    return found


def _sources(triples: Sequence[_Triple], role: str) -> list[str] | None:
    """Give the group of each; recordings made from one image are of one source."""
    if all(t.sound.sample.group is None and t.image.sample is t.sound.sample for t in triples):
        return None
    return [
        t.sound.sample.group
        if t.sound.sample.group is not None
        else f"\0{role} {t.image.sample.id}"
        for t in triples
    ]


def _losses(
    where: Mapping[str, Any],
    agreement: Mapping[str, Mapping[str, _Floats]],
    shuffled: Mapping[str, _Floats],
    groups: Mapping[str, Sequence[str] | None],
    policy: Policy,
) -> list[Finding]:
    """Follow the meaning of the image into the text, and from there into the speech."""
    from ..metrics.crossmodal.chain import HopScores, chain_decay

    hops = (("text", "image+text"), ("audio", "image+audio"))
    real = groups["real"]
    least = 1 / (len(set(real) if real else agreement["real"]["image+text"]) + 1)
    decay = chain_decay(
        [
            HopScores(hop, agreement["synthetic"][tie], agreement["real"][tie],
                      shuffled[tie].ravel())
            for hop, tie in hops
        ],
        alpha=max(policy.alpha, least),
        groups=groups["synthetic"],
        matched_groups=None if real is None else {hop: real for hop, _ in hops},
        level=policy.calibration.confidence,
    )  # fmt: skip
    return [
        hop_finding({**where, "metric": "chain_loss"}, hop, {"records": hop.n})
        for hop in decay.hops
    ]


def hop_finding(where: Mapping[str, Any], hop: Hop, details: Mapping[str, Any]) -> Finding:
    """Give the finding of what one hop of a chain loses."""
    return Finding(
        **where,
        slice=hop.name,
        value=hop.position,
        unit="matched to shuffled",
        higher_is_better=True,
        best=1.0,
        gap=hop.loss,
        gap_ci=Interval.of(hop.loss_interval),
        gap_unit="share of the agreement",
        details={"first_broken_here": hop.broken, **details},
    )


def _p_values(
    scores: _Floats, matched: _Floats, shuffled: _Floats, partners: Any, groups: Any
) -> tuple[_Floats, float]:
    """Give each record's p-value, NaN where there is none, and the least that there can be."""
    from ..metrics.crossmodal.alignment import consistency

    there, usable = np.isfinite(scores), np.isfinite(matched)
    least = 1 / (len(set(groups) if groups is not None else matched) + 1)
    p = np.full(scores.size, np.nan)
    if there.sum() < 2 or not usable.all() or not np.isfinite(shuffled).all():
        return p, least
    try:
        found = consistency(
            scores[there], matched, shuffled, alpha=max(least, 0.05), matched_groups=groups,
            partners=partners,
        )  # fmt: skip
    except ValueError:  # real pairs score under shuffled ones: this tie says nothing
        return p, least
    if found.can_tell:
        p[there] = found.p_values
    return p, least


def _kept(alignment: Sequence[tuple[str, str, str]]) -> tuple[tuple[str, str, str], ...]:
    return tuple((str(op), str(wanted), str(got)) for op, wanted, got in alignment[:ALIGNED])
