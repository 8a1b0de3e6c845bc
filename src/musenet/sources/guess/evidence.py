"""What the values of a column of the impressions say about where it belongs."""

import ibis
import ibis.expr.types as ir
import numpy as np

from musenet.engines.engine import Engine
from musenet.sources.files.values import as_label, as_number
from musenet.sources.guess.profiles import ColumnProfile
from musenet.sources.guess.roles import Roles

ROWS_FOR_AUC = 100_000
_MANY_VALUES, _BINS = 1000, 10


def auc_alone(engine: Engine, roles: Roles, column: ColumnProfile) -> float:
    """How well a column alone tells the label: numbers by size, categories by their click rate on other rows."""
    from sklearn.metrics import roc_auc_score

    table = roles.table.table.limit(ROWS_FOR_AUC)
    label = as_label(table[roles.columns["label"]], roles.positive_kinds or None).value
    value = table[column.name]
    is_number = column.kind in ("whole", "number", "flag")
    number = as_number(value).value.cast("float64") if is_number else ibis.null("float64")
    rows = engine.read(table.select(label=label.fill_null(0), number=number, text=value.cast("string")))
    answers = rows["label"].to_numpy().astype(float)
    if len(np.unique(answers)) < 2:
        return 0.5
    scores = [np.array(rows["text"].is_null()).astype(float)]
    if is_number:
        numbers = rows["number"].to_numpy().astype(float)
        scores += [np.nan_to_num(numbers, nan=-1e300), np.nan_to_num(-numbers, nan=-1e300)]
    if column.values <= _MANY_VALUES:
        scores.append(_click_rates(np.array(rows["text"].fill_null("").to_pylist()), answers))
    return max(max(auc, 1 - auc) for auc in (float(roc_auc_score(answers, score)) for score in scores))


def _click_rates(values: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Each row's value's click rate among the rows of the other half."""
    _, codes = np.unique(values, return_inverse=True)
    half = np.arange(len(codes)) % 2
    rates = np.empty(len(codes))
    for side in (0, 1):
        other = half != side
        sums = np.bincount(codes[other], answers[other], minlength=codes.max() + 1)
        counts = np.bincount(codes[other], minlength=codes.max() + 1)
        rates[half == side] = ((sums + answers.mean()) / (counts + 1))[codes[half == side]]
    return rates


def told_by_item(engine: Engine, roles: Roles, column: ColumnProfile) -> float:
    """How much likelier two rows of one item agree in a column than any two: 0 not at all, 1 if they always do.

    Numbers agree within a tenth of the rows.
    """
    table = roles.table.table
    value = table[column.name]
    if column.kind == "number" or (column.kind == "whole" and column.values > _BINS):
        number = as_number(value).value.cast("float64")
        value = ibis.ntile(_BINS).over(ibis.window(order_by=number))
    rows = table.select(item=table[roles.columns["item"]], value=value.cast("string"))
    alike, pairs = (_pairs(engine, rows, key) for key in (["item", "value"], ["item"]))
    alike_of_all, all_pairs = (_pairs(engine, rows, key) for key in (["value"], []))
    if not pairs or not all_pairs or alike_of_all == all_pairs:
        return 0.0
    by_chance = alike_of_all / all_pairs
    return (alike / pairs - by_chance) / (1 - by_chance)


def _pairs(engine: Engine, rows: ir.Table, key: list[str]) -> float:
    """How many pairs of rows are equal in these columns."""
    groups = rows.group_by(key).agg(rows=rows.count()) if key else rows.agg(rows=rows.count())
    size = groups.rows.cast("float64")
    return float(engine.row(groups.agg(pairs=(size * (size - 1)).sum()))["pairs"] or 0)


def counts_inside_requests(engine: Engine, roles: Roles, column: ColumnProfile) -> bool:
    """Whether a column runs from 0 or 1 through every request, as a rank does."""
    table = roles.table.table
    number = as_number(table[column.name]).value
    groups = table.group_by(roles.request_key).agg(
        size=table.count(), values=number.nunique(), low=number.min(), high=number.max()
    )
    several = groups.filter(groups["size"] > 1)
    runs = (
        (several["values"] == several["size"])
        & several.low.isin([0, 1])
        & (several.high - several.low == several["size"] - 1)
    )
    found = engine.row(several.agg(requests=several.count(), runs=runs.sum()))
    return bool(found["requests"]) and (found["runs"] or 0) > 0.95 * found["requests"]


def returns(engine: Engine, roles: Roles, role: str) -> bool:
    """Whether users (items) come again, so that what never changes for one of them says something."""
    table = roles.table.table
    groups = table.group_by(roles.columns[role]).agg(rows=table.count(), times=table[roles.columns["time"]].nunique())
    found = engine.row(groups.agg(rows=groups.rows.sum(), again=groups.rows.sum(where=groups.times > 1)))
    return bool((found["again"] or 0) > 0.1 * found["rows"])
