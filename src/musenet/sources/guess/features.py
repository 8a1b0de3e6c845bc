"""Which columns are features, of which side and type; and which are left out, and why."""

import re
from dataclasses import dataclass, field
from typing import Literal

import ibis
import numpy as np
from sklearn.metrics import roc_auc_score

from musenet.sources.guess.profiles import ColumnProfile, TableProfile
from musenet.sources.guess.roles import LogRoles, Roles, is_constant, snake

Side = Literal["user", "item", "context", "candidate"]

AFTERWARDS = (
    r"dwell|duration|watch|play_?time|time_?spent|read_?time|revenue|paid|amount|conver|purchas|(^|_)buy|bought|order"
    r"|rating|feedback|(^|_)like|share[ds]?(_|$)|comment|follow|click|clk|booked|outcome|result|after|response"
)
"""Names of what is only known after the answer; so are columns that tell the label all alone."""
POSITION = r"rank|position|slot|(^|_)place(_|$)|(^|_)pos(_|$)"
CODE = r"(^|_)(id|code|zip|no|number|type|class|group|level|band|category|cat|brand|city|region|country)(_|$)"
TELLS_ALL = 0.95
_SAMPLE = 100_000
_FEW_VALUES, _MANY_VALUES, _HISTORY_VALUES = 20, 1000, 5000


@dataclass
class FeatureGuess:
    """The features of each side, as entries of the configuration with a remark each, and what was left out."""

    sides: dict[Side, list[tuple[str, str]]] = field(
        default_factory=lambda: {"user": [], "item": [], "context": [], "candidate": []}
    )
    left_out: list[str] = field(default_factory=list)
    describing: list[str] = field(default_factory=list)
    """Categorical columns of items, or of events, that can describe a history."""


def guess_features(connection: ibis.BaseBackend, log: LogRoles) -> FeatureGuess:
    """Look at every column that plays no role."""
    guess = FeatureGuess()
    entities: list[tuple[Side, Roles | None]] = [("user", log.users), ("item", log.items)]
    for side, roles in entities:
        for column in _others(roles):
            _add(guess, side, column, roles)
    impressions = log.impressions
    key = [impressions.columns[role] for role in ("request", "user", "time") if role in impressions.columns]
    key = key[:1] if "request" in impressions.columns else key
    groups = connection.to_pyarrow(impressions.table.table.select(*key).distinct().count()).as_py()
    alone = groups > 0.95 * impressions.table.table.count().to_pyarrow().as_py()
    for column in _others(impressions):
        if not column.name.startswith("true_"):
            reason = _reason_to_leave(connection, impressions, column)
            place, doubt = _side(connection, impressions, column.name, key, alone=alone)
            _add(guess, place, column, impressions, reason, doubt)
    known = {column.name for roles in (log.users, log.items) for column in _others(roles)}
    for column in _others(log.events):
        if column.name not in known and column.kind in ("text", "flag") and 2 <= column.values <= _HISTORY_VALUES:
            guess.describing.append(column.name)
    return guess


def _others(roles: Roles | None) -> list[ColumnProfile]:
    if roles is None:
        return []
    return [column for name, column in roles.table.columns.items() if name not in roles.columns.values()]


def _add(
    guess: FeatureGuess, side: Side, column: ColumnProfile, roles: Roles | None, reason: str = "", doubt: str = ""
) -> None:
    reason = reason or _useless(column)
    table = roles.table.file.paths[0].name if roles else ""
    if reason:
        guess.left_out.append(f"{column.name} ({table}): {reason}")
        return
    entry, remark = _entry(column, side)
    remarks = "; ".join(part for part in (remark, doubt) if part)
    guess.sides[side].append((entry, remarks and f"? {remarks}"))
    if side == "item" and entry == yaml_name(column.name) and 2 <= column.values <= _HISTORY_VALUES:
        guess.describing.append(column.name)


