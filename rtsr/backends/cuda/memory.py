"""Memory that the GPU works on: blocks on the device, page-locked blocks on the host, results that readers may keep."""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from rtsr.backends.cuda.libraries import Gpu, cuda_core
from rtsr.errors import EngineError, OutOfMemoryError, first_line

if TYPE_CHECKING:
    from cuda.core.cu13._memory._buffer import Buffer
    from cuda.core.cu13._stream import Stream

ALIGNMENT = 256  # bytes: what cudaMalloc guarantees, and what TensorRT asks of a tensor's address


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where one array lies within a block. offset: bytes."""

    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Layout(dict[str, Tensor]):
    """Several arrays in one block, so that one copy moves them all. size: bytes of the block."""

    size: int

    @classmethod
    def of(cls, arrays: Mapping[str, tuple[tuple[int, ...], DTypeLike]]) -> Layout:
        """Place arrays {name: (shape, dtype)} one after the other, each at a multiple of ALIGNMENT."""
        layout, end = cls(), 0
        for name, (shape, dtype) in arrays.items():
            tensor = Tensor(-(-end // ALIGNMENT) * ALIGNMENT, tuple(shape), np.dtype(dtype))
            layout[name], end = tensor, tensor.offset + tensor.nbytes
        layout.size = max(end, 1)
        return layout


class PinnedMemory:
    """Page-locked host memory, which the GPU copies from and to while the host does something else.

    buffer: cuda.core's, for the copies. Freed once neither this nor an array on it is referred to.
    """

    def __init__(self, size: int):
        with cuda_errors(f"{size >> 20} MB of page-locked memory"):
            self.buffer: Buffer = cuda_core().LegacyPinnedMemoryResource().allocate(size)
        self.size = size
        address = int(self.buffer.handle)
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (size,), "typestr": "|u1"}

    def array(self, tensor: Tensor) -> np.ndarray:
        """One of the block's arrays, as a view that keeps the block alive."""
        return _view(self, tensor)


class ResultPool:
    """Page-locked blocks for results. What lend() gives out belongs to its reader; when the last array on it is gone,
    the block serves again.

    size: bytes of a block. most: blocks that readers may hold at once; beyond, they get copies in ordinary memory,
    since an encoder that looks far ahead would have all of the machine's memory page-locked. Any thread may let go of
    arrays; the rest is for one thread.
    """

    def __init__(self, size: int, most: int):
        self.size, self._most = size, most
        self._free: deque[PinnedMemory] = deque()
        self._lent: set[int] = set()

    def take(self) -> PinnedMemory:
        """A block to copy a result into."""
        return self._free.popleft() if self._free else PinnedMemory(self.size)

    def lend(self, memory: PinnedMemory, layout: Layout) -> dict[str, np.ndarray]:
        """The arrays of a finished result, which are the caller's from now on."""
        if len(self._lent) >= self._most:
            arrays = {name: memory.array(tensor).copy() for name, tensor in layout.items()}
            self._free.append(memory)
            return arrays
        lease = _Lease(memory)
        self._lent.add(id(memory))
        weakref.finalize(lease, _give_back, memory, self._free, self._lent).atexit = False
        return {name: _view(lease, tensor) for name, tensor in layout.items()}


class _Lease:
    """What the arrays on a lent block refer to: it dies with the last of them."""

    def __init__(self, memory: PinnedMemory):
        self.__array_interface__ = memory.__array_interface__


def _give_back(memory: PinnedMemory, free: deque[PinnedMemory], lent: set[int]) -> None:
    lent.discard(id(memory))
    free.append(memory)


def _view(owner: object, tensor: Tensor) -> np.ndarray:
    """An array on the memory that owner stands for; it keeps owner alive."""
    whole = np.asarray(owner)
    return whole[tensor.offset : tensor.offset + tensor.nbytes].view(tensor.dtype).reshape(tensor.shape)


def device_memory(gpu: Gpu, size: int, stream: Stream) -> Buffer:
    """A block on the GPU, which `stream` may use at once and others after an event of it. Raises OutOfMemoryError."""
    with cuda_errors(f"{size >> 20} MB on {gpu.name}"):
        return gpu.device.allocate(size, stream=stream)


@contextmanager
def cuda_errors(what: str) -> Iterator[None]:
    """One sentence for whatever CUDA throws while it does `what`; OutOfMemoryError if memory was the reason."""
    try:
        yield
    except EngineError:
        raise
    except Exception as error:  # CUDAError derives from nothing narrower
        kind = OutOfMemoryError if "OUT_OF_MEMORY" in str(error) or isinstance(error, MemoryError) else EngineError
        raise kind(f"{what}: {first_line(error)}") from error
