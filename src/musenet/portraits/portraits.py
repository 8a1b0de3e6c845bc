"""What a scenario is: its size, how people repeat in it, and what sets it apart from the others."""

from collections.abc import Sequence

import numpy as np
from rich.console import Console
from rich.text import Text

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.evaluation.evaluation import percentage
from musenet.evaluation.intervals import Interval
from musenet.evaluation.predictions import Predictions
from musenet.evaluation.scenario_figures import ScenarioFigures
from musenet.portraits.contrasts import NumericContrast, ValueContrast, contrasts_of
from musenet.portraits.names import scenario_names
from musenet.portraits.scenario_table import with_scenarios
from musenet.results import Number, Result
from musenet.runs.run import Run

SHOWN = 6
SMALLEST_DIFFERENCE = 0.1


class Portrait(Result):
    """One scenario, described on one split."""

    scenario: int
    name: str = ""
    """Made from what sets it apart, or given by people; empty in what versions without names wrote."""
    requests: Number
    """Expected number under the assignment."""
    share: Number
    repeat_probability: Number | None
    repeat_share_of_positives: Interval
    click_rate_on_repeats: Interval
    click_rate_on_new: Interval
    repeat_intention: Interval
    """Click rate on repeats / (click rate on repeats + click rate on new items)."""
    numbers: list[NumericContrast]
    """Largest differences first."""
    values: list[ValueContrast]
    """In order of what they contribute to telling the scenario apart, share · log lift."""


def describe_scenarios(run: Run, split: Split = "test", shown: int = SHOWN) -> list[Portrait]:
    """A portrait of each scenario of the run, on one split.

    Raises:
        RunError: if the run's model has no scenarios.
    """
    predictions, names = with_scenarios(run.predictions(split), run), scenario_names(run)

    def described() -> list[Portrait]:
        figures = run.scenarios(split)
        return [] if figures is None else portraits_of(run.dataset, predictions, figures, names, shown)

    return workers.first_does(described)


def portraits_of(
    dataset: Dataset, predictions: Predictions, figures: ScenarioFigures, names: Sequence[str], shown: int = SHOWN
) -> list[Portrait]:
    """A portrait of each scenario, under its name, by which predictions of a dataset assign requests."""
    assignment = predictions.assignment
    assert assignment is not None
    found = contrasts_of(dataset, predictions)
    numbers = [[one for one in of if isinstance(one, NumericContrast)] for of in found]
    values = [[one for one in of if isinstance(one, ValueContrast)] for of in found]
    return [
        Portrait(
            scenario=k,
            name=names[k],
            requests=float(assignment[:, k].sum()),
            share=figures.share[k],
            repeat_probability=None if figures.repeat_probability is None else figures.repeat_probability[k],
            repeat_share_of_positives=figures.repeat_share_of_positives[k],
            click_rate_on_repeats=figures.click_rate_on_repeats[k],
            click_rate_on_new=figures.click_rate_on_new[k],
            repeat_intention=figures.repeat_intention[k],
            numbers=_largest(numbers[k], shown),
            values=sorted(values[k], key=lambda value: -value.share * np.log(value.lift))[:shown],
        )
        for k in range(figures.count)
    ]


def show_portraits(portraits: list[Portrait], console: Console) -> None:
    """Print a paragraph per scenario."""
    for portrait in portraits:
        called = f" ({portrait.name})" if portrait.name else ""
        p_r = "" if portrait.repeat_probability is None else f" (p_r {portrait.repeat_probability:.2f})"
        console.print(
            Text(f"scenario {portrait.scenario}{called}", style="bold"),
            f": {portrait.share:.1%} of requests, "
            f"repeat intention {percentage(portrait.repeat_intention)}{p_r}, "
            f"repeats are {percentage(portrait.repeat_share_of_positives)} of its clicks",
            sep="",
        )
        console.print(
            f"  clicked: {percentage(portrait.click_rate_on_repeats)} of repeats, "
            f"{percentage(portrait.click_rate_on_new)} of new items"
        )
        numbers = [f"{_name(n.field, n.of)} {n.difference:+.2f} sd" for n in portrait.numbers]
        values = [f"{_name(v.field, v.of)} = {v.value} ({v.lift:.1f}×, {v.share:.0%})" for v in portrait.values]
        for words in (numbers, values):
            if words:
                console.print("  " + ", ".join(words))


def _largest(numbers: list[NumericContrast], shown: int) -> list[NumericContrast]:
    clear = [number for number in numbers if abs(number.difference) >= SMALLEST_DIFFERENCE]
    return sorted(clear, key=lambda number: -abs(number.difference))[:shown]


def _name(field: str, of: str) -> str:
    return field if of == "requests" else f"clicked {field}"
