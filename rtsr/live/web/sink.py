"""The page of `rtsr live --web`: an HTTP server in a thread of its own that shows what the session makes."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import threading
from collections.abc import Callable

import uvicorn

from rtsr.errors import ConfigError, SinkError
from rtsr.frames import VideoSpec
from rtsr.live.contract import LIVE_RATE, Controls, Shown
from rtsr.live.tiers import quick_tiers
from rtsr.live.web.app import MAX_VIEWERS, Downloads, Parts, Seats, make_app
from rtsr.live.web.control import Desk
from rtsr.live.web.guard import Guard, is_loopback
from rtsr.live.web.moment import Feed
from rtsr.live.web.streams import JpegStream, Mp4Stream

MAX_MESSAGE = 64 << 10  # bytes of what a page may send: an SDP offer has 10 000
_GRACE_S = 2


class WebSink:
    """Serves the page from the opening on, at `url`; show() hands it pictures and never waits.

    controls: what the page's buttons do. spec: of the input, scale: how much larger the output is. host: where to
    listen; anything but loopback puts a random token into the URL. port: 0 takes any that is free. notice: gets a
    sentence for people, from any thread. Raises ConfigError if the address or the port cannot be had.
    """

    name = "web"
    is_view = False  # every page draws a dividing line of its own

    def __init__(
        self,
        controls: Controls,
        spec: VideoSpec,
        scale: int,
        host: str = "127.0.0.1",
        port: int = 0,
        notice: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self._controls, self._spec, self._scale, self._notice = controls, spec, scale, notice
        self._feed = Feed()
        color = spec.color
        self._mp4 = Mp4Stream(self._feed, notice, color, spec.rate or LIVE_RATE)
        self._jpegs = [JpegStream(self._feed, notice, color, split) for split in (False, True)]
        self._socket = _listen(host, port)
        self._token = "" if is_loopback(host) else secrets.token_urlsafe(24)
        self._host, self._port = host, self._socket.getsockname()[1]
        self.url = f"http://{_reachable(host)}:{self._port}/" + (f"{self._token}/" if self._token else "")
        self._server: uvicorn.Server | None = None
        self._desk: Desk | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready, self._closed = threading.Event(), False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="rtsr-web", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            self.close()
            raise SinkError(f"the page did not start: {self._error}") from self._error

    @property
    def dropped(self) -> dict[str, int]:
        """Pictures that were not encoded because newer ones came, by way."""
        return {stream.name: stream.dropped for stream in (self._mp4, *self._jpegs)}

    def show(self, picture: Shown) -> bool:
        if self._error is not None:
            raise SinkError(f"the page's server stopped: {self._error}")
        self._feed.put(picture)
        return True

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._loop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end)
        self._thread.join()
        for stream in (self._mp4, *self._jpegs):
            stream.close()
        self._socket.close()

    def _end(self) -> None:
        """In the server's loop: tell the pages, then stop."""
        assert self._server is not None and self._desk is not None
        self._desk.over.set()
        self._server.should_exit = True

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # raised by the next show(), in the thread of whoever calls it
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        downloads, seats = Downloads(), Seats(MAX_VIEWERS)
        tiers = quick_tiers(self._scale, "stream")  # what a visitor's browser sends is compressed
        webrtc = _open_webrtc(is_loopback(self._host))
        desk = Desk(self._controls, self._spec, self._scale, self._feed, downloads, seats, tuple(tiers), webrtc)
        self._desk = desk
        jpeg, jpeg_split = self._jpegs
        parts = Parts(self._mp4, jpeg, jpeg_split, downloads, seats, desk.stats, desk.serve, desk.over)
        app = Guard(make_app(parts), self._token, self._host, self._port)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,  # it would print the token
            lifespan="off",
            server_header=False,
            ws_max_size=MAX_MESSAGE,
            ws_per_message_deflate=False,  # video does not get smaller
            timeout_graceful_shutdown=_GRACE_S,
        )
        logger = logging.getLogger("uvicorn.error")
        logger.handlers, logger.propagate = [_Notices(self._notice)], False
        self._server = uvicorn.Server(config)
        self._ready.set()
        await self._server.serve(sockets=[self._socket])


class _Notices(logging.Handler):
    """What the server warns of, as a sentence."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._say = notice

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        first = record.getMessage().strip().split("\n")[0]
        self._say(f"page: {first}" + (f" ({type(error).__name__}: {error})" if error else ""))


def _open_webrtc(with_loopback: bool) -> str | None:
    """Make WebRTC ready; why there is none, or None."""
    try:
        from rtsr.live.web.rtc import lift_limits
    except ImportError as error:
        return f"WebRTC is not installed on the machine that upscales ({error.name or error}): pip install 'rtsr[live]'"
    lift_limits(with_loopback)
    return None


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error.strerror or error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()  # from now on a browser waits instead of being refused
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"the page cannot be served at {host}:{port} ({error.strerror or error}); another --web PORT may be free"
        ) from error
    return listening


def _reachable(host: str) -> str:
    """What to print for a host that means all addresses: the one that this machine would be reached at."""
    if host not in ("0.0.0.0", "::"):
        return f"[{host}]" if ":" in host else host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way it would go
            return probe.getsockname()[0]
        except OSError:
            return socket.gethostname()
