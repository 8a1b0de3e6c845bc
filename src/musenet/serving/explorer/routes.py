"""What the explorer's page asks for beside scores: its files, what can be chosen, and a user's history."""

from collections.abc import Awaitable, Callable, Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from fastapi import APIRouter
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request

from musenet.serving.manifest import ExportManifest
from musenet.serving.scorer.messages import Id, Message
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from musenet.serving.text_index import TextIndex

STATIC = Path(__file__).parent / "static"
FILES = ("explorer.css", "explorer.js", "scenarios.js", "plotly.js")
FIGURES_POLICY = (
    # Plotly writes styles into the page; nothing but our own scripts runs all the same.
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
Answered = Callable[[Request, type["HistoryRequest"], Callable[["HistoryRequest"], Any]], Awaitable[Response]]
SHOWN_USERS, SHOWN_ITEMS, SHOWN_VALUES = 50, 40, 40


class Choice(BaseModel):
    """A column of the log that a visitor can set."""

    name: str
    kind: Literal["number", "category"]
    values: list[str] = Field(description="the most frequent values of a category")
    typical: float | None = Field(None, description="of a number, about the mean in training")


class Choices(BaseModel):
    """What a visitor can choose among."""

    name: str
    model: str
    scenarios: int
    scenario_names: list[str] = Field(description="empty where the export gives none")
    users: list[str]
    items: list[str] = Field(description="the most frequent in training")
    context: list[Choice]
    candidate: list[Choice]
    kinds: list[str] = Field(description="of events, where the model tells them apart")


class HistoryRequest(Message):
    """A user whose history is wanted."""

    user: Id


def explorer_router(service: Service, answered: Answered) -> APIRouter:
    """The explorer's routes; they are no part of the API's description.

    Args:
        service: what answers.
        answered: makes the answer to the message in a request's body.
    """
    router = APIRouter(include_in_schema=False)

    @router.get("/")
    def page() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    @router.get("/explorer/static/scenarios.html")
    def scenarios_page() -> Response:
        headers = {"content-security-policy": FIGURES_POLICY}
        return FileResponse(STATIC / "scenarios.html", media_type="text/html; charset=utf-8", headers=headers)

    @router.get("/explorer/static/{name}")
    def file(name: str) -> Response:
        if name not in FILES or (name == "plotly.js" and find_spec("plotly") is None):
            raise HTTPException(404, "there is no such file")
        if name == "plotly.js":
            return Response(_plotly(), media_type="text/javascript", headers={"cache-control": "max-age=86400"})
        kind = "text/css" if name.endswith(".css") else "text/javascript"
        return FileResponse(STATIC / name, media_type=f"{kind}; charset=utf-8")

    @router.get("/explorer/choices")
    def choices() -> Choices:
        return choices_of(service.scorer, service.store.some_users(SHOWN_USERS))

    @router.post("/explorer/history")
    async def history(request: Request) -> Response:
        return await answered(request, HistoryRequest, lambda asked: {"events": service.history(asked.user)})

    return router


@cache
def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def choices_of(scorer: Scorer, users: list[str]) -> Choices:
    """What an export knows of users, items and context."""
    manifest, folder = scorer.manifest, scorer.folder
    item = next((f for f in manifest.fields_of("item") if f.is_id), None)
    items = [] if item is None else TextIndex(folder / "vocabularies", item.vocabulary_name).first(SHOWN_ITEMS)
    kinds = {*(manifest.history.kinds or ()), *((manifest.repeat and manifest.repeat.kinds) or ())}
    return Choices(
        name=manifest.name,
        model=scorer.version,
        scenarios=manifest.scenarios or 0,
        scenario_names=manifest.scenario_names,
        users=users or TextIndex(folder / "users", "ids").first(SHOWN_USERS),
        items=items,
        context=list(_columns(manifest, folder, "context")),
        candidate=list(_columns(manifest, folder, "candidate")),
        kinds=sorted(kinds),
    )


def _columns(manifest: ExportManifest, folder: Path, side: Literal["context", "candidate"]) -> Iterator[Choice]:
    seen = set()
    for field in manifest.fields_of(side):
        name = field.column or field.name
        if name in seen or field.is_position or field.kind == "vector" or field.name.endswith(".missing"):
            continue
        seen.add(name)
        scale = manifest.numeric.get(field.name.removesuffix(".rank"))
        if scale is not None:
            typical = float(scale.undone(np.zeros(1))[0])
            yield Choice(name=name, kind="number", values=[], typical=float(f"{typical:.3g}"))
        else:
            values = TextIndex(folder / "vocabularies", field.vocabulary_name).first(SHOWN_VALUES)
            yield Choice(name=name, kind="category", values=values)
