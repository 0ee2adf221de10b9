"""Image generation, editing and captioning by models in local folders.

One image at a time, on noise from a generator of the item's own seed, so that an image depends on
nothing but its record. Replays are equal to the byte with the same versions of torch, diffusers and
transformers, the same kind of processor and number of threads; a GPU gives other bytes than a
processor.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib import import_module
from threading import Lock
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from ...errors import ModelError
from ..effect import Effect, Span
from ..protocol import Refused
from ..registry import suggestion
from ..values import Modality, Params
from .folder import Kind, Loaded, ModelFolder, dtype_of, loading, model_folder, once

Device: TypeAlias = Literal["cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Task: TypeAlias = Literal["Text2Image", "Image2Image", "Inpainting"]

_TORCH_SEEDS = 2**63
_TORCHS_STATE = Lock()


@dataclass(frozen=True)
class _Local(Effect):
    """A model in a folder, on a device."""

    kind: ClassVar[Kind]
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers", "diffusers")
    seeded: ClassVar[bool] = True

    model: str
    model_sha256: str | None = None
    device: Device = "cpu"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Check the settings and the folder; the model itself is loaded when it is needed."""
        super().__post_init__()
        for name, given, known in (
            ("device", self.device, get_args(Device)),
            ("precision", self.precision, get_args(Precision)),
        ):
            if given not in known:
                raise ValueError(f"unknown {name} {given!r}{suggestion(given, known)}")
        found = model_folder(self.model, self.kind, self.model_sha256)
        object.__setattr__(self, "model_sha256", found.sha256)

    @property
    def _folder(self) -> ModelFolder:
        return model_folder(self.model, self.kind, self.model_sha256)


@dataclass(frozen=True)
class _Pipeline(_Local):
    kind: ClassVar[Kind] = "pipeline"
    task: ClassVar[Task]
    output: ClassVar[Modality] = Modality.IMAGE

    negative_prompt: str = ""
    steps: int = 30
    size: int | None = None

    def __post_init__(self) -> None:
        """Check the settings and the folder."""
        super().__post_init__()
        if self.steps < 1 or (self.size is not None and self.size < 8):
            raise ValueError(
                f"need steps of 1 or more and size of 8 or more, got {self.steps} and {self.size}"
            )

    def _draw(self, params: Params, **inputs: Any) -> Image.Image:
        """Run the pipeline once.

        Raises
        ------
        Refused
            If its safety checker stopped the image.
        ValueError
            If what came out is not finite.
        """
        import torch

        loaded = _load_pipeline(self.task, self._folder, self.device, self.precision)
        takes = inspect.signature(loaded.model.__call__).parameters
        if self.negative_prompt:
            inputs["negative_prompt"] = self.negative_prompt
        if lacking := sorted(set(inputs) - set(takes)):
            raise ModelError(
                f"{type(loaded.model).__name__} in {self.model} does not take {lacking[0]}: leave "
                "it out, or use another model"
            )
        with loaded.lock, torch.inference_mode():
            made = loaded.model(
                **inputs,
                num_inference_steps=self.steps,
                guidance_scale=params["guidance"],
                # On the processor whatever the device is: the same noise everywhere.
                generator=torch.Generator("cpu").manual_seed(params["seed"]),
                output_type="np",
            )
        if any(getattr(made, "nsfw_content_detected", None) or ()):
            raise Refused("the model's safety checker stopped the image")
        pixels = np.asarray(made.images[0], np.float64)
        if not np.isfinite(pixels).all():
            raise ValueError(
                f"the model in {self.model} gave values that are not finite: float16 is too "
                "coarse for some models; try precision: float32"
            )
        return Image.fromarray(np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8))

    def _working(self, size: tuple[int, int]) -> tuple[int, int]:
        """Give the size that the model works at: its own for the longer side, whole latents."""
        loaded = _load_pipeline(self.task, self._folder, self.device, self.precision)
        unit = int(loaded.model.vae_scale_factor)
        scale = (self.size or native_size(loaded.model)) / max(size)
        width, height = (max(unit, round(side * scale / unit) * unit) for side in size)
        return width, height


