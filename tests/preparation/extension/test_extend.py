"""A dataset that is extended holds what the whole log prepared at once does, but for the order of new codes."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import OCCURRENCES, VALUE, keys_file, vocabulary_file
from musenet.dataset.manifest import Field
from musenet.dataset.numeric import NumericTransform, VectorScale
from musenet.errors import DataError, DatasetError
from musenet.preparation.checks.checks import read_checks
from musenet.preparation.prepare import prepare
from preparation.logs import DAY, START, Log, MemorySource, random_log, recipe


@dataclass(frozen=True)
class GrowingMemory(MemorySource):
    """A log in memory whose every table is a file of its own."""

    def files(self) -> dict[str, list[str]]:
        return {"impressions": [self.name]}

    def described(self) -> str:
        return "in memory"

    def added_to(self, known: dict[str, list[str]]) -> "GrowingMemory":
        return self


def cut_at(log: Log, time: int) -> tuple[Log, Log]:
    """What lay before a time, and what came from then on; users and items are as they are."""

    def part(frame: pl.DataFrame | None, late: bool) -> pl.DataFrame | None:
        return None if frame is None else frame.filter((pl.col("_time") >= time) == late)

    early, late = (
        log.but(impressions=part(log.impressions, late), events=part(log.events, late)) for late in (False, True)
    )
    return early, late


def extended(log: Log, time: int, wished: Any, folder: Path) -> tuple[Dataset, Dataset, Dataset]:
    """The dataset of what lay before, the extended one, and that of the whole log."""
    early, late = cut_at(log, time)
    first = prepare(GrowingMemory(early, "early"), wished, folder / "first").dataset
    grown = prepare(GrowingMemory(late, "late"), wished, folder / "grown", extends=folder / "first").dataset
    whole = prepare(MemorySource(log, "whole"), wished, folder / "whole").dataset
    return first, grown, whole


def decoded(dataset: Dataset, field: Field) -> list[Any]:
    """The values of a field's rows as text, rows of lists as sorted texts."""
    texts = ["", "unseen", None, *dataset.texts(field.vocabulary_name).to_pylist()]
    column = dataset.column(field)
    if column.ndim == 1:
        return [texts[code] for code in column]
    return [[texts[code] for code in codes if code] for codes in column]


def rows_of(dataset: Dataset) -> dict[str, dict[Any, Any]]:
    """Everything but numbers, by the log's own ids."""
    user, item = (
        pl.read_parquet(keys_file(dataset.folder, one))[f"_{one[:-1]}"].to_list() for one in ("users", "items")
    )
    request = pl.read_parquet(keys_file(dataset.folder, "requests"))["_request"].to_list()
    requests, candidates, events = dataset.requests, dataset.candidates, dataset.events
    of_request = np.repeat(np.arange(len(request)), np.diff(requests.candidate_offset))
    names: dict[str, list[Any]] = {
        "users": user,
        "items": item,
        "requests": request,
        "candidates": [(request[one], item[row]) for one, row in zip(of_request, candidates.item, strict=True)],
    }
    told: dict[str, dict[Any, list[Any]]] = {name: {key: [] for key in keys} for name, keys in names.items()}
    sides = {"user": "users", "item": "items", "context": "requests", "candidate": "candidates"}
    for field in dataset.manifest.fields:
        if field.side in sides and field.has_codes and not field.is_bucketed:
            for key, value in zip(names[sides[field.side]], decoded(dataset, field), strict=True):
                told[sides[field.side]][key].append(value)
    columns: dict[str, dict[str, Any]] = {
        "requests": {
            "user": [user[row] for row in requests.user],
            "time": requests.time,
            "fraction": requests.repeat_fraction,
            "predefined": [dataset.manifest.predefined_scenarios[code] for code in requests.predefined_scenario]
            if dataset.manifest.predefined_scenarios
            else None,
            "true": requests.true_scenario,
        },
        "candidates": {
            name: getattr(candidates, name)
            for name in ("label", "true_probability", "repeat_indicator", "repeat_count", "repeat_recency", "weight")
        },
    }
    for relation, of in columns.items():
        for column in (column for column in of.values() if column is not None):
            for key, value in zip(names[relation], column, strict=True):
                plain = value.item() if isinstance(value, np.generic) else value
                told[relation][key].append("nan" if isinstance(plain, float) and math.isnan(plain) else plain)
    past = [field for field in dataset.fields("history") if not field.is_bucketed]
    every = list(zip(events.time.tolist(), *(map(str, decoded(dataset, field)) for field in past), strict=True))
    for place, key in enumerate(request):
        begin, end = events.offset[requests.user[place]], requests.history_end[place]
        told["requests"][key].append(sorted(every[begin:end]))
    return told


