"""A request's columns as the model's codes and numbers, by the definitions that prepared the training data."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from musenet.dataset.codes import encode_lists
from musenet.dataset.manifest import FIRST_VALUE, MISSING, UNSEEN, Field, FieldSide, table_rows
from musenet.dataset.numeric import FloatArray
from musenet.errors import RequestError
from musenet.serving.manifest import PROJECTIONS, ExportManifest
from musenet.serving.scorer.vectors import HOLDS_TOO_LARGE, vectors_of
from musenet.serving.text_index import TextIndex, map_column
from musenet.serving.values import Value, ValueForms, numbers_of_texts

Attributes = Mapping[str, Value]
Where = Callable[[int, str], str]
"""The name of a row's column in messages."""
Codes = NDArray[np.int64]
Told_co = TypeVar("Told_co", covariant=True)
Made = NDArray[np.int64] | NDArray[np.float32]
TOO_LARGE = "is too large a number"
FARTHEST = 1e9
"""From its mean, in deviations: where a model multiplies numbers, farther ones leave floating point."""


@dataclass(frozen=True)
class Distinct(Generic[Told_co]):
    """A column of many rows by its distinct values."""

    values: Sequence[Told_co] | pa.Array
    places: Codes
    """(rows,) where each row's value stands among them."""

    @classmethod
    def of(cls, column: pa.Array) -> "Distinct[Any]":
        """Of an Arrow column."""
        if not pa.types.is_nested(column.type):
            return cls.of_dictionary(column.dictionary_encode())
        values = column.to_pylist()
        first: dict[str, int] = {}
        places = [first.setdefault(repr(value), len(first)) for value in values]
        return cls(list(dict(zip(places, values, strict=True)).values()), np.array(places, dtype=np.int64))

    @classmethod
    def of_dictionary(cls, column: pa.DictionaryArray) -> "Distinct[Any]":
        """Of an Arrow column that holds its distinct values already."""
        values = column.dictionary
        places = column.indices.fill_null(len(values)).to_numpy(zero_copy_only=False).astype(np.int64)
        return Distinct(pa.concat_arrays([values, pa.nulls(1, values.type)]), places)


NO_VALUES: "Distinct[Value]" = Distinct(pa.nulls(1), np.zeros(0, dtype=np.int64))
"""Stands for a column that is not there."""


@dataclass
class Tally:
    """What was served through the rows of unseen and of missing values, by column."""

    unseen: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class Encoded:
    """Rows of one side."""

    codes: Codes
    """(rows, sum of widths) rows of the embedding table."""
    dense: NDArray[np.float32]
    """(rows, dense fields, then what each vector is projected to)."""


