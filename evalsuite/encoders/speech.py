"""Models of speech whose weights travel in wheels: quality, voice activity, speaker, content.

DNSMOS and PLCMOS (speechmos), Silero's voice activity detector and the GE2E speaker encoder
(Resemblyzer) are read from the wheels' files; the wheels themselves are never imported, so librosa
and the rest of what they need is not needed here.
"""

from __future__ import annotations

import hashlib
import importlib.util
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from ..errors import ModelError
from ..metrics.image.attributes import Attribute
from . import audiofolder, onnxfile
from .base import EncoderInfo, code_version, cpu_count, file_sha256
from .external import load_plugin
from .media import Embedder, Scorer
from .mel import RATE, framed, mel_power, mel_spectrogram
from .onnxfile import session

if TYPE_CHECKING:
    from ..data.audio import DecodedAudio
    from .base import Features
    from .cache import FeatureCache

_Samples: TypeAlias = npt.NDArray[np.float32]
_Floats: TypeAlias = npt.NDArray[np.floating]

WHISPER_ENCODER, SPEAKER, LOGMEL = "whisper_base_encoder", "ge2e", "logmel_stats"
"""What :func:`load_audio_encoder` takes."""

_CODE = code_version(
    "evalsuite.data.audio",
    "evalsuite.encoders.mel",
    "evalsuite.encoders.onnxfile",
    "evalsuite.encoders.speech",
)
_MIN_SPEECH = 0.1  # seconds of speech from which a score of its quality means something
_MIN_LEVEL = -70.0  # dBFS: less is hiss of converters, whatever the detector says


@dataclass(frozen=True, slots=True)
class Weights:
    """A file in a wheel.

    Attributes
    ----------
    package, module, file : str
        The wheel, its top-level module, and the file below the module's folder.
    sha256 : str
        What it must hash to.
    licence : str
        Of the weights.
    """

    package: str
    module: str
    file: str
    sha256: str
    licence: str

    def read(self) -> bytes:
        """Give the file's content, checked; nothing of the wheel is run.

        Raises
        ------
        ModelError
            If the wheel is not installed, or does not hold the recorded file.
        """
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise ModelError(
                f"{self.file} is in the wheel {self.package}: pip install 'evalsuite[models]' "
                f"(or pip install --no-deps {self.package})"
            )
        try:
            content = (Path(spec.origin).parent / self.file).read_bytes()
        except OSError as error:
            raise ModelError(f"cannot read {self.file} of {self.package}: {error}") from error
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 != self.sha256:
            from .registry import WrongWeightsError  # the registry imports this module

            raise WrongWeightsError(
                f"{self.file} of {self.package} is not the recorded one (SHA-256 {sha256}, "
                f"recorded {self.sha256}): pip install --force-reinstall {self.package}",
                sha256,
            )
        return content

    @property
    def source(self) -> str:
        """Where it was found, for people."""
        return f"wheel {self.package} {version(self.package)}"


WEIGHTS = {
    "dnsmos_p835": Weights(
        "speechmos", "speechmos", "dnsmos_models/sig_bak_ovr.onnx",
        "269fbebdb513aa23cddfbb593542ecc540284a91849ac50516870e1ac78f6edd", "MIT (the wheel)",
    ),
    "dnsmos_p808": Weights(
        "speechmos", "speechmos", "dnsmos_models/model_v8.onnx",
        "9246480c58567bc6affd4200938e77eef49468c8bc7ed3776d109c07456f6e91", "MIT (the wheel)",
    ),
    "plcmos": Weights(
        "speechmos", "speechmos", "plcmos_models/plcmos_v2.onnx",
        "c0ad3fc64ef9682b4749c0e96636b41c73b4b30bd123b9348feea06a96895286", "MIT (the wheel)",
    ),
    "silero": Weights(
        "silero-vad", "silero_vad", "data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85", "MIT",
    ),
    "ge2e": Weights(
        "Resemblyzer", "resemblyzer", "pretrained.pt",
        "39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e", "Apache-2.0",
    ),
}  # fmt: skip
"""The files, by what they are."""

_SPEECH_SHARE = Attribute(
    "speech_share",
    "",
    "Share of the time in which Silero's detector hears speech, 0 to 1.",
    "trimming; denoising; other content",
)
_DNSMOS = tuple(
    Attribute(f"dnsmos_{name}", "MOS", f"{what}, 1 bad to 5 excellent; no speech has none.", acts)
    for name, what, acts in (
        ("sig", "DNSMOS P.835: quality of the speech itself", "equalisation; codec; denoising"),
        ("bak", "DNSMOS P.835: freedom from background noise", "added noise; denoising"),
        ("ovrl", "DNSMOS P.835: overall quality", "added noise; denoising; gain; codec"),
        ("p808", "DNSMOS P.808: overall quality", "added noise; denoising; codec"),
    )
)
_PLCMOS = Attribute(
    "plcmos",
    "MOS",
    "PLCMOS v2: freedom from the marks of lost packets, 1 bad to 5 excellent; no speech has none.",
    "packet loss; dropouts; concealment",
)


