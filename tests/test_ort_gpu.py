"""ONNX Runtime on a GPU: what the contract suite does not ask. On stand-ins, but for what needs no GPU."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="graphs for GPUs are written with onnx: pip install onnx")
ort = pytest.importorskip("onnxruntime")

from conftest import save_repeat_engine  # noqa: E402
from contract.test_engine_contract import noise, repeated  # noqa: E402
from cuda_stand_in import Driver  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402
from onnxruntime_stand_in import OnnxRuntime  # noqa: E402

from rtsr.backends import EngineChoice, backend_on, open_engine  # noqa: E402
from rtsr.backends.cuda.libraries import open_gpu  # noqa: E402
from rtsr.backends.gpu_graph import Picture, gpu_graph  # noqa: E402
from rtsr.backends.ort_gpu import OrtGpuEngine  # noqa: E402
from rtsr.backends.ort_session import require_provider  # noqa: E402
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError  # noqa: E402
from rtsr.manifest import Manifest, find_engine, read_engine  # noqa: E402
from rtsr.pixels import YUV420P  # noqa: E402
from rtsr.sources.synthetic import SyntheticSource  # noqa: E402

CUDA = EngineChoice(2, "repeat", "stream", "onnxruntime-cuda")


@pytest.fixture
def driver(driver: Driver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Driver:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path))
    return driver


@pytest.fixture
def runtime(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> OnnxRuntime:
    runtime = OnnxRuntime(driver)
    runtime.install(monkeypatch)
    return runtime


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
@pytest.mark.parametrize("graphs", [True, False], ids=["graphs", "no-graphs"])
def test_batches_of_any_length_and_graphs_give_the_same_frames(
    runtime: OnnxRuntime, engines: Path, device: str, graphs: bool
) -> None:
    manifest = find_engine("repeat", 2, "stream", "float", "planes")
    batches = [noise(n, 9, 12, seed=i) for i, n in enumerate((4, 1, 2, 4, 4, 1, 1, 3, 4, 4, 2))]
    with closing(OrtGpuEngine(manifest, device, open_gpu(), graphs=graphs)) as engine:
        for batch, result in zip(batches, engine.stream(batches), strict=True):
            np.testing.assert_array_equal(result.y, repeated(batch.y, 2))
    assert runtime.replays == (len(batches) if graphs else 0)
    assert len(runtime.sessions) == 1


def test_all_memory_of_the_gpu_is_given_back(runtime: OnnxRuntime, driver: Driver, engines: Path) -> None:
    engine = open_engine(CUDA)
    engine.infer(noise(1, 8, 8))
    assert driver.used > 0
    engine.close()
    assert driver.used == 0


@pytest.fixture
def brittle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A `repeat` engine with a second hidden channel of 70,000, which FP16 does not hold and which the tail ignores: in
    FP32 it repeats, in FP16 infinity times zero is no number."""
    made = save_repeat_engine(tmp_path, 2, "float", "planes")
    model = onnx.load(tmp_path / made.file)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    wider = {
        "w0": np.concatenate([constants["w0"], 0 * constants["w0"]]),
        "b0": np.array([0, 70_000], np.float32),
        "w1": np.concatenate([constants["w1"], 0 * constants["w1"]], axis=1),
        "b1": constants["b1"],
    }
    for tensor in model.graph.initializer:
        if tensor.name in wider:
            tensor.CopyFrom(numpy_helper.from_array(wider[tensor.name], tensor.name))
    data = model.SerializeToString()
    (tmp_path / made.file).write_bytes(data)
    manifest = replace(made, sha256=hashlib.sha256(data).hexdigest())
    manifest.save(tmp_path)
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    return manifest


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_fp16_cannot_hold_is_done_again_in_fp32_and_said(runtime: OnnxRuntime, brittle: Manifest) -> None:
    said: list[str] = []
    batches = [noise(2, 9, 12, seed=i) for i in range(3)]
    engine = open_engine(CUDA, said.append)
    with closing(engine):
        for batch, result in zip(batches, engine.stream(batches), strict=True):
            np.testing.assert_array_equal(result.y, repeated(batch.y, 2))
            assert result.pts == batch.pts
    assert isinstance(engine, OrtGpuEngine) and engine.redone == 6
    assert len(said) == 1 and "FP32" in said[0]


