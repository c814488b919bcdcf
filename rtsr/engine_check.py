"""Is an ONNX file the engine that its manifest describes, and nothing else? Asked before any runtime sees it.

A runtime's parser and kernels are large native code, and an engine may come from anywhere. So the file may hold only
the operators that training.export writes, in ONNX's own domain; every weight must be as long as its shape says; and the
shape of every tensor is followed through the graph for one large picture. That bounds the memory of a frame, and shows
that what comes out is `scale` times what went in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from rtsr.errors import EngineError
from rtsr.onnx_reader import OnnxError, read_onnx

if TYPE_CHECKING:
    from rtsr.manifest import Manifest

MAX_BYTES = 64 << 20
MAX_NODES = 5_000
MAX_VALUES_PER_PIXEL = 4096  # of one tensor, for each pixel of the input; 64 channels at x4 have 1024
MAX_PAD = 64
OPSETS = range(13, 22)
# Height and width of the picture whose way is followed: each more than MAX_VALUES_PER_PIXEL, so that a tensor of
# height times height is too large.
_PROBE = 4320, 7680
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 10: 2}  # float32, uint8, int8, int32, int64, float16
_ELEM_TYPES = {"uint8": 2, "float32": 1}
_SHAPE_LENGTH = 16  # constants up to this long may be sizes, and are read


class UnsafeEngineError(EngineError):
    """An engine file that no runtime gets to see."""


@dataclass(frozen=True, slots=True)
class _Tensor:
    """The shape of what flows; value: where it is a short list of numbers that does not depend on the picture."""

    shape: tuple[int, ...]
    value: np.ndarray | None = None


def check_engine(data: bytes, engine: Manifest) -> None:
    """Raises UnsafeEngineError with one sentence."""
    try:
        if len(data) > MAX_BYTES:
            raise OnnxError(f"it has {len(data)} bytes, more than {MAX_BYTES}")
        model = read_onnx(data)
        _check_opsets(model)
        graph = model.get("graph") or {}
        if not 0 < len(graph.get("nodes", [])) <= MAX_NODES:
            raise OnnxError(f"it has no operators, or more than {MAX_NODES}")
        tensors = _weights(graph) | _inputs(graph, engine)
        for node in graph["nodes"]:
            _follow(node, tensors)
        _check_outputs(graph, tensors, engine)
    except OnnxError as error:
        raise UnsafeEngineError(f"engine {engine.name}: {engine.file} is refused: {error}") from error


def _check_opsets(model: dict[str, Any]) -> None:
    sets = [(opset.get("domain", ""), opset.get("version", 0)) for opset in model["opsets"]]
    if len(sets) != 1 or sets[0][0] not in ("", "ai.onnx") or sets[0][1] not in OPSETS:
        raise OnnxError(f"it asks for operator sets {sets}; allowed is ONNX's own, {OPSETS[0]} to {OPSETS[-1]}")


def _weights(graph: dict[str, Any]) -> dict[str, _Tensor]:
    """Every constant is as long as it says. Those that may be sizes are read."""
    found: dict[str, _Tensor] = {}
    for weight in graph["initializers"]:
        name, shape, kind = weight.get("name", ""), tuple(weight["dims"]), weight.get("data_type", 0)
        if not name or name in found:
            raise OnnxError(f"two weights are called {name!r}, or one has no name")
        if kind not in _ITEM_BYTES or len(shape) > 4 or any(side < 1 for side in shape):
            raise OnnxError(f"weight {name} has type {kind} and shape {shape}")
        lists = [weight[key] for key in ("float_data", "int32_data", "int64_data") if weight[key]]
        raw = weight.get("raw_data", b"")
        held = len(raw) / _ITEM_BYTES[kind] if raw else len(lists[0]) if lists else 0
        if held != prod(shape) or bool(raw) + len(lists) != 1:
            raise OnnxError(f"weight {name} holds {held:g} numbers and should hold {prod(shape)}")
        value = None
        if held <= _SHAPE_LENGTH and kind in (1, 6, 7):
            dtype = {1: "<f4", 6: "<i4", 7: "<i8"}[kind]
            value = (np.frombuffer(raw, dtype) if raw else np.array(lists[0], dtype)).reshape(shape)
        found[name] = _Tensor(shape, value)
    return found


def _inputs(graph: dict[str, Any], engine: Manifest) -> dict[str, _Tensor]:
    """What the contract hands to a graph, for the picture of _PROBE."""
    height, width = _PROBE
    expected = {"y": (1, 1, height, width)}
    if engine.output == "planes":
        expected["uv"] = (1, 2, height // 2, width // 2)
    if engine.rgb:
        expected |= {"matrix": (2,), "range": (3,)}
    found = {}
    for end in graph["inputs"]:
        name, declared = _declared(end, engine)
        shape = expected.get(name)
        free = (0, 2, 3) if shape and len(shape) == 4 else ()
        if name in found or shape is None or len(declared) != len(shape):
            raise OnnxError(f"its input {name} {declared} is not the contract's; that has {expected}")
        for axis, (side, wanted) in enumerate(zip(declared, shape, strict=True)):
            if side != (None if axis in free else wanted):
                raise OnnxError(f"its input {name} must take any number and size of pictures; it declares {declared}")
        found[name] = _Tensor(shape)
    if found.keys() != expected.keys():
        raise OnnxError(f"it has the inputs {sorted(found)}; the contract has {sorted(expected)}")
    return found


def _declared(end: dict[str, Any], engine: Manifest) -> tuple[str, tuple[int | None, ...]]:
    """Name and sides of an input or output, None for a free side; its dtype is the manifest's."""
    name, kind = end.get("name", ""), end.get("type", {}).get("tensor_type", {})
    if kind.get("elem_type") != _ELEM_TYPES.get(engine.dtypes.get(name, "")):
        raise OnnxError(f"its {name!r} is not {engine.dtypes.get(name, 'in the manifest')}")
    return name, tuple(side.get("value") for side in kind.get("shape", {}).get("dims", []))


