"""A vector answers as it does in training: known items by what they were projected to, new ones by their own vector."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import musenet
from musenet.dataset.builder import BatchBuilder
from musenet.errors import DataError, RequestError
from musenet.runs.run import load_model
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import Service
from serving.apps import client_of
from serving.exports import SOFT, Exported, export_log, keys_of, request_of, rows_of_test
from vector_logs import FEATURES, vector_log


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_log(tmp_path_factory.mktemp("vectors"), SOFT, vector_log(requests=160), features=FEATURES)


@pytest.fixture(scope="module")
def scorer(exported: Exported) -> Scorer:
    return Scorer(exported.folder)


def asked(exported: Exported, row: int) -> dict[str, Any]:
    """A request of the dataset with its vectors, as a caller would write them."""
    request = request_of(exported, row)
    key = keys_of(exported.dataset.folder, "requests").row(row, named=True)
    shown = exported.log.impressions.filter(pl.col("_request") == key["_request"])
    offers = dict(zip(shown["_item"], shown["offer_vector"].to_list(), strict=True))
    context = {"device": request["context"]["device"], "query_vector": shown["query_vector"].to_list()[0]}
    candidates = [
        {"item": one["item"], "price": one["price"], "offer_vector": offers[one["item"]]}
        for one in request["candidates"]
    ]
    return json.loads(json.dumps(request | {"context": context, "candidates": candidates}))  # type: ignore[no-any-return]


def offline(exported: Exported, row: int) -> np.ndarray:
    with torch.inference_mode():
        batch = BatchBuilder(exported.dataset).build(np.array([row]))
        return np.asarray(load_model(exported.run.folder)(batch).logit.numpy())


def test_scores_are_those_of_training(exported: Exported, scorer: Scorer) -> None:
    rows = rows_of_test(exported.dataset)[::2]
    for row in rows:
        found = scorer.logit(scorer.encode(asked(exported, row)))
        np.testing.assert_allclose(found, offline(exported, row), atol=1e-5, rtol=0)
    offers = [one["offer_vector"] for row in rows for one in asked(exported, row)["candidates"]]
    assert None in offers
    assert any(offers)


def test_projections_stand_behind_places_in_the_list_and_count_as_numbers_of_every_model(tmp_path: Path) -> None:
    log = vector_log(requests=160)
    other = export_log(
        tmp_path, {"name": "deepfm", "embedding": 4, "hidden": [8]}, log, features=FEATURES | {"relative": True}
    )
    scorer = Scorer(other.folder)
    assert scorer.manifest.scenarios is None
    for row in rows_of_test(other.dataset)[:6]:
        found = scorer.logit(scorer.encode(asked(other, row)))
        np.testing.assert_allclose(found, offline(other, row), atol=1e-5, rtol=0)


def test_an_export_holds_of_each_item_what_its_vector_is_projected_to(exported: Exported) -> None:
    dense = np.load(exported.folder / "items" / "dense.npy", mmap_mode="r")
    fields = [field for field in exported.dataset.fields("item") if field.kind == "dense"]
    assert dense.shape == (exported.dataset.manifest.items + 1, len(fields) + 3)
    vector = exported.dataset.field("item", "title_vector")
    weight = np.load(exported.folder / "projections" / "item.title_vector.npy")
    np.testing.assert_allclose(dense[:, -3:], exported.dataset.column(vector) @ weight, atol=1e-6)


def test_a_new_item_with_the_vector_of_a_known_one_scores_as_it_but_for_its_id(exported: Exported) -> None:
    items = exported.log.items
    assert items is not None
    scorer = Scorer(exported.folder)
    known = items.filter(pl.col("title_vector").is_not_null()).row(0, named=True)
    columns = {name: known[name] for name in ("city", "brand", "stars", "title_vector")}
    request = asked(exported, rows_of_test(exported.dataset)[0])
    scorer.add_items([{"item": "again", **columns}, {"item": "bare", **columns, "title_vector": None}])
    rows = scorer.items.find([known["_item"], "again", "bare"])
    dense = scorer.items.dense(rows)
    np.testing.assert_allclose(dense[1], dense[0], atol=1e-6)
    assert not np.allclose(dense[2], dense[0])
    assert not dense[2][-3:].any(), "a missing vector is zeros"
    scorer.add_items([{"item": known["_item"], **columns}])
    request["candidates"] = [{"item": known["_item"]}, {"item": "again"}, {"item": "bare"}]
    request["history"] = []
    before = Scorer(exported.folder).score(request)["scores"][0]
    changed = scorer.score(request)["scores"]
    assert changed[0] == pytest.approx(before, abs=1e-6)
    assert changed[2] != pytest.approx(changed[1], abs=1e-6)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([1, 2, 3], "takes a list of 4 numbers, not a list of 3"),
        ("1, 2, 3, 4", "takes a list of 4 numbers, not text"),
        (7, "takes a list of 4 numbers, not one value"),
        ([1, 2, None, 4], "takes a list of 4 numbers: something in it is none"),
        ([1, 2, "3", 4], "takes a list of 4 numbers: something in it is none"),
        ([1, 2, True, 4], "takes a list of 4 numbers: something in it is none"),
        ([1, 2, 10**400, 4], "holds too large a number"),
        ([1, 2, 1e300, 4], "holds too large a number"),
        ([1, 2, 1e38, 4], "holds too large a number"),
    ],
)
def test_what_is_no_vector_is_refused_by_its_field(value: Any, told: str, exported: Exported, scorer: Scorer) -> None:
    request = asked(exported, rows_of_test(exported.dataset)[0])
    request["candidates"][0]["offer_vector"] = value
    with pytest.raises(RequestError) as found:
        scorer.score(request)
    assert (found.value.field, found.value.reason) == ("candidates.0.offer_vector", told)


def test_the_service_takes_and_refuses_vectors_of_items_and_requests(exported: Exported, tmp_path: Path) -> None:
    request = asked(exported, rows_of_test(exported.dataset)[0])
    with client_of(exported, str(tmp_path / "store.sqlite")) as client:
        assert client.post("/score", json=request).status_code == 200
        item = {"item": "new", "title_vector": [1, 2.5, 3, 4, 5, 6]}
        assert client.post("/items", json={"items": [item]}).json() == {"items": 1}
        refused = client.post("/items", json={"items": [item | {"title_vector": [1, 2]}]})
        assert refused.status_code == 422
        assert refused.json()["errors"] == [
            {"field": "items.0.title_vector", "reason": "takes a list of 6 numbers, not a list of 2"}
        ]
    kept = Scorer(exported.folder, store=Service(exported.folder, str(tmp_path / "store.sqlite")).scorer.store)
    row = kept.items.find(["new"])
    assert row[0] > 0
    assert kept.items.dense(row)[0, -3:].any()


def test_files_with_vectors_are_scored_as_requests_are(exported: Exported, scorer: Scorer, tmp_path: Path) -> None:
    rows, flat, expected = rows_of_test(exported.dataset)[:8], list[dict[str, Any]](), list[float]()
    for row in rows:
        request = asked(exported, row) | {"history": []}
        expected += scorer.score(request)["scores"]
        shared = {"request": row, "user_id": request["user"], "time": request["time"]} | request["context"]
        flat += [shared | {"item_id": one.pop("item")} | one for one in request["candidates"]]
    table = pl.DataFrame(flat, infer_schema_length=None)
    table.write_parquet(tmp_path / "in.parquet")
    musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    np.testing.assert_allclose(pl.read_parquet(tmp_path / "out.parquet")["score"], expected, atol=1e-6)
    fixed = table.with_columns(pl.col("query_vector").cast(pl.Array(pl.Float32, 2)))
    fixed.write_parquet(tmp_path / "fixed.parquet")
    musenet.predict(exported.folder, tmp_path / "fixed.parquet", tmp_path / "again.parquet")
    np.testing.assert_allclose(pl.read_parquet(tmp_path / "again.parquet")["score"], expected, atol=1e-6)
    bad = {
        "something in it is none": pl.Series([[1.0, float("nan")]] * len(table)),
        "something in it is none ": pl.Series([[1.0, None]] * len(table)),
        "not a list of 3": pl.Series([[1.0, 2.0, 3.0]] * len(table)),
        "not text": pl.Series(["1, 2"] * len(table)),
    }
    for told, column in bad.items():
        table.with_columns(query_vector=column).write_parquet(tmp_path / "bad.parquet")
        with pytest.raises(DataError, match=rf"row 1: column 'query_vector' takes a list of 2 numbers.*{told.strip()}"):
            musenet.predict(exported.folder, tmp_path / "bad.parquet", tmp_path / "none.parquet")
    later = table.with_columns(offer_vector=pl.Series([None] * (len(table) - 1) + [[1e300, 0.0, 0.0, 0.0]]))
    later.write_parquet(tmp_path / "bad.parquet")
    with pytest.raises(DataError, match=rf"row {len(table)}: column 'offer_vector' holds too large a number"):
        musenet.predict(exported.folder, tmp_path / "bad.parquet", tmp_path / "none.parquet")


@pytest.mark.parametrize("form", [pl.List(pl.Float32), pl.Array(pl.Float64, 4), pl.Null])
def test_missing_vectors_of_a_file_are_those_of_requests(
    form: Any, exported: Exported, scorer: Scorer, tmp_path: Path
) -> None:
    request = asked(exported, rows_of_test(exported.dataset)[0]) | {"history": []}
    values = [None if form == pl.Null or place % 2 else [1.0, 2.0, 3.0, 4.0] for place in range(5)]
    candidate = request["candidates"][0]
    request["candidates"] = [candidate | {"offer_vector": value} for value in values]
    shared = {"request": 1, "user_id": request["user"], "time": request["time"]} | request["context"]
    rows = [shared | {"item_id": candidate["item"], "price": candidate["price"]} for _ in values]
    table = pl.DataFrame(rows).with_columns(offer_vector=pl.Series(values, dtype=form))
    table.write_parquet(tmp_path / "in.parquet")
    musenet.predict(exported.folder, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")["score"]
    np.testing.assert_allclose(found, scorer.score(request)["scores"], atol=1e-6)
