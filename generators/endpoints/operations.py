"""Operations whose work a model behind an endpoint does.

What goes out is the text, the pixels or the samples of an item and no more: images are encoded
anew without their metadata, and nothing is a URL for the server to fetch. A seed is sent with every
request that has one, but servers do not promise the same answer for the same seed (batches differ);
what makes a run repeatable is the journal of its :class:`~.client.Session`, from which a resumed
run and :func:`~evalsuite.generators.record.replay` take their answers.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import wave
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from ..combine import Check
from ..items import Partners
from ..privacy.media import bare
from ..protocol import Dropped, Hop, Operation, RecipeError
from ..registry import build, register, spec
from ..values import Audio, Modality, Params, Parts, content_hash, to_json
from .client import CHAT, SPEECH, Client, Media, Rejected, Request, current_session
from .prompts import CAPTION, JUDGE, PARAPHRASE, TRANSLATE, WRITE, Prompt, as_data

_SEEDS = 2**31  # what servers hold in a signed integer


def image_media(image: Image.Image) -> Media:
    """Give an image as PNG with its upright pixels alone: no EXIF, profile or comment."""
    pixels = bare(image)
    if pixels.mode not in {"L", "RGB"}:
        pixels = pixels.convert("RGB")
    file = io.BytesIO()
    pixels.save(file, "PNG")
    return Media("image/png", file.getvalue(), content_hash(pixels))


def audio_media(audio: Audio) -> Media:
    """Give a sound as WAV of 16 bits, with nothing but its samples."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(audio.rate)
        out.writeframes(audio.to_pcm().tobytes())
    return Media("audio/wav", file.getvalue(), content_hash(audio))


class _Asked:
    """What the operations have in common: a model, a server, and a seed for each item."""

    def __init__(self, model: str, url: str | None, settings: Params) -> None:
        if not model:
            raise ValueError("the model needs a name: what the server lists under /v1/models")
        self.model = model
        self.url = url
        self._settings = settings

    @property
    def params(self) -> Params:
        """The arguments."""
        return {"model": self.model, "url": self.url, **self._settings}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the seed that is sent."""
        return {"seed": int(rng.integers(_SEEDS))}

    def _client(self) -> Client:
        return current_session().client(self.url)


class _Chats(_Asked):
    """Operations that ask a language model."""

    prompt: ClassVar[Prompt]

    def __init__(
        self, model: str, url: str | None, temperature: float, max_tokens: int, settings: Params
    ) -> None:
        if not 0 <= temperature <= 2 or max_tokens < 1:
            raise ValueError(
                f"need temperature within [0, 2] and max_tokens of 1 or more, got {temperature} "
                f"and {max_tokens}"
            )
        self._shared = {"temperature": float(temperature), "max_tokens": max_tokens}
        super().__init__(model, url, {**settings, **self._shared})

    @property
    def prompt_sha256(self) -> str:
        """Hash of the template."""
        return self.prompt.sha256

    def _request(self, seed: int, media: Sequence[Media] = (), **values: object) -> Request:
        shown = [_shown(k, medium) for k, medium in enumerate(media)]
        body: Params = {
            "model": self.model,
            "messages": self.prompt.messages(*shown, **values),
            "seed": seed,
            **self._shared,
        }
        return Request(CHAT, body, tuple(media), self.prompt.sha256)


def _shown(place: int, medium: Media) -> Params:
    if medium.mime == "image/png":
        return {"type": "image_url", "image_url": {"url": {"$uri": place}}}
    return {"type": "input_audio", "input_audio": {"data": {"$base64": place}, "format": "wav"}}


def _sentence(style: str) -> str:
    """Give the user's own words on style as one more sentence of the task."""
    return f" {style.strip().rstrip('.')}." if style.strip() else ""


