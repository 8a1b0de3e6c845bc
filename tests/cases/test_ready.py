"""`/ready` tells whether anything can be kept, and what a store says and shows is for its owner alone."""

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from musenet.errors import StoreError
from musenet.serving.store.history import WritableStore
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from serving.stores import click, simple_rules

Opened = Callable[[str, HistoryRules], WritableStore]


def test_a_store_that_keeps_is_ready(address: str, opened: Opened) -> None:
    store = opened(address, simple_rules())
    store.check()
    assert store.append([click("u1", 0.0)]) == [True]
    store.check()
    assert len(store.read("u1", None).events) == 1


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_was_removed_or_replaced_keeps_nothing(tmp_path: Path, opened: Opened, replaced: bool) -> None:
    file = tmp_path / "history.sqlite"
    store = opened(str(file), simple_rules())
    file.unlink()
    if replaced:
        opened(str(tmp_path / "other.sqlite"), simple_rules())
        (tmp_path / "other.sqlite").rename(file)
    with pytest.raises(StoreError, match="was removed or replaced: start again"):
        store.check()
    with pytest.raises(StoreError, match="was removed or replaced: start again"):
        store.append([click("u1", 0.0)])


def test_a_description_that_is_gone_is_no_store(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "history.sqlite"
    store = opened(str(file), simple_rules())
    with sqlite3.connect(file) as other:
        other.execute("DELETE FROM store WHERE name = 'description'")
    with pytest.raises(StoreError, match="is not a history store of this version"):
        store.check()


def test_a_full_disk_is_not_ready(tmp_path: Path, opened: Opened) -> None:
    file = tmp_path / "history.sqlite"
    store = opened(str(file), simple_rules())
    with sqlite3.connect(file) as other:  # stands for a disk that takes no more
        other.execute("CREATE TRIGGER full BEFORE INSERT ON store BEGIN SELECT raise(ABORT, 'disk is full'); END")
    with pytest.raises(StoreError, match="disk is full"):
        store.check()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_store_files_are_their_owners_alone(tmp_path: Path, opened: Opened, mask: int) -> None:
    before = os.umask(mask)
    try:
        store = opened(str(tmp_path / "history.sqlite"), simple_rules())
        store.append([click("u1", 0.0)])
        found = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert set(found) == {"history.sqlite", "history.sqlite-wal", "history.sqlite-shm"}
    assert set(found.values()) == {0o600}


@pytest.mark.parametrize("change", ["description gone", "evicting", "full", "read-only"])
def test_a_database_that_keeps_nothing_is_not_ready(redis_address: str, opened: Opened, change: str) -> None:
    import redis

    with redis.Redis.from_url(redis_address) as database:
        database.flushall()
        store = opened(redis_address, simple_rules())
        store.check()
        settings = {"description gone": {}, "evicting": {"maxmemory": "100mb", "maxmemory-policy": "allkeys-lru"}}
        settings |= {"full": {"maxmemory": "1"}, "read-only": {"min-replicas-to-write": "1"}}
        try:
            if not settings[change]:
                database.flushall()
            for name, value in settings[change].items():
                database.config_set(name, value)
            with pytest.raises(StoreError) as found:
                store.check()
        finally:
            for name, value in {
                "maxmemory": "0",
                "maxmemory-policy": "noeviction",
                "min-replicas-to-write": "0",
            }.items():
                database.config_set(name, value)
        told = {"description gone": "not a history store", "evicting": "allkeys-lru", "full": "memory"}
        assert told.get(change, "replicas") in str(found.value)
        database.set("musenet:store", "{}", nx=True)


SECRETS = [
    "redis://:SECRET@host:6379/0",
    "redis://somebody:SECRET@host",
    "rediss://:SEC/RET?SECRET@host",
    "valkey://host?password=SECRET",
    "valkey://host?password=SECRET@more",
    "unix:///socket?username=SECRET&password=SECRET",
    "http://:SECRET@host",
]


@pytest.mark.parametrize("address", SECRETS)
def test_a_password_in_an_address_is_refused_and_never_said(address: str) -> None:
    with pytest.raises(StoreError) as found:
        open_store(address, simple_rules())
    assert "SECRET" not in str(found.value)
    if not address.startswith("http"):
        assert "$MUSENET_STORE_PASSWORD" in str(found.value)


def test_a_password_of_the_environment_opens_and_is_never_said(
    redis_address: str, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    with redis.Redis.from_url(redis_address) as database:
        database.flushall()
        database.config_set("requirepass", "SECRET")
        try:
            with pytest.raises(StoreError) as found:
                open_store(redis_address, simple_rules())
            monkeypatch.setenv("MUSENET_STORE_PASSWORD", "SECRETS")
            with pytest.raises(StoreError) as wrong:
                open_store(redis_address, simple_rules())
            monkeypatch.setenv("MUSENET_STORE_PASSWORD", "SECRET")
            opened(redis_address, simple_rules()).check()
        finally:
            database.auth("SECRET")
            database.config_set("requirepass", "")
    assert "SECRET" not in f"{found.value} {wrong.value}"
