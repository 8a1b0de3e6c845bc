"""The demo: a comparison, and the scenarios that its first model with soft scenarios learned."""

from pathlib import Path

from rich.console import Console

from musenet.config.experiment import Experiment
from musenet.errors import ConfigError
from musenet.portraits.portraits import Portrait, show_portraits
from musenet.results import Result, show
from musenet.studies.comparison.results import Comparison
from musenet.studies.comparison.table import show as show_table


class Demo(Result):
    """What the demo leaves to look at."""

    comparison: Comparison
    scenarios: list[Portrait]
    """Of the first run with soft scenarios."""
    report: Path
    config: Path | None = None
    """The bundled experiment, as it was written beside its log; None if another one was run."""


@show.register
def show_demo(demo: Demo, console: Console) -> None:
    """Print the table, the scenarios, and where the report is."""
    show_table(demo.comparison, console)
    console.print()
    show_portraits(demo.scenarios, console)
    console.print(f"The report: {demo.report}", soft_wrap=True)
    if demo.config is not None:
        console.print(f"The configuration: {demo.config}", soft_wrap=True)


def soft_row(experiment: Experiment) -> str:
    """The first compared model that learns soft scenarios; raises `ConfigError` if there is none."""
    found = next(
        (
            label
            for label, model in experiment.compare.models.items()
            if model.soft_scenarios and model.role == "musenet"
        ),
        None,
    )
    if found is None:
        raise ConfigError(f"{experiment.name}: compare.models holds no musenet with soft scenarios to describe")
    return found
