"""What every engine promises, asked of every backend that runs without a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import rtsr_threads
from cuda_stand_in import Driver
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from onnxruntime_stand_in import OnnxRuntime
from tensorrt_stand_in import TensorRt

from rtsr.backends import Engine, EngineChoice, open_engine
from rtsr.backends.reference import ReferenceEngine
from rtsr.errors import EngineError
from rtsr.frames import ChromaSiting, FrameBatch
from rtsr.pixels import YUV420P, PixelFormat

ON_STAND_INS = ("tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime-tensorrt")
KINDS = ("nearest", "bicubic", "openvino", "onnxruntime", *ON_STAND_INS)
REPEATS_LUMA = {*KINDS} - {"bicubic"}  # all but nearest run the `repeat` engine of conftest.py
TIME_BASE = Fraction(1001, 30000)


def open_kind(kind: str, scale: int) -> Engine:
    if kind in ("nearest", "bicubic"):
        return ReferenceEngine(scale, kind)
    if kind.startswith("tensorrt"):
        return open_engine(EngineChoice(scale, "repeat", "stream", "tensorrt"))
    if kind not in ON_STAND_INS:
        pytest.importorskip(kind)
    return open_engine(EngineChoice(scale, "repeat", "stream", kind))


@pytest.fixture(autouse=True)
def stand_ins(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A GPU and its packages, for the kinds that need them."""
    kind, _ = request.getfixturevalue("kind_and_scale") if "kind_and_scale" in request.fixturenames else ("", 0)
    if kind in ON_STAND_INS:
        monkeypatch.setenv("RTSR_PLANS", str(tmp_path))
        driver = Driver()
        driver.install(monkeypatch)
    if kind.startswith("onnxruntime-"):
        OnnxRuntime(driver).install(monkeypatch)
    elif kind in ON_STAND_INS:
        TensorRt(driver, kind.replace("-", "_")).install(monkeypatch)


@pytest.fixture(params=[(kind, scale) for kind in KINDS for scale in (2, 3, 4)], ids=lambda p: f"{p[0]}-x{p[1]}")
def kind_and_scale(request: pytest.FixtureRequest) -> tuple[str, int]:
    return request.param


@pytest.fixture
def engine(kind_and_scale: tuple[str, int], engines: object) -> Iterator[Engine]:
    with closing(open_kind(*kind_and_scale)) as engine:
        yield engine


