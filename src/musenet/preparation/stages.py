"""How far a preparation is, each stage weighed by what it costs, and how much disk it needs."""

import shutil
from collections.abc import Callable
from pathlib import Path

from musenet.errors import UserError
from musenet.recipe.features import VectorOptions
from musenet.recipe.recipe import Recipe
from musenet.sources.tables import LogSize

COSTS: dict[str, tuple[float, float]] = {
    "reading the log": (0.15, 0.4),
    "grouping impressions into requests": (0.0, 1.2),
    "numbering users, items and requests": (0.1, 0.5),
    "sampling negatives": (0.0, 0.5),
    "collecting events": (0.6, 0.0),
    "counting what came before each request": (0.1, 0.6),
    "fitting vocabularies on the training period": (0.15, 0.5),
    "encoding requests": (0.0, 0.3),
    "encoding candidates": (0.0, 0.5),
    "encoding users and items": (0.0, 0.2),
    "encoding events": (0.1, 0.0),
    "looking up what came before each request": (0.0, 0.3),
    "writing scenarios and keys": (0.0, 0.2),
    "joining what is added to the past": (0.0, 0.0),
    "checking the dataset": (0.05, 0.5),
    "putting the dataset into its place": (0.0, 0.0),
}
"""Microseconds of a core per event and per impression; only their proportions matter."""
EVENT_BYTES, IMPRESSION_BYTES, COLUMN_BYTES, NUMBER_BYTES = 90, 120, 30, 24
"""Disk per row, for each column in use beyond that, and for each number of vectors: the dataset, tables on the way, and
what sorting spills."""
GIGABYTE = 1e9


class Stages:
    """Tells of each stage as it begins, and how much of the work lies behind it.

    Args:
        size: of the log.
        told: is told each stage's name.
        steps: is told how much is done, of how much.
    """

    def __init__(self, size: LogSize, told: Callable[[str], None], steps: Callable[[int, int], None]) -> None:
        self._told = told
        self._steps = steps
        self._cost = {
            name: 1 + round(size.events * event + size.impressions * impression)
            for name, (event, impression) in COSTS.items()
        }
        self._total = sum(self._cost.values())

    def __call__(self, name: str) -> None:
        """A stage begins."""
        self._told(name)
        names = list(self._cost)
        self._steps(sum(self._cost[each] for each in names[: names.index(name)]), self._total)

    def finish(self) -> None:
        """The last one has ended."""
        self._steps(self._total, self._total)


def check_space(folder: Path, size: LogSize, recipe: Recipe, extends: Path | None = None) -> str:
    """A sentence that says how much disk is needed.

    Args:
        folder: lies on the disk; what an interrupted preparation left there counts as free.
        size: of the log.
        recipe: how many columns are in use.
        extends: a dataset whose columns are written again, with the log's.

    Raises:
        UserError: if the disk has less.
    """
    needed = needed_space(size, recipe) + (0 if extends is None else _size(extends))
    free = shutil.disk_usage(folder).free + _size(folder)
    if free < needed:
        raise UserError(
            f"preparing this log needs about {_gigabytes(needed)} of disk, but the disk that holds {folder.parent} has "
            f"{_gigabytes(free)} free: free some space there, or name another folder with --out"
        )
    return f"about {_gigabytes(needed)} of disk are needed on the way, {_gigabytes(free)} are free"


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def needed_space(size: LogSize, recipe: Recipe) -> int:
    """Bytes of disk at most: the dataset, the tables on the way, and what sorting spills."""
    of_event = {*recipe.history.columns, *(recipe.repeat.key if recipe.repeat else ())}
    of_impression = [feature for feature in recipe.features.resolved() if feature.side in ("context", "candidate")]
    shown = size.impressions * (1 if recipe.negatives == "none" else 1 + recipe.negatives.per_request)
    numbers = sum(one.options.vector for one in of_impression if isinstance(one.options, VectorOptions))
    return size.events * (EVENT_BYTES + COLUMN_BYTES * len(of_event)) + shown * (
        IMPRESSION_BYTES + COLUMN_BYTES * len(of_impression) + NUMBER_BYTES * numbers
    )


def _gigabytes(size: float) -> str:
    return f"{size / GIGABYTE:.1f} GB"