@dataclass(frozen=True)
class TextToImage(_Pipeline):
    """Draw what a text says, by a diffusers pipeline in a folder.

    Parameters
    ----------
    model : str
        The pipeline's folder, as ``save_pretrained`` writes it.
    model_sha256 : str, optional
        The hash that its files must have; records say it.
    device : {"cpu", "cuda"}
        Where it runs. The noise is drawn on the processor.
    precision : {"float32", "bfloat16", "float16"}
        Of weights and arithmetic.
    negative_prompt : str
        What is not wanted.
    steps : int
        Of denoising.
    size : int, optional
        Side of the square image, in pixels: a multiple of what the model can draw. By default what
        it was trained at.
    style : str
        Words that follow the text: ``electroluminescence photograph, grey``.
    guidance : float or [low, high]
        Classifier-free guidance: how closely the text is followed. 1 is without.
    """

    name: ClassVar[str] = "text_to_image"
    input: ClassVar[Modality] = Modality.TEXT
    task: ClassVar[Task] = "Text2Image"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"guidance": (0, 50)}

    style: str = ""
    guidance: Span = 7.5

    def apply(self, value: str, params: Params) -> Image.Image:
        """Draw it.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or does not take a setting.
        Refused
            If its safety checker stopped the image.
        """
        width, height = self._working((1, 1))
        prompt = f"{value}, {self.style}" if self.style else value
        return self._draw(params, prompt=prompt, width=width, height=height)


@dataclass(frozen=True)
class _Prompted(_Pipeline):
    """A pipeline that changes an image by a prompt; the image keeps its size and mode."""

    input: ClassVar[Modality] = Modality.IMAGE

    prompt: str | list[str] = ""

    def __post_init__(self) -> None:
        """Check the settings and the folder."""
        super().__post_init__()
        if not self._prompts or not all(isinstance(p, str) for p in self._prompts):
            raise ValueError(f"the prompt is a text, or several; got {self.prompt!r}")

    @property
    def _prompts(self) -> Sequence[str]:
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt

    @property
    def prompt_sha256(self) -> str:
        """Hash of the prompts."""
        return sha256("\n".join(self._prompts).encode()).hexdigest()

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the prompt, the numbers and the seed."""
        prompt = self._prompts[int(rng.integers(len(self._prompts)))]
        return {**super().sample_params(rng), "prompt": prompt}


def _like(made: Image.Image, given: Image.Image) -> Image.Image:
    return made.resize(given.size, Image.Resampling.LANCZOS).convert(given.mode)


def _checked_mode(image: Image.Image, name: str) -> Image.Image:
    if image.mode not in {"L", "RGB"}:
        raise ValueError(f"{name} takes an image of mode L or RGB, got {image.mode}")
    return image.convert("RGB")


@dataclass(frozen=True)
class ImageToImage(_Prompted):
    """Draw an image anew from a noisy version of it, by a diffusers pipeline in a folder.

    Parameters
    ----------
    model, model_sha256, device, precision, negative_prompt, steps
        As :class:`TextToImage`.
    size : int, optional
        Longer side that the model works at; the result has the size of the original.
    prompt : str or list of str
        What is to be seen; of several, one is drawn for each item.
    guidance : float or [low, high]
        How closely the prompt is followed.
    strength : float or [low, high]
        How much noise is added, from 0 to 1: at 1 the original has no part any more. At least one
        of the steps must be left: ``steps`` times strength is 1 or more.
    """

    name: ClassVar[str] = "image_to_image"
    task: ClassVar[Task] = "Image2Image"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"guidance": (0, 50), "strength": (0.01, 1)}

    guidance: Span = 7.5
    strength: Span = (0.3, 0.6)

    def __post_init__(self) -> None:
        """Check the settings and the folder."""
        super().__post_init__()
        least = min(self.strength) if isinstance(self.strength, Sequence) else self.strength
        if int(self.steps * least) < 1:
            raise ValueError(
                f"{self.steps} steps at a strength of {least:g} are none: raise steps or strength"
            )

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Draw it anew.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or does not take a setting.
        Refused
            If its safety checker stopped the image.
        ValueError
            If the image is neither ``L`` nor ``RGB``.
        """
        colour = _checked_mode(value, self.name)
        small = colour.resize(self._working(value.size), Image.Resampling.LANCZOS)
        made = self._draw(params, prompt=params["prompt"], image=small, strength=params["strength"])
        return _like(made, value)


