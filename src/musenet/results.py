"""What was measured, as models that are written as JSON and read again; published keys stay."""

import json
import math
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from musenet.errors import RunError, one_line
from musenet.files import write_json

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number, nan where it is not defined; JSON holds null for that."""


class Result(BaseModel):
    """Something measured, under the keys of docs/commands.md."""

    model_config = ConfigDict(frozen=True)
    written_by: ClassVar[str] = "the command that wrote it"
    """Which command writes its file, for whoever holds one that cannot be read."""

    def to_json(self) -> dict[str, Any]:
        """The content by its published keys, as plain data."""
        return self.model_dump(mode="json")

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
