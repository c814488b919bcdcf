"""The TensorRT backend on stand-ins of its packages and of the GPU; building for real is in test_tensorrt_rtx.py."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorrt_stand_in
from conftest import REPOSITORY
from cuda_stand_in import Driver, Misuse
from tensorrt_stand_in import TensorRt

from rtsr.backends import EngineChoice, open_engine
from rtsr.backends.cuda.libraries import open_gpu
from rtsr.backends.gpu_graph import Picture, gpu_graph, read_ladder
from rtsr.backends.tiling import TilingEngine
from rtsr.backends.trt import TensorRtEngine
from rtsr.backends.trt_build import BuildCancelled
from rtsr.backends.trt_package import load_package
from rtsr.errors import ConfigError, EngineError, OutOfMemoryError
from rtsr.frames import FrameBatch
from rtsr.manifest import Manifest, find_engine
from rtsr.pixels import PixelFormat

CHOICE = EngineChoice(2, "repeat", "stream", "tensorrt")


@pytest.fixture
def package(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> TensorRt:
    package = TensorRt(driver)
    package.install(monkeypatch)
    return package


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RTSR_PLANS", str(tmp_path / "plans"))
    return tmp_path / "plans"


@pytest.fixture
def notices() -> list[str]:
    return []


@pytest.fixture
def engine(package: TensorRt, plans: Path, engines: Path, notices: list[str]) -> Iterator[TensorRtEngine]:
    with closing(open_tensorrt(notices)) as engine:
        yield engine


def open_tensorrt(notices: list[str], choice: EngineChoice = CHOICE) -> TensorRtEngine:
    engine = open_engine(choice, notices.append)
    assert isinstance(engine, TensorRtEngine)
    return engine


def noise(
    n: int = 1, height: int = 20, width: int = 30, seed: int = 0, pixels: PixelFormat | None = None
) -> FrameBatch:
    pixels = pixels or PixelFormat()
    rng = np.random.default_rng(seed)
    y = rng.integers(0, pixels.white + 1, (n, pixels.full_planes, height, width)).astype(pixels.dtype)
    chroma = n, pixels.chroma_planes, *pixels.chroma_size(height, width)
    uv = rng.integers(0, pixels.white + 1, chroma).astype(pixels.dtype)
    return FrameBatch(y, uv, tuple(range(seed, seed + n)), Fraction(1, 25), pixels=pixels)


def repeated(y: np.ndarray) -> np.ndarray:
    return y.repeat(2, axis=2).repeat(2, axis=3)


# Running


@pytest.mark.parametrize("name", ["yuv420p", "yuv422p10le", "yuv444p12le", "gray", "gray16le", "gbrp", "gbrap10le"])
def test_every_pixel_format(engine: TensorRtEngine, name: str) -> None:
    pixels = PixelFormat.of(name)
    assert pixels is not None
    batch = noise(2, 21, 33, pixels=pixels)
    result = engine.infer(batch)
    np.testing.assert_array_equal(result.y, repeated(batch.y))
    assert result.uv.shape == (2, pixels.chroma_planes, *pixels.chroma_size(42, 66))
    assert result.pixels == pixels


def test_work_becomes_a_graph_and_the_frames_stay_the_same(engine: TensorRtEngine, driver: Driver) -> None:
    batches = [noise(seed=i) for i in range(20)]
    for batch, result in zip(batches, engine.stream(batches), strict=True):
        np.testing.assert_array_equal(result.y, repeated(batch.y))
    executed = [call for call in driver.calls if call.startswith(("execute", "graph"))]
    assert executed[:4] == ["execute on 2"] * 4  # each slot once, before a graph may be captured
    assert executed[4:] == ["graph on 2", "execute on 2"] * 16


def test_the_host_waits_for_nothing_but_the_oldest_slot(engine: TensorRtEngine, driver: Driver) -> None:
    stream = engine.stream(noise(seed=i) for i in range(30))
    next(stream)
    driver.calls.clear()
    assert len(list(stream)) == 29
    assert driver.calls.count("sync event") == 29
    assert not any("sync stream" in call or "allocate device" in call for call in driver.calls)


def test_frames_are_the_same_in_batches_of_any_size(engine: TensorRtEngine) -> None:
    whole = noise(8)
    expected = engine.infer(whole)
    for size in (1, 2, 3):
        parts = [
            FrameBatch(whole.y[i : i + size], whole.uv[i : i + size], whole.pts[i : i + size], whole.time_base)
            for i in range(0, 8, size)
        ]
        results = list(engine.stream(parts))
        np.testing.assert_array_equal(np.concatenate([r.y for r in results]), expected.y)
        np.testing.assert_array_equal(np.concatenate([r.uv for r in results]), expected.uv)


def test_memory_that_runs_out_is_taken_in_tiles(
    engines: Path, plans: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    """The same picture, from a GPU that holds one slot of a tile (170 KB) but not of a frame (246 KB)."""
    batch = noise(height=160, width=200)
    driver = Driver(memory=200_000)
    driver.install(monkeypatch)
    TensorRt(driver).install(monkeypatch)
    with closing(TilingEngine(open_engine(CHOICE, notices.append), notices.append)) as engine:
        (result,) = engine.stream([batch])
    np.testing.assert_array_equal(result.y, repeated(batch.y))
    assert any("in 2 tiles" in sentence for sentence in notices)
    assert driver.used == 0


def test_what_the_gpu_refuses_is_one_sentence_and_frees_all(
    engine: TensorRtEngine, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.infer(noise())
    monkeypatch.setattr(tensorrt_stand_in.IExecutionContext, "execute_async_v3", lambda self, stream: False)
    with pytest.raises(EngineError, match=r"tensorrt failed in repeat-x2-float-planes on 30x20 at 0\.280 s"):
        engine.infer(noise(seed=7))
    assert driver.used == 0
    monkeypatch.undo()


def test_what_overflows_in_fp16_is_done_again_in_fp32(
    package: TensorRt, plans: Path, engines: Path, tmp_path: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second channel whose kernel float16 does not hold; the tail takes nothing of it. (ONNX Runtime computes float16
    in float32 on CPUs: a value between layers would not overflow there.)"""
    from onnx import load_from_string, numpy_helper

    source = find_engine("repeat", 2, "stream", "float", "planes")
    model = load_from_string((engines / source.file).read_bytes())
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        wide = {"w0": [values, 1e8 * values], "b0": [values, values]}.get(tensor.name)
        if wide:
            tensor.CopyFrom(numpy_helper.from_array(np.concatenate(wide).astype(np.float32), tensor.name))
        elif tensor.name == "w1":
            both = np.concatenate([values, 0 * values], axis=1)
            tensor.CopyFrom(numpy_helper.from_array(both, tensor.name))
    data = model.SerializeToString()
    (tmp_path / source.file).write_bytes(data)
    replace(source, sha256=hashlib.sha256(data).hexdigest()).save(tmp_path)
    monkeypatch.setenv("RTSR_ENGINES", str(tmp_path))
    dark, bright = noise(seed=1), noise(seed=2)
    dark.y[:] = 0
    bright.y[:] = 255
    with closing(open_tensorrt(notices)) as engine:
        results = list(engine.stream([dark, bright, dark, bright]))
    for small, large in zip([dark, bright, dark, bright], results, strict=True):
        np.testing.assert_array_equal(large.y, repeated(small.y))
    assert len(notices) == 1 and "went beyond what FP16 holds" in notices[0]


