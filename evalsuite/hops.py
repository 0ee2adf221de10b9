"""Hops of a chain by the embedded models: what is in an image, what is said in a recording.

Generators load no models; these operations bring them. Importing this module makes their names
known to recipes: ``describe`` (image to text) and ``transcribe`` (speech to text).
"""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .errors import UsageError
from .generators import Audio, Modality, register

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


def word_error_check(maximum: float, language: str = "en") -> Callable[[Sequence[Hop]], str | None]:
    """Make a check for :class:`~evalsuite.generators.Chain`: was the text still heard.

    Parameters
    ----------
    maximum : float
        Largest word error rate (character error rate in languages without spaces) between the
        text before the speech and the transcript after it.
    language : str
        ISO 639-1 code, for the normaliser.

    Returns
    -------
    callable
        Gives None, or the reason to drop the sample.

    Raises
    ------
    UsageError
        If ``maximum`` is negative.
    """
    if not maximum >= 0:
        raise UsageError(f"the largest word error rate must be at least 0, got {maximum}")

    def check(hops: Sequence[Hop]) -> str | None:
        from .metrics.text.wer import word_errors

        if hops[-1].output is not Modality.TEXT or len(hops) < 2:
            return None
        if hops[-2].output is not Modality.AUDIO:
            return None
        before = next((h.value for h in reversed(hops[:-1]) if h.output is Modality.TEXT), None)
        if before is None:
            return None
        rate = word_errors([before], [hops[-1].value], language=language).value
        if rate <= maximum:
            return None
        return f"word error rate {rate:.2f} over {maximum:g}: {hops[-1].value[:80]!r}"

    return check
