"""Pictures to a browser over WebRTC: the newest one as soon as the encoder is free, none ever waits in a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import aioice.ice
import aiortc.codecs
import aiortc.codecs.h264
import aiortc.codecs.vpx
import aiortc.rtcrtpsender
import av
from aiortc import MediaStreamTrack
from aiortc.codecs.base import Encoder
from aiortc.mediastreams import MediaStreamError
from aiortc.rtcrtpparameters import RTCRtpCodecParameters

from rtsr.frames import ColorTags
from rtsr.live.contract import LIVE_RATE
from rtsr.live.web.h264 import H264, ticks, timed
from rtsr.live.web.moment import Feed, Moment
from rtsr.threads import Slot

MIN_BITRATE, START_BITRATE, MAX_BITRATE = 1_000_000, 8_000_000, 60_000_000  # aiortc: 0.5, 1 and 3 Mbit/s
MAX_FRAME_RATE = 240  # aiortc: 30


class NewestTrack(MediaStreamTrack):
    """The newest moment of a feed, each at most once. split: before and after packed, or after alone. matrix: FFmpeg's
    AVColorSpace of the pictures."""

    kind = "video"

    def __init__(self, feed: Feed, matrix: int) -> None:
        super().__init__()
        self.split = True
        self._matrix = matrix
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._came = asyncio.Event()
        self._slot = _LoopSlot(self._loop, self._came)
        self._last = 0
        feed.watch(self._slot)

    @property
    def dropped(self) -> int:
        """Moments that newer ones replaced while a picture was being encoded."""
        return self._slot.dropped

    async def recv(self) -> av.VideoFrame:
        while True:
            if self.readyState != "live":
                raise MediaStreamError
            self._came.clear()
            moment = self._slot.get(0)
            if moment is not None and (pts := ticks(moment.shown.at)) > self._last:
                self._last = pts
                picture = timed(moment.frame(self.split), pts)
                picture.colorspace = self._matrix
                return picture
            await self._came.wait()

    def stop(self) -> None:
        super().stop()
        self._feed.leave(self._slot)
        self._came.set()


class _LoopSlot(Slot[Moment]):
    """A slot that wakes a coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, came: asyncio.Event) -> None:
        super().__init__()
        self._loop, self._came = loop, came

    def put(self, item: Moment) -> None:
        super().put(item)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._came.set)


class _LiveH264(aiortc.codecs.h264.H264Encoder):
    """aiortc's packets around an encoder of our own.

    aiortc's is libx264 at `medium` (25 ms for 1280x720 here, ours takes 4), counts time in thirtieths of a second and
    opens anew, with a keyframe, whenever the bandwidth estimate moves by a tenth.
    """

    def __init__(self) -> None:
        super().__init__()
        self._encoder: H264 | None = None
        self._bitrate = 0

    def _encode_frame(self, frame: av.VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        size = frame.width, frame.height
        if self._encoder is None or self._encoder.size != size:
            self._encoder = H264(size, ColorTags(int(frame.colorspace)), LIVE_RATE, self.target_bitrate)
            self._bitrate = self.target_bitrate
        if abs(self.target_bitrate - self._bitrate) > self._bitrate / 20:
            self._bitrate = self.target_bitrate
            self._encoder.set_bitrate(self._bitrate)
        packets = self._encoder.encode(frame, force_keyframe)
        yield from self._split_bitstream(b"".join(bytes(packet) for packet in packets))


def lift_limits(with_loopback: bool) -> None:
    """Make aiortc fit for pictures of this size; its limits are constants of its modules. Safe to call twice.

    with_loopback: also offer 127.0.0.1, which aioice leaves out, so that a machine without a network can watch itself.
    """
    for module in (aiortc.codecs.h264, aiortc.codecs.vpx):
        module.MIN_BITRATE, module.DEFAULT_BITRATE, module.MAX_BITRATE = MIN_BITRATE, START_BITRATE, MAX_BITRATE  # type: ignore[attr-defined]
    aiortc.codecs.h264.MAX_FRAME_RATE = MAX_FRAME_RATE
    aiortc.rtcrtpsender.get_encoder = _get_encoder  # type: ignore[attr-defined]
    if with_loopback:
        aioice.ice.get_host_addresses = _addresses_with_loopback


def _get_encoder(codec: RTCRtpCodecParameters) -> Encoder:
    return _LiveH264() if codec.mimeType.lower() == "video/h264" else aiortc.codecs.get_encoder(codec)


_real_addresses = aioice.ice.get_host_addresses


def _addresses_with_loopback(use_ipv4: bool, use_ipv6: bool) -> list[str]:
    return [*_real_addresses(use_ipv4, use_ipv6), *(["127.0.0.1"] if use_ipv4 else [])]
