"""What could be won at most by telling the scenarios of `configs/hotels.yaml` apart better?

    python benchmarks/scenarios_ceiling.py runs/hotels

Takes the finished runs `musenet soft` and `told the truth` of a comparison and scores validation anew, with other
assignments in place of the learned ones: the true scenario, and the probability that the generator's rule gives each
scenario, which is all that anybody can know before the click. Writes `docs/scenarios-ceiling.csv`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.special import expit

from musenet.dataset.batch import Batch
from musenet.dataset.builder import BatchBuilder
from musenet.dataset.dataset import Dataset
from musenet.evaluation.scoring import scoring
from musenet.metrics import auc
from musenet.portraits.scenario_table import request_keys
from musenet.runs.run import Run
from musenet.simulators.hotels.visits import HotelOptions, make_plan, simulate_blocks

Floats = NDArray[np.float64]
DOCS = Path(__file__).parent.parent / "docs"
REQUESTS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Answers:
    """A run's answers on validation: N candidates, R requests, K scenarios in the generator's order."""

    click_probability: Floats  # (N, K) if the candidate's request were of the scenario
    assignment: Floats  # (R, K)
    label: Floats  # (N)
    request: NDArray[np.int64]  # (N) row of the R requests
    scenario: NDArray[np.int64]  # (R) the true one

    def auc_with(self, assignment: Floats) -> float:
        """AUC if requests were assigned like this instead."""
        return auc(self.label, (assignment[self.request] * self.click_probability).sum(axis=1))


def main(
    runs: Annotated[Path, typer.Argument(help="the folder of the comparison")],
    impressions: Annotated[int, typer.Option(help="of the log")] = 2_000_000,
    seed: Annotated[int, typer.Option(help="that the log was simulated with")] = 1,
    docs: Annotated[Path, typer.Option(help="where the table goes")] = DOCS,
) -> None:
    """Score every seed with every assignment and write the means."""
    known = knowable(impressions, seed)
    rows = []
    for soft_run in sorted((runs / "musenet-soft").glob("seed-*")):
        told_run = runs / "told-the-truth" / soft_run.name
        if not told_run.is_dir():
            continue
        soft, told = in_the_generators_order(answers_of(soft_run)), answers_of(told_run)
        rule = known[search_ids(soft_run)]
        truth = np.eye(rule.shape[1])[soft.scenario]
        for modules, answers in (("musenet soft", soft), ("told the truth", told)):
            for name, assignment in (("learned", soft.assignment), ("by the rule", rule), ("true", truth)):
                rows.append({"seed": soft_run.name, "modules": modules, "assignment": name,
                             "auc": answers.auc_with(assignment)})  # fmt: skip
    table = pd.DataFrame(rows).groupby(["modules", "assignment"], sort=False)["auc"].agg(["mean", "min", "max"])
    table.round(4).to_csv(docs / "scenarios-ceiling.csv")
    typer.echo(table.round(4).to_string())


def knowable(impressions: int, seed: int) -> Floats:
    """(searches, K) how probable the rule makes each scenario, a row per `search_id`."""
    options = HotelOptions(impressions=impressions, seed=seed)
    plan = make_plan(options)
    blocks = []
    for block in simulate_blocks(plan, options):
        requests = block.requests
        blocks.append(
            plan.rule.probability(requests.situation, plan.drift.of_shares(requests.seconds))[requests.logged]
        )
    return np.concatenate(blocks).astype(np.float64)


def search_ids(run: Path) -> NDArray[np.int64]:
    """(R) of the requests of validation."""
    folder = Run.open(run)
    period = folder.dataset.manifest.splits["valid"]
    ids: NDArray[np.int64] = request_keys(folder)["search_id"].to_numpy()[period.begin : period.end]
    return ids


def answers_of(run: Path) -> Answers:
    """Score validation, every scenario for itself."""
    opened = Run.open(run)
    model, dataset = opened.model, opened.dataset
    parts: list[dict[str, Any]] = []
    seen = 0
    with scoring(model):
        for batch in batches(dataset):
            prediction = model(batch)
            assert batch.true_scenario is not None
            parts.append(
                {
                    "click_probability": expit(prediction.scenario_logit.double().numpy()),
                    "assignment": prediction.log_assignment.double().exp().numpy(),
                    "label": batch.label.double().numpy(),
                    "request": batch.request.numpy() + seen,
                    "scenario": batch.true_scenario.numpy(),
                }
            )
            seen += batch.requests
    return Answers(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def batches(dataset: Dataset) -> Iterator[Batch]:
    """Validation's requests in order."""
    builder, period = BatchBuilder(dataset), dataset.manifest.splits["valid"]
    for begin in range(period.begin, period.end, REQUESTS_AT_ONCE):
        yield builder.build(np.arange(begin, min(begin + REQUESTS_AT_ONCE, period.end)))


def in_the_generators_order(answers: Answers) -> Answers:
    """Learned scenarios have no order: the one in which they agree best with the true ones."""
    agreement = np.eye(answers.assignment.shape[1])[answers.scenario].T @ answers.assignment  # (true, learned)
    order = linear_sum_assignment(-agreement)[1]
    return Answers(
        answers.click_probability[:, order], answers.assignment[:, order], answers.label, answers.request,
        answers.scenario,
    )  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    typer.run(main)
