"""The mix of scenarios followed while serving: as offline, once per answer, whatever servers and threads do."""

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from musenet.adaptation.mix import Followed, follow_mix
from musenet.adaptation.walk import Period
from musenet.api.serving import serve
from musenet.config.adaptation import AdaptOptions
from musenet.errors import ConfigError, ExportError, StoreError
from musenet.files import write_text
from musenet.serving.manifest import MANIFEST, read_export
from musenet.serving.scorer.runtime import Arrays, Runtime
from musenet.serving.service.service import Service
from musenet.serving.store.history import WritableStore
from musenet.serving.store.mix import Shown
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from serving.apps import client_of
from serving.exports import SOFT, Exported, export_log, request_of
from serving.stores import simple_rules

Open = Callable[[str, HistoryRules], WritableStore]
OPTIONS = AdaptOptions(every=5, answers_after=60, half_life=40)


@pytest.fixture
def clients(exported: Exported, address: str) -> Iterator[Callable[[], TestClient]]:
    """Servers that share one store and follow the mix."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(client_of(exported, address, adapt=OPTIONS))


def followed_offline(exported: Exported) -> tuple[Followed, Period]:
    predictions = exported.run.predictions_on(exported.dataset, "test", scenario_logits=True)
    return follow_mix(predictions, OPTIONS), Period.of(predictions)


def rows_in_order(exported: Exported, period: Period) -> list[int]:
    return [exported.dataset.manifest.splits["test"].begin + int(place) for place in period.requests]


def ask(client: TestClient, request: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/score", json=request)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def take(client: TestClient, exported: Exported, row: int, request: dict[str, Any], identity: str) -> dict[str, Any]:
    """Send the clicks that the log has of a request."""
    begin, end = exported.dataset.requests.candidate_offset[row : row + 2]
    clicked = np.flatnonzero(exported.dataset.candidates.label[begin:end] > 0)
    events = [
        {"user": request["user"], "time": request["time"], "kind": "click", "request": identity}
        | {"item": request["candidates"][int(place)]["item"]}
        for place in clicked
    ]
    found: dict[str, Any] = client.post("/events", json={"events": events}).json() if events else {"answered": 0}
    return found


def test_two_servers_with_a_kill_between_them_answer_as_the_walk_offline(
    exported: Exported, address: str, clients: Callable[[], TestClient]
) -> None:
    followed, period = followed_offline(exported)
    servers = [clients(), clients()]
    for place, row in enumerate(rows_in_order(exported, period)):
        if place == len(period.requests) // 2:  # one is gone without a word, another comes
            servers[0] = clients()
        request = request_of(exported, row)
        served = ask(servers[place % 2], request)
        own = period.candidates[period.candidates_of(slice(place, place + 1))]
        expected = 1 / (1 + np.exp(-followed.predictions.logit[own]))
        assert served["scores"] == pytest.approx(expected, abs=1e-5)
        take(servers[(place + 1) % 2], exported, row, request, served["request"])
        again = take(servers[place % 2], exported, row, request, served["request"])  # is no second answer
        assert "errors" not in again
    state = followed.state
    assert state is not None
    assert state.requests > 0
    assert np.abs(np.array(state.mix) - [0, 0, 0, 1, 0]).max() > 0.05
    found = servers[1].get("/mix").json()
    assert (found["following"], found["answered"]) == (True, state.requests)
    assert [*found["log_weight"], found["temperature"], found["level"]] == pytest.approx(state.mix, abs=1e-4)
    assert found["trust"] == pytest.approx(state.weight, abs=1e-4)
    moment = found["moments"][-1]
    assert sum(moment["followed"]) == pytest.approx(1)
    assert sum(moment["trained"]) == pytest.approx(1)
    metrics = servers[1].get("/metrics").text
    assert f"musenet_mix_requests {state.requests:.1f}" in metrics
    assert 'musenet_mix_share{by="mix",scenario="0"}' in metrics


def test_what_nobody_saw_what_lies_ahead_and_what_is_sent_twice_is_not_waited_for_again(
    exported: Exported, clients: Callable[[], TestClient]
) -> None:
    client, request = clients(), request_of(exported, 0)
    assert "request" not in ask(client, request | {"shown": False})
    assert "request" not in ask(client, request | {"time": 2e9})
    for _ in range(5):  # a client that did not hear the answer asks again
        assert ask(client, request | {"request": "r-1"})["request"] == "r-1"
    later = {"time": request["time"] + 3600}
    ask(client, request | later)
    assert client.get("/mix").json()["answered"] == 0  # one request was shown, and no block is full
    event = {"user": "u1", "item": "i1", "kind": "click", "time": request["time"]}
    answered = client.post("/events", json={"events": [event | {"request": "r-1"}, event | {"request": "unknown"}]})
    assert answered.json()["answered"] == 1
    metrics = client.get("/metrics").text
    assert 'musenet_answers_total{outcome="too late"} 1.0' in metrics
    assert 'musenet_answers_total{outcome="waited for"} 1.0' in metrics


def test_a_request_of_a_later_time_takes_no_answer_for_given(
    exported: Exported, clients: Callable[[], TestClient]
) -> None:
    client, request = clients(), request_of(exported, 0)
    del request["time"]
    for _ in range(OPTIONS.every):
        ask(client, request)
    ask(client, request | {"time": 2e9})
    assert client.get("/mix").json()["answered"] == 0


def test_shares_that_differ_between_candidates_are_averaged_as_offline(
    exported: Exported, clients: Callable[[], TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a model of `objective: paper`, which assigns candidates rather than requests."""
    client, explain = clients(), Runtime.explain
    asked = (request_of(exported, row) | {"explain": True} for row in range(20))
    request = next(one for one in asked if len(one["candidates"]) > 1)
    expected = ask(client, request)

    def of_candidates(self: Runtime, inputs: Arrays) -> Arrays:
        found = explain(self, inputs)
        each = np.exp(found["log_assignment"]).repeat(len(request["candidates"]), axis=0)
        each[0], each[-1] = 2 * each[0], 0 * each[-1]
        with np.errstate(divide="ignore"):
            return {**found, "log_assignment": np.log(each)}

    monkeypatch.setattr(Runtime, "explain", of_candidates)
    found = ask(client, request)
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-6)
    assert found["scenarios"] == pytest.approx(expected["scenarios"], abs=1e-6)


