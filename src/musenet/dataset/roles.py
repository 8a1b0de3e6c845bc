"""The names of a log's tables, and those under which its roles stand in relations and in a dataset's keys."""

from typing import Literal

LogTable = Literal["impressions", "events", "users", "items"]
"""What a log consists of."""

USER, ITEM, TIME, LABEL = "_user", "_item", "_time", "_label"

REQUEST, KIND, WEIGHT = "_request", "_kind", "_weight"

ROLES = (USER, ITEM, TIME, LABEL, REQUEST, KIND, WEIGHT)

MICROSECONDS = 1_000_000
