"""Batches on their way through a ring: into a slot's memory, and out of it as pictures in memory or on the GPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import DTypeLike

from rtsr.backends.cuda.libraries import Gpu, cuda_core
from rtsr.backends.cuda.memory import Layout
from rtsr.backends.cuda.nv12 import Nv12Kernels, Surface
from rtsr.backends.cuda.ring import DEPTH, Ring, Slot, download, upload
from rtsr.backends.cuda.surfaces import Room, SurfacePool
from rtsr.backends.guard import CHECK, sound
from rtsr.backends.phases import BORDER, fill_bordered
from rtsr.frames import FrameBatch
from rtsr.frames_on_gpu import picture_on_gpu
from rtsr.pixels import PixelFormat

if TYPE_CHECKING:
    from cuda.core.cu13._stream import Stream

    from rtsr.backends.gpu_graph import Picture

Compute = Callable[[Slot, "Stream", int], None]  # device_in -> device_out of a slot, for so many pictures


def outputs_of(picture: Picture, n: int, is_watched: bool) -> dict[str, tuple[tuple[int, ...], DTypeLike]]:
    """Shapes and dtypes of what a graph gives for n pictures. is_watched: with with_check()'s output."""
    shapes: dict[str, tuple[tuple[int, ...], DTypeLike]]
    shapes = {name: (shape, np.uint8) for name, shape in picture.outputs(n).items()}
    return shapes | ({CHECK: ((n * picture.pixels.full_planes, 2), np.float32)} if is_watched else {})


def stays_as(pixels: PixelFormat) -> bool:
    """Whether pictures of this format can stay on the GPU: those that NV12 and its deeper relatives hold."""
    return (pixels.family, pixels.chroma, pixels.alpha) == ("yuv", (1, 1), False) and pixels.bits in (8, 10, 12)


