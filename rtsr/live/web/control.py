"""The control socket: what a page says and hears beside the pictures. JSON both ways, one object a message."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from rtsr import __version__
from rtsr.color import MATRIX_601, matrix_of
from rtsr.errors import RtsrError
from rtsr.frames import ColorTags, VideoSpec
from rtsr.live.contract import Controls, Shown
from rtsr.live.snapshot import png_pair
from rtsr.live.web.app import Download, Downloads, Seats
from rtsr.live.web.moment import Feed

STATS_S = 0.5
MAX_PAGES = 16
MAX_CAMERAS = 2


class Desk:
    """What all pages share. rtc: None, or why there is no WebRTC here. tiers: those a visitor's camera can have."""

    def __init__(
        self,
        controls: Controls,
        spec: VideoSpec,
        scale: int,
        feed: Feed,
        downloads: Downloads,
        viewers: Seats,
        tiers: tuple[str, ...],
        rtc: str | None,
    ) -> None:
        self.controls, self.spec, self.scale, self.feed = controls, spec, scale, feed
        self.downloads, self.viewers, self.tiers, self.rtc = downloads, viewers, tiers, rtc
        self.pages, self.cameras = Seats(MAX_PAGES), Seats(MAX_CAMERAS)
        self.over = asyncio.Event()

    async def serve(self, socket: WebSocket) -> None:
        """One page, until it leaves or the session is over."""
        await socket.accept()
        if not self.pages.take():
            await socket.send_json({"type": "error", "about": "page", "text": f"{MAX_PAGES} pages are open already."})
            await socket.close(1013)
            return
        page = Page(self, socket)
        try:
            await page.run()
        finally:
            self.pages.free()
            await page.close()

    def stats(self) -> dict[str, Any]:
        stats = self.controls.stats()
        made = {name: getattr(stats, name) for name in stats.__dataclass_fields__}
        return {**made, "viewers": self.viewers.taken, "pages": self.pages.taken, "cameras": self.cameras.taken}


