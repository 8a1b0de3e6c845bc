"""Ali Display Ads on small files: exact tables, spellings, rules, both splits, and nothing from the future."""

import json
from datetime import UTC, datetime
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import polars as pl
import pytest

import musenet
from musenet.config.experiment import Experiment
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import MISSING
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.checks.checks import read_checks
from musenet.preparation.prepare import prepare
from musenet.recipe.recipe import Recipe
from musenet.sources.ali_ads import AliAds, AliAdsOptions
from musenet.sources.ali_ads_files import PROFILE
from musenet.sources.tables import Tables
from places import CONFIGS
from preparation.reference import Row, distinct_events, repeats
from sources.ads_files import FIRST_IMPRESSION, write_ads
from sources.reading import counts, values

pytestmark = pytest.mark.slow

CONFIG = CONFIGS / "ads.yaml"
DAY = 86_400
NOON = FIRST_IMPRESSION + DAY // 2
"""A Saturday."""

FILES = {
    "raw_sample": f"""user,time_stamp,adgroup_id,pid,nonclk,clk
1,{NOON},10,430548_1007,1,0
1,{NOON},11,430548_1007,0,1
2,{NOON + DAY},10,430539_1007,1,0
2,{NOON + DAY + 3600},12,430539_1007,0,1
""",
    "ad_feature": """adgroup_id,cate_id,campaign_id,customer,brand,price
10,100,1,7,500,170.0
11,101,1,7,NULL,0.01
12,102,2,8,502,99999999.0
""",
    "user_profile": f"""{",".join(["userid", *PROFILE])} 
1,0,5,2,5,,3,0,3
3,91,11,1,5,2,1,1,
""",
    "behavior_log": f"""user,time_stamp,btag,cate,brand
1,{NOON - 1},pv,100,500
2,{NOON},cart,102,502
4,{NOON},buy,100,501
""",
}


def write(folder: Path, **changed: str) -> Path:
    """The four files, some with other content."""
    folder.mkdir(exist_ok=True)
    for name, text in (FILES | changed).items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def more(name: str, *lines: object) -> str:
    """A file with further lines."""
    return FILES[name] + "".join(f"{line}\n" for line in lines)


def recipe_of(**parts: Any) -> Recipe:
    content = {
        "features": {"item": ["cate_id", "brand"], "context": ["pid", "hour"]},
        "history": {"columns": ["cate_id", "brand"]},
        "split": {"parts": 7, "test": 1},
    }
    return Recipe.model_validate(content | parts)


def source_of(folder: Path, recipe: Recipe | None = None, **options: Any) -> AliAds:
    return AliAds(AliAdsOptions(source="ali_ads", folder=str(folder), **options), recipe or recipe_of())


def read(folder: Path, **options: Any) -> Tables:
    return source_of(folder, **options).tables(Engine(ibis.duckdb.connect()))


def rows_of(tables: Tables) -> dict[str, list[Any]]:
    """Everything a source yields."""
    relations = {name: getattr(tables, name) for name in ("impressions", "events", "users", "items")}
    return {name: values(table, *sorted(table.columns)) for name, table in relations.items()}


def test_every_table_is_as_the_files_say(tmp_path: Path) -> None:
    tables = read(write(tmp_path))
    second = 1_000_000
    assert values(tables.impressions, "_user", "_time", "_item", "_label", "pid", "hour", "weekday") == [
        (1, NOON * second, 10, 0, "430548_1007", 12, 5),
        (1, NOON * second, 11, 1, "430548_1007", 12, 5),
        (2, (NOON + DAY) * second, 10, 0, "430539_1007", 12, 6),
        (2, (NOON + DAY + 3600) * second, 12, 1, "430539_1007", 13, 6),
    ]
    assert tables.events is not None
    assert values(tables.events, "_user", "_time", "_kind", "_item", "cate_id", "brand") == [
        (1, (NOON - 1) * second, "pv", None, 100, 500),
        (1, NOON * second, "click", 11, 101, None),
        (2, NOON * second, "cart", None, 102, 502),
        (2, (NOON + DAY + 3600) * second, "click", 12, 102, 502),
        (4, NOON * second, "buy", None, 100, 501),
    ]
    assert tables.items is not None
    assert values(tables.items, "_item", "cate_id", "campaign_id", "customer", "brand", "price") == [
        (10, 100, 1, 7, 500, 170.0),
        (11, 101, 1, 7, None, 0.01),
        (12, 102, 2, 8, 502, 10_000.0),
    ]
    assert tables.users is not None
    assert values(tables.users, "_user", *PROFILE) == [(1, 0, 5, 2, 5, None, 3, 0, 3), (3, 91, 11, 1, 5, 2, 1, 1, None)]
    assert counts(tables) == {
        ("items", "brand is NULL: made missing"): 1,
        ("items", "price above 10000: clipped"): 1,
    }
    assert (tables.user_column, tables.item_column, tables.timezone) == ("user", "adgroup_id", "Asia/Shanghai")


