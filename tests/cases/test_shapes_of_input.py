"""Logs where they lie: folders, partitions, packed files, JSON lines, buckets and queries, against pandas."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musenet.dataset.layout import keys_file
from musenet.dataset.manifest import FIRST_VALUE
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.prepare import prepare
from musenet.sources.guess.configuration import guess_config
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from musenet.sources.tables import Tables
from sources.reading import ROLES, SECOND, counts, read, recipe_of, values

PRICED = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}]})


def frame(first: int = 0, rows: int = 10, **more: Any) -> pd.DataFrame:
    row = np.arange(rows)
    roles = {"user": "u" + pd.Series(row % 2).astype(str), "item": first + row, "time": SECOND + row, "label": row % 2}
    return pd.DataFrame(roles | {"price": (first + row) / 4} | more)


def expected(*frames: pd.DataFrame) -> list[Any]:
    together = pd.concat(frames)
    return sorted(zip(together.user, together["item"], together.time * 1_000_000, together.price, strict=True))


def found(tables: Tables) -> list[Any]:
    return values(tables.impressions, "_user", "_item", "_time", "price")


def source(folder: Path, **impressions: Any) -> OwnFiles:
    options = {"source": "own_files", "impressions": ROLES | impressions}
    return OwnFiles(OwnFilesOptions.model_validate(options), recipe_of(), folder)


def partitions(folder: Path, count: int) -> dict[str, pd.DataFrame]:
    """A folder per day, the second half of them with a column more, and what writers leave beside them."""
    days = {}
    for day in range(count):
        name = f"dt=2026-11-{day + 1:02d}"
        (folder / name).mkdir(parents=True)
        days[name] = frame(10 * day) if day < count // 2 else frame(10 * day, shelf="s" + str(day))
        days[name].to_parquet(folder / name / "part-0.parquet", index=False)
    (folder / "_SUCCESS").touch()
    (folder / ".part-0.parquet.crc").write_bytes(b"crc")
    return days


def test_a_tree_of_partitions_whose_schema_grew_is_one_table_with_the_folders_as_a_column(tmp_path: Path) -> None:
    days = partitions(tmp_path / "log", 6)
    recipe = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}, "shelf"], "context": ["dt"]})
    tables = read(tmp_path, "log", recipe)
    assert found(tables) == expected(*days.values())
    told = values(tables.impressions, "_item", "dt", "shelf")
    assert told == [
        (item, name[3:], day.shelf.iloc[0] if "shelf" in day else None)
        for name, day in days.items()
        for item in day["item"]
    ]
    assert [rule.rows for rule in tables.cleaning if "shelf is missing in" in rule.reason] == [30]
    assert found(read(tmp_path, "log/dt=2026-11-0[12]", PRICED)) == expected(*list(days.values())[:2])


def test_many_partitions_of_one_schema_are_opened_as_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    days = partitions(tmp_path / "log", 24)
    opened: list[int] = []
    read_parquet = Engine.read_parquet

    def counted(self: Engine, paths: Sequence[Path], *more: Any) -> Any:
        opened.append(len(paths))
        return read_parquet(self, paths, *more)

    monkeypatch.setattr(Engine, "read_parquet", counted)
    recipe = recipe_of(features={"context": ["dt"]})
    assert len(values(read(tmp_path, "log", recipe).impressions, "_item", "dt")) == 10 * len(days)
    assert opened == [12, 12]


def test_folders_say_what_was_written_whatever_the_letters(tmp_path: Path) -> None:
    for place, (written, said) in enumerate(
        [("a%20b%2Fc", "a b/c"), ("x+y", "x+y"), ("__HIVE_DEFAULT_PARTITION__", None)]
    ):
        folder = tmp_path / "log" / "city=outer" / f"city={written}"
        folder.mkdir(parents=True)
        frame(10 * place, said=said).to_parquet(folder / "part.parquet", index=False)
        frame(10 * place).to_csv(folder / "part.csv", index=False)
        write_lines(folder / "part.jsonl", frame(10 * place))
    recipe = recipe_of(features={"context": ["city"]})
    for kind in ("parquet", "csv", "jsonl"):
        tables = read(tmp_path, f"log/**/*.{kind}", recipe)
        cities = dict(values(tables.impressions, "_item", "city"))
        assert [cities[item] for item in (0, 10, 20)] == ["a b/c", "x+y", None]


def test_a_renamed_partition_is_another_log_and_a_moved_log_the_same(tmp_path: Path) -> None:
    partitions(tmp_path / "log", 3)
    first = source(tmp_path, path="log").fingerprint()
    (tmp_path / "log").rename(tmp_path / "moved")
    assert source(tmp_path, path="moved").fingerprint() == first
    assert source(tmp_path, path="moved/*/*.parquet").fingerprint() == first
    (tmp_path / "moved" / "dt=2026-11-02").rename(tmp_path / "moved" / "dt=2026-11-04")
    renamed = source(tmp_path, path="moved").fingerprint()
    assert renamed != first
    (tmp_path / "moved" / "dt=2026-11-04").rename(tmp_path / "moved" / "other")
    assert source(tmp_path, path="moved").fingerprint() not in (first, renamed)


def write_text(path: Path, text: str) -> None:
    """Packed as the name says."""
    codec = {".gz": "gzip", ".zst": "zstd"}.get(path.suffix)
    with pa.OSFile(str(path), "wb") as plain, pa.CompressedOutputStream(plain, codec) if codec else plain as file:
        file.write(text.encode())


def write_lines(path: Path, rows: pd.DataFrame) -> None:
    write_text(path, rows.to_json(orient="records", lines=True))


@pytest.mark.parametrize("name", ["log.jsonl", "log.ndjson.gz", "log.json.zst"])
def test_json_lines_hold_the_values_that_were_written(tmp_path: Path, name: str) -> None:
    tags = [["a", "b"], [], None, ["c"], ["a"], ["b", "a"], ["c"], ["c"], ["a"], ["b"]]
    mixed = [1, "x", *range(8)]
    rows = frame(tags=pd.Series(tags), mixed=pd.Series(mixed, dtype=object), late=[None] * 9 + ["here"])
    write_lines(tmp_path / name, rows)
    features = [{"price": {"numeric": "log"}}, {"tags": "multi_valued"}, "mixed", "late"]
    tables = read(tmp_path, name, recipe_of(features={"candidate": features}))
    assert found(tables) == expected(rows)
    assert values(tables.impressions, "_item", "tags") == list(enumerate(tags))
    assert dict(values(tables.impressions, "_item", "mixed")) == dict(enumerate(map(str, mixed)))
    assert dict(values(tables.impressions, "_item", "late"))[9] == "here"


def test_json_parts_grow_and_broken_lines_are_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "1.jsonl", frame(0).drop(columns="price"))
    write_lines(tmp_path / "2.jsonl", frame(10))
    tables = read(tmp_path, "*.jsonl", PRICED)
    assert [price for item, price in values(tables.impressions, "_item", "price") if item < 10] == [None] * 10
    assert sum(price or 0 for *_, price in found(tables)) == frame(10).price.sum()
    assert ("impressions", f"price is missing in {tmp_path / '1.jsonl'}: made NULL") in counts(tables)
    (tmp_path / "3.jsonl").write_text(json.dumps({"user": "u"}) + '\n{"user": "u", "ite\n')
    with pytest.raises(DataError, match=r"3\.jsonl cannot be read near line [23] \(.*\): correct that line"):
        read(tmp_path, "*.jsonl")


@pytest.mark.parametrize("packed", ["gz", "zst"])
def test_packed_csv_files_beside_plain_ones(tmp_path: Path, packed: str) -> None:
    first, second = frame(0), frame(10)
    write_text(tmp_path / f"1.csv.{packed}", first.to_csv(index=False))
    second.to_csv(tmp_path / "2.csv", index=False, sep=";")
    tables = read(tmp_path, ["1.csv." + packed, "2.csv"], PRICED)
    assert found(tables) == expected(first, second)


def test_a_bad_file_in_the_middle_of_a_pattern_is_named(tmp_path: Path) -> None:
    for place in range(3):
        frame(10 * place).to_parquet(tmp_path / f"{place}.parquet", index=False)
        frame(10 * place).to_csv(tmp_path / f"{place}.csv", index=False)
    whole = (tmp_path / "1.parquet").read_bytes()
    (tmp_path / "1.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError, match=r"1\.parquet cannot be read .*is it damaged or cut short\?$"):
        read(tmp_path, "*.parquet")
    with (tmp_path / "1.csv").open("a") as file:
        file.write("u0,1\n")
    with pytest.raises(DataError, match=r"1\.csv cannot be read at line 12 \(expected 5 columns, found 2\)"):
        read(tmp_path, "*.csv")


@pytest.mark.parametrize(("beside", "kind"), [("_delta_log", "Delta"), (".hoodie", "Hudi"), ("metadata", "Iceberg")])
def test_tables_some_of_whose_files_are_of_the_past_are_refused(tmp_path: Path, beside: str, kind: str) -> None:
    """However they are named: what its log says to be removed would be read again."""
    days = partitions(tmp_path / "log", 2)
    (tmp_path / "log" / beside).mkdir()
    (tmp_path / "log" / beside / "v1.metadata.json").write_text("{}")
    for path in ("log", "log/*/*.parquet", "log/**/*.parquet", "log/dt=2026-11-01", "log/dt=2026-11-01/part-0.parquet"):
        with pytest.raises(DataError, match=f"log is a {kind} table"):
            read(tmp_path, path)
    with pytest.raises(DataError, match=f"FILES: .*log is a {kind} table"):
        guess_config([tmp_path / "log"], tmp_path)
    (tmp_path / "log" / beside).rename(tmp_path / "log" / "elsewhere")
    (tmp_path / "log" / "elsewhere" / "v1.metadata.json").unlink()
    assert found(read(tmp_path, "log", PRICED)) == expected(*days.values())


def database(folder: Path, rows: pd.DataFrame) -> None:
    (folder / "log.duckdb").unlink(missing_ok=True)
    with duckdb.connect(str(folder / "log.duckdb")) as connection:
        connection.register("rows", rows)
        connection.execute("CREATE TABLE shown AS SELECT * FROM rows")


def test_a_query_gives_what_pandas_gives(tmp_path: Path) -> None:
    rows = frame(0, 40)
    database(tmp_path, rows)
    asked = {"path": None, "sql": "SELECT * FROM shown WHERE price < 5;", "database": "log.duckdb"}
    tables = read(tmp_path, "", PRICED, impressions=asked)
    assert found(tables) == expected(rows[rows.price < 5])
    assert source(tmp_path, **asked).size().impressions == 20
    first = source(tmp_path, **asked).fingerprint()
    database(tmp_path, rows.sample(frac=1, random_state=1))
    assert source(tmp_path, **asked).fingerprint() == first, "the order of rows means nothing"
    rows.loc[3, "label"] = 1 - rows.label[3]
    database(tmp_path, rows)
    assert source(tmp_path, **asked).fingerprint() != first


def test_a_query_reads_files_from_the_configurations_folder(tmp_path: Path) -> None:
    frame(0).to_parquet(tmp_path / "log.parquet", index=False)
    asked = {"path": None, "sql": "FROM 'log.parquet' SELECT * REPLACE (price * 2 AS price)"}
    tables = read(tmp_path, "", PRICED, impressions=asked)
    assert found(tables) == expected(frame(0).assign(price=lambda rows: rows.price * 2))


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"sql": "SELECT * FROM missing", "database": "log.duckdb"},
            r"^data\.impressions\.sql: .*missing does not exist",
        ),
        ({"sql": "SELECT * FROM shown", "database": "none.duckdb"}, r"database: there is no file .*none\.duckdb"),
        ({"sql": "DROP TABLE shown", "database": "log.duckdb"}, r"sql: give one query"),
        ({"sql": "SELECT 1; SELECT 2"}, r"sql: give one query"),
        ({"sql": "SELECT * FROM shown WHERE price < 0", "database": "log.duckdb"}, r"sql gives no rows"),
        (
            {"sql": "SELECT user, item FROM shown", "database": "log.duckdb"},
            r"the query of data\.impressions: there is",
        ),
    ],
)
def test_queries_that_cannot_be_answered_say_why(tmp_path: Path, asked: dict[str, Any], sentence: str) -> None:
    database(tmp_path, frame(0))
    with pytest.raises(DataError, match=sentence):
        read(tmp_path, "", impressions={"path": None} | asked)


@pytest.mark.parametrize("given", [{}, {"path": "a.csv", "sql": "SELECT 1"}, {"path": "a.csv", "database": "b"}])
def test_a_table_has_one_source(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"give either path or sql|database needs sql"):
        OwnFilesOptions.model_validate({"source": "own_files", "impressions": ROLES | given})


def test_a_prefix_of_a_bucket_is_a_folder_known_by_etags(tmp_path: Path, bucket: Any) -> None:
    days = partitions(tmp_path / "log", 4)

    def upload(name: str, day: str) -> None:
        bucket.upload_file(str(tmp_path / "log" / day / "part-0.parquet"), "logs", f"shown/{name}/part-0.parquet")

    for day in days:
        upload(day, day)
    bucket.put_object(Bucket="logs", Key="shown/_SUCCESS", Body=b"")
    recipe = recipe_of(features={"candidate": [{"price": {"numeric": "log"}}], "context": ["dt"]})
    for path in ("s3://logs/shown", "s3://logs/shown/", "s3://logs/shown/*/*.parquet", "s3://logs/shown/dt=*"):
        tables = read(tmp_path, path, recipe)
        assert found(tables) == expected(*days.values())
        assert set(values(tables.impressions, "dt")) == {day[3:] for day in days}
    log = source(tmp_path, path="s3://logs/shown")
    assert log.size().impressions == 40
    first = log.fingerprint()
    upload("dt=2026-11-01", "dt=2026-11-01")
    assert log.fingerprint() == first, "the same bytes, written again later"
    upload("dt=2026-11-01", "dt=2026-11-02")
    second = log.fingerprint()
    assert second != first
    bucket.delete_object(Bucket="logs", Key="shown/dt=2026-11-01/part-0.parquet")
    upload("dt=2026-11-09", "dt=2026-11-02")
    assert log.fingerprint() not in (first, second)


def test_packed_texts_of_a_bucket(tmp_path: Path, bucket: Any) -> None:
    for name in ("log.csv.gz", "log.jsonl.zst"):
        rows = frame(0)
        write_text(tmp_path / name, rows.to_csv(index=False)) if "csv" in name else write_lines(tmp_path / name, rows)
        bucket.upload_file(str(tmp_path / name), "logs", f"texts/{name}")
        assert found(read(tmp_path, f"s3://logs/texts/{name}", PRICED)) == expected(rows)


def test_what_a_bucket_lacks_is_said_in_one_sentence(tmp_path: Path, bucket: Any) -> None:
    with pytest.raises(DataError, match=r"path: there is no file s3://logs/none/\*\.parquet"):
        read(tmp_path, "s3://logs/none/*.parquet")
    bucket.put_object(Bucket="logs", Key="bad/1.parquet", Body=b"PAR1 and nothing more")
    with pytest.raises(DataError, match=r"^s3://logs/bad/1\.parquet cannot be read"):
        read(tmp_path, "s3://logs/bad")


def test_an_address_that_nobody_answers_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("upath")
    with pytest.raises(DataError, match=r"path: http://127\.0\.0\.1:9/log\.parquet cannot be reached \("):
        read(tmp_path, "http://127.0.0.1:9/log.parquet")


def test_lists_of_fixed_size_are_lists(tmp_path: Path) -> None:
    numbers = np.arange(20, dtype="float32").reshape(10, 2)
    table = pa.Table.from_pandas(frame(0), preserve_index=False)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(numbers.ravel()), 2)
    pq.write_table(table.append_column("pair", fixed), tmp_path / "log.parquet")
    tables = read(tmp_path, "log.parquet", recipe_of(features={"candidate": [{"pair": "multi_valued"}]}))
    assert values(tables.impressions, "_item", "pair") == list(enumerate(numbers.tolist()))


def test_a_list_of_five_thousand_tags_is_kept_whole(tmp_path: Path) -> None:
    tags = [[f"t{place}" for place in range(5000)], ["t4999", "t1"], [], ["t7"]]
    frame(0, 40).assign(item=np.arange(40) % 4).to_parquet(tmp_path / "log.parquet", index=False)
    pd.DataFrame({"item": range(4), "tags": tags}).to_parquet(tmp_path / "items.parquet", index=False)
    recipe = recipe_of(
        features={"item": [{"tags": {"multi_valued": ",", "length": 5000, "min_count": 1}}]},
        split={"parts": 4, "test": 1, "valid": 1},
    )
    options = {
        "source": "own_files",
        "impressions": ROLES | {"path": "log.parquet"},
        "items": {"path": "items.parquet", "item": "item"},
    }
    log = OwnFiles(OwnFilesOptions.model_validate(options), recipe, tmp_path)
    dataset = prepare(log, recipe, tmp_path / "dataset").dataset
    texts = dict(enumerate(dataset.texts("tags").to_pylist(), FIRST_VALUE))
    keys = pd.read_parquet(keys_file(dataset.folder, "items"))["_item"].tolist()
    codes = dataset.column(dataset.field("item", "tags"))
    held = {item: [texts[code] for code in row if code >= FIRST_VALUE] for item, row in zip(keys, codes, strict=True)}
    assert {item: sorted(held[item]) for item in range(4)} == {item: sorted(row) for item, row in enumerate(tags)}
