"""What `musenet init` concludes: told by names and by which side matches, and what it writes can be used as it is."""

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from musenet import api
from musenet.sources.guess import profiles
from musenet.sources.guess.configuration import guess_config, write_config

Frames = dict[str, pd.DataFrame]
USERS, ITEMS, REQUESTS, SHOWN = 60, 30, 260, 5


def shop(days: int = 20) -> Frames:
    """1,300 impressions in 260 requests, their events, 60 users and 30 items; ids of both count from 0."""
    random = np.random.default_rng(1)
    quality = random.normal(size=ITEMS)
    times = pd.Timestamp("2024-03-04") + pd.to_timedelta(np.sort(random.integers(0, days * 86_400, REQUESTS)), unit="s")
    user = np.concatenate([np.arange(USERS), random.integers(0, USERS, REQUESTS - USERS)])
    random.shuffle(user)
    shown: list[dict[str, Any]] = []
    for request in range(REQUESTS):
        device = random.choice(["phone", "desktop", "tablet"])
        for item in random.choice(ITEMS, SHOWN, replace=False):
            clicked = int(random.random() < 1 / (1 + np.exp(1 - quality[item])))
            roles = {"user_id": user[request], "item_id": item, "shown_at": times[request], "clicked": clicked}
            price = round(float(random.lognormal(3, 1)), 2)
            shown.append(roles | {"search_id": request, "device": device, "price": price})
    table = pd.DataFrame(shown)
    events = table[table.clicked == 1][["user_id", "item_id", "shown_at"]].rename(columns={"shown_at": "at"})
    ages = random.choice(["young", "mid", "old"], USERS)
    return {
        "shown": table,
        "events": events.assign(at=events["at"] + pd.Timedelta(seconds=20), kind="open"),
        "users": pd.DataFrame({"user_id": range(USERS), "age": ages}),
        "items": pd.DataFrame({"item_id": range(ITEMS), "category": random.integers(1, 6, ITEMS)}),
    }


def write(folder: Path, frames: Frames) -> list[Path]:
    paths = [folder / f"{name}.csv" for name in frames]
    for path, frame in zip(paths, frames.values(), strict=True):
        frame.to_csv(path, index=False)
    return paths


def guessed(folder: Path, frames: Frames) -> tuple[dict[str, Any], str]:
    text = guess_config(write(folder, frames), folder)
    return yaml.safe_load(text), text


def features_of(config: dict[str, Any]) -> set[str]:
    entries = itertools.chain.from_iterable(config["features"].values())
    return {entry if isinstance(entry, str) else next(iter(entry)) for entry in entries}


def prepared(folder: Path, frames: Frames) -> Any:
    write_config(write(folder, frames), folder / "log.yaml")
    return api.prepare(folder / "log.yaml", folder / "dataset").dataset.manifest


def test_users_and_items_are_told_apart_whatever_the_order(tmp_path: Path) -> None:
    paths = write(tmp_path, shop())
    texts = {guess_config(order, tmp_path) for order in ([*paths], paths[::-1], [*paths[2:], *paths[:2]])}
    assert len(texts) == 1
    data = yaml.safe_load(texts.pop())["data"]
    assert data["users"] == {"path": "users.csv", "user": "user_id"}
    assert data["items"] == {"path": "items.csv", "item": "item_id"}
    assert data["events"]["item"] == "item_id"


@pytest.mark.parametrize(
    "names",
    [
        {"user_id": "userId", "item_id": "itemId", "shown_at": "shownAt", "clicked": "isClicked", "at": "eventTime"},
        {"user_id": "uid", "item_id": "iid", "shown_at": "ts", "clicked": "y", "at": "ts", "search_id": "sid"},
        {"user_id": "Nutzer", "item_id": "Artikel", "shown_at": "Zeitpunkt", "clicked": "geklickt", "kind": "Art"},
        {"user_id": "a", "item_id": "b", "shown_at": "c", "clicked": "d", "search_id": "e", "kind": "h", "at": "c"},
    ],
    ids=["camel", "short", "german", "letters"],
)
def test_roles_in_other_styles(tmp_path: Path, names: dict[str, str]) -> None:
    config, text = guessed(tmp_path, {name: frame.rename(columns=names) for name, frame in shop().items()})
    data = config["data"]

    def called(name: str) -> str:
        return names.get(name, name)

    expected = {"user": "user_id", "item": "item_id", "time": "shown_at", "label": "clicked", "request": "search_id"}
    assert data["impressions"] == {"path": "shown.csv"} | {role: called(name) for role, name in expected.items()}
    assert data["users"] == {"path": "users.csv", "user": called("user_id")}
    assert data["items"] == {"path": "items.csv", "item": called("item_id")}
    assert data["events"]["kind"] == called("kind")
    if called("user_id") == "a":
        assert "# ? user: no column is named like one" in text
        assert "# ? request: no column is named like one" in text