def test_the_first_and_the_last_second_of_the_log_are_of_their_days_in_china(tmp_path: Path) -> None:
    lines = [f"9,{second},10,430548_1007,1,0" for second in (FIRST_IMPRESSION, FIRST_IMPRESSION + 8 * DAY - 1)]
    tables = read(write(tmp_path, raw_sample=more("raw_sample", *lines)))
    ends = tables.impressions.filter(tables.impressions["_user"] == 9)
    assert values(ends, "_time", "hour", "weekday") == [
        (1_494_000_000_000_000, 0, 5),
        (1_494_691_199_000_000, 23, 5),
    ]


SPELLINGS = {
    "raw_sample": [
        ("user,", "user_id,"),
        ("user,", "userId,"),
        ("user,", "nick,"),
        ("user,", " USER ,"),
        ("user,", "\ufeffuser,"),
        ("time_stamp", "timestamp"),
        ("time_stamp", "behavior_time"),
        ("nonclk", "noclk"),
    ],
    "ad_feature": [("cate_id", "cate"), ("customer", "customer_id"), ("brand", "brand_id"), ("NULL", "")],
    "user_profile": [("userid", "user"), ("new_user_class_level ", "new_user_class_level"), ("userid", "\ufeffuserid")],
    "behavior_log": [
        ("user,", "nick,"),
        ("time_stamp", "behavior_time"),
        ("cate,", "cate_id,"),
        ("brand", "brand_id"),
        (",pv,", ",ipv,"),
        (",pv,", ", PV,"),
    ],
}


ROUNDS = list(zip_longest(*([(name, *pair) for pair in pairs] for name, pairs in SPELLINGS.items())))
"""Every spelling once, those of different files together."""


@pytest.fixture(scope="module")
def as_published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    return rows_of(read(write(tmp_path_factory.mktemp("published"))))


@pytest.mark.parametrize("spelt", ROUNDS, ids=lambda spelt: "-".join(pair[2].strip(" ,") for pair in spelt if pair))
def test_every_spelling_means_the_same(
    spelt: tuple[tuple[str, str, str] | None, ...], as_published: dict[str, list[Any]], tmp_path: Path
) -> None:
    changed = {}
    for name, published, other in filter(None, spelt):
        assert published in FILES[name]
        changed[name] = FILES[name].replace(published, other, 1)
    assert rows_of(read(write(tmp_path / "other", **changed))) == as_published


def test_the_behaviour_log_may_be_called_raw(as_published: dict[str, list[Any]], tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "behavior_log.csv").rename(tmp_path / "raw_behavior_log.csv")
    assert rows_of(read(tmp_path)) == as_published


