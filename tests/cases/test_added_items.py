"""An item that `/items` acknowledged is known: now, to other threads, after a reload, after a restart, elsewhere."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from musenet.errors import RequestError, StoreError
from musenet.serving.manifest import MANIFEST
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from musenet.serving.store.history import WritableStore
from musenet.serving.store.rules import HistoryRules
from serving.apps import client_of, plain_request
from serving.exports import Exported

Opened = Callable[[str, HistoryRules], WritableStore]


def unknown(scorer: Scorer, exported: Exported, items: list[str]) -> int:
    request = plain_request(exported) | {"candidates": [{"item": item} for item in items]}
    found: int = scorer.score(request)["unknown"]["items"]
    return found


def test_none_of_many_that_threads_add_at_once_is_lost(exported: Exported, address: str, opened: Opened) -> None:
    """160 calls of eight threads on two servers, each known to its caller at once and to a third server later."""
    rules = Scorer(exported.folder).rules
    stores = [opened(address, rules) for _ in range(2)]
    servers = [Scorer(exported.folder, store=store) for store in stores]

    def add(n: int) -> int:
        servers[n % 2].add_items([{"item": f"new {n}", "city": "rome"}])
        return unknown(servers[(n + n // 2) % 2], exported, [f"new {n}"])

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(160))) == 0
    everything = [f"new {n}" for n in range(160)]
    for scorer in (*servers, Scorer(exported.folder, store=opened(address, rules))):
        assert unknown(scorer, exported, [*everything, "never added"]) == 1


def test_in_memory_alone_none_is_lost_either(exported: Exported) -> None:
    scorer = Scorer(exported.folder)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: scorer.add_items([{"item": f"new {n}"}]), range(160)))
    assert unknown(scorer, exported, [f"new {n}" for n in range(160)]) == 0


def test_what_is_added_while_another_export_is_loaded_is_known_to_it(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "export"
    shutil.copytree(exported.folder, folder)
    service = Service(folder, str(tmp_path / "history.sqlite"))
    old = service.scorer

    def slow(*arguments: Any, **options: Any) -> Scorer:
        scorer = Scorer(*arguments, **options)
        assert old.add_items([{"item": "late"}]) == 1
        return scorer

    monkeypatch.setattr("musenet.serving.service.service.Scorer", slow)
    (folder / MANIFEST).touch()
    assert service.reload()
    assert service.scorer is not old
    assert unknown(service.scorer, exported, ["late"]) == 0
    service.close()


@pytest.mark.parametrize("number", [1e308, -1e308, 1e39, 1e30, 10**400, 2**1023])
def test_a_number_that_no_model_computes_with_is_refused_where_it_is_sent(
    exported: Exported, tmp_path: Path, number: float
) -> None:
    """Of items, and of candidates and the context: none answers 500, and no request after it does."""
    with client_of(exported, str(tmp_path / "history.sqlite")) as client:
        request = plain_request(exported) | {"candidates": [{"item": "new", "price": 3.5}]}
        answer = client.post("/items", json={"items": [{"item": "new", "stars": number}]})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "items.0.stars")
        assert client.post("/score", json=request).status_code == 200
        wrong = request | {"candidates": [{"item": "i1", "price": number}]}
        answer = client.post("/score", json=wrong)
        # Of a price its rank and its logarithm are told, which are small numbers even then.
        refused = [error["field"] for error in answer.json().get("errors", [])]
        assert (answer.status_code, refused) in ((200, []), (422, ["candidates.0.price"]))


def test_a_score_that_is_no_number_is_refused(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(exported.folder)
    monkeypatch.setattr(scorer.runtime, "logit", lambda inputs: inputs["candidate_dense"][:, 0] * float("nan"))
    with pytest.raises(RequestError, match=r"candidates\.0: has no score"):
        scorer.score(plain_request(exported))


def test_an_item_that_this_export_does_not_take_is_left_out_and_the_others_are_known(
    exported: Exported, tmp_path: Path
) -> None:
    """Kept for another model, or by a faulty version: text for a number, a column that there is no more, damage."""
    store = tmp_path / "history.sqlite"
    Service(exported.folder, str(store)).close()
    rows = {"text": {"stars": "many"}, "huge": {"stars": 1e308}, "gone": {"colour": "red"}, "good": {"city": "rome"}}
    with sqlite3.connect(store) as connection:
        connection.executemany("INSERT INTO items VALUES (?, 1, ?)", [(i, json.dumps(c)) for i, c in rows.items()])
    connection.close()
    service = Service(exported.folder, str(store))
    assert [unknown(service.scorer, exported, [item]) for item in rows] == [1, 1, 0, 0]
    service.scorer.add_items([{"item": "text", "stars": 4}])
    assert unknown(service.scorer, exported, ["text"]) == 0
    service.close()


def test_an_item_that_cannot_be_kept_is_not_acknowledged(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk is 503, not 500, and what was not acknowledged is not known."""
    with client_of(exported, str(tmp_path / "history.sqlite")) as client:
        request = plain_request(exported) | {"candidates": [{"item": "new"}]}

        def full(*_: object) -> None:
            raise StoreError("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr("musenet.serving.store.sqlite_store.SqliteStore.put_items", full)
            answer = client.post("/items", json={"items": [{"item": "new"}]})
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (503, "store")
        assert client.post("/score", json=request).json()["unknown"]["items"] == 1
        assert client.post("/items", json={"items": [{"item": "new"}]}).json() == {"items": 1}
        assert client.post("/score", json=request).json()["unknown"]["items"] == 0