def test_fp32_is_not_watched(runtime: OnnxRuntime, brittle: Manifest) -> None:
    engine = open_engine(replace(CUDA, precision="fp32"))
    with closing(engine):
        batch = noise(2, 9, 12)
        np.testing.assert_array_equal(engine.infer(batch).y, repeated(batch.y, 2))
    assert isinstance(engine, OrtGpuEngine) and engine.redone == 0


def test_fp16_costs_no_quality() -> None:
    """PSNR-Y against the large picture changes by at most 0.01 dB. In real FP16, with onnx's own evaluator: ONNX
    Runtime's CPU provider computes in float32."""
    (frame,) = SyntheticSource(96, 64, 1).frames()
    truth = cv2.GaussianBlur(frame.y[0], (0, 0), 0.8)
    small = cv2.resize(truth, (48, 32), interpolation=cv2.INTER_AREA)[None, None]
    picture = Picture(32, 48, 2, YUV420P)
    y = np.pad(small, ((0, 0), (0, 0), (8, 8), (8, 8)), mode="symmetric")
    feeds = {"y": y, "uv": np.full((1, 2, 16, 24), 128, np.uint8)}
    engine = read_engine(find_engine("fast", 2, "clean", "float", "planes"))

    def psnr(precision: str) -> float:
        (large,) = ReferenceEvaluator(gpu_graph(engine, picture, precision)).run(["y_out"], feeds)
        error = np.asarray(large)[0, 0].astype(float) - truth
        return 10 * np.log10(255**2 / np.mean(error**2))

    assert 25 < psnr("fp32") < 40, "the net has enlarged this very picture, with the error that nets have"
    assert abs(psnr("fp16") - psnr("fp32")) <= 0.01


def test_another_provider_than_the_one_asked_for_is_an_error(
    driver: Driver, engines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    OnnxRuntime(driver, opens="CPUExecutionProvider").install(monkeypatch)
    engine = open_engine(CUDA)
    with pytest.raises(EngineError, match="asked for CUDAExecutionProvider and opened CPUExecutionProvider"):
        engine.infer(noise(1, 8, 8))
    assert driver.used == 0


def test_a_failure_is_one_sentence_and_the_next_batch_starts_anew(runtime: OnnxRuntime, engines: Path) -> None:
    with closing(open_engine(CUDA)) as engine:
        engine.infer(noise(1, 8, 8))
        runtime.fails = "CUDNN failure 8: CUDNN_STATUS_EXECUTION_FAILED\nat line 12"
        with pytest.raises(EngineError, match=r"on 8x8 at .* CUDNN failure 8") as caught:
            engine.infer(noise(1, 8, 8))
        assert "\n" not in str(caught.value) and not isinstance(caught.value, OutOfMemoryError)
        runtime.fails = ""
        batch = noise(1, 8, 8)
        np.testing.assert_array_equal(engine.infer(batch).y, repeated(batch.y, 2))


@pytest.mark.parametrize(
    "words", ["Failed to allocate memory for requested buffer of size 1", "CUDA failure 2: out of memory"]
)
def test_too_little_memory_is_told_apart(runtime: OnnxRuntime, engines: Path, words: str) -> None:
    with closing(open_engine(CUDA)) as engine:
        runtime.fails = words
        with pytest.raises(OutOfMemoryError):
            engine.infer(noise(1, 8, 8))


def test_int8_is_refused_in_words(runtime: OnnxRuntime, engines: Path) -> None:
    with pytest.raises(ConfigError, match="fp16 or fp32"):
        open_engine(replace(CUDA, precision="int8"))


def test_a_package_without_the_provider_is_named_with_the_remedy() -> None:
    if "CUDAExecutionProvider" in ort.get_available_providers():
        pytest.skip("this is onnxruntime-gpu: see test_cuda_wheel.py")
    for device in ("cuda", "tensorrt"):
        with pytest.raises(ConfigError, match="pip uninstall onnxruntime, then pip install"):
            require_provider(device)
    require_provider("cpu")


def test_backend_and_device_are_one_choice() -> None:
    assert backend_on("onnxruntime", "cuda") == "onnxruntime-cuda"
    assert backend_on("onnxruntime", "tensorrt") == "onnxruntime-tensorrt"
    assert backend_on("onnxruntime", "cpu") == backend_on("onnxruntime", None) == "onnxruntime"
    assert backend_on("openvino", "cpu") == "openvino"
    for backend, device in (("openvino", "cuda"), ("auto", "tensorrt"), ("tensorrt", "cpu"), ("onnxruntime", "rocm")):
        with pytest.raises(ConfigError, match="--device"):
            backend_on(backend, device)
