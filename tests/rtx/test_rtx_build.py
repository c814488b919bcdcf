"""Plans built by the real TensorRT-RTX. Executing one needs a GPU; what a graph computes is in test_tensorrt.py."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import threading
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
import tensorrt_stand_in
from conftest import REPOSITORY
from onnx import TensorProto, helper

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.gpu_graph import Picture
from rtsr.backends.trt_build import BuildCancelled, Recipe, build, kept_plan, ready_plan, recipe
from rtsr.backends.trt_package import Package, load_package
from rtsr.errors import EngineError
from rtsr.frames import ChromaSiting
from rtsr.manifest import find_engine
from rtsr.pixels import PixelFormat

tensorrt_rtx = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed here: make test-rtx")


@pytest.fixture(scope="module")
def package() -> Package:
    return load_package()


@pytest.fixture(autouse=True)
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path / "plans"))
    return tmp_path / "plans"


def recipe_of(
    package: Package,
    tier: str = "nano",
    scale: int = 2,
    precision: str = "fp16",
    pixels: str = "yuv420p",
    siting: ChromaSiting = ChromaSiting.LEFT,
    pictures: int = 1,
    height: int = 45,
) -> Recipe:
    how = ("int8", "phases") if precision == "int8" else ("float", "planes")
    found = PixelFormat.of(pixels)
    assert found is not None
    manifest = find_engine(tier, scale, "stream", *how)
    return recipe(package, None, manifest, Picture(height, 62, scale, found, siting), precision, pictures)


def test_it_is_the_package_that_is_meant(package: Package) -> None:
    assert (package.name, package.is_rtx, package.version) == ("tensorrt-rtx", True, tensorrt_rtx.__version__)


@pytest.mark.parametrize("precision", ["fp16", "fp32", "int8"])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("tier", ["nano", "fast", "balanced"])
def test_every_ladder_becomes_a_plan(package: Package, tier: str, scale: int, precision: str) -> None:
    plan, _ = build(package, recipe_of(package, tier, scale, precision))
    assert len(plan) > 10_000


@pytest.mark.parametrize("siting", ChromaSiting, ids=lambda siting: siting.name)
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le", "yuv422p12le", "yuv444p", "gray16le", "gbrap"])
def test_every_pixel_format_becomes_a_plan(package: Package, pixels: str, siting: ChromaSiting) -> None:
    assert build(package, recipe_of(package, pixels=pixels, siting=siting, pictures=4))[0]


def test_the_weights_and_tensors_are_in_half(package: Package) -> None:
    """What the parser makes of the graph: bytes at both ends and float16 between, but for chroma."""
    trt, made = package.trt, recipe_of(package, pixels="gray")
    network = (builder := trt.Builder(trt.Logger())).create_network(0)
    assert trt.OnnxParser(network, trt.Logger()).parse(made.graph), builder
    ends = [network.get_input(0), network.get_output(0)]
    assert [(end.name, end.dtype) for end in ends] == [("y", trt.uint8), ("y_out", trt.uint8)]
    assert (network.get_output(1).name, network.get_output(1).dtype) == ("check", trt.float32)
    convolutions = [
        layer for i in range(network.num_layers) if (layer := network.get_layer(i)).type.name == "CONVOLUTION"
    ]
    assert len(convolutions) == 8
    assert all(layer.get_output(0).dtype == trt.float16 for layer in convolutions)


def test_a_plan_is_kept_and_a_damaged_one_built_anew(package: Package, plans: Path) -> None:
    made, notices = recipe_of(package), list[str]()
    plan = ready_plan(package, made, notices.append)
    assert kept_plan(made) == plan
    assert [path.name for path in plans.iterdir()] == [made.path.name]
    made.path.write_bytes(made.path.read_bytes()[:-1])
    assert kept_plan(made) is None
    assert ready_plan(package, made, notices.append)
    assert len(notices) == 1 and "damaged" in notices[0]
    assert kept_plan(made) is not None


def test_progress_is_told_and_rises(package: Package) -> None:
    shares: list[float] = []
    build(package, recipe_of(package), shares.append)
    assert len(shares) > 20 and shares[-1] == 1
    assert all(0 <= a <= b for a, b in pairwise(shares))


def test_a_build_can_be_cancelled(package: Package, plans: Path) -> None:
    cancelled = threading.Event()
    with pytest.raises(BuildCancelled):
        ready_plan(package, recipe_of(package), progress=lambda share: cancelled.set(), cancelled=cancelled)
    assert not plans.exists()


def test_what_the_parser_refuses_is_one_sentence(package: Package) -> None:
    """TensorRT takes no uint8 within a graph; rtsr's never has any."""
    ends = [helper.make_tensor_value_info(name, TensorProto.UINT8, ["planes", 1, 61, 78]) for name in ("y", "y_out")]
    sum_of_bytes = helper.make_node("Mul", ["y", "y"], ["y_out"])
    graph = helper.make_graph([sum_of_bytes], "bytes", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    made = recipe_of(package)
    refused = Recipe(made.engine, model.SerializeToString(), made.picture, made.key, made.path, False)
    with pytest.raises(EngineError, match=r"tensorrt-rtx \S+ cannot (parse|build a plan of) nano-x2") as raised:
        build(package, refused)
    assert "\n" not in str(raised.value)


def test_without_a_gpu_the_engine_says_so_and_auto_goes_on() -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    with pytest.raises(EngineError, match="no NVIDIA driver"):
        open_engine(EngineChoice(2, "nano", "stream", "tensorrt"))
    notices: list[str] = []
    with closing(open_engine(EngineChoice(2, "nano", "stream", "auto"), notices.append)) as engine:
        assert engine.backend == "openvino"
    assert len(notices) == 1 and "no NVIDIA driver" in notices[0]


def test_the_command_builds_once(plans: Path) -> None:
    def run() -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "rtsr",
            "engines",
            "build",
            "--size",
            "62x46",
            "--model",
            "nano",
            "--scale",
            "2",
        ]
        return subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, check=True
        )

    assert re.search(r"62x46-[0-9a-f]{16}\.plan: \d+\.\d MB", run().stdout)
    assert run().stdout.endswith(": here already\n")
    assert len(list(plans.glob("*.plan"))) == 1


