"""What FFmpeg only logs: that it skipped, or made up, what it could not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging

MOST = 3  # told of an input that is damaged all over


class Complaints:
    """What was logged so far."""

    def __init__(self, logs: list[tuple[int, str, str]]):
        self._logs = logs

    def told(self) -> list[str]:
        """Each error once."""
        lines = (f"{' '.join(text.split())} ({name})" for level, name, text in self._logs if level <= av.logging.ERROR)
        return list(dict.fromkeys(lines))[:MOST]

    def forget(self) -> None:
        self._logs.clear()


@contextmanager
def complaints() -> Iterator[Complaints]:
    """Errors that FFmpeg logs in this thread meanwhile.

    No codec may run threads of its own here: one that logs waits for Python, which may be waiting for the codec.
    """
    before = av.logging.get_level()
    logging.getLogger("libav").addHandler(logging.NullHandler())  # else Python prints what other threads log
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            yield Complaints(logs)
    finally:
        av.logging.set_level(before)
