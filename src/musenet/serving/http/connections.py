"""Connections: deadlines for clients that are slow or idle, a bound on how many there are, and an answer to each."""

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from musenet.serving.http.middleware import BUSY, refuse, refused_by

HEADER_SECONDS = 10.0
"""In which a request's headers have to be here."""
ANSWER_SECONDS = 30.0
"""In which an answer has to be taken, and the rest be sent of a request that was answered before it was here."""
IDLE_SECONDS = 75
"""After which an idle connection is closed. Clients and proxies close theirs after a minute at most, and shall be
first: they alone know whether a request is on its way."""
LEAVING_SECONDS = 5.0
"""In which a client takes the last answer of a connection."""
MOST_CONNECTIONS = 500
"""Half of the files that a process may usually have open; more take the place of idle ones, or are answered by 503."""


class Connection(H11Protocol):
    """Uvicorn's, with deadlines for what it waits for without end."""

    _deadline: asyncio.TimerHandle | None = None
    _leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        self._wire, self.timeout_keep_alive = transport, IDLE_SECONDS
        super().connection_made(_Wire(transport, self._close))  # type: ignore[arg-type]
        if len(self.connections) > MOST_CONNECTIONS and not self._close_another():
            self.app = _refuse_busy
        self._expect(HEADER_SECONDS, self._refuse_late)

    def data_received(self, data: bytes) -> None:
        """Headers that come in drops have no more time than others."""
        if self._leaving:
            return
        super().data_received(data)
        if self.conn.our_state is h11.DONE:  # of a request that was answered before it was here, some is missing still
            return
        if self.conn.their_state is not h11.IDLE:
            self._cancel()
        elif not self.conn.trailing_data[0]:
            self._expect(IDLE_SECONDS, self.timeout_keep_alive_handler)
        elif self._deadline is None:
            self._expect(HEADER_SECONDS, self._refuse_late)

    def on_response_complete(self) -> None:
        """Nor is a client waited for that does not take its answer."""
        if self._leaving:
            return
        super().on_response_complete()
        if self._owes():
            self._expect(ANSWER_SECONDS, self._abort_if_it_owes)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        super().connection_lost(exc)
        self._cancel()

    def _owes(self) -> bool:
        return self.transport.get_write_buffer_size() > 0 or self.conn.our_state is h11.DONE

    def _abort_if_it_owes(self) -> None:
        if self._owes():
            self.transport.abort()

    def _refuse_late(self) -> None:
        headers, body = refused_by(408, "headers", f"did not arrive within {HEADER_SECONDS:.0f} seconds", close=True)
        for event in (h11.Response(status_code=408, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self._leave()

    def _close(self) -> None:
        """Close; but where a client is still sending, that would cost it the answer."""
        if self.conn.their_state in (h11.SEND_BODY, h11.ERROR):
            self._leave()
        elif not self._leaving:
            self._wire.close()

    def _leave(self) -> None:
        """Let the client read and close first; what else it sends is dropped."""
        self._leaving = True
        self._wire.write_eof()
        self.flow.resume_reading()
        self._expect(LEAVING_SECONDS, self._wire.abort)

    def _close_another(self) -> bool:
        """Close the connection that is idle for longest, if there is one."""
        idle = {
            one: one.timeout_keep_alive_task.when()
            for one in self.connections
            if isinstance(one, Connection) and one.timeout_keep_alive_task is not None
        }
        if idle:
            longest = min(idle, key=lambda one: idle[one])
            longest.timeout_keep_alive_handler()
            longest._unset_keepalive_if_required()
        return bool(idle)

    def _expect(self, seconds: float, otherwise: Callable[[], object]) -> None:
        self._cancel()
        self._deadline = self.loop.call_later(seconds, otherwise)

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Wire:
    """A transport that its connection closes in its own way."""

    def __init__(self, wire: asyncio.Transport, close: Callable[[], None]) -> None:
        self._wire, self.close = wire, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)


async def _refuse_busy(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(send, *BUSY, close=True)
