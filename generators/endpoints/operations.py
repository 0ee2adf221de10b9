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
from typing import Any, ClassVar, TypeVar

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

_Answer = TypeVar("_Answer", bound=BaseModel)
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


class Asked:
    """What the operations of an endpoint have in common: a model, a server, a seed for each item.

    Parameters
    ----------
    model : str
        By the name that the server lists under ``/v1/models``.
    url : str or None
        The server; None for the session's.
    settings : dict
        The other arguments.

    Raises
    ------
    ValueError
        If the model has no name.
    """

    version: ClassVar[int] = 1

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


class Chats(Asked):
    """Operations that ask a language model.

    Parameters
    ----------
    model, url
        As for :class:`Asked`.
    temperature : float
        Sent with every request, 0 to 2.
    max_tokens : int
        Likewise, 1 or more; an answer that is cut off there is dropped.
    settings : dict
        The other arguments.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    output: ClassVar[Modality] = Modality.TEXT
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

    def ask(self, seed: int, media: Sequence[Media] = (), **values: object) -> str:
        """Fill in the prompt and give the model's words.

        Raises
        ------
        Dropped
            If the model refused or was cut off.
        Rejected
            If no usable answer came.
        """
        return self._client().chat(self._request(seed, media, values))

    def ask_for(
        self, kind: type[_Answer], seed: int, media: Sequence[Media] = (), **values: object
    ) -> _Answer:
        """Fill in the prompt and give an answer of this structure; errors are those of ``ask``."""
        return self._client().structured(self._request(seed, media, values), kind)

    def _request(self, seed: int, media: Sequence[Media], values: Mapping[str, object]) -> Request:
        shown = [_shown(k, medium) for k, medium in enumerate(media)]
        body: Params = {
            "model": self.model,
            "messages": self.prompt.messages(*shown, **values),
            "seed": seed,
            **self._shared,
        }
        return Request(CHAT, body, tuple(media), self.prompt.sha256)


class Draws(Asked):
    """Operations that get an image from an endpoint.

    Parameters
    ----------
    model, url
        As for :class:`Asked`.
    size : str or None
        ``512x512``; what a model offers differs. None leaves it to the server.
    send_seed : bool
        Whether the request has a ``seed``: it is not in OpenAI's own protocol, but most local
        servers take it, and some refuse what they do not know.
    settings : dict
        The other arguments.

    Raises
    ------
    ValueError
        If the size is not two numbers.
    """

    output: ClassVar[Modality] = Modality.IMAGE

    def __init__(
        self, model: str, url: str | None, size: str | None, send_seed: bool, settings: Params
    ) -> None:
        width, _, height = ("1x1" if size is None else size).partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise ValueError(f"the size is width x height, as in 512x512; got {size!r}")
        super().__init__(model, url, {**settings, "size": size, "send_seed": send_seed})

    def draw(
        self, path: str, prompt: str, params: Params, edited: Media | None = None
    ) -> Image.Image:
        """Ask for one image, made anew or of another.

        Raises
        ------
        Rejected
            If no image came.
        """
        body: Params = {
            "model": self.model,
            "prompt": prompt,
            "n": 1,
            "response_format": "b64_json",
        }
        if self._settings["size"] is not None:
            body["size"] = self._settings["size"]
        if self._settings["send_seed"]:
            body["seed"] = params["seed"]
        if edited is None:
            return self._client().fetch(Request(path, body, draw=params), _image_of)
        body["image"] = {"$file": 0}
        request = Request(path, body, (edited,), draw=params, multipart=True)
        return self._client().fetch(request, _image_of)


def _shown(place: int, medium: Media) -> Params:
    if medium.mime == "image/png":
        return {"type": "image_url", "image_url": {"url": {"$uri": place}}}
    return {"type": "input_audio", "input_audio": {"data": {"$base64": place}, "format": "wav"}}


def _sentence(style: str) -> str:
    """Give the user's own words on style as one more sentence of the task."""
    return f" {style.strip().rstrip('.')}." if style.strip() else ""


@register
class Caption(Chats):
    """Describe an image in words; the model must take images.

    Parameters
    ----------
    language : str
        Of the caption, in English: ``English``, ``Japanese``.
    max_words : int
        What the model is asked to keep to; it is not cut.
    style : str
        One more sentence for the model, of your own words.
    model, temperature, max_tokens, url
        As for :class:`Chats`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "caption"
    input: ClassVar[Modality] = Modality.IMAGE
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
        """Ask for the caption. Errors are those of :meth:`Chats.ask`."""
        own = self._settings
        return self.ask(
            params["seed"],
            [image_media(value)],
            language=own["language"],
            max_words=own["max_words"],
            style=_sentence(own["style"]),
        )


@register
class Paraphrase(Chats):
    """Say a text in other words.

    Whether the meaning is kept is the model's affair: check it (:class:`JudgePair`, or a metric).

    Parameters
    ----------
    language : str
        Of the result; by default that of the text.
    style : str
        One more sentence for the model, of your own words.
    model, temperature, max_tokens, url
        As for :class:`Chats`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "paraphrase"
    input: ClassVar[Modality] = Modality.TEXT
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
        """Ask for the paraphrase. Errors are those of :meth:`Chats.ask`."""
        own = self._settings
        return self.ask(
            params["seed"],
            text=as_data(value),
            language=own["language"],
            style=_sentence(own["style"]),
        )


