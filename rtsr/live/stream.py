"""Live frames of whatever FFmpeg opens: cameras, screens, network streams, and files at their own pace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import av
import av.error
from av.codec.context import Flags

from rtsr.errors import SourceError
from rtsr.frames import Frame, VideoSpec
from rtsr.live.clock import CaptureClock
from rtsr.live.contract import Captured, Sound
from rtsr.live.pictures import LivePictures, described
from rtsr.live.reconnect import Reconnect
from rtsr.live.sound import Ears
from rtsr.sources.media import LOCAL_ONLY
from rtsr.threads import Slot

TIME_BASE = Fraction(1, 90000)
_REMOTE = "http,https,httpproxy,tcp,tls,ftp,crypto,data,udp,rtp,srtp,rtsp,rtsps,rtmp,rtmps"


@dataclass(frozen=True, slots=True)
class Opening:
    """What to open. kind: `camera`, `screen`, `stream` or `file`; format: FFmpeg's demuxer, None to find out.

    url and options are FFmpeg's; wished: options to do without if it does not open with them. name: for people.
    patience_s: until the first picture.
    """

    url: str
    name: str
    kind: str
    format: str | None = None
    options: dict[str, str] = field(default_factory=dict)
    wished: dict[str, str] = field(default_factory=dict)
    patience_s: float = 15.0


class AvSource:
    """One thread opens, reads and decodes; frames() hands over the newest picture.

    A file, and a URL of known length, plays by its own timestamps, from the beginning again with loop. A stream that
    breaks, stalls for stall_s or ends is opened again, retry times in a row at most, with growing pauses. Pictures that
    nobody took in time are left out; Captured.number counts them.

    notice gets one sentence for each thing that a person should know. open_input: av.open, or what stands for it.
    Raises SourceError if nothing opens or no picture comes.
    """

    def __init__(
        self,
        opening: Opening,
        *,
        loop: bool = False,
        retry: int = 0,
        stall_s: float = 5.0,
        notice: Callable[[str], None] = lambda sentence: None,
        open_input: Callable[..., Any] = av.open,
    ):
        self.name = opening.name
        self.has_sound = False
        self.came_as: str | None = None
        self._opening, self._loop, self._stall_s = opening, loop, stall_s
        self._reconnect = Reconnect(retry if opening.kind == "stream" else 0)
        self._notice, self._open_input = notice, open_input
        self._pictures = LivePictures(is_camera=opening.kind == "camera")
        self._slot: Slot[Captured] = Slot()
        self._ready, self._closing = threading.Event(), threading.Event()
        self._wanted = threading.Event()  # a file begins to play when somebody watches
        self._error: BaseException | None = None
        self._ears = Ears()
        self._epoch = time.monotonic()
        self._number = 0
        self._is_lost = False  # and not connected again yet
        self._size: tuple[int, int] | None = None
        self._found: VideoSpec | None = None
        self._thread = threading.Thread(target=self._work, name="rtsr-read", daemon=True)
        self._thread.start()
        if not self._ready.wait(opening.patience_s):
            self.close()
            raise SourceError(f"{self.name} opens, but gave no picture in {opening.patience_s:g} s")
        if self._found is None:
            self.close()
            raise self._error or SourceError(f"{self.name} ended before its first picture")
        self.spec: VideoSpec = self._found

    def frames(self) -> Iterator[Captured]:
        self._wanted.set()
        # A driver can block for ever without an error; a stream's silence is noticed by the thread that reads it.
        patience = self._stall_s if self._opening.kind in ("camera", "screen") else None
        while True:
            captured = self._slot.get(patience)
            if captured is not None:
                yield captured
                del captured
            elif self._closing.is_set():
                return
            elif self._slot.is_over:
                if self._error is not None:
                    raise self._error
                return
            else:
                raise SourceError(f"{self.name} gives no pictures any more (none for {self._stall_s:g} s)")

    def listen(self, ear: Callable[[Sound], None]) -> Callable[[], None]:
        return self._ears.listen(ear)

    def close(self) -> None:
        self._closing.set()
        self._wanted.set()
        self._slot.close()
        # A driver that blocks keeps its thread; a network read ends after stall_s at the latest.
        self._thread.join(self._stall_s + 1)

    def _work(self) -> None:
        try:
            while not self._closing.is_set():
                begun = time.monotonic()
                try:
                    with closing(self._open()) as container:
                        paced = self._opening.kind == "file" or _has_length(container)
                        self._read(container, paced)
                    if paced and not self._loop:
                        return
                    failure = None if paced else SourceError(f"{self.name}: the stream ended")
                except SourceError as error:
                    failure = error
                if failure is None or self._closing.is_set():
                    continue
                pause = self._reconnect.next(time.monotonic() - begun) if self._found is not None else None
                if pause is None:
                    raise SourceError(self._reconnect.resignation(failure))
                self._notice(self._reconnect.announcement(failure, pause))
                self._is_lost = True
                self._closing.wait(pause)
        except BaseException as error:  # raised in frames(), whatever it is
            self._error = error
        finally:
            self._slot.close()
            self._ready.set()

    def _open(self) -> Any:
        opening = self._opening
        options = dict(opening.options)
        if opening.kind == "stream":
            options["protocol_whitelist"] = _REMOTE
            if not opening.url.startswith("http"):
                options["fflags"] = "nobuffer"  # what was read to find the format is old, but a recording needs it
            if opening.url.startswith("rtsp"):
                options.setdefault("rtsp_transport", "tcp")  # UDP loses packets, and a damaged picture stays for a GOP
        elif opening.kind == "file":
            options |= LOCAL_ONLY
        timeout = (max(self._stall_s, opening.patience_s - 5), self._stall_s) if opening.kind == "stream" else None
        try:
            if opening.wished:
                try:
                    return self._open_input(opening.url, format=opening.format, options=options | opening.wished)
                except (av.error.ArgumentError, av.error.InvalidDataError, OSError) as error:
                    if isinstance(error, FileNotFoundError | PermissionError):
                        raise
            return self._open_input(opening.url, format=opening.format, options=options, timeout=timeout)
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(_why_not(opening, error)) from error

    def _read(self, container: Any, paced: bool) -> None:
        """Decode until the end. Raises SourceError when it breaks."""
        if not container.streams.video:
            raise SourceError(f"{self.name} has no video")
        video = container.streams.video[0]
        video.codec_context.flags |= Flags.low_delay
        audio = container.streams.audio[0] if container.streams.audio else None
        self.has_sound = audio is not None
        clock = CaptureClock(paced, self._opening.kind in ("camera", "screen"))
        streams = (video,) if audio is None else (video, audio)
        try:
            for packet in container.demux(*streams):
                arrived = time.monotonic()
                if self._closing.is_set():
                    return
                if packet.stream.type == "audio":
                    self._hear(packet, clock)
                    continue
                try:
                    decoded = packet.decode()
                except av.error.InvalidDataError:
                    continue  # until the next keyframe; a stream joined midway begins like that
                for picture in decoded:
                    self._give(picture, clock, arrived, video)
        except av.error.ExitError as error:
            raise SourceError(f"{self.name} stalled: nothing came for {self._stall_s:g} s") from error
        except (av.error.FFmpegError, OSError) as error:
            if self._opening.kind == "camera":
                raise SourceError(f"{self.name} was unplugged or stopped ({error.strerror or error})") from error
            raise SourceError(f"{self.name} broke off ({error.strerror or error})") from error

    def _give(self, picture: av.VideoFrame, clock: CaptureClock, arrived: float, video: Any) -> None:
        number = self._number
        self._number += 1
        seconds = float(picture.pts * picture.time_base) if picture.pts is not None and picture.time_base else None
        at = clock.moment(seconds, arrived)
        if (wait := at - time.monotonic()) > 0:
            self._closing.wait(wait)
        elif clock.paced and -wait > clock.step:
            return  # its turn is over; the next one's comes
        if self._is_lost:
            self._is_lost = False
            self._notice(f"{self.name}: connected again")
        self._note_change(picture)
        y, uv = self._pictures.planes(picture)
        frame = Frame(y, uv, round((at - self._epoch) / TIME_BASE), TIME_BASE)
        if self._found is None:
            self.came_as = described(picture)
            rate = video.average_rate or getattr(video, "guessed_rate", None)
            self._found = VideoSpec(
                y.shape[2],
                y.shape[1],
                TIME_BASE,
                Fraction(rate) if rate and 1 <= rate <= 1000 else None,
                color=self._pictures.color(picture),
            )
            self._ready.set()
            if clock.paced:
                self._wanted.wait()
                clock.offset = (at := time.monotonic()) - (seconds or 0.0)
        self._slot.put(Captured(frame, at, number))

    def _note_change(self, picture: av.VideoFrame) -> None:
        size = picture.width, picture.height
        if self._size not in (None, size):
            self._notice("{}: the picture changes from {}x{} to {}x{}".format(self.name, *self._size or size, *size))
        self._size = size

    def _hear(self, packet: Any, clock: CaptureClock) -> None:
        """Decode sound if somebody listens."""
        if not self._ears or clock.offset is None:
            return
        try:
            for samples in packet.decode():
                if samples.pts is not None and samples.time_base is not None:
                    self._ears.hear(Sound(samples, clock.offset + float(samples.pts * samples.time_base)))
        except av.error.FFmpegError:
            pass  # a click


def shown_url(url: str) -> str:
    """A URL without its password."""
    address = urlsplit(url)
    return address._replace(netloc=address.netloc.rpartition("@")[2]).geturl() if "@" in address.netloc else url


def _has_length(container: Any) -> bool:
    """Whether it is a recording on a server rather than something that happens now."""
    return bool(container.duration and container.duration > 0)


def _why_not(opening: Opening, error: Exception) -> str:
    why = getattr(error, "strerror", None) or str(error)
    if isinstance(error, av.error.ProtocolNotFoundError):
        scheme = opening.url.partition("://")[0]
        return (
            f"{opening.name}: this build of FFmpeg does not speak {scheme}; rtsp, rtmp, udp and http are there, and "
            f"`ffmpeg -i {opening.name} -c copy -f mpegts udp://127.0.0.1:5000` passes it on as udp"
        )
    if isinstance(error, av.error.ExitError):
        return f"{opening.name}: nothing came in time; is something sending?"
    if opening.kind == "camera":
        if isinstance(error, FileNotFoundError):
            return f"there is no {opening.name}; `rtsr live --list` names those there are"
        if isinstance(error, PermissionError):
            return f"{opening.name} may not be opened by this user; on Linux, members of the group video may"
        return (
            f"{opening.name} does not open ({why}); another program may be using it, or it lacks that --size or --rate"
        )
    if opening.kind == "screen":
        return f"{opening.name} cannot be captured ({why}); is {opening.url.partition('+')[0]} an open display?"
    return f"{opening.name} cannot be opened ({why})"
