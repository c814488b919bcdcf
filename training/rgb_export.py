"""RGB generators as engines of planes: colour conversions inside the graph, batch norms folded, weights in fp16.

Graph inputs: `y` (N, 1, H, W) and `uv` (N, 2, h, w), uint8; `matrix` (2,) float32, kr and kb of the YUV matrix; `range`
(3,) float32, code values of black, of luma's span and of chroma's span. Outputs `y_out` (N, 1, s*H, s*W) and `uv_out`
(N, 2, s*h, s*w), uint8. uv may be of y's own size (4:4:4) or of half of it in either direction; H and W are even then.
"""

import operator
from collections.abc import Callable

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import TensorProto
from torch import Tensor, fx, nn

from training.generators.layers import Interpolation, fold_batch_norms
from training.graphs import Graph


class Planes(nn.Module):
    """The engine in torch: what the exported graph must compute."""

    def __init__(self, net: nn.Module, scale: int) -> None:
        super().__init__()
        self.net = net
        self.scale = scale

    def forward(self, y: Tensor, uv: Tensor, matrix: Tensor, range: Tensor) -> tuple[Tensor, Tensor]:
        """The module docstring has shapes and meanings. Out-of-gamut colours go through unclipped."""
        kr, kb = matrix[0], matrix[1]
        black, luma_span, chroma_span = range[0], range[1], range[2]
        kg = 1 - kr - kb

        luma = (y.float() - black) / luma_span
        chroma = F.interpolate((uv.float() - 128) / chroma_span, y.shape[2:], mode="bilinear", align_corners=False)
        blue = luma + 2 * (1 - kb) * chroma[:, :1]
        red = luma + 2 * (1 - kr) * chroma[:, 1:]
        green = (luma - kr * red - kb * blue) / kg
        red, green, blue = self.net(torch.cat([red, green, blue], 1)).split(1, 1)

        luma = kr * red + kg * green + kb * blue
        chroma = torch.cat([(blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))], 1)
        # Bilinear to half the size is the mean of each 2x2 block; to the same size it changes nothing.
        size = (uv.shape[2] * self.scale, uv.shape[3] * self.scale)
        chroma = F.interpolate(chroma, size, mode="bilinear", align_corners=False)
        return to_uint8(luma * luma_span + black), to_uint8(chroma * chroma_span + 128)


def to_uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)


def exportable(net: nn.Module) -> nn.Module:
    """A copy with batch norms folded and convolution weights rounded to what fp16 holds (still float32 here)."""
    net = fold_batch_norms(net)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.half().float()
    return net


def build_graph(net: nn.Module, scale: int) -> onnx.ModelProto:
    """ONNX of a net from exportable(), any N, H and W.

    Written node by node, as graphs.py does it: torch.onnx.export takes a minute for what takes a second here.
    """
    g = PlanesGraph()
    rgb = g.planes_to_rgb()
    rgb = Converter(net, g).run(rgb)
    g.rgb_to_planes(rgb, scale)
    floats = {"matrix": [2], "range": [3]}
    return g.model(
        {"y": ["N", 1, "H", "W"], "uv": ["N", 2, "Hc", "Wc"]},
        {"y_out": ["N", 1, "H_out", "W_out"], "uv_out": ["N", 2, "Hc_out", "Wc_out"]},
        floats,
    )


