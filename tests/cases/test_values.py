"""A value is one value however it is written, in every table and in every request."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from cases import value_logs
from cases.value_logs import Tables
from musenet.dataset.dataset import Dataset
from musenet.errors import DataError
from musenet.evaluation.scoring import predict
from musenet.runs.folder import RunFolder
from musenet.runs.run import load_model
from musenet.serving.prediction.predict import predict_files
from musenet.serving.scorer.messages import Event
from musenet.serving.scorer.scorer import Scorer
from serving.exports import rows_of_test
from sources.reading import SECOND, read, recipe_of, rows, values, write, write_log


def _as_text(log: Tables, spell: Callable[[Any], str]) -> Tables:
    """Every column but the times and labels as text; what is missing stays so."""
    return {
        name: table.assign(
            **{
                column: table[column].map(spell, na_action="ignore").astype(object)
                for column in map(str, table)
                if column not in ("shown_at", "at", "clicked", "price")
            }
        )
        for name, table in log.items()
    }


def _as_floats(log: Tables) -> Tables:
    return {
        name: table.assign(
            **{column: table[column].astype(float) for column in map(str, table) if column.endswith("_id")}
        )
        for name, table in log.items()
    }


SPELLINGS: dict[str, tuple[str, Callable[[Tables], Tables]]] = {
    "text in Parquet": ("parquet", lambda log: _as_text(log, str)),
    "padded text": ("parquet", lambda log: _as_text(log, lambda value: f" {value}  ")),
    "floats": ("parquet", _as_floats),
    "floats as text": ("csv", _as_floats),
    "nan as text": ("parquet", lambda log: log | {"shown": log["shown"].assign(code=log["shown"].code.map(str))}),
    "empty text": (
        "parquet",
        lambda log: log | {"shown": log["shown"].assign(code=log["shown"].code.map(str).replace("nan", ""))},
    ),
}


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Checksums of the dataset of a typed Parquet log."""
    folder = tmp_path_factory.mktemp("typed")
    return value_logs.prepared(folder, value_logs.write(folder, value_logs.tables())).manifest.checksums


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_log_in_another_spelling_is_the_same_dataset_to_the_byte(
    tmp_path: Path, spelling: str, typed: dict[str, str]
) -> None:
    ending, spell = SPELLINGS[spelling]
    experiment = value_logs.write(tmp_path, spell(value_logs.tables()), ending)
    assert value_logs.prepared(tmp_path, experiment).manifest.checksums == typed


@pytest.fixture(scope="module")
def of_csv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """The dataset of a CSV log, and the export of an untrained model on it."""
    folder = tmp_path_factory.mktemp("csv")
    return value_logs.exported(folder, value_logs.write(folder, value_logs.tables(), "csv"))


def test_a_model_of_a_csv_answers_parquet_and_json_as_offline(of_csv: tuple[Dataset, Path], tmp_path: Path) -> None:
    log, (dataset, export) = value_logs.tables(), of_csv
    offline = predict(load_model(RunFolder(export.parent / "run")), dataset, "test")
    scorer, requests = Scorer(export), rows_of_test(dataset)
    tested = log["shown"].sort_values(["shown_at", "user_id", "search_id", "item_id"], kind="stable")
    tested = tested[tested.search_id.isin(tested.search_id.unique()[requests[0] :])]
    past = log["events"]
    histories: list[Any] = [
        [
            {"item": int(one.item_id), "time": one.at.timestamp()}
            for one in past[(past.user_id == user) & (past["at"] < at)].itertuples()
        ]
        for user, at in zip(tested.user_id, tested.shown_at, strict=True)
    ]
    tested = tested.assign(
        time=tested.shown_at,
        request=tested.search_id,
        history=histories,
    )
    expected = 1 / (1 + np.exp(-offline.logit))
    for spell in (
        lambda table: table,
        lambda table: table.assign(flag=table.flag.astype(float), code=table.code.astype("Int64")),
        lambda table: table.assign(
            flag=table.flag.map(str), code=table.code.map("{:.1f} ".format), device=table.device + " "
        ),
        lambda table: table.assign(user_id=table.user_id.astype(str), item_id=table.item_id.map(" {}.0".format)),
    ):
        spell(tested).to_parquet(tmp_path / "asked.parquet", index=False)
        predict_files(scorer, tmp_path / "asked.parquet", tmp_path / "scores.parquet")
        scores = pd.read_parquet(tmp_path / "scores.parquet").score
        np.testing.assert_allclose(scores, expected, atol=1e-6)


def test_an_item_is_added_under_the_id_that_requests_spell_otherwise(of_csv: tuple[Dataset, Path]) -> None:
    scorer = Scorer(of_csv[1])
    scorer.add_items([{"item": "77.0", "category": "2.0"}])
    asked = {"user": 1, "context": {}, "time": 0.0, "history": []}
    answers = [scorer.score(asked | {"candidates": [{"item": item}]}) for item in (77, "77", " 77 ", "77.00")]
    assert all(answer["unknown"]["items"] == 0 for answer in answers)
    assert len({answer["scores"][0] for answer in answers}) == 1
    assert scorer.score(asked | {"candidates": [{"item": "077"}]})["unknown"]["items"] == 1


