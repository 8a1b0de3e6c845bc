"""A store filled from a log knows of every request what preparation counted for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from musenet.dataset.roles import MICROSECONDS
from musenet.preparation.prepare import prepare
from musenet.recipe.recipe import Recipe
from musenet.serving.export.filling import fill_store
from musenet.serving.store.history import WritableStore
from musenet.serving.store.rules import HistoryRules
from preparation.logs import DAY, START, Log, MemorySource, random_log, recipe

Opened = Callable[[str, HistoryRules], WritableStore]
BY_ATTRIBUTES = {"key": ["city", "brand"], "kinds": ["click"], "window": "3 days"}


def own_positives() -> tuple[Log, Recipe]:
    return random_log(3).but(events=None), recipe(
        history={"columns": ["item_id"], "length": 4}, repeat={"key": ["item_id"]}
    )


@pytest.mark.parametrize(
    ("log", "chosen"),
    [
        (random_log(1), recipe()),
        (random_log(2), recipe(repeat=BY_ATTRIBUTES, history={"columns": ["city"], "length": 3, "delay": 1800})),
        own_positives(),
    ],
    ids=["by item", "by attributes", "own positives"],
)
def test_a_filled_store_agrees_with_preparation(tmp_path: Path, opened: Opened, log: Log, chosen: Recipe) -> None:
    source = MemorySource(log)
    dataset = prepare(source, chosen, tmp_path / "dataset").dataset
    past = HistoryRules(chosen.history, chosen.repeat)
    items = dataset.keys("items")["_item"].to_pylist()
    requests = dataset.keys("requests").to_pylist()
    attributes = {row["_item"]: row for row in log.items.to_dicts()} if log.items is not None else {}
    last_day = [row for row in range(len(requests)) if requests[row]["_time"] >= START + 11 * DAY]
    for row in last_day[:2]:
        time = requests[row]["_time"]
        store = opened(str(tmp_path / f"{row}.sqlite"), past)
        assert fill_store(store, source, chosen, until=time).new > 0
        found = store.read(str(requests[row]["_user"]), time / MICROSECONDS)
        before = dataset.requests.history_end[row] - dataset.events.offset[dataset.requests.user[row]]
        length = min(int(before), chosen.history.length)
        assert len(found.events) >= length
        assert len([e for e in found.events if e.time != found.events[0].time]) <= length
        begin, end = dataset.requests.candidate_offset[row : row + 2]
        for candidate in range(begin, end):
            item = items[dataset.candidates.item[candidate]]
            described: dict[str, Any] = {**attributes.get(item, {}), "item_id": item}
            assert chosen.repeat is not None
            key = tuple(None if described[name] is None else str(described[name]) for name in chosen.repeat.key)
            statistics = found.repeats.get(key) if None not in key else None
            assert (statistics.count if statistics else 0) == dataset.candidates.repeat_count[candidate]
            if statistics is not None and statistics.last_time is not None:
                recency = dataset.candidates.repeat_recency[candidate]
                assert time / MICROSECONDS - statistics.last_time == pytest.approx(recency, rel=1e-6)


def test_filling_twice_adds_nothing(address: str, opened: Opened) -> None:
    chosen, source = recipe(), MemorySource(random_log(1))
    told: list[tuple[int, int]] = []
    with opened(address, HistoryRules(chosen.history, chosen.repeat)) as store:
        first = fill_store(store, source, chosen, progress=lambda done, count: told.append((done, count))).new
        assert told == [(first, first)]
        assert fill_store(store, source, chosen).new == 0
        users = np.unique([f"u{n}" for n in range(12)])
        assert any(store.read(user, None).events for user in users)
