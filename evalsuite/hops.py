"""Hops of a chain by the embedded models: what is in an image, what is said in a recording.

These operations bring the suite's own models. Importing this module makes their names known to
recipes: ``describe`` (image to text) and ``transcribe`` (speech to text), and as checks of a chain
``word_errors``, ``text_similarity`` and ``image_similarity``.
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import UsageError
from .generators import Audio, Modality, register
from .generators.combine import register_check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from .encoders.media import Transcriber
    from .generators import Hop, Params

SURE = 0.3
"""Probability of the first class from which the sentence names it without a doubt."""
_DARK, _BRIGHT, _GREY = 70.0, 190.0, 12.0


@cache
def _classifier() -> Any:
    from .encoders import load_encoder

    return load_encoder()


@cache
def _head() -> tuple[Any, Any, list[str]]:
    from importlib.metadata import distribution
    from pathlib import Path

    from .encoders import lite0
    from .encoders.imagetext import class_names

    path = Path(str(distribution(lite0.PACKAGE).locate_file(lite0.FILE)))
    weights = lite0.read_weights(path)
    names = [name.split(",")[0].strip() for name in class_names()]
    return weights["_fc.weight"].numpy(), weights["_fc.bias"].numpy(), names


@cache
def _sentences() -> Any:
    from .encoders.text import load_text_encoder

    return load_text_encoder(device="cpu")


@cache
def _recogniser(model: str) -> Transcriber:
    from .encoders import FeatureCache
    from .encoders.asr import load_transcriber

    return load_transcriber(model, cache=FeatureCache())


@register
class Describe:
    """Say what is in an image: its ImageNet class, and its light and colour.

    A baseline that needs no network, not a captioner: it knows 1,000 classes and one of them for
    an image. Where it is not sure it says so in the sentence.
    """

    name: ClassVar[str] = "describe"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.TEXT

    @property
    def params(self) -> Params:
        """Nothing to set."""
        return {}

    @property
    def model_sha256(self) -> str:
        """Hash of the classifier's weights."""
        return str(_classifier().info.weights_sha256)

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: Image, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Look at the image.

        Raises
        ------
        ModelError
            If the embedded classifier is not installed.
        """
        from .metrics.image.attributes import image_attributes

        picture = value if value.mode in ("RGB", "L") else value.convert("RGB")
        model = _classifier()
        kernel, bias, names = _head()
        pooled = model.forward(model.prepare(picture)[None])[0]
        logits = (kernel @ pooled + bias).astype(np.float64)
        best = int(np.argmax(logits))
        share = 1.0 / float(np.exp(logits - logits[best]).sum())
        seen = image_attributes(np.asarray(picture))
        words = []
        if seen["brightness"] < _DARK:
            words.append("dark")
        elif seen["brightness"] > _BRIGHT:
            words.append("bright")
        if seen["colourfulness"] < _GREY:
            words.append("black and white")
        what = " ".join(["a", *words, "photograph of"])
        doubt = "" if share >= SURE else "something like "
        article = "an" if names[best][0].lower() in "aeiou" else "a"
        return f"{what} {doubt}{article} {names[best]}"


@register
class Transcribe:
    """Write down what is said in a recording, by the embedded Whisper base.

    Parameters
    ----------
    language : str, optional
        ISO 639-1 code; heard from each recording by default.
    model : str
        As :func:`~evalsuite.encoders.asr.load_transcriber` takes it.
    """

    name: ClassVar[str] = "transcribe"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.AUDIO
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(self, language: str | None = None, model: str = "whisper_base") -> None:
        self.language = language
        self.model = model

    @property
    def params(self) -> Params:
        """Language and model."""
        return {"language": self.language, "model": self.model}

    @property
    def model_sha256(self) -> str:
        """Hash of the recogniser's weights."""
        return str(_recogniser(self.model).info.weights_sha256)

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: Audio, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Listen.

        Raises
        ------
        ModelError
            If the recogniser is not installed.
        Dropped
            If nothing is heard.
        """
        import soundfile

        from .data.audio import decode_audio
        from .generators import Dropped

        buffer = io.BytesIO()
        soundfile.write(buffer, value.samples, value.rate, format="WAV", subtype="FLOAT")
        decoded = decode_audio(buffer.getvalue())
        heard = _recogniser(self.model).transcribe([decoded], language=self.language)[0].text
        if not heard.strip():
            raise Dropped("nothing was heard")
        return heard


class _Consistency:
    """A measure of a hop, and the bound within which a sample is kept; none, and it is kept."""

    name: ClassVar[str]
    at_most: float | None = None
    at_least: float | None = None

    def measure(self, hops: Sequence[Hop]) -> float | None:
        """Measure the last hop against those before it; None where there is nothing to compare."""
        raise NotImplementedError

    def judge(self, value: float) -> str | None:
        """Give the reason to drop a sample with this value, or None."""
        said = self.name.replace("_", " ")
        if self.at_most is not None and value > self.at_most:
            return f"{said} {value:.2f} over {self.at_most:g}"
        if self.at_least is not None and value < self.at_least:
            return f"{said} {value:.2f} below {self.at_least:g}"
        return None

    def __call__(self, hops: Sequence[Hop]) -> str | None:
        """Give the reason to drop the sample, or None."""
        value = self.measure(hops)
        return None if value is None else self.judge(value)


@register_check
class WordErrors(_Consistency):
    """Were the words still heard: the word error rate of a transcript.

    It looks where text became speech and speech became text again.

    Parameters
    ----------
    at_most : float, optional
        Largest rate (of characters, in languages without spaces) with which a sample is kept.
    language : str
        ISO 639-1 code, for the normaliser.

    Raises
    ------
    UsageError
        If ``at_most`` is negative.
    """

    name: ClassVar[str] = "word_errors"

    def __init__(self, at_most: float | None = None, language: str = "en") -> None:
        if at_most is not None and not at_most >= 0:
            raise UsageError(f"the largest word error rate must be at least 0, got {at_most}")
        self.at_most = at_most
        self.language = language

    @property
    def params(self) -> Params:
        """The arguments."""
        return {"at_most": self.at_most, "language": self.language}

    def measure(self, hops: Sequence[Hop]) -> float | None:
        """Compare the transcript with the text that was spoken."""
        from .metrics.text.wer import word_errors

        if hops[-1].output is not Modality.TEXT or len(hops) < 2:
            return None
        if hops[-2].output is not Modality.AUDIO:
            return None
        before = next((h.value for h in reversed(hops[:-1]) if h.output is Modality.TEXT), None)
        if before is None:
            return None
        return float(word_errors([before], [hops[-1].value], language=self.language).value)


class _Similarity(_Consistency):
    """A cosine between what the last hop gave and the last of that modality before it."""

    def __init__(self, at_least: float | None = None) -> None:
        if at_least is not None and not -1 <= at_least <= 1:
            raise UsageError(f"the least similarity must be within [-1, 1], got {at_least}")
        self.at_least = at_least

    @property
    def params(self) -> Params:
        """The bound."""
        return {"at_least": self.at_least}

    modality: ClassVar[Modality]

    def measure(self, hops: Sequence[Hop]) -> float | None:
        """Compare the features of the two."""
        if hops[-1].output is not self.modality:
            return None
        before = next((h.value for h in reversed(hops[:-1]) if h.output is self.modality), None)
        if before is None:
            return None
        a, b = (self._features(value) for value in (before, hops[-1].value))
        return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))

    def _features(self, value: Any) -> Any:
        raise NotImplementedError


@register_check
class TextSimilarity(_Similarity):
    """Does a text still mean what the one before it did: cosine of sentence embeddings.

    By the embedded all-MiniLM-L6-v2, which knows English; it is slow to see a negation.

    Parameters
    ----------
    at_least : float, optional
        Smallest cosine, from -1 to 1, with which a sample is kept.

    Raises
    ------
    UsageError
        If it is out of range.
    """

    name: ClassVar[str] = "text_similarity"
    modality: ClassVar[Modality] = Modality.TEXT

    def _features(self, value: str) -> Any:
        return np.asarray(_sentences().embed([value])[0], np.float64)


@register_check
class ImageSimilarity(_Similarity):
    """Does an image still show what the one before it did: cosine of a classifier's features.

    By the embedded ImageNet classifier. Its features are not negative: unlike images have a cosine
    well above 0.

    Parameters
    ----------
    at_least : float, optional
        Smallest cosine, from -1 to 1, with which a sample is kept.

    Raises
    ------
    UsageError
        If it is out of range.
    """

    name: ClassVar[str] = "image_similarity"
    modality: ClassVar[Modality] = Modality.IMAGE

    def _features(self, value: Image) -> Any:
        picture = value if value.mode in ("RGB", "L") else value.convert("RGB")
        model = _classifier()
        return np.asarray(model.forward(model.prepare(picture)[None])[0], np.float64)
