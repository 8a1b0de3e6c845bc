"""Which runs there are to be: rows × seeds, and the folders they go to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from musenet.config.experiment import Experiment
from musenet.dataset.manifest import Split
from musenet.errors import ConfigError, UserError
from musenet.files import LONGEST_NAME
from musenet.training.train_run import SPLITS_KEPT


@dataclass(frozen=True)
class PlannedRun:
    """A run to be: what to train, where, and which splits' predictions to keep."""

    name: str
    experiment: Experiment
    path: Path
    splits: tuple[Split, ...] = SPLITS_KEPT


def chosen_labels(known: Iterable[str], asked: Sequence[str] | None, where: str) -> list[str]:
    """The labels asked for, in that order; all if None.

    Args:
        known: the labels there are.
        asked: some of them.
        where: they stand, for messages.

    Raises:
        ConfigError: for a label that does not exist or would share another's folder, or if there are none.
    """
    labels = list(known)
    unknown = [label for label in asked or () if label not in labels]
    if unknown:
        raise ConfigError(f"{where} has no '{unknown[0]}'; there are {', '.join(labels) or 'none'}")
    if not labels:
        raise ConfigError(f"{where} is empty: name the models to compare")
    folders = [folder_name(label) for label in labels]
    for label, folder in zip(labels, folders, strict=True):
        if folders.count(folder) > 1:
            raise ConfigError(f"{where}: '{label}' and another label would share the folder {folder}: rename one")
    return list(dict.fromkeys(asked or labels))


def row_of(experiment: Experiment, label: str) -> Experiment:
    """The experiment of one row of its comparison, as configured."""
    return experiment.model_copy(update={"model": experiment.compare.models[label]})


def seeds_to_train(experiment: Experiment, count: int | None) -> range:
    """So many seeds from the experiment's on; as many as it compares with if None.

    Raises:
        UserError: if there are to be none.
    """
    if count is not None and count < 1:
        raise UserError(f"seeds: at least one is needed, not {count}")
    return range(experiment.seed, experiment.seed + (count or experiment.compare.seeds))


def plan_runs(rows: Mapping[str, Experiment], folder: Path, seeds: Iterable[int]) -> dict[str, list[PlannedRun]]:
    """The runs of a comparison by label: `<folder>/<label>/seed-<s>`."""
    every_seed = list(seeds)
    return {
        label: [
            PlannedRun(
                name=f"{label}, seed {seed}",
                experiment=row.model_copy(update={"seed": seed}),
                path=folder / folder_name(label) / f"seed-{seed}",
            )
            for seed in every_seed
        ]
        for label, row in rows.items()
    }


def folder_name(label: str) -> str:
    """A label as the name of a folder beside the others: letters, digits, points and dashes, none of them too many.

    >>> folder_name("din (as published)")
    'din-as-published'
    """
    safe = "-".join("".join(c if c.isalnum() or c in ".-_" else " " for c in label).split())
    return safe.lstrip(".-")[:LONGEST_NAME] or "model"
