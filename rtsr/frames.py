"""What travels through the pipeline: planes as decoded, never RGB.

Every decoder delivers and every encoder takes 4:2:0 planes: luma at full size, chroma at half. rtsr keeps them so
from the demuxer to the muxer, which is why colour tags can be carried without ever being interpreted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

PLANE_DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16))


def chroma_size(height: int, width: int) -> tuple[int, int]:
    """Size of a 4:2:0 chroma plane: half of the luma's, rounded up as FFmpeg does for odd sizes."""
    return (height + 1) // 2, (width + 1) // 2


@dataclass(frozen=True, slots=True)
class ColorTags:
    """FFmpeg's integer codes for matrix, primaries, transfer and range. 2 (0 for range) means unknown, and stays so."""

    colorspace: int = 2
    primaries: int = 2
    trc: int = 2
    range: int = 0


class ChromaSiting(Enum):
    """Where a 4:2:0 chroma sample lies within its 2x2 luma pixels: (horizontally, vertically) on the first of them, or
    between both. LEFT is what MPEG-2, H.264, HEVC, VP9 and AV1 mean when they say nothing."""

    LEFT = (True, False)
    CENTER = (False, False)
    TOPLEFT = (True, True)


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """What a source's video stream is, as its container and decoder state it.

    width, height: luma pixels of the first frame. rate: frames per second, a hint for rate control only, None if
    unknown; time is carried by every frame's own pts. start, duration: seconds on the container's clock, None if
    unknown. rotation: counter-clockwise degrees of the display matrix. bits: depth of a sample. siting: None if the
    file does not say.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None = None
    frames: int | None = None
    duration: Fraction | None = None
    bits: int = 8
    sample_aspect_ratio: Fraction | None = None
    rotation: int = 0
    color: ColorTags = ColorTags()
    siting: ChromaSiting | None = None

    @property
    def dtype(self) -> np.dtype:
        return PLANE_DTYPES[self.bits > 8]


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture: y (H, W) and uv (2, ceil(H/2), ceil(W/2)), both uint8 or both uint16; pts in units of time_base.

    The planes may be views on the decoder's memory: don't write to them. duration: in time_base, 0 if unknown.
    bits: depth of a sample, no value is above 2**bits - 1; the dtype's own if not given.
    """

    y: np.ndarray
    uv: np.ndarray
    pts: int
    time_base: Fraction
    duration: int = 0
    siting: ChromaSiting = ChromaSiting.LEFT
    bits: int = 0

    def __post_init__(self) -> None:
        _check_planes(self.y[None, None], self.uv[None])
        object.__setattr__(self, "bits", self.bits or 8 * self.y.itemsize)

    @property
    def seconds(self) -> float:
        """Presentation time, for messages only."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """N pictures of one size: y (N, 1, H, W), uv (N, 2, ceil(H/2), ceil(W/2)); dtype as decoded: uint8 or uint16.

    pts and durations have N entries in units of time_base. siting: where the chroma samples lie, in and out.
    bits: depth of a sample; the dtype's own if not given.
    """

    y: np.ndarray
    uv: np.ndarray
    pts: tuple[int, ...]
    time_base: Fraction
    durations: tuple[int, ...] = ()
    siting: ChromaSiting = ChromaSiting.LEFT
    bits: int = 0

    def __post_init__(self) -> None:
        _check_planes(self.y, self.uv)
        object.__setattr__(self, "bits", self.bits or 8 * self.y.itemsize)
        if len(self.pts) != len(self.y):
            raise ValueError(f"{len(self.y)} frames but {len(self.pts)} pts")
        if not self.durations:
            object.__setattr__(self, "durations", (0,) * len(self.pts))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def size(self) -> tuple[int, int]:
        """Luma (height, width)."""
        return self.y.shape[2], self.y.shape[3]

    @property
    def seconds(self) -> float:
        """Presentation time of the first frame, for messages only."""
        return float(self.pts[0] * self.time_base)

    def with_planes(self, y: np.ndarray, uv: np.ndarray) -> FrameBatch:
        """The same moments in time with other pixels."""
        return FrameBatch(y, uv, self.pts, self.time_base, self.durations, self.siting, self.bits)

    def frames(self) -> Iterator[Frame]:
        """The N pictures one by one, as views."""
        for i, (pts, duration) in enumerate(zip(self.pts, self.durations, strict=True)):
            yield Frame(self.y[i, 0], self.uv[i], pts, self.time_base, duration, self.siting, self.bits)


def batched(frames: Iterable[Frame], size: int) -> Iterator[FrameBatch]:
    """Gather frames into batches of `size`; the last one may be shorter. A batch of one is a view, not a copy."""
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == size:
            yield _stack(waiting)
            waiting = []
    if waiting:
        yield _stack(waiting)


def _stack(frames: list[Frame]) -> FrameBatch:
    first = frames[0]
    if len(frames) == 1:
        y, uv = first.y[None, None], first.uv[None]
    else:
        y, uv = np.stack([f.y for f in frames])[:, None], np.stack([f.uv for f in frames])
    pts, durations = tuple(f.pts for f in frames), tuple(f.duration for f in frames)
    return FrameBatch(y, uv, pts, first.time_base, durations, first.siting, first.bits)


def _check_planes(y: np.ndarray, uv: np.ndarray) -> None:
    if y.ndim != 4 or y.shape[1] != 1 or y.dtype not in PLANE_DTYPES:
        raise ValueError(f"y must be uint8 or uint16 (N, 1, H, W); got {y.dtype} {y.shape}")
    expected = (y.shape[0], 2, *chroma_size(y.shape[2], y.shape[3]))
    if uv.shape != expected or uv.dtype != y.dtype:
        raise ValueError(f"uv must be {y.dtype} {expected}; got {uv.dtype} {uv.shape}")