@register
class Caption(_Chats):
    """Describe an image in words.

    Parameters
    ----------
    model : str
        A multimodal model, by the name that the server lists.
    language : str
        Of the caption, in English: ``English``, ``Japanese``.
    max_words : int
        What the model is asked to keep to; it is not cut.
    style : str
        One more sentence for the model, of your own words.
    temperature, max_tokens : float, int
        Sent with the request.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "caption"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.TEXT
    prompt: ClassVar[Prompt] = CAPTION

    def __init__(
        self,
        model: str,
        language: str = "English",
        max_words: int = 40,
        style: str = "",
        temperature: float = 0.7,
        max_tokens: int = 256,
        url: str | None = None,
    ) -> None:
        if max_words < 1:
            raise ValueError(f"max_words must be 1 or more, got {max_words}")
        own = {"language": language, "max_words": max_words, "style": style}
        super().__init__(model, url, temperature, max_tokens, own)

    def apply(self, value: Image.Image, params: Params) -> str:
        """Ask for the caption.

        Raises
        ------
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        own = self._settings
        request = self._request(
            params["seed"],
            [image_media(value)],
            language=own["language"],
            max_words=own["max_words"],
            style=_sentence(own["style"]),
        )
        return self._client().chat(request)


@register
class Paraphrase(_Chats):
    """Say a text in other words.

    Whether the meaning is kept is the model's affair: check it (:class:`JudgePair`, or a metric).

    Parameters
    ----------
    model : str
        By the name that the server lists.
    language : str
        Of the result; by default that of the text.
    style : str
        One more sentence for the model, of your own words.
    temperature, max_tokens : float, int
        Sent with the request.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "paraphrase"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT
    prompt: ClassVar[Prompt] = PARAPHRASE

    def __init__(
        self,
        model: str,
        language: str = "the language of the text",
        style: str = "",
        temperature: float = 1.0,
        max_tokens: int = 1024,
        url: str | None = None,
    ) -> None:
        own = {"language": language, "style": style}
        super().__init__(model, url, temperature, max_tokens, own)

    def apply(self, value: str, params: Params) -> str:
        """Ask for the paraphrase.

        Raises
        ------
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        own = self._settings
        request = self._request(
            params["seed"],
            text=as_data(value),
            language=own["language"],
            style=_sentence(own["style"]),
        )
        return self._client().chat(request)


@register
class BackTranslate(_Chats):
    """Translate a text into another language and back.

    Parameters
    ----------
    model : str
        By the name that the server lists.
    language : str
        The language of the texts, in English: ``English``, ``Japanese``.
    through : str or list of str
        The other language; of several, one is drawn for each item.
    temperature, max_tokens : float, int
        Sent with both requests.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If an argument is out of range, or the languages are the same.
    """

    name: ClassVar[str] = "back_translate"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.TEXT
    prompt: ClassVar[Prompt] = TRANSLATE

    def __init__(
        self,
        model: str,
        language: str,
        through: str | list[str],
        temperature: float = 0.7,
        max_tokens: int = 1024,
        url: str | None = None,
    ) -> None:
        languages = [through] if isinstance(through, str) else list(through)
        if not languages or language in languages:
            raise ValueError(
                f"through must name languages other than {language!r}, got {languages}"
            )
        own: Params = {"language": language, "through": languages}
        super().__init__(model, url, temperature, max_tokens, own)

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the seed that is sent, and the other language."""
        through = self._settings["through"]
        drawn = super().sample_params(rng)
        return {**drawn, "through": through[int(rng.integers(len(through)))]}

    def apply(self, value: str, params: Params) -> str:
        """Ask for both translations.

        Raises
        ------
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        for language in (params["through"], self._settings["language"]):
            request = self._request(params["seed"], text=as_data(value), language=language)
            value = self._client().chat(request)
        return value


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)


