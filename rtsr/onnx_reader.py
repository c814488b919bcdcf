"""What an ONNX file says, read without ONNX's library and without trust.

The package `onnx` would cost 20 MB for what takes a page: an engine uses a small part of the format. This reader knows
that part and refuses the rest by name: other files (external data), subgraphs, functions, repeated single fields (which
parsers merge in different ways), and field numbers that the part does not have. Nothing is decoded, copied or nested
deeper than the tables below. Field numbers are onnx.proto's; the encoding is https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

MAX_FIELDS = 500_000  # of the whole file; the largest engine here has 7,000
_LENGTH = 2
_WIRES = {int: 0, float: 5, str: _LENGTH, bytes: _LENGTH}


class OnnxError(ValueError):
    """The bytes are no ONNX file, or use what an engine has no need of. The text is one clause."""


@dataclass(frozen=True, slots=True)
class _Field:
    name: str
    kind: Any = bytes  # int, float, str, bytes, a table of fields, or None: refused
    many: bool = False


_ENTRIES = _Field("metadata", bytes, many=True)
_DIMENSION = {1: _Field("value", int), 2: _Field("parameter", str), 3: _Field("denotation", str)}
_SHAPE = {1: _Field("dims", _DIMENSION, many=True)}
_TENSOR_TYPE = {1: _Field("elem_type", int), 2: _Field("shape", _SHAPE)}
_TYPE = {1: _Field("tensor_type", _TENSOR_TYPE), 6: _Field("denotation", str)}
_VALUE_INFO = {1: _Field("name", str), 2: _Field("type", _TYPE), 3: _Field("doc"), 4: _ENTRIES}
_TENSOR = {
    1: _Field("dims", int, many=True),
    2: _Field("data_type", int),
    4: _Field("float_data", float, many=True),
    5: _Field("int32_data", int, many=True),
    7: _Field("int64_data", int, many=True),
    8: _Field("name", str),
    9: _Field("raw_data"),
    12: _Field("doc"),
    13: _Field("weights in another file (external data)", None),
    14: _Field("weights in another file (external data)", None),
}
_ATTRIBUTE = {
    1: _Field("name", str),
    2: _Field("f", float),
    3: _Field("i", int),
    4: _Field("s", str),
    5: _Field("a tensor as attribute", None),
    6: _Field("a graph inside the graph", None),
    7: _Field("floats", float, many=True),
    8: _Field("ints", int, many=True),
    13: _Field("doc"),
    20: _Field("type", int),
}
_NODE = {
    1: _Field("inputs", str, many=True),
    2: _Field("outputs", str, many=True),
    3: _Field("name", str),
    4: _Field("op_type", str),
    5: _Field("attributes", _ATTRIBUTE, many=True),
    6: _Field("doc"),
    7: _Field("domain", str),
    9: _ENTRIES,
}
_GRAPH = {
    1: _Field("nodes", _NODE, many=True),
    2: _Field("name", str),
    5: _Field("initializers", _TENSOR, many=True),
    10: _Field("doc"),
    11: _Field("inputs", _VALUE_INFO, many=True),
    12: _Field("outputs", _VALUE_INFO, many=True),
    13: _Field("shapes stated for what flows inside", None),
    15: _Field("sparse weights", None),
    16: _ENTRIES,
}
_OPSET = {1: _Field("domain", str), 2: _Field("version", int)}
_MODEL = {
    1: _Field("ir_version", int),
    2: _Field("producer_name", str),
    3: _Field("producer_version", str),
    4: _Field("domain", str),
    5: _Field("model_version", int),
    6: _Field("doc"),
    7: _Field("graph", _GRAPH),
    8: _Field("opsets", _OPSET, many=True),
    14: _ENTRIES,
    20: _Field("training steps", None),
    25: _Field("functions of its own", None),
}


def read_onnx(data: bytes | bytearray) -> dict[str, Any]:
    """The model as nested dicts, by the names of the tables above; a field that is not there is not in its dict, one
    that may occur many times is a list. bytes are views of data: writing to those of a bytearray changes the file.
    Raises OnnxError."""
    return _Reader().message(memoryview(data), _MODEL, "the model")


class _Reader:
    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def message(self, data: memoryview, table: dict[int, _Field], where: str) -> dict[str, Any]:
        found: dict[str, Any] = {field.name: [] for field in table.values() if field.many}
        at = 0
        while at < len(data):
            key, at = _varint(data, at)
            field = table.get(key >> 3)
            if field is None:
                raise OnnxError(f"{where} has a field {key >> 3} that engines do not use")
            if field.kind is None:
                raise OnnxError(f"it has {field.name}, which is refused")
            wire = _WIRES.get(field.kind if isinstance(field.kind, type) else bytes)
            packed = field.many and field.kind in (int, float) and key & 7 == _LENGTH
            if key & 7 != wire and not packed:
                raise OnnxError(f"its field {field.name} is of the wrong kind")
            values, at = self._packed(data, at, field) if packed else self._one(data, at, field)
            if not field.many and field.name in found:
                raise OnnxError(f"{where} has two of its field {field.name}")
            if field.many:
                found[field.name] += values
            else:
                found[field.name] = values[0]
        return found

    def _one(self, data: memoryview, at: int, field: _Field) -> tuple[list[Any], int]:
        """The value that begins at `at`, in a list, and where it ends."""
        self._left -= 1
        if self._left < 0:
            raise OnnxError(f"it has more than {MAX_FIELDS} fields")
        if field.kind is int:
            value, at = _varint(data, at)
            return [value - (1 << 64) if value >> 63 else value], at
        if field.kind is float:
            part, at = _slice(data, at, 4)
            return [struct.unpack("<f", part)[0]], at
        length, at = _varint(data, at)
        part, at = _slice(data, at, length)
        if field.kind is bytes:
            return [part], at
        if field.kind is not str:
            return [self.message(part, field.kind, f"its {field.name}")], at
        try:
            return [str(part, "utf-8")], at
        except UnicodeDecodeError as error:
            raise OnnxError(f"its field {field.name} is no text") from error

    def _packed(self, data: memoryview, at: int, field: _Field) -> tuple[list[Any], int]:
        """Numbers one after the other, without keys."""
        length, at = _varint(data, at)
        part, end = _slice(data, at, length)
        numbers: list[Any] = []
        at = 0
        while at < len(part):
            number, at = self._one(part, at, field)
            numbers += number
        return numbers, end


def _slice(data: memoryview, at: int, length: int) -> tuple[memoryview, int]:
    if length > len(data) - at:
        raise OnnxError("it ends early")
    return data[at : at + length], at + length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise OnnxError("it ends early")
        value |= (data[at] & 127) << shift
        at += 1
        if data[at - 1] < 128:
            return value & (1 << 64) - 1, at
    raise OnnxError("a number in it has no end")
