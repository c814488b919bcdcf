"""Sources yield frames. The contract every one of them keeps."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from rtsr.frames import Frame, VideoSpec


class Source(Protocol):
    """Where frames come from. spec is known from the opening on."""

    spec: VideoSpec

    def frames(self) -> Iterator[Frame]:
        """All frames in presentation order, once, of one size, pts strictly rising. One thread at a time.

        Raises SourceError. What could not be decoded is counted in `damage`, never skipped in silence.
        """
        ...

    @property
    def damage(self) -> Sequence[str]:
        """One sentence for everything of the input that frames() could not deliver; empty when all is well."""
        ...

    def close(self) -> None:
        """Free the decoder. Safe to call twice."""
        ...


def open_source(path: str | os.PathLike[str]) -> Source:
    """Open a video file for its frames. Raises SourceError or ConfigError."""
    from rtsr.sources.file import FileSource  # av loads only when asked for

    return FileSource(Path(path))
