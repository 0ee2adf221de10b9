"""How surprising texts are to a language model from a local folder."""

from __future__ import annotations

import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from ..metrics.image.attributes import Attribute
from .base import EncoderInfo, code_version, file_sha256
from .media import Scorer

if TYPE_CHECKING:
    from collections.abc import Sequence

FAMILY = "perplexity"
PERPLEXITY = Attribute(
    "log2_perplexity",
    "bits per token",
    "Mean surprise of a token to a language model, 0 upwards; perplexity is 2 to this power.",
    "other sampling temperature; other content",
)

_CODE = code_version("evalsuite.encoders.perplexity")
_TOKENS = 512
_CHARACTERS = 20_000  # far over what 512 tokens hold; it bounds the time for a 10 MB text
_FILES = (".json", ".txt", ".model", ".safetensors")


def load_text_scorer(spec: str) -> Scorer[str]:
    """Find a scorer of texts; its files are hashed now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``perplexity/<folder>``: a causal language model as transformers saves it, with its
        tokenizer and safetensors weights. It scores the first 512 tokens of each text (or as many
        as it reads), each given those before it, the first one given the beginning of a text where
        the tokenizer has a token for that. NaN where no token has one before it.

    Returns
    -------
    Scorer

    Raises
    ------
    ModelError
        If the spec names no scorer, a library or a file is missing, or the weights would have to be
        unpickled.
    """
    family, _, name = spec.partition("/")
    if family != FAMILY or not name:
        raise ModelError(f"unknown scorer of text {spec!r}: use '{FAMILY}/<folder>'")
    for library in ("torch", "transformers"):
        if importlib.util.find_spec(library) is None:
            raise ModelError(f"{FAMILY!r} needs {library}: pip install {library}")
    folder = Path(name)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{str(folder)!r} has no config.json: give a folder of save_pretrained")
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix in _FILES)
    weights = [p for p in files if p.suffix == ".safetensors"]
    if not weights:
        raise ModelError(
            f"{str(folder)!r} has no .safetensors weights: save it anew with a current "
            "transformers (files that would have to be unpickled are not read)"
        )
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
        room = int(config.get("max_position_embeddings") or config.get("n_positions") or _TOKENS)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ModelError(f"the configuration in {str(folder)!r} is not valid: {error}") from error
    if room < 1:
        raise ModelError(f"the configuration in {str(folder)!r} is not valid: {room} positions")
    hashes = {p.name: file_sha256(p) for p in files}
    info = EncoderInfo(
        id=f"{FAMILY}/{folder.name}",
        modality="text",
        dim=1,
        weights_sha256=hashes[weights[0].name],
        weights_source="local folder",
        backend=f"torch {version('torch')}, cpu, float32, one text at a time, transformers "
        f"{version('transformers')}",
        preprocessing={
            "files": {name: digest[:16] for name, digest in hashes.items()},
            "tokens": min(_TOKENS, room),
        },
        code_version=_CODE,
    )
    return _Perplexity(info, folder, min(_TOKENS, room))


class _Perplexity(Scorer[str]):
    """A causal language model."""

    def __init__(self, info: EncoderInfo, folder: Path, tokens: int) -> None:
        super().__init__(info)
        self.scores = {PERPLEXITY.name: PERPLEXITY}
        self._folder = folder
        self._tokens = tokens
        self._model: Any = None
        self._tokenizer: Any = None

    def _load(self) -> None:
        import transformers

        given: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        tokenizers: Any = transformers.AutoTokenizer
        models: Any = transformers.AutoModelForCausalLM
        try:
            self._tokenizer = tokenizers.from_pretrained(str(self._folder), **given)
            model, said = models.from_pretrained(
                str(self._folder), use_safetensors=True, output_loading_info=True, **given
            )
        except Exception as error:  # each library below has its own
            raise ModelError(f"{self.info.id} does not load: {error}") from error
        if said["missing_keys"]:
            raise ModelError(
                f"{self.info.id} has no weights for {', '.join(sorted(said['missing_keys'])[:3])}: "
                "they would be random"
            )
        self._model = model.float().eval()

    def score(self, items: Sequence[str]) -> npt.NDArray[np.float64]:
        if not items:
            return np.empty((0, 1))
        self.load()
        return np.array([[self._surprise(text)] for text in items])

    def _surprise(self, text: str) -> float:
        import torch

        ids = self._tokenizer(text[:_CHARACTERS], add_special_tokens=False, verbose=False)
        start = self._tokenizer.bos_token_id
        row = ([] if start is None else [start]) + ids["input_ids"]
        row = row[: self._tokens]
        if len(row) < 2:
            return float("nan")
        given = torch.tensor([row])
        with torch.inference_mode():
            logits = self._model(given).logits[0, :-1].double()
            found = torch.log_softmax(logits, dim=-1).gather(1, given[0, 1:, None])
        return float(-found.mean() / np.log(2))
