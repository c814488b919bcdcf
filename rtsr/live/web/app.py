"""What the page asks the server for: its files, the control socket, the streams, and what a snapshot left to fetch."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from rtsr.live.web.streams import Mp4Stream, Stream

STATIC = Path(__file__).parent / "static"
# The only files that are served: a path is looked up here and never joined to a folder.
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    **{
        f"/{name}.js": (f"{name}.js", "text/javascript; charset=utf-8")
        for name in ("app", "camera", "control", "view", "ways", "stamp")
    },
}
MAX_VIEWERS = 8  # of all streams together
MAX_DOWNLOADS = 32
BOUNDARY = "rtsr-picture"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Download:
    """A file made for a visitor: on disk, or in memory."""

    name: str
    content: Path | bytes
    media_type: str


class Downloads:
    """The last few files to fetch, each under a name that cannot be guessed."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Download] = OrderedDict()

    def add(self, download: Download) -> str:
        """Its path, relative to the page."""
        key = secrets.token_urlsafe(16)
        self._kept[key] = download
        while len(self._kept) > MAX_DOWNLOADS:
            self._kept.popitem(last=False)
        return f"file/{key}"

    def get(self, key: str) -> Download | None:
        return self._kept.get(key)


class Seats:
    """How many watch. Raises nothing: take() says False when the house is full."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self) -> bool:
        if self.taken >= self.most:
            return False
        self.taken += 1
        return True

    def free(self) -> None:
        self.taken -= 1


@dataclass(frozen=True, slots=True)
class Parts:
    """What the routes need of the sink."""

    mp4: Mp4Stream
    jpeg: Stream
    jpeg_split: Stream
    downloads: Downloads
    seats: Seats
    stats: Callable[[], dict[str, object]]
    control: Callable[[WebSocket], Awaitable[None]]
    over: asyncio.Event


def make_app(parts: Parts) -> ASGIApp:
    """The application behind the guard."""

    async def static(request: Request) -> Response:
        name, media_type = FILES[request.url.path]
        return Response((STATIC / name).read_bytes(), media_type=media_type)

    async def stats(request: Request) -> Response:
        return JSONResponse(parts.stats())

    async def download(request: Request) -> Response:
        found = parts.downloads.get(request.path_params["key"])
        if found is None or (isinstance(found.content, Path) and not found.content.is_file()):
            return PlainTextResponse("This file is no longer here.\n", status_code=404)
        if isinstance(found.content, Path):
            return FileResponse(found.content, media_type=found.media_type, filename=found.name)
        name = re.sub(r"[^\w.-]", "_", found.name)
        disposition = {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(found.content, media_type=found.media_type, headers=disposition)

    async def mjpeg(request: Request) -> Response:
        stream = parts.jpeg_split if "split" in request.query_params else parts.jpeg
        if not parts.seats.take():
            return PlainTextResponse(full(), status_code=503)
        return _Jpegs(stream, parts)

    async def mp4(socket: WebSocket) -> None:
        if not parts.seats.take():
            await socket.close(1013, full())
            return
        try:
            await _mp4(socket, parts)
        finally:
            parts.seats.free()

    def full() -> str:
        return f"{parts.seats.most} are watching already, and that is the most."

    async def not_found(request: Request, error: Exception) -> Response:
        return PlainTextResponse("There is no such thing here.\n", status_code=404)

    routes = [
        *(Route(path, static) for path in FILES),
        Route("/stats.json", stats),
        Route("/file/{key}", download),
        Route("/mjpeg", mjpeg),
        WebSocketRoute("/mp4", mp4),
        WebSocketRoute("/control", parts.control),
    ]
    return Starlette(routes=routes, exception_handlers={404: not_found})


class _Jpegs(StreamingResponse):
    """One JPEG after the other, to anything that shows MJPEG; the seat is free again however it ends."""

    def __init__(self, stream: Stream, parts: Parts) -> None:
        self._stream, self._parts = stream, parts
        super().__init__(self._pictures(), media_type=f"multipart/x-mixed-replace; boundary={BOUNDARY}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._parts.seats.free()

    async def _pictures(self) -> AsyncIterator[bytes]:
        viewer = self._stream.join(asyncio.get_running_loop())
        try:
            while (part := await until(viewer.get(), self._parts.over)) is not None:
                head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part.data)}\r\n\r\n"
                yield head.encode() + part.data + b"\r\n"
        finally:
            self._stream.leave(viewer)


async def _mp4(socket: WebSocket, parts: Parts) -> None:
    """Text `{"codec": ...}` and a header before the first fragment and wherever they change, then fragments."""
    await socket.accept()
    viewer = parts.mp4.join(asyncio.get_running_loop())
    gone = asyncio.ensure_future(_drain(socket))
    header = b""
    try:
        while not gone.done() and (part := await until(viewer.get(), parts.over, gone)) is not None:
            if part.header != header:
                header = part.header
                await socket.send_json({"codec": part.codec})
                await socket.send_bytes(header)
            await socket.send_bytes(part.data)
        if not gone.done():
            await socket.close(1001, "The session is over.")
    except (WebSocketDisconnect, RuntimeError):
        return  # starlette says RuntimeError where one sends to a page that has just left
    finally:
        gone.cancel()
        parts.mp4.leave(viewer)


async def _drain(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


async def until(awaited: Awaitable[T], over: asyncio.Event, gone: asyncio.Future[None] | None = None) -> T | None:
    """What is awaited, or None when the session is over or the visitor gone before it comes."""
    wanted = asyncio.ensure_future(awaited)
    ended = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({wanted, ended, *([gone] if gone else [])}, return_when=asyncio.FIRST_COMPLETED)
        return wanted.result() if wanted.done() else None
    finally:
        wanted.cancel()
        ended.cancel()
