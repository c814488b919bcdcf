"""Going on when memory runs out: fewer frames at once, then parts of a frame that nobody can tell from the whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from rtsr.backends import Engine
from rtsr.errors import EngineError, OutOfMemoryError
from rtsr.frames import FrameBatch

# How far away a pixel can matter, in input pixels. The deepest net of the ladder, `fast`, is 9 convolutions of 3x3: 9.
# Chroma reaches further: 3 samples to be put in its place and 4 to be enlarged by Lanczos-4, each 4 pixels wide in
# 4:1:0: 28.
HALO = 32
# Tiles begin at multiples of this. Chroma that 4 pixels share needs 4. The rest keeps each sample in the same lane of
# OpenCV's vectors as in the whole frame (32 lanes of a chroma plane at half size): a row's last few samples are summed
# in another order, and 16-bit results differ by one then.
ALIGN = 64


@dataclass(frozen=True, slots=True)
class Span:
    """One tile along one side of a frame, in input pixels: it is computed from start on for `size` pixels, of which
    the result holds first to last."""

    start: int
    size: int
    first: int
    last: int


class TilingEngine:
    """An engine that survives OutOfMemoryError of the one it wraps; all that was in flight is done again, in order.

    The engine's own stream() is used until it runs out of memory. From there on frames are done one at a time, then,
    when that fails as well, in 2, 4, 8, ... tiles, and it stays at what worked. The result is the same bit for bit,
    but at x3: OpenCV's weights depend on the place in the picture there by 32-bit rounding, so that Lanczos, and what
    is interpolated of more than 8 bits, can be a code value off. Tiles of a frame have one size, so that a backend
    compiles once.

    notice gets one sentence each time less is tried. parts: 0 begins with the engine's own stream(), 1 with one frame
    at a time, more with as many tiles. One thread at a time. Raises EngineError when the smallest tile is too much.
    """

    def __init__(self, engine: Engine, notice: Callable[[str], None] = lambda sentence: None, parts: int = 0):
        self.name, self.sha256 = engine.name, engine.sha256
        self.backend, self.scale = engine.backend, engine.scale
        self.gpu: int | None = getattr(engine, "gpu", None)  # whose decoded pictures it takes as they lie there
        self.engines = (engine,)  # which hold memory
        self._engine, self._notice = engine, notice
        self._parts = parts

    def leave_on_gpu(self) -> None:
        """See TensorRtEngine.leave_on_gpu(); for an engine whose gpu is not None. Tiles are put together in memory."""
        cast(Any, self._engine).leave_on_gpu()

    def infer(self, batch: FrameBatch) -> FrameBatch:
        if not self._parts:
            try:
                return self._engine.infer(batch)
            except OutOfMemoryError as error:
                self._shrink(batch, error)
        return self._in_parts(batch)

    def stream(self, batches: Iterable[FrameBatch]) -> Iterator[FrameBatch]:
        upstream = iter(batches)
        in_flight: deque[FrameBatch] = deque()
        if not self._parts:
            results = self._engine.stream(_noting(upstream, in_flight))
            try:
                for result in results:
                    in_flight.popleft()
                    yield result
                    del result
            except OutOfMemoryError as error:
                if not in_flight:
                    raise  # not the engine's but of what feeds it
                self._shrink(in_flight[0], error)
            finally:
                if close := getattr(results, "close", None):
                    close()
        while in_flight:
            yield self._in_parts(in_flight.popleft())
        for batch in upstream:
            yield self._in_parts(batch)

    def close(self) -> None:
        self._engine.close()

    def _in_parts(self, batch: FrameBatch) -> FrameBatch:
        """The whole batch in as small parts as it takes."""
        while True:
            try:
                return self._tiled(batch)
            except (OutOfMemoryError, MemoryError) as error:
                self._shrink(batch, error)

    def _tiled(self, batch: FrameBatch) -> FrameBatch:
        rows, columns = grid(*batch.size, self._parts)
        if len(batch) == len(rows) == len(columns) == 1:
            return self._engine.infer(batch)
        y = uv = None
        for i in range(len(batch)):
            for row in rows:
                for column in columns:
                    part = self._engine.infer(_cut(batch, i, row, column))
                    if y is None or uv is None:  # after the first tile: a backend has freed what failed before by then
                        y, uv = _room_for(batch, part, self.scale)
                    _paste(y[i], part.y[0], row, column, self.scale, (0, 0))
                    _paste(uv[i], part.uv[0], row, column, self.scale, batch.pixels.chroma)
        assert y is not None and uv is not None, "a batch has a frame"
        return batch.with_planes(y, uv)

    def _shrink(self, batch: FrameBatch, error: Exception) -> None:
        """Take less at once from now on, and say so. Raises EngineError when there is no less."""
        height, width = batch.size
        tried = tile_size(height, width, self._parts)
        if not self._parts:
            self._parts = 1
            self._notice(f"memory ran out at {batch.seconds:.3f} s: one frame at a time from here on")
            return
        for parts in (2 * self._parts, 4 * self._parts, 8 * self._parts):  # an odd shape may not shrink at each
            size = tile_size(height, width, parts)
            if size[0] * size[1] < tried[0] * tried[1]:
                break
        else:
            raise EngineError(
                f"{self.backend} has too little memory for {self.name} on {width}x{height} at {batch.seconds:.3f} s, "
                f"even in tiles of {tried[1]}x{tried[0]} ({error}); free some memory, or choose a smaller --scale, "
                "a smaller --model or a faster --preset"
            ) from error
        self._parts = parts
        rows, columns = grid(height, width, parts)
        self._notice(
            f"memory ran out at {batch.seconds:.3f} s: frames of {width}x{height} are done in "
            f"{len(rows) * len(columns)} tiles of {size[1]}x{size[0]} from here on; the picture is the same"
        )


def grid(height: int, width: int, parts: int) -> tuple[list[Span], list[Span]]:
    """Rows and columns of about `parts` tiles, as square as they get; fewer where a side is too short to be cut."""
    rows = columns = 1
    while rows * columns < parts:
        if height * columns > width * rows:
            rows *= 2
        else:
            columns *= 2
    return spans(height, rows), spans(width, columns)


def tile_size(height: int, width: int, parts: int) -> tuple[int, int]:
    """Height and width of each of the tiles, in input pixels with their overlap."""
    rows, columns = grid(height, width, parts)
    return rows[0].size, columns[0].size


def spans(side: int, count: int) -> list[Span]:
    """Cut a side of a frame into `count` overlapping tiles of one size, the smallest possible.

    Each begins at a multiple of ALIGN, the first and the last end at the frame's rim, and all but those ends is at
    least HALO away from what a tile leaves out. Fewer tiles where there is no room for as many.
    """
    for shorter in range(side // ALIGN, 0, -1):  # than the whole side, in steps of ALIGN
        size = side - shorter * ALIGN
        step = -(-shorter // max(count - 1, 1)) * ALIGN  # between neighbours, at most
        if count > 1 and size >= step + 2 * HALO:
            break
    else:
        return [Span(0, side, 0, side)]
    starts = sorted({i * shorter // (count - 1) * ALIGN for i in range(count)})
    cuts = [0, *(start + HALO for start in starts[1:]), side]
    return [Span(start, size, first, last) for start, first, last in zip(starts, cuts, cuts[1:], strict=False)]


def _noting(batches: Iterator[FrameBatch], in_flight: deque[FrameBatch]) -> Iterator[FrameBatch]:
    """Pass batches on, and remember them for when they must be done again."""
    for batch in batches:
        in_flight.append(batch)
        yield batch
        del batch


def _cut(batch: FrameBatch, i: int, row: Span, column: Span) -> FrameBatch:
    """One tile of frame i, as views: don't write to them."""
    across, down = batch.pixels.chroma
    return replace(
        batch,
        y=batch.y[i : i + 1, :, _read(row, 0), _read(column, 0)],
        uv=batch.uv[i : i + 1, :, _read(row, down), _read(column, across)],
        pts=batch.pts[i : i + 1],
        durations=batch.durations[i : i + 1],
    )


