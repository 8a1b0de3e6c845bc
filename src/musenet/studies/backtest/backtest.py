"""`backtest`: a model trained before the first period, and what becomes of it by each policy as time passes.

All policies answer the same impressions, each by what was known when the period of the impression began, or, where
answers are followed, when they came in.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from musenet.adaptation.adapted import adapted, has_mix
from musenet.config.adaptation import AdaptOptions
from musenet.config.backtest import Policy
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import RunError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.evaluation import protocol_line
from musenet.evaluation.intervals import Resampled, difference, resample_model, seed_and_user_interval
from musenet.evaluation.predictions import Floats, Predictions
from musenet.files import write_text
from musenet.progress import Listener
from musenet.runs.run import Run
from musenet.studies.backtest.periods import Periods
from musenet.studies.backtest.results import METRICS, Backtest, PeriodFigures, PolicyRow, WalkedPeriod
from musenet.studies.plans import folder_name
from musenet.training.train_run import train_run

SPLIT: Split = "test"
Prepare = Callable[[Experiment, Path], Dataset]


@dataclass
class Answered:
    """A policy's answers to all periods."""

    logit: Floats
    """(N) of the impressions of the whole test split."""
    seconds: list[float]
    """What it took, for each period."""


@dataclass
class Walk:
    """One model on its way through the periods.

    Args:
        row: the model's experiment, its test split being all periods.
        dataset: of that experiment.
        periods: of the walk.
        folder: for its runs.
        prepare: makes the dataset of an experiment in a folder.
        listener: told of every report of the trainings.
    """

    row: Experiment
    dataset: Dataset
    periods: Periods
    folder: Path
    prepare: Prepare
    listener: Listener
    left_out: dict[str, str] = field(default_factory=dict)

    def answers(self) -> dict[Policy, Answered]:
        """By policy; those that the model cannot take are left out, and it is told why."""
        options = self.row.backtest
        first, seconds = self._trained(self.row, self.dataset, "first", None)
        alone = first.predictions(SPLIT)
        none = [0.0] * (len(self.periods) - 1)
        found: dict[Policy, Answered] = {"left alone": Answered(alone.logit, [seconds, *none])}
        ways: dict[Policy, AdaptOptions] = {
            "mix followed": options.adapt,
            "fine-tuned online": options.adapt.model_copy(update={"finetune": options.finetune}),
        }
        for policy in options.policies:
            if policy == "left alone" or (why := self._cannot(policy, first)):
                self.left_out |= {} if policy == "left alone" else {policy: why}
            elif policy in ways:
                began = time.perf_counter()
                followed, _ = adapted(first, self.dataset, SPLIT, ways[policy])
                took = (time.perf_counter() - began) / len(self.periods)
                found[policy] = Answered(followed.predictions.logit, [seconds + took, *([took] * len(none))])
            else:
                found[policy] = self._trained_on_the_way(policy, first, alone, seconds)
        return found

    def _cannot(self, policy: Policy, first: Run) -> str:
        if policy == "mix followed" and not has_mix(first):
            return "it has no scenarios whose mix could be followed"
        if policy in ("fine-tuned online", "warm-started") and not self.row.model.by_gradient:
            return "it does not learn step by step"
        return ""

    def _trained_on_the_way(self, policy: Policy, first: Run, alone: Predictions, seconds: float) -> Answered:
        """Trained again before each period but the first, from the weights of before or from none."""
        answered, before = Answered(alone.logit.copy(), [seconds]), first
        for place in range(1, len(self.periods)):
            experiment = self.row.model_copy(update={"split": self.periods.split(place)})
            dataset = self.prepare(experiment, self.folder.parent / "datasets" / f"period-{place + 1}")
            start = before if policy == "warm-started" else None
            if start is not None:
                options = self.row.backtest
                changes = {"epochs": options.epochs, "replay": options.replay}
                training = self.row.training.model_copy(update=changes)
                experiment = experiment.model_copy(update={"training": training})
            run, took = self._trained(experiment, dataset, f"{folder_name(policy)}-{place + 1}", start)
            own = run.predictions(SPLIT)
            rows = self.periods.rows(place, alone.time)
            same = len(own.label) == rows.stop - rows.start and np.array_equal(own.label, alone.label[rows])
            if not (same and np.array_equal(own.time, alone.time[rows])):
                raise RunError(f"{dataset.folder} holds other impressions of period {place + 1} than the whole log")
            answered.logit[rows] = own.logit
            answered.seconds.append(took)
            before = run
        return answered

    def _trained(self, experiment: Experiment, dataset: Dataset, name: str, start: Run | None) -> tuple[Run, float]:
        path = self.folder / name
        log = self.listener.training(f"{self.folder.name}, {name}")
        begin = None if start is None else start.folder
        result = train_run(experiment, dataset, path, resume=True, replace=True, start=begin, log=log)
        return Run.open(path), result.seconds


