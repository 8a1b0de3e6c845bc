"""A service on an untrained model of a random log, and how tests talk to it."""

from typing import Any

from starlette.testclient import TestClient

from musenet.config.adaptation import AdaptOptions
from musenet.serving.http.app import create_app
from musenet.serving.http.middleware import Access
from musenet.serving.service.service import Service
from serving.exports import Exported, events_of, request_of

HOST = "http://localhost"


def client_of(
    exported: Exported,
    store: str,
    access: Access = Access(),  # noqa: B008
    adapt: AdaptOptions | None = None,
    **options: Any,
) -> TestClient:
    """To be used as a context manager, which starts and stops the application."""
    service = Service(exported.folder, store, adapt=adapt)
    app = create_app(service, access, **options)
    return TestClient(app, base_url=HOST, raise_server_exceptions=False)


def all_events(exported: Exported) -> list[dict[str, Any]]:
    """Every event of the log in order of time, as `/events` takes them."""
    users = exported.log.events["_user"].unique().to_list() if exported.log.events is not None else []
    found = [{"user": user, **event} for user in sorted(users) for event in events_of(exported.log, user)]
    return sorted(found, key=lambda event: float(event["time"]))


def plain_request(exported: Exported, row: int = 0) -> dict[str, Any]:
    return request_of(exported, row, history=False)
