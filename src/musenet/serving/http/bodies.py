"""Bodies of requests: received within limits of time and memory, and read as JSON that says one thing."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from musenet.errors import RequestError
from musenet.serving.http.middleware import RETRY_AFTER
from musenet.serving.scorer.messages import Message, request_errors

LARGEST_BODIES = 64 << 20
"""Bytes of all the bodies that are held at once."""
BODY_SECONDS = 30.0
"""In which a body has to be here."""
MOST_PARTS = 100_000
"""Objects, lists and commas of a body, which say how much there is to read in it before it is read."""
AnyMessage = TypeVar("AnyMessage", bound=Message)


class BodyError(Exception):
    """A body that is no message; every mistake names its field."""

    def __init__(self, mistakes: list[RequestError]) -> None:
        super().__init__()
        self.mistakes = mistakes


class Bodies:
    """Receives bodies; all that are held at once are bounded."""

    def __init__(self) -> None:
        self._held = 0

    @asynccontextmanager
    async def received(self, request: Request) -> AsyncIterator[bytearray]:
        """The whole body.

        Raises:
            HTTPException: 408, 413, 415 or 503.
            ClientDisconnect: if the client has left before it was here.
        """
        # A page of another site may send text unasked, JSON only where it may read the answer.
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "send JSON, and say so: Content-Type: application/json")
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_SECONDS):
                async for part in request.stream():
                    body += part
                    self._held += len(part)
                    if self._held > LARGEST_BODIES:
                        raise HTTPException(503, "too many bodies at once: send it again", RETRY_AFTER)
        except TimeoutError:
            raise HTTPException(408, f"did not arrive within {BODY_SECONDS:.0f} seconds") from None
        else:
            yield body
        finally:
            self._held -= len(body)


def read_message(kind: type[AnyMessage], body: bytes | bytearray) -> AnyMessage:
    """The message that a body holds.

    Raises:
        BodyError: for a body that is no JSON object, holds too much, or says something twice or wrongly.
    """
    if sum(body.count(part) for part in (b",", b"[", b"{")) > MOST_PARTS:
        raise _error(f"holds more than {MOST_PARTS:,} values: send it in parts")
    try:
        content = json.loads(body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_number)
    except RecursionError:
        raise _error("is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _error(f"is no JSON (line {error.lineno}, column {error.colno})") from None
    except UnicodeDecodeError:
        raise _error("is no text in UTF-8") from None
    except ValueError:  # of whole numbers with thousands of digits
        raise _error("holds too long a number") from None
    if not isinstance(content, dict):
        raise _error("is no JSON object")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise BodyError(request_errors(error)) from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of these keys and values. Python's own lines at each object let other threads run while a large body is read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next((key for (key, _), own in zip(pairs, found, strict=False) if key != own), pairs[len(found)][0])
        raise _error(f"says `{twice[:50]}` twice in one object")
    return found


def _no_number(name: str) -> float:
    raise _error(f"holds {name}, which is no JSON")


def _error(reason: str) -> BodyError:
    return BodyError([RequestError("body", reason)])
