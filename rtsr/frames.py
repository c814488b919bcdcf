"""What travels through the pipeline: planes as decoded.

Every decoder delivers and every encoder takes planes, nearly always 4:2:0: luma at full size, chroma at half. rtsr
keeps them so from the demuxer to the muxer, which is why colour tags can be carried without ever being interpreted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np

from rtsr.pixels import YUV420P, PixelFormat

if TYPE_CHECKING:
    import av


@dataclass(frozen=True, slots=True)
class ColorTags:
    """FFmpeg's integer codes for matrix, primaries, transfer and range. 2 (0 for range) means unknown, and stays so."""

    colorspace: int = 2
    primaries: int = 2
    trc: int = 2
    range: int = 0


class ChromaSiting(Enum):
    """Where a chroma sample lies among the luma pixels that share it: (horizontally, vertically) on the first of them,
    or in their middle. LEFT is what MPEG-2, H.264, HEVC, VP9 and AV1 mean when they say nothing."""

    LEFT = (True, False)
    CENTER = (False, False)
    TOPLEFT = (True, True)


@dataclass(frozen=True, slots=True)
class HdrMetadata:
    """HDR10's static metadata, as the decoder tells it (SMPTE ST 2086 and CTA-861.3).

    primaries: chromaticities (x, y) of R, G, B and white of the mastering display; luminance: its darkest and
    brightest in cd/m2; each None if not told. light: (MaxCLL, MaxFALL) in cd/m2, None if not told.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None = None
    luminance: tuple[Fraction, Fraction] | None = None
    light: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class VideoSpec:
    """What a source's video stream is, as its container and decoder state it.

    width, height: pixels of the first frame. rate: frames per second, a hint for rate control only, None if
    unknown; time is carried by every frame's own pts. start, duration: seconds on the container's clock, None if
    unknown. rotation: counter-clockwise degrees of the display matrix. siting: None if the file does not say.
    captions: whether the first picture carries closed captions.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction | None = None
    frames: int | None = None
    duration: Fraction | None = None
    pixels: PixelFormat = YUV420P
    sample_aspect_ratio: Fraction | None = None
    rotation: int = 0
    color: ColorTags = ColorTags()
    siting: ChromaSiting | None = None
    hdr: HdrMetadata | None = None
    captions: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One picture, uint8 or (more than 8 bits) uint16; pts in units of time_base.

    y (C, H, W): the planes of full size, which an engine sharpens: luma, or G, B and R; alpha last if there is any.
    uv (K, h, w): chroma, which is interpolated; K is 2, or 0 for gray and RGB.
    The planes may be views on the decoder's memory: don't write to them. duration: in time_base, 0 if unknown.
    pixels: what the samples are; no value is above its white. captions: a tiny picture that carries the closed
    captions, None if there are none: FFmpeg hands them from picture to picture only.
    """

    y: np.ndarray
    uv: np.ndarray
    pts: int
    time_base: Fraction
    duration: int = 0
    siting: ChromaSiting = ChromaSiting.LEFT
    pixels: PixelFormat = YUV420P
    captions: av.VideoFrame | None = None

    def __post_init__(self) -> None:
        _check_planes(self.y[None], self.uv[None], self.pixels)

    @property
    def seconds(self) -> float:
        """Presentation time, for messages only."""
        return float(self.pts * self.time_base)


@dataclass(frozen=True, slots=True)
class FrameBatch:
    """N pictures of one size and format: y (N, C, H, W), uv (N, K, h, w); see Frame.

    pts, durations and captions have N entries, times in units of time_base. siting: where the chroma samples lie, in
    and out.
    """

    y: np.ndarray
    uv: np.ndarray
    pts: tuple[int, ...]
    time_base: Fraction
    durations: tuple[int, ...] = ()
    siting: ChromaSiting = ChromaSiting.LEFT
    pixels: PixelFormat = YUV420P
    captions: tuple[av.VideoFrame | None, ...] = ()

    def __post_init__(self) -> None:
        _check_planes(self.y, self.uv, self.pixels)
        if len(self.pts) != len(self.y):
            raise ValueError(f"{len(self.y)} frames but {len(self.pts)} pts")
        if not self.durations:
            object.__setattr__(self, "durations", (0,) * len(self.pts))
        if not self.captions:
            object.__setattr__(self, "captions", (None,) * len(self.pts))

    def __len__(self) -> int:
        return len(self.y)

    @property
    def size(self) -> tuple[int, int]:
        """Luma (height, width)."""
        return self.y.shape[2], self.y.shape[3]

    @property
    def bits(self) -> int:
        """Depth of a sample."""
        return self.pixels.bits

    @property
    def seconds(self) -> float:
        """Presentation time of the first frame, for messages only."""
        return float(self.pts[0] * self.time_base)

    def with_planes(self, y: np.ndarray, uv: np.ndarray) -> FrameBatch:
        """The same moments in time with other pixels."""
        return replace(self, y=y, uv=uv)

    def frames(self) -> Iterator[Frame]:
        """The N pictures one by one, as views."""
        for i, (pts, duration, captions) in enumerate(zip(self.pts, self.durations, self.captions, strict=True)):
            yield Frame(self.y[i], self.uv[i], pts, self.time_base, duration, self.siting, self.pixels, captions)


def batched(frames: Iterable[Frame], size: int) -> Iterator[FrameBatch]:
    """Gather frames into batches of `size`, fewer at the end and where the picture's size changes. A batch of one is a
    view, not a copy."""
    waiting: list[Frame] = []
    for frame in frames:
        if waiting and frame.y.shape != waiting[0].y.shape:
            yield _stack(waiting)
            waiting = []
        waiting.append(frame)
        if len(waiting) == size:
            yield _stack(waiting)
            waiting = []
    if waiting:
        yield _stack(waiting)


def _stack(frames: list[Frame]) -> FrameBatch:
    first = frames[0]
    if len(frames) == 1:
        y, uv = first.y[None], first.uv[None]
    else:
        y, uv = np.stack([f.y for f in frames]), np.stack([f.uv for f in frames])
    pts, durations = tuple(f.pts for f in frames), tuple(f.duration for f in frames)
    captions = tuple(f.captions for f in frames)
    return FrameBatch(y, uv, pts, first.time_base, durations, first.siting, first.pixels, captions)


def _check_planes(y: np.ndarray, uv: np.ndarray, pixels: PixelFormat) -> None:
    if y.ndim != 4 or y.shape[1] != pixels.full_planes or y.dtype != pixels.dtype:
        raise ValueError(
            f"y of {pixels} must be {pixels.dtype} (N, {pixels.full_planes}, H, W); got {y.dtype} {y.shape}"
        )
    chroma = pixels.chroma_size(y.shape[2], y.shape[3])
    if uv.ndim != 4 or uv.shape[:2] != (y.shape[0], pixels.chroma_planes) or uv.dtype != y.dtype:
        raise ValueError(
            f"uv of {pixels} must be {y.dtype} (N, {pixels.chroma_planes}, h, w); got {uv.dtype} {uv.shape}"
        )
    if pixels.chroma_planes and uv.shape[2:] != chroma:
        raise ValueError(f"uv of {pixels} must be {chroma} for {y.shape[2:]}; got {uv.shape[2:]}")
