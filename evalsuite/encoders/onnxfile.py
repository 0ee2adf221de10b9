"""Networks from ONNX files: how they are read and run, and the user's own as encoders.

A graph says which numbers it takes, not what they are: a file of the same name beside it does, with
the ending ``.json``. Nothing of either is run as code, and a graph can name no other file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ..errors import ModelError
from .audiofolder import at_rate
from .base import EncoderInfo, ImageEncoder, code_version, cpu_count
from .media import Embedder
from .mel import framed, mel_filters, short_spectrum

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from PIL import Image

    from ..data.audio import DecodedAudio
    from .base import Features
    from .cache import FeatureCache
    from .image import Preprocessing

FAMILY = "onnx"

_CODE = code_version(
    "evalsuite.data.audio",
    "evalsuite.data.images",
    "evalsuite.encoders.audiofolder",
    "evalsuite.encoders.image",
    "evalsuite.encoders.mel",
    "evalsuite.encoders.onnxfile",
)
_LARGEST = 2 * 2**30
_SIDECAR = 1 << 16
_FASTEST = 200  # frames of a log-mel spectrum in a second: it bounds the memory of a window


class Strict(BaseModel):
    """What is read from the file beside a network: no other keys, no other types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Waveform(Strict):
    """The network takes samples, shape (n,), or with ones before it: (1, n), (1, 1, n)."""

    kind: Literal["waveform"]


class LogMel(Strict):
    """The network takes a log-mel spectrum, or with ones before it: (1, …), (1, 1, …).

    ``log(max(m, least) + add)``, less ``mean`` and divided by ``sd``, of the mel spectrum m: of
    frames of ``window`` samples under a periodic Hann window, filled up with zeros to ``fft``.
    """

    kind: Literal["log_mel"]
    fft: int = Field(ge=64, le=4096)
    window: int = Field(ge=16, description="Samples in a frame.")
    hop: int = Field(ge=1, le=192_000, description="Samples from a frame to the next.")
    edges: Literal["none", "zeros", "reflect"] = Field(
        default="none",
        description="What lies beyond the ends of the recording; none: frames only where all of "
        "their samples are. Otherwise frames are centred on every hop-th sample.",
    )
    power: Literal[1, 2] = Field(default=2, description="Of the magnitude, before the filters.")
    bands: int = Field(ge=8, le=512)
    low: float = Field(default=0.0, ge=0)
    high: float | None = Field(default=None, gt=0)
    scale: Literal["slaney", "htk"] = "slaney"
    area: bool = Field(default=True, description="Filters of unit area, or of unit height.")
    slopes: Literal["hz", "mel"] = Field(default="hz", description="Straight in Hz, or in mel.")
    log: Literal["ln", "log10", "db"] = "ln"
    least: float = Field(default=1e-10, gt=0)
    add: float = Field(default=0.0, ge=0)
    mean: float = 0.0
    sd: float = Field(default=1.0, gt=0)
    order: Literal["frames_bands", "bands_frames"] = "frames_bands"

    @model_validator(mode="after")
    def _fits(self) -> LogMel:
        if self.window > self.fft:
            raise ValueError(f"window must be at most fft ({self.fft}), got {self.window}")
        return self


class SoundFile(Strict):
    """What ``<file>.json`` says of an encoder of sound."""

    modality: Literal["audio"]
    licence: str = Field(min_length=1, max_length=200, description="Of the weights.")
    rate: int = Field(ge=4000, le=192_000, description="Hz.")
    input: Annotated[Waveform | LogMel, Field(discriminator="kind")]
    window_seconds: float = Field(
        default=10.0, ge=0.02, le=60, description="What one pass through the network takes."
    )
    hop_seconds: float | None = Field(
        default=None, ge=0.02, le=60, description="From a pass to the next; a window by default."
    )
    output: str | None = Field(default=None, max_length=200, description="Where there are several.")
    pooling: Literal["mean", "mean_sd"] = Field(
        default="mean", description="Over all vectors of all windows; the last axis is a vector."
    )

    @model_validator(mode="after")
    def _fits(self) -> SoundFile:
        if self.hop_seconds is not None and self.hop_seconds > self.window_seconds:
            raise ValueError(
                f"hop_seconds must be at most window_seconds ({self.window_seconds:g}), got "
                f"{self.hop_seconds:g}: what lies between would not be heard"
            )
        if isinstance(self.input, LogMel):
            if self.rate > _FASTEST * self.input.hop:
                raise ValueError(
                    f"hop must be at least {-(-self.rate // _FASTEST)} at {self.rate} Hz, got "
                    f"{self.input.hop}: at most {_FASTEST} frames a second"
                )
            if not self.input.low < (self.input.high or self.rate / 2) <= self.rate / 2:
                raise ValueError("low must be under high, and high at most half of rate")
        return self


