"""Which samples agree with what they are said to be: their caption, their transcript, their label.

The score of a sample says how well; what is well enough, the calibration half says: one of its
samples in twenty scores below the threshold.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ..data.dataset import group_of
from ..errors import DataError, UsageError
from ..pipeline.ties import REPEATS, ImageText, groups_of, pairs_of
from .result import said

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ..data import Dataset
    from ..encoders import Encoded
    from ..gate.findings import Message
    from ..pipeline.ties import Pair
    from .looks import Looks

_Floats: TypeAlias = "npt.NDArray[np.float64]"

DROPPED = 0.05
"""Share of the real samples that ``quality`` and ``consistency`` would drop too."""


@dataclass(frozen=True, slots=True)
class _Scores:
    """How well samples agree with what they are held against, higher is better."""

    by: Message
    places: list[int]
    """Rows of the synthetic samples that have a score."""
    synthetic: _Floats
    real: _Floats
    wrong: _Floats
    """Of real samples held against what belongs to another."""
    groups: list[str] | None
    partners: npt.NDArray[np.int64] | None = None


def inconsistent(
    data: tuple[Dataset, Dataset],
    calibration: Encoded,
    made: Encoded,
    rows: Sequence[int],
    looks: Looks,
) -> tuple[set[int], tuple[Message, ...]]:
    """Name the rows whose parts do not belong together, and say by what they were judged.

    Images are held against their captions and recordings against their transcripts; texts, and
    media in sets without such a text, against their labels.

    Parameters
    ----------
    data : (Dataset, Dataset)
        What ``calibration`` and ``made`` were encoded from.
    rows : sequence of int
        Those in question.

    Raises
    ------
    DataError
        If there is nothing to hold the samples against, too little to calibrate by, or the score
        does not tell real samples from wrongly paired ones.
    UsageError
        If the policy names no model for the tie.
    """
    from ..metrics.crossmodal.alignment import consistency

    some = set(rows)
    real = [] if looks.modality == "text" else pairs_of(calibration)
    synthetic = [p for p in pairs_of(made) if p.first in some]
    try:
        if not real or not synthetic:
            scores = _by_label(calibration, made, rows, looks)
        elif looks.modality == "image":
            scores = _by_caption(data, (calibration, made), (real, synthetic), looks)
        else:
            scores = _by_transcript(data, (real, synthetic), looks)
        found = consistency(
            scores.synthetic,
            scores.real,
            scores.wrong,
            alpha=DROPPED,
            matched_groups=scores.groups,
            partners=scores.partners,
        )
    except ValueError as error:
        raise DataError(f"consistency cannot be calibrated on the real samples: {error}") from error
    if not found.can_tell:
        raise DataError(
            f"{scores.by.text} does not tell real samples from wrongly paired ones (AUC "
            f"{found.auc:.2f}), so it says nothing of the synthetic ones: leave consistency out, "
            "or name a model that knows them in the policy"
        )
    unjudged = len(rows) - len(scores.places)
    told = [
        scores.by,
        said("select_threshold", share=DROPPED, threshold=found.threshold, auc=found.auc),
    ]
    if unjudged:
        told.append(said("select_unjudged", n=unjudged))
    return {scores.places[i] for i in found.mismatched}, tuple(told)


def _partners(real: Sequence[Pair], looks: Looks) -> npt.NDArray[np.int64]:
    from ..metrics.crossmodal.alignment import derangements

    return derangements(
        len(real),
        repeats=REPEATS,
        groups=groups_of(real, "real"),
        contents=[p.text for p in real],
        seed=looks.policy.seed,
    )


def _by_caption(
    data: tuple[Dataset, Dataset],
    parts: tuple[Encoded, Encoded],
    pairs: tuple[Sequence[Pair], Sequence[Pair]],
    looks: Looks,
) -> _Scores:
    from ..encoders.imagetext import load_image_text

    spec = looks.policy.ties.image_text
    if spec is None:
        raise UsageError("consistency of images and captions needs a model: ties.image_text")
    tie = ImageText(
        load_image_text(
            spec, device=looks.device, allow_download=looks.allow_download, cache=looks.cache
        )
    )
    (images, texts), made = (
        tie.features(*of, looks.cache) for of in zip(data, parts, pairs, strict=True)
    )
    partners = _partners(pairs[0], looks)
    return _Scores(
        by=said("select_by_caption", model=tie.info.id),
        places=[p.first for p in pairs[1]],
        synthetic=(made[0] * made[1]).sum(axis=1),
        real=(images * texts).sum(axis=1),
        wrong=np.einsum("nd,rnd->rn", images, texts[partners]),
        groups=groups_of(pairs[0], "real"),
        partners=partners,
    )


def _by_transcript(
    data: tuple[Dataset, Dataset], pairs: tuple[Sequence[Pair], Sequence[Pair]], looks: Looks
) -> _Scores:
    from ..encoders.asr import load_transcriber
    from ..encoders.encode_media import encode_media
    from ..metrics.text.wer import word_errors

    spec = looks.policy.ties.audio_text
    if spec is None:
        raise UsageError("consistency of speech and transcripts needs a model: ties.audio_text")
    hearer = load_transcriber(spec, device=looks.device, cache=looks.cache)
    heard = []
    for side, some in zip(data, pairs, strict=True):
        found = encode_media(side, "audio", (), transcriber=hearer, cache=looks.cache,
                             language=looks.policy.ties.language, progress=looks.progress,
                             label="what is heard")  # fmt: skip
        known = dict(zip((s.id for s in found.samples), found.transcripts or [], strict=True))
        heard.append([known[p.sample.id] for p in some])
    language = (
        looks.policy.ties.language or Counter(t.language for t in heard[0]).most_common(1)[0][0]
    )

    def rates(written: Sequence[str], sounds: Sequence[str]) -> _Floats:
        found = word_errors(written, sounds, language=language)
        return -np.array([u.rate for u in found.utterances])

    real, made = pairs
    partners = _partners(real, looks)
    scores = rates([p.text for p in made], [t.text for t in heard[1]])
    worded = np.isfinite(scores)  # a transcript of punctuation alone has no words to miss
    return _Scores(
        by=said("select_by_transcript", model=hearer.info.id),
        places=[p.first for p, has in zip(made, worded, strict=True) if has],
        synthetic=scores[worded],
        real=rates([p.text for p in real], [t.text for t in heard[0]]),
        wrong=rates(
            [p.text for p in real] * REPEATS, [heard[0][i].text for i in partners.ravel()]
        ).reshape(partners.shape),
        groups=groups_of(real, "real"),
        partners=partners,
    )


def _by_label(calibration: Encoded, made: Encoded, rows: Sequence[int], looks: Looks) -> _Scores:
    from scipy.special import ndtri

    from ..generators.selection.subset import Recall, label_probabilities

    real, synthetic = (
        [s.label for s in part] for part in (calibration.samples, [made.samples[i] for i in rows])
    )
    if any(label is None for label in (*real, *synthetic)):
        raise DataError(
            "consistency holds samples against their captions, transcripts or labels: neither a "
            "text nor a label is in every sample of both sets"
        )
    encoder = looks.own[0]
    seed = looks.policy.seed
    found = label_probabilities(
        calibration.features[encoder],
        real,
        made.features[encoder][list(rows)],
        synthetic,
        probe="linear",
        seed=seed,
    )
    kinds = len(found.classes)
    names = np.array([str(v) for v in real])
    right = np.array(found.classes)[found.real.argmax(axis=1)] == names
    recall, error = Recall.of(names, right).among(found.classes)
    if recall - float(ndtri(0.5 + looks.policy.calibration.confidence / 2)) * error <= 1 / kinds:
        # The label's probability and that of another move together: an AUC of them says too much.
        raise DataError(
            f"a probe by {encoder} finds {recall:.1%} of each class of real samples, no more than "
            "a guess, so it says nothing of the synthetic ones: leave consistency out, or name an "
            "encoder that knows these labels in the policy"
        )
    own = np.array([found.classes.index(v) for v in names])
    other = (own + np.random.default_rng(seed).integers(1, kinds, own.size)) % kinds
    every = np.arange(own.size)
    bears = [found.classes.index(str(v)) for v in synthetic]
    grouped = any(s.group is not None for s in calibration.samples)
    return _Scores(
        by=said("select_by_label", model=encoder),
        places=list(rows),
        synthetic=found.synthetic[np.arange(len(rows)), bears],
        real=found.real[every, own],
        wrong=found.real[every, other],
        groups=[group_of(s, "real") for s in calibration.samples] if grouped else None,
    )
