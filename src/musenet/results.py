"""What was measured, as models that are written as JSON and read again; published keys stay."""

import json
import math
from functools import singledispatch
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import pyarrow as pa
from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, ValidationError
from rich.console import Console

from musenet.errors import RunError, one_line
from musenet.files import json_ready, write_json
from musenet.frames import Kind, as_kind, usual_kind

WIDTH = 110
"""Characters of a result in a notebook."""

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number, nan where it is not defined; JSON holds null for that."""


class Result(BaseModel):
    """Something measured, under the keys of docs/commands.md."""

    model_config = ConfigDict(frozen=True)
    written_by: ClassVar[str] = "the command that wrote it"
    """Which command writes its file, for whoever holds one that cannot be read."""
    _frames: Kind | None = PrivateAttr(None)

    def to_json(self) -> dict[str, Any]:
        """The content by its published keys, as plain data."""
        return self.model_dump(mode="json")

    def rows(self) -> list[dict[str, Any]]:
        """What it holds as rows of figures."""
        return [{key: value for key, value in self.to_json().items() if not isinstance(value, dict | list)}]

    def to_frame(self, kind: Kind | None = None) -> Any:
        """Its rows as a frame: of pandas, Polars, DuckDB or Arrow.

        Args:
            kind: whose; if None, that of the log's own frames, or pandas, else Polars, else Arrow, by what there is.
        """
        return as_kind(pa.Table.from_pylist(json_ready(self.rows())), kind or self._frames or usual_kind())

    def giving(self, frames: Kind | None) -> Self:
        """The same result, which gives frames of this kind unless asked for others."""
        self._frames = frames
        return self

    def __str__(self) -> str:
        """As the terminal shows it."""
        return self._shown().export_text().rstrip()

    def _repr_html_(self) -> str:
        return self._shown().export_html(inline_styles=True, code_format="<pre>{code}</pre>")

    def _shown(self) -> Console:
        console = Console(file=StringIO(), record=True, width=WIDTH, markup=False, highlight=False, force_jupyter=False)
        show(self, console)
        return console

    def write(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote; keys that are not known are passed over.

        Raises:
            RunError: if the file is missing, damaged, or holds something else.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error})") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            what = f"{where}: {first['msg'].lower()}" if where else first["msg"].lower()
            raise RunError(f"{path} is no {cls.__name__.lower()} of this version ({what}): {cls._remedy()}") from error
        except ValueError as error:
            raise RunError(f"{path} is no {cls.__name__.lower()} ({one_line(error)}): {cls._remedy()}") from error

    @classmethod
    def _remedy(cls) -> str:
        return f"make it again with {cls.written_by}"


@singledispatch
def show(result: Result, console: Console) -> None:
    """Print a result as people read it; each kind of result says how where its tables are made."""
    console.print_json(data=json_ready(result.to_json()))
