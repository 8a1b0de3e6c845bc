"""What serving looks up by text is what preparation encoded by value."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musenet.dataset.manifest import FIRST_VALUE, Field
from musenet.dataset.texts import text_of, value_type
from musenet.preparation.encoding.vocabulary import Vocabulary
from musenet.recipe.history import HistoryOptions
from musenet.serving.manifest import ExportManifest
from musenet.serving.scorer.encoder import Encoder, Tally
from musenet.serving.text_index import TextIndex
from musenet.serving.values import text_of_value

TEXTS = st.text(max_size=6)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@given(st.lists(TEXTS, unique=True), st.lists(st.none() | TEXTS))
@settings(max_examples=60, deadline=None)
def test_an_index_finds_what_a_dictionary_finds(known: list[str], asked: list[str | None]) -> None:
    # Fixed-width bytes drop zeros at the end: such a text counts as unseen, whatever the index holds.
    known = [text for text in known if not text.endswith("\0")]
    numbers = {text: place + 3 for place, text in enumerate(known)}
    with TemporaryDirectory() as folder:
        TextIndex.write(Path(folder), "words", pa.array(known, pa.string()), first=3)
        found = TextIndex(Path(folder), "words").find([*asked, *known])
    assert found.tolist() == [-1 if text is None else numbers.get(text, -1) for text in [*asked, *known]]


@given(st.lists(st.integers(-3, 40) | INTEGERS, unique=True), st.lists(TEXTS), st.lists(INTEGERS), st.booleans())
@settings(max_examples=100, deadline=None)
def test_a_whole_number_is_found_by_its_text(
    known: list[int], others: list[str], asked: list[int], mixed: bool
) -> None:
    """Whether or not there is a table; `07`, `+7` and `٧` are texts of their own."""
    texts = list(dict.fromkeys([*map(str, known), "07", "+7", "\u0667", *(text.strip("\0") for text in others)]))
    wanted = [*map(str, [*asked, *known, *range(-3, 70)]), *(["07"] if mixed else [])]
    with TemporaryDirectory() as folder:
        TextIndex.write(Path(folder), "ids", pa.array(texts), first=1)
        index = TextIndex(Path(folder), "ids")
        found, every = (index.find(asked) for asked in (wanted, texts))
    numbers = {text: place + 1 for place, text in enumerate(texts)}
    assert found.tolist() == [numbers.get(one, -1) for one in wanted]
    assert every.tolist() == list(numbers.values())


def test_whole_numbers_have_a_table_where_they_lie_close(tmp_path: Path) -> None:
    for name, numbers in {"close": range(5, 90, 3), "far": [1, 2, 10**9], "words": []}.items():
        TextIndex.write(tmp_path, name, pa.array([*map(str, numbers), "word"]))
        assert (tmp_path / f"{name}.table.npy").is_file() == (name == "close")


@given(st.lists(FLOATS | INTEGERS | st.booleans() | TEXTS))
@settings(max_examples=100, deadline=None)
def test_a_values_text_is_that_of_its_column(values: list[Any]) -> None:
    for value in values:
        assert text_of_value(value) == text_of(pa.array([value]))[0].as_py()


def manifest(field: Field, vocabulary: Vocabulary, separator: str = ",") -> ExportManifest:
    content: dict[str, Any] = dict.fromkeys(ExportManifest.model_fields)
    content |= {
        **{"fields": [field], "vocabularies": {"v": vocabulary.size}, "separators": {"c": separator}, "checksums": {}},
        **{"numeric": {}, "versions": {}, "event_columns": {}, "key_columns": {}, "predefined_columns": []},
        "scenario_names": [],
        **{"format": 1, "users": 0, "items": 0, "negative_sampling_rate": 1.0, "model": {}, "relative": False},
        **dict.fromkeys(("name", "model_version", "protocol", "timezone", "user_column", "item_column"), "x"),
        "history": HistoryOptions(),
        "log": {},
        "vectors": {},
        "drift": {},
        **{"value_types": {"c": value_type(vocabulary.values.type)}, "missing_texts": ["n/a"]},
    }
    return ExportManifest.model_validate(content)


def encoder(folder: Path, field: Field, vocabulary: Vocabulary, separator: str = ",") -> Encoder:
    (folder / "vocabularies").mkdir()
    TextIndex.write(folder / "vocabularies", "v", text_of(vocabulary.values), first=FIRST_VALUE)
    return Encoder(manifest(field, vocabulary, separator), folder)


COLUMNS: dict[str, tuple[pa.Array, list[Any]]] = {
    "text": (pa.array(["b", "a"]), ["a", None, "c", "b", "ab", "a\0"]),
    "whole numbers": (pa.array([3, 1, -2]), [1, 3, None, 4, -2]),
    "fractions": (pa.array([0.1, 3.0, 1e300]), [3.0, 0.1, 1e300, None, 0.2]),
    "truth values": (pa.array([True]), [True, False, None]),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_codes_are_those_of_preparation(kind: str, tmp_path: Path) -> None:
    values, asked = COLUMNS[kind]
    vocabulary = Vocabulary("v", values, np.ones(len(values), dtype=np.int64))
    field = Field(name="c", side="context", kind="categorical", vocabulary="v", column="c")
    tally = Tally()
    rows = [{"c": value} for value in asked]
    found = encoder(tmp_path, field, vocabulary).encode("context", rows, lambda *_: "", tally)
    expected = vocabulary.encode(pa.array(asked))
    assert found.codes[:, 0].tolist() == expected.tolist()
    assert (tally.unseen["c"], tally.missing["c"]) == ((expected == 1).sum(), (expected == 2).sum())


def test_several_values_are_cut_and_padded_as_in_preparation(tmp_path: Path) -> None:
    vocabulary = Vocabulary("v", pa.array(["a", "b", "c"]), np.ones(3, dtype=np.int64))
    field = Field(name="c", side="context", kind="multi_valued", vocabulary="v", width=3, column="c")
    texts: list[Any] = ["a;b", " b ;c;c; ", "", None, "d;a;e;b", "\ta\n"]
    lists: list[Any] = [["a", "b"], ["b", "c", "c"], [], None, ["d", "a", "e", "b"], ["a"]]
    expected = vocabulary.encode_lists(pa.array(lists, pa.list_(pa.string())), 3)
    made = encoder(tmp_path, field, vocabulary, ";")
    for asked in (texts, lists):
        found = made.encode("context", [{"c": value} for value in asked], lambda *_: "")
        np.testing.assert_array_equal(found.codes, expected)


SPELT: dict[str, tuple[pa.Array, list[Any], list[Any]]] = {
    "text": (pa.array(["1.0", "007"]), [" 1.0", 7, "", "nan", "n/a "], ["1.0", "7", None, None, None]),
    "whole": (pa.array([3, 2**53 + 1]), [3.0, " 3", "3.00", "03", str(2**53 + 1)], [3, 3, 3, None, 2**53 + 1]),
    "number": (pa.array([3.0, 0.5, 1e18]), ["3", True, ".5", "5e-1", 10**18], [3.0, 1.0, 0.5, 0.5, 1e18]),
    "truth": (pa.array([True, False]), ["True", 1, "0", 0.0, "TRUE "], [True, True, False, False, True]),
}


@pytest.mark.parametrize("kind", SPELT)
def test_a_value_is_found_however_it_is_spelt(kind: str, tmp_path: Path) -> None:
    values, asked, meant = SPELT[kind]
    vocabulary = Vocabulary("v", values, np.ones(len(values), dtype=np.int64))
    field = Field(name="c", side="context", kind="categorical", vocabulary="v", column="c")
    found = encoder(tmp_path, field, vocabulary).encode("context", [{"c": value} for value in asked], lambda *_: "")
    expected = vocabulary.encode(pa.array(meant, values.type))
    if kind == "whole":
        expected[3] = 1  # leading zeros are no number's
    assert found.codes[:, 0].tolist() == expected.tolist()
