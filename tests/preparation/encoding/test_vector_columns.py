"""Vectors in a prepared dataset, against a slow and obvious reference."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from musenet.dataset.builder import BatchBuilder
from musenet.dataset.column_files import blocks, write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.layout import RELATIONS, keys_file
from musenet.dataset.numeric import VectorScale
from musenet.errors import DataError
from musenet.preparation.encoding import vectors
from musenet.preparation.encoding.encode import Folders
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.numbers import Impressions
from musenet.preparation.prepare import PreparedReport, prepare
from musenet.recipe.features import Feature, VectorOptions
from preparation.logs import Log, MemorySource, recipe
from vector_logs import FEATURES, PROJECTIONS, SIDES, WIDTHS, vector_log

ID = {"user": "_user", "item": "_item"}


@pytest.fixture(scope="module")
def log() -> Log:
    return vector_log(requests=160)


@pytest.fixture(scope="module")
def prepared(log: Log, tmp_path_factory: pytest.TempPathFactory) -> PreparedReport:
    return prepare(MemorySource(log), recipe(features=FEATURES), tmp_path_factory.mktemp("vectors") / "dataset")


def raw_rows(log: Log, dataset: Dataset, side: str) -> list[list[float] | None]:
    """The log's own vector of each row of the side's relation."""
    name = SIDES[side]
    if side in ID:
        frame = log.users if side == "user" else log.items
        assert frame is not None
        told = dict(zip(frame[ID[side]], frame[name], strict=True))
        ids = pl.read_parquet(keys_file(dataset.folder, RELATIONS[side]))[ID[side]]  # type: ignore[index]
        return [None if told.get(one) is None else list(told[one]) for one in ids]
    requests = pl.read_parquet(keys_file(dataset.folder, "requests"))["_request"].to_list()
    if side == "context":
        told = dict(zip(log.impressions["_request"], log.impressions[name], strict=True))
        return [list(told[one]) for one in requests]
    items = pl.read_parquet(keys_file(dataset.folder, "items"))["_item"].to_list()
    pairs = zip(log.impressions["_request"], log.impressions["_item"], strict=True)
    offered = dict(zip(pairs, log.impressions[name], strict=True))
    offset = dataset.requests.candidate_offset
    found = []
    for row, request in enumerate(requests):
        for candidate in range(offset[row], offset[row + 1]):
            value = offered[request, items[dataset.candidates.item[candidate]]]
            found.append(None if value is None else list(value))
    return found


def seen_rows(dataset: Dataset, side: str) -> list[int]:
    """The side's row of every impression of the training period, once for each."""
    found, offset = [], dataset.requests.candidate_offset
    for row in range(dataset.manifest.splits["train"].end):
        for candidate in range(offset[row], offset[row + 1]):
            of = {"user": dataset.requests.user[row], "context": row, "candidate": candidate}
            found.append(int(of.get(side, dataset.candidates.item[candidate])))
    return found


@pytest.mark.parametrize("side", SIDES)
def test_each_number_is_standardised_by_the_training_impressions_and_a_missing_vector_is_zeros(
    prepared: PreparedReport, log: Log, side: str
) -> None:
    dataset, name = prepared.dataset, SIDES[side]
    field = dataset.field(side, name)  # type: ignore[arg-type]
    assert (field.kind, field.width, field.projection) == ("vector", WIDTHS[name], PROJECTIONS[name])
    raw = raw_rows(log, dataset, side)
    trained = [np.array(raw[row]) for row in seen_rows(dataset, side) if raw[row] is not None]
    mean, deviation = np.mean(trained, axis=0), np.std(trained, axis=0)
    deviation[deviation < 1e-6] = 1
    expected = [np.zeros(field.width) if row is None else (np.array(row) - mean) / deviation for row in raw]
    np.testing.assert_allclose(dataset.column(field), expected, atol=2e-6)
    assert not dataset.column(field)[:, -1].any(), "a number that never changes says nothing"
    flags = [one for one in dataset.fields(side) if one.name == f"{name}.missing"]  # type: ignore[arg-type]
    assert bool(flags) == any(raw[row] is None for row in seen_rows(dataset, side))
    for flag in flags:
        assert dataset.column(flag).tolist() == [row is None for row in raw]


def test_the_checks_say_how_many_impressions_lack_a_vector(prepared: PreparedReport, log: Log) -> None:
    items = log.items
    assert items is not None
    without = set(items.filter(pl.col("title_vector").is_null())["_item"])
    shares = {check.feature: check.missing for check in prepared.checks.features if check.feature in WIDTHS}
    assert shares == {
        "age_vector": 0.0,
        "title_vector": pytest.approx(log.impressions["_item"].is_in(list(without)).mean()),
        "query_vector": 0.0,
        "offer_vector": pytest.approx(log.impressions["offer_vector"].is_null().mean()),
    }


