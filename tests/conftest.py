"""What several test files share: real clips, a tiny exact engine, a stand-in GPU, and the watch over threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path

import nv12_kernels
import pytest
from cuda_stand_in import Driver, Kernel

from rtsr.backends.cuda.libraries import Gpu, open_gpu
from rtsr.manifest import CONTRACT, Manifest

REPOSITORY = Path(__file__).resolve().parent.parent
REAL_CLIPS = REPOSITORY.parent / "shared" / "data" / "clips"


def rtsr_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rtsr-")]


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """A thread has an owner that ends it: none of rtsr's outlives the test that started it."""
    yield
    assert rtsr_threads() == []


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    """A stand-in GPU, for the length of a test."""
    driver = Driver()
    driver.install(monkeypatch)
    return driver


@pytest.fixture
def gpu(driver: Driver) -> Gpu:
    return open_gpu()


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kernel]:
    """nv12.cu's kernels as a C compiler understands them, for Driver.kernels."""
    if nv12_kernels.COMPILER is None:
        pytest.skip("no C compiler")
    return nv12_kernels.build(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def clips() -> Path:
    """The folder of real clips, which is not part of the repository."""
    if not REAL_CLIPS.is_dir():
        pytest.skip("no real clips beside the repository (../shared/data/clips)")
    return REAL_CLIPS


@pytest.fixture(scope="session")
def engines_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Engines of the model `repeat` at x2, x3 and x4: their luma is the input's, each pixel repeated, exactly."""
    folder = tmp_path_factory.mktemp("engines")
    for scale in (2, 3, 4):
        save_repeat_engine(folder, scale)
        save_repeat_engine(folder, scale, "float", "planes")  # for TensorRT
    save_repeat_engine(folder, 2, "float")  # for 10-bit video
    return folder


@pytest.fixture
def engines(engines_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `repeat` engines as the installed ones, for this process and those it starts."""
    monkeypatch.setenv("RTSR_ENGINES", str(engines_folder))
    return engines_folder


@pytest.fixture(scope="session")
def both_ends_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tier with both ends, and `fast`, which has none for detail."""
    from detail_engines import copied, save_both_ends

    folder = tmp_path_factory.mktemp("both-ends")
    save_both_ends(folder)
    copied(folder, "fast-x2-stream-int8")
    return folder


@pytest.fixture
def both_ends(both_ends_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """They as the installed engines, for this process and those it starts."""
    monkeypatch.setenv("RTSR_ENGINES", str(both_ends_folder))
    return both_ends_folder


def save_repeat_engine(folder: Path, scale: int, precision: str = "int8", output: str = "phases") -> Manifest:
    """Write the ONNX file and the manifest of an engine that is nearest neighbour."""
    if output == "planes":
        data = repeat_ladder(scale)
    else:
        data = repeat_graph(scale) if precision == "int8" else repeat_graph_in_float(scale)
    name = f"repeat-x{scale}" + ("" if precision == "int8" else f"-{precision}") + "-planes" * (output == "planes")
    (folder / f"{name}.onnx").write_bytes(data)
    manifest = Manifest(
        name=name,
        file=f"{name}.onnx",
        tier="repeat",
        scale=scale,
        end="fidelity",
        degradation="stream",
        precision=precision,
        output=output,
        recipe="none",
        contract=CONTRACT,
        dtypes=dict.fromkeys(("y", "y_phases") if output == "phases" else ("y", "uv", "y_out", "uv_out"), "uint8"),
        parameters=0,
        macs_per_lr_pixel=0,
        sha256=hashlib.sha256(data).hexdigest(),
        licence="MIT",
        commit="0" * 40,
        quality={},
    )
    manifest.save(folder)
    return manifest


def repeat_graph(scale: int) -> bytes:
    """uint8 y (N, 1, H, W) -> y_phases (N, H, W, scale * scale), every phase the pixel itself."""
    return onnx_model(
        scale,
        ("Transpose", ["y"], "pixels", {"perm": [0, 2, 3, 1]}),
        ("Concat", ["pixels"] * scale**2, "y_phases", {"axis": 3}),
    )


def repeat_graph_in_float(scale: int) -> bytes:
    """The same with the ends that a trained float engine has: to float, round, clip, back to uint8."""
    uint8, float32 = 2, 1  # of TensorProto
    return onnx_model(
        scale,
        ("Cast", ["y"], "x", {"to": float32}),
        ("Concat", ["x"] * scale**2, "phases", {"axis": 1}),
        ("Round", ["phases"], "rounded", {}),
        ("Clip", ["rounded", "black", "white"], "clipped", {}),
        ("Cast", ["clipped"], "bytes", {"to": uint8}),
        ("Transpose", ["bytes"], "y_phases", {"perm": [0, 2, 3, 1]}),
    )


def repeat_ladder(scale: int) -> bytes:
    """uint8 y, uv -> y_out, uv_out as a ladder does it: convolutions of values from 0 to 1 whose first channel is y."""
    onnx = pytest.importorskip("onnx", reason="onnx builds the test engines: pip install 'rtsr[dev]'")
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    centre = np.zeros((1, 1, 3, 3), np.float32)
    centre[..., 1, 1] = 1
    weights = {
        **{"w0": centre / 255, "b0": np.zeros(1, np.float32)},
        **{"w1": np.repeat(centre * 255, scale**2, 0), "b1": np.zeros(scale**2, np.float32)},
    }
    nodes = [
        helper.make_node("Cast", ["y"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Conv", ["x", "w0", "b0"], ["conv0"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv0"], ["relu0"]),
        helper.make_node("Conv", ["relu0", "w1", "b1"], ["conv1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("DepthToSpace", ["conv1"], ["planes"], blocksize=scale, mode="CRD"),
        helper.make_node("Cast", ["planes"], ["y_out"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["uv"], ["small"], to=TensorProto.FLOAT),
        helper.make_node("Resize", ["small", "", "factors"], ["large"], mode="nearest"),
        helper.make_node("Cast", ["large"], ["uv_out"], to=TensorProto.UINT8),
    ]
    y, uv, y_out, uv_out = (
        helper.make_tensor_value_info(name, TensorProto.UINT8, ["n", channels, f"{name}_h", f"{name}_w"])
        for name, channels in (("y", 1), ("uv", 2), ("y_out", 1), ("uv_out", 2))
    )
    weights["factors"] = np.array([1, 1, scale, scale], np.float32)
    constants = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "repeat", [y, uv], [y_out, uv_out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def onnx_model(scale: int, *nodes: tuple[str, list[str], str, dict[str, object]]) -> bytes:
    """A graph from y to y_phases of nodes (operator, inputs, output, attributes)."""
    onnx = pytest.importorskip("onnx", reason="onnx builds the test engines: pip install 'rtsr[dev]'")
    from onnx import TensorProto, helper

    y = helper.make_tensor_value_info("y", TensorProto.UINT8, ["n", 1, "h", "w"])
    phases = helper.make_tensor_value_info("y_phases", TensorProto.UINT8, ["n", "h", "w", scale * scale])
    limits = [helper.make_tensor(name, TensorProto.FLOAT, [], [at]) for name, at in (("black", 0.0), ("white", 255.0))]
    made = [helper.make_node(operator, inputs, [out], **attributes) for operator, inputs, out, attributes in nodes]
    graph = helper.make_graph(made, "repeat", [y], [phases], limits)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()