def test_a_gpu_that_no_longer_answers_is_one_sentence(engine: TensorRtEngine, driver: Driver) -> None:
    def batches() -> Iterator[FrameBatch]:
        yield from (noise(seed=i) for i in range(6))
        driver.lost = "CUDA_ERROR_ILLEGAL_ADDRESS: While executing a kernel, the device encountered an error"
        yield from (noise(seed=i) for i in range(6, 9))

    with pytest.raises(EngineError, match=r"tensorrt failed in repeat-x2-float-planes on 30x20 at .*ILLEGAL_ADDRESS"):
        list(engine.stream(batches()))
    engine.close()
    driver.lost = ""


# Plans


def test_a_plan_is_built_once(engine: TensorRtEngine, package: TensorRt, notices: list[str]) -> None:
    engine.infer(noise())
    with closing(open_tensorrt(notices)) as again:
        again.infer(noise())
        assert package.builds == 1
        again.infer(noise(height=22))
        assert package.builds == 2
    assert notices == []


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty", "another's"])
def test_a_damaged_plan_is_built_anew_and_said(
    engine: TensorRtEngine, package: TensorRt, plans: Path, notices: list[str], damage: str
) -> None:
    engine.infer(noise())
    (path,) = plans.glob("*.plan")
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "truncated": content[:middle],
            "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "another's": content.replace(b"11.4.0", b"11.5.0"),
        }[damage]
    )
    with closing(open_tensorrt(notices)) as again:
        result = again.infer(noise())
    np.testing.assert_array_equal(result.y, repeated(noise().y))
    assert package.builds == 2
    assert path.read_bytes() == content
    assert len(notices) == 1 and "damaged" in notices[0]


