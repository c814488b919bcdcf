"""Finished pictures that stay on the GPU: room for them, laid out as NVIDIA's encoder reads it."""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtsr.backends.cuda.libraries import Gpu
from rtsr.backends.cuda.memory import PinnedMemory, cuda_errors, device_memory
from rtsr.backends.cuda.nv12 import Surface
from rtsr.errors import RtsrError
from rtsr.frames_on_gpu import PictureOnGpu, Planes

if TYPE_CHECKING:
    from cuda.core.cu13._memory._buffer import Buffer
    from cuda.core.cu13._stream import Stream

PITCH = 512  # bytes that rows are a multiple of: the alignment of textures, which FFmpeg's own surfaces have too


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """Memory on the GPU for one picture. Chroma follows luma's last row: NVENC is told one address and one pitch."""

    surface: Surface
    buffer: Buffer


class SurfacePool:
    """Room for finished pictures. What lend() gives belongs to whoever holds it; when the last of them, an encoder
    included, has let go, the room serves again.

    An encoder registers memory by its address and keeps that until it closes: rooms are freed by close() alone, once
    all encoders are closed. As many are made as are held at once: what NVENC looks ahead at (64 at the most) and what
    waits for it. Any thread may let go of pictures; the rest is for one thread.
    """

    def __init__(self, gpu: Gpu):
        self._gpu = gpu
        self._free: defaultdict[tuple[int, int, int], deque[Room]] = defaultdict(deque)
        self._is_closed = [False]

    def take(self, width: int, height: int, bits: int, stream: Stream) -> Room:
        """Room for a picture, which `stream` may write at once. width, height: even. Raises OutOfMemoryError."""
        free = self._free[width, height, bits]
        if free:
            return free.popleft()
        pitch = -(-width * (1 if bits == 8 else 2) // PITCH) * PITCH
        buffer = device_memory(self._gpu, pitch * height * 3 // 2, self._gpu.device.default_stream)
        with cuda_errors("room for a picture"):
            stream.wait(self._gpu.device.default_stream)  # in whose order it was allocated
        start = int(buffer.handle)
        return Room(Surface(width, height, bits, start, pitch, start + pitch * height, pitch), buffer)

    def give_back(self, room: Room) -> None:
        """Of a picture that nobody was given."""
        _give_back(room, self._free[_size(room)], self._is_closed)

    def lend(self, room: Room) -> PictureOnGpu:
        """The picture in it, which is whole: the host has waited for that."""
        lease = _Lease()
        finalize = weakref.finalize(lease, _give_back, room, self._free[_size(room)], self._is_closed)
        finalize.atexit = False
        return PictureOnGpu(room.surface, self._gpu.number, lease, lambda: downloaded(self._gpu, room))

    def close(self) -> None:
        """Free what nobody holds now, and the rest as it comes back. Safe to call twice."""
        self._is_closed[0] = True
        for free in self._free.values():
            while free:
                with cuda_errors("freeing the GPU's memory"):
                    free.popleft().buffer.close()


class _Lease:
    """Dies with the last that refers to the picture."""


def _size(room: Room) -> tuple[int, int, int]:
    return room.surface.width, room.surface.height, room.surface.bits


def _give_back(room: Room, free: deque[Room], is_closed: list[bool]) -> None:
    if is_closed[0]:
        with suppress(RtsrError), cuda_errors("freeing the GPU's memory"):
            room.buffer.close()
    else:
        free.append(room)


def downloaded(gpu: Gpu, room: Room) -> Planes:
    """A picture's y (1, H, W) and uv (2, h, w) in memory: one copy over the bus. Any thread."""
    gpu.use()
    surface, host = room.surface, PinnedMemory(int(room.buffer.size))
    with cuda_errors("a picture's download"):
        stream = gpu.device.create_stream()
        try:
            host.buffer.copy_from(room.buffer, stream=stream)
            stream.sync()
        finally:
            stream.close()
    rows = np.asarray(host).view(np.uint8 if surface.bits == 8 else np.dtype("<u2"))
    rows = rows.reshape(surface.height * 3 // 2, -1)[:, : surface.width] >> surface.shift
    y, pairs = rows[: surface.height], rows[surface.height :].reshape(surface.height // 2, -1, 2)
    return y[None], np.ascontiguousarray(pairs.transpose(2, 0, 1))
