"""Calls on many runs."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from musenet.adaptation.adapted import has_mix
from musenet.api.experiments import AnyExperiment, load, prepared_dataset, run_folder
from musenet.config.adaptation import AdaptedRow
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES
from musenet.files import write_text
from musenet.reporter import AnyListener, told
from musenet.runs.run import Run
from musenet.sources.log import AnyPath
from musenet.storage.addresses import here
from musenet.storage.copies import fetched
from musenet.studies.ablation import Ablation, ablation_of, run_ablation
from musenet.studies.backtest.backtest import run_backtest
from musenet.studies.backtest.periods import first_experiment, periods_of
from musenet.studies.backtest.results import Backtest
from musenet.studies.compare_models import compare_and_write, compare_models
from musenet.studies.comparison.compare import SPLIT as COMPARED
from musenet.studies.comparison.compare import check_alike, group_by_model
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.transfer import OtherDataset
from musenet.studies.plans import chosen_labels, folder_name, row_of, seeds_to_train
from musenet.studies.pool import TrainingPool
from musenet.studies.sweep.plan import plan_sweep, swept_rows
from musenet.studies.sweep.sweep import Sweep, run_sweep
from musenet.studies.sweep.table import to_markdown as sweep_markdown
from musenet.studies.tuned_model import Tuned, tune_model
from musenet.tracking.tracker import Tracker, tracked


def compare(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    models: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
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
        overrides: see above.
        listener: told of the steps of preparation, every report of the training loop, and each run that ended.
    """
    resolved = load(experiment, overrides)
    labels = chosen_labels(resolved.compare.models, models, "compare.models")
    folder = run_folder(resolved, out)
    with told(listener) as told_of, tracked(told_of, resolved, "compare") as heard:
        with TrainingPool(prepared_dataset(resolved, dataset, heard), jobs, heard) as pool:
            found = compare_models(resolved, labels, seeds, folder, pool).giving(resolved._frames)
        if isinstance(heard, Tracker):
            heard.compared(found, [folder / "comparison.json", folder / "comparison.md"])
    return found