def counts_of(dataset: Dataset, name: str) -> dict[str, int]:
    frame = pl.read_parquet(vocabulary_file(dataset.folder, name))
    return dict(zip(frame[VALUE].to_list(), frame[OCCURRENCES].to_list(), strict=True))


def assert_equal_but_for_codes(first: Dataset, grown: Dataset, whole: Dataset) -> None:
    ours, theirs = rows_of(grown), rows_of(whole)
    for relation, rows in theirs.items():
        assert ours[relation].keys() == rows.keys()
        for key, values in rows.items():
            assert ours[relation][key] == values, (relation, key)
    for name in ("users", "items", "events", "requests", "candidates", "splits", "fields"):
        assert getattr(grown.manifest, name) == getattr(whole.manifest, name), name
    buckets = {field.vocabulary_name for field in whole.manifest.fields if field.is_bucketed}
    for name, size in whole.manifest.vocabularies.items():
        old = first.texts(name).to_pylist()
        assert grown.texts(name).to_pylist()[: len(old)] == old
        if name not in buckets:
            assert counts_of(grown, name) == counts_of(whole, name), name
            assert grown.manifest.vocabularies[name] == size
    assert grown.manifest.numeric == first.manifest.numeric
    checked, wanted = read_checks(grown.folder), read_checks(whole.folder)
    assert checked.rows == wanted.rows
    assert [one.missing for one in checked.features] == pytest.approx([one.missing for one in wanted.features])
    grown.verify()


def no_change(log: Log) -> Log:
    return log


def few_requests_with_new_values(log: Log) -> Log:
    """Cities and devices that the second half alone has, some of them once."""
    late = pl.col("_time") >= START + 8 * DAY
    device = pl.when(late & (pl.col("_request") % 3 == 0)).then(pl.lit("watch")).otherwise(pl.col("device"))
    rare = pl.when(pl.col("_request") == pl.col("_request").max()).then(pl.lit("lens")).otherwise(device)
    return log.but(impressions=log.impressions.with_columns(device=rare))


def own_positives(log: Log) -> Log:
    return log.but(events=None)


CASES: dict[str, tuple[Callable[[Log], Log], dict[str, Any]]] = {
    "as it is": (no_change, {}),
    "new values": (few_requests_with_new_values, {}),
    "delay and window": (
        no_change,
        {
            "history": {"columns": ["item_id", "city"], "length": 5, "kinds": ["click", "buy"], "delay": 1200},
            "repeat": {"key": ["city"], "kinds": ["buy", "view"], "window": 200_000},
        },
    ),
    "its own positives": (
        own_positives,
        {"history": {"columns": ["item_id", "brand"], "length": 5}, "repeat": {"key": ["item_id"]}},
    ),
    "parts": (no_change, {"split": {"parts": 5, "test": 1, "valid": 1}}),
    "no repeats": (no_change, {"repeat": None}),
}


@pytest.mark.parametrize(("seed", "case"), [(1 + place % 2, case) for place, case in enumerate(CASES)])
def test_extending_is_as_preparing_at_once(seed: int, case: str, tmp_path: Path) -> None:
    change, options = CASES[case]
    log = change(random_log(seed, requests=200))
    assert_equal_but_for_codes(*extended(log, START + (9 + seed) * DAY, recipe(**options), tmp_path))