@register
class WriteLabelled(_Chats):
    """Write a new text of an item's class, after a few real ones.

    The item's own text is the first example; the others are drawn from its split, whatever their
    class, and are shown with their labels. All are named as parents of what is written, so it can
    never land in another split than they are in.

    Parameters
    ----------
    model : str
        By the name that the server lists.
    shots : int
        Examples that are shown, the item's own included.
    style : str
        One more sentence for the model, of your own words.
    operation : Operation, or its description, optional
        From text to text: what each example goes through before it is sent, such as
        :class:`~evalsuite.generators.privacy.text.ReplacePII`.
    temperature, max_tokens : float, int
        Sent with the request.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RecipeError
        If the operation is not from text to text.
    """

    name: ClassVar[str] = "write_labelled"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.RECORD
    output: ClassVar[Modality] = Modality.TEXT
    prompt: ClassVar[Prompt] = WRITE

    def __init__(
        self,
        model: str,
        shots: int = 3,
        style: str = "",
        operation: Operation | Mapping[str, Any] | None = None,
        temperature: float = 1.0,
        max_tokens: int = 1024,
        url: str | None = None,
    ) -> None:
        if shots < 1:
            raise ValueError(f"shots must be 1 or more, got {shots}")
        treat = build(operation) if isinstance(operation, Mapping) else operation
        if treat is not None and (treat.input, treat.output) != (Modality.TEXT, Modality.TEXT):
            raise RecipeError(f"examples are texts, and {treat.name} takes {treat.input}")
        described = None if treat is None else spec(treat)
        own: Params = {"shots": shots, "style": style, "operation": described}
        super().__init__(model, url, temperature, max_tokens, own)
        self._shots = shots
        self._treat = treat
        self._partners: Partners | None = None

    def with_partners(self, partners: Partners) -> WriteLabelled:
        """Give the same with the place where examples are found."""
        bound = copy(self)
        bound._partners = partners
        return bound

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the seed that is sent, and the other examples.

        Raises
        ------
        ValueError
            If more than one is shown and there is no other item.
        """
        drawn = super().sample_params(rng)
        others: list[Params] = []
        for _ in range(self._shots - 1):
            if self._partners is None:
                raise ValueError("write_labelled draws examples: give produce() its partners=")
            partner = self._partners.draw(rng, Modality.TEXT)
            if all(partner["id"] != other["partner"]["id"] for other in others):
                others.append({"partner": partner})
        treat = (
            [self._treat.sample_params(rng) for _ in range(len(others) + 1)] if self._treat else []
        )
        return {**drawn, "others": others, "treat": treat}

    def apply(self, value: Parts, params: Params) -> str:
        """Ask for the text.

        Raises
        ------
        ValueError
            If the item lacks text or label.
        Dropped
            If the model refused, was cut off, or repeated an example.
        Rejected
            If no usable answer came.
        """
        label = value.value(Modality.LABEL)
        examples: list[tuple[str | int, str]] = [(label, value.value(Modality.TEXT))]
        for other in params["others"]:
            if self._partners is None:
                raise ValueError("write_labelled needs its examples: give partners=")
            text = self._partners.value(other["partner"], Modality.TEXT)
            examples.append((other["partner"]["label"], text))
        if self._treat is not None:
            drawn = zip(examples, params["treat"], strict=True)
            examples = [(of, self._treat.apply(text, own)) for (of, text), own in drawn]
        shown = [f"Label: {as_data(str(of))}\nText: {as_data(text)}" for of, text in examples]
        request = self._request(
            params["seed"],
            examples="\n\n".join(shown),
            label=as_data(str(label)),
            style=_sentence(self._settings["style"]),
        )
        written = self._client().structured(request, _Written).text.strip()
        if any(_words(written) == _words(text) for _, text in examples):
            raise Dropped("the model repeated an example")
        return written


def _words(text: str) -> list[str]:
    return text.casefold().split()


class Judgement(BaseModel):
    """What a model thinks of a pair.

    Parameters
    ----------
    score : int
        From 0 (not at all) to 10 (fully).
    reason : str
        One sentence, in the model's words.
    """

    model_config = ConfigDict(extra="forbid")

    score: int = Field(ge=0, le=10)
    reason: str = Field(max_length=2000)


@register
class JudgePair(_Chats):
    """Score a pair: an image or a sound with its text, or any two of them.

    A model's judgement is a measurement with its own bias and noise, and the model is often the one
    that made the sample: compare it with human ratings before a gate depends on it.

    Parameters
    ----------
    model : str
        By the name that the server lists.
    question : str
        What is scored from 0 to 10.
    temperature, max_tokens : float, int
        Sent with the request.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "judge_pair"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.RECORD
    output: ClassVar[Modality] = Modality.TEXT
    prompt: ClassVar[Prompt] = JUDGE

    def __init__(
        self,
        model: str,
        question: str = "How well do the two say or show the same?",
        temperature: float = 0.0,
        max_tokens: int = 256,
        url: str | None = None,
    ) -> None:
        super().__init__(model, url, temperature, max_tokens, {"question": question})

    def judge(
        self, first: Image.Image | Audio | str, second: Image.Image | Audio | str, seed: int = 0
    ) -> Judgement:
        """Score two values.

        Raises
        ------
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        media: list[Media] = []

        def place(value: Image.Image | Audio | str) -> str:
            if isinstance(value, str):
                return as_data(value)
            is_sound = isinstance(value, Audio)
            media.append(audio_media(value) if isinstance(value, Audio) else image_media(value))
            kind = "recording" if is_sound else "image"
            return f"{kind} {len(media)} of those above"

        request = self._request(
            seed,
            media,
            question=self._settings["question"],
            first=place(first),
            second=place(second),
        )
        return self._client().structured(request, Judgement)

    def apply(self, value: Parts, params: Params) -> str:
        """Score the record's image or sound with its text: JSON of score and reason.

        Raises
        ------
        ValueError
            If the record has no text, or not one of image and sound.
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        media = [part for part in (value.image, value.audio) if part is not None]
        if len(media) != 1:
            raise ValueError(
                "judge_pair takes a record with text and either an image or a sound; it has "
                f"{len(media)} of the two"
            )
        found = self.judge(media[0], value.value(Modality.TEXT), params["seed"])
        return to_json(found.model_dump())

    def check(self, minimum: int) -> Check:
        """Give a check for a :class:`~evalsuite.generators.combine.Chain`.

        Parameters
        ----------
        minimum : int
            What each hop and the chain's input must score together at least.
        """

        def look(hops: Sequence[Hop]) -> str | None:
            found = self.judge(hops[0].value, hops[-1].value)
            if found.score >= minimum:
                return None
            return f"{self.model} scores it {found.score} of 10, below {minimum}: {found.reason}"

        return look


