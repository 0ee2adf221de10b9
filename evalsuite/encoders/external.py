"""Encoders that other distributions bring."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, TypeVar

from .. import plugins
from .base import Model

Encoder = TypeVar("Encoder", bound=Model)

BUILT_IN: Final[frozenset[str]] = frozenset(
    {
        "char_ngrams",
        "conse",
        "dnsmos",
        "efficientnet_lite0",
        "ge2e",
        "inception_v3_fid",
        "logmel_stats",
        "minilm_l6",
        "plcmos",
        "random_conv",
        "whisper_base",
        "whisper_base_encoder",
    }
)
"""Names of evalsuite's own models: a plugin cannot have one, of whatever modality it is."""


def load_plugin(name: str, modality: str, kind: type[Encoder], device: str) -> Encoder | None:
    """Load the encoder plugin of a name that no built-in model has.

    The entry point leads to a callable, as a rule the encoder's class, that takes ``device=`` and
    gives the encoder. The distribution and its version become a part of the encoder's code
    version, and so of the cache's key: another version computes anew.

    Parameters
    ----------
    name : str
        Of the entry point.
    modality : {"image", "audio", "text"}
    kind : type
        What the encoder must be an instance of.
    device : str
        As the user gave it.

    Returns
    -------
    Model or None
        None where no distribution offers the name.

    Raises
    ------
    PluginError
        If two distributions offer it, or it does not load, or is no encoder of this modality and
        name.
    """
    plugin = None if name in BUILT_IN else plugins.find("encoder", name)
    if plugin is None:
        return None
    make = plugins.load(plugin)
    if not callable(make):
        raise plugins.broken(plugin, f"it leads to {make!r:.80}, which cannot be called")
    try:
        encoder = make(device=device)
    except Exception as error:  # code of others: it may raise anything
        raise plugins.broken(plugin, f"{type(error).__name__}: {error}") from error
    if not isinstance(encoder, kind):
        raise plugins.broken(
            plugin, f"it gives a {type(encoder).__name__}, and {modality} needs a {kind.__name__}"
        )
    info = encoder.info
    if (info.id, info.modality) != (name, modality):
        raise plugins.broken(
            plugin,
            f"its info says id={info.id!r} and modality={info.modality!r}, and {name!r} and "
            f"{modality!r} were expected",
        )
    origin = f"{plugin.distribution} {plugin.version}"
    encoder.info = replace(info, code_version=f"{info.code_version} ({origin})")
    return encoder
