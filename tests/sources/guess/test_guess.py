import csv
import re
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from musenet.config.loading import load_experiment
from musenet.engines.engine import Engine
from musenet.errors import DataError, UserError
from musenet.sources.guess.configuration import doubts_of_roles, guess_config, write_config
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from musenet.sources.tables import Tables
from odd_logs import write_positives, write_three_files

TOP_LEVEL = [
    *("name", "seed", "data", "features", "history", "repeat", "split", "negatives"),
    *("predefined_scenario", "true_scenario", "model", "training", "compare"),
]


def read(config: Path) -> Tables:
    experiment = load_experiment(config)
    assert isinstance(experiment.data, OwnFilesOptions)
    return OwnFiles(experiment.data, experiment.recipe, config.parent).tables(Engine(ibis.duckdb.connect()))


def test_three_odd_files_need_no_edits(tmp_path: Path) -> None:
    write_config(write_three_files(tmp_path), tmp_path / "odd.yaml")
    guessed = yaml.safe_load((tmp_path / "odd.yaml").read_text())
    assert list(guessed) == TOP_LEVEL
    assert guessed["data"] == {
        "source": "own_files",
        "impressions": {
            "path": "views.parquet",
            "user": "visitor",
            "item": "article",
            "time": "served_ms",
            "label": "taken",
            "request": "page_view",
        },
        "events": {"path": "actions.parquet", "user": "visitor", "item": "article", "time": "at_ms", "kind": "verb"},
        "items": {"path": "catalogue.parquet", "item": "article"},
        "timezone": "UTC",
    }
    assert guessed["features"] == {
        "user": [],
        "item": ["brand", {"weight_kg": {"numeric": "log"}}],
        "context": ["device", "hour", "weekday"],
        "candidate": [{"shelf_price": {"numeric": "log"}}, {"slot": "position"}],
    }
    assert guessed["history"]["columns"] == ["article", "brand"]
    assert guessed["repeat"] == {"key": ["article"], "kinds": ["buy", "open"]}
    assert guessed["split"] == {"test": "5 days", "valid": "2 days"}
    tables = read(tmp_path / "odd.yaml")
    assert tables.impressions.count().to_pyarrow().as_py() > 5000


def test_positives_in_one_csv_need_no_edits(tmp_path: Path) -> None:
    write_config([write_positives(tmp_path)], tmp_path / "buy.yaml")
    guessed = yaml.safe_load((tmp_path / "buy.yaml").read_text())
    assert guessed["data"]["impressions"] == {
        "path": "purchases.csv",
        "user": "customer",
        "item": "sku",
        "time": "bought_on",
    }
    assert guessed["negatives"] == {"per_request": 20, "from": "popular"}
    assert guessed["history"]["columns"] == guessed["repeat"]["key"] == ["sku"]
    assert read(tmp_path / "buy.yaml").impressions.count().to_pyarrow().as_py() == 2000


def test_it_never_overwrites(tmp_path: Path) -> None:
    out = tmp_path / "mine.yaml"
    out.write_text("precious")
    with pytest.raises(UserError, match="never overwritten"):
        write_config([write_positives(tmp_path)], out)
    assert out.read_text() == "precious"


def test_paths_start_from_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "configs").mkdir()
    out = tmp_path / "configs" / "buy.yaml"
    write_config([write_positives(tmp_path / "logs")], out)
    assert yaml.safe_load(out.read_text())["data"]["impressions"]["path"] == "../logs/purchases.csv"
    read(out)


