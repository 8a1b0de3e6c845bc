"""The service as a process of its own: it listens, answers, and ends what it began when told to stop."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from musenet.errors import UserError
from musenet.serving.http.middleware import Access
from musenet.serving.http.server import access_for
from musenet.serving.store.opening import open_store
from musenet.serving.store.rules import HistoryRules
from serving.apps import plain_request
from serving.exports import Exported
from serving.processes import COMMAND, address_of, running

LONG = "a-token-of-some-length"


def test_answering_takes_nothing_that_only_preparing_and_training_need() -> None:
    code = "import sys, musenet.serving.http.app; print(*{'duckdb', 'ibis', 'torch', 'polars'} & set(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    found = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, check=True)
    assert found.stdout.strip() == b""


def test_a_process_answers_keeps_and_ends_well(exported: Exported, tmp_path: Path) -> None:
    store = str(tmp_path / "history.sqlite")
    with running(COMMAND, "serve", str(exported.folder), "--store", store, "--port", "0") as process:
        assert process.stderr is not None
        address = address_of(process)
        request = plain_request(exported)
        with httpx.Client(base_url=address, timeout=60) as client:
            assert client.get("/ready").json()["status"] == "ready"
            answer = client.post("/score", json=request).json()
            assert len(answer["scores"]) == len(request["candidates"])
            event = {"user": "u1", "item": "i1", "kind": "click", "time": "2024-01-05T12:00:00Z"}
            assert client.post("/events", json={"events": [event]}).json()["new"] == 1
            client.post("/items", json={"items": [{"item": "added"}]})
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stderr]
        assert process.wait(timeout=60) in (0, -signal.SIGTERM)
    assert "stopped" in [line["event"] for line in lines]
    recipe = exported.run.experiment
    with open_store(store, HistoryRules(recipe.history, recipe.repeat)) as opened:
        assert len(opened.read("u1", None).events) == 1
        assert opened.items_since(0) == (1, {"added": {}})


def test_elsewhere_than_here_a_token_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSENET_TOKEN", raising=False)
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert access_for(host, None) == Access()
    for host in ("0.0.0.0", "::", "192.168.1.7", "example.org"):
        with pytest.raises(UserError, match=r"give a token of at least 16 characters in \$MUSENET_TOKEN"):
            access_for(host, None)
    monkeypatch.setenv("MUSENET_TOKEN", LONG)
    assert access_for("0.0.0.0", None) == access_for("localhost", None) == Access(LONG)
    for short in ("short", "a token with spaces in it", "ein-Zeichen-für-alle"):
        monkeypatch.setenv("MUSENET_TOKEN", short)
        with pytest.raises(UserError, match=r"the token in \$MUSENET_TOKEN must be 16 or more plain characters"):
            access_for("0.0.0.0", None)


def test_a_token_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(f"{LONG}\n")
    file.chmod(0o644)
    with pytest.raises(UserError, match="can be read by others: chmod 600"):
        access_for("0.0.0.0", file)
    file.chmod(0o600)
    assert access_for("0.0.0.0", file) == Access(LONG)
    file.write_text("")
    with pytest.raises(UserError, match=r"the token in .*token must be 16 or more plain characters"):
        access_for("localhost", file)
    with pytest.raises(UserError, match="cannot be read"):
        access_for("0.0.0.0", tmp_path / "nowhere")
