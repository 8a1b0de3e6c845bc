"""Training several planned runs on one dataset, some at once in processes of their own."""

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Any, TypeVar

import torch

from musenet.dataset.dataset import Dataset
from musenet.errors import RunError
from musenet.progress import SILENT, Listener
from musenet.runs.training_result import TrainingResult
from musenet.studies.plans import PlannedRun
from musenet.training.loop import Log
from musenet.training.train_run import train_run

Outcome = TypeVar("Outcome")
Work = Callable[[PlannedRun, Dataset, Log | None], Outcome]


def train_planned(planned: PlannedRun, dataset: Dataset, log: Log | None) -> TrainingResult:
    """Train a planned run; a finished one is reused, an interrupted one goes on."""
    return train_run(
        planned.experiment, dataset, planned.path, resume=True, replace=True, splits=planned.splits, log=log
    )


class TrainingPool:
    """Works on planned runs, in this process or in several others; use it as a context manager.

    The processes live as long as the pool, since loading torch takes seconds. Ctrl-C is the main process's business:
    it asks the others to stop after the step, with a checkpoint. They end with the main process if that is killed.

    Args:
        dataset: what all runs are trained on.
        jobs: how many runs at once, each in its own process with its part of the cores; in this process if 1.
        listener: told of every report of the training loop; of several jobs, of how each run ended alone, and of
            Ctrl-C that the others are waited for.
    """

    def __init__(self, dataset: Dataset, jobs: int = 1, listener: Listener = SILENT) -> None:
        self.dataset = dataset
        self.listener = listener
        self.threads = max(1, (os.cpu_count() or 1) // jobs)
        self._executor: ProcessPoolExecutor | None = None
        if jobs > 1:
            context = multiprocessing.get_context(
                "spawn"
            )  # a fork would share torch's threads, which do not survive it
            self._stop = context.Event()
            self._executor = ProcessPoolExecutor(
                jobs, mp_context=context, initializer=_begin_worker, initargs=(self._stop,)
            )

    def __enter__(self) -> "TrainingPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._executor is not None:
            if error is not None:
                self._stop.set()
            if isinstance(error, KeyboardInterrupt):
                self.listener.say("stopping: trainings under way write their checkpoints first")
            self._executor.shutdown(wait=True, cancel_futures=True)

    def each(self, work: Work[Outcome], planned: Sequence[PlannedRun]) -> Iterator[tuple[PlannedRun, Outcome]]:
        """Every run with its outcome, as they end.

        Args:
            work: a function of a module, since other processes look it up by name.
            planned: the runs, begun in this order.

        Raises:
            RunError: if one of the other processes was killed.
        """
        if self._executor is None:
            for run in planned:
                yield run, work(run, self.dataset, self.listener.training(run.name))
            return
        futures = {
            self._executor.submit(_work_apart, work, run, self.dataset.folder, self.threads): run for run in planned
        }
        for future in as_completed(futures):
            try:
                outcome = future.result()
            except BrokenProcessPool as error:
                raise RunError(
                    "a training process was killed, most likely because memory ran out: give fewer --jobs; finished "
                    "trainings are kept"
                ) from error
            if isinstance(outcome, TrainingResult):
                self.listener.training(futures[future].name)(outcome.to_json())
            yield futures[future], outcome


_stop_asked: Event | None = None


def _begin_worker(stop: Event) -> None:
    global _stop_asked  # noqa: PLW0603 - a worker process has no other place for what outlives a call
    _stop_asked = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    atexit.register(os._exit, 0)  # DuckDB's bindings would tell of what the interpreter "leaks" in its end
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _stop_if_asked(_: dict[str, Any]) -> None:
    if _stop_asked is not None and _stop_asked.is_set():
        signal.raise_signal(signal.SIGINT)  # the loop takes it as Ctrl-C: checkpoint after the step, then stop


def _work_apart(work: Work[Outcome], planned: PlannedRun, dataset: Any, threads: int) -> Outcome:
    if _stop_asked is not None and _stop_asked.is_set():  # handed over before the stop, not begun
        raise KeyboardInterrupt
    torch.set_num_threads(threads)
    training = planned.experiment.training.model_copy(update={"threads": threads})
    experiment = planned.experiment.model_copy(update={"training": training})
    return work(replace(planned, experiment=experiment), Dataset(dataset), _stop_if_asked)
