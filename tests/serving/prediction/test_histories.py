"""Histories of many requests at once are those that the service has of each."""

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import musenet
from musenet.dataset.roles import MICROSECONDS
from musenet.errors import DataError, LogWarning, NoHistoriesWarning, StoreError, UserError
from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.prediction.histories import EventHistories
from musenet.serving.prediction.past import TIMELESS, Happened, PastOfMany
from musenet.serving.prediction.scoring import score_rows
from musenet.serving.prediction.stored import StoredHistories
from musenet.serving.scorer.messages import Event
from musenet.serving.scorer.repeats import count_repeats
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import PastEvent, StoredPasts, UserEvent
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.sqlite_store import SqliteStore
from preparation.logs import random_log
from serving.exports import Exported, events_of, export_log, request_of, rows_of_test
from serving.prediction.test_predict import frame

KINDS = ("click", "buy", "view")
DAY = 86_400.0


@pytest.fixture(scope="module")
def shown(exported: Exported) -> pl.DataFrame:
    return frame(exported, rows_of_test(exported.dataset)).drop("history")


@pytest.fixture(scope="module")
def expected(exported: Exported) -> list[float]:
    """As the service answers each request that brings the user's whole past."""
    scorer = Scorer(exported.folder)
    return [
        score for row in rows_of_test(exported.dataset) for score in scorer.score(request_of(exported, row))["scores"]
    ]


@pytest.fixture(scope="module")
def clicks(exported: Exported) -> pl.DataFrame:
    """The log's events under the log's own names, doubled ones among them."""
    assert exported.log.events is not None
    names = {"_user": "user_id", "_item": "item_id", "_time": "time", "_kind": "kind"}
    found = exported.log.events.rename(names)
    return found.with_columns(time=pl.from_epoch("time", "us"), town=pl.lit("somewhere"))


def test_a_table_of_events_gives_every_user_their_past(
    exported: Exported, shown: pl.DataFrame, expected: list[float], clicks: pl.DataFrame
) -> None:
    scorer = Scorer(exported.folder)
    histories = EventHistories(scorer, clicks.sample(fraction=1, shuffle=True, seed=1).to_arrow())
    found = score_rows(scorer, shown.to_arrow(), histories=histories).read_all()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)
    without = score_rows(scorer, shown.to_arrow()).read_all()
    assert np.abs(np.array(without["score"]) - expected).max() > 0.01


def test_events_that_are_impressions_are_positive_as_preparation_reads_labels(
    exported: Exported, shown: pl.DataFrame, expected: list[float], clicks: pl.DataFrame
) -> None:
    scorer = Scorer(exported.folder)
    log = scorer.manifest.log.model_copy(update={"label": "taken"})
    scorer.manifest = scorer.manifest.model_copy(update={"log": log})
    yes, no = itertools.cycle(["1", " Yes", "1.0", "TRUE"]), itertools.cycle(["0", "n", "", None])
    taken = clicks.with_columns(taken=pl.Series([next(yes) for _ in range(len(clicks))]))
    left = clicks.with_columns(
        pl.col("time") + pl.duration(seconds=1), taken=pl.Series([next(no) for _ in range(len(clicks))])
    )
    histories = EventHistories(scorer, pl.concat([taken, left]).to_arrow())
    found = score_rows(scorer, shown.to_arrow(), histories=histories).read_all()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)


def test_requests_that_bring_none_get_what_the_events_tell(
    exported: Exported, shown: pl.DataFrame, expected: list[float], clicks: pl.DataFrame
) -> None:
    whole = frame(exported, rows_of_test(exported.dataset))
    some = whole.with_columns(history=pl.when(pl.col("request") % 3 > 0).then("history"))
    scorer = Scorer(exported.folder)
    found = score_rows(scorer, some.to_arrow(), histories=EventHistories(scorer, clicks.to_arrow())).read_all()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)


