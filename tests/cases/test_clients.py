"""Clients that are slow, idle, too many, gone, or pages of other sites."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import wait_all_tasks_blocked
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from uvicorn import Config
from uvicorn.server import ServerState

from musenet.serving.http import bodies, connections
from musenet.serving.http.answering import WAITING, Answering
from musenet.serving.http.connections import Connection
from musenet.serving.http.middleware import BUSY, Access, refuse
from musenet.serving.scorer.messages import ScoreRequest
from serving.exports import Exported
from serving.processes import COMMAND, address_of, running
from signals import handled

BODY = b'{"user":"u1","candidates":[{"item":"i1"}]}'
JSON = [(b"content-type", b"application/json")]


async def app(scope: Any, receive: Any, send: Any) -> None: ...


class Timers:
    """An event loop's clock, which a test winds on."""

    def __init__(self) -> None:
        self.set: list[tuple[float, Callable[[], object], list[bool]]] = []

    def call_later(self, seconds: float, call: Callable[[], object]) -> Any:
        cancelled: list[bool] = []
        self.set.append((seconds, call, cancelled))
        return type("Timer", (), {"cancel": lambda _: cancelled.append(True), "when": lambda _: seconds})()

    def create_task(self, work: Coroutine[Any, Any, None], **_: Any) -> Any:
        work.close()
        return type("Task", (), {"add_done_callback": lambda *_: None})()

    def wind_on(self, seconds: float) -> None:
        for after, call, cancelled in list(self.set):
            if after <= seconds and not cancelled:
                cancelled.append(True)
                call()


