"""Hostile bodies cost little and are refused in few words, and `/health` is answered meanwhile."""

import json
import re
import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from musenet.errors import RequestError
from musenet.serving.http import answering
from musenet.serving.http.app import create_app
from musenet.serving.http.bodies import MOST_PARTS, BodyError, read_message
from musenet.serving.scorer.messages import MOST_CANDIDATES, Events, Message, NewItems, ScoreRequest
from musenet.serving.scorer.rows import MOST_COLUMNS, MOST_MISTAKES
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from serving.apps import HOST, plain_request
from serving.exports import Exported
from serving.hostile import hostile_bodies

KINDS: dict[str, type[Message]] = {"/score": ScoreRequest, "/events": Events, "/items": NewItems}
JSON = {"content-type": "application/json"}
MEBIBYTE = 1 << 20


@pytest.fixture(scope="module")
def service(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(exported.folder, str(tmp_path_factory.mktemp("service") / "history.sqlite"))


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[TestClient]:
    with TestClient(create_app(service), base_url=HOST, raise_server_exceptions=False) as opened:
        yield opened


def refusal(path: str, body: bytes) -> list[RequestError]:
    with pytest.raises(BodyError) as found:
        read_message(KINDS[path], body)
    return found.value.mistakes


def test_every_hostile_body_is_answered_or_refused_in_few_words(client: TestClient) -> None:
    for kind, path, body in hostile_bodies(85, seed=1, largest=256 << 10):
        answer = client.post(path, content=body, headers=JSON)
        assert answer.status_code in (200, 422), kind
        if answer.status_code == 422:
            errors = answer.json()["errors"]
            assert 1 <= len(errors) <= MOST_MISTAKES, kind
            assert all(one["field"] and one["reason"] for one in errors), kind
            assert len(answer.content) < 64 << 10, kind


def test_no_hostile_body_takes_much_more_memory_than_it_has_bytes() -> None:
    for kind, path, body in hostile_bodies(34, seed=2, largest=4 * MEBIBYTE):
        tracemalloc.start()
        try:
            read_message(KINDS[path], body)
        except BodyError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 5 * len(body) + 30 * MEBIBYTE, kind


def test_the_first_mistakes_are_told_and_no_more_are_looked_for() -> None:
    rows = [{"item": "i1"}] * 7 + [{"item": 1.5, "price": {}}] * 3000
    found = refusal("/score", json.dumps({"user": "u1", "candidates": rows}).encode())
    fields = [f"candidates.{place}.{name}" for place in range(7, 17) for name in ("item", "price")]
    assert [one.field for one in found] == fields
    unknown = {f"a{place}": 0 for place in range(50_000)}
    found = refusal("/score", json.dumps({"user": "u1", "candidates": [{"item": "i1"}], **unknown}).encode())
    assert [one.field for one in found] == list(unknown)[:MOST_MISTAKES]


@pytest.mark.parametrize("path", KINDS)
def test_rows_of_too_many_columns_are_not_looked_at(path: str) -> None:
    wide = {"item": "i1", "user": "u1", **{f"a{place}": {} for place in range(MOST_COLUMNS)}}
    name = {"/score": "candidates", "/events": "events", "/items": "items"}[path]
    body: dict[str, Any] = {name: [wide], **({"user": "u1"} if path == "/score" else {})}
    (found,) = refusal(path, json.dumps(body).encode())
    assert (found.field, found.reason) == (f"{name}.0", f"holds more than {MOST_COLUMNS} columns")


def test_a_context_and_a_history_are_bounded_as_well() -> None:
    request: dict[str, Any] = {"user": "u1", "candidates": [{"item": "i1"}]}
    wide: dict[str, Any] = {f"a{place}": {} for place in range(MOST_COLUMNS + 1)}
    (found,) = refusal("/score", json.dumps(request | {"context": wide}).encode())
    assert (found.field, found.reason) == ("context", f"holds more than {MOST_COLUMNS} columns")
    (found,) = refusal("/score", json.dumps(request | {"history": [wide]}).encode())
    assert (found.field, found.reason) == ("history.0", f"holds more than {MOST_COLUMNS} columns")
    (found,) = refusal(
        "/score", json.dumps(request | {"candidates": [{"item": "i1"}] * (MOST_CANDIDATES + 1)}).encode()
    )
    assert found.field == "candidates"
    assert f"at most {MOST_CANDIDATES}" in found.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"a":[' + b"0," * MOST_PARTS + b"0]}", "holds more than 100,000 values"),
        (b"[{}" * MOST_PARTS, "holds more than 100,000 values"),
        (b"[" * 50_000 + b"]" * 50_000, "is nested too deeply"),
        (b'{"user":' + b'{"a":' * 50_000 + b"0" + b"}" * 50_001, "is nested too deeply"),
        (b'{"user":"u1","user":"u2","candidates":[{"item":"i1"}]}', "says `user` twice in one object"),
        (b'{"user":"u1","candidates":[{"item":"i1","price":1,"price":2}]}', "says `price` twice in one object"),
        (b'{"user":"u1","candidates":[{"item":"i1"}],"context":{"a":1,"b":1,"a":1}}', "says `a` twice in one object"),
        (b'{"user":NaN}', "holds NaN, which is no JSON"),
        (b'{"user":' + b"9" * 5000 + b"}", "holds too long a number"),
        (b'{"user":\n "u1",}', r"is no JSON \(line 2, column 7\)"),
        ('{"user":"u1"}'.encode("utf-16"), "is no text in UTF-8"),
        (b'["user"]', "is no JSON object"),
        (b"", r"is no JSON \(line 1, column 1\)"),
    ],
)
def test_a_body_is_refused_for_what_is_wrong_with_it(body: bytes, reason: str) -> None:
    (found,) = refusal("/score", body)
    assert found.field == "body"
    assert re.search(reason, found.reason)


