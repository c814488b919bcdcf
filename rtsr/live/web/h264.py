"""H.264 for watching at once: each picture comes out as it goes in, none is held back for a better one later."""

from __future__ import annotations

import os
from fractions import Fraction

import av
import av.error
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from rtsr.color import matrix_of
from rtsr.errors import SinkError
from rtsr.frames import ColorTags, Frame
from rtsr.live.pictures import av_picture

CLOCK = 90_000  # ticks a second, RTP's and MP4's both
_KEYFRAME_S = 4  # who joins asks for one of his own; this is for what no one asks after
_GLOBAL_HEADER = 1 << 22  # AV_CODEC_FLAG_GLOBAL_HEADER: parameter sets beside the pictures, as MP4 wants them


class H264:
    """An encoder for pictures of one size. One thread at a time.

    bitrate: bits a second, for a connection that holds so much; None for constant quality. Raises SinkError.
    """

    def __init__(
        self, size: tuple[int, int], color: ColorTags, rate: Fraction, bitrate: int | None = None, in_mp4: bool = False
    ) -> None:
        self.size = size
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = size
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, CLOCK)
        context.framerate = rate
        context.thread_type = "SLICE"  # frame threads would hold back as many pictures as there are threads
        context.thread_count = min(os.cpu_count() or 1, 4)
        context.gop_size = int(rate * _KEYFRAME_S) or 1
        # A browser that is told nothing guesses by the size, and these are 180 lines enlarged to 720.
        context.colorspace, context.color_range = matrix_of(color.colorspace, size[1]), 1
        context.color_primaries, context.color_trc = _known(color.primaries), _known(color.trc)
        # superfast: 4 ms for 1280x720 on 2 cores where aiortc's medium takes 25; ultrafast has no deblocking filter.
        context.options = {"preset": "superfast", "tune": "zerolatency", "forced-idr": "1"}
        if bitrate is None:
            context.options = {**context.options, "crf": "18"}
        else:
            context.bit_rate = bitrate
            context.profile = "Baseline"  # what every browser's WebRTC offers
        if in_mp4:
            context.flags |= _GLOBAL_HEADER
        try:
            context.open(strict=False)
        except av.error.FFmpegError as error:
            raise SinkError(f"H.264 of {size[0]}x{size[1]} for the page did not open: {error}") from error
        self._context = context

    @property
    def header(self) -> bytes:
        """SPS and PPS with start codes, if in_mp4."""
        return bytes(self._context.extradata or b"")

    def set_bitrate(self, bitrate: int) -> None:
        """From the next picture on; libx264 takes it without a new keyframe."""
        self._context.bit_rate = bitrate

    def encode(self, picture: av.VideoFrame, keyframe: bool) -> list[av.Packet]:
        """One picture, stamped by timed(), each later than the last. keyframe: must it decode without those before?"""
        picture.pict_type = PictureType.I if keyframe else PictureType.NONE
        return self._context.encode(picture)


def timed(frame: Frame, pts: int) -> av.VideoFrame:
    """The frame as H264 takes it; pts: in ticks of CLOCK."""
    picture = av_picture(frame)
    picture.pts, picture.time_base = pts, Fraction(1, CLOCK)
    return picture


def ticks(at: float) -> int:
    """A moment of time.monotonic() on CLOCK."""
    return int(at * CLOCK)


def _known(tag: int) -> int:
    """Primaries or transfer; BT.709's where unknown, because a browser mistrusts tags that are told by halves."""
    return 1 if tag in (0, 2) else tag
