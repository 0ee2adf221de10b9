"""Operations by name: what recipes and records call them, and the classes that names stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from .. import plugins
from .protocol import Operation, RecipeError
from .values import Params

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


@cache
def brought_by(name: str) -> tuple[str, ...]:
    """Give the distribution of an operation that is a plugin: its version is on the record."""
    plugin = None if name in _OPERATIONS else plugins.find("generator", name)
    return (plugin.distribution,) if plugin else ()


def suggestion(word: str, known: Sequence[str]) -> str:
    """Give the end of an error message: the nearest known word, or all of them."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f": did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"


def spec(operation: Operation) -> Params:
    """Give an operation as JSON: ``{"name", "version", "params"}``; :func:`build` reads it back."""
    return {"name": operation.name, "version": operation.version, "params": operation.params}


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
    if not isinstance(name, str):
        raise RecipeError(f"an operation's name is a word, got {name!r}")
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
