"""Calls on a trained run."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path, PosixPath
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from musenet.adaptation.adapted import evaluate_adapted
from musenet.config.adaptation import AdaptOptions, adapt_options
from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.distributed import workers
from musenet.errors import ExportError, UserError
from musenet.evaluation.draws import RESAMPLES
from musenet.evaluation.evaluation import Evaluation
from musenet.frames import Frame, keep_frame
from musenet.portraits.names import ScenarioNames, give_names
from musenet.portraits.portraits import Portrait
from musenet.portraits.portraits import describe_scenarios as _describe_scenarios
from musenet.portraits.scenario_table import SPLITS, write_scenarios
from musenet.reporter import AnyListener, told
from musenet.runs.run import Run
from musenet.sources.log import AnyPath
from musenet.storage.addresses import copy_of
from musenet.storage.copies import fetched, result_at, send, written
from musenet.studies.reproduction import Reproduction
from musenet.studies.reproduction import reproduce as _reproduce
from musenet.tracking.tracker import record_artifact, record_evaluation


class Page(PosixPath):
    """A page that was written; it shows itself in a notebook."""

    def _repr_html_(self) -> str | None:
        if self.suffix != ".html" or not self.is_file():
            return None
        text = html.escape(self.read_text(encoding="utf-8"), quote=True)
        return f'<iframe srcdoc="{text}" title="{self.name}" style="width: 100%; height: 50em; border: 0"></iframe>'

    def _repr_markdown_(self) -> str | None:
        return self.read_text(encoding="utf-8") if self.suffix == ".md" and self.is_file() else None


@workers.joined()
def evaluate(
    run: Run | AnyPath,
    split: Split = "test",
    *,
    dataset: AnyPath | None = None,
    data: AnyPath | Frame | None = None,
    events: AnyPath | Frame | None = None,
    adapt: AdaptOptions | Mapping[str, Any] | bool = False,
    resamples: int = RESAMPLES,
    verify: bool = False,
) -> Evaluation:
    """Measure a trained run on a split it was not trained on, or on another log.

    Started by torchrun, all workers make this call and score together (docs/distributed.md); not `data` and `adapt`.

    Args:
        run: its folder, or an address in a bucket.
        split: which period.
        dataset: another prepared dataset than the run's own, which the model must be able to read; nothing is then
            written to the folder.
        data: in place of a split, all rows of this log: impressions with labels under the log's own names, a frame or
            files as `prepare` reads them, encoded by what training knows. Scored by an export in `<run>/export`, which
            is written if there is none of these weights; needs the extra `serve`.
        events: with `data`, what users did before, as the log has it.
        adapt: follow the period in order of time (docs/changing-mix.md): true for the mix of scenarios, or options. The
            result's `unadapted` is the same model without; nothing is written to the folder.
        resamples: of users.
        verify: compare every file of the dataset with its checksum, not only those whose time has changed.

    Raises:
        RunError: if the folder holds no trained run, other weights than it was trained to, or its model has no
            scenarios whose mix could be followed.
        DatasetError: if a dataset was changed after preparation, or the other one is none, or cannot be scored by this
            run.
        ConfigError: if `adapt` is no way to adapt.
        DataError: naming file, row and column, if `data` cannot be read.
        UserError: if `data` is given along with what it does not go with, or negatives were sampled.
    """
    if not (workers.alone() or (data is None and not adapt)):
        raise UserError("evaluate: --data and --adapt are for one process: start it without torchrun")
    if data is not None or events is not None:
        if data is None or dataset is not None or adapt or verify:
            raise UserError("evaluate: --events goes with --data, which takes none of --dataset, --adapt and --verify")
        return _evaluate_log(_opened(run), data, events, resamples)
    opened, other = _opened(run), None if dataset is None else Dataset(fetched(dataset))
    options = adapt_options(adapt)
    if verify:
        for one in (opened.dataset, *([other] if other else [])):
            workers.first_does(one.verify)
    if options is None:
        found = opened.evaluate(split, resamples, other)
        if other is None:
            workers.first_does(lambda: record_evaluation(opened, found))
        workers.first_does(lambda: send(opened.path))
        return found
    return evaluate_adapted(opened, split, options, other, resamples)


def _evaluate_log(run: Run, data: AnyPath | Frame, events: AnyPath | Frame | None, resamples: int) -> Evaluation:
    from musenet.api.serving import histories_of
    from musenet.serving.measured import evaluate_log
    from musenet.serving.scorer.scorer import Scorer

    scorer = Scorer(exported(run))
    with TemporaryDirectory() as folder:
        log = keep_frame(data, "impressions", Path(folder)) if isinstance(data, Frame) else data
        with histories_of(scorer, log, events, None) as histories:
            name = "the frame" if isinstance(data, Frame) else str(data)
            return evaluate_log(run, scorer, log, histories, resamples, name)


def exported(run: Run) -> Path:
    """An export of a run's weights by this version, in `<run>/export`; written if there is none."""
    from musenet.serving.export.export import version_of
    from musenet.serving.scorer.scorer import Scorer

    folder = run.path / "export"
    try:
        if Scorer(folder).version == version_of(run):
            return folder
    except ExportError:
        pass
    with told(None) as heard:
        heard.say(f"{folder}: writing what scores, once for these weights")
    export(run, folder)
    send(run.path)
    return folder


