"""How dates stand in text, to preparation and to serving alike."""

YEAR_FIRST = r"^([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})"
YEAR_LAST = r"^([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"
WITH_YEAR_FIRST = {DAY_FIRST: r"\3-\2-\1", MONTH_FIRST: r"\3-\1-\2"}
"""What the parts of `YEAR_LAST` become, by the layout of the date; any separator and any time of day may follow it."""