def test_a_key_said_twice_is_found_wherever_it_stands() -> None:
    for pairs in (["a", "a"], ["a", "b", "c", "b"], ["a", "b", "c", "c"], ["b", "a", "b", "a"]):
        body = "{" + ",".join(f'"{key}":0' for key in pairs) + "}"
        twice = next(key for place, key in enumerate(pairs) if key in pairs[:place])
        (found,) = refusal("/score", body.encode())
        assert f"`{twice}`" in found.reason


@pytest.mark.parametrize("wrong", [True, False])
def test_true_is_no_time(exported: Exported, client: TestClient, wrong: bool) -> None:
    request = plain_request(exported)
    history = [{"item": "i1", "time": wrong}]
    click = {"user": "u1", "item": "i1", "kind": "click", "time": wrong}
    for path, body, field in (
        ("/score", request | {"time": wrong}, "time"),
        ("/score", request | {"history": history}, "history.0.time"),
        ("/events", {"events": [click]}, "events.0.time"),
    ):
        answer = client.post(path, json=body)
        assert (answer.status_code, [one["field"] for one in answer.json()["errors"]]) == (422, [field])
    with pytest.raises(RequestError, match="time: input should be a valid number"):
        Scorer(exported.folder).score(request | {"time": wrong})


def test_health_is_answered_while_a_body_is_read(
    exported: Exported, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*asked: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return read_message(*asked)

    monkeypatch.setattr(answering, "read_message", slowly)
    answers: list[int] = []
    asking = threading.Thread(
        target=lambda: answers.append(client.post("/score", json=plain_request(exported)).status_code)
    )
    asking.start()
    assert begun.wait(60)
    assert client.get("/health").json() == {"status": "alive"}
    assert not answers
    go_on.set()
    asking.join()
    assert answers == [200]


def test_the_description_still_tells_what_is_taken(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    taken = described["components"]["schemas"]
    assert taken["ScoreRequest"]["properties"]["candidates"]["maxItems"] == MOST_CANDIDATES
    assert taken["Candidate"]["required"] == ["item"]
    for path, kind in KINDS.items():
        body = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert body["schema"]["$ref"].rpartition("/")[2] == kind.__name__
