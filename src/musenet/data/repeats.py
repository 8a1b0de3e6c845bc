"""Had this before? Repeat indicator, count and recency of a candidate, repeat fraction of a request."""

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir
from pydantic import Field

from musenet.data.histories import COUNT, LAST, Before, before
from musenet.data.plain import common_type
from musenet.data.requests import ITEM_ROW, REQUEST_ROW, USER_ROW
from musenet.data.tables import TIME
from musenet.options import Options, Seconds


class RepeatOptions(Options):
    """When a candidate repeats an earlier event: all `key` columns are equal and none is missing."""

    key: list[str] = Field(min_length=1, description="columns whose equality says `had this before`")
    kinds: list[str] | None = Field(None, description="event kinds that count; all, if left out")
    window: Seconds | None = Field(None, description="how far back an event counts; for ever, if left out")
    recency: bool = Field(True, description="tell how long ago; false where only the order of events is known")


AGAIN = "_again"


def with_comparable_keys(events: ir.Table, candidates: ir.Table, key: Sequence[str]) -> tuple[ir.Table, ir.Table]:
    """Both tables with the key's columns cast to a common type.

    Raises:
        DataError: if a column is text on one side and a number on the other.
    """
    kinds = {
        name: common_type(
            (events[name].type()(nullable=True), candidates[name].type()(nullable=True)), f"repeat.key: '{name}'"
        )
        for name in key
    }
    return (
        events.mutate(**{name: events[name].cast(kind) for name, kind in kinds.items()}),
        candidates.mutate(**{name: candidates[name].cast(kind) for name, kind in kinds.items()}),
    )


def candidate_repeats(events: ir.Table, candidates: ir.Table, key: Sequence[str], span: Before) -> ir.Table:
    """Count and time of the last of the user's events with each candidate's repeat key, before its request.

    Args:
        events: `_user_row`, `_time` and the key.
        candidates: `_request_row`, `_item_row`, `_user_row`, `_time` (the request's) and the key.
        key: columns that must be equal and not NULL.
        span: how far back an event counts.

    Returns:
        `_request_row`, `_item_row`, `_count`, `_last` of those candidates whose user ever had an event of that key.
    """
    by = [USER_ROW, *key]
    counts = _complete(events, key).group_by([*by, TIME]).aggregate(**{COUNT: ibis._.count()})
    # Most candidates repeat nothing: only those whose user has such an event, earlier or later, enter the window.
    relevant = _complete(candidates, key).semi_join(counts.select(by).distinct(), by)
    return before(counts, relevant, by, [REQUEST_ROW, ITEM_ROW], [COUNT], span)


def request_repeats(events: ir.Table, requests: ir.Table, key: Sequence[str], span: Before) -> ir.Table:
    """`_request_row`, `_count` of the user's events before each request and `_again`, those that repeated then already.

    An event repeats if an event of its user and key lies strictly earlier, within the window if there is one.
    """
    by = [USER_ROW, *key]
    counts = events.group_by([*by, TIME]).aggregate(**{COUNT: events.count()})
    window = ibis.range_window(preceding=(span.window, 1), group_by=by, order_by=TIME)
    again = counts[COUNT].sum().over(window).notnull()
    for name in key:
        again = again & counts[name].notnull()
    marked = counts.mutate(**{AGAIN: again.ifelse(counts[COUNT], 0)})
    totals = marked.group_by([USER_ROW, TIME]).aggregate(**{COUNT: marked[COUNT].sum(), AGAIN: marked[AGAIN].sum()})
    return before(totals, requests, [USER_ROW], [REQUEST_ROW], [COUNT, AGAIN], span).drop(LAST)


def _complete(table: ir.Table, key: Sequence[str]) -> ir.Table:
    for name in key:
        table = table.filter(table[name].notnull())
    return table
