"""What every HTTP request passes on its way in and out: who may ask, what is counted, and the headers of answers."""

import hmac
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musenet.serving.http.counters import Counters
from musenet.serving.http.structured_log import say

LARGEST_BODY = 8 << 20
TOO_LARGE = f"is larger than {LARGEST_BODY >> 20} MiB: send it in parts"
RETRY_AFTER = {"retry-after": "1"}
"""Beside 503: what is short now is there again in a moment."""
BUSY = (503, "service", "too many requests at once: send it again")
"""Status, field and reason."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
OPEN_TO_ALL = ("/", "/health", "/ready")
OURS = ("same-origin", "none")
"""What browsers say of requests of the explorer's own pages, and of addresses that were typed."""
OPEN_FOLDER = "/explorer/static/"
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may ask: with a token whoever knows it; without one, this machine alone."""

    token: str | None = field(default=None, repr=False)

    def refusal(self, path: str, headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
        """Status, field and reason if a request is refused."""
        given = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in headers}
        is_open = path in OPEN_TO_ALL or path.startswith(OPEN_FOLDER)
        if not is_open and given.get("sec-fetch-site", "none") not in OURS:
            return 403, "Sec-Fetch-Site", "pages of other sites are not answered"
        if self.token is None:
            return _refusal_here(given)
        kind, _, token = given.get("authorization", "").partition(" ")
        if is_open or (kind.lower() == "bearer" and hmac.compare_digest(token.encode("latin-1"), self.token.encode())):
            return None
        return 401, "Authorization", "the bearer token is missing or wrong"


def _refusal_here(given: dict[str, str]) -> tuple[int, str, str] | None:
    """Refuses what comes from elsewhere, where this machine alone may ask."""
    host = given.get("host", "")
    # A page of another site may reach this machine's port under a name of its own, never under ours.
    if _name_of(host) not in LOOPBACK:
        return 403, "Host", "without a token, the service is for this machine only: use localhost or 127.0.0.1"
    if "origin" in given and given["origin"].partition("://")[2] != host:
        return 403, "Origin", "pages of other sites are not answered"
    return None


class ServiceMiddleware:
    """Middleware that refuses, counts, times and logs.

    Args:
        app: what answers.
        access: who may ask.
        counters: what is counted.
    """

    def __init__(self, app: ASGIApp, access: Access, counters: Counters) -> None:
        self._app, self._access, self._counters = app, access, counters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", []), *_extra(message.get("headers", []))]}
            await send(message)

        refused = self._access.refusal(scope["path"], scope["headers"]) or _too_large(scope["headers"])
        try:
            if refused is None:
                await self._app(scope, _limited(receive), sent)
            else:
                await refuse(sent, *refused)
        finally:
            self._note(scope, status, time.perf_counter() - started)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._counters.requests.labels(route, str(status)).inc()
        self._counters.seconds.labels(route).observe(seconds)
        level = logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR
        say("request", level, method=scope["method"], route=route, status=status, ms=round(seconds * 1000, 2))


def _too_large(headers: Iterable[tuple[bytes, bytes]]) -> tuple[int, str, str] | None:
    """A refusal if the body is announced as too large."""
    lengths = [value for name, value in headers if name.lower() == b"content-length"]
    too_large = any(value.isdigit() and int(value[:20]) > LARGEST_BODY for value in lengths)
    return (413, "body", TOO_LARGE) if too_large else None


def _limited(receive: Receive) -> Receive:
    """The same, refusing a body that turns out too large."""
    size = 0

    async def received() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LARGEST_BODY:
            raise HTTPException(413, TOO_LARGE)
        return message

    return received


def _extra(present: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.decode("latin-1").lower() for name, _ in present}
    return [(name.encode(), value.encode()) for name, value in HEADERS.items() if name not in names]


async def refuse(send: Send, status: int, field: str, reason: str, *, close: bool = False) -> None:
    """Answer a request by its refusal, and close its connection if wanted."""
    headers, body = refused_by(status, field, reason, close=close)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refused_by(status: int, field: str, reason: str, *, close: bool) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal."""
    body = json.dumps({"errors": [{"field": field, "reason": reason}]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status == 503:
        headers += [(name.encode(), value.encode()) for name, value in RETRY_AFTER.items()]
    if close:
        headers.append((b"connection", b"close"))
    return headers, body


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if ":" in host else host


def json_body(content: Any) -> bytes:
    """JSON in plain ASCII, so that no text that was sent can fail to be written."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")
