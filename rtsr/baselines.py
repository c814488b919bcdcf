"""What a user would otherwise pick, measured next to our engine: plain resizing and well-known small networks.

The networks have random weights: speed does not depend on them. They take and give float32, as published, and are
measured without the conversions around them (8 bits to float, RGB to YCbCr, chroma), which our engine's figure
includes. Where a network works on luma alone, nothing is counted for the chroma. Runtimes run with their defaults.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort
from onnx import TensorProto, checker, helper, numpy_helper

from rtsr.backends import Engine
from rtsr.backends.reference import ReferenceEngine
from rtsr.bench_stages import cost_of, median_cost, to_and_fro
from rtsr.errors import EngineError
from rtsr.frames import FrameBatch

ROUND_S = 0.5  # about as long as a contender works in one round, if one frame does not take longer
MAX_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Contender:
    """Something that enlarges. planes: what of the picture it works on. run(n) enlarges n frames and returns n."""

    network: str
    runtime: str
    planes: str
    run: Callable[[int], int]


def measure_baselines(
    engine: Engine, held: Sequence[FrameBatch], rounds: int, notice: Callable[[str], None]
) -> list[dict[str, Any]]:
    """One row for our engine and each contender, which take turns; cpu_ratio: CPU time as a multiple of ours.

    held: decoded frames of one size, 8 bits. Only the enlarging is measured: no decode, no encode.
    """
    ours = Contender(engine.name, engine.backend, "YUV", lambda n: _consume(engine, held, n))
    contenders = [ours, *_resizers(engine.scale, held), *_networks(engine.scale, held)]
    frames = []
    for contender in contenders:
        notice(f"baseline: trying {contender.network} under {contender.runtime}")
        contender.run(1)
        once = cost_of(lambda contender=contender: contender.run(1))
        frames.append(min(max(round(ROUND_S * 1e3 / once.wall_ms), 1), MAX_FRAMES))
    costs = [[] for _ in contenders]
    for number in range(1, rounds + 1):
        notice(f"baseline: round {number} of {rounds}")
        for contender, n, found in zip(contenders, frames, costs, strict=True):
            found.append(cost_of(lambda contender=contender, n=n: contender.run(n)))
    medians = [median_cost(found) for found in costs]
    return [
        {
            "network": contender.network,
            "runtime": contender.runtime,
            "planes": contender.planes,
            "cpu_ms": cost.cpu_ms,
            "wall_ms": cost.wall_ms,
            "fps": 1e3 / cost.wall_ms,
            "cpu_ratio": cost.cpu_ms / medians[0].cpu_ms,
        }
        for contender, cost in zip(contenders, medians, strict=True)
    ]


def _consume(engine: Engine, held: Sequence[FrameBatch], frames: int) -> int:
    return sum(len(batch) for batch in engine.stream(to_and_fro(held, frames)))


def _resizers(scale: int, held: Sequence[FrameBatch]) -> Iterator[Contender]:
    """OpenCV's interpolation of all three planes at 8 bits: what a player does, less its conversions."""
    for name in ("bicubic", "lanczos"):
        resizer = ReferenceEngine(scale, name)
        yield Contender(name, "opencv", "YUV", lambda n, resizer=resizer: _consume(resizer, held, n))


def _networks(scale: int, held: Sequence[FrameBatch]) -> Iterator[Contender]:
    height, width = held[0].size
    y = np.ascontiguousarray(held[0].y[:1], np.float32) / 255
    rgb = np.repeat(y, 3, axis=1)
    for network, planes, graph, x in (
        ("FSRCNN", "Y", fsrcnn(scale), y),
        ("ESPCN", "Y", espcn(scale), y),
        ("realesr-animevideov3", "RGB", compact(scale), rgb),
    ):
        onnx_bytes = graph.serialize(height, width)
        for runtime, opened in (("onnxruntime", _onnxruntime), ("openvino", _openvino), ("opencv dnn", _opencv)):
            if runtime == "opencv dnn" and planes == "RGB":
                continue  # five seconds a frame
            call = opened(onnx_bytes, x)
            yield Contender(network, runtime, planes, lambda n, call=call: _repeat(call, n))


def _repeat(call: Callable[[], object], times: int) -> int:
    for _ in range(times):
        call()
    return times


def _onnxruntime(onnx_bytes: bytes, x: np.ndarray) -> Callable[[], object]:
    session = ort.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": x})