@register
class GenerateImage(_Asked):
    """Make an image from a text (``/v1/images/generations``).

    Parameters
    ----------
    model : str
        By the name that the server lists.
    size : str
        ``512x512``; what a model offers differs.
    style : str
        Words that are put before the text.
    send_seed : bool
        Whether the request has a ``seed``: it is not in OpenAI's own protocol, but most local
        servers take it, and some refuse what they do not know.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If the size is not two numbers.
    """

    name: ClassVar[str] = "generate_image"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(
        self,
        model: str,
        size: str = "512x512",
        style: str = "",
        send_seed: bool = True,
        url: str | None = None,
    ) -> None:
        _check_size(size)
        super().__init__(model, url, {"size": size, "style": style, "send_seed": send_seed})

    def apply(self, value: str, params: Params) -> Image.Image:
        """Ask for the image.

        Raises
        ------
        Rejected
            If no image came.
        """
        own = self._settings
        body: Params = {
            "model": self.model,
            "prompt": f"{own['style']} {value}".strip(),
            "n": 1,
            "size": own["size"],
            "response_format": "b64_json",
        }
        if own["send_seed"]:
            body["seed"] = params["seed"]
        return self._client().fetch(Request("/images/generations", body, draw=params), _image_of)


@register
class EditImage(_Asked):
    """Change an image as words say (``/v1/images/edits``).

    Parameters
    ----------
    model : str
        By the name that the server lists.
    instruction : str
        What to change.
    size : str, optional
        Of the result; by default the server's choice.
    send_seed : bool
        Whether the request has a ``seed`` (see :class:`GenerateImage`).
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If the size is not two numbers, or there is no instruction.
    """

    name: ClassVar[str] = "edit_image"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(
        self,
        model: str,
        instruction: str,
        size: str | None = None,
        send_seed: bool = True,
        url: str | None = None,
    ) -> None:
        if not instruction.strip():
            raise ValueError("the instruction says what to change: it is empty")
        if size is not None:
            _check_size(size)
        own = {"instruction": instruction, "size": size, "send_seed": send_seed}
        super().__init__(model, url, own)

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Ask for the image.

        Raises
        ------
        Rejected
            If no image came.
        """
        own = self._settings
        body: Params = {
            "model": self.model,
            "prompt": own["instruction"],
            "n": 1,
            "response_format": "b64_json",
            "image": {"$file": 0},
        }
        if own["size"] is not None:
            body["size"] = own["size"]
        if own["send_seed"]:
            body["seed"] = params["seed"]
        request = Request("/images/edits", body, (image_media(value),), draw=params, multipart=True)
        return self._client().fetch(request, _image_of)


@register
class SpeakEndpoint(_Asked):
    """Say a text (``/v1/audio/speech``).

    Parameters
    ----------
    model : str
        By the name that the server lists.
    voice : str or list of str
        By the server's names; of several, one is drawn for each item.
    speed : float
        1 is the voice's own.
    url : str, optional
        The server; by default the session's.

    Raises
    ------
    ValueError
        If there is no voice, or the speed is not within [0.25, 4].
    """

    name: ClassVar[str] = "speak_endpoint"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.TEXT
    output: ClassVar[Modality] = Modality.AUDIO

    def __init__(
        self,
        model: str,
        voice: str | list[str],
        speed: float = 1.0,
        url: str | None = None,
    ) -> None:
        voices = [voice] if isinstance(voice, str) else list(voice)
        if not voices or not 0.25 <= speed <= 4:
            raise ValueError(
                f"need a voice, and a speed within [0.25, 4], got {voices} and {speed}"
            )
        super().__init__(model, url, {"voice": voices, "speed": float(speed)})

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the voice."""
        voices = self._settings["voice"]
        return {**super().sample_params(rng), "voice": voices[int(rng.integers(len(voices)))]}

    def apply(self, value: str, params: Params) -> Audio:
        """Ask for the sound.

        Raises
        ------
        Rejected
            If no readable sound came.
        """
        body: Params = {
            "model": self.model,
            "input": value,
            "voice": params["voice"],
            "speed": self._settings["speed"],
            "response_format": "wav",
        }
        return self._client().fetch(Request(SPEECH, body, draw=params), _audio_of)


