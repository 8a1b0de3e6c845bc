"""The HTTP service: scores, events and items; its scenarios, health and counters; and the explorer."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Body, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from musenet import __version__
from musenet.errors import RequestError, StoreError, UserError
from musenet.serving.explorer.routes import explorer_router
from musenet.serving.http import examples
from musenet.serving.http.counters import Counters
from musenet.serving.http.middleware import Access, ServiceMiddleware, json_body
from musenet.serving.http.structured_log import LOGGER, say
from musenet.serving.scorer.messages import (
    Events,
    EventsKept,
    ItemsKept,
    Mistakes,
    NewItems,
    ScoreRequest,
    ScoreResponse,
    mistake,
)
from musenet.serving.service.scenario_description import ScenariosAnswer
from musenet.serving.service.service import Service

RELOAD_SECONDS = 2.0
WAITING_WRITES = 64
"""Calls that may wait for the store at once; it commits together what waits."""

Answer = TypeVar("Answer")
_FIELDS = {404: "path", 405: "method", 413: "body", 415: "Content-Type"}
REFUSED: dict[int | str, dict[str, Any]] = {
    400: {"model": Mistakes, "description": "The body cannot be read"},
    401: {"model": Mistakes, "description": "The bearer token is missing or wrong"},
    403: {"model": Mistakes, "description": "Without a token, only this machine is answered"},
    413: {"model": Mistakes, "description": "The body is too large"},
    422: {"model": Mistakes, "description": "What was sent cannot be used; every mistake names its field"},
    503: {"model": Mistakes, "description": "The history store does not answer: send it again"},
}


def create_app(service: Service, access: Access = Access(), *, reload_seconds: float = RELOAD_SECONDS) -> FastAPI:  # noqa: B008
    """The application; it closes the service when it ends.

    Args:
        service: what answers.
        access: who may ask.
        reload_seconds: how often a new export is looked for.
    """
    counters = Counters()
    counters.use(service.scorer.version)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        say("started", model=service.scorer.version)
        watching = asyncio.create_task(_reload_for_ever(service, counters, reload_seconds))
        try:
            yield
        finally:
            watching.cancel()
            service.close()
            say("stopped")

    app = FastAPI(
        title="musenet",
        version=__version__,
        description="Scores a user's candidates by their hidden scenario, and keeps histories current.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    _add_routes(app, service, counters)
    _add_state_routes(app, service, counters)
    app.include_router(explorer_router(service))
    _explain_errors(app)
    app.add_middleware(ServiceMiddleware, access=access, counters=counters)
    return app


def _add_routes(app: FastAPI, service: Service, counters: Counters) -> None:
    scoring, writing = CapacityLimiter(os.cpu_count() or 1), CapacityLimiter(WAITING_WRITES)

    async def in_thread(limiter: CapacityLimiter, call: Callable[[], Answer]) -> Answer:
        return await anyio.to_thread.run_sync(call, limiter=limiter)

    @app.post("/score", responses={200: {"model": ScoreResponse}, **REFUSED}, tags=["serving"])
    async def score(request: Annotated[ScoreRequest, Body(openapi_examples=examples.SCORE)]) -> Response:
        """Score a user's candidates; the answer is in the order asked."""
        answer = await in_thread(scoring, lambda: service.score(request))
        counters.candidates.observe(len(request.candidates))
        for what in ("user", "items"):
            counters.unseen.labels(what).inc(answer["unknown"][what])
        return _json(answer)

    @app.post("/events", responses={200: {"model": EventsKept}, **REFUSED}, tags=["serving"])
    async def events(sent: Annotated[Events, Body(openapi_examples=examples.EVENTS)]) -> Response:
        """Keep what users did; an event that is sent again counts once."""
        new = await in_thread(writing, lambda: service.add_events(sent.events))
        counters.events.labels("new").inc(sum(new))
        counters.events.labels("known").inc(len(new) - sum(new))
        return _json({"events": len(new), "new": sum(new)})

    @app.post("/items", responses={200: {"model": ItemsKept}, **REFUSED}, tags=["serving"])
    async def items(sent: Annotated[NewItems, Body(openapi_examples=examples.ITEMS)]) -> Response:
        """Make attributes of new or changed items known."""
        return _json({"items": await in_thread(writing, lambda: service.add_items(sent.items))})


def _add_state_routes(app: FastAPI, service: Service, counters: Counters) -> None:
    refused: dict[int | str, dict[str, Any]] = {status: REFUSED[status] for status in (401, 403)}

    @app.get("/scenarios", responses={200: {"model": ScenariosAnswer}, **refused}, tags=["model"])
    def scenarios() -> Response:
        """What the model's scenarios are, as the report says it."""
        return _json(service.scenarios.model_dump())

    @app.get("/health", responses={403: REFUSED[403]}, tags=["state"])
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @app.get("/ready", responses={403: REFUSED[403], 503: REFUSED[503]}, tags=["state"])
    def ready() -> dict[str, str]:
        """Requests can be answered: the model is loaded and the history store answers."""
        service.check()
        return {"status": "ready", "model": service.scorer.version}

    @app.get(
        "/metrics", responses={200: {"content": {"text/plain": {}}}, **refused}, response_class=Response, tags=["state"]
    )
    async def metrics() -> Response:
        """Counters and times, for Prometheus."""
        return Response(counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _reload_for_ever(service: Service, counters: Counters, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            if await anyio.to_thread.run_sync(service.reload):
                counters.use(service.scorer.version)
                counters.reloads.labels("taken").inc()
                say("reloaded", model=service.scorer.version)
        except UserError as error:
            counters.reloads.labels("refused").inc()
            say("reload refused", logging.ERROR, reason=str(error))
        except Exception:
            counters.reloads.labels("failed").inc()
            LOGGER.exception("reload failed")


def _explain_errors(app: FastAPI) -> None:
    """Every refusal in one shape, by the name of the field."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        return _refused(422, *(_named(found) for found in error.errors()))

    @app.exception_handler(RequestError)
    async def unusable(_: Request, error: RequestError) -> Response:
        return _refused(422, error)

    @app.exception_handler(StoreError)
    async def without_store(_: Request, error: StoreError) -> Response:
        say("store failed", logging.ERROR, reason=str(error))
        return _refused(503, RequestError("store", "the history store does not answer: send it again"))

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        answer = _refused(error.status_code, RequestError(_FIELDS.get(error.status_code, "body"), str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer


def _named(found: dict[str, Any]) -> RequestError:
    """A mistake that FastAPI found: its place begins with `body`."""
    place = found["loc"][1:]
    if found["type"] == "json_invalid" or not place:
        return RequestError("body", "is no JSON object; send one with Content-Type: application/json")
    return mistake(place, str(found["msg"]).removeprefix("Value error, "))


def _json(content: Any) -> Response:
    return Response(json_body(content), media_type="application/json")


def _refused(status: int, *errors: RequestError) -> Response:
    distinct = {error.field: {"field": error.field, "reason": error.reason} for error in reversed(errors)}
    body = json_body({"errors": list(distinct.values())[::-1]})
    return Response(body, status_code=status, media_type="application/json")
