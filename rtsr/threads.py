"""Queues between stages: a bounded one that waits, and for live work one that drops. Each owns exactly one thread and
ends it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


def usable_cores() -> int:
    """Cores that this process may run on, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class prefetch(Generic[T]):
    """Run an iterable in a thread of its own, at most `depth` items ahead of the reader.

        with prefetch(source.frames(), 4, "decode") as frames:
            for frame in frames: ...

    Leaving the block, on any way out, stops and joins the thread and closes the iterable. An error in the thread is
    raised in the reader, once, after the items that came before it. Nested blocks close from the inside out, so a
    stage that waits for its upstream is always fed or ended.
    """

    def __init__(self, iterable: Iterable[T], depth: int, name: str):
        self._iterable = iterable
        self._depth = depth
        self._items: deque[T] = deque()
        self._changed = threading.Condition()
        self._stopping = self._finished = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"rtsr-{name}", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._read()

    def __exit__(self, *exc: object) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        self._items.clear()

    def _work(self) -> None:
        try:
            for item in self._iterable:
                with self._changed:
                    self._changed.wait_for(lambda: len(self._items) < self._depth or self._stopping)
                    if self._stopping:
                        break
                    self._items.append(item)
                    self._changed.notify_all()
                del item  # a frame that was handed on must not live until the next one is ready
        except BaseException as error:  # handed to the reader, whatever it is
            self._error = error
        finally:
            try:
                if close := getattr(self._iterable, "close", None):
                    close()
            except BaseException as error:
                self._error = self._error or error
            with self._changed:
                self._finished = True
                self._changed.notify_all()

    def _read(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._finished)
                if not self._items:
                    if self._error is not None:
                        error, self._error = self._error, None
                        raise error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item
            del item


class Slot(Generic[T]):
    """Room for the newest `depth` items: a full one gives up its oldest, so that nobody who puts ever waits.

    dropped: how many were given up unread. Any threads may put and get.
    """

    def __init__(self, depth: int = 1) -> None:
        self.dropped = 0
        self._items: deque[T] = deque()
        self._depth = depth
        self._changed = threading.Condition()
        self._closed = False

    def put(self, item: T) -> None:
        """Leave an item; after close() it is thrown away."""
        with self._changed:
            if self._closed:
                return
            if len(self._items) == self._depth:
                self._items.popleft()
                self.dropped += 1
            self._items.append(item)
            self._changed.notify_all()

    def get(self, timeout_s: float | None = None) -> T | None:
        """The oldest item here; None once closed and empty, or if none comes in time."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._closed, timeout_s)
            return self._items.popleft() if self._items else None

    @property
    def is_over(self) -> bool:
        """Whether it is closed and everything in it was read."""
        with self._changed:
            return self._closed and not self._items

    def close(self) -> None:
        """Let nothing more in; what is here can still be read. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class latest(Generic[T]):
    """Run an iterable in a thread of its own, as fast as it comes; the reader gets the newest item, never an old one.

        with latest(source.frames(), "capture", stop=source.close) as frames:
            for frame in frames: ...
            frames.dropped

    The live twin of prefetch(): newer items replace the one that waits, and `dropped` counts those. The last item
    before the end is always delivered. An error in the thread is raised in the reader, once, after that item. Leaving
    the block calls stop, which must make a blocked iterable end, joins the thread and closes the iterable.
    """

    def __init__(self, iterable: Iterable[T], name: str, stop: Callable[[], None] = lambda: None):
        self._iterable, self._stop = iterable, stop
        self._slot: Slot[T] = Slot()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=f"rtsr-{name}", daemon=True)

    @property
    def dropped(self) -> int:
        return self._slot.dropped

    def __enter__(self) -> latest[T]:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stopping = True
        self._stop()
        self._thread.join()
        self._slot.get(timeout_s=0)  # a frame that nobody wants keeps its memory no longer

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        item = self._slot.get()
        if item is None:
            error, self._error = self._error, None
            raise StopIteration if error is None else error
        return item

    def _work(self) -> None:
        try:
            for item in self._iterable:
                if self._stopping:
                    break
                self._slot.put(item)
                del item  # a frame that was dropped must not live until the next one comes
        except BaseException as error:  # handed to the reader, whatever it is
            self._error = error
        finally:
            try:
                if close := getattr(self._iterable, "close", None):
                    close()
            except BaseException as error:
                self._error = self._error or error
            self._slot.close()
