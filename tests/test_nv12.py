"""Decoded pictures on the GPU: the kernels' own source, run by a C compiler's code, against numpy and FFmpeg."""

from __future__ import annotations

import sys

import numpy as np
import nv12_kernels
import pytest
from cuda_stand_in import Allocation, Driver, Kernel, Misuse, Span

from rtsr.backends.cuda.libraries import Gpu, open_gpu
from rtsr.backends.cuda.nv12 import Nv12Kernels, Surface, compiled
from rtsr.backends.phases import BORDER, fill_bordered
from rtsr.errors import EngineError

PITCH = 512  # bytes, more than any row here
SIZES = [(64, 48), (66, 50), (63, 37), (5, 3), (1, 1)]


def planes(width: int, height: int, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise of all code values: y (1, H, W), uv (2, h, w)."""
    rng, dtype = np.random.default_rng(width), np.uint8 if bits == 8 else np.uint16
    across, down = -(-width // 2), -(-height // 2)
    return (
        rng.integers(0, 1 << bits, (1, height, width)).astype(dtype),
        rng.integers(0, 1 << bits, (2, down, across)).astype(dtype),
    )


def laid_out(y: np.ndarray, uv: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """The same as rows of bytes in NV12, P010 or P016, written down without the kernels."""
    shift = 0 if bits == 8 else 16 - bits
    luma = (y[0] << shift).astype(y.dtype)
    chroma = (np.stack([uv[0], uv[1]], axis=-1).reshape(uv.shape[1], -1) << shift).astype(y.dtype)
    rows = []
    for samples in (luma, chroma):
        padded = np.full((samples.shape[0], PITCH), 0xEE, np.uint8)
        padded[:, : samples.shape[1] * samples.itemsize] = samples.view(np.uint8)
        rows.append(padded)
    return rows[0], rows[1]


class OnGpu:
    """A surface and room for planes in the stand-in's memory."""

    def __init__(self, driver: Driver, width: int, height: int, bits: int):
        self.driver, self.bits = driver, bits
        across, down = -(-width // 2), -(-height // 2)
        size = 1 if bits == 8 else 2
        self.y, self.uv = (driver.allocate(PITCH * rows, False).memory for rows in (height, down))
        self.surface = Surface(width, height, bits, self.y.address, PITCH, self.uv.address, PITCH)
        self.bordered = driver.allocate((width + 2 * BORDER) * (height + 2 * BORDER) * size, False).memory
        self.plain = driver.allocate(width * height * size, False).memory
        self.chroma = driver.allocate(2 * across * down * size, False).memory

    def decode(self, rows: tuple[np.ndarray, np.ndarray]) -> None:
        """What FFmpeg does: writes the surface, some time later, on the default stream."""

        def write() -> None:
            for memory, values in zip((self.y, self.uv), rows, strict=True):
                memory.at(0, memory.size)[:] = values.reshape(-1)

        spans = (Span(memory, 0, memory.size, True) for memory in (self.y, self.uv))
        open_gpu().device.default_stream.enqueue("decode", write, *spans)  # type: ignore[attr-defined]


def samples(memory: Allocation, like: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return memory.at(0, memory.size).view(like.dtype).reshape(shape)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_surface_is_taken_apart_as_the_cpu_would(
    width: int, height: int, bits: int, driver: Driver, gpu: Gpu, kernels: dict[str, Kernel]
) -> None:
    driver.kernels = kernels
    y, uv = planes(width, height, bits)
    there = OnGpu(driver, width, height, bits)
    there.decode(laid_out(y, uv, bits))
    stream = gpu.device.create_stream()
    Nv12Kernels(gpu).take(there.surface, there.bordered.address, there.chroma.address, BORDER, stream)
    stream.sync()
    expected = np.empty((1, 1, height + 2 * BORDER, width + 2 * BORDER), y.dtype)
    fill_bordered(expected, y[None])
    np.testing.assert_array_equal(samples(there.bordered, y, expected.shape), expected)
    np.testing.assert_array_equal(samples(there.chroma, uv, uv.shape), uv)


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_planes_become_a_surface(
    width: int, height: int, bits: int, driver: Driver, gpu: Gpu, kernels: dict[str, Kernel]
) -> None:
    """And nothing is written into the padding of its rows."""
    driver.kernels = kernels
    y, uv = planes(width, height, bits)
    there, rows = OnGpu(driver, width, height, bits), laid_out(y, uv, bits)
    for memory, values in ((there.plain, y), (there.chroma, uv)):
        memory.at(0, memory.size)[:] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    for memory in (there.y, there.uv):
        memory.at(0, memory.size)[:] = 0xEE
    stream = gpu.device.create_stream()
    Nv12Kernels(gpu).give(there.plain.address, there.chroma.address, there.surface, stream)
    stream.sync()
    np.testing.assert_array_equal(there.y.at(0, there.y.size).reshape(-1, PITCH), rows[0])
    np.testing.assert_array_equal(there.uv.at(0, there.uv.size).reshape(-1, PITCH), rows[1])


def test_a_surface_is_not_read_before_the_decoder_has_written_it(
    driver: Driver, gpu: Gpu, kernels: dict[str, Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.kernels = kernels
    there = OnGpu(driver, 64, 48, 8)
    there.decode(laid_out(*planes(64, 48, 8), 8))
    stream = gpu.device.create_stream()
    monkeypatch.setattr(type(stream), "wait", lambda stream, other: None)
    with pytest.raises(Misuse, match="'take_luma_8' uses memory that 'decode' in flight uses"):
        Nv12Kernels(gpu).take(there.surface, there.bordered.address, there.chroma.address, BORDER, stream)


@pytest.mark.parametrize("capability", [(7, 5), (8, 9), (9, 0), (12, 0)])
def test_the_kernels_compile_for_gpus(capability: tuple[int, int]) -> None:
    """By the real NVRTC, which needs no GPU."""
    pytest.importorskip("cuda.core", reason="pip install cuda-core")
    pytest.importorskip("cuda.bindings.nvrtc", reason="pip install cuda-bindings")
    try:
        made = compiled(capability)
    except RuntimeError as error:  # cuda-pathfinder's
        pytest.skip(f"no NVRTC: {error}")
    assert made.code[:4] == b"\x7fELF"
    for name in nv12_kernels.names():
        assert name.encode() in made.code


def test_missing_nvrtc_is_told(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise RuntimeError("libnvrtc.so.13 was not found")

    monkeypatch.setattr(sys.modules["cuda.core"], "Program", missing)
    with pytest.raises(EngineError, match=r"nvidia-cuda-nvrtc.*libnvrtc.so.13 was not found"):
        Nv12Kernels(gpu)
