"""The watcher of new exports goes on whatever happens, counts it, says why, and tries again."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from musenet.errors import ExportError
from musenet.files import write_text
from musenet.serving.http.app import create_app
from musenet.serving.http.structured_log import JsonLines
from musenet.serving.manifest import MANIFEST
from musenet.serving.scorer.messages import ScoreRequest
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.service.service import LONGEST_WAIT, Service
from serving.apps import HOST, plain_request
from serving.exports import Exported


@pytest.fixture
def folder(exported: Exported, tmp_path: Path) -> Path:
    copied: Path = shutil.copytree(exported.folder, tmp_path / "export")
    return copied


@pytest.fixture
def service(folder: Path, tmp_path: Path) -> Iterator[Service]:
    opened = Service(folder, str(tmp_path / "history.sqlite"))
    yield opened
    opened.close()


def counted(client: TestClient, outcome: str) -> float:
    found = re.search(rf'musenet_reloads_total{{outcome="{outcome}"}} (\S+)', client.get("/metrics").text)
    return float(found[1]) if found else 0.0


def until(condition: Callable[[], bool]) -> None:
    """Asks as long as it is not so, a thousand times at most; each asking is a call of the service."""
    assert any(condition() for _ in range(20_000))


@pytest.mark.parametrize("error", [MemoryError("no memory"), OSError(24, "too many files"), RuntimeError("a defect")])
def test_whatever_is_raised_the_watcher_goes_on(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    outcomes = iter([error, error])

    def reload() -> bool:
        for one in outcomes:
            raise one
        return True

    monkeypatch.setattr(service, "reload", reload)
    caplog.set_level(logging.INFO, "musenet.serving")
    with TestClient(create_app(service, reload_seconds=0.001), base_url=HOST) as client:
        until(lambda: counted(client, "taken") > 0)
        assert counted(client, "failed") == 2
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records]
    failed = [line for line in lines if line["event"] == "reload failed"]
    assert [line["error"] for line in failed] == [type(error).__name__] * 2


def test_an_export_that_is_still_being_copied_is_taken_once_it_is_whole(
    service: Service, folder: Path, exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A manifest that came before its files: no second look at the manifest would tell that they are there."""
    now = 1000.0
    monkeypatch.setattr("musenet.serving.service.service.time.monotonic", lambda: now)
    missing = (folder / "embeddings.npy").rename(folder / "embeddings.npy.part")
    (folder / MANIFEST).touch()
    with pytest.raises(ExportError, match="missing"):
        service.reload()
    assert not service.reload()
    missing.rename(folder / "embeddings.npy")
    now += 1.0
    assert service.reload()
    assert len(service.score(ScoreRequest.model_validate(plain_request(exported)))["scores"]) > 0


def test_what_fails_again_and_again_is_tried_ever_more_rarely(
    service: Service, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, waits = 0.0, list[float]()
    monkeypatch.setattr("musenet.serving.service.service.time.monotonic", lambda: now)

    def fails(*_: object, **__: object) -> Scorer:
        raise OSError(24, "too many open files")

    monkeypatch.setattr("musenet.serving.service.service.Scorer", fails)
    os.utime(folder / MANIFEST, ns=(1, 1))
    last = 0.0
    while len(waits) < 11:
        now += 0.5
        try:
            assert not service.reload()
        except OSError:
            waits.append(now - last)
            last = now
    assert waits[1:] == [1, 2, 4, 8, 16, 32, 64, 128, 256, LONGEST_WAIT]
    # Another export is tried at once.
    os.utime(folder / MANIFEST, ns=(2, 2))
    with pytest.raises(OSError, match="too many"):
        service.reload()


def test_a_damaged_export_counts_as_refused_and_the_next_one_is_taken(service: Service, folder: Path) -> None:
    manifest = folder / MANIFEST
    whole = manifest.read_text()
    with TestClient(create_app(service, reload_seconds=0.001), base_url=HOST) as client:
        write_text(manifest, "{")
        until(lambda: counted(client, "refused") > 0)
        assert client.get("/ready").status_code == 200
        write_text(manifest, whole)
        until(lambda: counted(client, "taken") > 0)