@pytest.mark.parametrize("retention", [None, 3 * DAY])
def test_a_store_tells_as_it_tells_the_service(
    exported: Exported, shown: pl.DataFrame, address: str, retention: float | None, tmp_path: Path
) -> None:
    """Read once for all of a user's requests, old ones and new, it knows of each what it knows of that one alone."""
    scorer, random = Scorer(exported.folder), np.random.default_rng(3)
    asked = [request_of(exported, row, history=False) for row in rows_of_test(exported.dataset)]
    ago = random.integers(8 * int(DAY), size=len(asked))
    for request, seconds in zip(asked, ago.tolist(), strict=True):
        request["time"] -= seconds
    sizes = [len(one["candidates"]) for one in asked]
    moved = shown.with_columns(time=pl.Series(np.repeat([one["time"] for one in asked], sizes)))
    with open_store(address, scorer.rules, retention) as store:
        for user in shown["user_id"].unique():
            events = (scorer.past_event(Event.model_validate(one)) for one in events_of(exported.log, user))
            store.append([UserEvent(user, event) for event in events])
        scorer.use(store)
        expected = [score for one in asked for score in scorer.score(one)["scores"]]
        moved.write_parquet(tmp_path / "in.parquet")
        with pytest.warns(LogWarning, match="more than 25 hours before their users' newest events"):
            musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet", store=store)
    np.testing.assert_allclose(pl.read_parquet(tmp_path / "out.parquet")["score"], expected, atol=1e-6)


@pytest.mark.parametrize(("hours", "told"), [(24, False), (26, True)])
def test_requests_of_the_past_are_told_of_without_a_repeat_key(
    exported: Exported, shown: pl.DataFrame, address: str, hours: int, told: bool
) -> None:
    """Of their users' newest event, however long or short the history is."""
    scorer, time = Scorer(exported.folder), 1_700_000_000.0
    scorer.rules = replace(scorer.rules, repeat=None)
    rows = shown[:1].with_columns(time=pl.lit(time)).to_arrow()
    with open_store(address, scorer.rules) as store, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LogWarning)
        store.append([UserEvent(shown["user_id"][0], PastEvent("1", "click", time + hours * 3600))])
        score_rows(scorer, rows, histories=StoredHistories(scorer, store)).read_all()
    assert ["more than 25 hours" in str(one.message) for one in caught] == [True] * told


