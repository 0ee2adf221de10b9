"""Encoders of sound from a local folder of transformers: wav2vec 2.0, HuBERT, WavLM and CLAP."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ModelError
from .base import EncoderInfo, code_version, file_sha256
from .media import Embedder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data.audio import DecodedAudio
    from .base import Features

FAMILY = "transformers"
SPEECH = ("wav2vec2", "hubert", "wavlm")
"""``model_type`` of the models of speech: they take the waveform, and give a state every 20 ms."""
CLAP = "clap"

_CODE = code_version("evalsuite.data.audio", "evalsuite.encoders.audiofolder")
_WINDOW = 10  # seconds
_LEAST = 1.0  # seconds: less is padded with silence, for the networks have no state for a click


def load_audio_folder(folder: Path) -> Embedder[DecodedAudio]:
    """Find the model in a folder; its files are hashed now, and loaded when first used.

    Parameters
    ----------
    folder : Path
        As ``save_pretrained`` writes it: ``config.json``, ``preprocessor_config.json`` and
        safetensors weights of a model whose ``model_type`` is in :data:`SPEECH` or is ``clap``.

    Returns
    -------
    Embedder
        Of speech models, mean and standard deviation over time of the last states; of CLAP, the
        mean of the windows' embeddings in the space that it shares with text.

    Raises
    ------
    ModelError
        If transformers or torch is missing, or the folder lacks a file, holds another kind of
        model, or has weights only that would have to be unpickled.
    """
    for library in ("torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"an encoder from a folder needs {library}: pip install {library}")
    for name in ("config.json", "preprocessor_config.json"):
        if not (folder / name).is_file():
            raise ModelError(f"{str(folder)!r} has no {name}: give a folder of save_pretrained")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise ModelError(
            f"{str(folder)!r} has no .safetensors weights: save it anew with a current "
            "transformers (files that would have to be unpickled are not read)"
        )
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        rate = int(
            json.loads((folder / "preprocessor_config.json").read_text("utf-8"))["sampling_rate"]
        )
        kind = str(config["model_type"])
        if kind == CLAP:
            dim = int(config.get("projection_dim", 512))
        elif kind in SPEECH:
            dim = 2 * int(config.get("hidden_size", 768))
        else:
            raise ModelError(
                f"{folder.name!r} is a {kind!r}: of models of sound, {', '.join(SPEECH)} and "
                f"{CLAP} are read"
            )
    except (
        ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError,
    ) as error:  # fmt: skip
        raise ModelError(f"the configuration in {str(folder)!r} is not valid: {error}") from error
    if not (4000 <= rate <= 192_000 and dim >= 1):
        raise ModelError(
            f"the configuration in {str(folder)!r} is not valid: a rate of {rate} Hz and {dim} "
            "features"
        )
    files = [*sorted(folder.glob("*.json")), *weights]
    hashes = {path.name: file_sha256(path) for path in files}
    info = EncoderInfo(
        id=f"{FAMILY}/{folder.name}",
        modality="audio",
        dim=dim,
        weights_sha256=hashes[weights[0].name],
        weights_source="local folder",
        backend=f"torch {version('torch')}, cpu, float32, one window at a time, transformers "
        f"{version('transformers')}",
        preprocessing={
            "files": {name: digest[:16] for name, digest in hashes.items()},
            "rate": rate,
            "window": _WINDOW,
            "pool": "mean of windows" if kind == CLAP else "mean, sd",
        },
        code_version=_CODE,
    )
    return _Folder(info, folder, kind, rate)


class _Folder(Embedder["DecodedAudio"]):
    """Runs a model window by window: a row does not depend on the other recordings."""

    def __init__(self, info: EncoderInfo, folder: Path, kind: str, rate: int) -> None:
        super().__init__(info)
        self._folder = folder
        self._kind = kind
        self._rate = rate
        self._model: Any = None
        self._extractor: Any = None

    def _load(self) -> None:
        import transformers

        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        loader: Any = (
            transformers.ClapAudioModelWithProjection
            if self._kind == CLAP
            else transformers.AutoModel
        )
        try:
            extractors: Any = transformers.AutoFeatureExtractor
            self._extractor = extractors.from_pretrained(str(self._folder), **given)
            model, said = loader.from_pretrained(
                str(self._folder), use_safetensors=True, output_loading_info=True, **given
            )
        except Exception as error:  # each library below has its own
            raise ModelError(f"{self.info.id} does not load: {error}") from error
        # Weights that only training uses may lack: what makes the features may not.
        lost = sorted(k for k in said["missing_keys"] if not k.startswith("masked_spec_embed"))
        if lost:
            raise ModelError(
                f"{self.info.id} has no weights for {', '.join(lost[:3])} ({len(lost)} in all): "
                "they would be random"
            )
        self._model = model.float().eval()

    def _embed(self, items: Sequence[DecodedAudio]) -> Features:
        return np.stack([self._row(item) for item in items]).astype(np.float32)

    def _row(self, item: DecodedAudio) -> Features:
        import torch

        samples = at_rate(item, self._rate)
        size = _WINDOW * self._rate
        found = []
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            if start and len(part) < _LEAST * self._rate:
                break  # the rest of a second is not worth a window that is mostly padding
            part = np.pad(part, (0, max(0, int(_LEAST * self._rate) - len(part))))
            inputs = self._extractor(part, sampling_rate=self._rate, return_tensors="pt")
            with torch.inference_mode():
                made = self._model(**inputs)
            states = made.audio_embeds if self._kind == CLAP else made.last_hidden_state[0]
            found.append(states.float().numpy())
        states = np.concatenate(found)
        mean: Features = states.mean(axis=0)
        return mean if self._kind == CLAP else np.concatenate((mean, states.std(axis=0)))


def at_rate(item: DecodedAudio, rate: int) -> Features:
    """Give a recording at a model's rate, from its own rate where that is needed."""
    if item.rate == rate:
        return item.samples
    if item.source_rate == rate:
        return item.native
    import soxr

    resampled: Features = soxr.resample(item.native, item.source_rate, rate, "HQ")
    return resampled