class PictureFile(Strict):
    """What ``<file>.json`` says of an encoder of images: float32, shape (1, 3, height, width)."""

    modality: Literal["image"]
    licence: str = Field(min_length=1, max_length=200, description="Of the weights.")
    size: list[int] = Field(min_length=2, max_length=2, description="Height and width.")
    resize: int | None = Field(
        default=None, ge=8, le=4096,
        description="Length of the shorter side before the centre is cut out; null: straight to "
        "size, whatever the aspect ratio.",
    )  # fmt: skip
    filter: Literal["bicubic", "bilinear", "lanczos"] = "bicubic"
    mean: list[float] = Field(default=[0.485, 0.456, 0.406], min_length=3, max_length=3)
    sd: list[float] = Field(default=[0.229, 0.224, 0.225], min_length=3, max_length=3)
    output: str | None = Field(default=None, max_length=200, description="Where there are several.")

    @model_validator(mode="after")
    def _fits(self) -> PictureFile:
        if not all(8 <= side <= 2048 for side in self.size):
            raise ValueError(f"size must be two sides of 8 to 2048, got {self.size}")
        if self.resize is not None and self.resize < max(self.size):
            raise ValueError(f"resize must be at least the longer side of size, got {self.resize}")
        if not all(sd > 0 for sd in self.sd):
            raise ValueError(f"sd must be over 0, got {self.sd}")
        return self


Sidecar = TypeVar("Sidecar", bound=Strict)


def read_sidecar(path: Path, kind: type[Sidecar]) -> Sidecar | None:
    """Read the description beside a network, if there is one.

    Raises
    ------
    ModelError
        If it cannot be read, or is not valid: the first wrong key is named.
    """
    beside = path.with_suffix(".json")
    try:
        if not beside.is_file():
            return None
        if beside.stat().st_size > _SIDECAR:
            raise ModelError(f"{str(beside)!r} is larger than 64 KiB: it only describes a network")
        return kind.model_validate_json(beside.read_bytes())
    except OSError as error:
        raise ModelError(f"{str(beside)!r} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise ModelError(
            f"{str(beside)!r} is not valid: {where}: {first['msg']} (its keys: docs/encoders.md)"
        ) from error


def read_graph(path: Path) -> bytes:
    """Read a network's file.

    Raises
    ------
    ModelError
        If it cannot be read, or onnxruntime is missing.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        raise ModelError(
            f"{FAMILY}/{path.name!r} needs onnxruntime: pip install 'evalsuite[models]' "
            "(or onnxruntime)"
        )
    try:
        if path.stat().st_size > _LARGEST:
            raise ModelError(f"{str(path)!r} is larger than the 2 GiB that ONNX allows")
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error


def session(graph: bytes, what: str) -> Any:
    """Load a graph to run in the thread that calls: samples are what runs side by side.

    Raises
    ------
    ModelError
        If onnxruntime does not take it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a dozen of its own
        raise ModelError(f"{what} does not load in onnxruntime: {error}") from error


def onnx_backend() -> str:
    """Say what runs a graph, for :class:`EncoderInfo`."""
    return f"onnxruntime {version('onnxruntime')}, cpu, float32"


def load_onnx_sound(path: Path, cache: FeatureCache | None) -> Embedder[DecodedAudio]:
    """Find an encoder of sound; its graph is hashed now, and loaded when first used.

    Parameters
    ----------
    path : Path
        Of the graph; ``<path>.json`` is a :class:`SoundFile`.
    cache : FeatureCache, optional
        Where the width of its features is kept: to know it, the graph must run once.

    Raises
    ------
    ModelError
        If a file is missing or not valid, or the graph does not take what its description says.
    """
    graph, said = read_graph(path), _described(path, SoundFile)
    network = _Network(path, graph, said.output)
    frames = _Frames(said)

    def width() -> int:
        noise = np.random.default_rng(0).normal(0, 0.01, frames.samples).astype(np.float32)
        made = network.run(next(frames.windows(noise)))
        return int(made.shape[-1]) * (2 if said.pooling == "mean_sd" else 1)

    settings = said.model_dump(mode="json", exclude={"modality", "licence"})
    return _Sounds(_info(path, graph, said, settings, width, cache), network, frames)


