"""From the timestamps of containers and devices to time.monotonic()."""

from __future__ import annotations

import time

_LATE_S = 0.2  # a file this far behind its clock has stopped and goes on: the clock does too
_OWN_CLOCK_S = 1.0  # a device's stamp this fresh is its capture time


class CaptureClock:
    """When a picture was there, on time.monotonic(). offset: what to add to the container's seconds to get there."""

    def __init__(self, paced: bool, is_device: bool):
        self.paced, self._is_device = paced, is_device
        self.offset: float | None = None
        self.step = 1 / 30  # seconds between the last two pictures of a paced source
        self._last: float | None = None

    def moment(self, seconds: float | None, arrived: float) -> float:
        """seconds: the picture's timestamp; arrived: when its packet was there. In the future for paced ones."""
        if seconds is None:
            return arrived
        if self._is_device and self.offset is None:
            # V4L2 stamps with the monotonic clock, x11grab with the wall clock; both at the capture.
            self.offset = next(
                (
                    arrived - clock
                    for clock in (arrived, time.time() - time.monotonic() + arrived)
                    if 0 <= clock - seconds < _OWN_CLOCK_S
                ),
                arrived - seconds,
            )
        if self._is_device:
            at = (self.offset or 0.0) + seconds
            return at if 0 <= arrived - at < _OWN_CLOCK_S else arrived
        if not self.paced:
            # What came with the least delay tells the sender's clock best; the picture itself was here when it arrived.
            self.offset = min(arrived - seconds, self.offset) if self.offset is not None else arrived - seconds
            return arrived
        self.step = seconds - self._last if self._last is not None and seconds > self._last else self.step
        backwards = self._last is not None and seconds <= self._last
        self._last = seconds
        if self.offset is None or backwards or abs(self.offset + seconds - time.monotonic()) > _LATE_S + 2 * self.step:
            self.offset = time.monotonic() - seconds
        return self.offset + seconds