class Encoder:
    """Encodes columns by an export's vocabularies and scales.

    Args:
        manifest: of the export.
        folder: where its vocabularies lie.
    """

    def __init__(self, manifest: ExportManifest, folder: Path) -> None:
        self._manifest = manifest
        self._forms: ValueForms = manifest.forms
        sides: tuple[FieldSide, ...] = get_args(FieldSide)
        self._fields = {side: manifest.fields_of(side) for side in sides}
        self._columns = {side: _by_column(self._fields[side]) for side in sides}
        bucketed = {f.vocabulary for f in manifest.fields if f.is_bucketed}
        self._vocabularies = {
            name: TextIndex(folder / "vocabularies", name) for name in manifest.vocabularies if name not in bucketed
        }
        self._projections = {
            (f.side, f.name): map_column(folder / PROJECTIONS, f"{f.side}.{f.name}")
            for f in manifest.fields
            if f.kind == "vector"
        }
        self._scales = {f.vocabulary: manifest.numeric[f.name] for f in manifest.fields if _has_buckets(f)}

    def columns(self, side: FieldSide) -> dict[str, list[Field]]:
        """The fields of a side by the log's column that each is made of."""
        return self._columns[side]

    def encode(self, side: FieldSide, rows: Sequence[Attributes], where: Where, tally: Tally | None = None) -> Encoded:
        """The rows' columns as codes and numbers; a column that a row lacks is missing.

        Raises:
            RequestError: for text where a number is wanted, several values where there is one, or a vector of another
                length.
        """
        made: dict[str, Made] = {}
        tally = Tally() if tally is None else tally
        for name, fields in self.columns(side).items():
            values = [row.get(name) for row in rows]

            def at(place: int, name: str = name) -> str:
                return where(place, name)

            made |= self._made(name, fields, values, at, tally)
        return self._together(side, made, len(rows))

    def encode_columns(
        self, side: FieldSide, columns: Mapping[str, Distinct[Value]], rows: int, where: Where
    ) -> Encoded:
        """As `encode`, of so many rows that are given column by column: each distinct value is looked at once.

        Raises:
            RequestError: as `encode`; `where` is told the first row of the value.
        """
        made: dict[str, Made] = {}
        tally = Tally()
        for name, fields in self.columns(side).items():
            column = columns.get(name, NO_VALUES)
            places = np.zeros(rows, dtype=np.int64) if column is NO_VALUES else column.places

            def at(place: int, name: str = name, places: Codes = places) -> str:
                return where(int((places == place).argmax()), name)

            found = self._made(name, fields, self._numbers_of_texts(fields, column.values, at), at, tally)
            made |= {one: values[places] for one, values in found.items()}
        return self._together(side, made, rows)

    def _numbers_of_texts(
        self, fields: Sequence[Field], values: Sequence[Value] | pa.Array, at: Callable[[int], str]
    ) -> Sequence[Value] | pa.Array:
        """Numbers that a file holds as text, as numbers."""
        if not (_takes_numbers(fields) and isinstance(values, pa.Array) and pa.types.is_string(values.type)):
            return values
        found, wrong = numbers_of_texts(values, self._forms.missing)
        if (place := wrong.index(True).as_py()) >= 0:
            raise RequestError(at(place), f"holds '{values[place].as_py()[:40]}', which is no number")
        return found

    def _made(
        self,
        name: str,
        fields: Sequence[Field],
        values: Sequence[Value] | pa.Array,
        at: Callable[[int], str],
        tally: Tally,
    ) -> dict[str, Made]:
        """What a column becomes, by field."""
        if fields[0].kind == "vector":
            return self._vector(name, fields, vectors_of(values, fields[0].width, at), at, tally)
        if _takes_numbers(fields):
            return self._numeric(name, fields, numbers(values, at), at, tally)
        return {one.name: self._categories(name, one, values, at, tally) for one in fields}

    def _together(self, side: FieldSide, made: Mapping[str, Made], rows: int) -> Encoded:
        """The fields of a side, each beside the other."""
        every = self._fields[side]
        coded = [made[one.name].reshape(rows, one.width) for one in every if one.has_codes]
        dense = [made[one.name][:, None] for one in every if one.kind == "dense"]
        dense += [made[one.name] for one in every if one.kind == "vector"]
        return Encoded(
            codes=np.concatenate(coded, axis=1) if coded else np.zeros((rows, 0), dtype=np.int64),
            dense=np.concatenate(dense, axis=1, dtype=np.float32) if dense else np.zeros((rows, 0), dtype=np.float32),
        )

    def _categories(
        self, name: str, one: Field, values: Sequence[Value] | pa.Array, at: Callable[[int], str], tally: Tally
    ) -> Codes:
        """(rows,) or (rows, width) rows of the embedding table."""
        if one.is_position:  # learned in training, the most frequent one when scoring
            return self._embedded(one, np.full(len(values), FIRST_VALUE))
        index = self._vocabularies[one.vocabulary_name]
        if one.kind == "multi_valued":
            values = values.to_pylist() if isinstance(values, pa.Array) else values
            lists = pa.array([self._parts(name, value) for value in values], pa.list_(pa.string()))
            codes = encode_lists(lists, one.width, lambda column: _codes(index, column.to_pylist()))
            first = codes[:, 0]
        else:
            for place, value in enumerate(() if isinstance(values, pa.Array) else values):
                if type(value) is list:
                    raise RequestError(at(place), "takes one value, not a list")
            first = codes = _codes(index, self._texts(name, values))
        _count(tally.missing, name, int((first == MISSING).sum()))
        _count(tally.unseen, name, int((codes == UNSEEN).sum()))
        return self._embedded(one, codes)

    def _texts(self, name: str, values: Sequence[Value] | pa.Array) -> Sequence[str | None] | pa.Array:
        """The one text form of each value, or whole numbers, which `TextIndex` takes as they are."""
        if not isinstance(values, pa.Array):
            return self._forms.texts(name, values)
        return values if self._forms.are_plain(name, values) else self._forms.texts_of_array(name, values)

    def _parts(self, name: str, value: Value) -> list[str | None]:
        """The values of a multi-valued column."""
        if value is None:
            return []
        if isinstance(value, str):
            value = list(value.split(self._manifest.separators[name]))
        parts = self._forms.texts(name, value if isinstance(value, list) else [value])
        return [part for part in parts if part is not None]

    def _numeric(
        self, name: str, fields: Sequence[Field], raw: FloatArray, at: Callable[[int], str], tally: Tally
    ) -> dict[str, Made]:
        """What a number becomes, by field."""
        _count(tally.missing, name, int((~np.isfinite(raw)).sum()))
        made: dict[str, Made] = {}
        for one in fields:
            if one.is_bucketed:
                made[one.name] = self._embedded(one, self._scales[one.vocabulary].bucket(raw))
            elif one.name in self._manifest.numeric:
                made[one.name] = self._manifest.numeric[one.name].dense(raw)
            else:
                base, _, part = one.name.rpartition(".")
                scale = self._manifest.numeric[base]
                made[one.name] = scale.missing(raw).astype(np.float32) if part == "missing" else scale.dense(raw)
            if (far := np.abs(made[one.name]) > FARTHEST).any() and one.kind == "dense":
                raise RequestError(at(int(far.argmax())), TOO_LARGE)
        return made

    def _vector(
        self, name: str, fields: Sequence[Field], raw: NDArray[np.float32], at: Callable[[int], str], tally: Tally
    ) -> dict[str, Made]:
        """What a vector is projected to and, if training lacked some, whether it is missing."""
        own, *flags = fields
        scale = self._manifest.vectors[own.name]
        missing, scaled = scale.missing(raw), scale.standardised(raw)
        _count(tally.missing, name, int(missing.sum()))
        if (far := (np.abs(scaled) > FARTHEST).any(axis=1)).any():
            raise RequestError(at(int(far.argmax())), HOLDS_TOO_LARGE)
        projected: NDArray[np.float32] = scaled @ self._projections[own.side, own.name]
        made: dict[str, Made] = {own.name: projected}
        return made | {one.name: missing.astype(np.float32) for one in flags}

    def _embedded(self, one: Field, codes: NDArray[np.integer]) -> Codes:
        """Rows of the embedding table of a field's codes; padding stays 0."""
        return table_rows(codes, self._manifest.embedding_offset[one.vocabulary_name])


