"""A preparation that is killed at any moment is simply run again: it goes on, and the dataset is the same."""

import multiprocessing
import os
import random
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import pytest
from ibis.backends.duckdb import Backend

from musenet.dataset.dataset import Dataset
from musenet.engines.engine import Engine
from musenet.engines.registry import open_duckdb
from musenet.errors import DataError, DatasetError, UserError
from musenet.preparation.encoding.writer import DatasetWriter
from musenet.preparation.prepare import prepare
from musenet.workspace import workspace
from preparation.logs import MemorySource, random_log, recipe

pytestmark = pytest.mark.slow

# Where random moments are drawn from: a preparation of this log opens and stores somewhat more of its own.
OPENED_FILES, STORED_TABLES = 70, 25
STEPS = 15


def _prepare(out: Path) -> Dataset:
    return prepare(MemorySource(random_log(5)), recipe(), out).dataset


def _prepare_and_die(out: Path, after_step: int, after_table: int, after_file: int) -> None:
    """Prepare, and kill the process at its n-th step, in the middle of its n-th table or as it opens its n-th file."""
    seen: Counter[str] = Counter()

    def count(what: str, until: int) -> None:
        seen[what] += 1
        if seen[what] == until:
            os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("open", "os.rename", "os.mkdir", "shutil.rmtree") and ".preparing" in str(arguments[0]):
            count("file", after_file)

    create_table = Backend.create_table

    def create(*arguments: Any, **options: Any) -> ir.Table:
        table = create_table(*arguments, **options)
        count("table", after_table)
        return table

    Backend.create_table = create
    sys.addaudithook(audit)
    prepare(MemorySource(random_log(5)), recipe(), out, progress=lambda _: count("step", after_step))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return _prepare(tmp_path_factory.mktemp("whole") / "dataset").manifest.checksums


def kill(out: Path, *, after_step: int = 0, after_table: int = 0, after_file: int = 0) -> bool:
    """Whether the process was killed, rather than ending before that."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "ibis.backends.duckdb", "polars", "musenet.preparation.prepare"])
    process = context.Process(target=_prepare_and_die, args=(out, after_step, after_table, after_file))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_killed_at_every_step(tmp_path: Path, expected: dict[str, str]) -> None:
    """Each attempt goes on from the one before, and gets one step further."""
    out, step = tmp_path / "dataset", 1
    while kill(out, after_step=step):
        assert not out.exists()
        step += 1
    assert step > STEPS
    assert Dataset(out).manifest.checksums == expected
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("table", random.Random(2).sample(range(1, STORED_TABLES), 3))
def test_killed_in_the_middle_of_a_step(tmp_path: Path, expected: dict[str, str], table: int) -> None:
    out = tmp_path / "dataset"
    assert kill(out, after_table=table)
    assert _prepare(out).manifest.checksums == expected
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("file", random.Random(1).sample(range(1, OPENED_FILES), 3))
def test_killed_at_a_file(tmp_path: Path, expected: dict[str, str], file: int) -> None:
    out = tmp_path / "dataset"
    assert kill(out, after_file=file)
    assert not out.exists()
    assert _prepare(out).manifest.checksums == expected
    assert list(tmp_path.iterdir()) == [out]


def interrupt_at(text: str, error: BaseException | None = None) -> Callable[[str], None]:
    def listen(step: str) -> None:
        if step == text:
            raise error or KeyboardInterrupt

    return listen


def test_what_is_finished_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, out = MemorySource(random_log(5)), tmp_path / "dataset"
    with pytest.raises(KeyboardInterrupt):
        prepare(source, recipe(), out, progress=interrupt_at("encoding events"))
    monkeypatch.setattr(Engine, "_write", lambda _, place, __: pytest.fail(f"{place} is computed again"))
    monkeypatch.setattr(DatasetWriter, "_encode_candidates", lambda *_: pytest.fail("encoded again"))
    assert prepare(source, recipe(), out).dataset.manifest.events


def test_a_table_that_could_not_be_computed_is_not_found_again(tmp_path: Path) -> None:
    engine = open_duckdb(tmp_path)
    text = engine.store("text", ibis.memtable({"value": ["1", "two"]}))
    with pytest.raises(duckdb.Error):
        engine.store("numbers", text.mutate(value=text.value.cast("int64")))
    engine.close()
    again = open_duckdb(tmp_path)
    assert again._earlier() == {"text_1"}
    again.close()


def test_what_another_preparation_left_is_discarded(tmp_path: Path) -> None:
    source, out = MemorySource(random_log(5)), tmp_path / "dataset"
    other = recipe(history={"columns": ["brand"], "length": 3})
    with pytest.raises(KeyboardInterrupt):
        prepare(source, other, out, progress=interrupt_at("checking the dataset"))
    with pytest.raises(KeyboardInterrupt):
        prepare(MemorySource(random_log(6), "another"), recipe(), out, progress=interrupt_at("encoding events"))
    found = prepare(source, recipe(), out).dataset.manifest.checksums
    assert found == _prepare(tmp_path / "anew").manifest.checksums


def test_refused_data_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        prepare(
            MemorySource(random_log(5)),
            recipe(),
            tmp_path / "out",
            progress=interrupt_at("encoding events", DataError("no")),
        )
    assert not list(tmp_path.iterdir())


def test_too_small_a_disk_is_told_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 9 * 10**5, 10**5))
    with pytest.raises(UserError, match=r"needs about 0\.\d GB of disk, but the disk that holds .* has 0\.0 GB free"):
        prepare(MemorySource(random_log(5)), recipe(), tmp_path / "out")


def test_progress_only_grows_and_ends_whole(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    prepare(
        MemorySource(random_log(5)), recipe(), tmp_path / "out", steps=lambda done, total: told.append((done, total))
    )
    done = [part for part, _ in told]
    assert done == sorted(done)
    assert len({total for _, total in told}) == 1
    assert told[-1][0] == told[-1][1]


def test_killed_while_replacing(tmp_path: Path) -> None:
    """Between the two renames the old dataset lies in the workspace: it is put back, then replaced."""
    out = tmp_path / "dataset"
    _prepare(out)
    inside = tmp_path / ".dataset.preparing"
    inside.mkdir()
    out.rename(inside / "replaced")
    assert prepare(MemorySource(random_log(5)), recipe(), out).reused
    assert list(tmp_path.iterdir()) == [out]


def test_an_interrupt_that_the_database_passes_on_is_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        prepare(
            MemorySource(random_log(5)),
            recipe(),
            tmp_path / "out",
            progress=interrupt_at("encoding users and items", RuntimeError("Query interrupted")),
        )


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "dataset"
    with workspace(out, "a"), pytest.raises(DatasetError, match="another process is preparing"), workspace(out, "a"):
        pass
    assert not list(tmp_path.iterdir())