def load_onnx_pictures(path: Path, cache: FeatureCache | None) -> ImageEncoder:
    """Find an encoder of images; its graph is hashed now, and loaded when first used.

    Parameters, errors: as :func:`load_onnx_sound`, with a :class:`PictureFile` as its
    description.
    """
    from .image import Preprocessing

    graph, said = read_graph(path), _described(path, PictureFile)
    network = _Network(path, graph, said.output)
    height, width = said.size
    prepare = Preprocessing(
        resize=said.resize or (height, width),
        crop=(height, width),
        filter=said.filter,
        mean=tuple(said.mean),
        std=tuple(said.sd),
        output=said.output or "the only one",
    )

    def dim() -> int:
        made = network.run(np.zeros((3, height, width), dtype=np.float32))
        if len(made) != 1:
            raise ModelError(
                f"{network.name} gave {len(made)} vectors for one image: pool them in the graph, "
                "or name another output in the .json beside it"
            )
        return int(made.shape[-1])

    info = _info(path, graph, said, prepare.describe(), dim, cache)
    return _Pictures(info, network, prepare)


def _described(path: Path, kind: type[Sidecar]) -> Sidecar:
    said = read_sidecar(path, kind)
    if said is None:
        raise ModelError(
            f"{str(path.with_suffix('.json'))!r} is missing: it says what {path.name!r} takes "
            "(its keys: docs/encoders.md)"
        )
    return said


def _info(
    path: Path,
    graph: bytes,
    said: SoundFile | PictureFile,
    settings: dict[str, Any],
    dim: Callable[[], int],
    cache: FeatureCache | None,
) -> EncoderInfo:
    sha256 = hashlib.sha256(graph).hexdigest()
    key = json.dumps([sha256, settings, onnx_backend(), _CODE], sort_keys=True)

    def describe() -> bytes:
        return str(dim()).encode()

    return EncoderInfo(
        id=f"{FAMILY}/{path.name}",
        modality=said.modality,
        dim=int(cache.memo("describe", key, describe) if cache else describe()),
        weights_sha256=sha256,
        weights_source=f"local file, licence: {said.licence}",
        backend=f"{onnx_backend()}, one {'image' if said.modality == 'image' else 'window'} a pass",
        preprocessing=settings,
        code_version=_CODE,
    )


