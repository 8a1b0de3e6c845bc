"""Tuning with the same budget for every row of a comparison (docs/configuration.md, `compare.tuning`).

All trials of all rows go through the pool together. What is chosen stands in `<out>/<label>/tuning.json`, with every
trial; `tuning.journal` beside it is the same as an Optuna study.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.config.loading import with_values
from musenet.config.search_space import Choices, Point, Range, as_parameter, distribution
from musenet.errors import RunError
from musenet.files import replacing, write_json
from musenet.studies.plans import PlannedRun, folder_name, row_of
from musenet.studies.pool import TrainingPool
from musenet.studies.trials import Outcome, Trial, plan_trials, run_trial, shared_points, space_of, values_taken_over

STUDY_FILE = "tuning.journal"


def tuned_rows(
    experiment: Experiment, labels: Sequence[str], folder: Path, pool: TrainingPool
) -> dict[str, Experiment]:
    """The rows' experiments, with the values that trials chose if the comparison is tuned.

    Args:
        experiment: whose `compare` part names rows and tuning.
        labels: the rows wanted; a row that another one is like is tuned even if it is not wanted itself.
        folder: of the comparison; a trial's run goes to `<folder>/<label>/trials/trial-<n>`.
        pool: trains the trials.

    Raises:
        ConfigError: if a row does not take a point that is to be tried.
        RunError: if no trial of a row came to a result.
    """
    rows = {label: row_of(experiment, label) for label in labels}
    options = experiment.compare.tuning
    if options is None:
        return rows
    shared = shared_points(experiment)
    tried = dict.fromkeys(options.like.get(label, label) for label in labels)
    trials = {label: plan_trials(experiment, label, shared) for label in tried}
    chosen = _choose(experiment, trials, folder, pool)
    for label, row in rows.items():
        other = options.like.get(label)
        values = chosen[label] if other is None else values_taken_over(chosen[other], row, row_of(experiment, other))
        if other is not None:
            taken_over = {"model": label, "like": other, "chosen": {"values": values}}
            write_json(folder / folder_name(label) / "tuning.json", taken_over)
        rows[label] = with_values(row, values)
    return rows


def _choose(
    experiment: Experiment, trials: Mapping[str, Sequence[Trial]], folder: Path, pool: TrainingPool
) -> dict[str, Point]:
    """Run all trials, and keep each row's record as soon as its last trial ended; the chosen values by label."""
    planned: dict[Path, tuple[str, int]] = {}
    runs: list[PlannedRun] = []
    for label, of_row in trials.items():
        for trial in of_row:
            if trial.same_as is None:
                path = folder / folder_name(label) / "trials" / f"trial-{trial.number}"
                runs.append(PlannedRun(f"{label}, trial {trial.number}", trial.experiment, path, splits=()))
                planned[path] = (label, trial.number)
    outcomes: dict[str, dict[int, Outcome]] = {label: {} for label in trials}
    chosen: dict[str, Point] = {}
    for run, outcome in pool.each(run_trial, runs):
        label, number = planned[run.path]
        outcomes[label][number] = outcome
        pool.listener.say(f"{run.name}: {outcome.failed or f'validation AUC {outcome.auc:.4f}'}")
        if len(outcomes[label]) == sum(trial.same_as is None for trial in trials[label]):
            best = _best(label, outcomes[label], experiment)
            chosen[label] = trials[label][best].values
            _write_record(experiment, label, trials[label], outcomes[label], best, folder / folder_name(label))
    return chosen


def _best(label: str, outcomes: Mapping[int, Outcome], experiment: Experiment) -> int:
    """The best trial's number; of equals the first."""
    scores = {number: outcomes[number].score(experiment.training.monitor) for number in sorted(outcomes)}
    best = max(scores, key=lambda number: scores[number])
    if scores[best] == -math.inf:
        why = outcomes[best].failed or "validation holds one class only"
        raise RunError(f"{label}: none of its {len(outcomes)} trials came to a result: {why}")
    return best


def _write_record(
    experiment: Experiment,
    label: str,
    trials: Sequence[Trial],
    outcomes: Mapping[int, Outcome],
    best: int,
    folder: Path,
) -> None:
    """Write tuning.json and the study."""
    options = experiment.compare.tuning
    assert options is not None
    of_trials = [outcomes[trial.number if trial.same_as is None else trial.same_as] for trial in trials]
    content = {
        "model": label,
        "monitor": experiment.training.monitor,
        "requests": options.requests,
        "trials": [
            {"number": trial.number, "values": trial.values, **asdict(outcome), "same_as": trial.same_as}
            for trial, outcome in zip(trials, of_trials, strict=True)
        ],
        "chosen": {"number": best, "values": trials[best].values},
    }
    write_json(folder / "tuning.json", content)
    space = space_of(trials[0].experiment, options, label)
    with replacing(folder / STUDY_FILE) as file:
        _write_study(file, label, experiment.training.monitor, space, list(zip(trials, of_trials, strict=True)))


def _write_study(
    file: Path,
    label: str,
    monitor: str,
    space: Mapping[str, Choices | Range],
    trials: Sequence[tuple[Trial, Outcome]],
) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(file))),
        study_name=label,
        direction="maximize" if monitor == "auc" else "minimize",
    )
    spaces = {key: _with(of, trials[0][0].values[key]) for key, of in space.items()}
    for trial, outcome in trials:
        values = {key: trial.values[key] for key, of in spaces.items() if _holds(of, trial.values[key])}
        failed = outcome.score(monitor) == -math.inf
        study.add_trial(
            optuna.create_trial(
                state=optuna.trial.TrialState.FAIL if failed else optuna.trial.TrialState.COMPLETE,
                params={key: as_parameter(value) for key, value in values.items()},
                distributions={key: distribution(spaces[key]) for key in values},
                value=None if failed else abs(outcome.score(monitor)),
                user_attrs=asdict(outcome) | {"same_as": trial.same_as},
            )
        )


def _with(space: Choices | Range, configured: Any) -> Choices | Range:
    """The choices with the configured value, which is tried whether the space holds it or not."""
    return space if isinstance(space, Range) or configured in space else [*space, configured]


def _holds(space: Choices | Range, value: Any) -> bool:
    """Whether Optuna can show the value: a configured one may lie outside a range, or be none."""
    if not isinstance(space, Range):
        return True
    whole = isinstance(space.low, int) and isinstance(space.high, int)
    return isinstance(value, int if whole else int | float) and space.low <= value <= space.high
