"""WebRTC connections: pages that watch, and pages that send the visitor's own camera and get it back upscaled."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import VideoFrame

from rtsr.backends import Engine, EngineChoice
from rtsr.color import MATRIX_601
from rtsr.errors import ConfigError, RtsrError
from rtsr.frames import Frame, batched
from rtsr.live.contract import Shown
from rtsr.live.pictures import LivePictures
from rtsr.live.tiers import open_live
from rtsr.live.web.moment import Feed
from rtsr.live.web.rtc import NewestTrack
from rtsr.threads import Slot

LARGEST_CAMERA = 1280 * 720  # pixels of a visitor's picture; more would stall everybody's machine
_RECENT_S = 3.0
_MICROSECONDS = Fraction(1, 1_000_000)


class Peer:
    """A page that watches a feed. All methods in the server's loop."""

    def __init__(self, feed: Feed, matrix: int) -> None:
        # Without this aiortc would ask a public STUN server for this machine's address; nothing goes elsewhere.
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.track = NewestTrack(feed, matrix)

    async def answer(self, offer: str) -> str:
        """SDP for SDP. Raises ValueError for what is no offer of video that can be answered."""
        # Chrome hides addresses behind names that only multicast DNS resolves; it finds ours without that.
        offer = re.sub(r"a=candidate:[^\r\n]* [\w-]+\.local [^\r\n]*\r?\n", "", offer)
        await self.connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        self.connection.addTrack(self.track)
        ours = self.connection.getTransceivers()[0]
        codecs = RTCRtpSender.getCapabilities("video").codecs
        # aiortc encodes VP8 with libvpx, several times slower than x264.
        ours.setCodecPreferences(sorted(codecs, key=lambda codec: "h264" not in codec.mimeType.lower()))
        await self.connection.setLocalDescription(await self.connection.createAnswer())
        return self.connection.localDescription.sdp

    async def close(self) -> None:
        self.track.stop()
        await self.connection.close()


class CameraPeer(Peer):
    """A page whose camera is upscaled by an engine of its own, in a thread of its own; newest frame wins both ways.

    failed: called in the server's loop with a sentence when it cannot go on.
    """

    def __init__(self, scale: int, tier: str, backend: str, failed: Callable[[str], None]) -> None:
        self.feed = Feed()
        super().__init__(self.feed, MATRIX_601)
        self.tier = tier
        self._scale, self._backend, self._failed = scale, backend, failed
        self._loop = asyncio.get_running_loop()
        self._slot: Slot[tuple[VideoFrame, float]] = Slot()
        self._shown: deque[tuple[float, float]] = deque(maxlen=600)  # when, and milliseconds since it came
        self._size = (0, 0)
        self._pump: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, name="rtsr-web-camera", daemon=True)
        self.connection.on("track", self._receive)
        self._thread.start()

    def stats(self) -> dict[str, object]:
        """What the page shows of this camera."""
        now = time.monotonic()
        recent = [ms for when, ms in list(self._shown) if now - when < _RECENT_S]
        width, height = self._size
        return {
            "tier": self.tier,
            "input_size": [width, height],
            "output_size": [width * self._scale, height * self._scale],
            "fps_out": len(recent) / _RECENT_S,
            "upscale_p50_ms": float(np.median(recent)) if recent else None,
            "dropped": self._slot.dropped + self.track.dropped,
        }

    async def close(self) -> None:
        self._slot.close()
        if self._pump is not None:
            self._pump.cancel()
        await super().close()
        await self._loop.run_in_executor(None, self._thread.join)

    def _receive(self, track: MediaStreamTrack) -> None:
        if track.kind == "video" and self._pump is None:
            self._pump = asyncio.ensure_future(self._take(track))

    async def _take(self, track: MediaStreamTrack) -> None:
        """aiortc queues without end what is decoded and not taken."""
        try:
            while True:
                picture = await track.recv()
                if isinstance(picture, VideoFrame):
                    self._slot.put((picture, time.monotonic()))
        except MediaStreamError:
            return  # the page has hung up, or its camera was taken away: it knows

    def _work(self) -> None:
        engine: Engine | None = None
        opened, size, number, pictures = "", (0, 0), 0, LivePictures()
        try:
            while (item := self._slot.get()) is not None:
                picture, at = item
                small = self._small(pictures, picture, at)
                if engine is None or opened != self.tier or size != self._size:
                    opened, size = self.tier, self._size
                    if engine is not None:
                        engine.close()
                        engine = None
                    engine = open_live(EngineChoice(self._scale, opened, backend=self._backend), (size[1], size[0]))
                (batch,) = batched([small], 1)
                (large,) = engine.infer(batch).frames()
                number += 1
                self._shown.append((time.monotonic(), (time.monotonic() - at) * 1000))
                self.feed.put(Shown(small, large, at, number, opened))
        except RtsrError as error:
            self._slot.close()
            self._loop.call_soon_threadsafe(self._failed, str(error))
        finally:
            if engine is not None:
                engine.close()

    def _small(self, pictures: LivePictures, picture: VideoFrame, at: float) -> Frame:
        if picture.width * picture.height > LARGEST_CAMERA:
            raise ConfigError(f"a camera of {picture.width}x{picture.height} is too large to upscale here; choose 360p")
        y, uv = pictures.planes(picture)
        self._size = y.shape[2], y.shape[1]
        return Frame(np.ascontiguousarray(y), uv, int(at / _MICROSECONDS), _MICROSECONDS)
