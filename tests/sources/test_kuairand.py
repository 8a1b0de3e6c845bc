"""KuaiRand on small generated files of both schemas, with every trap of the real ones planted."""

import csv
import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musenet.dataset.builder import BatchBuilder
from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.preparation.prepare import prepare
from musenet.recipe.recipe import Recipe
from musenet.sources.kuairand import LAST_DAYS_BEGIN, LONG_VIEW_TAKES, KuaiRand, KuaiRandOptions
from musenet.sources.tables import Tables
from sources.reading import counts, values

pytestmark = pytest.mark.slow

Rows = list[dict[str, Any]]

BEGIN = LAST_DAYS_BEGIN // 1000  # milliseconds
SECOND, DAY = 1000, 86_400_000
CUT = BEGIN + 6 * DAY
OUTCOMES = {"long_view", "is_like", "is_click", "play_time_ms", "is_follow", "profile_stay_time", "date", "hourmin"}
RANGES = {"follow_user_num_range": "(0,10]", "register_days_range": "730+"}


def recipe_of(**parts: Any) -> Recipe:
    content = {
        "features": {"item": ["tag", {"tags": "multi_valued"}], "context": ["tab", "hour"]},
        "history": {"columns": ["video_id", "tag"]},
        "repeat": {"key": ["tag"], "recency": False},
        "split": {"valid_from": _local(BEGIN + 5 * DAY), "test_from": _local(CUT)},
        "predefined_scenario": ["tab"],
    }
    return Recipe.model_validate(content | parts)


def _local(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, ZoneInfo("Asia/Shanghai")).replace(tzinfo=None).isoformat()


def shown(user: int, video: int, time_ms: int, **changes: Any) -> dict[str, Any]:
    """A row of a log."""
    row = {"user_id": user, "video_id": video, "date": 20220425, "hourmin": 800, "time_ms": time_ms, "tab": 1}
    return row | {"duration_ms": 20_000, "is_click": 0, "long_view": 0, "is_like": 0} | changes


def random_rows(begin: int, end: int, count: int, seed: int) -> Rows:
    random = np.random.default_rng(seed)
    times = np.sort(random.integers(begin, end, count)).tolist()
    times[0] = begin
    return [
        shown(
            *(int(random.integers(4)), int(random.integers(12)), time),
            tab=int(random.integers(3)),
            is_click=int(random.random() < 0.5),
            long_view=int(random.random() < 0.4),
        )
        for time in times
    ]


USERS: Rows = [
    {"user_id": user, "user_active_degree": "full_active", "is_live_streamer": 1 if user == 2 else -124}
    | {"follow_user_num": 5 * user, "onehot_feat4": None if user == 0 else float(user)}
    | RANGES
    for user in range(6)
]
VIDEOS: Rows = [
    {"video_id": video, "author_id": 100 + video, "video_type": "NORMAL", "upload_type": "Web"}
    | {"visible_status": 0.0, "video_duration": None if video == 3 else 20_000.5, "music_id": 9_155_697_141}
    | {"tag": [None, "2", "12,65", "2"][video % 4]}
    for video in range(12)
]
SEQUENCES: Rows = [
    {"user_id": user, "history_len": 9, "last_time_ms": BEGIN - DAY, "watch_seq": [1, 1, 5], "like_seq": []}
    | {"long_watch_seq": sequence}
    for user, sequence in enumerate([[1, 2, 2, 5], [], [6], [2, 1, 2]])
]