def load_scorer(spec: str) -> Scorer[DecodedAudio]:
    """Find a scorer of speech; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``dnsmos``: ``speech_share`` and DNSMOS P.835 and P.808, as speechmos computes them.
        ``dnsmos_fast``: the widest layers in integers of 8 bits, and of a recording under 9.01 s,
        which is repeated, two windows of up to eight (docs/audio.md states the difference).
        ``plcmos``: PLCMOS v2. ``vad``: ``speech_share`` alone, by Silero's detector.
        ``squim/<file>``: torchaudio's SQUIM with the weights that it published (``.pth``, or
        ``.safetensors``): STOI, PESQ and SI-SDR without a clean reference.
        ``onnx/<file>``: a network of yours that was exported to ONNX (UTMOS, NISQA…): it
        takes a waveform, shape (1, n) or (n,), and gives numbers. A ``.json`` of the same name
        beside it gives its rate and names its scores (docs/audio.md); without one the rate is
        16 kHz, and each output is a score.

    Returns
    -------
    Scorer
        Scores are NaN where less than 0.1 s of speech is heard, or the level is under −70 dBFS:
        DNSMOS gives digital silence a better grade than noise.

    Raises
    ------
    ModelError
        If the spec names no scorer, or the weights are not at hand or not the recorded ones, or
        a library is missing. The message says what to do.
    """
    family, _, name = spec.partition("/")
    if family == onnxfile.FAMILY and name:
        return _OnnxFile(Path(name))
    if family == _SQUIM and name:
        return _SquimFile(Path(name))
    made = _SCORERS.get(spec)
    if made is None:
        raise ModelError(
            f"unknown scorer {spec!r}: use one of {', '.join(map(repr, _SCORERS))}, "
            f"'{_SQUIM}/<file>' or '{onnxfile.FAMILY}/<file>'"
        )
    return made(spec)


def load_audio_encoder(
    spec: str = WHISPER_ENCODER, *, cache: FeatureCache | None = None
) -> Embedder[DecodedAudio]:
    """Find an encoder of recordings; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``whisper_base_encoder``: mean and spread of the states of Whisper base's encoder, 1024
        features of what is said and how it sounds. ``ge2e``: who speaks, 256 features of unit
        length. ``logmel_stats``: mean and spread of the log-mel spectrum, 128 features of the
        sound, no model. ``transformers/<folder>``: wav2vec 2.0, HuBERT, WavLM or CLAP from a local
        folder (:mod:`.audiofolder`). ``onnx/<file>``: a network of yours that was exported to
        ONNX (VGGish, PANNs…); a ``.json`` of the same name says what it takes (:mod:`.onnxfile`).
    cache : FeatureCache, optional
        Where Whisper's joined weights are kept.

    Returns
    -------
    Embedder

    Raises
    ------
    ModelError
        If the spec names no encoder, or the weights are not at hand or not the recorded ones, or
        a library is missing. The message says what to do.
    """
    if spec == WHISPER_ENCODER:
        return _WhisperEncoder(cache)
    if spec == SPEAKER:
        return Ge2e()
    if spec == LOGMEL:
        return _LogMel()
    family, _, name = spec.partition("/")
    if family == audiofolder.FAMILY and name:
        return audiofolder.load_audio_folder(Path(name))
    if family == onnxfile.FAMILY and name:
        return onnxfile.load_onnx_sound(Path(name), cache)
    if (plugin := load_plugin(spec, "audio", Embedder, "auto")) is not None:  # type: ignore[type-abstract]
        return plugin
    raise ModelError(
        f"unknown audio encoder {spec!r}: use {WHISPER_ENCODER!r}, {SPEAKER!r}, {LOGMEL!r}, "
        f"'{audiofolder.FAMILY}/<folder>' or '{onnxfile.FAMILY}/<file>'"
    )


# --- running ONNX ---------------------------------------------------------------------------------


def _cut(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> bytes:
    """Give the part of an ONNX graph between some of its values, their dimensions left open."""
    import onnx

    made_by = {name: node for node in model.graph.node for name in node.output}
    wanted, nodes = list(outputs), []
    seen = set(inputs)
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in made_by:
            nodes.append(made_by[name])
            wanted += [i for i in made_by[name].input if i]
    kept = [node for node in model.graph.node if any(node is n for n in nodes)]
    used = {name for node in kept for name in node.input}
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        kept,
        "part",
        [value(name, onnx.TensorProto.FLOAT, None) for name in inputs],
        [value(name, onnx.TensorProto.FLOAT, None) for name in outputs],
        [tensor for tensor in model.graph.initializer if tensor.name in used],
    )
    part = onnx.helper.make_model(
        graph, opset_imports=model.opset_import, ir_version=model.ir_version
    )
    return bytes(part.SerializeToString())


def _require(spec: str, *modules: str) -> None:
    missing = [m for m in modules if importlib.util.find_spec(m) is None]
    if missing:
        raise ModelError(
            f"{spec!r} needs {' and '.join(missing)}: pip install 'evalsuite[models]' "
            f"(or {' '.join(missing)})"
        )


def _info(
    spec: str, weights: Sequence[str], backend: str, dim: int, preprocessing: dict[str, Any]
) -> EncoderInfo:
    """Record a model, reading its weights once to check them."""
    found = [WEIGHTS[name] for name in weights]
    for one in found:
        one.read()
    digest = found[0].sha256
    if len(found) > 1:
        digest = hashlib.sha256("".join(one.sha256 for one in found).encode()).hexdigest()
    return EncoderInfo(
        id=spec,
        modality="audio",
        dim=dim,
        weights_sha256=digest,
        weights_source=", ".join(dict.fromkeys(one.source for one in found)),
        backend=backend,
        preprocessing={"rate": RATE, **preprocessing},
        code_version=_CODE,
    )