def test_a_mix_can_be_frozen_followed_again_and_begun_anew(
    exported: Exported, clients: Callable[[], TestClient]
) -> None:
    client, start = clients(), request_of(exported, 0)["time"]
    trained = ask(client, request_of(exported, 3) | {"shown": False, "explain": True})

    def show(requests: range) -> None:
        for place in requests:
            ask(client, request_of(exported, place % 20) | {"time": start + 100 * place})

    show(range(12))
    learned = client.get("/mix").json()
    assert (learned["answered"], learned["frozen"]) == (10, False)
    assert client.put("/mix", json={"frozen": True}).json()["frozen"] is True
    show(range(12, 30))
    assert client.get("/mix").json() == learned | {"frozen": True}
    frozen = ask(client, request_of(exported, 3) | {"explain": True})
    assert frozen["scores"] != pytest.approx(trained["scores"], abs=1e-4)
    for answer in (trained, frozen):
        mixed = [np.dot(answer["scenarios"], why["scenarios"]) for why in answer["candidates"]]
        assert mixed == pytest.approx(answer["scores"], abs=1e-12)
    assert client.put("/mix", json={"frozen": False}).json()["frozen"] is False
    show(range(30, 42))
    assert client.get("/mix").json()["answered"] == 20
    assert client.delete("/mix").json()["log_weight"] == [0, 0, 0]
    untouched = ask(client, request_of(exported, 3) | {"shown": False, "explain": True})
    assert untouched["scenarios"] != pytest.approx(frozen["scenarios"], abs=1e-4)
    mistakes = client.put("/mix", json={"frozen": "yes"})
    assert mistakes.status_code == 422
    assert mistakes.json()["errors"][0]["field"] == "frozen"


def test_without_adapt_nothing_is_followed(exported: Exported, tmp_path: Path) -> None:
    with client_of(exported, str(tmp_path / "history.sqlite")) as client:
        assert client.get("/mix").json()["following"] is False
        refused = client.put("/mix", json={"frozen": True})
        assert refused.status_code == 422
        assert "--adapt" in refused.json()["errors"][0]["reason"]
        assert client.delete("/mix").status_code == 422
        assert "request" not in ask(client, request_of(exported, 0))
        event = {"user": "u1", "item": "i1", "kind": "click", "time": 1_704_067_200, "request": "r-1"}
        assert client.post("/events", json={"events": [event]}).json()["answered"] == 0


