"""How long a user's history takes to read, at the standard sizes: 50 events of (category, brand).

    python benchmarks/serving/history_reads.py --store history.sqlite

The store must be new. Users have about 75 events each, as many as fill the history and leave some that count for
repeats alone; reads are of random users, one after another, in one thread.
"""

import time
from typing import Annotated

import numpy as np
import typer

from musenet.recipe.history import HistoryOptions
from musenet.recipe.repeat import RepeatOptions
from musenet.serving.store.history import PastEvent, UserEvent
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules

LENGTH, EVENTS, CATEGORIES, BRANDS = 50, 75, 6000, 100_000
START, MINUTE = 1_700_000_000, 60
KEY = ["category", "brand"]
USERS_AT_ONCE = 200


def events_of(user: int, random: np.random.Generator) -> list[UserEvent]:
    """A third of them repeats of an earlier one."""
    category, brand = random.integers(CATEGORIES, size=EVENTS), random.integers(BRANDS, size=EVENTS)
    again = random.random(EVENTS) < 1 / 3
    source = np.where(again, random.integers(np.arange(EVENTS) + 1), np.arange(EVENTS))
    return [
        UserEvent(
            f"u{user}",
            PastEvent(None, "buy", START + MINUTE * n, {"category": int(category[at]), "brand": int(brand[at])}),
        )
        for n, at in enumerate(source)
    ]


def main(
    store: Annotated[str, typer.Option(help="a file's path, or an URL of Valkey or Redis")],
    users: Annotated[int, typer.Option()] = 20_000,
    reads: Annotated[int, typer.Option()] = 20_000,
) -> None:
    """Fill the store, then read."""
    random = np.random.default_rng(0)
    rules = HistoryRules(HistoryOptions(length=LENGTH, columns=KEY), RepeatOptions(key=KEY))
    with open_store(store, rules) as opened:
        begin = time.perf_counter()
        for first in range(0, users, USERS_AT_ONCE):
            together = range(first, min(first + USERS_AT_ONCE, users))
            opened.append([new for user in together for new in events_of(user, random)])
        took = time.perf_counter() - begin
        typer.echo(f"{users:,} users filled at {users * EVENTS / took:,.0f} events a second")
        clocks = {"wall clock": time.perf_counter, "processor": time.thread_time}
        seconds = np.empty((reads, len(clocks)))
        for place, user in enumerate(random.integers(users, size=reads)):
            started = [clock() for clock in clocks.values()]
            found = opened.read(f"u{user}", START + MINUTE * 10 * EVENTS)
            seconds[place] = [clock() - since for clock, since in zip(clocks.values(), started, strict=True)]
            assert len(found.events) == LENGTH
    for name, measured in zip(clocks, seconds.T, strict=True):
        p50, p99, worst = np.quantile(measured, [0.5, 0.99, 1.0]) * 1000
        typer.echo(f"{reads:,} reads, {name}: p50 {p50:.3f} ms, p99 {p99:.3f} ms, longest {worst:.2f} ms")


if __name__ == "__main__":
    typer.run(main)
