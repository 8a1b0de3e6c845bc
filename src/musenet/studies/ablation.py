"""`ablate`: the paper's Table 3, from the experiment's own model, and whether its order of rows holds.

M1 is scenario learning, M2 repeat intention modelling (`form: plain` is without it).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import computed_field
from pydantic.dataclasses import dataclass
from rich.console import Console

from musenet.config.experiment import Experiment
from musenet.config.studies import CompareOptions
from musenet.errors import ConfigError
from musenet.evaluation.draws import RESAMPLES, UserDraws
from musenet.evaluation.intervals import Difference, difference, resample_model
from musenet.files import write_text
from musenet.models.musenet.options import MusenetOptions
from musenet.models.options import ModelOptions
from musenet.options import with_value
from musenet.results import show
from musenet.runs.run import Run
from musenet.studies.compare_models import compare_models
from musenet.studies.comparison.compare import SPLIT
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import show as show_comparison
from musenet.studies.comparison.table import to_markdown
from musenet.studies.pool import TrainingPool

CHANGES: dict[str, dict[str, Any]] = {
    "w/o M1 & M2": {"scenarios": 1, "assignment": "soft", "form": "plain"},
    "predefined scenarios": {"assignment": "predefined"},
    "hard w/o M2": {"assignment": "hard", "form": "plain"},
    "soft w/o M2": {"assignment": "soft", "form": "plain"},
    "hard": {"assignment": "hard"},
    "soft": {"assignment": "soft"},
}
"""What each row of Table 3 changes, from the worst to the best as the paper found them."""

Answer = Literal["yes", "no", "unsure"]


@dataclass(frozen=True)
class Step:
    """Two consecutive rows: the AUC of the upper, which the paper found the better one, minus that of the lower."""

    lower: str
    upper: str
    difference: Difference

    @computed_field  # type: ignore[prop-decorator]
    @property
    def holds(self) -> Answer:
        """Whether the upper row is better for sure, worse for sure, or neither."""
        if self.difference.low > 0:
            return "yes"
        return "no" if self.difference.high < 0 else "unsure"


class Ablation(Comparison):
    """Table 3: the comparison of its rows, and whether they come in the paper's order."""

    order: list[Step]
    left_out: dict[str, str]
    """Rows of the paper that are not here, and why."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def order_verdict(self) -> str:
        """Whether the paper's order of rows holds, in one sentence."""
        return judge_steps(self.order)

    @property
    def sentences(self) -> str:
        """The verdict on the order, and what was left out."""
        return " ".join([self.order_verdict, *(f"{row} is left out: {why}." for row, why in self.left_out.items())])

    def to_markdown(self) -> str:
        """The table, and what it says of the paper's order."""
        return f"{to_markdown(self)}\n{self.sentences}\n"


@show.register
def show_ablation(ablation: Ablation, console: Console) -> None:
    """Print the tables, and the verdict on the order."""
    show_comparison(ablation, console)
    console.print()
    console.print(ablation.sentences)


def ablation_of(experiment: Experiment) -> tuple[Experiment, dict[str, str]]:
    """The same experiment with the rows of Table 3 to compare, and the rows left out with the reason.

    Raises:
        ConfigError: unless the model is a musenet with scenarios to learn and a repeat form, on a log with repeats.
    """
    model = experiment.model
    if not isinstance(model, MusenetOptions):
        raise ConfigError(f"ablate is for musenet, but model.name is {model.name}: set it to musenet")
    if model.form == "plain" or experiment.repeat is None:
        what = "model.form is plain" if model.form == "plain" else "there is no `repeat` part"
        raise ConfigError(f"ablate compares with and without repeat intentions, but {what}: there would be none")
    if model.scenarios == 1:
        raise ConfigError("ablate compares with and without scenarios, but model.scenarios is 1: set it higher")
    left_out = {}
    if not experiment.predefined_scenario:
        left_out["predefined scenarios"] = "the configuration names no `predefined_scenario`"
    elif model.objective == "paper":
        left_out["predefined scenarios"] = "`objective: paper` has only learned ones"
    models = {row: _changed(model, changes) for row, changes in CHANGES.items() if row not in left_out}
    compare = CompareOptions(models=models, reference="soft", base="w/o M1 & M2", seeds=experiment.compare.seeds)
    return experiment.model_copy(update={"compare": compare}), left_out


def run_ablation(
    taken_apart: Experiment,
    left_out: dict[str, str],
    labels: Sequence[str],
    seeds: int | None,
    folder: Path,
    pool: TrainingPool,
) -> Ablation:
    """Train the rows of Table 3, judge their order, and write `ablation.json` and `ablation.md`.

    Args:
        taken_apart: the experiment of `ablation_of`.
        left_out: as `ablation_of` gave it.
        labels: the rows wanted.
        seeds: trainings per row; as configured if None.
        folder: of the runs and the table.
        pool: trains the runs.
    """
    comparison = compare_models(taken_apart, labels, seeds, folder, pool)
    runs = {row.name: [Run.open(Path(run)) for run in row.runs] for row in comparison.models}
    result = Ablation(**dict(comparison), order=judge_order(runs), left_out=left_out)
    result.write(folder / "ablation.json")
    write_text(folder / "ablation.md", result.to_markdown())
    return result


def judge_order(groups: Mapping[str, Sequence[Run]], resamples: int = RESAMPLES) -> list[Step]:
    """Each pair of consecutive rows of Table 3 among the trained ones, paired over users and seeds."""
    rows = [row for row in CHANGES if row in groups]
    draws = UserDraws(groups[rows[0]][0].predictions(SPLIT).user, resamples)
    resampled = {
        row: resample_model([run.predictions(SPLIT).sample() for run in groups[row]], draws, ["auc"]) for row in rows
    }
    return [Step(lower, upper, difference(resampled[upper], resampled[lower])) for lower, upper in pairwise(rows)]


def judge_steps(order: Sequence[Step]) -> str:
    """Whether the paper's order of rows holds, in one sentence."""
    if not order:
        return "The paper's order of rows cannot be judged by a single row."
    by_answer = {answer: [step for step in order if step.holds == answer] for answer in ("yes", "no", "unsure")}
    if len(by_answer["yes"]) == len(order):
        return f"The paper's order of rows holds: each of {len(order)} steps gains AUC, whole intervals above zero."
    parts = [f"{len(by_answer['yes'])} of {len(order)} steps surely gain AUC"]
    for answer, words in (("unsure", "cannot be told from nothing"), ("no", "surely lose")):
        if by_answer[answer]:
            parts.append(f"{_listed(by_answer[answer])} {words}")
    head = "does not hold" if by_answer["no"] else "is not shown"
    return f"The paper's order of rows {head}: {'; '.join(parts)}."


def _listed(steps: Sequence[Step]) -> str:
    return ", ".join(f"{step.lower} → {step.upper} ({_bounds(step.difference)})" for step in steps)


def _bounds(found: Difference) -> str:
    return f"{found.value:+.4f}, {found.low:+.4f} … {found.high:+.4f}"


def _changed(model: ModelOptions, changes: Mapping[str, Any]) -> ModelOptions:
    for key, value in changes.items():
        model = with_value(model, key, value)
    return model
