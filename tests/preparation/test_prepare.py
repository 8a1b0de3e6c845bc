"""From a log in memory to a dataset on disk and back."""

import hashlib
import math
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from musenet.dataset.batch import Batch
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.column_files import column_file
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import Relation, keys_file, relation_folder, vocabulary_file
from musenet.dataset.manifest import FIRST_VALUE, MISSING
from musenet.errors import DatasetError, UserError
from musenet.preparation.prepare import prepare
from musenet.workspace import MANIFEST
from preparation.logs import DAY, START, MemorySource, random_log, recipe
from preparation.reference import distinct_events, known

SPLIT = {"valid_from": "2024-01-08", "test_from": "2024-01-10", "test_until": "2024-02-01"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("prepared") / "dataset"
    return prepare(MemorySource(random_log(1)), recipe(), out).dataset


def keys(dataset: Dataset, name: Relation) -> pl.DataFrame:
    return pl.read_parquet(keys_file(dataset.folder, name))


def values(dataset: Dataset, vocabulary: str) -> list[Any]:
    """The text of every code."""
    return ["padding", "unseen", None, *dataset.texts(vocabulary).to_pylist()]


def test_candidates_are_the_impressions(prepared: Dataset) -> None:
    log = random_log(1)
    offset = prepared.requests.candidate_offset
    request = keys(prepared, "requests")
    item = keys(prepared, "items")["_item"].to_numpy()
    found = pl.DataFrame(
        {
            "_request": request["_request"].to_numpy().repeat(np.diff(offset)),
            "_time": request["_time"].to_numpy().repeat(np.diff(offset)),
            "_item": item[prepared.candidates.item].astype(str),
            "_label": prepared.candidates.label,
            "chance": prepared.candidates.true_probability,
        }
    )
    wanted = log.impressions.select("_request", "_time", "_item", "_label", pl.col("chance").cast(pl.Float32))
    order = ["_request", "_item"]
    assert found.sort(order).equals(wanted.sort(order))


def test_requests_are_ordered_by_split_and_time(prepared: Dataset) -> None:
    time, splits = prepared.requests.time, prepared.manifest.splits
    assert [splits[name].begin for name in ("train", "valid", "test")] == [0, splits["train"].end, splits["valid"].end]
    assert splits["test"].end == prepared.manifest.requests == len(time)
    assert np.all(np.diff(time) >= 0)
    # The log's last days, from midnight to midnight.
    assert time[splits["test"].begin] >= START + 9 * DAY > time[splits["valid"].end - 1]
    assert time[splits["valid"].begin] >= START + 7 * DAY > time[splits["train"].end - 1]


def test_attributes_are_encoded_once_per_user_and_item(prepared: Dataset) -> None:
    log = random_log(1)
    assert log.items is not None
    item = keys(prepared, "items")["_item"].to_list()
    assert item == [None, *sorted(item[1:])]
    city = values(prepared, "city")
    found = [city[code] for code in prepared.column(prepared.field("item", "city"))]
    known_city = dict(log.items.select("_item", "city").iter_rows())
    assert found == [None, *(known_city[name] for name in item[1:])]
    assert prepared.column(prepared.field("item", "item_id"))[0] == 1
    assert prepared.column(prepared.field("item", "city"))[0] == MISSING


def test_multi_valued_text_keeps_its_first_distinct_parts(prepared: Dataset) -> None:
    log = random_log(1)
    assert log.items is not None
    tags = values(prepared, "tags")
    text = dict(log.items.select("_item", "tags").iter_rows())
    for name, codes in zip(
        keys(prepared, "items")["_item"][1:], prepared.column(prepared.field("item", "tags"))[1:], strict=True
    ):
        parts = [part.strip() for part in (text[name] or "").split(";") if part.strip()]
        wanted = list(dict.fromkeys(parts))[:3] or [None]
        # A tag that training saw less than twice is unseen.
        assert [tags[code] for code in codes if code] == [tag if tag in tags else "unseen" for tag in wanted]
        assert np.all(codes[len(wanted) :] == 0)


def test_a_history_is_what_the_user_did_before(prepared: Dataset) -> None:
    log, wished = random_log(1), recipe()
    assert log.events is not None
    brands = dict(log.items.select("_item", "brand").iter_rows()) if log.items is not None else {}
    rows = [{**row, "brand": brands.get(row["_item"])} for row in log.events.to_dicts()]
    events = distinct_events(rows, [], wished.history.kinds)
    item, brand = values(prepared, "item_id"), values(prepared, "brand")
    offset, ends = prepared.events.offset, prepared.requests.history_end
    rows_of_users = prepared.requests.user
    for place, (user, time) in enumerate(keys(prepared, "requests").select("_user", "_time").iter_rows()):
        begin = offset[rows_of_users[place]]
        found = sorted(
            (int(when), str(item[code]), str(brand[kind]))
            for when, code, kind in zip(
                prepared.events.time[begin : ends[place]],
                prepared.column(prepared.field("history", "item_id"))[begin : ends[place]],
                prepared.column(prepared.field("history", "brand"))[begin : ends[place]],
                strict=True,
            )
        )

        def text(value: Any, known_values: list[Any]) -> str:
            return str(None if value is None else str(value) if str(value) in known_values else "unseen")

        wanted = sorted(
            (event["_time"], text(event["_item"], item), text(event["brand"], brand))
            for event in known(events, user, time, 0, None)
        )
        assert found == wanted


def test_ties_of_events_are_ordered_by_their_codes(prepared: Dataset) -> None:
    offset = prepared.events.offset
    columns = [prepared.events.time, *map(prepared.column, prepared.fields("history"))]
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    for begin, end in pairwise(offset):
        assert rows[begin:end] == sorted(rows[begin:end])


def test_numbers_are_standardised_on_training(prepared: Dataset) -> None:
    train = prepared.manifest.splits["train"].impressions
    price, missing = (prepared.column(prepared.field("candidate", name)) for name in ("price", "price.missing"))
    assert np.all(price[missing == 1] == 0)
    assert 0 < missing.mean() < 0.3
    known_price = price[:train][missing[:train] == 0]
    assert known_price.mean() == pytest.approx(0, abs=1e-5)
    assert known_price.std() == pytest.approx(1, abs=1e-5)
    buckets = prepared.column(prepared.field("user", "age"))[1:]
    assert set(buckets) <= set(range(FIRST_VALUE, FIRST_VALUE + 4))
    order = np.argsort(prepared.column(prepared.field("user", "age.rank"))[1:])
    assert np.all(np.diff(buckets[order]) >= 0)


def test_scenarios_are_kept_apart_from_features(prepared: Dataset) -> None:
    log = random_log(1)
    truth = dict(log.impressions.select("_request", "truth").iter_rows())
    device = dict(log.impressions.select("_request", "device").iter_rows())
    names = prepared.manifest.predefined_scenarios
    assert names == ["device=desk", "device=phone", "device=missing"]
    for place, request in enumerate(keys(prepared, "requests")["_request"]):
        assert prepared.requests.true_scenario[place] == truth[request]
        code = prepared.requests.predefined_scenario[place]
        assert names[code] == f"device={device[request] or 'missing'}"
    assert not {"truth", "chance"} & {field.name for field in prepared.manifest.fields}


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_runs_agree_to_the_byte(prepared: Dataset, tmp_path: Path) -> None:
    log = random_log(1)
    assert log.users is not None
    # The order of a log's rows says nothing either.
    shuffled = log.but(
        impressions=log.impressions.sample(fraction=1, shuffle=True, seed=3),
        users=log.users.sample(fraction=1, shuffle=True, seed=4),
    )
    again = prepare(MemorySource(shuffled), recipe(), tmp_path / "again")
    assert contents(again.folder) == contents(prepared.folder)


def test_the_same_dataset_is_kept_and_another_replaced_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    source = MemorySource(random_log(2))
    first = prepare(source, recipe(), out)
    changed = (out / MANIFEST).stat().st_mtime_ns
    again = prepare(source, recipe(), out)
    assert again.reused
    assert not first.reused
    assert again.checks == first.checks
    assert (out / MANIFEST).stat().st_mtime_ns == changed
    with pytest.raises(DatasetError, match="another configuration, log or version of musenet, on which no run that is"):
        prepare(source, recipe(repeat=None), out)
    assert (out / MANIFEST).stat().st_mtime_ns == changed
    other = prepare(source, recipe(repeat=None), out, replace=True)
    assert not other.reused
    assert not other.dataset.manifest.has_repeats
    # A damaged file is what `prepare` mends.
    column_file(relation_folder(out, "candidate"), "label").write_bytes(b"")
    assert not prepare(source, recipe(repeat=None), out).reused
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("damage", ["flipped", "missing", "cut"])
def test_damage_is_found(prepared: Dataset, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared.folder, folder)
    file = column_file(relation_folder(folder, "history"), "time")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    if damage == "missing":
        file.unlink()
        with pytest.raises(DatasetError, match=re.escape(f"{file} is missing")):
            Dataset(folder)
        return
    file.write_bytes(content if damage == "flipped" else content[:200])
    with pytest.raises(DatasetError, match=re.escape(f"{file} is missing or was changed after preparation")):
        Dataset(folder).verify()


def test_a_folder_that_is_no_dataset_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="exists and is not a prepared dataset"):
        prepare(MemorySource(random_log(1)), recipe(), tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_is_one_sentence_and_preparation_goes_on_later(tmp_path: Path, prepared: Dataset) -> None:
    def full(step: str) -> None:
        if step == "encoding events":
            raise OSError(28, "No space left on device")

    source, out = MemorySource(random_log(1)), tmp_path / "out"
    with pytest.raises(UserError, match="is full: free some space"):
        prepare(source, recipe(), out, progress=full)
    assert not out.exists()
    assert prepare(source, recipe(), out).dataset.manifest == prepared.manifest
    assert list(tmp_path.iterdir()) == [out]


def test_a_log_without_any_event_is_prepared(tmp_path: Path) -> None:
    log = random_log(1)
    assert log.events is not None
    none = log.but(events=log.events.clear())
    history, repeat = {"columns": ["item_id", "city"]}, {"key": ["item_id"]}
    dataset = prepare(MemorySource(none), recipe(history=history, repeat=repeat), tmp_path / "dataset").dataset
    assert dataset.manifest.events == 0
    assert not np.any(dataset.candidates.repeat_indicator)
    assert np.all(np.isnan(dataset.candidates.repeat_recency))
    assert np.all(np.isnan(dataset.requests.repeat_fraction))
    batch = BatchBuilder(dataset).build(np.arange(5))
    assert batch.history_codes.shape == (0, 2)


def batch_inputs(dataset: Dataset, requests: np.ndarray) -> list[np.ndarray]:
    """Everything a model sees of these requests, as rows of the embedding table and numbers."""
    batch: Batch = BatchBuilder(dataset, fixed_positions=False).build(requests)
    codes = [batch.rows[part] for part in (batch.request_codes, batch.candidate_codes, batch.history_codes)]
    others = [batch.history_offset, batch.request_dense, batch.candidate_dense, batch.repeat_indicator]
    return [part.numpy() for part in (*codes, *others, batch.repeat_features, batch.repeat_fraction, batch.request)]


@pytest.mark.parametrize("seed", [1, 3])
def test_no_input_changes_when_later_rows_do(tmp_path: Path, seed: int) -> None:
    """Rows of validation and test later than a moment: what a model sees of every request until then stays the same.

    Training rows stay, for vocabularies and means are fitted on all of training; `test_past` changes those, too.
    """
    moment = START + (7 + seed) * DAY + 30 * 60_000_000
    log, other = random_log(seed), random_log(seed + 100, users=16, items=36)
    assert log.events is not None
    assert other.events is not None
    later = other.impressions.with_columns(pl.col("_request") + 10_000, place=pl.lit(99).cast(pl.Int64))
    changed = log.but(
        impressions=pl.concat(
            [log.impressions.filter(pl.col("_time") <= moment), later.filter(pl.col("_time") > moment)]
        ),
        events=pl.concat([log.events.filter(pl.col("_time") < moment), other.events.filter(pl.col("_time") >= moment)]),
    )
    short, long = (
        prepare(MemorySource(which), recipe(split=SPLIT), tmp_path / name).dataset
        for name, which in (("short", log), ("long", changed))
    )
    assert short.manifest.vocabularies == long.manifest.vocabularies
    assert short.manifest.numeric == long.manifest.numeric
    for name in short.manifest.vocabularies:
        left, right = (vocabulary_file(which.folder, name).read_bytes() for which in (short, long))
        assert left == right
    count = int(np.searchsorted(short.requests.time, moment, side="right"))
    assert count > short.manifest.splits["train"].end
    assert short.requests.time[:count].tolist() == long.requests.time[:count].tolist()
    for left, right in zip(*(batch_inputs(which, np.arange(count)) for which in (short, long)), strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_log_of_positives_alone_gets_negatives(tmp_path: Path) -> None:
    log = random_log(4)
    positives = log.but(impressions=log.impressions.with_columns(_label=pl.lit(1, pl.Int8)).drop("chance"))
    features = {**recipe().features.model_dump(), "candidate": []}
    for source in ("popular", "catalogue"):
        negatives = {"per_request": 7, "from": source}
        wished = recipe(true_probability=None, features=features, negatives=negatives)
        report = prepare(MemorySource(positives), wished, tmp_path / source)
        dataset = report.dataset
        offset, label = dataset.requests.candidate_offset, dataset.candidates.label
        item = dataset.candidates.item
        train = slice(0, offset[dataset.manifest.splits["train"].end])
        popular = set(item[train][label[train] == 1])
        for begin, end in pairwise(offset):
            assert np.sum(label[begin:end] == 0) == 7
            assert len(set(item[begin:end])) == end - begin
            assert np.all(np.diff(item[begin:end]) > 0)  # the order tells nothing of the label
            if source == "popular":
                assert set(item[begin:end][label[begin:end] == 0]) <= popular
        assert "7 negatives per request" in report.checks.protocol
        assert math.isfinite(report.checks.periods[0].click_rate)