def noise(n: int, height: int, width: int, first_pts: int = 7, seed: int = 0) -> FrameBatch:
    """Frames of random pixels, which no interpolation leaves alone by chance; pts unevenly spaced."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 256, (n, 1, height, width), np.uint8)
    uv = rng.integers(0, 256, (n, 2, *YUV420P.chroma_size(height, width)), np.uint8)
    pts = tuple(first_pts + i * (i + 3) for i in range(n))
    return FrameBatch(y, uv, pts, TIME_BASE, tuple(range(1, n + 1)))


def repeated(planes: np.ndarray, scale: int) -> np.ndarray:
    return planes.repeat(scale, axis=2).repeat(scale, axis=3)


@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(1, 3), height=st.integers(1, 41), width=st.integers(1, 41))
@example(n=1, height=1, width=1)
@example(n=2, height=5, width=8)
def test_any_size_comes_out_scale_times_larger(
    engine: Engine, kind_and_scale: tuple[str, int], n: int, height: int, width: int
) -> None:
    batch = noise(n, height, width)
    result = engine.infer(batch)
    s = engine.scale
    assert s == kind_and_scale[1]
    assert result.y.shape == (n, 1, s * height, s * width)
    assert result.uv.shape == (n, 2, *YUV420P.chroma_size(s * height, s * width))
    assert (result.y.dtype, result.uv.dtype) == (np.uint8, np.uint8)
    if kind_and_scale[0] in REPEATS_LUMA:
        np.testing.assert_array_equal(result.y, repeated(batch.y, s))


def test_time_goes_through_untouched(engine: Engine) -> None:
    batch = noise(3, 8, 10)
    result = engine.infer(batch)
    assert (result.pts, result.time_base, result.durations) == (batch.pts, TIME_BASE, (1, 2, 3))


@pytest.mark.parametrize("value", [0, 16, 128, 235, 255])
def test_a_flat_picture_keeps_its_code_value(engine: Engine, value: int) -> None:
    flat = FrameBatch(
        np.full((1, 1, 9, 13), value, np.uint8), np.full((1, 2, 5, 7), 255 - value, np.uint8), (0,), TIME_BASE
    )
    result = engine.infer(flat)
    assert (result.y == value).all()
    assert (result.uv == 255 - value).all()


@pytest.mark.parametrize("siting", ChromaSiting, ids=lambda s: s.name)
@pytest.mark.parametrize("direction", ["along", "down"])
def test_chroma_ramps_stay_in_their_place(
    engine: Engine, kind_and_scale: tuple[str, int], siting: ChromaSiting, direction: str
) -> None:
    """Chroma sample i lies at luma pixel 2 i where it is sited on the first of two, at 2 i + 1/2 where between them.

    The same holds in the large picture, whose luma pixel j covers (j + 1/2) / scale - 1/2 of the small one. A ramp
    shows where each sample was read. Away from the border; tolerance: half a code value for each of two roundings,
    5 % of the ramp's step for OpenCV's cubic kernel (a = -0.75 bends a ramp) and 2 % for Lanczos-3, 0.3 together.
    """
    step, start, length = 4, 20, 40
    ramp = (start + step * np.arange(length)).astype(np.uint8)
    uv = np.broadcast_to(ramp, (1, 2, 16, length)).copy()
    uv = uv if direction == "along" else uv.transpose(0, 1, 3, 2).copy()
    y = np.zeros((1, 1, 2 * uv.shape[2], 2 * uv.shape[3]), np.uint8)
    result = engine.infer(FrameBatch(y, uv, (0,), TIME_BASE, siting=siting)).uv
    s = engine.scale
    if kind_and_scale[0] == "nearest":
        np.testing.assert_array_equal(result, repeated(uv, s))
        return
    between = 0.0 if siting.value[0 if direction == "along" else 1] else 0.5
    luma = (2 * np.arange(s * length) + between + 0.5) / s - 0.5
    expected = start + step * (luma - between) / 2
    found = result if direction == "along" else result.transpose(0, 1, 3, 2)
    inside = slice(6 * s, -6 * s)
    assert np.abs(found.astype(float) - expected)[..., inside].max() <= 1.3


def test_stream_keeps_the_order(engine: Engine, kind_and_scale: tuple[str, int]) -> None:
    batches = [noise(2 if i == 5 else 1, 10, 14, first_pts=100 * i, seed=i) for i in range(9)]
    results = list(engine.stream(iter(batches)))
    assert [r.pts for r in results] == [b.pts for b in batches]
    with closing(open_kind(*kind_and_scale)) as another:
        for batch, result in zip(batches, results, strict=True):
            np.testing.assert_array_equal(result.y, another.infer(batch).y)


def test_stream_of_nothing_is_nothing(engine: Engine) -> None:
    assert list(engine.stream(iter([]))) == []


def test_stream_over_a_change_of_size(engine: Engine) -> None:
    sizes = [(10, 14), (10, 14), (7, 9), (10, 14), (7, 9), (7, 9)]
    batches = [noise(1, *size, first_pts=i, seed=i) for i, size in enumerate(sizes)]
    results = list(engine.stream(iter(batches)))
    assert [r.size for r in results] == [(engine.scale * h, engine.scale * w) for h, w in sizes]
    assert [r.pts[0] for r in results] == list(range(6))


def test_later_calls_leave_earlier_results_alone(engine: Engine) -> None:
    first = engine.infer(noise(1, 12, 16, seed=1))
    y, uv = first.y.copy(), first.uv.copy()
    kept = list(engine.stream(noise(1, 12, 16, seed=i) for i in range(2, 9)))
    copies = [(r.y.copy(), r.uv.copy()) for r in kept]
    engine.infer(noise(1, 12, 16, seed=99))
    np.testing.assert_array_equal(first.y, y)
    np.testing.assert_array_equal(first.uv, uv)
    for result, (y, uv) in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(result.y, y)
        np.testing.assert_array_equal(result.uv, uv)


def test_inputs_are_not_written_to(engine: Engine) -> None:
    batch = noise(2, 12, 16)
    batch.y.flags.writeable = batch.uv.flags.writeable = False
    y, uv = batch.y.copy(), batch.uv.copy()
    engine.infer(batch)
    np.testing.assert_array_equal(batch.y, y)
    np.testing.assert_array_equal(batch.uv, uv)


def test_planes_may_be_views_with_padding(engine: Engine) -> None:
    """A decoder's rows are longer than the picture; an engine must not read the padding."""
    tight = noise(1, 12, 16)
    wide_y, wide_uv = np.zeros((1, 1, 12, 40), np.uint8), np.zeros((1, 2, 6, 40), np.uint8)
    wide_y[..., :16], wide_uv[..., :8] = tight.y, tight.uv
    padded = FrameBatch(wide_y[..., :16], wide_uv[..., :8], tight.pts, TIME_BASE)
    np.testing.assert_array_equal(engine.infer(padded).y, engine.infer(tight).y)
    np.testing.assert_array_equal(engine.infer(padded).uv, engine.infer(tight).uv)


