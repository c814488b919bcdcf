"""Before and after of one moment in one picture, stamped with its time, and handed to whoever watches.

The page shows before and after side by side. Sent as two streams they would be of two moments, so they are sent as one
picture: the upscaled one on top, the small one below it, and in the lowest rows a stamp of black and white cells that
says when the picture was captured and how large the small one is. Each way to the page (WebRTC, MP4, JPEG) carries it
the same, and the page can tell from any picture alone how to take it apart and how old it is.
"""

from __future__ import annotations

import threading

import numpy as np

from rtsr.frames import Frame
from rtsr.live.contract import Shown
from rtsr.threads import Slot

GAP = 8  # rows between the two: a codec's filters mix a few rows of what touches
CELL = 8  # pixels of a stamp's cell each way: a block of every codec's transform, so it stays black or white
BITS = 64
_TIME_BITS, _SIDE_BITS, _CHECK_BITS = 24, 13, 14
_BLACK, _WHITE, _NEUTRAL = 16, 235, 128
_PRIME = 16381  # the largest below 2**14


def stamp_bits(at: float, width: int, height: int) -> int:
    """What a stamp says, highest bit first: milliseconds of `at` (modulo 2**24), the small picture's size, a check."""
    milliseconds = int(at * 1000) % (1 << _TIME_BITS)
    check = (milliseconds * 31 + width * 7 + height * 13 + 5) % _PRIME
    return ((milliseconds << _SIDE_BITS | width) << _SIDE_BITS | height) << _CHECK_BITS | check


def pack(picture: Shown) -> Frame:
    """The two pictures and the stamp in one."""
    large, small = picture.large, picture.small
    height, width = large.y.shape[1:]
    below = height + GAP
    per_row = width // CELL
    stamp_rows = -(-BITS // per_row) * CELL
    end = below + small.y.shape[1]
    total = -(-(end + GAP + stamp_rows) // 16) * 16
    y = np.full((1, total, width), _BLACK, np.uint8)
    uv = np.full((2, total // 2, width // 2), _NEUTRAL, np.uint8)
    for frame, top in ((large, 0), (small, below)):
        rows, columns = frame.y.shape[1:]
        y[:, top : top + rows, :columns] = frame.y
        uv[:, top // 2 : (top + rows) // 2, : columns // 2] = frame.uv
    y[0, height : height + GAP // 2] = y[0, height - 1]
    y[0, below - GAP // 2 : below] = y[0, below]
    y[0, end : end + GAP] = y[0, end - 1]
    uv[:, height // 2 : height // 2 + GAP // 4] = uv[:, height // 2 - 1, None]
    uv[:, (below - GAP // 2) // 2 : below // 2] = uv[:, below // 2, None]
    uv[:, end // 2 : (end + GAP) // 2] = uv[:, end // 2 - 1, None]
    bits = stamp_bits(picture.at, small.y.shape[2], small.y.shape[1])
    for i in range(BITS):
        if bits >> (BITS - 1 - i) & 1:
            row, column = total - stamp_rows + i // per_row * CELL, i % per_row * CELL
            y[0, row : row + CELL, column : column + CELL] = _WHITE
    return Frame(y, uv, large.pts, large.time_base)


class Moment:
    """One shown picture; packed once for all who want it so."""

    def __init__(self, shown: Shown) -> None:
        self.shown = shown
        self._lock = threading.Lock()
        self._packed: Frame | None = None

    def frame(self, split: bool) -> Frame:
        """Both halves packed, or the upscaled picture alone."""
        if not split:
            return self.shown.large
        with self._lock:
            if self._packed is None:
                self._packed = pack(self.shown)
            return self._packed


class Feed:
    """Hands the newest moment to every slot that is watching; none of them ever waits for another."""

    def __init__(self) -> None:
        self.last: Moment | None = None
        self._slots: list[Slot[Moment]] = []
        self._lock = threading.Lock()

    def put(self, shown: Shown) -> None:
        moment = Moment(shown)
        with self._lock:
            self.last = moment
            slots = list(self._slots)
        for slot in slots:
            slot.put(moment)

    def watch(self, slot: Slot[Moment]) -> None:
        with self._lock:
            self._slots.append(slot)
            if self.last is not None:
                slot.put(self.last)  # a picture at once, even of a source that stands still

    def leave(self, slot: Slot[Moment]) -> None:
        with self._lock:
            if slot in self._slots:
                self._slots.remove(slot)
