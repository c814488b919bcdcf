"""Sinks, each with the thread it lives in."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from rtsr.errors import RtsrError
from rtsr.live.contract import LiveSink, Shown
from rtsr.threads import Slot

_JOIN_S = 15.0  # a network peer that takes nothing any more is left behind then


class NullSink:
    """Takes everything and does nothing, at once: what is measured is everything before it."""

    name = "null"
    is_view = False

    def show(self, picture: Shown) -> bool:
        return True

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
        shown: Callable[[Output, float, float], None] = lambda output, now, ms: None,
        failed: Callable[[Output, BaseException], None] = lambda output, error: None,
    ):
        self.sink = sink
        self.slot: Slot[Shown] = Slot(depth)
        self._refused = 0
        self._dress, self._shown, self._failed = dress, shown, failed
        self._thread = threading.Thread(target=self._work, name=f"rtsr-{sink.name}", daemon=True)

    @property
    def dropped(self) -> int:
        """Pictures that newer ones replaced, or that the sink could not pass on."""
        return self.slot.dropped + self._refused

    def start(self) -> None:
        self._thread.start()

    def step(self, timeout_s: float | None) -> None:
        """Show what waits, if anything comes in time. Raises what the sink raises."""
        picture = self.slot.get(timeout_s)
        if picture is not None:
            if self.sink.show(self._dress(picture)):
                now = time.monotonic()
                self._shown(self, now, 1e3 * (now - picture.at))
            else:
                self._refused += 1

    def end(self) -> None:
        """Let the thread show what it has, close the sink and end. Safe to call twice."""
        self.slot.close()
        if self._thread.ident is None:
            self._close()
        elif self._thread.is_alive():
            self._thread.join(_JOIN_S)
            if self._thread.is_alive():
                self._failed(self, RtsrError(f"{self.sink.name} does not end; it is left behind"))

    def _work(self) -> None:
        try:
            while not self.slot.is_over:
                self.step(None)
        except BaseException as error:  # handed to the session, whatever it is
            self._failed(self, error)
        finally:
            self.slot.close()
            self._close()

    def _close(self) -> None:
        try:
            self.sink.close()
        except BaseException as error:
            self._failed(self, error)


class Outputs:
    """All outputs of a session. Any threads.

    first_shown: called with the time and the milliseconds since capture whenever the first sink has shown a picture.
    over: called when no sink is left, or when one failed as it should not have, with that error. note: gets a sentence
    for each sink that is lost while others go on.
    """

    def __init__(
        self,
        first_shown: Callable[[float, float], None],
        over: Callable[[BaseException], None],
        note: Callable[[str], None],
    ):
        self.errors: list[str] = []
        self._first_shown, self._over, self._note = first_shown, over, note
        self._all: list[Output] = []
        self._dropped_before: Counter[str] = Counter()  # by sinks that are gone
        self._running = False
        self._lock = threading.RLock()

    def add(self, sink: LiveSink, depth: int, dress: Callable[[Shown], Shown]) -> Output:
        """Give a sink its thread, at once if the session runs."""
        output = Output(sink, depth=depth, dress=dress, shown=self._was_shown_by, failed=self._failed)
        with self._lock:
            self._all.append(output)
            if self._running:
                output.start()
        return output

    def has(self, output: Output) -> bool:
        """Whether it is still in use."""
        with self._lock:
            return output in self._all

    def start(self) -> None:
        with self._lock:
            self._running = True
            for output in self._all:
                output.start()

    def put(self, shown: Shown) -> None:
        """Leave a picture for every sink."""
        with self._lock:
            outputs = list(self._all)
        for output in outputs:
            output.slot.put(shown)

    def end(self, output: Output) -> None:
        """Take one out; it shows what it has and closes."""
        self._forget(output)
        output.end()

    def end_all(self) -> None:
        """All of them, abreast."""
        with self._lock:
            self._running = False
            outputs = list(self._all)
        for output in outputs:
            output.slot.close()
        for output in outputs:
            output.end()

    def dropped(self) -> dict[str, int]:
        """Pictures that did not go out, by the sinks' names."""
        with self._lock:
            counts = Counter(self._dropped_before)
            for output in self._all:
                counts[output.sink.name] += output.dropped
        return dict(counts)

    def _was_shown_by(self, output: Output, now: float, ms: float) -> None:
        if self._all[:1] == [output]:
            self._first_shown(now, ms)

    def _forget(self, output: Output) -> bool:
        """Whether it was the last one."""
        with self._lock:
            if output in self._all:
                self._all.remove(output)
                self._dropped_before[output.sink.name] += output.dropped
            return not self._all

    def _failed(self, output: Output, error: BaseException) -> None:
        """One sink less; the session goes on while there is another."""
        is_last = self._forget(output)
        known = isinstance(error, RtsrError)
        self.errors.append(str(error))
        if is_last or not known:
            self._over(error)
        else:
            self._note(str(error))
