"""The scorer's requests are the dataset's, and its answers the model's."""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from musenet.dataset.builder import BatchBuilder
from musenet.errors import RequestError
from musenet.runs.run import load_model
from musenet.serving.scorer.encoded import EncodedRequest
from musenet.serving.scorer.messages import Event, ScoreResponse
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import PastEvent, RepeatStatistics, UserHistory, WritableStore
from musenet.serving.store.rules import HistoryRules
from serving.exports import RELATIVE, SMALL, SOFT, Exported, events_of, export_log, numpy_of, request_of, rows_of_test

Opened = Callable[[str, HistoryRules], WritableStore]


@pytest.fixture(scope="module")
def scorer(exported: Exported) -> Scorer:
    return Scorer(exported.folder)


def assert_as_in_the_dataset(exported: Exported, row: int, encoded: EncodedRequest) -> None:
    batch = BatchBuilder(exported.dataset).build(np.array([row]))
    rows = batch.rows.numpy()
    for name in ("request_codes", "candidate_codes", "history_codes"):
        expected = rows[numpy_of(getattr(batch, name))]
        found = encoded.rows[encoded.inputs[name]]
        if not len(expected):  # where there is no event, the graphs get one of padding
            expected = np.zeros_like(found)
        np.testing.assert_array_equal(found, expected)
    for name in ("request_dense", "candidate_dense", "repeat_features"):
        np.testing.assert_allclose(encoded.inputs[name], numpy_of(getattr(batch, name)), atol=1e-6)
    if batch.predefined_scenario is not None:
        np.testing.assert_array_equal(encoded.inputs["predefined_scenario"], numpy_of(batch.predefined_scenario))


def assert_answers_as_offline(exported: Exported) -> None:
    """Codes, numbers and logits of every request of the test period; some have no history, a few none that is new."""
    scorer, builder = Scorer(exported.folder), BatchBuilder(exported.dataset)
    model = load_model(exported.run.folder)
    for row in rows_of_test(exported.dataset)[::3]:
        encoded = scorer.encode(request_of(exported, row))
        assert_as_in_the_dataset(exported, row, encoded)
        with torch.inference_mode():
            expected = model(builder.build(np.array([row]))).logit.numpy()
        np.testing.assert_allclose(scorer.logit(encoded), expected, atol=1e-5, rtol=0)


def test_requests_and_answers_are_those_of_the_dataset(exported: Exported) -> None:
    assert_answers_as_offline(exported)


@pytest.mark.slow
def test_a_key_that_candidates_may_lack_and_a_window_and_delay_are_the_datasets(tmp_path: Path) -> None:
    """Candidates without a city repeat by their brand alone; numbers of events are cut into the item's quantiles."""
    changes: dict[str, Any] = {
        "repeat": {"key": ["brand", "city"], "optional": ["city"], "kinds": ["view", "buy"], "window": "4 days"},
        "history": {"columns": ["brand", "stars", "city"], "length": 3, "delay": 1800},
        "features": {
            "user": [{"age": {"numeric": "log"}}],
            "item": ["city", {"stars": {"numeric": "quantiles", "buckets": 2}}],
            "context": [{"party": {"numeric": "standardise"}}, "device"],
            "candidate": [{"price": {"numeric": "quantiles", "buckets": 3}}, {"place": "position"}],
        },
    }
    assert_answers_as_offline(export_log(tmp_path, SMALL | {"name": "base_model"}, **changes))


def test_places_in_the_list_are_those_of_the_dataset(tmp_path: Path) -> None:
    """Prices that are missing, stars that tie and lists of one candidate are among them."""
    exported = export_log(tmp_path, SOFT, features=RELATIVE)
    assert_answers_as_offline(exported)
    scorer, builder = Scorer(exported.folder), BatchBuilder(exported.dataset)
    sizes = set()
    for row in rows_of_test(exported.dataset):
        batch, encoded = builder.build(np.array([row])), scorer.encode(request_of(exported, row))
        np.testing.assert_array_equal(encoded.inputs["candidate_dense"], numpy_of(batch.candidate_dense))
        sizes.add(batch.candidates)
    assert {1, 5} <= sizes
    touched = builder.schema.candidate_dense[-3]
    assert touched.name == "touched last of the list"
    every = builder.build(np.array(rows_of_test(exported.dataset)))
    assert 0 < every.candidate_dense[:, -3].mean() < 1