def test_another_version_gpu_driver_or_precision_has_a_plan_of_its_own(
    engine: TensorRtEngine, package: TensorRt, driver: Driver, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.infer(noise())
    changes = [("version", "11.5.0", package), ("devices", ["Another GPU"], driver), ("version", 13010, driver)]
    for i, (name, value, where) in enumerate(changes):
        monkeypatch.setattr(where, name, value)
        if where is package:
            package.install(monkeypatch)
        with closing(open_tensorrt([])) as changed:
            changed.infer(noise())
        assert package.builds == 2 + i, name
    with closing(open_tensorrt([], EngineChoice(2, "repeat", "stream", "tensorrt", precision="fp32"))) as changed:
        changed.infer(noise())
    assert package.builds == 5
    assert len(list(plans.glob("*.plan"))) == 5


def test_a_plan_that_does_not_load_is_built_anew_once(
    engine: TensorRtEngine, package: TensorRt, plans: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The key says that it fits, TensorRT says that it does not: a build of the same version that differs."""
    engine.infer(noise())
    engine.close()
    good = TensorRt.made_for
    monkeypatch.setattr(TensorRt, "made_for", property(lambda self: {"version": "rebuilt", "gpu": "the same"}))
    engine.infer(noise())
    assert package.builds == 2 and len(notices) == 1 and "does not load" in notices[0]
    engine.close()
    turns = iter([{"version": "a"}, {"version": "b"}, {"version": "c"}, {"version": "d"}] * 9)
    monkeypatch.setattr(TensorRt, "made_for", property(lambda self: next(turns)))
    with pytest.raises(EngineError, match="refuses its own plan"):
        engine.infer(noise())
    monkeypatch.setattr(TensorRt, "made_for", good)


def test_no_half_plan_is_left_by_a_build_that_fails(engine: TensorRtEngine, package: TensorRt, plans: Path) -> None:
    package.fails = "Could not find any implementation for node conv0"
    with pytest.raises(EngineError, match=r"cannot build a plan of repeat-x2-float-planes at 30x20: Could not find"):
        engine.infer(noise())
    assert not plans.exists() or list(plans.iterdir()) == []
    package.fails = "Error Code 2: OutOfMemory (Requested size was 1073741824 bytes.)"
    with pytest.raises(OutOfMemoryError):
        engine.infer(noise())


def test_a_folder_that_cannot_be_written_costs_the_time_of_a_build(
    engine: TensorRtEngine, plans: Path, notices: list[str]
) -> None:
    plans.write_text("a file where the folder should be")
    np.testing.assert_array_equal(engine.infer(noise()).y, repeated(noise().y))
    assert len(notices) == 2 and "cannot be kept" in notices[1]


def test_timings_are_kept_and_damaged_ones_replaced(engine: TensorRtEngine, package: TensorRt, plans: Path) -> None:
    engine.infer(noise())
    (timings,) = plans.glob("*.timings")
    assert timings.read_bytes() == b"timings"
    timings.write_bytes(b"damaged")
    engine.infer(noise(height=22))
    assert timings.read_bytes() == b"timings"


def test_progress_rises_to_one(engine: TensorRtEngine) -> None:
    shares: list[float] = []
    engine.make_plan(Picture(20, 30, 2, PixelFormat()), progress=shares.append)
    assert shares[0] > 0 and shares[-1] == 1
    assert all(a <= b for a, b in pairwise(shares))
    assert engine.is_ready(Picture(20, 30, 2, PixelFormat()))


def test_a_build_that_nobody_wants_any_more_ends(engine: TensorRtEngine, package: TensorRt, plans: Path) -> None:
    cancelled = threading.Event()
    package.step = cancelled.set
    with pytest.raises(BuildCancelled):
        engine.make_plan(Picture(20, 30, 2, PixelFormat()), cancelled=cancelled)
    assert not list(plans.glob("*.plan"))


def test_rtx_keeps_what_it_compiled(
    driver: Driver, engines: Path, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    TensorRt(driver, "tensorrt_rtx", "1.7.1").install(monkeypatch)
    with closing(open_tensorrt([])) as engine:
        assert (engine.backend, engine.package) == ("tensorrt", "tensorrt-rtx")
        engine.infer(noise())
    assert [path.read_bytes() for path in plans.glob("*.kernels")] == [b"kernels"]


# What is missing or too old, in one sentence each


@pytest.mark.parametrize(
    ("name", "capability", "sentence"),
    [
        ("tensorrt", (6, 1), r"needs compute capability 7\.5 or newer and Stand-in GPU has 6\.1: pass --backend"),
        ("tensorrt_rtx", (9, 0), r"tensorrt-rtx does not run on Stand-in GPU .*9\.0.* pip install 'rtsr\[tensorrt\]'"),
    ],
)
def test_a_gpu_that_the_package_does_not_run_on(
    monkeypatch: pytest.MonkeyPatch, engines: Path, name: str, capability: tuple[int, int], sentence: str
) -> None:
    driver = Driver(capability=capability)
    driver.install(monkeypatch)
    TensorRt(driver, name).install(monkeypatch)
    with pytest.raises(EngineError, match=sentence):
        open_engine(CHOICE)


def test_the_package_that_runs_on_the_gpu_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, expected in (((9, 0), "tensorrt"), ((12, 0), "tensorrt")):
        driver = Driver(capability=capability)
        driver.install(monkeypatch)
        TensorRt(driver, "tensorrt_rtx").install(monkeypatch)
        TensorRt(driver, "tensorrt").install(monkeypatch)
        assert load_package(open_gpu()).name == expected


def test_no_package(driver: Driver, engines: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(ConfigError, match=r"TensorRT is not installed .* pip install 'rtsr\[rtx\]'"):
        open_engine(CHOICE)


def test_auto_goes_on_with_the_next_and_says_so(
    engines: Path, notices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = Driver(version=12040)
    driver.install(monkeypatch)
    TensorRt(driver).install(monkeypatch)
    with closing(open_engine(EngineChoice(2, "repeat", "stream", "auto"), notices.append)) as engine:
        assert engine.backend == "openvino"
    assert len(notices) == 1
    assert notices[0].startswith(
        "backend tensorrt does not open, going on with the next: the NVIDIA driver runs CUDA 12"
    )


def test_auto_takes_the_gpu_where_there_is_one(package: TensorRt, engines: Path, notices: list[str]) -> None:
    with closing(open_engine(EngineChoice(2, "repeat", "stream", "auto"), notices.append)) as engine:
        assert engine.backend == "tensorrt"
    assert notices == []


# Graphs of the real engines, on ONNX Runtime


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Luma of a picture that has edges, ramps and noise, 96x128."""
    rng = np.random.default_rng(0)
    y = (np.add.outer(np.arange(96.0), 1.2 * np.arange(128)) % 200).astype(np.uint8)
    cv2.circle(y, (64, 48), 30, 230.0, -1)
    cv2.putText(y, "rtsr", (10, 80), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 20.0, 2)
    y = cv2.GaussianBlur(y.astype(np.float32), (0, 0), 0.8) + rng.normal(0, 2, y.shape)
    return np.clip(np.round(y), 0, 255).astype(np.uint8)


def real_engine(tier: str, scale: int, precision: str, output: str) -> Manifest:
    return find_engine(tier, scale, "stream", precision, output)


def luma(monkeypatch: pytest.MonkeyPatch, plans: Path, tier: str, precision: str, y: np.ndarray) -> np.ndarray:
    """y (H, W) upscaled by 2 under the stand-in."""
    driver = Driver()
    driver.install(monkeypatch)
    TensorRt(driver).install(monkeypatch)
    pixels = PixelFormat("gray", 8, (0, 0)) if y.dtype == np.uint8 else PixelFormat("gray", 10, (0, 0))
    batch = FrameBatch(y[None, None], np.empty((1, 0, *y.shape), y.dtype), (0,), Fraction(1, 25), pixels=pixels)
    with closing(open_engine(EngineChoice(2, tier, "stream", "tensorrt", precision=precision))) as engine:
        return engine.infer(batch).y[0, 0]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-9))


