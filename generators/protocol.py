"""What every generator is: an operation with declared modalities, a seed per item, and a record.

An operation first *draws* its parameters (:meth:`Operation.sample_params`, the only place where it
may use chance) and then *applies* them (:meth:`Operation.apply`, a pure function). The drawn
parameters are plain JSON, so the record of an item is enough to make the same item again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from functools import cache
from hashlib import blake2b, sha256
from importlib import import_module
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
from PIL import Image

from .. import plugins
from ..errors import DataError, EvalsuiteError, UsageError

Params: TypeAlias = dict[str, Any]
"""Parameters: whatever JSON can hold."""


class RecipeError(UsageError):
    """Operations that do not fit together, or that nobody knows."""


class ReplayError(EvalsuiteError):
    """A record that does not give its item again."""


class LeakError(DataError):
    """A child of a held-out sample was about to land in another split."""


class Dropped(ValueError):  # noqa: N818 - not an error: a check was not met
    """A child that was made and not kept, for a reason: a check was not met."""


class Refused(Dropped):
    """A child that a model would not make: a refusal is counted apart from a failure."""


class Modality(StrEnum):
    """What an operation takes or gives."""

    IMAGE = "image"
    AUDIO = "audio"
    TEXT = "text"
    LABEL = "label"
    RECORD = "record"
    """All parts of an item together (:class:`Parts`)."""


FULL_SCALE = 32768
"""Steps of 16-bit sound per unit: what goes into a file is a multiple of 1/32768."""


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Sound in one channel.

    Parameters
    ----------
    samples : ndarray, shape (n,)
        float32; 1.0 is full scale.
    rate : int
        Samples per second.

    Raises
    ------
    ValueError
        If there are no samples, more than one channel, or values that are not finite.
    """

    samples: npt.NDArray[np.float32]
    rate: int

    def __post_init__(self) -> None:
        if self.samples.ndim != 1 or not self.samples.size:
            raise ValueError(
                f"sound has the shape (n,) with n of 1 or more, got {self.samples.shape}: average "
                "the channels first"
            )
        if self.samples.dtype != np.float32:
            raise ValueError(f"sound is float32 with 1.0 at full scale, got {self.samples.dtype}")
        if self.rate < 1:
            raise ValueError(f"the sampling rate must be 1 Hz or more, got {self.rate}")
        if not np.isfinite(self.samples).all():
            raise ValueError("the sound has samples that are not finite")

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.samples.size / self.rate

    def to_pcm(self) -> npt.NDArray[np.int16]:
        """Give it as 16-bit integers; what is beyond full scale is cut off."""
        steps = np.rint(self.samples.astype(np.float64) * FULL_SCALE)
        return np.clip(steps, -FULL_SCALE, FULL_SCALE - 1).astype("<i2")

    @classmethod
    def from_pcm(cls, pcm: npt.NDArray[np.int16], rate: int) -> Audio:
        """Make it of 16-bit integers."""
        return cls(pcm.astype(np.float32) / np.float32(FULL_SCALE), rate)


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """The parts of an item of several modalities; None where it has no such part."""

    image: Image.Image | None = None
    audio: Audio | None = None
    text: str | None = None
    label: str | int | None = None

    def value(self, modality: Modality) -> Any:
        """Give one part.

        Raises
        ------
        ValueError
            If it has no such part.
        """
        value = self if modality == Modality.RECORD else getattr(self, modality)
        if value is None:
            raise ValueError(f"the record has no {modality}, which the operation takes")
        return value

    def having(self, modality: Modality, value: Any) -> Parts:
        """Give the same record with one part replaced or added."""
        return value if modality == Modality.RECORD else replace(self, **{str(modality): value})