class Page:
    """One page's socket, and its WebRTC connection if it has one."""

    def __init__(self, desk: Desk, socket: WebSocket) -> None:
        self._desk, self._socket = desk, socket
        self._loop = asyncio.get_running_loop()
        self._peer: Any = None  # Peer or CameraPeer: aiortc may not be installed
        self._has_camera = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: dict[str, Callable[[dict[str, Any]], Awaitable[dict[str, Any] | None]]] = {
            **{"ping": self._ping, "tier": self._tier, "detail": self._detail, "snapshot": self._snapshot},
            **{"record": self._record, "quit": self._quit, "offer": self._offer, "hangup": self._hangup},
            "split": self._split,
        }

    async def run(self) -> None:
        desk = self._desk
        await self._socket.send_json(
            {
                **{"type": "hello", "version": __version__, "scale": desk.scale},
                "source": [desk.spec.width, desk.spec.height],
                **{"webrtc": desk.rtc, "camera_tiers": desk.tiers},
            }
        )
        running = (self._listen(), self._tell(), desk.over.wait())
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(coroutine) for coroutine in running]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            if desk.over.is_set():
                await self._say({"type": "over", "text": "The session is over."})
                await self._socket.close(1001)
        except (WebSocketDisconnect, RuntimeError):
            return  # starlette says RuntimeError where one sends to a page that has just left
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self._hangup({})

    async def _listen(self) -> None:
        """Each message is answered in a task of its own: a snapshot must not hold up a ping."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            task = asyncio.ensure_future(self._answer(message.get("text") or ""))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, text: str) -> None:
        about = ""
        try:
            asked = json.loads(text)
            about = asked["type"]
            answer = await self._answers[about](asked)
        except (ValueError, TypeError, KeyError):
            answer = {"type": "error", "about": str(about)[:20], "text": "The page asked for something unknown."}
        except RtsrError as error:
            answer = {"type": "error", "about": about, "text": str(error)}
        if answer is not None:
            await self._say(answer)

    async def _tell(self) -> None:
        while True:
            stats = await self._loop.run_in_executor(None, self._desk.stats)
            mine = self._peer.stats() if self._has_camera else None
            await self._socket.send_text(json.dumps({"type": "stats", **stats, "camera": mine}, default=str))
            await asyncio.sleep(STATS_S)

    async def _say(self, message: dict[str, Any]) -> None:
        try:
            await self._socket.send_json(message)
        except (WebSocketDisconnect, RuntimeError):
            return  # the page has left; _listen() ends by itself

    async def _ping(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"type": "pong", "id": int(asked["id"]), "now": time.monotonic() * 1000}

    async def _tier(self, asked: dict[str, Any]) -> None:
        tier = None if asked["tier"] is None else str(asked["tier"])
        if not self._has_camera:
            await self._loop.run_in_executor(None, self._desk.controls.set_tier, tier)
        elif tier in self._desk.tiers:
            self._peer.tier = tier

    async def _detail(self, asked: dict[str, Any]) -> None:
        amount = float(asked["amount"])
        await self._loop.run_in_executor(None, self._desk.controls.set_detail, amount)

    async def _snapshot(self, asked: dict[str, Any]) -> dict[str, Any]:
        if self._has_camera:
            moment = self._peer.feed.last
            if moment is None:
                raise RtsrError("There is no picture yet to take.")
            shown: Shown = moment.shown
            pair = await self._loop.run_in_executor(None, png_pair, shown, ColorTags(MATRIX_601))
            name = f"rtsr-camera-{shown.number}"
            made = [Download(f"{name}-{which}.png", data, "image/png") for which, data in pair.items()]
        else:
            paths = await self._loop.run_in_executor(None, self._desk.controls.snapshot)
            made = [Download(path.name, path, "image/png") for path in paths]
        files = [{"name": download.name, "url": self._desk.downloads.add(download)} for download in made]
        return {"type": "snapshot", "files": files}

    async def _record(self, asked: dict[str, Any]) -> dict[str, Any]:
        on = bool(asked["on"])
        path: Path | None = await self._loop.run_in_executor(None, self._desk.controls.record, on)
        url = None
        if path is not None and not on and path.is_file():
            url = self._desk.downloads.add(Download(path.name, path, "application/octet-stream"))
        return {"type": "recording", "on": on, "name": path.name if path else None, "url": url}

    async def _quit(self, asked: dict[str, Any]) -> None:
        await self._loop.run_in_executor(None, self._desk.controls.quit)

    async def _split(self, asked: dict[str, Any]) -> None:
        if self._peer is not None:
            self._peer.track.split = bool(asked["on"])

    async def _offer(self, asked: dict[str, Any]) -> dict[str, Any]:
        desk, sdp, camera = self._desk, str(asked["sdp"]), bool(asked.get("camera"))
        if desk.rtc is not None:
            raise RtsrError(desk.rtc)
        from rtsr.live.web.peers import CameraPeer, Peer

        await self._hangup({})
        seats = desk.cameras if camera else desk.viewers
        if not seats.take():
            what = "visitors' cameras are being upscaled" if camera else "are watching"
            raise RtsrError(f"{seats.most} {what} already, and that is the most.")
        self._has_camera = camera
        if camera:
            tier = str(asked.get("tier") or "")
            tier = tier if tier in desk.tiers else desk.tiers[0]
            self._peer = CameraPeer(desk.scale, tier, "auto", self._camera_failed)
        else:
            self._peer = Peer(desk.feed, matrix_of(desk.spec.color.colorspace, desk.spec.height))
        try:
            return {"type": "answer", "id": asked.get("id"), "sdp": await self._peer.answer(sdp)}
        except Exception as error:  # aiortc raises whatever comes up in SDP that it cannot read
            await self._hangup({})
            raise RtsrError(f"WebRTC did not understand this browser's offer ({type(error).__name__})") from error

    async def _hangup(self, asked: dict[str, Any]) -> None:
        peer, self._peer = self._peer, None
        if peer is not None:
            (self._desk.cameras if self._has_camera else self._desk.viewers).free()
            self._has_camera = False
            await peer.close()

    def _camera_failed(self, sentence: str) -> None:
        task = asyncio.ensure_future(self._say({"type": "error", "about": "camera", "text": sentence}))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
