"""One busy user holds up nobody; what is known of a user can be bounded, forgotten and copied."""

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import musenet
from musenet.errors import StoreError, UserError
from musenet.serving.store.history import UserHistory, WritableStore
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from serving.apps import client_of
from serving.exports import Exported
from serving.stores import START, click, simple_rules

Opened = Callable[[str, HistoryRules], WritableStore]
LATER, DAY = 4e9, 86_400.0
CLICK = {"user": "u/1 é", "item": "i1", "kind": "click", "time": "2024-01-05T12:00:00Z"}


def test_a_user_with_ten_thousand_keys_costs_a_writer_what_a_new_one_costs(address: str, opened: Opened) -> None:
    """By this thread's own work: less than three times as much, where all keys once were written anew (170 times)."""
    store = opened(address, simple_rules())
    store.append([click("busy", 3600 * n, str(n)) for n in range(10_000)])

    def spent(user: str, attempt: int) -> float:
        begin = time.thread_time()
        for n in range(10):
            store.append([click(user, 3600 * (10_000 + 10 * attempt + n), f"{attempt} {n}")])
        return time.thread_time() - begin

    attempts = [(spent("busy", attempt), spent("new", attempt)) for attempt in range(5)]
    assert min(busy for busy, _ in attempts) < 3 * min(new for _, new in attempts)
    found = store.read("busy", LATER)
    assert len(found.repeats) == 10_050
    assert len(found.events) == 5


@pytest.mark.slow
def test_many_events_of_one_user_are_kept_in_little_space_and_found(tmp_path: Path, opened: Opened) -> None:
    store = opened(str(tmp_path / "history.sqlite"), simple_rules())
    for begin in range(0, 200_000, 10_000):
        store.append([click("busy", 0.5 * n, str(n % 40)) for n in range(begin, begin + 10_000)])
    found = store.read("busy", LATER)
    assert {key: one.count for key, one in found.repeats.items()} == {(str(n),): 5_000 for n in range(40)}
    assert [event.item for event in found.events] == [str(n % 40) for n in range(199_995, 200_000)]
    assert (tmp_path / "history.sqlite").stat().st_size < 20 * 2**20


def test_a_key_past_its_retention_is_forgotten(address: str) -> None:
    with open_store(address, simple_rules(), retention=100 * DAY) as store:
        store.append([click("anna", 0, "old"), click("anna", 0, "kept"), click("anna", 60 * DAY, "kept")])
        found = {day: store.read("anna", START + day * DAY).repeats for day in (99, 101, 159, 161)}
    counts = {day: {key[0]: one.count for key, one in repeats.items()} for day, repeats in found.items()}
    # What lies before the user's last day is forgotten by itself.
    assert counts == {99: {"old": 1, "kept": 2}, 101: {"kept": 1}, 159: {"kept": 1}, 161: {}}


def test_rows_past_their_retention_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "history.sqlite"
    monkeypatch.setattr(time, "time", lambda: START + 500 * DAY)
    with open_store(str(path), simple_rules(), retention=100 * DAY) as store:
        store.append([click("anna", n * DAY, str(n)) for n in range(50)])
        store.append([click("bert", 499 * DAY, "1")])
    with sqlite3.connect(path) as connection:
        settled = connection.execute("SELECT count(*) FROM repeats").fetchone()[0]
        told = connection.execute("SELECT keys FROM users ORDER BY user").fetchall()
    connection.close()
    assert (settled, told) == (0, [(0,), (0,)])


def test_a_user_is_forgotten_everywhere(address: str, opened: Opened) -> None:
    rules = simple_rules()
    store, other = opened(address, rules), opened(address, rules)
    for user in ("anna", "bert"):
        store.append([click(user, 30 * 3600 * n, f"{user} {n}", f"id {n}") for n in range(20)])
    assert other.forget("anna")
    assert not other.forget("anna")
    assert store.read("anna", LATER) == UserHistory()
    assert store.some_users(10) == ["bert"]
    assert len(store.read("bert", LATER).repeats) == 20
    # Nothing is remembered of what came: it counts again, once.
    assert store.append([click("anna", 0, "anna 0", "id 0")]) == [True]
    assert store.append([click("bert", 0, "bert 0", "id 0")]) == [False]
    if not address.startswith("unix://"):
        other.forget("anna")
        files = [file for file in Path(address).parent.iterdir() if file.name.startswith(Path(address).name)]
        assert not any(b"anna" in file.read_bytes() for file in files)