def test_batches_hold_the_vectors_of_requests_once_and_those_of_every_candidate(prepared: PreparedReport) -> None:
    dataset = prepared.dataset
    requests = np.array([5, 2, 40])
    batch = BatchBuilder(dataset).build(requests)
    candidates = np.concatenate(
        [np.arange(*dataset.requests.candidate_offset[row : row + 2].astype(int)) for row in requests]
    )
    user, context, item, candidate = (
        dataset.column(dataset.field(side, SIDES[side]))  # type: ignore[arg-type]
        for side in ("user", "context", "item", "candidate")
    )
    of_requests = [[*user[dataset.requests.user[row]], *context[row]] for row in requests]
    assert batch.request_vectors.tolist() == [list(map(float, row)) for row in of_requests]
    of_candidates = [[*item[dataset.candidates.item[row]], *candidate[row]] for row in candidates]
    assert batch.candidate_vectors.tolist() == [list(map(float, row)) for row in of_candidates]


def test_vectors_stay_on_disk_until_a_batch_asks_for_some(prepared: PreparedReport) -> None:
    dataset = Dataset(prepared.folder)
    BatchBuilder(dataset).build(np.array([0, 1]))
    for side, name in SIDES.items():
        column = dataset.column(dataset.field(side, name))  # type: ignore[arg-type]
        assert isinstance(column.base, np.memmap), name


def test_lists_of_fixed_size_and_whole_numbers_are_the_same_vectors(log: Log, tmp_path: Path) -> None:
    assert log.items is not None
    whole = [None if row is None else [round(one) for one in row] for row in log.items["title_vector"]]
    forms = {
        "lists": pl.Series(whole, dtype=pl.List(pl.Float64)),
        "fixed": pl.Series(whole, dtype=pl.Array(pl.Float32, 6)),
        "whole": pl.Series(whole, dtype=pl.List(pl.Int64)),
    }
    made = [
        prepare(
            MemorySource(log.but(items=log.items.with_columns(title_vector=form)), name),
            recipe(features=FEATURES),
            tmp_path / name,
        ).dataset
        for name, form in forms.items()
    ]
    first, *others = (one.column(one.field("item", "title_vector")) for one in made)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_table_whose_lists_have_another_length_is_refused(log: Log, tmp_path: Path) -> None:
    assert log.items is not None
    shorter = log.items.with_columns(title_vector=pl.col("title_vector").list.head(5))
    with pytest.raises(DataError, match=r"features.item: column 'title_vector' is a vector of 6 numbers, but holds a"):
        prepare(MemorySource(log.but(items=shorter)), recipe(features=FEATURES), tmp_path / "dataset")
    text = log.items.with_columns(title_vector=pl.lit("1, 2"))
    with pytest.raises(DataError, match=r"'title_vector' is a vector, but holds strings: give lists of numbers"):
        prepare(MemorySource(log.but(items=text)), recipe(features=FEATURES), tmp_path / "dataset")


def test_what_is_fitted_does_not_depend_on_how_many_rows_are_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(3)
    values = (random.normal(size=(101, 3)) * [1, 100, 0] + [0, 1e6, 7]).astype(np.float32)
    values[::10] = np.nan
    weight = random.integers(0, 4, size=101)
    write_column(tmp_path, "v", values)
    feature = Feature(name="v", side="item", type="vector", options=VectorOptions(vector=3))
    entry = PlannedField("v", "v", "v", "item", feature, "v")
    shown = Impressions(lambda begin, end: np.ones(end - begin), lambda begin, end: weight[begin:end])
    whole, missing = vectors.fit_vector(Folders(tmp_path, tmp_path), entry, shown)
    monkeypatch.setattr(vectors, "BLOCK", 3 * 7)
    pieces, _ = vectors.fit_vector(Folders(tmp_path, tmp_path), entry, shown)
    repeated = np.repeat(values.astype(np.float64), weight, axis=0)
    repeated = repeated[np.isfinite(repeated).all(axis=1)]
    for scale in (whole, pieces):
        np.testing.assert_allclose(scale.mean, repeated.mean(axis=0), rtol=1e-9)
        np.testing.assert_allclose(scale.deviation[:2], repeated.std(axis=0)[:2], rtol=1e-9)
        assert (scale.deviation[2], scale.has_missing) == (1.0, True)
    assert missing == pytest.approx(11 / 101)
    assert [len(block) for _, block in blocks(tmp_path, "v", at_once=40)] == [40, 40, 21]


def test_one_number_that_is_none_makes_the_vector_missing() -> None:
    scale = VectorScale(mean=[1.0, 2.0], deviation=[2.0, 4.0], has_missing=True)
    values = np.array([[3.0, 2.0], [np.nan, 2.0], [np.inf, 0.0]], dtype=np.float32)
    assert scale.standardised(values).tolist() == [[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    assert scale.missing(values).tolist() == [False, True, True]