@pytest.mark.parametrize("scenarios", [None, 1])
def test_a_model_without_scenarios_has_no_mix_to_follow(
    scenarios: int | None, exported: Exported, tmp_path: Path
) -> None:
    folder = shutil.copytree(exported.folder, tmp_path / "export")
    content = read_export(folder).model_copy(update={"scenarios": scenarios})
    write_text(folder / MANIFEST, content.model_dump_json())
    with pytest.raises(ExportError, match="no mix to follow: serve without --adapt"):
        Service(folder, str(tmp_path / "history.sqlite"), adapt=OPTIONS)


def test_a_service_follows_the_mix_alone(exported: Exported) -> None:
    with pytest.raises(ConfigError, match="leave finetune and intercept out"):
        serve(exported.folder, adapt={"intercept": True})


def test_another_model_begins_with_its_own_mix(exported: Exported, address: str, tmp_path: Path) -> None:
    with client_of(exported, address, adapt=OPTIONS) as client:
        for place in range(12):
            ask(client, request_of(exported, place) | {"time": 1_704_067_200 + 100 * place})
        assert client.get("/mix").json()["answered"] == 10
    other = export_log(tmp_path, SOFT | {"scenarios": 2})
    with client_of(other, address, adapt=OPTIONS) as client:
        found = client.get("/mix").json()
    assert (found["answered"], found["log_weight"]) == (0, [0, 0])
    with client_of(exported, address, adapt=OPTIONS) as client:  # which was forgotten meanwhile
        assert client.get("/mix").json()["answered"] == 0


def shown(place: int) -> Shown:
    return Shown(f"r{place}", 1000 * (place // 3), [str(place)], bytes([place]))


def test_every_request_is_learned_from_once_in_order_of_time_however_many_learn(address: str, opened: Open) -> None:
    stores = [opened(address, simple_rules()).mix for _ in range(2)]
    for place in [5, 3, 4, *range(6, 60), 0, 1, 2]:
        stores[place % 2].add("m", shown(place))

    def learn(store: Any) -> None:
        while store.change("m", lambda state, asked: f"{state or ''}{''.join(one.id for one in asked)} ", 10**9, 7):
            pass

    threads = [threading.Thread(target=learn, args=(store,)) for store in stores * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state, due = stores[0].read("m", 10**9, 7)
    assert state is not None
    seen = state.replace(" ", "").split("r")[1:]
    assert [int(place) // 3 for place in seen] == sorted(int(place) // 3 for place in seen)
    assert len(set(seen)) == len(seen) == 56
    assert not due
    assert stores[1].read("m", 10**9, 4)[1]
    assert seen[3:6] == ["5", "3", "4"]  # of one time, in the order in which they came


def test_what_fails_while_it_is_learned_from_waits_on(address: str, opened: Open) -> None:
    store = opened(address, simple_rules()).mix
    for place in range(4):
        store.add("m", shown(place))
    assert store.answer([("r1", "1"), ("r1", "1"), ("r9", "1")]) == [True, True, False]

    def fail(state: str | None, asked: object) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.change("m", fail, 10**9, 4)
    found: list[Shown] = []

    def learn(state: str | None, asked: Any) -> str:
        found[:] = asked
        return "learned"

    assert store.change("m", learn, 10**9, 4)
    assert [one.taken for one in found] == [frozenset(), frozenset("1"), frozenset(), frozenset()]
    assert [one.numbers for one in found] == [bytes([place]) for place in range(4)]
    assert store.answer([("r1", "1")]) == [False]
    assert not store.change("m", learn, 10**9, 1)
    assert store.read("m", 10**9, 1) == ("learned", False)
    assert store.change("m", lambda state, asked: f"{state} more")
    assert store.read("m", 0, 1)[0] == "learned more"


def test_a_store_that_does_not_answer_says_so(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "history.sqlite"), simple_rules())
    mix = store.mix
    store.close()
    with pytest.raises(StoreError):
        mix.read("m", 0, 1)