@register
class BackTranslate(Chats):
    """Translate a text into another language and back.

    Parameters
    ----------
    language : str
        The language of the texts, in English: ``English``, ``Japanese``.
    through : str or list of str
        The other language; of several, one is drawn for each item.
    model, temperature, max_tokens, url
        As for :class:`Chats`.

    Raises
    ------
    ValueError
        If an argument is out of range, or the languages are the same.
    """

    name: ClassVar[str] = "back_translate"
    input: ClassVar[Modality] = Modality.TEXT
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
        """Ask for both translations. Errors are those of :meth:`Chats.ask`."""
        for language in (params["through"], self._settings["language"]):
            value = self.ask(params["seed"], text=as_data(value), language=language)
        return value


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1)


@register
class WriteLabelled(Chats):
    """Write a new text of an item's class, after a few real ones.

    The item's own text is the first example; the others are drawn from its split, whatever their
    class, and are shown with their labels. All are named as parents of what is written, so it can
    never land in another split than they are in.

    Parameters
    ----------
    shots : int
        Examples that are shown, the item's own included.
    style : str
        One more sentence for the model, of your own words.
    operation : Operation, or its description, optional
        From text to text: what each example goes through before it is sent, such as
        :class:`~evalsuite.generators.privacy.text.ReplacePII`.
    model, temperature, max_tokens, url
        As for :class:`Chats`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    RecipeError
        If the operation is not from text to text.
    """

    name: ClassVar[str] = "write_labelled"
    input: ClassVar[Modality] = Modality.RECORD
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
        answer = self.ask_for(
            _Written,
            params["seed"],
            examples="\n\n".join(shown),
            label=as_data(str(label)),
            style=_sentence(self._settings["style"]),
        )
        written = answer.text.strip()
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
class JudgePair(Chats):
    """Score a pair: an image or a sound with its text, or any two of them.

    A model's judgement is a measurement with its own bias and noise, and the model is often the one
    that made the sample: compare it with human ratings before a gate depends on it.

    Parameters
    ----------
    question : str
        What is scored from 0 to 10.
    model, temperature, max_tokens, url
        As for :class:`Chats`.

    Raises
    ------
    ValueError
        If an argument is out of range.
    """

    name: ClassVar[str] = "judge_pair"
    input: ClassVar[Modality] = Modality.RECORD
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
        """Score two values. Errors are those of :meth:`Chats.ask`."""
        media: list[Media] = []

        def place(value: Image.Image | Audio | str) -> str:
            if isinstance(value, str):
                return as_data(value)
            is_sound = isinstance(value, Audio)
            media.append(audio_media(value) if isinstance(value, Audio) else image_media(value))
            kind = "recording" if is_sound else "image"
            return f"{kind} {len(media)} of those above"

        # Both are placed before the media are sent: placing adds to them.
        shown = {"first": place(first), "second": place(second)}
        return self.ask_for(Judgement, seed, media, question=self._settings["question"], **shown)

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
class GenerateImage(Draws):
    """Make an image from a text (``/v1/images/generations``).

    Parameters
    ----------
    style : str
        Words that are put before the text.
    model, size, send_seed, url
        As for :class:`Draws`.

    Raises
    ------
    ValueError
        As for :class:`Draws`.
    """

    name: ClassVar[str] = "generate_image"
    input: ClassVar[Modality] = Modality.TEXT

    def __init__(
        self,
        model: str,
        size: str = "512x512",
        style: str = "",
        send_seed: bool = True,
        url: str | None = None,
    ) -> None:
        super().__init__(model, url, size, send_seed, {"style": style})

    def apply(self, value: str, params: Params) -> Image.Image:
        """Ask for the image. Errors are those of :meth:`Draws.draw`."""
        prompt = f"{self._settings['style']} {value}".strip()
        return self.draw("/images/generations", prompt, params)


@register
class EditImage(Draws):
    """Change an image as words say (``/v1/images/edits``).

    Parameters
    ----------
    instruction : str
        What to change.
    model, size, send_seed, url
        As for :class:`Draws`.

    Raises
    ------
    ValueError
        If the size is not two numbers, or there is no instruction.
    """

    name: ClassVar[str] = "edit_image"
    input: ClassVar[Modality] = Modality.IMAGE

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
        super().__init__(model, url, size, send_seed, {"instruction": instruction})

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Ask for the image. Errors are those of :meth:`Draws.draw`."""
        return self.draw(
            "/images/edits", self._settings["instruction"], params, edited=image_media(value)
        )


@register
class SpeakEndpoint(Asked):
    """Say a text (``/v1/audio/speech``).

    Parameters
    ----------
    voice : str or list of str
        By the server's names; of several, one is drawn for each item.
    speed : float
        1 is the voice's own.
    model, url
        As for :class:`Asked`.

    Raises
    ------
    ValueError
        If there is no voice, or the speed is not within [0.25, 4].
    """

    name: ClassVar[str] = "speak_endpoint"
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
class TranscribeEndpoint(Asked):
    """Write down what is said (``/v1/audio/transcriptions``).

    Parameters
    ----------
    language : str, optional
        ISO 639-1, ``en``; by default the model finds it.
    model, url
        As for :class:`Asked`.
    """

    name: ClassVar[str] = "transcribe_endpoint"
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