BROKEN = {
    "raw_sample": [
        (f",{NOON},10,430548_1007,1,0", "user is missing", 1),
        (f"nobody,{NOON},10,430548_1007,1,0", "user is not a whole number", 1),
        ("5,soon,10,430548_1007,1,0", "time_stamp is not a whole number", 1),
        (f"5,{NOON},,430548_1007,1,0", "adgroup_id is missing", 1),
        (f"5,{NOON},10,,1,0", "pid is missing", 1),
        (f"5,{NOON},10,430548_1007,1,2", "clk is not 0 or 1", 1),
        (f"5,{NOON},10,430548_1007,,0", "nonclk is missing", 1),
        (f"5,{NOON},10,430548_1007,1,1", "nonclk is not 1 - clk", 2),
        (f"5,{NOON},10,430548_1007,0,0", "nonclk is not 1 - clk", 0),
    ],
    "ad_feature": [
        ("10,1,1,1,1,1", "repeats an id: the first is kept", 1),
        ("13,car,1,1,1,1", "cate_id is not a whole number", 1),
        ("14,1,1,1,1,cheap", "price is not a number", 1),
    ],
    "user_profile": [
        ("1,1,1,1,1,1,1,1,1", "repeats an id: the first is kept", 1),
        ("5,1,1,female,1,1,1,1,1", "final_gender_code is not a whole number", 1),
        (",1,1,1,1,1,1,1,1", "user is missing", 1),
    ],
    "behavior_log": [
        (f"1,{NOON},look,100,500", "btag is not pv, cart, fav, buy", 1),
        (f"1,{NOON},,100,500", "btag is missing", 1),
        ("1,-2100000000,pv,100,500", "time_stamp is outside the log's 22 days", 4),
        ("1,1470000000,pv,100,500", "", 0),
        ("1,1492790399,pv,100,500", "", 0),
        ("1,1494691200,pv,100,500", "", 0),
        (f"1,{NOON},ipv,100,500", "btag is ipv: made pv", 1),
        (f"1,{NOON},pv,car,500", "cate_id is not a whole number", 1),
    ],
}
RELATIONS = {
    "raw_sample": "impressions",
    "ad_feature": "items",
    "user_profile": "users",
    "behavior_log": "events",
}
SOUND = {
    "raw_sample": [f"6,{NOON + row},10,430548_1007,1,0" for row in range(60)],
    "ad_feature": [f"{row},100,1,1,500,1.0" for row in range(20, 80)],
    "user_profile": [f"{row},0,1,1,1,,1,0," for row in range(20, 80)],
    "behavior_log": [f"6,{NOON + row},pv,100,500" for row in range(60)],
}


@pytest.mark.parametrize("name", FILES)
def test_every_rule_is_counted_and_what_is_refused_is_kept(name: str, tmp_path: Path) -> None:
    lines = [*(line for line, _, _ in BROKEN[name]), *SOUND[name]]
    tables = read(write(tmp_path, **{name: more(name, *lines)}))
    found = {reason: rows for (relation, reason), rows in counts(tables).items() if relation == RELATIONS[name]}
    wanted = {reason: rows for _, reason, rows in BROKEN[name] if rows}
    assert wanted.items() <= found.items()
    assert tables.rejected is not None
    refused = [json.loads(row) for row in values(tables.rejected, "row")]
    mended = {"btag is ipv: made pv", "repeats an id: the first is kept"}
    assert len(refused) == sum(rows for reason, rows in wanted.items() if reason not in mended)
    kept = rows_of(tables)[RELATIONS[name]]
    own = [row for row in kept if "click" not in row] if name == "behavior_log" else kept
    dropped = len(refused) + wanted.get("repeats an id: the first is kept", 0)
    assert len(own) == len(FILES[name].splitlines()) - 1 + len(lines) - dropped


def test_the_borders_of_the_22_days_belong_to_them(tmp_path: Path) -> None:
    borders = [1_492_790_400, 1_494_691_199]
    lines = [f"9,{second},pv,1,1" for second in (*borders, borders[0] - 1, borders[1] + 1)]
    tables = read(write(tmp_path, behavior_log=more("behavior_log", *lines)))
    assert tables.events is not None
    assert values(tables.events.filter(tables.events["_user"] == 9), "_time") == [each * 1_000_000 for each in borders]


def test_a_log_of_which_nothing_is_of_the_22_days_is_a_mistake(tmp_path: Path) -> None:
    in_milliseconds = f"user,time_stamp,btag,cate,brand\n1,{NOON}000,pv,1,1\n"
    with pytest.raises(DataError, match=r"behavior_log\.csv: 1 of 1 rows .* outside the log's 22 days"):
        read(write(tmp_path, behavior_log=in_milliseconds))


