"""Several runs at once: in processes that are used again, and that end with the work."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.progress import Listener, Moment
from musenet.runs.folder import RunFolder
from musenet.studies.plans import PlannedRun
from musenet.studies.pool import TrainingPool, train_planned
from musenet.training.loop import Log
from planted import SMALL_BASE, planted_experiment, write_planted

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_planted(tmp_path_factory.mktemp("pool") / "dataset")


def process_of(planned: PlannedRun, dataset: Dataset, log: Log | None) -> int:
    return os.getpid()


def killed(planned: PlannedRun, dataset: Dataset, log: Log | None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def never_ending(planned: PlannedRun, dataset: Dataset, log: Log | None) -> None:
    print("working", flush=True)
    threading.Event().wait()


def test_processes_are_used_again_and_a_run_that_cannot_be_stops_the_others(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "note.txt").write_text("no run")
    endless = PlannedRun("endless", planted_experiment(SMALL_BASE, epochs=10**6, patience=10**6), tmp_path / "endless")
    impossible = PlannedRun("impossible", planted_experiment(SMALL_BASE), tmp_path / "other")
    told: list[Moment] = []

    def interrupted() -> None:
        with TrainingPool(dataset, jobs=2, listener=Listener(told.append)) as pool:
            processes = {process for _, process in pool.each(process_of, [endless] * 8)}
            assert len(processes) <= 2
            assert os.getpid() not in processes
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [moment.content["text"] for moment in told] == [
        "stopping: trainings under way write their checkpoints first"
    ]

    def train_both() -> None:
        with TrainingPool(dataset, jobs=2) as pool:
            list(pool.each(train_planned, [endless, impossible]))

    with pytest.raises(RunError, match="is not a run"):
        train_both()
    assert not RunFolder(endless.path).finished


def test_a_process_that_is_killed_is_told_in_a_sentence(dataset: Dataset, tmp_path: Path) -> None:
    planned = PlannedRun("killed", planted_experiment(SMALL_BASE), tmp_path / "killed")
    with pytest.raises(RunError, match=r"was killed.*fewer --jobs"), TrainingPool(dataset, jobs=2) as pool:
        list(pool.each(killed, [planned]))


def test_processes_end_with_the_one_that_began_them(dataset: Dataset, tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from musenet.dataset.dataset import Dataset
from musenet.studies.plans import PlannedRun
from musenet.studies.pool import TrainingPool
from planted import planted_experiment
from test_pool import never_ending
if __name__ == "__main__":
    with TrainingPool(Dataset(Path({str(dataset.folder)!r})), jobs=2) as pool:
        list(pool.each(never_ending, [PlannedRun("endless", planted_experiment(), Path("nowhere"))]))
"""
    (tmp_path / "main.py").write_text(script)
    main = subprocess.Popen([sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True)
    assert main.stdout is not None
    assert main.stdout.readline() == "working\n"
    main.kill()
    # The end of the stream comes once nobody holds it any more: neither the main process nor a worker.
    rest, _ = main.communicate(timeout=60)
    assert rest == ""
