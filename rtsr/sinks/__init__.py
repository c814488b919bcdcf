"""Sinks take frames. The contract every one of them keeps."""

from __future__ import annotations

from typing import Protocol

from rtsr.frames import FrameBatch


class Sink(Protocol):
    """Where frames go."""

    def write(self, batch: FrameBatch) -> None:
        """Take the batch's frames, in order. Raises SinkError."""
        ...

    def finish(self) -> None:
        """All frames are written: flush and make the result visible under its final name. Raises SinkError."""
        ...

    def close(self) -> None:
        """Free everything; without finish() before it, leave nothing under the final name. Safe to call twice."""
        ...