def test_numbers_keep_the_scale_of_the_first_dataset(tmp_path: Path) -> None:
    log = random_log(3)
    early, late = cut_at(log, START + 10 * DAY)
    prepare(GrowingMemory(early, "1"), recipe(), tmp_path / "1")
    grown = prepare(GrowingMemory(late, "2"), recipe(), tmp_path / "2", extends=tmp_path / "1").dataset
    request = pl.read_parquet(keys_file(grown.folder, "requests"))["_request"].to_numpy()
    item = pl.read_parquet(keys_file(grown.folder, "items"))["_item"].to_numpy()
    ids = pl.DataFrame(
        {
            "_request": np.repeat(request, np.diff(grown.requests.candidate_offset)),
            "_item": item[grown.candidates.item].astype(str),
        }
    )
    raw = ids.join(log.impressions, on=["_request", "_item"], how="left", maintain_order="left")["price"].to_numpy()
    scale = NumericTransform(**grown.manifest.numeric["price"])
    assert np.array_equal(grown.column(grown.field("candidate", "price")), scale.dense(raw.astype(np.float64)))


def test_two_extensions_are_as_one(tmp_path: Path) -> None:
    log, wished = few_requests_with_new_values(random_log(5, requests=200)), recipe()
    early, late = cut_at(log, START + 9 * DAY)
    middle, last = cut_at(late, START + 10 * DAY)
    first = prepare(GrowingMemory(early, "1"), wished, tmp_path / "1").dataset
    prepare(GrowingMemory(middle, "2"), wished, tmp_path / "2", extends=tmp_path / "1")
    grown = prepare(GrowingMemory(last, "3"), wished, tmp_path / "3", extends=tmp_path / "2").dataset
    whole = prepare(MemorySource(log, "whole"), wished, tmp_path / "whole").dataset
    assert_equal_but_for_codes(first, grown, whole)


def test_vectors_keep_their_scale_and_those_told_anew_replace_the_old(tmp_path: Path) -> None:
    log = random_log(6)
    random = np.random.default_rng(0)
    assert log.items is not None
    count = len(log.items)
    first_vectors, second_vectors = random.random((2, count, 3))
    first_vectors[:5] = np.nan

    def with_vectors(part: Log, vectors: Any) -> Log:
        lists = pl.Series("look", [None if np.isnan(row).any() else row.tolist() for row in vectors])
        assert part.items is not None
        return part.but(items=part.items.with_columns(lists))

    wished = recipe(features={"item": ["city", {"look": {"vector": 3, "projection": 2}}], "context": ["device"]})
    early, late = cut_at(log, START + 10 * DAY)
    second_vectors[5:10] = np.nan  # what is told no longer stays as it was
    early, late = with_vectors(early, first_vectors), with_vectors(late, second_vectors)
    first = prepare(GrowingMemory(early, "1"), wished, tmp_path / "1").dataset
    grown = prepare(GrowingMemory(late, "2"), wished, tmp_path / "2", extends=first.folder).dataset
    assert grown.manifest.vectors == first.manifest.vectors
    scale = VectorScale(**grown.manifest.vectors["look"])
    names = log.items["_item"].to_list()
    vectors = np.where(np.isnan(second_vectors), first_vectors, second_vectors).astype(np.float32)
    wanted = scale.standardised(vectors[[names.index(one) for one in grown.keys("items")["_item"].to_pylist()[1:]]])
    assert np.array_equal(grown.column(grown.field("item", "look"))[1:], wanted)


def refusals(held: int = 0) -> dict[str, tuple[Callable[[Log], Log], str]]:
    """What is wrong with the later part of a log, and what is said of it."""
    cut = START + 10 * DAY

    def early_request(log: Log) -> Log:
        moved = pl.when(pl.col("_request") == log.impressions["_request"][0]).then(cut - DAY).otherwise(pl.col("_time"))
        return log.but(impressions=log.impressions.with_columns(_time=moved))

    def held_id(log: Log) -> Log:
        renamed = pl.when(pl.col("_request") == log.impressions["_request"][0]).then(held).otherwise(pl.col("_request"))
        return log.but(impressions=log.impressions.with_columns(_request=renamed))

    def late_event(log: Log) -> Log:
        assert log.events is not None
        early = log.events.filter(pl.col("_kind") == "buy").head(1).with_columns(_time=pl.lit(START))
        return log.but(events=pl.concat([log.events, early]))

    def other_ids(log: Log) -> Log:
        assert log.users is not None
        frames = {
            name: getattr(log, name).with_columns(pl.col("_user").str.slice(1).cast(pl.Int64))
            for name in ("impressions", "events", "users")
        }
        return log.but(**frames)

    def other_city(log: Log) -> Log:
        assert log.items is not None
        return log.but(items=log.items.with_columns(city=pl.lit("lima")))

    def text_for_numbers(log: Log) -> Log:
        return log.but(impressions=log.impressions.with_columns(party=pl.lit("many")))

    return {
        "a late request": (early_request, "1 of the requests to be added are not later than"),
        "an id that is held": (held_id, "1 of the requests to be added have ids of requests that"),
        "a late event": (late_event, "1 of the events to be added came late"),
        "ids of another type": (other_ids, "'user_id' holds whole numbers in what is to be added, but text before"),
        "an item described otherwise": (other_city, "'city' has changed for"),
        "text for numbers": (text_for_numbers, "'party' holds text in what is to be added, but whole numbers before"),
    }


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log, Log]:
    """A dataset's folder, what of a log it was prepared from, and what came later."""
    folder = tmp_path_factory.mktemp("first") / "dataset"
    early, late = cut_at(random_log(7), START + 10 * DAY)
    prepare(GrowingMemory(early, "1"), recipe(), folder)
    return folder, early, late


