"""What is encoded once for all who watch: fragmented MP4 and JPEG, each in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import cv2

from rtsr.errors import SinkError
from rtsr.frames import ColorTags
from rtsr.live.pictures import ScreenPictures
from rtsr.live.web.fmp4 import codec_string, fragment, init_segment
from rtsr.live.web.h264 import H264, ticks, timed
from rtsr.live.web.moment import Feed, Moment
from rtsr.threads import Slot

_MP4_BACKLOG = 45  # fragments, a second and a half: a viewer who is farther behind goes on at the next keyframe
_JPEG_QUALITY = 90
_LONGEST_GAP_S = 1.5  # see fmp4.DURATION


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a stream. keyframe: one can begin with it. header: what must be sent before the first."""

    data: bytes
    keyframe: bool = True
    codec: str = ""
    header: bytes = b""


class Viewer:
    """The parts that one viewer has not got yet: put from the encoder's thread, read in the server's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, backlog: int, want_keyframe: Callable[[], None]) -> None:
        self.dropped = 0
        self._loop, self._backlog, self._want_keyframe = loop, backlog, want_keyframe
        self._parts: deque[Part] = deque()
        self._begun = False
        self._came = asyncio.Event()

    def put(self, part: Part) -> None:
        """Any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, part)

    async def get(self) -> Part:
        while not self._parts:
            self._came.clear()
            await self._came.wait()
        return self._parts.popleft()

    def _put(self, part: Part) -> None:
        if len(self._parts) >= self._backlog:
            self.dropped += len(self._parts)
            self._parts.clear()
            if not part.keyframe:
                self._begun = False
                self._want_keyframe()
        if not (self._begun or part.keyframe):
            self.dropped += 1
            return
        self._begun = True
        self._parts.append(part)
        self._came.set()


class Stream:
    """Encodes the newest moments while anyone watches. backlog: parts that a viewer may be behind.

    Subclasses say how a moment becomes a part, in one thread; None where it could not.
    """

    name = ""
    backlog = 1

    def __init__(self, feed: Feed, notice: Callable[[str], None]) -> None:
        self._feed, self._notice = feed, notice
        self._slot: Slot[Moment] = Slot()
        self._viewers: list[Viewer] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._keyframe_wanted = threading.Event()

    @property
    def dropped(self) -> int:
        """Moments that were not encoded because newer ones came."""
        return self._slot.dropped

    def join(self, loop: asyncio.AbstractEventLoop) -> Viewer:
        viewer = Viewer(loop, self.backlog, self._keyframe_wanted.set)
        with self._lock:
            self._viewers.append(viewer)
            first = len(self._viewers) == 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=f"rtsr-web-{self.name}", daemon=True)
                self._thread.start()
        self._keyframe_wanted.set()
        if first:
            self._feed.watch(self._slot)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.remove(viewer)
            if not self._viewers:
                self._feed.leave(self._slot)

    def close(self) -> None:
        self._slot.close()
        if self._thread is not None:
            self._thread.join()

    def part(self, moment: Moment, keyframe: bool) -> Part | None:
        raise NotImplementedError

    def _work(self) -> None:
        while not self._slot.is_over:
            moment = self._slot.get()
            if moment is None:
                return
            keyframe = self._keyframe_wanted.is_set()
            self._keyframe_wanted.clear()
            try:
                part = self.part(moment, keyframe)
            except SinkError as error:
                self._notice(str(error))
                return
            if part is None:
                if keyframe:
                    self._keyframe_wanted.set()
                continue
            with self._lock:
                viewers = list(self._viewers)
            for viewer in viewers:
                viewer.put(part)


class Mp4Stream(Stream):
    """H.264 in fragments of one picture. A picture of another size begins with a header of its own."""

    name = "mp4"
    backlog = _MP4_BACKLOG

    def __init__(self, feed: Feed, notice: Callable[[str], None], color: ColorTags, rate: Fraction) -> None:
        super().__init__(feed, notice)
        self._color, self._rate = color, rate
        self._encoder: H264 | None = None
        self._number, self._origin, self._last = 0, 0, 0
        self._codec, self._header = "", b""

    def part(self, moment: Moment, keyframe: bool) -> Part | None:
        frame = moment.frame(split=True)
        size = frame.y.shape[2], frame.y.shape[1]
        now = ticks(moment.shown.at)
        if self._encoder is None:
            self._origin = self._last = now - 1
        if self._encoder is None or self._encoder.size != size:
            self._encoder = H264(size, self._color, self._rate, in_mp4=True)
            header = self._encoder.header
            self._codec, self._header = codec_string(header), init_segment(header, size)
        if now <= self._last:
            return None  # a moment that was shown before: one who joins gets the last again
        keyframe = keyframe or now - self._last > ticks(_LONGEST_GAP_S)
        self._last = now
        packets = self._encoder.encode(timed(frame, now - self._origin), keyframe)
        if not packets:
            return None
        self._number += 1
        data = b"".join(bytes(packet) for packet in packets)
        begins = any(packet.is_keyframe for packet in packets)
        return Part(fragment(self._number, now - self._origin, data, begins), begins, self._codec, self._header)


class JpegStream(Stream):
    """One JPEG for each picture. split: before and after packed, or after alone."""

    def __init__(self, feed: Feed, notice: Callable[[str], None], color: ColorTags, split: bool) -> None:
        super().__init__(feed, notice)
        self.name = "jpeg-split" if split else "jpeg"
        self._split = split
        self._pictures = ScreenPictures(color)

    def part(self, moment: Moment, keyframe: bool) -> Part | None:
        bgr = self._pictures.bgr(moment.frame(self._split))
        done, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
        if not done:
            raise SinkError(f"JPEG of {bgr.shape[1]}x{bgr.shape[0]} for the page failed")
        return Part(data.tobytes())
