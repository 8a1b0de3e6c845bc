"""The run folder: what training writes and everything right of it reads.

    run.json                      where the dataset lies and its fingerprint
    config.yaml                   the resolved experiment
    versions.json                 of what ran, and how many threads training had
    model.safetensors             the best weights by validation
    checkpoint.safetensors        what training resumes from
    metrics.jsonl                 a line per report of the training loop
    calibration.json              what its logits are recalibrated by, if they are
    names.json                    what its scenarios are called
    start.json                    what training began with, if with another run's weights, and what became of that
    training.json                 how training ended (docs/commands.md, `train`)
    predictions/<split>.parquet   a row per candidate
    assignments/<split>.parquet   a row per request
    evaluation/<split>.json       docs/commands.md, `evaluate`

Every file but metrics.jsonl is replaced whole, so that a killed process leaves the old or the new one; lines of
metrics.jsonl that cannot be read are passed over and counted. Nothing here is a pickle.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from musenet.config.experiment import Experiment
from musenet.config.loading import load_experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split, holds_dataset, note_run
from musenet.distributed.pieces import InPieces
from musenet.distributed.row_shards import RowShards
from musenet.errors import ConfigError, RunError, one_line
from musenet.files import checksum, json_ready, remove_leftovers, write_json, write_text
from musenet.runs.metrics_lines import metrics_entry
from musenet.runs.tensor_files import mapped_tensors, save_tensors
from musenet.runs.there import DESCRIPTION, check_run_folder
from musenet.runs.training_result import TrainingResult
from musenet.runs.versions import versions
from musenet.storage.addresses import address, is_copy
from musenet.storage.copies import fetched, send

FORMAT = 2
VERSIONS = "versions.json"


class RunFolder:
    """A run's files, by name. Making the object touches nothing: `create` begins a run, `open` checks that it is one.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.yaml"
        self.model_file = path / "model.safetensors"
        self.checkpoint_file = path / "checkpoint.safetensors"
        self.metrics_file = path / "metrics.jsonl"
        self.training_file = path / "training.json"
        self.calibration_file = path / "calibration.json"
        self.names_file = path / "names.json"
        self.start_file = path / "start.json"

    @classmethod
    def create(
        cls, path: Path, experiment: Experiment, dataset: Dataset, start: "RunFolder | None" = None
    ) -> "RunFolder":
        """Begin a run: write the experiment, the places of dataset and starting run, the versions of what runs."""
        run = cls(path)
        content = experiment.model_dump(mode="json", by_alias=True)
        write_text(run.config_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        write_json(path / VERSIONS, versions())
        folder = dataset.folder.resolve()
        description = {
            "format": FORMAT,
            "dataset": address(folder),
            "dataset_from_here": os.path.relpath(folder, path.resolve()),
            "dataset_fingerprint": dataset.manifest.fingerprint,
        }
        if start is not None:
            description |= {"from": address(start.path.resolve()), "from_weights": start.model_checksum}
        write_json(path / DESCRIPTION, description)
        if not is_copy(folder):
            note_run(folder, path)
        return run

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The run in this folder.

        Raises:
            RunError: if the folder holds no run, or one of another format.
        """
        run = cls(path)
        check_run_folder(path)
        found = run.read_json(DESCRIPTION).get("format")
        if found != FORMAT:
            raise RunError(
                f"{path / 'run.json'} is of format {found}, this version reads {FORMAT}: train again with --restart"
            )
        return run

    def lock(self) -> int:
        """An open handle that keeps other trainings out until it is closed, by the system if this process is killed.

        Raises:
            RunError: if another training is running in the folder, or there can be no such folder.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            raise RunError(f"{self.path} cannot be a run's folder, a file is in its way: give another --out") from error
        handle = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise RunError(f"another training is running in {self.path}: wait for it, or give another --out") from error
        return handle

    @cached_property
    def experiment(self) -> Experiment:
        """The resolved experiment; raises `RunError` if config.yaml is missing or damaged."""
        try:
            return load_experiment(self.config_file)
        except ConfigError as error:
            if not self.config_file.is_file():
                raise RunError(f"{self.config_file} is missing: train again with --restart") from error
            raise RunError(
                f"{self.config_file} cannot be read ({one_line(error)}): it is damaged, or of another version or of a "
                "package that is not installed here; install what trained it, or train again with --restart"
            ) from error

    @property
    def dataset_fingerprint(self) -> str:
        """Of the dataset that the run was trained on."""
        return str(self.read_json(DESCRIPTION).get("dataset_fingerprint"))

    @cached_property
    def dataset(self) -> Dataset:
        """The dataset that the run was trained on.

        Raises:
            RunError: if it is not where it was, or was prepared anew in another way since.
        """
        description = self.read_json(DESCRIPTION)
        named = str(description.get("dataset"))
        places = (named, os.path.normpath(self.path.resolve() / str(description.get("dataset_from_here"))))
        found = next((folder for folder in map(fetched, places) if holds_dataset(folder)), None)
        if found is None:
            raise RunError(f"the dataset of the run {self.path} is no longer at {named}: prepare it there again")
        dataset = Dataset(found)
        if dataset.manifest.fingerprint != description.get("dataset_fingerprint"):
            raise RunError(
                f"{found} was prepared in another way since the run {self.path} was trained: train again with --restart"
            )
        return dataset

    @property
    def weights_before(self) -> str | None:
        """SHA-256 of the weights that its training began with; None if with fresh ones."""
        return self.read_json(DESCRIPTION).get("from_weights")

    @property
    def start(self) -> "RunFolder | None":
        """The run whose weights its training began with; None if it began with fresh ones.

        Raises:
            RunError: if that run is gone, or has other weights now.
        """
        if self.weights_before is None:
            return None
        start = RunFolder.open(fetched(str(self.read_json(DESCRIPTION).get("from"))))
        if start.model_checksum != self.weights_before:
            raise RunError(f"{self.path} began with other weights than {start.path} has now: train it again")
        return start

    @property
    def training(self) -> TrainingResult:
        """How training ended; raises `RunError` if it did not, or the file is damaged."""
        return TrainingResult.read(self.training_file)

    def save_model(self, state: Mapping[str, Tensor | InPieces]) -> None:
        """Keep these weights, a model's `whole_state`."""
        save_tensors(self.model_file, state)
        self.__dict__.pop("model_checksum", None)

    def save_checkpoint(self, tensors: Mapping[str, Tensor | InPieces], progress: str) -> None:
        """Replace the checkpoint: all that training needs to go on, and where it stands; in a bucket too."""
        save_tensors(self.checkpoint_file, tensors, {"progress": progress})
        send(self.path)

    def load_state(self, parts: Mapping[str, RowShards] = {}) -> dict[str, Tensor]:
        """The kept weights, in their file (`mapped_tensors`); raises `RunError` if there are none, or damaged ones."""
        self.model_checksum  # noqa: B018 - raises
        return mapped_tensors(self.model_file, parts)[0]

    @cached_property
    def model_checksum(self) -> str:
        """Of the kept weights; raises `RunError` if there are none, or others than training.json speaks of."""
        self.check_trained()
        found = checksum(self.model_file)
        if self.training_file.is_file() and self.training.weights not in (None, found):
            raise RunError(
                f"{self.model_file} has other weights than those in {self.training_file.name}: put the "
                "run's own file back, or train again with --restart"
            )
        return found

    def check_trained(self) -> None:
        """Raise `RunError` unless weights have been kept."""
        if not self.model_file.is_file():
            raise RunError(f"{self.path} holds no trained model yet: finish it with `musenet train CONFIG --resume`")

    @property
    def versions(self) -> dict[str, Any]:
        """Of what trained it, the number of threads included; raises `RunError` if the file is missing or damaged."""
        return self.read_json(VERSIONS)

    def record_threads(self, threads: int) -> None:
        """Keep how many threads of torch training has, which sums of floats depend on; those of the process differ."""
        self.write_json(VERSIONS, self.versions | {"threads": threads})

    def append_metrics(self, entry: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(json_ready(entry), allow_nan=False) + "\n")

    def metrics(self) -> tuple[list[dict[str, Any]], int]:
        """The lines of metrics.jsonl, and how many cannot be read: a killed process cuts one short."""
        if not self.metrics_file.is_file():
            return [], 0
        lines = self.metrics_file.read_text(encoding="utf-8", errors="replace").split("\n")
        entries = [entry for line in lines if (entry := metrics_entry(line)) is not None]
        return entries, sum(not line.isspace() for line in lines if line) - len(entries)

    def keep_metrics_until(self, step: int) -> int:
        """Drop what was reported after this step, before training goes on from it; how many lines said nothing."""
        entries, unreadable = self.metrics()
        kept = [entry for entry in entries if entry["step"] <= step]
        write_text(self.metrics_file, "".join(json.dumps(entry) + "\n" for entry in kept))
        return unreadable

    def remove_leftovers(self) -> None:
        """Remove what killed processes left half written."""
        remove_leftovers(self.path)

    @property
    def finished(self) -> bool:
        """Whether training came to its end and left a model."""
        return self.training_file.is_file() and self.model_file.is_file()

    @property
    def half_finished(self) -> bool:
        """Whether there is something to lose of a training that did not come to its end."""
        return not self.finished and (self.checkpoint_file.is_file() or self.model_file.is_file())

    def predictions_file(self, split: Split) -> Path:
        """A row per candidate of the split."""
        return self.path / "predictions" / f"{split}.parquet"

    def assignments_file(self, split: Split) -> Path:
        """A row per request of the split."""
        return self.path / "assignments" / f"{split}.parquet"

    def evaluation_file(self, split: Split) -> Path:
        """What `evaluate` found on the split."""
        return self.path / "evaluation" / f"{split}.json"

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the folder."""
        write_json(self.path / name, content)

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder; raises `RunError` if it is missing or damaged."""
        file = self.path / name
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{file} is missing: is {self.path} a finished run?") from error
        except (OSError, ValueError) as error:
            raise RunError(f"{file} is damaged ({one_line(error)}): train again with --restart") from error
        if not isinstance(content, dict):
            raise RunError(f"{file} is damaged (no keys and values): train again with --restart")
        return content
