"""Servers that are killed while they answer, in the middle of a replay whose mix they follow together."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import numpy as np
import pytest
import redis

from musenet.adaptation.mix import follow_mix
from musenet.adaptation.walk import Period
from musenet.config.adaptation import AdaptOptions
from serving.exports import Exported, request_of
from serving.processes import address_of, running

OPTIONS: dict[str, Any] = {"every": 5, "answers_after": 60, "half_life": 40}
SERVE = f"import sys, musenet as mn; mn.serve(sys.argv[1], port=0, store=sys.argv[2], adapt={OPTIONS})"


class Servers:
    """Two servers on one store; a client asks one of them, and the other where it hears no answer."""

    def __init__(self, start: Callable[[], tuple[Any, httpx.Client]]) -> None:
        self._start = start
        self._servers = [start(), start()]
        self._turn = 0

    def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """As a client that hears an answer."""
        self._turn = 1 - self._turn
        answer = self._servers[self._turn][1].post(path, json=content)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def post_to_one_that_is_killed(self, path: str, content: dict[str, Any]) -> None:
        """Kill a server while it is asked, and start another in its place; whether it had done what it was asked for
        nobody knows."""
        process, client = self._servers[self._turn]

        def ask() -> None:
            with suppress(httpx.TransportError):
                client.post(path, json=content)

        asking = threading.Thread(target=ask)
        asking.start()
        process.kill()
        asking.join()
        process.wait()
        self._servers[self._turn] = self._start()

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self._servers[self._turn][1].get(path).json()
        return found


@pytest.fixture
def servers(exported: Exported, redis_address: str) -> Iterator[Servers]:
    with redis.Redis.from_url(redis_address) as database:
        database.flushall()
    with ExitStack() as stack:

        def start() -> tuple[Any, httpx.Client]:
            process = stack.enter_context(running(SERVE, str(exported.folder), redis_address))
            return process, stack.enter_context(httpx.Client(base_url=address_of(process), timeout=60))

        yield Servers(start)


def clicks_on(exported: Exported, row: int, request: dict[str, Any]) -> list[dict[str, Any]]:
    """What the log says was clicked of a request, as events that name it."""
    begin, end = exported.dataset.requests.candidate_offset[row : row + 2]
    clicked = np.flatnonzero(exported.dataset.candidates.label[begin:end] > 0)
    common = {"user": request["user"], "time": request["time"], "kind": "click", "request": request["request"]}
    return [common | {"item": request["candidates"][int(place)]["item"]} for place in clicked]


def test_a_client_that_asks_again_gets_what_it_would_have_got_and_no_answer_counts_twice(
    exported: Exported, servers: Servers
) -> None:
    predictions = exported.run.predictions_on(exported.dataset, "test", scenario_logits=True)
    followed, period = follow_mix(predictions, AdaptOptions(**OPTIONS)), Period.of(predictions)
    begin, count = exported.dataset.manifest.splits["test"].begin, len(period.requests)
    killed_by_events = False
    for place, row in enumerate(begin + np.asarray(period.requests)):
        request = request_of(exported, int(row)) | {"request": f"r-{row}"}
        if place in (count // 3, 2 * count // 3):
            servers.post_to_one_that_is_killed("/score", request)
        own = period.candidates[period.candidates_of(slice(place, place + 1))]
        expected = 1 / (1 + np.exp(-followed.predictions.logit[own]))
        assert servers.post("/score", request)["scores"] == pytest.approx(expected, abs=1e-5)
        if events := clicks_on(exported, int(row), request):
            if place > count // 2 and not killed_by_events:
                servers.post_to_one_that_is_killed("/events", {"events": events})
                killed_by_events = True
            servers.post("/events", {"events": events})
    state, found = followed.state, servers.get("/mix")
    assert state is not None
    assert (found["following"], found["answered"]) == (True, state.requests)
    assert [*found["log_weight"], found["temperature"], found["level"]] == pytest.approx(state.mix, abs=1e-4)
