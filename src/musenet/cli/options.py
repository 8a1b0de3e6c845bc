"""Arguments and options that mean the same in every command."""

import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from musenet.config.yaml_text import read_content
from musenet.runs.there import check_run_folder
from musenet.storage.addresses import is_url


def there_is_a_config(path: Path) -> Path:
    """The path; raises `ConfigError` at once if nothing is there: what reads it takes seconds to load."""
    if not path.exists():
        read_content(path)
    return path


def there_is_a_log(config: Path, changes: list[str]) -> None:
    """Raise `UserError` at once if a file of the configuration's log is missing: what trains takes seconds to load.

    Torchrun's workers have loaded it by then, and the first of them reads the log for all.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return
    from musenet.api.experiments import load
    from musenet.sources.registry import open_source

    experiment = load(config, changes)
    open_source(experiment.data, experiment.recipe).fingerprint()


def _there_is_a_run(path: Path) -> Path:
    if not is_url(str(path)):
        check_run_folder(path)
    return path


Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="the experiment's YAML", callback=there_is_a_config)]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder, or s3://…", callback=_there_is_a_run)]
Export = Annotated[Path, typer.Argument(metavar="EXPORT", help="a folder that `musenet export` wrote, or s3://…")]
PastEvents = Annotated[
    str | None, typer.Option("--events", help="users' past events, in the log's format: a file, folder or URL")
]
PastStore = Annotated[str | None, typer.Option("--store", help="histories: a SQLite file, or a URL of Valkey or Redis")]
Out = Annotated[Path | None, typer.Option("--out", help="where to write the result")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="override a value of the configuration")]
Json = Annotated[bool, typer.Option("--json", help="print the result as one JSON object on standard output")]
DatasetFolder = Annotated[
    Path | None, typer.Option("--dataset", help="the dataset's folder or s3://… (datasets/<name>)")
]
EngineChoice = Annotated[
    Literal["duckdb", "spark"], typer.Option("--engine", help="engine of the relational steps; the dataset is the same")
]
MemoryLimit = Annotated[
    str | None,
    typer.Option("--memory-limit", help="memory of the engine, such as 4GB (half of the free memory)"),
]
SplitName = Annotated[Literal["train", "valid", "test"], typer.Option("--split", help="which period")]
Models = Annotated[str | None, typer.Option("--models", help="labels, comma-separated (all)")]
Seeds = Annotated[int | None, typer.Option("--seeds", min=1, help="training seeds per model (as configured)")]
Jobs = Annotated[int, typer.Option("--jobs", min=1, help="trainings in parallel, in processes")]
Store = Annotated[str, typer.Option("--store", help="histories: a SQLite file, or a URL of Valkey or Redis")]


def labels(models: str | None) -> list[str] | None:
    """The labels that `--models` names."""
    return None if models is None else [label.strip() for label in models.split(",")]
