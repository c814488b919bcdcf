"""ONNX graphs of fused ladders: the float and int8 `phases` flavour and the `planes` flavour.

Built node by node: the nets are plain convolutions, and the shape of the graph decides which kernels a runtime picks.
Opset 17; N, H and W are free. Integers go in and come out.
"""

from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from training.models import Conv


class QuantConv(NamedTuple):
    """An int8 convolution: weight (out, in, 3, 3) int8, its scale (out,) float32, bias (out,) float32.

    It maps [0, 1] to [0, 1]; both sides are uint8 on the picture's own grid k/255.
    """

    weight: NDArray[np.int8]
    scale: NDArray[np.float32]
    bias: NDArray[np.float32]


class Graph:
    """Nodes and constants under construction; `add` returns the name of the node's output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray | np.generic) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def add(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def model(
        self, inputs: dict[str, list], outputs: dict[str, list], settings: dict[str, list] | None = None
    ) -> onnx.ModelProto:
        """Close the graph; every input and output is uint8, but for `settings`: further inputs, float32."""
        into = tensors(inputs) + tensors(settings or {}, TensorProto.FLOAT)
        graph = helper.make_graph(self.nodes, "rtsr", into, tensors(outputs), self.constants)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="rtsr training.export"
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def tensors(shapes: dict[str, list], kind: int = TensorProto.UINT8) -> list[onnx.ValueInfoProto]:
    return [helper.make_tensor_value_info(name, kind, shape) for name, shape in shapes.items()]


def float_phases(layers: list[Conv]) -> onnx.ModelProto:
    """y (N, 1, H, W) -> y_phases (N, H, W, s*s), float32 inside."""
    g = Graph()
    x = float_convs(g, layers)
    x = to_uint8(g, x, "phases")
    g.add("Transpose", [x], "y_phases", perm=[0, 2, 3, 1])
    return g.model({"y": ["N", 1, "H", "W"]}, {"y_phases": ["N", "H", "W", phases_of(layers)]})


def planes(layers: list[Conv]) -> onnx.ModelProto:
    """y (N, 1, H, W), uv (N, 2, H/2, W/2) -> y_out, uv_out, `s` times larger; float32 inside.

    For TensorRT and others that shuffle pixels well. The casts are the very last nodes: TensorRT's parser refuses uint8
    tensors inside a graph. Chroma is enlarged cubically with the taps of OpenCV's INTER_CUBIC (a = -0.75), as the
    backends of the other flavour do it.
    """
    g = Graph()
    scale = round(phases_of(layers) ** 0.5)
    x = float_convs(g, layers)
    x = g.add("DepthToSpace", [x], "shuffled", blocksize=scale, mode="CRD")
    to_uint8(g, x, "y_out")
    factors = g.constant("factors", np.array([1, 1, scale, scale], np.float32))
    c = g.add("Cast", ["uv"], "uv_float", to=TensorProto.FLOAT)
    c = g.add(
        "Resize", [c, "", factors], "uv_large",
        mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    to_uint8(g, c, "uv_out")
    return g.model(
        {"y": ["N", 1, "H", "W"], "uv": ["N", 2, "Hc", "Wc"]},
        {"y_out": ["N", 1, "H_out", "W_out"], "uv_out": ["N", 2, "Hc_out", "Wc_out"]},
    )


def int8_phases(layers: list[QuantConv]) -> onnx.ModelProto:
    """y -> y_phases as float_phases, with int8 weights and every hidden tensor uint8 at scale 1/255, zero point 0.

    OpenVINO runs it as int8 convolutions and nothing else: the input's own bytes are the first quantised tensor, ReLU
    and requantisation fuse into the convolutions.
    """
    g = Graph()
    grid = [g.constant("grid", np.float32(1 / 255)), g.constant("zero", np.uint8(0))]
    x = g.add("DequantizeLinear", ["y", *grid], "x0")
    for i, layer in enumerate(layers):
        g.constant(f"w{i}", layer.weight)
        g.constant(f"w{i}_scale", layer.scale)
        g.constant(f"w{i}_zero", np.zeros(len(layer.scale), np.int8))
        w = g.add("DequantizeLinear", [f"w{i}", f"w{i}_scale", f"w{i}_zero"], f"w{i}_float", axis=0)
        b = g.constant(f"b{i}", layer.bias)
        x = g.add("Conv", [x, w, b], f"conv{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if i + 1 < len(layers):
            x = g.add("Relu", [x], f"relu{i}")
        x = g.add("QuantizeLinear", [x, *grid], f"q{i}")
        if i + 1 < len(layers):
            x = g.add("DequantizeLinear", [x, *grid], f"x{i + 1}")
    g.add("Transpose", [x], "y_phases", perm=[0, 2, 3, 1])
    return g.model({"y": ["N", 1, "H", "W"]}, {"y_phases": ["N", "H", "W", len(layers[-1].scale)]})


def float_convs(g: Graph, layers: list[Conv]) -> str:
    """Code values in, code values out (unrounded): the 1/255 sits in the head's weights, the 255 in the tail's."""
    x = g.add("Cast", ["y"], "y_float", to=TensorProto.FLOAT)
    for i, (weight, bias) in enumerate(layers):
        into = 1 / 255 if i == 0 else 1.0
        out = 255.0 if i + 1 == len(layers) else 1.0
        w = g.constant(f"w{i}", (weight.double().numpy() * into * out).astype(np.float32))
        b = g.constant(f"b{i}", (bias.double().numpy() * out).astype(np.float32))
        x = g.add("Conv", [x, w, b], f"conv{i}", kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        if i + 1 < len(layers):
            x = g.add("Relu", [x], f"relu{i}")
    return x


def to_uint8(g: Graph, x: str, output: str) -> str:
    """Round half to even, clip, cast: the cast comes last."""
    limits = [g.constant(f"{output}_min", np.float32(0)), g.constant(f"{output}_max", np.float32(255))]
    x = g.add("Round", [x], f"{output}_rounded")
    x = g.add("Clip", [x, *limits], f"{output}_clipped")
    return g.add("Cast", [x], output, to=TensorProto.UINT8)


def phases_of(layers: list[Conv]) -> int:
    return layers[-1].weight.shape[0]