@dataclass(frozen=True)
class Inpaint(_Prompted):
    """Draw a rectangle of an image anew, by a diffusers pipeline in a folder; the rest stays.

    Parameters
    ----------
    model, model_sha256, device, precision, negative_prompt, steps
        As :class:`TextToImage`.
    size : int, optional
        Longer side that the model works at; the result has the size of the original.
    prompt : str or list of str
        What is to be seen in the rectangle; of several, one is drawn for each item.
    guidance : float or [low, high]
        How closely the prompt is followed.
    share : float or [low, high]
        Of the image's area that the rectangle has. Its place and its form (from twice as high to
        twice as wide, in proportion to the image) are drawn.
    """

    name: ClassVar[str] = "inpaint"
    task: ClassVar[Task] = "Inpainting"
    limits: ClassVar[dict[str, tuple[float, float]]] = {"guidance": (0, 50), "share": (0.01, 1)}

    guidance: Span = 7.5
    share: Span = (0.05, 0.2)

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the rectangle, as parts of width and height, and the rest."""
        drawn = super().sample_params(rng)
        form = math.exp(rng.uniform(-math.log(2), math.log(2)))
        width = min(1.0, math.sqrt(drawn["share"] * form))
        height = min(1.0, drawn["share"] / width)
        left, top = rng.random() * (1 - width), rng.random() * (1 - height)
        return {**drawn, "box": [left, top, left + width, top + height]}

    def apply(self, value: Image.Image, params: Params) -> Image.Image:
        """Draw the rectangle anew.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or does not take a setting.
        Refused
            If its safety checker stopped the image.
        ValueError
            If the image is neither ``L`` nor ``RGB``.
        """
        colour = _checked_mode(value, self.name)
        left, top, right, bottom = params["box"]
        box = (
            math.floor(left * value.width),
            math.floor(top * value.height),
            math.ceil(right * value.width),
            math.ceil(bottom * value.height),
        )
        mask = Image.new("L", value.size)
        mask.paste(255, box)
        width, height = size = self._working(value.size)
        made = self._draw(
            params,
            prompt=params["prompt"],
            image=colour.resize(size, Image.Resampling.LANCZOS),
            mask_image=mask.resize(size, Image.Resampling.NEAREST),
            width=width,
            height=height,
        )
        return Image.composite(_like(made, value), value, mask)


@dataclass(frozen=True)
class ImageToText(_Local):
    """Describe an image in words, by a transformers model in a folder.

    Encoder-decoder captioners, BLIP, GIT and the like take the prompt as the beginning of the
    caption; models with a chat template are asked it, with the image.

    Parameters
    ----------
    model : str
        The model's folder, as ``save_pretrained`` writes it, with its processor.
    model_sha256 : str, optional
        The hash that its files must have; records say it.
    device : {"cpu", "cuda"}
        Where it runs.
    precision : {"float32", "bfloat16", "float16"}
        Of weights and arithmetic.
    prompt : str
        The question, or the beginning of the caption.
    max_tokens : int
        At most so many are added.
    beams : int
        Of the search, where the temperature is 0.
    temperature : float or [low, high]
        0 takes the likeliest words; above, words are drawn, so that variants differ.
    """

    name: ClassVar[str] = "image_to_text"
    input: ClassVar[Modality] = Modality.IMAGE
    output: ClassVar[Modality] = Modality.TEXT
    kind: ClassVar[Kind] = "model"
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    limits: ClassVar[dict[str, tuple[float, float]]] = {"temperature": (0, 2)}

    prompt: str = ""
    max_tokens: int = 40
    beams: int = 1
    temperature: Span = 0.0

    def __post_init__(self) -> None:
        """Check the settings and the folder."""
        super().__post_init__()
        if self.max_tokens < 1 or self.beams < 1:
            raise ValueError(
                f"need max_tokens and beams of 1 or more, got {self.max_tokens} and {self.beams}"
            )

    @property
    def prompt_sha256(self) -> str:
        """Hash of the prompt."""
        return sha256(self.prompt.encode()).hexdigest()

    def apply(self, value: Image.Image, params: Params) -> str:
        """Describe it.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or takes no prompt.
        ValueError
            If the image is neither ``L`` nor ``RGB``, or the caption is empty.
        """
        import torch

        image = _checked_mode(value, self.name)
        loaded = _load_captioner(self._folder, self.device, self.precision)
        given, asked = self._inputs(loaded, image)
        given = given.to(self.device, dtype_of(self.precision))
        if params["temperature"] > 0:
            how: Params = {"do_sample": True, "temperature": params["temperature"]}
        else:
            how = {"do_sample": False, "num_beams": self.beams}
        devices = [torch.cuda.current_device()] if self.device == "cuda" else []
        # transformers draws from torch's own state: it is lent to one caption at a time, and
        # given back as it was.
        with loaded.lock, _TORCHS_STATE, torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(params["seed"] % _TORCH_SEEDS)
            tokens = loaded.model.generate(**given, max_new_tokens=self.max_tokens, **how)
        words = loaded.processor["tokenizer"].decode(tokens[0, asked:], skip_special_tokens=True)
        said = " ".join(words.split())
        if not said:
            raise ValueError(f"the model in {self.model} gave an empty caption")
        return said

    def _inputs(self, loaded: Loaded, image: Image.Image) -> tuple[Any, int]:
        """Give what the model is asked, and how many tokens of its answer repeat the question."""
        joint, images = loaded.processor["joint"], loaded.processor["images"]
        if joint is None:
            if self.prompt:
                raise ModelError(
                    f"{type(loaded.model).__name__} in {self.model} takes no prompt: leave it out"
                )
            return images(images=image, return_tensors="pt"), 0
        if getattr(joint, "chat_template", None):
            content = [{"type": "image", "image": image}, {"type": "text", "text": self.prompt}]
            given = joint.apply_chat_template(
                [{"role": "user", "content": content}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
            return given, given["input_ids"].shape[1]
        if self.prompt:
            return joint(images=image, text=self.prompt, return_tensors="pt"), 0
        return joint(images=image, return_tensors="pt"), 0


def native_size(pipeline: Any) -> int:
    """Give the side of the images that a pipeline was trained at, in pixels."""
    network = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    latent = getattr(getattr(network, "config", None), "sample_size", None)
    if not isinstance(latent, int):
        raise ModelError(
            f"{type(pipeline).__name__} does not say what size it was trained at: give size="
        )
    return latent * int(pipeline.vae_scale_factor)


@once
def _load_pipeline(task: Task, folder: ModelFolder, device: str, precision: str) -> Loaded:
    with loading(folder):
        import diffusers

        kind: Any = getattr(diffusers, f"AutoPipelineFor{task}")
        pipeline = kind.from_pretrained(
            folder.path,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            dtype=dtype_of(precision),
        ).to(device)
        pipeline.set_progress_bar_config(disable=True)
    return Loaded(pipeline, None, Lock())


@once
def _load_captioner(folder: ModelFolder, device: str, precision: str) -> Loaded:
    with loading(folder):
        hub: Any = import_module("transformers")  # Any: its loaders are not typed
        only: Params = {"local_files_only": True, "trust_remote_code": False}
        model = hub.AutoModelForImageTextToText.from_pretrained(
            folder.path, use_safetensors=True, dtype=dtype_of(precision), **only
        )
        joint = hub.AutoProcessor.from_pretrained(folder.path, **only)
        # A captioner of two parts has no processor of both: what comes is its tokenizer.
        whole = hasattr(joint, "image_processor")
        processor = {
            "joint": joint if whole else None,
            "images": hub.AutoImageProcessor.from_pretrained(folder.path, **only),
            "tokenizer": hub.AutoTokenizer.from_pretrained(folder.path, **only),
        }
    return Loaded(model.to(device).eval(), processor, Lock())
