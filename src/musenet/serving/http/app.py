"""The HTTP service: scores, events and items; its scenarios, health and counters; and the explorer."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from musenet import __version__
from musenet.errors import RequestError, StoreError, UserError
from musenet.serving.explorer.routes import explorer_router
from musenet.serving.http import examples
from musenet.serving.http.answering import Answering
from musenet.serving.http.bodies import BodyError
from musenet.serving.http.counters import Counters
from musenet.serving.http.middleware import RETRY_AFTER, Access, ServiceMiddleware, json_body
from musenet.serving.http.structured_log import LOGGER, say
from musenet.serving.scorer.messages import (
    Events,
    EventsKept,
    Forgotten,
    ItemsKept,
    Message,
    Mistakes,
    NewItems,
    ScoreRequest,
    ScoreResponse,
)
from musenet.serving.service.mix import MixAnswer, MixChange
from musenet.serving.service.scenario_description import ScenariosAnswer
from musenet.serving.service.service import Service

RELOAD_SECONDS = 2.0
LEFT = 499
"""Status in logs and counters of a request whose client left before it was answered, as nginx has it."""
LONGEST_SAID = 1000
"""Characters of a field's name or a reason in a refusal."""
MESSAGES = (ScoreRequest, Events, NewItems, MixChange)
SCHEMAS = "#/components/schemas/{model}"

