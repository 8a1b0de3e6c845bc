"""Rows of one table of a log: kept in the form that preparation needs, or refused with a reason."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import ibis
import ibis.expr.types as ir
import polars as pl
import pyarrow as pa

from musenet.engines.engine import Engine
from musenet.errors import DataError
from musenet.sources.files.columns import Need
from musenet.sources.files.opening import LogFile, reading
from musenet.sources.files.values import Parsed, as_number, as_vector
from musenet.sources.tables import REFUSED, CleaningRule

REASON = "_reason"
REFUSED_AT_MOST = 0.2
"""If more of a table's rows than this are refused, the configuration is wrong rather than the rows."""


@dataclass
class Sieve:
    """What to keep of a file's rows and when to refuse one; the first reason that applies counts."""

    file: LogFile
    columns: dict[str, ir.Value] = field(default_factory=dict)
    reasons: list[tuple[str, ir.BooleanValue]] = field(default_factory=list)
    expected: set[str] = field(default_factory=set)
    """Reasons that belong to the log rather than to a mistake: any number of rows may be refused for them."""

    mended: dict[str, int] = field(default_factory=dict)
    """Rows by what was done to them, none of which is refused for it."""

    layout: str | None = None
    """How its times are laid out, where the values told it."""

    def role(self, role: str, column: ir.Value, name: str) -> None:
        """Keep a column that no row may lack."""
        self.columns[role] = column
        self.reasons.append((f"{name} is missing", column.isnull()))

    def parsed(self, role: str, parsed: Parsed, name: str, what: str, *, required: bool = True) -> None:
        """Keep a column that had to be read as something; refuse the rows in which it is not that."""
        self.columns[role] = parsed.value
        if required:
            self.reasons.append((f"{name} is missing", parsed.missing))
        self.reasons.append((f"{name} is not {what}", parsed.wrong))

    def need(self, need: Need) -> None:
        """Keep a column that the recipe names."""
        column = self.file.table[need.name]
        if need.form == "value":
            # A column without any value has no type that an engine could store.
            self.columns[need.name] = column.cast("string") if column.type().is_unknown() else column
            return
        with self.explained(need.name, need.key):
            if need.form == "vector":
                read, what = as_vector(column, need.length), f"a list of {need.length} numbers"
            else:
                read = as_number(column, whole=need.form == "whole")
                what = "a whole number" if need.form == "whole" else "a number"
        self.parsed(need.name, read, need.name, what, required=False)

    @contextmanager
    def explained(self, name: str, key: str) -> Iterator[None]:
        """Say which column of which file an error is about."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.file.name}: column '{name}' ({key}) {error}") from error


@dataclass(frozen=True)
class Sifted:
    """The rows kept, the rows refused (`table`, `reason`, `row` as JSON text) and how many for which reason."""

    kept: ir.Table
    refused: ir.Table
    rules: list[CleaningRule]
    layout: str | None = None
    """How its times were laid out, where the values told it."""


def sift(engine: Engine, name: str, sieve: Sieve, *, distinct: bool = False) -> Sifted:
    """The rows that pass and those that do not; kept where reading them again would cost more than keeping them.

    Args:
        engine: where they are stored.
        name: of the table, such as `impressions`.
        sieve: what to keep and what to refuse.
        distinct: drop rows that equal another in everything kept.

    Raises:
        DataError: if more than a fifth of the rows are refused.
    """
    source = sieve.file.table
    branches = [(condition.fill_null(False), ibis.literal(reason)) for reason, condition in sieve.reasons]
    reason = ibis.cases(*branches, else_=ibis.null("string")) if branches else ibis.null("string")
    with reading(sieve.file.name):
        kept, judged = source.filter(reason.isnull()).select(**sieve.columns), source.mutate(**{REASON: reason})
        if sieve.file.is_parquet:
            rows = engine.count(kept)
            refused_rows = engine.count(source) - rows
        else:
            kept = engine.store(name, kept)
            rows, refused_rows = engine.count(kept), None

        def as_json() -> Iterator[pa.Table]:
            chunks = () if refused_rows == 0 else engine.chunks(judged.filter(judged[REASON].notnull()))
            return (_as_json(name, chunk) for chunk in chunks)

        refused = engine.store_rows(f"refused_{name}", as_json, REFUSED)
    counts = _count(engine, refused)
    _check_share(engine, sieve, rows, counts, refused)
    rules = [CleaningRule(name, part.reason, part.rows, False) for part in sieve.file.mended]
    rules += [CleaningRule(name, text, count, True) for text, count in counts.items()]
    rules += [CleaningRule(name, text, count, False) for text, count in sieve.mended.items()]
    if distinct:
        kept = engine.store(name, kept.distinct())
        surplus = rows - engine.count(kept)
        if surplus:
            rules.append(CleaningRule(name, "equals another row in every column used", surplus, True))
    return Sifted(kept, refused, rules, sieve.layout)


def keep_first(
    engine: Engine, name: str, table: ir.Table, key: str, order: list[str]
) -> tuple[ir.Table, list[CleaningRule]]:
    """One row per key: the first in the order of these columns, then of all others, missing values last."""
    columns = [*order, *(column for column in table.columns if column not in (key, *order))]
    others = [table[column].asc(nulls_first=False) for column in columns] or [table[key]]
    place = ibis.row_number().over(ibis.window(group_by=key, order_by=others))
    numbered = table.mutate(_place=place)
    first = engine.store(name, numbered.filter(numbered._place == 0).drop("_place"))
    before, after = (engine.count(each) for each in (table, first))
    return first, [
        CleaningRule(name, "repeats an id: the first is kept", before - after, True)
    ] if before > after else []


def sift_entities(engine: Engine, name: str, sieve: Sieve, key: str) -> Sifted:
    """As `sift`, and of the rows that pass the first of each id."""
    sifted = sift(engine, name, sieve)
    first, repeated = keep_first(engine, name, sifted.kept, key, [])
    return replace(sifted, kept=first, rules=sifted.rules + repeated)


def _count(engine: Engine, refused: ir.Table) -> dict[str, int]:
    """Rows by reason, the most frequent first."""
    counts = refused.group_by("reason").agg(rows=refused.count())
    found = engine.read(counts.order_by(counts.rows.desc(), "reason")).to_pylist()
    return {row["reason"]: int(row["rows"]) for row in found}


def _as_json(name: str, chunk: pa.Table) -> pa.Table:
    """Refused rows as text; written here rather than by an engine, since no two of them write numbers alike."""
    frame = pl.DataFrame(chunk)
    text = [
        pl.col(column).cast(pl.List(pl.String) if isinstance(kind, pl.List | pl.Array) else pl.String)
        for column, kind in frame.schema.items()
        if column != REASON
    ]
    row = pl.struct(text).struct.json_encode()
    return frame.select(table=pl.lit(name), reason=REASON, row=row).to_arrow().cast(REFUSED)


def _check_share(engine: Engine, sieve: Sieve, kept: int, counts: dict[str, int], refused: ir.Table) -> None:
    total = sum(counts.values())
    mistaken = sum(rows for reason, rows in counts.items() if reason not in sieve.expected)
    if kept and mistaken <= REFUSED_AT_MOST * (kept + total):
        return
    most = next((reason for reason in counts if kept == 0 or reason not in sieve.expected), next(iter(counts)))
    example = engine.row(refused.filter(refused.reason == most).agg(row=refused.row.min(where=refused.reason == most)))
    raise DataError(
        f"{sieve.file.name}: {mistaken if kept else total} of {kept + total} rows would be refused ({sieve.file.key}), "
        f"{counts[most]} of them because {most}, for example {str(example['row'])[:200]}: "
        "fix the file or the configuration"
    )