@pytest.mark.parametrize("described", ["generation", "customer_age"])
def test_what_describes_users_is_no_id_of_them_on_a_log_of_days(tmp_path: Path, described: str) -> None:
    random = np.random.default_rng(3)
    who, day = random.integers(0, 300, 2000), np.sort(random.integers(0, 60, 2000))
    sku = random.integers(0, 200, 2000)
    line = np.where(random.random(2000) < 0.1, sku % 40, 0) * (sku < 5) + sku // 5
    rows = {"date": pd.Timestamp("2024-03-04") + pd.to_timedelta(day, unit="D"), "card": who + 5000}
    rows |= {described: who % 9, "sku": sku, "line": np.char.add("L", line.astype(str))}
    config, text = guessed(tmp_path, {"log": pd.DataFrame(rows)})
    assert config["data"]["impressions"] == {"path": "log.csv", "user": "card", "item": "sku", "time": "date"}
    assert "# ? user: no column is named like one; the values do not show which are users" in text
    assert config["features"]["user"] == [described]
    several = int((pd.DataFrame(rows).groupby("sku")["line"].nunique() > 1).sum())
    assert several > 0
    assert f"- line # ? has several values for {several} of 200 items: the first is used" in text
    assert prepared(tmp_path, {"log": pd.DataFrame(rows)}).items == 200


def test_overlap_alone_is_a_doubt(tmp_path: Path) -> None:
    frames = shop()
    frames["left"] = frames.pop("users").rename(columns={"user_id": "x"})
    frames["right"] = frames.pop("items").rename(columns={"item_id": "x"})
    config, text = guessed(tmp_path, frames)
    assert config["data"]["users"] == {"path": "left.csv", "user": "x"}
    assert config["data"]["items"] == {"path": "right.csv", "item": "x"}
    assert "# ? user: no name says so: 100% of its values are users of the impressions" in text
    assert "# ? item: no name says so: 100% of its values are items of the impressions" in text


def test_an_events_column_is_no_item_because_it_counts_from_one(tmp_path: Path) -> None:
    frames = shop()
    frames["events"] = frames["events"].assign(shelf=frames["events"].item_id % 7).drop(columns="item_id")
    config, text = guessed(tmp_path, frames)
    assert "item" not in config["data"]["events"]
    assert "repeat" not in config
    assert "the events do not say of which item they are" in text


def test_a_second_table_of_users_and_impressions_without_labels_are_left_out(tmp_path: Path) -> None:
    frames = shop()
    frames["more_users"] = frames["users"][:40].rename(columns={"age": "plan"})
    frames["later"] = frames["shown"].drop(columns="clicked")
    config, text = guessed(tmp_path, frames)
    assert config["data"]["users"]["path"] == "users.csv"
    assert config["data"]["events"]["path"] == "events.csv"
    assert "# ? not used: more_users.csv: holds users too" in text
    assert "# ? not used: later.csv: its columns are the impressions' without clicked" in text


def test_row_numbers_are_no_features(tmp_path: Path) -> None:
    frames = {name: frame.reset_index(names="") for name, frame in shop().items()}
    rows = len(frames["shown"])
    frames["shown"] = frames["shown"].assign(nth=np.arange(rows) + 1, drawn=np.random.default_rng(2).permutation(rows))
    config, _ = guessed(tmp_path, frames)
    assert features_of(config) == {"age", "category", "device", "hour", "price"}
    assert config["data"]["users"]["user"] == "user_id"
    assert config["data"]["items"]["item"] == "item_id"


@pytest.mark.parametrize(("days", "clocks"), [(2, set()), (20, {"hour"}), (40, {"hour", "weekday"})])
def test_hour_and_weekday_where_training_holds_them_several_times(tmp_path: Path, days: int, clocks: set[str]) -> None:
    config, text = guessed(tmp_path, {"shown": shop(days)["shown"]})
    assert features_of(config) & {"hour", "weekday"} == clocks
    for name in {"hour", "weekday"} - clocks:
        assert f"# ? left out: {name} of the time: training does not hold each of them on 3 days" in text


