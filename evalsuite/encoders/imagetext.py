"""Models that put images and texts in one space: ConSE, which needs no network, and open_clip.

The score of a pair is the dot product of its two rows. What a score is worth shows only on the
scale of real and shuffled real pairs (:mod:`evalsuite.metrics.crossmodal.alignment`).
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from . import lite0
from .base import EncoderInfo, Features, ImageEncoder, Model, code_version
from .registry import DEFAULT as IMAGE_MODEL
from .registry import load_encoder, load_open_clip
from .text import DEFAULT as TEXT_MODEL
from .text import load_text_encoder

if TYPE_CHECKING:
    from PIL.Image import Image

    from .cache import FeatureCache
    from .text import TextModel

DEFAULT = "conse"
CLASSES = 10
"""Most probable classes that make an image's embedding: T in the paper."""
_BATCH = 16
_MAX_CHARACTERS = 20_000  # far over what 77 tokens hold; it bounds the time for a 10 MB text
_CODE = code_version("evalsuite.encoders.imagetext")


class ImageText(Model):
    """Gives images and texts rows in one space.

    Attributes
    ----------
    info : EncoderInfo
        The record that goes into the report, of both towers.
    image_encoder : ImageEncoder
        What sees the images. Where its features are known already, :meth:`image_rows` makes the
        rows of them, without another forward pass.
    """

    def __init__(self, info: EncoderInfo, image_encoder: ImageEncoder) -> None:
        super().__init__(info)
        self.image_encoder = image_encoder

    @abstractmethod
    def _image_rows(self, features: Features) -> Features:
        """Bring features of ``image_encoder`` into the common space."""

    @abstractmethod
    def _text_rows(self, texts: Sequence[str]) -> Features:
        """Bring texts into the common space."""

    def image_rows(self, features: Features) -> Features:
        """Bring what ``image_encoder`` gave into the common space.

        Parameters
        ----------
        features : ndarray of float32, shape (n, image_encoder.info.dim)

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Rows of length 1; each depends on its own features only.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or a row has no direction.
        """
        if len(features) == 0:
            return np.empty((0, self.info.dim), dtype=np.float32)
        self.load()
        return self._unit(self._image_rows(features))

    def image_features(self, pictures: Sequence[Image]) -> Features:
        """Embed decoded images (mode RGB or L).

        Parameters
        ----------
        pictures : sequence of PIL images

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Rows of length 1.

        Raises
        ------
        ModelError
            As :meth:`image_rows`.
        """
        if not pictures:
            return np.empty((0, self.info.dim), dtype=np.float32)
        prepared = np.stack([self.image_encoder.prepare(picture) for picture in pictures])
        return self.image_rows(self.image_encoder.forward_all(prepared))

    def text_features(self, texts: Sequence[str]) -> Features:
        """Embed texts.

        Parameters
        ----------
        texts : sequence of str
            Cut to what the model reads: 256 tokens for ConSE, mostly 77 for open_clip.

        Returns
        -------
        ndarray of float32, shape (n, dim)
            Rows of length 1; each depends on its own text only.

        Raises
        ------
        ModelError
            As :meth:`image_rows`.
        """
        if not texts:
            return np.empty((0, self.info.dim), dtype=np.float32)
        self.load()
        return self._unit(self._text_rows(texts))

    def _unit(self, rows: Features) -> Features:
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        if not (np.isfinite(length) & (length > 0)).all():
            raise ModelError(
                f"{self.info.id} gave a row without a direction: the weights "
                f"({self.info.weights_source}) are damaged or not those of this model"
            )
        unit: Features = (rows / length).astype(np.float32)
        return unit


def load_image_text(
    spec: str = DEFAULT,
    *,
    device: str = "auto",
    allow_download: bool = False,
    cache: FeatureCache | None = None,
) -> ImageText:
    """Find a model of images and texts; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``conse``: class probabilities of the embedded EfficientNet-Lite0 over MiniLM embeddings of
        the class names. It needs no network, and knows the 1000 things of ImageNet, by English
        names. ``open_clip/<architecture>[@tag or path]``: a contrastive model, whose scores are
        CLIPScore's cosines.
    device : str
        ``auto`` (a CUDA GPU if there is one), or whatever torch calls it.
    allow_download : bool
        Whether weights that are not at hand may come from the hub.
    cache : FeatureCache, optional
        Where to keep what is derived from a model once, as the embeddings of the class names.

    Returns
    -------
    ImageText

    Raises
    ------
    ModelError
        If the spec names no model, the weights are not at hand or not the recorded ones, or a
        library is missing. The message says what to do.
    """
    if spec == DEFAULT:
        return _load_conse(device, cache)
    if spec.startswith("open_clip/"):
        image, both = load_open_clip(
            spec, device=device, allow_download=allow_download, cache=cache
        )
        return _OpenClip(image, both)
    raise ModelError(
        f"unknown image-text model {spec!r}: use {DEFAULT!r} or "
        "'open_clip/<architecture>[@tag or path]'"
    )


# --- ConSE ----------------------------------------------------------------------------------------