def _check_outputs(graph: dict[str, Any], tensors: dict[str, _Tensor], engine: Manifest) -> None:
    (height, width), scale = _PROBE, engine.scale
    if engine.output == "phases":
        expected = {"y_phases": (1, height, width, scale * scale)}
    else:
        expected = {"y_out": (1, 1, height * scale, width * scale)}
        expected["uv_out"] = (1, 2, height // 2 * scale, width // 2 * scale)
    names = [_declared(end, engine)[0] for end in graph["outputs"]]
    found = {name: tensors[name].shape if name in tensors else None for name in names}
    if found != expected or len(names) != len(expected):
        raise OnnxError(f"of a picture of {width}x{height} it makes {found}; the contract has {expected}")


def _follow(node: dict[str, Any], tensors: dict[str, _Tensor]) -> None:
    """Work out the shape of a node's output and add it to tensors."""
    kind, names = node.get("op_type", ""), node["inputs"]
    if node.get("domain", "") not in ("", "ai.onnx") or kind not in _RULES:
        where = f" of {node['domain']}" if node.get("domain") else ""
        raise OnnxError(f"it uses the operator {kind}{where}; allowed are {', '.join(sorted(_RULES))}")
    if missing := [name for name in names if name and name not in tensors]:
        raise OnnxError(f"its {kind} reads {missing[0]!r}, which nothing before it makes")
    attributes = {a.get("name", ""): a for a in node["attributes"]}
    if len(attributes) != len(node["attributes"]):
        raise OnnxError(f"its {kind} has an attribute twice")
    inputs = [tensors[name] if name else None for name in names]
    try:
        made = _RULES[kind](attributes, *inputs)
    except (ValueError, TypeError, LookupError, AttributeError, ZeroDivisionError, OverflowError) as error:
        if isinstance(error, OnnxError):
            raise
        raise OnnxError(f"its {kind} {node.get('name', '')} does not fit what it is given ({error})") from error
    most = MAX_VALUES_PER_PIXEL * prod(_PROBE)
    if len(made.shape) > 5 or any(side < 1 for side in made.shape) or prod(made.shape) > most:
        raise OnnxError(f"its {kind} makes a tensor of {made.shape} of a picture of {_PROBE[1]}x{_PROBE[0]}")
    if len(node["outputs"]) != 1 or not node["outputs"][0] or node["outputs"][0] in tensors:
        raise OnnxError(f"its {kind} has outputs {node['outputs']}; one of a new name is allowed")
    tensors[node["outputs"][0]] = made


# One rule an operator: attributes and inputs -> the output's shape. Python's own errors say what does not fit.


def _same(attributes: dict[str, Any], x: _Tensor, *more: _Tensor | None) -> _Tensor:
    for other in more:  # scales, zero points, limits: never larger than what they are for
        if other is not None and other.shape not in ((), (1,)) and prod(other.shape) not in x.shape:
            raise ValueError(f"{other.shape} beside {x.shape}")
    return _Tensor(x.shape)  # without x's value, which it changes


def _elementwise(attributes: dict[str, Any], *inputs: _Tensor) -> _Tensor:
    return _Tensor(np.broadcast_shapes(*(x.shape for x in inputs)))


def _multiply(attributes: dict[str, Any], a: _Tensor, b: _Tensor) -> _Tensor:
    if a.value is None or b.value is None:
        return _elementwise(attributes, a, b)
    value = np.asarray(a.value * b.value)
    return _Tensor(value.shape, value)


def _conv(attributes: dict[str, Any], x: _Tensor, weight: _Tensor, bias: _Tensor | None = None) -> _Tensor:
    if "auto_pad" in attributes:
        raise ValueError("auto_pad")
    n, channels, *sides = x.shape
    out, each, *kernel = weight.shape
    group = _integer(attributes, "group", 1)
    if each * group != channels or out % group or (bias is not None and bias.shape != (out,)):
        raise ValueError(f"{weight.shape}, {group} groups, on {x.shape}")
    if _integers(attributes, "kernel_shape", kernel) != kernel:
        raise ValueError("kernel_shape")
    pads = _integers(attributes, "pads", [0] * 4)
    steps, gaps = _integers(attributes, "strides", [1, 1]), _integers(attributes, "dilations", [1, 1])
    if not all(0 <= pad <= MAX_PAD for pad in pads) or min(steps + gaps) < 1 or max(gaps) > MAX_PAD:
        raise ValueError(f"pads {pads}, strides {steps}, dilations {gaps}")
    ends = zip(sides, kernel, pads[:2], pads[2:], steps, gaps, strict=True)
    return _Tensor((n, out, *((s + a + b - gap * (k - 1) - 1) // step + 1 for s, k, a, b, step, gap in ends)))


def _concat(attributes: dict[str, Any], first: _Tensor, *rest: _Tensor) -> _Tensor:
    axis = attributes["axis"]["i"] % len(first.shape)
    for other in rest:
        if first.shape[:axis] + first.shape[axis + 1 :] != other.shape[:axis] + other.shape[axis + 1 :]:
            raise ValueError(f"{other.shape} beside {first.shape}")
    side = sum(x.shape[axis] for x in (first, *rest))
    values = [x.value for x in (first, *rest) if x.value is not None]
    known = len(values) == 1 + len(rest) and side <= _SHAPE_LENGTH
    return _Tensor(
        (*first.shape[:axis], side, *first.shape[axis + 1 :]), np.concatenate(values, axis) if known else None
    )


def _slice(
    attributes: dict[str, Any],
    x: _Tensor,
    starts: _Tensor,
    ends: _Tensor,
    axes: _Tensor | None = None,
    steps: _Tensor | None = None,
) -> _Tensor:
    begin, end = _known(starts), _known(ends)
    cut = [slice(None)] * len(x.shape)
    which = _known(axes) if axes else list(range(len(begin)))
    for axis, a, b, step in zip(which, begin, end, _known(steps) if steps else [1] * len(begin), strict=True):
        cut[axis] = slice(a, b, step)
    shape = tuple(len(range(*part.indices(side))) for part, side in zip(cut, x.shape, strict=True))
    return _Tensor(shape, None if x.value is None else x.value[tuple(cut)])


def _resize(
    attributes: dict[str, Any],
    x: _Tensor,
    roi: _Tensor | None = None,
    scales: _Tensor | None = None,
    sizes: _Tensor | None = None,
) -> _Tensor:
    if roi is not None or (scales is None) == (sizes is None) or {"axes", "keep_aspect_ratio_policy"} & {*attributes}:
        raise ValueError("roi, axes, or not one of scales and sizes")
    if sizes is not None:
        shape = _known(sizes)
    else:
        assert scales is not None
        shape = [int(side * factor) for side, factor in zip(x.shape, _known(scales, float), strict=True)]
    if len(shape) != len(x.shape):
        raise ValueError(f"{x.shape} to {shape}")
    return _Tensor(tuple(shape))


def _pad(attributes: dict[str, Any], x: _Tensor, pads: _Tensor, value: _Tensor | None = None) -> _Tensor:
    amounts = _known(pads)
    if len(amounts) != 2 * len(x.shape) or not all(0 <= amount <= MAX_PAD for amount in amounts):
        raise ValueError(f"pads {amounts}")
    ends = zip(x.shape, amounts[: len(x.shape)], amounts[len(x.shape) :], strict=True)
    return _Tensor(tuple(side + a + b for side, a, b in ends))


def _shape(attributes: dict[str, Any], x: _Tensor) -> _Tensor:
    if attributes:
        raise ValueError(f"attributes {sorted(attributes)}")
    return _Tensor((len(x.shape),), np.array(x.shape, np.int64))


def _depth_to_space(attributes: dict[str, Any], x: _Tensor) -> _Tensor:
    (n, channels, height, width), block = x.shape, _integer(attributes, "blocksize", 0)
    if block < 1 or channels % (block * block):
        raise ValueError(f"{channels} channels in blocks of {block}")
    return _Tensor((n, channels // (block * block), height * block, width * block))


def _transpose(attributes: dict[str, Any], x: _Tensor) -> _Tensor:
    order = _integers(attributes, "perm", list(reversed(range(len(x.shape)))))
    if sorted(order) != list(range(len(x.shape))):
        raise ValueError(f"order {order}")
    return _Tensor(tuple(x.shape[axis] for axis in order))


def _known(tensor: _Tensor | None, kind: type = int) -> list[Any]:
    if tensor is None or tensor.value is None or tensor.value.ndim != 1:
        raise ValueError("a size that the picture's contents decide")
    return [kind(number) for number in tensor.value]


def _integer(attributes: dict[str, Any], name: str, default: int) -> int:
    return attributes[name].get("i", 0) if name in attributes else default


def _integers(attributes: dict[str, Any], name: str, default: list[int]) -> list[int]:
    return attributes[name]["ints"] if name in attributes else default


_RULES: dict[str, Callable[..., _Tensor]] = {
    **dict.fromkeys(("Cast", "Relu", "LeakyRelu", "Round", "Clip", "QuantizeLinear", "DequantizeLinear"), _same),
    **dict.fromkeys(("Add", "Sub", "Div", "PRelu"), _elementwise),
    "Mul": _multiply,
    "Conv": _conv,
    "Concat": _concat,
    "Slice": _slice,
    "Resize": _resize,
    "Pad": _pad,
    "Shape": _shape,
    "DepthToSpace": _depth_to_space,
    "Transpose": _transpose,
}
OPERATORS = frozenset(_RULES)