def test_the_behaviour_log_can_be_done_without(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "behavior_log.csv").unlink()
    with pytest.raises(DataError, match=r"lacks behavior_log\.csv.*data\.behavior_log: false"):
        read(folder)
    tables = read(folder, behavior_log=False)
    assert tables.events is not None
    assert values(tables.events, "_user", "_kind", "_item") == [(1, "click", 11), (2, "click", 12)]
    with pytest.raises(DataError, match=r"history\.kinds: without data\.behavior_log there are only clicks"):
        read(folder, behavior_log=False, recipe=recipe_of(history={"kinds": ["pv", "click"]}))


def test_files_that_are_missing_packed_or_doubled_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path / "nowhere")
    folder = write(tmp_path)
    (folder / "raw_behavior_log.csv").write_text(FILES["behavior_log"])
    with pytest.raises(DataError, match=r"behavior_log\.csv and raw_behavior_log\.csv are both there"):
        read(folder)
    (folder / "raw_behavior_log.csv").unlink()
    (folder / "ad_feature.csv").rename(folder / "ad_feature.csv.tar.gz")
    with pytest.raises(DataError, match=r"ad_feature\.csv\.tar\.gz is still packed.*tar -xzf ad_feature\.csv\.tar\.gz"):
        read(folder)
    (folder / "ad_feature.csv.tar.gz").unlink()
    with pytest.raises(DataError, match=r"lacks ad_feature\.csv"):
        read(folder)


def test_columns_that_are_missing_or_doubled_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ad_feature\.csv: there is no column 'price'"):
        read(write(tmp_path, ad_feature=FILES["ad_feature"].replace("price", "cost")))
    with pytest.raises(DataError, match=r"behavior_log\.csv: columns cate and cate_id mean the same"):
        read(write(tmp_path, behavior_log=FILES["behavior_log"].replace("brand", "cate_id")))


def test_the_log_is_read_from_its_file_rather_than_copied_as_text(tmp_path: Path) -> None:
    connection = ibis.duckdb.connect()
    source_of(write(tmp_path)).tables(Engine(connection))
    stored = connection.raw_sql("SELECT column_name, data_type FROM duckdb_columns() WHERE column_name = 'time_stamp'")
    types = [kind for _, kind in stored.fetchall()]
    tables = connection.raw_sql("SELECT table_name FROM duckdb_tables()").fetchall()
    assert "BIGINT" in types
    assert not [name for (name,) in tables if "text" in name]


def test_the_fingerprint_follows_files_and_options(tmp_path: Path) -> None:
    before = source_of(write(tmp_path)).fingerprint()
    assert source_of(tmp_path).fingerprint() == before != source_of(tmp_path, behavior_log=False).fingerprint()
    write(tmp_path, user_profile=more("user_profile", "5,1,1,1,1,1,1,1,1"))
    assert source_of(tmp_path).fingerprint() != before


def random_files(folder: Path, seed: int) -> Path:
    """Few users, ads, brands and seconds, so that everything meets everything in the same second."""
    random = np.random.default_rng(seed)
    seconds = np.arange(NOON, NOON + 12)
    pages = {(int(random.integers(3)), int(random.choice(seconds))) for _ in range(25)}
    shown = [
        f"{user},{time},{ad},430548_1007,{1 - clk},{clk}"
        for user, time in sorted(pages)
        for ad, clk in zip(random.choice(6, 3, replace=False), random.integers(2, size=3), strict=True)
    ]
    ads = [f"{ad},{ad % 3},1,1,{['NULL', 7, 8][ad % 3 if ad < 3 else ad % 2]},1.0" for ad in range(6)]
    log = [
        f"{random.integers(3)},{random.choice(seconds)},{random.choice(['pv', 'buy'])},{random.integers(3)},"
        f"{random.choice([7, 8])}"
        for _ in range(40)
    ]
    header = {name: text.splitlines()[0] for name, text in FILES.items()}
    lines = {"raw_sample": shown, "ad_feature": ads, "behavior_log": [*log, *log[:5]]}
    return write(folder, **{name: "\n".join([header[name], *rows]) + "\n" for name, rows in lines.items()})


