"""The scenarios as a table, a row per request, to join with anything by the log's own ids."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from musenet.dataset.dataset import Dataset
from musenet.dataset.manifest import Split
from musenet.dataset.roles import REQUEST, TIME, USER
from musenet.distributed import workers
from musenet.errors import RunError
from musenet.evaluation.predictions import Predictions
from musenet.files import replacing
from musenet.portraits.names import scenario_names
from musenet.runs.run import Run
from musenet.sources.own_files import OwnFilesOptions

SPLITS: tuple[Split, ...] = ("train", "valid", "test")


def write_scenarios(run: Run, out: Path, splits: Sequence[Split] = SPLITS) -> int:
    """Write the scenario of every request as Parquet or CSV, by the file's ending; the number of rows.

    Columns: the log's own user and request id; `time` (UTC); `split`; `scenario`, the most probable; its
    `scenario_name` and `confidence`;
    `probability_<k>`; `repeat_probability_<k>` where the model has one.

    Raises:
        RunError: if the run's model has no scenarios, or the file's ending is neither.
    """
    if out.suffix not in (".parquet", ".csv"):
        raise RunError(f"--out {out}: give a file that ends in .parquet or .csv")
    table = scenario_table(run, splits)

    def write() -> None:
        with replacing(out) as temporary:
            if out.suffix == ".csv":
                pyarrow.csv.write_csv(table, temporary)
            else:
                pq.write_table(table, temporary)

    workers.first_does(write)
    return int(table.num_rows)


def scenario_table(run: Run, splits: Sequence[Split] = SPLITS) -> pa.Table:
    """The table that `write_scenarios` writes, in order of the dataset's requests."""
    keys = request_keys(run)
    asked = [split for split in splits if _requests(run.dataset, split)]
    parts = [_of_split(_predictions(run, split), split, keys, scenario_names(run)) for split in asked]
    if not parts:
        raise RunError(f"{run.dataset.folder} holds no requests of {', '.join(splits)}")
    return pa.concat_tables(parts)


def request_keys(run: Run) -> pa.Table:
    """User and request id of every request under the log's own names and types, and its `time` (UTC), row by row."""
    table = run.dataset.keys("requests")
    data = run.experiment.data
    request = data.impressions.request if isinstance(data, OwnFilesOptions) else None
    names = {USER: run.dataset.manifest.user_column, REQUEST: request or "request", TIME: "time"}
    time = table[TIME].cast(pa.timestamp("us", "UTC"))
    table = table.set_column(table.column_names.index(TIME), TIME, time)
    return table.rename_columns([names.get(name, name) for name in table.column_names])


def with_scenarios(predictions: Predictions, run: Run) -> Predictions:
    """The same predictions; raises `RunError` if the model has no scenarios to speak of."""
    if predictions.assignment is None:
        raise RunError(f"the run {run.path} is of {run.experiment.model.name}, a model without scenarios")
    return predictions


def _predictions(run: Run, split: Split) -> Predictions:
    if split != "train":
        return with_scenarios(run.predictions(split), run)
    # Those of the training period are large and of no other use: they are not kept.
    return with_scenarios(run.predictions_on(run.dataset, split), run)


def _of_split(predictions: Predictions, split: Split, keys: pa.Table, names: Sequence[str]) -> pa.Table:
    assignment, repeat_probability = predictions.assignment, predictions.repeat_probability
    assert assignment is not None
    first, count = int(predictions.requests[0]), len(predictions.requests)
    likeliest = assignment.argmax(axis=1)
    table = keys.slice(first, count)
    added: dict[str, pa.Array] = {
        "split": pa.array([split] * count),
        "scenario": pa.array(likeliest.astype(np.int32)),
        "scenario_name": pa.array(names).take(pa.array(likeliest)),
        "confidence": pa.array(assignment.max(axis=1)),
    }
    added |= {f"probability_{k}": pa.array(column) for k, column in enumerate(assignment.T)}
    if repeat_probability is not None:
        added |= {f"repeat_probability_{k}": pa.array(column) for k, column in enumerate(repeat_probability.T)}
    for name, column in added.items():
        # A log may have a column of such a name itself; its ids are then what keeps it.
        table = table.append_column(name if name not in keys.column_names else f"musenet_{name}", column)
    return table


def _requests(dataset: Dataset, split: Split) -> int:
    period = dataset.manifest.splits[split]
    return period.end - period.begin
