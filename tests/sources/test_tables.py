"""What a source of another package gives wrongly is said before it is prepared."""

from dataclasses import replace
from typing import Any

import ibis
import pyarrow as pa
import pytest

from musenet.errors import DataError
from musenet.sources.tables import Tables, check_tables

ROWS: dict[str, list[Any]] = {"_user": ["u1", "u2"], "_item": [1, 2], "_time": [0, 1], "_label": [0, 1]}


def relation(**columns: list[Any]) -> Any:
    return ibis.memtable(pa.table(columns))


TABLES = Tables(
    impressions=relation(**ROWS),
    events=relation(_user=["u1"], _time=[0], _item=[1]),
    users=relation(_user=["u1"]),
    items=None,
    user_column="user",
    item_column="item",
    protocol="every product that was shown",
)
MISTAKES: dict[str, tuple[Any, str]] = {
    "nothing": (None, "gives a NoneType: it has to give Tables"),
    "no time": (
        replace(TABLES, impressions=relation(**{name: ROWS[name] for name in ("_user", "_item", "_label")})),
        "gives impressions without _time",
    ),
    "no user of events": (replace(TABLES, events=relation(_time=[0])), "gives events without _user"),
    "text for time": (
        replace(TABLES, events=relation(_user=["u1"], _time=["2024-03-01"])),
        "gives events whose _time is of type string: give integers, microseconds",
    ),
    "numbers for texts": (
        replace(TABLES, users=relation(_user=[1])),
        "gives users whose _user is of type int64, and impressions whose _user is of type string",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_a_source_gives_wrongly_is_said_in_a_sentence(mistake: str) -> None:
    check_tables(TABLES)
    tables, said = MISTAKES[mistake]
    with pytest.raises(DataError, match=said):
        check_tables(tables)