def test_dates_have_no_hours_and_a_logs_own_weekday_is_judged_alike(tmp_path: Path) -> None:
    shown = shop(20)["shown"]
    shown = shown.assign(weekday=shown.shown_at.dt.weekday, shown_at=shown.shown_at.dt.strftime("%Y-%m-%d"))
    config, text = guessed(tmp_path, {"shown": shown.drop(columns="search_id")})
    assert not features_of(config) & {"hour", "weekday"}
    assert "hour of the time: is the same everywhere" in text
    assert "weekday (shown.csv): training does not hold each of them on 3 days" in text


def test_what_is_constant_per_item_is_the_items(tmp_path: Path) -> None:
    shown = shop()["shown"]
    shown = shown.assign(
        colour=shown.item_id % 4, play_time=shown.item_id * 1.5 + 3, title="T" + shown.item_id.astype(str)
    )
    config, text = guessed(tmp_path, {"shown": shown})
    assert config["features"]["item"] == ["colour", {"play_time": {"numeric": "standardise"}}]
    assert "# ? left out: title (shown.csv): has a value for each, so that it says what the id says" in text


def test_what_is_seen_once_is_constant_for_no_reason(tmp_path: Path) -> None:
    shown = shop()["shown"]
    shown["user_id"] = shown.search_id + 100  # every user comes once
    config, _ = guessed(tmp_path, {"shown": shown.drop(columns="search_id")})
    assert config["features"]["user"] == []
    assert "device" in config["features"]["context"]
    assert config["model"]["ids"] == ["item"]


def test_users_ids_are_no_features_of_a_small_log_and_all_models_see_the_same(tmp_path: Path) -> None:
    """60 users of 1,300 impressions: a vector of each would memorise them."""
    config, text = guessed(tmp_path, shop())
    assert "# ? ids without user: training holds " in text
    assert "too few to learn a vector of each user" in text
    assert config["model"]["ids"] == ["item"]
    assert [row["ids"] for row in config["compare"]["models"].values()] == 8 * [["item"]]
    assert "din" in config["compare"]["models"]
    many = Frames({"shown": shop()["shown"].loc[lambda frame: frame.index.repeat(20)]})
    many["shown"]["item_id"] = np.arange(len(many["shown"])) % (5 * ITEMS)
    config, text = guessed(tmp_path, many)
    assert "ids" not in config["model"]
    assert "ids without" not in text


def test_models_that_would_have_no_history_are_not_compared(tmp_path: Path) -> None:
    """Items that training does not know, and events that are told by these alone."""
    shown = shop()["shown"].drop(columns=["price", "device"])
    shown["item_id"] = np.arange(len(shown)) // 2 + 1000
    config, text = guessed(tmp_path, {"shown": shown})
    assert "# ? ids without user and item" in text
    assert config["model"]["ids"] == []
    assert config["history"]["columns"] == ["item_id"]
    assert "din" not in config["compare"]["models"]


@pytest.mark.parametrize("name", ["rank", "nth"])
def test_a_rank_is_a_position_with_its_cost(tmp_path: Path, name: str) -> None:
    shown = shop()["shown"]
    shown = shown.sort_values(["search_id", "clicked"], ascending=[True, False], kind="stable")
    shown[name] = shown.groupby("search_id").cumcount() + 1
    config, text = guessed(tmp_path, {"shown": shown})
    assert {name: "position"} in config["features"]["candidate"]
    line = next(line for line in text.splitlines() if f"{{{name}: position}}" in line)
    assert f"{{{name}: {{numeric: log}}}}" in line
    assert "(.695, not .795)" in line
    found = re.search(r"AUC (\.?[\d.]+) here", line)
    assert found
    assert float(found[1]) == pytest.approx(roc_auc_score(shown.clicked, -shown[name]), abs=0.02)


