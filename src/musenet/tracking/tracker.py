"""A listener that records what it is told of trainings, and records of runs that have ended.

What is written: the configuration as parameters; losses, validation and health by step; figures of `evaluate` with the
bounds of their intervals (`test.auc`, `test.auc.low`, `test.auc.high`); report and export as artifacts.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.config.tracking import TrackingOptions
from musenet.evaluation.evaluation import Evaluation
from musenet.files import write_json
from musenet.progress import Listener, Moment
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run
from musenet.studies.comparison.results import Comparison
from musenet.tracking.backends import Backend, backends

TRACKING = "tracking.json"
"""The run folder's file of the ids under which a run is recorded."""


class Tracker(Listener):
    """Passes every moment on, and records those of trainings.

    Args:
        heard: who is told as well.
        experiment: that is trained.
        into: the backends, by key.
        parent: the name of a run that all others are recorded below; none if None.
    """

    def __init__(
        self, heard: Listener, experiment: Experiment, into: Mapping[str, Backend], parent: str | None = None
    ) -> None:
        super().__init__(heard.tell)
        self._experiment, self._into = experiment, into
        self._runs: dict[str, dict[str, str]] = {}
        self.parent: dict[str, str] = {}
        if parent is not None:
            self.parent = self._begun(parent)
            for key, backend in into.items():
                backend.parameters(self.parent[key], flat(experiment.content))

    def tell(self, moment: Moment) -> None:
        """Pass on, and record."""
        super().tell(moment)
        found = moment.content
        if moment.name == "begin":
            self._begin(moment.of, found)
        elif moment.name == "step":
            speed = {"samples_per_second": found["samples_per_second"]}
            self._metrics(moment.of, {f"loss.{name}": value for name, value in found["losses"].items()} | speed, found)
        elif moment.name == "validation":
            self._metrics(moment.of, _of_validation(found), found)
        elif moment.name == "end":
            self._end(moment.of, found)

    def compared(self, found: Comparison, files: list[Path]) -> None:
        """Record what a comparison found in the parent's run."""
        values = {f"{row.name}.auc": row.auc.mean for row in found.models}
        for key, backend in self._into.items():
            backend.metrics(self.parent[key], _finite(values), 0)
            for file in files:
                backend.artifact(self.parent[key], file)
            backend.end(self.parent[key])

    def _begun(self, name: str) -> dict[str, str]:
        return {key: self._begun_in(key, name) for key in self._into}

    def _begun_in(self, key: str, name: str) -> str:
        return self._into[key].begin(name, self._experiment.name, self.parent.get(key))

    def _begin(self, name: str, found: Mapping[str, Any]) -> None:
        """A training that is resumed goes on under the ids that its folder holds; another gets its own."""
        folder = RunFolder(Path(found["run"]))
        before = folder.read_json(TRACKING) if found["resumed"] and (folder.path / TRACKING).is_file() else {}
        self._runs[name] = {
            key: before[key] if key in before and backend.goes_on(before[key]) else self._begun_in(key, name)
            for key, backend in self._into.items()
        }
        write_json(folder.path / TRACKING, self._runs[name])

    def _of(self, name: str) -> dict[str, str]:
        if name not in self._runs:
            self._runs[name] = self._begun(name)
        return self._runs[name]

    def _metrics(self, name: str, values: Mapping[str, float], found: Mapping[str, Any]) -> None:
        for key, run in self._of(name).items():
            self._into[key].metrics(run, _finite(values), int(found["step"]))

    def _end(self, name: str, found: Mapping[str, Any]) -> None:
        folder = RunFolder(Path(found["run"]))
        if name not in self._runs:  # trained in a process of its own
            for entry in folder.metrics()[0]:
                losses = {f"loss.{term}": value for term, value in (entry.get("losses") or {}).items()}
                self._metrics(name, losses | (_of_validation(entry) if "valid" in entry else {}), entry)
        best = {f"best.{key}": value for key, value in found["best"].items() if isinstance(value, int | float)}
        ended = best | {"seconds": found["seconds"], "parameters": found["parameters"]}
        for key, run in self._of(name).items():
            self._into[key].parameters(run, flat(folder.experiment.content))
            self._into[key].metrics(run, _finite(ended), int(found["best"].get("step", 0)))
            self._into[key].end(run)
        write_json(folder.path / TRACKING, self._runs.pop(name))


@contextmanager
def tracked(heard: Listener, experiment: Experiment, parent: str | None = None) -> Iterator[Listener]:
    """Who is told of the experiment's trainings: a tracker if the configuration names a backend.

    Raises:
        UserError: if a backend is not installed or not reachable.
    """
    into = backends(experiment.tracking)
    yield Tracker(heard, experiment, into, parent) if into else heard


def record_evaluation(run: Run, found: Evaluation) -> None:
    """Record the figures of a run that was tracked, with the bounds of their intervals."""
    values: dict[str, float] = {}
    for name, interval in found.metrics.items():
        key = f"{found.split}.{name}"
        values |= {key: interval.value, f"{key}.low": interval.low, f"{key}.high": interval.high}
    for backend, recorded in _recorded(run):
        backend.metrics(recorded, _finite(values), int(run.training.best.get("step", 0)))
        backend.end(recorded)


def record_artifact(run: Run, path: Path) -> None:
    """Keep a file or a folder that was made of a run that was tracked."""
    for backend, recorded in _recorded(run):
        backend.artifact(recorded, path)
        backend.end(recorded)


def flat(content: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Values by dotted keys.

    >>> flat({"model": {"name": "din", "hidden": [4]}, "seed": 1})
    {'model.name': 'din', 'model.hidden': [4], 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in content.items():
        found |= flat(value, f"{above}{key}.") if isinstance(value, Mapping) and value else {f"{above}{key}": value}
    return found


def _recorded(run: Run) -> Iterator[tuple[Backend, str]]:
    file = run.path / TRACKING
    if not (file.is_file() and run.folder.finished):
        return
    ids, options = run.folder.read_json(TRACKING), run.experiment.tracking
    named = TrackingOptions(**{key: value for key, value in options.model_dump().items() if key in ids})
    for key, backend in backends(named).items():
        yield backend, ids[key]


def _of_validation(found: Mapping[str, Any]) -> dict[str, float]:
    values = {f"valid.{name}": value for name, value in found["valid"].items()}
    return values | {f"health.{name}": value for name, value in (found.get("health") or {}).items()}


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        key: float(value) for key, value in values.items() if isinstance(value, int | float) and math.isfinite(value)
    }