def numbers(values: Sequence[Value] | pa.Array, at: Callable[[int], str]) -> FloatArray:
    """(rows) NaN where missing.

    Raises:
        RequestError: for text, a list, or a whole number beyond floating point.
    """
    if isinstance(values, pa.Array):
        if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
            found: FloatArray = values.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            return found
        values = values.to_pylist()
    for place, value in enumerate(values):
        if isinstance(value, str | list):
            raise RequestError(at(place), f"takes a number, not {'text' if isinstance(value, str) else 'a list'}")
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        place = next(i for i, value in enumerate(values) if isinstance(value, int) and abs(value) >= 2**1023)
        raise RequestError(at(place), TOO_LARGE) from None


def _codes(index: TextIndex, texts: Sequence[str | None] | pa.Array) -> NDArray[np.int32]:
    """(rows,) codes as `Vocabulary.encode` gives them: 2 where there is nothing, 1 where the value has none."""
    found = index.find(texts)
    codes = np.where(found < 0, UNSEEN, found).astype(np.int32)
    if isinstance(texts, pa.Array):
        codes[texts.is_null().to_numpy(zero_copy_only=False)] = MISSING
    elif None in texts:
        codes[[text is None for text in texts]] = MISSING
    return codes


def _by_column(fields: Iterable[Field]) -> dict[str, list[Field]]:
    found: dict[str, list[Field]] = {}
    for one in fields:
        found.setdefault(one.column or one.name, []).append(one)
    return found


def _takes_numbers(fields: Iterable[Field]) -> bool:
    return any(one.kind == "dense" or one.is_bucketed for one in fields)


def _has_buckets(one: Field) -> bool:
    return one.is_bucketed and one.side != "history"


def _count(counter: Counter[str], name: str, count: int) -> None:
    if count:
        counter[name] += count