def test_users_are_forgotten_by_http(exported: Exported, tmp_path: Path) -> None:
    store = str(tmp_path / "history.sqlite")
    with client_of(exported, store) as client:
        client.post("/events", json={"events": [CLICK]})
        assert client.delete("/users/u%2F1%20%C3%A9").json() == {"forgotten": True}
        assert client.delete("/users/u%2F1%20%C3%A9").json() == {"forgotten": False}
        assert client.post("/events", json={"events": [CLICK]}).json()["new"] == 1
        too_long = client.delete("/users/" + "u" * 300)
        assert (too_long.status_code, too_long.json()["errors"][0]["field"]) == (422, "user")
    assert musenet.forget(store, "u/1 é")
    assert not musenet.forget(store, "u/1 é")


def test_a_user_is_forgotten_however_the_number_is_written(address: str) -> None:
    """But never another user than the one whose id is known as it is written."""
    numbers = ("12", "12.0", "007", "1", "12345678901234567890")
    with open_store(address, simple_rules()) as store:
        store.append([click(user, n, user) for n, user in enumerate(numbers)])
    left = set(numbers)
    for asked, gone in (
        ("7", None),  # a store that knows 007 holds text
        ("true", None),
        ("12.0", "12.0"),
        (" 12.0 ", "12"),
        ("12", None),
        ("1.", "1"),
        ("12345678901234567891", None),
        ("12345678901234567890.0", "12345678901234567890"),
        ("007", "007"),
    ):
        assert musenet.forget(address, asked) is (gone is not None), asked
        left -= {gone or ""}
        with open_store(address, None) as store:
            assert set(store.some_users(10)) == left, asked


def test_a_backup_is_a_store_made_while_others_write(tmp_path: Path) -> None:
    path, out = tmp_path / "history.sqlite", tmp_path / "copies" / "copy.sqlite"
    rules = simple_rules()
    with open_store(str(path), rules) as store:
        store.append([click("anna", n, str(n)) for n in range(50)])
        store.put_items({"new": {"city": "rome"}})
        musenet.backup(str(path), out)
        store.append([click("anna", 100, "later")])
        before = store.read("anna", START + 100)
    assert out.stat().st_mode & 0o077 == 0
    assert sorted(file.name for file in out.parent.iterdir()) == ["copy.sqlite"]
    with open_store(str(out), rules) as copy:
        assert copy.read("anna", LATER) == before
        assert copy.items_since(0) == (1, {"new": {"city": "rome"}})
        assert copy.append([click("anna", 3, "3")]) == [False]


def test_what_cannot_be_copied_or_forgotten_is_said(tmp_path: Path, redis_address: str, opened: Opened) -> None:
    with pytest.raises(StoreError, match=r"nowhere\.sqlite does not exist: give the file"):
        musenet.forget(str(tmp_path / "nowhere.sqlite"), "anna")
    assert not (tmp_path / "nowhere.sqlite").exists()
    other = tmp_path / "notes.txt"
    other.write_text("no database\n" * 100)
    with pytest.raises(StoreError, match="cannot be used"):
        musenet.backup(str(other), tmp_path / "copy.sqlite")
    opened(redis_address, simple_rules())
    with pytest.raises(UserError, match="backed up by the database itself"):
        musenet.backup(redis_address, tmp_path / "copy.sqlite")
    path = tmp_path / "old.sqlite"
    with sqlite3.connect(path) as connection:  # as the version before made it
        connection.execute("PRAGMA application_id = 1836413806")
        connection.execute("CREATE TABLE store (description TEXT NOT NULL)")
        connection.execute("INSERT INTO store VALUES (?)", (json.dumps({"format": 1}),))
    connection.close()
    with pytest.raises(StoreError, match="is not a history store of this version: give another path and fill it"):
        open_store(str(path), simple_rules())
