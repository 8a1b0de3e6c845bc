"""One log written in many ways is one dataset to the byte, and one model's scores; a way that says less is refused."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import musenet
from musenet.errors import DataError
from musenet.runs.run import Run

pytestmark = pytest.mark.slow

START, DAYS, USERS, ITEMS, REQUESTS, SHOWN = pd.Timestamp("2024-03-04"), 16, 25, 20, 160, 4

CONFIG = """
name: log
data:
  source: own_files
  impressions: {path: PATH, user: user_id, item: item_id, time: shown_at, label: clicked, request: search_id}
  events: {path: "events*/**/*.*", user: user_id, item: item_id, time: at, kind: kind}
  users: {path: "users.*", user: user_id}
  items: {path: "items.*", item: item_id}
features:
  user: [age]
  item: [category, {stars: {numeric: standardise}}]
  context: [device, hour]
  candidate: [code, flag, {price: {numeric: log}}]
history: {columns: [item_id, category], length: 10}
repeat: {key: [item_id]}
split: {test: 3 days, valid: 2 days}
model: {name: musenet, scenarios: 2, embedding: 4, hidden: [8]}
training: {epochs: 1, batch_size: 128, threads: 1}
"""
Frames = dict[str, pd.DataFrame]


def log() -> Frames:
    """Codes have gaps, so that table tools make floats of them; prices have fractions, but for the first requests'."""
    r = np.random.default_rng(1)
    time = START + pd.to_timedelta(np.sort(r.integers(0, DAYS * 86400, REQUESTS)), unit="s")
    user, rows, events = r.integers(1, USERS, REQUESTS), [], []
    for request in range(REQUESTS):
        device = str(r.choice(["phone", "desktop"]))
        for place, item in enumerate(r.choice(ITEMS, SHOWN, replace=False)):
            clicked = int(r.random() < 0.3)
            code = None if item % 5 == 0 else int(item % 4)
            price = round(float(r.lognormal(3, 1)), 2) if request > REQUESTS // 2 else float(r.integers(5, 50))
            rows.append((user[request], item, time[request], clicked, request, device, code, item % 2 == 0, price))
            if clicked:
                events.append((user[request], item, time[request] + pd.Timedelta(seconds=20 + place), "open"))
    names = ["user_id", "item_id", "shown_at", "clicked", "search_id", "device", "code", "flag", "price"]
    users, items = np.arange(USERS), np.arange(ITEMS)
    return {
        "shown": pd.DataFrame(rows, columns=names).astype({"shown_at": "datetime64[us]"}),
        "events": pd.DataFrame(events, columns=["user_id", "item_id", "at", "kind"]).astype({"at": "datetime64[us]"}),
        "users": pd.DataFrame({"user_id": users, "age": r.choice(["young", "old"], USERS)}),
        "items": pd.DataFrame(
            {"item_id": items, "category": r.integers(1, 6, ITEMS), "stars": r.integers(1, 6, ITEMS)}
        ),
    }


Write = Callable[[Frames, Path], None]
TIMES = {"shown": "shown_at", "events": "at"}


def timed(frames: Frames, change: Callable[[pd.Series], Any]) -> Frames:
    """The same log with its times in another form."""
    return {
        name: frame.assign(**{TIMES[name]: change(frame[TIMES[name]])}) if name in TIMES else frame
        for name, frame in frames.items()
    }


def parquet(frames: Frames, folder: Path) -> None:
    for name, frame in frames.items():
        frame.to_parquet(place(folder, name, "parquet"), index=False)


def place(folder: Path, name: str, ending: str) -> Path:
    path = folder / (f"{name}.{ending}" if name in ("users", "items") else f"{name}/part.{ending}")
    path.parent.mkdir(exist_ok=True)
    return path


def text(frames: Frames, folder: Path, ending: str = "csv", **how: Any) -> None:
    for name, frame in frames.items():
        frame.to_csv(place(folder, name, ending), index=False, **how)


def aware_nanoseconds(frames: Frames, folder: Path) -> None:
    parquet(timed(frames, lambda time: time.astype("datetime64[ns]").dt.tz_localize("UTC")), folder)


