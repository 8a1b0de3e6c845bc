"""Single values of a request in the form in which vocabularies and repeat keys hold them."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from musenet.dataset.texts import (
    LARGEST_EXACT_FLOAT,
    NO_NUMBERS,
    NO_TEXTS,
    READABLE,
    SPACES,
    ValueType,
    number_text,
    text_of,
)

Scalar = str | int | float | bool
Value = Scalar | list[Scalar | None] | None
_PLAIN_WHOLE = "^(0|-?[1-9][0-9]*)$"
"""A whole number in its one form."""


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


def numbers_of_texts(texts: pa.Array, missing: Collection[str]) -> tuple[pa.Array, pa.Array]:
    """The numbers that texts are to preparation, null where there is none; and which texts are wrong for numbers.

    Args:
        texts: as a file holds them.
        missing: as of `ValueForms`.
    """
    plain = pc.utf8_trim(texts, SPACES)
    nothing = pc.or_(
        pc.is_in(plain, pa.array([*NO_TEXTS, *missing])), pc.is_in(pc.utf8_lower(plain), pa.array(NO_NUMBERS))
    )
    wrong = pc.invert(pc.or_(nothing, pc.fill_null(pc.match_substring_regex(plain, READABLE), True)))
    digits = pc.if_else(pc.or_(nothing, wrong), pa.scalar(None, pa.string()), pc.utf8_ltrim(plain, "+"))
    numbers = digits.cast(pa.float64())
    return numbers, pc.or_(wrong, pc.fill_null(pc.is_inf(numbers), False))


@dataclass(frozen=True)
class ValueForms:
    """What the values of a log's columns are, however a request writes them: see `musenet.dataset.texts`.

    Args:
        types: of the columns, by the log's own names; what is not named is text.
        missing: further texts that mean that there is no value.
    """

    types: Mapping[str, ValueType]
    missing: Collection[str] = ()

    def texts(self, column: str, values: Sequence[Value]) -> list[str | None]:
        """Of each value of a column, the one text form; None where missing."""
        kind, nothing = self.types.get(column, "text"), {*NO_TEXTS, *self.missing}
        if kind == "text":  # a request has thousands of values: most are text, and need no call
            return [
                (None if (text := value.strip(SPACES)) in nothing else text)
                if type(value) is str
                else text_of_value(value)
                for value in values
            ]
        if kind == "whole" and set(map(type, values)) == {int}:
            return list(map(str, values))
        return [self._text(kind, value, nothing) for value in values]

    def text(self, column: str, value: Value) -> str | None:
        """`texts` of one value."""
        return self.texts(column, [value])[0]

    def values(self, column: str, values: Sequence[Value]) -> list[Value]:
        """The values themselves where they are in their form, else the text that is."""
        told = zip(values, self.texts(column, values), strict=True)
        return [value if text_of_value(value) == text else text for value, text in told]

    def are_plain(self, column: str, values: pa.Array) -> bool:
        """Whether these are whole numbers whose digits are their one text form."""
        return pa.types.is_integer(values.type) and self.types.get(column, "text") in ("text", "whole")

    def texts_of_array(self, column: str, values: pa.Array) -> pa.Array:
        """As `texts`, of an Arrow array."""
        if self.are_plain(column, values):
            return values.cast(pa.string())
        if pa.types.is_string(values.type) and (kind := self.types.get(column, "text")) in ("text", "whole"):
            texts = pc.utf8_trim(values, SPACES)
            nothing = pc.is_in(texts, pa.array([*NO_TEXTS, *self.missing]))
            texts = pc.if_else(nothing, pa.scalar(None, pa.string()), texts)
            if kind == "text" or pc.all(pc.match_substring_regex(texts, _PLAIN_WHOLE)).as_py() is not False:
                return texts
        return pa.array(self.texts(column, values.to_pylist()), pa.string())

    def values_of_array(self, column: str, values: pa.Array) -> Sequence[Value] | pa.Array:
        """As `values`, of an Arrow array; a list where some values change their type."""
        if self.are_plain(column, values):
            return values
        if pa.types.is_string(values.type):
            return self.texts_of_array(column, values)
        return self.values(column, values.to_pylist())

    def _text(self, kind: ValueType, value: Value, nothing: Collection[str]) -> str | None:
        if isinstance(value, str):
            written = value.strip(SPACES)
            return None if written in nothing else number_text(written, kind)
        if isinstance(value, list):
            return ",".join(self._text(kind, one, nothing) or "" for one in value)
        if isinstance(value, float) and kind == "whole" and value.is_integer():
            return str(int(value))
        if isinstance(value, int) and kind == "number" and abs(value) >= LARGEST_EXACT_FLOAT:
            return text_of_value(float(str(value)))
        text = text_of_value(value)
        return None if text is None else number_text(text, kind)