class _Network:
    """A graph with one input and the output that is asked for; opened when first used."""

    def __init__(self, path: Path, graph: bytes, output: str | None) -> None:
        self.name = f"{FAMILY}/{path.name}"
        self._graph = graph
        self._output = output
        self._session: Any = None

    def open(self) -> None:
        """Load the graph, and see that it has what is described."""
        if self._session is not None:
            return
        opened = session(self._graph, self.name)
        inputs = opened.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            raise ModelError(
                f"{self.name} takes {[(i.name, i.type) for i in inputs]}: export it with one input "
                "of float32"
            )
        outputs = [o.name for o in opened.get_outputs()]
        if self._output is None and len(outputs) > 1:
            raise ModelError(
                f"{self.name} gives {outputs}: name one as output in the .json beside it"
            )
        if self._output is not None and self._output not in outputs:
            raise ModelError(
                f"the .json beside {self.name} names the output {self._output!r}: the graph has "
                f"{outputs}"
            )
        self._output = self._output or outputs[0]
        self._input, self._rank = inputs[0].name, len(inputs[0].shape)
        self._session, self._graph = opened, b""  # the runtime has its own copy

    def run(self, given: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Give the vectors that one input is turned into, shape (m, d), m at least 1."""
        self.open()
        if self._rank < given.ndim:
            raise ModelError(
                f"{self.name} takes {self._rank} axes: {given.ndim} at least are needed for an "
                f"input of shape {given.shape}"
            )
        shaped = np.ascontiguousarray(given).reshape((1,) * (self._rank - given.ndim) + given.shape)
        try:
            made = self._session.run([self._output], {self._input: shaped})[0]
        except Exception as error:  # onnxruntime has a dozen of its own
            raise ModelError(
                f"{self.name} does not take an input of shape {shaped.shape}, which the .json "
                f"beside it describes: {error}"
            ) from error
        made = np.asarray(made)
        if made.dtype.kind != "f" or made.ndim == 0 or made.size == 0:
            raise ModelError(
                f"{self.name} gave {made.dtype} of shape {made.shape}: vectors along the last axis "
                "are needed"
            )
        rows: npt.NDArray[np.float64] = made.reshape(-1, made.shape[-1]).astype(np.float64)
        return rows


class _Frames:
    """Cuts a recording at the network's rate into what its passes take."""

    def __init__(self, said: SoundFile) -> None:
        self.rate = said.rate
        self._mel = said.input if isinstance(said.input, LogMel) else None
        self._unit = self._mel.hop if self._mel else 1
        hop = said.hop_seconds or said.window_seconds
        self._size = max(1, round(said.window_seconds * said.rate / self._unit))
        self._step = max(1, round(hop * said.rate / self._unit))
        self.pooling = said.pooling

    @property
    def samples(self) -> int:
        """How many samples one window needs."""
        return self._samples_of(self._size)

    def _samples_of(self, frames: int) -> int:
        if self._mel is None:
            return frames
        if self._mel.edges == "none":
            return (frames - 1) * self._mel.hop + self._mel.window
        return max((frames - 1) * self._mel.hop + self._mel.window % 2, self._mel.window)

    def _frames_of(self, samples: int) -> int:
        if self._mel is None:
            return samples
        if self._mel.edges == "none":
            return max(0, 1 + (samples - self._mel.window) // self._mel.hop)
        return 1 + (samples - self._mel.window % 2) // self._mel.hop

    def windows(self, samples: npt.NDArray[np.float32]) -> Iterator[npt.NDArray[np.float32]]:
        """Give the input of each pass.

        What is left after the last full window becomes one, filled up with silence, if it is half a
        step or more, or there is no other.
        """
        n = self._frames_of(len(samples))
        full = max(0, 1 + (n - self._size) // self._step)
        left = n - ((full - 1) * self._step + self._size) if full else n
        count = full + (full == 0 or 2 * left >= self._step)
        needed = self._samples_of((count - 1) * self._step + self._size)
        samples = np.pad(samples, (0, max(0, needed - len(samples))))
        mel = self._mel
        if mel is not None and mel.edges != "none":
            edge = mel.window // 2
            samples = np.pad(
                samples, edge, mode="reflect" if mel.edges == "reflect" else "constant"
            )
        for start in range(0, count * self._step, self._step):
            if mel is None:
                yield samples[start : start + self._size]
                continue
            first = start * mel.hop
            part = samples[first : first + (self._size - 1) * mel.hop + mel.window]
            yield self._log_mel(part, mel)

    def _log_mel(self, part: npt.NDArray[np.float32], mel: LogMel) -> npt.NDArray[np.float32]:
        spectrum = np.abs(short_spectrum(framed(part, mel.window, mel.hop), mel.fft))
        filters = mel_filters(
            mel.fft, mel.bands, rate=self.rate, low=mel.low, high=mel.high, scale=mel.scale,
            area=mel.area, slopes=mel.slopes,
        )  # fmt: skip
        level = np.maximum(spectrum**mel.power @ filters.T, mel.least) + mel.add
        if mel.log == "ln":
            level = np.log(level)
        else:
            level = np.log10(level) * (20 / mel.power if mel.log == "db" else 1)
        made: npt.NDArray[np.float32] = ((level - mel.mean) / mel.sd).astype(np.float32)
        return made.T if mel.order == "bands_frames" else made


class _Sounds(Embedder["DecodedAudio"]):
    """A network from a file that gives vectors for a recording."""

    def __init__(self, info: EncoderInfo, network: _Network, frames: _Frames) -> None:
        super().__init__(info)
        self._network = network
        self._frames = frames

    def _load(self) -> None:
        self._network.open()

    def _embed(self, items: Sequence[DecodedAudio]) -> Features:
        return np.stack([self._row(item) for item in items]).astype(np.float32)

    def _row(self, item: DecodedAudio) -> npt.NDArray[np.float64]:
        samples = np.ascontiguousarray(at_rate(item, self._frames.rate), dtype=np.float32)
        made = np.concatenate([self._network.run(w) for w in self._frames.windows(samples)])
        mean: npt.NDArray[np.float64] = made.mean(axis=0)
        if self._frames.pooling == "mean":
            return mean
        return np.concatenate((mean, made.std(axis=0)))


class _Pictures(ImageEncoder):
    """A network from a file that gives a vector for an image."""

    def __init__(self, info: EncoderInfo, network: _Network, prepare: Preprocessing) -> None:
        super().__init__(info, batch_size=1, parallel=cpu_count())
        self._network = network
        self._prepare = prepare
        self._mean, self._sd = (
            np.array(values, dtype=np.float32).reshape(3, 1, 1)
            for values in (prepare.mean, prepare.std)
        )

    def _load(self) -> None:
        self._network.open()

    def prepare(self, pixels: Image.Image) -> npt.NDArray[Any]:
        """Resize and crop one decoded image (mode RGB or L) to the model's input, (3, H, W)."""
        return self._prepare(pixels)

    def _forward(self, batch: npt.NDArray[Any]) -> Features:
        rows = [
            self._network.run((image.astype(np.float32) / 255 - self._mean) / self._sd)
            for image in batch
        ]
        features: Features = np.concatenate(rows).astype(np.float32)
        return features
