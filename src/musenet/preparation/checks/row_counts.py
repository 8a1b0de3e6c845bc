"""Where the rows went: counts per reason, and the refused rows themselves."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import ibis
import ibis.expr.types as ir
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from musenet.dataset.layout import RELATIONS
from musenet.dataset.roles import TIME
from musenet.engines.engine import Engine
from musenet.preparation.checks.checks import RowCount
from musenet.preparation.encoding.fields import PlannedField
from musenet.preparation.encoding.writer import DatasetWriter
from musenet.preparation.relations.relations import Relations
from musenet.preparation.relations.requests import local_text
from musenet.sources.files.times import FIRST_PLAUSIBLE, latest_plausible
from musenet.sources.tables import REFUSED, CleaningRule, Tables

REJECTED = "rejected.parquet"


def count_rows(relations: Relations, tables: Tables, writer: DatasetWriter) -> list[RowCount]:
    """Rows in, per reason, and out, of every relation."""
    rules = [*tables.cleaning, *relations.rules]
    kept = {"impressions": writer.candidates, "events": relations.rows["kept_events"]}
    counts: list[RowCount] = []
    for table in dict.fromkeys(["impressions", "events", *(rule.table for rule in rules)]):
        of_table = [rule for rule in rules if rule.table == table]
        if table in relations.rows:
            refused = sum(rule.rows for rule in tables.cleaning if rule.table == table and rule.dropped)
            counts.append(RowCount(table=table, what="read", rows=relations.rows[table] + refused))
        counts += [RowCount(table=table, what=_what(rule), rows=rule.rows) for rule in of_table]
        if table in kept:
            counts.append(RowCount(table=table, what="kept", rows=kept[table]))
    return counts


def _what(rule: CleaningRule) -> str:
    return f"{'dropped' if rule.dropped else 'corrected'}: {rule.reason}"


def log_warnings(engine: Engine, relations: Relations) -> Iterator[str]:
    """Sentences about the log as a whole: duplicates, and events of another time than the impressions."""
    for rule in relations.rules:
        if rule.table == "impressions" and relations.duplicates is not None and rule.reason.startswith("shown twice"):
            yield f"{rule.rows} impressions repeat an item within their request: the positive, else the first, was kept"
    events, requests = relations.stored_events, relations.requests
    for what, table in (("requests", requests), ("events", events)):
        yield from _odd_times(engine, what, table)
    last = engine.row(events.aggregate(last=events[TIME].max()))["last"]
    first = engine.row(requests.aggregate(first=requests[TIME].min()))["first"]
    if last is not None and int(str(last)) < int(str(first)):
        yield (
            f"the events end ({local_text(int(str(last)), 'UTC')} UTC) before the impressions begin "
            f"({local_text(int(str(first)), 'UTC')} UTC): are both in the same time unit and zone?"
        )
    elif last is not None and int(str(last)) < relations.cuts.test_from:
        yield "the events end before the test period begins, so its histories are out of date"


def list_warnings(engine: Engine, relations: Relations, planned: Iterable[PlannedField]) -> Iterator[str]:
    """Sentences about lists of which the dataset keeps the beginning alone."""
    for entry in planned:
        if entry.list_length is None or entry.side == "history":
            continue
        table: ir.Table = getattr(relations, RELATIONS[entry.side])
        count = table[entry.column].unique().length()
        found = engine.row(table.aggregate(longer=(count > entry.list_length).sum(), most=count.max()))
        if found["longer"]:
            yield (
                f"{entry.side} column '{entry.source}' holds more than {entry.list_length} values in {found['longer']} "
                f"rows, {found['most']} at most: the first {entry.list_length} count; say {{{entry.source}: "
                "{multi_valued: …, length: …}} for more"
            )


def _odd_times(engine: Engine, what: str, table: ir.Table) -> Iterator[str]:
    """No log is older than the services that write logs, and none knows the future."""
    odd = ~table[TIME].between(FIRST_PLAUSIBLE, latest_plausible())
    found = engine.row(table.aggregate(rows=odd.sum(), first=table[TIME].min(), last=table[TIME].max()))
    if found["rows"]:
        first, last = (local_text(int(str(found[end])), "UTC") for end in ("first", "last"))
        yield (
            f"{found['rows']} {what} lie before 1990 or after tomorrow; they run from {first} to {last}: are their "
            "times dates, or in another unit? say it with {column: …, unit: …} or {column: …, format: …}"
        )


def write_rejected(
    engine: Engine, tables: Tables, relations: Relations, folder: Path, before: Path | None = None
) -> None:
    """Write every refused row as JSON text beside its table and reason, behind those of the dataset that this extends.

    No file is written if none was refused.
    """
    parts = [] if tables.rejected is None else [tables.rejected.select(*REFUSED.names)]
    if relations.duplicates is not None:
        duplicates = relations.duplicates
        parts.append(engine.store_rows("refused_duplicates", lambda: map(_as_json, engine.chunks(duplicates)), REFUSED))
    together = ibis.union(*parts) if len(parts) > 1 else parts[0] if parts else None
    refused: list[Iterable[pa.Table | pa.RecordBatch]] = []
    if before is not None and (before / REJECTED).exists():
        refused.append(pq.ParquetFile(before / REJECTED).iter_batches())
    if together is not None and engine.count(together):
        refused.append(engine.chunks(together.order_by(REFUSED.names)))
    if refused:
        with pq.ParquetWriter(folder / REJECTED, REFUSED) as writer:
            for chunk in chain(*refused):
                writer.write(chunk.cast(REFUSED))


def _as_json(duplicates: pa.Table) -> pa.Table:
    rows = pl.DataFrame(duplicates).select(
        table=pl.lit("impressions"),
        reason=pl.lit("shown twice in one request"),
        row=pl.struct(pl.all()).struct.json_encode(),
    )
    return rows.to_arrow().cast(REFUSED)
