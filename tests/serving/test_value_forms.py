"""Whole columns get the very texts, numbers and places that their values get one by one."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from musenet.dataset.texts import ValueType
from musenet.serving.text_index import TextIndex
from musenet.serving.values import ValueForms

COLUMNS: list[pa.Array] = [
    pa.array([3, -4, None, 2**60]),
    pa.array([2**63 + 5, 7], pa.uint64()),
    pa.array([3.0, 0.5, None, 1e20, -0.0]),
    pa.array([True, None, False]),
    pa.array([" red ", "red", "", "nan", None, "?", "Köln"]),
    pa.array(["12", "-7", " 12 ", "0", None, "?"]),
    pa.array(["12.0", "007", "-0", "TRUE", "1e3"]),
    pa.array(["9" * 30, "1"]),
    pa.nulls(2),
    pa.array([], pa.string()),
]


@pytest.mark.parametrize("kind", ["text", "whole", "number", "truth"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.to_pylist())[:30])
def test_a_column_has_the_texts_of_its_values(kind: ValueType, column: pa.Array) -> None:
    forms = ValueForms({"c": kind}, ["?"])
    assert forms.texts_of_array("c", column).to_pylist() == forms.texts("c", column.to_pylist())
    values = forms.values_of_array("c", column)
    assert (values.to_pylist() if isinstance(values, pa.Array) else values) == forms.values("c", column.to_pylist())


TEXTS: dict[str, list[str]] = {
    "whole numbers": [str(number) for number in range(0, 60, 3)],
    "short": ["a", "b", "Köln", "12345678", "7"],
    "long": ["a", "a long text that does not fit", "7"],
}
ASKED: list[Any] = ["a", "7", "9", "12345678", "123456789", "Köln", "a long text that does not fit", "a\0", "", None]


@pytest.mark.parametrize("held", TEXTS)
def test_a_column_is_found_where_its_texts_are(held: str, tmp_path: Path) -> None:
    TextIndex.write(tmp_path, "index", pa.array(TEXTS[held]), first=3)
    index = TextIndex(tmp_path, "index")
    for asked in (ASKED, ["3", "9", "10", "1" * 18, None], ["03", "9"], [], [None]):
        expected = [TEXTS[held].index(text) + 3 if text in TEXTS[held] else -1 for text in asked]
        assert index.find(asked).tolist() == expected
        assert index.find(pa.array(asked, pa.string())).tolist() == expected
        assert index.find(pa.array([None, *asked], pa.string())[1:]).tolist() == expected
    for numbers in (pa.array([3, 9, 10, -1]), pa.array([9, 2**63 + 1], pa.uint64())):
        assert index.find(numbers).tolist() == index.find([str(one) for one in numbers.to_pylist()]).tolist()
