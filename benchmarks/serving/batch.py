"""Rows per second of files of pages of ten: one request after the other, as a service answers, and many at once.

    python benchmarks/serving/batch.py --pages 20000

An export of the shape of Ali Display Ads with random weights (`ads_shape.py`), pages of ten ads, every user with fifty
events. The same file is scored both ways in turns, its requests bringing their histories, and with the histories in a
file of events and in a history store (a SQLite file); scores are compared. What is told is ratios: absolute numbers
are the machine's.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from ads_shape import LENGTH, export_model, write_ads_shape

from musenet.serving.prediction.predict import events_of, predict_files
from musenet.serving.prediction.stored import StoredHistories
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import PastEvent, UserEvent
from musenet.serving.store.opening import open_store
from musenet.simulators.ads.published import BRANDS, CATEGORIES

PAGE = 10
HISTORY = ("cate_id", "brand")
MODEL: dict[str, Any] = {"name": "musenet", "assignment": "soft", "scenarios": 4, "hidden": [128, 64]}


def write_log(folder: Path, pages: int, users: int, items: int) -> tuple[Path, Path]:
    """Pages with the histories of their users, and the same histories as a file of events."""
    random = np.random.default_rng(2)
    some = min(users, 2000)
    happened = {
        "user": np.repeat(np.arange(1, some + 1), LENGTH),
        "time": np.tile(np.arange(LENGTH, dtype=np.int64), some) * 60,
        "cate_id": random.integers(1, CATEGORIES, some * LENGTH),
        "brand": random.integers(1, BRANDS, some * LENGTH),
    }
    events = pa.table({name: pa.array(column) for name, column in happened.items()})
    pq.write_table(
        events.append_column("adgroup_id", pa.array(np.ones(len(events), dtype=np.int64))), folder / "e.parquet"
    )
    own = pa.ListArray.from_arrays(
        pa.array(np.arange(0, len(events) + 1, LENGTH, dtype=np.int32)),
        pa.StructArray.from_arrays(
            [events[name].combine_chunks() for name in ("time", "cate_id", "brand")], names=["time", "cate_id", "brand"]
        ),
    )
    file = folder / "pages.parquet"
    with pq.ParquetWriter(file, _pages(random, 1, some, items, own).schema) as writer:
        for begin in range(0, pages, 1000):
            writer.write_table(_pages(random, min(1000, pages - begin), some, items, own))
    return file, folder / "e.parquet"


def fill(scorer: Scorer, events: Path, address: Path) -> StoredHistories:
    """A store that holds the events."""
    store = open_store(str(address), scorer.rules)
    for batch in pq.ParquetFile(events).iter_batches(10_000):
        store.append(
            [
                UserEvent(str(row["user"]), PastEvent(None, None, row["time"], {one: row[one] for one in HISTORY}))
                for row in batch.to_pylist()
            ]
        )
    return StoredHistories(scorer, store)


def _pages(random: np.random.Generator, pages: int, users: int, items: int, own: pa.ListArray) -> pa.Table:
    user = np.repeat(random.integers(1, users + 1, pages), PAGE)
    return pa.table(
        {
            "user": user,
            "time": np.repeat(random.integers(10**9, 2 * 10**9, pages), PAGE).astype(np.float64),
            "request": np.repeat(random.integers(0, 2**60, pages), PAGE),
            "adgroup_id": random.integers(1, items, pages * PAGE),
            "pid": np.repeat(random.integers(1, 3, pages), PAGE),
            "history": own.take(pa.array(user - 1)),
        }
    )


def one_by_one(scorer: Scorer, file: Path, pages: int) -> list[float]:
    """The first pages as a service is asked for them."""
    scores: list[float] = []
    for _, group in groupby(_rows(file, pages * PAGE), lambda row: (row["request"], row["user"])):
        rows = list(group)
        first = rows[0]
        asked = {
            "user": first["user"],
            "time": first["time"],
            "context": {"pid": first["pid"]},
            "candidates": [{"item": row["adgroup_id"]} for row in rows],
            "history": first["history"],
        }
        scores += scorer.score(asked)["scores"]
    return scores


def _rows(file: Path, count: int) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(16_384):
        yield from batch.slice(0, count).to_pylist()
        count -= min(count, len(batch))
        if not count:
            return


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    found = call()
    return time.perf_counter() - begin, found


def main(
    pages: Annotated[int, typer.Option()] = 20_000,
    rounds: Annotated[int, typer.Option()] = 3,
    users: Annotated[int, typer.Option()] = 100_000,
    items: Annotated[int, typer.Option()] = 100_000,
) -> None:
    """Prints rows per second of each way, and how many times as fast as one by one the others are."""
    with tempfile.TemporaryDirectory(prefix="musenet-") as made:
        folder = Path(made)
        export_model(folder, write_ads_shape(folder / "dataset", users, items), MODEL)
        file, events = write_log(folder, pages, users, items)
        bare = folder / "bare.parquet"
        pq.write_table(pq.read_table(file).drop_columns("history"), bare)
        scorer, few = Scorer(folder / "export"), max(1, pages // 40)
        known, stored = events_of(scorer, events), fill(scorer, events, folder / "history.sqlite")
        ways: dict[str, tuple[int, Callable[[], Any]]] = {
            "one by one": (few, lambda: one_by_one(scorer, file, few)),
            "many at once": (pages, lambda: predict_files(scorer, file, folder / "own.parquet")),
            "many at once, of a file of events": (
                pages,
                lambda: predict_files(scorer, bare, folder / "known.parquet", histories=known),
            ),
            "many at once, of a history store": (
                pages,
                lambda: predict_files(scorer, bare, folder / "stored.parquet", histories=stored),
            ),
        }
        predict_files(scorer, bare, folder / "warm.parquet", histories=known)
        speeds: dict[str, list[float]] = {name: [] for name in ways}
        expected: list[float] = []
        for _ in range(rounds):
            for name, (count, way) in ways.items():
                seconds, found = timed(way)
                speeds[name].append(count * PAGE / seconds)
                expected = found if name == "one by one" else expected
        for name in ("own", "known", "stored"):
            scores = pq.read_table(folder / f"{name}.parquet", columns=["score"])["score"].to_numpy()
            typer.echo(f"{name}: at most {np.abs(scores[: len(expected)] - expected).max():.1e} from one by one")
        base = median(speeds["one by one"])
        for name, found in speeds.items():
            typer.echo(f"{name}: {median(found):,.0f} rows/s, {median(found) / base:.1f} times")
        typer.echo(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    typer.run(main)