def test_a_stream_left_early_leaves_no_thread_and_a_usable_engine(engine: Engine) -> None:
    stream = engine.stream(noise(1, 10, 14, first_pts=i, seed=i) for i in range(50))
    assert next(iter(stream)).pts == (0,)
    if close := getattr(stream, "close", None):
        close()
    del stream
    assert rtsr_threads() == []
    again = list(engine.stream(noise(1, 10, 14, first_pts=i, seed=i) for i in range(3)))
    assert [r.pts[0] for r in again] == [0, 1, 2]
    np.testing.assert_array_equal(again[2].y, engine.infer(noise(1, 10, 14, first_pts=2, seed=2)).y)


def test_an_error_of_the_upstream_comes_through(engine: Engine) -> None:
    def broken() -> Iterator[FrameBatch]:
        yield noise(1, 10, 14)
        raise ValueError("upstream broke")

    with pytest.raises(ValueError, match="upstream broke"):
        list(engine.stream(broken()))
    assert engine.infer(noise(1, 10, 14)).pts == (7,)


def test_sixteen_bits_are_taken_or_refused_in_words(engine: Engine) -> None:
    deep = FrameBatch(
        np.full((1, 1, 8, 8), 700, np.uint16),
        np.full((1, 2, 4, 4), 300, np.uint16),
        (0,),
        TIME_BASE,
        pixels=PixelFormat(bits=16),
    )
    if engine.backend == "reference" or engine.backend in ON_STAND_INS:
        result = engine.infer(deep)
        assert (result.y.dtype, result.uv.dtype) == (np.uint16, np.uint16)
        assert (result.y == 700).all() and (result.uv == 300).all()
    else:
        with pytest.raises(EngineError, match="8-bit"):
            engine.infer(deep)


def test_closing_twice_is_safe(kind_and_scale: tuple[str, int], engines: object) -> None:
    engine = open_kind(*kind_and_scale)
    engine.infer(noise(1, 8, 8))
    engine.close()
    engine.close()


@pytest.mark.parametrize(
    ("y", "uv"),
    [
        (np.zeros((1, 1, 8, 8), np.float32), np.zeros((1, 2, 4, 4), np.float32)),
        (np.zeros((1, 3, 8, 8), np.uint8), np.zeros((1, 2, 4, 4), np.uint8)),
        (np.zeros((8, 8), np.uint8), np.zeros((2, 4, 4), np.uint8)),
        (np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 2, 8, 8), np.uint8)),
        (np.zeros((1, 1, 9, 9), np.uint8), np.zeros((1, 2, 4, 4), np.uint8)),
        (np.zeros((1, 1, 8, 8), np.uint8), np.zeros((1, 2, 4, 4), np.uint16)),
        (np.zeros((2, 1, 8, 8), np.uint8), np.zeros((1, 2, 4, 4), np.uint8)),
    ],
    ids=["float", "three-channels", "no-batch", "444", "chroma-rounded-down", "mixed-depth", "fewer-chroma"],
)
def test_what_are_no_planes_never_becomes_a_batch(y: np.ndarray, uv: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must be"):
        FrameBatch(y, uv, (0,) * len(y), TIME_BASE)