_FIELDS = {404: "path", 405: "method", 408: "body", 413: "body", 415: "Content-Type", 503: "service"}
REFUSED: dict[int | str, dict[str, Any]] = {
    401: {"model": Mistakes, "description": "The bearer token is missing or wrong"},
    403: {"model": Mistakes, "description": "Without a token, only this machine is answered"},
    408: {"model": Mistakes, "description": "The body did not arrive in time"},
    413: {"model": Mistakes, "description": "The body is too large"},
    415: {"model": Mistakes, "description": "The body does not say that it is JSON"},
    422: {"model": Mistakes, "description": "What was sent cannot be used; every mistake names its field"},
    503: {
        "model": Mistakes,
        "description": "Too many requests at once, or the history store does not answer: send it again",
    },
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
        if service.scorer.sees_histories and service.store.filled is None:
            say("no log filled the history store: users are new until events come; `musenet load-history` fills it")
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
        description="Scores a user's candidates with latent scenarios, and keeps histories up to date.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    answering = Answering()
    _add_routes(app, service, counters, answering)
    _add_state_routes(app, service, counters, answering)
    app.include_router(explorer_router(service, answering))
    _explain_errors(app)
    _describe_messages(app)
    app.add_middleware(ServiceMiddleware, access=access, counters=counters)
    return app


def _add_routes(app: FastAPI, service: Service, counters: Counters, answering: Answering) -> None:
    @app.post("/score", **_described(ScoreRequest, examples.SCORE, ScoreResponse))
    async def score(request: Request) -> Response:
        """Score a user's candidates; the answer is in the order asked."""

        def answer(asked: ScoreRequest) -> dict[str, Any]:
            scored = service.score(asked)
            counters.candidates.observe(len(asked.candidates))
            for what in ("user", "items"):
                counters.unseen.labels(what).inc(scored["unknown"][what])
            return scored

        return await answering(request, ScoreRequest, answer)

    @app.post("/events", **_described(Events, examples.EVENTS, EventsKept))
    async def events(request: Request) -> Response:
        """Keep what users did; an event that is sent again counts once, and one that counts nowhere is ignored."""

        def answer(sent: Events) -> dict[str, int]:
            added = service.add_events(sent.events)
            kept, new, answered = len(added.new), sum(added.new), sum(added.answers)
            ignored = len(sent.events) - kept
            for what, count in {"new": new, "known": kept - new, "ignored": ignored}.items():
                counters.events.labels(what).inc(count)
            for what, count in {"waited for": answered, "too late": len(added.answers) - answered}.items():
                counters.answers.labels(what).inc(count)
            return {"events": len(sent.events), "new": new, "ignored": ignored, "answered": answered}

        return await answering(request, Events, answer, writes=True)

    @app.post("/items", **_described(NewItems, examples.ITEMS, ItemsKept))
    async def items(request: Request) -> Response:
        """Make attributes of new or changed items known."""
        return await answering(request, NewItems, lambda sent: {"items": service.add_items(sent.items)}, writes=True)

    @app.delete(
        "/users/{user:path}",
        responses={200: {"model": Forgotten}, **{status: REFUSED[status] for status in (401, 403, 422, 503)}},
        tags=["serving"],
    )
    def forget(user: str) -> Response:
        """Remove all that the history store knows of a user."""
        return _json({"forgotten": service.forget(user)})


def _described(kind: type[Message], shown: dict[str, Any], answer: type[BaseModel]) -> dict[str, Any]:
    """How a route that takes a message is described; FastAPI itself leaves the body to us."""
    content = {"schema": {"$ref": SCHEMAS.format(model=kind.__name__)}, "examples": shown}
    return {
        "responses": {200: {"model": answer}, **REFUSED},
        "tags": ["serving"],
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": content}}},
    }


def _describe_messages(app: FastAPI) -> None:
    """Add the messages to the API's description."""
    described = app.openapi()
    _, found = models_json_schema([(kind, "validation") for kind in MESSAGES], ref_template=SCHEMAS)
    described["components"]["schemas"] |= found["$defs"]


def _add_state_routes(app: FastAPI, service: Service, counters: Counters, answering: Answering) -> None:
    refused: dict[int | str, dict[str, Any]] = {status: REFUSED[status] for status in (401, 403)}

    @app.get("/scenarios", responses={200: {"model": ScenariosAnswer}, **refused}, tags=["model"])
    def scenarios() -> Response:
        """What the model's scenarios are, as the report says it."""
        return _json(service.scenarios.model_dump())

    @app.get("/mix", responses={200: {"model": MixAnswer}, **refused}, tags=["model"])
    def mix() -> Response:
        """The mix of scenarios that is followed, and how it came to be."""
        return _json(service.read_mix().model_dump())

    @app.put("/mix", **_described(MixChange, examples.MIX, MixAnswer))
    async def freeze(request: Request) -> Response:
        """Keep the mix as it is, or follow it again."""
        return await answering(
            request, MixChange, lambda asked: service.followed.freeze(asked.frozen).model_dump(), writes=True
        )

    @app.delete("/mix", responses={200: {"model": MixAnswer}, 422: REFUSED[422], **refused}, tags=["model"])
    def reset() -> Response:
        """Begin again with the mix as trained."""
        return _json(service.followed.reset().model_dump())

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
    def metrics() -> Response:
        """Counters and times, for Prometheus."""
        if service.mix is not None:
            with suppress(StoreError):
                counters.note_mix(service.mix.read())
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

    @app.exception_handler(BodyError)
    async def invalid(_: Request, error: BodyError) -> Response:
        return _refused(422, *error.mistakes)

    @app.exception_handler(RequestError)
    async def unusable(_: Request, error: RequestError) -> Response:
        return _refused(422, error)

    @app.exception_handler(StoreError)
    async def without_store(_: Request, error: StoreError) -> Response:
        say("store failed", logging.ERROR, reason=str(error))
        return _refused(503, RequestError("store", "the history store does not answer: send it again"))

    @app.exception_handler(ClientDisconnect)
    async def left(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=LEFT)

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        answer = _refused(error.status_code, RequestError(_FIELDS.get(error.status_code, "body"), str(error.detail)))
        answer.headers.update(error.headers or {})
        return answer


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SAID else f"{text[:LONGEST_SAID]}…"


def _json(content: Any) -> Response:
    return Response(json_body(content), media_type="application/json")


def _refused(status: int, *errors: RequestError) -> Response:
    # A misspelt name of the caller's may be as long as the body.
    told = [{"field": _shortened(error.field), "reason": _shortened(error.reason)} for error in errors]
    body = json_body({"errors": told})
    headers = RETRY_AFTER if status == 503 else None
    return Response(body, status_code=status, media_type="application/json", headers=headers)