def run_backtest(
    rows: Mapping[str, Experiment],
    dataset: Dataset,
    periods: Periods,
    folder: Path,
    prepare: Prepare,
    listener: Listener,
    resamples: int = RESAMPLES,
) -> Backtest:
    """Walk every model through the periods by all its policies, and write `backtest.json` and `backtest.md`.

    Args:
        rows: an experiment for each model, its test split being all periods.
        dataset: of these experiments.
        periods: of the walk.
        folder: for runs, datasets and tables.
        prepare: makes the dataset of an experiment in a folder.
        listener: told of every report of the trainings.
        resamples: of users.

    Raises:
        RunError: if a training diverged, or a period's dataset holds other impressions than the whole log's.
    """
    measured: list[PolicyRow] = []
    left_out: dict[str, str] = {}
    shown: Predictions | None = None
    for label, row in rows.items():
        walk = Walk(row, dataset, periods, folder / folder_name(label), prepare, listener)
        answers = walk.answers()
        left_out |= {f"{label}, {policy}": why for policy, why in walk.left_out.items()}
        shown = Run.open(walk.folder / "first").predictions(SPLIT)
        measured += _rows_of(label, answers, shown, periods, resamples)
    assert shown is not None
    first = next(iter(rows.values()))
    result = Backtest(
        data=first.name,
        seed=first.seed,
        protocol=protocol_line(dataset, SPLIT) + "; weights chosen on the days before each period",
        periods=[_walked(periods, place, shown) for place in range(len(periods))],
        models=measured,
        left_out=left_out,
    )
    result.write(folder / "backtest.json")
    write_text(folder / "backtest.md", result.to_markdown())
    return result


def _rows_of(
    label: str, answers: Mapping[Policy, Answered], shown: Predictions, periods: Periods, resamples: int
) -> list[PolicyRow]:
    end = periods.rows(len(periods) - 1, shown.time).stop
    draws = UserDraws(shown.user[:end], resamples)
    whole = {policy: _resampled(shown, one, slice(0, end), draws) for policy, one in answers.items()}
    found = []
    for policy, one in answers.items():
        of_periods = []
        for place in range(len(periods)):
            rows = periods.rows(place, shown.time)
            own = _resampled(shown, one, rows, UserDraws(shown.user[rows], resamples))
            of_periods.append(_figures(own, one.seconds[place]))
        gained = {name: difference(whole[policy], whole["left alone"], name) for name in ("auc", "logloss")}
        row = PolicyRow(
            model=label,
            policy=policy,
            periods=of_periods,
            whole=_figures(whole[policy], sum(one.seconds)),
            gained=gained,
        )
        found.append(row)
    return found


def _resampled(shown: Predictions, answered: Answered, rows: slice, draws: UserDraws) -> Resampled:
    return resample_model(replace(shown, logit=answered.logit).sample().part(rows), draws, METRICS)


def _figures(model: Resampled, seconds: float) -> PeriodFigures:
    return PeriodFigures(**{name: seed_and_user_interval(model, name) for name in METRICS}, minutes=seconds / 60)


def _walked(periods: Periods, place: int, shown: Predictions) -> WalkedPeriod:
    rows = periods.rows(place, shown.time)
    begin, end = (periods.local(one).isoformat() for one in (place, place + 1))
    label = shown.label[rows]
    return WalkedPeriod(begin=begin, end=end, impressions=len(label), positives=int(label.sum()))
