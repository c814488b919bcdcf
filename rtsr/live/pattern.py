"""`--source testsrc`: a moving pattern with a clock, paced by the wall clock; for trying, measuring and tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np

from rtsr.color import matrix_of
from rtsr.errors import ConfigError
from rtsr.frames import ColorTags, Frame
from rtsr.live.contract import Captured, Sound
from rtsr.sources.synthetic import SyntheticSource

LARGEST = 4096  # pixels a side
FASTEST = 240  # frames a second
_PERIOD = 64 * 3 * 2  # frames until the pattern is where it was: more than enough to look at


class PatternSource:
    """Frame i is due i / rate seconds after the first; one that could not be made in time is left out, as a camera
    would, and its number with it. Captured.at is when it was due, so that a late thread counts as latency.

    Raises ConfigError for a size or rate out of bounds.
    """

    name = "test pattern"
    has_sound = False
    came_as: str | None = None

    def __init__(self, width: int = 640, height: int = 360, rate: Fraction = Fraction(30)):
        if not (16 <= width <= LARGEST and 16 <= height <= LARGEST and width % 2 == height % 2 == 0):
            raise ConfigError(f"a test pattern of {width}x{height} cannot be made; use even sides of 16 to {LARGEST}")
        if not 0 < rate <= FASTEST:
            raise ConfigError(f"a test pattern at {float(rate):g} fps cannot be made; use up to {FASTEST}")
        plain = SyntheticSource(width, height, _PERIOD, 1)
        color = ColorTags(matrix_of(plain.spec.color.colorspace, height), range=1)
        self.spec = replace(plain.spec, time_base=1 / rate, rate=rate, frames=None, duration=None, color=color)
        self._plain = plain
        self._closed = threading.Event()

    def frames(self) -> Iterator[Captured]:
        interval = float(1 / (self.spec.rate or 1))
        begun = time.monotonic()
        number = 0
        moving = self._moving()
        while not self._closed.is_set():
            due = begun + number * interval
            now = time.monotonic()
            if now < due:
                if self._closed.wait(due - now):
                    return
            elif now - due > interval:
                number = int((now - begun) / interval)
                continue
            yield Captured(self._with_clock(next(moving), number), due, number)
            number += 1

    def listen(self, ear: Callable[[Sound], None]) -> Callable[[], None]:
        return lambda: None

    def close(self) -> None:
        self._closed.set()

    def _moving(self) -> Iterator[Frame]:
        while True:
            yield from self._plain.frames()

    def _with_clock(self, frame: Frame, number: int) -> Frame:
        """The frame's own number and time since the first in the lower left corner."""
        y, uv = frame.y.copy(), frame.uv.copy()
        height = y.shape[1]
        scale = height / 360
        seconds = number * float(self.spec.time_base)
        text = f"{int(seconds // 60):02d}:{seconds % 60:06.3f} {number:06d}"
        (width, tall), base = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 1)
        top, right = height - tall - 3 * base, width + 2 * base
        y[0, top:, :right] = 16
        uv[:, top // 2 :, : right // 2] = 128
        cv2.putText(y[0], text, (base, height - base), cv2.FONT_HERSHEY_DUPLEX, scale, 235, max(round(scale), 1))
        return replace(frame, y=np.ascontiguousarray(y), uv=uv, pts=number, time_base=self.spec.time_base, duration=1)
