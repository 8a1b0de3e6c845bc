"""Training the rows of a table: tuning if asked, every seed, then more seeds for the best rows."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from musenet.config.experiment import Experiment
from musenet.runs.run import Run
from musenet.studies.plans import PlannedRun, plan_runs, seeds_to_train
from musenet.studies.pool import TrainingPool, train_planned
from musenet.studies.tuning import tuned_rows
from musenet.training.train_run import is_finished_run

Groups = dict[str, list[Run]]


def train_rows(
    experiment: Experiment,
    labels: Sequence[str],
    seeds: int | None,
    folder: Path,
    pool: TrainingPool,
    row_ended: Callable[[Groups], None] = lambda _: None,
) -> Groups:
    """Train what a comparison's table needs; what an earlier call finished is reused, what it began goes on.

    Args:
        experiment: whose `compare` part says what the rows are.
        labels: the rows wanted.
        seeds: trainings per row; as configured if None, with more for the best rows if those are configured.
        folder: of the comparison; runs go to `<folder>/<label>/seed-<s>`.
        pool: trains the runs.
        row_ended: told of the rows so far whenever one has all its seeds and others have not.

    Returns:
        The runs of each row, one per seed.
    """
    options, chosen = experiment.compare, seeds_to_train(experiment, seeds)
    for label in labels:
        options.models[label].check_installed()
    rows = tuned_rows(experiment, labels, folder, pool)
    planned = plan_runs(rows, folder, chosen)
    _train_all(planned, pool, row_ended)
    groups = {label: [Run.open(run.path) for run in runs] for label, runs in planned.items()}
    if options.top is None or seeds is not None or options.top.seeds <= len(chosen):
        return groups
    best = best_rows(groups, options.top.count)
    extra = plan_runs(
        {label: rows[label] for label in best}, folder, range(chosen.stop, chosen.start + options.top.seeds)
    )
    _train_all(extra, pool, lambda ended: row_ended(groups | {label: groups[label] + ended[label] for label in ended}))
    return groups | {label: groups[label] + [Run.open(run.path) for run in extra[label]] for label in best}


def best_rows(groups: Mapping[str, Sequence[Run]], count: int) -> list[str]:
    """The labels of the best rows by mean validation AUC, those left out that only their own log can serve."""
    auc = {
        label: float(np.mean([run.training.best["auc"] for run in runs]))
        for label, runs in groups.items()
        if runs[0].experiment.model.unservable is None
    }
    return sorted(auc, key=lambda label: -auc[label])[:count]


def _train_all(
    planned: Mapping[str, Sequence[PlannedRun]], pool: TrainingPool, row_ended: Callable[[Groups], None]
) -> None:
    """Train every row's runs, and tell of the rows so far after each that was not finished before, but the last."""
    row_of = {run.path: label for label, runs in planned.items() for run in runs}
    missing = {
        label: {run.path for run in runs if not is_finished_run(run.path, run.experiment, pool.dataset)}
        for label, runs in planned.items()
    }
    for run, result in pool.each(train_planned, [run for runs in planned.values() for run in runs]):
        pool.listener.say(f"{run.name}: validation AUC {result.best['auc']:.4f} at step {result.best['step']:,}")
        of_row = missing[row_of[run.path]]
        if run.path in of_row:
            of_row.remove(run.path)
            if not of_row and any(missing.values()):
                ended = [label for label in planned if not missing[label]]
                row_ended({label: [Run.open(one.path) for one in planned[label]] for label in ended})
