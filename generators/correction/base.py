"""What all corrections share: they are fitted once, and then they are ordinary operations.

A correction is fitted on a *calibration* part of the real data. It must be judged on another part:
it knows the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import DataError, UsageError
from ..items import Item, is_held_out
from ..protocol import derive_seed, rng_of
from ..registry import operation_class, suggestion
from ..values import Modality, Params

F64: TypeAlias = npt.NDArray[np.float64]

FITTED_ITEMS = 300
"""At most so many samples a side are looked at: what is fitted has few numbers."""


class NotCorrectableError(DataError):
    """A difference that this correction cannot take away: the message says which and why.

    Parameters
    ----------
    text : str
    reason : str
        Names the reason for those who say it in another language, with the values in it.
    **values : str or float
    """

    def __init__(self, text: str, reason: str = "", **values: str | float) -> None:
        super().__init__(text)
        self.reason = reason
        self.values = values


@dataclass(frozen=True, slots=True)
class Value:
    """A sample that could be read, and its weight in the fit."""

    value: Any
    weight: float


class Correction:
    """Base of the corrections: an operation whose arguments are what was fitted.

    ``type(op)(**op.params)`` is the same operation, so a record of
    :func:`~evalsuite.generators.produce` replays with no other file.

    Parameters
    ----------
    held_out : sequence of str
        The held-out splits of the real data that it was fitted on: what it makes must not land in
        another one.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    input: ClassVar[Modality]
    output: ClassVar[Modality]
    acts_on: ClassVar[frozenset[str]]
    """The attributes that it moves."""

    def __init__(self, held_out: Sequence[str] = ()) -> None:
        self._held_out = tuple(held_out)

    @classmethod
    def fit(cls, real: Sequence[Item], synthetic: Sequence[Item], *, seed: int = 0) -> Correction:
        """Fit on a calibration part of the real data and on the synthetic data.

        Parameters
        ----------
        real, synthetic : sequence of Item
            At most 300 a side are looked at, the same ones whatever their order. Where both sides
            have labels, the real samples are weighted to the synthetic set's mix of classes:
            otherwise a correction would repaint one class in the colours of another.
        seed : int
            Settles which samples are looked at.

        Returns
        -------
        Correction

        Raises
        ------
        DataError
            If a side has no sample that can be read.
        NotCorrectableError
            If the difference is one that it cannot take away.
        """
        left, right = weighted(real, synthetic, cls.input, seed)
        arguments = cls._fitted(left, right)
        held = sorted({i.split for i in real if i.split is not None and is_held_out(i.split)})
        return cls(**arguments, held_out=held)

    @classmethod
    def _fitted(cls, real: Sequence[Value], synthetic: Sequence[Value]) -> Params:
        """Give the constructor's arguments."""
        raise NotImplementedError

    @property
    def held_out_sources(self) -> frozenset[str]:
        """The held-out splits that it learned from."""
        return frozenset(self._held_out)

    @property
    def params(self) -> Params:
        """What was fitted."""
        return {**self._arguments(), "held_out": list(self._held_out)}

    def _arguments(self) -> Params:
        raise NotImplementedError

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Draw nothing, unless the correction says otherwise."""
        return {}

    def apply(self, value: Any, params: Params) -> Any:
        """Correct one sample."""
        raise NotImplementedError


def weighted(
    real: Sequence[Item], synthetic: Sequence[Item], modality: Modality, seed: int
) -> tuple[list[Value], list[Value]]:
    """Read both sides, with weights under which their classes are mixed alike.

    Raises
    ------
    DataError
        If a side has no sample that can be read.
    """
    sides = []
    for name, items in (("real", real), ("synthetic", synthetic)):
        chosen = sorted(items, key=lambda i: (derive_seed(seed, "fit", i.id), i.id))[:FITTED_ITEMS]
        found, reason = [], "there is none"
        for item in chosen:
            try:
                found.append((item.value(modality), item.label))
            except ValueError as error:  # one bad sample does not stop a fit
                reason = str(error)
        if not found:
            raise DataError(
                f"no {modality} of the {len(items)} {name} samples can be read: {reason}"
            )
        sides.append(found)
    left, right = sides
    wanted = _shares([label for _, label in right])
    given = _shares([label for _, label in left])
    shared = wanted.keys() & given.keys() - {None}
    if not shared:
        return [Value(v, 1.0) for v, _ in left], [Value(v, 1.0) for v, _ in right]
    return (
        [Value(v, wanted[k] / given[k]) for v, k in left if k in shared],
        [Value(v, 1.0) for v, k in right if k in shared],
    )


def _shares(labels: Sequence[str | int | None]) -> dict[str | None, float]:
    names = [None if label is None else str(label) for label in labels]
    return {name: names.count(name) / len(names) for name in set(names)}


def compact(x: npt.ArrayLike) -> Any:
    """Give numbers as nested lists of six significant digits: what a record holds is what acts."""
    array = np.asarray(x, np.float64)
    if not np.isfinite(array).all():
        raise DataError("the fit gave values that are not finite: are the samples all constant?")
    if array.ndim == 0:
        return float(f"{float(array):.6g}")
    return [compact(part) for part in array]


_CORRECTIONS = (
    "match_size",
    "match_histogram",
    "reinhard",
    "monge_kantorovich",
    "fourier_adaptation",
    "match_noise",
    "match_sharpness",
    "match_jpeg",
    "match_bandwidth",
    "match_room",
    "match_equalisation",
    "match_snr",
    "match_loudness",
    "match_case",
    "match_ending",
)

# In the order in which they are applied. Tone comes before detail, for a stretched contrast
# stretches noise and edges too, and once more after it, for detail is a part of the contrast; noise
# before sharpness, which would amplify it; what a codec did comes last.
_ORDER = (
    "match_size",
    "match_histogram",
    "match_noise",
    "match_sharpness",
    "match_histogram",
    "match_jpeg",
    # The room answers to what is in the band; noise is not in the room; loudness is set at last.
    "match_bandwidth",
    "match_room",
    "match_equalisation",
    "match_snr",
    "match_loudness",
    "match_case",
    "match_ending",
)


def correction_names(modality: str | None = None) -> tuple[str, ...]:
    """List the corrections."""
    return tuple(n for n in _CORRECTIONS if modality in (None, correction_class(n).input))


def correction_class(name: str) -> type[Correction]:
    """Give the class of a correction.

    Raises
    ------
    UsageError
        If nobody knows the name.
    """
    if name not in _CORRECTIONS:
        raise UsageError(f"unknown correction {name!r}{suggestion(name, _CORRECTIONS)}")
    found: type[Correction] = operation_class(name)
    return found


def corrections_for(attributes: Sequence[str], modality: str) -> tuple[str, ...]:
    """Choose corrections for attributes that drifted.

    Parameters
    ----------
    attributes : sequence of str
        Names as in ``ATTRIBUTES`` of the modality.
    modality : str
        ``image``, ``audio`` or ``text``.

    Returns
    -------
    tuple of str
        Names in the order of application; one may come twice. For an attribute that no correction
        acts on there is none.
    """
    moved = set(attributes)
    chosen = [
        name
        for name in _ORDER
        if (cls := correction_class(name)).input == modality and moved & cls.acts_on
    ]
    # Straight after itself, a correction finds nothing left to do.
    return tuple(n for i, n in enumerate(chosen) if i == 0 or chosen[i - 1] != n)


@dataclass(frozen=True, slots=True)
class FittedChain:
    """What :func:`fit_chain` fitted.

    Parameters
    ----------
    corrections : tuple of Correction
        In the order of application.
    skipped : tuple of (str, NotCorrectableError)
        Names of those that are left out, and why.
    """

    corrections: tuple[Correction, ...]
    skipped: tuple[tuple[str, NotCorrectableError], ...]


def fit_chain(
    names: Sequence[str],
    real: Sequence[Item],
    synthetic: Sequence[Item],
    *,
    seed: int = 0,
    strict: bool = True,
    drifted: Callable[[Sequence[Item]], Collection[str]] | None = None,
    gap: Callable[[Sequence[Item]], float] | None = None,
) -> FittedChain:
    """Fit corrections one after the other, each on what those before it made.

    Parameters
    ----------
    names : sequence of str
        As :func:`correction_names` lists them; all of one modality.
    real : sequence of Item
        The calibration part of the real data.
    synthetic : sequence of Item
        The synthetic data; at most 300 of them are looked at.
    seed : int
        Settles what is drawn.
    strict : bool
        Whether a correction that cannot be fitted is an error; otherwise it is skipped, with its
        reason.
    drifted : callable, optional
        Given the synthetic items as corrected so far, names the attributes that still drift. A
        correction that acts on none of them is skipped: every correction costs some detail.
    gap : callable, optional
        Given the synthetic items as corrected so far, measures their distance to the calibration
        part. A correction that raises it is skipped: an attribute can be set right at the
        cost of what the image shows.

    Returns
    -------
    FittedChain

    Raises
    ------
    UsageError
        If nobody knows a name.
    DataError
        If a side has no sample that can be read.
    NotCorrectableError
        With ``strict``, if a difference cannot be taken away.
    """
    classes = [correction_class(name) for name in names]
    current = sorted(synthetic, key=lambda i: (derive_seed(seed, "fit", i.id), i.id))[:FITTED_ITEMS]
    fitted: list[Correction] = []
    skipped: list[tuple[str, NotCorrectableError]] = []
    left = None if drifted is None else set(drifted(current))
    now = None if gap is None else gap(current)
    for k, cls in enumerate(classes):
        if left is not None and not left & cls.acts_on:
            why = "what it acts on does not drift, or not any more"
            skipped.append((cls.name, NotCorrectableError(why, "no_drift_left")))
            continue
        try:
            correction = cls.fit(real, current, seed=seed)
        except NotCorrectableError as error:
            if strict:
                raise
            skipped.append((cls.name, error.with_traceback(None)))
            continue
        if k == len(classes) - 1 and gap is None:
            fitted.append(correction)
            break
        made = [i for i in (_after(correction, i, seed, k) for i in current) if i]
        if gap is not None and now is not None:
            then = gap(made)
            # An encoder that is blind to it (an uncased one to capitals) has nothing against it.
            if then > now + 1e-9:
                told = _told(now, then)
                why = f"it raises the gap to the calibration half ({told[0]}, with it {told[1]})"
                skipped.append(
                    (
                        cls.name,
                        NotCorrectableError(why, "raises_gap", without=told[0], with_it=told[1]),
                    )
                )
                continue
            now = then
        fitted.append(correction)
        current = made
        left = None if drifted is None else set(drifted(current))
    return FittedChain(tuple(fitted), tuple(skipped))


def _told(now: float, then: float) -> tuple[str, str]:
    """Write two numbers with as many digits as tell them apart."""
    for digits in range(3, 10):
        told = f"{now:.{digits}g}", f"{then:.{digits}g}"
        if told[0] != told[1]:
            break
    return told


def _after(correction: Correction, item: Item, seed: int, k: int) -> Item | None:
    """Give the corrected item; None where it cannot be read or treated."""
    params = correction.sample_params(rng_of(derive_seed(seed, item.id, k)))
    try:
        made = correction.apply(item.value(correction.input), params)
    except ValueError:
        return None
    return replace(item, **{str(correction.output): made})
