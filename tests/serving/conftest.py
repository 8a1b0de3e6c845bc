"""Lends a real Valkey or Redis server, and a store of each kind."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from musenet.serving.store.history import WritableStore
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from serving.exports import Exported, export_log

SERVERS = ("valkey-server", "redis-server")
STORES = ("sqlite", "redis")


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server that this session alone uses, on a socket in a folder of its own."""
    program = next((found for name in SERVERS if (found := shutil.which(name)) is not None), None)
    if program is None:
        if os.environ.get("REQUIRE_ALL") == "1":
            pytest.fail("neither Valkey nor Redis is installed: apt-get install redis-server")
        pytest.skip("neither Valkey nor Redis is installed")
    folder = tmp_path_factory.mktemp("redis")
    options = f"--port 0 --unixsocket {folder}/socket --dir {folder} --save '' --appendonly yes --appendfsync always"
    with subprocess.Popen([program, *options.replace("''", "").split(" ")], stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(folder / "socket", server)
            yield f"unix://{folder}/socket"
        finally:
            server.terminate()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as tried:
        return tried.connect_ex(str(path)) == 0


def wait_for(address: Path, server: subprocess.Popen[bytes]) -> None:
    """Until the server listens, a minute at most."""
    until = time.monotonic() + 60
    while not _listens(address):
        assert server.poll() is None, "the server ended at once"
        assert time.monotonic() < until, "the server does not listen"
        time.sleep(0.01)


@pytest.fixture(params=STORES)
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty store, once of each kind."""
    if request.param == "sqlite":
        return str(tmp_path / "history.sqlite")
    import redis

    found: str = request.getfixturevalue("redis_address")
    with redis.Redis.from_url(found) as database:
        database.flushall()
    return found


@pytest.fixture
def opened() -> Iterator[Callable[[str, HistoryRules], WritableStore]]:
    """Opens stores that are closed after the test."""
    with ExitStack() as stack:
        yield lambda address, rules: stack.enter_context(open_store(address, rules))


@pytest.fixture(scope="session", autouse=True)
def graphs_lent(graphs_traced_once: object) -> None:
    """Equal models are traced once."""


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """An untrained model on a random log, exported once."""
    return export_log(tmp_path_factory.mktemp("exported"))