class _ConSE(ImageText):
    """Convex combination of semantic embeddings (Norouzi et al. 2014, arXiv:1312.5650).

    An image is the mean of its most probable classes' name embeddings, weighted by probability. The
    mean of all names is taken from both sides first: it is common to every text of this encoder and
    says nothing about a pair.
    """

    def __init__(
        self,
        info: EncoderInfo,
        image: ImageEncoder,
        text: TextModel,
        names: list[str],
        cache: FeatureCache | None,
    ) -> None:
        super().__init__(info, image)
        self._text = text
        self._class_names = names
        self._cache = cache

    def _load(self) -> None:
        path = Path(str(distribution(lite0.PACKAGE).locate_file(lite0.FILE)))
        weights = lite0.read_weights(path)
        self._kernel, self._bias = (weights[f"_fc.{part}"].numpy() for part in ("weight", "bias"))

        def embed() -> bytes:
            return self._text.embed(self._class_names).tobytes()

        made = self._cache.memo("class_names", self.info.key, embed) if self._cache else embed()
        rows = np.frombuffer(made, dtype=np.float32).reshape(-1, self.info.dim)
        self._mean = rows.mean(axis=0)
        self._names = rows - self._mean

    def _image_rows(self, features: Features) -> Features:
        out = np.empty((len(features), self.info.dim), dtype=np.float32)
        # One at a time: the last bits of a product of matrices depend on how many rows it has.
        for row, pooled in zip(out, features, strict=True):
            logits = (self._kernel @ pooled + self._bias).astype(np.float64)
            best = np.argsort(-logits, kind="stable")[:CLASSES]
            share = np.exp(logits[best] - logits[best[0]])
            row[:] = (share / share.sum()) @ self._names[best]
        return out

    def _text_rows(self, texts: Sequence[str]) -> Features:
        rows: Features = self._text.embed(texts) - self._mean
        return rows


def class_names() -> list[str]:
    """Give the names of ImageNet's 1000 classes, in the order of the classifier's outputs.

    They are those that timm brings, all synonyms of a class; its files are read without importing
    it, which would take seconds.

    Raises
    ------
    ModelError
        If timm is not installed, or has no such files any more.
    """
    timm = importlib.util.find_spec("timm")
    if timm is None or timm.origin is None:
        raise ModelError(
            f"{DEFAULT!r} takes the names of classes from timm: pip install 'evalsuite[models]' "
            "(or timm)"
        )
    folder = Path(timm.origin).parent / "data" / "_info"
    try:
        order = (folder / "imagenet_synsets.txt").read_text("utf-8").split()
        lines = (folder / "imagenet_synset_to_lemma.txt").read_text("utf-8").splitlines()
    except OSError as error:
        raise ModelError(
            f"timm {version('timm')} has no list of ImageNet's classes ({error}): use the version "
            "that evalsuite names"
        ) from error
    names = dict(line.split("\t", 1) for line in lines)
    return [names[synset] for synset in order]


def _load_conse(device: str, cache: FeatureCache | None) -> ImageText:
    image = load_encoder(IMAGE_MODEL, device=device, cache=cache)
    text = load_text_encoder(TEXT_MODEL, device=device, cache=cache)
    names = class_names()
    info = EncoderInfo(
        id=DEFAULT,
        modality="image+text",
        dim=text.info.dim,
        weights_sha256=hashlib.sha256(
            f"{image.info.weights_sha256} {text.info.weights_sha256}".encode()
        ).hexdigest(),
        weights_source=f"{image.info.weights_source}; {text.info.weights_source}",
        backend=f"{image.info.backend}; {text.info.backend}",
        preprocessing={
            "image": image.info.key,
            "text": text.info.key,
            "class names": f"ImageNet's, {hashlib.sha256(repr(names).encode()).hexdigest()}",
            "classes": CLASSES,
            "score": "cosine, the mean of the class names taken from both sides; not a CLIPScore",
        },
        code_version=_CODE,
    )
    return _ConSE(info, image, text, names, cache)


# --- open_clip ------------------------------------------------------------------------------------


class _OpenClip(ImageText):
    """A contrastive model of open_clip: its cosines, times 100, are CLIPScore."""

    def __init__(self, image: ImageEncoder, both: Callable[[], Any]) -> None:
        info = replace(
            image.info,
            modality="image+text",
            preprocessing={
                "image": image.info.preprocessing,
                "text": f"open_clip's own tokenizer, at most {_MAX_CHARACTERS} characters",
                "score": "cosine; times 100 CLIPScore",
            },
            code_version=f"{image.info.code_version} {_CODE}",
        )
        super().__init__(info, image)
        self._both = both

    def _load(self) -> None:
        import open_clip

        name = self.info.id.removeprefix("open_clip/").partition("@")[0]
        self._model = self._both()
        self._device = next(self._model.parameters()).device
        try:
            self._tokenizer = open_clip.get_tokenizer(name)
        except Exception as error:  # some are on the hub, and huggingface_hub has its own
            raise ModelError(f"the tokenizer of {name} is not at hand: {error}") from error

    def _image_rows(self, features: Features) -> Features:
        return features

    def _text_rows(self, texts: Sequence[str]) -> Features:
        import torch

        clean = [t[:_MAX_CHARACTERS].encode("utf-8", "replace").decode() for t in texts]
        rows = []
        for start in range(0, len(clean), _BATCH):
            part = clean[start : start + _BATCH]
            # Always a full batch: a row must not depend on which other texts there are.
            tokens = self._tokenizer(part + [part[0]] * (_BATCH - len(part)))
            with torch.inference_mode():
                y = self._model.encode_text(tokens.to(self._device), normalize=False)
            rows.append(y[: len(part)].to(torch.float32).cpu().numpy())
        out: Features = np.concatenate(rows)
        return out
