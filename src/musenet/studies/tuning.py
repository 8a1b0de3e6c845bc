"""Tuning with the same budget for every row of a comparison (docs/configuration.md, `compare.tuning`).

Successive halving: all trials of all rows go through the pool together, rung by rung, and the best of each row go on
to more requests. What is chosen stands in `<out>/<label>/tuning.json`, with every trial.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musenet.config.experiment import Experiment
from musenet.config.loading import with_values
from musenet.config.search_space import Rung, rungs
from musenet.errors import RunError
from musenet.files import write_json
from musenet.studies.plans import folder_name, row_of
from musenet.studies.pool import TrainingPool
from musenet.studies.trials import Outcome, Trial, plan_trials, run_trial, shared_points, values_taken_over

RECORD_FILE = "tuning.json"


@dataclass(frozen=True)
class _Tried:
    """A trial and how it ended at one rung, once per seed."""

    trial: Trial
    requests: float
    outcomes: Mapping[int, Outcome]

    def score(self, monitor: str) -> float:
        """The mean over the seeds, larger is better; -inf if one of them has no result."""
        return float(np.mean([outcome.score(monitor) for outcome in self.outcomes.values()]))


def tuned_rows(
    experiment: Experiment, labels: Sequence[str], folder: Path, pool: TrainingPool
) -> dict[str, Experiment]:
    """The rows' experiments, with the values that trials chose if the comparison is tuned.

    Args:
        experiment: whose `compare` part names rows and tuning.
        labels: the rows wanted; a row that another one is like is tuned even if it is not wanted itself.
        folder: of the comparison; a trial's runs go to `<folder>/<label>/trials`.
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
    tuned = dict.fromkeys(options.like.get(label, label) for label in labels)
    trials = {label: plan_trials(experiment, label, shared) for label in tuned}
    chosen = {}
    for label, tried in _climb(trials, rungs(options), experiment, folder, pool).items():
        chosen[label] = tried[0].trial.values
        write_json(folder / folder_name(label) / RECORD_FILE, _record(label, trials[label], tried, experiment))
    for label, row in rows.items():
        other = options.like.get(label)
        values = chosen[label] if other is None else values_taken_over(chosen[other], row, row_of(experiment, other))
        if other is not None:
            taken_over = {"model": label, "like": other, "chosen": {"values": values}}
            write_json(folder / folder_name(label) / RECORD_FILE, taken_over)
        rows[label] = with_values(row, values)
    return rows


def _climb(
    trials: Mapping[str, Sequence[Trial]],
    every_rung: Sequence[Rung],
    experiment: Experiment,
    folder: Path,
    pool: TrainingPool,
) -> dict[str, list[_Tried]]:
    """All that was tried of each row: the last rung first, and the best of a rung before the others."""
    left = {label: [trial for trial in of_row if trial.same_as is None] for label, of_row in trials.items()}
    tried: dict[str, list[_Tried]] = {label: [] for label in trials}
    for rung in every_rung:
        seeds = range(experiment.seed, experiment.seed + rung.seeds)
        left = {label: of_row[: rung.trials] for label, of_row in left.items()}
        ended = _run(left, rung.requests, seeds, folder, pool)
        for label, of_row in left.items():
            found = [_Tried(trial, rung.requests, ended[label][trial.number]) for trial in of_row]
            # Sorting is stable: of equals the first is the better.
            found.sort(key=lambda one: -one.score(experiment.training.monitor))
            if found[0].score(experiment.training.monitor) == -math.inf:
                why = next(iter(found[0].outcomes.values())).failed or "validation holds one class only"
                raise RunError(f"{label}: none of its {len(found)} trials succeeded: {why}")
            tried[label] = found + tried[label]
            left[label] = [one.trial for one in found if one.score(experiment.training.monitor) > -math.inf]
    return tried


def _run(
    trials: Mapping[str, Sequence[Trial]], requests: float, seeds: range, folder: Path, pool: TrainingPool
) -> dict[str, dict[int, dict[int, Outcome]]]:
    """How each trial ended with each seed: by label, number and seed."""
    planned = {}
    for label, of_row in trials.items():
        for trial in of_row:
            for seed in seeds:
                run = trial.planned(label, requests, seed, folder / folder_name(label))
                planned[run.path] = (run, label, trial.number, seed)
    ended: dict[str, dict[int, dict[int, Outcome]]] = {
        label: {trial.number: {} for trial in of_row} for label, of_row in trials.items()
    }
    for run, outcome in pool.each(run_trial, [run for run, *_ in planned.values()]):
        _, label, number, seed = planned[run.path]
        ended[label][number][seed] = outcome
        pool.listener.say(f"{run.name}: {outcome.failed or f'validation AUC {outcome.auc:.4f}'}")
    return ended


def _record(label: str, trials: Sequence[Trial], tried: Sequence[_Tried], experiment: Experiment) -> dict[str, Any]:
    """What tuning.json holds: every training, what was chosen, and by how much."""
    monitor, best = experiment.training.monitor, tried[0]
    others = [one.score(monitor) for one in tried[1:] if one.requests == best.requests]
    margin = best.score(monitor) - max(others, default=-math.inf)
    of_best = [outcome.score(monitor) for outcome in best.outcomes.values()]
    return {
        "model": label,
        "monitor": monitor,
        "trials": [
            {"number": one.trial.number, "values": one.trial.values, "requests": one.requests, "seed": seed}
            | asdict(outcome)
            for one in tried
            for seed, outcome in one.outcomes.items()
        ],
        "same": {str(trial.number): trial.same_as for trial in trials if trial.same_as is not None},
        "chosen": {
            "number": best.trial.number,
            "values": best.trial.values,
            "margin": margin if math.isfinite(margin) else None,
            "spread": float(np.std(of_best, ddof=1)) if len(of_best) > 1 else None,
        },
    }
