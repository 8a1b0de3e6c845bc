"""What a sweep trains: one option at a time around the configured values, for every model that has it.

The configured values are trained once per model, into `<out>/<label>/configured/seed-<s>`, and stand in the line of
every parameter.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musenet.config.experiment import Experiment
from musenet.config.loading import with_values
from musenet.config.search_space import check_space
from musenet.config.studies import SweepOptions
from musenet.config.yaml_text import read_yaml
from musenet.dataset.manifest import Split
from musenet.errors import ConfigError
from musenet.options import can_vary, value_at
from musenet.studies.plans import PlannedRun, chosen_labels, folder_name
from musenet.training.train_run import decisive

CONFIGURED = "configured"


@dataclass(frozen=True)
class PlannedLine:
    """One model along one parameter: the runs of each value, the configured one among them."""

    parameter: str
    model: str
    configured: Any
    runs: list[tuple[Any, list[PlannedRun]]]


def parse_parameters(texts: Sequence[str]) -> dict[str, list[Any]]:
    """`model.scenarios=1,2,4` as the command line gives it, values read as YAML.

    >>> parse_parameters(["model.scenarios=1,2", "model.ids=[],[item]"])
    {'model.scenarios': [1, 2], 'model.ids': [[], ['item']]}
    """
    parameters: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        try:
            parameters[key.strip()] = read_yaml(f"[{values}]")
        except ValueError as error:
            raise ConfigError(f"--parameter {text[:80]}: the list of values {error}") from error
        if not parameters[key.strip()]:
            raise ConfigError(f"--parameter {text}: write key=value,value, for example model.scenarios=1,2,4")
    return parameters


def swept_rows(experiment: Experiment, models: Sequence[str] | None) -> dict[str, Experiment]:
    """The models to sweep, by label: those asked for, configured, or else the experiment's musenet, soft and hard.

    Raises:
        ConfigError: for a label that does not exist, or if there is no musenet to take.
    """
    own: dict[str, Experiment] = {}
    if can_vary(experiment.model, "assignment"):
        own = {f"musenet {a}": with_values(experiment, {"model.assignment": a}) for a in ("soft", "hard")}
    rows = own | {
        label: experiment.model_copy(update={"model": model}) for label, model in experiment.compare.models.items()
    }
    asked = models or experiment.sweep.models or list(own)
    if not asked:
        raise ConfigError(f"sweep: model.name is {experiment.model.name}: name the models to sweep with --models")
    return {label: rows[label] for label in chosen_labels(rows, asked, "compare.models")}


def plan_sweep(
    rows: Mapping[str, Experiment], options: SweepOptions, folder: Path, seeds: Sequence[int]
) -> list[PlannedLine]:
    """The lines of every parameter and every model that has it.

    Args:
        rows: the models' experiments, by label.
        options: the parameters with their values, and the split that is measured.
        folder: of the sweep.
        seeds: of every value's runs.

    Raises:
        ConfigError: for a parameter that no model has, a value that a model does not take, or a model without any.
    """
    training = next(iter(rows.values())).training
    try:
        check_space(options.parameters, [row.model for row in rows.values()], training, "sweep")
    except ValueError as error:
        raise ConfigError(str(error)) from error
    lines = []
    for label, row in rows.items():
        planner = _Planner(label, row, folder / folder_name(label), options.split, seeds)
        of_model = [planner.line(key, values) for key, values in options.parameters.items() if _has(row, key)]
        if not of_model:
            raise ConfigError(f"sweep: '{label}' has none of the keys {', '.join(options.parameters)}: leave it out")
        lines += of_model
    return lines


class _Planner:
    """Plans the lines of one model, so that no two different runs share a folder."""

    def __init__(self, label: str, row: Experiment, folder: Path, split: Split, seeds: Sequence[int]) -> None:
        self.label, self.row, self.folder, self.split, self.seeds = label, row, folder, split, seeds
        self._owners: dict[str, str] = {}

    def line(self, key: str, values: Sequence[Any]) -> PlannedLine:
        """The runs of every value, numbers ascending, and of the configured one."""
        part, _, name = key.partition(".")
        configured = value_at(getattr(self.row, part), name)
        planned = [(configured, self.runs(self.row, CONFIGURED))]
        for value in values:
            varied = with_values(self.row, {key: value})
            if decisive(varied) != decisive(self.row):
                planned.append((value, self.runs(varied, f"{key} {value}")))
        if not all(_is_number(value) for value, _ in planned):
            return PlannedLine(key, self.label, configured, planned)
        return PlannedLine(key, self.label, configured, sorted(planned, key=lambda one: float(one[0])))

    def runs(self, varied: Experiment, name: str) -> list[PlannedRun]:
        """One value's runs, one per seed; raises `ConfigError` if its folder is another's."""
        place = folder_name(name)
        if self._owners.setdefault(place, name) != name:
            raise ConfigError(
                f"sweep: {name} and {self._owners[place]} would share the folder {place}: sweep them separately"
            )
        return [
            PlannedRun(
                name=f"{self.label}, {name}, seed {seed}",
                experiment=varied.model_copy(update={"seed": seed}),
                path=self.folder / place / f"seed-{seed}",
                splits=(self.split,),
            )
            for seed in self.seeds
        ]


def _has(row: Experiment, key: str) -> bool:
    part, _, name = key.partition(".")
    return can_vary(getattr(row, part), name)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