class BatchRing:
    """A ring for batches of one kind of picture, for a graph that gpu_graph() wrote.

    most: pictures in a batch, at the most. is_watched: whether the graph has with_check()'s output. nv12: takes decoded
    pictures as they lie on the GPU; None brings them through memory. pool: room for results that stay there. One thread
    at a time. Raises EngineError, OutOfMemoryError.
    """

    def __init__(
        self,
        gpu: Gpu,
        picture: Picture,
        most: int,
        is_watched: bool,
        depth: int = DEPTH,
        nv12: Nv12Kernels | None = None,
        pool: SurfacePool | None = None,
    ):
        self.picture, self.most = picture, most
        self.inputs = Layout.of({name: (shape, np.uint8) for name, shape in picture.inputs(most).items()})
        self.outputs = Layout.of(outputs_of(picture, most, is_watched))
        self.ring = Ring(gpu, self.inputs.size, self.outputs.size, depth)
        self._gpu, self._nv12, self._pool = gpu, nv12, pool
        self._rooms: dict[int, Room] = {}  # by slot: of results in flight that stay on the GPU

    @property
    def is_full(self) -> bool:
        """Whether collect() must come before the next start()."""
        return self.ring.is_full

    def takes(self, batch: FrameBatch, depth: int = 1) -> bool:
        p = self.picture
        same = (*batch.size, batch.pixels, batch.siting) == (p.height, p.width, p.pixels, p.siting)
        return same and len(batch) <= self.most and depth <= self.ring.depth

    def start(self, batch: FrameBatch, compute: Compute, stays: bool = False) -> None:
        """Bring a batch into a free slot and enqueue all of its work. stays: leave the result on the GPU if it is one
        picture that can stay there."""
        n, leave = len(batch), download
        room = self._room() if stays and n == 1 else None
        slot = self.ring.acquire()
        if room is not None:
            self._rooms[slot.index] = room
            leave = partial(self._leave, room)
        take = upload
        there = picture_on_gpu(batch, self._gpu.number)
        if there is not None and self._nv12 is not None:
            take = partial(self._take, self._nv12, there.surface)
        else:
            self._fill(slot, batch)
        self.ring.submit(slot, lambda slot, stream: compute(slot, stream, n), take, leave)

    def collect(self, batch: FrameBatch) -> tuple[FrameBatch, np.ndarray]:
        """The oldest batch's result; batch: what went in. (N,) bool: which pictures are sound, see guard.py."""
        slot = self.ring.collect()
        n, planes = len(batch), batch.pixels.full_planes
        room = self._rooms.pop(slot.index, None)
        if room is not None and self._pool is not None:
            assert slot.host_out is not None, "submit() has put it there"
            check = slot.host_out.array(self.outputs[CHECK]).copy() if CHECK in self.outputs else None
            y, uv = self._pool.lend(room).as_arrays(batch.pixels)
            return batch.with_planes(y[None], uv[None]), _sound(check, n, planes)
        arrays = self.ring.results.lend(self.ring.take_result(slot), self.outputs)
        is_sound = _sound(arrays.get(CHECK), n, planes)
        y = _samples(arrays["y_out"], batch)[: n * planes]
        y = y.reshape(n, planes, *y.shape[2:])
        if "uv_out" in arrays:
            return batch.with_planes(y, _samples(arrays["uv_out"], batch)[:n]), is_sound
        uv = np.empty((n, 0, *batch.pixels.chroma_size(*y.shape[2:])), y.dtype)
        return batch.with_planes(y, uv), is_sound

    def drain(self) -> None:
        """Let what is in flight end, and forget it. Raises EngineError on a GPU that no longer answers."""
        self.ring.drain()
        self._forget_rooms()

    def close(self) -> None:
        """Wait for what is in flight and free everything but what readers hold. Safe to call twice."""
        try:
            self.ring.close()
        finally:
            self._forget_rooms()

    def _fill(self, slot: Slot, batch: FrameBatch) -> None:
        """Samples in memory -> host_in."""
        y = _samples(slot.host_in.array(self.inputs["y"]), batch)
        fill_bordered(y[: len(batch) * batch.pixels.full_planes], batch.y)
        if "uv" in self.inputs:
            _samples(slot.host_in.array(self.inputs["uv"]), batch)[: len(batch)] = batch.uv

    def _take(self, kernels: Nv12Kernels, surface: Surface, slot: Slot, stream: Stream) -> None:
        """A decoder's surface -> device_in, without a way through the host."""
        y, uv = (int(slot.device_in.handle) + self.inputs[name].offset for name in ("y", "uv"))
        kernels.take(surface, y, uv, BORDER, stream)

    def _room(self) -> Room | None:
        """For a result, if it can stay on the GPU: NVIDIA's encoder takes even sizes."""
        p = self.picture
        height, width = p.scale * p.height, p.scale * p.width
        if self._nv12 is None or self._pool is None or not stays_as(p.pixels) or height % 2 or width % 2:
            return None
        return self._pool.take(width, height, p.pixels.bits, self.ring.downloading)

    def _leave(self, room: Room, slot: Slot, stream: Stream) -> None:
        """device_out -> a surface; all that is downloaded is whether the picture is sound."""
        assert self._nv12 is not None and slot.host_out is not None, "start() has asked, submit() has put it there"
        start = int(slot.device_out.handle)
        y, uv = (start + self.outputs[name].offset for name in ("y_out", "uv_out"))
        self._nv12.give(y, uv, room.surface, stream)
        if CHECK in self.outputs:
            check, part = self.outputs[CHECK], cuda_core().Buffer.from_handle
            there = part(start + check.offset, check.nbytes, owner=slot.device_out)
            here = part(int(slot.host_out.buffer.handle) + check.offset, check.nbytes, owner=slot.host_out)
            here.copy_from(there, stream=stream)

    def _forget_rooms(self) -> None:
        for room in self._rooms.values():
            if self._pool is not None:
                self._pool.give_back(room)
        self._rooms.clear()


def _sound(check: np.ndarray | None, n: int, planes: int) -> np.ndarray:
    return np.ones(n, bool) if check is None else sound(check[: n * planes], planes)


def _samples(array: np.ndarray, batch: FrameBatch) -> np.ndarray:
    """A graph's bytes as samples: two make one where there are more than 8 bits."""
    return array if batch.bits == 8 else array.view("<u2")[..., 0]