def _useless(column: ColumnProfile) -> str:
    """Why a column says nothing that a model could use; empty if it may."""
    is_code = column.kind == "whole" and column.is_unique and re.search(CODE, snake(column.name))
    is_free_text = column.kind == "text" and column.values > max(100, 0.5 * column.filled)
    reasons = {
        "has no values": not column.filled,
        "has one value only": column.values == 1 and column.filled == column.rows,
        "is a time; the days between it and the impression would be a feature": column.kind == "time",
        "is of a type that cannot be a feature": column.kind == "other",
        "has nearly as many values as rows: an id, or free text": is_free_text,
        "is an id of its own in every row": is_code,
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _reason_to_leave(connection: ibis.BaseBackend, roles: Roles, column: ColumnProfile) -> str:
    """Why a column of the impressions would leak or cannot recur."""
    if re.search(AFTERWARDS, snake(column.name)):
        return "named like something known only after the answer; add it if it is known before"
    if column.kind in ("other", "list", "time") or not column.filled:
        return ""
    if "label" in roles.columns:
        auc = auc_alone(connection, roles, column)
        if auc > TELLS_ALL:
            return f"tells the label all alone (AUC {auc:.3f}): known only after the answer?"
    if column.kind in ("whole", "number") and column.values > 2 and _grows(connection, roles, column):
        return "grows with time, so that the test period holds values never seen in training"
    return ""


def _grows(connection: ibis.BaseBackend, roles: Roles, column: ColumnProfile) -> bool:
    time = roles.column("time")
    if time.kind != "time" or (time.unit is None and time.as_text):
        return False
    table = roles.table.table
    clock = table[time.name]
    clock = clock.cast("timestamp").epoch_seconds() if time.unit is None else clock
    value = connection.to_pyarrow(
        table.agg(r=table[column.name].try_cast("float64").corr(clock.try_cast("float64"), how="pop"))
    )["r"][0].as_py()
    return value is not None and abs(value) > 0.98


def auc_alone(connection: ibis.BaseBackend, roles: Roles, column: ColumnProfile) -> float:
    """How well a column alone tells the label: numbers by size, categories by their click rate on other rows."""
    table = roles.table.table.limit(_SAMPLE)
    label = table[roles.columns["label"]].cast("string").lower()
    positive = label.isin(roles.positive_kinds or ["1", "1.0", "true"])
    value = table[column.name]
    number = value.try_cast("float64") if column.kind in ("whole", "number", "flag") else ibis.null("float64")
    rows = connection.to_pyarrow(
        table.select(label=positive.fill_null(False), number=number, text=value.cast("string"))
    )
    answers = rows["label"].to_numpy().astype(float)
    missing = np.array(rows["text"].is_null())
    scores = [missing.astype(float)]
    if column.kind in ("whole", "number", "flag"):
        numbers = rows["number"].to_numpy().astype(float)
        scores += [np.nan_to_num(numbers, nan=-1e300), np.nan_to_num(-numbers, nan=-1e300)]
    if column.values <= _MANY_VALUES:
        scores.append(_click_rates(np.array(rows["text"].fill_null("").to_pylist()), answers))
    if len(np.unique(answers)) < 2:
        return 0.5
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


def _side(connection: ibis.BaseBackend, roles: Roles, name: str, key: list[str], *, alone: bool) -> tuple[Side, str]:
    """Whose attribute a column of the impressions is, from what it is constant within."""
    table: TableProfile = roles.table
    if is_constant(connection, table, [roles.columns["user"]], name):
        return "user", ""
    # What a request and its items share, such as the city searched for, belongs to the request.
    if not alone and is_constant(connection, table, key, name):
        return "context", ""
    if is_constant(connection, table, [roles.columns["item"]], name):
        return "item", ""
    if alone:
        return "context", "requests of one item cannot tell: under candidate, if it belongs to the item shown"
    if is_constant(connection, table, key, name, missing_differs=False):
        return "candidate", "differs inside requests only where it is missing: fill it in, and it is context"
    return "candidate", ""


def _entry(column: ColumnProfile, side: Side) -> tuple[str, str]:
    """A column as an entry of the configuration, and a remark."""
    name = yaml_name(column.name)
    remark = f"{column.odd} of {column.filled} values are no numbers: such rows are refused" if column.odd else ""
    snaked = snake(column.name)
    if (
        side == "candidate"
        and column.kind == "whole"
        and column.low >= 0
        and column.high <= 1000
        and re.search(POSITION, snaked)
    ):
        return f"{{{name}: position}}", remark
    if column.kind == "list":
        return f"{{{name}: multi_valued}}", ""
    if column.kind == "text" and column.separated > 0.3 * column.filled and column.values > _FEW_VALUES:
        return name, 'text with separators: for several values write {…: {multi_valued: "|"}}'
    if column.kind in ("flag", "text") or (column.kind == "whole" and column.values <= _FEW_VALUES):
        return name, "" if not column.odd else f"{column.values} values, some of them text"
    if column.kind == "whole" and re.search(CODE, snaked):
        return name, remark and f"{column.values} values, some of them text"
    skewed = column.low >= 0 and (column.mean > 1.3 * column.median or column.high > 100)
    return f"{{{name}: {{numeric: {'log' if skewed else 'standardise'}}}}}", remark


def yaml_name(name: str) -> str:
    """A name as a YAML scalar that can stand inside braces."""
    if re.fullmatch(r"[A-Za-z_][\w-]*", name) and name.lower() not in (
        "true",
        "false",
        "null",
        "yes",
        "no",
        "on",
        "off",
        "y",
        "n",
    ):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