@pytest.mark.parametrize("tier", ["nano", "fast", "balanced"])
def test_fp32_is_what_openvino_computes(
    tier: str, photo: np.ndarray, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same float engine, another graph and another runtime: all but rounding ties agree (1 in 1,000 at most)."""
    found = luma(monkeypatch, plans, tier, "fp32", photo.astype(np.uint16) * 4)
    pixels = PixelFormat("gray", 10, (0, 0))
    y = photo.astype(np.uint16)[None, None] * 4
    batch = FrameBatch(y, np.empty((1, 0, *photo.shape), np.uint16), (0,), Fraction(1, 25), pixels=pixels)
    with closing(open_engine(EngineChoice(2, tier, "stream", "openvino", bits=10))) as engine:
        expected = engine.infer(batch).y[0, 0]
    off = np.abs(found.astype(int) - expected)
    assert off.max() <= 1 and (off > 0).mean() < 1e-3


@pytest.mark.parametrize("tier", ["fast", "balanced"])
def test_fp16_costs_less_than_a_hundredth_of_a_decibel(
    tier: str, photo: np.ndarray, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the large picture that the small one was made of. A difference of PSNR d between both results moves the
    PSNR p to the truth by about 4.3 * 10**((p - d) / 20) dB at most: 0.01 at p = 30, d = 60 is the bound to hold."""
    small = cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA)
    half = luma(monkeypatch, plans, tier, "fp16", small)
    full = luma(monkeypatch, plans, tier, "fp32", small)
    assert abs(psnr(half, photo) - psnr(full, photo)) <= 0.01
    assert np.abs(half.astype(int) - full).max() <= 1


