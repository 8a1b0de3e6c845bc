"""Rows per second of files of pages of ten: one request after the other, as a service answers, and many at once.

    python benchmarks/serving/batch.py --pages 20000

An export of the shape of Ali Display Ads with random weights (`ads_shape.py`), pages of ten ads, every user with fifty
events. Histories come with the requests, from a file of events and from a history store (a SQLite file). The ways take
turns; in each round, each is compared with the service's that gets its histories alike, and scores are compared, too.
What is told is ratios: absolute numbers are the machine's. Where others use its cores, look at those of CPU time.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from ads_shape import LENGTH, export_model, write_ads_shape

from musenet.serving.prediction.histories import Histories
from musenet.serving.prediction.predict import events_of, predict_files
from musenet.serving.prediction.stored import StoredHistories
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import PastEvent, UserEvent, WritableStore
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


def fill(scorer: Scorer, events: Path, address: Path) -> WritableStore:
    """A store that holds the events."""
    store = open_store(str(address), scorer.rules)
    for batch in pq.ParquetFile(events).iter_batches(10_000):
        store.append(
            [
                UserEvent(str(row["user"]), PastEvent(None, None, row["time"], {one: row[one] for one in HISTORY}))
                for row in batch.to_pylist()
            ]
        )
    return store


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
    """The first pages as a service is asked for them, with the histories that the file has."""
    scores: list[float] = []
    for _, group in groupby(_rows(file, pages * PAGE), lambda row: (row["request"], row["user"])):
        rows = list(group)
        first = rows[0]
        asked = {
            "user": first["user"],
            "time": first["time"],
            "context": {"pid": first["pid"]},
            "candidates": [{"item": row["adgroup_id"]} for row in rows],
        }
        brought = {"history": first["history"]} if "history" in first else {}
        scores += scorer.score(asked | brought)["scores"]
    return scores


def _rows(file: Path, count: int) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(file).iter_batches(16_384):
        yield from batch.slice(0, count).to_pylist()
        count -= min(count, len(batch))
        if not count:
            return


@dataclass(frozen=True)
class Way:
    """A way to score some pages, and how fast it was in each round."""

    name: str
    pages: int
    score: Callable[[], Any]
    base: str | None = None
    """The way that it is compared with."""
    speeds: list[tuple[float, float]] = field(default_factory=list)
    """Rows per second, of the clock's and of the cores'."""

    def run(self) -> Any:
        begin, used = time.perf_counter(), time.process_time()
        found = self.score()
        seconds = time.perf_counter() - begin, time.process_time() - used
        self.speeds.append((self.pages * PAGE / seconds[0], self.pages * PAGE / seconds[1]))
        return found

    def told(self, base: "Way | None") -> str:
        """Its median speed, and how many times as fast as the other one it was."""
        line = f"{self.name}: {median(clock for clock, _ in self.speeds):,.0f} rows/s"
        if base is None:
            return line
        pairs = list(zip(self.speeds, base.speeds, strict=True))
        for place, of in enumerate(("", " by CPU time")):
            ratios = [own[place] / other[place] for own, other in pairs]
            line += f", {median(ratios):.1f} times{of} ({min(ratios):.1f} to {max(ratios):.1f})"
        return line


def main(
    pages: Annotated[int, typer.Option()] = 20_000,
    rounds: Annotated[int, typer.Option()] = 3,
    users: Annotated[int, typer.Option()] = 100_000,
    items: Annotated[int, typer.Option()] = 100_000,
) -> None:
    """Prints rows per second of each way, and how many times as fast as one by one it is to score many at once."""
    with tempfile.TemporaryDirectory(prefix="musenet-") as made:
        folder = Path(made)
        export_model(folder, write_ads_shape(folder / "dataset", users, items), MODEL)
        file, events = write_log(folder, pages, users, items)
        bare = folder / "bare.parquet"
        pq.write_table(pq.read_table(file).drop_columns("history"), bare)
        scorer, served, few = Scorer(folder / "export"), Scorer(folder / "export"), max(1, pages // 40)
        store = fill(scorer, events, folder / "history.sqlite")
        served.use(store)
        known, stored = events_of(scorer, events), StoredHistories(scorer, store)
        own, kept = "one by one, histories in the requests", "one by one, histories in a store"

        def many(name: str, asked: Path, histories: Histories | None) -> Callable[[], int]:
            return lambda: predict_files(scorer, asked, folder / f"{name}.parquet", histories=histories)

        ways = [
            Way(own, few, lambda: one_by_one(scorer, file, few)),
            Way(kept, few, lambda: one_by_one(served, bare, few)),
            Way("many at once, histories in the requests", pages, many("requests", file, None), own),
            Way("many at once, histories in a file of events", pages, many("events", bare, known), own),
            Way("many at once, histories in a store", pages, many("store", bare, stored), kept),
        ]
        many("warm", bare, known)()
        expected: list[float] = []
        for _ in range(rounds):
            for way in ways:
                found = way.run()
                expected = found if way.name == own else expected
        for name in ("requests", "events", "store"):
            scores = pq.read_table(folder / f"{name}.parquet", columns=["score"])["score"].to_numpy()
            typer.echo(f"{name}: at most {np.abs(scores[: len(expected)] - expected).max():.1e} from one by one")
        by_name = {way.name: way for way in ways}
        for way in ways:
            typer.echo(way.told(None if way.base is None else by_name[way.base]))
        typer.echo(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    typer.run(main)