@pytest.mark.parametrize("case", refusals())
def test_what_cannot_be_added_is_refused(case: str, first: tuple[Path, Log, Log], tmp_path: Path) -> None:
    folder, early, late = first
    change, said = refusals(early.impressions["_request"][0])[case]
    with pytest.raises(DataError, match=said):
        prepare(GrowingMemory(change(late), "2"), recipe(), tmp_path / "2", extends=folder)
    assert not (tmp_path / "2").exists()


def test_an_item_that_events_named_before_anything_was_known_of_it_is_refused(tmp_path: Path) -> None:
    """The city of those events is missing in the dataset, and would be known of the whole log."""
    log = random_log(7)
    assert log.items is not None
    early, late = cut_at(log, START + 9 * DAY)
    middle, late = cut_at(late, START + 10 * DAY)
    one = {"_user": ["u1"], "_item": ["i99"], "_time": [START + DAY], "_kind": ["buy"]}
    assert early.events is not None
    prepare(
        GrowingMemory(early.but(events=pl.concat([early.events, pl.DataFrame(one)])), "1"), recipe(), tmp_path / "1"
    )
    prepare(GrowingMemory(middle, "2"), recipe(), tmp_path / "2", extends=tmp_path / "1")
    described = log.items.head(1).with_columns(_item=pl.lit("i99"), city=pl.lit("rome"))
    told = late.but(items=pl.concat([log.items, described]))
    with pytest.raises(DataError, match="'city' has changed for 1 items, or was not known before"):
        prepare(GrowingMemory(told, "3"), recipe(), tmp_path / "3", extends=tmp_path / "2")


def tiers(log: Log, first_known: int) -> Log:
    """A user's tier and score stand in the impressions, of `u1` from a time on."""
    known = (pl.col("_user") != "u1") | (pl.col("_time") >= first_known)
    columns = {"tier": pl.col("_user").str.slice(1), "score": pl.col("_user").str.slice(1).cast(pl.Float64)}
    return log.but(
        impressions=log.impressions.with_columns(**{name: pl.when(known).then(of) for name, of in columns.items()})
    )


@pytest.mark.parametrize("column", ["tier", {"score": {"numeric": "standardise"}}])
def test_an_attribute_of_impressions_that_a_user_shown_before_lacked_is_refused(column: Any, tmp_path: Path) -> None:
    cut, wished = START + 10 * DAY, recipe(features={"user": [column], "item": ["city"], "context": ["device"]})
    early, late = cut_at(tiers(random_log(7), cut), cut)
    prepare(GrowingMemory(early, "1"), wished, tmp_path / "1")
    with pytest.raises(DataError, match="of the impressions has changed for 1 users, or was missing before"):
        prepare(GrowingMemory(late, "2"), wished, tmp_path / "2", extends=tmp_path / "1")


def test_an_attribute_of_impressions_may_be_told_of_a_user_who_had_events_alone(tmp_path: Path) -> None:
    log, cut = random_log(12, requests=200), START + 10 * DAY
    shown = (pl.col("_user") != "u1") | (pl.col("_time") >= cut)
    log = tiers(log.but(impressions=log.impressions.filter(shown)), 0)
    columns = ["tier", {"score": {"numeric": "standardise"}}]
    wished = recipe(features={"user": columns, "item": ["city"], "context": ["device"]})
    assert_equal_but_for_codes(*extended(log, cut, wished, tmp_path))