class PlanesGraph(Graph):
    """A Graph with the arithmetic that the two colour conversions need."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def node(self, op: str, *inputs: str | float, **attributes) -> str:
        """Add a node with a name of its own; numbers become constants."""
        self.count += 1
        name = f"{op.lower()}{self.count}"
        named = [x if isinstance(x, str) else self.number(x) for x in inputs]
        return self.add(op, named, name, **attributes)

    def number(self, value: float) -> str:
        name = f"number_{value:g}"
        if name not in {constant.name for constant in self.constants}:
            self.constant(name, np.float32(value))
        return name

    def integers(self, *values: int) -> str:
        name = "integers_" + "_".join(map(str, values))
        if name not in {constant.name for constant in self.constants}:
            self.constant(name, np.array(values, np.int64))
        return name

    def part(self, x: str, index: int, axis: int = 0) -> str:
        """x[index:index + 1] along an axis."""
        return self.node("Slice", x, *(self.integers(i) for i in (index, index + 1, axis)))

    def weight(self, name: str, value: Tensor) -> str:
        """A kernel: fp16 in the file, float32 in the computation."""
        self.constant(f"{name}_fp16", value.detach().half().numpy())
        return self.add("Cast", [f"{name}_fp16"], name, to=TensorProto.FLOAT)

    def resized(self, x: str, height_width: str) -> str:
        """Bilinear to a size given as a tensor (2,) of int64."""
        channels = self.node("Slice", self.node("Shape", x), self.integers(0), self.integers(2))
        sizes = self.node("Concat", channels, height_width, axis=0)
        half = "half_pixel"
        return self.node("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode=half)

    def size_of(self, x: str) -> str:
        return self.node("Slice", self.node("Shape", x), self.integers(2), self.integers(4))

    def planes_to_rgb(self) -> str:
        self.kr, self.kb = self.part("matrix", 0), self.part("matrix", 1)
        self.black, self.luma_span, self.chroma_span = (self.part("range", i) for i in range(3))
        self.kg = self.node("Sub", self.node("Sub", 1.0, self.kr), self.kb)
        self.to_blue = self.node("Mul", 2.0, self.node("Sub", 1.0, self.kb))
        self.to_red = self.node("Mul", 2.0, self.node("Sub", 1.0, self.kr))

        y, uv = (self.node("Cast", name, to=TensorProto.FLOAT) for name in ("y", "uv"))
        luma = self.node("Div", self.node("Sub", y, self.black), self.luma_span)
        chroma = self.node("Div", self.node("Sub", uv, 128.0), self.chroma_span)
        chroma = self.resized(chroma, self.size_of(y))
        blue = self.node("Add", luma, self.node("Mul", self.to_blue, self.part(chroma, 0, 1)))
        red = self.node("Add", luma, self.node("Mul", self.to_red, self.part(chroma, 1, 1)))
        green = self.node("Sub", luma, self.node("Mul", self.kr, red))
        green = self.node("Div", self.node("Sub", green, self.node("Mul", self.kb, blue)), self.kg)
        return self.node("Concat", red, green, blue, axis=1)

    def rgb_to_planes(self, rgb: str, scale: int) -> None:
        red, green, blue = (self.part(rgb, i, 1) for i in range(3))
        products = [self.node("Mul", k, c) for k, c in ((self.kr, red), (self.kg, green), (self.kb, blue))]
        luma = self.node("Add", self.node("Add", products[0], products[1]), products[2])
        u = self.node("Div", self.node("Sub", blue, luma), self.to_blue)
        v = self.node("Div", self.node("Sub", red, luma), self.to_red)
        size = self.node("Mul", self.size_of("uv"), self.integers(scale))
        chroma = self.resized(self.node("Concat", u, v, axis=1), size)
        self.integers_out(self.node("Add", self.node("Mul", luma, self.luma_span), self.black), "y_out")
        self.integers_out(self.node("Add", self.node("Mul", chroma, self.chroma_span), 128.0), "uv_out")

    def integers_out(self, x: str, output: str) -> None:
        clipped = self.node("Clip", self.node("Round", x), 0.0, 255.0)
        self.add("Cast", [clipped], output, to=TensorProto.UINT8)


class Converter:
    """The operations of an RGB generator, in the order in which torch.fx sees them, as ONNX nodes."""

    def __init__(self, net: nn.Module, graph: PlanesGraph) -> None:
        self.net, self.g = net, graph

    def run(self, rgb: str) -> str:
        """Append the net to the graph; the name of its output."""
        names: dict[fx.Node, str] = {}
        modules = dict(self.net.named_modules())

        def name_of(x: object) -> str | float:
            return names[x] if isinstance(x, fx.Node) else float(x)  # type: ignore[arg-type]

        for node in trace(self.net).nodes:
            match node.op:
                case "placeholder":
                    names[node] = rgb
                case "call_module":
                    names[node] = self.module(modules[str(node.target)], str(node.target), names[node.args[0]])
                case "call_method":  # .float(): everything here is
                    names[node] = names[node.args[0]]
                case "call_function":
                    names[node] = self.function(node, name_of)
                case "output":
                    return names[node.args[0]]
        raise AssertionError("a traced net ends in an output")

    def module(self, module: nn.Module, path: str, x: str) -> str:
        path = path.replace(".", "_")
        match module:
            case Interpolation():
                padded = self.g.node("Pad", x, self.g.integers(0, 0, 1, 1, 0, 0, 1, 1), mode="edge")
                kernel = self.g.constant(path, module.kernel.numpy())  # float32: thirds have no fp16
                phases = self.g.node("Conv", padded, kernel, kernel_shape=[3, 3], group=3)
                return self.shuffle(phases, module.scale)
            case nn.Conv2d():
                return self.conv(module, path, x)
            case nn.ReLU():
                return self.g.node("Relu", x)
            case nn.LeakyReLU():
                return self.g.node("LeakyRelu", x, alpha=module.negative_slope)
            case nn.PReLU():
                slope = self.g.constant(f"{path}_slope", module.weight.detach().reshape(-1, 1, 1).numpy())
                return self.g.node("PRelu", x, slope)
            case nn.PixelShuffle():
                return self.shuffle(x, module.upscale_factor)
        raise TypeError(f"no ONNX for {path}, a {type(module).__name__}")

    def conv(self, conv: nn.Conv2d, path: str, x: str) -> str:
        inputs = [x, self.g.weight(path, conv.weight)]
        if conv.bias is not None:
            inputs.append(self.g.constant(f"{path}_bias", conv.bias.detach().numpy()))
        pad = list(conv.padding) * 2
        return self.g.node("Conv", *inputs, kernel_shape=list(conv.kernel_size), pads=pad, group=conv.groups)

    def shuffle(self, x: str, factor: int) -> str:
        return self.g.node("DepthToSpace", x, blocksize=factor, mode="CRD")

    def function(self, node: fx.Node, name_of: Callable[[object], str | float]) -> str:
        match node.target:
            case operator.add:
                return self.g.node("Add", *map(name_of, node.args))
            case operator.mul:
                return self.g.node("Mul", *map(name_of, node.args))
            case torch.cat:
                return self.g.node("Concat", *map(name_of, node.args[0]), axis=1)  # type: ignore[arg-type]
            case F.leaky_relu:
                return self.g.node("LeakyRelu", name_of(node.args[0]), alpha=node.kwargs["negative_slope"])
            case F.interpolate:
                assert node.kwargs["mode"] == "nearest"
                factor = float(node.kwargs["scale_factor"])  # type: ignore[arg-type]
                factors = f"factors_{factor:g}"
                if factors not in {constant.name for constant in self.g.constants}:
                    self.g.constant(factors, np.array([1, 1, factor, factor], np.float32))
                rule = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
                return self.g.node("Resize", name_of(node.args[0]), "", factors, mode="nearest", **rule)
        raise TypeError(f"no ONNX for {node.target}")


class LeafTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, Interpolation) or super().is_leaf_module(m, module_qualified_name)


def trace(net: nn.Module) -> fx.Graph:
    """The net's operations in order; Interpolation stays one of them."""
    return LeafTracer().trace(net)


def macs_per_lr_pixel(net: nn.Module) -> int:
    """Multiply-accumulates of all convolutions for one input pixel, counted on a small picture."""
    side, total = 16, 0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        total += module.weight.numel() * output.shape[2] * output.shape[3]

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d)]
    with torch.no_grad():
        net(torch.zeros(1, 3, side, side))
    for hook in hooks:
        hook.remove()
    return total // side**2
