"""An experiment's model, trained."""

from collections.abc import Sequence
from pathlib import Path

from musenet.api.experiments import AnyExperiment, load, prepared_dataset, run_folder
from musenet.api.run import Run
from musenet.dataset.dataset import Dataset
from musenet.distributed import workers
from musenet.errors import ConfigError
from musenet.progress import Listener
from musenet.reporter import AnyListener, told
from musenet.runs.folder import RunFolder
from musenet.runs.run import Run as OpenedRun
from musenet.sources.log import AnyPath
from musenet.storage.addresses import address, copy_of
from musenet.storage.copies import fetched, send
from musenet.tracking.tracker import tracked
from musenet.training.train_run import train_run
from musenet.training.warm_start import check_replay


def train(
    experiment: AnyExperiment,
    out: AnyPath | None = None,
    *,
    resume: bool = False,
    restart: bool = False,
    start_from: Run | AnyPath | None = None,
    dataset: AnyPath | None = None,
    overrides: Sequence[str] = (),
    listener: AnyListener | None = None,
) -> Run:
    """Train the experiment's model into a run folder, its dataset prepared first if need be.

    Started by torchrun, all workers make this call and train one model together (docs/distributed.md); the first one
    prepares the dataset, writes the run folder and tells the listener.

    Args:
        experiment: what to train.
        out: the run folder, or an address in a bucket; `runs/<name>` if None.
        resume: go on from the folder's checkpoint.
        restart: begin anew, whatever run the folder holds.
        start_from: a trained run of the same model and recipe, on this dataset or another, whose weights training
            begins with (docs/next-week.md). What became of its scenarios stands in the folder's `start.json`.
        dataset: the dataset's folder, or an address in a bucket; `datasets/<name>` if None.
        overrides: `key.path=value`, as `--set`.
        listener: told of the steps of preparation and every report of the training loop.

    Raises:
        UserError: if the configuration, the log or the folder cannot be used, or the loss diverged.
        KeyboardInterrupt: after Ctrl-C, once the checkpoint to resume from is written. `Run` opens the folder all the
            same, with the best weights so far.
    """
    if resume and restart:
        raise ConfigError("train: --resume continues and --restart starts again: give one of them")
    with workers.joined():
        resolved = workers.first_does(lambda: load(experiment, overrides))
        start = None if start_from is None else RunFolder.open(fetched(start_from))
        check_replay(resolved, start)  # before a dataset is prepared, which may take long
        with told(listener) as told_of, tracked(told_of, resolved) as heard:
            prepared = Dataset(fetched(workers.first_does(lambda: prepared_dataset(resolved, dataset, heard).folder)))
            log, folder = heard.training(resolved.name), copy_of(run_folder(resolved, None) if out is None else out)
            try:
                train_run(resolved, prepared, folder, resume=resume, replace=restart, start=start, log=log)
            except KeyboardInterrupt:
                if listener is None and RunFolder(folder).half_finished:
                    place = address(folder)
                    heard.say(f"interrupted: Run('{place}') has the best weights so far; resume=True continues")
                raise
            if start is not None:
                _tell_of_start(folder, heard)
                workers.first_does(lambda: send(folder))
        return Run(folder, resolved._frames)


def _tell_of_start(folder: Path, listener: Listener) -> None:
    """Write what a training began with and what became of it, and say so."""
    from musenet.portraits.moved import warm_start_of
    from musenet.portraits.names import keep_names
    from musenet.reporting.words.moved import warm_start_sentences

    opened = OpenedRun.open(folder)
    found = warm_start_of(opened)
    if found is None:
        return
    keep_names(opened, [one.after.name for one in found.scenarios])
    if workers.is_first():
        found.write(opened.folder.start_file)
        for sentence in warm_start_sentences(found):
            listener.say(sentence)
