"""What a dataset keeps in order to be extended: facts in its manifest, and files in its folder `kept/`.

    uncoded/<relation>/<field>.parquet   values without a code of their own, with their rows
    counted.parquet                      the events that repeats count: row of the user, time, repeat key
    counted/{time,again,offset}.npy      the same in order of user and time: when, whether again, where users begin
    unknown_items.parquet                ids that events name and of which nothing else tells, if events look items up

Nothing but an extension reads them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from musenet.dataset.column_files import NewColumn, mapped, write_column
from musenet.dataset.dataset import Dataset
from musenet.dataset.roles import ITEM, TIME
from musenet.engines.engine import Engine
from musenet.errors import DatasetError
from musenet.preparation.encoding.encode import Folders, InOrder
from musenet.preparation.relations.event_stream import AGAIN, IN_REPEATS, whole_runs
from musenet.preparation.relations.relations import Relations
from musenet.preparation.relations.requests import USER_ROW
from musenet.preparation.relations.split import Cuts
from musenet.recipe.recipe import Recipe


class Facts(BaseModel):
    """What is not told by the columns of what is kept."""

    recipe: dict[str, Any]
    train_from: int | None
    valid_from: int
    test_until: int | None
    files: dict[str, list[str]]
    """What each file of the log is known by, of each table."""
    described: str
    """How the log is described."""
    true_scenarios: list[str]
    """Names, by code."""


def facts_of(
    recipe: Recipe, cuts: Cuts, files: dict[str, list[str]], described: str, true_scenarios: list[str]
) -> Facts:
    """Of a dataset that has just been prepared."""
    return Facts(
        recipe=recipe.model_dump(mode="json"),
        train_from=cuts.train_from,
        valid_from=cuts.valid_from,
        test_until=cuts.test_until,
        files=files,
        described=described,
        true_scenarios=true_scenarios,
    )


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The widest type of its kind."""
    return pa.int64() if pa.types.is_integer(kind) else pa.float64() if pa.types.is_floating(kind) else kind


def read_facts(dataset: Dataset) -> Facts:
    """What a dataset tells for its extension.

    Raises:
        DatasetError: if it cannot be extended.
    """
    if dataset.manifest.kept is None:
        raise DatasetError(
            f"{dataset.folder} keeps nothing to be extended by, as datasets of own files without sampled negatives "
            "do: prepare such a log again with --replace"
        )
    return Facts.model_validate(dataset.manifest.kept)


class Kept:
    """The folder of what a dataset keeps.

    Args:
        dataset: the dataset's folder.
    """

    def __init__(self, dataset: Path) -> None:
        self.folder = dataset / "kept"
        self.uncoded = self.folder / "uncoded"
        self.counted = self.folder / "counted"
        self.keys = self.folder / "counted.parquet"
        self._unknown_items = self.folder / "unknown_items.parquet"

    def unknown_items(self) -> pa.Array | None:
        """Ids of items that events are of, but of which no attribute was known; None if that was not kept."""
        file = self._unknown_items
        return pq.read_table(file)[ITEM].combine_chunks() if file.is_file() else None

    def find_unknown_items(self, engine: Engine, relations: Relations) -> None:
        """Keep those of these relations, if events or repeat keys look up what is known of items."""
        if ITEM in relations.events.columns and set(relations.columns.looked_up) - {ITEM}:
            events = relations.events.select(ITEM).distinct()
            unknown = events.filter(events[ITEM].notnull()).anti_join(relations.items, ITEM)
            self._write_unknown_items(engine.read(unknown)[ITEM])

    def join_unknown_items(self, before: "Kept", added: "Kept") -> None:
        """Keep those of both, if both kept theirs."""
        first, second = before.unknown_items(), added.unknown_items()
        if first is not None and second is not None:
            self._write_unknown_items(pa.concat_arrays([first, second.cast(first.type)]))

    def _write_unknown_items(self, ids: pa.ChunkedArray | pa.Array) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({ITEM: ids.cast(plain_type(ids.type)).unique().sort()}), self._unknown_items)

    def write_counted(self, engine: Engine, relations: Relations, passing: Folders) -> None:
        """Keep the events that repeats count, of relations whose events have been encoded."""
        offset = np.asarray(mapped(passing.passing, "_repeat_offset"))
        write_column(self.counted, "offset", offset)
        counting = relations.events.filter(relations.events[IN_REPEATS])
        key = list(dict.fromkeys([USER_ROW, TIME, *relations.columns.key]))
        kinds = counting.select(key).schema()
        # Engines differ in how wide a number is, in what they know never to be NULL, and in the order of ties.
        schema = pa.schema([(name, plain_type(kind.to_pyarrow())) for name, kind in kinds.items()])
        with (
            NewColumn(self.counted, "time", (int(offset[-1]),), np.int64) as time,
            NewColumn(self.counted, "again", (int(offset[-1]),), np.int8) as again,
            pq.ParquetWriter(self.keys, schema) as writer,
        ):
            order = [USER_ROW, TIME]
            for chunk in whole_runs(InOrder(counting, order).chunks(engine, [*key, AGAIN])):
                rows = pl.DataFrame(chunk).sort(key)
                time.append(rows[TIME].to_numpy())
                again.append(rows[AGAIN].to_numpy())
                writer.write_table(rows.select(key).to_arrow().cast(schema))
