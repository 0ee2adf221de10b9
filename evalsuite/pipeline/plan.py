"""What a run will measure: the modalities that both sets hold, and the models for each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..data.dataset import group_of
from ..encoders import Encoded, encode, load_encoder
from ..encoders.base import check_device
from ..errors import DataError, UsageError
from .chains import Chain, hands_down
from .ties import AudioText, ImageText, ImageTextAudio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..data import Dataset
    from ..encoders import EncoderInfo, FeatureCache
    from ..gate.policy import Policy
    from .ties import Tie

MODALITIES = ("image", "audio", "text")
ENGLISH, ANY_LANGUAGE = "minilm_l6", "char_ngrams"
GUESSED = 500
"""At most so many texts are looked at for their language."""
ONE_LANGUAGE = 0.8
"""Share of the transcripts in one language from which all recordings are taken to be in it."""
MOSTLY = 0.5
"""Share of texts in another language from which an English encoder does not do."""


@dataclass(frozen=True, slots=True)
class Part:
    """One modality of both sets, as numbers."""

    modality: str
    left: Encoded
    right: Encoded
    groups: tuple[list[str] | None, list[str] | None]

    @property
    def smallest(self) -> int:
        """Samples of the smaller side."""
        return min(len(self.left), len(self.right))

    def side(self, role: str) -> Encoded:
        """Give one of the two sets by its role."""
        return self.left if role == "real" else self.right


def sample_groups(left: Encoded, right: Encoded) -> tuple[list[str] | None, list[str] | None]:
    """Give the group of each sample, where any sample of the two sets has one."""
    if all(s.group is None for part in (left, right) for s in part.samples):
        return None, None
    return (
        [group_of(s, "real") for s in left.samples],
        [group_of(s, "synthetic") for s in right.samples],
    )


@dataclass(frozen=True, slots=True)
class Models:
    """The names of the models of one modality: what a worker needs to load them itself."""

    modality: str
    encoders: tuple[str, ...]
    scorers: tuple[str, ...] = ()
    transcriber: str | None = None
    device: str = "auto"
    allow_download: bool = False

    def find(self, cache: FeatureCache | None) -> tuple[list[Any], list[Any], Any]:
        """Find encoders, scorers and transcriber; none of them is loaded yet.

        Raises
        ------
        ModelError
            If one is not at hand.
        """
        encoders = [
            _load(
                self.modality,
                spec,
                device=self.device,
                allow_download=self.allow_download,
                cache=cache,
            )
            for spec in self.encoders
        ]
        scorers: list[Any] = []
        if self.scorers and self.modality == "audio":
            from ..encoders.speech import load_scorer

            scorers = [load_scorer(name) for name in self.scorers]
        elif self.scorers and self.modality == "text":
            from ..encoders.perplexity import load_text_scorer

            scorers = [load_text_scorer(name) for name in self.scorers]
        transcriber = None
        if self.transcriber is not None:
            from ..encoders.asr import load_transcriber

            transcriber = load_transcriber(self.transcriber, device=self.device, cache=cache)
        return encoders, scorers, transcriber


@dataclass(slots=True)
class Plan:
    """The models of a run, found and checked, none of them loaded yet."""

    modalities: tuple[str, ...]
    models: dict[str, Models] = field(default_factory=dict)
    encoders: dict[str, list[Any]] = field(default_factory=dict)
    scorers: dict[str, list[Any]] = field(default_factory=dict)
    transcriber: Any = None
    language: str | None = None
    ties: list[Tie] = field(default_factory=list)
    unmeasured: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    @property
    def encoder_infos(self) -> list[EncoderInfo]:
        """The records of the encoders alone."""
        return [e.info for modality in self.modalities for e in self.encoders[modality]]

    @property
    def infos(self) -> list[EncoderInfo]:
        """The records of all models."""
        others = [s.info for models in self.scorers.values() for s in models]
        others += [
            tie.transcriber.info for tie in self.ties if isinstance(tie, Chain) and tie.transcriber
        ]
        found = [*self.encoder_infos, *others, *(tie.info for tie in self.ties)]
        return list({info.key: info for info in found}.values())

    def scored_by(self, modality: str) -> str:
        """Give a key of the models whose scores stand among a modality's attributes."""
        return " ".join(s.info.key for s in self.scorers.get(modality, ()))

    def encode(
        self,
        modality: str,
        data: Dataset,
        role: str,
        *,
        cache: FeatureCache | None,
        progress: bool | None,
        workers: int | None = None,
        may_be_empty: bool = False,
    ) -> Encoded:
        """Turn one modality of one set, or of a part of it, into numbers."""
        if modality == "image":
            return encode(
                data,
                self.encoders["image"],
                cache=cache,
                progress=progress,
                label=self.label(modality, role),
                workers=workers,
                may_be_empty=may_be_empty,
            )
        from ..encoders.encode_media import encode_media

        return encode_media(
            data,
            "audio" if modality == "audio" else "text",
            self.encoders[modality],
            scorers=self.scorers.get(modality, ()),
            transcriber=self.transcriber if modality == "audio" else None,
            language=self.language,
            cache=cache,
            progress=progress,
            label=self.label(modality, role),
            workers=workers,
            may_be_empty=may_be_empty,
        )

    def label(self, modality: str, role: str) -> str:
        """Give what a progress bar calls it."""
        return role if len(self.modalities) == 1 else f"{role} {modality}"


