"""Faults while many write: what was acknowledged is kept, readiness is told as it is, and recovery needs no hand."""

import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from redis.backoff import ConstantBackoff
from redis.exceptions import BusyLoadingError
from redis.retry import Retry

from musenet.errors import StoreError
from musenet.serving.store.history import PastEvent, UserEvent, WritableStore
from musenet.serving.store.rules import HistoryRules
from musenet.serving.store.sqlite_store import SqliteStore
from serving.conftest import SERVERS, wait_for
from serving.stores import click, simple_rules

Opened = Callable[[str, HistoryRules], WritableStore]
LATER, DAY, USERS = 4e9, 86_400.0, 10


class Writers:
    """Eight threads that send numbered events, and what was acknowledged of them."""

    def __init__(self, store: WritableStore) -> None:
        self.store = store
        self.acknowledged: set[int] = set()
        self.refused: set[int] = set()

    def send(self, numbers: range, fault: Callable[[int], None] = lambda _: None) -> None:
        def one(n: int) -> None:
            fault(n)
            try:
                self.store.append([click(f"user {n % USERS}", 30 * 3600 * n, str(n), f"event {n}")])
                self.acknowledged.add(n)
            except StoreError:
                self.refused.add(n)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(one, numbers))

    def check(self) -> None:
        """Each acknowledged event is there, once, and nothing that nobody sent."""
        counts = {
            int(key[0] or -1): one.count
            for user in range(USERS)
            for key, one in self.store.read(f"user {user}", LATER).repeats.items()
        }
        assert set(counts.values()) == {1}
        assert self.acknowledged <= counts.keys() <= self.acknowledged | self.refused

    def send_again(self) -> None:
        """What was refused, as a client does."""
        for n in self.refused:
            self.store.append([click(f"user {n % USERS}", 30 * 3600 * n, str(n), f"event {n}")])
        self.acknowledged |= self.refused
        self.check()


def test_a_full_disk(tmp_path: Path) -> None:
    """SQLite's own limit of pages stands for the disk's: it ends in the same error."""
    with SqliteStore(tmp_path / "history.sqlite", simple_rules()) as store:
        writers = Writers(store)

        def fill_up(n: int) -> None:
            if n == 100:
                store._writer.execute("PRAGMA max_page_count = 1")  # no more than there are

        writers.send(range(2000), fill_up)
        assert writers.refused
        assert writers.acknowledged >= set(range(90))
        writers.check()
        with pytest.raises(StoreError, match="full"):
            store.append([click(f"new {n}", n, "x" * 4000) for n in range(100)])
        store._writer.execute("PRAGMA max_page_count = 1000000")
        store.check()
        writers.send(range(2000, 2100))
        assert not writers.refused & set(range(2000, 2100))
        writers.send_again()


def test_no_file_can_be_opened(tmp_path: Path) -> None:
    """Readers need connections of their own and find no number for them; then there are some again."""
    with SqliteStore(tmp_path / "history.sqlite", simple_rules()) as store:
        store.append([click(f"user {n % USERS}", n, str(n)) for n in range(100)])
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        connections = [store._idle.get() for _ in range(store._idle.qsize())]
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            for _ in range(20):
                with pytest.raises(StoreError, match="cannot be used"):
                    store.read("user 1", LATER)
            with pytest.raises(StoreError, match="cannot be used"):
                store.check()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for connection in connections:
            connection.close()
        store.check()
        assert len(store.read("user 1", LATER).repeats) == 10


@contextmanager
def redis_server(folder: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Starts one on the same data each time it is called; the last one ends with the test."""
    program = next((found for name in SERVERS if (found := shutil.which(name)) is not None), None)
    if program is None:
        pytest.skip("neither Valkey nor Redis is installed")
    options = f"--port 0 --unixsocket {folder}/socket --dir {folder} --save  --appendonly yes --appendfsync always"
    running: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        running.append(subprocess.Popen([program, *options.split(" ")], stdout=subprocess.DEVNULL))
        wait_for(folder / "socket", running[-1])
        # It listens before it has read what it holds.
        patient = Retry(ConstantBackoff(0.05), 400)
        redis.Redis(unix_socket_path=f"{folder}/socket", retry=patient, retry_on_error=[BusyLoadingError]).ping()
        return running[-1]

    try:
        yield start
    finally:
        for server in running:
            server.kill()
            server.wait()


def test_a_database_that_is_killed_and_comes_back(tmp_path: Path, opened: Opened) -> None:
    with redis_server(tmp_path) as start:
        server = start()
        writers = Writers(opened(f"unix://{tmp_path}/socket", simple_rules()))

        def kill(n: int) -> None:
            if n == 100:
                server.send_signal(signal.SIGKILL)
                server.wait()

        writers.send(range(200), kill)
        assert writers.acknowledged >= set(range(80))
        assert len(writers.refused) > 50
        with pytest.raises(StoreError, match="does not answer"):
            writers.store.check()
        (tmp_path / "socket").unlink(missing_ok=True)
        start()
        writers.store.check()
        writers.check()
        writers.send(range(200, 250))
        assert not writers.refused & set(range(200, 250))
        writers.send_again()


def test_a_clock_that_is_a_day_ahead(address: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came under the wrong clock displaces nothing once it is right again, and counts when its time has come."""
    store, now = opened(address, simple_rules(length=5)), 1.8e9
    monkeypatch.setattr(time, "time", lambda: now)

    def event(seconds: float, item: str) -> UserEvent:
        return UserEvent("anna", PastEvent(item, "click", seconds, {"item_id": item}))

    store.append([event(now - 3600 * (n + 1), f"real {n}") for n in range(8)])
    real = store.read("anna", now)
    now += DAY
    assert store.append([event(now + n, f"wrong {n}") for n in range(40)]) == [True] * 40
    now -= DAY
    assert store.read("anna", now) == real
    assert [one.item for one in real.events] == [f"real {n}" for n in (4, 3, 2, 1, 0)]
    store.append([event(now, "right")])
    found = store.read("anna", now + 1)
    assert [one.item for one in found.events] == ["real 3", "real 2", "real 1", "real 0", "right"]
    later = store.read("anna", now + DAY + 100)
    assert len(later.repeats) == 8 + 40 + 1
