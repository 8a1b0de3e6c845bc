"""The demo: a comparison, and the scenarios that its first model with soft scenarios learned."""

from pathlib import Path

from musenet.config.experiment import Experiment
from musenet.errors import ConfigError
from musenet.portraits.portraits import Portrait
from musenet.results import Result
from musenet.studies.comparison.results import Comparison


class Demo(Result):
    """What the demo leaves to look at."""

    comparison: Comparison
    scenarios: list[Portrait]
    """Of the first run with soft scenarios."""
    report: Path


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