def test_cards_that_it_does_not_run_on() -> None:
    """What Package.check() asks: the capabilities that a plan can be built for."""
    names = dir(tensorrt_rtx.ComputeCapability)
    assert {"SM75", "SM80", "SM86", "SM89", "SM120"} <= {*names}
    assert "SM90" not in names  # H100 and H200


STANDS_FOR = {"BuilderConfig": "IBuilderConfig", "Profile": "IOptimizationProfile", "RuntimeConfig": "IRuntimeConfig"}


@pytest.mark.parametrize("ours", ["Builder", "OnnxParser", "Runtime", "ICudaEngine", "IExecutionContext", *STANDS_FOR])
def test_the_stand_in_speaks_as_tensorrt_does(ours: str) -> None:
    """Each public method of the stand-in is TensorRT's too, with parameters of the same names in the same order."""
    kind = getattr(tensorrt_rtx, STANDS_FOR.get(ours, ours))
    for name, method in inspect.getmembers(getattr(tensorrt_stand_in, ours), inspect.isfunction):
        if name.startswith("_"):
            continue
        parameters = [p for p in inspect.signature(method).parameters if p != "self"]
        overloads = re.findall(rf"{name}\(self: [^,)]*(?:, (.*))?\) ->", getattr(kind, name).__doc__)
        theirs = [re.findall(r"(?:^|, )(\w+):", overload) for overload in overloads]
        assert any(names[: len(parameters)] == parameters for names in theirs), f"{ours}.{name}: {theirs}"
