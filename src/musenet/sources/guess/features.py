"""Which columns are features, of which side and type; and which are left out, and why."""

from dataclasses import dataclass, field
from typing import Literal

from musenet.engines.engine import Engine
from musenet.sources.guess.evidence import (
    ROWS_FOR_AUC,
    auc_alone,
    counts_inside_requests,
    returns,
    told_by_item,
)
from musenet.sources.guess.joining import LogRoles
from musenet.sources.guess.names import AFTERWARDS, CLOCK, POSITION, ROW_NUMBER, is_code, says, yaml_name
from musenet.sources.guess.periods import TIME, Periods
from musenet.sources.guess.profiles import ColumnProfile
from musenet.sources.guess.roles import Roles, varying
from musenet.sources.local_time import hour_of, weekday_of

Side = Literal["user", "item", "context", "candidate"]

PROJECTION = 16
"""To at most how many numbers vectors are projected."""
TELLS_ALL, TELLS_MUCH = 0.95, 0.8
SEVERAL_DAYS = 3
"""Days of training that have to hold an hour, a weekday, before a model can learn what it means."""
_ALMOST_ALL, _TOLD, _FEW_CHANGE = 0.99, 0.2, 0.05
_FEW_VALUES, _HISTORY_VALUES = 20, 5000


@dataclass
class FeatureGuess:
    """The features of each side, as entries of the configuration with a remark each, and what was left out."""

    sides: dict[Side, list[tuple[str, str]]] = field(
        default_factory=lambda: {"user": [], "item": [], "context": [], "candidate": []}
    )
    left_out: list[str] = field(default_factory=list)
    describing: list[str] = field(default_factory=list)
    """Categorical columns of items, or of events, that can describe a history."""

    def add(self, side: Side, column: ColumnProfile, entry: str, *remarks: str) -> None:
        """A feature with what is to be said of it."""
        remark = "; ".join(part for part in remarks if part)
        self.sides[side].append((entry, remark and f"? {remark}"))
        if side == "item" and entry == yaml_name(column.name) and 2 <= column.values <= _HISTORY_VALUES:
            self.describing.append(column.name)

    def leave_out(self, column: ColumnProfile, roles: Roles, reason: str) -> None:
        """No feature."""
        self.left_out.append(f"{column.name} ({roles.table.label}): {reason}")


def guess_features(engine: Engine, log: LogRoles, periods: Periods) -> FeatureGuess:
    """Look at every column that plays no role."""
    guess = FeatureGuess()
    entities: list[tuple[Side, Roles | None]] = [("user", log.users), ("item", log.items)]
    for side, roles in entities:
        for column in roles.others if roles else []:
            assert roles is not None
            reason = _useless(column) or _only_names(column, column.rows)
            if reason:
                guess.leave_out(column, roles, reason)
            else:
                guess.add(side, column, *_entry(column))
    _add_shown(guess, engine, log, periods)
    _add_clock(guess, engine, log.impressions, periods)
    known = {column.name for roles in (log.users, log.items) if roles for column in roles.others}
    for column in log.events.others if log.events else []:
        if column.name not in known and column.kind in ("text", "flag") and 2 <= column.values <= _HISTORY_VALUES:
            guess.describing.append(column.name)
    return guess