def test_codes_are_categories(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    frames = shop()
    shown = frames["shown"].assign(
        shop_code=random.integers(1000, 1060, len(frames["shown"])),
        shelf=[f"{value:05d}" for value in random.integers(0, 60, len(frames["shown"]))],
        weight=random.integers(1, 900, len(frames["shown"])),
    )
    frames["items"] = frames["items"].assign(customer=random.integers(0, 25, ITEMS), cms_segid=range(100, 100 + ITEMS))
    config, _ = guessed(tmp_path, frames | {"shown": shown})
    assert config["features"]["candidate"] == [
        {"price": {"numeric": "log"}},
        "shop_code",
        "shelf",
        {"weight": {"numeric": "log"}},
    ]
    assert config["features"]["item"] == ["category", "customer"]


def test_figures_of_a_sample_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = shop()["shown"]
    assert "in the first" not in guessed(tmp_path, {"shown": shown})[1]
    monkeypatch.setattr(profiles, "ROWS_LOOKED_AT", 500)
    text = guessed(tmp_path, {"shown": shown})[1]
    assert f"# {len(shown):,} rows" in text
    assert f"user: user_id # {shown.user_id[:500].nunique()} values in the first 500 rows" in text
    assert f"label: clicked # {shown.clicked[:500].mean():.1%} of the rows are 1 in the first 500 rows" in text
    assert "shown_at # 2024-03-04 to 2024-03-23" in text  # of all rows


@pytest.mark.parametrize("by_day", [False, True])
def test_positives_alone_can_be_prepared(tmp_path: Path, by_day: bool) -> None:
    frames = shop()
    bought = frames["shown"][frames["shown"].clicked == 1].drop(columns=["clicked", "search_id"])
    bought = bought.assign(
        price=bought.item_id * 2.5 + 1 + np.arange(len(bought)) % 2, quantity=np.arange(len(bought)) % 3
    )
    if by_day:
        bought["shown_at"] = bought.shown_at.dt.strftime("%Y-%m-%d")
    manifest = prepared(tmp_path, {"bought": bought, "items": frames["items"], "users": frames["users"]})
    text = (tmp_path / "log.yaml").read_text()
    config = yaml.safe_load(text)
    requests = bought.groupby(["user_id", "shown_at"]).ngroups
    assert manifest.requests == requests
    negatives = config["negatives"]["per_request"]
    assert manifest.candidates == len(bought.drop_duplicates(["user_id", "shown_at", "item_id"])) + negatives * requests
    assert "price (bought.csv)" in text
    assert not features_of(config) & {"price", "quantity"}


def test_of_few_items_few_are_sampled(tmp_path: Path) -> None:
    bought = shop()["shown"][["user_id", "item_id", "shown_at"]]
    bought = bought[bought.item_id < 6].drop_duplicates(["user_id", "shown_at"])
    manifest = prepared(tmp_path, {"bought": bought})
    negatives = yaml.safe_load((tmp_path / "log.yaml").read_text())["negatives"]["per_request"]
    assert negatives == 5
    assert manifest.candidates == len(bought) * 6


def test_ratings_say_how_low_ones_become_negatives(tmp_path: Path) -> None:
    shown = shop()["shown"]
    ratings = shown[["user_id", "item_id", "shown_at"]].assign(rating=1 + np.arange(len(shown)) % 5)
    config, text = guessed(tmp_path, {"ratings": ratings})
    assert "label" not in config["data"]["impressions"]
    said = '# ? or: label: rating, positive_kinds: ["4", "5"]'
    assert said in text
    ratings["rating"] = ratings.rating.astype(str).where(np.arange(len(shown)) % 20 > 0, "n/a")
    assert said in guessed(tmp_path, {"ratings": ratings})[1]


def test_a_label_is_the_answer_and_not_its_denial(tmp_path: Path) -> None:
    shown = shop()["shown"]
    shown.insert(0, "nonclk", 1 - shown.clicked)
    config, text = guessed(tmp_path, {"shown": shown})
    assert config["data"]["impressions"]["label"] == "clicked"
    assert "# ? label: or nonclk?" in text
    config, _ = guessed(tmp_path, {"shown": shown.drop(columns="nonclk").replace({"clicked": {0: "no", 1: "yes"}})})
    assert config["data"]["impressions"]["positive_kinds"] == ["yes"]


def test_training_fits_the_log_and_compare_is_ready(tmp_path: Path) -> None:
    write_config(write(tmp_path, shop()), tmp_path / "log.yaml")
    config = yaml.safe_load((tmp_path / "log.yaml").read_text())
    assert config["training"]["batch_size"] == 64
    train = api.prepare(tmp_path / "log.yaml", tmp_path / "dataset").dataset.manifest.splits["train"]
    steps = config["training"]["epochs"] * train.impressions / 64
    assert 100 < steps < 2100
    assert len(config["compare"]["models"]) == 8
    quickly = ["training.epochs=1", "training.threads=1", "compare.seeds=1", "training.requests=0.2"]
    compared = api.compare(
        tmp_path / "log.yaml", tmp_path / "compared", dataset=tmp_path / "dataset", overrides=quickly
    )
    assert len(compared.models) == 8


def test_lists_of_equally_many_fractions_are_proposed_as_vectors(tmp_path: Path) -> None:
    """Beside them lists of codes, of different lengths, and of tags, which stay lists of values."""
    frames, random = shop(), np.random.default_rng(1)
    vectors = random.normal(size=(ITEMS, 24))
    lists: dict[str, Any] = {
        "title_vector": [None if place == 3 else row for place, row in enumerate(vectors.tolist())],
        "colours": random.integers(0, 5, size=(ITEMS, 2)).tolist(),
        "sizes": [row[: 1 + place % 3] for place, row in enumerate(vectors.tolist())],
        "tags": [["a", "b"] if place % 2 else ["b", "c"] for place in range(ITEMS)],
    }
    queries = dict(enumerate(random.normal(size=(REQUESTS, 3)).tolist()))
    frames["items"] = frames["items"].assign(**lists)
    frames["shown"] = frames["shown"].assign(query=frames["shown"].search_id.map(queries))
    for name, frame in frames.items():
        frame.to_parquet(tmp_path / f"{name}.parquet", index=False)
    frames["items"].to_json(tmp_path / "items.jsonl", orient="records", lines=True)
    for items in ("items.parquet", "items.jsonl"):
        paths = [tmp_path / f"{name}.parquet" for name in frames if name != "items"]
        text = guess_config([*paths, tmp_path / items], tmp_path)
        features = yaml.safe_load(text)["features"]
        assert {"title_vector": {"vector": 24, "projection": 16}} in features["item"], items
        assert [{name: "multi_valued"} in features["item"] for name in ("colours", "sizes", "tags")] == [True] * 3
        assert {"query": {"vector": 3, "projection": 3}} in features["context"]
    (tmp_path / "log.yaml").write_text(text)
    dataset = api.prepare(tmp_path / "log.yaml", tmp_path / "dataset").dataset
    assert dataset.column(dataset.field("item", "title_vector")).shape == (ITEMS + 1, 24)


def as_tree(root: Path, shown: pd.DataFrame, column: str) -> Path:
    for value, part in shown.groupby(column):
        (root / f"{column}={value}").mkdir(parents=True)
        part.drop(columns=column).to_parquet(root / f"{column}={value}" / "part-0.parquet", index=False)
    (root / "_SUCCESS").touch()
    return root


def test_a_tree_is_one_table_named_by_its_folder_with_the_folders_as_a_column(tmp_path: Path) -> None:
    frames = shop()
    tree = as_tree(tmp_path / "shown", frames.pop("shown"), "device")
    write_config([tree, *write(tmp_path, frames)], tmp_path / "musenet.yaml")
    config = yaml.safe_load((tmp_path / "musenet.yaml").read_text())
    assert config["name"] == "shown"
    assert config["data"]["impressions"]["path"] == "shown"
    assert "device" in config["features"]["context"]
    manifest = api.prepare(tmp_path / "musenet.yaml", tmp_path / "dataset").dataset.manifest
    together = tmp_path / "one"
    together.mkdir()
    one_file = prepared(together, shop())
    assert (manifest.candidates, manifest.vocabularies) == (one_file.candidates, one_file.vocabularies)


def test_days_as_folders_are_no_category(tmp_path: Path) -> None:
    frames = shop()
    shown = frames.pop("shown")
    tree = as_tree(tmp_path / "tree", shown.assign(dt=shown.shown_at.dt.date.astype(str)), "dt")
    text = guess_config([tree, *write(tmp_path, frames)], tmp_path)
    assert "left out: dt" in text
    assert yaml.safe_load(text)["data"]["impressions"]["time"] == "shown_at"
    assert "dt" not in features_of(yaml.safe_load(text))


def test_a_folder_is_one_table_whatever_its_files_are_called(tmp_path: Path) -> None:
    frames = shop()
    shown = frames.pop("shown")
    (tmp_path / "2024").mkdir()
    for place, part in enumerate((shown[:600], shown[600:])):
        part.to_csv(tmp_path / "2024" / f"{place}.csv", index=False)
    write_config([tmp_path / "2024", *write(tmp_path, frames)], tmp_path / "musenet.yaml")
    config = yaml.safe_load((tmp_path / "musenet.yaml").read_text())
    assert (config["name"], config["data"]["impressions"]["path"]) == ("2024", "2024")
    assert api.prepare(tmp_path / "musenet.yaml", tmp_path / "dataset").dataset.manifest.candidates == len(shown)
