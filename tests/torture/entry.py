"""One file of the torture corpus: how it is made, how it is upscaled, and what must come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

REFERENCE = ("--backend", "reference")
NANO = ("--model", "nano")


@dataclass(frozen=True)
class Expect:
    """What must come of a file, written by hand. None: not looked at.

    pix_fmt: FFmpeg's names, any of which is right. numbers: what the pictures show, in order; by default 0, 1, 2 ...
    span_s: from the first picture to the last. delay_s: from the first sound to the first picture. streams: how many
    of each kind. color: FFmpeg's numbers for matrix, primaries, transfer, range. notices, sentence: regular
    expressions, searched in what is said on the way and in the error.
    """

    exit_code: int = 0
    size: tuple[int, int] | None = (192, 128)
    pix_fmt: tuple[str, ...] = ("yuv420p",)
    codec: str | None = None
    frames: int | None = 24
    numbers: Sequence[int] | None = ()
    span_s: float | None = None
    delay_s: float | None = None
    streams: dict[str, int] = field(default_factory=lambda: {"video": 1})
    languages: tuple[str, ...] | None = None
    chapters: tuple[str, ...] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    color: tuple[int, int, int, int] | None = None
    hdr: dict[str, float] | None = None
    sample_aspect_ratio: str | None = None
    rotation: int | None = None
    interlaced: bool = False
    notices: tuple[str, ...] = ()
    sentence: str = ""
    verify: bool = True


@dataclass(frozen=True)
class Entry:
    """file: its name in the corpus; a pattern for image sequences. output: the name of what is made of it.

    make: writes the file under the path it is given. arguments: of the command line, beside input, output and scale.
    served: given to rtsr as an http address.
    """

    file: str
    what: str
    make: Callable[[Path], object]
    expect: Expect = Expect()
    output: str = ""
    arguments: tuple[str, ...] = ()
    engine: tuple[str, ...] = REFERENCE
    served: bool = False

    @property
    def name(self) -> str:
        """The file's name, or the folder's that holds an image sequence, without what a shell would trip over."""
        return self.file.partition("/")[0]

    @property
    def target(self) -> str:
        return self.output or "out" + Path(self.file).suffix

    def describe(self) -> str:
        """The JSON that lies beside the file."""
        what: dict[str, Any] = {"file": self.file, "what": self.what, "output": self.target, "served": self.served}
        what["arguments"] = ["--scale", "2", *self.engine, *self.arguments]
        expect = asdict(self.expect)
        if expect["numbers"] is not None:
            expect["numbers"] = list(expect["numbers"] or range(self.expect.frames or 0))
        return json.dumps({**what, "expect": expect}, indent=1, ensure_ascii=False) + "\n"
