"""A sink and the thread it lives in."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rtsr.errors import RtsrError
from rtsr.live.contract import LiveSink, Shown
from rtsr.threads import Slot

_JOIN_S = 15.0  # a network peer that takes nothing any more is left behind then


class NullSink:
    """Takes everything and does nothing, at once: what is measured is everything before it."""

    name = "null"
    is_view = False

    def show(self, picture: Shown) -> None:
        pass

    def close(self) -> None:
        pass


class Output:
    """Feeds a sink from a slot of its own, in a thread of its own, which also closes it.

    depth: pictures that may wait; 1 for everything a person looks at. dress: makes of a picture what this sink shows.
    shown is called after each picture with the time it took from capture; failed when the sink raised.
    """

    def __init__(
        self,
        sink: LiveSink,
        *,
        depth: int = 1,
        dress: Callable[[Shown], Shown] = lambda shown: shown,
        shown: Callable[[float, float], None] = lambda now, ms: None,
        failed: Callable[[Output, BaseException], None] = lambda output, error: None,
    ):
        self.sink = sink
        self.slot: Slot[Shown] = Slot(depth)
        self.pictures = 0
        self._dress, self._shown, self._failed = dress, shown, failed
        self._thread = threading.Thread(target=self._work, name=f"rtsr-{sink.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def step(self, timeout_s: float | None) -> None:
        """Show what waits, if anything comes in time. Raises what the sink raises."""
        picture = self.slot.get(timeout_s)
        if picture is not None:
            self.sink.show(self._dress(picture))
            now = time.monotonic()
            self.pictures += 1
            self._shown(now, 1e3 * (now - picture.at))

    def end(self) -> None:
        """Let the thread show what it has, close the sink and end. Safe to call twice."""
        self.slot.close()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                self._failed(self, RtsrError(f"{self.sink.name} does not end; it is left behind"))

    def close_here(self) -> None:
        """Close a sink that never had a thread."""
        self.slot.close()
        self.sink.close()

    def _work(self) -> None:
        try:
            while not self.slot.is_over:
                self.step(None)
        except BaseException as error:  # handed to the session, whatever it is
            self._failed(self, error)
        finally:
            self.slot.close()
            try:
                self.sink.close()
            except BaseException as error:
                self._failed(self, error)
