"""Answers messages one after the other, away from the event loop: which answers `/health` meanwhile."""

import asyncio
import os
from collections.abc import Callable
from typing import Any, TypeVar

import anyio.to_thread
from anyio import CancelScope, CapacityLimiter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from musenet.serving.http.bodies import AnyMessage, Bodies, read_message
from musenet.serving.http.middleware import BUSY, RETRY_AFTER, json_body

WRITES = 64
"""Calls that may be with the store at once; it commits together what waits."""
WAITING = 16
"""Requests that may wait for each turn: more would wait for longer than their callers do."""

Result = TypeVar("Result")


class Answering:
    """Takes as many requests as there are processors, lets some wait, and refuses more."""

    def __init__(self) -> None:
        self._bodies = Bodies()
        self._computing, self._writing = CapacityLimiter(os.cpu_count() or 1), CapacityLimiter(WRITES)

    async def __call__(
        self, request: Request, kind: type[AnyMessage], answer: Callable[[AnyMessage], Any], *, writes: bool = False
    ) -> Response:
        """The answer to the message in a request's body, as JSON; a request is dropped when its client leaves.

        Args:
            request: what is answered.
            kind: of message.
            answer: what to answer; called in another thread.
            writes: whether it waits for the store rather than compute.

        Raises:
            BodyError: if the body is no such message.
            ClientDisconnect: if the client has left.
            HTTPException: 408, 413, 415 or 503, if the body is refused or too many wait.
        """
        async with self._bodies.received(request) as body:
            with CancelScope() as scope:
                leaving = asyncio.create_task(_cancel_when_left(request, scope))
                try:
                    if not writes:
                        content = await _in_turn(self._computing, lambda: json_body(answer(read_message(kind, body))))
                    else:
                        message = await _in_turn(self._computing, lambda: read_message(kind, body))
                        content = await _in_turn(self._writing, lambda: json_body(answer(message)))
                finally:
                    leaving.cancel()
                return Response(content, media_type="application/json")
            raise ClientDisconnect


async def _in_turn(limiter: CapacityLimiter, call: Callable[[], Result]) -> Result:
    if limiter.statistics().tasks_waiting >= WAITING * limiter.total_tokens:
        raise HTTPException(BUSY[0], BUSY[2], RETRY_AFTER)
    return await anyio.to_thread.run_sync(call, limiter=limiter)


async def _cancel_when_left(request: Request, scope: CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