def _samples(item: DecodedAudio, spec: str) -> _Samples:
    if item.rate != RATE:
        raise ValueError(f"{spec} takes {RATE} Hz, got {item.rate}: decode at that rate")
    return np.ascontiguousarray(item.samples, dtype=np.float32)


def _each(function: Callable[[DecodedAudio], Any], items: Sequence[DecodedAudio]) -> list[Any]:
    """Apply a function to each recording, on all cores: alone or in company, the same."""
    if len(items) == 1:
        return [function(items[0])]
    with ThreadPoolExecutor(min(len(items), cpu_count())) as pool:
        return list(pool.map(function, items))


# --- voice activity -------------------------------------------------------------------------------


class _Silero:
    """Silero's voice activity detector, on whole recordings."""

    FRAME = 512
    _CONTEXT = 64  # samples of the frame before, which the network sees too
    _LEAST = 10 ** (-25 / 20)  # RMS that quiet recordings are raised to: it misses quiet speech

    def __init__(self) -> None:
        self._session = session(WEIGHTS["silero"].read(), "Silero's detector")

    def __call__(self, samples: _Samples) -> npt.NDArray[np.float32]:
        """Give the probability of speech in each frame of 32 ms; zeros fill up the last one."""
        level = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))
        if 0 < level < self._LEAST:
            samples = samples * np.float32(self._LEAST / level)
        n = -(-len(samples) // self.FRAME)
        padded = np.zeros(self._CONTEXT + n * self.FRAME, dtype=np.float32)
        padded[self._CONTEXT : self._CONTEXT + len(samples)] = samples
        frames = framed(padded, self._CONTEXT + self.FRAME, self.FRAME)
        start = np.zeros((1, 1, 128), dtype=np.float32)
        feed = {"input": np.ascontiguousarray(frames), "h": start, "c": start}
        return np.asarray(self._session.run(["speech_probs"], feed)[0])

    def share(self, samples: _Samples) -> tuple[float, bool]:
        """Give the share of speech, and whether there is enough of it to be graded."""
        speech = self(samples) >= 0.5
        level = float(np.mean(np.square(samples, dtype=np.float64)))
        enough = speech.sum() * self.FRAME >= _MIN_SPEECH * RATE - self.FRAME
        return float(speech.mean()), bool(enough and level >= 10 ** (_MIN_LEVEL / 10))


class _Graded(Scorer["DecodedAudio"]):
    """A scorer that listens for speech first."""

    _vad: _Silero

    def __init__(self, info: EncoderInfo, scores: Sequence[Attribute]) -> None:
        super().__init__(info)
        self.scores: Mapping[str, Attribute] = {a.name: a for a in scores}

    @abstractmethod
    def _grade(self, samples: _Samples) -> Sequence[float]:
        """Grade speech: the scores after ``speech_share``, if that is one."""

    def score(self, items: Sequence[DecodedAudio]) -> npt.NDArray[np.float64]:
        if not items:
            return np.empty((0, len(self.scores)))
        self.load()
        return np.array(_each(self._row, items), dtype=np.float64)

    def _given(self, item: DecodedAudio) -> _Samples:
        """Give what is graded; what is listened to is at 16 kHz."""
        return _samples(item, self.info.id)

    def _row(self, item: DecodedAudio) -> list[float]:
        samples = _samples(item, self.info.id)
        share, enough = self._vad.share(samples)
        head = [share] if _SPEECH_SHARE.name in self.scores else []
        rest = len(self.scores) - len(head)
        return [*head, *(self._grade(self._given(item)) if enough else [float("nan")] * rest)]


class _Vad(_Graded):
    """The share of speech alone."""

    def __init__(self, spec: str) -> None:
        _require(spec, "onnxruntime")
        super().__init__(
            _info(spec, ["silero"], _backend(), 1, {"threshold": 0.5}), [_SPEECH_SHARE]
        )

    def _load(self) -> None:
        self._vad = _Silero()

    def _grade(self, samples: _Samples) -> Sequence[float]:  # noqa: ARG002
        return ()


def _backend() -> str:
    return f"{onnxfile.onnx_backend()}, one recording a thread"


# --- DNSMOS ---------------------------------------------------------------------------------------

_FRAME, _HOP = 320, 160
_WINDOW = 900  # frames of 10 ms in a window of 9.01 s
_STEP = 100  # frames between two windows
_EDGE = 24  # frames at either end of a window that its zero padding reaches, and what they need
_EDGE_OUT = 3  # of the results, one in 4 frames, that it reaches
_BLOCK = 452  # frames in one pass through the convolutions: half a window, 40 MB
_HALO = 12  # frames on either side that a result depends on, rounded up to a multiple of 4
# Mapping of the network's output to the scale of ratings, lowest power last: Reddy et al.'s fit, as
# in Microsoft's DNS Challenge.
_CALIBRATION = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
# What the first four layers of P.835 reach on speech that is loud or noisy: the range of 8 bits.
_LARGEST = (6.0, 12.0, 9.0, 6.0)
_FAST_WINDOWS = 2  # of a repeated recording: they share all but a second, and the error is half
_WEIGHT_BITS = 7  # with 8, processors without VNNI saturate sums of two products: other scores


def _eight_bits(model: Any) -> Any:
    """Give P.835's graph with its widest convolutions, 2 to 4 of 7, in integers of 8 bits.

    They are 96 % of its work. Each keeps a scale for each output channel; rectifying is what
    unsigned integers do anyway.
    """
    import onnx
    from onnx import numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    tensors = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    after = {i: node for node in made.graph.node for i in node.input}
    # Square kernels: the spectrum is made by convolutions, too.
    convs = [n for n in made.graph.node if n.op_type == "Conv" and n.input[1].startswith("conv2d")]
    convs = convs[: len(_LARGEST)]
    rectified = [after[conv.output[0]].output[0] for conv in convs]
    scales = np.array(_LARGEST, dtype=np.float32) / 255
    constants = {f"scale_{k}": scale for k, scale in enumerate(scales)}
    constants["zero"] = np.array(0, dtype=np.uint8)
    most = 2 ** (_WEIGHT_BITS - 1) - 1
    nodes = [onnx.helper.make_node("QuantizeLinear", [rectified[0], "scale_0", "zero"], ["u8_0"])]
    for k, conv in enumerate(convs[1:], start=1):
        weights, bias = tensors[conv.input[1]], tensors[conv.input[2]]
        step = (np.abs(weights).max(axis=(1, 2, 3)) / most).astype(np.float32)
        constants |= {
            f"weights_{k}": np.rint(weights / step[:, None, None, None]).astype(np.int8),
            f"step_{k}": step,
            f"centre_{k}": np.zeros(len(step), dtype=np.int8),
            f"bias_{k}": np.rint(bias / (step * scales[k - 1])).astype(np.int32),
        }
        given = [
            f"u8_{k - 1}", f"scale_{k - 1}", "zero",
            f"weights_{k}", f"step_{k}", f"centre_{k}", f"scale_{k}", "zero", f"bias_{k}",
        ]  # fmt: skip
        node = onnx.helper.make_node("QLinearConv", given, [f"u8_{k}"])
        node.attribute.extend(conv.attribute)
        nodes.append(node)
    last = len(convs) - 1
    given = [f"u8_{last}", f"scale_{last}", "zero"]
    nodes.append(onnx.helper.make_node("DequantizeLinear", given, [rectified[-1]]))
    replaced = {c.output[0] for c in convs[1:]} | set(rectified[1:])
    kept: list[Any] = []
    for old in made.graph.node:
        if not replaced & set(old.output):
            kept.append(old)
        if old.output[0] == rectified[0]:
            kept += nodes
    graph = onnx.helper.make_graph(
        kept, "eight_bits", list(made.graph.input), list(made.graph.output),
        [
            *made.graph.initializer,
            *(numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()),
        ],
    )  # fmt: skip
    return onnx.helper.make_model(
        graph, opset_imports=made.opset_import, ir_version=made.ir_version
    )


class Dnsmos(_Graded):
    """DNSMOS P.835 and P.808.

    The networks look at windows of 9.01 s, one second apart; a shorter recording is doubled until
    it fills one. The score is the mean over windows. Neighbouring windows share 8 of their 9
    seconds, and P.835's network is convolutional up to a maximum over time: its convolutions run
    once over the recording, and again only where a window's padding reaches. The scores are
    speechmos's up to rounding.

    speechmos itself drops some windows of recordings over 16 s, where a product in floating point
    comes out one sample short; here all windows count.

    References
    ----------
    C. K. A. Reddy, V. Gopal and R. Cutler, "DNSMOS P.835", ICASSP 2022; "DNSMOS", ICASSP 2021.
    """

    def __init__(self, spec: str) -> None:
        _require(spec, "onnxruntime", "onnx")
        self.fast = spec.endswith("_fast")
        info = _info(
            spec,
            ["dnsmos_p835", "dnsmos_p808", "silero"],
            _backend(),
            1 + len(_DNSMOS),
            {
                "window": 9.01,
                "hop": 1.0,
                "windows": f"first {_FAST_WINDOWS} if repeated" if self.fast else "all",
                "precision": "P.835's layers 2 to 4 int8" if self.fast else "float32",
            },
        )
        super().__init__(info, (_SPEECH_SHARE, *_DNSMOS))

    def _load(self) -> None:
        import onnx

        self._vad = _Silero()
        model = onnx.load_from_string(WEIGHTS["dnsmos_p835"].read())
        pools = [node for node in model.graph.node if node.op_type == "MaxPool"]
        frames = next(node for node in model.graph.node if node.op_type == "Concat").output[0]
        if self.fast:
            model = _eight_bits(model)
        middle, output = pools[2].input[0], model.graph.output[0].name
        self._body = session(_cut(model, [frames], [middle]), self.info.id)
        self._head = session(_cut(model, [middle], [output]), self.info.id)
        self._p808 = session(WEIGHTS["dnsmos_p808"].read(), self.info.id)

    def _grade(self, samples: _Samples) -> Sequence[float]:
        return [float(v) for v in self.windows(samples).mean(axis=0)]

    def windows(self, samples: _Samples) -> npt.NDArray[np.float64]:
        """Grade each window of a recording.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            At 16 kHz; n at least 1.

        Returns
        -------
        ndarray of float64, shape (windows, 4)
            SIG, BAK, OVRL and P.808.
        """
        self.load()
        least = _WINDOW * _HOP + _HOP
        full = samples
        while len(full) < least:
            full = np.concatenate((full, full))
        starts = np.arange(max(1, len(full) // RATE - 9))
        if self.fast and len(samples) < least:
            starts = starts[:_FAST_WINDOWS]
        raw = self._signal(full, starts)
        graded = [np.polyval(c, raw[:, k]) for k, c in enumerate(_CALIBRATION)]
        return np.stack([*graded, self._overall(full, starts)], axis=1)

    def _signal(self, full: _Samples, starts: npt.NDArray[np.intp]) -> _Floats:
        """Run P.835 on windows; what they share, once."""
        frames = framed(full, _FRAME, _HOP)[: starts[-1] * _STEP + _WINDOW]
        shared = self._convolve(frames)
        if len(starts) > 1:
            # The first window begins, and the last one ends, where the recording does.
            inner = starts[1:, None] * _STEP + np.arange(_EDGE)
            left = self._run_body(frames[inner])[:, :, :_EDGE_OUT]
            inner = starts[:-1, None] * _STEP + np.arange(_WINDOW - _EDGE, _WINDOW)
            right = self._run_body(frames[inner])[:, :, -_EDGE_OUT:]
        raw = []
        for k, start in enumerate(starts):
            at = start * _STEP // 4
            own = shared[:, :, at : at + _WINDOW // 4].copy()
            if k > 0:
                own[0, :, :_EDGE_OUT] = left[k - 1]
            if k < len(starts) - 1:
                own[0, :, -_EDGE_OUT:] = right[k]
            raw.append(self._head.run(None, {self._head.get_inputs()[0].name: own})[0][0])
        return np.array(raw, dtype=np.float64)

    def _convolve(self, frames: _Samples) -> npt.NDArray[np.float32]:
        """Run the convolutions over any number of frames, block by block."""
        parts = []
        for start in range(0, len(frames), _BLOCK):
            low, high = max(0, start - _HALO), min(len(frames), start + _BLOCK + _HALO)
            part = self._run_body(frames[None, low:high])
            skip = (start - low) // 4
            parts.append(part[:, :, skip : skip + _BLOCK // 4])
        return np.concatenate(parts, axis=2)

    def _run_body(self, frames: _Samples) -> npt.NDArray[np.float32]:
        feed = {self._body.get_inputs()[0].name: np.ascontiguousarray(frames)}
        return np.asarray(self._body.run(None, feed)[0])

    def _overall(self, full: _Samples, starts: npt.NDArray[np.intp]) -> _Floats:
        """Run P.808: its mel spectra are relative to each window's loudest point."""
        n_fft, bands = _FRAME + 1, 120
        end = (starts[-1] * _STEP + _WINDOW) * _HOP
        shared = mel_spectrogram(full[:end], n_fft, _HOP, bands)
        graded = []
        for start in starts:
            own = shared[start * _STEP : start * _STEP + _WINDOW].copy()
            window = full[start * _STEP * _HOP : (start * _STEP + _WINDOW) * _HOP]
            # The first and the last frame reach over the ends, where the window has zeros.
            ends = np.zeros((2, n_fft), dtype=np.float32)
            ends[0, n_fft // 2 :] = window[: n_fft - n_fft // 2]
            ends[1, : n_fft - 1] = window[-(n_fft - 1) :]
            own[[0, -1]] = mel_power(ends, bands)
            level = 10 * np.log10(np.maximum(own, 1e-10))
            level = np.maximum(level - level.max(), -80.0)
            feed = {"input_1": ((level + 40) / 40).astype(np.float32)[None]}
            graded.append(self._p808.run(None, feed)[0][0, 0])
        return np.array(graded, dtype=np.float64)


# --- PLCMOS ---------------------------------------------------------------------------------------

_RATERS = 15


class Plcmos(_Graded):
    """PLCMOS v2: the quality of packet loss concealment.

    The network imagines raters; the score is the mean over 15 of them. speechmos draws them anew at
    each call, so that its score of one recording varies; here they are drawn once, with a fixed
    seed. The recording passes through the network once, not once a rater.

    References
    ----------
    L. Diener et al., "PLCMOS: a data-driven non-intrusive metric for the evaluation of packet loss
    concealment algorithms", Interspeech 2023.
    """

    def __init__(self, spec: str) -> None:
        _require(spec, "onnxruntime", "onnx")
        info = _info(
            spec, ["plcmos", "silero"], _backend(), 1, {"raters": _RATERS, "raters_seed": 0}
        )
        super().__init__(info, [_PLCMOS])
        self._raters = np.random.RandomState(0).normal(size=(_RATERS, 64)).astype(np.float32)

    def _load(self) -> None:
        import onnx

        self._vad = _Silero()
        model = onnx.load_from_string(WEIGHTS["plcmos"].read())
        joined = next(
            node for node in model.graph.node if node.op_type == "Concat" and len(node.input) == 3
            and "rater_embed" in _ancestors(model, node.input[2])
        )  # fmt: skip
        self._names = list(joined.input[:2])
        output = [model.graph.output[0].name]
        self._body = session(_cut(model, ["degraded_audio"], self._names), self.info.id)
        self._head = session(_cut(model, [*self._names, "rater_embed"], output), self.info.id)

    def _grade(self, samples: _Samples) -> Sequence[float]:
        # Frames of 512 from half a frame before the start to the last one that has a sample.
        n = -(-(len(samples) + 256) // 256)
        padded = np.zeros(256 + n * 256, dtype=np.float64)
        padded[256 : 256 + len(samples)] = samples
        window = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
        spectrum = np.fft.rfft(
            np.lib.stride_tricks.sliding_window_view(padded, 512)[::256] * window
        )
        power = np.abs(spectrum) ** 2
        # Zeros count as 120 dB under the least power that is none.
        power[power == 0] = power[power > 0].min() * 1e-12
        feed = {"degraded_audio": (np.log(power) / 20).astype(np.float32)[None, None]}
        states = self._body.run(self._names, feed)
        repeated = [np.repeat(state, _RATERS, axis=0) for state in states]
        feed = dict(zip(self._names, repeated, strict=True)) | {"rater_embed": self._raters}
        return [float(np.mean(self._head.run(None, feed)[0], dtype=np.float64))]


def _ancestors(model: Any, name: str) -> set[str]:
    """Give the names of all values that a value is made from."""
    made_by = {out: node for node in model.graph.node for out in node.output}
    seen, wanted = set[str](), [name]
    while wanted:
        one = wanted.pop()
        if one not in seen:
            seen.add(one)
            wanted += made_by[one].input if one in made_by else []
    return seen


# --- encoders -------------------------------------------------------------------------------------


class _PerRecording(Embedder["DecodedAudio"]):
    """An encoder that takes one recording at a time."""

    @abstractmethod
    def _features(self, samples: _Samples) -> Features:
        """Give the features of one recording, shape (dim,)."""

    def _embed(self, items: Sequence[DecodedAudio]) -> Features:
        def one(item: DecodedAudio) -> Features:
            return self._features(_samples(item, self.info.id))

        return np.array(_each(one, items), dtype=np.float32)


class _LogMel(_PerRecording):
    """Mean and standard deviation over time of the log-mel spectrum: 64 bands, 25 ms, 10 ms."""

    _BANDS = 64
    _FLOOR = 1e-9  # about the noise of 16 bits: digital silence is as silent as a quiet converter

    def __init__(self) -> None:
        info = EncoderInfo(
            id=LOGMEL,
            modality="audio",
            dim=2 * self._BANDS,
            weights_sha256=hashlib.sha256(b"").hexdigest(),
            weights_source="no weights",
            backend=f"numpy {np.__version__}, float32",
            preprocessing={"rate": RATE, "window": 400, "hop": 160, "bands": self._BANDS},
            code_version=_CODE,
        )
        super().__init__(info)

    def _load(self) -> None:
        """Nothing to load."""

    def _features(self, samples: _Samples) -> Features:
        level = np.log(np.maximum(mel_spectrogram(samples, 400, 160, self._BANDS), self._FLOOR))
        return np.concatenate((level.mean(axis=0), level.std(axis=0)))


class Ge2e(_PerRecording):
    """The GE2E speaker encoder, with Resemblyzer's weights.

    Pauses over 0.2 s are cut (all of it is kept if no speech is heard), what is left is brought to
    −20 dBFS and embedded in pieces of 1.6 s, whose mean is scaled to unit length. Resemblyzer only
    raises what is under −30 dBFS: the level would count as a part of the voice, since the network
    takes power, not its logarithm. The weights are read without running anything that is pickled.

    References
    ----------
    L. Wan et al., "Generalized end-to-end loss for speaker verification", ICASSP 2018.
    """

    _PIECE = 160  # frames of 10 ms
    _STEP = 77  # 1.3 pieces a second
    _LEVEL = -20.0

    def __init__(self) -> None:
        _require(SPEAKER, "onnxruntime")
        preprocessing = {"level": self._LEVEL, "piece": 1.6, "step": 0.77, "pauses": "silero"}
        backend = f"torch {version('torch')}, cpu, float32, one recording a thread"
        super().__init__(_info(SPEAKER, ["ge2e", "silero"], backend, 256, preprocessing))

    def _load(self) -> None:
        import io

        import torch

        self._vad = _Silero()
        content = WEIGHTS["ge2e"].read()
        try:
            state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except Exception as error:  # pickle, zip and torch each have their own
            raise ModelError(f"cannot read the weights of {SPEAKER}: {error}") from error
        self._lstm = torch.nn.LSTM(40, 256, 3, batch_first=True)
        self._linear = torch.nn.Linear(256, 256)
        for part, name in ((self._lstm, "lstm."), (self._linear, "linear.")):
            weights = {
                k.removeprefix(name): v
                for k, v in state["model_state"].items()
                if k.startswith(name)
            }
            part.load_state_dict(weights)
            part.requires_grad_(requires_grad=False)

    def _features(self, samples: _Samples) -> Features:
        speech = self._without_pauses(samples)
        level = float(np.sqrt(np.mean(np.square(speech, dtype=np.float64))))
        gain = 10 ** (self._LEVEL / 20) / level if level > 0 else 1.0
        return self.embed_waveform(speech * np.float32(gain))

    def _without_pauses(self, samples: _Samples) -> _Samples:
        speech = self._vad(samples) >= 0.5
        if not speech.any():
            return samples
        near = np.convolve(speech, np.ones(7), "same") > 0  # 0.1 s on either side
        return samples[np.repeat(near, _Silero.FRAME)[: len(samples)]]

    def embed_waveform(self, samples: _Samples) -> Features:
        """Embed a waveform as it is: Resemblyzer's ``embed_utterance``.

        Parameters
        ----------
        samples : ndarray of float32, shape (n,)
            At 16 kHz, n at least 1.

        Returns
        -------
        ndarray of float32, shape (256,)
            Not negative, of length 1.
        """
        import torch

        self.load()
        frames = -(-(len(samples) + 1) // 160)
        starts = np.arange(0, max(1, frames - self._PIECE + self._STEP + 1), self._STEP)
        # A last piece that is under three quarters full is left out, unless it is the only one.
        if len(starts) > 1 and (len(samples) - starts[-1] * 160) / (self._PIECE * 160) < 0.75:
            starts = starts[:-1]
        padded = np.pad(samples, (0, max(0, (starts[-1] + self._PIECE) * 160 - len(samples))))
        mel = mel_spectrogram(padded, 400, 160, 40)
        pieces = torch.from_numpy(mel[starts[:, None] + np.arange(self._PIECE)])
        with torch.inference_mode():
            _, (hidden, _) = self._lstm(pieces)
            each = torch.relu(self._linear(hidden[-1]))
            each = torch.nn.functional.normalize(each, dim=1)
            mean = torch.nn.functional.normalize(each.mean(dim=0), dim=0)
        return np.asarray(mean.numpy(), dtype=np.float32)


class _WhisperEncoder(_PerRecording):
    """Mean and standard deviation over time of the last states of Whisper base's encoder.

    Whisper pads everything to 30 s. Here windows of 10 s follow each other, the last one padded, in
    a ninth of the time; the padding's states are left out.
    """

    _DIM = 512
    _WINDOW = 10  # seconds
    _STATE = 320  # samples a state

    def __init__(self, cache: FeatureCache | None) -> None:
        from . import asr

        _require(WHISPER_ENCODER, "ctranslate2")
        self._folder = asr.whisper_folder(cache)
        info = EncoderInfo(
            id=WHISPER_ENCODER,
            modality="audio",
            dim=2 * self._DIM,
            weights_sha256=asr.SHA256,
            weights_source=f"wheels {' and '.join(asr.PACKAGES)}",
            backend=f"ctranslate2 {version('ctranslate2')}, cpu, int8, one recording a thread",
            preprocessing={"rate": RATE, "window": self._WINDOW, "pool": "mean, sd"},
            code_version=_CODE,
        )
        super().__init__(info)

    def _load(self) -> None:
        import ctranslate2

        try:
            self._model = ctranslate2.models.Whisper(
                str(self._folder), device="cpu", compute_type="int8",
                inter_threads=cpu_count(), intra_threads=1,
            )  # fmt: skip
        except Exception as error:  # ctranslate2 has a few of its own
            raise ModelError(f"{WHISPER_ENCODER} does not load: {error}") from error

    def _features(self, samples: _Samples) -> Features:
        import ctranslate2

        size = self._WINDOW * RATE
        states = []
        for start in range(0, len(samples), size):
            part = samples[start : start + size]
            padded = np.zeros(size, dtype=np.float32)
            padded[: len(part)] = part
            mel = ctranslate2.StorageView.from_array(whisper_mel(padded)[None])
            own = np.array(self._model.encode(mel, to_cpu=True))[0]
            states.append(own[: -(-len(part) // self._STATE)])
        all_states = np.concatenate(states)
        return np.concatenate((all_states.mean(axis=0), all_states.std(axis=0)))


def whisper_mel(samples: _Samples) -> Features:
    """Give the log-mel spectrum that Whisper was trained on (Radford et al. 2022, section 2.2).

    Parameters
    ----------
    samples : ndarray of float32, shape (n,)
        At 16 kHz, n at least 201.

    Returns
    -------
    ndarray of float32, shape (80, n // 160)
    """
    frames = framed(np.pad(samples, 200, mode="reflect"), 400, 160)[: len(samples) // 160]
    level = np.log10(np.maximum(mel_power(frames, 80), 1e-10))
    return np.ascontiguousarray(((np.maximum(level, level.max() - 8) + 4) / 4).T)


# --- weights and networks of the user's -----------------------------------------------------------

_SQUIM = "squim"
_OBJECTIVE = tuple(
    Attribute(
        f"squim_{name}", unit, f"{what}; no speech has none.", "denoising; added noise; codec"
    )
    for name, unit, what in (
        ("stoi", "", "Guessed STOI: how intelligible beside the clean speech, 0 to 1"),
        ("pesq", "", "Guessed wideband PESQ: quality beside the clean speech, 1 to 4.64"),
        ("si_sdr", "dB", "Guessed SI-SDR: the clean speech against all else in the recording"),
    )
)


class _SquimFile(_Graded):
    """SQUIM's objective scores: the mean over equal pieces of at most 10 s."""

    _LONGEST = 10 * RATE

    def __init__(self, path: Path) -> None:
        spec = f"{_SQUIM}/{path.name}"
        _require(spec, "onnxruntime")
        self._path = path
        info = EncoderInfo(
            id=spec,
            modality="audio",
            dim=len(_OBJECTIVE),
            weights_sha256=file_sha256(path),
            weights_source="local file",
            backend=f"torch {version('torch')}, cpu, float32, one recording a thread",
            preprocessing={"rate": RATE, "longest": self._LONGEST},
            code_version=code_version("evalsuite.encoders.speech", "evalsuite.encoders.squim"),
        )
        super().__init__(info, _OBJECTIVE)

    def _load(self) -> None:
        import torch
        from safetensors.torch import load_file

        from .squim import Squim

        self._vad = _Silero()
        self._network = Squim().eval()
        try:
            if self._path.suffix == ".safetensors":
                state = load_file(self._path)
            else:
                state = torch.load(self._path, map_location="cpu", weights_only=True)
            self._network.load_state_dict(state)
        except Exception as error:  # pickle, zip, safetensors and torch each have their own
            raise ModelError(
                f"{str(self._path)!r} holds no weights of torchaudio's squim_objective_base: "
                f"{' '.join(str(error).split())[:200]}; another network goes as 'onnx/<file>'"
            ) from error

    def _grade(self, samples: _Samples) -> Sequence[float]:
        import torch

        pieces = np.array_split(samples, -(-len(samples) // self._LONGEST))
        with torch.inference_mode():
            graded = [self._network(torch.from_numpy(p)).tolist() for p in pieces if p.any()]
        return [float(v) for v in np.mean(graded, axis=0)]


class _Named(onnxfile.Strict):
    """A score, as the file beside a network describes it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    unit: str = Field(default="", max_length=20)
    description: str = Field(max_length=200)
    moved_by: str = Field(default="see its page", max_length=200)


class _Scores(onnxfile.Strict):
    """What ``<file>.json`` says of a scorer."""

    rate: int = Field(default=RATE, ge=4000, le=192_000)
    scores: list[_Named] = Field(min_length=1, max_length=40)

    @model_validator(mode="after")
    def _apart(self) -> _Scores:
        names = [score.name for score in self.scores]
        if len(set(names)) < len(names):
            raise ValueError(f"two scores have one name: {', '.join(names)}")
        return self


class _OnnxFile(_Graded):
    """A network from a file that gives numbers for a recording.

    Without a description beside it, it takes 16 kHz and each output is one score; with one, the
    values of all outputs, in order, are the scores that it names.
    """

    def __init__(self, path: Path) -> None:
        spec = f"{onnxfile.FAMILY}/{path.name}"
        graph = onnxfile.read_graph(path)
        # The graph itself says how many scores there are; without its file's folder, it can name
        # no other file.
        self._session = session(graph, spec)
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) > 2:
            raise ModelError(
                f"{spec} takes {[(i.name, i.type, i.shape) for i in inputs]}: one waveform of "
                "float32 is needed, shape (1, n) or (n,)"
            )
        self._input = inputs[0].name
        self._flat = len(inputs[0].shape) == 1
        said = onnxfile.read_sidecar(path, _Scores)
        self._rate = said.rate if said else RATE
        if said:
            scores = [
                Attribute(f"{path.stem}_{s.name}", s.unit, s.description, s.moved_by)
                for s in said.scores
            ]
        else:
            names = [path.stem if len(outputs) == 1 else f"{path.stem}_{o.name}" for o in outputs]
            scores = [
                Attribute(name, "", f"Score of {path.name}.", "see its page") for name in names
            ]
        self._one_each = said is None
        info = EncoderInfo(
            id=spec,
            modality="audio",
            dim=len(scores),
            weights_sha256=hashlib.sha256(graph).hexdigest(),
            weights_source="local file",
            backend=_backend(),
            preprocessing={"rate": self._rate, "scores": [score.name for score in scores]},
            code_version=_CODE,
        )
        super().__init__(info, scores)

    def _load(self) -> None:
        self._vad = _Silero()

    def _given(self, item: DecodedAudio) -> _Samples:
        given = audiofolder.at_rate(item, self._rate)
        return np.ascontiguousarray(given, dtype=np.float32)

    def _grade(self, samples: _Samples) -> Sequence[float]:
        given = samples if self._flat else samples[None]
        try:
            made = self._session.run(None, {self._input: given})
        except Exception as error:  # onnxruntime has a dozen of its own
            raise ModelError(f"{self.info.id} does not take {samples.size} samples: {error}") from (
                error
            )
        found = [np.asarray(value, dtype=np.float64).ravel() for value in made]
        values = np.concatenate(found)
        spread = self._one_each and any(value.size != 1 for value in found)
        if spread or values.size != self.info.dim or not np.isfinite(values).all():
            raise ModelError(
                f"{self.info.id} gave outputs of {[value.size for value in found]} values for one "
                f"recording: {self.info.dim} finite numbers are needed, and each output must be "
                "one finite number unless the .json beside it names more"
            )
        return [float(value) for value in values]


_SCORERS: dict[str, Callable[[str], Scorer[DecodedAudio]]] = {
    "dnsmos": Dnsmos,
    "dnsmos_fast": Dnsmos,
    "plcmos": Plcmos,
    "vad": _Vad,
}
