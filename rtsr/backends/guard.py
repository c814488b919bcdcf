"""FP16 watched: what overflows is found on the device, done again in FP32, and said.

FP16 ends at 65,504. One value beyond it becomes infinite, and the pictures behind it come out black or torn, without
any error. So a graph in FP16 has one more output of two numbers for each plane, reduced where the plane is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from rtsr.backends import Engine
from rtsr.errors import EngineError, RtsrError
from rtsr.frames import FrameBatch

if TYPE_CHECKING:
    import onnx

CHECK = "check"
# How far the picture's own channel, of values from 0 to 1, may wander on its way through the net: kernels that compute
# by Winograd's transform round it a little. Black of limited range, 16/255, which an overflow makes 0, is twice that.
_WANDERS = 1 / 32


def with_check(graph: bytes) -> bytes:
    """Add the output `check` to a ladder's graph: float32 (planes, 2), to be read by sound().

    The second number is the sum of what the last convolution gives, in float32: finite only if each of them is. That
    alone misses an overflow in a hidden layer, where a ReLU that drops NaN, as CUDA's do, hides it: infinity makes
    NaN of all channels around it, and NaN becomes 0. But it makes 0 of the picture's own channel too, which every
    hidden layer hands on as it is. The first number is the largest difference of that channel between the first hidden
    layer and the last.
    Raises EngineError for a graph that is no ladder's.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load_from_string(graph)
    relus = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    if not relus:
        raise EngineError("a graph without hidden layers needs no check: run it in fp32")
    nodes: list[onnx.NodeProto] = []

    def constant(values: list[int]) -> str:
        name = f"{CHECK}_c{len(model.graph.initializer)}"
        model.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def add(operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"{CHECK}_{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def reduced(operator: str, x: str) -> str:
        """(planes, C, H, W) -> (planes, 1) float32."""
        if operator == "ReduceSum":
            x = add(operator, add("Cast", x, to=TensorProto.FLOAT), constant([1, 2, 3]), keepdims=0)
        else:
            x = add("Cast", add(operator, x, axes=[1, 2, 3], keepdims=0), to=TensorProto.FLOAT)
        return add("Unsqueeze", x, constant([1]))

    first, last = (add("Slice", x, constant([0]), constant([1]), constant([1])) for x in (relus[0], relus[-1]))
    wandered = reduced("ReduceMax", add("Abs", add("Sub", last, first)))
    add("Concat", wandered, reduced("ReduceSum", _tail(model)), output=CHECK, axis=1)
    model.graph.node.extend(nodes)
    planes = model.graph.output[0].type.tensor_type.shape.dim[0].dim_param or "planes"
    model.graph.output.append(helper.make_tensor_value_info(CHECK, TensorProto.FLOAT, [planes, 2]))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _tail(model: onnx.ModelProto) -> str:
    """What the last convolution of luma gives: the one that reads the last hidden layer."""
    last = next(node.output[0] for node in reversed(model.graph.node) if node.op_type == "Relu")
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[0] == last:
            return node.output[0]
    raise EngineError("the graph does not end in a convolution of its last hidden layer")


def sound(check: np.ndarray, planes: int = 1) -> np.ndarray:
    """check (N * planes, 2) -> (N,) bool: whether every value of a picture was finite. planes: of a picture."""
    wandered, total = check[:, 0], check[:, 1]
    fine = (wandered <= _WANDERS) & np.isfinite(total)  # NaN is not <= anything
    return np.asarray(fine.reshape(-1, planes).all(axis=1))


class Fp32Again:
    """Does bad pictures again in FP32. open_fp32: opens the same engine in FP32; called at the first bad picture.

    notice gets a sentence at the first bad picture, the 10th, the 100th... redone: how many there were.
    """

    def __init__(self, open_fp32: Callable[[], Engine], notice: Callable[[str], None] = lambda sentence: None):
        self._open, self._notice = open_fp32, notice
        self._engine: Engine | None = None
        self.redone = 0

    def repaired(self, batch: FrameBatch, result: FrameBatch, is_sound: np.ndarray) -> FrameBatch:
        """result, with the pictures of batch that are not sound (N,) done again. Raises EngineError."""
        if is_sound.all():
            return result
        if self._engine is None:
            self._engine = self._open()
        bad = np.flatnonzero(~is_sound)
        again = self._engine.infer(
            FrameBatch(
                batch.y[bad], batch.uv[bad], tuple(batch.pts[i] for i in bad), batch.time_base,
                siting=batch.siting, pixels=batch.pixels,
            )
        )  # fmt: skip
        y, uv = result.y.copy(), result.uv.copy()
        y[bad], uv[bad] = again.y, again.uv
        before, self.redone = self.redone, self.redone + len(bad)
        if len(str(self.redone)) > len(str(before)) or not before:
            seconds = float(batch.pts[int(bad[0])] * batch.time_base)
            so_far = "" if self.redone == 1 else f"; {self.redone} frames so far"
            self._notice(f"a frame at {seconds:.3f} s went beyond what FP16 holds and was done again in FP32{so_far}")
        return batch.with_planes(y, uv)

    def close(self) -> None:
        """Safe to call twice."""
        if self._engine is not None:
            with suppress(RtsrError):
                self._engine.close()
            self._engine = None
