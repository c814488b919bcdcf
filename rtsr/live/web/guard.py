"""Who may talk to the page: the token in the path, the Host against DNS rebinding, the Origin against other pages."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "connect-src 'self' ws://{host}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: lets through what the page itself asks for, and answers everything else with 403 and why.

    token: what the path must begin with; empty on loopback. host, port: where the server listens. Takes the token off
    the path. A request without an Origin is no page's, or is a plain GET: Sec-Fetch-Site tells those of other pages.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, port: int) -> None:
        self._app, self._token = app, token
        self._names = allowed_names(host)
        self._any_address = not is_loopback(host)
        self._port = port

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        send = _with_headers(send, headers.get("host", "")) if scope["type"] == "http" else send
        if refusal is None:
            path = scope["path"][len(self._token) + 1 :] if self._token else scope["path"]
            await self._app({**scope, "path": path or "/", "raw_path": None}, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": refusal})
        else:
            await PlainTextResponse(refusal + "\n", status_code=403)(scope, receive, send)

    def _refusal(self, scope: dict[str, Any] | Scope, headers: Headers) -> str | None:
        host = headers.get("host", "").lower()
        if not self._is_ours(host):
            return "This address is not one of this page's; open it by the one that rtsr printed."
        if self._token:
            given = scope["path"].split("/")[1]
            if not secrets.compare_digest(given.encode(), self._token.encode()):
                return "The token in the address is missing or wrong; open the page by the address that rtsr printed."
        origin = headers.get("origin")
        if origin is not None and origin.lower() != f"http://{host}":
            return "Another page may not talk to this one."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
            opens = scope["type"] == "http" and scope["method"] == "GET"
            if not (opens and headers.get("sec-fetch-dest") == "document"):
                return "Another page may not use what belongs to this one."
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names us. A rebound name is neither an address nor one of this machine's names."""
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not name:
            name, port = host, "80"
        if port != str(self._port) and not (port == "" and self._port == 80):
            return False
        name = name.strip("[]")
        return name in self._names or (self._any_address and _is_address(name))


def allowed_names(host: str) -> set[str]:
    """Names that a browser may have opened the page by."""
    if is_loopback(host):
        return {"127.0.0.1", "localhost", "::1", host.lower()}
    machine = socket.gethostname().lower()
    return {host.lower(), machine, f"{machine.split('.')[0]}.local", "localhost"}


def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_headers(send: Send, host: str) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            # A refused Host goes into no header; what passed holds name and port only.
            clean = host if all(c.isalnum() or c in ".-:[]" for c in host) else ""
            for name, value in _HEADERS.items():
                headers.setdefault(name, value.replace("ws://{host}", f"ws://{clean}" if clean else ""))
        await send(message)

    return sending
