"""`--to URL`: the upscaled pictures as a stream, over RTMP, RTSP or UDP."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import av.error

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import VideoSpec
from rtsr.live.contract import LIVE_RATE, LiveSource, Shown
from rtsr.live.mux import LiveMuxer
from rtsr.live.reconnect import Reconnect
from rtsr.live.stream import shown_url
from rtsr.sinks.encoding import Encoding

# scheme -> FFmpeg's muxer and the port it means
_MUXERS = {
    "rtmp": ("flv", 1935),
    "rtmps": ("flv", 443),
    "rtsp": ("rtsp", 554),
    "udp": ("mpegts", 0),
    "tcp": ("mpegts", 0),
}
_CONNECT_S = 5.0
_STALL_S = 5.0
_LOCAL = {"localhost", "127.0.0.1", "::1"}  # answers at once, and a receiver there may take one connection only
_STANDS_STILL = int(av.__version__.split(".")[0]) < 19
_BITS_PER_PIXEL = 0.1  # of H.264, quickest preset, without blocks that show
_KEYFRAME_S = 2  # after which a viewer who joins sees something


class SendSink:
    """Encodes with libx264, no picture held back, and sends until close(). spec: of the pictures.

    bitrate: bits a second, None for what fits the size. retry: attempts to connect again, in a row, to a receiver that
    was there once; meanwhile pictures are dropped. notice: gets a sentence for each. Raises ConfigError for a URL that
    cannot be sent to, SinkError when nobody listens there, or the connection broke and retry is used up.
    """

    name = "to"
    is_view = False

    def __init__(
        self,
        url: str,
        spec: VideoSpec,
        source: LiveSource,
        bitrate: int | None = None,
        retry: int = 0,
        notice: Callable[[str], None] = lambda sentence: None,
    ):
        self._url, self._shown = url, shown_url(url)
        self._spec, self._source, self._notice = spec, source, notice
        scheme = urlsplit(url).scheme.lower()
        if scheme not in _MUXERS:
            known = ", ".join(f"{name}://" for name in _MUXERS)
            raise ConfigError(f"--to {self._shown}: cannot send by {scheme or 'that'}; this build sends to {known}")
        self._format, port = _MUXERS[scheme]
        self._knock_at = port if scheme != "udp" and _STANDS_STILL and urlsplit(url).hostname not in _LOCAL else None
        rate = spec.rate or LIVE_RATE
        self._bitrate = bitrate or max(int(spec.width * spec.height * rate * _BITS_PER_PIXEL), 300_000)
        tune = (("tune", "zerolatency"), ("g", str(round(_KEYFRAME_S * rate))), ("bf", "0"))
        encoding = Encoding("libx264", preset="ultrafast", bitrate=self._bitrate, options=tune)
        self._encoder = replace(encoding.resolve(Path("stream.ts"), spec), bitrate=self._bitrate)
        if scheme == "udp" and "pkt_size" not in url:
            self._url += ("&" if "?" in url else "?") + "pkt_size=1316"  # whole TS packets that fit Ethernet's
        self._options = {"rtsp_transport": "tcp"} if scheme == "rtsp" else {}
        if scheme in ("rtmp", "rtmps"):
            self._options["flvflags"] = "no_duration_filesize"
        self._reconnect, self._may_retry = Reconnect(retry), retry > 0
        self._muxer: LiveMuxer | None = None
        self._next_try = 0.0
        self._deafen: Callable[[], None] = lambda: None
        self._connect()

    def show(self, picture: Shown) -> bool:
        if self._muxer is None and not self._connected_again():
            return False
        assert self._muxer is not None, "it is connected"
        try:
            self._muxer.write(picture)
        except (av.error.FFmpegError, OSError) as error:
            self._hang_up()
            self._lost(f"--to {self._shown}: the connection broke ({_why(error)})", time.monotonic() - self._since)
            return False
        return True

    def close(self) -> None:
        if self._muxer is None:
            if self._next_try:
                self._next_try = 0.0
                raise SinkError(f"--to {self._shown}: there was no connection at the end")
            return
        muxer, self._muxer = self._muxer, None
        self._deafen()
        try:
            muxer.close()
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"--to {self._shown}: the end could not be sent ({_why(error)})") from error

    def _connect(self) -> None:
        """Raises SinkError."""
        if self._knock_at is not None:
            self._knock(self._knock_at)
        options, timeout = dict(self._options), (_CONNECT_S, _CONNECT_S)
        before = _sockets()
        try:
            output = av.open(self._url, "w", format=self._format, container_options=options, timeout=timeout)
            self._muxer = LiveMuxer(output, self._encoder, self._spec, self._source.has_sound, self._bitrate)
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"--to {self._shown}: cannot be opened ({_why(error)})") from error
        _break_when_stalled(_sockets() - before)
        self._deafen = self._source.listen(self._muxer.hear)
        self._since = time.monotonic()

    def _connected_again(self) -> bool:
        """Whether it is, after an attempt if the time for one has come. Raises SinkError when there is none left."""
        if time.monotonic() < self._next_try:
            return False
        try:
            self._connect()
        except SinkError as error:
            self._lost(str(error), 0.0)
            return False
        self._notice(f"--to {self._shown}: connected again")
        return True

    def _lost(self, failure: str, lasted_s: float) -> None:
        pause = self._reconnect.next(lasted_s)
        if pause is None:
            self._next_try = 0.0
            hint = "" if self._may_retry else "; with --retry N it is connected again"
            raise SinkError(self._reconnect.resignation(failure) + hint)
        self._next_try = time.monotonic() + pause
        self._notice(self._reconnect.announcement(failure, pause))

    def _hang_up(self) -> None:
        """Free what a broken connection leaves."""
        muxer, self._muxer = self._muxer, None
        self._deafen()
        if muxer is not None:
            with suppress(av.error.FFmpegError, OSError):  # it is broken, which was said already
                muxer.abandon()

    def _knock(self, port: int) -> None:
        """PyAV before 19 lets no other thread run while it connects, and a host that does not answer takes minutes."""
        address = urlsplit(self._url)
        try:
            socket.create_connection((address.hostname or "", address.port or port), _CONNECT_S).close()
        except OSError as error:
            raise SinkError(f"--to {self._shown}: nobody answers there ({_why(error)})") from error


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _sockets() -> set[int]:
    """Descriptors of this process's sockets, where the system tells them (Linux)."""
    found = set()
    for entry in Path("/proc/self/fd").glob("*"):
        with suppress(OSError):  # it is closed already
            if str(entry.readlink()).startswith("socket:"):
                found.add(int(entry.name))
    return found


def _break_when_stalled(sockets: set[int]) -> None:
    """A receiver that takes nothing for _STALL_S breaks the connection: FFmpeg would wait for ever, and while it closes
    an output PyAV before 19 lets no other thread run."""
    for number in sockets:
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as connection:  # not of TCP, or closed already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(1e3 * _STALL_S))