def _openvino(onnx_bytes: bytes, x: np.ndarray) -> Callable[[], object]:
    """With OpenVINO's defaults, which on CPUs that can means bf16 arithmetic inside."""
    import openvino as ov

    core = ov.Core()
    request = core.compile_model(core.read_model(onnx_bytes), "CPU").create_infer_request()
    return lambda: request.infer({"x": x}, share_inputs=True, share_outputs=True)


def _opencv(onnx_bytes: bytes, x: np.ndarray) -> Callable[[], object]:
    try:
        net = cv2.dnn.readNetFromONNX(np.frombuffer(onnx_bytes, np.uint8))
    except cv2.error as error:
        raise EngineError(f"OpenCV's dnn does not read the network: {error}") from error

    def forward() -> object:
        net.setInput(x)
        return net.forward()

    return forward


@dataclass(slots=True)
class Chain:
    """An ONNX graph that is a chain of layers, with random weights. channels: of the chain's present end."""

    scale: int
    planes: int
    channels: int = 0
    nodes: list[Any] = field(default_factory=list)
    weights: list[Any] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def __post_init__(self) -> None:
        self.channels = self.planes

    def conv(self, channels: int, kernel: int) -> Chain:
        shape = (channels, self.channels, kernel, kernel)
        return self._add("Conv", channels, shape, (channels,), kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)

    def deconv(self, channels: int, kernel: int) -> Chain:
        """Transposed convolution with stride `scale`."""
        stride, rest = [self.scale] * 2, [self.scale - 1] * 2
        shape = (self.channels, channels, kernel, kernel)
        pads = [kernel // 2] * 4
        return self._add("ConvTranspose", channels, shape, (channels,), strides=stride, pads=pads, output_padding=rest)

    def prelu(self) -> Chain:
        return self._add("PRelu", self.channels, (self.channels, 1, 1))

    def relu(self) -> Chain:
        return self._add("Relu", self.channels)

    def shuffle(self) -> Chain:
        return self._add("DepthToSpace", self.channels // self.scale**2, blocksize=self.scale, mode="CRD")

    def serialize(self, height: int, width: int) -> bytes:
        """The model for (1, planes, height, width) float32 -> the same, `scale` times larger."""
        sizes = (height, width), (height * self.scale, width * self.scale)
        x, out = (
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, planes, *size])
            for name, planes, size in zip(("x", self._end), (self.planes, self.channels), sizes, strict=True)
        )
        graph = helper.make_graph(self.nodes, "baseline", [x], [out], self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        checker.check_model(model)
        return model.SerializeToString()

    @property
    def _end(self) -> str:
        return f"layer{len(self.nodes)}" if self.nodes else "x"

    def _add(self, op: str, channels: int, *shapes: tuple[int, ...], **attributes: Any) -> Chain:
        """Append a layer whose weights have these shapes."""
        names = []
        for shape in shapes:
            # About He's initialisation: values stay in a normal range, where arithmetic is neither slow nor infinite.
            deviation = (2 / max(np.prod(shape[1:]), 1)) ** 0.5
            names.append(f"weight{len(self.weights)}")
            values = (deviation * self.rng.standard_normal(shape)).astype(np.float32)
            self.weights.append(numpy_helper.from_array(values, names[-1]))
        before, after = self._end, f"layer{len(self.nodes) + 1}"
        self.nodes.append(helper.make_node(op, [before, *names], [after], **attributes))
        self.channels = channels
        return self


def fsrcnn(scale: int) -> Chain:
    """FSRCNN(d=56, s=12, m=4), arXiv:1608.00367, on luma: the 9x9 deconvolution enlarges."""
    chain = Chain(scale, 1).conv(56, 5).prelu().conv(12, 1).prelu()
    for _ in range(4):
        chain = chain.conv(12, 3).prelu()
    return chain.conv(56, 1).prelu().deconv(1, 9)


def espcn(scale: int) -> Chain:
    """ESPCN, arXiv:1609.05158, on luma; ReLU instead of tanh, as later versions have it: cheaper."""
    return Chain(scale, 1).conv(64, 5).relu().conv(32, 3).relu().conv(scale**2, 3).shuffle()


def compact(scale: int) -> Chain:
    """SRVGGNetCompact with 64 features and 16 convolutions on RGB, the body of realesr-animevideov3.

    Without its nearest-neighbour skip, which costs nothing beside the rest.
    """
    chain = Chain(scale, 3).conv(64, 3).prelu()
    for _ in range(16):
        chain = chain.conv(64, 3).prelu()
    return chain.conv(3 * scale**2, 3).shuffle()