class Wire:
    """A transport of which only the end is of interest."""

    aborted = closed = ended = False
    unsent = 0

    def __init__(self) -> None:
        self.written = b""

    def get_extra_info(self, _: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.aborted or self.closed

    def abort(self) -> None:
        self.aborted = True

    def close(self) -> None:
        self.closed = True

    def reset(self) -> bool:
        return self.aborted

    def over(self) -> bool:
        return self.aborted or self.closed or self.ended

    def write(self, data: bytes) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.ended = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


@pytest.fixture
def connected() -> tuple[Connection, Wire, Timers]:
    timers, wire = Timers(), Wire()
    connection = Connection(Config(app, log_config=None), ServerState(), {}, _loop=timers)  # type: ignore[arg-type]
    connection.connection_made(wire)  # type: ignore[arg-type]
    return connection, wire, timers


def test_a_connection_that_says_nothing_is_told_so_and_closed(connected: tuple[Connection, Wire, Timers]) -> None:
    connection, wire, timers = connected
    timers.wind_on(connections.HEADER_SECONDS - 1)
    assert not wire.written
    timers.wind_on(connections.HEADER_SECONDS)
    assert wire.written.startswith(b"HTTP/1.1 408 ")
    connection.data_received(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert wire.ended
    assert not wire.reset()  # which would take the answer from a client that was just about to ask
    timers.wind_on(connections.LEAVING_SECONDS)
    assert wire.aborted
    assert wire.written.count(b"HTTP/1.1") == 1


def test_headers_in_drops_have_no_more_time(connected: tuple[Connection, Wire, Timers]) -> None:
    connection, wire, timers = connected
    for drop in (b"GET /health HT", b"TP/1.1\r\n", b"host: localhost\r\n", b"a: b\r\n"):
        connection.data_received(drop)
    timers.wind_on(connections.HEADER_SECONDS)
    assert wire.written.startswith(b"HTTP/1.1 408 ")
    assert json.loads(wire.written.partition(b"\r\n\r\n")[2])["errors"][0]["field"] == "headers"


def answer_by(connection: Connection) -> None:
    """Refuse the request that a connection has just begun with."""
    send: Any = connection.cycle.send
    asyncio.run(refuse(send, 413, "body", "is too large"))


def test_clients_and_proxies_close_what_is_idle_before_the_service_does(
    connected: tuple[Connection, Wire, Timers],
) -> None:
    connection, wire, timers = connected
    connection.data_received(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    answer_by(connection)
    timers.wind_on(60)  # nginx's and the balancers' of large clouds; httpx keeps its connections for 5 seconds
    assert not wire.closed
    timers.wind_on(connections.IDLE_SECONDS)
    assert wire.closed


def test_the_rest_of_a_refused_body_is_waited_for_but_not_for_ever(connected: tuple[Connection, Wire, Timers]) -> None:
    connection, wire, timers = connected
    connection.data_received(b"POST /score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1234")
    answer_by(connection)
    connection.data_received(b"5678")
    timers.wind_on(connections.ANSWER_SECONDS - 1)
    assert not wire.aborted
    timers.wind_on(connections.ANSWER_SECONDS)
    assert wire.aborted


def test_after_the_rest_of_a_refused_body_comes_the_next_request(connected: tuple[Connection, Wire, Timers]) -> None:
    connection, wire, timers = connected
    connection.data_received(b"POST /score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n1234")
    answer_by(connection)
    connection.data_received(b"56789")
    timers.wind_on(60)
    assert not wire.over()
    connection.data_received(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert connection.scope["path"] == "/health"
    timers.wind_on(connections.IDLE_SECONDS)
    assert not wire.over()


def test_a_request_whose_headers_are_there_has_its_time(connected: tuple[Connection, Wire, Timers]) -> None:
    connection, wire, timers = connected
    connection.data_received(b"POST /score HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n")
    timers.wind_on(connections.HEADER_SECONDS)
    assert not wire.aborted


@pytest.mark.parametrize("unsent", [0, 100_000])
def test_an_answer_that_nobody_takes_is_given_up(connected: tuple[Connection, Wire, Timers], unsent: int) -> None:
    connection, wire, timers = connected
    connection.data_received(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    wire.unsent, wire.closed = unsent, True
    connection.on_response_complete()
    timers.wind_on(connections.ANSWER_SECONDS)
    assert wire.aborted == bool(unsent)


def test_more_connections_than_there_may_be_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 1)
    state = ServerState()
    config = Config(app, log_config=None)
    first, second = (Connection(config, state, {}, _loop=Timers()) for _ in range(2))  # type: ignore[arg-type]
    for one in (first, second):
        one.connection_made(Wire())  # type: ignore[arg-type]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    assert first.app is not second.app
    asyncio.run(second.app({}, lambda: None, send))  # type: ignore[arg-type]
    assert sent[0]["status"] == 503
    assert {(b"retry-after", b"1"), (b"connection", b"close")} <= set(sent[0]["headers"])
    assert json.loads(sent[1]["body"])["errors"][0]["field"] == "service"


def test_an_idle_connection_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 2)
    state, timers, wires = ServerState(), Timers(), [Wire(), Wire(), Wire(), Wire()]
    config = Config(app, log_config=None)
    made = [Connection(config, state, {}, _loop=timers) for _ in wires]  # type: ignore[arg-type]
    for one, wire in zip(made[:2], wires, strict=False):
        one.connection_made(wire)  # type: ignore[arg-type]
    made[0].data_received(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n")
    answer_by(made[0])
    for one, wire in zip(made[2:], wires[2:], strict=True):
        one.connection_made(wire)  # type: ignore[arg-type]
    assert [wire.closed for wire in wires] == [True, False, False, False]
    assert made[2].app is made[1].app
    assert made[3].app is not made[1].app


@pytest.mark.parametrize("announced", ["Connection: close", "Connection: keep-alive"])
def test_a_client_that_is_still_sending_gets_the_answer(announced: str) -> None:
    """Closing a connection on bytes that nobody read resets it, and a reset takes the answer from the client."""
    body = bytes(4 << 20)

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await refuse(send, *BUSY, close=True)

    async def case() -> bytes:
        config, state = Config(refusing, log_config=None, lifespan="off"), ServerState()
        config.load()
        server = await asyncio.get_running_loop().create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            head = f"POST /score HTTP/1.1\r\nHost: localhost\r\n{announced}\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
            answer = await reader.read()
            writer.close()
            return answer

    assert asyncio.run(case()).startswith(b"HTTP/1.1 503 ")


def request_of(body: bytes, left: asyncio.Event, headers: list[tuple[bytes, bytes]] = JSON) -> Request:
    """A request that is there as a whole, and whose client leaves at an event."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "path": "/score", "headers": headers}, receive)


def in_loop(case: Callable[[], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, processors: int = 2) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: processors)

    async def run() -> None:
        await case()

    asyncio.run(run())


def test_few_requests_wait_and_more_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        answered, go_on = Answering(), threading.Event()
        asked = [
            asyncio.create_task(
                answered(request_of(BODY, asyncio.Event()), ScoreRequest, lambda _: go_on.wait(60), writes=False)
            )
            for _ in range(2 + 2 * WAITING)
        ]
        await wait_all_tasks_blocked()
        with pytest.raises(HTTPException) as found:
            await answered(request_of(BODY, asyncio.Event()), ScoreRequest, lambda _: True)
        assert (found.value.status_code, dict(found.value.headers or {})) == (503, {"retry-after": "1"})
        go_on.set()
        assert [one.body for one in await asyncio.gather(*asked)] == [b"true"] * len(asked)

    in_loop(case, monkeypatch)


def test_a_waiting_request_whose_client_left_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        answered, go_on, left = Answering(), threading.Event(), asyncio.Event()
        done: list[str] = []

        def slowly(_: ScoreRequest) -> None:
            go_on.wait(60)
            done.append("slow")

        running = asyncio.create_task(answered(request_of(BODY, asyncio.Event()), ScoreRequest, slowly))
        await wait_all_tasks_blocked()
        waiting = asyncio.create_task(answered(request_of(BODY, left), ScoreRequest, lambda _: done.append("dropped")))
        await wait_all_tasks_blocked()
        left.set()
        with pytest.raises(ClientDisconnect):
            await waiting
        go_on.set()
        await running
        assert done == ["slow"]

    in_loop(case, monkeypatch, processors=1)


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.0)

    async def case() -> None:
        async def receive() -> Any:
            await asyncio.Event().wait()

        request = Request({"type": "http", "method": "POST", "path": "/score", "headers": JSON}, receive)
        with pytest.raises(HTTPException) as found:
            await Answering()(request, ScoreRequest, lambda _: None)
        assert found.value.status_code == 408

    in_loop(case, monkeypatch)


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LARGEST_BODIES", 2 * len(BODY))

    async def case() -> None:
        answered, go_on = Answering(), threading.Event()
        held = [
            asyncio.create_task(answered(request_of(BODY, asyncio.Event()), ScoreRequest, lambda _: go_on.wait(60)))
            for _ in range(2)
        ]
        await wait_all_tasks_blocked()
        with pytest.raises(HTTPException) as found:
            await answered(request_of(BODY, asyncio.Event()), ScoreRequest, lambda _: None)
        assert found.value.status_code == 503
        go_on.set()
        await asyncio.gather(*held)
        again = await answered(request_of(BODY, asyncio.Event()), ScoreRequest, lambda _: None)
        assert again.status_code == 200

    in_loop(case, monkeypatch)


@pytest.mark.parametrize("kind", [b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data"])
def test_a_body_that_a_page_may_send_unasked_is_refused(kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        headers = [(b"content-type", kind)] if kind else []
        with pytest.raises(HTTPException) as found:
            await Answering()(request_of(BODY, asyncio.Event(), headers), ScoreRequest, lambda _: None)
        assert found.value.status_code == 415

    in_loop(case, monkeypatch)


HERE = {"host": "localhost:8000"}


@pytest.mark.parametrize(
    ("token", "headers", "path", "field"),
    [
        (None, HERE, "/score", None),
        (None, HERE | {"origin": "http://localhost:8000"}, "/score", None),
        (None, HERE | {"sec-fetch-site": "same-origin"}, "/score", None),
        (None, HERE | {"sec-fetch-site": "none"}, "/scenarios", None),
        (None, HERE | {"sec-fetch-site": "cross-site"}, "/", None),
        (None, HERE | {"sec-fetch-site": "cross-site"}, "/events", "Sec-Fetch-Site"),
        (None, HERE | {"sec-fetch-site": "same-site"}, "/events", "Sec-Fetch-Site"),
        (None, HERE | {"origin": "http://localhost:3000"}, "/events", "Origin"),
        (None, HERE | {"origin": "https://evil.example"}, "/events", "Origin"),
        (None, HERE | {"origin": "null"}, "/events", "Origin"),
        ("secret", {"authorization": "Bearer secret", "sec-fetch-site": "cross-site"}, "/score", "Sec-Fetch-Site"),
        ("secret", {"authorization": "Bearer secret", "origin": "https://ours.example"}, "/score", None),
        ("secret", {"sec-fetch-site": "cross-site"}, "/health", None),
    ],
)
def test_pages_of_other_sites_are_not_answered(
    token: str | None, headers: dict[str, str], path: str, field: str | None
) -> None:
    found = Access(token).refusal(path, [(name.encode(), value.encode()) for name, value in headers.items()])
    assert (found and found[:2]) == (field and (403, field))


def test_every_line_of_the_log_is_json_and_tells_nothing_of_what_was_sent() -> None:
    code = """
import asyncio, logging, threading, warnings
from musenet.serving.http.structured_log import start_logging
start_logging()
logging.getLogger("uvicorn.error").info("Uvicorn running")
warnings.warn("something is old")
async def main():
    asyncio.get_running_loop().call_soon(lambda text: 1 / 0, "SECRET")
    await asyncio.sleep(0)
asyncio.run(main())
thread = threading.Thread(target=lambda: int("SECRET"))
thread.start()
thread.join()
raise ValueError("SECRET")
"""
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    ended = subprocess.run([sys.executable, "-c", code], env=paths, stderr=subprocess.PIPE, text=True, check=False)
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line.get("error") for line in lines] == [None, None, "ZeroDivisionError", "ValueError", "ValueError"]
    assert "SECRET" not in ended.stderr
    assert lines[2]["event"].startswith("Exception in callback")


@handled(signal.SIGHUP, signal.SIG_DFL)
def test_a_terminal_that_closes_ends_it_as_sigterm_does(exported: Exported, tmp_path: Path) -> None:
    served = ("serve", str(exported.folder), "--store", str(tmp_path / "history.sqlite"), "--port", "0")
    with running(COMMAND, *served) as process:
        assert process.stderr is not None
        address = address_of(process)
        assert httpx.get(f"{address}/health").status_code == 200
        process.send_signal(signal.SIGHUP)
        lines = [json.loads(line) for line in process.stderr]
        assert process.wait(timeout=60) in (0, -signal.SIGHUP)
    assert "stopped" in [line["event"] for line in lines]