ODD = {"rome": "2024-01-09", "oslo": "9223372036854775809", "lima": '","{a,{"'}
ATTRIBUTES = {
    "times as text": ["2024-01-09", None, "2024-01-09"],
    "long numbers": [9223372036854775809, 1, None],
    "several types": ["2024-01-09", 9223372036854775809, True],
    "longer numbers": [2**65, 9223372036854775809],
    "numbers with a point": [1.5, 2, None],
    "quotes and braces": ['","{a,{"', "[null]", "2024-01-09"],
    "none": [None],
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The log of all, whose model's graphs it is lent, with cities that look like times, numbers and JSON."""
    log = random_log(requests=240)
    assert log.items is not None
    assert log.users is not None
    items, users = (
        frame.with_columns(pl.col(name).replace(ODD)) for frame, name in ((log.items, "city"), (log.users, "home"))
    )
    return export_log(tmp_path_factory.mktemp("odd"), log=log.but(items=items, users=users))


@pytest.mark.parametrize("values", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_what_a_store_holds_is_read_as_the_service_reads_it(odd: Exported, address: str, values: list[Any]) -> None:
    """However a value of an event is written: none is taken for another type's."""
    scorer, rows = Scorer(odd.folder), rows_of_test(odd.dataset)[:15]
    asked = [request_of(odd, row, history=False) for row in rows]
    with open_store(address, scorer.rules) as store:
        for place, request in enumerate(asked):
            items = [f'a"],{{"{place}', None, *(one["item"] for one in request["candidates"])]
            events = [
                PastEvent(item, "click", request["time"] - 9.0 * at, {"item_id": item, "city": value, "brand": at})
                for at, (item, value) in enumerate(zip(items, itertools.cycle(values), strict=False), 1)
            ]
            store.append([UserEvent(request["user"], event) for event in events])
        scorer.use(store)
        expected = [score for one in asked for score in scorer.score(one)["scores"]]
        shown = frame(odd, rows).drop("history").to_arrow()
        found = score_rows(scorer, shown, histories=StoredHistories(scorer, store)).read_all()
    np.testing.assert_allclose(found["score"], expected, atol=1e-6)


def test_a_store_is_read_once_for_many_requests(exported: Exported, shown: pl.DataFrame, tmp_path: Path) -> None:
    scorer, reads = Scorer(exported.folder), []

    class Counted(SqliteStore):
        def read_many(self, users: Sequence[str], first: Sequence[int], last: Sequence[int]) -> StoredPasts:
            reads.append(len(set(users)) == len(users))
            return super().read_many(users, first, last)

    with Counted(tmp_path / "history.sqlite", scorer.rules) as store, warnings.catch_warnings():
        warnings.simplefilter("error", LogWarning)  # an empty store knows of nothing that came later
        score_rows(scorer, shown.to_arrow(), histories=StoredHistories(scorer, store)).read_all()
    assert reads == [True]


def test_what_gives_no_histories_is_told(exported: Exported, shown: pl.DataFrame, tmp_path: Path) -> None:
    asked, out = tmp_path / "in.parquet", tmp_path / "out.parquet"
    shown.write_parquet(asked)
    with pytest.warns(NoHistoriesWarning, match="no histories are given, but random-"):
        musenet.predict(exported.folder, asked, out)
    with pytest.raises(StoreError, match=r"nowhere\.sqlite does not exist"):
        musenet.predict(exported.folder, asked, out, store=tmp_path / "nowhere.sqlite")
    assert not (tmp_path / "nowhere.sqlite").exists()
    with pytest.raises(UserError, match="from --events or from --store, not from both"):
        musenet.predict(exported.folder, asked, out, store="a.sqlite", events=asked)
    with pytest.raises(DataError, match=r"in\.parquet lacks kind; it has request, user_id"):
        musenet.predict(exported.folder, asked, out, events=asked)


@pytest.mark.parametrize("delay", [0.0, 2.0])
@pytest.mark.parametrize("window", [None, 5.0])
@pytest.mark.parametrize("optional", [[], ["brand"]])
def test_the_past_of_many_is_that_of_each(delay: float, window: float | None, optional: list[str]) -> None:
    """Random events of few moments, keys and users, some without a time, against the rules that stores follow."""
    random = np.random.default_rng([int(delay), 0 if window is None else 1, len(optional)])
    rules = HistoryRules(
        HistoryOptions(columns=["code"], length=4, kinds=["click", "buy"], delay=delay),
        RepeatOptions(key=["category", "brand"], optional=optional, kinds=["buy", "view"], window=window),
    )
    count, users, requests, candidates = 300, 7, 60, 180
    group = random.integers(users, size=count)
    seconds = random.integers(1, 30, size=count)
    timed = random.random(count) > 0.1
    code = random.permutation(count) + 1
    kinds = random.choice(KINDS, size=count)
    keys = [random.choice(["a", "b", None], size=count), random.choice(["x", "y", "z", None], size=count)]
    events = Happened(
        group,
        np.where(timed, seconds * MICROSECONDS, TIMELESS - count + np.arange(count)),
        np.isin(kinds, ["click", "buy"]),
        np.isin(kinds, ["buy", "view"]),
        code[:, None],
        [pa.array(key.tolist(), pa.string()).dictionary_encode() for key in keys],
    )
    past = PastOfMany(rules, events, users)
    asked = random.integers(-1, users, size=requests)
    when = random.integers(35, size=requests) * MICROSECONDS
    of = np.sort(random.integers(requests, size=candidates))
    wanted = [random.choice(["a", "b", "c", None], size=candidates), random.choice(["x", "z", None], size=candidates)]
    codes, lengths = past.histories(asked, when)
    repeats = past.repeats(asked, when, of, [pa.array(key.tolist(), pa.string()) for key in wanted])
    for request in range(requests):
        own = [
            PastEvent(None, kinds[at], float(seconds[at]) if timed[at] else None, _attributes(keys, code, at))
            for at in np.flatnonzero(group == asked[request])
        ]
        known = rules.summarise(own, when[request] / MICROSECONDS)
        # What happened at once is in order of its codes; what has no time, in the order given.
        order = [
            (event.time or -1.0, event.attributes["code"] if event.time else 0, place)
            for place, event in enumerate(known.events)
        ]
        last = [known.events[place].attributes["code"] for *_, place in sorted(order)[-4:]]
        assert codes[request, : lengths[request], 0].tolist() == last
        chosen = np.flatnonzero(of == request)
        own_keys = [key[chosen].tolist() for key in wanted]
        counted = count_repeats(rules, len(chosen), own_keys.copy, known, when[request] / MICROSECONDS)
        np.testing.assert_allclose(repeats[chosen], counted.features, atol=1e-6)


def _attributes(keys: list[np.ndarray], code: np.ndarray, at: int) -> dict[str, object]:
    return {"category": keys[0][at], "brand": keys[1][at], "code": int(code[at])}
