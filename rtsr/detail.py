"""The dial between a generator's two ends: engines between fidelity and detail, made of their weights.

Network interpolation (ESRGAN, arXiv:1809.00219, section 3.4): the detail end was trained from the fidelity end's
weights, so what lies on the straight way between the two is a working net. The weights of int8 engines lie on grids of
their own and cannot be mixed: of those the exported steps are all there is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from rtsr.errors import ConfigError, EngineError
from rtsr.manifest import Manifest, engine_of, installed_engines, read_engine
from rtsr.onnx_reader import read_onnx

_FLOAT32, _FLOAT16 = 1, 10  # of TensorProto
_DTYPES = {_FLOAT32: "<f4", _FLOAT16: "<f2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend(Manifest):
    """An engine that has no file: the weights of ends[0], moved `way` (0..1) towards those of ends[1]."""

    ends: tuple[Manifest, Manifest]
    way: float


# What was blended in this process, by sha256, so that an opened engine can be asked what it is. Descriptions only.
_blends: dict[str, Blend] = {}


def blend_of(sha256: str) -> Blend | None:
    """The blend of this process whose graph that is."""
    return _blends.get(sha256)


def at_detail(
    engines: Sequence[Manifest], detail: float, notice: Callable[[str], None] = lambda sentence: None
) -> Manifest:
    """The engine for a share of detail (0..1), of engines that differ in nothing but that. notice: see find_engine().

    Raises ConfigError if there is no detail end, EngineError if the two ends cannot be blended.
    """
    share = nearest_share(engines, detail)
    if share is None:
        one = engines[0]
        what = f"{one.precision} engine of {one.tier} x{one.scale}, degradation {one.degradation!r},"
        if any(engine.detail for engine in engines):
            raise ConfigError(f"--detail {detail:g}: the {what} has a detail end alone; take --detail 1")
        raise ConfigError(f"--detail {detail:g}: the {what} has no detail end; {models_with_detail()}")
    if share != detail:
        *first, last = (f"{engine.detail:g}" for engine in sorted(engines, key=lambda engine: engine.detail))
        exist = f"{', '.join(first)} and {last}"
        notice(f"int8 engines of {engines[0].tier} exist at detail {exist}: taking {share:g}")
    if exact := next((engine for engine in engines if engine.detail == share), None):
        return exact
    below = max((engine for engine in engines if engine.detail < share), key=lambda engine: engine.detail)
    above = min((engine for engine in engines if engine.detail > share), key=lambda engine: engine.detail)
    return _described(below, above, share)


def nearest_share(engines: Sequence[Manifest], detail: float) -> float | None:
    """What at_detail() takes; of two int8 steps equally near the one with more detail. None if there is no way."""
    found = [engine.detail for engine in engines]
    if detail in found:
        return detail
    if not any(found):
        return None
    if engines[0].precision == "int8":
        return min(found, key=lambda step: (abs(step - detail), -step))
    return detail if min(found) < detail < max(found) else None


def nearest_to(sha256: str, detail: float) -> float:
    """The share that opens where `detail` is asked for, of the kind of an opened engine; sha256: of its graph."""
    engine = engine_of(sha256)
    share = None if engine is None else nearest_share([e for e in installed_engines() if e.kind == engine.kind], detail)
    return detail if share is None else share


def models_with_detail() -> str:
    """A clause for messages."""
    ends = [engine for engine in installed_engines() if engine.detail]
    # An RGB generator is taken whatever degradation is asked for.
    found = sorted({f"{e.tier} x{e.scale}" + f" {e.degradation}" * (not e.rgb) for e in ends})
    return f"models with one: {', '.join(found)}" if found else "no installed model has one"


def _described(below: Manifest, above: Manifest, detail: float) -> Blend:
    """The blend of two float engines, known by the sha256 of what it will be. Raises EngineError."""
    way = (detail - below.detail) / (above.detail - below.detail)
    stem = re.sub(r"-detail[\d.]*", "", above.name).removesuffix("-planes").removesuffix(f"-{above.precision}")
    name = f"{stem}-detail{100 * detail:g}-{above.precision}" + "-planes" * above.name.endswith("-planes")
    data = blend(read_engine(below), read_engine(above), way, name)
    said = {each.name: getattr(below, each.name) for each in fields(Manifest)}
    said |= {"name": name, "file": f"{name}.onnx", "end": "detail", "detail": detail, "quality": {}}
    said |= {"recipe": f"{way:g} of the way from {below.name} to {above.name}"}
    said |= {"sha256": hashlib.sha256(data).hexdigest()}
    return _blends.setdefault(said["sha256"], Blend(**said, ends=(below, above), way=way))


def blend(start: bytes, end: bytes, way: float, name: str) -> bytes:
    """An ONNX file with the float weights of start, moved `way` (0..1) towards those of end.

    name: for the message. Raises EngineError if the two files differ in anything but these numbers; which of them lie
    in float16 and are cast, as the exporter does where that loses nothing, may differ.
    """
    # Written over the one with fewer weights in float16: what is float32 in either end stays float32.
    if len(_Graph(bytearray(start)).casts) <= len(_Graph(bytearray(end)).casts):
        target, other, way_there = _Graph(bytearray(start)), _Graph(bytearray(end)), way
    else:
        target, other, way_there = _Graph(bytearray(end)), _Graph(bytearray(start)), 1 - way
    same = target.frame == other.frame and target.casts <= other.casts
    if not same or {key: x.shape for key, x in target.weights.items()} != {
        k: x.shape for k, x in other.weights.items()
    }:
        raise EngineError(f"{name} cannot be blended: the graphs of its two ends differ in more than their weights")
    for key, here in target.weights.items():
        there = other.weights[key]
        moved = here + way_there * (there.astype(np.float64) - here)
        here[...] = np.where(here == there, here, moved)  # as it is where it is infinite as well
    return bytes(target.data)


class _Graph:
    """weights: by name, views that write into data. casts: names of those that lie in float16 and are cast to float32;
    each then goes by what it becomes. frame: all that is not a weight, to be compared. Raises OnnxError."""

    def __init__(self, data: bytearray) -> None:
        self.data = data
        model = read_onnx(data)
        graph: dict[str, Any] = model.get("graph") or {}
        stored = {w.get("name", ""): w for w in graph["initializers"] if _is_float(w)}
        half = {name for name, weight in stored.items() if weight["data_type"] == _FLOAT16}
        casts = [node for node in graph["nodes"] if node.get("op_type") == "Cast" and half.issuperset(node["inputs"])]
        becomes = {node["inputs"][0]: node["outputs"][0] for node in casts}
        self.casts = set(becomes.values())
        self.weights = {
            becomes.get(name, name): np.frombuffer(weight["raw_data"], _DTYPES[weight["data_type"]]).reshape(
                weight["dims"]
            )
            for name, weight in stored.items()
        }
        others = {"nodes": graph["nodes"], "initializers": graph["initializers"]}
        skipped = {"nodes": casts, "initializers": list(stored.values())}
        rest = {key: [each for each in every if each not in skipped[key]] for key, every in others.items()}
        self.frame = model | {"graph": graph | rest}


def _is_float(weight: dict[str, Any]) -> bool:
    return weight.get("data_type") in _DTYPES and bool(weight.get("raw_data"))
