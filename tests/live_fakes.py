"""A device layer that yields what PyAV yields: real pictures, in a container that does what a test says."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import av.error
import numpy as np

from rtsr.backends import EngineChoice
from rtsr.live.contract import Shown
from rtsr.live.tiers import Tier, ladder

MICROSECONDS = Fraction(1, 1_000_000)


def picture(width: int = 64, height: int = 48, level: int = 100, fmt: str = "yuyv422") -> av.VideoFrame:
    """A gray picture as a camera gives it, stamped with the monotonic clock as V4L2 does."""
    made = av.VideoFrame.from_ndarray(np.full((height, width, 3), level, np.uint8), format="rgb24").reformat(format=fmt)
    made.pts, made.time_base = int(time.monotonic() * 1e6), MICROSECONDS
    return made


class FakeDevice:
    """Stands for av.open's container. steps: each a picture to give, or something to call, which may sleep or raise."""

    def __init__(self, *steps: av.VideoFrame | Callable[[], object], then_blocks: bool = False):
        self._steps, self._then_blocks = steps, then_blocks
        self.released = threading.Event()
        self.closed = 0
        context = SimpleNamespace(flags=0)
        self.video = SimpleNamespace(type="video", codec_context=context, average_rate=Fraction(30))
        self.streams = SimpleNamespace(video=[self.video], audio=[])
        self.duration = None

    def demux(self, *streams: Any) -> Iterator[Any]:
        for step in self._steps:
            given = step() if callable(step) else step
            if given is not None:
                yield SimpleNamespace(stream=self.video, decode=lambda given=given: [given])
        if self._then_blocks:
            self.released.wait(30)

    def close(self) -> None:
        self.closed += 1


def removed() -> None:
    """What reading from a camera that was pulled out does."""
    raise av.error.OSError(19, "No such device", "/dev/video0")


def small_ladder(scale: int = 2) -> list[Tier]:
    """One tier: plain interpolation, no engine file."""
    return ladder(EngineChoice(scale, backend="reference"))


class Gallery:
    """A sink that keeps what it is shown; fails at the picture of that number."""

    name = "gallery"
    is_view = False

    def __init__(self, fail_at: int | None = None, slow_s: float = 0.0):
        self.pictures: list[Shown] = []
        self.closed = 0
        self._fail_at, self._slow_s = fail_at, slow_s

    def show(self, picture: Shown) -> bool:
        from rtsr.errors import SinkError

        if self._fail_at is not None and len(self.pictures) >= self._fail_at:
            raise SinkError("the gallery is full")
        time.sleep(self._slow_s)
        self.pictures.append(picture)
        return True

    def close(self) -> None:
        self.closed += 1