def write_cut_down(folder: Path, **changed: Rows) -> Path:
    tables = {
        "val": [*random_rows(BEGIN, CUT, 60, 1)],
        "test": [*random_rows(CUT, CUT + 8 * DAY, 40, 2)],
        "user_sequences": SEQUENCES,
        "user_features_pure": USERS,
        "video_features_basic_pure": VIDEOS,
    } | changed
    folder.mkdir(exist_ok=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")
    return folder


def write_published(folder: Path, version: str = "pure", **changed: Rows) -> Path:
    tables = {
        "log_standard_4_08_to_4_21": random_rows(BEGIN - 16 * DAY, BEGIN - 3 * DAY, 50, 3),
        "log_standard_4_22_to_5_08": random_rows(BEGIN - 2 * DAY, CUT + 8 * DAY, 150, 1),
        "user_features": USERS,
        "video_features_basic": VIDEOS,
    } | changed
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    for name, rows in tables.items():
        more = {"is_follow": 0, "play_time_ms": 9, "profile_stay_time": 0, "is_rand": 0}
        with (data / f"{name}_{version}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0] | (more if name.startswith("log_") else {}))
            writer.writeheader()
            writer.writerows(row | (more if name.startswith("log_") else {}) for row in rows)
    return folder


def read(folder: Path, recipe: Recipe | None = None, **options: Any) -> Tables:
    chosen = KuaiRandOptions(source="kuairand", folder=str(folder), **options)
    return KuaiRand(chosen, recipe or recipe_of()).tables(Engine(ibis.duckdb.connect()))


def events(tables: Tables, user: int) -> list[tuple[int, int]]:
    """Time and video of a user's events in order."""
    assert tables.events is not None
    found: list[tuple[int, int]] = values(tables.events.filter(tables.events["_user"] == user), "_time", "_item")
    return found


WRITERS = [write_cut_down, write_published]


@pytest.mark.parametrize("write", WRITERS)
def test_nothing_but_the_label_tells_what_came_of_an_impression(write: Callable[[Path], Path], tmp_path: Path) -> None:
    tables = read(write(tmp_path))
    roles = {"_user", "_item", "_time", "_label", "_request"}
    assert set(tables.impressions.columns) == roles | {"tab", "hour", "weekday"}
    assert tables.events is not None
    assert set(tables.events.columns) == {"_user", "_time", "_item", "_kind"}
    for table in (tables.users, tables.items):
        assert table is not None
        assert not OUTCOMES & set(table.columns)


def test_statistics_of_the_whole_month_are_not_even_opened(tmp_path: Path) -> None:
    folder = write_published(tmp_path)
    (folder / "data" / "video_features_statistic_pure.csv").write_bytes(b"\xff\xfe")
    (folder / "data" / "log_random_4_22_to_5_08_pure.csv").write_bytes(b"\xff\xfe")
    assert read(folder).impressions.count().to_pyarrow().as_py() == 200


@pytest.mark.parametrize("write", WRITERS)
def test_doubled_rows_count_once_and_the_first_filed_stays(write: Callable[..., Path], tmp_path: Path) -> None:
    first = shown(1, 1, BEGIN + SECOND, long_view=1, is_click=1, hourmin=700)
    rows = [first | {"is_click": 0, "hourmin": 900}, first, first, shown(1, 2, BEGIN + 2 * SECOND)]
    name = "val" if write is write_cut_down else "log_standard_4_22_to_5_08"
    tables = read(write(tmp_path, **{name: rows}))
    of_time = tables.impressions.filter(tables.impressions["_time"] == (BEGIN + SECOND) * 1000)
    assert values(of_time, "_item", "_label") == [(1, 1)]
    assert counts(tables)["impressions", "doubled: same user, video and time"] == 2
    assert len([time for time, _ in events(tables, 1) if time == (BEGIN + SECOND) * 1000 + LONG_VIEW_TAKES]) == 1


def test_validation_rows_not_before_the_test_are_no_impressions_but_events(tmp_path: Path) -> None:
    """Upstream cut by the date of filing."""
    late = [shown(1, 1, CUT, long_view=1), shown(1, 2, CUT + 5 * SECOND), shown(1, 5, CUT - 1)]
    tables = read(write_cut_down(tmp_path, val=late, test=[shown(2, 2, CUT), shown(2, 1, CUT + DAY, date=20220424)]))
    assert values(tables.impressions, "_time", "_user") == [
        ((CUT - 1) * 1000, 1),
        (CUT * 1000, 2),
        ((CUT + DAY) * 1000, 2),
    ]
    assert counts(tables)["impressions", "of val.parquet, but not before test.parquet"] == 2
    assert events(tables, 1)[-1:] == [(CUT * 1000 + LONG_VIEW_TAKES, 1)]


def test_sequences_come_before_everything_shown_in_their_order(tmp_path: Path) -> None:
    tables = read(write_cut_down(tmp_path), grow_history=False)
    assert [video for _, video in events(tables, 3)] == [2, 1, 2]
    assert [video for _, video in events(tables, 0)] == [1, 2, 5]
    assert counts(tables)["sequences", "doubled: the same video twice running"] == 1
    times = [time for user in range(4) for time, _ in events(tables, user)]
    assert max(times) == (BEGIN - DAY) * 1000
    assert all(len({time for time, _ in events(tables, user)}) == len(events(tables, user)) for user in range(4))


def test_a_sequence_that_does_not_end_before_the_first_impression_is_left_out(tmp_path: Path) -> None:
    ends = [BEGIN + DAY - 1, BEGIN + DAY, BEGIN + 2 * DAY, BEGIN + 9 * DAY]
    sequences = [
        row | {"last_time_ms": end, "long_watch_seq": [1, 2]} for row, end in zip(SEQUENCES, ends, strict=True)
    ]
    val = [shown(user, 4, BEGIN + DAY) for user in range(3)]  # user 3 is never shown anything
    tables = read(write_cut_down(tmp_path, val=val, test=[shown(0, 4, CUT)], user_sequences=sequences))
    assert [len(events(tables, user)) for user in range(4)] == [2, 0, 0, 2]
    assert counts(tables)["sequences", "end not before the user's first impression"] == 2


def test_users_without_sequences_or_features_are_kept(tmp_path: Path) -> None:
    tables = read(write_cut_down(tmp_path, val=[shown(5, 1, BEGIN), shown(77, 1, BEGIN)]))
    assert values(tables.impressions, "_user")[-2:] == [5, 77]
    assert events(tables, 5) == events(tables, 77) == []


def test_long_views_count_once_they_can_be_known(tmp_path: Path) -> None:
    rows = [shown(1, 7, BEGIN + DAY, long_view=1), shown(1, 6, BEGIN + 2 * DAY, is_click=1, is_like=1)]
    tables = read(write_cut_down(tmp_path, val=rows, test=[shown(2, 2, CUT)]))
    assert events(tables, 1) == [((BEGIN + DAY) * 1000 + 18_000_000, 7)]
    assert events(read(tmp_path, grow_history=False), 1) == []


def test_published_histories_can_stop_where_the_sequences_do(tmp_path: Path) -> None:
    rows = [shown(1, 7, BEGIN - DAY, long_view=1), shown(1, 6, BEGIN, long_view=1)]
    folder = write_published(
        tmp_path, log_standard_4_22_to_5_08=rows, log_standard_4_08_to_4_21=[shown(3, 1, BEGIN - 9 * DAY)]
    )
    assert [video for _, video in events(read(folder), 1)] == [7, 6]
    assert [video for _, video in events(read(folder, grow_history=False), 1)] == [7]


@pytest.mark.parametrize("write", WRITERS)
def test_unknown_values_are_missing_and_codes_are_whole(write: Callable[[Path], Path], tmp_path: Path) -> None:
    tables = read(write(tmp_path))
    assert tables.users is not None
    assert tables.items is not None
    users = {row["_user"]: row for row in tables.users.to_pyarrow().to_pylist()}
    assert [users[user]["is_live_streamer"] for user in range(3)] == [None, None, 1]
    assert [users[user]["onehot_feat4"] for user in range(3)] == [None, 1, 2]
    assert users[1]["follow_user_num_range"] == "(0,10]"
    assert counts(tables)["users", "is_live_streamer is -124, unknown: made missing"] == 5
    items = {row["_item"]: row for row in tables.items.to_pyarrow().to_pylist()}
    assert [items[video]["tag"] for video in range(3)] == [None, "2", "12,65"]
    assert items[2]["tags"] == "12,65"
    assert items[2]["music_id"] == 9_155_697_141
    assert [items[video]["video_duration"] for video in (2, 3)] == [20_000.5, None]


@pytest.mark.parametrize("version", ["pure", "1k"])
def test_published_files_by_hand(version: str, tmp_path: Path) -> None:
    early = [shown(1, 2, BEGIN - 9 * DAY, long_view=1, hourmin=0)]
    later = [shown(1, 6, BEGIN + SECOND, is_click=1, tab=4), shown(1, 2, BEGIN + SECOND, tab=4)]
    folder = write_published(
        tmp_path, version, log_standard_4_08_to_4_21=early, log_standard_4_22_to_5_08=[*later, shown(1, 2, BEGIN)]
    )
    tables = read(folder)
    # 2022-04-24T15:05:41 UTC was a Sunday night in China, whatever the server's hour says.
    assert values(tables.impressions.filter(tables.impressions["_time"] >= BEGIN * 1000), "_item", "_label", "tab") == [
        *[(2, 0, 1), (2, 0, 4), (6, 1, 4)]
    ]
    last = tables.impressions.filter(tables.impressions["_time"] == BEGIN * 1000)
    assert values(last, "hour", "weekday") == [(23, 6)]
    assert events(tables, 1) == [((BEGIN - 9 * DAY) * 1000 + LONG_VIEW_TAKES, 2)]
    assert (tables.user_column, tables.item_column, tables.timezone) == ("user_id", "video_id", "Asia/Shanghai")


def test_a_request_is_a_user_s_rows_of_one_moment_and_one_scenario(tmp_path: Path) -> None:
    rows = [shown(1, 1, BEGIN), shown(1, 2, BEGIN), shown(1, 3, BEGIN, tab=6), shown(2, 1, BEGIN)]
    tables = read(write_cut_down(tmp_path, val=rows))
    at_begin = tables.impressions.filter(tables.impressions["_time"] == BEGIN * 1000)
    requests = dict(values(at_begin.group_by("_request").agg(rows=at_begin.count()), "_request", "rows"))
    assert sorted(requests.values()) == [1, 1, 2]


@pytest.mark.parametrize("grow", [True, False])
def test_nothing_of_the_future_changes_the_past(grow: bool, tmp_path: Path) -> None:
    """Whatever happens from a moment on, what was recorded of the time before stays the same."""
    val, test = random_rows(BEGIN, CUT, 60, 1), random_rows(CUT, CUT + 8 * DAY, 40, 2)
    moment = (CUT + 2 * DAY) * 1000
    changed = [
        row | {"is_click": 1 - row["is_click"], "long_view": 1 - row["long_view"], "is_like": 1}
        if row["time_ms"] * 1000 >= moment
        else row
        for row in test
    ]
    one, other = (
        read(write_cut_down(tmp_path / name, val=val, test=rows), grow_history=grow)
        for name, rows in (("one", test), ("other", changed))
    )
    assert one.events is not None
    assert other.events is not None
    for pair in ((one.impressions, other.impressions), (one.events, other.events)):
        before = [values(table.filter(table["_time"] < moment), *sorted(table.columns)) for table in pair]
        assert before[0] == before[1]
        assert before[0]


def test_a_prepared_dataset_sees_repeats_of_the_tag_but_no_recency(tmp_path: Path) -> None:
    folder = write_cut_down(tmp_path / "log")
    source = KuaiRand(KuaiRandOptions(source="kuairand", folder=str(folder)), recipe_of())
    dataset = prepare(source, recipe_of(), tmp_path / "dataset").dataset
    batch = BatchBuilder(dataset).build(np.arange(dataset.manifest.requests))
    assert batch.repeat_features.shape == (dataset.manifest.candidates, 3)
    assert (batch.repeat_features[:, 2] == 0).all()
    indicator = batch.repeat_indicator.numpy()
    assert 0 < indicator.mean() < 1
    tags = {row["video_id"]: row["tag"] for row in VIDEOS}
    keys = {"requests": dataset.keys("requests"), "items": dataset.keys("items")}
    user, time = (keys["requests"][name].to_numpy() for name in ("_user", "_time"))
    past = {each: events(source.tables(Engine(ibis.duckdb.connect())), each) for each in range(4)}
    for place, request in enumerate(batch.request.tolist()):
        video = keys["items"]["_item"][int(dataset.candidates.item[place])].as_py()
        had = [tags[other] for when, other in past[user[request]] if when < time[request]]
        assert indicator[place] == (tags[video] is not None and tags[video] in had)
        assert batch.repeat_features[place, 1] == pytest.approx(np.log1p(had.count(tags[video]) * indicator[place]))
    assert len(dataset.manifest.predefined_scenarios or []) == 3


@pytest.mark.parametrize(
    ("repeat", "said"),
    [({"key": ["tag"]}, "repeat.recency"), ({"key": ["tag"], "recency": False, "window": "1 day"}, "repeat.window")],
)
def test_times_that_the_sequences_lack_are_not_made_up(repeat: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read(write_cut_down(tmp_path), recipe_of(repeat=repeat))
    # The published logs have times.
    assert read(write_published(tmp_path / "published"), recipe_of(repeat=repeat)).events is not None


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="none of KuaiRand's files"):
        read(tmp_path)
    folder = write_cut_down(tmp_path / "cut")
    (folder / "user_sequences.parquet").unlink()
    with pytest.raises(DataError, match=r"cut lacks user_sequences\.parquet of the cut-down files"):
        read(folder)
    folder = write_published(tmp_path / "published")
    (folder / "data" / "user_features_pure.csv").unlink()
    with pytest.raises(DataError, match=r"data lacks user_features_pure\.csv of KuaiRand's published files"):
        read(folder)
    both = write_published(write_cut_down(tmp_path / "both"))
    with pytest.raises(DataError, match="holds both the cut-down files and KuaiRand's published files"):
        read(both)


def test_columns_that_are_not_there_and_values_that_make_no_sense(tmp_path: Path) -> None:
    without = [{name: value for name, value in row.items() if name != "tab"} for row in random_rows(BEGIN, CUT, 9, 1)]
    with pytest.raises(DataError, match=r"val\.parquet: there is no column 'tab'"):
        read(write_cut_down(tmp_path, val=without))
    with pytest.raises(DataError, match=r"'long_watch_seq' holds no lists"):
        read(write_cut_down(tmp_path, user_sequences=[row | {"long_watch_seq": "1,2"} for row in SEQUENCES]))
    (tmp_path / "val.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match=r"val\.parquet cannot be read"):
        read(tmp_path)


def test_a_few_broken_rows_are_refused_and_counted(tmp_path: Path) -> None:
    rows = random_rows(BEGIN - 2 * DAY, CUT, 80, 1)
    rows[3]["time_ms"], rows[4]["is_click"] = "soon", 7
    tables = read(write_published(tmp_path, log_standard_4_22_to_5_08=rows))
    assert counts(tables)["impressions", "time_ms is not a whole number"] == 1
    assert counts(tables)["impressions", "is_click is not 0 or 1"] == 1
    assert tables.rejected is not None
    refused = [json.loads(row)["time_ms"] for row in values(tables.rejected, "row")]
    assert "soon" in refused
    assert tables.impressions.count().to_pyarrow().as_py() == 50 + 78


def test_the_fingerprint_follows_files_and_options(tmp_path: Path) -> None:
    folder = write_cut_down(tmp_path)

    def fingerprint(**options: Any) -> str:
        return KuaiRand(KuaiRandOptions(source="kuairand", folder=str(folder), **options), recipe_of()).fingerprint()

    before = fingerprint()
    assert fingerprint() == before != fingerprint(grow_history=False)
    write_cut_down(tmp_path, val=random_rows(BEGIN, CUT, 61, 1))
    assert fingerprint() != before


def test_a_relative_folder_starts_from_the_configuration(tmp_path: Path) -> None:
    options = KuaiRandOptions(source="kuairand", folder="../data/kuairand")
    assert Path(options.starting_from(tmp_path / "configs").folder) == tmp_path / "configs" / "../data/kuairand"
    assert options.starting_from(tmp_path).source == "kuairand"
