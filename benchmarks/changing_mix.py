"""What following the mix of scenarios is worth when the mix changes, beside rivals that learn from the same answers.

    python benchmarks/changing_mix.py --impressions 2000000 --seeds 1,2,3

Simulates hotel logs whose last week drifts in several ways, trains on the one that does not (they are the same up to
that week), and goes through the test weeks in order of time, answers a minute late. The learning rate and the frequency
of fine-tuning are chosen on a drifting validation period. Writes `docs/changing-mix.csv`, a row per drift and way to
adapt. Finished datasets and runs are reused.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from hotel_logs import hotels_with
from scipy.optimize import linear_sum_assignment

import musenet
from musenet.adaptation.adapted import adapted
from musenet.config.adaptation import AdaptOptions
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import holds_dataset
from musenet.dataset.roles import REQUEST
from musenet.evaluation.draws import UserDraws
from musenet.evaluation.intervals import Resampled, difference, resample_model, seed_and_user_interval
from musenet.evaluation.predictions import Predictions
from musenet.metrics import auc
from musenet.models.musenet.adaptation import Evidence, MixOptions, mixed_logit
from musenet.models.musenet.following import Adaptation
from musenet.runs.run import Run
from musenet.simulators.hotels.visits import HotelOptions, make_plan, simulate_blocks
from musenet.studies.plans import folder_name

DRIFTS: dict[str, dict[str, Any]] = {
    "none": {},
    "shift-0.5": {"shift": 0.5},
    "shift-1": {"shift": 1.0},
    "slow": {"shift": 1.0, "drift": "slow"},
    "returning": {"shift": 1.0, "drift": "returning"},
    "unseen": {"shift": 0.3, "drift": "unseen"},
    "taste": {"shift": 0.5, "drift": "taste"},
}
CHOOSING: dict[str, Any] = {"shift": 1.0, "drift_days": 10}
"""The drift that fine-tuning is chosen on: it is there three days before the test period, in validation."""
MIX, RIVAL = "musenet soft", "dcn v2"
WAYS = [{"learning_rate": rate, "every": every} for rate in (0.0003, 0.001, 0.003) for every in (100, 500)]
"""Of fine-tuning, to choose from."""
DAY = 86_400_000_000
DOCS = Path(__file__).parent.parent / "docs"


def main(
    work: Annotated[Path, typer.Option(help="where logs, datasets and runs go")] = Path("runs/changing-mix"),
    impressions: Annotated[int, typer.Option()] = 2_000_000,
    epochs: Annotated[int, typer.Option()] = 2,
    seeds: Annotated[str, typer.Option(help="of trainings, comma-separated")] = "1,2,3",
    drifts: Annotated[str, typer.Option(help="of all, comma-separated")] = ",".join(DRIFTS),
    docs: Annotated[Path, typer.Option(help="where the table goes")] = DOCS,
) -> None:
    """Train, choose fine-tuning on validation, measure every drift, write the table; and time the estimate."""
    typer.echo(f"the estimate: {milliseconds():.2f} ms of processor time per 100 answered requests")
    every_seed = [int(seed) for seed in seeds.split(",")]
    runs = {label: [trained(work, impressions, epochs, label, seed) for seed in every_seed] for label in (MIX, RIVAL)}
    choosing = dataset_of(work, impressions, "choosing", CHOOSING)
    tuned = {label: chosen(of_label[0], choosing) for label, of_label in runs.items()}
    typer.echo(f"fine-tuning chosen on validation: {tuned}")
    rows: list[dict[str, Any]] = []
    for name in drifts.split(","):
        rows += measured(work, impressions, name, runs, tuned)
        pd.DataFrame(rows).to_csv(docs / "changing-mix.csv", index=False)
        typer.echo(pd.DataFrame(rows[-6:]).to_string(index=False))


def dataset_of(work: Path, impressions: int, name: str, drift: dict[str, Any]) -> Dataset:
    """The prepared log that drifts so."""
    whole = f"hotels-{impressions}" + ("" if name == "none" else f"-{name}")
    experiment, folder = hotels_with(work, whole, [], impressions=impressions, seed=1, **drift)
    if not holds_dataset(folder):
        musenet.prepare(experiment, folder)
    return Dataset(folder)


def trained(work: Path, impressions: int, epochs: int, label: str, seed: int) -> Run:
    """A run on the log that does not drift; all models see the same columns, and no ids."""
    path = work / "runs" / str(impressions) / folder_name(label) / f"seed-{seed}"
    if not (path / "training.json").is_file():
        changes = [f"training.epochs={epochs}"]
        experiment, _ = hotels_with(work, f"hotels-{impressions}", changes, impressions=impressions, seed=1)
        model = experiment.compare.models[label].model_copy(update={"ids": []})
        folder = dataset_of(work, impressions, "none", {}).folder
        musenet.train(experiment.model_copy(update={"model": model, "seed": seed}), path, dataset=folder)
    return Run.open(path)


def chosen(run: Run, choosing: Dataset) -> dict[str, Any]:
    """The learning rate and frequency of fine-tuning that do best on a drifting validation period."""

    def score(way: dict[str, Any]) -> float:
        followed, _ = adapted(run, choosing, "valid", AdaptOptions.model_validate({"finetune": way}))
        return auc(followed.predictions.label, followed.predictions.logit)

    return max(WAYS, key=score)


def measured(
    work: Path, impressions: int, name: str, runs: dict[str, list[Run]], tuned: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row per model and way to adapt, each beside following the mix: the whole week, and its first day."""
    dataset = dataset_of(work, impressions, name, DRIFTS[name])
    answers: dict[str, list[Predictions]] = {}
    for label, of_label in runs.items():
        ways: dict[str, dict[str, Any]] = {"fine-tuned": {"finetune": tuned[label]}, "intercept": {"intercept": True}}
        if label == MIX:
            ways = {"mix followed": {}} | ways
        answers[f"{label}, as it is"] = [run.predictions_on(dataset, "test", scenario_logits=True) for run in of_label]
        for way, options in ways.items():
            chosen_way = AdaptOptions.model_validate(options)
            followed = [adapted(run, dataset, "test", chosen_way)[0].predictions for run in of_label]
            answers[f"{label}, {way}"] = followed
    if DRIFTS[name].get("drift") not in ("unseen", "taste"):
        rule = knowable(impressions, DRIFTS[name])[search_ids(dataset)]
        answers["the rule's probabilities"] = [by_the_rule(one, rule) for one in answers[f"{MIX}, as it is"]]
    week, first_day = resampled(answers), resampled({label: [of_first_day(one) for one in of_label]
                                                     for label, of_label in answers.items()})  # fmt: skip
    ours = f"{MIX}, mix followed"
    return [
        {"drift": name, "model": label}
        | columns("week", week[label], week[ours])
        | columns("first day", first_day[label], first_day[ours])
        | {"logloss": round(week[label].value("logloss"), 5)}
        for label in answers
    ]


