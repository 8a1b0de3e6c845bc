"""The files of a log and the roles of their columns, as a configuration names them."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from musenet.options import Options
from musenet.recipe.history import Kind
from musenet.sources.options import SourceOptions


class TimeColumn(Options):
    """A time column whose form is told rather than seen from its values."""

    column: str
    unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] | None = Field(
        None, description="since 1970, of numbers"
    )
    format: str | None = Field(
        None,
        pattern=r"^([^%]|%[mdHMS])*%[Yy]([^%]|%[mdHMS])*$",
        description="of dates: %Y or %y, %m, %d, %H, %M, %S and what stands between them, such as `%d/%m/%Y`",
    )


Paths = str | list[str]
_PATH = Field(description="a file, a list of files, or a pattern such as `log/*.parquet`")


class ImpressionsFile(Options):
    """Items shown to users."""

    path: Paths = _PATH
    user: str
    item: str
    time: str | TimeColumn
    label: str | None = Field(None, description="0 or 1; left out, every row is a positive")
    positive_kinds: list[Kind] | None = Field(None, description="values of the label column that count as positive")
    request: str | None = Field(None, description="what was shown together; same user and time, if left out")
    weight: str | None = Field(None, description="importance of each impression")


class EventsFile(Options):
    """What users did earlier; the positives of the impressions, if left out."""

    path: Paths = _PATH
    user: str
    time: str | TimeColumn
    item: str | None = None
    kind: str | None = None


class UsersFile(Options):
    """Attributes of users."""

    path: Paths = _PATH
    user: str


class ItemsFile(Options):
    """Attributes of items."""

    path: Paths = _PATH
    item: str


class OwnFilesOptions(SourceOptions):
    """The files of a log and the roles of their columns."""

    source: Literal["own_files"]
    impressions: ImpressionsFile
    events: EventsFile | None = None
    users: UsersFile | None = None
    items: ItemsFile | None = None
    timezone: str = Field(
        "UTC", description="of times without an offset, of `hour` and `weekday`, and of the split's days"
    )
    missing: list[str] = Field([], description="texts that stand where there is no value, such as `NA` or `\\N`")
    negative_sampling_rate: float = Field(1.0, gt=0, le=1, description="share of the negatives that the log keeps")

    def starting_from(self, base: Path) -> Self:
        """The same options, the path of every file whole."""
        content = self.model_dump(exclude_unset=True)
        for part in content.values():
            if isinstance(part, dict) and "path" in part:
                paths = [part["path"]] if isinstance(part["path"], str) else part["path"]
                whole = [str(base / Path(path).expanduser()) for path in paths]
                part["path"] = whole[0] if isinstance(part["path"], str) else whole
        return self.model_validate(content)
