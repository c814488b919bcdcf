"""Queues between stages: a bounded one that waits. Each owns exactly one thread and ends it."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


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
