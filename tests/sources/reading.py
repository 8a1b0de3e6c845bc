"""Reading a small log through `own_files`, for the tests."""

from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.engines.engine import Engine
from musenet.recipe.recipe import Recipe
from musenet.sources.own_files import OwnFiles, OwnFilesOptions
from musenet.sources.tables import Tables

ROLES = {"user": "user", "item": "item", "time": "time", "label": "label"}
SECOND = 1_700_000_000


def recipe_of(**parts: Any) -> Recipe:
    return Recipe.model_validate({"features": {}, "split": {"parts": 5}} | parts)


def write(folder: Path, name: str, **columns: Any) -> str:
    pq.write_table(pa.table(columns), folder / name)
    return name


def rows(count: int = 10) -> dict[str, Any]:
    """A log without faults: two users, three items."""
    return {
        "user": [f"u{row % 2}" for row in range(count)],
        "item": [row % 3 for row in range(count)],
        "time": [SECOND + row for row in range(count)],
        "label": [row % 2 for row in range(count)],
    }


def write_log(folder: Path, **changed: Any) -> str:
    """Impressions as `log.parquet`; a column given as None is left out."""
    return write(
        folder, "log.parquet", **{name: values for name, values in (rows() | changed).items() if values is not None}
    )


def read(folder: Path, path: str | list[str], recipe: Recipe | None = None, **parts: Any) -> Tables:
    """The tables of a log whose impressions lie at `path`; `impressions` changes their roles."""
    impressions = {"path": path} | ROLES | parts.pop("impressions", {})
    impressions = {name: value for name, value in impressions.items() if value is not None}
    options = OwnFilesOptions.model_validate({"source": "own_files", "impressions": impressions} | parts)
    return OwnFiles(options, recipe or recipe_of(), folder).tables(Engine(ibis.duckdb.connect()))


def values(table: Any, *columns: str) -> list[Any]:
    """The rows of an expression as tuples in order, or the values of its only column."""
    found = table.select(*columns).order_by(*columns).to_pyarrow()
    lists = [found[name].to_pylist() for name in columns]
    return lists[0] if len(lists) == 1 else list(zip(*lists, strict=True))


def counts(tables: Tables) -> dict[tuple[str, str], int]:
    """How many rows each cleaning rule touched."""
    return {(rule.table, rule.reason): rule.rows for rule in tables.cleaning}
