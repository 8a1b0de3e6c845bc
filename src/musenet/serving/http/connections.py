"""Connections: deadlines for clients that are slow or idle, and a bound on how many there are."""

import asyncio

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from musenet.serving.http.middleware import BUSY, refuse

HEADER_SECONDS = 10.0
"""In which a request's headers have to be here."""
ANSWER_SECONDS = 30.0
"""In which an answer has to be taken."""
MOST_CONNECTIONS = 500
"""Half of the files that a process may usually have open; requests on more are answered by 503."""


class Connection(H11Protocol):
    """Uvicorn's, with deadlines for what it waits for without end."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, but not for ever."""
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            self.app = _refuse_busy
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        """Headers that come in drops have no more time than others."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._cancel()
        elif self._deadline is None:
            self._expect_headers()

    def on_response_complete(self) -> None:
        """Nor is a client waited for that does not take its answer."""
        super().on_response_complete()
        if self.transport.get_write_buffer_size():
            self._cancel()
            self._deadline = self.loop.call_later(ANSWER_SECONDS, self._abort_unless_taken)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._cancel()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _abort_unless_taken(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def _cancel(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def _refuse_busy(scope: Scope, receive: Receive, send: Send) -> None:
    await refuse(send, *BUSY, close=True)