@pytest.fixture
def suspicious(tmp_path: Path) -> str:
    """A log with columns that should not be features; the text of its configuration."""
    random = np.random.default_rng(5)
    rows = 4000
    label = random.random(rows) < 0.2
    user = random.integers(0, 50, rows)
    table = pa.table(
        {
            "uid": user,
            "hotelId": random.integers(0, 40, rows),
            "ts": 1_700_000_000 + 1000 * np.arange(rows),
            "clicked": label.astype(int),
            "row_id": np.arange(rows) + 10**6,
            "dwell_seconds": random.random(rows),
            "discount_taken": np.where(label, 3.0, 0.0) + random.random(rows) / 10,
            "voucher": pa.array(["V" if taken else None for taken in label]),
            "week": np.arange(rows) // 600,
            "country": ["DE"] * rows,
            "home": (user % 7).astype(str),
            "user agent": random.choice(["a", "b"], rows),
            "nothing": pa.nulls(rows),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    return guess_config([tmp_path / "log.parquet"], tmp_path)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ("row_id", "numbers the rows"),
        ("dwell_seconds", "only after the click"),
        ("discount_taken", "predicts the label alone"),
        ("voucher", "predicts the label alone"),
        ("week", "grows with time"),
        ("country", "one value only"),
        ("nothing", "no values"),
    ],
)
def test_suspicious_columns_are_left_out_with_the_reason(suspicious: str, column: str, reason: str) -> None:
    features = yaml.safe_load(suspicious)["features"]
    assert not re.search(rf"'{column}'", str(features))
    assert re.search(rf"# \? left out: {column} \(log.parquet\): .*({reason})", suspicious)


def test_roles_in_other_spellings(suspicious: str) -> None:
    guessed = yaml.safe_load(suspicious)
    roles = {"path": "log.parquet", "user": "uid", "item": "hotelId", "time": "ts", "label": "clicked"}
    assert guessed["data"]["impressions"] == roles
    assert guessed["features"]["user"] == ["home"]
    assert guessed["features"]["context"] == ["user agent", "hour", "weekday"]