@pytest.mark.parametrize("ids", [[2**53, 2**53 + 1], [2**63 - 1, 2**63 - 2], [2**63, 2**64 - 1], ["007", "7"]])
def test_large_and_padded_ids_stay_apart_in_csv_and_parquet(tmp_path: Path, ids: list[Any]) -> None:
    kinds = {int: "uint64" if max(map(int, ids)) >= 2**63 else "int64", str: object}
    log = pd.DataFrame(rows()).assign(item=pd.Series(ids * 5, dtype=kinds[type(ids[0])]))
    log.to_csv(tmp_path / "log.csv", index=False)
    log.to_parquet(tmp_path / "log.parquet", index=False)
    found = [values(read(tmp_path, f"log.{ending}").impressions, "_item") for ending in ("csv", "parquet")]
    assert found[0] == found[1]
    assert {str(one) for one in found[0]} == {str(one) for one in ids}
    assert len(set(found[0])) == 2


def test_ids_whose_zeros_one_file_lost_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path)
    (tmp_path / "items.csv").write_text("item,colour\n000,red\n001,green\n002,blue\n")
    recipe = recipe_of(features={"item": ["colour"]})
    with pytest.raises(
        DataError, match=r"item: items have values with leading zeros such as '00.', impressions write 3"
    ):
        read(tmp_path, "log.parquet", recipe, items={"path": "items.csv", "item": "item"})


def test_ids_that_a_table_tool_rounded_are_refused(tmp_path: Path) -> None:
    write_log(tmp_path, item=["1.23457e+18"] * 10)
    with pytest.raises(DataError, match=r"impressions: the item ids are numbers such as 1.5e.18"):
        read(tmp_path, "log.parquet")


def test_columns_that_share_a_vocabulary_are_of_one_type(tmp_path: Path) -> None:
    write_log(tmp_path, last=["1", "2", "x", None, "1"] * 2, next=[1, 2, 3, 4, 5] * 2, tags=["1,2", "3"] * 5)
    features = [{"last": {"vocabulary": "next"}}, "next"]
    tables = read(tmp_path, "log.parquet", recipe_of(features={"candidate": features}))
    assert tables.impressions.next.type().is_string()
    features = [{"tags": {"multi_valued": ",", "vocabulary": "next"}}, "next"]
    tables = read(tmp_path, "log.parquet", recipe_of(features={"candidate": features}))
    assert tables.impressions.next.type().is_string()
    assert tables.impressions.tags.type().is_string()


def test_texts_that_mean_nothing_are_named(tmp_path: Path) -> None:
    write_log(tmp_path, code=["1", "NA", "\\N", "3", " NA"] * 2)
    recipe = recipe_of(features={"candidate": ["code"]})
    assert values(read(tmp_path, "log.parquet", recipe).impressions, "code")[0] == "1"
    found = read(tmp_path, "log.parquet", recipe, missing=["NA", "\\N"])
    assert sorted(values(found.impressions, "code"), key=str) == [1, 1, 3, 3, *[None] * 6]
    assert found.missing_texts == ["NA", "\\N"]


def test_truth_values_of_one_table_and_numbers_of_another_are_numbers(tmp_path: Path) -> None:
    write_log(tmp_path, new=[True, False] * 5)
    write(tmp_path, "items.parquet", item=[0, 1, 2], new=[1, 0, 1])
    recipe = recipe_of(features={"candidate": ["new"]}, repeat={"key": ["new"]})
    tables = read(tmp_path, "log.parquet", recipe, items={"path": "items.parquet", "item": "item"})
    assert set(values(tables.impressions, "new")) == {True, False}


def test_kinds_are_one_however_their_numbers_are_written(tmp_path: Path) -> None:
    """In the events, in the options, and in what a request brings; leading zeros stay text."""
    written: list[list[Any]] = [[1.0, 2.0, 1.0, None], ["1", "2.0", " 1.00", ""], [1, 2, 1, None]]
    events = {"path": "events.parquet", "user": "user", "item": "item", "time": "time", "kind": "kind"}
    write_log(tmp_path)
    for kinds in written:
        write(tmp_path, "events.parquet", user=["u0"] * 4, item=[0, 1, 2, 3], time=[SECOND] * 4, kind=kinds)
        for asked in ("1", "1.0"):
            recipe = recipe_of(history={"kinds": [asked]}, repeat={"key": ["item"], "kinds": ["2.", asked]})
            found = read(tmp_path, "log.parquet", recipe, events=events).events
            assert values(found, "_item", "_kind") == [(0, "1"), (1, "2"), (2, "1"), (3, None)]
            assert (recipe.history.kinds, recipe.repeat and recipe.repeat.kinds) == (["1"], ["2", "1"])
            assert recipe.history.kinds == [Event(kind=asked).kind]
    assert Event(kind="007").kind == "007"


@pytest.mark.parametrize(
    ("label", "kind"),
    [([1.0, 2.0], "2"), (["1", "2"], "2.0"), (["1.0", "2.0"], "2"), (["1.0", "2.0"], "2.0"), ([1, 2], "2.0")],
)
def test_positive_kinds_are_found_however_their_numbers_are_written(
    tmp_path: Path, label: list[Any], kind: str
) -> None:
    write_log(tmp_path, label=label * 5, item=list(range(10)))
    found = read(tmp_path, "log.parquet", impressions={"positive_kinds": [kind]}).impressions
    assert values(found, "_item", "_label") == [(item, item % 2) for item in range(10)]
