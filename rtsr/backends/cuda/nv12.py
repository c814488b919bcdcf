"""NV12, P010 and P016 pictures on the GPU, taken apart into an engine's planes and put together of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtsr.backends.cuda.libraries import Gpu, cuda_core
from rtsr.backends.cuda.memory import cuda_errors

if TYPE_CHECKING:
    from cuda.core.cu13._stream import Stream

SOURCE = Path(__file__).with_name("nv12.cu")
_BLOCK = (32, 8)  # threads: a warp along a row, so that neighbours read neighbours


@dataclass(frozen=True, slots=True)
class Surface:
    """A 4:2:0 picture as NVIDIA's decoder gives and its encoder takes it. y, uv: addresses on the GPU; pitches: bytes
    from row to row; bits: of a sample, 8, 10 or 12, in the high bits of 16 where there are more than 8."""

    width: int
    height: int
    bits: int
    y: int
    y_pitch: int
    uv: int
    uv_pitch: int

    @property
    def chroma_size(self) -> tuple[int, int]:
        """(width, height) of each of the chroma planes."""
        return -(-self.width // 2), -(-self.height // 2)

    @property
    def shift(self) -> int:
        """Bits below those of a sample."""
        return 0 if self.bits == 8 else 16 - self.bits


class Nv12Kernels:
    """The kernels of nv12.cu, compiled for one GPU. One thread at a time.

    Raises EngineError if they do not compile, as where NVRTC is missing, or a launch fails.
    """

    def __init__(self, gpu: Gpu):
        self._gpu = gpu
        with cuda_errors("NVRTC (pip install nvidia-cuda-nvrtc)"):
            self._module = compiled(gpu.capability)

    def take(self, surface: Surface, y: int, uv: int, border: int, stream: Stream) -> None:
        """Surface -> y (height + 2 * border, width + 2 * border), its rim mirrored as fill_bordered() does, and uv
        (2, h, w), at these addresses. Enqueued on `stream`, behind all that FFmpeg has enqueued for the surface.
        """
        s = surface
        stream.wait(self._gpu.device.default_stream)  # where FFmpeg's decoder works
        shape = s.width + 2 * border, s.height + 2 * border
        self._launch(stream, "take_luma", s.bits, shape, (s.y, s.y_pitch, s.width, s.height, border, s.shift, y))
        self._launch(stream, "take_chroma", s.bits, s.chroma_size, (s.uv, s.uv_pitch, *s.chroma_size, s.shift, uv))

    def give(self, y: int, uv: int, surface: Surface, stream: Stream) -> None:
        """y (height, width) and uv (2, h, w) at these addresses -> surface. Enqueued on `stream`."""
        s = surface
        self._launch(stream, "give_luma", s.bits, (s.width, s.height), (y, s.width, s.height, s.shift, s.y, s.y_pitch))
        self._launch(stream, "give_chroma", s.bits, s.chroma_size, (uv, *s.chroma_size, s.shift, s.uv, s.uv_pitch))

    def _launch(self, stream: Stream, name: str, bits: int, threads: tuple[int, int], values: tuple[int, ...]) -> None:
        core = cuda_core()
        with cuda_errors(f"kernel {name}"):
            grid = tuple(-(-many // block) for many, block in zip(threads, _BLOCK, strict=True))
            kernel = self._module.get_kernel(f"{name}_{8 if bits == 8 else 16}")
            core.launch(stream, core.LaunchConfig(grid=grid, block=_BLOCK), kernel, *_typed(name, values))


def compiled(capability: tuple[int, int]) -> Any:
    """nv12.cu as machine code for GPUs of this compute capability; needs NVRTC, but no GPU."""
    core = cuda_core()
    options = core.ProgramOptions(arch="sm_{}{}".format(*capability))
    return core.Program(SOURCE.read_text(), "c++", options=options).compile("cubin")


# Of each kernel's arguments, in nv12.cu's order: a pointer, a long long, or an int.
ARGUMENTS = {
    "take_luma": "pliiiip",
    "take_chroma": "pliiip",
    "give_luma": "piiipl",
    "give_chroma": "piiipl",
}
_KINDS = {"p": np.uint64, "l": np.int64, "i": np.int32}


def _typed(name: str, values: tuple[int, ...]) -> list[np.generic]:
    """Arguments as the kernel declares them: a plain int would be passed as a pointer."""
    return [_KINDS[kind](value) for kind, value in zip(ARGUMENTS[name], values, strict=True)]