def _add_shown(guess: FeatureGuess, engine: Engine, log: LogRoles, periods: Periods) -> None:
    """The columns of the impressions."""
    roles = log.impressions
    sides = _Sides(engine, roles, [column.name for column in roles.others])
    numbers = [column.name for column in roles.others if column.kind in ("whole", "number") and column.values > 2]
    growing = periods.grows(engine, numbers)
    elsewhere = {column.name for roles in (log.users, log.items) if roles for column in roles.others}
    for column in roles.others:
        if column.name.startswith("true_") or column.name in elsewhere:
            continue
        side, doubt = sides.of(column.name)
        auc = 0.5
        reason = _useless(column) or _named_to_leave(roles, column, side)
        if not reason and "label" in roles.columns and column.kind not in ("other", "list", "vector", "time"):
            auc = auc_alone(engine, roles, column)
            if auc > TELLS_ALL:
                reason = f"predicts the label alone (AUC {auc:.3f}): known only after the click?"
        if not reason and column.name in growing:
            reason = "grows with time, so that the test period holds values never seen in training"
        reason = reason or _rare(engine, periods, column, side)
        if not reason and "label" not in roles.columns:
            reason = _unknown_of_negatives(engine, roles, column, side, alone=sides.alone)
        if reason:
            guess.leave_out(column, roles, reason)
        elif side == "candidate" and _is_position(engine, roles, column):
            guess.add(side, column, f"{{{yaml_name(column.name)}: position}}", _cost_of_position(column, auc))
        else:
            where = f" in the first {ROWS_FOR_AUC:,} rows" if roles.table.rows > ROWS_FOR_AUC else ""
            told = f"alone it has AUC {auc:.2f}{where}: is it known before the answer?" if auc > TELLS_MUCH else ""
            guess.add(side, column, *_entry(column), doubt, told)


def _add_clock(guess: FeatureGuess, engine: Engine, roles: Roles, periods: Periods) -> None:
    """`hour` and `weekday`, where they differ and training holds each of them on several days."""
    clocks = {"hour": hour_of(periods.rows[TIME]), "weekday": weekday_of(periods.rows[TIME])}
    for name, value in clocks.items():
        if name in roles.table.columns:
            continue
        if engine.count(periods.rows.select(value=value).distinct().limit(2)) < 2:
            guess.left_out.append(f"{name} of the time: is the same everywhere")
        elif periods.covered(engine, value, days=SEVERAL_DAYS, of_all=True) < _ALMOST_ALL:
            guess.left_out.append(f"{name} of the time: {_RARE}")
        else:
            guess.sides["context"].append((name, "from the time, on the local clock"))


_RARE = f"training does not hold each of them on {SEVERAL_DAYS} days, too few to learn what it means"


class _Sides:
    """Whose attribute a column of the impressions is, from what it is constant within."""

    def __init__(self, engine: Engine, roles: Roles, names: list[str]) -> None:
        table, key = roles.table, roles.request_key
        requests = engine.count(table.table.select(key).distinct())
        self._items = roles.column("item").values
        # Of positives alone, what is no item's attribute is unknown of the sampled negatives.
        self._may_change = 0 if "label" in roles.columns else _FEW_CHANGE * self._items
        self.alone = requests > 0.95 * engine.count(table.table)
        # What each user or item has once, is constant for no reason.
        self._of = {
            role: varying(engine, table, [roles.columns[role]], names) if returns(engine, roles, role) else None
            for role in ("user", "item")
        }
        self._request = varying(engine, table, key, names)
        self._apart_from_missing = varying(engine, table, key, names, missing_differs=False)

    def of(self, name: str) -> tuple[Side, str]:
        """A column's side, and a doubt."""
        user, item = self._of["user"], self._of["item"]
        if user is not None and not user[name]:
            return "user", ""
        # What a request and its items share, such as the city searched for, belongs to the request.
        if not self.alone and not self._request[name]:
            return "context", ""
        if item is not None and item[name] <= self._may_change:
            few = f"has several values for {item[name]:,} of {self._items:,} items: the first is used"
            return "item", few if item[name] else ""
        if not self._request[name]:
            return "context", "requests of one item cannot tell: under candidate, if it belongs to the item shown"
        if not self._apart_from_missing[name]:
            return "candidate", "differs inside requests only where it is missing: fill it in, and it is context"
        return "candidate", ""


def _useless(column: ColumnProfile) -> str:
    """Why a column says nothing that a model could use; empty if it may."""
    is_index = column.numbers_rows or (column.is_unique and says(ROW_NUMBER, column.name))
    is_free_text = column.kind == "text" and column.values > max(100, 0.5 * column.filled)
    reasons = {
        "has no values": not column.filled,
        "has one value only": column.values == 1 and column.filled == column.rows,
        "is a time; the days between it and the impression would be a feature": column.kind == "time",
        "is of a type that cannot be a feature": column.kind == "other",
        "numbers the rows": is_index,
        "has nearly as many values as rows: an id, or free text": is_free_text,
        "is an id of its own in every row": column.kind == "whole" and column.is_unique and is_code(column.name),
    }
    return next((reason for reason, applies in reasons.items() if applies), "")