@pytest.mark.parametrize("tier", ["fast", "balanced"])
def test_int8_keeps_the_picture_and_costs_little(
    tier: str, photo: np.ndarray, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden tensors have half of the levels that the engine was trained with, the picture itself has all: a ramp keeps
    each of its code values, and the result is within 0.15 dB of OpenVINO's int8."""
    ramp = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    found = luma(monkeypatch, plans, tier, "int8", ramp)
    assert len(np.unique(found)) >= 250
    small = cv2.resize(photo, (64, 48), interpolation=cv2.INTER_AREA)
    found = luma(monkeypatch, plans, tier, "int8", small)
    empty = np.empty((1, 0, 48, 64), np.uint8)
    batch = FrameBatch(small[None, None], empty, (0,), Fraction(1, 25), pixels=PixelFormat("gray", 8, (0, 0)))
    with closing(open_engine(EngineChoice(2, tier, "stream", "openvino"))) as engine:
        expected = engine.infer(batch).y[0, 0]
    assert psnr(found, photo) > psnr(expected, photo) - 0.15


def test_an_engine_that_is_no_ladder_is_refused() -> None:
    path = REPOSITORY / "engines" / "fast_srgan-x4-clean-float.onnx"
    with pytest.raises(EngineError, match="no ladder"):
        read_ladder(path.read_bytes())
    with pytest.raises(EngineError, match="no ONNX graph"):
        read_ladder(b"not an ONNX file")


def test_a_precision_that_the_engine_does_not_have() -> None:
    path = REPOSITORY / "engines" / "fast-x2-stream-int8.onnx"
    with pytest.raises(EngineError, match="fp16 cannot be made of an int8 engine"):
        gpu_graph(path.read_bytes(), Picture(16, 16, 2, PixelFormat()), "fp16")


# The stand-in itself: what it forgives would prove nothing


def test_the_stand_in_wants_shapes_before_addresses(
    engine: TensorRtEngine, package: TensorRt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_stand_in.IExecutionContext, "set_input_shape", lambda self, name, shape: True)
    with pytest.raises(BaseException, match="lacks the shape"):
        engine.infer(noise())
    monkeypatch.setattr(tensorrt_stand_in.IExecutionContext, "infer_shapes", lambda self: [])
    monkeypatch.setattr(tensorrt_stand_in.IExecutionContext, "set_tensor_address", lambda self, name, memory: True)
    with pytest.raises(BaseException):  # noqa: B017 - it knows neither shapes nor addresses
        engine.infer(noise())
    monkeypatch.undo()


def test_the_stand_in_wants_no_graph_of_a_first_run(engine: TensorRtEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from rtsr.backends.trt import _Prepared

    monkeypatch.setattr(_Prepared, "runs", property(lambda self: 1, lambda self, value: None), raising=False)
    with pytest.raises(Misuse, match="first run after a change of shape"):
        engine.infer(noise())
    monkeypatch.undo()
