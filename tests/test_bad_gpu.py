"""What a GPU, its driver or a plan may lack: by name one sentence with the way out; `auto` says it and goes on."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import tensorrt_stand_in
from cuda_stand_in import Driver
from onnxruntime_stand_in import OnnxRuntime
from tensorrt_stand_in import TensorRt

from rtsr import backends
from rtsr.backends import Engine, EngineChoice
from rtsr.backends.switching import open_for_job
from rtsr.backends.tiling import TilingEngine
from rtsr.errors import EngineError
from rtsr.frames import FrameBatch, VideoSpec

SPEC = VideoSpec(64, 48, Fraction(1, 25))
Break = Callable[[pytest.MonkeyPatch, TensorRt], None]


def no_driver(patch: pytest.MonkeyPatch, package: TensorRt) -> None:
    def missing() -> None:
        raise RuntimeError('"cuda" is an NVIDIA driver library')

    patch.setattr(sys.modules["cuda.bindings.driver"], "cuDriverGetVersion", missing)


def old_driver(patch: pytest.MonkeyPatch, package: TensorRt) -> None:
    package.driver.version = 12040


def no_gpu(patch: pytest.MonkeyPatch, package: TensorRt) -> None:
    package.driver.devices = []


def old_gpu(patch: pytest.MonkeyPatch, package: TensorRt) -> None:
    package.driver.capability = (6, 1)


def no_plan(patch: pytest.MonkeyPatch, package: TensorRt) -> None:
    package.fails = "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"


FAULTS = {
    no_driver: "no NVIDIA driver: .*install the driver, or in a container start it with --gpus all",
    old_driver: r"runs CUDA 12\.4 and the installed packages need 13\.0: update it to 580 or later",
    no_gpu: "there is no GPU 0: the driver shows 0, .*CUDA_VISIBLE_DEVICES",
    old_gpu: r"needs compute capability 7\.5 or newer and Stand-in GPU has 6\.1: pass --backend openvino",
    no_plan: "cannot build a plan of .*OutOfMemory.*; another --backend needs none",
}


@pytest.fixture
def package(driver: Driver, engines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path))
    package = TensorRt(driver)
    package.install(monkeypatch)
    OnnxRuntime(driver).install(monkeypatch)
    monkeypatch.setattr(backends, "_onnxruntime_has_cuda", lambda: False)
    return package


def opened(backend: str, said: list[str]) -> Engine:
    return open_for_job(EngineChoice(2, "repeat", "stream", backend), SPEC, lambda pts: 0, True, said.append)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("backend", ["tensorrt", "onnxruntime-cuda", "onnxruntime-tensorrt"])
def test_by_name_it_is_one_sentence(
    fault: Break, backend: str, package: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault is no_plan and backend != "tensorrt":
        pytest.skip("it builds no plans of rtsr's")
    fault(monkeypatch, package)
    with pytest.raises(EngineError, match=FAULTS[fault]) as caught:
        opened(backend, [])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_auto_says_it_and_goes_on(fault: Break, package: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch, package)
    said: list[str] = []
    with closing(opened("auto", said)) as engine:
        assert engine.backend == "openvino"
    (sentence,) = [each for each in said if each.startswith("backend tensorrt")]
    assert re.search(FAULTS[fault], sentence) and "\n" not in sentence


def test_auto_goes_on_with_the_gpu_s_other_backend(package: TensorRt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan that cannot be built, and packages without their libraries, do not cost ONNX Runtime the GPU."""
    monkeypatch.setattr(backends, "_onnxruntime_has_cuda", lambda: True)
    monkeypatch.setattr(backends, "find_spec", lambda name: True)
    no_plan(monkeypatch, package)
    for reason in ("cannot build a plan", "TensorRT is not installed"):
        said: list[str] = []
        with closing(opened("auto", said)) as engine:
            assert engine.backend == "onnxruntime-cuda"
        assert reason in said[-1] and said[-1].startswith("backend tensorrt")
        for module in ("tensorrt", "tensorrt_rtx"):
            monkeypatch.setitem(sys.modules, module, None)


def test_a_gpu_without_room_is_one_sentence_with_the_way_out(package: TensorRt) -> None:
    """After tiles of every size: the smallest does not fit either."""
    package.driver.memory = 3000
    said: list[str] = []
    batch = FrameBatch(np.zeros((1, 1, 160, 200), np.uint8), np.zeros((1, 2, 80, 100), np.uint8), (0,), Fraction(1, 25))
    remedy = r"too little memory for repeat.*free some memory, or choose a smaller"
    with (
        closing(TilingEngine(opened("tensorrt", said), said.append)) as engine,
        pytest.raises(EngineError, match=remedy),
    ):
        engine.infer(batch)
    assert package.driver.used == 0


def test_a_plan_that_is_refused_twice_is_one_sentence_with_the_way_out(
    package: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = iter(range(99))
    monkeypatch.setattr(tensorrt_stand_in.TensorRt, "made_for", property(lambda self: {"version": next(turns)}))
    with closing(opened("tensorrt", [])) as engine:
        batch = FrameBatch(
            np.zeros((1, 1, 48, 64), np.uint8), np.zeros((1, 2, 24, 32), np.uint8), (0,), Fraction(1, 25)
        )
        with pytest.raises(EngineError, match=r"refuses its own plan of repeat.*pass another --backend"):
            engine.infer(batch)
