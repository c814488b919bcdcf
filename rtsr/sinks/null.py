"""A sink that only counts: for measuring everything before it."""

from __future__ import annotations

from rtsr.frames import FrameBatch


class NullSink:
    def __init__(self) -> None:
        self.frames = 0

    def write(self, batch: FrameBatch) -> None:
        self.frames += len(batch)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        pass
