"""The tables of a log wherever they are, by what they hold."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from musenet.dataset.roles import LogTable
from musenet.errors import UserError
from musenet.frames import Frame, Kind, keep_frame, kind_of

AnyPath = str | os.PathLike[str]
Rows = Frame | AnyPath | Sequence[AnyPath]
"""A frame, a file, a pattern of files, or several of these."""


FOLDER = "logs"
"""Where frames are kept, unless told."""


class Log:
    """A log's tables, each a frame (pandas, Polars, Arrow, DuckDB relation), a file, a pattern or a list of files.

    A frame is written to a Parquet file at once, called by its content: equal frames are the same log, whichever
    library holds them, and runs find theirs in later sessions.

    Args:
        impressions: what users were shown (or took): user, item, time, and whether it was taken.
        events: what users did earlier: user, time, maybe item and kind.
        users: attributes of users, a row each.
        items: attributes of items, a row each.
        folder: for the files of frames.

    Raises:
        DataError: if a frame has no rows, or cannot be read as columns.
        UserError: if something is neither a frame nor a path.
    """

    def __init__(
        self,
        impressions: Rows,
        events: Rows | None = None,
        users: Rows | None = None,
        items: Rows | None = None,
        *,
        folder: AnyPath = FOLDER,
    ) -> None:
        parts: dict[LogTable, Rows | None]
        parts = {"impressions": impressions, "events": events, "users": users, "items": items}
        given = {name: rows for name, rows in parts.items() if rows is not None}
        self.kind: Kind | None = next((kind_of(rows) for rows in given.values() if isinstance(rows, Frame)), None)
        """Whose the first of its frames is; None if there are files alone."""
        self.paths = {name: paths_of(rows, name, Path(folder)) for name, rows in given.items()}
        """As a configuration would name them."""

    def __repr__(self) -> str:
        return f"Log({', '.join(f'{name}={paths!r}' for name, paths in self.paths.items())})"


def paths_of(rows: Rows, name: str, folder: Path) -> str | list[str]:
    """How a configuration names these rows; a frame's become a file in `folder`, see `keep_frame`.

    Raises:
        UserError: if they are neither a frame nor paths.
    """
    if isinstance(rows, Frame):
        return str(keep_frame(rows, name, folder))
    several = [rows] if isinstance(rows, str | os.PathLike) else list(rows) if isinstance(rows, list | tuple) else []
    if not several or not all(isinstance(one, str | os.PathLike) for one in several):
        collect = ": call collect() on it" if hasattr(rows, "collect") else ""
        raise UserError(
            f"{name} is a {type(rows).__name__}{collect}: give a DataFrame (pandas, Polars), an Arrow table, a DuckDB "
            "relation, or paths"
        )
    paths = [os.fspath(one) for one in several]
    return paths if isinstance(rows, list | tuple) else paths[0]


def with_frames_kept(content: Mapping[str, Any]) -> dict[str, Any]:
    """Keys and values of a configuration, a frame that stands for a `path` of its log kept as a file, see `Log`."""
    data = content.get("data")
    if not isinstance(data, Mapping):
        return deepcopy(dict(content))
    parts = {name: dict(part) if isinstance(part, Mapping) else part for name, part in data.items()}
    for name, part in parts.items():
        if isinstance(part, dict) and isinstance(part.get("path"), Frame):
            part["path"] = paths_of(part["path"], name, Path(FOLDER))
    return deepcopy({**content, "data": parts})