@pytest.mark.slow
def test_repeats_among_many_candidates_are_those_of_the_items_own_keys(tmp_path: Path) -> None:
    """With more candidates than the user has keys, most are told by their checksum; added items and gaps are not."""
    exported = export_log(tmp_path, SOFT, repeat={"key": ["brand", "city"], "optional": ["city"]})
    scorer = Scorer(exported.folder)
    assert exported.log.items is not None
    items = {item["_item"]: item for item in exported.log.items.to_dicts()}
    items["new"] = items["i3"]
    scorer.add_items([{"item": "new"} | {name: value for name, value in items["i3"].items() if name != "_item"}])
    found: list[int] = []
    for row in rows_of_test(exported.dataset)[:20]:
        request = request_of(exported, row)
        request |= {"candidates": [{"item": item} for item in items], "history": request["history"][:9]}
        encoded = scorer.encode(request)
        events = [scorer.past_event(Event(**event)) for event in request["history"]]
        known = scorer.rules.summarise(events, request["time"]).repeats
        for item, count in zip(items.values(), encoded.repeats.count, strict=True):
            same = [
                one.count
                for (brand, city), one in known.items()
                if str(item["brand"]) == brand and item["city"] in (None, city)
            ]
            assert count == sum(same)
            found.append(int(count))
    assert 0 < sum(count > 0 for count in found) < len(found)


@dataclass
class FixedStore:
    """A store that holds all events of everybody."""

    histories: dict[str, list[PastEvent]]
    past: Any = None

    def read(self, user: str, before: float | None) -> UserHistory:
        history: UserHistory = self.past.summarise(self.histories.get(user, []), before)
        return history


def test_a_history_from_the_store_is_as_good_as_the_requests_own(exported: Exported, scorer: Scorer) -> None:
    def past_events(events: Iterable[dict[str, Any]]) -> list[PastEvent]:
        return [scorer.past_event(Event(**event)) for event in events]

    rows = rows_of_test(exported.dataset)[:12]
    users = {request_of(exported, row)["user"] for row in rows}
    store = FixedStore({user: past_events(events_of(exported.log, user)) for user in users}, scorer.rules)
    served = Scorer(exported.folder, store=store)
    for row in rows:
        assert served.score(request_of(exported, row, history=False)) == scorer.score(request_of(exported, row))


def test_without_history_and_store_nothing_happened_before(exported: Exported, scorer: Scorer) -> None:
    request = request_of(exported, rows_of_test(exported.dataset)[0], history=False)
    assert scorer.score(request) == scorer.score(request | {"history": []})


def a_request(exported: Exported, **changes: Any) -> dict[str, Any]:
    return request_of(exported, rows_of_test(exported.dataset)[3]) | changes


def test_unseen_ids_and_values_are_served_and_counted(exported: Exported, scorer: Scorer) -> None:
    answer = scorer.score(
        {
            "user": "nobody",
            "context": {"device": "watch", "party": 2},
            "candidates": [{"item": "new", "price": 3}, {"item": "i1"}, {"item": 12345, "price": None}],
        }
    )
    assert len(answer["scores"]) == 3
    assert all(0 < score < 1 for score in answer["scores"])
    assert answer["unknown"] == {"user": 1, "items": 2, "values": {"device": 1}, "missing": {"price": 2}}


def test_unseen_ids_are_what_the_unseen_rows_hold(exported: Exported, scorer: Scorer) -> None:
    request = a_request(exported, user="nobody")
    request["candidates"][0] |= {"item": "new"}
    encoded = scorer.encode(request)
    dataset = exported.dataset
    for side, name, codes in (("user", "user_id", "request_codes"), ("item", "item_id", "candidate_codes")):
        unseen = dataset.embedding_offset[name] + dataset.values(dataset.field(side, name), 0)
        assert encoded.rows[encoded.inputs[codes][0, 0]] == unseen


def test_what_is_explained_adds_up(exported: Exported, scorer: Scorer) -> None:
    for row in rows_of_test(exported.dataset)[:6]:
        answer = scorer.score(request_of(exported, row) | {"explain": True})
        shares = answer["scenarios"]
        assert sum(shares) == pytest.approx(1)
        assert 0 < answer["repeat_probability"] < 1
        for score, why in zip(answer["scores"], answer["candidates"], strict=True):
            assert sum(a * p for a, p in zip(shares, why["scenarios"], strict=True)) == pytest.approx(score, abs=1e-12)
            assert why["repeat"] == (why["repeat_count"] > 0)
        counts = exported.dataset.candidates.repeat_count
        begin, end = exported.dataset.requests.candidate_offset[[row, row + 1]]
        assert [why["repeat_count"] for why in answer["candidates"]] == counts[begin:end].tolist()


