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
        None, description="since 1970, of numbers"
    )
    format: str | None = Field(
        None,
        pattern=r"^([^%]|%[mdHMS])*%[Yy]([^%]|%[mdHMS])*$",
        description="of dates: %Y or %y, %m, %d, %H, %M, %S and what stands between them, such as `%d/%m/%Y`",
    )


class TableSource(Options):
    """Where the rows of one table of a log are: in files, or what a query gives."""

    path: str | list[str] | None = Field(
        None, description="a file, a folder, a pattern such as `log/*.parquet`, a URL, or a list of these"
    )
    sql: str | None = Field(None, description="in place of `path`: a query in DuckDB's SQL")
    database: str | None = Field(None, description="the DuckDB file that the query reads; it is not changed")

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
    label: str | None = Field(None, description="0 or 1; left out, every row is a positive")
    positive_kinds: list[Kind] | None = Field(None, description="values of the label column that count as positive")
    request: str | None = Field(None, description="what was shown together; same user and time, if left out")
    weight: str | None = Field(None, description="importance of each impression")


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
        "UTC", description="of times without an offset, of `hour` and `weekday`, and of the split's days"
    )
    missing: list[str] = Field([], description="texts that stand where there is no value, such as `NA` or `\\N`")
    negative_sampling_rate: float = Field(1.0, gt=0, le=1, description="share of the negatives that the log keeps")

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
