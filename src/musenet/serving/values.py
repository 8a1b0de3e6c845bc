"""Single values of a request in the form in which vocabularies and repeat keys hold them."""

import math
from collections.abc import Sequence

import pyarrow as pa

from musenet.dataset.texts import text_of

Scalar = str | int | float | bool
Value = Scalar | list[Scalar | None] | None


def texts_of(values: Sequence[Value]) -> list[str | None]:
    """`text_of_value` of each."""
    # A request has thousands of values: the two kinds that nearly all of them are of, without a call.
    return [
        value if type(value) is str else str(value) if type(value) is int else text_of_value(value) for value in values
    ]


def text_of_value(value: Value) -> str | None:
    """The one text form of a value, as `text_of` gives it: 3 and 3.0 are `3`, true is `true`; None where missing.

    A list, which only multi-valued columns hold, is the text of its values, one after the other.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, list):
        return ",".join(text_of_value(one) or "" for one in value)
    if math.isnan(value):
        return None
    text: str = text_of(pa.array([value], pa.float64()))[0].as_py()
    return text