def another_zone(frames: Frames, folder: Path) -> None:
    parquet(timed(frames, lambda time: time.dt.tz_localize("UTC").dt.tz_convert("America/New_York")), folder)


def seconds_and_narrow_numbers(frames: Frames, folder: Path) -> None:
    narrow = {"user_id": "uint8", "item_id": "int16", "clicked": "bool", "search_id": "float64", "category": "int8"}
    counted = timed(frames, lambda time: time.astype("int64") // 1_000_000)
    parquet({n: f.astype({c: t for c, t in narrow.items() if c in f}) for n, f in counted.items()}, folder)


def milliseconds_as_text(frames: Frames, folder: Path) -> None:
    counted = timed(frames, lambda time: (time.astype("int64") // 1000).astype(str))
    ids = {"user_id", "item_id"}
    parquet({n: f.assign(**{c: f[c].astype(str) + ".0" for c in ids & {*f}}) for n, f in counted.items()}, folder)


def excel_csv(frames: Frames, folder: Path) -> None:
    text(frames, folder, sep=";", encoding="utf-8-sig", lineterminator="\r\n", quoting=csv.QUOTE_ALL)


def packed_tsv_with_offsets(frames: Frames, folder: Path) -> None:
    local = timed(
        frames,
        lambda time: time.dt.tz_localize("UTC").dt.tz_convert("Asia/Kolkata").map(lambda one: one.isoformat()),
    )
    text(local, folder, "tsv.gz", sep="\t")


def padded_csv(frames: Frames, folder: Path) -> None:
    """Blanks around values, truth values in capitals."""

    def padded(value: object) -> str:
        return f" {str(value).upper() if isinstance(value, bool) else value} "

    for name, frame in frames.items():
        frame.astype(object).where(frame.notna(), "").map(padded).to_csv(place(folder, name, "csv"), index=False)


def csv_parts(frames: Frames, folder: Path) -> None:
    """Other orders of columns and other separators, and a part without rows."""
    text({name: frame for name, frame in frames.items() if name != "shown"}, folder)
    (folder / "shown").mkdir()
    shown = frames["shown"]
    shown[:200].to_csv(folder / "shown/a.csv", index=False)
    shown[200:][shown.columns[::-1]].to_csv(folder / "shown/b.csv", index=False, sep="|")
    shown[:0].to_csv(folder / "shown/c.csv", index=False)


def parts_of_other_types(frames: Frames, folder: Path) -> None:
    parquet({name: frame for name, frame in frames.items() if name != "shown"}, folder)
    (folder / "shown").mkdir()
    shown = frames["shown"]
    whole = shown[:200].astype({"price": "int16", "user_id": "int8", "item_id": "float64", "search_id": "uint32"})
    whole.assign(clicked=whole.clicked.astype(bool)).to_parquet(folder / "shown/a.parquet")
    shown[200:][shown.columns[::-1]].to_parquet(folder / "shown/b.parquet", index=False)
    pq.write_table(pa.schema([(name, pa.null()) for name in shown]).empty_table(), folder / "shown/0.parquet")


def polars_frames(frames: Frames, folder: Path) -> None:
    """Categories as dictionaries, texts as views."""
    for name, frame in frames.items():
        written = pl.from_pandas(frame)
        named = [pl.col(c).cast(pl.Categorical) for c in ("device", "age") if c in written.columns]
        written = written.with_columns(named)
        written.write_parquet(place(folder, name, "parquet"))


def arrow_tables(frames: Frames, folder: Path) -> None:
    """Decimals, unsigned ids beyond those in use, large texts, dictionaries of pandas."""
    for name, frame in frames.items():
        table = pa.Table.from_pandas(frame.astype({c: "category" for c in ("device", "age") if c in frame}))
        kinds = {"price": pa.decimal128(12, 2), "user_id": pa.uint64(), "kind": pa.large_string()}
        for c in set(kinds) & set(table.column_names):
            table = table.set_column(table.column_names.index(c), c, table[c].cast(kinds[c]))
        pq.write_table(table, place(folder, name, "parquet"))


def folders_of_devices(frames: Frames, folder: Path) -> None:
    parquet({name: frame for name, frame in frames.items() if name != "shown"}, folder)
    for device, of in frames["shown"].groupby("device"):
        path = folder / "shown" / f"device={device}" / "part.parquet"
        path.parent.mkdir(parents=True)
        of.drop(columns="device").to_parquet(path, index=False)


def backwards(frames: Frames, folder: Path) -> None:
    parquet({name: frame[::-1] for name, frame in frames.items()}, folder)


def parts_with_and_without_a_zone(frames: Frames, folder: Path) -> None:
    parquet(frames, folder)
    frames["shown"][:200].assign(shown_at=frames["shown"].shown_at.dt.tz_localize("UTC")).to_parquet(
        folder / "shown/a.parquet", index=False
    )


def days_or_months_first(frames: Frames, folder: Path) -> None:
    """Of which every day is a month, too."""
    text(timed(frames, lambda time: "0" + (time.dt.day % 9 + 1).astype(str) + "/03/2024 12:00:00"), folder)


def text_beside_timestamps(frames: Frames, folder: Path) -> None:
    parquet(frames, folder)
    frames["shown"].assign(shown_at=frames["shown"].shown_at.astype(str)).to_parquet(folder / "shown/b.parquet")


REFUSED: dict[Write, str] = {
    parts_with_and_without_a_zone: r"column 'shown_at' is timestamp.* write it in one type everywhere",
    days_or_months_first: r"column 'shown_at' .*, which is 2024-03-0\d .* or 2024-0\d-03 .*: say which with",
    text_beside_timestamps: r"column 'shown_at' is string in .*b.parquet and timestamp.* in .*part.parquet",
}

WAYS: list[Write] = [
    aware_nanoseconds,
    another_zone,
    seconds_and_narrow_numbers,
    milliseconds_as_text,
    text,
    excel_csv,
    packed_tsv_with_offsets,
    padded_csv,
    csv_parts,
    parts_of_other_types,
    polars_frames,
    arrow_tables,
    folders_of_devices,
    backwards,
]


def config(folder: Path, write: Write) -> Path:
    folder.mkdir()
    write(log(), folder)
    (folder / "log.yaml").write_text(CONFIG.replace("PATH", '"shown/**/*.*"'))
    return folder / "log.yaml"


def files(dataset: Path) -> dict[str, bytes]:
    """What the dataset holds, but for what tells the way to it: its fingerprint and the checks."""
    return {
        path.relative_to(dataset).as_posix(): path.read_bytes()
        for path in dataset.rglob("*")
        if path.is_file() and path.name not in ("manifest.json", "checks.json")
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reference")
    return musenet.prepare(config(folder / "log", parquet), folder / "dataset").folder


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_log_is_the_same_dataset_however_it_is_written(reference: Path, tmp_path: Path, way: Write) -> None:
    dataset = musenet.prepare(config(tmp_path / "log", way), tmp_path / "dataset").folder
    expected, found = files(reference), files(dataset)
    assert sorted(found) == sorted(expected)
    assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("way", REFUSED, ids=lambda way: way.__name__)
def test_what_could_mean_two_things_is_refused(tmp_path: Path, way: Write) -> None:
    with pytest.raises(DataError, match=REFUSED[way]) as caught:
        musenet.prepare(config(tmp_path / "log", way), tmp_path / "dataset")
    assert "\n" not in str(caught.value)


def test_a_model_scores_the_same_whatever_it_was_trained_from(tmp_path: Path) -> None:
    scores = []
    for way in (parquet, parts_of_other_types):
        experiment = config(tmp_path / way.__name__, way)
        dataset = musenet.prepare(experiment, tmp_path / f"{way.__name__}-dataset").folder
        run = tmp_path / f"{way.__name__}-run"
        musenet.train(experiment, run, dataset=dataset)
        scores.append(Run.open(run).predictions("test").logit)
    assert len(scores[0]) > 100
    np.testing.assert_array_equal(scores[0], scores[1])
