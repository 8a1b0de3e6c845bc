"""Every command as a Python call; the command line is a thin layer on these.

    import musenet

    musenet.train("configs/hotels.yaml", overrides=["model.scenarios=6"])
    musenet.evaluate("runs/hotels").to_json()

An experiment is an `Experiment` or the path of its YAML. Datasets lie in `datasets/<name>` and runs in `runs/<name>`
below the current folder unless another place is given. What the caller can mend is raised as a `UserError`.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from musenet.config.experiment import Experiment
from musenet.config.loading import apply_overrides, load_experiment, validate_experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.engines.registry import EngineName, bytes_of
from musenet.errors import ConfigError, RunError
from musenet.evaluation.draws import RESAMPLES
from musenet.evaluation.evaluation import Evaluation
from musenet.files import write_json, write_text
from musenet.models.interface import ModelOptions
from musenet.models.musenet.model import MusenetOptions
from musenet.portraits.portraits import Portrait
from musenet.portraits.portraits import describe_scenarios as _describe_scenarios
from musenet.portraits.scenario_table import SPLITS, write_scenarios
from musenet.preparation.prepare import PreparedReport
from musenet.preparation.prepare import prepare as prepare_dataset
from musenet.progress import SILENT, Listener
from musenet.runs.folder import RunFolder
from musenet.runs.run import evaluate as _evaluate
from musenet.serving.scorer.predict import predict_file
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import HistoryStore
from musenet.sources.registry import open_source
from musenet.studies.ablation import Ablation, ablation_of, judge_order
from musenet.studies.comparison.compare import SPLIT as COMPARED
from musenet.studies.comparison.compare import Comparison, check_alike, group_by_model
from musenet.studies.comparison.compare import compare_runs as _compare_runs
from musenet.studies.comparison.table import to_markdown
from musenet.studies.comparison.table_so_far import TableSoFar
from musenet.studies.comparison.transfer import OtherDataset
from musenet.studies.plans import chosen_labels, folder_name
from musenet.studies.pool import TrainingPool
from musenet.studies.rows import train_rows
from musenet.studies.sweep.plan import plan_sweep, swept_rows
from musenet.studies.sweep.sweep import Sweep, run_sweep
from musenet.studies.sweep.table import to_markdown as _sweep_markdown
from musenet.training.loop import TrainingResult
from musenet.training.train_run import train_run

AnyPath = str | os.PathLike[str]
AnyExperiment = Experiment | AnyPath
AnyOptions = TypeVar("AnyOptions", bound=BaseModel)


def load(experiment: AnyExperiment, overrides: Sequence[str] = ()) -> Experiment:
    """The experiment, from a YAML file if a path is given, with `key.path=value` overrides.

    Raises:
        ConfigError: for anything that does not describe an experiment.
    """
    if isinstance(experiment, Experiment):
        if not overrides:
            return experiment
        content = experiment.model_dump(mode="json", by_alias=True)
        return validate_experiment(apply_overrides(content, list(overrides)), experiment.name)
    path = Path(experiment)
    loaded = load_experiment(path, list(overrides))
    # Whole paths: the resolved configuration will lie elsewhere.
    return loaded.model_copy(update={"data": loaded.data.starting_from(path.resolve().parent)})


def prepare(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    engine: EngineName = "duckdb",
    memory_limit: str | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> PreparedReport:
    """Turn the experiment's log into a dataset, unless the same one is there already, and check it.

    Args:
        experiment: what to prepare.
        out: the dataset's folder; `datasets/<name>` if None.
        engine: what computes the relations, `duckdb` or `spark`; the dataset is the same.
        memory_limit: what the engine may use, such as `4GB`; half of what is free, if None.
        overrides: `key.path=value`, as `--set`.
        listener: told of every step.

    Raises:
        UserError: if the configuration or the log cannot be used.
    """
    resolved = load(experiment, overrides)
    folder = Path("datasets") / resolved.name if out is None else Path(out)
    return prepare_dataset(
        open_source(resolved.data, resolved.recipe),
        resolved.recipe,
        folder,
        engine=engine,
        memory=None if memory_limit is None else bytes_of(memory_limit),
        progress=listener.say,
        steps=listener.steps("prepare"),
    )


def train(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    resume: bool = False,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> TrainingResult:
    """Train the experiment's model, its dataset prepared first if need be.

    Args:
        experiment: what to train.
        out: the run folder; `runs/<name>` if None.
        resume: go on from the folder's checkpoint.
        dataset: the dataset's folder; `datasets/<name>` if None.
        overrides: `key.path=value`, as `--set`.
        listener: told of the steps of preparation and every report of the training loop.

    Raises:
        UserError: if the configuration, the log or the folder cannot be used, or the loss diverged.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint to resume from is written.

    Started by torchrun, all workers make this call and train one model together (docs/distributed.md); the first one
    prepares the dataset, writes the run folder and tells the listener.
    """
    with workers.joined():
        resolved = workers.first_does(lambda: load(experiment, overrides))
        prepared = Dataset(workers.first_does(lambda: _prepared(resolved, dataset, listener).folder))
        log = listener.training(resolved.name)
        return train_run(resolved, prepared, _run_path(resolved, out), resume=resume, log=log)


def evaluate(run: AnyPath, split: Split = "test", *, resamples: int = RESAMPLES) -> Evaluation:
    """Measure a trained run on a split it was not trained on; raises `RunError` if the folder holds no trained run."""
    return _evaluate(RunFolder.open(Path(run)), split, resamples)


def compare(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    models: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> Comparison:
    """Train `compare.models` × seeds into `<out>/<label>/seed-<s>` and put them side by side on the test split.

    Tuned before if `compare.tuning` says so. Finished trials and runs of the same configuration are reused, interrupted
    ones resumed. The table is also written to `<out>/comparison.json` and `<out>/comparison.md`, and grows there by a
    row whenever one has all its seeds.

    Args:
        experiment: whose `compare` part says which models; without one, its only model is trained.
        out: where the runs go; `runs/<name>` if None.
        models: labels to compare, of those in the configuration; all if None.
        seeds: how many; as configured if None, more for the best rows included. They count up from the experiment's.
        jobs: how many runs train at once, each in its own process with its part of the cores.
        dataset: the dataset's folder; `datasets/<name>` if None.
        overrides: `key.path=value`, as `--set`.
        listener: told of the steps of preparation, every report of the training loop, and each run that ended.

    Raises:
        UserError: if the configuration, the log or a folder cannot be used.
    """
    resolved = load(experiment, overrides)
    folder = _run_path(resolved, out)
    labels = chosen_labels(resolved.compare.models, models, "compare.models")
    with TrainingPool(_prepared(resolved, dataset, listener), jobs, listener) as pool:
        return _trained_and_compared(resolved, labels, seeds, folder, pool)


def compare_runs(
    runs: Iterable[AnyPath],
    out: AnyPath | None = None,
    *,
    dataset: AnyPath | None = None,
    reference: str | None = None,
    resamples: int = RESAMPLES,
    listener: Listener = SILENT,
) -> Comparison:
    """Put trained runs side by side on the test split; runs that differ in the seed alone are one row.

    Args:
        runs: their folders; nothing is written there if another dataset is given.
        out: where the table is written; nowhere if None.
        dataset: another prepared dataset than the runs' own, to score them on without training again. It must have the
            same fields, vocabularies and scales; every row then also has its AUC where it was trained, and its loss.
        reference: the row that the others are compared with, by its label or folder; the first run's if None.
        resamples: of users and seeds.
        listener: told of every run that is scored on the other dataset.

    Raises:
        RunError: if a folder holds no trained run, or the runs are of different datasets.
        DatasetError: if the other dataset is none, or cannot be scored by these runs.
    """
    folders = [RunFolder.open(Path(run)) for run in runs]
    if not folders:
        raise RunError("compare: give at least one run folder")
    groups = group_by_model(folders)
    chosen = None if reference is None else _row_named(reference, list(groups))
    other = None
    if dataset is not None:
        check_alike(folders)
        other = OtherDataset(folders[0].dataset, Dataset(Path(dataset)), COMPARED, resamples, listener.say)
    return _compared(groups, None if out is None else Path(out), chosen, None, resamples=resamples, other=other)


def ablate(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    models: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> Ablation:
    """The paper's Table 3: train the experiment's musenet with and without its parts, and judge the order of rows.

    Runs go to `<out>/<row>/seed-<s>`, reused and resumed as by `compare`, the table to `<out>/ablation.json` and
    `<out>/ablation.md`.

    Args:
        experiment: whose `model` is taken apart.
        out: `runs/<name>/ablation` if None.
        models: rows of the table; all if None.
        seeds: trainings per row; as configured for `compare` if None.
        jobs: as of `compare`.
        dataset: as of `compare`.
        overrides: as of `compare`.
        listener: as of `compare`.

    Raises:
        UserError: as `compare`, and if the model has no scenarios or no repeat form to take away.
    """
    resolved = load(experiment, overrides)
    folder = _run_path(resolved, None) / "ablation" if out is None else Path(out)
    taken_apart, left_out = ablation_of(resolved)
    labels = chosen_labels(taken_apart.compare.models, models, "ablate")
    with TrainingPool(_prepared(resolved, dataset, listener), jobs, listener) as pool:
        comparison = _trained_and_compared(taken_apart, labels, seeds, folder, pool)
    runs = {row.name: [RunFolder.open(Path(run)) for run in row.runs] for row in comparison.models}
    result = Ablation(comparison, judge_order(runs), left_out)
    write_json(folder / "ablation.json", result.to_json())
    write_text(folder / "ablation.md", result.to_markdown())
    return result


def sweep(  # noqa: PLR0913 - the command has as many options
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    parameters: Mapping[str, Sequence[Any]] | None = None,
    models: Sequence[str] | None = None,
    split: Split | None = None,
    seeds: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> Sweep:
    """The paper's Fig 4: vary one option at a time around the configured values, on validation unless asked otherwise.

    Runs go to `<out>/<label>/<key>-<value>/seed-<s>`, reused and resumed as by `compare`, the result to `sweep.json`
    and `sweep.md` there, and, with the extra `report`, to the figure `sweep.html`.

    Args:
        experiment: whose `sweep` part says what to vary.
        out: `runs/<name>/sweep` if None.
        parameters: values by key of `model` or `training`; as configured if None.
        models: labels of `compare.models`; as configured if None.
        split: which period is measured; as configured if None.
        seeds: trainings per value; as configured for `compare` if None.
        jobs: as of `compare`.
        dataset: as of `compare`.
        overrides: as of `compare`.
        listener: as of `compare`.

    Raises:
        UserError: as `compare`, and for parameters that no model has.
    """
    resolved = load(experiment, overrides)
    folder = _run_path(resolved, None) / "sweep" if out is None else Path(out)
    changes = {"parameters": parameters, "split": split}
    options = resolved.sweep.model_copy(update={key: value for key, value in changes.items() if value is not None})
    every_seed = range(resolved.seed, resolved.seed + (seeds or resolved.compare.seeds))
    lines = plan_sweep(swept_rows(resolved, models), options, folder, every_seed)
    with TrainingPool(_prepared(resolved, dataset, listener), jobs, listener) as pool:
        result = run_sweep(lines, options.split, pool)
    write_json(folder / "sweep.json", result.to_json())
    write_text(folder / "sweep.md", _sweep_markdown(result))
    if find_spec("plotly") is not None:
        from musenet.reporting.figures.sweep import write_sweep_page

        write_sweep_page(result, folder / "sweep.html")
    return result


def scenarios(run: AnyPath, out: AnyPath, *, splits: Sequence[Split] = SPLITS) -> int:
    """Write the scenario of every request to a Parquet or CSV file; the number of rows.

    Raises:
        RunError: if the folder holds no trained run, its model has no scenarios, or the file's ending is another.
    """
    return write_scenarios(RunFolder.open(Path(run)), Path(out), splits)


def describe_scenarios(run: AnyPath, split: Split = "test") -> list[Portrait]:
    """What each scenario of a run is and what sets it apart; raises `RunError` as `scenarios` does."""
    return _describe_scenarios(RunFolder.open(Path(run)), split)


def init(files: Iterable[AnyPath], out: AnyPath) -> Path:
    """Look at Parquet or CSV files and write a commented configuration for them; never overwrites.

    Raises:
        UserError: if a file cannot be read, or `out` exists.
    """
    from musenet.sources.guess.configuration import write_config

    write_config([Path(file) for file in files], Path(out))
    return Path(out)


def report(
    run: AnyPath,
    out: AnyPath | None = None,
    *,
    comparison: AnyPath | None = None,
    note: AnyPath | None = None,
    listener: Listener = SILENT,
) -> Path:
    """Write the page that shows a run, and its figures one by one beside it; needs the extra `report`.

    The figures go to `<page>-figures` as CSV, and as PNG if a browser of the Chromium family is installed.

    Args:
        run: a trained run.
        out: the page, `.html` or `.md`; `report.html` in the run's folder if None.
        comparison: the JSON of a comparison to judge the run by; the one that the run belongs to if None.
        note: a file of Markdown that tells what was learned, to stand below the headline.
        listener: told whether the figures could be drawn.

    Raises:
        RunError: if the folder holds no trained run, or the page ends otherwise.
    """
    from musenet.reporting.pages.report import write_report

    page = Path(run) / "report.html" if out is None else Path(out)
    table, text = (None if file is None else Path(file) for file in (comparison, note))
    return write_report(RunFolder.open(Path(run)), page, table, text, draw=True, listener=listener)


def export(run: AnyPath, out: AnyPath) -> Path:
    """Write what serving a run takes into one folder, whole or not at all; needs the extra `serve`.

    Args:
        run: a trained run.
        out: the folder; another export there is replaced.

    Raises:
        RunError: if the folder holds no trained run, or one whose model cannot be served.
        ExportError: if `out` holds something else than an export.
    """
    from musenet.reporting.pages.scenario_section import scenario_fragment
    from musenet.serving.export.export import export_run

    export_run(RunFolder.open(Path(run)), Path(out), scenario_fragment)
    return Path(out)


def predict(
    folder: AnyPath,
    requests: AnyPath,
    out: AnyPath,
    *,
    store: HistoryStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Score every row of a Parquet file by an export, Parquet to Parquet in bounded memory; the number of rows.

    Args:
        folder: what `export` wrote.
        requests: a row per candidate, see docs/serving.md for the columns.
        out: the file to write: the rows' ids and `score`, in the order of the rows.
        store: keeps users' histories; without one, the file brings them.
        progress: told of the rows done and in all.

    Raises:
        ExportError: if the folder does not check out.
        DataError: naming file, row and column, if the file cannot be read or a value cannot be used.
    """
    return predict_file(Scorer(Path(folder), store=store), Path(requests), Path(out), progress)


