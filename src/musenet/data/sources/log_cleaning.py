"""Rows of one table of a log: kept in the form that preparation needs, or refused with a reason."""

from dataclasses import dataclass, field

import ibis
import ibis.expr.types as ir

from musenet.data.sources.log_columns import Need
from musenet.data.sources.log_files import LogFile, reading
from musenet.data.sources.log_values import Parsed, as_number
from musenet.data.tables import CleaningRule
from musenet.errors import DataError

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
            number = as_number(column, whole=need.form == "whole")
        what = "a whole number" if need.form == "whole" else "a number"
        self.parsed(need.name, number, need.name, what, required=False)

    def explained(self, name: str, key: str) -> "_Explained":
        """Say which column of which file an error is about."""
        return _Explained(f"{self.file.name}: column '{name}' ({key})")


class _Explained:
    def __init__(self, subject: str) -> None:
        self._subject = subject

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DataError):
            raise DataError(f"{self._subject} {error}") from error


@dataclass(frozen=True)
class Sifted:
    """The rows kept, the rows refused (`table`, `reason`, `row` as JSON text) and how many for which reason."""

    kept: ir.Table
    refused: ir.Table
    rules: list[CleaningRule]


def sift(connection: ibis.BaseBackend, name: str, sieve: Sieve, *, distinct: bool = False) -> Sifted:
    """Store the rows that pass and those that do not.

    Args:
        connection: the engine.
        name: of the table, such as `impressions`.
        sieve: what to keep and what to refuse.
        distinct: drop rows that equal another in everything kept.

    Raises:
        DataError: if more than a fifth of the rows are refused.
    """
    source = sieve.file.table
    branches = [(condition.fill_null(False), ibis.literal(reason)) for reason, condition in sieve.reasons]
    reason = ibis.cases(*branches, else_=ibis.null("string")) if branches else ibis.null("string")
    row = _as_json(source)
    refused = source.select(table=ibis.literal(name), reason=reason, row=row)
    with reading(sieve.file.name):
        kept = _store(connection, name, source.filter(reason.isnull()).select(**sieve.columns))
        refused = _store(connection, f"refused_{name}", refused.filter(refused.reason.notnull()))
    rows = connection.to_pyarrow(kept.count()).as_py()
    counts = refused.group_by("reason").agg(rows=refused.count(), example=refused.row.min())
    found = connection.to_pyarrow(counts.order_by(counts.rows.desc(), "reason")).to_pylist()
    _check_share(sieve, rows, found)
    rules = [CleaningRule(name, count["reason"], count["rows"], True) for count in found]
    if distinct:
        kept = _store(connection, name, kept.distinct())
        surplus = rows - connection.to_pyarrow(kept.count()).as_py()
        if surplus:
            rules.append(CleaningRule(name, "equals another row in every column used", surplus, True))
    return Sifted(kept, refused, rules)


def keep_first(
    connection: ibis.BaseBackend, name: str, table: ir.Table, key: str, order: list[str]
) -> tuple[ir.Table, list[CleaningRule]]:
    """One row per key: the first in the order of these columns, then of all others, missing values last."""
    columns = [*order, *(column for column in table.columns if column not in (key, *order))]
    others = [table[column].asc(nulls_first=False) for column in columns] or [table[key]]
    place = ibis.row_number().over(ibis.window(group_by=key, order_by=others))
    numbered = table.mutate(_place=place)
    first = _store(connection, name, numbered.filter(numbered._place == 0).drop("_place"))
    before, after = (connection.to_pyarrow(each.count()).as_py() for each in (table, first))
    return first, [
        CleaningRule(name, "repeats an id: the first is kept", before - after, True)
    ] if before > after else []


def _store(connection: ibis.BaseBackend, name: str, table: ir.Table) -> ir.Table:
    return connection.create_table(ibis.util.gen_name(name), table)


def _as_json(table: ir.Table) -> ir.Value:
    row = ibis.struct({name: table[name].cast("string") for name in table.columns})

    def to_json(_: object) -> str:
        """The engine's own function."""
        raise NotImplementedError

    return ibis.udf.scalar.builtin(to_json, signature=((row.type(),), "string"))(row)


def _check_share(sieve: Sieve, kept: int, counts: list[dict[str, object]]) -> None:
    refused = {str(count["reason"]): int(str(count["rows"])) for count in counts}
    total = sum(refused.values())
    mistaken = sum(rows for reason, rows in refused.items() if reason not in sieve.expected)
    if kept and mistaken <= REFUSED_AT_MOST * (kept + total):
        return
    most = next((count for count in counts if kept == 0 or count["reason"] not in sieve.expected), counts[0])
    raise DataError(
        f"{sieve.file.name}: {mistaken if kept else total} of {kept + total} rows would be refused ({sieve.file.key}), "
        f"{most['rows']} of them because {most['reason']}, for example {str(most['example'])[:200]}: "
        "mend the file or the configuration"
    )
