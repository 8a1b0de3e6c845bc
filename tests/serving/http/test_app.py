"""The application: what it answers, what it refuses and how, and that it keeps what it says it keeps."""

import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from musenet.errors import ExportError
from musenet.files import write_text
from musenet.serving.export.export import export_run
from musenet.serving.http.app import create_app
from musenet.serving.http.middleware import LARGEST_BODY, Access
from musenet.serving.http.structured_log import JsonLines
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from musenet.serving.store.history import Filled
from musenet.serving.store.opening import open_store
from serving.apps import HOST, all_events, client_of, plain_request
from serving.exports import SOFT, Exported, new_run
from serving.replays import offline_scores, replay

CLICK = {"user": "u1", "item": "i1", "kind": "click", "time": "2024-01-05T12:00:00Z"}


@pytest.fixture
def client(exported: Exported, tmp_path: Path) -> Iterator[TestClient]:
    with client_of(exported, str(tmp_path / "history.sqlite")) as opened:
        yield opened


@pytest.fixture(scope="module")
def refusing(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One for all that is refused, or asked without a trace."""
    with client_of(exported, str(tmp_path_factory.mktemp("refusing") / "history.sqlite")) as opened:
        yield opened


def mistakes(answer: Any) -> dict[str, str]:
    return {one["field"]: one["reason"] for one in answer.json()["errors"]}


def test_scores_are_the_scorers_and_events_count_from_then_on(client: TestClient, exported: Exported) -> None:
    request = plain_request(exported) | {"explain": True}
    scorer = Scorer(exported.folder)
    assert client.post("/score", json=request).json() == scorer.score(request | {"history": []})
    item, time = request["candidates"][0]["item"], request["time"]
    event = {"user": request["user"], "item": item, "kind": "click", "time": time - 60}
    assert client.post("/events", json={"events": [event]}).json() == {
        "events": 1,
        "new": 1,
        "ignored": 0,
        "answered": 0,
    }
    assert client.post("/events", json={"events": [event]}).json() == {
        "events": 1,
        "new": 0,
        "ignored": 0,
        "answered": 0,
    }
    answer = client.post("/score", json=request).json()
    assert answer["candidates"][0]["repeat"]
    assert answer["candidates"][0]["repeat_count"] == 1
    brought = {"history": [{key: value for key, value in event.items() if key != "user"}]}
    assert answer == scorer.score(request | brought)


def test_a_new_item_is_known_once_it_was_sent(client: TestClient, exported: Exported) -> None:
    request = plain_request(exported)
    request["candidates"] = [{"item": "a new one"}]
    assert client.post("/score", json=request).json()["unknown"]["items"] == 1
    sent = {"items": [{"item": "a new one", "city": "rome", "stars": 4}]}
    assert client.post("/items", json=sent).json() == {"items": 1}
    assert client.post("/score", json=request).json()["unknown"]["items"] == 0


REFUSED: list[tuple[str, Any, str, str]] = [
    ("/score", {"user": "u1"}, "candidates", "required"),
    ("/score", {"user": "u1", "candidates": []}, "candidates", "at least 1"),
    ("/score", {"user": None, "candidates": [{"item": "i1"}]}, "user", "an id"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1"}, {"item": 1.5}]}, "candidates.1.item", "an id"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1", "prize": 3}]}, "candidates.0.prize", "no column"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1", "price": "dear"}]}, "candidates.0.price", "a number"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1"}], "context": {"wind": 3}}, "context.wind", "no column"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1"}], "time": "yesterday"}, "time", "no time"),
    ("/score", {"user": "u1", "candidates": [{"item": "i1"}], "top": 3}, "top", "not permitted"),
    ("/events", {"events": [CLICK, {**CLICK, "user": ""}]}, "events.1.user", "an id"),
    ("/events", {"events": [CLICK, {**CLICK, "colour": "red"}]}, "events.1.colour", "no column"),
    ("/events", {"events": [{**CLICK, "time": "2124-01-05T12:00:00Z"}]}, "events.0.time", "future"),
    ("/items", {"items": [{"item": "x", "stars": "many"}]}, "items.0.stars", "number"),
    ("/items", {"items": {}}, "items", "list"),
]


@pytest.mark.parametrize(("path", "body", "field", "reason"), REFUSED)
def test_a_refusal_names_the_field(refusing: TestClient, path: str, body: Any, field: str, reason: str) -> None:
    answer = refusing.post(path, json=body)
    assert answer.status_code == 422
    assert re.search(reason, mistakes(answer)[field])


def test_of_refused_events_none_is_kept(client: TestClient) -> None:
    assert client.post("/events", json={"events": [CLICK, {**CLICK, "colour": "red"}]}).status_code == 422
    assert client.post("/events", json={"events": [CLICK]}).json()["new"] == 1


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"a"', b"\xff\xfe", b"NaN", b"[" * 100_000, b'{"user": ' + b"9" * 5000 + b"}"]
)
def test_a_body_that_is_no_json_object_is_said_so(refusing: TestClient, body: bytes) -> None:
    answer = refusing.post("/score", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert set(mistakes(answer)) <= {"body", "request"}


def test_odd_text_is_refused_or_served_but_never_breaks(refusing: TestClient) -> None:
    for text in (r"\ud800", r"\u0000", r"\u202e", "é"):
        for body in (
            f'{{"user": "{text}", "candidates": [{{"item": "{text}"}}]}}',
            f'{{"user": "u1", "candidates": [{{"item": "i1", "{text}": 1}}]}}',
            f'{{"user": "u1", "context": {{"device": "{text}"}}, "candidates": [{{"item": "i1"}}]}}',
            f'{{"user": "u1", "context": {{"party": {"9" * 400}}}, "candidates": [{{"item": "i1"}}]}}',
        ):
            answer = refusing.post("/score", content=body.encode(), headers={"content-type": "application/json"})
            assert answer.status_code in (200, 422), answer.text
        body = f'{{"events": [{{"user": "{text}", "item": "{text}", "kind": "{text}", "id": "{text}"}}]}}'
        answer = refusing.post("/events", content=body.encode(), headers={"content-type": "application/json"})
        assert answer.status_code in (200, 422), answer.text


def test_limits_of_what_is_sent(refusing: TestClient) -> None:
    large = refusing.post("/score", content=b" " * (LARGEST_BODY + 1), headers={"content-type": "application/json"})
    assert (large.status_code, set(mistakes(large))) == (413, {"body"})
    parts = (b" " * 1_000_000 for _ in range(9))
    endless = refusing.post("/score", content=parts, headers={"content-type": "application/json"})
    assert (endless.status_code, set(mistakes(endless))) == (413, {"body"})
    many = {"user": "u1", "candidates": [{"item": "i1"}] * 10_001}
    assert "candidates" in mistakes(refusing.post("/score", json=many))
    assert "user" in mistakes(refusing.post("/score", json={"user": "u" * 257, "candidates": [{"item": "i1"}]}))
    text = refusing.post("/score", content=b"{}", headers={"content-type": "text/plain"})
    assert (text.status_code, set(mistakes(text))) == (415, {"Content-Type"})


def test_other_paths_and_methods_are_refused_in_the_same_shape(refusing: TestClient) -> None:
    assert set(mistakes(refusing.get("/nowhere"))) == {"path"}
    answer = refusing.get("/score")
    assert (answer.status_code, set(mistakes(answer)), answer.headers["allow"]) == (405, {"method"}, "POST")


def test_state_and_measures(client: TestClient, exported: Exported) -> None:
    version = exported.run.experiment.name
    assert client.get("/health").json() == {"status": "alive"}
    assert client.get("/ready").json()["model"].startswith(version)
    client.post("/score", json=plain_request(exported))
    client.get("/score")
    text = client.get("/metrics").text
    assert 'musenet_requests_total{route="/score",status="200"} 1.0' in text
    assert "musenet_candidates_count 1.0" in text
    assert 'musenet_model{version="' in text
    assert "process_resident_memory_bytes" in text


def test_the_explorer_is_told_what_there_is_to_choose(client: TestClient, exported: Exported) -> None:
    choices = client.get("/explorer/choices").json()
    assert choices["users"][:2] == ["u0", "u1"]
    assert set(choices["items"]) <= {f"i{code}" for code in range(32)}
    assert [one["name"] for one in choices["context"]] == ["device", "party"]
    assert set(choices["context"][0]["values"]) == {"phone", "desk"}
    assert [(one["name"], one["kind"]) for one in choices["candidate"]] == [("price", "number")]
    assert choices["kinds"] == ["buy", "click"]
    client.post("/events", json={"events": [CLICK]})
    assert client.get("/explorer/choices").json()["users"] == ["u1"]
    events = client.post("/explorer/history", json={"user": "u1"}).json()["events"]
    assert [(event["item"], event["kind"]) for event in events] == [("i1", "click")]
    request = {"user": "u1", "history": events, "candidates": [{"item": "i1"}], "explain": True}
    assert client.post("/score", json=request).json()["candidates"][0]["repeat"]


def test_the_api_describes_itself(refusing: TestClient) -> None:
    described = refusing.get("/openapi.json").json()
    state = {"/scenarios", "/mix", "/health", "/ready", "/metrics"}
    assert set(described["paths"]) == {"/score", "/events", "/items", "/users/{user}", *state}
    for path in ("/score", "/events", "/items"):
        content = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        assert content["examples"]


def test_a_store_that_fails_is_said_to_fail(exported: Exported, tmp_path: Path) -> None:
    service = Service(exported.folder, str(tmp_path / "history.sqlite"))
    with TestClient(create_app(service), base_url=HOST) as client:
        service.store.close()
        (tmp_path / "history.sqlite").write_bytes(b"no database" * 1000)
        for answer in (
            client.post("/score", json=plain_request(exported)),
            client.post("/events", json={"events": [CLICK]}),
            client.get("/ready"),
        ):
            assert (answer.status_code, set(mistakes(answer))) == (503, {"store"})
        assert client.get("/health").status_code == 200


def test_without_a_token_only_this_machine_is_answered(exported: Exported, tmp_path: Path) -> None:
    with client_of(exported, str(tmp_path / "history.sqlite")) as client:
        for host in ("localhost", "127.0.0.1:8080", "[::1]:80"):
            assert client.get("/health", headers={"host": host}).status_code == 200
        for host in ("evil.example", "", "localhost.evil.example"):
            answer = client.get("/health", headers={"host": host})
            assert (answer.status_code, set(mistakes(answer))) == (403, {"Host"})


def test_with_a_token_whoever_knows_it_is_answered(exported: Exported, tmp_path: Path) -> None:
    with client_of(exported, str(tmp_path / "history.sqlite"), Access("secret")) as client:
        for path in ("/scenarios", "/metrics", "/openapi.json", "/explorer/choices", "/nowhere"):
            for given in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic secret"}):
                answer = client.get(path, headers=given)
                assert (answer.status_code, set(mistakes(answer))) == (401, {"Authorization"})
                assert answer.headers["www-authenticate"] == "Bearer"
        headers = {"authorization": "Bearer secret", "host": "anything.example"}
        assert client.get("/scenarios", headers=headers).status_code == 200
        assert client.post("/score", json=plain_request(exported), headers=headers).status_code == 200
        for path in ("/health", "/ready", "/", "/explorer/static/explorer.js"):
            assert client.get(path).status_code == 200


def test_answers_carry_a_strict_policy(refusing: TestClient) -> None:
    for path in ("/", "/health", "/nowhere", "/explorer/static/explorer.css"):
        headers = refusing.get(path).headers
        assert "script-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_logs_hold_nothing_of_what_users_sent(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "musenet.serving")
    body = {"user": "SECRET", "context": {"SECRET": "SECRET"}, "candidates": [{"item": "SECRET"}]}
    client.post("/score?SECRET=1", json=body)
    client.post("/events", json={"events": [{**CLICK, "user": "SECRET"}]})
    client.get("/SECRET")
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "musenet.serving"]
    requests = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"]) for line in requests] == [("/score", 422), ("/events", 200), ("other", 404)]
    assert "SECRET" not in json.dumps(lines)


def test_a_store_that_no_log_filled_is_said_at_the_start(
    exported: Exported, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "musenet.serving")
    address = str(tmp_path / "history.sqlite")
    with client_of(exported, address):
        pass
    assert "no log filled the history store" in caplog.text
    caplog.clear()
    with open_store(address, Scorer(exported.folder).rules) as store:
        store.filled = Filled("a log", None, 1, 1, 0.0, finished=True)
    with client_of(exported, address):
        pass
    assert "started" in caplog.text
    assert "no log filled" not in caplog.text


@pytest.mark.slow
def test_a_new_export_is_taken_between_two_requests(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(exported.folder, folder)
    service = Service(folder, str(tmp_path / "history.sqlite"))
    with TestClient(create_app(service, reload_seconds=3600), base_url=HOST) as client:
        assert not service.reload()
        request = plain_request(exported)
        client.post("/items", json={"items": [{"item": "added", "city": "rome"}]})
        before = client.post("/score", json=request).json()
        other = new_run(tmp_path / "other", exported.dataset, SOFT | {"scenarios": 2})
        export_run(other, folder)
        assert service.reload()
        after = client.post("/score", json=request).json()
        assert before["model"] != after["model"]
        assert before["scores"] != after["scores"]
        request["candidates"] = [{"item": "added"}]
        assert client.post("/score", json=request).json()["unknown"]["items"] == 0


def test_a_damaged_export_is_refused_and_the_old_one_answers(exported: Exported, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    shutil.copytree(exported.folder, folder)
    service = Service(folder, str(tmp_path / "history.sqlite"))
    with TestClient(create_app(service, reload_seconds=3600), base_url=HOST) as client:
        before = client.post("/score", json=plain_request(exported)).json()
        manifest = folder / "manifest.json"
        write_text(manifest, manifest.read_text().replace('"embeddings.npy": "', '"embeddings.npy": "0'))
        with pytest.raises(ExportError, match="changed after the export"):
            service.reload()
        assert not service.reload()
        assert client.post("/score", json=plain_request(exported)).json() == before


def test_served_is_offline_for_requests_replayed_with_their_events(exported: Exported, address: str) -> None:
    """Events and requests of the log in order of time: the store knows what preparation knew."""
    with client_of(exported, address) as client:
        rows = list(range(len(exported.dataset.requests.time)))[::4]
        served = replay(client, exported, all_events(exported), rows)
    expected = offline_scores(exported, rows)
    for row in rows:
        assert served[row] == pytest.approx(expected[row], abs=1e-5)