@runtime_checkable
class Operation(Protocol):
    """One step of generation: anything with these attributes can be composed, run and replayed.

    ``name`` and ``version`` identify the code: the version rises when the same parameters would
    give another output. ``input`` and ``output`` are the modalities. ``params`` are the arguments
    that the operation was built with, as JSON, so that ``type(op)(**op.params)`` is the same
    operation.
    """

    @property
    def name(self) -> str:
        """The name it is registered under."""
        ...

    @property
    def version(self) -> int:
        """Rises when the same parameters would give another output."""
        ...

    @property
    def input(self) -> Modality:
        """What :meth:`apply` takes."""
        ...

    @property
    def output(self) -> Modality:
        """What :meth:`apply` gives."""
        ...

    @property
    def params(self) -> Params:
        """The arguments that it was built with."""
        ...

    def sample_params(self, rng: np.random.Generator) -> Params:
        """Draw what this item needs; the only place where chance has a part."""
        ...

    def apply(self, value: Any, params: Params) -> Any:
        """Make the output: a pure function of the value and the drawn parameters."""
        ...


@dataclass(frozen=True, slots=True)
class Item:
    """One sample that goes in: an image, a sound, a text, or a record of several of them.

    A part that is a callable is read when it is needed: one that fails then costs this item and
    not the run.

    Parameters
    ----------
    id : str
        Unique within its data set.
    image : PIL.Image.Image, callable or None
        Mode ``L`` or ``RGB`` for the built-in operations.
    label : str, int or None
        Its class.
    split : str or None
        ``train``, ``validation``, ``test``, …: what comes of this item stays in it.
    group : str or None
        What the item belongs to (a patient, a module, a speaker). By default its own id, so that
        an item and all that comes of it are one group.
    parents : tuple of str
        The ids that its children name as their parents; by default its own.
    audio : Audio, callable or None
        Its sound.
    text : str, callable or None
        Its text: the sample itself, or the caption or transcript of image or sound.
    """

    id: str
    image: Image.Image | Callable[[], Image.Image] | None = None
    label: str | int | None = None
    split: str | None = None
    group: str | None = None
    parents: tuple[str, ...] = ()
    audio: Audio | Callable[[], Audio] | None = None
    text: str | Callable[[], str] | None = None

    def value(self, modality: Modality) -> Any:
        """Give the part that an operation with this input takes.

        Raises
        ------
        ValueError
            If the item has no such part, or it cannot be read.
        """
        if modality == Modality.RECORD:
            held = (m for m in _PARTS if getattr(self, m) is not None)
            parts = {str(m): self.value(m) for m in held}
            if not parts.keys() - {"label"}:
                raise ValueError(f"item {self.id!r} has neither image nor audio nor text")
            return Parts(**parts)
        value: Any = getattr(self, modality)
        if value is None:
            raise ValueError(f"item {self.id!r} has no {modality}, which the generator takes")
        if not callable(value):
            return value
        try:
            return value()
        except Exception as error:  # a reader's own errors: whatever they are, it is not readable
            raise ValueError(f"item {self.id!r} cannot be read: {error}") from error

    def read(self, modality: Modality) -> Item:
        """Give the item with this part read, so that it is read once."""
        if modality != Modality.RECORD:
            return replace(self, **{str(modality): self.value(modality)})
        parts: Parts = self.value(modality)
        return replace(self, image=parts.image, audio=parts.audio, text=parts.text)


_PARTS = (Modality.IMAGE, Modality.AUDIO, Modality.TEXT, Modality.LABEL)


