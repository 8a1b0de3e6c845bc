"""The one text form of a value, whatever wrote it down.

A column holds whole numbers, numbers, truth values or text. What it holds is decided once for all tables that share it,
and from then on says what a value is: of a column of numbers `12`, `12.0` and the number 12 are one value, of a column
of text they are two; `007` is text. Blanks around text and empty text mean nothing, as does `nan`.
"""

import re
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

ValueType = Literal["whole", "number", "truth", "text"]
SPACES = " \t\n\r\v\f"
"""What is left out around text."""
NO_TEXTS = ("", "nan", "NaN")
"""Texts that mean that there is no value."""
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
"""How writers call the folder of the rows that lack the column's value."""
NO_NUMBERS = ("", "na", "n/a", "nan", "null", "none")
"""Texts, in lower case, that mean that there is no number."""
READABLE = r"^[+-]?([0-9]+[.]?[0-9]*|[.][0-9]+)([eE][+-]?[0-9]+)?$"
"""A number however it is written; `NUMBER` is one that is nothing else, such as a code."""
WHOLE = r"^-?(0|[1-9][0-9]*)([.]0*)?$"
"""A whole number as text; leading zeros, which numbers do not keep, make it none."""
NUMBER = r"^-?((0|[1-9][0-9]*)([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?$"
TRUTHS = ("true", "false")
"""In lower case."""
DATE_YEAR_FIRST = r"^([0-9]{4})[/.]([0-9]{1,2})[/.]([0-9]{1,2})"
DATE_YEAR_LAST = r"^([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y", "%m/%d/%Y"
WITH_YEAR_FIRST = {DAY_FIRST: r"\3-\2-\1", MONTH_FIRST: r"\3-\1-\2"}
"""What the parts of `DATE_YEAR_LAST` become, by the layout of the date; any time of day may follow it."""
LONGEST_ID = 256
"""Characters; requests with longer ids are refused, so rows of a log are, too."""
LARGEST_EXACT_FLOAT = 2**53
_EXACT_DIGITS = 16
"""Whole numbers of fewer digits are exact as floats."""
_WHOLE, _NUMBER = re.compile(WHOLE), re.compile(NUMBER)


def text_of(values: pa.Array) -> pa.Array:
    """The one text form of plain values: 3 and 3.0 are `3`, true is `true`."""
    if pa.types.is_floating(values.type):
        whole = pc.equal(values, pc.trunc(values))
        small = pc.less(pc.abs(values), float(LARGEST_EXACT_FLOAT))
        integral = pc.fill_null(pc.and_(whole, small), False)
        integers = pc.if_else(integral, values, 0.0).cast(pa.int64()).cast(pa.string())
        return pc.if_else(integral, integers, values.cast(pa.string()))
    return values.cast(pa.string())


def value_type(kind: pa.DataType) -> ValueType:
    """What a column of this type holds; of lists, what these do."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return value_type(kind.value_type)
    if pa.types.is_integer(kind):
        return "whole"
    if pa.types.is_floating(kind):
        return "number"
    return "truth" if pa.types.is_boolean(kind) else "text"


def kind_text(text: str) -> str:
    """The form of a kind of events: a whole number, which names a kind just as well, without its fraction.

    >>> [kind_text(text) for text in ("1.0", "1", " click", "007", "1.5")]
    ['1', '1', 'click', '007', '1.5']
    """
    plain = text.strip(SPACES)
    return plain.partition(".")[0] if _WHOLE.match(plain) else plain


def number_text(text: str, kind: ValueType) -> str:
    """The form that text has in a column of numbers or truth values; text that is neither stays as it is.

    >>> [number_text(text, "whole") for text in ("12.0", "012", "-0", "TRUE")]
    ['12', '012', '0', '1']
    """
    lowered, whole = text.lower(), _WHOLE.match(text)
    digits = None if whole is None else whole[1] if whole[1] == "0" or text[0] != "-" else f"-{whole[1]}"
    if kind == "truth":
        return lowered if lowered in TRUTHS else {"0": "false", "1": "true"}.get(digits or text, text)
    if digits is not None and (kind == "whole" or len(digits) < _EXACT_DIGITS):
        return digits
    if whole is not None or _NUMBER.match(text):
        written: str = text_of(pa.array([float(text)]))[0].as_py()
        return written
    return {"false": "0", "true": "1"}.get(lowered, text)
