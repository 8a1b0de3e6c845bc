"""The two services that `tracking` may name: each records runs under ids of its own."""

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from musenet.config.tracking import TrackingOptions
from musenet.errors import UserError, missing_extra, one_line

LONGEST = 6000
"""Characters of a value that MLflow keeps."""
AT_ONCE = 100
"""Parameters that MLflow takes at once."""


class Backend(Protocol):
    """Where runs are recorded."""

    def begin(self, name: str, experiment: str, parent: str | None) -> str:
        """Begin to record a run, below a parent if there is one; the run's id."""
        ...

    def goes_on(self, run: str) -> bool:
        """Go on with a run that was begun before, if it is there."""
        ...

    def parameters(self, run: str, values: Mapping[str, Any]) -> None:
        """Record the configuration, by dotted keys."""
        ...

    def metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        """Record numbers of a step."""
        ...

    def artifact(self, run: str, path: Path) -> None:
        """Keep a file or a folder beside the run, or say where it lies."""
        ...

    def end(self, run: str) -> None:
        """Say that nothing more will come for now."""
        ...


class Mlflow:
    """MLflow, by its tracking URI.

    Raises:
        UserError: if the extra `tracking` is not installed.
    """

    def __init__(self, uri: str) -> None:
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise missing_extra("tracking.mlflow needs MLflow", "tracking") from error
        self._uri = uri
        with self._reached():
            self._client = MlflowClient(tracking_uri=uri)

    def begin(self, name: str, experiment: str, parent: str | None) -> str:
        """As `Backend`."""
        tags = {"mlflow.runName": name} | ({} if parent is None else {"mlflow.parentRunId": parent})
        with self._reached():
            found = self._client.get_experiment_by_name(experiment)
            of = self._client.create_experiment(experiment) if found is None else found.experiment_id
            return str(self._client.create_run(of, tags=tags).info.run_id)

    def goes_on(self, run: str) -> bool:
        """As `Backend`; one that was deleted is not there, nor one of another store."""
        from mlflow.exceptions import MlflowException

        with self._reached():
            try:
                return bool(self._client.get_run(run).info.lifecycle_stage == "active")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise

    def parameters(self, run: str, values: Mapping[str, Any]) -> None:
        """As `Backend`."""
        from mlflow.entities import Param

        with self._reached():
            known = self._client.get_run(run).data.params  # which cannot change
            told = {_mlflow_name(key): str(value)[:LONGEST] for key, value in values.items()}
            new = [Param(name, text) for name, text in told.items() if name not in known]
            for begin in range(0, len(new), AT_ONCE):
                self._client.log_batch(run, params=new[begin : begin + AT_ONCE])

    def metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        """As `Backend`."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        numbers = [Metric(_mlflow_name(key), float(value), now, step) for key, value in values.items()]
        with self._reached():
            self._client.log_batch(run, metrics=numbers)

    def artifact(self, run: str, path: Path) -> None:
        """As `Backend`."""
        with self._reached():
            if path.is_dir():
                self._client.log_artifacts(run, str(path), path.name)
            else:
                self._client.log_artifact(run, str(path))

    def end(self, run: str) -> None:
        """As `Backend`."""
        with self._reached():
            self._client.set_terminated(run)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # stores raise errors of their own libraries
            raise UserError(
                f"tracking.mlflow: {self._uri} cannot be written to ({one_line(error)}): start it, or name another"
            ) from error


def _mlflow_name(key: str) -> str:
    """What MLflow calls a parameter or metric: it takes no @, parentheses or commas, which names of rows may have."""
    return re.sub(r"[^\w/. :-]", "_", key.replace("@", "_at_"))


class Tensorboard:
    """Event files of TensorBoard in a folder, a sub-folder per run, which is its id.

    TensorBoard draws all that lies in a folder as one curve, so runs of one name get folders of their own.

    Raises:
        UserError: if the extra `tracking` is not installed; if the folder cannot be written to.
    """

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard.writer import SummaryWriter
        except ImportError as error:
            raise missing_extra("tracking.tensorboard needs TensorBoard", "tracking") from error
        self._folder, self._writer = Path(folder), SummaryWriter
        self._open: dict[str, Any] = {}
        self._repeating: set[str] = set()

    def begin(self, name: str, experiment: str, parent: str | None) -> str:
        """As `Backend`."""
        above = self._folder / experiment if parent is None else Path(parent)
        called = name.replace("/", "-").replace(" ", "-")
        try:
            above.mkdir(parents=True, exist_ok=True)
            for place in (above / (called if number == 1 else f"{called}-{number}") for number in count(1)):
                with suppress(FileExistsError):
                    place.mkdir()
                    return str(place)
        except OSError as error:
            raise UserError(
                f"tracking.tensorboard: {above} cannot be written to ({one_line(error)}): name another folder"
            ) from error
        raise AssertionError("numbers do not end")

    def goes_on(self, run: str) -> bool:
        """As `Backend`; of what comes twice since the checkpoint, the curves show the second."""
        if not (Path(run).is_relative_to(self._folder) and Path(run).is_dir()):
            return False
        self._repeating.add(run)
        return True

    def parameters(self, run: str, values: Mapping[str, Any]) -> None:
        """As `Backend`."""
        lines = [f"    {key}: {value}" for key, value in values.items()]  # indented: Markdown shows it as it is
        self._of(run).add_text("configuration", "\n".join(lines))

    def metrics(self, run: str, values: Mapping[str, float], step: int) -> None:
        """As `Backend`."""
        writer = self._of(run, step)
        for key, value in values.items():
            writer.add_scalar(key, value, step)
        writer.flush()

    def artifact(self, run: str, path: Path) -> None:
        """As `Backend`."""
        self._of(run).add_text(f"artifacts/{path.name}", str(path.resolve()))

    def end(self, run: str) -> None:
        """As `Backend`."""
        if run in self._open:
            self._open.pop(run).close()

    def _of(self, run: str, step: int | None = None) -> Any:
        if run not in self._open:
            self._open[run] = self._writer(run, purge_step=step if run in self._repeating else None)
            self._repeating.discard(run)
        return self._open[run]


def backends(options: TrackingOptions) -> dict[str, Backend]:
    """Those that the options name, by their keys; raises `UserError` if one is not installed or not reachable."""
    found: dict[str, Backend] = {}
    if options.mlflow is not None:
        found["mlflow"] = Mlflow(options.mlflow)
    if options.tensorboard is not None:
        found["tensorboard"] = Tensorboard(options.tensorboard)
    return found