class Partners:
    """The other items of a split: where an operation that needs a second parent finds it.

    Parameters
    ----------
    items : iterable of Item
        All of one split: a partner of another would carry held-out data into training. Their order
        does not matter.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._items = sorted(items, key=lambda item: item.id)
        self._place = {item.id: k for k, item in enumerate(self._items)}
        self._own: int | None = None

    def of(self, item: Item) -> Partners:
        """Give the partners of one item: all but itself."""
        partners = copy(self)
        partners._own = self._place.get(item.id)
        return partners

    def draw(self, rng: np.random.Generator, modality: Modality) -> Params:
        """Draw a partner: its id, label and content hash, as drawn parameters.

        Raises
        ------
        ValueError
            If there is no other item, or it has no such part.
        """
        n = len(self._items) - (self._own is not None)
        if n < 1:
            raise ValueError("there is no other item of this split to take as the second parent")
        k = int(rng.integers(n))
        item = self._items[k + (self._own is not None and k >= self._own)]
        value = item.value(modality)
        return {"id": item.id, "label": item.label, "sha256": content_hash(value)}

    def value(self, partner: Params, modality: Modality) -> Any:
        """Give the part of the partner that was drawn.

        Raises
        ------
        ValueError
            If it is not there, or is not what it was.
        """
        place = self._place.get(partner["id"])
        if place is None:
            raise ValueError(f"the second parent {partner['id']!r} is not among the items given")
        value = self._items[place].value(modality)
        if content_hash(value) != partner["sha256"]:
            raise ValueError(f"the second parent {partner['id']!r} is not what it was")
        return value


@dataclass(frozen=True, slots=True)
class Record:
    """Where a generated item came from: enough to make it again, to the byte.

    Parameters
    ----------
    id : str
        The child's id.
    parents : tuple of str
        The ids it was made from: the item's, then those of second parents.
    variant : int
        Which child of this parent it is, from 0.
    generator : str
        Name and version, ``corrupt/1``.
    operation : dict
        The operation with its arguments (see :func:`spec`).
    params : dict
        What was drawn for this item.
    seed : int
        The seed that they were drawn with.
    parent_sha256, sha256 : str
        Content of the parent and of the child (see :func:`content_hash`).
    software : str
        Versions of evalsuite and of the libraries that computed it.
    model_sha256, prompt_sha256 : tuple of str
        Weights of the models that took part, and the prompts that they were given.
    trace : tuple of dict
        What a chain gave after each hop: ``operation``, ``output``, ``sha256``, the ``text`` or
        ``label`` where it is one, and the ``consistency`` where a check measured it.
    synthetic : bool
        Always true: the row says what it is wherever it travels.
    """

    id: str
    parents: tuple[str, ...]
    variant: int
    generator: str
    operation: Params
    params: Params
    seed: int
    parent_sha256: str
    sha256: str
    software: str
    model_sha256: tuple[str, ...] = ()
    prompt_sha256: tuple[str, ...] = ()
    trace: tuple[Params, ...] = ()
    synthetic: bool = True

    def to_row(self) -> dict[str, Any]:
        """Give the record as one flat row; nested parts are JSON strings, as tables need."""
        row = asdict(self)
        for name in _LISTS:
            row[name] = list(row[name])
        for name in _NESTED:
            row[name] = to_json(row[name])
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Record:
        """Read a row of ``metadata.jsonl``; columns that are not the record's are ignored.

        Raises
        ------
        ReplayError
            If a column is missing or does not parse.
        """
        try:
            fields = {name: row[name] for name in cls.__dataclass_fields__}
            for name in _LISTS:
                fields[name] = tuple(fields[name])
            for name in _NESTED:
                fields[name] = json.loads(fields[name])
            fields["trace"] = tuple(fields["trace"])
        except (KeyError, TypeError, ValueError) as error:
            raise ReplayError(f"not a generation record: {error!r} in {dict(row)!r}") from error
        return cls(**fields)


_LISTS = ("parents", "model_sha256", "prompt_sha256")
_NESTED = ("operation", "params", "trace")


def to_json(value: Any) -> str:
    """Write canonical JSON: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def derive_seed(*parts: str | int) -> int:
    """Hash (recipe seed, item id, variant, operation index, …) to a seed.

    A hash instead of a running stream: the result does not depend on the order of the items, on
    batches or on workers (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

    Returns
    -------
    int
        In [0, 2**53): it survives JSON readers that hold numbers as doubles.
    """
    digest = blake2b(to_json(list(parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 11


def rng_of(seed: int) -> np.random.Generator:
    """Give the counter-based generator (Philox) of a seed."""
    return np.random.Generator(np.random.Philox(key=seed))


def draw_seed(rng: np.random.Generator) -> int:
    """Draw a seed for something that :meth:`Operation.apply` will need chance for."""
    return int(rng.integers(2**53))


def content_hash(value: Any) -> str:
    """Sha256 of what a value is: an image's size and pixels, a sound's rate and samples, a text.

    File format, compression and metadata do not matter.

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(value, Image.Image):
        digest = sha256(f"{value.mode} {value.width}x{value.height}\n".encode())
        digest.update(value.tobytes())
        if value.mode == "P":
            digest.update(bytes(value.getpalette("RGBA") or ()))
        return digest.hexdigest()
    if isinstance(value, Audio):
        digest = sha256(f"audio {value.rate} Hz {value.samples.size}\n".encode())
        digest.update(value.samples.astype("<f4").tobytes())
        return digest.hexdigest()
    if isinstance(value, str | int):
        return sha256(f"text\n{value}".encode()).hexdigest()
    if isinstance(value, Parts):
        held = ((m, getattr(value, m)) for m in _PARTS)
        parts = {str(m): content_hash(part) for m, part in held if part is not None}
        return sha256(f"record\n{to_json(parts)}".encode()).hexdigest()
    raise TypeError(f"cannot hash a {type(value).__name__}: want an image, sound, text or record")


@cache
def software(libraries: tuple[str, ...] = ()) -> str:
    """Name the versions that decide the bytes of an output."""
    packages = ("evalsuite", "numpy", "scipy", "pillow", *libraries)
    return "; ".join(f"{name} {installed_version(name)}" for name in packages)


def spec(operation: Operation) -> Params:
    """Give an operation as JSON: ``{"name", "version", "params"}``; :func:`build` reads it back."""
    return {"name": operation.name, "version": operation.version, "params": operation.params}


_OPERATIONS: dict[str, str] = {
    name: f"evalsuite.generators.{where}"
    for name, where in {
        "add_noise": "audio.effects:AddNoise",
        "aug_mix": "image.augment:AugMix",
        "back_translate": "endpoints.operations:BackTranslate",
        "band_limit": "audio.effects:BandLimit",
        "bit_crush": "audio.effects:BitCrush",
        "caption": "endpoints.operations:Caption",
        "chain": "combine:Chain",
        "change_voice": "privacy.media:ChangeVoice",
        "class_sampler": "image.learned:ClassSampler",
        "clip": "audio.effects:Clip",
        "codec": "audio.effects:Codec",
        "compose": "combine:Compose",
        "corrupt": "image.corruptions:Corrupt",
        "cut_mix": "image.augment:CutMix",
        "cut_paste": "image.augment:CutPaste",
        "delete_words": "text.effects:DeleteWords",
        "edit_image": "endpoints.operations:EditImage",
        "flow_sampler": "image.diffusion:FlowSampler",
        "fourier_adaptation": "correction.image:FourierAdaptation",
        "gain": "audio.effects:Gain",
        "generate_image": "endpoints.operations:GenerateImage",
        "identity": "null:Identity",
        "image_to_image": "local.operations:ImageToImage",
        "image_to_text": "local.operations:ImageToText",
        "inpaint": "local.operations:Inpaint",
        "insert_punctuation": "text.effects:InsertPunctuation",
        "judge_pair": "endpoints.operations:JudgePair",
        "mask_faces": "privacy.media:MaskFaces",
        "mask_spectrum": "audio.effects:MaskSpectrum",
        "mask_text": "privacy.lettering:MaskText",
        "match_bandwidth": "correction.audio:MatchBandwidth",
        "match_case": "correction.text:MatchCase",
        "match_ending": "correction.text:MatchEnding",
        "match_equalisation": "correction.audio:MatchEqualisation",
        "match_histogram": "correction.image:MatchHistogram",
        "match_jpeg": "correction.image:MatchJpeg",
        "match_loudness": "correction.audio:MatchLoudness",
        "match_noise": "correction.image:MatchNoise",
        "match_room": "correction.audio:MatchRoom",
        "match_sharpness": "correction.image:MatchSharpness",
        "match_size": "correction.image:MatchSize",
        "match_snr": "correction.audio:MatchSnr",
        "mix_sounds": "audio.effects:MixSounds",
        "mix_up": "image.augment:MixUp",
        "monge_kantorovich": "correction.image:MongeKantorovich",
        "ngram": "text.learned:NgramWriter",
        "noise": "null:Noise",
        "one_of": "combine:OneOf",
        "paraphrase": "endpoints.operations:Paraphrase",
        "parse_label": "crossmodal.hops:ParseLabel",
        "pitch": "audio.effects:Pitch",
        "rand_augment": "image.augment:RandAugment",
        "reinhard": "correction.image:Reinhard",
        "replace_entities": "privacy.entities:ReplaceEntities",
        "replace_pii": "privacy.text:ReplacePII",
        "room": "audio.effects:Room",
        "shoebox_room": "audio.room:ShoeboxRoom",
        "sometimes": "combine:Sometimes",
        "speak": "audio.speech:Speak",
        "speak_endpoint": "endpoints.operations:SpeakEndpoint",
        "speak_flite": "audio.speech:SpeakFlite",
        "speed": "audio.effects:Speed",
        "strip_metadata": "privacy.media:StripMetadata",
        "swap_slots": "text.effects:SwapSlots",
        "swap_words": "text.effects:SwapWords",
        "synonyms": "text.learned:Synonyms",
        "template": "text.template:Template",
        "text_to_image": "local.operations:TextToImage",
        "tfidf_replace": "text.learned:TfIdfReplace",
        "time_stretch": "audio.effects:TimeStretch",
        "transcribe_endpoint": "endpoints.operations:TranscribeEndpoint",
        "trivial_augment": "image.augment:TrivialAugment",
        "typos": "text.effects:Typos",
        "within": "combine:Within",
        "write_labelled": "endpoints.operations:WriteLabelled",
    }.items()
}


def register(operation: type) -> type:
    """Make a class of your own known to recipes and to :func:`replay`; usable as a decorator.

    Raises
    ------
    RecipeError
        If its name is taken by another class.
    """
    where = f"{operation.__module__}:{operation.__qualname__}"
    name: str = operation.name  # type: ignore[attr-defined]  # read from the class
    if _OPERATIONS.setdefault(name, where) != where:
        raise RecipeError(f"the name {name!r} belongs to {_OPERATIONS[name]}: choose another")
    return operation


def operation_names() -> tuple[str, ...]:
    """List the operations of evalsuite and those that :func:`register` was told of."""
    return tuple(sorted(_OPERATIONS))


def operation_known(name: str) -> bool:
    """Say whether :func:`operation_class` finds a class of this name, plugins included."""
    return name in _OPERATIONS or plugins.find("generator", name) is not None


def operation_module(name: str) -> str:
    """Give the module of a registered operation without importing it; empty if unknown."""
    return _OPERATIONS.get(name, "").partition(":")[0]


def operation_class(name: str) -> Any:
    """Load the class of a registered operation.

    Raises
    ------
    RecipeError
        If nobody knows the name; the nearest known one is suggested.
    PluginError
        If a plugin has the name, and cannot be imported or is no operation of that name.
    """
    if name not in _OPERATIONS:
        if plugin := plugins.find("generator", name):
            offered = plugins.load(plugin)
            if not isinstance(offered, type) or getattr(offered, "name", None) != name:
                raise plugins.broken(
                    plugin, f"it leads to {offered!r:.80}, not to an operation class with that name"
                )
            return offered
        raise RecipeError(f"unknown operation {name!r}{suggestion(name, operation_names())}")
    module, _, qualname = _OPERATIONS[name].partition(":")
    found: Any = import_module(module)
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def suggestion(word: str, known: Sequence[str]) -> str:
    """Give the end of an error message: the nearest known word, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f": did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def build(description: Mapping[str, Any]) -> Operation:
    """Make the operation that :func:`spec` described.

    Raises
    ------
    RecipeError
        If the name is unknown, the version is not the installed one, or the arguments do not fit.
    """
    try:
        name, wanted = description["name"], description["version"]
        params = dict(description["params"])
    except (KeyError, TypeError, ValueError) as error:
        raise RecipeError(
            f"an operation is described by name, version and params; got {description!r}"
        ) from error
    cls = operation_class(name)
    if cls.version != wanted:
        raise RecipeError(
            f"operation {name!r} has version {cls.version} here, but version {wanted} is asked "
            "for: its output would differ; install the evalsuite that made it"
        )
    try:
        operation: Operation = cls(**params)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"operation {name!r} does not take {params!r}: {error}") from error
    return operation


def parts_of(operation: Operation) -> tuple[Operation, ...]:
    """Give the operations that a composition is made of; none for a simple one."""
    return tuple(getattr(operation, "parts", ()))


def leaves(operation: Operation) -> Iterator[Operation]:
    """Go through the simple operations of a composition, or give the operation itself."""
    parts = parts_of(operation)
    if not parts:
        yield operation
    for part in parts:
        yield from leaves(part)


def transformed(
    operation: Operation, change: Callable[[Operation], Operation], *, only: str
) -> Operation:
    """Replace the simple operations that have the attribute ``only``, wherever they are."""
    parts = parts_of(operation)
    if not parts:
        return change(operation) if hasattr(operation, only) else operation
    if not any(hasattr(leaf, only) for leaf in leaves(operation)):
        return operation
    changed = [transformed(part, change, only=only) for part in parts]
    found: Operation = operation.with_parts(changed)  # type: ignore[attr-defined]  # it has parts
    return found


def needs_partners(operation: Operation) -> bool:
    """Tell whether an operation, or a part of it, takes a second parent."""
    return any(hasattr(leaf, "with_partners") for leaf in leaves(operation))


def with_partners(operation: Operation, partners: Partners) -> Operation:
    """Give the operation with a place where its second parents are found."""

    def bound(leaf: Any) -> Operation:
        found: Operation = leaf.with_partners(partners)
        return found

    return transformed(operation, bound, only="with_partners")


def _partners_in(params: Any) -> Iterator[str]:
    """Find the second parents in drawn parameters: under the key ``partner``, however deep."""
    if isinstance(params, dict):
        for key, value in params.items():
            if key == "partner":
                yield value["id"]
            else:
                yield from _partners_in(value)
    elif isinstance(params, list):
        for value in params:
            yield from _partners_in(value)


def applied(operation: Operation, value: Any, params: Params) -> tuple[Any, list[Hop]]:
    """Apply an operation, and give what came after each hop if it is a chain."""
    traced = getattr(operation, "apply_traced", None)
    return traced(value, params) if traced else (operation.apply(value, params), [])


@dataclass(frozen=True, slots=True)
class Hop:
    """What a step of a chain gave.

    Parameters
    ----------
    operation : str
        Name and version.
    output : Modality
        What it is.
    value : object
        The image, sound, text or label.
    consistency : dict
        What the checks of the chain measured here, by their names.
    """

    operation: str
    output: Modality
    value: Any
    consistency: Params = field(default_factory=dict)

    def to_row(self) -> Params:
        """Give it for the record: text and labels as they are, the rest by its hash."""
        row: Params = {
            "operation": self.operation,
            "output": str(self.output),
            "sha256": content_hash(self.value),
        }
        if self.output in {Modality.TEXT, Modality.LABEL}:
            row[str(self.output)] = self.value
        if self.consistency:
            row["consistency"] = self.consistency
        return row


def _as_kept(value: Any) -> Any:
    """Give what a file will hold: sound in steps of 16 bits."""
    if isinstance(value, Audio):
        return Audio.from_pcm(value.to_pcm(), value.rate)
    if isinstance(value, Parts) and value.audio is not None:
        return replace(value, audio=_as_kept(value.audio))
    return value


def draw(
    operation: Operation, item: Item, *, seed: int, variant: int = 0, index: int = 0
) -> tuple[int, Params]:
    """Give the seed of one child, and the parameters that it draws."""
    item_seed = derive_seed(seed, item.id, variant, index)
    # Through JSON and back, so that what is applied is what the record will say.
    return item_seed, json.loads(to_json(operation.sample_params(rng_of(item_seed))))


def produce(
    operation: Operation,
    item: Item,
    *,
    seed: int,
    variant: int = 0,
    index: int = 0,
    partners: Partners | None = None,
) -> tuple[Any, Record]:
    """Make one child of one item.

    Parameters
    ----------
    operation : Operation
        What to do.
    item : Item
        What to do it to.
    seed : int
        The recipe's seed.
    variant : int
        Which child, from 0: each has chance of its own.
    index : int
        The operation's place in the recipe.
    partners : Partners, optional
        Needed where the operation takes a second parent.

    Returns
    -------
    value, record
        The output, and where it came from. Sound is in steps of 16 bits, as its file will be.

    Raises
    ------
    Dropped
        If a check of a chain was not met, or a model refused.
    ValueError
        If the item lacks what the operation takes, or the operation cannot treat it.
    """
    if partners is not None:
        operation = with_partners(operation, partners.of(item))
    value = item.value(operation.input)
    item_seed, params = draw(operation, item, seed=seed, variant=variant, index=index)
    made, hops = applied(operation, value, params)
    made = _as_kept(made)
    described = spec(operation)
    tag = blake2b(to_json([described, seed, index]).encode(), digest_size=4).hexdigest()
    record = Record(
        id=f"{item.id}~{tag}.{variant}",
        parents=parents_of(item, params),
        variant=variant,
        generator=f"{operation.name}/{operation.version}",
        operation=described,
        params=params,
        seed=item_seed,
        parent_sha256=content_hash(value),
        sha256=content_hash(made),
        software=_software_of(operation),
        model_sha256=_facts(operation, "model_sha256"),
        prompt_sha256=_facts(operation, "prompt_sha256"),
        trace=tuple(hop.to_row() for hop in hops),
    )
    return made, record


def parents_of(item: Item, params: Params) -> tuple[str, ...]:
    """Name the parents of a child: the item's, then the second parents that were drawn."""
    return (*(item.parents or (item.id,)), *dict.fromkeys(_partners_in(params)))


def _facts(operation: Operation, name: str) -> tuple[str, ...]:
    found = (getattr(leaf, name, None) for leaf in leaves(operation))
    return tuple(dict.fromkeys(fact for fact in found if fact is not None))


@cache
def _brought_by(name: str) -> tuple[str, ...]:
    """Give the distribution of an operation that is a plugin: its version is on the record."""
    plugin = None if name in _OPERATIONS else plugins.find("generator", name)
    return (plugin.distribution,) if plugin else ()


def _software_of(operation: Operation) -> str:
    libraries = (
        (*getattr(leaf, "libraries", ()), *_brought_by(leaf.name)) for leaf in leaves(operation)
    )
    return software(tuple(sorted({name for names in libraries for name in names})))


def replay(
    record: Record,
    parent: Any,
    operation: Operation | None = None,
    *,
    partners: Partners | None = None,
) -> Any:
    """Make an item again from its record and its parent.

    Parameters
    ----------
    record : Record
        From :func:`produce`, or :meth:`Record.from_row` on a row of ``metadata.jsonl``.
    parent : PIL.Image.Image, Audio, str, int or Parts
        What the operation took.
    operation : Operation, optional
        Needed where the record alone cannot rebuild it: a learned model, an unregistered class.
    partners : Partners, optional
        Needed where the operation took a second parent: the items among which it is.

    Returns
    -------
    PIL.Image.Image, Audio, str or Parts
        Equal to the first output, to the byte.

    Raises
    ------
    ReplayError
        If a parent is not the recorded one, the operation is another, or the output differs
        (libraries of another version: the message names both).
    """
    if (got := content_hash(parent)) != record.parent_sha256:
        raise ReplayError(
            f"{record.id}: the parent's content is {got[:12]}…, the record says "
            f"{record.parent_sha256[:12]}…: give {', '.join(record.parents)} as it was"
        )
    if operation is None:
        try:
            operation = build(record.operation)
        except RecipeError as error:
            raise ReplayError(f"{record.id}: {error}") from error
    elif to_json(spec(operation)) != to_json(record.operation):
        raise ReplayError(
            f"{record.id} was made by {to_json(record.operation)}, not by "
            f"{to_json(spec(operation))}"
        )
    if partners is not None:
        operation = with_partners(operation, partners)
    elif next(_partners_in(record.params), None) is not None:
        raise ReplayError(
            f"{record.id} has the parents {', '.join(record.parents)}: give the others as partners="
        )
    try:
        made = _as_kept(operation.apply(parent, record.params))
    except ValueError as error:
        raise ReplayError(f"{record.id}: {error}") from error
    if content_hash(made) != record.sha256:
        raise ReplayError(
            f"{record.id}: replay gave other content than recorded. Made with {record.software}; "
            f"here: {_software_of(operation)}"
        )
    return made


def held_out_sources(operation: Operation) -> frozenset[str]:
    """Name the held-out splits that an operation (or a part of it) learned from."""
    found = (getattr(leaf, "held_out_sources", ()) for leaf in leaves(operation))
    return frozenset(split for splits in found for split in splits)


def is_held_out(split: str | None) -> bool:
    """Tell whether a split must never reach training: every named one but ``train``."""
    return split is not None and split.lower() not in {"train", "training"}


def model_or_unfitted(kind: Any, model: str | None, settings: Params) -> Operation:
    """Give what a recipe means by a learned operation: the file it names, or one to be fitted.

    Raises
    ------
    RecipeError
        If the file cannot be read.
    """
    if model is None:
        return Unfitted(kind, settings)
    try:
        loaded: Operation = kind.load(model)
    except OSError as error:
        raise RecipeError(f"cannot read the model {model}: {error.strerror}") from error
    return loaded


class Unfitted:
    """A learned operation that has not learned yet: it stands in a recipe until there is data.

    Parameters
    ----------
    kind : type
        The learned operation; it has ``fit(items, **arguments)``, ``save(path)`` and
        ``load(path)``.
    arguments : dict
        What ``fit`` is given beside the items, as JSON.
    """

    def __init__(self, kind: Any, arguments: Params) -> None:
        self._kind = kind
        self._arguments = arguments
        self.name: str = kind.name
        self.version: int = kind.version
        self.input: Modality = kind.input
        self.output: Modality = kind.output

    @property
    def params(self) -> Params:
        """What it will be fitted with."""
        return {"fit": self._arguments}

    def fit(self, items: Sequence[Item]) -> Any:
        """Learn from the items; those of held-out splits are left out.

        Raises
        ------
        DataError
            If there is nothing to learn from.
        """
        seen = [item for item in items if not is_held_out(item.split)]
        if not seen:
            raise DataError(
                f"{self.name} has nothing to learn from: all {len(items)} items are held out, and "
                "it learns from train only"
            )
        return self._kind.fit(seen, **self._arguments)

    def load(self, path: str | Path) -> Any:
        """Read what it learned in an earlier run."""
        return self._kind.load(path)

    def sample_params(self, rng: np.random.Generator) -> Params:  # noqa: ARG002 - the protocol's
        """Refuse: it has not learned anything.

        Raises
        ------
        RecipeError
            Always.
        """
        raise RecipeError(
            f"{self.name} has not learned from anything yet: fit it, or run the recipe on items"
        )

    def apply(self, value: Any, params: Params) -> Any:  # noqa: ARG002 - the protocol's
        """Refuse: it has not learned anything.

        Raises
        ------
        RecipeError
            Always.
        """
        return self.sample_params(rng_of(0))
