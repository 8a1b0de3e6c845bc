"""A preparation that is killed at any moment leaves nothing behind and is simply run again."""

import multiprocessing
import os
import random
import signal
import sys
from pathlib import Path

import pytest

from data.logs import MemorySource, random_log, recipe
from musenet.data.dataset import Dataset
from musenet.data.prepare import prepare
from musenet.data.workspace import workspace
from musenet.errors import DatasetError

# Where random moments are drawn from: a preparation of this log opens about so many files of its own.
OPENED_FILES = 70


def _prepare(out: Path) -> Dataset:
    return prepare(MemorySource(random_log(5)), recipe(), out).dataset


def _prepare_and_die(out: Path, after_step: int, after_file: int) -> None:
    """Prepare, and kill the process at its n-th step or when it opens its n-th file."""
    steps, files = [0], [0]

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def listen(_: str) -> None:
        steps[0] += 1
        if steps[0] == after_step:
            die()

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "shutil.rmtree") and ".preparing" in str(arguments[0]):
            files[0] += 1
            if files[0] == after_file:
                die()

    sys.addaudithook(audit)
    prepare(MemorySource(random_log(5)), recipe(), out, progress=listen)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _prepare(tmp_path_factory.mktemp("whole") / "dataset").manifest.checksums


def kill(out: Path, after_step: int = 0, after_file: int = 0) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data.logs", "musenet.data.prepare"])
    process = context.Process(target=_prepare_and_die, args=(out, after_step, after_file))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", [1, 4, 8, 9])
def test_killed_at_a_step(tmp_path: Path, expected: dict[str, str], step: int) -> None:
    out = tmp_path / "dataset"
    kill(out, after_step=step)
    assert not out.exists()
    assert _prepare(out).manifest.checksums == expected
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("file", random.Random(1).sample(range(1, OPENED_FILES), 4))
def test_killed_at_a_file(tmp_path: Path, expected: dict[str, str], file: int) -> None:
    out = tmp_path / "dataset"
    kill(out, after_file=file)
    assert not out.exists()
    assert _prepare(out).manifest.checksums == expected
    assert list(tmp_path.iterdir()) == [out]


def test_killed_while_replacing(tmp_path: Path) -> None:
    """Between the two renames the old dataset lies in the workspace: it is put back, then replaced."""
    out = tmp_path / "dataset"
    _prepare(out)
    inside = tmp_path / ".dataset.preparing"
    inside.mkdir()
    out.rename(inside / "replaced")
    assert prepare(MemorySource(random_log(5)), recipe(), out).reused
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("Query interrupted")])
def test_an_interrupt_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    """Ctrl-C, also as the database passes it on."""

    def interrupt(step: str) -> None:
        if step == "encoding":
            raise error

    with pytest.raises(KeyboardInterrupt):
        prepare(MemorySource(random_log(5)), recipe(), tmp_path / "out", progress=interrupt)
    assert not list(tmp_path.iterdir())


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    with workspace(out), pytest.raises(DatasetError, match="another process is preparing"), workspace(out):
        pass
    assert not list(tmp_path.iterdir())