def tune(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    trials: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> Tuned:
    """Try values around the experiment's model by successive halving on validation, and train it with the best.

    What is tried is what `compare.tuning` says (with its `own` keys of the rows that are this very model), or learning
    rate and weight decay. All goes to `<out>/<model>`, as for a row of a comparison: `trials`, their record
    `tuning.json`, and the model trained with the best values, `seed-<s>`. What is finished there is reused.

    Args:
        experiment: whose `model` is tuned.
        out: `runs/<name>` if None.
        trials: how many, the configured values among them; as configured if None.
        jobs: how many train at once, each in its own process.
        dataset: the dataset's folder; `datasets/<name>` if None.
        overrides: see above.
        listener: as in `compare`.

    Raises:
        ConfigError: if the model does not take a value that is to be tried.
        RunError: if no trial came to a result.
    """
    resolved = load(experiment, overrides)
    with told(listener) as heard, TrainingPool(prepared_dataset(resolved, dataset, heard), jobs, heard) as pool:
        return tune_model(resolved, run_folder(resolved, out), trials, pool)


def compare_runs(
    runs: Iterable[AnyPath],
    out: AnyPath | None = None,
    *,
    dataset: AnyPath | None = None,
    reference: str | None = None,
    adapt: Mapping[str, AdaptedRow | Mapping[str, Any]] | bool = False,
    resamples: int = RESAMPLES,
    listener: AnyListener | None = None,
) -> Comparison:
    """Put trained runs side by side on the test split; runs that differ in the seed alone are one row.

    Args:
        runs: their folders; nothing is written there if another dataset is given.
        out: where the table is written; nowhere if None.
        dataset: another prepared dataset than the runs' own, to score them on without training again. It must have the
            same fields, vocabularies and scales; every row then also has its AUC where it was trained, and its loss.
        reference: the row that the others are compared with, by its label or folder; the first run's if None.
        adapt: further rows by label, as `compare.adapted` of a configuration: the row whose runs go through the period
            in order of time, and how. True gives every row with scenarios another, `<label>, adapted`.
        resamples: of users and seeds.
        listener: told of every run that is scored on the other dataset.

    Raises:
        RunError: if a folder holds no trained run, or the runs are of different datasets.
        DatasetError: if the other dataset is none, or cannot be scored by these runs.
    """
    opened = [Run.open(fetched(run)) for run in runs]
    if not opened:
        raise RunError("compare: give at least one run folder")
    groups = group_by_model(opened)
    adapted = _adapted_rows(groups, adapt)
    chosen = None if reference is None else _row_named(reference, [*groups, *adapted])
    place, other = None if out is None else here(out), None
    with told(listener) as heard:
        if dataset is not None:
            check_alike(opened)
            other = OtherDataset(opened[0].dataset, Dataset(fetched(dataset)), COMPARED, resamples, heard.say)
        return compare_and_write(groups, place, chosen, resamples=resamples, other=other, adapted=adapted)


def ablate(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    models: Sequence[str] | None = None,
    seeds: int | None = None,
    jobs: int = 1,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> Ablation:
    """The paper's Table 3: train the experiment's musenet with and without its parts, and judge the order of rows.

    Runs go to `<out>/<row>/seed-<s>`, reused and resumed as by `compare`, the table to `<out>/ablation.json` and
    `<out>/ablation.md`. `out` is `runs/<name>/ablation` if None, `models` are rows of the table; all else as of
    `compare`.

    Raises:
        UserError: as `compare`, and if the model has no scenarios or no repeat form to take away.
    """
    resolved = load(experiment, overrides)
    folder = run_folder(resolved, None) / "ablation" if out is None else here(out)
    taken_apart, left_out = ablation_of(resolved)
    labels = chosen_labels(taken_apart.compare.models, models, "ablate")
    with told(listener) as heard, TrainingPool(prepared_dataset(resolved, dataset, heard), jobs, heard) as pool:
        return run_ablation(taken_apart, left_out, labels, seeds, folder, pool).giving(resolved._frames)


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
    listener: AnyListener | None = None,
) -> Sweep:
    """The paper's Fig 4: vary one option at a time around the configured values, on validation unless asked otherwise.

    Runs go to `<out>/<label>/<key>-<value>/seed-<s>`, reused and resumed as by `compare`, the result to `sweep.json`
    and `sweep.md` there, and, with the extra `report`, to the figure `sweep.html`. `out` is `runs/<name>/sweep` if
    None; `parameters` are values by key of `model` or `training`, `split` is which period is measured, both as
    configured if None; all else as of `compare`.

    Raises:
        UserError: as `compare`, and for parameters that no model has.
    """
    resolved = load(experiment, overrides)
    folder = run_folder(resolved, None) / "sweep" if out is None else here(out)
    changes = {"parameters": parameters, "split": split}
    options = resolved.sweep.model_copy(update={key: value for key, value in changes.items() if value is not None})
    lines = plan_sweep(swept_rows(resolved, models), options, folder, seeds_to_train(resolved, seeds))
    with told(listener) as heard, TrainingPool(prepared_dataset(resolved, dataset, heard), jobs, heard) as pool:
        result = run_sweep(lines, options.split, pool).giving(resolved._frames)
    result.write(folder / "sweep.json")
    write_text(folder / "sweep.md", sweep_markdown(result))
    if find_spec("plotly") is not None:
        from musenet.reporting.figures.sweep import write_sweep_page

        write_sweep_page(result, folder / "sweep.html")
    return result


def backtest(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    models: Sequence[str] | None = None,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> Backtest:
    """Train before the first of some periods, and walk forward: what each policy of `backtest.policies` makes of it.

    Runs go to `<out>/<label>/`, the datasets that know what was known before each period to `<out>/datasets/`, the
    result to `backtest.json`, `backtest.md` and, with the extra `report`, to the figure `backtest.html`. What an
    earlier call finished is reused.

    Args:
        experiment: whose `backtest` part says how; the split's `test_from` begins the first period, or the log's last
            periods are taken.
        out: `runs/<name>/backtest` if None.
        models: labels of `compare.models`; as configured if None.
        dataset: folder of the dataset whose test split is all periods; below `out` if None.
        overrides: as of `compare`.
        listener: as of `compare`.

    Raises:
        UserError: as `compare`, and if the log's lists would be drawn anew for each period.
    """
    resolved = first_experiment(load(experiment, overrides))
    folder = run_folder(resolved, None) / "backtest" if out is None else here(out)
    asked = resolved.backtest.models if models is None else models
    known = resolved.compare.models
    labels = [] if asked is None else chosen_labels(known, asked, "compare.models")
    rows = {label: row_of(resolved, label) for label in labels} or {resolved.model.name: resolved}
    with told(listener) as heard:
        first = prepared_dataset(resolved, folder / "datasets" / "whole" if dataset is None else dataset, heard)
        periods = periods_of(resolved, first)

        def prepared(of_period: Experiment, where: Path) -> Dataset:
            return prepared_dataset(of_period, where, heard)

        result = run_backtest(rows, first, periods, folder, prepared, heard).giving(resolved._frames)
    if find_spec("plotly") is not None:
        from musenet.reporting.figures.backtest import write_backtest_page

        write_backtest_page(result, folder / "backtest.html")
    return result


def _adapted_rows(
    groups: Mapping[str, Sequence[Run]], adapt: Mapping[str, AdaptedRow | Mapping[str, Any]] | bool
) -> dict[str, AdaptedRow]:
    """The rows that `adapt` asks for."""
    if isinstance(adapt, bool):
        able = [label for label, runs in groups.items() if has_mix(runs[0])] if adapt else []
        if adapt and not able:
            raise RunError("compare --adapt: none of the runs has scenarios whose mix could be followed")
        return {f"{label}, adapted": AdaptedRow(row=label) for label in able}
    rows = {label: AdaptedRow.model_validate(one) for label, one in adapt.items()}
    named = {label: row.model_copy(update={"row": _row_named(row.row, list(groups))}) for label, row in rows.items()}
    for label in named:
        if label in groups:
            raise RunError(f"compare: a row is already called '{label}': rename the adapted one")
    return named


def _row_named(asked: str, rows: Sequence[str]) -> str:
    """The row of this label; rows of run folders are called as the label's folder."""
    for name in (asked, folder_name(asked)):
        if name in rows:
            return name
    raise RunError(f"compare: no row is called '{asked}'; there are {', '.join(rows)}")
