"""The generators that every study needs beside its own: what a gap looks like when it is known.

Identity (the smallest gap there is, and a perfect copy), resampled real data (chance alone), noise
(the largest gap), and duplicates (good samples, no diversity).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias, get_args

import numpy as np
from PIL import Image

from ..errors import DataError
from .items import Item
from .protocol import derive_seed, draw_seed, rng_of
from .registry import suggestion
from .text.units import is_word, units
from .values import Audio, Modality, Params

NoiseKind: TypeAlias = Literal["uniform", "shuffle"]
_NOISED = (Modality.IMAGE, Modality.AUDIO, Modality.TEXT)


class Identity:
    """Give every sample as it is: no gap, and every sample a copy of a real one.

    Parameters
    ----------
    modality : str
        Of what goes in and out: ``image``, ``text``, ``audio`` or ``label``.

    Raises
    ------
    ValueError
        If the modality is unknown.
    """

    name: ClassVar[str] = "identity"
    version: ClassVar[int] = 1

    def __init__(self, modality: str = Modality.IMAGE) -> None:
        if modality not in set(Modality):
            raise ValueError(f"unknown modality {modality!r}{suggestion(modality, list(Modality))}")
        self.input = self.output = Modality(modality)

    @property
    def params(self) -> Params:
        """The modality."""
        return {"modality": str(self.input)}

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing."""
        return {}

    def apply(self, value: Any, params: Params) -> Any:  # noqa: ARG002 - the protocol's
        """Give the value."""
        return value


class Noise:
    """Replace every sample by noise of its size: the ceiling of any gap.

    Parameters
    ----------
    kind : {"uniform", "shuffle"}
        ``uniform`` noise has nothing of the sample: pixels of any value, white noise at the level
        of the sound, letters of the alphabet in place of letters. ``shuffle`` puts pixels, samples
        or words in random order: the histogram stays exactly, the content is gone; what sees no gap
        here sees only colours, levels or words.
    modality : str
        ``image``, ``audio`` or ``text``. In scripts without spaces a character is a word.

    Raises
    ------
    ValueError
        If the kind or the modality is unknown.
    """

    name: ClassVar[str] = "noise"
    version: ClassVar[int] = 1

    def __init__(self, kind: NoiseKind = "uniform", modality: str = Modality.IMAGE) -> None:
        if kind not in get_args(NoiseKind):
            raise ValueError(f"unknown noise {kind!r}{suggestion(kind, get_args(NoiseKind))}")
        if modality not in _NOISED:
            raise ValueError(f"no noise of modality {modality!r}{suggestion(modality, _NOISED)}")
        self.kind = kind
        self.input = self.output = Modality(modality)

    @property
    def params(self) -> Params:
        """The kind and the modality."""
        return {"kind": self.kind, "modality": str(self.input)}

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw the noise's seed."""
        return {"seed": draw_seed(rng)}

    def apply(self, value: Any, params: Params) -> Any:
        """Make noise.

        Raises
        ------
        ValueError
            If an image is neither ``L`` nor ``RGB``.
        """
        rng = rng_of(params["seed"])
        shuffled = self.kind == "shuffle"
        if isinstance(value, str):
            return _words_of_noise(value, rng, shuffled=shuffled)
        if isinstance(value, Audio):
            if shuffled:
                return Audio(rng.permutation(value.samples), value.rate)
            level = float(np.sqrt(np.mean(np.square(value.samples, dtype=np.float64))))
            noise = rng.uniform(-1, 1, value.samples.size) * min(1.0, level * np.sqrt(3))
            return Audio(noise.astype(np.float32), value.rate)
        if value.mode not in {"L", "RGB"}:
            raise ValueError(f"noise takes an image of mode L or RGB, got {value.mode}")
        pixels = np.array(value)
        if not shuffled:
            return Image.fromarray(rng.integers(256, size=pixels.shape, dtype=np.uint8))
        flat = pixels.reshape(value.width * value.height, -1)
        return Image.fromarray(rng.permutation(flat).reshape(pixels.shape))


def _words_of_noise(text: str, rng: np.random.Generator, *, shuffled: bool) -> str:
    """Put the words of a text in random order, or other letters in place of its own."""
    if not shuffled:
        letters = (chr(ord("a") + k) for k in rng.integers(26, size=len(text)).tolist())
        pairs = zip(text, letters, strict=True)
        return "".join(drawn if c.isalnum() else c for c, drawn in pairs)
    found = units(text)
    at = [i for i, unit in enumerate(found) if is_word(unit)]
    moved = [found[i] for i in rng.permutation(at)] if at else []
    for i, word in zip(at, moved, strict=True):
        found[i] = word
    return "".join(found)


def resampled(items: Sequence[Item], n: int, *, seed: int, replace: bool = False) -> Iterator[Item]:
    """Draw n real items: what a perfect generator would give, chance included.

    Parameters
    ----------
    items : sequence of Item
        The real data.
    n : int
        How many to draw.
    seed : int
        Decides which.
    replace : bool
        Whether an item may come more than once; without, n is at most ``len(items)``.

    Yields
    ------
    Item
        With the drawn one as its parent, in its group and split.

    Raises
    ------
    DataError
        If there are no items, or fewer than n to draw without replacement.
    """
    if not items or n < 1 or (n > len(items) and not replace):
        raise DataError(
            f"cannot draw {n} of {len(items)} items{'' if replace else ' without replacement'}"
        )
    rng = rng_of(derive_seed(seed, "resampled"))
    return _copies(items, rng.choice(len(items), n, replace=replace).tolist())


def duplicates(items: Sequence[Item], n: int, *, distinct: int, seed: int) -> Iterator[Item]:
    """Draw a few real items and repeat them: every sample is good, and diversity is gone.

    Parameters
    ----------
    items : sequence of Item
        The real data.
    n : int
        How many to give.
    distinct : int
        How many different ones among them.
    seed : int
        Decides which.

    Yields
    ------
    Item
        With the drawn one as its parent, in its group and split.

    Raises
    ------
    DataError
        If ``distinct`` is not from 1 to n and to ``len(items)``.
    """
    if not 1 <= distinct <= min(n, len(items)):
        raise DataError(
            f"distinct must be from 1 to {min(n, len(items))} (of {len(items)} items, {n} to "
            f"give), got {distinct}"
        )
    rng = rng_of(derive_seed(seed, "duplicates"))
    chosen = rng.choice(len(items), distinct, replace=False).tolist()
    return _copies(items, [chosen[i % distinct] for i in range(n)])


def _copies(items: Sequence[Item], chosen: Sequence[int]) -> Iterator[Item]:
    for k, i in enumerate(chosen):
        item = items[i]
        yield replace(
            item,
            id=f"{item.id}+{k}",
            parents=item.parents or (item.id,),
            group=item.group or item.id,
        )