def test_a_log_of_kinds(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    with (tmp_path / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["timestamp", "visitorid", "event", "itemid"])
        for row in range(1000):
            kind = random.choice(["view", "view", "addtocart", "transaction"])
            writer.writerow([1_433_221_332_117 + 10**6 * row, random.integers(100, 150), kind, random.integers(0, 70)])
    text = guess_config([tmp_path / "events.csv"], tmp_path)
    impressions = yaml.safe_load(text)["data"]["impressions"]
    assert impressions["label"] == "event"
    assert impressions["positive_kinds"] == ["addtocart", "transaction"]
    assert "# ? label: taken: view mean shown" in text
    (tmp_path / "c.yaml").write_text(text)
    read(tmp_path / "c.yaml")


def test_parts_of_one_table_and_short_logs(tmp_path: Path) -> None:
    rows = {"user": [1, 2, 3] * 20, "item": [1, 2, 3, 4] * 15, "time": [1_700_000_000 + row for row in range(60)]}
    for part in range(2):
        pq.write_table(pa.table(rows | {"click": [0, 1, 0, part] * 15}), tmp_path / f"part-{part}.parquet")
    guessed = yaml.safe_load(guess_config(sorted(tmp_path.glob("*.parquet")), tmp_path))
    assert guessed["data"]["impressions"]["path"] == ["part-0.parquet", "part-1.parquet"]
    assert guessed["split"] == {"parts": 10, "test": 1, "valid": 1}
    elsewhere = yaml.safe_load(guess_config(sorted(tmp_path.glob("*.parquet")), tmp_path.parent))
    assert elsewhere["data"]["impressions"]["path"] == tmp_path.name


def test_what_is_no_log_is_said(tmp_path: Path) -> None:
    (tmp_path / "colours.csv").write_text("colour,price\nred,1.5\nblue,2.5\n")
    with pytest.raises(DataError, match="none of these files has a user, an item and a time"):
        guess_config([tmp_path / "colours.csv"])
    with pytest.raises(DataError, match="there is no file"):
        guess_config([tmp_path / "nowhere.csv"])
    with pytest.raises(UserError, match="at least one"):
        guess_config([])


def test_a_column_of_times_without_any_time_is_said(tmp_path: Path) -> None:
    rows = {"user_id": [1, 2, 3] * 20, "item_id": [1, 2, 3, 4] * 15, "shown_at": pa.nulls(60, pa.timestamp("us"))}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    with pytest.raises(DataError, match="no time, 'shown_at' is named like one but holds 0 values"):
        guess_config([tmp_path / "log.parquet"])


def test_a_folder_of_several_tables_is_read_as_if_they_were_named(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    files = write_three_files(tmp_path / "log")
    named = guess_config(files, tmp_path, "odd")
    assert guess_config([tmp_path / "log"], tmp_path, "odd") == named
    assert yaml.safe_load(named)["data"]["events"]["path"] == "log/actions.parquet"


def test_a_table_that_got_a_column_later_is_one_table(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    rows = {"user": [1, 2, 3] * 20, "item": [1, 2, 3, 4] * 15, "time": [1_700_000_000 + row for row in range(60)]}
    rows |= {"click": [0, 1, 0, 1] * 15}
    more = {"device": ["a", "b"] * 30, "place": ["c", "d", "e"] * 20}
    for part, added in enumerate([{}, more, {}]):
        pq.write_table(pa.table(rows | added), tmp_path / "log" / f"part-{part}-0f3c9a1b-77aa.parquet")
    guessed = yaml.safe_load(guess_config([tmp_path / "log"], tmp_path))
    assert guessed["data"]["impressions"]["path"] == "log"
    assert set(guessed["data"]) == {"source", "impressions", "timezone"}
    assert "device" in str(guessed["features"])


def test_a_column_that_only_describes_users_is_doubted_as_their_id(tmp_path: Path) -> None:
    rows = {"user_group": [1, 2, 3] * 200, "item_id": [1, 2, 3, 4] * 150, "click": [0, 1, 0, 1] * 150}
    rows |= {"time": [1_700_000_000 + 999 * row for row in range(600)]}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    text = guess_config([tmp_path / "log.parquet"], tmp_path)
    assert yaml.safe_load(text)["data"]["impressions"]["user"] == "user_group"
    doubts = doubts_of_roles(text)
    assert [doubt for doubt in doubts if doubt.startswith("user: is user_group an id of users?")]
    assert not [doubt for doubt in doubts if doubt.startswith("item:")]
    for name in ("user_id:token", "user_hash", "userId", "Customer No", "visitor"):
        named = {name if column == "user_group" else column: values for column, values in rows.items()}
        pq.write_table(pa.table(named), tmp_path / "log.parquet")
        assert doubts_of_roles(guess_config([tmp_path / "log.parquet"], tmp_path)) == []


def test_a_doubt_that_many_columns_share_is_said_once(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0)
    values = {"user_id": 50, "item_id": 8, "click": 2, "affinity_0": 3, "affinity_1": 3, "affinity_2": 3}
    rows = {name: drawn.integers(number, size=600) for name, number in values.items()}
    rows |= {"time": 1_700_000_000 + 4999 * np.arange(600)}
    pq.write_table(pa.table(rows), tmp_path / "log.parquet")
    context = guess_config([tmp_path / "log.parquet"], tmp_path).partition("  context:\n")[2].splitlines()
    first, *others = [line.partition(" # ")[2] for line in context[:5]]
    assert first.startswith("? requests of one item cannot tell")
    assert others == ["? as above", "? as above", *["from the time, on the local clock"] * 2], (
        "the last two are no doubts"
    )


def test_the_experiment_is_called_like_its_file(tmp_path: Path) -> None:
    files = write_three_files(tmp_path)
    names = {"my-log.yaml": "my-log", "musenet.yaml": "views", "a b.yaml": "a-b", "true.yaml": "true"}
    for file in names:
        write_config(files, tmp_path / file)
    assert {file: yaml.safe_load((tmp_path / file).read_text())["name"] for file in names} == names


def test_ctrl_c_that_the_database_catches_is_ctrl_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(engine: Engine, table: object) -> None:
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr(Engine, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        guess_config(write_three_files(tmp_path), tmp_path)