def test_added_items_are_known_by_their_attributes_from_then_on(
    exported: Exported, address: str, opened: Opened
) -> None:
    """An item that is described as a known one is, apart from its id, scored like it; by another server, too."""
    assert exported.log.items is not None
    items = {item["_item"]: item for item in exported.log.items.to_dicts()}
    same = {name: value for name, value in items["i5"].items() if name != "_item"}
    rules = Scorer(exported.folder).rules
    scorer, other = (Scorer(exported.folder, store=opened(address, rules)) for _ in range(2))
    request = a_request(
        exported, candidates=[{"item": "new"}, {"item": "i5"}], history=[{"item": "new", "kind": "click"}]
    )
    assert scorer.score(request)["unknown"]["items"] == 1
    assert scorer.add_items([{"item": "other"}, {"item": "new"} | same]) == 2
    for one in (scorer, other, Scorer(exported.folder, store=scorer.store)):
        encoded = one.encode(request)
        codes = encoded.rows[encoded.inputs["candidate_codes"]]
        assert encoded.unknown["items"] == 0
        assert codes[0, 0] != codes[1, 0]
        np.testing.assert_array_equal(codes[0, 1:], codes[1, 1:])
        np.testing.assert_array_equal(*encoded.inputs["candidate_dense"][:, -2:])
        assert encoded.repeats.count.tolist() == [1, 0]
    before = other.score(request)
    scorer.add_items([{"item": "new", "city": "oslo"}])
    assert other.score(request) == scorer.score(request) != before


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "no candidates": ({"candidates": []}, r"candidates: .*at least 1"),
    "a candidate without an item": ({"candidates": [{"price": 1}]}, r"candidates\.0\.item: .*required"),
    "an id that is a truth value": ({"user": True}, r"user: takes an id"),
    "an empty id": ({"user": ""}, r"user: takes an id"),
    "text in a number": (
        {"candidates": [{"item": "i1", "price": "12"}]},
        r"candidates\.0\.price: takes a number, not text",
    ),
    "a list in a number": (
        {"candidates": [{"item": "i1", "price": [1]}]},
        r"candidates\.0\.price: takes a number, not a list",
    ),
    "a number beyond all": ({"candidates": [{"item": "i1", "price": 10**400}]}, r"candidates\.0\.price: is too large"),
    "a list in a category": ({"context": {"device": ["a"]}}, r"context\.device: takes one value"),
    "an object in a column": ({"context": {"device": {"a": 1}}}, r"context\.device: takes text"),
    "a misspelt column": ({"context": {"devcie": "a"}}, r"context\.devcie: is no column .*there are device, party"),
    "a misspelt candidate column": (
        {"candidates": [{"item": "i1", "prize": 1}]},
        r"candidates\.0\.prize: is no column",
    ),
    "a misspelt event column": ({"history": [{"item": "i1", "town": 1}]}, r"history\.0\.town: is no column of events"),
    "a time that is none": ({"time": "tomorrow"}, r"time: is no time"),
    "a time without offset": ({"time": "2024-01-01T00:00:00"}, r"time: lacks its offset"),
    "a time that never ends": ({"time": math.inf}, r"time: "),
    "an event's time": ({"history": [{"item": "i1", "time": "x"}]}, r"history\.0\.time: is no time"),
    "a key too many": ({"usr": 1}, r"usr: "),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_a_sentence_that_begins_with_the_field(mistake: str, exported: Exported, scorer: Scorer) -> None:
    changes, sentence = MISTAKES[mistake]
    with pytest.raises(RequestError, match=f"^{sentence}") as caught:
        scorer.score(a_request(exported, **changes))
    assert str(caught.value).startswith(f"{caught.value.field}: ")


def test_a_wrong_item_leaves_all_of_them_out(exported: Exported) -> None:
    scorer = Scorer(exported.folder)
    for wrong, sentence in (
        ({"item": "b", "town": "oslo"}, r"items\.1\.town: is no column of items"),
        ({"item": "b", "stars": "many"}, r"items\.1\.stars: takes a number"),
        ({"town": "oslo"}, r"items\.1\.item: .*required"),
    ):
        with pytest.raises(RequestError, match=sentence):
            scorer.add_items([{"item": "a", "city": "oslo"}, wrong])
    assert scorer.score(a_request(exported, candidates=[{"item": "a"}]))["unknown"]["items"] == 1


def test_answers_are_plain_json(exported: Exported, scorer: Scorer) -> None:
    answer = scorer.score(a_request(exported, explain=True))
    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    ScoreResponse.model_validate(answer, strict=True)


def test_times_are_seconds_or_text(exported: Exported, scorer: Scorer) -> None:
    request = a_request(exported)
    text = np.datetime64(round(request["time"] * 1e6), "us").item().isoformat() + "+00:00"
    assert scorer.score(request | {"time": text}) == scorer.score(request)


def test_repeats_of_a_store_are_used_as_they_are(exported: Exported, scorer: Scorer) -> None:
    """A store may know more of the past than the last L events."""
    request = a_request(exported, candidates=[{"item": "i1"}, {"item": "i2"}])
    del request["history"]

    class Store:
        def read(self, user: str, before: float | None) -> UserHistory:
            return UserHistory((), {("i2",): RepeatStatistics(7, (before or 0) - 3599)})

    features = Scorer(exported.folder, store=Store()).encode(request).inputs["repeat_features"]
    np.testing.assert_allclose(features, [[0, 0, 0], [1, np.log(8), np.log(3600 / 86401) / 2]], atol=1e-6)