def _read(span: Span, shared: int) -> slice:
    """What a tile is computed from, in samples that 2**shared pixels share; the last one may be shared by fewer."""
    return slice(span.start >> shared, -(-(span.start + span.size) >> shared))


def _room_for(batch: FrameBatch, part: FrameBatch, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Memory for the whole result. Raises MemoryError."""
    height, width = (side * scale for side in batch.size)
    y = np.empty((len(batch), part.y.shape[1], height, width), part.y.dtype)
    chroma = batch.pixels.chroma_size(height, width)
    return y, np.empty((len(batch), part.uv.shape[1], *chroma), part.uv.dtype)


def _paste(whole: np.ndarray, part: np.ndarray, row: Span, column: Span, scale: int, shared: tuple[int, int]) -> None:
    """Put what a tile is good for into the result: planes (C, H, W). shared: as in PixelFormat.chroma."""
    across, down = shared
    to_rows, from_rows = _owned(row, down, scale)
    to_columns, from_columns = _owned(column, across, scale)
    whole[:, to_rows, to_columns] = part[:, from_rows, from_columns]


def _owned(span: Span, shared: int, scale: int) -> tuple[slice, slice]:
    """Where the result's samples of a tile lie in the whole and in the tile."""
    start = (span.start >> shared) * scale
    first = (span.first >> shared) * scale
    last = -(-span.last * scale >> shared)  # the frame's last sample may be shared by fewer; other cuts are even
    return slice(first, last), slice(first - start, last - start)