def fill(
    run: AnyPath,
    store: str,
    *,
    until: str | None = None,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> int:
    """Fill a history store with the events of the log that a run was trained on; how many were new.

    Args:
        run: a trained run; its log must be where it was.
        store: a file's path, or an URL of Valkey or Redis; events that it holds already are not counted twice.
        until: ISO 8601 with an offset; events from this time on are left out.
        progress: told how many events of how many are in.

    Raises:
        UserError: if the run, its log, the time or the store cannot be used.
    """
    from musenet.serving.export.filling import fill_store
    from musenet.serving.scorer.messages import seconds_of
    from musenet.serving.store.history import microseconds
    from musenet.serving.store.opening import open_store
    from musenet.serving.store.rules import HistoryRules

    experiment = RunFolder.open(Path(run)).experiment
    end = None if until is None else microseconds(seconds_of(until, "--until"))
    with open_store(store, HistoryRules(experiment.history, experiment.repeat)) as opened:
        return fill_store(opened, open_source(experiment.data, experiment.recipe), experiment.recipe, end, progress)


def simulate_hotels(
    out: AnyPath, *, progress: Callable[[int, int], None] | None = None, **options: float
) -> dict[str, int]:
    """Write a simulated hotel log with planted scenarios; the number of rows of each file.

    Args:
        out: the folder to write.
        progress: told of the impressions written so far and in all.
        options: of `HotelOptions` in `musenet.simulators.hotels.hotels`: impressions, seed, scenarios, noise, …

    Raises:
        ConfigError: for options that are unknown or out of range.
    """
    from musenet.simulators.hotels.hotels import HotelOptions
    from musenet.simulators.hotels.hotels import simulate_hotels as simulate

    return simulate(Path(out), _chosen("simulate hotels", HotelOptions, options), progress)


def simulate_ads(
    out: AnyPath, *, progress: Callable[[int, int], None] | None = None, **options: float | None
) -> dict[str, int]:
    """Write files of the schema and the published figures of Ali Display Ads; the number of rows of each file.

    Args:
        out: the folder to write.
        progress: told of the portions of work done so far and in all.
        options: of `musenet.simulators.ads.ads.AdsOptions`: scale or impressions, seed.

    Raises:
        ConfigError: for options that are unknown or out of range.
    """
    from musenet.simulators.ads.ads import AdsOptions
    from musenet.simulators.ads.ads import simulate_ads as simulate

    return simulate(Path(out), _chosen("simulate ads", AdsOptions, options), progress)


def _chosen(command: str, kind: type[AnyOptions], options: Mapping[str, Any]) -> AnyOptions:
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        mistakes = [f"{detail['loc'][0]}: {detail['msg']} (found {detail['input']!r})" for detail in error.errors()]
        raise ConfigError(f"{command}: " + "; ".join(mistakes)) from error


@dataclass(frozen=True)
class Demo:
    """What the demo leaves to look at."""

    comparison: Comparison
    portraits: list[Portrait]
    """Of the first run with soft scenarios."""
    report: Path

    def to_json(self) -> dict[str, Any]:
        """The comparison's keys, the portraits and the report's path."""
        return {
            "comparison": self.comparison.to_json(),
            "scenarios": [portrait.to_json() for portrait in self.portraits],
            "report": str(self.report),
        }


def demo(
    config: AnyExperiment,
    out: AnyPath | None = None,
    *,
    overrides: Sequence[str] = (),
    listener: Listener = SILENT,
) -> Demo:
    """Compare the configuration's models, describe the scenarios that were learned, and write the report.

    Raises:
        UserError: as `compare`, and if no compared model learns soft scenarios.
    """
    experiment = load(config, overrides)
    folder = _run_path(experiment, out)
    soft = [label for label, model in experiment.compare.models.items() if _learns_soft_scenarios(model)]
    if not soft:
        raise ConfigError(f"{experiment.name}: compare.models holds no musenet with soft scenarios to describe")
    comparison = compare(experiment, folder, jobs=min(4, os.cpu_count() or 1), listener=listener)
    runs = next(row.runs for row in comparison.models if row.name == soft[0])
    run = RunFolder.open(Path(runs[0]))
    page = report(run.path, folder / "report.html", comparison=folder / "comparison.json", listener=listener)
    return Demo(comparison, _describe_scenarios(run), page)


def _prepared(experiment: Experiment, folder: AnyPath | None, listener: Listener) -> Dataset:
    """The experiment's dataset; what looks wrong with a new one is told."""
    report = prepare(experiment, folder, listener=listener)
    if not report.reused:
        for warning in report.checks.warnings:
            listener.say(f"warning: {warning}")
    return report.dataset


def _learns_soft_scenarios(model: ModelOptions) -> bool:
    if not isinstance(model, MusenetOptions):
        return False
    return model.scenarios != 1 and (model.assignment, model.objective) == ("soft", "robust")


def _run_path(experiment: Experiment, out: AnyPath | None) -> Path:
    return Path("runs") / experiment.name if out is None else Path(out)


def _trained_and_compared(
    experiment: Experiment, labels: Sequence[str], seeds: int | None, folder: Path, pool: TrainingPool
) -> Comparison:
    options = experiment.compare
    groups = train_rows(experiment, labels, seeds, folder, pool, TableSoFar(folder, options, labels))
    reference, base = (row if row in groups else None for row in (options.reference, options.base))
    return _compared(groups, folder, reference, base)


def _compared(
    groups: dict[str, list[RunFolder]],
    out: Path | None,
    reference: str | None,
    base: str | None,
    *,
    resamples: int = RESAMPLES,
    other: OtherDataset | None = None,
) -> Comparison:
    comparison = _compare_runs(groups, reference, base, resamples, slices=True, other=other)
    if out is not None:
        write_json(out / "comparison.json", comparison.to_json())
        write_text(out / "comparison.md", to_markdown(comparison))
    return comparison


def _row_named(asked: str, rows: Sequence[str]) -> str:
    """The row of this label; rows of run folders are called as the label's folder."""
    for name in (asked, folder_name(asked)):
        if name in rows:
            return name
    raise RunError(f"compare: no row is called '{asked}'; there are {', '.join(rows)}")
