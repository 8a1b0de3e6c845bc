"""`reproduce`: train a run again from what its folder says, and tell what came out otherwise."""

from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console
from rich.table import Table

from musenet.dataset.manifest import Split
from musenet.results import Number, Result, show
from musenet.runs.run import Run
from musenet.training.loop import Log
from musenet.training.train_run import SPLITS_KEPT, train_run


class Reproduction(Result):
    """A run, and the same trained again."""

    written_by: ClassVar[str] = "`musenet reproduce`"

    run: str
    again: str
    """The folder of the second training."""
    identical: bool
    """Whether the weights are the same to the bit."""
    versions: dict[str, list[Any]]
    """What ran then and now and with how many threads, where the two differ."""
    metrics: dict[Split, dict[str, list[Number]]]
    """Every metric of a split, then and now."""

    @property
    def same_metrics(self) -> bool:
        """Whether every metric is the same to the last digit."""
        return all(str(then) == str(now) for found in self.metrics.values() for then, now in found.values())

    def show(self, console: Console) -> None:
        """Print the metrics beside each other, and what may explain a difference."""
        for split, found in self.metrics.items():
            table = Table(split, "then", "again", "difference", title_justify="left")
            for name, (then, now) in found.items():
                table.add_row(name, f"{then:.6f}", f"{now:.6f}", f"{now - then:+.1e}" if now != then else "–")
            console.print(table)
        for name, (then, now) in self.versions.items():
            console.print(f"{name}: {then} then, {now} now", highlight=False)
        weights = "the same weights to the bit" if self.identical else "other weights"
        metrics = "the same metrics" if self.same_metrics else "other metrics"
        console.print(f"{self.run} trained again gives {weights} and {metrics}", highlight=False)


show.register(Reproduction, Reproduction.show)


def reproduce(run: Run, again: Path, log: Log | None = None) -> Reproduction:
    """Train a run's experiment again on its dataset, and compare weights and metrics.

    Args:
        run: a finished run.
        again: the folder of the second training; one that was begun there before is gone on with.
        log: told of every report of the training loop.

    Raises:
        RunError: if the run is not finished, its weights are others than training.json speaks of, or its dataset is
            gone or another one.
        DatasetError: if a file of the dataset is not what its manifest says.
    """
    run.folder.check_trained()
    then = run.training.weights or run.model_checksum
    run.dataset.verify()
    recorded = run.folder.versions
    train_run(run.experiment, run.dataset, again, resume=again.exists(), start=run.folder.start, log=log)
    second = Run.open(again)
    splits = [split for split in SPLITS_KEPT if run.dataset.manifest.splits[split].impressions]
    return Reproduction(
        run=str(run.path),
        again=str(again),
        identical=then == second.model_checksum,
        versions=_different(recorded, second.folder.versions),
        metrics={split: _beside(run, second, split) for split in splits},
    )


def _different(then: dict[str, Any], now: dict[str, Any]) -> dict[str, list[Any]]:
    return {
        name: [then.get(name), now.get(name)]
        for name in dict.fromkeys([*then, *now])
        if then.get(name) != now.get(name)
    }


def _beside(first: Run, second: Run, split: Split) -> dict[str, list[float]]:
    then, now = first.evaluation(split).metrics, second.evaluation(split).metrics
    return {name: [then[name].value, now[name].value] for name in then}
