"""Every store keeps what it acknowledged, once, whoever else writes and however it ends."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from musenet.errors import StoreError
from musenet.serving.store.history import UserEvent, UserHistory, WritableStore
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from places import TESTS
from serving.past_reference import WholePast, same
from serving.stores import START, click, simple_rules

Opened = Callable[[str, HistoryRules], WritableStore]
LATER = START + 1_000_000


def test_keeps_what_the_past_keeps_and_finds_it_again(address: str, opened: Opened) -> None:
    rules = simple_rules()
    users = ["anna", "1", "a:b", "Ünal Ω", "", "x" * 300]
    stream = [click(users[n % 6], (n * 37) % 50, str(n % 4), f"id{n % 90}") for n in range(200)]
    expected = {user: WholePast(rules) for user in users}
    store = opened(address, rules)
    for begin in range(0, 200, 7):
        part = stream[begin : begin + 7]
        assert store.append(part) == [expected[new.user].add(new) for new in part]
    again = opened(address, rules)
    for user in users:
        for second in (0, 10, 25, 100):
            assert same(again.read(user, START + second), expected[user].before(START + second))
    assert again.read("nobody", LATER) == UserHistory()
    assert store.append(stream) == [False] * 200


def test_a_request_of_long_ago_is_told_nothing_of_what_came_after_it(address: str, opened: Opened) -> None:
    store, day = opened(address, simple_rules()), 86_400.0
    store.append([click("anna", at * day, item, item) for item, at in (("early", 0), ("middle", 10), ("late", 20))])
    found = store.read("anna", START + 3 * day)
    assert {key for (key, *_) in found.repeats} == {"early"}
    assert [event.item for event in found.events] == ["early"]


def test_several_servers_lose_nothing(address: str, opened: Opened) -> None:
    """Two stores on one place, four threads each, all on the same two users."""
    rules = simple_rules()
    stores = [opened(address, rules) for _ in range(2)]
    events = [click(f"user {n % 2}", n, str(n % 3)) for n in range(80)]

    def send(n: int) -> list[bool]:
        store = stores[n % 2]
        store.read("user 0", LATER)
        return store.append([events[n]])

    with ThreadPoolExecutor(8) as pool:
        # Each event twice, at about the same time: one of the two is new.
        answers = list(pool.map(send, [n for n in range(80) for _ in range(2)]))
    assert sum(new for answer in answers for new in answer) == 80
    for user in range(2):
        found = stores[0].read(f"user {user}", LATER)
        assert sum(statistics.count for statistics in found.repeats.values()) == 40
        assert [event.time for event in found.events] == [START + n for n in range(70 + user, 80, 2)]


WRITER = """
import sys
from musenet.serving.store.opening import open_store
from serving.stores import click, simple_rules
store = open_store(sys.argv[1], simple_rules(length=1000))
for n in range(100_000):
    store.append([click(f"user {n % 3}", n, str(n), f"event {n}")])
    print(n, flush=True)
"""


def test_every_acknowledged_event_is_there_once_after_a_kill(address: str, opened: Opened) -> None:
    paths = os.pathsep.join([str(TESTS), *sys.path])
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, address],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as writer:
        assert writer.stdout is not None
        acknowledged = [int(writer.stdout.readline()) for _ in range(40)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in writer.stdout if line.endswith("\n")]
    store = opened(address, simple_rules(length=1000))
    found = [event.item for user in range(3) for event in store.read(f"user {user}", LATER).events]
    assert len(found) == len(set(found))
    assert {str(n) for n in acknowledged} <= set(found)
    # Whoever got no answer sends again, and nothing is counted twice.
    last = acknowledged[-1]
    resent: list[UserEvent] = [click(f"user {n % 3}", n, str(n), f"event {n}") for n in range(last + 2)]
    store.append(resent)
    counts = [s.count for user in range(3) for s in store.read(f"user {user}", LATER).repeats.values()]
    assert counts == [1] * (last + 2)


def test_a_store_for_other_rules_is_refused(address: str, opened: Opened) -> None:
    opened(address, simple_rules())
    with pytest.raises(StoreError, match="made for other options of history and repeat than the model's"):
        opened(address, simple_rules(length=6, window="2 days"))


def test_a_file_of_something_else_is_left_alone(tmp_path: Path, opened: Opened) -> None:
    text, other = tmp_path / "notes.txt", tmp_path / "other.sqlite"
    text.write_text("no database\n" * 100)
    with pytest.raises(StoreError, match=r"notes\.txt cannot be used \(file is not a database\)"):
        opened(str(text), simple_rules())
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE users (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="another program's database"):
        opened(str(other), simple_rules())
    with sqlite3.connect(other) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("users",)]
    connection.close()


def test_an_address_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    rules = simple_rules()
    with pytest.raises(StoreError, match="give a file's path, or an URL"):
        open_store("mysql://localhost/x", rules)
    with pytest.raises(StoreError, match="does not answer"):
        open_store("redis://127.0.0.1:1/0", rules)
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match="cannot be used"):
        open_store(str(tmp_path / "folder"), rules)


def test_a_database_that_went_away_is_said_so(address: str, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(address, simple_rules())
    store.check()
    store.close()
    if address.startswith("unix://"):
        import redis

        def gone(*_: object, **__: object) -> None:
            raise redis.ConnectionError("gone")

        monkeypatch.setattr(redis.ConnectionPool, "get_connection", gone)
        with pytest.raises(StoreError, match="does not answer"):
            store.read("anna", LATER)
        return
    with pytest.raises(StoreError, match="cannot be used"):
        store.append([click("anna", 1)])


def test_the_file_says_whose_it_is(tmp_path: Path, opened: Opened) -> None:
    opened(str(tmp_path / "new" / "history.sqlite"), simple_rules())
    with sqlite3.connect(tmp_path / "new" / "history.sqlite") as connection:
        described = json.loads(connection.execute("SELECT content FROM store WHERE name = 'description'").fetchone()[0])
    connection.close()
    assert described["repeat"]["key"] == ["item_id"]