def test_events_that_no_request_was_to_see_may_come_late(tmp_path: Path) -> None:
    """Of a user without requests or events since, which nothing that is held depends on."""
    log = random_log(8)
    assert log.events is not None
    early, late = cut_at(log, START + 10 * DAY)
    more = pl.DataFrame({"_user": ["u999"], "_item": ["i1"], "_time": [START], "_kind": ["buy"]})
    assert late.events is not None
    prepare(GrowingMemory(early, "1"), recipe(), tmp_path / "1")
    with_late = late.but(events=pl.concat([late.events, more]))
    grown = prepare(GrowingMemory(with_late, "2"), recipe(), tmp_path / "2", extends=tmp_path / "1").dataset
    whole = prepare(
        MemorySource(log.but(events=pl.concat([log.events, more])), "whole"), recipe(), tmp_path / "whole"
    ).dataset
    assert rows_of(grown) == rows_of(whole)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"history": {"columns": ["city"]}}, "was prepared with another history"),
        ({"split": {"valid_from": "2024-01-02", "test_from": "2024-01-10"}}, "training would have to lose requests"),
        ({"split": {"train_from": "2024-01-03", "valid_from": "2024-01-09", "test_from": "2024-01-10"}}, "train_from"),
    ],
)
def test_another_recipe_is_refused(
    options: dict[str, Any], said: str, first: tuple[Path, Log, Log], tmp_path: Path
) -> None:
    folder, _, late = first
    with pytest.raises(DataError, match=said):
        prepare(GrowingMemory(late, "2"), recipe(**options), tmp_path / "2", extends=folder)


def test_a_dataset_that_keeps_nothing_says_how_to_make_one_that_does(tmp_path: Path) -> None:
    early, late = cut_at(random_log(9), START + 10 * DAY)
    prepare(MemorySource(early, "1"), recipe(), tmp_path / "1")
    with pytest.raises(DatasetError, match="keeps nothing to be extended by"):
        prepare(GrowingMemory(late, "2"), recipe(), tmp_path / "2", extends=tmp_path / "1")
    with pytest.raises(DatasetError, match="name another folder"):
        prepare(GrowingMemory(late, "2"), recipe(), tmp_path / "1", extends=tmp_path / "1")


def test_an_extended_dataset_is_that_of_its_log_for_those_who_ask(tmp_path: Path) -> None:
    log = random_log(10)
    early, late = cut_at(log, START + 10 * DAY)
    prepare(GrowingMemory(early, "1"), recipe(), tmp_path / "1")
    source = GrowingMemory(late, "2")
    grown = prepare(source, recipe(), tmp_path / "2", extends=tmp_path / "1").dataset
    assert prepare(source, recipe(), tmp_path / "2", extends=tmp_path / "1").reused
    assert prepare(source, recipe(), tmp_path / "2").reused
    # Its codes are its own: runs of a dataset prepared at once are none of it.
    whole = prepare(MemorySource(log, "2"), recipe(), tmp_path / "3").dataset
    assert grown.manifest.log == whole.manifest.fingerprint != grown.manifest.fingerprint


def test_a_scenario_that_a_users_table_names_has_to_be_there(tmp_path: Path) -> None:
    log = random_log(11)
    early, late = cut_at(log, START + 10 * DAY)
    assert log.users is not None
    wished = recipe(predefined_scenario=["home"])
    prepare(GrowingMemory(early, "1"), wished, tmp_path / "1")
    without = late.but(users=log.users.filter(pl.col("_user") != late.impressions["_user"][0]))
    with pytest.raises(DataError, match="'home' is told by the users' table, which lacks 1 users"):
        prepare(GrowingMemory(without, "2"), wished, tmp_path / "2", extends=tmp_path / "1")
    grown = prepare(GrowingMemory(late, "2"), wished, tmp_path / "2", extends=tmp_path / "1").dataset
    whole = prepare(MemorySource(log, "whole"), wished, tmp_path / "whole").dataset
    assert rows_of(grown) == rows_of(whole)