def _opened(run: Run | AnyPath) -> Run:
    return run if isinstance(run, Run) else Run.open(fetched(run))


@workers.joined()
def scenarios(run: AnyPath, out: AnyPath, *, splits: Sequence[Split] = SPLITS) -> int:
    """Write the scenario of every request to a Parquet or CSV file; the number of rows.

    Started by torchrun, all workers make this call and score together.

    Raises:
        RunError: if the folder holds no trained run, its model has no scenarios, or the file's ending is another.
    """
    opened = _opened(run)
    with result_at(out) as file:
        rows = write_scenarios(opened, file, splits)
    workers.first_does(lambda: send(opened.path))
    return rows


@workers.joined()
def describe_scenarios(run: Run | AnyPath, split: Split = "test") -> list[Portrait]:
    """What each scenario of a run is and what sets it apart; raises `RunError` as `scenarios` does."""
    return _describe_scenarios(_opened(run), split)


def name(run: Run | AnyPath, names: Mapping[int, str] = MappingProxyType({})) -> ScenarioNames:
    """Call scenarios of a run by names of one's own, which report, tables and exports made later show; all names.

    Args:
        run: its folder.
        names: by the scenario's number; an empty one takes a given name back.

    Raises:
        RunError: if its model has no scenarios.
        UserError: if there is no such scenario, or a name cannot be used.
    """
    opened = _opened(run)
    found = give_names(opened, names)
    send(opened.path)
    return found


def reproduce(run: AnyPath, out: AnyPath | None = None, *, listener: AnyListener | None = None) -> Reproduction:
    """Train a run again from what its folder says, and tell what came out otherwise.

    Weights and every file of the dataset are compared with their checksums before.

    Args:
        run: its folder.
        out: the folder of the second training; `<run>-again` beside the run if None.
        listener: told of every report of the training loop.

    Raises:
        RunError: if the folder holds no finished run, its weights are not those it was trained to, or its dataset is
            gone or another one.
        DatasetError: if a file of the dataset is not what its manifest says.
    """
    opened = _opened(run)
    again = opened.path.with_name(f"{opened.path.resolve().name}-again") if out is None else copy_of(out)
    with told(listener) as heard:
        return _reproduce(opened, again, heard.training(again.name))


def report(
    run: Run | AnyPath,
    out: AnyPath | None = None,
    *,
    comparison: AnyPath | None = None,
    note: AnyPath | None = None,
    listener: AnyListener | None = None,
) -> Page:
    """Write the page that shows a run, and its figures one by one beside it; needs the extra `report`.

    The figures go to `<page>-figures` as CSV, and as PNG if a browser of the Chromium family is installed.

    Args:
        run: a trained run, or its folder.
        out: the page, `.html` or `.md`; `report.html` in the run's folder if None.
        comparison: the JSON of a comparison to judge the run by; the one that the run belongs to if None.
        note: a file of Markdown that tells what was learned, to stand below the headline.
        listener: told whether the figures could be drawn.
    """
    from musenet.reporting.pages.report import write_report

    opened = _opened(run)
    table, text = (None if file is None else Path(file) for file in (comparison, note))
    place = opened.path / "report.html" if out is None else out
    with told(listener) as heard, result_at(place) as page:
        shown = write_report(opened, page, table, text, draw=True, listener=heard)
        record_artifact(opened, shown)
    send(opened.path)
    return Page(shown if shown.is_file() else place)


def export(run: Run | AnyPath, out: AnyPath) -> Path:
    """Write what serving a run takes into one folder, whole or not at all; needs the extra `serve`.

    Args:
        run: a trained run.
        out: the folder, or an address in a bucket; another export there is replaced.

    Raises:
        RunError: if the folder holds no trained run, or one whose model cannot be served.
        ExportError: if `out` holds something else than an export.
    """
    from musenet.reporting.pages.scenario_section import scenario_fragment
    from musenet.serving.export.export import export_run

    opened = _opened(run)
    with written(out) as folder:
        export_run(opened, folder, scenario_fragment)
        record_artifact(opened, folder)
    return folder