def make_plan(
    policy: Policy,
    sides: Mapping[str, Dataset],
    *,
    device: str,
    allow_download: bool,
    cache: FeatureCache | None,
) -> Plan:
    """Find out what both sets hold, and the models that the policy names for it.

    Raises
    ------
    DataError
        If the two sets have no modality in common.
    UsageError
        If the policy has no encoder for any that they have, or the machine no such device.
    ModelError
        If a model is not at hand.
    """
    check_device(device)
    real, synthetic = sides["real"].modalities, sides["synthetic"].modalities
    unmeasured: dict[str, str] = {}
    chosen = []
    for modality in MODALITIES:
        if modality not in real and modality not in synthetic:
            continue
        if modality not in synthetic:
            unmeasured[modality] = "only_real"
        elif modality not in real:
            unmeasured[modality] = "only_synthetic"
        elif not policy.encoders.get(modality):
            unmeasured[modality] = "no_encoder"
        else:
            chosen.append(modality)
    if not chosen:
        if "no_encoder" in unmeasured.values():
            missing = next(m for m, why in unmeasured.items() if why == "no_encoder")
            raise UsageError(
                f"the policy names no encoder for {missing}: add `encoders: {{{missing}: [...]}}`"
            )
        raise DataError(
            f"the two sets have nothing in common: {sides['real'].name!r} (real) holds "
            f"{', '.join(real)}, {sides['synthetic'].name!r} (synthetic) {', '.join(synthetic)}"
        )
    plan = Plan(tuple(chosen), unmeasured=unmeasured, language=policy.ties.language)
    for modality in chosen:
        specs = list(policy.encoders[modality])
        if modality == "text":
            specs = _for_language(specs, sides, plan)
        pairs = modality == "audio" and "text" in chosen
        plan.models[modality] = Models(
            modality,
            tuple(specs),
            tuple(policy.scorers.get(modality, ())),
            (policy.ties.audio_text or None) if pairs else None,
            device,
            allow_download,
        )
        encoders, scorers, transcriber = plan.models[modality].find(cache)
        plan.encoders[modality] = encoders
        if scorers:
            plan.scorers[modality] = scorers
        if transcriber is not None:
            plan.transcriber = transcriber
    pictures: ImageText | None = None
    speech: AudioText | None = None
    if {"image", "text"} <= set(chosen) and policy.ties.image_text:
        from ..encoders.imagetext import load_image_text

        model = load_image_text(
            policy.ties.image_text, device=device, allow_download=allow_download, cache=cache
        )
        pictures = ImageText(model)
        plan.ties.append(pictures)
    if plan.transcriber is not None:
        speech = AudioText(plan.transcriber, plan.encoders["text"][0])
        plan.ties.append(speech)
        if plan.language is None:
            plan.language = _one_language(sides)
    if pictures is not None and speech is not None:
        plan.ties.append(ImageTextAudio(pictures, speech))
    elif policy.ties.image_text and hands_down(sides):
        if pictures is None:
            from ..encoders.imagetext import load_image_text

            pictures = ImageText(
                load_image_text(
                    policy.ties.image_text,
                    device=device,
                    allow_download=allow_download,
                    cache=cache,
                )
            )
        listener = plan.transcriber
        if listener is None and policy.ties.audio_text and "audio" in synthetic:
            from ..encoders.asr import load_transcriber

            listener = load_transcriber(policy.ties.audio_text, device=device, cache=cache)
        plan.ties.append(Chain(pictures, listener, plan.language or _one_language(sides)))
    return plan


def _load(
    modality: str, spec: str, *, device: str, allow_download: bool, cache: FeatureCache | None
) -> Any:
    if modality == "image":
        return load_encoder(spec, device=device, allow_download=allow_download, cache=cache)
    if modality == "audio":
        from ..encoders.speech import load_audio_encoder

        return load_audio_encoder(spec, cache=cache)
    from ..encoders.text import load_text_encoder

    return load_text_encoder(spec, cache=cache)


def _languages(sides: Mapping[str, Dataset]) -> dict[str, float]:
    """Guess the languages of the texts of both sets: shares, the largest first."""
    from ..metrics.text.words import guess_language

    texts = [s.text for data in sides.values() for s in data.samples if s.text]
    step = max(1, len(texts) // GUESSED)
    guesses = Counter(guess_language(text[:300]) for text in texts[::step])
    del guesses["none"]
    total = max(sum(guesses.values()), 1)
    return {language: count / total for language, count in guesses.most_common()}


def _one_language(sides: Mapping[str, Dataset]) -> str | None:
    """Give the language of nearly all texts, if there is one.

    Hearing the language of each recording costs as much again as writing it down.
    """
    spoken, share = next(iter(_languages(sides).items()), ("", 0.0))
    return spoken if share >= ONE_LANGUAGE and len(spoken) == 2 else None


def _for_language(specs: list[str], sides: Mapping[str, Dataset], plan: Plan) -> list[str]:
    """Take an encoder that knows no language, where an English one would not know many texts."""
    if specs != [ENGLISH]:
        return specs
    share = 1 - _languages(sides).get("en", 0.0)
    if share <= MOSTLY:
        return specs
    plan.warnings.append(
        f"about {share:.0%} of the texts are not English, and {ENGLISH} knows nothing else: "
        f"{ANY_LANGUAGE} measures them"
    )
    return [ANY_LANGUAGE]
