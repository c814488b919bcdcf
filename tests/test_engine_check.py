"""What no runtime gets to see: an ONNX file that is not the engine that its manifest describes."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, repeat_graph, save_repeat_engine

from rtsr.engine_check import MAX_BYTES, OPERATORS, check_engine
from rtsr.errors import EngineError
from rtsr.manifest import Manifest, installed_engines, load_manifest, read_engine

ENGINES = REPOSITORY / "engines"
onnx = pytest.importorskip("onnx", reason="onnx makes the engines that are refused: pip install 'rtsr[dev]'")


def graph() -> Any:
    """A `repeat` engine at x2, to be spoiled."""
    return onnx.load_from_string(repeat_graph(2))


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return save_repeat_engine(tmp_path, 2)


def refusal(model: Any, manifest: Manifest) -> str:
    data = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(EngineError) as caught:
        check_engine(data, manifest)
    sentence = str(caught.value)
    assert "\n" not in sentence and manifest.name in sentence
    return sentence


def test_every_engine_of_the_repository_passes() -> None:
    assert len([read_engine(engine, ENGINES) for engine in installed_engines(ENGINES)]) >= 40


def test_every_operator_of_the_engines_is_allowed_and_no_other() -> None:
    used = {node.op_type for file in ENGINES.glob("*.onnx") for node in onnx.load(file).graph.node}
    assert used == OPERATORS


def weight(name: str, values: list[float], dims: list[int] | None = None) -> Any:
    kind = onnx.TensorProto.FLOAT if isinstance(values[0], float) else onnx.TensorProto.INT64
    return onnx.helper.make_tensor(name, kind, dims or [len(values)], values)


def in_another_file(model: Any) -> None:
    tensor = weight("w", [1.0])
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    model.graph.initializer.append(tensor)


def as_a_node(kind: str, *inputs: str, domain: str = "", **attributes: Any) -> Callable[[Any], None]:
    def spoil(model: Any) -> None:
        model.graph.node.append(onnx.helper.make_node(kind, inputs, ["more"], domain=domain, **attributes))

    return spoil


def of_another_domain(model: Any) -> None:
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))


def with_a_function(model: Any) -> None:
    body = onnx.helper.make_node("Relu", ["x"], ["y"])
    opset = onnx.helper.make_opsetid("", 17)
    model.functions.append(onnx.helper.make_function("example", "Concat", ["x"], ["y"], [body], [opset]))


def with_a_branch(model: Any) -> None:
    inner = onnx.helper.make_graph([], "inner", [], [])
    as_a_node("If", "y", then_branch=inner, else_branch=inner)(model)


def too_short_a_weight(model: Any) -> None:
    tensor = weight("w", [1.0, 2.0])
    tensor.dims[0] = 3
    model.graph.initializer.append(tensor)


def with_sparse_weights(model: Any) -> None:
    model.graph.sparse_initializer.add().dims.append(1)


def doubling(model: Any) -> None:
    """2 ** 30 copies of the picture by 30 short lines."""
    last = "y"
    for i in range(30):
        model.graph.node.append(onnx.helper.make_node("Concat", [last, last], [f"twice{i}"], axis=1))
        last = f"twice{i}"


def crossed(model: Any) -> None:
    """A tensor as large as height times height times width, by broadcasting."""
    model.graph.node.append(onnx.helper.make_node("Transpose", ["y"], ["turned"], perm=[2, 1, 0, 3]))
    model.graph.node.append(onnx.helper.make_node("Add", ["y", "turned"], ["crossed"]))


def grown(model: Any) -> None:
    model.graph.initializer.append(weight("factors", [1.0, 1.0, 1e5, 1e5]))
    as_a_node("Resize", "y", "", "factors")(model)


def padded(model: Any) -> None:
    model.graph.initializer.append(weight("rims", [0, 0, 10**9, 0, 0, 0, 0, 0]))
    as_a_node("Pad", "y", "rims")(model)


def sized_by_the_picture(model: Any) -> None:
    as_a_node("Resize", "y", "", "", "y")(model)


def another_input(model: Any) -> None:
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, ["n"]))


def one_size_only(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 360


def input_of_floats(model: Any) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def another_output(model: Any) -> None:
    model.graph.output[0].name = "pixels"


def too_many_nodes(model: Any) -> None:
    model.graph.node.extend(onnx.helper.make_node("Relu", ["y"], [f"r{i}"]) for i in range(6000))


def written_twice(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("Relu", ["y"], ["y_phases"]))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (in_another_file, "another file"),
        (as_a_node("Loop", "y"), "Loop"),
        (as_a_node("Concat", "y", domain="com.example", axis=1), "com.example"),
        (of_another_domain, "com.example"),
        (with_a_function, "functions"),
        (with_a_branch, "graph inside"),
        (with_sparse_weights, "sparse"),
        (too_short_a_weight, "should hold 3"),
        (doubling, "Concat makes a tensor"),
        (crossed, "makes a tensor"),
        (grown, "Resize makes a tensor"),
        (padded, "Pad"),
        (sized_by_the_picture, "contents decide"),
        (as_a_node("Relu", "nothing"), "nothing before it makes"),
        (another_input, "'x' is not in the manifest"),
        (one_size_only, "any number and size"),
        (input_of_floats, "not uint8"),
        (another_output, "pixels"),
        (too_many_nodes, "more than 5000"),
        (written_twice, "new name"),
        (as_a_node("DepthToSpace", "y", blocksize=0), "does not fit"),
        (as_a_node("Transpose", "y", perm=[0, 0, 0, 0]), "does not fit"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_what_an_engine_has_no_need_of_is_refused(spoil: Callable[[Any], None], words: str, manifest: Manifest) -> None:
    model = graph()
    check_engine(model.SerializeToString(), manifest)
    spoil(model)
    assert words in refusal(model, manifest)


def test_an_engine_of_another_scale_is_refused(manifest: Manifest) -> None:
    assert "(1, 4320, 7680, 9)" in refusal(repeat_graph(3), manifest)


def test_two_graphs_in_one_file_are_refused(manifest: Manifest) -> None:
    """Parsers merge them, each in its own way."""
    one = repeat_graph(2)
    at = one.index(b":")  # field 7, of the kind that has a length
    assert one[at + 3 :].startswith(b"\n")  # a length of two bytes, then the first node
    assert "two of its field graph" in refusal(one + one[at:], manifest)


def test_a_file_that_is_too_long_is_refused_before_it_is_read_whole(manifest: Manifest, tmp_path: Path) -> None:
    os.truncate(tmp_path / manifest.file, MAX_BYTES * 100)  # sparse
    with pytest.raises(EngineError, match="more than 64 MiB"):
        read_engine(manifest, tmp_path)


def test_a_pipe_is_no_engine(manifest: Manifest, tmp_path: Path) -> None:
    (tmp_path / manifest.file).unlink()
    os.mkfifo(tmp_path / manifest.file)
    with pytest.raises(EngineError, match="is no file"):
        read_engine(manifest, tmp_path)


@pytest.mark.parametrize("name", ["nano-x2-clean-int8", "nano-x2-clean-float-planes", "distil_esrgan-x4-clean-float"])
def test_damaged_engines_are_refused_in_words_or_are_harmless(name: str) -> None:
    """Bits flipped, bytes cut out, parts copied over others: never another error, never longer than a moment."""
    manifest = load_manifest(ENGINES / f"{name}.json")
    whole = (ENGINES / manifest.file).read_bytes()
    chance = random.Random(name)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(data)) if chance.random() < 0.5 else chance.randrange(min(len(data), 4000))
            match chance.randrange(4):
                case 0:
                    data[at] ^= 1 << chance.randrange(8)
                case 1:
                    data[at] = chance.choice((0, 127, 128, 255))
                case 2:
                    del data[at : at + chance.randint(1, 64)]
                case 3:
                    there = chance.randrange(len(data))
                    data[at : at + 32] = data[there : there + 32]
        try:
            check_engine(bytes(data), manifest)
        except EngineError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", ""),
        ("name", "fast\x1b[2J"),
        ("tier", 3),
        ("recipe", "x" * 5000),
        ("parameters", -1),
        ("parameters", "many"),
        ("macs_per_lr_pixel", 1.5),
        ("macs_per_lr_pixel", True),
        ("sha256", "0" * 63),
        ("sha256", None),
        ("dtypes", {"y": "object"}),
        ("dtypes", ["uint8"]),
        ("quality", {"psnr_y": "high"}),
        ("quality", 31.0),
        ("scale", [2]),
    ],
)
def test_a_manifest_is_checked_key_by_key(key: str, value: object, manifest: Manifest, tmp_path: Path) -> None:
    path = tmp_path / f"{manifest.name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(EngineError, match=key) as caught:
        load_manifest(path)
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text", ['{"a":' * 100_000, " " * 2_000_000, '{"name": "\udcff"}'], ids=["deep", "long", "bytes"]
)
def test_a_manifest_that_would_cost_too_much_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "engine.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(EngineError, match=r"manifest .*engine.json"):
        load_manifest(path)


def test_only_the_file_that_the_manifest_describes_is_read(manifest: Manifest, tmp_path: Path) -> None:
    data = graph()
    data.producer_name = "somebody else"
    (tmp_path / manifest.file).write_bytes(data.SerializeToString())
    assert hashlib.sha256(data.SerializeToString()).hexdigest() != manifest.sha256
    with pytest.raises(EngineError, match="sha256"):
        read_engine(manifest, tmp_path)
