"""The demo: one call from nothing, or from a configuration, to a table and a report."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from musenet.api.experiments import AnyExperiment, load, run_folder
from musenet.api.logs import options_of
from musenet.api.results import report
from musenet.api.studies import compare
from musenet.errors import EXTRAS, ConfigError, missing_extra
from musenet.portraits.portraits import describe_scenarios
from musenet.progress import Listener
from musenet.reporter import AnyListener, told
from musenet.runs.run import Run
from musenet.sources.log import AnyPath
from musenet.storage.addresses import here
from musenet.studies.demo import Demo, soft_row


def demo(
    config: AnyExperiment | None = None,
    out: AnyPath | None = None,
    *,
    impressions: int | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> Demo:
    """Compare the configuration's models, describe the scenarios that were learned, and write the report.

    Without a configuration, the bundled one is run: `out` then also gets the configuration (`demo.yaml`), the log that
    is simulated for it (`log`), and the dataset (`dataset`). What an earlier call finished is reused.

    Args:
        config: the experiment; the bundled one if None.
        out: where all goes; `runs/<name>` if None.
        impressions: how many are simulated; 600,000 if None. Not for a configuration.
        overrides: as of `compare`.
        listener: as of `compare`.

    Raises:
        UserError: as `compare`; if no model learns soft scenarios; if `out` holds something else than this demo; or,
            before anything is trained, if the extra `report` is not installed.
    """
    missing = next((package for package in EXTRAS["report"] if find_spec(package) is None), None)
    if missing is not None:
        raise missing_extra(f"the demo's report needs the package {missing}", "report")
    if config is not None and impressions is not None:
        raise ConfigError("demo: --impressions is for the bundled log: leave it out, or the configuration")
    jobs = min(4, os.cpu_count() or 1)
    with told(listener) as heard:
        bundled = _bundled_demo(out, impressions, overrides, heard) if config is None else None
        experiment = load(bundled or config or {}, overrides)
        folder, label = run_folder(experiment, out if bundled is None else bundled.parent), soft_row(experiment)
        dataset = None if bundled is None else folder / "dataset"
        comparison = compare(experiment, folder, jobs=jobs, dataset=dataset, listener=heard)
        heard.say(f"{folder / 'comparison.md'} holds the table; the report follows in a moment")
        run = Run.open(Path(next(row.runs[0] for row in comparison.models if row.name == label)))
        page = report(run, folder / "report.html", comparison=folder / "comparison.json", listener=heard)
    return Demo(comparison=comparison, scenarios=describe_scenarios(run), report=page, config=bundled)


def _bundled_demo(out: AnyPath | None, impressions: int | None, overrides: Sequence[str], listener: Listener) -> Path:
    """The bundled configuration, written into its folder beside the log."""
    from musenet.simulators.hotels.demo import CONFIG, IMPRESSIONS, NAME, write_demo
    from musenet.simulators.hotels.hotels import HotelOptions

    options = options_of("demo", HotelOptions, {"impressions": IMPRESSIONS if impressions is None else impressions})
    soft_row(load(CONFIG, overrides))  # a mistake in what was set is told before anything is written
    return write_demo(Path("runs") / NAME if out is None else here(out), options, listener.steps("simulating"))
