"""What models of sound and text are to the rest of evalsuite.

Importing this module costs nothing: no torch, no onnxruntime, no model.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .base import Model

if TYPE_CHECKING:
    from ..data.audio import DecodedAudio
    from ..metrics.image.attributes import Attribute
    from .base import Features

Item = TypeVar("Item")


class Embedder(Model, Generic[Item]):
    """Turns items into features, one row each, whatever the company they are in."""

    @abstractmethod
    def _embed(self, items: Sequence[Item]) -> Features:
        """Compute the rows; the model is loaded, and there is at least one item."""

    def embed(self, items: Sequence[Item]) -> Features:
        """Compute the features of items.

        Parameters
        ----------
        items : sequence
            Decoded recordings, or texts. A row does not depend on the other items.

        Returns
        -------
        ndarray of float32, shape (n, dim)

        Raises
        ------
        ModelError
            If the model cannot be loaded, or gives another shape or a value that is not finite.
        """
        if not items:
            return np.empty((0, self.info.dim), dtype=np.float32)
        self.load()
        features = self._embed(items)
        if features.shape != (len(items), self.info.dim):
            raise ModelError(
                f"{self.info.id} gave features of shape {features.shape}; "
                f"{(len(items), self.info.dim)} was expected"
            )
        if not np.isfinite(features).all():
            raise ModelError(
                f"{self.info.id} gave features that are not finite: the weights "
                f"({self.info.weights_source}) are damaged or not those of this model"
            )
        return features.astype(np.float32, copy=False)


class Scorer(Model, Generic[Item]):
    """Gives items scores with a meaning of their own: quality, share of speech.

    Attributes
    ----------
    scores : mapping of str to Attribute
        What each column is, in order.
    """

    scores: Mapping[str, Attribute]

    @abstractmethod
    def score(self, items: Sequence[Item]) -> npt.NDArray[np.float64]:
        """Compute the scores of items.

        Parameters
        ----------
        items : sequence

        Returns
        -------
        ndarray of float64, shape (n, len(scores))
            NaN where a score does not apply to an item, as the quality of speech to silence.

        Raises
        ------
        ModelError
            If the model cannot be loaded.
        """


@dataclass(frozen=True, slots=True)
class Transcript:
    """What was heard.

    Attributes
    ----------
    text : str
        As the model writes it: with its own punctuation and casing.
    language : str
        ISO 639-1 code: the one that was asked for, or heard.
    logprob : float
        Mean log-probability of a token; NaN where nothing was heard.
    no_speech : float
        Probability that there is no speech, 0 to 1.
    """

    text: str
    language: str
    logprob: float
    no_speech: float


class Transcriber(Model):
    """Writes down what is said."""

    @abstractmethod
    def transcribe(
        self, items: Sequence[DecodedAudio], *, language: str | None = None
    ) -> list[Transcript]:
        """Transcribe recordings, each by itself.

        Parameters
        ----------
        items : sequence of DecodedAudio
        language : str, optional
            ISO 639-1 code; heard from each recording by default.

        Raises
        ------
        ModelError
            If the model cannot be loaded, or does not know the language.
        """


AudioEncoder: TypeAlias = Embedder["DecodedAudio"]
TextEncoder: TypeAlias = Embedder[str]