KEYS: list[dict[str, Any]] = [
    {"key": ["cate_id", "brand"]},
    {"key": ["cate_id", "brand"], "optional": ["brand"], "kinds": ["pv", "cart", "fav", "buy"]},
    {"key": ["cate_id"], "kinds": ["pv"]},
    {"key": ["brand"], "kinds": ["buy", "click"]},
    {"key": ["adgroup_id"], "kinds": ["click"]},
]


@pytest.mark.parametrize(("seed", "repeat"), [(1 + place % 2, key) for place, key in enumerate(KEYS)])
def test_repeats_count_what_lies_in_strictly_earlier_seconds(seed: int, repeat: dict[str, Any], tmp_path: Path) -> None:
    folder = random_files(tmp_path / "log", seed)
    log = pl.read_csv(folder / "behavior_log.csv")
    ads = {row["adgroup_id"]: row for row in pl.read_csv(folder / "ad_feature.csv", null_values="NULL").to_dicts()}
    shown = [
        {"_user": row["user"], "_time": row["time_stamp"], "clk": row["clk"], **ads[row["adgroup_id"]]}
        for row in pl.read_csv(folder / "raw_sample.csv").to_dicts()
    ]
    raw: list[Row] = [
        {
            "_user": user,
            "_time": time,
            "_kind": kind,
            "_item": None,
            "adgroup_id": None,
            "cate_id": cate,
            "brand": brand,
        }
        for user, time, kind, cate, brand in log.iter_rows()
    ]
    raw += [{**row, "_kind": "click", "_item": row["adgroup_id"]} for row in shown if row["clk"]]
    kinds = repeat.get("kinds")
    if kinds:  # only those that happened to occur can be asked for
        kinds = [kind for kind in kinds if kind in {row["_kind"] for row in raw}]
    events = distinct_events(raw, ["cate_id", "brand"], kinds)
    moments = sorted(row["_time"] for row in shown)
    valid, test = (datetime.fromtimestamp(moments[len(moments) * part // 7], UTC) for part in (5, 6))
    recipe = recipe_of(
        repeat={**repeat, "kinds": kinds}, split={"valid_from": valid.isoformat(), "test_from": test.isoformat()}
    )
    prepared = tmp_path / "dataset"
    dataset = prepare(source_of(folder, recipe), recipe, prepared).dataset
    batch = BatchBuilder(dataset).build(np.arange(dataset.manifest.requests))
    requests, items = dataset.keys("requests"), dataset.keys("items")
    assert batch.repeat_features.shape == (len(shown), 3)
    for place, request in enumerate(batch.request.tolist()):
        ad = items["_item"][int(dataset.candidates.item[place])].as_py()
        time = requests["_time"][request].as_py() // 1_000_000
        candidate = {"_user": requests["_user"][request].as_py(), **ads[ad]}
        wanted = repeats(events, candidate, time, repeat["key"], 0, None, repeat.get("optional", ()))
        assert bool(batch.repeat_indicator[place]) == wanted.indicator
        assert float(batch.repeat_features[place, 1]) == pytest.approx(np.log1p(wanted.count))
    assert 0 < batch.repeat_indicator.float().mean() < 1


def test_what_happens_later_changes_no_event_before(tmp_path: Path) -> None:
    """Clicks are events too: those of a later second must not be seen in what was known before."""
    moment = NOON + 6
    one = random_files(tmp_path / "one", 3)
    shown = pl.read_csv(one / "raw_sample.csv")
    other = random_files(tmp_path / "other", 3)
    later = pl.col("time_stamp") >= moment
    swapped = shown.with_columns(
        pl.when(later).then(1 - pl.col(name)).otherwise(name).alias(name) for name in ("nonclk", "clk")
    )
    swapped.write_csv(other / "raw_sample.csv")
    before = []
    for folder in (one, other):
        events = read(folder).events
        assert events is not None
        before.append(values(events.filter(events["_time"] < moment * 1_000_000), *sorted(events.columns)))
    assert before[0] == before[1]
    assert rows_of(read(one))["events"] != rows_of(read(other))["events"]


@pytest.fixture(scope="module")
def ads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_ads(tmp_path_factory.mktemp("ads"), impressions=20_000, events=200_000)


@pytest.fixture(scope="module")
def experiment(ads: Path) -> Experiment:
    """The ready configuration on the generated files."""
    small = ["data.folder=" + str(ads), "model.hidden=[16]", "model.embedding=4", "training.batch_size=512"]
    small += ["training.threads=1", "training.epochs=2", "training.embedding_learning_rate=0.02"]
    return musenet.load(CONFIG, small)


@pytest.fixture(scope="module")
def prepared(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return musenet.prepare(experiment, tmp_path_factory.mktemp("prepared") / "ads").dataset


def test_a_generated_log_is_prepared_by_the_ready_configuration(prepared: Dataset, ads: Path) -> None:
    shown = pl.read_csv(ads / "raw_sample.csv")
    log = pl.read_csv(ads / "behavior_log.csv")
    manifest = prepared.manifest
    assert manifest.candidates == len(shown)
    assert manifest.requests == shown.select("user", "time_stamp").n_unique()
    inside = log.filter(pl.col("time_stamp").is_between(1_492_790_400, 1_494_691_199))
    assert manifest.events == inside.n_unique()
    rows = {(row.table, row.what): row.rows for row in read_checks(prepared.folder).rows}
    assert rows["events", "dropped: exact duplicates"] == len(inside) - inside.n_unique()
    assert rows["events", "dropped: time_stamp is outside the log's 22 days"] == len(log) - len(inside)
    assert rows["events", "dropped: of kinds that do not count"] == shown["clk"].sum()
    fields = {(field.side, field.name): field for field in manifest.fields}
    for name in ("cate_id", "brand"):
        assert fields["item", name].vocabulary == fields["history", name].vocabulary


def test_users_without_a_profile_have_a_code_and_a_scenario_of_their_own(prepared: Dataset, ads: Path) -> None:
    profiles = pl.read_csv(ads / "user_profile.csv")["userid"].to_list()
    users = prepared.keys("users")["_user"].to_pylist()
    unknown = np.array([user is not None and user not in profiles for user in users])
    assert unknown.any()
    for name in ("final_gender_code", "shopping_level", "age_level"):
        codes = prepared.column(prepared.field("user", name))
        assert (codes[unknown] == MISSING).all()
        known = ~unknown
        known[0] = False  # the row of users never seen
        assert (codes[known] != MISSING).all()
    assert len(prepared.manifest.predefined_scenarios or []) == 4


def test_the_paper_s_split_has_seven_equal_parts_by_time(prepared: Dataset, ads: Path) -> None:
    moments = pl.read_csv(ads / "raw_sample.csv")["time_stamp"].sort()
    checks: dict[str, Any] = {period.split: period for period in read_checks(prepared.folder).periods}
    assert sum(period.impressions for period in checks.values()) == len(moments)
    for name, parts in (("train", 5), ("valid", 1), ("test", 1)):
        # A page is never cut in two.
        assert abs(checks[name].impressions - len(moments) * parts / 7) <= 20
    periods = [checks[name] for name in ("train", "valid", "test")]
    for earlier, later in pairwise(periods):
        assert (earlier.last_time or 0) < (later.first_time or 0)


def test_the_public_split_is_by_days_in_china(experiment: Experiment, ads: Path, tmp_path: Path) -> None:
    public = musenet.load(experiment, ["split={valid_from: 2017-05-12, test_from: 2017-05-13}"])
    found = musenet.prepare(public, tmp_path / "public").checks.periods
    day = (pl.read_csv(ads / "raw_sample.csv")["time_stamp"] - FIRST_IMPRESSION) // DAY
    assert [period.impressions for period in found] == [(day < 6).sum(), (day == 6).sum(), (day == 7).sum()]


def test_it_trains_and_tells_clicks_apart(experiment: Experiment, prepared: Dataset, tmp_path: Path) -> None:
    run = musenet.train(experiment, tmp_path / "run", dataset=prepared.folder)
    evaluation = run.evaluate(resamples=20)
    assert evaluation.impressions == read_checks(prepared.folder).periods[2].impressions
    assert evaluation.auc.value > 0.6
