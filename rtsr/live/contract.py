"""What the parts of `rtsr live` say to one another: captured frames, shown pictures, sources, sinks, controls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

from rtsr.frames import Frame, VideoSpec


@dataclass(frozen=True, slots=True)
class Captured:
    """A frame as it came in. at: time.monotonic() of its capture. number: counts what the source gave, drops too."""

    frame: Frame
    at: float
    number: int


@dataclass(frozen=True, slots=True)
class Shown:
    """An upscaled frame on its way to the sinks: small as captured, large as made by `tier`."""

    small: Frame
    large: Frame
    at: float
    number: int
    tier: str


@dataclass(frozen=True, slots=True)
class Sound:
    """Decoded samples (an av.AudioFrame) and when the first of them was heard, on the clock of Captured.at."""

    samples: Any
    at: float


class LiveSource(Protocol):
    """Where live frames come from. spec is known from the opening on; name is for people.

    Every frame is 8-bit 4:2:0 of even width and height, limited range; the size may change midway. spec.color always
    names its matrix. came_as: what the pictures were before they were made that; None if they came so.
    """

    spec: VideoSpec
    name: str
    has_sound: bool
    came_as: str | None

    def frames(self) -> Iterator[Captured]:
        """Frames as they come, until the source ends or close(). Blocks. Raises SourceError when it breaks."""
        ...

    def listen(self, ear: Callable[[Sound], None]) -> Callable[[], None]:
        """Hand decoded sound to ear too from now on, in a thread of the source's; what is returned stops that."""
        ...

    def close(self) -> None:
        """Free the device; ends frames(), from any thread. Safe to call twice."""
        ...


class LiveSink(Protocol):
    """Where upscaled frames go. Each sink has a thread of its own and sees the newest frame only.

    name: for messages and counts of drops. is_view: a person looks at it, so that the split view (Controls.set_split)
    is drawn into Shown.large before show(); other sinks always get the whole upscaled picture.
    """

    name: str
    is_view: bool

    def show(self, picture: Shown) -> bool:
        """Show, send or write one picture. May take its time: what comes meanwhile is dropped, but for the newest.
        False for a picture that cannot go out now, which counts as dropped. Raises SinkError."""
        ...

    def close(self) -> None:
        """End it whole: finalise a recording, close a window. Safe to call twice."""
        ...


@dataclass(frozen=True, slots=True)
class LiveStats:
    """A moment of a live session. fps: over the last seconds, in and out. latency: milliseconds from capture to shown,
    over the last seconds. dropped: frames since the start, by cause (`infer`: newer ones came; each sink by its name).
    """

    tier: str
    backend: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    fps_in: float
    fps_out: float
    target_fps: float | None
    latency_p50_ms: float
    latency_p95_ms: float
    latency_worst_ms: float
    dropped: dict[str, int]
    recording: str | None
    notices: list[str]

    seconds: float = 0.0
    tiers: tuple[str, ...] = ()  # to choose from, best last
    detail: float | None = None  # the share in use, 0..1; None where the tier has no detail end
    no_detail: str = ""  # and why it has none


class Controls(Protocol):
    """What keys in the window and buttons on the page do. From any thread; each takes effect with the next frame."""

    def stats(self) -> LiveStats: ...

    def set_tier(self, tier: str | None) -> None:
        """A tier by name; None gives the choice back to --hold-fps."""
        ...

    def set_detail(self, amount: float) -> None:
        """How far to the detail end, 0..1. LiveStats.detail follows when the engine for that works.

        Raises ConfigError while the tier has no detail end.
        """
        ...

    def set_split(self, at: float | None) -> None:
        """Where the line between before and after stands, 0..1 of the width; None shows after alone."""
        ...

    def snapshot(self) -> tuple[Path, Path]:
        """Write the last picture pair as PNG (before enlarged by bicubic, after); their paths."""
        ...

    def record(self, on: bool) -> Path | None:
        """Begin or end recording; the file."""
        ...

    def quit(self) -> None:
        """End the session as Ctrl-C does."""
        ...


LIVE_RATE = Fraction(30)  # of sources that do not say