def _only_names(column: ColumnProfile, entities: int) -> str:
    is_category = column.kind == "text" or (column.kind == "whole" and is_code(column.name))
    if is_category and column.values > max(2, 0.9 * entities):
        return "has a value for each, so that it says what the id says"
    return ""


def _named_to_leave(roles: Roles, column: ColumnProfile, side: Side) -> str:
    """Why a column of the impressions would leak, or is an id."""
    if side in ("user", "item"):
        return _only_names(column, roles.column(side).values)
    if says(AFTERWARDS, column.name):
        return "named like something known only after the click; add it if it is known before"
    return "is an id of its own in every row" if column.kind == "whole" and column.is_unique else ""


def _rare(engine: Engine, periods: Periods, column: ColumnProfile, side: Side) -> str:
    """Why training holds too little of a category of requests or candidates."""
    if side in ("user", "item") or _is_number(column) or column.kind in ("list", "vector"):
        return ""
    value = periods.rows[column.name]
    if says(CLOCK, column.name) and periods.covered(engine, value, days=SEVERAL_DAYS, of_all=True) < _ALMOST_ALL:
        return _RARE
    seen = periods.covered(engine, value)
    return f"training holds the values of {seen:.0%} of the later rows alone: they do not recur" if seen < 0.5 else ""


def _unknown_of_negatives(engine: Engine, roles: Roles, column: ColumnProfile, side: Side, *, alone: bool) -> str:
    """Why a column of positives alone cannot be told of sampled negatives, or would tell them apart."""
    if side == "candidate":
        return "belongs to the item taken, so that it is unknown of the sampled ones"
    if side == "context" and alone and told_by_item(engine, roles, column) > _TOLD:
        return "depends on the item taken, so that it would tell it from the sampled ones"
    return ""


def _is_position(engine: Engine, roles: Roles, column: ColumnProfile) -> bool:
    if column.kind not in ("whole", "flag") or column.low < 0 or column.high > 1000:
        return False
    return says(POSITION, column.name) or counts_inside_requests(engine, roles, column)


def _cost_of_position(column: ColumnProfile, auc: float) -> str:
    return (
        f"learned in training, but the same for all when scoring (alone it has AUC {auc:.2f} here): on a log where it "
        "was known then, that cost .1 of AUC (.695, not .795); if you know it when scoring, write "
        f"{{{yaml_name(column.name)}: {{numeric: log}}}}"
    )


def _is_number(column: ColumnProfile) -> bool:
    """Whether its size matters; codes and what has few values are categories."""
    coded = column.looks_coded or is_code(column.name) or column.values <= _FEW_VALUES
    return column.kind == "number" or (column.kind == "whole" and not coded)


def _entry(column: ColumnProfile) -> tuple[str, str]:
    """A column as an entry of the configuration, and a remark."""
    name = yaml_name(column.name)
    if column.kind == "list":
        return f"{{{name}: multi_valued}}", ""
    if column.kind == "vector":
        projection = min(column.length, PROJECTION)
        return f"{{{name}: {{vector: {column.length}, projection: {projection}}}}}", ""
    if column.separator and column.values > _FEW_VALUES:
        return (
            name,
            f'text with separators: for several values write {{{name}: {{multi_valued: "{column.separator}"}}}}',
        )
    if not _is_number(column):
        is_guess = column.kind == "whole" and column.values > _FEW_VALUES and not is_code(column.name)
        remark = "taken for codes: if it counts or weighs something, {numeric: log}" if is_guess else ""
        return name, f"{column.values} values, some of them text" if column.odd else remark
    remark = f"{column.odd} of {column.filled} values are not numbers: such rows are rejected" if column.odd else ""
    skewed = column.low >= 0 and (column.mean > 1.3 * column.median or column.high > 100)
    return f"{{{name}: {{numeric: {'log' if skewed else 'standardise'}}}}}", remark