@register
class TranscribeEndpoint(_Asked):
    """Write down what is said (``/v1/audio/transcriptions``).

    Parameters
    ----------
    model : str
        By the name that the server lists.
    language : str, optional
        ISO 639-1, ``en``; by default the model finds it.
    url : str, optional
        The server; by default the session's.
    """

    name: ClassVar[str] = "transcribe_endpoint"
    version: ClassVar[int] = 1
    input: ClassVar[Modality] = Modality.AUDIO
    output: ClassVar[Modality] = Modality.TEXT

    def __init__(self, model: str, language: str | None = None, url: str | None = None) -> None:
        super().__init__(model, url, {"language": language})

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: Audio, params: Params) -> str:  # noqa: ARG002 - the protocol's
        """Ask for the transcript; silence may have none.

        Raises
        ------
        Rejected
            If no transcript came.
        """
        body: Params = {
            "model": self.model,
            "response_format": "json",
            "temperature": 0,
            "file": {"$file": 0},
        }
        if self._settings["language"] is not None:
            body["language"] = self._settings["language"]
        request = Request("/audio/transcriptions", body, (audio_media(value),), multipart=True)
        return self._client().fetch(request, _transcript_of)


def _check_size(size: str) -> None:
    width, _, height = size.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ValueError(f"the size is width x height, as in 512x512; got {size!r}")


def _image_of(body: bytes) -> Image.Image:
    from ...data import BadSample, decode_image

    answer = json.loads(body)
    try:
        data = base64.b64decode(answer["data"][0]["b64_json"], validate=True)
        return decode_image(data).pixels
    except (KeyError, IndexError, TypeError) as error:
        # A URL in its place is not fetched: that would be a request to wherever the server says.
        raise Rejected(f"the answer has no image in b64_json: {error!r}") from error
    except (binascii.Error, BadSample, ValueError) as error:
        raise Rejected(f"the image that came cannot be read: {error}") from error


def _audio_of(body: bytes) -> Audio:
    from ...data import BadSample
    from ...data.audio import decode_audio

    try:
        decoded = decode_audio(body)
        return Audio(decoded.native, decoded.source_rate)
    except (BadSample, ValueError) as error:
        raise Rejected(f"the sound that came cannot be read: {error}") from error


def _transcript_of(body: bytes) -> str:
    answer = json.loads(body)
    text = answer.get("text") if isinstance(answer, dict) else None
    if not isinstance(text, str):
        raise Rejected("the answer has no transcript under 'text'")
    return text.strip()
