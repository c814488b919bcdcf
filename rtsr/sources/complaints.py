"""What FFmpeg only logs: that it skipped, or made up, what it could not read."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import av
import av.logging

MOST = 3  # told of an input that is damaged all over


@contextmanager
def complaints() -> Iterator[list[str]]:
    """Errors that FFmpeg logs in this thread meanwhile, each once; in the list when the block is left.

    No codec may run threads of its own here: one that logs waits for Python, which may be waiting for the codec.
    """
    found: list[str] = []
    before = av.logging.get_level()
    logging.getLogger("libav").addHandler(logging.NullHandler())  # else Python prints what other threads log
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as logs:
            try:
                yield found
            finally:
                lines = (
                    f"{' '.join(text.split())} ({name})" for level, name, text in logs if level <= av.logging.ERROR
                )
                found += list(dict.fromkeys(lines))[:MOST]
    finally:
        av.logging.set_level(before)
