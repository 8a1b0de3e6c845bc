"""Numbers, lists and names of columns as people read them."""

import math
from collections.abc import Sequence

from musenet.portraits.contrasts import EARLIER_EVENTS

MISSING = "–"
SPACE = "\u00a0"
MINUS = "\u2212"


def percent(value: float | None, digits: int | None = None) -> str:
    """As people read it: `31 %`, below ten with one decimal.

    >>> percent(0.312), percent(0.0612), percent(None)
    ('31\\xa0%', '6.1\\xa0%', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if digits is None:
        digits = 1 if 0 < abs(value) < 0.0995 else 0
    return signs(f"{100 * value:.{digits}f}{SPACE}%")


def number(value: float | None, digits: int = 0) -> str:
    """With thousands set apart: `1,234`."""
    return MISSING if value is None or not math.isfinite(value) else signs(f"{value:,.{digits}f}")


def signed(value: float | None, digits: int = 4) -> str:
    """With its sign: `+0.0123`."""
    return MISSING if value is None or not math.isfinite(value) else signs(f"{value:+.{digits}f}")


def signs(text: str) -> str:
    """A minus sign in place of the hyphen."""
    return text.replace("-", MINUS)


def between(low: float, high: float, digits: int = 4) -> str:
    """An interval of signed numbers: `+0.001 to +0.002`."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def listing(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def field_words(field: str) -> str:
    """A column's name as people read it: `days ahead`."""
    return "earlier events" if field == EARLIER_EVENTS else field.replace("_", " ")
