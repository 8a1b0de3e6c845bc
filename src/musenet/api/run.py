"""A trained run, as people hold it: what can be asked of it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from musenet.api import results, serving
from musenet.config.adaptation import AdaptOptions
from musenet.config.experiment import Experiment
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.errors import UserError
from musenet.evaluation.draws import RESAMPLES
from musenet.evaluation.evaluation import Evaluation
from musenet.frames import Frame, Kind, as_kind, usual_kind
from musenet.portraits.names import ScenarioNames
from musenet.portraits.portraits import Portrait
from musenet.portraits.scenario_table import SPLITS, scenario_table
from musenet.reporter import AnyListener
from musenet.runs.run import Run as OpenedRun
from musenet.runs.training_result import TrainingResult
from musenet.serving.scorer.scorer import Scorer
from musenet.serving.store.history import BulkHistoryStore
from musenet.sources.log import AnyPath
from musenet.storage.addresses import address
from musenet.storage.copies import fetched


class Run:
    """A trained run in its folder, whose path it stands for in all calls that take one.

    Training that was interrupted leaves a run too: it answers with the best weights so far.

    Args:
        path: the folder that `train` wrote, or an address in a bucket.
        frames: whose frames it gives; pandas, else Polars, else Arrow, by what is installed, if None.

    Raises:
        RunError: if the folder holds no run, or one of another format.
    """

    def __init__(self, path: AnyPath, frames: Kind | None = None) -> None:
        self._opened = OpenedRun.open(fetched(path))
        self.frames: Kind = frames or usual_kind()

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"Run({address(self.path)!r})"

    @property
    def path(self) -> Path:
        """The folder; of a run in a bucket that of its local copy."""
        return self._opened.path

    @property
    def experiment(self) -> Experiment:
        """The experiment that was trained, all its values resolved."""
        return self._opened.experiment

    @property
    def dataset(self) -> Dataset:
        """What it was trained on; raises `RunError` if that is gone, or another one now."""
        return self._opened.dataset

    @property
    def training(self) -> TrainingResult:
        """How training ended; raises `RunError` if it did not."""
        return self._opened.training.model_copy(update={"run": address(self.path)})

    def evaluate(
        self,
        split: Split = "test",
        *,
        dataset: AnyPath | None = None,
        data: AnyPath | Frame | None = None,
        events: AnyPath | Frame | None = None,
        adapt: AdaptOptions | Mapping[str, Any] | bool = False,
        resamples: int = RESAMPLES,
        verify: bool = False,
    ) -> Evaluation:
        """How good it is, see `musenet.evaluate`; shows itself as a table, `.to_frame()` gives a row per metric."""
        on: dict[str, Any] = {"dataset": dataset, "data": data, "events": events}
        found = results.evaluate(self._opened, split, **on, adapt=adapt, resamples=resamples, verify=verify)
        return found.giving(self.frames)

    def scenarios(self, splits: Sequence[Split] = SPLITS) -> Any:
        """The scenario of every request as a frame, a row each: the columns that `musenet.scenarios` writes.

        Raises:
            RunError: if its model has no scenarios.
        """
        return as_kind(scenario_table(self._opened, splits), self.frames)

    def describe_scenarios(self, split: Split = "test") -> list[Portrait]:
        """What each scenario is and what sets it apart; raises `RunError` as `scenarios` does."""
        return results.describe_scenarios(self._opened, split)

    def name(self, names: Mapping[int, str] = MappingProxyType({})) -> ScenarioNames:
        """Call scenarios by names of one's own, see `musenet.name`; all names."""
        return results.name(self._opened, names)

    def report(
        self,
        out: AnyPath | None = None,
        *,
        comparison: AnyPath | None = None,
        note: AnyPath | None = None,
        listener: AnyListener | None = None,
    ) -> results.Page:
        """The page that shows the run, see `musenet.report`: in a notebook it shows itself, elsewhere it is a path."""
        return results.report(self._opened, out, comparison=comparison, note=note, listener=listener)

    def predict(
        self,
        requests: Frame | AnyPath,
        out: AnyPath | None = None,
        *,
        events: Frame | AnyPath | None = None,
        store: BulkHistoryStore | str | None = None,
        now: str | float | None = None,
        explain: bool = False,
    ) -> Any:
        """Scores of rows, a candidate each under the log's own names; needs the extra `serve`.

        Scored by an export in `<run>/export`, which is written if there is none of these weights.

        Args:
            requests: a frame; or a file or a folder of files.
            out: of files, where to write.
            events: as of `musenet.predict`, and so is all else.
            store: see there.
            now: see there.
            explain: see there.

        Returns:
            Of a frame, one of the same kind: its rows in their order with all their columns, and `score`. Of files, the
            number of rows.

        Raises:
            DataError: naming row and column, if a column or a value cannot be used.
            RunError: if the run cannot be served.
            UserError: if files have no `out`, or a frame has one.
        """
        if isinstance(requests, Frame) == (out is not None):
            raise UserError("predict: files are written to `out`, a frame is given back: give `out` with files alone")
        folder = results.exported(self._opened)
        if out is not None:
            assert not isinstance(requests, Frame)
            return serving.predict(folder, requests, out, events=events, store=store, now=now, explain=explain)
        assert isinstance(requests, Frame)
        scorer = Scorer(folder)
        return serving.predict_frame(scorer, requests, events=events, store=store, now=now, explain=explain)

    def export(self, out: AnyPath) -> Path:
        """Write what serving takes into a folder, see `musenet.export`."""
        return results.export(self._opened, out)
