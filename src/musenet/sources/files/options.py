"""The files of a log and the roles of their columns, as a configuration names them."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from musenet.options import Options
from musenet.recipe.history import Kind
from musenet.sources.files.places import whole
from musenet.sources.options import SourceOptions


class TimeColumn(Options):
    """A time column whose form is told rather than seen from its values."""

    column: str
    unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] | None = Field(
        None, description="unit of numbers since 1970"
    )
    format: str | None = Field(
        None,
        pattern=r"^([^%]|%[mdHMS])*%[Yy]([^%]|%[mdHMS])*$",
        description="format of text dates: %Y or %y, %m, %d, %H, %M, %S and separators, such as `%d/%m/%Y`",
    )


class TableSource(Options):
    """Where the rows of one table of a log are: in files, or what a query gives."""

    path: str | list[str] | None = Field(
        None, description="a file, a folder, a pattern such as `log/*.parquet`, a URL, or a list of these"
    )
    sql: str | None = Field(None, description="instead of `path`: a query in DuckDB's SQL")
    database: str | None = Field(None, description="the DuckDB file that the query reads, opened read-only")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.sql is None):
            raise ValueError("give either path or sql")
        if self.database is not None and self.sql is None:
            raise ValueError("database needs sql, the query that reads it")
        return self


class ImpressionsFile(TableSource):
    """Items shown to users."""

    user: str
    item: str
    time: str | TimeColumn
    label: str | None = Field(
        None, description="column of the label, 0 or 1; without it every row is a positive, and `negatives` are needed"
    )
    positive_kinds: list[Kind] | None = Field(
        None, description="values of the label column that count as 1, if it names kinds such as `click`"
    )
    request: str | None = Field(
        None, description="column of the request id; without it, a request is the rows of one user and time"
    )
    weight: str | None = Field(None, description="column of each impression's weight")


class EventsFile(TableSource):
    """What users did earlier; the positives of the impressions, if left out."""

    user: str
    time: str | TimeColumn
    item: str | None = None
    kind: str | None = None


class UsersFile(TableSource):
    """Attributes of users."""

    user: str


class ItemsFile(TableSource):
    """Attributes of items."""

    item: str


class OwnFilesOptions(SourceOptions):
    """The files of a log and the roles of their columns."""

    source: Literal["own_files"]
    impressions: ImpressionsFile
    events: EventsFile | None = None
    users: UsersFile | None = None
    items: ItemsFile | None = None
    timezone: str = Field(
        "UTC",
        description="for times without an offset, `hour` and `weekday`, and the split's days: a name such as "
        "`Europe/Berlin`",
    )
    missing: list[str] = Field([], description="texts that mean a missing value, such as `NA` or `\\N`")
    negative_sampling_rate: float = Field(
        1.0, gt=0, le=1, description="share of the negatives that the log keeps; serving corrects the logit for it"
    )

    def starting_from(self, base: Path) -> Self:
        """The same options, the path of every file whole."""
        content = self.model_dump(exclude_unset=True)
        for part in content.values():
            for key in ("path", "database") if isinstance(part, dict) else ():
                if isinstance(part.get(key), str):
                    part[key] = whole(part[key], base)
                elif part.get(key) is not None:
                    part[key] = [whole(path, base) for path in part[key]]
        return self.model_validate(content)
