"""`--to URL`: the upscaled pictures as a stream, over RTMP, RTSP or UDP."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import av
import av.error

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import VideoSpec
from rtsr.live.contract import LiveSource, Shown
from rtsr.live.mux import LiveMuxer
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
_LOCAL = {"localhost", "127.0.0.1", "::1"}  # answers at once, and a receiver there may take one connection only
_STANDS_STILL = int(av.__version__.split(".")[0]) < 19
_BITS_PER_PIXEL = 0.1  # of H.264, quickest preset, without blocks that show
_KEYFRAME_S = 2  # after which a viewer who joins sees something


class SendSink:
    """Encodes with libx264, no picture held back, and sends until close(). spec: of the pictures.

    bitrate: bits a second, None for what fits the size. Raises ConfigError for a URL that cannot be sent to, SinkError
    when nobody listens there or the connection breaks.
    """

    name = "to"
    is_view = False

    def __init__(self, url: str, spec: VideoSpec, source: LiveSource, bitrate: int | None = None):
        self._url, self._shown, self._closed = url, shown_url(url), False
        scheme = urlsplit(url).scheme.lower()
        if scheme not in _MUXERS:
            known = ", ".join(f"{name}://" for name in _MUXERS)
            raise ConfigError(f"--to {self._shown}: cannot send by {scheme or 'that'}; this build sends to {known}")
        muxer, port = _MUXERS[scheme]
        if scheme != "udp" and _STANDS_STILL and urlsplit(url).hostname not in _LOCAL:
            self._knock(port)
        rate = spec.rate or 30
        bitrate = bitrate or max(int(spec.width * spec.height * rate * _BITS_PER_PIXEL), 300_000)
        tune = (("tune", "zerolatency"), ("g", str(round(_KEYFRAME_S * rate))), ("bf", "0"))
        encoding = Encoding("libx264", preset="ultrafast", bitrate=bitrate, options=tune)
        encoder = replace(encoding.resolve(Path("stream.ts"), spec), bitrate=bitrate)
        options = {"rtsp_transport": "tcp"} if scheme == "rtsp" else {}
        if scheme == "udp" and "pkt_size" not in url:
            url += ("&" if "?" in url else "?") + "pkt_size=1316"  # whole TS packets that fit Ethernet's
        if scheme in ("rtmp", "rtmps"):
            options["flvflags"] = "no_duration_filesize"
        try:
            output = av.open(url, "w", format=muxer, container_options=options, timeout=(_CONNECT_S, _CONNECT_S))
            self._muxer = LiveMuxer(output, encoder, spec, source.has_sound, bitrate)
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"--to {self._shown}: cannot be opened ({error.strerror or error})") from error
        self._deafen = source.listen(self._muxer.hear)

    def show(self, picture: Shown) -> None:
        if self._closed:
            return
        try:
            self._muxer.write(picture)
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"--to {self._shown}: the connection broke ({error.strerror or error})") from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._deafen()
        try:
            self._muxer.close()
        except (av.error.FFmpegError, OSError) as error:
            raise SinkError(f"--to {self._shown}: the end could not be sent ({error.strerror or error})") from error

    def _knock(self, port: int) -> None:
        """PyAV before 19 lets no other thread run while it connects, and a host that does not answer takes minutes."""
        address = urlsplit(self._url)
        try:
            socket.create_connection((address.hostname or "", address.port or port), _CONNECT_S).close()
        except OSError as error:
            raise SinkError(f"--to {self._shown}: nobody answers there ({error.strerror or error})") from error
