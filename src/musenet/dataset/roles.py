"""The names under which a log's roles stand in relations and in a dataset's keys."""

USER, ITEM, TIME, LABEL = "_user", "_item", "_time", "_label"


REQUEST, KIND, WEIGHT = "_request", "_kind", "_weight"


ROLES = (USER, ITEM, TIME, LABEL, REQUEST, KIND, WEIGHT)


MICROSECONDS = 1_000_000