def resampled(answers: dict[str, list[Predictions]]) -> dict[str, Resampled]:
    """Every row on the same draws of users."""
    draws = UserDraws(next(iter(answers.values()))[0].user)
    return {
        label: resample_model([one.sample() for one in of_label], draws, ["auc", "logloss"])
        for label, of_label in answers.items()
    }


def columns(period: str, row: Resampled, ours: Resampled) -> dict[str, float]:
    """AUC with its interval, and how far following the mix lies above it, paired."""
    value, above = seed_and_user_interval(row, "auc"), difference(ours, row, "auc")
    figures = {"": value.value, " low": value.low, " high": value.high}
    figures |= {" below ours": above.value, " below ours low": above.low, " below ours high": above.high}
    return {f"{period}{name}": round(figure, 5) for name, figure in figures.items()}


def of_first_day(predictions: Predictions) -> Predictions:
    """The candidates of the period's first 24 hours."""
    rows = predictions.time < predictions.time.min() + DAY
    names = ("request", "user", "item", "time", "label", "logit", "repeat_indicator")
    return replace(predictions, weight=None, **{name: getattr(predictions, name)[rows] for name in names})


def by_the_rule(predictions: Predictions, rule: np.ndarray) -> Predictions:
    """The model's own scenarios, mixed by the probabilities (R, K) that the generator's rule gives."""
    assignment, scenario_logit = predictions.assignment, predictions.scenario_logit
    assert assignment is not None
    assert scenario_logit is not None
    _, own = linear_sum_assignment((rule - rule.mean(axis=0)).T @ assignment, maximize=True)
    logit = mixed_logit(np.log(np.maximum(rule, 1e-9))[predictions.place], scenario_logit[:, own])
    return replace(predictions, logit=logit)


def knowable(impressions: int, drift: dict[str, Any]) -> np.ndarray:
    """(searches, K) how probable the rule makes each scenario, a row per `search_id`."""
    options = HotelOptions(impressions=impressions, seed=1, **drift)
    plan, blocks = make_plan(options), []
    for block in simulate_blocks(plan, options):
        requests = block.requests
        probability = plan.rule.probability(requests.situation, plan.drift.of_shares(requests.seconds))
        blocks.append(probability[requests.logged])
    return np.concatenate(blocks).astype(np.float64)


def search_ids(dataset: Dataset) -> np.ndarray:
    """(R) of the requests of the test period."""
    period = dataset.manifest.splits["test"]
    return np.asarray(dataset.keys("requests")[REQUEST].to_numpy()[period.begin : period.end]).astype(np.int64)


def milliseconds(scenarios: int = 4, candidates: int = 10, repeats: int = 200) -> float:
    """Processor time of learning from 100 answered requests, in blocks of the default size: the median."""
    random, adaptation, took = np.random.default_rng(0), Adaptation(scenarios, MixOptions()), []
    size = adaptation.options.every
    rows, sizes = size * candidates, np.full(size, candidates)
    for turn in range(repeats):
        blocks: Sequence[Any] = [
            (
                np.log(random.dirichlet(np.ones(scenarios), size)),
                (
                    random.normal(size=(rows, scenarios)),
                    (random.random(rows) < 0.5).astype(float),
                    np.ones(rows),
                    sizes,
                ),
                random.exponential(size=(size, 2)),
                100.0 * turn + np.arange(size),
            )
            for _ in range(100 // size)
        ]
        begin = time.thread_time()
        for log_assignment, answers, loss, when in blocks:
            adaptation.learn(log_assignment, Evidence.of(*answers, level=adaptation.level), loss, when)
        took.append(1000 * (time.thread_time() - begin))
    return float(np.median(took))


if __name__ == "__main__":
    typer.run(main)
