"""An experiment as all calls take it: guessed, loaded, its dataset prepared."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.config.loading import apply_overrides, checked_again, load_experiment, validate_experiment
from musenet.config.yaml_text import read_yaml
from musenet.dataset.dataset import Dataset
from musenet.engines.registry import EngineName, bytes_of
from musenet.errors import UserError
from musenet.preparation.prepare import PreparedReport
from musenet.preparation.prepare import prepare as prepare_dataset
from musenet.progress import Listener
from musenet.reporter import AnyListener, told
from musenet.sources.guess.configuration import guess_config
from musenet.sources.log import AnyPath, Log, with_frames_kept
from musenet.sources.registry import open_source
from musenet.storage.addresses import here
from musenet.storage.copies import fetched, written

AnyExperiment = Experiment | Mapping[str, Any] | AnyPath


def load(experiment: AnyExperiment, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment, checked whole, the paths of its log whole ones.

    Args:
        experiment: a YAML file; or keys and values, in which a frame may stand for a `path` of the log; or one that was
            loaded before, whose fields may have been set since.
        overrides: `key.path=value`, as `--set`.

    Raises:
        ConfigError: for what describes no experiment.
        DataError: if a frame has no rows, or cannot be read as columns.
    """
    if isinstance(experiment, Experiment):
        loaded, base = checked_again(experiment, list(overrides)), Path()
    elif isinstance(experiment, Mapping):
        content = apply_overrides(with_frames_kept(experiment), list(overrides))
        loaded, base = validate_experiment(content, "the experiment"), Path()
    else:
        path = Path(experiment)
        loaded, base = load_experiment(path, list(overrides)), path.resolve().parent
    # Whole paths: the resolved configuration will lie elsewhere.
    loaded.data = loaded.data.starting_from(base.resolve())
    return loaded


def guess(log: Log | AnyPath | Sequence[AnyPath]) -> Experiment:
    """An experiment for a log, as `init` would write it: it prints as its YAML, doubts included (`# ?`).

    Args:
        log: its tables; or files, of which is guessed too what they hold.

    Raises:
        DataError: if a file cannot be read, or none can be the impressions.
        UserError: if it is a frame, or holds one.
    """
    tables = [] if isinstance(log, str | os.PathLike | Log) else log
    if hasattr(log, "__arrow_c_stream__") or any(hasattr(table, "__arrow_c_stream__") for table in tables):
        raise UserError(
            "guess takes frames as a log that says which is which: "
            "give guess(Log(impressions=frame)); the others are events=, users= and items="
        )
    files = [log] if isinstance(log, str | os.PathLike) else log
    text = guess_config(files if isinstance(files, Log) else [Path(file) for file in files])
    found = validate_experiment(read_yaml(text), "the guess", text)
    found._frames = log.kind if isinstance(log, Log) else None
    return found


def prepare(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    engine: EngineName = "duckdb",
    memory_limit: str | None = None,
    replace: bool = False,
    extends: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> PreparedReport:
    """Turn the experiment's log into a dataset, unless the same one is there already, and check it.

    Args:
        experiment: what to prepare.
        out: the dataset's folder, or an address in a bucket (docs/prepare.md); `datasets/<name>` if None.
        engine: what computes the relations, `duckdb` or `spark`; the dataset is the same.
        memory_limit: what the engine may use, such as `4GB`; half of what is free, if None.
        replace: another dataset in the folder gives way; the listener is told which runs lose theirs.
        extends: a dataset of the same recipe and of an earlier state of the log: only what was added since is read,
            both are written into another folder, and codes and scales stay as they are there (docs/next-week.md).
        overrides: see above.
        listener: told of every step.
    """
    resolved = load(experiment, overrides)
    before = None if extends is None else fetched(extends)
    place = Path("datasets") / resolved.name if out is None else out
    with told(listener) as heard, written(place) as folder:
        return prepare_dataset(
            open_source(resolved.data, resolved.recipe),
            resolved.recipe,
            folder,
            engine=engine,
            memory=None if memory_limit is None else bytes_of(memory_limit),
            replace=replace,
            extends=before,
            progress=heard.say,
            steps=heard.steps("prepare"),
        )


def prepared_dataset(experiment: Experiment, folder: AnyPath | None, listener: Listener) -> Dataset:
    """The experiment's dataset; what looks wrong with a new one is told."""
    prepared = prepare(experiment, folder, listener=listener)
    if not prepared.reused:
        for warning in prepared.checks.warnings:
            listener.say(f"warning: {warning}")
    return prepared.dataset


def run_folder(experiment: Experiment, out: AnyPath | None) -> Path:
    """Where the experiment's runs go: `runs/<name>` unless told."""
    return Path("runs") / experiment.name if out is None else here(out)
