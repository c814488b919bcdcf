"""From an exported ladder to the graph that TensorRT and ONNX Runtime get on GPUs: written for one size of picture.

TensorRT is strongly typed: a tensor's precision is what the graph says. An engine file holds float32 or int8 weights;
here they become a graph of the precision asked for, whose ends are bytes, as TensorRT knows no 16-bit integers.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from rtsr.backends.phases import BORDER, shift_kernels
from rtsr.errors import EngineError
from rtsr.frames import ChromaSiting
from rtsr.pixels import PixelFormat

OPSET = 17
# Of a quantised hidden tensor. An engine's own grid is uint8 on k/255; TensorRT has no unsigned 8-bit convolutions, so
# that values of 0 to 1 lie on k/127 here: half as fine.
GRID = 1 / 127
_KINDS = {"fp16": TensorProto.FLOAT16, "fp32": TensorProto.FLOAT, "int8": TensorProto.FLOAT}


class Layer(NamedTuple):
    """One 3x3 convolution of values from 0 to 1: weight (out, in, 3, 3) float32, bias (out,) float32; steps (out,)
    float32: the size of a step of each int8 kernel, None for a float engine."""

    weight: np.ndarray
    bias: np.ndarray
    steps: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """What a graph is written for. height, width: luma pixels of the small picture; scale: of the engine."""

    height: int
    width: int
    scale: int
    pixels: PixelFormat
    siting: ChromaSiting = ChromaSiting.LEFT

    def inputs(self, n: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what the graph takes, as uint8. y: each of n pictures' planes with BORDER mirrored pixels around
        it, as fill_bordered() makes it; more than 8 bits: each sample is two bytes, the low one first, in a last
        dimension of its own. uv only where there is chroma."""
        p = self.pixels
        shapes = {"y": (n * p.full_planes, 1, self.height + 2 * BORDER, self.width + 2 * BORDER)}
        if p.chroma_planes:
            shapes["uv"] = (n, 2, *p.chroma_size(self.height, self.width))
        return {name: self._bytes(shape) for name, shape in shapes.items()}

    def outputs(self, n: int) -> dict[str, tuple[int, ...]]:
        """Shapes of what it gives, as uint8: y_out and, where there is chroma, uv_out; complete planes."""
        p, height, width = self.pixels, self.scale * self.height, self.scale * self.width
        shapes = {"y_out": (n * p.full_planes, 1, height, width)}
        if p.chroma_planes:
            shapes["uv_out"] = (n, 2, *p.chroma_size(height, width))
        return {name: self._bytes(shape) for name, shape in shapes.items()}

    def _bytes(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape if self.pixels.bits == 8 else (*shape, 2)


def gpu_graph(engine: bytes, picture: Picture, precision: str) -> bytes:
    """The ONNX file for TensorRT's parser or for ONNX Runtime; the number of pictures stays free.

    fp16: everything about luma is float16, but for more than 8 bits the picture's own way to the output is float32
    (float16 holds 8-bit code values to 1/16, which is 1/4 of a 10-bit one); chroma is float32 in each. fp32: all is.
    int8: an int8 engine's weights, its hidden tensors on GRID, its picture in float32.
    Raises EngineError for an engine that is no ladder.
    """
    layers = read_ladder(engine)
    if (precision == "int8") != (layers[0].steps is not None):
        raise EngineError(
            f"a plan in {precision} cannot be made of {'a float' if precision == 'int8' else 'an int8'} engine"
        )
    g = _Graph()
    deep = picture.pixels.bits > 8
    is_split = deep or precision == "int8"
    y = g.samples("y", picture)  # float32 code values of 8-bit scale
    small = g.cast(y, _KINDS[precision])
    x = _convolutions(g, layers, small, precision, without_picture=is_split)
    if is_split:
        tail = layers[-1]
        skip = g.conv(y, tail.weight[:, :1], np.zeros_like(tail.bias), np.float32, "skip")
        x = g.add("Add", [g.cast(x, TensorProto.FLOAT), skip])
    x = g.crop(x, {2: (BORDER, picture.height), 3: (BORDER, picture.width)})
    x = g.add("DepthToSpace", [x], blocksize=picture.scale, mode="CRD")
    g.give(x, "y_out", picture, TensorProto.FLOAT if is_split else _KINDS[precision])
    if picture.pixels.chroma_planes:
        _chroma(g, picture)
    return g.model(picture)


def read_ladder(engine: bytes) -> list[Layer]:
    """The convolutions of an exported ladder, `phases` or `planes`, float or int8. Raises EngineError if it is none."""
    try:
        model = onnx.load_from_string(engine)
        onnx.checker.check_model(model)
    except Exception as error:  # protobuf's and onnx's share no base class but this
        raise EngineError(f"the engine's file is no ONNX graph: {error}") from error
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    made_by = {node.output[0]: node for node in model.graph.node}
    layers: list[Layer] = []
    with suppress(KeyError, ValueError, IndexError):  # weights that lie elsewhere: no ladder
        for node in model.graph.node:
            if node.op_type != "Conv":
                continue
            weight, bias = node.input[1], constants[node.input[2]]
            if weight in constants:
                layers.append(Layer(constants[weight], bias))
            else:
                codes, steps, _ = (constants[name] for name in made_by[weight].input)
                layers.append(Layer(codes * steps[:, None, None, None], bias, steps))
    if layers and layers[0].steps is None:
        head, tail = layers[0], layers[-1]
        layers[0], layers[-1] = Layer(head.weight * 255, head.bias), Layer(tail.weight / 255, tail.bias / 255)
    if not _is_ladder(layers):
        raise EngineError("the engine is no ladder of 3x3 convolutions that carry the picture in their first channel")
    return layers


def _is_ladder(layers: list[Layer]) -> bool:
    """Whether each hidden layer's first channel is the picture, handed on by a delta kernel."""
    if len(layers) < 2 or any(layer.weight.shape[2:] != (3, 3) for layer in layers):
        return False
    if any(one.weight.shape[0] != other.weight.shape[1] for one, other in pairwise(layers)):
        return False
    for layer in layers[:-1]:
        delta = np.zeros(layer.weight.shape[1:], np.float32)
        delta[0, 1, 1] = 1
        if layer.bias[0] != 0 or not np.allclose(layer.weight[0], delta, rtol=1e-3, atol=0):
            return False
    return True


def _convolutions(g: _Graph, layers: list[Layer], x: str, precision: str, without_picture: bool) -> str:
    """Code values (N, 1, h, w) -> code values (N, s*s, h, w), not rounded. without_picture: what the tail adds to the
    part that it takes from the picture's own channel."""
    dtype = np.float16 if precision == "fp16" else np.float32
    if precision == "int8":
        x = g.add("Mul", [x, g.constant(np.float32(1 / 255))])
    for i, (weight, bias, steps) in enumerate(layers):
        is_last = i + 1 == len(layers)
        if is_last and without_picture:
            weight = weight.copy()
            weight[:, 0] = 0
        out = np.float32(255 if is_last else 1)
        if precision == "int8":
            assert steps is not None, "gpu_graph() has asked"
            codes = np.round(weight / steps[:, None, None, None]).astype(np.int8)
            x = g.quantised_conv(x, codes, steps * out, bias * out)
        else:
            into = np.float32(255 if i == 0 else 1)
            x = g.conv(x, weight * out / into, bias * out, dtype, f"conv{i}")
        if not is_last:
            x = g.add("Relu", [x])
    return x


def _chroma(g: _Graph, picture: Picture) -> None:
    """uv -> uv_out: moved to its place, enlarged cubically with the taps of OpenCV's INTER_CUBIC, cut to size."""
    x = g.samples("uv", picture)
    height, width = picture.pixels.chroma_size(picture.height, picture.width)
    along, down = shift_kernels(picture.siting, picture.scale, picture.pixels)
    for taps, shape in ((along, (1, 1, 1, -1)), (down, (1, 1, -1, 1))):
        if len(taps) > 1:
            x = g.filtered(x, taps.reshape(shape), height, width)
    factors = g.constant(np.array([1, 1, picture.scale, picture.scale], np.float32))
    x = g.add(
        "Resize", [x, "", factors],
        mode="cubic", cubic_coeff_a=-0.75, coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    large = picture.outputs(1)["uv_out"][2:4]
    if large != (height * picture.scale, width * picture.scale):
        x = g.crop(x, {2: (0, large[0]), 3: (0, large[1])})
    g.give(x, "uv_out", picture, TensorProto.FLOAT)


class _Graph:
    """Nodes and constants under construction; what adds one returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, value: np.ndarray | np.generic, name: str | None = None) -> str:
        name = name or f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def add(self, operator: str, inputs: list[str], output: str | None = None, **attributes: Any) -> str:
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def cast(self, x: str, kind: int) -> str:
        return self.add("Cast", [x], to=kind)

    def conv(self, x: str, weight: np.ndarray, bias: np.ndarray, dtype: type, name: str) -> str:
        with np.errstate(over="ignore"):  # an infinite weight is found as its first picture is, see guard.py
            constants = [
                self.constant(value.astype(dtype), f"{name}_{of}") for of, value in (("w", weight), ("b", bias))
            ]
        return self.add("Conv", [x, *constants], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def quantised_conv(self, x: str, codes: np.ndarray, steps: np.ndarray, bias: np.ndarray) -> str:
        """A convolution of int8 by int8; the bias is not quantised, which TensorRT does not take."""
        grid = [self.constant(np.float32(GRID)), self.constant(np.int8(0))]
        x = self.add("QuantizeLinear", [x, *grid])
        x = self.add("DequantizeLinear", [x, *grid])
        zeros = self.constant(np.zeros(len(steps), np.int8))
        w = self.add("DequantizeLinear", [self.constant(codes), self.constant(steps), zeros], axis=0)
        return self.add("Conv", [x, w, self.constant(bias)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def filtered(self, x: str, taps: np.ndarray, height: int, width: int) -> str:
        """Both planes of (N, 2, height, width) filtered by taps (1, 1, kh, kw), the rim repeated outwards."""
        down, along = taps.shape[2] // 2, taps.shape[3] // 2
        x = self.add("Reshape", [x, self.constant(np.array([-1, 1, height, width], np.int64))])
        pads = self.constant(np.array([0, 0, down, along, 0, 0, down, along], np.int64))
        x = self.add("Pad", [x, pads], mode="edge")
        x = self.add("Conv", [x, self.constant(taps.astype(np.float32))], kernel_shape=list(taps.shape[2:]))
        return self.add("Reshape", [x, self.constant(np.array([-1, 2, height, width], np.int64))])

    def crop(self, x: str, sides: dict[int, tuple[int, int]]) -> str:
        """sides: axis -> (first, how many)."""
        bounds = ([first for first, _ in sides.values()], [first + n for first, n in sides.values()], list(sides))
        return self.add("Slice", [x, *(self.constant(np.array(values, np.int64)) for values in bounds)])

    def samples(self, name: str, picture: Picture) -> str:
        """An input's bytes as float32 code values of 8-bit scale: 0 to 255, fractions where there are more bits."""
        x = self.cast(name, TensorProto.FLOAT)
        if picture.pixels.bits == 8:
            return x
        x = self.add("Mul", [x, self.constant(np.array([1, 256], np.float32) * np.float32(255 / picture.pixels.white))])
        return self.add("ReduceSum", [x, self.constant(np.array([-1], np.int64))], keepdims=0)

    def give(self, x: str, name: str, picture: Picture, kind: int) -> None:
        """Code values of 8-bit scale -> an output's bytes, rounded half to even; the cast must be the last node."""
        white, dtype = picture.pixels.white, np.float16 if kind == TensorProto.FLOAT16 else np.float32
        if picture.pixels.bits > 8:
            x = self.add("Mul", [x, self.constant(np.float32(white / 255))])
        x = self.add("Round", [x])
        x = self.add("Clip", [x, self.constant(dtype(0)), self.constant(dtype(white))])
        if picture.pixels.bits > 8:
            high = self.add("Floor", [self.add("Mul", [x, self.constant(np.float32(1 / 256))])])
            low = self.add("Sub", [x, self.add("Mul", [high, self.constant(np.float32(256))])])
            last = self.constant(np.array([-1], np.int64))
            x = self.add("Concat", [self.add("Unsqueeze", [byte, last]) for byte in (low, high)], axis=-1)
        self.add("Cast", [x], name, to=TensorProto.UINT8)

    def model(self, picture: Picture) -> bytes:
        """Close the graph: every input and output is uint8."""

        def tensors(shapes: dict[str, tuple[int, ...]]) -> list[onnx.ValueInfoProto]:
            free = {"y": "planes", "y_out": "planes", "uv": "pictures", "uv_out": "pictures"}
            return [
                helper.make_tensor_value_info(name, TensorProto.UINT8, [free[name], *shape[1:]])
                for name, shape in shapes.items()
            ]

        graph = helper.make_graph(
            self._nodes, "rtsr", tensors(picture.inputs(1)), tensors(picture.outputs(1)), self._constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()
